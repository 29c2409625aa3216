/**
 * kafkajs 2.2.4 as this project uses it: its errors as ours, one of its timers mended, and the part of its inside that reads from an
 * explicit offset.
 *
 * Why the inside: kafkajs reads in public only as its own consumer, which fetches, seeks and commits by itself and starts at a position only by a seek that
 * races with the first fetch; our positions are stored with what was made of the records. `Cluster`, `Broker.fetch` and the coordinator's requests are what
 * that consumer is built of: one request from an offset, one answer; and a group whose rebalances wait for our work. The package's version is settled
 * (upstream has no maintainer), and test/contracts/event-log.ts runs on it against a real broker.
 */
import { createRequire } from 'node:module';
import * as zlib from 'node:zlib';
import kafkajs, { type KafkaConfig, type logLevel as LogLevel } from 'kafkajs';
import { PoolError } from '../errors.ts';

/** What a fetch gives for one record. */
export interface FetchedMessage {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | undefined>>;
  readonly isControlRecord: boolean;
}

interface FetchAnswer {
  readonly responses: readonly {
    readonly topicName: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly highWatermark: string;
      readonly messages: readonly FetchedMessage[];
    }[];
  }[];
}

/** kafkajs/src/broker/index.js, the part in use. */
export interface FetchBroker {
  fetch(request: {
    isolationLevel: number;
    maxWaitTime: number;
    minBytes: number;
    maxBytes: number;
    topics: { topic: string; partitions: { partition: number; fetchOffset: string; maxBytes: number }[] }[];
  }): Promise<FetchAnswer>;
  readonly connectionPool: {
    send<T>(request: {
      request: { apiKey: number; apiVersion: number; apiName: string; encode(): Promise<object> };
      response: { decode(raw: Buffer): Promise<T>; parse(data: T): Promise<T> };
    }): Promise<T>;
  };
  disconnect(): Promise<void>;
}

interface ProduceAnswer {
  readonly topics: readonly {
    readonly topicName: string;
    readonly partitions: readonly { readonly partition: number; readonly errorCode: number }[];
  }[];
}

/** kafkajs/src/broker/index.js, what a group's coordinator is asked. */
export interface GroupBroker {
  joinGroup(request: {
    groupId: string;
    sessionTimeout: number;
    rebalanceTimeout: number;
    memberId: string;
    groupProtocols: { name: string; metadata: Buffer }[];
  }): Promise<{
    generationId: number;
    leaderId: string;
    memberId: string;
    members: { memberId: string; memberMetadata: Buffer }[];
  }>;
  syncGroup(request: {
    groupId: string;
    generationId: number;
    memberId: string;
    groupAssignment: { memberId: string; memberAssignment: Buffer }[];
  }): Promise<{ memberAssignment: Buffer }>;
  heartbeat(request: { groupId: string; groupGenerationId: number; memberId: string }): Promise<unknown>;
  leaveGroup(request: { groupId: string; memberId: string }): Promise<unknown>;
  offsetCommit(request: {
    groupId: string;
    groupGenerationId: number;
    memberId: string;
    topics: { topic: string; partitions: { partition: number; offset: string; metadata: string }[] }[];
  }): Promise<unknown>;
  offsetFetch(request: { groupId: string; topics: { topic: string; partitions: { partition: number }[] }[] }): Promise<{
    responses: { topic: string; partitions: { partition: number; offset: string; metadata: string | null }[] }[];
  }>;
}

/** kafkajs/src/cluster/index.js, the part in use. */
export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  isConnected(): boolean;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadata(): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  findTopicPartitionMetadata(topic: string): readonly { partitionId: number; leader: number; replicas: number[] }[];
  findLeaderForPartitions(topic: string, partitions: number[]): Record<string, number[]>;
  findBroker(options: { nodeId: string }): Promise<FetchBroker>;
  findGroupCoordinator(options: { groupId: string }): Promise<GroupBroker>;
  fetchTopicsOffset(
    topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
  ): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>;
}

/** kafkajs/src/network/requestQueue/index.js, the part in use. */
interface RequestQueue {
  pending: readonly unknown[];
  throttledUntil: number;
  scheduleCheckPendingRequests(): void;
}

const require = createRequire(import.meta.url);
const internals = {
  Cluster: require('kafkajs/src/cluster') as new (options: object) => Cluster,
  RequestQueue: require('kafkajs/src/network/requestQueue') as { prototype: RequestQueue },
  createLogger: (require('kafkajs/src/loggers') as { createLogger(options: object): object }).createLogger,
  socketFactory: require('kafkajs/src/network/socketFactory') as () => object,
  Encoder: require('kafkajs/src/protocol/encoder') as new (sizeBytes: number) => { writeBuffer(bytes: Buffer): object },
  produceAnswer: require('kafkajs/src/protocol/requests/produce/v7/response') as {
    decode(raw: Buffer): Promise<ProduceAnswer>;
  },
  createErrorFromCode: (
    require('kafkajs/src/protocol/error') as { createErrorFromCode(code: number): Error & { type: string } }
  ).createErrorFromCode,
};

/** Decodes the answer to a produce request, errors of partitions included. */
export const decodeProduceAnswer = internals.produceAnswer.decode;

/** Bytes as the body of a request. */
export function encoderOf(bytes: Buffer): object {
  return new internals.Encoder(bytes.length).writeBuffer(bytes);
}

/** An error as a broker's answer would be: by its number, or by its name. */
export function protocolFault(what: number | string, place: string): Error {
  if (typeof what === 'string') return Object.assign(new Error(place), { type: what });
  const fault = internals.createErrorFromCode(what);
  fault.message = `${fault.message} (${place})`;
  return fault;
}

// kafkajs reads gzip alone; zstd is in Node itself from 22.15 on.
if (zlib.zstdDecompress !== undefined) {
  kafkajs.CompressionCodecs[kafkajs.CompressionTypes.ZSTD] = () => ({
    compress: async ({ buffer }: { buffer: Buffer }) => zlib.zstdCompressSync(buffer),
    decompress: (bytes: Buffer) =>
      new Promise((resolve, reject) => {
        zlib.zstdDecompress(bytes, (error, plain) => (error === null ? resolve(plain) : reject(error)));
      }),
  });
}

/** kafkajs `logLevel.NOTHING`: what goes wrong comes to us as an error, and we say it. */
export const SILENT = 0 as LogLevel;

/**
 * A timer that kafkajs arms with a negative delay after every answer where nothing is pending and nothing throttled, for which Node 24 prints
 * TimeoutNegativeWarning (tulios/kafkajs#1751; mended upstream in #1755 and #1768, which are not released). A check of pending requests is
 * armed only where some are pending; each push of a pending request arms it anew.
 */
function mendTimer(): void {
  const { prototype } = internals.RequestQueue;
  const schedule = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) schedule.call(this);
  };
}
mendTimer();

/** A cluster of its own connections: a waiting fetch holds its connection, so each partition that is read has one. */
export function createCluster(config: KafkaConfig): Cluster {
  return new internals.Cluster({
    ...config,
    logger: internals.createLogger({ level: SILENT, logCreator: () => () => {} }),
    socketFactory: internals.socketFactory(),
    // Metadata is asked again when a request says that it is stale, and this often.
    metadataMaxAge: 300_000,
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
    isolationLevel: 0,
    enforceRequestTimeout: true,
  });
}

interface KafkaFault {
  readonly name?: string;
  readonly type?: string;
  readonly code?: string | number;
  readonly message?: string;
  readonly broker?: string;
  readonly host?: string;
  readonly hostname?: string;
  readonly cause?: unknown;
  readonly originalError?: unknown;
  readonly errors?: readonly unknown[];
}

/** An error and what caused it, outermost first. */
function chainOf(error: unknown): KafkaFault[] {
  const chain: KafkaFault[] = [];
  const visit = (thrown: unknown): void => {
    if (typeof thrown !== 'object' || thrown === null || chain.length > 20 || chain.includes(thrown)) return;
    const fault = thrown as KafkaFault;
    chain.push(fault);
    visit(fault.cause);
    visit(fault.originalError);
    for (const inner of fault.errors ?? []) visit(inner);
  };
  visit(error);
  return chain;
}

/** Protocol error of an answer, such as OFFSET_OUT_OF_RANGE; undefined where there was no answer. */
export function protocolError(error: unknown): string | undefined {
  return chainOf(error).find((fault) => fault.type !== undefined && fault.type !== 'UNKNOWN')?.type;
}

/** Said by a broker that is not the one to ask (any more, or not yet: topics just made): ask for the leaders again. */
const STALE = new Set([
  'NOT_LEADER_FOR_PARTITION',
  'UNKNOWN_TOPIC_OR_PARTITION',
  'LEADER_NOT_AVAILABLE',
  'REPLICA_NOT_AVAILABLE',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'OFFSET_NOT_AVAILABLE',
]);

/** How long a partition may be without a leader that answers before that is an error, milliseconds. */
export const LEADER_PATIENCE_MS = 5000;
/** Between two questions for the leader, milliseconds. */
export const LEADER_RETRY_MS = 100;

/** Whether kafkajs threw what passes by asking again: a leader is changing, or a topic has just been made. */
export function isStale(error: unknown): boolean {
  const type = protocolError(error);
  // kafkajs trips over the empty answer for a topic whose leaders its metadata does not have yet.
  const tripped = chainOf(error).some((fault) => /destructure property 'partitions' of/.test(fault.message ?? ''));
  return tripped || (type !== undefined && STALE.has(type));
}

/**
 * What kafkajs threw, as one sentence with the facts to act on.
 * @param doing - `append to topic share`
 * @param known - better words than these for a cause that the caller knows more of
 */
export function kafkaError(
  doing: string,
  error: unknown,
  brokers: readonly string[],
  known: { readonly authorization?: string } = {},
): PoolError {
  if (error instanceof PoolError) return error;
  const chain = chainOf(error);
  const said = chain.map((fault) => fault.message ?? '').join(' · ');
  const type = protocolError(error);
  const at = chain.find((fault) => fault.broker !== undefined)?.broker ?? brokers.join(', ');
  const has = (pattern: RegExp): boolean =>
    pattern.test(said) || chain.some((fault) => pattern.test(String(fault.code)));
  const authentication = chain.find(
    (fault) => fault.name?.includes('SASL') === true || fault.type?.includes('SASL') === true,
  );
  const alert = /alert ([a-z ]+?):/.exec(said)?.[1];
  const own = chain.find((fault) => fault instanceof PoolError)?.message ?? /"lodestream\.kafka\.[^·]*/.exec(said)?.[0];
  let reason: string;
  if (own !== undefined) {
    // A file of ours, read as a connection was made.
    reason = own.trim();
  } else if (has(/ENOTFOUND|EAI_AGAIN/)) {
    const host = /(?:ENOTFOUND|EAI_AGAIN) (\S+)/.exec(said)?.[1] ?? at;
    reason = `no such host: ${host}`;
  } else if (type === 'UNSUPPORTED_SASL_MECHANISM' || has(/does not support the requested SASL mechanism/)) {
    reason = `the broker at ${at} does not offer this login: choose another "sasl_mechanism"`;
  } else if (type === 'ILLEGAL_SASL_STATE') {
    reason = `the broker at ${at} takes no login at this port: leave "sasl_mechanism" out, or name its port for logins`;
  } else if (authentication !== undefined) {
    reason = `the broker at ${at} refuses the user or password (${authentication.message}): correct "sasl_username" and "sasl_password"`;
  } else if (has(/ECONNREFUSED/)) {
    reason = `nothing listens at ${at}`;
  } else if (has(/alert certificate required|alert bad certificate/)) {
    reason = `the broker at ${at} wants a certificate of ours and got none that it takes (${alert}): name one that it trusts in "ssl_cert_file" and "ssl_key_file"`;
  } else if (has(/alert certificate expired/)) {
    reason = `the broker at ${at} refuses our certificate, as it has expired (${alert}): renew it in "ssl_cert_file"`;
  } else if (has(/alert (certificate (unknown|revoked)|unsupported certificate|unknown ca)/)) {
    reason = `the broker at ${at} refuses our certificate (${alert}): renew it in "ssl_cert_file", or let the broker trust its authority`;
  } else if (has(/altnames/)) {
    reason = `the certificate of ${at} is for another name (${certificateWords(said)}): name the broker as its certificate does`;
  } else if (has(/certificate has expired|CERT_HAS_EXPIRED/)) {
    reason = `the certificate of ${at} has expired: renew it there`;
  } else if (has(/CERT_NOT_YET_VALID|certificate is not yet valid/)) {
    reason = `the certificate of ${at} is not valid yet: is the clock of this machine right?`;
  } else if (has(/certificate|self[- ]signed|CERT_/i) && type === undefined) {
    reason = `the certificate of ${at} is not trusted (${certificateWords(said)}): name its authority in "ssl_ca_file"`;
  } else if (has(/before secure TLS|wrong version number|EPROTO|packet length/)) {
    reason = `${at} does not speak TLS: name its port for TLS, or leave "ssl" out`;
  } else if (has(/Closed connection/) && /^(connect|make|ask)/.test(doing)) {
    reason = `${at} closed the connection: where it does so each time, it expects TLS ("ssl") or a login ("sasl_mechanism")`;
  } else if (type?.endsWith('AUTHORIZATION_FAILED') === true) {
    reason = known.authorization ?? 'the broker does not allow this user to do that: allow it in its ACLs';
    reason += ` (${type})`;
  } else if (type === 'UNKNOWN_TOPIC_OR_PARTITION') {
    reason = `the topic is not at the brokers any more, or not for this user (${type}): a start of this program makes topics that are absent`;
  } else if (type === 'MESSAGE_TOO_LARGE') {
    reason = `a record is larger than the broker takes (${type}): raise max.message.bytes of the topic, or message.max.bytes of the broker`;
  } else if (type === 'RECORD_LIST_TOO_LARGE') {
    reason = `a record is larger than a segment of the topic (${type}): raise segment.bytes of the topic, or log.segment.bytes of the broker`;
  } else if (type === 'INVALID_REPLICATION_FACTOR') {
    reason = 'there are fewer brokers than "replication" asks for';
  } else if (type === 'NOT_ENOUGH_REPLICAS' || type === 'NOT_ENOUGH_REPLICAS_AFTER_APPEND') {
    reason = `fewer replicas are in sync than min.insync.replicas asks for (${type})`;
  } else {
    reason = type === undefined ? (chain[0]?.message ?? String(error)) : `${type}: ${chain[0]?.message}`;
  }
  return new PoolError('kafka', `Kafka: cannot ${doing}: ${reason}`, { cause: error, facts: { type, brokers } });
}

/** What Node says of a certificate, without its advice. */
function certificateWords(said: string): string {
  return (said.split(' · ').find((part) => /certificate|self[- ]signed|altnames|CERT_/i.test(part)) ?? said)
    .replace(/^Connection error: /, '')
    .replace(/; if the root CA.*$/, '')
    .trim();
}
