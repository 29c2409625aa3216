/**
 * A process that appends to a journal until it is killed, for tests of crashes and full disks.
 *
 *     node writer-child.ts DIR INSTANCE FIRST TURNS RECORDS_PER_TURN [SEGMENT_BYTES]
 *
 * After each turn that was appended it prints the number of its last share, so that what stands on standard output is what was acknowledged.
 * Turns hold shares and every tenth one a job; errors are printed as `error CODE MESSAGE` and the turn is tried once more.
 */
import { writeSync } from 'node:fs';
import type { LogEntry } from '../../../../services/core/log/event-log.ts';
import { openJournalWriter } from '../../../../services/core/log/journal.ts';
import { sampleJob, shareEntries } from '../../../contracts/samples.ts';

const [dir, instance, first, turns, perTurn, segmentBytes] = process.argv.slice(2);
try {
  const writer = openJournalWriter({
    dir: dir!,
    instance: instance!,
    waitMs: 100,
    log: (line) => writeSync(1, `log ${line}\n`),
    ...(segmentBytes === undefined ? {} : { segmentBytes: Number(segmentBytes) }),
  });
  writeSync(1, `open ${writer.run}\n`);
  let next = Number(first);
  for (let turn = 0; turn < Number(turns); turn++) {
    const entries: LogEntry[] = shareEntries(next, 1 + (turn % Number(perTurn)));
    if (turn % 10 === 0) entries.push({ topic: 'job', event: sampleJob(turn) });
    try {
      writer.append(entries);
    } catch (error) {
      writeSync(1, `error ${(error as { code: string }).code} ${(error as Error).message}\n`);
      break;
    }
    next += entries.filter(({ topic }) => topic === 'share').length;
    writeSync(1, `${next - 1}\n`);
  }
  writer.close();
  writeSync(1, 'closed\n');
} catch (error) {
  writeSync(1, `error ${(error as { code: string }).code} ${(error as Error).message}\n`);
}
