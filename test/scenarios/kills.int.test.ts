/**
 * `kill -9` of workers, of the parent, of both, at random moments under load, while blocks are solved and hand-overs are under way. What was acknowledged is in the journal
 * once, what was sent again is taken once, no two lines work on the same extranonce1, and every solved block is on the chain in the end.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../services/core/bitcoin/target.ts';
import { listInstances } from '../../services/core/log/journal-files.ts';
import { startToyChain } from '../../services/playground/main.ts';
import { freePort, type Leashed, tempDir, until } from '../helpers/leash.ts';
import { childrenOf } from '../helpers/processes.ts';
import { SEED, seeded } from '../helpers/seed.ts';
import { lodestream } from '../helpers/tree.ts';
import { Client, type Found, journaled } from '../services/stratum/rig.ts';

const KILLS = Number(process.env.LODESTREAM_KILLS ?? 20);
const MINERS = 12;
const DIFF = 1e-9;
const RECONNECT_MS = 50;
/** Shares of one miner that may wait for their answers. */
const WINDOW = 6;
const BETWEEN_SHARES_MS = 15;

const keyOf = (enonce1: string, { nonce2, nonce, ntime }: { nonce2: string; nonce: string; ntime: string }): string =>
  `${enonce1}/${nonce2}/${ntime}/${nonce}`;

/** Who works on an extranonce1 now. */
const working = new Map<string, Miner>();

class Miner {
  readonly name: string;
  /** Keys of shares that were answered with true. */
  readonly acknowledged = new Set<string>();
  /** Those that solved the block. */
  readonly solved = new Set<string>();
  readonly refusals: string[] = [];
  readonly clashes: string[] = [];
  resumed = 0;
  resent = 0;
  lost = 0;
  stopping = false;
  /** Its next share shall solve the block. */
  solving = false;
  #next = 0;
  #session: string | undefined;
  #enonce1 = '';
  /** Sent and not answered. */
  #waiting = new Map<number, { readonly share: Found; readonly solves: boolean }>();

  constructor(name: string) {
    this.name = name;
  }

  async run(port: number): Promise<void> {
    while (!this.stopping) {
      let client: Client | null = null;
      try {
        client = await Client.open(port);
        await Promise.race([this.#mine(client), gone(client)]);
      } catch (error) {
        if (client !== null && !client.closed && !this.stopping) throw error;
      }
      client?.destroy();
      if (working.get(this.#enonce1) === this) working.delete(this.#enonce1);
      await delay(RECONNECT_MS);
    }
  }

  async #mine(client: Client): Promise<void> {
    const before = this.#enonce1;
    await client.subscribe('kills/1', this.#session);
    const { enonce1 } = client;
    const other = working.get(enonce1);
    if (other !== undefined && other !== this) this.clashes.push(enonce1);
    working.set(enonce1, this);
    this.#enonce1 = enonce1;
    this.#session = client.sessionId;
    await client.call('mining.authorize', [this.name, 'x']);
    await until('a job', () => client.jobs.length > 0, { everyMs: 5 });
    const again = [...this.#waiting.values()];
    this.#waiting.clear();
    let id = 1_000_000;
    const send = (share: Found, solves: boolean): void => {
      this.#waiting.set(id, { share, solves });
      const params = [this.name, share.jobId, share.nonce2, share.ntime, share.nonce];
      client.write(`${JSON.stringify({ id: id++, method: 'mining.submit', params })}\n`);
    };
    if (before === enonce1) {
      this.resumed += 1;
      this.resent += again.length;
      for (const { share, solves } of again) send(share, solves);
    } else this.lost += again.length;
    let read = 0;
    while (!client.closed && !(this.stopping && this.#waiting.size === 0)) {
      for (; read < client.messages.length; read++) {
        const { id: of, result, error } = client.messages[read];
        const sent = this.#waiting.get(of);
        if (sent === undefined) continue;
        this.#waiting.delete(of);
        const key = keyOf(enonce1, sent.share);
        if (result === true) {
          this.acknowledged.add(key);
          if (sent.solves) this.solved.add(key);
        } else this.refusals.push(error[1]);
      }
      if (this.#waiting.size < WINDOW && !this.stopping) {
        const solves = this.solving;
        this.solving = false;
        const of = solves
          ? { solves: targetFromBits(Number.parseInt(client.job.params[6] as string, 16)) }
          : { atLeast: DIFF };
        send(client.mine(client.job, { ...of, nonce2: this.#next++ }), solves);
      }
      await delay(BETWEEN_SHARES_MS);
    }
  }
}

function gone(client: Client): Promise<void> {
  return new Promise((resolve) => client.socket.once('close', () => resolve()));
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test.each([1, 3])(
  'with %i workers kills lose and double nothing',
  async (workers) => {
    working.clear();
    console.log(`SEED=${SEED}`);
    const random = seeded(SEED);
    const dir = tempDir('kills');
    ends.push(() => dir.remove());
    const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
    ends.push(() => toy.close());
    const port = await freePort();
    const file = join(dir.path, 'ckpool.conf');
    const data = join(dir.path, 'data');
    const config = {
      btcd: [{ url: toy.rpcUrl, auth: 'u', pass: 'p' }],
      btcaddress: toy.fundingAddress,
      logdir: join(dir.path, 'logs'),
      mindiff: DIFF,
      startdiff: DIFF,
      maxdiff: DIFF,
      lodestream: { listen: [`127.0.0.1:${port}`], data_dir: data, workers, handover_s: 1 },
    };
    writeFileSync(file, JSON.stringify(config));
    const args = ['pool', '--config', file, '--sockdir', join(dir.path, 'sock'), '--log-shares'];
    const said: string[] = [];
    let pool: Leashed;
    const start = async (): Promise<void> => {
      pool = await lodestream(args);
      pool.onLine((line) => void said.push(line));
      await until(
        () => `the pool to listen (${pool.output().slice(-1000)})`,
        () => pool.output().includes('stratum listens'),
      );
    };
    await start();
    ends.push(() => pool.stop());
    const miners = Array.from({ length: MINERS }, (_, i) => new Miner(`user${i % 3}.rig${i}`));
    const runs = miners.map((miner) => miner.run(port));
    const solvedSoFar = (): number => miners.reduce((sum, miner) => sum + miner.solved.size, 0);
    // Where the draws left hardly a block its answer it goes on until there are some.
    for (let i = 0; i < KILLS || (solvedSoFar() <= KILLS / 5 && i < 4 * KILLS); i++) {
      const before = miners.map((miner) => miner.acknowledged.size);
      await until(
        () => `all to mine before kill ${i + 1} (${said.slice(-20).join('\n')})`,
        () => miners.every((miner, at) => miner.acknowledged.size > before[at]! + 3),
      );
      const handOver = random() < 0.4 ? await lodestream([...args, '--handover']) : null;
      if (handOver !== null) await delay(random() * 2_500);
      const solver = miners[Math.floor(random() * MINERS)]!;
      solver.solving = random() < 0.8;
      // Before, while and after the block is on its way.
      if (random() < 0.5) await delay(random() * 500);
      else await until('the block to be sent', () => !solver.solving, { everyMs: 1 });
      const children = childrenOf(pool!.pid);
      const choice = random();
      const child = children[Math.floor(random() * children.length)];
      if (choice < 0.5) {
        if (child !== undefined) kill(child);
      } else {
        // Whoever dies first: the others have an instant more.
        const pids = choice < 0.75 ? [pool!.pid] : random() < 0.5 ? [pool!.pid, ...children] : [...children, pool!.pid];
        // Who finds no pool any more would be one.
        await handOver?.stop({ signal: 'SIGKILL' });
        for (const pid of pids) kill(pid);
        await pool!.exited;
        await start();
      }
      // However it ended: the kill may have been its end.
      await handOver?.exited;
    }
    const settled = miners.map((miner) => miner.acknowledged.size);
    await until('all to mine after the last kill', () =>
      miners.every((miner, at) => miner.acknowledged.size > settled[at]! + 3),
    );
    for (const miner of miners) miner.stopping = true;
    await Promise.all(runs);
    const blocks = join(data, 'blocks');
    await until(
      () => `all blocks to be answered: ${readdirSync(blocks)}`,
      () => !readdirSync(blocks).some((name) => name.endsWith('.json')),
    );
    await pool!.stop();

    const accepted = new Map<string, { count: number; hash: string; diff: number }>();
    let sum = 0;
    for (const instance of listInstances(join(data, 'journal'), 'share')) {
      for (const share of await journaled(data, instance, 'share')) {
        if (!share.accepted) continue;
        const key = keyOf(share.enonce1, share);
        const known = accepted.get(key);
        if (known === undefined) sum += share.diff;
        accepted.set(key, { count: (known?.count ?? 0) + 1, hash: share.hash, diff: share.diff });
      }
    }
    const acknowledged = miners.flatMap((miner) => [...miner.acknowledged]);
    const solved = miners.flatMap((miner) => [...miner.solved]);
    const refusals: Record<string, number> = {};
    for (const words of miners.flatMap((miner) => miner.refusals)) refusals[words] = (refusals[words] ?? 0) + 1;
    const total = (of: (miner: Miner) => number): number => miners.reduce((all, miner) => all + of(miner), 0);
    console.log(
      `${workers} workers: ${acknowledged.length} acknowledged, ${accepted.size} in the journal, ${solved.length} blocks, ` +
        `${total((m) => m.resumed)} resumed, ${total((m) => m.resent)} sent again, ${total((m) => m.lost)} with new extranonces, ${JSON.stringify(refusals)}`,
    );
    expect(acknowledged.filter((key) => !accepted.has(key))).toEqual([]);
    expect([...accepted].filter(([, { count }]) => count !== 1)).toEqual([]);
    expect(miners.flatMap((miner) => miner.clashes)).toEqual([]);
    for (const words of Object.keys(refusals)) expect(['Duplicate', 'Stale']).toContain(words);
    expect(solved.length).toBeGreaterThan(KILLS / 5);
    expect(solved.filter((key) => toy.chain.get(accepted.get(key)!.hash) === undefined)).toEqual([]);
    // Of what a killed process had not told or written, at most; never more than there was.
    const users = join(dir.path, 'logs', 'users');
    const counted = readdirSync(users)
      .map((name) => JSON.parse(readFileSync(join(users, name), 'utf8')).shares as number)
      .reduce((all, shares) => all + shares, 0);
    console.log(`the users' files count ${counted} of ${sum}`);
    expect(counted).toBeLessThanOrEqual(sum * 1.001);
    expect(counted).toBeGreaterThan(0);
  },
  600_000,
);
