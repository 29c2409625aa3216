import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClickHouseClient } from '@clickhouse/client';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { decimal18Text, unitsFromDouble } from '../../../pipelines/shares/decimal.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Inputs } from '../../../schemas/events.ts';
import { eventKey, shareIdentity } from '../../../schemas/identity.ts';
import { readPublished } from '../../../services/consumers/derivations.ts';
import { type Consumers, startConsumers } from '../../../services/consumers/main.ts';
import { verifyTables } from '../../../services/consumers/replay.ts';
import { wholePartition } from '../../../services/consumers/whole.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { chainOf, newSeed, numbered, randomFrom } from '../../pipelines/blocks.ts';
import { packTopic } from '../core/log/packing.ts';
import { configFor, shareOf, type TestLife, tempDir, testLife, until } from './world.ts';

/** What the table must hold: each identity once, and the exact sum of the accepted. */
function expected(shares: readonly Inputs['share'][]): { count: string; accepted: string; diff: string } {
  const unique = new Map(shares.map((share) => [`${share.origin}/${shareIdentity(share)}`, share]));
  const accepted = [...unique.values()].filter((share) => share.accepted);
  const units = accepted.reduce((sum, share) => sum + unitsFromDouble(share.diff), 0n);
  return { count: String(unique.size), accepted: String(accepted.length), diff: decimal18Text(units) };
}

describe.skipIf(noClickHouse !== undefined)('consumers into the embedded ClickHouse', { timeout: 360_000 }, () => {
  let ch: TestClickHouse;
  /** The analyst, silent about tables that are not there yet. */
  let reader: ClickHouseClient;
  let dir: ReturnType<typeof tempDir>;
  let life: TestLife;
  let writers: JournalWriter[] = [];
  let children: ChildProcess[] = [];
  /** Tables are not as the migrations make them, or an insert of somebody who was killed may still arrive. */
  let spoilt = false;

  beforeAll(async () => {
    ch = await startTestClickHouse();
    reader = ch.reader;
  });
  afterAll(async () => {
    await ch.stop();
  });

  async function drop(): Promise<void> {
    const tables = await ch.writer.query({ query: 'SHOW TABLES', format: 'JSONEachRow' });
    for (const { name } of await tables.json<{ name: string }>())
      await ch.writer.command({ query: `DROP TABLE ${name}` });
  }
  /** Nothing is there but what the migrations make; these cost ClickHouse most of a second, so tables are made anew only where that is asked for. */
  async function fresh(): Promise<void> {
    if (spoilt) await drop();
    spoilt = false;
    const tables = await ch.writer.query({
      query: `SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'schema_version'`,
      format: 'JSONEachRow',
    });
    for (const { name } of await tables.json<{ name: string }>())
      await ch.writer.command({ query: `TRUNCATE TABLE ${name}` });
    dir = tempDir();
    life = testLife();
  }

  afterEach(async () => {
    await life.end();
    for (const child of children) child.kill('SIGKILL');
    spoilt ||= children.length > 0;
    for (const writer of writers) writer.close();
    [writers, children] = [[], []];
    dir.remove();
  });

  const journal = (): string => join(dir.path, 'journal');
  const writer = (instance: string): JournalWriter => {
    const opened = openJournalWriter({ dir: journal(), instance });
    writers.push(opened);
    return opened;
  };
  const config = () => configFor(dir.path, { url: ch.url, user: ch.user, password: ch.token });
  const start = async (): Promise<Consumers> => {
    const log = openJournalLog({ dir: journal() });
    life.onStop('log', () => log.close());
    return startConsumers(config(), life, { log });
  };
  const appendShares = (to: JournalWriter, shares: readonly Inputs['share'][]): void => {
    for (let i = 0; i < shares.length; i += 100) {
      to.append(shares.slice(i, i + 100).map((event) => ({ topic: 'share', event })));
    }
  };
  async function select<Row>(query: string): Promise<Row[]> {
    const answer = await reader.query({
      query,
      format: 'JSONEachRow',
      clickhouse_settings: { output_format_json_quote_64bit_integers: 1, output_format_json_quote_decimals: 1 },
    });
    return answer.json<Row>();
  }
  const totals = async () =>
    (
      await select<{ count: string; accepted: string; diff: string }>(
        'SELECT count() AS count, countIf(s.accepted) AS accepted, sumIf(s.diff, s.accepted) AS diff FROM shares AS s',
      )
    )[0]!;
  const rollupTotals = async () =>
    (
      await select<{ count: string; accepted: string; diff: string }>(
        'SELECT sum(m.accepted + m.refused) AS count, sum(m.accepted) AS accepted, sum(m.diff) AS diff FROM shares_1m AS m',
      )
    )[0]!;
  const settled = (shares: readonly Inputs['share'][]) =>
    until('the shares and their roll-up', async () => {
      expect(await totals()).toEqual(expected(shares));
      expect(await rollupTotals()).toEqual(expected(shares));
      return true;
    });
  /** Every column of every row, in one order. */
  const everyShare = () => select('SELECT * FROM shares ORDER BY origin, identity');
  const everyMinute = () => select('SELECT * FROM shares_1m ORDER BY origin, minute, user, worker');

  test('a share is in SQL about a second after it was appended', async () => {
    await fresh();
    const consumers = await start();
    await consumers.ready;
    const out = writer('ckpool');
    const random = randomFrom(newSeed());
    appendShares(out, [shareOf(random, 0)]);
    await until('the first share', async () => ((await totals()).count === '1' ? true : undefined));
    // A second where the machine has one to spare; the tests share two cores, so one of some has to be in time.
    let bestMs = Number.POSITIVE_INFINITY;
    for (let n = 1; n < 10 && bestMs >= 5_000; n += 2) {
      appendShares(out, [shareOf(random, n), { ...shareOf(random, n + 1), accepted: true, errn: 0, reason: '' }]);
      const begun = performance.now();
      await until('the next', async () => ((await totals()).count === String(n + 2) ? true : undefined));
      bestMs = Math.min(bestMs, performance.now() - begun);
    }
    expect(bestMs).toBeLessThan(5_000);
    expect(consumers.problems()).toEqual([]);
  });

  test('counts and sums equal the journal, and copies, another order and back-fill change nothing', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 1500 }, (_, n) => shareOf(random, n));
    // A back-filled line: no version bits, another job, other digits of the clock, in another minute at times.
    const backfilled = shares
      .filter((share) => share.accepted)
      .map((share) => ({
        ...share,
        source: 'backfill',
        instance: 'ingest',
        version_bits: '',
        job_key: '',
        time_us: share.time_us + 30e6,
        time_ns: random(1000),
      }));
    const first = await start();
    await first.ready;
    const live = writer('ckpool');
    const ingest = writer('ingest');
    appendShares(ingest, backfilled.slice(0, 700));
    await until('the back-fill', async () => ((await totals()).count === '700' ? true : undefined));
    appendShares(live, shares.slice(0, 1000));
    appendShares(ingest, backfilled.slice(700));
    appendShares(live, shares);
    appendShares(writer('again'), [...shares].reverse());
    await settled(shares);
    const before = { shares: await everyShare(), minutes: await everyMinute() };
    expect((await select<{ n: string }>("SELECT count() AS n FROM shares WHERE source != 'live'"))[0]!.n).toBe('0');

    // Rebuilt from the log into empty tables by consumers that remember nothing: the same rows.
    await life.end();
    const kept = dir;
    await drop();
    await fresh();
    dir.remove();
    dir = kept;
    rmSync(join(dir.path, 'state'), { recursive: true });
    await start();
    await settled(shares);
    await until('the rebuilt rows', async () => {
      expect({ shares: await everyShare(), minutes: await everyMinute() }).toEqual(before);
      return true;
    });
  });

  test('a journal that is packed while it is read gives the same rows, to consumers and to a replay', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 3_000 }, (_, n) => shareOf(random, n));
    const out = openJournalWriter({ dir: journal(), instance: 'ckpool', segmentBytes: 30_000 });
    writers.push(out);
    const first = await start();
    await first.ready;
    let packed = 0;
    for (let from = 0; from < shares.length; from += 300) {
      appendShares(out, shares.slice(from, from + 300));
      packed += await packTopic(journal(), 'ckpool', 'share', 100);
    }
    expect(packed).toBeGreaterThan(20);
    await settled(shares);
    const parts = {
      config: config(),
      openLog: async () => openJournalLog({ dir: journal() }),
      signal: life.signal,
      log: () => {},
    };
    // Those that remember nothing read all of it packed, and step aside for nobody here.
    await life.end();
    life = testLife();
    const verified = await verifyTables({ ...parts, signal: life.signal });
    expect(verified.same).toBe(true);
    rmSync(join(dir.path, 'state', 'consumers.sqlite'));
    const before = { shares: await everyShare(), minutes: await everyMinute() };
    const again = await start();
    await again.ready;
    await until('all of it read again', () => (again.counters.records === shares.length ? true : undefined));
    await settled(shares);
    expect({ shares: await everyShare(), minutes: await everyMinute() }).toEqual(before);
  });

  test('shares of more than a hundred months in one batch are rolled up', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 150 }, (_, n) => {
      const share = { ...shareOf(random, n), accepted: n % 2 === 0, errn: 0 };
      return { ...share, time_us: 1_262_304_000_000_000 + n * 31 * 86_400e6, ntime: (1_262_304_000 + n).toString(16) };
    });
    const consumers = await start();
    await consumers.ready;
    appendShares(writer('ingest'), shares);
    await settled(shares);
    expect(consumers.problems()).toEqual([]);
  });

  test('thousands of shares of as many hours, as a small miner leaves in years, are looked up and taken in', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    // Without a roll-up: thousands of minutes of one share each are made 500 a second.
    const shares = Array.from({ length: 4_000 }, (_, n) => {
      const timeS = 1_600_000_000 + n * 3_600;
      return { ...shareOf(random, n), accepted: true, errn: 0, time_us: timeS * 1e6, ntime: timeS.toString(16) };
    });
    const consumers = await start();
    await consumers.ready;
    const out = writer('ingest');
    // One append is one batch.
    out.append(shares.map((event) => ({ topic: 'share', event })));
    await until('the shares', async () => {
      expect(await totals()).toEqual(expected(shares));
      return true;
    });
    expect(consumers.problems()).toEqual([]);
  });

  test('a ClickHouse that was lost, or is another one, is filled from the log again', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 300 }, (_, n) => shareOf(random, n));
    await (await start()).ready;
    appendShares(writer('ckpool'), shares);
    await settled(shares);
    const before = await everyShare();
    await life.end();
    await drop();

    life = testLife();
    await (await start()).ready;
    await settled(shares);
    expect(await everyShare()).toEqual(before);
    expect(life.lines.join('\n')).toContain('from its beginning');
    // The same ClickHouse is not filled again at the next start.
    await life.end();
    life = testLife();
    const again = await start();
    await again.ready;
    const more = shareOf(random, 301);
    appendShares(writers[0]!, [more]);
    await settled([...shares, more]);
    expect(again.counters.records).toBe(1);

    // One table of raw rows is as good as all; a derived one mends itself.
    await life.end();
    await ch.writer.command({ query: 'DROP TABLE shares_raw' });
    await ch.writer.command({ query: 'DROP TABLE payouts_raw' });
    life = testLife();
    await (await start()).ready;
    await settled([...shares, more]);
    expect(await select('SELECT * FROM payouts')).toEqual([]);
  });

  test('a kill between insert and checkpoint, or just behind it, many times, changes nothing', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 3000 }, (_, n) => shareOf(random, n));
    const out = writer('ckpool');
    const runner = fileURLToPath(new URL('./runner.ts', import.meta.url));
    const clickhouse = { url: ch.url, user: ch.user, password: ch.token };
    const run = (killAfterInsert: number, killAfterCheckpoint = 0): ChildProcess => {
      const at = { killAfterInsert, killAfterCheckpoint };
      const child = spawn(process.execPath, [runner, JSON.stringify({ dir: dir.path, clickhouse, ...at })], {
        stdio: ['pipe', 'inherit', 'inherit'],
      });
      children.push(child);
      return child;
    };
    for (let round = 0; round < 3; round++) {
      appendShares(out, shares.slice(round * 1000, round * 1000 + 1000));
      const child = round === 1 ? run(0, 1) : run(1);
      const [, signal] = await once(child, 'exit');
      expect(signal).toBe('SIGKILL');
    }
    run(0);
    await settled(shares);
  });

  test('kills while derivations are appended leave none of them out, and say none twice', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const chain = writer('chain');
    const blocks = numbered(chainOf(0, 2400));
    const runner = fileURLToPath(new URL('./runner.ts', import.meta.url));
    const clickhouse = { url: ch.url, user: ch.user, password: ch.token };
    const log = openJournalLog({ dir: journal() });
    writers.push(log as unknown as JournalWriter);
    const said = async (): Promise<string[]> => {
      const keys: string[] = [];
      for (const topic of ['epoch', 'hashrate'] as const) {
        for (const partition of await log.partitions(topic)) {
          for await (const { records } of wholePartition(log, topic, partition, new AbortController().signal)) {
            const decode = decoderFor(topic);
            for (const record of records) keys.push(`${topic} ${eventKey(topic, decode(record.body), record)}`);
          }
        }
      }
      return keys;
    };
    let before = 0;
    for (let round = 0; round < 4; round++) {
      chain.append(
        blocks
          .slice(round * 600, round * 600 + 600 + (round === 3 ? 1 : 0))
          .map((event) => ({ topic: 'block', event })),
      );
      const child = spawn(
        process.execPath,
        [runner, JSON.stringify({ dir: dir.path, clickhouse, killAfterInsert: 0 })],
        {
          stdio: ['pipe', 'inherit', 'inherit'],
        },
      );
      children.push(child);
      if (round === 3) break;
      const ended = once(child, 'exit');
      // As soon as there is anything new, or some of it later.
      const enough = before + 1 + random(400);
      await until('something was said', async () => ((await said()).length >= enough ? true : undefined));
      child.kill('SIGKILL');
      await ended;
      before = (await said()).length;
    }
    // A hashrate for each block but the first, 99 epochs closed and final, the hundredth closed.
    await until('everything was said', async () => {
      expect((await said()).length).toBe(2400 + 99 * 2 + 1);
      return true;
    });
    const keys = await said();
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('a record that breaks a constraint goes to dead_letters, once, and the rest goes on', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 20 }, (_, n) => shareOf(random, n));
    const out = writer('ckpool');
    appendShares(out, shares.slice(0, 10));
    appendShares(out, [
      { ...shares[0]!, diff: Number.NaN },
      { ...shares[1]!, accepted: true, hash: 'zz' },
    ]);
    out.append([{ topic: 'block', event: { ...blockEvent(1), height: -1 } }]);
    appendShares(out, shares.slice(10));
    const consumers = await start();
    await settled(shares);
    const letters = async () =>
      select<{ topic: string; reason: string; body_hex: string }>(
        'SELECT topic, reason, body_hex FROM dead_letters FINAL ORDER BY topic, reason',
      );
    await until('three dead letters', async () => ((await letters()).length === 3 ? true : undefined));
    expect((await letters()).map(({ topic, reason }) => [topic, reason])).toEqual([
      ['block', 'height: expected 0 to 4294967295, got -1'],
      ['share', 'diff: expected a number from 0 to below 1e20, got NaN'],
      ['share', 'hash: expected 64 lower-case hex digits, got "zz"'],
    ]);
    expect((await letters())[1]!.body_hex).toBe(
      encodeEvent('share', { ...shares[0]!, diff: Number.NaN }).toString('hex'),
    );
    expect(consumers.counters.deadLetters).toBe(3);
  });

  test('while ClickHouse is away the consumers wait and say so, and go on when it is back', async () => {
    await fresh();
    const random = randomFrom(newSeed());
    const shares = Array.from({ length: 500 }, (_, n) => shareOf(random, n));
    const out = writer('ckpool');
    const own = await startTestClickHouse({ own: true });
    const port = Number(new URL(own.url).port);
    let back: TestClickHouse | undefined;
    try {
      const log = openJournalLog({ dir: journal() });
      life.onStop('log', () => log.close());
      const consumers = await startConsumers(
        configFor(dir.path, { url: own.url, user: own.user, password: own.token }),
        life,
        { log },
      );
      await consumers.ready;
      appendShares(out, shares.slice(0, 100));
      await until('the first', () => (consumers.counters.rows === 100 ? true : undefined));
      await own.stop({ signal: 'SIGKILL', keep: true });
      appendShares(out, shares.slice(100));
      const problem = await until('a problem', () =>
        consumers.problems().find((line) => line.startsWith('share/ckpool')),
      );
      expect(problem).toContain(`ClickHouse at ${own.url} is not reachable`);
      await until('a lag', () => (consumers.lagRecords() === 400 ? true : undefined));
      back = await startTestClickHouse({ dir: own.dir, port, token: own.token });
      await until('all rows', () => (consumers.counters.rows === 500 ? true : undefined));
      const [row] = await (
        await back.reader.query({ query: 'SELECT toString(count()) AS n FROM shares', format: 'JSONEachRow' })
      ).json<{ n: string }>();
      expect(row!.n).toBe('500');
      await until('no problem', () => (consumers.problems().length === 0 ? true : undefined));
      expect(life.lines.filter((line) => line.startsWith('share/ckpool'))).toHaveLength(2);
    } finally {
      await life.end();
      await back?.stop();
    }
  });

  test('a table that lacks a column stops the partition until it has it', async () => {
    await fresh();
    const consumers = await start();
    await consumers.ready;
    spoilt = true;
    await ch.writer.command({ query: 'ALTER TABLE sessions_raw DROP COLUMN reason' });
    const event = { kind: 'started', origin: 'ckpool', instance: 'ckpool', time_us: 1_760_000_000_000_000 };
    writer('ckpool').append([{ topic: 'session', event }]);
    const problem = await until('a problem', () => consumers.problems().find((line) => line.startsWith('session/')));
    expect(problem).toContain('reason');
    await ch.writer.command({ query: "ALTER TABLE sessions_raw ADD COLUMN reason String COMMENT 'Why'" });
    await until('the row', async () => ((await select('SELECT * FROM sessions')).length === 1 ? true : undefined));
    expect(consumers.counters.deadLetters).toBe(0);
  });

  test('an edited migration ends the program', async () => {
    await fresh();
    const consumers = await start();
    await consumers.ready;
    await life.end();
    spoilt = true;
    await ch.writer.command({ query: "INSERT INTO schema_version SELECT 1, 'x', 'other', now64(6)" });
    const again = await start();
    await again.ready;
    expect(life.lines.find((line) => line.startsWith('stop: '))).toContain(
      '0001_shares.sql is not the file that was applied',
    );
  });

  test('blocks, epochs, hashrates and payouts stand in SQL, also after a reorganisation and a restart', async () => {
    await fresh();
    const out = writer('chain');
    // 60 blocks of the playground's chain: epochs of 24, final 3 above the closing one.
    const block = (height: number, branch = '0') => blockEvent(height, branch);
    let seq = 0;
    const append = (kind: string, height: number, branch = '0'): void => {
      seq += 1;
      out.append([{ topic: 'block', event: { ...block(height, branch), kind, chain_seq: seq } }]);
    };
    for (let height = 0; height <= 60; height++) append('connected', height);
    writer('api').append([
      {
        topic: 'contract',
        event: {
          kind: 'opened',
          contract_id: 'sample',
          contract_seq: 0,
          time_us: 1_760_000_000_000_000,
          chain: 'playground',
          customer: 'a customer',
          payout_address: 'mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8',
          hashrate_hps: '1000000',
          from_height: 10,
          skip_payouts: 1,
        },
      },
    ]);
    const consumers = await start();
    const epochs = () =>
      select<{ epoch: number; status: string; closing_hash: string; next_nbits_alarm: boolean }>(
        'SELECT epoch, status, closing_hash, next_nbits_alarm FROM epochs ORDER BY epoch',
      );
    const payouts = () =>
      select<{ epoch: number; status: string; amount_sats: string; numerator: string; denominator: string }>(
        'SELECT epoch, status, amount_sats, numerator, denominator FROM payouts ORDER BY epoch',
      );
    await until('three epochs and payouts', async () => {
      expect((await epochs()).map((each) => each.status)).toEqual(['final', 'final', 'open']);
      expect((await payouts()).map((each) => each.status)).toEqual(['skipped', 'owed', 'forecast']);
      return true;
    });
    for (const { amount_sats, numerator, denominator } of await payouts()) {
      expect(amount_sats).toBe((BigInt(numerator) / BigInt(denominator)).toString());
    }
    // Down to 47 and up another branch to 49: epoch 1 closes with another block and is no longer final.
    for (let height = 60; height >= 48; height--) append('disconnected', height);
    append('connected', 48, '1');
    append('connected', 49, '1');
    await until('the epoch closed otherwise', async () => {
      expect(await epochs()).toMatchObject([
        { status: 'final' },
        { status: 'closed', closing_hash: block(48, '1').hash },
        { status: 'open' },
      ]);
      expect((await payouts()).map((each) => each.status)).toEqual(['skipped', 'forecast', 'forecast']);
      return true;
    });
    const onChain = await select<{ n: string; top: number }>(
      'SELECT count() AS n, max(height) AS top FROM blocks WHERE on_chain',
    );
    expect(onChain).toEqual([{ n: '50', top: 49 }]);
    expect(await select('SELECT DISTINCT height FROM hashrates WHERE height > 49')).toEqual([]);
    expect(consumers.problems()).toEqual([]);

    // What was said in the log: a closing for each that there was, and what became of it.
    const log = openJournalLog({ dir: journal() });
    writers.push(log as unknown as JournalWriter);
    const told = async () => {
      const { chains } = await readPublished(log, new AbortController().signal);
      const { epochs, payouts, hashrates } = chains.get('playground')!;
      return {
        epochs: [...epochs.values()].map(({ epoch, kind, closing_hash }) => [epoch, kind, closing_hash]),
        payouts: [...payouts.values()].map(({ epoch, kind }) => [epoch, kind]),
        measured: [...hashrates.values()].filter(({ kind }) => kind === 'measured').length,
      };
    };
    const said = {
      epochs: [
        [0, 'final', block(24).hash],
        [1, 'closed', block(48, '1').hash],
      ],
      payouts: [
        [0, 'skipped'],
        [1, 'reversed'],
      ],
      measured: 49,
    };
    await until('derivations in the log', async () => {
      expect(await told()).toEqual(said);
      return true;
    });
    const count = async () => {
      const topics = ['epoch', 'hashrate', 'payout'] as const;
      return Promise.all(topics.map(async (topic) => Number(await log.lag(topic, 'consume', null))));
    };
    const counted = await count();

    const tables = ['epochs', 'hashrates', 'contracts', 'payouts'];
    const everything = () => Promise.all(tables.map((table) => select(`SELECT * FROM ${table} ORDER BY ALL`)));
    const before = await everything();
    const versions = () => select('SELECT max(ingest_version) AS v FROM epochs_raw');
    const version = await versions();
    await life.end();
    life = testLife();
    await ch.writer.command({ query: 'TRUNCATE TABLE payouts_raw' });
    await start();
    await until('the same rows', async () => {
      expect(await everything()).toEqual(before);
      return true;
    });
    // What was there already was not written again, in the tables nor in the log.
    expect(await versions()).toEqual(version);
    await life.end();
    life = testLife();
    expect(await count()).toEqual(counted);
    const verified = await verifyTables({
      config: config(),
      openLog: async () => openJournalLog({ dir: journal() }),
      signal: new AbortController().signal,
      log: () => {},
    });
    expect(verified.derivations).toEqual({ missing: 0, different: 0, words: '' });
    expect(verified.same).toBe(true);
    // One that says otherwise is found.
    const [epoch] = (await readPublished(openJournalLog({ dir: journal() }), new AbortController().signal)).chains
      .get('playground')!
      .epochs.values();
    writer('consume').append([{ topic: 'epoch', event: { ...epoch!, kind: 'final', chain_seq: 999, fees_sats: '7' } }]);
    const wrong = await verifyTables({
      config: config(),
      openLog: async () => openJournalLog({ dir: journal() }),
      signal: new AbortController().signal,
      log: () => {},
    });
    expect(wrong.derivations).toEqual({ missing: 0, different: 1, words: 'said otherwise: epoch playground/0' });
    expect(wrong.same).toBe(false);
  });

  test('every table and column has a comment', async () => {
    await fresh();
    const consumers = await start();
    await consumers.ready;
    const bare = await select(
      "SELECT table AS name, name AS column FROM system.columns WHERE database = currentDatabase() AND comment = '' UNION ALL SELECT name, '' FROM system.tables WHERE database = currentDatabase() AND comment = ''",
    );
    expect(bare).toEqual([]);
    const tables = await select('SELECT name FROM system.tables WHERE database = currentDatabase()');
    expect(tables.length).toBeGreaterThan(25);
  });
});

function blockEvent(height: number, branch = '0'): Inputs['block'] {
  const hash = (at: number, of: string) => `${of.repeat(8)}${at.toString(16).padStart(56, '0')}`;
  // Only the blocks above 47 differ between the branches.
  const own = height > 47 ? branch : '0';
  const parent = height > 48 ? branch : '0';
  return {
    kind: 'connected',
    chain: 'playground',
    instance: 'chain',
    follower: 'chain',
    chain_seq: height + 1,
    time_us: 1_760_000_000_000_000 + height * 5e6,
    height,
    hash: hash(height, own),
    prev_hash: height === 0 ? '0'.repeat(64) : hash(height - 1, parent),
    block_time_us: (1_760_000_000 + height * 5) * 1e6,
    median_time_us: (1_760_000_000 + Math.max(0, height - 5) * 5) * 1e6,
    nbits: '1e1fffff',
    version: '20000000',
    tx_count: 2,
    subsidy_sats: '5000000000',
    fees_sats: '1000',
    coinbase_value_sats: '5000001000',
    coinbase_outputs: [{ script: '51', value_sats: '5000001000' }],
  };
}
