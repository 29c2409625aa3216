/**
 * One partition of a Kafka topic read from an explicit offset: one fetch at a time, asked for only when somebody reads, so that memory is
 * bounded by one answer. No consumer group is involved (see kafka-client.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KafkaConfig } from 'kafkajs';
import {
  type Cluster,
  createCluster,
  type FetchedMessage,
  isStale,
  kafkaError,
  LEADER_PATIENCE_MS,
  LEADER_RETRY_MS,
  protocolError,
} from './kafka-client.ts';

/** What one answer carries of one partition, unless its first record batch alone is larger. */
const FETCH_BYTES = 1024 * 1024;
/** How long the broker holds a fetch that finds nothing, milliseconds; a waiting read asks again. */
const FETCH_WAIT_MS = 500;
const EARLIEST = true;
const READ_UNCOMMITTED = 0;

export interface Fetched {
  /** In order of offset, from the offset asked for on. */
  readonly messages: readonly FetchedMessage[];
  /** Where the next fetch goes on. */
  readonly next: bigint;
  /** Where the offset asked for is not in the log (any more): the offset at which reading went on. */
  readonly jumpedTo?: bigint;
}

export class PartitionFetcher {
  readonly #topic: string;
  readonly #partition: number;
  readonly #brokers: readonly string[];
  readonly #cluster: Cluster;
  #connected = false;
  #closed = false;
  /** Messages of the last answer that were not taken yet. */
  #rest: readonly FetchedMessage[] = [];
  #restFrom: bigint | null = null;
  #restNext = 0n;
  /** A fetch that a read gave up waiting for; the next read of the same offset takes it over. */
  #inFlight: { readonly offset: bigint | null; readonly answer: Promise<Fetched> } | null = null;

  constructor(config: KafkaConfig, brokers: readonly string[], topic: string, partition: number) {
    this.#topic = topic;
    this.#partition = partition;
    this.#brokers = brokers;
    this.#cluster = createCluster(config);
  }

  /**
   * Reads on from an offset.
   * @param from - null: the oldest
   * @returns no messages where there are none within `waitMs`, or when the signal says so
   * @throws PoolError kafka where the broker refuses, cannot be reached within `waitMs`, or has no leader for some seconds
   */
  async take(from: bigint | null, max: number, waitMs: number, signal?: AbortSignal): Promise<Fetched> {
    const start = performance.now();
    const deadline = start + waitMs;
    if (from !== null && from === this.#restFrom && this.#rest.length > 0) return this.#cut(max);
    let stop: (() => void) | undefined;
    const stopped = new Promise<'stopped'>((resolve) => {
      stop = () => resolve('stopped');
      signal?.addEventListener('abort', stop, { once: true });
      if (signal?.aborted) stop();
    });
    try {
      for (;;) {
        const leftMs = Math.max(0, deadline - performance.now());
        if (this.#inFlight === null || this.#inFlight.offset !== from) {
          const answer = this.#fetch(from, Math.min(leftMs, FETCH_WAIT_MS));
          // Nobody may be waiting when it fails; who waits sees it all the same.
          answer.catch(() => {});
          this.#inFlight = { offset: from, answer };
        }
        const { answer } = this.#inFlight;
        let fetched: Fetched | 'stopped';
        try {
          fetched = await Promise.race([answer, stopped]);
        } catch (error) {
          this.#inFlight = null;
          // A leader that is just changing is waited for, also by a read that would not wait for records.
          const limit = isStale(error) ? Math.max(deadline, start + LEADER_PATIENCE_MS) : deadline;
          if (!this.#closed && this.#mayRetry(error) && performance.now() + LEADER_RETRY_MS < limit) {
            await Promise.race([sleep(LEADER_RETRY_MS), stopped]);
            if (signal?.aborted) return { messages: [], next: from ?? 0n };
            continue;
          }
          throw kafkaError(`read topic ${this.#topic}`, error, this.#brokers);
        }
        if (fetched === 'stopped') return { messages: [], next: from ?? 0n };
        this.#inFlight = null;
        if (fetched.messages.length > 0) {
          this.#rest = fetched.messages;
          this.#restNext = fetched.next;
          const cut = this.#cut(max);
          return fetched.jumpedTo === undefined ? cut : { ...cut, jumpedTo: fetched.jumpedTo };
        }
        if (fetched.jumpedTo !== undefined || fetched.next !== (from ?? fetched.next)) return fetched;
        if (performance.now() >= deadline) return fetched;
      }
    } finally {
      signal?.removeEventListener('abort', stop!);
    }
  }

  #cut(max: number): Fetched {
    const messages = this.#rest.slice(0, max);
    this.#rest = this.#rest.slice(max);
    const next = this.#rest.length > 0 ? BigInt(messages.at(-1)!.offset) + 1n : this.#restNext;
    this.#restFrom = next;
    return { messages, next };
  }

  #mayRetry(error: unknown): boolean {
    return (
      isStale(error) || (protocolError(error) === undefined && (error as { retriable?: boolean }).retriable !== false)
    );
  }

  async #fetch(from: bigint | null, waitMs: number): Promise<Fetched> {
    if (!this.#connected || !this.#cluster.isConnected()) {
      await this.#cluster.connect();
      await this.#cluster.addTargetTopic(this.#topic);
      this.#connected = true;
    }
    const offset = from ?? (await this.#offset(EARLIEST));
    try {
      return await this.#fetchAt(offset, waitMs);
    } catch (error) {
      const type = protocolError(error);
      // Below the start (retention), or beyond the end (the log was made anew or lost its tail): the oldest that is there,
      // as records may otherwise be passed over; what comes twice counts once.
      if (type === 'OFFSET_OUT_OF_RANGE') {
        const jumpedTo = await this.#offset(EARLIEST);
        return { messages: [], next: jumpedTo, jumpedTo };
      }
      if (type === undefined || isStale(error)) await this.#cluster.refreshMetadata().catch(() => {});
      throw error;
    }
  }

  async #fetchAt(offset: bigint, waitMs: number): Promise<Fetched> {
    const broker = await this.#leader();
    const answer = await broker.fetch({
      isolationLevel: READ_UNCOMMITTED,
      maxWaitTime: Math.ceil(waitMs),
      minBytes: 1,
      maxBytes: FETCH_BYTES,
      topics: [
        {
          topic: this.#topic,
          partitions: [{ partition: this.#partition, fetchOffset: String(offset), maxBytes: FETCH_BYTES }],
        },
      ],
    });
    const all = answer.responses[0]?.partitions[0]?.messages ?? [];
    const last = all.at(-1);
    // A record batch is sent whole: its first records may lie before the offset asked for.
    const messages = all.filter((message) => !message.isControlRecord && BigInt(message.offset) >= offset);
    const behind = last === undefined ? offset : BigInt(last.offset) + 1n;
    return { messages, next: behind > offset ? behind : offset };
  }

  async #leader() {
    const leaders = this.#cluster.findLeaderForPartitions(this.#topic, [this.#partition]);
    const nodeId = Object.keys(leaders)[0];
    if (nodeId === undefined || nodeId === '-1') {
      throw Object.assign(new Error(`partition ${this.#partition} of topic ${this.#topic} has no leader`), {
        type: 'LEADER_NOT_AVAILABLE',
      });
    }
    return this.#cluster.findBroker({ nodeId });
  }

  async #offset(fromBeginning: boolean): Promise<bigint> {
    const partitions = [{ partition: this.#partition }];
    const [topic] = await this.#cluster.fetchTopicsOffset([{ topic: this.#topic, partitions, fromBeginning }]);
    return BigInt(topic!.partitions[0]!.offset);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#cluster.disconnect();
  }
}
