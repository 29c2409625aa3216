-- Luck that does not read the shares of all minutes in which a block was found: what such a minute held until then is kept, and may be forgotten at any time.

CREATE OR REPLACE VIEW found_instants
(
    origin  LowCardinality(String)  COMMENT 'Accounting point that found it',
    hash    String                  COMMENT 'Block hash',
    at      DateTime64(6, 'UTC')    COMMENT 'When our miner submitted it',
    chain   LowCardinality(String)  COMMENT 'Name of the chain profile',
    height  UInt32                  COMMENT 'Height'
)
AS SELECT origin, hash, time AS at, chain, height
FROM block_events_raw FINAL
WHERE kind = 'solved'
    AND (empty(answers) OR arrayExists(each -> each.2 IN ('accepted', 'duplicate', 'inconclusive', 'duplicate-inconclusive'), answers)
        OR hash IN (SELECT hash FROM block_events_raw WHERE kind = 'connected'))
COMMENT 'One row is one block that a miner of ours found, orphans too; candidates that every node refused are left out';

CREATE VIEW IF NOT EXISTS instants
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    at      DateTime64(6, 'UTC')    COMMENT 'The instant: a block of ours was found, or an epoch began',
    minute  DateTime('UTC')         COMMENT 'The minute that it lies in'
)
AS SELECT DISTINCT origin, at, toStartOfMinute(toDateTime(at, 'UTC')) AS minute FROM
(
    SELECT origin, at FROM found_instants
    UNION ALL SELECT o.origin, e.first_time FROM epochs AS e INNER JOIN origins AS o ON o.chain = e.chain
)
COMMENT 'One row is one instant until which work is summed up';

CREATE TABLE IF NOT EXISTS minute_versions
(
    origin          LowCardinality(String)  COMMENT 'Accounting point',
    minute          DateTime('UTC')         COMMENT 'Minute of receipt',
    ingest_version  UInt64                  COMMENT 'Under which it was made anew the last time; rising, the highest stays'
)
ENGINE = ReplacingMergeTree(ingest_version)
ORDER BY (origin, minute)
COMMENT 'One row says under which version a minute of shares_1m was made last; ordered by origin and minute (read with FINAL); written before the minute, read by instant_parts';

CREATE TABLE IF NOT EXISTS instant_parts_raw
(
    origin          LowCardinality(String)  COMMENT 'Accounting point',
    minute          DateTime('UTC')         COMMENT 'The minute that the instant lies in',
    at              DateTime64(6, 'UTC')    COMMENT 'The instant',
    diff            Decimal(38, 18)         COMMENT 'Sum of diff of the accepted shares of that minute received up to the instant, this included',
    ingest_version  UInt64                  COMMENT 'Rising; the highest stays. It holds while the minute has not been made anew under a higher one'
)
ENGINE = ReplacingMergeTree(ingest_version)
ORDER BY (origin, minute, at)
COMMENT 'One row is one version of what the minute of an instant held until then; ordered by origin, minute and instant, the newest version stays. Kept to spare reading shares, may be emptied. Read the view instant_parts.';

CREATE VIEW IF NOT EXISTS instant_parts
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    minute  DateTime('UTC')         COMMENT 'The minute that the instant lies in',
    at      DateTime64(6, 'UTC')    COMMENT 'The instant',
    diff    Decimal(38, 18)         COMMENT 'Sum of diff of the accepted shares of that minute received up to the instant, this included'
)
AS SELECT p.origin AS origin, p.minute AS minute, p.at AS at, p.diff AS diff
FROM (SELECT * FROM instant_parts_raw FINAL) AS p
LEFT JOIN (SELECT origin, minute, ingest_version AS made FROM minute_versions FINAL) AS m ON m.origin = p.origin AND m.minute = p.minute
WHERE p.ingest_version >= ifNull(m.made, 0)
COMMENT 'One row is one instant of which it is kept what its minute held until then, in minutes that were not made anew since';

CREATE OR REPLACE VIEW diff_until
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    at      DateTime64(6, 'UTC')    COMMENT 'The instant: a block of ours was found, or an epoch began',
    diff    Decimal(38, 18)         COMMENT 'Sum of diff of all accepted shares of the origin received up to it, this instant included'
)
AS WITH missing AS (SELECT origin, at, minute FROM instants WHERE (origin, at) NOT IN (SELECT origin, at FROM instant_parts))
SELECT w.origin AS origin, w.at AS at, w.whole + ifNull(p.part, 0) AS diff
FROM
(
    SELECT i.origin AS origin, i.at AS at, ifNull(m.whole, 0) AS whole
    FROM instants AS i
    ASOF LEFT JOIN
    (
        SELECT origin, minute, sum(sum(s.diff)) OVER (PARTITION BY origin ORDER BY minute ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS whole
        FROM shares_1m AS s WHERE s.accepted > 0 GROUP BY origin, minute
    ) AS m ON m.origin = i.origin AND m.minute < i.minute
) AS w
LEFT JOIN
(
    SELECT origin, at, k.diff AS part FROM instant_parts AS k
    UNION ALL
    SELECT b.origin AS origin, b.at AS at, sum(s.diff) AS part
    FROM
    (
        SELECT origin, time, toStartOfMinute(toDateTime(time, 'UTC')) AS minute, diff FROM shares
        WHERE (origin, bucket) IN (SELECT origin, bucket FROM share_minutes WHERE (origin, minute) IN (SELECT origin, minute FROM missing)) AND accepted
    ) AS s
    INNER JOIN missing AS b ON b.origin = s.origin AND b.minute = s.minute
    WHERE s.time <= b.at
    GROUP BY origin, at
) AS p ON p.origin = w.origin AND p.at = w.at
COMMENT 'One row is one instant and the work accepted until then, to the share; reads the minutes of all time, and shares only of instants of which instant_parts has nothing';

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
    e.origin AS origin, e.chain AS chain, e.epoch AS epoch, e.status AS status, e.first_time AS from_time, e.next_first AS to_time, e.difficulty AS difficulty,
    if(e.next_first IS NULL, greatest(t.total, e.until_first), e.until_next) - e.until_first AS diff,
    toFloat64(diff) / e.difficulty AS expected,
    f.found AS found,
    if(expected > 0, found / expected, NULL) AS luck
FROM
(
    SELECT
        s.*, u.until AS until_first,
        leadInFrame(toNullable(s.first_time), 1, NULL) OVER later AS next_first,
        leadInFrame(u.until, 1, toDecimal128(0, 18)) OVER later AS until_next
    FROM
    (
        SELECT o.origin AS origin, n.chain AS chain, n.epoch AS epoch, n.status AS status, n.first_time AS first_time, n.difficulty AS difficulty
        FROM epochs AS n INNER JOIN origins AS o ON o.chain = n.chain
    ) AS s
    INNER JOIN (SELECT origin AS pool, at, diff AS until FROM diff_until) AS u ON u.pool = s.origin AND u.at = s.first_time
    WINDOW later AS (PARTITION BY s.origin, s.chain ORDER BY s.epoch ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
) AS e
LEFT JOIN (SELECT origin, sum(s.diff) AS total FROM shares_1m AS s GROUP BY origin) AS t ON t.origin = e.origin
LEFT JOIN
(
    SELECT b.origin AS origin, b.chain AS chain, intDiv(b.height, c.payout_blocks) AS epoch, count() AS found
    FROM found_instants AS b INNER JOIN (SELECT chain, payout_blocks FROM chains FINAL) AS c ON c.chain = b.chain
    GROUP BY origin, chain, epoch
) AS f ON f.origin = e.origin AND f.chain = e.chain AND f.epoch = e.epoch
COMMENT 'One row is one epoch as one accounting point mined it. An epoch of which the pool mined a part alone counts that part';
