import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { StatsDesk, type StatsDeskOptions } from '../../../../services/stratum/stats/stats-desk.ts';
import { Tally } from '../../../../services/stratum/stats/tally.ts';
import { tempDir } from '../../../helpers/leash.ts';

const recorded = (path: string): string => fileURLToPath(new URL(`../../../fixtures/ckpool/${path}`, import.meta.url));

let dir: ReturnType<typeof tempDir>;
let nowMs: number;
let said: string[];
beforeEach(() => {
  dir = tempDir('desk');
  nowMs = 1_795_327_660_000;
  said = [];
});
afterEach(() => dir.remove());

function open(compat: 'ckpool' | 'lodestream' = 'ckpool', of: Partial<StatsDeskOptions> = {}): StatsDesk {
  return new StatsDesk({
    config: { logDir: dir.path, compat, name: 'ckpool', mode: 'pool' },
    profile: loadChain('bitcoin'),
    log: (line, level) => void said.push(`${level} ${line}`),
    nowMs: () => nowMs,
    ...of,
  });
}
const text = (path: string): string => readFileSync(join(dir.path, path), 'utf8');

/** A minute in which a worker has `shares` shares of difficulty 42, one each second, and nothing else happens. */
function mine(
  desk: StatsDesk,
  tally: Tally,
  worker: { accepted(diff: number, sdiff: number, nowMs: number): void },
  shares: number,
): void {
  for (let second = 1; second <= 60; second++) {
    nowMs += 1_000;
    if (second <= shares) worker.accepted(42, 50 + second, nowMs);
    desk.absorb(tally.take({ idle: 0, resumable: 0 }));
    desk.stats.tick(nowMs);
  }
}

describe('a minute', () => {
  test("has CKPool's lines in its order, and files of the same values", async () => {
    const desk = open();
    const tally = new Tally();
    desk.setNetworkDiff(4_194_304);
    const worker = tally.join('1PKN', '1PKN.w1', 'cgminer', nowMs);
    tally.join('1PKN', '1PKN.w2', 'cgminer', nowMs);
    tally.refused(42);
    mine(desk, tally, worker, 60);
    await desk.minute();
    expect(said).toEqual(
      [
        '5 Network diff set to 4194304.0',
        expect.stringMatching(/^6 User 1PKN worker 1PKN\.w1 new best diff /),
        '5 Added new user 1PKN',
        ...Array(59).fill(expect.stringMatching(/^6 User 1PKN worker 1PKN\.w1 new best diff /)),
        '5 User 1PKN:{"hashrate1m":"113G","hashrate5m":"32.6G","hashrate1hr":"2.98G","hashrate1d":"125M","hashrate7d":"17.9M","lastshare":1795327720,"workers":2,"shares":2520,"bestshare":110.0,"bestever":110,"authorised":1795327660}',
        '5 Pool:{"runtime": 60, "lastupdate": 1795327720, "Users": 1, "Workers": 2, "Idle": 0, "Disconnected": 0}',
        '5 Pool:{"hashrate1m": "113G", "hashrate5m": "32.6G", "hashrate15m": "11.6G", "hashrate1hr": "2.98G", "hashrate6hr": "500M", "hashrate1d": "125M", "hashrate7d": "17.9M"}',
        '5 Pool:{"diff": 0.06, "accepted": 2520, "rejected": 42, "bestshare": 110, "SPS1m": 0.626, "SPS5m": 0.181, "SPS15m": 0.0644, "SPS1h": 0.0165}',
      ].sort((a, b) => order(a) - order(b)),
    );
    const pool = text('pool/pool.status').split('\n');
    expect(pool).toEqual([...said.filter((line) => line.startsWith('5 Pool:')).map((line) => line.slice(7)), '']);
    expect(text('users/1PKN')).toMatch(
      /^\{\n "hashrate1m": "113G",\n[\s\S]*\n "worker": \[\n {2}\{\n {3}"workername": "1PKN\.w1",\n/,
    );
    expect(readdirSync(dir.path).sort()).toEqual(['pool', 'users', 'workers']);
    expect(readdirSync(join(dir.path, 'workers'))).toEqual([]);
  });

  test('says nothing of users without a share in it, and goes on lowering their averages', async () => {
    const desk = open();
    const tally = new Tally();
    const worker = tally.join('u', 'u', '', nowMs);
    mine(desk, tally, worker, 60);
    await desk.minute();
    const before = JSON.parse(text('users/u'));
    said = [];
    for (let i = 0; i < 10; i++) {
      mine(desk, tally, worker, 0);
      await desk.minute();
    }
    expect(said.filter((line) => line.startsWith('5 User'))).toEqual([]);
    const after = JSON.parse(text('users/u'));
    expect(before.hashrate1m).toBe('113G');
    expect(after.hashrate1m).toMatch(/^\d\.?\d*G$|M$/);
    expect(after).toMatchObject({ shares: 2520, lastshare: before.lastshare });
  });

  test('a proxy adds its own lines', async () => {
    const desk = open('ckpool', {
      moreLines: () => [['Proxy:{"current": 0, "active": 1, "total": 1}', 5]],
      config: { logDir: dir.path, compat: 'ckpool', name: 'ckproxy', mode: 'proxy' },
    });
    await desk.minute();
    expect(said.at(-1)).toBe('5 Proxy:{"current": 0, "active": 1, "total": 1}');
  });
});

/** "Added" comes before the best of the first share or after it: both are of one moment. */
function order(line: unknown): number {
  return line === '5 Added new user 1PKN' ? -1 : line === '5 Network diff set to 4194304.0' ? -2 : 0;
}

test('an address of the chain is told as a registration by address, any other name is not', () => {
  const desk = open();
  const tally = new Tally();
  for (const name of ['1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2', 'bob'])
    tally.join(name, name, '', nowMs).accepted(1, 1, nowMs);
  desk.absorb(tally.take({ idle: 0, resumable: 0 }));
  expect(said.filter((line) => line.includes('Added'))).toEqual([
    '5 Added new user 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2 as address based registration',
    '5 Added new user bob',
  ]);
});

test("a solved block is told in CKPool's words with the effort since the last, and begins a new count", () => {
  const desk = open();
  const tally = new Tally();
  desk.setNetworkDiff(1);
  const worker = tally.join('1PKN', '1PKN.d', '', nowMs);
  mine(desk, tally, worker, 1);
  said = [];
  desk.solved({ height: 711, user: '1PKN', worker: '1PKN.d' });
  expect(said).toEqual([
    '4 Solved and confirmed block 711 by 1PKN.d',
    expect.stringMatching(/^4 User 1PKN:\{"hashrate1m": "[^"]+", .*"shares": 42, "authorised": 1795327660\}$/),
    expect.stringMatching(/^4 Worker 1PKN\.d:\{"hashrate1m": "[^"]+", .*"hashrate7d": "[^"]+"\}$/),
    '4 Block solved after 42 shares at 4200.0% diff',
  ]);
  expect(desk.stats.pool().accepted).toBe(0);
});

test('sums, bests and counts survive a restart, also those of the last minute', async () => {
  const first = open('lodestream');
  const tally = new Tally();
  const worker = tally.join('1PKN', '1PKN.w1', 'cgminer', nowMs);
  worker.accepted(0.5, 0.75, nowMs);
  tally.refused(0.25);
  first.follow(() => tally.take({ idle: 0, resumable: 0 }));
  first.close();
  nowMs += 5_000;
  const second = open('lodestream');
  await second.load();
  expect(said.at(-1)).toBe('5 Loaded 1 users and 1 workers');
  expect(second.stats.pool()).toMatchObject({
    accepted: 0.5,
    rejected: 0.25,
    acceptedCount: 1,
    rejectedCount: 1,
    best: 0.75,
  });
  expect(second.stats.users.get('1PKN')).toMatchObject({ shares: 0.5, best: 0.75, bestEver: 0.75 });
  tally.join('1PKN', '1PKN.w1', 'cgminer', nowMs).accepted(1, 2, nowMs);
  second.absorb(tally.take({ idle: 0, resumable: 0 }));
  expect(second.stats.users.get('1PKN')!.workers.get('1PKN.w1')).toMatchObject({ shares: 1.5, bestEver: 2 });
});

test("a first start in CKPool's log directory goes on with its totals, whoever comes first", async () => {
  cpSync(recorded('testnet-shares/logs/users'), join(dir.path, 'users'), { recursive: true });
  cpSync(recorded('testnet-shares/logs/pool'), join(dir.path, 'pool'), { recursive: true });
  nowMs = 1_795_328_857_000 + 3_600_000;
  // A copy has the time of the copy.
  for (const file of readdirSync(join(dir.path, 'users')))
    utimesSync(join(dir.path, 'users', file), nowMs / 1_000, nowMs / 1_000);
  const desk = open('lodestream');
  expect(desk.stats.pool()).toMatchObject({ accepted: 1.28705, acceptedCount: 25_741 });
  const name = 'mv8C9mNWz2NssqBsgG5NX1QKDMyDKBpAK1';
  const tally = new Tally();
  tally.join(name, `${name}.rig1`, 'new', nowMs).accepted(1, 1, nowMs);
  // Before its file was read.
  desk.absorb(tally.take({ idle: 0, resumable: 0 }));
  await desk.load();
  expect(said.some((line) => line.includes('Added'))).toBe(false);
  expect(said.at(-1)).toBe('5 Loaded 5 users and 10 workers');
  const user = desk.stats.users.get(name)!;
  expect(user.shares).toBeCloseTo(2.164900000000246, 12);
  expect(user.authorizedS).toBe(1_795_328_079);
  expect(user.workers.get(`${name}.rig1`)!.shares).toBeCloseTo(1.58145, 5);
  await desk.minute();
  desk.close();
  const written = JSON.parse(text(`users/${name}`));
  expect(written.worker.map((each: { workername: string }) => each.workername)).toEqual([
    `${name}.rig1`,
    `${name}.rig2`,
  ]);
  // An hour without shares: the average of a minute is gone, that of a week is not.
  const idle = JSON.parse(text('users/2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK'));
  expect(idle.hashrate1m).toBe('0');
  expect(idle.hashrate7d).toMatch(/^4\.\d+K$/);
});

test('users that CKPool would no longer show stay on disk until they come back', async () => {
  mkdirSync(join(dir.path, 'users'));
  writeFileSync(join(dir.path, 'users/old'), '{"shares": 77, "lastshare": 1794000000, "worker": []}');
  utimesSync(join(dir.path, 'users/old'), 1_794_600_000, 1_794_600_000);
  const desk = open();
  await desk.load();
  expect(desk.stats.users.size).toBe(0);
  await desk.minute();
  expect(text('users/old')).toContain('77');
  const tally = new Tally();
  tally.join('old', 'old', '', nowMs).accepted(1, 1, nowMs);
  desk.absorb(tally.take({ idle: 0, resumable: 0 }));
  expect(desk.stats.users.get('old')!.shares).toBe(78);
});

test('five hundred users are written in slices: the loop goes round in between', async () => {
  const desk = open('lodestream');
  const tally = new Tally();
  for (let i = 0; i < 500; i++) tally.join(`u${i}`, `u${i}.w`, '', nowMs).accepted(1, 1, nowMs);
  desk.absorb(tally.take({ idle: 0, resumable: 0 }));
  let rounds = 0;
  let done = false;
  const turn = (): void => {
    rounds += 1;
    if (!done) setTimeout(turn, 0);
  };
  turn();
  await desk.minute();
  done = true;
  expect(readdirSync(join(dir.path, 'users'))).toHaveLength(500);
  expect(rounds).toBeGreaterThan(5);
  expect(existsSync(join(dir.path, 'workers/u7.w'))).toBe(true);
});
