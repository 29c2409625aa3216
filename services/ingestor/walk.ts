/**
 * Finds share logs: `<logdir>/<height as 8 hex digits>/<job id>.sharelog`, plain, `.gz` or `.zst`. A packed file is the same log as the
 * plain one it was made of: its name without the ending is its checkpoint's name.
 */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { PoolError } from '../core/errors.ts';

export interface ShareLogFile {
  readonly path: string;
  /** Absolute path without `.gz` or `.zst`. */
  readonly logicalPath: string;
  readonly packing: 'none' | 'gzip' | 'zstd';
  /** 0 where the folder's name is no height. */
  readonly height: number;
  /** Why nothing can be read there: a folder that may not be listed. */
  readonly unreadable?: string;
}

const SHARE_LOG = /\.sharelog(?:\.(gz|zst))?$/;
const HEIGHT_FOLDER = /^[0-9a-f]{8}$/;

function fileOf(path: string): ShareLogFile {
  const packing = path.endsWith('.gz') ? 'gzip' : path.endsWith('.zst') ? 'zstd' : 'none';
  const folder = basename(dirname(resolve(path)));
  return {
    path,
    logicalPath: resolve(path).replace(/\.(?:gz|zst)$/, ''),
    packing,
    height: HEIGHT_FOLDER.test(folder) ? Number.parseInt(folder, 16) : 0,
  };
}

/**
 * The share logs below the paths given, heights rising. A named file counts whatever its name; a folder gives its own share logs and
 * those of its height folders.
 * @throws PoolError usage where a path does not exist or may not be read
 */
export function* shareLogs(paths: readonly string[]): Generator<ShareLogFile> {
  for (const path of paths) {
    let folder: boolean;
    try {
      folder = statSync(path).isDirectory();
    } catch (cause) {
      throw new PoolError(
        'usage',
        `${path}: ${(cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file or directory' : (cause as Error).message}`,
        { cause },
      );
    }
    if (!folder) {
      yield fileOf(path);
      continue;
    }
    yield* logsIn(path);
    for (const name of readdirSync(path).sort()) {
      if (HEIGHT_FOLDER.test(name)) yield* logsIn(join(path, name));
    }
  }
}

function* logsIn(folder: string): Generator<ShareLogFile> {
  let entries: string[];
  try {
    entries = readdirSync(folder);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // A file with the name of a height folder, or one that was removed since.
    if (code === 'ENOTDIR' || code === 'ENOENT') return;
    yield { ...fileOf(folder), unreadable: `cannot be listed: ${message}` };
    return;
  }
  const names = entries.filter((name) => SHARE_LOG.test(name)).sort();
  // A pack beside its plain file is on its way: the plain one is read.
  const plain = new Set(names.filter((name) => name.endsWith('.sharelog')));
  for (const name of names) {
    if (!plain.has(name) && plain.has(name.replace(/\.(?:gz|zst)$/, ''))) continue;
    yield fileOf(join(folder, name));
  }
}
