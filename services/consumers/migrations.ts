/**
 * Brings ClickHouse to the schema of `schemas/clickhouse/NNNN_*.sql`: numbered, appended, never edited. What was applied stands in
 * `schema_version` with its digest; a file that is no longer what was applied is an error, because nobody could tell what the tables are then.
 *
 * Statements can be repeated (`IF NOT EXISTS`, `OR REPLACE`), so a file that was interrupted is run again from its start, and so is one whose table somebody dropped.
 */
import { hash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { ClickHouseClient } from '@clickhouse/client';
import { PoolError } from '../core/errors.ts';
import { ingestTime } from './insert.ts';

export interface Migration {
  readonly number: number;
  readonly name: string;
  /** SHA-256 of the text, hex. */
  readonly digest: string;
  /** One per call: a server refuses several. */
  readonly statements: readonly string[];
}

const DIR = new URL('../../schemas/clickhouse/', import.meta.url);

/** Splits a file where a semicolon is followed by an empty line or by the end. */
export function statementsOf(text: string): string[] {
  return text
    .split(/;[ \t]*\n(?=\s*\n|\s*$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement.replace(/^--.*$/gm, '').trim() !== '');
}

/**
 * The numbered files, in order.
 * @throws PoolError internal where a number is missing or twice
 */
export function readMigrations(dir: URL = DIR): Migration[] {
  const names = readdirSync(dir)
    .filter((name) => name.endsWith('.sql'))
    .sort();
  return names.map((name, i) => {
    const number = Number.parseInt(name.slice(0, 4), 10);
    if (!/^\d{4}_[a-z0-9_]+\.sql$/.test(name) || number !== i + 1) {
      throw new PoolError('internal', `schemas/clickhouse/${name}: expected ${String(i + 1).padStart(4, '0')}_….sql`);
    }
    const text = readFileSync(new URL(name, dir), 'utf8');
    return { number, name, digest: hash('sha256', text, 'hex'), statements: statementsOf(text) };
  });
}

const VERSION_TABLE = `CREATE TABLE IF NOT EXISTS schema_version
(
    number       UInt32                COMMENT 'Number of the file in schemas/clickhouse',
    name         String                COMMENT 'Its name',
    digest       String                COMMENT 'SHA-256 of its text, hex',
    ingest_time  DateTime64(6, 'UTC')  COMMENT 'When it was applied'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'One row is one file of schemas/clickhouse that was applied; ordered by number (read with FINAL)'`;

/** The tables and views that a file makes. */
function namesIn({ statements }: Migration): string[] {
  return statements.flatMap((statement) => /^CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)/m.exec(statement)?.[1] ?? []);
}

/**
 * Applies what is missing.
 *
 * @param onLost - called before tables or views that were there once are made again, with their names
 * @returns names of the files applied now
 * @throws PoolError schema_edited where a file differs from what was applied
 * @throws what the client throws where ClickHouse is absent or refuses
 */
export async function migrate(
  client: ClickHouseClient,
  migrations = readMigrations(),
  onLost: (names: readonly string[]) => unknown = () => {},
): Promise<string[]> {
  await client.command({ query: VERSION_TABLE });
  const answer = await client.query({
    query: 'SELECT number, name, digest FROM schema_version FINAL ORDER BY number',
    format: 'JSONEachRow',
  });
  const applied = new Map((await answer.json<{ number: number; digest: string }>()).map((row) => [row.number, row]));
  const tables = await client.query({
    query: 'SELECT name FROM system.tables WHERE database = currentDatabase()',
    format: 'JSONEachRow',
  });
  const present = new Set((await tables.json<{ name: string }>()).map(({ name }) => name));
  const done: string[] = [];
  // Later files may alter what a lost one made: from it on all are applied again.
  let again = false;
  for (const migration of migrations) {
    const { number, name, digest, statements } = migration;
    const before = applied.get(number);
    if (before !== undefined) {
      if (before.digest !== digest) {
        throw new PoolError(
          'schema_edited',
          `schemas/clickhouse/${name} is not the file that was applied to this ClickHouse`,
          {
            facts: { applied: before.digest, found: digest },
          },
        );
      }
      const lost = namesIn(migration).filter((made) => !present.has(made));
      if (lost.length > 0) {
        again = true;
        await onLost(lost);
      }
      if (!again) continue;
    }
    for (const query of statements) await client.command({ query });
    await client.insert({
      table: 'schema_version',
      values: [{ number, name, digest, ingest_time: ingestTime() }],
      format: 'JSONEachRow',
    });
    done.push(name);
  }
  return done;
}
