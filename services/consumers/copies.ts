/**
 * Which shares of a batch may have a copy in the table already. A copy that wins may have another receipt instant, and then the minute of the
 * loser changes too: its minute must be asked for before the insert, since a merge may remove it afterwards. Asking for every identity
 * would read an hour of shares with each batch; so what this process has put into an hour that was empty is remembered in filters.
 * They know all copies: within a log a share has one consumer, as Kafka's key is the identity.
 *
 * Where several processes share the partitions, another has inserted what a partition held before it came here. A filter serves a partition that
 * came before the filter's hour was seen to be empty; else the hour is asked about whole. So that all processes have filters, the hour that
 * comes next is looked at while it is still empty. What another, thought dead, still inserts of a partition that is here now is
 * read again here, and so is in the filter before a copy of it can come.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
import type { Bucket, ShareFile } from './share-file.ts';
import type { Minute } from './state.ts';

/** All filters together; the hours that were touched least recently go first. */
const MAX_BYTES = 64 * 1024 ** 2;
/** Hours that are remembered, with a filter or without. */
const MAX_BUCKETS = 20_000;
/** Of the first part of a filter, a power of two. */
const FIRST_SLOTS = 256;
/** Up to here parts grow fourfold, behind it twofold. */
const FAST_SLOTS = 4_096;
const LAST_SLOTS = 1 << 21;
/** Above it the slots that follow are taken too often. */
const MOST_FILLED = 0.75;
/** Lists longer than a server's default limit for a statement, with room for the text of a batch. */
const MAX_QUERY_BYTES = 14 * 1024 ** 2;
const HOUR_S = 3_600;

/**
 * 64 bits of each identity: one half says in which slot, the slot holds the other. A stranger is taken for a copy once in some hundred million
 * times, so that batches without copies ask for nothing. Grows by larger and larger parts, since nobody knows how many shares an hour has; 5 to 11 bytes each where they are many.
 */
export class Filter {
  readonly #parts: { readonly slots: Int32Array; room: number }[] = [];
  sizeBytes = 0;

  /** Notes an identity. @returns true where it was noted before, as far as 64 bits tell */
  add(high: number, low: number): boolean {
    // An empty slot holds 0.
    const mark = high === 0 ? 1 : high;
    const parts = this.#parts;
    let at = 0;
    for (let i = 0; i < parts.length; i++) {
      const { slots } = parts[i]!;
      const mask = slots.length - 1;
      at = low & mask;
      for (let found = slots[at]!; found !== 0; found = slots[at]!) {
        if (found === mark) return true;
        at = (at + 1) & mask;
      }
    }
    let last = parts.at(-1);
    if (last === undefined || last.room === 0) {
      const before = last?.slots.length ?? 0;
      const size = before === 0 ? FIRST_SLOTS : before * (before < FAST_SLOTS ? 4 : 2);
      const slots = new Int32Array(Math.min(LAST_SLOTS, size));
      last = { slots, room: slots.length * MOST_FILLED };
      parts.push(last);
      this.sizeBytes += slots.byteLength;
      at = low & (slots.length - 1);
    }
    last.slots[at] = mark;
    last.room--;
    return false;
  }
}

/** An origin's hour, as far as copies are concerned. */
interface Hour {
  readonly bucket: Bucket;
  /** What this process has put there; null: it had shares of others before, so all are asked about. */
  filter: Filter | null;
  /** Whether it had is known; until then nothing of ours is inserted. */
  known: boolean;
  /** When it was looked at, as `acquire` counts. */
  asked: number;
}

/** Submissions of a batch that have a copy in the filters, and the hours of all. */
export interface Noted {
  readonly file: ShareFile;
  readonly hours: readonly Hour[];
  readonly found: readonly number[];
  /** When the batch's partition came here. */
  readonly since: number;
}

export class Copies {
  readonly #client: ClickHouseClient;
  /** By origin and hour, in order of touch. */
  readonly #hours = new Map<string, Hour>();
  /** Hours that are being asked about. */
  readonly #asking = new Map<Hour, Promise<void>>();
  #instant = 0;
  #wholeUntilS = 0;

  constructor(client: ClickHouseClient) {
    this.#client = client;
  }

  /** A partition has come here from another process. @returns the instant, for `note` */
  acquire(): number {
    this.#instant += 1;
    return this.#instant;
  }

  /** Shares go to other partitions than before: hours that begin before this instant, seconds, are asked about whole. */
  askWholeUntil(bucketS: number): void {
    this.#wholeUntilS = Math.max(this.#wholeUntilS, bucketS);
  }

  /** Remembers a batch's submissions, and which of them were there already. To be called once for a batch. @param since - when its partition came here */
  note(file: ShareFile, since = 0): Noted {
    const hours = file.buckets().map((bucket) => this.#touch(bucket));
    const found = file.select((bucket, high, low) => hours[bucket]!.filter?.add(high, low) ?? false);
    this.#forget();
    return { file, hours, found, since };
  }

  #touch(bucket: Bucket): Hour {
    const key = keyOf(bucket);
    const hour = this.#hours.get(key) ?? { bucket, filter: new Filter(), known: false, asked: 0 };
    this.#hours.delete(key);
    this.#hours.set(key, hour);
    return hour;
  }

  /** Looks which of the hours are empty, of those that are not known; before anything of the batch is inserted. @throws what the client throws */
  async ask({ hours }: Noted): Promise<void> {
    const looked = this.#instant === 0 ? hours : [...hours, ...this.#nextOf(hours)];
    const unknown = looked.filter((hour) => !hour.known && !this.#asking.has(hour));
    if (unknown.length > 0) {
      const asking = this.#ask(unknown).finally(() => {
        for (const hour of unknown) this.#asking.delete(hour);
      });
      for (const hour of unknown) this.#asking.set(hour, asking);
    }
    await Promise.all(new Set(hours.map((hour) => this.#asking.get(hour))));
  }

  /** Behind the newest hour of each origin comes one that is empty as yet. */
  #nextOf(hours: readonly Hour[]): Hour[] {
    const newest = new Map<string, number>();
    for (const { bucket } of hours) {
      newest.set(bucket.origin, Math.max(newest.get(bucket.origin) ?? 0, bucket.bucketS));
    }
    return [...newest].map(([origin, bucketS]) => this.#touch({ origin, bucketS: bucketS + HOUR_S }));
  }

  async #ask(hours: readonly Hour[]): Promise<void> {
    const instant = this.#instant;
    const answer = await this.#client.query({
      query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(bucket) AS bucket FROM shares_raw
        WHERE ${within(hours.map(({ bucket }) => bucket))}`,
      format: 'JSONEachRow',
      clickhouse_settings: { max_query_size: String(MAX_QUERY_BYTES) },
    });
    const rows = await answer.json<{ origin: string; bucket: number }>();
    const filled = new Set(rows.map(({ origin, bucket }) => keyOf({ origin, bucketS: bucket })));
    for (const hour of hours) {
      hour.known = true;
      hour.asked = instant;
      if (filled.has(keyOf(hour.bucket))) hour.filter = null;
    }
  }

  #forget(): void {
    let bytes = 0;
    for (const { filter } of this.#hours.values()) bytes += filter?.sizeBytes ?? 0;
    for (const [key, { filter }] of this.#hours) {
      if (bytes <= MAX_BYTES && this.#hours.size <= MAX_BUCKETS) break;
      bytes -= filter?.sizeBytes ?? 0;
      this.#hours.delete(key);
    }
  }

  /** The minutes in which copies of a batch stand. @throws what the client throws */
  async minutes(noted: Noted): Promise<Minute[]> {
    await this.ask(noted);
    const { file, hours, found, since } = noted;
    const whole = hours.map(
      ({ filter, asked, bucket }) => filter === null || asked < since || bucket.bucketS < this.#wholeUntilS,
    );
    const asked = whole.includes(true) ? [...new Set([...found, ...file.select((bucket) => whole[bucket]!)])] : found;
    return this.#minutesOf(asked.map((submission) => file.submission(submission)));
  }

  /**
   * The minutes in which copies of a batch stand once it is inserted, in hours whose shares may go to several partitions: another process may have inserted
   * a copy between our look and our insert, as we have between its own, and whoever comes last sees both. @throws what the client throws
   */
  async minutesAfter({ file, hours }: Noted): Promise<Minute[]> {
    const divided = hours.map(({ bucket }) => bucket.bucketS < this.#wholeUntilS);
    if (!divided.includes(true)) return [];
    return this.#minutesOf(file.select((bucket) => divided[bucket]!).map((submission) => file.submission(submission)));
  }

  async #minutesOf(candidates: readonly { bucket: Bucket; identity: string }[]): Promise<Minute[]> {
    if (candidates.length === 0) return [];
    const buckets = new Map(candidates.map(({ bucket }) => [keyOf(bucket), bucket]));
    // One long literal is read faster than a list. Identities of submissions are hex digits.
    const identities = candidates.map(({ identity }) => identity).join(',');
    const answer = await this.#client.query({
      // A minute too many, of another origin's or hour's share, is computed in vain and rightly.
      query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(toStartOfMinute(time)) AS minute FROM shares_raw
        WHERE ${within([...buckets.values()])} AND identity IN (SELECT arrayJoin(splitByChar(',', ${literal(identities)})))`,
      format: 'JSONEachRow',
      clickhouse_settings: { max_query_size: String(MAX_QUERY_BYTES) },
    });
    const rows = await answer.json<{ origin: string; minute: number }>();
    return rows.map(({ origin, minute }) => ({ origin, minuteS: minute }));
  }
}

function keyOf({ origin, bucketS }: Bucket): string {
  return `${origin}/${bucketS}`;
}

/** A condition that holds for the hours, and perhaps for the same hours of another of their origins. */
function within(buckets: readonly Bucket[]): string {
  const origins = [...new Set(buckets.map(({ origin }) => literal(origin)))].join(',');
  const hours = [...new Set(buckets.map(({ bucketS }) => bucketS))];
  const times =
    hours.length > 1_000
      ? `SELECT toDateTime(arrayJoin(splitByChar(',', '${hours.join(',')}'))::UInt32, 'UTC')`
      : hours.map((s) => `toDateTime(${s}, 'UTC')`).join(',');
  return `origin IN (${origins}) AND bucket IN (${times})`;
}
