/**
 * The next nBits, in exact integers: what epochs are checked against and what a running epoch forecasts. The chain's own
 * nBits is the truth; a prediction that differs is an alarm.
 *
 *   new = old × actual / (B·T)      actual = time(h-1) - time(h-1-s), clamped to [B·T/4, 4·B·T]
 *
 * h = k·B, k >= 1. The division truncates, the result is capped at the limit, then rounded as nBits round. Nodes compute
 * in 256 bits and Litecoin's shifts by one bit to keep within them; the bit that it drops lies below what nBits hold, so
 * that the unbounded product here gives the same nBits.
 *
 * @see Bitcoin Core `pow.cpp` (CalculateNextWorkRequired); Litecoin `pow.cpp`; BIP 94
 */
import { bitsFromTarget, targetFromBits } from '../bitcoin/target.ts';
import type { ChainProfile } from './profile.ts';

/** The part of a profile that retargeting needs. */
export type RetargetProfile = Pick<ChainProfile, 'retarget' | 'payout_blocks' | 'target_spacing_s' | 'pow_limit'>;

/** True for heights k·B, k >= 1, at which nBits are computed anew. */
export function isRetargetHeight(profile: Pick<ChainProfile, 'retarget'>, height: number): boolean {
  return height > 0 && height % profile.retarget.interval === 0;
}

/**
 * The two blocks whose times are subtracted for the retarget at a height: actual = time(toHeight) - time(fromHeight).
 *
 * @param height - k·B, k >= 1, the first block with the new nBits
 * @throws RangeError for another height
 */
export function retargetSpan(
  profile: Pick<ChainProfile, 'retarget'>,
  height: number,
): { fromHeight: number; toHeight: number } {
  const { rule, interval } = profile.retarget;
  if (!Number.isSafeInteger(height) || !isRetargetHeight(profile, height)) {
    throw new RangeError(`height: expected a multiple of ${interval} above 0, got ${height}`);
  }
  // Bitcoin spans one block too few. Litecoin repaired that for every retarget but the first, before which there is none.
  const span = rule === 'litecoin' && height !== interval ? interval : interval - 1;
  return { fromHeight: height - 1 - span, toHeight: height - 1 };
}

/**
 * nBits of the block at a retarget height.
 *
 * @param input.previousBits - nBits of the block before it
 * @param input.firstBits - nBits of the period's first block, at height - B; needed by rule `bip94`
 * @param input.actualS - seconds between the two blocks of `retargetSpan`; may be negative, is clamped
 * @returns nBits, or null under rule `header`, which predicts nothing
 * @throws RangeError for bits that are no target, a missing firstBits, or an actualS that is not whole
 */
export function retarget(
  profile: RetargetProfile,
  input: { readonly previousBits: number; readonly firstBits?: number; readonly actualS: number },
): number | null {
  const { rule, interval } = profile.retarget;
  if (rule === 'header') return null;
  if (rule === 'none') return input.previousBits;
  if (!Number.isSafeInteger(input.actualS))
    throw new RangeError(`actualS: expected whole seconds, got ${input.actualS}`);
  let baseBits = input.previousBits;
  if (rule === 'bip94') {
    // BIP 94: a block of minimum difficulty at the period's end must not become the base.
    if (input.firstBits === undefined) throw new RangeError('firstBits: expected under rule bip94, got nothing');
    baseBits = input.firstBits;
  }
  const timespan = interval * profile.target_spacing_s;
  // The nodes' integer division: B·T/4 truncates where B·T is no multiple of 4.
  const actual = Math.min(Math.max(input.actualS, Math.floor(timespan / 4)), timespan * 4);
  const target = (targetFromBits(baseBits) * BigInt(actual)) / BigInt(timespan);
  return bitsFromTarget(target > profile.pow_limit ? profile.pow_limit : target);
}
