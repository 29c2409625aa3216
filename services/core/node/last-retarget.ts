/**
 * Whether a node's chain changes its difficulty as the profile says: the block of its latest retarget, read from four headers. A node checks that itself, by
 * its own rules; what differs is a profile of another chain, or a node that is not one.
 *
 * Asked by the chain follower at its start, and by doctor, which needs no follower for it.
 */
import { bytesFromHex } from '../bitcoin/bytes.ts';
import { blockHash, HEADER_SIZE_BYTES, hashHex, headerFromBytes } from '../bitcoin/header.ts';
import { bitsHex } from '../bitcoin/target.ts';
import type { ChainProfile } from '../chains/profile.ts';
import { type BitsAndTime, expectedBits, isRetargetHeight, retargetSpan } from '../chains/retarget.ts';
import { PoolError } from '../errors.ts';
import { type CallOptions, hexAnswer, type NodeRpc } from './rpc.ts';

/** nBits and time of the block at a height of the node's best chain. @throws PoolError node_* */
export async function headerAtHeight(rpc: NodeRpc, height: number, options: CallOptions = {}): Promise<BitsAndTime> {
  const hash = hexAnswer(`getblockhash ${height}`, await rpc.call('getblockhash', [height], options), 32);
  const answer = await rpc.call('getblockheader', [hash, false], options);
  const bytes = bytesFromHex(hexAnswer('getblockheader', answer, HEADER_SIZE_BYTES));
  if (hashHex(blockHash(bytes)) !== hash) {
    throw new PoolError('node_answer', `node ${rpc.name}: getblockheader ${hash} gave another header`);
  }
  const { bits, time } = headerFromBytes(bytes);
  return { bits, timeS: time };
}

/** Heights whose blocks decide the nBits of a retarget height. */
export function readAtRetarget(profile: ChainProfile, height: number): number[] {
  const { fromHeight, toHeight } = retargetSpan(profile, height);
  return [...new Set([fromHeight, height - profile.retarget.interval, toHeight])];
}

/** The latest height, up to a tip, at which the profile's rule computes nBits; null: there is none yet, or the rule never does. */
export function lastRetargetHeight(profile: ChainProfile, tipHeight: number): number | null {
  const { rule, interval } = profile.retarget;
  const height = Math.floor(tipHeight / interval) * interval;
  return rule === 'none' || rule === 'header' || !isRetargetHeight(profile, height) ? null : height;
}

/**
 * Looks at the latest retarget of a node's chain.
 * @returns what is wrong with it in one line, or null
 * @throws PoolError node_*
 */
export async function checkLastRetarget(
  rpc: NodeRpc,
  profile: ChainProfile,
  tipHeight: number,
  options: CallOptions = {},
): Promise<string | null> {
  const height = lastRetargetHeight(profile, tipHeight);
  if (height === null) return null;
  const heights = [...readAtRetarget(profile, height), height];
  const headers = await Promise.all(heights.map((each) => headerAtHeight(rpc, each, options)));
  const known = new Map(heights.map((each, i) => [each, headers[i]!]));
  const { bits, timeS } = known.get(height)!;
  const expected = expectedBits(profile, height, timeS, (each) => known.get(each));
  return expected === null || expected === bits ? null : wrongBitsLine(profile, height, bits, expected);
}

/** What a person does about it. */
export const MEND_BITS =
  'mend "retarget" in the profile (rule "header" where none fits), or find out whether the node is one of this chain';

export function wrongBitsLine(profile: ChainProfile, height: number, bits: number, expected: number): string {
  return `block ${height} has nBits ${bitsHex(bits)}, the profile ${profile.name} (retarget rule ${profile.retarget.rule}) gives ${bitsHex(expected)}`;
}
