/** Blocks with transactions: the job holds some kB, the block is whole, in one process, with workers, and after a restart. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { addressFromScript } from '../../../../services/core/bitcoin/address.ts';
import { parseBlockSummary } from '../../../../services/core/bitcoin/block.ts';
import { bytesFromHex, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { bitsFromHex, targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../../../services/core/config.ts';
import { createNodeRpc } from '../../../../services/core/node/rpc.ts';
import { type RunningToyChain, startToyChain } from '../../../../services/playground/main.ts';
import { startPool } from '../../../../services/stratum/main.ts';
import { startPoolTree } from '../../../../services/stratum/parent.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { writeProfile } from '../../playground/easy-chain.ts';
import { Client, type Found, journaled, testLife, type Work } from '../rig.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

let toy: RunningToyChain;
let config: Config;
beforeEach(async () => {
  const dir = tempDir('job-blocks');
  ends.push(() => dir.remove());
  // The easiest that the playground allows: some 500 hashes a block.
  const chain = writeProfile(dir.path, 0x1f7fffff);
  toy = await startToyChain({
    profile: loadChain(chain),
    dir: join(dir.path, 'toy'),
    rpcPort: 0,
    zmqPort: 0,
    user: 'u',
    pass: 'p',
    trafficPerSecond: 50,
    longPollQuietMs: 50,
  });
  ends.push(() => toy.close());
  const rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());
  await rpc.call('generatetoaddress', [toy.chain.profile.coinbase_maturity + 5, toy.fundingAddress]);
  await until('transactions wait', () => toy.mempool.size > 5);
  config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } }, {}),
    listen: [{ ...loadConfig({}, {}).listen[0]!, host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    chain,
    btcAddress: toy.fundingAddress,
    updateIntervalS: 1,
    minDiff: 1e-8,
    startDiff: 1e-7,
  };
});

async function start(): Promise<{ client(): Promise<Client>; lines: string[]; end(): Promise<void> }> {
  const run = testLife();
  const pool = await startPool(config, run.life);
  return {
    lines: run.lines,
    end: run.end,
    client: async () => {
      const made = await Client.open(pool.addresses[0]!.port);
      ends.push(() => made.destroy());
      return made;
    },
  };
}

const solve = (client: Client, work: Work, from = 0): Found =>
  client.mine(work, { solves: targetFromBits(bitsFromHex(work.params[6] as string)), from });

test('a solved share becomes a block with all transactions of its template, and their ids can be asked for', async () => {
  const pool = await start();
  const client = await pool.client();
  await client.login();
  const work = client.job;
  expect(work.params[4]).not.toEqual([]);
  const count = (await client.call('mining.get_transactions', [work.id])).result as number;
  const ids = ((await client.call('mining.get_txnhashes', [work.id])).result as string).trim().split(' ');
  expect(ids).toHaveLength(count);
  const before = toy.chain.tip.height;
  expect((await client.submit('alice.w1', solve(client, work))).result).toBe(true);
  await until('the block', () => toy.chain.tip.height === before + 1);
  const rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());
  const block = await rpc.call<{ tx: string[]; size: number }>('getblock', [toy.chain.tip.hash]);
  expect(block.tx.slice(1)).toEqual(ids);
  await until('its answer', async () =>
    (await journaled(config.dataDir, 'ckpool', 'block')).some((each) => each.answers.length > 0),
  );
  const [solved] = await journaled(config.dataDir, 'ckpool', 'block');
  expect(solved).toMatchObject({ tx_count: count + 1, size_bytes: block.size, hash: toy.chain.tip.hash });
  expect(existsSync(join(config.dataDir, 'blocks', `${solved!.hash}.json`))).toBe(false);
  await pool.end();
});

test('a job that only the journal remembers still gives a whole block', async () => {
  const first = await start();
  const client = await first.client();
  await client.login();
  const work = client.job;
  const share = solve(client, work);
  await until('the transactions are on disk', () =>
    readdirSync(join(config.dataDir, 'templates')).some((name) => name.endsWith('.bin')),
  );
  await first.end();
  const second = await start();
  const again = await second.client();
  await again.subscribe('test/1', client.sessionId);
  expect(again.enonce1).toBe(client.enonce1);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  const before = toy.chain.tip.height;
  expect((await again.submit('alice.w1', share)).result).toBe(true);
  await until('the block', () => toy.chain.tip.height === before + 1);
  const rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());
  expect((await rpc.call<{ tx: string[] }>('getblock', [toy.chain.tip.hash])).tx.length).toBeGreaterThan(5);
  await second.end();
});

test('of a worker: the parent puts the transactions behind, in solo mode too, and pays the finder', async () => {
  config = { ...config, solo: true, btcAddress: null };
  const run = testLife();
  const pool = await startPoolTree(config, run.life, () => config);
  ends.push(() => run.end());
  const client = await Client.open(pool.addresses[0]!.port);
  ends.push(() => client.destroy());
  const script = `0014${'5a'.repeat(20)}`;
  const address = addressFromScript(bytesFromHex(script), toy.chain.profile.address)!;
  await client.login(`${address}.rig`);
  const work = client.job;
  const ids = ((await client.call('mining.get_txnhashes', [work.id])).result as string).trim().split(' ');
  expect(ids.length).toBeGreaterThan(3);
  const before = toy.chain.tip.height;
  expect((await client.submit(`${address}.rig`, solve(client, work))).result).toBe(true);
  await until('the block', () => toy.chain.tip.height > before);
  const block = parseBlockSummary(toy.chain.bytes(toy.chain.at(before + 1)!));
  expect(block.txCount).toBe(ids.length + 1);
  expect(hexFromBytes(block.coinbase.outputs[0]!.script)).toBe(script);
  await until('no block waits on disk', () => readdirSync(join(config.dataDir, 'blocks')).length === 0);
});
