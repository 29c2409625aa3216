/** A new block whose template is late: miners get an empty job on it, and what they find there is a valid block. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { parseBlock } from '../../../../services/core/bitcoin/block.ts';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { bitsFromHex, targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../../services/core/config.ts';
import { createNodeRpc } from '../../../../services/core/node/rpc.ts';
import { startToyChain } from '../../../../services/playground/main.ts';
import { startPool } from '../../../../services/stratum/main.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { writeProfile } from '../../playground/easy-chain.ts';
import { Client, testLife } from '../rig.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test('an empty block found on a job that was sent before the full template is accepted by the chain', async () => {
  const dir = tempDir('job-empty');
  ends.push(() => dir.remove());
  const chain = writeProfile(dir.path, 0x1e7fffff);
  const toy = await startToyChain({
    profile: loadChain(chain),
    dir: join(dir.path, 'toy'),
    rpcPort: 0,
    zmqPort: 0,
    user: 'u',
    pass: 'p',
    trafficPerSecond: 0,
  });
  ends.push(() => toy.close());
  const rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());

  // Between the pool and its node: templates can be held back.
  let hold = false;
  const held: (() => void)[] = [];
  const between = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', async () => {
      const { id, method, params } = JSON.parse(body) as { id: number; method: string; params: unknown[] };
      const answer = await rpc.call(method, params).then(
        (result) => ({ id, result, error: null }),
        (error: Error) => ({ id, result: null, error: { code: -1, message: error.message } }),
      );
      if (method === 'getblocktemplate' && hold) await new Promise<void>((go) => held.push(go));
      response.end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    between.closeAllConnections();
    between.close();
  });

  const run = testLife();
  const config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } }, {}),
    listen: [{ ...loadConfig({}, {}).listen[0]!, host: '127.0.0.1', port: 0 }],
    nodes: [{ url: `127.0.0.1:${(between.address() as AddressInfo).port}`, auth: 'u', pass: 'p', notify: false }],
    chain,
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
    emptyJobAfterMs: 50,
  };
  const pool = await startPool(config, run.life);
  ends.push(() => run.end());
  const client = await Client.open(pool.addresses[0]!.port);
  ends.push(() => client.destroy());
  await client.login();

  hold = true;
  await rpc.call('generatetoaddress', [1, toy.fundingAddress]);
  await until('an empty job on the new block', () => client.jobs.length === 2);
  expect(client.job.clean).toBe(true);
  expect(client.job.params[4]).toEqual([]);
  const empty = client.job;
  const share = client.mine(empty, { atLeast: client.difficulty, below: 1e-5 });
  const solve = client.mine(empty, { solves: targetFromBits(bitsFromHex(empty.params[6] as string)) });
  hold = false;
  for (const go of held.splice(0)) go();
  await until('the full job', () => client.jobs.length === 3);
  expect(client.job.clean).toBe(false);

  // Work on the empty job is not stale: it is on the same block.
  expect((await client.submit('alice.w1', share)).result).toBe(true);
  expect((await client.submit('alice.w1', solve)).result).toBe(true);
  await until('the block', () => toy.chain.tip.height === 2);
  const block = parseBlock(toy.chain.bytes(toy.chain.tip));
  expect(block.txs).toHaveLength(1);
  expect(hexFromBytes(block.coinbase.inputs[0]!.script)).toContain('6c6f646573747265616d');
  await until('it is said', () => run.lines.some((line) => line.includes('accepted by')));
});
