/**
 * CKPool's main log as files: `ckpool.log`, and what logrotate made of older ones, each line once.
 *
 *   ckpool.log   ckpool.log.1   ckpool.log.2.gz   ckpool.log-20261126[.gz]   ckpool.1.log   ckpool-20261126.log
 *      in the order in which they were written ──► ckpool-log.ts ──► journal ──► then the checkpoint
 *
 * A log is known by what it begins with, not by its name: rotation renames it, packing gives it another inode, `copytruncate` copies it. Its
 * first bytes carry stamps to the millisecond, so two logs do not begin alike. Name, inode, size and time serve only to pass over what is as
 * it was without opening it.
 */
import { hash } from 'node:crypto';
import { closeSync, constants, existsSync, fstatSync, openSync, readdirSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PoolError } from '../core/errors.ts';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { HEAD_BYTES } from './checkpoints.ts';
import { CkpoolLog, FRESH_STATE, type LogContext, type LogFact, type LogState } from './ckpool-log.ts';
import { LINE_LIMIT_BYTES } from './line.ts';
import type { BadLine } from './main.ts';
import { blockOf } from './solved-block.ts';
import { unpacked } from './unpack.ts';
import { isLink } from './walk.ts';

/** Where the first statistics of a log are looked for; they come each minute. */
const PEEK_BYTES = 256 * 1024;
const ENTRIES_A_WRITE = 2_000;
/** A million statistics lines without one that tells something would keep the place; so it is kept at least so often. */
const LINES_A_CHECKPOINT = 50_000;
const BAD_BYTES_KEPT = 4096;
/** A pack beside its plain file is being made for so long: who packs removes the plain one then. */
const PACKING_MS = 60_000;
/** Statistics come each minute: a log that was written so long ago has ended. */
const ENDED_MS = 10 * 60_000;
const NEWLINE = 0x0a;
const BUSY_MS = 10_000;

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

export interface MainLogOptions extends LogContext {
  /** Where share logs lie, which say more of a solved block. */
  readonly logDir: string;
  /** Name of the chain profile and its proof of work, for blocks; null: not known. */
  readonly chain: { readonly name: string; readonly pow: string } | null;
  readonly openJournal: () => JournalWriter;
  readonly dryRun: boolean;
  /** Only files written at or after this, milliseconds since 1970; others are left for another run. */
  readonly sinceMs?: number;
  /** Ends after the present piece of a file; what was read is kept. */
  readonly signal?: AbortSignal;
  onBad(bad: BadLine): void;
}

interface Known {
  readonly id: number;
  readonly headBytes: number;
  readonly head: string;
  readonly offset: number;
  readonly lines: number;
  readonly state: LogState;
}

/** How far each main log and status file has been read. */
export class MainLogCheckpoints {
  readonly #database: DatabaseSync;
  /** By path, of this process: files that were named as not to be read, as they were then. Who follows a log would say it each few seconds. */
  readonly #refused = new Map<string, string>();

  /** @throws PoolError data_dir where the file cannot be opened or is no database */
  constructor(file: string) {
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(file, { timeout: BUSY_MS });
      database.exec(`PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS main_log (
          id INTEGER PRIMARY KEY, family TEXT NOT NULL, head_bytes INTEGER NOT NULL, head TEXT NOT NULL,
          read_offset INTEGER NOT NULL, lines INTEGER NOT NULL, state TEXT NOT NULL
        );
        CREATE TABLE IF NOT EXISTS main_log_file (
          path TEXT PRIMARY KEY, log INTEGER, inode INTEGER NOT NULL, size_bytes INTEGER NOT NULL, mtime_ms REAL NOT NULL
        ) WITHOUT ROWID`);
      this.#database = database;
    } catch (cause) {
      database?.close();
      const reason = (cause as Error).message;
      throw new PoolError(
        'data_dir',
        `cannot open the checkpoints of main logs in ${file}: ${reason}; it may be removed, then all is read again`,
        { cause },
      );
    }
  }

  /** What is known of a file that is as it was; null where it changed or is new. */
  unchanged(path: string, stat: Stats): { readonly log: number | null } | null {
    const row = this.#database
      .prepare('SELECT log FROM main_log_file WHERE path = ? AND inode = ? AND size_bytes = ? AND mtime_ms = ?')
      .get(path, stat.ino, stat.size, stat.mtimeMs) as { log: number | null } | undefined;
    return row ?? null;
  }

  sawFile(path: string, stat: Stats, log: number | null): void {
    this.#database
      .prepare('INSERT OR REPLACE INTO main_log_file VALUES (?, ?, ?, ?, ?)')
      .run(path, log, stat.ino, stat.size, stat.mtimeMs);
  }

  /** @param stat - null where there is none to be had */
  refuse(path: string, stat: Stats | null): void {
    this.#refused.set(path, asIs(stat));
  }

  /** Whether a file is still as it was when it was refused. */
  isRefused(path: string, stat: Stats | null): boolean {
    return this.#refused.get(path) === asIs(stat);
  }

  /** The log that begins as these bytes do, the one whose beginning is known best. */
  find(family: string, head: Buffer): Known | null {
    const rows = this.#database
      .prepare(
        'SELECT * FROM main_log WHERE family = ? AND head_bytes <= ? AND head_bytes > 0 ORDER BY head_bytes DESC, read_offset DESC',
      )
      .all(family, head.length) as unknown as (Row & { head_bytes: number; head: string })[];
    const digests = new Map<number, string>();
    for (const row of rows) {
      let digest = digests.get(row.head_bytes);
      if (digest === undefined) {
        digest = digestOf(head, row.head_bytes);
        digests.set(row.head_bytes, digest);
      }
      if (digest === row.head) return knownOf(row);
    }
    return null;
  }

  get(id: number): Known | null {
    const row = this.#database.prepare('SELECT * FROM main_log WHERE id = ?').get(id) as unknown as Row | undefined;
    return row === undefined ? null : knownOf(row);
  }

  /** @returns the log's number */
  put(family: string, known: Omit<Known, 'id'> & { readonly id: number | null }): number {
    const { lastInsertRowid } = this.#database
      .prepare('INSERT OR REPLACE INTO main_log VALUES (?, ?, ?, ?, ?, ?, ?)')
      .run(known.id, family, known.headBytes, known.head, known.offset, known.lines, JSON.stringify(known.state));
    return Number(lastInsertRowid);
  }

  close(): void {
    this.#database.close();
  }
}

/**
 * The other origin that has a main log's lines; null where none has: its blocks and statistics would count once more.
 * @param state - folder of all checkpoints @param origin - whose log it is said to be @param family - as in `MainLogFile`
 */
export function mainLogTakenAs(state: string, origin: string, family: string): string | null {
  for (const name of readdirSync(state)) {
    const other = /^ingest-(.+)-log\.sqlite$/.exec(name)?.[1];
    if (other === undefined || other === origin) continue;
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(join(state, name), { readOnly: true, timeout: BUSY_MS });
      if (database.prepare('SELECT 1 FROM main_log WHERE family = ? LIMIT 1').get(family) !== undefined) return other;
    } catch {
      // What is no database is told by its own origin's run.
    } finally {
      database?.close();
    }
  }
  return null;
}

function asIs(stat: Stats | null): string {
  return stat === null ? '' : [stat.ino, stat.size, stat.mtimeMs, stat.ctimeMs].join(' ');
}

interface Row {
  readonly id: number;
  readonly head_bytes: number;
  readonly head: string;
  readonly read_offset: number;
  readonly lines: number;
  readonly state: string;
}

function knownOf(row: Row): Known {
  return {
    id: row.id,
    headBytes: row.head_bytes,
    head: row.head,
    offset: row.read_offset,
    lines: row.lines,
    state: JSON.parse(row.state) as LogState,
  };
}

function digestOf(head: Buffer, bytes: number): string {
  return hash('sha256', head.subarray(0, bytes), 'hex');
}

function failure({ packing }: MainLogFile, error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return `cannot be ${packing === 'none' || /^E[A-Z]+$/.test(code) ? 'read' : 'unpacked'}: ${message}`;
}

export interface MainLogFile {
  readonly path: string;
  readonly packing: 'none' | 'gzip' | 'zstd';
  /** Absolute path of the log that is written now. */
  readonly family: string;
  /** `3` of ckpool.log.3, `20261126` of ckpool.log-20261126; null of the one that is written now. */
  readonly mark: string | null;
}

const ENDING = /\.(gz|zst)$/;
// ckpool.log.3, ckpool.log-20261126(-1764115200); with logrotate's `extension .log`: ckpool.3.log, ckpool-20261126.log.
// Its `dateformat` may part a date and have hours behind it: ckpool.log-2026-11-26, ckpool.log-20261126_04.
const MARKED_BEHIND = /^(.+\.log)[.-](\d+(?:[-_]\d+)*)$/;
const MARKED_BEFORE = /^(.+?)[.-](\d+(?:[-_]\d+)*)\.log$/;

/** What a name says of a main log; null where it is none. */
export function mainLogOf(path: string): MainLogFile | null {
  const absolute = resolve(path);
  const ending = ENDING.exec(absolute)?.[1];
  const name = basename(absolute).replace(ENDING, '');
  const folder = dirname(absolute);
  const packing = ending === 'gz' ? 'gzip' : ending === 'zst' ? 'zstd' : 'none';
  if (name.endsWith('.sharelog')) return null;
  const behind = MARKED_BEHIND.exec(name);
  if (behind !== null) return { path, packing, family: join(folder, behind[1]!), mark: behind[2]! };
  const before = MARKED_BEFORE.exec(name);
  if (before !== null) return { path, packing, family: join(folder, `${before[1]}.log`), mark: before[2]! };
  return name.endsWith('.log') ? { path, packing, family: absolute.replace(ENDING, ''), mark: null } : null;
}

/** All files of one log, in the order in which they were written. @param family - path of the one that is written now; it need not exist */
export function mainLogFiles(family: string): MainLogFile[] {
  const folder = dirname(resolve(family));
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new PoolError('usage', `${folder}: ${(error as Error).message}`, { cause: error });
  }
  const files = names.flatMap((name) => {
    const file = mainLogOf(join(folder, name));
    return file !== null && file.family === resolve(family) ? [file] : [];
  });
  return inOrder(files);
}

const DATE_DIGITS = 8;
const digitsOf = (mark: string): string => mark.replace(/[-_]/g, '');
/** Eight digits and more are a date, fewer count rotations. */
const isDate = (mark: string): boolean => digitsOf(mark).length >= DATE_DIGITS;

/** A number that rises with the date; what lies behind its day is a part of one. */
function dateOrder(mark: string): number {
  const digits = digitsOf(mark);
  return Number(`${digits.slice(0, DATE_DIGITS)}.${digits.slice(DATE_DIGITS)}`);
}

export function inOrder(files: readonly MainLogFile[]): MainLogFile[] {
  const mtime = (file: MainLogFile): number => statSync(file.path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const marks = files.flatMap(({ mark }) => (mark === null ? [] : [mark]));
  const mixed = marks.some(isDate) && !marks.every(isDate);
  const keyed = files.map((file) => {
    const { mark } = file;
    // Numbers fall, dates rise; where both kinds lie there somebody changed the rotation, and the time of the last line decides.
    const at =
      mark === null
        ? Number.POSITIVE_INFINITY
        : mixed
          ? mtime(file)
          : isDate(mark)
            ? dateOrder(mark)
            : -Number(digitsOf(mark));
    return { file, at };
  });
  // A pack beside what it is made of comes behind it.
  return keyed
    .sort((a, b) =>
      a.at === b.at ? Number(a.file.packing !== 'none') - Number(b.file.packing !== 'none') : a.at < b.at ? -1 : 1,
    )
    .map(({ file }) => file);
}

/** Says what was not taken in. @returns the event of it, so that `dead_letters` can be rebuilt from the log @param sizeBytes - of the line or file */
export function badEntry(options: MainLogOptions, bad: BadLine, sizeBytes: number): LogEntry {
  options.onBad(bad);
  const event = {
    origin: options.origin,
    instance: options.instance,
    time_us: Date.now() * 1000,
    path: bad.path,
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
  return packing !== 'none' && Date.now() - mtimeMs < PACKING_MS && existsSync(path.replace(ENDING, ''));
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
  try {
    beginning = await beginningOf(fd, file, stat);
    known = checkpoints.find(file.family, beginning.subarray(0, HEAD_BYTES));
  } catch (error) {
    if (error instanceof PoolError || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    return isBeingPacked(file, stat) ? before : unread(failure(file, error));
  }

  const shrunken = (length: number): LogState =>
    unread(`${length} bytes long, but ${known?.offset} were read of the log that begins like it`, stat.size);
  if (file.packing === 'none' && stat.size < (known?.offset ?? 0)) return shrunken(stat.size);

  const log = new CkpoolLog(options, known?.state ?? before);
  if (known === null) log.peek(beginning.toString('utf8'));
  const head = beginning.subarray(0, HEAD_BYTES);
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
  const bad = (reason: string, line: Buffer, sizeBytes = line.length): void => {
    summary.log_bad += 1;
    const bytes = Buffer.from(line.subarray(0, BAD_BYTES_KEPT));
    entries.push(badEntry(options, { path, line: lines, reason, bytes }, sizeBytes));
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
    if (!isBeingPacked(file, stat)) unread(failure(file, error));
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

/** The first unpacked bytes, as many as there are before a damage. @throws Error with a code, where there are none */
async function beginningOf(fd: number, file: MainLogFile, stat: Stats): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of unpacked(fd, file.packing, true)) {
      parts.push(chunk);
      length += chunk.length;
      if (length >= PEEK_BYTES) break;
    }
  } catch (error) {
    if (length === 0 || isBeingPacked(file, stat)) throw error;
  }
  return Buffer.concat(parts).subarray(0, PEEK_BYTES);
}
