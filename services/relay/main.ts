/**
 * The relay program: journal → Kafka (see relay.ts). It runs only where Kafka is configured; without it the journal itself is the log.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { openKafka } from '../core/log/open.ts';
import { DAY_US } from '../core/log/retention.ts';
import { publishStatus } from '../core/status.ts';
import { type Relay, startRelay } from './relay.ts';

const LAG_MS = 2000;
/** How often the topics' settings are looked at. */
const TOPICS_MS = 300_000;

/**
 * Starts the relay of a data directory and returns; it works until `life` ends. A broker that is away or refuses is waited for.
 * Another relay on the data directory ends the program (held), through `life.stop`.
 * @throws PoolError config where no brokers are configured
 */
export async function runRelay(config: Config, life: Lifecycle): Promise<void> {
  const { kafka } = config;
  if (kafka === null) throw new PoolError('config', '"lodestream.kafka.brokers" names no broker');
  const paths = openDataDir(config.dataDir);
  const stopping = new AbortController();
  const { signal } = stopping;
  let relay: Relay | null = null;
  let problem = 'not connected to Kafka yet';
  let lagRecords = 0;
  let unfit: readonly string[] = [];

  const status = publishStatus(paths.status, 'relay', () => {
    const wrong = relay === null ? problem : relay.problem();
    const { sent, damaged } = relay?.counts() ?? { sent: 0, damaged: 0 };
    return {
      problems: [...(wrong === null ? [] : [wrong]), ...unfit],
      values: { sent_records_count: sent, damaged_count: damaged, relay_lag_records: lagRecords },
    };
  });

  const work = (async () => {
    const onProblem = (line: string): void => {
      problem = line;
    };
    const log = await openKafka(kafka, `${config.origin}-relay`, { log: life.log, signal, onProblem });
    try {
      relay = await startRelay({
        journalDir: paths.journal,
        kafka: log,
        stateFile: join(paths.state, 'relay.sqlite'),
        retention: { stateFile: join(paths.state, 'retention.json'), keepUs: config.journal.keepDays * DAY_US },
        log: life.log,
        signal,
      });
      let lookedAt = Number.NEGATIVE_INFINITY;
      while (!signal.aborted) {
        // Not while something is wrong anyway: that is said already.
        if (performance.now() - lookedAt > TOPICS_MS && relay.problem() === null) {
          lookedAt = performance.now();
          const found = (await log.topicProblems()).map(({ what, mend }) => `${what} (${mend})`);
          for (const line of found) if (!unfit.includes(line)) life.log(line);
          unfit = found;
        }
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
