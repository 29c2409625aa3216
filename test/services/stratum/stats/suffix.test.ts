import { describe, expect, test } from 'vitest';
import { bestText, suffixPadded, suffixText, sumText } from '../../../../services/stratum/stats/suffix.ts';

describe('hash rates', () => {
  test.each([
    [0, '0'],
    [11.9, '11'],
    [999.9, '999'],
    [1_000, '1K'],
    [1_600_000_000, '1.6G'],
    [57_000_000, '57M'],
    [9_520_000_000, '9.52G'],
    [426e9, '426G'],
    [48.6e6, '48.6M'],
    [999_700, '1e+03K'],
    [3.21e18, '3.21E'],
    [1.5e21, '1.5e+03E'],
  ])('%d is %s', (value, text) => {
    expect(suffixText(value)).toBe(text);
  });

  test('on a terminal three digits take the same room', () => {
    expect([3.12e9, 985e6, 16.7e12, 0].map(suffixPadded)).toEqual(['3.12G', ' 985M', '16.7T', '0.00']);
  });
});

test('sums are whole where the shares were, or where CKPool would write nothing else', () => {
  expect(sumText(8032, false)).toBe('8032');
  expect(sumText(1.1649, false)).toBe('1.1649');
  expect(sumText(5e-5, false)).toBe('5.0000000000000002e-5');
  expect(sumText(1.1649, true)).toBe('1');
  expect(bestText(49808.477, false)).toBe('49808');
  expect(bestText(0.25, false)).toBe('0.25');
  expect(bestText(0.25, true)).toBe('0');
});
