import { expect, test } from 'vitest';
import type { Derivation } from '../../../pipelines/derivations/derivations.ts';
import { evolve, initial } from '../../../pipelines/derived.ts';
import { Derivations } from '../../../services/consumers/derivations.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import type { EventLog } from '../../../services/core/log/event-log.ts';
import { chainOf, numbered, START_S } from '../../pipelines/blocks.ts';

const playground = loadChain('playground');
const signal = new AbortController().signal;
/** A log that says nothing yet. */
const EMPTY = { partitions: async () => [] } as unknown as EventLog;

function publisher(profileOf = () => playground) {
  const said: string[] = [];
  const log: Derivation[] = [];
  let refuse: Error | null = null;
  const derivations = new Derivations({
    log: EMPTY,
    append: async (entries) => {
      if (refuse !== null) throw refuse;
      log.push(...entries);
    },
    profileOf,
    say: (line) => said.push(line),
  });
  const state = initial();
  const feed = (blocks: ReturnType<typeof numbered>): void => {
    for (const event of blocks) {
      const change = evolve(state, { topic: 'block', event });
      if (change !== null) derivations.note(change.chain, change.touched);
    }
  };
  return { said, log, derivations, state, feed, refuse: (error: Error | null) => (refuse = error) };
}

test('an epoch that closes with other nBits than the rule gives is said once, and counted', async () => {
  const world = publisher();
  // 4 s a block where 5 s are meant, and the difficulty stays.
  world.feed(numbered(chainOf(0, 30, (height) => ({ timeS: START_S + 4 * height }))));
  await world.derivations.step(world.state, signal);
  expect(world.said).toEqual([
    expect.stringMatching(
      /^epoch 0 of playground: block 24 has nBits 1d00ffff, the profile's retarget rule gives 1d00c443$/,
    ),
  ]);
  expect(world.derivations.nbitsAlarms).toBe(1);
  world.feed(
    numbered(
      chainOf(
        31,
        33,
        (height) => ({ timeS: START_S + 4 * height }),
        chainOf(0, 30, (height) => ({ timeS: START_S + 4 * height })).at(-1)!.hash,
      ),
      32,
    ),
  );
  expect(await world.derivations.step(world.state, signal)).toBe(3);
  expect(world.derivations.nbitsAlarms).toBe(1);
});

test('what a log refuses is appended by the next step; nothing is appended where another does this now', async () => {
  const world = publisher();
  world.feed(numbered(chainOf(0, 10)));
  world.refuse(new Error('the disk is full'));
  await expect(world.derivations.step(world.state, signal)).rejects.toThrow('the disk is full');
  world.refuse(null);
  expect(await world.derivations.step(world.state, signal, () => false)).toBe(0);
  expect(await world.derivations.step(world.state, signal)).toBe(10);
  expect(await world.derivations.step(world.state, signal)).toBe(0);
  expect(world.log).toHaveLength(10);
});

test('a chain whose profile is not known here does not hold up the others', async () => {
  const other = publisher(((name: string) => {
    if (name !== 'playground') throw new Error(`no profile ${name}`);
    return playground;
  }) as () => typeof playground);
  other.feed(numbered(chainOf(0, 3, () => ({ chain: 'unknown' }))));
  other.feed(numbered(chainOf(0, 3)));
  await expect(other.derivations.step(other.state, signal)).rejects.toThrow('no profile unknown');
  expect(other.log.map(({ event }) => event.chain)).toEqual(['playground', 'playground', 'playground']);
});
