/**
 * Fills the disk under a journal and says what then goes on, a line each. To be run on a small file system of its own.
 *
 *     node reserve-child.ts DIR
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openJournalWriter } from '../../../../services/core/log/journal.ts';
import { heldSpace, takeSpace } from '../../../../services/core/log/reserve-space.ts';
import { sampleContract, sampleJob, shareEntries } from '../../../contracts/samples.ts';

const [dir] = process.argv.slice(2);
const writer = openJournalWriter({ dir: dir!, instance: 'a', segmentBytes: 100_000 });
writer.append([...shareEntries(0, 10), { topic: 'job', event: sampleJob(0) }]);
await takeSpace(dir!, 3 * 1024 * 1024, () => true);
const say = (line: string): void => void writeSync(1, `${line}\n`);
const ballast = join(dir!, 'ballast');
const fd = openSync(ballast, 'w');
for (const size of [65_536, 4_096]) {
  try {
    for (;;) if (writeSync(fd, Buffer.alloc(size, 1)) < size) break;
  } catch {
    // Full.
  }
}
closeSync(fd);
say(`held ${heldSpace(dir!)}`);
try {
  for (let i = 0; ; i += 500) writer.append(shareEntries(1000 + i, 500));
} catch (error) {
  say(`shares ${(error as { code: string }).code}`);
}
let jobs = 0;
for (; jobs < 1000; jobs++) writer.append([{ topic: 'job', event: sampleJob(1 + jobs) }]);
writer.append([{ topic: 'contract', event: sampleContract(1) }]);
say(`jobs ${jobs}, cramped ${writer.cramped}, held ${heldSpace(dir!)}`);
try {
  for (; jobs < 1e6; jobs++) writer.append([{ topic: 'job', event: sampleJob(1 + jobs) }]);
} catch (error) {
  say(`then ${(error as { code: string }).code}, held ${heldSpace(dir!)}`);
}
rmSync(ballast);
writer.append(shareEntries(1_000_000, 1));
writer.append([{ topic: 'job', event: sampleJob(jobs) }]);
say(`again, cramped ${writer.cramped}`);
writer.close();
