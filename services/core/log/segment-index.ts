/**
 * The sidecar of a journal segment (`….idx` beside `….avro`, `….zdx` where that is packed): where each block lies, what it holds, and its checksum.
 * A block counts as appended when its entry is here, so the entry is the commit of an append; the checksum tells bit rot from a torn tail.
 * All that is here can be made again from the container, except the checksums.
 *
 *     head, 64 bytes                        entry, 32 bytes each, in order of the blocks
 *     0   'LSJX'                            0   u64 offset of the block in the container
 *     4   u32 version, 1                    8   u64 sequence of its first record
 *     8   u32 length of the container head  16  u32 records
 *     12  u32 crc32 of the container head   20  u32 length of the block: count, size, body and sync marker
 *     16  u64 sequence of the first record  24  u32 crc32 of these bytes
 *     24  u64 fingerprint of the schema     28  u32 crc32 of bytes 0-27
 *     32  sync marker, 16 bytes
 *     48  u32 codec: 0 null, 1 zstandard (packed)
 *     52  zeros
 *     60  u32 crc32 of bytes 0-59
 *
 * Numbers are little-endian. Entries of zeros at the end are space taken in advance: a full disk then fails the append of the block,
 * which can be cut back, and not that of its entry.
 */
import { crc32 } from 'node:zlib';

export const INDEX_HEAD_BYTES = 64;
export const INDEX_ENTRY_BYTES = 32;
const VERSION = 1;
const MAGIC = 'LSJX';
const CODEC_AT = 48;

export interface IndexHead {
  readonly headBytes: number;
  readonly headCrc: number;
  readonly firstSequence: number;
  /** 16 hex digits. */
  readonly fingerprint: string;
  readonly sync: Buffer;
  /** The bodies of its blocks are compressed. */
  readonly packed: boolean;
}

export interface IndexEntry {
  readonly offset: number;
  readonly firstSequence: number;
  readonly count: number;
  readonly lengthBytes: number;
  readonly crc: number;
}

/** Writes a number below 2^53 as u64. */
function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}

/** @returns the 64 bytes of the table above */
export function encodeIndexHead(head: IndexHead): Buffer {
  const bytes = Buffer.alloc(INDEX_HEAD_BYTES);
  bytes.write(MAGIC, 'latin1');
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeUInt32LE(head.headBytes, 8);
  bytes.writeUInt32LE(head.headCrc, 12);
  writeU64(bytes, head.firstSequence, 16);
  bytes.writeBigUInt64LE(BigInt(`0x${head.fingerprint}`), 24);
  head.sync.copy(bytes, 32);
  bytes.writeUInt32LE(head.packed ? 1 : 0, CODEC_AT);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** @returns null where the bytes are not a whole head of this version */
export function parseIndexHead(bytes: Buffer): IndexHead | null {
  if (bytes.length < INDEX_HEAD_BYTES || bytes.toString('latin1', 0, 4) !== MAGIC) return null;
  if (bytes.readUInt32LE(60) !== crc32(bytes.subarray(0, 60)) || bytes.readUInt32LE(4) !== VERSION) return null;
  return {
    headBytes: bytes.readUInt32LE(8),
    headCrc: bytes.readUInt32LE(12),
    firstSequence: readU64(bytes, 16),
    fingerprint: bytes.readBigUInt64LE(24).toString(16).padStart(16, '0'),
    sync: Buffer.from(bytes.subarray(32, 48)),
    packed: bytes.readUInt32LE(CODEC_AT) === 1,
  };
}

/** Writes an entry into `bytes` at a place. */
export function writeIndexEntry(bytes: Buffer, at: number, entry: IndexEntry): void {
  writeU64(bytes, entry.offset, at);
  writeU64(bytes, entry.firstSequence, at + 8);
  bytes.writeUInt32LE(entry.count, at + 16);
  bytes.writeUInt32LE(entry.lengthBytes, at + 20);
  bytes.writeUInt32LE(entry.crc, at + 24);
  bytes.writeUInt32LE(entryCrc(bytes, at), at + ENTRY_CRC_AT);
}

const ENTRY_CRC_AT = 28;
/** Of the polynomial of zlib, 0xedb88320 reflected. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** crc32 of an entry: for so few bytes a call of zlib's costs five times as much. */
function entryCrc(bytes: Buffer, at: number): number {
  let crc = -1;
  for (let i = at; i < at + ENTRY_CRC_AT; i++) crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * Reads the entry at a place.
 * @returns null where it is absent, taken in advance, or damaged
 */
export function parseIndexEntry(bytes: Buffer, at: number): IndexEntry | null {
  if (at + INDEX_ENTRY_BYTES > bytes.length) return null;
  const count = bytes.readUInt32LE(at + 16);
  if (count === 0 || bytes.readUInt32LE(at + ENTRY_CRC_AT) !== entryCrc(bytes, at)) return null;
  return {
    offset: readU64(bytes, at),
    firstSequence: readU64(bytes, at + 8),
    count,
    lengthBytes: bytes.readUInt32LE(at + 20),
    crc: bytes.readUInt32LE(at + 24),
  };
}
