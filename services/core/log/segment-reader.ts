/**
 * One segment of the journal, read while its writer may still append to it: the sidecar says what was appended, the checksum whether it
 * is still what was written, and where the sidecar is missing or damaged the container's own structure (counts, sizes, sync markers)
 * is walked instead.
 *
 * In a segment that may still grow, what the sidecar does not name is "not yet". In a final one (a later segment exists) it is read
 * by structure, and what has none is damage.
 */
import { closeSync, fstatSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { parseBlock, type RecordSplitter, recordSplitter } from './container.ts';
import type { SegmentName } from './journal-files.ts';
import { openBody } from './packed-body.ts';
import {
  openIfThere,
  openSegmentFiles,
  readRange,
  type SegmentFiles,
  type SegmentHead,
  sidecarOf,
} from './segment-head.ts';
import { INDEX_ENTRY_BYTES, INDEX_HEAD_BYTES, type IndexEntry, parseIndexEntry } from './segment-index.ts';

/** What one step of reading gave: the records of a block, or bytes that are none. */
export type Piece =
  | {
      readonly kind: 'block';
      readonly sequence: number;
      readonly records: readonly Buffer[];
      /** Where the records lie one behind the other, unpacked. */
      readonly body: Buffer;
      /** The checksum of the sidecar was compared. */
      readonly checked: boolean;
    }
  | {
      readonly kind: 'damage';
      readonly sequence: number;
      /** Sequence of the record behind the damage; at least that, where the number of records lost is not known. */
      readonly nextSequence: number;
      readonly reason: string;
      readonly bytes: Buffer;
    };

const ENTRIES_PER_READ = 2048;
/** Shares become four times as much when their block is opened. */
const PACKED_RATIO = 4;

/** Schema text for a fingerprint, where it is known from elsewhere. */
export type SchemaSource = (fingerprint: string) => string | null;

export class SegmentReader {
  readonly name: SegmentName;
  readonly head: SegmentHead;
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
    const files = openSegmentFiles(name);
    return typeof files === 'string' ? files : new SegmentReader(name, files, schemas);
  }

  private constructor(name: SegmentName, { fd, indexFd, head }: SegmentFiles, schemas: SchemaSource) {
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
   * @param maxBytes - stop at the first block that ends beyond this many bytes, about so many of the records where it is packed
   * @returns nothing at the end, or where there is nothing yet
   */
  next(final: boolean, maxBytes: number): Piece[] {
    if (this.head.damaged !== null && !this.#headReported) {
      this.#headReported = true;
      const sequence = this.#sequence;
      const reason = 'the head of the segment is damaged; its blocks are read by its sidecar';
      return [{ kind: 'damage', sequence, nextSequence: sequence, reason, bytes: this.head.damaged }];
    }
    this.#openIndex();
    const mostBytes = this.head.packed ? maxBytes / PACKED_RATIO : maxBytes;
    const indexBytes = this.#indexBytes(this.#entry, ENTRIES_PER_READ);
    const entries: IndexEntry[] = [];
    let end = this.#offset;
    for (let at = 0; at < indexBytes.length && end - this.#offset < mostBytes; at += INDEX_ENTRY_BYTES) {
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
    const body = this.#bodyOf(bytes.subarray(span.bodyStart, span.bodyEnd));
    if (body === null) return damage('the block cannot be unpacked');
    if (entry.count === 1) return { kind: 'block', sequence, records: [body], body, checked: true };
    if (this.#split === null) return damage(`the schema ${this.head.fingerprint} of the block is not known`);
    const records = this.#split(body, entry.count);
    return records === null
      ? damage('the body is not by its schema')
      : { kind: 'block', sequence, records, body, checked: true };
  }

  /** The records of a block as they lie in its body. */
  #bodyOf(stored: Buffer): Buffer | null {
    return this.head.packed ? openBody(stored) : stored;
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
      const body = span === null ? null : this.#bodyOf(bytes.subarray(span.bodyStart, span.bodyEnd));
      const records = body === null ? null : (this.#split?.(body, span!.count) ?? null);
      if (span !== null && body !== null && records !== null) {
        pieces.push({ kind: 'block', sequence: this.#sequence, records, body, checked: false });
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
    this.#openIndex();
    if (this.#indexFd === null) return 0;
    return Math.max(0, Math.floor((fstatSync(this.#indexFd).size - INDEX_HEAD_BYTES) / INDEX_ENTRY_BYTES));
  }

  /** A sidecar that was not there may have been made again. */
  #openIndex(): void {
    this.#indexFd ??= openIfThere(sidecarOf(this.name, this.head.packed));
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
