/**
 * Extranonce1: the part of the coinbase that makes each connection's work its own. Unique among the connections that live and those
 * whose jobs may still be in flight or resumed.
 */
import { hexFromBytes } from '../../core/bitcoin/bytes.ts';

/** As long as a job lives, and CKPool keeps sessions. */
const HELD_MS = 600_000;

export class EnonceAllocator {
  readonly #sizeBytes: number;
  readonly #prefix: Uint8Array;
  readonly #prefixHex: string;
  /** By their hex; also those of sessions that began at another process and go on here. */
  readonly #live = new Set<string>();
  readonly #held = new Map<string, number>();
  /** Others work with them for as long as they like. */
  readonly #elsewhere = new Set<string>();
  /** How many of the two are of our own prefix. */
  #own = 0;
  #next: bigint;

  /**
   * @param prefix - stands before each value: the upstream's extranonce1, or what tells processes of a pool apart; may be empty
   * @param sizeBytes - of the counter, little-endian as CKPool writes it; 0 gives one single value
   * @param start - first counter value; CKPool begins with the time
   */
  constructor(prefix: Uint8Array, sizeBytes: number, start: bigint) {
    this.#prefix = prefix;
    this.#prefixHex = hexFromBytes(prefix);
    this.#sizeBytes = sizeBytes;
    this.#next = start;
  }

  /** Of the whole extranonce1, prefix included. */
  get sizeBytes(): number {
    return this.#prefix.length + this.#sizeBytes;
  }

  get capacity(): number {
    return 256 ** this.#sizeBytes;
  }

  /** How many somebody has now. */
  get taken(): number {
    return this.#live.size;
  }

  /** How many more can be taken now. */
  room(nowMs: number): number {
    this.#expire(nowMs);
    return this.capacity - this.#own;
  }

  /** A value that nobody has, as bytes with the prefix; null where all are taken. */
  take(nowMs: number): Uint8Array | null {
    if (this.room(nowMs) <= 0) return null;
    for (;;) {
      const enonce1 = new Uint8Array(this.sizeBytes);
      enonce1.set(this.#prefix);
      for (let i = 0; i < this.#sizeBytes; i++) {
        enonce1[this.#prefix.length + i] = Number((this.#next >> BigInt(8 * i)) & 0xffn);
      }
      this.#next += 1n;
      const key = hexFromBytes(enonce1);
      if (this.#live.has(key) || this.#held.has(key) || this.#elsewhere.has(key)) continue;
      this.#live.add(key);
      this.#own += 1;
      return enonce1;
    }
  }

  /** Keeps a value that another process gave from being given again, until `takeBack` or its time. */
  hold(enonce1: Uint8Array, sinceMs: number): void {
    const key = hexFromBytes(enonce1);
    if (enonce1.length !== this.sizeBytes || this.#live.has(key) || this.#elsewhere.has(key)) return;
    if (!this.#held.has(key)) this.#count(key, 1);
    this.#held.set(key, sinceMs);
  }

  /** A line of another process has this value, perhaps for hours: nobody gets it here, but who takes it back with the session. */
  leave(enonce1: Uint8Array): void {
    const key = hexFromBytes(enonce1);
    if (!key.startsWith(this.#prefixHex) || this.#live.has(key) || this.#elsewhere.has(key)) return;
    if (!this.#held.delete(key)) this.#count(key, 1);
    this.#elsewhere.add(key);
  }

  /** Takes a value back that was released: a resumed session. False where somebody has it, or it is free for anybody. */
  takeBack(enonce1: Uint8Array): boolean {
    const key = hexFromBytes(enonce1);
    const found = this.#held.delete(key) || this.#elsewhere.delete(key);
    return found && this.#live.add(key) !== undefined;
  }

  /** Lets go of a value; it is not given to another before its jobs are dead. */
  release(enonce1: Uint8Array, nowMs: number): void {
    const key = hexFromBytes(enonce1);
    if (!this.#live.delete(key)) return;
    if (this.#sizeBytes > 0) this.#held.set(key, nowMs);
    else this.#count(key, -1);
  }

  /** Lets go of a value that nobody worked with: anybody may have it. */
  free(enonce1: Uint8Array): void {
    const key = hexFromBytes(enonce1);
    if (this.#live.delete(key)) this.#count(key, -1);
  }

  #count(key: string, by: 1 | -1): void {
    if (key.startsWith(this.#prefixHex)) this.#own += by;
  }

  #expire(nowMs: number): void {
    for (const [key, since] of this.#held) {
      if (nowMs - since < HELD_MS) break;
      this.#held.delete(key);
      this.#count(key, -1);
    }
  }
}

/**
 * How many bytes of an upstream's extranonce2 tell our clients apart: 2 while at least 6 are left for them, then 1, and none where
 * fewer than 4 would be left (rental markets refuse those; another upstream connection is opened instead).
 *
 * @param size - the upstream's extranonce2, bytes
 */
export function splitBytes(size: number): number {
  if (size - 2 >= 6) return 2;
  return size - 1 >= 4 ? 1 : 0;
}

/** CKProxy's split: more clients on a connection, and an extranonce2 that rental markets refuse at the second level (8 → 4 → 3). */
export function ckproxySplitBytes(size: number): number {
  if (size > 7) return 4;
  if (size > 5) return 2;
  return size > 3 ? 1 : 0;
}
