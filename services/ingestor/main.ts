/**
 * Back-fill: CKPool share logs become share events, once. Called by hand or from logrotate's postrotate hook, or left running (follow.ts); what was
 * read before is not read again, and what the daemon saw itself merges with it by identity.
 */
import { hash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { DataPaths } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import type { JournalWriter } from '../core/log/event-log.ts';
import { openJournalLog } from '../core/log/journal.ts';
import { NAME } from '../core/names.ts';
import { originPath, readOrigin } from '../core/origin-file.ts';
import { type Checkpoints, OtherOrigins, openCheckpoints } from './checkpoints.ts';
import { type BadLine, emptySummary, Intake, type Summary } from './intake.ts';
import { logicalName, type ShareLogFolder, shareLogFolders } from './walk.ts';

export type { BadLine, Summary } from './intake.ts';

export interface IngestOptions {
  readonly logDir: string;
  /** Files and folders; empty: the whole of logDir. */
  readonly paths: readonly string[];
  readonly origin: string;
  /** Instance name of the journal that the events go to. */
  readonly instance: string;
  readonly data: DataPaths;
  readonly openJournal: () => JournalWriter;
  readonly dryRun: boolean;
  /** Only files written at or after this, milliseconds since 1970; others are left for another run. */
  readonly sinceMs?: number;
  /** Ends after the present piece of a file; what was read is kept. */
  readonly signal?: AbortSignal;
  readonly nowMs?: () => number;
  onBad(bad: BadLine): void;
  onProgress(summary: Summary, file: string): void;
}

const LOCK_WAIT_MS = 1_000;

/**
 * The accounting point of a log directory: `--origin`, else what the daemon wrote there. It is never guessed: pool and proxy may share a folder.
 * @throws PoolError usage
 */
export function originOf(logDir: string, given: string | null): string {
  const path = originPath(logDir);
  // With --origin it need not be there: named files may lie anywhere.
  if (given === null && statSync(logDir, { throwIfNoEntry: false }) === undefined)
    throw new PoolError('usage', `${logDir}: there is no such directory; --logdir names the one CKPool writes to`);
  let stored: string | null;
  try {
    stored = readOrigin(logDir);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') throw new PoolError('usage', `${logDir} is no directory`, { cause });
    throw new PoolError('usage', `${path} cannot be read: ${message}`, { cause });
  }
  if (given !== null && stored !== null && given !== stored) {
    throw new PoolError('usage', `--origin ${given}, but ${path} says ${stored}: leave the flag out, or name that one`);
  }
  const origin = given ?? stored;
  if (origin === null) {
    throw new PoolError(
      'usage',
      `whose shares are these? ${path} does not say it: name the pool or proxy that wrote them with --origin (ckpool, ckproxy)`,
    );
  }
  if (!NAME.test(origin)) {
    throw new PoolError('usage', `origin "${origin}" must be 1 to 64 letters, digits, . _ or -`);
  }
  return origin;
}

/** What is open while share logs of one directory are read. */
export interface Ingest {
  /**
   * Takes in what is new of these folders, and stores how far it is; the highest is taken for the tip.
   * @throws PoolError usage where another origin has the shares of one
   */
  pass(folders: readonly ShareLogFolder[]): Promise<void>;
  /** Since the last call. */
  takeSummary(): Summary;
  /** Lets go; of a pass that has failed what was read since its last checkpoint is read again. */
  close(): void;
}

/**
 * Without fsync a power cut may take the end of the journal and leave the checkpoints that were made after it. Then what was read in that run is
 * read again; the live events of the same shares, and what is left of the run, count once with it.
 */
async function checkEnd(options: IngestOptions, checkpoints: Checkpoints): Promise<void> {
  const end = checkpoints.end();
  if (end === null || end.shares === 0) return;
  const journal = openJournalLog({ dir: options.data.journal });
  try {
    const last = `${end.run}:${end.shares - 1}`;
    const { records } = await journal.read('share', options.instance, last, { maxRecords: 1, waitMs: 0 });
    if (records[0]?.position !== last) checkpoints.forget(end.run);
  } finally {
    await journal.close();
  }
}

/** @throws PoolError held where another ingest works on the same directory, data_dir */
export async function openIngest(options: IngestOptions): Promise<Ingest> {
  const name = hash('sha256', resolve(options.logDir), 'hex').slice(0, 16);
  const lock = acquireLock(join(options.data.state, `ingest-${name}.lock`), {
    waitMs: LOCK_WAIT_MS,
    what: `ingest of ${options.logDir}`,
  });
  let opened: Checkpoints | null = null;
  let checkpoints: Checkpoints;
  let looked: OtherOrigins | null = null;
  let others: OtherOrigins;
  try {
    others = looked = new OtherOrigins(options.data.state, options.origin);
    checkpoints = opened = openCheckpoints(join(options.data.state, `ingest-${options.origin}.sqlite`));
    if (!options.dryRun) await checkEnd(options, checkpoints);
  } catch (error) {
    opened?.close();
    looked?.close();
    lock.release();
    throw error;
  }
  const { signal = new AbortController().signal } = options;
  const intake = new Intake({
    ...options,
    ...{ checkpoints, signal, sinceMs: options.sinceMs ?? Number.NEGATIVE_INFINITY },
    openJournal: options.dryRun ? null : options.openJournal,
    nowMs: options.nowMs ?? Date.now,
  });
  let tip = 0;
  /** @throws PoolError usage where another origin has a folder's shares */
  const claim = ({ path, only }: ShareLogFolder): void => {
    const folder = resolve(path);
    if (checkpoints.folder(folder) !== null) return;
    const other = others.of(folder, only?.map(logicalName) ?? null);
    if (other === null) return;
    throw new PoolError(
      'usage',
      `share logs of ${path} were taken in as origin ${other}; as ${options.origin} they would count once more. Main logs are read alone where they are named: lodestream ingest --origin ${options.origin} FILE`,
    );
  };
  const close = (): void => {
    intake.close();
    checkpoints.close();
    others.close();
    lock.release();
  };
  return {
    async pass(folders) {
      const begun = performance.now();
      for (const { height } of folders) tip = Math.max(tip, height);
      for (const folder of folders) {
        if (signal.aborted) break;
        claim(folder);
        await intake.folder(folder, tip);
      }
      await intake.commit();
      intake.summary.seconds += (performance.now() - begun) / 1000;
    },
    takeSummary() {
      const { summary } = intake;
      intake.summary = emptySummary();
      return summary;
    },
    close,
  };
}

/**
 * Reads all that is new.
 * @throws PoolError held where another ingest works on the same directory; disk where the journal cannot be written
 */
export async function ingest(options: IngestOptions): Promise<Summary> {
  const begun = performance.now();
  const work = await openIngest(options);
  try {
    await work.pass(shareLogFolders(options.paths.length > 0 ? options.paths : [options.logDir]));
  } finally {
    work.close();
  }
  return { ...work.takeSummary(), seconds: (performance.now() - begun) / 1000 };
}
