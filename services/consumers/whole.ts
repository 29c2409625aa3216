/**
 * Reads a partition from its beginning to its present end: what is folded anew at each start, and what was published.
 *
 * An empty answer of a broker is no end: one that a quota throttles answers without records (KIP-219), and a new leader does not show its newest
 * records until its followers have asked for them; the lag does not count those either, so the place that was read to before is looked for.
 */
import type { Topic } from '../../schemas/events.ts';
import type { EventLog, Position, RecordBatch } from '../core/log/event-log.ts';
import { pause } from './problems.ts';

const READ_AT_ONCE = 10_000;
/** A journal's end that is not where the lag says is looked at again so often: its last bytes may be torn. */
const EMPTY_READS = 20;
const AGAIN_MS = 250;
/** So often a log of Kafka is that ends before the place that was read to: its end may be lost. */
const LOST_READS = 80;

/**
 * Batches up to the end; ends early where the signal says so.
 * @param least - where reading goes on afterwards: what lies before it must not be missed
 * @throws what the log throws
 */
export async function* wholePartition(
  log: Pick<EventLog, 'kind' | 'read' | 'lag'>,
  topic: Topic,
  partition: string,
  signal: AbortSignal,
  least: Position | null = null,
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
    const isJournal = log.kind === 'journal';
    const isBefore = !isJournal && least !== null && BigInt(from ?? 0) < BigInt(least);
    const behind = await log.lag(topic, partition, from);
    if (behind === null || (behind === 0 && (!isBefore || empty >= LOST_READS))) return;
    if (isJournal && empty >= EMPTY_READS) return;
    await pause(AGAIN_MS, signal);
  }
}
