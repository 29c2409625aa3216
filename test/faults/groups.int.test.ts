/**
 * Several consumers that share one Kafka log and fill one database, each with a data directory of its own, as on hosts of their own: they die,
 * are stopped and go on when others have taken over, come and go, with the broker restarted and partitions added, while shares flow and copies of
 * them come that win over what stands there. In the end every share is there once, every roll-up is that of the client's own record, and what is
 * derived is what a fold from scratch derives.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decimal18Text, unitsFromDouble } from '../../pipelines/shares/decimal.ts';
import type { Inputs } from '../../schemas/events.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { replayTables, verifyTables } from '../../services/consumers/replay.ts';
import type { LogEntry } from '../../services/core/log/event-log.ts';
import { type KafkaLog, openKafkaLog } from '../../services/core/log/kafka.ts';
import { readStatuses, STATUS_FRESH_US } from '../../services/core/status.ts';
import { sampleContract, sampleJob, sampleSession } from '../contracts/samples.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../helpers/clickhouse.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { type Leashed, startLeashed, tempDir, until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { chainOf, newSeed, numbered, randomFrom } from '../pipelines/blocks.ts';
import { shareOf, testLife } from '../services/consumers/world.ts';
import { type ChildOptions, configOf } from './group-child.ts';

const PARTITIONS = 4;
/** The least that a broker takes by default. */
const SESSION_MS = 6_000;
const NODE = join(import.meta.dirname, '../../node_modules/.bin/node');
const CHILD = join(import.meta.dirname, 'group-child.ts');
const BURST = 250;
const BURST_MS = 100;

const kafka = await havePart('kafka', () => kafkaForTests({ own: true }));
afterAll(() => kafka?.stop());

/** Which of two copies stays: as DESIGN 4 orders them. */
function winner(a: Inputs['share'], b: Inputs['share']): Inputs['share'] {
  if (a.source !== b.source) return a.source === 'live' ? a : b;
  return a.time_us <= b.time_us ? a : b;
}

interface Minute {
  accepted: number;
  refused: number;
  units: bigint;
}

/** Shares into Kafka, and the client's own record of them. */
class Miner {
  readonly #log: KafkaLog;
  readonly #random: (below: number) => number;
  readonly #burst: number;
  readonly #won = new Map<string, Inputs['share']>();
  /** Copies of another receipt, to be sent when so many shares were made. */
  readonly #later: { readonly at: number; readonly share: Inputs['share'] }[] = [];
  #blocks = numbered(chainOf(0, 400));
  #n = 0;
  sent = 0;
  #mining = true;
  #run: Promise<void> | null = null;

  constructor(log: KafkaLog, random: (below: number) => number, burst = BURST) {
    this.#log = log;
    this.#random = random;
    this.#burst = burst;
  }

  start(): void {
    this.#run = (async () => {
      while (this.#mining) {
        const begun = performance.now();
        await this.burst();
        await sleep(Math.max(0, BURST_MS - (performance.now() - begun)));
      }
    })();
  }

  async burst(): Promise<void> {
    const entries: LogEntry[] = [];
    const add = (share: Inputs['share']): void => {
      entries.push({ topic: 'share', event: share });
      const key = shareIdentity(share);
      const other = this.#won.get(key);
      this.#won.set(key, other === undefined ? share : winner(other, share));
    };
    for (let i = 0; i < this.#burst; i++) {
      const share = shareOf(this.#random, this.#n++);
      add(share);
      if (share.accepted && this.#random(20) === 0) {
        // Accepted twice, or back-filled: minutes away, earlier or later, live or not, soon or after a while.
        const time_us = share.time_us + (this.#random(600) - 300) * 1_000_000;
        const source = this.#random(3) === 0 ? 'backfill' : 'live';
        this.#later.push({ at: this.#n + this.#random(20_000), share: { ...share, time_us, source } });
      }
      if (this.#random(50) === 0) add(share);
    }
    const due = this.#later.filter(({ at }) => at <= this.#n);
    for (const each of due) {
      this.#later.splice(this.#later.indexOf(each), 1);
      add(each.share);
    }
    entries.push({ topic: 'job', event: sampleJob(this.#n) }, { topic: 'session', event: sampleSession(this.#n) });
    const [block] = this.#blocks.splice(0, 1);
    if (block !== undefined) entries.push({ topic: 'block', event: block });
    if (this.#n % 5_000 === 0) entries.push({ topic: 'contract', event: sampleContract(this.#n) });
    // A broker that restarts is away for a while: sending all again is right.
    for (;;) {
      try {
        await this.#log.append(entries);
        break;
      } catch {
        await sleep(200);
      }
    }
    this.sent += entries.length;
  }

  async stop(): Promise<void> {
    this.#mining = false;
    await this.#run;
  }

  minutes(): Map<string, Minute> {
    const minutes = new Map<string, Minute>();
    for (const share of this.#won.values()) {
      const key = `${Math.floor(share.time_us / 60e6) * 60}/${share.worker}`;
      const minute = minutes.get(key) ?? { accepted: 0, refused: 0, units: 0n };
      if (share.accepted) {
        minute.accepted += 1;
        minute.units += unitsFromDouble(share.diff);
      } else minute.refused += 1;
      minutes.set(key, minute);
    }
    return minutes;
  }

  get unique(): number {
    return this.#won.size;
  }
}

describe.skipIf(!kafka || noClickHouse !== undefined)('consumers that share a log', { timeout: 720_000 }, () => {
  let ch: TestClickHouse;
  let dir: ReturnType<typeof tempDir>;
  let members: Map<string, Leashed>;
  let log: KafkaLog;
  let count = 0;
  let base: Omit<ChildOptions, 'dataDir'>;
  let said: string[];

  beforeAll(async () => {
    ch = await startTestClickHouse();
  });
  afterAll(() => ch?.stop());
  beforeEach(async () => {
    dir = tempDir('groups');
    members = new Map();
    said = [];
    count += 1;
    const database = `shared${count}`;
    await ch.writer.command({ query: `CREATE DATABASE ${database}` });
    const topicPrefix = `g${count}.`;
    log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'miner', topicPrefix, partitions: PARTITIONS });
    base = {
      clickhouse: { url: ch.url, user: 'writer', password: ch.token },
      ...{ database, brokers: kafka!.brokers, topicPrefix, partitions: PARTITIONS, sessionMs: SESSION_MS },
    };
  });
  afterEach(async () => {
    for (const member of members.values()) {
      if (!member.running) continue;
      process.kill(member.pid, 'SIGCONT');
      await member.stop();
    }
    await log.close();
    dir.remove();
  });

  const dataDirOf = (name: string): string => join(dir.path, name);
  async function member(name: string): Promise<Leashed> {
    mkdirSync(dataDirOf(name), { recursive: true });
    const options: ChildOptions = { ...base, dataDir: dataDirOf(name) };
    const child = await startLeashed(NODE, [CHILD, JSON.stringify(options)]);
    child.onLine((line) => said.push(`${name}: ${line}`));
    members.set(name, child);
    return child;
  }
  const lately = (): string => said.slice(-40).join('\n');
  const statusOf = (name: string) =>
    readStatuses(join(dataDirOf(name), 'status')).find(
      ({ program, time_us }) => program === 'consume' && Date.now() * 1000 - time_us < STATUS_FRESH_US,
    );
  const placesOf = (name: string): string => String(statusOf(name)?.values.group_places ?? '');
  const takes = (name: string, least = 1) =>
    until(
      () => `${name} to take records in\n${lately()}`,
      () => Number(statusOf(name)?.values.rows_count ?? 0) >= least,
    );
  /** Every partition of share is with one of these. */
  const shared = (...names: string[]) =>
    until(
      () => `the partitions to be with ${names}: ${names.map(placesOf).join(' | ')}\n${lately()}`,
      () => {
        const texts = names.map(placesOf);
        const all = texts.flatMap((text) => /share ([\d,]+)/.exec(text)?.[1]?.split(',') ?? []);
        return (
          texts.every((text) => text.includes('share')) && all.length >= PARTITIONS && new Set(all).size === all.length
        );
      },
    );
  async function select<Row>(query: string, database = base.database): Promise<Row[]> {
    const answer = await ch.writer.query({
      query: query.replaceAll('db.', `${database}.`),
      format: 'JSONEachRow',
      clickhouse_settings: { output_format_json_quote_64bit_integers: 1, output_format_json_quote_decimals: 1 },
    });
    return answer.json<Row>();
  }

  /** Waits until all is in and made anew, then compares. */
  async function expectAll(miner: Miner, names: readonly string[]): Promise<void> {
    await until(
      () => `all to be taken in\n${JSON.stringify(names.map((name) => statusOf(name)?.values))}\n${lately()}`,
      async () => {
        const [row] = await select<{ n: string }>('SELECT count() AS n FROM db.shares');
        if (Number(row!.n) < miner.unique) return false;
        return names.every((name) => {
          const values = statusOf(name)?.values;
          return values !== undefined && values.lag_records === 0 && values.minutes_marked === 0;
        });
      },
      { everyMs: 200 },
    );
    // What the last batch touched is marked after it is counted.
    await sleep(2_500);
    await until(
      () => `minutes to be made anew\n${lately()}`,
      () => names.every((name) => statusOf(name)?.values.minutes_marked === 0),
    );
    const [shares] = await select<{ n: string; unique: string }>(
      'SELECT count() AS n, uniqExact(s.origin, s.identity) AS unique FROM db.shares AS s',
    );
    expect(shares).toEqual({ n: String(miner.unique), unique: String(miner.unique) });
    const wanted = miner.minutes();
    const wrong: string[] = [];
    for (const row of await select<{
      minute: number;
      worker: string;
      accepted: string;
      refused: string;
      diff: string;
    }>(
      `SELECT toUInt32(m.minute) AS minute, m.worker AS worker, m.accepted AS accepted, m.refused AS refused,
        toString(m.diff) AS diff FROM db.shares_1m AS m`,
    )) {
      const key = `${row.minute}/${row.worker}`;
      const want = wanted.get(key);
      wanted.delete(key);
      const found = `${row.accepted} ${row.refused} ${row.diff}`;
      const right = want === undefined ? 'none' : `${want.accepted} ${want.refused} ${decimal18Text(want.units)}`;
      if (found !== right) wrong.push(`${key}: ${found} and not ${right}`);
    }
    for (const key of wanted.keys()) wrong.push(`${key}: missing`);
    expect(wrong).toEqual([]);
    await expectAgain();
  }

  /** One consumer alone fills another database from the same log: every table is the same. */
  async function expectAgain(): Promise<void> {
    const database = `${base.database}_again`;
    await ch.writer.command({ query: `CREATE DATABASE ${database}` });
    const life = testLife();
    const fresh = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'again', topicPrefix: base.topicPrefix });
    const config = configOf({ ...base, database, dataDir: dataDirOf('again') });
    try {
      await startConsumers(config, life, { log: fresh, sessionMs: SESSION_MS });
      const tables = ['shares_raw', 'shares_1m_raw', 'jobs_raw', 'sessions_raw', 'block_events_raw'];
      tables.push('contract_events_raw', 'epochs_raw', 'hashrates_raw', 'contracts_raw', 'payouts_raw', 'chains');
      const hashOf = async (table: string, of: string): Promise<string> => {
        const deleted = await select<{ n: string }>(
          `SELECT count() AS n FROM system.columns WHERE database = '${of}' AND table = '${table}' AND name = 'ingest_deleted'`,
        );
        const columns = await select<{ names: string }>(
          `SELECT arrayStringConcat(groupArray(name), ', ') AS names FROM system.columns
           WHERE database = '${of}' AND table = '${table}' AND name NOT LIKE 'ingest%'`,
        );
        const [row] = await select<{ n: string; hash: string }>(
          `SELECT count() AS n, sum(cityHash64(tuple(${columns[0]!.names}))) AS hash FROM db.${table} FINAL
           ${deleted[0]!.n === '0' ? '' : 'WHERE ingest_deleted = 0'}`,
          of,
        );
        return `${table}: ${row!.n} ${row!.hash}`;
      };
      let differ: string[] = [];
      await until(
        () => `another filling to be the same:\n${differ.join('\n')}\n${life.lines.join('\n')}`,
        async () => {
          differ = [];
          for (const table of tables) {
            const [ours, again] = [await hashOf(table, base.database), await hashOf(table, database)];
            if (ours !== again) differ.push(`${ours} | ${again}`);
          }
          return differ.length === 0;
        },
        { everyMs: 500 },
      );
    } finally {
      await life.end();
      await fresh.close();
    }
  }

  test('one of three dies, another is stopped in the middle of an insert until it was voted out and goes on: nothing is lost or doubled', async () => {
    const miner = new Miner(log, randomFrom(newSeed()));
    miner.start();
    await member('a');
    await takes('a');
    await member('b');
    await member('c');
    await shared('a', 'b', 'c');
    for (const name of ['a', 'b', 'c']) await takes(name, 1_000);
    const b = members.get('b')!;
    const leader = ['a', 'b', 'c'].find((name) => placesOf(name).includes('block'))!;
    const [dying, zombie] = leader === 'b' ? ['b', 'c'] : [leader, ['a', 'b', 'c'].find((name) => name !== leader)!];
    expect(b.running).toBe(true);
    const rest = ['a', 'b', 'c'].filter((name) => name !== dying && name !== zombie);
    process.kill(members.get(zombie)!.pid, 'SIGUSR2');
    await until('it to stop', () => said.some((line) => line === `${zombie}: stopped before an insert`));
    process.kill(members.get(dying)!.pid, 'SIGKILL');
    // Both are voted out, and who is left has everything.
    await shared(...rest);
    expect(placesOf(rest[0]!)).toContain('block');
    const before = miner.sent;
    await until('it to go on alone', () => miner.sent > before + 5_000);
    process.kill(members.get(zombie)!.pid, 'SIGCONT');
    await until(
      () => `the zombie to learn it\n${lately()}`,
      () => said.some((line) => line.startsWith(`${zombie}: `) && line.includes('voted out; it joins again')),
    );
    await shared(...rest, zombie);
    await member(dying);
    await shared('a', 'b', 'c');
    await miner.stop();
    await expectAll(miner, ['a', 'b', 'c']);
  });

  test('members come and go every few seconds, the broker restarts, partitions are added', async () => {
    const miner = new Miner(log, randomFrom(newSeed()));
    miner.start();
    await member('a');
    await takes('a');
    await member('b');
    await shared('a', 'b');
    await members.get('a')!.stop();
    await shared('b');
    await member('c');
    await member('a');
    await shared('a', 'b', 'c');
    process.kill(members.get('c')!.pid, 'SIGKILL');
    await kafka!.restart!();
    await member('c');
    await shared('a', 'b', 'c');
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.createPartitions({ topicPartitions: [{ topic: `${base.topicPrefix}share`, count: PARTITIONS + 3 }] });
    await admin.disconnect();
    await until(
      () => `the new partitions to be read\n${lately()}`,
      () => ['a', 'b', 'c'].some((name) => /share [\d,]*6/.test(placesOf(name))),
    );
    await members.get('b')!.stop();
    await shared('a', 'c');
    const before = miner.sent;
    await until('more to flow', () => miner.sent > before + 3_000);
    await miner.stop();
    await expectAll(miner, ['a', 'c']);
  });

  test('a replay beside one of them has all of them step aside, and finds nothing to mend afterwards', async () => {
    const miner = new Miner(log, randomFrom(newSeed()), 20);
    miner.start();
    await member('a');
    await takes('a');
    await member('b');
    await shared('a', 'b');
    const parts: Parameters<typeof replayTables>[0] = {
      config: configOf({ ...base, dataDir: dataDirOf('a') }),
      openLog: () => openKafkaLog({ brokers: kafka!.brokers, clientId: 'replay', topicPrefix: base.topicPrefix }),
      signal: AbortSignal.timeout(220_000),
      log: (line) => said.push(`replay: ${line}`),
    };
    const { records, aside_s: asideS } = await replayTables(parts);
    expect(records).toBeGreaterThan(0);
    console.log(`aside for ${asideS.toFixed(1)} s`);
    expect(said.some((line) => line.startsWith('b: ') && line.includes('a replay has the tables'))).toBe(true);
    await shared('a', 'b');
    const before = miner.sent;
    await until('more to flow', () => miner.sent > before + 1_000);
    const verified = await verifyTables(parts);
    expect(verified.tables.filter(({ same }) => !same)).toEqual([]);
    await miner.stop();
    await shared('a', 'b');
    await expectAll(miner, ['a', 'b']);
  });
});
