import { describe, expect, test } from 'vitest';
import { NodeChoice } from '../../../services/chain/choice.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { MemoryNode } from './memory-node.ts';

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
  return { list, clock, choice, order, stopping };
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
