/**
 * Events of several topics and partitions in the order of their times: always the partition whose next event is the oldest goes first. What
 * was there when the reading began is read, and no more, so that a log that is being written has an end. Bounded: a batch per partition.
 */
import type { Decoder } from '../../schemas/codec.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { EventLog, Position, StoredRecord } from '../core/log/event-log.ts';
import type { Place } from './findings.ts';

const BATCH_RECORDS = 2_000;
/** How long a broker that should have more is asked, milliseconds; what a journal has is there. */
const PATIENCE_MS = 1_000;
/** A broker that a quota throttles answers without records for a while. */
const SILENCE_MS = 60_000;

export type Event = { [T in Topic]: { readonly topic: T; readonly event: Events[T] } }[Topic];

export interface Reading {
  readonly log: EventLog;
  readonly signal: AbortSignal;
  readonly onUnreadable: (reason: 'undecodable' | 'damaged', place: Place, words: string) => void;
  /** For tests. */
  readonly silenceMs?: number;
}

/** One partition of one topic, from a position to what is its end now. */
export class Cursor {
  readonly topic: Topic;
  readonly partition: string;
  /** Records that were there at the beginning. */
  readonly total: number;
  read = 0;
  done = false;
  /** Time of the next event; that of the last one where there is none at hand. */
  timeUs = 0;
  readonly #reading: Reading;
  #position: Position | null;
  /** Since when nothing is answered; null: the last answer had something. */
  #silentSinceMs: number | null = null;
  #events: Events[Topic][] = [];
  #records: StoredRecord[] = [];
  #at = 0;
  #decoder: { fingerprint: string; decode: Decoder<Topic> } | null = null;

  constructor(reading: Reading, topic: Topic, partition: string, from: Position | null, total: number) {
    this.#reading = reading;
    this.topic = topic;
    this.partition = partition;
    this.total = total;
    this.#position = from;
  }

  get ready(): boolean {
    return this.#at < this.#events.length;
  }

  /** Reads on where nothing is at hand; `ready` or `done` holds afterwards. */
  async fill(): Promise<void> {
    const { log, signal } = this.#reading;
    while (!this.ready && !this.done) {
      signal.throwIfAborted();
      if (this.read >= this.total) {
        this.done = true;
        return;
      }
      const maxRecords = Math.min(BATCH_RECORDS, this.total - this.read);
      const options = { maxRecords, waitMs: log.kind === 'journal' ? 0 : PATIENCE_MS, signal };
      const batch = await log.read(this.topic, this.partition, this.#position, options);
      const moved = batch.next !== this.#position;
      this.#position = batch.next;
      for (const { position, reason, bytes } of batch.damage) {
        const place = { topic: this.topic, partition: this.partition, position, instance: '', run: '', sequence: -1 };
        this.#reading.onUnreadable('damaged', place, `${reason} (${bytes.length} bytes)`);
      }
      this.read += batch.records.length;
      await this.#decode(batch.records);
      if (moved || batch.records.length > 0) this.#silentSinceMs = null;
      // Damage hides how many records it was: the end comes sooner than was said.
      else if (!(await this.#hasMore())) this.done = true;
    }
  }

  /** Where nothing was answered: whether the log has more all the same. @throws PoolError kafka where that cannot be had */
  async #hasMore(): Promise<boolean> {
    const { log } = this.#reading;
    if (log.kind === 'journal') return false;
    const left = await log.lag(this.topic, this.partition, this.#position);
    if (left === null || left === 0) return false;
    this.#silentSinceMs ??= performance.now();
    if (performance.now() - this.#silentSinceMs < (this.#reading.silenceMs ?? SILENCE_MS)) return true;
    throw new PoolError(
      'kafka',
      `${this.topic}/${this.partition}: ${left} records lie behind position ${this.#position}, and the broker does not give them`,
    );
  }

  async #decode(records: readonly StoredRecord[]): Promise<void> {
    this.#events = [];
    this.#records = [];
    this.#at = 0;
    for (const record of records) {
      if (this.#decoder?.fingerprint !== record.fingerprint) {
        const { fingerprint } = record;
        this.#decoder = { fingerprint, decode: await this.#reading.log.decoder(this.topic, fingerprint) };
      }
      try {
        this.#events.push(this.#decoder!.decode(record.body));
        this.#records.push(record);
      } catch (error) {
        if (error instanceof PoolError) throw error;
        this.#reading.onUnreadable('undecodable', placeOf(record), errorLine(error));
      }
    }
    if (this.ready) this.timeUs = this.#events[0]!.time_us;
  }

  /** The event at hand; its place is `place()` until the next call. */
  next(): Events[Topic] {
    const event = this.#events[this.#at++]!;
    if (this.ready) this.timeUs = this.#events[this.#at]!.time_us;
    return event;
  }

  /** Where the event that `next` gave stands. */
  place(): Place {
    return placeOf(this.#records[this.#at - 1]!);
  }
}

function placeOf({ topic, partition, position, instance, run, sequence }: StoredRecord): Place {
  return { topic, partition, position, instance, run, sequence };
}

/**
 * Cursors over all partitions of a topic.
 * @param from - where to begin
 */
export async function cursorsOf(
  reading: Reading,
  topic: Topic,
  from: (topic: Topic, partition: string) => Position | null,
): Promise<Cursor[]> {
  const cursors: Cursor[] = [];
  for (const partition of await reading.log.partitions(topic)) {
    const position = from(topic, partition);
    const total = await reading.log.lag(topic, partition, position);
    cursors.push(new Cursor(reading, topic, partition, position, total ?? Number.POSITIVE_INFINITY));
  }
  return cursors;
}

/**
 * Hands on all events, the oldest first.
 * @param each - what it returns is waited for
 * @param cursors - of events with the same time the one whose cursor stands first goes first
 */
export async function merge(
  cursors: readonly Cursor[],
  each: (event: Event, cursor: Cursor) => Promise<void> | undefined,
): Promise<void> {
  let live = [...cursors];
  for (;;) {
    for (const cursor of live) if (!cursor.ready) await cursor.fill();
    live = live.filter((cursor) => cursor.ready);
    let first: Cursor | undefined;
    let second = Number.POSITIVE_INFINITY;
    for (const cursor of live) {
      if (first === undefined) first = cursor;
      else if (cursor.timeUs < first.timeUs) {
        second = first.timeUs;
        first = cursor;
      } else second = Math.min(second, cursor.timeUs);
    }
    if (first === undefined) return;
    const { topic } = first;
    do {
      const wait = each({ topic, event: first.next() } as Event, first);
      if (wait !== undefined) await wait;
    } while (first.ready && first.timeUs < second);
  }
}
