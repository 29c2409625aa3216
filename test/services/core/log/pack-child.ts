/**
 * Packs the closed segments of a topic in a process of its own, for tests of crashes, and is killed before the call of the file system that is named;
 * or that call fails.
 *
 *     node pack-child.ts DIR INSTANCE TOPIC AT [CODE]
 *
 * AT counts calls from 1; 0: none. Without CODE the process is killed; with it, that call and all like it that follow fail with it. Prints the number of
 * calls, and the error where it ended with one.
 */
import { writeSync } from 'node:fs';
import type { Topic } from '../../../../schemas/events.ts';
import { packTopic, watchFiles } from './packing.ts';

const [dir, instance, topic, at, code] = process.argv.slice(2);
let calls = 0;
const end = watchFiles((call) => {
  calls++;
  if (code === undefined) {
    if (calls === Number(at)) process.kill(process.pid, 'SIGKILL');
  } else if (calls >= Number(at) && call !== 'rmSync') throw Object.assign(new Error(code), { code });
});
let error: unknown = null;
try {
  await packTopic(dir!, instance!, topic as Topic);
} catch (thrown) {
  error = thrown;
}
end();
writeSync(1, `calls ${calls}\n`);
if (error !== null) writeSync(1, `error ${(error as Error).message}\n`);
