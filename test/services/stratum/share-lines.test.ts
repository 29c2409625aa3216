import { expect, test } from 'vitest';
import { acceptedLine, invalidLine, refusedLine, vardiffLine } from '../../../services/stratum/share-lines.ts';
import { initialVardiff } from '../../../services/stratum/vardiff.ts';

const diffs = { sdiff: 59.441585517609333, diff: 42, networkDiff: 4_194_304 };
const HASH = '00000000044e82cecfc2193ca1d37f52ba641bc2db42f47cf642f0abde1d3d91';

test("shares are told in CKPool's words", () => {
  expect(acceptedLine(1, diffs, HASH)).toBe(`Accepted client 1 share diff 59.4/42/4.19M: ${HASH}`);
  expect(refusedLine(1, 4, 'Duplicate', diffs, HASH)).toBe(`Rejected client 1 dupe diff 59.4/42/4.19M: ${HASH}`);
  const low = { ...diffs, sdiff: 8.7122245461699279 };
  expect(refusedLine(1, 5, 'Above target', low, HASH)).toBe(`Rejected client 1 high diff 8.7/42/4.19M: ${HASH}`);
  expect(refusedLine(1, 2, 'Stale', diffs, HASH)).toBe('Rejected client 1 invalid share Stale');
  expect(invalidLine(7, 'Worker mismatch')).toBe('Invalid share from client 7: Worker mismatch');
});

test('difficulties below 1 keep three digits', () => {
  const small = { sdiff: 0.0002128347915727424, diff: 5e-5, networkDiff: 1 };
  expect(acceptedLine(2, small, HASH)).toBe(`Accepted client 2 share diff 0.000213/0.00005/1: ${HASH}`);
});

test('a change of difficulty is told with the rate that led to it', () => {
  const state = { ...initialVardiff(0), dsps: 9.86, firstShareMs: 0 };
  expect(vardiffLine(3, state, 42, 2294, 4_324)).toMatch(
    /^Client 3 biased dsps 68\d\.\d\d dsps 9\.86 drr 16\.\d\d adjust diff from 42 to: 2294 $/,
  );
});
