/**
 * Follows the best chain of a node and says what happens to it: blocks connected and disconnected, our own ones confirmed or orphaned.
 *
 *   node --getblockhash, getblock (raw)--> ChainFollower --BlockEvent--> log (topic block)
 *
 * State is the fold of its own output (`ChainTailFold`), nothing else: what was appended has happened, and a follower that died
 * between two events goes on behind the first. Blocks are read raw and parsed here, so amounts are exact on every kind of node.
 *
 * Which branch counts is decided by work, computed from the blocks' nBits: a node whose chain has less work than the one known is
 * behind (or was told to forget blocks), and is waited for.
 */
import type { BlockEvent, BlockInput } from '../../schemas/events.ts';
import { addressFromScript } from '../core/bitcoin/address.ts';
import { type BlockSummary, blockTxids, parseBlockSummary } from '../core/bitcoin/block.ts';
import { bytesFromHex, equalBytes, hexFromBytes, uint32Be } from '../core/bitcoin/bytes.ts';
import { blockHash, HEADER_SIZE_BYTES, type Header, hashHex, headerFromBytes } from '../core/bitcoin/header.ts';
import { merkleRoot } from '../core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { bitsFromHex, bitsHex, targetFromBits, workFromBits } from '../core/bitcoin/target.ts';
import { CHAIN_FOLLOWER, type ChainTailFold } from '../core/chain-tail.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { countedSats, feesSats, subsidySats } from '../core/chains/subsidy.ts';
import { PoolError } from '../core/errors.ts';
import { hexAnswer, integerAnswer, type NodeRpc, objectAnswer } from '../core/node/rpc.ts';
import { BitsWatch, type WatchedBlock } from './bits-watch.ts';
import type { BlockOwner } from './own-work.ts';

/** Bitcoin Core chain.h, CBlockIndex::nMedianTimeSpan. */
const MEDIAN_SPAN = 11;
/** Small chains are read whole: a toy, a regression test, a young microcurrency. */
const READ_WHOLE_BELOW = 5_000;
/** Blocks asked for at a time while catching up: enough to hide the way to the node, few enough to hold in memory (8 × 4 MB as hex). */
const FETCH_AT_ONCE = 8;
/** A block of ours with one on top: whoever sent it has told of it long since, or never will. */
const TOLD_AT_DEPTH = 2;
const LOOKED_AT_LIMIT = 10_000;
/** A node's chain may change between two calls; one that does so this often in a row contradicts itself. */
const MOST_MOVES = 20;

export interface FollowerOptions {
  readonly profile: ChainProfile;
  /** What earlier runs emitted. */
  readonly fold: ChainTailFold;
  /** Writes events before it returns. */
  readonly append: (events: readonly BlockInput[]) => void;
  /** Name of the process, for the events. */
  readonly instance: string;
  /** Output script of our own address, hex; null: no block is ours. */
  readonly ourScript: string | null;
  /** Whose work a block is, by the jobs of this journal; absent: the address alone decides. */
  readonly owner?: BlockOwner;
  /** First height to read; null: see `firstHeight`. */
  readonly fromHeight: number | null;
  /** Deepest reorganisation that is followed without asking a person. */
  readonly maxReorg: number;
  /** Microseconds since 1970 UTC. */
  readonly nowUs: () => number;
  readonly signal: AbortSignal;
  /** Called after each batch of blocks. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface Progress {
  readonly height: number;
  /** Height of the node's tip when the round began. */
  readonly nodeHeight: number;
  /** Height at which the round began. */
  readonly fromHeight: number;
}

/**
 * What a round of following came to.
 *
 * | state     | meaning                                                                     |
 * |-----------|-----------------------------------------------------------------------------|
 * | followed  | the tip is the node's as it was at the end of the round                     |
 * | syncing   | the node says that it is still loading blocks                               |
 * | behind    | the node's chain has less work than the one known                           |
 * | early     | the node has not reached the first height to read                           |
 * | too_deep  | the node's chain leaves ours further back than `maxReorg`: a person decides |
 */
export type Round =
  | {
      readonly state: 'followed';
      readonly connected: number;
      readonly disconnected: number;
      readonly nodeHeight: number;
    }
  | {
      readonly state: 'syncing' | 'behind' | 'early' | 'too_deep';
      readonly problem: string;
      readonly nodeHeight: number;
    };

interface NodeTip {
  readonly height: number;
  readonly hash: string;
  readonly syncing: boolean;
}

/** The node's chain changed between two calls of one round; the next round sees it whole. */
class Moved extends Error {}

/**
 * The first height that is read on a first start: the block before the epoch before the present one, so that one whole epoch with its
 * retarget and its network hashrate can be computed; chains of under 5,000 blocks are read from the beginning.
 */
export function firstHeight(profile: Pick<ChainProfile, 'payout_blocks'>, tipHeight: number): number {
  if (tipHeight < READ_WHOLE_BELOW) return 0;
  const epoch = Math.floor(tipHeight / profile.payout_blocks);
  // One block more than the epoch: its hashrate and Litecoin's retarget count from the last block before it.
  return Math.max(0, (epoch - 1) * profile.payout_blocks - 1);
}

/** Median of the times of up to eleven blocks. @see Bitcoin Core chain.h, GetMedianTimePast */
export function medianTime(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new RangeError('times: expected at least one');
  return middle;
}

export class ChainFollower {
  readonly #o: FollowerOptions;
  /** Own blocks that were looked at for a `solved` event. */
  readonly #lookedAt = new Set<string>();
  /** The node of the present round. */
  #rpc!: NodeRpc;
  /** Times in seconds of the blocks below the first of the tail, lowest first; null: not read yet. */
  #context: { readonly below: string; readonly times: readonly number[] } | null = null;

  readonly #bits: BitsWatch;

  constructor(options: FollowerOptions) {
    this.#o = options;
    this.#bits = new BitsWatch(options.profile, options.signal);
  }

  /** What is wrong with the chain's nBits by the profile's rule, in one line; null: nothing that is known. */
  get bitsProblem(): string | null {
    return this.#bits.problem;
  }

  /** The last block connected, or null before the first. */
  get tip(): BlockEvent | null {
    return this.#o.fold.tip;
  }

  get chainSeq(): number {
    return this.#o.fold.tail.chainSeq;
  }

  get ownPending(): number {
    return this.#o.fold.tail.own.size;
  }

  /**
   * Follows until the node's tip is reached. One round at a time.
   * @throws PoolError node_* as the client does; node_answer where a block is not the one asked for; disk where nothing can be appended
   */
  async round(rpc: NodeRpc): Promise<Round> {
    this.#rpc = rpc;
    for (let attempt = 1; attempt <= MOST_MOVES; attempt++) {
      this.#o.signal.throwIfAborted();
      try {
        const round = await this.#round();
        if (round.state === 'followed') await this.#bits.look(rpc, this.#watched());
        return round;
      } catch (error) {
        if (!(error instanceof Moved)) throw error;
      }
    }
    throw new PoolError('node_answer', `node ${this.#rpc.name}: its blocks do not form a chain`);
  }

  async #round(): Promise<Round> {
    const node = await this.#nodeTip();
    const nodeHeight = node.height;
    if (node.syncing) {
      return {
        state: 'syncing',
        nodeHeight,
        problem: `node ${this.#rpc.name} is still syncing, at height ${nodeHeight}`,
      };
    }
    const tip = this.tip;
    if (tip === null) {
      const from = this.#o.fromHeight ?? firstHeight(this.#o.profile, nodeHeight);
      if (from > nodeHeight) {
        return {
          state: 'early',
          nodeHeight,
          problem: `the first block to read is ${from}; node ${this.#rpc.name} is at height ${nodeHeight}`,
        };
      }
      return { state: 'followed', nodeHeight, disconnected: 0, connected: await this.#connect(from, node) };
    }
    if (tip.hash === node.hash) {
      await this.#settleOwn();
      return { state: 'followed', nodeHeight, connected: 0, disconnected: 0 };
    }

    const blocks = this.#o.fold.tail.blocks;
    const fork = await this.#forkIndex(blocks, node);
    if (fork === null) {
      return {
        state: 'too_deep',
        nodeHeight,
        problem: `node ${this.#rpc.name} is on a chain that left ours more than ${Math.min(this.#o.maxReorg, blocks.length)} blocks below height ${tip.height} (its tip: ${node.hash} at ${node.height}); following stops until it returns or "lodestream.max_reorg" allows it`,
      };
    }
    const forkBlock = blocks[fork]!;
    const left = blocks.slice(fork + 1);
    if (left.length > 0) {
      const needed = left.reduce((sum, block) => sum + workFromBits(Number.parseInt(block.nbits, 16)), 0n);
      if (!(await this.#hasWork(forkBlock, node, needed))) {
        return {
          state: 'behind',
          nodeHeight,
          problem: `node ${this.#rpc.name} is behind: its chain ends at height ${node.height} with less work than the one known, which ends at ${tip.height} (${tip.hash})`,
        };
      }
      for (const block of left.toReversed()) {
        this.#emit([{ ...block, kind: 'disconnected' }]);
      }
      if (left[0] !== undefined) this.#bits.left(left[0].height);
    }
    const connected = await this.#connect(forkBlock.height + 1, node);
    return { state: 'followed', nodeHeight, connected, disconnected: left.length };
  }

  #watched(): WatchedBlock[] {
    return this.#o.fold.tail.blocks.map(({ height, nbits, block_time_us }) => ({
      height,
      ...{ bits: bitsFromHex(nbits), timeS: block_time_us / 1_000_000 },
    }));
  }

  async #nodeTip(): Promise<NodeTip> {
    const info = objectAnswer('getblockchaininfo', await this.#call('getblockchaininfo'));
    return {
      height: integerAnswer('getblockchaininfo.blocks', info.blocks, 0, 2 ** 31 - 1),
      hash: hexAnswer('getblockchaininfo.bestblockhash', info.bestblockhash, 32),
      // btcd leaves it out where it is false.
      syncing: info.initialblockdownload === true,
    };
  }

  /** Index into `blocks` of the highest block that is also on the node's chain, or null within the limit. */
  async #forkIndex(blocks: readonly BlockEvent[], node: NodeTip): Promise<number | null> {
    const least = Math.max(0, blocks.length - 1 - this.#o.maxReorg);
    for (let index = blocks.length - 1; index >= least; index--) {
      const block = blocks[index]!;
      if (block.height <= node.height && (await this.#hashAt(block.height)) === block.hash) return index;
    }
    return null;
  }

  /** Whether the node's chain above a block has at least this much work. */
  async #hasWork(above: BlockEvent, node: NodeTip, needed: bigint): Promise<boolean> {
    let work = 0n;
    let prev = above.hash;
    for (let height = above.height + 1; height <= node.height && work < needed; height++) {
      const hash = await this.#hashAt(height);
      const header = await this.#header(hash);
      if (hashHex(header.prevHash) !== prev) throw new Moved();
      work += workFromBits(header.bits);
      prev = hash;
    }
    return work >= needed;
  }

  /** Connects the node's blocks from a height to its tip. @returns how many */
  async #connect(fromHeight: number, node: NodeTip): Promise<number> {
    let next = fromHeight;
    while (next <= node.height) {
      this.#o.signal.throwIfAborted();
      const heights = Array.from({ length: Math.min(FETCH_AT_ONCE, node.height - next + 1) }, (_, i) => next + i);
      const fetched = await Promise.all(
        heights.map(async (height) => {
          const hash = await this.#hashAt(height);
          return { height, hash, bytes: await this.#block(hash) };
        }),
      );
      for (const block of fetched) await this.#connectOne(block);
      next += fetched.length;
      this.#o.onProgress?.({ height: next - 1, nodeHeight: node.height, fromHeight });
    }
    return next - fromHeight;
  }

  async #connectOne({ height, hash, bytes }: { height: number; hash: string; bytes: Uint8Array }): Promise<void> {
    const { profile, ourScript, nowUs } = this.#o;
    let summary: BlockSummary;
    let txids: Uint8Array[];
    try {
      summary = parseBlockSummary(bytes);
      txids = blockTxids(bytes);
    } catch (cause) {
      throw new PoolError('node_answer', `node ${this.#rpc.name}: block ${hash}: ${(cause as Error).message}`, {
        cause,
        facts: { hash, height },
      });
    }
    const { header, headerBytes, txCount, coinbase } = summary;
    if (hashHex(blockHash(headerBytes)) !== hash) {
      throw new PoolError('node_answer', `node ${this.#rpc.name}: getblock ${hash} gave another block`, {
        facts: { hash, height },
      });
    }
    // Block 0 is what the profile says it is, and need not have worked for its bits.
    if (height > 0 && !this.#hasProof(headerBytes, header.bits)) {
      throw new PoolError('node_answer', `node ${this.#rpc.name}: block ${hash} lacks the work that its bits ask for`, {
        facts: { hash, height, bits: bitsHex(header.bits) },
      });
    }
    // Fees, subsidy and whose it is are read from the coinbase: it has to be the one that was worked for.
    if (!equalBytes(merkleRoot(txids), header.merkleRoot)) {
      throw new PoolError(
        'node_answer',
        `node ${this.#rpc.name}: block ${hash} came with other transactions than its own`,
        {
          facts: { hash, height },
        },
      );
    }
    const prevHash = hashHex(header.prevHash);
    const tip = this.tip;
    if (tip !== null && tip.hash !== prevHash) throw new Moved();
    const times = await this.#timesBelow(prevHash, height);
    const outputs = coinbase.outputs.map((output) => ({
      script: hexFromBytes(output.script),
      value_sats: String(output.valueSats),
    }));
    const blockTimeUs = header.time * 1_000_000;
    const ofJob = (await this.#o.owner?.jobOf(height, blockTimeUs, prevHash, coinbase)) ?? null;
    this.#emit([
      {
        kind: 'connected',
        chain: profile.name,
        follower: CHAIN_FOLLOWER,
        instance: this.#o.instance,
        time_us: nowUs(),
        height,
        hash,
        prev_hash: prevHash,
        block_time_us: blockTimeUs,
        median_time_us: medianTime([...times, header.time]) * 1_000_000,
        nbits: bitsHex(header.bits),
        version: hexFromBytes(uint32Be(header.version >>> 0)),
        tx_count: txCount,
        size_bytes: bytes.length,
        subsidy_sats: String(subsidySats(profile, height)),
        fees_sats: String(feesSats(profile, height, coinbase)),
        coinbase_value_sats: String(countedSats(profile, coinbase)),
        coinbase_script: hexFromBytes(coinbase.inputs[0]!.script),
        coinbase_outputs: outputs,
        // A block is ours when its coinbase pays our address (readable from the chain, whoever submitted it), or is that of a job of
        // ours: in solo mode it pays its finder.
        ours:
          ofJob !== null ||
          (ourScript !== null && outputs.some((output) => output.script === ourScript && output.value_sats !== '0')),
      },
    ]);
    await this.#settleOwn();
  }

  #hasProof(headerBytes: Uint8Array, bits: number): boolean {
    const { pow, pow_limit } = this.#o.profile;
    const target = targetFromBits(bits);
    return target > 0n && target <= pow_limit && meetsTarget(powHash(pow, headerBytes), target);
  }

  /** Own blocks that are deep enough are confirmed; those off the chain, with that depth built elsewhere, are orphaned. */
  async #settleOwn(): Promise<void> {
    const tip = this.tip;
    if (tip === null) return;
    const { confirmations } = this.#o.profile;
    for (const { event, connected } of [...this.#o.fold.tail.own.values()]) {
      const depth = tip.height - event.height + 1;
      if (connected && depth >= Math.min(TOLD_AT_DEPTH, confirmations) && !this.#lookedAt.has(event.hash))
        await this.#tellSolved(event);
      if (depth < confirmations) continue;
      this.#emit([{ ...event, kind: connected ? 'confirmed' : 'orphaned', confirmations: connected ? depth : 0 }]);
    }
  }

  /**
   * Says that a block of ours was solved, where the process that sent it to the node died before it could.
   * Only of blocks made from a job of this journal: others that pay our address were found by somebody who tells it elsewhere.
   */
  async #tellSolved(event: BlockEvent): Promise<void> {
    const { owner, profile, ourScript } = this.#o;
    if (owner === undefined) return;
    if (!(await owner.isSolved(event.hash, event.block_time_us))) {
      const { headerBytes, coinbase } = parseBlockSummary(await this.#block(event.hash));
      const job = await owner.jobOf(event.height, event.block_time_us, event.prev_hash, coinbase);
      if (job !== null) {
        const paid = coinbase.outputs.find(({ valueSats }) => valueSats > 0n)?.script ?? new Uint8Array(0);
        // The first output is whom the job was for: in solo mode the user, by its address.
        const finder = hexFromBytes(paid) === ourScript ? null : addressFromScript(paid, profile.address);
        const solved: BlockInput = {
          ...event,
          ...{ kind: 'solved', follower: '', chain_seq: 0, source: 'chain', time_us: this.#o.nowUs() },
          ...{ origin: job.origin, instance: this.#o.instance, job_key: job.job_key, job_id: job.job_id },
          ...{ ours: true, user: finder ?? '', candidate: hexFromBytes(headerBytes) },
        };
        this.#o.append([solved]);
      }
    }
    this.#lookedAt.add(event.hash);
    for (const oldest of this.#lookedAt) {
      if (this.#lookedAt.size <= LOOKED_AT_LIMIT) break;
      this.#lookedAt.delete(oldest);
    }
  }

  /** Appends events under rising numbers and takes them into the state, in this order: the state is what the log holds. */
  #emit(events: readonly BlockInput[]): void {
    // The first number is the time in milliseconds: a follower whose log was lost never gives a number again that others have seen.
    let seq = this.chainSeq === 0 ? Math.floor(this.#o.nowUs() / 1_000) : this.chainSeq;
    const numbered = events.map((event) => {
      seq += 1;
      return {
        ...event,
        follower: CHAIN_FOLLOWER,
        instance: this.#o.instance,
        chain_seq: seq,
        time_us: this.#o.nowUs(),
      };
    });
    this.#o.append(numbered);
    for (const event of numbered) this.#o.fold.evolve(withDefaults(event));
  }

  /** Header times in seconds of the up to ten blocks that end with `prevHash`, at height - 1. */
  async #timesBelow(prevHash: string, height: number): Promise<number[]> {
    const wanted = Math.min(MEDIAN_SPAN - 1, height);
    const blocks = this.#o.fold.tail.blocks;
    const known = blocks.slice(-wanted).map((block) => block.block_time_us / 1_000_000);
    if (wanted === 0) return [];
    if (known.length >= wanted) return known;
    const below = blocks[0]?.prev_hash ?? prevHash;
    if (this.#context?.below !== below) {
      const times: number[] = [];
      const most = Math.min(MEDIAN_SPAN - 1, blocks[0]?.height ?? height);
      for (let hash = below; times.length < most; ) {
        const header = await this.#header(hash);
        times.unshift(header.time);
        hash = hashHex(header.prevHash);
      }
      this.#context = { below, times };
    }
    return [...this.#context.times, ...known].slice(-wanted);
  }

  async #hashAt(height: number): Promise<string> {
    try {
      return hexAnswer(`getblockhash ${height}`, await this.#call('getblockhash', [height]), 32);
    } catch (error) {
      // Core: RPC_INVALID_PARAMETER "Block height out of range"; btcd: -1. The chain became shorter since its tip was read.
      if (error instanceof PoolError && /out of range/i.test(String(error.facts.rpcMessage ?? ''))) throw new Moved();
      throw error;
    }
  }

  async #header(hash: string): Promise<Header> {
    const hex = hexAnswer('getblockheader', await this.#call('getblockheader', [hash, false]), HEADER_SIZE_BYTES);
    const bytes = bytesFromHex(hex);
    if (hashHex(blockHash(bytes)) !== hash) {
      throw new PoolError('node_answer', `node ${this.#rpc.name}: getblockheader ${hash} gave another header`);
    }
    return headerFromBytes(bytes);
  }

  async #block(hash: string): Promise<Uint8Array> {
    try {
      return bytesFromHex(hexAnswer('getblock', await this.#call('getblock', [hash, 0])));
    } catch (error) {
      // Core: "Block not available (pruned data)".
      if (error instanceof PoolError && /pruned/i.test(String(error.facts.rpcMessage ?? ''))) {
        throw new PoolError(
          'node_refused',
          `node ${this.#rpc.name} is pruned and no longer has block ${hash}, which is the next to be read: take a node that has it, or begin later with "lodestream.follow_from_height"`,
          { cause: error, facts: { hash } },
        );
      }
      throw error;
    }
  }

  #call(method: string, params: readonly unknown[] = []): Promise<unknown> {
    return this.#rpc.call(method, params, { signal: this.#o.signal });
  }
}

function withDefaults(event: BlockInput): BlockEvent {
  return {
    origin: '',
    follower: '',
    chain_seq: 0,
    median_time_us: 0,
    tx_count: 0,
    size_bytes: 0,
    subsidy_sats: '0',
    fees_sats: '0',
    coinbase_value_sats: '0',
    coinbase_script: '',
    coinbase_outputs: [],
    ours: false,
    confirmations: 0,
    job_key: '',
    job_id: '',
    user: '',
    worker: '',
    diff: 0,
    sdiff: 0,
    answers: [],
    candidate: '',
    source: 'live',
    ...event,
  };
}
