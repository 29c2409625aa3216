/**
 * Targets, difficulty and work. A hash meets a target when, read as a 256-bit number, it is at or below it.
 *
 *   D = T1 / t          D difficulty (no unit), T1 difficulty-1 target, t target; inverse t = T1 / D
 *   work = 2^256/(t+1)  expected hashes for one block at target t
 *
 * Targets and work are exact integers (`bigint`); a difficulty as `number` is for show, for the wire, and for CKPool's
 * `sdiff`, never for money and never to decide whether a hash is a block.
 *
 * @see Bitcoin Core `arith_uint256.cpp` (SetCompact, GetCompact), `chain.cpp` (GetBlockProof), `rpc/blockchain.cpp` (GetDifficulty)
 */
import { bytesFromHex, readUint32Be } from './bytes.ts';

/** The target of difficulty 1, bits 1d00ffff (Bitcoin Core `rpc/blockchain.cpp`, GetDifficulty). */
export const DIFFICULTY_1_TARGET = 0xffffn << 208n;

/** The largest 256-bit number. */
export const MAX_TARGET = (1n << 256n) - 1n;

function checkTarget(target: bigint): void {
  if (target < 0n || target > MAX_TARGET) throw new RangeError(`target: expected 0 <= target < 2^256, got ${target}`);
}

function checkBits(bits: number): void {
  if (!Number.isInteger(bits) || bits < 0 || bits > 0xffff_ffff) {
    throw new RangeError(`bits: expected an unsigned 32-bit integer, got ${bits}`);
  }
}

/**
 * Expands compact bits to a 256-bit target.
 *
 * | bits of nBits | meaning                                |
 * |---------------|----------------------------------------|
 * | 31..24        | size of the number in bytes            |
 * | 23            | sign                                   |
 * | 22..0         | its highest three bytes                |
 *
 * @param bits - nBits as an unsigned 32-bit integer, e.g. 0x1d00ffff
 * @returns target, 0 <= target < 2^256
 * @throws RangeError when the number is negative or exceeds 256 bits
 * @see Bitcoin Core arith_uint256.cpp, arith_uint256::SetCompact
 */
export function targetFromBits(bits: number): bigint {
  checkBits(bits);
  const size = bits >>> 24;
  let word = bits & 0x007f_ffff;
  if (size <= 3) word >>>= 8 * (3 - size);
  if (word === 0) return 0n;
  if ((bits & 0x0080_0000) !== 0) throw new RangeError(`bits ${bitsHex(bits)}: negative`);
  if (size > 34 || (word > 0xff && size > 33) || (word > 0xffff && size > 32)) {
    throw new RangeError(`bits ${bitsHex(bits)}: exceeds 256 bits`);
  }
  return size <= 3 ? BigInt(word) : BigInt(word) << BigInt(8 * (size - 3));
}

/**
 * Packs a target into compact bits, cutting what does not fit into 23 bits of mantissa (never rounding up).
 *
 * @returns an unsigned 32-bit integer
 * @throws RangeError unless 0 <= target < 2^256
 * @see Bitcoin Core arith_uint256.cpp, arith_uint256::GetCompact
 */
export function bitsFromTarget(target: bigint): number {
  checkTarget(target);
  if (target === 0n) return 0;
  let size = (target.toString(16).length + 1) >>> 1;
  let word = size <= 3 ? Number(target) << (8 * (3 - size)) : Number(target >> BigInt(8 * (size - 3)));
  // Bit 23 would read as the sign.
  if ((word & 0x0080_0000) !== 0) {
    word >>>= 8;
    size += 1;
  }
  return ((size << 24) | word) >>> 0;
}

/** nBits as nodes and stratum print it: 8 lower-case hex digits. */
export function bitsHex(bits: number): string {
  checkBits(bits);
  return bits.toString(16).padStart(8, '0');
}

/** nBits from 8 hex digits. @throws RangeError when it is anything else */
export function bitsFromHex(hex: string): number {
  return readUint32Be(bytesFromHex(hex, 'bits', 4), 0);
}

/** A target as 64 hex digits, highest first, as `getblocktemplate` prints it. */
export function targetHex(target: bigint): string {
  checkTarget(target);
  return target.toString(16).padStart(64, '0');
}

/**
 * Difficulty of a target as a double. For a target that comes from nBits it is the same double as the node's
 * `difficulty` (printed there to 16 digits): both operands are exact there and the quotient is rounded once.
 *
 * @throws RangeError for target 0, which has no difficulty
 */
export function difficultyFromTarget(target: bigint): number {
  checkTarget(target);
  if (target === 0n) throw new RangeError('target: 0 has no difficulty');
  return Number(DIFFICULTY_1_TARGET) / Number(target);
}

/** Difficulty of compact bits as a double, the node's value before it prints 16 digits of it. @throws RangeError as targetFromBits, and for 0 */
export function difficultyFromBits(bits: number): number {
  return difficultyFromTarget(targetFromBits(bits));
}

/** A double as an exact ratio of integers: value = numerator / denominator. */
function ratioFromDouble(value: number): { numerator: bigint; denominator: bigint } {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const raw = view.getBigUint64(0);
  const exponent = Number((raw >> 52n) & 0x7ffn);
  const fraction = raw & ((1n << 52n) - 1n);
  // IEEE 754: exponent 0 is subnormal, without the hidden bit.
  const mantissa = exponent === 0 ? fraction : fraction | (1n << 52n);
  const shift = (exponent === 0 ? 1 : exponent) - 1075;
  return shift >= 0
    ? { numerator: mantissa << BigInt(shift), denominator: 1n }
    : { numerator: mantissa, denominator: 1n << BigInt(-shift) };
}

/**
 * The largest target t whose difficulty is at or above the given one: floor(T1 / D), with D taken as exactly the
 * number that the double holds. Fractions and tiny values are as good as whole ones; a target that would exceed
 * 256 bits is 2^256-1, which every hash meets.
 *
 * @param difficulty - above 0, finite, e.g. 0.001
 * @param difficulty1Target - the chain's difficulty-1 target
 * @throws RangeError unless difficulty is finite and above 0
 */
export function targetFromDifficulty(difficulty: number, difficulty1Target: bigint = DIFFICULTY_1_TARGET): bigint {
  if (!Number.isFinite(difficulty) || difficulty <= 0) {
    throw new RangeError(`difficulty: expected a finite number above 0, got ${difficulty}`);
  }
  const { numerator, denominator } = ratioFromDouble(difficulty);
  const target = (difficulty1Target * denominator) / numerator;
  return target > MAX_TARGET ? MAX_TARGET : target;
}

/**
 * A hash as the number that is compared with a target.
 *
 * @param hash - 32 bytes in internal order (little-endian)
 * @throws RangeError unless it has 32 bytes
 */
export function hashValue(hash: Uint8Array): bigint {
  if (hash.length !== 32) throw new RangeError(`hash: expected 32 bytes, got ${hash.length}`);
  const view = new DataView(hash.buffer, hash.byteOffset, 32);
  return (
    (view.getBigUint64(24, true) << 192n) |
    (view.getBigUint64(16, true) << 128n) |
    (view.getBigUint64(8, true) << 64n) |
    view.getBigUint64(0, true)
  );
}

const TWO_32 = 2 ** 32;
const TWO_64 = 2 ** 64;
const TWO_128 = 2 ** 128;
const TWO_192 = 2 ** 192;
const DIFFICULTY_1_DOUBLE = Number(DIFFICULTY_1_TARGET);

/**
 * The difficulty that a hash reached, as CKPool computes its `sdiff`: in doubles, the hash as the sum of its four
 * 64-bit words from the highest to the lowest. The digits equal those in CKPool's share logs. Within two parts in 2^53
 * of a border it can differ from the exact comparison of hashValue with targetFromDifficulty; blocks are decided by the
 * exact one.
 *
 * @param hash - 32 bytes in internal order
 * @param difficulty1 - the chain's difficulty-1 target as a double
 * @returns difficulty; a hash of zero counts as the value 1
 */
export function shareDifficulty(hash: Uint8Array, difficulty1: number = DIFFICULTY_1_DOUBLE): number {
  if (hash.length !== 32) throw new RangeError(`hash: expected 32 bytes, got ${hash.length}`);
  const view = new DataView(hash.buffer, hash.byteOffset, 32);
  // high * 2^32 is exact, so the sum is the 64-bit word rounded once, as a conversion from uint64 rounds it.
  const word = (offset: number): number => view.getUint32(offset + 4, true) * TWO_32 + view.getUint32(offset, true);
  const value = word(24) * TWO_192 + word(16) * TWO_128 + word(8) * TWO_64 + word(0);
  return difficulty1 / (value === 0 ? 1 : value);
}

/**
 * Expected number of hashes for one hash at or below the target: floor(2^256 / (target + 1)); 0 for target 0.
 *
 * @throws RangeError unless 0 <= target < 2^256
 * @see Bitcoin Core chain.cpp, GetBlockProof
 */
export function workFromTarget(target: bigint): bigint {
  checkTarget(target);
  return target === 0n ? 0n : (1n << 256n) / (target + 1n);
}

/** Expected number of hashes for one block with these bits; the sum over a chain is its `chainwork`. */
export function workFromBits(bits: number): bigint {
  return workFromTarget(targetFromBits(bits));
}
