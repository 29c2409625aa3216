/**
 * What every event log does, as one suite: run on the embedded journal (test/services/core/log/journal.test.ts) and on a real broker
 * (test/services/core/log/kafka.int.test.ts).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { currentSchema, currentSchemaText, decoderFor, encodeEvent } from '../../schemas/codec.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import { PoolError } from '../../services/core/errors.ts';
import type { EventLog, LogEntry, Position, RecordBatch, StoredRecord } from '../../services/core/log/event-log.ts';
import { sampleContract, sampleJob, sampleSession, sampleShare, shareEntries } from './samples.ts';

/** One log, empty at first, that several handles open. */
export interface LogUnderTest {
  /** A further handle; `writer` names who appends through it. */
  open(writer: string): Promise<EventLog>;
  /** Stores records written by another version of a topic's schema, with that schema made known as the log does it. */
  storeForeign(topic: Topic, schemaText: string, bodies: readonly Buffer[]): Promise<void>;
  remove(): Promise<void>;
}

/** A limit for what never comes, below that of a test; a broker on a busy machine takes seconds. */
const DEADLINE_MS = 120_000;

/**
 * Reads all partitions on until so many records came; fails where they do not come in time. Delivery is at least once: a record that comes
 * again, by its place in the journal that took it, is left out.
 */
export async function readAll(log: EventLog, topic: Topic, count: number, maxRecords = 500): Promise<StoredRecord[]> {
  const positions = new Map<string, Position | null>();
  const records: StoredRecord[] = [];
  const seen = new Set<string>();
  const deadline = performance.now() + DEADLINE_MS;
  while (records.length < count) {
    if (performance.now() > deadline) throw new Error(`${records.length} of ${count} records of ${topic} came`);
    for (const partition of await log.partitions(topic)) {
      const batch = await log.read(topic, partition, positions.get(partition) ?? null, { maxRecords, waitMs: 50 });
      expect(batch.damage).toEqual([]);
      expect(batch.records.length).toBeLessThanOrEqual(maxRecords);
      positions.set(partition, batch.next);
      for (const record of batch.records) {
        const place = `${record.instance}/${record.run}/${record.sequence}`;
        if (!seen.has(place)) records.push(record);
        seen.add(place);
      }
    }
  }
  return records;
}

/** Reads one partition on until something comes. */
export async function readSome(
  log: EventLog,
  topic: Topic,
  partition: string,
  from: Position | null,
  maxRecords = 500,
): Promise<RecordBatch> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const batch = await log.read(topic, partition, from, { maxRecords, waitMs: 200 });
    if (batch.records.length > 0 || batch.damage.length > 0) return batch;
    if (performance.now() > deadline) throw new Error(`nothing came from ${topic}/${partition}`);
  }
}

async function decodeAll<T extends Topic>(
  log: EventLog,
  topic: T,
  records: readonly StoredRecord[],
): Promise<Events[T][]> {
  return Promise.all(records.map(async (record) => (await log.decoder(topic, record.fingerprint))(record.body)));
}

/** The partition that has records of a topic. */
async function partitionOf(log: EventLog, topic: Topic, count: number): Promise<string> {
  return (await readAll(log, topic, count))[0]!.partition;
}

async function refusal(work: Promise<unknown>): Promise<PoolError> {
  const error = await work.then(
    () => new Error('not refused'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof PoolError) return error;
  throw error;
}

export function eventLogSuite(name: string, make: () => Promise<LogUnderTest>): void {
  describe(`${name} as an event log`, () => {
    let subject: LogUnderTest;
    let log: EventLog;
    beforeAll(async () => {
      subject = await make();
      log = await subject.open('writer-a');
    });
    afterAll(async () => {
      await log?.close();
      await subject?.remove();
    });

    /** Topics are shared by the tests below; each uses one that no other appends to, or a log of its own. */
    async function fresh(): Promise<{ subject: LogUnderTest; log: EventLog; [Symbol.asyncDispose](): Promise<void> }> {
      const own = await make();
      const opened = await own.open('writer-a');
      return {
        subject: own,
        log: opened,
        async [Symbol.asyncDispose]() {
          await opened.close();
          await own.remove();
        },
      };
    }

    test('an empty log has nothing to read, and waits no longer than asked', async () => {
      await using own = await fresh();
      const partitions = await own.log.partitions('contract');
      for (const partition of [...partitions, ...(partitions.length === 0 ? ['nobody'] : [])]) {
        // One of some has to be in time, on a machine that may be busy.
        let bestMs = Number.POSITIVE_INFINITY;
        for (let tries = 0; tries < 5 && bestMs >= 2_000; tries++) {
          const start = performance.now();
          const batch = await own.log.read('contract', partition, null, { maxRecords: 10, waitMs: 100 });
          expect(batch).toEqual({ records: [], damage: [], next: null });
          bestMs = Math.min(bestMs, performance.now() - start);
        }
        expect(bestMs).toBeLessThan(2_000);
      }
    });

    test('events of all topics of one append come back as they were, each under its topic', async () => {
      await using own = await fresh();
      const share = sampleShare(1, { worker: 'é"\\\u0000😀', sdiff: 0.1 });
      const entries: LogEntry[] = [
        { topic: 'share', event: share },
        { topic: 'job', event: sampleJob(1) },
        { topic: 'session', event: sampleSession(1) },
        { topic: 'contract', event: sampleContract(1) },
      ];
      await own.log.append(entries);
      for (const { topic, event } of entries) {
        const records = await readAll(own.log, topic, 1);
        expect(records).toHaveLength(1);
        expect(records[0]!.topic).toBe(topic);
        expect((await decodeAll(own.log, topic, records))[0]).toMatchObject(event);
      }
    });

    test('records come in the order of their appends, for each key', async () => {
      const followers = ['a', 'b', 'c'];
      for (let seq = 0; seq < 30; seq++) {
        await log.append(
          followers.map((follower) => ({
            topic: 'block',
            event: {
              kind: 'connected',
              chain: 'regtest',
              instance: 'chain-0',
              follower,
              chain_seq: seq,
              time_us: seq,
              height: seq,
              hash: 'aa',
              prev_hash: 'bb',
              block_time_us: 0,
              nbits: '207fffff',
              version: '20000000',
            },
          })),
        );
      }
      const blocks = await decodeAll(log, 'block', await readAll(log, 'block', 90, 7));
      for (const follower of followers) {
        const sequence = blocks.filter((block) => block.follower === follower).map((block) => block.chain_seq);
        expect(sequence).toEqual(Array.from({ length: 30 }, (_, i) => i));
      }
    });

    test('reading goes on exactly behind any record, by position and in another handle', async () => {
      await using own = await fresh();
      for (let i = 0; i < 20; i++) await own.log.append(shareEntries(i * 5, 5));
      const byPartition = Map.groupBy(await readAll(own.log, 'share', 100), (record) => record.partition);
      const other = await own.subject.open('writer-b');
      try {
        for (const [partition, records] of byPartition) {
          for (const stop of new Set([1, 3, Math.floor(records.length / 2), records.length - 1])) {
            if (stop < 1 || stop >= records.length) continue;
            let position: Position | null = null;
            let read = 0;
            while (read < stop) {
              const batch: RecordBatch = await readSome(own.log, 'share', partition, position, stop - read);
              position = batch.next;
              read += batch.records.length;
            }
            expect(read).toBe(stop);
            const rest = await readSome(other, 'share', partition, position, 1);
            expect(rest.records[0]!.body).toEqual(records[stop]!.body);
            // The position of a record itself is where it can be found again.
            const found = await readSome(other, 'share', partition, records[stop]!.position, 1);
            expect(found.records[0]!.body).toEqual(records[stop]!.body);
          }
        }
      } finally {
        await other.close();
      }
    });

    test('two writers fill one log, and every record says who took it and in which order', async () => {
      await using own = await fresh();
      const other = await own.subject.open('writer-b');
      try {
        await Promise.all([own.log.append(shareEntries(0, 40)), other.append(shareEntries(1000, 40))]);
        const records = await readAll(own.log, 'share', 80);
        const byWriter = Map.groupBy(records, (record) => record.instance);
        expect([...byWriter.keys()].sort()).toEqual(['writer-a', 'writer-b']);
        for (const ofWriter of byWriter.values()) {
          expect(ofWriter.map((record) => record.sequence).sort((a, b) => a - b)).toEqual(
            Array.from({ length: 40 }, (_, i) => i),
          );
          expect(new Set(ofWriter.map((record) => record.run)).size).toBe(1);
        }
      } finally {
        await other.close();
      }
    });

    test('a waiting read wakes when something is appended, through another handle too', async () => {
      await using own = await fresh();
      await own.log.append([{ topic: 'contract', event: sampleContract(1) }]);
      const partition = await partitionOf(own.log, 'contract', 1);
      const other = await own.subject.open('reader');
      try {
        const first = await readSome(other, 'contract', partition, null);
        const start = performance.now();
        const waiting = other.read('contract', partition, first.next, { maxRecords: 10, waitMs: 60_000 });
        await own.log.append([{ topic: 'contract', event: sampleContract(2) }]);
        const batch = await waiting;
        expect(performance.now() - start).toBeLessThan(30_000);
        expect((await decodeAll(other, 'contract', batch.records)).map((event) => event.contract_id)).toEqual(['c2']);
      } finally {
        await other.close();
      }
    });

    test('a signal ends a wait with an empty batch, and the next read goes on where this one stood', async () => {
      await using own = await fresh();
      await own.log.append([{ topic: 'contract', event: sampleContract(1) }]);
      const partition = await partitionOf(own.log, 'contract', 1);
      const { next } = await readSome(own.log, 'contract', partition, null);
      const abort = new AbortController();
      const start = performance.now();
      const waiting = own.log.read('contract', partition, next, {
        maxRecords: 10,
        waitMs: 60_000,
        signal: abort.signal,
      });
      setImmediate(() => abort.abort());
      expect(await waiting).toEqual({ records: [], damage: [], next });
      const aborted = await own.log.read('contract', partition, next, {
        maxRecords: 10,
        waitMs: 60_000,
        signal: AbortSignal.abort(),
      });
      expect(aborted).toEqual({ records: [], damage: [], next });
      expect(performance.now() - start).toBeLessThan(30_000);
      await own.log.append([{ topic: 'contract', event: sampleContract(2) }]);
      expect((await readSome(own.log, 'contract', partition, next)).records).toHaveLength(1);
    });

    test('a batch of many thousands comes back whole, in bites of what was asked for', async () => {
      await using own = await fresh();
      const count = 12_000;
      await own.log.append(shareEntries(0, count));
      const records = await readAll(own.log, 'share', count, 777);
      const decode = decoderFor('share');
      expect(new Set(records.map((record) => decode(record.body).hash)).size).toBe(count);
      expect(records).toHaveLength(count);
    });

    test('the lag is what lies behind a position', async () => {
      await using own = await fresh();
      const entries = Array.from({ length: 10 }, (_, i) => ({ topic: 'contract' as const, event: sampleContract(i) }));
      await own.log.append(entries);
      const partition = await partitionOf(own.log, 'contract', 10);
      expect(await own.log.lag('contract', partition, null)).toBe(10);
      let position: Position | null = null;
      let read = 0;
      while (read < 10) {
        const batch: RecordBatch = await readSome(own.log, 'contract', partition, position, 4);
        position = batch.next;
        read += batch.records.length;
        expect(await own.log.lag('contract', partition, position)).toBe(10 - read);
      }
    });

    test('records of an earlier version of their schema are read, with the defaults of what they lack', async () => {
      await using own = await fresh();
      const now = JSON.parse(currentSchemaText('contract')) as { fields: { name: string; default?: unknown }[] };
      const last = now.fields.at(-1)!;
      expect(last.default).toBeDefined();
      const earlier = JSON.stringify({ ...now, fields: now.fields.slice(0, -1) });
      const event = { ...sampleContract(1), customer: 'someone' };
      const full = encodeEvent('contract', event);
      // The last field is an empty string here: its whole encoding is one zero byte.
      expect(decoderFor('contract')(full)).toMatchObject({ [last.name]: '' });
      await own.subject.storeForeign('contract', earlier, [full.subarray(0, -1), full.subarray(0, -1)]);
      const records = await readAll(own.log, 'contract', 2);
      expect(records[0]!.fingerprint).not.toBe(currentSchema('contract').fingerprint);
      const decode = await own.log.decoder('contract', records[0]!.fingerprint);
      for (const record of records) expect(decode(record.body)).toMatchObject({ ...event, [last.name]: last.default });
      expect(JSON.parse(await own.log.schemaText('contract', records[0]!.fingerprint))).toEqual(JSON.parse(earlier));
    });

    test('a fingerprint that nobody has announced is schema_unknown, worth another try', async () => {
      const error = await refusal(log.decoder('share', 'feedfacefeedface'));
      expect(error.code).toBe('schema_unknown');
      expect(error.message).toContain('feedfacefeedface');
      expect(error.retry).toBe(true);
    });

    test('an event that does not fit its schema is refused, and nothing of its append is in the log', async () => {
      await using own = await fresh();
      const bad = { ...sampleShare(1), height: 'high' } as unknown as LogEntry['event'];
      const entries = [
        { topic: 'session', event: sampleSession(1) },
        { topic: 'share', event: bad },
      ] as LogEntry[];
      await expect((async () => own.log.append(entries))()).rejects.toThrow(/invalid/);
      await own.log.append([{ topic: 'session', event: sampleSession(2) }]);
      const records = await readAll(own.log, 'session', 1);
      expect((await decodeAll(own.log, 'session', records)).map((session) => session.client_id)).toEqual([2]);
    });

    test('a closed log refuses to be used', async () => {
      await using own = await fresh();
      const other = await own.subject.open('writer-b');
      await other.close();
      await other.close();
      expect((await refusal(other.partitions('share'))).code).toBe('journal_closed');
      expect((await refusal(other.read('share', '0', null, { maxRecords: 1, waitMs: 0 }))).code).toBe('journal_closed');
      expect((await refusal((async () => other.append(shareEntries(0, 1)))())).code).toBe('journal_closed');
    });
  });
}
