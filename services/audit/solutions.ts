/** Shares that solve a block, and the `solved` events that must name it. */
import type { BlockEvent, ShareEvent } from '../../schemas/events.ts';
import type { Place } from './findings.ts';
import type { Tally } from './tally.ts';

/** Hashes of solved blocks that are remembered. */
const SOLVED_LIMIT = 200_000;

/** A share that waits for what the log says elsewhere. */
export interface Waiting {
  readonly share: ShareEvent;
  readonly place: Place;
}

/** A solution that waits for its block. */
interface Solution extends Waiting {
  readonly held: boolean;
}

export class Solutions {
  readonly #tally: Tally;
  readonly #solved = new Set<string>();
  /** By block hash. */
  readonly #blockless = new Map<string, Solution[]>();

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  /** Solutions whose block has not been met. */
  get count(): number {
    return this.#blockless.size;
  }

  block(event: BlockEvent): void {
    // What CKPool's log told later does not replace what the daemon owes.
    if (event.kind !== 'solved' || event.source === 'backfill') return;
    if (this.#blockless.delete(event.hash)) return;
    this.#solved.add(event.hash);
    if (this.#solved.size > SOLVED_LIMIT) {
      const [oldest] = this.#solved;
      this.#solved.delete(oldest!);
    }
  }

  /** A share whose header has this block hash. */
  found(hash: string, solution: Solution): void {
    if (this.#solved.has(hash)) return;
    const others = this.#blockless.get(hash);
    if (others === undefined) this.#blockless.set(hash, [solution]);
    else others.push(solution);
  }

  /** What solves a block that the whole log does not name: to be called when it was looked through. */
  tellMissing(): void {
    for (const [hash, all] of this.#blockless) {
      for (const { share, place, held } of all) {
        this.#tally.shareAfterAll(share, place, held, [{ reason: 'block_missing', claimed: '', computed: hash }]);
      }
    }
    this.#blockless.clear();
  }
}
