/** The thread of templates on the toy chain: the same interface, other thread. */
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { createNodeRpc, type NodeRpc } from '../../../../services/core/node/rpc.ts';
import { readTail } from '../../../../services/core/node/template-store.ts';
import {
  followTemplatesInThread,
  type ThreadedFollower,
  type ThreadOptions,
} from '../../../../services/core/node/template-thread.ts';
import type { TemplateUpdate } from '../../../../services/core/node/templates.ts';
import { type RunningToyChain, startToyChain } from '../../../../services/playground/main.ts';
import { crowding, freePort, tempDir, until } from '../../../helpers/leash.ts';
import { buildBlock, easyProfile, grow, nextParts } from '../../playground/easy-chain.ts';

const profile = easyProfile();
const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function folder(): string {
  const dir = tempDir('template-thread');
  ends.push(() => dir.remove());
  return dir.path;
}

async function startNode(of: { port?: number; traffic?: number } = {}): Promise<RunningToyChain> {
  const toy = await startToyChain({
    dir: folder(),
    rpcPort: of.port ?? 0,
    zmqPort: 0,
    user: 'u',
    pass: 'p',
    profile,
    trafficPerSecond: of.traffic ?? 0,
    longPollQuietMs: 50,
  });
  ends.push(() => toy.close());
  return toy;
}

function rpcOf(url: string): NodeRpc {
  const rpc = createNodeRpc({ url, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());
  return rpc;
}

function follow(
  urls: readonly string[],
  of: Partial<ThreadOptions> = {},
): { follower: ThreadedFollower; updates: TemplateUpdate[]; lines: string[]; dir: string; rpcs: NodeRpc[] } {
  const updates: TemplateUpdate[] = [];
  const lines: string[] = [];
  const dir = join(folder(), 'templates');
  const rpcs = urls.map(rpcOf);
  const follower = followTemplatesInThread({
    nodes: urls.map((url, i) => ({ rpc: rpcs[i]!, url, user: 'u', pass: 'p', notify: false })),
    profile,
    updateIntervalMs: 60_000,
    blockPollMs: 20,
    zmqBlock: null,
    retryMs: 50,
    dir,
    log: (line) => lines.push(line),
    ...of,
  });
  follower.on('template', (update) => updates.push(update));
  ends.push(() => follower.close());
  return { follower, updates, lines, dir, rpcs };
}

describe('a follower in a thread of its own', () => {
  it('tells of new blocks, renews when asked, and says which node it is on', async () => {
    const toy = await startNode();
    const { follower, updates, lines, rpcs } = follow([toy.rpcUrl], { zmqBlock: toy.zmqUrl });
    expect(follower.problem()).toBe('no node has answered yet');
    await until('a first template', () => updates.length === 1);
    expect(updates[0]).toMatchObject({ trigger: 'start', newBlock: true, template: { height: 1, txCount: 0 } });
    expect(follower.current()).toBe(updates[0]);
    expect(follower.problem()).toBeNull();
    expect(follower.nodeStates()).toEqual([{ node: rpcs[0]!.name, state: 'ready', problem: null, active: true }]);
    grow(toy.chain, 1);
    await until('the next block', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ newBlock: true, template: { height: 2, target: updates[0]!.template.target } });
    follower.refresh();
    await until('the same again', () => updates.length === 3);
    expect(updates[2]).toMatchObject({ newBlock: false, trigger: 'asked' });
    expect(lines.filter((line) => line.startsWith('Connected to bitcoind'))).toHaveLength(1);
  });

  it('gives the bytes of the transactions by the key of the template, from memory and from the disk', async () => {
    const toy = await startNode({ traffic: 200 });
    await rpcOf(toy.rpcUrl).call('generatetoaddress', [profile.coinbase_maturity + 5, toy.fundingAddress]);
    const { follower, updates, dir } = follow([toy.rpcUrl], { updateIntervalMs: 50 });
    const update = await until('a template with transactions', () =>
      updates.find(({ template }) => template.txCount > 2),
    );
    const { tailKey, txCount, tailSizeBytes } = update.template;
    const tail = follower.tail(tailKey, txCount)!;
    expect(tail).toHaveLength(tailSizeBytes);
    await until('its file', () => readTail(dir, tailKey) !== null);
    expect(hexFromBytes(readTail(dir, tailKey)!.tail)).toBe(hexFromBytes(tail));
    const later = updates.length;
    await until('other templates', () => new Set(updates.slice(later).map((each) => each.template.tailKey)).size > 4);
    expect(hexFromBytes(follower.tail(tailKey, txCount)!)).toBe(hexFromBytes(tail));
    await until('memory holds two', () => {
      const sizes = new Map(updates.map(({ template }) => [template.tailKey, template.tailSizeBytes]));
      const newest = [...new Set(updates.map(({ template }) => template.tailKey).reverse())].slice(0, 4);
      return follower.tailBytes <= newest.reduce((sum, key) => sum + sizes.get(key)!, 0);
    });
    expect(readdirSync(dir).some((name) => name.endsWith('.bin'))).toBe(true);
  });

  it('goes to the second node when the first fails, and sends blocks to both from here', async () => {
    const toys = [await startNode(), await startNode()];
    const { follower, updates, rpcs } = follow(toys.map(({ rpcUrl }) => rpcUrl));
    await until('the first is used', () => follower.nodeStates()[0]!.active);
    const built = buildBlock(toys[0]!.chain, nextParts(toys[0]!.chain));
    const answers = await follower.submitBlock(hexFromBytes(built.bytes));
    expect(answers.map(({ answer }) => answer)).toEqual(['accepted', 'accepted']);
    await until('the block', () => updates.at(-1)?.template.height === 2);
    await toys[0]!.close();
    await until('the second is used', () => updates.at(-1)?.node === rpcs[1]!.name);
    expect(updates.at(-1)).toMatchObject({ trigger: 'failover', newBlock: false });
  });

  it('waits for a node that is down and says why', async () => {
    const port = await freePort();
    const { follower, updates, lines } = follow([`127.0.0.1:${port}`]);
    await until('the problem', () => follower.problem()?.includes('nobody listens'));
    await startNode({ port });
    await until('a template', () => updates.length === 1);
    expect(follower.problem()).toBeNull();
    expect(lines.filter((line) => line.includes('nobody listens'))).toHaveLength(1);
  });
});

describe('a thread that dies', () => {
  it('is said and started again, and the last template lives on', async () => {
    const toy = await startNode();
    const threads: Worker[] = [];
    const { follower, updates, lines } = follow([toy.rpcUrl], { onThread: (worker) => threads.push(worker) });
    await until('a first template', () => updates.length === 1);
    await threads[0]!.terminate();
    await until('it is said', () => lines.some((line) => line.includes('the thread that follows the nodes ended')));
    expect(follower.current()).toBe(updates[0]);
    expect(follower.problem()).toMatch(/the thread that follows the nodes ended/);
    expect(follower.nodeStates()).toMatchObject([{ state: 'unknown', active: false }]);
    await until('it works again', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ trigger: 'start', newBlock: false });
    expect(follower.problem()).toBeNull();
    grow(toy.chain, 1);
    await until('it follows', () => updates.at(-1)?.template.height === 2);
    expect(threads).toHaveLength(2);
  });

  it('does not keep the follower from ending', async () => {
    const threads: Worker[] = [];
    const { follower, lines } = follow(['127.0.0.1:1'], { onThread: (worker) => threads.push(worker) });
    await threads[0]!.terminate();
    await until('it is said', () => lines.length > 0);
    await follower.close();
  });
});

describe('the end', () => {
  it('comes within a second, whatever the nodes do', async () => {
    // A node that takes connections and never answers.
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    ends.push(() => {
      silent.closeAllConnections();
      silent.close();
    });
    const toy = await startNode();
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const { follower, updates } = follow([url, toy.rpcUrl], { zmqBlock: toy.zmqUrl });
    await until('a template', () => updates.length === 1);
    const before = performance.now();
    await follower.close();
    expect(performance.now() - before).toBeLessThan(1_000 * crowding());
    grow(toy.chain, 1);
    expect(updates).toHaveLength(1);
    await follower.close();
  });

  it('also comes to a thread that has not begun', async () => {
    const { follower } = follow(['127.0.0.1:1']);
    await follower.close();
  });
});

it('no node, a ZMQ endpoint that is none, and a folder that cannot be made are refused at once', async () => {
  expect(() => follow([])).toThrow(expect.objectContaining({ code: 'config' }));
  expect(() => follow(['127.0.0.1:1'], { zmqBlock: 'nonsense' })).toThrow(expect.objectContaining({ code: 'config' }));
  expect(() => follow(['127.0.0.1:1'], { dir: '/dev/null/none' })).toThrow(
    expect.objectContaining({ code: 'data_dir' }),
  );
});
