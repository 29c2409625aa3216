/** A disk that refuses while a pool with workers runs: shares are refused with words and forgotten, jobs and blocks go on, and it recovers. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { NOT_STORED } from '../../../services/stratum/intake.ts';
import { until } from '../../helpers/leash.ts';
import { type Running, startTree, statusOf, submit } from './pool-tree.ts';
import { type Client, journaled, type Work } from './rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** How large a file a process may write from now on: a file system that is full for it alone. */
function limitFiles(pid: number, bytes: number | 'unlimited'): void {
  const done = spawnSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`prlimit: ${done.stderr ?? done.error}`);
}
const hasLimits = spawnSync('prlimit', ['--version']).status === 0;

const share = (client: Client, nonce2: number) => client.mine(client.job, { atLeast: 1e-7, below: 1e-5, nonce2 });
const solve = (client: Client, work: Work) =>
  client.mine(work, { solves: targetFromBits(Number.parseInt(work.params[6] as string, 16)) });

async function acceptedIn(tree: Running): Promise<string[]> {
  const shares = await journaled(tree.config.dataDir, 'ckpool.1', 'share');
  return shares.filter(({ accepted }) => accepted).map(({ nonce2, nonce }) => `${nonce2} ${nonce}`);
}

test.runIf(hasLimits)(
  'a full disk refuses shares with words and forgets them; blocks and jobs go on; it recovers by itself',
  async () => {
    const tree = await startTree(ends, { logShares: true });
    const miner = await tree.client();
    await miner.login();
    const good = share(miner, 1);
    expect((await submit(miner, good)).result).toBe(true);
    const [pid] = tree.pool.workers.pids;
    const refused = share(miner, 2);
    // First so that a part of the share's block still finds room, then nothing at all.
    const segment = join(tree.config.dataDir, 'journal', 'ckpool.1', 'share');
    const name = readdirSync(segment).find((each) => each.endsWith('.avro'))!;
    const { size } = statSync(join(segment, name));
    for (const limit of [size + 10, size + 200, 1]) {
      limitFiles(pid!, limit);
      const reply = await submit(miner, refused);
      expect([reply.result, reply.error?.[1]]).toEqual([false, NOT_STORED]);
    }
    expect((await submit(miner, good)).error).toEqual([22, 'Duplicate', null]);
    await until('the status to say it', () =>
      statusOf(tree).problems.some((line) => line.includes('the journal cannot write')),
    );
    // The block leaves; so does the job on it.
    const work = miner.job;
    const before = tree.toy.chain.tip.height;
    const solved = solve(miner, work);
    expect((await submit(miner, solved)).error[1]).toBe(NOT_STORED);
    await until('the block on the chain', () => tree.toy.chain.tip.height > before);
    await until('the next job', () => miner.job.params[1] !== work.params[1]);
    // Others are let in meanwhile.
    const fresh = await tree.client();
    await fresh.login('bob.w1');
    const later = share(fresh, 3);
    expect((await submit(fresh, later, 'bob.w1')).error[1]).toBe(NOT_STORED);

    limitFiles(pid!, 'unlimited');
    expect((await submit(fresh, later, 'bob.w1')).result).toBe(true);
    expect((await submit(fresh, later, 'bob.w1')).error).toEqual([22, 'Duplicate', null]);
    await until('the status to be well', () => statusOf(tree).problems.length === 0);
    expect(tree.pool.workers.pids).toEqual([pid]);
    await until(
      'no block to wait',
      () => !readdirSync(join(tree.config.dataDir, 'blocks')).some((n) => n.endsWith('.json')),
    );
    await tree.end();
    expect(await acceptedIn(tree)).toEqual([`${good.nonce2} ${good.nonce}`, `${later.nonce2} ${later.nonce}`]);
    // What waited for the disk is there: the job of the share, the block, who came.
    const jobs = await journaled(tree.config.dataDir, 'ckpool.1', 'job');
    expect(jobs.map(({ job_id }) => job_id)).toContain(later.jobId);
    expect(await journaled(tree.config.dataDir, 'ckpool.1', 'block')).toHaveLength(1);
    const sessions = await journaled(tree.config.dataDir, 'ckpool.1', 'session');
    expect(sessions.filter(({ kind, user }) => kind === 'authorized' && user === 'bob')).toHaveLength(1);
    // The share log has the shares that count, and no half line.
    const folder = join(tree.config.logDir, '00000001');
    const logged = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'));
    for (const line of logged) expect(JSON.parse(line)).toBeTypeOf('object');
  },
);

test('a journal that cannot be written refuses, and takes shares when it can be written again', async () => {
  const tree = await startTree(ends);
  const miner = await tree.client();
  await miner.login();
  const topic = join(tree.config.dataDir, 'journal', 'ckpool.1', 'share');
  writeFileSync(topic, 'in the way');
  const first = share(miner, 1);
  expect((await submit(miner, first)).error[1]).toBe(NOT_STORED);
  expect((await submit(miner, first)).error[1]).toBe(NOT_STORED);
  rmSync(topic);
  expect((await submit(miner, first)).result).toBe(true);
  await tree.end();
  expect(await acceptedIn(tree)).toHaveLength(1);
});

test('share logs that cannot be written cost no share, and are written again when they can be', async () => {
  const tree = await startTree(ends, { logShares: true });
  const miner = await tree.client();
  await miner.login();
  const folder = join(tree.config.logDir, '00000001');
  renameSync(folder, `${folder}.away`);
  writeFileSync(folder, 'in the way');
  expect((await submit(miner, share(miner, 1))).result).toBe(true);
  await until('the status to say it', () => statusOf(tree).problems.some((line) => line.startsWith('share log:')));
  rmSync(folder);
  const second = share(miner, 2);
  expect((await submit(miner, second)).result).toBe(true);
  const lines = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'));
  expect(lines.map((line) => JSON.parse(line).nonce2)).toEqual([second.nonce2]);
  await until('the status to be well', () => statusOf(tree).problems.length === 0);
});

test.runIf(hasLimits)(
  'a worker that is killed on a full disk is replaced, resumes its sessions, and blocks go out',
  async () => {
    const tree = await startTree(ends, { logShares: true });
    const miner = await tree.client();
    await miner.login();
    const good = share(miner, 1);
    expect((await submit(miner, good)).result).toBe(true);
    const [killed] = tree.pool.workers.pids;
    // Ours is the parent: it has no more room than its workers.
    limitFiles(process.pid, 1);
    try {
      process.kill(killed!, 'SIGKILL');
      const again = await tree.client();
      await again.subscribe('test/1', miner.sessionId);
      expect(again.enonce1).toBe(miner.enonce1);
      await again.call('mining.authorize', ['alice.w1', 'x']);
      expect((await submit(again, good)).error).toEqual([22, 'Duplicate', null]);
      expect((await submit(again, share(miner, 2))).error[1]).toBe(NOT_STORED);
      // The toy chain, which writes what it accepts, is here too.
      limitFiles(process.pid, 'unlimited');
      const before = tree.toy.chain.tip.height;
      await until('a job', () => again.jobs.length > 0);
      const work = again.job;
      expect((await submit(again, solve(again, work))).error[1]).toBe(NOT_STORED);
      await until('the block on the chain', () => tree.toy.chain.tip.height > before);
      await until('the next job', () => again.job.params[1] !== work.params[1]);
      limitFiles(tree.pool.workers.pids[0]!, 'unlimited');
      expect((await submit(again, share(again, 3))).result).toBe(true);
    } finally {
      limitFiles(process.pid, 'unlimited');
    }
    await tree.end();
    const blocks = await journaled(tree.config.dataDir, 'ckpool.0', 'block');
    expect(blocks.at(-1)!.answers.map(({ answer }) => answer)).toEqual(['accepted']);
  },
);

test('with fsync a pool of workers answers after the sync, and what it answered is in the journal when it has ended', async () => {
  const tree = await startTree(ends, { journal: { fsync: true, segmentBytes: 65_536, pack: true, keepDays: 7 } });
  const miners = await Promise.all([tree.client(), tree.client(), tree.client()]);
  for (const [i, miner] of miners.entries()) await miner.login(`user${i}.w`);
  let next = 1;
  const taken = await Promise.all(
    miners.flatMap((miner, i) =>
      Array.from({ length: 40 }, async () => (await submit(miner, share(miner, next++), `user${i}.w`)).result),
    ),
  );
  expect(taken.filter((result) => result !== true)).toEqual([]);
  expect(statusOf(tree).problems).toEqual([]);
  await tree.end();
  expect(await acceptedIn(tree)).toHaveLength(120);
});
