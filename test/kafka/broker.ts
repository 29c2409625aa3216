/**
 * An Apache Kafka broker on loopback for development and tests: one process, KRaft combined mode, jars from Maven Central.
 *
 *     npm run kafka [-- --port 9092 --data-dir data/kafka]
 *
 * Run by hand it stays in the foreground until Ctrl-C; tests start it through test/helpers/kafka-broker.ts.
 * Settings: https://kafka.apache.org/documentation/#brokerconfigs
 */

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { errorLine, PoolError } from '../../services/core/errors.ts';
import { freePort, type Leashed, startLeashed } from '../helpers/leash.ts';

const run = promisify(execFile);
const HERE = import.meta.dirname;
const ROOT = resolve(HERE, '../..');

/** The version that pom.xml names. */
export function kafkaVersion(): string {
  const version = /<kafka\.version>([^<]+)</.exec(readFileSync(join(HERE, 'pom.xml'), 'utf8'))?.[1];
  if (version === undefined) throw new Error('test/kafka/pom.xml has no kafka.version');
  return version;
}

/**
 * The directory with the broker's jars, fetched with Maven (44 MB, once) where absent.
 *
 * @throws PoolError missing_part where Java 17, Maven or the jars cannot be had: one line with what is missing
 */
export async function kafkaJars(): Promise<string> {
  const java = await run('java', ['-version']).catch((error: NodeJS.ErrnoException) => {
    throw new PoolError('missing_part', error.code === 'ENOENT' ? 'no java on PATH' : `java: ${error.message}`);
  });
  const major = Number(/version "(\d+)/.exec(java.stderr)?.[1] ?? 0);
  if (major < 17) throw new PoolError('missing_part', `Java ${major} on PATH, Kafka 4 needs 17 or newer`);

  const jars = join(ROOT, '.cache/kafka', kafkaVersion());
  if (existsSync(jars)) return jars;
  // Fetched aside and renamed: what stands under the final name is whole, also when two processes fetch at once.
  const aside = `${jars}.${process.pid}`;
  mkdirSync(aside, { recursive: true });
  try {
    await run(
      'mvn',
      [
        ...['-q', '-B', '-f', join(HERE, 'pom.xml')],
        ...['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${aside}`],
      ],
      { timeout: 300_000 },
    ).catch((error: NodeJS.ErrnoException & { stdout?: string }) => {
      if (error.code === 'ENOENT') throw new PoolError('missing_part', 'no mvn on PATH to fetch the broker with');
      const why = /\[ERROR\] (.*)/.exec(error.stdout ?? '')?.[1] ?? error.message;
      throw new PoolError('missing_part', `Maven could not fetch the broker: ${why}`, { cause: error });
    });
    try {
      renameSync(aside, jars);
    } catch (error) {
      if (!existsSync(jars)) throw error;
    }
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
  return jars;
}

/** 16 random bytes as base64url; a leading '-' would be read as an option. */
export function randomClusterId(): string {
  return randomBytes(16).toString('base64url').replace(/^-/, 'A');
}

export interface Broker {
  readonly version: string;
  /** `127.0.0.1:PORT`, as kafkajs takes it. */
  readonly address: string;
  readonly dataDir: string;
  readonly pid: number;
  readonly process: Leashed;
}

/** A heap of 256 MiB is enough for tests of some 100 MB; the serial collector and the first compiler alone halve the start-up time. */
const JVM = ['-Xms64m', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto'];

/**
 * Starts a broker and waits until it says that it is up (2-4 s on two cores, one second more where dataDir is new).
 * Stop it with `broker.process.stop()`; it ends with this process in any case.
 *
 * @param port - of the clients; the controller's is any free one
 * @param dataDir - formatted here where it is new; otherwise the broker goes on with what it holds
 * @param sessionMs - a broker that the controller has not heard from for so long loses its partitions, which a busy machine can bring about;
 *   after a kill -9 the next start waits for so long. Default 9 s, Kafka's
 * @param extra - lines of server.properties that win over ours: other listeners, a node of a cluster
 * @param format - more arguments for the storage tool where dataDir is new, such as --add-scram
 * @param clusterId - the same for all nodes of a cluster
 * @throws PoolError missing_part as kafkaJars, port_in_use, held, data_dir, kafka with the broker's own words
 */
export async function startBroker({
  port,
  dataDir,
  sessionMs = 9_000,
  extra = '',
  format = [],
  clusterId = randomClusterId(),
}: {
  port: number;
  dataDir: string;
  sessionMs?: number;
  extra?: string;
  format?: readonly string[];
  clusterId?: string;
}): Promise<Broker> {
  if (await answers(port)) throw new PoolError('port_in_use', `somebody listens on 127.0.0.1:${port} already`);
  const jars = await kafkaJars();
  try {
    mkdirSync(dataDir, { recursive: true });
  } catch (error) {
    throw new PoolError('data_dir', `cannot make ${dataDir}: ${(error as Error).message}`, { cause: error });
  }
  const settingsFile = join(dataDir, 'server.properties');
  writeFileSync(settingsFile, `${settings(port, await freePort(), join(dataDir, 'log'), sessionMs)}${extra}`);
  const java = [
    ...JVM,
    `-Dlog4j2.configurationFile=${join(HERE, 'log4j2.properties')}`,
    '-Dlog4j2.disableJmx=true',
    ...['-cp', join(jars, '*')],
  ];
  if (!existsSync(join(dataDir, 'log/meta.properties'))) {
    const tool = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', settingsFile];
    await run('java', [...java, ...tool, ...format]).catch((error: Error & { stderr?: string; stdout?: string }) => {
      throw new PoolError('kafka', `the broker's storage could not be formatted: ${lastWords(error.stderr)}`, {
        cause: error,
      });
    });
  }
  const child = await startLeashed('java', [...java, 'kafka.Kafka', settingsFile], { cwd: dataDir });
  await new Promise<void>((up, down) => {
    child.onLine((line) => line.includes('Kafka Server started') && up());
    if (child.output().includes('Kafka Server started')) up();
    child.exited.then((status) => {
      if (child.output().includes('Failed to acquire lock')) {
        down(new PoolError('held', `another broker uses ${dataDir}`));
      } else down(new PoolError('kafka', `the broker ended with ${status}: ${lastWords(child.output())}`));
    }, down);
  });
  return { version: kafkaVersion(), address: `127.0.0.1:${port}`, dataDir, pid: child.pid, process: child };
}

/** The line of a broker's output that says most: the last error, else the last line. */
function lastWords(output = ''): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('\tat '));
  return (lines.findLast((line) => /ERROR|Exception/.test(line)) ?? lines.at(-1) ?? 'it said nothing').trim();
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(socket.destroy() !== undefined));
    socket.once('error', () => resolve(false));
  });
}

function settings(port: number, controllerPort: number, logDir: string, sessionMs: number): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=CLIENTS://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=CLIENTS://127.0.0.1:${port}
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=${logDir}
# a topic is made with its settings or not at all
auto.create.topics.enable=false
log.retention.ms=-1
# one broker: the internal topics have one replica, and one partition for a fast first group
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# small: the default buffer of the cleaner alone is 128 MiB
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=${sessionMs}
`;
}

/** `npm run kafka`. */
async function main(): Promise<void> {
  let options: { port: string; 'data-dir': string };
  try {
    options = parseArgs({
      options: {
        port: { type: 'string', default: '9092' },
        'data-dir': { type: 'string', default: join(ROOT, 'data/kafka') },
      },
    }).values;
  } catch (error) {
    throw new PoolError('usage', (error as Error).message);
  }
  const port = Number(options.port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new PoolError('usage', `--port ${options.port}: a number from 1 to 65535 was expected`);
  }
  const broker = await startBroker({ port, dataDir: resolve(options['data-dir']) });
  console.log(`Kafka ${broker.version} on ${broker.address}, data in ${broker.dataDir}`);
  broker.process.onLine((line) => console.error(line));
  let asked = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      asked = true;
      void broker.process.stop({ graceMs: 20_000 });
    });
  }
  const status = await broker.process.exited;
  if (!asked) throw new PoolError('kafka', `the broker ended with ${status}: ${lastWords(broker.process.output())}`);
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    console.error(`kafka: ${errorLine(error)}`);
    process.exitCode = error instanceof PoolError ? error.exit : 70;
  });
}
