/**
 * Building and finding blocks inside the toy chain: the templates that it hands out, and what Core's regtest calls
 * `generatetoaddress` and `generateblock`, which tests need for reorganisations. Flow: `rpc-methods.ts` → here → `chain.ts`.
 */
import { serializeBlock } from '../core/bitcoin/block.ts';
import { concatBytes, uint32Le } from '../core/bitcoin/bytes.ts';
import { buildCoinbase, pushData, witnessCoinbase, witnessCommitmentScript } from '../core/bitcoin/coinbase.ts';
import { sha256d } from '../core/bitcoin/hash.ts';
import { bytesFromHashHex, headerBytes } from '../core/bitcoin/header.ts';
import { merkleRoot } from '../core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { targetFromBits } from '../core/bitcoin/target.ts';
import { subsidySats } from '../core/chains/subsidy.ts';
import type { ChainBlock, ToyChain } from './chain.ts';
import type { MempoolEntry } from './mempool.ts';

/** BIP 9: no deployment is signalled. */
export const BLOCK_VERSION = 0x2000_0000;

/** What the next block must hold and may hold. */
export interface Draft {
  readonly prev: ChainBlock;
  readonly height: number;
  readonly bits: number;
  readonly target: bigint;
  readonly mintimeS: number;
  readonly curtimeS: number;
  readonly coinbaseValueSats: bigint;
  readonly transactions: readonly MempoolEntry[];
  /** Script of the commitment's output. */
  readonly commitment: Uint8Array;
}

/** The next block's frame with these transactions, parents first. */
export function draftBlock(chain: ToyChain, transactions: readonly MempoolEntry[], nowS: number): Draft {
  const prev = chain.tip;
  const height = prev.height + 1;
  const bits = chain.nextBits(prev);
  const mintimeS = chain.medianTimeS(prev) + 1;
  return {
    prev,
    height,
    bits,
    target: targetFromBits(bits),
    mintimeS,
    curtimeS: Math.max(mintimeS, nowS),
    coinbaseValueSats:
      subsidySats(chain.profile, height) + transactions.reduce((sum, { feeSats }) => sum + feeSats, 0n),
    transactions,
    commitment: witnessCommitmentScript(transactions.map(({ hashRpc }) => bytesFromHashHex(hashRpc))),
  };
}

/** Hashes between two turns of the event loop: about 20 ms. */
const HASHES_A_TURN = 20_000;

/**
 * Finds a nonce for a draft on this thread, in turns, so that the node goes on answering.
 *
 * @param payTo - script of the coinbase's output
 * @param extra - tells apart blocks that would otherwise be the same
 * @param maxTries - hashes; counted down in place
 * @returns the whole block, null where the tries are used up
 */
export async function findBlock(
  chain: ToyChain,
  draft: Draft,
  payTo: Uint8Array,
  extra: number,
  tries: { left: number },
): Promise<Uint8Array | null> {
  const { part1, part2 } = buildCoinbase({
    height: draft.height,
    aux: new Uint8Array(0),
    timeS: draft.curtimeS,
    random: 0,
    extranonceSizeBytes: 4,
    tag: pushData(new TextEncoder().encode('generated')),
    outputs: [{ script: payTo, valueSats: draft.coinbaseValueSats }],
    witnessCommitment: draft.commitment,
  });
  const coinbase = concatBytes(part1, uint32Le(extra), part2);
  const header = headerBytes({
    version: BLOCK_VERSION,
    prevHash: bytesFromHashHex(draft.prev.hash),
    merkleRoot: merkleRoot([sha256d(coinbase), ...draft.transactions.map(({ txid }) => txid)]),
    time: draft.curtimeS,
    bits: draft.bits,
    nonce: 0,
  });
  const view = new DataView(header.buffer, header.byteOffset);
  for (let nonce = 0; nonce <= 0xffff_ffff && tries.left > 0; nonce++, tries.left--) {
    view.setUint32(76, nonce, true);
    if (meetsTarget(powHash(chain.profile.pow, header), draft.target)) {
      return serializeBlock(
        header,
        witnessCoinbase(coinbase),
        draft.transactions.map(({ bytes }) => bytes),
      );
    }
    if (nonce % HASHES_A_TURN === HASHES_A_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
  }
  return null;
}
