-- Roll-ups. Minutes that a batch touched are recomputed from shares and replaced; hours and days are views over them; nothing adds up on the way in.

CREATE TABLE IF NOT EXISTS share_minutes
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    minute  DateTime('UTC')         COMMENT 'Minute of receipt',
    bucket  DateTime('UTC')         COMMENT 'Hour by which shares_raw is sorted, of some share received in that minute'
)
ENGINE = ReplacingMergeTree
ORDER BY (origin, minute, bucket)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row says in which bucket a minute''s shares are found; ordered and deduplicated by all columns; written before the shares, read by the roll-up';

CREATE TABLE IF NOT EXISTS shares_1m_raw
(
    origin           LowCardinality(String)  COMMENT 'Accounting point',
    minute           DateTime('UTC')         COMMENT 'Minute of receipt',
    user             LowCardinality(String)  COMMENT 'User',
    worker           LowCardinality(String)  COMMENT 'Worker',
    accepted         UInt64                  COMMENT 'Accepted shares',
    refused          UInt64                  COMMENT 'Refused submissions',
    stale            UInt64                  COMMENT 'Of the refused those on old or unknown work (errn 1 and 2)',
    diff             Decimal(38, 18)         COMMENT 'Sum of diff of the accepted',
    diff_squares     Decimal(76, 36)         COMMENT 'Sum of diff² of the accepted, for intervals',
    refused_diff     Decimal(38, 18)         COMMENT 'Sum of diff of the refused',
    best_sdiff       Float64                 COMMENT 'Highest difficulty reached by an accepted share; 0 where none',
    ingest_version   UInt64                  COMMENT 'Rising; the highest stays',
    ingest_deleted   UInt8                   COMMENT '1: retracted'
)
ENGINE = ReplacingMergeTree(ingest_version, ingest_deleted)
PARTITION BY toYYYYMM(minute)
ORDER BY (origin, minute, user, worker)
COMMENT 'One row is one version of one worker''s minute; ordered by origin, minute, user, worker; the newest version stays. Read the view shares_1m.';

CREATE VIEW IF NOT EXISTS shares_1m
(
    origin           LowCardinality(String)  COMMENT 'Accounting point; never add several',
    minute           DateTime('UTC')         COMMENT 'Minute of receipt',
    user             LowCardinality(String)  COMMENT 'User',
    worker           LowCardinality(String)  COMMENT 'Worker',
    accepted         UInt64                  COMMENT 'Accepted shares',
    refused          UInt64                  COMMENT 'Refused submissions',
    stale            UInt64                  COMMENT 'Of the refused those on old or unknown work (errn 1 and 2)',
    diff             Decimal(38, 18)         COMMENT 'Sum of diff of the accepted',
    diff_squares     Decimal(76, 36)         COMMENT 'Sum of diff² of the accepted, for intervals',
    refused_diff     Decimal(38, 18)         COMMENT 'Sum of diff of the refused',
    best_sdiff       Float64                 COMMENT 'Highest difficulty reached by an accepted share; 0 where none'
)
AS SELECT * EXCEPT (ingest_version, ingest_deleted)
FROM shares_1m_raw FINAL
WHERE ingest_deleted = 0
COMMENT 'One row is one worker''s minute';

CREATE VIEW IF NOT EXISTS shares_1h
(
    origin           LowCardinality(String)  COMMENT 'Accounting point; never add several',
    hour             DateTime('UTC')         COMMENT 'Hour of receipt',
    user             LowCardinality(String)  COMMENT 'User',
    worker           LowCardinality(String)  COMMENT 'Worker',
    accepted         UInt64                  COMMENT 'Accepted shares',
    refused          UInt64                  COMMENT 'Refused submissions',
    stale            UInt64                  COMMENT 'Of the refused those on old or unknown work (errn 1 and 2)',
    diff             Decimal(38, 18)         COMMENT 'Sum of diff of the accepted',
    diff_squares     Decimal(76, 36)         COMMENT 'Sum of diff² of the accepted, for intervals',
    refused_diff     Decimal(38, 18)         COMMENT 'Sum of diff of the refused',
    best_sdiff       Float64                 COMMENT 'Highest difficulty reached by an accepted share; 0 where none'
)
AS SELECT
    origin, toStartOfHour(minute) AS hour, user, worker, sum(m.accepted) AS accepted, sum(m.refused) AS refused, sum(m.stale) AS stale,
    sum(m.diff) AS diff, sum(m.diff_squares) AS diff_squares, sum(m.refused_diff) AS refused_diff, max(m.best_sdiff) AS best_sdiff
FROM shares_1m AS m
GROUP BY origin, hour, user, worker
COMMENT 'One row is one worker''s hour';

CREATE VIEW IF NOT EXISTS shares_1d
(
    origin           LowCardinality(String)  COMMENT 'Accounting point; never add several',
    day              Date                    COMMENT 'Day of receipt, UTC',
    user             LowCardinality(String)  COMMENT 'User',
    worker           LowCardinality(String)  COMMENT 'Worker',
    accepted         UInt64                  COMMENT 'Accepted shares',
    refused          UInt64                  COMMENT 'Refused submissions',
    stale            UInt64                  COMMENT 'Of the refused those on old or unknown work (errn 1 and 2)',
    diff             Decimal(38, 18)         COMMENT 'Sum of diff of the accepted',
    diff_squares     Decimal(76, 36)         COMMENT 'Sum of diff² of the accepted, for intervals',
    refused_diff     Decimal(38, 18)         COMMENT 'Sum of diff of the refused',
    best_sdiff       Float64                 COMMENT 'Highest difficulty reached by an accepted share; 0 where none'
)
AS SELECT
    origin, toDate(minute) AS day, user, worker, sum(m.accepted) AS accepted, sum(m.refused) AS refused, sum(m.stale) AS stale,
    sum(m.diff) AS diff, sum(m.diff_squares) AS diff_squares, sum(m.refused_diff) AS refused_diff, max(m.best_sdiff) AS best_sdiff
FROM shares_1m AS m
GROUP BY origin, day, user, worker
COMMENT 'One row is one worker''s day';

CREATE VIEW IF NOT EXISTS origins
(
    origin                 LowCardinality(String)  COMMENT 'Accounting point',
    chain                  LowCardinality(String)  COMMENT 'Chain of its latest job',
    hashes_per_difficulty  UInt256                 COMMENT 'W of that chain; 2^32 where its profile is not known here'
)
AS SELECT j.origin AS origin, j.chain AS chain, if(c.hashes_per_difficulty = 0, toUInt256(4294967296), c.hashes_per_difficulty) AS hashes_per_difficulty
FROM (SELECT origin, argMax(chain, (time, job_key)) AS chain FROM jobs_raw GROUP BY origin) AS j
LEFT JOIN (SELECT chain, hashes_per_difficulty FROM chains FINAL) AS c ON c.chain = j.chain
COMMENT 'One row is one accounting point that has built a job, and the chain it mines';

CREATE VIEW IF NOT EXISTS hashrate_now
(
    origin            LowCardinality(String)  COMMENT 'Accounting point; never add several',
    level             String                  COMMENT 'pool, user or worker',
    user              String                  COMMENT 'User; empty at level pool',
    worker            String                  COMMENT 'Worker; empty at levels pool and user',
    window_s          UInt32                  COMMENT 'Length of the window that ends with the last full minute: 60, 300, 3600, 86400 seconds',
    shares            UInt64                  COMMENT 'Accepted shares in it',
    diff              Decimal(38, 18)         COMMENT 'Sum of their diff',
    hashrate_hps      Float64                 COMMENT 'diff · W / window_s, hashes per second',
    hashrate_low_hps  Float64                 COMMENT 'Lower end of the 95 % interval, from the sum of diff²',
    hashrate_high_hps Float64                 COMMENT 'Upper end of the 95 % interval'
)
AS SELECT
    w.origin AS origin, w.level AS level, w.user AS user, w.worker AS worker, w.window_s AS window_s, w.shares AS shares, w.diff AS diff,
    toFloat64(w.diff) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / w.window_s AS hashrate_hps,
    greatest(0, toFloat64(w.diff) - 1.96 * sqrt(toFloat64(w.squares))) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / w.window_s AS hashrate_low_hps,
    (toFloat64(w.diff) + 1.96 * sqrt(toFloat64(w.squares))) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / w.window_s AS hashrate_high_hps
FROM
(
    SELECT
        origin, level, window_s,
        if(level = 'pool', '', toString(m.user)) AS user,
        if(level = 'worker', toString(m.worker), '') AS worker,
        sum(m.accepted) AS shares, sum(m.diff) AS diff, sum(m.diff_squares) AS squares
    FROM
    (
        SELECT *, arrayJoin(['pool', 'user', 'worker']) AS level, toUInt32(arrayJoin([60, 300, 3600, 86400])) AS window_s
        FROM shares_1m
        WHERE minute >= toStartOfMinute(now('UTC')) - 86400 AND minute < toStartOfMinute(now('UTC')) AND accepted > 0
    ) AS m
    WHERE m.minute >= toStartOfMinute(now('UTC')) - window_s
    GROUP BY origin, level, window_s, user, worker
) AS w
LEFT JOIN (SELECT origin, toFloat64(hashes_per_difficulty) AS known_hashes FROM origins) AS o ON o.origin = w.origin
COMMENT 'One row is the hashrate of a pool, user or worker over one window up to the last full minute; the one view that reads the clock';
