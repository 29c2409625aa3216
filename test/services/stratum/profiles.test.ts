import { expect, test } from 'vitest';
import { type Config, type ListenerConfig, loadConfig } from '../../../services/core/config.ts';
import { Limits, type ListenerLimits, listenerLimits, ruledLimits } from '../../../services/stratum/profiles.ts';

function limits(listener: Partial<ListenerConfig>, of: Partial<Config> = {}): ListenerLimits {
  return listenerLimits({ ...loadConfig({}, {}), listen: [{ host: 'a', port: 1, ...listener }], ...of }, 0);
}

test('a plain listener has the difficulties of the pool', () => {
  expect(limits({})).toMatchObject({ start: 42, min: 1, max: Infinity, wish: null });
  expect(limits({}, { minDiff: 2, startDiff: 1, maxDiff: 0.5 })).toMatchObject({ start: 1, min: 2, max: 0.5 });
});

test('a rental listener starts at what marketplaces ask for and never goes below it, whatever the pool says', () => {
  expect(limits({ profile: 'rental' })).toMatchObject({ start: 500_000, min: 500_000, max: Infinity, nonce2Bytes: 4 });
  expect(limits({ profile: 'rental' }, { startDiff: 42, maxDiff: 1_000 })).toMatchObject({
    start: 500_000,
    max: 500_000,
  });
  expect(limits({ profile: 'rental', minDiff: 1e6 })).toMatchObject({ start: 1e6, min: 1e6 });
  expect(limits({ profile: 'rental', startDiff: 1e6 })).toMatchObject({ start: 1e6, min: 500_000 });
  expect(limits({ profile: 'rental', startDiff: 1_000 })).toMatchObject({ start: 1_000, min: 1_000 });
});

test('a tiny listener goes far below 1, whatever mindiff says', () => {
  expect(limits({ profile: 'tiny' })).toMatchObject({ start: 0.001, min: 0.0001, max: Infinity });
  expect(limits({ profile: 'tiny', maxDiff: 0.0005 })).toMatchObject({ start: 0.0005, min: 0.0001, max: 0.0005 });
});

test("a listener's own numbers pull the inherited ones along", () => {
  expect(limits({ minDiff: 1_000 })).toMatchObject({ start: 1_000, min: 1_000 });
  expect(limits({ startDiff: 0.5 })).toMatchObject({ start: 0.5, min: 0.5 });
  expect(limits({ maxDiff: 10 })).toMatchObject({ start: 10, min: 1, max: 10 });
  expect(limits({ maxDiff: 0 }, { maxDiff: 5 })).toMatchObject({ start: 42, max: Infinity });
  expect(limits({ minDiff: 100 }, { maxDiff: 5 })).toMatchObject({ start: 100, min: 100, max: 100 });
});

test('ports above 4000 keep CKPool’s rule', () => {
  expect(limits({}, { highDiffListeners: [0] })).toMatchObject({ start: 1e6, wish: 1e6, min: 1 });
});

test('an agent is found by a part of its name, in any case, and the first entry that fits decides', () => {
  const limits = new Limits({
    ...loadConfig({}, {}),
    agents: [
      { match: 'nicehash', profile: 'rental' },
      { match: 'nerd', profile: 'tiny', minDiff: 0.01, startDiff: 0.02 },
      { match: 'nerdminer', minDiff: 7 },
    ],
  });
  expect(limits.forAgent(0, 'NiceHash/1.0.0')).toMatchObject({ start: 500_000, min: 500_000 });
  expect(limits.forAgent(0, 'NerdMinerV2/V1.7')).toMatchObject({ start: 0.02, min: 0.01 });
  expect(limits.forAgent(0, 'cgminer/4.12')).toBe(limits.of(0));
  expect(limits.forAgent(0, '')).toBe(limits.of(0));
  // One object for all of a kind.
  expect(limits.forAgent(0, 'nicehash/2')).toBe(limits.forAgent(0, 'NICEHASH'));
});

test('a worker is found by its name before its user is', () => {
  const limits = new Limits({
    ...loadConfig({}, {}),
    miners: [
      { name: 'alice', minDiff: 100 },
      { name: 'alice.rig1', minDiff: 5_000 },
    ],
  });
  const of = (worker: string, user: string) => limits.forMiner(worker, user)?.minDiff;
  expect(of('alice.rig1', 'alice')).toBe(5_000);
  expect(of('alice.rig2', 'alice')).toBe(100);
  expect(of('bob', 'bob')).toBeUndefined();
});

test('what an entry does not say is inherited; the floor of a high-difficulty port gives way to a start or a profile', () => {
  const port = limits({}, { highDiffListeners: [0], maxDiff: 5e6 });
  expect(ruledLimits(port, { minDiff: 10 })).toMatchObject({ start: 1e6, min: 10, max: 5e6, wish: 1e6 });
  expect(ruledLimits(port, { maxDiff: 100 })).toMatchObject({ start: 100, min: 1, max: 100, wish: 100 });
  expect(ruledLimits(port, { startDiff: 64 })).toMatchObject({ start: 64, min: 1, wish: null });
  expect(ruledLimits(port, { profile: 'tiny' })).toMatchObject({ start: 0.001, min: 0.0001, wish: null });
  expect(ruledLimits(port, {})).toBe(port);
  expect(ruledLimits(limits({ profile: 'rental' }), { minDiff: 1e6 })).toMatchObject({ start: 1e6, nonce2Bytes: 4 });
});
