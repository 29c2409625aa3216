/**
 * What the consumers remember, in SQLite under `<data-dir>/state/consumers.sqlite`: positions in the log, the one outstanding cut of each
 * partition, and the minutes whose roll-up is to be made anew. Losing the file costs time, not truth: everything is read again.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { Topic } from '../../schemas/events.ts';
import { PoolError } from '../core/errors.ts';
import type { Position } from '../core/log/event-log.ts';

/** A minute of an origin, seconds since 1970. */
export interface Minute {
  readonly origin: string;
  readonly minuteS: number;
}

/** What is being inserted: stored before it is, repeated unchanged after a crash. */
export interface Cut {
  readonly topic: Topic;
  readonly partition: string;
  readonly from: Position | null;
  readonly to: Position | null;
  /** Records between the two. */
  readonly records: number;
  /** Deduplication token; that of a table is this with its name. */
  readonly token: string;
  /** Minutes whose roll-up the cut touches. */
  readonly minutes: readonly Minute[];
}

/** A minute that is marked, with the number of its latest mark. */
export interface Mark extends Minute {
  readonly mark: number;
}

const TABLES = `
  CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition TEXT, position TEXT, PRIMARY KEY (topic, partition)) STRICT;
  CREATE TABLE IF NOT EXISTS cuts (topic TEXT, partition TEXT, cut TEXT NOT NULL, PRIMARY KEY (topic, partition)) STRICT;
  CREATE TABLE IF NOT EXISTS marks (mark INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, minute_s INTEGER NOT NULL,
    first INTEGER, UNIQUE (origin, minute_s)) STRICT;
  CREATE INDEX IF NOT EXISTS marks_by_minute ON marks (minute_s);
`;

/** A file of a version that did not know yet since when a minute waits. */
const MARKS_SINCE = 'ALTER TABLE marks ADD COLUMN first INTEGER';

function newGeneration(): string {
  return randomBytes(8).toString('hex');
}

/** What consumers remember, read beside them while they run; null where nothing is there. */
export function storedPositions(path: string): {
  readonly generation: string;
  readonly places: readonly { readonly topic: Topic; readonly partition: string; readonly position: Position | null }[];
} | null {
  if (!existsSync(path)) return null;
  const db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 });
  try {
    const about = db.prepare('SELECT value FROM about WHERE name = ?').get('generation');
    const rows = db.prepare('SELECT topic, partition, position FROM positions').all();
    return {
      generation: String(about?.value),
      places: rows.map((row) => ({
        topic: row.topic as Topic,
        partition: row.partition as string,
        position: row.position as Position | null,
      })),
    };
  } catch (cause) {
    throw new PoolError('data_dir', `cannot read the state of the consumers in ${path}: ${(cause as Error).message}`, {
      cause,
    });
  } finally {
    db.close();
  }
}

export class ConsumerState {
  readonly #db: DatabaseSync;
  readonly #path: string;
  #generation: string;

  /**
   * @param path - the SQLite file, or `:memory:`
   * @throws PoolError data_dir where it cannot be opened or is no database
   */
  constructor(path: string) {
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(path);
      // A power cut may take the last commits; what they covered is then read again.
      db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
      db.exec(TABLES);
      const columns = db.prepare('PRAGMA table_info(marks)').all();
      if (!columns.some(({ name }) => name === 'first')) db.exec(MARKS_SINCE);
      db.prepare('INSERT OR IGNORE INTO about (name, value) VALUES (?, ?)').run('generation', newGeneration());
      this.#generation = db.prepare('SELECT value FROM about WHERE name = ?').get('generation')!.value as string;
    } catch (cause) {
      db?.close();
      throw new PoolError(
        'data_dir',
        `cannot open the state of the consumers in ${path}: ${(cause as Error).message}; it may be removed, then all is read again`,
        { cause },
      );
    }
    this.#db = db;
    this.#path = path;
  }

  /** Random name of what is remembered: a fresh one makes fresh tokens, so that a replay is never taken for a repetition. */
  get generation(): string {
    return this.#generation;
  }

  /** True where no partition has been read yet. */
  isNew(): boolean {
    return this.#db.prepare('SELECT count(*) AS n FROM positions').get()!.n === 0;
  }

  /** Takes over what a replay has read, under its generation. */
  adopt(
    generation: string,
    places: readonly { readonly topic: Topic; readonly partition: string; readonly position: Position | null }[],
  ): void {
    this.forget();
    this.#transaction(() => {
      const insert = this.#db.prepare('INSERT OR REPLACE INTO positions (topic, partition, position) VALUES (?, ?, ?)');
      for (const { topic, partition, position } of places) insert.run(topic, partition, position);
      this.#db.prepare('UPDATE about SET value = ? WHERE name = ?').run(generation, 'generation');
    });
    this.#generation = generation;
  }

  /** Forgets what was read, under a new generation; the minutes that wait for their roll-up stay marked. */
  forget(): void {
    const generation = newGeneration();
    this.#transaction(() => {
      this.#db.exec('DELETE FROM positions; DELETE FROM cuts');
      this.#db.prepare('UPDATE about SET value = ? WHERE name = ?').run(generation, 'generation');
    });
    this.#generation = generation;
  }

  /** What was noted under a name, or null. */
  note(name: string): string | null {
    const row = this.#db.prepare('SELECT value FROM about WHERE name = ?').get(`note.${name}`);
    return (row?.value as string | undefined) ?? null;
  }

  setNote(name: string, value: string): void {
    this.#db.prepare('INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)').run(`note.${name}`, value);
  }

  /** Reading of a partition goes on elsewhere than we left it: what was stored for it means nothing any more. */
  moveTo(topic: Topic, partition: string, position: Position | null): void {
    this.#transaction(() => {
      this.#db
        .prepare('INSERT OR REPLACE INTO positions (topic, partition, position) VALUES (?, ?, ?)')
        .run(topic, partition, position);
      this.#db.prepare('DELETE FROM cuts WHERE topic = ? AND partition = ?').run(topic, partition);
    });
  }

  position(topic: Topic, partition: string): Position | null {
    const row = this.#db
      .prepare('SELECT position FROM positions WHERE topic = ? AND partition = ?')
      .get(topic, partition);
    return (row?.position as string | null | undefined) ?? null;
  }

  /** Partitions that have a cut which was stored and not finished. */
  outstanding(): { topic: Topic; partition: string }[] {
    return this.#db
      .prepare('SELECT topic, partition FROM cuts')
      .all()
      .map((row) => ({ topic: row.topic as Topic, partition: row.partition as string }));
  }

  /** The cut that was stored and not finished, or null. */
  cut(topic: Topic, partition: string): Cut | null {
    const row = this.#db.prepare('SELECT cut FROM cuts WHERE topic = ? AND partition = ?').get(topic, partition);
    return row === undefined ? null : (JSON.parse(row.cut as string) as Cut);
  }

  storeCut(cut: Cut): void {
    this.#transaction(() => {
      this.#db
        .prepare('INSERT OR REPLACE INTO cuts (topic, partition, cut) VALUES (?, ?, ?)')
        .run(cut.topic, cut.partition, JSON.stringify(cut));
    });
  }

  /** A cut is in ClickHouse: the position moves on, and its minutes wait for the roll-up, in one transaction. */
  finish(cut: Cut): void {
    this.#transaction(() => {
      this.#db
        .prepare('INSERT OR REPLACE INTO positions (topic, partition, position) VALUES (?, ?, ?)')
        .run(cut.topic, cut.partition, cut.to);
      this.#db.prepare('DELETE FROM cuts WHERE topic = ? AND partition = ?').run(cut.topic, cut.partition);
      this.#mark(cut.minutes);
    });
  }

  /** Minutes whose rows are in ClickHouse wait for their roll-up. */
  mark(minutes: readonly Minute[]): void {
    this.#transaction(() => this.#mark(minutes));
  }

  #mark(minutes: readonly Minute[]): void {
    // Replacing gives a new number: a roll-up that is under way for the old mark does not clear the new one.
    // Since when it waits is kept.
    const mark = this.#db.prepare(`INSERT OR REPLACE INTO marks (origin, minute_s, first)
      VALUES (?1, ?2, (SELECT coalesce(first, mark) FROM marks WHERE origin = ?1 AND minute_s = ?2))`);
    for (const { origin, minuteS } of minutes) mark.run(origin, minuteS);
  }

  /** Number of the latest mark ever made; 0 before the first. */
  lastMark(): number {
    const row = this.#db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'marks'").get();
    return (row?.seq as number | undefined) ?? 0;
  }

  /** The smallest mark whose minute was not made anew since; null: every minute was. */
  oldestMark(): number | null {
    return this.#db.prepare('SELECT min(coalesce(first, mark)) AS mark FROM marks').get()!.mark as number | null;
  }

  /** Marks, the newest minutes first: a back-fill of years must not keep the present minute waiting, which is marked again and again. */
  marks(limit: number): Mark[] {
    return this.#db
      .prepare('SELECT mark, origin, minute_s FROM marks ORDER BY minute_s DESC, mark LIMIT ?')
      .all(limit)
      .map((row) => ({ mark: row.mark as number, origin: row.origin as string, minuteS: row.minute_s as number }));
  }

  marked(): number {
    return this.#db.prepare('SELECT count(*) AS n FROM marks').get()!.n as number;
  }

  /**
   * Minutes were made anew; those marked again meanwhile stay marked.
   * @param through - the latest mark when making them began
   */
  clearMarks(marks: readonly Mark[], through = 0): void {
    const clear = this.#db.prepare('DELETE FROM marks WHERE mark = ?');
    const renewed = this.#db.prepare(
      'UPDATE marks SET first = ?1 + 1 WHERE origin = ?2 AND minute_s = ?3 AND coalesce(first, mark) <= ?1',
    );
    this.#transaction(() => {
      for (const { mark, origin, minuteS } of marks) {
        if (clear.run(mark).changes === 0) renewed.run(through, origin, minuteS);
      }
    });
  }

  close(): void {
    this.#db.close();
  }

  /** @throws PoolError disk where the disk does not take it: nothing of it is stored then */
  #transaction(work: () => void): void {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      try {
        work();
        this.#db.exec('COMMIT');
      } catch (error) {
        // After some faults of a disk SQLite has rolled back itself.
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
        throw error;
      }
    } catch (cause) {
      throw new PoolError('disk', `cannot store how far was read in ${this.#path}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
}
