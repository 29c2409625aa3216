/**
 * How far each share log has been read: offset in its unpacked bytes, with a digest of the head so that a file that was rewritten is noticed.
 *
 * One row for each folder, and all its files packed into one value beside it: a folder that is closed (main.ts) costs a second run
 * one look at its row and one at the folder, however many files it has.
 *
 *     file   u8 length of the name · name · u64 inode · f64 size · f64 mtime (ms) · f64 offset · f64 lines · 16 bytes head · f64 sum · u16 length · reason
 *
 * A value begins with a zero byte; one of the first form, which had no sums, with the length of a name, which is none.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PoolError } from '../core/errors.ts';

export interface FileCheckpoint {
  readonly inode: number;
  /** As on disk, packed or not. */
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  /** Unpacked bytes read, up to and with the last newline. */
  readonly offset: number;
  readonly lines: number;
  /** Of SHA-256 of the first `min(offset, HEAD_BYTES)` unpacked bytes, the first 32 hex digits. */
  readonly head: string;
  /** CRC-32 of the first `offset` unpacked bytes: all that was read. -1: not known, of checkpoints without sums, or where not all of it was looked at. */
  readonly sum: number;
  /** Why the file as it is (inode, size, time) is left alone; empty where it is not. Then the other fields are of what was read before. */
  readonly refused: string;
}

export const HEAD_BYTES = 4096;

export interface FolderCheckpoint {
  /** Of the folder, before it was listed; -1 where only some of its files were looked at. */
  readonly mtimeMs: number;
  /** Nothing is expected here any more: while `mtimeMs` stays, it is not listed again. */
  readonly closed: boolean;
  readonly files: number;
  /** Sum over its files. */
  readonly lines: number;
}

/** A folder as it is to be kept; made at once, so that a run over a million files does not hold their checkpoints as objects. */
export interface FolderState extends FolderCheckpoint {
  readonly path: string;
  readonly packed: Buffer;
}

/** @param files - by name without `.gz` or `.zst` */
export function folderState(
  path: string,
  { mtimeMs, closed }: Pick<FolderCheckpoint, 'mtimeMs' | 'closed'>,
  files: ReadonlyMap<string, FileCheckpoint>,
): FolderState {
  let lines = 0;
  for (const file of files.values()) lines += file.lines;
  return { path, mtimeMs, closed, files: files.size, lines, packed: packFiles(files) };
}

/** Up to where a journal has what was read: a run of it, and the number of shares that were appended in that run. */
export interface JournalEnd {
  readonly run: string;
  readonly shares: number;
}

export interface Checkpoints {
  folder(path: string): FolderCheckpoint | null;
  files(path: string): Map<string, FileCheckpoint>;
  /** Keeps all of them, or none. @param end - what they stand on; null: on nothing new */
  store(folders: readonly FolderState[], end: JournalEnd | null): void;
  /** What the last ones stand on. */
  end(): JournalEnd | null;
  /** The journal has lost some of what they stand on: folders of that run are read again. */
  forget(run: string): void;
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

interface FolderRow {
  readonly path: string;
  readonly mtime_ms: number;
  readonly closed: number;
  readonly files: number;
  readonly lines: number;
}

function checkpointsIn(database: DatabaseSync): Checkpoints {
  database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS log_folder (
      path TEXT PRIMARY KEY, mtime_ms REAL NOT NULL, closed INTEGER NOT NULL, files INTEGER NOT NULL, lines INTEGER NOT NULL,
      run TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS journal_end (one INTEGER PRIMARY KEY CHECK (one = 1), run TEXT NOT NULL, shares INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS log_folder_files (path TEXT PRIMARY KEY, packed BLOB NOT NULL)`);
  const folders = new Map<string, FolderCheckpoint>();
  for (const row of database.prepare('SELECT * FROM log_folder').all() as unknown as FolderRow[]) {
    folders.set(row.path, { mtimeMs: row.mtime_ms, closed: row.closed === 1, files: row.files, lines: row.lines });
  }
  const select = database.prepare('SELECT packed FROM log_folder_files WHERE path = ?');
  const replaceFolder = database.prepare('INSERT OR REPLACE INTO log_folder VALUES (?, ?, ?, ?, ?, ?)');
  const replaceEnd = database.prepare('INSERT OR REPLACE INTO journal_end VALUES (1, ?, ?)');
  const selectEnd = database.prepare('SELECT run, shares FROM journal_end');
  const replaceFiles = database.prepare('INSERT OR REPLACE INTO log_folder_files VALUES (?, ?)');
  const inTransaction = (work: () => void): void => {
    database.exec('BEGIN IMMEDIATE');
    try {
      work();
      database.exec('COMMIT');
    } catch (error) {
      database.exec('ROLLBACK');
      throw error;
    }
  };
  return {
    folder: (path) => folders.get(path) ?? null,
    files: (path) => {
      const row = select.get(path) as { packed: Uint8Array } | undefined;
      return row === undefined ? new Map() : unpackFiles(row.packed);
    },
    store: (states, end) => {
      inTransaction(() => {
        for (const { path, mtimeMs, closed, files, lines, packed } of states) {
          replaceFolder.run(path, mtimeMs, closed ? 1 : 0, files, lines, end?.run ?? '');
          replaceFiles.run(path, packed);
          folders.set(path, { mtimeMs, closed, files, lines });
        }
        if (end !== null) replaceEnd.run(end.run, end.shares);
      });
    },
    end: () => (selectEnd.get() as unknown as JournalEnd | undefined) ?? null,
    forget: (run) => {
      inTransaction(() => {
        const gone = database.prepare('DELETE FROM log_folder WHERE run = ? RETURNING path').all(run) as {
          path: string;
        }[];
        const remove = database.prepare('DELETE FROM log_folder_files WHERE path = ?');
        for (const { path } of gone) {
          remove.run(path);
          folders.delete(path);
        }
        database.exec('DELETE FROM journal_end');
      });
    },
    close: () => database.close(),
  };
}

/** Looks into the checkpoints of other origins: share logs do not say whose they are, and those taken in twice count twice. */
export class OtherOrigins {
  readonly #databases: { readonly origin: string; readonly database: DatabaseSync }[] = [];

  /** @param state - folder of all checkpoints */
  constructor(state: string, origin: string) {
    for (const name of readdirSync(state)) {
      const other = /^ingest-(.+)\.sqlite$/.exec(name)?.[1];
      if (other === undefined || other === origin) continue;
      let database: DatabaseSync | undefined;
      try {
        database = new DatabaseSync(join(state, name), { readOnly: true, timeout: BUSY_MS });
        database.prepare('SELECT packed FROM log_folder_files LIMIT 1').get();
        this.#databases.push({ origin: other, database });
      } catch {
        // Those of main logs have no such table; what is no database is told by its own origin's run.
        database?.close();
      }
    }
  }

  /**
   * @param names - of files in it; null: any
   * @returns the other origin under which lines of that folder were taken in; null where none was
   */
  of(path: string, names: readonly string[] | null): string | null {
    for (const { origin, database } of this.#databases) {
      const row = database.prepare('SELECT packed FROM log_folder_files WHERE path = ?').get(path) as
        | { packed: Uint8Array }
        | undefined;
      if (row === undefined) continue;
      for (const [name, { lines }] of unpackFiles(row.packed))
        if (lines > 0 && (names === null || names.includes(name))) return origin;
    }
    return null;
  }

  close(): void {
    for (const { database } of this.#databases) database.close();
  }
}

const FIXED_BYTES = 1 + 8 * 5 + 16 + 8 + 2;

function packFiles(files: ReadonlyMap<string, FileCheckpoint>): Buffer {
  let size = 1;
  for (const [name, { refused }] of files) size += FIXED_BYTES + Buffer.byteLength(name) + Buffer.byteLength(refused);
  const out = Buffer.alloc(size);
  let at = 1;
  for (const [name, file] of files) {
    at = out.writeUInt8(Buffer.byteLength(name), at);
    at += out.write(name, at);
    at = out.writeBigUInt64LE(BigInt(file.inode), at);
    at = out.writeDoubleLE(file.sizeBytes, at);
    at = out.writeDoubleLE(file.mtimeMs, at);
    at = out.writeDoubleLE(file.offset, at);
    at = out.writeDoubleLE(file.lines, at);
    out.write(file.head, at, 'hex');
    at = out.writeDoubleLE(file.sum, at + 16);
    at = out.writeUInt16LE(Buffer.byteLength(file.refused), at);
    at += out.write(file.refused, at);
  }
  return out;
}

function unpackFiles(packed: Uint8Array): Map<string, FileCheckpoint> {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const files = new Map<string, FileCheckpoint>();
  const summed = bytes[0] === 0;
  const reasonBehind = summed ? 66 : 58;
  for (let at = summed ? 1 : 0; at < bytes.length; ) {
    const nameEnd = at + 1 + bytes[at]!;
    const name = bytes.toString('utf8', at + 1, nameEnd);
    const reasonAt = nameEnd + reasonBehind;
    at = reasonAt + bytes.readUInt16LE(reasonAt - 2);
    files.set(name, {
      inode: Number(bytes.readBigUInt64LE(nameEnd)),
      sizeBytes: bytes.readDoubleLE(nameEnd + 8),
      mtimeMs: bytes.readDoubleLE(nameEnd + 16),
      offset: bytes.readDoubleLE(nameEnd + 24),
      lines: bytes.readDoubleLE(nameEnd + 32),
      head: bytes.toString('hex', nameEnd + 40, nameEnd + 56),
      sum: summed ? bytes.readDoubleLE(nameEnd + 56) : -1,
      refused: bytes.toString('utf8', reasonAt, at),
    });
  }
  return files;
}
