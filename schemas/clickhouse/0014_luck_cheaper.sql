-- Luck without `blocks` for each instant, which looks at the whole chain; and the present search from what came after the latest block, so that a minute that
-- is not rolled up yet does not make it less than nothing.

CREATE VIEW IF NOT EXISTS found_instants
(
    origin  LowCardinality(String)  COMMENT 'Accounting point that found it',
    hash    String                  COMMENT 'Block hash',
    at      DateTime64(6, 'UTC')    COMMENT 'When our miner submitted it'
)
AS SELECT origin, hash, time AS at
FROM block_events_raw FINAL
WHERE kind = 'solved'
    AND (empty(answers) OR arrayExists(each -> each.2 IN ('accepted', 'duplicate', 'inconclusive', 'duplicate-inconclusive'), answers)
        OR hash IN (SELECT hash FROM block_events_raw WHERE kind = 'connected'))
COMMENT 'One row is one block that a miner of ours found, orphans too; candidates that every node refused are left out';

CREATE OR REPLACE VIEW diff_until
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    at      DateTime64(6, 'UTC')    COMMENT 'The instant: a block of ours was found, or an epoch began',
    diff    Decimal(38, 18)         COMMENT 'Sum of diff of all accepted shares of the origin received up to it, this instant included'
)
AS WITH instants AS
(
    SELECT DISTINCT origin, at, toStartOfMinute(toDateTime(at, 'UTC')) AS minute FROM
    (
        SELECT origin, at FROM found_instants
        UNION ALL SELECT o.origin, e.first_time FROM epochs AS e INNER JOIN origins AS o ON o.chain = e.chain
    )
)
SELECT i.origin AS origin, i.at AS at, ifNull(w.whole, 0) + ifNull(p.part, 0) AS diff
FROM instants AS i
LEFT JOIN
(
    SELECT b.origin AS origin, b.minute AS minute, any(m.whole) AS whole
    FROM (SELECT DISTINCT origin, minute FROM instants) AS b
    ASOF INNER JOIN
    (
        SELECT origin, minute, sum(sum(s.diff)) OVER (PARTITION BY origin ORDER BY minute ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS whole
        FROM shares_1m AS s WHERE s.accepted > 0 GROUP BY origin, minute
    ) AS m ON m.origin = b.origin AND m.minute < b.minute
    GROUP BY origin, minute
) AS w ON w.origin = i.origin AND w.minute = i.minute
LEFT JOIN
(
    SELECT b.origin AS origin, b.at AS at, sum(s.diff) AS part
    FROM
    (
        SELECT origin, time, toStartOfMinute(toDateTime(time, 'UTC')) AS minute, diff FROM shares
        WHERE (origin, bucket) IN (SELECT origin, bucket FROM share_minutes WHERE (origin, minute) IN (SELECT origin, minute FROM instants)) AND accepted
    ) AS s
    INNER JOIN instants AS b ON b.origin = s.origin AND b.minute = s.minute
    WHERE s.time <= b.at
    GROUP BY origin, at
) AS p ON p.origin = i.origin AND p.at = i.at
COMMENT 'One row is one instant and the work accepted until then, to the share; reads the minutes of all time, and the shares of the hours that have a minute with such an instant';

CREATE OR REPLACE VIEW epoch_luck
(
    origin      LowCardinality(String)          COMMENT 'Accounting point',
    chain       LowCardinality(String)          COMMENT 'Name of the chain profile',
    epoch       UInt32                          COMMENT 'n: heights n·B to n·B+B-1',
    status      LowCardinality(String)          COMMENT 'open, closed or final',
    from_time   DateTime64(6, 'UTC')            COMMENT 'Time in the header of block n·B: shares received later count',
    to_time     Nullable(DateTime64(6, 'UTC'))  COMMENT 'Time in the header of block (n+1)·B: shares received later do not count; null while it is open',
    difficulty  Float64                         COMMENT 'Difficulty of block n·B',
    diff        Decimal(38, 18)                 COMMENT 'Sum of diff of the shares accepted between',
    expected    Float64                         COMMENT 'Blocks expected of them: diff / difficulty',
    found       UInt64                          COMMENT 'Blocks found at its heights, orphans too',
    luck        Nullable(Float64)               COMMENT 'found / expected: above 1 (100 %) is lucky; null where nothing was expected'
)
AS SELECT
    o.origin AS origin, e.chain AS chain, e.epoch AS epoch, e.status AS status, e.first_time AS from_time, e.next_first AS to_time, e.difficulty AS difficulty,
    if(e.next_first IS NULL, greatest(t.total, u.diff), n.diff) - u.diff AS diff,
    toFloat64(diff) / e.difficulty AS expected,
    f.found AS found,
    if(expected > 0, found / expected, NULL) AS luck
FROM (SELECT *, leadInFrame(toNullable(first_time), 1, NULL) OVER (PARTITION BY chain ORDER BY epoch ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_first FROM epochs) AS e
INNER JOIN origins AS o ON o.chain = e.chain
INNER JOIN diff_until AS u ON u.origin = o.origin AND u.at = e.first_time
LEFT JOIN diff_until AS n ON n.origin = o.origin AND n.at = ifNull(e.next_first, e.first_time)
LEFT JOIN (SELECT origin, sum(s.diff) AS total FROM shares_1m AS s GROUP BY origin) AS t ON t.origin = o.origin
LEFT JOIN
(
    SELECT b.origin AS origin, b.chain AS chain, intDiv(b.height, c.payout_blocks) AS epoch, count() AS found
    FROM found_blocks AS b INNER JOIN (SELECT chain, payout_blocks FROM chains FINAL) AS c ON c.chain = b.chain
    GROUP BY origin, chain, epoch
) AS f ON f.origin = o.origin AND f.chain = e.chain AND f.epoch = e.epoch
COMMENT 'One row is one epoch as one accounting point mined it. An epoch of which the pool mined a part alone counts that part';

CREATE OR REPLACE VIEW effort_now
(
    origin      LowCardinality(String)          COMMENT 'Accounting point',
    chain       LowCardinality(String)          COMMENT 'Chain of its latest job',
    since       Nullable(DateTime64(6, 'UTC'))  COMMENT 'When its latest block was found; null before the first',
    difficulty  Float64                         COMMENT 'Difficulty of the network that its latest job is of',
    diff        Decimal(38, 18)                 COMMENT 'Sum of diff of the shares accepted since',
    effort      Nullable(Float64)               COMMENT 'diff / difficulty, of the search that goes on: 1 (100 %) is expected',
    chance      Nullable(Float64)               COMMENT 'How likely it was to find a block by now: 1 - exp(-effort)'
)
AS WITH latest AS (SELECT origin, max(each) AS at, toStartOfMinute(toDateTime(max(each), 'UTC')) AS minute FROM (SELECT origin, at AS each FROM found_instants) GROUP BY origin)
SELECT
    j.origin AS origin, j.chain AS chain, if(b.origin = '', NULL, toNullable(b.at)) AS since, j.difficulty AS difficulty,
    ifNull(w.later, 0) + ifNull(p.part, 0) AS diff,
    if(j.difficulty > 0, toFloat64(diff) / j.difficulty, NULL) AS effort,
    1 - exp(-effort) AS chance
FROM (SELECT origin, argMax(chain, (time, job_key)) AS chain, argMax(network_diff, (time, job_key)) AS difficulty FROM jobs_raw GROUP BY origin) AS j
LEFT JOIN latest AS b ON b.origin = j.origin
LEFT JOIN
(
    SELECT m.origin AS origin, sum(m.diff) AS later
    FROM shares_1m AS m LEFT JOIN latest AS l ON l.origin = m.origin
    WHERE l.origin = '' OR m.minute > l.minute
    GROUP BY origin
) AS w ON w.origin = j.origin
LEFT JOIN
(
    SELECT s.origin AS origin, sum(s.diff) AS part
    FROM (SELECT origin, time, diff FROM shares WHERE (origin, bucket) IN (SELECT origin, bucket FROM share_minutes WHERE (origin, minute) IN (SELECT origin, minute FROM latest)) AND accepted) AS s
    INNER JOIN latest AS l ON l.origin = s.origin
    WHERE s.time > l.at AND toStartOfMinute(toDateTime(s.time, 'UTC')) = l.minute
    GROUP BY origin
) AS p ON p.origin = j.origin
COMMENT 'One row is the search of one accounting point for its next block; reads the minutes since the latest, and the shares of that one''s minute';
