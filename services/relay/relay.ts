/**
 * Carries the journal to Kafka: the transactional-outbox pattern, with the journal as the outbox.
 *
 *     journal, instance × topic ── read ──► announce schema ──► produce, acks from all ──► position stored ──► read on
 *
 * One send is in flight for each partition of the journal, so records of one writer keep their order; the position moves after the
 * acknowledgement, so each record arrives at least once. While it is in flight the next batch is read and built, and no more: memory holds two batches
 * per partition of the journal, however long a broker is away.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TOPICS, type Topic } from '../../schemas/events.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Damage, Position, RecordBatch, StoredRecord } from '../core/log/event-log.ts';
import { openJournalLog } from '../core/log/journal.ts';
import type { Carriage, KafkaLog } from '../core/log/kafka.ts';
import { openPositions } from '../core/log/positions.ts';
import { Retention } from '../core/log/retention.ts';

export interface RelayOptions {
  /** `<data-dir>/journal`. */
  readonly journalDir: string;
  readonly kafka: KafkaLog;
  /** SQLite file with the positions. */
  readonly stateFile: string;
  /** Removes what Kafka has from the journal (retention.ts); absent: nothing is. `everyMs` default ten minutes. */
  readonly retention?: { readonly stateFile: string; readonly keepUs: number; readonly everyMs?: number };
  readonly log: (line: string) => void;
  /** Ends the relay as `stop` does. */
  readonly signal?: AbortSignal;
}

export interface PartitionLag {
  readonly topic: Topic;
  readonly instance: string;
  /** Records of the journal that Kafka has not acknowledged. */
  readonly records: number;
}

export interface Relay {
  /** Ends after the sends in flight, or after a few seconds; what was not acknowledged is sent again at the next start. */
  stop(): Promise<void>;
  lag(): Promise<PartitionLag[]>;
  /** What keeps it from working now, one line; null: nothing. */
  problem(): string | null;
  /** Since the start. */
  counts(): { readonly sent: number; readonly damaged: number };
}

/** A read ends at 1 MiB as well, which some 5000 shares fill. */
const BATCH_RECORDS = 8000;
const WAIT_MS = 1000;
/** How often new instances and topics are looked for. */
const DISCOVER_MS = 500;
const RETENTION_MS = 600_000;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5000;
const COMPLAIN_MS = 60_000;
const STOP_LIMIT_MS = 5000;
/** Where the name of the last Kafka stands among the positions: no instance is called so. */
const CLUSTER = ' cluster';
const CLUSTER_TOPIC: Topic = 'share';

/**
 * Starts carrying.
 * @throws PoolError held where another relay has the positions
 */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const { kafka, log } = options;
  const positions = openPositions(options.stateFile, { what: 'the positions of the relay' });
  const journal = openJournalLog({ dir: options.journalDir });
  /** Positions count for the Kafka whose acknowledgements they are. */
  const placeOf = (instance: string): string => `${kafka.cluster}${instance}`;
  const stopping = new AbortController();
  const { signal } = stopping;
  const workers = new Map<string, Promise<void>>();
  const failing = new Map<string, string>();
  let complainedAt = Number.NEGATIVE_INFINITY;
  let sent = 0;
  let damaged = 0;

  /** Says what is wrong at once and then once a minute, for all partitions together. */
  function complain(key: string, error: unknown): void {
    const line = errorLine(error);
    failing.set(key, line);
    const now = performance.now();
    if (now - complainedAt < COMPLAIN_MS) return;
    complainedAt = now;
    log(`${line}; trying again`);
  }

  function recovered(key: string): void {
    if (!failing.delete(key) || failing.size > 0) return;
    complainedAt = Number.NEGATIVE_INFINITY;
    log('records are acknowledged again');
  }

  /** Does the work until it succeeds. @returns false where the relay was stopped before */
  async function persist(key: string, work: () => Promise<void>): Promise<boolean> {
    for (let backoffMs = FIRST_BACKOFF_MS; !signal.aborted; backoffMs = Math.min(backoffMs * 2, LONGEST_BACKOFF_MS)) {
      try {
        await work();
        recovered(key);
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        complain(key, error);
        await sleep(backoffMs, undefined, { signal }).catch(() => {});
      }
    }
    return false;
  }

  /** What Kafka does not have (any more) is carried from the oldest record that the journal has. */
  async function forgetLost(): Promise<void> {
    const last = positions.load(CLUSTER_TOPIC, CLUSTER);
    if (last !== null && last !== kafka.cluster) {
      log(
        `this Kafka (${kafka.cluster}) is not the last one (${last}): it gets what it lacks of the journal, from the oldest`,
      );
    }
    positions.save(CLUSTER_TOPIC, CLUSTER, kafka.cluster);
    for (const topic of kafka.takeMade()) {
      const stood = (await journal.partitions(topic)).filter((instance) => positions.load(topic, placeOf(instance)));
      for (const instance of stood) positions.save(topic, placeOf(instance), null);
      if (stood.length > 0) log(`topic ${topic} was gone from Kafka: it gets the journal from the oldest record`);
    }
  }

  async function announceSchemas(topic: Topic, records: readonly StoredRecord[]): Promise<void> {
    for (const fingerprint of new Set(records.map((record) => record.fingerprint))) {
      await kafka.announce(topic, await journal.schemaText(topic, fingerprint));
    }
  }

  function report(found: readonly Damage[]): void {
    for (const { topic, partition, position, reason, bytes } of found) {
      damaged++;
      log(`${topic} of ${partition} at ${position}: ${reason} (${bytes.length} bytes not carried)`);
    }
  }

  interface Load {
    readonly batch: RecordBatch;
    readonly carriage: Carriage;
  }

  /** Reads the next batch, and builds what is sent as far as the broker's state allows. */
  async function load(topic: Topic, instance: string, from: Position | null): Promise<Load> {
    const batch = await journal.read(topic, instance, from, { maxRecords: BATCH_RECORDS, waitMs: WAIT_MS, signal });
    const carriage = kafka.carry(topic, batch.records);
    // What keeps it from being built now is met again, and said, when it is sent.
    if (batch.records.length > 0) await carriage.prepare().catch(() => {});
    return { batch, carriage };
  }

  async function carry(topic: Topic, instance: string): Promise<void> {
    const key = `${topic}/${instance}`;
    let position: Position | null = positions.load(topic, placeOf(instance));
    let ahead = null as Promise<Load> | null;
    while (!signal.aborted) {
      let loaded: Load | null = null;
      const worked = await persist(key, async () => {
        if (loaded === null) {
          const loading = ahead ?? load(topic, instance, position);
          ahead = null;
          loaded = await loading;
        }
        const { batch, carriage } = loaded;
        if (batch.records.length > 0) {
          await announceSchemas(topic, batch.records);
          ahead ??= load(topic, instance, batch.next);
          // Who takes it up sees its failure.
          ahead.catch(() => {});
          await carriage.send();
        }
        if (batch.next !== position) positions.save(topic, placeOf(instance), batch.next);
        position = batch.next;
        sent += batch.records.length;
        report(batch.damage);
      });
      if (!worked) break;
    }
    // Nothing reads the journal after the end of its reader.
    await ahead?.catch(() => {});
  }

  const retention =
    options.retention === undefined
      ? null
      : new Retention({
          ...options.retention,
          journalDir: options.journalDir,
          // Positions move with the acknowledgements of all replicas.
          required: [{ name: 'relay', load: (topic, instance) => positions.load(topic, placeOf(instance)) }],
          log,
        });
  let retainedAt = performance.now();

  async function discover(): Promise<void> {
    for (const topic of TOPICS) {
      for (const instance of await journal.partitions(topic)) {
        const key = `${topic}/${instance}`;
        if (!workers.has(key)) workers.set(key, carry(topic, instance));
      }
    }
    if (retention !== null && performance.now() - retainedAt > (options.retention?.everyMs ?? RETENTION_MS)) {
      retention.run();
      retainedAt = performance.now();
    }
  }

  await forgetLost();
  const discovering = (async () => {
    while (!signal.aborted) {
      await persist('discover', discover);
      await sleep(DISCOVER_MS, undefined, { signal }).catch(() => {});
    }
  })();

  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      stopping.abort();
      const limit = new AbortController();
      const done = Promise.allSettled([discovering, ...workers.values()]);
      await Promise.race([done, sleep(STOP_LIMIT_MS, undefined, { signal: limit.signal }).catch(() => {})]);
      limit.abort();
      await journal.close();
      // A send that outlives the wait may still be acknowledged: it must not find the file closed.
      if (await settled(done)) positions.close();
      else void done.then(() => positions.close());
    })();
    return stopped;
  };
  options.signal?.addEventListener('abort', () => void stop(), { once: true });
  if (options.signal?.aborted) await stop();

  return {
    stop,
    async lag() {
      if (signal.aborted) throw new PoolError('journal_closed', 'the relay is stopped');
      const all: PartitionLag[] = [];
      for (const topic of TOPICS) {
        for (const instance of await journal.partitions(topic)) {
          const records = (await journal.lag(topic, instance, positions.load(topic, placeOf(instance)))) ?? 0;
          all.push({ topic, instance, records });
        }
      }
      return all;
    },
    problem: () => failing.values().next().value ?? null,
    counts: () => ({ sent, damaged }),
  };
}

/** Whether a promise has an outcome already. */
async function settled(work: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  return (await Promise.race([work, Promise.resolve(pending)])) !== pending;
}
