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
  await insertPieces(client, query, piecesOf(file));
}

async function insertPieces(
  client: ClickHouseClient,
  query: string,
  pieces: Iterable<Buffer> | AsyncIterable<Buffer>,
  signal?: AbortSignal,
): Promise<void> {
  const { stream } = await client.exec({
    query,
    values: Readable.from(pieces, { objectMode: false }),
    ...(signal === undefined ? {} : { abort_signal: signal }),
  });
  await finished(stream.resume());
}

/** Pieces that a socket takes at once, so that other work comes in between. */
function* piecesOf(file: Buffer): Generator<Buffer> {
  for (let at = 0; at < file.length; at += PIECE_BYTES) yield file.subarray(at, at + PIECE_BYTES);
}

/** Without its end no insert is made, by the embedded engine nor by a server: the body is not whole. */
const HELD_BYTES = 16;
/** Of a client's connections (ten by default) so many may wait for their end: the others are for those that go before them. */
const MOST_HELD = 3;
const heldBy = new WeakMap<ClickHouseClient, number>();

/** An insert whose file goes to ClickHouse before the insert may be made; its end is held back until `insert` is called. */
export class HeldInsert {
  readonly #client: ClickHouseClient;
  readonly #query: string;
  readonly #file: Buffer;
  readonly #end = Promise.withResolvers<void>();
  readonly #gone = new AbortController();
  /** What became of it; null where it could not wait any longer, or never went ahead. */
  #sent: Promise<void> | null = null;

  /** @param query - the statement up to its data */
  constructor(client: ClickHouseClient, query: string, file: Buffer) {
    this.#client = client;
    this.#query = query;
    this.#file = file;
  }

  /** Sends all but the end, where the client has connections to spare. */
  ahead(): void {
    const held = heldBy.get(this.#client) ?? 0;
    if (this.#sent !== null || held >= MOST_HELD) return;
    heldBy.set(this.#client, held + 1);
    const sent = insertPieces(this.#client, this.#query, this.#pieces(), this.#gone.signal).finally(() => {
      heldBy.set(this.#client, heldBy.get(this.#client)! - 1);
    });
    this.#sent = sent;
    this.#end.promise.catch(() => {});
    // Before its end is asked for a failure means only that it goes again.
    sent.catch(() => {
      if (this.#sent === sent) this.#sent = null;
    });
  }

  async *#pieces(): AsyncGenerator<Buffer> {
    const body = this.#file.length - HELD_BYTES;
    yield* piecesOf(this.#file.subarray(0, body));
    await this.#end.promise;
    yield this.#file.subarray(body);
  }

  /** Makes the insert. To be called again where it failed. @throws what the client throws; the rows may be in the table then or not */
  async insert(): Promise<void> {
    const sent = this.#sent;
    this.#sent = null;
    if (sent === null) return insertFile(this.#client, this.#query, this.#file);
    this.#end.resolve();
    await sent;
  }

  /** Nothing of it is to be inserted, unless its insert has begun. */
  abandon(): void {
    if (this.#sent === null) return;
    this.#gone.abort();
    this.#end.reject(new Error('abandoned'));
  }
}

/** Now as DateTime64 reads it, for the columns `ingest_time`. */
export function ingestTime(): string {
  return new Date().toISOString().slice(0, 23).replace('T', ' ');
}

/** A text as a literal of ClickHouse's SQL. */
export function literal(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
