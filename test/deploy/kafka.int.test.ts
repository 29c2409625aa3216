import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ConfigResourceTypes, Kafka, logLevel } from 'kafkajs';
import { afterAll, describe, expect, test } from 'vitest';
import { TOPICS } from '../../schemas/events.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { sampleJob, shareEntries } from '../contracts/samples.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { havePart, type Missing } from '../helpers/require.ts';

const FOLDER = resolve(import.meta.dirname, '../../deploy/kafka');
const readme = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const kafka = await havePart('kafka', kafkaForTests);
const kcat = await havePart('kcat', (): { found: true } | Missing => {
  try {
    execFileSync('kcat', ['-V'], { stdio: 'pipe' });
    return { found: true };
  } catch {
    return { missing: 'no kcat on PATH' };
  }
});
afterAll(() => kafka?.stop());

describe.skipIf(!kafka)('the recipes of deploy/kafka', () => {
  test('the topics made by hand are those that the relay makes, setting for setting', async () => {
    const topicPrefix = `${kafka!.prefix}hand.`;
    const { brokers } = kafka!;
    await (await openKafkaLog({ brokers, clientId: 'a', topicPrefix, partitions: 4 })).close();
    const admin = new Kafka({ brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const lines = [...readme.matchAll(/^make --topic (\w+) +--partitions (\d+)(.*)$/gm)];
    expect(lines.map(([, topic]) => topic).sort()).toEqual([...TOPICS, 'schema'].sort());
    const common = /^make\(\) \{.*"\$@"; \}$/m.exec(readme)![0];
    for (const [, topic, partitions, rest] of lines) {
      const name = `${topicPrefix}${topic}`;
      const { topics } = await admin.fetchTopicMetadata({ topics: [name] });
      expect(topics[0]!.partitions, topic).toHaveLength(Number(partitions));
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name }],
      });
      // Those set on the topic itself (source 1 of the protocol).
      const own = resources[0]!.configEntries.filter(({ configSource }) => Number(configSource) === 1);
      const made = own.map(({ configName, configValue }) => `${configName}=${configValue}`).sort();
      const said = [...`${common} ${rest}`.matchAll(/--config (\S+)/g)].map(([, setting]) => setting!);
      // The recipe is for three brokers, the test has one.
      expect(made.map((setting) => setting.replace('replicas=1', 'replicas=2'))).toEqual(said.sort());
    }
    await admin.disconnect();
  });

  test.skipIf(!kcat)('kcat and decode.mjs show every event as JSON', async () => {
    const topicPrefix = `${kafka!.prefix}kcat.`;
    const { brokers } = kafka!;
    const log = await openKafkaLog({ brokers, clientId: 'a', topicPrefix, partitions: 2 });
    await log.append([...shareEntries(0, 300), { topic: 'job', event: sampleJob(7) }]);
    await log.close();
    const dir = mkdtempSync(join(tmpdir(), 'kcat-'));
    const schemas = join(dir, 'schemas');
    const [schemaFormat, format] = [...readme.matchAll(/-q -f '([^']+)'/g)].map(([, text]) => text!);
    const read = (topic: string, how: string): Buffer =>
      execFileSync('kcat', [
        '-C',
        '-b',
        brokers.join(),
        '-t',
        topicPrefix + topic,
        '-o',
        'beginning',
        '-e',
        '-q',
        '-f',
        how,
      ]);
    writeFileSync(schemas, read('schema', schemaFormat!));
    const decoded = (topic: string): Record<string, unknown>[] =>
      execFileSync(process.execPath, [join(FOLDER, 'decode.mjs'), schemas], {
        input: read(topic, format!),
        encoding: 'utf8',
      })
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    const shares = decoded('share');
    expect(new Set(shares.map(({ hash }) => hash)).size).toBe(300);
    expect(shares[0]).toMatchObject({ origin: 'test', user: 'alice', accepted: true });
    expect(decoded('job')).toMatchObject([{ height: 107, nbits: '207fffff' }]);
    rmSync(dir, { recursive: true });
  });
});
