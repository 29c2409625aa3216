import { describe, expect, test } from 'vitest';
import { blockTxids, parseBlock, parseBlockSummary, serializeBlock } from '../../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes, equalBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import {
  heightFromCoinbase,
  witnessCoinbase,
  witnessCommitmentIndex,
  witnessCommitmentScript,
} from '../../../../services/core/bitcoin/coinbase.ts';
import { blockHash, hashHex } from '../../../../services/core/bitcoin/header.ts';
import { merkleRoot } from '../../../../services/core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../../../../services/core/bitcoin/pow.ts';
import { bitsHex, targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import { serializeTransaction, txid, wtxid } from '../../../../services/core/bitcoin/transaction.ts';
import recorded from '../../../vectors/ckpool-blocks.json' with { type: 'json' };
import litecoin from '../../../vectors/litecoin-regtest.json' with { type: 'json' };

describe('blocks that a CKPool submitted and a node accepted', () => {
  test.each(recorded.blocks.map((b, i) => ({ ...b, i })))('block $i of $scenario', ({ hex }) => {
    const bytes = bytesFromHex(hex);
    const block = parseBlock(bytes);
    expect(block.txs.length).toBe(block.txCount);
    expect(block.extra.length).toBe(0);
    expect(merkleRoot(block.txs.map(txid))).toEqual(block.header.merkleRoot);
    const commitment = block.coinbase.outputs[witnessCommitmentIndex(block.coinbase.outputs)]!.script;
    expect(witnessCommitmentScript(block.txs.slice(1).map(wtxid))).toEqual(commitment);
    expect(meetsTarget(blockHash(block.headerBytes), targetFromBits(block.header.bits))).toBe(true);
    expect(heightFromCoinbase(block.coinbase.inputs[0]!.script)).toBeGreaterThan(0);

    const rewritten = serializeBlock(
      block.headerBytes,
      serializeTransaction(block.coinbase, { witness: false }),
      block.txs.slice(1).map((tx, i) => {
        const one = serializeTransaction(tx, { witness: true });
        return i % 2 === 0 ? one : hexFromBytes(one);
      }),
    );
    expect(hexFromBytes(rewritten)).toBe(hex);

    const withWitness = serializeBlock(
      block.headerBytes,
      witnessCoinbase(serializeTransaction(block.coinbase, { witness: false })),
      block.txs.slice(1).map((tx) => serializeTransaction(tx, { witness: true })),
    );
    expect(withWitness.length).toBe(bytes.length + 36);
    expect(merkleRoot(parseBlock(withWitness).txs.map(txid))).toEqual(block.header.merkleRoot);
  });
});

describe('Litecoin blocks with an extension block', () => {
  test.each(litecoin.blocks)('block $height has its ids, and the HogEx is known', (vector) => {
    const bytes = bytesFromHex(vector.hex);
    const block = parseBlock(bytes);
    expect(hashHex(blockHash(block.headerBytes))).toBe(vector.hash);
    expect(bitsHex(block.header.bits)).toBe(vector.bits);
    expect(block.txs.map((tx) => hashHex(txid(tx)))).toEqual(vector.txids);
    // The node's `hash` of the coinbase counts its witness as any other's.
    expect(block.txs.map((tx) => hashHex(wtxid(tx)))).toEqual(vector.hashes);
    expect(block.txs.map((tx) => tx.hogEx === true)).toEqual([false, false, true]);
    expect(heightFromCoinbase(block.coinbase.inputs[0]!.script)).toBe(vector.height);
    expect(meetsTarget(powHash('scrypt', block.headerBytes), targetFromBits(block.header.bits))).toBe(true);
    expect(block.extra[0]).toBe(1);
    const all = block.txs.map((tx) => serializeTransaction(tx, { witness: true }));
    expect(hexFromBytes(serializeBlock(block.headerBytes, all[0]!, all.slice(1), block.extra))).toBe(vector.hex);
    expect(witnessCommitmentScript(block.txs.slice(1).map(wtxid))).toEqual(
      block.coinbase.outputs[witnessCommitmentIndex(block.coinbase.outputs)]!.script,
    );
  });
});

describe('the summary', () => {
  const bytes = bytesFromHex(recorded.blocks[0]!.hex);

  test('equals the front of the whole and does not look at the rest', () => {
    const { txs: _, extra: __, ...front } = parseBlock(bytes);
    expect(parseBlockSummary(bytes)).toEqual(front);
    const broken = bytes.slice();
    broken.fill(0xff, 300);
    expect(equalBytes(parseBlockSummary(broken).headerBytes, front.headerBytes)).toBe(true);
    expect(() => parseBlock(broken)).toThrow(RangeError);
  });
});

describe('refused', () => {
  const bytes = bytesFromHex(recorded.blocks[0]!.hex);

  test('a block cut anywhere', () => {
    for (let n = 0; n < bytes.length; n += 7) expect(() => parseBlock(bytes.subarray(0, n))).toThrow(RangeError);
  });

  test('no transactions, or more than bytes', () => {
    const head = bytes.subarray(0, 80);
    expect(() => parseBlock(concatBytes(head, Uint8Array.of(0)))).toThrow('got no transactions');
    expect(() => parseBlockSummary(concatBytes(head, bytesFromHex('feffffff00'), bytes.subarray(81)))).toThrow(
      /16777215 transactions announced/,
    );
  });

  test('a first transaction that spends something', () => {
    const spending = bytes.slice();
    spending[81 + 5] = 1;
    expect(() => parseBlock(spending)).toThrow('the first transaction is no coinbase');
  });

  test('a header of another size, and hex that is none, when writing', () => {
    expect(() => serializeBlock(new Uint8Array(79), new Uint8Array(0), [])).toThrow('expected 80 bytes, got 79');
    expect(() => serializeBlock(new Uint8Array(80), new Uint8Array(0), ['0x'])).toThrow('transaction 1: expected hex');
  });
});

describe('the ids of a block without parsing it', () => {
  const blocks = [...recorded.blocks, ...litecoin.blocks].map(({ hex }) => bytesFromHex(hex));

  test('are those of its parsed transactions: with witnesses, without, and of the HogEx', () => {
    for (const bytes of blocks) {
      const { txs, header } = parseBlock(bytes);
      expect(blockTxids(bytes)).toEqual(txs.map(txid));
      expect(merkleRoot(blockTxids(bytes))).toEqual(header.merkleRoot);
    }
  });

  test('a block that is cut anywhere within its transactions is refused, as it is by the parser', () => {
    for (const bytes of blocks.slice(0, 2).concat(blocks.slice(-1))) {
      const end = bytes.length - parseBlock(bytes).extra.length;
      for (let size = 81; size < end; size += 7) expect(() => blockTxids(bytes.subarray(0, size))).toThrow(RangeError);
      expect(() => blockTxids(bytes.subarray(0, end - 1))).toThrow(RangeError);
    }
  });
});
