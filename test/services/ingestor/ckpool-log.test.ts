import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { PoolError } from '../../../services/core/errors.ts';
import {
  CkpoolLog,
  FRESH_STATE,
  type LogFact,
  type LogState,
  type SolvedFact,
} from '../../../services/ingestor/ckpool-log.ts';
import { LineTimes, stampOf, Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));
const UTC = new Zone('UTC');
const NEW = { lastMs: null, offsetMs: null };

function linesOf(path: string): string[] {
  const bytes = readFileSync(join(fixtures, path));
  return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').slice(0, -1);
}

function factsOf(lines: readonly string[], zone = UTC, state: LogState = FRESH_STATE): LogFact[] {
  const log = new CkpoolLog({ origin: 'ckpool', instance: 'test', zone }, state);
  return [...lines.flatMap((line) => log.take(line)), ...log.end()];
}

const statuses = (facts: readonly LogFact[]): Inputs['session'][] =>
  facts.flatMap((fact) => ('status' in fact ? [fact.status] : []));
const blocks = (facts: readonly LogFact[]): SolvedFact[] =>
  facts.flatMap((fact) => ('solved' in fact ? [fact.solved] : []));
const bad = (facts: readonly LogFact[]): string[] => facts.flatMap((fact) => ('bad' in fact ? [fact.bad] : []));
const rest = (facts: readonly LogFact[]): LogFact[] => facts.filter((fact) => 'bad' in fact || 'foreign' in fact);

describe('stamps', () => {
  const berlin = new Zone('Europe/Berlin');
  const clock = (text: string): number => stampOf(`[${text}] x`)!.clockMs;
  const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

  test('are read to the millisecond, over the ends of years', () => {
    const times = new LineTimes(berlin, NEW);
    expect(iso(times.next(clock('2025-12-31 23:59:59.999')))).toBe('2025-12-31T22:59:59.999Z');
    expect(iso(times.next(clock('2026-01-01 00:00:00.000')))).toBe('2025-12-31T23:00:00.000Z');
    expect(iso(times.next(clock('2026-07-01 00:30:00.005')))).toBe('2026-06-30T22:30:00.005Z');
    expect(iso(times.next(clock('2028-02-29 12:00:00')))).toBe('2028-02-29T11:00:00.000Z');
  });

  test.each([
    '2026-02-30 00:00:00.000',
    '2026-13-01 00:00:00.000',
    '2026-01-01 24:00:00.000',
    '1969-12-31 00:00:00.000',
  ])('%s is none', (text) => expect(stampOf(`[${text}] x`)).toBeNull());

  test('of the doubled hour are told apart by the order of lines', () => {
    const times = new LineTimes(berlin, NEW);
    const read = [
      '01:59:59.900',
      '02:00:00.100',
      '02:30:00.000',
      '02:59:59.999',
      '02:00:00.000',
      '02:30:00.000',
      '03:00:00.000',
    ];
    expect(read.map((text) => iso(times.next(clock(`2026-10-25 ${text}`))))).toEqual([
      '2026-10-24T23:59:59.900Z',
      '2026-10-25T00:00:00.100Z',
      '2026-10-25T00:30:00.000Z',
      '2026-10-25T00:59:59.999Z',
      '2026-10-25T01:00:00.000Z',
      '2026-10-25T01:30:00.000Z',
      '2026-10-25T02:00:00.000Z',
    ]);
  });

  test('of the doubled hour stay in its second half where threads wrote a few out of order', () => {
    const times = new LineTimes(berlin, { lastMs: Date.parse('2026-10-25T01:30:00Z'), offsetMs: null });
    expect(iso(times.next(clock('2026-10-25 02:29:59.500')))).toBe('2026-10-25T01:29:59.500Z');
  });

  test('of the hour that is left out are none', () => {
    const times = new LineTimes(berlin, NEW);
    expect(times.next(clock('2026-03-29 02:30:00.000'))).toBeNull();
    expect(iso(times.next(clock('2026-03-29 03:00:00.000')))).toBe('2026-03-29T01:00:00.000Z');
  });

  test('hold in zones that change by half an hour, and where the hour doubles at midnight', () => {
    const lordHowe = new LineTimes(new Zone('Australia/Lord_Howe'), NEW);
    // At 02:00 on the first Sunday of April clocks go back to 01:30.
    expect(iso(lordHowe.next(clock('2026-04-05 01:45:00.000')))).toBe('2026-04-04T14:45:00.000Z');
    expect(iso(lordHowe.next(clock('2026-04-05 01:59:00.000')))).toBe('2026-04-04T14:59:00.000Z');
    expect(iso(lordHowe.next(clock('2026-04-05 01:31:00.000')))).toBe('2026-04-04T15:01:00.000Z');
    const havana = new LineTimes(new Zone('America/Havana'), NEW);
    expect(iso(havana.next(clock('2026-11-01 00:59:59.000')))).toBe('2026-11-01T04:59:59.000Z');
    expect(iso(havana.next(clock('2026-11-01 00:00:01.000')))).toBe('2026-11-01T05:00:01.000Z');
  });

  test(`every instant of ten years comes back from its stamp, in order (SEED=${SEED})`, () => {
    const random = seeded(SEED);
    for (const name of ['Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'Pacific/Chatham', 'UTC']) {
      const zone = new Zone(name);
      const times = new LineTimes(zone, NEW);
      const shown = new Intl.DateTimeFormat('sv-SE', { timeZone: name, dateStyle: 'short', timeStyle: 'medium' });
      const offset = (ms: number): number => Date.parse(`${shown.format(ms)}Z`) - ms + (ms % 1000);
      let at = Date.parse('2016-01-01T00:00:00Z') + Math.floor(random() * 86_400_000);
      const end = Date.parse('2026-01-01T00:00:00Z');
      let changes = 0;
      for (let before = offset(at); at < end; ) {
        expect(
          times.next(clock(`${shown.format(at)}.${String(at % 1000).padStart(3, '0')}`)),
          `${name} ${at} seed ${SEED}`,
        ).toBe(at);
        if (offset(at) !== before) changes += 1;
        before = offset(at);
        // Round a change of the clock never a gap that hides a whole doubled hour: logs have lines each minute.
        const near = [-1, 3].some((days) => offset(at + days * 86_400_000) !== before);
        at += 1 + Math.floor(random() * (near ? 1_800_000 : 2 * 86_400_000));
      }
      expect(changes, name).toBe(['Asia/Kathmandu', 'UTC'].includes(name) ? 0 : 20);
    }
  });

  test('a zone that does not exist is a slip of the command line', () => {
    expect(() => new Zone('Europe/Atlantis')).toThrow(PoolError);
  });
});

test('three Pool lines are one row at lastupdate, users and workers one each at their stamp', () => {
  const facts = factsOf(linesOf('rotation/ckpool.log.1'));
  expect(rest(facts)).toEqual([]);
  const pool = statuses(facts).filter(({ pool_status }) => pool_status![0]!.scope === 'pool');
  expect(pool).toHaveLength(1);
  expect(pool[0]).toMatchObject({
    kind: 'pool_status',
    origin: 'ckpool',
    time_us: 1_795_328_257_000_000,
    user: '',
    worker: '',
    pool_status: [
      {
        scope: 'pool',
        source: 'log',
        hashrate_1m: '21.4M',
        hashrate_15m: '3.65M',
        effort_percent: 2.49,
        network_diff: 1,
        accepted_diff: 0.02495,
        accepted_count: 499,
        best_share: 0.412046,
        rate_1m_per_s: 99.5003,
      },
    ],
  });
  const members = statuses(facts).filter(({ pool_status }) => pool_status![0]!.scope !== 'pool');
  expect(members.length).toBe(7);
  expect(members.find(({ worker }) => worker !== '')).toMatchObject({
    user: '2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK',
    worker: '2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK',
  });
});

test.each([
  ['regtest-blocks/logs/ckpool.log.gz', 135, 132],
  ['regtest-rejects/logs/ckpool.log', 3, 3],
  ['testnet-shares/logs/ckpool.log', 2, 2],
  ['testnet-proxy/logs/ckproxy.log', 0, 0],
])('%s: each solved block is told, with its hash where its difficulty has digits enough', (path, count, accepted) => {
  const lines = linesOf(path);
  const facts = factsOf(lines);
  expect(rest(facts)).toEqual([]);
  const found = blocks(facts);
  expect(found).toHaveLength(count);
  expect(found.filter(({ answer }) => answer === 'accepted')).toHaveLength(count);
  expect(lines.filter((line) => line.includes('BLOCK ACCEPTED'))).toHaveLength(accepted);
  const named = found.filter(({ hash }) => hash !== null);
  const tiny = found.filter(({ diff }) => Number(diff) < 0.001);
  expect(new Set(named.map(({ hash }) => hash)).size).toBe(count - tiny.length);
  // What the node announced while the pool ran, in the order of its lines.
  const told = lines.flatMap(
    (line) => / (?:ZMQ block hash|Block hash changed to) ([0-9a-f]{64})/.exec(line)?.[1] ?? [],
  );
  const tips = [...new Set(told)];
  const follows = named.filter(({ hash, prevHash }) => tips[tips.indexOf(hash!) - 1] === prevHash);
  // Three of them were offered before the node told of the first.
  expect(follows.length).toBeGreaterThanOrEqual(named.length - 2);
  for (const { hash, prevHash } of named) expect(tips.indexOf(prevHash)).toBeLessThan(tips.indexOf(hash!));
});

const solve = (stamp: string, extra: readonly string[]): string[] =>
  ['Possible block solve diff 15.997885 !', 'Submitting block data!', ...extra].map(
    (text) => `[2026-11-22 ${stamp}] ${text}`,
  );

test('a refused block is told with the words of the node, and without a hash', () => {
  const facts = factsOf(
    solve('06:06:48.418', [
      'SUBMIT BLOCK RETURNED: high-hash',
      'Hash for forced possibly stale block, height 711 confirms block was REJECTED',
      'Submitted, but had block 711 rejected',
      // Not ours: another difficulty.
      'Block hash changed to 000000005e323c53021b7bafc448cb13f29aae151539d6dec36aa583a1b25e1b',
    ]),
  );
  expect(facts).toEqual([
    {
      solved: {
        timeUs: 1_795_327_608_418_000,
        height: 711,
        worker: '',
        accepted: false,
        diff: '15.997885',
        answer: 'high-hash',
        answerTimeUs: 1_795_327_608_418_000,
        node: '',
        hash: null,
        prevHash: '',
      },
    },
  ]);
});

test('a block whose tip never came is told a minute later, one that was never offered is not', () => {
  const lines = [
    ...solve('06:06:48.418', ['BLOCK ACCEPTED!', 'Solved and confirmed block 711 by a.b']),
    '[2026-11-22 06:08:00.000] Stored local workbase with 0 transactions',
    ...solve('06:09:00.000', []),
  ];
  expect(blocks(factsOf(lines))).toMatchObject([{ height: 711, worker: 'a.b', hash: null, accepted: true }]);
});

test('wherever a log is cut between two lines, the facts are the same', () => {
  const lines = [
    ...linesOf('rotation/ckpool.log.2').slice(-40),
    ...linesOf('rotation/ckpool.log.1'),
    ...linesOf('regtest-rejects/logs/ckpool.log').slice(20, 90),
  ];
  const whole = factsOf(lines);
  for (let cut = 0; cut < lines.length; cut++) {
    const first = new CkpoolLog({ origin: 'ckpool', instance: 'test', zone: UTC });
    const before = lines.slice(0, cut).flatMap((line) => first.take(line));
    const state = JSON.parse(JSON.stringify(first.state)) as LogState;
    expect([...before, ...factsOf(lines.slice(cut), UTC, state)]).toEqual(whole);
  }
});

test('a line that CKPool broke at 510 bytes is put together', () => {
  const [one] = linesOf('regtest-rejects/logs/ckpool.log').filter((line) => line.includes('UserAgents'));
  const text = one!
    .slice(26)
    .replace('"UserAgents": [', `"UserAgents": [${'{"ua": "some miner", "devices": 1}, '.repeat(20)}`);
  const stamp = one!.slice(0, 26);
  const lines = [0, 510, 1020].map((at) => stamp + text.slice(at, at + 510)).filter((line) => line.length > 26);
  expect(lines.length).toBeGreaterThan(1);
  const facts = factsOf(lines);
  expect(rest(facts)).toEqual([]);
  expect(statuses(facts)).toMatchObject([{ pool_status: [{ runtime_s: 60, users: 1 }] }]);
});

test('the doubled hour is told by lastupdate where the order does not', () => {
  const berlin = new Zone('Europe/Berlin');
  const second = Date.parse('2026-10-25T01:30:00Z') / 1000;
  const lines = [
    `[2026-10-25 02:30:00.500] Pool:{"runtime": 60, "lastupdate": ${second}, "Users": 1, "Workers": 1, "Idle": 0, "Disconnected": 0}`,
    '[2026-10-25 02:30:01.000] User a:{"hashrate1m":"1G"}',
  ];
  const facts = factsOf(lines, berlin);
  expect(rest(facts)).toEqual([]);
  expect(
    statuses(facts)
      .map(({ time_us }) => time_us)
      .sort(),
  ).toEqual([second * 1e6, (second + 1) * 1e6]);
});

test('a wrong time zone is named, and what the statistics say of it counts from there on', () => {
  const right = statuses(factsOf(linesOf('rotation/ckpool.log')));
  const wrong = statuses(factsOf(linesOf('rotation/ckpool.log'), new Zone('Europe/Berlin')));
  const different = wrong.filter(({ time_us }, i) => time_us !== right[i]!.time_us);
  // The users of the first minute stand above its first statistics.
  expect(different.length).toBe(3);
  const log = new CkpoolLog({ origin: 'ckpool', instance: 'test', zone: new Zone('America/New_York') });
  log.peek(linesOf('rotation/ckpool.log').join('\n'));
  const peeked = linesOf('rotation/ckpool.log').flatMap((line) => log.take(line));
  expect(statuses(peeked)).toEqual(right);
});

test('a wrong time zone is named once for each block of statistics, and the rows of the pool stand at the right time', () => {
  const facts = factsOf(linesOf('rotation/ckpool.log.1'), new Zone('Europe/Berlin'));
  const foreign = facts.flatMap((fact) => ('foreign' in fact ? [fact.foreign] : []));
  expect(foreign).toHaveLength(1);
  expect(foreign[0]).toContain('1.00 h');
  expect(statuses(facts).find(({ pool_status }) => pool_status![0]!.scope === 'pool')!.time_us).toBe(
    1_795_328_257_000_000,
  );
});

test.each([
  ['\u0000\u0001binary', 'no time stamp'],
  ['[2026-11-22 06:18:37.865] Pool:{"runtime": 2', 'statistics that are not JSON'],
  [`[2026-11-22 06:18:37.865] User ${'x'.repeat(1500)}:{}`, 'a name of more than 1024 characters'],
])('%j is bad, and stops nothing', (line, reason) => {
  const facts = factsOf([line, ...linesOf('rotation/ckpool.log.1')]);
  expect(bad(facts)).toEqual([reason]);
  expect(statuses(facts)).toHaveLength(8);
});

test('a line of the hour left out is bad, and named with the zone', () => {
  const facts = factsOf(['[2026-03-29 02:30:00.000] User a:{"hashrate1m":"1G"}'], new Zone('Europe/Berlin'));
  expect(bad(facts)[0]).toContain('Europe/Berlin');
  expect(statuses(facts)).toEqual([]);
});

test(`mutated lines never throw, and what they give holds (SEED=${SEED})`, () => {
  const next = seeded(SEED);
  const random = (n: number): number => Math.floor(next() * n);
  const lines = linesOf('regtest-rejects/logs/ckpool.log');
  const log = new CkpoolLog({ origin: 'ckpool', instance: 'test', zone: UTC });
  for (let i = 0; i < 20_000; i++) {
    const line = [...lines[random(lines.length)]!];
    for (let edits = random(4); edits > 0; edits--) {
      const at = random(line.length);
      if (random(2) === 0) line.splice(at, 1 + random(5));
      else line[at] = String.fromCharCode(random(256));
    }
    for (const fact of log.take(line.join(''))) {
      if (!('status' in fact)) continue;
      const { time_us, pool_status } = fact.status;
      expect(Number.isSafeInteger(time_us), `seed ${SEED}`).toBe(true);
      for (const value of Object.values(pool_status![0]!)) {
        expect(typeof value === 'string' || (Number.isFinite(value) && value >= -1), `seed ${SEED}`).toBe(true);
      }
    }
  }
});
