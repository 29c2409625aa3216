import { expect, test } from 'vitest';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { hash160, sha256, sha256d } from '../../../../services/core/bitcoin/hash.ts';

const abc = new TextEncoder().encode('abc');

test('SHA-256 of "abc" is that of FIPS 180-4', () => {
  expect(hexFromBytes(sha256(abc))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

test('the double hash is the hash of the hash', () => {
  expect(hexFromBytes(sha256d(abc))).toBe(hexFromBytes(sha256(sha256(abc))));
});

test('hash160 of the generator point is that of the best known segwit address', () => {
  // BIP 173's example key: bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4
  const key = Uint8Array.from(Buffer.from('0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798', 'hex'));
  expect(hexFromBytes(hash160(key))).toBe('751e76e8199196d454941c45d1b3a323f1433bd6');
});
