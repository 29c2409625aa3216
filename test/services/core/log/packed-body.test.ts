import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { openBody, packBody } from '../../../../services/core/log/packed-body.ts';

/** Packs to much less, and has some literals in it. */
const body = Buffer.concat([Buffer.alloc(2_000, 'a share like the one before '), randomBytes(200)]);

test('what was packed is opened as it was, and whatever two bits flip, nothing else is', () => {
  const packed = packBody(body);
  expect(openBody(packed)).toEqual(body);
  const flipped = (...bits: number[]): Buffer => {
    const bytes = Buffer.from(packed);
    for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
    return bytes;
  };
  let opened = 0;
  // One is in the frame's head, which says how it is read, the checksum included.
  for (let head = 0; head < 9 * 8; head++) {
    for (let bit = 0; bit < packed.length * 8; bit += 17) {
      const got = openBody(flipped(...new Set([head, bit])));
      if (got === null) continue;
      opened += 1;
      if (!got.equals(body)) throw new Error(`bits ${head} and ${bit}: ${got.length} bytes that were never packed`);
    }
  }
  // Bits that mean nothing.
  expect(opened).toBeLessThan(packed.length);
});

test('a frame without a checksum, cut, or with bytes of others is not opened', () => {
  const packed = packBody(body);
  packed[4]! ^= 0x04;
  expect(openBody(packed)).toBeNull();
  expect(openBody(packBody(body).subarray(0, -1))).toBeNull();
  expect(openBody(Buffer.alloc(0))).toBeNull();
  expect(openBody(body)).toBeNull();
});
