import { expect, test } from 'vitest';
import { targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import { difficultyOf, difficultyRatio } from '../../../../services/core/chains/difficulty.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';

const bitcoin = loadChain('bitcoin');

test('difficulty is the ratio of the difficulty-1 target and the target, exactly', () => {
  const { numerator, denominator } = difficultyRatio(bitcoin, 0x1b04864c);
  expect(numerator).toBe(bitcoin.difficulty_1_target);
  expect(denominator).toBe(targetFromBits(0x1b04864c));
});

test('as a double it is the node’s', () => {
  expect(difficultyOf(bitcoin, 0x1d00ffff)).toBe(1);
  expect(Number(difficultyOf(bitcoin, 0x1b04864c).toPrecision(16))).toBe(14484.1623612254);
});

test('bits without a target have none', () => {
  expect(() => difficultyRatio(bitcoin, 0)).toThrow('target 0 has no difficulty');
  expect(() => difficultyOf(bitcoin, 0x1d80ffff)).toThrow('negative');
});
