/**
 * How a program starts, says things, and ends. Each program is an async function that is handed a `Lifecycle`; it registers what must be
 * closed, and `run` closes it in reverse order on SIGINT, SIGTERM or the loss of its parent, once, and sets the exit status.
 */
import { errorLine, PoolError } from './errors.ts';

/** Syslog's numbers, as CKPool's `--loglevel` has them: 3 error, 4 warning, 5 notice, 6 info, 7 debug. */
export type LogLevel = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

/**
 * Takes a line. Without a level it is a sentence for whoever watches: it goes to standard error and to the main log, as a notice. With a
 * level it is one of the main log's own: 0 to 4 go to standard error too, 5 and above to the file alone, where its level lets them in.
 */
export interface Log {
  (line: string, level?: LogLevel): void;
  /** The highest level that is written anywhere; absent: 5. Who makes many lines asks before building one. */
  readonly level?: number;
}

export interface Lifecycle {
  readonly log: Log;
  /** Aborted when the program should stop. */
  readonly signal: AbortSignal;
  /** Registers something to close at the end; the last registered is closed first. */
  onStop(what: string, close: () => Promise<void> | void): void;
  /** Registers what SIGHUP does: files held open are opened anew by their names. */
  onHangup(reopen: () => void): void;
  /** The signal or the error that ends the program; null where it was neither, or has not come. */
  endedBy?(): NodeJS.Signals | Error | null;
  /** Asks the program to stop; with an error it ends with that error's status. */
  stop(error?: unknown): void;
}

/** Local time as CKPool's logs have it: `[2026-11-22 06:06:48.418]`. */
export function logStamp(now: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const time = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
  return `[${day} ${time}.${String(now.getMilliseconds()).padStart(3, '0')}]`;
}

/** The routine lines of a main log start here: they are not for standard error (CKPool's levels 0 to 4 are). */
const FILE_ONLY_LEVEL = 5;

/** A terminal may show a line that is renewed each second: what is said takes its place (as CKPool does). */
const ERASE_LINE = '\u001b[2K\r';

/** A log to standard error; `program` names the speaker where several share a terminal. */
function stderrLog(program: string): Log {
  return (line, level = 0) => {
    if (level >= FILE_ONLY_LEVEL) return;
    process.stderr.write(`${process.stderr.isTTY ? ERASE_LINE : ''}${logStamp(new Date())} ${program}: ${line}\n`);
  };
}

const STOP_LIMIT_MS = 20_000;
const IMPATIENT_MS = 2_000;

/**
 * Runs a program until it is told to stop. Sets `process.exitCode` and ends the process.
 * @param program - name for its log lines
 * @param start - starts everything and returns; what runs on is closed through `onStop`
 */
export async function run(program: string, start: (life: Lifecycle) => Promise<void>): Promise<never> {
  const log = stderrLog(program);
  const controller = new AbortController();
  const closers: { what: string; close: () => Promise<void> | void }[] = [];
  const reopeners: (() => void)[] = [];
  let failure: unknown;
  let told!: () => void;
  const asked = new Promise<void>((resolve) => {
    told = resolve;
  });
  const stop = (error?: unknown): void => {
    if (controller.signal.aborted) return;
    failure = error;
    controller.abort();
    told();
  };
  // A terminal's Ctrl-C reaches a process several times (itself, and through npm): only a later one means impatience.
  let askedAt = 0;
  let endedBy: NodeJS.Signals | null = null;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (!controller.signal.aborted) endedBy = signal;
    if (askedAt === 0) askedAt = Date.now();
    else if (Date.now() - askedAt > IMPATIENT_MS) process.exit(130);
    stop();
  };
  process.on('SIGTERM', onSignal);
  // "Reopen the logs": nobody's miners are to be cut off by logrotate. To who watches at a terminal it says that the terminal is gone.
  const watched = process.channel === undefined && process.stderr.isTTY === true;
  process.on('SIGHUP', () => {
    for (const reopen of reopeners) reopen();
    if (watched) onSignal('SIGHUP');
  });
  if (process.channel === undefined) {
    process.on('SIGINT', onSignal);
  } else {
    // Ctrl-C reaches the whole group; the parent says who stops when.
    process.on('SIGINT', () => {});
    // A child whose parent died must not live on and hold ports and locks.
    process.once('disconnect', () => stop());
    process.on('message', (message) => {
      if (message === 'stop') stop();
    });
  }
  process.on('uncaughtException', (error) => stop(error));
  process.on('unhandledRejection', (error) => stop(error));

  const life: Lifecycle = {
    log,
    signal: controller.signal,
    onStop: (what, close) => {
      closers.push({ what, close });
    },
    onHangup: (reopen) => {
      reopeners.push(reopen);
    },
    endedBy: () => (failure instanceof Error ? failure : endedBy),
    stop,
  };
  start(life).then(() => {
    if (process.connected) process.send?.('ready');
  }, stop);
  await asked;

  const limit = setTimeout(() => {
    log(`not closed after ${STOP_LIMIT_MS / 1000} s, ending anyway`);
    process.exit(70);
  }, STOP_LIMIT_MS);
  for (const { what, close } of closers.reverse()) {
    try {
      await close();
    } catch (error) {
      log(`closing ${what}: ${errorLine(error)}`);
    }
  }
  clearTimeout(limit);
  if (failure === undefined) process.exit(0);
  log(errorLine(failure));
  if (!(failure instanceof PoolError) && failure instanceof Error && failure.stack !== undefined) log(failure.stack);
  process.exit(failure instanceof PoolError ? failure.exit : 70);
}
