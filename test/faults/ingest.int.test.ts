/**
 * `ingest --follow` under `kill -9` in the log directory of a daemon that is writing: blocks come, jobs change, share logs of past jobs are packed and
 * moved about, the main log is rotated. In the end what the ingestor put into its own journal is what the daemon put into its own.
 *
 * INGEST_KILLS is the number of kills (default 12; the long run: 50), FAULTS_SEED repeats the choice of moments.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { ShareEvent } from '../../schemas/events.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import { listInstances } from '../../services/core/log/journal-files.ts';
import { freePort, tempDir, until } from '../helpers/leash.ts';
import { seeded } from '../helpers/seed.ts';
import { NODE_ADDRESS, startTemplateNode } from '../helpers/template-node.ts';
import { lodestreamOnce } from '../helpers/tree.ts';
import { Client, journaled } from '../services/stratum/rig.ts';
import { expectRecord, settled } from './checks.ts';
import { startLoad } from './load.ts';
import { DIFF, Kept, kill, startStack } from './stack.ts';

const KILLS = Number(process.env.INGEST_KILLS ?? 12);
const PER_SECOND = 500;
const LINES = 8;
/** A block, and with it new folders, about so often; a rotation in between. */
const BLOCK_MS = 2_000;
/** A share log is packed when nothing came to it for so long. */
const QUIET_MS = 3_000;

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Bytes that the ingestor has in its journal. */
function sizeOf(dataDir: string): number {
  const dir = join(dataDir, 'journal', 'ingest-ckpool', 'share');
  if (!existsSync(dir)) return 0;
  return readdirSync(dir).reduce((sum, name) => sum + (name.endsWith('.avro') ? statSync(join(dir, name)).size : 0), 0);
}

/** What both say of a share: who saw it is another matter, a log has no job, and it files an unknown one under the current height. */
function facts(share: ShareEvent): string {
  const { source: _source, job_id: _id, job_key: _key, height, ...rest } = share;
  return JSON.stringify({ ...rest, height: share.errn === 1 ? 0 : height });
}

test(
  'a followed log directory gives the events of the daemon that writes it, whatever is killed, moved and packed',
  async () => {
    const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`FAULTS_SEED=${seed}`);
    const random = seeded(seed);
    const dir = tempDir('faults-ingest');
    ends.push(() => dir.remove());
    const node = await startTemplateNode();
    ends.push(() => node.close());
    const port = await freePort();
    const [logs, data, filled] = ['logs', 'data', 'filled'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ];
    const file = join(dir.path, 'ckpool.conf');
    writeFileSync(
      file,
      JSON.stringify({
        btcd: [{ url: `http://${node.address}`, auth: 'u', pass: 'p', notify: true }],
        zmqblock: node.zmq,
        btcaddress: NODE_ADDRESS,
        logdir: logs,
        ...{ mindiff: DIFF, startdiff: DIFF, maxdiff: DIFF },
        lodestream: { listen: [`127.0.0.1:${port}`], data_dir: data, workers: 2 },
      }),
    );
    const said: string[] = [];
    const pool = new Kept(
      'pool',
      ['pool', '--config', file, '--sockdir', join(dir.path, 'sock'), '--log-shares'],
      said,
    );
    const ingest = new Kept('ingest', ['ingest', '--logdir', logs, '--data-dir', filled, '--follow'], said);
    ends.push(() => pool.stop());
    ends.push(() => ingest.stop());
    pool.start();
    await until(
      () => `the pool to listen (${said.slice(-20).join('\n')})`,
      () => said.some((line) => line.includes('stratum listens')),
    );
    ingest.start();
    const load = startLoad(() => port, LINES, PER_SECOND);
    ends.push(() => load.stop());

    /** Packs, as a cron job would, the log of any job but the newest two. */
    const pack = (): void => {
      const plain = readdirSync(logs, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.sharelog'))
        .sort()
        .slice(0, -2)
        // What is written to a file that is being packed is lost, as to an operator who does not wait: the daemon may be behind.
        .filter((name) => Date.now() - statSync(join(logs, name)).mtimeMs > QUIET_MS);
      const name = plain[Math.floor(random() * plain.length)];
      // -f: a late share may have made the log of a packed job anew; then both stay.
      if (name !== undefined && !existsSync(join(logs, `${name}.gz`))) execFileSync('gzip', [join(logs, name)]);
    };
    let rotations = 0;
    const rotate = (): void => {
      const log = join(logs, 'ckpool.log');
      if (existsSync(log)) renameSync(log, `${log}.${++rotations}`);
      if (pool.pid !== 0) process.kill(pool.pid, 'SIGHUP');
    };
    let stirring = true;
    /** What is refused is logged and compared too: a job that nobody knows, and the same share twice. */
    const refusing = (async () => {
      const client = await Client.open(port);
      await client.subscribe('refused/1');
      await client.call('mining.authorize', ['user9.refused', 'x']);
      await until('a job', () => client.jobs.length > 0);
      for (let nonce = 0; stirring; nonce++) {
        const { jobId, ntime } = { jobId: client.job.params[0] as string, ntime: client.job.params[7] as string };
        const words = ['user9.refused', jobId, '00000000', ntime, nonce.toString(16).padStart(8, '0')];
        words[2] = '00'.repeat(client.nonce2Bytes);
        await client.call('mining.submit', words);
        await client.call('mining.submit', words);
        await client.call('mining.submit', words.with(1, 'deadbeef'));
        await delay(20);
      }
      client.destroy();
    })();
    ends.push(() => refusing);
    const stir = (async () => {
      for (let blockAt = 0; stirring; ) {
        if (performance.now() - blockAt > BLOCK_MS) {
          blockAt = performance.now();
          await node.newBlock();
          rotate();
        }
        pack();
        await delay(100 + random() * 300);
      }
    })();

    for (let i = 0; i < KILLS; i++) {
      const before = load.acknowledged();
      const written = sizeOf(filled);
      await until(
        () => `shares to be taken in before kill ${i + 1} (${said.slice(-20).join('\n')})`,
        () => load.acknowledged() > before + PER_SECOND / 4 && sizeOf(filled) > written,
      );
      await delay(random() * 1_500);
      kill(ingest.pid);
    }
    await load.stop();
    stirring = false;
    await Promise.all([stir, refusing]);
    await pool.stop();
    await ingest.stop();
    const { status, output } = await lodestreamOnce(['ingest', '--logdir', logs, '--data-dir', filled, '--json']);
    expect(status, output).toBe(0);

    const live = new Map<string, ShareEvent>();
    for (const instance of listInstances(join(data, 'journal'), 'share')) {
      for (const share of await journaled(data, instance, 'share')) live.set(shareIdentity(share), share);
    }
    const back = new Map<string, ShareEvent>();
    let events = 0;
    for (const share of await journaled(filled, 'ingest-ckpool', 'share')) {
      events += 1;
      back.set(shareIdentity(share), share);
    }
    const accepted = [...live.values()].filter((share) => share.accepted).length;
    console.log(
      `${KILLS} kills, ${rotations} rotations, ${readdirSync(logs, { recursive: true }).filter((name) => String(name).endsWith('.gz')).length} packed: ` +
        `${live.size} shares (${accepted} accepted), ${events} events of the ingestor`,
    );
    expect(load.acknowledged()).toBeLessThanOrEqual(accepted);
    expect(live.size - accepted).toBeGreaterThan(KILLS);
    expect([...live.keys()].filter((identity) => !back.has(identity))).toEqual([]);
    expect([...back.keys()].filter((identity) => !live.has(identity))).toEqual([]);
    for (const [identity, share] of live) expect(facts(back.get(identity)!)).toBe(facts(share));
    expect(await journaled(filled, 'ingest-ckpool', 'quarantine')).toEqual([]);
    expect([...pool.surprises, ...ingest.surprises]).toEqual([]);
    expect(readFileSync(join(logs, '.lodestream-origin'), 'utf8')).toBe('ckpool\n');
  },
  120_000 + KILLS * 20_000,
);

test(
  'a share that daemon and ingestor tell at the same moment counts once, as the daemon tells it, whatever is killed',
  async () => {
    const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`FAULTS_SEED=${seed}`);
    const random = seeded(seed);
    const stack = await startStack('faults-ingest', { workers: 2 });
    ends.push(() => stack.close());
    const said: string[] = [];
    const ingest = new Kept(
      'ingest',
      ['ingest', '--logdir', stack.logDir, '--data-dir', stack.dataDir, '--follow'],
      said,
    );
    ends.push(() => ingest.stop());
    ingest.start();
    const load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
    ends.push(() => load.stop());
    for (let i = 0; i < KILLS; i++) {
      const written = sizeOf(stack.dataDir);
      await until(
        () => `shares to be taken in before kill ${i + 1} (${said.slice(-20).join('\n')})`,
        () => sizeOf(stack.dataDir) > written,
      );
      if (i % 3 === 0) await stack.node.newBlock();
      await delay(random() * 1_000);
      kill(random() < 0.7 ? ingest.pid : stack.consume.pid);
    }
    await load.stop();
    await stack.pool.stop();
    await ingest.stop();
    const { status, output } = await stack.once('ingest', '--json');
    expect(status, output).toBe(0);
    await settled(stack);
    const account = await expectRecord(stack, load);
    const [live, back] = (
      await stack.sql("SELECT countIf(source = 'live'), countIf(source = 'backfill') FROM shares FORMAT TabSeparated")
    ).split('\t');
    const told = (await journaled(stack.dataDir, 'ingest-ckpool', 'share')).length;
    console.log(`${KILLS} kills: ${JSON.stringify(account)}; ${live} live, ${told} of them told by the ingestor too`);
    expect(back).toBe('0');
    expect(told).toBeGreaterThanOrEqual(account.stored);
    expect([...stack.surprises(), ...ingest.surprises]).toEqual([]);
  },
  180_000 + KILLS * 20_000,
);
