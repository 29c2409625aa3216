import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DataPaths, openDataDir } from '../../../services/core/data-dir.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { acquireLock } from '../../../services/core/lock.ts';
import { type HookRequest, type HookWork, leaveRequest, workRequests } from '../../../services/ingestor/hook.ts';
import { tempDir } from '../../helpers/leash.ts';

let dir: { path: string; remove(): void };
let paths: DataPaths;
let clockMs: number;
let runs: { words: readonly string[]; at: number }[];
let said: string[];
beforeEach(() => {
  dir = tempDir('hook');
  paths = openDataDir(join(dir.path, 'data'));
  clockMs = 1_795_327_600_000;
  runs = [];
  said = [];
});
afterEach(() => dir.remove());

const ask = (words: readonly string[] = ['--logdir', '/x'], settleS = 120): void =>
  leaveRequest(paths, { words, at_ms: clockMs, settle_ms: settleS * 1000 });
const left = (): string[] =>
  ['ingest-requests', 'ingest-running'].flatMap((name) => {
    try {
      return readdirSync(join(paths.state, name));
    } catch {
      return [];
    }
  });
const work = (
  during: (run: number, request: HookRequest) => void | Promise<void> = () => {},
  extra: Partial<HookWork> = {},
): Promise<number> =>
  workRequests(paths, {
    async run(request) {
      runs.push({ words: request.words, at: clockMs });
      await during(runs.length, request);
    },
    log: (line) => said.push(line),
    nowMs: () => clockMs,
    sleep: async (ms) => {
      clockMs += ms;
    },
    ...extra,
  });

test('a hook is worked at once, and once more 120 s after it', async () => {
  const begun = clockMs;
  ask();
  expect(await work()).toBe(2);
  expect(runs.map(({ at }) => at - begun)).toEqual([0, 120_000]);
  expect(left()).toEqual([]);
});

test('hooks that come while one runs are folded into one more run', async () => {
  ask(['a'], 0);
  await work((run) => {
    if (run !== 1) return;
    for (let i = 0; i < 10; i++) ask(['a'], 0);
  });
  expect(runs).toHaveLength(2);
  expect(left()).toEqual([]);
});

test('a hook that comes while the worker waits for 120 s is worked at once, and the wait begins anew', async () => {
  const begun = clockMs;
  ask();
  let asked = false;
  await work(() => {}, {
    sleep: async (ms) => {
      clockMs += ms;
      if (asked || clockMs - begun < 60_000) return;
      asked = true;
      ask();
    },
  });
  expect(runs.map(({ at }) => at - begun)).toEqual([0, 60_000, 180_000]);
});

test('hooks with other words are runs of their own', async () => {
  ask(['a'], 0);
  ask(['b'], 0);
  await work();
  expect(runs.map(({ words }) => words[0]).sort()).toEqual(['a', 'b']);
});

test('who comes while another works leaves it to that one, whenever it comes', async () => {
  ask(['a'], 0);
  await work(async (run) => {
    if (run > 1) return;
    ask(['a'], 0);
    expect(await work()).toBe(0);
  });
  expect(runs).toHaveLength(2);
  expect(left()).toEqual([]);
});

test('a worker that dies leaves its request to the next', async () => {
  ask(['a'], 0);
  await expect(work(() => Promise.reject(new Error('killed')))).rejects.toThrow('killed');
  expect(left()).toHaveLength(1);
  await work();
  expect(runs).toHaveLength(2);
  expect(left()).toEqual([]);
});

test('one that is stopped ends after the present run, and what it left is taken again', async () => {
  const stopping = new AbortController();
  ask(['a']);
  await work(() => stopping.abort(), { signal: stopping.signal });
  expect(runs).toHaveLength(1);
  expect(left()).toHaveLength(1);
  expect(await work()).toBe(2);
});

test('what passes by itself is tried again, anything else is not', async () => {
  ask(['a'], 0);
  await work((run) => {
    if (run < 3) throw new PoolError('disk', 'full');
  });
  expect(runs).toHaveLength(3);
  expect(said).toEqual([expect.stringContaining('full')]);
  ask(['a'], 0);
  await expect(work(() => Promise.reject(new PoolError('usage', 'what?')))).rejects.toThrow('what?');
  expect(runs).toHaveLength(4);
});

test('one that cannot be worked off keeps no other waiting, and is named', async () => {
  for (const words of [['a'], ['gone'], ['b']]) ask(words, 0);
  ask(['c']);
  const gone = (_: number, { words }: HookRequest): void => {
    if (words[0] === 'gone') throw new PoolError('usage', '/gone: there is no such directory');
  };
  await expect(work(gone)).rejects.toThrow('/gone: there is no such directory');
  expect(runs.map(({ words }) => words[0]).sort()).toEqual(['a', 'b', 'c', 'c', 'gone']);
  expect(left()).toHaveLength(1);
  expect(said).toEqual([expect.stringMatching(/no such directory.*stays for the next worker: .*ingest-running/)]);
  await work();
  expect(runs.at(-1)!.words).toEqual(['gone']);
  expect(left()).toEqual([]);
});

test('a folder that another process follows is left to it after 120 s', async () => {
  const begun = clockMs;
  ask();
  await work(() => {
    throw new PoolError('held', 'ingest of /x is held');
  });
  expect(clockMs - begun).toBe(120_000);
  expect(said.at(-1)).toContain('left to it');
  expect(left()).toEqual([]);
});

test('a clock that was set back keeps no request for ever', async () => {
  ask();
  clockMs -= 86_400_000;
  expect(await work()).toBe(1);
  expect(left()).toEqual([]);
});

test('what is no request is removed, and said', async () => {
  mkdirSync(join(paths.state, 'ingest-requests'));
  writeFileSync(join(paths.state, 'ingest-requests', 'x.json'), '{"words": 5}');
  expect(await work()).toBe(0);
  expect(said).toEqual([expect.stringContaining('no request')]);
  expect(left()).toEqual([]);
});

test('a lock that another process holds is no failure', async () => {
  ask();
  const lock = acquireLock(join(paths.state, 'ingest-hook.lock'), { waitMs: 0, what: 'x' });
  expect(await work()).toBe(0);
  lock.release();
  expect(await work()).toBe(2);
});
