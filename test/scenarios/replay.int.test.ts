import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Inputs } from '../../schemas/events.ts';
import { ingestTime, insertRows } from '../../services/consumers/insert.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { replayInto, replayTables, verifyTables } from '../../services/consumers/replay.ts';
import { startConsumersAside, takeTurn } from '../../services/consumers/replay-aside.ts';
import { REPLAYED_TABLES } from '../../services/consumers/replay-compare.ts';
import { replayLetters } from '../../services/consumers/replay-letters.ts';
import type { Progress, ReplayParts } from '../../services/consumers/replay-work.ts';
import { ConsumerState } from '../../services/consumers/state.ts';
import { openDataDir } from '../../services/core/data-dir.ts';
import { poolStatus, statusEvent } from '../../services/ingestor/ckpool-log.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../helpers/clickhouse.ts';
import { chainOf, numbered } from '../pipelines/blocks.ts';
import { configFor, START_US, shareOf, until } from '../services/consumers/world.ts';
import { backfilled, clientOf, contract, jobOf, replayWorlds, sharesIn } from './replay-world.ts';

describe.skipIf(noClickHouse !== undefined)('replay', { timeout: 900_000 }, () => {
  const w = replayWorlds('world');
  const { openLog, writer, append, parts, select, mutate, everything, consumed } = w;
  const strangers = () => select(`SELECT name FROM system.databases WHERE name LIKE '${w.config.database}_replay%'`);

  /** A world in the journal: shares live and back-filled, repeats, poison, jobs, sessions, a chain with a reorganisation, a contract. */
  function fill(count = 600): Inputs['share'][] {
    const shares = Array.from({ length: count }, (_, n) => shareOf(w.random, n));
    const pool = writer('ckpool');
    append(
      pool,
      Array.from({ length: 20 }, (_, n) => ({ topic: 'job', event: jobOf(n) })),
    );
    append(
      pool,
      ['started', 'authorized', 'disconnected'].map((kind, n) => ({
        topic: 'session',
        event: { kind, origin: 'ckpool', instance: 'ckpool', time_us: START_US + n },
      })),
    );
    append(pool, sharesIn(shares));
    append(pool, sharesIn(shares.slice(0, 50)));
    append(pool, [{ topic: 'share', event: { ...shares[0]!, diff: Number.NaN } }]);
    append(
      writer('ingest'),
      sharesIn(
        shares
          .filter((share) => share.accepted)
          .slice(0, 200)
          .map((share) => backfilled(w.random, share)),
      ),
    );
    const trunk = chainOf(0, 60, () => ({ bits: 0x1e1fffff }));
    const branch = chainOf(56, 58, () => ({ bits: 0x1e1fffff, branch: 'b' }), trunk[55]!.hash);
    const back = trunk
      .slice(56)
      .reverse()
      .map((event) => ({ ...event, kind: 'disconnected' }));
    append(
      writer('chain'),
      numbered([...trunk, ...back, ...branch]).map((event) => ({ topic: 'block', event })),
    );
    append(writer('api'), [{ topic: 'contract', event: contract }]);
    // CKPool's log, read twice by journals that do not know of each other: statistics, and blocks of which one came live too.
    for (const instance of ['ingest-ckpool-log', 'ingest-elsewhere-log']) {
      const from = { origin: 'ckpool', instance };
      const solved = (n: number): Inputs['block'] => ({
        ...{ kind: 'solved', chain: 'regtest', ...from, source: 'backfill', time_us: START_US + n, height: n },
        ...{ hash: String(n).padStart(64, '0'), prev_hash: '', block_time_us: 0, nbits: '', version: '' },
      });
      append(writer(instance), [
        { topic: 'session', event: statusEvent(from, START_US, { ...poolStatus('log'), hashrate_1m: '4.2T' }) },
        { topic: 'session', event: statusEvent(from, START_US, { ...poolStatus('status'), hashrate_1m: '4.2T' }) },
        { topic: 'block', event: solved(7001) },
        { topic: 'block', event: solved(7002) },
      ]);
      if (instance === 'ingest-ckpool-log') {
        const live = { ...solved(7001), source: 'live', instance: 'ckpool', nbits: '1e1fffff', version: '20000000' };
        append(pool, [{ topic: 'block', event: { ...live, prev_hash: '7'.padStart(64, '0') } }]);
      }
    }
    return shares;
  }

  test('after every derived table was dropped, replay gives identical rows', async () => {
    fill();
    await consumed();
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    const before = await everything();
    for (const table of REPLAYED_TABLES) expect(before[table]!.length, table).toBeGreaterThan(0);
    const tables = await select<{ name: string }>(`SHOW TABLES FROM ${w.config.database}`);
    for (const { name } of tables) await w.admin.command({ query: `DROP TABLE ${w.config.database}.${name}` });
    const phases: Progress[] = [];
    const summary = await replayTables(parts({ onProgress: (progress) => phases.push(progress) }));
    expect(await everything()).toEqual(before);
    expect(summary).toMatchObject({ dead_letters: 1 });
    expect([...new Set(phases.map(({ phase }) => phase))]).toEqual(
      ['reading', 'rolling up', 'waiting for the consumers', 'rolling up', 'swapping', 'removing'].filter(
        (phase, i, all) => all.indexOf(phase) === i,
      ),
    );
    expect(await strangers()).toEqual([]);
    // Views are there, and consumers go on where the replay stopped instead of reading all again.
    expect(await select(`SELECT count() AS n FROM ${w.config.database}.shares`)).toEqual([{ n: '600' }]);
    const log = openLog();
    w.life.onStop('log', () => log.close());
    const consumers = await startConsumers(w.config, w.life, { log });
    await consumers.ready;
    expect(w.life.lines.join('\n')).toContain('reading goes on where it stopped');
    append(w.writers[0]!, sharesIn([shareOf(w.random, 10_000)]));
    await until('the next share', async () =>
      (await select<{ n: string }>(`SELECT count() AS n FROM ${w.config.database}.shares`))[0]!.n === '601'
        ? true
        : undefined,
    );
    expect(consumers.counters.records).toBe(1);
  });

  test('replay beside running consumers loses nothing of what arrives meanwhile, and they go on by themselves', async () => {
    const shares = fill();
    const log = openLog();
    w.life.onStop('log', () => log.close());
    await startConsumersAside(w.config, w.life, { log });
    // A pipeline that was wrong once: rows that no replay would make.
    await until('the tables', async () =>
      (await select<{ n: string }>(`SELECT count() AS n FROM ${w.config.database}.shares_1m`))[0]!.n !== '0'
        ? true
        : undefined,
    );
    await until('the shares', async () =>
      (await select<{ n: string }>(`SELECT count() AS n FROM ${w.config.database}.shares`))[0]!.n === '600'
        ? true
        : undefined,
    );
    await mutate(`ALTER TABLE ${w.config.database}.shares_raw UPDATE worker = 'wrong' WHERE height = 101`);
    let appended = 0;
    const pool = w.writers[0]!;
    const feed = setInterval(() => {
      append(pool, sharesIn(Array.from({ length: 20 }, () => shareOf(w.random, 1000 + appended++))));
    }, 20);
    try {
      expect((await replayTables(parts())).aside_s).toBeGreaterThan(0);
    } finally {
      clearInterval(feed);
    }
    await until('what arrived meanwhile', async () => {
      const [row] = await select<{ n: string }>(`SELECT count() AS n FROM ${w.config.database}.shares`);
      expect(row!.n).toBe(String(shares.length + appended));
      return true;
    });
    expect(appended).toBeGreaterThan(20);
    expect(await select(`SELECT count() AS n FROM ${w.config.database}.shares WHERE worker = 'wrong'`)).toEqual([
      { n: '0' },
    ]);
    // Verify beside consumers that take shares in.
    const again = setInterval(() => append(pool, sharesIn([shareOf(w.random, 1000 + appended++)])), 20);
    try {
      const verified = await verifyTables(parts());
      expect(verified.tables.filter(({ same }) => !same)).toEqual([]);
    } finally {
      clearInterval(again);
    }
    expect(w.life.lines.filter((line) => line.startsWith('stop'))).toEqual([]);
    expect(await strangers()).toEqual([]);
  });

  test('verify finds a changed row, a missing row, one too many, a changed roll-up and a changed payout, and names them', async () => {
    fill();
    await consumed();
    const { database } = w.config;
    const [victim] = await select<{ identity: string }>(
      `SELECT identity FROM ${database}.shares WHERE accepted ORDER BY identity LIMIT 1`,
    );
    await mutate(
      `ALTER TABLE ${database}.shares_raw UPDATE diff = diff + toDecimal128('0.000000000000000001', 18) WHERE identity = '${victim!.identity}'`,
    );
    await w.admin.command({ query: `DELETE FROM ${database}.jobs_raw WHERE job_key = 'ckpool/7'` });
    await w.admin.command({
      query: `INSERT INTO ${database}.block_events_raw SELECT * REPLACE ('twice' AS identity) FROM ${database}.block_events_raw WHERE height = 3 LIMIT 1`,
    });
    await mutate(`ALTER TABLE ${database}.shares_1m_raw UPDATE accepted = accepted + 1 WHERE worker LIKE 'user0%'`);
    await mutate(`ALTER TABLE ${database}.payouts_raw UPDATE amount_sats = amount_sats + 1 WHERE epoch = 1`);
    const { same, tables } = await verifyTables(parts());
    expect(same).toBe(false);
    const wrong = Object.fromEntries(tables.filter((each) => !each.same).map((each) => [each.table, each]));
    expect(Object.keys(wrong).sort()).toEqual([
      'block_events_raw',
      'jobs_raw',
      'payouts_raw',
      'shares_1m_raw',
      'shares_raw',
    ]);
    expect(wrong.shares_raw!.rows).toMatchObject([{ kind: 'changed', key: { identity: victim!.identity } }]);
    expect(Object.keys(wrong.shares_raw!.rows[0]!.columns)).toEqual(['diff']);
    expect(Object.keys(wrong.shares_raw!.sums)).toEqual(['diff']);
    expect(wrong.jobs_raw!.rows).toMatchObject([{ kind: 'missing', key: { origin: 'ckpool', job_key: 'ckpool/7' } }]);
    expect(wrong.block_events_raw!.rows).toMatchObject([{ kind: 'extra', key: { identity: 'twice' } }]);
    expect(Object.keys(wrong.shares_1m_raw!.rows[0]!.columns)).toEqual(['accepted']);
    expect(wrong.payouts_raw!.rows).toMatchObject([{ kind: 'changed', key: { contract_id: 'sample', epoch: '1' } }]);
    expect(await strangers()).toEqual([]);
    // The loss of a wrong row is what this replay is for; it has to be told so, and then all is as the log says.
    await expect(replayTables(parts())).rejects.toMatchObject({ code: 'replay_loss' });
    await replayTables(parts(), { allowLoss: true });
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    // A record that cannot be read and was no dead letter before: the log was damaged since.
    await w.admin.command({ query: `TRUNCATE TABLE ${database}.dead_letters` });
    await expect(replayTables(parts())).rejects.toThrow(/no dead letters before/);
  });

  test('another interleaving of partitions, and everything again twice in another order, give the same rows in another database', async () => {
    const shares = fill();
    await consumed();
    const before = await everything();
    const shuffled: ReplayParts = parts({
      openLog: async () => {
        const log = openLog();
        return {
          ...log,
          partitions: async (topic) => [...(await log.partitions(topic))].reverse(),
          // Small pieces of each partition in turn, some of them late.
          read: async (topic, partition, from, options) => {
            if (w.random(3) === 0) await new Promise((resolve) => setTimeout(resolve, w.random(5)));
            return log.read(topic, partition, from, {
              ...options,
              maxRecords: 1 + w.random(Math.min(options.maxRecords, 100)),
            });
          },
        };
      },
    });
    await replayInto(shuffled, `${w.config.database}_other`);
    expect(await everything(`${w.config.database}_other`)).toEqual(before);
    // Accepted, refused and back-filled copies again, from another writer, last first, twice.
    const again = writer('again');
    const copies = [
      ...shares,
      ...shares.filter((share) => share.accepted).map((share) => backfilled(w.random, share)),
    ].reverse();
    append(again, sharesIn([...copies, ...copies]));
    append(again, [
      { topic: 'contract', event: contract },
      { topic: 'job', event: jobOf(3) },
    ]);
    const summary = await replayInto(parts(), `${w.config.database}_twice`);
    expect(summary.rows).toBeGreaterThan(shares.length * 3);
    const twice = await everything(`${w.config.database}_twice`);
    // The minutes that a loser was received in are listed too.
    for (const table of REPLAYED_TABLES.filter((name) => name !== 'share_minutes')) {
      expect(twice[table], table).toEqual(before[table]);
    }
    await replayTables(parts());
    expect(await everything()).toEqual(twice);
  });

  test('consumers moved to a database that a replay has filled read only what came after', async () => {
    const shares = fill();
    await consumed();
    const moved = { ...w.config, database: `${w.config.database}_moved` };
    await replayInto(parts(), moved.database);
    append(w.writers[0]!, sharesIn([shareOf(w.random, 20_000)]));
    const log = openLog();
    w.life.onStop('log', () => log.close());
    const consumers = await startConsumers(moved, w.life, { log });
    await consumers.ready;
    await until('the next share', async () => {
      const [row] = await select<{ n: string }>(`SELECT count() AS n FROM ${moved.database}.shares`);
      return row!.n === String(shares.length + 1) ? true : undefined;
    });
    expect(consumers.counters.records).toBe(1);
    // It is theirs now: nobody builds into it at their side.
    await until('their status', () => openDataDir(w.dir.path));
    await expect(replayInto(parts(), moved.database)).rejects.toMatchObject({ code: 'held' });
  });

  test('a replay that is cut off leaves the tables as they were, and what it left is removed by the next', async () => {
    fill();
    await consumed();
    const before = await everything();
    const stopping = new AbortController();
    const cut = replayTables(
      parts({
        signal: stopping.signal,
        onProgress: ({ phase }) => {
          if (phase === 'rolling up') stopping.abort(new Error('cut off'));
        },
      }),
    );
    await expect(cut).rejects.toThrow('cut off');
    expect(await everything()).toEqual(before);
    expect(await strangers()).toEqual([]);
    // As after `kill -9`: the databases beside are still there, with rows that nobody wants.
    const names: string[] = [];
    await replayTables(
      parts({
        onProgress: ({ phase }) => {
          if (phase === 'swapping')
            void strangers().then((rows) => names.push(...(rows as { name: string }[]).map(({ name }) => name)));
        },
      }),
    );
    expect(names).toHaveLength(1);
    for (const name of [names[0]!, `${names[0]}_live`]) {
      await w.admin.command({ query: `CREATE DATABASE ${name}` });
      await w.admin.command({ query: `CREATE TABLE ${name}.shares_raw AS ${w.config.database}.shares_raw` });
      await w.admin.command({
        query: `INSERT INTO ${name}.shares_raw SELECT * REPLACE ('left' AS identity) FROM ${w.config.database}.shares_raw`,
      });
    }
    await replayTables(parts());
    expect(await everything()).toEqual(before);
    expect(await strangers()).toEqual([]);
  });

  test('a replay that is killed at any moment, amid the swap too, leaves every table whole, and consumers go on', async () => {
    fill(300);
    await consumed();
    const before = await everything();
    const file = join(w.dir.path, 'ckpool.conf');
    const { url, user, password } = w.config.clickhouse!;
    writeFileSync(
      file,
      JSON.stringify({ lodestream: { clickhouse: { url, user, password, database: w.config.database } } }),
    );
    const main = fileURLToPath(new URL('../../services/cli/main.ts', import.meta.url));
    for (const phase of ['reading', 'waiting for the consumers', 'swapping', 'swapping', 'swapping', 'removing']) {
      const child = spawn(process.execPath, [main, 'replay', '-c', file, '--data-dir', w.dir.path], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const ended = once(child, 'exit');
      let said = '';
      child.stderr.on('data', (data: Buffer) => {
        const first = !said.includes(`${phase}\n`) && !said.includes(`${phase}:`);
        said += data.toString();
        const now = said.includes(`${phase}\n`) || said.includes(`${phase}:`);
        if (first && now) setTimeout(() => child.kill('SIGKILL'), w.random(phase === 'swapping' ? 60 : 20));
      });
      await ended;
      expect(said, `killed while ${phase}`).toContain(phase);
      expect(await everything(), `killed while ${phase}`).toEqual(before);
    }
    await replayTables(parts());
    expect(await strangers()).toEqual([]);
    append(w.writers[0]!, sharesIn([shareOf(w.random, 30_000)]));
    await consumed();
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    expect(await select(`SELECT count() AS n FROM ${w.config.database}.shares`)).toEqual([{ n: '301' }]);
  });

  test('tables that were filled from Kafka are compared with the whole journal that was shipped to it', async () => {
    fill(100);
    await consumed();
    const state = new DatabaseSync(join(w.dir.path, 'state', 'consumers.sqlite'));
    state.exec('UPDATE positions SET position = rowid, partition = CAST(rowid AS TEXT)');
    state.close();
    const { same, tables } = await verifyTables(parts());
    // All but the one whose rows are named by their place.
    const compared = REPLAYED_TABLES.filter((table) => table !== 'dead_letters');
    expect(tables.map(({ table }) => table)).toEqual(compared);
    expect(same).toBe(true);
  });

  test('tables swapped in are there after the engine was killed and opened again', async () => {
    fill(100);
    const own = await startTestClickHouse();
    w.config = { ...configFor(w.dir.path, { url: own.url, user: 'writer', password: own.token }) };
    let back: TestClickHouse | undefined;
    const shared = w.admin;
    w.admin = clientOf(own);
    try {
      await consumed();
      await replayTables(parts());
      await own.stop({ signal: 'SIGKILL', keep: true });
      back = await startTestClickHouse({ dir: own.dir, token: own.token });
      w.config = { ...configFor(w.dir.path, { url: back.url, user: 'writer', password: back.token }) };
      expect(await verifyTables(parts())).toMatchObject({ same: true });
    } finally {
      await w.admin.close();
      w.admin = shared;
      await back?.stop();
    }
  });

  test('tables with shares that the log does not have are not swapped away', async () => {
    fill();
    await consumed();
    rmSync(join(w.dir.path, 'journal', 'ckpool'), { recursive: true });
    const failed = await replayTables(parts()).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 'replay_loss' });
    expect(await select(`SELECT count() AS n FROM ${w.config.database}.shares`)).toEqual([{ n: '600' }]);
    expect(await strangers()).toEqual([]);
  });

  test('dead letters that pass now become rows and leave the table, and the others stay', async () => {
    const shares = fill();
    const late = {
      ...shareOf(w.random, 1),
      accepted: true,
      errn: 0,
      diff: 3,
      time_us: Math.floor((START_US + 7200e6) / 60e6) * 60e6,
      worker: 'late.rig',
    };
    append(w.writers[0]!, [{ topic: 'share', event: late }]);
    await consumed();
    // As by a version that refused what is right.
    const { database } = w.config;
    const log = openLog();
    const { records } = await log.read('share', 'ckpool', null, { maxRecords: 10_000, waitMs: 0 });
    await log.close();
    const last = records.at(-1)!;
    for (const table of ['shares_raw', 'shares_1m_raw']) {
      await w.admin.command({ query: `DELETE FROM ${database}.${table} WHERE worker = 'late.rig'` });
    }
    await w.admin.command({
      query: `DELETE FROM ${database}.share_minutes WHERE minute = toDateTime(${Math.floor((START_US / 1e6 + 7200) / 60) * 60}, 'UTC')`,
    });
    await insertRows(w.admin, `${database}.dead_letters`, [
      {
        topic: 'share',
        partition: 'ckpool',
        position: last.position,
        instance: 'ckpool',
        run: last.run,
        sequence: last.sequence,
        fingerprint: last.fingerprint,
        reason: 'a late rig',
        body_hex: last.body.toString('hex'),
        ingest_time: ingestTime(),
      },
    ]);
    const letters = () =>
      select<{ reason: string }>(`SELECT reason FROM ${w.config.database}.dead_letters FINAL ORDER BY reason`);
    expect((await letters()).map(({ reason }) => reason)).toEqual(['a late rig', expect.stringContaining('NaN')]);
    expect(await verifyTables(parts())).toMatchObject({ same: false });
    expect(await replayLetters(parts())).toEqual({ letters: 2, passed: 1, gone: 0 });
    expect((await letters()).map(({ reason }) => reason)).toEqual([expect.stringContaining('NaN')]);
    expect(await select(`SELECT count() AS n FROM ${w.config.database}.shares`)).toEqual([
      { n: String(shares.length + 1) },
    ]);
    // Its minute is rolled up by who comes next; then all is as if it had passed the first time.
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    expect(await replayLetters(parts())).toEqual({ letters: 1, passed: 0, gone: 0 });
  });

  test('a copy that lost to a letter whose replay died right behind its insert keeps no minute, though a merge removed it and the letter comes again', async () => {
    const live = { ...shareOf(w.random, 1), accepted: true, errn: 0, reason: '', diff: 3, worker: 'late.rig' };
    const shares = fill();
    append(w.writers[1]!, sharesIn([{ ...backfilled(w.random, live), time_us: live.time_us + 300e6 }]));
    await consumed();
    const { database } = w.config;
    const minutes = () =>
      select<{ minute: string; accepted: string }>(
        `SELECT toString(minute) AS minute, toString(accepted) AS accepted FROM ${database}.shares_1m WHERE worker = 'late.rig' ORDER BY minute`,
      );
    const [old] = await minutes();
    expect(old).toMatchObject({ accepted: '1' });
    append(w.writers[0]!, sharesIn([live]));
    const log = openLog();
    const { records } = await log.read('share', 'ckpool', null, { maxRecords: 10_000, waitMs: 0 });
    await log.close();
    const { position, run, sequence, fingerprint, body } = records.at(-1)!;
    await insertRows(w.admin, `${database}.dead_letters`, [
      {
        topic: 'share',
        partition: 'ckpool',
        position,
        instance: 'ckpool',
        run,
        sequence,
        fingerprint,
        reason: 'a late rig',
        body_hex: body.toString('hex'),
        ingest_time: ingestTime(),
      },
    ]);
    // Dies where the rows are in and nothing was noted of them.
    const { finish } = ConsumerState.prototype;
    ConsumerState.prototype.finish = () => {
      throw new Error('died');
    };
    try {
      await expect(replayLetters(parts())).rejects.toThrow('died');
    } finally {
      ConsumerState.prototype.finish = finish;
    }
    await w.admin.command({ query: `OPTIMIZE TABLE ${database}.shares_raw FINAL` });
    // The consumers come to exactly the same record.
    await consumed();
    expect(await minutes()).toEqual([{ minute: expect.not.stringMatching(old!.minute), accepted: '1' }]);
    expect(await replayLetters(parts())).toMatchObject({ passed: 1 });
    await consumed();
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    expect(await select(`SELECT count() AS n FROM ${database}.shares`)).toEqual([{ n: String(shares.length + 1) }]);
  });

  test('of two replays of one data directory the second is refused, and consumers that do not step aside are named', async () => {
    fill(50);
    await consumed();
    const log = openLog();
    w.life.onStop('log', () => log.close());
    const consumers = await startConsumers(w.config, w.life, { log });
    await consumers.ready;
    const paths = openDataDir(w.dir.path);
    await expect(takeTurn(paths, new AbortController().signal, 300)).rejects.toThrow(
      /the state of the consumers is (held|already open)/,
    );
    await w.life.end();
    let second: unknown;
    await replayTables(
      parts({
        onProgress: ({ phase }) => {
          if (phase === 'swapping') second ??= replayTables(parts()).catch((error: unknown) => error);
        },
      }),
    );
    expect(await second).toMatchObject({ code: 'held' });
  });
});
