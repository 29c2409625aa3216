/**
 * Brokers with more to them than the shared one: several that hold copies of each other's partitions, or one with logins, TLS and rights.
 * Each is a real Apache Kafka on loopback (test/kafka/broker.ts).
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PoolError } from '../../services/core/errors.ts';
import { type Broker, kafkaJars, randomClusterId, startBroker } from '../kafka/broker.ts';
import { freePorts, tempDir } from './leash.ts';
import type { Missing } from './require.ts';

export interface TestCluster {
  readonly brokers: string[];
  /** Ends node n (1 is the controller, which stays). */
  stopNode(n: number, signal?: NodeJS.Signals): Promise<void>;
  startNode(n: number): Promise<void>;
  stop(): Promise<void>;
}

/** Node 1 is controller and broker, the others are brokers. */
export async function clusterForTests(count: number): Promise<TestCluster | Missing> {
  const dir = tempDir('kafka-cluster');
  const ports = await freePorts(count + 1);
  const controller = ports.pop()!;
  const clusterId = randomClusterId();
  const nodes: (Broker | null)[] = ports.map(() => null);
  const start = async (n: number): Promise<void> => {
    const clients = `CLIENTS://127.0.0.1:${ports[n - 1]}`;
    const extra = `
node.id=${n}
process.roles=${n === 1 ? 'broker,controller' : 'broker'}
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=${clients}${n === 1 ? `,CONTROLLER://127.0.0.1:${controller}` : ''}
controlled.shutdown.max.retries=1
replica.lag.time.max.ms=4000
`;
    const dataDir = join(dir.path, String(n));
    nodes[n - 1] = await startBroker({ port: ports[n - 1]!, dataDir, sessionMs: 3_000, clusterId, extra });
  };
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node?.process.stop({ signal: 'SIGKILL' })));
    dir.remove();
  };
  try {
    await start(1);
    await Promise.all(ports.slice(1).map((_, i) => start(i + 2)));
  } catch (error) {
    await stop();
    if (error instanceof PoolError && error.code === 'missing_part') return { missing: error.message };
    throw error;
  }
  return {
    brokers: ports.map((port) => `127.0.0.1:${port}`),
    async stopNode(n, signal = 'SIGTERM') {
      await nodes[n - 1]!.process.stop({ signal });
      nodes[n - 1] = null;
    },
    startNode: start,
    stop,
  };
}

export interface SecureKafka {
  /** Without login; its user may do everything. */
  readonly plaintext: string;
  /**
   * Users `lode` and `guest`, password `secret`; guest has no rights. PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. A login holds for twelve
   * seconds.
   */
  readonly sasl: string;
  /** TLS with a certificate for `localhost` by an authority of its own, in `caFile`. */
  readonly ssl: string;
  /** The same, and it takes certificates of that authority alone; `client` may do everything. */
  readonly mtls: string;
  /** TLS with a certificate that has expired, until `renew`. */
  readonly expired: string;
  readonly caFile: string;
  /** Makes a certificate, or makes it again in the same files. @param how.days - that it holds; negative: it has expired */
  certificate(name: string, how?: { days?: number; by?: 'ca' | 'stranger' }): { certFile: string; keyFile: string };
  /** Sets a user's password for SCRAM-SHA-512. */
  setPassword(user: string, password: string): Promise<void>;
  /** Gives `expired` a certificate that holds, while the broker runs. */
  renew(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A broker with listeners of all kinds and an authorizer. */
export async function secureKafkaForTests(): Promise<SecureKafka | Missing> {
  const dir = tempDir('kafka-secure');
  const ports = (await freePorts(6)) as [number, number, number, number, number, number];
  const [plaintext, sasl, ssl, mtls, expired, controller] = ports;
  const path = (name: string): string => join(dir.path, name);
  let broker: Broker;
  let start: () => Promise<Broker>;
  try {
    makeAuthority(dir.path, 'ca');
    makeAuthority(dir.path, 'stranger');
    makeCertificate(dir.path, 'broker', 'ca', 1);
    makeCertificate(dir.path, 'broker-expired', 'ca', -1);
    const login = 'org.apache.kafka.common.security';
    const scram = `${login}.scram.ScramLoginModule required;`;
    const stores = [
      ['ssl', 'broker'],
      ['mtls', 'broker'],
      ['expired', 'broker-expired'],
    ].map(
      ([listener, name]) => `
listener.name.${listener}.ssl.keystore.type=PEM
listener.name.${listener}.ssl.keystore.location=${path(`${name}.pem`)}`,
    );
    const extra = `
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=CLIENTS://127.0.0.1:${plaintext},SASL://127.0.0.1:${sasl},SSL://127.0.0.1:${ssl},MTLS://127.0.0.1:${mtls},EXPIRED://127.0.0.1:${expired},CONTROLLER://127.0.0.1:${controller}
advertised.listeners=CLIENTS://127.0.0.1:${plaintext},SASL://127.0.0.1:${sasl},SSL://localhost:${ssl},MTLS://localhost:${mtls},EXPIRED://localhost:${expired}
listener.security.protocol.map=CLIENTS:PLAINTEXT,SASL:SASL_PLAINTEXT,SSL:SSL,MTLS:SSL,EXPIRED:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
connections.max.reauth.ms=12000
listener.name.sasl.plain.sasl.jaas.config=${login}.plain.PlainLoginModule required user_lode="secret" user_guest="secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=${scram}
listener.name.sasl.scram-sha-512.sasl.jaas.config=${scram}
${stores.join('')}
listener.name.mtls.ssl.client.auth=required
listener.name.mtls.ssl.truststore.type=PEM
listener.name.mtls.ssl.truststore.location=${path('ca.crt')}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:lode;User:CN=client
`;
    const format = ['256', '512'].flatMap((bits) => [
      ...['--add-scram', `SCRAM-SHA-${bits}=[name=lode,password=secret]`],
      ...['--add-scram', `SCRAM-SHA-${bits}=[name=guest,password=secret]`],
    ]);
    start = () => startBroker({ port: plaintext, dataDir: path('data'), extra, format });
    broker = await start();
  } catch (error) {
    dir.remove();
    if (error instanceof PoolError && error.code === 'missing_part') return { missing: error.message };
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { missing: 'no openssl on PATH' };
    throw error;
  }
  const alter = async (type: string, name: string, setting: string): Promise<void> => {
    const tool = ['-cp', join(await kafkaJars(), '*'), 'kafka.admin.ConfigCommand'];
    const what = ['--entity-type', type, '--entity-name', name, '--alter', '--add-config', setting];
    await promisify(execFile)('java', [...tool, '--bootstrap-server', `127.0.0.1:${plaintext}`, ...what]);
  };
  return {
    plaintext: `127.0.0.1:${plaintext}`,
    sasl: `127.0.0.1:${sasl}`,
    ssl: `localhost:${ssl}`,
    mtls: `localhost:${mtls}`,
    expired: `localhost:${expired}`,
    caFile: path('ca.crt'),
    certificate(name, { days = 1, by = 'ca' } = {}) {
      makeCertificate(dir.path, name, by, days);
      return { certFile: path(`${name}.crt`), keyFile: path(`${name}.key`) };
    },
    setPassword: (user, password) => alter('users', user, `SCRAM-SHA-512=[password=${password}]`),
    renew: () => alter('brokers', '1', `listener.name.expired.ssl.keystore.location=${path('broker.pem')}`),
    async restart() {
      await broker.process.stop();
      broker = await start();
    },
    async stop() {
      await broker.process.stop({ signal: 'SIGKILL' });
      dir.remove();
    },
  };
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

function openssl(dir: string, ...args: string[]): string {
  return execFileSync('openssl', args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

function makeAuthority(dir: string, name: string): void {
  const to = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
  openssl(dir, 'req', '-x509', ...NEW_KEY, ...to, '-days', '1', '-subj', `/CN=test authority ${name}`);
}

/** NAME.key, NAME.crt and NAME.pem, key and certificate together as Kafka's PEM key store: for `localhost`, or for the name where it is a client's. */
function makeCertificate(dir: string, name: string, by: string, days: number): void {
  const subject = name.startsWith('broker') ? 'localhost' : name;
  openssl(dir, 'req', ...NEW_KEY, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${subject}`);
  writeFileSync(join(dir, 'san.ext'), `subjectAltName=DNS:${subject}\n`);
  const signed = ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial', '-days', String(days)];
  openssl(dir, 'x509', '-req', '-in', `${name}.csr`, ...signed, '-extfile', 'san.ext', '-out', `${name}.crt`);
  const key = openssl(dir, 'pkcs8', '-topk8', '-nocrypt', '-in', `${name}.key`);
  writeFileSync(join(dir, `${name}.pem`), key + readFileSync(join(dir, `${name}.crt`), 'utf8'));
  chmodSync(join(dir, `${name}.pem`), 0o600);
}
