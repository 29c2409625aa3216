/**
 * The rule of a change of difficulty, over random sequences of everything that can happen to a line: no honest share is ever too low, and
 * nobody is credited more than its work but for the low shares that `LowShares` allows. The lines are real sessions; firmware.int.test.ts does
 * the same over sockets, with hashes.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Job } from '../../../services/stratum/work/job.ts';
import { PoolSource, poolIdentity } from '../../../services/stratum/work/pool.ts';
import { until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { type Drawn, FIRMWARES, ModelMiner } from './line-model.ts';
import { BITS_HARD, type Rig, someHash, startRig, template } from './rig.ts';

/** Difficulty 1, and 256, 16 and 65536 times it. */
const BITS = [BITS_HARD, 0x1c00ffff, 0x1c0ffff0, 0x1b00ffff] as const;

let rig: Rig;
beforeAll(async () => {
  rig = await startRig({ config: { minDiff: 0.001, startDiff: 100 }, bits: BITS[3] });
});
afterAll(() => rig.close());

let blocks = 0;
let curtime = 1_795_327_752;
let bits: number = BITS[3];
/** Other bits come with a block, but on chains with minimum-difficulty blocks also without. */
function newTemplate(of: { block: boolean; bits?: number }): void {
  if (of.block) blocks += 1;
  if (of.bits !== undefined) bits = of.bits;
  curtime += 1;
  rig.source.take(template(rig.profile, { height: 111 + blocks, prevHash: someHash(`${blocks}`), bits, curtime }));
}

/** What can happen to a line. Numbers are drawn between 0 and 1 and scaled where they are used. */
type Happening =
  | { readonly do: 'change'; readonly to: number }
  | { readonly do: 'wish'; readonly to: number }
  | { readonly do: 'template' }
  | { readonly do: 'block' }
  | { readonly do: 'retarget'; readonly to: number; readonly block: boolean }
  | { readonly do: 'tick' }
  | { readonly do: 'idle' }
  | { readonly do: 'resume' }
  | { readonly do: 'other line' }
  | { readonly do: 'read'; readonly messages: number }
  | { readonly do: 'find'; readonly luck: number }
  | { readonly do: 'send' };

/** Evenly between 0 and 1: fast-check's doubles are mostly next to 0. */
const part = fc.integer({ min: 1, max: 2 ** 24 - 1 }).map((number) => number / 2 ** 24);
const happening: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 3, arbitrary: part.map((to) => ({ do: 'change' as const, to })) },
  { weight: 1, arbitrary: part.map((to) => ({ do: 'wish' as const, to })) },
  { weight: 2, arbitrary: fc.constant({ do: 'template' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'block' as const }) },
  { weight: 1, arbitrary: fc.tuple(part, fc.boolean()).map(([to, block]) => ({ do: 'retarget' as const, to, block })) },
  { weight: 2, arbitrary: fc.constant({ do: 'tick' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'idle' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'resume' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'other line' as const }) },
  { weight: 8, arbitrary: fc.constantFrom(1, 2, 10, 10).map((messages) => ({ do: 'read' as const, messages })) },
  { weight: 8, arbitrary: part.map((luck) => ({ do: 'find' as const, luck })) },
  { weight: 6, arbitrary: fc.constant({ do: 'send' as const }) },
);

/** 0.001 to 10,000, evenly by powers; often the same few values. */
function difficultyOf(to: number): number {
  return to < 0.5 ? [0.5, 10, 100, 4_000][Math.floor(to * 8)]! : 10 ** (to * 14 - 10);
}

function happen(miner: ModelMiner, what: Happening): void {
  switch (what.do) {
    case 'change':
      miner.session.changeDifficulty(difficultyOf(what.to), 'vardiff');
      break;
    case 'wish':
      miner.call('mining.suggest_difficulty', [difficultyOf(what.to)]);
      break;
    case 'template':
      newTemplate({ block: false });
      break;
    case 'block':
      newTemplate({ block: true });
      break;
    case 'retarget':
      newTemplate({ block: what.block, bits: BITS[Math.floor(what.to * 3.999)]! });
      break;
    case 'tick':
      rig.tick(12_000);
      break;
    case 'idle':
      rig.tick(60_000);
      miner.session.sweep();
      break;
    case 'resume':
      miner.disconnect();
      miner.connect();
      break;
    case 'other line':
      // Somebody else's change makes jobs too.
      rig.source.variant();
      break;
    default:
  }
  rig.daemon.facts.flush();
}

/** As many as a pipeline holds that filters when it sends. */
const PIPELINE = 2;

test.each(FIRMWARES)(
  `a miner that takes a difficulty %s is never told that an honest share is too low (SEED=${SEED})`,
  (firmware) => {
    let judged = 0;
    let low = 0;
    let user = 0;
    fc.assert(
      fc.property(fc.array(happening, { minLength: 20, maxLength: 80, size: 'max' }), (happenings) => {
        const miner = new ModelMiner(rig, { firmware, user: `u${user++}` });
        /** Found at what the miner believed then; judged by the pool whenever they arrive. */
        let found: Drawn[] = [];
        const send = (share: Drawn): void => {
          const { asked } = miner.session.requirement(share.job);
          const ruled = miner.submit(share);
          if (ruled === -2) return;
          judged += 1;
          if (ruled > 0 && ruled < asked) low += 1;
          if (ruled < 0)
            expect(ruled, `${share.sdiff} on job ${share.job.order}: ${JSON.stringify(happenings)}`).toBe(0);
          // Credited at a value that was told, at most the share's own.
          if (ruled > share.sdiff) expect(ruled).toBeLessThanOrEqual(share.sdiff);
        };
        for (const what of happenings) {
          if (what.do === 'read') {
            for (let i = 0; i < what.messages; i++) {
              const before = miner.believed;
              if (!miner.read()) break;
              // Who takes a value at once may filter when it sends: what its pipeline holds of lower shares goes out now.
              if (firmware === 'at once' && miner.believed < before && miner.job !== null) {
                for (let k = 0; k < PIPELINE; k++) send({ job: miner.job, sdiff: miner.believed });
              }
            }
            if (firmware === 'at once') found = found.filter(({ sdiff }) => sdiff >= miner.believed);
          } else if (what.do === 'find') {
            if (miner.job !== null) found.push({ job: miner.job, sdiff: miner.believed / Math.max(what.luck, 0.05) });
          } else if (what.do === 'send') {
            const share = found.shift();
            if (share !== undefined) send(share);
          } else happen(miner, what);
        }
        for (const share of found) send(share);
        miner.disconnect();
      }),
      { numRuns: 1_000, seed: SEED },
    );
    expect(judged).toBeGreaterThan(2_000);
    if (firmware === 'at once') expect(low).toBeGreaterThan(100);
    else expect(low).toBe(0);
  },
);

describe('a cheater that picks for each share the moment at which it counts most', () => {
  test(`is credited one value for all shares of a job, but for low ones, and of those no more than are allowed (SEED=${SEED})`, () => {
    const random = seeded(SEED);
    let lows = 0;
    fc.assert(
      fc.property(fc.array(happening, { minLength: 40, maxLength: 120, size: 'max' }), fc.nat(), (happenings, dice) => {
        const miner = new ModelMiner(rig, { firmware: 'at once', user: `cheater${dice}-${random()}` });
        const creditOf = new Map<Job, number>();
        const kept: Drawn[] = [];
        let accepted = 0;
        let low = 0;
        const send = (share: Drawn): number => {
          const { asked } = miner.session.requirement(share.job);
          const credited = miner.submit(share);
          if (credited <= 0) return credited;
          accepted += 1;
          if (credited < asked) {
            low += 1;
            lows += 1;
          } else {
            const before = creditOf.get(share.job) ?? credited;
            if (before !== credited)
              expect(credited, `job ${share.job.order}: ${JSON.stringify(happenings)}`).toBe(before);
            creditOf.set(share.job, credited);
          }
          return credited;
        };
        const jobs: Job[] = [];
        for (const what of happenings) {
          happen(miner, what);
          miner.readAll();
          // Any job that it has heard of, by whatever line: those of others too.
          for (const job of [rig.source.jobs.current, miner.job, rig.source.jobs.variantAfter(-1)]) {
            if (job !== null && !jobs.includes(job)) jobs.push(job);
          }
          for (let i = 0; i < 6; i++) {
            const job = jobs[Math.floor(random() * jobs.length)]!;
            kept.push({ job, sdiff: 0.001 / random() ** 2 });
          }
          // What counts goes out; what is too low now is kept for a fall.
          for (let i = 0; i < kept.length; ) {
            if (random() < 0.5 && send(kept[i]!) !== -5) kept.splice(i, 1);
            else i += 1;
          }
        }
        if (low > 32 + accepted / 64) expect(low).toBeLessThanOrEqual(32 + accepted / 64);
        miner.disconnect();
      }),
      { numRuns: 150, seed: SEED },
    );
    expect(lows).toBeGreaterThan(300);
  });

  test(`gains less than a fiftieth in ten hours by asking for a rise and a fall each minute (SEED=${SEED})`, () => {
    newTemplate({ block: true, bits: BITS[3] });
    const random = seeded(SEED);
    const HIGH = 100;
    const LOW = 50;
    const SHARES = 30;
    const miner = new ModelMiner(rig, { firmware: 'at once', user: `toggler${SEED}`, password: `d=${HIGH}` });
    let credit = 0;
    let work = 0;
    let low = 0;
    const submit = (share: Drawn): void => {
      const credited = Math.max(miner.submit(share), 0);
      if (credited === LOW) low += 1;
      credit += credited;
    };
    for (let minute = 0; minute < 600; minute++) {
      const kept: Drawn[] = [];
      for (let i = 0; i < SHARES; i++) {
        rig.tick(60_000 / SHARES);
        work += LOW;
        // Shares of at least LOW, one from each thirtieth of them: half meet HIGH.
        const share = { job: miner.job!, sdiff: LOW / ((i + 1 - random()) / SHARES) };
        if (share.sdiff >= miner.told) submit(share);
        else kept.push(share);
      }
      miner.call('mining.suggest_difficulty', [LOW]);
      for (const share of kept) submit(share);
      miner.call('mining.suggest_difficulty', [HIGH]);
      if (minute % 5 === 0) newTemplate({ block: true });
      miner.readAll();
    }
    expect(low).toBeGreaterThan(100);
    // With 32 low shares after each fall it is 1.5.
    expect(credit / work).toBeGreaterThan(1);
    expect(credit / work).toBeLessThan(1.02);
    // Nor does a new line begin anew.
    miner.disconnect();
    miner.sessionId = '';
    miner.connect();
    const job = miner.job!;
    miner.session.changeDifficulty(LOW, 'vardiff');
    let more = 0;
    for (let i = 0; i < 40; i++) if (miner.submit({ job, sdiff: LOW }) > 0) more += 1;
    expect(more).toBeLessThan(3);
    miner.disconnect();
  });
});

test('thousands of silent lines are lowered by the sweep a few at a time: the loop goes on in between', async () => {
  const own = await startRig({ config: { minDiff: 0.001, startDiff: 1 } });
  const LINES = 4_000;
  const miners = Array.from({ length: LINES }, (_, i) => new ModelMiner(own, { firmware: 'at once', user: `s${i}` }));
  // A fast machine would be through with all in some slices of two milliseconds: each line takes a while for certain.
  const LINE_MS = 0.05;
  for (const { session } of miners) {
    const sweep = session.sweep.bind(session);
    session.sweep = () => {
      const until = performance.now() + LINE_MS;
      while (performance.now() < until);
      sweep();
    };
  }
  own.tick(61_000);
  // The daemon's own timer comes within 5 s; then every turn of the loop is looked at.
  let lowered = 0;
  let turns = 0;
  let most = 0;
  await until(
    'all are lowered',
    async () => {
      for (let i = 0; i < 2_000 && lowered < LINES; i++) {
        // In the order in which the sweep comes to them.
        let now = lowered;
        while (now < LINES && miners[now]!.session.difficulty < 1) now += 1;
        if (now > lowered) turns += 1;
        most = Math.max(most, now - lowered);
        lowered = now;
        if (now === 0) break;
        await new Promise((resolve) => setImmediate(resolve));
      }
      return lowered === LINES;
    },
    { everyMs: 1 },
  );
  expect(turns).toBeGreaterThan(20);
  expect(most).toBeLessThan(LINES / 8);
  for (const { line } of miners) expect(line.unread.join()).toContain('mining.set_difficulty');
  await own.close();
});

test('a line that moves to another source is judged there by what it was told, though jobs there are older than its changes', async () => {
  const identity = poolIdentity(rig.daemon.config, rig.profile);
  const elsewhere = new PoolSource(rig.daemon, identity, { take: () => true });
  newTemplate({ block: true, bits: BITS[3] });
  elsewhere.take(template(rig.profile, { bits: BITS[3], prevHash: someHash('elsewhere') }));
  const miner = new ModelMiner(rig, { firmware: 'with a clean job', user: 'mover' });
  for (const diff of [1_000, 50, 400, 20]) miner.session.changeDifficulty(diff, 'vardiff');
  rig.daemon.facts.flush();
  miner.readAll();
  miner.session.move(elsewhere, miner.session.enonce1, -1);
  rig.daemon.facts.flush();
  miner.readAll();
  expect(miner.job!.prevHashRpc).toBe(someHash('elsewhere'));
  expect(miner.believed).toBe(20);
  expect(miner.session.requirement(miner.job!)).toEqual({ asked: 20, least: 20 });
  for (let i = 0; i < 100; i++) expect(miner.submit({ job: miner.job!, sdiff: 20 })).toBe(20);
  miner.disconnect();
});

describe('a rig of 200 TH/s that asks for a difficulty of 0.0001', () => {
  test.each(FIRMWARES.flatMap((firmware) => [200, 2_000, 20_000].map((linePerS) => [firmware, linePerS] as const)))(
    'and takes a new one %s is below a share a second in seconds, where its line carries %d a second',
    async (firmware, linePerS) => {
      const own = await startRig({ config: { minDiff: 1e-6, startDiff: 42 }, bits: 0x1a00ffff });
      const miner = new ModelMiner(own, { firmware, password: 'd=0.0001' });
      expect(miner.believed).toBe(0.0001);
      const hashrate = 200e12 / 2 ** 32;
      const begun = own.daemon.nowMs();
      let shares = 0;
      let swept = begun;
      while (hashrate / miner.believed > 1 && own.daemon.nowMs() - begun < 60_000) {
        own.tick(1_000 / Math.min(hashrate / miner.believed, linePerS));
        if (miner.submit({ job: miner.job!, sdiff: miner.believed * 1.5 }) < 0) expect('refused').toBe('accepted');
        shares += 1;
        if (own.daemon.nowMs() - swept > 5_000) {
          swept += 5_000;
          own.daemon.sweep();
          own.daemon.facts.flush();
        }
        miner.readAll();
      }
      expect(own.daemon.nowMs() - begun).toBeLessThan(20_000);
      expect(shares).toBeLessThan(8_000);
      // The wish is no floor any more.
      own.tick(61_000);
      own.daemon.sweep();
      own.daemon.facts.flush();
      miner.readAll();
      const lowered = miner.told;
      own.tick(61_000);
      own.daemon.sweep();
      own.daemon.facts.flush();
      miner.readAll();
      expect(miner.told).toBeLessThan(lowered);
      await own.close();
    },
  );
});

test('a wish is a floor while a share a minute comes at it, and then no more', async () => {
  const own = await startRig({ config: { minDiff: 0.001, startDiff: 42 }, bits: BITS[3] });
  const miner = new ModelMiner(own, { firmware: 'at once', password: 'd=1000' });
  const run = (minutes: number, everyS: number): void => {
    for (let s = 0; s < minutes * 60; s += everyS) {
      own.tick(everyS * 1_000);
      own.daemon.sweep();
      miner.readAll();
      miner.submit({ job: miner.job!, sdiff: miner.believed * 1.1 });
      own.daemon.facts.flush();
      miner.readAll();
    }
  };
  // Vardiff alone would lower it: a share in 20 s is a seventh of what it wants.
  run(30, 20);
  expect(miner.told).toBe(1_000);
  run(10, 250);
  expect(miner.told).toBeLessThan(1_000);
  await own.close();
});
