/**
 * What the pools of this journal were mining, for the question whose a block is: its coinbase is that of one of their jobs, whatever it pays.
 * So a block in solo mode, which pays its finder, is known as ours, and so is one whose `solved` event was lost with the process that sent it.
 *
 *   topic job, block (of every other writer of this journal) --read on as the chain grows--> OwnWork --> follower.ts
 *
 * Jobs are read up to the height that is asked for and forgotten some blocks below it: a follower that catches up over years holds hours of them.
 */
import type { BlockEvent, JobEvent } from '../../schemas/events.ts';
import { bytesFromHex } from '../core/bitcoin/bytes.ts';
import { serializeTransaction, type Tx } from '../core/bitcoin/transaction.ts';
import { CHAIN_FOLLOWER } from '../core/chain-tail.ts';
import type { EventLog, Position } from '../core/log/event-log.ts';
import { positionSince } from '../core/log/journal-since.ts';

/** A job is older than the block that it makes by at most this; header times run up to two hours ahead and an hour behind. */
const LOOK_BACK_US = 4 * 3_600e6;
const BATCH = 200;
/** Blocks below the last that was asked for, whose jobs are kept: reorganisations ask again. */
const KEEP_BLOCKS = 12;
/** Solved blocks that are remembered. */
const SOLVED_LIMIT = 100_000;

/** Whose work a block is; `null`: nobody's of this journal. */
export interface BlockOwner {
  /** Reads on; cheap where nothing new was written. */
  jobOf(height: number, blockTimeUs: number, prevHash: string, coinbase: Tx): Promise<JobEvent | null>;
  /** Whether somebody of this journal told that it found this block. */
  isSolved(hash: string, blockTimeUs: number): Promise<boolean>;
}

export class OwnWork implements BlockOwner {
  readonly #log: EventLog;
  readonly #dir: string;
  readonly #chain: string;
  readonly #positions = new Map<string, Position | null>();
  /** By partition: a height that its read jobs have reached. */
  readonly #reached = new Map<string, number>();
  readonly #jobs = new Map<number, JobEvent[]>();
  readonly #solved = new Set<string>();

  /** @param dir - of the journal that `log` reads */
  constructor(log: EventLog, dir: string, chain: string) {
    this.#log = log;
    this.#dir = dir;
    this.#chain = chain;
  }

  async jobOf(height: number, blockTimeUs: number, prevHash: string, coinbase: Tx): Promise<JobEvent | null> {
    for (const partition of await this.#writers('job')) {
      while ((this.#reached.get(partition) ?? -1) <= height) {
        const jobs = await this.#next('job', partition, blockTimeUs);
        if (jobs === null) break;
        for (const job of jobs) this.#take(job, partition);
      }
    }
    for (const old of this.#jobs.keys()) if (old < height - KEEP_BLOCKS) this.#jobs.delete(old);
    const jobs = this.#jobs.get(height);
    if (jobs === undefined) return null;
    const bytes = serializeTransaction(coinbase, { witness: false });
    return jobs.find((job) => job.prev_hash === prevHash && isOf(bytes, job)) ?? null;
  }

  #take(job: JobEvent, partition: string): void {
    this.#reached.set(partition, Math.max(job.height, this.#reached.get(partition) ?? -1));
    // A proxy's work is its upstream's, which is paid for it.
    if (job.chain !== this.#chain || job.upstream !== '') return;
    const same = this.#jobs.get(job.height);
    if (same === undefined) this.#jobs.set(job.height, [job]);
    else same.push(job);
  }

  async isSolved(hash: string, blockTimeUs: number): Promise<boolean> {
    for (const partition of await this.#writers('block')) {
      for (;;) {
        const events = await this.#next('block', partition, blockTimeUs);
        if (events === null) break;
        for (const event of events) if (isLive(event)) this.#solved.add(event.hash);
      }
    }
    for (const oldest of this.#solved) {
      if (this.#solved.size <= SOLVED_LIMIT) break;
      this.#solved.delete(oldest);
    }
    return this.#solved.has(hash);
  }

  async #writers(topic: 'job' | 'block'): Promise<string[]> {
    const partitions = await this.#log.partitions(topic);
    // What an earlier follower made up for a lost event counts as told.
    return topic === 'block' ? [...partitions] : partitions.filter((name) => name !== CHAIN_FOLLOWER);
  }

  /** The next events of a partition, from some hours before the block on; null where there are none now. */
  async #next<T extends 'job' | 'block'>(
    topic: T,
    partition: string,
    blockTimeUs: number,
  ): Promise<(T extends 'job' ? JobEvent : BlockEvent)[] | null> {
    const key = `${topic} ${partition}`;
    let from = this.#positions.get(key);
    if (from === undefined) from = positionSince(this.#dir, partition, topic, blockTimeUs - LOOK_BACK_US);
    const batch = await this.#log.read(topic, partition, from, { maxRecords: BATCH, waitMs: 0 });
    this.#positions.set(key, batch.next ?? from);
    if (batch.records.length === 0 && batch.damage.length === 0) return null;
    const decoded: unknown[] = [];
    for (const { fingerprint, body } of batch.records) {
      decoded.push((await this.#log.decoder(topic, fingerprint))(body));
    }
    return decoded as (T extends 'job' ? JobEvent : BlockEvent)[];
  }
}

const isLive = (event: BlockEvent): boolean => event.kind === 'solved' && event.source !== 'backfill';

/** Whether a coinbase, without its witness, is one that this job can make. */
function isOf(coinbase: Uint8Array, job: JobEvent): boolean {
  const [head, tail] = [bytesFromHex(job.coinbase1), bytesFromHex(job.coinbase2)];
  const bytes = Buffer.from(coinbase.buffer, coinbase.byteOffset, coinbase.length);
  return (
    bytes.length === head.length + job.enonce1_bytes + job.nonce2_bytes + tail.length &&
    bytes.subarray(0, head.length).equals(head) &&
    bytes.subarray(bytes.length - tail.length).equals(tail)
  );
}
