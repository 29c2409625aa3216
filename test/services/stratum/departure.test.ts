import { expect, test } from 'vitest';
import { askAllToGo } from '../../../services/stratum/departure.ts';
import type { Session } from '../../../services/stratum/session.ts';
import { until } from '../../helpers/leash.ts';

function line(told: string[], name: string, closed = false): Session {
  return {
    connection: { closed },
    reconnect: () => told.push(`${name} reconnect`),
    end: (reason: string) => told.push(`${name} ${reason}`),
  } as unknown as Session;
}

test('lines that are asked to go over a while are asked in parts, in order, and each is ended a moment later', async () => {
  const told: string[] = [];
  const lines = Array.from({ length: 40 }, (_, i) => line(told, `${i}`));
  const asked = askAllToGo(lines, 400, { graceMs: 1, reason: 'enough' });
  const atOnce = told.length;
  expect(atOnce).toBeGreaterThan(0);
  expect(atOnce).toBeLessThan(40);
  await asked;
  const requests = told.filter((words) => words.endsWith('reconnect'));
  expect(requests).toEqual(lines.map((_, i) => `${i} reconnect`));
  await until('all to be ended', () => told.filter((words) => words.endsWith('enough')).length === 40);
});

test('with no while to spread them over, all lines that are open are asked at once', () => {
  const told: string[] = [];
  const lines = [line(told, 'a'), line(told, 'gone', true), line(told, 'b')];
  void askAllToGo(lines, 0, { graceMs: 60_000, reason: 'enough' });
  expect(told).toEqual(['a reconnect', 'b reconnect']);
});
