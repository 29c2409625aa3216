/**
 * Waiting for a node that is down, refuses the password or still loads: a pool outlives its node. What is wrong is said once,
 * not at each try, and so is that it works again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { errorLine, PoolError } from '../errors.ts';
import type { Log } from '../lifecycle.ts';

export interface Patience {
  readonly log: Log;
  /** Ends the waiting: the promise rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** First pause, milliseconds; it doubles up to `maxPauseMs`. */
  readonly pauseMs?: number;
  readonly maxPauseMs?: number;
  /** Told what is wrong now, and null once the call went through. */
  readonly onProblem?: (line: string | null) => void;
}

/**
 * Calls `attempt` until it succeeds.
 *
 * @returns what it gave
 * @throws what it threw, where that is no PoolError or one that no retry mends; the signal's reason once it is aborted
 */
export async function patiently<T>(attempt: () => Promise<T>, patience: Patience): Promise<T> {
  const { log, signal, pauseMs = 250, maxPauseMs = 5_000, onProblem } = patience;
  let pause = pauseMs;
  let said: string | null = null;
  let node = false;
  for (;;) {
    signal.throwIfAborted();
    try {
      const value = await attempt();
      if (said !== null) {
        log(node ? 'the node answers again' : 'goes on again');
        onProblem?.(null);
      }
      return value;
    } catch (error) {
      if (signal.aborted || !(error instanceof PoolError) || !error.retry) throw error;
      const line = errorLine(error);
      node = error.code.startsWith('node_');
      if (line !== said) {
        log(`${line}; waiting`);
        onProblem?.(line);
        said = line;
      }
    }
    await delay(pause, undefined, { signal }).catch(() => {});
    pause = Math.min(pause * 2, maxPauseMs);
  }
}
