/** Row of `chains`: a profile as analysts need it beside events that carry its name. */
import type { ChainProfile } from '../../services/core/chains/profile.ts';
import type { Row } from '../row.ts';

/** @returns the row, 256-bit numbers as decimal text */
export function chainRow(profile: ChainProfile): Row {
  return {
    chain: profile.name,
    title: profile.title,
    pow: profile.pow,
    difficulty_1_target: profile.difficulty_1_target.toString(),
    hashes_per_difficulty: profile.hashes_per_difficulty.toString(),
    payout_blocks: profile.payout_blocks,
    target_spacing_s: profile.target_spacing_s,
    confirmations: profile.confirmations,
    coin: profile.smallest_unit.coin,
    smallest_unit: profile.smallest_unit.name,
    decimals: profile.smallest_unit.decimals,
  };
}
