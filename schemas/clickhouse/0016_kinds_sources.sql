-- Kinds of session events and sources of block events that have come since.

ALTER TABLE sessions_raw COMMENT COLUMN kind 'started, stopped, clock_step, untold (the daemon: events of an address that were not written, in reason); subscribed, authorized, difficulty, refused (a number of refusals beyond ten a second, in reason), alive (a connection of which nothing was told for eight minutes), disconnected (a connection); nodes_disagree, nodes_agree (the chain follower: its nodes are on different branches, and on one again)';

CREATE OR REPLACE VIEW sessions
(
    time           DateTime64(6, 'UTC')    COMMENT 'When it happened',
    origin         LowCardinality(String)  COMMENT 'Accounting point',
    instance       LowCardinality(String)  COMMENT 'Process; the follower of the chain is chain',
    kind           LowCardinality(String)  COMMENT 'started, stopped, clock_step, untold (the daemon: events of an address that were not written, in reason); subscribed, authorized, difficulty, refused (a number of refusals beyond ten a second, in reason), alive (a connection of which nothing was told for eight minutes), disconnected (a connection); nodes_disagree, nodes_agree (the chain follower: its nodes are on different branches, and on one again)',
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
COMMENT 'One row is one event of a connection, of the daemon itself, or of the follower of the chain';

ALTER TABLE block_events_raw COMMENT COLUMN source 'live (the daemon, the follower), chain (solved: the follower found a block of ours that no daemon told; the daemon''s own word counts before it) or backfill (CKPool''s main log: any other copy counts before it)';

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
    source               LowCardinality(String)  COMMENT 'live (the daemon, the follower), chain (solved: the follower found a block of ours that no daemon told; the daemon''s own word counts before it) or backfill (CKPool''s main log)'
)
AS SELECT time, chain, kind, height, hash, prev_hash, follower, chain_seq, origin, instance, ours, confirmations, user, worker, source
FROM block_events_raw FINAL
COMMENT 'One row is one thing that happened to a block, each once; the whole story of reorganisations';
