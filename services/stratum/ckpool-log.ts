/**
 * The main log `<logdir>/<name>.log` (`ckpool.log`, `ckproxy.log`): CKPool's lines `[YYYY-MM-DD hh:mm:ss.mmm] text`, local time, filtered
 * by level. The file is held open for appending; that it was renamed, removed or replaced is noticed within two seconds, or at once on
 * SIGHUP, and a truncated one goes on at its start. Where it cannot be written, lines wait in memory, and standard error says so once.
 *
 * Lines of one turn of the loop are written together; warnings and worse at once.
 */
import { closeSync, fstatSync, mkdirSync, openSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Log, type LogLevel, logStamp } from '../core/lifecycle.ts';

const NOTICE: LogLevel = 5;
const WARNING: LogLevel = 4;
/** How often the file's name is compared with what is open, and a failing one tried again. */
const CHECK_MS = 2_000;
/** Lines that wait for a file; beyond it the oldest are given up, and counted. */
const WAITING_LINES = 10_000;

export interface MainLogOptions {
  readonly path: string;
  /** Syslog's number: lines up to it are written. */
  readonly level: number;
  /** Where lines without a level, and those of levels 0 to 4, go too; and what is wrong with the file. */
  readonly stderr: Log;
  /** Milliseconds since 1970; for tests. */
  readonly nowMs?: () => number;
}

export interface MainLog {
  readonly log: Log;
  /** Syslog's number, 0 to 7. */
  readonly level: number;
  /** Lines up to this level are written from now on. */
  readonly setLevel: (level: number) => void;
  /** Writes what waits and opens the file by its name again. */
  reopen(): void;
  /** Writes what waits, now. */
  flush(): void;
  close(): void;
}

class Writer implements MainLog {
  readonly log: Log;
  level: number;
  readonly #options: MainLogOptions;
  readonly #nowMs: () => number;
  #fd: number | null = null;
  #waiting: string[] = [];
  #lost = 0;
  #scheduled = false;
  #checkedMs = -Infinity;
  #problem: string | null = null;

  constructor(options: MainLogOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? Date.now;
    this.level = options.level;
    const log = (line: string, level?: LogLevel): void => this.#take(line, level);
    this.log = Object.defineProperty(log, 'level', { get: () => this.level });
  }

  readonly setLevel = (level: number): void => {
    this.level = level;
  };

  #take(line: string, level: LogLevel | undefined): void {
    this.#options.stderr(line, level);
    const importance = level ?? NOTICE;
    if (importance > this.level) return;
    this.#waiting.push(`${logStamp(new Date(this.#nowMs()))} ${line}\n`);
    if (importance <= WARNING) this.flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => this.flush());
    }
  }

  flush(): void {
    this.#scheduled = false;
    if (this.#waiting.length === 0 || !this.#ready()) return;
    const bytes = Buffer.from(this.#waiting.join(''));
    let from = 0;
    try {
      while (from < bytes.length) from += writeSync(this.#fd!, bytes, from);
      this.#waiting = [];
      // A full disk lets a file be opened.
      if (this.#problem !== null) this.#options.stderr(`${this.#options.path} is written again`);
      this.#problem = null;
      if (this.#lost > 0)
        this.#waiting.push(`${logStamp(new Date(this.#nowMs()))} ${this.#lost} lines were lost here\n`);
      this.#lost = 0;
    } catch (error) {
      // What went out stays out; the rest begins with the rest of a line.
      const rest = bytes.toString('utf8', from);
      this.#waiting = rest === '' ? [] : rest.split(/(?<=\n)/);
      this.#fail(error);
    }
  }

  /** Opens the file where it is not open under its name; tries again after a while where that fails. */
  #ready(): boolean {
    const now = this.#nowMs();
    const due = now - this.#checkedMs >= CHECK_MS || now < this.#checkedMs;
    if (!due) return this.#fd !== null || this.#keep();
    this.#checkedMs = now;
    try {
      if (this.#fd !== null && !isOpenAt(this.#fd, this.#options.path)) this.#closeFile();
      this.#fd ??= openAppending(this.#options.path);
      return true;
    } catch (error) {
      this.#fail(error);
      return this.#keep();
    }
  }

  /** Bounds what waits. @returns false */
  #keep(): false {
    const surplus = this.#waiting.length - WAITING_LINES;
    if (surplus > 0) {
      this.#waiting.splice(0, surplus);
      this.#lost += surplus;
    }
    return false;
  }

  #fail(error: unknown): void {
    this.#closeFile();
    const line = `the main log cannot be written: ${(error as Error).message}`;
    if (this.#problem !== line) this.#options.stderr(line);
    this.#problem = line;
  }

  #closeFile(): void {
    if (this.#fd === null) return;
    try {
      closeSync(this.#fd);
    } catch {
      // A late error of the disk; what was written was told already.
    }
    this.#fd = null;
  }

  reopen(): void {
    this.flush();
    this.#closeFile();
    this.#checkedMs = -Infinity;
    // Made at once, for whoever waits for it.
    this.#ready();
  }

  close(): void {
    this.flush();
    this.#closeFile();
  }
}

/** True where a path names the open file. @throws Error of the file system other than that nothing is there */
function isOpenAt(fd: number, path: string): boolean {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there === undefined) return false;
  const open = fstatSync(fd);
  return there.ino === open.ino && there.dev === open.dev;
}

/** The file, and its folder where that is missing. Mode as CKPool's: what the umask leaves of 0666. */
function openAppending(path: string): number {
  try {
    return openSync(path, 'a');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
    return openSync(path, 'a');
  }
}

/** Opens the main log; a file that cannot be opened is told and tried again, never an error. */
export function openMainLog(options: MainLogOptions): MainLog {
  const log = new Writer(options);
  log.reopen();
  return log;
}
