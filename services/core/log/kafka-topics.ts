/**
 * The topics of a Kafka log: made where they are absent, and looked at where they are there, as a log that forgets, or that one lost disk takes along,
 * is no log of record (DESIGN 5, section 2 and 3).
 *
 *     topic                    partitions     settings
 *     share, job, session,
 *     quarantine               as configured  kept without limit, no unclean election; copies and copies in sync as configured
 *     block, contract          1              the same, as their folds need one order; blocks up to 8 MiB
 *     epoch, hashrate, payout  1              the same: what is derived, of which the last word holds
 *     schema                   1              the same, compacted: fingerprint → text
 */
import { setTimeout as sleep } from 'node:timers/promises';
// Node finds no name of ConfigResourceTypes in this CommonJS module; vitest does.
import kafkajs, { type Admin } from 'kafkajs';
import { TOPICS, type Topic } from '../../../schemas/events.ts';
import { isStale, kafkaError, LEADER_PATIENCE_MS, LEADER_RETRY_MS, protocolError } from './kafka-client.ts';

export const SCHEMA_TOPIC = 'schema';

export interface TopicOptions {
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly partitions: number;
  /** Copies of each record; absent: 3, or as many as there are brokers. */
  readonly replication?: number | undefined;
  /** Copies that must be written before a record counts; absent: 2 of 3 copies or more, else 1. */
  readonly minInsyncReplicas?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

const ONE_PARTITION: ReadonlySet<Topic | typeof SCHEMA_TOPIC> = new Set([
  ...(['block', 'contract', 'epoch', 'hashrate', 'payout'] as const),
  SCHEMA_TOPIC,
]);
/**
 * A connected block is told with the outputs of its coinbase, which anybody may mine: 1 MB of the smallest (9 bytes, BIP 141's base size) come
 * to 3 MB here, and to the broker's default of 1 MiB nothing behind such a block would ever be carried.
 */
const BLOCK_RECORD_BYTES = 8 * 1024 * 1024;
const WANTED_COPIES = 3;
const WANTED_IN_SYNC = 2;

const ALL = [...TOPICS, SCHEMA_TOPIC] as const;

/** Names of all topics of a log. */
export function topicNames(topicPrefix: string): string[] {
  return ALL.map((topic) => topicPrefix + topic);
}

interface Wanted {
  readonly topic: string;
  readonly numPartitions: number;
  readonly replicationFactor: number;
  readonly settings: Readonly<Record<string, string>>;
}

function wantedTopics(options: TopicOptions, brokerCount: number): Wanted[] {
  const copies = options.replication ?? Math.min(WANTED_COPIES, brokerCount);
  const inSync = options.minInsyncReplicas ?? (copies >= WANTED_COPIES ? WANTED_IN_SYNC : 1);
  return ALL.map((topic) => ({
    topic: options.topicPrefix + topic,
    numPartitions: ONE_PARTITION.has(topic) ? 1 : options.partitions,
    replicationFactor: copies,
    settings: {
      ...(topic === SCHEMA_TOPIC
        ? { 'cleanup.policy': 'compact' }
        : { 'cleanup.policy': 'delete', 'retention.ms': '-1', 'retention.bytes': '-1' }),
      ...(topic === 'block' ? { 'max.message.bytes': String(BLOCK_RECORD_BYTES) } : {}),
      'min.insync.replicas': String(inSync),
      'unclean.leader.election.enable': 'false',
    },
  }));
}

/**
 * Makes the topics that are not there.
 * @returns names of those made
 * @throws PoolError kafka, naming what is missing where this user may not
 */
export async function createTopics(admin: Admin, options: TopicOptions): Promise<string[]> {
  const present = new Set(await admin.listTopics());
  if (ALL.every((topic) => present.has(options.topicPrefix + topic))) return [];
  const { brokers } = await admin.describeCluster();
  const wanted = wantedTopics(options, brokers.length).filter(({ topic }) => !present.has(topic));
  try {
    await admin.createTopics({
      // kafkajs waits for leaders too, and gives up where a broker has not heard of the topic yet: seen with 4.3.1.
      waitForLeaders: false,
      topics: wanted.map(({ settings, ...topic }) => ({
        ...topic,
        configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })),
      })),
    });
  } catch (error) {
    if (protocolError(error)?.endsWith('AUTHORIZATION_FAILED') !== true) throw error;
    throw kafkaError('make its topics', error, options.brokers, {
      authorization: `${wanted.map(({ topic }) => topic).join(', ')} are not there, or not for this user, and it may not make them: allow it Create on the cluster, or make them by the commands in deploy/kafka/README.md`,
    });
  }
  // A broker names itself as the leader before it takes records; it answers for offsets when it does. Waiting here keeps the first append
  // from being sent again, and so from arriving twice.
  for (const { topic } of wanted) {
    await patiently(`see topic ${topic}, just made,`, options.brokers, () => admin.fetchTopicOffsets(topic));
  }
  const names = wanted.map(({ topic }) => topic);
  options.log?.(`kafka: made the topics ${names.join(', ')}`);
  return names;
}

/** What makes a topic unfit as a log of record. */
export interface TopicProblem {
  /** Says which topic, and what about it. */
  readonly what: string;
  /** What to do: a command, or a sentence without its full stop. */
  readonly mend: string;
}

/**
 * What makes the topics unfit as a log of record; empty where all is well. A question that the brokers do not answer is a problem too.
 * @param names - of topics that are there; default all
 */
export async function topicProblems(
  admin: Admin,
  options: TopicOptions,
  names: readonly string[] = topicNames(options.topicPrefix),
): Promise<TopicProblem[]> {
  const problems: TopicProblem[] = [];
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [...names] });
    const { brokers } = await admin.describeCluster();
    for (const { name, partitions } of topics) {
      const topic = name.slice(options.topicPrefix.length) as Topic;
      const copies = Math.min(...partitions.map(({ replicas }) => replicas.length));
      if (ONE_PARTITION.has(topic) && partitions.length !== 1) {
        problems.push({
          what: `topic ${name} has ${partitions.length} partitions and must have 1, as its order matters`,
          mend: 'make it anew and replay into it',
        });
      }
      if (copies < WANTED_COPIES && brokers.length >= WANTED_COPIES) {
        problems.push({
          what: `topic ${name} has ${copies === 1 ? 'one copy' : `${copies} copies`} of a record on ${brokers.length} brokers`,
          mend: `raise it to ${WANTED_COPIES} with kafka-reassign-partitions.sh`,
        });
      }
    }
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name })),
    });
    for (const { resourceName, configEntries } of resources) {
      const topic = resourceName.slice(options.topicPrefix.length) as Topic;
      const replicas = topics.find(({ name }) => name === resourceName)?.partitions[0]?.replicas.length ?? 1;
      const settings = new Map(configEntries.map(({ configName, configValue }) => [configName, configValue]));
      for (const [name, good, why] of unfit(topic, settings, replicas)) {
        problems.push({
          what: `topic ${resourceName} has ${name}=${settings.get(name)}: ${why}`,
          mend: `kafka-configs.sh --alter --topic ${resourceName} --add-config ${name}=${good}`,
        });
      }
    }
  } catch (error) {
    problems.push({
      what: kafkaError('look at the settings of its topics', error, options.brokers).message,
      mend: 'see what the brokers answer, and what this user may ask',
    });
  }
  return problems;
}

/** Settings that endanger a log: name, what it should be, why. */
function unfit(
  topic: Topic | typeof SCHEMA_TOPIC,
  settings: ReadonlyMap<string, string>,
  replicas: number,
): [name: string, good: string, why: string][] {
  const found: [string, string, string][] = [];
  const policy = settings.get('cleanup.policy') ?? '';
  if (topic === SCHEMA_TOPIC) {
    if (policy.includes('delete') && settings.get('retention.ms') !== '-1') {
      found.push(['cleanup.policy', 'compact', 'schemas are forgotten, and with them what the other topics mean']);
    }
  } else {
    if (policy.includes('compact')) found.push(['cleanup.policy', 'delete', 'records of one key replace each other']);
    if (policy.includes('delete')) {
      for (const name of ['retention.ms', 'retention.bytes']) {
        if (Number(settings.get(name) ?? -1) >= 0) found.push([name, '-1', 'the log of record is forgotten']);
      }
    }
  }
  if (settings.get('unclean.leader.election.enable') === 'true') {
    found.push(['unclean.leader.election.enable', 'false', 'acknowledged records may be lost with a leader']);
  }
  if (replicas >= WANTED_COPIES && Number(settings.get('min.insync.replicas') ?? 1) < WANTED_IN_SYNC) {
    found.push(['min.insync.replicas', String(WANTED_IN_SYNC), 'one lost disk may take acknowledged records along']);
  }
  if (topic === 'block' && Number(settings.get('max.message.bytes')) < BLOCK_RECORD_BYTES) {
    found.push(['max.message.bytes', String(BLOCK_RECORD_BYTES), 'a block with a large coinbase stops the topic']);
  }
  return found;
}

/** Does the work; a leader that is just changing, or topics just made, are waited for. */
export async function patiently<T>(what: string, brokers: readonly string[], work: () => Promise<T>): Promise<T> {
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
