/** Consumers in a process of their own, which kills itself at the nth checkpoint: between the insert and it, or just behind it. */

import { startConsumers } from '../../../services/consumers/main.ts';
import { ConsumerState } from '../../../services/consumers/state.ts';
import { run } from '../../../services/core/lifecycle.ts';
import { openJournalLog } from '../../../services/core/log/journal.ts';
import { configFor } from './world.ts';

const {
  dir,
  clickhouse,
  killAfterInsert,
  killAfterCheckpoint = 0,
} = JSON.parse(process.argv[2]!) as {
  dir: string;
  clickhouse: { url: string; user: string; password: string };
  killAfterInsert: number;
  killAfterCheckpoint?: number;
};

let inserts = 0;
const finish = ConsumerState.prototype.finish;
ConsumerState.prototype.finish = function (cut) {
  inserts += 1;
  if (inserts === killAfterInsert) process.kill(process.pid, 'SIGKILL');
  finish.call(this, cut);
  if (inserts === killAfterCheckpoint) process.kill(process.pid, 'SIGKILL');
};

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
await run('consumers under test', async (life) => {
  const log = openJournalLog({ dir: `${dir}/journal` });
  life.onStop('log', () => log.close());
  await startConsumers(configFor(dir, clickhouse), life, { log });
});
