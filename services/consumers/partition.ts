/**
 * One partition of one topic into ClickHouse: read, rows, write, checkpoint.
 *
 *   read a batch ─► rows, poison ─► store the cut ─► insert ─► finish (position, cut gone, minutes marked)
 *
 * A crash anywhere between the two writes to SQLite leaves the cut, and it is repeated unchanged. Whatever is not poison (an unknown
 * schema, a missing column, an absent ClickHouse) throws out of `step`, and the same batch is tried again: nothing is skipped.
 */
import { hash } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Place, Row, RowPipeline } from '../../pipelines/row.ts';
import { minuteS } from '../../pipelines/shares/shares.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import type { Damage, EventLog, Position, StoredRecord } from '../core/log/event-log.ts';
import { ingestTime, insertRows, literal } from './insert.ts';
import type { ConsumerState, Cut, Minute } from './state.ts';

/** Batches end at whichever comes first. */
const BATCH_RECORDS = 10_000;
const BATCH_MS = 250;
const IDLE_WAIT_MS = 1_000;

export interface Counters {
  records: number;
  rows: number;
  deadLetters: number;
}

export interface PartitionParts {
  readonly log: EventLog;
  readonly client: ClickHouseClient;
  readonly state: ConsumerState;
  readonly counters: Counters;
  /** One for each partition that has looked for copies and is not at the end of its cut: others put the minutes there that they finish. */
  readonly overlaps: Set<Map<string, Minute>>;
  readonly signal: AbortSignal;
}

interface Batch {
  readonly records: readonly StoredRecord[];
  readonly damage: readonly Damage[];
  readonly next: Position | null;
}

/** A record that is not taken in, with the reason. */
function deadLetterRow(record: StoredRecord | Damage, reason: string): Row {
  const place = 'body' in record ? record : { instance: '', run: '', sequence: 0, fingerprint: '' };
  return {
    topic: record.topic,
    partition: record.partition,
    position: record.position,
    instance: place.instance,
    run: place.run,
    sequence: place.sequence,
    fingerprint: place.fingerprint,
    reason,
    body_hex: ('body' in record ? record.body : record.bytes).toString('hex'),
    ingest_time: ingestTime(),
  };
}

/** Decodes a record. @returns the event, or why its own schema cannot decode it @throws PoolError schema_unknown */
export async function decodeRecord<T extends Topic>(
  log: EventLog,
  topic: T,
  record: StoredRecord,
): Promise<{ event: Events[T] } | { poison: string }> {
  const decode = await log.decoder(topic, record.fingerprint);
  try {
    return { event: decode(record.body) };
  } catch (error) {
    return { poison: `not decodable by its schema: ${(error as Error).message}` };
  }
}

export class PartitionConsumer<T extends Topic> {
  readonly #parts: PartitionParts;
  readonly #pipeline: RowPipeline<T>;
  readonly #partition: string;
  /** Called with events that are in ClickHouse now, in order. */
  readonly #taken: (events: readonly Events[T][]) => void;
  #position: Position | null;
  #records = 0;
  #pending: Cut | null;
  /** Minutes that others finished since this partition last looked for copies; kept over failures. */
  readonly #overlapping = new Map<string, Minute>();

  constructor(
    parts: PartitionParts,
    pipeline: RowPipeline<T>,
    partition: string,
    taken: (events: readonly Events[T][]) => void = () => {},
  ) {
    this.#parts = parts;
    this.#pipeline = pipeline;
    this.#partition = partition;
    this.#taken = taken;
    this.#position = parts.state.position(pipeline.topic, partition);
    this.#pending = parts.state.cut(pipeline.topic, partition);
  }

  get position(): Position | null {
    return this.#position;
  }

  /** Records taken in since the start. */
  get records(): number {
    return this.#records;
  }

  /** Takes one batch in; returns after a while also without one. @throws anything that is to be tried again */
  async step(): Promise<void> {
    const { topic } = this.#pipeline;
    const batch = await this.#read();
    if (batch === null) return;
    const rows: Row[] = [];
    const letters: Row[] = batch.damage.map((damage) => deadLetterRow(damage, damage.reason));
    const events: Events[T][] = [];
    const minutes = new Map<string, Minute>();
    const buckets = new Map<string, Row>();
    for (const record of batch.records) {
      const decoded = await decodeRecord(this.#parts.log, topic, record);
      const poison = 'poison' in decoded ? decoded.poison : this.#pipeline.wrong(decoded.event);
      if (poison !== null || 'poison' in decoded) {
        letters.push(deadLetterRow(record, poison ?? ''));
        continue;
      }
      const place: Place = record;
      const row = this.#pipeline.row(decoded.event, place);
      rows.push(row);
      events.push(decoded.event);
      if (topic === 'share') {
        const share = decoded.event as Events['share'];
        const minute = { origin: share.origin, minuteS: minuteS(share) };
        minutes.set(`${minute.origin}/${minute.minuteS}`, minute);
        buckets.set(`${minute.origin}/${minute.minuteS}/${row.bucket}`, {
          origin: minute.origin,
          minute: minute.minuteS,
          bucket: row.bucket,
        });
      }
    }
    for (const minute of this.#pending?.minutes ?? []) minutes.set(`${minute.origin}/${minute.minuteS}`, minute);
    // A copy that another partition inserts from here on is not found by the look below: its minute is taken over at the end.
    this.#parts.overlaps.add(this.#overlapping);
    await this.#insert(batch, rows, letters, minutes, [...buckets.values()]);
    if (events.length > 0) this.#taken(events);
  }

  async #insert(
    batch: Batch,
    rows: readonly Row[],
    letters: readonly Row[],
    minutes: Map<string, Minute>,
    buckets: readonly Row[],
  ): Promise<void> {
    const { state, client, counters, overlaps } = this.#parts;
    const { topic, table } = this.#pipeline;
    if (topic === 'share') {
      for (const minute of await minutesOfCopies(client, rows)) {
        minutes.set(`${minute.origin}/${minute.minuteS}`, minute);
      }
    }
    const cut: Cut = {
      topic,
      partition: this.#partition,
      from: this.#position,
      to: batch.next,
      records: batch.records.length,
      token: hash(
        'sha256',
        JSON.stringify([state.generation, topic, this.#partition, this.#position, batch.next, batch.records.length]),
        'hex',
      ).slice(0, 32),
      minutes: [...minutes.values()],
    };
    this.#pending = cut;
    state.storeCut(cut);
    await insertRows(client, 'share_minutes', buckets, `${cut.token}-share_minutes`);
    await insertRows(client, table, rows, `${cut.token}-${table}`);
    await insertRows(client, 'dead_letters', letters, `${cut.token}-dead_letters`);
    state.finish({ ...cut, minutes: [...new Map([...minutes, ...this.#overlapping]).values()] });
    overlaps.delete(this.#overlapping);
    this.#overlapping.clear();
    for (const other of overlaps) for (const [key, minute] of minutes) other.set(key, minute);
    this.#pending = null;
    this.#position = cut.to;
    this.#records += batch.records.length;
    counters.records += batch.records.length;
    counters.rows += rows.length;
    counters.deadLetters += letters.length;
  }

  /** The outstanding cut's records again, or a new batch; null where there is nothing. */
  async #read(): Promise<Batch | null> {
    const { log, signal } = this.#parts;
    const cut = this.#pending;
    const most = cut === null ? BATCH_RECORDS : Math.max(cut.records, 1);
    const records: StoredRecord[] = [];
    const damage: Damage[] = [];
    let next = this.#position;
    let deadline = Number.POSITIVE_INFINITY;
    for (;;) {
      const leftMs = Math.max(0, deadline - performance.now());
      const batch = await log.read(this.#pipeline.topic, this.#partition, next, {
        maxRecords: most - records.length,
        waitMs: Math.ceil(Math.min(IDLE_WAIT_MS, leftMs)),
        signal,
      });
      if (batch.records.length === 0 && batch.damage.length === 0) {
        // The journal may have moved past the end of a run; there is nothing to insert, and the position can wait.
        if (records.length === 0 && damage.length === 0) return null;
        break;
      }
      records.push(...batch.records);
      damage.push(...batch.damage);
      next = batch.next;
      if (records.length >= most || signal.aborted) break;
      // A stored cut is filled up to its number; a new batch is closed by time.
      if (cut === null && deadline === Number.POSITIVE_INFINITY) deadline = performance.now() + BATCH_MS;
      if (performance.now() >= deadline) break;
    }
    return { records, damage, next };
  }
}

/** What the lists of one query may hold, below ClickHouse's default limit of 256 KiB for a statement (`max_query_size`). */
const LIST_BYTES = 240 * 1024;

/** Rows cut so that the distinct origins, buckets and identities of each part fit into a statement. */
function partsOf(rows: readonly Row[]): Row[][] {
  const parts: Row[][] = [];
  const listed = new Set<string>();
  let bytes = 0;
  const listedBytes = (values: readonly string[]): number =>
    values.reduce((sum, value) => (listed.has(value) ? sum : sum + Buffer.byteLength(value) + 1), 0);
  for (const row of rows) {
    const values = [row.origin, row.bucket, row.identity].map((value) => literal(String(value)));
    let size = listedBytes(values);
    if (parts.length === 0 || bytes + size > LIST_BYTES) {
      parts.push([]);
      listed.clear();
      bytes = 0;
      size = listedBytes(values);
    }
    parts.at(-1)!.push(row);
    bytes += size;
    for (const value of values) listed.add(value);
  }
  return parts;
}

/**
 * The minutes in which copies of these shares stand already. A copy that wins over them may have another receipt instant, and then the
 * loser's minute changes too. Read before the insert, because a merge may remove the loser at any time after it.
 */
async function minutesOfCopies(client: ClickHouseClient, rows: readonly Row[]): Promise<Minute[]> {
  const found: Minute[] = [];
  const submitted = rows.filter((row) => row.kind === 'submitted');
  const list = (values: readonly unknown[]): string =>
    [...new Set(values)].map((value) => literal(String(value))).join(',');
  for (const part of partsOf(submitted)) {
    // Three lists are a third of the text of tuples; a minute too many, of another origin's share, is computed in vain and rightly.
    const answer = await client.query({
      query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(toStartOfMinute(time)) AS minute FROM shares_raw
        WHERE origin IN (${list(part.map((row) => row.origin))}) AND bucket IN (${list(part.map((row) => row.bucket))})
        AND identity IN (${list(part.map((row) => row.identity))})`,
      format: 'JSONEachRow',
    });
    for (const row of await answer.json<{ origin: string; minute: number }>()) {
      found.push({ origin: row.origin, minuteS: row.minute });
    }
  }
  return found;
}
