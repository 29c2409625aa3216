import { expect, test } from 'vitest';
import { MonthHours, monthOf } from '../../../services/consumers/replay-months.ts';

const HOUR_S = 3600;
const month = monthOf(Date.UTC(2026, 9, 17, 5));

test('the month of an instant is that of UTC', () => {
  expect(month).toEqual({ name: '2026-10', partition: 202610, fromS: Date.UTC(2026, 9, 1) / 1000 });
  expect(monthOf(Date.UTC(2026, 9, 1)).name).toBe('2026-10');
  expect(monthOf(Date.UTC(2026, 9, 1) - 1).name).toBe('2026-09');
});

test('hours of the months and the few before them are taken, whenever their shares were received', () => {
  const hours = new MonthHours(month);
  for (const hour of [0, 1, 5000, -1, -3]) {
    expect(hours.takes(month.fromS + hour * HOUR_S, (month.fromS - 86_400) * 1e6)).toBe(true);
  }
  expect(hours.takeFound().size).toBe(0);
});

test('an older hour is passed over until a share of it was received within the months, and is taken from then on', () => {
  const hours = new MonthHours(month);
  const old = month.fromS - 4 * HOUR_S;
  expect(hours.takes(old, month.fromS * 1e6 - 1)).toBe(false);
  expect(hours.takeFound().size).toBe(0);
  expect(hours.takes(old, month.fromS * 1e6)).toBe(false);
  expect([...hours.takeFound()]).toEqual([old]);
  expect(hours.takes(old, 0)).toBe(true);
  expect(hours.takes(old - HOUR_S, 0)).toBe(false);
  expect(hours.takes(old, month.fromS * 1e6)).toBe(true);
  expect(hours.takeFound().size).toBe(0);
});
