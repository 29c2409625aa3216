/**
 * CKPool's main log as files: `ckpool.log`, and what logrotate made of older ones, each line once.
 *
 *   ckpool-log-names.ts: files in the order in which they were written ──► ckpool-log.ts ──► journal ──► ckpool-log-checkpoints.ts
 *
 * A log is known by what it begins with, not by its name: rotation renames it, packing gives it another inode, `copytruncate` copies it. Its
 * first bytes carry stamps to the millisecond, so two logs do not begin alike. Name, inode, size and time serve only to pass over what is as
 * it was without opening it.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { PoolError } from '../core/errors.ts';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { HEAD_BYTES } from './checkpoints.ts';
import { CkpoolLog, FRESH_STATE, type LogContext, type LogFact, type LogState } from './ckpool-log.ts';
import { digestOf, type Known, type MainLogCheckpoints } from './ckpool-log-checkpoints.ts';
import { type MainLogFile, mainLogFiles } from './ckpool-log-names.ts';
import type { BadLine } from './intake.ts';
import { BAD_BYTES_KEPT, LINE_LIMIT_BYTES } from './line.ts';
import { type BlockContext, blockOf } from './solved-block.ts';
import { PACKING_MS, unpacked } from './unpack.ts';
import { isLink, logicalName } from './walk.ts';

/** Where the first statistics of a log are looked for; they come each minute. */
const PEEK_BYTES = 256 * 1024;
const ENTRIES_A_WRITE = 2_000;
/** A million statistics lines without one that tells something would keep the place; so it is kept at least so often. */
const LINES_A_CHECKPOINT = 50_000;
/** Statistics come each minute: a log that was written so long ago has ended. */
const ENDED_MS = 10 * 60_000;
const NEWLINE = 0x0a;

/** What one run did with main logs and status files. */
export interface MainLogSummary {
  log_files: number;
  log_files_unchanged: number;
  log_lines: number;
  log_bad: number;
  /** Rows for pool_status. */
  statuses: number;
  /** Solved or refused blocks told. */
  blocks: number;
  status_files: number;
}

export const emptyMainLogSummary = (): MainLogSummary => ({
  log_files: 0,
  log_files_unchanged: 0,
  log_lines: 0,
  log_bad: 0,
  statuses: 0,
  blocks: 0,
  status_files: 0,
});

export interface MainLogOptions extends LogContext, BlockContext {
  readonly openJournal: () => JournalWriter;
  readonly dryRun: boolean;
  /** Only files written at or after this, milliseconds since 1970; others are left for another run. */
  readonly sinceMs?: number;
  /** Ends after the present piece of a file; what was read is kept. */
  readonly signal?: AbortSignal;
}

function failure({ packing }: MainLogFile, error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return `cannot be ${packing === 'none' || /^E[A-Z]+$/.test(code) ? 'read' : 'unpacked'}: ${message}`;
}

/** What tells a log from others of its name: its first stamp, else a digest of its beginning. */
function firstStamp(head: Buffer): string {
  const stamp = /^\[([-\d]{10} [.:\d]{8,12})\]/.exec(head.toString('latin1', 0, 32));
  return stamp?.[1] ?? digestOf(head, HEAD_BYTES).slice(0, 8);
}

/**
 * Says what was not taken in.
 * @param sizeBytes - of the line or file
 * @param path - for the event, where it is another than the one that is said
 * @returns the event of it, so that `dead_letters` can be rebuilt from the log
 */
export function badEntry(options: MainLogOptions, bad: BadLine, sizeBytes: number, path = bad.path): LogEntry {
  options.onBad(bad);
  const event = {
    origin: options.origin,
    instance: options.instance,
    time_us: Date.now() * 1000,
    path,
    line: bad.line,
    reason: bad.reason,
    size_bytes: sizeBytes,
    bytes_hex: bad.bytes.toString('hex'),
  };
  return { topic: 'quarantine', event };
}

/** Reads what is new of one log's files. @param files - in the order in which they were written */
export async function ingestMainLog(
  files: readonly MainLogFile[],
  options: MainLogOptions,
  checkpoints: MainLogCheckpoints,
  summary: MainLogSummary,
): Promise<void> {
  /** Where the file before left off. */
  let state: LogState = FRESH_STATE;
  for (const file of files) {
    if (options.signal?.aborted === true) return;
    state = await ingestFile(file, state, options, checkpoints, summary);
  }
}

/** Whether no other file goes on where it ends. The folder is listed, which has as many names as the chain had heights. */
function isNewest(file: MainLogFile): boolean {
  const newest = mainLogFiles(file.family).at(-1);
  return newest !== undefined && resolve(newest.path) === resolve(file.path);
}

/** Whether a pack that cannot be read is not whole yet. */
function isBeingPacked({ path, packing }: MainLogFile, { mtimeMs }: Stats): boolean {
  return packing !== 'none' && Date.now() - mtimeMs < PACKING_MS && existsSync(logicalName(path));
}

/** Whether a rotated log may be one that `copytruncate` is still copying, which for a large one takes longer than the time to the next look. */
function isBeingCopied({ packing, mark }: MainLogFile, { mtimeMs }: Stats): boolean {
  return packing === 'none' && mark !== null && Date.now() - mtimeMs < PACKING_MS;
}

async function ingestFile(
  file: MainLogFile,
  before: LogState,
  options: MainLogOptions,
  checkpoints: MainLogCheckpoints,
  summary: MainLogSummary,
): Promise<LogState> {
  const path = resolve(file.path);
  let stat: Stats | null = null;
  const unread = (reason: string, sizeBytes = 0): LogState => {
    summary.log_bad += 1;
    const entry = badEntry(options, { path, line: 0, reason, bytes: Buffer.alloc(0) }, sizeBytes);
    if (!options.dryRun) options.openJournal().append([entry]);
    checkpoints.refuse(path, stat);
    return before;
  };
  try {
    stat = statSync(path);
  } catch (error) {
    // Rotated away under our hands: the next run finds it under its new name.
    const gone = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if ((gone && !isLink(path)) || checkpoints.isRefused(path, null)) return before;
    return unread(gone ? 'is not there: a link to nowhere' : `cannot be read: ${(error as Error).message}`);
  }
  if (checkpoints.isRefused(path, stat)) return before;
  if (!stat.isFile()) return unread('is not a regular file');
  summary.log_files += 1;
  if (stat.mtimeMs < (options.sinceMs ?? Number.NEGATIVE_INFINITY)) return before;
  const same = checkpoints.unchanged(path, stat);
  if (same !== null) {
    summary.log_files_unchanged += 1;
    const known = same.log === null ? null : checkpoints.get(same.log);
    return known?.state ?? before;
  }

  let fd: number;
  try {
    // Opened once: a rotation puts another file under the name.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return before;
    return unread(`cannot be read: ${(error as Error).message}`);
  }
  try {
    const opened = fstatSync(fd);
    if (!opened.isFile()) return unread('is not a regular file');
    return await readFile(file, fd, opened, before, options, checkpoints, summary, unread);
  } finally {
    closeSync(fd);
  }
}

/** @param unread - says why it stays as it is */
async function readFile(
  file: MainLogFile,
  fd: number,
  stat: Stats,
  before: LogState,
  options: MainLogOptions,
  checkpoints: MainLogCheckpoints,
  summary: MainLogSummary,
  unread: (reason: string, sizeBytes?: number) => LogState,
): Promise<LogState> {
  const path = resolve(file.path);
  let known: Known | null = null;
  let beginning: Buffer;
  // Asked before it is read: who packs may be done meanwhile.
  const beingPacked = isBeingPacked(file, stat);
  try {
    beginning = await beginningOf(fd, file, beingPacked);
    known = checkpoints.find(file.family, beginning.subarray(0, HEAD_BYTES));
  } catch (error) {
    if (error instanceof PoolError || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    return beingPacked ? before : unread(failure(file, error));
  }

  const shrunken = (length: number): LogState => {
    if (known !== null && (isBeingCopied(file, stat) || !checkpoints.isNewlyShort(path, stat.ino, known)))
      return before;
    return unread(`${length} bytes long, but ${known?.offset} were read of the log that begins like it`, stat.size);
  };
  if (file.packing === 'none' && stat.size < (known?.offset ?? 0)) return shrunken(stat.size);

  const log = new CkpoolLog(options, known?.state ?? before);
  if (known === null) log.peek(beginning.toString('utf8'));
  let head: Buffer = beginning.subarray(0, HEAD_BYTES);
  let id = known?.id ?? null;
  let offset = known?.offset ?? 0;
  let lines = known?.lines ?? 0;
  let saved = lines;
  let entries: LogEntry[] = [];
  const save = (): void => {
    if (options.dryRun) {
      entries = [];
      return;
    }
    // The journal first: a crash between gives the same again, and identity makes it count once.
    if (entries.length > 0) options.openJournal().append(entries);
    entries = [];
    saved = lines;
    const headBytes = Math.min(offset, head.length);
    if (headBytes > 0)
      id = checkpoints.put(file.family, {
        id,
        headBytes,
        head: digestOf(head, headBytes),
        offset,
        lines,
        state: log.state,
      });
  };
  let foreign = false;
  // By its name line 5 of today's log would be line 5 of yesterday's, and the same line another one when the log was rotated.
  const name = (): string => `${file.family} (from ${firstStamp(head)})`;
  const bad = (reason: string, line: Buffer, sizeBytes = line.length): void => {
    summary.log_bad += 1;
    const bytes = Buffer.from(line.subarray(0, BAD_BYTES_KEPT));
    entries.push(badEntry(options, { path, line: lines, reason, bytes }, sizeBytes, name()));
  };
  const take = (line: Buffer): void => {
    offset += line.length + 1;
    lines += 1;
    summary.log_lines += 1;
    const text = line.toString('utf8');
    tell(log.take(text.endsWith('\r') ? text.slice(0, -1) : text), line);
    if (entries.length >= ENTRIES_A_WRITE || lines - saved >= LINES_A_CHECKPOINT) save();
  };
  const tell = (facts: readonly LogFact[], line: Buffer): void => {
    for (const fact of facts) {
      if ('status' in fact) {
        summary.statuses += 1;
        entries.push({ topic: 'session', event: fact.status });
      } else if ('solved' in fact) {
        const event = blockOf(fact.solved, options);
        if (typeof event === 'string') {
          bad(`block ${fact.solved.height} of difficulty ${fact.solved.diff}: ${event}`, line);
        } else {
          summary.blocks += 1;
          entries.push({ topic: 'block', event });
        }
      } else if ('foreign' in fact) {
        // Once for each file is enough.
        if (!foreign) options.onBad({ path, line: lines, reason: fact.foreign, bytes: Buffer.alloc(0) });
        foreign = true;
      } else {
        bad(fact.bad, line);
      }
    }
  };
  const takeEndless = (bytes: number): void => {
    offset += bytes + 1;
    lines += 1;
    summary.log_lines += 1;
    bad(`line of ${bytes} bytes, over ${LINE_LIMIT_BYTES}`, Buffer.alloc(0), bytes);
  };

  let rest: Buffer = Buffer.alloc(0);
  let dropped = 0;
  let length = file.packing === 'none' ? offset : 0;
  const skip = file.packing === 'none' ? 0 : offset;
  try {
    for await (const chunk of unpacked(fd, file.packing, true, offset)) {
      // A short log is known by all of it, also by what came since its beginning was looked at, or it would be unknown at the next look.
      if (head.length < HEAD_BYTES && length <= head.length && length + chunk.length > head.length)
        head = Buffer.concat([head.subarray(0, length), chunk.subarray(0, HEAD_BYTES - length)]);
      const from = Math.max(0, skip - length);
      length += chunk.length;
      if (from >= chunk.length) continue;
      let data = from > 0 ? chunk.subarray(from) : chunk;
      if (rest.length > 0) data = Buffer.concat([rest, data]);
      let start = 0;
      if (dropped > 0) {
        const end = data.indexOf(NEWLINE);
        dropped += end === -1 ? data.length : end;
        if (end === -1) continue;
        takeEndless(dropped);
        dropped = 0;
        start = end + 1;
      }
      for (let end = data.indexOf(NEWLINE, start); end !== -1; end = data.indexOf(NEWLINE, start)) {
        if (end - start > LINE_LIMIT_BYTES) takeEndless(end - start);
        else take(data.subarray(start, end));
        start = end + 1;
      }
      rest = Buffer.from(data.subarray(start));
      if (rest.length > LINE_LIMIT_BYTES) {
        dropped = rest.length;
        rest = Buffer.alloc(0);
      }
      if (options.signal?.aborted === true) {
        save();
        return log.state;
      }
    }
  } catch (error) {
    if (error instanceof PoolError || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    save();
    if (!beingPacked) unread(failure(file, error));
    return log.state;
  }
  if (length < skip) {
    save();
    return shrunken(length);
  }
  // A pool that was shut down says no more of its last block.
  const isLast = isNewest(file);
  const ended = isLast && Date.now() - stat.mtimeMs > ENDED_MS;
  if (ended) tell(log.end(), Buffer.alloc(0));
  save();
  if (isLast && !ended && log.isOpen) return log.state;
  // What was written while we read has another size or time, and is read on by the next run.
  if (!options.dryRun) checkpoints.sawFile(path, stat, id);
  return log.state;
}

/** The first unpacked bytes, as many as there are before a damage. @param whole - all of them or none: it is still being packed @throws Error with a code */
async function beginningOf(fd: number, { packing }: MainLogFile, whole: boolean): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of unpacked(fd, packing, true)) {
      parts.push(chunk);
      length += chunk.length;
      if (length >= PEEK_BYTES) break;
    }
  } catch (error) {
    if (length === 0 || whole) throw error;
  }
  return Buffer.concat(parts).subarray(0, PEEK_BYTES);
}
