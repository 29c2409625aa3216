/**
 * The postrotate hook of logrotate: `ingest --hook` leaves a request and returns; the reading is done by one worker beside it.
 *
 *   logrotate (root) ─┬ systemd: restarts lodestream-ingest.service, as ckpool: ingest --hook --foreground
 *                     └ else: runuser -u ckpool: ingest --hook, which starts a process beside and returns
 *        both ──► state/ingest-requests/<digest>.json ──► one worker takes all ─► ingest ─► … 120 s after the rotation once more
 *
 * Requests of the same words have one file, so hooks that come while the worker reads are folded into one more run. A request is moved to
 * `state/ingest-running` when it is taken, and removed when its last run ended: one that a kill interrupted is taken again.
 */
import { hash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DataPaths } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { acquireLock, type Lock } from '../core/lock.ts';

export interface HookRequest {
  /** Words of `ingest`, without `--hook`, paths absolute. */
  readonly words: readonly string[];
  /** When the hook was called, milliseconds since 1970. */
  readonly at_ms: number;
  /** For how long after that the rotated log may still be written. */
  readonly settle_ms: number;
}

export interface HookWork {
  /** Reads what is new for one request. @throws what ingest throws */
  run(request: HookRequest): Promise<void>;
  log(line: string): void;
  /** Ends after the present run; what is left stays for the next worker. */
  readonly signal?: AbortSignal;
  /** For tests. */
  readonly nowMs?: () => number;
  readonly sleep?: (ms: number) => Promise<void>;
}

/** How often the worker looks for new requests while it waits. */
const LOOK_MS = 500;
/** What may pass by itself (another ingest holds the folder) is tried again so often, and for so long. */
const RETRY_MS = 5_000;
const RETRIES = 120;

const requestsDir = (paths: DataPaths): string => join(paths.state, 'ingest-requests');
const runningDir = (paths: DataPaths): string => join(paths.state, 'ingest-running');

/**
 * Leaves a request.
 * @throws PoolError data_dir
 */
export function leaveRequest(paths: DataPaths, request: HookRequest): void {
  const name = `${hash('sha256', JSON.stringify(request.words), 'hex').slice(0, 16)}.json`;
  // Written beside and renamed: nobody meets half of one, and the folder is not empty only where there is something to do.
  const temporary = join(paths.state, `.${name}.${randomBytes(6).toString('hex')}`);
  try {
    mkdirSync(requestsDir(paths), { recursive: true, mode: 0o750 });
    writeFileSync(temporary, `${JSON.stringify(request)}\n`, { mode: 0o640 });
    renameSync(temporary, join(requestsDir(paths), name));
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new PoolError(
      'data_dir',
      `cannot leave a request for ingest in ${requestsDir(paths)}: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir).filter((name) => name.endsWith('.json'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function requestIn(path: string): HookRequest | null {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Partial<HookRequest>;
    const whole =
      Array.isArray(value.words) &&
      value.words.every((word) => typeof word === 'string') &&
      Number.isFinite(value.at_ms) &&
      Number.isFinite(value.settle_ms);
    return whole ? (value as HookRequest) : null;
  } catch {
    return null;
  }
}

/**
 * Works off requests until there are none; returns at once where another worker does.
 *
 * @returns number of runs
 * @throws what ingest throws where that does not pass by itself, when the others are done; the request stays for the next worker
 */
export async function workRequests(paths: DataPaths, work: HookWork): Promise<number> {
  let runs = 0;
  for (;;) {
    let lock: Lock;
    try {
      lock = acquireLock(join(paths.state, 'ingest-hook.lock'), { waitMs: 0, what: 'the work of ingest --hook' });
    } catch (error) {
      // It looks once more after it has let go, so what is left now is seen.
      if (error instanceof PoolError && error.code === 'held') return runs;
      throw error;
    }
    try {
      runs += await drain(paths, work);
    } finally {
      lock.release();
    }
    if (work.signal?.aborted === true || names(requestsDir(paths)).length === 0) return runs;
  }
}

async function drain(paths: DataPaths, work: HookWork): Promise<number> {
  const nowMs = work.nowMs ?? Date.now;
  const sleep = work.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  const taken = new Map<string, HookRequest>();
  /** What cannot be worked off: when it was asked. It must not keep the others waiting, of another folder perhaps. */
  const failed = new Map<string, number>();
  let failure: unknown;
  mkdirSync(runningDir(paths), { recursive: true, mode: 0o750 });
  /** @returns the names of what is new */
  const take = (): string[] => {
    for (const name of names(requestsDir(paths)))
      renameSync(join(requestsDir(paths), name), join(runningDir(paths), name));
    const found: string[] = [];
    for (const name of names(runningDir(paths))) {
      const request = requestIn(join(runningDir(paths), name));
      if (request === null) {
        work.log(`${join(runningDir(paths), name)} is no request of ingest --hook, and is removed`);
        rmSync(join(runningDir(paths), name), { force: true });
      } else if ((taken.get(name)?.at_ms ?? failed.get(name)) !== request.at_ms) {
        taken.set(name, request);
        found.push(name);
      }
    }
    return found;
  };
  let runs = 0;
  const stopped = (): boolean => work.signal?.aborted === true;
  const run = async (name: string): Promise<void> => {
    try {
      await runOne(name);
    } catch (error) {
      failure ??= error;
      failed.set(name, taken.get(name)!.at_ms);
      taken.delete(name);
      work.log(`${errorLine(error)}; the request stays for the next worker: ${join(runningDir(paths), name)}`);
    }
  };
  const runOne = async (name: string): Promise<void> => {
    const request = taken.get(name)!;
    const begunMs = nowMs();
    for (let tries = 1; ; tries++) {
      try {
        await work.run(request);
        break;
      } catch (error) {
        if (stopped()) return;
        if (!(error instanceof PoolError) || !error.retry) throw error;
        // Who follows the folder holds it for ever, and reads what is new in it itself.
        if (error.code === 'held' && nowMs() - request.at_ms >= request.settle_ms) {
          work.log(`${errorLine(error)}, and is left to it`);
          break;
        }
        if (tries >= RETRIES) throw error;
        if (tries === 1) work.log(`${errorLine(error)}; tried again`);
        await sleep(RETRY_MS);
      }
    }
    // Stopped half-way, perhaps.
    if (stopped()) return;
    runs += 1;
    // A clock that was set back must not keep it for ever.
    const age = begunMs - request.at_ms;
    if (age < request.settle_ms && age >= 0) return;
    taken.delete(name);
    // One of the same words may have come meanwhile; it lies among the requests and is taken next.
    rmSync(join(runningDir(paths), name), { force: true });
  };
  for (let fresh = take(); ; fresh = take()) {
    for (const name of fresh) if (!stopped()) await run(name);
    if (stopped()) return runs;
    if (taken.size === 0) {
      if (names(requestsDir(paths)).length > 0) continue;
      if (failed.size > 0) throw failure;
      return runs;
    }
    const dueMs = Math.min(...[...taken.values()].map(({ at_ms, settle_ms }) => at_ms + settle_ms));
    while (!stopped() && nowMs() < dueMs && names(requestsDir(paths)).length === 0)
      await sleep(Math.min(LOOK_MS, dueMs - nowMs()));
    for (const [name, { at_ms, settle_ms }] of [...taken])
      if (!stopped() && nowMs() >= at_ms + settle_ms) await run(name);
  }
}
