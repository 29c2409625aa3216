/**
 * Twenty hand-overs of a pool under load: `ckpool --handover` each time, with two workers, and miners of three habits (obeys client.reconnect,
 * ignores it until the line is closed, sends again what was not answered). What was acknowledged is in the journal once.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readStatuses } from '../../services/core/status.ts';
import { startToyChain } from '../../services/playground/main.ts';
import { crowding, freePort, type Leashed, tempDir, until } from '../helpers/leash.ts';
import { lodestream, lodestreamOnce } from '../helpers/tree.ts';
import { Client, type Found, journaled } from '../services/stratum/rig.ts';

const HANDOVERS = 20;
const MINERS = 18;
const DIFF = 1e-9;
/** A miner's own time until it connects again. */
const RECONNECT_MS = 50;
/** On a machine that does other things besides; the lines are served again at once. */
const AWAY_LIMIT_MS = 10_000;

type Habit = 'obeys' | 'ignores' | 'repeats';

const keyOf = (enonce1: string, { nonce2, nonce, ntime }: { nonce2: string; nonce: string; ntime: string }): string =>
  `${enonce1}/${nonce2}/${ntime}/${nonce}`;

class Miner {
  readonly name: string;
  readonly habit: Habit;
  readonly acknowledged = new Set<string>();
  readonly refusals: string[] = [];
  readonly enonces = new Set<string>();
  readonly away: number[] = [];
  refusedConnections = 0;
  connections = 0;
  stopping = false;
  #next = 0;
  #session: string | undefined;
  #unanswered: Found | null = null;

  constructor(name: string, habit: Habit) {
    this.name = name;
    this.habit = habit;
  }

  async run(port: number): Promise<void> {
    let leftMs = 0;
    while (!this.stopping) {
      let client: Client;
      try {
        client = await Client.open(port);
      } catch {
        this.refusedConnections += 1;
        await delay(RECONNECT_MS);
        continue;
      }
      try {
        await Promise.race([this.#mine(client, leftMs), gone(client)]);
      } catch (error) {
        if (!client.closed && !this.stopping) throw error;
      }
      leftMs = performance.now();
      client.destroy();
      await delay(RECONNECT_MS);
    }
  }

  async #mine(client: Client, leftMs: number): Promise<void> {
    await client.subscribe('soak/1', this.#session);
    this.#session = client.sessionId;
    this.enonces.add(client.enonce1);
    await client.call('mining.authorize', [this.name, 'x']);
    this.connections += 1;
    if (leftMs > 0) this.away.push(performance.now() - leftMs);
    await until('a job', () => client.jobs.length > 0);
    if (this.habit === 'repeats' && this.#unanswered !== null) await this.#submit(client, this.#unanswered);
    while (!this.stopping && !client.closed) {
      if (this.habit === 'obeys' && client.lines.some((line) => line.includes('client.reconnect'))) return;
      const share = client.mine(client.job, { atLeast: DIFF, nonce2: this.#next++ });
      await this.#submit(client, share);
      await delay(10);
    }
  }

  async #submit(client: Client, share: Found): Promise<void> {
    this.#unanswered = share;
    const reply = await client.submit(this.name, share);
    this.#unanswered = null;
    if (reply.result === true) this.acknowledged.add(keyOf(client.enonce1, share));
    else this.refusals.push(reply.error[1]);
  }
}

function gone(client: Client): Promise<void> {
  return new Promise((resolve) => client.socket.once('close', () => resolve()));
}

let dir: { path: string; remove(): void };
let toy: Awaited<ReturnType<typeof startToyChain>>;
let pool: Leashed;
let port: number;
let args: string[];

beforeAll(async () => {
  dir = tempDir('handover');
  toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  port = await freePort();
  const file = join(dir.path, 'ckpool.conf');
  const config = {
    btcd: [{ url: toy.rpcUrl, auth: 'u', pass: 'p' }],
    btcaddress: toy.fundingAddress,
    logdir: join(dir.path, 'logs'),
    mindiff: DIFF,
    startdiff: DIFF,
    maxdiff: DIFF,
    lodestream: { listen: [`127.0.0.1:${port}`], data_dir: join(dir.path, 'data'), workers: 2, handover_s: 1 },
  };
  writeFileSync(file, JSON.stringify(config));
  args = ['pool', '--config', file, '--sockdir', join(dir.path, 'sock'), '--log-shares'];
  pool = await lodestream(args);
  await until(
    () => `the pool to listen (${pool.output().slice(-1000)})`,
    () => pool.output().includes('stratum listens'),
  );
});

afterAll(async () => {
  await pool?.stop();
  await toy?.close();
  dir?.remove();
});

test('no acknowledged share is lost or taken twice, nobody is refused a connection, extranonces stay', async () => {
  const habits: Habit[] = ['obeys', 'ignores', 'repeats'];
  const miners = Array.from({ length: MINERS }, (_, i) => new Miner(`user${i % 5}.rig${i}`, habits[i % 3]!));
  const runs = miners.map((miner) => miner.run(port));
  await until('all to mine', () => miners.every((miner) => miner.acknowledged.size > 5));
  for (let i = 0; i < HANDOVERS; i++) {
    const { status, output } = await lodestreamOnce([...args, '--handover']);
    expect(output).toContain('the running instance has taken up the program');
    expect(status).toBe(0);
    const before = miners.map((miner) => miner.acknowledged.size);
    await until(`all to mine after hand-over ${i + 1}`, () =>
      miners.every((miner, at) => miner.acknowledged.size > before[at]! + 2),
    );
  }
  for (const miner of miners) miner.stopping = true;
  await Promise.all(runs);
  const status = readStatuses(join(dir.path, 'data', 'status')).find(({ program }) => program === 'ckpool');
  expect(status?.problems).toEqual([]);
  await pool.stop();

  expect(miners.map((miner) => miner.refusedConnections)).toEqual(miners.map(() => 0));
  expect(miners.map((miner) => miner.enonces.size)).toEqual(miners.map(() => 1));
  expect(Math.min(...miners.map((miner) => miner.connections))).toBeGreaterThanOrEqual(HANDOVERS);
  expect(Math.max(...miners.flatMap((miner) => miner.away))).toBeLessThan(AWAY_LIMIT_MS * crowding());
  // What is sent again may have been taken before its answer was lost; a block may come at any time.
  const refusals = new Set(miners.flatMap((miner) => miner.refusals));
  for (const words of refusals) expect(['Duplicate', 'Stale']).toContain(words);

  const accepted = new Map<string, number>();
  for (const instance of ['ckpool.1', 'ckpool.2', 'ckpool.3', 'ckpool.4']) {
    for (const share of await journaled(join(dir.path, 'data'), instance, 'share')) {
      if (!share.accepted) continue;
      const key = keyOf(share.enonce1, share);
      accepted.set(key, (accepted.get(key) ?? 0) + 1);
    }
  }
  const acknowledged = miners.flatMap((miner) => [...miner.acknowledged]);
  expect(acknowledged.length).toBeGreaterThan(MINERS * HANDOVERS * 3);
  expect(acknowledged.filter((key) => accepted.get(key) !== 1)).toEqual([]);
  expect([...accepted.values()].filter((count) => count !== 1)).toEqual([]);
}, 400_000);
