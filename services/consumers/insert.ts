/** Rows into ClickHouse as JSONEachRow or as a file, with the settings in the statement itself, so that they are valid everywhere and leak nowhere. */
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Row } from '../../pipelines/row.ts';

const PIECE_BYTES = 1024 * 1024;

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

/** Inserts a file. @param query - the statement up to its data @throws what the client throws; the rows may be in the table then or not */
export async function insertFile(client: ClickHouseClient, query: string, file: Buffer): Promise<void> {
  const { stream } = await client.exec({ query, values: Readable.from(piecesOf(file), { objectMode: false }) });
  await finished(stream.resume());
}

/** Pieces that a socket takes at once, so that other work comes in between. */
function* piecesOf(file: Buffer): Generator<Buffer> {
  for (let at = 0; at < file.length; at += PIECE_BYTES) yield file.subarray(at, at + PIECE_BYTES);
}

/** Now as DateTime64 reads it, for the columns `ingest_time`. */
export function ingestTime(): string {
  return new Date().toISOString().slice(0, 23).replace('T', ' ');
}

/** A text as a literal of ClickHouse's SQL. */
export function literal(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
