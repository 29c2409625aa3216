import { expect, test } from 'vitest';
import { digest52 } from '../../../pipelines/shares/digest.ts';
import { newSeed, randomFrom } from '../blocks.ts';

/** First 52 bits of `mmh3.hash_bytes(text, 0, x64arch=False)`, its words little-endian; mmh3 5.3.1 (PyPI). */
const KNOWN: readonly (readonly [Buffer, string])[] = [
  [Buffer.from(''), '0'],
  [Buffer.from('a'), 'a794933c5556b'],
  [Buffer.from('Hello, world!'), '26acdba7f0638'],
  [Buffer.from('0123456789abcdef'), 'fb7d440936aed'],
  [Buffer.from('The quick brown fox jumps over the lazy dog'), '2f1583c3ecee2'],
  [Buffer.from('I will not buy this record, it is scratched.'), 'a0a9683b25ac5'],
  [Buffer.from(Array.from({ length: 256 }, (_, i) => i)), '2c56c88fdb450'],
];

test('the digest is the beginning of MurmurHash3, wherever the bytes lie', () => {
  for (const [bytes, digest] of KNOWN) {
    for (let before = 0; before < 5; before++) {
      // What lies around the bytes is not looked at.
      const all = Buffer.concat([Buffer.alloc(before, 0xa5), bytes, Buffer.alloc(20, 0xa5)]);
      const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
      expect(digest52(view, before, before + bytes.length).toString(16)).toBe(digest);
    }
  }
});

test('bytes that differ in a bit or in their length have other digests', () => {
  const random = randomFrom(newSeed());
  const seen = new Set<number>();
  const bytes = Buffer.from(Array.from({ length: 400 }, () => random(256)));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let cases = 0;
  for (let length = 0; length <= 400; length++, cases++) seen.add(digest52(view, 0, length));
  for (let bit = 0; bit < 399 * 8; bit++, cases++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    seen.add(digest52(view, 0, 399));
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  expect(seen.size).toBe(cases);
});
