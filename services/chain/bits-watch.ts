/**
 * Whether the followed chain's nBits are those that the profile's rule gives, block by block. The chain's own nBits is the truth, so nothing is refused:
 * what differs is a problem in the status, for a person, since the profile is another chain's or the node none.
 *
 * A problem stands until the next retarget that is as predicted, or until its block leaves the chain.
 */
import type { ChainProfile } from '../core/chains/profile.ts';
import { type BitsAndTime, expectedBits, isRetargetHeight } from '../core/chains/retarget.ts';
import { PoolError } from '../core/errors.ts';
import {
  checkLastRetarget,
  headerAtHeight,
  lastRetargetHeight,
  readAtRetarget,
  wrongBitsLine,
} from '../core/node/last-retarget.ts';
import type { NodeRpc } from '../core/node/rpc.ts';

/** A block as it is connected. */
export interface WatchedBlock extends BitsAndTime {
  readonly height: number;
}

export class BitsWatch {
  readonly #profile: ChainProfile;
  readonly #signal: AbortSignal;
  #wrong: { readonly height: number; readonly line: string } | null = null;
  /** Blocks above this one have been looked at; null: nothing has, as after a start. */
  #seen: number | null = null;

  constructor(profile: ChainProfile, signal: AbortSignal) {
    this.#profile = profile;
    this.#signal = signal;
  }

  get problem(): string | null {
    return this.#wrong?.line ?? null;
  }

  /**
   * After a round: looks at what has not been looked at yet, which after a start is the latest retarget and the known blocks above it. Where the
   * node does not answer the next round looks.
   *
   * @param blocks - the end of the followed chain, lowest first
   */
  async look(rpc: NodeRpc, blocks: readonly WatchedBlock[]): Promise<void> {
    const tip = blocks.at(-1);
    if (tip === undefined) return;
    const profile = this.#profile;
    try {
      // Of a long way caught up at once only its end is at hand; the epochs (pipelines/epochs) look at each retarget.
      if (this.#seen === null || this.#seen < blocks[0]!.height - 1) {
        const height = lastRetargetHeight(profile, tip.height);
        const line = await checkLastRetarget(rpc, profile, tip.height, { signal: this.#signal });
        this.#wrong = line === null ? null : { height: height!, line };
        this.#seen = Math.max(height ?? 0, blocks[0]!.height);
      }
      for (const block of blocks) {
        if (block.height <= this.#seen) continue;
        await this.#lookAt(rpc, block, blocks);
        this.#seen = block.height;
      }
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }

  /** Blocks from a height on have left the chain. */
  left(height: number): void {
    // Whether an earlier one was wrong is found again.
    if (this.#wrong !== null && this.#wrong.height >= height) this.#seen = null;
    else if (this.#seen !== null) this.#seen = Math.min(this.#seen, height - 1);
  }

  async #lookAt(rpc: NodeRpc, { height, bits, timeS }: WatchedBlock, blocks: readonly WatchedBlock[]): Promise<void> {
    const profile = this.#profile;
    const lowest = blocks[0]!.height;
    const { rule } = profile.retarget;
    const computed = rule !== 'none' && rule !== 'header' && isRetargetHeight(profile, height);
    const fetched = new Map<number, BitsAndTime>();
    if (computed) {
      for (const each of readAtRetarget(profile, height)) {
        if (each < lowest) fetched.set(each, await headerAtHeight(rpc, each, { signal: this.#signal }));
      }
    }
    const expected = expectedBits(profile, height, timeS, (each) => blocks[each - lowest] ?? fetched.get(each));
    if (expected === null) return;
    if (expected !== bits) {
      this.#wrong = { height, line: wrongBitsLine(profile, height, bits, expected) };
    } else if (computed) this.#wrong = null;
  }
}
