/** A toy chain whose blocks cost two hashes, and blocks for it built by `core/bitcoin` alone: what a pool would submit. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serializeBlock } from '../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes, hexFromBytes, uint32Le } from '../../../services/core/bitcoin/bytes.ts';
import {
  buildCoinbase,
  pushData,
  witnessCoinbase,
  witnessCommitmentScript,
} from '../../../services/core/bitcoin/coinbase.ts';
import { sha256d } from '../../../services/core/bitcoin/hash.ts';
import {
  blockHash,
  bytesFromHashHex,
  type Header,
  hashHex,
  headerBytes,
} from '../../../services/core/bitcoin/header.ts';
import { merkleRoot } from '../../../services/core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../../../services/core/bitcoin/pow.ts';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import {
  parseTransaction,
  serializeTransaction,
  type Tx,
  txid,
  wtxid,
} from '../../../services/core/bitcoin/transaction.ts';
import { type ChainProfile, loadChain } from '../../../services/core/chains/profile.ts';
import { subsidySats } from '../../../services/core/chains/subsidy.ts';
import {
  type BlockStorage,
  type ChainBlock,
  OP_TRUE_WITNESS_SCRIPT,
  type ToyChain,
} from '../../../services/playground/chain.ts';

export const GENESIS_TIME_S = 1_700_000_000;
const EASIEST_BITS = 0x207fffff;

/** A first block like the playground's, with other nBits: its hash and its bytes. */
function genesisWith(bits: number): { hash: string; bytes: Uint8Array } {
  const { tx } = parseTransaction(loadChain('playground').genesis_block!.subarray(81));
  const header = headerBytes({
    version: 1,
    prevHash: new Uint8Array(32),
    merkleRoot: txid(tx),
    time: GENESIS_TIME_S,
    bits,
    nonce: 0,
  });
  return {
    hash: hashHex(blockHash(header)),
    bytes: serializeBlock(header, serializeTransaction(tx, { witness: true }), []),
  };
}

/** The playground's rules with the easiest proof of work; `overrides` changes more. */
export function easyProfile(overrides: Partial<ChainProfile> = {}): ChainProfile {
  const genesis = genesisWith(EASIEST_BITS);
  return {
    ...loadChain('playground'),
    pow_limit: targetFromBits(EASIEST_BITS),
    genesis_hash: genesis.hash,
    genesis_block: genesis.bytes,
    ...overrides,
  };
}

/** Writes the playground's profile with another first difficulty, for programs that read a profile from a file. @returns its path */
export function writeProfile(dir: string, bits: number): string {
  const path = join(dir, 'chain.json');
  const built = JSON.parse(readFileSync('services/core/chains/profiles/playground.json', 'utf8')) as Record<
    string,
    unknown
  >;
  const genesis = genesisWith(bits);
  // No easier block than the profile allows.
  const limit = [targetFromBits(bits), loadChain('playground').pow_limit].sort((a, b) => (a < b ? -1 : 1)).at(-1)!;
  writeFileSync(
    path,
    JSON.stringify({
      ...built,
      ...{ genesis_hash: genesis.hash, genesis_block: hexFromBytes(genesis.bytes) },
      pow_limit: limit.toString(16).padStart(64, '0'),
    }),
  );
  return path;
}

export interface BlockParts {
  readonly prev: ChainBlock;
  readonly height: number;
  readonly header: Omit<Header, 'merkleRoot' | 'nonce' | 'prevHash'>;
  readonly coinbaseOutputs: readonly { readonly script: Uint8Array; readonly valueSats: bigint }[];
  readonly txs: readonly Tx[];
  /** Script of the commitment's output; null for none. */
  readonly commitment: Uint8Array | null;
  /** Submit the coinbase with its witness, or as miners do without. */
  readonly withWitness: boolean;
  readonly extra: number;
}

/** What a valid next block consists of; a test changes one thing and builds it. */
export function nextParts(
  chain: ToyChain,
  options: { prev?: ChainBlock; timeS?: number; txs?: readonly Tx[]; feesSats?: bigint; extra?: number } = {},
): BlockParts {
  const prev = options.prev ?? chain.tip;
  const height = prev.height + 1;
  const txs = options.txs ?? [];
  return {
    prev,
    height,
    header: { version: 0x20000000, time: options.timeS ?? chain.medianTimeS(prev) + 1, bits: chain.nextBits(prev) },
    coinbaseOutputs: [
      { script: OP_TRUE_WITNESS_SCRIPT, valueSats: subsidySats(chain.profile, height) + (options.feesSats ?? 0n) },
    ],
    txs,
    commitment: witnessCommitmentScript(txs.map(wtxid)),
    withWitness: false,
    extra: options.extra ?? 0,
  };
}

export interface Built {
  readonly bytes: Uint8Array;
  readonly hash: string;
}

/** Builds and solves a block. `unsolved`: a nonce that does not meet the target. */
export function buildBlock(
  chain: ToyChain,
  parts: BlockParts,
  change: { root?: Uint8Array; unsolved?: boolean; prevHash?: Uint8Array; coinbase?: (tx: Tx) => Tx } = {},
): Built {
  const { part1, part2 } = buildCoinbase({
    height: parts.height,
    aux: new Uint8Array(0),
    timeS: parts.header.time,
    random: 0,
    extranonceSizeBytes: 4,
    tag: pushData(new TextEncoder().encode('test')),
    outputs: parts.coinbaseOutputs,
    ...(parts.commitment === null ? {} : { witnessCommitment: parts.commitment }),
  });
  const made = concatBytes(part1, uint32Le(parts.extra), part2);
  const coinbase =
    change.coinbase === undefined
      ? made
      : serializeTransaction(change.coinbase(parseTransaction(made).tx), { witness: false });
  const root = change.root ?? merkleRoot([sha256d(coinbase), ...parts.txs.map(txid)]);
  const target = targetFromBits(parts.header.bits);
  for (let nonce = 0; ; nonce++) {
    const header = headerBytes({
      ...parts.header,
      prevHash: change.prevHash ?? bytesFromHashHex(parts.prev.hash),
      merkleRoot: root,
      nonce,
    });
    if (meetsTarget(powHash(chain.profile.pow, header), target) === (change.unsolved === true)) continue;
    return {
      bytes: serializeBlock(
        header,
        parts.withWitness ? witnessCoinbase(coinbase) : coinbase,
        parts.txs.map((tx) => serializeTransaction(tx, { witness: true })),
      ),
      hash: hashHex(blockHash(header)),
    };
  }
}

/** Adds blocks to the tip; each pays its whole value to everybody. */
export function grow(chain: ToyChain, count: number, timeOf: (height: number) => number = () => 0): void {
  for (let i = 0; i < count; i++) {
    const timeS = timeOf(chain.tip.height + 1);
    const built = buildBlock(chain, nextParts(chain, timeS > 0 ? { timeS } : {}));
    const verdict = chain.submit(built.bytes);
    if (verdict !== null) throw new Error(`block ${chain.tip.height + 1}: ${verdict}`);
  }
}

/** A transaction that spends everybody's outputs. */
export function spend(
  from: readonly { txid: Uint8Array; index: number; script?: 'witness' | 'bare' }[],
  outputs: readonly { valueSats: bigint; script?: Uint8Array }[],
  change: Partial<Tx> = {},
): Tx {
  return {
    version: 2,
    lockTime: 0,
    inputs: from.map(({ txid: prevTxid, index, script }) => ({
      prevTxid,
      prevIndex: index,
      script: new Uint8Array(0),
      sequence: 0xffff_ffff,
      witness: script === 'bare' ? [] : [bytesFromHex('51')],
    })),
    outputs: outputs.map(({ valueSats, script }) => ({ valueSats, script: script ?? OP_TRUE_WITNESS_SCRIPT })),
    ...change,
  };
}

/** Keeps a toy chain's blocks in memory. */
export function memoryStorage(): BlockStorage {
  const blocks: Uint8Array[] = [];
  return {
    append: (bytes) => blocks.push(bytes) - 1,
    read: (place) => blocks[place]!,
  };
}
