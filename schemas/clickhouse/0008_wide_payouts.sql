-- A payout is H · T · S · B / (D · W): on a chain of very small difficulty a contract of an accepted hashrate passes 127 bits,
-- and ClickHouse wraps what is too large without a word.

ALTER TABLE payouts_raw MODIFY COLUMN amount_sats Int256 COMMENT 'floor(numerator / denominator): T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) / (D · W · N); of a skipped payout what is not paid';

CREATE OR REPLACE VIEW payouts
(
    chain                  LowCardinality(String)  COMMENT 'Name of the chain profile',
    contract_id            String                  COMMENT 'Name of the contract',
    epoch                  UInt32                  COMMENT 'Period paid for: heights first_height to last_height',
    payout_id              String                  COMMENT 'contract/epoch/closing hash/formula version',
    status                 LowCardinality(String)  COMMENT 'forecast before the epoch is final; then owed, or skipped: among the first payouts that the contract skips',
    amount_sats            Int256                  COMMENT 'floor(numerator / denominator): T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) / (D · W · N); of a skipped payout what is not paid',
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
