/** A pool as parent and worker processes: real processes, a toy chain, real sockets. */
import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { until } from '../../helpers/leash.ts';
import { startTree, statusOf, submit, wellServed } from './pool-tree.ts';
import { type Client, journaled } from './rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test('a share goes through a worker into its journal, and a block through the parent to the node', async () => {
  const tree = await startTree(ends);
  const miner = await tree.client();
  await miner.subscribe('cgminer/4.12.1');
  await miner.call('mining.authorize', ['alice.w1', 'x']);
  await until('a first job', () => miner.jobs.length > 0);
  const before = tree.toy.chain.tip.height;
  const work = miner.job;
  const solved = miner.mine(work, { solves: targetFromBits(Number.parseInt(work.params[6] as string, 16)) });
  expect((await submit(miner, solved)).result).toBe(true);
  await until('the block on the chain', () => tree.toy.chain.tip.height > before);
  await until('a job on the new block', () => miner.job.params[1] !== work.params[1]);
  expect((await submit(miner, solved)).error).toEqual([21, 'Stale', null]);
  await until('the status file to count it', () => statusOf(tree).values.shares_accepted_count === 1);
  const shown = (): string[] =>
    miner.messages.filter((each) => each.method === 'client.show_message').map((each) => each.params[0]);
  await until('the words for the person in front of it', () => shown().length === 3);
  expect(shown()[0]).toBe('Authorised, welcome to ckpool alice!');
  expect(shown()).toContain('Block 1 solved by alice.w1 @ ckpool!');
  expect(shown().find((words) => words.startsWith('New best ever share for user: 0.'))).toBeDefined();
  expect(statusOf(tree).values).toMatchObject({
    connections: 1,
    workers: 1,
    blocks_solved_count: 1,
    chain: 'playground',
  });
  await tree.end();
  const shares = await journaled(tree.config.dataDir, 'ckpool.1', 'share');
  expect(shares.map(({ instance, accepted }) => [instance, accepted])).toEqual([
    ['ckpool.1', true],
    ['ckpool.1', false],
  ]);
  const first = await journaled(tree.config.dataDir, 'ckpool.1', 'block');
  const answered = await journaled(tree.config.dataDir, 'ckpool.0', 'block');
  expect(first.map(({ kind, answers }) => [kind, answers.length])).toEqual([['solved', 0]]);
  expect(answered.at(-1)).toMatchObject({ hash: first[0]!.hash, origin: 'ckpool' });
  expect(answered.at(-1)!.answers.map(({ answer }) => answer)).toEqual(['accepted']);
});

test('two workers have the same jobs and different extranonces, and their miners are counted together', async () => {
  const tree = await startTree(ends, { workers: 2 });
  const clients: Client[] = [];
  await until('miners at both workers', async () => {
    for (let i = 0; i < 4; i++) {
      const client = await tree.client();
      await client.login(`alice.w${clients.length}`);
      clients.push(client);
    }
    return new Set(clients.map(({ enonce1 }) => enonce1.slice(0, 2))).size === 2;
  });
  const enonces = clients.map(({ enonce1 }) => enonce1);
  expect(new Set(enonces).size).toBe(enonces.length);
  expect(new Set(clients.map(({ jobs }) => jobs[0]!.params.slice(0, 8).join())).size).toBe(1);
  await until('the status file to count all', () => statusOf(tree).values.connections === clients.length);
  // The statistics name what is mined with, over both workers.
  for (const [i, client] of clients.entries()) {
    const share = client.mine(client.job, { atLeast: 1e-7, below: 1e-5 });
    expect((await client.submit(`alice.w${i}`, share)).result).toBe(true);
  }
  await until('the shares to be counted', async () => {
    const { accepted_count, UserAgents } = await tree.pool.control.poolStats();
    const [agent] = UserAgents as { ua: string; devices: number; bestshare: number }[];
    return Number(accepted_count) === clients.length && agent?.devices === clients.length && agent.bestshare > 0;
  });
});

test('a ban is lifted where another line of address and user brings shares, at whichever worker that is', async () => {
  const tree = await startTree(ends, { workers: 2 });
  const miner = await tree.client();
  await miner.login('alice.w1');
  expect((await submit(miner, miner.mine(miner.job, { atLeast: 1e-7 }))).result).toBe(true);
  const { workers } = tree.pool;
  workers.ban('127.0.0.1', 'mallory', 600_000);
  workers.ban('127.0.0.1', 'alice', 600_000);
  await until('the ban is lifted', () =>
    tree.lines.some((line) => line.startsWith('alice at 127.0.0.1 is let in again')),
  );
  await until('it is told to all', async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => tree.client()));
    for (const client of clients) await client.subscribe();
    const replies = await Promise.all(clients.map((client) => client.call('mining.authorize', ['alice.w2', 'x'])));
    return replies.every(({ result }) => result === true);
  });
  expect(workers.together().values.bans_active).toBe(1);
});

test('a worker that is killed is replaced; nobody is refused a connection; its session is resumed and its shares are known', async () => {
  const tree = await startTree(ends);
  const miner = await tree.client();
  await miner.login();
  const work = miner.job;
  const share = miner.mine(work, { atLeast: 1e-7, below: 1e-5 });
  const other = miner.mine(work, { atLeast: 1e-7, below: 1e-5, from: Number.parseInt(share.nonce, 16) + 1 });
  expect((await submit(miner, share)).result).toBe(true);
  const [pid] = tree.pool.workers.pids;
  process.kill(pid!, 'SIGKILL');
  await until('the line to end', () => miner.closed);
  const again = await tree.client();
  await again.subscribe('test/1', miner.sessionId);
  expect(again.enonce1).toBe(miner.enonce1);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  expect((await submit(again, share)).error).toEqual([22, 'Duplicate', null]);
  expect((await submit(again, other)).result).toBe(true);
  const fresh = await tree.client();
  await fresh.login('bob.w1');
  expect(fresh.enonce1.slice(0, 2)).not.toBe(miner.enonce1.slice(0, 2));
  expect(tree.lines.join('\n')).toMatch(/worker ckpool\.1 was killed by SIGKILL; started again/);
  await until('the status file to be well and to keep the count', () => {
    const { values, problems } = statusOf(tree);
    return problems.length === 0 && values.shares_accepted_count! >= 1;
  });
});

test('at a hand-over the new worker accepts before the old one lets go, sessions go on, and the new configuration counts', async () => {
  const tree = await startTree(ends, {}, (config) => ({
    ...config,
    startDiff: 4e-7,
    nodes: [...config.nodes, { url: 'elsewhere:8332', auth: 'u', pass: 'secret', notify: false }],
  }));
  const miner = await tree.client();
  await miner.login();
  const work = miner.job;
  const share = miner.mine(work, { atLeast: 1e-7, below: 1e-5 });
  const other = miner.mine(work, { atLeast: 1e-7, below: 1e-5, from: Number.parseInt(share.nonce, 16) + 1 });
  expect((await submit(miner, share)).result).toBe(true);
  const [old] = tree.pool.workers.pids;
  if (process.platform === 'linux') {
    expect(readFileSync(`/proc/${old}/comm`, 'utf8')).toMatch(/\.1\n$/);
  }
  const done = tree.pool.handOver();
  await until('the request to reconnect', () => miner.lines.some((line) => line.includes('client.reconnect')));
  expect(tree.pool.workers.together().values).toMatchObject({ handover_under_way: 1, handovers_count: 0 });
  // The line is open still at the old process: the new one takes the session from it.
  const again = await tree.client();
  await again.subscribe('test/1', miner.sessionId);
  expect(again.enonce1).toBe(miner.enonce1);
  await until('the old line to end', () => miner.closed);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  expect(again.difficulties[0]).toBe(1e-7);
  expect((await submit(again, share)).error).toEqual([22, 'Duplicate', null]);
  expect((await submit(again, other)).result).toBe(true);
  const fresh = await tree.client();
  await fresh.login('bob.w1');
  expect(fresh.difficulties[0]).toBe(4e-7);
  await done;
  expect(tree.lines).toContain('hand-over: changes of btcd need a restart; the workers take up the rest');
  expect(tree.pool.workers.together().values).toMatchObject({
    handover_under_way: 0,
    handovers_count: 1,
    worker_processes: 1,
    worker_processes_died_count: 0,
  });
  expect(tree.pool.workers.pids).toHaveLength(1);
  expect(tree.pool.workers.pids[0]).not.toBe(old);
  expect(again.closed || fresh.closed).toBe(false);
});

test('a hand-over whose new workers cannot start leaves the old ones as they are', async () => {
  const tree = await startTree(ends, {}, (config) => ({ ...config, coinbaseTag: 'x'.repeat(200) }));
  const miner = await tree.client();
  await miner.login();
  await expect(tree.pool.handOver()).rejects.toThrow(/a worker could not start \(status 78\)/);
  expect(tree.lines.join('\n')).toMatch(/No hand-over, the workers go on: .*status 78/);
  const share = miner.mine(miner.job, { atLeast: 1e-7, below: 1e-5 });
  expect((await submit(miner, share)).result).toBe(true);
  expect(tree.pool.workers.pids).toHaveLength(1);
});

test('the sessions of a worker that is killed while it retires go on at its successor', async () => {
  const tree = await startTree(ends, { handoverS: 30 });
  const miners = [await tree.client(), await tree.client()];
  for (const miner of miners) await miner.login();
  const [first, second] = miners as [Client, Client];
  const share = first.mine(first.job, { atLeast: 1e-7, below: 1e-5 });
  expect((await submit(first, share)).result).toBe(true);
  const [old] = tree.pool.workers.pids;
  const done = tree.pool.handOver();
  await until('the first request to reconnect', () =>
    miners.some((miner) => miner.lines.some((line) => line.includes('client.reconnect'))),
  );
  process.kill(old!, 'SIGKILL');
  await done;
  for (const miner of [first, second]) {
    const again = await tree.client();
    await again.subscribe('test/1', miner.sessionId);
    expect(again.enonce1).toBe(miner.enonce1);
    await again.call('mining.authorize', ['alice.w1', 'x']);
    if (miner === first) expect((await submit(again, share)).error).toEqual([22, 'Duplicate', null]);
  }
});

test('an old worker that dies while the new ones start leaves no worker too many', async () => {
  const tree = await startTree(ends, { handoverS: 1 });
  const [old] = tree.pool.workers.pids;
  const done = tree.pool.handOver();
  await expect(tree.pool.handOver()).rejects.toThrow(/a hand-over is under way already/);
  process.kill(old!, 'SIGKILL');
  await done;
  await until('one worker that serves', () => tree.pool.workers.pids.length === 1 && wellServed(tree));
  const [fresh] = tree.pool.workers.pids;
  process.kill(fresh!, 'SIGKILL');
  await until('another in its place', () => {
    const { pids } = tree.pool.workers;
    return pids.length === 1 && pids[0] !== fresh && wellServed(tree);
  });
});

test('a hand-over changes the number of workers, up and down, while the node is away', async () => {
  let workers = 1;
  const tree = await startTree(ends, { handoverS: 1 }, (config) => ({ ...config, workers }));
  const miner = await tree.client();
  await miner.login();
  await tree.toy.close();
  for (const next of [3, 1]) {
    workers = next;
    await tree.pool.handOver();
    expect(tree.pool.workers.pids).toHaveLength(next);
    const again = await tree.client();
    await again.subscribe('test/1', miner.sessionId);
    await again.call('mining.authorize', ['alice.w1', 'x']);
    await until('the last job there was', () => again.jobs.length > 0);
    const share = again.mine(again.job, { atLeast: 1e-7, below: 1e-5, nonce2: next });
    expect((await submit(again, share)).result).toBe(true);
    again.destroy();
  }
});

test('after a hand-over with another coinbase, shares on the jobs of before are good, and so are those on the new ones', async () => {
  const tree = await startTree(ends, { handoverS: 30 }, (config) => ({ ...config, coinbaseTag: 'another' }));
  const miner = await tree.client();
  await miner.login();
  const work = miner.job;
  const other = miner.mine(work, { atLeast: 1e-7, below: 1e-5 });
  const done = tree.pool.handOver();
  await until('the request to reconnect', () => miner.lines.some((line) => line.includes('client.reconnect')));
  const fresh = await tree.client();
  await fresh.login('bob.w1');
  expect(fresh.job.id).not.toBe(work.id);
  // Both make a job of the next template; then the old worker's session goes on at the new one, which reads the old one's jobs.
  const before = fresh.jobs.length;
  await until('a further template', () => {
    tree.pool.control.updateWork();
    return fresh.jobs.length > before;
  });
  const late = miner.mine(miner.job, { atLeast: 1e-7, below: 1e-5, nonce2: 5 });
  const again = await tree.client();
  await again.subscribe('test/1', miner.sessionId);
  expect(again.enonce1).toBe(miner.enonce1);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  expect((await submit(again, other)).result).toBe(true);
  expect((await submit(again, late)).result).toBe(true);
  for (const client of [fresh, again]) {
    const share = client.mine(client.job, { atLeast: 1e-6, below: 1e-5, nonce2: 9 });
    expect((await submit(client, share, client === fresh ? 'bob.w1' : 'alice.w1')).result).toBe(true);
  }
  await done;
});

test('a worker that the system cannot make is tried again', async () => {
  const tree = await startTree(ends);
  const node = process.execPath;
  try {
    process.execPath = '/nowhere/node';
    process.kill(tree.pool.workers.pids[0]!, 'SIGKILL');
    await until(
      'the second failure',
      () => tree.lines.filter((line) => line.includes('could not be made')).length >= 2,
    );
  } finally {
    process.execPath = node;
  }
  const miner = await tree.client();
  await miner.login();
});

test('a worker that is killed before it has ever served is made again, and the pool starts', async () => {
  const children = (): number[] =>
    readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number);
  const before = new Set(children());
  const starting = startTree(ends);
  const pid = await until('a worker', () => children().find((each) => !before.has(each)), { everyMs: 1 });
  process.kill(pid, 'SIGKILL');
  const tree = await starting;
  expect(tree.lines.some((line) => line.includes('was killed by SIGKILL; started again in'))).toBe(true);
  const miner = await tree.client();
  await miner.login();
  expect((await submit(miner, miner.mine(miner.job, { atLeast: 1e-7 }))).result).toBe(true);
});
