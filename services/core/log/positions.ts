/**
 * Where a reader of the log stands, by topic and partition, in SQLite: stored after what was read has been dealt with.
 * One process holds the file at a time.
 */
import { DatabaseSync } from 'node:sqlite';
import type { Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import { acquireLock } from '../lock.ts';
import type { Position } from './event-log.ts';

export interface Positions {
  /** null: nothing was dealt with yet. */
  load(topic: Topic, partition: string): Position | null;
  save(topic: Topic, partition: string, position: Position | null): void;
  close(): void;
}

export interface PositionsOptions {
  /** Whose positions these are, for the message where another process holds them: `the positions of the relay`. */
  readonly what: string;
  /** How long to wait for a predecessor that is just dying, milliseconds. Default 5000. */
  readonly waitMs?: number;
}

/**
 * Opens the file, or makes it.
 * @throws PoolError held where another process has it open; data_dir where it cannot be made
 */
export function openPositions(path: string, { what, waitMs = 5000 }: PositionsOptions): Positions {
  const lock = acquireLock(`${path}.lock`, { waitMs, what });
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path);
    // A power cut may take the last positions and never the file: what is read again counts once.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
    database.exec(
      'CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition TEXT, position TEXT, PRIMARY KEY (topic, partition)) WITHOUT ROWID',
    );
  } catch (cause) {
    lock.release();
    throw new PoolError('data_dir', `cannot open ${what} in ${path}: ${(cause as Error).message}`, { cause });
  }
  const select = database.prepare('SELECT position FROM positions WHERE topic = ? AND partition = ?');
  const upsert = database.prepare(
    'INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position',
  );
  return {
    load(topic, partition) {
      const row = select.get(topic, partition) as { position: string | null } | undefined;
      return row?.position ?? null;
    },
    save(topic, partition, position) {
      try {
        upsert.run(topic, partition, position);
      } catch (cause) {
        throw new PoolError('disk', `cannot store a position in ${path}: ${(cause as Error).message}`, { cause });
      }
    },
    close() {
      database.close();
      lock.release();
    },
  };
}
