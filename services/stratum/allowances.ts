/**
 * What all lines of one address may write and keep before it has brought work: events, lines of the main log, further names on a line. Without
 * it one address could fill the disk with lines that come and go, refused shares, wishes and names.
 * Between daemon.ts, which asks, and the journal, the main log and a line's names. The clock is handed in.
 *
 * A store of entries for each address, refilled slowly and with each accepted share: a farm of 10,000 lines that comes back after a power cut
 * has its five entries for each line, twice over, and more than it needs once it mines. What is beyond is counted, not written.
 */
import { isLoopback } from '../core/address.ts';
import { clientKey } from './edge/limits.ts';

/** Some 25 MB. */
const ENTRIES_BURST = 100_000;
/** Some 500 MB a day. */
const ENTRIES_PER_S = 20;
/** An accepted share is an entry itself. */
const ENTRIES_PER_SHARE = 4;
/** Names of a line beyond its first: some 500 bytes each. */
const NAMES_PER_ADDRESS = 10_000;
const NAMES_TOTAL = 100_000;
/** Addresses without a line that are remembered; beyond it who left first is forgotten. */
const GONE_LIMIT = 20_000;
const MINUTE_MS = 60_000;

export interface AllowanceOptions {
  readonly burst?: number;
  readonly perS?: number;
  readonly namesPerAddress?: number;
  readonly namesTotal?: number;
  readonly goneLimit?: number;
}

/** Of one address. */
export class Allowance {
  readonly key: string;
  /** As it was first seen. */
  readonly address: string;
  lines = 0;
  names = 0;
  /** Entries that were not written, since this was last told. */
  untold = 0;
  untoldMs = -Infinity;
  readonly #of: Allowances;
  #left: number;
  #atMs: number;

  constructor(of: Allowances, key: string, address: string, nowMs: number) {
    this.#of = of;
    this.key = key;
    this.address = address;
    this.#left = of.burst;
    this.#atMs = nowMs;
  }

  /** One more entry of the journal or line of the main log; false: it is only counted. */
  entry(): boolean {
    if (this.#left < 1) this.#refill();
    if (this.#left < 1) {
      this.untold += 1;
      return false;
    }
    this.#left -= 1;
    return true;
  }

  /** An accepted share. */
  earn(): void {
    this.#left = Math.min(this.#left + ENTRIES_PER_SHARE, this.#of.burst);
  }

  /** One more name on a line; false where there are too many. Each is given back by `leave`. */
  name(): boolean {
    return this.#of.takeName(this);
  }

  /** True where nothing of it need be remembered. */
  get full(): boolean {
    this.#refill();
    return this.#left >= this.#of.burst && this.untold === 0;
  }

  #refill(): void {
    const now = this.#of.nowMs();
    const earned = (Math.max(now - this.#atMs, 0) / 1000) * this.#of.perS;
    this.#left = Math.min(this.#left + earned, this.#of.burst);
    this.#atMs = now;
  }
}

export class Allowances {
  readonly nowMs: () => number;
  readonly burst: number;
  readonly perS: number;
  readonly #namesPerAddress: number;
  readonly #namesTotal: number;
  readonly #goneLimit: number;
  /** Who has lines, and who had; the latter in the order in which they left. */
  readonly #present = new Map<string, Allowance>();
  readonly #gone = new Map<string, Allowance>();
  #names = 0;

  /** @param options - for tests */
  constructor(nowMs: () => number, options: AllowanceOptions = {}) {
    this.nowMs = nowMs;
    this.burst = options.burst ?? ENTRIES_BURST;
    this.perS = options.perS ?? ENTRIES_PER_S;
    this.#namesPerAddress = options.namesPerAddress ?? NAMES_PER_ADDRESS;
    this.#namesTotal = options.namesTotal ?? NAMES_TOTAL;
    this.#goneLimit = options.goneLimit ?? GONE_LIMIT;
  }

  /** Addresses in memory. */
  get known(): number {
    return this.#present.size + this.#gone.size;
  }

  /** A line begins. */
  join(address: string): Allowance {
    const key = clientKey(address);
    let found = this.#present.get(key);
    if (found === undefined) {
      found = this.#gone.get(key) ?? new Allowance(this, key, address, this.nowMs());
      this.#gone.delete(key);
      this.#present.set(key, found);
    }
    found.lines += 1;
    return found;
  }

  /** A line has ended. @param names - how many it had by `name` */
  leave(allowance: Allowance, names: number): void {
    allowance.lines -= 1;
    allowance.names -= names;
    this.#names -= names;
    if (allowance.lines > 0) return;
    this.#present.delete(allowance.key);
    if (allowance.full) return;
    this.#gone.set(allowance.key, allowance);
    if (this.#gone.size <= this.#goneLimit) return;
    const [first] = this.#gone.keys();
    this.#gone.delete(first!);
  }

  takeName(allowance: Allowance): boolean {
    // Behind a tunnel or balancer of this machine are many.
    const most = isLoopback(allowance.address) ? this.#namesTotal : this.#namesPerAddress;
    if (allowance.names >= most || this.#names >= this.#namesTotal) return false;
    allowance.names += 1;
    this.#names += 1;
    return true;
  }

  /**
   * To be called now and then.
   * @returns addresses of which entries were not written, once a minute each, and how many
   */
  sweep(): { readonly address: string; readonly entries: number }[] {
    const now = this.nowMs();
    const told: { address: string; entries: number }[] = [];
    for (const map of [this.#present, this.#gone]) {
      for (const each of map.values()) {
        if (each.untold === 0 || now - each.untoldMs < MINUTE_MS) continue;
        told.push({ address: each.address, entries: each.untold });
        each.untold = 0;
        each.untoldMs = now;
      }
    }
    for (const [key, each] of this.#gone) if (each.full) this.#gone.delete(key);
    return told;
  }
}
