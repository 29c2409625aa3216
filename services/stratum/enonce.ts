/**
 * Extranonce1: the part of the coinbase that makes each connection's work its own. Unique among the connections that live and those
 * whose jobs may still be in flight or resumed.
 */

/** As long as a job lives, and CKPool keeps sessions. */
const HELD_MS = 600_000;

export class EnonceAllocator {
  readonly #sizeBytes: number;
  readonly #prefix: Uint8Array;
  readonly #live = new Set<string>();
  readonly #held = new Map<string, number>();
  #next: bigint;

  /**
   * @param prefix - stands before each value: the upstream's extranonce1, empty in a pool
   * @param sizeBytes - of the counter, little-endian as CKPool writes it; 0 gives one single value
   * @param start - first counter value; CKPool begins with the time
   */
  constructor(prefix: Uint8Array, sizeBytes: number, start: bigint) {
    this.#prefix = prefix;
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

  /** How many more can be taken now. */
  room(nowMs: number): number {
    this.#expire(nowMs);
    return this.capacity - this.#live.size - this.#held.size;
  }

  /** A value that nobody has, as bytes with the prefix; null where all are taken. */
  take(nowMs: number): Uint8Array | null {
    if (this.room(nowMs) <= 0) return null;
    for (;;) {
      const counter = new Uint8Array(this.#sizeBytes);
      for (let i = 0; i < counter.length; i++) counter[i] = Number((this.#next >> BigInt(8 * i)) & 0xffn);
      this.#next += 1n;
      const key = Buffer.from(counter).toString('hex');
      if (this.#live.has(key) || this.#held.has(key)) continue;
      this.#live.add(key);
      return Buffer.concat([this.#prefix, counter]);
    }
  }

  /** Takes a value back that was released: a resumed session. False where somebody has it, or it is free for anybody. */
  takeBack(enonce1: Uint8Array): boolean {
    return this.#held.delete(this.#keyOf(enonce1)) && this.#live.add(this.#keyOf(enonce1)) !== undefined;
  }

  /** Lets go of a value; it is not given to another before its jobs are dead. */
  release(enonce1: Uint8Array, nowMs: number): void {
    const key = this.#keyOf(enonce1);
    if (this.#live.delete(key) && this.#sizeBytes > 0) this.#held.set(key, nowMs);
  }

  /** Lets go of a value that nobody worked with: anybody may have it. */
  free(enonce1: Uint8Array): void {
    this.#live.delete(this.#keyOf(enonce1));
  }

  #keyOf(enonce1: Uint8Array): string {
    return Buffer.from(enonce1.subarray(this.#prefix.length)).toString('hex');
  }

  #expire(nowMs: number): void {
    for (const [key, since] of this.#held) {
      if (nowMs - since < HELD_MS) break;
      this.#held.delete(key);
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
