/**
 * A broker for tests: the one that KAFKA_BROKERS names, else one for the whole vitest run (started when the first test file asks,
 * see run.ts), else one of the caller's own.
 */

import { randomBytes } from 'node:crypto';
import { PoolError } from '../../services/core/errors.ts';
import { startBroker } from '../kafka/broker.ts';
import { freePort, tempDir } from './leash.ts';
import type { Missing } from './require.ts';

export interface TestKafka {
  /** As kafkajs takes them. */
  readonly brokers: string[];
  /** Random; others use the same broker, so names of topics and groups begin with it. */
  readonly prefix: string;
  /** Ends the use: stops a broker of one's own, leaves a shared one alone. */
  stop(): Promise<void>;
  /** Process id, of a broker of one's own. */
  readonly pid?: number;
  /** Stops (with `signal`, default SIGTERM) and starts a broker of one's own: same port, same data. */
  restart?(signal?: NodeJS.Signals): Promise<void>;
  /** Stops a broker of one's own; `restart` starts it again. */
  halt?(): Promise<void>;
}

/**
 * @param options.own - a broker that this caller may stop, kill and restart; never one from KAFKA_BROKERS
 * @param options.sessionMs - of one's own, see startBroker: the time that a restart after SIGKILL takes
 * @returns what is missing, in one line, where there is no KAFKA_BROKERS and no Java 17, Maven or network
 */
export async function kafkaForTests(options: { own?: boolean; sessionMs?: number } = {}): Promise<TestKafka | Missing> {
  if (options.own === true) return ownKafka(options.sessionMs);
  const prefix = `t${randomBytes(4).toString('hex')}.`;
  const named = process.env.KAFKA_BROKERS?.split(',').map((broker) => broker.trim());
  if (named !== undefined && named.join('') !== '') return { brokers: named, prefix, stop: async () => {} };
  const run = process.env.LODESTREAM_TEST_RUN_URL;
  if (run === undefined) return ownKafka();
  const answer = (await (await fetch(`${run}/kafka`)).json()) as SharedKafka;
  if ('error' in answer) throw new Error(answer.error);
  return 'missing' in answer ? answer : { brokers: answer.brokers, prefix, stop: async () => {} };
}

/** What run.ts answers to `GET /kafka`. */
export type SharedKafka = { brokers: string[] } | Missing | { error: string };

async function ownKafka(sessionMs = 9_000): Promise<TestKafka | Missing> {
  const dir = tempDir('kafka');
  const port = await freePort();
  try {
    let broker = await startBroker({ port, dataDir: dir.path, sessionMs });
    return {
      brokers: [broker.address],
      prefix: 't.',
      get pid() {
        return broker.pid;
      },
      async stop() {
        await broker.process.stop();
        dir.remove();
      },
      async halt() {
        await broker.process.stop();
      },
      async restart(signal = 'SIGTERM') {
        await broker.process.stop({ signal });
        broker = await startBroker({ port, dataDir: dir.path, sessionMs });
      },
    };
  } catch (error) {
    dir.remove();
    if (error instanceof PoolError && error.code === 'missing_part') return { missing: error.message };
    throw error;
  }
}
