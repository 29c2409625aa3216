-- What is derived from blocks and contracts. Rows are recomputed from the log and replaced by key under a rising ingest_version;
-- a row that a reorganisation takes away is retracted by ingest_deleted.

CREATE TABLE IF NOT EXISTS epochs_raw
(
    chain                   LowCardinality(String)  COMMENT 'Name of the chain profile',
    epoch                   UInt32                  COMMENT 'n: heights n·B to n·B+B-1',
    status                  LowCardinality(String)  COMMENT 'open; closed: block (n+1)·B is connected; final: the tip is at (n+1)·B + confirmations',
    first_height            UInt32                  COMMENT 'n·B',
    last_height             UInt32                  COMMENT 'n·B+B-1',
    blocks                  UInt32                  COMMENT 'Blocks of the epoch connected so far',
    first_hash              String                  COMMENT 'Hash of block n·B',
    last_hash               String                  COMMENT 'Hash of the last block of the epoch connected so far',
    closing_hash            String                  COMMENT 'Hash of block (n+1)·B; empty while open',
    nbits                   String                  COMMENT 'Compact target of block n·B',
    difficulty              Float64                 COMMENT 'Difficulty of nbits, for show',
    first_time              DateTime64(6, 'UTC')    COMMENT 'Time in the header of block n·B',
    last_time               DateTime64(6, 'UTC')    COMMENT 'Time in the header of the last block connected so far',
    intervals               UInt32                  COMMENT 'Intervals between blocks that span_s covers: blocks, or one less where block n·B-1 is not known',
    span_s                  Int64                   COMMENT 'Time of the last block connected minus that of block n·B-1 (of block n·B where that is not known), seconds',
    work                    UInt256                 COMMENT 'Sum over the epoch''s blocks of 2^256 / (target + 1)',
    hashrate_hps            Nullable(UInt256)       COMMENT 'Network: work of the blocks in span_s over span_s, hashes per second rounded down; null where span_s is not above 0',
    hashrate_formula_hps    Nullable(UInt256)       COMMENT 'Network, by the contract''s formula D · W / mean block time, mean = span_s / intervals, rounded down; null where span_s is not above 0',
    subsidy_sats            Int128                  COMMENT 'Sum over the blocks connected so far',
    fees_sats               Int128                  COMMENT 'Sum over the blocks connected so far',
    own_blocks              UInt32                  COMMENT 'Blocks of ours among them',
    retarget_actual_s       Nullable(Int64)         COMMENT 'Seconds that the retarget at (n+1)·B measures, before clamping: by the profile''s span when closed, projected while open; null where the rule measures none or blocks are not known',
    next_nbits              String                  COMMENT 'Compact target of the next epoch: of block (n+1)·B when closed, a forecast while open; empty where neither',
    next_difficulty         Nullable(Float64)       COMMENT 'Difficulty of next_nbits, for show',
    next_nbits_predicted    String                  COMMENT 'What the profile''s retarget rule gives; empty where it predicts nothing',
    next_nbits_alarm        Bool                    COMMENT 'True: the chain''s next_nbits differ from the prediction',
    next_time               Nullable(DateTime64(6, 'UTC'))  COMMENT 'Time of block (n+1)·B when closed, a forecast from the mean interval while open; null where unknown',
    ingest_version          UInt64                  COMMENT 'Rising; the highest stays',
    ingest_deleted          UInt8                   COMMENT '1: retracted',
    ingest_digest           String                  COMMENT 'Digest of the row, to see whether it changed'
)
ENGINE = ReplacingMergeTree(ingest_version, ingest_deleted)
ORDER BY (chain, epoch)
COMMENT 'One row is one version of one epoch; ordered by chain and epoch; the newest version stays. Read the view epochs.';

CREATE VIEW IF NOT EXISTS epochs
(
    chain                   LowCardinality(String)  COMMENT 'Name of the chain profile',
    epoch                   UInt32                  COMMENT 'n: heights n·B to n·B+B-1',
    status                  LowCardinality(String)  COMMENT 'open; closed: block (n+1)·B is connected; final: the tip is at (n+1)·B + confirmations',
    first_height            UInt32                  COMMENT 'n·B',
    last_height             UInt32                  COMMENT 'n·B+B-1',
    blocks                  UInt32                  COMMENT 'Blocks of the epoch connected so far',
    first_hash              String                  COMMENT 'Hash of block n·B',
    last_hash               String                  COMMENT 'Hash of the last block of the epoch connected so far',
    closing_hash            String                  COMMENT 'Hash of block (n+1)·B; empty while open',
    nbits                   String                  COMMENT 'Compact target of block n·B',
    difficulty              Float64                 COMMENT 'Difficulty of nbits, for show',
    first_time              DateTime64(6, 'UTC')    COMMENT 'Time in the header of block n·B',
    last_time               DateTime64(6, 'UTC')    COMMENT 'Time in the header of the last block connected so far',
    intervals               UInt32                  COMMENT 'Intervals between blocks that span_s covers: blocks, or one less where block n·B-1 is not known',
    span_s                  Int64                   COMMENT 'Time of the last block connected minus that of block n·B-1 (of block n·B where that is not known), seconds',
    work                    UInt256                 COMMENT 'Sum over the epoch''s blocks of 2^256 / (target + 1)',
    hashrate_hps            Nullable(UInt256)       COMMENT 'Network: work of the blocks in span_s over span_s, hashes per second rounded down; null where span_s is not above 0',
    hashrate_formula_hps    Nullable(UInt256)       COMMENT 'Network, by the contract''s formula D · W / mean block time, mean = span_s / intervals, rounded down; null where span_s is not above 0',
    subsidy_sats            Int128                  COMMENT 'Sum over the blocks connected so far',
    fees_sats               Int128                  COMMENT 'Sum over the blocks connected so far',
    own_blocks              UInt32                  COMMENT 'Blocks of ours among them',
    retarget_actual_s       Nullable(Int64)         COMMENT 'Seconds that the retarget at (n+1)·B measures, before clamping: by the profile''s span when closed, projected while open; null where the rule measures none or blocks are not known',
    next_nbits              String                  COMMENT 'Compact target of the next epoch: of block (n+1)·B when closed, a forecast while open; empty where neither',
    next_difficulty         Nullable(Float64)       COMMENT 'Difficulty of next_nbits, for show',
    next_nbits_predicted    String                  COMMENT 'What the profile''s retarget rule gives; empty where it predicts nothing',
    next_nbits_alarm        Bool                    COMMENT 'True: the chain''s next_nbits differ from the prediction',
    next_time               Nullable(DateTime64(6, 'UTC'))  COMMENT 'Time of block (n+1)·B when closed, a forecast from the mean interval while open; null where unknown'
)
AS SELECT * EXCEPT (ingest_version, ingest_deleted, ingest_digest)
FROM epochs_raw FINAL
WHERE ingest_deleted = 0
COMMENT 'One row is one epoch of a chain whose blocks are all known from its first on';

CREATE TABLE IF NOT EXISTS hashrates_raw
(
    chain           LowCardinality(String)  COMMENT 'Name of the chain profile',
    height          UInt32                  COMMENT 'Last block of the window',
    window          Int32                   COMMENT 'As getnetworkhashps is asked: 120, 1, or -1 for since the last change of difficulty',
    hash            String                  COMMENT 'Hash of the block at height',
    time            DateTime64(6, 'UTC')    COMMENT 'Time in its header',
    blocks          UInt32                  COMMENT 'Blocks in the window',
    work            UInt256                 COMMENT 'Chainwork difference over the window, hashes',
    seconds         Int64                   COMMENT 'Largest minus smallest block time in the window, the block before it included',
    hashrate_hps    Nullable(UInt256)       COMMENT 'Network: work over seconds, rounded down; null where seconds is 0',
    difficulty      Float64                 COMMENT 'Difficulty of the block, for show',
    ingest_version  UInt64                  COMMENT 'Rising; the highest stays',
    ingest_deleted  UInt8                   COMMENT '1: retracted',
    ingest_digest   String                  COMMENT 'Digest of the row, to see whether it changed'
)
ENGINE = ReplacingMergeTree(ingest_version, ingest_deleted)
ORDER BY (chain, height, window)
COMMENT 'One row is one version of one window that ends with one block; ordered by chain, height and window; the newest version stays. Read the view hashrates.';

CREATE VIEW IF NOT EXISTS hashrates
(
    chain           LowCardinality(String)  COMMENT 'Name of the chain profile',
    height          UInt32                  COMMENT 'Last block of the window',
    window          Int32                   COMMENT 'As getnetworkhashps is asked: 120, 1, or -1 for since the last change of difficulty',
    hash            String                  COMMENT 'Hash of the block at height',
    time            DateTime64(6, 'UTC')    COMMENT 'Time in its header',
    blocks          UInt32                  COMMENT 'Blocks in the window',
    work            UInt256                 COMMENT 'Chainwork difference over the window, hashes',
    seconds         Int64                   COMMENT 'Largest minus smallest block time in the window, the block before it included',
    hashrate_hps    Nullable(UInt256)       COMMENT 'Network: work over seconds, rounded down; null where seconds is 0',
    difficulty      Float64                 COMMENT 'Difficulty of the block, for show'
)
AS SELECT * EXCEPT (ingest_version, ingest_deleted, ingest_digest)
FROM hashrates_raw FINAL
WHERE ingest_deleted = 0
COMMENT 'One row is the network''s hashrate over one window of blocks, as the node computes it';

CREATE TABLE IF NOT EXISTS contract_events_raw
(
    contract_id      String                  COMMENT 'Name of the contract',
    contract_seq     UInt32                  COMMENT 'Rising number within the contract: 0 for opened',
    rank             UInt128                 COMMENT 'Order of copies, the highest wins: smallest time, then smallest digest of the row',
    kind             LowCardinality(String)  COMMENT 'opened, changed, ended',
    time             DateTime64(6, 'UTC')    COMMENT 'Acceptance',
    chain            LowCardinality(String)  COMMENT 'Name of the chain profile',
    customer         String                  COMMENT 'Who bought it, as the operator calls them',
    payout_address   String                  COMMENT 'Where the payouts go',
    hashrate_hps     UInt256                 COMMENT 'H from from_height on, hashes per second',
    from_height      UInt32                  COMMENT 'First height with this H; 0 where from_time decides',
    from_time        Nullable(DateTime64(6, 'UTC'))  COMMENT 'First height whose median time past reaches this; null where from_height decides',
    to_height        UInt32                  COMMENT 'First height no longer covered; 0: none here',
    to_time          Nullable(DateTime64(6, 'UTC'))  COMMENT 'First height whose median time past reaches this is no longer covered; null: none here',
    skip_payouts     UInt32                  COMMENT 'First payouts to skip',
    fee_basis        LowCardinality(String)  COMMENT 'network or own_blocks',
    own_addresses    Array(String)           COMMENT 'For own_blocks',
    formula_version  UInt32                  COMMENT 'Version of the payout formula',
    tip_height       UInt32                  COMMENT 'Height of the tip at acceptance',
    tip_hash         String                  COMMENT 'Hash of the tip at acceptance',
    memo             String                  COMMENT 'Free text'
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (contract_id, contract_seq)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one copy of one event of a contract; ordered by contract and number; of copies the highest rank stays (read with FINAL)';

CREATE TABLE IF NOT EXISTS contracts_raw
(
    chain            LowCardinality(String)  COMMENT 'Name of the chain profile',
    contract_id      String                  COMMENT 'Name of the contract',
    status           LowCardinality(String)  COMMENT 'pending: not begun at the tip; running; ended: the tip has reached its end',
    customer         String                  COMMENT 'Who bought it, as the operator calls them',
    payout_address   String                  COMMENT 'Where the payouts go',
    hashrate_hps     UInt256                 COMMENT 'H by the latest change, in force or still to come, hashes per second',
    opened_time      DateTime64(6, 'UTC')    COMMENT 'When it was accepted',
    from_height      UInt32                  COMMENT 'First height covered; 0 while the chain has not reached from_time',
    from_time        Nullable(DateTime64(6, 'UTC'))  COMMENT 'The start where it was given as a time; null where as a height',
    to_height        UInt32                  COMMENT 'First height no longer covered; 0: open end, or the chain has not reached to_time',
    to_time          Nullable(DateTime64(6, 'UTC'))  COMMENT 'The end where it was given as a time; null where as a height, or open',
    skip_payouts     UInt32                  COMMENT 'First payouts to skip',
    fee_basis        LowCardinality(String)  COMMENT 'network: all blocks of the period; own_blocks: those whose coinbase pays one of own_addresses',
    own_addresses    Array(String)           COMMENT 'For own_blocks',
    formula_version  UInt32                  COMMENT 'Version of the payout formula',
    changes          UInt32                  COMMENT 'Number of its latest event; 0: unchanged since it was opened',
    memo             String                  COMMENT 'Free text',
    ingest_version   UInt64                  COMMENT 'Rising; the highest stays',
    ingest_deleted   UInt8                   COMMENT '1: retracted',
    ingest_digest    String                  COMMENT 'Digest of the row, to see whether it changed'
)
ENGINE = ReplacingMergeTree(ingest_version, ingest_deleted)
ORDER BY (chain, contract_id)
COMMENT 'One row is one version of the state of one contract; ordered by chain and contract; the newest version stays. Read the view contracts.';

CREATE VIEW IF NOT EXISTS contracts
(
    chain            LowCardinality(String)  COMMENT 'Name of the chain profile',
    contract_id      String                  COMMENT 'Name of the contract',
    status           LowCardinality(String)  COMMENT 'pending: not begun at the tip; running; ended: the tip has reached its end',
    customer         String                  COMMENT 'Who bought it, as the operator calls them',
    payout_address   String                  COMMENT 'Where the payouts go',
    hashrate_hps     UInt256                 COMMENT 'H by the latest change, in force or still to come, hashes per second',
    opened_time      DateTime64(6, 'UTC')    COMMENT 'When it was accepted',
    from_height      UInt32                  COMMENT 'First height covered; 0 while the chain has not reached from_time',
    from_time        Nullable(DateTime64(6, 'UTC'))  COMMENT 'The start where it was given as a time; null where as a height',
    to_height        UInt32                  COMMENT 'First height no longer covered; 0: open end, or the chain has not reached to_time',
    to_time          Nullable(DateTime64(6, 'UTC'))  COMMENT 'The end where it was given as a time; null where as a height, or open',
    skip_payouts     UInt32                  COMMENT 'First payouts to skip',
    fee_basis        LowCardinality(String)  COMMENT 'network: all blocks of the period; own_blocks: those whose coinbase pays one of own_addresses',
    own_addresses    Array(String)           COMMENT 'For own_blocks',
    formula_version  UInt32                  COMMENT 'Version of the payout formula',
    changes          UInt32                  COMMENT 'Number of its latest event; 0: unchanged since it was opened',
    memo             String                  COMMENT 'Free text'
)
AS SELECT * EXCEPT (ingest_version, ingest_deleted, ingest_digest)
FROM contracts_raw FINAL
WHERE ingest_deleted = 0
COMMENT 'One row is one contract as its events have made it';

CREATE TABLE IF NOT EXISTS payouts_raw
(
    chain                  LowCardinality(String)  COMMENT 'Name of the chain profile',
    contract_id            String                  COMMENT 'Name of the contract',
    epoch                  UInt32                  COMMENT 'Period paid for: heights first_height to last_height',
    payout_id              String                  COMMENT 'contract/epoch/closing hash/formula version',
    status                 LowCardinality(String)  COMMENT 'forecast before the epoch is final; then owed, or skipped: among the first payouts that the contract skips',
    amount_sats            Int128                  COMMENT 'floor(numerator / denominator): T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) / (D · W · N); of a skipped payout what is not paid',
    payout_address         String                  COMMENT 'Where it goes',
    period                 UInt32                  COMMENT 'Which period of the contract this is, 1 for the first with hashrate',
    skip_payouts           UInt32                  COMMENT 'First payouts that the contract skips',
    first_height           UInt32                  COMMENT 'First height of the epoch',
    last_height            UInt32                  COMMENT 'Last height of the epoch',
    covered_blocks         UInt32                  COMMENT 'Heights of the epoch at which the contract has hashrate',
    closing_hash           String                  COMMENT 'Hash of the block whose nbits set D; empty while the epoch is open',
    nbits                  String                  COMMENT 'Compact target that sets D: of the closing block, a forecast while the epoch is open',
    difficulty_numerator   UInt256                 COMMENT 'D = difficulty_numerator / difficulty_denominator: the chain''s difficulty-1 target',
    difficulty_denominator UInt256                 COMMENT 'D = difficulty_numerator / difficulty_denominator: the target of nbits',
    target_spacing_s       UInt32                  COMMENT 'T, seconds per block',
    hashes_per_difficulty  UInt256                 COMMENT 'W',
    sum_hashrate           UInt256                 COMMENT 'Sum over the heights of H',
    sum_hashrate_subsidy   UInt256                 COMMENT 'Sum over the heights of H times subsidy',
    fee_basis              LowCardinality(String)  COMMENT 'network: all blocks of the epoch; own_blocks: those whose coinbase pays one of the contract''s own_addresses',
    fee_blocks             UInt32                  COMMENT 'N: blocks of the fee basis; 0 counts as N = 1 with fees_sats 0',
    fee_block_heights      Array(UInt32)           COMMENT 'own_blocks: their heights; empty under network, where they are all of the epoch',
    fees_sats              Int128                  COMMENT 'Sum of the fees of the fee basis'' blocks',
    numerator              String                  COMMENT 'T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) · difficulty_denominator, decimal: more than 256 bits',
    denominator            String                  COMMENT 'difficulty_numerator · W · N, decimal',
    formula_version        UInt32                  COMMENT 'Version of the payout formula',
    ingest_version         UInt64                  COMMENT 'Rising; the highest stays',
    ingest_deleted         UInt8                   COMMENT '1: retracted',
    ingest_digest          String                  COMMENT 'Digest of the row, to see whether it changed'
)
ENGINE = ReplacingMergeTree(ingest_version, ingest_deleted)
ORDER BY (chain, contract_id, epoch)
COMMENT 'One row is one version of what one contract is owed for one epoch; ordered by chain, contract and epoch; the newest version stays. Read the view payouts.';

CREATE VIEW IF NOT EXISTS payouts
(
    chain                  LowCardinality(String)  COMMENT 'Name of the chain profile',
    contract_id            String                  COMMENT 'Name of the contract',
    epoch                  UInt32                  COMMENT 'Period paid for: heights first_height to last_height',
    payout_id              String                  COMMENT 'contract/epoch/closing hash/formula version',
    status                 LowCardinality(String)  COMMENT 'forecast before the epoch is final; then owed, or skipped: among the first payouts that the contract skips',
    amount_sats            Int128                  COMMENT 'floor(numerator / denominator): T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) / (D · W · N); of a skipped payout what is not paid',
    payout_address         String                  COMMENT 'Where it goes',
    period                 UInt32                  COMMENT 'Which period of the contract this is, 1 for the first with hashrate',
    skip_payouts           UInt32                  COMMENT 'First payouts that the contract skips',
    first_height           UInt32                  COMMENT 'First height of the epoch',
    last_height            UInt32                  COMMENT 'Last height of the epoch',
    covered_blocks         UInt32                  COMMENT 'Heights of the epoch at which the contract has hashrate',
    closing_hash           String                  COMMENT 'Hash of the block whose nbits set D; empty while the epoch is open',
    nbits                  String                  COMMENT 'Compact target that sets D: of the closing block, a forecast while the epoch is open',
    difficulty_numerator   UInt256                 COMMENT 'D = difficulty_numerator / difficulty_denominator: the chain''s difficulty-1 target',
    difficulty_denominator UInt256                 COMMENT 'D = difficulty_numerator / difficulty_denominator: the target of nbits',
    target_spacing_s       UInt32                  COMMENT 'T, seconds per block',
    hashes_per_difficulty  UInt256                 COMMENT 'W',
    sum_hashrate           UInt256                 COMMENT 'Sum over the heights of H',
    sum_hashrate_subsidy   UInt256                 COMMENT 'Sum over the heights of H times subsidy',
    fee_basis              LowCardinality(String)  COMMENT 'network: all blocks of the epoch; own_blocks: those whose coinbase pays one of the contract''s own_addresses',
    fee_blocks             UInt32                  COMMENT 'N: blocks of the fee basis; 0 counts as N = 1 with fees_sats 0',
    fee_block_heights      Array(UInt32)           COMMENT 'own_blocks: their heights; empty under network, where they are all of the epoch',
    fees_sats              Int128                  COMMENT 'Sum of the fees of the fee basis'' blocks',
    numerator              String                  COMMENT 'T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) · difficulty_denominator, decimal: more than 256 bits',
    denominator            String                  COMMENT 'difficulty_numerator · W · N, decimal',
    formula_version        UInt32                  COMMENT 'Version of the payout formula'
)
AS SELECT * EXCEPT (ingest_version, ingest_deleted, ingest_digest)
FROM payouts_raw FINAL
WHERE ingest_deleted = 0
COMMENT 'One row is what one contract is owed, or forecast to be owed, for one epoch, with every input of the arithmetic';
