/**
 * Packs one closed segment: the same records, positions and schema in a container whose blocks are compressed, in its place. Run by packer.ts.
 *
 *     prepare     X.avro, X.idx        read, each block by its checksum; damage of any kind: the segment stays as it is
 *                 X.avro.packing       written, synced
 *                 X.zdx                its sidecar, written, synced; means nothing beside a container that is not packed
 *                 X.avro.packing       read back as any reader reads it, and compared
 *     exchange    X.avro.packing ──rename──► X.avro        the one step that counts; the directory is synced
 *                 X.idx                removed
 *
 * Between any two of these steps there is one container under the name that readers open, with the sidecar that its codec asks for. Who has the old
 * one open reads it to its end: the bytes of a removed file live as long as its last reader. A reader that opened the old container and finds its sidecar
 * gone opens anew (segment-head.ts). What a crash leaves is cleared away by `settle` and by the next attempt.
 */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, fchmodSync, fdatasyncSync, fsyncSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncDirectory } from '../sync-directory.ts';
import { encodeHead, SYNC_BYTES, writeLong } from './container.ts';
import { HEAD_KEYS, PACKING_SUFFIX, type SegmentName } from './journal-files.ts';
import { writeAll } from './journal-recovery.ts';
import { PACKED_CODEC, packBody } from './packed-body.ts';
import { openSegmentFiles } from './segment-head.ts';
import {
  encodeIndexHead,
  INDEX_ENTRY_BYTES,
  INDEX_HEAD_BYTES,
  type IndexEntry,
  writeIndexEntry,
} from './segment-index.ts';
import { type Piece, SegmentReader } from './segment-reader.ts';

/** Records of a packed block at most: what one flipped bit can cost (README.md has what other numbers cost in bytes). */
const BLOCK_RECORDS = 500;
/** Bytes of a block's records at most, but for one that is larger by itself. */
const BLOCK_BYTES = 1024 * 1024;
/** Read between two pauses. */
const READ_BYTES = 256 * 1024;
/** Written between two syncs: one of all would keep the writers of the same disk waiting for theirs. */
const SYNC_EVERY_BYTES = 4 * 1024 * 1024;
const BLOCK_HEAD_BYTES = 20;

export interface PackOptions {
  /** Asked now and then: may more be written? False ends the packing as a full disk does. */
  readonly hasRoom: () => boolean;
  /** For measurements. */
  readonly blockRecords?: number;
}

/** A segment that is packed beside itself, and what it was made from. */
export interface Prepared {
  readonly name: SegmentName;
  readonly from: string;
  readonly records: number;
  /** Container and sidecar, before and after. */
  readonly plainBytes: number;
  readonly packedBytes: number;
}

/** Why a segment stays as it is. */
export interface Refused {
  readonly refused: string;
}

const packingPath = (name: SegmentName): string => `${name.path}${PACKING_SUFFIX}`;

/** Which files a plain segment's are and how far they reach; changes with any write to them. null: one of them is gone. */
export function stateOf(name: SegmentName): string | null {
  const states = [name.path, name.indexPath].map((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? null : `${stat.dev}.${stat.ino}.${stat.size}.${stat.mtimeNs}`;
  });
  return states.includes(null) ? null : states.join(' ');
}

/** What was read, so far: the bytes of all records in order. Where each begins follows from these by the schema. */
class Tally {
  readonly #hash: Hash = createHash('sha256');
  readonly #first: number;
  count = 0;

  constructor(firstSequence: number) {
    this.#first = firstSequence;
  }

  /** @returns why the piece is none that may be there */
  take(piece: Piece): string | null {
    if (piece.kind === 'damage') return `damage at sequence ${piece.sequence}: ${piece.reason}`;
    if (!piece.checked) return `the block at sequence ${piece.sequence} has no checksum`;
    if (piece.sequence !== this.#first + this.count) return `records before sequence ${piece.sequence} are missing`;
    this.#hash.update(piece.body);
    this.count += piece.records.length;
    return null;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

/** Writes a packed container block by block. */
class PackedWriter {
  readonly entries: IndexEntry[] = [];
  sizeBytes: number;
  readonly #fd: number;
  readonly #sync: Buffer;
  readonly #options: PackOptions;
  readonly #blockRecords: number;
  #body = Buffer.allocUnsafe(BLOCK_BYTES);
  #bodyBytes = 0;
  #count = 0;
  #sequence: number;
  #unsynced = 0;

  constructor(fd: number, head: Buffer, sync: Buffer, firstSequence: number, options: PackOptions) {
    this.#fd = fd;
    this.#sync = sync;
    this.#sequence = firstSequence;
    this.#options = options;
    this.#blockRecords = options.blockRecords ?? BLOCK_RECORDS;
    writeAll(fd, head, 0);
    this.sizeBytes = head.length;
  }

  add(record: Buffer): void {
    if (this.#count >= this.#blockRecords || (this.#count > 0 && this.#bodyBytes + record.length > BLOCK_BYTES)) {
      this.flush();
    }
    if (record.length > this.#body.length) this.#body = Buffer.allocUnsafe(record.length);
    this.#body.set(record, this.#bodyBytes);
    this.#bodyBytes += record.length;
    this.#count++;
  }

  flush(): void {
    if (this.#count === 0) return;
    const packed = packBody(this.#body.subarray(0, this.#bodyBytes));
    const counts = Buffer.alloc(BLOCK_HEAD_BYTES);
    const countsBytes = writeLong(counts, writeLong(counts, 0, this.#count), packed.length);
    const block = Buffer.concat([counts.subarray(0, countsBytes), packed, this.#sync]);
    writeAll(this.#fd, block, this.sizeBytes);
    this.entries.push({
      offset: this.sizeBytes,
      firstSequence: this.#sequence,
      count: this.#count,
      lengthBytes: block.length,
      crc: crc32(block),
    });
    this.sizeBytes += block.length;
    this.#sequence += this.#count;
    this.#bodyBytes = 0;
    this.#count = 0;
    this.#unsynced += block.length;
    if (this.#unsynced < SYNC_EVERY_BYTES) return;
    if (!this.#options.hasRoom()) throw Object.assign(new Error('the disk is nearly full'), { code: 'ENOSPC' });
    fdatasyncSync(this.#fd);
    this.#unsynced = 0;
  }
}

/** Writes a file whole and synced. */
function writeSynced(path: string, mode: number, write: (fd: number) => void): void {
  const fd = openSync(path, 'w');
  try {
    // Who could read the old files reads the new ones.
    fchmodSync(fd, mode);
    write(fd);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The packed container and its sidecar, from a segment at its beginning. */
function* write(
  segment: SegmentReader,
  mode: number,
  tally: Tally,
  options: PackOptions,
): Generator<void, PackedWriter | Refused> {
  const { name, head } = segment;
  const sync = randomBytes(SYNC_BYTES);
  const headBytes = encodeHead(new Map([...head.metadata!, [HEAD_KEYS.codec, PACKED_CODEC]]), sync);
  const fd = openSync(packingPath(name), 'w');
  let writer: PackedWriter;
  try {
    fchmodSync(fd, mode);
    writer = new PackedWriter(fd, headBytes, sync, head.firstSequence, options);
    for (;;) {
      const pieces = segment.next(true, READ_BYTES);
      if (pieces.length === 0) break;
      for (const piece of pieces) {
        const wrong = tally.take(piece);
        if (wrong !== null) return { refused: wrong };
        for (const record of piece.kind === 'block' ? piece.records : []) writer.add(record);
      }
      yield;
    }
    writer.flush();
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const { entries } = writer;
  writeSynced(name.packedIndexPath, mode, (indexFd) => {
    const { fingerprint, firstSequence } = head;
    const bytes = Buffer.alloc(INDEX_HEAD_BYTES + entries.length * INDEX_ENTRY_BYTES);
    const indexHead = {
      headBytes: headBytes.length,
      headCrc: crc32(headBytes),
      firstSequence,
      fingerprint,
      sync,
      packed: true,
    };
    encodeIndexHead(indexHead).copy(bytes);
    for (const [i, entry] of entries.entries()) {
      writeIndexEntry(bytes, INDEX_HEAD_BYTES + i * INDEX_ENTRY_BYTES, entry);
    }
    writeAll(indexFd, bytes, 0);
  });
  return writer;
}

/** Reads what was written as any reader does. @returns why it is not what was read before; null: it is */
function* compare(name: SegmentName, head: SegmentReader['head'], tally: Tally): Generator<void, string | null> {
  const digest = tally.digest();
  const packed = SegmentReader.open({ ...name, path: packingPath(name) }, () => null);
  if (typeof packed === 'string') return `the head is ${packed}`;
  try {
    const { schemaText, fingerprint, firstSequence } = packed.head;
    if (!packed.head.packed || schemaText !== head.schemaText || fingerprint !== head.fingerprint)
      return 'the head differs';
    const again = new Tally(firstSequence);
    for (;;) {
      const pieces = packed.next(true, READ_BYTES);
      if (pieces.length === 0) break;
      for (const piece of pieces) {
        const wrong = again.take(piece);
        if (wrong !== null) return wrong;
      }
      yield;
    }
    if (packed.offset !== packed.sizeBytes) return 'bytes lie behind the last block';
    return firstSequence === head.firstSequence && again.count === tally.count && again.digest() === digest
      ? null
      : 'the records differ';
  } finally {
    packed.close();
  }
}

/**
 * Packs a closed segment beside itself; readers see nothing of it. Each step of the generator takes a few milliseconds.
 *
 * @param name - nobody appends to it any more
 * @throws Error of the file system; nothing is left behind then, as far as it lets itself be removed
 */
export function* prepare(name: SegmentName, options: PackOptions): Generator<void, Prepared | Refused> {
  const from = stateOf(name);
  if (from === null) return { refused: 'it is gone, or its sidecar' };
  const segment = SegmentReader.open(name, () => null);
  if (typeof segment === 'string') return { refused: `its head is ${segment}` };
  let done = false;
  try {
    const { head, sizeBytes } = segment;
    if (head.packed) return { refused: 'it is packed already' };
    if (head.damaged !== null || head.metadata === null) return { refused: 'its head is damaged' };
    if (segment.endSequence() === head.firstSequence) return { refused: 'it is empty' };
    const tally = new Tally(head.firstSequence);
    const writer = yield* write(segment, statSync(name.path).mode & 0o777, tally, options);
    if ('refused' in writer) return writer;
    if (segment.offset !== sizeBytes) return { refused: 'bytes lie behind the last block' };
    syncDirectory(dirname(name.path));
    const wrong = yield* compare(name, head, tally);
    if (wrong !== null) return { refused: `the packed segment is not the same: ${wrong}` };
    const prepared: Prepared = {
      name,
      from,
      records: tally.count,
      plainBytes: sizeBytes + statSync(name.indexPath).size,
      packedBytes: writer.sizeBytes + INDEX_HEAD_BYTES + writer.entries.length * INDEX_ENTRY_BYTES,
    };
    done = true;
    return prepared;
  } finally {
    segment.close();
    if (!done) drop(name);
  }
}

/** Removes what was prepared. A sidecar that a packed container in place has need of is none of it. */
export function drop(name: SegmentName): void {
  rmSync(packingPath(name), { force: true });
  if (isPacked(name) === false) rmSync(name.packedIndexPath, { force: true });
}

/** @returns null where it cannot be told */
function isPacked(name: SegmentName): boolean | null {
  const files = openSegmentFiles(name);
  if (typeof files === 'string') return files === 'gone' ? false : null;
  closeSync(files.fd);
  if (files.indexFd !== null) closeSync(files.indexFd);
  return files.head.packed;
}

/**
 * Puts the packed segment in the place of the one that it was made from. Up to its one step that counts it is synchronous, so that nothing else of this
 * process (retention.ts) comes between looking and doing.
 *
 * @returns false where that has changed or is gone: what was prepared is removed
 * @throws Error of the file system
 */
export async function exchange({ name, from }: Prepared): Promise<boolean> {
  if (stateOf(name) !== from) {
    drop(name);
    return false;
  }
  try {
    renameSync(packingPath(name), name.path);
  } catch (error) {
    drop(name);
    throw error;
  }
  await removePlainSidecar(name);
  return true;
}

/** The writer's sidecar goes when the packed container is sure to be there after a power cut. */
async function removePlainSidecar(name: SegmentName): Promise<void> {
  const directory = await open(dirname(name.path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
  rmSync(name.indexPath, { force: true });
}

/** Ends what a crash left of a segment that has both sidecars. Where it cannot be told which is its own both stay. */
export async function settle(name: SegmentName): Promise<void> {
  const packed = isPacked(name);
  if (packed === true) await removePlainSidecar(name);
  else if (packed === false) rmSync(name.packedIndexPath, { force: true });
}
