/** `lodestream ingest [--logdir DIR] [PATH…]`: CKPool share logs become events. */
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { run } from '../core/lifecycle.ts';
import type { JournalWriter } from '../core/log/event-log.ts';
import { openJournalWriter } from '../core/log/journal.ts';
import { ingestArchives } from '../ingestor/archive-read.ts';
import type { MainLogSummary } from '../ingestor/ckpool-log-reading.ts';
import { addSummary, emptySummary } from '../ingestor/intake.ts';
import { type BadLine, type IngestOptions, ingest, originOf, type Summary } from '../ingestor/main.ts';
import { configFrom, type Flag, instantUs, type Parsed } from './flags.ts';
import { HOOK_FLAGS, hookCommand } from './ingest-hook.ts';
import { ingestMainLogs, MAIN_LOG_FLAGS, mainLogsToFollow, mainLogText, partedPaths } from './ingest-log.ts';
import { refuseForeignRoot } from './owner.ts';

export const INGEST_FLAGS: Readonly<Record<string, Flag>> = {
  logdir: { value: 'DIR', doc: "CKPool's log directory; default: logdir of the configuration" },
  origin: {
    value: 'NAME',
    doc: 'whose shares these are; default: what the daemon left in <logdir>/.lodestream-origin',
  },
  follow: { doc: 'go on with what is being written, share logs and main log, until stopped' },
  since: {
    value: 'TIME',
    doc: 'only files last written at or after this (2026-11-26, 2026-11-26T10:00Z, or seconds since 1970), each whole: no share of that time is missing, some before it come with them; other files are left for another run',
  },
  'dry-run': { doc: 'read and check: no event is written, and the next run finds all as new as this one' },
  ...MAIN_LOG_FLAGS,
  ...HOOK_FLAGS,
};

const BAD_LINES_SHOWN = 20;
const BAD_BYTES_SHOWN = 80;
const PROGRESS_EVERY_MS = 200;
/** Exit status of who was stopped by Ctrl-C (128 + SIGINT). */
const INTERRUPTED = 130;

const terminal = process.stderr.isTTY === true;
const wipe = terminal ? '\r\u001b[2K' : '';

const logDirOf = (parsed: Parsed, config: Config): string =>
  typeof parsed.values.logdir === 'string' ? parsed.values.logdir : config.logDir;

function journalOf(config: Config, instance: string, fsync = config.journal.fsync): JournalWriter {
  const { segmentBytes } = config.journal;
  return openJournalWriter({ dir: openDataDir(config.dataDir).journal, instance, fsync, segmentBytes });
}

/** What both ways of reading share. */
function optionsFrom(parsed: Parsed, config: Config): IngestOptions {
  const logDir = logDirOf(parsed, config);
  const { origin: given, since } = parsed.values;
  const origin = originOf(logDir, typeof given === 'string' ? given : null);
  const data = openDataDir(config.dataDir);
  const instance = `ingest-${origin}`;
  let shownAt = 0;
  let badShown = 0;
  return {
    logDir,
    paths: parsed.positionals,
    origin,
    instance,
    data,
    dryRun: parsed.values['dry-run'] === true,
    ...(typeof since === 'string' ? { sinceMs: instantUs(since, 'since') / 1000 } : {}),
    openJournal: () => journalOf(config, instance),
    onBad({ path, line, reason, bytes }: BadLine) {
      badShown += 1;
      if (badShown > BAD_LINES_SHOWN) return;
      // A name may have anything in it, which a terminal might obey.
      const name = path.replace(/\p{Cc}/gu, '?');
      const where = line === 0 ? name : `${name}:${line}`;
      const text = bytes.length === 0 ? '' : `: ${JSON.stringify(bytes.toString('utf8', 0, BAD_BYTES_SHOWN))}`;
      process.stderr.write(`${wipe}${where}: ${reason}${text}\n`);
      if (badShown === BAD_LINES_SHOWN) {
        process.stderr.write('further ones are counted, not shown; dead_letters has them\n');
      }
    },
    onProgress(now: Summary, file: string) {
      if (!terminal || performance.now() - shownAt < PROGRESS_EVERY_MS) return;
      shownAt = performance.now();
      process.stderr.write(`${wipe}${now.files} files, ${now.lines} lines, ${now.bad} bad  ${file.slice(-40)}`);
    },
  };
}

export async function ingestCommand(parsed: Parsed): Promise<void> {
  const config = configFrom(parsed, 'pool');
  refuseForeignRoot(config.dataDir, 'ingest');
  if (parsed.values.follow === true) return followCommand(parsed, config);
  if (parsed.values.hook === true) return await hookCommand(parsed, logDirOf(parsed, config), config.dataDir);
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
  const { signal } = stopping;
  const options = { ...optionsFrom(parsed, config), signal };
  const main = await ingestMainLogs(parsed, config, options, (instance) => journalOf(config, instance, true));
  const { logs, archives, others } = partedPaths(parsed.positionals);
  if (logs.length > 0 && archives.length + others.length === 0) {
    // Main logs alone were named.
    const { origin } = options;
    const text =
      parsed.values.json === true ? JSON.stringify({ origin, ...main }) : `origin ${origin}: ${mainLogText(main)}`;
    process.stdout.write(`${text}\n`);
    sayStopped(signal);
    return;
  }
  const summary = archives.length > 0 ? await ingestArchives(archives, options) : emptySummary();
  if (archives.length === 0 || others.length > 0) {
    const read = await ingest({ ...options, paths: others });
    addSummary(summary, read);
  }
  process.stderr.write(wipe);
  const { origin } = options;
  const mainText = mainLogText(main);
  if (parsed.values.json === true) process.stdout.write(`${JSON.stringify({ origin, ...summary, ...main })}\n`);
  else
    process.stdout.write(
      `${summaryText(summary, origin)}\n${archives.length > 0 ? ARCHIVES_TEXT : ''}${mainText === null ? '' : `${mainText}\n`}`,
    );
  sayStopped(signal);
}

function sayStopped(signal: AbortSignal): void {
  if (!signal.aborted) return;
  process.stderr.write('stopped; the next run goes on from here\n');
  process.exitCode = INTERRUPTED;
}

async function followCommand(parsed: Parsed, config: Config): Promise<void> {
  if (parsed.positionals.length > 0) {
    throw new PoolError('usage', '--follow follows the whole log directory: leave the paths out');
  }
  if (parsed.values['dry-run'] === true) {
    throw new PoolError('usage', '--follow writes what it reads: leave --dry-run out');
  }
  const { followShareLogs } = await import('../ingestor/follow.ts');
  const { followMainLogs } = await import('../ingestor/follow-log.ts');
  const options = optionsFrom(parsed, config);
  await run('ingest', async (life) => {
    const followed = {
      ...options,
      signal: life.signal,
      onPass(summary: Summary | MainLogSummary) {
        if (parsed.values.json === true) {
          process.stdout.write(`${JSON.stringify({ origin: options.origin, ...summary })}\n`);
        }
      },
    };
    const open = mainLogsToFollow(parsed, config, followed, (instance) => journalOf(config, instance, true));
    life.log(`follows ${options.logDir} as origin ${options.origin}`);
    for (const [what, following] of [
      ['share logs', followShareLogs(followed)],
      ['main logs', followMainLogs({ ...followed, open, log: life.log })],
    ] as const) {
      life.onStop(what, () => following.catch(() => {}));
      following.catch((error: unknown) => life.stop(error));
    }
  });
}

/** Of an archive there is no checkpoint: it is for when a journal was lost. */
const ARCHIVES_TEXT = 'archives are read whole each time: what the log has already counts once in the tables\n';

function summaryText(summary: Summary, origin: string): string {
  const rate = summary.seconds > 0 ? Math.round(summary.lines / summary.seconds) : 0;
  const { files_left: left, files_unfinished: unfinished } = summary;
  return [
    `origin ${origin}: ${summary.files} files (${summary.files_unchanged} unchanged, ${summary.files_quarantined} left alone)`,
    ...(left > 0 ? [`${left} files are older than --since, and left for another run`] : []),
    ...(unfinished > 0 ? [`${unfinished} of them end amid a line, which is read when it is whole`] : []),
    `${summary.lines} new lines: ${summary.accepted} accepted, ${summary.refused} refused, ${summary.bad} bad; ${summary.repeats} repeats, counted once`,
    `${summary.known} lines known from earlier runs; ${summary.seconds.toFixed(2)} s, ${rate} lines/s`,
  ].join('\n');
}
