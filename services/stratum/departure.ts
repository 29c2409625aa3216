/**
 * Many lines asked to go: `client.reconnect` to one after the other, and the end of each a little later, for many miners ignore it. Spread over
 * a while, because the kernel's queue would refuse a farm that comes back at once.
 *
 *   the control command `reconnect` (control-target.ts), a worker that retires (worker.ts) → here → session.ts
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Session } from './session.ts';

const STEP_MS = 50;

/** How lines are asked to go. */
export interface Departure {
  /** Where the client is sent; absent: back to where it is. */
  readonly to?: { readonly host: string; readonly port: number };
  /** From client.reconnect to the end of the line: shares on their way are taken until then. */
  readonly graceMs: number;
  /** Of the end. */
  readonly reason: string;
}

/** Asks one line to go. */
export function askToGo(session: Session, { to, graceMs, reason }: Departure): void {
  session.reconnect(to);
  setTimeout(() => session.end(reason), graceMs).unref();
}

/**
 * Asks lines to go, in equal parts.
 *
 * @param overMs - until the last is asked; 0: all are asked before this returns
 * @returns when the last has been asked
 */
export async function askAllToGo(sessions: Iterable<Session>, overMs: number, departure: Departure): Promise<void> {
  const all = [...sessions];
  const begun = performance.now();
  for (let next = 0; next < all.length; ) {
    const due = Math.ceil((all.length * (performance.now() - begun + STEP_MS)) / overMs);
    for (; next < Math.min(due, all.length); next++) {
      const session = all[next]!;
      if (!session.connection.closed) askToGo(session, departure);
    }
    if (next < all.length) await delay(STEP_MS, undefined, { ref: false });
  }
}
