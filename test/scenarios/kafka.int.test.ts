/** The same pool with `"lodestream": {"kafka": …}` and a real broker: the shares arrive through Kafka, and somebody else's tool can list them. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decoderFor } from '../../schemas/codec.ts';
import { eventKey } from '../../schemas/identity.ts';
import { readPublished } from '../../services/consumers/derivations.ts';
import { loadChain } from '../../services/core/chains/profile.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { playgroundAddress } from '../../services/playground/main.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { sharesAbove, startPlayground, type Tree, treePorts } from '../helpers/tree.ts';

const run = promisify(execFile);
const kafka = await havePart('kafka', () => kafkaForTests());
const kcat = await havePart('kcat', () =>
  run('kcat', ['-V']).then(
    () => ({ path: 'kcat' }),
    () => ({ missing: 'no kcat on PATH' }),
  ),
);
const prefix = `${kafka?.prefix}scenario.`;

let dir: { path: string; remove(): void };
let tree: Tree;

describe.skipIf(kafka === undefined)('the playground with Kafka as its log', () => {
  beforeAll(async () => {
    dir = tempDir('kafka-scenario');
    const ports = await treePorts();
    const config = join(dir.path, 'ckpool.conf');
    writeFileSync(
      config,
      JSON.stringify({
        btcd: [{ url: `127.0.0.1:${ports.rpc}`, auth: 'playground', pass: 'playground', notify: false }],
        btcaddress: playgroundAddress(loadChain('playground')),
        mindiff: 1e-7,
        startdiff: 2e-6,
        update_interval: 10,
        zmqblock: `tcp://127.0.0.1:${ports.zmq}`,
        lodestream: {
          chain: 'playground',
          origin: 'playground',
          kafka: { brokers: kafka!.brokers, topic_prefix: prefix, partitions: 3 },
        },
      }),
    );
    tree = await startPlayground(dir.path, ports, ['--config', config]);
  }, 360_000);
  afterAll(async () => {
    await tree?.leash.stop({ graceMs: 30_000 });
    dir?.remove();
    await kafka?.stop();
  });

  test('shares arrive in SQL through the broker, and health is well', { timeout: 360_000 }, async () => {
    const first = await sharesAbove(tree, 0);
    await sharesAbove(tree, first);
    await until('healthz is 200', async () => (await tree.health()) === 200, { everyMs: 250 });
  });

  test.skipIf(kcat === undefined)('kcat lists them', async () => {
    const count = Number(await tree.sql('SELECT count() FROM shares'));
    const listed = await run(
      'kcat',
      ['-b', kafka!.brokers[0]!, '-C', '-t', `${prefix}share`, '-e', '-q', '-f', '%k\\n'],
      { timeout: 120_000 },
    );
    const keys = new Set(listed.stdout.split('\n').filter((line) => line !== ''));
    expect(keys.size).toBeGreaterThanOrEqual(count);
    for (const key of keys) expect(key).toMatch(/^playground\//);
  });

  test('kill -9 of the process that relays and consumes: it goes on, and each share counts once', {
    timeout: 360_000,
  }, async () => {
    const pid = (await tree.running()).pipeline!;
    const count = Number(await tree.sql('SELECT count() FROM shares WHERE accepted'));
    process.kill(pid, 'SIGKILL');
    await sharesAbove(tree, count);
    expect(await tree.sql('SELECT count() = uniqExact(origin, identity) FROM shares')).toBe('1');
  });

  test('what is derived of the chain is in the broker too, and the kill made nothing of it twice', {
    timeout: 360_000,
  }, async () => {
    const log = await openKafkaLog({
      brokers: kafka!.brokers,
      clientId: 'derivations',
      topicPrefix: prefix,
      partitions: 3,
    });
    try {
      const measured = async (floor: number): Promise<number> => {
        const said =
          (await readPublished(log, new AbortController().signal)).chains.get('playground')?.hashrates.size ?? 0;
        return said > floor ? said : 0;
      };
      const first = await until('hashrates in the broker', () => measured(1), { everyMs: 500 });
      await until('more of them', () => measured(first + 1), { everyMs: 500 });
      const [partition] = await log.partitions('hashrate');
      const { records } = await log.read('hashrate', partition!, null, { maxRecords: 10_000, waitMs: 1_000 });
      const decode = decoderFor('hashrate');
      const keys = records.map((record) => eventKey('hashrate', decode(record.body), record));
      expect(new Set(keys).size).toBe(keys.length);
    } finally {
      await log.close();
    }
  });
});
