import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, describe, expect, test } from 'vitest';
import type { KafkaConfig } from '../../services/core/config.ts';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { type KafkaLog, openKafkaLog } from '../../services/core/log/kafka.ts';
import { kafkaOptions } from '../../services/core/log/kafka-options.ts';
import { openKafka } from '../../services/core/log/open.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { readAll } from '../contracts/event-log.ts';
import { shareEntries } from '../contracts/samples.ts';
import { secureKafkaForTests } from '../helpers/kafka-cluster.ts';
import { until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';

const broker = await havePart('kafka', secureKafkaForTests);
const dir = mkdtempSync(join(tmpdir(), 'kafka-security-'));
afterAll(async () => {
  await broker?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const;
const tls = (caFile: string | null) => ({ caFile, certFile: null, keyFile: null });
const login = (mechanism: string, more: Partial<NonNullable<KafkaConfig['sasl']>> = {}) => ({
  ...{ mechanism, username: 'lode', password: 'secret', passwordFile: null },
  ...more,
});

let count = 0;
function configWith(more: Partial<KafkaConfig>): KafkaConfig {
  const common = { topicPrefix: `t${++count}.`, partitions: 1, group: 'g', replication: null, minInsyncReplicas: null };
  return { ...common, compression: 'zstd', ssl: null, sasl: null, brokers: [], ...more };
}

function open(more: Partial<KafkaConfig>): Promise<KafkaLog> {
  return openKafkaLog(kafkaOptions(configWith(more), 'test'));
}

async function worksWith(more: Partial<KafkaConfig>): Promise<void> {
  const log = await open(more);
  await log.append(shareEntries(0, 3));
  expect(await readAll(log, 'share', 3)).toHaveLength(3);
  expect(await log.topicProblems()).toEqual([]);
  await log.close();
}

async function refused(more: Partial<KafkaConfig>): Promise<string> {
  const error = await open(more).then(
    () => expect.fail('not refused'),
    (thrown: Error) => thrown,
  );
  expect(error.message).not.toContain('\n');
  expect(error.message).not.toContain('hidden');
  return error.message;
}

describe.skipIf(!broker)('a broker with logins, TLS and rights', () => {
  test.each(MECHANISMS)(
    'login %s: the password of the configuration or of a file is taken, another is refused',
    async (mechanism) => {
      const brokers = [broker!.sasl];
      await worksWith({ brokers, sasl: login(mechanism) });
      const passwordFile = join(dir, mechanism);
      writeFileSync(passwordFile, 'hidden\n');
      const sasl = login(mechanism, { password: '', passwordFile });
      const said = await refused({ brokers, sasl });
      expect(said).toContain(`the broker at ${broker!.sasl} refuses the user or password`);
      expect(said).toContain('correct "sasl_username" and "sasl_password"');
      writeFileSync(passwordFile, 'secret\n');
      await worksWith({ brokers, sasl });
    },
  );

  test('a login where none is taken, none where one is, and a file that is not there are said', async () => {
    expect(await refused({ brokers: [broker!.plaintext], sasl: login('plain') })).toMatch(
      /takes no login at this port/,
    );
    expect(await refused({ brokers: [broker!.sasl] })).toMatch(/expects TLS \("ssl"\) or a login \("sasl_mechanism"\)/);
    const passwordFile = join(dir, 'absent');
    expect(() => kafkaOptions({ sasl: login('plain', { passwordFile }), ssl: null } as KafkaConfig, 'test')).toThrow(
      /"lodestream.kafka.sasl_password_file": cannot read .*absent/,
    );
  });

  test('a user who may make no topics is told which are missing and where the commands that make them stand', async () => {
    const said = await refused({
      brokers: [broker!.sasl],
      sasl: login('plain', { username: 'guest' }),
      topicPrefix: 'g.',
    });
    expect(said).toMatch(
      /cannot make its topics: g\.block, g\.contract, g\.epoch, g\.hashrate, g\.job, g\.payout, g\.quarantine, g\.session, g\.share, g\.schema are not there, or not for this user/,
    );
    expect(said).toContain('allow it Create on the cluster, or make them by the commands in deploy/kafka/README.md');
  });

  test('a user who may not write is told so, with the topic', async () => {
    const brokers = [broker!.sasl];
    await (await open({ brokers: [broker!.plaintext], topicPrefix: 'w.' })).close();
    const admin = new Kafka({ brokers: [broker!.plaintext], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    // Describe alone (numbers of the protocol: topic, prefixed, describe, allow).
    await admin.createAcls({
      acl: [
        {
          ...{ resourceType: 2, resourceName: 'w.', resourcePatternType: 4, principal: 'User:guest', host: '*' },
          ...{ operation: 8, permissionType: 3 },
        },
        {
          ...{ resourceType: 2, resourceName: 'w.schema', resourcePatternType: 3, principal: 'User:guest', host: '*' },
          ...{ operation: 2, permissionType: 3 },
        },
      ],
    });
    await admin.disconnect();
    const log = await open({ brokers, sasl: login('plain', { username: 'guest' }), topicPrefix: 'w.' });
    await expect(log.append(shareEntries(0, 1))).rejects.toThrow(
      /cannot append to topic w\.share: the broker does not allow this user to do that: allow it in its ACLs \(TOPIC_AUTHORIZATION_FAILED\)/,
    );
    const problems = await log.topicProblems();
    expect(problems).toEqual([
      {
        what: expect.stringMatching(/cannot look at the settings of its topics: .*AUTHORIZATION_FAILED/),
        mend: 'see what the brokers answer, and what this user may ask',
      },
    ]);
    await log.close();
  });

  test('TLS works with the authority of the certificate, and every way to get it wrong is told with its mend', async () => {
    const { ssl, caFile, plaintext } = broker!;
    await worksWith({ brokers: [ssl], ssl: tls(caFile) });
    expect(await refused({ brokers: [ssl], ssl: tls(null) })).toMatch(
      /the certificate of localhost:\d+ is not trusted \(unable to verify the first certificate\): name its authority in "ssl_ca_file"/,
    );
    expect(await refused({ brokers: [ssl.replace('localhost', '127.0.0.1')], ssl: tls(caFile) })).toMatch(
      /the certificate of 127.0.0.1:\d+ is for another name .*: name the broker as its certificate does/,
    );
    expect(await refused({ brokers: [plaintext], ssl: tls(caFile) })).toMatch(
      /127.0.0.1:\d+ does not speak TLS: name its port for TLS, or leave "ssl" out/,
    );
    expect(await refused({ brokers: [ssl] })).toMatch(/localhost:\d+ closed the connection: .*expects TLS \("ssl"\)/);
  });

  test('a client certificate is taken, and each that is not is told with its mend', async () => {
    const { mtls, caFile } = broker!;
    const own = (certificate: { certFile: string; keyFile: string }) => ({ caFile, ...certificate });
    const client = broker!.certificate('client');
    await worksWith({ brokers: [mtls], ssl: own(client) });
    expect(await refused({ brokers: [mtls], ssl: tls(caFile) })).toMatch(
      /the broker at localhost:\d+ wants a certificate of ours and got none that it takes .*"ssl_cert_file" and "ssl_key_file"/,
    );
    expect(await refused({ brokers: [mtls], ssl: own(broker!.certificate('old', { days: -1 })) })).toMatch(
      /the broker at localhost:\d+ refuses our certificate.*"ssl_cert_file"/,
    );
    expect(await refused({ brokers: [mtls], ssl: own(broker!.certificate('foreign', { by: 'stranger' })) })).toMatch(
      /the broker at localhost:\d+ refuses our certificate.*"ssl_cert_file"/,
    );
    const other = broker!.certificate('other');
    const options = (ssl: KafkaConfig['ssl']) => () => kafkaOptions(configWith({ brokers: [mtls], ssl }), 'test');
    expect(options({ caFile, certFile: client.certFile, keyFile: other.keyFile })).toThrow(
      /"lodestream.kafka.ssl_key_file": the key in .*other.key is not that of the certificate in .*client.crt/,
    );
    expect(options({ caFile: client.keyFile, certFile: null, keyFile: null })).toThrow(
      /"lodestream.kafka.ssl_ca_file": .*client.key holds no certificate in PEM form/,
    );
    expect(options({ caFile, certFile: client.certFile, keyFile: client.certFile })).toThrow(
      /"lodestream.kafka.ssl_key_file": .*client.crt holds no private key in PEM form/,
    );
  });

  test('a certificate of the broker that has expired is told, and once it is renewed there the log is reached by itself', async () => {
    const { expired, caFile } = broker!;
    expect(await refused({ brokers: [expired], ssl: tls(caFile) })).toMatch(
      /the certificate of localhost:\d+ has expired: renew it there/,
    );
    const lines: string[] = [];
    const config = configWith({ brokers: [expired], ssl: tls(caFile) });
    const opening = openKafka(config, 'test', { log: (line) => lines.push(line), signal: AbortSignal.timeout(60_000) });
    await until('it says so', () => lines.some((line) => line.includes('has expired: renew it there')));
    await broker!.renew();
    await (await opening).close();
    expect(lines.filter((line) => line.startsWith('waiting'))).toHaveLength(1);
  });

  /** A relay on these files, with one writer. */
  async function relaying(more: Partial<KafkaConfig>) {
    const dataDir = mkdtempSync(join(dir, 'relay-'));
    const lines: string[] = [];
    const kafka = await open(more);
    const writer = openJournalWriter({ dir: join(dataDir, 'journal'), instance: 'a' });
    const relay = await startRelay({
      ...{ journalDir: join(dataDir, 'journal'), kafka, stateFile: join(dataDir, 'relay.sqlite') },
      log: (line) => lines.push(line),
    });
    let mined = 0;
    return {
      relay,
      lines,
      kafka,
      mine: () => void writer.append(shareEntries(mined++, 1)),
      async allCarried() {
        await until(
          () => `${mined} carried, ${relay.counts().sent} are: ${lines.join('\n')}`,
          () => relay.counts().sent >= mined,
        );
        const numbers = (await readAll(kafka, 'share', mined)).map(({ sequence }) => sequence);
        expect([...new Set(numbers)].sort((a, b) => a - b)).toEqual(Array.from({ length: mined }, (_, i) => i));
      },
      async end() {
        await relay.stop();
        writer.close();
        await kafka.close();
      },
    };
  }

  test('our certificate expires while the relay works: it says so, and a renewed file is taken up by itself', async () => {
    const { mtls, caFile } = broker!;
    const files = { certFile: join(dir, 'client.crt'), keyFile: join(dir, 'client.key') };
    const lay = (days: number): void => {
      const made = broker!.certificate('client', { days });
      copyFileSync(made.certFile, files.certFile);
      copyFileSync(made.keyFile, files.keyFile);
    };
    lay(1);
    const at = await relaying({ brokers: [mtls], ssl: { caFile, ...files } });
    at.mine();
    await at.allCarried();
    lay(-1);
    await broker!.restart();
    at.mine();
    await until('the refusal is said', () => at.relay.problem()?.includes('refuses our certificate') === true);
    // A renewal that is half done: the key does not belong to the certificate yet.
    copyFileSync(broker!.certificate('other').keyFile, files.keyFile);
    await until('the mismatch is said', () => at.relay.problem()?.includes('is not that of the certificate') === true);
    lay(1);
    await at.allCarried();
    expect(at.relay.problem()).toBe(null);
    expect(at.lines.at(-1)).toBe('records are acknowledged again');
    await at.end();
  });

  test('the password changes while the relay works: it says so, and the new one in the file is taken up by itself', async () => {
    const passwordFile = join(dir, 'changing');
    writeFileSync(passwordFile, 'secret\n');
    const at = await relaying({
      brokers: [broker!.sasl],
      sasl: login('scram-sha-512', { password: '', passwordFile }),
    });
    at.mine();
    await at.allCarried();
    await broker!.setPassword('lode', 'hidden');
    await until(
      'the refusal is said',
      () => {
        at.mine();
        return at.relay.problem()?.includes('refuses the user or password') === true;
      },
      { everyMs: 250 },
    );
    expect(at.relay.problem()).toContain(broker!.sasl);
    writeFileSync(passwordFile, 'hidden\n');
    await at.allCarried();
    expect(at.lines.join('\n')).not.toContain('hidden');
    await broker!.setPassword('lode', 'secret');
    await at.end();
  });
});
