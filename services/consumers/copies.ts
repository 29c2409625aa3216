/**
 * Which shares of a batch may have a copy in the table already. A copy that wins may have another receipt instant, and then the minute of the
 * loser changes too: its minute must be asked for before the insert, since a merge may remove it afterwards. Asking for every identity
 * would read an hour of shares with each batch; so what this process has put into an hour that was empty is remembered in bloom filters.
 * They know all copies (and a few that are none): within a log a share has one consumer, as Kafka's key is the identity.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
import type { Bucket, ShareFile } from './share-file.ts';
import type { Minute } from './state.ts';

/** All filters together; the hours that were touched least recently go first. */
const MAX_BYTES = 64 * 1024 ** 2;
/** Hours that are remembered, with a filter or without. */
const MAX_BUCKETS = 20_000;
/** Bits per share, and how many of them are set: one in 30,000 is taken for a copy wrongly. */
const BITS_PER_SHARE = 24;
const PROBES = 8;
const FIRST_SHARES = 2_048;
const LAST_SHARES = 1 << 20;
/** Lists longer than a server's default limit for a statement, with room for the text of a batch. */
const MAX_QUERY_BYTES = 14 * 1024 ** 2;

/** Filters that grow by doubling, since nobody knows how many shares an hour has. */
export class Bloom {
  readonly #parts: { words: Uint32Array; bits: number; room: number }[] = [];
  sizeBytes = 0;

  /** Notes an identity. @returns true where it may have been noted before */
  add(high: number, low: number): boolean {
    for (const { words, bits } of this.#parts) {
      let at = low >>> 0;
      let probe = 0;
      for (; probe < PROBES; probe++) {
        const bit = at % bits;
        if ((words[bit >>> 5]! & (1 << (bit & 31))) === 0) break;
        at = (at + (high | 1)) >>> 0;
      }
      if (probe === PROBES) return true;
    }
    let last = this.#parts.at(-1);
    if (last === undefined || last.room === 0) {
      const shares = Math.min(LAST_SHARES, last === undefined ? FIRST_SHARES : (last.bits / BITS_PER_SHARE) * 2);
      const bits = shares * BITS_PER_SHARE;
      last = { words: new Uint32Array(Math.ceil(bits / 32)), bits, room: shares };
      this.#parts.push(last);
      this.sizeBytes += last.words.byteLength;
    }
    last.room--;
    let at = low >>> 0;
    for (let probe = 0; probe < PROBES; probe++) {
      const bit = at % last.bits;
      last.words[bit >>> 5]! |= 1 << (bit & 31);
      at = (at + (high | 1)) >>> 0;
    }
    return false;
  }
}

/** An origin's hour, as far as copies are concerned. */
interface Hour {
  readonly bucket: Bucket;
  /** What this process has put there; null: it had shares of others before, so all are asked about. */
  filter: Bloom | null;
  /** Whether it had is known; until then nothing of ours is inserted. */
  known: boolean;
}

/** Submissions of a batch that have a copy in the filters, and the hours of all. */
export interface Noted {
  readonly file: ShareFile;
  readonly hours: readonly Hour[];
  readonly found: readonly number[];
}

export class Copies {
  readonly #client: ClickHouseClient;
  /** By origin and hour, in order of touch. */
  readonly #hours = new Map<string, Hour>();
  /** Hours that are being asked about. */
  readonly #asking = new Map<Hour, Promise<void>>();

  constructor(client: ClickHouseClient) {
    this.#client = client;
  }

  /** Remembers a batch's submissions, and which of them were there already. To be called once for a batch. */
  note(file: ShareFile): Noted {
    const hours = file.buckets().map((bucket) => this.#touch(bucket));
    const found = file.select((bucket, high, low) => hours[bucket]!.filter?.add(high, low) ?? false);
    this.#forget();
    return { file, hours, found };
  }

  #touch(bucket: Bucket): Hour {
    const key = keyOf(bucket);
    const hour = this.#hours.get(key) ?? { bucket, filter: new Bloom(), known: false };
    this.#hours.delete(key);
    this.#hours.set(key, hour);
    return hour;
  }

  /** Looks which of the hours are empty, of those that are not known; before anything of the batch is inserted. @throws what the client throws */
  async ask({ hours }: Noted): Promise<void> {
    const unknown = hours.filter((hour) => !hour.known && !this.#asking.has(hour));
    if (unknown.length > 0) {
      const asking = this.#ask(unknown).finally(() => {
        for (const hour of unknown) this.#asking.delete(hour);
      });
      for (const hour of unknown) this.#asking.set(hour, asking);
    }
    await Promise.all(new Set(hours.map((hour) => this.#asking.get(hour))));
  }

  async #ask(hours: readonly Hour[]): Promise<void> {
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
    const { file, hours, found } = noted;
    const asked = hours.some(({ filter }) => filter === null)
      ? [...new Set([...found, ...file.select((bucket) => hours[bucket]!.filter === null)])]
      : found;
    return this.#minutesOf(asked.map((submission) => file.submission(submission)));
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
