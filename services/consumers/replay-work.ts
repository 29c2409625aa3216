/**
 * What every kind of replay has: its locks, its databases, its log and what it tells of itself. Whatever it holds is let go at its end, however that
 * comes; what a crash left behind is removed at the next run.
 */
import { hash } from 'node:crypto';
import { existsSync, realpathSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { acquireLock, type Lock } from '../core/lock.ts';
import type { EventLog } from '../core/log/event-log.ts';
import type { KafkaLog } from '../core/log/kafka.ts';
import { openStore, storeError, targetOf } from '../core/store.ts';
import { isListed } from './filled-from.ts';
import { groupOf, groupPlaces, type HeldGroup, holdGroup } from './group.ts';
import { literal } from './insert.ts';
import { migrate, readMigrations } from './migrations.ts';
import { takeTurn } from './replay-aside.ts';
import { type Bounds, Rebuild } from './replay-build.ts';
import { REPLAYED_TABLES } from './replay-compare.ts';
import type { Month } from './replay-months.ts';
import type { Place } from './replay-positions.ts';
import { ConsumerState, storedPositions } from './state.ts';

/** So few records behind that the rest is read while the consumers wait. */
const NEAR_RECORDS = 20_000;
export const MOST_PASSES = 20;

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

/** An error of the client as one of ours. */
function ours(error: unknown, config: Config): unknown {
  if (error instanceof PoolError || (error as Error)?.name === 'AbortError') return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code === undefined) return error;
  return storeError(config, error);
}

/** What a replay holds, and lets go at its end. */
export class Work {
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
export async function withWork<T>(parts: ReplayParts, scratch: boolean, work: (work: Work) => Promise<T>): Promise<T> {
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
