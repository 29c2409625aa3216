/**
 * The body of a packed block: the records of many turns behind one another, compressed as one zstd frame. This is Avro's codec `zstandard`, so any
 * Avro tool opens it. The frame carries a checksum of what was packed (xxh64), so damage shows where a sidecar is lost too.
 *
 * Source: Apache Avro specification 1.11, "Required Codecs" and "zstandard"; RFC 8878.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

/** Value of `avro.codec` in the head of a packed segment. */
export const PACKED_CODEC = 'zstandard';

/** Where in a frame its descriptor stands, and the bit of it that says that a checksum follows: a decoder checks none where that is not set. */
const DESCRIPTOR_AT = 4;
const CHECKSUM_FOLLOWS = 0x04;
/** Damaged bytes may claim to become anything; no block of ours becomes so much. */
const MOST_BYTES = 64 * 1024 * 1024;
/** Of blocks of this size level 3 makes no less, for half as much time again (README.md). */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 };
/** The output is had in one piece where the guess is enough; else Node collects several and copies them. */
const LEAST_CHUNK_BYTES = 4 * 1024;
/** Shares become four times as much. */
const OPENED_RATIO = 6;

/** Packs the bodies of records that lie one behind the other. */
export function packBody(body: Uint8Array): Buffer {
  return zstdCompressSync(body, { chunkSize: LEAST_CHUNK_BYTES + (body.length >> 1), params: PARAMS });
}

/** @returns null where the bytes are no whole frame, their checksum differs or is not there, or they would become more than 64 MiB */
export function openBody(packed: Uint8Array): Buffer | null {
  if ((packed[DESCRIPTOR_AT]! & CHECKSUM_FOLLOWS) === 0) return null;
  try {
    const chunkSize = LEAST_CHUNK_BYTES + packed.length * OPENED_RATIO;
    return zstdDecompressSync(packed, { chunkSize, maxOutputLength: MOST_BYTES });
  } catch {
    return null;
  }
}
