import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { eventKey } from '../../../schemas/identity.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { MainLogCheckpoints } from '../../../services/ingestor/ckpool-log-checkpoints.ts';
import { ingestMainLog } from '../../../services/ingestor/ckpool-log-files.ts';
import { mainLogFiles, mainLogOf } from '../../../services/ingestor/ckpool-log-names.ts';
import {
  emptyMainLogSummary,
  type MainLogOptions,
  type MainLogSummary,
} from '../../../services/ingestor/ckpool-log-reading.ts';
import { Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import type { BadLine } from '../../../services/ingestor/main.ts';
import { ingestStatusFiles } from '../../../services/ingestor/status-files.ts';
import { tempDir } from '../../helpers/leash.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));

let dir: { path: string; remove(): void };
let logDir: string;
let sessions: Inputs['session'][];
let blocks: Inputs['block'][];
let bad: BadLine[];
let letters: Inputs['quarantine'][];
beforeEach(() => {
  dir = tempDir('main-log');
  logDir = join(dir.path, 'logs');
  mkdirSync(logDir);
  sessions = [];
  blocks = [];
  bad = [];
  letters = [];
});
afterEach(() => dir.remove());

const log = (): string => join(logDir, 'ckpool.log');
/** A user's line of a second of one hour. */
const line = (second: number): string => {
  const at = new Date(Date.UTC(2026, 10, 22, 6) + second * 1000).toISOString().replace('T', ' ').slice(0, 23);
  return `[${at}] User u${second}:{"hashrate1m":"1G","shares":${second}}\n`;
};
const lines = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, i) => line(from + i)).join('');
/** Users in the order in which they were told. */
const told = (): number[] => sessions.map(({ user }) => Number(user!.slice(1)));
const upTo = (end: number): number[] => Array.from({ length: end }, (_, i) => i);

const options = (extra: Partial<MainLogOptions> = {}): MainLogOptions => ({
  origin: 'ckpool',
  instance: 'test',
  zone: new Zone('UTC'),
  logDir,
  chain: { name: 'regtest', pow: 'sha256d' },
  dryRun: false,
  onBad: (each) => bad.push(each),
  openJournal: () =>
    ({
      append(entries) {
        for (const entry of entries) {
          if (entry.topic === 'session') sessions.push(entry.event);
          if (entry.topic === 'block') blocks.push(entry.event);
          if (entry.topic === 'quarantine') letters.push(entry.event);
        }
      },
    }) as JournalWriter,
  ...extra,
});

async function run(
  extra: Partial<MainLogOptions> = {},
  what = (): ReturnType<typeof mainLogFiles> => mainLogFiles(log()),
): Promise<MainLogSummary> {
  const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
  const summary = emptyMainLogSummary();
  try {
    await ingestMainLog(what(), options(extra), checkpoints, summary);
    return summary;
  } finally {
    checkpoints.close();
  }
}

describe('each line is told once', () => {
  test('in a log that grows, and a half-written line with its rest', async () => {
    writeFileSync(log(), lines(0, 3) + line(3).slice(0, 30));
    expect(await run()).toMatchObject({ log_files: 1, log_lines: 3, log_bad: 0 });
    appendFileSync(log(), line(3).slice(30) + lines(4, 6));
    expect(await run()).toMatchObject({ log_lines: 3 });
    expect(await run()).toMatchObject({ log_files_unchanged: 1, log_lines: 0 });
    expect(told()).toEqual(upTo(6));
  });

  test('over rotations by renaming, packing and deleting, with what is still written into the renamed log', async () => {
    writeFileSync(log(), lines(0, 5));
    await run();
    renameSync(log(), `${log()}.1`);
    writeFileSync(log(), '');
    await run();
    // CKPool goes on in the renamed one, then in the new one.
    appendFileSync(`${log()}.1`, lines(5, 8));
    appendFileSync(log(), lines(8, 10));
    await run();
    expect(told()).toEqual(upTo(10));
    writeFileSync(`${log()}.2.gz`, gzipSync(readFileSync(`${log()}.1`)));
    rmSync(`${log()}.1`);
    renameSync(log(), `${log()}.1`);
    writeFileSync(log(), lines(10, 11));
    expect(await run()).toMatchObject({ log_files: 3, log_lines: 1 });
    expect(await run()).toMatchObject({ log_files: 3, log_files_unchanged: 3 });
    expect(told()).toEqual(upTo(11));
  });

  test('where a log was packed before its end was read', async () => {
    writeFileSync(log(), lines(0, 100));
    await run();
    writeFileSync(`${log()}-20261123.gz`, gzipSync(lines(0, 130)));
    writeFileSync(`${log()}-20261122.zst`, zstdCompressSync(lines(200, 203)));
    writeFileSync(log(), lines(130, 131));
    await run();
    expect(told().toSorted((a, b) => a - b)).toEqual([...upTo(131), 200, 201, 202]);
  });

  test('with copytruncate, whose copy has another inode and whose rest keeps it', async () => {
    writeFileSync(log(), lines(0, 50));
    await run();
    appendFileSync(log(), lines(50, 53));
    copyFileSync(log(), `${log()}.1`);
    truncateSync(log());
    expect(await run()).toMatchObject({ log_lines: 3 });
    appendFileSync(log(), lines(53, 55));
    await run();
    expect(told()).toEqual(upTo(55));
  });

  test('where a log shorter than its checkpoint begins otherwise: it is a new one', async () => {
    writeFileSync(log(), lines(0, 50));
    await run();
    const { mtime } = statSync(log());
    truncateSync(log());
    writeFileSync(log(), lines(50, 52));
    utimesSync(log(), mtime, mtime);
    await run();
    expect(told()).toEqual(upTo(52));
    expect(bad).toEqual([]);
  });

  test('after a run that ended between journal and checkpoint: again, with the same identity', async () => {
    writeFileSync(log(), readFileSync(join(fixtures, 'rotation/ckpool.log.1')));
    await run();
    const first = JSON.stringify([sessions, blocks]);
    sessions = [];
    blocks = [];
    rmSync(join(dir.path, 'log.sqlite'));
    await run();
    expect(JSON.stringify([sessions, blocks])).toBe(first);
  });
});

test('a run that dies at any write is made good by the next: no line is missing, and what came twice is the same', async () => {
  writeFileSync(`${log()}.1`, lines(0, 3_000));
  writeFileSync(log(), readFileSync(join(fixtures, 'rotation/ckpool.log.1'), 'utf8') + lines(3_000, 6_100));
  await run();
  const key = (event: object): string => JSON.stringify(event);
  const whole = new Set([...sessions, ...blocks].map(key));
  expect(whole.size).toBe(sessions.length + blocks.length);
  const plain = options().openJournal();
  for (let death = 1; ; death++) {
    rmSync(join(dir.path, 'log.sqlite'));
    sessions = [];
    blocks = [];
    let writes = 0;
    const dying = {
      append(entries: Parameters<JournalWriter['append']>[0]) {
        plain.append(entries);
        if (++writes === death) throw new Error('killed');
      },
    } as JournalWriter;
    const died = await run({ openJournal: () => dying }).then(
      () => false,
      (error: Error) => error.message === 'killed',
    );
    await run();
    expect(new Set([...sessions, ...blocks].map(key)), `death ${death}`).toEqual(whole);
    if (!died) break;
    expect(sessions.length).toBeGreaterThan(whole.size - blocks.length);
  }
});

test('files written before a time are left for another run', async () => {
  writeFileSync(`${log()}.1`, lines(0, 3));
  writeFileSync(log(), lines(3, 5));
  const old = new Date('2026-01-01T00:00:00Z');
  utimesSync(`${log()}.1`, old, old);
  expect(await run({ sinceMs: old.getTime() + 1 })).toMatchObject({ log_files: 2, log_lines: 2 });
  expect(told()).toEqual([3, 4]);
  expect(await run({ sinceMs: old.getTime() })).toMatchObject({ log_lines: 3 });
  expect(told()).toEqual([3, 4, 0, 1, 2]);
});

test('a log that lost its end after it was read is named', async () => {
  writeFileSync(log(), lines(0, 100));
  await run();
  truncateSync(log(), 5000);
  await run();
  expect(bad).toMatchObject([{ line: 0, reason: expect.stringContaining('5000 bytes long') }]);
});

test('a pack of several pieces is read to its end', async () => {
  const pieces = [lines(0, 3), lines(3, 5)];
  writeFileSync(`${log()}.2.zst`, Buffer.concat(pieces.map((text) => zstdCompressSync(text))));
  writeFileSync(`${log()}.1.gz`, Buffer.concat([lines(5, 6), lines(6, 8)].map((text) => gzipSync(text))));
  expect(await run()).toMatchObject({ log_lines: 8, log_bad: 0 });
  expect(told()).toEqual(upTo(8));
});

test('a rotation while a log is being read takes none of its lines', async () => {
  writeFileSync(log(), lines(0, 3));
  const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
  const find = checkpoints.find.bind(checkpoints);
  let rotated = false;
  checkpoints.find = (family, head) => {
    if (!rotated) {
      rotated = true;
      renameSync(log(), `${log()}.1`);
      writeFileSync(log(), lines(3, 5));
    }
    return find(family, head);
  };
  try {
    await ingestMainLog(mainLogFiles(log()), options(), checkpoints, emptyMainLogSummary());
  } finally {
    checkpoints.close();
  }
  await run();
  expect(told()).toEqual(upTo(5));
});

test('what is written into a log that was just begun, between two looks of one run, is told once', async () => {
  writeFileSync(log(), '');
  const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
  const find = checkpoints.find.bind(checkpoints);
  let next = 0;
  checkpoints.find = (family, head) => {
    if (next < 4) appendFileSync(log(), line(next++));
    return find(family, head);
  };
  for (let i = 0; i < 6; i++) await ingestMainLog(mainLogFiles(log()), options(), checkpoints, emptyMainLogSummary());
  checkpoints.close();
  expect(told()).toEqual(upTo(4));
});

test('a log that is written while its beginning is looked at is known by what was read of it, and takes no line of the next', async () => {
  for (const seen of ['', lines(0, 1).slice(0, 5)]) {
    writeFileSync(log(), seen);
    const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
    const find = checkpoints.find.bind(checkpoints);
    checkpoints.find = (family, head) => {
      writeFileSync(log(), lines(0, 3));
      return find(family, head);
    };
    try {
      await ingestMainLog(mainLogFiles(log()), options(), checkpoints, emptyMainLogSummary());
    } finally {
      checkpoints.close();
    }
    expect(told()).toEqual(upTo(3));
    renameSync(log(), `${log()}.1`);
    writeFileSync(log(), lines(3, 7));
    expect(await run()).toMatchObject({ log_lines: 4, log_bad: 0 });
    expect(told()).toEqual(upTo(7));
    for (const name of ['log.sqlite', 'logs/ckpool.log', 'logs/ckpool.log.1']) rmSync(join(dir.path, name));
    sessions = [];
  }
});

test('a broken pack is named, and the others are read', async () => {
  writeFileSync(`${log()}.2.gz`, gzipSync(lines(0, 2000)).subarray(0, 2000));
  writeFileSync(`${log()}.1`, lines(2000, 2002));
  expect(await run()).toMatchObject({ log_bad: 1 });
  expect(bad[0]!.reason).toContain('cannot be unpacked');
  expect(told().slice(-2)).toEqual([2000, 2001]);
});

test('what stands before the damage of a pack is told, once, and a link to nowhere is named', async () => {
  writeFileSync(`${log()}.3.zst`, Buffer.concat([zstdCompressSync(lines(0, 2)), Buffer.from('garbage')]));
  const packed = gzipSync(lines(2, 2000));
  writeFileSync(`${log()}.2.gz`, packed.subarray(0, packed.length - 9));
  symlinkSync('nowhere', `${log()}.1`);
  for (const runs of [1, 2]) {
    expect(await run()).toMatchObject({ log_bad: 3, log_lines: runs === 1 ? 2000 : 0 });
    expect(bad.map(({ path, reason }) => [path.slice(logDir.length + 1), reason.split(':')[0]])).toEqual([
      ['ckpool.log.3.zst', 'cannot be unpacked'],
      ['ckpool.log.2.gz', 'cannot be unpacked'],
      ['ckpool.log.1', 'is not there'],
    ]);
    bad.length = 0;
  }
  expect(told()).toEqual(upTo(2000));
});

test('an endless line and one of another program stop nothing', async () => {
  writeFileSync(log(), `${line(0)}${'x'.repeat(300_000)}\n${line(1)}garbage\n${line(2)}`);
  expect(await run()).toMatchObject({ log_lines: 5, log_bad: 2, statuses: 3 });
  expect(bad.map(({ line: at }) => at)).toEqual([2, 4]);
  // As any other line that is not taken in, they are events, so that dead_letters can be rebuilt.
  expect(letters).toMatchObject([
    { origin: 'ckpool', path: `${log()} (from 2026-11-22 06:00:00.000)`, line: 2, size_bytes: 300_000, bytes_hex: '' },
    {
      origin: 'ckpool',
      path: `${log()} (from 2026-11-22 06:00:00.000)`,
      line: 4,
      reason: 'no time stamp',
      bytes_hex: Buffer.from('garbage').toString('hex'),
    },
  ]);
});

test("a bad line has its own letter, whatever its log's name was and is, and the same one when it is read again", async () => {
  const keys = (): string[] =>
    letters.map((letter) => eventKey('quarantine', letter, { instance: 'test', run: '', sequence: 0 }));
  writeFileSync(log(), `${line(0)}bad\n`);
  await run();
  renameSync(log(), `${log()}.1`);
  writeFileSync(log(), `${line(2)}bad\n`);
  await run();
  expect(new Set(keys()).size).toBe(2);
  rmSync(join(dir.path, 'log.sqlite'));
  await run();
  expect(letters.length).toBe(4);
  expect(new Set(keys()).size).toBe(2);
  expect(bad.at(-1)).toMatchObject({ path: log(), line: 2 });
});

test('a dry run writes and remembers nothing', async () => {
  writeFileSync(log(), lines(0, 5));
  expect(await run({ dryRun: true })).toMatchObject({ log_lines: 5, statuses: 5 });
  expect(sessions).toEqual([]);
  expect(await run()).toMatchObject({ log_lines: 5 });
});

test('the recorded rotation: what one log would tell, from three files, one read while it was the newest', async () => {
  const files = ['ckpool.log.2', 'ckpool.log.1', 'ckpool.log'].map((name) =>
    readFileSync(join(fixtures, 'rotation', name), 'utf8'),
  );
  writeFileSync(log(), files.join(''));
  await run();
  const whole = JSON.stringify([sessions, blocks]);
  expect(blocks).toHaveLength(2);
  rmSync(join(dir.path, 'log.sqlite'));
  sessions = [];
  blocks = [];
  // First the oldest alone, up to the middle of a line.
  writeFileSync(log(), files[0]!.slice(0, 5_001));
  await run();
  appendFileSync(log(), files[0]!.slice(5_001));
  renameSync(log(), `${log()}.1`);
  writeFileSync(log(), files[1]!);
  await run();
  renameSync(`${log()}.1`, `${log()}.2`);
  renameSync(log(), `${log()}.1`);
  writeFileSync(log(), files[2]!);
  await run();
  expect(JSON.stringify([sessions, blocks])).toBe(whole);
  expect(bad).toEqual([]);
});

test('a log of another time zone is told right, and named once for each file', async () => {
  for (const name of ['ckpool.log', 'ckpool.log.1', 'ckpool.log.2'])
    copyFileSync(join(fixtures, 'rotation', name), join(logDir, name));
  await run();
  const right = JSON.stringify([sessions, blocks]);
  sessions = [];
  blocks = [];
  rmSync(join(dir.path, 'log.sqlite'));
  await run({ zone: new Zone('Asia/Kathmandu') });
  expect(JSON.stringify([sessions, blocks])).toBe(right);
  expect(bad.map(({ reason }) => reason.slice(0, 24))).toEqual(Array(3).fill('its stamps lie 5.75 h be'));
});

test('a doubled hour that a rotation parts is told apart by the log before', async () => {
  const user = (clock: string): string => `[2026-10-25 ${clock}.000] User a:{"hashrate1m":"1G"}\n`;
  writeFileSync(`${log()}.1`, user('02:58:00') + user('02:59:30'));
  writeFileSync(log(), user('02:00:30') + user('02:30:00') + user('03:00:00'));
  await run({ zone: new Zone('Europe/Berlin') });
  expect(sessions.map(({ time_us }) => new Date(time_us / 1000).toISOString().slice(11, 19))).toEqual([
    '00:58:00',
    '00:59:30',
    '01:00:30',
    '01:30:00',
    '02:00:00',
  ]);
});

describe('blocks', () => {
  test('of a recorded tree have what the share logs add', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    await run();
    expect(blocks.map(({ height, hash }) => [height, hash])).toEqual([
      [111, '000000005e323c53021b7bafc448cb13f29aae151539d6dec36aa583a1b25e1b'],
      [112, '00000000bded2ee9d4ce2f5a6c7f6b1a68fb251237b2da8278946dcc07ecfcef'],
      [114, '000000002a1c07bb4db46970667372043e0b80e5a3055eb4751d080e3feffc03'],
    ]);
    for (const block of blocks) {
      expect(block).toMatchObject({
        kind: 'solved',
        source: 'backfill',
        chain: 'regtest',
        origin: 'ckpool',
        diff: 0.001,
        user: 'bcrt1qvsrmgzymucl6hy33nr2cph5skv2xlqc93tg694',
      });
      expect(block.job_id).toMatch(/^[0-9a-f]{16}$/);
      expect(block.block_time_us).toBeGreaterThan(1_795_327_000_000_000);
      expect(block.answers).toMatchObject([{ node: 'localhost:19445', answer: 'accepted' }]);
    }
  });

  test('that the node refused get their hash from the share logs', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    const stamp = '[2026-11-22 06:09:19.673]';
    writeFileSync(
      log(),
      [
        'Possible block solve diff 2.717689 !',
        'SUBMIT BLOCK RETURNED: high-hash',
        'Submitted, but had block 111 rejected',
      ]
        .map((text) => `${stamp} ${text}\n`)
        .join(''),
    );
    await run();
    expect(blocks).toMatchObject([
      {
        height: 111,
        hash: '000000005e323c53021b7bafc448cb13f29aae151539d6dec36aa583a1b25e1b',
        answers: [{ answer: 'high-hash' }],
      },
    ]);
  });

  test('have what a share log in several packs adds', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    for (const name of readdirSync(join(logDir, '0000006f'))) {
      const path = join(logDir, '0000006f', name);
      const pieces = readFileSync(path, 'utf8').split(/(?<=\n)/);
      writeFileSync(`${path}.zst`, Buffer.concat(['', ...pieces].map((text) => zstdCompressSync(text))));
      rmSync(path);
    }
    await run();
    expect(blocks.find(({ height }) => height === 111)!.job_id).not.toBe('');
  });

  test('of a chain with another proof of work are named, since logs have its hash and not that of the block', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    expect(await run({ chain: { name: 'litecoin', pow: 'scrypt' } })).toMatchObject({ blocks: 0, log_bad: 3 });
    expect(bad[0]!.reason).toContain('on a scrypt chain');
  });

  test('are told where their folder has a pipe, or is none', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    execFileSync('mkfifo', [join(logDir, '0000006f', '0000000000000000.sharelog')]);
    rmSync(join(logDir, '00000070'), { recursive: true });
    writeFileSync(join(logDir, '00000070'), '');
    expect(await run()).toMatchObject({ blocks: 3, log_bad: 0 });
    expect(blocks.map(({ height, job_id }) => [height, job_id !== ''])).toEqual([
      [111, true],
      [112, false],
      [114, true],
    ]);
    expect(bad.map(({ path, reason }) => [path, reason])).toEqual([
      [join(logDir, '00000070'), expect.stringContaining('only the main log is asked: ENOTDIR')],
    ]);
    expect(await run()).toMatchObject({ blocks: 0, log_lines: 0 });
  });

  test('of a pool that was shut down behind its last one are told when the log has ended, once', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    const lines = readFileSync(log(), 'utf8').split('\n');
    const solved = lines.findIndex((each) => each.includes('Solved and confirmed block 114'));
    // The last tip line is not there: the block's hash stands in the share log alone.
    const text = `${lines.slice(0, solved + 1).join('\n')}\n`.replace(/^.* (?:ZMQ|Block) .*000000002a1c07bb.*\n/gm, '');
    writeFileSync(log(), text);
    expect(await run()).toMatchObject({ blocks: 2 });
    const long = new Date(Date.now() - 3_600_000);
    utimesSync(log(), long, long);
    expect(await run()).toMatchObject({ blocks: 1, log_lines: 0 });
    expect(blocks.at(-1)).toMatchObject({
      height: 114,
      hash: '000000002a1c07bb4db46970667372043e0b80e5a3055eb4751d080e3feffc03',
    });
    expect(await run()).toMatchObject({ blocks: 0, log_files_unchanged: 1 });
  });

  test('that a rotation parts from their tip wait for the next log, also where it is read alone', async () => {
    cpSync(join(fixtures, 'regtest-rejects/logs'), logDir, { recursive: true });
    for (const name of readdirSync(logDir))
      if (/^[0-9a-f]{8}$/.test(name)) rmSync(join(logDir, name), { recursive: true });
    const lines = readFileSync(log(), 'utf8').split('\n');
    const tip = lines.findIndex((each) => each.includes('000000002a1c07bb'));
    writeFileSync(`${log()}.1`, `${lines.slice(0, tip).join('\n')}\n`);
    writeFileSync(log(), lines.slice(tip).join('\n'));
    const long = new Date(Date.now() - 3_600_000);
    for (const path of [log(), `${log()}.1`]) utimesSync(path, long, long);
    expect(await run({}, () => [mainLogOf(`${log()}.1`)!])).toMatchObject({ log_bad: 0 });
    expect(await run()).toMatchObject({ log_bad: 0 });
    expect(blocks.map(({ height }) => height)).toEqual([111, 112, 114]);
  });

  test('whose hash nobody tells are named', async () => {
    writeFileSync(
      log(),
      ['Possible block solve diff 2.717689 !', 'Submitted, but had block 111 rejected']
        .map((text) => `[2026-11-22 06:09:19.673] ${text}\n`)
        .join(''),
    );
    expect(await run()).toMatchObject({ blocks: 0, log_bad: 1 });
    expect(bad[0]!.reason).toContain('tell its hash');
  });
});

describe('status files', () => {
  const status = (): MainLogSummary => {
    const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
    const summary = emptyMainLogSummary();
    ingestStatusFiles(options(), checkpoints, summary);
    checkpoints.close();
    return summary;
  };

  test('of the recorded trees are rows, those of a state once', () => {
    cpSync(join(fixtures, 'testnet-shares/logs'), logDir, { recursive: true });
    const first = status();
    expect(bad).toEqual([]);
    expect(first.status_files).toBe(1 + readdirSync(join(logDir, 'users')).length);
    const pool = sessions.filter(({ pool_status }) => pool_status![0]!.scope === 'pool');
    expect(pool).toMatchObject([
      {
        time_us: 1_795_328_857_000_000,
        pool_status: [{ source: 'status', hashrate_1h: '2.14M', accepted_count: 25_741, rejected_count: 8 }],
      },
    ]);
    expect(sessions.filter(({ worker }) => worker === 'mv8C9mNWz2NssqBsgG5NX1QKDMyDKBpAK1.rig1')).toMatchObject([
      { user: 'mv8C9mNWz2NssqBsgG5NX1QKDMyDKBpAK1', pool_status: [{ scope: 'worker' }] },
    ]);
    const count = sessions.length;
    expect(status()).toMatchObject({ statuses: 0 });
    expect(sessions).toHaveLength(count);
    writeFileSync(join(logDir, 'users/plainname'), '{\n "hashrate1m": "1K", "lastshare": 1795328857, "shares": 3\n}\n');
    expect(status()).toMatchObject({ statuses: 1 });
  });

  test('of old CKPools and of ours have the names of their files, and the time of their last change', () => {
    for (const folder of ['users', 'workers']) mkdirSync(join(logDir, folder));
    // CKPool 0.9.4: one line, and `lastupdate` is the last share's time.
    writeFileSync(
      join(logDir, 'workers/alice.rig1'),
      '{"hashrate1m": "1.62G", "lastupdate": 1495327661, "shares": 84, "bestshare": 231.5}\n',
    );
    writeFileSync(join(logDir, 'users/gr%c3%bc%2fn'), '{"hashrate1m": "3G"}\n');
    writeFileSync(
      join(logDir, `users/${'x'.repeat(100)}%~0123456789abcdef`),
      '{"worker": [{"workername": "long.rig", "hashrate1m": "1G"}]}\n',
    );
    for (const name of ['workers/alice.rig1', 'users/gr%c3%bc%2fn'])
      utimesSync(join(logDir, name), 1_600_000_000, 1_600_000_000);
    expect(status()).toMatchObject({ status_files: 3, statuses: 3, log_bad: 0 });
    expect(sessions.map(({ user, worker }) => [user, worker])).toEqual([
      ['grü/n', ''],
      ['long', 'long.rig'],
      ['alice', 'alice.rig1'],
    ]);
    expect(sessions[2]).toMatchObject({
      time_us: 1_600_000_000_000_000,
      pool_status: [{ last_share_us: 1_495_327_661_000_000, accepted_diff: 84 }],
    });
  });

  test('whose folder cannot be listed are named', () => {
    symlinkSync('users', join(logDir, 'users'));
    expect(status()).toMatchObject({ statuses: 0, log_bad: 1 });
    expect(letters).toMatchObject([{ path: join(logDir, 'users'), reason: expect.stringContaining('ELOOP') }]);
  });

  test('half written are named, and read when they are whole', () => {
    mkdirSync(join(logDir, 'pool'));
    const text = readFileSync(join(fixtures, 'testnet-shares/logs/pool/pool.status'), 'utf8');
    const two = text.lastIndexOf('\n', text.length - 2) + 1;
    for (const length of [300, text.indexOf('\n') + 1, two]) {
      writeFileSync(join(logDir, 'pool/pool.status'), text.slice(0, length));
      expect(status(), `${length} bytes`).toMatchObject({ statuses: 0, log_bad: 1 });
    }
    writeFileSync(join(logDir, 'pool/pool.status'), text);
    expect(status()).toMatchObject({ statuses: 1, log_bad: 0 });
  });
});
