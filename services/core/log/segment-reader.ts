/**
 * One segment of the journal, read while its writer may still append to it: the sidecar says what was appended, the checksum whether it
 * is still what was written, and where the sidecar is missing or damaged the container's own structure (counts, sizes, sync markers)
 * is walked instead.
 *
 * In a segment that may still grow, what the sidecar does not name is "not yet". In a final one (a later segment exists) it is read
 * by structure, and what has none is damage.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fingerprintOf } from '../../../schemas/codec.ts';
import { parseBlock, parseHead, type RecordSplitter, recordSplitter } from './container.ts';
import { HEAD_KEYS, type SegmentName } from './journal-files.ts';
import {
  INDEX_ENTRY_BYTES,
  INDEX_HEAD_BYTES,
  type IndexEntry,
  type IndexHead,
  parseIndexEntry,
  parseIndexHead,
} from './segment-index.ts';

/** What one step of reading gave: the records of a block, or bytes that are none. */
export type Piece =
  | { readonly kind: 'block'; readonly sequence: number; readonly records: readonly Buffer[] }
  | {
      readonly kind: 'damage';
      readonly sequence: number;
      /** Sequence of the record behind the damage; at least that, where the number of records lost is not known. */
      readonly nextSequence: number;
      readonly reason: string;
      readonly bytes: Buffer;
    };

const FIRST_HEAD_READ_BYTES = 64 * 1024;
const ENTRIES_PER_READ = 2048;

/** Bytes [from, to) of a file, fewer where it ends before. */
export function readRange(fd: number, from: number, to: number): Buffer {
  const bytes = Buffer.allocUnsafe(Math.max(0, to - from));
  let filled = 0;
  while (filled < bytes.length) {
    const got = readSync(fd, bytes, filled, bytes.length - filled, from + filled);
    if (got === 0) break;
    filled += got;
  }
  return bytes.subarray(0, filled);
}

/** The head of a container as far as it can be read. */
function readContainerHead(fd: number): { bytes: Buffer; parsed: ReturnType<typeof parseHead> } {
  for (let length = FIRST_HEAD_READ_BYTES; ; length *= 4) {
    const bytes = readRange(fd, 0, length);
    const parsed = parseHead(bytes);
    if (parsed !== 'short' || bytes.length < length) return { bytes, parsed };
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

/** The head of a segment: from the container, from the sidecar where that is damaged. */
interface Head {
  /** null where the container's head is damaged. */
  readonly schemaText: string | null;
  readonly fingerprint: string;
  readonly sync: Buffer;
  readonly headBytes: number;
  readonly firstSequence: number;
  /** The container's head where it is damaged, for the report. */
  readonly damaged: Buffer | null;
}

function headOf(fd: number, index: IndexHead | null): Head | 'short' | 'bad' {
  const { bytes, parsed } = readContainerHead(fd);
  if (index !== null && bytes.length < index.headBytes) return 'short';
  const intact = index === null || crc32(bytes.subarray(0, index.headBytes)) === index.headCrc;
  if (typeof parsed === 'object' && intact) {
    const schemaText = parsed.metadata.get(HEAD_KEYS.schema);
    const first = Number(parsed.metadata.get(HEAD_KEYS.firstSequence) ?? Number.NaN);
    if (schemaText !== undefined && Number.isSafeInteger(first) && first >= 0) {
      try {
        const fingerprint = index?.fingerprint ?? fingerprintOf(schemaText);
        return {
          schemaText,
          fingerprint,
          sync: parsed.sync,
          headBytes: parsed.lengthBytes,
          firstSequence: first,
          damaged: null,
        };
      } catch {
        // A schema that does not parse is a damaged head.
      }
    }
  }
  if (index === null) return parsed === 'short' ? 'short' : 'bad';
  const { fingerprint, sync, headBytes, firstSequence } = index;
  return {
    schemaText: null,
    fingerprint,
    sync,
    headBytes,
    firstSequence,
    damaged: Buffer.from(bytes.subarray(0, headBytes)),
  };
}

/** Schema text for a fingerprint, where it is known from elsewhere. */
export type SchemaSource = (fingerprint: string) => string | null;

export class SegmentReader {
  readonly name: SegmentName;
  readonly head: Head;
  readonly #fd: number;
  #indexFd: number | null;
  readonly #split: RecordSplitter | null;
  /** Entry that comes next, and where the block behind the last one read begins. */
  #entry = 0;
  #offset: number;
  #sequence: number;
  #headReported = false;

  /**
   * Opens a segment.
   * @returns `short` where its head is not written yet, `bad` where nothing of its head can be read, `gone` where the file is not there
   */
  static open(name: SegmentName, schemas: SchemaSource): SegmentReader | 'short' | 'bad' | 'gone' {
    let fd: number;
    try {
      fd = openSync(name.path, 'r');
    } catch (error) {
      if (isMissing(error)) return 'gone';
      throw error;
    }
    let indexFd: number | null = null;
    try {
      indexFd = openIndex(name);
      const index = indexFd === null ? null : parseIndexHead(readRange(indexFd, 0, INDEX_HEAD_BYTES));
      const head = headOf(fd, index);
      if (typeof head === 'object') return new SegmentReader(name, head, fd, indexFd, schemas);
      closeSync(fd);
      if (indexFd !== null) closeSync(indexFd);
      return head;
    } catch (error) {
      closeSync(fd);
      if (indexFd !== null) closeSync(indexFd);
      throw error;
    }
  }

  private constructor(name: SegmentName, head: Head, fd: number, indexFd: number | null, schemas: SchemaSource) {
    this.name = name;
    this.head = head;
    this.#fd = fd;
    this.#indexFd = indexFd;
    this.#offset = head.headBytes;
    this.#sequence = head.firstSequence;
    const schemaText = head.schemaText ?? schemas(head.fingerprint);
    this.#split = schemaText === null ? null : recordSplitter(schemaText);
  }

  /** Sequence of the next record to come. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Offset in the container behind what was read. */
  get offset(): number {
    return this.#offset;
  }

  /** Number of entries of the sidecar behind which reading stands. */
  get entry(): number {
    return this.#entry;
  }

  get sizeBytes(): number {
    return fstatSync(this.#fd).size;
  }

  /** Goes to the block that holds a sequence, or to one before it; the caller drops what comes before. */
  seek(sequence: number): void {
    this.#entry = 0;
    this.#offset = this.head.headBytes;
    this.#sequence = this.head.firstSequence;
    this.#headReported = sequence > this.head.firstSequence;
    let low = 0;
    let high = this.#entrySlots();
    while (low < high) {
      const middle = (low + high) >> 1;
      // A damaged entry is passed over to the left; one of zeros is beyond the end.
      let at = middle;
      let entry = this.#entryAt(at);
      while (entry === null && at > low && !this.#isReserve(at)) entry = this.#entryAt(--at);
      if (entry !== null && entry.firstSequence <= sequence) {
        this.#entry = at;
        this.#offset = entry.offset;
        this.#sequence = entry.firstSequence;
        low = middle + 1;
      } else {
        high = at;
      }
    }
  }

  /** Sequence behind the last record that the sidecar names. */
  endSequence(): number {
    const slots = this.#entrySlots();
    for (let end = slots; end > 0; end -= ENTRIES_PER_READ) {
      const start = Math.max(0, end - ENTRIES_PER_READ);
      const bytes = this.#indexBytes(start, end - start);
      for (let i = end - start - 1; i >= 0; i--) {
        const entry = parseIndexEntry(bytes, i * INDEX_ENTRY_BYTES);
        if (entry !== null) return entry.firstSequence + entry.count;
      }
    }
    return this.head.firstSequence;
  }

  /**
   * Reads on.
   * @param final - true: nothing more will be appended to this segment
   * @param maxBytes - stop at the first block that ends beyond this many bytes
   * @returns nothing at the end, or where there is nothing yet
   */
  next(final: boolean, maxBytes: number): Piece[] {
    if (this.head.damaged !== null && !this.#headReported) {
      this.#headReported = true;
      const sequence = this.#sequence;
      const reason = 'the head of the segment is damaged; its blocks are read by its sidecar';
      return [{ kind: 'damage', sequence, nextSequence: sequence, reason, bytes: this.head.damaged }];
    }
    if (this.#indexFd === null) this.#indexFd = openIndex(this.name);
    const indexBytes = this.#indexBytes(this.#entry, ENTRIES_PER_READ);
    const entries: IndexEntry[] = [];
    let end = this.#offset;
    for (let at = 0; at < indexBytes.length && end - this.#offset < maxBytes; at += INDEX_ENTRY_BYTES) {
      const entry = parseIndexEntry(indexBytes, at);
      if (entry === null || entry.offset !== end) break;
      entries.push(entry);
      end += entry.lengthBytes;
    }
    if (entries.length === 0) return this.#nextUnindexed(final);
    const start = this.#offset;
    const bytes = readRange(this.#fd, start, end);
    const pieces: Piece[] = [];
    for (const entry of entries) {
      const from = entry.offset - start;
      const to = from + entry.lengthBytes;
      // The container is shorter than its sidecar says: a power cut, or a disk that lost its end.
      if (to > bytes.length && !final) break;
      pieces.push(this.#block(entry, bytes.subarray(from, Math.min(to, bytes.length))));
      this.#entry++;
      this.#offset = entry.offset + entry.lengthBytes;
      this.#sequence = entry.firstSequence + entry.count;
    }
    return pieces;
  }

  #block(entry: IndexEntry, bytes: Buffer): Piece {
    const sequence = entry.firstSequence;
    const nextSequence = sequence + entry.count;
    const damage = (reason: string): Piece => ({ kind: 'damage', sequence, nextSequence, reason, bytes });
    if (bytes.length < entry.lengthBytes) {
      return damage(`the segment ends inside a block: ${bytes.length} of ${entry.lengthBytes} bytes`);
    }
    if (crc32(bytes) !== entry.crc) return damage('the checksum of the block differs');
    const span = parseBlock(bytes, 0, this.head.sync);
    if (span === null || span.end !== bytes.length || span.count !== entry.count) {
      return damage('the block does not parse');
    }
    const body = bytes.subarray(span.bodyStart, span.bodyEnd);
    if (entry.count === 1) return { kind: 'block', sequence, records: [body] };
    if (this.#split === null) return damage(`the schema ${this.head.fingerprint} of the block is not known`);
    const records = this.#split(body, entry.count);
    return records === null ? damage('the body is not by its schema') : { kind: 'block', sequence, records };
  }

  /** Where the sidecar does not name the block that begins here: up to the next entry that is whole, else to the end of a final segment. */
  #nextUnindexed(final: boolean): Piece[] {
    const next = this.#nextEntry();
    if (next !== null) {
      const bytes = readRange(this.#fd, this.#offset, next.entry.offset);
      const pieces = this.#scan(bytes);
      this.#entry = next.slot;
      this.#offset = next.entry.offset;
      this.#sequence = Math.max(this.#sequence, next.entry.firstSequence);
      // Entries that follow without a gap after a damaged one: go on at once.
      return pieces.length > 0 ? pieces : this.next(final, 1);
    }
    if (!final) return [];
    const bytes = readRange(this.#fd, this.#offset, this.sizeBytes);
    this.#offset += bytes.length;
    return this.#scan(bytes);
  }

  /** The first whole entry at or behind this one whose block does not begin before the present place. */
  #nextEntry(): { slot: number; entry: IndexEntry } | null {
    for (let slot = this.#entry; ; slot += ENTRIES_PER_READ) {
      const bytes = this.#indexBytes(slot, ENTRIES_PER_READ);
      if (bytes.length < INDEX_ENTRY_BYTES) return null;
      for (let at = 0; at + INDEX_ENTRY_BYTES <= bytes.length; at += INDEX_ENTRY_BYTES) {
        const entry = parseIndexEntry(bytes, at);
        if (entry !== null && entry.offset >= this.#offset) return { slot: slot + at / INDEX_ENTRY_BYTES, entry };
      }
    }
  }

  /** Blocks found by structure alone. What cannot be read counts as one record at least, so that positions go on rising. */
  #scan(bytes: Buffer): Piece[] {
    const pieces: Piece[] = [];
    let at = 0;
    while (at < bytes.length) {
      const span = parseBlock(bytes, at, this.head.sync);
      const records =
        span === null ? null : (this.#split?.(bytes.subarray(span.bodyStart, span.bodyEnd), span.count) ?? null);
      if (span !== null && records !== null) {
        pieces.push({ kind: 'block', sequence: this.#sequence, records });
        this.#sequence += records.length;
        at = span.end;
        continue;
      }
      const sync = bytes.indexOf(this.head.sync, at);
      const end = sync < 0 ? bytes.length : sync + this.head.sync.length;
      const reason = sync < 0 ? 'the segment ends inside a block' : 'the block does not parse';
      const sequence = this.#sequence++;
      pieces.push({ kind: 'damage', sequence, nextSequence: sequence + 1, reason, bytes: bytes.subarray(at, end) });
      at = end;
    }
    return pieces;
  }

  #entrySlots(): number {
    if (this.#indexFd === null) this.#indexFd = openIndex(this.name);
    if (this.#indexFd === null) return 0;
    return Math.max(0, Math.floor((fstatSync(this.#indexFd).size - INDEX_HEAD_BYTES) / INDEX_ENTRY_BYTES));
  }

  #indexBytes(slot: number, count: number): Buffer {
    if (this.#indexFd === null) return Buffer.alloc(0);
    const from = INDEX_HEAD_BYTES + slot * INDEX_ENTRY_BYTES;
    return readRange(this.#indexFd, from, from + count * INDEX_ENTRY_BYTES);
  }

  #entryAt(slot: number): IndexEntry | null {
    return parseIndexEntry(this.#indexBytes(slot, 1), 0);
  }

  #isReserve(slot: number): boolean {
    return this.#indexBytes(slot, 1).every((byte) => byte === 0);
  }

  close(): void {
    closeSync(this.#fd);
    if (this.#indexFd !== null) closeSync(this.#indexFd);
    this.#indexFd = null;
  }
}

function openIndex(name: SegmentName): number | null {
  try {
    return openSync(name.indexPath, 'r');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
