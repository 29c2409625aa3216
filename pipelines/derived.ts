/**
 * Everything that is derived from `block` and `contract`, as one fold: epochs, the network's hashrates, contracts, payouts.
 *
 * The state is not stored. Both topics are small (a few hundred bytes for each block), so it is folded anew from the log at start: there is
 * then no second truth that could disagree with the log, and a changed rule takes effect by a restart. Rows are compared by key with
 * those in the table; what differs is replaced, what is gone is retracted.
 */
import type { BlockEvent, ContractEvent } from '../schemas/events.ts';
import { bestChain, type ChainState, evolveChain, initialChain } from './chain/best-chain.ts';
import { epochRows, firstEpochTouched } from './epochs/epochs.ts';
import { hashrateRows } from './hashrate/hashrates.ts';
import type { ProfileOf } from './payouts/contract-events.ts';
import { type Contracts, contractRow, evolveContracts, type Terms, termsOf } from './payouts/contracts.ts';
import { payoutRows } from './payouts/payouts.ts';
import type { Row } from './row.ts';

export interface DerivedState {
  /** By name of the profile. */
  readonly chains: Map<string, ChainState>;
  readonly contracts: Contracts;
}

export type DerivedEvent =
  | { readonly topic: 'block'; readonly event: BlockEvent }
  | { readonly topic: 'contract'; readonly event: ContractEvent };

/** What events changed of one chain. */
export interface Touched {
  /** Everything from this height on; Infinity: no block. */
  readonly fromHeight: number;
  /** Terms: they may concern every epoch, also those that were connected before they were heard of. */
  readonly contracts: boolean;
}

/** Two changes of one chain as one. */
export function mergeTouched(a: Touched | undefined, b: Touched): Touched {
  if (a === undefined) return b;
  return { fromHeight: Math.min(a.fromHeight, b.fromHeight), contracts: a.contracts || b.contracts };
}

export function initial(): DerivedState {
  return { chains: new Map(), contracts: new Map() };
}

function chainOf(state: DerivedState, name: string): ChainState {
  let chain = state.chains.get(name);
  if (chain === undefined) {
    chain = initialChain();
    state.chains.set(name, chain);
  }
  return chain;
}

/**
 * Takes one event in; the state handed in is changed.
 *
 * @param input - an event without anything wrong
 * @returns what it changed, or null
 */
export function evolve(state: DerivedState, input: DerivedEvent): { chain: string; touched: Touched } | null {
  if (input.topic === 'block') {
    const fromHeight = evolveChain(chainOf(state, input.event.chain), input.event);
    return fromHeight === null ? null : { chain: input.event.chain, touched: { fromHeight, contracts: false } };
  }
  if (!evolveContracts(state.contracts, input.event)) return null;
  const chain = state.contracts.get(input.event.contract_id)!.events.get(0)?.chain ?? input.event.chain;
  return { chain, touched: { fromHeight: Number.POSITIVE_INFINITY, contracts: true } };
}

/** The rows of a table from `from` on, by the column `scope`: exactly these, no others. */
export interface DerivedRows {
  readonly table: DerivedTable;
  readonly from: number;
  readonly rows: readonly Row[];
}

/** Key and scope of each derived table: `scope` orders its rows along the chain; a table without one is always given whole. */
export const DERIVED_TABLES = {
  epochs_raw: { key: ['chain', 'epoch'], scope: 'epoch' },
  hashrates_raw: { key: ['chain', 'height', 'window'], scope: 'height' },
  contracts_raw: { key: ['chain', 'contract_id'], scope: null },
  payouts_raw: { key: ['chain', 'contract_id', 'epoch'], scope: 'epoch' },
} as const;

export type DerivedTable = keyof typeof DERIVED_TABLES;

/** The rows of a chain that a change concerns. @throws what `profileOf` throws for a chain that it does not know */
export function rows(state: DerivedState, name: string, touched: Touched, profileOf: ProfileOf): DerivedRows[] {
  const profile = profileOf(name);
  const chain = bestChain(chainOf(state, name));
  const fromEpoch = firstEpochTouched(profile, touched.fromHeight);
  const payoutsFrom = touched.contracts ? 0 : fromEpoch;
  const terms: Terms[] = [];
  for (const contract of state.contracts.values()) {
    const each = termsOf(contract);
    if (each !== null && each.chain === name) terms.push(each);
  }
  return [
    { table: 'epochs_raw', from: fromEpoch, rows: epochRows(chain, profile, fromEpoch) },
    { table: 'hashrates_raw', from: touched.fromHeight, rows: hashrateRows(chain, profile, touched.fromHeight) },
    { table: 'contracts_raw', from: 0, rows: terms.map((each) => contractRow(chain, each)) },
    {
      table: 'payouts_raw',
      from: payoutsFrom,
      rows: terms.flatMap((each) => payoutRows(chain, profile, each, payoutsFrom)),
    },
  ];
}
