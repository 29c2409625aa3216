/**
 * Flags as CKPool's programs read them (getopt_long of the C library): any order, `--config=X`, unique beginnings (`--kill`), bundles
 * (`-Lkc FILE`), `-l7`, `--` before words. What is wrong is collected, not thrown: who calls decides whether it ends the start.
 */
import { nearestName } from '../core/names.ts';
import type { Flag } from './flags.ts';

export interface GetoptResult {
  /** By long name; true for a flag without a value. The last of several wins. */
  readonly values: Readonly<Record<string, string | true>>;
  readonly words: readonly string[];
  /** One line for each flag that is not known or lacks its value, with the nearest name. */
  readonly faults: readonly string[];
}

type Flags = Readonly<Record<string, Flag>>;

/**
 * Parses `argv`.
 *
 * @param flags - a beginning that is unique among these is that flag
 * @param more - further flags: known too, but their names never make a beginning of the former ambiguous
 * @see getopt_long(3)
 */
export function getopt(argv: readonly string[], flags: Flags, more: Flags = {}): GetoptResult {
  const all: Flags = { ...more, ...flags };
  const shorts = new Map(
    Object.entries(all).flatMap(([name, { short }]) => (short === undefined ? [] : [[short, name] as const])),
  );
  const values: Record<string, string | true> = {};
  const words: string[] = [];
  const faults: string[] = [];

  const longName = (given: string): string | null => {
    if (Object.hasOwn(all, given)) return given;
    for (const table of [flags, all]) {
      const fits = Object.keys(table).filter((name) => given !== '' && name.startsWith(given));
      if (fits.length === 1) return fits[0]!;
      if (fits.length > 1) {
        faults.push(`flag --${given} is ambiguous: ${fits.map((name) => `--${name}`).join(', ')}`);
        return null;
      }
    }
    const near = nearestName(given, Object.keys(all));
    faults.push(`unknown flag --${given}${near === null ? '' : `; did you mean --${near}?`}`);
    return null;
  };

  const rest = [...argv];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--') {
      words.push(...rest);
      break;
    }
    if (!arg.startsWith('-') || arg === '-') {
      words.push(arg);
      continue;
    }
    if (arg.startsWith('--')) {
      const cut = arg.indexOf('=');
      const name = longName(cut < 0 ? arg.slice(2) : arg.slice(2, cut));
      if (name === null) continue;
      const { value } = all[name]!;
      if (value === undefined) {
        if (cut >= 0) faults.push(`flag --${name} takes no value`);
        else values[name] = true;
        continue;
      }
      const text = cut < 0 ? rest.shift() : arg.slice(cut + 1);
      if (text === undefined) faults.push(`flag --${name} wants ${value}`);
      else values[name] = text;
      continue;
    }
    for (let at = 1; at < arg.length; at++) {
      const letter = arg[at]!;
      const name = shorts.get(letter);
      if (name === undefined) {
        faults.push(`unknown flag -${letter}`);
        continue;
      }
      const { value } = all[name]!;
      if (value === undefined) {
        values[name] = true;
        continue;
      }
      const text = at + 1 < arg.length ? arg.slice(at + 1) : rest.shift();
      if (text === undefined) faults.push(`flag -${letter} wants ${value}`);
      else values[name] = text;
      break;
    }
  }
  return { values, words, faults };
}

/** Help in CKPool's form: `-c CONFIG | --config CONFIG`, `-B | --btcsolo`; flags without a letter have the long form alone. */
export function getoptHelp(flags: Flags): string {
  return Object.entries(flags)
    .map(([name, { short, value }]) => {
      const what = value === undefined ? '' : ` ${value}`;
      return `${short === undefined ? '' : `-${short}${what} | `}--${name}${what}\n`;
    })
    .join('');
}
