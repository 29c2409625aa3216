/**
 * A replay from a month on: which shares it reads for that, and how its months take the place of those that stand.
 *
 *   record ─► walked, checked ─► its hour before the months? ─► passed over, not inserted
 *                                  └─ received within them all the same? its hour is looked up in a second reading
 *
 * Where a share belongs is a function of its identity: all copies have one hour (`bucket`), and so one month of `shares_raw`, wherever they stand
 * in the log. So the whole log is read, and the months are exactly those that a replay of everything makes. Minutes are of receipt, which
 * may lie on the other side of the border:
 *
 * | share's hour | received        |                                                                                             |
 * |--------------|-----------------|---------------------------------------------------------------------------------------------|
 * | in           | in              | the months                                                                                  |
 * | before       | in              | read too, for minutes within the months: the hours just before, others in a second reading   |
 * | in           | before          | inserted; its minute stands in a month before, and is made anew in place after the swap       |
 * | before       | before          | passed over                                                                                 |
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
import type { Minute } from './state.ts';

/** The first month of a replay, UTC. */
export interface Month {
  /** `2026-10` */
  readonly name: string;
  /** As `toYYYYMM` gives it: the partition. */
  readonly partition: number;
  /** Its beginning, seconds since 1970. */
  readonly fromS: number;
}

/** The month of an instant. @param ms - since 1970 */
export function monthOf(ms: number): Month {
  const name = new Date(ms).toISOString().slice(0, 7);
  return { name, partition: Number(name.replace('-', '')), fromS: Date.parse(`${name}-01`) / 1000 };
}

/** Tables with a partition for each month; all others are rebuilt whole, being small beside them. */
export const MONTHLY_TABLES: ReadonlySet<string> = new Set(['shares_raw', 'shares_1m_raw']);

/** The border as ClickHouse reads it. */
export function borderOf({ fromS }: Month): string {
  return `toDateTime(${fromS}, 'UTC')`;
}

/** So long before the border hours are taken at once: a miner's ntime is that of its job, or later, and jobs are minutes old. */
const BEFORE_S = 3 * 3600;

/** Which hours of shares are inserted. */
export class MonthHours {
  readonly #takenS: number;
  readonly #fromUs: number;
  /** Older ones that are taken too. */
  readonly #added = new Set<number>();
  #found = new Set<number>();

  constructor({ fromS }: Month) {
    this.#takenS = fromS - BEFORE_S;
    this.#fromUs = fromS * 1e6;
  }

  /** @param bucketS - the share's hour @param timeUs - of receipt */
  readonly takes = (bucketS: number, timeUs: number): boolean => {
    if (bucketS >= this.#takenS) return true;
    if (timeUs >= this.#fromUs && !this.#added.has(bucketS)) this.#found.add(bucketS);
    return this.#added.has(bucketS);
  };

  /** Hours that were passed over and hold a share received within the months: from here on they are taken, and what came before is to be read again. */
  takeFound(): ReadonlySet<number> {
    const found = this.#found;
    for (const bucketS of found) this.#added.add(bucketS);
    this.#found = new Set();
    return found;
  }
}

/** Partitions of a table from a month on, in order, of any of the databases. */
export async function partitionsFrom(
  client: ClickHouseClient,
  databases: readonly string[],
  table: string,
  { partition }: Month,
): Promise<string[]> {
  const answer = await client.query({
    query: `SELECT DISTINCT partition_id FROM system.parts WHERE active AND table = ${literal(table)}
      AND database IN (${databases.map(literal).join(', ')}) AND toUInt32OrZero(partition_id) >= ${partition} ORDER BY partition_id`,
    format: 'JSONEachRow',
  });
  return (await answer.json<{ partition_id: string }>()).map(({ partition_id }) => partition_id);
}

/** Minutes before the border with shares whose hour is behind it, in the one database or the other. */
export async function minutesBefore(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  month: Month,
): Promise<Minute[]> {
  const border = borderOf(month);
  const listed = (database: string): string =>
    `SELECT origin, minute FROM ${database}.share_minutes WHERE minute < ${border} AND bucket >= ${border}`;
  const answer = await client.query({
    // A table that is in doubt may have shares that its list does not name.
    query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(minute) AS minute FROM
      (${listed(live)} UNION ALL ${listed(rebuilt)}
      UNION ALL SELECT origin, toDateTime(toStartOfMinute(time), 'UTC') AS minute FROM ${live}.shares_raw WHERE bucket >= ${border} AND time < ${border})`,
    format: 'JSONEachRow',
  });
  const rows = await answer.json<{ origin: string; minute: number }>();
  return rows.map(({ origin, minute }) => ({ origin, minuteS: minute }));
}

/**
 * Puts the months of a table in place of those that stand, each at once.
 * @param client - of the database with the tables as they stand
 */
export async function replaceMonths(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  table: string,
  month: Month,
): Promise<void> {
  const made = new Set(await partitionsFrom(client, [rebuilt], table, month));
  for (const id of await partitionsFrom(client, [live, rebuilt], table, month)) {
    const what = made.has(id) ? `REPLACE PARTITION ID '${id}' FROM ${rebuilt}.${table}` : `DROP PARTITION ID '${id}'`;
    // A server refuses to let go what is larger than 50 GB without this.
    await client.command({ query: `ALTER TABLE ${live}.${table} ${what} SETTINGS max_partition_size_to_drop = 0` });
  }
}
