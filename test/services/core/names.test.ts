import { expect, test } from 'vitest';
import { NAME, nearestName } from '../../../services/core/names.ts';

test('the nearest name is offered only when it is near', () => {
  expect(nearestName('plool', ['pool', 'proxy'])).toBe('pool');
  expect(nearestName('quite-else', ['pool', 'proxy'])).toBeNull();
  expect(nearestName('foo', ['pool', 'proxy'])).toBeNull();
});

test('a name is safe as a file: no separator, no hidden file, at most 64 characters', () => {
  for (const good of ['ckpool', 'a', '7', 'pool-1.eu_west', 'x'.repeat(64)]) expect(NAME.test(good), good).toBe(true);
  for (const bad of ['', '.hidden', '-x', '_x', 'a/b', 'a:b', 'a b', 'é', 'a\n', 'x'.repeat(65)])
    expect(NAME.test(bad), bad).toBe(false);
});
