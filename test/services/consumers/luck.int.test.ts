import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { keepParts } from '../../../services/consumers/instant-parts.ts';
import { startConsumers } from '../../../services/consumers/main.ts';
import { statementsOf } from '../../../services/consumers/migrations.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { chainOf, newSeed, numbered, randomFrom } from '../../pipelines/blocks.ts';
import { configFor, randomHex, shareOf, type TestLife, tempDir, testLife, until } from './world.ts';

/** Now, in whole seconds in the middle of a minute, so that few minutes pass while this runs. */
const NOW_S = Math.floor(Date.now() / 60_000) * 60;
const DAY_S = 86_400;
/** The playground: W = 2^32, B = 24, difficulty 1 at 1d00ffff. */
const W = 2 ** 32;

describe.skipIf(noClickHouse !== undefined)('hashrates, effort and luck in SQL', { timeout: 360_000 }, () => {
  let ch: TestClickHouse;
  let reader: ClickHouseClient;
  const dir = tempDir();
  let life: TestLife = testLife();
  const seed = newSeed();
  const random = randomFrom(seed);

  const shares: Inputs['share'][] = [];
  const add = (origin: string, user: string, worker: string, timeS: number, diff: number, accepted = true): void => {
    const share = shareOf(random, 0);
    const timeUs = timeS * 1e6 + random(1_000_000);
    const bits = randomHex(random, 64);
    shares.push({
      ...share,
      origin,
      user,
      worker,
      time_us: timeUs,
      diff,
      accepted,
      errn: accepted ? 0 : 5,
      reason: accepted ? '' : 'x',
      hash: bits,
      ntime: Math.floor(timeS).toString(16),
    });
  };
  // Two origins that must not be added, one of eight days; a worker that stopped two hours ago, one eight days ago.
  for (let s = NOW_S - 8 * DAY_S; s < NOW_S + 30; s += 300 + random(1200))
    add('ckpool', 'alice', 'alice.a', s, 1 + random(4));
  for (let s = NOW_S - 3 * DAY_S; s < NOW_S - 7200; s += 900) add('ckpool', 'alice', 'alice.b', s, 2);
  for (let s = NOW_S - 3600; s < NOW_S + 30; s += 7) add('ckpool', 'bob', 'bob', s, 0.0001, random(5) > 0);
  for (let s = NOW_S - 1800; s < NOW_S + 30; s += 20) add('ckproxy', 'carol', 'carol', s, 8);
  add('ckpool', 'dave', 'dave', NOW_S - 8 * DAY_S + 10, 1000);

  // 60 blocks, one in ten minutes and the last an hour ago; some are ours, some in one minute.
  const timeOf = (height: number): number => NOW_S - 3600 - (60 - height) * 600 + (height % 7) * 40;
  const blocks = numbered(chainOf(0, 60, (height) => ({ timeS: timeOf(height), ours: height % 4 === 0 })));
  const ours = blocks.filter(({ ours: yes, height }) => yes && height > 0);
  /** When each was found; two of them within a minute. */
  const foundUs = new Map(
    ours.map(({ hash, height }) => [hash, height === 44 ? (timeOf(40) + 7) * 1e6 + 5 : timeOf(height) * 1e6 + 123_456]),
  );

  async function select<Row>(query: string): Promise<Row[]> {
    return (await reader.query({ query, format: 'JSONEachRow' })).json<Row>();
  }

  async function start(): Promise<void> {
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    life.onStop('log', () => log.close());
    const consumers = await startConsumers(
      configFor(dir.path, { url: ch.url, user: ch.user, password: ch.token }),
      life,
      { log },
    );
    await consumers.ready;
  }

  beforeAll(async () => {
    ch = await startTestClickHouse();
    reader = ch.reader;
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'ckpool' });
    const job: Inputs['job'] = {
      ...{
        origin: 'ckpool',
        instance: 'ckpool',
        time_us: NOW_S * 1e6,
        job_id: '68f0a1b200000001',
        job_key: 'ckpool/1',
      },
      ...{
        chain: 'playground',
        pow: 'sha256d',
        height: 61,
        prev_hash: '0'.repeat(64),
        coinbase1: '01',
        coinbase2: '02',
      },
      ...{ enonce1_bytes: 4, nonce2_bytes: 8, merkle_branch: [], version: '20000000', version_mask: '1fffe000' },
      ...{ nbits: '1d00ffff', ntime: '68f0a1b2', clean: true, network_diff: 4 },
    };
    writer.append([
      { topic: 'job', event: job },
      { topic: 'job', event: { ...job, origin: 'ckproxy', job_key: 'ckproxy/1' } },
    ]);
    const answers = (answer: string) => [{ node: 'n', answer, time_us: NOW_S * 1e6 }];
    const solved = (block: (typeof blocks)[number], answer: string, timeUs: number): Inputs['block'] => ({
      ...block,
      ...{ kind: 'solved', follower: '', chain_seq: 0, origin: 'ckpool', instance: 'ckpool', time_us: timeUs },
      ...{ user: 'alice', worker: 'alice.a', diff: 1, sdiff: 2, answers: answers(answer), ours: true },
    });
    writer.append(blocks.map((event) => ({ topic: 'block', event })));
    writer.append(
      ours.map((block) => ({ topic: 'block', event: solved(block, 'accepted', foundUs.get(block.hash)!) })),
    );
    // One that every node refused: no block, it ends no search. One that lost the race: a block.
    const [refused, orphan] = [
      chainOf(33, 33, () => ({ branch: 'refused' }))[0]!,
      chainOf(34, 34, () => ({ branch: 'orphan' }))[0]!,
    ];
    writer.append([
      { topic: 'block', event: solved(refused, 'bad-txnmrklroot', (timeOf(33) + 1) * 1e6) },
      { topic: 'block', event: solved(orphan, 'inconclusive', (timeOf(34) + 1) * 1e6) },
    ]);
    ours.push({ ...orphan, height: 34 });
    foundUs.set(orphan.hash, (timeOf(34) + 1) * 1e6);
    for (let i = 0; i < shares.length; i += 500)
      writer.append(shares.slice(i, i + 500).map((event) => ({ topic: 'share', event })));
    writer.close();
    await start();
    await until('all shares rolled up, blocks derived', async () => {
      const [row] = await select<{ n: string }>('SELECT toString(sum(accepted + refused)) AS n FROM shares_1m');
      expect(row!.n).toBe(String(shares.length));
      expect(await select('SELECT count() AS n FROM epochs')).toEqual([{ n: 3 }]);
      return true;
    });
  });
  afterAll(async () => {
    await life.end();
    await ch?.stop();
    dir.remove();
  });

  const sumOf = (origin: string, keep: (share: Inputs['share']) => boolean): number =>
    shares
      .filter((share) => share.accepted && share.origin === origin && keep(share))
      .reduce((sum, { diff }) => sum + diff, 0);

  test('over seven windows up to the last full minute, of pool, user and worker; who has stopped falls to 0; a restart changes nothing', async () => {
    interface Now {
      origin: string;
      level: string;
      user: string;
      worker: string;
      window: string;
      window_s: number;
      hashrate_hps: number;
      hashrate_low_hps: number;
      hashrate_high_hps: number;
      until: number;
    }
    const ask = () =>
      select<Now>("SELECT *, toUnixTimestamp(toStartOfMinute(now('UTC'))) AS until FROM hashrate_now ORDER BY ALL");
    const compare = (rows: Now[]): void => {
      expect([...new Set(rows.map(({ window, window_s }) => `${window} ${window_s}`))].sort()).toEqual(
        ['1m 60', '5m 300', '15m 900', '1h 3600', '6h 21600', '1d 86400', '7d 604800'].sort(),
      );
      for (const row of rows) {
        const inside = (share: Inputs['share']): boolean =>
          share.time_us >= (row.until - row.window_s) * 1e6 &&
          share.time_us < row.until * 1e6 &&
          (row.level === 'pool' || share.user === row.user) &&
          (row.level !== 'worker' || share.worker === row.worker);
        const of = shares.filter((share) => share.accepted && share.origin === row.origin && inside(share));
        const diff = of.reduce((sum, share) => sum + share.diff, 0);
        const spread = 1.96 * Math.sqrt(of.reduce((sum, share) => sum + share.diff ** 2, 0));
        const rate = (work: number): number => (work * W) / row.window_s;
        const name = `seed ${seed} ${row.origin} ${row.level} ${row.worker} ${row.window}`;
        const near = (a: number, b: number) =>
          expect(Math.abs(a - b), name).toBeLessThanOrEqual(1e-9 * Math.abs(b) + 1e-6);
        near(row.hashrate_hps, rate(diff));
        near(row.hashrate_low_hps, rate(Math.max(0, diff - spread)));
        near(row.hashrate_high_hps, rate(diff + spread));
      }
    };
    const rows = await ask();
    compare(rows);
    const who = (level: string) => [
      ...new Set(rows.filter((row) => row.level === level).map((row) => row.worker || row.user)),
    ];
    // dave's last share is eight days old.
    expect(who('worker').sort()).toEqual(['alice.a', 'alice.b', 'bob', 'carol']);
    expect(rows.filter(({ level }) => level === 'pool')).toHaveLength(14);
    const stopped = rows.filter((row) => row.level === 'worker' && row.worker === 'alice.b');
    expect(
      stopped
        .filter((row) => row.hashrate_hps === 0)
        .map((row) => row.window)
        .sort(),
    ).toEqual(['15m', '1h', '1m', '5m']);
    await life.end();
    life = testLife();
    await start();
    const again = await ask();
    compare(again);
    if (again[0]!.until === rows[0]!.until) expect(again).toEqual(rows);
  });

  test('effort is the work since our block before over the difficulty, to the share; luck is its inverse, also over ten and a hundred', async () => {
    const rows = await select<{
      height: number;
      hash: string;
      status: string;
      diff: string;
      effort: number;
      luck: number | null;
      luck_10: number | null;
      luck_100: number | null;
    }>(
      'SELECT height, hash, status, toString(diff) AS diff, effort, luck, luck_10, luck_100 FROM block_luck ORDER BY found_time, height',
    );
    const order = [...ours].sort((a, b) => foundUs.get(a.hash)! - foundUs.get(b.hash)! || a.height - b.height);
    expect(rows.map(({ hash }) => hash)).toEqual(order.map(({ hash }) => hash));
    expect(rows.find(({ height }) => height === 34)).toMatchObject({ status: 'solved' });
    let before = 0;
    const efforts: number[] = [];
    for (const [i, row] of rows.entries()) {
      const at = foundUs.get(row.hash)!;
      const work = sumOf('ckpool', ({ time_us }) => time_us > before && time_us <= at);
      expect(Number(row.diff), `seed ${seed} block ${row.height}`).toBeCloseTo(work, 6);
      efforts.push(work);
      expect(row.effort).toBeCloseTo(work, 6);
      if (work > 0) expect(row.luck).toBeCloseTo(1 / work, 6);
      else expect(row.luck).toBeNull();
      const mean = (n: number): number => {
        const some = efforts.slice(Math.max(0, i + 1 - n));
        return some.length / some.reduce((sum, each) => sum + each, 0);
      };
      if (i > 0) {
        expect(row.luck_10).toBeCloseTo(mean(10), 6);
        expect(row.luck_100).toBeCloseTo(mean(100), 6);
      }
      before = at;
    }
    const [now] = await select<{ diff: string; effort: number; since: string; chance: number }>(
      "SELECT toString(diff) AS diff, effort, since, chance FROM effort_now WHERE origin = 'ckpool'",
    );
    const work = sumOf('ckpool', ({ time_us }) => time_us > before);
    expect(Number(now!.diff)).toBeCloseTo(work, 6);
    expect(now!.effort).toBeCloseTo(work / 4, 6);
    expect(now!.chance).toBeCloseTo(1 - Math.exp(-work / 4), 6);
    // Who has found none yet: since its first share.
    expect(await select("SELECT since, effort FROM effort_now WHERE origin = 'ckproxy'")).toEqual([
      { since: null, effort: sumOf('ckproxy', () => true) / 4 },
    ]);
    expect(await select("SELECT count() AS n FROM block_luck WHERE origin = 'ckproxy'")).toEqual([{ n: 0 }]);
  });

  test('luck of an epoch: blocks found at its heights over blocks that the shares between its borders gave to expect', async () => {
    const rows = await select<{ epoch: number; diff: string; expected: number; found: string; luck: number | null }>(
      "SELECT epoch, toString(diff) AS diff, expected, toString(found) AS found, luck FROM epoch_luck WHERE origin = 'ckpool' ORDER BY epoch",
    );
    expect(rows.map(({ epoch }) => epoch)).toEqual([0, 1, 2]);
    for (const { epoch, diff, expected, found, luck } of rows) {
      const [from, to] = [epoch, epoch + 1].map((n) =>
        n * 24 <= 60 ? timeOf(n * 24) * 1e6 : Number.POSITIVE_INFINITY,
      );
      const work = sumOf('ckpool', ({ time_us }) => time_us > from! && time_us <= to!);
      expect(Number(diff), `seed ${seed} epoch ${epoch}`).toBeCloseTo(work, 6);
      expect(expected).toBeCloseTo(work, 6);
      const count = ours.filter(({ height }) => Math.floor(height / 24) === epoch).length;
      expect(Number(found)).toBe(count);
      if (work > 0) expect(luck).toBeCloseTo(count / work, 6);
    }
  });

  test('what is kept of minutes changes no figure: the views that read all shares of them say the same, also after a late share', async () => {
    // The definitions before instant_parts_raw, under other names.
    const names = ['found_blocks', 'found_instants', 'diff_until', 'block_luck', 'epoch_luck'];
    const plain = new Map<string, string>();
    for (const file of ['0013_hashrates_luck.sql', '0014_luck_cheaper.sql']) {
      for (const statement of statementsOf(readFileSync(`schemas/clickhouse/${file}`, 'utf8'))) {
        const name = /^CREATE .*VIEW (?:IF NOT EXISTS )?(\w+)/m.exec(statement)?.[1] ?? '';
        if (names.includes(name)) {
          plain.set(name, statement.replace(new RegExp(`\\b(${names.join('|')})\\b(?!\\.)`, 'g'), 'plain_$1'));
        }
      }
    }
    for (const name of names) await ch.writer.command({ query: plain.get(name)! });
    const same = async (when: string): Promise<void> => {
      const orders = { diff_until: 'origin, at', block_luck: 'found_time, hash', epoch_luck: 'origin, epoch' };
      for (const [view, order] of Object.entries(orders)) {
        const rows = await select(`SELECT * FROM ${view} ORDER BY ${order}`);
        expect(rows.length).toBeGreaterThan(2);
        expect(rows, `seed ${seed} ${view} ${when}`).toEqual(
          await select(`SELECT * FROM plain_${view} ORDER BY ${order}`),
        );
      }
    };
    const parts = async (): Promise<number> =>
      Number((await select<{ n: string }>('SELECT count() AS n FROM instant_parts'))[0]!.n);
    await same('before');
    while ((await keepParts(ch.writer)).kept > 0);
    const kept = await parts();
    expect(kept).toBe(Number((await select<{ n: string }>('SELECT count() AS n FROM instants'))[0]!.n));
    await same('with all parts kept');

    // Shares that come late for the minute in which two blocks were found: one before both, one between, one after.
    const [first, second] = [40, 44].map((height) => foundUs.get(blocks[height]!.hash)!);
    const late = [first! - 5, second! - 1, second! + 1].map((time_us, i) => {
      const hash = randomHex(random, 64);
      const ntime = Math.floor(time_us / 1e6).toString(16);
      const share = { ...shareOf(random, 0), origin: 'ckpool', user: 'eve', worker: 'eve', time_us, diff: 2 ** i };
      return { ...share, accepted: true, errn: 0, reason: '', hash, ntime };
    });
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'ckpool' });
    writer.append(late.map((event) => ({ topic: 'share', event })));
    writer.close();
    shares.push(...late);
    await until('the late shares are in their minute', async () => {
      expect(await select("SELECT toUInt32(sum(accepted)) AS n FROM shares_1m WHERE worker = 'eve'")).toEqual([
        { n: 3 },
      ]);
      return true;
    });
    await until('and what was kept of it is forgotten', async () => (await parts()) < kept);
    await same('with late shares');
    while ((await keepParts(ch.writer)).kept > 0);
    await same('with late shares and all parts kept');
  });

  test('minutes that are not rolled up yet make no search less than nothing', async () => {
    await life.end();
    await ch.writer.command({ query: 'TRUNCATE TABLE shares_1m_raw' });
    const efforts = await select<{ effort: number }>('SELECT effort FROM effort_now');
    expect(efforts).toHaveLength(2);
    for (const { effort } of efforts) expect(effort).toBeGreaterThanOrEqual(0);
  });
});
