-- What could not be taken in.

CREATE TABLE IF NOT EXISTS dead_letters
(
    topic        LowCardinality(String)  COMMENT 'Topic of the log',
    partition    String                  COMMENT 'Partition of the topic: of the journal a writer, of Kafka a number',
    position     String                  COMMENT 'Place in the partition; with topic and partition the identity',
    instance     LowCardinality(String)  COMMENT 'Writer of the record; empty where the record itself could not be read',
    run          String                  COMMENT 'Opening of its journal',
    sequence     UInt64                  COMMENT 'Number in that run',
    fingerprint  String                  COMMENT 'Fingerprint of the writer''s schema, 16 hex digits',
    reason       String                  COMMENT 'What is wrong with it',
    body_hex     String                  COMMENT 'The bytes, hex',
    ingest_time  DateTime64(6, 'UTC')    COMMENT 'When it was put here'
)
ENGINE = ReplacingMergeTree(ingest_time)
ORDER BY (topic, partition, position)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row is one record that its own schema cannot decode or that breaks a stated constraint; ordered and deduplicated by its place in the log (read with FINAL)';
