import { expect, test } from 'vitest';
import { Bloom } from '../../../services/consumers/copies.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';

test('a filter knows every identity that it was given, and takes at most one of a thousand others for known', () => {
  const random = randomFrom(newSeed());
  const bloom = new Bloom();
  const halves = Array.from({ length: 100_000 }, () => [random(2 ** 32) | 0, random(2 ** 32) | 0] as const);
  const wrongly = halves.filter(([high, low]) => bloom.add(high, low)).length;
  expect(wrongly).toBeLessThan(100);
  expect(halves.filter(([high, low]) => !bloom.add(high, low))).toEqual([]);
  expect(bloom.sizeBytes).toBeLessThan(8 * halves.length);
});
