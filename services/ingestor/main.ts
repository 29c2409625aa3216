/**
 * Back-fill: CKPool share logs become share events, once. Called by hand or from logrotate's postrotate hook; what was read before is not
 * read again, and what the daemon saw itself merges with it by identity.
 *
 * Order of things: the journal first, then the checkpoint. A crash between gives the same events again, and identity makes them count once.
 */
import { createHash, hash } from 'node:crypto';
import { createReadStream, readFileSync, type Stats, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { shareIdentity } from '../../schemas/identity.ts';
import type { DataPaths } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { NAME } from '../core/names.ts';
import { type Checkpoint, type Checkpoints, HEAD_BYTES, openCheckpoints } from './checkpoints.ts';
import { shareFromLine } from './line.ts';
import { type ShareLogFile, shareLogs } from './walk.ts';

export interface BadLine {
  readonly path: string;
  /** From 1; 0 where the whole file is meant. */
  readonly line: number;
  readonly reason: string;
  /** The first 200 characters of what was there. */
  readonly text: string;
}

/** What one run did. */
export interface Summary {
  files: number;
  /** Files not opened, because they are as they were. */
  files_unchanged: number;
  /** Files that cannot be read, are shorter than what was read of them, or begin otherwise: left alone. */
  files_quarantined: number;
  /** Lines read in this run. */
  lines: number;
  /** Lines read in earlier runs. */
  known: number;
  /** Accepted lines whose hash came before in the same run: CKPool after a restart accepts one twice. Counted once by identity. */
  repeats: number;
  bad: number;
  accepted: number;
  refused: number;
  seconds: number;
}

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
  onBad(bad: BadLine): void;
  onProgress(summary: Summary, file: string): void;
}

const ENTRIES_A_WRITE = 2_000;
const LINE_LIMIT_BYTES = 65_536;
const LOCK_WAIT_MS = 1_000;
const NEWLINE = 0x0a;

/**
 * The accounting point of a log directory: `--origin`, else what the daemon wrote there. It is never guessed: pool and proxy may share a folder.
 * @throws PoolError usage
 */
export function originOf(logDir: string, given: string | null): string {
  const path = join(logDir, '.lodestream-origin');
  let stored: string | null = null;
  try {
    stored = readFileSync(path, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  if (given !== null && stored !== null && given !== stored) {
    throw new PoolError('usage', `--origin ${given}, but ${path} says ${stored}: leave the flag out, or name that one`);
  }
  const origin = given ?? stored;
  if (origin === null || origin === '') {
    throw new PoolError(
      'usage',
      `whose shares are these? ${path} does not exist: name the pool or proxy that wrote them with --origin (ckpool, ckproxy)`,
    );
  }
  if (!NAME.test(origin)) {
    throw new PoolError('usage', `origin "${origin}" must be 1 to 64 letters, digits, . _ or -`);
  }
  return origin;
}

/**
 * Reads all that is new.
 * @throws PoolError held where another ingest works on the same directory; disk where the journal cannot be written
 */
export async function ingest(options: IngestOptions): Promise<Summary> {
  const began = performance.now();
  const summary: Summary = {
    files: 0,
    files_unchanged: 0,
    files_quarantined: 0,
    lines: 0,
    known: 0,
    repeats: 0,
    bad: 0,
    accepted: 0,
    refused: 0,
    seconds: 0,
  };
  const name = hash('sha256', resolve(options.logDir), 'hex').slice(0, 16);
  const lock = acquireLock(join(options.data.state, `ingest-${name}.lock`), {
    waitMs: LOCK_WAIT_MS,
    what: `ingest of ${options.logDir}`,
  });
  let checkpoints: Checkpoints | null = null;
  let journal: JournalWriter | null = null;
  const seen = { folder: '', hashes: new Set<string>() };
  try {
    checkpoints = openCheckpoints(join(options.data.state, `ingest-${options.origin}.sqlite`));
    for (const file of shareLogs(options.paths.length > 0 ? options.paths : [options.logDir])) {
      if (seen.folder !== String(file.height)) Object.assign(seen, { folder: String(file.height), hashes: new Set() });
      summary.files += 1;
      await ingestFile(file, options, checkpoints, summary, seen.hashes, () => (journal ??= options.openJournal()));
      summary.seconds = (performance.now() - began) / 1000;
      options.onProgress(summary, file.path);
    }
  } finally {
    (journal as JournalWriter | null)?.close();
    checkpoints?.close();
    lock.release();
  }
  summary.seconds = (performance.now() - began) / 1000;
  return summary;
}

async function ingestFile(
  file: ShareLogFile,
  options: IngestOptions,
  checkpoints: Checkpoints,
  summary: Summary,
  seen: Set<string>,
  journal: () => JournalWriter,
): Promise<void> {
  const quarantine = (reason: string): void => {
    summary.files_quarantined += 1;
    options.onBad({ path: file.path, line: 0, reason, text: '' });
  };
  // One path that cannot be read must not keep all others waiting.
  if (file.unreadable !== undefined) return quarantine(file.unreadable);
  let stat: Stats;
  try {
    stat = statSync(file.path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    return quarantine(`cannot be read: ${(error as Error).message}`);
  }
  // Opening a pipe waits for who writes to it; one that was named on purpose may be read.
  if (!stat.isFile() && (stat.isDirectory() || !options.paths.includes(file.path)))
    return quarantine('is not a regular file');
  const before = checkpoints.get(file.logicalPath);
  if (before !== null) summary.known += before.lines;
  const same =
    before !== null && before.inode === stat.ino && before.sizeBytes === stat.size && before.mtimeMs === stat.mtimeMs;
  if (same) {
    summary.files_unchanged += 1;
    return;
  }

  const context = { origin: options.origin, instance: options.instance, height: file.height };
  let entries: LogEntry[] = [];
  let offset = before?.offset ?? 0;
  let lines = before?.lines ?? 0;
  const flush = (): void => {
    if (entries.length > 0 && !options.dryRun) journal().append(entries);
    entries = [];
  };
  const takeEndless = (sizeBytes: number): void => {
    offset += sizeBytes + 1;
    lines += 1;
    summary.lines += 1;
    summary.bad += 1;
    const reason = `line of ${sizeBytes} bytes, over ${LINE_LIMIT_BYTES}`;
    options.onBad({ path: file.path, line: lines, reason, text: '' });
  };
  const take = (line: Buffer): void => {
    if (line.length > LINE_LIMIT_BYTES) {
      takeEndless(line.length);
      return;
    }
    offset += line.length + 1;
    lines += 1;
    summary.lines += 1;
    const text = line.toString('utf8');
    const outcome = shareFromLine(text, context);
    if ('bad' in outcome) {
      summary.bad += 1;
      options.onBad({ path: file.path, line: lines, reason: outcome.bad, text: text.slice(0, 200) });
      return;
    }
    const identity = shareIdentity(outcome.share);
    if (seen.has(identity)) summary.repeats += 1;
    seen.add(identity);
    if (outcome.share.accepted) summary.accepted += 1;
    else summary.refused += 1;
    entries.push({ topic: 'share', event: outcome.share });
    if (entries.length >= ENTRIES_A_WRITE) flush();
  };

  // The head is read again in any case: it says whether this is still the file whose rest we want.
  const headParts: Buffer[] = [];
  let headBytes = 0;
  let position = 0;
  let rest: Buffer = Buffer.alloc(0);
  /** Bytes of an endless line that were passed over so far. */
  let dropped = 0;
  let checked = before === null || before.offset === 0;
  const headDigest = (upTo: number): string =>
    createHash('sha256')
      .update(Buffer.concat(headParts).subarray(0, Math.min(upTo, HEAD_BYTES)))
      .digest('hex');
  try {
    for await (const chunk of unpacked(file)) {
      if (headBytes < HEAD_BYTES) {
        headParts.push(chunk.subarray(0, HEAD_BYTES - headBytes));
        headBytes += Math.min(chunk.length, HEAD_BYTES - headBytes);
      }
      const from = Math.max(0, (before?.offset ?? 0) - position);
      position += chunk.length;
      if (!checked && before !== null && position >= before.offset) {
        if (headDigest(before.offset) !== before.head)
          return quarantine('the file begins otherwise than when it was read: it was rewritten');
        checked = true;
      }
      if (from >= chunk.length) continue;
      let data = from > 0 ? chunk.subarray(from) : chunk;
      if (rest.length > 0) data = Buffer.concat([rest, data]);
      let start = 0;
      if (dropped > 0) {
        // Inside an endless line: nothing of it is kept, only counted.
        const end = data.indexOf(NEWLINE);
        dropped += end === -1 ? data.length : end;
        if (end === -1) continue;
        takeEndless(dropped);
        dropped = 0;
        start = end + 1;
      }
      for (let end = data.indexOf(NEWLINE, start); end !== -1; end = data.indexOf(NEWLINE, start)) {
        take(data.subarray(start, end));
        start = end + 1;
      }
      rest = data.subarray(start);
      if (rest.length > LINE_LIMIT_BYTES) {
        dropped = rest.length;
        rest = Buffer.alloc(0);
      }
    }
  } catch (error) {
    // Streams fail with a code; anything else is not the file's fault.
    if (error instanceof PoolError || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    // What came before the damage counts; the checkpoint stays, so that a mended file is read again.
    flush();
    const verb = file.packing === 'none' ? 'read' : 'unpacked';
    return quarantine(`cannot be ${verb}: ${(error as Error).message}`);
  }
  if (!checked) return quarantine(`${position} bytes long, but ${before?.offset} were read before: it shrank`);
  flush();
  // A half-written last line is left for the next run.
  const done: Checkpoint = {
    inode: stat.ino,
    sizeBytes: stat.size,
    mtimeMs: stat.mtimeMs,
    offset,
    lines,
    head: headDigest(offset),
  };
  if (!options.dryRun) checkpoints.put(file.logicalPath, done);
}

function unpacked(file: ShareLogFile): AsyncIterable<Buffer> {
  const raw = createReadStream(file.path, { highWaterMark: 1 << 20 });
  if (file.packing === 'none') return raw;
  const unpack = file.packing === 'gzip' ? createGunzip() : createZstdDecompress();
  raw.once('error', (error) => unpack.destroy(error));
  // Who leaves a pack half-way closes the file too.
  unpack.once('close', () => raw.destroy());
  return raw.pipe(unpack);
}
