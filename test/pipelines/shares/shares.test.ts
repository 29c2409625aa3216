import { expect, test } from 'vitest';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Inputs, ShareEvent } from '../../../schemas/events.ts';
import { shareIdentity } from '../../../schemas/identity.ts';
import { shareOf } from '../../services/consumers/world.ts';
import { randomFrom } from '../blocks.ts';

const PLACE = { instance: 'ckpool', run: '0', sequence: 0 };

function share(input: Partial<Inputs['share']> = {}): ShareEvent {
  const whole = { ...shareOf(randomFrom(7), 0), accepted: true, errn: 0, reason: '', diff: 1, ...input };
  return decoderFor('share')(encodeEvent('share', whole));
}

function rank(event: ShareEvent): bigint {
  return BigInt(sharePipeline.row(event, PLACE).rank as string);
}

test('an accepted share is a row of its identity, in the hour of its ntime', () => {
  const event = share({ ntime: '68e7a57f', diff: 0.1, time_us: 1_760_011_647_000_001 });
  expect(sharePipeline.row(event, PLACE)).toMatchObject({
    identity: event.hash,
    bucket: '2025-10-09 12:00:00',
    time: '2025-10-09 12:07:27.000001',
    diff: '0.100000000000000006',
    accepted: true,
  });
});

test('a refused share is in the hour of its receipt, whatever ntime it sent', () => {
  const event = share({ accepted: false, errn: 3, ntime: 'ffffffff', time_us: 1_760_011_647_000_001 });
  expect(sharePipeline.wrong(event)).toBeNull();
  expect(sharePipeline.row(event, PLACE)).toMatchObject({
    identity: shareIdentity(event),
    bucket: '2025-10-09 12:00:00',
  });
  expect(sharePipeline.wrong(share({ accepted: false, errn: -1, ntime: 'what is this', hash: '' }))).toBeNull();
  // Minutes of the roll-up are 32-bit DateTime: a receipt after February 2106 has none.
  expect(sharePipeline.wrong(share({ time_us: 2 ** 32 * 1e6 - 1 }))).toBeNull();
  expect(sharePipeline.wrong(share({ time_us: 2 ** 32 * 1e6 }))).toMatch(/seconds of time_us/);
});

test('live wins over back-fill, then the earlier, then one of two by content alone', () => {
  const live = share();
  expect(rank(live)).toBeGreaterThan(rank(share({ source: 'backfill', time_us: live.time_us - 1e9 })));
  expect(rank(live)).toBeGreaterThan(rank(share({ time_us: live.time_us + 1 })));
  expect(rank(share({ time_ns: 1 }))).toBeGreaterThan(rank(share({ time_ns: 2 })));
  expect(rank(share({ agent: 'a' }))).not.toBe(rank(share({ agent: 'b' })));
  expect(rank(share())).toBe(rank(share()));
  // A copy that does not know its height never hides one that does.
  for (let i = 0; i < 20; i++) {
    expect(rank(share({ agent: `${i}` }))).toBeGreaterThan(rank(share({ agent: `${i}`, height: 0 })));
  }
  expect(rank(live)).toBeLessThan(1n << 128n);
});

test.each<[string, Partial<Inputs['share']>]>([
  ['diff: expected a number from 0 to below 1e20, got NaN', { diff: Number.NaN }],
  ['diff: expected a number from 0 to below 1e20, got 100000000000000000000', { diff: 1e20 }],
  ['diff: expected a number from 0 to below 1e20, got -1', { diff: -1 }],
  ['sdiff: expected a finite number, got Infinity', { sdiff: Number.POSITIVE_INFINITY }],
  ['hash: expected 64 lower-case hex digits, got ""', { hash: '' }],
  ['ntime: expected 8 hex digits, got "68e7a57"', { ntime: '68e7a57' }],
  ['height: expected 0 to 4294967295, got -1', { height: -1 }],
  ['origin: expected a text, got ""', { origin: '' }],
  ['time_ns: expected 0 to 999, got 1000', { time_ns: 1000 }],
])('poison: %s', (reason, change) => {
  expect(sharePipeline.wrong(share(change))).toBe(reason);
});
