/** The audit beside real process trees and a real broker: workers, a hand-over, sessions that go on at another process, a relay that begins again. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { Finding } from '../../services/audit/findings.ts';
import { type AuditRun, runAudit } from '../../services/audit/main.ts';
import { targetFromBits } from '../../services/core/bitcoin/target.ts';
import { chainsOf } from '../../services/core/chains/profile.ts';
import type { EventLog } from '../../services/core/log/event-log.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { type Running, startTree, submit } from '../services/stratum/pool-tree.ts';
import type { Client } from '../services/stratum/rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
const broker = await havePart('kafka', () => kafkaForTests());
afterAll(() => broker?.stop());

async function audit(log: EventLog, more: Partial<AuditRun> = {}) {
  const findings: Finding[] = [];
  const end = await runAudit({
    log,
    chain: chainsOf('playground'),
    origin: null,
    fromUs: null,
    toUs: null,
    positionSince: () => null,
    onFinding: (finding) => void findings.push(finding),
    signal: new AbortController().signal,
    ...more,
  });
  return { ...end, findings };
}

/** Two workers, each with a miner; a block by one of them; a hand-over, after which a session goes on. Gives how many shares were accepted. */
async function busyTree(): Promise<{ tree: Running; accepted: number }> {
  const tree = await startTree(ends, { workers: 2 });
  let accepted = 0;
  const mine = async (client: Client, of: Parameters<Client['mine']>[1] = {}): Promise<void> => {
    const { result } = await submit(client, client.mine(client.job, { atLeast: client.difficulty, ...of }));
    if (result === true) accepted += 1;
  };
  const miners: Client[] = [];
  for (let i = 0; i < 4; i++) {
    const miner = await tree.client();
    await miner.login();
    miners.push(miner);
  }
  for (let i = 0; i < 5; i++) for (const miner of miners) await mine(miner, { nonce2: i });
  const [first] = miners;
  // A block: all get work on it.
  const [, prevHash, , , , , bits] = first!.job.params as string[];
  await mine(first!, { solves: targetFromBits(Number.parseInt(bits!, 16)), nonce2: 50 });
  await until('work on the block', () => miners.every(({ job }) => job.params[1] !== prevHash));
  for (const miner of miners) await mine(miner, { nonce2: 55 });
  const done = tree.pool.handOver();
  await until('the request to reconnect', () => first!.lines.some((line) => line.includes('client.reconnect')));
  const again = await tree.client();
  await again.subscribe('test/1', first!.sessionId);
  await again.call('mining.authorize', ['alice.w1', 'x']);
  await until('a job', () => again.jobs.length > 0);
  await mine(again, { nonce2: 60 });
  await done;
  for (let i = 0; i < 3; i++) await mine(again, { nonce2: 70 + i });
  return { tree, accepted };
}

describe('a pool of two workers', () => {
  test('round a hand-over all holds, while it runs', async () => {
    const { tree, accepted } = await busyTree();
    const log = openJournalLog({ dir: join(tree.config.dataDir, 'journal') });
    const { counts, findings } = await audit(log);
    await log.close();
    expect(findings).toEqual([]);
    expect(accepted).toBeGreaterThan(20);
    expect(counts).toMatchObject({ shares: counts.held, notHeld: 0, jobsNotHeld: 0, uncheckable: {} });
    expect(counts.solved).toBeGreaterThanOrEqual(1);
    expect(counts.held).toBeGreaterThanOrEqual(accepted);
  });

  test.skipIf(!broker)(
    'the same in Kafka, shipped twice by a relay that lost its place',
    async () => {
      const { tree, accepted } = await busyTree();
      await tree.end();
      const topicPrefix = `t${randomBytes(4).toString('hex')}.`;
      const kafka = await openKafkaLog({ brokers: broker!.brokers, clientId: 'audit', topicPrefix, partitions: 3 });
      ends.push(() => kafka.close());
      const stateFile = join(tree.dir, 'relay.sqlite');
      const ship = async (): Promise<void> => {
        const journalDir = join(tree.config.dataDir, 'journal');
        const relay = await startRelay({ journalDir, kafka, stateFile, log: () => {} });
        await until('the relay to be through', async () => (await relay.lag()).every(({ records }) => records === 0));
        await relay.stop();
      };
      await ship();
      const once = await audit(kafka);
      expect(once.findings).toEqual([]);
      expect(once.counts).toMatchObject({ shares: once.counts.held, again: 0 });
      expect(once.counts.held).toBeGreaterThanOrEqual(accepted);

      rmSync(stateFile);
      for (const tail of ['-wal', '-shm']) rmSync(`${stateFile}${tail}`, { force: true });
      await ship();
      const twice = await audit(kafka, { waitingLimit: 3 });
      expect(twice.findings).toEqual([]);
      expect(twice.counts.shares).toBe(2 * once.counts.shares);
      expect(twice.counts.again).toBe(accepted);
    },
    360_000,
  );
});
