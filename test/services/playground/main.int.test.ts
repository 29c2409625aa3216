/** The playground as a whole: toy chain, the real pool, the CPU miner, over their sockets. */
import * as net from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { scriptFromAddress } from '../../../services/core/bitcoin/address.ts';
import { parseBlock } from '../../../services/core/bitcoin/block.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../services/core/config.ts';
import type { Lifecycle } from '../../../services/core/lifecycle.ts';
import {
  type CpuMiner,
  type RunningToyChain,
  startCpuMiner,
  startToyChain,
} from '../../../services/playground/main.ts';
import { startPool } from '../../../services/stratum/main.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { writeProfile } from './easy-chain.ts';

/** A Lifecycle that a test ends itself. */
function testLife(lines: string[]): Lifecycle & { end(): Promise<void> } {
  const controller = new AbortController();
  const closers: (() => Promise<void> | void)[] = [];
  return {
    log: (line) => lines.push(line),
    signal: controller.signal,
    onStop: (_what, close) => closers.push(close),
    onHangup: () => {},
    stop: () => controller.abort(),
    async end() {
      controller.abort();
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
}

describe('toy chain, pool and miner', () => {
  const dir = tempDir('playground');
  const lines: string[] = [];
  const life = testLife(lines);
  // 65,536 hashes a block at first, where the playground has 131,072.
  const profile = writeProfile(dir.path, 0x1f00ffff);
  let toy: RunningToyChain;
  let miner: CpuMiner;
  let stratumPort: number;
  let rpcPort: number;

  const startToy = (): Promise<RunningToyChain> =>
    startToyChain({
      dir: join(dir.path, 'toy'),
      rpcPort,
      zmqPort: 0,
      profile: loadChain(profile),
      user: 'u',
      pass: 'p',
      trafficPerSecond: 50,
    });

  beforeAll(async () => {
    rpcPort = await freePort();
    toy = await startToy();
    const config = loadConfig({ options: { 'lodestream.data_dir': dir.path, logdir: join(dir.path, 'logs') } }, {});
    const pool = await startPool(
      {
        ...config,
        chain: profile,
        nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
        btcAddress: toy.fundingAddress,
        zmqBlock: toy.zmqUrl,
        minDiff: 1e-7,
        startDiff: 1e-5,
        listen: [{ host: '127.0.0.1', port: 0 }],
        highDiffListeners: [],
      },
      life,
    );
    stratumPort = pool.addresses[0]!.port;
    miner = startCpuMiner({
      host: '127.0.0.1',
      port: stratumPort,
      user: 'alice.cpu1',
      pass: 'x',
      dutyCycle: 1,
      log: (line) => lines.push(line),
    });
  });
  afterAll(async () => {
    await miner.close();
    await life.end();
    await toy.close();
    dir.remove();
  });

  it('shares are accepted, none refused but those that crossed a block, and blocks found that the toy chain took', async () => {
    await until('three blocks', () => toy.chain.tip.height >= 3);
    await until('accepted shares', () => miner.counters().accepted >= 5);
    const counters = miner.counters();
    // What was sent while the news of a block was on its way is stale, rightly; the miner gives up old work as soon as it hears.
    const { Stale = 0, ...others } = counters.reasons;
    expect(others).toEqual({});
    expect(Stale).toBeLessThan(counters.accepted);
    expect(counters).toMatchObject({ connected: true, authorized: true, rejected: Stale, connections: 1 });
    expect(counters.hashrateHps).toBeGreaterThan(1_000);
    const coinbase = parseBlock(toy.chain.bytes(toy.chain.tip)).txs[0]!;
    expect(coinbase.outputs[0]!.script).toEqual(scriptFromAddress(toy.fundingAddress, toy.chain.profile.address));
    // BIP 310: the miner rolls bits inside the mask, and the block has them.
    const versions = Array.from({ length: toy.chain.tip.height }, (_, i) => toy.chain.at(i + 1)!.header.version);
    expect(versions.every((version) => (version & ~0x1fffe000) >>> 0 === 0x20000000)).toBe(true);
  }, 360_000);

  it('blocks carry fees as soon as the first coinbase is mature', async () => {
    const fees = (): boolean => {
      const { txs } = parseBlock(toy.chain.bytes(toy.chain.tip));
      const claimed = txs[0]!.outputs.reduce((sum, { valueSats }) => sum + valueSats, 0n);
      return txs.length > 1 && claimed > 5_000_000_000n;
    };
    await until('a block with transactions and fees', fees, { everyMs: 10 });
  }, 360_000);

  it('the toy chain started again goes on where it was, and the pool and the miner with it', async () => {
    const { hash, height } = toy.chain.tip;
    await toy.close();
    toy = await startToy();
    expect(toy.chain.at(height)?.hash).toBe(hash);
    await until('the next block', () => toy.chain.tip.height > height);
    expect(miner.counters().connections).toBe(1);
  }, 270_000);
});

describe('the miner', () => {
  const cleanups: (() => Promise<unknown> | unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  it('connects again after the line ended, after nonsense and after client.reconnect', async () => {
    const ends: ((socket: net.Socket) => void)[] = [
      (socket) => socket.destroy(),
      (socket) => socket.write('this is no JSON\n'),
      (socket) => socket.write('{"id":null,"method":"client.reconnect","params":[]}\n'),
      (socket) => socket.write('{"id":null,"method":"mining.notify","params":[1,2,3]}\n'),
    ];
    let connections = 0;
    const greetings: string[] = [];
    const server = net.createServer((socket) => {
      const end = ends[connections++];
      socket.on('error', () => {});
      socket.once('data', (chunk) => {
        greetings.push(chunk.toString());
        end?.(socket);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const miner = startCpuMiner({ host: '127.0.0.1', port, user: 'u', pass: 'x' });
    cleanups.push(() => miner.close());
    await until('a fifth connection', () => connections === 5 && greetings.length === 5);
    expect(miner.counters()).toMatchObject({ connections: 5, authorized: false, submitted: 0 });
    for (const greeting of greetings) expect(greeting).toMatch(/^\{"id":1,"method":"mining.configure"/);
  });

  it('takes no more of a core than its duty cycle', async () => {
    const notify = ['1', '00'.repeat(32), '00', '00', [], '20000000', '1d00ffff', '6553f100', true];
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        for (const line of chunk.toString().trim().split('\n')) {
          const { id, method } = JSON.parse(line) as { id: number; method: string };
          const result = method === 'mining.subscribe' ? [[], '00000000', 4] : method !== 'mining.configure';
          socket.write(`${JSON.stringify({ id, result, error: null })}\n`);
          if (method !== 'mining.authorize') continue;
          socket.write('{"id":null,"method":"mining.set_difficulty","params":[1000000]}\n');
          socket.write(`${JSON.stringify({ id: null, method: 'mining.notify', params: notify })}\n`);
        }
      });
      cleanups.push(() => socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const hashesAt = async (dutyCycle: number): Promise<number> => {
      const miner = startCpuMiner({ host: '127.0.0.1', port, user: 'u', pass: 'x', dutyCycle });
      await until('it hashes', () => miner.counters().hashes > 0);
      const before = process.cpuUsage();
      const begun = performance.now();
      await until('some hashes', () => miner.counters().hashes > 100_000 * dutyCycle);
      const { user, system } = process.cpuUsage(before);
      const share = (user + system) / 1_000 / (performance.now() - begun);
      await miner.close();
      return share;
    };
    // Shares of a core, the test's own work included; the machine may be busy, hence the wide bounds.
    expect(await hashesAt(0.1)).toBeLessThan(0.6);
  });
});
