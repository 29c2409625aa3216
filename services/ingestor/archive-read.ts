/** Reads archives of `lodestream archive` again, as when a journal was lost: unpacked beside, taken in, removed. Identity makes what is known count once. */
import {
  closeSync,
  createReadStream,
  futimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { createZstdDecompress } from 'node:zlib';
import { PoolError } from '../core/errors.ts';
import { acquireLock } from '../core/lock.ts';
import { readTar } from './archive-tar.ts';
import { addSummary, emptySummary, type Summary } from './intake.ts';
import { type IngestOptions, ingest } from './main.ts';

const ARCHIVE = /^[0-9a-f]{8}\.tar\.zst$/;
/** Folders in `state` in which archives are unpacked. */
const BESIDE = 'unpacked-';
const LOCK_WAIT_MS = 1_000;
const MEMBER = /^[0-9a-f]{8}\/[^/]{1,80}\.sharelog(?:\.(?:gz|zst))?$/;

/** Whether a path is named as `archive` names what it packs. */
export function isArchive(path: string): boolean {
  return ARCHIVE.test(basename(path));
}

/** The archives of a folder as `archive` makes it, heights rising; none where the path is no folder. */
export function archivesIn(path: string): string[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch {
    // Who reads it says why it cannot be.
    return [];
  }
  return names
    .filter(isArchive)
    .sort()
    .map((name) => join(path, name));
}

/**
 * Takes in all lines of archives, one after the other.
 * @throws PoolError usage where one cannot be read or is none, disk where it cannot be unpacked, held; and what ingest throws
 */
export async function ingestArchives(paths: readonly string[], options: IngestOptions): Promise<Summary> {
  const sum = emptySummary();
  const { state } = options.data;
  const lock = acquireLock(join(state, 'ingest-archives.lock'), { waitMs: LOCK_WAIT_MS, what: 'ingest of archives' });
  try {
    // Of a run that was killed.
    for (const name of readdirSync(state))
      if (name.startsWith(BESIDE)) rmSync(join(state, name), { recursive: true, force: true });
    for (const path of paths) {
      if (options.signal?.aborted === true) break;
      const one = await ingestArchive(path, options);
      addSummary(sum, one);
    }
  } finally {
    lock.release();
  }
  return sum;
}

async function ingestArchive(path: string, options: IngestOptions): Promise<Summary> {
  const beside = mkdtempSync(join(options.data.state, BESIDE));
  try {
    await unpack(path, beside);
    const state = join(beside, 'state');
    mkdirSync(state);
    // Checkpoints are of files that are gone afterwards.
    return await ingest({ ...options, logDir: beside, paths: [], data: { ...options.data, state } });
  } finally {
    rmSync(beside, { recursive: true, force: true });
  }
}

async function unpack(path: string, into: string): Promise<void> {
  const raw = createReadStream(path, { highWaterMark: 1 << 20 });
  const zstd = createZstdDecompress();
  raw.once('error', (error) => zstd.destroy(error));
  let fd = -1;
  try {
    await readTar(raw.pipe(zstd) as AsyncIterable<Buffer>, ({ name, mtimeS }) => {
      // Nothing is written outside, whoever made it.
      if (!MEMBER.test(name)) throw new Error(`${name} in it is no share log`);
      mkdirSync(join(into, dirname(name)), { recursive: true });
      fd = openSync(join(into, name), 'wx');
      return {
        take(bytes) {
          for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
        },
        end() {
          // For --since: a tar has whole seconds, and a file is never to be older than its last share.
          futimesSync(fd, mtimeS + 1, mtimeS + 1);
          closeSync(fd);
          fd = -1;
        },
      };
    });
  } catch (cause) {
    if (/^(?:ENOSPC|EDQUOT|EROFS)$/.test(String((cause as NodeJS.ErrnoException).code)))
      throw new PoolError('disk', `cannot unpack ${path} into ${into}: ${(cause as Error).message}`, { cause });
    throw new PoolError('usage', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  } finally {
    if (fd >= 0) closeSync(fd);
    raw.destroy();
  }
}
