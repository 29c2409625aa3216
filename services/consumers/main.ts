/**
 * The consumers: run the pipelines over the log and keep ClickHouse at what they say.
 *
 *   log ─► one loop per partition of share, job, session, block, contract ─► raw tables (partition.ts)
 *                         │ minutes touched                └─ blocks and contracts ─► derived tables (derived.ts)
 *                         └─► roll-ups (rollups.ts)
 */
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { blockEventPipeline } from '../../pipelines/blocks/block-events.ts';
import { jobPipeline } from '../../pipelines/jobs/jobs.ts';
import { contractEventPipeline, type ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import { quarantinePipeline } from '../../pipelines/quarantine/quarantines.ts';
import type { RowPipeline } from '../../pipelines/row.ts';
import { sessionPipeline } from '../../pipelines/sessions/sessions.ts';
import { sharePipeline } from '../../pipelines/shares/shares.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import { chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { acquireLock } from '../core/lock.ts';
import type { EventLog, Position } from '../core/log/event-log.ts';
import { publishStatus } from '../core/status.ts';
import { openStore, storeAddress, targetOf } from '../core/store.ts';
import { Derived } from './derived.ts';
import { recognise } from './filled-from.ts';
import { migrate, readMigrations } from './migrations.ts';
import { type Counters, decodeRecord, PartitionConsumer, type PartitionParts } from './partition.ts';
import { Problems, pause, untilDone } from './problems.ts';
import { dropReplayed, readReplayed } from './replay-positions.ts';
import { Rollups } from './rollups.ts';
import { ConsumerState } from './state.ts';

/** How often new partitions are looked for, and how far behind each is. */
const LOOK_MS = 1_000;
const ROLLUP_MS = 1_000;
/** How often minutes are made anew while shares are behind: each time reads the whole hour, which the next batch adds to. */
const ROLLUP_BEHIND_MS = 30_000;
const DERIVE_MS = 200;
/** How long an insert under way is waited for at the end. */
const CLOSE_MS = 5_000;
const REFOLD_RECORDS = 10_000;
/** Tables whose rows come from records as they are read. */
const FILLED: ReadonlySet<string> = new Set([
  ...[sharePipeline, jobPipeline, sessionPipeline, blockEventPipeline].map(({ table }) => table),
  'pool_status_raw',
  'contract_events_raw',
  'share_minutes',
  'shares_1m_raw',
  'dead_letters',
]);

export interface Consumers {
  /** Resolves when the tables are there and every partition that was found first has its loop. */
  readonly ready: Promise<void>;
  readonly counters: Readonly<Counters>;
  /** Records that are in the log and not in ClickHouse, as of the last look. */
  lagRecords(): number;
  /** For how long records have waited in the partition that is furthest behind, to a second or two; 0 where none wait. */
  lagSeconds(): number;
  problems(): readonly string[];
}

export interface ConsumerParts {
  readonly log: EventLog;
  /** Profile by the name that events carry; absent: the configured one and the built-in ones. */
  readonly profileOf?: ProfileOf;
}

/** A client's error as one line that says where it points. */
function lineWith(url: string): (error: unknown) => string {
  return (error) => {
    if (error instanceof PoolError) return error.line;
    const code = (error as NodeJS.ErrnoException | null)?.code;
    const unreachable =
      code === 'ECONNREFUSED' || code === 'ECONNRESET' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH';
    return new PoolError('clickhouse', unreachable ? `ClickHouse at ${url} is not reachable` : errorLine(error)).line;
  };
}

interface Running {
  readonly topic: Topic;
  readonly partition: string;
  readonly consumer: PartitionConsumer<Topic>;
  /** Records not taken in at the last look. */
  lag: number;
  /** An end of the log that was seen, and when (monotonic milliseconds): reached once so many records are taken in. */
  goal: { readonly records: number; readonly seenMs: number };
}

/**
 * Starts the consumers and returns; they run until the lifecycle ends. ClickHouse need not be there yet.
 *
 * @throws PoolError held where other consumers run on this data directory, data_dir
 */
export async function startConsumers(config: Config, life: Lifecycle, parts: ConsumerParts): Promise<Consumers> {
  const { log } = parts;
  const profileOf = parts.profileOf ?? chainsOf(config.chain);
  const paths = openDataDir(config.dataDir);
  const lock = acquireLock(join(paths.state, 'consumers.lock'), { waitMs: 5_000, what: 'the state of the consumers' });
  let state: ConsumerState;
  try {
    state = new ConsumerState(join(paths.state, 'consumers.sqlite'));
  } catch (error) {
    lock.release();
    throw error;
  }
  const client: ClickHouseClient = openStore(config);
  const problems = new Problems(life.log);
  const lineOf = lineWith(storeAddress(config).url);
  const counters: Counters = { records: 0, rows: 0, deadLetters: 0 };
  const stopping = new AbortController();
  const { signal } = stopping;
  const running = new Map<string, Running>();
  const loops: Promise<void>[] = [];
  const derived = new Derived(client, profileOf);
  const contractPipeline = contractEventPipeline(profileOf);
  const rollups = new Rollups(client, state);
  const overlaps: PartitionParts['overlaps'] = new Set();
  /** Partitions of block and contract whose events before the checkpoint are not folded yet: until then nothing is derived. */
  let unfolded = 0;
  let derivedRows = 0;

  const take = <T extends Topic>(topic: T, events: readonly Events[T][]): void => {
    for (const event of events) {
      if (topic === 'block') derived.evolve({ topic, event: event as Events['block'] });
      if (topic === 'contract') derived.evolve({ topic, event: event as Events['contract'] });
    }
  };

  /** Folds a partition from its beginning to its present end. What comes twice after that changes nothing. */
  async function refold<T extends Topic>(pipeline: RowPipeline<T>, partition: string): Promise<void> {
    let from: Position | null = null;
    while (!signal.aborted) {
      const batch = await log.read(pipeline.topic, partition, from, { maxRecords: REFOLD_RECORDS, waitMs: 0, signal });
      if (batch.records.length === 0 && batch.damage.length === 0) return;
      for (const record of batch.records) {
        const decoded = await decodeRecord(log, pipeline.topic, record);
        if ('event' in decoded && pipeline.wrong(decoded.event) === null) take(pipeline.topic, [decoded.event]);
      }
      from = batch.next;
    }
  }

  async function runPartition<T extends Topic>(pipeline: RowPipeline<T>, partition: string): Promise<void> {
    const { topic } = pipeline;
    const place = `${topic}/${partition}`;
    if (topic === 'block' || topic === 'contract') {
      await untilDone(place, problems, signal, lineOf, () => refold(pipeline, partition));
      unfolded -= 1;
    }
    const consumer = new PartitionConsumer(
      { log, client, state, counters, overlaps, signal },
      pipeline,
      partition,
      (events) => take(topic, events),
    );
    running.set(place, {
      topic,
      partition,
      consumer: consumer as unknown as PartitionConsumer<Topic>,
      lag: 0,
      goal: { records: 0, seenMs: performance.now() },
    });
    while (!signal.aborted) await untilDone(place, problems, signal, lineOf, () => consumer.step());
  }

  /** Starts a loop for each partition that has none yet. */
  const started = new Set<string>();
  async function look<T extends Topic>(pipeline: RowPipeline<T>): Promise<void> {
    for (const partition of await log.partitions(pipeline.topic)) {
      const place = `${pipeline.topic}/${partition}`;
      if (started.has(place)) continue;
      started.add(place);
      if (pipeline.topic === 'block' || pipeline.topic === 'contract') unfolded += 1;
      loops.push(runPartition(pipeline, partition).catch((error: unknown) => life.stop(error)));
    }
  }

  const lookAll = async (): Promise<void> => {
    await look(jobPipeline);
    await look(sessionPipeline);
    await look(blockEventPipeline);
    await look(contractPipeline);
    await look(sharePipeline);
    await look(quarantinePipeline);
    for (const each of running.values()) {
      const { records, position } = each.consumer;
      each.lag = (await log.lag(each.topic, each.partition, position)) ?? 0;
      // Under a steady flow the end is never reached; but the end as it was a moment ago is.
      if (records >= each.goal.records) each.goal = { records: records + each.lag, seenMs: performance.now() };
    }
  };

  async function lookout(): Promise<void> {
    while (!signal.aborted) {
      await pause(LOOK_MS, signal);
      await untilDone('log', problems, signal, errorLine, lookAll);
    }
  }

  async function derive(): Promise<void> {
    while (!signal.aborted) {
      if (unfolded === 0) {
        await untilDone('derived tables', problems, signal, lineOf, async () => {
          derivedRows += await derived.flush();
        });
      }
      await pause(DERIVE_MS, signal);
    }
  }

  async function rollUp(): Promise<void> {
    let lastMs = performance.now();
    const isBehind = (): boolean => [...running.values()].some(({ consumer }) => consumer.behind);
    while (!signal.aborted) {
      while (!signal.aborted && isBehind() && performance.now() - lastMs < ROLLUP_BEHIND_MS)
        await pause(ROLLUP_MS, signal);
      const begun = performance.now();
      const made = await untilDone('roll-ups', problems, signal, lineOf, () => rollups.step());
      // Making the present minute anew over and over must not take more than a part of the engine's time.
      const tookMs = performance.now() - begun;
      lastMs = performance.now();
      await pause(made === null || made === 0 ? ROLLUP_MS : Math.max(ROLLUP_MS, 4 * tookMs), signal);
    }
  }

  async function begin(): Promise<void> {
    const applied = await untilDone('schema', problems, signal, lineOf, async () => {
      try {
        const applied = await migrate(client, readMigrations(), (lost) => {
          life.log(`schema: ${lost.join(', ')} of this ClickHouse are gone, and made again`);
          // Derived tables are compared with what they should hold in any case.
          if (!lost.some((name) => FILLED.has(name))) return;
          state.forget();
          for (const { generation } of readReplayed(paths.state)) dropReplayed(paths.state, generation);
          life.log('the log is read again from its beginning');
        });
        const found = await recognise(client, state, paths.state);
        if (found === 'replayed') life.log('a replay has filled this ClickHouse: reading goes on where it stopped');
        if (found === 'stranger') {
          life.log('this ClickHouse is not the one that was filled: the log is read again from its beginning');
        }
        return applied;
      } catch (error) {
        // Waiting does not mend these.
        if (error instanceof PoolError && !error.retry) {
          life.stop(error);
          stopping.abort();
        }
        throw error;
      }
    });
    if (applied !== null && applied.length > 0) life.log(`schema: applied ${applied.join(', ')}`);
    await untilDone('log', problems, signal, errorLine, lookAll);
    if (signal.aborted) return;
    loops.push(lookout(), derive(), rollUp());
  }

  const lagRecords = (): number => [...running.values()].reduce((sum, each) => sum + each.lag, 0);
  const lagSeconds = (): number => {
    const now = performance.now();
    return [...running.values()].reduce(
      (most, each) => (each.lag > 0 ? Math.max(most, (now - each.goal.seenMs) / 1000) : most),
      0,
    );
  };
  const status = publishStatus(paths.status, 'consume', () => ({
    problems: problems.list(),
    values: {
      lag_records: lagRecords(),
      lag_s: Math.round(lagSeconds()),
      dead_letters_count: counters.deadLetters,
      records_count: counters.records,
      rows_count: counters.rows,
      derived_rows_count: derivedRows,
      partitions: running.size,
      target: targetOf(config),
      minutes_marked: state.marked(),
    },
  }));

  const ready = begin();
  ready.catch((error: unknown) => life.stop(error));
  life.onStop('consumers', async () => {
    stopping.abort();
    status.close();
    // An insert under way may finish; a ClickHouse that does not answer must not hold up the end. Its cut is repeated.
    const ended = ready
      .catch(() => {})
      .then(() => Promise.all(loops))
      // What was taken in last; else it waits for the next start.
      .then(() => (unfolded === 0 ? derived.flush() : 0))
      .catch(() => {});
    const patience = new AbortController();
    await Promise.race([ended, pause(CLOSE_MS, patience.signal)]);
    patience.abort();
    await client.close();
    await ended;
    state.close();
    lock.release();
  });
  return { ready, counters, lagRecords, lagSeconds, problems: () => problems.list() };
}
