/**
 * The memory of duplicates: 96 bits of each proof-of-work hash that was accepted on one piece of work (job.ts holds one for each, and it
 * goes when the last job of that work goes). An open-addressing table over one typed array; 12 bytes an entry, filled to three quarters
 * at most.
 *
 * It grows without a pause: a full table gets a successor of twice its size, and each later entry takes a few of the old ones along.
 *
 * | state                       | bytes per share            |
 * |-----------------------------|----------------------------|
 * | settled                     | 16 to 28                   |
 * | while a table is taken over | 41 to 48                   |
 *
 * 96 bits: two honest shares that agree in them would be one refused without fault; among 2^27 shares of one job that has a chance of 2^-43.
 */

/** 32-bit words of a key. */
const WORDS = 3;
const FIRST_SLOTS = 16;
/** Old slots taken along with each new entry: the old table, at most 3/4 full, is empty after 1/8 of its size in entries. */
const MOVED_AT_ONCE = 8;
const NO_TABLE = new Uint32Array(0);
/** A multiplier with well mixed bits (2^32 divided by the golden ratio; Knuth, The Art of Computer Programming, 6.4). */
const MIX = 0x9e3779b1;
/** Hashes can be chosen by who mines them, places cannot: nobody makes long searches on purpose. */
const SEED = Math.floor(Math.random() * 2 ** 32) | 0;

export class Duplicates {
  #table: Uint32Array = NO_TABLE;
  #slots = 0;
  /** The table before the present one while its entries move; else empty. */
  #old: Uint32Array = NO_TABLE;
  #oldSlots = 0;
  #moved = 0;
  #size = 0;

  /** Entries. */
  get size(): number {
    return this.#size;
  }

  /** Bytes of the tables. */
  get bytes(): number {
    return this.#table.byteLength + this.#old.byteLength;
  }

  /**
   * Whether a hash is here.
   *
   * @param words - hashes in internal order as 32-bit words
   * @param at - index of the hash's first word; three are read
   */
  has(words: Uint32Array, at: number): boolean {
    if (this.#size === 0) return false;
    const w0 = words[at]!;
    const w1 = words[at + 1]!;
    const w2 = words[at + 2]!;
    return (
      find(this.#table, this.#slots, w0, w1, w2) >= 0 ||
      (this.#oldSlots > 0 && find(this.#old, this.#oldSlots, w0, w1, w2) >= 0)
    );
  }

  /** Puts a hash in. @returns false where it was here */
  add(words: Uint32Array, at: number): boolean {
    if (this.has(words, at)) return false;
    if ((this.#size + 1) * 4 > this.#slots * 3) this.#grow();
    else if (this.#oldSlots > 0) this.#move(MOVED_AT_ONCE);
    put(this.#table, this.#slots, words[at]!, words[at + 1]!, words[at + 2]!);
    this.#size += 1;
    return true;
  }

  /** Takes a hash out. @returns false where it was not here */
  delete(words: Uint32Array, at: number): boolean {
    this.#move(this.#oldSlots);
    if (this.#size === 0) return false;
    const place = find(this.#table, this.#slots, words[at]!, words[at + 1]!, words[at + 2]!);
    if (place < 0) return false;
    takeOut(this.#table, this.#slots, place);
    this.#size -= 1;
    return true;
  }

  #grow(): void {
    this.#move(this.#oldSlots);
    this.#old = this.#table;
    this.#oldSlots = this.#slots;
    this.#moved = 0;
    this.#slots = Math.max(FIRST_SLOTS, this.#slots * 2);
    this.#table = new Uint32Array(this.#slots * WORDS);
  }

  /** Takes the entries of so many old slots along. */
  #move(slots: number): void {
    const old = this.#old;
    const end = Math.min(this.#moved + slots, this.#oldSlots);
    for (let slot = this.#moved; slot < end; slot++) {
      const at = slot * WORDS;
      if ((old[at]! | old[at + 1]! | old[at + 2]!) === 0) continue;
      put(this.#table, this.#slots, old[at]!, old[at + 1]!, old[at + 2]!);
    }
    this.#moved = end;
    if (end < this.#oldSlots) return;
    this.#old = NO_TABLE;
    this.#oldSlots = 0;
    this.#moved = 0;
  }
}

/** Where a key is looked for first. */
function home(slots: number, w0: number, w1: number): number {
  const mixed = Math.imul(Math.imul(w0 ^ SEED, MIX) ^ w1, MIX);
  return (mixed ^ (mixed >>> 15)) & (slots - 1);
}

/** Slot of a key, or -1. A key of zeros would be an empty slot: it is kept as 0, 0, 1. */
function find(table: Uint32Array, slots: number, w0: number, w1: number, w2: number): number {
  const last = (w0 | w1 | w2) === 0 ? 1 : w2;
  for (let slot = home(slots, w0, w1); ; slot = (slot + 1) & (slots - 1)) {
    const at = slot * WORDS;
    const t0 = table[at]!;
    const t1 = table[at + 1]!;
    const t2 = table[at + 2]!;
    if (t0 === w0 && t1 === w1 && t2 === last) return slot;
    if ((t0 | t1 | t2) === 0) return -1;
  }
}

function put(table: Uint32Array, slots: number, w0: number, w1: number, w2: number): void {
  let slot = home(slots, w0, w1);
  for (;;) {
    const at = slot * WORDS;
    if ((table[at]! | table[at + 1]! | table[at + 2]!) === 0) {
      table[at] = w0;
      table[at + 1] = w1;
      table[at + 2] = (w0 | w1 | w2) === 0 ? 1 : w2;
      return;
    }
    slot = (slot + 1) & (slots - 1);
  }
}

/** Empties a slot and closes the gap, so that no search ends too early. */
function takeOut(table: Uint32Array, slots: number, place: number): void {
  let gap = place;
  for (let slot = (gap + 1) & (slots - 1); ; slot = (slot + 1) & (slots - 1)) {
    const at = slot * WORDS;
    if ((table[at]! | table[at + 1]! | table[at + 2]!) === 0) break;
    const wanted = home(slots, table[at]!, table[at + 1]!);
    // It may move to the gap unless its first place lies behind the gap.
    if (((slot - wanted) & (slots - 1)) < ((slot - gap) & (slots - 1))) continue;
    table.copyWithin(gap * WORDS, at, at + WORDS);
    gap = slot;
  }
  table.fill(0, gap * WORDS, (gap + 1) * WORDS);
}
