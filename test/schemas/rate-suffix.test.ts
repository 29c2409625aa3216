import { expect, test } from 'vitest';
import { rateFromSuffix } from '../../schemas/rate-suffix.ts';

test.each([
  ['426G', 426e9],
  ['9.52G', 9_520_000_000],
  ['1e+03K', 1e6],
  ['0', 0],
  ['11', 11],
  ['601', 601],
  ['85.9', 85.9],
  ['1.2m', 0.0012],
  ['355m', 0.355],
  ['59.8u', 59.8e-6],
  ['21.7u', 0.0000217],
  ['3.12E', 3.12e18],
])('%s is %d, to the digit', (text, value) => {
  expect(rateFromSuffix(text)).toBe(value);
});

test.each(['', 'G', '1.2.3G', '-1G', '-1K', '1G1', 'NaN', '1Q', 'Infinity', '1e999'])('%s is no number', (text) => {
  expect(rateFromSuffix(text)).toBeNull();
});
