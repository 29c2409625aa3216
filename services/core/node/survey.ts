/**
 * What several nodes say of the chain, side by side: who answers, who is behind, who is on another branch and since which height.
 *
 *   getblockchaininfo of each ──► NodeTip ──► relationOf two ──► the chain follower (whom to follow, who disagrees), doctor
 *
 * A node's word is taken for nothing but the order in which it is asked; what is connected is read and checked block by block.
 */
import { bytesFromHex } from '../bitcoin/bytes.ts';
import { blockHash, HEADER_SIZE_BYTES, hashHex, headerFromBytes } from '../bitcoin/header.ts';
import { workFromBits } from '../bitcoin/target.ts';
import { PoolError } from '../errors.ts';
import { hexAnswer, integerAnswer, type NodeRpc, objectAnswer } from './rpc.ts';

/** Where a node stands. */
export interface NodeTip {
  readonly height: number;
  /** Block hash as the node prints it. */
  readonly hash: string;
  /** It says that it is still loading blocks. */
  readonly syncing: boolean;
  /** Best header it knows; null where it does not say. */
  readonly headers: number | null;
  /** Work of its chain; null where it does not say (btcd). */
  readonly chainwork: bigint | null;
  /** Lowest block that it still has; 0: all. */
  readonly prunedBelow: number;
}

/** @throws PoolError node_* */
export async function nodeTip(
  rpc: NodeRpc,
  options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
): Promise<NodeTip> {
  const info = objectAnswer('getblockchaininfo', await rpc.call('getblockchaininfo', [], options));
  const height = integerAnswer('getblockchaininfo.blocks', info.blocks, 0, 2 ** 31 - 1);
  const { chainwork, headers, pruned, pruneheight } = info;
  return {
    height,
    hash: hexAnswer('getblockchaininfo.bestblockhash', info.bestblockhash, 32),
    // btcd leaves it out where it is false.
    syncing: info.initialblockdownload === true,
    headers: headers === undefined ? null : integerAnswer('getblockchaininfo.headers', headers, 0, 2 ** 31 - 1),
    chainwork: typeof chainwork === 'string' && /^[0-9a-f]{1,64}$/i.test(chainwork) ? BigInt(`0x${chainwork}`) : null,
    prunedBelow:
      pruned === true && pruneheight !== undefined
        ? integerAnswer('getblockchaininfo.pruneheight', pruneheight, 0, 2 ** 31 - 1)
        : 0,
  };
}

/**
 * How a node's chain stands to another's.
 *
 * | relation | meaning                                                     |
 * |----------|-------------------------------------------------------------|
 * | same     | one tip                                                     |
 * | behind   | its tip is a block of the other's chain                     |
 * | ahead    | the other's tip is a block of its chain                     |
 * | fork     | neither: they part above `forkHeight`                       |
 */
export type Relation =
  | { readonly kind: 'same' }
  | { readonly kind: 'behind' | 'ahead'; readonly blocks: number }
  | { readonly kind: 'fork'; readonly forkHeight: number };

/** The node's block at a height of its best chain. @throws PoolError node_* */
async function hashAtHeight(rpc: NodeRpc, height: number, signal?: AbortSignal): Promise<string> {
  const options = signal === undefined ? {} : { signal };
  return hexAnswer(`getblockhash ${height}`, await rpc.call('getblockhash', [height], options), 32);
}

/** A node and where it stands. */
export interface Standing {
  readonly rpc: NodeRpc;
  readonly tip: NodeTip;
}

/**
 * Compares two nodes on one genesis. Their chains may move meanwhile; then the answer is of no moment in particular.
 * @throws PoolError node_*
 */
export async function relationOf(node: Standing, other: Standing, signal?: AbortSignal): Promise<Relation> {
  if (node.tip.hash === other.tip.hash) return { kind: 'same' };
  const difference = other.tip.height - node.tip.height;
  if (difference > 0 && (await hashAtHeight(other.rpc, node.tip.height, signal)) === node.tip.hash) {
    return { kind: 'behind', blocks: difference };
  }
  if (difference < 0 && (await hashAtHeight(node.rpc, other.tip.height, signal)) === other.tip.hash) {
    return { kind: 'ahead', blocks: -difference };
  }
  const equal = async (height: number): Promise<boolean> => {
    const [a, b] = await Promise.all([node, other].map(({ rpc }) => hashAtHeight(rpc, height, signal)));
    return a === b;
  };
  // The highest height with one block in both: blocks below an equal one are equal.
  let low = 0;
  let high = Math.min(node.tip.height, other.tip.height);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (await equal(middle)) low = middle;
    else high = middle - 1;
  }
  return { kind: 'fork', forkHeight: low };
}

/** Blocks above a fork whose work is added up header by header; beyond that the heights decide. */
const MOST_HEADERS = 2_000;

/**
 * Which of two nodes has the chain with more work: above 0 the first, below 0 the second, 0 neither.
 *
 * Where both state the work of their chains that decides; else it is added up from the headers above the fork.
 * @throws PoolError node_*
 */
export async function compareWork(a: Standing, b: Standing, signal?: AbortSignal): Promise<number> {
  if (a.tip.chainwork !== null && b.tip.chainwork !== null) return sign(a.tip.chainwork - b.tip.chainwork);
  const relation = await relationOf(a, b, signal);
  if (relation.kind === 'same') return 0;
  if (relation.kind !== 'fork') return relation.kind === 'ahead' ? 1 : -1;
  const { forkHeight } = relation;
  const most = Math.max(a.tip.height, b.tip.height) - forkHeight;
  if (most > MOST_HEADERS) return Math.sign(a.tip.height - b.tip.height);
  const [ofA, ofB] = await Promise.all([a, b].map((each) => workAbove(each, forkHeight, signal)));
  return sign(ofA! - ofB!);
}

const sign = (value: bigint): number => (value > 0n ? 1 : value < 0n ? -1 : 0);

async function workAbove({ rpc, tip }: Standing, forkHeight: number, signal?: AbortSignal): Promise<bigint> {
  let work = 0n;
  for (let hash = tip.hash, height = tip.height; height > forkHeight; height--) {
    const options = signal === undefined ? {} : { signal };
    const hex = await rpc.call('getblockheader', [hash, false], options);
    const bytes = bytesFromHex(hexAnswer('getblockheader', hex, HEADER_SIZE_BYTES));
    if (hashHex(blockHash(bytes)) !== hash) {
      throw new PoolError('node_answer', `node ${rpc.name}: getblockheader ${hash} gave another header`);
    }
    const header = headerFromBytes(bytes);
    work += workFromBits(header.bits);
    hash = hashHex(header.prevHash);
  }
  return work;
}
