-- Which consumers have filled these tables: positions in the log are kept beside the consumers, and mean nothing to another ClickHouse.

CREATE TABLE IF NOT EXISTS filled_from
(
    generation   String                COMMENT 'Random name of a state of consumers, kept in their data directory',
    ingest_time  DateTime64(6, 'UTC')  COMMENT 'When they first wrote here'
)
ENGINE = ReplacingMergeTree(ingest_time)
ORDER BY generation
COMMENT 'One row is one state of consumers that writes here; ordered and replaced by generation. Consumers that are not listed read the log from its beginning.';
