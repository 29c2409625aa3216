/**
 * SHA-256's compression as WebAssembly, fully unrolled, once over i32 (one message) and once over v128 (four messages side by side). What is
 * constant in a message (padding) is folded into the round constants and out of the message schedule.
 *
 * @see FIPS 180-4, 6.2
 */
import { Code, I32, V128 } from './assembler.ts';
import { CONSTANTS_LIMIT } from './layout.ts';

/** The first `bits` bits of the fraction of the root of each of the first primes (FIPS 180-4, 4.2.2 and 5.3.3). */
function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found;
}

/** floor(2^32 × fraction of the k-th root of n), exact. */
function rootFraction(n: number, k: bigint): number {
  const scaled = BigInt(n) << (32n * k);
  let low = 0n;
  let high = 1n << 40n;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** k <= scaled) low = middle;
    else high = middle;
  }
  return Number(low & 0xffff_ffffn);
}

export const K: readonly number[] = primes(64).map((prime) => rootFraction(prime, 3n));
export const START: readonly number[] = primes(8).map((prime) => rootFraction(prime, 2n));

/** Constants in memory, each once: an operand from memory costs a vector less than one that is built. */
export class ConstantPool {
  readonly #words: number[] = [];

  /** Address of a 32-bit constant. */
  word(value: number): number {
    const wanted = value >>> 0;
    const at = this.#words.indexOf(wanted);
    if (at >= 0) return at * 4;
    this.#words.push(wanted);
    if (this.#words.length * 4 > CONSTANTS_LIMIT) throw new RangeError('constants: more than there is room for');
    return (this.#words.length - 1) * 4;
  }

  /** Address of words one after the other, on a border of 16 bytes. */
  run(values: readonly number[]): number {
    while (this.#words.length % 4 !== 0) this.#words.push(0);
    const at = this.#words.length * 4;
    this.#words.push(...values.map((value) => value >>> 0));
    return at;
  }

  bytes(): Uint8Array {
    return new Uint8Array(new Uint32Array(this.#words).buffer);
  }
}

/** How one of the two widths is written. */
interface Width {
  readonly type: typeof I32 | typeof V128;
  /** Distance of two words in memory. */
  readonly stride: number;
  constant(code: Code, value: number): void;
  load(code: Code, offset: number): void;
  store(code: Code, offset: number): void;
  readonly add: 'i32_add' | 'i32x4_add';
  readonly and: 'i32_and' | 'v128_and';
  readonly xor: 'i32_xor' | 'v128_xor';
  shiftRight(code: Code, local: number, bits: number): void;
  rotateRight(code: Code, local: number, bits: number): void;
}

const ONE: Width = {
  type: I32,
  stride: 4,
  constant: (code, value) => code.i32(value),
  load: (code, offset) => code.memory('i32_load', offset),
  store: (code, offset) => code.memory('i32_store', offset),
  add: 'i32_add',
  and: 'i32_and',
  xor: 'i32_xor',
  shiftRight: (code, local, bits) => code.get(local).i32(bits).op('i32_shr_u'),
  rotateRight: (code, local, bits) => code.get(local).i32(bits).op('i32_rotr'),
};

function fourWide(pool: ConstantPool): Width {
  return {
    type: V128,
    stride: 16,
    constant: (code, value) => code.i32(0).memory('v128_load32_splat', pool.word(value)),
    load: (code, offset) => code.memory('v128_load', offset),
    store: (code, offset) => code.memory('v128_store', offset),
    add: 'i32x4_add',
    and: 'v128_and',
    xor: 'v128_xor',
    shiftRight: (code, local, bits) => code.get(local).i32(bits).op('i32x4_shr_u'),
    rotateRight: (code, local, bits) =>
      code
        .get(local)
        .i32(bits)
        .op('i32x4_shr_u')
        .get(local)
        .i32(32 - bits)
        .op('i32x4_shl')
        .op('v128_xor'),
  };
}

const rotr = (x: number, n: number): number => (x >>> n) | (x << (32 - n));
const smallSigma0 = (x: number): number => rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3);
const smallSigma1 = (x: number): number => rotr(x, 17) ^ rotr(x, 19) ^ (x >>> 10);

/** A word of the message: known when the code is written, or in a local. */
type Word = { readonly value: number } | { readonly local: number };

/**
 * Writes one compression. Parameters of the function: address of the state before, address of the message's words that are not constant,
 * address for the state after (may be that of the state before).
 *
 * @param message - 16 entries: a constant, or null for a word that is loaded (from its own place in the block)
 */
function compression(width: Width, message: readonly (number | null)[]): Code {
  const code = new Code([I32, I32, I32], []);
  const [before, block, after] = [0, 1, 2];
  const state = Array.from({ length: 8 }, () => code.local(width.type));
  const ring = Array.from({ length: 16 }, () => code.local(width.type));
  const t1 = code.local(width.type);
  const difference = code.local(width.type);
  const next = code.local(width.type);

  const words: Word[] = message.map((value, i) => (value === null ? { local: ring[i]! } : { value }));
  for (let i = 0; i < 8; i++) {
    code.get(before);
    width.load(code, i * width.stride);
    code.set(state[i]!);
  }
  const bigSigma = (x: number, bits: readonly number[]): void => {
    bits.forEach((n, i) => {
      width.rotateRight(code, x, n);
      if (i > 0) code.op(width.xor);
    });
  };
  const smallSigma = (x: number, first: number, second: number, shift: number): void => {
    width.rotateRight(code, x, first);
    width.rotateRight(code, x, second);
    code.op(width.xor);
    width.shiftRight(code, x, shift);
    code.op(width.xor);
  };

  /** W[t] for t >= 16: σ1(W[t-2]) + W[t-7] + σ0(W[t-15]) + W[t-16], with what is constant summed now. */
  const schedule = (t: number): Word => {
    let sum = 0;
    let pushed = 0;
    const term = (word: Word, known: (x: number) => number, write: (local: number) => void): void => {
      if ('value' in word) sum = (sum + known(word.value)) | 0;
      else {
        write(word.local);
        pushed += 1;
        if (pushed > 1) code.op(width.add);
      }
    };
    const same = (x: number): number => x;
    const get = (local: number): void => {
      code.get(local);
    };
    term(words[t - 16]!, same, get);
    term(words[t - 7]!, same, get);
    term(words[t - 15]!, smallSigma0, (x) => smallSigma(x, 7, 18, 3));
    term(words[t - 2]!, smallSigma1, (x) => smallSigma(x, 17, 19, 10));
    if (pushed === 0) return { value: sum };
    if (sum !== 0) {
      width.constant(code, sum);
      code.op(width.add);
    }
    const local = ring[t % 16]!;
    code.set(local);
    return { local };
  };

  // a ^ b of a round is b ^ c of the next.
  code.get(state[1]!).get(state[2]!).op(width.xor).set(difference);
  for (let t = 0; t < 64; t++) {
    const [a, b, , d, e, f, g, h] = Array.from({ length: 8 }, (_, i) => state[(i - t + 64) % 8]!) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    if (t < 16) {
      const word = words[t]!;
      if ('local' in word) {
        code.get(block);
        width.load(code, t * width.stride);
        code.set(word.local);
      }
    } else words[t] = schedule(t);
    const word = words[t]!;
    code.get(h);
    width.constant(code, 'value' in word ? (K[t]! + word.value) | 0 : K[t]!);
    code.op(width.add);
    if ('local' in word) code.get(word.local).op(width.add);
    // Ch: g ^ (e & (f ^ g))
    code.get(f).get(g).op(width.xor).get(e).op(width.and).get(g).op(width.xor).op(width.add);
    bigSigma(e, [6, 11, 25]);
    code.op(width.add).set(t1);
    code.get(d).get(t1).op(width.add).set(d);
    // Maj: b ^ ((a ^ b) & (b ^ c))
    code.get(a).get(b).op(width.xor).tee(next);
    code.get(difference).op(width.and).get(b).op(width.xor);
    code.get(t1).op(width.add);
    bigSigma(a, [2, 13, 22]);
    code.op(width.add).set(h);
    code.get(next).set(difference);
  }
  for (let i = 0; i < 8; i++) {
    code.get(after);
    code.get(before);
    width.load(code, i * width.stride);
    code.get(state[i]!).op(width.add);
    width.store(code, i * width.stride);
  }
  return code;
}

const LOADED = null;
/** 16 words that are all read. */
const FULL: readonly (number | null)[] = Array.from({ length: 16 }, () => LOADED);
/** The block that follows a message of 64 bytes. */
const AFTER_64: readonly (number | null)[] = Array.from({ length: 16 }, (_, i) =>
  i === 0 ? 0x8000_0000 : i === 15 ? 512 : 0,
);
/** A message of 32 bytes, padded. */
const OF_32: readonly (number | null)[] = Array.from({ length: 16 }, (_, i) =>
  i < 8 ? LOADED : i === 8 ? 0x8000_0000 : i === 15 ? 256 : 0,
);

/** The three compressions of a width. */
export interface Compressions {
  readonly block: Code;
  readonly after64: Code;
  readonly of32: Code;
}

export function compressions(width: 1 | 4, pool: ConstantPool): Compressions {
  const chosen = width === 1 ? ONE : fourWide(pool);
  return {
    block: compression(chosen, FULL),
    after64: compression(chosen, AFTER_64),
    of32: compression(chosen, OF_32),
  };
}
