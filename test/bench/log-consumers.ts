/**
 * The consumers, one of a group of them, or a replay, in a process of their own, as a bench measures them: says when reading begins, and when so many records are in
 * ClickHouse. Arguments as JSON in argv[2]; lines of JSON on standard output.
 */

import { join } from 'node:path';
import { startConsumers } from '../../services/consumers/main.ts';
import { replayInto } from '../../services/consumers/replay.ts';
import type { ReplayParts } from '../../services/consumers/replay-work.ts';
import { type Config, loadConfig } from '../../services/core/config.ts';
import { type Lifecycle, run } from '../../services/core/lifecycle.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { openLog } from '../../services/core/log/open.ts';
import { untilReached } from './log-reached.ts';

export interface ConsumersAsked {
  /** As one of a group it tells how many records it has taken in, whenever that changes, until it is ended. */
  readonly how: 'live' | 'replay' | 'member';
  readonly dataDir: string;
  readonly url: string;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly records: number;
  /** Of a member. */
  readonly kafka?: { readonly brokers: readonly string[]; readonly topicPrefix: string; readonly partitions: number };
}

const asked = JSON.parse(process.argv[2]!) as ConsumersAsked;
const said = new Set<string>();
/** Once for each fact. */
const say = (fact: string): void => {
  if (said.has(fact)) return;
  said.add(fact);
  const { user, system } = process.cpuUsage();
  const atMs = performance.timeOrigin + performance.now();
  process.stdout.write(`${JSON.stringify({ fact, atMs, cpuS: (user + system) / 1e6 })}\n`);
};

async function live(config: Config, life: Lifecycle): Promise<void> {
  const log = openJournalLog({ dir: join(asked.dataDir, 'journal') });
  life.onStop('log', () => log.close());
  const consumers = await startConsumers(config, life, { log });
  await consumers.ready;
  say('begun');
  await untilReached(
    () => consumers.counters.records,
    asked.records,
    () => consumers.problems(),
  );
  say('done');
}

async function member(config: Config, life: Lifecycle): Promise<void> {
  const log = await openLog(config, 'consume', life);
  life.onStop('log', () => log.close());
  // It stands still while the log is filled, and is not to be voted out for that.
  const { counters } = await startConsumers(config, life, { log, sessionMs: 120_000 });
  let told = -1;
  setInterval(() => {
    if (counters.records === told) return;
    told = counters.records;
    process.stdout.write(`${JSON.stringify({ count: told })}\n`);
  }, 2).unref();
}

async function replay(config: Config, life: Lifecycle): Promise<void> {
  const parts: ReplayParts = {
    config,
    openLog: async () => openJournalLog({ dir: join(asked.dataDir, 'journal') }),
    signal: life.signal,
    log: life.log,
    onProgress: ({ phase }) => say(phase === 'reading' ? 'begun' : 'done'),
  };
  await replayInto(parts, asked.database);
}

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
await run('bench', async (life) => {
  const config = loadConfig(
    {
      options: {
        'lodestream.data_dir': asked.dataDir,
        'lodestream.clickhouse.url': asked.url,
        'lodestream.clickhouse.user': asked.user,
        'lodestream.clickhouse.password': asked.password,
        // What a replay fills is another one than the configuration's.
        'lodestream.clickhouse.database': asked.how === 'replay' ? 'default' : asked.database,
        ...(asked.kafka === undefined
          ? {}
          : {
              'lodestream.kafka.brokers': asked.kafka.brokers.join(','),
              'lodestream.kafka.topic_prefix': asked.kafka.topicPrefix,
              'lodestream.kafka.partitions': String(asked.kafka.partitions),
            }),
      },
    },
    {},
  );
  await { live, replay, member }[asked.how](config, life);
});
