/**
 * What a contract is owed for one epoch, in exact integers:
 *
 *   payout = floor( T · Σ_b H_b · (S_b·N + ΣF) / (D · W · N) )      over the epoch's heights b
 *          = floor( T · (Σ H_b·S_b · N + Σ H_b · ΣF) · t / (T1 · W · N) )
 *
 * | letter | is                                                                  | unit        |
 * |--------|---------------------------------------------------------------------|-------------|
 * | T      | target spacing                                                      | s / block   |
 * | H_b    | the contract's hashrate at height b, 0 outside it                    | hash / s    |
 * | S_b    | subsidy at height b                                                 | sats        |
 * | N, ΣF  | number and fees of the fee basis' blocks; none: N = 1, ΣF = 0       | sats        |
 * | D      | T1 / t, difficulty set by block (n+1)·B: exact ratio                | 1           |
 * | W      | hashes per difficulty                                               | hash        |
 *
 * Assumption of the contract: blocks come every T seconds, so the epoch is worth B·T seconds of hashing whatever time it took. One floor,
 * after the sum: a halving or a change of H within the epoch is exact.
 */

export const FORMULA_VERSION = 1;

export interface PayoutTerms {
  /** T, seconds. */
  readonly spacingS: bigint;
  /** Σ_b H_b */
  readonly sumHashrate: bigint;
  /** Σ_b H_b · S_b */
  readonly sumHashrateSubsidy: bigint;
  /** N; 0: the basis has no block. */
  readonly feeBlocks: bigint;
  /** ΣF, sats; not counted where N is 0. */
  readonly feesSats: bigint;
  /** D as a ratio. */
  readonly difficulty: { readonly numerator: bigint; readonly denominator: bigint };
  /** W */
  readonly hashesPerDifficulty: bigint;
}

export interface Payout {
  readonly amountSats: bigint;
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** The payout of formula version 1, with the two integers whose quotient it is. */
export function payoutOf(terms: PayoutTerms): Payout {
  const none = terms.feeBlocks === 0n;
  const n = none ? 1n : terms.feeBlocks;
  const fees = none ? 0n : terms.feesSats;
  const numerator =
    terms.spacingS * (terms.sumHashrateSubsidy * n + terms.sumHashrate * fees) * terms.difficulty.denominator;
  const denominator = terms.difficulty.numerator * terms.hashesPerDifficulty * n;
  return { amountSats: numerator / denominator, numerator, denominator };
}
