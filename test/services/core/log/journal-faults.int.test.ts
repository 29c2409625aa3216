/** The journal under what happens to processes and disks: kill -9, a full disk, a read-only one, two writers, readers beside a writer. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decoderFor } from '../../../../schemas/codec.ts';
import type { Damage, EventLog, Position, RecordBatch, StoredRecord } from '../../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../../services/core/log/journal.ts';
import { listSegments } from '../../../../services/core/log/journal-files.ts';
import { havePart } from '../../../helpers/require.ts';
import { tempJournal } from './journal-files.ts';

const WRITER = join(import.meta.dirname, 'writer-child.ts');
const decodeShare = decoderFor('share');
const numberOf = (record: StoredRecord): number => Number.parseInt(decodeShare(record.body).hash, 16);

let dir: string;
let remove: () => void;
beforeEach(() => {
  ({ dir, remove } = tempJournal());
});
afterEach(() => remove());

/** A reader of instance `a` that remembers where it stands and checks that sequences have no gap within a run. */
class Reader {
  readonly numbers: number[] = [];
  readonly damage: Damage[] = [];
  readonly #log: EventLog;
  #position: Position | null = null;
  #last: StoredRecord | null = null;

  constructor() {
    this.#log = openJournalLog({ dir });
  }

  async step(waitMs: number): Promise<number> {
    const batch: RecordBatch = await this.#log.read('share', 'a', this.#position, { maxRecords: 500, waitMs });
    for (const record of batch.records) {
      const expected = this.#last !== null && this.#last.run === record.run ? this.#last.sequence + 1 : 0;
      expect(record.sequence).toBe(expected);
      this.#last = record;
      this.numbers.push(numberOf(record));
    }
    this.damage.push(...batch.damage);
    this.#position = batch.next;
    return batch.records.length + batch.damage.length;
  }

  async rest(): Promise<void> {
    while ((await this.step(0)) > 0);
  }

  close(): Promise<void> {
    return this.#log.close();
  }
}

/** Runs a writer in a process of its own. */
function writer(first: number, turns: number, perTurn: number, segmentBytes = 64 * 1024) {
  const args = [WRITER, dir, 'a', first, turns, perTurn, segmentBytes].map(String);
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on('line', (line) => lines.push(line));
  const ended = once(reader, 'close');
  return {
    child,
    lines,
    /** The last share that was acknowledged, -1 where none was. */
    acknowledged: () => Number(lines.findLast((line) => /^\d+$/.test(line)) ?? -1),
    async seen(pattern: RegExp): Promise<void> {
      while (!lines.some((line) => pattern.test(line))) await once(reader, 'line');
    },
    ended: Promise.all([exited, ended]),
  };
}

test('whatever a writer acknowledged before kill -9 is read back, once and in order, by a reader that watched', async () => {
  const reader = new Reader();
  let first = 0;
  const acknowledged: number[] = [];
  for (let round = 0; round < 5; round++) {
    const { child, lines, ended, acknowledged: last, seen } = writer(first, 1e9, 9);
    await seen(/^open/);
    const start = reader.numbers.length;
    // Kill at a place that differs from round to round: after so many records were seen.
    while (reader.numbers.length < start + 50 + round * 333) await reader.step(1000);
    child.kill('SIGKILL');
    await ended;
    expect(lines.filter((line) => line.startsWith('error'))).toEqual([]);
    for (let n = first; n <= last(); n++) acknowledged.push(n);
    first = last() + 100_000;
  }
  openJournalWriter({ dir, instance: 'a' }).close();
  await reader.rest();
  expect(reader.damage).toEqual([]);
  const read = new Set(reader.numbers);
  expect(read.size).toBe(reader.numbers.length);
  expect(acknowledged.filter((n) => !read.has(n))).toEqual([]);
  expect(acknowledged.length).toBeGreaterThan(1000);
  await reader.close();

  const again = new Reader();
  await again.rest();
  expect(again.numbers).toEqual(reader.numbers);
  await again.close();
});

test('a reader beside a writer sees whole records only, all of them, and soon', async () => {
  const reader = new Reader();
  const { ended, acknowledged, lines } = writer(0, 4000, 7);
  let done = false;
  void ended.then(() => {
    done = true;
  });
  while (!done) await reader.step(100);
  await reader.rest();
  expect(lines.at(-1)).toBe('closed');
  expect(reader.damage).toEqual([]);
  expect(reader.numbers).toEqual(Array.from({ length: acknowledged() + 1 }, (_, i) => i));
  await reader.close();
});

test('a second writer is refused with the pid of the first, until that is killed', async () => {
  const { child, ended, seen } = writer(0, 1e9, 1);
  await seen(/^open/);
  expect(() => openJournalWriter({ dir, instance: 'a', waitMs: 100 })).toThrow(`is held by process ${child.pid}`);
  child.kill('SIGKILL');
  await ended;
  openJournalWriter({ dir, instance: 'a' }).close();
});

/** Runs a shell line and gives what it printed, a line each. */
function shell(line: string): string[] {
  const { stdout, stderr, status } = spawnSync('sh', ['-c', line], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
  return stdout.split('\n').filter((text) => text !== '');
}

function lastNumber(lines: readonly string[]): number {
  return Number(lines.findLast((line) => /^\d+$/.test(line)) ?? -1);
}

async function numbersRead(): Promise<number[]> {
  const reader = new Reader();
  await reader.rest();
  expect(reader.damage).toEqual([]);
  await reader.close();
  return reader.numbers;
}

test('a file that may not grow refuses the turn as disk, and what was acknowledged is all that is read', async () => {
  // 512-byte blocks; the signal of the limit is ignored, so that the write fails as on a full disk: first short, then EFBIG.
  const lines = shell(`trap '' XFSZ; ulimit -f 200; exec ${process.execPath} ${WRITER} ${dir} a 0 100000 9 10000000`);
  expect(lines.find((line) => line.startsWith('error'))).toMatch(/^error disk the journal cannot write to .*: EFBIG$/);
  expect(await numbersRead()).toEqual(Array.from({ length: lastNumber(lines) + 1 }, (_, i) => i));
  expect(lastNumber(lines)).toBeGreaterThan(50);
  // With room again the next opening has nothing to mend and goes on.
  const more = shell(`exec ${process.execPath} ${WRITER} ${dir} a ${lastNumber(lines) + 1} 10 1`);
  expect(more.filter((line) => line.startsWith('log'))).toEqual([]);
  expect((await numbersRead()).at(-1)).toBe(lastNumber(more));
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

describe.skipIf(!mount)('on a file system of its own', () => {
  function mounted(options: string, line: string): string[] {
    return shell(
      `${mount!.run} "mount -t tmpfs -o ${options} none ${dir} && ( ${line} ); s=\\$?; umount ${dir}; exit \\$s"`,
    );
  }
  const write = (first: number, turns: number): string =>
    `${process.execPath} ${WRITER} ${dir} a ${first} ${turns} 9 20000`;

  test('a full disk refuses the turn as disk; with space again the journal goes on without loss', async () => {
    const copy = tempJournal();
    try {
      // The name space ends with the shell: what is there is copied out to be read.
      const lines = mounted(
        'size=1m',
        `head -c 300000 /dev/zero > ${dir}/ballast; ${write(0, 100000)}; rm ${dir}/ballast; ${write(1_000_000, 5)}; cp -r ${dir}/a ${copy.dir}/a`,
      );
      const error = lines.findIndex((line) => line.startsWith('error'));
      expect(lines[error]).toMatch(/^error disk the journal cannot write to .*: ENOSPC$/);
      const before = lastNumber(lines.slice(0, error));
      const after = lastNumber(lines);
      expect(after).toBeGreaterThanOrEqual(1_000_000);
      dir = copy.dir;
      const read = await numbersRead();
      expect(read).toEqual([
        ...Array.from({ length: before + 1 }, (_, i) => i),
        ...Array.from({ length: after - 1_000_000 + 1 }, (_, i) => 1_000_000 + i),
      ]);
      expect(listSegments(join(dir, 'a', 'share')).length).toBeGreaterThan(3);
      expect(lines.filter((line) => line.startsWith('log'))).toEqual([]);
    } finally {
      copy.remove();
    }
  });

  test('on a full disk jobs and contracts go on in the space that is held for them, and shares do not', () => {
    const lines = mounted('size=6m', `${process.execPath} ${join(import.meta.dirname, 'reserve-child.ts')} ${dir}`);
    expect(lines.slice(0, 2)).toEqual(['held 3145728', 'shares disk']);
    expect(lines[2]).toMatch(/^jobs 1000, cramped true, held [12]\d{6}$/);
    expect(lines.slice(3)).toEqual(['then disk, held 0', 'again, cramped false']);
  });

  test('a file system that has become read-only is refused as disk, which may mend, and one that never took anything as data_dir', () => {
    const lines = mounted('size=1m', `${write(0, 3)}; mount -o remount,ro ${dir}; ${write(10, 3)}`);
    expect(lines.at(-1)).toMatch(/^error disk cannot lock the journal of instance a .*: EROFS/);
    const empty = mounted('size=1m,ro', write(0, 3));
    expect(empty.at(-1)).toMatch(/^error data_dir cannot make the journal's directory .*: EROFS$/);
  });
});
