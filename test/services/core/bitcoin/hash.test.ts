import { expect, test } from 'vitest';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { sha256, sha256d } from '../../../../services/core/bitcoin/hash.ts';

const abc = new TextEncoder().encode('abc');

test('SHA-256 of "abc" is that of FIPS 180-4', () => {
  expect(hexFromBytes(sha256(abc))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

test('the double hash is the hash of the hash', () => {
  expect(hexFromBytes(sha256d(abc))).toBe(hexFromBytes(sha256(sha256(abc))));
});
