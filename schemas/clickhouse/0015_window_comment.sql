-- The comment of a column knew two windows of four.

ALTER TABLE hashrates_raw COMMENT COLUMN window 'As getnetworkhashps is asked: 1, 10, 120, or -1 for since the last change of difficulty';

CREATE OR REPLACE VIEW hashrates
(
    chain           LowCardinality(String)  COMMENT 'Name of the chain profile',
    height          UInt32                  COMMENT 'Last block of the window',
    window          Int32                   COMMENT 'As getnetworkhashps is asked: 1, 10, 120, or -1 for since the last change of difficulty',
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
