/**
 * Every kind of request that the log makes of a broker, against a current Apache Kafka.
 *
 * Kafka 4 dropped the protocol versions from before 2.1 (KIP-896) and kafkajs 2.2.4 is older than that, so this is
 * the proof that the two understand each other; when the broker's version rises, it is proved again.
 */

import { Kafka, logLevel } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kafkaForTests } from './kafka-broker.ts';
import { until } from './leash.ts';
import { havePart } from './require.ts';

const kafka = await havePart('kafka', kafkaForTests);

describe.skipIf(!kafka)('kafkajs and the broker', () => {
  const client = new Kafka({ brokers: kafka?.brokers ?? [''], clientId: 'test', logLevel: logLevel.NOTHING });
  const admin = client.admin();
  const topic = `${kafka?.prefix}share`;
  const compacted = `${kafka?.prefix}schema`;

  beforeAll(async () => {
    await admin.connect();
    await admin.createTopics({
      // kafkajs waits for a leader, but not for a broker that has not yet heard of the topic: that is an error to it.
      waitForLeaders: false,
      topics: [
        { topic, numPartitions: 3, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '-1' }] },
        { topic: compacted, configEntries: [{ name: 'cleanup.policy', value: 'compact' }] },
      ],
    });
    await until('every partition has a leader', async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic, compacted] }).catch(() => ({ topics: [] }));
      const partitions = topics.flatMap((each) => each.partitions);
      return partitions.length === 4 && partitions.every(({ leader }) => leader >= 0);
    });
  });
  afterAll(async () => {
    await admin.deleteTopics({ topics: [topic, compacted] });
    await admin.disconnect();
    await kafka?.stop();
  });

  test('a topic is made with its settings, and once', async () => {
    expect(await admin.createTopics({ topics: [{ topic }] })).toBe(false);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: topic, configNames: ['retention.ms', 'min.insync.replicas'] }],
    });
    const settings = resources[0]?.configEntries.map((entry) => [entry.configName, entry.configValue]);
    expect(Object.fromEntries(settings ?? [])).toEqual({ 'retention.ms': '-1', 'min.insync.replicas': '1' });
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic, compacted] });
    expect(topics.map((each) => each.partitions.length).sort()).toEqual([1, 3]);
    expect((await admin.describeCluster()).brokers.length).toBeGreaterThan(0);
    expect(await admin.listTopics()).toContain(topic);
  });

  test('what a producer was acknowledged for, a group reads from its committed offset', async () => {
    const producer = client.producer({ maxInFlightRequests: 1, allowAutoTopicCreation: false });
    await producer.connect();
    const acks = await producer.sendBatch({
      acks: -1,
      topicMessages: [
        {
          topic,
          messages: Array.from({ length: 900 }, (_, i) => ({
            key: `${i}`,
            value: Buffer.from([0xc3, 1, i & 255]),
            partition: i % 3,
          })),
        },
        { topic: compacted, messages: [{ key: 'a', value: 'schema' }] },
      ],
    });
    await producer.disconnect();
    expect(acks.map((ack) => ack.errorCode)).toEqual(acks.map(() => 0));
    const offsets = await admin.fetchTopicOffsets(topic);
    expect(offsets.map(({ low, high }) => [low, high])).toEqual([
      ['0', '300'],
      ['0', '300'],
      ['0', '300'],
    ]);
    expect((await admin.fetchTopicOffsetsByTimestamp(topic, 0)).map(({ offset }) => offset)).toEqual(['0', '0', '0']);

    const groupId = `${kafka?.prefix}group`;
    const seen = new Set<string>();
    await readWith(groupId, seen, 900);
    expect(seen.size).toBe(900);
    const committed = await admin.fetchOffsets({ groupId, topics: [topic] });
    expect(committed[0]?.partitions.map(({ offset }) => offset)).toEqual(['300', '300', '300']);
    // Back by ten in one partition: exactly these come again.
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 1, offset: '290' }] });
    const again = new Set<string>();
    await readWith(groupId, again, 10);
    expect(again).toEqual(new Set(Array.from({ length: 10 }, (_, i) => `${(290 + i) * 3 + 1}`)));
    expect((await admin.describeGroups([groupId])).groups[0]?.state).toBe('Empty');
    await admin.deleteGroups([groupId]);
  });

  test('an idempotent producer is acknowledged', async () => {
    const producer = client.producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const [ack] = await producer.send({ topic, acks: -1, messages: [{ key: 'x', value: 'y', partition: 0 }] });
    await producer.disconnect();
    expect(ack).toMatchObject({ errorCode: 0, baseOffset: '300' });
  });

  test('records are deleted up to an offset', async () => {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 2, offset: '100' }] });
    const low = (await admin.fetchTopicOffsets(topic)).find(({ partition }) => partition === 2)?.low;
    expect(low).toBe('100');
  });

  test('a topic that nobody made is refused, not made', async () => {
    const producer = client.producer({ retry: { retries: 0 } });
    await producer.connect();
    await expect(producer.send({ topic: `${topic}-absent`, messages: [{ value: 'x' }] })).rejects.toThrow(
      'This server does not host this topic-partition',
    );
    await producer.disconnect();
  });

  /** Reads and commits as the group until `count` keys were seen. */
  async function readWith(groupId: string, seen: Set<string>, count: number): Promise<void> {
    const consumer = client.consumer({ groupId, maxWaitTimeInMs: 100, sessionTimeout: 10_000 });
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      eachBatchAutoResolve: false,
      autoCommit: false,
      async eachBatch({ batch, resolveOffset }) {
        for (const message of batch.messages) {
          seen.add(String(message.key));
          resolveOffset(message.offset);
        }
        const next = String(BigInt(batch.lastOffset()) + 1n);
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }]);
      },
    });
    await until(`${count} records`, () => seen.size >= count);
    await until('the last commit', async () => {
      const [offsets] = await admin.fetchOffsets({ groupId, topics: [topic] });
      return offsets?.partitions.every(({ offset }) => offset === '300');
    });
    await consumer.disconnect();
  }
});
