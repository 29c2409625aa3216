import { expect, test } from 'vitest';
import { LowShareUsers } from '../../../services/stratum/difficulty.ts';
import { LineDifficulty } from '../../../services/stratum/line-difficulty.ts';
import type { ListenerLimits } from '../../../services/stratum/profiles.ts';

const LIMITS: ListenerLimits = { min: 1, start: 42, max: 1_000, wish: null, nonce2Bytes: 4 };

function line(ckpool = false, limits = LIMITS): LineDifficulty {
  const difficulty = new LineDifficulty(limits, ckpool, 0);
  difficulty.tell(difficulty.tellable(Infinity), 0, 0, false, 0);
  return difficulty;
}

test('a line begins at its listener’s start, and never above its work', () => {
  expect(line().inForce).toBe(42);
  expect(line().tellable(5)).toBe(5);
});

test('a fall is asked for at most once a minute once shares have come, a rise at any time; ten wishes a minute are heard', () => {
  const difficulty = line();
  difficulty.measure(1, 42, Infinity, 1);
  expect(difficulty.wish(20, 60_000)).toBe(20);
  difficulty.want(20);
  expect(difficulty.wish(10, 61_000)).toBeNull();
  expect(difficulty.wish(50, 62_000)).toBe(50);
  for (let i = 0; i < 7; i++) expect(difficulty.wish(60, 63_000)).toBe(60);
  expect(difficulty.wish(60, 64_000)).toBeNull();
  expect(difficulty.wish(60, 120_000)).toBe(60);
});

test('a wish stays within the limits; under CKPool maxdiff does not touch it', () => {
  expect([line().wish(0.1, 0), line().wish(5_000, 0)]).toEqual([1, 1_000]);
  expect([line(true).wish(0.1, 0), line(true).wish(5_000, 0)]).toEqual([1, 5_000]);
});

test('a minimum of BIP 310 is kept where limits and work allow it, also when the limits change', () => {
  const difficulty = line();
  expect(difficulty.takeMinimum(2_000, Infinity, 0)).toBe(false);
  expect(difficulty.takeMinimum(100, 50, 0)).toBe(false);
  expect(difficulty.takeMinimum(100, Infinity, 0)).toBe(true);
  expect(difficulty.limit(difficulty.limits, false)).toBe(100);
  expect(difficulty.limits.min).toBe(100);
  expect(difficulty.limit(difficulty.limits, false)).toBeNull();
  expect(difficulty.limit({ ...LIMITS, min: 5 }, false)).toBe(100);
});

test('other limits leave a line that has shown its rate, or resumes, where it is', () => {
  const fresh = line();
  expect(fresh.limit({ ...LIMITS, start: 7 }, false)).toBe(7);
  const resumed = line();
  resumed.startAt(300);
  expect(resumed.limit({ ...LIMITS, start: 7 }, true)).toBe(300);
  const mines = line();
  mines.measure(1, 42, Infinity, 1);
  expect(mines.limit({ ...LIMITS, start: 7 }, false)).toBe(42);
});

test('after a fall a job sent before it takes the new value where its user has some in store, under CKPool never', () => {
  for (const ckpool of [false, true]) {
    const users = new LowShareUsers();
    const difficulty = line(ckpool);
    difficulty.joinUser(users, 'alice');
    difficulty.tell(10, 5, 0, true, 0);
    expect(difficulty.requirement(4)).toEqual({ asked: 42, least: ckpool ? 42 : 10 });
    expect(difficulty.requirement(5)).toEqual({ asked: 10, least: 10 });
    if (ckpool) continue;
    for (let i = 0; i < 32; i++) difficulty.accepted(4, 10, 0);
    expect(difficulty.requirement(4)).toEqual({ asked: 42, least: 42 });
    difficulty.leaveUser(users);
    expect(users.size).toBe(1);
  }
});

test('who sends no share for a minute is lowered and its wish forgotten; CKPool leaves it', () => {
  const difficulty = line();
  difficulty.wish(500, 0);
  difficulty.tell(500, 1, 0, false, 1_000);
  expect(difficulty.idle(60_999)).toBeNull();
  expect(difficulty.idle(61_000)).toBe(125);
  expect(difficulty.idle(61_001)).toBeNull();
  expect(line(true).idle(3_600_000)).toBeNull();
});

test('a resumed line knows the values of the one before, under CKPool only its own', () => {
  const steps = [
    { from: 0, diff: 42 },
    { from: 9, diff: 84 },
  ];
  const difficulty = new LineDifficulty(LIMITS, false, 0);
  expect(difficulty.resume(steps)).toBe(true);
  expect(difficulty.requirement(8).asked).toBe(42);
  difficulty.keepLast();
  expect(difficulty.requirement(0).asked).toBe(84);
  const ckpool = new LineDifficulty(LIMITS, true, 0);
  expect(ckpool.resume(steps)).toBe(false);
  expect(ckpool.inForce).toBe(0);
});
