/** The part of `lodestream ingest` that reads main logs and status files: which of them, and with what. */
import { hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { chainsOf, loadChain } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import type { DataPaths } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import type { JournalWriter } from '../core/log/event-log.ts';
import { readStatuses } from '../core/status.ts';
import { archivesIn, isArchive } from '../ingestor/archive-read.ts';
import { MainLogCheckpoints, mainLogTakenAs } from '../ingestor/ckpool-log-checkpoints.ts';
import { ingestMainLog } from '../ingestor/ckpool-log-files.ts';
import { inOrder, type MainLogFile, mainLogFiles, mainLogOf } from '../ingestor/ckpool-log-names.ts';
import { emptyMainLogSummary, type MainLogOptions, type MainLogSummary } from '../ingestor/ckpool-log-reading.ts';
import { Zone } from '../ingestor/ckpool-log-time.ts';
import type { MainLogWork } from '../ingestor/follow-log.ts';
import type { IngestOptions } from '../ingestor/main.ts';
import { ingestStatusFiles } from '../ingestor/status-files.ts';
import type { Flag, Parsed } from './flags.ts';

export const MAIN_LOG_FLAGS: Readonly<Record<string, Flag>> = {
  tz: { value: 'ZONE', doc: "time zone of ckpool.log's stamps, as Europe/Berlin; default: this machine's" },
  status: { doc: 'read the status files too: pool/pool.status, users/*, workers/*' },
};

/** Which of the named paths are main logs, which archives, and the rest. */
export function partedPaths(paths: readonly string[]): {
  readonly logs: readonly string[];
  readonly archives: readonly string[];
  readonly others: readonly string[];
} {
  const isLog = (path: string): boolean => mainLogOf(path) !== null;
  // The whole of `<logdir>/archive`, too.
  const all = paths.flatMap((path) => {
    const archives = archivesIn(path);
    return archives.length > 0 ? archives : [path];
  });
  return {
    logs: all.filter(isLog),
    archives: all.filter(isArchive),
    others: all.filter((path) => !isLog(path) && !isArchive(path)),
  };
}

/**
 * The main logs to read, each with its files in order: those named, else the one of the origin. Pool and proxy may share a folder, and their
 * statistics must not merge: `ckproxy.log` is read for the origin `ckproxy`, and for another where it is the only one.
 */
function familiesOf(
  logDir: string,
  named: readonly string[],
  origin: string,
  config: Config,
  wholeTree: boolean,
): MainLogFile[][] {
  if (named.length > 0) {
    const families = new Map<string, MainLogFile[]>();
    for (const path of named) {
      if (!existsSync(path)) throw new PoolError('usage', `${path}: there is no such file or directory`);
      const file = mainLogOf(path)!;
      families.set(file.family, [...(families.get(file.family) ?? []), file]);
    }
    return [...families.values()].map(inOrder);
  }
  if (!wholeTree) return [];
  const files = (name: string): MainLogFile[] => mainLogFiles(resolve(logDir, `${name}.log`));
  for (const name of [origin, config.name]) {
    const found = files(name);
    if (found.length > 0) return [found];
  }
  const rest = ['ckpool', 'ckproxy'].map(files).filter((found) => found.length > 0);
  return rest.length === 1 ? rest : [];
}

/** The chain of solved blocks: the configured one, else the one that the follower is on; null where neither says. */
function chainOf(config: Config, data: DataPaths): MainLogOptions['chain'] {
  if (config.chain !== 'auto') return loadChain(config.chain);
  const followed = readStatuses(data.status).find(({ program }) => program === 'chain')?.values.chain;
  try {
    return typeof followed === 'string' ? chainsOf(config.chain)(followed) : null;
  } catch {
    // A status of another configuration: statistics are read all the same.
    return null;
  }
}

/** A journal of its own: share logs may be followed by another process, which keeps theirs open. */
const mainLogInstance = (origin: string): string => `ingest-${origin}-log`;

type OpenJournal = (instance: string) => JournalWriter;

/** Which main logs a call means. */
interface Meant {
  /** None: no main log is there, or share logs alone were named. */
  families(): MainLogFile[][];
  readonly status: boolean;
}

function meantBy(parsed: Parsed, config: Config, { logDir, origin }: IngestOptions): Meant {
  const { logs, others } = partedPaths(parsed.positionals);
  // Named share logs are read alone, a named tree with all that is in it.
  const wholeTree = parsed.positionals.length === 0 || others.some((path) => resolve(path) === resolve(logDir));
  return {
    families: () => familiesOf(logDir, logs, origin, config, wholeTree),
    status: parsed.values.status === true,
  };
}

function zoneOf({ values: { tz } }: Parsed): Zone {
  return new Zone(typeof tz === 'string' ? tz : null);
}

/**
 * Reads what is new of main logs and status files.
 *
 * @param openJournal - one that is synced with each write, so that no checkpoint outlives in a power cut what it stands on; here that is little
 * @throws PoolError held, usage, data_dir, disk
 */
export async function ingestMainLogs(
  parsed: Parsed,
  config: Config,
  run: IngestOptions,
  openJournal: OpenJournal,
): Promise<MainLogSummary> {
  const meant = meantBy(parsed, config, run);
  const zone = zoneOf(parsed);
  if (meant.families().length === 0 && !meant.status) return emptyMainLogSummary();
  const work = openMainLogs(meant, zone, config, run, openJournal);
  try {
    return await work.pass(true);
  } finally {
    work.close();
  }
}

/** Main logs of one directory, as `followMainLogs` opens them. @throws PoolError usage where the time zone is none */
export function mainLogsToFollow(
  parsed: Parsed,
  config: Config,
  run: IngestOptions,
  openJournal: OpenJournal,
): () => MainLogWork {
  const meant = meantBy(parsed, config, run);
  const zone = zoneOf(parsed);
  return () => openMainLogs(meant, zone, config, run, openJournal);
}

/** @throws PoolError held, data_dir */
function openMainLogs(
  { families, status }: Meant,
  zone: Zone,
  config: Config,
  run: IngestOptions,
  openJournal: OpenJournal,
): MainLogWork {
  const { logDir, origin, data } = run;
  const name = hash('sha256', resolve(logDir), 'hex').slice(0, 16);
  const lock = acquireLock(join(data.state, `ingest-${name}-log.lock`), {
    waitMs: 1_000,
    what: `ingest of the main logs of ${logDir}`,
  });
  let checkpoints: MainLogCheckpoints;
  try {
    checkpoints = new MainLogCheckpoints(join(data.state, `ingest-${origin}-log.sqlite`));
  } catch (error) {
    lock.release();
    throw error;
  }
  let journal: JournalWriter | null = null;
  const options = {
    ...run,
    instance: mainLogInstance(origin),
    zone,
    openJournal: (): JournalWriter => {
      journal ??= openJournal(mainLogInstance(origin));
      return journal;
    },
  };
  const claimed = new Set<string>();
  /** @throws PoolError usage where another origin has its lines */
  const claim = (family: string): void => {
    const other = claimed.has(family) ? null : mainLogTakenAs(data.state, origin, family);
    if (other !== null)
      throw new PoolError(
        'usage',
        `${family} was taken in as origin ${other}; as ${origin} its blocks and statistics would count once more`,
      );
    claimed.add(family);
  };
  return {
    async pass(all) {
      const summary = emptyMainLogSummary();
      const found = families();
      for (const { family } of found.flat()) claim(family);
      // The follower, which names the chain, may have come since.
      const told = { ...options, chain: chainOf(config, data) };
      for (const files of found) await ingestMainLog(files, told, checkpoints, summary);
      if (status && all) ingestStatusFiles(told, checkpoints, summary);
      return summary;
    },
    files: () => families().flatMap((files) => files.map(({ path }) => path)),
    close() {
      journal?.close();
      checkpoints.close();
      lock.release();
    },
  };
}

export function mainLogText(summary: MainLogSummary): string | null {
  if (summary.log_files === 0 && summary.status_files === 0) return null;
  const { log_files, log_files_unchanged, log_lines, statuses, blocks, log_bad, status_files } = summary;
  const status = status_files > 0 ? `, ${status_files} status files` : '';
  return `${log_files} main log${log_files === 1 ? '' : 's'} (${log_files_unchanged} unchanged)${status}: ${log_lines} new lines, ${statuses} statistics, ${blocks} blocks, ${log_bad} bad`;
}
