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

/** What the rule reads of a block below. */
export interface BitsAndTime {
  readonly bits: number;
  /** Time in the header, seconds since 1970. */
  readonly timeS: number;
}

/**
 * nBits that the profile's rule gives a block: between retargets those of the block before it, on testnets with their exception.
 *
 * | block                                                       | nBits                                                                    |
 * |-------------------------------------------------------------|--------------------------------------------------------------------------|
 * | at a retarget height                                        | `retarget`; the exception never holds there, so that BIP 94 has its base |
 * | later than its parent by more than `min_difficulty_after_s` | those of the limit                                                       |
 * | on such a chain otherwise                                   | those of the last block not at the limit, back to the period's first     |
 * | on other chains                                             | its parent's                                                             |
 *
 * @param timeS - time in the block's header
 * @param at - what is known of the blocks below it, by height; undefined: not known
 * @returns null where the rule predicts nothing, and where blocks that it reads are not known
 * @see Bitcoin Core pow.cpp, GetNextWorkRequired; BIP 94
 */
export function expectedBits(
  profile: RetargetProfile,
  height: number,
  timeS: number,
  at: (height: number) => BitsAndTime | undefined,
): number | null {
  const { rule, interval, min_difficulty_after_s: exceptionS } = profile.retarget;
  const parent = at(height - 1);
  if (rule === 'header' || parent === undefined) return null;
  if (rule !== 'none' && isRetargetHeight(profile, height)) {
    const span = retargetSpan(profile, height);
    const [from, first] = [at(span.fromHeight), at(height - interval)];
    if (from === undefined || (rule === 'bip94' && first === undefined)) return null;
    return retarget(profile, {
      previousBits: parent.bits,
      ...(first === undefined ? {} : { firstBits: first.bits }),
      actualS: parent.timeS - from.timeS,
    });
  }
  if (exceptionS === undefined) return parent.bits;
  const limit = bitsFromTarget(profile.pow_limit);
  if (timeS > parent.timeS + exceptionS) return limit;
  for (let below = height - 1; ; below--) {
    const block = at(below);
    if (block === undefined) return null;
    if (below % interval === 0 || block.bits !== limit) return block.bits;
  }
}
