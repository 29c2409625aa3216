/**
 * The 80-byte block header, its hash, and the forms in which its previous hash travels. What a miner hashes and what a
 * share is checked against.
 *
 * | field      | offset | length | order                    | owner                       |
 * |------------|--------|--------|--------------------------|-----------------------------|
 * | version    | 0      | 4      | little-endian, signed    | job, rolled bits by miner   |
 * | prevHash   | 4      | 32     | internal                 | job                         |
 * | merkleRoot | 36     | 32     | internal                 | job and miner's extranonce2 |
 * | time       | 68     | 4      | little-endian            | miner, inside the window    |
 * | bits       | 72     | 4      | little-endian            | job                         |
 * | nonce      | 76     | 4      | little-endian            | miner                       |
 *
 * @see https://developer.bitcoin.org/reference/block_chain.html#block-headers
 */
import { bytesFromHex, concatBytes, hexFromBytes, readInt32Le, readUint32Le, reversed, uint32Le } from './bytes.ts';
import { sha256d } from './hash.ts';

/** Size of a header in bytes. */
export const HEADER_SIZE_BYTES = 80;

export interface Header {
  /** Signed 32-bit as the node prints it; unsigned is taken too. */
  readonly version: number;
  /** 32 bytes, internal order. */
  readonly prevHash: Uint8Array;
  /** 32 bytes, internal order. */
  readonly merkleRoot: Uint8Array;
  /** Unix seconds, unsigned 32-bit. */
  readonly time: number;
  /** nBits, unsigned 32-bit. */
  readonly bits: number;
  /** Unsigned 32-bit. */
  readonly nonce: number;
}

function check32(bytes: Uint8Array, what: string): void {
  if (bytes.length !== 32) throw new RangeError(`${what}: expected 32 bytes, got ${bytes.length}`);
}

/** Serialises a header: 80 bytes. @throws RangeError for hashes not of 32 bytes or numbers outside 32 bits */
export function headerBytes(header: Header): Uint8Array {
  check32(header.prevHash, 'prevHash');
  check32(header.merkleRoot, 'merkleRoot');
  return concatBytes(
    uint32Le(header.version),
    header.prevHash,
    header.merkleRoot,
    uint32Le(header.time),
    uint32Le(header.bits),
    uint32Le(header.nonce),
  );
}

/** Reads a header from the first 80 bytes. @throws RangeError when there are fewer */
export function headerFromBytes(bytes: Uint8Array): Header {
  if (bytes.length < HEADER_SIZE_BYTES) throw new RangeError(`header: expected 80 bytes, got ${bytes.length}`);
  return {
    version: readInt32Le(bytes, 0),
    prevHash: bytes.slice(4, 36),
    merkleRoot: bytes.slice(36, 68),
    time: readUint32Le(bytes, 68),
    bits: readUint32Le(bytes, 72),
    nonce: readUint32Le(bytes, 76),
  };
}

/**
 * The identity of a block: double SHA-256 of its header, also on chains whose proof of work is another function
 * (`pow.ts`).
 *
 * @param header80 - exactly 80 bytes
 * @returns 32 bytes, internal order
 */
export function blockHash(header80: Uint8Array): Uint8Array {
  if (header80.length !== HEADER_SIZE_BYTES) throw new RangeError(`header: expected 80 bytes, got ${header80.length}`);
  return sha256d(header80);
}

/** A hash as nodes print it: 64 hex digits, reversed. @throws RangeError unless it has 32 bytes */
export function hashHex(internal: Uint8Array): string {
  check32(internal, 'hash');
  return hexFromBytes(reversed(internal));
}

/** A hash from the form in which nodes print it, to internal order. @throws RangeError unless it is 64 hex digits */
export function bytesFromHashHex(display: string): Uint8Array {
  return bytesFromHex(display, 'hash', 32).reverse();
}

/**
 * The previous-block hash as `mining.notify` carries it: the display form with its eight 4-byte words in reverse order,
 * the bytes inside a word unchanged.
 *
 *   stratumPrevHash('00000000…0001abab…abababab') === 'abababab…0001abab…00000000'
 *
 * @throws RangeError unless it is 64 hex digits
 */
export function stratumPrevHash(displayHash: string): string {
  const bytes = bytesFromHex(displayHash, 'hash', 32);
  const out = new Uint8Array(32);
  for (let i = 0; i < 32; i += 4) out.set(bytes.subarray(i, i + 4), 28 - i);
  return hexFromBytes(out);
}

/** Internal order from the form in `mining.notify`: the bytes inside each 4-byte word are swapped. */
export function prevHashFromStratum(hex: string): Uint8Array {
  const bytes = bytesFromHex(hex, 'prevhash', 32);
  for (let i = 0; i < 32; i += 4) bytes.subarray(i, i + 4).reverse();
  return bytes;
}
