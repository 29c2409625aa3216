import { expect, test } from 'vitest';
import { sessionPipeline } from '../../../pipelines/sessions/sessions.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Events } from '../../../schemas/events.ts';
import { poolStatus, statusEvent } from '../../../services/ingestor/ckpool-log.ts';

const decode = decoderFor('session');
const place = { instance: 'ingest-ckpool', run: 'r', sequence: 1 };
const event = (source: 'log' | 'status', says: object = {}): Events['session'] =>
  decode(
    encodeEvent(
      'session',
      statusEvent({ origin: 'ckpool', instance: 'ingest-ckpool' }, 1_795_328_257_000_000, {
        ...poolStatus(source),
        ...says,
      }),
    ),
  );

test('what CKPool says of itself is a row of its own table, with nulls where it says nothing', () => {
  const said = event('log', { hashrate_1m: '21.4M', users: 2, accepted_count: 0 });
  expect(sessionPipeline.wrong(said)).toBeNull();
  expect(sessionPipeline.tableOf!(said)).toBe('pool_status_raw');
  expect(sessionPipeline.row(said, place)).toMatchObject({
    origin: 'ckpool',
    scope: 'pool',
    time: '2026-11-22 06:17:37.000000',
    hashrate_1m_hps: 21_400_000,
    hashrate_5m_hps: null,
    users: 2,
    workers: null,
    accepted_count: 0,
    last_share_time: null,
  });
});

test('of a line and a status file of the same time the line wins, in whatever order and journal they come', () => {
  const rank = (source: 'log' | 'status', at = place): bigint =>
    BigInt(sessionPipeline.row(event(source), at).rank as string);
  expect(rank('log') > rank('status')).toBe(true);
  expect(rank('log')).toBe(rank('log', { instance: 'another', run: 'x', sequence: 9 }));
});

test('other sessions stay what they were', () => {
  const session = decode(encodeEvent('session', { kind: 'started', origin: 'a', instance: 'b', time_us: 1 }));
  expect(sessionPipeline.tableOf!(session)).toBe('sessions_raw');
  expect(sessionPipeline.row(session, place)).not.toHaveProperty('scope');
});

test.each([
  ['a scope that is none', { scope: 'galaxy' }],
  ['a time before 1970', { last_share_us: -5 }],
])('%s is poison', (_, says) => {
  expect(sessionPipeline.wrong(event('log', says))).not.toBeNull();
});

test('an event without a record is poison', () => {
  expect(sessionPipeline.wrong({ ...event('log'), pool_status: [] })).not.toBeNull();
});
