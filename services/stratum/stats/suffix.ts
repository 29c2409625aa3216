/**
 * Hash rates as CKPool's files and logs have them, `426G` (and back: schemas/rate-suffix.ts); numbers of its status files. Only computes.
 * Source: CKPool 0.9.9, its files.
 */
import { realText } from '../sharelog.ts';

const SUFFIXES = [
  [1e18, 'E'],
  [1e15, 'P'],
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'K'],
] as const;

/** C's `%.3g`. */
function threeDigits(value: number): string {
  const text = value.toPrecision(3);
  // C writes an exponent of two digits at least; JavaScript drops the point's zeros only where we do.
  const exponent = /^(.*)e\+(\d)$/.exec(text);
  if (exponent !== null) return `${exponent[1]!.replace(/\.?0+$/, '')}e+0${exponent[2]}`;
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** `1.6G`, `57M`, `426G`; below 1000 a whole number. @param value - per second, not negative */
export function suffixText(value: number): string {
  for (const [factor, letter] of SUFFIXES) if (value >= factor) return `${threeDigits(value / factor)}${letter}`;
  return String(Math.trunc(value));
}

/** Three digits and as wide as that: `3.12G`, ` 985M`; of the status line on a terminal. */
export function suffixPadded(value: number): string {
  const [factor, letter] = SUFFIXES.find(([least]) => value >= least) ?? [1, ''];
  const mantissa = value / factor;
  const decimals = mantissa < 10 ? 2 : mantissa < 100 ? 1 : 0;
  return `${mantissa.toFixed(decimals).padStart(4)}${letter}`;
}

/**
 * A sum of difficulties. CKPool's is a whole number; a fraction is kept where difficulties below 1 are given, for it has to survive a
 * restart.
 *
 * @param whole - true: cut to a whole number, as CKPool 0.9.9 has it in any case
 */
export function sumText(value: number, whole: boolean, digits = 17): string {
  return whole || Number.isInteger(value) ? BigInt(Math.trunc(value)).toString() : realText(value, digits);
}

/** A best share where CKPool has a whole number: a real only where that would be 0. */
export function bestText(value: number, whole: boolean, digits = 17): string {
  return whole || value >= 1 || value === 0 ? BigInt(Math.trunc(value)).toString() : realText(value, digits);
}
