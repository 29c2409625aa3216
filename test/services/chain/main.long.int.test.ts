import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { Publisher } from 'zeromq';
import type { BlockEvent, SessionEvent } from '../../../schemas/events.ts';
import { startChain } from '../../../services/chain/main.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import type { RecordBatch } from '../../../services/core/log/event-log.ts';
import { openJournalLog } from '../../../services/core/log/journal.ts';
import { readStatuses, type Status } from '../../../services/core/status.ts';
import { checkNodes } from '../../../services/doctor/nodes.ts';
import { type RunningToyChain, startToyChain } from '../../../services/playground/main.ts';
import { rpcCaller } from '../../helpers/coin-node.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { startLitecoind } from '../../helpers/litecoind.ts';
import { type LyingNode, startLyingNode } from '../../helpers/lying-node.ts';
import { havePart } from '../../helpers/require.ts';
import { easyProfile, writeProfile } from '../playground/easy-chain.ts';
import { testLife } from './life.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function dataDir(): string {
  const dir = tempDir('chain');
  closers.push(dir.remove);
  return dir.path;
}

/** Profile of the toy chains here: any hash of two is a block. */
const profileDir = tempDir('chain-profile');
const profile = writeProfile(profileDir.path, 0x207fffff);
afterAll(profileDir.remove);

interface Toy extends RunningToyChain {
  readonly rpc: <T>(method: string, ...params: unknown[]) => Promise<T>;
  mine(count: number): Promise<string[]>;
}

async function toy(
  options: { dir?: string; rpcPort?: number; zmqPort?: number | null; nowMs?: () => number } = {},
): Promise<Toy> {
  const chain = await startToyChain({
    dir: options.dir ?? dataDir(),
    rpcPort: options.rpcPort ?? 0,
    zmqPort: options.zmqPort ?? null,
    user: 'u',
    pass: 'p',
    trafficPerSecond: 0,
    profile: easyProfile(),
    ...(options.nowMs === undefined ? {} : { nowMs: options.nowMs }),
  });
  closers.push(() => chain.close());
  const rpc = rpcCaller(chain.rpcUrl, 'u', 'p');
  return {
    ...chain,
    rpc,
    mine: (count) => rpc('generatetoaddress', count, chain.fundingAddress, 100_000_000),
  };
}

function configOf(dir: string, urls: string[], more: Partial<Config> = {}): Config {
  const config = loadConfig({ options: { 'lodestream.data_dir': dir, 'lodestream.chain': profile } }, {});
  const nodes = urls.map((url) => ({ url, auth: 'u', pass: 'p', notify: false }));
  return { ...config, nodes, blockPollMs: 20, ...more };
}

async function events(dir: string): Promise<BlockEvent[]> {
  const log = openJournalLog({ dir: openDataDir(dir).journal });
  const found: BlockEvent[] = [];
  let from: string | null = null;
  for (;;) {
    const batch = await log.read('block', 'chain', from, { maxRecords: 500, waitMs: 0 });
    for (const record of batch.records) found.push((await log.decoder('block', record.fingerprint))(record.body));
    expect(batch.damage).toEqual([]);
    if (batch.records.length === 0) break;
    from = batch.next;
  }
  await log.close();
  return found;
}

/** The chain that the log tells, by height; numbers rise and every block stands on the one before it. */
function told(log: readonly BlockEvent[]): string[] {
  const chain: BlockEvent[] = [];
  let seq = 0;
  for (const event of log) {
    expect(event.chain_seq).toBeGreaterThan(seq);
    seq = event.chain_seq;
    if (event.kind === 'connected') {
      expect(event.prev_hash).toBe(chain.at(-1)?.hash ?? event.prev_hash);
      chain.push(event);
    } else if (event.kind === 'disconnected') expect(chain.pop()?.hash).toBe(event.hash);
  }
  return chain.map((event) => event.hash);
}

const chainStatus = (dir: string): Status | undefined =>
  readStatuses(openDataDir(dir).status).find((status) => status.program === 'chain');

async function atTip(dir: string, hash: string): Promise<BlockEvent[]> {
  return await until(`the log reaches ${hash}`, async () => {
    const log = await events(dir);
    return told(log).at(-1) === hash ? log : null;
  });
}

describe('the chain program on the toy chain', () => {
  test('it catches up, follows by ZMQ, and tells a reorganisation made by invalidateblock', async () => {
    const node = await toy({ zmqPort: 0 });
    await node.mine(30);
    const dir = dataDir();
    const life = testLife(closers);
    await startChain(configOf(dir, [node.rpcUrl], { zmqBlock: node.zmqUrl, btcAddress: node.fundingAddress }), life);
    await atTip(dir, await node.rpc('getbestblockhash'));
    const [last] = await node.mine(1);
    let log = await atTip(dir, last!);
    expect(log.filter((event) => event.kind === 'connected')).toHaveLength(32);
    expect(log.filter((event) => event.ours && event.kind === 'connected')).toHaveLength(31);
    expect(log.filter((event) => event.kind === 'confirmed').length).toBeGreaterThanOrEqual(28);

    const fork = await node.rpc<string>('getblockhash', 28);
    await node.rpc('invalidateblock', fork);
    await until('it says that the node is behind', () =>
      chainStatus(dir)?.problems.some((line) => /is behind/.test(line)),
    );
    expect((await events(dir)).some((event) => event.kind === 'disconnected')).toBe(false);
    const branch = await node.mine(6);
    log = await atTip(dir, branch.at(-1)!);
    expect(log.filter((event) => event.kind === 'disconnected').map((event) => event.height)).toEqual([31, 30, 29, 28]);
    // Back to the old branch, which then grows longer.
    await node.rpc('reconsiderblock', fork);
    await node.rpc('invalidateblock', branch[0]);
    const back = await node.mine(4);
    log = await atTip(dir, back.at(-1)!);
    expect(told(log)).toEqual(
      await Promise.all(told(log).map((_, height) => node.rpc<string>('getblockhash', height))),
    );
    expect(
      log
        .filter((event) => event.hash === fork)
        .map((event) => event.kind)
        .filter((kind) => /connected$/.test(kind)),
    ).toEqual(['connected', 'disconnected', 'connected']);
    await until('the problem is over', () => chainStatus(dir)?.problems.length === 0);
  });

  test('killed with -9 again and again while catching up, it goes on from its own output: no gap, no double', async () => {
    const node = await toy();
    await node.mine(120);
    const dir = dataDir();
    const runner = fileURLToPath(new URL('./chain-runner.ts', import.meta.url));
    const config = JSON.stringify(configOf(dir, [node.rpcUrl]));
    let reached = 0;
    for (let kill = 0; kill < 6; kill++) {
      const child = spawn(process.execPath, [runner, config], { stdio: ['ignore', 'ignore', 'inherit'] });
      closers.push(() => child.kill('SIGKILL'));
      const ended = once(child, 'exit');
      const least = Math.min(121, reached + 1 + kill * 5);
      const log = await until('some blocks more', async () => {
        const now = await events(dir);
        return now.length >= least ? now : null;
      });
      reached = log.length;
      child.kill('SIGKILL');
      await ended;
      if (kill % 2 === 1) {
        const tip = await node.rpc<number>('getblockcount');
        await node.rpc('invalidateblock', await node.rpc('getblockhash', tip - 3));
        await node.mine(6);
      }
    }
    await startChain(configOf(dir, [node.rpcUrl]), testLife(closers));
    const log = await atTip(dir, await node.rpc('getbestblockhash'));
    const tip = await node.rpc<number>('getblockcount');
    expect(told(log)).toEqual(
      await Promise.all(Array.from({ length: tip + 1 }, (_, height) => node.rpc<string>('getblockhash', height))),
    );
  });

  test('a node that goes down and comes back is waited for, said once, and a second node serves meanwhile', async () => {
    const rpcPort = await freePort();
    const nodeDir = dataDir();
    const first = await toy({ dir: nodeDir, rpcPort });
    await first.mine(5);
    const dir = dataDir();
    const life = testLife(closers);
    await startChain(configOf(dir, [first.rpcUrl]), life);
    await atTip(dir, await first.rpc('getbestblockhash'));
    await first.close();
    await until('the status says so', () =>
      chainStatus(dir)?.problems.some((line) => /nobody listens there/.test(line)),
    );
    expect(life.lines.filter((line) => /waiting/.test(line))).toHaveLength(1);
    const again = await toy({ dir: nodeDir, rpcPort });
    const [hash] = await again.mine(1);
    await atTip(dir, hash!);
    expect(life.lines.some((line) => /^following again, height \d+$/.test(line))).toBe(true);

    const dead = `127.0.0.1:${await freePort()}`;
    const other = dataDir();
    const second = testLife(closers);
    await startChain(configOf(other, [dead, again.rpcUrl]), second);
    await atTip(other, hash!);
    await until('no problem is left', () => chainStatus(other)?.problems.length === 0);
  });

  test('a refused password is said in one line and waited for', async () => {
    const node = await toy();
    const dir = dataDir();
    const life = testLife(closers);
    const config = configOf(dir, [node.rpcUrl]);
    await startChain({ ...config, nodes: [{ ...config.nodes[0]!, pass: 'wrong' }] }, life);
    await until('it says so', () => life.lines.some((line) => /refuses user or password/.test(line)));
    await until('the status says so', () =>
      chainStatus(dir)?.problems.some((line) => /refuses user or password/.test(line)),
    );
    expect(life.lines.filter((line) => /refuses user or password/.test(line))).toHaveLength(1);
    expect(life.lines.join('\n')).not.toContain('wrong');
    expect(await life.stopped(0)).toBeUndefined();
  });

  test.each([
    ['another chain than the configured one', { chain: 'bitcoin' }, 'chain_mismatch', /not on the chain bitcoin/],
    [
      'an address of another chain',
      { btcAddress: 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu' },
      'config',
      /^"btcaddress": /,
    ],
  ] as const)('%s ends the program with one clear error', async (_, more, code, message) => {
    const node = await toy();
    const life = testLife(closers);
    await startChain(configOf(dataDir(), [node.rpcUrl], more), life);
    expect(await life.stopped()).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('a data directory that another follower holds is refused at once; a proxy without a node does without', async () => {
    const node = await toy();
    const dir = dataDir();
    const proxy = testLife(closers);
    await startChain(configOf(dir, [], { mode: 'proxy' }), proxy);
    expect(proxy.lines).toEqual([expect.stringMatching(/no chain is followed/)]);
    await startChain(configOf(dir, [node.rpcUrl]), testLife(closers));
    await expect(startChain(configOf(dir, [node.rpcUrl]), testLife(closers))).rejects.toMatchObject({ code: 'held' });
  });

  test('past max_reorg it stops and asks; a higher limit and a restart go on', async () => {
    const node = await toy();
    await node.mine(12);
    const dir = dataDir();
    const life = testLife(closers);
    await startChain(configOf(dir, [node.rpcUrl], { maxReorg: 3 }), life);
    await atTip(dir, await node.rpc('getbestblockhash'));
    await node.rpc('invalidateblock', await node.rpc('getblockhash', 6));
    const branch = await node.mine(10);
    await until('it asks', () => chainStatus(dir)?.problems.some((line) => /max_reorg/.test(line)));
    expect((await events(dir)).some((event) => event.kind === 'disconnected')).toBe(false);
    await life.end();
    await startChain(configOf(dir, [node.rpcUrl], { maxReorg: 20 }), testLife(closers));
    await atTip(dir, branch.at(-1)!);
  });
});

async function sessions(dir: string): Promise<SessionEvent[]> {
  const log = openJournalLog({ dir: openDataDir(dir).journal });
  const found: SessionEvent[] = [];
  for (let from: string | null = null; ; ) {
    const batch: RecordBatch = await log.read('session', 'chain', from, { maxRecords: 100, waitMs: 0 });
    for (const { fingerprint, body } of batch.records) found.push((await log.decoder('session', fingerprint))(body));
    if (batch.records.length === 0) break;
    from = batch.next;
  }
  await log.close();
  return found;
}

test('a chain that retargets otherwise than its profile is followed, and a problem for healthz, log and doctor', async () => {
  const clock = { s: 1_700_000_000 };
  const node = await toy({ nowMs: () => clock.s * 1_000 });
  for (let height = 1; height <= 50; height++) {
    clock.s += 5;
    await node.mine(1);
  }
  const dir = dataDir();
  const right = configOf(dir, [node.rpcUrl]);
  const other = join(dir, 'other.json');
  const json = JSON.parse(readFileSync(profile, 'utf8')) as Record<string, unknown>;
  writeFileSync(other, JSON.stringify({ ...json, target_spacing_s: 1 }));

  const expected = /block 48 has nBits 20[0-9a-f]{6}, the profile playground \(retarget rule bitcoin\) gives 207fffff/;
  const said: string[] = [];
  const life = testLife(closers);
  await startChain({ ...right, chain: other }, { ...life, log: (line) => void said.push(line) });
  await until('the status names it', () => {
    expect(chainStatus(dir)!.problems).toEqual([expect.stringMatching(expected)]);
    expect(chainStatus(dir)!.problems[0]).toContain('mend "retarget" in the profile');
    return true;
  });
  expect(said.filter((line) => expected.test(line))).toHaveLength(1);
  await node.mine(1);
  await atTip(dir, await node.rpc('getbestblockhash'));

  const look = async (config: Config) =>
    (await checkNodes(config, loadChain(config.chain), null, () => clock.s * 1_000)).findings
      .filter(({ state }) => state !== 'ok')
      .map(({ state, what, mend }) => `${state} ${what} → ${mend}`);
  expect(await look({ ...right, chain: other })).toEqual([expect.stringMatching(expected)]);
  expect(await look(right)).toEqual([]);
});

describe('several nodes', () => {
  test('on two branches: an event, a problem and the heavier branch; on one again: an event, also where a restart lay between', async () => {
    const [one, two] = [await toy(), await toy()];
    for (const hash of await one.mine(5)) await two.rpc('submitblock', await one.rpc('getblock', hash, 0));
    const dir = dataDir();
    const clock = { aheadUs: 0 };
    const options = { nowUs: () => Date.now() * 1_000 + clock.aheadUs };
    const config = configOf(dir, [one.rpcUrl, two.rpcUrl]);
    const life = testLife(closers);
    await startChain(config, life, options);
    await atTip(dir, await one.rpc('getbestblockhash'));
    const lost = await one.mine(2);
    await atTip(dir, lost.at(-1)!);
    const branch = await two.mine(4);
    await atTip(dir, branch.at(-1)!);
    expect(await sessions(dir)).toEqual([]);
    clock.aheadUs = 11e6;
    const problem = await until('the status says so', () =>
      chainStatus(dir)?.problems.find((line) => /different branches/.test(line)),
    );
    expect(problem).toMatch(/^nodes are on different branches above height 5: .* at 9 .* against .* at 7 .*, since 20/);
    expect(chainStatus(dir)!.values).toMatchObject({ nodes_usable_count: 2, nodes_fork_height: 5 });
    await until('the event', async () => (await sessions(dir)).length === 1);
    await life.end();

    for (const hash of branch) await one.rpc('submitblock', await two.rpc('getblock', hash, 0));
    await startChain(config, testLife(closers), options);
    await until('the second event', async () => (await sessions(dir)).length === 2);
    expect((await sessions(dir)).map(({ kind, instance }) => `${instance} ${kind}`)).toEqual([
      'chain nodes_disagree',
      'chain nodes_agree',
    ]);
    await until('no problem is left', () => chainStatus(dir)?.problems.length === 0);
    expect(told(await events(dir))).toEqual(
      await Promise.all(Array.from({ length: 10 }, (_, height) => two.rpc<string>('getblockhash', height))),
    );
  });

  test('one on another chain is a problem and is not followed; the program goes on with the other', async () => {
    const node = await toy();
    const [hash] = await node.mine(3).then((all) => all.slice(-1));
    const lying = await startLyingNode(
      { rpcUrl: node.rpcUrl, user: 'u', pass: 'p' },
      { getblockhash: ([height]) => (height === 0 ? { result: '11'.repeat(32) } : null) },
    );
    closers.push(() => lying.close());
    const dir = dataDir();
    const life = testLife(closers);
    await startChain(configOf(dir, [node.rpcUrl, lying.rpcUrl]), life);
    await atTip(dir, hash!);
    await until('the status says so', () => chainStatus(dir)?.problems.some((line) => /not on the chain/.test(line)));
    expect(await life.stopped(0)).toBeUndefined();
  });
});

describe('a node that lies or is silent', () => {
  test.each<[string, LyingNode['lies'], RegExp]>([
    ['garbage', { '*': () => ({ raw: '<html>hello</html>' }) }, /a body that is not JSON: hello/],
    ['JSON of another kind', { '*': () => ({ raw: '[1,2]' }) }, /no JSON-RPC object: \[1,2\]/],
    ['a height that is text', { getblockchaininfo: () => ({ result: { blocks: '5' } }) }, /should be a whole number/],
    [
      'a hash that is none',
      { getblockhash: ([h]) => (h === 0 ? null : { result: 'abc' }) },
      /should be 32 bytes as hex/,
    ],
    [
      'a block that is cut',
      { getblock: async (_, truth) => ({ result: String(await truth()).slice(0, 150) }) },
      /block [0-9a-f]{64}: /,
    ],
    ['an answer of 70 MB', { getblock: () => ({ hugeBytes: 70e6 }) }, /the answer is larger than 67108864 bytes/],
    [
      'pruned blocks',
      { getblock: () => ({ error: { code: -1, message: 'Block not available (pruned data)' } }) },
      /is pruned and no longer has block/,
    ],
    [
      'a line cut within the answer',
      { getblock: () => ({ cut: true }) },
      /the connection (?:ended within the answer|was closed)/,
    ],
    [
      'words for a refusal',
      { getblock: () => ({ error: { code: -5, message: 'Block not found' } }) },
      /Block not found \(code -5\)/,
    ],
  ])('%s: said in one line of log and status, and no event', async (_, lies, expected) => {
    const node = await toy();
    await node.mine(2);
    const lying = await startLyingNode({ rpcUrl: node.rpcUrl, user: 'u', pass: 'p' }, lies);
    closers.push(() => lying.close());
    const dir = dataDir();
    const life = testLife(closers);
    await startChain(configOf(dir, [lying.rpcUrl]), life);
    await until('the status says so', () => chainStatus(dir)?.problems.some((line) => expected.test(line)));
    expect(await events(dir)).toEqual([]);
    expect(life.lines.filter((line) => expected.test(line))).toHaveLength(1);
    // The truth heals it.
    lying.lies = {};
    await atTip(dir, await node.rpc('getbestblockhash'));
    await until('no problem is left', () => chainStatus(dir)?.problems.length === 0);
  });

  test('one that hangs amid following is said after five seconds, while the call still waits', async () => {
    const node = await toy();
    const [hash] = await node.mine(1);
    const lying = await startLyingNode({ rpcUrl: node.rpcUrl, user: 'u', pass: 'p' });
    closers.push(() => lying.close());
    const dir = dataDir();
    await startChain(configOf(dir, [lying.rpcUrl]), testLife(closers));
    await atTip(dir, hash!);
    lying.lies = { '*': () => ({ hang: true }) };
    await until('the status says so', () =>
      chainStatus(dir)?.problems.some((line) => /^node \S+ has not answered for \d+ s$/.test(line)),
    );
  });

  test('ZMQ that is dead or speaks garbage: blocks are found by asking, and the status says that nobody publishes', async () => {
    const node = await toy();
    const publisher = new Publisher({ linger: 0 });
    await publisher.bind('tcp://127.0.0.1:*');
    closers.push(() => publisher.close());
    const dir = dataDir();
    const zmqBlock = `${publisher.lastEndpoint},tcp://127.0.0.1:${await freePort()}`;
    await startChain(configOf(dir, [node.rpcUrl], { zmqBlock }), testLife(closers));
    await atTip(dir, await node.rpc('getbestblockhash'));
    for (let i = 0; i < 20; i++) {
      const body = Buffer.alloc(i * 7, i);
      await publisher.send([i % 2 === 0 ? 'hashblock' : 'rawblock', body, Buffer.alloc(4, i)]);
    }
    const [hash] = await node.mine(1);
    await atTip(dir, hash!);
    await until('the status says so', () => chainStatus(dir)?.values.zmq_connected === 0);
    expect((await events(dir)).map(({ height }) => height)).toEqual([0, 1]);
  });
});

const litecoind = await havePart('node', startLitecoind);
describe.skipIf(litecoind === undefined)('the chain program on litecoind', () => {
  test('subsidy, fees, size, times and counts equal getblockstats, MWEB blocks included', {
    timeout: 360_000,
  }, async () => {
    const node = litecoind!;
    closers.push(() => node.stop());
    await node.activateMweb();
    for (let i = 0; i < 5; i++) {
      for (let n = 0; n <= i; n++) await node.rpc('sendtoaddress', await node.rpc('getnewaddress', '', 'bech32'), 0.5);
      await node.rpc('generatetoaddress', 1, await node.rpc('getnewaddress', '', 'bech32'));
    }
    const dir = dataDir();
    const config = configOf(dir, [node.rpcUrl], { chain: 'auto' });
    const own = { ...config, nodes: [{ url: node.rpcUrl, auth: node.user, pass: node.pass, notify: false }] };
    await startChain(own, testLife(closers));
    const log = await atTip(dir, await node.rpc('getbestblockhash'));
    expect(log.every((event) => event.chain === 'litecoin-regtest')).toBe(true);
    // Every block that carries fees, the first of a halving epoch, and some others.
    const heights = [1, 2, 100, 149, 150, 151, 300, 431, 432, 433, 434, 435, 436, 437];
    let fees = 0n;
    for (const height of heights) {
      const event = log.find((each) => each.height === height)!;
      const stats = await node.rpc<Record<string, number>>('getblockstats', height);
      expect(BigInt(event.subsidy_sats), `subsidy of ${height}`).toBe(BigInt(stats.subsidy!));
      expect(BigInt(event.fees_sats), `fees of ${height}`).toBe(BigInt(stats.totalfee!));
      expect(event.tx_count).toBe(stats.txs);
      expect(event.block_time_us).toBe(stats.time! * 1e6);
      expect(event.median_time_us).toBe(stats.mediantime! * 1e6);
      const block = await node.rpc<{ size: number; versionHex: string; bits: string }>('getblock', event.hash);
      expect(event.size_bytes).toBe(block.size);
      expect(event.version).toBe(block.versionHex);
      expect(event.nbits).toBe(block.bits);
      fees += BigInt(event.fees_sats);
    }
    expect(fees).toBeGreaterThan(0n);
    await node.rpc('invalidateblock', await node.rpc('getblockhash', 436));
    const branch = await node.rpc<string[]>('generatetoaddress', 3, await node.rpc('getnewaddress', '', 'bech32'));
    const after = await atTip(dir, branch.at(-1)!);
    expect(after.filter((event) => event.kind === 'disconnected').map((event) => event.height)).toEqual([437, 436]);
  });
});
