import { afterEach, describe, expect, it } from 'vitest';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import type { ChainProfile } from '../../../../services/core/chains/profile.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import { createNodeRpc, type NodeRpc } from '../../../../services/core/node/rpc.ts';
import {
  type FollowOptions,
  followTemplates,
  type TemplateFollower,
  type TemplateUpdate,
} from '../../../../services/core/node/templates.ts';
import { type RunningToyChain, startToyChain } from '../../../../services/playground/main.ts';
import { freePort, tempDir, until } from '../../../helpers/leash.ts';
import { buildBlock, easyProfile, nextParts } from '../../playground/easy-chain.ts';

const profile = easyProfile();
const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startNode(
  options: { port?: number; zmq?: boolean; dir?: string; pass?: string; profile?: ChainProfile } = {},
): Promise<RunningToyChain> {
  let path = options.dir;
  if (path === undefined) {
    const dir = tempDir('templates');
    cleanups.push(() => dir.remove());
    path = dir.path;
  }
  const toy = await startToyChain({
    dir: path,
    rpcPort: options.port ?? 0,
    zmqPort: options.zmq === true ? 0 : null,
    user: 'u',
    pass: options.pass ?? 'p',
    profile: options.profile ?? profile,
    trafficPerSecond: 0,
    longPollQuietMs: 50,
  });
  cleanups.push(() => toy.close());
  return toy;
}

function rpcOf(url: string, pass = 'p'): NodeRpc {
  const rpc = createNodeRpc({ url, user: 'u', pass, timeoutMs: 5_000 });
  cleanups.push(() => rpc.close());
  return rpc;
}

interface Following {
  readonly follower: TemplateFollower;
  readonly updates: TemplateUpdate[];
  readonly lines: string[];
}

/** Follows in a hurry; what a test wants to see alone it leaves on, the rest it makes slow. */
function follow(options: Partial<FollowOptions> & Pick<FollowOptions, 'nodes'>): Following {
  const updates: TemplateUpdate[] = [];
  const lines: string[] = [];
  const follower = followTemplates({
    profile,
    updateIntervalMs: 60_000,
    blockPollMs: 20,
    retryMs: 50,
    log: (line) => lines.push(line),
    ...options,
  });
  follower.on('template', (update) => updates.push(update));
  cleanups.push(() => follower.close());
  return { follower, updates, lines };
}

const mine = (rpc: NodeRpc, toy: RunningToyChain): Promise<string[]> =>
  rpc.call('generatetoaddress', [1, toy.fundingAddress]);

/** The same client without `getblocktemplate`'s long poll: what is left has to notice blocks. */
function withoutLongPoll(rpc: NodeRpc): NodeRpc {
  return {
    ...rpc,
    async call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
      const result = await rpc.call<T>(...args);
      if (args[0] === 'getblocktemplate') delete (result as { longpollid?: string }).longpollid;
      return result;
    },
  };
}

describe('a new block is noticed', () => {
  it('by the long poll alone', async () => {
    const toy = await startNode();
    const rpc = rpcOf(toy.rpcUrl);
    const { updates } = follow({ nodes: [{ rpc, notify: true }] });
    await until('a first template', () => updates.length === 1);
    expect(updates[0]).toMatchObject({ trigger: 'start', newBlock: true, template: { height: 1 } });
    for (let height = 2; height <= 5; height++) {
      await mine(rpc, toy);
      await until('the next template', () => updates.at(-1)?.template.height === height);
      expect(updates.at(-1)).toMatchObject({ trigger: 'longpoll', newBlock: true });
    }
    expect(updates).toHaveLength(5);
  });

  it('by a node that answers each long poll at once with another block, fifty times a second at most', async () => {
    const toy = await startNode();
    const inner = rpcOf(toy.rpcUrl);
    let asked = 0;
    const rpc: NodeRpc = {
      ...inner,
      async call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
        const [method, params, options] = args;
        if (method !== 'getblocktemplate') return inner.call<T>(...args);
        const [{ longpollid: _, ...request }] = params as [Record<string, unknown>];
        const result = await inner.call<Record<string, unknown>>(method, [request], options);
        asked += 1;
        return { ...result, previousblockhash: asked.toString(16).padStart(64, '0'), longpollid: String(asked) } as T;
      },
    };
    const { updates } = follow({ nodes: [{ rpc, notify: true }] });
    await until('a first template', () => updates.length > 0);
    const began = performance.now();
    const before = updates.length;
    await until('thirty more', () => updates.length >= before + 30, { everyMs: 1 });
    // One was on its way; timers may be a millisecond early.
    expect(performance.now() - began).toBeGreaterThan(28 * 18);
  });

  it('by a poll a second where a node holds a long poll and does not answer it', async () => {
    const toy = await startNode();
    const inner = rpcOf(toy.rpcUrl);
    const polledMs: number[] = [];
    const rpc: NodeRpc = {
      ...inner,
      call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
        const [method, params, options] = args;
        if (method === 'getbestblockhash') polledMs.push(performance.now());
        const held = method === 'getblocktemplate' && (params![0] as { longpollid?: string }).longpollid !== undefined;
        if (!held) return inner.call<T>(...args);
        return new Promise((_, reject) => options!.signal!.addEventListener('abort', () => reject(new Error('left'))));
      },
    };
    const { updates } = follow({ nodes: [{ rpc }] });
    await until('a first template', () => updates.length === 1);
    const pauseMs = (): number => polledMs.at(-1)! - polledMs.at(-2)!;
    // Every 20 ms at first; once it has held the long poll for a second it is believed.
    await until('a poll a second', () => polledMs.length > 20 && pauseMs() > 950);
    await mine(inner, toy);
    await until('the next template', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ trigger: 'poll', newBlock: true, template: { height: 2 } });
  });

  it('by polling alone', async () => {
    const toy = await startNode();
    const rpc = rpcOf(toy.rpcUrl);
    const { updates } = follow({ nodes: [{ rpc: withoutLongPoll(rpc) }] });
    await until('a first template', () => updates.length === 1);
    await mine(rpc, toy);
    await until('the next template', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ trigger: 'poll', newBlock: true, template: { height: 2 } });
  });

  it('by ZMQ alone', async () => {
    const toy = await startNode({ zmq: true });
    const rpc = rpcOf(toy.rpcUrl);
    const { updates, lines } = follow({ nodes: [{ rpc: withoutLongPoll(rpc), notify: true }], zmqBlock: toy.zmqUrl });
    await until('a first template', () => updates.length === 1);
    await until('the subscription', () => lines.some((line) => line.startsWith('ZMQ connected')));
    await until('a template by ZMQ', async () => {
      await mine(rpc, toy);
      return updates.some(({ trigger }) => trigger === 'zmq');
    });
    await until('the tip is reached', () => updates.at(-1)?.template.prevHashRpc === toy.chain.tip.hash);
  });

  it('by the ZMQ of any of several nodes', async () => {
    const toy = await startNode({ zmq: true });
    const rpc = rpcOf(toy.rpcUrl);
    const zmqBlock = `tcp://127.0.0.1:${await freePort()}, ${toy.zmqUrl}`;
    const { updates, lines } = follow({ nodes: [{ rpc: withoutLongPoll(rpc), notify: true }], zmqBlock });
    await until('a first template', () => updates.length === 1);
    await until('the subscription', () => lines.some((line) => line.startsWith('ZMQ connected')));
    await until('a template by ZMQ', async () => {
      await mine(rpc, toy);
      return updates.some(({ trigger }) => trigger === 'zmq');
    });
  });

  it('by all together exactly once', async () => {
    const toy = await startNode({ zmq: true });
    const rpc = rpcOf(toy.rpcUrl);
    const { updates } = follow({ nodes: [{ rpc }], zmqBlock: toy.zmqUrl, blockPollMs: 1 });
    await until('a first template', () => updates.length === 1);
    for (let i = 0; i < 10; i++) {
      const height = toy.chain.tip.height + 2;
      await mine(rpc, toy);
      await until('the next template', () => updates.at(-1)?.template.height === height);
    }
    expect(updates.map(({ template }) => template.height)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('also when a reorganisation makes the chain shorter', async () => {
    const toy = await startNode();
    const rpc = rpcOf(toy.rpcUrl);
    const { updates } = follow({ nodes: [{ rpc }] });
    await until('a first template', () => updates.length === 1);
    const [hash] = await rpc.call<[string]>('generatetoaddress', [2, toy.fundingAddress]);
    await until('the tip', () => updates.at(-1)?.template.height === 3);
    await rpc.call('invalidateblock', [hash]);
    await until('the shorter chain', () => updates.at(-1)?.template.height === 1);
    expect(updates.at(-1)?.newBlock).toBe(true);
  });
});

describe('a new block whose template is late', () => {
  /** The same client; a template asked for while `late` is set waits for `release`. */
  function slow(rpc: NodeRpc): { rpc: NodeRpc; late: boolean; release(): void } {
    const waiting: (() => void)[] = [];
    const held = {
      late: false,
      release: () => {
        held.late = false;
        for (const go of waiting.splice(0)) go();
      },
      rpc: {
        ...rpc,
        async call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
          const result = await rpc.call<T>(...args);
          if (args[0] === 'getblocktemplate' && held.late) await new Promise<void>((go) => waiting.push(go));
          return result;
        },
      },
    };
    return held;
  }

  it.each(['zmq', 'poll'] as const)('gets an empty one first, and the full one when it comes (%s)', async (by) => {
    const toy = await startNode({ zmq: true });
    const real = rpcOf(toy.rpcUrl);
    await mine(real, toy);
    const held = slow(real);
    const { updates, lines } = follow({
      nodes: [{ rpc: held.rpc, notify: by === 'zmq' }],
      zmqBlock: by === 'zmq' ? toy.zmqUrl : null,
      emptyAfterMs: 50,
    });
    await until('a first template', () => updates.length === 1);
    if (by === 'zmq') await until('the subscription', () => lines.some((line) => line.startsWith('ZMQ connected')));
    held.late = true;
    await mine(real, toy);
    await until('an empty one', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ newBlock: true, template: { empty: true, height: 3, txCount: 0 } });
    expect(updates[1]!.template.prevHashRpc).toBe(toy.chain.tip.hash);
    held.release();
    await until('the full one', () => updates.length === 3);
    expect(updates[2]).toMatchObject({ newBlock: false, template: { empty: false, height: 3 } });
    const { empty: _, longPollId: __, curtimeS: a, feesSats: ___, ...made } = updates[1]!.template;
    expect(updates[2]!.template).toMatchObject(made as object);
    expect(Math.abs(updates[2]!.template.curtimeS - a)).toBeLessThanOrEqual(60);
    expect(lines.filter((line) => line.includes('an empty one goes first'))).toHaveLength(1);
  });

  it('gets none where the option is off, and none where its template is in time', async () => {
    const toy = await startNode();
    const real = rpcOf(toy.rpcUrl);
    const held = slow(real);
    const off = follow({ nodes: [{ rpc: held.rpc }] });
    const inTime = follow({ nodes: [{ rpc: real }], emptyAfterMs: 40_000 });
    await until('first templates', () => off.updates.length === 1 && inTime.updates.length === 1);
    held.late = true;
    await mine(real, toy);
    await until('the full one', () => inTime.updates.length === 2);
    expect(inTime.updates[1]!.template.empty).toBe(false);
    held.release();
    await until('the late one', () => off.updates.length === 2);
    expect(off.updates.map(({ template }) => template.empty)).toEqual([false, false]);
  });

  it('gets none where two blocks came at once: what the second stands on was not mined for', async () => {
    const toy = await startNode();
    const real = rpcOf(toy.rpcUrl);
    const held = slow(real);
    const { updates } = follow({ nodes: [{ rpc: held.rpc }], emptyAfterMs: 1 });
    await until('a first template', () => updates.length === 1);
    held.late = true;
    await real.call('generatetoaddress', [2, toy.fundingAddress]);
    let asked = 0;
    await until('it has been polled since', async () => ++asked > 5 && (await real.call('getblockcount')) === 2);
    held.release();
    await until('the full one', () => updates.at(-1)!.template.height === 3);
    expect(updates.every(({ template }) => !template.empty)).toBe(true);
  });
});

describe('the same block', () => {
  it('is renewed after the interval, as no new block', async () => {
    const toy = await startNode();
    const { updates } = follow({ nodes: [{ rpc: rpcOf(toy.rpcUrl) }], updateIntervalMs: 30 });
    await until('three templates', () => updates.length >= 3);
    expect(updates.slice(1).every(({ trigger, newBlock }) => trigger === 'interval' && !newBlock)).toBe(true);
  });

  it('is renewed when somebody asks', async () => {
    const toy = await startNode();
    const { follower, updates } = follow({ nodes: [{ rpc: rpcOf(toy.rpcUrl) }] });
    await until('a first template', () => updates.length === 1);
    follower.refresh();
    await until('a second', () => updates.length === 2);
    expect(updates[1]).toMatchObject({ trigger: 'asked', newBlock: false });
  });
});

/** CKPool's line, which monitors look for. */
const NONE = 'CRITICAL: No bitcoinds active!';

describe('a node that cannot be used is said once and waited for', () => {
  it('when nobody listens yet', async () => {
    const port = await freePort();
    const { follower, updates, lines } = follow({ nodes: [{ rpc: rpcOf(`127.0.0.1:${port}`) }] });
    await until('the problem', () => follower.problem()?.includes('nobody listens'));
    expect(follower.nodeStates()).toMatchObject([{ state: 'node_unreachable', active: false }]);
    await startNode({ port });
    await until('a template', () => updates.length === 1);
    expect(follower.problem()).toBeNull();
    expect(lines.filter((line) => line.includes('nobody listens'))).toHaveLength(1);
    expect(lines.at(-1)).toBe(`Connected to bitcoind: 127.0.0.1:${port}`);
  });

  it('when it refuses the password', async () => {
    const toy = await startNode({ pass: 'other' });
    const { follower, lines } = follow({ nodes: [{ rpc: rpcOf(toy.rpcUrl) }] });
    await until('the problem', () => follower.nodeStates()[0]?.state === 'node_auth');
    expect(lines).toHaveLength(2);
    expect(lines[1]).toBe(NONE);
    expect(lines[0]).toMatch(/refuses user or password \(HTTP 401\).*btcd/);
  });

  it('when it is of another chain', async () => {
    const other = easyProfile({ name: 'other' });
    const wrong = { ...profile, genesis_hash: 'ab'.repeat(32) };
    const toy = await startNode({ profile: other });
    const { follower, lines } = follow({ nodes: [{ rpc: rpcOf(toy.rpcUrl) }], profile: wrong });
    await until('the problem', () => follower.nodeStates()[0]?.state === 'chain_mismatch');
    expect(lines).toHaveLength(2);
  });

  it('when it is still syncing', async () => {
    const toy = await startNode();
    const real = rpcOf(toy.rpcUrl);
    let behind = true;
    const rpc: NodeRpc = {
      ...real,
      async call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
        const result = await real.call<T>(...args);
        return args[0] === 'getblockchaininfo' && behind
          ? ({ ...result, initialblockdownload: true, blocks: 5, headers: 9 } as T)
          : result;
      },
    };
    const { follower, updates, lines } = follow({ nodes: [{ rpc }] });
    await until('the problem', () => follower.nodeStates()[0]?.state === 'node_syncing');
    expect(lines).toEqual([expect.stringMatching(/still syncing, block 5 of 9/), NONE]);
    behind = false;
    await until('a template', () => updates.length === 1);
  });

  it('when it goes away and comes back, with the last template still there meanwhile', async () => {
    const dir = tempDir('templates-away');
    cleanups.push(() => dir.remove());
    const port = await freePort();
    const toy = await startNode({ dir: dir.path, port });
    const { follower, updates, lines } = follow({ nodes: [{ rpc: rpcOf(toy.rpcUrl) }] });
    await until('a template', () => updates.length === 1);
    await toy.close();
    await until('the loss', () => follower.problem() !== null);
    expect(follower.current()).toBe(updates[0]);
    await startNode({ dir: dir.path, port });
    await until('it is used again', () => follower.problem() === null);
    expect(updates).toHaveLength(2);
    const name = `127.0.0.1:${port}`;
    expect(lines).toEqual([
      `Server alive: ${name}`,
      `Connected to bitcoind: ${name}`,
      expect.stringContaining(`node ${name}: getb`),
      NONE,
      `node ${name} can be used again`,
      `Server alive: ${name}`,
      `Connected to bitcoind: ${name}`,
    ]);
  });
});

describe('several nodes', () => {
  /** Two nodes with the same chain. */
  async function twoNodes(): Promise<{
    dirs: string[];
    toys: RunningToyChain[];
    rpcs: NodeRpc[];
    ports: number[];
    both: (act: () => Promise<unknown>) => Promise<void>;
  }> {
    const dirs = [0, 1].map(() => {
      const dir = tempDir('templates-two');
      cleanups.push(() => dir.remove());
      return dir.path;
    });
    const toys = [await startNode({ dir: dirs[0]! }), await startNode({ dir: dirs[1]! })];
    const rpcs = toys.map(({ rpcUrl }) => rpcOf(rpcUrl));
    return {
      dirs,
      toys,
      rpcs,
      ports: toys.map(({ rpcUrl }) => Number(new URL(rpcUrl).port)),
      async both(act) {
        await act();
        const hex = await rpcs[0]!.call('getblock', [await rpcs[0]!.call('getbestblockhash'), 0]);
        await rpcs[1]!.call('submitblock', [hex]);
      },
    };
  }

  it('the first is used, left when it fails, and gone back to when it works again', async () => {
    const { dirs, toys, rpcs, ports, both } = await twoNodes();
    await both(() => mine(rpcs[0]!, toys[0]!));
    const { follower, updates, lines } = follow({ nodes: rpcs.map((rpc) => ({ rpc })) });
    await until('a template', () => updates.length > 0 && follower.nodeStates()[0]!.active);
    const names = rpcs.map(({ name }) => name);
    await toys[0]!.close();
    await until('the second takes over', () => updates.at(-1)?.node === names[1]);
    expect(updates.at(-1)).toMatchObject({ trigger: 'failover', newBlock: false });
    await mine(rpcs[1]!, toys[1]!);
    await until('its blocks are followed', () => updates.at(-1)?.template.height === 3);
    const again = await startNode({ dir: dirs[0]!, port: ports[0]! });
    // It has come back with an older block: no job goes back to that.
    await until('it is said', () => lines.some((line) => line.includes('is behind, block 1 of 2')));
    expect(updates.at(-1)?.node).toBe(names[1]);
    await rpcs[0]!.call('submitblock', [await rpcs[1]!.call('getblock', [toys[1]!.chain.tip.hash, 0])]);
    await until('back to the first', () => updates.at(-1)?.node === names[0]);
    expect(updates.at(-1)).toMatchObject({ newBlock: false, template: { height: 3 } });
    expect(follower.nodeStates().map(({ active }) => active)).toEqual([true, false]);
    expect(lines.filter((line) => line.startsWith('Failed over to'))).toEqual([
      `Failed over to bitcoind: ${names[1]}`,
      `Failed over to bitcoind: ${names[0]}`,
    ]);
    expect(again.chain.tip.height).toBe(2);
  });

  it('the first is not left because its user may not ask for the best block', async () => {
    const { toys, rpcs } = await twoNodes();
    let refused = 0;
    const shy: NodeRpc = {
      ...rpcs[0]!,
      async call<T>(...args: Parameters<NodeRpc['call']>): Promise<T> {
        if (args[0] !== 'getbestblockhash') return rpcs[0]!.call<T>(...args);
        refused += 1;
        throw new PoolError('node_auth', 'not allowed', { facts: { status: 403 } });
      },
    };
    const { follower, updates } = follow({ nodes: [{ rpc: shy }, { rpc: rpcs[1]! }] });
    await until('the first is used', () => follower.nodeStates()[0]!.active);
    const used = updates.length;
    await mine(rpcs[0]!, toys[0]!);
    await until('its block', () => updates.at(-1)?.template.height === 2 && refused > 3);
    expect(updates.slice(used).every(({ node }) => node === rpcs[0]!.name)).toBe(true);
  });

  it('a solved block goes to all, and each answers', async () => {
    const { toys, rpcs } = await twoNodes();
    const { follower } = follow({ nodes: rpcs.map((rpc) => ({ rpc })) });
    const { bytes, hash } = buildBlock(toys[0]!.chain, nextParts(toys[0]!.chain));
    expect(await follower.submitBlock(hexFromBytes(bytes))).toEqual(
      rpcs.map(({ name }) => ({ node: name, answer: 'accepted', accepted: true })),
    );
    expect(toys.map(({ chain }) => chain.tip.hash)).toEqual([hash, hash]);
    expect((await follower.submitBlock(hexFromBytes(bytes)))[0]).toMatchObject({ answer: 'duplicate', accepted: true });
    const rival = buildBlock(toys[0]!.chain, nextParts(toys[0]!.chain, { prev: toys[0]!.chain.at(0)!, extra: 1 }));
    expect((await follower.submitBlock(hexFromBytes(rival.bytes)))[0]).toMatchObject({
      answer: 'inconclusive',
      accepted: false,
    });
    await follower.preferBlock(rival.hash);
    expect(toys.map(({ chain }) => chain.tip.hash)).toEqual([rival.hash, rival.hash]);
    expect((await follower.submitBlock('00'))[0]).toMatchObject({
      answer: expect.stringContaining('Block decode failed'),
      accepted: false,
    });
  });

  it('a solved block does not wait for a node that is away, and reaches it when it comes back in time', async () => {
    const toy = await startNode();
    const port = await freePort();
    const away = rpcOf(`127.0.0.1:${port}`);
    const { follower } = follow({ nodes: [{ rpc: away }, { rpc: rpcOf(toy.rpcUrl) }] });
    const { bytes, hash } = buildBlock(toy.chain, nextParts(toy.chain));
    const told: string[] = [];
    const pending = follower.submitBlock(hexFromBytes(bytes), ({ answer }) => told.push(answer));
    await until('the first answer', () => told.length === 1);
    expect(told).toEqual(['accepted']);
    const late = await startNode({ port });
    expect((await pending).map(({ accepted }) => accepted)).toEqual([true, true]);
    expect(late.chain.tip.hash).toBe(hash);
    await late.close();
    expect((await follower.submitBlock(hexFromBytes(bytes)))[0]).toMatchObject({
      node: away.name,
      accepted: false,
      error: { code: 'node_unreachable' },
    });
  });
});

it('no node, or a ZMQ endpoint that is none, is refused as config', () => {
  expect(() => follow({ nodes: [] })).toThrow(expect.objectContaining({ code: 'config' }));
  expect(() => follow({ nodes: [{ rpc: rpcOf('127.0.0.1:1') }], zmqBlock: 'nonsense' })).toThrow(
    expect.objectContaining({ code: 'config' }),
  );
});

it('a closed follower is silent, whatever was under way', async () => {
  const toy = await startNode();
  const rpc = rpcOf(toy.rpcUrl);
  const abort = new AbortController();
  const { follower, updates, lines } = follow({ nodes: [{ rpc }], signal: abort.signal });
  await until('a template', () => updates.length === 1);
  abort.abort();
  await follower.close();
  await mine(rpc, toy);
  expect(updates).toHaveLength(1);
  expect(lines.at(-1)).toMatch(/^Connected to bitcoind/);
});
