import { expect, test } from 'vitest';
import { clientLimit } from '../../../services/stratum/server.ts';

const limits = (soft: number | string): string =>
  `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 524288               files\n`;

test('connections leave descriptors to blocks and the journal, whatever maxclients says', () => {
  expect(clientLimit(0, limits(20_000))).toBe(18_000);
  expect(clientLimit(500, limits(20_000))).toBe(500);
  expect(clientLimit(50_000, limits(20_000))).toBe(18_000);
  expect(clientLimit(0, limits(256))).toBe(156);
  expect(clientLimit(0, limits(64))).toBe(16);
  expect(clientLimit(0, limits('unlimited'))).toBe(Infinity);
  expect(clientLimit(0, '')).toBe(Infinity);
  expect(clientLimit(7, '')).toBe(7);
});
