import { expect, test } from 'vitest';
import { passwordDifficulty } from '../../../../services/stratum/methods/authorize.ts';

test('a password asks for a difficulty alone or among other things, and nothing else does', () => {
  expect(passwordDifficulty('d=500')).toBe(500);
  expect(passwordDifficulty('c=BTC,diff=0.5')).toBe(0.5);
  for (const other of ['x', 'd=', 'd=0', 'd=-1', 'd=nan', 'd=1e999', 'bad=5', 5, null]) {
    expect(passwordDifficulty(other)).toBeNull();
  }
});

test('a password of 8 KiB of digits takes no time', () => {
  const began = process.cpuUsage();
  for (let i = 0; i < 100; i++) expect(passwordDifficulty(`d=${'1'.repeat(8_000)}x`)).toBeNull();
  expect(process.cpuUsage(began).user).toBeLessThan(1_000_000);
});
