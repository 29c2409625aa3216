/**
 * The consumers, or a replay, in a process of their own, as a bench measures them: says when reading begins, and when so many records are in
 * ClickHouse. Arguments as JSON in argv[2]; lines of JSON on standard output.
 */

import { join } from 'node:path';
import { startConsumers } from '../../services/consumers/main.ts';
import { replayInto } from '../../services/consumers/replay.ts';
import type { ReplayParts } from '../../services/consumers/replay-work.ts';
import { type Config, loadConfig } from '../../services/core/config.ts';
import { type Lifecycle, run } from '../../services/core/lifecycle.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { untilReached } from './log-reached.ts';

export interface ConsumersAsked {
  readonly how: 'live' | 'replay';
  readonly dataDir: string;
  readonly url: string;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly records: number;
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
        'lodestream.clickhouse.database': asked.how === 'live' ? asked.database : 'default',
      },
    },
    {},
  );
  await (asked.how === 'live' ? live : replay)(config, life);
});
