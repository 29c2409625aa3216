import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { migrate, readMigrations } from '../../../services/consumers/migrations.ts';
import { type Config, loadConfig, parseHostPort } from '../../../services/core/config.ts';
import { openKafkaLog } from '../../../services/core/log/kafka.ts';
import type { Finding } from '../../../services/doctor/main.ts';
import { checkClickhouse, checkKafka } from '../../../services/doctor/stores.ts';
import { noClickHouse, startTestClickHouse } from '../../helpers/clickhouse.ts';
import { kafkaForTests } from '../../helpers/kafka-broker.ts';
import { freePort, tempDir } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const sick = (findings: readonly Finding[]): string[] =>
  findings.flatMap(({ state, what }) => (state === 'ok' ? [] : [`${state}: ${what}`]));

function configIn(dataDir: string, more: Partial<Config> = {}): Config {
  return { ...loadConfig({ options: { 'lodestream.data_dir': dataDir } }, {}), ...more };
}

describe('doctor on a ClickHouse that is not there', () => {
  test('an embedded one that never ran, does not run, or died under its programs; a server that is away', async () => {
    const dir = tempDir('doctor');
    closers.push(dir.remove);
    const config = configIn(dir.path, { clickhouseHttp: { host: '127.0.0.1', port: await freePort() } });
    const ask = (runs: boolean, more: Partial<Config> = {}) =>
      checkClickhouse({ ...config, ...more }, readMigrations(), runs).then(sick);
    expect(await ask(false)).toEqual([expect.stringMatching(/^warn: the embedded engine has never run in/)]);
    writeFileSync(join(dir.path, 'clickhouse-writer.token'), 'x\n');
    expect(await ask(false)).toEqual(['warn: the embedded engine does not run now']);
    expect(await ask(true)).toEqual([expect.stringMatching(/^bad: .*ECONNREFUSED/)]);
    const url = `http://127.0.0.1:${await freePort()}`;
    expect(await ask(false, { clickhouse: { url, user: 'u', password: 'secret' } })).toEqual([
      expect.stringMatching(/^bad: .*ECONNREFUSED/),
    ]);
  });
});

describe.skipIf(noClickHouse !== undefined)('doctor on ClickHouse', () => {
  test('tables not made yet, migrations to apply, a file that was edited, a newer version, a wrong password', async () => {
    const clickhouse = await startTestClickHouse({ own: true });
    const dir = tempDir('doctor');
    closers.push(dir.remove, () => clickhouse.stop());
    writeFileSync(join(dir.path, 'clickhouse-writer.token'), `${clickhouse.token}\n`);
    const config = configIn(dir.path, { clickhouseHttp: parseHostPort(new URL(clickhouse.url).host, null) });
    const schema = readMigrations();
    const ask = (files = schema) => checkClickhouse(config, files, true);
    expect(sick(await ask())).toEqual([expect.stringMatching(/^warn: .*has no tables yet$/)]);
    await migrate(clickhouse.writer, schema);
    expect(sick(await ask())).toEqual([]);
    expect((await ask()).map(({ what }) => what)).toEqual([
      expect.stringMatching(new RegExp(`^ClickHouse \\d.*, database default, ${schema.length} migrations applied$`)),
      'the analyst reads and cannot write',
    ]);
    const next = { number: schema.length + 1, name: '9999_next.sql', digest: 'x', statements: [] };
    expect(sick(await ask([...schema, next]))).toEqual(['warn: migrations are to be applied: 9999_next.sql']);
    expect(sick(await ask(schema.slice(0, -1)))).toEqual([expect.stringMatching(/^bad: its tables are of a newer/)]);
    const edited = schema.map((file, i) => (i === 2 ? { ...file, digest: 'other' } : file));
    expect(sick(await ask(edited))).toEqual([
      expect.stringMatching(/^bad: schemas\/clickhouse\/0003_blocks\.sql is not the file/),
    ]);
    writeFileSync(join(dir.path, 'clickhouse-writer.token'), 'another\n');
    expect(sick(await ask())).toEqual([expect.stringMatching(/^bad: .*refuses the password in .*writer\.token/)]);
  });
});

test('Kafka: not configured is well, brokers that are away are bad', async () => {
  const dir = tempDir('doctor');
  closers.push(dir.remove);
  expect((await checkKafka(configIn(dir.path)))[0]).toMatchObject({ state: 'ok' });
  const brokers = [`127.0.0.1:${await freePort()}`];
  const config = loadConfig({ options: { 'lodestream.kafka.brokers': brokers.join() } }, {});
  expect(sick(await checkKafka(config))).toEqual([expect.stringMatching(new RegExp(`^bad: .*${brokers[0]}`))]);
});

const kafka = await havePart('kafka', kafkaForTests);
afterAll(() => kafka?.stop());
describe.skipIf(!kafka)('doctor on a real broker', () => {
  test('topics not made, topics that forget, one broker alone; and nothing is made by looking', async () => {
    const topicPrefix = `${kafka!.prefix}${randomBytes(4).toString('hex')}.`;
    const found = loadConfig({ options: { 'lodestream.kafka.brokers': kafka!.brokers.join() } }, {});
    const config = { ...found, kafka: { ...found.kafka!, topicPrefix } };
    const look = async () => (await checkKafka(config)).filter(({ what }) => !/ brokers?: a lost disk/.test(what));
    expect(sick(await look())).toEqual([expect.stringMatching(/^warn: topics are not there yet: .*share/)]);
    const admin = new Kafka({ brokers: kafka!.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    closers.push(() => admin.disconnect());
    expect((await admin.listTopics()).filter((name) => name.startsWith(topicPrefix))).toEqual([]);
    await admin.createTopics({
      topics: [
        {
          topic: `${topicPrefix}block`,
          numPartitions: 3,
          configEntries: [{ name: 'retention.ms', value: '604800000' }],
        },
      ],
    });
    const findings = await look();
    expect(sick(findings)).toContainEqual(
      expect.stringMatching(/^bad: topic \S+block has 3 partitions and must have 1/),
    );
    expect(findings).toContainEqual(
      expect.objectContaining({
        state: 'bad',
        what: `topic ${topicPrefix}block has retention.ms=604800000: the log of record is forgotten`,
        mend: expect.stringMatching(/^kafka-configs\.sh --alter --topic \S+block --add-config retention\.ms=-1$/),
      }),
    );
    await admin.deleteTopics({ topics: [`${topicPrefix}block`] });
    const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'a', topicPrefix: `${topicPrefix}2.` });
    await log.close();
    const well = await checkKafka({ ...config, kafka: { ...config.kafka, topicPrefix: `${topicPrefix}2.` } });
    expect(sick(well).filter((line) => !/ brokers?: a lost disk/.test(line))).toEqual([]);
  });
});
