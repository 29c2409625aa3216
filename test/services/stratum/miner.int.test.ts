/** A miner and nodes that nobody here wrote: pooler's minerd on the playground's toy chain and on Litecoin Core in regtest. */
import { readdirSync, readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { readStatuses } from '../../../services/core/status.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { startPool, startProxy } from '../../../services/stratum/main.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { startLitecoind } from '../../helpers/litecoind.ts';
import { findMinerd, type Minerd, startMinerd } from '../../helpers/minerd.ts';
import { havePart } from '../../helpers/require.ts';
import { ADDRESS_REGTEST, Client, journaled, testLife } from './rig.ts';

const miner = await havePart('miner', findMinerd);
const litecoind = await havePart('node', startLitecoind);

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function directory(name: string): string {
  const dir = tempDir(name);
  ends.push(() => dir.remove());
  return dir.path;
}

function configuration(dir: string, changes: Partial<Config>): Config {
  return {
    ...loadConfig({ options: { 'lodestream.data_dir': dir, logdir: join(dir, 'logs') }, logShares: true }, {}),
    listen: [{ host: '127.0.0.1', port: 0 }],
    blockPollMs: 200,
    updateIntervalS: 5,
    ...changes,
  };
}

async function mine(port: number, algorithm: 'sha256d' | 'scrypt', user: string): Promise<Minerd> {
  const started = await startMinerd({ url: `stratum+tcp://127.0.0.1:${port}`, user, algorithm });
  if ('missing' in started) throw new Error(started.missing);
  ends.push(() => started.stop());
  return started;
}

test.skipIf(!miner)(
  'minerd through a proxy and a pool: shares of both origins, blocks that the chain validated',
  async () => {
    const dir = directory('toy');
    const toy = await startToyChain({ dir: join(dir, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
    ends.push(() => toy.close());
    const pool = testLife();
    const config = configuration(join(dir, 'pool'), {
      nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
      zmqBlock: toy.zmqUrl,
      btcAddress: toy.fundingAddress,
      minDiff: 1e-7,
      startDiff: 2e-6,
    });
    const running = await startPool(config, pool.life);
    const proxy = testLife();
    const below = configuration(join(dir, 'proxy'), {
      mode: 'proxy',
      name: 'ckproxy',
      origin: 'ckproxy',
      chain: 'playground',
      upstreams: [{ url: `127.0.0.1:${running.addresses[0]!.port}`, auth: 'farm.proxy', pass: 'x' }],
      minDiff: 1e-7,
      startDiff: 1e-6,
    });
    const between = await startProxy(below, proxy.life);
    const minerd = await mine(between.addresses[0]!.port, 'sha256d', 'alice.rig1');
    await minerd.accepted(30);
    await until('three blocks', () => toy.chain.tip.height >= 3);
    // Late shares of a block that another one overtook are stale; nothing else may be refused.
    expect(new Set(minerd.tally.reasons.filter((reason) => reason !== 'Stale'))).toEqual(new Set());
    const status = readStatuses(join(dir, 'pool', 'status')).find((each) => each.program === 'ckpool');
    expect(status?.problems).toEqual([]);
    expect(status?.values).toMatchObject({ connections: 1, workers: 1, chain: 'playground' });
    await minerd.stop();
    await proxy.end();
    await pool.end();

    const shares = await journaled(config.dataDir, 'ckpool', 'share');
    const proxied = await journaled(below.dataDir, 'ckproxy', 'share');
    const accepted = new Set(shares.filter((share) => share.accepted).map((share) => share.hash));
    expect(accepted.size).toBeGreaterThan(5);
    expect(proxied.filter((share) => share.kind === 'submitted' && share.accepted).length).toBeGreaterThanOrEqual(30);
    for (const verdict of proxied.filter((share) => share.kind === 'verdict' && share.accepted)) {
      expect(accepted).toContain(verdict.hash);
    }
    const solved = await journaled(config.dataDir, 'ckpool', 'block');
    const taken = solved.filter((block) => block.answers.some((each) => each.answer === 'accepted'));
    expect(taken.length).toBeGreaterThanOrEqual(3);
    // Each line of the share logs is an event, and the other way round.
    const folders = readdirSync(join(config.logDir)).filter((name) => /^[0-9a-f]{8}$/.test(name));
    const lines = folders.flatMap((folder) =>
      readdirSync(join(config.logDir, folder)).flatMap((file) =>
        readFileSync(join(config.logDir, folder, file), 'utf8')
          .trimEnd()
          .split('\n'),
      ),
    );
    const hashes = lines
      .map((line) => JSON.parse(line))
      .map((line) => [line.hash, line.createdate, line.result].join());
    expect(new Set(hashes).size).toBe(shares.length);
  },
  270_000,
);

describe.skipIf(!litecoind || !miner)('Litecoin Core in regtest', () => {
  test('takes blocks of scrypt shares with the extension block, and minerd speaks to the pool', async () => {
    const node = litecoind!;
    ends.push(() => node.stop());
    await node.activateMweb();
    const before = await node.rpc<number>('getblockcount');
    const dir = directory('ltc');
    const { life, lines, end } = testLife();
    const address = await node.rpc<string>('getnewaddress', '', 'bech32');
    const config = configuration(dir, {
      nodes: [{ url: node.rpcUrl, auth: node.user, pass: node.pass, notify: false }],
      btcAddress: address,
      minDiff: 1e-6,
      startDiff: 1e-5,
      versionMask: 0x1fffe000,
    });
    const pool = await startPool(config, life);
    ends.push(end);
    expect(pool.daemon.profile.name).toBe('litecoin-regtest');
    const minerd = await mine(pool.addresses[0]!.port, 'scrypt', 'carol.rig1');
    await minerd.accepted(10);
    await until('five blocks', async () => (await node.rpc<number>('getblockcount')) >= before + 5);
    await minerd.stop();
    await until(
      'the answers are journaled',
      async () =>
        (await journaled(dir, 'ckpool', 'block')).filter((block) =>
          block.answers.some((each) => each.answer === 'accepted'),
        ).length >= 5,
    );
    const shares = await journaled(dir, 'ckpool', 'share');
    const [block] = (await journaled(dir, 'ckpool', 'block')).filter((each) => each.answers.length > 0);
    const onChain = await node.rpc('getblock', block!.hash, 2);
    expect(onChain.height).toBe(block!.height);
    expect(onChain.tx[0].vout[0].scriptPubKey.hex).toBe(block!.coinbase_outputs[0]!.script);
    const share = shares.find((each) => each.block_hash === block!.hash)!;
    expect(share.hash).not.toBe(share.block_hash);
    expect(share.accepted).toBe(true);
    expect(lines.some((line) => line.startsWith('BLOCK ACCEPTED!'))).toBe(true);
    const [job] = await journaled(dir, 'ckpool', 'job');
    expect(job).toMatchObject({ pow: 'scrypt', chain: 'litecoin-regtest', version_mask: '00000000' });
  }, 270_000);
});

describe('a node that cannot be used', () => {
  test('miners may connect while the daemon waits and says so', async () => {
    const dir = directory('down');
    const { life, lines, stopped, end } = testLife();
    const config = configuration(dir, {
      nodes: [{ url: `127.0.0.1:${await freePort()}`, auth: 'u', pass: 'p', notify: false }],
      btcAddress: ADDRESS_REGTEST,
      chain: 'regtest',
    });
    const pool = await startPool(config, life);
    ends.push(end);
    const client = await Client.open(pool.addresses[0]!.port);
    ends.push(() => client.destroy());
    await client.subscribe();
    expect((await client.call('mining.authorize', ['alice', 'x'])).result).toBe(true);
    await until('it is said', () => lines.some((line) => line.includes('ECONNREFUSED')));
    await until('the status names it', () =>
      readStatuses(join(dir, 'status')).some((each) => each.problems.some((line) => line.includes('ECONNREFUSED'))),
    );
    expect(stopped).toEqual([]);
  });

  test('a node of another chain than the one named ends the pool', async () => {
    const toyDir = directory('other');
    const toy = await startToyChain({ dir: toyDir, rpcPort: 0, zmqPort: null, user: 'u', pass: 'p' });
    ends.push(() => toy.close());
    const { life, stopped, end } = testLife();
    const config = configuration(directory('pool'), {
      nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
      btcAddress: ADDRESS_REGTEST,
      chain: 'regtest',
    });
    await startPool(config, life);
    ends.push(end);
    await until('it is stopped', () => stopped.length > 0);
    expect(stopped[0]).toMatchObject({ code: 'chain_mismatch', exit: 78 });
  });

  test('no btcaddress, and one of another chain, are errors of the configuration', async () => {
    const config = configuration(directory('none'), { chain: 'regtest' });
    await expect(startPool(config, testLife().life)).rejects.toMatchObject({ code: 'config', exit: 78 });
    const { life, end } = testLife();
    ends.push(end);
    const other = { ...config, btcAddress: '1PKN98VN2z5gwSGZvGKS2bj8aADZBkyhkZ' };
    await expect(startPool(other, life)).rejects.toThrow(/^btcaddress: .*\(chain regtest\)$/);
  });

  test('a port in use ends the start with one error', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    ends.push(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const { life, lines, end } = testLife();
    const config = configuration(directory('port'), {
      chain: 'regtest',
      btcAddress: ADDRESS_REGTEST,
      listen: [{ host: '127.0.0.1', port }],
    });
    const start = startPool(config, life);
    start.catch(() => {});
    await until('it is said', () => lines.some((line) => line.includes(`127.0.0.1:${port} is in use; trying again`)));
    await end();
    await expect(start).rejects.toThrow();
  });
});
