/**
 * Share logs, one after the other, become records in the journal. Between walk.ts (which files) and scanner.ts (which records): reads what is
 * new of a file, cuts it into lines, keeps apart what cannot be taken in, and knows how far it got.
 *
 * Order of things: the journal first, then the checkpoint. A crash between gives the same events again, and identity makes them count once.
 *
 * Files are read by calls that wait: years of share logs are millions of small files, and one costs 5 µs of CPU
 * so, open to close, and 33 by promises, 16 at a time (Node 24, in the page cache).
 */
import { hash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { PoolError } from '../core/errors.ts';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { type Checkpoints, type FileCheckpoint, type FolderState, folderState, HEAD_BYTES } from './checkpoints.ts';
import { BAD_BYTES_KEPT, LINE_LIMIT_BYTES } from './line.ts';
import { Scanner, SLACK_BYTES } from './scanner.ts';
import { PACKING_MS, unpacked } from './unpack.ts';
import { isLink, logicalName, type Packing, packingOf, type ShareLogFolder, shareLogsIn } from './walk.ts';

/** A line or a file that was not taken in. */
export interface BadLine {
  readonly path: string;
  /** From 1; 0 where the whole file is meant. */
  readonly line: number;
  readonly reason: string;
  /** The first 4 KiB of what was there. */
  readonly bytes: Buffer;
}

/** What was done. */
export interface Summary {
  files: number;
  /** Files not opened, because they are as they were. */
  files_unchanged: number;
  /** Files that cannot be read, are shorter than what was read of them, or begin otherwise: left alone. */
  files_quarantined: number;
  /** Files that end amid a line, which is read when it is whole: it is being written, or who wrote it was killed. Of packs, those read in this run. */
  files_unfinished: number;
  /** Files older than `sinceMs`. */
  files_left: number;
  /** Lines read in this run. */
  lines: number;
  /** Lines of these files that earlier runs have read, by their checkpoints. */
  known: number;
  /** Accepted lines of this run whose hash came before in the same height: CKPool after a restart accepts one twice. Counted once by identity. */
  repeats: number;
  bad: number;
  accepted: number;
  refused: number;
  seconds: number;
}

export function emptySummary(): Summary {
  return {
    ...{ files: 0, files_unchanged: 0, files_quarantined: 0, files_unfinished: 0, files_left: 0, lines: 0, known: 0 },
    ...{ repeats: 0, bad: 0, accepted: 0, refused: 0, seconds: 0 },
  };
}

/** What two pieces of one run did, together in the first. */
export function addSummary(sum: Summary, more: Summary): void {
  for (const key of Object.keys(sum) as (keyof Summary)[]) sum[key] += more[key];
}

export interface IntakeParts {
  readonly origin: string;
  /** Instance name of the journal that the events go to. */
  readonly instance: string;
  readonly checkpoints: Checkpoints;
  /** Called when there is a first event; null: nothing is written, and no checkpoint is kept. */
  readonly openJournal: (() => JournalWriter) | null;
  /** Only files written at or after this, milliseconds since 1970; others are left for another run. */
  readonly sinceMs: number;
  readonly signal: AbortSignal;
  readonly nowMs: () => number;
  onBad(bad: BadLine): void;
  onProgress(summary: Summary, path: string): void;
}

const CHUNK_BYTES = 1 << 20;
/** Records that are given to the journal at once, bytes. */
const APPEND_BYTES = 1 << 20;
/** Bad lines of one file that are kept each; of more, their number. */
const BAD_LINES_KEPT = 10_000;
const COMMIT_MS = 1_000;
/** A folder of more files is stored when it is done: each time all of it is packed. */
const COMMIT_FILES = 20_000;
/** Events of bad lines that are given to the journal at once. */
const APPEND_ENTRIES = 256;
const FILES_A_TURN = 64;
const TURN_MS = 50;
/** A late share goes to the file of its own job, for some ten minutes. */
const QUIET_MS = 30 * 60_000;
/** Below the tip; what is nearer is listed each time. */
const OPEN_HEIGHTS = 100;
const NEWLINE = 0x0a;
const NONE: readonly LogEntry[] = [];
const NO_BYTES = Buffer.alloc(0);
/** What a line begins with: where one is not whole, another may begin behind it, as after a crash of who wrote it. */
const BEGIN = Buffer.from('{"workinfoid"');

/** A file of a folder. */
interface Place {
  readonly name: string;
  /** Of its checkpoint: the name without that of its packing, but where another file has that. */
  readonly key: string;
  /** A pack beside its plain file, or beside another pack of it. */
  readonly beside: boolean;
  /** It was named on purpose. */
  readonly named: boolean;
}

/** A file that is open. */
interface Given {
  readonly path: string;
  readonly name: string;
  readonly key: string;
  readonly folder: Folder;
  readonly stat: Stats;
  readonly before: FileCheckpoint | null;
}

/** A file as far as it has been read. */
interface Open extends Given {
  /** The first bytes, unpacked. */
  readonly head: Buffer;
  headBytes: number;
  offset: number;
  lines: number;
  /** As in its checkpoint. */
  sum: number;
  /** Of an endless line: bytes passed over so far. */
  dropped: number;
  droppedHead: Buffer;
  badLines: number;
}

interface Folder {
  readonly path: string;
  readonly mtimeMs: number;
  closed: boolean;
  readonly files: Map<string, FileCheckpoint>;
}

export class Intake {
  readonly #parts: IntakeParts;
  readonly #scanner: Scanner;
  readonly #signal: AbortSignal;
  #journal: JournalWriter | null = null;
  /** With fsync: what was written is not on the disk yet. */
  #waits = false;
  /** Shares that it has got. */
  #appended = 0;
  summary = emptySummary();
  readonly #buffer = Buffer.alloc(LINE_LIMIT_BYTES + CHUNK_BYTES + SLACK_BYTES);
  readonly #view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.length);
  #filled = 0;
  /** Of the one file that is open. */
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #entries: LogEntry[] = [];
  /** The folder that is looked at, where its checkpoint has changed; those before it, whose checkpoints are not stored yet. */
  #changed: Folder | null = null;
  #done: FolderState[] = [];
  #file: Open | null = null;
  #committedMs = performance.now();
  #turnMs = performance.now();

  constructor(parts: IntakeParts) {
    this.#parts = parts;
    this.#signal = parts.signal;
    this.#scanner = new Scanner({ origin: parts.origin, instance: parts.instance, height: 0 });
  }

  /**
   * Takes in what is new of a folder.
   * @param tip - the highest height that is known; folders well below it are closed
   */
  async folder({ path: given, height, only }: ShareLogFolder, tip: number): Promise<void> {
    const path = resolve(given);
    const { checkpoints, sinceMs } = this.#parts;
    const { summary } = this;
    let stat: Stats;
    let names: readonly string[];
    const before = checkpoints.folder(path);
    try {
      stat = statSync(path);
      // A file with the name of a height folder.
      if (!stat.isDirectory()) return;
      if (only === null && before?.closed === true && before.mtimeMs === stat.mtimeMs) {
        summary.files += before.files;
        summary.files_unchanged += before.files;
        summary.known += before.lines;
        return;
      }
      names = only ?? shareLogsIn(path);
    } catch (error) {
      // Removed since.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !isLink(path)) return;
      const folder = { path, mtimeMs: -1, closed: false, files: new Map<string, FileCheckpoint>() };
      this.#quarantine(folder, null, null, `cannot be listed: ${(error as Error).message}`);
      return;
    }
    const folder: Folder = {
      path,
      mtimeMs: only === null ? stat.mtimeMs : (before?.mtimeMs ?? -1),
      closed: only !== null && before?.closed === true,
      files: before === null ? new Map() : checkpoints.files(path),
    };
    this.#scanner.height = height;
    let newestMs = stat.mtimeMs;
    let whole = true;
    let previous = '';
    for (const name of names) {
      if (this.#signal.aborted) return;
      if (summary.files % FILES_A_TURN === 0) await this.#turn();
      summary.files += 1;
      const beside = logicalName(name) === previous;
      previous = logicalName(name);
      const key = beside ? name : previous;
      newestMs = Math.max(newestMs, await this.#fileIn(folder, { name, key, beside, named: only !== null }));
      const now = folder.files.get(key);
      whole &&= now !== undefined && now.refused === '' && (packingOf(name) !== 'none' || now.offset === now.sizeBytes);
      this.#parts.onProgress(summary, name);
    }
    const quiet = this.#parts.nowMs() - newestMs > QUIET_MS;
    if (only === null && whole && quiet && height <= tip - OPEN_HEIGHTS && !Number.isFinite(sinceMs))
      folder.closed = true;
    if (only === null && (before?.closed !== folder.closed || before.mtimeMs !== folder.mtimeMs))
      this.#changed = folder;
    if (this.#changed !== null) this.#done.push(folderState(path, folder, folder.files));
    this.#changed = null;
    await this.#turn();
  }

  /** Closes the journal. */
  close(): void {
    this.#journal?.close();
    this.#journal = null;
  }

  /** Looks at one file. @returns when it was last written, milliseconds */
  async #fileIn(folder: Folder, at: Place): Promise<number> {
    const { name, key, named } = at;
    const path = join(folder.path, name);
    const before = folder.files.get(key) ?? null;
    if (before !== null) this.summary.known += before.lines;
    let fd = -1;
    try {
      // A file that is known is mostly as it was; one that is not is opened in any case.
      if (before !== null && !TRIED_AGAIN.test(before.refused) && isSame(before, statSync(path)))
        return this.#unchanged(path, packingOf(name), before);
      // Opening a pipe waits for who writes to it; one that was named on purpose may be read.
      fd = openSync(path, constants.O_RDONLY | (named ? 0 : constants.O_NONBLOCK));
      const stat = fstatSync(fd);
      if (stat.isDirectory() || (!stat.isFile() && !named)) {
        this.#quarantine(folder, at, stat, 'is not a regular file');
        return 0;
      }
      if (stat.mtimeMs < this.#parts.sinceMs) {
        this.summary.files_left += 1;
        return stat.mtimeMs;
      }
      // A pack that is being made is not whole, and the plain file is read. One that stays is another log: a late share has made the plain one anew.
      if (at.beside && this.#parts.nowMs() - stat.mtimeMs < PACKING_MS) return stat.mtimeMs;
      await this.#read(fd, { path, name, key, folder, stat, before });
      return stat.mtimeMs;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') {
        const link = lstatSync(path, { throwIfNoEntry: false });
        if (link?.isSymbolicLink() === true) this.#quarantine(folder, at, link, 'is not there: a link to nowhere');
        // Node gives other bytes in a name as one character, by which the file is not found.
        else if (name.includes('\ufffd')) this.#quarantine({ ...folder, path }, null, null, 'its name is not UTF-8');
        return 0;
      }
      // One path that cannot be read must not keep all others waiting; anything else is not the file's fault.
      if (error instanceof PoolError || !FILE_CODES.test(String(code))) throw error;
      // What came before the damage counts; the checkpoint stays, so that a mended file is read again.
      this.#append();
      const verb = String(code).startsWith('Z') ? 'unpacked' : 'read';
      this.#quarantine(folder, at, statOrNull(path), `cannot be ${verb}: ${message}`);
      return 0;
    } finally {
      this.#file = null;
      if (fd >= 0) closeSync(fd);
    }
  }

  #unchanged(path: string, packing: Packing, before: FileCheckpoint): number {
    if (before.refused === '') {
      this.summary.files_unchanged += 1;
      if (packing === 'none' && before.offset < before.sizeBytes) this.summary.files_unfinished += 1;
    } else {
      // Said each time, kept once.
      this.summary.files_quarantined += 1;
      this.#parts.onBad({ path, line: 0, reason: before.refused, bytes: NO_BYTES });
    }
    return before.mtimeMs;
  }

  async #read(fd: number, given: Given): Promise<void> {
    const { name, folder, stat, before } = given;
    const file: Open = {
      ...given,
      head: this.#head,
      headBytes: 0,
      offset: before?.offset ?? 0,
      lines: before?.lines ?? 0,
      sum: before?.sum ?? 0,
      dropped: 0,
      droppedHead: NO_BYTES,
      badLines: 0,
    };
    this.#filled = 0;
    const from = file.offset;
    /** What was read before is not the beginning of this: another file under its name is read from its beginning, the same one is left alone. */
    const other = (reason: string): Promise<void> | undefined => {
      if (stat.isFile() && isAnother(before!, stat)) return this.#read(fd, { ...given, before: null });
      this.#quarantine(folder, given, stat, reason);
      return undefined;
    };
    const shrank = (sizeBytes: number): string => `${sizeBytes} bytes long, but ${from} were read before: it shrank`;
    const rewritten = (): boolean => before !== null && from > 0 && headDigest(file, from) !== before.head;
    if (packingOf(name) === 'none' && stat.isFile()) {
      if (stat.size < from) return other(shrank(stat.size));
      if (from > 0) {
        file.headBytes = readSync(fd, file.head, 0, HEAD_BYTES, 0);
        if (rewritten()) return other(REWRITTEN);
      }
      this.#file = file;
      for (let position = from; ; ) {
        const at = this.#filled;
        const got = readSync(fd, this.#buffer, at, CHUNK_BYTES, position);
        if (position < HEAD_BYTES) keepHead(file, this.#buffer, at, got, position);
        position += got;
        this.#lines(file, got);
        // A regular file gives all that it has; those of network file systems may give less at a time.
        if (got === 0 || (got < CHUNK_BYTES && position >= stat.size) || this.#signal.aborted) break;
        await this.#turn();
      }
    } else {
      let position = 0;
      let checked = from === 0;
      if (checked) this.#file = file;
      for await (const chunk of unpacked(fd, packingOf(name), stat.isFile())) {
        if (position < HEAD_BYTES) keepHead(file, chunk, 0, chunk.length, position);
        let at = Math.max(0, from - position);
        position += chunk.length;
        if (!checked && position >= from) {
          if (rewritten()) return other(REWRITTEN);
          checked = true;
          this.#file = file;
        }
        for (; at < chunk.length; at += CHUNK_BYTES) {
          const part = Math.min(CHUNK_BYTES, chunk.length - at);
          chunk.copy(this.#buffer, this.#filled, at, at + part);
          this.#lines(file, part);
        }
        if (this.#signal.aborted) break;
        await this.#turn();
      }
      if (!checked && !this.#signal.aborted) return other(shrank(position));
    }
    if ((this.#filled > 0 || file.dropped > 0) && !this.#signal.aborted) this.summary.files_unfinished += 1;
    this.#keepFile(file, !this.#signal.aborted);
  }

  /** Takes the lines that are whole among what was put behind `#filled`. A half-written last line is left. */
  #lines(file: Open, more: number): void {
    const buffer = this.#buffer;
    const end = this.#filled + more;
    let at = 0;
    if (file.dropped > 0) {
      // Inside an endless line: nothing of it is kept but its beginning, only counted.
      const newline = buffer.subarray(0, end).indexOf(NEWLINE);
      file.dropped += newline === -1 ? end : newline;
      if (newline === -1) {
        this.#filled = 0;
        return;
      }
      this.#endless(file, file.dropped, file.droppedHead);
      file.dropped = 0;
      at = newline + 1;
    }
    const view = this.#view;
    const scanner = this.#scanner;
    let lines = 0;
    let begun = at;
    while (at < end) {
      const behind = scanner.scan(buffer, view, at, end);
      if (behind > 0) {
        at = behind;
        lines++;
        continue;
      }
      const newline = buffer.indexOf(NEWLINE, at);
      if (newline === -1 || newline >= end) break;
      file.lines += lines + 1;
      this.summary.lines += lines + 1;
      file.offset += at - begun;
      lines = 0;
      this.#odd(file, buffer.subarray(at, newline));
      begun = at = newline + 1;
    }
    file.lines += lines;
    this.summary.lines += lines;
    file.offset += at - begun;
    if (file.sum >= 0 && at > 0) file.sum = crc32(buffer.subarray(0, at), file.sum);
    const rest = end - at;
    if (rest > LINE_LIMIT_BYTES) {
      file.dropped = rest;
      file.droppedHead = Buffer.from(buffer.subarray(at, at + BAD_BYTES_KEPT));
      this.#filled = 0;
    } else {
      buffer.copyWithin(0, at, end);
      this.#filled = rest;
    }
    if (scanner.lengthBytes >= APPEND_BYTES) this.#append();
  }

  /** A line that the scanner does not know. Its number is counted already, its bytes are not. */
  #odd(file: Open, line: Buffer): void {
    file.offset += line.length + 1;
    if (line.length > LINE_LIMIT_BYTES) {
      this.#bad(file, `line of ${line.length} bytes, over ${LINE_LIMIT_BYTES}`, line, line.length);
      return;
    }
    const outcome = this.#scanner.take(line);
    if (!('bad' in outcome)) return;
    const another = line.lastIndexOf(BEGIN);
    if (another <= 0 || 'bad' in this.#scanner.take(line.subarray(another))) {
      this.#bad(file, outcome.bad, line, line.length);
      return;
    }
    this.#bad(file, 'ends amid the line; a whole one behind it was taken', line.subarray(0, another), another);
  }

  #endless(file: Open, sizeBytes: number, head: Buffer): void {
    file.offset += sizeBytes + 1;
    file.lines += 1;
    // Its bytes were passed over.
    file.sum = -1;
    this.summary.lines += 1;
    this.#bad(file, `line of ${sizeBytes} bytes, over ${LINE_LIMIT_BYTES}`, head, sizeBytes);
  }

  #bad(file: Open, reason: string, bytes: Buffer, sizeBytes: number): void {
    this.summary.bad += 1;
    file.badLines += 1;
    const kept = Buffer.from(bytes.subarray(0, BAD_BYTES_KEPT));
    this.#parts.onBad({ path: file.path, line: file.lines, reason, bytes: kept });
    if (file.badLines < BAD_LINES_KEPT) this.#letter(file.path, file.lines, reason, kept, sizeBytes);
    else if (file.badLines === BAD_LINES_KEPT)
      this.#letter(file.path, file.lines, `${reason}; further bad lines of this file are not kept`, kept, sizeBytes);
  }

  /** Leaves a file as it is alone: said each time, kept once. */
  #quarantine(folder: Folder, file: Pick<Place, 'name' | 'key'> | null, stat: Stats | null, reason: string): void {
    const path = file === null ? folder.path : join(folder.path, file.name);
    this.summary.files_quarantined += 1;
    this.#parts.onBad({ path, line: 0, reason, bytes: NO_BYTES });
    if (file === null) return;
    const before = folder.files.get(file.key);
    const size = stat ?? { ino: 0, size: 0, mtimeMs: 0 };
    if (before?.refused === reason && before.inode === size.ino && before.mtimeMs === size.mtimeMs) return;
    folder.files.set(file.key, {
      ...{ offset: before?.offset ?? 0, lines: before?.lines ?? 0, head: before?.head ?? '0'.repeat(32) },
      sum: before?.sum ?? 0,
      ...{ inode: size.ino, sizeBytes: size.size, mtimeMs: size.mtimeMs, refused: reason },
    });
    this.#changed = folder;
    this.#letter(path, 0, reason, NO_BYTES, size.size);
  }

  #letter(path: string, line: number, reason: string, bytes: Buffer, sizeBytes: number): void {
    const { origin, instance } = this.#parts;
    this.#entries.push({
      topic: 'quarantine',
      event: {
        ...{ origin, instance, time_us: Math.floor(this.#parts.nowMs() * 1000), path, line, reason },
        ...{ size_bytes: sizeBytes, bytes_hex: bytes.toString('hex') },
      },
    });
    if (this.#entries.length >= APPEND_ENTRIES) this.#append();
  }

  /** @param whole - false: there is more to read, so the size is left open */
  #keepFile(file: Open, whole: boolean): void {
    const { folder, stat, key, offset, lines, sum } = file;
    folder.files.set(key, {
      ...{ inode: stat.ino, sizeBytes: whole ? stat.size : -1, mtimeMs: stat.mtimeMs, offset, lines, refused: '' },
      head: headDigest(file, offset),
      sum,
    });
    this.#changed = folder;
  }

  /** Gives what has come to the journal. */
  #append(): void {
    const scanner = this.#scanner;
    const { counts } = scanner;
    const { summary } = this;
    summary.accepted += counts.accepted;
    summary.refused += counts.refused;
    summary.repeats += counts.repeats;
    Object.assign(counts, { accepted: 0, refused: 0, repeats: 0 });
    const { openJournal } = this.#parts;
    if (openJournal !== null && scanner.count + this.#entries.length > 0) {
      this.#journal ??= openJournal();
      this.#waits = this.#journal.write(this.#entries.length > 0 ? this.#entries : NONE, scanner);
      this.#appended += scanner.count;
    }
    this.#entries = [];
    scanner.clear();
  }

  /** Stores how far all has been read; what was read is in the journal then. */
  async commit(): Promise<void> {
    this.#append();
    if (this.#waits) await this.#journal!.sync();
    this.#waits = false;
    this.#committedMs = performance.now();
    // Of a file that is being read, as far as its lines have been appended.
    if (this.#file !== null) this.#keepFile(this.#file, false);
    const changed = this.#changed;
    if (changed !== null && changed.files.size <= COMMIT_FILES) {
      this.#done.push(folderState(changed.path, changed, changed.files));
      this.#changed = null;
    }
    if (this.#parts.openJournal !== null && this.#done.length > 0) {
      const journal = this.#journal;
      this.#parts.checkpoints.store(this.#done, journal === null ? null : { run: journal.run, shares: this.#appended });
    }
    this.#done = [];
  }

  /** Now and then: stores how far it is, and lets others have their turn. */
  async #turn(): Promise<void> {
    const now = performance.now();
    if (now - this.#committedMs > COMMIT_MS) await this.commit();
    if (now - this.#turnMs < TURN_MS) return;
    await nextTurn();
    this.#turnMs = performance.now();
  }
}

/** Errors of the file system and of unpacking; SQLite's begin otherwise. */
const FILE_CODES = /^(?:E[A-Z0-9]+|Z_\w+|ZSTD_\w+)$/;
/** Reasons that may pass without a trace in the file's size or time. */
const TRIED_AGAIN = /^(?:cannot be read|is not)/;
const REWRITTEN = 'the file begins otherwise than when it was read: it was rewritten';

function isSame(before: FileCheckpoint, stat: Stats): boolean {
  return before.inode === stat.ino && before.sizeBytes === stat.size && before.mtimeMs === stat.mtimeMs;
}

/** A file that came into being after another under its name was read; inodes are used again. */
function isAnother(before: FileCheckpoint, stat: Stats): boolean {
  return stat.ino !== before.inode || stat.birthtimeMs > before.mtimeMs;
}

function statOrNull(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

function keepHead(file: Open, bytes: Buffer, at: number, length: number, position: number): void {
  const part = Math.min(length, HEAD_BYTES - position);
  if (part <= 0) return;
  bytes.copy(file.head, position, at, at + part);
  file.headBytes = Math.max(file.headBytes, position + part);
}

function headDigest(file: Open, upTo: number): string {
  return hash('sha256', file.head.subarray(0, Math.min(upTo, file.headBytes)), 'hex').slice(0, 32);
}
