/**
 * The toy chain's blocks on disk: one file that is only appended to, so that the chain continues when it is started again.
 * Flow: `chain.ts` appends each block that it keeps and reads it back when somebody asks for it.
 *
 * | part   | bytes | content                                              |
 * |--------|-------|------------------------------------------------------|
 * | head   | 8     | `LODETOY1`                                           |
 * |        | 32    | hash of the first block, display order               |
 * | record | 4     | length n of the block, little-endian                 |
 * |        | 4     | CRC-32 of the block, little-endian                   |
 * |        | n     | the block                                            |
 *
 * A write that was cut short by the death of the process leaves a torn last record; it is cut off at the next start. Nothing is
 * synced to the disk: a toy chain may lose its end with the power.
 */
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import type { BlockStorage } from './chain.ts';

const MAGIC = Buffer.from('LODETOY1', 'latin1');
const HEAD_BYTES = MAGIC.length + 32;
const RECORD_HEAD_BYTES = 8;
/** Core's limit of a serialised block. */
const MAX_BLOCK_BYTES = 4_000_000;
const LOCK_WAIT_MS = 5_000;

export interface BlockFile extends BlockStorage {
  readonly path: string;
  /** Bytes of a torn end that were cut off at the start. */
  readonly cutBytes: number;
  /** All blocks in the order in which they came. */
  stored(): Generator<{ readonly place: number; readonly bytes: Uint8Array }>;
  close(): void;
}

/**
 * Opens or makes the file `blocks` in a directory, which it locks.
 *
 * @param genesisHash - display order; a file of another chain is refused
 * @throws PoolError held where another process has it; data_dir where it cannot be used
 */
export function openBlockFile(dir: string, genesisHash: string): BlockFile {
  const path = join(dir, 'blocks');
  let fd: number;
  try {
    mkdirSync(dir, { recursive: true });
  } catch (cause) {
    throw new PoolError('data_dir', `the toy chain's directory ${dir}: ${(cause as Error).message}`, { cause });
  }
  const lock = acquireLock(join(dir, 'lock'), { waitMs: LOCK_WAIT_MS, what: `the toy chain in ${dir}` });
  let size: number;
  let cutBytes: number;
  try {
    fd = openSync(path, 'a+', 0o640);
    const found = fstatSync(fd).size;
    size = found === 0 ? 0 : readHead(fd, found, path, genesisHash);
    if (size === 0) {
      ftruncateSync(fd, 0);
      size = writeSync(fd, Buffer.concat([MAGIC, Buffer.from(genesisHash, 'hex')]));
    } else {
      size = endOfRecords(fd, found);
    }
    cutBytes = Math.max(0, found - size);
    if (cutBytes > 0) ftruncateSync(fd, size);
  } catch (cause) {
    lock.release();
    if (cause instanceof PoolError) throw cause;
    throw new PoolError('data_dir', `the toy chain's file ${path}: ${(cause as Error).message}`, { cause });
  }

  function read(place: number): Uint8Array {
    return recordAt(fd, place, size)!;
  }
  return {
    path,
    cutBytes,
    append(bytes) {
      const head = Buffer.alloc(RECORD_HEAD_BYTES);
      head.writeUInt32LE(bytes.length, 0);
      head.writeUInt32LE(crc32(bytes), 4);
      const record = Buffer.concat([head, bytes]);
      const place = size;
      try {
        for (let at = 0; at < record.length; ) at += writeSync(fd, record, at);
      } catch (cause) {
        ftruncateSync(fd, place);
        throw new PoolError('disk', `the toy chain's file ${path}: ${(cause as Error).message}`, { cause });
      }
      size += record.length;
      return place;
    },
    read,
    *stored() {
      const end = size;
      for (let place = HEAD_BYTES; place < end; ) {
        const bytes = read(place);
        yield { place, bytes };
        place += RECORD_HEAD_BYTES + bytes.length;
      }
    },
    close() {
      closeSync(fd);
      lock.release();
    },
  };
}

/** @returns 0 for a head that was cut short while the file was made */
function readHead(fd: number, size: number, path: string, genesisHash: string): number {
  const head = Buffer.alloc(HEAD_BYTES);
  readSync(fd, head, 0, HEAD_BYTES, 0);
  if (size < HEAD_BYTES) return 0;
  if (!head.subarray(0, MAGIC.length).equals(MAGIC))
    throw new PoolError('data_dir', `${path} is no file of a toy chain`);
  const stored = head.subarray(MAGIC.length).toString('hex');
  if (stored !== genesisHash) {
    throw new PoolError(
      'data_dir',
      `${path} is of a toy chain whose first block is ${stored}, not ${genesisHash}; choose another directory or remove it`,
    );
  }
  return HEAD_BYTES;
}

function endOfRecords(fd: number, size: number): number {
  let at = HEAD_BYTES;
  for (;;) {
    const bytes = recordAt(fd, at, size);
    if (bytes === null) return at;
    at += RECORD_HEAD_BYTES + bytes.length;
  }
}

/** @returns the block, null where no whole record is */
function recordAt(fd: number, place: number, size: number): Uint8Array | null {
  if (place + RECORD_HEAD_BYTES > size) return null;
  const head = Buffer.alloc(RECORD_HEAD_BYTES);
  if (readSync(fd, head, 0, RECORD_HEAD_BYTES, place) < RECORD_HEAD_BYTES) return null;
  const length = head.readUInt32LE(0);
  if (length > MAX_BLOCK_BYTES || place + RECORD_HEAD_BYTES + length > size) return null;
  const bytes = new Uint8Array(length);
  if (readSync(fd, bytes, 0, length, place + RECORD_HEAD_BYTES) < length) return null;
  return crc32(bytes) === head.readUInt32LE(4) ? bytes : null;
}
