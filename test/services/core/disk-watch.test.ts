import { expect, test } from 'vitest';
import { DiskWatch, reserveBytesOf } from '../../../services/core/disk-watch.ts';
import { tempDir } from '../../helpers/leash.ts';

const MIB = 1024 * 1024;

async function watched(reserve = { bytes: 100 * MIB, percent: 0 }) {
  const dir = tempDir('disk');
  const lines: string[] = [];
  const state = { freeMib: 1000, nowMs: 0 };
  const watch = new DiskWatch({
    dir: dir.path,
    reserve,
    log: (line) => void lines.push(line),
    room: async () => ({ freeBytes: state.freeMib * MIB, totalBytes: 10_000 * MIB }),
    nowMs: () => state.nowMs,
  });
  /** Time goes on by some minutes, each with a look; free space changes evenly. */
  const pass = async (minutes: number, toMib = state.freeMib): Promise<void> => {
    const from = state.freeMib;
    for (let minute = 1; minute <= minutes; minute++) {
      state.nowMs += 60_000;
      state.freeMib = from + ((toMib - from) * minute) / minutes;
      await watch.look();
    }
  };
  await watch.look();
  const end = (): void => {
    watch.close();
    dir.remove();
  };
  return { watch, lines, pass, end };
}

test('below the reserve the disk is low, is said once, and is not any more when there is a tenth more than it', async () => {
  const { watch, lines, pass, end } = await watched();
  try {
    await pass(1, 101);
    expect([watch.low, watch.lowProblem, lines]).toEqual([false, null, []]);
    await pass(1, 99);
    await pass(1, 98);
    expect(watch.low).toBe(true);
    expect(watch.lowProblem).toMatch(/^less than the reserve of 100 MiB is free under .*: shares are refused$/);
    expect(lines).toHaveLength(1);
    await pass(1, 105);
    expect(watch.low).toBe(true);
    await pass(1, 111);
    expect([watch.low, watch.lowProblem]).toEqual([false, null]);
    expect(lines.at(-1)).toBe('the disk has room again: shares are taken');
  } finally {
    end();
  }
});

test('less than a day of room at the rate of the last hour is said once it is known for ten minutes', async () => {
  const { watch, lines, pass, end } = await watched();
  try {
    await pass(9, 910);
    expect([watch.roomH, watch.alert]).toEqual([null, null]);
    // 10 MiB a minute, 800 above the reserve: 80 minutes.
    await pass(2, 890);
    expect(watch.roomH).toBeCloseTo(790 / 600, 1);
    expect(watch.alert).toBe('the disk has room for 1 h at the present rate, then shares are refused');
    await pass(3, 860);
    expect(lines).toEqual([expect.stringContaining('has room for 1 h')]);
    // An hour of peace.
    await pass(61);
    expect([watch.roomH, watch.alert]).toEqual([Infinity, null]);
    await pass(60, 859);
    expect(watch.roomH).toBeGreaterThan(24);
    expect(watch.alert).toBe(null);
  } finally {
    end();
  }
});

test('a reserve is so many bytes or per cent of the file system, whichever is more', () => {
  expect(reserveBytesOf({ bytes: 500, percent: 2 }, 10_000)).toBe(500);
  expect(reserveBytesOf({ bytes: 100, percent: 2 }, 10_000)).toBe(200);
  expect(reserveBytesOf({ bytes: 0, percent: 0 }, 10_000)).toBe(0);
});
