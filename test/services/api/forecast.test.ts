import { expect, test } from 'vitest';
import { forecastOf } from '../../../services/api/forecast.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';

const bitcoin = loadChain('bitcoin');
const START_S = 1_700_000_000;

/** A running epoch of Bitcoin as the API reads it, of which some blocks came in some seconds. */
function open(blocks: number, elapsedS: number, more: Record<string, unknown> = {}): Record<string, unknown> {
  const paced = blocks > 1 && elapsedS > 0;
  const actualS = elapsedS + Math.floor(paced ? (elapsedS * (2016 - blocks)) / (blocks - 1) : 600 * (2016 - blocks));
  return {
    ...{ status: 'open', blocks, difficulty: 100, first_time_s: START_S, last_time_s: START_S + elapsedS },
    ...{ retarget_actual_s: String(actualS), ...more },
  };
}

test('after one block, and after two within a second, all that the rule allows is possible', () => {
  for (const row of [open(1, 0), open(2, 1), open(2, -30)]) {
    const { next_difficulty_low, next_difficulty_high, next_time_low_s, next_time_high_s } = forecastOf(row, bitcoin);
    expect(next_difficulty_high).toBe(400);
    expect(next_difficulty_low).toBeLessThanOrEqual(400);
    expect(next_time_low_s!).toBeLessThan(next_time_high_s!);
    for (const value of [next_difficulty_low, next_time_low_s, next_time_high_s]) expect(value).toBeGreaterThan(0);
  }
  expect(forecastOf(open(1, 0), bitcoin)).toMatchObject({
    next_difficulty_low: expect.closeTo(25, 1),
    next_time_low_s: START_S + 2016 * 150,
    next_time_high_s: START_S + 2016 * 2400,
  });
});

test('after half of a period at nine minutes a block the ends are those reckoned by hand', () => {
  // n = 1008, r = 1007 for the difficulty: factor exp(1.96 · sqrt(1/1008 + 1/1007)) = 1.0912.
  const found = forecastOf(open(1009, 1008 * 540), bitcoin);
  const total = (factor: number) => 1008 * 540 + 1007 * 540 * factor;
  expect(found.next_difficulty_low).toBeCloseTo((100 * 1_209_600) / total(1.09125), 2);
  expect(found.next_difficulty_high).toBeCloseTo((100 * 1_209_600) / total(1 / 1.09125), 2);
  expect(found.next_time_low_s! - START_S - 1008 * 540).toBeLessThan(1008 * 540);
  expect(found.next_time_high_s! - START_S - 1008 * 540).toBeGreaterThan(1008 * 540);
});

test('with the last block of a period only the next block’s time is open', () => {
  const found = forecastOf(open(2016, 2015 * 600), bitcoin);
  expect(found.next_difficulty_low).toBe(found.next_difficulty_high);
});

test('about nineteen of twenty epochs end within the intervals that were told at any time of them', () => {
  const seed = newSeed();
  const random = randomFrom(seed);
  const interval = (): number => -600 * Math.log((1 + random(1_000_000)) / 1_000_001);
  for (const at of [3, 100, 2000]) {
    let [inTime, inDifficulty] = [0, 0];
    const runs = 120;
    for (let run = 0; run < runs; run++) {
      let [elapsed, rest] = [0, 0];
      for (let i = 1; i < at; i++) elapsed += interval();
      for (let i = at; i < 2016; i++) rest += interval();
      const {
        next_difficulty_low: low,
        next_difficulty_high: high,
        ...times
      } = forecastOf(open(at, Math.round(elapsed)), bitcoin);
      const end = START_S + elapsed + rest + interval();
      if (end >= times.next_time_low_s! - 1 && end <= times.next_time_high_s! + 1) inTime += 1;
      const next = (100 * 1_209_600) / Math.min(Math.max(elapsed + rest, 302_400), 4_838_400);
      if (next >= low! * 0.9999 && next <= high! * 1.0001) inDifficulty += 1;
    }
    for (const inside of [inTime, inDifficulty]) expect(inside / runs, `seed ${seed} at ${at}`).toBeGreaterThan(0.85);
  }
});

test('no interval for an epoch that is closed, without a profile, and of the difficulty where none is predicted', () => {
  expect(Object.values(forecastOf(open(10, 6000, { status: 'closed' }), bitcoin))).toEqual([null, null, null, null]);
  expect(Object.values(forecastOf(open(10, 6000), null))).toEqual([null, null, null, null]);
  const header = { ...bitcoin, retarget: { ...bitcoin.retarget, rule: 'header' as const } };
  expect(forecastOf(open(10, 6000, { retarget_actual_s: null }), header)).toMatchObject({
    next_difficulty_low: null,
    next_time_low_s: expect.any(Number),
  });
  // At the limit there is nothing easier.
  expect(forecastOf(open(1, 0, { difficulty: 1 }), bitcoin).next_difficulty_low).toBeCloseTo(1, 4);
});
