import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decimal18FromDouble, decimal18Text, unitsFromDouble } from '../../../pipelines/shares/decimal.ts';

test.each([
  [0, '0'],
  [-0, '0'],
  [1, '1'],
  [0.1, '0.100000000000000006'],
  [0.0001, '0.0001'],
  [5e-5, '0.00005'],
  [1.5, '1.5'],
  [12345.678901234, '12345.678901233999567921'],
  [1e-19, '0'],
  [9.9e-19, '0.000000000000000001'],
  [5e-324, '0'],
  [2 ** 53, '9007199254740992'],
  [99_999_999_999_999_980_000, '99999999999999983616'],
])('%d is %s in 18 decimals', (value, text) => {
  expect(decimal18FromDouble(value)).toBe(text);
});

test('a tie goes to the even neighbour', () => {
  // 2^-19 has 19 decimals, the last a 5: 0.0000019073486328125 · 10^18 = 1907348632812.5
  expect(decimal18FromDouble(2 ** -19)).toBe('0.000001907348632812');
  expect(decimal18FromDouble(3 * 2 ** -19)).toBe('0.000005722045898438');
});

test('the rounding is the nearest unit of the exact binary value', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e19, noNaN: true }), (value) => {
      // The shift by 2^-1074 makes every double whole.
      const exact = wholeOf(value);
      const scaled = exact * 10n ** 18n;
      const unit = 1n << 1074n;
      const off = scaled - unitsFromDouble(value) * unit;
      expect((off < 0n ? -off : off) * 2n <= unit).toBe(true);
    }),
  );
});

test('text and units are the same number', () => {
  fc.assert(
    fc.property(fc.bigInt(-(10n ** 38n), 10n ** 38n), (units) => {
      const text = decimal18Text(units);
      const [whole = '', fraction = ''] = text.replace('-', '').split('.');
      const back = BigInt(whole + fraction.padEnd(18, '0'));
      expect(text.startsWith('-') ? -back : back).toBe(units);
    }),
  );
});

test('NaN and infinities are refused', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => decimal18FromDouble(value)).toThrow(RangeError);
});

/** value · 2^1074 by repeated doubling, which is exact. */
function wholeOf(value: number): bigint {
  let shift = 0;
  let scaled = value;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    shift += 1;
  }
  return BigInt(scaled) << BigInt(1074 - shift);
}
