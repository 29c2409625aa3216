/**
 * The hash functions of Bitcoin, on Node's native ones (SHA-NI where the processor has it). Used by headers,
 * transactions, merkle trees and addresses.
 *
 * @see FIPS 180-4 (SHA-256); Bitcoin Core `hash.h` (Hash)
 */
import { hash } from 'node:crypto';

function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** SHA-256: 32 bytes. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return plain(hash('sha256', bytes, 'buffer'));
}

/** SHA-256 of SHA-256, the hash of blocks, transactions and merkle nodes: 32 bytes in internal order. */
export function sha256d(bytes: Uint8Array): Uint8Array {
  return plain(hash('sha256', hash('sha256', bytes, 'buffer'), 'buffer'));
}
