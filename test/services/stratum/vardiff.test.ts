import { describe, expect, test } from 'vitest';
import { tellable, wholeTellable } from '../../../services/stratum/difficulty.ts';
import {
  decay,
  idleDifficulty,
  initialVardiff,
  vardiffPooled,
  vardiffStep,
} from '../../../services/stratum/vardiff.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

const open = { min: 1, max: Infinity, cap: Infinity, wish: null };

/** Sends shares at a fixed hashrate, all at the difficulty in force, and follows what vardiff does. */
function run(options: {
  dsps: number;
  start: number;
  seconds: number;
  limits?: typeof open | (Omit<typeof open, 'wish'> & { wish: number | null });
}): { changes: { atS: number; shares: number; to: number }[]; inForce: number; wishForgotten: boolean } {
  const limits = options.limits ?? open;
  let state = initialVardiff(0);
  let inForce = options.start;
  let wish = limits.wish;
  let nowMs = 0;
  let shares = 0;
  let wishForgotten = false;
  const changes: { atS: number; shares: number; to: number }[] = [];
  while (nowMs < options.seconds * 1000) {
    nowMs += (inForce / options.dsps) * 1000;
    shares += 1;
    const out = vardiffStep(state, { credited: inForce, inForce, judgedAtOld: false, nowMs }, { ...limits, wish });
    state = out.state;
    if (out.forgetWish) {
      wish = null;
      wishForgotten = true;
    }
    if (out.wanted !== null) {
      inForce = Math.min(out.wanted, limits.cap);
      changes.push({ atS: nowMs / 1000, shares, to: inForce });
    }
  }
  return { changes, inForce, wishForgotten };
}

describe('vardiff', () => {
  test('a fast miner is raised with its 72nd share, to about a share in 3.33 s', () => {
    const { changes } = run({ dsps: 700, start: 42, seconds: 6 });
    expect(changes[0]!.shares).toBe(72);
    expect(changes[0]!.to).toBeGreaterThan(700 * 3.33 * 0.8);
    expect(changes[0]!.to).toBeLessThan(700 * 3.33 * 1.2);
  });

  test('a steady miner ends between 0.15 and 0.4 shares a second, whatever it began with', () => {
    for (const start of [1, 100, 50_000]) {
      const { inForce } = run({ dsps: 1_000, start, seconds: 3_600 });
      const rate = 1_000 / inForce;
      expect(rate).toBeGreaterThan(0.14);
      expect(rate).toBeLessThan(0.41);
    }
  });

  test('a small miner gets a fraction where the minimum allows it', () => {
    const { inForce } = run({ dsps: 0.0003, start: 0.01, seconds: 7_200, limits: { ...open, min: 1e-6 } });
    expect(0.0003 / inForce).toBeGreaterThan(0.14);
    expect(inForce).toBeLessThan(0.01);
  });

  test('the minimum, the maximum and the network bound it', () => {
    expect(run({ dsps: 0.001, start: 2, seconds: 9_000, limits: { ...open, min: 1 } }).inForce).toBe(1);
    expect(run({ dsps: 1e6, start: 42, seconds: 60, limits: { ...open, max: 500 } }).inForce).toBe(500);
    expect(run({ dsps: 1e6, start: 42, seconds: 60, limits: { ...open, cap: 300 } }).inForce).toBe(300);
  });

  test('a wish is a floor while a share a minute comes at it', () => {
    // A share in 20 s: too few for vardiff, enough for the wish.
    const kept = run({ dsps: 50, start: 1_000, seconds: 3_600, limits: { ...open, wish: 1_000 } });
    expect(kept.inForce).toBe(1_000);
    expect(kept.wishForgotten).toBe(false);
    // A share in 250 s.
    const lost = run({ dsps: 4, start: 1_000, seconds: 3_600, limits: { ...open, wish: 1_000 } });
    expect(lost.wishForgotten).toBe(true);
    expect(lost.inForce).toBeLessThan(100);
  });

  test('a wish that is far too low holds nobody: 500 shares a second are raised within a second', () => {
    const { changes, wishForgotten } = run({
      dsps: 0.05,
      start: 0.0001,
      seconds: 2,
      limits: { ...open, min: 1e-6, wish: 0.0001 },
    });
    expect(changes[0]!.atS).toBeLessThan(1);
    expect(changes[0]!.to).toBeGreaterThan(0.05);
    expect(wishForgotten).toBe(true);
  });

  test('a share judged at an old difficulty decides nothing', () => {
    let state = initialVardiff(0);
    for (let i = 1; i <= 71; i++) {
      state = vardiffStep(state, { credited: 1, inForce: 1, judgedAtOld: false, nowMs: i * 100 }, open).state;
    }
    const old = vardiffStep(state, { credited: 1, inForce: 1, judgedAtOld: true, nowMs: 7_200 }, open);
    expect(old.wanted).toBeNull();
    expect(old.state.sharesSinceChange).toBe(0);
  });

  test(`a share taken in without a new state leaves the state that a step makes (SEED=${SEED})`, () => {
    const random = seeded(SEED);
    let pooled = 0;
    for (let round = 0; round < 200; round++) {
      let state = initialVardiff(0);
      let nowMs = 0;
      for (let i = 0; i < 300; i++) {
        nowMs += random() < 0.9 ? random() * 20 : random() * 300_000;
        const share = { credited: random() * 5, inForce: 1 + random(), judgedAtOld: random() < 0.1, nowMs };
        const copy = { ...state };
        const whole = round % 2 === 1;
        const out = vardiffStep(state, share, { ...open, whole });
        if (vardiffPooled(copy, share.credited, share.judgedAtOld, nowMs, whole)) {
          pooled += 1;
          expect({ state: copy, wanted: null, forgetWish: false, flood: false }).toEqual(out);
        } else expect(copy).toEqual(state);
        state = out.state;
      }
    }
    expect(pooled).toBeGreaterThan(10_000);
  });

  test('the mean goes to the rate and back to nothing', () => {
    let rate = 0;
    for (let i = 0; i < 600; i++) rate = decay(rate, 5, 1, 60);
    expect(rate).toBeCloseTo(5, 0);
    expect(decay(rate, 0, 1e6, 60)).toBeLessThan(rate);
    expect(decay(1e-16, 0, 1, 60)).toBe(0);
    expect(decay(3, 100, 0, 60)).toBe(3);
  });

  test('a miner without shares is quartered down to the minimum', () => {
    expect(idleDifficulty(1_000_000, 1)).toBe(250_000);
    expect(idleDifficulty(2, 1)).toBe(1);
    expect(idleDifficulty(1, 1)).toBeNull();
    expect(idleDifficulty(0.5, 1)).toBeNull();
  });
});

/**
 * CKPool's steps, written down from its description once more and as plainly as can be: state is changed in place, times are seconds, and
 * nothing of ours is in it.
 */
class CkpoolVardiff {
  diff: number;
  firstShare = 0;
  lastChange = 0;
  lastUpdate = 0;
  shares = 0;
  dsps5 = 0;
  waiting = 0;
  readonly mindiff: number;
  readonly maxdiff: number;
  readonly suggested: number;
  constructor(of: { start: number; mindiff?: number; maxdiff?: number; suggested?: number }) {
    this.diff = of.start;
    this.mindiff = of.mindiff ?? 1;
    this.maxdiff = of.maxdiff ?? 0;
    this.suggested = of.suggested ?? 0;
  }
  /** @returns the new difficulty, or 0 */
  share(now: number, credited: number, atOld: boolean, networkDiff: number): number {
    if (this.firstShare === 0) {
      this.firstShare = now;
      this.lastChange = now;
      this.lastUpdate = now;
    } else {
      this.waiting += credited;
      const passed = now - this.lastUpdate;
      if (passed >= 0.05) {
        const p = 1 - 1 / Math.exp(Math.min(passed / 300, 36));
        this.dsps5 = (this.dsps5 + (this.waiting / passed) * p) / (1 + p);
        if (this.dsps5 < 2e-16) this.dsps5 = 0;
        this.waiting = 0;
        this.lastUpdate = now;
      }
    }
    this.shares += 1;
    if (this.shares < 72 && now - this.lastChange < 240) return 0;
    if (atOld) {
      this.shares = 0;
      return 0;
    }
    // The one exception: a mean that holds nothing yet says nothing.
    if (this.dsps5 === 0 && this.waiting > 0) return 0;
    const bias = 1 - 1 / Math.exp(Math.min(Math.max(now - this.firstShare, 0.001) / 300, 36));
    const dsps = this.dsps5 / bias;
    const drr = dsps / this.diff;
    if (drr > 0.15 && drr < 0.4) return 0;
    let optimal: number;
    if (this.suggested > 0) {
      if (drr < 0.5) return 0;
      optimal = Math.floor(dsps * 2.4 + 0.5);
    } else optimal = Math.floor(dsps * 3.33 + 0.5);
    optimal = Math.max(optimal, this.mindiff);
    optimal = Math.max(optimal, this.suggested);
    if (this.maxdiff !== 0) optimal = Math.min(optimal, this.maxdiff);
    optimal = Math.trunc(Math.min(optimal, networkDiff));
    if (optimal === this.diff) return 0;
    if (optimal < this.diff && this.shares === 1) {
      this.lastChange = now;
      return 0;
    }
    this.shares = 0;
    this.lastChange = now;
    this.diff = optimal;
    return optimal;
  }
}

describe('under compat ckpool vardiff is CKPool 0.9.9 to the digit', () => {
  test('a miner of 689 difficulty a second goes from 42 to 2294 with its 72nd share, after 4.3 s', () => {
    let state = initialVardiff(0);
    let wanted: number | null = null;
    for (let i = 0; i < 72; i++) {
      expect(wanted).toBeNull();
      // Connected ten seconds before its first share, which only starts the clock.
      const nowMs = 10_000 + (i * 4_327) / 71;
      const share = { credited: 42, inForce: 42, judgedAtOld: false, nowMs };
      const out = vardiffStep(state, share, { ...open, cap: 4_194_304, whole: true });
      state = out.state;
      wanted = out.wanted;
    }
    const biased = state.dsps / (1 - Math.exp(-4.327 / 300));
    expect(biased).toBeCloseTo(689.03, 1);
    expect(biased / 42).toBeCloseTo(16.41, 2);
    expect(wanted).toBe(2294);
  });

  test(`any sequence of shares changes what the reference changes, at the same share (SEED=${SEED})`, () => {
    const random = seeded(SEED);
    let changes = 0;
    let falls = 0;
    for (let round = 0; round < 300; round++) {
      const start = [1, 42, 1_000, 65_536][round % 4]!;
      const mindiff = [1, 10][Math.floor(round / 4) % 2]!;
      const maxdiff = round % 5 === 0 ? 5_000 : 0;
      const suggested = round % 3 === 0 ? 100 : 0;
      const reference = new CkpoolVardiff({ start, mindiff, maxdiff, suggested });
      let inForce = start;
      let before = start;
      let oldShares = 0;
      let state = initialVardiff(0);
      let nowMs = 1_000 + random() * 1_000;
      let hashrate = 2 ** (random() * 24 - 4);
      for (let i = 0; i < 500; i++) {
        if (random() < 0.01) hashrate = 2 ** (random() * 24 - 4);
        // A pause of hours now and then, and bursts closer together than updates of the mean.
        const gap = random() < 0.005 ? random() * 7_200 : (-Math.log(1 - random()) * inForce) / hashrate;
        nowMs += Math.min(gap, 10_000) * 1_000;
        const atOld = oldShares > 0;
        if (atOld) oldShares -= 1;
        const credited = atOld ? before : inForce;
        const networkDiff = random() < 0.05 ? 20_000.7 : 1e12;
        const limits = {
          min: mindiff,
          max: maxdiff === 0 ? Infinity : maxdiff,
          cap: networkDiff,
          wish: suggested === 0 ? null : suggested,
          whole: true,
        };
        let told: number | null = null;
        const copy = { ...state };
        if (vardiffPooled(copy, credited, atOld, nowMs, true)) state = copy;
        else {
          const out = vardiffStep(state, { credited, inForce, judgedAtOld: atOld, nowMs }, limits);
          state = out.state;
          if (out.forgetWish) throw new Error('CKPool forgets no suggestion');
          if (out.wanted !== null) told = wholeTellable(out.wanted, networkDiff, mindiff);
        }
        const expected = reference.share(nowMs / 1_000, credited, atOld, networkDiff);
        if ((told ?? 0) !== expected) expect(told ?? 0, `round ${round}, share ${i}`).toBe(expected);
        if (told === null) continue;
        changes += 1;
        if (told < inForce) falls += 1;
        before = inForce;
        inForce = told;
        oldShares = Math.floor(random() * 5);
      }
    }
    // It has to have been about something.
    expect(changes).toBeGreaterThan(300);
    expect(falls).toBeGreaterThan(50);
  });

  test(`with fractions the same sequences change to the same value before rounding (SEED=${SEED})`, () => {
    const random = seeded(SEED);
    let changes = 0;
    for (let round = 0; round < 200; round++) {
      const reference = new CkpoolVardiff({ start: 1_000 });
      let inForce = 1_000;
      let state = initialVardiff(0);
      let nowMs = 1_000;
      const hashrate = 2 ** (random() * 12 + 4);
      for (let i = 0; i < 300; i++) {
        nowMs += 51 + (-Math.log(1 - random()) * inForce * 1_000) / hashrate;
        const share = { credited: inForce, inForce, judgedAtOld: false, nowMs };
        const out = vardiffStep(state, share, open);
        state = out.state;
        const expected = reference.share(nowMs / 1_000, inForce, false, Infinity);
        const told = out.wanted === null ? 0 : tellable(out.wanted, Infinity);
        if (told !== expected) expect(told, `round ${round}, share ${i}`).toBe(expected);
        if (out.wanted === null) continue;
        changes += 1;
        inForce = expected;
      }
    }
    expect(changes).toBeGreaterThan(100);
  });
});

describe('a rig of 200 TH/s with d=0.0001', () => {
  // 4.7e8 shares a second would come; a line carries some thousands.
  test.each([200, 2_000, 20_000])(
    'is at a share in seconds after few shares, where its line carries %d a second',
    (linePerS) => {
      const hashrate = 200e12 / 2 ** 32;
      let state = initialVardiff(0);
      let inForce = 0.0001;
      let wish: number | null = 0.0001;
      let told = inForce;
      let nowMs = 0;
      let shares = 0;
      let saneAtMs = -1;
      let sharesUntilSane = 0;
      const saneRate = 1;
      while (nowMs < 30_000) {
        const rate = Math.min(hashrate / inForce, linePerS);
        nowMs += 1_000 / rate;
        shares += 1;
        const out = vardiffStep(
          state,
          { credited: inForce, inForce, judgedAtOld: false, nowMs },
          { ...open, min: 1e-6, wish },
        );
        state = out.state;
        if (out.forgetWish) wish = null;
        if (out.wanted !== null) {
          told = tellable(out.wanted, Infinity);
          // A flood is told with new work, so that any firmware takes it.
          if (told > inForce && rate > 20) expect(out.flood).toBe(true);
          inForce = told;
        }
        if (saneAtMs < 0 && hashrate / inForce < saneRate) {
          saneAtMs = nowMs;
          sharesUntilSane = shares;
        }
      }
      expect(wish).toBeNull();
      expect(saneAtMs).toBeGreaterThan(0);
      expect(saneAtMs).toBeLessThan(10_000);
      // No more than the line carries while the mean is found, and never more than some thousand.
      expect(sharesUntilSane).toBeLessThan(8_000);
    },
  );

  test('a hashrate that grows thousandfold after an hour holds above 20 shares a second for less than 10 s', () => {
    let state = initialVardiff(0);
    let inForce = 1_000;
    let hashrate = 300;
    let nowMs = 0;
    let floodMs = 0;
    while (nowMs < 3_700_000) {
      if (nowMs > 3_600_000) hashrate = 300_000;
      const gap = (inForce / hashrate) * 1_000;
      nowMs += gap;
      if (hashrate / inForce > 20) floodMs += gap;
      const share = { credited: inForce, inForce, judgedAtOld: false, nowMs };
      const out = vardiffStep(state, share, { ...open, wish: 1_000 });
      state = out.state;
      if (out.wanted !== null) inForce = tellable(out.wanted, Infinity);
    }
    expect(floodMs).toBeGreaterThan(0);
    expect(floodMs).toBeLessThan(10_000);
  });
});
