/**
 * Finds share logs: `<logdir>/<height as 8 hex digits>/<job id>.sharelog`, plain, `.gz` or `.zst`. A packed file is the same log as the
 * plain one it was made of: its name without the ending is its checkpoint's name.
 */
import { lstatSync, readdirSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { PoolError } from '../core/errors.ts';

/** A folder in which share logs are looked for. */
export interface ShareLogFolder {
  /** As it was given, for messages and for opening. */
  readonly path: string;
  /** 0 where the folder's name is no height. */
  readonly height: number;
  /** Files that were named on purpose, whatever their names; null: all share logs in it. */
  readonly only: readonly string[] | null;
}

export type Packing = 'none' | 'gzip' | 'zstd';

const SHARE_LOG = /\.sharelog(?:\.(?:gz|zst))?$/;
const HEIGHT_FOLDER = /^[0-9a-f]{8}$/;
const PACKED = /\.(?:gz|zst)$/;

/** @param name - of a file, without its path; also of a packed one */
export function isShareLog(name: string): boolean {
  return SHARE_LOG.test(name);
}

/** @param name - of a folder, without its path */
export function isHeightFolder(name: string): boolean {
  return HEIGHT_FOLDER.test(name);
}

/** How a file is packed, by its name. */
export function packingOf(name: string): Packing {
  return name.endsWith('.gz') ? 'gzip' : name.endsWith('.zst') ? 'zstd' : 'none';
}

/** Also one that leads nowhere. */
export function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** A log's name or path without the ending of its packing. */
export function logicalName(name: string): string {
  return name.replace(PACKED, '');
}

function folderOf(path: string, only: readonly string[] | null): ShareLogFolder {
  const name = basename(resolve(path));
  return { path, height: isHeightFolder(name) ? Number.parseInt(name, 16) : 0, only };
}

/**
 * The folders to look at for the paths given, heights rising. A named file counts whatever its name; a folder gives its own share logs and
 * those of its height folders.
 * @throws PoolError usage where a path does not exist or may not be read
 */
export function shareLogFolders(paths: readonly string[]): ShareLogFolder[] {
  const found: ShareLogFolder[] = [];
  const named = new Map<string, string[]>();
  for (const path of paths) {
    let stat: Stats;
    let names: string[] = [];
    try {
      stat = statSync(path);
      if (stat.isDirectory()) names = readdirSync(path);
    } catch (cause) {
      throw new PoolError(
        'usage',
        `${path}: ${(cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file or directory' : (cause as Error).message}`,
        { cause },
      );
    }
    if (!stat.isDirectory()) {
      const folder = dirname(path);
      const known = named.get(folder);
      if (known === undefined) named.set(folder, [basename(path)]);
      else known.push(basename(path));
      continue;
    }
    if (names.some(isShareLog) || isHeightFolder(basename(resolve(path)))) found.push(folderOf(path, null));
    const heights = names.filter(isHeightFolder).sort();
    for (const name of heights) found.push(folderOf(join(path, name), null));
  }
  for (const [folder, names] of named) found.push(folderOf(folder, names));
  return found;
}

/**
 * Names of the share logs of a folder, sorted: a plain one comes before its packs.
 * @throws Error of the file system
 */
export function shareLogsIn(folder: string): string[] {
  return readdirSync(folder).filter(isShareLog).sort();
}
