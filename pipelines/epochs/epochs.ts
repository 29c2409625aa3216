/**
 * Epochs of a chain, from its blocks: row by row of `epochs`.
 *
 *   epoch n   heights n·B … n·B+B-1; closed when block (n+1)·B is connected, final when the tip is at (n+1)·B + confirmations
 *   hashrate  Σ work(b) over the epoch's blocks / (time(last) - time(n·B-1))
 *   formula   D·W / mean block time, the contract's; 1.5e-5 below the former on Bitcoin, because W is 2^32 by definition
 *
 * The chain's own nBits is the truth; a prediction that differs is an alarm. While an epoch is open the same code forecasts.
 */
import { bitsHex } from '../../services/core/bitcoin/target.ts';
import { difficultyOf, difficultyRatio } from '../../services/core/chains/difficulty.ts';
import type { ChainProfile } from '../../services/core/chains/profile.ts';
import { isRetargetHeight, retarget, retargetSpan } from '../../services/core/chains/retarget.ts';
import { type BestChain, isLinked } from '../chain/best-chain.ts';
import { type Row, timeText } from '../row.ts';

export type EpochStatus = 'open' | 'closed' | 'final';

export interface Epoch {
  readonly epoch: number;
  readonly firstHeight: number;
  readonly lastHeight: number;
  readonly status: EpochStatus;
  /** Last height of the epoch that is connected. */
  readonly known: number;
}

/**
 * What is known of an epoch.
 * @returns null unless its blocks are connected without a hole from the first on, the closing one included where the tip is past it
 */
function epochAt(chain: BestChain, profile: ChainProfile, epoch: number): Epoch | null {
  const blocks = profile.payout_blocks;
  const firstHeight = epoch * blocks;
  const closing = firstHeight + blocks;
  if (chain.tip < firstHeight || !isLinked(chain, firstHeight, Math.min(chain.tip, closing))) return null;
  const status = chain.tip < closing ? 'open' : chain.tip < closing + profile.confirmations ? 'closed' : 'final';
  return { epoch, firstHeight, lastHeight: closing - 1, status, known: Math.min(chain.tip, closing - 1) };
}

export interface NextDifficulty {
  /** Of block (n+1)·B where closed, else a forecast; null where neither. */
  readonly bits: number | null;
  /** By the profile's rule, from the times that were or are expected; null where it predicts nothing. */
  readonly predicted: number | null;
  /** What the retarget measures, before clamping, seconds; null where unknown. */
  readonly actualS: number | null;
  /** Time of block (n+1)·B, or when it is expected, seconds since 1970; null where unknown. */
  readonly timeS: number | null;
}

/** The difficulty after an epoch: read where it is closed, forecast from the pace so far while it is open. */
export function nextDifficulty(chain: BestChain, profile: ChainProfile, of: Epoch): NextDifficulty {
  const closing = of.lastHeight + 1;
  const open = of.status === 'open';
  const tip = chain.at(of.known)!;
  const first = chain.at(of.firstHeight)!;
  const intervals = of.known - of.firstHeight;
  const elapsedS = tip.timeS - first.timeS;
  // Pace of a fresh epoch, or of one whose times run backwards: as the chain intends.
  const paced = intervals > 0 && elapsedS > 0;
  const expectedS = (count: number): number =>
    paced ? Math.floor((elapsedS * count) / intervals) : profile.target_spacing_s * count;
  const timeS = open ? tip.timeS + expectedS(closing - of.known) : chain.at(closing)!.timeS;

  let actualS: number | null = null;
  let predicted: number | null = null;
  const { rule } = profile.retarget;
  if (rule === 'none') predicted = tip.bits;
  else if (rule !== 'header' && isRetargetHeight(profile, closing)) {
    const span = retargetSpan(profile, closing);
    if (isLinked(chain, span.fromHeight, of.known)) {
      actualS = tip.timeS + (open ? expectedS(span.toHeight - of.known) : 0) - chain.at(span.fromHeight)!.timeS;
      // While it is open the tip may be a block of minimum difficulty (testnets), which the last one of the period rarely is.
      predicted = retarget(profile, { previousBits: open ? first.bits : tip.bits, firstBits: first.bits, actualS });
    }
  }
  return { bits: open ? predicted : chain.at(closing)!.bits, predicted, actualS, timeS };
}

function difficultyOrNull(profile: ChainProfile, bits: number | null): number | null {
  return bits === null ? null : difficultyOf(profile, bits);
}

function epochRow(chain: BestChain, profile: ChainProfile, of: Epoch): Row {
  const first = chain.at(of.firstHeight)!;
  const last = chain.at(of.known)!;
  let work = 0n;
  let subsidySats = 0n;
  let feesSats = 0n;
  let ownBlocks = 0;
  for (let height = of.firstHeight; height <= of.known; height++) {
    const block = chain.at(height)!;
    work += block.work;
    subsidySats += block.subsidySats;
    feesSats += block.feesSats;
    if (block.ours) ownBlocks += 1;
  }
  const blocks = of.known - of.firstHeight + 1;
  // Without the block before the first, its own interval is not known, nor counts its work.
  const before = isLinked(chain, of.firstHeight - 1, of.firstHeight) ? chain.at(of.firstHeight - 1)! : null;
  const intervals = before === null ? blocks - 1 : blocks;
  const spanS = last.timeS - (before ?? first).timeS;
  const spannedWork = before === null ? work - first.work : work;
  const { numerator, denominator } = difficultyRatio(profile, first.bits);
  const measured = spanS > 0 && intervals > 0;
  const span = BigInt(spanS);
  const next = nextDifficulty(chain, profile, of);
  return {
    chain: profile.name,
    epoch: of.epoch,
    status: of.status,
    first_height: of.firstHeight,
    last_height: of.lastHeight,
    blocks,
    first_hash: first.hash,
    last_hash: last.hash,
    closing_hash: of.status === 'open' ? '' : chain.at(of.lastHeight + 1)!.hash,
    nbits: bitsHex(first.bits),
    difficulty: difficultyOf(profile, first.bits),
    first_time: timeText(first.timeS * 1e6),
    last_time: timeText(last.timeS * 1e6),
    intervals,
    span_s: spanS,
    work: work.toString(),
    hashrate_hps: measured ? (spannedWork / span).toString() : null,
    hashrate_formula_hps: measured
      ? ((numerator * profile.hashes_per_difficulty * BigInt(intervals)) / (denominator * span)).toString()
      : null,
    subsidy_sats: subsidySats.toString(),
    fees_sats: feesSats.toString(),
    own_blocks: ownBlocks,
    retarget_actual_s: next.actualS,
    next_nbits: next.bits === null ? '' : bitsHex(next.bits),
    next_difficulty: difficultyOrNull(profile, next.bits),
    next_nbits_predicted: next.predicted === null ? '' : bitsHex(next.predicted),
    next_nbits_alarm: next.predicted !== null && next.bits !== next.predicted,
    next_time: next.timeS === null ? null : timeText(next.timeS * 1e6),
  };
}

/** The lowest epoch that a change at a height can concern: what was final stays so only `confirmations` below it. */
export function firstEpochTouched(profile: ChainProfile, fromHeight: number): number {
  return Math.max(0, Math.floor((fromHeight - profile.confirmations) / profile.payout_blocks) - 1);
}

/** Epochs from one on that are known well enough for a row. */
export function epochsFrom(chain: BestChain, profile: ChainProfile, fromEpoch: number): Epoch[] {
  const out: Epoch[] = [];
  for (let epoch = fromEpoch; epoch * profile.payout_blocks <= chain.tip; epoch++) {
    const known = epochAt(chain, profile, epoch);
    if (known !== null) out.push(known);
  }
  return out;
}

/** Rows of `epochs_raw` from an epoch on; those that are not among them do not exist. */
export function epochRows(chain: BestChain, profile: ChainProfile, fromEpoch: number): Row[] {
  return epochsFrom(chain, profile, fromEpoch).map((of) => epochRow(chain, profile, of));
}
