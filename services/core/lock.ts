/**
 * An exclusive lock that dies with its process: who opens a data directory or an instance of the journal holds one.
 *
 * It is SQLite's exclusive file lock (`BEGIN EXCLUSIVE` without a write; POSIX advisory locks underneath), because the kernel
 * drops it at any kind of death, `kill -9` included, and because Node itself has no file locks. The holder's pid stands in a file of
 * its own beside it, for the message only: an exclusively locked database cannot be read.
 *
 * Two rules follow from POSIX locks: the lock file lies on a local disk, and nothing in a process that holds one may open that file in another
 * way (closing any descriptor of it would drop the lock).
 */
import { accessSync, constants, existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PoolError } from './errors.ts';

export interface Lock {
  readonly path: string;
  /** Lets go; a second call does nothing. */
  release(): void;
}

export interface LockOptions {
  /** How long to wait for a holder that is just dying, milliseconds. The calling thread stands still meanwhile. */
  readonly waitMs: number;
  /** What is held, for the message: `the data directory /var/lib/lodestream`. */
  readonly what: string;
}

/** What a disk says that took files before and takes none now: it may take them again, unlike a folder that is not ours. */
const DISK_FAULTS: ReadonlySet<unknown> = new Set(['EROFS', 'EIO']);
/** SQLite's primary result codes (sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;

/**
 * Locks of this process by real path: SQLite would wait for ourselves in vain. It also keeps the database in reach: one that is
 * garbage-collected closes, and the lock is gone while its holder goes on.
 */
const ours = new Map<string, DatabaseSync>();

/**
 * Takes the lock, or waits for it.
 *
 * @param path - the lock file; its directory exists; `<path>.pid` is written beside it
 * @throws PoolError held, naming the holder's pid, where another process (or this one) still holds it after `waitMs`
 * @throws PoolError data_dir where the file cannot be made; disk where it is there and its file system has become read-only
 */
export function acquireLock(path: string, { waitMs, what }: LockOptions): Lock {
  let real: string;
  let database: DatabaseSync | undefined;
  try {
    real = join(realpathSync(dirname(path)), basename(path));
    if (ours.has(real)) throw new PoolError('held', `${what} is already open in this process`, { facts: { path } });
    // SQLite opens what it may not write read-only, and then takes a lock that excludes nobody.
    accessSync(dirname(path), constants.W_OK);
    if (existsSync(path)) accessSync(path, constants.W_OK);
    database = new DatabaseSync(path, { timeout: waitMs });
    // An empty database gets its first page in this transaction: on disk its journal would need room, and a full disk would lock us out.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (error instanceof PoolError) throw error;
    if (((error as { errcode?: number }).errcode ?? 0) % 256 === SQLITE_BUSY) {
      const pid = holderOf(path);
      const holder = pid === null ? 'another process' : `process ${pid}`;
      throw new PoolError('held', `${what} is held by ${holder}`, { cause: error, facts: { path, pid } });
    }
    const became = DISK_FAULTS.has((error as NodeJS.ErrnoException).code) && existsSync(path);
    throw new PoolError(became ? 'disk' : 'data_dir', `cannot lock ${what}: ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  ours.set(real, database);
  try {
    writeFileSync(`${path}.pid`, `${process.pid}\n`);
  } catch {
    // A full disk must not keep a program from its own data; the message of the next one then lacks the pid.
  }
  let held = true;
  return {
    path,
    release() {
      if (!held) return;
      held = false;
      ours.delete(real);
      database.close();
    },
  };
}

/** The pid that last took a lock, or null where none is recorded. It says nothing about whether it is held now. */
function holderOf(path: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(`${path}.pid`, 'utf8'), 10);
    return Number.isSafeInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}
