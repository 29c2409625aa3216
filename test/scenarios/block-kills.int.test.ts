/** Solved blocks whose processes die before the node has answered: each is on the chain in the end. Real processes, `kill -9`. */
import { readdirSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { targetFromBits } from '../../services/core/bitcoin/target.ts';
import { createNodeRpc } from '../../services/core/node/rpc.ts';
import { startToyChain } from '../../services/playground/main.ts';
import { freePort, type Leashed, tempDir, until } from '../helpers/leash.ts';
import { childrenOf } from '../helpers/processes.ts';
import { lodestream } from '../helpers/tree.ts';
import { Client, type Found } from '../services/stratum/rig.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Stands between the pool and the node; closed, it takes requests and gives no answer. */
async function gate(to: number): Promise<{ port: number; open: boolean }> {
  const state = { port: 0, open: true };
  const server: Server = createServer((client) => {
    const sockets: Socket[] = [client];
    client.on('error', () => {});
    let node: Socket | null = null;
    client.on('data', (chunk) => {
      if (!state.open) return;
      if (node === null) {
        node = connectTo(to);
        sockets.push(node);
        node.on('data', (answer) => state.open && client.write(answer));
        node.on('close', () => client.destroy());
      }
      node.write(chunk);
    });
    client.on('close', () => {
      for (const socket of sockets) socket.destroy();
    });
    all.push(client);
  });
  const all: Socket[] = [];
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    for (const socket of all) socket.destroy();
    server.close();
  });
  state.port = (server.address() as { port: number }).port;
  return state;
}

function connectTo(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  return socket;
}

let dir: { path: string; remove(): void };
let toy: Awaited<ReturnType<typeof startToyChain>>;
let door: Awaited<ReturnType<typeof gate>>;
let pool: Leashed;
let port: number;
let args: string[];

async function start(): Promise<void> {
  pool = await lodestream(args);
  const { stop } = pool;
  ends.push(() => stop());
  await until(
    () => `the pool to listen (${pool.output().slice(-1000)})`,
    () => pool.output().includes('stratum listens'),
  );
}

beforeEach(async () => {
  dir = tempDir('block-kills');
  ends.push(() => dir.remove());
  toy = await startToyChain({
    dir: join(dir.path, 'toy'),
    rpcPort: 0,
    zmqPort: null,
    user: 'u',
    pass: 'p',
    trafficPerSecond: 20,
    longPollQuietMs: 50,
  });
  ends.push(() => toy.close());
  const rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  ends.push(() => rpc.close());
  await rpc.call('generatetoaddress', [toy.chain.profile.coinbase_maturity + 5, toy.fundingAddress]);
  await until('transactions wait', () => toy.mempool.size > 3);
  door = await gate(Number(new URL(toy.rpcUrl).port));
  port = await freePort();
  const file = join(dir.path, 'ckpool.conf');
  const config = {
    btcd: [{ url: `http://127.0.0.1:${door.port}`, auth: 'u', pass: 'p' }],
    btcaddress: toy.fundingAddress,
    logdir: join(dir.path, 'logs'),
    mindiff: 1e-9,
    startdiff: 1e-9,
    lodestream: { listen: [`127.0.0.1:${port}`], data_dir: join(dir.path, 'data') },
  };
  writeFileSync(file, JSON.stringify(config));
  args = ['pool', '--config', file, '--sockdir', join(dir.path, 'sock')];
  await start();
});

async function miner(session?: string): Promise<Client> {
  const client = await Client.open(port);
  ends.push(() => client.destroy());
  await client.subscribe('test/1', session);
  await client.call('mining.authorize', ['alice.w1', 'x']);
  await until('a job', () => client.jobs.length > 0);
  return client;
}

const solve = (client: Client, from = 0): Found =>
  client.mine(client.job, { solves: targetFromBits(Number.parseInt(client.job.params[6] as string, 16)), from });

const waiting = (): string[] =>
  readdirSync(join(dir.path, 'data', 'blocks'))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, 64));

test.each(['the parent', 'the worker, then the parent', 'all at once'] as const)(
  'a block with transactions that waits for a silent node is sent by the next start where %s died',
  async (who) => {
    const client = await miner();
    await until('the transactions of the job on disk', () =>
      readdirSync(join(dir.path, 'data', 'templates')).some((name) => name.endsWith('.bin')),
    );
    const share = solve(client);
    door.open = false;
    expect((await client.submit('alice.w1', share)).result).toBe(true);
    const [hash] = await until('its file', () => (waiting().length === 1 ? waiting() : null));
    expect(toy.chain.get(hash!)).toBeUndefined();
    const workers = childrenOf(pool.pid);
    if (who !== 'the parent') for (const pid of workers) process.kill(pid, 'SIGKILL');
    if (who === 'the worker, then the parent') {
      await until('the worker in its place', () => pool.output().includes('was killed by SIGKILL; started again'));
    }
    process.kill(pool.pid, 'SIGKILL');
    await pool.exited;
    door.open = true;
    await start();
    await until('the block on the chain', () => toy.chain.get(hash!) !== undefined);
    await until('no block to wait', () => waiting().length === 0);
    // Sent again, the share is known: the block's miner is not credited twice.
    const again = await miner(client.sessionId);
    expect(again.enonce1).toBe(client.enonce1);
    expect(['Duplicate', 'Stale']).toContain((await again.submit('alice.w1', share)).error?.[1]);
  },
);

test('a block on a job that only the journal knows, after everything was killed, is built from the transactions on disk', async () => {
  const client = await miner();
  await until('the transactions of the job on disk', () =>
    readdirSync(join(dir.path, 'data', 'templates')).some((name) => name.endsWith('.bin')),
  );
  const share = solve(client);
  for (const pid of [...childrenOf(pool.pid), pool.pid]) process.kill(pid, 'SIGKILL');
  await pool.exited;
  // Half a file, as a cut of power leaves one, beside it.
  writeFileSync(join(dir.path, 'data', 'templates', `${'ab'.repeat(16)}.bin`), 'LST1half');
  await start();
  const again = await miner(client.sessionId);
  expect(again.enonce1).toBe(client.enonce1);
  const before = toy.chain.tip.height;
  expect((await again.submit('alice.w1', share)).result).toBe(true);
  await until('the block on the chain', () => toy.chain.tip.height > before);
  expect(toy.chain.tip.txCount).toBeGreaterThan(1);
});
