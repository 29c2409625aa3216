/**
 * Derivations for the log: what is to be said of epochs, the network's hashrates and payouts, as events of topics of their own, for others to read.
 *
 *   block, contract ─► derived.ts ─► dueOf ◄── Published ◄── the log's own epoch, hashrate, payout
 *                                      └─► events that are not there yet
 *
 * An event is a function of the facts: its time, and the number that orders it, are those of the block that it is about. So what two publishers
 * say, or one says twice, is one event. What was published is never said otherwise: where this version computes something else, that is a
 * difference to be looked at, in the log of the consumers and in `replay --verify`.
 */
import { hash } from 'node:crypto';
import { encodeEvent } from '../../schemas/codec.ts';
import type { EpochEvent, Events, HashrateEvent, Inputs, PayoutEvent } from '../../schemas/events.ts';
import { bitsHex } from '../../services/core/bitcoin/target.ts';
import { difficultyOf } from '../../services/core/chains/difficulty.ts';
import { type BestChain, bestChain, type ChainBlock } from '../chain/best-chain.ts';
import type { DerivedState, Touched } from '../derived.ts';
import { epochRows, firstEpochTouched } from '../epochs/epochs.ts';
import { hashrateRows } from '../hashrate/hashrates.ts';
import type { ProfileOf } from '../payouts/contract-events.ts';
import { termsOf } from '../payouts/contracts.ts';
import { payoutRows } from '../payouts/payouts.ts';
import type { Row } from '../row.ts';
import type { DerivationTopic } from './topics.ts';

export type Derivation = { [T in DerivationTopic]: { readonly topic: T; readonly event: Inputs[T] } }[DerivationTopic];

/** Of two events with one number the later kind holds. */
const KIND_ORDER: Readonly<Record<string, number>> = {
  ...{ closed: 0, final: 1, reopened: 2 },
  ...{ measured: 0, withdrawn: 1 },
  ...{ owed: 0, skipped: 0, reversed: 1 },
};

const TAKEN_BACK: ReadonlySet<string> = new Set(['reopened', 'withdrawn', 'reversed']);

interface Said {
  readonly kind: string;
  readonly follower: string;
  readonly chain_seq: number;
}

/** Whether an event says what holds after another about the same. Of one follower its numbers decide, whatever order the two are read in. */
function supersedes(event: Said, known: Said | undefined): boolean {
  if (known === undefined || known.follower !== event.follower) return true;
  if (event.chain_seq !== known.chain_seq) return event.chain_seq > known.chain_seq;
  return (KIND_ORDER[event.kind] ?? 0) > (KIND_ORDER[known.kind] ?? 0);
}

/** A hashrate as far as it is remembered: there is one for each block. */
interface HashrateSaid extends Said {
  readonly hash: string;
  readonly timeUs: number;
  /** Of its content. */
  readonly digest: string;
}

interface ChainSaid {
  readonly epochs: Map<number, EpochEvent>;
  readonly hashrates: Map<number, HashrateSaid>;
  readonly payouts: Map<string, PayoutEvent>;
  /** Greatest height of a hashrate. */
  top: number;
}

/** What the log says already: the last word about each epoch, block and payout. A fold of the topics above; the order of events does not count. */
export class Published {
  readonly chains = new Map<string, ChainSaid>();

  of(chain: string): ChainSaid {
    let said = this.chains.get(chain);
    if (said === undefined) {
      said = { epochs: new Map(), hashrates: new Map(), payouts: new Map(), top: -1 };
      this.chains.set(chain, said);
    }
    return said;
  }

  /** Takes an event in as it is in the log. */
  take<T extends DerivationTopic>(topic: T, event: Events[T]): void {
    const said = this.of(event.chain);
    if (topic === 'epoch') {
      const epoch = event as EpochEvent;
      if (supersedes(epoch, said.epochs.get(epoch.epoch))) said.epochs.set(epoch.epoch, epoch);
    } else if (topic === 'payout') {
      const payout = event as PayoutEvent;
      if (supersedes(payout, said.payouts.get(payout.payout_id))) said.payouts.set(payout.payout_id, payout);
    } else {
      const { kind, follower, chain_seq, height, time_us, ...rest } = event as HashrateEvent;
      if (!supersedes({ kind, follower, chain_seq }, said.hashrates.get(height))) return;
      const digest = TAKEN_BACK.has(kind) ? '' : contentDigest('hashrate', event as HashrateEvent);
      said.hashrates.set(height, { kind, follower, chain_seq, hash: rest.hash, timeUs: time_us, digest });
      said.top = Math.max(said.top, height);
    }
  }
}

/** What an event says, without its place among others: the same block may have been connected twice. */
function contentDigest<T extends DerivationTopic>(topic: T, event: Inputs[T]): string {
  const content = { ...event, follower: '', chain_seq: 0, time_us: 0 };
  if (topic === 'epoch') (content as { kind: string }).kind = '';
  return hash('sha256', encodeEvent(topic, content), 'hex').slice(0, 16);
}

/** Something published that is not what the facts give. */
export interface Difference {
  readonly topic: DerivationTopic;
  /** `chain/epoch`, `chain/height` or the payout's id. */
  readonly about: string;
  readonly hash: string;
}

export interface Due {
  /** In the order in which they are to be appended. */
  readonly events: readonly Derivation[];
  readonly differences: readonly Difference[];
}

/** True only where it is known that another block, or none, stands at that height: what is not known is not taken back. */
function isGone(chain: BestChain, height: number, blockHash: string): boolean {
  const block = chain.at(height);
  return block === undefined ? chain.tip >= 0 && height > chain.tip : block.hash !== blockHash;
}

function placeOf({ follower, chainSeq, seenUs }: ChainBlock): {
  follower: string;
  chain_seq: number;
  time_us: number;
} {
  return { follower, chain_seq: chainSeq, time_us: seenUs };
}

const text = (value: unknown): string => (value === null ? '' : String(value));

function epochEvent(chain: BestChain, row: Row): EpochEvent {
  const firstHeight = row.first_height as number;
  const lastHeight = row.last_height as number;
  const closing = chain.at(lastHeight + 1)!;
  return {
    kind: 'closed',
    chain: row.chain as string,
    epoch: row.epoch as number,
    ...placeOf(closing),
    first_height: firstHeight,
    last_height: lastHeight,
    first_hash: row.first_hash as string,
    last_hash: row.last_hash as string,
    closing_hash: closing.hash,
    nbits: row.nbits as string,
    difficulty: row.difficulty as number,
    first_block_time_us: chain.at(firstHeight)!.timeS * 1e6,
    last_block_time_us: chain.at(lastHeight)!.timeS * 1e6,
    closing_block_time_us: closing.timeS * 1e6,
    intervals: row.intervals as number,
    span_s: row.span_s as number,
    chain_work: row.work as string,
    hashrate_hps: text(row.hashrate_hps),
    hashrate_formula_hps: text(row.hashrate_formula_hps),
    subsidy_sats: row.subsidy_sats as string,
    fees_sats: row.fees_sats as string,
    own_blocks: row.own_blocks as number,
    retarget_actual_s: (row.retarget_actual_s as number | null) ?? 0,
    next_nbits: row.next_nbits as string,
    next_difficulty: row.next_difficulty as number,
    next_nbits_predicted: row.next_nbits_predicted as string,
  };
}

function payoutEvent(chain: BestChain, row: Row): PayoutEvent {
  const { status, ...rest } = row;
  return {
    ...(rest as unknown as Omit<PayoutEvent, 'kind' | 'follower' | 'chain_seq' | 'time_us'>),
    kind: status as string,
    ...placeOf(chain.at((row.last_height as number) + 1)!),
  };
}

/**
 * What is to be appended so that the log says what the facts give.
 *
 * @param state - the fold of blocks and contracts
 * @param published - what the log says
 * @param touched - what changed since all was said
 * @throws what `profileOf` throws for a chain that it does not know
 */
export function dueOf(
  state: DerivedState,
  published: Published,
  name: string,
  touched: Touched,
  profileOf: ProfileOf,
): Due {
  const followed = state.chains.get(name);
  const events: Derivation[] = [];
  const differences: Difference[] = [];
  if (followed === undefined) return { events, differences };
  const chain = bestChain(followed);
  const profile = profileOf(name);
  const said = published.of(name);
  const blocks = profile.payout_blocks;

  const fromEpoch = firstEpochTouched(profile, touched.fromHeight);
  for (const known of said.epochs.values()) {
    if (known.epoch < fromEpoch || TAKEN_BACK.has(known.kind)) continue;
    if (isGone(chain, known.last_height + 1, known.closing_hash)) {
      events.push({ topic: 'epoch', event: { ...known, kind: 'reopened' } });
    }
  }
  for (const row of epochRows(chain, profile, fromEpoch)) {
    if (row.status === 'open') continue;
    const now = epochEvent(chain, row);
    const known = said.epochs.get(now.epoch);
    const stands = known?.closing_hash === now.closing_hash && !TAKEN_BACK.has(known.kind);
    if (!stands) events.push({ topic: 'epoch', event: now });
    else if (contentDigest('epoch', known) !== contentDigest('epoch', now)) {
      differences.push({ topic: 'epoch', about: `${name}/${now.epoch}`, hash: now.closing_hash });
      continue;
    }
    if (row.status === 'final' && !(stands && known.kind === 'final')) {
      events.push({ topic: 'epoch', event: { ...(stands ? known : now), kind: 'final' } });
    }
  }

  for (let height = Math.max(0, touched.fromHeight); height <= said.top; height++) {
    const known = said.hashrates.get(height);
    if (known === undefined || TAKEN_BACK.has(known.kind) || !isGone(chain, height, known.hash)) continue;
    const { follower, chain_seq, timeUs } = known;
    const place = { follower, chain_seq, time_us: timeUs };
    events.push({
      topic: 'hashrate',
      event: {
        ...{ kind: 'withdrawn', chain: name, height, hash: known.hash, ...place },
        ...{ block_time_us: 0, nbits: '', difficulty: 0, windows: [] },
      },
    });
  }
  for (const now of hashrateEvents(chain, name, hashrateRows(chain, profile, touched.fromHeight), profile)) {
    const known = said.hashrates.get(now.height);
    if (known === undefined || known.hash !== now.hash || TAKEN_BACK.has(known.kind)) {
      events.push({ topic: 'hashrate', event: now });
    } else if (known.digest !== contentDigest('hashrate', now)) {
      differences.push({ topic: 'hashrate', about: `${name}/${now.height}`, hash: now.hash });
    }
  }

  const payoutsFrom = touched.contracts ? 0 : fromEpoch;
  for (const known of said.payouts.values()) {
    if (known.epoch < payoutsFrom || TAKEN_BACK.has(known.kind)) continue;
    if (isGone(chain, (known.epoch + 1) * blocks, known.closing_hash)) {
      events.push({ topic: 'payout', event: { ...known, kind: 'reversed' } });
    }
  }
  for (const contract of state.contracts.values()) {
    const terms = termsOf(contract);
    if (terms === null || terms.chain !== name) continue;
    for (const row of payoutRows(chain, profile, terms, payoutsFrom)) {
      if (row.status === 'forecast') continue;
      const now = payoutEvent(chain, row);
      const known = said.payouts.get(now.payout_id);
      if (known === undefined || TAKEN_BACK.has(known.kind)) events.push({ topic: 'payout', event: now });
      else if (contentDigest('payout', known) !== contentDigest('payout', now)) {
        differences.push({ topic: 'payout', about: now.payout_id, hash: now.closing_hash });
      }
    }
  }
  return { events, differences };
}

/** One event of the rows of each block. */
function* hashrateEvents(
  chain: BestChain,
  name: string,
  rows: readonly Row[],
  profile: Parameters<typeof difficultyOf>[0],
): Generator<HashrateEvent> {
  for (let i = 0; i < rows.length; ) {
    const height = rows[i]!.height as number;
    const windows: HashrateEvent['windows'][number][] = [];
    for (; i < rows.length && rows[i]!.height === height; i++) {
      const row = rows[i]!;
      windows.push({
        window_blocks: row.window as number,
        blocks: row.blocks as number,
        chain_work: row.work as string,
        span_s: row.seconds as number,
        hashrate_hps: text(row.hashrate_hps),
      });
    }
    const block = chain.at(height)!;
    yield {
      kind: 'measured',
      chain: name,
      height,
      hash: block.hash,
      ...placeOf(block),
      block_time_us: block.timeS * 1e6,
      nbits: bitsHex(block.bits),
      difficulty: difficultyOf(profile, block.bits),
      windows,
    };
  }
}
