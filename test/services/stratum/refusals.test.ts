import { describe, expect, test } from 'vitest';
import { Refusals } from '../../../services/stratum/refusals.ts';

/** What is decided of a refusal every ten seconds. */
function decisions(ckpool: boolean, refusals = new Refusals(), from = 0): [seconds: number, what: string][] {
  const all: [number, string][] = [];
  for (let seconds = from; seconds <= from + 200; seconds += 10) {
    const what = refusals.refused(seconds * 1_000, ckpool);
    if (what === null) continue;
    all.push([seconds - from, what]);
    if (what === 'close') break;
  }
  return all;
}

describe('nothing but refused shares', () => {
  test('is new work after a minute, the end after two', () => {
    expect(decisions(false)).toEqual([
      [60, 'new work'],
      [120, 'close'],
    ]);
  });

  test('is what CKPool does after one, two, three minutes under its name', () => {
    expect(decisions(true)).toEqual([
      [60, 'new work'],
      [120, 'reconnect'],
      [180, 'close'],
    ]);
  });

  test.each([true, false])('begins anew with an accepted share (CKPool %s)', (ckpool) => {
    const refusals = new Refusals();
    const before = decisions(ckpool);
    for (let seconds = 0; seconds <= 110; seconds += 10) refusals.refused(seconds * 1_000, ckpool);
    refusals.end();
    expect(decisions(ckpool, refusals, 115)).toEqual(before);
  });

  test('that seldom come are no less a run', () => {
    const refusals = new Refusals();
    expect(refusals.refused(0, false)).toBeNull();
    expect(refusals.refused(3_600_000, false)).toBe('new work');
    expect(refusals.refused(3_600_001, false)).toBe('close');
    // The packet's further lines.
    expect(refusals.refused(3_600_002, false)).toBeNull();
  });
});

test('of a flood ten a second become events, the others are told once, each of them', () => {
  const refusals = new Refusals();
  let events = 0;
  let told = 0;
  const at = [...Array(35).fill(1_000), ...Array(10).fill(2_000), ...Array(12).fill(3_999), 5_000];
  for (const nowMs of at) {
    told += refusals.beginSecond(nowMs);
    if (refusals.count()) events += 1;
  }
  expect([events, told]).toEqual([10 + 10 + 10 + 1, 25 + 2]);
  expect(refusals.takeUntold()).toBe(0);
});

test('what is told in the middle of a second is not told again at its end', () => {
  const refusals = new Refusals();
  refusals.beginSecond(1_000);
  for (let i = 0; i < 15; i++) refusals.count();
  expect(refusals.takeUntold()).toBe(5);
  expect(refusals.beginSecond(1_500)).toBe(0);
  for (let i = 0; i < 3; i++) expect(refusals.count()).toBe(false);
  expect(refusals.takeUntold()).toBe(3);
});
