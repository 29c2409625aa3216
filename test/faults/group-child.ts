/**
 * A consumer of a group in a process of its own, to be killed and stopped by tests. One argument, JSON. SIGUSR2 makes it stop itself (SIGSTOP) when
 * its next insert of shares has been announced to the group and is not sent yet: from there on it is a zombie, if nobody wakes it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PlaceInGroup } from '../../services/consumers/group.ts';
import { startConsumersAside } from '../../services/consumers/replay-aside.ts';
import { loadConfig } from '../../services/core/config.ts';
import { run } from '../../services/core/lifecycle.ts';
import { openLog } from '../../services/core/log/open.ts';

export interface ChildOptions {
  readonly dataDir: string;
  readonly clickhouse: { readonly url: string; readonly user: string; readonly password: string };
  readonly database: string;
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly partitions: number;
  readonly sessionMs: number;
}

export function configOf({
  dataDir,
  clickhouse,
  database,
  brokers,
  topicPrefix,
  partitions,
}: Omit<ChildOptions, 'sessionMs'>) {
  return loadConfig(
    {
      options: {
        'lodestream.data_dir': dataDir,
        'lodestream.clickhouse.url': clickhouse.url,
        'lodestream.clickhouse.user': clickhouse.user,
        'lodestream.clickhouse.password': clickhouse.password,
        'lodestream.clickhouse.database': database,
        'lodestream.kafka.brokers': brokers.join(','),
        'lodestream.kafka.topic_prefix': topicPrefix,
        'lodestream.kafka.partitions': String(partitions),
      },
    },
    {},
  );
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2]!) as ChildOptions;
  const config = configOf(options);
  let armed = false;
  process.on('SIGUSR2', () => {
    armed = true;
  });
  const before = PlaceInGroup.prototype.before;
  PlaceInGroup.prototype.before = async function (cut, losers) {
    await before.call(this, cut, losers);
    if (!armed || cut.topic !== 'share') return;
    armed = false;
    console.log('stopped before an insert');
    await sleep(50);
    process.kill(process.pid, 'SIGSTOP');
  };
  await run('consume', async (life) => {
    const log = await openLog(config, 'consume', life);
    life.onStop('log', () => log.close());
    await startConsumersAside(config, life, { log, sessionMs: options.sessionMs });
  });
}
