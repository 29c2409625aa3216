import { expect, test } from 'vitest';
import { countersLine, problemLines } from '../../../services/cli/panel.ts';
import type { Status } from '../../../services/core/status.ts';

const NOW_US = 1_800_000_000_000_000;

function status(program: string, values: Status['values'], problems: string[] = [], ageS = 1): Status {
  return { program, pid: 1, time_us: NOW_US - ageS * 1_000_000, problems, values };
}

test('counters of all programs are added, what a stopped one said is left out', () => {
  const line = countersLine(
    [
      status('pool', { height: 7, connections: 2, shares_accepted_count: 12_345, blocks_solved_count: 3 }),
      status('consume', { lag_records: 5 }),
      status('gone', { connections: 100 }, ['old trouble'], 60),
    ],
    NOW_US,
  );
  expect(line).toBe('height 7 · connections 2 · shares 12,345 accepted, 0 refused · blocks found 3 · lag 5 records');
});

test('bans and a hand-over are shown while there are some', () => {
  const line = countersLine([status('pool', { bans_active: 2, handover_under_way: 1 })], NOW_US);
  expect(line).toMatch(/ · banned 2 · hand-over under way$/);
});

test('each problem has a line of its own, so that a long one does not hide the counters', () => {
  const statuses = [
    status('consume', {}, ['the log does not answer', 'x'.repeat(500)]),
    status('gone', {}, ['old trouble'], 60),
  ];
  expect(problemLines(statuses, NOW_US)).toEqual([
    '! consume: the log does not answer',
    `! consume: ${'x'.repeat(500)}`,
  ]);
  expect(countersLine(statuses, NOW_US)).not.toContain('!');
});
