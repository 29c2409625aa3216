/**
 * Fills a database from the log with the consumers' own parts: partitions, then roll-ups once for each minute, then what is derived.
 *
 *   log ─► LogUpTo (ends where it is told) ─► PartitionConsumer per partition ─► raw tables ─► Rollups ─► Derived
 */

import type { ClickHouseClient } from '@clickhouse/client';
import type { FactTopic } from '../../pipelines/derivations/topics.ts';
import type { DerivedState } from '../../pipelines/derived.ts';
import type { ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import type { RowPipeline } from '../../pipelines/row.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import { PoolError } from '../core/errors.ts';
import type { EventLog, Position, RecordBatch } from '../core/log/event-log.ts';
import { Derived } from './derived.ts';
import { type Counters, PartitionConsumer, type PartitionParts } from './partition.ts';
import { pipelinesOf } from './pipelines.ts';
import { pause } from './problems.ts';
import { type Month, MonthHours } from './replay-months.ts';
import type { Place } from './replay-positions.ts';
import { Rollups } from './rollups.ts';
import type { TakesShare } from './share-file.ts';
import { ConsumerState, type Mark } from './state.ts';

/** How often an end of the log that is not where its lag says is looked at again. */
const EMPTY_READS = 20;
/** The same of a broker, a quarter of a second each: one that a quota throttles answers without records for a while. */
const EMPTY_ANSWERS = 240;
/** A ClickHouse that is away for longer than this ends the replay. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 500;

/** The same log, of which these parts are another's: it is read otherwise than from its place on. */
export function readOtherwise(log: EventLog, parts: Pick<EventLog, 'read'> & Partial<EventLog>): EventLog {
  return {
    kind: log.kind,
    append: (entries) => log.append(entries),
    partitions: (topic) => log.partitions(topic),
    decoder: (topic, fingerprint) => log.decoder(topic, fingerprint),
    schemaText: (topic, fingerprint) => log.schemaText(topic, fingerprint),
    lag: (topic, partition, from) => log.lag(topic, partition, from),
    close: () => log.close(),
    ...parts,
  };
}

/** Repeats what ClickHouse or a broker refuses, for a minute. @throws what cannot mend itself, at once */
export async function patiently<T>(signal: AbortSignal, step: () => Promise<T>): Promise<T> {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await step();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException | null)?.code;
      const passing = code === 'ECONNREFUSED' || code === 'ECONNRESET' || code === 'ETIMEDOUT' || code === 'EPIPE';
      if (signal.aborted || !passing || performance.now() > end) throw error;
      await pause(AGAIN_MS, signal);
    }
  }
}

/** Where a partition's reading ends: in front of the record at this position of the consumers; absent: at the end of the log. */
export type Bounds = ReadonlyMap<string, Position | null>;

const placeName = (topic: Topic, partition: string): string => `${topic}/${partition}`;

interface Reading {
  ended: boolean;
  empty: number;
  /** Position of the first record that is not to be read; undefined: there was none when last looked. */
  first?: Position;
}

/**
 * The log as a replay reads it: without waiting, and no further than the bounds.
 *
 * Positions are text that only the log understands, so a bound is looked up: the record that is read from there is the first one that is
 * left out. Where there is none yet, everything read before looking lies in front of the bound.
 */
class LogUpTo {
  readonly #log: EventLog;
  /** A log of its own for looking: a reader that is moved to and fro opens its segment each time. */
  readonly #looking: EventLog;
  readonly readings = new Map<string, Reading>();
  bounds: Bounds | null = null;

  constructor(log: EventLog, looking: EventLog) {
    this.#log = log;
    this.#looking = looking;
  }

  /** For `PartitionConsumer`. */
  asLog(): EventLog {
    return readOtherwise(this.#log, {
      read: (topic, partition, from, { maxRecords, signal }) => this.#read(topic, partition, from, maxRecords, signal),
    });
  }

  async #read(
    topic: Topic,
    partition: string,
    from: Position | null,
    maxRecords: number,
    signal: AbortSignal | undefined,
  ): Promise<RecordBatch> {
    const reading = this.readings.get(placeName(topic, partition))!;
    // A broker is asked and may take a moment; the journal's end is known at once.
    const options = {
      maxRecords,
      waitMs: this.#log.kind === 'kafka' ? 250 : 0,
      ...(signal === undefined ? {} : { signal }),
    };
    const batch = await this.#log.read(topic, partition, from, options);
    if (batch.records.length === 0 && batch.damage.length === 0) {
      reading.empty += 1;
      const lag = await this.#log.lag(topic, partition, batch.next);
      const most = this.#log.kind === 'kafka' ? EMPTY_ANSWERS : EMPTY_READS;
      reading.ended = lag === null || lag === 0 || reading.empty >= most;
      return batch;
    }
    reading.empty = 0;
    return this.bounds === null ? batch : this.#cut(topic, partition, batch, reading);
  }

  async #cut(topic: Topic, partition: string, batch: RecordBatch, reading: Reading): Promise<RecordBatch> {
    if (reading.first === undefined) {
      const bound = this.bounds!.get(placeName(topic, partition)) ?? null;
      const look = await this.#looking.read(topic, partition, bound, { maxRecords: 1, waitMs: 0 });
      const first = look.damage[0]?.position ?? look.records[0]?.position;
      if (first === undefined) return batch;
      reading.first = first;
    }
    const { first } = reading;
    const records = batch.records.findIndex(({ position }) => position === first);
    const damage = batch.damage.findIndex(({ position }) => position === first);
    if (records < 0 && damage < 0) return batch;
    reading.ended = true;
    return {
      records: records < 0 ? batch.records : batch.records.slice(0, records),
      damage: damage < 0 ? batch.damage : batch.damage.slice(0, damage),
      next: first,
    };
  }
}

export interface RebuildParts {
  readonly log: EventLog;
  /** The same log, opened a second time. */
  readonly looking: EventLog;
  /** Of the database that is filled. */
  readonly client: ClickHouseClient;
  /** Of the replay, fresh. */
  readonly state: ConsumerState;
  readonly profileOf: ProfileOf;
  /** True where the tables were empty before. */
  readonly fresh: boolean;
  /** Shares and their minutes from this month on alone; null: all. */
  readonly from: Month | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (counters: Readonly<Counters>) => void;
}

interface Filled {
  readonly topic: Topic;
  readonly partition: string;
  readonly consumer: {
    step(): Promise<void>;
    readonly position: Position | null;
    readonly records: number;
    readonly behind: boolean;
  };
}

/** A second reading: of shares alone, and of these. */
interface Again {
  readonly takesShare: TakesShare;
}

export class Rebuild {
  readonly counters: Counters = { records: 0, rows: 0, deadLetters: 0 };
  readonly #parts: RebuildParts;
  readonly #hours: MonthHours | null;
  readonly #topics: readonly FactTopic[];
  readonly #log: LogUpTo;
  readonly #partition: PartitionParts;
  readonly #pipelines: ReturnType<typeof pipelinesOf>;
  readonly #filled = new Map<string, Filled>();
  readonly #rollups: Rollups;
  readonly #derived: Derived;

  constructor(parts: RebuildParts, again: Again | null = null) {
    const { log, looking, client, state, profileOf, fresh, from, signal } = parts;
    this.#parts = parts;
    this.#hours = from === null || again !== null ? null : new MonthHours(from);
    const takesShare = again?.takesShare ?? this.#hours?.takes;
    this.#log = new LogUpTo(log, looking);
    this.#pipelines = pipelinesOf(profileOf);
    this.#topics = again === null ? (Object.keys(this.#pipelines) as FactTopic[]) : ['share'];
    this.#rollups = new Rollups(client, state);
    this.#derived = new Derived(client, profileOf);
    this.#partition = {
      log: this.#log.asLog(),
      client,
      state,
      counters: this.counters,
      overlaps: new Set(),
      fresh,
      ...(takesShare === undefined ? {} : { takesShare }),
      signal,
    };
  }

  /** Where reading goes on, by partition. */
  places(): Place[] {
    return [...this.#filled.values()].map(({ topic, partition, consumer }) => ({
      topic,
      partition,
      position: consumer.position,
    }));
  }

  /** Records of the log that were not read yet, as far as that can be told. */
  async behind(): Promise<number> {
    await this.#find();
    let records = 0;
    for (const { topic, partition, consumer } of this.#filled.values()) {
      records += (await this.#parts.log.lag(topic, partition, consumer.position)) ?? 0;
    }
    return records;
  }

  /**
   * Reads on: to the bounds, or to the end that the log has now.
   * @returns records read
   * @throws PoolError schema_unknown; what the client throws
   */
  async pass(bounds: Bounds | null): Promise<number> {
    await this.#find();
    const before = this.counters.records;
    this.#log.bounds = bounds;
    this.#log.readings.clear();
    const { log, signal } = this.#parts;
    // One that fails ends all: nobody works on when the databases are removed.
    let failure: { error: unknown } | null = null;
    const run = async (name: string, { topic, partition, consumer }: Filled): Promise<void> => {
      const lag = await log.lag(topic, partition, consumer.position);
      const goal = consumer.records + (lag ?? Number.POSITIVE_INFINITY);
      const reading: Reading = { ended: false, empty: 0 };
      this.#log.readings.set(name, reading);
      // What was read ahead is inserted too: nobody asks for it later.
      while (consumer.behind || (!reading.ended && (bounds !== null || consumer.records < goal))) {
        if (failure !== null) return;
        signal.throwIfAborted();
        await patiently(signal, () => consumer.step());
        this.#parts.onProgress?.(this.counters);
      }
    };
    await Promise.all(
      [...this.#filled].map(([name, filled]) =>
        run(name, filled).catch((error: unknown) => {
          failure ??= { error };
        }),
      ),
    );
    if (failure !== null) throw (failure as { error: unknown }).error;
    const read = this.counters.records - before;
    await this.#readAgain(bounds);
    return read;
  }

  /** Reads all shares once more for hours that were found to be needed when some of their shares had been passed over. */
  async #readAgain(bounds: Bounds | null): Promise<void> {
    const hours = this.#hours?.takeFound();
    if (hours === undefined || hours.size === 0) return;
    const state = new ConsumerState(':memory:');
    try {
      const again = new Rebuild(
        { ...this.#parts, state, onProgress: () => this.#parts.onProgress?.(this.counters) },
        { takesShare: (bucketS) => hours.has(bucketS) },
      );
      await again.pass(bounds);
      this.#parts.state.mark(state.marks(Number.MAX_SAFE_INTEGER));
      this.counters.rows += again.counters.rows;
    } finally {
      state.close();
    }
  }

  /** Minutes before the months are left as they are; those that the database has may have lost or won a share all the same. */
  async #forgetBefore({ fromS }: Month): Promise<void> {
    const { client, fresh, state } = this.#parts;
    const before = state.marks(Number.MAX_SAFE_INTEGER).filter(({ minuteS }) => minuteS < fromS);
    const oldestS = before.at(-1)?.minuteS;
    if (oldestS === undefined) return;
    const keyOf = ({ origin, minuteS }: Pick<Mark, 'origin' | 'minuteS'>): string => `${origin}/${minuteS}`;
    let present = new Set<string>();
    if (!fresh) {
      const answer = await client.query({
        query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(minute) AS minute FROM shares_1m
          WHERE minute >= toDateTime(${oldestS}, 'UTC') AND minute < toDateTime(${fromS}, 'UTC')`,
        format: 'JSONEachRow',
      });
      const rows = await answer.json<{ origin: string; minute: number }>();
      present = new Set(rows.map(({ origin, minute }) => keyOf({ origin, minuteS: minute })));
    }
    state.clearMarks(before.filter((mark) => !present.has(keyOf(mark))));
  }

  /** True where everything that lies before these places was read. */
  async covers(places: readonly Place[]): Promise<boolean> {
    const { log } = this.#parts;
    for (const { topic, partition, position } of places) {
      // The log grows only: theirs is looked at first.
      const theirs = await log.lag(topic, partition, position);
      const ours = await log.lag(
        topic,
        partition,
        this.#filled.get(placeName(topic, partition))?.consumer.position ?? null,
      );
      if (theirs !== null && ours !== null && ours > theirs) return false;
    }
    return true;
  }

  /** The fold of what was read of blocks and contracts. */
  get folded(): DerivedState {
    return this.#derived.state;
  }

  /** Roll-ups and derived tables, of what was read. @returns minutes rolled up */
  async derive(onMinutes: (left: number) => void = () => {}): Promise<number> {
    const { from, signal, state } = this.#parts;
    if (from !== null) await patiently(signal, () => this.#forgetBefore(from));
    let minutes = 0;
    for (;;) {
      signal.throwIfAborted();
      const made = await patiently(signal, () => this.#rollups.step());
      if (made === 0) break;
      minutes += made;
      onMinutes(state.marked());
    }
    await patiently(signal, () => this.#derived.flush());
    return minutes;
  }

  async #find(): Promise<void> {
    for (const topic of this.#topics) await this.#findOf(topic);
  }

  async #findOf<T extends FactTopic>(topic: T): Promise<void> {
    for (const partition of await this.#parts.log.partitions(topic)) {
      const name = placeName(topic, partition);
      if (this.#filled.has(name)) continue;
      const pipeline = this.#pipelines[topic] as RowPipeline<T>;
      const taken = (events: readonly Events[T][]): void => {
        for (const event of events) {
          if (topic === 'block') this.#derived.evolve({ topic, event: event as Events['block'] });
          if (topic === 'contract') this.#derived.evolve({ topic, event: event as Events['contract'] });
        }
      };
      const consumer = new PartitionConsumer(this.#partition, pipeline, partition, taken);
      this.#filled.set(name, { topic, partition, consumer });
    }
  }
}

/**
 * What consumers that have stopped left undone: cuts that were stored and not finished, minutes that wait for their roll-up. To be called by
 * who holds their lock.
 */
export async function finishWork(
  parts: Omit<PartitionParts, 'counters' | 'overlaps'>,
  profileOf: ProfileOf,
): Promise<void> {
  const { client, state, signal } = parts;
  const pipelines = pipelinesOf(profileOf);
  const all: PartitionParts = { ...parts, counters: { records: 0, rows: 0, deadLetters: 0 }, overlaps: new Set() };
  const finish = async <T extends FactTopic>(topic: T, partition: string): Promise<void> => {
    const consumer = new PartitionConsumer(all, pipelines[topic] as RowPipeline<T>, partition);
    await patiently(signal, () => consumer.step());
    if (state.cut(topic, partition) !== null) {
      throw new PoolError(
        'replay',
        `${topic}/${partition}: the consumers were inserting records that are not in the log now`,
      );
    }
  };
  for (const { topic, partition } of state.outstanding()) await finish(topic as FactTopic, partition);
  const rollups = new Rollups(client, state);
  while ((await patiently(signal, () => rollups.step())) > 0) signal.throwIfAborted();
}
