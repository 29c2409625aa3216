/**
 * What the processes before this one left in the journal that miners may still refer to: jobs of the last ten minutes, the shares that were
 * accepted on them, and the sessions that can be resumed. Read once at start, before the first connection; and read on while a predecessor
 * still runs (a hand-over), whenever one of its sessions is resumed here, so that no share is accepted twice.
 *
 * Where it stands: resumption.ts asks it at start, and whenever a session of an earlier process is named.
 */
import type { Events } from '../../schemas/events.ts';
import { bytesFromHex } from '../core/bitcoin/bytes.ts';
import { bitsFromHex } from '../core/bitcoin/target.ts';
import type { EventLog, Position } from '../core/log/event-log.ts';
import { openJournalLog } from '../core/log/journal.ts';
import { positionSince } from '../core/log/journal-since.ts';
import { type ShareLook, shareLook } from './earlier-shares.ts';
import { JOB_LIFE_MS, type JobContent, type JobValue } from './work/job.ts';

const RECORDS_PER_READ = 20_000;

/** A session of an earlier process. */
export interface EarlierSession {
  readonly enonce1: Uint8Array;
  readonly user: string;
  readonly address: string;
  /** Difficulty in force at last, in the chain's unit; 0: none. */
  readonly diff: number;
  /** The lowest that it had, likewise. */
  readonly leastDiff: number;
  /** Last heard of, or ended, milliseconds. */
  readonly lastMs: number;
  /** False while its line is open at a process that still runs. */
  readonly ended: boolean;
}

/** A job of an earlier process. */
export interface EarlierJob {
  readonly id: string;
  readonly key: string;
  readonly content: JobContent;
  readonly value: JobValue | null;
  readonly txCount: number;
  readonly madeMs: number;
}

/** Takes what is found, in the order of the journal; jobs come before their shares. */
export interface EarlierFacts {
  job(job: EarlierJob): void;
  /** @param words - the first three of its hash in internal order, as duplicates.ts wants them; overwritten by the next share */
  acceptedShare(jobKey: string, words: Uint32Array): void;
}

export interface PredecessorsOptions {
  /** `<data-dir>/journal` */
  readonly dir: string;
  readonly origin: string;
  readonly nowMs: number;
  readonly facts: EarlierFacts;
  /** Instances whose processes still run and will hand their sessions over. Sessions of all others are over, said or not. */
  readonly running?: readonly string[];
}

/** In this order: a session's end is found before the last of its shares, never after. */
const TOPICS_READ = ['job', 'session', 'share'] as const;

/** Takes the bytes of an event. */
type Look = (body: Buffer) => void;

interface KnownSession extends Omit<EarlierSession, 'ended'> {
  readonly disconnected: boolean;
  readonly instance: string;
}

function jobOf(event: Events['job']): EarlierJob {
  return {
    id: event.job_id,
    key: event.job_key,
    content: {
      height: event.height,
      prevHashRpc: event.prev_hash,
      coinbase1: bytesFromHex(event.coinbase1),
      coinbase2: bytesFromHex(event.coinbase2),
      branch: event.merkle_branch.map((step) => bytesFromHex(step)),
      version: Number.parseInt(event.version, 16),
      versionMask: Number.parseInt(event.version_mask, 16),
      bits: bitsFromHex(event.nbits),
      ntime: Number.parseInt(event.ntime, 16),
      enonce1Bytes: event.enonce1_bytes,
      nonce2Bytes: event.nonce2_bytes,
    },
    value:
      event.subsidy_sats === ''
        ? null
        : {
            subsidySats: BigInt(event.subsidy_sats),
            feesSats: BigInt(event.fees_sats),
            coinbaseValueSats: BigInt(event.coinbase_value_sats),
          },
    txCount: event.tx_count,
    madeMs: event.time_us / 1000,
  };
}

export class Predecessors {
  readonly #options: PredecessorsOptions;
  #log: EventLog;
  readonly #sinceUs: number;
  readonly #shareLooks = new Map<string, ShareLook>();
  readonly #positions = new Map<string, Position | null>();
  readonly #running: ReadonlySet<string>;
  readonly #sessions = new Map<string, KnownSession>();
  /** The newest session of each extranonce1: one that was resumed goes on under another id, and its own is worth nothing any more. */
  readonly #newest = new Map<string, string>();
  #reading: Promise<void> = Promise.resolve();

  constructor(options: PredecessorsOptions) {
    this.#options = options;
    this.#log = openJournalLog({ dir: options.dir });
    this.#sinceUs = (options.nowMs - JOB_LIFE_MS) * 1000;
    this.#running = new Set(options.running ?? []);
  }

  /** Sessions known so far. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** A session by its id, whoever had it; undefined where none of the last ten minutes had it. */
  session(sessionId: string): EarlierSession | undefined {
    const found = this.#sessions.get(sessionId);
    return found === undefined ? undefined : { ...found, ended: this.#ended(found) };
  }

  /** The session is taken up: nobody else may have it. */
  forget(sessionId: string): void {
    this.#sessions.delete(sessionId);
  }

  /**
   * Reads what was appended since the last call; the first call reads the last ten minutes.
   * @throws PoolError schema_unknown; what the file system throws
   */
  catchUp(): Promise<void> {
    const next = this.#reading.then(() => this.#read()).finally(() => this.#letGo());
    this.#reading = next.catch(() => {});
    return next;
  }

  async #read(): Promise<void> {
    const { facts } = this.#options;
    for (const topic of TOPICS_READ) {
      const jobs: EarlierJob[] = [];
      for (const instance of await this.#log.partitions(topic)) {
        await this.#readPartition(topic, instance, async (fingerprint) => {
          if (topic === 'share') return this.#shareLook(fingerprint);
          if (topic === 'job') return this.#decodedLook(topic, fingerprint, (event) => jobs.push(jobOf(event)));
          return this.#decodedLook(topic, fingerprint, (event) => this.#takeSession(event, instance));
        });
      }
      for (const job of jobs.sort((a, b) => a.madeMs - b.madeMs)) facts.job(job);
    }
  }

  /** Holds no file open until the next look: a segment that is packed or removed takes room as long as somebody has it open. */
  async #letGo(): Promise<void> {
    await this.#log.close();
    this.#log = openJournalLog({ dir: this.#options.dir });
  }

  async #readPartition(
    topic: (typeof TOPICS_READ)[number],
    instance: string,
    lookFor: (fingerprint: string) => Promise<Look>,
  ): Promise<void> {
    const key = `${topic}/${instance}`;
    let at = this.#positions.has(key)
      ? this.#positions.get(key)!
      : positionSince(this.#options.dir, instance, topic, this.#sinceUs);
    for (;;) {
      const { records, damage, next } = await this.#log.read(topic, instance, at, {
        maxRecords: RECORDS_PER_READ,
        waitMs: 0,
      });
      at = next;
      this.#positions.set(key, at);
      if (records.length === 0 && damage.length === 0) return;
      let schema = '';
      let look: Look = () => {};
      for (const { fingerprint, body } of records) {
        if (fingerprint !== schema) {
          look = await lookFor(fingerprint);
          schema = fingerprint;
        }
        look(body);
      }
    }
  }

  async #shareLook(fingerprint: string): Promise<Look> {
    let look = this.#shareLooks.get(fingerprint);
    if (look === undefined) {
      const { origin, facts } = this.#options;
      const take = facts.acceptedShare.bind(facts);
      look = shareLook(await this.#log.schemaText('share', fingerprint), { origin, sinceUs: this.#sinceUs, take });
      this.#shareLooks.set(fingerprint, look);
    }
    return look;
  }

  async #decodedLook<T extends 'job' | 'session'>(
    topic: T,
    fingerprint: string,
    take: (event: Events[T]) => void,
  ): Promise<Look> {
    const decode = await this.#log.decoder(topic, fingerprint);
    return (body) => {
      const event = decode(body);
      if (event.origin === this.#options.origin && event.time_us >= this.#sinceUs) take(event);
    };
  }

  #takeSession(event: Events['session'], instance: string): void {
    if (event.session_id === '' || event.user === '') return;
    const newest = this.#newest.get(event.enonce1);
    if (newest !== undefined && newest !== event.session_id) {
      const other = this.#sessions.get(newest);
      // Of one process the journal's order counts, whatever the clock did.
      if (other !== undefined && other.instance !== instance && other.lastMs > event.time_us / 1000) return;
      this.#sessions.delete(newest);
    }
    this.#newest.set(event.enonce1, event.session_id);
    const before = this.#sessions.get(event.session_id)?.leastDiff ?? 0;
    this.#sessions.set(event.session_id, {
      enonce1: bytesFromHex(event.enonce1),
      user: event.user,
      address: event.address,
      diff: event.diff,
      leastDiff: before > 0 && event.diff > 0 ? Math.min(before, event.diff) : before || event.diff,
      lastMs: event.time_us / 1000,
      disconnected: event.kind === 'disconnected',
      instance,
    });
  }

  /** All sessions known, for the extranonces that they hold. */
  enonces(): { readonly enonce1: Uint8Array; readonly lastMs: number; readonly ended: boolean }[] {
    return [...this.#sessions.values()].map((each) => ({ ...each, ended: this.#ended(each) }));
  }

  #ended({ disconnected, instance }: KnownSession): boolean {
    return disconnected || !this.#running.has(instance);
  }

  async close(): Promise<void> {
    await this.#reading;
    await this.#log.close();
  }
}
