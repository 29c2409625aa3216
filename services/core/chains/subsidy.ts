/**
 * What a block creates, and what of its coinbase was fees. Read from the block alone, so that anybody can check it.
 *
 * @see Bitcoin Core `validation.cpp`, GetBlockSubsidy
 */
import { hexFromBytes } from '../bitcoin/bytes.ts';
import type { Tx } from '../bitcoin/transaction.ts';
import type { ChainProfile } from './profile.ts';

/**
 * Subsidy of the block at a height, in smallest units.
 *
 * @throws RangeError unless height is a whole number of 0 or above
 */
export function subsidySats(profile: Pick<ChainProfile, 'subsidy'>, height: number): bigint {
  if (!Number.isSafeInteger(height) || height < 0) throw new RangeError(`height: expected 0 or above, got ${height}`);
  const { initial_sats: initial, halving_interval: interval, steps } = profile.subsidy;
  if (steps !== undefined) return steps.findLast((s) => s.from_height <= height)?.sats ?? initial;
  if (interval === 0) return initial;
  return initial >> BigInt(Math.floor(height / interval));
}

/**
 * Sum of a coinbase's outputs that the profile counts, in smallest units: subsidy and fees as the miner claimed them.
 */
export function countedSats(profile: Pick<ChainProfile, 'subsidy'>, coinbase: Pick<Tx, 'outputs'>): bigint {
  const uncounted = profile.subsidy.uncounted_scripts;
  let sum = 0n;
  for (const output of coinbase.outputs) {
    if (uncounted.length > 0 && uncounted.includes(hexFromBytes(output.script))) continue;
    sum += output.valueSats;
  }
  return sum;
}

/** Fees of a block: what its coinbase's counted outputs hold above the subsidy; a miner that claims less counts as 0. */
export function feesSats(
  profile: Pick<ChainProfile, 'subsidy'>,
  height: number,
  coinbase: Pick<Tx, 'outputs'>,
): bigint {
  const fees = countedSats(profile, coinbase) - subsidySats(profile, height);
  return fees > 0n ? fees : 0n;
}
