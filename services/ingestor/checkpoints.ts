/**
 * How far each share log has been read: offset in its unpacked bytes, with a digest of the head so that a file that was rewritten is noticed.
 * A file whose size, inode and time are as they were is not opened again.
 */
import { DatabaseSync } from 'node:sqlite';
import { PoolError } from '../core/errors.ts';

export interface Checkpoint {
  readonly inode: number;
  /** As on disk, packed or not. */
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  /** Unpacked bytes read, up to and with the last newline. */
  readonly offset: number;
  readonly lines: number;
  /** SHA-256 of the first `min(offset, HEAD_BYTES)` unpacked bytes, hex. */
  readonly head: string;
}

export const HEAD_BYTES = 4096;

export interface Checkpoints {
  get(path: string): Checkpoint | null;
  put(path: string, checkpoint: Checkpoint): void;
  close(): void;
}

/** How long another ingest of the same origin may hold the file, milliseconds; it does for a write. */
const BUSY_MS = 10_000;

/** @throws PoolError data_dir where the file cannot be opened or is no database */
export function openCheckpoints(file: string): Checkpoints {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: BUSY_MS });
    return checkpointsIn(database);
  } catch (cause) {
    database?.close();
    const reason = (cause as Error).message;
    throw new PoolError(
      'data_dir',
      `cannot open the checkpoints of ingest in ${file}: ${reason}; it may be removed, then all is read again`,
      { cause },
    );
  }
}

function checkpointsIn(database: DatabaseSync): Checkpoints {
  database.exec(`PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS share_log (
      path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size_bytes INTEGER NOT NULL, mtime_ms REAL NOT NULL,
      read_offset INTEGER NOT NULL, lines INTEGER NOT NULL, head TEXT NOT NULL
    ) WITHOUT ROWID`);
  const select = database.prepare(
    'SELECT inode, size_bytes AS sizeBytes, mtime_ms AS mtimeMs, read_offset AS "offset", lines, head FROM share_log WHERE path = ?',
  );
  const replace = database.prepare('INSERT OR REPLACE INTO share_log VALUES (?, ?, ?, ?, ?, ?, ?)');
  return {
    get: (path) => (select.get(path) as unknown as Checkpoint | undefined) ?? null,
    put: (path, at) => {
      replace.run(path, at.inode, at.sizeBytes, at.mtimeMs, at.offset, at.lines, at.head);
    },
    close: () => database.close(),
  };
}
