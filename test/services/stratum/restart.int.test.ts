/** A pool that is started again takes up what the last one left: jobs, accepted shares, sessions. */
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { loadConfig } from '../../../services/core/config.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { startPool } from '../../../services/stratum/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { Client, type Found, testLife } from './rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test('after a restart a session is resumed with its extranonce1 and difficulty, old jobs are good, and no share is accepted twice', async () => {
  const dir = tempDir('restart');
  ends.push(() => dir.remove());
  const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  ends.push(() => toy.close());
  const config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } }, {}),
    listen: [{ host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
  };
  const start = async () => {
    const run = testLife();
    const pool = await startPool(config, run.life);
    const open: Client[] = [];
    ends.push(() => {
      for (const client of open) client.destroy();
    });
    const client = async (): Promise<Client> => {
      const made = await Client.open(pool.addresses[0]!.port);
      open.push(made);
      return made;
    };
    return { pool, end: run.end, client };
  };
  const submit = (client: Client, share: Found) => client.submit('alice.w1', share);

  const first = await start();
  const miner = await first.client();
  await miner.login('alice.w1', 'd=0.0000003');
  const work = await until('a job at the wished difficulty', () =>
    miner.difficulty === 3e-7 && miner.job.clean ? miner.job : null,
  );
  const share = miner.mine(work, { atLeast: 3e-7, below: 1e-5 });
  const other = miner.mine(work, { atLeast: 3e-7, below: 1e-5, from: Number.parseInt(share.nonce, 16) + 1 });
  expect((await submit(miner, share)).result).toBe(true);
  // A rise at last: what was found before it is still worth what it was.
  const before = miner.mine(work, { atLeast: 3e-7, below: 8e-7, nonce2: 1 });
  await miner.call('mining.suggest_difficulty', [8e-7]);
  await until('a rise', () => miner.difficulty === 8e-7);
  await first.end();

  const second = await start();
  const thief = await second.client();
  await thief.subscribe('thief/1', miner.sessionId);
  expect(thief.enonce1).toBe(miner.enonce1);
  expect((await thief.call('mining.authorize', ['mallory.w1', 'x'])).error[0]).toBe(24);
  await until('the thief has gone', () => thief.closed);

  await second.end();
  const third = await start();
  const again = await third.client();
  const { sessionId, enonce1 } = miner;
  await again.subscribe('test/1', sessionId);
  expect(again.enonce1).toBe(enonce1);
  expect(again.sessionId).not.toBe(sessionId);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  expect(again.difficulties[0]).toBe(8e-7);
  expect((await submit(again, share)).error).toEqual([22, 'Duplicate', null]);
  expect((await submit(again, other)).result).toBe(true);
  expect((await submit(again, before)).result).toBe(true);
  const twice = await third.client();
  await twice.subscribe('test/1', sessionId);
  expect(twice.enonce1).not.toBe(enonce1);
  await third.end();
});
