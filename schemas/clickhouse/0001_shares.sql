-- Shares: the raw table that replaces by identity, and what everyone reads.
-- Files are numbered, appended, never edited; statements are separated by a semicolon and an empty line, and sent one by one.

CREATE TABLE IF NOT EXISTS shares_raw
(
    origin         LowCardinality(String)  COMMENT 'Accounting point: a pool or one proxy level',
    bucket         DateTime('UTC')         COMMENT 'Hour, a function of the identity: of ntime for accepted shares and verdicts, of receipt for refused ones',
    identity       String                  COMMENT 'With origin what makes two copies one share: the proof-of-work hash where accepted, a digest where refused, verdict:hash:upstream for verdicts',
    rank           UInt128                 COMMENT 'Order of copies, the highest wins: live before others, then smallest receipt instant, then smallest digest of the row',
    kind           LowCardinality(String)  COMMENT 'submitted, or verdict: what the upstream pool said of a share forwarded to it',
    instance       LowCardinality(String)  COMMENT 'Process that saw it; never part of an identity',
    source         LowCardinality(String)  COMMENT 'live (the daemon) or backfill (a share log)',
    time           DateTime64(6, 'UTC')    COMMENT 'Receipt, microseconds',
    time_ns        UInt16                  COMMENT 'Nanoseconds within the microsecond of receipt, 0 to 999',
    client_id      UInt64                  COMMENT 'Connection number in its process',
    listener       LowCardinality(String)  COMMENT 'Listen address that the client used',
    job_id         String                  COMMENT 'Job id as the miner sent it; of a back-filled line the workinfoid as 16 hex digits',
    job_key        String                  COMMENT 'Identity of the job; empty where unknown (unknown job, back-fill)',
    height         UInt32                  COMMENT 'Height of the block being mined; 0 where unknown',
    user           LowCardinality(String)  COMMENT 'Worker name up to the first . or _',
    worker         LowCardinality(String)  COMMENT 'Worker name as authorized',
    agent          LowCardinality(String)  COMMENT 'User agent of the miner''s software',
    address        String                  COMMENT 'Client''s network address',
    accepted       Bool                    COMMENT 'True: credited',
    errn           Int32                   COMMENT 'CKPool''s number: 0 accepted, 1 unknown job, 2 stale, 3 ntime, 4 duplicate, 5 above target, below 0 malformed',
    reason         LowCardinality(String)  COMMENT 'Why it was refused, in words; empty when accepted',
    diff           Decimal(38, 18)         COMMENT 'Difficulty required, and credited if accepted; the double rounded half-even to 18 decimals',
    sdiff          Float64                 COMMENT 'Difficulty reached, never summed; -1 where no hash was computed',
    hash           String                  COMMENT 'Proof-of-work hash, 64 hex digits as CKPool prints it; empty where not computed',
    block_hash     String                  COMMENT 'Block hash where it differs from hash (scrypt chains); else empty',
    enonce1        String                  COMMENT 'Full extranonce1, hex',
    nonce2         String                  COMMENT 'Extranonce2, hex',
    nonce          String                  COMMENT 'Nonce, 8 hex digits as sent',
    ntime          String                  COMMENT 'Time, 8 hex digits as sent',
    version_bits   String                  COMMENT 'Rolled version bits, 8 hex digits; empty where none were sent or where unknown (back-fill)',
    upstream       LowCardinality(String)  COMMENT 'verdict: the upstream pool asked, host:port'
)
ENGINE = ReplacingMergeTree(rank)
PARTITION BY toYYYYMM(bucket)
ORDER BY (origin, bucket, identity)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of one submission or upstream verdict; ordered by origin, bucket, identity; of copies with equal order the highest rank stays. Read the views shares and share_verdicts.';

CREATE VIEW IF NOT EXISTS shares
(
    time           DateTime64(6, 'UTC')    COMMENT 'Receipt, UTC, microseconds',
    origin         LowCardinality(String)  COMMENT 'Accounting point: a pool or one proxy level; never add several',
    instance       LowCardinality(String)  COMMENT 'Process that saw it',
    source         LowCardinality(String)  COMMENT 'live (the daemon) or backfill (a share log: without version bits and exact job, so it cannot be audited against a header)',
    job_id         String                  COMMENT 'Job id as the miner sent it; of a back-filled line the workinfoid as 16 hex digits',
    workinfoid     UInt64                  COMMENT 'job_id as the number in CKPool''s logs; 0 where it is not 1 to 16 hex digits',
    job_key        String                  COMMENT 'Identity of the job, joins jobs; empty where unknown (unknown job, back-fill)',
    height         UInt32                  COMMENT 'Height of the block being mined; 0 where unknown',
    user           LowCardinality(String)  COMMENT 'Worker name up to the first . or _',
    worker         LowCardinality(String)  COMMENT 'Worker name as authorized',
    agent          LowCardinality(String)  COMMENT 'User agent of the miner''s software',
    address        String                  COMMENT 'Client''s network address',
    client_id      UInt64                  COMMENT 'Connection number in its process',
    listener       LowCardinality(String)  COMMENT 'Listen address that the client used',
    accepted       Bool                    COMMENT 'True: credited',
    errn           Int32                   COMMENT 'CKPool''s number: 0 accepted, 1 unknown job, 2 stale, 3 ntime, 4 duplicate, 5 above target, below 0 malformed',
    reason         LowCardinality(String)  COMMENT 'Why it was refused, in words; empty when accepted',
    diff           Decimal(38, 18)         COMMENT 'Difficulty required, and credited if accepted; sums are exact',
    sdiff          Float64                 COMMENT 'Difficulty reached; a double, do not sum; -1 where no hash was computed',
    hash           String                  COMMENT 'Proof-of-work hash, 64 hex digits as CKPool prints it; empty where not computed',
    block_hash     String                  COMMENT 'Block hash, joins blocks where the share solved one; equals hash except on scrypt chains',
    nonce          String                  COMMENT 'Nonce, 8 hex digits as sent',
    nonce2         String                  COMMENT 'Extranonce2, hex',
    enonce1        String                  COMMENT 'Full extranonce1, hex',
    ntime          String                  COMMENT 'Time, 8 hex digits as sent',
    version_bits   String                  COMMENT 'Rolled version bits, 8 hex digits; empty where none were sent or where unknown (back-fill)',
    time_ns        UInt16                  COMMENT 'Nanoseconds within the microsecond of receipt (CKPool''s logs have them)',
    bucket         DateTime('UTC')         COMMENT 'Hour of ntime (accepted) or receipt (refused): the table is sorted by it, so add a condition on it to queries of a short time',
    identity       String                  COMMENT 'Unique within origin'
)
AS SELECT
    time, origin, instance, source, job_id,
    if(match(job_id, '^[0-9a-fA-F]{1,16}$'), reinterpretAsUInt64(reverse(unhex(leftPad(job_id, 16, '0')))), 0) AS workinfoid,
    job_key, height, user, worker, agent, address, client_id, listener, accepted, errn, reason, diff, sdiff, hash,
    if(block_hash = '', hash, block_hash) AS block_hash,
    nonce, nonce2, enonce1, ntime, version_bits, time_ns, bucket, identity
FROM shares_raw FINAL
WHERE kind = 'submitted'
COMMENT 'One row is one submission of a miner, accepted or refused, each once whatever came twice';

CREATE VIEW IF NOT EXISTS share_verdicts
(
    time           DateTime64(6, 'UTC')    COMMENT 'When the upstream answered',
    origin         LowCardinality(String)  COMMENT 'The proxy',
    upstream       LowCardinality(String)  COMMENT 'The pool asked, host:port',
    hash           String                  COMMENT 'Proof-of-work hash of the share, joins shares of the same origin',
    accepted       Bool                    COMMENT 'True: the upstream credited it',
    reason         LowCardinality(String)  COMMENT 'Why the upstream refused it',
    diff           Decimal(38, 18)         COMMENT 'Difficulty credited upstream',
    user           LowCardinality(String)  COMMENT 'User whose share it was',
    worker         LowCardinality(String)  COMMENT 'Worker whose share it was',
    job_id         String                  COMMENT 'Job id as the miner sent it',
    job_key        String                  COMMENT 'Identity of the job, joins jobs',
    height         UInt32                  COMMENT 'Height of the block being mined',
    bucket         DateTime('UTC')         COMMENT 'Hour of ntime; the table is sorted by it'
)
AS SELECT time, origin, upstream, hash, accepted, reason, diff, user, worker, job_id, job_key, height, bucket
FROM shares_raw FINAL
WHERE kind = 'verdict'
COMMENT 'One row is the answer of one upstream pool to one share that a proxy forwarded';

CREATE VIEW IF NOT EXISTS reject_reasons
(
    origin         LowCardinality(String)  COMMENT 'Accounting point',
    day            Date                    COMMENT 'Day of receipt, UTC',
    errn           Int32                   COMMENT 'CKPool''s number',
    reason         LowCardinality(String)  COMMENT 'Why, in words',
    shares         UInt64                  COMMENT 'Refused submissions',
    workers        UInt64                  COMMENT 'Workers that had one',
    diff           Decimal(38, 18)         COMMENT 'Sum of the difficulty required of them'
)
AS SELECT origin, toDate(time) AS day, errn, reason, count() AS shares, uniqExact(worker) AS workers, sum(diff) AS diff
FROM shares
WHERE NOT accepted
GROUP BY origin, day, errn, reason
COMMENT 'One row is one reason of refusal on one day at one origin';

CREATE VIEW IF NOT EXISTS best_shares
(
    origin         LowCardinality(String)  COMMENT 'Accounting point',
    user           LowCardinality(String)  COMMENT 'User',
    worker         LowCardinality(String)  COMMENT 'Worker',
    sdiff          Float64                 COMMENT 'Difficulty reached',
    time           DateTime64(6, 'UTC')    COMMENT 'Receipt',
    height         UInt32                  COMMENT 'Height of the block being mined',
    hash           String                  COMMENT 'Proof-of-work hash'
)
AS SELECT origin, user, worker, sdiff, time, height, hash
FROM shares
WHERE accepted
ORDER BY sdiff DESC, hash ASC
LIMIT 1 BY origin, user, worker
COMMENT 'One row is the best accepted share of one worker';
