import { expect, test } from 'vitest';
import { type Config, type ListenerConfig, loadConfig } from '../../../services/core/config.ts';
import { type ListenerLimits, listenerLimits } from '../../../services/stratum/profiles.ts';

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
