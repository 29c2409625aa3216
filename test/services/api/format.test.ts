import { describe, expect, test } from 'vitest';
// @ts-expect-error the page's own script has no types
import * as format from '../../../services/api/public/format.js';

const coin = { coin: 'BTC', decimals: 8 };

describe('numbers on the page', () => {
  test.each([
    [0, '0 H/s'],
    [12_345, '12.3 kH/s'],
    [999.96, '1.00 kH/s'],
    ['150000000000000', '150 TH/s'],
    ['700000000000000000000', '700 EH/s'],
    [null, '–'],
  ])('a hashrate of %s is %s', (hps, text) => {
    expect(format.hashrate(hps)).toBe(text.replaceAll(' ', '\u00a0'));
  });

  test.each([
    [0.00003, '3.00 × 10⁻⁵'],
    [0.5, '0.5'],
    [12_345, '12,345'],
    [92_671_576_265_161, '92.7 T'],
    [null, '–'],
  ])('a difficulty of %s is %s', (value, text) => {
    expect(format.difficulty(value)).toBe(text);
  });

  test.each([
    ['5000000000', '50 BTC'],
    ['1', '0.00000001 BTC'],
    ['-150000000', '−1.5 BTC'],
    ['900719925474099312345678', '9,007,199,254,740,993.12345678 BTC'],
  ])('%s smallest units are %s, exact', (sats, text) => {
    expect(format.coins(sats, coin)).toBe(text);
  });

  test.each([
    [5, '5 s'],
    [200, '3 min 20 s'],
    [7_260, '2 h 1 min'],
    [90_000, '1 d 1 h'],
    [-3, '0 s'],
  ])('%s seconds are %s', (seconds, text) => {
    expect(format.duration(seconds)).toBe(text);
  });

  test('a payout is done again from its columns, one floor after the sum', () => {
    const payout = {
      target_spacing_s: 5,
      sum_hashrate_subsidy: '2400000000000000',
      sum_hashrate: '480000',
      fee_blocks: 24,
      fees_sats: '387953',
      difficulty_numerator: '100',
      difficulty_denominator: '3',
      hashes_per_difficulty: '4294967296',
    };
    // 5 · (2.4e15·24 + 480000·387953) · 3 / (100 · 2^32 · 24)
    expect(format.payoutCheck(payout)).toBe(
      (5n * (2_400_000_000_000_000n * 24n + 480_000n * 387_953n) * 3n) / (100n * 4_294_967_296n * 24n),
    );
    expect(format.payoutCheck({ ...payout, fee_blocks: 0, fees_sats: '0' })).toBe(
      (5n * 2_400_000_000_000_000n * 3n) / (100n * 4_294_967_296n),
    );
  });
});

describe("the pool's line", () => {
  const step = { step_s: 60, hashes_per_difficulty: 2 ** 32 };
  const share = (time_s: number, diff: number): object => ({ time_s, diff });
  const said = (time_s: number, hashrate_hps: number): object => ({ time_s, hashrate_hps });

  test('is what CKPool said before there were shares, then the shares, then 0 where there are none', () => {
    const perMinute = 2 ** 32 / 60;
    const [times, values] = format.poolLine(
      { ...step, pool: [share(600, 1)], status: [said(0, perMinute), said(600, 99 * perMinute)] },
      60 * 14,
    );
    expect(times[0]).toBe(60);
    expect(times.at(-1)).toBe(60 * 14);
    const relative = values.map((value: number | null) =>
      value === null ? null : Number((value / perMinute).toFixed(9)),
    );
    // Five minutes of what was said, then nothing is known, then one share of difficulty 1, smoothed over minutes with none.
    expect(relative).toEqual([1, 1, 1, 1, 1, null, null, null, null, null, 1, 0.5, 0.333333333, 0.25]);
  });

  test('fills a hole between shares with what CKPool said meanwhile', () => {
    const [, values] = format.poolLine(
      { ...step, pool: [share(0, 0), share(1200, 0)], status: [said(600, 5e9)] },
      60 * 22,
    );
    expect(values[10]).toBe(1e9);
    expect(values.at(-1)).toBe(0);
  });

  test('is empty where nothing is known', () => {
    expect(format.poolLine({ ...step, pool: [], status: [] }, 1000)).toEqual([[], []]);
  });
});

test('a chart of a lone point spans a minute on both sides, though uPlot offers years; any other what it has', () => {
  expect(format.timeRange({ data: [[1_795_744_080], [1]] }, 1_795_744_080, 1_882_144_080)).toEqual([
    1_795_744_020, 1_795_744_140,
  ]);
  expect(
    format.timeRange(
      {
        data: [
          [60, 120],
          [1, 2],
        ],
      },
      60,
      120,
    ),
  ).toEqual([60, 120]);
});
