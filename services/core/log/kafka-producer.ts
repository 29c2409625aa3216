/**
 * Sends records to Kafka as they lie in the journal: batches are built by `record-batch.ts` and go out through kafkajs' connections, one produce
 * request per broker for all partitions that it leads. Acknowledged means: by all replicas in sync.
 *
 *     prepare(records)   keys, partitions, bytes, compression: all that needs no broker, so it may be done while an earlier send is under way
 *     send(prepared)     what is not acknowledged yet; after an error the same bytes may be sent again, and only the partitions that lack them
 */
import { constants, gzip, zstdCompress } from 'node:zlib';
import type { KafkaConfig } from 'kafkajs';
import { singleObject } from '../../../schemas/codec.ts';
import { PoolError } from '../errors.ts';
import { type Cluster, createCluster, decodeProduceAnswer, encoderOf, protocolFault } from './kafka-client.ts';
import { BatchWriter, headerBytes, partitionOfKey, recordBytesAtMost } from './record-batch.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** A record as it goes out: a `StoredRecord`, or a text without schema and place. */
export interface Outgoing {
  /** Of the schema, for the head of the single-object encoding; null: the body alone is the value. */
  readonly fingerprint: string | null;
  readonly body: Buffer;
  /** Its place in the journal, as headers; a sequence of -1: no headers. */
  readonly instance: string;
  readonly run: string;
  readonly sequence: number;
}

/** A batch of one partition, ready to be sent. */
interface Part {
  readonly partition: number;
  readonly batch: Buffer;
  acknowledged: boolean;
}

/** Records of one topic as requests; each request has at most one batch per partition, and the next waits for it. */
export interface Prepared {
  readonly topic: string;
  /** That the topic had when each record's was chosen. */
  readonly partitions: number;
  readonly requests: readonly (readonly Part[])[];
}

/** Below the brokers' default of 1 MiB for one batch (message.max.bytes) also where nothing is compressed. */
const BATCH_BYTES = 768 * 1024;
const ACKS_ALL = -1;
const PRODUCE = 0;
/** Kafka 2.1; the first that takes zstd, and in kafkajs the last. */
const PRODUCE_VERSION = 7;
const GZIP = 1;
const ZSTD = 4;
/** Measured, see README.md: higher levels cost more and save little. */
const GZIP_LEVEL = 1;
const ZSTD_LEVEL = 1;
/** Smaller batches are not worth a trip through the thread pool. */
const COMPRESS_FROM_BYTES = 256;
const NOTHING = new Uint8Array(0);
/** A batch that is refused as too large is followed by some of a quarter of it, down to a record each. */
const STEP = 4;
const SMALLEST_BATCH_BYTES = 1024;
/** How long a size that was learnt holds before a larger one is tried: an operator may have raised the limit. */
const LEARNT_MS = 60_000;

/**
 * How large a topic's batches may be, where it takes less than is usual (max.message.bytes, segment.bytes): learnt from what it refuses, kept for
 * the batches after that, and tried larger again once a minute.
 */
export class BatchLimit {
  readonly #nowMs: () => number;
  #bytes = BATCH_BYTES;
  #learntMs = Number.NEGATIVE_INFINITY;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** For the next batch. */
  next(): number {
    if (this.#bytes < BATCH_BYTES && this.#nowMs() - this.#learntMs >= LEARNT_MS) {
      this.#bytes = Math.min(this.#bytes * STEP, BATCH_BYTES);
      this.#learntMs = this.#nowMs();
    }
    return this.#bytes;
  }

  /** What to try after a refusal; null: it was one record already, which no size mends. */
  below(refusedBytes: number): number | null {
    return refusedBytes < SMALLEST_BATCH_BYTES ? null : Math.floor(refusedBytes / STEP);
  }

  /** Batches of this size were taken after larger ones had been refused. */
  learn(bytes: number): void {
    if (bytes >= this.#bytes) return;
    this.#bytes = bytes;
    this.#learntMs = this.#nowMs();
  }
}

/** Keys of the records being prepared; grown where they need more. */
const KEYS_BYTES = 128 * 1024;

export class RecordProducer {
  readonly #cluster: Cluster;
  readonly #timeoutMs: number;
  readonly #compression: Compression;
  #keys = Buffer.allocUnsafe(KEYS_BYTES);
  #stale = false;
  #connecting: Promise<void> | null = null;
  #lastFingerprint: string | null = null;
  #lastHead: Uint8Array = NOTHING;
  #lastInstance = '';
  #lastRun = '';
  #lastHeaders: Uint8Array = NOTHING;

  /** @throws PoolError config where this Node cannot compress that way */
  constructor(config: KafkaConfig, compression: Compression, timeoutMs: number) {
    if (compression === 'zstd' && zstdCompress === undefined) {
      throw new PoolError('config', 'compression "zstd" needs Node 22.15 or newer: choose "gzip"');
    }
    this.#cluster = createCluster(config);
    this.#timeoutMs = timeoutMs;
    this.#compression = compression;
  }

  /**
   * Builds the batches of some records, in order; asks the broker only for the number of partitions, once.
   * @param batchBytes - a partition's batch is not made larger, unless by a single record
   * @param writeKey - writes the key of record `i` into `out` from `at` on; as `KeyWriter`
   */
  async prepare(
    topic: string,
    records: readonly Outgoing[],
    writeKey: (i: number, out: Buffer, at: number) => number,
    batchBytes = BATCH_BYTES,
  ): Promise<Prepared> {
    const partitions = await this.#partitionCount(topic);
    const keyEnds = new Int32Array(records.length);
    const chosen = new Int32Array(records.length);
    const writers: BatchWriter[][] = [];
    let from = 0;
    while (from < records.length) {
      // One request: as many records as let no partition's batch grow too large.
      const sizes = new Int32Array(partitions);
      let to = from;
      let at = 0;
      for (; to < records.length; to++) {
        let end = writeKey(to, this.#keys, at);
        while (end < 0) {
          this.#keys = Buffer.concat([this.#keys, Buffer.allocUnsafe(Math.max(KEYS_BYTES, -end))]);
          end = writeKey(to, this.#keys, at);
        }
        const record = records[to]!;
        const partition = partitionOfKey(this.#keys, at, end, partitions);
        const size = recordBytesAtMost(end - at, record.body.length, this.#headersOf(record).length);
        if (sizes[partition]! > 0 && sizes[partition]! + size > batchBytes) break;
        sizes[partition]! += size;
        chosen[to] = partition;
        keyEnds[to] = end;
        at = end;
      }
      const request = Array.from(sizes, (bytes) => new BatchWriter(bytes));
      at = 0;
      for (let i = from; i < to; i++) {
        const record = records[i]!;
        const end = keyEnds[i]!;
        const head = this.#headOf(record.fingerprint);
        request[chosen[i]!]!.add(this.#keys, at, end, head, record.body, this.#headersOf(record), record.sequence);
        at = end;
      }
      writers.push(request);
      from = to;
    }
    const timeMs = Date.now();
    const requests = await Promise.all(
      writers.map((request) =>
        Promise.all(
          request.flatMap((writer, partition) =>
            writer.count === 0
              ? []
              : [this.#batch(writer, timeMs).then((batch): Part => ({ partition, batch, acknowledged: false }))],
          ),
        ),
      ),
    );
    return { topic, partitions, requests };
  }

  /**
   * Sends what is not acknowledged yet, in order.
   * @throws what kafkajs throws, or a protocol error with its `type`; acknowledged partitions stay so
   */
  async send({ topic, requests }: Prepared): Promise<void> {
    for (const parts of requests) {
      const missing = parts.filter((part) => !part.acknowledged);
      if (missing.length > 0) await this.#request(topic, missing);
    }
  }

  /** Whether the topic still has the partitions that were chosen. */
  fits({ topic, partitions }: Prepared): boolean {
    const now = this.#cluster.isConnected() ? this.#cluster.findTopicPartitionMetadata(topic).length : 0;
    return now === 0 || now === partitions;
  }

  async close(): Promise<void> {
    await this.#cluster.disconnect();
  }

  /** Head of the single-object encoding of Avro; the last one is kept, as records come in runs of one schema. */
  #headOf(fingerprint: string | null): Uint8Array {
    if (fingerprint !== this.#lastFingerprint) {
      this.#lastFingerprint = fingerprint;
      this.#lastHead = fingerprint === null ? NOTHING : singleObject(fingerprint, NOTHING);
    }
    return this.#lastHead;
  }

  /** Headers `instance` and `run` as bytes: the same for all records of a writer's run. */
  #headersOf({ instance, run, sequence }: Outgoing): Uint8Array {
    if (sequence < 0) return NOTHING;
    if (instance !== this.#lastInstance || run !== this.#lastRun) {
      this.#lastInstance = instance;
      this.#lastRun = run;
      this.#lastHeaders = Buffer.concat([headerBytes('instance', instance), headerBytes('run', run)]);
    }
    return this.#lastHeaders;
  }

  async #batch(writer: BatchWriter, timeMs: number): Promise<Buffer> {
    const records = writer.records();
    if (this.#compression === 'none' || records.length < COMPRESS_FROM_BYTES) return writer.batch(timeMs);
    return new Promise((resolve, reject) => {
      const done = (codec: number) => (error: Error | null, bytes: Buffer) => {
        if (error !== null) reject(error);
        else resolve(writer.batch(timeMs, bytes.length < records.length ? { codec, bytes } : undefined));
      };
      if (this.#compression === 'gzip') gzip(records, { level: GZIP_LEVEL }, done(GZIP));
      else zstdCompress(records, { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } }, done(ZSTD));
    });
  }

  async #connect(topic: string): Promise<void> {
    // A cluster that is just connecting calls itself connected before it is.
    if (this.#connecting === null && !this.#cluster.isConnected()) {
      this.#connecting = this.#cluster.connect().finally(() => {
        this.#connecting = null;
      });
    }
    if (this.#connecting !== null) await this.#connecting;
    await this.#cluster.addTargetTopic(topic);
    if (this.#stale) {
      await this.#cluster.refreshMetadata();
      this.#stale = false;
    } else await this.#cluster.refreshMetadataIfNecessary();
  }

  async #partitionCount(topic: string): Promise<number> {
    try {
      await this.#connect(topic);
    } catch (error) {
      this.#stale = true;
      throw error;
    }
    const count = this.#cluster.findTopicPartitionMetadata(topic).length;
    if (count === 0) throw protocolFault('UNKNOWN_TOPIC_OR_PARTITION', `topic ${topic} is not at the brokers`);
    return count;
  }

  async #request(topic: string, parts: readonly Part[]): Promise<void> {
    try {
      await this.#connect(topic);
      const leaders = this.#cluster.findLeaderForPartitions(
        topic,
        parts.map(({ partition }) => partition),
      );
      const sent = await Promise.allSettled(
        Object.entries(leaders).map(([nodeId, led]) =>
          this.#toLeader(
            nodeId,
            topic,
            parts.filter(({ partition }) => led.includes(partition)),
          ),
        ),
      );
      const failed = sent.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      const unsent = parts.find((part) => !part.acknowledged);
      if (unsent !== undefined) {
        throw protocolFault('LEADER_NOT_AVAILABLE', `partition ${unsent.partition} of topic ${topic} has no leader`);
      }
    } catch (error) {
      this.#stale = true;
      throw error;
    }
  }

  async #toLeader(nodeId: string, topic: string, parts: readonly Part[]): Promise<void> {
    if (nodeId === '-1') {
      throw protocolFault('LEADER_NOT_AVAILABLE', `partition ${parts[0]!.partition} of topic ${topic} has no leader`);
    }
    const broker = await this.#cluster.findBroker({ nodeId });
    const bytes = produceRequest(topic, parts, this.#timeoutMs);
    let answer: Awaited<ReturnType<typeof decodeProduceAnswer>>;
    try {
      answer = await broker.connectionPool.send({
        request: {
          ...{ apiKey: PRODUCE, apiVersion: PRODUCE_VERSION, apiName: 'Produce' },
          encode: async () => encoderOf(bytes),
        },
        response: { decode: decodeProduceAnswer, parse: async (data) => data },
      });
    } catch (error) {
      // What was sent here may still come to be written; nothing more goes the same way.
      await broker.disconnect().catch(() => {});
      throw error;
    }
    let fault: Error | null = null;
    for (const { partition, errorCode } of answer.topics[0]?.partitions ?? []) {
      const part = parts.find((sent) => sent.partition === partition);
      if (part === undefined) continue;
      if (errorCode === 0) part.acknowledged = true;
      else fault ??= protocolFault(errorCode, `partition ${partition} of topic ${topic}`);
    }
    if (fault !== null) throw fault;
  }
}

/** The body of a produce request, version 7: transactional id · acks · timeout · topics, each with its partitions' batches. */
function produceRequest(topic: string, parts: readonly Part[], timeoutMs: number): Buffer {
  const name = Buffer.from(topic);
  const size = 2 + 2 + 4 + 4 + 2 + name.length + 4 + parts.reduce((sum, { batch }) => sum + 8 + batch.length, 0);
  const out = Buffer.allocUnsafe(size);
  let at = out.writeInt16BE(-1, 0);
  at = out.writeInt16BE(ACKS_ALL, at);
  at = out.writeInt32BE(timeoutMs, at);
  at = out.writeInt32BE(1, at);
  at = out.writeInt16BE(name.length, at);
  out.set(name, at);
  at = out.writeInt32BE(parts.length, at + name.length);
  for (const { partition, batch } of parts) {
    at = out.writeInt32BE(partition, at);
    at = out.writeInt32BE(batch.length, at);
    out.set(batch, at);
    at += batch.length;
  }
  return out;
}
