/** Hash rates as CKPool's files, logs and our `pool_status` events have them, `426G`, as numbers. */

/** What the suffixes of printed hash rates stand for, as powers of ten. CKPool has those above one, its fork those below too. */
const EXPONENTS: Readonly<Record<string, number>> = {
  E: 18,
  P: 15,
  T: 12,
  G: 9,
  M: 6,
  K: 3,
  k: 3,
  m: -3,
  u: -6,
  n: -9,
  p: -12,
};

/** `9.52G`, `426`, `1e+03K` in hashes per second, as exact as its digits; null where it is none. */
export function rateFromSuffix(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(?:e([+-]?\d+))?([EPTGMKkmunp]?)$/.exec(text);
  if (match === null) return null;
  // By its digits and not by a product, so that 5.91G is 5910000000 and not a double beside it.
  const value = Number(`${match[1]}e${Number(match[2] ?? 0) + (EXPONENTS[match[3]!] ?? 0)}`);
  return Number.isFinite(value) ? value : null;
}
