/** Which log a configuration means: Kafka where brokers are named, else the journal itself. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Config, KafkaConfig } from '../config.ts';
import { openDataDir } from '../data-dir.ts';
import { errorLine, PoolError } from '../errors.ts';
import type { EventLog } from './event-log.ts';
import { openJournalLog } from './journal.ts';
import type { KafkaLog } from './kafka.ts';

/** Who waits for a broker, and where it says so. */
export interface Waiting {
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
  /** Told at each try what was wrong with it. */
  readonly onProblem?: (line: string) => void;
}

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 5_000;
const SAY_EVERY_MS = 60_000;

/**
 * The Kafka log of a configuration; brokers that are away are waited for.
 * @param clientId - named at the brokers
 * @throws the signal's reason once it is aborted; PoolError where the configuration cannot work as it is found at the start
 */
export async function openKafka(kafka: KafkaConfig, clientId: string, waiting: Waiting): Promise<KafkaLog> {
  const [{ kafkaOptions }, { openKafkaLog }] = await Promise.all([import('./kafka-options.ts'), import('./kafka.ts')]);
  let saidAt = Number.NEGATIVE_INFINITY;
  let first = true;
  for (let backoffMs = FIRST_BACKOFF_MS; ; backoffMs = Math.min(backoffMs * 2, LONGEST_BACKOFF_MS)) {
    waiting.signal.throwIfAborted();
    try {
      return await openKafkaLog(kafkaOptions(kafka, clientId, waiting.log));
    } catch (error) {
      // What held at the start may be a file that is just being renewed.
      if (first && error instanceof PoolError && !error.retry) throw error;
      first = false;
      const line = errorLine(error);
      waiting.onProblem?.(line);
      if (performance.now() - saidAt > SAY_EVERY_MS) {
        waiting.log(`waiting for Kafka: ${line}`);
        saidAt = performance.now();
      }
    }
    await delay(backoffMs, undefined, { signal: waiting.signal });
  }
}

/**
 * The log of record: Kafka where configured, else the journal under the data directory.
 * @param program - named at the brokers
 * @throws the signal's reason once it is aborted; PoolError where the configuration can never work
 */
export async function openLog(config: Config, program: string, waiting: Waiting): Promise<EventLog> {
  if (config.kafka !== null) return openKafka(config.kafka, `${config.origin}-${program}`, waiting);
  return openJournalLog({ dir: openDataDir(config.dataDir).journal });
}
