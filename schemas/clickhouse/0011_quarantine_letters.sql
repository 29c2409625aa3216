-- Lines and files that a back-fill could not take in are dead letters too; their place is that in the file.

ALTER TABLE dead_letters
    MODIFY COLUMN topic LowCardinality(String) COMMENT 'Topic of the log; quarantine: of a log file that was read for back-fill',
    MODIFY COLUMN partition String COMMENT 'Partition of the topic: of the journal a writer, of Kafka a number; quarantine: origin:path of the file',
    MODIFY COLUMN position String COMMENT 'Place in the partition; with topic and partition the identity; quarantine: number of the line, or why the whole file was left alone',
    MODIFY COLUMN body_hex String COMMENT 'The bytes, hex; quarantine: the first 4096 of the line, none of a whole file';

ALTER TABLE dead_letters
    MODIFY COMMENT 'One row is one record that its own schema cannot decode or that breaks a stated constraint, or one line or file that a back-fill could not take in; ordered and deduplicated by its place (read with FINAL)';
