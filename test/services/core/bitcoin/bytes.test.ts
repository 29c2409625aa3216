import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bytesFromHex,
  compactSize,
  concatBytes,
  equalBytes,
  hexFromBytes,
  readCompactSize,
  readInt32Le,
  readUint32Be,
  readUint32Le,
  readUint64Le,
  reversed,
  uint32Be,
  uint32Le,
  uint64Le,
} from '../../../../services/core/bitcoin/bytes.ts';

describe('hex', () => {
  test('bytes to hex and back is identity', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 9000 }), (b) => equalBytes(bytesFromHex(hexFromBytes(b)), b)));
  });

  test('capital digits are read', () => {
    expect(hexFromBytes(bytesFromHex('00FFaB'))).toBe('00ffab');
  });

  test.each([
    ['abc', 'nonce: expected an even number of hex digits, got 3'],
    ['zz', 'nonce: expected hex digits, got "zz" at digit 0'],
    ['00 0', 'nonce: expected hex digits, got " 0" at digit 2'],
    ['0x01', 'nonce: expected hex digits, got "0x" at digit 0'],
    ['é0', 'nonce: expected hex digits, got "é0" at digit 0'],
  ])('%j is refused with its place', (hex, message) => {
    expect(() => bytesFromHex(hex, 'nonce')).toThrow(new RangeError(message));
  });

  test('a wanted size is held', () => {
    expect(bytesFromHex('01020304', 'nonce', 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(() => bytesFromHex('010203', 'nonce', 4)).toThrow('nonce: expected 8 hex digits, got 6');
  });

  test('a value that is no text is refused', () => {
    expect(() => bytesFromHex(12 as unknown as string)).toThrow('hex: expected hex digits, got number');
  });

  test('any text is either exactly its hex or refused', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        let read: string | undefined;
        try {
          read = hexFromBytes(bytesFromHex(text));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
        expect(read).toBe(/^(?:[0-9a-fA-F]{2})*$/.test(text) ? text.toLowerCase() : undefined);
      }),
    );
  });

  test('bytes read from hex own their memory, so that they can be handed to another thread', () => {
    const bytes = bytesFromHex('0102');
    expect(bytes.buffer.byteLength).toBe(2);
  });
});

describe('integers', () => {
  test('32 bits are written and read in both orders', () => {
    fc.assert(
      fc.property(fc.integer({ min: -0x8000_0000, max: 0xffff_ffff }), (n) => {
        expect(readUint32Le(uint32Le(n), 0)).toBe(n >>> 0);
        expect(readUint32Be(uint32Be(n), 0)).toBe(n >>> 0);
        expect(readInt32Le(uint32Le(n), 0)).toBe(n | 0);
        expect(reversed(uint32Le(n))).toEqual(uint32Be(n));
      }),
    );
  });

  test('values outside 32 bits are refused', () => {
    for (const n of [2 ** 32, -(2 ** 31) - 1, 1.5, Number.NaN]) expect(() => uint32Le(n)).toThrow(RangeError);
  });

  test('64 bits are written and read', () => {
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (n) => readUint64Le(uint64Le(n), 0) === n));
    for (const n of [-1n, 2n ** 64n]) expect(() => uint64Le(n)).toThrow(RangeError);
  });

  test('reading past the end is refused', () => {
    expect(() => readUint32Le(Uint8Array.of(1, 2, 3), 0)).toThrow('expected 4 bytes at offset 0, got 3');
  });
});

describe('counts', () => {
  test.each([
    [0, '00'],
    [252, 'fc'],
    [253, 'fdfd00'],
    [65535, 'fdffff'],
    [65536, 'fe00000100'],
    [0xffff_ffff, 'feffffffff'],
    [0x1_0000_0000, 'ff0000000001000000'],
  ])('%i is %s', (n, hex) => {
    expect(hexFromBytes(compactSize(n))).toBe(hex);
    expect(readCompactSize(concatBytes(Uint8Array.of(7), bytesFromHex(hex)), 1)).toEqual({
      value: n,
      next: 1 + hex.length / 2,
    });
  });

  test.each(['fdfc00', 'feffff0000', 'ffffffffff00000000'])('%s is not in its shortest form and refused', (hex) => {
    expect(() => readCompactSize(bytesFromHex(hex), 0)).toThrow('shortest form');
  });

  test('a count beyond what a number holds, or cut short, is refused', () => {
    expect(() => readCompactSize(bytesFromHex('ffffffffffffffffff'), 0)).toThrow('too large');
    for (const hex of ['', 'fd00', 'fe000000', 'ff00']) {
      expect(() => readCompactSize(bytesFromHex(hex), 0)).toThrow(RangeError);
    }
  });
});
