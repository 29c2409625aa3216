/** Status files and the main log of a pool with a worker process: a toy chain, real sockets, real files. */
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import type { Log } from '../../../services/core/lifecycle.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { type PoolTree, startPoolTree } from '../../../services/stratum/parent.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { Client, testLife } from './rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A toy chain and a folder in which a pool can be started several times. */
async function ground(changes: Partial<Config> = {}) {
  const dir = tempDir('books');
  ends.push(() => dir.remove());
  const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  ends.push(() => toy.close());
  const logs = join(dir.path, 'logs');
  const config: Config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: logs } }, {}),
    listen: [{ host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    zmqBlock: toy.zmqUrl,
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
    ...changes,
  };
  const start = async (): Promise<{ pool: PoolTree; hangup(): void; end(): Promise<void>; stderr: string[] }> => {
    const run = testLife();
    const reopeners: (() => void)[] = [];
    const stderr: string[] = [];
    const log: Log = (line, level = 0) => void (level < 5 && stderr.push(line));
    const life = { ...run.life, log, onHangup: (reopen: () => void) => void reopeners.push(reopen) };
    const pool = await startPoolTree(config, life, () => config);
    let ended: Promise<void> | null = null;
    const end = (): Promise<void> => {
      ended ??= run.end();
      return ended;
    };
    ends.push(end);
    const hangup = (): void => {
      for (const reopen of reopeners) reopen();
    };
    return { pool, hangup, end, stderr };
  };
  const client = async (pool: PoolTree): Promise<Client> => {
    const made = await Client.open(pool.addresses[0]!.port);
    ends.push(() => made.destroy());
    return made;
  };
  const log = (name = 'ckpool.log'): string[] =>
    readFileSync(join(logs, name), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => line.slice(26));
  const json = (path: string) => JSON.parse(readFileSync(join(logs, path), 'utf8'));
  return { toy, logs, config, start, client, log, json };
}

test("a solved block is told in CKPool's lines, the counts begin anew, and a restart goes on with the sums", {
  timeout: 270_000,
}, async () => {
  const { start, client, log, json, logs } = await ground({ logLevel: 6 });
  const first = await start();
  await until('pool.status a second after the start', () => existsSync(join(logs, 'pool/pool.status')));
  const miner = await client(first.pool);
  await miner.login('alice.w1');
  for (let i = 0; i < 3; i++) {
    const share = miner.mine(miner.job, { atLeast: 1e-7, below: 1e-5, nonce2: i + 1 });
    expect((await miner.submit('alice.w1', share)).result).toBe(true);
  }
  // The shares are counted before the block that ends their round.
  await until(
    'three shares in the statistics',
    async () => Number((await first.pool.control.poolStats()).accepted_count) === 3,
  );
  const work = miner.job;
  const solved = miner.mine(work, { solves: targetFromBits(Number.parseInt(work.params[6] as string, 16)), nonce2: 9 });
  expect((await miner.submit('alice.w1', solved)).result).toBe(true);
  await until('the block to be told', () => log().find((line) => line.startsWith('Block solved after')));
  const lines = log();
  const from = lines.findIndex((line) => /^Possible block solve diff \d+\.\d{6} !$/.test(line));
  expect(from).toBeGreaterThan(0);
  const told = lines
    .slice(from)
    .filter((line) => /^(Submitting|BLOCK|Solved|User \S+:|Worker \S+:|Block solved)/.test(line));
  expect(told.map((line) => line.replace(/\{.*\}/, '{}').replace(/after .*/, 'after'))).toEqual([
    'Submitting block data!',
    'BLOCK ACCEPTED!',
    'Solved and confirmed block 1 by alice.w1',
    'User alice:{}',
    'Worker alice.w1:{}',
    'Block solved after',
  ]);
  for (const line of [
    'ckpool generator starting',
    'ckpool stratifier ready',
    'ckpool connector ready',
    'ckpool generator ready',
    'Stored local workbase with 0 transactions',
    'Added new user alice',
  ]) {
    expect(lines).toContain(line);
  }
  expect(
    lines.filter((line) => /^Authorised client \d+ 127\.0\.0\.1 worker alice\.w1 as user alice$/.test(line)),
  ).toHaveLength(1);
  expect(lines.some((line) => /^Network diff set to /.test(line))).toBe(true);
  expect(first.stderr.some((line) => line === 'BLOCK ACCEPTED!')).toBe(true);
  // Routine lines are the file's alone, wherever in the program they are said.
  await until('the notice of the block', () => log().some((line) => line.startsWith('ZMQ block hash ')));
  expect(first.stderr.filter((line) => /^(ZMQ block|Stored|Authorised|Pool:)/.test(line))).toEqual([]);
  await until("the block's own share", async () => Number((await first.pool.control.poolStats()).accepted_count) === 1);
  miner.destroy();
  await until('its end is told', () =>
    log().find((line) => /^Dropped client \d+ 127\.0\.0\.1 user alice worker alice\.w1 $/.test(line)),
  );
  await first.end();
  const shares = log().filter((line) => /^Accepted client \d+ share diff \S+\/\S+\/\S+: [0-9a-f]{64}$/.test(line));
  expect(shares).toHaveLength(4);
  const before = json('users/alice');
  expect(before).toMatchObject({ workers: 0, worker: [{ workername: 'alice.w1', useragent: 'test/1' }] });
  expect(before.shares).toBeGreaterThan(3e-7);
  expect(json('workers/alice.w1').shares).toBe(before.worker[0].shares);

  const second = await start();
  await until('its users to be read', () => log().includes('Loaded 1 users and 1 workers'));
  const after = await second.pool.control.userStats('alice');
  expect(after).toMatchObject({ shares: before.shares, bestever: before.bestever, authorised: before.authorised });
  expect(await second.pool.control.poolStats()).toMatchObject({ accepted_count: 1 });
  await second.pool.control.resetShares();
  expect(await second.pool.control.poolStats()).toMatchObject({ accepted_count: 0, accepted: 0, bestshare: 0 });
});

test('under logrotate each process goes on in the new file on SIGHUP, and no line is lost', async () => {
  const { start, client, log, logs } = await ground();
  const running = await start();
  const names: string[] = [];
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5; i++) {
      const name = `miner${round}x${i}`;
      names.push(name);
      await (await client(running.pool)).login(name);
    }
    if (round === 2) break;
    renameSync(join(logs, 'ckpool.log'), join(logs, `ckpool.log.${round}`));
    running.hangup();
    await until('the new file', () => existsSync(join(logs, 'ckpool.log')));
  }
  const all = (): string[] => [...log('ckpool.log.0'), ...log('ckpool.log.1'), ...log()];
  const told = (): string[] =>
    all().flatMap((line) => /^Authorised client \d+ \S+ worker (\S+) as/.exec(line)?.[1] ?? []);
  await until('all to be told', () => told().length >= names.length);
  expect(told()).toEqual(names);
  await until('the worker process to write the new file', () => log().some((line) => line.startsWith('Authorised')));
});

test('the level of the log is changed while running, in all processes; a killed worker takes its lines with it, not what it told', async () => {
  const { start, client, log } = await ground({ compat: 'ckpool', nonce1Bytes: 4 });
  const { pool } = await start();
  const miner = await client(pool);
  await miner.login('alice.w1');
  const share = async (nonce2: number): Promise<void> => {
    const found = miner.mine(miner.job, { atLeast: 1e-7, below: 1e-5, nonce2 });
    expect((await miner.submit('alice.w1', found)).result).toBe(true);
  };
  await share(1);
  await pool.control.setLogLevel(6);
  await share(2);
  await until('the second share to be told', () => log().some((line) => line.startsWith('Accepted client')));
  expect(log().filter((line) => line.startsWith('Accepted client'))).toHaveLength(1);
  await until('both in the statistics', async () => (await pool.control.poolStats()).shares_accepted_count === 2);
  await until('the connection', async () => (await pool.control.poolStats()).Workers === 1);
  const before = (await pool.control.userStats('alice')).lastshare;
  process.kill(pool.workers.pids[0]!, 'SIGKILL');
  await until('no connection', async () => (await pool.control.poolStats()).Workers === 0);
  expect((await pool.control.userStats('alice')).lastshare).toBe(before);
});
