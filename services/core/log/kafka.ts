/**
 * The event log on an Apache Kafka cluster, through kafkajs.
 *
 *     topic          key                       value                            headers
 *     share, job …   identity of the event     single-object encoding of Avro   instance, run, sequence (of the journal that took it first)
 *     schema         fingerprint, 16 hex       schema text, JSON                                               compacted
 *
 * Topics are made where absent, kept without limit. The topics `block` and `contract` have one partition, as their folds need one order; the others
 * have `partitions`. Produce waits for all replicas in sync. Reading goes on from the offset that the caller names; a group (kafka-group.ts) says who reads what.
 */
import { randomBytes } from 'node:crypto';
import { type Admin, Kafka } from 'kafkajs';
import {
  currentSchema,
  currentSchemaText,
  type Decoder,
  decoderFor,
  encodeEvent,
  fingerprintOf,
  splitSingleObject,
} from '../../../schemas/codec.ts';
import { TOPICS, type Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import { APPEND_ORDER, type Damage, type EventLog, type RecordBatch, type StoredRecord } from './event-log.ts';
import { type FetchedMessage, kafkaError, protocolError } from './kafka-client.ts';
import { type Committed, type GroupOptions, joinKafkaGroup, type KafkaGroup } from './kafka-group.ts';
import { clientConfig, type KafkaLogOptions, REQUEST_TIMEOUT_MS } from './kafka-options.ts';
import { BatchLimit, type Compression, type Prepared, RecordProducer } from './kafka-producer.ts';
import { PartitionFetcher } from './kafka-reader.ts';
import { createTopics, patiently, SCHEMA_TOPIC, type TopicProblem, topicNames, topicProblems } from './kafka-topics.ts';
import { type KeyWriter, keyWriter } from './record-key.ts';

/** Records of one topic on their way to the brokers. */
export interface Carriage {
  /** Builds what is sent, which `send` does otherwise: for use while an earlier one is under way. */
  prepare(): Promise<void>;
  /** Sends what is not acknowledged yet, in order; resolves when all replicas have all of it. After an error it may be called again. */
  send(): Promise<void>;
}

export interface KafkaLog extends EventLog {
  readonly kind: 'kafka';
  /** Which log this is: the cluster's own random id and the prefix of the topics. */
  readonly cluster: string;
  /** Topics that were absent when this was opened, and so were made; told once. */
  takeMade(): readonly Topic[];
  /**
   * Says what a fingerprint means, before the first record that names it.
   * @param text - the schema as JSON text
   */
  announce(topic: Topic, text: string): Promise<void>;
  /**
   * Carries records of one topic of a journal on as they are, in order. Their schemas must have been announced. Both steps throw PoolError
   * kafka; some records may then be in the log all the same, and sending all again is right.
   */
  carry(topic: Topic, records: readonly StoredRecord[]): Carriage;
  /** Becomes a member of a consumer group of these topics; the caller closes it before the log. */
  joinGroup(options: GroupOptions): KafkaGroup;
  /** What the members of a group have committed, every partition of every topic. */
  groupOffsets(name: string): Promise<Committed[]>;
  /** How many members a group has now. */
  groupSize(name: string): Promise<number>;
  /** What makes the topics unfit as a log of record; empty where all is well. */
  topicProblems(): Promise<TopicProblem[]>;
}

const DEFAULT_PARTITIONS = 4;
/** A batch is too large, for the topic or for its segments. */
const TOO_LARGE: ReadonlySet<string | undefined> = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']);
const DEFAULT_COMPRESSION: Compression = 'zstd';

/** What is there of a log on Kafka, without making anything. */
export interface KafkaLook {
  readonly brokerCount: number;
  /** Topics that are not there yet; a relay or consumer makes them at its start. */
  readonly missing: readonly string[];
  /** What makes those that are there unfit. */
  readonly problems: readonly TopicProblem[];
}

/** Connects, looks, makes nothing. @throws PoolError kafka, config, as {@link openKafkaLog} */
export async function lookAtKafka(options: KafkaLogOptions): Promise<KafkaLook> {
  const { brokers, topicPrefix = '' } = options;
  const admin = new Kafka(clientConfig(options)).admin();
  try {
    await admin.connect();
    const present = new Set(await admin.listTopics());
    const names = topicNames(topicPrefix);
    const there = names.filter((name) => present.has(name));
    const { brokers: found } = await admin.describeCluster();
    return {
      brokerCount: found.length,
      missing: names.filter((name) => !present.has(name)),
      problems:
        there.length === 0
          ? []
          : await topicProblems(
              admin,
              { brokers, topicPrefix, partitions: options.partitions ?? DEFAULT_PARTITIONS },
              there,
            ),
    };
  } catch (error) {
    throw kafkaError('look at its topics', error, brokers);
  } finally {
    await admin.disconnect();
  }
}

/**
 * Connects, and makes the topics that are not there.
 * @throws PoolError kafka, naming the host that is not known, the user that is refused, or what the broker said
 */
export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const { brokers, clientId, topicPrefix = '' } = options;
  const config = clientConfig(options);
  const kafka = new Kafka(config);
  const admin: Admin = kafka.admin();
  const producer = new RecordProducer(config, options.compression ?? DEFAULT_COMPRESSION, REQUEST_TIMEOUT_MS);
  const run = randomBytes(8).toString('hex');
  const sequences = new Map<Topic, number>();
  const texts = new Map<string, string>(
    TOPICS.map((topic) => [currentSchema(topic).fingerprint, currentSchemaText(topic)]),
  );
  const announced = new Set<string>();
  const decoders = new Map<string, Decoder<Topic>>();
  const fetchers = new Map<string, PartitionFetcher>();
  let closed = false;

  const topicName = (topic: Topic | typeof SCHEMA_TOPIC): string => `${topicPrefix}${topic}`;
  const topicOptions = {
    ...{ brokers, topicPrefix, partitions: options.partitions ?? DEFAULT_PARTITIONS, log: options.log },
    ...{ replication: options.replication, minInsyncReplicas: options.minInsyncReplicas },
  };
  const doing = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    if (closed) throw new PoolError('journal_closed', 'the log is closed');
    return patiently(what, brokers, work);
  };

  let cluster: string;
  let made: readonly Topic[];
  try {
    await doing(`connect to ${brokers.join(', ')}`, () => admin.connect());
    cluster = `${await doing('ask for the name of the cluster', async () => (await admin.describeCluster()).clusterId)}/${topicPrefix}`;
    const names = await doing('make its topics', () => createTopics(admin, topicOptions));
    made = TOPICS.filter((topic) => names.includes(topicName(topic)));
  } catch (error) {
    await admin.disconnect();
    await producer.close();
    throw error;
  }

  const schemaFetcher = new PartitionFetcher(config, brokers, topicName(SCHEMA_TOPIC), 0);
  let schemaOffset: bigint | null = null;
  /** One at a time: reads the schema topic on to its present end. */
  let refreshing: Promise<void> = Promise.resolve();
  const refreshSchemas = (): Promise<void> => {
    const work = refreshing.then(async () => {
      for (;;) {
        const fetched = await schemaFetcher.take(schemaOffset, 1000, 0);
        schemaOffset = fetched.next;
        for (const { value } of fetched.messages) if (value !== null) learn(value.toString('utf8'));
        if (fetched.messages.length === 0) return;
      }
    });
    refreshing = work.catch(() => {});
    return work;
  };
  const learn = (text: string): void => {
    try {
      const fingerprint = fingerprintOf(text);
      texts.set(fingerprint, text);
      announced.add(fingerprint);
    } catch (error) {
      options.log?.(
        `kafka: topic ${topicName(SCHEMA_TOPIC)} has a text that is no schema: ${(error as Error).message}`,
      );
    }
  };

  async function announce(topic: Topic, text: string): Promise<void> {
    const fingerprint = fingerprintOf(text);
    if (announced.has(fingerprint)) return;
    await doing(`announce the schema of ${topic}`, async () => {
      await refreshSchemas();
      if (announced.has(fingerprint)) return;
      const record = { fingerprint: null, body: Buffer.from(text), instance: '', run: '', sequence: -1 };
      const writeKey = (_: number, out: Buffer, at: number): number => at + out.write(fingerprint, at);
      await producer.send(await producer.prepare(topicName(SCHEMA_TOPIC), [record], writeKey));
    });
    texts.set(fingerprint, text);
    announced.add(fingerprint);
  }

  async function schemaText(topic: Topic, fingerprint: string): Promise<string> {
    if (!texts.has(fingerprint)) await doing(`read topic ${topicName(SCHEMA_TOPIC)}`, refreshSchemas);
    const text = texts.get(fingerprint);
    if (text !== undefined) return text;
    throw new PoolError(
      'schema_unknown',
      `nobody has announced the schema ${fingerprint} of topic ${topicName(topic)}`,
      {
        facts: { topic, fingerprint },
      },
    );
  }

  async function decoder<T extends Topic>(topic: T, fingerprint: string): Promise<Decoder<T>> {
    const key = `${topic}/${fingerprint}`;
    let found = decoders.get(key);
    if (found === undefined) {
      const text = await schemaText(topic, fingerprint);
      found = fingerprint === currentSchema(topic).fingerprint ? decoderFor(topic) : decoderFor(topic, text);
      decoders.set(key, found);
    }
    return found as Decoder<T>;
  }

  const keyWriters = new Map<string, KeyWriter>();
  async function keyWriterOf(topic: Topic, fingerprint: string): Promise<KeyWriter> {
    const key = `${topic}/${fingerprint}`;
    let found = keyWriters.get(key);
    if (found === undefined) {
      found = keyWriter(topic, await schemaText(topic, fingerprint), await decoder(topic, fingerprint));
      keyWriters.set(key, found);
    }
    return found;
  }

  async function build(topic: Topic, records: readonly StoredRecord[], batchBytes: number): Promise<Prepared> {
    let last = '';
    let write: KeyWriter | undefined;
    const writers = new Map<string, KeyWriter>();
    for (const { fingerprint } of records) {
      if (fingerprint !== last) writers.set(fingerprint, await keyWriterOf(topic, fingerprint));
      last = fingerprint;
    }
    last = '';
    const writeKey = (i: number, out: Buffer, at: number): number => {
      const record = records[i]!;
      if (record.fingerprint !== last) {
        last = record.fingerprint;
        write = writers.get(last);
      }
      return write!(record, out, at);
    };
    return producer.prepare(topicName(topic), records, writeKey, batchBytes);
  }

  const limits = new Map<Topic, BatchLimit>();
  function limitOf(topic: Topic): BatchLimit {
    let limit = limits.get(topic);
    if (limit === undefined) {
      limit = new BatchLimit(options.nowMs);
      limits.set(topic, limit);
    }
    return limit;
  }

  /** Carries records of one topic. */
  function carry(topic: Topic, records: readonly StoredRecord[]): Carriage {
    const doingIt = `append to topic ${topicName(topic)}`;
    const limit = limitOf(topic);
    let prepared: Prepared | null = null;
    let batchBytes: number | null = null;
    let refused = false;
    const prepare = async (): Promise<Prepared> => {
      batchBytes ??= limit.next();
      return build(topic, records, batchBytes);
    };
    return {
      async prepare() {
        if (prepared === null) prepared = await doing(doingIt, prepare);
      },
      async send() {
        await doing(doingIt, async () => {
          if (prepared !== null && !producer.fits(prepared)) prepared = null;
          for (;;) {
            prepared ??= await prepare();
            try {
              await producer.send(prepared);
              if (refused && batchBytes !== null) limit.learn(batchBytes);
              return;
            } catch (error) {
              const smaller: number | null =
                batchBytes !== null && TOO_LARGE.has(protocolError(error)) ? limit.below(batchBytes) : null;
              if (smaller === null) throw error;
              batchBytes = smaller;
              refused = true;
              prepared = null;
            }
          }
        });
      },
    };
  }

  /** Appends of this log follow one another. */
  let appending: Promise<void> = Promise.resolve();

  return {
    kind: 'kafka',
    cluster,
    takeMade() {
      const told = made;
      made = [];
      return told;
    },
    announce,
    decoder,
    schemaText,

    append(entries) {
      const byTopic = new Map<Topic, StoredRecord[]>();
      for (const { topic, event } of entries) {
        const sequence = sequences.get(topic) ?? 0;
        sequences.set(topic, sequence + 1);
        const { fingerprint } = currentSchema(topic);
        const body = encodeEvent(topic, event);
        const record = { topic, fingerprint, body, instance: clientId, run, sequence, partition: '', position: '' };
        const ofTopic = byTopic.get(topic);
        if (ofTopic === undefined) byTopic.set(topic, [record]);
        else ofTopic.push(record);
      }
      const work = appending.then(async () => {
        for (const topic of APPEND_ORDER) {
          const records = byTopic.get(topic);
          if (records === undefined) continue;
          await announce(topic, currentSchemaText(topic));
          await carry(topic, records).send();
        }
      });
      appending = work.catch(() => {});
      return work;
    },

    carry,

    joinGroup: (group) => joinKafkaGroup({ config, brokers, topicName }, group),

    async groupOffsets(name) {
      const found = await doing(`read the positions of the group ${name}`, () =>
        admin.fetchOffsets({ groupId: name, topics: TOPICS.map(topicName) }),
      );
      const topicOf = new Map(TOPICS.map((topic) => [topicName(topic), topic]));
      return found.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, offset, metadata }) => ({
          ...{ topic: topicOf.get(topic)!, partition: String(partition) },
          offset: BigInt(offset) < 0n ? null : BigInt(offset),
          metadata: metadata ?? '',
        })),
      );
    },

    async groupSize(name) {
      const { groups } = await doing(`look at the group ${name}`, () => admin.describeGroups([name]));
      return groups[0]?.members.length ?? 0;
    },

    topicProblems: () => topicProblems(admin, topicOptions),

    async partitions(topic) {
      return doing(`list the partitions of topic ${topicName(topic)}`, async () => {
        try {
          const { topics } = await admin.fetchTopicMetadata({ topics: [topicName(topic)] });
          return (topics[0]?.partitions ?? [])
            .map(({ partitionId }) => partitionId)
            .sort((a, b) => a - b)
            .map(String);
        } catch (error) {
          if (protocolError(error) === 'UNKNOWN_TOPIC_OR_PARTITION') return [];
          throw error;
        }
      });
    },

    async read(topic, partition, from, { maxRecords, waitMs, signal }): Promise<RecordBatch> {
      if (closed) throw new PoolError('journal_closed', 'the log is closed');
      const key = `${topic}/${partition}`;
      let fetcher = fetchers.get(key);
      if (fetcher === undefined) {
        fetcher = new PartitionFetcher(config, brokers, topicName(topic), Number(partition));
        fetchers.set(key, fetcher);
      }
      const fetched = await fetcher.take(from === null ? null : offsetOf(from), maxRecords, waitMs, signal);
      const records: StoredRecord[] = [];
      const damage: Damage[] = [];
      if (fetched.jumpedTo !== undefined) {
        const reason = `offset ${from} is not in the log; reading goes on at ${fetched.jumpedTo}, its oldest`;
        damage.push({ topic, partition, position: from ?? '0', reason, bytes: Buffer.alloc(0) });
      }
      for (const message of fetched.messages) {
        const record = recordOf(topic, partition, message);
        if ('reason' in record) damage.push(record);
        else records.push(record);
      }
      const moved = records.length > 0 || damage.length > 0 || (from !== null && offsetOf(from) !== fetched.next);
      return { records, damage, next: moved ? String(fetched.next) : from };
    },

    async lag(topic, partition, from) {
      return doing(`read the end of topic ${topicName(topic)}`, async () => {
        const offsets = await admin.fetchTopicOffsets(topicName(topic));
        const found = offsets.find((entry) => entry.partition === Number(partition));
        if (found === undefined) return null;
        const low = BigInt(found.low);
        const at = from === null || offsetOf(from) < low ? low : offsetOf(from);
        const behind = BigInt(found.high) - at;
        return behind > 0n ? Number(behind) : 0;
      });
    },

    async close() {
      if (closed) return;
      await appending;
      closed = true;
      await Promise.all([...fetchers.values(), schemaFetcher].map((fetcher) => fetcher.close()));
      await producer.close();
      await admin.disconnect();
    },
  };
}

/** @throws PoolError internal where the text is no offset */
function offsetOf(position: string): bigint {
  if (!/^\d{1,19}$/.test(position)) {
    throw new PoolError('internal', `not a position of a Kafka log: ${JSON.stringify(position)}`);
  }
  return BigInt(position);
}

function recordOf(topic: Topic, partition: string, message: FetchedMessage): StoredRecord | Damage {
  const { offset, value, headers } = message;
  const split = value === null ? null : splitSingleObject(value);
  if (split === null) {
    const reason = 'the record is not in the single-object encoding of Avro';
    return { topic, partition, position: offset, reason, bytes: value ?? Buffer.alloc(0) };
  }
  const sequence = Number(headers.sequence?.toString() ?? Number.NaN);
  return {
    topic,
    partition,
    fingerprint: split.fingerprint,
    body: split.body,
    // A producer of another kind may leave the headers out: the log's own place then stands for them.
    instance: headers.instance?.toString() ?? `kafka-${partition}`,
    run: headers.run?.toString() ?? '',
    sequence: Number.isSafeInteger(sequence) ? sequence : Number(offset),
    position: offset,
  };
}
