import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { positionSince } from '../../../services/core/log/journal-since.ts';
import { Predecessors } from '../../../services/stratum/predecessors.ts';
import { sampleJob, sampleSession, sampleShare } from '../../contracts/samples.ts';
import { tempDir } from '../../helpers/leash.ts';
import { packTopic } from '../core/log/packing.ts';

const NOW_MS = 1_700_000_600_000;
const MINUTE_US = 60_000_000;

let dir: { path: string; remove(): void };
beforeEach(() => {
  dir = tempDir('predecessors');
});
afterEach(() => dir.remove());

const us = (minutesAgo: number): number => NOW_MS * 1000 - minutesAgo * MINUTE_US;

function reader(running: readonly string[] = []): { found: Predecessors; jobs: string[]; shares: string[] } {
  const jobs: string[] = [];
  const shares: string[] = [];
  const found = new Predecessors({
    dir: dir.path,
    origin: 'test',
    nowMs: NOW_MS,
    running,
    facts: {
      job: (job) => void jobs.push(job.id),
      acceptedShare: (key, [lowest]) => void shares.push(`${key} ${lowest}`),
    },
  });
  return { found, jobs, shares };
}

test('jobs of the last ten minutes come in order of time, whichever process made them', async () => {
  const a = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  a.append([20, 9, 3].map((ago, i) => ({ topic: 'job', event: { ...sampleJob(i), time_us: us(ago) } }) as const));
  const b = openJournalWriter({ dir: dir.path, instance: 'pool.2' });
  b.append([{ topic: 'job', event: { ...sampleJob(7), time_us: us(5) } }]);
  b.append([{ topic: 'job', event: { ...sampleJob(8), origin: 'another', time_us: us(4) } }]);
  const { found, jobs } = reader();
  await found.catchUp();
  expect(jobs.map((id) => Number.parseInt(id, 16))).toEqual([1, 7, 2]);
  for (const each of [a, b, found]) await each.close();
});

test('accepted shares are found, also those that come after the first look; refused and back-filled ones are not', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  const share = (n: number, more: object) =>
    writer.append([{ topic: 'share', event: sampleShare(n, { time_us: us(1), ...more }) }]);
  share(1, { job_key: 'test/a' });
  share(2, { job_key: 'test/a', accepted: false, errn: 4 });
  share(3, { job_key: 'test/a', source: 'backfill' });
  share(4, { job_key: 'test/a', time_us: us(11) });
  const { found, shares } = reader(['pool.1']);
  await found.catchUp();
  expect(shares).toEqual(['test/a 1']);
  share(5, { job_key: 'test/b' });
  await found.catchUp();
  await found.catchUp();
  expect(shares).toEqual(['test/a 1', 'test/b 5']);
  writer.close();
  await found.close();
});

test('a session of a process that runs is over when its line is; that of a dead process is over', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  const session = (kind: string, id: string, more: object = {}) =>
    writer.append([
      {
        topic: 'session',
        event: {
          ...sampleSession(1),
          kind,
          session_id: id,
          user: 'alice',
          enonce1: `0000000${id}`,
          diff: 3,
          time_us: us(1),
          ...more,
        },
      },
    ]);
  session('authorized', '1');
  session('authorized', '2');
  session('disconnected', '2');
  session('subscribed', '3', { user: '' });
  const { found } = reader(['pool.1']);
  await found.catchUp();
  expect(found.session('1')).toMatchObject({ user: 'alice', diff: 3, ended: false });
  expect(found.session('2')).toMatchObject({ ended: true });
  expect(found.session('3')).toBeUndefined();
  session('disconnected', '1');
  await found.catchUp();
  expect(found.session('1')).toMatchObject({ ended: true });
  const dead = reader().found;
  await dead.catchUp();
  expect(dead.enonces()).toHaveLength(2);
  expect(dead.session('1')!.ended).toBe(true);
  writer.close();
  await found.close();
  await dead.close();
});

test('of the sessions that had an extranonce1 one after the other only the newest is known, in whatever order they are read', async () => {
  const a = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  const b = openJournalWriter({ dir: dir.path, instance: 'pool.2' });
  const session = (writer: typeof a, kind: string, id: string, minutesAgo: number, enonce1 = '00000001') =>
    writer.append([
      {
        topic: 'session',
        event: { ...sampleSession(1), kind, session_id: id, user: 'alice', enonce1, time_us: us(minutesAgo) },
      },
    ]);
  session(b, 'authorized', 'a', 9);
  session(a, 'authorized', 'b', 7);
  session(b, 'disconnected', 'a', 8);
  session(a, 'disconnected', 'b', 6);
  session(b, 'authorized', 'c', 5);
  session(b, 'authorized', 'd', 4, '00000002');
  const { found } = reader();
  await found.catchUp();
  expect(['a', 'b', 'c', 'd'].filter((id) => found.session(id) !== undefined)).toEqual(['c', 'd']);
  for (const each of [a, b, found]) await each.close();
});

test('damaged bytes between accepted shares cost those that they held, and no others', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  for (let n = 1; n <= 9; n++) {
    writer.append([{ topic: 'share', event: sampleShare(n, { time_us: us(1), job_key: 'test/a' }) }]);
  }
  writer.close();
  const folder = join(dir.path, 'pool.1', 'share');
  const name = readdirSync(folder).find((each) => each.endsWith('.avro'))!;
  const bytes = readFileSync(join(folder, name));
  bytes.fill(0xff, Math.floor(bytes.length * 0.7), Math.floor(bytes.length * 0.7) + 40);
  writeFileSync(join(folder, name), bytes);
  const { found, shares } = reader();
  await found.catchUp();
  expect(shares.length).toBeGreaterThanOrEqual(7);
  expect(shares).toContain('test/a 1');
  expect(shares).toContain('test/a 9');
  await found.close();
});

test('what is packed before and between two looks is found as what is not, and is not held open', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1', segmentBytes: 12_000 });
  const write = (from: number, to: number): void => {
    for (let n = from; n < to; n++) {
      writer.append([{ topic: 'share', event: sampleShare(n, { time_us: us(1), job_key: 'test/a' }) }]);
    }
  };
  const expected = (to: number): string[] => Array.from({ length: to }, (_, n) => `test/a ${n}`);
  write(0, 100);
  expect(await packTopic(dir.path, 'pool.1')).toBeGreaterThan(1);
  const { found, shares } = reader(['pool.1']);
  await found.catchUp();
  expect(shares).toEqual(expected(100));
  write(100, 200);
  expect(await packTopic(dir.path, 'pool.1')).toBeGreaterThan(1);
  write(200, 300);
  await found.catchUp();
  expect(shares).toEqual(expected(300));
  const open = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  // The writer's own two.
  expect(open.filter((path) => path.includes(join(dir.path, 'pool.1', 'share')))).toHaveLength(2);
  await found.close();
  writer.close();
});

test('the place of an instant is found in a journal of many segments, and nothing before it is read but a record or two', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1', segmentBytes: 20_000 });
  const MINUTES = 2_000;
  for (let ago = MINUTES; ago > 0; ago--) {
    writer.append([{ topic: 'share', event: sampleShare(ago, { time_us: us(ago), job_key: `test/${ago}` }) }]);
  }
  writer.close();
  const read = (sinceMinutes: number) => positionSince(dir.path, 'pool.1', 'share', us(sinceMinutes));
  const sequence = (position: string | null): number => (position === null ? -1 : Number(position.split(':')[1]));
  // Record n is of minute MINUTES - n.
  for (const ago of [1, 10, 400, 1_999]) {
    const at = sequence(read(ago));
    expect(at).toBeLessThanOrEqual(MINUTES - ago);
    expect(at).toBeGreaterThanOrEqual(MINUTES - ago - 1);
  }
  expect(read(5_000)).toBeNull();
  expect(positionSince(join(dir.path, 'none'), 'pool.1', 'share', 0)).toBeNull();
  const { found, shares } = reader();
  await found.catchUp();
  expect(shares).toHaveLength(10);
  await found.close();
});

test('the lowest difficulty of a session is known beside its last', async () => {
  const writer = openJournalWriter({ dir: dir.path, instance: 'pool.1' });
  for (const [i, diff] of [0, 40, 8, 100].entries()) {
    const event = { ...sampleSession(1), kind: 'difficulty', session_id: 'a', user: 'alice', enonce1: '01', diff };
    writer.append([{ topic: 'session', event: { ...event, time_us: us(5 - i) } }]);
  }
  const { found } = reader();
  await found.catchUp();
  expect(found.session('a')).toMatchObject({ diff: 100, leastDiff: 8 });
  writer.close();
  await found.close();
});
