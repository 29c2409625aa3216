/**
 * The embedded event log: Avro container files per writer and topic, read and written without a server.
 *
 * Who writes holds the instance's directory (`openJournalWriter`); any number of processes read beside it (`openJournalLog`).
 */
import { resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { currentSchema, currentSchemaText, type Decoder, decoderFor, fingerprintOf } from '../../../schemas/codec.ts';
import { TOPICS, type Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import type { EventLog, JournalWriter, ReadOptions, RecordBatch } from './event-log.ts';
import { checkInstance, listInstances, listSegments } from './journal-files.ts';
import { PartitionReader } from './journal-reader.ts';
import { type JournalWriterOptions, openJournalWriter } from './journal-writer.ts';
import { SegmentReader } from './segment-reader.ts';
import { POLL_MS, waitForAppend } from './wakeup.ts';

export { type JournalWriterOptions, openJournalWriter } from './journal-writer.ts';

export interface JournalLogOptions extends Omit<JournalWriterOptions, 'instance'> {
  /** Under which name `append` writes; without it this log only reads. The writer is opened at the first append. */
  readonly instance?: string;
}

/** Opens the journal for reading, and for writing where it is given an instance. Nothing needs to be there yet. */
export function openJournalLog(options: JournalLogOptions): EventLog {
  const dir = resolve(options.dir);
  if (options.instance !== undefined) checkInstance(options.instance);
  const readers = new Map<string, PartitionReader>();
  /** Schema texts by fingerprint: those of this program, and those met in the heads of segments. */
  const texts = new Map<string, string>(
    TOPICS.map((topic) => [currentSchema(topic).fingerprint, currentSchemaText(topic)]),
  );
  const decoders = new Map<string, Decoder<Topic>>();
  let closed = false;
  let writer: JournalWriter | null = null;

  const textOf = (fingerprint: string): string | null => texts.get(fingerprint) ?? null;
  const checkOpen = (): void => {
    if (closed) throw new PoolError('journal_closed', 'the journal is closed');
  };

  function reader(topic: Topic, partition: string): PartitionReader {
    const key = `${topic}/${checkInstance(partition)}`;
    let found = readers.get(key);
    if (found === undefined) {
      found = new PartitionReader(dir, partition, topic, textOf, (fingerprint, text) => texts.set(fingerprint, text));
      readers.set(key, found);
    }
    return found;
  }

  /** Looks through the heads of all segments of a topic. */
  function findSchema(topic: Topic, fingerprint: string): string | null {
    for (const instance of listInstances(dir, topic)) {
      for (const name of listSegments(resolve(dir, instance, topic))) {
        const segment = SegmentReader.open(name, textOf);
        if (typeof segment === 'string') continue;
        const { schemaText } = segment.head;
        segment.close();
        if (schemaText !== null) texts.set(fingerprintOf(schemaText), schemaText);
        if (texts.has(fingerprint)) return texts.get(fingerprint)!;
      }
    }
    return null;
  }

  function schemaText(topic: Topic, fingerprint: string): string {
    const text = textOf(fingerprint) ?? findSchema(topic, fingerprint);
    if (text !== null) return text;
    throw new PoolError('schema_unknown', `no segment of topic ${topic} in ${dir} has the schema ${fingerprint}`, {
      facts: { topic, fingerprint },
    });
  }

  return {
    kind: 'journal',

    async append(entries) {
      checkOpen();
      if (writer === null) {
        const { instance } = options;
        if (instance === undefined) throw new PoolError('internal', 'this journal was opened for reading only');
        writer = openJournalWriter({ ...options, instance });
      }
      writer.append(entries);
    },

    async partitions(topic) {
      checkOpen();
      return listInstances(dir, topic);
    },

    async read(topic, partition, from, { maxRecords, waitMs, signal }: ReadOptions): Promise<RecordBatch> {
      const deadline = performance.now() + waitMs;
      // Reading is synchronous; one turn between two batches keeps sockets and timers served during a long replay.
      await nextTurn();
      for (;;) {
        checkOpen();
        const source = reader(topic, partition);
        const batch = source.take(from, maxRecords);
        const leftMs = deadline - performance.now();
        if (batch.records.length > 0 || batch.damage.length > 0 || leftMs <= 0 || signal?.aborted) return batch;
        await waitForAppend(source.topicDir, Math.min(POLL_MS, leftMs), signal);
      }
    },

    async decoder<T extends Topic>(topic: T, fingerprint: string): Promise<Decoder<T>> {
      const key = `${topic}/${fingerprint}`;
      let found = decoders.get(key);
      if (found === undefined) {
        const text = schemaText(topic, fingerprint);
        found = fingerprint === currentSchema(topic).fingerprint ? decoderFor(topic) : decoderFor(topic, text);
        decoders.set(key, found);
      }
      return found as Decoder<T>;
    },

    async schemaText(topic, fingerprint) {
      return schemaText(topic, fingerprint);
    },

    async lag(topic, partition, from) {
      checkOpen();
      // A reader of its own: looking must not move the one that reads.
      return new PartitionReader(dir, checkInstance(partition), topic, textOf, () => {}).lag(from);
    },

    async close() {
      if (closed) return;
      closed = true;
      for (const open of readers.values()) open.close();
      readers.clear();
      writer?.close();
      writer = null;
    },
  };
}
