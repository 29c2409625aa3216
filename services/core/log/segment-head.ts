/**
 * Opens the two files of a segment and reads its head, at any moment: while it is made, while it grows, while it is exchanged for its packed form
 * (pack-segment.ts). Stands under segment-reader.ts.
 *
 * There is one container under one name at any moment. Its codec says which sidecar is its own, `.idx` or `.zdx`; the checksum of its head in there
 * confirms it. Where it does not, either the container was exchanged between two looks, then all is opened anew, or something is damaged.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fingerprintOf } from '../../../schemas/codec.ts';
import { type ContainerHead, parseHead } from './container.ts';
import { HEAD_KEYS, type SegmentName } from './journal-files.ts';
import { PACKED_CODEC } from './packed-body.ts';
import { INDEX_HEAD_BYTES, type IndexHead, parseIndexHead } from './segment-index.ts';

const FIRST_HEAD_READ_BYTES = 64 * 1024;
/** A segment is exchanged once. (A file system whose numbers of files change with each look must not keep us for ever.) */
const LOOKS = 3;

/** The head of a segment: from the container, from the sidecar where that is damaged. */
export interface SegmentHead {
  /** null where the container's head is damaged. */
  readonly schemaText: string | null;
  /** All of the container's metadata; null where its head is damaged. */
  readonly metadata: ReadonlyMap<string, string> | null;
  readonly fingerprint: string;
  readonly sync: Buffer;
  readonly headBytes: number;
  readonly firstSequence: number;
  /** The bodies of its blocks are compressed. */
  readonly packed: boolean;
  /** The container's head where it is damaged, for the report. */
  readonly damaged: Buffer | null;
}

export interface SegmentFiles {
  readonly fd: number;
  /** null where the sidecar is not there. */
  readonly indexFd: number | null;
  readonly head: SegmentHead;
}

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

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

/** @returns null where the file is not there */
export function openIfThere(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** The sidecar that belongs to a container in this form. */
export function sidecarOf(name: SegmentName, packed: boolean): string {
  return packed ? name.packedIndexPath : name.indexPath;
}

/** The file that is open is the one that the name means now. */
function isStill(path: string, fd: number): boolean {
  try {
    const [named, open] = [statSync(path, { bigint: true }), fstatSync(fd, { bigint: true })];
    return named.ino === open.ino && named.dev === open.dev;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** The head of a container as far as it can be read. */
function readContainerHead(fd: number): { bytes: Buffer; parsed: ReturnType<typeof parseHead> } {
  for (let length = FIRST_HEAD_READ_BYTES; ; length *= 4) {
    const bytes = readRange(fd, 0, length);
    const parsed = parseHead(bytes);
    if (parsed !== 'short' || bytes.length < length) return { bytes, parsed };
  }
}

function codecOf(parsed: ContainerHead): 'plain' | 'packed' | 'unknown' {
  const codec = parsed.metadata.get(HEAD_KEYS.codec) ?? 'null';
  return codec === 'null' ? 'plain' : codec === PACKED_CODEC ? 'packed' : 'unknown';
}

/** @returns null where the container's head lacks something that it must have */
function headFrom(parsed: ContainerHead, index: IndexHead | null): SegmentHead | null {
  const { metadata, sync, lengthBytes } = parsed;
  const schemaText = metadata.get(HEAD_KEYS.schema);
  const firstSequence = Number(metadata.get(HEAD_KEYS.firstSequence) ?? Number.NaN);
  const codec = codecOf(parsed);
  if (schemaText === undefined || !Number.isSafeInteger(firstSequence) || firstSequence < 0) return null;
  if (codec === 'unknown') return null;
  try {
    const fingerprint = index?.fingerprint ?? fingerprintOf(schemaText);
    const packed = codec === 'packed';
    return { schemaText, metadata, fingerprint, sync, headBytes: lengthBytes, firstSequence, packed, damaged: null };
  } catch {
    // A schema that does not parse is a damaged head.
    return null;
  }
}

function headFromSidecar(index: IndexHead, bytes: Buffer): SegmentHead {
  const { fingerprint, sync, headBytes, firstSequence, packed } = index;
  const damaged = Buffer.from(bytes.subarray(0, headBytes));
  return { schemaText: null, metadata: null, fingerprint, sync, headBytes, firstSequence, packed, damaged };
}

interface Sidecar {
  readonly fd: number;
  readonly packed: boolean;
  /** null where its head is damaged. */
  readonly index: IndexHead | null;
}

/** The container ends its head or its last block with the marker that the sidecar has. */
function hasMarker(fd: number, { sync, headBytes }: IndexHead): boolean {
  const sizeBytes = fstatSync(fd).size;
  return [headBytes, sizeBytes].some((end) => readRange(fd, Math.max(0, end - sync.length), end).equals(sync));
}

/**
 * Opens a segment's files.
 * @returns `short` where its head is not written yet, `bad` where nothing of its head can be read, `gone` where the file is not there
 */
export function openSegmentFiles(name: SegmentName): SegmentFiles | 'short' | 'bad' | 'gone' {
  for (let looks = 1; ; looks++) {
    const fd = openIfThere(name.path);
    if (fd === null) return 'gone';
    const sidecars: Sidecar[] = [];
    let kept: SegmentFiles | null = null;
    try {
      const found = look(name, fd, sidecars);
      // What is as it should be is taken as it is. Anything else may be halves of two files, where one took the other's place meanwhile.
      if (found.sure || looks >= LOOKS || isStill(name.path, fd)) {
        if (found.head === 'short' || found.head === 'bad') return found.head;
        kept = { fd, indexFd: found.sidecar?.fd ?? null, head: found.head };
        return kept;
      }
    } finally {
      for (const sidecar of sidecars) if (sidecar.fd !== kept?.indexFd) closeSync(sidecar.fd);
      if (kept === null) closeSync(fd);
    }
  }
}

interface Found {
  readonly head: SegmentHead | 'short' | 'bad';
  readonly sidecar: Sidecar | null;
  /** The sidecar confirms the head. */
  readonly sure: boolean;
}

/** @param opened - gets the sidecars that were opened */
function look(name: SegmentName, fd: number, opened: Sidecar[]): Found {
  const { bytes, parsed } = readContainerHead(fd);
  const packedFirst = typeof parsed === 'object' && codecOf(parsed) === 'packed';
  for (const packed of [packedFirst, !packedFirst]) {
    const indexFd = openIfThere(sidecarOf(name, packed));
    if (indexFd === null) continue;
    const index = parseIndexHead(readRange(indexFd, 0, INDEX_HEAD_BYTES));
    const sidecar: Sidecar = { fd: indexFd, packed, index: index?.packed === packed ? index : null };
    opened.push(sidecar);
    if (sidecar.index === null || typeof parsed !== 'object') continue;
    const { headBytes, headCrc } = sidecar.index;
    if (bytes.length < headBytes || crc32(bytes.subarray(0, headBytes)) !== headCrc) continue;
    const head = headFrom(parsed, sidecar.index);
    if (head !== null && head.packed === packed) return { head, sidecar, sure: true };
  }

  // No sidecar confirms the head: that is damaged, or the sidecar is, or is not there.
  const whole = opened.filter((sidecar) => sidecar.index !== null);
  const head = typeof parsed === 'object' ? headFrom(parsed, null) : null;
  const own =
    whole.find(({ index }) => hasMarker(fd, index!)) ??
    whole.find(({ packed }) => head === null || head.packed === packed);
  if (own !== undefined) {
    const short = bytes.length < own.index!.headBytes;
    return { head: short ? 'short' : headFromSidecar(own.index!, bytes), sidecar: own, sure: false };
  }
  if (head === null) return { head: parsed === 'short' ? 'short' : 'bad', sidecar: null, sure: false };
  const sidecar = opened.find((each) => each.index === null && each.packed === head.packed) ?? null;
  return { head, sidecar, sure: false };
}
