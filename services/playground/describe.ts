/**
 * Blocks and transactions as the node's RPC prints them: names, order and number formats of Bitcoin Core 0.21 and later.
 * Flow: `rpc-methods.ts` asks; nothing here decides anything.
 *
 * @see https://developer.bitcoin.org/reference/rpc/
 */
import { addressFromScript } from '../core/bitcoin/address.ts';
import { parseBlock } from '../core/bitcoin/block.ts';
import { hexFromBytes } from '../core/bitcoin/bytes.ts';
import { hashHex } from '../core/bitcoin/header.ts';
import { bitsHex, difficultyFromBits } from '../core/bitcoin/target.ts';
import { isCoinbase, serializeTransaction, type Tx, txid, wtxid } from '../core/bitcoin/transaction.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { type ChainBlock, type Coin, coinKey, sizeOf, type ToyChain, weightOf } from './chain.ts';

/** A number with the digits given, through JSON.stringify (ES2026 JSON.rawJSON, which TypeScript's library does not have yet). */
function rawNumber(digits: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(digits);
}

/** An amount in coins with eight decimals, as Core prints it: 50.00000000. */
export function coinsFromSats(sats: bigint): unknown {
  const sign = sats < 0n ? '-' : '';
  const digits = (sats < 0n ? -sats : sats).toString().padStart(9, '0');
  return rawNumber(`${sign}${digits.slice(0, -8)}.${digits.slice(-8)}`);
}

/** An amount in smallest units, every digit of it. */
export function unitsFromSats(sats: bigint): unknown {
  return rawNumber(sats.toString());
}

/** Sum of work as Core prints it: 64 hex digits. */
export function chainworkHex(work: bigint): string {
  return work.toString(16).padStart(64, '0');
}

function versionHex(version: number): string {
  return (version >>> 0).toString(16).padStart(8, '0');
}

const OPCODES: Readonly<Record<number, string>> = {
  0: '0',
  79: '-1',
  106: 'OP_RETURN',
  118: 'OP_DUP',
  135: 'OP_EQUAL',
  136: 'OP_EQUALVERIFY',
  169: 'OP_HASH160',
  172: 'OP_CHECKSIG',
};

/** A script in words: pushes as hex, small numbers as numbers, the rest as opcodes. */
function asmOf(script: Uint8Array): string {
  const words: string[] = [];
  for (let at = 0; at < script.length; ) {
    const opcode = script[at++]!;
    if (opcode >= 1 && opcode <= 75) {
      if (at + opcode > script.length) return [...words, '[error]'].join(' ');
      words.push(hexFromBytes(script.subarray(at, at + opcode)));
      at += opcode;
    } else if (opcode >= 0x51 && opcode <= 0x60) {
      words.push(String(opcode - 0x50));
    } else {
      words.push(OPCODES[opcode] ?? `OP_UNKNOWN_${opcode.toString(16)}`);
    }
  }
  return words.join(' ');
}

/** Core's name of a script's form (script/standard.cpp, GetTxnOutputType). */
function typeOf(script: Uint8Array): string {
  const [first, second] = script;
  if (first === 0x6a) return 'nulldata';
  if (script.length === 25 && first === 0x76) return 'pubkeyhash';
  if (script.length === 23 && first === 0xa9) return 'scripthash';
  if (first === 0 && second === 20 && script.length === 22) return 'witness_v0_keyhash';
  if (first === 0 && second === 32 && script.length === 34) return 'witness_v0_scripthash';
  if (first === 0x51 && second === 32 && script.length === 34) return 'witness_v1_taproot';
  if (first !== undefined && first >= 0x51 && first <= 0x60 && second === script.length - 2) return 'witness_unknown';
  return 'nonstandard';
}

export function scriptView(script: Uint8Array, profile: Pick<ChainProfile, 'address'>): Record<string, unknown> {
  const address = addressFromScript(script, profile.address);
  return {
    asm: asmOf(script),
    hex: hexFromBytes(script),
    ...(address === null ? {} : { address }),
    type: typeOf(script),
  };
}

/** @param feeSats - shown where it is known */
export function transactionView(
  tx: Tx,
  profile: Pick<ChainProfile, 'address'>,
  feeSats?: bigint,
): Record<string, unknown> {
  const bytes = serializeTransaction(tx, { witness: true });
  const weight = weightOf(tx);
  return {
    txid: hashHex(txid(tx)),
    hash: hashHex(wtxid(tx)),
    version: tx.version,
    size: bytes.length,
    vsize: Math.ceil(weight / 4),
    weight,
    locktime: tx.lockTime,
    vin: tx.inputs.map((input) => {
      const witness = input.witness.length === 0 ? {} : { txinwitness: input.witness.map(hexFromBytes) };
      if (isCoinbase(tx)) return { coinbase: hexFromBytes(input.script), ...witness, sequence: input.sequence };
      return {
        txid: hashHex(input.prevTxid),
        vout: input.prevIndex,
        scriptSig: { asm: asmOf(input.script), hex: hexFromBytes(input.script) },
        ...witness,
        sequence: input.sequence,
      };
    }),
    vout: tx.outputs.map(({ valueSats, script }, n) => ({
      value: coinsFromSats(valueSats),
      n,
      scriptPubKey: scriptView(script, profile),
    })),
    ...(feeSats === undefined ? {} : { fee: coinsFromSats(feeSats) }),
    hex: hexFromBytes(bytes),
  };
}

/** `getblockheader` in its long form; the members that `getblock` shares come first. */
export function headerView(chain: ToyChain, block: ChainBlock): Record<string, unknown> {
  const { header } = block;
  const active = chain.isActive(block);
  const next = active ? chain.at(block.height + 1) : undefined;
  return {
    hash: block.hash,
    confirmations: active ? chain.tip.height - block.height + 1 : -1,
    height: block.height,
    version: header.version,
    versionHex: versionHex(header.version),
    merkleroot: hashHex(header.merkleRoot),
    time: header.time,
    mediantime: chain.medianTimeS(block),
    nonce: header.nonce,
    bits: bitsHex(header.bits),
    difficulty: difficultyFromBits(header.bits),
    chainwork: chainworkHex(block.chainwork),
    nTx: block.txCount,
    ...(block.prev === null ? {} : { previousblockhash: block.prev.hash }),
    ...(next === undefined ? {} : { nextblockhash: next.hash }),
  };
}

/** `getblock` with verbosity 1 (ids) or 2 (transactions). */
export function blockView(chain: ToyChain, block: ChainBlock, verbosity: 1 | 2): Record<string, unknown> {
  const { txs } = parseBlock(chain.bytes(block));
  const strippedSize = sizeOf({ txs }, false);
  const { hash, confirmations, height, version, versionHex, merkleroot, ...rest } = headerView(chain, block);
  const spent = chain.spentBy(block);
  return {
    hash,
    confirmations,
    strippedsize: strippedSize,
    size: block.sizeBytes,
    weight: strippedSize * 3 + block.sizeBytes,
    height,
    version,
    versionHex,
    merkleroot,
    tx:
      verbosity === 1
        ? txs.map((tx) => hashHex(txid(tx)))
        : txs.map((tx) => transactionView(tx, chain.profile, feeOf(tx, spent))),
    ...rest,
  };
}

/** Fee of a transaction of a connected block; undefined for coinbases and where the block is not connected. */
export function feeOf(tx: Tx, spent: ReadonlyMap<string, Coin>): bigint | undefined {
  if (isCoinbase(tx)) return undefined;
  let fee = 0n;
  for (const { prevTxid, prevIndex } of tx.inputs) {
    const coin = spent.get(coinKey(prevTxid, prevIndex));
    if (coin === undefined) return undefined;
    fee += coin.valueSats;
  }
  for (const { valueSats } of tx.outputs) fee -= valueSats;
  return fee;
}
