/**
 * `ingest --follow`: keeps up with a log directory that is being written. chokidar watches the newest height folders and the arrival of new ones, not
 * the years before; whatever a watch misses (network file systems, a late share in an older folder) is found by looking again now and then.
 */
import { statSync } from 'node:fs';
import { basename, dirname, resolve, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { watch } from 'chokidar';
import { type IngestOptions, openIngest, type Summary } from './main.ts';
import { isHeightFolder, type ShareLogFolder, shareLogFolders } from './walk.ts';

/** Folders that are watched: late shares go to the files of their own jobs. */
const WATCHED_HEIGHTS = 3;
/** After a first change others of the same moment are waited for. */
const GATHER_MS = 200;
/** How often the watched folders are looked at in any case; and all. */
const LOOK_MS = 2_000;
const LOOK_ALL_MS = 60_000;

export interface FollowOptions extends IngestOptions {
  readonly signal: AbortSignal;
  /** Told what each pass did that found something. */
  onPass(summary: Summary): void;
}

/**
 * Takes in what is there, and then what comes, until the signal says so.
 * @throws PoolError held where another ingest works on the same directory; disk where the journal cannot be written
 */
export async function followShareLogs(options: FollowOptions): Promise<void> {
  const { logDir, signal } = options;
  const root = resolve(logDir);
  const work = await openIngest(options);
  /** Absolute paths of folders in which something happened. */
  const touched = new Set<string>();
  let wake: () => void = () => {};
  let lowest = 0;

  let listedMs = Number.NaN;
  let folders: readonly ShareLogFolder[] = [];
  /** The height folders; years of them are listed again when one has come or gone. */
  const list = (): void => {
    const mtimeMs = statSync(logDir, { throwIfNoEntry: false })?.mtimeMs;
    if (mtimeMs !== undefined && mtimeMs === listedMs) return;
    folders = shareLogFolders([logDir]);
    listedMs = mtimeMs ?? Number.NaN;
  };

  /** Looks at everything, or at what was touched and what is watched. */
  const pass = async (all: boolean): Promise<void> => {
    if (all) listedMs = Number.NaN;
    list();
    const newest = folders.filter(({ height }) => height > 0).slice(-WATCHED_HEIGHTS);
    lowest = newest[0]?.height ?? 0;
    const wanted = all
      ? folders
      : folders.filter((folder) => newest.includes(folder) || touched.has(resolve(folder.path)));
    touched.clear();
    await work.pass(wanted);
    const summary = work.takeSummary();
    if (summary.lines > 0 || summary.bad > 0) options.onPass(summary);
    for (const height of watched) {
      if (height >= lowest) continue;
      watched.delete(height);
      watcher.unwatch(resolve(root, height.toString(16).padStart(8, '0')));
    }
  };

  /** Height folders that chokidar may be watching. */
  const watched = new Set<number>();
  list();
  lowest = folders.filter(({ height }) => height > 0).at(-WATCHED_HEIGHTS)?.height ?? 0;
  const watcher = watch(root, {
    depth: 1,
    ignoreInitial: true,
    ignored: (path) => {
      const full = resolve(path);
      if (full === root) return false;
      const [folder, ...rest] = full.slice(root.length + 1).split(sep);
      if (!isHeightFolder(folder!)) return true;
      const height = Number.parseInt(folder!, 16);
      if (height < lowest) return true;
      if (rest.length === 0) watched.add(height);
      return false;
    },
  });
  const happened = (path: string): void => {
    const folder = isHeightFolder(basename(path)) ? path : dirname(path);
    touched.add(resolve(folder));
    wake();
  };
  for (const event of ['add', 'change', 'unlink', 'addDir'] as const) watcher.on(event, happened);
  // One that came within the same tick of the file system's clock as the last listing.
  watcher.on('addDir', () => {
    listedMs = Number.NaN;
  });
  // A watch that fails (no more inotify instances) is no loss: the folders are looked at all the same.
  watcher.on('error', () => {});

  try {
    let lookedMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      const all = performance.now() - lookedMs > LOOK_ALL_MS;
      if (all) lookedMs = performance.now();
      await pass(all);
      if (touched.size === 0) {
        await new Promise<void>((done) => {
          const timer = setTimeout(done, LOOK_MS);
          wake = () => {
            clearTimeout(timer);
            done();
          };
          signal.addEventListener('abort', wake, { once: true });
        });
        signal.removeEventListener('abort', wake);
      }
      await delay(GATHER_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    await watcher.close();
    work.close();
  }
}
