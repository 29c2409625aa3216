/**
 * `ingest --follow`, beside the share logs: the pool's main log, and what rotation makes of it. Looked at, not watched: a busy pool's log changes each
 * second, and what counts of it, blocks and statistics, comes once a minute.
 *
 *   names of the folder, sizes and times of its logs ─► as at the last look? ─► ckpool-log-files.ts reads what is new
 */
import { statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { errorLine, PoolError } from '../core/errors.ts';
import type { MainLogSummary } from './ckpool-log-reading.ts';

/** How often logs are looked at; and, changed or not, all that may have ended or come into being, status files too. */
const LOOK_MS = 2_000;
const LOOK_ALL_MS = 60_000;

/** Main logs of one directory, open. */
export interface MainLogWork {
  /** Takes in what is new. @param all - status files too, where these are wanted @throws PoolError usage where another origin has them, disk */
  pass(all: boolean): Promise<MainLogSummary>;
  /** Those there are now; the folder is listed. */
  files(): string[];
  close(): void;
}

export interface FollowLogOptions {
  readonly logDir: string;
  readonly signal: AbortSignal;
  /** @throws PoolError held while another reads them */
  open(): MainLogWork;
  log(line: string): void;
  /** Told what each pass did that found something. */
  onPass(summary: MainLogSummary): void;
  /** For tests. */
  readonly lookMs?: number;
}

/**
 * Takes in what is there, and then what comes, until the signal says so. Another run that reads them is waited for.
 * @throws PoolError usage, data_dir, disk
 */
export async function followMainLogs(options: FollowLogOptions): Promise<void> {
  const { logDir, signal } = options;
  let work: MainLogWork | null = null;
  let said = false;
  let files: readonly string[] = [];
  let listedMs = Number.NaN;
  /** What tells that something was written, rotated or packed. */
  const look = (opened: MainLogWork): string => {
    const { mtimeMs = Number.NaN } = statSync(logDir, { throwIfNoEntry: false }) ?? {};
    // Heights are names of this folder too, years of them: it is listed when one has come or gone.
    if (mtimeMs !== listedMs) files = opened.files();
    listedMs = mtimeMs;
    const seen = files.map((path) => {
      try {
        const { ino, size, mtimeMs } = statSync(path);
        return `${ino} ${size} ${mtimeMs}`;
      } catch {
        // Gone, or a loop of links, which the pass names.
        return '';
      }
    });
    return `${mtimeMs} ${seen.join()}`;
  };
  try {
    let before = '';
    let passedMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      try {
        work ??= options.open();
      } catch (error) {
        if (!(error instanceof PoolError && error.code === 'held')) throw error;
        if (!said) options.log(`${errorLine(error)}; waited for`);
        said = true;
      }
      if (work !== null) {
        const all = performance.now() - passedMs > LOOK_ALL_MS;
        if (all) listedMs = Number.NaN;
        // Before the pass: what is written while it reads is found at the next look.
        const seen = look(work);
        if (all || seen !== before) {
          const summary = await work.pass(all);
          if (summary.statuses + summary.blocks + summary.log_bad > 0) options.onPass(summary);
          if (all) passedMs = performance.now();
        }
        before = seen;
      }
      await delay(options.lookMs ?? LOOK_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    work?.close();
  }
}
