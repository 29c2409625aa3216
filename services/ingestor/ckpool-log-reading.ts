/**
 * One main log, from where it was left off: bytes ──► lines ──► ckpool-log.ts ──► journal ──► checkpoint. Which file and which of its bytes is
 * ckpool-log-files.ts's.
 */
import { resolve } from 'node:path';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { HEAD_BYTES } from './checkpoints.ts';
import { CkpoolLog, type LogContext, type LogFact, type LogState } from './ckpool-log.ts';
import { digestOf, type Known, type MainLogCheckpoints } from './ckpool-log-checkpoints.ts';
import type { MainLogFile } from './ckpool-log-names.ts';
import type { BadLine } from './intake.ts';
import { BAD_BYTES_KEPT, LINE_LIMIT_BYTES } from './line.ts';
import { type BlockContext, blockOf } from './solved-block.ts';

const ENTRIES_A_WRITE = 2_000;
/** A million statistics lines without one that tells something would keep the place; so it is kept at least so often. */
const LINES_A_CHECKPOINT = 50_000;
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

/** What reading main logs needs besides the log. */
export interface LogParts {
  readonly options: MainLogOptions;
  readonly checkpoints: MainLogCheckpoints;
  readonly summary: MainLogSummary;
}

/** Cuts bytes into lines. Of one above the limit only its length is told, and what follows the last line end is kept for the next bytes. */
class Lines {
  readonly #take: (line: Buffer) => void;
  readonly #tooLong: (bytes: number) => void;
  #rest: Buffer = Buffer.alloc(0);
  /** Of a line above the limit: bytes passed over so far. */
  #dropped = 0;

  constructor(take: (line: Buffer) => void, tooLong: (bytes: number) => void) {
    this.#take = take;
    this.#tooLong = tooLong;
  }

  push(bytes: Buffer): void {
    const data = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    let start = 0;
    if (this.#dropped > 0) {
      const end = data.indexOf(NEWLINE);
      this.#dropped += end === -1 ? data.length : end;
      if (end === -1) return;
      this.#tooLong(this.#dropped);
      this.#dropped = 0;
      start = end + 1;
    }
    for (let end = data.indexOf(NEWLINE, start); end !== -1; end = data.indexOf(NEWLINE, start)) {
      if (end - start > LINE_LIMIT_BYTES) this.#tooLong(end - start);
      else this.#take(data.subarray(start, end));
      start = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(start));
    if (this.#rest.length <= LINE_LIMIT_BYTES) return;
    this.#dropped = this.#rest.length;
    this.#rest = Buffer.alloc(0);
  }
}

/** A log as far as it has been read; to be given its bytes, unpacked and in order, and saved at the end. */
export class LogReading {
  readonly #file: MainLogFile;
  readonly #path: string;
  readonly #parts: LogParts;
  readonly #log: CkpoolLog;
  readonly #from: number;
  readonly #cut = new Lines(
    (line) => this.#take(line),
    (bytes) => this.#tooLong(bytes),
  );
  /** By which the log is known: its first bytes, HEAD_BYTES at most. */
  #head: Buffer;
  /** Of the checkpoint; null: it has none. */
  id: number | null;
  #offset: number;
  #lines: number;
  #savedLines: number;
  #entries: LogEntry[] = [];
  #saidForeign = false;

  /**
   * @param beginning - the first bytes of the log, unpacked
   * @param before - where the file before it left off
   */
  constructor(file: MainLogFile, beginning: Buffer, known: Known | null, before: LogState, parts: LogParts) {
    this.#file = file;
    this.#path = resolve(file.path);
    this.#parts = parts;
    this.#log = new CkpoolLog(parts.options, known?.state ?? before);
    if (known === null) this.#log.peek(beginning.toString('utf8'));
    this.#head = beginning.subarray(0, HEAD_BYTES);
    this.id = known?.id ?? null;
    this.#offset = this.#from = known?.offset ?? 0;
    this.#lines = this.#savedLines = known?.lines ?? 0;
  }

  get state(): LogState {
    return this.#log.state;
  }

  /** Whether its last line waits for what follows. */
  get isOpen(): boolean {
    return this.#log.isOpen;
  }

  /** @param at - where in the log these bytes begin; those that an earlier run has read are passed over */
  push(bytes: Buffer, at: number): void {
    // A short log is known by all of it, also by what came since its beginning was looked at, or it would be unknown at the next look.
    const known = this.#head.length;
    if (known < HEAD_BYTES && at <= known && at + bytes.length > known)
      this.#head = Buffer.concat([this.#head.subarray(0, at), bytes.subarray(0, HEAD_BYTES - at)]);
    const from = Math.max(0, this.#from - at);
    if (from < bytes.length) this.#cut.push(bytes.subarray(from));
  }

  /** Nothing more comes: tells what the last line left open. */
  end(): void {
    this.#tell(this.#log.end(), Buffer.alloc(0));
  }

  /** The journal first: a crash between gives the same again, and identity makes it count once. */
  save(): void {
    const { options, checkpoints } = this.#parts;
    const entries = this.#entries;
    this.#entries = [];
    if (options.dryRun) return;
    if (entries.length > 0) options.openJournal().append(entries);
    this.#savedLines = this.#lines;
    const headBytes = Math.min(this.#offset, this.#head.length);
    if (headBytes === 0) return;
    this.id = checkpoints.put(this.#file.family, {
      id: this.id,
      headBytes,
      head: digestOf(this.#head, headBytes),
      offset: this.#offset,
      lines: this.#lines,
      state: this.state,
    });
  }

  #take(line: Buffer): void {
    this.#count(line.length);
    const text = line.toString('utf8');
    this.#tell(this.#log.take(text.endsWith('\r') ? text.slice(0, -1) : text), line);
    if (this.#entries.length >= ENTRIES_A_WRITE || this.#lines - this.#savedLines >= LINES_A_CHECKPOINT) this.save();
  }

  #tooLong(bytes: number): void {
    this.#count(bytes);
    this.#bad(`line of ${bytes} bytes, over ${LINE_LIMIT_BYTES}`, Buffer.alloc(0), bytes);
  }

  #count(bytes: number): void {
    this.#offset += bytes + 1;
    this.#lines += 1;
    this.#parts.summary.log_lines += 1;
  }

  #tell(facts: readonly LogFact[], line: Buffer): void {
    const { options, summary } = this.#parts;
    for (const fact of facts) {
      if ('status' in fact) {
        summary.statuses += 1;
        this.#entries.push({ topic: 'session', event: fact.status });
      } else if ('solved' in fact) {
        const event = blockOf(fact.solved, options);
        if (typeof event === 'string') {
          this.#bad(`block ${fact.solved.height} of difficulty ${fact.solved.diff}: ${event}`, line);
        } else {
          summary.blocks += 1;
          this.#entries.push({ topic: 'block', event });
        }
      } else if ('foreign' in fact) {
        // Once for each file is enough.
        if (!this.#saidForeign)
          options.onBad({ path: this.#path, line: this.#lines, reason: fact.foreign, bytes: Buffer.alloc(0) });
        this.#saidForeign = true;
      } else {
        this.#bad(fact.bad, line);
      }
    }
  }

  #bad(reason: string, line: Buffer, sizeBytes = line.length): void {
    const { options, summary } = this.#parts;
    summary.log_bad += 1;
    const bad = { path: this.#path, line: this.#lines, reason, bytes: Buffer.from(line.subarray(0, BAD_BYTES_KEPT)) };
    // By its name line 5 of today's log would be line 5 of yesterday's, and the same line another one when the log was rotated.
    const name = `${this.#file.family} (from ${firstStamp(this.#head)})`;
    this.#entries.push(badEntry(options, bad, sizeBytes, name));
  }
}
