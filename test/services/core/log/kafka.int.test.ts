import { randomBytes } from 'node:crypto';
import { ConfigResourceTypes, Kafka, logLevel, Partitioners } from 'kafkajs';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { currentSchema, fingerprintOf } from '../../../../schemas/codec.ts';
import type { RecordBatch } from '../../../../services/core/log/event-log.ts';
import { openKafkaLog } from '../../../../services/core/log/kafka.ts';
import { RecordProducer } from '../../../../services/core/log/kafka-producer.ts';
import { PartitionFetcher } from '../../../../services/core/log/kafka-reader.ts';
import { eventLogSuite, readAll, readSome } from '../../../contracts/event-log.ts';
import { sampleBlock, sampleShare, shareEntries } from '../../../contracts/samples.ts';
import { kafkaForTests } from '../../../helpers/kafka-broker.ts';
import { havePart } from '../../../helpers/require.ts';

const kafka = await havePart('kafka', kafkaForTests);
afterAll(() => kafka?.stop());

describe.skipIf(!kafka)('on a real broker', () => {
  eventLogSuite('Kafka', async () => {
    const { brokers, prefix } = kafka!;
    const topicPrefix = `${prefix}${randomBytes(4).toString('hex')}.`;
    const open = (clientId: string) => openKafkaLog({ brokers, clientId, topicPrefix, partitions: 2 });
    return {
      open,
      storeForeign: async (topic, schemaText, bodies) => {
        const log = await open('earlier');
        await log.announce(topic, schemaText);
        const fingerprint = fingerprintOf(schemaText);
        const place = {
          topic,
          partition: 'earlier',
          fingerprint,
          instance: 'earlier',
          run: 'ab'.repeat(8),
          position: '',
        };
        const records = bodies.map((body, sequence) => ({ ...place, body, sequence }));
        await log.carry(topic, records).send();
        await log.close();
      },
      remove: async () => {
        const admin = new Kafka({ brokers, logLevel: logLevel.NOTHING }).admin();
        await admin.connect();
        const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(topicPrefix));
        await admin.deleteTopics({ topics });
        await admin.disconnect();
      },
    };
  });
});

describe.skipIf(!kafka)('topics and refusals of a real broker', () => {
  const own = () => `${kafka!.prefix}${randomBytes(4).toString('hex')}.`;

  test('topics are made once, without a limit of time or size, the schemas compacted', async () => {
    const topicPrefix = own();
    for (let i = 0; i < 2; i++) {
      const log = await openKafkaLog({
        brokers: kafka!.brokers,
        clientId: 'a',
        topicPrefix,
        partitions: 3,
        replication: 1,
        minInsyncReplicas: 1,
      });
      expect(await log.partitions('share')).toEqual(['0', '1', '2']);
      expect(await log.partitions('block')).toEqual(['0']);
      await log.close();
    }
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const settings = async (topic: string) => {
      const names = ['retention.ms', 'retention.bytes', 'cleanup.policy', 'min.insync.replicas'];
      const resource = { type: ConfigResourceTypes.TOPIC, name: `${topicPrefix}${topic}`, configNames: names };
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
      return Object.fromEntries(
        resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]),
      );
    };
    expect(await settings('share')).toEqual({
      'retention.ms': '-1',
      'retention.bytes': '-1',
      'cleanup.policy': 'delete',
      'min.insync.replicas': '1',
    });
    expect(await settings('schema')).toMatchObject({ 'cleanup.policy': 'compact' });
    await admin.disconnect();
  });

  test('topics that are there with settings that endanger the log are named, each with its mend', async () => {
    const topicPrefix = own();
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const config = (settings: Record<string, string>) =>
      Object.entries(settings).map(([name, value]) => ({ name, value }));
    await admin.createTopics({
      waitForLeaders: true,
      topics: [
        { topic: `${topicPrefix}share`, configEntries: config({ 'retention.ms': '604800000' }) },
        { topic: `${topicPrefix}job`, configEntries: config({ 'cleanup.policy': 'compact' }) },
        { topic: `${topicPrefix}session`, configEntries: config({ 'unclean.leader.election.enable': 'true' }) },
        { topic: `${topicPrefix}block`, numPartitions: 2, configEntries: config({ 'retention.bytes': '1000000' }) },
        { topic: `${topicPrefix}schema`, configEntries: config({ 'retention.ms': '604800000' }) },
      ],
    });
    const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix, partitions: 1 });
    const problems = (await log.topicProblems()).map(({ what, mend }) => ({
      what: what.replaceAll(topicPrefix, ''),
      mend: mend.replaceAll(topicPrefix, ''),
    }));
    expect(problems.map(({ what }) => what.split(/[:,]/)[0]).sort()).toEqual([
      'topic block has 2 partitions and must have 1',
      'topic block has max.message.bytes=1048588',
      'topic block has retention.bytes=1000000',
      'topic job has cleanup.policy=compact',
      'topic schema has cleanup.policy=delete',
      'topic session has unclean.leader.election.enable=true',
      'topic share has retention.ms=604800000',
    ]);
    expect(problems).toContainEqual({
      what: 'topic share has retention.ms=604800000: the log of record is forgotten',
      mend: 'kafka-configs.sh --alter --topic share --add-config retention.ms=-1',
    });
    expect(problems).toContainEqual({
      what: 'topic block has 2 partitions and must have 1, as its order matters',
      mend: 'make it anew and replay into it',
    });
    await admin.disconnect();
    await log.close();
  });

  test('more replicas than brokers are refused with that reason', async () => {
    const refused = openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix: own(), replication: 9 });
    await expect(refused).rejects.toMatchObject({
      code: 'kafka',
      message: expect.stringMatching(/fewer brokers than "replication"/),
    });
  });

  test('a record larger than the broker takes is refused with that reason, and the log goes on', async () => {
    const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix: own(), partitions: 1 });
    const large = log.append([
      { topic: 'share', event: sampleShare(1, { agent: randomBytes(1_500_000).toString('hex') }) },
    ]);
    await expect(large).rejects.toMatchObject({
      code: 'kafka',
      message: expect.stringMatching(/larger than the broker takes/),
    });
    await log.append([{ topic: 'share', event: sampleShare(2) }]);
    await readAll(log, 'share', 1);
    await log.close();
  });

  test('a topic that takes small batches only gets small batches', async () => {
    const topicPrefix = own();
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const configEntries = [{ name: 'max.message.bytes', value: '3000' }];
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: `${topicPrefix}share`, configEntries }] });
    await admin.disconnect();
    const { brokers } = kafka!;
    const log = await openKafkaLog({ brokers, clientId: 'a', topicPrefix, partitions: 1, compression: 'none' });
    await log.append(shareEntries(0, 200));
    const records = await readAll(log, 'share', 200);
    expect(new Set(records.map(({ sequence }) => sequence)).size).toBe(200);
    await log.close();
  });

  test('a batch size that a topic takes is kept, and larger ones are tried after a minute', async () => {
    const topicPrefix = own();
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const limit = (bytes: number) => [{ name: 'max.message.bytes', value: String(bytes) }];
    const topic = `${topicPrefix}share`;
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, configEntries: limit(3000) }] });
    const { brokers } = kafka!;
    let nowMs = 0;
    const log = await openKafkaLog({
      ...{ brokers, clientId: 'a', topicPrefix, partitions: 1, compression: 'none' },
      nowMs: () => nowMs,
    });
    const prepared = vi.spyOn(RecordProducer.prototype, 'prepare');
    let appended = 0;
    /** Appends 200 shares. @returns the batch sizes that were tried */
    const sizes = async (): Promise<number[]> => {
      prepared.mockClear();
      await log.append(shareEntries(appended, 200));
      appended += 200;
      return prepared.mock.calls.filter(([name]) => name === topic).map(([, , , bytes]) => bytes!);
    };
    expect(await sizes()).toEqual([786_432, 196_608, 49_152, 12_288, 3_072]);
    expect(await sizes()).toEqual([3_072]);
    nowMs += 60_000;
    expect(await sizes()).toEqual([12_288, 3_072]);
    expect(await sizes()).toEqual([3_072]);
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: limit(1_000_000) }],
    });
    for (const bytes of [12_288, 49_152, 196_608, 786_432, 786_432]) {
      nowMs += 60_000;
      expect(await sizes()).toEqual([bytes]);
    }
    prepared.mockRestore();
    const records = await readAll(log, 'share', appended);
    expect(new Set(records.map(({ sequence }) => sequence)).size).toBe(appended);
    await log.close();
    await admin.disconnect();
  });

  test('a topic whose segments are smaller than a batch gets smaller batches', async () => {
    const topicPrefix = own();
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const configEntries = [{ name: 'internal.segment.bytes', value: '5000' }];
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: `${topicPrefix}share`, configEntries }] });
    await admin.disconnect();
    const { brokers } = kafka!;
    const log = await openKafkaLog({ brokers, clientId: 'a', topicPrefix, partitions: 1, compression: 'none' });
    await log.append(shareEntries(0, 200));
    const records = await readAll(log, 'share', 200);
    expect(new Set(records.map(({ sequence }) => sequence)).size).toBe(200);
    await log.close();
  });

  test('a block whose coinbase fills it is carried: a stranger who mines one does not stop the topic', async () => {
    const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix: own(), partitions: 1 });
    const block = sampleBlock({
      coinbase_outputs: Array.from({ length: 110_000 }, () => ({ script: '', value_sats: '0' })),
      coinbase_script: '51'.repeat(1_500_000),
    });
    await log.append([{ topic: 'block', event: block }]);
    await log.append([{ topic: 'block', event: sampleBlock({ chain_seq: 2 }) }]);
    const [large, next] = await readAll(log, 'block', 2);
    expect(large!.body.length).toBeGreaterThan(3_000_000);
    expect((await log.decoder('block', next!.fingerprint))(next!.body)).toMatchObject({ chain_seq: 2 });
    await log.close();
  });

  test('what is not ours in a topic is damage, an offset that is not there goes on at the oldest', async () => {
    const topicPrefix = own();
    const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix, partitions: 1 });
    const producer = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).producer({
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    await producer.send({
      topic: `${topicPrefix}share`,
      messages: [
        { key: 'k', value: 'hello' },
        { key: 'k', value: null },
      ],
    });
    await producer.disconnect();
    await log.append(shareEntries(0, 2));
    const records = [];
    const damage = [];
    let position: string | null = null;
    while (records.length < 2) {
      const batch: RecordBatch = await readSome(log, 'share', '0', position);
      records.push(...batch.records);
      damage.push(...batch.damage);
      position = batch.next;
    }
    expect(damage.map((found) => [found.position, found.bytes.toString()])).toEqual([
      ['0', 'hello'],
      ['1', ''],
    ]);
    expect(records.map((record) => record.position)).toEqual(['2', '3']);
    const beyond = await readSome(log, 'share', '0', '99');
    expect(beyond.damage).toMatchObject([
      { position: '99', reason: 'offset 99 is not in the log; reading goes on at 0, its oldest' },
    ]);
    expect(beyond.next).toBe('0');
    await log.close();
  });

  test('schemas are announced once, by fingerprint, as text that anyone can read', async () => {
    const topicPrefix = own();
    for (let i = 0; i < 2; i++) {
      const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix, partitions: 1 });
      await log.append(shareEntries(i, 1));
      await log.close();
    }
    const fetcher = new PartitionFetcher({ brokers: kafka!.brokers }, kafka!.brokers, `${topicPrefix}schema`, 0);
    const { messages } = await fetcher.take(null, 100, 5000);
    await fetcher.close();
    expect(messages.map(({ key }) => String(key))).toEqual([currentSchema('share').fingerprint]);
    expect(fingerprintOf(String(messages[0]!.value))).toBe(currentSchema('share').fingerprint);
  });
});
