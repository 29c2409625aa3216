/** The client and the follower of templates on nodes that nobody here wrote. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { emptyTemplate, tipHeader } from '../../../../services/core/node/empty-template.ts';
import { createNodeRpc, type NodeRpc } from '../../../../services/core/node/rpc.ts';
import {
  checkTemplate,
  reduceTemplate,
  type Template,
  templateRequest,
} from '../../../../services/core/node/template.ts';
import { followTemplatesInThread } from '../../../../services/core/node/template-thread.ts';
import {
  followTemplates,
  type TemplateFollower,
  type TemplateUpdate,
} from '../../../../services/core/node/templates.ts';
import { type Bitcoind, startBitcoind } from '../../../helpers/bitcoind.ts';
import { type Btcd, startBtcd } from '../../../helpers/btcd.ts';
import type { TestNode } from '../../../helpers/coin-node.ts';
import { crowding, tempDir, until } from '../../../helpers/leash.ts';
import { type Litecoind, startLitecoind } from '../../../helpers/litecoind.ts';
import { havePart } from '../../../helpers/require.ts';

const litecoind = await havePart('node', startLitecoind);
const btcd = await havePart('btcd', startBtcd);
const bitcoind = await havePart('bitcoind', startBitcoind);
const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
afterAll(async () => {
  await litecoind?.stop();
  await btcd?.stop();
  await bitcoind?.stop();
});

function rpcOf(node: TestNode): NodeRpc {
  const rpc = createNodeRpc({ url: node.rpcUrl, user: node.user, pass: node.pass });
  closers.push(() => rpc.close());
  return rpc;
}

function follow(
  node: TestNode,
  chain: string,
  zmqBlock: string | null = null,
): { follower: TemplateFollower; updates: TemplateUpdate[]; lines: string[] } {
  const updates: TemplateUpdate[] = [];
  const lines: string[] = [];
  const follower = followTemplates({
    nodes: [{ rpc: rpcOf(node) }],
    profile: loadChain(chain),
    updateIntervalMs: 30_000,
    blockPollMs: 100,
    zmqBlock,
    retryMs: 200,
    log: (line) => lines.push(line),
  });
  follower.on('template', (update) => updates.push(update));
  closers.push(() => follower.close());
  return { follower, updates, lines };
}

describe.skipIf(litecoind === undefined)('litecoind', () => {
  const node = litecoind as Litecoind;
  beforeAll(() => node.mineTo(20));

  it('gives templates that are read, and each new block is noticed once', async () => {
    const { updates, lines } = follow(node, 'litecoin-regtest');
    await until('a first template', () => updates.length === 1);
    expect(updates[0]?.template).toMatchObject({
      height: 21,
      bits: 0x207fffff,
      witnessCommitment: expect.stringMatching(/^6a24aa21a9ed/),
      mweb: false,
    });
    await node.mineTo(23);
    await until('the next templates', () => updates.at(-1)?.template.height === 24);
    expect(updates.every(({ newBlock }) => newBlock)).toBe(true);
    expect(new Set(updates.map(({ template }) => template.prevHashRpc)).size).toBe(updates.length);
    expect(lines).toEqual([
      expect.stringMatching(/^Server alive: /),
      expect.stringMatching(/^Connected to bitcoind: /),
    ]);
  });

  it('refuses in its words what is no block, a wrong password, and an unknown method', async () => {
    const { follower, updates } = follow(node, 'litecoin-regtest');
    await until('a first template', () => updates.length === 1);
    expect(await follower.submitBlock('00')).toMatchObject([
      {
        accepted: false,
        answer: expect.stringContaining('Block decode failed'),
        error: { code: 'node_refused', facts: { rpcCode: -22 } },
      },
    ]);
    await expect(rpcOf({ ...node, pass: 'wrong' }).call('getblockcount')).rejects.toMatchObject({ code: 'node_auth' });
    await expect(rpcOf(node).call('nosuch')).rejects.toMatchObject({
      code: 'node_refused',
      facts: { rpcCode: -32601 },
    });
  });

  it('gives for a new block, with nothing to put into it, the template that is reckoned without it', async () => {
    // Litecoin's own profile allows no empty job (mweb, nBits by time in regtest); below MWEB's height its blocks are like Bitcoin's.
    const profile = loadChain('litecoin-regtest');
    const retarget = { rule: 'none', interval: 144 } as const;
    const like = { ...profile, retarget, template: { ...profile.template, mweb: false } };
    const rpc = rpcOf(node);
    const take = async (): Promise<Template> => {
      const { template } = reduceTemplate(
        checkTemplate(await rpc.call('getblocktemplate', [templateRequest(profile)]), profile),
      );
      return { ...template, rules: template.rules.filter((rule) => !rule.includes('mweb')) };
    };
    for (let i = 0; i < 5; i++) {
      const last = await take();
      await node.mineTo(last.height);
      const tip = tipHeader(await rpc.call('getblockheader', [await rpc.call('getbestblockhash')]));
      const nowS = Date.now() / 1000;
      const { empty, longPollId: _, curtimeS, ...made } = emptyTemplate(last, tip, like, { ageS: 0, nowS })!;
      const full = await take();
      expect(empty).toBe(true);
      expect(full).toMatchObject(made);
      expect(Math.abs(full.curtimeS - curtimeS)).toBeLessThanOrEqual(3);
    }
    expect(
      emptyTemplate(
        await take(),
        tipHeader(await rpc.call('getblockheader', [await rpc.call('getbestblockhash')])),
        profile,
        { ageS: 0, nowS: 0 },
      ),
    ).toBeNull();
  });

  it('gives its extension block from the height of MWEB on', async () => {
    await node.activateMweb();
    const { updates } = follow(node, 'litecoin-regtest');
    await until('a template', () => updates.length === 1);
    expect(updates[0]?.template).toMatchObject({ mweb: true, commitmentFits: true });
    expect(updates[0]?.template.txCount).toBeGreaterThan(0);
    expect(updates[0]?.template.rules.join(' ')).toMatch(/\bmweb\b/);
  });
});

describe.skipIf(litecoind === undefined)('two nodes of Litecoin Core', () => {
  it('one that goes silent is left within seconds, and gone back to when it has caught up', async () => {
    const started = [await startLitecoind(), await startLitecoind()];
    const nodes = started.map((node) => {
      if ('missing' in node) throw new Error(node.missing);
      closers.push(() => node.stop());
      return node;
    }) as [Litecoind, Litecoind];
    const [first, second] = nodes;
    await second.rpc('addnode', `127.0.0.1:${first.p2pPort}`, 'add');
    await first.mineTo(10);
    const height = (node: Litecoind): Promise<number> => node.rpc<number>('getblockcount');
    await until('the second has the blocks', async () => (await height(second)) === 10);

    const updates: TemplateUpdate[] = [];
    const lines: string[] = [];
    const dir = tempDir('two-nodes');
    closers.push(() => dir.remove());
    const rpcs = nodes.map(rpcOf);
    const follower = followTemplatesInThread({
      nodes: nodes.map(({ rpcUrl: url, user, pass }, i) => ({ rpc: rpcs[i]!, url, user, pass, notify: false })),
      profile: loadChain('litecoin-regtest'),
      updateIntervalMs: 60_000,
      blockPollMs: 100,
      zmqBlock: null,
      retryMs: 200,
      dir: join(dir.path, 'templates'),
      log: (line) => lines.push(line),
    });
    follower.on('template', (update) => updates.push(update));
    closers.push(() => follower.close());
    await until('the first is used', () => follower.nodeStates()[0]!.active);

    // It keeps its connections and says nothing, as a node that hangs does.
    process.kill(first.pid, 'SIGSTOP');
    let stopped = true;
    closers.push(() => {
      if (stopped) process.kill(first.pid, 'SIGCONT');
    });
    const silentMs = performance.now();
    await until('the second takes over', () => updates.at(-1)?.node === rpcs[1]!.name);
    expect(performance.now() - silentMs).toBeLessThan(10_000 * crowding());
    expect(updates.at(-1)).toMatchObject({ trigger: 'failover', newBlock: false });
    await second.mineTo(13);
    await until('its blocks are followed', () => updates.at(-1)?.template.height === 14);

    process.kill(first.pid, 'SIGCONT');
    stopped = false;
    const back = updates.length;
    await until('back to the first', () => updates.at(-1)?.node === rpcs[0]!.name);
    // Never to a block from before its silence.
    expect(updates.slice(back).every(({ template }) => template.height === 14)).toBe(true);
    expect(lines.filter((line) => line.startsWith('Failed over to'))).toHaveLength(2);
  });
});

describe.skipIf(btcd === undefined)('btcd', () => {
  const node = btcd as Btcd;

  it('gives templates that are read, and each new block is noticed', async () => {
    await node.generate(3);
    const { updates, lines } = follow(node, 'regtest');
    await until('a first template', () => updates.length === 1);
    expect(updates[0]?.template).toMatchObject({ height: 4, witnessCommitment: null, rules: [] });
    await node.generate(2);
    await until('the next templates', () => updates.at(-1)?.template.height === 6);
    expect(lines).toHaveLength(2);
  });
});

describe.skipIf(bitcoind === undefined)('bitcoind', () => {
  const node = bitcoind as Bitcoind;

  it('gives templates that are read, and each new block is noticed', async () => {
    const address = await node.rpc<string>('getnewaddress', '', 'bech32');
    await node.rpc('generatetoaddress', 3, address);
    const { updates } = follow(node, 'regtest', node.zmqUrl ?? null);
    await until('a first template', () => updates.length === 1);
    expect(updates[0]?.template).toMatchObject({
      height: 4,
      witnessCommitment: expect.stringMatching(/^6a24aa21a9ed/),
      mweb: false,
    });
    await node.rpc('generatetoaddress', 2, address);
    await until('the next templates', () => updates.at(-1)?.template.height === 6);
    expect(updates.every(({ newBlock }) => newBlock)).toBe(true);
  });
});
