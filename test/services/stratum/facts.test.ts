import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import type { SessionInput } from '../../../schemas/events.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { Facts } from '../../../services/stratum/facts.ts';
import { sampleSession, sampleShare } from '../../contracts/samples.ts';
import { tempDir } from '../../helpers/leash.ts';
import { journaled } from './rig.ts';

test('an event that fits no schema is said and left out; it keeps no other from the disk', async () => {
  const dir = tempDir('facts');
  try {
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'one' });
    const lines: string[] = [];
    const flushed: boolean[] = [];
    const facts = new Facts(
      writer,
      null,
      (line) => void lines.push(line),
      (ok) => void flushed.push(ok),
    );
    facts.session(sampleSession(1));
    facts.session({ ...sampleSession(2), time_us: 'soon' } as unknown as SessionInput);
    facts.share(sampleShare(3));
    facts.flush();
    expect(flushed).toEqual([true]);
    expect(lines).toEqual([expect.stringMatching(/^an event of topic session cannot be written and is left out: /)]);
    expect(facts.problems).toEqual([]);
    writer.close();
    expect(await journaled(dir.path, 'one', 'session')).toHaveLength(1);
    expect(await journaled(dir.path, 'one', 'share')).toHaveLength(1);
  } finally {
    dir.remove();
  }
});

/** Facts whose events are of no interest. */
function clock(): { facts: Facts; steps: number[]; close(): void } {
  const dir = tempDir('facts');
  const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'one' });
  const facts = new Facts(writer, null, () => {}, () => {}); // biome-ignore format: short
  const steps: number[] = [];
  facts.onClockStep = (ms) => void steps.push(ms);
  const close = (): void => {
    writer.close();
    dir.remove();
  };
  return { facts, steps, close };
}

test('no two receipts have one instant, however soon they follow one another', () => {
  const { facts, steps, close } = clock();
  const times = Array.from({ length: 20_000 }, () => facts.timeUs());
  expect(Math.abs(times.at(-1)! / 1000 - Date.now())).toBeLessThan(1_000);
  expect(times.findIndex((time, i) => i > 0 && time <= times[i - 1]!)).toBe(-1);
  expect(steps).toEqual([]);
  close();
});

test('a clock that is set by more than a second is told, forward and back; receipts follow it forward and never go back', () => {
  const { facts, steps, close } = clock();
  const real = Date.now;
  let offMs = 0;
  const now = vi.spyOn(Date, 'now').mockImplementation(() => real.call(Date) + offMs);
  try {
    const before = facts.timeUs();
    offMs = 3_600_000;
    const ahead = facts.timeUs();
    expect(ahead - before).toBeGreaterThan(3_599_000_000);
    // What NTP slews is nothing to be told.
    offMs += 500;
    expect(facts.timeUs()).toBeGreaterThan(ahead);
    offMs = -7_200_000;
    const behind = facts.timeUs();
    expect(behind).toBeGreaterThan(ahead);
    expect(facts.timeUs()).toBeGreaterThan(behind);
    expect(steps).toHaveLength(2);
    expect(Math.abs(steps[0]! - 3_600_000)).toBeLessThan(1_000);
    expect(Math.abs(steps[1]! + 10_800_500)).toBeLessThan(1_000);
  } finally {
    now.mockRestore();
    close();
  }
});
