/** Waits until a count is reached, and says what holds it up where it stands still. */
import { setTimeout as sleep } from 'node:timers/promises';

const STUCK_MS = 60_000;

/** @throws Error where nothing moved for a minute, with what `problems` says */
export async function untilReached(
  count: () => number,
  wanted: number,
  problems: () => readonly (string | null)[],
): Promise<void> {
  let last = count();
  let movedAt = performance.now();
  while (last < wanted) {
    await sleep(2);
    const now = count();
    if (now !== last) movedAt = performance.now();
    last = now;
    if (performance.now() - movedAt > STUCK_MS)
      throw new Error(`stands at ${now} of ${wanted}: ${problems().join('; ')}`);
  }
}
