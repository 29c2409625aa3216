/**
 * The end of the followed chain as the log tells it: a fold of the chain follower's own events. The follower takes its position from
 * it at start (a program whose output is the log takes its position from its own last output), and a contract's acceptance the tip.
 */
import type { BlockEvent } from '../../schemas/events.ts';
import type { EventLog, Position } from './log/event-log.ts';

/** Instance of the journal, and name in the events, of the one follower that decides what the chain is. */
export const CHAIN_FOLLOWER = 'chain';

/** One of our own blocks that is neither confirmed nor orphaned yet. */
export interface OwnBlock {
  /** Its latest `connected` event. */
  readonly event: BlockEvent;
  /** False: it was disconnected since. */
  readonly connected: boolean;
}

export interface ChainTail {
  /** Connected blocks, lowest first, each the parent of the next; the last is the tip. */
  readonly blocks: readonly BlockEvent[];
  /** The last number given to an event of this follower; 0: none was. */
  readonly chainSeq: number;
  /** By hash. */
  readonly own: ReadonlyMap<string, OwnBlock>;
}

/** Builds the tail event by event. `keep` blocks are remembered, the tip included. */
export class ChainTailFold {
  readonly #chain: string;
  readonly #keep: number;
  #blocks: BlockEvent[] = [];
  #chainSeq = 0;
  readonly #own = new Map<string, OwnBlock>();

  constructor(chain: string, keep: number) {
    this.#chain = chain;
    this.#keep = keep;
  }

  get tail(): ChainTail {
    return { blocks: this.#blocks, chainSeq: this.#chainSeq, own: this.#own };
  }

  get tip(): BlockEvent | null {
    return this.#blocks.at(-1) ?? null;
  }

  /** Numbers up to this one count as given. */
  skipTo(chainSeq: number): void {
    this.#chainSeq = Math.max(this.#chainSeq, chainSeq);
  }

  evolve(event: BlockEvent): void {
    if (event.kind === 'solved' || event.follower !== CHAIN_FOLLOWER) return;
    // Numbers rise over all chains that this log has seen: a directory may be pointed at another chain.
    if (event.chain_seq <= this.#chainSeq) return;
    this.#chainSeq = event.chain_seq;
    if (event.chain !== this.#chain) return;
    switch (event.kind) {
      case 'connected': {
        const tip = this.tip;
        // A log that was lost in between: what lies behind the gap cannot be walked back to.
        if (tip !== null && tip.hash !== event.prev_hash) this.#blocks = [];
        this.#blocks.push(event);
        // Cut in strides: shift() for each block would move the whole array each time.
        if (this.#blocks.length >= this.#keep * 2) this.#blocks = this.#blocks.slice(-this.#keep);
        if (event.ours) this.#own.set(event.hash, { event, connected: true });
        return;
      }
      case 'disconnected': {
        if (this.tip?.hash === event.hash) this.#blocks.pop();
        // Also one that was confirmed already: what is buried may come up again.
        if (event.ours) this.#own.set(event.hash, { event: { ...event, kind: 'connected' }, connected: false });
        return;
      }
      case 'confirmed':
      case 'orphaned':
        this.#own.delete(event.hash);
    }
  }
}

const BATCH = 1_000;

/**
 * Reads the follower's events from the log.
 *
 * Where some of them cannot be read, numbers go on from the time of day (see the follower's first number), so that none is given
 * twice; readers of the same log miss the same events.
 *
 * @param log - the journal that holds the partition of the follower
 * @param chain - name of the profile
 * @param keep - blocks to remember
 * @param nowUs - microseconds since 1970 UTC
 * @returns the fold, and a line for each stretch that could not be read
 */
export async function readChainTail(
  log: EventLog,
  chain: string,
  keep: number,
  nowUs: number,
): Promise<{ fold: ChainTailFold; damage: string[] }> {
  const fold = new ChainTailFold(chain, keep);
  const damage: string[] = [];
  if (!(await log.partitions('block')).includes(CHAIN_FOLLOWER)) return { fold, damage };
  let from: Position | null = null;
  for (;;) {
    const batch = await log.read('block', CHAIN_FOLLOWER, from, { maxRecords: BATCH, waitMs: 0 });
    for (const record of batch.records) {
      const decode = await log.decoder('block', record.fingerprint);
      fold.evolve(decode(record.body));
    }
    for (const each of batch.damage) damage.push(`${each.reason} at ${each.position}`);
    if (batch.records.length === 0 && batch.damage.length === 0) break;
    from = batch.next;
  }
  if (damage.length > 0) fold.skipTo(Math.floor(nowUs / 1_000));
  return { fold, damage };
}
