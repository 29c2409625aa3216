/**
 * Contracts as their events make them: a fold of `contract` by `contract_seq`, and on a given chain the hashrate at each height.
 *
 * | event   | says                                                                                       |
 * |---------|--------------------------------------------------------------------------------------------|
 * | opened  | everything; without a start it begins at the first height above the tip at acceptance       |
 * | changed | H from a height or time on, where it names one; an end, an address, a customer, a memo likewise |
 * | ended   | the end: `to_…`, or where that is absent `from_…`, or the first height above the tip        |
 *
 * Skips, fee basis and formula are those of `opened`.
 */
import type { ContractEvent } from '../../schemas/events.ts';
import type { BestChain } from '../chain/best-chain.ts';
import { type Row, timeText, timeTextOrNull } from '../row.ts';
import { contractEventPipeline } from './contract-events.ts';

export interface ContractState {
  /** By contract_seq. */
  readonly events: Map<number, ContractEvent>;
}

/** By contract id. */
export type Contracts = Map<string, ContractState>;

const rankIn = contractEventPipeline(() => {
  throw new Error('a rank needs no profile');
});

function rank(event: ContractEvent): bigint {
  return BigInt(rankIn.row(event, { instance: '', run: '', sequence: 0 }).rank as string);
}

/**
 * Takes one event in; the state handed in is changed.
 * @param event - without anything wrong (`wrongContractEvent`)
 * @returns true where something changed
 */
export function evolveContracts(contracts: Contracts, event: ContractEvent): boolean {
  let state = contracts.get(event.contract_id);
  if (state === undefined) {
    state = { events: new Map() };
    contracts.set(event.contract_id, state);
  }
  const known = state.events.get(event.contract_seq);
  if (known !== undefined && rank(known) >= rank(event)) return false;
  state.events.set(event.contract_seq, event);
  return true;
}

/** A height given as one, or as the first whose median time past reaches a time; above the tip at acceptance in either case. */
interface Boundary {
  readonly height: number;
  readonly timeUs: number;
  readonly tipHeight: number;
}

/** The terms of a contract, its events put together. */
export interface Terms {
  readonly contractId: string;
  readonly chain: string;
  readonly customer: string;
  readonly payoutAddress: string;
  readonly memo: string;
  readonly openedUs: number;
  readonly skipPayouts: number;
  readonly feeBasis: string;
  readonly ownAddresses: readonly string[];
  readonly formulaVersion: number;
  readonly lastSeq: number;
  /** By rising contract_seq: the last whose start is reached decides. */
  readonly rates: readonly { readonly from: Boundary; readonly hashrateHps: bigint }[];
  readonly end: Boundary | null;
}

/** @returns null while `opened` has not been seen */
export function termsOf(state: ContractState): Terms | null {
  const opened = state.events.get(0);
  if (opened === undefined) return null;
  const events = [...state.events.values()]
    .filter((event) => event.chain === opened.chain)
    .sort((a, b) => a.contract_seq - b.contract_seq);
  const start = (event: ContractEvent): Boundary => ({
    height: event.from_height,
    timeUs: event.from_height > 0 ? 0 : event.from_time_us,
    tipHeight: event.tip_height,
  });
  const endOf = (event: ContractEvent): Boundary | null => {
    if (event.to_height > 0) return { height: event.to_height, timeUs: 0, tipHeight: event.tip_height };
    if (event.to_time_us > 0) return { height: 0, timeUs: event.to_time_us, tipHeight: event.tip_height };
    return event.kind === 'ended' ? start(event) : null;
  };
  const last = (field: 'customer' | 'payout_address' | 'memo'): string =>
    events.findLast((event) => event[field] !== '')?.[field] ?? '';
  return {
    contractId: opened.contract_id,
    chain: opened.chain,
    customer: last('customer'),
    payoutAddress: last('payout_address'),
    memo: last('memo'),
    openedUs: opened.time_us,
    skipPayouts: opened.skip_payouts,
    feeBasis: opened.fee_basis,
    ownAddresses: opened.own_addresses,
    formulaVersion: opened.formula_version,
    lastSeq: events.at(-1)!.contract_seq,
    rates: events
      .filter(
        ({ kind, from_height, from_time_us }) =>
          kind === 'opened' || (kind === 'changed' && from_height + from_time_us > 0),
      )
      .map((event) => ({ from: start(event), hashrateHps: BigInt(event.hashrate_hps) })),
    end: events.map(endOf).findLast((end) => end !== null) ?? null,
  };
}

/** Not reached yet. */
const LATER = Number.POSITIVE_INFINITY;

/**
 * The height of a boundary on a chain; Infinity where the chain has not reached it.
 * @returns null where the blocks that would tell are not known
 */
function heightOf(chain: BestChain, { height, timeUs, tipHeight }: Boundary): number | null {
  if (height > 0) return height;
  const first = tipHeight + 1;
  if (timeUs === 0) return first;
  let low = Math.max(first, chain.base);
  if (chain.tip < low) return LATER;
  // A median of zero is unknown; it cannot be before anything.
  const reached = (at: number): boolean => chain.at(at)!.medianTimeUs >= timeUs;
  if (!reached(chain.tip)) return LATER;
  if (reached(low)) return low === first ? low : null;
  // Medians never fall from block to block (a block's time is above its parent's median), so the first is found by halving.
  let high = chain.tip;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (reached(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** A contract's hashrate on a chain. */
export interface Coverage {
  /** First height covered, Infinity where the chain has not reached it. */
  readonly from: number;
  /** First height no longer covered; Infinity: open, or not reached. */
  readonly to: number;
  /** Rising, without gaps within from…to; `to` is exclusive. */
  readonly pieces: readonly { readonly from: number; readonly to: number; readonly hashrateHps: bigint }[];
}

/** @returns null where a time falls among blocks that are not known */
export function coverageOf(chain: BestChain, terms: Terms): Coverage | null {
  const to = terms.end === null ? LATER : heightOf(chain, terms.end);
  const from = heightOf(chain, terms.rates[0]!.from);
  if (to === null || from === null) return null;
  const starts: { from: number; hashrateHps: bigint }[] = [];
  for (const rate of terms.rates) {
    const height = heightOf(chain, rate.from);
    if (height === null) return null;
    // A later event rules from its start on, over everything before it in the sequence.
    while (starts.length > 0 && starts.at(-1)!.from >= height) starts.pop();
    starts.push({ from: height, hashrateHps: rate.hashrateHps });
  }
  const pieces = starts
    .map((start, i) => ({
      from: Math.max(from, start.from),
      to: Math.min(to, starts[i + 1]?.from ?? LATER),
      hashrateHps: start.hashrateHps,
    }))
    .filter((piece) => piece.from < piece.to);
  return { from, to, pieces };
}

/** Σ_b H_b is above 0 over some height of first…last. */
export function isCovered(coverage: Coverage, first: number, last: number): boolean {
  return coverage.pieces.some((piece) => piece.hashrateHps > 0n && piece.from <= last && piece.to > first);
}

function statusOf(chain: BestChain, coverage: Coverage | null): string {
  if (coverage === null) return 'running';
  if (chain.tip + 1 >= coverage.to) return 'ended';
  return chain.tip + 1 >= coverage.from ? 'running' : 'pending';
}

function finite(height: number | undefined): number {
  return height !== undefined && Number.isFinite(height) ? height : 0;
}

/** Row of `contracts_raw`. */
export function contractRow(chain: BestChain, terms: Terms): Row {
  const coverage = coverageOf(chain, terms);
  return {
    chain: terms.chain,
    contract_id: terms.contractId,
    status: statusOf(chain, coverage),
    customer: terms.customer,
    payout_address: terms.payoutAddress,
    hashrate_hps: terms.rates.at(-1)!.hashrateHps.toString(),
    opened_time: timeText(terms.openedUs),
    from_height: finite(coverage?.from),
    from_time: timeTextOrNull(terms.rates[0]!.from.timeUs),
    to_height: finite(coverage?.to),
    to_time: terms.end === null ? null : timeTextOrNull(terms.end.timeUs),
    skip_payouts: terms.skipPayouts,
    fee_basis: terms.feeBasis,
    own_addresses: terms.ownAddresses,
    formula_version: terms.formulaVersion,
    changes: terms.lastSeq,
    memo: terms.memo,
  };
}
