/**
 * Rebuilds what ClickHouse holds from the log of record.
 *
 *   replayTables  builds beside, in a database of its own; swaps table by table while the consumers step aside for a moment
 *   replayInto    builds into a database that is named, of the ClickHouse of the configuration
 *   verifyTables  builds beside up to where the consumers are, and compares
 *   replayLetters puts dead letters through again
 *
 * A crash at any moment leaves each table whole: until its swap it is the old one, and from then on the new one holds everything that the
 * consumers had read. Their positions are not touched. What a crash left behind is removed at the next run.
 */
import { hash } from 'node:crypto';
import { existsSync, realpathSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import type { RowPipeline } from '../../pipelines/row.ts';
import { TOPICS, type Topic } from '../../schemas/events.ts';
import { chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock, type Lock } from '../core/lock.ts';
import type { EventLog, Position, StoredRecord } from '../core/log/event-log.ts';
import type { KafkaLog } from '../core/log/kafka.ts';
import { readStatuses, STATUS_FRESH_US } from '../core/status.ts';
import { openStore, storeError, targetOf } from '../core/store.ts';
import { enter, isListed } from './filled-from.ts';
import { groupOf, groupPlaces, type HeldGroup, holdGroup } from './group.ts';
import { literal } from './insert.ts';
import { migrate, readMigrations } from './migrations.ts';
import { decodeRecord, PartitionConsumer } from './partition.ts';
import { takeTurn } from './replay-aside.ts';
import { type Bounds, finishWork, patiently, pipelinesOf, Rebuild } from './replay-build.ts';
import { type Comparison, compareTables, REPLAYED_TABLES } from './replay-compare.ts';
import { borderOf, MONTHLY_TABLES, type Month, minutesBefore, partitionsFrom, replaceMonths } from './replay-months.ts';
import { keepReplayed, type Place } from './replay-positions.ts';
import { Rollups } from './rollups.ts';
import { ConsumerState, type Cut, storedPositions } from './state.ts';

/** So few records behind that the rest is read while the consumers wait. */
const NEAR_RECORDS = 20_000;
const MOST_PASSES = 20;

export type Phase = 'reading' | 'rolling up' | 'waiting for the consumers' | 'swapping' | 'comparing' | 'removing';

export interface Progress {
  readonly phase: Phase;
  readonly records: number;
  readonly rows: number;
  /** Records of the log that are not read yet, as last counted. */
  readonly behind: number;
  /** rolling up: minutes left; comparing: the table. */
  readonly what: string;
}

export interface ReplayParts {
  readonly config: Config;
  /** Opens the log of record; called twice, closed by the replay. */
  readonly openLog: () => Promise<EventLog>;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  readonly onProgress?: (progress: Progress) => void;
  /** Shares and their minutes from this month on alone (replay-months.ts), all other tables whole; absent: everything. */
  readonly from?: Month;
}

export interface ReplaySummary {
  readonly records: number;
  readonly rows: number;
  readonly dead_letters: number;
  readonly minutes: number;
  /** First month of what was rebuilt or compared, `2026-10`; null: all. */
  readonly from: string | null;
  readonly seconds: number;
  /** For how long the consumers stood aside, seconds; 0 where that was not needed. */
  readonly aside_s: number;
}

export interface VerifySummary extends ReplaySummary {
  readonly same: boolean;
  readonly tables: readonly Comparison[];
}

export interface LettersSummary {
  /** Letters looked at, of those that pass now and left the table. */
  readonly letters: number;
  readonly passed: number;
  /** Whose place the log does not have any more, or that were bytes nobody could read. */
  readonly gone: number;
}

/** The name of a database that we can write into a statement. @throws PoolError usage */
function checkDatabase(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name)) return name;
  throw new PoolError(
    'usage',
    `--into: expected the name of a database (letters, digits, _), got ${JSON.stringify(name)}`,
  );
}

/** An error of the client as one of ours. */
function ours(error: unknown, config: Config): unknown {
  if (error instanceof PoolError || (error as Error)?.name === 'AbortError') return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code === undefined) return error;
  return storeError(config, error);
}

/** What every kind of replay holds, and lets go at its end. */
class Work {
  readonly parts: ReplayParts;
  readonly paths: DataPaths;
  readonly live: ClickHouseClient;
  readonly begun = performance.now();
  readonly scratch: string;
  readonly copy: string;
  readonly #lock: Lock;
  readonly #closers: (() => unknown)[] = [];
  #held: HeldGroup | null = null;
  #phase: Phase = 'reading';
  #behind = 0;

  constructor(parts: ReplayParts) {
    this.parts = parts;
    const { config } = parts;
    // Nothing is made where nothing has run.
    if (config.kafka === null && !existsSync(join(config.dataDir, 'journal'))) {
      throw new PoolError(
        'usage',
        `no pool has run in ${config.dataDir}: it has no journal; give the pool's --data-dir`,
      );
    }
    this.paths = openDataDir(config.dataDir);
    this.#lock = acquireLock(join(this.paths.state, 'replay.lock'), {
      waitMs: 0,
      what: 'the replay of this data directory',
    });
    this.live = openStore(config);
    this.#closers.push(() => this.live.close());
    // Two data directories may share a ClickHouse; each removes only what it left itself.
    const tag = hash('sha256', `${hostname()}:${realpathSync(this.paths.root)}`, 'hex').slice(0, 8);
    this.scratch = `${config.database}_replay_${tag}`;
    this.copy = `${this.scratch}_live`;
  }

  get from(): Month | null {
    return this.parts.from ?? null;
  }

  get statePath(): string {
    return join(this.paths.state, 'consumers.sqlite');
  }

  clientOf(database: string): ClickHouseClient {
    const client = openStore({ ...this.parts.config, database });
    this.#closers.push(() => client.close());
    return client;
  }

  async openLog(): Promise<EventLog> {
    const log = await this.parts.openLog();
    this.#closers.push(() => log.close());
    return log;
  }

  /** A state of the replay's own; what it knows is worth nothing after it. */
  freshState(): ConsumerState {
    const path = join(this.paths.state, 'replay.sqlite');
    const remove = (): void => {
      for (const end of ['', '-wal', '-shm']) rmSync(`${path}${end}`, { force: true });
    };
    remove();
    const state = new ConsumerState(path);
    this.#closers.push(() => {
      state.close();
      remove();
    });
    return state;
  }

  phase(phase: Phase, rebuild: Rebuild | null, what = ''): void {
    this.#phase = phase;
    this.progress(rebuild, what);
  }

  progress(rebuild: Rebuild | null, what = ''): void {
    const { records, rows } = rebuild?.counters ?? { records: 0, rows: 0 };
    this.parts.onProgress?.({ phase: this.#phase, records, rows, behind: Math.max(0, this.#behind - records), what });
  }

  async tablesIn(database: string): Promise<Set<string>> {
    const answer = await this.live.query({
      query: `SELECT name FROM system.tables WHERE database = ${literal(database)}`,
      format: 'JSONEachRow',
    });
    return new Set((await answer.json<{ name: string }>()).map(({ name }) => name));
  }

  async dropDatabase(database: string): Promise<void> {
    for (const table of await this.tablesIn(database)) {
      if (!(REPLAYED_TABLES as readonly string[]).includes(table)) continue;
      // A server refuses to drop what is larger than 50 GB without this.
      await this.live.command({
        query: `DROP TABLE IF EXISTS ${database}.${table} SYNC SETTINGS max_table_size_to_drop = 0`,
      });
    }
    await this.live.command({ query: `DROP DATABASE IF EXISTS ${database} SYNC` });
  }

  async dropScratch(): Promise<void> {
    await this.dropDatabase(this.copy);
    await this.dropDatabase(this.scratch);
  }

  /** A rebuild into a database that has its tables. */
  async rebuild(database: string, fresh: boolean): Promise<{ rebuild: Rebuild; state: ConsumerState; log: EventLog }> {
    const log = await this.openLog();
    const looking = await this.openLog();
    const state = this.freshState();
    const rebuild: Rebuild = new Rebuild({
      log,
      looking,
      client: this.clientOf(database),
      state,
      profileOf: chainsOf(this.parts.config.chain),
      fresh,
      from: this.from,
      signal: this.parts.signal,
      onProgress: () => this.progress(rebuild),
    });
    return { rebuild, state, log };
  }

  /** Reads until the end is near. @param boundsNow - where to end, asked before each pass; absent: at the end of the log */
  async approach(rebuild: Rebuild, boundsNow: () => Promise<Bounds | null> = async () => null): Promise<void> {
    this.phase('reading', rebuild);
    for (let pass = 0; pass < MOST_PASSES; pass++) {
      this.#behind = rebuild.counters.records + (await rebuild.behind());
      if ((await rebuild.pass(await boundsNow())) < NEAR_RECORDS) return;
    }
  }

  async derive(rebuild: Rebuild): Promise<number> {
    this.phase('rolling up', rebuild);
    return rebuild.derive((left) => this.progress(rebuild, `${left} minutes left`));
  }

  async turn(rebuild: Rebuild | null): Promise<() => number> {
    this.phase('waiting for the consumers', rebuild);
    const release = await takeTurn(this.paths, this.parts.signal);
    const begun = performance.now();
    let asideS: number | null = null;
    const once = (): number => {
      if (asideS === null) {
        release();
        void this.#held?.release();
        asideS = (performance.now() - begun) / 1000;
      }
      return asideS;
    };
    this.#closers.push(async () => {
      once();
      await this.#held?.release();
    });
    // Those of other hosts too.
    const group = await this.#group();
    if (group !== null) this.#held = await holdGroup(this.parts.config, group.log, group.name, this.parts.signal);
    return once;
  }

  #kafka: Promise<KafkaLog> | null = null;
  /** The group that fills the live tables; null: none, or this reads another log than Kafka. */
  async #group(): Promise<{ log: KafkaLog; name: string } | null> {
    if (this.parts.config.kafka === null) return null;
    const name = await groupOf(this.parts.config, this.live);
    if (name === null) return null;
    this.#kafka ??= this.openLog() as Promise<EventLog> as Promise<KafkaLog>;
    return { log: await this.#kafka, name };
  }

  /** Where the consumers stand: all of the group, or those of this data directory. */
  async theirs(): Promise<readonly Place[]> {
    if (this.#held !== null) return this.#held.places;
    const group = await this.#group();
    const places = group === null ? [] : await groupPlaces(group.log, group.name);
    return places.some(({ position }) => position !== null) ? places : (storedPositions(this.statePath)?.places ?? []);
  }

  /** @throws PoolError held where the consumers were told to go on, as we were silent for too long */
  checkHeld(): void {
    if (this.#held?.signal.aborted === true) {
      throw new PoolError('held', 'the consumers have gone on: this replay was silent for too long');
    }
  }

  summary(rebuild: Rebuild, minutes: number, asideS: number): ReplaySummary {
    const { records, rows, deadLetters } = rebuild.counters;
    const seconds = (performance.now() - this.begun) / 1000;
    const from = this.from?.name ?? null;
    return { records, rows, dead_letters: deadLetters, minutes, from, seconds, aside_s: asideS };
  }

  /** The consumers' places. @throws PoolError replay where the tables were not filled by them */
  async consumersOf(standing: ReadonlySet<string>): Promise<NonNullable<ReturnType<typeof storedPositions>>> {
    const known = storedPositions(this.statePath);
    if (known === null || !standing.has('filled_from') || !(await isListed(this.live, known.generation))) {
      const { config } = this.parts;
      throw new PoolError(
        'replay',
        `${targetOf(config)} was not filled by the consumers of ${config.dataDir}: start them first`,
      );
    }
    return known;
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
    this.#lock.release();
  }
}

/** Runs with what a replay holds. @param scratch - true: the databases beside are made anew, and removed at the end however it comes */
async function withWork<T>(parts: ReplayParts, scratch: boolean, work: (work: Work) => Promise<T>): Promise<T> {
  const held = new Work(parts);
  try {
    if (!scratch) return await work(held);
    await held.dropScratch();
    try {
      await held.live.command({ query: `CREATE DATABASE ${held.scratch}` });
      await migrate(held.clientOf(held.scratch), readMigrations());
      return await work(held);
    } finally {
      held.phase('removing', null);
      // A ClickHouse that is gone keeps it until the next run.
      await held.dropScratch().catch(() => parts.log(`${held.scratch} could not be removed; the next replay does it`));
    }
  } catch (error) {
    throw ours(error, parts.config);
  } finally {
    await held.close();
  }
}

/** What must not be in the tables and absent from the log, as queries for what is. */
const LOSSES: readonly { readonly table: string; readonly key: string; readonly said: string }[] = [
  { table: 'shares_raw', key: 'origin, bucket', said: 'shares of origin and hour' },
  { table: 'jobs_raw', key: 'origin, toStartOfHour(time)', said: 'jobs of origin and hour' },
  { table: 'sessions_raw', key: 'origin, toStartOfHour(time)', said: 'sessions of origin and hour' },
  { table: 'pool_status_raw', key: 'origin, toStartOfHour(time)', said: 'statistics of origin and hour' },
  { table: 'block_events_raw', key: 'chain, identity', said: 'block events' },
  { table: 'contract_events_raw', key: 'contract_id, contract_seq', said: 'contract events' },
];

/** @throws PoolError replay_loss where the tables hold what the log does not */
async function checkLoss(work: Work, standing: ReadonlySet<string>): Promise<void> {
  const { database } = work.parts.config;
  for (const { table, key, said } of LOSSES) {
    if (!standing.has(table)) continue;
    const months = work.from !== null && MONTHLY_TABLES.has(table) ? `WHERE bucket >= ${borderOf(work.from)}` : '';
    const answer = await work.live.query({
      query: `SELECT toString(what) AS what, toString(count() OVER ()) AS times
        FROM (SELECT DISTINCT (${key}) AS what FROM ${database}.${table} ${months})
        WHERE what NOT IN (SELECT DISTINCT (${key}) FROM ${work.scratch}.${table}) ORDER BY what LIMIT 1`,
      format: 'JSONEachRow',
    });
    const [lost] = await answer.json<{ what: string; times: string }>();
    if (lost === undefined) continue;
    throw new PoolError(
      'replay_loss',
      `${database}.${table} has ${said} that this log does not have (${lost.times}, such as ${lost.what}): another installation writes there, or the log was cut`,
    );
  }
  // What has become unreadable since: its rows stand in the tables and could not be made again. What was kept apart at a back-fill is no such record.
  if (!standing.has('dead_letters')) return;
  const place = '(topic, partition, position)';
  const damaged = await work.live.query({
    query: `SELECT toString(${place}) AS what, toString(count() OVER ()) AS times FROM ${work.scratch}.dead_letters
      WHERE topic != 'quarantine' AND ${place} NOT IN (SELECT ${place} FROM ${database}.dead_letters) ORDER BY what LIMIT 1`,
    format: 'JSONEachRow',
  });
  const [unread] = await damaged.json<{ what: string; times: string }>();
  if (unread === undefined) return;
  throw new PoolError(
    'replay_loss',
    `this log has records that cannot be read and were no dead letters before (${unread.times}, such as ${unread.what})`,
  );
}

/** Puts all tables in place of those that stand. */
async function swapTables(work: Work): Promise<void> {
  const { database } = work.parts.config;
  const present = await work.tablesIn(database);
  for (const table of REPLAYED_TABLES) {
    await work.live.command({
      query: present.has(table)
        ? `EXCHANGE TABLES ${database}.${table} AND ${work.scratch}.${table}`
        : `RENAME TABLE ${work.scratch}.${table} TO ${database}.${table}`,
    });
  }
}

/** Puts the months in place of those that stand, and the tables that have none. @returns minutes before the months that were made anew */
async function swapMonths(work: Work, month: Month): Promise<number> {
  const { database } = work.parts.config;
  const { live, scratch } = work;
  // Of hours before, the list is what it was.
  await live.command({
    query: `INSERT INTO ${scratch}.share_minutes (origin, minute, bucket)
      SELECT origin, minute, bucket FROM ${database}.share_minutes WHERE bucket < ${borderOf(month)}`,
  });
  const state = new ConsumerState(work.statePath);
  try {
    // Known to the consumers first: should we die here, they make these minutes.
    state.mark(await minutesBefore(live, database, scratch, month));
    for (const table of REPLAYED_TABLES) {
      if (MONTHLY_TABLES.has(table)) await replaceMonths(live, database, scratch, table, month);
      else await live.command({ query: `EXCHANGE TABLES ${database}.${table} AND ${scratch}.${table}` });
    }
    const rollups = new Rollups(live, state);
    let minutes = 0;
    for (;;) {
      work.parts.signal.throwIfAborted();
      const made = await patiently(work.parts.signal, () => rollups.step());
      if (made === 0) return minutes;
      minutes += made;
    }
  } finally {
    state.close();
  }
}

/**
 * Rebuilds all tables of the configuration's database, or what there is from a month on, and swaps them in.
 *
 * @param allowLoss - swap also where the tables hold what the log does not
 * @throws PoolError replay_loss, held, schema_unknown, clickhouse; the signal's reason
 */
export async function replayTables(parts: ReplayParts, { allowLoss = false } = {}): Promise<ReplaySummary> {
  const { database } = parts.config;
  return withWork(parts, true, async (work) => {
    const standing = await work.tablesIn(database);
    // Where data tables are lost, making them anew before the swap would hide the loss from consumers, should we die here.
    const lost = REPLAYED_TABLES.find((table) => !standing.has(table));
    if (work.from !== null) {
      // What is before the months stays, and nobody but the consumers knows that it is all there.
      await work.consumersOf(standing);
      if (lost !== undefined) {
        throw new PoolError('replay', `${database}.${lost} is gone: only a replay of all months makes it again`);
      }
    }
    if (lost === undefined) await migrate(work.live, readMigrations());
    const { rebuild, state } = await work.rebuild(work.scratch, true);
    await work.approach(rebuild);
    let minutes = await work.derive(rebuild);
    let suspect = false;
    if (!allowLoss) {
      await checkLoss(work, standing).catch((error: unknown) => {
        if (!(error instanceof PoolError) || error.code !== 'replay_loss') throw error;
        suspect = true;
      });
    }

    const release = await work.turn(rebuild);
    const theirs = await work.theirs();
    for (let pass = 0; pass === 0 || !(await rebuild.covers(theirs)); pass++) {
      if (pass === MOST_PASSES)
        throw new PoolError('replay', 'the consumers have read records that are not in the log now');
      await rebuild.pass(null);
    }
    // What the consumers wrote while the roll-ups were made has been read by now.
    if (suspect) await checkLoss(work, standing);
    minutes += await work.derive(rebuild);
    work.phase('swapping', rebuild);
    work.checkHeld();
    if (work.from !== null) {
      minutes += await swapMonths(work, work.from);
      // Who went on from here alone would not know what the months before may lack.
      return work.summary(rebuild, minutes, release());
    }
    await swapTables(work);
    await migrate(work.live, readMigrations());
    await enter(work.live, state.generation);
    keepReplayed(work.paths.state, {
      generation: state.generation,
      target: targetOf(parts.config),
      places: rebuild.places(),
    });
    return work.summary(rebuild, minutes, release());
  });
}

/**
 * Builds everything into a database of the configuration's ClickHouse, which is made where absent. What is there already stays; rows are
 * replaced by identity. Consumers that are started on it later go on where this stopped; after some months alone they read the log from its beginning.
 *
 * @throws PoolError held where running consumers fill it; usage for a name; schema_unknown, clickhouse; the signal's reason
 */
export async function replayInto(parts: ReplayParts, name: string): Promise<ReplaySummary> {
  const database = checkDatabase(name);
  const target = targetOf({ ...parts.config, database });
  return withWork(parts, false, async (work) => {
    const nowUs = Date.now() * 1000;
    for (const { program, pid, time_us, values } of readStatuses(work.paths.status)) {
      if (program !== 'consume' || values.target !== target || nowUs - time_us > STATUS_FRESH_US) continue;
      throw new PoolError('held', `${target} is being filled by the consumers, process ${pid}`);
    }
    const system = work.clientOf('system');
    await system.command({ query: `CREATE DATABASE IF NOT EXISTS ${database}` });
    const client = work.clientOf(database);
    await migrate(client, readMigrations());
    const answer = await client.query({ query: 'SELECT 1 FROM shares_raw LIMIT 1', format: 'JSONEachRow' });
    const { rebuild, state, log } = await work.rebuild(database, (await answer.json()).length === 0);
    const members = await membersOf(parts.config, database, client, log);
    if (members > 0) throw new PoolError('held', `${target} is being filled by ${members} consumers of a group`);
    await work.approach(rebuild);
    const minutes = await work.derive(rebuild);
    // Of some months it is not all that consumers need to go on.
    if (work.from === null) {
      await enter(client, state.generation);
      keepReplayed(work.paths.state, { generation: state.generation, target, places: rebuild.places() });
    }
    return work.summary(rebuild, minutes, 0);
  });
}

/** Consumers that fill a database from Kafka at the moment, wherever they run. */
async function membersOf(config: Config, database: string, client: ClickHouseClient, log: EventLog): Promise<number> {
  if (config.kafka === null || log.kind !== 'kafka') return 0;
  const { group } = config.kafka;
  const theirs = group === `lodestream-${config.database}` ? `lodestream-${database}` : group;
  const name = await groupOf({ ...config, database, kafka: { ...config.kafka, group: theirs } }, client);
  return name === null ? 0 : (log as KafkaLog).groupSize(name);
}

/** Where the consumers stand, as the end of a reading. */
function boundsOf(places: readonly Place[]): Bounds {
  return new Map(places.map(({ topic, partition, position }) => [`${topic}/${partition}`, position]));
}

/**
 * True where the consumers read another log than this one, such as Kafka where this is the journal that was shipped to it: their positions end
 * nothing here, and the whole log is compared with what they have.
 */
async function isOtherLog(log: EventLog, places: readonly Place[]): Promise<boolean> {
  const names = new Set<string>();
  for (const topic of TOPICS) for (const partition of await log.partitions(topic)) names.add(`${topic}/${partition}`);
  return (
    places.length > 0 && names.size > 0 && !places.some(({ topic, partition }) => names.has(`${topic}/${partition}`))
  );
}

/** Copies of the tables as they stand, which share their files. */
async function copyTables(work: Work): Promise<void> {
  const { database } = work.parts.config;
  const standing = await work.tablesIn(database);
  await work.live.command({ query: `CREATE DATABASE ${work.copy}` });
  for (const table of REPLAYED_TABLES) {
    // One that is lost is compared as an empty one.
    const source = standing.has(table) ? database : work.scratch;
    await work.live.command({ query: `CREATE TABLE ${work.copy}.${table} AS ${source}.${table}` });
    if (source !== database) continue;
    const months = work.from !== null && MONTHLY_TABLES.has(table) ? work.from : null;
    const wanted =
      months === null
        ? ['ALL']
        : (await partitionsFrom(work.live, [database], table, months)).map((id) => `ID '${id}'`);
    for (const partition of wanted) {
      await work.live.command({
        query: `ALTER TABLE ${work.copy}.${table} ATTACH PARTITION ${partition} FROM ${database}.${table}`,
      });
    }
  }
}

/**
 * Builds everything beside, up to where the consumers are, and compares. Consumers that run stand aside while the last records are read and
 * the tables are copied (their files are shared, which takes no time); comparing is done on the copies.
 *
 * @throws PoolError replay where the tables were not filled from this data directory; held, schema_unknown, clickhouse; the signal's reason
 */
export async function verifyTables(parts: ReplayParts): Promise<VerifySummary> {
  return withWork(parts, true, async (work) => {
    const known = await work.consumersOf(await work.tablesIn(parts.config.database));
    const { rebuild, log } = await work.rebuild(work.scratch, true);
    const other = await isOtherLog(log, known.places);
    const boundsNow = async (): Promise<Bounds | null> => (other ? null : boundsOf(await work.theirs()));
    await work.approach(rebuild, boundsNow);

    const release = await work.turn(rebuild);
    const state = new ConsumerState(work.statePath);
    try {
      const profileOf = chainsOf(parts.config.chain);
      if (other && state.outstanding().length > 0) {
        throw new PoolError(
          'replay',
          'the consumers have an insert to repeat, from another log than this: start them once',
        );
      }
      await finishWork({ log, client: work.live, state, signal: parts.signal }, profileOf);
    } finally {
      state.close();
    }
    await rebuild.pass(await boundsNow());
    await copyTables(work);
    const asideS = release();

    const minutes = await work.derive(rebuild);
    work.phase('comparing', rebuild);
    // A dead letter is named by its place, which is another in another log.
    const compared = REPLAYED_TABLES.filter((table) => !other || table !== 'dead_letters');
    const onTable = (table: string): void => {
      parts.signal.throwIfAborted();
      work.progress(rebuild, table);
    };
    const tables = await compareTables(work.live, work.copy, work.scratch, compared, onTable, work.from);
    return { ...work.summary(rebuild, minutes, asideS), same: tables.every(({ same }) => same), tables };
  });
}

interface Letter {
  readonly topic: Topic;
  readonly partition: string;
  readonly position: Position;
}

/** A log of these records alone, in one partition. */
function logOf(log: EventLog, records: readonly StoredRecord[]): EventLog {
  return {
    kind: log.kind,
    append: (entries) => log.append(entries),
    partitions: (topic) => log.partitions(topic),
    decoder: (topic, fingerprint) => log.decoder(topic, fingerprint),
    schemaText: (topic, fingerprint) => log.schemaText(topic, fingerprint),
    lag: async () => null,
    close: async () => {},
    read: async (_topic, _partition, from) => ({ records: from === null ? records : [], damage: [], next: 'end' }),
  };
}

/**
 * The state of letters that are put through: nothing of it stays but the minutes, and these are the consumers' before anything is inserted. The
 * minute of a copy that loses to a letter can be asked for only as long as no merge has removed that copy; after a crash in between nobody else
 * would know it. Put through a second time, a letter changes nothing.
 */
class LettersState extends ConsumerState {
  readonly #theirs: ConsumerState;

  constructor(theirs: ConsumerState) {
    super(':memory:');
    this.#theirs = theirs;
  }

  override storeCut(cut: Cut): void {
    this.#theirs.mark(cut.minutes);
    super.storeCut(cut);
  }
}

/** Letters of one partition at a time, so many. */
const LETTERS_AT_ONCE = 1_000;

/**
 * Reads each dead letter's record from the log again. Those that pass now become rows, and leave the table; the others stay. Consumers that
 * run stand aside meanwhile, and take blocks and contracts into what is derived when they go on.
 *
 * @throws PoolError held, schema_unknown, clickhouse; the signal's reason
 */
export async function replayLetters(parts: ReplayParts): Promise<LettersSummary> {
  return withWork(parts, false, async (work) => {
    const release = await work.turn(null);
    const log = await work.openLog();
    const answer = await work.live.query({
      // What was kept apart at a back-fill stands in a file, not in the log: `ingest` reads that again when it has changed.
      query: `SELECT DISTINCT topic, partition, position FROM dead_letters FINAL WHERE topic != 'quarantine'
        ORDER BY topic, partition, position`,
      format: 'JSONEachRow',
    });
    const letters = (await answer.json<Letter>()).filter(({ topic }) => (TOPICS as readonly string[]).includes(topic));
    const pipelines = pipelinesOf(chainsOf(parts.config.chain));
    const state = new ConsumerState(work.statePath);
    let passed = 0;
    let gone = 0;
    try {
      const byPartition = Map.groupBy(letters, ({ topic, partition }) => `${topic}/${partition}`);
      for (const group of byPartition.values()) {
        for (let i = 0; i < group.length; i += LETTERS_AT_ONCE) {
          parts.signal.throwIfAborted();
          const done = await putThrough(work, log, pipelines, state, group.slice(i, i + LETTERS_AT_ONCE));
          passed += done.passed;
          gone += done.gone;
        }
      }
    } finally {
      state.close();
    }
    release();
    return { letters: letters.length, passed, gone };
  });
}

/** Letters of one partition. */
async function putThrough(
  work: Work,
  log: EventLog,
  pipelines: ReturnType<typeof pipelinesOf>,
  state: ConsumerState,
  letters: readonly Letter[],
): Promise<{ passed: number; gone: number }> {
  const { topic, partition } = letters[0]!;
  const pipeline = pipelines[topic] as RowPipeline<Topic>;
  const passing: StoredRecord[] = [];
  let gone = 0;
  for (const { position } of letters) {
    const { records } = await log.read(topic, partition, position, {
      maxRecords: 1,
      waitMs: log.kind === 'kafka' ? 1_000 : 0,
    });
    const record = records.find((each) => each.position === position);
    if (record === undefined) {
      gone += 1;
      continue;
    }
    const decoded = await decodeRecord(log, topic, record);
    if ('event' in decoded && pipeline.wrong(decoded.event) === null) passing.push(record);
  }
  if (passing.length === 0) return { passed: 0, gone };
  const own = new LettersState(state);
  try {
    const consumer = new PartitionConsumer(
      {
        log: logOf(log, passing),
        client: work.live,
        state: own,
        counters: { records: 0, rows: 0, deadLetters: 0 },
        overlaps: new Set(),
        signal: work.parts.signal,
      },
      pipeline,
      partition,
    );
    await consumer.step();
  } finally {
    own.close();
  }
  await work.live.command({
    query: `DELETE FROM dead_letters WHERE topic = ${literal(topic)} AND partition = ${literal(partition)}
      AND position IN (${passing.map(({ position }) => literal(position)).join(', ')})`,
  });
  return { passed: passing.length, gone };
}
