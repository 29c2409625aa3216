/** The command line's flags: one table, for parsing and for help. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { type Config, loadConfig, type Overrides } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import { nearestName } from '../core/names.ts';
import { OPTIONS, type Option, type OptionName } from '../core/options.ts';

export interface Flag {
  readonly short?: string;
  readonly value?: string;
  readonly doc: string;
}

/** Flags of every verb that reads a configuration. */
export const COMMON: Readonly<Record<string, Flag>> = {
  config: { short: 'c', value: 'FILE', doc: 'configuration file (ckpool.conf)' },
  name: { short: 'n', value: 'NAME', doc: 'instance name; default ckpool, or ckproxy for a proxy' },
  ...Object.fromEntries(
    Object.entries(OPTIONS as Record<string, Option>).flatMap(([, option]) =>
      option.flag === undefined ? [] : [[option.flag, { value: valueName(option), doc: docOf(option) }]],
    ),
  ),
  json: { doc: 'print JSON' },
  help: { short: 'h', doc: 'print this help' },
};

/** What the option is, with its default where the sentence does not say it. */
function docOf({ doc, default: fallback }: Option): string {
  return fallback === null || doc.includes('default') ? doc : `${doc}; default ${String(fallback)}`;
}

function valueName(option: Option): string {
  if (option.type === 'address' || option.type === 'addresses') return 'HOST:PORT';
  return option.flag === 'data-dir' ? 'DIR' : 'VALUE';
}

/** What the playground alone takes. */
export const PLAYGROUND_FLAGS: Readonly<Record<string, Flag>> = {
  'node-rpc': { value: 'HOST:PORT', doc: "the toy chain's RPC; default 127.0.0.1:29443" },
  'node-zmq': { value: 'HOST:PORT', doc: "the toy chain's ZMQ; default 127.0.0.1:29444" },
  'miner-share': { value: 'PERCENT', doc: 'of one core that the CPU miners may use together; 0: none; default 30' },
};

export interface Parsed {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
}

/**
 * Parses the flags of a verb.
 * @throws PoolError usage naming the flag and the nearest known one
 */
export function parseFlags(
  argv: readonly string[],
  flags: Readonly<Record<string, Flag>>,
  positionals = false,
): Parsed {
  const options: ParseArgsOptionsConfig = {};
  for (const [name, flag] of Object.entries(flags)) {
    options[name] = {
      type: flag.value === undefined ? 'boolean' : 'string',
      ...(flag.short === undefined ? {} : { short: flag.short }),
    };
  }
  try {
    const parsed = parseArgs({ args: [...argv], options, allowPositionals: positionals, strict: true });
    return { values: parsed.values as Parsed['values'], positionals: parsed.positionals };
  } catch (cause) {
    const unknown = /Unknown option '(-{1,2})([^']+)'/.exec((cause as Error).message);
    if (unknown !== null) {
      const near = unknown[1] === '--' ? nearestName(unknown[2]!, Object.keys(flags)) : null;
      const hint = near === null ? '' : `; did you mean --${near}?`;
      throw new PoolError('usage', `unknown flag ${unknown[1]}${unknown[2]}${hint}`, { cause });
    }
    const bare = /^Option '(?:-\w, )?--([\w-]+) <value>' argument (?:missing|is ambiguous)/.exec(
      (cause as Error).message,
    );
    if (bare !== null) {
      throw new PoolError('usage', `flag --${bare[1]} wants ${flags[bare[1]!]?.value ?? 'a value'}`, { cause });
    }
    throw new PoolError('usage', (cause as Error).message.split('\n')[0]!.replace(/\. To specify.*$/, ''), { cause });
  }
}

/** The mode that the flags of a tree ask for. */
export function modeOf(parsed: Parsed): 'pool' | 'proxy' {
  return parsed.values.proxy === true ? 'proxy' : 'pool';
}

/** The configuration that flags, variables and file give together. */
export function configFrom(parsed: Parsed, mode: 'pool' | 'proxy', extra: Partial<Overrides> = {}): Config {
  const text = (name: string): string | undefined => {
    const value = parsed.values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const options: Partial<Record<OptionName, string>> = {};
  for (const [name, option] of Object.entries(OPTIONS as Record<string, Option>)) {
    const value = option.flag === undefined ? undefined : text(option.flag);
    if (value !== undefined) options[name as OptionName] = value;
  }
  return loadConfig({
    config: text('config'),
    name: text('name'),
    mode,
    logShares: parsed.values['log-shares'] === true,
    options,
    ...extra,
  });
}

/** Help text of some flags, one a line. */
export function flagsHelp(flags: Readonly<Record<string, Flag>>): string {
  const rows = Object.entries(flags).map(([name, flag]) => {
    const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
    return [`  ${short}--${name}${flag.value === undefined ? '' : ` ${flag.value}`}`, flag.doc] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`).join('\n');
}

const INSTANT = /^(\d{4})-(\d\d)-(\d\d)(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?(?:Z|[+-]\d\d:\d\d)?$/;

/**
 * A day, a time by RFC 3339 (UTC where it names no zone), or seconds since 1970.
 * @returns milliseconds since 1970; NaN where it is none
 */
export function instantMs(text: string): number {
  if (/^\d{1,12}$/.test(text)) return Number(text) * 1e3;
  const parts = INSTANT.exec(text);
  if (parts === null) return Number.NaN;
  const [, year, month, day] = parts.map(Number);
  // Date.parse takes the 31st of every month.
  if (new Date(Date.UTC(year!, month! - 1, day)).getUTCDate() !== day) return Number.NaN;
  // A date alone is UTC by itself; a time without a zone is too, as everything here.
  const zone = /[T ]/.test(text) && !/(?:Z|[+-]\d\d:\d\d)$/.test(text) ? 'Z' : '';
  return Date.parse(text.replace(' ', 'T') + zone);
}

/**
 * An instant of the command line.
 * @returns microseconds since 1970
 * @throws PoolError usage
 */
export function instantUs(text: string, flag: string): number {
  const ms = instantMs(text);
  if (!Number.isNaN(ms)) return ms * 1000;
  throw new PoolError(
    'usage',
    `--${flag}: expected a time as 2026-11-26, 2026-11-26T10:00Z (UTC) or seconds since 1970, got ${text}`,
  );
}
