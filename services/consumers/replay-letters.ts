/** Puts dead letters through again: each one's record is read from the log, and those that pass now become rows and leave the table. */

import { FACTS, type FactTopic } from '../../pipelines/derivations/topics.ts';
import type { RowPipeline } from '../../pipelines/row.ts';
import type { Topic } from '../../schemas/events.ts';
import { chainsOf } from '../core/chains/profile.ts';
import type { EventLog, Position, StoredRecord } from '../core/log/event-log.ts';
import { literal } from './insert.ts';
import { decodeRecord, PartitionConsumer } from './partition.ts';
import { pipelinesOf } from './pipelines.ts';
import { readOtherwise } from './replay-build.ts';
import { type ReplayParts, type Work, withWork } from './replay-work.ts';
import { ConsumerState, type Cut } from './state.ts';

export interface LettersSummary {
  /** Letters looked at, of those that pass now and left the table. */
  readonly letters: number;
  readonly passed: number;
  /** Whose place the log does not have any more, or that were bytes nobody could read. */
  readonly gone: number;
}

interface Letter {
  readonly topic: FactTopic;
  readonly partition: string;
  readonly position: Position;
}

/** A log of these records alone, in one partition. */
function logOf(log: EventLog, records: readonly StoredRecord[]): EventLog {
  return readOtherwise(log, {
    lag: async () => null,
    close: async () => {},
    read: async (_topic, _partition, from) => ({ records: from === null ? records : [], damage: [], next: 'end' }),
  });
}

/**
 * The state of letters that are put through: nothing of it stays but the minutes, and these are the consumers' before anything is inserted. The
 * minute of a copy that loses to a letter can be asked for only as long as no merge has removed that copy; after a crash in between nobody else
 * would know it. Put through a second time, a letter changes nothing.
 */
class LettersState extends ConsumerState {
  readonly #theirs: ConsumerState;

  constructor(theirs: ConsumerState) {
    super(':memory:');
    this.#theirs = theirs;
  }

  override storeCut(cut: Cut): void {
    this.#theirs.mark(cut.minutes);
    super.storeCut(cut);
  }
}

/** Letters of one partition at a time, so many. */
const LETTERS_AT_ONCE = 1_000;

/**
 * Reads each dead letter's record from the log again. Those that pass now become rows, and leave the table; the others stay. Consumers that
 * run stand aside meanwhile, and take blocks and contracts into what is derived when they go on.
 *
 * @throws PoolError held, schema_unknown, clickhouse; the signal's reason
 */
export async function replayLetters(parts: ReplayParts): Promise<LettersSummary> {
  return withWork(parts, false, async (work) => {
    const release = await work.turn(null);
    const log = await work.openLog();
    const answer = await work.live.query({
      // What was kept apart at a back-fill stands in a file, not in the log: `ingest` reads that again when it has changed.
      query: `SELECT DISTINCT topic, partition, position FROM dead_letters FINAL WHERE topic != 'quarantine'
        ORDER BY topic, partition, position`,
      format: 'JSONEachRow',
    });
    const letters = (await answer.json<Letter>()).filter(({ topic }) => (FACTS as readonly string[]).includes(topic));
    const pipelines = pipelinesOf(chainsOf(parts.config.chain));
    const state = new ConsumerState(work.statePath);
    let passed = 0;
    let gone = 0;
    try {
      const byPartition = Map.groupBy(letters, ({ topic, partition }) => `${topic}/${partition}`);
      for (const group of byPartition.values()) {
        for (let i = 0; i < group.length; i += LETTERS_AT_ONCE) {
          parts.signal.throwIfAborted();
          const done = await putThrough(work, log, pipelines, state, group.slice(i, i + LETTERS_AT_ONCE));
          passed += done.passed;
          gone += done.gone;
        }
      }
    } finally {
      state.close();
    }
    release();
    return { letters: letters.length, passed, gone };
  });
}

/** Letters of one partition. */
async function putThrough(
  work: Work,
  log: EventLog,
  pipelines: ReturnType<typeof pipelinesOf>,
  state: ConsumerState,
  letters: readonly Letter[],
): Promise<{ passed: number; gone: number }> {
  const { topic, partition } = letters[0]!;
  const pipeline = pipelines[topic] as RowPipeline<Topic>;
  const passing: StoredRecord[] = [];
  let gone = 0;
  for (const { position } of letters) {
    const { records } = await log.read(topic, partition, position, {
      maxRecords: 1,
      waitMs: log.kind === 'kafka' ? 1_000 : 0,
    });
    const record = records.find((each) => each.position === position);
    if (record === undefined) {
      gone += 1;
      continue;
    }
    const decoded = await decodeRecord(log, topic, record);
    if ('event' in decoded && pipeline.wrong(decoded.event) === null) passing.push(record);
  }
  if (passing.length === 0) return { passed: 0, gone };
  const own = new LettersState(state);
  try {
    const consumer = new PartitionConsumer(
      {
        log: logOf(log, passing),
        client: work.live,
        state: own,
        counters: { records: 0, rows: 0, deadLetters: 0 },
        overlaps: new Set(),
        signal: work.parts.signal,
      },
      pipeline,
      partition,
    );
    await consumer.step();
  } finally {
    own.close();
  }
  await work.live.command({
    query: `DELETE FROM dead_letters WHERE topic = ${literal(topic)} AND partition = ${literal(partition)}
      AND position IN (${passing.map(({ position }) => literal(position)).join(', ')})`,
  });
  return { passed: passing.length, gone };
}
