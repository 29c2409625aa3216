import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { statementsOf } from '../../../services/consumers/migrations.ts';
import { Problems } from '../../../services/consumers/problems.ts';
import { ConsumerState, type Cut } from '../../../services/consumers/state.ts';

const CUT: Cut = {
  topic: 'share',
  partition: 'ckpool',
  from: null,
  to: 'r:5',
  records: 5,
  token: 't',
  minutes: [{ origin: 'ckpool', minuteS: 60 }],
};

test('a file that is no database is said to be one line, and may be removed', () => {
  const dir = mkdtempSync(join(tmpdir(), 'consumer-state-'));
  try {
    const path = join(dir, 'state.sqlite');
    writeFileSync(path, 'x'.repeat(8192));
    expect(() => new ConsumerState(path)).toThrow(/state of the consumers in .*state\.sqlite: .*may be removed/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('the newest minutes are rolled up first: a back-fill of years does not keep the present one waiting', () => {
  const state = new ConsumerState(':memory:');
  const minutes = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => ({ origin: 'ckpool', minuteS: (from + i) * 60 }));
  state.finish({ ...CUT, minutes: minutes(0, 5_000) });
  state.finish({ ...CUT, minutes: [{ origin: 'ckpool', minuteS: 9_000 * 60 }] });
  expect(state.marks(2).map(({ minuteS }) => minuteS / 60)).toEqual([9_000, 4_999]);
  state.close();
});

test('a stored cut outlives the process; finishing it moves the position and marks its minutes at once', () => {
  const dir = mkdtempSync(join(tmpdir(), 'consumer-state-'));
  try {
    const path = join(dir, 'state.sqlite');
    const first = new ConsumerState(path);
    first.storeCut(CUT);
    first.close();
    const second = new ConsumerState(path);
    expect(second.generation).toBe(first.generation);
    expect(second.cut('share', 'ckpool')).toEqual(CUT);
    expect(second.position('share', 'ckpool')).toBeNull();
    expect(second.marks(10)).toEqual([]);
    second.finish(CUT);
    expect(second.cut('share', 'ckpool')).toBeNull();
    expect(second.position('share', 'ckpool')).toBe('r:5');
    expect(second.marks(10)).toMatchObject([{ origin: 'ckpool', minuteS: 60 }]);
    second.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a minute that is marked again while it is rolled up stays marked', () => {
  const state = new ConsumerState(':memory:');
  state.finish(CUT);
  const taken = state.marks(10);
  state.finish({ ...CUT, to: 'r:9' });
  state.clearMarks(taken);
  expect(state.marked()).toBe(1);
  state.clearMarks(state.marks(10));
  expect(state.marked()).toBe(0);
  state.close();
});

test('since when a minute waits is kept when it is marked again, and moves on when it was made anew meanwhile', () => {
  const state = new ConsumerState(':memory:');
  expect(state.oldestMark()).toBeNull();
  state.finish(CUT);
  const first = state.lastMark();
  state.finish({ ...CUT, to: 'r:9' });
  expect(state.lastMark()).toBeGreaterThan(first);
  expect(state.oldestMark()).toBe(first);
  const [through, taken] = [state.lastMark(), state.marks(10)];
  state.finish({ ...CUT, to: 'r:12' });
  const latest = state.lastMark();
  state.clearMarks(taken, through);
  // What the third cut touched is still to be made anew; what the first two did is not.
  expect(state.oldestMark()).toBeGreaterThan(through);
  expect(state.oldestMark()).toBeLessThanOrEqual(latest);
  state.clearMarks(state.marks(10), state.lastMark());
  expect(state.oldestMark()).toBeNull();
  state.close();
});

test('a problem is said when it begins, once a minute while it lasts, and when it is over', () => {
  const lines: string[] = [];
  let now = 0;
  const problems = new Problems(
    (line) => lines.push(line),
    () => now,
  );
  for (; now < 150_000; now += 1000) problems.set('share/ckpool', now % 2000 === 0 ? 'refused' : 'reset');
  expect(problems.list()).toEqual(['share/ckpool: reset']);
  problems.clear('share/ckpool');
  problems.clear('share/ckpool');
  expect(lines).toEqual([
    'share/ckpool: refused',
    'share/ckpool: refused',
    'share/ckpool: refused',
    'share/ckpool: goes on',
  ]);
  expect(problems.list()).toEqual([]);
});

test('a file of SQL is parted at semicolons before an empty line, and comments alone are no statement', () => {
  expect(statementsOf("-- head\n\nSELECT ';\n';\n\n-- only this\n;\n\nSELECT 2;\n")).toEqual([
    "-- head\n\nSELECT ';\n'",
    'SELECT 2',
  ]);
});
