import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { currentSchema, decoderFor } from '../../../schemas/codec.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { type KafkaLog, openKafkaLog } from '../../../services/core/log/kafka.ts';
import { PartitionFetcher } from '../../../services/core/log/kafka-reader.ts';
import { type Relay, startRelay } from '../../../services/relay/relay.ts';
import { readAll } from '../../contracts/event-log.ts';
import { sampleContract, sampleJob, sampleSession, shareEntries } from '../../contracts/samples.ts';
import { kafkaForTests } from '../../helpers/kafka-broker.ts';
import { until } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';

const broker = await havePart('kafka', kafkaForTests);
afterAll(() => broker?.stop());

const decodeShare = decoderFor('share');

describe.skipIf(!broker)('the relay', () => {
  let dir: string;
  let kafka: KafkaLog;
  let topicPrefix: string;
  let lines: string[];
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'relay-'));
    topicPrefix = `t${randomBytes(4).toString('hex')}.`;
    lines = [];
    kafka = await open();
  });
  afterEach(async () => {
    await kafka.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const open = () => openKafkaLog({ brokers: broker!.brokers, clientId: 'relay', topicPrefix, partitions: 2 });
  const start = (): Promise<Relay> =>
    startRelay({
      journalDir: join(dir, 'journal'),
      kafka,
      stateFile: join(dir, 'relay.sqlite'),
      log: (line) => lines.push(line),
    });
  const writer = (instance: string) => openJournalWriter({ dir: join(dir, 'journal'), instance });
  const drained = async (relay: Relay): Promise<boolean> => (await relay.lag()).every(({ records }) => records === 0);

  test('carries every topic of every instance, those that appear later too, and each record keeps its place', async () => {
    const a = writer('a');
    a.append([...shareEntries(0, 2500), { topic: 'job', event: sampleJob(1) }]);
    const relay = await start();
    await until('a is carried', async () => relay.counts().sent === 2501);
    const b = writer('b');
    b.append([...shareEntries(5000, 10), { topic: 'session', event: sampleSession(1) }]);
    b.append([{ topic: 'contract', event: sampleContract(1) }]);
    a.append(shareEntries(2500, 1));
    await until('b is carried', async () => relay.counts().sent === 2514);
    expect((await relay.lag()).map(({ topic, instance, records }) => [topic, instance, records])).toEqual([
      ['contract', 'b', 0],
      ['job', 'a', 0],
      ['session', 'b', 0],
      ['share', 'a', 0],
      ['share', 'b', 0],
    ]);
    const shares = await readAll(kafka, 'share', 2511, 1000);
    for (const [run, instance, count] of [
      [a.run, 'a', 2501],
      [b.run, 'b', 10],
    ] as const) {
      const own = shares.filter((record) => record.run === run && record.instance === instance);
      expect(own.map(({ sequence }) => sequence).sort((x, y) => x - y)).toEqual(
        Array.from({ length: count }, (_, i) => i),
      );
    }
    for (const topic of ['job', 'session', 'contract'] as const) await readAll(kafka, topic, 1);
    // Whoever has nothing but the broker can read what is in it.
    const fetcher = new PartitionFetcher({ brokers: broker!.brokers }, broker!.brokers, `${topicPrefix}schema`, 0);
    const { messages } = await fetcher.take(null, 100, 5_000);
    await fetcher.close();
    const topics = ['share', 'job', 'session', 'contract'] as const;
    expect(messages.map(({ key }) => String(key)).sort()).toEqual(
      topics.map((topic) => currentSchema(topic).fingerprint).sort(),
    );
    expect(lines).toEqual([]);
    await relay.stop();
    a.close();
    b.close();
  });

  test('goes on where it stopped, and a lost position sends again what is there already', async () => {
    const a = writer('a');
    a.append(shareEntries(0, 100));
    let relay = await start();
    await until('carried', () => drained(relay));
    await relay.stop();
    a.append(shareEntries(100, 50));
    relay = await start();
    await until('carried', () => drained(relay));
    expect(relay.counts().sent).toBe(50);
    await relay.stop();
    for (const file of readdirSync(dir)) if (file.startsWith('relay.sqlite')) rmSync(join(dir, file));
    relay = await start();
    await until('carried', () => drained(relay));
    expect(relay.counts().sent).toBe(150);
    await relay.stop();
    a.close();
    const shares = await readAll(kafka, 'share', 150);
    expect(new Set(shares.map(({ body }) => decodeShare(body).hash)).size).toBe(150);
  });

  test('another Kafka, or topics that were deleted, get all that the journal has', async () => {
    const a = writer('a');
    a.append([...shareEntries(0, 100), { topic: 'job', event: sampleJob(1) }]);
    let relay = await start();
    await until('carried', () => relay.counts().sent === 101);
    await relay.stop();
    await kafka.close();
    const admin = new Kafka({ brokers: broker!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [`${topicPrefix}share`] });
    await until('deleted', async () => !(await admin.listTopics()).includes(`${topicPrefix}share`));
    await admin.disconnect();
    kafka = await open();
    relay = await start();
    await until('carried again', () => relay.counts().sent === 100);
    expect(lines).toEqual(['topic share was gone from Kafka: it gets the journal from the oldest record']);
    await relay.stop();
    await kafka.close();
    // Another prefix is another log, as another cluster is.
    const first = topicPrefix;
    topicPrefix = `${first}other.`;
    kafka = await open();
    relay = await start();
    await until('carried to the other', () => relay.counts().sent === 101);
    expect(lines.at(-1)).toMatch(/^this Kafka \(.*other\.\) is not the last one/);
    await relay.stop();
    await kafka.close();
    topicPrefix = first;
    kafka = await open();
    a.append(shareEntries(100, 1));
    relay = await start();
    await until('what came meanwhile is carried to the first', () => drained(relay));
    expect(relay.counts().sent).toBe(1);
    await relay.stop();
    a.close();
  });

  test('positions in another journal: it says so, and all of that journal is carried', async () => {
    const old = writer('a');
    old.append(shareEntries(0, 30));
    let relay = await start();
    await until('carried', () => relay.counts().sent === 30);
    await relay.stop();
    old.close();
    rmSync(join(dir, 'journal'), { recursive: true });
    // The data directory was replaced: the same name, another run, sequences from 0 on.
    const a = writer('a');
    a.append(shareEntries(1000, 40));
    relay = await start();
    await until('carried', () => relay.counts().sent === 40);
    expect(lines).toEqual([
      expect.stringMatching(/^share of a at [0-9a-f]{16}:30: run [0-9a-f]{16} is not in the journal any more/),
    ]);
    await relay.stop();
    a.close();
    const shares = await readAll(kafka, 'share', 70);
    expect(new Set(shares.map(({ body }) => decodeShare(body).hash)).size).toBe(70);
  });

  test('a position beyond the end of its run, after a power cut took the tail: the next run is carried whole', async () => {
    const first = writer('a');
    first.append(shareEntries(0, 20));
    const copy = join(dir, 'copy');
    cpSync(join(dir, 'journal'), copy, { recursive: true });
    first.append(shareEntries(20, 20));
    let relay = await start();
    await until('carried', () => relay.counts().sent === 40);
    await relay.stop();
    first.close();
    rmSync(join(dir, 'journal'), { recursive: true });
    cpSync(copy, join(dir, 'journal'), { recursive: true });
    const second = writer('a');
    second.append(shareEntries(500, 25));
    relay = await start();
    await until('carried', () => relay.counts().sent === 25);
    expect(lines.filter((line) => line.startsWith('share of a'))).toEqual([expect.stringMatching(/:40: /)]);
    await relay.stop();
    second.close();
    const shares = await readAll(kafka, 'share', 65);
    expect(new Set(shares.map(({ body }) => decodeShare(body).hash)).size).toBe(65);
  });

  test('a second relay on the same positions is refused', async () => {
    const relay = await start();
    await expect(start()).rejects.toSatisfy((error) => error instanceof PoolError && error.code === 'held');
    await relay.stop();
  });

  test('damage is said with its place and the rest is carried', async () => {
    const a = writer('a');
    for (let i = 0; i < 3; i++) a.append(shareEntries(i, 1));
    a.close();
    const folder = join(dir, 'journal/a/share');
    const segment = join(folder, readdirSync(folder).find((name) => name.endsWith('.avro'))!);
    const bytes = readFileSync(segment);
    bytes[bytes.length - 30]! ^= 1;
    writeFileSync(segment, bytes);
    const relay = await start();
    await until('carried', () => drained(relay));
    expect(relay.counts()).toMatchObject({ sent: 2, damaged: 1 });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^share of a at [0-9a-f]{16}:2: the checksum of the block differs/);
    await relay.stop();
  });
});
