import { expect, test } from 'vitest';
import { currentSchema, decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import { MonthHours, monthOf } from '../../../services/consumers/replay-months.ts';
import { ShareFile } from '../../../services/consumers/share-file.ts';
import { SYNC_BYTES } from '../../../services/core/log/container.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';
import { shareOf } from './world.ts';

const HOUR_S = 3600;
const month = monthOf(Date.UTC(2026, 9, 17, 5));

test('the month of an instant is that of UTC', () => {
  expect(month).toEqual({ name: '2026-10', partition: 202610, fromS: Date.UTC(2026, 9, 1) / 1000 });
  expect(monthOf(Date.UTC(2026, 9, 1)).name).toBe('2026-10');
  expect(monthOf(Date.UTC(2026, 9, 1) - 1).name).toBe('2026-09');
});

test('hours of the months and the few before them are taken, whenever their shares were received', () => {
  const hours = new MonthHours(month);
  for (const hour of [0, 1, 5000, -1, -3]) {
    expect(hours.takes(month.fromS + hour * HOUR_S, (month.fromS - 86_400) * 1e6)).toBe(true);
  }
  expect(hours.takeFound().size).toBe(0);
});

test('an older hour is passed over until a share of it was received within the months, and is taken from then on', () => {
  const hours = new MonthHours(month);
  const old = month.fromS - 4 * HOUR_S;
  expect(hours.takes(old, month.fromS * 1e6 - 1)).toBe(false);
  expect(hours.takeFound().size).toBe(0);
  expect(hours.takes(old, month.fromS * 1e6)).toBe(false);
  expect([...hours.takeFound()]).toEqual([old]);
  expect(hours.takes(old, 0)).toBe(true);
  expect(hours.takes(old - HOUR_S, 0)).toBe(false);
  expect(hours.takes(old, month.fromS * 1e6)).toBe(true);
  expect(hours.takeFound().size).toBe(0);
});

test('a file of shares from a month on is that of these shares alone, and poison among the others is named all the same', () => {
  const random = randomFrom(newSeed());
  const from = monthOf(Date.UTC(2025, 9, 9));
  const shares = Array.from({ length: 300 }, (_, n) => {
    const timeUs = (from.fromS + (random(400) - 200) * HOUR_S) * 1e6;
    return { ...shareOf(random, n), time_us: timeUs, ntime: Math.floor(timeUs / 1e6).toString(16) };
  });
  const hours = new MonthHours(from);
  const some = new ShareFile(shares.length, hours.takes);
  const alone = new ShareFile(shares.length);
  const { fingerprint } = currentSchema('share');
  const add = (file: ShareFile, share: (typeof shares)[number]): string | null => {
    const body = encodeEvent('share', share);
    // Also as one that has to be decoded.
    return file.addPlain(fingerprint, body) ? null : file.add(decoderFor('share')(body));
  };
  for (const share of shares) {
    expect(add(some, share)).toBeNull();
    if (share.time_us >= (from.fromS - 3 * HOUR_S) * 1e6) expect(add(alone, share)).toBeNull();
  }
  expect(add(some, { ...shares[0]!, time_us: 0, ntime: '00000000', diff: Number.NaN })).toContain('diff');
  expect(some.count).toBeGreaterThan(50);
  expect(some.count).toBeLessThan(250);
  expect(some.minutes()).toEqual(alone.minutes());
  expect(some.buckets()).toEqual(alone.buckets());
  const bytesOf = (file: ShareFile): string => {
    const bytes = file.finish();
    // The sync marker is each file's own.
    return bytes.toString('latin1').replaceAll(bytes.toString('latin1', bytes.length - SYNC_BYTES), '');
  };
  expect(bytesOf(some)).toBe(bytesOf(alone));
});
