/**
 * Brokers with more to them than the shared one: several that hold copies of each other's partitions, or one with logins, TLS and rights.
 * Each is a real Apache Kafka on loopback (test/kafka/broker.ts).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PoolError } from '../../services/core/errors.ts';
import { type Broker, randomClusterId, startBroker } from '../kafka/broker.ts';
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
  /** Users `lode` and `guest`, password `secret`; guest has no rights. PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  readonly sasl: string;
  /** TLS with a certificate for `localhost` by an authority of its own, in `caFile`. */
  readonly ssl: string;
  readonly caFile: string;
  stop(): Promise<void>;
}

/** A broker with three listeners and an authorizer. */
export async function secureKafkaForTests(): Promise<SecureKafka | Missing> {
  const dir = tempDir('kafka-secure');
  const [plaintext, sasl, ssl, controller] = (await freePorts(4)) as [number, number, number, number];
  const path = (name: string): string => join(dir.path, name);
  let broker: Broker;
  try {
    makeCertificates(dir.path);
    const login = 'org.apache.kafka.common.security';
    const scram = `${login}.scram.ScramLoginModule required;`;
    const extra = `
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=CLIENTS://127.0.0.1:${plaintext},SASL://127.0.0.1:${sasl},SSL://127.0.0.1:${ssl},CONTROLLER://127.0.0.1:${controller}
advertised.listeners=CLIENTS://127.0.0.1:${plaintext},SASL://127.0.0.1:${sasl},SSL://localhost:${ssl}
listener.security.protocol.map=CLIENTS:PLAINTEXT,SASL:SASL_PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=${login}.plain.PlainLoginModule required user_lode="secret" user_guest="secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=${scram}
listener.name.sasl.scram-sha-512.sasl.jaas.config=${scram}
listener.name.ssl.ssl.keystore.type=PEM
listener.name.ssl.ssl.keystore.location=${path('broker.pem')}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:lode
`;
    const format = ['256', '512'].flatMap((bits) => [
      ...['--add-scram', `SCRAM-SHA-${bits}=[name=lode,password=secret]`],
      ...['--add-scram', `SCRAM-SHA-${bits}=[name=guest,password=secret]`],
    ]);
    broker = await startBroker({ port: plaintext, dataDir: path('data'), extra, format });
  } catch (error) {
    dir.remove();
    if (error instanceof PoolError && error.code === 'missing_part') return { missing: error.message };
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { missing: 'no openssl on PATH' };
    throw error;
  }
  return {
    plaintext: `127.0.0.1:${plaintext}`,
    sasl: `127.0.0.1:${sasl}`,
    ssl: `localhost:${ssl}`,
    caFile: path('ca.crt'),
    async stop() {
      await broker.process.stop({ signal: 'SIGKILL' });
      dir.remove();
    },
  };
}

/** An authority and a certificate of it for `localhost`, valid for a day; key and certificate together as Kafka's PEM key store. */
function makeCertificates(dir: string): void {
  const openssl = (...args: string[]): string =>
    execFileSync('openssl', args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '1', '-subj', '/CN=test authority');
  openssl('req', ...key, '-keyout', 'broker.key', '-out', 'broker.csr', '-subj', '/CN=localhost');
  writeFileSync(join(dir, 'san.ext'), 'subjectAltName=DNS:localhost\n');
  const by = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1', '-extfile', 'san.ext'];
  const certificate = openssl('x509', '-req', '-in', 'broker.csr', ...by);
  writeFileSync(join(dir, 'broker.pem'), openssl('pkcs8', '-topk8', '-nocrypt', '-in', 'broker.key') + certificate);
  chmodSync(join(dir, 'broker.pem'), 0o600);
}
