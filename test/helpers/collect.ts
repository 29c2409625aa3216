/**
 * Loaded into a program that is measured (`node --import`): SIGUSR2 makes it collect its garbage, and then it writes how often it has done
 * so, and the bytes that it holds, to the file COLLECT_DIR/PID. Memory is compared after that; before, it holds whatever was not yet collected.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

const dir = process.env.COLLECT_DIR;
if (isMainThread && dir !== undefined) {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;
  let times = 0;
  process.on('SIGUSR2', () => {
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    times += 1;
    const { heapUsed, external } = process.memoryUsage();
    writeFileSync(join(dir, String(process.pid)), `${times} ${heapUsed + external}`);
  });
}
