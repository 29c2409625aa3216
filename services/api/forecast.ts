/**
 * How far off the forecast of a running epoch may be: 95 % intervals of the next difficulty and of its date. In its first blocks that is nearly everything
 * between the clamps of the retarget, and a page that shows the forecast alone would announce four times the difficulty after two quick blocks.
 *
 *   n intervals seen took E seconds; r are to come, and take R = E · r / n, times or over exp(1.96 · sqrt(1/n + 1/r))
 *
 * Assumes that blocks come independently at an even rate (exponential intervals; the ratio of two sums of them is F distributed, here taken as log-normal).
 * For show: doubles, and no column of a table.
 */
import { bitsFromTarget } from '../core/bitcoin/target.ts';
import { difficultyOf } from '../core/chains/difficulty.ts';
import type { ChainProfile } from '../core/chains/profile.ts';

export interface Forecast {
  readonly next_difficulty_low: number | null;
  readonly next_difficulty_high: number | null;
  /** Unix seconds. */
  readonly next_time_low_s: number | null;
  readonly next_time_high_s: number | null;
}

const NONE: Forecast = {
  ...{ next_difficulty_low: null, next_difficulty_high: null, next_time_low_s: null, next_time_high_s: null },
};
const Z_95 = 1.96;

/**
 * @param row - of the view `epochs` as the API asks for it
 * @param profile - null where it is not known here
 * @returns nulls for an epoch that is not open, and of the difficulty where the rule predicts none
 */
export function forecastOf(row: Readonly<Record<string, unknown>>, profile: ChainProfile | null): Forecast {
  if (row.status !== 'open' || profile === null) return NONE;
  const { payout_blocks: blocks, target_spacing_s: spacingS } = profile;
  const seen = Number(row.blocks) - 1;
  const elapsedS = Number(row.last_time_s) - Number(row.first_time_s);
  const known = seen > 0 && elapsedS > 0;
  /** Seconds that some blocks to come take: at least, as forecast, at most. */
  const toCome = (count: number): readonly [number, number, number] => {
    if (!known) return [(count * spacingS) / 4, count * spacingS, count * spacingS * 4];
    const middle = (elapsedS * count) / seen;
    const factor = count === 0 ? 1 : Math.exp(Z_95 * Math.sqrt(1 / seen + 1 / count));
    return [middle / factor, middle, middle * factor];
  };
  const [soonestS, , latestS] = toCome(blocks - seen);
  const times = {
    next_time_low_s: Math.floor(Number(row.last_time_s) + soonestS),
    next_time_high_s: Math.ceil(Number(row.last_time_s) + latestS),
  };
  const { rule } = profile.retarget;
  const measuredS = row.retarget_actual_s === null ? null : Number(row.retarget_actual_s);
  if (measuredS === null || rule === 'none' || rule === 'header') return { ...NONE, ...times };
  const [least, middle, most] = toCome(blocks - seen - 1);
  const timespanS = blocks * spacingS;
  // As the rule clamps, and not below what the chain allows.
  const easiest = difficultyOf(profile, bitsFromTarget(profile.pow_limit));
  const after = (actualS: number): number =>
    Math.max(easiest, (Number(row.difficulty) * timespanS) / Math.min(Math.max(actualS, timespanS / 4), timespanS * 4));
  return {
    next_difficulty_low: after(measuredS - middle + most),
    next_difficulty_high: after(measuredS - middle + least),
    ...times,
  };
}
