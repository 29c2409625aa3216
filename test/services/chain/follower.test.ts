import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { ChainFollower, type FollowerOptions, firstHeight, medianTime } from '../../../services/chain/follower.ts';
import { hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { ChainTailFold } from '../../../services/core/chain-tail.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { MemoryNode } from './memory-node.ts';

const profile = loadChain('regtest');
const OURS = Uint8Array.of(0x00, 0x14, ...new Uint8Array(20).fill(7));
const decode = decoderFor('block');

/** A follower over a log in memory; a new one over the same log is a restart. */
function follow(log: BlockEvent[], more: Partial<FollowerOptions> = {}) {
  const fold = new ChainTailFold(profile.name, 112);
  for (const event of log) fold.evolve(event);
  return new ChainFollower({
    profile,
    fold,
    append: (events) => log.push(...events.map((event) => decode(encodeEvent('block', event)))),
    instance: 'chain',
    ourScript: hexFromBytes(OURS),
    fromHeight: null,
    maxReorg: 100,
    nowUs: () => 1_800_000_000_000_000,
    signal: new AbortController().signal,
    ...more,
  });
}

/** The chain that a log tells: hashes by height, checked link by link. */
function told(log: readonly BlockEvent[]): string[] {
  const chain: BlockEvent[] = [];
  let seq = 0;
  for (const event of log) {
    expect(event.chain_seq).toBeGreaterThan(seq);
    seq = event.chain_seq;
    if (event.kind === 'connected') {
      if (chain.length > 0) expect(event.prev_hash).toBe(chain.at(-1)!.hash);
      chain.push(event);
    } else if (event.kind === 'disconnected') {
      expect(chain.pop()?.hash).toBe(event.hash);
    }
  }
  return chain.map((event) => event.hash);
}

const bestChain = (node: MemoryNode): string[] =>
  Array.from({ length: node.tip.height + 1 }, (_, height) => node.at(height).hash);
const story = (log: readonly BlockEvent[]): string[] => log.map((event) => `${event.kind} ${event.height}`);

describe('following', () => {
  test('a small chain is told from block 0, then block by block', async () => {
    const node = new MemoryNode();
    node.mine(20);
    const log: BlockEvent[] = [];
    const follower = follow(log);
    expect(await follower.round(node)).toMatchObject({ state: 'followed', connected: 21, disconnected: 0 });
    node.mine();
    expect(await follower.round(node)).toMatchObject({ connected: 1 });
    expect(await follower.round(node)).toMatchObject({ connected: 0 });
    expect(told(log)).toEqual(bestChain(node));
  });

  test('subsidy, fees and coinbase are read from the block, beyond 2^53 too', async () => {
    const node = new MemoryNode();
    node.mine(1, {
      outputs: [
        { script: Uint8Array.of(0x51), valueSats: 2n ** 60n },
        { script: Uint8Array.of(0x6a), valueSats: 0n },
      ],
    });
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    expect(log[1]).toMatchObject({
      subsidy_sats: '5000000000',
      fees_sats: String(2n ** 60n - 5_000_000_000n),
      coinbase_value_sats: String(2n ** 60n),
      coinbase_outputs: [
        { script: '51', value_sats: String(2n ** 60n) },
        { script: '6a', value_sats: '0' },
      ],
      tx_count: 1,
      version: '20000000',
      nbits: '207fffff',
      ours: false,
    });
    expect(log[1]!.size_bytes).toBe(node.tip.hex.length / 2);
  });

  test('a miner that claims less than the subsidy has no negative fees', async () => {
    const node = new MemoryNode();
    node.mine(1, { outputs: [{ script: Uint8Array.of(0x51), valueSats: 1n }] });
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    expect(log[1]).toMatchObject({ fees_sats: '0', coinbase_value_sats: '1' });
  });

  test('the median time past is that of the eleven blocks that end with this one, also at the first block read', async () => {
    const node = new MemoryNode();
    // Times go back and forth, as on real chains.
    for (let i = 1; i <= 40; i++) node.mine(1, { timeS: 1_700_000_000 + i * 600 + (i % 3) * 1_000 - (i % 5) * 700 });
    const times = bestChain(node).map((hash) => Buffer.from(node.blocks.get(hash)!.hex, 'hex').readUInt32LE(68));
    const expected = (height: number) => medianTime(times.slice(Math.max(0, height - 10), height + 1)) * 1e6;
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    for (const event of log) expect(event.median_time_us).toBe(expected(event.height));
    for (const fromHeight of [1, 5, 30]) {
      const late: BlockEvent[] = [];
      await follow(late, { fromHeight }).round(node);
      expect(late.map((event) => event.median_time_us)).toEqual(late.map((event) => expected(event.height)));
      // A restart with fewer than eleven blocks in the log reads the rest again.
      node.mine();
      times.push(Buffer.from(node.tip.hex, 'hex').readUInt32LE(68));
      await follow(late.splice(0), { fromHeight: node.tip.height - 2 }).round(node);
      await follow(late, { fromHeight: node.tip.height - 2 }).round(node);
      node.mine();
      times.push(Buffer.from(node.tip.hex, 'hex').readUInt32LE(68));
      await follow(late).round(node);
      expect(late.at(-1)!.median_time_us).toBe(expected(node.tip.height));
    }
  });

  test('the first height leaves one whole epoch and the block before it', () => {
    expect(firstHeight({ payout_blocks: 2016 }, 4_999)).toBe(0);
    expect(firstHeight({ payout_blocks: 2016 }, 5_000)).toBe(2016 - 1);
    expect(firstHeight({ payout_blocks: 2016 }, 840_000)).toBe(415 * 2016 - 1);
    expect(firstHeight({ payout_blocks: 10_000 }, 6_000)).toBe(0);
  });

  test('a first height above the tip is waited for and said', async () => {
    const node = new MemoryNode();
    const log: BlockEvent[] = [];
    const follower = follow(log, { fromHeight: 3 });
    expect(await follower.round(node)).toMatchObject({ state: 'early', problem: expect.stringContaining('3') });
    node.mine(3);
    await follower.round(node);
    expect(story(log)).toEqual(['connected 3']);
  });
});

describe('reorganisations', () => {
  test('a heavier branch takes blocks back from the top down and connects its own', async () => {
    const node = new MemoryNode();
    node.mine(10);
    const log: BlockEvent[] = [];
    const follower = follow(log);
    await follower.round(node);
    node.tip = node.at(7);
    node.mine(4);
    expect(await follower.round(node)).toMatchObject({ disconnected: 3, connected: 4 });
    expect(story(log).slice(11)).toEqual([
      'disconnected 10',
      'disconnected 9',
      'disconnected 8',
      'connected 8',
      'connected 9',
      'connected 10',
      'connected 11',
    ]);
    expect(told(log)).toEqual(bestChain(node));
  });

  test('the same block may connect, disconnect and connect again', async () => {
    const node = new MemoryNode();
    const a = node.mine(3);
    const log: BlockEvent[] = [];
    const follower = follow(log);
    await follower.round(node);
    node.tip = node.at(2);
    node.mine(2);
    await follower.round(node);
    node.tip = a;
    node.mine(2);
    await follower.round(node);
    expect(log.filter((event) => event.hash === a.hash).map((event) => event.kind)).toEqual([
      'connected',
      'disconnected',
      'connected',
    ]);
    expect(told(log)).toEqual(bestChain(node));
  });

  test('fewer blocks with more work win, more blocks with less work do not', async () => {
    const node = new MemoryNode();
    node.mine(10);
    const light = node.tip;
    const log: BlockEvent[] = [];
    const follower = follow(log);
    await follower.round(node);
    node.tip = node.at(5);
    // 0x1f7fffff is 256 times harder.
    node.mine(1, { bits: 0x1f7fffff });
    expect(await follower.round(node)).toMatchObject({ disconnected: 5, connected: 1 });
    const heavy = node.tip;
    node.tip = light;
    node.mine(20);
    expect(await follower.round(node)).toMatchObject({ state: 'behind' });
    expect(follower.tip?.hash).toBe(heavy.hash);
  });

  test('a node that is behind what is known is waited for, and nothing is taken back', async () => {
    const node = new MemoryNode();
    const tip = node.mine(10);
    const log: BlockEvent[] = [];
    const follower = follow(log);
    await follower.round(node);
    node.tip = node.at(6);
    const round = await follower.round(node);
    expect(round).toMatchObject({ state: 'behind', nodeHeight: 6 });
    expect(log).toHaveLength(11);
    node.tip = tip;
    node.mine();
    expect(await follower.round(node)).toMatchObject({ state: 'followed', connected: 1, disconnected: 0 });
  });

  test('a node that is still syncing is not followed', async () => {
    const node = new MemoryNode();
    node.mine(3);
    node.syncing = true;
    const log: BlockEvent[] = [];
    expect(await follow(log).round(node)).toMatchObject({
      state: 'syncing',
      problem: expect.stringContaining('syncing'),
    });
    expect(log).toEqual([]);
  });

  test('past max_reorg it stops and asks, and goes on when the node returns', async () => {
    const node = new MemoryNode();
    const tip = node.mine(20);
    const log: BlockEvent[] = [];
    const follower = follow(log, { maxReorg: 5 });
    await follower.round(node);
    node.tip = node.at(14);
    node.mine(10);
    expect(await follower.round(node)).toMatchObject({
      state: 'too_deep',
      problem: expect.stringContaining('max_reorg'),
    });
    expect(log).toHaveLength(21);
    node.tip = tip;
    node.mine();
    expect(await follower.round(node)).toMatchObject({ state: 'followed', connected: 1 });
    // Exactly as deep as allowed is followed.
    node.tip = node.at(16);
    node.mine(6);
    expect(await follower.round(node)).toMatchObject({ disconnected: 5, connected: 6 });
  });

  test('a block that is not the one asked for is an error of the node, and nothing is told of it', async () => {
    const node = new MemoryNode();
    node.mine(3);
    const wrong = node.at(3);
    node.blocks.set(wrong.hash, { ...wrong, hex: node.at(2).hex });
    const log: BlockEvent[] = [];
    await expect(follow(log).round(node)).rejects.toMatchObject({ code: 'node_answer' });
    expect(story(log)).toEqual(['connected 0', 'connected 1', 'connected 2']);
  });

  test('a block without the work that its bits ask for is no block, nor is one easier than the chain allows', async () => {
    const node = new MemoryNode();
    node.mine(3);
    const log: BlockEvent[] = [];
    // The same bytes, and a chain whose easiest block is 256 times harder.
    const strict = { ...profile, pow_limit: profile.pow_limit >> 8n };
    await expect(follow(log, { profile: strict }).round(node)).rejects.toMatchObject({
      code: 'node_answer',
      message: expect.stringContaining('lacks the work that its bits ask for'),
    });
    const forged = { ...node.tip, ...node.forge(node.at(3), 0x1d00ffff) };
    node.blocks.set(forged.hash, forged);
    node.tip = forged;
    await expect(follow(log).round(node)).rejects.toMatchObject({ code: 'node_answer' });
    expect(story(log)).toEqual(['connected 0', 'connected 1', 'connected 2', 'connected 3']);
  });

  test('a block that came with another coinbase, or cut, is not taken: fees and owner are read from it', async () => {
    const node = new MemoryNode();
    node.mine(2);
    const { hash, hex } = node.tip;
    const richer = hex.replace(
      50_0000_0000n.toString(16).padStart(16, '0').replace(/../g, '$& ').trim().split(' ').reverse().join(''),
      `${'ff'.repeat(7)}00`,
    );
    expect(richer).not.toBe(hex);
    for (const lie of [richer, hex.slice(0, -2)]) {
      node.blocks.set(hash, { ...node.tip, hex: lie });
      const log: BlockEvent[] = [];
      await expect(follow(log).round(node)).rejects.toMatchObject({ code: 'node_answer' });
      expect(story(log)).toEqual(['connected 0', 'connected 1']);
    }
  });

  test('a pruned node is told as one, with what to do', async () => {
    const node = new MemoryNode();
    node.mine(3);
    const words = 'Block not available (pruned data)';
    const pruned = {
      ...{ name: 'memory', close: () => {} },
      call: async <T>(method: string, params?: readonly unknown[]): Promise<T> => {
        if (method === 'getblock') {
          throw new PoolError('node_refused', words, { facts: { rpcCode: -1, rpcMessage: words } });
        }
        return node.call<T>(method, params);
      },
    };
    const log: BlockEvent[] = [];
    await expect(follow(log).round(pruned)).rejects.toMatchObject({
      code: 'node_refused',
      message: expect.stringMatching(/^node memory is pruned and no longer has block [0-9a-f]{64}.*follow_from_height/),
    });
    expect(log).toEqual([]);
  });
});

describe('our own blocks', () => {
  const ours = { outputs: [{ script: OURS, valueSats: 50_0000_0000n }] };

  test("a block is ours when its coinbase pays our address, and confirmed at the profile's depth", async () => {
    const node = new MemoryNode();
    const own = node.mine(1, ours);
    const log: BlockEvent[] = [];
    const follower = follow(log);
    node.mine(profile.confirmations - 2);
    await follower.round(node);
    expect(log.filter((event) => event.kind === 'confirmed')).toEqual([]);
    expect(follower.ownPending).toBe(1);
    node.mine();
    await follower.round(node);
    expect(log.at(-1)).toMatchObject({
      kind: 'confirmed',
      hash: own.hash,
      height: 1,
      confirmations: profile.confirmations,
      ours: true,
      coinbase_value_sats: '5000000000',
    });
    expect(follower.ownPending).toBe(0);
    node.mine(3);
    await follower.round(node);
    expect(log.filter((event) => event.kind === 'confirmed')).toHaveLength(1);
  });

  test('an output of value 0 to our address makes no block ours', async () => {
    const node = new MemoryNode();
    node.mine(1, { outputs: [{ script: OURS, valueSats: 0n }] });
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    expect(log.some((event) => event.ours)).toBe(false);
  });

  test('one that is taken back is orphaned once another chain has grown as deep, also after a restart', async () => {
    const node = new MemoryNode();
    const own = node.mine(1, ours);
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    node.tip = node.at(0);
    node.mine(profile.confirmations - 1);
    if (profile.confirmations < 3) node.mine(1);
    await follow(log).round(node);
    node.mine(profile.confirmations);
    await follow(log).round(node);
    const kinds = log.filter((event) => event.hash === own.hash).map((event) => event.kind);
    expect(kinds).toEqual(['connected', 'disconnected', 'orphaned']);
  });

  test('a follower that died between a block and its confirmation says it at the next start', async () => {
    const node = new MemoryNode();
    node.mine(1, ours);
    node.mine(profile.confirmations - 1);
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    expect(log.at(-1)?.kind).toBe('confirmed');
    log.pop();
    await follow(log).round(node);
    expect(log.filter((event) => event.kind === 'confirmed')).toHaveLength(1);
  });
});

describe('a position from its own output', () => {
  test('a follower killed between any two events tells the same chain as one that was not', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({ back: fc.nat({ max: 4 }), mine: fc.integer({ min: 1, max: 7 }), cut: fc.nat({ max: 12 }) }),
          {
            minLength: 1,
            maxLength: 8,
          },
        ),
        async (steps) => {
          const node = new MemoryNode();
          node.mine(12);
          const log: BlockEvent[] = [];
          await follow(log).round(node);
          for (const { back, mine, cut } of steps) {
            node.tip = node.at(Math.max(0, node.tip.height - back));
            node.mine(back + mine);
            const before = log.length;
            // Dies when `cut` events of this round are written.
            const dying = follow(log, {
              append: (events) => {
                if (log.length - before >= cut) throw new PoolError('disk', 'killed');
                log.push(...events.map((event) => decode(encodeEvent('block', event))));
              },
            });
            await dying.round(node).catch((error: unknown) => expect(error).toMatchObject({ code: 'disk' }));
            await follow(log).round(node);
            expect(told(log)).toEqual(bestChain(node));
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  test('a lost log never gives a number again', async () => {
    const node = new MemoryNode();
    node.mine(30);
    const log: BlockEvent[] = [];
    await follow(log, { nowUs: () => 1_000_000_000_000_000 }).round(node);
    const last = log.at(-1)!.chain_seq;
    const fresh: BlockEvent[] = [];
    await follow(fresh, { nowUs: () => 1_000_000_001_000_000 }).round(node);
    expect(fresh[0]!.chain_seq).toBeGreaterThan(last);
  });

  test('another chain in the same log is not taken for this one, and numbers rise over both', async () => {
    const node = new MemoryNode();
    node.mine(3);
    const log: BlockEvent[] = [];
    await follow(log).round(node);
    const other = log.map((event) => ({ ...event, chain: 'bitcoin' }));
    const last = other.at(-1)!.chain_seq;
    await follow(other).round(node);
    expect(other.slice(4).map((event) => event.chain_seq)).toEqual([last + 1, last + 2, last + 3, last + 4]);
  });
});
