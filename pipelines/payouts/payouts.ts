/**
 * What each contract is owed for each epoch: rows of `payouts`, with every input of the arithmetic, so that a customer can check it.
 *
 * `owed` and `skipped` come at *final* only; before that a row is a forecast: of a closed epoch with its true difficulty, of an open one
 * with the forecast of the next difficulty, the subsidies to come, and the fees so far.
 */
import { scriptFromAddress } from '../../services/core/bitcoin/address.ts';
import { hexFromBytes } from '../../services/core/bitcoin/bytes.ts';
import { bitsHex } from '../../services/core/bitcoin/target.ts';
import { difficultyRatio } from '../../services/core/chains/difficulty.ts';
import type { ChainProfile } from '../../services/core/chains/profile.ts';
import { subsidySats } from '../../services/core/chains/subsidy.ts';
import type { BestChain } from '../chain/best-chain.ts';
import { type Epoch, epochsFrom, nextDifficulty } from '../epochs/epochs.ts';
import type { Row } from '../row.ts';
import { type Coverage, coverageOf, isCovered, type Terms } from './contracts.ts';
import { payoutOf } from './formula.ts';

interface Sums {
  readonly coveredBlocks: number;
  readonly sumHashrate: bigint;
  readonly sumHashrateSubsidy: bigint;
}

/** Σ_b H_b and Σ_b H_b·S_b over an epoch; the subsidy of heights to come by the profile. */
function sumsOf(chain: BestChain, profile: ChainProfile, epoch: Epoch, coverage: Coverage): Sums {
  let coveredBlocks = 0;
  let sumHashrate = 0n;
  let sumHashrateSubsidy = 0n;
  for (const piece of coverage.pieces) {
    if (piece.hashrateHps === 0n) continue;
    const end = Math.min(piece.to, epoch.lastHeight + 1);
    for (let height = Math.max(piece.from, epoch.firstHeight); height < end; height++) {
      const block = height <= epoch.known ? chain.at(height) : undefined;
      coveredBlocks += 1;
      sumHashrate += piece.hashrateHps;
      sumHashrateSubsidy += piece.hashrateHps * (block?.subsidySats ?? subsidySats(profile, height));
    }
  }
  return { coveredBlocks, sumHashrate, sumHashrateSubsidy };
}

interface Fees {
  readonly feeBlocks: number;
  readonly feesSats: bigint;
  /** Empty under `network`. */
  readonly heights: readonly number[];
}

function feesOf(chain: BestChain, epoch: Epoch, scripts: ReadonlySet<string> | null): Fees {
  let feeBlocks = 0;
  let feesSats = 0n;
  const heights: number[] = [];
  for (let height = epoch.firstHeight; height <= epoch.known; height++) {
    const block = chain.at(height)!;
    if (scripts !== null) {
      if (!block.scripts.some((script) => scripts.has(script))) continue;
      heights.push(height);
    }
    feeBlocks += 1;
    feesSats += block.feesSats;
  }
  return { feeBlocks, feesSats, heights };
}

/** Number of the contract's periods with hashrate before an epoch, known from heights alone. */
function periodsBefore(coverage: Coverage, blocks: number, epoch: number): number {
  let periods = 0;
  const first = coverage.pieces[0]?.from ?? Number.POSITIVE_INFINITY;
  for (let n = Math.floor(first / blocks); n < epoch; n++) {
    if (isCovered(coverage, n * blocks, n * blocks + blocks - 1)) periods += 1;
  }
  return periods;
}

/** Rows of `payouts_raw` of one contract from an epoch on; those that are not among them do not exist. */
export function payoutRows(chain: BestChain, profile: ChainProfile, terms: Terms, fromEpoch: number): Row[] {
  const coverage = coverageOf(chain, terms);
  if (coverage === null) return [];
  const scripts =
    terms.feeBasis === 'network'
      ? null
      : new Set(terms.ownAddresses.map((address) => hexFromBytes(scriptFromAddress(address, profile.address))));
  const blocks = profile.payout_blocks;
  const rows: Row[] = [];
  for (const epoch of epochsFrom(chain, profile, fromEpoch)) {
    if (!isCovered(coverage, epoch.firstHeight, epoch.lastHeight)) continue;
    const period = periodsBefore(coverage, blocks, epoch.epoch) + 1;
    const sums = sumsOf(chain, profile, epoch, coverage);
    const fees = feesOf(chain, epoch, scripts);
    // Where the rule predicts nothing, the present difficulty is the best forecast.
    const bits = nextDifficulty(chain, profile, epoch).bits ?? chain.at(epoch.known)!.bits;
    const difficulty = difficultyRatio(profile, bits);
    const { amountSats, numerator, denominator } = payoutOf({
      spacingS: BigInt(profile.target_spacing_s),
      sumHashrate: sums.sumHashrate,
      sumHashrateSubsidy: sums.sumHashrateSubsidy,
      feeBlocks: BigInt(fees.feeBlocks),
      feesSats: fees.feesSats,
      difficulty,
      hashesPerDifficulty: profile.hashes_per_difficulty,
    });
    const closingHash = epoch.status === 'open' ? '' : chain.at(epoch.lastHeight + 1)!.hash;
    rows.push({
      chain: profile.name,
      contract_id: terms.contractId,
      epoch: epoch.epoch,
      payout_id: `${terms.contractId}/${epoch.epoch}/${closingHash}/${terms.formulaVersion}`,
      status: epoch.status !== 'final' ? 'forecast' : period <= terms.skipPayouts ? 'skipped' : 'owed',
      amount_sats: amountSats.toString(),
      payout_address: terms.payoutAddress,
      period,
      skip_payouts: terms.skipPayouts,
      first_height: epoch.firstHeight,
      last_height: epoch.lastHeight,
      covered_blocks: sums.coveredBlocks,
      closing_hash: closingHash,
      nbits: bitsHex(bits),
      difficulty_numerator: difficulty.numerator.toString(),
      difficulty_denominator: difficulty.denominator.toString(),
      target_spacing_s: profile.target_spacing_s,
      hashes_per_difficulty: profile.hashes_per_difficulty.toString(),
      sum_hashrate: sums.sumHashrate.toString(),
      sum_hashrate_subsidy: sums.sumHashrateSubsidy.toString(),
      fee_basis: terms.feeBasis,
      fee_blocks: fees.feeBlocks,
      fee_block_heights: fees.heights,
      fees_sats: fees.feesSats.toString(),
      numerator: numerator.toString(),
      denominator: denominator.toString(),
      formula_version: terms.formulaVersion,
    });
  }
  return rows;
}
