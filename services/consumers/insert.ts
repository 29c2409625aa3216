/** Rows into ClickHouse as JSONEachRow, with the settings in the statement itself, so that they are valid everywhere and leak nowhere. */
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Row } from '../../pipelines/row.ts';

/**
 * Inserts rows that all have the same columns.
 *
 * @param token - deduplication token, or null; spares work after a crash, decides nothing: tables replace by identity
 * @throws what the client throws; the rows may be in the table then or not
 */
export async function insertRows(
  client: ClickHouseClient,
  table: string,
  rows: readonly Row[],
  token: string | null = null,
): Promise<void> {
  const first = rows[0];
  if (first === undefined) return;
  // Named columns: one that the table lacks is an error, not a value lost.
  const columns = Object.keys(first);
  const settings = [
    'async_insert = 0',
    // A back-fill of years touches many months in one batch.
    'max_partitions_per_insert_block = 0',
    ...(token === null ? [] : [`insert_deduplication_token = '${token}'`]),
  ];
  const { stream } = await client.exec({
    query: `INSERT INTO ${table} (${columns.join(', ')}) SETTINGS ${settings.join(', ')} FORMAT JSONEachRow`,
    values: Readable.from([`${rows.map((row) => JSON.stringify(row)).join('\n')}\n`], { objectMode: false }),
  });
  await finished(stream.resume());
}

/** Now as DateTime64 reads it, for the columns `ingest_time`. */
export function ingestTime(): string {
  return new Date().toISOString().slice(0, 23).replace('T', ' ');
}

/** A text as a literal of ClickHouse's SQL. */
export function literal(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
