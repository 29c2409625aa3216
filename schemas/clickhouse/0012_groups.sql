-- Several consumers that fill one database: whose positions count, and the order of what they replace.

CREATE TABLE IF NOT EXISTS version_ticks
(
    ingest_ticks  UInt64  COMMENT 'Ticks; their sum is the version under which rows are replaced next'
)
ENGINE = SummingMergeTree
ORDER BY tuple()
COMMENT 'One row is some ticks of a clock that counts: whoever replaces rows adds one and takes the sum as their version; merged by adding';

INSERT INTO version_ticks
SELECT max(version) FROM
(
    SELECT max(ingest_version) AS version FROM shares_1m_raw
    UNION ALL SELECT max(ingest_version) FROM chains
    UNION ALL SELECT max(ingest_version) FROM epochs_raw
    UNION ALL SELECT max(ingest_version) FROM hashrates_raw
    UNION ALL SELECT max(ingest_version) FROM contracts_raw
    UNION ALL SELECT max(ingest_version) FROM payouts_raw
);

CREATE TABLE IF NOT EXISTS consumer_group
(
    ingest_number      UInt64                COMMENT 'Rising; the highest counts, of equal ones the highest generation',
    ingest_generation  String                COMMENT 'Random name, part of the name of the group of Kafka that holds the positions in the log',
    ingest_time        DateTime64(6, 'UTC')  COMMENT 'When it began'
)
ENGINE = ReplacingMergeTree(ingest_time)
ORDER BY (ingest_number, ingest_generation)
COMMENT 'One row is one filling of these tables from Kafka: tables that were lost begin a new one, which reads the log from its beginning; ordered and replaced by number and generation';
