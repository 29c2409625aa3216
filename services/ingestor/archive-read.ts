/** Reads archives of `lodestream archive` again, as when a journal was lost: unpacked beside, taken in, removed. Identity makes what is known count once. */
import { closeSync, createReadStream, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { createZstdDecompress } from 'node:zlib';
import { PoolError } from '../core/errors.ts';
import { readTar } from './archive-tar.ts';
import { emptySummary, type Summary } from './intake.ts';
import { type IngestOptions, ingest } from './main.ts';

const ARCHIVE = /^[0-9a-f]{8}\.tar\.zst$/;
const MEMBER = /^[0-9a-f]{8}\/[^/]{1,80}\.sharelog(?:\.(?:gz|zst))?$/;

/** Whether a path is named as `archive` names what it packs. */
export function isArchive(path: string): boolean {
  return ARCHIVE.test(basename(path));
}

/**
 * Takes in all lines of archives, one after the other.
 * @throws PoolError usage where one cannot be read or is none; and what ingest throws
 */
export async function ingestArchives(paths: readonly string[], options: IngestOptions): Promise<Summary> {
  const sum = emptySummary();
  for (const path of paths) {
    if (options.signal?.aborted === true) break;
    const beside = mkdtempSync(join(options.data.state, 'unpacked-'));
    try {
      await unpack(path, beside);
      const state = join(beside, 'state');
      mkdirSync(state);
      // Checkpoints are of files that are gone afterwards.
      const one = await ingest({ ...options, logDir: beside, paths: [], data: { ...options.data, state } });
      for (const key of Object.keys(sum) as (keyof Summary)[]) sum[key] += one[key];
    } finally {
      rmSync(beside, { recursive: true, force: true });
    }
  }
  return sum;
}

async function unpack(path: string, into: string): Promise<void> {
  const raw = createReadStream(path, { highWaterMark: 1 << 20 });
  const zstd = createZstdDecompress();
  raw.once('error', (error) => zstd.destroy(error));
  let fd = -1;
  try {
    await readTar(raw.pipe(zstd) as AsyncIterable<Buffer>, ({ name }) => {
      // Nothing is written outside, whoever made it.
      if (!MEMBER.test(name)) throw new Error(`${name} in it is no share log`);
      mkdirSync(join(into, dirname(name)), { recursive: true });
      fd = openSync(join(into, name), 'wx');
      return {
        take(bytes) {
          for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
        },
        end() {
          closeSync(fd);
          fd = -1;
        },
      };
    });
  } catch (cause) {
    throw new PoolError('usage', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  } finally {
    if (fd >= 0) closeSync(fd);
    raw.destroy();
  }
}
