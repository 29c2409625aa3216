/** For tests of the relay: a writer's load, and the comparison of what arrived with what was written. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect } from 'vitest';
import { FACTS } from '../../pipelines/derivations/topics.ts';
import { wholePartition } from '../../services/consumers/whole.ts';
import type { EventLog, JournalWriter, StoredRecord } from '../../services/core/log/event-log.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { sampleBlock, sampleJob, shareEntries } from '../contracts/samples.ts';

/** All that a log holds of a topic, partition by partition. */
async function wholeTopic(log: EventLog, topic: (typeof FACTS)[number]): Promise<Map<string, StoredRecord[]>> {
  const whole = new Map<string, StoredRecord[]>();
  for (const partition of await log.partitions(topic)) {
    const records: StoredRecord[] = [];
    // To its end, which a read that gives nothing in time is not.
    for await (const batch of wholePartition(log, topic, partition, new AbortController().signal)) {
      expect(batch.damage).toEqual([]);
      records.push(...batch.records);
    }
    whole.set(partition, records);
  }
  return whole;
}

/**
 * Compares Kafka with the journal, record by record: all of it is there, byte for byte, and in each partition the first copies are in the journal's order.
 * @returns number of copies beyond the first
 */
export async function compareLogs(
  journalDir: string,
  brokers: readonly string[],
  topicPrefix: string,
): Promise<number> {
  const kafka = await openKafkaLog({ brokers, clientId: 'reader', topicPrefix, partitions: 3 });
  const journal = openJournalLog({ dir: journalDir });
  const placeOf = ({ instance, run, sequence }: StoredRecord): string => `${instance}/${run}/${sequence}`;
  let copies = 0;
  try {
    for (const topic of FACTS) {
      const stored = [...(await wholeTopic(journal, topic)).values()].flat();
      const bodies = new Map(stored.map((record) => [placeOf(record), record]));
      const seen = new Set<string>();
      for (const [partition, records] of await wholeTopic(kafka, topic)) {
        const last = new Map<string, number>();
        for (const record of records) {
          const place = placeOf(record);
          const original = bodies.get(place);
          if (original === undefined) expect.fail(`${topic} ${partition}: ${place} is not in the journal`);
          if (!record.body.equals(original.body) || record.fingerprint !== original.fingerprint) {
            expect.fail(`${topic} ${partition}: ${place} differs from the journal`);
          }
          if (seen.has(place)) {
            copies++;
            continue;
          }
          seen.add(place);
          const writer = `${record.instance}/${record.run}`;
          if (record.sequence <= (last.get(writer) ?? -1))
            expect.fail(`${topic} ${partition}: ${place} is out of order`);
          last.set(writer, record.sequence);
        }
      }
      expect(seen.size, topic).toBe(bodies.size);
    }
  } finally {
    await kafka.close();
    await journal.close();
  }
  return copies;
}

/** Appends as a pool does, `count` shares in turns of 40, jobs and blocks among them. */
export async function mine(writer: JournalWriter, count: number, from = 0): Promise<void> {
  for (let i = from; i < from + count; i += 40) {
    writer.append(shareEntries(i, Math.min(40, from + count - i)));
    if (i % 400 === 0) writer.append([{ topic: 'job', event: sampleJob(i) }]);
    if (i % 2000 === 0) writer.append([{ topic: 'block', event: sampleBlock({ chain_seq: i }) }]);
    await nextTurn();
  }
}
