/**
 * Difficulties for some miners in the configuration: by what they call themselves (`lodestream.agents`) and by who they are
 * (`lodestream.miners`). Between options.ts (the table, what each field may be) and the stratum daemon; config.ts calls it.
 */
import { PoolError } from './errors.ts';
import type { ListenerChecks } from './listener-config.ts';
import { nearestName } from './names.ts';
import { OPTIONS, type Option, type OptionName } from './options.ts';

/** Numbers of the wire; what is absent is inherited. */
export interface DifficultyRule {
  readonly profile?: 'standard' | 'rental' | 'tiny';
  readonly startDiff?: number;
  readonly minDiff?: number;
  /** 0: no limit. */
  readonly maxDiff?: number;
}

export interface AgentRule extends DifficultyRule {
  /** Part of the user agent, lower case. */
  readonly match: string;
}

export interface MinerRule extends DifficultyRule {
  /** A user, or a worker as it authorizes. */
  readonly name: string;
}

export type DifficultyChecks = Omit<ListenerChecks, 'list'>;

/** @throws PoolError config naming field, value, expected form and line */
export function agentRulesFrom(items: readonly Record<string, unknown>[], checks: DifficultyChecks): AgentRule[] {
  return items.map((item, index) => {
    const { field, needed, rule } = reader('lodestream.agents', index, item, checks);
    const match = needed('match').toLowerCase();
    const profile = field<NonNullable<DifficultyRule['profile']>>('profile');
    return { match, ...(profile === undefined ? {} : { profile }), ...rule() };
  });
}

/** @throws PoolError config as above, and where a name is listed twice */
export function minerRulesFrom(items: readonly Record<string, unknown>[], checks: DifficultyChecks): MinerRule[] {
  const seen = new Set<string>();
  return items.map((item, index) => {
    const { fail, needed, rule } = reader('lodestream.miners', index, item, checks);
    const name = needed('name');
    if (seen.has(name)) throw fail('name', `${JSON.stringify(name)} is listed twice`);
    seen.add(name);
    return { name, ...rule() };
  });
}

function reader(
  list: 'lodestream.agents' | 'lodestream.miners',
  index: number,
  item: Record<string, unknown>,
  checks: DifficultyChecks,
) {
  const at = `${list}[${index}]`;
  const fields = Object.keys(OPTIONS)
    .filter((name) => name.startsWith(`${list}[].`))
    .map((name) => name.slice(list.length + 3));
  const fail = (field: string, text: string): PoolError =>
    new PoolError('config', `${checks.where(`${at}.${field}`)}: "${at}.${field}" ${text}`, {
      facts: { key: `${at}.${field}` },
    });
  for (const name of Object.keys(item)) {
    if (fields.includes(name)) continue;
    const near = nearestName(name, fields);
    const hint = near === null ? '`./lodestream help config` lists them' : `did you mean "${near}"?`;
    throw fail(name, `is not an option; ${hint}`);
  }
  const field = <T>(name: string): T | undefined => {
    const raw = item[name] ?? undefined;
    if (raw === undefined) return undefined;
    const option: Option = OPTIONS[`${list}[].${name}` as OptionName];
    return checks.checked(option, `${at}.${name}`, raw) as T;
  };
  const needed = (name: string): string => {
    const value = field<string>(name);
    if (value === undefined || value === '') throw fail(name, 'is missing');
    return value;
  };
  /** Its numbers, none of them beyond another. */
  const rule = (): DifficultyRule => {
    const startDiff = field<number>('startdiff');
    const minDiff = field<number>('mindiff');
    const maxDiff = field<number>('maxdiff');
    const most = maxDiff === undefined || maxDiff === 0 ? Infinity : maxDiff;
    if (minDiff !== undefined && minDiff > most) {
      throw fail('mindiff', `is ${minDiff}, expected at most its maxdiff ${most}`);
    }
    if (startDiff !== undefined && startDiff > most) {
      throw fail('startdiff', `is ${startDiff}, expected at most its maxdiff ${most}`);
    }
    if (startDiff !== undefined && minDiff !== undefined && startDiff < minDiff) {
      throw fail('startdiff', `is ${startDiff}, expected at least its mindiff ${minDiff}`);
    }
    return {
      ...(startDiff === undefined ? {} : { startDiff }),
      ...(minDiff === undefined ? {} : { minDiff }),
      ...(maxDiff === undefined ? {} : { maxDiff }),
    };
  };
  return { fail, field, needed, rule };
}
