/** What the scenarios of replay have in common: events, a world for each test, all rows of a database, consumers that have taken in everything. */
import { join } from 'node:path';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { FACTS } from '../../pipelines/derivations/topics.ts';
import type { Inputs } from '../../schemas/events.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { finishWork } from '../../services/consumers/replay-build.ts';
import { REPLAYED_TABLES } from '../../services/consumers/replay-compare.ts';
import type { ReplayParts } from '../../services/consumers/replay-work.ts';
import { ConsumerState, storedPositions } from '../../services/consumers/state.ts';
import { chainsOf } from '../../services/core/chains/profile.ts';
import type { Config } from '../../services/core/config.ts';
import type { EventLog, JournalWriter, LogEntry } from '../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { openStore } from '../../services/core/store.ts';
import { startTestClickHouse, type TestClickHouse } from '../helpers/clickhouse.ts';
import { newSeed, randomFrom } from '../pipelines/blocks.ts';
import { configFor, START_US, type TestLife, tempDir, testLife, until } from '../services/consumers/world.ts';

export type Random = (below: number) => number;

export const contract: Inputs['contract'] = {
  kind: 'opened',
  contract_id: 'sample',
  contract_seq: 0,
  time_us: START_US,
  chain: 'playground',
  customer: 'a customer',
  payout_address: 'mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8',
  hashrate_hps: '1000000',
  from_height: 10,
  skip_payouts: 1,
};

export function jobOf(n: number): Inputs['job'] {
  return {
    origin: 'ckpool',
    instance: 'ckpool',
    time_us: START_US + n * 30e6,
    job_id: n.toString(16).padStart(16, '0'),
    job_key: `ckpool/${n}`,
    chain: 'playground',
    pow: 'sha256d',
    height: 100 + n,
    prev_hash: 'ab'.repeat(32),
    coinbase1: '01',
    coinbase2: '02',
    enonce1_bytes: 4,
    nonce2_bytes: 8,
    merkle_branch: [],
    version: '20000000',
    version_mask: '1fffe000',
    nbits: '1e1fffff',
    ntime: '68f0a1b2',
    clean: true,
    network_diff: 1,
  };
}

/** A back-filled copy: no version bits, another job, another minute at times. */
export function backfilled(random: Random, share: Inputs['share']): Inputs['share'] {
  return {
    ...share,
    source: 'backfill',
    instance: 'ingest',
    version_bits: '',
    job_key: '',
    time_us: share.time_us + 30e6,
    time_ns: random(1000),
  };
}

export function clientOf({ url, token }: TestClickHouse): ClickHouseClient {
  return createClient({
    url,
    username: 'writer',
    password: token,
    log: { level: ClickHouseLogLevel.OFF },
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1, output_format_json_quote_decimals: 1 },
  });
}

async function select<Row>(client: ClickHouseClient, query: string): Promise<Row[]> {
  const answer = await client.query({ query, format: 'JSONEachRow' });
  return answer.json<Row>();
}

/** Every row of every table in all columns but `ingest_*`, in one order. */
async function everythingIn(client: ClickHouseClient, database: string): Promise<Record<string, unknown[]>> {
  const out: Record<string, unknown[]> = {};
  for (const table of REPLAYED_TABLES) {
    const columns = await select<{ name: string }>(
      client,
      `SELECT name FROM system.columns WHERE database = '${database}' AND table = '${table}' ORDER BY position`,
    );
    const names = columns.map(({ name }) => name);
    const present = names.includes('ingest_deleted') ? 'WHERE ingest_deleted = 0' : '';
    const kept = names.filter((name) => !name.startsWith('ingest_')).join(', ');
    out[table] = await select(client, `SELECT ${kept} FROM ${database}.${table} FINAL ${present} ORDER BY ALL`);
  }
  return out;
}

/** Consumers that have taken in everything, and have ended. */
async function consumedBy(config: Config, admin: ClickHouseClient): Promise<void> {
  const own = testLife();
  const log = openJournalLog({ dir: join(config.dataDir, 'journal') });
  const statePath = join(config.dataDir, 'state', 'consumers.sqlite');
  try {
    const consumers = await startConsumers(config, own, { log });
    await consumers.ready;
    await until('everything', async () => {
      const places = storedPositions(statePath)?.places ?? [];
      const at = new Map(places.map((place) => [`${place.topic}/${place.partition}`, place.position]));
      let behind = 0;
      for (const topic of FACTS) {
        for (const partition of await log.partitions(topic)) {
          behind += (await log.lag(topic, partition, at.get(`${topic}/${partition}`) ?? null))!;
        }
      }
      return behind === 0 ? true : undefined;
    });
    await until('roll-ups and payouts', async () => {
      const [row] = await select<{ shares: string; counted: string; payouts: string }>(
        admin,
        `SELECT (SELECT count() FROM ${config.database}.shares) AS shares, (SELECT count() FROM ${config.database}.payouts) AS payouts,
          (SELECT sum(m.accepted + m.refused) FROM ${config.database}.shares_1m AS m) AS counted`,
      );
      return row!.shares === row!.counted && row!.payouts !== '0' ? true : undefined;
    });
    await own.end();
    // No minute waits: what a test changes by hand is not made right behind its back.
    const state = new ConsumerState(statePath);
    const client = openStore(config);
    try {
      await finishWork({ log, client, state, signal: new AbortController().signal }, chainsOf(config.chain));
    } finally {
      state.close();
      await client.close();
    }
  } finally {
    await own.end();
    await log.close();
  }
}

/** Shares as entries of a log. */
export function sharesIn(shares: readonly Inputs['share'][]): LogEntry[] {
  return shares.map((event) => ({ topic: 'share', event }));
}

/** What a test of replay has: a journal in a folder of its own, a database of its own in the file's ClickHouse. */
class ReplayWorld {
  ch!: TestClickHouse;
  admin!: ClickHouseClient;
  dir!: ReturnType<typeof tempDir>;
  life!: TestLife;
  config!: Config;
  random!: Random;
  /** Journal writers, in the order in which they were opened. */
  writers: JournalWriter[] = [];

  readonly openLog = (): EventLog => openJournalLog({ dir: join(this.dir.path, 'journal') });

  readonly writer = (instance: string): JournalWriter => {
    const opened = openJournalWriter({ dir: join(this.dir.path, 'journal'), instance });
    this.writers.push(opened);
    return opened;
  };

  readonly append = (to: JournalWriter, entries: readonly LogEntry[]): void => {
    for (let i = 0; i < entries.length; i += 100) to.append(entries.slice(i, i + 100));
  };

  readonly parts = (more: Partial<ReplayParts> = {}): ReplayParts => ({
    config: this.config,
    openLog: async () => this.openLog(),
    signal: new AbortController().signal,
    log: () => {},
    ...more,
  });

  readonly select = <Row>(query: string): Promise<Row[]> => select(this.admin, query);

  readonly mutate = (query: string): Promise<unknown> =>
    this.admin.command({ query: `${query} SETTINGS mutations_sync = 1` });

  readonly everything = (database: string = this.config.database): Promise<Record<string, unknown[]>> =>
    everythingIn(this.admin, database);

  readonly consumed = (): Promise<void> => consumedBy(this.config, this.admin);
}

/**
 * A world whose fields are made anew for each test. Its hooks are set here, so this is called within `describe`.
 *
 * @param name - of the databases, which are numbered
 */
export function replayWorlds(name: string): ReplayWorld {
  const w = new ReplayWorld();
  let databases = 0;

  beforeAll(async () => {
    w.ch = await startTestClickHouse();
    w.admin = clientOf(w.ch);
  });
  afterAll(async () => {
    await w.admin.close();
    await w.ch.stop();
  });
  beforeEach(async () => {
    w.dir = tempDir();
    w.life = testLife();
    w.random = randomFrom(newSeed());
    databases += 1;
    const database = `${name}${databases}`;
    await w.admin.command({ query: `CREATE DATABASE ${database}` });
    w.config = { ...configFor(w.dir.path, { url: w.ch.url, user: 'writer', password: w.ch.token }), database };
  });
  afterEach(async () => {
    await w.life.end();
    for (const writer of w.writers) writer.close();
    w.writers = [];
    w.dir.remove();
  });
  return w;
}
