import { describe, expect, test } from 'vitest';
import {
  decay,
  idleDifficulty,
  initialVardiff,
  vardiffPooled,
  vardiffStep,
} from '../../../services/stratum/vardiff.ts';
import { seeded } from './seeded.ts';

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
    const { changes } = run({ dsps: 0.05, start: 0.0001, seconds: 2, limits: { ...open, min: 1e-6, wish: 0.0001 } });
    expect(changes[0]!.atS).toBeLessThan(1);
    expect(changes[0]!.to).toBeGreaterThan(0.05);
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

  const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
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
        const out = vardiffStep(state, share, open);
        if (vardiffPooled(copy, share.credited, share.judgedAtOld, nowMs)) {
          pooled += 1;
          expect({ state: copy, wanted: null, forgetWish: false }).toEqual(out);
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
