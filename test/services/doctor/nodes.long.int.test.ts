import { afterEach, describe, expect, test } from 'vitest';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import type { Finding } from '../../../services/doctor/main.ts';
import { checkNodes } from '../../../services/doctor/nodes.ts';
import { type RunningToyChain, startToyChain } from '../../../services/playground/main.ts';
import { rpcCaller } from '../../helpers/coin-node.ts';
import { freePort, tempDir } from '../../helpers/leash.ts';
import { startLitecoind } from '../../helpers/litecoind.ts';
import { type LyingNode, startLyingNode } from '../../helpers/lying-node.ts';
import { havePart } from '../../helpers/require.ts';
import { easyProfile, writeProfile } from '../playground/easy-chain.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Toy extends RunningToyChain {
  readonly profilePath: string;
  readonly rpc: ReturnType<typeof rpcCaller>;
  mine(count: number): Promise<string[]>;
}

async function toy(zmqPort: number | null = null): Promise<Toy> {
  const dir = tempDir('doctor');
  const chain = await startToyChain({
    ...{ dir: dir.path, rpcPort: 0, zmqPort, user: 'u', pass: 'p', trafficPerSecond: 0, profile: easyProfile() },
  });
  closers.push(dir.remove, () => chain.close());
  const rpc = rpcCaller(chain.rpcUrl, 'u', 'p');
  const profilePath = writeProfile(dir.path, 0x207fffff);
  return {
    ...chain,
    rpc,
    profilePath,
    mine: (count) => rpc('generatetoaddress', count, chain.fundingAddress, 100_000_000),
  };
}

async function liar(node: Toy, lies: LyingNode['lies']): Promise<string> {
  const lying = await startLyingNode({ rpcUrl: node.rpcUrl, user: 'u', pass: 'p' }, lies);
  closers.push(() => lying.close());
  return lying.rpcUrl;
}

function look(
  node: Toy,
  urls: readonly string[],
  more: { pass?: string; needHeight?: number; nowMs?: () => number } & Partial<Config> = {},
): Promise<readonly Finding[]> {
  const { pass = 'p', needHeight = null, nowMs = Date.now, ...changes } = more;
  const config = {
    ...loadConfig({ options: { 'lodestream.chain': node.profilePath } }, {}),
    nodes: urls.map((url) => ({ url, auth: 'u', pass, notify: false })),
    ...changes,
  };
  const named = config.chain === 'auto' ? null : loadChain(config.chain);
  return checkNodes(config, named, needHeight, nowMs).then(({ findings }) => findings);
}

const sick = (findings: readonly Finding[]): string[] =>
  findings.flatMap(({ state, what }) => (state === 'ok' ? [] : [`${state}: ${what}`]));

describe('doctor on nodes', () => {
  test('a node that is well is one ok line, which names chain and height', async () => {
    const node = await toy();
    await node.mine(3);
    const findings = await look(node, [node.rpcUrl]);
    expect(sick(findings)).toEqual([]);
    expect(findings[0]!.what).toMatch(/^playground, height 3, answers in \d+ ms, gives templates, takes blocks$/);
    expect(await node.rpc('getblockcount')).toBe(3);
  });

  test('a node that is down, and one that refuses the password, are told apart', async () => {
    const node = await toy();
    const [down] = await look(node, [`127.0.0.1:${await freePort()}`]);
    expect(down).toMatchObject({ state: 'bad', what: expect.stringContaining('nobody listens there') });
    const [refused] = await look(node, [node.rpcUrl], { pass: 'wrong' });
    expect(refused).toMatchObject({
      state: 'bad',
      what: 'refuses user or password (HTTP 401)',
      mend: expect.stringContaining('btcd[].auth'),
    });
    expect(JSON.stringify(refused)).not.toContain('wrong');
  });

  test('a node of another chain is named with both blocks 0', async () => {
    const node = await toy();
    const findings = await look(node, [node.rpcUrl], { chain: 'bitcoin' });
    expect(sick(findings)).toEqual([expect.stringMatching(/^bad: .*not on the chain bitcoin.*expected 0000000/)]);
  });

  type Lies = LyingNode['lies'];
  const info = (change: object): Lies => ({
    getblockchaininfo: async (_, truth) => ({ result: { ...((await truth()) as object), ...change } }),
  });
  const template = (change: object): Lies => ({
    getblocktemplate: async (_, truth) => ({ result: { ...((await truth()) as object), ...change } }),
  });
  test.each<[string, Lies, string, number?]>([
    ['syncing', info({ initialblockdownload: true, headers: 99 }), '^bad: is still syncing, at height 5 of 99$'],
    ['with blocks missing', info({ headers: 99 }), '^warn: is at height 5 and knows headers up to 99'],
    [
      'pruned above what is to be read',
      info({ pruned: true, pruneheight: 4 }),
      '^bad: is pruned: it has blocks from 4 on, and the chain is to be read from 2',
      2,
    ],
    ['pruned below it', info({ pruned: true, pruneheight: 4 }), '^warn: is pruned: it has blocks from 4 on$', 5],
    [
      'with an answer of another type',
      info({ blocks: 'many' }),
      '^bad: .*getblockchaininfo.blocks should be a whole number',
    ],
    ['with garbage for an answer', { '*': () => ({ raw: '<html>router</html>' }) }, '^bad: .*not JSON: router$'],
    [
      'that cuts the line',
      { '*': () => ({ cut: true }) },
      '^bad: .*the connection (ended within the answer|was closed)',
    ],
    ['that gives another block', { getblock: async () => ({ result: '00'.repeat(81) }) }, '^bad: .*block'],
    ['with an unknown rule', template({ rules: ['!newfork'] }), '^bad: .*requires the rule "!newfork"'],
    [
      'that forbids submitblock',
      { submitblock: () => ({ raw: '', status: 403 }) },
      '^bad: does not let this user submit blocks',
    ],
    [
      'without templates',
      { getblocktemplate: () => ({ error: { code: -9, message: 'Bitcoin is not connected!' } }) },
      '^bad: getblocktemplate: Bitcoin is not connected! \\(code -9\\)$',
    ],
  ])('a node %s is named with the mend', async (_, lies, expected, needHeight) => {
    const node = await toy();
    await node.mine(5);
    const findings = await look(node, [await liar(node, lies)], needHeight === undefined ? {} : { needHeight });
    expect(sick(findings)).toEqual([expect.stringMatching(new RegExp(expected))]);
    for (const { state, mend } of findings) expect(mend === '').toBe(state === 'ok');
  });

  test.each([
    [20, 'warn: its clock is 20 s behind'],
    [-4_000, 'bad: its clock is 4000 s ahead of'],
  ])("a clock %i s before the node's is told", async (aheadS, expected) => {
    const node = await toy();
    const findings = await look(node, [node.rpcUrl], { nowMs: () => Date.now() + aheadS * 1_000 });
    // A slow machine adds a second or two to the answer.
    expect(
      sick(findings)
        .join()
        .replace(/\d+ s/, `${Math.abs(aheadS)} s`),
    ).toContain(expected);
  });

  test('nodes on two branches are told with the height at which they part, and one that is behind with its distance', async () => {
    const [one, two] = [await toy(), await toy()];
    for (const hash of await one.mine(6)) await two.rpc('submitblock', await one.rpc('getblock', hash, 0));
    expect(sick(await look(one, [one.rpcUrl, two.rpcUrl]))).toEqual([]);
    await one.mine(3);
    expect(sick(await look(one, [one.rpcUrl, two.rpcUrl]))).toEqual([
      expect.stringMatching(/^warn: is 3 blocks behind node 127/),
    ]);
    await two.mine(1);
    expect(sick(await look(one, [one.rpcUrl, two.rpcUrl]))).toEqual([
      expect.stringMatching(/^bad: is on another branch than node \S+ above height 6: \w+ at 7 against \w+ at 9$/),
    ]);
  });

  test('block notices: a publisher, nobody, somebody else, and one that nobody listens to', async () => {
    const node = await toy(0);
    const zmq = (zmqBlock: string | null) => look(node, [node.rpcUrl], { zmqBlock }).then((all) => all.at(-1)!);
    expect(await zmq(node.zmqUrl)).toMatchObject({ state: 'ok', what: 'a publisher answers' });
    expect(await zmq(`tcp://127.0.0.1:${await freePort()}`)).toMatchObject({
      state: 'warn',
      what: expect.stringMatching(/^nobody publishes there/),
      mend: expect.stringContaining(`the node announces blocks at ${node.zmqUrl}`),
    });
    expect(await zmq(node.rpcUrl.replace('http:', 'tcp:'))).toMatchObject({
      state: 'warn',
      what: 'something listens there, but it is no ZMQ publisher',
    });
    expect(await zmq(null)).toMatchObject({ state: 'warn', mend: `set "zmqblock": "${node.zmqUrl}"` });
    const other = await toy(0);
    expect(await zmq(other.zmqUrl)).toMatchObject({
      state: 'warn',
      what: expect.stringContaining('the node does not announce blocks there'),
    });
  });
});

const litecoind = await havePart('node', startLitecoind);
describe.skipIf(litecoind === undefined)('doctor on litecoind', () => {
  test('a real node is well: chain found by itself, template read, the right to submit tried', async () => {
    const node = litecoind!;
    closers.push(() => node.stop());
    await node.mineTo(3);
    const config = {
      ...loadConfig({ options: { 'lodestream.chain': 'auto' } }, {}),
      nodes: [{ url: node.rpcUrl, auth: node.user, pass: node.pass, notify: false }],
    };
    const { profile, findings } = await checkNodes(config, null, null, Date.now);
    expect(sick(findings)).toEqual([]);
    expect(profile?.name).toBe('litecoin-regtest');
    expect(await node.rpc('getblockcount')).toBe(3);
  });
});
