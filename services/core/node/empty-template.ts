/**
 * The template of an empty block on a tip that the node has announced and whose full template is late: reckoned from the last template and
 * the new block's header, so that miners leave the old block at once.
 * Flow: `templates.ts` hears of a block, asks for its header and its template, and comes here where the template takes too long.
 *
 * It must never be wrong: null wherever something that the block needs does not follow from what is known.
 */
import { hexFromBytes } from '../bitcoin/bytes.ts';
import { witnessCommitmentScript } from '../bitcoin/coinbase.ts';
import type { ChainProfile } from '../chains/profile.ts';
import { isRetargetHeight } from '../chains/retarget.ts';
import { subsidySats } from '../chains/subsidy.ts';
import { hexAnswer, integerAnswer, objectAnswer } from './rpc.ts';
import { type Template, tailKeyOf } from './template.ts';

/** What of a header the next block depends on. */
export interface TipHeader {
  readonly hashRpc: string;
  readonly prevHashRpc: string;
  readonly height: number;
  readonly bits: number;
  /** Median of the last eleven times, this block's included, unix seconds; null where the node does not say (btcd). */
  readonly medianTimeS: number | null;
  /** In the best chain, and its last block. */
  readonly isTip: boolean;
}

export type EmptyProfile = Pick<ChainProfile, 'template' | 'retarget' | 'subsidy'>;

/** Clocks of the node and of this machine that differ by more are not reckoned with. */
const CLOCK_SLACK_S = 60;
/** Rules of which it is known what they ask of an empty block. */
const KNOWN_RULES = new Set(['csv', 'segwit', 'taproot']);

/**
 * Checks a node's `getblockheader`.
 * @throws PoolError node_answer naming the field
 */
export function tipHeader(raw: unknown): TipHeader {
  const header = objectAnswer('header', raw);
  return {
    hashRpc: hexAnswer('header.hash', header.hash, 32),
    prevHashRpc: hexAnswer('header.previousblockhash', header.previousblockhash, 32),
    height: integerAnswer('header.height', header.height, 1, 2 ** 31 - 1),
    bits: Number.parseInt(hexAnswer('header.bits', header.bits, 4), 16),
    medianTimeS:
      header.mediantime === undefined ? null : integerAnswer('header.mediantime', header.mediantime, 0, 2 ** 32 - 1),
    isTip: header.confirmations === 1 && header.nextblockhash === undefined,
  };
}

/**
 * The template of an empty block on `tip`.
 *
 * @param last - a full template, for the block that `tip` turned out to be
 * @param ageS - how long ago the node gave it, seconds
 * @param nowS - unix seconds of this machine
 * @returns null where anything about that block is uncertain
 */
export function emptyTemplate(
  last: Template,
  tip: TipHeader,
  profile: EmptyProfile,
  { ageS, nowS }: { readonly ageS: number; readonly nowS: number },
): Template | null {
  // Only the block that was being mined for is known to continue the chain as `last` describes it.
  if (last.empty || !tip.isTip || tip.height !== last.height || tip.prevHashRpc !== last.prevHashRpc) return null;
  const height = tip.height + 1;

  // nBits: those of the tip, unless they are computed anew, or depend on the time, or by a rule that is not known.
  const { rule, min_difficulty_after_s: minDifficultyAfterS } = profile.retarget;
  if (rule === 'header' || minDifficultyAfterS !== undefined || tip.bits !== last.bits) return null;
  if (rule !== 'none' && isRetargetHeight(profile, height)) return null;

  // Extension blocks are part of the block; signet's blocks are signed; of other rules it is not known what they ask.
  if (profile.template.mweb || last.mweb) return null;
  if (!last.rules.every((each) => KNOWN_RULES.has(each.replace(/^!/, '')))) return null;

  // Value: the profile's subsidy, where the node's own value of the block before bears it out.
  if (profile.subsidy.uncounted_scripts.length > 0 || last.feesSats === null) return null;
  if (last.coinbaseValueSats - last.feesSats !== subsidySats(profile, last.height)) return null;

  // Time: above the median, and not far from the node's clock.
  if (tip.medianTimeS === null) return null;
  const nodeAheadS = last.curtimeS - (nowS - ageS);
  const mintimeS = tip.medianTimeS + 1;
  if (Math.abs(nodeAheadS) > CLOCK_SLACK_S || mintimeS > nowS + CLOCK_SLACK_S) return null;

  const witnessCommitment = last.witnessCommitment === null ? null : hexFromBytes(witnessCommitmentScript([]));
  const chain = { prevHashRpc: tip.hashRpc, txCount: 0, branch: [], witnessCommitment };
  return {
    ...last,
    ...chain,
    height,
    curtimeS: Math.max(mintimeS, Math.floor(nowS + Math.min(nodeAheadS, 0))),
    mintimeS,
    coinbaseValueSats: subsidySats(profile, height),
    feesSats: 0n,
    commitmentFits: true,
    longPollId: null,
    tailKey: tailKeyOf(chain),
    tailSizeBytes: 0,
    empty: true,
  };
}
