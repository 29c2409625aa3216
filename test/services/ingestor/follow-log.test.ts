/** `ingest --follow` on a main log: what a rotation does to it while it is followed, and what it must not say again at each look. */
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { PoolError } from '../../../services/core/errors.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { MainLogCheckpoints } from '../../../services/ingestor/ckpool-log-checkpoints.ts';
import { ingestMainLog } from '../../../services/ingestor/ckpool-log-files.ts';
import { mainLogFiles } from '../../../services/ingestor/ckpool-log-names.ts';
import { emptyMainLogSummary, type MainLogSummary } from '../../../services/ingestor/ckpool-log-reading.ts';
import { Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import { followMainLogs, type MainLogWork } from '../../../services/ingestor/follow-log.ts';
import type { BadLine } from '../../../services/ingestor/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';

const recorded = fileURLToPath(new URL('../../fixtures/ckpool/regtest-rejects/logs', import.meta.url));
const LOOK_MS = 10;

let dir: { path: string; remove(): void };
let logDir: string;
let users: string[];
let blocks: Inputs['block'][];
let bad: BadLine[];
let passes: MainLogSummary[];
let said: string[];
beforeEach(() => {
  dir = tempDir('follow-log');
  logDir = join(dir.path, 'logs');
  mkdirSync(logDir);
  [users, blocks, bad, passes, said] = [[], [], [], [], []];
});
afterEach(() => dir.remove());

const log = (): string => join(logDir, 'ckpool.log');
const line = (n: number): string =>
  `[2026-11-22 06:${String(Math.floor(n / 60)).padStart(2, '0')}:${String(n % 60).padStart(2, '0')}.000] User u${n}:{"hashrate1m":"1G"}\n`;
const told = (...numbers: number[]): Promise<unknown> =>
  until(
    () => `users ${numbers}, are ${users}`,
    () => users.join() === numbers.map((n) => `u${n}`).join(),
    { everyMs: 5 },
  );

function open(): MainLogWork {
  const checkpoints = new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
  const journal = {
    append(entries) {
      for (const { topic, event } of entries) {
        if (topic === 'session') users.push((event as Inputs['session']).user!);
        if (topic === 'block') blocks.push(event as Inputs['block']);
      }
    },
  } as JournalWriter;
  return {
    async pass() {
      const summary = emptyMainLogSummary();
      const options = {
        ...{ origin: 'ckpool', instance: 'test', zone: new Zone('UTC'), logDir, dryRun: false },
        chain: { name: 'regtest', pow: 'sha256d' },
        onBad: (each: BadLine) => bad.push(each),
        openJournal: () => journal,
      };
      await ingestMainLog(mainLogFiles(log()), options, checkpoints, summary);
      return summary;
    },
    files: () => mainLogFiles(log()).map(({ path }) => path),
    close: () => checkpoints.close(),
  };
}

async function following(work: () => Promise<void>, opener = open): Promise<void> {
  const stopping = new AbortController();
  const running = followMainLogs({
    ...{ logDir, signal: stopping.signal, open: opener, lookMs: LOOK_MS },
    log: (text) => said.push(text),
    onPass: (summary) => passes.push(summary),
  });
  try {
    await Promise.race([work(), running]);
  } finally {
    stopping.abort();
    await running;
  }
}

test('lines come in as they are written: amid a line, over a rotation that the pool notices late, and over its packing, each once', async () => {
  await following(async () => {
    writeFileSync(log(), line(0));
    await told(0);
    appendFileSync(log(), line(1).slice(0, 30));
    appendFileSync(log(), line(1).slice(30));
    await told(0, 1);
    renameSync(log(), `${log()}.1`);
    writeFileSync(log(), '');
    // CKPool writes into the renamed file for a minute.
    appendFileSync(`${log()}.1`, line(2));
    await told(0, 1, 2);
    appendFileSync(log(), line(3));
    await told(0, 1, 2, 3);
    renameSync(`${log()}.1`, `${log()}.2`);
    renameSync(log(), `${log()}.1`);
    writeFileSync(log(), line(4));
    const packed = gzipSync(readFileSync(`${log()}.2`));
    // As far as gzip has come when it is looked at.
    writeFileSync(`${log()}.2.gz`, packed.subarray(0, packed.length - 9));
    await told(0, 1, 2, 3, 4);
    writeFileSync(`${log()}.2.gz`, packed);
    rmSync(`${log()}.2`);
    appendFileSync(log(), line(5));
    await told(0, 1, 2, 3, 4, 5);
  });
  expect(bad).toEqual([]);
  expect(passes.reduce((sum, { statuses }) => sum + statuses, 0)).toBe(6);
});

test('the blocks of a recorded tree are told while its log grows, as one run tells them', async () => {
  cpSync(recorded, logDir, { recursive: true });
  const whole = open();
  await whole.pass(true);
  whole.close();
  const [wholeBlocks, wholeUsers] = [blocks, users];
  expect(wholeBlocks.length).toBe(3);
  [blocks, users] = [[], []];
  const text = readFileSync(log());
  rmSync(join(dir.path, 'log.sqlite'));
  rmSync(log());
  await following(async () => {
    const cuts = [0, 1, 2, 3, 4, 5].map((n) => Math.floor((text.length * n) / 5));
    for (const [i, cut] of cuts.slice(1).entries()) {
      const before = users.length;
      appendFileSync(log(), text.subarray(cuts[i], cut));
      await until('rows of this piece', () => users.length > before, { everyMs: 5 });
    }
    await until('all', () => users.length >= wholeUsers.length && blocks.length >= 3, { everyMs: 5 });
  });
  expect(blocks).toEqual(wholeBlocks);
  expect(users).toEqual(wholeUsers);
});

test('a log that cannot be read is named once, not at each look', async () => {
  mkdirSync(`${log()}.1`);
  writeFileSync(`${log()}.2.gz`, gzipSync('x'.repeat(9999)).subarray(0, 30));
  await following(async () => {
    for (let n = 0; n < 3; n++) {
      appendFileSync(log(), line(n));
      await told(...Array.from({ length: n + 1 }, (_, i) => i));
    }
  });
  expect(bad.map(({ path }) => path)).toEqual([`${log()}.2.gz`, `${log()}.1`]);
});

test('a loop of links beside the log is named once, and ends nothing', async () => {
  symlinkSync('ckpool.log.1', `${log()}.1`);
  // A date beside a number: the times of both decide their order.
  symlinkSync('ckpool.log-20261121', `${log()}-20261121`);
  await following(async () => {
    for (let n = 0; n < 3; n++) {
      appendFileSync(log(), line(n));
      await told(...Array.from({ length: n + 1 }, (_, i) => i));
    }
  });
  expect(bad.map(({ path }) => path).sort()).toEqual([`${log()}-20261121`, `${log()}.1`]);
});

test('the copy that copytruncate is making is no log that lost its end; one that stays so is named once', async () => {
  const many = Array.from({ length: 100 }, (_, n) => n);
  const before = many.map(line).join('');
  const copy = `${log()}.1`;
  let more = 100;
  const oneMore = async (): Promise<void> => {
    appendFileSync(log(), line(more));
    more += 1;
    await until('told', () => users.length === more, { everyMs: 5 });
  };
  writeFileSync(log(), before);
  await following(async () => {
    await until('told', () => users.length === 100, { everyMs: 5 });
    for (const bytes of [5_000, 6_000]) {
      writeFileSync(copy, before.slice(0, bytes));
      await oneMore();
    }
    expect(bad).toEqual([]);
    // The copy was cut short, and long ago; then it grows again.
    for (const bytes of [5_000, 6_000]) {
      writeFileSync(copy, before.slice(0, bytes));
      utimesSync(copy, 1_700_000_000, 1_700_000_000 + bytes);
      await oneMore();
      await oneMore();
    }
    expect(bad.map(({ path }) => path)).toEqual([copy]);
    writeFileSync(copy, readFileSync(log()));
    truncateSync(log());
    await oneMore();
  });
  expect(users).toEqual(Array.from({ length: more }, (_, n) => `u${n}`));
  expect(bad.map(({ reason }) => reason)).toEqual([expect.stringMatching(/^5000 bytes long, but \d+ were read/)]);
});

test('who reads the logs already is waited for, and named once', async () => {
  writeFileSync(log(), line(0));
  let tries = 0;
  await following(
    async () => {
      await told(0);
    },
    () => {
      if (++tries < 4) throw new PoolError('held', 'ingest of the main logs is held by pid 7');
      return open();
    },
  );
  expect(said).toEqual([expect.stringMatching(/held by pid 7.*waited for/)]);
});
