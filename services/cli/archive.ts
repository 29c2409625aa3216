/** `lodestream archive --older-than 30d [--delete]`: packs heights of share logs whose every line is in the log. */
import { hash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import { openJournalWriter } from '../core/log/journal.ts';
import { type ArchiveSummary, archive, KEEP_HEIGHTS } from '../ingestor/archive.ts';
import { type FileCheckpoint, openCheckpoints } from '../ingestor/checkpoints.ts';
import { openIngest, originOf } from '../ingestor/main.ts';
import { configFrom, type Flag, type Parsed } from './flags.ts';
import { refuseForeignRoot } from './owner.ts';

export const ARCHIVE_FLAGS: Readonly<Record<string, Flag>> = {
  logdir: { value: 'DIR', doc: "CKPool's log directory; default: logdir of the configuration" },
  'older-than': {
    value: 'AGE',
    doc: 'only heights whose files were last written so long ago: 30d, 12h, 90m; default 30d; never the highest 100',
  },
  delete: { doc: 'remove the originals, once the archive was read back and has them' },
};

const PROGRESS_EVERY_MS = 200;
const LEFT_SHOWN = 20;
const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** @throws PoolError usage */
function ageMs(text: string): number {
  const match = /^(\d{1,5})([mhd])$/.exec(text);
  if (match === null) throw new PoolError('usage', `--older-than: expected an age as 30d, 12h or 90m, got ${text}`);
  return Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
}

/** Exit status where a height was left because something is wrong with it. */
const LEFT = 1;

/** Without fsync the journal may have what was read in memory only: a power cut would take it behind the originals. */
function syncFiles(dir: string): void {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  for (const path of [...names.map((name) => join(dir, name)), dir]) {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      // Packed or removed meanwhile: by who had it on the disk first.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

export async function archiveCommand(parsed: Parsed): Promise<void> {
  const config = configFrom(parsed, 'pool');
  const { logdir, origin: given, 'older-than': older } = parsed.values;
  const logDir = typeof logdir === 'string' ? logdir : config.logDir;
  const olderThanMs = ageMs(typeof older === 'string' ? older : '30d');
  const origin = originOf(logDir, typeof given === 'string' ? given : null);
  refuseForeignRoot(config.dataDir, 'archive');
  const data = openDataDir(config.dataDir);
  // What a power cut took from the journal is forgotten by the checkpoints when they are opened to read on.
  const { journal } = config;
  const opened = await openIngest({
    ...{
      logDir,
      paths: [],
      origin,
      instance: `ingest-${origin}`,
      data,
      dryRun: false,
      onBad: () => {},
      onProgress: () => {},
    },
    openJournal: () => openJournalWriter({ ...journal, dir: data.journal, instance: `ingest-${origin}` }),
  });
  opened.close();
  const name = hash('sha256', resolve(logDir), 'hex').slice(0, 16);
  const lock = acquireLock(join(data.state, `ingest-${name}.lock`), { waitMs: 1_000, what: `ingest of ${logDir}` });
  const terminal = process.stderr.isTTY === true;
  const wipe = terminal ? '\r\u001b[2K' : '';
  let shownAt = 0;
  let left = 0;
  try {
    const checkpoints = openCheckpoints(join(data.state, `ingest-${origin}.sqlite`));
    try {
      let known: { readonly folder: string; readonly files: ReadonlyMap<string, FileCheckpoint> } | null = null;
      const summary = await archive({
        logDir,
        origin,
        olderThanMs,
        remove: parsed.values.delete === true,
        settle: () => syncFiles(join(data.journal, `ingest-${origin}`, 'share')),
        mark(folder, file) {
          if (known?.folder !== folder) known = { folder, files: checkpoints.files(resolve(logDir, folder)) };
          return known.files.get(file) ?? null;
        },
        onLeft(folder, reason) {
          left += 1;
          if (left > LEFT_SHOWN) return;
          process.stderr.write(`${wipe}${folder}: ${reason}\n`);
          if (left === LEFT_SHOWN) process.stderr.write('further ones are counted, not shown\n');
        },
        onProgress(now, folder) {
          if (!terminal || performance.now() - shownAt < PROGRESS_EVERY_MS) return;
          shownAt = performance.now();
          process.stderr.write(`${wipe}${now.heights} heights, ${now.packed} packed  ${folder}`);
        },
      });
      process.stderr.write(wipe);
      process.stdout.write(
        parsed.values.json === true ? `${JSON.stringify({ origin, ...summary })}\n` : `${text(summary)}\n`,
      );
      if (summary.left > 0) process.exitCode = LEFT;
    } finally {
      checkpoints.close();
    }
  } finally {
    lock.release();
  }
}

function text(summary: ArchiveSummary): string {
  const { heights, packed, known, left, files, bytes, packed_bytes, files_removed, seconds } = summary;
  const mebibytes = (count: number): string => (count / 1024 ** 2).toFixed(1);
  return [
    `${heights} heights old enough: ${packed} packed, ${known} packed before, ${left} left; the highest ${KEEP_HEIGHTS} stay as they are`,
    `${files} files of ${mebibytes(bytes)} MiB became ${mebibytes(packed_bytes)} MiB; ${files_removed} files removed; ${seconds.toFixed(2)} s`,
  ].join('\n');
}
