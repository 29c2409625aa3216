import { expect, test } from 'vitest';
import { Filter } from '../../../services/consumers/copies.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';

test('a filter knows every identity that it was given, and takes no other for known', () => {
  const random = randomFrom(newSeed());
  const filter = new Filter();
  const halves = Array.from({ length: 100_000 }, () => [random(2 ** 32) | 0, random(2 ** 32) | 0] as const);
  const wrongly = halves.filter(([high, low]) => filter.add(high, low)).length;
  // Of 100,000 strangers one, once in a thousand runs; two never.
  expect(wrongly).toBeLessThan(2);
  expect(halves.filter(([high, low]) => !filter.add(high, low))).toEqual([]);
  expect(filter.sizeBytes).toBeLessThan(11 * halves.length);
});
