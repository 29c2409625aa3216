import { expect, test } from 'vitest';
import { blockHash } from '../../../../services/core/bitcoin/header.ts';
import { meetsTarget, powHash } from '../../../../services/core/bitcoin/pow.ts';
import { MAX_TARGET } from '../../../../services/core/bitcoin/target.ts';

// Headers of public chains under both algorithms are in header.test.ts.

test('on sha256d chains the proof-of-work hash is the block’s, on scrypt chains it is not', () => {
  const header = new Uint8Array(80).fill(3);
  expect(powHash('sha256d', header)).toEqual(blockHash(header));
  expect(powHash('scrypt', header)).not.toEqual(blockHash(header));
});

test('a hash equal to the target meets it, one above does not', () => {
  const hash = new Uint8Array(32);
  hash[1] = 1;
  expect(meetsTarget(hash, 256n)).toBe(true);
  expect(meetsTarget(hash, 255n)).toBe(false);
  expect(meetsTarget(new Uint8Array(32).fill(0xff), MAX_TARGET)).toBe(true);
});
