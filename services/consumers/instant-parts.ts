/**
 * What the minutes of instants (a block of ours was found, an epoch began) held until then, kept in `instant_parts_raw` so that luck need not read the
 * shares of each such minute again and again.
 *
 *   each minute: instants without a part that holds, newest first ──► instant_parts_raw ──► view diff_until (which reads shares where none holds)
 *
 * It is a memory, not a fact: nothing of the log is in it that the tables do not have, replay empties it, and a row too few costs time alone. A part holds
 * while its minute has not been made anew under a higher version. Why that is enough: the versions are those of rollups.ts. Who makes a minute anew for
 * shares R has a tick after R; a version at or above that one was read after that tick, and the shares after the version, so R is in the part.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
import { nextVersion } from './rollups.ts';

const INSTANTS_AT_ONCE = 500;

interface Instant {
  readonly origin: string;
  /** Microseconds since 1970. */
  readonly at_us: string;
}

function fillStatement(instants: readonly Instant[], version: bigint): string {
  const keys = instants
    .map(({ origin, at_us }) => `(${literal(origin)}, fromUnixTimestamp64Micro(${at_us}, 'UTC'))`)
    .join(', ');
  return `INSERT INTO instant_parts_raw (origin, minute, at, diff, ingest_version)
WITH wanted AS (SELECT origin, at, minute FROM instants WHERE (origin, at) IN (${keys}))
SELECT i.origin, i.minute, i.at, ifNull(p.part, 0), toUInt64(${version})
FROM wanted AS i
LEFT JOIN
(
    SELECT b.origin AS origin, b.at AS at, sum(s.diff) AS part
    FROM
    (
        SELECT origin, time, toStartOfMinute(toDateTime(time, 'UTC')) AS minute, diff FROM shares
        WHERE (origin, bucket) IN (SELECT origin, bucket FROM share_minutes WHERE (origin, minute) IN (SELECT origin, minute FROM wanted)) AND accepted
    ) AS s
    INNER JOIN wanted AS b ON b.origin = s.origin AND b.minute = s.minute
    WHERE s.time <= b.at
    GROUP BY origin, at
) AS p ON p.origin = i.origin AND p.at = i.at`;
}

/**
 * Keeps the parts of some instants that have none. Those of the present minute and the one before are left: it is still made anew each second.
 * @returns how many were kept, and whether there may be more
 * @throws what the client throws
 */
export async function keepParts(client: ClickHouseClient): Promise<{ kept: number; more: boolean }> {
  const answer = await client.query({
    query: `SELECT toString(origin) AS origin, toString(toUnixTimestamp64Micro(at)) AS at_us FROM instants
      WHERE minute < toStartOfMinute(now('UTC')) - 60
        AND (origin, at) NOT IN (SELECT origin, at FROM instant_parts)
      ORDER BY at DESC LIMIT ${INSTANTS_AT_ONCE}`,
    format: 'JSONEachRow',
  });
  const instants = await answer.json<Instant>();
  if (instants.length > 0) {
    // The version first, then the shares: see rollups.ts.
    const version = await nextVersion(client);
    await client.command({ query: fillStatement(instants, version) });
  }
  return { kept: instants.length, more: instants.length === INSTANTS_AT_ONCE };
}
