/**
 * The event log on an Apache Kafka cluster, through kafkajs.
 *
 *     topic          key                       value                            headers
 *     share, job …   identity of the event     single-object encoding of Avro   instance, run, sequence (of the journal that took it first)
 *     schema         fingerprint, 16 hex       schema text, JSON                                               compacted
 *
 * Topics are made where absent, kept without limit. The topics `block` and `contract` have one partition, as their folds need one order; the others
 * have `partitions`. Produce waits for all replicas in sync. Reading goes on from the offsets that our checkpoints hold; no consumer group.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Admin, Kafka, type KafkaConfig, type SASLOptions } from 'kafkajs';
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
import type { KafkaConfig as ConfiguredKafka } from '../config.ts';
import { PoolError } from '../errors.ts';
import { APPEND_ORDER, type Damage, type EventLog, type RecordBatch, type StoredRecord } from './event-log.ts';
import {
  type FetchedMessage,
  isStale,
  kafkaError,
  LEADER_PATIENCE_MS,
  LEADER_RETRY_MS,
  protocolError,
  SILENT,
} from './kafka-client.ts';
import { type Compression, type Prepared, RecordProducer } from './kafka-producer.ts';
import { PartitionFetcher } from './kafka-reader.ts';
import { type KeyWriter, keyWriter } from './record-key.ts';

export interface KafkaLogOptions {
  /** host:port of one broker or more; the others are learnt from them. */
  readonly brokers: readonly string[];
  /** Shown in the brokers' logs and quotas; also the `instance` of what `append` writes. */
  readonly clientId: string;
  /** Put before each topic's name. Default none. */
  readonly topicPrefix?: string;
  /** Copies of each record, for topics made here. Default: the brokers' own default. */
  readonly replication?: number;
  /** Copies that must be written before a record counts, for topics made here. Default: the brokers' own default. */
  readonly minInsyncReplicas?: number;
  /** Partitions of the topics share, job and session, for topics made here. Default 4. */
  readonly partitions?: number;
  /** How batches are compressed. Default zstd. */
  readonly compression?: Compression;
  readonly ssl?: KafkaConfig['ssl'];
  readonly sasl?: SASLOptions;
  readonly log?: (line: string) => void;
}

/** What the configuration's `lodestream.kafka` says, as options of a log. */
export function kafkaOptions(kafka: ConfiguredKafka, clientId: string, log?: (line: string) => void): KafkaLogOptions {
  const { brokers, topicPrefix, partitions, replication, minInsyncReplicas, ssl, sasl } = kafka;
  return {
    ...{ brokers, clientId, topicPrefix, partitions, replication, minInsyncReplicas, ssl },
    // The option's table has checked the mechanism.
    ...(sasl === null ? {} : { sasl: sasl as SASLOptions }),
    ...(log === undefined ? {} : { log }),
  };
}

/** Records of one topic on their way to the brokers. */
export interface Carriage {
  /** Builds what is sent, which `send` does otherwise: for use while an earlier one is under way. */
  prepare(): Promise<void>;
  /**
   * Sends what is not acknowledged yet, in order; resolves when all replicas have all of it. After an error it may be called again.
   * @returns bytes of the batches as they were sent
   */
  send(): Promise<number>;
}

export interface KafkaLog extends EventLog {
  readonly kind: 'kafka';
  /**
   * Says what a fingerprint means, before the first record that names it.
   * @param text - the schema as JSON text
   */
  announce(topic: Topic, text: string): Promise<void>;
  /**
   * Carries records of a journal on as they are, in order; resolves when all replicas have them. Their schemas must have been announced.
   * @throws PoolError kafka; some of them may then be in the log all the same, and sending all again is right
   */
  produce(records: readonly StoredRecord[]): Promise<void>;
  /** The same for records of one topic, in two steps. */
  carry(topic: Topic, records: readonly StoredRecord[]): Carriage;
}

const SCHEMA_TOPIC = 'schema';
const ONE_PARTITION: ReadonlySet<Topic> = new Set(['block', 'contract']);
const DEFAULT_PARTITIONS = 4;
const DEFAULT_COMPRESSION: Compression = 'zstd';
const CONNECTION_TIMEOUT_MS = 3000;
const REQUEST_TIMEOUT_MS = 30_000;
const RETRY = { retries: 4, initialRetryTime: 100, maxRetryTime: 2000 };
/**
 * A connected block is told with the outputs of its coinbase, which anybody may mine: 1 MB of the smallest (9 bytes, BIP 141's base size) come
 * to 3 MB here, and to the broker's default of 1 MiB nothing behind such a block would ever be carried.
 */
const BLOCK_RECORD_BYTES = 8 * 1024 * 1024;
const COMMON_SETTINGS = { 'retention.ms': '-1', 'retention.bytes': '-1' };

/**
 * Connects, and makes the topics that are not there.
 * @throws PoolError kafka, naming the host that is not known, the user that is refused, or what the broker said
 */
export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const { brokers, clientId, topicPrefix = '' } = options;
  const config: KafkaConfig = {
    brokers: [...brokers],
    clientId,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: RETRY,
    logLevel: SILENT,
    ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
  };
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
  const doing = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    if (closed) throw new PoolError('journal_closed', 'the log is closed');
    return patiently(what, brokers, work);
  };

  try {
    await doing(`connect to ${brokers.join(', ')}`, () => admin.connect());
    await doing('make its topics', () => createTopics(admin, options, topicName));
  } catch (error) {
    await admin.disconnect();
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

  async function build(topic: Topic, records: readonly StoredRecord[]): Promise<Prepared> {
    let last = '';
    let write: KeyWriter | undefined;
    const writers = new Map<string, KeyWriter>();
    for (const { fingerprint } of records) {
      if (fingerprint !== last) writers.set(fingerprint, await keyWriterOf(topic, fingerprint));
      last = fingerprint;
    }
    last = '';
    return producer.prepare(topicName(topic), records, (i, out, at) => {
      const record = records[i]!;
      if (record.fingerprint !== last) {
        last = record.fingerprint;
        write = writers.get(last);
      }
      return write!(record, out, at);
    });
  }

  /** Carries records of one topic. */
  function carry(topic: Topic, records: readonly StoredRecord[]): Carriage {
    const doingIt = `append to topic ${topicName(topic)}`;
    let prepared: Prepared | null = null;
    return {
      async prepare() {
        if (prepared === null) prepared = await doing(doingIt, () => build(topic, records));
      },
      async send() {
        await doing(doingIt, async () => {
          if (prepared !== null && !producer.fits(prepared)) prepared = null;
          prepared ??= await build(topic, records);
          await producer.send(prepared);
        });
        return prepared!.bytes;
      },
    };
  }

  /** Appends of this log follow one another. */
  let appending: Promise<void> = Promise.resolve();

  return {
    kind: 'kafka',
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

    async produce(records) {
      for (const [topic, ofTopic] of Map.groupBy(records, (record) => record.topic)) await carry(topic, ofTopic).send();
    },

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

/** Does the work; a leader that is just changing, or topics just made, are waited for. */
async function patiently<T>(what: string, brokers: readonly string[], work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isStale(error) || performance.now() - start > LEADER_PATIENCE_MS) throw kafkaError(what, error, brokers);
      await sleep(LEADER_RETRY_MS);
    }
  }
}

async function createTopics(
  admin: Admin,
  options: KafkaLogOptions,
  topicName: (topic: Topic | typeof SCHEMA_TOPIC) => string,
): Promise<void> {
  const present = new Set(await admin.listTopics());
  const insync = options.minInsyncReplicas;
  const common = insync === undefined ? {} : { 'min.insync.replicas': String(insync) };
  const wanted = [
    ...TOPICS.map((topic) => ({
      topic: topicName(topic),
      numPartitions: ONE_PARTITION.has(topic) ? 1 : (options.partitions ?? DEFAULT_PARTITIONS),
      settings: {
        ...COMMON_SETTINGS,
        'cleanup.policy': 'delete',
        ...(topic === 'block' ? { 'max.message.bytes': String(BLOCK_RECORD_BYTES) } : {}),
        ...common,
      } as Record<string, string>,
    })),
    {
      topic: topicName(SCHEMA_TOPIC),
      numPartitions: 1,
      settings: { 'cleanup.policy': 'compact', ...common } as Record<string, string>,
    },
  ].filter(({ topic }) => !present.has(topic));
  if (wanted.length === 0) return;
  await admin.createTopics({
    // kafkajs waits for leaders too, and gives up where a broker has not heard of the topic yet: seen with 4.3.1.
    waitForLeaders: false,
    topics: wanted.map(({ topic, numPartitions, settings }) => ({
      topic,
      numPartitions,
      replicationFactor: options.replication ?? -1,
      configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })),
    })),
  });
  // A broker names itself as the leader before it takes records; it answers for offsets when it does. Waiting here keeps the first append
  // from being sent again, and so from arriving twice.
  for (const { topic } of wanted) {
    await patiently(`see topic ${topic}, just made,`, options.brokers, () => admin.fetchTopicOffsets(topic));
  }
  options.log?.(`kafka: made the topics ${wanted.map(({ topic }) => topic).join(', ')}`);
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
