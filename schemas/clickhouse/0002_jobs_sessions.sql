-- Jobs and sessions.

CREATE TABLE IF NOT EXISTS jobs_raw
(
    origin               LowCardinality(String)  COMMENT 'Accounting point',
    job_key              String                  COMMENT 'Identity: origin and a digest of the content',
    rank                 UInt128                 COMMENT 'Order of copies, the highest wins: smallest time, then smallest digest of the row',
    instance             LowCardinality(String)  COMMENT 'Process that built it',
    time                 DateTime64(6, 'UTC')    COMMENT 'When it was built',
    job_id               String                  COMMENT 'What the miner sees: 16 hex digits',
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    pow                  LowCardinality(String)  COMMENT 'sha256d or scrypt',
    height               UInt32                  COMMENT 'Height of the block being mined',
    prev_hash            String                  COMMENT 'Previous block, 64 hex digits as the node prints it',
    coinbase1            String                  COMMENT 'Coinbase before extranonce1, hex',
    coinbase2            String                  COMMENT 'Coinbase after extranonce2, hex',
    enonce1_bytes        UInt16                  COMMENT 'Length of extranonce1',
    nonce2_bytes         UInt16                  COMMENT 'Length of extranonce2',
    merkle_branch        Array(String)           COMMENT 'Steps from the coinbase to the root, hex, byte order of the hash',
    version              String                  COMMENT 'Block version, 8 hex digits',
    version_mask         String                  COMMENT 'Bits that miners may roll, 8 hex digits',
    nbits                String                  COMMENT 'Compact target, 8 hex digits',
    ntime                String                  COMMENT 'Template time, 8 hex digits',
    clean                Bool                    COMMENT 'True: earlier jobs are stale',
    network_diff         Float64                 COMMENT 'Difficulty of nbits, for show',
    subsidy_sats         Nullable(Int128)        COMMENT 'Subsidy of the height; null where unknown (proxy)',
    fees_sats            Nullable(Int128)        COMMENT 'Coinbase value minus subsidy; null where unknown',
    coinbase_value_sats  Nullable(Int128)        COMMENT 'Value that the template grants; null where unknown',
    tx_count             Int32                   COMMENT 'Transactions besides the coinbase; -1 where unknown',
    upstream             LowCardinality(String)  COMMENT 'proxy: the upstream pool, host:port',
    upstream_job_id      String                  COMMENT 'proxy: the upstream''s job id'
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (origin, job_key)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of one piece of work; ordered by origin and job_key; of copies the highest rank stays. Read the view jobs.';

CREATE VIEW IF NOT EXISTS jobs
(
    time                 DateTime64(6, 'UTC')    COMMENT 'When it was built',
    origin               LowCardinality(String)  COMMENT 'Accounting point',
    instance             LowCardinality(String)  COMMENT 'Process that built it',
    job_id               String                  COMMENT 'What the miner sees: 16 hex digits',
    job_key              String                  COMMENT 'Identity: origin and a digest of the content; joins shares',
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    pow                  LowCardinality(String)  COMMENT 'sha256d or scrypt',
    height               UInt32                  COMMENT 'Height of the block being mined',
    prev_hash            String                  COMMENT 'Previous block, 64 hex digits as the node prints it',
    coinbase1            String                  COMMENT 'Coinbase before extranonce1, hex',
    coinbase2            String                  COMMENT 'Coinbase after extranonce2, hex',
    enonce1_bytes        UInt16                  COMMENT 'Length of extranonce1',
    nonce2_bytes         UInt16                  COMMENT 'Length of extranonce2',
    merkle_branch        Array(String)           COMMENT 'Steps from the coinbase to the root, hex, byte order of the hash',
    version              String                  COMMENT 'Block version, 8 hex digits',
    version_mask         String                  COMMENT 'Bits that miners may roll, 8 hex digits',
    nbits                String                  COMMENT 'Compact target, 8 hex digits',
    ntime                String                  COMMENT 'Template time, 8 hex digits',
    clean                Bool                    COMMENT 'True: earlier jobs are stale',
    network_diff         Float64                 COMMENT 'Difficulty of nbits, for show',
    subsidy_sats         Nullable(Int128)        COMMENT 'Subsidy of the height; null where unknown (proxy)',
    fees_sats            Nullable(Int128)        COMMENT 'Coinbase value minus subsidy; null where unknown',
    coinbase_value_sats  Nullable(Int128)        COMMENT 'Value that the template grants; null where unknown',
    tx_count             Int32                   COMMENT 'Transactions besides the coinbase; -1 where unknown',
    upstream             LowCardinality(String)  COMMENT 'proxy: the upstream pool, host:port',
    upstream_job_id      String                  COMMENT 'proxy: the upstream''s job id'
)
AS SELECT
    time, origin, instance, job_id, job_key, chain, pow, height, prev_hash, coinbase1, coinbase2, enonce1_bytes, nonce2_bytes,
    merkle_branch, version, version_mask, nbits, ntime, clean, network_diff, subsidy_sats, fees_sats, coinbase_value_sats, tx_count,
    upstream, upstream_job_id
FROM jobs_raw FINAL
COMMENT 'One row is one piece of work: with a share, all that is needed to rebuild the 80-byte header';

CREATE TABLE IF NOT EXISTS sessions_raw
(
    origin         LowCardinality(String)  COMMENT 'Accounting point',
    instance       LowCardinality(String)  COMMENT 'Process, and its journal',
    run            String                  COMMENT 'Opening of the journal, 16 hex digits',
    sequence       UInt64                  COMMENT 'Number in that run; with origin, instance and run the identity',
    time           DateTime64(6, 'UTC')    COMMENT 'When it happened',
    kind           LowCardinality(String)  COMMENT 'started, stopped, clock_step (the daemon); subscribed, authorized, difficulty, refused (a number of refusals beyond ten a second, in reason), disconnected (a connection)',
    client_id      UInt64                  COMMENT 'Connection number in its process; 0 for the daemon itself',
    session_id     String                  COMMENT 'Stratum session id, 8 hex digits',
    address        String                  COMMENT 'Client''s network address',
    listener       LowCardinality(String)  COMMENT 'Listen address that the client used',
    agent          LowCardinality(String)  COMMENT 'User agent',
    user           LowCardinality(String)  COMMENT 'User',
    worker         LowCardinality(String)  COMMENT 'Worker name',
    enonce1        String                  COMMENT 'Extranonce1, hex',
    diff           Decimal(38, 18)         COMMENT 'Difficulty in force after the event; 0 where none',
    reason         String                  COMMENT 'Why, in words: what closed the line, what changed the difficulty'
)
ENGINE = ReplacingMergeTree
ORDER BY (origin, instance, run, sequence)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of one event of a connection or of the daemon; ordered and deduplicated by its place in the journal. Read the view sessions.';

CREATE VIEW IF NOT EXISTS sessions
(
    time           DateTime64(6, 'UTC')    COMMENT 'When it happened',
    origin         LowCardinality(String)  COMMENT 'Accounting point',
    instance       LowCardinality(String)  COMMENT 'Process',
    kind           LowCardinality(String)  COMMENT 'started, stopped, clock_step (the daemon); subscribed, authorized, difficulty, refused (a number of refusals beyond ten a second, in reason), disconnected (a connection)',
    client_id      UInt64                  COMMENT 'Connection number in its process; 0 for the daemon itself',
    session_id     String                  COMMENT 'Stratum session id, 8 hex digits',
    address        String                  COMMENT 'Client''s network address',
    listener       LowCardinality(String)  COMMENT 'Listen address that the client used',
    agent          LowCardinality(String)  COMMENT 'User agent',
    user           LowCardinality(String)  COMMENT 'User',
    worker         LowCardinality(String)  COMMENT 'Worker name',
    enonce1        String                  COMMENT 'Extranonce1, hex',
    diff           Decimal(38, 18)         COMMENT 'Difficulty in force after the event; 0 where none',
    reason         String                  COMMENT 'Why, in words: what closed the line, what changed the difficulty',
    run            String                  COMMENT 'Opening of the journal, 16 hex digits: a start of the daemon',
    sequence       UInt64                  COMMENT 'Number in that run'
)
AS SELECT
    time, origin, instance, kind, client_id, session_id, address, listener, agent, user, worker, enonce1, diff, reason, run, sequence
FROM sessions_raw FINAL
COMMENT 'One row is one event of a connection or of the daemon itself';
