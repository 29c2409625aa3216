/**
 * Proof of work: the hash that is compared with a target. On sha256d chains it is the block's hash; on scrypt chains it
 * is not, and a block is still named by its double SHA-256 (`header.ts`, blockHash).
 *
 * Measured on Node 24: sha256d of a header 2 to 3 µs, scrypt 0.25 ms on the calling thread.
 *
 * @see RFC 7914; Litecoin `crypto/scrypt.cpp` (N = 1024, r = 1, p = 1, the header as password and as salt)
 */
import { scryptSync } from 'node:crypto';
import { sha256d } from './hash.ts';
import { HEADER_SIZE_BYTES } from './header.ts';
import { hashValue } from './target.ts';

export type PowAlgorithm = 'sha256d' | 'scrypt';

/** All algorithms, for checks and messages. */
export const POW_ALGORITHMS: readonly PowAlgorithm[] = ['sha256d', 'scrypt'];

/**
 * The proof-of-work hash of a header.
 *
 * @param header80 - exactly 80 bytes
 * @returns 32 bytes, internal order (little-endian number)
 * @throws RangeError for another size
 */
export function powHash(algorithm: PowAlgorithm, header80: Uint8Array): Uint8Array {
  if (header80.length !== HEADER_SIZE_BYTES) throw new RangeError(`header: expected 80 bytes, got ${header80.length}`);
  if (algorithm === 'sha256d') return sha256d(header80);
  const out = scryptSync(header80, header80, 32, { N: 1024, r: 1, p: 1 });
  return new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
}

/** True where the hash, as a number, is at or below the target: the one test that makes a block. */
export function meetsTarget(hash: Uint8Array, target: bigint): boolean {
  return hashValue(hash) <= target;
}
