-- What CKPool said of itself before Lodestream ran: statistics lines of its main log and its status files; and blocks that only such a log tells of.

CREATE TABLE IF NOT EXISTS pool_status_raw
(
    origin             LowCardinality(String)  COMMENT 'Accounting point',
    scope              LowCardinality(String)  COMMENT 'pool, user or worker: whom it is about',
    user               LowCardinality(String)  COMMENT 'User; empty for the pool',
    worker             LowCardinality(String)  COMMENT 'Worker name; empty for pool and users',
    time               DateTime64(6, 'UTC')    COMMENT 'When it was said: lastupdate of the pool, the stamp of a line, the last change of a file',
    rank               UInt128                 COMMENT 'Order of copies, the highest wins: log before status file, then smallest digest of the row',
    source             LowCardinality(String)  COMMENT 'log (a line of ckpool.log) or status (a status file)',
    instance           LowCardinality(String)  COMMENT 'Journal that it came through',
    runtime_s          Nullable(Int64)         COMMENT 'Since the start of the pool; null where not said, here and below',
    users              Nullable(Int64)         COMMENT 'Users with a connection',
    workers            Nullable(Int64)         COMMENT 'Connections',
    idle               Nullable(Int64)         COMMENT 'Connections without a share for a minute',
    disconnected       Nullable(Int64)         COMMENT 'Sessions kept for who resumes them',
    hashrate_1m_hps    Nullable(Float64)       COMMENT 'Hashes per second, decaying average over a minute; CKPool prints three digits, here and below',
    hashrate_5m_hps    Nullable(Float64)       COMMENT 'As above, over five minutes',
    hashrate_15m_hps   Nullable(Float64)       COMMENT 'As above, over a quarter of an hour (pool only)',
    hashrate_1h_hps    Nullable(Float64)       COMMENT 'As above, over an hour',
    hashrate_6h_hps    Nullable(Float64)       COMMENT 'As above, over six hours (pool only)',
    hashrate_1d_hps    Nullable(Float64)       COMMENT 'As above, over a day',
    hashrate_7d_hps    Nullable(Float64)       COMMENT 'As above, over seven days',
    effort_percent     Nullable(Float64)       COMMENT 'Accepted difficulty since the last block over that of the network',
    network_diff       Nullable(Float64)       COMMENT 'Difficulty of the network (forks of CKPool only)',
    accepted_diff      Nullable(Float64)       COMMENT 'Difficulty of accepted shares as CKPool added it up: of the pool since its last block, of a user or worker since ever; do not sum',
    rejected_diff      Nullable(Float64)       COMMENT 'Difficulty of refused shares since the last block',
    accepted_count     Nullable(Int64)         COMMENT 'Accepted shares since the last block (forks of CKPool only)',
    rejected_count     Nullable(Int64)         COMMENT 'Refused shares since the last block (forks of CKPool only)',
    best_share         Nullable(Float64)       COMMENT 'Highest difficulty since the last block',
    best_ever          Nullable(Float64)       COMMENT 'Highest difficulty since ever',
    rate_1m_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over a minute',
    rate_5m_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over five minutes',
    rate_15m_per_s     Nullable(Float64)       COMMENT 'Shares per second, decaying average over a quarter of an hour',
    rate_1h_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over an hour',
    last_share_time    Nullable(DateTime64(6, 'UTC'))  COMMENT 'Last accepted share; null where there was none',
    authorised_time    Nullable(DateTime64(6, 'UTC'))  COMMENT 'First authorize of a user; null where not said'
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (origin, scope, user, worker, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of what CKPool said of pool, user or worker at a time; ordered and deduplicated by all of these; of copies the highest rank stays. Read the view pool_status.';

CREATE VIEW IF NOT EXISTS pool_status
(
    time               DateTime64(6, 'UTC')    COMMENT 'When it was said: lastupdate of the pool, the stamp of a line, the last change of a file',
    origin             LowCardinality(String)  COMMENT 'Accounting point: a pool or one proxy level; never add several',
    scope              LowCardinality(String)  COMMENT 'pool, user or worker: whom it is about',
    user               LowCardinality(String)  COMMENT 'User; empty for the pool',
    worker             LowCardinality(String)  COMMENT 'Worker name; empty for pool and users',
    source             LowCardinality(String)  COMMENT 'log (a line of ckpool.log) or status (a status file)',
    runtime_s          Nullable(Int64)         COMMENT 'Since the start of the pool; null where not said, here and below',
    users              Nullable(Int64)         COMMENT 'Users with a connection',
    workers            Nullable(Int64)         COMMENT 'Connections',
    idle               Nullable(Int64)         COMMENT 'Connections without a share for a minute',
    disconnected       Nullable(Int64)         COMMENT 'Sessions kept for who resumes them',
    hashrate_1m_hps    Nullable(Float64)       COMMENT 'Hashes per second, decaying average over a minute; CKPool prints three digits, here and below',
    hashrate_5m_hps    Nullable(Float64)       COMMENT 'As above, over five minutes',
    hashrate_15m_hps   Nullable(Float64)       COMMENT 'As above, over a quarter of an hour (pool only)',
    hashrate_1h_hps    Nullable(Float64)       COMMENT 'As above, over an hour',
    hashrate_6h_hps    Nullable(Float64)       COMMENT 'As above, over six hours (pool only)',
    hashrate_1d_hps    Nullable(Float64)       COMMENT 'As above, over a day',
    hashrate_7d_hps    Nullable(Float64)       COMMENT 'As above, over seven days',
    effort_percent     Nullable(Float64)       COMMENT 'Accepted difficulty since the last block over that of the network',
    network_diff       Nullable(Float64)       COMMENT 'Difficulty of the network (forks of CKPool only)',
    accepted_diff      Nullable(Float64)       COMMENT 'Difficulty of accepted shares as CKPool added it up: of the pool since its last block, of a user or worker since ever; do not sum',
    rejected_diff      Nullable(Float64)       COMMENT 'Difficulty of refused shares since the last block',
    accepted_count     Nullable(Int64)         COMMENT 'Accepted shares since the last block (forks of CKPool only)',
    rejected_count     Nullable(Int64)         COMMENT 'Refused shares since the last block (forks of CKPool only)',
    best_share         Nullable(Float64)       COMMENT 'Highest difficulty since the last block',
    best_ever          Nullable(Float64)       COMMENT 'Highest difficulty since ever',
    rate_1m_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over a minute',
    rate_5m_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over five minutes',
    rate_15m_per_s     Nullable(Float64)       COMMENT 'Shares per second, decaying average over a quarter of an hour',
    rate_1h_per_s      Nullable(Float64)       COMMENT 'Shares per second, decaying average over an hour',
    last_share_time    Nullable(DateTime64(6, 'UTC'))  COMMENT 'Last accepted share; null where there was none',
    authorised_time    Nullable(DateTime64(6, 'UTC'))  COMMENT 'First authorize of a user; null where not said'
)
AS SELECT
    time, origin, scope, user, worker, source, runtime_s, users, workers, idle, disconnected, hashrate_1m_hps, hashrate_5m_hps, hashrate_15m_hps,
    hashrate_1h_hps, hashrate_6h_hps, hashrate_1d_hps, hashrate_7d_hps, effort_percent, network_diff, accepted_diff, rejected_diff, accepted_count,
    rejected_count, best_share, best_ever, rate_1m_per_s, rate_5m_per_s, rate_15m_per_s, rate_1h_per_s, last_share_time, authorised_time
FROM pool_status_raw FINAL
COMMENT 'One row is what CKPool said of itself, of a user or of a worker at a time (back-filled; where there are share logs, shares_1m is exact)';

ALTER TABLE block_events_raw ADD COLUMN IF NOT EXISTS source LowCardinality(String) DEFAULT 'live' COMMENT 'live (the daemon, the follower) or backfill (CKPool''s main log: any live copy counts before it)';

ALTER TABLE block_events_raw MODIFY COLUMN rank COMMENT 'Order of copies, the highest wins: live before back-fill, then most answers of nodes, then smallest time, then smallest digest of the row';

CREATE OR REPLACE VIEW block_events
(
    time                 DateTime64(6, 'UTC')    COMMENT 'When this was seen',
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    kind                 LowCardinality(String)  COMMENT 'solved, connected, disconnected, confirmed, orphaned',
    height               UInt32                  COMMENT 'Height',
    hash                 String                  COMMENT 'Block hash',
    prev_hash            String                  COMMENT 'Previous block''s hash; empty where unknown (back-fill)',
    follower             LowCardinality(String)  COMMENT 'Chain events: name of the follower',
    chain_seq            UInt64                  COMMENT 'Chain events: rising number of the follower; 0 for solved',
    origin               LowCardinality(String)  COMMENT 'solved: accounting point',
    instance             LowCardinality(String)  COMMENT 'Process',
    ours                 Bool                    COMMENT 'True: the coinbase is one of ours',
    confirmations        UInt32                  COMMENT 'confirmed: blocks on top including itself',
    user                 LowCardinality(String)  COMMENT 'solved: who found it',
    worker               LowCardinality(String)  COMMENT 'solved: whose worker found it',
    source               LowCardinality(String)  COMMENT 'live (the daemon, the follower) or backfill (CKPool''s main log)'
)
AS SELECT time, chain, kind, height, hash, prev_hash, follower, chain_seq, origin, instance, ours, confirmations, user, worker, source
FROM block_events_raw FINAL
COMMENT 'One row is one thing that happened to a block, each once; the whole story of reorganisations';
