/**
 * The best chain as its follower told it: a fold of `connected` and `disconnected` by the follower's rising `chain_seq`. Epochs, hashrates
 * and payouts read it. It is a function of the set of events: copies change nothing, one that comes late is put where its number says.
 *
 * One follower decides: the one that saw the greatest height, of several the last by name (the view `blocks` has the same rule).
 */
import type { BlockEvent } from '../../schemas/events.ts';
import { bitsFromHex, workFromBits } from '../../services/core/bitcoin/target.ts';
import { blockEventPipeline } from '../blocks/block-events.ts';

/** A block as far as derivations need it. */
export interface ChainBlock {
  readonly height: number;
  readonly hash: string;
  readonly prevHash: string;
  /** Time in the header, seconds since 1970. */
  readonly timeS: number;
  /** Median of the times of the eleven blocks that end with this one, microseconds; 0 where unknown. */
  readonly medianTimeUs: number;
  readonly bits: number;
  readonly work: bigint;
  readonly subsidySats: bigint;
  readonly feesSats: bigint;
  readonly ours: boolean;
  readonly follower: string;
  /** The follower's number under which it was connected. */
  readonly chainSeq: number;
  /** When the follower saw it, microseconds since 1970. */
  readonly seenUs: number;
  /** Output scripts of the coinbase, hex. */
  readonly scripts: readonly string[];
}

interface ChainEvent {
  readonly kind: string;
  readonly block: ChainBlock;
  /** Rank among copies with the same number: the highest wins. */
  readonly rank: bigint;
}

/** Blocks by height; `base` to `tip` are linked, each the parent of the next. */
export interface BestChain {
  /** Height of the tip; -1: none. */
  readonly tip: number;
  /** Lowest height that the tip is linked down to without a hole. Blocks below may be known, from before a hole. */
  readonly base: number;
  at(height: number): ChainBlock | undefined;
}

class FollowedChain implements BestChain {
  readonly events = new Map<number, ChainEvent>();
  lastSeq = -1;
  /** Greatest height ever connected. */
  top = -1;
  tip = -1;
  base = 0;
  #blocks = new Map<number, ChainBlock>();

  at(height: number): ChainBlock | undefined {
    return height <= this.tip ? this.#blocks.get(height) : undefined;
  }

  /** @returns lowest height that changed, or null */
  apply(kind: string, block: ChainBlock): number | null {
    const { height } = block;
    if (kind === 'connected') {
      this.top = Math.max(this.top, height);
      const parent = this.#blocks.get(height - 1);
      if (parent === undefined || this.tip < height - 1 || parent.hash !== block.prevHash) this.base = height;
      else this.base = Math.min(this.base, height - 1);
      this.#cut(height);
      this.#blocks.set(height, block);
      this.tip = height;
      return height;
    }
    if (this.#blocks.get(height)?.hash !== block.hash || height > this.tip) return null;
    this.#cut(height);
    this.tip = this.#blocks.has(height - 1) ? height - 1 : -1;
    if (this.base > this.tip) this.base = Math.max(this.tip, 0);
    return height;
  }

  rebuild(): void {
    this.#blocks = new Map();
    this.tip = -1;
    this.base = 0;
    for (const [, { kind, block }] of [...this.events].sort((a, b) => a[0] - b[0])) this.apply(kind, block);
  }

  #cut(from: number): void {
    for (let height = from; height <= this.tip; height++) this.#blocks.delete(height);
  }
}

export interface ChainState {
  readonly followers: Map<string, FollowedChain>;
  authority: string | null;
}

const NOTHING: BestChain = { tip: -1, base: 0, at: () => undefined };

/** Of a chain of which nothing is known yet. */
export function initialChain(): ChainState {
  return { followers: new Map(), authority: null };
}

/** The chain as the follower in charge tells it; empty before there is one. */
export function bestChain(state: ChainState): BestChain {
  return state.authority === null ? NOTHING : state.followers.get(state.authority)!;
}

function blockOf(event: BlockEvent): ChainBlock {
  const bits = bitsFromHex(event.nbits);
  return {
    height: event.height,
    hash: event.hash,
    prevHash: event.prev_hash,
    timeS: Math.floor(event.block_time_us / 1e6),
    medianTimeUs: event.median_time_us,
    bits,
    work: workFromBits(bits),
    subsidySats: BigInt(event.subsidy_sats),
    feesSats: BigInt(event.fees_sats),
    ours: event.ours,
    follower: event.follower,
    chainSeq: event.chain_seq,
    seenUs: event.time_us,
    scripts: event.coinbase_outputs.map((output) => output.script),
  };
}

/**
 * Takes one event in; the state handed in is changed.
 *
 * @param event - of this chain, without anything wrong (`wrongBlockEvent`)
 * @returns the lowest height at which the best chain changed, or null where it did not
 */
export function evolveChain(state: ChainState, event: BlockEvent): number | null {
  if (event.kind !== 'connected' && event.kind !== 'disconnected') return null;
  let follower = state.followers.get(event.follower);
  if (follower === undefined) {
    follower = new FollowedChain();
    state.followers.set(event.follower, follower);
  }
  const row = blockEventPipeline.row(event, { instance: '', run: '', sequence: 0 });
  const next: ChainEvent = { kind: event.kind, block: blockOf(event), rank: BigInt(row.rank as string) };
  const known = follower.events.get(event.chain_seq);
  if (known !== undefined && known.rank >= next.rank) return null;
  follower.events.set(event.chain_seq, next);
  let touched: number | null;
  if (event.chain_seq > follower.lastSeq) {
    follower.lastSeq = event.chain_seq;
    touched = follower.apply(next.kind, next.block);
  } else {
    follower.top = -1;
    follower.rebuild();
    touched = 0;
  }
  const before = state.authority;
  for (const [name, { top }] of state.followers) {
    const best = state.authority === null ? undefined : state.followers.get(state.authority);
    if (best === undefined || top > best.top || (top === best.top && name > state.authority!)) state.authority = name;
  }
  if (state.authority !== before) return 0;
  return state.authority === event.follower ? touched : null;
}

/** True where all blocks of these heights are known and each is the parent of the next. */
export function isLinked(chain: BestChain, from: number, to: number): boolean {
  if (from < 0 || to > chain.tip) return false;
  if (from >= chain.base) return true;
  for (let height = from; height <= to; height++) {
    const block = chain.at(height);
    if (block === undefined) return false;
    if (height > from && chain.at(height - 1)!.hash !== block.prevHash) return false;
  }
  return true;
}
