/** The packer under what happens to it: kill -9 at every step, a disk that refuses, a writer and readers in other processes, a second packer. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decoderFor } from '../../../../schemas/codec.ts';
import type { Damage, Position } from '../../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../../services/core/log/journal.ts';
import { listSegments } from '../../../../services/core/log/journal-files.ts';
import { type Packer, type PackerOptions, startPacker } from '../../../../services/core/log/packer.ts';
import { Retention } from '../../../../services/core/log/retention.ts';
import { sampleContract, sampleJob, sampleSession, sampleShare, shareEntries } from '../../../contracts/samples.ts';
import { crowding, until } from '../../../helpers/leash.ts';
import { havePart } from '../../../helpers/require.ts';
import { tempJournal } from './journal-files.ts';
import { endings } from './packing.ts';

const CHILD = join(import.meta.dirname, 'pack-child.ts');
const WRITER = join(import.meta.dirname, 'writer-child.ts');
const decodeShare = decoderFor('share');

let dir: string;
let remove: () => void;
beforeEach(() => {
  ({ dir, remove } = tempJournal());
});
afterEach(() => remove());

/** All records of a topic of `a` as one line each, and the damage. */
async function everything(journal = dir): Promise<{ lines: string[]; numbers: number[]; damage: Damage[] }> {
  const log = openJournalLog({ dir: journal });
  const lines: string[] = [];
  const numbers: number[] = [];
  const damage: Damage[] = [];
  for (let from: Position | null = null; ; ) {
    const batch = await log.read('share', 'a', from, { maxRecords: 1000, waitMs: 0 });
    damage.push(...batch.damage);
    for (const { position, body } of batch.records) {
      lines.push(`${position} ${body.toString('hex')}`);
      numbers.push(Number.parseInt(decodeShare(body).hash, 16));
    }
    if (batch.records.length === 0 && batch.damage.length === 0) break;
    from = batch.next;
  }
  await log.close();
  return { lines, numbers, damage };
}

/** 60 shares in two segments, or more. */
function writeJournal(segmentBytes = 13_000): void {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes });
  for (let n = 0; n < 60; n += 3) writer.append(shareEntries(n, 3));
  writer.close();
}

function child(journal: string, at: number, code?: string): { calls: number; killed: boolean; error: string | null } {
  const args = [CHILD, journal, 'a', 'share', String(at), ...(code === undefined ? [] : [code])];
  const { stdout, stderr, signal } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (signal === null && !stdout.startsWith('calls')) throw new Error(stderr);
  return {
    calls: Number(/^calls (\d+)$/m.exec(stdout)?.[1] ?? -1),
    killed: signal === 'SIGKILL',
    error: /^error (.*)$/m.exec(stdout)?.[1] ?? null,
  };
}

const started: Packer[] = [];
const lines: string[] = [];
function packer(more: Partial<PackerOptions> = {}): Packer {
  const one = startPacker({
    journalDir: dir,
    lockFile: join(dir, 'packer.lock'),
    log: (line) => lines.push(line),
    scanMs: 20,
    duty: 1,
    ...more,
  });
  started.push(one);
  return one;
}
beforeEach(() => void lines.splice(0));
afterEach(async () => {
  for (const one of started.splice(0)) await one.stop();
});

/** A small file system of one's own needs mounting, as root or in a user's name space. */
const mount = await havePart('mount', () => {
  const run = ['sh -c', 'unshare -rm sh -c'].find(
    (shellCommand) =>
      spawnSync('sh', [
        '-c',
        `d=$(mktemp -d) && ${shellCommand} "mount -t tmpfs -o size=64k none $d && umount $d"; s=$?; rmdir $d; exit $s`,
      ]).status === 0,
  );
  return run === undefined ? { missing: 'no file system can be mounted here' } : { run };
});

describe('killed', () => {
  test('before any call that changes a file: all is read once, before and after a writer has opened, and the next packer finishes', async () => {
    writeJournal();
    const before = await everything();
    expect(before.numbers).toHaveLength(60);
    const trial = tempJournal();
    try {
      const fresh = (): void => {
        rmSync(join(trial.dir, 'a'), { recursive: true, force: true });
        cpSync(join(dir, 'a'), join(trial.dir, 'a'), { recursive: true, preserveTimestamps: true });
      };
      fresh();
      const { calls } = child(trial.dir, 0);
      expect(calls).toBeGreaterThan(15);
      expect(await everything(trial.dir)).toEqual(before);
      for (let at = 1; at <= calls; at++) {
        fresh();
        expect(child(trial.dir, at).killed).toBe(true);
        expect(await everything(trial.dir)).toEqual(before);
        openJournalWriter({ dir: trial.dir, instance: 'a' }).close();
        expect(await everything(trial.dir)).toEqual(before);
        const next = packer({ journalDir: trial.dir, lockFile: join(trial.dir, 'packer.lock') });
        await until('packed to the end', () => {
          const { idx, packing } = endings(trial.dir);
          return idx === 1 && packing === undefined;
        });
        await next.stop();
        expect(await everything(trial.dir)).toEqual(before);
        const { avro, zdx, idx, ...rest } = endings(trial.dir);
        expect([zdx, idx, rest]).toEqual([avro! - 1, 1, {}]);
      }
      expect(lines).toEqual([]);
    } finally {
      trial.remove();
    }
  }, 360_000);
});

describe('a disk that refuses', () => {
  test('from any call on: the error is said, all is read, nothing is in the way of the next time', async () => {
    writeJournal();
    const before = await everything();
    const trial = tempJournal();
    try {
      for (let at = 1, calls = 2; at < calls; at += 1) {
        rmSync(join(trial.dir, 'a'), { recursive: true, force: true });
        cpSync(join(dir, 'a'), join(trial.dir, 'a'), { recursive: true, preserveTimestamps: true });
        const { error, calls: made } = child(trial.dir, at, at % 2 === 0 ? 'ENOSPC' : 'EIO');
        calls = made + 1;
        if (error === null) break;
        expect(error).toMatch(/ENOSPC|EIO/);
        expect(await everything(trial.dir)).toEqual(before);
        expect(endings(trial.dir).packing).toBeUndefined();
        expect(child(trial.dir, 0).error).toBeNull();
        expect(await everything(trial.dir)).toEqual(before);
      }
    } finally {
      trial.remove();
    }
  }, 360_000);

  test.skipIf(!mount)('a full disk: nothing changes, and with room again it is packed', async () => {
    const copy = tempJournal();
    try {
      const node = process.execPath;
      const line = [
        `mount -t tmpfs -o size=2m none ${dir}`,
        `${node} ${WRITER} ${dir} a 0 200 9 200000 > /dev/null`,
        `(cat /dev/zero > ${dir}/ballast || true) 2> /dev/null`,
        `${node} ${CHILD} ${dir} a share 0`,
        `cp -r ${dir}/a ${copy.dir}/full`,
        `rm ${dir}/ballast`,
        `${node} ${CHILD} ${dir} a share 0`,
        `cp -r ${dir}/a ${copy.dir}/a`,
        `umount ${dir}`,
      ].join('; ');
      const { stdout, stderr } = spawnSync('sh', ['-c', `${mount!.run} '${line}'`], { encoding: 'utf8' });
      expect(stdout, stderr).toMatch(/^calls \d+\nerror ENOSPC.*\ncalls \d+\n$/);
      expect(Object.keys(endings(copy.dir, 'full')).sort()).toEqual(['avro', 'idx']);
      const { avro } = endings(copy.dir);
      expect(endings(copy.dir)).toEqual({ avro, zdx: avro! - 1, idx: 1 });
      const { numbers, damage } = await everything(copy.dir);
      expect(damage).toEqual([]);
      expect(numbers).toEqual(Array.from({ length: 200 * 5 - 20 + numbers.length - 980 }, (_, i) => i));
      expect(numbers.length).toBeGreaterThan(900);
    } finally {
      copy.remove();
    }
  });
});

test('beside a writer and a reader in other processes every share is read once, in order, and the journal is packed behind them', async () => {
  const one = packer();
  const writer = spawn(process.execPath, [WRITER, dir, 'a', '0', '3000', '9', '40000'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  writer.stdout.on('data', (data: Buffer) => {
    output = (output + data.toString()).slice(-1000);
  });
  const ended = once(writer, 'close').then(() => true);
  const log = openJournalLog({ dir });
  const slow = openJournalLog({ dir });
  const read: number[] = [];
  const readSlowly: number[] = [];
  const step = async (from: Position | null, source: typeof log, into: number[], maxRecords: number) => {
    const batch = await source.read('share', 'a', from, { maxRecords, waitMs: 5 });
    expect(batch.damage).toEqual([]);
    for (const { body } of batch.records) into.push(Number.parseInt(decodeShare(body).hash, 16));
    return batch;
  };
  let at: Position | null = null;
  let slowAt: Position | null = null;
  let over = false;
  void ended.then(() => {
    over = true;
  });
  for (;;) {
    const done = over;
    const batch = await step(at, log, read, 500);
    at = batch.next;
    slowAt = (await step(slowAt, slow, readSlowly, 40)).next;
    if (done && batch.records.length === 0) break;
  }
  await until('all closed segments packed', () => {
    const { avro, zdx } = endings(dir);
    return zdx === avro! - 1;
  });
  for (;;) {
    const batch = await step(slowAt, slow, readSlowly, 1000);
    slowAt = batch.next;
    if (batch.records.length === 0) break;
  }
  await log.close();
  await slow.close();
  const last = Number(output.trim().split('\n').at(-2));
  expect(last).toBeGreaterThan(10_000);
  expect(read).toEqual(Array.from({ length: last + 1 }, (_, i) => i));
  expect(readSlowly).toEqual(read);
  expect((await everything()).numbers).toEqual(read);
  expect(one.counts().segments).toBeGreaterThan(20);
  expect(one.counts().packedBytes * 3).toBeLessThan(one.counts().plainBytes);
  expect(lines).toEqual([]);
});

test('retention takes segments away while they are packed: none comes back, and what is left is read without a gap', async () => {
  const HOUR_US = 3_600_000_000;
  const T0 = 1_700_000_000_000_000;
  const HOURS = 400;
  let hour = 0;
  let position: Position | null = null;
  const retention = new Retention({
    journalDir: dir,
    stateFile: join(dir, 'retention.json'),
    keepUs: 20 * HOUR_US,
    required: [{ name: 'relay', load: () => position }],
    log: () => {},
    nowUs: () => T0 + hour * HOUR_US,
    elapsedUs: () => hour * HOUR_US,
  });
  const one = packer({ scanMs: 1 });
  const log = openJournalLog({ dir });
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 5_000 });
  const read: number[] = [];
  let removed = 0;
  let oldest = 0;
  for (; hour < HOURS; hour++) {
    writer.append([{ topic: 'share', event: sampleShare(hour, { time_us: T0 + hour * HOUR_US }) }]);
    const batch = await log.read('share', 'a', position, { maxRecords: 100, waitMs: 0 });
    expect(batch.damage).toEqual([]);
    for (const { body } of batch.records) read.push(Number.parseInt(decodeShare(body).hash, 16));
    position = batch.next;
    removed += retention.run().segments;
    const ordinals = listSegments(join(dir, 'a', 'share')).map(({ ordinal }) => ordinal);
    expect(ordinals).toEqual(Array.from(ordinals, (_, i) => ordinals[0]! + i));
    expect(ordinals[0]).toBeGreaterThanOrEqual(oldest);
    oldest = ordinals[0]!;
    await nextTurn();
    // On a machine that is busy the packer comes to its turn nevertheless.
    if (hour % 40 === 39) {
      const packed = one.counts().segments;
      await until('one packed', () => one.counts().segments > packed, { everyMs: 2 });
    }
  }
  writer.close();
  expect(read).toEqual(Array.from({ length: HOURS }, (_, i) => i));
  expect(removed).toBeGreaterThan(20);
  await until('the rest packed', () => endings(dir).zdx === endings(dir).avro! - 1 && endings(dir).idx === 1);
  expect(one.counts().segments).toBeGreaterThan(9);
  await one.stop();
  expect(Object.keys(endings(dir)).sort()).toEqual(['avro', 'idx', 'zdx']);
  const { numbers, damage } = await everything();
  expect(damage).toEqual([]);
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => HOURS - numbers.length + i));
  await log.close();
  expect(lines).toEqual([]);
});

test('shares, jobs and sessions are packed, by one packer of several; blocks and contracts are not', async () => {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  for (let n = 0; n < 6; n++) {
    writer.append([
      ...shareEntries(n, 1),
      { topic: 'job', event: sampleJob(n) },
      { topic: 'session', event: sampleSession(n) },
      { topic: 'contract', event: sampleContract(n) },
    ]);
  }
  writer.close();
  const packers = [packer(), packer(), packer()];
  await until('all three topics packed', () =>
    (['share', 'job', 'session'] as const).every((topic) => endings(dir, 'a', topic).zdx === 5),
  );
  expect(endings(dir, 'a', 'contract')).toEqual({ avro: 6, idx: 6 });
  const working = packers.filter((one) => one.counts().segments > 0);
  expect(working).toHaveLength(1);
  await until('all of them counted', () => working[0]!.counts().segments === 15);
  // The one that is left takes it over.
  await working[0]!.stop();
  const again = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  for (let n = 6; n < 8; n++) again.append(shareEntries(n, 1));
  again.close();
  await until('the zdx files', () => endings(dir).zdx === 7);
  expect(lines).toEqual([]);
});

test('what is damaged stays as it is, is said once, and keeps nothing else from being packed', async () => {
  writeJournal(4_000);
  const [first] = listSegments(join(dir, 'a', 'share'));
  const bytes = readFileSync(first!.path);
  bytes[bytes.length - 50]! ^= 1;
  writeFileSync(first!.path, bytes);
  const before = await everything();
  expect(before.damage).toHaveLength(1);
  const one = packer();
  const { avro } = endings(dir);
  await until('the zdx files', () => endings(dir).zdx === avro! - 2);
  // It has looked again.
  const again = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  for (let n = 60; n < 62; n++) again.append(shareEntries(n, 1));
  again.close();
  await until('the zdx files', () => endings(dir).zdx === avro!);
  expect(readFileSync(first!.path)).toEqual(bytes);
  expect(lines).toEqual([
    expect.stringMatching(
      /^journal: .*00000000-.*\.avro stays as it is, not packed: damage at sequence \d+: the checksum of the block differs$/,
    ),
  ]);
  expect(one.problem()).toBeNull();
  const after = await everything();
  expect(after.lines.slice(0, before.lines.length)).toEqual(before.lines);
  expect(after.damage).toEqual(before.damage);
});

test('a packer that is stopped in the middle of a segment leaves it as it was', async () => {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 6_000_000 });
  for (let n = 0; n < 24_000; n += 100) writer.append(shareEntries(n, 100));
  writer.close();
  const before = await everything();
  // One that works a hundredth of its time.
  const one = packer({ duty: 0.01 });
  await until('the packing files', () => endings(dir).packing === 1);
  const stopping = performance.now();
  await one.stop();
  expect(performance.now() - stopping).toBeLessThan(3_000 * crowding());
  expect(endings(dir)).toEqual({ avro: 2, idx: 2 });
  expect(await everything()).toEqual(before);
  packer();
  await until('the zdx files', () => endings(dir).zdx === 1);
  expect(await everything()).toEqual(before);
});

test('where packing fails it is said once, and shown until it succeeds', async () => {
  writeJournal();
  const [first] = listSegments(join(dir, 'a', 'share'));
  // Nothing can be written where a directory stands.
  const blocker = first!.packedIndexPath;
  mkdirSync(blocker);
  const one = packer();
  await until('the problem', () => one.problem() !== null);
  expect(one.problem()).toMatch(/^journal: .*cannot be packed: .*EISDIR/);
  const said = lines.length;
  rmSync(blocker, { recursive: true });
  await until('the problem', () => one.problem() === null && endings(dir).idx === 1);
  expect(lines.slice(0, said)).toEqual(lines);
  expect(statSync(first!.packedIndexPath).isFile()).toBe(true);
  expect(readdirSync(join(dir, 'a', 'share')).some((file) => file.endsWith('.packing'))).toBe(false);
});
