/**
 * SHA-256's compression as WebAssembly, once over i32 (one message) and once over v128 (four messages side by side): of any block, and of the
 * block that follows a message of 64 bytes, whose message schedule is summed into the round constants here.
 *
 * Sixteen rounds are one piece of code, gone through several times. Measured with 12 merkle steps: all 64 rounds in line are as fast by
 * themselves (113 ns), but three such functions leave the processor's caches of instructions, 6.8 against 5.0 µs a share.
 *
 * @see FIPS 180-4, 6.2
 */
import { Code, I32, V128 } from './assembler.ts';
import { CONSTANTS_LIMIT, WORK_SUMS } from './layout.ts';

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

const K: readonly number[] = primes(64).map((prime) => rootFraction(prime, 3n));
export const START: readonly number[] = primes(8).map((prime) => rootFraction(prime, 2n));

/** Constants in memory, from address 0 on. */
export class Constants {
  readonly #words: number[] = [];

  /** Address of words one after the other, on a border of 16 bytes. */
  add(values: readonly number[]): number {
    const at = this.#words.length * 4;
    this.#words.push(...values.map((value) => value >>> 0));
    while (this.#words.length % 4 !== 0) this.#words.push(0);
    if (this.#words.length * 4 > CONSTANTS_LIMIT) throw new RangeError('constants: more than there is room for');
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
  readonly load: 'i32_load' | 'v128_load';
  readonly store: 'i32_store' | 'v128_store';
  /** Loads one 32-bit number, for all messages the same. */
  readonly loadConstant: 'i32_load' | 'v128_load32_splat';
  readonly add: 'i32_add' | 'i32x4_add';
  readonly and: 'i32_and' | 'v128_and';
  readonly xor: 'i32_xor' | 'v128_xor';
  rotateRight(code: Code, local: number, bits: number): void;
}

const ONE: Width = {
  type: I32,
  stride: 4,
  load: 'i32_load',
  store: 'i32_store',
  loadConstant: 'i32_load',
  add: 'i32_add',
  and: 'i32_and',
  xor: 'i32_xor',
  rotateRight: (code, local, bits) => code.get(local).i32(bits).op('i32_rotr'),
};

const FOUR: Width = {
  type: V128,
  stride: 16,
  load: 'v128_load',
  store: 'v128_store',
  // From memory: built from a number, a vector takes three instructions more.
  loadConstant: 'v128_load32_splat',
  add: 'i32x4_add',
  and: 'v128_and',
  xor: 'v128_xor',
  rotateRight: (code, local, bits) => {
    code.get(local).i32(bits).op('i32x4_shr_u');
    code
      .get(local)
      .i32(32 - bits)
      .op('i32x4_shl')
      .op('v128_xor');
  },
};

const rotr = (x: number, n: number): number => (x >>> n) | (x << (32 - n));

/** K[t] + W[t] of a block that is known. */
function constantRounds(block: readonly number[]): number[] {
  const words = [...block];
  for (let t = 16; t < 64; t++) {
    const x = words[t - 15]!;
    const y = words[t - 2]!;
    const sigma0 = rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3);
    const sigma1 = rotr(y, 17) ^ rotr(y, 19) ^ (y >>> 10);
    words.push((words[t - 16]! + words[t - 7]! + sigma0 + sigma1) | 0);
  }
  return words.map((word, t) => (word + K[t]!) | 0);
}

/**
 * One compression being written: everything but where K[t] + W[t] comes from. Parameters of the function: address of the state before, address
 * of the block's 16 words (0 where it is known), address for the state after (may be that of the state before, or of the block).
 */
class Rounds {
  readonly code = new Code([I32, I32, I32], []);
  /** Local that holds the address of the block's words. */
  readonly block = 1;
  /** Local that moves through the 64 round constants, sixteen at a time. */
  readonly constants: number;
  readonly #width: Width;
  readonly #first: number;
  readonly #state: number[];
  readonly #t1: number;
  readonly #sigma: number;
  readonly #difference: number;
  readonly #next: number;

  /** @param constants - address of the round constants, or of their sums with the words of a known block */
  constructor(width: Width, constants: number) {
    const { code } = this;
    this.#width = width;
    this.#first = constants;
    this.#state = Array.from({ length: 8 }, () => code.local(width.type));
    this.#t1 = code.local(width.type);
    this.#sigma = code.local(width.type);
    this.#difference = code.local(width.type);
    this.#next = code.local(width.type);
    this.constants = code.local(I32);
    const before = 0;
    this.#state.forEach((local, i) => {
      code
        .get(before)
        .memory(width.load, i * width.stride)
        .set(local);
    });
    code.get(this.#state[1]!).get(this.#state[2]!).op(width.xor).set(this.#difference);
    code.i32(constants).set(this.constants);
  }

  /**
   * Round t.
   *
   * @param addSum - adds K[t] + W[t] to what is on the stack
   * @param short - one addition more, but a shorter way from e to the next e
   */
  round(t: number, addSum: () => void, short = false): void {
    const { code } = this;
    const width = this.#width;
    const t1 = this.#t1;
    const [a, b, , d, e, f, g, h] = this.#state.map((_, i) => this.#state[(i - t + 64) % 8]!) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    code.get(h);
    addSum();
    // Ch: g ^ (e & (f ^ g))
    code.get(f).get(g).op(width.xor).get(e).op(width.and).get(g).op(width.xor).op(width.add);
    if (short) {
      code.tee(t1).get(d).op(width.add);
      this.#bigSigma(e, [6, 11, 25]);
      code.tee(this.#sigma).op(width.add).set(d);
      code.get(t1).get(this.#sigma).op(width.add).set(t1);
    } else {
      this.#bigSigma(e, [6, 11, 25]);
      code.op(width.add).set(t1);
      code.get(d).get(t1).op(width.add).set(d);
    }
    // Maj: b ^ ((a ^ b) & (b ^ c)); a ^ b of a round is b ^ c of the next.
    code.get(a).get(b).op(width.xor).tee(this.#next);
    code.get(this.#difference).op(width.and).get(b).op(width.xor);
    code.get(t1).op(width.add);
    this.#bigSigma(a, [2, 13, 22]);
    code.op(width.add).set(h);
    code.get(this.#next).set(this.#difference);
  }

  /** Repeats sixteen rounds until `end` of the 64 are done. */
  repeat(end: number, sixteen: () => void): void {
    const { code, constants } = this;
    code.loopWhile(() => {
      sixteen();
      code.get(constants).i32(64).op('i32_add').tee(constants);
      code.i32(this.#first + 4 * end).op('i32_ne');
    });
  }

  /** Adds the state before and stores. */
  finish(): Code {
    const { code } = this;
    const { load, store, add, stride } = this.#width;
    const [before, after] = [0, 2];
    this.#state.forEach((local, i) => {
      code.get(after);
      code.get(before).memory(load, i * stride);
      code
        .get(local)
        .op(add)
        .memory(store, i * stride);
    });
    return code;
  }

  #bigSigma(x: number, bits: readonly [number, number, number]): void {
    bits.forEach((n, i) => {
      this.#width.rotateRight(this.code, x, n);
      if (i > 0) this.code.op(this.#width.xor);
    });
  }
}

/** σ0 or σ1 of vectors. */
function smallSigma(code: Code, x: number, first: number, second: number, shift: number): void {
  FOUR.rotateRight(code, x, first);
  FOUR.rotateRight(code, x, second);
  code.op('v128_xor');
  code.get(x).i32(shift).op('i32x4_shr_u').op('v128_xor');
}

/** Of a block that is known: K[t] + W[t] lie at `sums`. */
function knownBlock(width: Width, sums: number): Code {
  const rounds = new Rounds(width, sums);
  const { code } = rounds;
  rounds.repeat(64, () => {
    for (let t = 0; t < 16; t++) {
      const addSum = (): void => {
        code
          .get(rounds.constants)
          .memory(width.loadConstant, 4 * t)
          .op(width.add);
      };
      // 200 against 219 ns with vectors. With numbers, or where a schedule fills the gaps, it gains nothing.
      rounds.round(t, addSum, width === FOUR);
    }
  });
  return rounds.finish();
}

/** Of any four blocks. W[t] is in a ring of 16. */
function fourBlocks(roundConstants: number): Code {
  const rounds = new Rounds(FOUR, roundConstants);
  const { code, constants, block } = rounds;
  const ring = Array.from({ length: 16 }, () => code.local(V128));
  const word = (t: number): number => ring[t % 16]!;
  const round = (t: number): void => {
    rounds.round(t, () => {
      code
        .get(constants)
        .memory(FOUR.loadConstant, 4 * (t % 16))
        .op('i32x4_add');
      code.get(word(t)).op('i32x4_add');
    });
  };
  for (let t = 0; t < 16; t++) {
    code
      .get(block)
      .memory('v128_load', 16 * t)
      .set(word(t));
    round(t);
  }
  code.i32(roundConstants + 64).set(constants);
  rounds.repeat(64, () => {
    for (let t = 16; t < 32; t++) {
      // W[t] = W[t-16] + W[t-7] + σ0(W[t-15]) + σ1(W[t-2])
      code
        .get(word(t - 16))
        .get(word(t - 7))
        .op('i32x4_add');
      smallSigma(code, word(t - 15), 7, 18, 3);
      code.op('i32x4_add');
      smallSigma(code, word(t - 2), 17, 19, 10);
      code.op('i32x4_add').set(word(t));
      round(t);
    }
  });
  return rounds.finish();
}

/**
 * Of any one block. Vectors make the message schedule sixteen rounds ahead, four words at a time, while numbers make the rounds: a processor has
 * units of both kinds. Measured: 4.1 µs a share with 12 merkle steps, 4.8 with numbers alone.
 */
function oneBlock(roundConstants: number): Code {
  const rounds = new Rounds(ONE, roundConstants);
  const { code, constants, block } = rounds;
  /** W[t-16 … t-1], four in each; the oldest four are replaced. */
  const words = Array.from({ length: 4 }, () => code.local(V128));
  const window = code.local(V128);
  const sum = code.local(V128);
  const twice = code.local(V128);
  /** Where K[t] + W[t] lie, from where `constants` points. */
  const sums = WORK_SUMS - roundConstants;
  /** Stores the sums of four words with the constants at `offset`. */
  const keep = (local: number, offset: number): void => {
    code.get(constants);
    code.get(local).get(constants).memory('v128_load', offset).op('i32x4_add');
    code.memory('v128_store', sums + offset);
  };
  /** The last three words of one and the first of the next. */
  const LATER = Array.from({ length: 16 }, (_, i) => i + 4);
  const NONE = 0x80;
  const ZEROS = Array.from({ length: 8 }, () => NONE);
  const OUT = [0, 1, 2, 3, 8, 9, 10, 11];
  /** Adds σ1 of two words of `from`, which begin at byte `at`, to the first or last two of `sum`. */
  const addSigma1 = (from: number, at: number, places: readonly number[]): void => {
    // Each word twice in 64 bits: a shift is a rotation there.
    const doubled = [at, at, at + 4, at + 4].flatMap((first) => [first, first + 1, first + 2, first + 3]);
    code.get(from).get(from).shuffle(doubled).set(twice);
    code.get(twice).i32(17).op('i64x2_shr_u').get(twice).i32(19).op('i64x2_shr_u').op('v128_xor');
    code.get(twice).i32(10).op('i32x4_shr_u').op('v128_xor').set(twice);
    code.get(sum).get(twice).v128(places).op('i8x16_swizzle').op('i32x4_add').set(sum);
  };
  /** The next four words, in four parts that go between rounds. */
  const schedule = (group: number): readonly (() => void)[] => {
    const [w16, w12, w8, w4] = words.map((_, i) => words[(group + i) % 4]!) as [number, number, number, number];
    return [
      () => {
        code.get(w16).get(w12).shuffle(LATER).set(window);
        code.get(w16).get(w8).get(w4).shuffle(LATER).op('i32x4_add').set(sum);
      },
      () => {
        smallSigma(code, window, 7, 18, 3);
        code.get(sum).op('i32x4_add').set(sum);
      },
      () => addSigma1(w4, 8, [...OUT, ...ZEROS]),
      () => {
        addSigma1(sum, 0, [...ZEROS, ...OUT]);
        code.get(sum).set(w16);
        keep(w16, 64 + 16 * group);
      },
    ];
  };
  const round = (t: number): void => {
    rounds.round(t, () => {
      code
        .get(constants)
        .memory('i32_load', sums + 4 * (t % 16))
        .op('i32_add');
    });
  };
  words.forEach((local, i) => {
    code
      .get(block)
      .memory('v128_load', 16 * i)
      .set(local);
    keep(local, 16 * i);
  });
  rounds.repeat(48, () => {
    for (let group = 0; group < 4; group++) {
      schedule(group).forEach((part, i) => {
        part();
        round(4 * group + i);
      });
    }
  });
  for (let t = 48; t < 64; t++) round(t);
  return rounds.finish();
}

/** The compressions of a width. */
export interface Compressions {
  readonly block: Code;
  /** Of the block that follows a message of 64 bytes: a 1 bit and the length. */
  readonly after64: Code;
}

/** The compressions for one message and for four. */
export function compressions(constants: Constants): { readonly one: Compressions; readonly four: Compressions } {
  const general = constants.add(K);
  const padding = Array.from({ length: 16 }, (_, i) => (i === 0 ? 0x8000_0000 : i === 15 ? 512 : 0));
  const after64 = constants.add(constantRounds(padding));
  return {
    one: { block: oneBlock(general), after64: knownBlock(ONE, after64) },
    four: { block: fourBlocks(general), after64: knownBlock(FOUR, after64) },
  };
}
