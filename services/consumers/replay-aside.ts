/**
 * Whose turn it is with ClickHouse's tables: the consumers, or a replay that swaps them.
 *
 *   replay:     holds turn.lock, makes consumers.aside, waits for consumers.lock … swaps … lets all go
 *   consumers:  see consumers.aside while turn.lock is held, end their work, let consumers.lock go, start again when turn.lock is free
 *
 * Locks end with their process: a replay that dies gives the turn back, and the file it left means nothing without the lock.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { acquireLock, type Lock } from '../core/lock.ts';
import { type ConsumerParts, startConsumers } from './main.ts';
import { pause } from './problems.ts';

const LOOK_MS = 100;
/** Consumers need a second or two: an insert under way is waited for. */
const ASIDE_MS = 30_000;

const turnLock = (paths: DataPaths): string => join(paths.state, 'turn.lock');
const request = (paths: DataPaths): string => join(paths.state, 'consumers.aside');

/** The lock, or null where it is held. */
function tryLock(path: string, what: string): Lock | null {
  try {
    return acquireLock(path, { waitMs: 0, what });
  } catch (error) {
    if (error instanceof PoolError && error.code === 'held') return null;
    throw error;
  }
}

/**
 * Asks the consumers of this data directory to step aside, and waits until they have. Where none run it is had at once.
 * @returns lets them go on
 * @throws PoolError held, naming the process, where they do not
 */
export async function takeTurn(paths: DataPaths, signal: AbortSignal, waitMs = ASIDE_MS): Promise<() => void> {
  const what = 'the state of the consumers';
  const end = performance.now() + waitMs;
  const held: Lock[] = [];
  const letGo = (): void => {
    rmSync(request(paths), { force: true });
    for (const lock of held.splice(0).reverse()) lock.release();
  };
  const wait = async (path: string): Promise<void> => {
    for (;;) {
      signal.throwIfAborted();
      const late = performance.now() > end;
      const lock = late ? acquireLock(path, { waitMs: 0, what }) : tryLock(path, what);
      if (lock !== null) {
        held.push(lock);
        return;
      }
      await pause(LOOK_MS, signal);
    }
  };
  try {
    await wait(turnLock(paths));
    writeFileSync(request(paths), `${process.pid}\n`);
    await wait(join(paths.state, 'consumers.lock'));
  } catch (error) {
    letGo();
    throw error;
  }
  return letGo;
}

/** Consumers that step aside when a replay asks, and start again after it. @throws as `startConsumers` */
export async function startConsumersAside(config: Config, life: Lifecycle, parts: ConsumerParts): Promise<void> {
  const paths = openDataDir(config.dataDir);
  const stopping = new AbortController();
  const closers: (() => Promise<void> | void)[] = [];
  const inner: Lifecycle = {
    ...life,
    onStop: (_what, close) => {
      closers.push(close);
    },
  };
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).reverse()) await each();
  };
  /** True while a replay that lives has the turn. */
  const asked = (): boolean => {
    if (!existsSync(request(paths))) return false;
    const lock = tryLock(turnLock(paths), 'the turn');
    if (lock === null) return true;
    // Whoever made it has died.
    rmSync(request(paths), { force: true });
    lock.release();
    return false;
  };
  const watch = async (): Promise<void> => {
    const { signal } = stopping;
    while (!signal.aborted) {
      await pause(LOOK_MS, signal);
      if (signal.aborted || !asked()) continue;
      life.log('a replay asks for the tables: stepping aside');
      await close();
      while (!signal.aborted && asked()) await pause(LOOK_MS, signal);
      if (signal.aborted) return;
      await startConsumers(config, inner, parts);
      life.log('the replay is done with the tables: going on');
    }
  };
  // Who starts while a replay has the tables waits, as one that runs does.
  while (!life.signal.aborted && asked()) await pause(LOOK_MS, life.signal);
  await startConsumers(config, inner, parts);
  const watching = watch().catch((error: unknown) => life.stop(error));
  life.onStop('consumers', async () => {
    stopping.abort();
    await watching;
    await close();
  });
}
