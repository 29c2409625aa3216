/**
 * A chain's difficulty: exact as a ratio of integers, and as a double for show.
 *
 *   D = T1 / t      T1 the profile's difficulty-1 target, t the target of nBits
 *
 * Payouts divide by the ratio; nothing that is money touches the double.
 */
import { targetFromBits } from '../bitcoin/target.ts';
import type { ChainProfile } from './profile.ts';

/**
 * Difficulty of nBits as an exact ratio, not reduced: difficulty-1 target over target.
 *
 * @throws RangeError for bits that are no target, or target 0
 */
export function difficultyRatio(
  profile: Pick<ChainProfile, 'difficulty_1_target'>,
  bits: number,
): { numerator: bigint; denominator: bigint } {
  const target = targetFromBits(bits);
  if (target === 0n) throw new RangeError('bits: target 0 has no difficulty');
  return { numerator: profile.difficulty_1_target, denominator: target };
}

/** Difficulty of nBits as a double, the node's value before it prints 16 digits of it. @throws RangeError as difficultyRatio */
export function difficultyOf(profile: Pick<ChainProfile, 'difficulty_1_target'>, bits: number): number {
  const { numerator, denominator } = difficultyRatio(profile, bits);
  return Number(numerator) / Number(denominator);
}
