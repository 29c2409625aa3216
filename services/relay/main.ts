/**
 * The relay program: journal → Kafka (see relay.ts). It runs only where Kafka is configured; without it the journal itself is the log.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { type KafkaLog, kafkaOptions, openKafkaLog } from '../core/log/kafka.ts';
import { publishStatus } from '../core/status.ts';
import { type Relay, startRelay } from './relay.ts';

export { type PartitionLag, type Relay, type RelayOptions, startRelay } from './relay.ts';

const COMPLAIN_MS = 60_000;
const LONGEST_BACKOFF_MS = 5000;
const LAG_MS = 2000;

/**
 * Starts the relay of a data directory and returns; it works until `life` ends. A broker that is away or refuses is waited for.
 * @throws PoolError config where no brokers are configured; held where another relay works on the data directory
 */
export async function runRelay(config: Config, life: Lifecycle): Promise<void> {
  const { kafka } = config;
  if (kafka === null) throw new PoolError('config', '"lodestream.kafka.brokers" names no broker');
  const paths = openDataDir(config.dataDir);
  const stopping = new AbortController();
  const { signal } = stopping;
  let relay: Relay | null = null;
  let problem: string | null = 'not connected to Kafka yet';
  let lagRecords = 0;

  const status = publishStatus(paths.status, 'relay', () => {
    const wrong = relay === null ? problem : relay.problem();
    const { sent, damaged } = relay?.counts() ?? { sent: 0, damaged: 0 };
    return {
      problems: wrong === null ? [] : [wrong],
      values: { sent_records_total: sent, damaged_total: damaged, lag_records: lagRecords },
    };
  });

  async function connect(): Promise<KafkaLog | null> {
    let complainedAt = Number.NEGATIVE_INFINITY;
    for (let backoffMs = 250; !signal.aborted; backoffMs = Math.min(backoffMs * 2, LONGEST_BACKOFF_MS)) {
      try {
        return await openKafkaLog(kafkaOptions(kafka!, `${config.origin}-relay`, life.log));
      } catch (error) {
        problem = errorLine(error);
        if (performance.now() - complainedAt >= COMPLAIN_MS) {
          complainedAt = performance.now();
          life.log(`${problem}; trying again`);
        }
        await sleep(backoffMs, undefined, { signal }).catch(() => {});
      }
    }
    return null;
  }

  const work = (async () => {
    const log = await connect();
    if (log === null) return;
    try {
      relay = await startRelay({
        journalDir: paths.journal,
        kafka: log,
        stateFile: join(paths.state, 'relay.sqlite'),
        log: (line) => life.log(line.replace(/^relay: /, '')),
        signal,
      });
      while (!signal.aborted) {
        lagRecords = (await relay.lag()).reduce((sum, { records }) => sum + records, 0);
        await sleep(LAG_MS, undefined, { signal }).catch(() => {});
      }
      await relay.stop();
    } finally {
      await log.close();
    }
  })().catch((error: unknown) => {
    if (!signal.aborted) life.stop(error);
  });

  life.onStop('relay', async () => {
    stopping.abort();
    await work;
    status.close();
  });
}
