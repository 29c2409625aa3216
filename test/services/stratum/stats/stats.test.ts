import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { rateFromSuffix } from '../../../../schemas/rate-suffix.ts';
import { Rates } from '../../../../services/stratum/stats/rates.ts';
import {
  Stats,
  type StatsStore,
  type UserAccount,
  type WorkerAccount,
} from '../../../../services/stratum/stats/stats.ts';
import { suffixText } from '../../../../services/stratum/stats/suffix.ts';
import type { Changes, WorkerChange } from '../../../../services/stratum/stats/tally.ts';
import { decay } from '../../../../services/stratum/vardiff.ts';

const START_MS = 1_795_327_660_000;
const W = 2 ** 32;

function change(of: Partial<WorkerChange> & { worker: string }): WorkerChange {
  return {
    user: of.worker.split('.')[0]!,
    diff: 0,
    shares_count: 0,
    best_sdiff: 0,
    last_share_ms: 0,
    connections: 1,
    started_ms: START_MS,
    authorized_ms: START_MS,
    agent: 'miner/1',
    ...of,
  };
}

function changes(workers: readonly WorkerChange[] = [], of: Partial<Changes> = {}): Changes {
  return { workers, refused_diff: 0, refused_count: 0, idle: 0, resumable: 0, ...of };
}

/** A store in memory, as the files are. */
function store(): StatsStore & {
  readonly users: Map<string, UserAccount>;
  readonly workers: Map<string, WorkerAccount>;
} {
  const users = new Map<string, UserAccount>();
  const workers = new Map<string, WorkerAccount>();
  return {
    users,
    workers,
    load: (name) => users.get(name) ?? null,
    loadWorker: (name) => workers.get(name) ?? null,
    save: (user) => {
      user.storedMs = START_MS;
      users.set(user.name, user);
    },
    saveWorker: (worker) => void workers.set(worker.name, worker),
  };
}

describe('averages', () => {
  test("are CKPool's formula at each step", () => {
    const rates = new Rates([60, 3_600], START_MS);
    let [minute, hour] = [0, 0];
    for (let i = 1; i <= 100; i++) {
      rates.add(i);
      rates.decayTo(START_MS + i * 1_875);
      minute = decay(minute, i, 1.875, 60);
      hour = decay(hour, i, 1.875, 3_600);
    }
    expect(rates.values[0]).toBeCloseTo(minute, 9);
    expect(rates.values[1]).toBeCloseTo(hour, 9);
  });

  test('a pause of an hour takes away what 60 minutes without shares do', () => {
    const [paused, running] = [
      new Rates([60, 3_600], START_MS, [1e6, 1e6]),
      new Rates([60, 3_600], START_MS, [1e6, 1e6]),
    ];
    paused.decayTo(START_MS + 3_600_000);
    for (let i = 1; i <= 60; i++) running.decayTo(START_MS + i * 60_000);
    expect(paused.values[0]! / running.values[0]!).toBeCloseTo(1, 6);
    expect(paused.values[1]! / running.values[1]!).toBeCloseTo(1, 6);
    expect(paused.values[0]).toBeLessThan(1e-6);
    expect(paused.values[1]).toBeLessThan(4e5);
  });

  test('a clock that is set back neither loses shares nor makes rates of them', () => {
    const rates = new Rates([60], START_MS);
    rates.add(60);
    rates.decayTo(START_MS - 10_000);
    expect(rates.values[0]).toBe(0);
    rates.decayTo(START_MS - 9_000);
    expect(rates.values[0]).toBeGreaterThan(0);
  });
});

/** The shares that the recorded ckproxy wrote, in order, and the lines of its main log. */
function recordedProxy(): {
  shares: { ms: number; diff: number; sdiff: number; worker: string; user: string }[];
  log: string;
} {
  const root = fileURLToPath(new URL('../../../fixtures/ckpool/testnet-proxy/logs/', import.meta.url));
  const shares = readdirSync(join(root, '00000003'))
    .flatMap((file) =>
      gunzipSync(readFileSync(join(root, '00000003', file)))
        .toString()
        .trim()
        .split('\n'),
    )
    .map((line) => JSON.parse(line))
    .map((share) => {
      const [s, ns] = share.createdate.split(',').map(Number);
      return {
        ms: s * 1_000 + ns / 1e6,
        diff: share.diff,
        sdiff: share.sdiff,
        worker: share.workername,
        user: share.username,
      };
    })
    .sort((a, b) => a.ms - b.ms);
  return { shares, log: readFileSync(join(root, 'ckproxy.log'), 'utf8') };
}

describe('the 6,756 shares of the recorded proxy', () => {
  const { shares, log } = recordedProxy();
  const minutes = [
    ...log.matchAll(/Pool:(\{"runtime": (\d+), "lastupdate": (\d+).*)\n.*Pool:(.*)\n.*Pool:(.*)\n/g),
  ].map(([, , runtime, at, rates, sums]) => ({
    runtime: Number(runtime),
    ms: Number(at) * 1_000,
    rates: JSON.parse(rates!) as Record<string, string>,
    sums: JSON.parse(sums!) as Record<string, number>,
  }));

  test('give the averages and sums that CKProxy printed each minute, within 1 percent', () => {
    expect(minutes.length).toBe(8);
    const startMs = minutes[0]!.ms - 1_000;
    const stats = new Stats({ nowMs: startMs });
    let [next, compared] = [0, 0];
    // CKPool moves the pool's averages every 1.875 s.
    for (let tick = 1; tick <= 32 * 7; tick++) {
      const now = startMs + tick * 1_875;
      const workers = new Map<string, WorkerChange>();
      for (; next < shares.length && shares[next]!.ms <= now; next++) {
        const { worker, user, diff, sdiff, ms } = shares[next]!;
        const before = workers.get(worker) ?? change({ worker, user, authorized_ms: ms, started_ms: ms });
        workers.set(worker, {
          ...before,
          diff: before.diff + diff,
          shares_count: before.shares_count + 1,
          best_sdiff: Math.max(before.best_sdiff, sdiff),
          last_share_ms: ms,
        });
      }
      stats.absorb(changes([...workers.values()]), now);
      stats.tick(now);
      const minute = minutes.find(({ runtime }) => runtime === (tick * 1_875) / 1_000);
      if (minute === undefined) continue;
      compared += 1;
      const pool = stats.pool();
      const near = (ours: number, theirs: number): void => {
        expect(Math.abs(ours / theirs - 1), `${ours} and ${theirs} after ${minute.runtime} s`).toBeLessThan(0.01);
      };
      for (const [i, key] of Object.keys(minute.rates).entries())
        near(pool.dsps[i]! * W, rateFromSuffix(minute.rates[key]!)!);
      for (const [i, key] of ['SPS1m', 'SPS5m', 'SPS15m', 'SPS1h'].entries()) near(pool.sps[i]!, minute.sums[key]!);
      near(pool.accepted, minute.sums.accepted!);
      expect(pool.acceptedCount / minute.sums.accepted_count!).toBeCloseTo(1, 1);
    }
    expect(compared).toBe(7);
    expect(next).toBe(6_756);
    const user = stats.users.get('rigname2')!;
    expect(user.shares).toBeCloseTo(0.1689999999999895, 10);
    expect(user.bestEver).toBeCloseTo(0.8934903923219851, 12);
    // The user line of its last share's minute.
    expect(suffixText(stats.users.get('mjkahjGpoovwhS8P7xhoW8kZRsCdoqebf9')!.rates.values[3]! * W)).toMatch(
      /^8\.[345]\dK$/,
    );
  });
});

test('a user comes into being with the first accepted share, not with a connection or a refused share', () => {
  const added: string[] = [];
  const stats = new Stats({ nowMs: START_MS, onNewUser: (user) => added.push(user) });
  stats.absorb(changes([change({ worker: 'alice.w1' })], { refused_diff: 42, refused_count: 1 }), START_MS + 1_000);
  expect(stats.users.size).toBe(0);
  expect(stats.pool()).toMatchObject({ users: 1, workers: 1, rejected: 42, rejectedCount: 1 });
  stats.absorb(changes([change({ worker: 'alice.w1', diff: 42, shares_count: 1, best_sdiff: 50 })]), START_MS + 2_000);
  expect(added).toEqual(['alice']);
  expect(stats.users.get('alice')).toMatchObject({ shares: 42, best: 50, bestEver: 50, authorizedS: START_MS / 1_000 });
  expect([...stats.users.get('alice')!.workers.keys()]).toEqual(['alice.w1']);
});

test('lines of several processes add up, and those of a process that has ended are gone', () => {
  const stats = new Stats({ nowMs: START_MS });
  stats.absorb(changes([change({ worker: 'alice.w1', connections: 2 })], { idle: 1, resumable: 3 }), START_MS, 'one');
  stats.absorb(changes([change({ worker: 'alice.w1' }), change({ worker: 'bob' })], { idle: 1 }), START_MS, 'two');
  expect(stats.pool()).toMatchObject({ users: 2, workers: 4, idle: 2, disconnected: 3 });
  expect(stats.linesOf('alice')).toBe(3);
  stats.absorb(changes([change({ worker: 'alice.w1', connections: 1 })]), START_MS, 'one');
  expect(stats.linesOf('alice')).toBe(2);
  stats.forgetProcess('two');
  expect(stats.pool()).toMatchObject({ users: 1, workers: 1, idle: 0 });
});

test('a solved block resets what counts since the last, not the sums and bests of ever', () => {
  const stats = new Stats({ nowMs: START_MS });
  stats.absorb(
    changes([change({ worker: 'alice.w1', diff: 42, shares_count: 1, best_sdiff: 50 })], {
      refused_diff: 7,
      refused_count: 1,
    }),
    START_MS + 1_000,
  );
  stats.resetShares(START_MS + 2_000);
  expect(stats.pool()).toMatchObject({ accepted: 0, rejected: 0, acceptedCount: 0, rejectedCount: 0, best: 0 });
  const alice = stats.users.get('alice')!;
  expect(alice).toMatchObject({ shares: 42, best: 0, bestEver: 50 });
  expect(alice.workers.get('alice.w1')).toMatchObject({ shares: 42, best: 0, bestEver: 50 });
});

test("a best share is told once, in CKPool's words: of its user, else of its worker, ever or since the last block", () => {
  const told: string[] = [];
  const stats = new Stats({ nowMs: START_MS, onBest: (worker, words) => told.push(`${worker}: ${words}`) });
  const share = (worker: string, sdiff: number): void =>
    stats.absorb(changes([change({ worker, diff: 1, shares_count: 1, best_sdiff: sdiff })]), START_MS + 1_000);
  share('alice.w1', 59.441586);
  share('alice.w1', 59.441586);
  share('alice.w2', 40);
  share('alice.w2', 30);
  stats.resetShares(START_MS + 2_000);
  share('alice.w2', 20);
  share('alice.w1', 10);
  expect(told).toEqual([
    'alice.w1: New best ever share for user: 59.441586',
    'alice.w2: New best ever share for worker: 40.000000',
    'alice.w2: New best share for user: 20.000000',
    'alice.w1: New best share for worker: 10.000000',
  ]);
});

describe('kinds of miners', () => {
  const share = { shares_count: 1, diff: 300, best_sdiff: 7 };

  test('have the lines of all processes, and those of one that has ended no more', () => {
    const stats = new Stats({ nowMs: START_MS });
    stats.absorb(changes([change({ worker: 'a.1', ...share })]), START_MS, 'one');
    stats.absorb(changes([change({ worker: 'b.1', agent: 'miner/2', connections: 2 })]), START_MS, 'two');
    stats.absorb(changes([change({ worker: 'a.1', agent: 'other/1', ...share, best_sdiff: 9 })]), START_MS, 'two');
    stats.tick(START_MS + 60_000);
    const [miner, other] = stats.pool().agents;
    expect(miner).toMatchObject({ name: 'miner', lines: 3, best: 7 });
    expect(other).toMatchObject({ name: 'other', lines: 1, best: 9 });
    expect(miner!.dsps5m).toBeCloseTo(decay(0, 300, 60, 300), 12);
    stats.forgetProcess('two');
    expect(stats.pool().agents.map(({ name, lines }) => [name, lines])).toEqual([['miner', 1]]);
  });

  test('of a worker that comes with another program or goes are counted anew', () => {
    const stats = new Stats({ nowMs: START_MS });
    const kinds = (): unknown => stats.pool().agents.map(({ name, lines }) => [name, lines]);
    stats.absorb(changes([change({ worker: 'a', ...share }), change({ worker: 'b', agent: 'x', ...share })]), START_MS);
    expect(kinds()).toEqual([
      ['miner', 1],
      ['x', 1],
    ]);
    stats.absorb(changes([change({ worker: 'a', agent: 'x/9', connections: 1 })]), START_MS);
    expect(kinds()).toEqual([['x', 2]]);
    stats.absorb(changes([change({ worker: 'a', agent: 'x/9', connections: 0 })]), START_MS);
    stats.absorb(changes([change({ worker: 'b', agent: 'x', connections: 0 })]), START_MS);
    expect(kinds()).toEqual([]);
  });

  test('have no best share of before a block', () => {
    const stats = new Stats({ nowMs: START_MS });
    stats.absorb(changes([change({ worker: 'a', ...share })]), START_MS);
    stats.resetShares(START_MS);
    expect(stats.pool().agents).toMatchObject([{ name: 'miner', best: 0 }]);
  });
});

describe('memory is bounded', () => {
  test('of 1,000 workers of a user the longest idle goes to disk, and comes back with what it had', () => {
    const disk = store();
    const stats = new Stats({ nowMs: START_MS, store: disk });
    for (let i = 0; i < 1_001; i++) {
      const now = START_MS + i * 1_000;
      const share = {
        worker: `alice.w${i}`,
        diff: 2,
        shares_count: 1,
        last_share_ms: now,
        authorized_ms: now,
        connections: 0,
      };
      stats.absorb(changes([change(share)]), now);
    }
    const alice = stats.users.get('alice')!;
    expect(alice.workers.size).toBe(1_000);
    expect([...disk.workers.keys()]).toEqual(['alice.w0']);
    expect(alice.shares).toBe(2_002);
    const later = START_MS + 2_000_000;
    stats.absorb(changes([change({ worker: 'alice.w0', diff: 1, shares_count: 1, last_share_ms: later })]), later);
    expect(alice.workers.get('alice.w0')!.shares).toBe(3);
    expect(alice.workers.size).toBe(1_000);
  });

  test('a farm of more than 1,000 connected workers stays in memory', () => {
    const disk = store();
    const stats = new Stats({ nowMs: START_MS, store: disk, workersLimit: 10 });
    for (let i = 0; i < 30; i++)
      stats.absorb(changes([change({ worker: `farm.${i}`, diff: 1, shares_count: 1 })]), START_MS + i);
    expect(stats.users.get('farm')!.workers.size).toBe(30);
    expect(disk.workers.size).toBe(0);
  });

  test('of idle users so many stay; the oldest goes to disk, who is connected never', () => {
    const disk = store();
    const stats = new Stats({ nowMs: START_MS, store: disk, idleUsersLimit: 3 });
    for (let i = 0; i < 6; i++) {
      const connections = i === 0 ? 1 : 0;
      stats.absorb(changes([change({ worker: `u${i}`, diff: 1, shares_count: 1, connections })]), START_MS + i);
    }
    expect([...stats.users.keys()]).toEqual(['u0', 'u3', 'u4', 'u5'].slice(-stats.users.size));
    expect([...disk.users.keys()]).toEqual(['u1', 'u2']);
    stats.absorb(changes([change({ worker: 'u1', diff: 1, shares_count: 1 })]), START_MS + 10);
    expect(stats.users.get('u1')!.shares).toBe(2);
  });

  test('a user that was on disk while a block was solved has no best share of before it', () => {
    const disk = store();
    const stats = new Stats({ nowMs: START_MS, store: disk, idleUsersLimit: 0 });
    stats.absorb(changes([change({ worker: 'u', diff: 1, shares_count: 1, best_sdiff: 9, connections: 0 })]), START_MS);
    expect(stats.users.size).toBe(0);
    stats.resetShares(START_MS + 1_000);
    expect(stats.user('u', START_MS + 2_000)).toMatchObject({ best: 0, bestEver: 9 });
  });
});
