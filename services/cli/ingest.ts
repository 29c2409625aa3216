/** `lodestream ingest [--logdir DIR] [PATH…]`: CKPool share logs become events. */
import { openDataDir } from '../core/data-dir.ts';
import { openJournalWriter } from '../core/log/journal.ts';
import { type BadLine, ingest, originOf, type Summary } from '../ingestor/main.ts';
import { configFrom, type Flag, type Parsed } from './flags.ts';

export const INGEST_FLAGS: Readonly<Record<string, Flag>> = {
  logdir: { value: 'DIR', doc: "CKPool's log directory; default: logdir of the configuration" },
  'dry-run': { doc: 'read and check, write nothing' },
};

const BAD_LINES_SHOWN = 20;
const PROGRESS_EVERY_MS = 200;

export async function ingestCommand(parsed: Parsed): Promise<void> {
  const config = configFrom(parsed, 'pool');
  const logDir = typeof parsed.values.logdir === 'string' ? parsed.values.logdir : config.logDir;
  const given = parsed.values.origin;
  const origin = originOf(logDir, typeof given === 'string' ? given : null);
  const data = openDataDir(config.dataDir);
  const instance = `ingest-${origin}`;
  const terminal = process.stderr.isTTY === true;
  let shownAt = 0;
  let badShown = 0;
  const summary = await ingest({
    logDir,
    paths: parsed.positionals,
    origin,
    instance,
    data,
    dryRun: parsed.values['dry-run'] === true,
    openJournal: () =>
      openJournalWriter({
        dir: data.journal,
        instance,
        fsync: config.journal.fsync,
        segmentBytes: config.journal.segmentBytes,
      }),
    onBad(bad: BadLine) {
      badShown += 1;
      if (badShown > BAD_LINES_SHOWN) return;
      const where = bad.line === 0 ? bad.path : `${bad.path}:${bad.line}`;
      process.stderr.write(
        `${terminal ? '\r\u001b[2K' : ''}${where}: ${bad.reason}${bad.text === '' ? '' : `: ${JSON.stringify(bad.text.slice(0, 80))}`}\n`,
      );
      if (badShown === BAD_LINES_SHOWN) process.stderr.write('further bad lines are counted, not shown\n');
    },
    onProgress(now: Summary, file: string) {
      if (!terminal || performance.now() - shownAt < PROGRESS_EVERY_MS) return;
      shownAt = performance.now();
      process.stderr.write(`\r\u001b[2K${now.files} files, ${now.lines} lines, ${now.bad} bad  ${file.slice(-40)}`);
    },
  });
  if (terminal) process.stderr.write('\r\u001b[2K');
  if (parsed.values.json === true) process.stdout.write(`${JSON.stringify({ origin, ...summary })}\n`);
  else process.stdout.write(`${summaryText(summary, origin)}\n`);
}

function summaryText(summary: Summary, origin: string): string {
  const rate = summary.seconds > 0 ? Math.round(summary.lines / summary.seconds) : 0;
  return [
    `origin ${origin}: ${summary.files} files (${summary.files_unchanged} unchanged, ${summary.files_quarantined} left alone)`,
    `${summary.lines} new lines: ${summary.accepted} accepted, ${summary.refused} refused, ${summary.bad} bad; ${summary.repeats} repeats, counted once`,
    `${summary.known} lines known from earlier runs; ${summary.seconds.toFixed(2)} s, ${rate} lines/s`,
  ].join('\n');
}
