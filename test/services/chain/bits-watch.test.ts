/** nBits of the followed chain against the profile's rule: what differs is a problem, and is followed all the same. */
import { expect, test } from 'vitest';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { ChainFollower } from '../../../services/chain/follower.ts';
import { bitsFromTarget, targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { ChainTailFold } from '../../../services/core/chain-tail.ts';
import { type ChainProfile, loadChain, type RetargetRule } from '../../../services/core/chains/profile.ts';
import { expectedBits } from '../../../services/core/chains/retarget.ts';
import { checkLastRetarget } from '../../../services/core/node/last-retarget.ts';
import { type MemoryBlock, MemoryNode } from './memory-node.ts';

const LIMIT = 0x207fffff;
const START_S = 1_700_000_000;
const decode = decoderFor('block');

function profileOf(rule: RetargetRule, more: Partial<ChainProfile['retarget']> = {}): ChainProfile {
  const retarget = { rule, interval: 4, ...more };
  return { ...loadChain('regtest'), name: 'small', retarget, payout_blocks: 4, genesis_hash: null };
}

const bitsOf = (block: MemoryBlock): number => Buffer.from(block.hex.slice(144, 152), 'hex').readUInt32LE();
const timeOf = (block: MemoryBlock): number => Buffer.from(block.hex.slice(136, 144), 'hex').readUInt32LE();

/** Extends the best chain by a block, with the nBits that the rule gives unless others are named. */
function mine(node: MemoryNode, profile: ChainProfile, afterS: number, bits?: number): MemoryBlock {
  const timeS = timeOf(node.tip) + afterS;
  const at = (height: number) =>
    height < 0 ? undefined : { bits: bitsOf(node.at(height)), timeS: timeOf(node.at(height)) };
  return node.mine(1, { timeS, bits: bits ?? expectedBits(profile, node.tip.height + 1, timeS, at) ?? LIMIT });
}

function follow(profile: ChainProfile, log: BlockEvent[] = [], keep = 112, fromHeight: number | null = null) {
  const fold = new ChainTailFold(profile.name, keep);
  for (const event of log) fold.evolve(event);
  const follower = new ChainFollower({
    ...{ profile, fold, instance: 'chain', ourScript: null, fromHeight, maxReorg: 100 },
    append: (events) => void log.push(...events.map((event) => decode(encodeEvent('block', event)))),
    ...{ nowUs: () => 1_800_000_000_000_000, signal: new AbortController().signal },
  });
  return { follower, log };
}

const harder = (bits: number): number => bitsFromTarget(targetFromBits(bits) / 2n);

test.each(['bitcoin', 'litecoin', 'bip94'] as const)(
  'a chain that follows the rule %s has no problem',
  async (rule) => {
    const profile = profileOf(rule);
    const node = new MemoryNode({ timeS: START_S });
    const { follower } = follow(profile);
    const seen = new Set<number>();
    for (let i = 0; i < 26; i++) {
      seen.add(bitsOf(mine(node, profile, [300, 900, 200, 1500, 620][i % 5]!)));
      if (i % 3 === 0) await follower.round(node);
      expect(follower.bitsProblem).toBeNull();
    }
    expect(seen.size).toBeGreaterThan(2);
  },
);

test('a retarget that is not as predicted is a problem until the next that is; its blocks are told all the same', async () => {
  const profile = profileOf('bitcoin');
  const node = new MemoryNode({ timeS: START_S });
  const { follower, log } = follow(profile);
  for (let i = 0; i < 7; i++) mine(node, profile, 400);
  await follower.round(node);
  const right = mine(node, profile, 400);
  const wrong = bitsFromTarget(targetFromBits(bitsOf(right)) / 4n);
  node.tip = node.at(7);
  mine(node, profile, 400, wrong);
  await follower.round(node);
  expect(follower.bitsProblem).toMatch(
    /^block 8 has nBits [0-9a-f]{8}, the profile small \(retarget rule bitcoin\) gives [0-9a-f]{8}$/,
  );
  expect(log.at(-1)).toMatchObject({ kind: 'connected', height: 8 });
  for (let i = 0; i < 3; i++) mine(node, profile, 400);
  await follower.round(node);
  expect(follower.bitsProblem).toContain('block 8 has nBits');
  // Another follower over the same log, as after a restart; one that begins above; and doctor, who has neither.
  for (const again of [follow(profile, [...log]), follow(profile, [], 112, 10)]) {
    await again.follower.round(node);
    expect(again.follower.bitsProblem).toContain('block 8 has nBits');
  }
  expect(await checkLastRetarget(node, profile, 11)).toBe(follower.bitsProblem);
  expect(await checkLastRetarget(node, profile, 7)).toBeNull();
  mine(node, profile, 400);
  await follower.round(node);
  expect(log.at(-1)).toMatchObject({ height: node.tip.height });
  expect(follower.bitsProblem).toBeNull();
});

test('nBits that change between retargets are a problem, until their block leaves the chain', async () => {
  const profile = profileOf('bitcoin');
  const node = new MemoryNode({ timeS: START_S });
  const { follower, log } = follow(profile);
  for (let i = 0; i < 4; i++) mine(node, profile, 600);
  await follower.round(node);
  const fork = node.tip;
  mine(node, profile, 600, harder(bitsOf(fork)));
  await follower.round(node);
  expect(follower.bitsProblem).toContain('block 5 has nBits');
  // More work, and no retarget among them that would end the problem by itself.
  node.tip = fork;
  for (let i = 0; i < 3; i++) mine(node, profile, 600);
  await follower.round(node);
  expect(log.map(({ kind }) => kind)).toContain('disconnected');
  expect(log.at(-1)).toMatchObject({ kind: 'connected', height: 7 });
  expect(follower.bitsProblem).toBeNull();
});

test('of a long way caught up at once the latest retarget is looked at, though its blocks are no longer at hand', async () => {
  const profile = { ...profileOf('bitcoin', { interval: 40 }), payout_blocks: 40 };
  const node = new MemoryNode({ timeS: START_S });
  const { follower } = follow(profile, [], 4);
  for (let i = 0; i < 10; i++) mine(node, profile, 600);
  await follower.round(node);
  for (let i = 0; i < 69; i++) mine(node, profile, 600);
  mine(node, profile, 600, harder(LIMIT));
  for (let i = 0; i < 30; i++) mine(node, profile, 600);
  await follower.round(node);
  expect(follower.bitsProblem).toContain('block 80 has nBits');
});

test('an algorithm that is only read is never a problem; a node that does not answer for old headers is none either', async () => {
  const header = profileOf('header');
  const node = new MemoryNode({ timeS: START_S });
  for (let i = 0; i < 9; i++) node.mine(1, { bits: i % 2 === 0 ? LIMIT : harder(LIMIT) });
  const { follower } = follow(header);
  await follower.round(node);
  expect(follower.bitsProblem).toBeNull();
  expect(await checkLastRetarget(node, header, 9)).toBeNull();

  const profile = profileOf('bitcoin');
  const call = node.call.bind(node);
  node.call = async <T>(method: string, params: readonly unknown[] = []): Promise<T> => {
    if (method === 'getblockheader') return 'ff' as T;
    return call(method, params);
  };
  const other = follow(profile);
  expect(await other.follower.round(node)).toMatchObject({ state: 'followed', connected: 10 });
  expect(other.follower.bitsProblem).toBeNull();
});

test('a testnet: a block twenty minutes late may be one of the limit, and must be where it is', async () => {
  const profile = profileOf('bip94', { interval: 8, min_difficulty_after_s: 1200 });
  const node = new MemoryNode({ timeS: START_S });
  const { follower } = follow({ ...profile, payout_blocks: 8 });
  for (let i = 0; i < 8; i++) mine(node, profile, 150);
  const real = bitsOf(node.tip);
  expect(real).not.toBe(LIMIT);
  expect(bitsOf(mine(node, profile, 1201))).toBe(LIMIT);
  expect(bitsOf(mine(node, profile, 1200))).toBe(real);
  await follower.round(node);
  expect(follower.bitsProblem).toBeNull();
  mine(node, profile, 1200, LIMIT);
  await follower.round(node);
  expect(follower.bitsProblem).toContain(`block 11 has nBits 207fffff`);
});
