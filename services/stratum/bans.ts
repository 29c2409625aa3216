/**
 * Who sends nothing but refused shares, line after line: three lines closed for it within ten minutes, and the pair of address and user stays out
 * for ten minutes. In memory alone: a restart forgets it, and each worker process counts for itself. The clock is handed in.
 *
 * A refusal alone, a line that only subscribes, or one that is closed for anything else never counts.
 */
import { clientKey } from './limits.ts';

const CLOSES = 3;
const WITHIN_MS = 600_000;
const BAN_MS = 600_000;
/** Pairs in memory; the oldest are forgotten beyond. */
const PAIRS_LIMIT = 10_000;

interface Pair {
  /** When lines were closed, the newest last. */
  readonly closedMs: number[];
  untilMs: number;
}

export class Bans {
  readonly #nowMs: () => number;
  readonly #pairs = new Map<string, Pair>();
  #total = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** A line of the pair was closed for its refused shares. @returns true where it is banned for it now */
  closed(address: string, user: string): boolean {
    const now = this.#nowMs();
    const key = keyOf(address, user);
    const pair = this.#pairs.get(key) ?? { closedMs: [], untilMs: 0 };
    // Put last: the map is in the order of what happened last.
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    while (pair.closedMs.length > 0 && now - pair.closedMs[0]! >= WITHIN_MS) pair.closedMs.shift();
    pair.closedMs.push(now);
    this.#forget(now);
    if (pair.closedMs.length < CLOSES) return false;
    pair.closedMs.length = 0;
    pair.untilMs = now + BAN_MS;
    this.#total += 1;
    return true;
  }

  /** How much longer the pair stays out, milliseconds; 0: it is let in. */
  leftMs(address: string, user: string): number {
    if (this.#pairs.size === 0) return 0;
    const untilMs = this.#pairs.get(keyOf(address, user))?.untilMs ?? 0;
    return Math.max(untilMs - this.#nowMs(), 0);
  }

  /** Pairs that are out now. */
  get active(): number {
    const now = this.#nowMs();
    let active = 0;
    for (const { untilMs } of this.#pairs.values()) if (untilMs > now) active += 1;
    return active;
  }

  /** Bans since the start. */
  get total(): number {
    return this.#total;
  }

  #forget(now: number): void {
    for (const [key, { closedMs, untilMs }] of this.#pairs) {
      const over = untilMs <= now && now - (closedMs.at(-1) ?? 0) >= WITHIN_MS;
      if (!over && this.#pairs.size <= PAIRS_LIMIT) break;
      this.#pairs.delete(key);
    }
  }
}

function keyOf(address: string, user: string): string {
  return `${clientKey(address)} ${user}`;
}
