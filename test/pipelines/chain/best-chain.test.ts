import { expect, test } from 'vitest';
import {
  bestChain,
  type ChainState,
  evolveChain,
  initialChain,
  isLinked,
} from '../../../pipelines/chain/best-chain.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { block, chainOf, newSeed, numbered, randomFrom } from '../blocks.ts';

function fold(events: readonly BlockEvent[]): ChainState {
  const state = initialChain();
  for (const event of events) evolveChain(state, event);
  return state;
}

function hashes(state: ChainState): (string | undefined)[] {
  const chain = bestChain(state);
  return Array.from({ length: chain.tip + 1 }, (_, height) => chain.at(height)?.hash);
}

/** A walk of connects and disconnects, and the blocks it ends with. */
function walk(seed: number, steps: number): { events: BlockEvent[]; end: BlockEvent[] } {
  const random = randomFrom(seed);
  const stack = chainOf(0, 0);
  const events = [...stack];
  for (let i = 0; i < steps; i++) {
    if (random(4) === 0 && stack.length > 1) events.push({ ...stack.pop()!, kind: 'disconnected' });
    else {
      const height = stack.length;
      const [next] = chainOf(height, height, () => ({ branch: String(random(3)) }), stack.at(-1)!.hash);
      stack.push(next!);
      events.push(next!);
    }
  }
  return { events: numbered(events), end: stack };
}

test('connected, disconnected and connected again is connected', () => {
  const [a, b] = chainOf(0, 1) as [BlockEvent, BlockEvent];
  const state = fold(numbered([a, b, { ...b, kind: 'disconnected' }, b]));
  expect(hashes(state)).toEqual([a.hash, b.hash]);
});

test('the chain is a function of the set of events: copies and any order change nothing', () => {
  const seed = newSeed();
  for (let round = 0; round < 50; round++) {
    const { events, end } = walk(seed + round, 60);
    const expected = end.map((block) => block.hash);
    expect(hashes(fold(events))).toEqual(expected);
    const random = randomFrom(seed + round);
    const shuffled = [...events, ...events].sort(() => random(3) - 1);
    expect(hashes(fold(shuffled))).toEqual(expected);
    expect(isLinked(bestChain(fold(shuffled)), 0, expected.length - 1)).toBe(true);
  }
});

test('after a hole the blocks above it are linked, and those across it are not', () => {
  const blocks = numbered(chainOf(0, 20));
  const chain = bestChain(fold(blocks.filter(({ height }) => height !== 10)));
  expect(chain.tip).toBe(20);
  expect(chain.base).toBe(11);
  expect(isLinked(chain, 11, 20)).toBe(true);
  expect(isLinked(chain, 2, 9)).toBe(true);
  expect(isLinked(chain, 9, 12)).toBe(false);
  const parted = bestChain(fold([...blocks, ...numbered(chainOf(21, 22), 30)]));
  expect(isLinked(parted, 20, 21)).toBe(false);
});

test('the follower that saw the greatest height decides', () => {
  const blocks = numbered(chainOf(0, 5));
  const other = numbered(chainOf(0, 6, () => ({ branch: 'b' }))).map((event) => ({ ...event, follower: 'another' }));
  expect(hashes(fold([...blocks, ...other.slice(0, 6)]))).toEqual(blocks.map(({ hash }) => hash));
  expect(hashes(fold([...other, ...blocks]))).toEqual(other.map(({ hash }) => hash));
});

test('a block that is taken back and does not stand there changes nothing', () => {
  const state = initialChain();
  const blocks = chainOf(0, 5);
  const stranger = block({ height: 4, prev: blocks[3]!.hash, branch: 'other' });
  const events = numbered([...blocks, { ...stranger, kind: 'disconnected' }]);
  for (const event of events) evolveChain(state, event);
  const chain = bestChain(state);
  expect(chain.tip).toBe(5);
  expect(chain.at(4)?.hash).toBe(blocks[4]!.hash);
});
