/**
 * Roll-ups per minute: minutes that cuts have touched are recomputed from `shares` (deduplicated) and replaced under a rising version. A
 * worker that no longer has a share in its minute is retracted, because the keys that stand there are recomputed with the rest.
 *
 * Several processes may do so at once, on any minutes. Why the highest version is right, without a clock or a lock:
 *
 *   who makes a minute anew   1. adds a tick to `version_ticks`   2. reads the sum of all ticks: the version   3. reads shares, writes
 *
 * Let rows R have been inserted before our tick, and let another's rows W stand above ours or beside them. Then its sum has our tick in it (sums of
 * a table that only grows are equal or larger only with more in them), so its step 2 came after our tick, and its step 3 after R: it has
 * seen R too. Whoever inserts makes the minutes anew afterwards, so the highest version has seen everything that was inserted.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { insertRows, literal } from './insert.ts';
import type { ConsumerState, Minute } from './state.ts';

const MINUTES_AT_ONCE = 500;

/** The statement that makes some minutes anew; those of a back-fill may lie in more months than an insert may touch by default. */
export function rollupStatement(minutes: readonly Minute[], version: bigint): string {
  const keys = minutes.map(({ origin, minuteS }) => `(${literal(origin)}, toDateTime(${minuteS}, 'UTC'))`).join(', ');
  const origins = [...new Set(minutes.map(({ origin }) => literal(origin)))].join(', ');
  return `INSERT INTO shares_1m_raw
(origin, minute, user, worker, accepted, refused, stale, diff, diff_squares, refused_diff, best_sdiff, ingest_version, ingest_deleted)
SETTINGS max_partitions_per_insert_block = 0
SELECT
    origin, minute, user, worker, sum(a) AS accepted, sum(r) AS refused, sum(s) AS stale,
    sum(d) AS diff, sum(q) AS diff_squares, sum(rd) AS refused_diff, max(b) AS best_sdiff,
    toUInt64(${version}) AS ingest_version, accepted + refused = 0 AS ingest_deleted
FROM
(
    SELECT
        origin, toDateTime(toStartOfMinute(time), 'UTC') AS minute, user, worker,
        toUInt64(accepted) AS a, toUInt64(NOT accepted) AS r, toUInt64(NOT accepted AND errn IN (1, 2)) AS s,
        if(accepted, diff, toDecimal128(0, 18)) AS d,
        if(accepted, toDecimal256(diff, 18) * toDecimal256(diff, 18), toDecimal256(0, 36)) AS q,
        if(accepted, toDecimal128(0, 18), diff) AS rd,
        if(accepted, sdiff, 0.) AS b
    FROM shares
    WHERE origin IN (${origins})
        AND bucket IN (SELECT bucket FROM share_minutes WHERE (origin, minute) IN (${keys}))
        AND (origin, toDateTime(toStartOfMinute(time), 'UTC')) IN (${keys})
    UNION ALL
    SELECT
        origin, minute, user, worker, toUInt64(0), toUInt64(0), toUInt64(0),
        toDecimal128(0, 18), toDecimal256(0, 36), toDecimal128(0, 18), 0.
    FROM shares_1m
    WHERE (origin, minute) IN (${keys})
)
GROUP BY origin, minute, user, worker`;
}

/** A version above all that were given before; see above. @throws what the client throws */
export async function nextVersion(client: ClickHouseClient): Promise<bigint> {
  // A replicated table would drop the second of two equal rows as a repetition.
  await client.command({
    query: 'INSERT INTO version_ticks (ingest_ticks) SETTINGS async_insert = 0, insert_deduplicate = 0 VALUES (1)',
  });
  const answer = await client.query({
    query: 'SELECT toString(sum(ingest_ticks)) AS version FROM version_ticks',
    format: 'JSONEachRow',
  });
  const [row] = await answer.json<{ version: string }>();
  return BigInt(row!.version);
}

/**
 * Of these minutes those with a worker whose newest row is no retraction, and older than the minute's newest. Each version of a minute has all of its workers, so
 * such a row came late from another process, under a version that had not seen its worker vanish.
 */
function lateStatement(minutes: readonly Minute[]): string {
  const keys = minutes.map(({ origin, minuteS }) => `(${literal(origin)}, toDateTime(${minuteS}, 'UTC'))`).join(', ');
  return `SELECT toString(origin) AS origin, toUInt32(minute) AS minute FROM
    (
      SELECT origin, minute, user, worker, max(ingest_version) AS newest, argMax(ingest_deleted, ingest_version) AS gone
      FROM shares_1m_raw WHERE (origin, minute) IN (${keys}) GROUP BY origin, minute, user, worker
    )
    GROUP BY origin, minute HAVING minIf(newest, gone = 0) < max(newest) AND countIf(gone = 0) > 0`;
}

export class Rollups {
  readonly #client: ClickHouseClient;
  readonly #state: ConsumerState;
  readonly #shared: boolean;

  /** @param shared - other processes make minutes of these tables anew at the same time */
  constructor(client: ClickHouseClient, state: ConsumerState, shared = false) {
    this.#client = client;
    this.#state = state;
    this.#shared = shared;
  }

  /** Makes marked minutes anew. @returns how many @throws what the client throws; the marks stand then */
  async step(): Promise<number> {
    const through = this.#state.lastMark();
    const marks = this.#state.marks(MINUTES_AT_ONCE);
    if (marks.length === 0) return 0;
    const version = await nextVersion(this.#client);
    // Before the minutes themselves: what was kept of them (instant-parts.ts) must not outlive what it was made from, should we die between the two.
    await this.#noteVersion(marks, version);
    await this.#client.command({ query: rollupStatement(marks, version) });
    // Whoever writes last sees both.
    const late = this.#shared ? await this.#late(marks) : [];
    if (late.length > 0) this.#state.mark(late);
    this.#state.clearMarks(marks, through);
    return marks.length;
  }

  async #noteVersion(minutes: readonly Minute[], version: bigint): Promise<void> {
    const rows = minutes.map(({ origin, minuteS }) => ({ origin, minute: minuteS, ingest_version: String(version) }));
    try {
      await insertRows(this.#client, 'minute_versions', rows);
    } catch (error) {
      // ClickHouse's UNKNOWN_TABLE: in tables of an older version, which a replay looks at, nothing is kept either.
      if ((error as { code?: unknown } | null)?.code !== '60') throw error;
    }
  }

  async #late(minutes: readonly Minute[]): Promise<Minute[]> {
    const answer = await this.#client.query({ query: lateStatement(minutes), format: 'JSONEachRow' });
    const rows = await answer.json<{ origin: string; minute: number }>();
    return rows.map(({ origin, minute }) => ({ origin, minuteS: minute }));
  }
}
