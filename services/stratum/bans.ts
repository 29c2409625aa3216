/**
 * Who sends nothing but refused shares, line after line: three lines closed for it within ten minutes, and the pair of address and user stays out
 * for ten minutes. In memory alone: a restart forgets it. Where there are worker processes their parent counts and tells all of them. The clock
 * is handed in.
 *
 * A refusal alone, a line that only subscribes, or one that is closed for anything else never counts.
 */
import { clientKey } from './edge/limits.ts';

const CLOSES = 3;
const WITHIN_MS = 600_000;
const BAN_MS = 600_000;
/** Pairs in memory; the oldest are forgotten beyond. */
const PAIRS_LIMIT = 10_000;

interface Pair {
  readonly address: string;
  readonly user: string;
  /** When lines were closed, the newest last. */
  readonly closedMs: number[];
  untilMs: number;
}

export class Bans {
  readonly #nowMs: () => number;
  readonly #elsewhere: ((address: string, user: string) => void) | null;
  readonly #pairs = new Map<string, Pair>();
  #total = 0;

  /** @param elsewhere - who counts closed lines; null: this does */
  constructor(nowMs: () => number, elsewhere: ((address: string, user: string) => void) | null = null) {
    this.#nowMs = nowMs;
    this.#elsewhere = elsewhere;
  }

  /** A line of the pair was closed for its refused shares. @returns true where it is banned for it now */
  closed(address: string, user: string): boolean {
    if (this.#elsewhere !== null) {
      this.#elsewhere(address, user);
      return false;
    }
    const now = this.#nowMs();
    const pair = this.#last(address, user);
    while (pair.closedMs.length > 0 && now - pair.closedMs[0]! >= WITHIN_MS) pair.closedMs.shift();
    pair.closedMs.push(now);
    this.#forget(now);
    if (pair.closedMs.length < CLOSES) return false;
    pair.closedMs.length = 0;
    pair.untilMs = now + BAN_MS;
    this.#total += 1;
    return true;
  }

  /** Keeps a pair out for so long: what was counted elsewhere. */
  hold(address: string, user: string, forMs: number): void {
    const now = this.#nowMs();
    this.#last(address, user).untilMs = now + forMs;
    this.#forget(now);
  }

  /** The pair, put last: the map is in the order of what happened last. */
  #last(address: string, user: string): Pair {
    const key = keyOf(address, user);
    const pair = this.#pairs.get(key) ?? { address, user, closedMs: [], untilMs: 0 };
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    return pair;
  }

  /** How much longer the pair stays out, milliseconds; 0: it is let in. */
  leftMs(address: string, user: string): number {
    if (this.#pairs.size === 0) return 0;
    const untilMs = this.#pairs.get(keyOf(address, user))?.untilMs ?? 0;
    return Math.max(untilMs - this.#nowMs(), 0);
  }

  /** Pairs that are out now, and how much longer. */
  get all(): { readonly address: string; readonly user: string; readonly forMs: number }[] {
    const now = this.#nowMs();
    return [...this.#pairs.values()].flatMap(({ address, user, untilMs }) =>
      untilMs > now ? [{ address, user, forMs: untilMs - now }] : [],
    );
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

/** For the log. */
export function banText(address: string, user: string): string {
  return `${user} at ${address} is banned for a while: nothing but refused shares on three lines within ten minutes`;
}

function keyOf(address: string, user: string): string {
  return `${clientKey(address)} ${user}`;
}
