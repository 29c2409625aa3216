/**
 * One partition of one topic into ClickHouse: read, rows, write, checkpoint.
 *
 *   read a batch ─► rows or a file, poison ─► store the cut ─► insert ─► finish (position, cut gone, minutes marked)
 *                                                               └─ meanwhile the next batch of shares is read, where more is waiting,
 *                                                                  and its file goes to ClickHouse without its end, which makes the insert
 *
 * A crash anywhere between the two writes to SQLite leaves the cut, and it is repeated unchanged. Whatever is not poison (an unknown
 * schema, a missing column, an absent ClickHouse) throws out of `step`, and the same batch is tried again: nothing is skipped.
 */
import { hash } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Place, Row, RowPipeline } from '../../pipelines/row.ts';
import { currentSchema, currentSchemaText } from '../../schemas/codec.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import { PoolError } from '../core/errors.ts';
import type { Damage, EventLog, Position, StoredRecord } from '../core/log/event-log.ts';
import { Copies, type Noted } from './copies.ts';
import { HeldInsert, ingestTime, insertRows } from './insert.ts';
import { type BucketMinute, ShareFile, shareInsert, type TakesShare } from './share-file.ts';
import type { ConsumerState, Cut, Minute } from './state.ts';

/** Batches end at whichever comes first: by time where the log has nothing more at hand. */
const BATCH_RECORDS = 10_000;
/** The larger, the less an insert and its merges cost; 40 MB of memory, twice while another is read. */
const SHARE_BATCH_RECORDS = 100_000;
/** The first of many is smaller, so that ClickHouse has something to do soon; each is twice as large as the one before. */
const FIRST_SHARE_BATCH_RECORDS = 25_000;
const BATCH_MS = 250;
const BATCH_BEHIND_MS = 5_000;
const IDLE_WAIT_MS = 1_000;

export interface Counters {
  records: number;
  rows: number;
  deadLetters: number;
}

/** What others must know of a partition before its rows are inserted, where several processes share the partitions (group.ts). */
export interface Guard {
  /** When the partition came here, for `Copies`. */
  readonly since: number;
  /**
   * Called before the insert of a cut.
   * @param losers - minutes that it may change besides those of its own records
   * @throws where the partition may be another's by now: nothing is to be inserted
   */
  before(cut: Cut, losers: readonly Minute[]): Promise<void>;
  /** Called once it is inserted and its minutes are marked. */
  finished(cut: Cut): void;
}

export interface PartitionParts {
  readonly log: EventLog;
  readonly client: ClickHouseClient;
  readonly state: ConsumerState;
  readonly counters: Counters;
  /** One for each batch whose copies were looked for and that is not at the end of its cut: others put the minutes there that they finish. */
  readonly overlaps: Set<Map<string, Minute>>;
  /** True where nobody has filled the tables before and roll-ups are made when all is in: no minute of a loser stands anywhere. */
  readonly fresh?: boolean;
  /** Of a replay of some months: the shares that it wants; the others are read and checked, and not inserted. */
  readonly takesShare?: TakesShare;
  readonly guard?: Guard;
  readonly signal: AbortSignal;
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

/** Names of the fields of all records in a schema, each with that of its record. */
function fieldsIn(node: unknown, found = new Set<string>()): Set<string> {
  if (Array.isArray(node)) for (const each of node) fieldsIn(each, found);
  else if (node !== null && typeof node === 'object') {
    const { name, type, items, values, fields } = node as Record<string, unknown>;
    for (const field of Array.isArray(fields) ? (fields as { name: string; type: unknown }[]) : []) {
      found.add(`${String(name).split('.').at(-1)}.${field.name}`);
      fieldsIn(field.type, found);
    }
    fieldsIn([type, items, values], found);
  }
  return found;
}

/** Schemas that were found to have no field that is unknown here. */
const understood = new Set<string>();

/**
 * Avro would pass over a field that this version does not know, and its value would be missing from ClickHouse for ever.
 * @throws PoolError schema_unknown where the schema is of a newer version
 */
async function checkUnderstood(log: EventLog, topic: Topic, fingerprint: string): Promise<void> {
  if (fingerprint === currentSchema(topic).fingerprint || understood.has(`${topic}/${fingerprint}`)) return;
  const known = fieldsIn(JSON.parse(currentSchemaText(topic)));
  const unknown = [...fieldsIn(JSON.parse(await log.schemaText(topic, fingerprint)))].filter(
    (name) => !known.has(name),
  );
  if (unknown.length > 0) {
    throw new PoolError(
      'schema_unknown',
      `records of topic ${topic} are written by a newer version (schema ${fingerprint} has ${unknown.join(', ')}): install that version here too`,
      { facts: { topic, fingerprint } },
    );
  }
  understood.add(`${topic}/${fingerprint}`);
}

/** Decodes a record. @returns the event, or why its own schema cannot decode it @throws PoolError schema_unknown */
export async function decodeRecord<T extends Topic>(
  log: EventLog,
  topic: T,
  record: StoredRecord,
): Promise<{ event: Events[T] } | { poison: string }> {
  await checkUnderstood(log, topic, record.fingerprint);
  const decode = await log.decoder(topic, record.fingerprint);
  try {
    return { event: decode(record.body) };
  } catch (error) {
    return { poison: `not decodable by its schema: ${(error as Error).message}` };
  }
}

/** Records of a batch as what is inserted; kept until it is, however often that is tried. */
interface Prepared<T extends Topic> {
  readonly from: Position | null;
  readonly to: Position | null;
  readonly records: number;
  /** The batch ended by its number: more may be there. */
  readonly full: boolean;
  readonly letters: readonly Row[];
  /** Deduplication token of the cut. */
  readonly token: string;
  /** Minutes that others finished since copies of this batch were looked for; kept over failures. */
  readonly overlapping: Map<string, Minute>;
  readonly rows: number;
  readonly minutes: readonly BucketMinute[];
  /** Does what need not wait for the batch before this one; may fail without harm. */
  ahead(): void;
  /** Minutes in which copies stand; asked before the insert, each time. */
  copies(): Promise<readonly Minute[]>;
  insert(): Promise<void>;
  /** Minutes in which copies stand now that it is inserted, where other processes may insert some at the same time. */
  copiesAfter(): Promise<readonly Minute[]>;
  /** Called when its rows are in ClickHouse. */
  done(): void;
  /** Nothing of it is to be inserted. */
  abandon(): void;
  readonly events: readonly Events[T][];
}

/** What becomes of the records of a batch as they are read. */
interface Maker<T extends Topic> {
  take(records: readonly StoredRecord[], letters: Row[]): Promise<void>;
  make(
    token: string,
  ): Pick<
    Prepared<T>,
    'rows' | 'minutes' | 'ahead' | 'copies' | 'insert' | 'copiesAfter' | 'done' | 'abandon' | 'events'
  >;
}

export class PartitionConsumer<T extends Topic> {
  readonly #parts: PartitionParts;
  readonly #pipeline: RowPipeline<T>;
  readonly #partition: string;
  /** Called with events that are in ClickHouse now, in order; shares are not among them, as they are not decoded. */
  readonly #taken: (events: readonly Events[T][]) => void;
  #position: Position | null;
  #records = 0;
  #pending: Cut | null;
  /** What is being inserted, or is to be tried again. */
  #current: Prepared<T> | null = null;
  /** What comes behind it, read and sent meanwhile. */
  #following: Promise<Prepared<T> | null> | null = null;
  /** Shares of the next batch at most. */
  #shareRecords = FIRST_SHARE_BATCH_RECORDS;

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
    // Nobody steps any more: what was sent ahead must not hold its connection.
    parts.signal.addEventListener(
      'abort',
      () => void this.#following?.then((next) => next?.abandon()).catch(() => {}),
      {
        once: true,
      },
    );
  }

  get position(): Position | null {
    return this.#position;
  }

  /** Records taken in since the start. */
  get records(): number {
    return this.#records;
  }

  /** The last batch was as large as batches become: more may be waiting. */
  get behind(): boolean {
    return this.#following !== null;
  }

  /** Takes one batch in; returns after a while also without one. @throws anything that is to be tried again */
  async step(): Promise<void> {
    this.#current ??= await this.#next();
    const current = this.#current;
    if (current === null) return;
    const inserting = Promise.withResolvers<void>();
    if (current.full && this.#following === null) {
      this.#following = inserting.promise.then(() => this.#prepareAhead(current.to));
      // Said when it is its turn.
      this.#following.catch(() => {});
    }
    try {
      await this.#insert(current, inserting.resolve);
    } finally {
      inserting.resolve();
      // Nothing reads on when the log is closed.
      if (this.#parts.signal.aborted) await this.#following?.catch(() => {});
    }
    current.done();
    this.#current = null;
    if (current.events.length > 0) this.#taken(current.events);
  }

  /** To be called when nobody steps any more: what was read and is not inserted is given up, and waits for nothing. */
  async close(): Promise<void> {
    const following = await this.#following?.catch(() => null);
    for (const prepared of [this.#current, following]) {
      prepared?.abandon();
      if (prepared) this.#parts.overlaps.delete(prepared.overlapping);
    }
  }

  #next(): Promise<Prepared<T> | null> {
    const following = this.#following;
    this.#following = null;
    return following ?? this.#prepare(this.#position, this.#pending);
  }

  async #prepareAhead(from: Position | null): Promise<Prepared<T> | null> {
    // What ClickHouse waits for leaves first: reading holds the loop for some milliseconds at a time.
    await new Promise((resolve) => setImmediate(resolve));
    const prepared = await this.#prepare(from, null);
    if (prepared !== null && !this.#parts.signal.aborted) {
      this.#parts.overlaps.add(prepared.overlapping);
      prepared.ahead();
    }
    return prepared;
  }

  /** @param begun - called when the insert is on its way */
  async #insert(prepared: Prepared<T>, begun: () => void): Promise<void> {
    const { state, client, counters, overlaps, guard } = this.#parts;
    const { topic } = this.#pipeline;
    const { overlapping } = prepared;
    const minutes = new Map<string, Minute>();
    const mark = ({ origin, minuteS }: Minute): unknown => minutes.set(`${origin}/${minuteS}`, { origin, minuteS });
    prepared.minutes.forEach(mark);
    const own = new Set(minutes.keys());
    this.#pending?.minutes.forEach(mark);
    // A copy that another partition inserts from here on is not found by the look below: its minute is taken over at the end.
    overlaps.add(overlapping);
    if (this.#parts.fresh !== true) (await prepared.copies()).forEach(mark);
    const { from, to, records, token } = prepared;
    const cut: Cut = {
      topic,
      partition: this.#partition,
      from,
      to,
      records,
      token,
      minutes: [...minutes.values()],
    };
    this.#pending = cut;
    state.storeCut(cut);
    const losers = [...minutes].filter(([key]) => !own.has(key)).map(([, minute]) => minute);
    await guard?.before(cut, losers);
    const buckets = prepared.minutes.map(({ origin, minuteS, bucketS }) => ({
      origin,
      minute: minuteS,
      bucket: bucketS,
    }));
    // Minutes are read by roll-ups only, which come after the end of the cut.
    const inserts = [
      insertRows(client, 'share_minutes', buckets, `${token}-share_minutes`),
      prepared.insert(),
      insertRows(client, 'dead_letters', prepared.letters, `${token}-dead_letters`),
    ];
    begun();
    await allDone(inserts);
    if (guard !== undefined) (await prepared.copiesAfter()).forEach(mark);
    const finished: Cut = { ...cut, minutes: [...new Map([...minutes, ...overlapping]).values()] };
    state.finish(finished);
    guard?.finished(finished);
    overlaps.delete(overlapping);
    for (const other of overlaps) for (const [key, minute] of minutes) other.set(key, minute);
    this.#pending = null;
    this.#position = to;
    this.#records += records;
    counters.records += records;
    counters.rows += prepared.rows;
    counters.deadLetters += prepared.letters.length;
  }

  /** The outstanding cut's records again, or a new batch; null where there is nothing. */
  async #prepare(from: Position | null, cut: Cut | null): Promise<Prepared<T> | null> {
    const { log, signal } = this.#parts;
    const { topic } = this.#pipeline;
    const usual = topic === 'share' ? this.#shareRecords : BATCH_RECORDS;
    const most = cut === null ? usual : Math.max(cut.records, 1);
    let records = 0;
    const letters: Row[] = [];
    const maker = (topic === 'share' ? this.#shareMaker(most) : this.#rowMaker()) as Maker<T>;
    let next = from;
    let deadline = Number.POSITIVE_INFINITY;
    for (;;) {
      const leftMs = Math.max(0, deadline - performance.now());
      const batch = await log.read(topic, this.#partition, next, {
        maxRecords: most - records,
        waitMs: Math.ceil(Math.min(IDLE_WAIT_MS, leftMs)),
        signal,
      });
      if (batch.records.length === 0 && batch.damage.length === 0) {
        // The journal may have moved past the end of a run; there is nothing to insert, and the position can wait.
        if (records === 0 && letters.length === 0) return null;
        break;
      }
      for (const damage of batch.damage) letters.push(deadLetterRow(damage, damage.reason));
      await maker.take(batch.records, letters);
      records += batch.records.length;
      next = batch.next;
      if (records >= most || signal.aborted) break;
      // A stored cut is filled up to its number; a new batch is closed by time.
      if (cut === null && deadline === Number.POSITIVE_INFINITY) deadline = performance.now() + BATCH_MS;
      // Behind it, what is at hand is still taken: where much waits, small batches would keep it waiting.
      if (performance.now() >= deadline + BATCH_BEHIND_MS) break;
      // A log that always has more at hand must not keep sockets waiting.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const full = cut === null && topic === 'share' && records >= usual;
    this.#shareRecords = full ? Math.min(usual * 2, SHARE_BATCH_RECORDS) : FIRST_SHARE_BATCH_RECORDS;
    const about = [this.#parts.state.generation, topic, this.#partition, from, next, records];
    const token = hash('sha256', JSON.stringify(about), 'hex').slice(0, 32);
    return { from, to: next, records, full, letters, token, overlapping: new Map(), ...maker.make(token) };
  }

  /** Any topic's records, decoded, as rows. */
  #rowMaker(): Maker<T> {
    const { log, client } = this.#parts;
    const { topic, table } = this.#pipeline;
    const tables = new Map<string, Row[]>();
    const events: Events[T][] = [];
    return {
      take: async (records, letters) => {
        for (const record of records) {
          const decoded = await decodeRecord(log, topic, record);
          const poison = 'poison' in decoded ? decoded.poison : this.#pipeline.wrong(decoded.event);
          if (poison !== null || 'poison' in decoded) {
            letters.push(deadLetterRow(record, poison ?? ''));
            continue;
          }
          const place: Place = record;
          const into = this.#pipeline.tableOf?.(decoded.event) ?? table;
          const rows = tables.get(into);
          const row = this.#pipeline.row(decoded.event, place);
          if (rows === undefined) tables.set(into, [row]);
          else rows.push(row);
          events.push(decoded.event);
        }
      },
      make: (token) => ({
        rows: events.length,
        minutes: [],
        ahead: () => {},
        copies: async () => [],
        insert: async () => {
          for (const [into, rows] of tables) await insertRows(client, into, rows, `${token}-${into}`);
        },
        copiesAfter: async () => [],
        done: () => {},
        abandon: () => {},
        events,
      }),
    };
  }

  /** Shares as an Avro file. */
  #shareMaker(most: number): Maker<'share'> {
    const { log, client, guard } = this.#parts;
    const copies = copiesOf(this.#parts);
    const file = new ShareFile(most, this.#parts.takesShare);
    return {
      take: async (records, letters) => {
        for (const record of records) {
          if (file.addPlain(record.fingerprint, record.body)) continue;
          const decoded = await decodeRecord(log, 'share', record);
          const poison = 'poison' in decoded ? decoded.poison : file.add(decoded.event);
          if (poison !== null) letters.push(deadLetterRow(record, poison));
        }
      },
      make: (token) => {
        // Once only: the filters hold this batch afterwards.
        let noted: Noted | null = null;
        const note = (): Noted => (noted ??= copies.note(file, guard?.since));
        const held =
          file.count === 0 ? null : new HeldInsert(client, shareInsert(`${token}-shares_raw`), file.finish());
        return {
          rows: file.count,
          minutes: file.minutes(),
          ahead: () => {
            held?.ahead();
            if (this.#parts.fresh !== true) copies.ask(note()).catch(() => {});
          },
          copies: async () => copies.minutes(note()),
          insert: async () => held?.insert(),
          copiesAfter: () => copies.minutesAfter(note()),
          done: () => file.release(),
          abandon: () => held?.abandon(),
          events: [],
        };
      },
    };
  }
}

/** Waits for all. @throws the first failure, when none is under way any more: what is tried again must not meet itself */
async function allDone(works: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === 'rejected') throw result.reason;
}

/** One for all partitions that write to a ClickHouse through the same parts. */
const copiesByOverlaps = new WeakMap<PartitionParts['overlaps'], Copies>();

/** The copies that these parts share; made at the first question. */
export function copiesOf({ overlaps, client }: Pick<PartitionParts, 'overlaps' | 'client'>): Copies {
  let copies = copiesByOverlaps.get(overlaps);
  if (copies === undefined) {
    copies = new Copies(client);
    copiesByOverlaps.set(overlaps, copies);
  }
  return copies;
}
