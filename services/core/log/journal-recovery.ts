/**
 * What a writer does at opening with the segment that the last one left behind: blocks that are whole but not in the sidecar
 * (the process died between the two writes, or a power cut took the sidecar's end) are entered, a torn tail is cut at the last whole block.
 *
 * Bit rot is told apart from a torn tail: it has whole blocks behind it, or ends in its sync marker. It stays, for readers to report.
 */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fingerprintOf } from '../../../schemas/codec.ts';
import { parseBlock, parseHead, recordSplitter } from './container.ts';
import { HEAD_KEYS, type SegmentName } from './journal-files.ts';
import { openSegmentFiles, readRange } from './segment-head.ts';
import {
  encodeIndexHead,
  INDEX_ENTRY_BYTES,
  INDEX_HEAD_BYTES,
  type IndexEntry,
  parseIndexEntry,
  parseIndexHead,
  writeIndexEntry,
} from './segment-index.ts';

/**
 * Mends the newest segment of a topic.
 * @param log - gets one line for each thing done
 */
export function recoverSegment(name: SegmentName, log: (line: string) => void): void {
  if (isPacked(name)) return;
  const fd = openSync(name.path, 'r+');
  let indexFd: number | null = null;
  try {
    indexFd = openSync(name.indexPath, 'a+');
    closeSync(indexFd);
    indexFd = openSync(name.indexPath, 'r+');
    const removed = recover(name, fd, indexFd, log);
    if (!removed) return;
    unlinkSync(name.path);
    unlinkSync(name.indexPath);
  } finally {
    closeSync(fd);
    if (indexFd !== null) closeSync(indexFd);
  }
}

/** A packed segment was whole when it was packed: nobody was writing to it. (It is the newest where a later one was torn and is removed.) */
function isPacked(name: SegmentName): boolean {
  const files = openSegmentFiles(name);
  if (typeof files === 'string') return false;
  closeSync(files.fd);
  if (files.indexFd !== null) closeSync(files.indexFd);
  return files.head.packed;
}

/** @returns true where the segment holds nothing and is to be removed */
function recover(name: SegmentName, fd: number, indexFd: number, log: (line: string) => void): boolean {
  const index = readRange(indexFd, 0, fstatSync(indexFd).size);
  const indexHead = parseIndexHead(index);
  const headBytes = readRange(fd, 0, 1024 * 1024);
  const parsed = parseHead(headBytes);
  if (parsed === 'short' && (indexHead === null || headBytes.length < indexHead.headBytes)) {
    log(`journal: ${name.path}: the head was torn, with nothing behind it; removed`);
    return true;
  }
  const head = typeof parsed === 'object' ? parsed : null;
  const sync = indexHead?.sync ?? head?.sync;
  const dataStart = indexHead?.headBytes ?? head?.lengthBytes;
  if (sync === undefined || dataStart === undefined) {
    log(`journal: ${name.path}: the head is damaged; left as it is`);
    return false;
  }

  // Entries as far as they are whole and in order, and the blocks that they name.
  const entries: IndexEntry[] = [];
  let damagedEntries = false;
  for (let at = INDEX_HEAD_BYTES; at + INDEX_ENTRY_BYTES <= index.length; at += INDEX_ENTRY_BYTES) {
    const entry = parseIndexEntry(index, at);
    if (entry !== null) entries.push(entry);
    else if (index.subarray(at, at + INDEX_ENTRY_BYTES).some((byte) => byte !== 0)) damagedEntries = true;
  }
  if (indexHead !== null && damagedEntries) {
    // An entry that was being written, or rot: it is dropped only where no whole one follows.
    const last = entries.at(-1);
    const slots = last === undefined ? 0 : slotOf(index, last) + 1;
    if (slots !== entries.length) {
      log(`journal: ${name.indexPath}: entries are damaged; left as they are`);
      return false;
    }
  }
  const sizeBytes = fstatSync(fd).size;
  let end = dataStart;
  let sequence = indexHead?.firstSequence ?? Number(head?.metadata.get(HEAD_KEYS.firstSequence) ?? 0);
  // From the end: entries whose block is not there (its bytes were lost) are torn as well.
  let kept = entries.length;
  while (kept > 0 && !isWhole(fd, entries[kept - 1]!, sync)) kept--;
  if (kept > 0) {
    const last = entries[kept - 1]!;
    end = last.offset + last.lengthBytes;
    sequence = last.firstSequence + last.count;
  }

  const tail = readRange(fd, end, sizeBytes);
  const schemaText = head?.metadata.get(HEAD_KEYS.schema);
  const split = schemaText === undefined ? null : recordSplitter(schemaText);
  const added: IndexEntry[] = [];
  let at = 0;
  for (;;) {
    const span = parseBlock(tail, at, sync);
    if (span === null || split?.(tail.subarray(span.bodyStart, span.bodyEnd), span.count) == null) break;
    const lengthBytes = span.end - at;
    const crc = crc32(tail.subarray(at, span.end));
    added.push({ offset: end + at, firstSequence: sequence, count: span.count, lengthBytes, crc });
    sequence += span.count;
    at = span.end;
  }
  const rest = tail.subarray(at);
  const torn = rest.length > 0 && rest.indexOf(sync) < 0;
  if (rest.length > 0 && !torn) {
    log(
      `journal: ${name.path}: ${rest.length} bytes from offset ${end + at} on are damaged; left for readers to report`,
    );
    return false;
  }

  if (indexHead === null) {
    if (head === null || schemaText === undefined) return false;
    writeAll(
      indexFd,
      encodeIndexHead({
        headBytes: head.lengthBytes,
        headCrc: crc32(headBytes.subarray(0, head.lengthBytes)),
        firstSequence: Number(head.metadata.get(HEAD_KEYS.firstSequence) ?? 0),
        fingerprint: fingerprintOf(schemaText),
        sync,
        packed: false,
      }),
      0,
    );
    log(`journal: ${name.indexPath}: made again from the segment`);
  }
  const keptBytes = INDEX_HEAD_BYTES + kept * INDEX_ENTRY_BYTES;
  const addedBytes = Buffer.alloc(added.length * INDEX_ENTRY_BYTES);
  for (const [i, entry] of added.entries()) writeIndexEntry(addedBytes, i * INDEX_ENTRY_BYTES, entry);
  if (torn) ftruncateSync(fd, end + at);
  ftruncateSync(indexFd, keptBytes);
  writeAll(indexFd, addedBytes, keptBytes);
  fsyncSync(fd);
  fsyncSync(indexFd);
  const records = added.reduce((sum, entry) => sum + entry.count, 0);
  if (records > 0)
    log(`journal: ${name.path}: ${records} records at the end were whole and are entered in the sidecar`);
  if (torn) {
    log(
      `journal: ${name.path}: a torn tail of ${rest.length} bytes is cut; ${sequence} is the next sequence of run ${name.run}`,
    );
  } else if (kept < entries.length) {
    log(`journal: ${name.path}: the last ${entries.length - kept} entries of the sidecar had no block and are cut`);
  }
  return false;
}

/** Structure only: a block whose bytes were altered keeps its length and its sync marker, and is not torn. */
function isWhole(fd: number, entry: IndexEntry, sync: Buffer): boolean {
  const end = entry.offset + entry.lengthBytes;
  return readRange(fd, end - sync.length, end).equals(sync);
}

function slotOf(index: Buffer, entry: IndexEntry): number {
  for (let at = INDEX_HEAD_BYTES; ; at += INDEX_ENTRY_BYTES) {
    if (parseIndexEntry(index, at)?.offset === entry.offset) return (at - INDEX_HEAD_BYTES) / INDEX_ENTRY_BYTES;
  }
}

/** Writes a buffer, or its first `lengthBytes`, at a place. @throws what the file system throws; ENOSPC where it takes nothing */
export function writeAll(fd: number, bytes: Uint8Array, position: number, lengthBytes = bytes.length): void {
  let written = 0;
  while (written < lengthBytes) {
    const took = writeSync(fd, bytes, written, lengthBytes - written, position + written);
    if (took === 0) throw Object.assign(new Error('the file takes no more bytes'), { code: 'ENOSPC' });
    written += took;
  }
}
