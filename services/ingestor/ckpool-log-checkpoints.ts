/**
 * How far CKPool's main logs and status files have been read: `<data-dir>/state/ingest-<origin>-log.sqlite`, written behind the journal.
 *
 *   main_log        one row a log, known by the digest of its first bytes: how far it was read, and what its last line left open
 *   main_log_file   one row a path: inode, size and time when it was read to its end, so that it is passed over while it stays so
 */
import { hash } from 'node:crypto';
import { readdirSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PoolError } from '../core/errors.ts';
import type { LogState } from './ckpool-log.ts';

/** How long another process that writes is waited for. */
const BUSY_MS = 10_000;

/** A log as far as it was read. */
export interface Known {
  readonly id: number;
  readonly headBytes: number;
  readonly head: string;
  readonly offset: number;
  readonly lines: number;
  readonly state: LogState;
}

/** How far each main log and status file has been read. */
export class MainLogCheckpoints {
  readonly #database: DatabaseSync;
  /** By path, of this process: files that were named as not to be read, as they were then. Who follows a log would say it each few seconds. */
  readonly #refused = new Map<string, string>();
  /** By path, of this process: inode of a file that has lost its end, and which log it is. */
  readonly #short = new Map<string, string>();

  /** @throws PoolError data_dir where the file cannot be opened or is no database */
  constructor(file: string) {
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(file, { timeout: BUSY_MS });
      database.exec(`PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS main_log (
          id INTEGER PRIMARY KEY, family TEXT NOT NULL, head_bytes INTEGER NOT NULL, head TEXT NOT NULL,
          read_offset INTEGER NOT NULL, lines INTEGER NOT NULL, state TEXT NOT NULL
        );
        CREATE TABLE IF NOT EXISTS main_log_file (
          path TEXT PRIMARY KEY, log INTEGER, inode INTEGER NOT NULL, size_bytes INTEGER NOT NULL, mtime_ms REAL NOT NULL
        ) WITHOUT ROWID`);
      this.#database = database;
    } catch (cause) {
      database?.close();
      const reason = (cause as Error).message;
      throw new PoolError(
        'data_dir',
        `cannot open the checkpoints of main logs in ${file}: ${reason}; it may be removed, then all is read again`,
        { cause },
      );
    }
  }

  /** What is known of a file that is as it was; null where it changed or is new. */
  unchanged(path: string, stat: Stats): { readonly log: number | null } | null {
    const row = this.#database
      .prepare('SELECT log FROM main_log_file WHERE path = ? AND inode = ? AND size_bytes = ? AND mtime_ms = ?')
      .get(path, stat.ino, stat.size, stat.mtimeMs) as { log: number | null } | undefined;
    return row ?? null;
  }

  sawFile(path: string, stat: Stats, log: number | null): void {
    this.#database
      .prepare('INSERT OR REPLACE INTO main_log_file VALUES (?, ?, ?, ?, ?)')
      .run(path, log, stat.ino, stat.size, stat.mtimeMs);
  }

  /** @param stat - null where there is none to be had */
  refuse(path: string, stat: Stats | null): void {
    this.#refused.set(path, asIs(stat));
  }

  /** Whether a file is still as it was when it was refused. */
  isRefused(path: string, stat: Stats | null): boolean {
    return this.#refused.get(path) === asIs(stat);
  }

  /** True at the first call for a file that is shorter than what was read: one that grows would else be told of at each look. */
  isNewlyShort(path: string, inode: number, { id }: Known): boolean {
    const is = `${inode} ${id}`;
    const isNew = this.#short.get(path) !== is;
    this.#short.set(path, is);
    return isNew;
  }

  /** The log that begins as these bytes do, the one whose beginning is known best. */
  find(family: string, head: Buffer): Known | null {
    const rows = this.#database
      .prepare(
        'SELECT * FROM main_log WHERE family = ? AND head_bytes <= ? AND head_bytes > 0 ORDER BY head_bytes DESC, read_offset DESC',
      )
      .all(family, head.length) as unknown as (Row & { head_bytes: number; head: string })[];
    const digests = new Map<number, string>();
    for (const row of rows) {
      let digest = digests.get(row.head_bytes);
      if (digest === undefined) {
        digest = digestOf(head, row.head_bytes);
        digests.set(row.head_bytes, digest);
      }
      if (digest === row.head) return knownOf(row);
    }
    return null;
  }

  get(id: number): Known | null {
    const row = this.#database.prepare('SELECT * FROM main_log WHERE id = ?').get(id) as unknown as Row | undefined;
    return row === undefined ? null : knownOf(row);
  }

  /** @returns the log's number */
  put(family: string, known: Omit<Known, 'id'> & { readonly id: number | null }): number {
    const { lastInsertRowid } = this.#database
      .prepare('INSERT OR REPLACE INTO main_log VALUES (?, ?, ?, ?, ?, ?, ?)')
      .run(known.id, family, known.headBytes, known.head, known.offset, known.lines, JSON.stringify(known.state));
    return Number(lastInsertRowid);
  }

  close(): void {
    this.#database.close();
  }
}

/**
 * The other origin that has a main log's lines; null where none has: its blocks and statistics would count once more.
 * @param state - folder of all checkpoints @param origin - whose log it is said to be @param family - as in `MainLogFile`
 */
export function mainLogTakenAs(state: string, origin: string, family: string): string | null {
  for (const name of readdirSync(state)) {
    const other = /^ingest-(.+)-log\.sqlite$/.exec(name)?.[1];
    if (other === undefined || other === origin) continue;
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(join(state, name), { readOnly: true, timeout: BUSY_MS });
      if (database.prepare('SELECT 1 FROM main_log WHERE family = ? LIMIT 1').get(family) !== undefined) return other;
    } catch {
      // What is no database is told by its own origin's run.
    } finally {
      database?.close();
    }
  }
  return null;
}

function asIs(stat: Stats | null): string {
  return stat === null ? '' : [stat.ino, stat.size, stat.mtimeMs, stat.ctimeMs].join(' ');
}

interface Row {
  readonly id: number;
  readonly head_bytes: number;
  readonly head: string;
  readonly read_offset: number;
  readonly lines: number;
  readonly state: string;
}

function knownOf(row: Row): Known {
  return {
    id: row.id,
    headBytes: row.head_bytes,
    head: row.head,
    offset: row.read_offset,
    lines: row.lines,
    state: JSON.parse(row.state) as LogState,
  };
}

/** Digest of the first bytes, by which a log is known. */
export function digestOf(head: Buffer, bytes: number): string {
  return hash('sha256', head.subarray(0, bytes), 'hex');
}
