import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decoderFor } from '../../../schemas/codec.ts';
import type { QuarantineEvent, ShareEvent } from '../../../schemas/events.ts';
import { shareIdentity } from '../../../schemas/identity.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { PoolError } from '../../../services/core/errors.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { folderState, openCheckpoints } from '../../../services/ingestor/checkpoints.ts';
import { type ShareInput, shareFromLine } from '../../../services/ingestor/line.ts';
import { type BadLine, ingest, originOf, type Summary } from '../../../services/ingestor/main.ts';
import { shareLogLine } from '../../../services/stratum/sharelog.ts';
import { tempDir } from '../../helpers/leash.ts';
import { journaled } from '../stratum/rig.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));
const context = { origin: 'ckpool', instance: 'test', height: 700 };

let dir: { path: string; remove(): void };
let written: ShareEvent[];
let letters: QuarantineEvent[];
let bad: BadLine[];
beforeEach(() => {
  dir = tempDir('ingest');
  written = [];
  letters = [];
  bad = [];
});
afterEach(() => dir.remove());

const decodeShare = decoderFor('share');

/** A journal of which the test also keeps what is appended. */
const collector = (): JournalWriter => {
  const journal = openJournalWriter({ dir: openDataDir(join(dir.path, 'data')).journal, instance: 'test' });
  return {
    ...journal,
    write: (entries, encoded) => {
      const waits = journal.write(entries, encoded);
      for (const entry of entries) if (entry.topic === 'quarantine') letters.push(entry.event as QuarantineEvent);
      for (let i = 0, from = 0; i < (encoded?.count ?? 0); from = encoded!.ends[i++]!) {
        written.push(decodeShare(encoded!.bytes.subarray(from, encoded!.ends[i])));
      }
      return waits;
    },
  };
};

function run(logDir: string, extra: Partial<Parameters<typeof ingest>[0]> = {}): Promise<Summary> {
  return ingest({
    logDir,
    paths: [],
    origin: 'ckpool',
    instance: 'test',
    data: openDataDir(join(dir.path, 'data')),
    openJournal: collector,
    dryRun: false,
    onBad: (line) => bad.push(line),
    onProgress: () => {},
    ...extra,
  });
}

/** All lines of a tree, by another way than the ingestor's. */
function linesOf(tree: string): string[] {
  return readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.includes('.sharelog'))
    .flatMap((name) => {
      const bytes = readFileSync(join(tree, name));
      return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes)
        .toString()
        .split('\n')
        .filter((line) => line !== '');
    });
}

describe.each(['regtest-blocks', 'regtest-rejects', 'testnet-proxy', 'testnet-shares'])(
  'the recorded tree %s',
  (scenario) => {
    test('gives each line as one event, and a second run gives nothing', async () => {
      const tree = join(fixtures, scenario, 'logs');
      const lines = linesOf(tree);
      const summary = await run(tree);
      expect(bad).toEqual([]);
      expect(summary.lines).toBe(lines.length);
      expect(written.length).toBe(lines.length);
      const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
      const parsed = lines.map((line) => JSON.parse(line) as { diff: number; result: boolean });
      expect(summary.accepted).toBe(parsed.filter((line) => line.result).length);
      expect(sum(written.map((share) => share.diff).sort())).toBe(sum(parsed.map((line) => line.diff).sort()));

      const second = await run(tree);
      expect(second).toMatchObject({ lines: 0, known: lines.length, files_unchanged: second.files, bad: 0 });
      expect(written.length).toBe(lines.length);
    });
  },
);

const tree = (): string => {
  const logs = join(dir.path, 'logs');
  mkdirSync(join(logs, '000002bc'), { recursive: true });
  return logs;
};
const good = readFileSync(join(fixtures, 'regtest-rejects/logs/0000006f/6b02870800000000.sharelog'), 'utf8')
  .split('\n')
  .slice(0, 6);
const file = (logs: string): string => join(logs, '000002bc', '6b02870800000000.sharelog');

test('a half-written last line is left for the next run, counted each time, and then read once', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[1]!.slice(0, 100)}`);
  expect(await run(logs)).toMatchObject({ lines: 1, bad: 0, files_unfinished: 1 });
  expect(await run(logs)).toMatchObject({ lines: 0, files_unchanged: 1, files_unfinished: 1 });
  appendFileSync(file(logs), `${good[1]!.slice(100)}\n`);
  expect(await run(logs)).toMatchObject({ lines: 1, known: 1, bad: 0, files_unfinished: 0 });
  expect(written.map((share) => share.hash)).toEqual(good.slice(0, 2).map((line) => JSON.parse(line!).hash));
  expect(written[0]!.height).toBe(700);
});

test.each([
  ['gz', gzipSync],
  ['zst', zstdCompressSync],
] as const)('a log packed as .%s after it was read is known, and read on where it is longer', async (ending, pack) => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n`);
  await run(logs);
  writeFileSync(`${file(logs)}.${ending}`, pack(`${good[0]}\n${good[1]}\n`));
  rmSync(file(logs));
  expect(await run(logs)).toMatchObject({ lines: 1, known: 1, files_quarantined: 0 });
});

test('zeros at the end, as a power cut leaves them, and an endless line are counted', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${'\0'.repeat(4096)}`);
  writeFileSync(join(logs, '000002bc', '7000000000000000.sharelog'), 'x'.repeat(100_000));
  writeFileSync(join(logs, '000002bc', '7000000000000001.sharelog.gz'), gzipSync(good[1]!.slice(0, 50)));
  expect(await run(logs)).toMatchObject({ files: 3, lines: 1, bad: 0, files_unfinished: 3 });
});

test('a shrunken and a rewritten log are left alone, and said', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[1]}\n`);
  await run(logs);
  truncateSync(file(logs), 100);
  expect(await run(logs)).toMatchObject({ lines: 0, files_quarantined: 1 });
  expect(bad.at(-1)!.reason).toContain('shrank');
  writeFileSync(file(logs), `${good[2]}\n${good[3]}\n${good[4]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 0, files_quarantined: 1 });
  expect(bad.at(-1)!.reason).toContain('rewritten');
});

test('one bad line never stops a file, an endless one neither', async () => {
  const logs = tree();
  writeFileSync(
    file(logs),
    `${good[0]}\n\u0000\u0001garbage\n${'x'.repeat(3_000_000)}\n{"workinfoid": 1}\n${good[1]}\n`,
  );
  expect(await run(logs)).toMatchObject({ lines: 5, bad: 3, accepted: 2 });
  expect(bad.map((each) => each.line)).toEqual([2, 3, 4]);
  expect(await run(logs)).toMatchObject({ lines: 0, known: 5 });
});

test('a broken pack is left alone, the other files are read', async () => {
  const logs = tree();
  writeFileSync(`${file(logs)}.gz`, gzipSync(`${good[0]}\n`).subarray(0, 40));
  writeFileSync(join(logs, '000002bc', '7000000000000000.sharelog'), `${good[1]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 1, files_quarantined: 1 });
});

test('a folder, a loop of links and a pipe with the name of a log are left alone, the other files are read', async () => {
  const logs = tree();
  mkdirSync(join(logs, '000002bc', '1000000000000000.sharelog'));
  symlinkSync('2000000000000000.sharelog', join(logs, '000002bc', '2000000000000000.sharelog'));
  execFileSync('mkfifo', [join(logs, '000002bc', '3000000000000000.sharelog')]);
  writeFileSync(file(logs), `${good[0]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 1, accepted: 1, files_quarantined: 3 });
  expect(bad.map((each) => each.reason)).toEqual([
    'is not a regular file',
    expect.stringContaining('ELOOP'),
    'is not a regular file',
  ]);
  // Said by each run, for it may pass; an event once.
  expect(await run(logs)).toMatchObject({ lines: 0, files_quarantined: 3 });
  expect([bad.length, letters.length]).toEqual([6, 3]);
});

test('a link to nowhere and a name that is no UTF-8 are named, and read when they can be', async () => {
  const logs = tree();
  const away = join(dir.path, 'away');
  symlinkSync(join(away, '3.sharelog'), join(logs, '000002bc', '3000000000000000.sharelog'));
  symlinkSync(join(away, '000002bd'), join(logs, '000002bd'));
  const odd = Buffer.concat([Buffer.from(join(logs, '000002bc/4')), Buffer.from([0xff]), Buffer.from('.sharelog')]);
  writeFileSync(odd, `${good[1]}\n`);
  writeFileSync(file(logs), `${good[0]}\n`);
  expect(await run(logs)).toMatchObject({ accepted: 1, files_quarantined: 3 });
  expect(bad.map(({ reason }) => reason).sort()).toEqual([
    expect.stringMatching(/^cannot be listed: ENOENT/),
    'is not there: a link to nowhere',
    'its name is not UTF-8',
  ]);
  mkdirSync(join(away, '000002bd'), { recursive: true });
  writeFileSync(join(away, '3.sharelog'), `${good[2]}\n`);
  writeFileSync(join(away, '000002bd', '5000000000000000.sharelog'), `${good[3]}\n`);
  renameSync(odd, join(logs, '000002bc', '4000000000000000.sharelog'));
  expect(await run(logs)).toMatchObject({ lines: 3, files_quarantined: 0 });
});

test('checkpoints that are no database are said to be one line, and may be removed', async () => {
  const logs = tree();
  writeFileSync(join(openDataDir(join(dir.path, 'data')).state, 'ingest-ckpool.sqlite'), 'x'.repeat(8192));
  await expect(run(logs)).rejects.toThrow(/ingest-ckpool\.sqlite: .*may be removed/);
  rmSync(join(dir.path, 'data/state/ingest-ckpool.sqlite'));
  expect(await run(logs)).toMatchObject({ lines: 0 });
});

// The write below blocks this thread, so the holder alone can say when it lets go: after 300 ms.
test('two runs of one origin in different directories wait for each other at the checkpoints', async () => {
  const path = join(openDataDir(join(dir.path, 'data')).state, 'ingest-ckpool.sqlite');
  const checkpoints = openCheckpoints(path);
  const holder = new Worker(
    `const { DatabaseSync } = require('node:sqlite');
     const { parentPort, workerData } = require('node:worker_threads');
     const database = new DatabaseSync(workerData);
     database.exec('BEGIN IMMEDIATE');
     parentPort.postMessage('held');
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
     database.exec('COMMIT');
     database.close();`,
    { eval: true, workerData: path },
  );
  await once(holder, 'message');
  const at = {
    ...{ inode: 1, sizeBytes: 2, mtimeMs: 3.5, offset: 2, lines: 1, head: 'ab'.repeat(16), sum: 0xffff_fffe },
    refused: 'grün',
  };
  const folder = { mtimeMs: 4.5, closed: true };
  checkpoints.store([folderState('/a', folder, new Map([['b', at], ['ö', at]]))], { run: 'r', shares: 3 }); // biome-ignore format: pairs
  expect(checkpoints.files('/a')).toEqual(new Map([['b', at], ['ö', at]])); // biome-ignore format: pairs
  expect(checkpoints.folder('/a')).toEqual({ mtimeMs: 4.5, closed: true, files: 2, lines: 2 });
  expect(checkpoints.end()).toEqual({ run: 'r', shares: 3 });
  checkpoints.close();
  await holder.terminate();
});

test('checkpoints of the form without sums are read on', () => {
  const path = join(openDataDir(join(dir.path, 'data')).state, 'ingest-ckpool.sqlite');
  openCheckpoints(path).close();
  const bytes = Buffer.alloc(1 + 1 + 8 * 5 + 16 + 2);
  bytes.write('\u0001b');
  bytes.writeBigUInt64LE(7n, 2);
  for (const [i, value] of [20, 3.5, 10, 2].entries()) bytes.writeDoubleLE(value, 10 + 8 * i);
  bytes.write('cd'.repeat(16), 42, 'hex');
  const database = new DatabaseSync(path);
  database
    .prepare('INSERT INTO log_folder_files VALUES (?, ?)')
    .run('/a', Buffer.concat([bytes, Buffer.from(bytes).fill('c', 1, 2)]));
  database.close();
  const checkpoints = openCheckpoints(path);
  const file = {
    inode: 7,
    sizeBytes: 20,
    mtimeMs: 3.5,
    offset: 10,
    lines: 2,
    head: 'cd'.repeat(16),
    sum: -1,
    refused: '',
  };
  expect([...checkpoints.files('/a')]).toEqual([['b', file], ['c', file]]); // biome-ignore format: pairs
  checkpoints.close();
});

test('a dry run writes nothing, not even how far it read', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n`);
  expect(await run(logs, { dryRun: true })).toMatchObject({ lines: 1 });
  expect(written).toEqual([]);
  expect(await run(logs)).toMatchObject({ lines: 1 });
});

test('what CKPool accepted twice is a repeat, and one share by identity', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[0]!.replace(/"createdate": "\d+/, '"createdate": "1795327999')}\n`);
  expect(await run(logs)).toMatchObject({ lines: 2, repeats: 1 });
  expect(new Set(written.map(shareIdentity)).size).toBe(1);
});

test('a moved log directory is another one; a log that moved into place keeps its lines', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n`);
  await run(logs);
  cpSync(file(logs), `${file(logs)}.copy`);
  renameSync(`${file(logs)}.copy`, file(logs));
  expect(await run(logs)).toMatchObject({ lines: 0, known: 1, files_quarantined: 0 });
});

test('a log that was removed and made anew, as by a late share, is read from its beginning', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[1]}\n`);
  await run(logs);
  rmSync(file(logs));
  // Another file in between: an inode is used again at once.
  writeFileSync(join(logs, '000002bc', '7000000000000000.sharelog'), `${good[2]}\n`);
  writeFileSync(file(logs), `${good[3]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 2, bad: 0, files_quarantined: 0 });
  expect(written.length).toBe(4);
});

test('a pack beside its plain file is left while it is being made, and read where it stays', async () => {
  const logs = tree();
  writeFileSync(`${file(logs)}.gz`, gzipSync(`${good[0]}\n${good[1]}\n`));
  writeFileSync(file(logs), `${good[2]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 1, files: 2 });
  const later = { nowMs: () => Date.now() + 61_000 };
  expect(await run(logs, later)).toMatchObject({ lines: 2, files_quarantined: 0 });
  expect(await run(logs, later)).toMatchObject({ lines: 0, known: 3, files_unchanged: 2 });
});

test.each([
  ['gz', gzipSync],
  ['zst', zstdCompressSync],
] as const)('several packs one behind the other in a .%s are one log', async (ending, pack) => {
  const logs = tree();
  const pieces = good.map((line) => pack(`${line}\n`));
  writeFileSync(`${file(logs)}.${ending}`, Buffer.concat(pieces.slice(0, 4)));
  expect(await run(logs)).toMatchObject({ lines: 4, bad: 0, files_quarantined: 0 });
  writeFileSync(`${file(logs)}.${ending}`, Buffer.concat(pieces));
  expect(await run(logs)).toMatchObject({ lines: 2, known: 4, bad: 0, files_quarantined: 0 });
});

test('a whole line behind one that a kill has cut counts', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[1]!.slice(0, 150)}${good[2]}\n${good[3]}\n`);
  expect(await run(logs)).toMatchObject({ lines: 3, accepted: 3, bad: 1 });
  expect(letters).toMatchObject([
    {
      path: file(logs),
      line: 2,
      reason: 'ends amid the line; a whole one behind it was taken',
      bytes_hex: Buffer.from(good[1]!.slice(0, 150)).toString('hex'),
    },
  ]);
});

test('what is not taken in is an event with path, line, reason and bytes; a file that stays as it is, one alone', async () => {
  const logs = tree();
  const garbage = Buffer.from([0xff, 0, 0x22, 0x80, 0xfe]);
  writeFileSync(file(logs), Buffer.concat([Buffer.from(`${good[0]}\n`), garbage, Buffer.from(`\n${good[1]}\n`)]));
  await run(logs);
  const { size_bytes, ...letter } = letters[0]!;
  expect(letter).toMatchObject({
    origin: 'ckpool',
    path: file(logs),
    line: 2,
    reason: 'not JSON',
    bytes_hex: garbage.toString('hex'),
  });
  expect(size_bytes).toBe(garbage.length);
  truncateSync(file(logs), 100);
  for (let i = 0; i < 3; i++) expect(await run(logs)).toMatchObject({ files_quarantined: 1 });
  expect(letters.length).toBe(2);
  expect(letters[1]).toMatchObject({
    path: file(logs),
    line: 0,
    reason: expect.stringContaining('shrank'),
    size_bytes: 100,
  });
});

test('a log that grows by pieces of any length, read in between, gives its lines once', async () => {
  const logs = tree();
  const whole = Buffer.from(`${good.join('\n')}\n`);
  let from = 0;
  for (const length of [1, 300, 299, 700, 5, 1000, 64, whole.length]) {
    appendFileSync(file(logs), whole.subarray(from, from + length));
    from += length;
    expect(await run(logs)).toMatchObject({ bad: 0, files_quarantined: 0 });
  }
  expect(written.map((share) => share.nonce)).toEqual(good.map((line) => JSON.parse(line!).nonce));
});

test('lines over the borders of what is read at once are taken like others, and a stopped run goes on where it was', async () => {
  const logs = tree();
  const lines = 9_000;
  const numbered = Array.from({ length: lines }, (_, i) =>
    good[0]!.replace(/"nonce": "[0-9a-f]+"/, `"nonce": "${i.toString(16).padStart(8, '0')}"`),
  );
  const bytes = `${numbered.join('\n')}\n`;
  expect(bytes.length).toBeGreaterThan(4 << 20);
  writeFileSync(file(logs), bytes);
  writeFileSync(join(logs, '000002bc', '7000000000000000.sharelog.zst'), zstdCompressSync(bytes));
  const nonces = (): string[] => written.map((share) => share.nonce);
  const wanted = numbered.map((_, i) => i.toString(16).padStart(8, '0'));
  const stopping = new AbortController();
  let stopped = 0;
  const first = await run(logs, {
    signal: stopping.signal,
    openJournal: () => {
      const journal = collector();
      return {
        ...journal,
        write: (entries, encoded) => {
          const waits = journal.write(entries, encoded);
          stopped ||= written.length;
          stopping.abort();
          return waits;
        },
      };
    },
  });
  expect(stopped).toBeGreaterThan(0);
  expect(first.lines).toBeLessThan(lines);
  expect(await run(logs)).toMatchObject({ lines: 2 * lines - first.lines, bad: 0, files_quarantined: 0 });
  expect(nonces()).toEqual([...wanted, ...wanted]);
});

describe('a height folder', () => {
  const day = 86_400_000;
  const long = (Date.now() - day) / 1000;
  /** Three heights, the last 100 and 200 above the first. */
  const heights = (): string => {
    const logs = join(dir.path, 'logs');
    for (const [i, height] of ['00000100', '00000164', '000001c8'].entries()) {
      mkdirSync(join(logs, height), { recursive: true });
      const path = join(logs, height, '6b02870800000000.sharelog');
      writeFileSync(path, `${good[i]}\n`);
      utimesSync(path, long, long);
      utimesSync(join(logs, height), long, long);
    }
    return logs;
  };
  /** Written behind the folder's back: its time does not change by that. */
  const append = (logs: string, height: string): void =>
    appendFileSync(join(logs, height, '6b02870800000000.sharelog'), `${good[5]}\n`);

  test('well below the highest and long unchanged is closed: it is not looked into again, and its lines are known', async () => {
    const logs = heights();
    expect(await run(logs)).toMatchObject({ files: 3, lines: 3 });
    append(logs, '00000164');
    append(logs, '000001c8');
    expect(await run(logs)).toMatchObject({ files: 3, lines: 1, known: 3, files_unchanged: 2 });
    // A file that comes or goes changes the folder.
    writeFileSync(join(logs, '00000164', '7000000000000000.sharelog'), `${good[4]}\n`);
    expect(await run(logs)).toMatchObject({ files: 4, lines: 2, known: 4 });
  });

  test('that was written lately, or has half a line, or a bad file, stays open', async () => {
    const logs = heights();
    const soon = (): number => Date.now() - day + 60_000;
    await run(logs, { nowMs: soon });
    append(logs, '00000100');
    expect(await run(logs, { nowMs: soon })).toMatchObject({ lines: 1, known: 3 });
    appendFileSync(join(logs, '00000164', '6b02870800000000.sharelog'), good[4]!.slice(0, 40));
    utimesSync(join(logs, '00000164', '6b02870800000000.sharelog'), long, long);
    await run(logs);
    appendFileSync(join(logs, '00000164', '6b02870800000000.sharelog'), `${good[4]!.slice(40)}\n`);
    expect(await run(logs)).toMatchObject({ lines: 1 });
  });

  test('gives a run with --since whole files, whose last share is of that time, and no others', async () => {
    const logs = heights();
    const at = (seconds: number): string =>
      good[3]!.replace(/"createdate": "\d+,/, `"createdate": "${1_795_000_000 + seconds},`);
    const [old, mixed] = ['00000300', '00000301'].map((height) => join(logs, height, '6b02870800000000.sharelog'));
    for (const path of [old!, mixed!]) mkdirSync(dirname(path));
    writeFileSync(old!, `${at(10)}\n${at(20)}\n`);
    writeFileSync(mixed!, `${at(21)}\n${at(40)}\n`);
    utimesSync(old!, 1_795_000_020, 1_795_000_020);
    utimesSync(mixed!, 1_795_000_040, 1_795_000_040);
    const since = { sinceMs: 1_795_000_030_000, paths: [old!, mixed!] };
    expect(await run(logs, since)).toMatchObject({ files: 2, files_left: 1, lines: 2 });
    expect(written.map(({ time_us }) => Math.floor(time_us / 1e6) - 1_795_000_000)).toEqual([21, 40]);
    expect(await run(logs, { paths: since.paths })).toMatchObject({ files_left: 0, lines: 2 });
  });

  test('is not closed by a run that left files out', async () => {
    const logs = heights();
    expect(await run(logs, { sinceMs: Date.now() })).toMatchObject({ files: 3, lines: 0 });
    expect(await run(logs)).toMatchObject({ files: 3, lines: 3 });
  });

  test('of which one file is named is looked into all the same', async () => {
    const logs = heights();
    const named = join(logs, '00000100', '6b02870800000000.sharelog');
    expect(await run(logs, { paths: [named] })).toMatchObject({ files: 1, lines: 1 });
    expect(await run(logs)).toMatchObject({ files: 3, lines: 2, known: 1 });
  });
});

test('where a power cut took the end of the journal and left the checkpoints, what it lacks is read again', async () => {
  const logs = tree();
  const data = openDataDir(join(dir.path, 'data'));
  const real = {
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    data,
  };
  const stored = async (): Promise<string[]> =>
    (await journaled(data.root, 'test', 'share')).map((share) => share.nonce).sort();
  const nonces = good.map((line) => JSON.parse(line!).nonce as string);
  writeFileSync(file(logs), `${good[0]}\n`);
  await run(logs, real);
  const other = join(logs, '000002bd', '6b02870800000001.sharelog');
  mkdirSync(join(logs, '000002bd'));
  writeFileSync(other, `${good[1]}\n${good[2]}\n`);
  await run(logs, real);
  expect(await run(logs, real)).toMatchObject({ lines: 0, known: 3 });
  expect(await stored()).toEqual(nonces.slice(0, 3).sort());
  // The second run's segment is gone, as its blocks were never written to the disk.
  const segments = readdirSync(join(data.journal, 'test', 'share')).sort();
  for (const name of segments.slice(segments.length / 2)) rmSync(join(data.journal, 'test', 'share', name));
  expect(await stored()).toEqual([nonces[0]]);
  expect(await run(logs, real)).toMatchObject({ lines: 2, known: 1 });
  expect(await stored()).toEqual(nonces.slice(0, 3).sort());
});

test('lines that a full disk kept out of the journal are read again by the next run', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n${good[1]}\n`);
  const full = (): JournalWriter => ({
    ...collector(),
    write: () => {
      throw new PoolError('disk', 'the journal cannot write: ENOSPC');
    },
  });
  await expect(run(logs, { openJournal: full })).rejects.toThrow('ENOSPC');
  expect(await run(logs)).toMatchObject({ lines: 2, known: 0 });
  expect(written.length).toBe(2);
});

test('a pipe that is named is read to its end', async () => {
  const logs = tree();
  const pipe = join(dir.path, 'pipe.sharelog');
  execFileSync('mkfifo', [pipe]);
  const writer = spawn('sh', ['-c', 'printf "%s\\n" "$1" > "$2"', 'sh', good.slice(0, 3).join('\n'), pipe]);
  const ended = once(writer, 'exit');
  expect(await run(logs, { paths: [pipe] })).toMatchObject({ lines: 3, accepted: 3, bad: 0 });
  await ended;
});

test('the origin is never guessed', () => {
  const logs = tree();
  expect(() => originOf(logs, null)).toThrow('--origin');
  expect(originOf(logs, 'ckpool')).toBe('ckpool');
  writeFileSync(join(logs, '.lodestream-origin'), 'farm\n');
  expect(originOf(logs, null)).toBe('farm');
  expect(() => originOf(logs, 'ckpool')).toThrow('says farm');
  writeFileSync(join(logs, '.lodestream-origin'), '');
  expect(originOf(logs, 'ckpool')).toBe('ckpool');
  expect(() => originOf(logs, null)).toThrow('does not say it');
  writeFileSync(join(logs, '.lodestream-origin'), 'farm\n');
  expect(() => originOf(tree(), '../x')).toThrow(/says farm|must be/);
});

test('a log directory that is missing or none is said, before it is asked whose it is', () => {
  const logs = tree();
  expect(() => originOf(join(logs, 'gone'), null)).toThrow('gone: there is no such directory; --logdir');
  expect(originOf(join(logs, 'gone'), 'ckpool')).toBe('ckpool');
  writeFileSync(join(logs, 'ckpool.log'), '');
  expect(() => originOf(join(logs, 'ckpool.log'), null)).toThrow('ckpool.log is no directory');
  mkdirSync(join(logs, '.lodestream-origin'));
  expect(() => originOf(logs, 'ckpool')).toThrow(/lodestream-origin cannot be read: EISDIR/);
});

test('share logs that one origin has are not taken in as those of another', async () => {
  const logs = tree();
  writeFileSync(file(logs), `${good[0]}\n`);
  const other = join(dirname(file(logs)), '7000000000000000.sharelog');
  await run(logs);
  await expect(run(logs, { origin: 'ckproxy' })).rejects.toThrow(/000002bc were taken in as origin ckpool; as ckproxy/);
  await expect(run(logs, { origin: 'ckproxy', paths: [`${file(logs)}.gz`] })).rejects.toThrow(/there is no such file/);
  await expect(run(logs, { origin: 'ckproxy', paths: [file(logs)] })).rejects.toThrow(/taken in as origin ckpool/);
  writeFileSync(other, `${good[1]}\n`);
  expect(await run(logs, { origin: 'ckproxy', paths: [other] })).toMatchObject({ lines: 1 });
  expect(written).toHaveLength(2);
});

test('a refused share is one, live and back-filled, also where its miner writes hex in capitals', () => {
  const live: ShareInput = {
    ...{ origin: 'ckpool', instance: 'ckpool', source: 'live', time_us: 1_795_327_755_915_956, client_id: 1 },
    ...{
      listener: '0.0.0.0:3333',
      job_id: '6b02870800000000',
      height: 700,
      user: 'a',
      worker: 'a.b',
      agent: '',
      address: '::1',
    },
    ...{ accepted: false, errn: 1, reason: 'Invalid JobID', diff: 1, sdiff: -1, hash: '', enonce1: '0987026b' },
    ...{ nonce2: '00000000000000AB', nonce: '0599130F', ntime: '6B028708', version_bits: '' },
  };
  const read = shareFromLine(shareLogLine(live, live.job_id, null).trimEnd(), context);
  if ('bad' in read) throw new Error(read.bad);
  expect(shareIdentity(read.share)).toBe(shareIdentity(live));
});

describe('a line', () => {
  const line = good[0]!;
  const outcome = (from: string | RegExp, to: string): string => {
    const result = shareFromLine(line.replace(from, to), context);
    return 'bad' in result ? result.bad : 'good';
  };

  test('keeps its 64-bit job id and its nanoseconds', () => {
    const result = shareFromLine(line, context);
    if ('bad' in result) throw new Error(result.bad);
    expect(result.share).toMatchObject({
      job_id: '6b02870800000000',
      time_us: 1_795_327_755_915_956,
      time_ns: 520,
      diff: 0.001,
      sdiff: 0.0012855161958276165,
      accepted: true,
      reason: '',
      source: 'backfill',
    });
  });

  test('of the older generation says its reason', () => {
    const refused = line
      .replace('"result": true', '"result": false, "reject-reason": "Above target"')
      .replace('"errn": 0', '"errn": 5');
    expect(shareFromLine(refused, context)).toMatchObject({
      share: { accepted: false, errn: 5, reason: 'Above target' },
    });
  });

  test.each([
    ['a workinfoid beyond 64 bits', '7710873980441198592', '99999999999999999999', 'workinfoid'],
    ['a workinfoid as text', '7710873980441198592', '"x"', 'workinfoid'],
    ['a difficulty of 0', '"diff": 0.001', '"diff": 0', 'diff'],
    ['a negative difficulty', '"diff": 0.001', '"diff": -1', 'diff'],
    ['an infinite difficulty', '"diff": 0.001', '"diff": 1e999', 'diff'],
    ['a hash that does not reach its sdiff', '"sdiff": 0.0012855161958276165', '"sdiff": 5.0', 'sdiff'],
    ['a hash that is no hash', /"hash": "[0-9a-f]+"/, '"hash": "xyz"', 'hash'],
    ['an accepted share without a hash', /"hash": "[0-9a-f]+"/, '"hash": ""', 'accepted without'],
    ['a result in words', '"result": true', '"result": "yes"', 'result'],
    ['a time in words', /"createdate": "[^"]+"/, '"createdate": "today"', 'createdate'],
    ['a time after 2106', /"createdate": "[^"]+"/, '"createdate": "4294967296,0"', 'createdate'],
    ['a time beyond all clocks', /"createdate": "[^"]+"/, '"createdate": "99999999999,0"', 'createdate'],
    ['a difficulty beyond what is summed', '"diff": 0.001', '"diff": 1e20', 'diff'],
    ['an accepted share of no block time', /"ntime": "[^"]+"/, '"ntime": "6000000060000000"', 'ntime'],
    ['a missing worker', /"workername": "[^"]+"/, '"workername": null', 'workername'],
    ['half a line', /"nonce2".*/, '', 'not JSON'],
  ])('with %s is bad, and says so', (_, from, to, reason) => {
    expect(outcome(from, to)).toContain(reason);
  });
});
