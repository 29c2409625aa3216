import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesFromHex, concatBytes, equalBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { hashHex } from '../../../../services/core/bitcoin/header.ts';
import {
  isCoinbase,
  parseTransaction,
  serializeTransaction,
  type Tx,
  txid,
  wtxid,
} from '../../../../services/core/bitcoin/transaction.ts';
import chain from '../../../vectors/bitcoin-blocks.json' with { type: 'json' };

test.each(chain.transactions)('$note has its id', ({ hex, txid: id }) => {
  const bytes = bytesFromHex(hex);
  const { tx, next } = parseTransaction(bytes);
  expect(next).toBe(bytes.length);
  expect(hashHex(txid(tx))).toBe(id);
  expect(hashHex(wtxid(tx))).toBe(id);
  expect(tx.outputs.map((o) => o.valueSats)).toEqual([1_000_000_000n, 4_000_000_000n]);
  expect(isCoinbase(tx)).toBe(false);
  expect(hexFromBytes(serializeTransaction(tx, { witness: true }))).toBe(hex);
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const script = fc.uint8Array({ maxLength: 300 });
const anyTx: fc.Arbitrary<Tx> = fc.record({
  version: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  inputs: fc.array(
    fc.record({
      prevTxid: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      prevIndex: u32,
      script,
      sequence: u32,
      witness: fc.array(script, { maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  outputs: fc.array(fc.record({ valueSats: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), script }), { maxLength: 4 }),
  lockTime: u32,
});

describe('reading and writing', () => {
  test('is identity with witnesses, in the middle of other bytes', () => {
    fc.assert(
      fc.property(anyTx, fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ maxLength: 9 }), (tx, before, after) => {
        const bytes = serializeTransaction(tx, { witness: true });
        const read = parseTransaction(concatBytes(before, bytes, after), before.length);
        expect(read.tx).toEqual(tx);
        expect(read.next).toBe(before.length + bytes.length);
      }),
    );
  });

  test('the txid does not depend on witnesses, the wtxid does', () => {
    fc.assert(
      fc.property(anyTx, (tx) => {
        const bare = { ...tx, inputs: tx.inputs.map((i) => ({ ...i, witness: [] })) };
        expect(txid(tx)).toEqual(txid(bare));
        expect(wtxid(bare)).toEqual(txid(bare));
        if (tx.inputs.some((i) => i.witness.length > 0)) expect(equalBytes(wtxid(tx), txid(tx))).toBe(false);
      }),
    );
  });

  test('a transaction cut anywhere is refused', () => {
    fc.assert(
      fc.property(anyTx, fc.nat(), (tx, n) => {
        const bytes = serializeTransaction(tx, { witness: true });
        expect(() => parseTransaction(bytes.subarray(0, n % bytes.length))).toThrow(RangeError);
      }),
    );
  });

  test('arbitrary bytes are read or refused with a RangeError, nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          const { tx, next } = parseTransaction(bytes);
          expect(serializeTransaction(tx, { witness: true })).toEqual(bytes.subarray(0, next));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('refused with a reason', () => {
  const body = `01${'00'.repeat(32)}ffffffff00ffffffff00`;
  test.each([
    ['no inputs', '01000000000000000000', 'no inputs'],
    ['an unknown flag', `010000000002${body}00000000`, 'unknown flag 2'],
    ['the witness form without a witness', `010000000001${body}0000000000`, 'witness form without a witness'],
    ['an MWEB body', `010000000008${body}0100000000`, 'has an MWEB body'],
    ['more inputs than bytes', '01000000feffffff00', 'inputs: 16777215 announced at offset 4, 0 bytes left'],
  ])('%s', (_, hex, message) => {
    expect(() => parseTransaction(bytesFromHex(hex))).toThrow(message);
  });
});
