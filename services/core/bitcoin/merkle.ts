/**
 * Merkle trees of transaction ids, and the branch that lets a miner recompute the root after changing the coinbase.
 * All hashes are 32 bytes in internal order.
 *
 *            root = H(H(c t1) H(t2 t3))         branch of c: [t1, H(t2 t3)]
 *          ┌──────┴──────┐
 *        H(c t1)      H(t2 t3)                  an odd last node is paired with itself
 *       ┌──┴──┐      ┌──┴──┐
 *       c     t1     t2    t3
 *
 * @see Bitcoin Core `consensus/merkle.cpp`; stratum `mining.notify`, fifth parameter
 */
import { sha256d } from './hash.ts';

function pair(left: Uint8Array, right: Uint8Array): Uint8Array {
  const both = new Uint8Array(64);
  both.set(left, 0);
  both.set(right, 32);
  return sha256d(both);
}

function check(hashes: readonly Uint8Array[]): void {
  for (const [i, hash] of hashes.entries()) {
    if (hash.length !== 32) throw new RangeError(`hash ${i}: expected 32 bytes, got ${hash.length}`);
  }
}

/** One level up; `from` is the index of the first node to pair. */
function parents(level: readonly Uint8Array[], from: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let i = from; i < level.length; i += 2) out.push(pair(level[i]!, level[i + 1] ?? level[i]!));
  return out;
}

/**
 * The root over all ids of a block, coinbase first.
 *
 * @throws RangeError for an empty list or a hash not of 32 bytes
 */
export function merkleRoot(txids: readonly Uint8Array[]): Uint8Array {
  if (txids.length === 0) throw new RangeError('txids: expected at least the coinbase, got none');
  check(txids);
  let level: readonly Uint8Array[] = txids;
  while (level.length > 1) level = parents(level, 0);
  return level[0]!;
}

/**
 * The steps from the coinbase, at index 0, to the root.
 *
 * @param otherTxids - ids of all transactions but the coinbase, in block order
 * @returns one hash for each level of the tree; empty when the coinbase is alone
 */
export function merkleBranch(otherTxids: readonly Uint8Array[]): Uint8Array[] {
  check(otherTxids);
  const branch: Uint8Array[] = [];
  // The level without its first node, which is the one on the coinbase's path.
  let rest: readonly Uint8Array[] = otherTxids;
  while (rest.length > 0) {
    branch.push(rest[0]!);
    rest = parents(rest, 1);
  }
  return branch;
}

/** The root from the coinbase's hash and its branch, as a miner computes it. */
export function rootFromBranch(coinbaseHash: Uint8Array, branch: readonly Uint8Array[]): Uint8Array {
  check([coinbaseHash, ...branch]);
  let root = coinbaseHash;
  for (const step of branch) root = pair(root, step);
  return root;
}
