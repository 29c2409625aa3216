/**
 * CKPool's main log as files: `ckpool.log`, and what logrotate made of older ones, each line once.
 *
 *   ckpool-log-names.ts: files in the order in which they were written ──► ckpool-log-reading.ts ──► journal, ckpool-log-checkpoints.ts
 *
 * A log is known by what it begins with, not by its name: rotation renames it, packing gives it another inode, `copytruncate` copies it. Its
 * first bytes carry stamps to the millisecond, so two logs do not begin alike. Name, inode, size and time serve only to pass over what is as
 * it was without opening it.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { PoolError } from '../core/errors.ts';
import { HEAD_BYTES } from './checkpoints.ts';
import { FRESH_STATE, type LogState } from './ckpool-log.ts';
import type { Known, MainLogCheckpoints } from './ckpool-log-checkpoints.ts';
import { type MainLogFile, mainLogFiles } from './ckpool-log-names.ts';
import { badEntry, type LogParts, LogReading, type MainLogOptions, type MainLogSummary } from './ckpool-log-reading.ts';
import { PACKING_MS, unpacked } from './unpack.ts';
import { isLink, logicalName } from './walk.ts';

/** Where the first statistics of a log are looked for; they come each minute. */
const PEEK_BYTES = 256 * 1024;
/** Statistics come each minute: a log that was written so long ago has ended. */
const ENDED_MS = 10 * 60_000;

function failure({ packing }: MainLogFile, error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return `cannot be ${packing === 'none' || /^E[A-Z]+$/.test(code) ? 'read' : 'unpacked'}: ${message}`;
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
    state = await ingestFile(file, state, { options, checkpoints, summary });
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

async function ingestFile(file: MainLogFile, before: LogState, parts: LogParts): Promise<LogState> {
  const { options, checkpoints, summary } = parts;
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
    return await readFile(file, fd, opened, before, parts, unread);
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
  parts: LogParts,
  unread: (reason: string, sizeBytes?: number) => LogState,
): Promise<LogState> {
  const { options, checkpoints } = parts;
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
  const skip = known?.offset ?? 0;
  if (file.packing === 'none' && stat.size < skip) return shrunken(stat.size);

  const reading = new LogReading(file, beginning, known, before, parts);
  let length = file.packing === 'none' ? skip : 0;
  try {
    for await (const chunk of unpacked(fd, file.packing, true, skip)) {
      reading.push(chunk, length);
      length += chunk.length;
      if (options.signal?.aborted === true) {
        reading.save();
        return reading.state;
      }
    }
  } catch (error) {
    if (error instanceof PoolError || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    reading.save();
    if (!beingPacked) unread(failure(file, error));
    return reading.state;
  }
  if (length < skip) {
    reading.save();
    return shrunken(length);
  }
  // A pool that was shut down says no more of its last block.
  const isLast = isNewest(file);
  const ended = isLast && Date.now() - stat.mtimeMs > ENDED_MS;
  if (ended) reading.end();
  reading.save();
  if (isLast && !ended && reading.isOpen) return reading.state;
  // What was written while we read has another size or time, and is read on by the next run.
  if (!options.dryRun) checkpoints.sawFile(path, stat, reading.id);
  return reading.state;
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
