/**
 * The accepted shares of one work: by hash, where in the log each was met first. So that a share accepted twice is told from an event that
 * the log delivers twice. check.ts keeps one for each work as long as its jobs.
 */

/** A slot: three words of the hash, the writer's number, the sequence in two halves. */
const WORDS = 6;
const FIRST_SLOTS = 32;
const TWO_32 = 2 ** 32;

/** Where an event stands in the journal that first took it. */
export interface Origin {
  /** Number of the writer: its instance and run. Above 0. */
  readonly writer: number;
  readonly sequence: number;
}

export class Seen {
  #slots = new Uint32Array(FIRST_SLOTS * WORDS);
  #count = 0;

  get sizeBytes(): number {
    return this.#slots.byteLength;
  }

  /**
   * Remembers a hash.
   * @param hash - 64 hex digits as block hashes are printed
   * @returns where it was met first, or null where this is the first time
   */
  add(hash: string, { writer, sequence }: Origin): Origin | null {
    // The digits at the end are those that no target makes zeros.
    const a = Number.parseInt(hash.slice(56), 16);
    const b = Number.parseInt(hash.slice(48, 56), 16);
    const c = Number.parseInt(hash.slice(40, 48), 16);
    if ((this.#count + 1) * 4 > (this.#slots.length / WORDS) * 3) this.#grow();
    const at = this.#find(this.#slots, a, b, c);
    const slots = this.#slots;
    if (slots[at + 3] !== 0) {
      return { writer: slots[at + 3]!, sequence: slots[at + 5]! * TWO_32 + slots[at + 4]! };
    }
    slots.set([a, b, c, writer, sequence % TWO_32, Math.floor(sequence / TWO_32)], at);
    this.#count += 1;
    return null;
  }

  #find(slots: Uint32Array, a: number, b: number, c: number): number {
    const mask = slots.length / WORDS - 1;
    for (let slot = a & mask; ; slot = (slot + 1) & mask) {
      const at = slot * WORDS;
      if (slots[at + 3] === 0 || (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c)) return at;
    }
  }

  #grow(): void {
    const old = this.#slots;
    const grown = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += WORDS) {
      if (old[at + 3] === 0) continue;
      grown.set(old.subarray(at, at + WORDS), this.#find(grown, old[at]!, old[at + 1]!, old[at + 2]!));
    }
    this.#slots = grown;
  }
}
