import fc from 'fast-check';
import { expect, test } from 'vitest';
import { concatBytes, equalBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { sha256d } from '../../../../services/core/bitcoin/hash.ts';
import { bytesFromHashHex, hashHex } from '../../../../services/core/bitcoin/header.ts';
import { merkleBranch, merkleRoot, rootFromBranch } from '../../../../services/core/bitcoin/merkle.ts';
import chain from '../../../vectors/bitcoin-blocks.json' with { type: 'json' };
import litecoin from '../../../vectors/litecoin-regtest.json' with { type: 'json' };

const hash32 = fc.uint8Array({ minLength: 32, maxLength: 32 });

test.each([
  ...chain.merkle,
  ...litecoin.blocks.map((b) => ({ height: b.height, root: b.merkle_root, txids: b.txids })),
])('the tree of block $height has its root, from all ids and from the branch', ({ root, txids }) => {
  const ids = txids.map(bytesFromHashHex);
  expect(hashHex(merkleRoot(ids))).toBe(root);
  expect(hashHex(rootFromBranch(ids[0]!, merkleBranch(ids.slice(1))))).toBe(root);
});

test('an odd last node is paired with itself', () => {
  const [a, b, c] = [1, 2, 3].map((n) => new Uint8Array(32).fill(n)) as [Uint8Array, Uint8Array, Uint8Array];
  const pair = (l: Uint8Array, r: Uint8Array) => sha256d(concatBytes(l, r));
  expect(merkleRoot([a, b, c])).toEqual(pair(pair(a, b), pair(c, c)));
  expect(merkleBranch([b, c])).toEqual([b, pair(c, c)]);
});

test('a lone coinbase is its own root and has no branch', () => {
  const only = new Uint8Array(32).fill(7);
  expect(merkleRoot([only])).toEqual(only);
  expect(merkleBranch([])).toEqual([]);
  expect(rootFromBranch(only, [])).toEqual(only);
});

test('branch and tree agree for every number of transactions', () => {
  fc.assert(
    fc.property(fc.array(hash32, { minLength: 1, maxLength: 70 }), (ids) => {
      const branch = merkleBranch(ids.slice(1));
      expect(branch.length).toBe(Math.ceil(Math.log2(ids.length)));
      return equalBytes(rootFromBranch(ids[0]!, branch), merkleRoot(ids));
    }),
  );
});

test('no ids, or an id of another size, are refused', () => {
  expect(() => merkleRoot([])).toThrow('at least the coinbase');
  expect(() => merkleBranch([new Uint8Array(31)])).toThrow('hash 0: expected 32 bytes, got 31');
  expect(() => rootFromBranch(new Uint8Array(32), [new Uint8Array(33)])).toThrow('hash 1: expected 32 bytes, got 33');
});
