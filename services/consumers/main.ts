/**
 * The consumers: run the pipelines over the log and keep ClickHouse at what they say.
 *
 *   log ─► one loop per partition of each topic of facts (partition-loops.ts) ─► raw tables (partition.ts)
 *                         │ minutes touched                └─ blocks and contracts ─► derived tables (derived.ts)
 *                         └─► roll-ups (rollups.ts)
 *
 * Of the journal one process has all partitions. Of Kafka all processes that fill one database share them (group.ts); those of block and
 * contract go together, and who has them derives.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { FACTS } from '../../pipelines/derivations/topics.ts';
import type { ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import { chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { acquireLock } from '../core/lock.ts';
import type { EventLog } from '../core/log/event-log.ts';
import { openJournalLog } from '../core/log/journal.ts';
import type { KafkaLog } from '../core/log/kafka.ts';
import type { KafkaGroup } from '../core/log/kafka-group.ts';
import { publishStatus } from '../core/status.ts';
import { openStore, storeAddress, targetOf } from '../core/store.ts';
import { DERIVATIONS_INSTANCE } from './derivations.ts';
import type { About, Told } from './divide.ts';
import { recognise } from './filled-from.ts';
import {
  currentFilling,
  dividePlaces,
  groupName,
  groupProtocol,
  PlaceInGroup,
  placesText,
  recogniseFilling,
  refill,
} from './group.ts';
import { keepParts } from './instant-parts.ts';
import { migrate, readMigrations } from './migrations.ts';
import { type Counters, copiesOf, type PartitionParts } from './partition.ts';
import { PartitionLoops } from './partition-loops.ts';
import { FILLED } from './pipelines.ts';
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
/** How often tables that another may have derived are looked at, and whether they are still the ones of our group. */
const CHECK_MS = 10_000;
/** How often the parts of instants that luck is read from are kept (instant-parts.ts). Looking which are missing takes 0.3 s of CPU where there are five years of minutes. */
const KEEP_MS = 60_000;
/** Before a rebalance: how long inserts under way are waited for, and how long minutes are made anew so that others need not. */
const SETTLE_INSERTS_MS = 10_000;
const SETTLE_MINUTES_MS = 5_000;
/** An event's hour is at most so far ahead when the numbers of partitions change, or so far behind in a producer that has not heard of it. */
const REPARTITION_S = 3 * 3_600;

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
  /** How long a member of the group may be silent, milliseconds. Default 10,000. */
  readonly sessionMs?: number;
}

/** Work of which one piece is done at a time, in order. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const next = last.then(work, work);
    last = next.catch(() => {});
    return next;
  };
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
  const loops: Promise<void>[] = [];
  const overlaps: PartitionParts['overlaps'] = new Set();
  const copies = copiesOf({ overlaps, client });
  const kafka = log.kind === 'kafka' ? (log as KafkaLog) : null;
  const rollups = new Rollups(client, state, kafka !== null);
  let derivedRows = 0;
  let published = 0;
  /** Where derivations are appended: beside Kafka there need be no journal here, nor a relay. */
  const own: Pick<EventLog, 'append' | 'close'> =
    kafka === null
      ? openJournalLog({ dir: paths.journal, instance: DERIVATIONS_INSTANCE, ...config.journal, log: life.log })
      : { append: (entries) => kafka.append(entries), close: async () => {} };
  let group: KafkaGroup | null = null;
  let generation = '';
  let told: Told | null = null;
  const held = new Map<string, number>();
  /** Numbers of partitions by topic, as last seen. */
  let counts: Record<string, number> = {};

  const partitions = new PartitionLoops({
    ...{ log, client, state, problems, counters, overlaps, profileOf, life, lineOf },
    append: (entries) => own.append(entries),
    take: async (term, place) => {
      const [found] = await group!.committed([place]);
      const parts = { log, client, state, term, generation, held, acquire: () => copies.acquire() };
      return PlaceInGroup.take(parts, place, found!);
    },
  });

  /** Looks at the numbers of partitions, and starts a loop for each that has none yet, where there is no group. */
  async function lookAll(): Promise<void> {
    const seen: Record<string, number> = {};
    for (const topic of FACTS) {
      const names = await log.partitions(topic);
      seen[topic] = names.length;
      for (const partition of kafka === null ? names : []) {
        if (!partitions.has({ topic, partition })) partitions.start({ topic, partition });
      }
    }
    const more = Object.entries(seen).filter(
      ([topic, count]) => counts[topic] !== undefined && counts[topic] !== count,
    );
    counts = seen;
    if (more.length > 0 && kafka !== null) {
      life.log(
        `group: the numbers of partitions have changed (${more.map(([topic, n]) => `${topic} ${n}`).join(', ')})`,
      );
      // A share may come to another partition than its copy did.
      copies.askWholeUntil(Math.ceil(Date.now() / 1000) + REPARTITION_S);
      group?.rejoin();
    }
    await partitions.look();
  }

  async function lookout(): Promise<void> {
    while (!signal.aborted) {
      await pause(LOOK_MS, signal);
      await untilDone('log', problems, signal, errorLine, lookAll);
    }
  }

  const isLeader = (): boolean => {
    const { term } = partitions.span;
    return term === null || term.places.some(({ topic }) => topic === 'block');
  };

  async function deriveNow(): Promise<void> {
    const { fold, term } = partitions.span;
    if (!isLeader() || fold.unfolded !== 0 || term?.valid() === false) return;
    derivedRows += await fold.derived.flush();
  }

  async function publishNow(): Promise<void> {
    const { fold, term, stopping } = partitions.span;
    const mayGo = (): boolean => isLeader() && fold.unfolded === 0 && term?.valid() !== false;
    const until = term === null ? new AbortController().signal : stopping.signal;
    if (mayGo()) published += await fold.derivations.step(fold.derived.state, until, mayGo);
  }

  /** By itself: a ClickHouse that is away does not keep it from going on. */
  async function publish(): Promise<void> {
    while (!signal.aborted) {
      await untilDone('derivations', problems, signal, errorLine, publishNow);
      await pause(DERIVE_MS, signal);
    }
  }

  /** What luck is read from is kept, where shares are not behind: what comes for a minute later would undo it. */
  async function keep(): Promise<void> {
    while (!signal.aborted) {
      await pause(KEEP_MS, signal);
      if (!isLeader() || partitions.behind) continue;
      await untilDone('parts of minutes', problems, signal, lineOf, async () => {
        while (!signal.aborted && (await keepParts(client)).more);
      });
    }
  }

  async function derive(): Promise<void> {
    let checkedMs = performance.now();
    while (!signal.aborted) {
      await untilDone('derived tables', problems, signal, lineOf, async () => {
        await deriving(async () => {
          if (kafka !== null && isLeader() && performance.now() - checkedMs > CHECK_MS) {
            checkedMs = performance.now();
            for (const chain of await partitions.span.fold.derived.check()) {
              life.log(`group: another has written what is derived of ${chain}: it is compared again`);
            }
          }
          await deriveNow();
        });
      });
      await pause(DERIVE_MS, signal);
    }
  }

  const deriving = oneAtATime();
  const rolling = oneAtATime();
  /** Makes marked minutes anew, and commits what is dealt with by that. */
  const roll = (): Promise<number> =>
    rolling(async () => {
      const made = await rollups.step();
      for (const place of partitions.places()) await place.commit();
      return made;
    });

  async function rollUp(): Promise<void> {
    let lastMs = performance.now();
    while (!signal.aborted) {
      while (!signal.aborted && partitions.behind && performance.now() - lastMs < ROLLUP_BEHIND_MS)
        await pause(ROLLUP_MS, signal);
      const begun = performance.now();
      const made = await untilDone('roll-ups', problems, signal, lineOf, roll);
      // Making the present minute anew over and over must not take more than a part of the engine's time.
      const tookMs = performance.now() - begun;
      lastMs = performance.now();
      await pause(made === null || made === 0 ? ROLLUP_MS : Math.max(ROLLUP_MS, 4 * tookMs), signal);
    }
  }

  /** Before a rebalance: ends what is under way, so that who comes next has little to repeat. */
  async function settle(): Promise<void> {
    const places = [...partitions.places()];
    await partitions.stop(SETTLE_INSERTS_MS);
    const end = performance.now() + SETTLE_MINUTES_MS;
    try {
      await deriving(deriveNow);
      await rolling(async () => {
        while (state.marked() > 0 && performance.now() < end) await rollups.step();
        for (const place of places) await place.commit();
      });
    } catch (error) {
      // The next owner repeats it.
      life.log(`group: not all was ended before the partitions were divided anew: ${lineOf(error)}`);
    }
  }

  /** Becomes a member of the group of these tables. */
  function joinGroup(): void {
    const host = hostname();
    const about = (): About => ({
      ...{ host, pid: process.pid, aside: false, counts },
      has: partitions.span.term?.places ?? [],
    });
    const name = groupName(config, generation);
    // Whoever had this data directory before us is dead, as we have its lock.
    const [formerGroup, former] = (state.note('group_member') ?? '').split(' ');
    group = kafka!.joinGroup({
      name,
      ...(formerGroup === name && former !== undefined ? { former } : {}),
      protocol: groupProtocol(config),
      topics: FACTS,
      ...(parts.sessionMs === undefined ? {} : { sessionMs: parts.sessionMs }),
      about,
      divide: (members) => dividePlaces(log, members),
      assigned: (term) => {
        partitions.span.stopping.abort();
        told = term.told as Told | null;
        state.setNote('group_member', `${name} ${term.member}`);
        for (const name of [...held.keys()]) {
          if (!term.places.some(({ topic, partition }) => `${topic}/${partition}` === name)) held.delete(name);
        }
        const before = placesText(partitions.span.term?.places ?? []);
        partitions.begin(term);
        const now = placesText(term.places);
        if (now !== before) {
          const what = now === '' ? 'nothing: this one waits' : now;
          life.log(
            `group: ${told?.members ?? '?'} consumers share the log, this one has ${told?.aside === true ? 'nothing: a replay has the tables' : what}`,
          );
        }
        if (!signal.aborted) for (const place of term.places) partitions.start(place);
      },
      settle,
      lost: () => {
        life.log('group: this consumer was silent for too long and voted out; it joins again');
        held.clear();
        partitions.span.stopping.abort();
      },
      problem: (line) => (line === null ? problems.clear('group') : problems.set('group', line)),
    });
  }

  /** Other tables than the ones that we joined for: another member has found them lost. */
  async function watchFilling(): Promise<void> {
    while (!signal.aborted) {
      await pause(CHECK_MS, signal);
      await untilDone('group', problems, signal, lineOf, async () => {
        if (signal.aborted || (await currentFilling(client))?.generation === generation) return;
        life.log('group: the tables are filled anew: joining those who do');
        await group?.close();
        group = null;
        await partitions.stop(SETTLE_INSERTS_MS);
        ({ generation } = await recogniseFilling(client, state, paths.state));
        held.clear();
        if (!signal.aborted) joinGroup();
      });
    }
  }

  async function begin(): Promise<void> {
    const applied = await untilDone('schema', problems, signal, lineOf, async () => {
      try {
        const applied = await migrate(client, readMigrations(), async (lost) => {
          life.log(`schema: ${lost.join(', ')} of this ClickHouse are gone, and made again`);
          // Derived tables are compared with what they should hold in any case.
          if (!lost.some((name) => FILLED.has(name))) return;
          if (kafka !== null) await refill(client);
          state.forget();
          for (const each of readReplayed(paths.state)) dropReplayed(paths.state, each.generation);
          life.log('the log is read again from its beginning');
        });
        let found: Awaited<ReturnType<typeof recognise>>;
        if (kafka === null) found = await recognise(client, state, paths.state);
        else ({ generation, found } = await recogniseFilling(client, state, paths.state));
        if (found === 'replayed') life.log('a replay has filled this ClickHouse: reading goes on where it stopped');
        if (found === 'stranger') {
          const from =
            kafka === null ? 'the log is read again from its beginning' : 'reading goes on where its consumers are';
          life.log(`this ClickHouse is not the one that was filled: ${from}`);
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
    loops.push(lookout(), derive(), publish(), rollUp(), keep());
    if (kafka === null) return;
    joinGroup();
    loops.push(watchFilling());
  }

  const status = publishStatus(paths.status, 'consume', () => ({
    problems: problems.list(),
    values: {
      lag_records: partitions.lagRecords(),
      lag_s: Math.round(partitions.lagSeconds()),
      dead_letters_count: counters.deadLetters,
      records_count: counters.records,
      rows_count: counters.rows,
      derived_rows_count: derivedRows,
      derivations_count: published,
      derivations_differing_count: partitions.span.fold.derivations.differences,
      nbits_alarms_count: partitions.span.fold.derivations.nbitsAlarms,
      partitions: partitions.size,
      target: targetOf(config),
      minutes_marked: state.marked(),
      ...(group === null
        ? {}
        : {
            group: groupName(config, generation),
            group_members: told?.members ?? 0,
            group_leader: told?.leader ?? '',
            group_places: placesText(partitions.span.term?.places ?? []),
          }),
    },
  }));

  const ready = begin();
  ready.catch((error: unknown) => life.stop(error));
  life.onStop('consumers', async () => {
    stopping.abort();
    status.close();
    // An insert under way may finish; a ClickHouse that does not answer must not hold up the end. Its cut is repeated.
    const over = ready
      .catch(() => {})
      .then(() => group?.close())
      .then(() => partitions.stop(null))
      .then(() => Promise.all(loops))
      // What was taken in last; else it waits for the next start.
      .then(publishNow)
      .then(() => deriving(deriveNow))
      .catch(() => {});
    const patience = new AbortController();
    await Promise.race([over, pause(CLOSE_MS, patience.signal)]);
    patience.abort();
    await client.close();
    await over;
    await own.close();
    state.close();
    lock.release();
  });
  return {
    ...{ ready, counters },
    lagRecords: () => partitions.lagRecords(),
    lagSeconds: () => partitions.lagSeconds(),
    problems: () => problems.list(),
  };
}
