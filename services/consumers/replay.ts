/**
 * Rebuilds what ClickHouse holds from the log of record.
 *
 *   replayTables  builds beside, in a database of its own; swaps table by table while the consumers step aside for a moment
 *   replayInto    builds into a database that is named, of the ClickHouse of the configuration
 *   verifyTables  builds beside up to where the consumers are, and compares; likewise the derivations that the log has
 *
 * A crash at any moment leaves each table whole: until its swap it is the old one, and from then on the new one holds everything that the
 * consumers had read. Their positions are not touched. What a crash left behind is removed at the next run.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { FACTS } from '../../pipelines/derivations/topics.ts';
import { chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import type { EventLog } from '../core/log/event-log.ts';
import type { KafkaLog } from '../core/log/kafka.ts';
import { readStatuses, STATUS_FRESH_US } from '../core/status.ts';
import { targetOf } from '../core/store.ts';
import { checkDerivations, type DerivationsCheck } from './derivations.ts';
import { enter } from './filled-from.ts';
import { groupOf } from './group.ts';
import { migrate, readMigrations } from './migrations.ts';
import { type Bounds, finishWork, patiently } from './replay-build.ts';
import { type Comparison, compareTables, REPLAYED_TABLES } from './replay-compare.ts';
import { borderOf, MONTHLY_TABLES, type Month, minutesBefore, partitionsFrom, replaceMonths } from './replay-months.ts';
import { keepReplayed, type Place } from './replay-positions.ts';
import { MOST_PASSES, type ReplayParts, type ReplaySummary, type Work, withWork } from './replay-work.ts';
import { Rollups } from './rollups.ts';
import { ConsumerState } from './state.ts';

export interface VerifySummary extends ReplaySummary {
  readonly same: boolean;
  readonly tables: readonly Comparison[];
  /** What the log says of epochs, hashrates and payouts against what its facts give. */
  readonly derivations: DerivationsCheck;
}

/** They lie in the log that the consumers read. */
const NOT_COMPARED: DerivationsCheck = { missing: 0, different: 0, words: '' };

/** The name of a database that we can write into a statement. @throws PoolError usage */
function checkDatabase(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name)) return name;
  throw new PoolError(
    'usage',
    `--into: expected the name of a database (letters, digits, _), got ${JSON.stringify(name)}`,
  );
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

/** The clock of versions goes on above all that was made beside: what replaces these rows later must be newer. Ticks too many do no harm. */
async function carryClock(work: Work): Promise<void> {
  const { database } = work.parts.config;
  if (!(await work.tablesIn(database)).has('version_ticks')) return;
  await work.live.command({
    query: `INSERT INTO ${database}.version_ticks (ingest_ticks) SETTINGS insert_deduplicate = 0
      SELECT sum(ingest_ticks) FROM ${work.scratch}.version_ticks`,
  });
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
    // Before: should we die amid the swap, and after: it may have been gone.
    await carryClock(work);
    // Made from the shares that go now; the consumers are aside, and make it again.
    await work.live.command({ query: `TRUNCATE TABLE IF EXISTS ${database}.instant_parts_raw` });
    if (work.from !== null) {
      minutes += await swapMonths(work, work.from);
      // Who went on from here alone would not know what the months before may lack.
      return work.summary(rebuild, minutes, release());
    }
    await swapTables(work);
    await migrate(work.live, readMigrations());
    await carryClock(work);
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
  for (const topic of FACTS) for (const partition of await log.partitions(topic)) names.add(`${topic}/${partition}`);
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
    // While nobody appends: who is ahead of these facts would seem to say too much.
    const derivations = other
      ? NOT_COMPARED
      : await checkDerivations(log, rebuild.folded, chainsOf(parts.config.chain), parts.signal);
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
    const agree = derivations.missing + derivations.different === 0;
    return {
      ...work.summary(rebuild, minutes, asideS),
      same: agree && tables.every(({ same }) => same),
      tables,
      derivations,
    };
  });
}
