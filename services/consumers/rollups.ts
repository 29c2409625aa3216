/**
 * Roll-ups per minute: minutes that cuts have touched are recomputed from `shares` (deduplicated) and replaced under a rising version. A
 * worker that no longer has a share in its minute is retracted, because the keys that stand there are recomputed with the rest.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
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

/** The version above all that a table has. */
export async function nextVersion(client: ClickHouseClient, table: string): Promise<bigint> {
  const answer = await client.query({
    query: `SELECT toString(max(ingest_version)) AS version FROM ${table}`,
    format: 'JSONEachRow',
  });
  const [row] = await answer.json<{ version: string }>();
  return BigInt(row?.version ?? '0') + 1n;
}

export class Rollups {
  readonly #client: ClickHouseClient;
  readonly #state: ConsumerState;
  #version: bigint | null = null;

  constructor(client: ClickHouseClient, state: ConsumerState) {
    this.#client = client;
    this.#state = state;
  }

  /** Makes marked minutes anew. @returns how many @throws what the client throws; the marks stand then */
  async step(): Promise<number> {
    const marks = this.#state.marks(MINUTES_AT_ONCE);
    if (marks.length === 0) return 0;
    this.#version ??= await nextVersion(this.#client, 'shares_1m_raw');
    await this.#client.command({ query: rollupStatement(marks, this.#version) });
    this.#version += 1n;
    this.#state.clearMarks(marks);
    return marks.length;
  }
}
