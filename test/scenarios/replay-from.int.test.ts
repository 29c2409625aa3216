/** `replay --from`: the months from one on are what a replay of everything makes of them, and no month before is touched. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Inputs } from '../../schemas/events.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { replayInto, replayTables, verifyTables } from '../../services/consumers/replay.ts';
import { startConsumersAside } from '../../services/consumers/replay-aside.ts';
import { monthOf } from '../../services/consumers/replay-months.ts';
import type { ReplayParts } from '../../services/consumers/replay-work.ts';
import { noClickHouse } from '../helpers/clickhouse.ts';
import { chainOf, numbered } from '../pipelines/blocks.ts';
import { shareOf, until } from '../services/consumers/world.ts';
import { backfilled, contract, jobOf, replayWorlds, sharesIn } from './replay-world.ts';

const BORDER_US = Date.UTC(2025, 10, 1) * 1000;
const HOUR_US = 3600e6;
const NOVEMBER = monthOf(BORDER_US / 1000);
const DECEMBER = monthOf(Date.UTC(2025, 11, 1));

describe.skipIf(noClickHouse !== undefined)('replay from a month on', { timeout: 900_000 }, () => {
  const w = replayWorlds('months');
  const { openLog, writer, append, select, mutate, everything, consumed } = w;
  let numbers = 0;
  beforeEach(() => {
    numbers = 0;
  });
  const parts = (more: Partial<ReplayParts> = {}): ReplayParts => w.parts({ from: NOVEMBER, ...more });

  /** A share received at `us` after the border; `ntimeUs`: of its work, else the same. */
  const shareAt = (us: number, ntimeUs = us, more: Partial<Inputs['share']> = {}): Inputs['share'] => ({
    ...shareOf(w.random, numbers++),
    time_us: BORDER_US + Math.floor(us) + w.random(1000),
    ntime: Math.floor((BORDER_US + ntimeUs) / 1e6).toString(16),
    ...more,
  });
  const good = { accepted: true, errn: 0, reason: '' };

  /** Shares of four months, most round the beginning of November, with all that can lie across it. @returns how many they are */
  function fill(): number {
    const pool = writer('ckpool');
    append(
      pool,
      Array.from({ length: 20 }, (_, n) => ({ topic: 'job', event: jobOf(n) })),
    );
    append(pool, [
      { topic: 'session', event: { kind: 'started', origin: 'ckpool', instance: 'ckpool', time_us: BORDER_US } },
    ]);
    const shares = [
      ...Array.from({ length: 100 }, () => shareAt(-1000 * HOUR_US + w.random(900 * 3600) * 1e6)),
      ...Array.from({ length: 400 }, () => {
        const us = (w.random(7200) - 3600) * 1e6;
        // The work is minutes older than the share, or its time is rolled on.
        return shareAt(us, us + (w.random(2400) - 1200) * 1e6);
      }),
      ...Array.from({ length: 100 }, () => shareAt(w.random(700 * 3600) * 1e6)),
      ...Array.from({ length: 50 }, () => shareAt(31 * 24 * HOUR_US + w.random(3600) * 1e6)),
      // No new work for ten hours: the node was away.
      ...Array.from({ length: 5 }, (_, n) => shareAt(1800e6 + n * 60e6, -8.5 * HOUR_US, good)),
    ];
    // One identity on both sides: of an hour before, received live before and in a back-fill behind, and the other way round.
    const early = shareAt(-2 * HOUR_US, -9.5 * HOUR_US, good);
    const late = shareAt(600e6, -9.5 * HOUR_US, good);
    append(pool, sharesIn([...shares, early, late]));
    append(pool, sharesIn(shares.slice(450, 500)));
    append(pool, [{ topic: 'share', event: { ...shares[0]!, diff: Number.NaN } }]);
    const filled = shares.filter(({ accepted }) => accepted).map((share) => backfilled(w.random, share));
    append(
      writer('ingest'),
      sharesIn([
        ...filled,
        { ...backfilled(w.random, early), time_us: BORDER_US + 900e6 },
        { ...backfilled(w.random, late), time_us: BORDER_US - 900e6 },
        // Winners that no live copy has.
        ...Array.from({ length: 50 }, () => backfilled(w.random, shareAt((w.random(7200) - 3600) * 1e6, 0, good))),
      ]),
    );
    append(
      writer('chain'),
      numbered(chainOf(0, 60, () => ({ bits: 0x1e1fffff }))).map((event) => ({ topic: 'block', event })),
    );
    append(writer('api'), [{ topic: 'contract', event: contract }]);
    return shares.length + 2 + 50;
  }

  /** Rows of the months, and of those before. */
  const ofMonths = (rows: Record<string, unknown[]>, before: boolean): Record<string, unknown[]> => {
    const column: Record<string, string> = { shares_raw: 'bucket', shares_1m_raw: 'minute', share_minutes: 'bucket' };
    return Object.fromEntries(
      Object.entries(rows)
        .filter(([table]) => table in column)
        .map(([table, all]) => [
          table,
          all.filter((row) => (row as Record<string, string>)[column[table]!]! < '2025-11-01' === before),
        ]),
    );
  };

  test('wrong, missing and additional rows of the months are mended, and of the months before no row and no file is touched', async () => {
    fill();
    await consumed();
    const before = await everything();
    for (const table of ['shares_raw', 'shares_1m_raw']) {
      for (const old of [true, false]) expect(ofMonths(before, old)[table]!.length, table).toBeGreaterThan(50);
    }
    const { database } = w.config;
    // What is in doubt, and what is wrong before and stays so.
    const wrongIn = async (table: string, condition: string): Promise<void> => {
      await mutate(`ALTER TABLE ${database}.${table} UPDATE address = 'wrong' WHERE ${condition}`);
    };
    await wrongIn('shares_raw', 'bucket < toDateTime(1761955200 - 86400)');
    await wrongIn('shares_raw', "bucket >= toDateTime(1761955200) AND worker LIKE 'user0%'");
    await w.admin.command({ query: `DELETE FROM ${database}.shares_raw WHERE bucket = toDateTime(1761955200)` });
    await w.admin.command({
      query: `INSERT INTO ${database}.shares_raw SELECT * REPLACE ('more' AS identity) FROM ${database}.shares_raw WHERE bucket > toDateTime(1761955200) LIMIT 1`,
    });
    await w.admin.command({ query: `ALTER TABLE ${database}.shares_1m_raw DROP PARTITION 202512` });
    await w.admin.command({ query: `DELETE FROM ${database}.jobs_raw WHERE job_key = 'ckpool/7'` });
    for (const table of ['shares_raw', 'shares_1m_raw']) {
      await w.admin.command({ query: `OPTIMIZE TABLE ${database}.${table} FINAL` });
    }
    const files = () =>
      select(
        `SELECT table, name FROM system.parts WHERE active AND database = '${database}' AND table = 'shares_raw' AND partition < '202511' ORDER BY ALL`,
      );
    const old = { rows: ofMonths(await everything(), true), files: await files() };
    const found = await verifyTables(parts());
    expect(found.tables.filter(({ same }) => !same).map(({ table }) => table)).toEqual([
      'jobs_raw',
      'shares_raw',
      'shares_1m_raw',
    ]);

    const summary = await replayTables(parts());
    expect(summary.from).toBe('2025-11');
    const after = await everything();
    expect(ofMonths(after, false)).toEqual(ofMonths(before, false));
    expect(ofMonths(after, true)).toEqual(old.rows);
    expect(await files()).toEqual(old.files);
    for (const table of Object.keys(before).filter((name) => !['shares_raw', 'shares_1m_raw'].includes(name))) {
      expect(after[table], table).toEqual(before[table]);
    }
    expect(await verifyTables(parts())).toMatchObject({ same: true, from: '2025-11' });
    const whole = await verifyTables({ ...parts(), from: undefined! });
    expect(whole.tables.filter(({ same }) => !same).map(({ table }) => table)).toEqual(['shares_raw']);
    // Consumers go on where they were.
    append(w.writers[0]!, sharesIn([shareAt(5 * HOUR_US, 0, good)]));
    await consumed();
    expect(await verifyTables(parts())).toMatchObject({ same: true });
  });

  test('a minute before the months that has shares of them follows what the replay makes of these', async () => {
    const pool = writer('ckpool');
    append(writer('api'), [{ topic: 'contract', event: contract }]);
    append(
      writer('chain'),
      numbered(chainOf(0, 60, () => ({ bits: 0x1e1fffff }))).map((event) => ({ topic: 'block', event })),
    );
    append(
      pool,
      sharesIn(Array.from({ length: 5 }, () => shareAt(-90e6, 60e6, { ...good, diff: 3, worker: 'w', user: 'w' }))),
    );
    await consumed();
    const minute = () =>
      select(`SELECT worker, toUInt32(accepted) AS accepted FROM ${w.config.database}.shares_1m ORDER BY worker`);
    expect(await minute()).toEqual([{ worker: 'w', accepted: 5 }]);
    await w.admin.command({
      query: `INSERT INTO ${w.config.database}.shares_raw SELECT * REPLACE ('${'ab'.repeat(32)}' AS identity, 'stranger' AS worker) FROM ${w.config.database}.shares_raw LIMIT 1`,
    });
    await mutate(`ALTER TABLE ${w.config.database}.shares_1m_raw UPDATE accepted = 6 WHERE 1`);
    await replayTables(parts());
    expect(await minute()).toEqual([{ worker: 'w', accepted: 5 }]);
    expect(await verifyTables({ ...parts(), from: undefined! })).toMatchObject({ same: true });
  });

  test('into a database: only the months, with the minutes that a replay of everything gives them', async () => {
    fill();
    await consumed();
    const before = await everything();
    const name = `${w.config.database}_other`;
    await replayInto(parts(), name);
    const other = await everything(name);
    expect(other.shares_1m_raw).toEqual(ofMonths(before, false).shares_1m_raw);
    expect(ofMonths(other, false)).toEqual(ofMonths(before, false));
    // Of months before only hours in which a share of the first minutes lies.
    const hours = await select<{ hour: number }>(
      `SELECT DISTINCT toHour(bucket) AS hour FROM ${name}.shares_raw WHERE bucket < toDateTime(1761955200) AND hour < 21 ORDER BY hour`,
    );
    expect(hours).toEqual([{ hour: 14 }, { hour: 15 }]);
    for (const table of ['jobs_raw', 'sessions_raw', 'block_events_raw', 'epochs_raw', 'payouts_raw', 'dead_letters']) {
      expect(other[table], table).toEqual(before[table]);
    }
    // Again, where it is all there; and consumers started there read what is missing.
    await replayInto(parts(), name);
    expect(await everything(name)).toEqual(other);
    const moved = { ...w.config, database: name };
    const log = openLog();
    w.life.onStop('log', () => log.close());
    const consumers = await startConsumers(moved, w.life, { log });
    await consumers.ready;
    await until('all shares', async () => {
      const [row] = await select<{ n: string; counted: string }>(
        `SELECT (SELECT count() FROM ${name}.shares) AS n, (SELECT sum(m.accepted + m.refused) FROM ${name}.shares_1m AS m) AS counted`,
      );
      return row!.n === String(before.shares_raw!.length) && row!.counted === row!.n ? true : undefined;
    });
    expect((await everything(name)).shares_1m_raw).toEqual(before.shares_1m_raw);
  });

  test('beside running consumers nothing of what arrives meanwhile is lost, in whichever month', async () => {
    const distinct = fill();
    const log = openLog();
    w.life.onStop('log', () => log.close());
    await startConsumersAside(w.config, w.life, { log });
    const count = async () =>
      Number((await select<{ n: string }>(`SELECT count() AS n FROM ${w.config.database}.shares`))[0]!.n);
    await until('the shares', async () => ((await count()) === distinct ? true : undefined));
    let appended = 0;
    const feed = setInterval(() => {
      const some = Array.from({ length: 10 }, () => shareAt((w.random(4 * 3600) - 2 * 3600) * 1e6, 0, good));
      append(w.writers[0]!, sharesIn(some));
      appended += some.length;
    }, 20);
    try {
      expect((await replayTables(parts())).aside_s).toBeGreaterThan(0);
    } finally {
      clearInterval(feed);
    }
    await until('what arrived meanwhile', async () => {
      expect(await count()).toBe(distinct + appended);
      return true;
    });
    expect(appended).toBeGreaterThan(20);
    expect(await verifyTables({ ...parts(), from: undefined! })).toMatchObject({ same: true });
    expect(w.life.lines.filter((line) => line.startsWith('stop'))).toEqual([]);
  });

  test('killed at any moment each month is whole, as it was or as it was made, and the next replay mends the rest', async () => {
    fill();
    await consumed();
    const before = await everything();
    const { database } = w.config;
    const file = join(w.dir.path, 'ckpool.conf');
    const { url, user, password } = w.config.clickhouse!;
    writeFileSync(file, JSON.stringify({ lodestream: { clickhouse: { url, user, password, database } } }));
    const main = fileURLToPath(new URL('../../services/cli/main.ts', import.meta.url));
    for (const phase of ['reading', 'rolling up', 'swapping', 'swapping', 'swapping', 'removing']) {
      await mutate(
        `ALTER TABLE ${database}.shares_raw UPDATE address = 'wrong' WHERE bucket >= toDateTime(1761955200)`,
      );
      const child = spawn(
        process.execPath,
        [main, 'replay', '--from', '2025-11-20', '-c', file, '--data-dir', w.dir.path],
        {
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      );
      const ended = once(child, 'exit');
      let said = '';
      child.stderr.on('data', (data: Buffer) => {
        const first = !said.includes(phase);
        said += data.toString();
        if (first && said.includes(phase))
          setTimeout(() => child.kill('SIGKILL'), w.random(phase === 'swapping' ? 80 : 20));
      });
      await ended;
      expect(said, `killed while ${phase}`).toContain(phase);
      const months = await select<{ month: string; wrong: string; all: string }>(
        `SELECT toYYYYMM(bucket) AS month, countIf(address = 'wrong') AS wrong, count() AS all FROM ${database}.shares_raw FINAL GROUP BY month ORDER BY month`,
      );
      for (const { month, wrong, all } of months) {
        expect(Number(month) >= 202511 ? ['0', all] : ['0'], `${month}, killed while ${phase}`).toContain(wrong);
      }
      expect(months.map(({ all }) => all).reduce((sum, n) => sum + Number(n), 0)).toBe(before.shares_raw!.length);
      expect(ofMonths(await everything(), true)).toEqual(ofMonths(before, true));
    }
    await replayTables(parts());
    expect(await everything()).toEqual(before);
    append(w.writers[0]!, sharesIn([shareAt(5 * HOUR_US, 0, good), shareAt(-5 * HOUR_US, 0, good)]));
    await consumed();
    expect(await verifyTables({ ...parts(), from: undefined! })).toMatchObject({ same: true });
  });

  test('what the log does not have is kept before the months, and keeps a replay from swapping within them', async () => {
    fill();
    await consumed();
    const { database } = w.config;
    const stranger = (bucketS: number) =>
      w.admin.command({
        query: `INSERT INTO ${database}.shares_raw SELECT * REPLACE ('stranger' AS origin, toDateTime(${bucketS}, 'UTC') AS bucket) FROM ${database}.shares_raw LIMIT 1`,
      });
    const count = () => select(`SELECT count() AS n FROM ${database}.shares WHERE origin = 'stranger'`);
    await stranger(NOVEMBER.fromS - 3600);
    await replayTables(parts());
    expect(await count()).toEqual([{ n: '1' }]);
    await stranger(NOVEMBER.fromS + 3600);
    await expect(replayTables(parts())).rejects.toMatchObject({ code: 'replay_loss' });
    expect(await count()).toEqual([{ n: '2' }]);
    await replayTables(parts({ from: DECEMBER }));
    expect(await count()).toEqual([{ n: '2' }]);
    // A month that is the stranger's alone goes too where that is asked for.
    await stranger(NOVEMBER.fromS + 70 * 86_400);
    await replayTables(parts(), { allowLoss: true });
    expect(await count()).toEqual([{ n: '1' }]);
  });

  test('rows that replace those of a replay later are newer, however many versions the replay made', async () => {
    fill();
    await consumed();
    const { database } = w.config;
    for (const from of [NOVEMBER, undefined]) {
      await w.admin.command({ query: `TRUNCATE TABLE ${database}.version_ticks` });
      await replayTables({ ...parts(), from: from! });
      const [versions] = await select<{ behind: number }>(
        `SELECT (SELECT sum(ingest_ticks) FROM ${database}.version_ticks) < max(ingest_version) AS behind
          FROM ${database}.shares_1m_raw WHERE minute >= toDateTime(1761955200)`,
      );
      expect(versions).toEqual({ behind: 0 });
    }
  });

  test('where a table is gone, or the consumers have never filled this ClickHouse, only a replay of everything is right', async () => {
    fill();
    await expect(replayTables(parts())).rejects.toThrow(/was not filled by the consumers/);
    await consumed();
    await w.admin.command({ query: `DROP TABLE ${w.config.database}.epochs_raw` });
    await expect(replayTables(parts())).rejects.toThrow(/epochs_raw is gone: only a replay of all months/);
    await replayTables({ ...parts(), from: undefined! });
    expect(await verifyTables(parts())).toMatchObject({ same: true });
    rmSync(join(w.dir.path, 'state', 'consumers.sqlite'));
    await expect(replayTables(parts())).rejects.toThrow(/was not filled by the consumers/);
  });
});
