-- Chains, and blocks: ours as they were found, the node's best chain as it was followed.

CREATE TABLE IF NOT EXISTS chains
(
    chain                  String               COMMENT 'Name of the chain profile, as in events',
    title                  String               COMMENT 'One line for people',
    pow                    String               COMMENT 'sha256d or scrypt',
    difficulty_1_target    UInt256              COMMENT 'Target of difficulty 1',
    hashes_per_difficulty  UInt256              COMMENT 'W: hashes that one unit of difficulty stands for',
    payout_blocks          UInt32               COMMENT 'B: blocks of one epoch',
    target_spacing_s       UInt32               COMMENT 'T: seconds that a block shall take',
    confirmations          UInt32               COMMENT 'Blocks above an epoch''s closing one until it is final',
    coin                   String               COMMENT 'Ticker of the coin',
    smallest_unit          String               COMMENT 'Name of the unit in which columns ending in _sats count',
    decimals               UInt8                COMMENT 'Smallest units per coin are 10 to this power',
    ingest_version         UInt64               COMMENT 'Rising; the highest stays'
)
ENGINE = ReplacingMergeTree(ingest_version)
ORDER BY chain
COMMENT 'One row is one chain profile that events were seen of; ordered by chain, the newest stays (read with FINAL)';

CREATE TABLE IF NOT EXISTS block_events_raw
(
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    identity             String                  COMMENT 'follower/chain_seq of a chain event, solved/hash of a block of ours',
    rank                 UInt128                 COMMENT 'Order of copies, the highest wins: most answers of nodes, then smallest time, then smallest digest of the row',
    kind                 LowCardinality(String)  COMMENT 'solved, connected, disconnected, confirmed, orphaned',
    origin               LowCardinality(String)  COMMENT 'solved: accounting point; empty for chain events',
    instance             LowCardinality(String)  COMMENT 'Process',
    follower             LowCardinality(String)  COMMENT 'Chain events: name of the follower',
    chain_seq            UInt64                  COMMENT 'Chain events: rising number of the follower; 0 for solved',
    time                 DateTime64(6, 'UTC')    COMMENT 'When this was seen',
    height               UInt32                  COMMENT 'Height',
    hash                 String                  COMMENT 'Block hash, 64 hex digits as the node prints it',
    prev_hash            String                  COMMENT 'Previous block''s hash',
    block_time           DateTime64(6, 'UTC')    COMMENT 'Time in the header',
    median_time          Nullable(DateTime64(6, 'UTC'))  COMMENT 'Median time past, of the eleven blocks that end with this one; null where unknown',
    nbits                String                  COMMENT 'Compact target, 8 hex digits',
    target               UInt256                 COMMENT 'nbits expanded; difficulty is the chain''s difficulty_1_target over this',
    work                 UInt256                 COMMENT 'Expected hashes for one block at this target: 2^256 / (target + 1)',
    version              String                  COMMENT 'Block version, 8 hex digits',
    tx_count             UInt32                  COMMENT 'Transactions, the coinbase included; 0 where unknown',
    size_bytes           UInt64                  COMMENT 'Serialized size; 0 where unknown',
    subsidy_sats         Int128                  COMMENT 'Subsidy of the height by the profile',
    fees_sats            Int128                  COMMENT 'Coinbase outputs that the profile counts, minus subsidy, not below 0',
    coinbase_value_sats  Int128                  COMMENT 'Sum of the coinbase''s outputs that the profile counts',
    coinbase_script      String                  COMMENT 'Input script of the coinbase, hex',
    coinbase_outputs     Array(Tuple(script String, value_sats Int128))  COMMENT 'Outputs of the coinbase: script in hex, value in smallest units',
    ours                 Bool                    COMMENT 'True: the coinbase is one of ours',
    confirmations        UInt32                  COMMENT 'confirmed: blocks on top including itself',
    job_key              String                  COMMENT 'solved: identity of the job',
    job_id               String                  COMMENT 'solved: job id as the miner saw it',
    user                 LowCardinality(String)  COMMENT 'solved: who found it',
    worker               LowCardinality(String)  COMMENT 'solved: whose worker found it',
    diff                 Decimal(38, 18)         COMMENT 'solved: difficulty credited',
    sdiff                Float64                 COMMENT 'solved: difficulty reached',
    answers              Array(Tuple(node String, answer String, time DateTime64(6, 'UTC')))  COMMENT 'solved: what each node said, and when',
    candidate            String                  COMMENT 'solved: the 80-byte header, hex'
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (chain, identity)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of one block event; ordered by chain and identity; of copies the highest rank stays. Read the views block_events and blocks.';

CREATE VIEW IF NOT EXISTS block_events
(
    time                 DateTime64(6, 'UTC')    COMMENT 'When this was seen',
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    kind                 LowCardinality(String)  COMMENT 'solved, connected, disconnected, confirmed, orphaned',
    height               UInt32                  COMMENT 'Height',
    hash                 String                  COMMENT 'Block hash',
    prev_hash            String                  COMMENT 'Previous block''s hash',
    follower             LowCardinality(String)  COMMENT 'Chain events: name of the follower',
    chain_seq            UInt64                  COMMENT 'Chain events: rising number of the follower; 0 for solved',
    origin               LowCardinality(String)  COMMENT 'solved: accounting point',
    instance             LowCardinality(String)  COMMENT 'Process',
    ours                 Bool                    COMMENT 'True: the coinbase is one of ours',
    confirmations        UInt32                  COMMENT 'confirmed: blocks on top including itself',
    user                 LowCardinality(String)  COMMENT 'solved: who found it',
    worker               LowCardinality(String)  COMMENT 'solved: whose worker found it'
)
AS SELECT time, chain, kind, height, hash, prev_hash, follower, chain_seq, origin, instance, ours, confirmations, user, worker
FROM block_events_raw FINAL
COMMENT 'One row is one thing that happened to a block, each once; the whole story of reorganisations';

CREATE VIEW IF NOT EXISTS blocks
(
    chain                LowCardinality(String)  COMMENT 'Name of the chain profile',
    height               UInt32                  COMMENT 'Height',
    hash                 String                  COMMENT 'Block hash, 64 hex digits as the node prints it',
    prev_hash            String                  COMMENT 'Previous block''s hash',
    status               LowCardinality(String)  COMMENT 'What the follower said last of it: connected, confirmed, disconnected, orphaned; solved where the follower has not seen it',
    on_chain             Bool                    COMMENT 'True: on the best chain',
    ours                 Bool                    COMMENT 'True: its coinbase is one of ours',
    solved               Bool                    COMMENT 'True: a miner of ours found it',
    confirmations        UInt32                  COMMENT 'Depth that the follower announced last; 0: none announced',
    block_time           DateTime64(6, 'UTC')    COMMENT 'Time in the header',
    median_time          Nullable(DateTime64(6, 'UTC'))  COMMENT 'Median time past, of the eleven blocks that end with this one; null where unknown',
    seen_time            Nullable(DateTime64(6, 'UTC'))  COMMENT 'When the follower connected it first; null where it did not',
    nbits                String                  COMMENT 'Compact target, 8 hex digits',
    difficulty           Float64                 COMMENT 'Difficulty of nbits, for show',
    work                 UInt256                 COMMENT 'Expected hashes for one block at this target',
    version              String                  COMMENT 'Block version, 8 hex digits',
    tx_count             UInt32                  COMMENT 'Transactions, the coinbase included; 0 where unknown',
    size_bytes           UInt64                  COMMENT 'Serialized size; 0 where unknown',
    subsidy_sats         Int128                  COMMENT 'Subsidy of the height by the profile',
    fees_sats            Int128                  COMMENT 'Coinbase outputs that the profile counts, minus subsidy, not below 0',
    coinbase_value_sats  Int128                  COMMENT 'Sum of the coinbase''s outputs that the profile counts',
    coinbase_outputs     Array(Tuple(script String, value_sats Int128))  COMMENT 'Outputs of the coinbase',
    found_time           Nullable(DateTime64(6, 'UTC'))  COMMENT 'When our miner submitted it; null where not found by us',
    origin               LowCardinality(String)  COMMENT 'Accounting point that found it; empty where not found by us',
    user                 LowCardinality(String)  COMMENT 'Who found it',
    worker               LowCardinality(String)  COMMENT 'Whose worker found it',
    diff                 Decimal(38, 18)         COMMENT 'Difficulty credited to the finder',
    sdiff                Float64                 COMMENT 'Difficulty reached by the finder',
    job_key              String                  COMMENT 'Identity of the finder''s job, joins jobs',
    job_id               String                  COMMENT 'Job id as the finder saw it',
    answers              Array(Tuple(node String, answer String, time DateTime64(6, 'UTC')))  COMMENT 'What each node said to the submission, and when'
)
AS WITH authority AS
(
    SELECT chain, argMax(follower, (top, follower)) AS follower
    FROM (SELECT chain, follower, max(height) AS top FROM block_events_raw FINAL WHERE kind = 'connected' GROUP BY chain, follower)
    GROUP BY chain
)
SELECT
    e.chain AS chain,
    max(e.height) AS height,
    e.hash AS hash,
    max(e.prev_hash) AS prev_hash,
    if(countIf(e.kind != 'solved') = 0, 'solved', argMaxIf(e.kind, e.chain_seq, e.kind != 'solved')) AS status,
    countIf(e.kind IN ('connected', 'disconnected')) > 0
        AND argMaxIf(e.kind, e.chain_seq, e.kind IN ('connected', 'disconnected')) = 'connected' AS on_chain,
    if(countIf(e.kind != 'solved') = 0, max(e.ours), maxIf(e.ours, e.kind != 'solved')) AS ours,
    countIf(e.kind = 'solved') > 0 AS solved,
    argMaxIf(e.confirmations, e.chain_seq, e.kind != 'solved') AS confirmations,
    max(e.block_time) AS block_time,
    max(e.median_time) AS median_time,
    minIf(toNullable(e.time), e.kind = 'connected') AS seen_time,
    max(e.nbits) AS nbits,
    if(max(e.target) = 0 OR max(c.difficulty_1_target) = 0, 0, toFloat64(max(c.difficulty_1_target)) / toFloat64(max(e.target))) AS difficulty,
    max(e.work) AS work,
    max(e.version) AS version,
    max(e.tx_count) AS tx_count,
    max(e.size_bytes) AS size_bytes,
    max(e.subsidy_sats) AS subsidy_sats,
    max(e.fees_sats) AS fees_sats,
    max(e.coinbase_value_sats) AS coinbase_value_sats,
    argMaxIf(e.coinbase_outputs, e.chain_seq, e.kind = 'connected') AS coinbase_outputs,
    maxIf(toNullable(e.time), e.kind = 'solved') AS found_time,
    maxIf(e.origin, e.kind = 'solved') AS origin,
    maxIf(e.user, e.kind = 'solved') AS user,
    maxIf(e.worker, e.kind = 'solved') AS worker,
    maxIf(e.diff, e.kind = 'solved') AS diff,
    maxIf(e.sdiff, e.kind = 'solved') AS sdiff,
    maxIf(e.job_key, e.kind = 'solved') AS job_key,
    maxIf(e.job_id, e.kind = 'solved') AS job_id,
    argMaxIf(e.answers, e.identity, e.kind = 'solved') AS answers
FROM (SELECT * FROM block_events_raw FINAL) AS e
LEFT JOIN (SELECT chain, difficulty_1_target FROM chains FINAL) AS c ON c.chain = e.chain
LEFT JOIN authority AS a ON a.chain = e.chain
WHERE e.kind = 'solved' OR e.follower = a.follower
GROUP BY e.chain, e.hash
COMMENT 'One row is one block: found by us, or seen by the one follower that decides (the one that saw the greatest height, of several the last by name)';
