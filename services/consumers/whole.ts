/** Reads a partition from its beginning to its present end: what is folded anew at each start, and what was published. */
import type { Topic } from '../../schemas/events.ts';
import type { EventLog, Position, RecordBatch } from '../core/log/event-log.ts';
import { pause } from './problems.ts';

const READ_AT_ONCE = 10_000;
/** A broker that has just become a leader may know less than it has: an end that is not where the lag says is looked at again so often. */
const EMPTY_READS = 20;
const AGAIN_MS = 250;

/** Batches up to the end; ends early where the signal says so. @throws what the log throws */
export async function* wholePartition(
  log: EventLog,
  topic: Topic,
  partition: string,
  signal: AbortSignal,
): AsyncGenerator<RecordBatch> {
  let from: Position | null = null;
  for (let empty = 0; !signal.aborted; ) {
    const batch: RecordBatch = await log.read(topic, partition, from, { maxRecords: READ_AT_ONCE, waitMs: 0, signal });
    from = batch.next;
    if (batch.records.length > 0 || batch.damage.length > 0) {
      empty = 0;
      yield batch;
      continue;
    }
    empty += 1;
    if (empty >= EMPTY_READS || ((await log.lag(topic, partition, from)) ?? 0) === 0) return;
    await pause(AGAIN_MS, signal);
  }
}
