-- Hashrates over seven windows, and luck: of each block of ours, of epochs, and of the search that goes on.

CREATE OR REPLACE VIEW hashrate_now
(
    origin            LowCardinality(String)  COMMENT 'Accounting point; never add several',
    level             String                  COMMENT 'pool, user or worker',
    user              String                  COMMENT 'User; empty at level pool',
    worker            String                  COMMENT 'Worker; empty at levels pool and user',
    window            String                  COMMENT 'The window as CKPool names it: 1m, 5m, 15m, 1h, 6h, 1d, 7d',
    window_s          UInt32                  COMMENT 'Its length in seconds; it ends with the last full minute',
    shares            UInt64                  COMMENT 'Accepted shares in it',
    diff              Decimal(38, 18)         COMMENT 'Sum of their diff',
    hashrate_hps      Float64                 COMMENT 'diff · W / window_s, hashes per second; 0 for who has stopped for as long',
    hashrate_low_hps  Float64                 COMMENT 'Lower end of the 95 % interval, from the sum of diff²',
    hashrate_high_hps Float64                 COMMENT 'Upper end of the 95 % interval; says nothing where there are no shares'
)
AS SELECT
    w.origin AS origin, w.level AS level, w.user AS user, w.worker AS worker,
    ['1m', '5m', '15m', '1h', '6h', '1d', '7d'][w.n] AS window,
    toUInt32([60, 300, 900, 3600, 21600, 86400, 604800][w.n]) AS window_s,
    w.shares AS shares, w.diff AS diff,
    toFloat64(w.diff) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / window_s AS hashrate_hps,
    greatest(0, toFloat64(w.diff) - 1.96 * sqrt(toFloat64(w.squares))) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / window_s AS hashrate_low_hps,
    (toFloat64(w.diff) + 1.96 * sqrt(toFloat64(w.squares))) * if(o.known_hashes = 0, 4294967296., o.known_hashes) / window_s AS hashrate_high_hps
FROM
(
    SELECT
        origin, level, n,
        if(level = 'pool', '', toString(m.user)) AS user,
        if(level = 'worker', toString(m.worker), '') AS worker,
        sum(m.counts[n]) AS shares, sum(m.diffs[n]) AS diff, sum(m.squares[n]) AS squares
    FROM
    (
        SELECT
            s.origin AS origin, s.user AS user, s.worker AS worker, toStartOfMinute(now('UTC')) AS until,
            [sumIf(s.accepted, s.minute >= until - 60), sumIf(s.accepted, s.minute >= until - 300), sumIf(s.accepted, s.minute >= until - 900),
                sumIf(s.accepted, s.minute >= until - 3600), sumIf(s.accepted, s.minute >= until - 21600),
                sumIf(s.accepted, s.minute >= until - 86400), sum(s.accepted)] AS counts,
            [sumIf(s.diff, s.minute >= until - 60), sumIf(s.diff, s.minute >= until - 300), sumIf(s.diff, s.minute >= until - 900),
                sumIf(s.diff, s.minute >= until - 3600), sumIf(s.diff, s.minute >= until - 21600),
                sumIf(s.diff, s.minute >= until - 86400), sum(s.diff)] AS diffs,
            [sumIf(s.diff_squares, s.minute >= until - 60), sumIf(s.diff_squares, s.minute >= until - 300), sumIf(s.diff_squares, s.minute >= until - 900),
                sumIf(s.diff_squares, s.minute >= until - 3600), sumIf(s.diff_squares, s.minute >= until - 21600),
                sumIf(s.diff_squares, s.minute >= until - 86400), sum(s.diff_squares)] AS squares
        FROM shares_1m AS s
        WHERE s.minute >= toStartOfMinute(now('UTC')) - 604800 AND s.minute < toStartOfMinute(now('UTC')) AND s.accepted > 0
        GROUP BY s.origin, s.user, s.worker
    ) AS m
    ARRAY JOIN ['pool', 'user', 'worker'] AS level
    ARRAY JOIN range(1, 8) AS n
    GROUP BY origin, level, n, user, worker
) AS w
LEFT JOIN (SELECT origin, toFloat64(hashes_per_difficulty) AS known_hashes FROM origins) AS o ON o.origin = w.origin
COMMENT 'One row is the hashrate of a pool, user or worker that had a share in the last seven days, over one window up to the last full minute; reads a week of the minutes of workers, no shares; the one view that reads the clock';

CREATE VIEW IF NOT EXISTS found_blocks
(
    origin           LowCardinality(String)  COMMENT 'Accounting point that found it',
    chain            LowCardinality(String)  COMMENT 'Name of the chain profile',
    height           UInt32                  COMMENT 'Height',
    hash             String                  COMMENT 'Block hash',
    status           LowCardinality(String)  COMMENT 'As in blocks: connected, confirmed, disconnected, orphaned, solved',
    on_chain         Bool                    COMMENT 'True: on the best chain',
    found_time       DateTime64(6, 'UTC')    COMMENT 'When our miner submitted it',
    user             LowCardinality(String)  COMMENT 'Who found it',
    worker           LowCardinality(String)  COMMENT 'Whose worker found it',
    difficulty       Float64                 COMMENT 'Difficulty of the network at it; 0 where unknown (back-fill)'
)
AS SELECT origin, chain, height, hash, status, on_chain, assumeNotNull(found_time) AS found_time, user, worker, difficulty
FROM (SELECT *, found_time AS submitted FROM blocks WHERE hash IN (SELECT hash FROM block_events_raw WHERE kind = 'solved'))
WHERE solved AND submitted IS NOT NULL
    AND (seen_time IS NOT NULL OR empty(answers) OR arrayExists(each -> each.2 IN ('accepted', 'duplicate', 'inconclusive', 'duplicate-inconclusive'), answers))
COMMENT 'One row is one block that a miner of ours found, orphans too; candidates that every node refused are left out';

CREATE VIEW IF NOT EXISTS diff_until
(
    origin  LowCardinality(String)  COMMENT 'Accounting point',
    at      DateTime64(6, 'UTC')    COMMENT 'The instant: a block of ours was found, or an epoch began',
    diff    Decimal(38, 18)         COMMENT 'Sum of diff of all accepted shares of the origin received up to it, this instant included'
)
AS WITH instants AS
(
    SELECT DISTINCT origin, at, toStartOfMinute(toDateTime(at, 'UTC')) AS minute FROM
    (
        SELECT origin, found_time AS at FROM found_blocks
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

CREATE VIEW IF NOT EXISTS block_luck
(
    origin        LowCardinality(String)  COMMENT 'Accounting point that found it',
    chain         LowCardinality(String)  COMMENT 'Name of the chain profile',
    height        UInt32                  COMMENT 'Height',
    hash          String                  COMMENT 'Block hash',
    status        LowCardinality(String)  COMMENT 'As in blocks: connected, confirmed, disconnected, orphaned, solved',
    on_chain      Bool                    COMMENT 'True: on the best chain',
    found_time    DateTime64(6, 'UTC')    COMMENT 'When our miner submitted it',
    user          LowCardinality(String)  COMMENT 'Who found it',
    worker        LowCardinality(String)  COMMENT 'Whose worker found it',
    difficulty    Float64                 COMMENT 'Difficulty of the network at it',
    diff          Decimal(38, 18)         COMMENT 'Sum of diff of the shares accepted since the block before of this origin (since the first share of all, for the first)',
    effort        Nullable(Float64)       COMMENT 'diff / difficulty: shares needed over shares expected. 1 (100 %) is expected, below is lucky. Null where the difficulty is not known',
    luck          Nullable(Float64)       COMMENT '1 / effort: above 1 (100 %) is lucky',
    luck_10       Nullable(Float64)       COMMENT 'Blocks found over blocks expected, of the ten blocks that end with this one (fewer at the start): their number over the sum of their efforts',
    luck_100      Nullable(Float64)       COMMENT 'The same of a hundred'
)
AS SELECT
    origin, chain, height, hash, status, on_chain, found_time, user, worker, difficulty, diff, effort,
    if(effort > 0, 1 / effort, NULL) AS luck,
    if(sum(effort) OVER ten > 0, count(effort) OVER ten / sum(effort) OVER ten, NULL) AS luck_10,
    if(sum(effort) OVER hundred > 0, count(effort) OVER hundred / sum(effort) OVER hundred, NULL) AS luck_100
FROM
(
    SELECT
        f.*, u.diff AS until_now,
        until_now - lagInFrame(until_now, 1, toDecimal128(0, 18)) OVER (PARTITION BY origin ORDER BY found_time, height, hash ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS diff,
        if(difficulty > 0, toFloat64(diff) / difficulty, NULL) AS effort
    FROM found_blocks AS f INNER JOIN diff_until AS u ON u.origin = f.origin AND u.at = f.found_time
)
WINDOW
    ten AS (PARTITION BY origin ORDER BY found_time, height, hash ROWS BETWEEN 9 PRECEDING AND CURRENT ROW),
    hundred AS (PARTITION BY origin ORDER BY found_time, height, hash ROWS BETWEEN 99 PRECEDING AND CURRENT ROW)
COMMENT 'One row is one block that a miner of ours found, with what it took; orphans end a search as any other block';

CREATE VIEW IF NOT EXISTS epoch_luck
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
    if(e.next_first IS NULL, t.total, n.diff) - u.diff AS diff,
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

CREATE VIEW IF NOT EXISTS effort_now
(
    origin      LowCardinality(String)          COMMENT 'Accounting point',
    chain       LowCardinality(String)          COMMENT 'Chain of its latest job',
    since       Nullable(DateTime64(6, 'UTC'))  COMMENT 'When its latest block was found; null before the first',
    difficulty  Float64                         COMMENT 'Difficulty of the network that its latest job is of',
    diff        Decimal(38, 18)                 COMMENT 'Sum of diff of the shares accepted since',
    effort      Nullable(Float64)               COMMENT 'diff / difficulty, of the search that goes on: 1 (100 %) is expected',
    chance      Nullable(Float64)               COMMENT 'How likely it was to find a block by now: 1 - exp(-effort)'
)
AS SELECT
    t.origin AS origin, j.chain AS chain, if(b.origin = '', NULL, toNullable(b.at)) AS since, j.difficulty AS difficulty,
    t.total - b.until_then AS diff,
    if(j.difficulty > 0, toFloat64(diff) / j.difficulty, NULL) AS effort,
    1 - exp(-effort) AS chance
FROM (SELECT origin, sum(s.diff) AS total FROM shares_1m AS s GROUP BY origin) AS t
INNER JOIN (SELECT origin, argMax(chain, (time, job_key)) AS chain, argMax(network_diff, (time, job_key)) AS difficulty FROM jobs_raw GROUP BY origin) AS j ON j.origin = t.origin
LEFT JOIN
(
    SELECT f.origin AS origin, max(f.found_time) AS at, argMax(u.diff, f.found_time) AS until_then
    FROM found_blocks AS f INNER JOIN diff_until AS u ON u.origin = f.origin AND u.at = f.found_time
    GROUP BY origin
) AS b ON b.origin = t.origin
COMMENT 'One row is the search of one accounting point for its next block';
