import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesFromHashHex } from '../../../../services/core/bitcoin/header.ts';
import {
  bitsFromHex,
  bitsFromTarget,
  bitsHex,
  DIFFICULTY_1_TARGET,
  difficultyFromBits,
  difficultyFromTarget,
  hashValue,
  MAX_TARGET,
  shareDifficulty,
  targetFromBits,
  targetFromDifficulty,
  targetHex,
  workFromBits,
  workFromTarget,
} from '../../../../services/core/bitcoin/target.ts';
import sdiffs from '../../../vectors/ckpool-sdiff.json' with { type: 'json' };

const anyTarget = fc.bigInt({ min: 0n, max: MAX_TARGET });

describe('compact bits', () => {
  // Bitcoin Core src/test/arith_uint256_tests.cpp, bignum_SetCompact
  test.each([
    [0x00000000, 0n, 0x00000000],
    [0x00123456, 0n, 0],
    [0x01003456, 0n, 0],
    [0x02000056, 0n, 0],
    [0x03000000, 0n, 0],
    [0x00923456, 0n, 0],
    [0x01803456, 0n, 0],
    [0x02800056, 0n, 0],
    [0x01123456, 0x12n, 0x01120000],
    [0x02123456, 0x1234n, 0x02123400],
    [0x03123456, 0x123456n, 0x03123456],
    [0x04123456, 0x12345600n, 0x04123456],
    [0x05009234, 0x92340000n, 0x05009234],
    [0x20123456, 0x1234560000000000000000000000000000000000000000000000000000000000n, 0x20123456],
    [0x1d00ffff, DIFFICULTY_1_TARGET, 0x1d00ffff],
    [0x207fffff, 0x7fffff0000000000000000000000000000000000000000000000000000000000n, 0x207fffff],
    [0x2100ffff, 0xffff000000000000000000000000000000000000000000000000000000000000n, 0x2100ffff],
    [0x220000ff, 0xff00000000000000000000000000000000000000000000000000000000000000n, 0x2100ff00],
  ])('%i expands to its target and packs back', (bits, target, packed) => {
    expect(targetFromBits(bits)).toBe(target);
    expect(bitsFromTarget(target)).toBe(packed);
  });

  test.each([0x01fedcba, 0x04923456, 0x03800001, 0x1d80ffff])('%i is negative and refused', (bits) => {
    expect(() => targetFromBits(bits)).toThrow(`bits ${bitsHex(bits)}: negative`);
  });

  test.each([0xff123456, 0x21010000, 0x22000100, 0x23000001])('%i exceeds 256 bits and is refused', (bits) => {
    expect(() => targetFromBits(bits)).toThrow(`bits ${bitsHex(bits)}: exceeds 256 bits`);
  });

  test('128 packs so that it does not read as negative', () => {
    expect(bitsFromTarget(0x80n)).toBe(0x02008000);
    expect(targetFromBits(0x02008000)).toBe(0x80n);
  });

  test('at every exponent packing cuts downwards, by less than one part in 2^15, and packing again changes nothing', () => {
    for (let bitLength = 1; bitLength <= 256; bitLength++) {
      const least = 1n << BigInt(bitLength - 1);
      fc.assert(
        fc.property(fc.bigInt({ min: least, max: least * 2n - 1n }), (target) => {
          const bits = bitsFromTarget(target);
          const back = targetFromBits(bits);
          expect(back <= target).toBe(true);
          expect((target - back) << 15n < target).toBe(true);
          expect(bitsFromTarget(back)).toBe(bits);
          expect(bits & 0x0080_0000).toBe(0);
          // The next larger compact number would exceed the target.
          const size = Math.max(3, bits >>> 24);
          expect(back + (1n << BigInt(8 * (size - 3))) > target).toBe(true);
        }),
        { numRuns: 20 },
      );
    }
  });

  test('values that are no 32-bit number or no target are refused', () => {
    for (const bits of [-1, 2 ** 32, 1.5, Number.NaN]) expect(() => targetFromBits(bits)).toThrow(RangeError);
    for (const target of [-1n, MAX_TARGET + 1n]) expect(() => bitsFromTarget(target)).toThrow(RangeError);
  });

  test('bits and targets are written and read as hex', () => {
    expect(bitsHex(0x1d00ffff)).toBe('1d00ffff');
    expect(bitsHex(0)).toBe('00000000');
    expect(bitsFromHex('ff00ffff')).toBe(0xff00ffff);
    expect(() => bitsFromHex('1d00fff')).toThrow('bits: expected');
    expect(targetHex(DIFFICULTY_1_TARGET)).toBe(`00000000ffff${'0'.repeat(52)}`);
  });
});

describe('difficulty', () => {
  // As printed by nodes, to 16 digits: Bitcoin blocks 0 and 100000, and Litecoin regtest.
  test.each([
    [0x1d00ffff, 1],
    [0x1b04864c, 14484.1623612254],
    [0x207fffff, 4.656542373906925e-10],
  ])('%i has the difficulty that the node prints', (bits, difficulty) => {
    expect(Number(difficultyFromBits(bits).toPrecision(16))).toBe(difficulty);
  });

  test('target 0 has none', () => {
    expect(() => difficultyFromTarget(0n)).toThrow('0 has no difficulty');
  });

  test.each([
    [1, DIFFICULTY_1_TARGET],
    [2, DIFFICULTY_1_TARGET / 2n],
    [0.5, DIFFICULTY_1_TARGET * 2n],
    [65535, 1n << 208n],
    [2 ** -32, DIFFICULTY_1_TARGET << 32n],
    [2 ** -33, MAX_TARGET],
    [Number.MIN_VALUE, MAX_TARGET],
    [Number.MAX_VALUE, 0n],
  ])('difficulty %d has its exact target', (difficulty, target) => {
    expect(targetFromDifficulty(difficulty)).toBe(target);
  });

  test('a fraction is taken as exactly the number that the double holds', () => {
    // 0.001 is 1152921504606847 / 2^60
    expect(targetFromDifficulty(0.001)).toBe((DIFFICULTY_1_TARGET << 60n) / 1152921504606847n);
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('difficulty %d is refused', (difficulty) => {
    expect(() => targetFromDifficulty(difficulty)).toThrow('finite number above 0');
  });

  test('the target is the largest whose exact difficulty is not below', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-9, max: 1e15, noNaN: true }), (difficulty) => {
        const target = targetFromDifficulty(difficulty);
        // difficulty as m / 2^k without loss
        let k = 0n;
        let m = difficulty;
        while (!Number.isInteger(m)) {
          m *= 2;
          k += 1n;
        }
        const exact = BigInt(m);
        expect(DIFFICULTY_1_TARGET << k >= exact * target).toBe(true);
        if (target < MAX_TARGET) expect(DIFFICULTY_1_TARGET << k < exact * (target + 1n)).toBe(true);
      }),
    );
  });
});

describe('share difficulty', () => {
  test('all recorded hashes give the digits of CKPool’s share logs', () => {
    expect(sdiffs.shares.length).toBe(300);
    for (const [hash, sdiff] of sdiffs.shares as [string, string][]) {
      expect(shareDifficulty(bytesFromHashHex(hash))).toBe(Number(sdiff));
    }
  });

  test('a hash of zero counts as one', () => {
    expect(shareDifficulty(new Uint8Array(32))).toBe(Number(DIFFICULTY_1_TARGET));
  });

  test('a hash is the little-endian number of its bytes', () => {
    const hash = new Uint8Array(32);
    hash[0] = 1;
    expect(hashValue(hash)).toBe(1n);
    hash[31] = 0x80;
    expect(hashValue(hash)).toBe((0x80n << 248n) + 1n);
    expect(() => hashValue(hash.subarray(1))).toThrow('expected 32 bytes, got 31');
    expect(() => shareDifficulty(hash.subarray(1))).toThrow('expected 32 bytes, got 31');
  });

  test('it agrees with the exact target but for two parts in 2^53 at the border', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.integer({ min: 0, max: 20 }),
        fc.double({ min: 0.25, max: 4, noNaN: true }),
        (hash, zeroes, factor) => {
          // As hashes are: some zero bytes at the far end; the difficulty near the one reached.
          hash.fill(0, 32 - zeroes);
          if (hash.every((b) => b === 0)) return;
          const reached = shareDifficulty(hash);
          const asked = reached * factor;
          const meets = hashValue(hash) <= targetFromDifficulty(asked);
          if (asked < reached * (1 - 2 ** -51)) expect(meets).toBe(true);
          if (asked > reached * (1 + 2 ** -51)) expect(meets).toBe(false);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('work', () => {
  test('the chain work of Bitcoin’s first block is the node’s', () => {
    expect(workFromBits(0x1d00ffff)).toBe(0x100010001n);
  });

  test('regtest blocks are worth two hashes', () => {
    expect(workFromBits(0x207fffff)).toBe(2n);
  });

  test('the easiest target is one hash, target 0 none', () => {
    expect(workFromTarget(MAX_TARGET)).toBe(1n);
    expect(workFromTarget(0n)).toBe(0n);
  });

  test('work never rises with the target', () => {
    fc.assert(
      fc.property(anyTarget, anyTarget, (a, b) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        if (low > 0n) expect(workFromTarget(low) >= workFromTarget(high)).toBe(true);
      }),
    );
  });
});
