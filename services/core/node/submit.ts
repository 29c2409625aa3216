/**
 * Solved blocks to every node at once. Flow: blocks.ts of the stratum daemon → here → the nodes; in the process that has the share, so that
 * the requests leave in the moment of its verdict.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { errorLine, PoolError } from '../errors.ts';
import { excerpt, type NodeRpc } from './rpc.ts';

export interface SubmitAnswer {
  readonly node: string;
  /** `accepted` (the node answered null), the node's own words such as `duplicate` or `high-hash`, or what went wrong. */
  readonly answer: string;
  /** True where the block is on that node, by this call or before. */
  readonly accepted: boolean;
  /** Where no verdict came: why. */
  readonly error?: unknown;
}

export interface BlockSubmitter {
  /**
   * Sends a block to every node at once, whatever state it is in; a node that cannot be reached is tried up to five times.
   * The requests are on their way when this returns its promise.
   *
   * @param hex - the whole block, hex digits and nothing else
   * @param onAnswer - told of each answer as it comes
   * @returns all answers, in the nodes' order
   */
  submitBlock(hex: string, onAnswer?: (answer: SubmitAnswer) => void): Promise<SubmitAnswer[]>;
  /** Asks every node to prefer this block among those of equal work (`preciousblock`); what they answer does not matter. */
  preferBlock(hashRpc: string): Promise<void>;
}

/**
 * True where a node has said no to what it was asked, and would again. A refusal without an RPC code is the HTTP server's: Core's 503
 * "Work queue depth exceeded", a gateway's 502.
 */
export function isVerdict(error: unknown): boolean {
  return error instanceof PoolError && error.code === 'node_refused' && typeof error.facts.rpcCode === 'number';
}

const SUBMIT_PAUSES_MS = [100, 200, 400, 800];

async function submitTo(rpc: NodeRpc, paramsJson: Uint8Array): Promise<SubmitAnswer> {
  const node = rpc.name;
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await rpc.call('submitblock', [], { paramsJson });
      if (result === null) return { node, answer: 'accepted', accepted: true };
      // It goes into the main log and the journal.
      const answer = excerpt(typeof result === 'string' ? result : JSON.stringify(result));
      return { node, answer, accepted: answer === 'duplicate' };
    } catch (error) {
      const busy = error instanceof PoolError && error.code === 'node_refused' && !isVerdict(error);
      const passing =
        busy || (error instanceof PoolError && (error.code === 'node_unreachable' || error.code === 'node_syncing'));
      const wait = passing ? SUBMIT_PAUSES_MS[attempt] : undefined;
      if (wait === undefined) return { node, answer: errorLine(error), accepted: false, error };
      await delay(wait);
    }
  }
}

/** @param rpcs - owned by the caller */
export function blockSubmitter(rpcs: readonly NodeRpc[]): BlockSubmitter {
  return {
    async submitBlock(hex, onAnswer) {
      // Once for all nodes, and not by JSON.stringify: it takes 18 ms for a block of 2 MB, this takes 2.
      const paramsJson = Buffer.from(`["${hex}"]`, 'latin1');
      return Promise.all(
        rpcs.map(async (rpc) => {
          const answer = await submitTo(rpc, paramsJson);
          onAnswer?.(answer);
          return answer;
        }),
      );
    },
    async preferBlock(hashRpc) {
      await Promise.allSettled(rpcs.map((rpc) => rpc.call('preciousblock', [hashRpc])));
    },
  };
}
