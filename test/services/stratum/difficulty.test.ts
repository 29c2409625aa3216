import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { targetFromBits, targetFromDifficulty } from '../../../services/core/bitcoin/target.ts';
import {
  capOf,
  type DifficultyStep,
  decimalText,
  LowShareUsers,
  pruneSteps,
  requirementFor,
  tellable,
  wholeTellable,
} from '../../../services/stratum/difficulty.ts';
import { SEED } from '../../helpers/seed.ts';

describe('what is told', () => {
  test.each([
    [42, Infinity, 42],
    [42.4, Infinity, 42],
    [2293.7, Infinity, 2294],
    [0.00123456, Infinity, 0.00123],
    [42, 5.7, 5],
    [42, 0.75, 0.75],
    [42, 4.656542373906925e-10, 4.656542373906925e-10],
    [0.001, 5, 0.001],
  ])('%d wanted under %d is told as %d', (wanted, cap, told) => {
    expect(tellable(wanted, cap)).toBe(told);
  });

  test.each([
    [42, '42'],
    [1e21, '1000000000000000000000'],
    [0.001, '0.001'],
    [5e-5, '0.00005'],
    [1.1920928955078125e-7, '0.00000011920928955078125'],
    [4.656542373906925e-10, '0.0000000004656542373906925'],
  ])('%d is written %s', (value, text) => {
    expect(decimalText(value)).toBe(text);
  });

  test('any difficulty reads back as the same double, without an exponent', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-30, max: 1e30, noNaN: true }), (value) => {
        const told = tellable(value, Infinity);
        const text = decimalText(told);
        expect(text).toMatch(/^\d+(\.\d+)?$/);
        expect(Number(text)).toBe(told);
      }),
    );
  });
});

test('steps that no job is left of are forgotten', () => {
  const steps: DifficultyStep[] = [
    { from: 0, diff: 1 },
    { from: 5, diff: 2 },
    { from: 9, diff: 3 },
  ];
  expect(pruneSteps(steps, 4)).toEqual(steps);
  expect(pruneSteps(steps, 5)).toEqual(steps.slice(1));
  expect(pruneSteps(steps, 20)).toEqual(steps.slice(2));
});

test('no difficulty that is told keeps back a hash that meets the target of nBits, to the last unit of it', () => {
  const bits = fc
    .tuple(fc.integer({ min: 3, max: 32 }), fc.integer({ min: 0x8000, max: 0x7fffff }))
    .map(([size, mantissa]) => size * 0x1000000 + mantissa);
  const wanted = fc.oneof(fc.double({ min: 1e-12, max: 1e15, noNaN: true }), fc.constant(1e300));
  let below = 0;
  fc.assert(
    fc.property(bits, wanted, fc.constantFrom(1n, 65_536n), (nBits, want, multiplier) => {
      const numerator = (0xffffn << 208n) * multiplier;
      const target = targetFromBits(nBits);
      const cap = capOf(numerator, target);
      if (cap < Number(numerator) / Number(target)) below += 1;
      for (const told of [tellable(want, cap), wholeTellable(want, cap, 1), cap]) {
        expect(targetFromDifficulty(told, numerator) >= target, `${told} for ${nBits.toString(16)}`).toBe(true);
      }
      // No lower than it must be.
      expect(cap).toBeGreaterThanOrEqual((Number(numerator) / Number(target)) * (1 - 2 ** -51));
    }),
    { numRuns: 5_000 },
  );
  // The nearest double is too high about every second time.
  expect(below).toBeGreaterThan(500);
});

describe('low shares', () => {
  test('are 32, and one more with 64 accepted shares; a fall or a new line brings none', () => {
    const users = new LowShareUsers();
    const alice = users.join('alice');
    const take = (): number => {
      let taken = 0;
      for (; alice.open; taken++) alice.accepted(true);
      return taken;
    };
    expect(take()).toBe(32);
    for (let i = 0; i < 640; i++) alice.accepted(false);
    expect(take()).toBe(10);
    expect(users.join('alice')).toBe(alice);
    expect(take()).toBe(0);
    users.leave(alice);
    users.leave(alice);
    expect(users.join('alice').open).toBe(false);
  });

  test('are saved up to 32 for each open line', () => {
    const users = new LowShareUsers();
    const farm = users.join('farm');
    users.join('farm');
    for (let i = 0; i < 10_000; i++) farm.accepted(false);
    let taken = 0;
    for (; farm.open; taken++) farm.accepted(true);
    expect(taken).toBe(64);
  });

  test('of users that never used one are not remembered', () => {
    const users = new LowShareUsers();
    for (let i = 0; i < 100; i++) {
      const user = users.join(`u${i}`);
      for (let k = 0; k < i; k++) user.accepted(false);
      if (i === 50) user.accepted(true);
      users.leave(user);
    }
    expect(users.size).toBe(1);
  });
});

/**
 * Miners differ in when they take a new difficulty: at once, with the next job, with the next job that says clean. Each hashes at what it
 * believes; each share that it sends must be accepted, at the value of its job or, after a fall, at least at the new one.
 */
type Kind = 'at once' | 'next job' | 'next clean job';

class Miner {
  believed: number;
  told: number;
  job = 0;
  readonly kind: Kind;
  constructor(kind: Kind, diff: number) {
    this.kind = kind;
    this.believed = diff;
    this.told = diff;
  }
  setDifficulty(diff: number): void {
    this.told = diff;
    if (this.kind === 'at once') this.believed = diff;
  }
  notify(order: number, clean: boolean): void {
    this.job = order;
    if (this.kind === 'next job' || clean) this.believed = this.told;
  }
}

test(`no honest share is too low, whenever a miner takes a new difficulty (SEED=${SEED})`, () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('change' as const), diff: fc.integer({ min: 1, max: 1000 }), old: fc.boolean() }),
    fc.record({ do: fc.constant('job' as const), clean: fc.boolean() }),
    fc.record({
      do: fc.constant('share' as const),
      luck: fc.double({ min: 1, max: 20, noNaN: true }),
      late: fc.nat(3),
    }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom<Kind>('at once', 'next job', 'next clean job'),
      fc.array(action, { maxLength: 60 }),
      (kind, actions) => {
        // The server's side as session.ts has it: a fall, and a rise on an old job, comes with a clean job; else the next job is clean.
        let steps: DifficultyStep[] = [{ from: 0, diff: 100 }];
        let order = 1;
        let cleanNext = false;
        const miner = new Miner(kind, 100);
        miner.notify(order, true);
        /** Work begun: the job, and the difficulty that the miner filtered by when it found it. */
        const found: { order: number; believed: number; least: number }[] = [];
        const send = (clean: boolean): void => {
          order += 1;
          miner.notify(order, clean || cleanNext);
          cleanNext = false;
        };
        for (const step of actions) {
          if (step.do === 'job') send(step.clean);
          else if (step.do === 'change') {
            const before = steps.at(-1)!.diff;
            if (step.diff === before) continue;
            steps = [...steps, { from: order + 1, diff: step.diff }];
            miner.setDifficulty(step.diff);
            if (step.diff < before || step.old) send(true);
            else cleanNext = true;
          } else {
            const share = { order: miner.job, believed: miner.believed, least: miner.believed * step.luck };
            found.push(share);
            // In flight while other things happen.
            const sent = found.splice(0, Math.max(found.length - step.late, 0));
            for (const each of sent) {
              const { asked, least } = requirementFor(steps, each.order);
              expect(least).toBeLessThanOrEqual(asked);
              expect(each.least, `${kind}: found at ${each.believed}`).toBeGreaterThanOrEqual(least);
            }
          }
        }
      },
    ),
    { numRuns: 2_000, seed: SEED },
  );
});
