import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeChoice } from '../../../services/chain/choice.ts';
import { ChainFollower } from '../../../services/chain/follower.ts';
import { workFromBits } from '../../../services/core/bitcoin/target.ts';
import { ChainTailFold } from '../../../services/core/chain-tail.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { SEED } from '../../helpers/seed.ts';
import { type MemoryBlock, MemoryNode } from './memory-node.ts';

const profile = loadChain('regtest');

/** Nodes that share the blocks of a chain of ten, and a clock in seconds. */
function nodes(count: number, tellsWork: boolean) {
  const genesis = new MemoryNode();
  genesis.mine(10);
  const list = Array.from({ length: count }, (_, i) => {
    const node = new MemoryNode({}, `n${i}`);
    node.blocks.clear();
    for (const [hash, block] of genesis.blocks) node.blocks.set(hash, block);
    node.tip = genesis.tip;
    node.tellsWork = tellsWork;
    return node;
  });
  const clock = { s: 1_000 };
  const own = { ...profile, genesis_hash: genesis.at(0).hash };
  const stopping = new AbortController();
  const choice = new NodeChoice(list, own, () => clock.s * 1e6, stopping.signal);
  const order = async (followed = 'n0') => (await choice.order(followed)).map(({ name }) => name);
  return { list, clock, choice, order, stopping, own };
}

describe.each([
  ['that state their work', true],
  ['that do not', false],
])('several nodes %s', (_, tellsWork) => {
  test('the one with most work comes first, of equals the one that was followed', async () => {
    const { list, order } = nodes(3, tellsWork);
    expect(await order('n1')).toEqual(['n1', 'n0', 'n2']);
    list[2]!.mine(1);
    expect((await order('n1'))[0]).toBe('n2');
    // More blocks with less work.
    list[0]!.tip = list[0]!.at(5);
    list[0]!.mine(1, { bits: 0x1f7fffff });
    expect((await order('n2'))[0]).toBe('n0');
    list[1]!.mine(20);
    expect((await order('n0'))[0]).toBe('n0');
  });

  test('one that syncs, is down or on another chain is not chosen, whatever it says', async () => {
    const { list, choice, order } = nodes(3, tellsWork);
    list[0]!.mine(5);
    list[0]!.syncing = true;
    list[1]!.down = new PoolError('node_unreachable', 'node n1: gone');
    expect((await order('n0'))[0]).toBe('n2');
    expect(choice.usable).toBe(1);
    expect(choice.problems).toEqual([
      'node n0 is still syncing, at height 15',
      expect.stringMatching(/^node n1: gone/),
    ]);
    list[0]!.syncing = false;
    expect((await order('n2'))[0]).toBe('n0');
    expect(choice.problems).toHaveLength(1);

    const { list: mixed, choice: picky, order: orderOf } = nodes(2, tellsWork);
    const other = new MemoryNode({ timeS: 1 }, 'n1');
    other.mine(50);
    Object.assign(mixed[1]!, { call: other.call.bind(other) });
    expect(await orderOf('n1')).toEqual(['n0']);
    expect(picky.strangers).toEqual([expect.stringMatching(/^node n1 is not on the chain regtest/)]);
    Object.assign(mixed[0]!, { down: new PoolError('node_unreachable', 'away') });
    expect(await orderOf('n0')).toEqual(['n0']);
  });

  test('one that hangs does not hold up the others', async () => {
    const { list, choice, order } = nodes(2, tellsWork);
    await order();
    Object.assign(list[0]!, { call: () => new Promise(() => {}) });
    list[1]!.mine();
    expect(await order('n0')).toEqual(['n1', 'n0']);
    expect(choice.problems).toEqual([expect.stringMatching(/^node n0 does not answer within/)]);
  });

  test('two branches are told after ten seconds, with the height at which they part, and until they are one again', async () => {
    const { list, clock, choice, order } = nodes(2, tellsWork);
    list[0]!.mine(3);
    await order();
    expect(choice.disagreement).toBeNull();
    list[1]!.mine(2, { timeS: 1_800_000_000 });
    await order();
    clock.s += 9;
    await order();
    expect(choice.disagreement).toBeNull();
    clock.s += 1;
    await order();
    expect(choice.disagreement).toEqual({
      forkHeight: 10,
      sinceUs: 1_000e6,
      line: `nodes are on different branches above height 10: n0 at 13 (${list[0]!.tip.hash}), which has the most work, against n1 at 12 (${list[1]!.tip.hash})`,
    });
    // One that is down has not agreed.
    list[1]!.down = new PoolError('node_unreachable', 'node n1: gone');
    await order();
    expect(choice.disagreement).not.toBeNull();
    list[1]!.down = null;
    for (const [hash, block] of list[0]!.blocks) list[1]!.blocks.set(hash, block);
    list[1]!.tip = list[0]!.at(12);
    await order();
    expect(choice.disagreement).toBeNull();
  });

  test('a node that is only behind disagrees with nobody', async () => {
    const { list, clock, choice, order } = nodes(2, tellsWork);
    list[1]!.tip = list[1]!.at(4);
    await order();
    clock.s += 1_000;
    await order();
    expect(choice.disagreement).toBeNull();
  });
});

test('where every node is on another chain the program is to end', async () => {
  const { list, choice } = nodes(2, true);
  for (const node of list) {
    const other = new MemoryNode({ timeS: 1 }, node.name);
    Object.assign(node, { call: other.call.bind(other) });
  }
  await expect(choice.order('')).rejects.toMatchObject({ code: 'chain_mismatch' });
});

test('the end of the program amid a question to a node that hangs is no error of its own', async () => {
  const { list, order, stopping } = nodes(2, true);
  const { promise, reject } = Promise.withResolvers<never>();
  Object.assign(list[1]!, { call: () => promise });
  expect(await order('n0')).toEqual(['n0', 'n1']);
  stopping.abort(new Error('stopping'));
  reject(stopping.signal.reason);
  // An unhandled rejection would fail the run.
  await expect(order('n0')).rejects.toThrow('stopping');
});

test('whatever three nodes do, the chain that is told is the heaviest of those that answer, and never one with less work than before', async () => {
  console.log(`SEED=${SEED}`);
  const step = fc.record({
    node: fc.nat({ max: 2 }),
    back: fc.nat({ max: 5 }),
    mine: fc.nat({ max: 6 }),
    down: fc.boolean(),
    copies: fc.option(fc.nat({ max: 2 }), { freq: 3 }),
    hard: fc.nat({ max: 9 }),
  });
  const bitsWork = ({ hex }: MemoryBlock): bigint =>
    workFromBits(Buffer.from(hex.slice(144, 152), 'hex').readUInt32LE());
  const workOf = (node: MemoryNode): bigint => {
    let work = 0n;
    for (let block = node.tip; block.height > 0; block = node.blocks.get(block.prev)!) work += bitsWork(block);
    return work;
  };
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(step, { minLength: 1, maxLength: 12 }), async (tellsWork, steps) => {
      const { list, order, own } = nodes(3, tellsWork);
      const told: string[] = [];
      const follower = new ChainFollower({
        ...{ profile: own, fold: new ChainTailFold(own.name, 200), instance: 'chain', ourScript: null, fromHeight: 0 },
        append: (events) => {
          for (const { kind, hash } of events) {
            if (kind === 'connected') told.push(hash);
            else expect(told.pop()).toBe(hash);
          }
        },
        ...{ maxReorg: 150, nowUs: () => 1_800_000_000_000_000, signal: new AbortController().signal },
      });
      let [followed, known, salt] = ['n0', 0n, 1_750_000_000];
      for (const { node: i, back, mine, down, copies, hard } of steps) {
        const node = list[i]!;
        if (copies !== null) {
          const from = list[copies]!;
          for (const [hash, block] of from.blocks) node.blocks.set(hash, block);
          if (workOf(from) > workOf(node)) node.tip = from.tip;
        } else {
          node.tip = node.at(Math.max(0, node.tip.height - back));
          // Sometimes one block that is worth eight.
          salt += 1_000;
          if (hard === 0) node.mine(1, { bits: 0x200fffff, timeS: salt });
          node.mine(mine, { timeS: salt });
        }
        list[(i + 1) % 3]!.down = down ? new PoolError('node_unreachable', 'away') : null;
        for (const name of await order(followed)) {
          const round = await follower.round(list.find((each) => each.name === name)!).catch(() => null);
          if (round?.state !== 'followed') continue;
          followed = name;
          break;
        }
        const works = list.filter((each) => each.down === null).map(workOf);
        const blocks = told.slice(1).map((hash) => list.find((each) => each.blocks.has(hash))!.blocks.get(hash)!);
        const now = blocks.reduce((sum, block) => sum + bitsWork(block), 0n);
        expect(now >= known && works.every((work) => now >= work)).toBe(true);
        known = now;
        for (const each of list) each.down = null;
      }
    }),
    { numRuns: 60, seed: SEED },
  );
});
