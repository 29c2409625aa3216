/**
 * The network's hashrate after each block, over windows of blocks as the node computes `getnetworkhashps`:
 * chainwork difference ÷ (largest − smallest block time), the block before the window included in the times.
 *
 * @see Bitcoin Core rpc/mining.cpp, GetNetworkHashPS
 */
import { difficultyOf } from '../../services/core/chains/difficulty.ts';
import type { ChainProfile } from '../../services/core/chains/profile.ts';
import { type BestChain, isLinked } from '../chain/best-chain.ts';
import { type Row, timeText } from '../row.ts';

/** As `getnetworkhashps` is asked; -1: since the last change of difficulty. */
const WINDOWS = [1, 10, 120, -1] as const;

/** Blocks in a window that ends at a height, cut at the chain's start. */
function windowBlocks(profile: ChainProfile, window: number, height: number): number {
  const blocks = window > 0 ? window : (height % profile.retarget.interval) + 1;
  return Math.min(blocks, height);
}

/** Rows of `hashrates_raw` from a height on; those that are not among them do not exist. Needs all blocks of a window. */
export function hashrateRows(chain: BestChain, profile: ChainProfile, fromHeight: number): Row[] {
  const rows: Row[] = [];
  const from = Math.max(fromHeight, 1);
  const reach = Math.max(120, profile.retarget.interval) + 1;
  const low = Math.max(0, from - reach);
  // Work summed up from `low` on, so that a window is one subtraction.
  const sums: bigint[] = [];
  const times: number[] = [];
  let sum = 0n;
  for (let height = low; height <= chain.tip; height++) {
    const block = chain.at(height);
    sum += block?.work ?? 0n;
    sums.push(sum);
    times.push(block?.timeS ?? 0);
  }
  for (let height = from; height <= chain.tip; height++) {
    const block = chain.at(height);
    if (block === undefined) continue;
    for (const window of WINDOWS) {
      const blocks = windowBlocks(profile, window, height);
      if (!isLinked(chain, height - blocks, height)) continue;
      let least = block.timeS;
      let most = block.timeS;
      for (let i = height - blocks - low; i < height - low; i++) {
        const time = times[i]!;
        if (time < least) least = time;
        if (time > most) most = time;
      }
      const work = sums[height - low]! - sums[height - blocks - low]!;
      const seconds = most - least;
      rows.push({
        chain: profile.name,
        height,
        window,
        hash: block.hash,
        time: timeText(block.timeS * 1e6),
        blocks,
        work: work.toString(),
        seconds,
        hashrate_hps: seconds === 0 ? null : (work / BigInt(seconds)).toString(),
        difficulty: difficultyOf(profile, block.bits),
      });
    }
  }
  return rows;
}
