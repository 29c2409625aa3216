/**
 * The toy chain's consensus: which blocks are valid, which chain is best, which outputs exist. Holds no socket, no file
 * and no clock of its own. Flow: `rpc-server.ts` hands it submitted blocks; `store.ts` keeps their bytes; mempool, long polls and
 * ZMQ hear of each new tip.
 *
 * The rules are Bitcoin's, and so are the words in which a block is refused (Bitcoin Core `validation.cpp`, `consensus/tx_check.cpp`),
 * with these exceptions, none of which a pool meets:
 *
 * - No script is run. An output can be spent if its script is OP_TRUE (51), with an empty input script, or the P2WSH of it,
 *   with the witness [51]. So coins paid to `playgroundAddress` belong to everybody, and those paid to any other address rest.
 * - Signature operations are not counted; relative lock times (BIP 68) are not enforced.
 * - Soft forks are in force from block 1: versions below 4 are refused, BIP 34 heights and BIP 141 witnesses are checked.
 */
import { addressFromScript } from '../core/bitcoin/address.ts';
import { type Block, parseBlock, serializeBlock } from '../core/bitcoin/block.ts';
import { compactSize, concatBytes, equalBytes, hexFromBytes } from '../core/bitcoin/bytes.ts';
import { pushHeight, witnessCoinbase, witnessCommitmentIndex } from '../core/bitcoin/coinbase.ts';
import { sha256, sha256d } from '../core/bitcoin/hash.ts';
import { blockHash, HEADER_SIZE_BYTES, type Header, hashHex } from '../core/bitcoin/header.ts';
import { merkleRoot } from '../core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { targetFromBits, workFromBits } from '../core/bitcoin/target.ts';
import {
  hasWitness,
  isCoinbase,
  parseTransaction,
  serializeTransaction,
  type Tx,
  txid,
  wtxid,
} from '../core/bitcoin/transaction.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { isRetargetHeight, retarget, retargetSpan } from '../core/chains/retarget.ts';
import { subsidySats } from '../core/chains/subsidy.ts';
import { PoolError } from '../core/errors.ts';

/** An unspent output. */
export interface Coin {
  readonly valueSats: bigint;
  readonly script: Uint8Array;
  readonly height: number;
  readonly coinbase: boolean;
}

/** A block that was accepted, in the best chain or beside it. */
export interface ChainBlock {
  /** Display order. */
  readonly hash: string;
  readonly height: number;
  readonly header: Header;
  readonly prev: ChainBlock | null;
  /** Expected hashes of the whole chain up to here. */
  readonly chainwork: bigint;
  readonly txCount: number;
  readonly sizeBytes: number;
}

interface Node extends ChainBlock {
  readonly prev: Node | null;
  /** Where the storage has its bytes. */
  readonly place: number;
  /** Among chains of equal work the lowest wins: the first seen, or one that was declared precious. */
  order: number;
  invalid: boolean;
  /** What connecting it changed, in order; null while it is not connected. */
  changes: Change[] | null;
}

type Change = { readonly key: string; readonly spent: Coin } | { readonly key: string; readonly spent: null };

/** Keeps block bytes: a file, or an array in tests. */
export interface BlockStorage {
  /** @returns the place for `read` */
  append(bytes: Uint8Array): number;
  read(place: number): Uint8Array;
}

export interface TipChange {
  readonly tip: ChainBlock;
  /** Blocks that left the best chain, highest first. */
  readonly disconnected: readonly ChainBlock[];
  /** Blocks that joined it, lowest first. */
  readonly connected: readonly ChainBlock[];
}

/** What came of a submitted block: null where it is the new tip, else the word of refusal (BIP 22). */
export type BlockVerdict = string | null;

/** Bytes that are no block: RPC error -22. */
export class BlockDecodeError extends Error {
  override readonly name = 'BlockDecodeError';
}

/** OP_TRUE. */
export const OP_TRUE_SCRIPT = Uint8Array.of(0x51);
/** P2WSH of OP_TRUE: anybody spends it with the witness [51]. */
export const OP_TRUE_WITNESS_SCRIPT = concatBytes(Uint8Array.of(0x00, 0x20), sha256(OP_TRUE_SCRIPT));

/** The address whose coins the playground itself turns into transactions: a pool that pays it gets blocks with fees. */
export function playgroundAddress(profile: Pick<ChainProfile, 'address'>): string {
  return addressFromScript(OP_TRUE_WITNESS_SCRIPT, profile.address)!;
}

/** Core consensus/consensus.h */
export const MAX_BLOCK_WEIGHT = 4_000_000;
const WITNESS_SCALE = 4;
/** Core consensus/amount.h */
const MAX_MONEY_SATS = 2_100_000_000_000_000n;
/** Core chain.h, nMedianTimeSpan */
const MEDIAN_BLOCKS = 11;
const LOCKTIME_THRESHOLD = 500_000_000;
const MAX_SHARED_SCRIPTS = 1_000;
const ZERO_32 = new Uint8Array(32);

/** Name of an output: `txid:index`, txid in internal order. */
export function coinKey(txidBytes: Uint8Array, index: number): string {
  return `${hexFromBytes(txidBytes)}:${index}`;
}

/** True where `input` may spend `coin` on this chain. */
function maySpend(coin: Pick<Coin, 'script'>, input: Tx['inputs'][number]): boolean {
  if (input.script.length > 0) return false;
  if (equalBytes(coin.script, OP_TRUE_SCRIPT)) return input.witness.length === 0;
  return (
    equalBytes(coin.script, OP_TRUE_WITNESS_SCRIPT) &&
    input.witness.length === 1 &&
    equalBytes(input.witness[0]!, OP_TRUE_SCRIPT)
  );
}

/**
 * What is wrong with a transaction by itself, null where nothing is.
 * @see Bitcoin Core consensus/tx_check.cpp
 */
export function checkTransaction(tx: Tx): string | null {
  if (tx.outputs.length === 0) return 'bad-txns-vout-empty';
  if (serializeTransaction(tx, { witness: false }).length * WITNESS_SCALE > MAX_BLOCK_WEIGHT)
    return 'bad-txns-oversize';
  let total = 0n;
  for (const { valueSats } of tx.outputs) {
    if (valueSats > MAX_MONEY_SATS) return 'bad-txns-vout-toolarge';
    total += valueSats;
    if (total > MAX_MONEY_SATS) return 'bad-txns-txouttotal-toolarge';
  }
  const keys = new Set(tx.inputs.map((input) => coinKey(input.prevTxid, input.prevIndex)));
  if (keys.size !== tx.inputs.length) return 'bad-txns-inputs-duplicate';
  if (isCoinbase(tx)) {
    const { length } = tx.inputs[0]!.script;
    return length < 2 || length > 100 ? 'bad-cb-length' : null;
  }
  const spendsNothing = tx.inputs.some(
    ({ prevTxid, prevIndex }) => prevIndex === 0xffff_ffff && equalBytes(prevTxid, ZERO_32),
  );
  return spendsNothing ? 'bad-txns-prevout-null' : null;
}

/** Core tx_verify.cpp, IsFinalTx, with BIP 113's median time. */
export function isFinal(tx: Tx, height: number, medianTimeS: number): boolean {
  if (tx.lockTime === 0) return true;
  if (tx.lockTime < (tx.lockTime < LOCKTIME_THRESHOLD ? height : medianTimeS)) return true;
  return tx.inputs.every(({ sequence }) => sequence === 0xffff_ffff);
}

/**
 * What a transaction's inputs hold above its outputs.
 * @param coin - the output of that name, undefined where there is none
 * @param height - of the block that it would be in
 * @returns the fee, or why it cannot be spent so
 * @see Bitcoin Core consensus/tx_verify.cpp, CheckTxInputs
 */
export function feeOrRefusal(
  tx: Tx,
  coin: (key: string) => Coin | undefined,
  height: number,
  maturity: number,
): bigint | string {
  let total = 0n;
  for (const input of tx.inputs) {
    const found = coin(coinKey(input.prevTxid, input.prevIndex));
    if (found === undefined) return 'bad-txns-inputs-missingorspent';
    if (found.coinbase && height - found.height < maturity) return 'bad-txns-premature-spend-of-coinbase';
    if (!maySpend(found, input))
      return 'mandatory-script-verify-flag-failed (only OP_TRUE can be spent on the toy chain)';
    total += found.valueSats;
  }
  for (const { valueSats } of tx.outputs) total -= valueSats;
  return total < 0n ? 'bad-txns-in-belowout' : total;
}

/** Weight of a transaction (BIP 141), in weight units. */
export function weightOf(tx: Tx): number {
  return (
    serializeTransaction(tx, { witness: false }).length * (WITNESS_SCALE - 1) +
    serializeTransaction(tx, { witness: true }).length
  );
}

/** True where a level of the merkle tree pairs a node with its equal (CVE-2012-2459): the same root stands for fewer transactions. */
function hasMerkleTwins(ids: readonly string[]): boolean {
  for (let width = 1; width < ids.length; width *= 2) {
    for (let at = 0; at + width < ids.length; at += width * 2) {
      const left = ids.slice(at, at + width);
      const right = ids.slice(at + width, at + width * 2);
      if (left.length === right.length && left.every((id, i) => id === right[i])) return true;
    }
  }
  return false;
}

/** Bytes of a block, with or without its witnesses. */
export function sizeOf({ txs }: Pick<Block, 'txs'>, witness: boolean): number {
  return (
    HEADER_SIZE_BYTES +
    compactSize(txs.length).length +
    txs.reduce((sum, tx) => sum + serializeTransaction(tx, { witness }).length, 0)
  );
}

/** The block as it is kept: without anything behind its transactions. */
function serialized(block: Block): Uint8Array {
  const [coinbase, ...others] = block.txs.map((tx) => serializeTransaction(tx, { witness: true }));
  return serializeBlock(block.headerBytes, coinbase!, others);
}

function ancestor(block: ChainBlock, height: number): ChainBlock {
  let found = block;
  while (found.height > height) found = found.prev!;
  return found;
}

export class ToyChain {
  readonly profile: ChainProfile;
  readonly #storage: BlockStorage;
  readonly #nowS: () => number;
  readonly #nodes = new Map<string, Node>();
  /** The best chain by height. */
  readonly #active: Node[] = [];
  readonly #coins = new Map<string, Coin>();
  readonly #scripts = new Map<string, Uint8Array>();
  readonly #listeners: ((change: TipChange) => void)[] = [];
  /** The block being submitted, so that it is not read back and parsed again. */
  #fresh: { readonly node: Node; readonly block: Block; readonly ids: readonly Uint8Array[] } | null = null;
  #orders = 0;
  #preciousOrders = 0;

  /**
   * Begins with the profile's genesis block.
   * @param nowS - the clock, unix seconds
   * @throws PoolError config where the profile has no genesis block or a retarget rule that cannot be computed
   */
  constructor(profile: ChainProfile, storage: BlockStorage, nowS: () => number) {
    this.profile = profile;
    this.#storage = storage;
    this.#nowS = nowS;
    const genesis = profile.genesis_block;
    if (
      genesis === undefined ||
      profile.retarget.rule === 'header' ||
      profile.retarget.min_difficulty_after_s !== undefined
    ) {
      throw new PoolError(
        'config',
        `chain ${profile.name} cannot be played: expected a genesis_block and a retarget rule without exceptions`,
      );
    }
    const block = parseBlock(genesis);
    const node: Node = {
      hash: hashHex(blockHash(block.headerBytes)),
      height: 0,
      header: block.header,
      prev: null,
      chainwork: workFromBits(block.header.bits),
      txCount: block.txs.length,
      sizeBytes: genesis.length,
      place: -1,
      order: this.#orders++,
      invalid: false,
      // As in Bitcoin, the first block's coinbase cannot be spent.
      changes: [],
    };
    this.#nodes.set(node.hash, node);
    this.#active.push(node);
  }

  get tip(): ChainBlock {
    return this.#active.at(-1)!;
  }

  /** Number of the highest block of any valid chain, connected or not. */
  get headersHeight(): number {
    let height = 0;
    for (const node of this.#nodes.values()) if (!node.invalid && node.height > height) height = node.height;
    return height;
  }

  /** Bytes of all blocks of the best chain. */
  get sizeBytes(): number {
    return this.#active.reduce((sum, block) => sum + block.sizeBytes, 0);
  }

  get(hash: string): ChainBlock | undefined {
    return this.#nodes.get(hash);
  }

  /** The block of the best chain at a height. */
  at(height: number): ChainBlock | undefined {
    return this.#active[height];
  }

  isActive(block: ChainBlock): boolean {
    return this.#active[block.height] === block;
  }

  bytes(block: ChainBlock): Uint8Array {
    const { place } = block as Node;
    return place < 0 ? this.profile.genesis_block! : this.#storage.read(place);
  }

  coin(key: string): Coin | undefined {
    return this.#coins.get(key);
  }

  coins(): IterableIterator<[string, Coin]> {
    return this.#coins.entries();
  }

  /** Outputs that a connected block spent, by name: what its fees are reckoned from. */
  spentBy(block: ChainBlock): Map<string, Coin> {
    const spent = new Map<string, Coin>();
    for (const change of (block as Node).changes ?? []) if (change.spent !== null) spent.set(change.key, change.spent);
    return spent;
  }

  onChange(listener: (change: TipChange) => void): void {
    this.#listeners.push(listener);
  }

  // --- rules of the next block -----------------------------------------------------------------------------------------------

  /** Median time of the last eleven blocks up to this one: a successor must be later. */
  medianTimeS(block: ChainBlock): number {
    const times: number[] = [];
    for (let b: ChainBlock | null = block; b !== null && times.length < MEDIAN_BLOCKS; b = b.prev)
      times.push(b.header.time);
    times.sort((a, b) => a - b);
    return times[times.length >> 1]!;
  }

  /** nBits that the successor of a block must have. */
  nextBits(prev: ChainBlock): number {
    const height = prev.height + 1;
    if (!isRetargetHeight(this.profile, height)) return prev.header.bits;
    const { fromHeight, toHeight } = retargetSpan(this.profile, height);
    const first = ancestor(prev, height - this.profile.retarget.interval);
    return retarget(this.profile, {
      previousBits: prev.header.bits,
      firstBits: first.header.bits,
      actualS: ancestor(prev, toHeight).header.time - ancestor(prev, fromHeight).header.time,
    })!;
  }

  // --- submitting ------------------------------------------------------------------------------------------------------------

  /**
   * Takes a block: checks it as far as its place allows, keeps it, and moves the tip where its chain has most work.
   *
   * @param bytes - the whole block; a coinbase without witness beside a commitment gets its 32 zero bytes, as Core does it
   * @param options.stored - where the storage has it already (reading at start): its time is not held against the clock
   * @returns null for the new tip; `inconclusive` where it is valid but not best; `duplicate`, `duplicate-invalid`; else Core's word of refusal
   * @throws BlockDecodeError for bytes that are no block
   */
  submit(bytes: Uint8Array, options: { stored?: number } = {}): BlockVerdict {
    let block: Block;
    try {
      block = parseBlock(bytes);
    } catch (error) {
      throw new BlockDecodeError(
        error instanceof RangeError && error.message.includes('coinbase')
          ? 'Block does not start with a coinbase'
          : 'Block decode failed',
      );
    }
    const hash = hashHex(blockHash(block.headerBytes));
    const known = this.#nodes.get(hash);
    if (known !== undefined) return known.invalid ? 'duplicate-invalid' : 'duplicate';

    const completed = this.#completed(block);
    const ids = completed.txs.map(txid);
    // Without looking closer: no limit of size can be broken. The witness that a coinbase gets adds less than the margin.
    const isSmall = (bytes.length + 100) * WITNESS_SCALE <= MAX_BLOCK_WEIGHT;
    const refusal = this.#checkBlock(completed, ids, isSmall);
    if (refusal !== null) return refusal;
    const prev = this.#nodes.get(hashHex(block.header.prevHash));
    if (prev === undefined) return 'prev-blk-not-found';
    if (prev.invalid) return 'bad-prevblk';
    const misplaced = this.#checkPlace(completed, prev, options.stored === undefined, isSmall);
    if (misplaced !== null) return misplaced;

    const whole = options.stored === undefined ? serialized(completed) : bytes;
    const node: Node = {
      hash,
      height: prev.height + 1,
      header: block.header,
      prev,
      chainwork: prev.chainwork + workFromBits(block.header.bits),
      txCount: block.txs.length,
      sizeBytes: whole.length,
      place: options.stored ?? this.#storage.append(whole),
      order: this.#orders++,
      invalid: false,
      changes: null,
    };
    this.#nodes.set(hash, node);
    // First seen wins: with equal work the tip stays.
    if (node.chainwork <= this.tip.chainwork) return 'inconclusive';
    this.#fresh = { node, block: completed, ids };
    const refusals = this.#activateBest(node);
    this.#fresh = null;
    return this.isActive(node) ? null : (refusals.get(node) ?? 'inconclusive');
  }

  /** Core's UpdateUncommittedBlockStructures: miners submit the coinbase without its witness. */
  #completed(block: Block): Block {
    const coinbase = block.txs[0]!;
    if (hasWitness(coinbase) || witnessCommitmentIndex(coinbase.outputs) < 0) return block;
    const input = coinbase.inputs[0]!;
    // Outside these bounds witnessCoinbase refuses; the block is then refused as bad-cb-length.
    if (input.script.length < 2 || input.script.length > 100) return block;
    const { tx } = parseTransaction(witnessCoinbase(serializeTransaction(coinbase, { witness: false })));
    return { ...block, coinbase: tx, txs: [tx, ...block.txs.slice(1)] };
  }

  /** Core's CheckBlock: what needs no other block. */
  #checkBlock(block: Block, ids: readonly Uint8Array[], isSmall: boolean): string | null {
    const target = this.#targetOf(block.header.bits);
    if (target === null || !meetsTarget(powHash(this.profile.pow, block.headerBytes), target)) return 'high-hash';
    if (!equalBytes(merkleRoot(ids), block.header.merkleRoot)) return 'bad-txnmrklroot';
    if (hasMerkleTwins(ids.map(hexFromBytes))) return 'bad-txns-duplicate';
    if (!isSmall && sizeOf(block, false) * WITNESS_SCALE > MAX_BLOCK_WEIGHT) return 'bad-blk-length';
    if (block.txs.slice(1).some(isCoinbase)) return 'bad-cb-multiple';
    for (const tx of block.txs) {
      const refusal = checkTransaction(tx);
      if (refusal !== null) return refusal;
    }
    return null;
  }

  #targetOf(bits: number): bigint | null {
    try {
      const target = targetFromBits(bits);
      return target > 0n && target <= this.profile.pow_limit ? target : null;
    } catch {
      return null;
    }
  }

  /** Core's ContextualCheckBlockHeader and ContextualCheckBlock: what depends on the blocks below. */
  #checkPlace(block: Block, prev: Node, againstClock: boolean, isSmall: boolean): string | null {
    const { header } = block;
    const height = prev.height + 1;
    const medianTimeS = this.medianTimeS(prev);
    if (header.bits !== this.nextBits(prev)) return 'bad-diffbits';
    if (header.time <= medianTimeS) return 'time-too-old';
    if (againstClock && header.time > this.#nowS() + this.profile.ntime.max_future_s) return 'time-too-new';
    if (header.version < 4) return `bad-version(0x${(header.version >>> 0).toString(16).padStart(8, '0')})`;
    if (block.txs.some((tx) => !isFinal(tx, height, medianTimeS))) return 'bad-txns-nonfinal';

    const coinbase = block.txs[0]!;
    const expected = pushHeight(height);
    if (!equalBytes(coinbase.inputs[0]!.script.subarray(0, expected.length), expected)) return 'bad-cb-height';

    const commitment = witnessCommitmentIndex(coinbase.outputs);
    if (commitment >= 0) {
      const { witness } = coinbase.inputs[0]!;
      if (witness.length !== 1 || witness[0]!.length !== 32) return 'bad-witness-nonce-size';
      const root = merkleRoot([ZERO_32, ...block.txs.slice(1).map(wtxid)]);
      const hash = sha256d(concatBytes(root, witness[0]!));
      if (!equalBytes(coinbase.outputs[commitment]!.script.subarray(6, 38), hash)) return 'bad-witness-merkle-match';
    } else if (block.txs.some(hasWitness)) {
      return 'unexpected-witness';
    }
    if (isSmall) return null;
    return sizeOf(block, false) * (WITNESS_SCALE - 1) + sizeOf(block, true) > MAX_BLOCK_WEIGHT
      ? 'bad-blk-weight'
      : null;
  }

  // --- the best chain --------------------------------------------------------------------------------------------------------

  /**
   * Moves to the valid chain with most work.
   * @param known - its last block, where the caller knows it
   * @returns why blocks could not be connected
   */
  #activateBest(known?: Node): Map<ChainBlock, string> {
    const refusals = new Map<ChainBlock, string>();
    const before = this.#active.at(-1)!;
    let best = known ?? this.#bestCandidate();
    while (best !== this.#active.at(-1)) {
      const fork = this.#forkOf(best);
      while (this.#active.at(-1) !== fork) this.#disconnectTip();
      const path: Node[] = [];
      for (let node = best; node !== fork; node = node.prev!) path.push(node);
      for (const node of path.reverse()) {
        const refusal = this.#connect(node);
        if (refusal === null) continue;
        refusals.set(node, refusal);
        this.#markInvalid(node);
        break;
      }
      if (this.#active.at(-1) === best) break;
      best = this.#bestCandidate();
    }
    this.#tell(before);
    return refusals;
  }

  #bestCandidate(): Node {
    let best = this.#active[0]!;
    for (const node of this.#nodes.values()) {
      if (node.invalid) continue;
      if (node.chainwork > best.chainwork || (node.chainwork === best.chainwork && node.order < best.order))
        best = node;
    }
    return best;
  }

  #forkOf(node: Node): Node {
    let fork = node;
    while (this.#active[fork.height] !== fork) fork = fork.prev!;
    return fork;
  }

  #tell(before: Node): void {
    const tip = this.#active.at(-1)!;
    if (tip === before) return;
    const fork = this.#forkOf(before);
    const disconnected: ChainBlock[] = [];
    for (let node = before; node !== fork; node = node.prev!) disconnected.push(node);
    const change: TipChange = { tip, disconnected, connected: this.#active.slice(fork.height + 1) };
    for (const listener of this.#listeners) listener(change);
  }

  /** Core's ConnectBlock. @returns null, or why not, and then nothing has changed */
  #connect(node: Node): string | null {
    const fresh = this.#fresh?.node === node ? this.#fresh : null;
    const block = fresh?.block ?? parseBlock(this.bytes(node));
    const ids = fresh?.ids ?? block.txs.map(txid);
    const changes: Change[] = [];
    let feesSats = 0n;
    let refusal: string | null = null;
    for (const [i, tx] of block.txs.entries()) {
      const id = ids[i]!;
      if (i > 0) {
        const fee = feeOrRefusal(tx, (key) => this.#coins.get(key), node.height, this.profile.coinbase_maturity);
        if (typeof fee === 'string') {
          refusal = fee;
          break;
        }
        feesSats += fee;
        for (const input of tx.inputs) {
          const key = coinKey(input.prevTxid, input.prevIndex);
          changes.push({ key, spent: this.#coins.get(key)! });
          this.#coins.delete(key);
        }
      }
      for (const [index, { valueSats, script }] of tx.outputs.entries()) {
        const key = coinKey(id, index);
        if (this.#coins.has(key)) {
          refusal = 'bad-txns-BIP30';
          break;
        }
        // Core does not keep what can never be spent.
        if (script[0] === 0x6a) continue;
        this.#coins.set(key, { valueSats, script: this.#shared(script), height: node.height, coinbase: i === 0 });
        changes.push({ key, spent: null });
      }
      if (refusal !== null) break;
    }
    if (refusal === null) {
      const claimedSats = block.txs[0]!.outputs.reduce((sum, { valueSats }) => sum + valueSats, 0n);
      if (claimedSats > subsidySats(this.profile, node.height) + feesSats) refusal = 'bad-cb-amount';
    }
    if (refusal !== null) {
      this.#undo(changes);
      return refusal;
    }
    node.changes = changes;
    this.#active.push(node);
    return null;
  }

  /** One array for equal scripts: a toy chain pays few. */
  #shared(script: Uint8Array): Uint8Array {
    const hex = hexFromBytes(script);
    const known = this.#scripts.get(hex);
    if (known !== undefined) return known;
    if (this.#scripts.size < MAX_SHARED_SCRIPTS) this.#scripts.set(hex, script);
    return script;
  }

  #undo(changes: readonly Change[]): void {
    for (const { key, spent } of changes.toReversed()) {
      if (spent === null) this.#coins.delete(key);
      else this.#coins.set(key, spent);
    }
  }

  #disconnectTip(): void {
    const node = this.#active.pop()!;
    this.#undo(node.changes!);
    node.changes = null;
  }

  /** A block and all that stand on it. */
  #family(root: Node): Set<Node> {
    const family = new Set([root]);
    // A block is known before its successors, and a Map keeps that order.
    for (const node of this.#nodes.values()) if (node.prev !== null && family.has(node.prev)) family.add(node);
    return family;
  }

  #markInvalid(root: Node): void {
    for (const node of this.#family(root)) node.invalid = true;
  }

  // --- what Core's regtest offers to tests -----------------------------------------------------------------------------------

  /** Treats a block, and all on it, as invalid until it is reconsidered or the program starts again. @returns false where it is unknown or the first */
  invalidate(hash: string): boolean {
    const node = this.#nodes.get(hash);
    if (node === undefined || node.height === 0) return false;
    this.#markInvalid(node);
    this.#activateBest();
    return true;
  }

  /** Takes back `invalidate` for a block, those on it and those below. @returns false where it is unknown */
  reconsider(hash: string): boolean {
    const root = this.#nodes.get(hash);
    if (root === undefined) return false;
    for (const node of this.#family(root)) node.invalid = false;
    for (let node: Node | null = root; node !== null; node = node.prev) node.invalid = false;
    this.#activateBest();
    return true;
  }

  /** Prefers a block among those of equal work. @returns false where it is unknown */
  precious(hash: string): boolean {
    const node = this.#nodes.get(hash);
    if (node === undefined) return false;
    if (node.chainwork < this.tip.chainwork) return true;
    node.order = --this.#preciousOrders;
    this.#activateBest();
    return true;
  }
}
