import { expect, test } from 'vitest';
import { BackOff } from '../../../services/stratum/back-off.ts';

function backOff(limit?: number): { users: BackOff; tick(seconds: number): void } {
  let now = 1_000;
  return {
    users: new BackOff(() => now, limit),
    tick: (seconds) => {
      now += seconds * 1_000;
    },
  };
}

test('the pauses of a user are 6, 12, 24 … 384, 600, 600 seconds', () => {
  const { users, tick } = backOff();
  const pauses: number[] = [];
  for (let i = 0; i < 9; i++) {
    expect(users.leftMs('alice')).toBe(0);
    users.refused('alice');
    const seconds = users.leftMs('alice') / 1_000;
    pauses.push(seconds);
    tick(seconds - 1);
    expect(users.leftMs('alice')).toBe(1_000);
    tick(1);
  }
  expect(pauses).toEqual([6, 12, 24, 48, 96, 192, 384, 600, 600]);
});

test('a pause is of one user', () => {
  const { users } = backOff();
  users.refused('alice');
  expect(users.leftMs('bob')).toBe(0);
});

test('a clock that is set back by an hour makes no pause longer than it is', () => {
  const { users, tick } = backOff();
  users.refused('alice');
  tick(-3_600);
  expect(users.leftMs('alice')).toBe(6_000);
});

test('that a user is not heard is said once, also when it was refused again', () => {
  const { users, tick } = backOff();
  users.refused('alice');
  expect(users.said('alice')).toBe(false);
  users.say('alice');
  tick(10);
  users.refused('alice');
  expect(users.said('alice')).toBe(true);
  users.say('bob');
  expect(users.said('bob')).toBe(false);
});

test('of more names than are remembered those go that were refused longest ago', () => {
  const { users } = backOff(3);
  for (const user of ['a', 'b', 'c', 'a', 'd']) users.refused(user);
  expect(['a', 'b', 'c', 'd'].map((user) => users.leftMs(user))).toEqual([12_000, 0, 6_000, 6_000]);
});
