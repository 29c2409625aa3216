/**
 * The thread in which segments are packed (pack-segment.ts), one at a time and slowly, so that neither the loop of the process nor the machine
 * is kept from anything: compressing, comparing and waiting for the disk happen here. What counts, the exchange, is packer.ts's.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { errorLine } from '../errors.ts';
import type { SegmentName } from './journal-files.ts';
import { type Prepared, prepare, type Refused } from './pack-segment.ts';
import { hasRoom } from './reserve-space.ts';

export interface PackTask {
  readonly name: SegmentName;
  readonly journalDir: string;
  /** Part of the time that is spent working, at most 1. */
  readonly duty: number;
}

export type FromPackerThread =
  | Prepared
  | Refused
  | { readonly failed: string }
  /** Retention was faster. */
  | { readonly gone: true }
  | { readonly stopped: true };

/** A step that waited for the disk is not followed by a pause of minutes. */
const LONGEST_PAUSE_MS = 500;

let stopping = false;

async function work({ name, journalDir, duty }: PackTask): Promise<FromPackerThread> {
  const steps = prepare(name, { hasRoom: () => hasRoom(journalDir) });
  try {
    for (;;) {
      const begun = performance.now();
      const step = steps.next();
      if (step.done === true) return step.value;
      const tookMs = performance.now() - begun;
      await sleep(Math.min(LONGEST_PAUSE_MS, tookMs * (1 / duty - 1)));
      if (stopping) {
        steps.return({ refused: 'stopped' });
        return { stopped: true };
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { gone: true };
    return { failed: errorLine(error) };
  }
}

parentPort?.on('message', (message: PackTask | 'stop') => {
  if (message === 'stop') {
    stopping = true;
    return;
  }
  void work(message).then((outcome) => parentPort?.postMessage(outcome));
});
