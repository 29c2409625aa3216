/** The relay while leaders of partitions die: it finds the new ones, nothing is lost, and each partition keeps the order of the journal. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ConfigResourceTypes, Kafka, logLevel } from 'kafkajs';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { clusterForTests } from '../helpers/kafka-cluster.ts';
import { until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { compareLogs, mine } from './carried.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'relay-leaders-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));
const journalDir = (): string => join(dir, 'journal');
/** Between 400 shares: some 15,000 a second, so that the machine is not all load. */
const PAUSE_MS = 25;

const cluster = await havePart('kafka', () => clusterForTests(3));
afterAll(() => cluster?.stop());

describe.skipIf(!cluster)('the relay and three brokers', () => {
  test('topics have three copies, two of which must be written; leaders die in the middle of it and nothing is lost or out of order', async () => {
    const { brokers } = cluster!;
    const topicPrefix = 'leaders.';
    const lines: string[] = [];
    const log = (line: string): void => void lines.push(line);
    const kafka = await openKafkaLog({ brokers, clientId: 'relay', topicPrefix, partitions: 3, log });
    const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const { topics } = await admin.fetchTopicMetadata({ topics: [`${topicPrefix}share`, `${topicPrefix}schema`] });
    for (const { partitions } of topics) for (const { replicas } of partitions) expect(replicas).toHaveLength(3);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: `${topicPrefix}share` }],
    });
    const settings = resources[0]!.configEntries.map(({ configName, configValue }) => `${configName}=${configValue}`);
    expect(settings).toContain('min.insync.replicas=2');
    expect(settings).toContain('unclean.leader.election.enable=false');
    await admin.disconnect();
    expect(await kafka.topicProblems()).toEqual([]);

    const relay = await startRelay({ journalDir: journalDir(), kafka, stateFile: join(dir, 'relay.sqlite'), log });
    const writer = openJournalWriter({ dir: journalDir(), instance: 'pool-0' });
    let mined = 0;
    let mining = true;
    const miner = (async () => {
      for (; mining; mined += 400) {
        await mine(writer, 400, mined);
        await pause(PAUSE_MS);
      }
    })();
    const goesOn = async (what: string): Promise<void> => {
      const { sent } = relay.counts();
      await until(what, () => relay.counts().sent > sent + 5000);
    };
    await goesOn('it carries');
    await cluster!.stopNode(2, 'SIGKILL');
    await goesOn('it goes on with two brokers after a kill');
    await cluster!.startNode(2);
    await goesOn('it goes on with three');
    await cluster!.stopNode(3, 'SIGTERM');
    await goesOn('it goes on with two brokers after a stop');
    await cluster!.startNode(3);
    mining = false;
    await miner;
    await until('drained', async () => (await relay.lag()).every(({ records }) => records === 0));
    await relay.stop();
    writer.close();
    await kafka.close();
    const copies = await compareLogs(journalDir(), brokers, topicPrefix);
    console.log(`${mined} shares, ${copies} copies`);
  }, 600_000);
});
