/**
 * The stratum listeners of the configuration: `lodestream.listen` takes addresses and objects. Between options.ts (the table, what each field
 * may be) and the daemon; config.ts calls it.
 */
import { hostPortText, type ListenAddress, parseListenAddress } from './address.ts';
import { PoolError } from './errors.ts';
import { nearestName } from './names.ts';
import { OPTIONS, type Option, type OptionName } from './options.ts';

/** A stratum listener: plain data, so that it can be handed to another process. What is absent has its default. */
export interface ListenerConfig extends ListenAddress {
  /** Default standard. */
  readonly profile?: 'standard' | 'rental' | 'tiny';
  readonly startDiff?: number;
  readonly minDiff?: number;
  /** 0: no limit. */
  readonly maxDiff?: number;
  /** PEM files. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Networks that must send a PROXY protocol header. */
  readonly proxyProtocolFrom?: readonly string[];
  /** Connections; 0: none. */
  readonly limits?: { readonly perAddress?: number; readonly perMinute?: number; readonly total?: number };
  /** Networks that no limit per address counts. */
  readonly allow?: readonly string[];
}

const LIST = 'lodestream.listen';
/** Stratum's, as `serverurl` has it. */
const DEFAULT_PORT = 80;

/** True for what may stand in the list: an address, or an object (its fields are looked at later). */
export function isListener(item: unknown): boolean {
  if (typeof item === 'object') return item !== null && !Array.isArray(item);
  return typeof item === 'string' && addressOf(item, DEFAULT_PORT) !== null;
}

function addressOf(text: string, defaultPort: number | null): ListenAddress | null {
  try {
    return text === '' ? null : parseListenAddress(text, defaultPort);
  } catch {
    return null;
  }
}

export interface ListenerChecks {
  /** The option that the list stands in. */
  readonly list: 'lodestream.listen' | 'serverurl';
  /** File and line of a field, for messages. */
  where(name: string): string;
  /** The value where it fits the option. @throws PoolError config */
  checked(option: Option, name: string, value: unknown): unknown;
}

/**
 * Reads the list.
 *
 * @param items - each passed `isListener`
 * @throws PoolError config naming field, value, expected form and line
 */
export function listenersFrom(items: readonly unknown[], checks: ListenerChecks): ListenerConfig[] {
  const listeners = items.map((item, index) =>
    typeof item === 'string'
      ? parseListenAddress(item, DEFAULT_PORT)
      : listenerFrom(item as Record<string, unknown>, `${LIST}[${index}]`, checks),
  );
  const seen = new Set<string>();
  for (const [index, each] of listeners.entries()) {
    const text = hostPortText(each);
    if (seen.has(text) && (each.port !== 0 || each.path !== undefined)) {
      throw new PoolError(
        'config',
        `${checks.where(`${checks.list}[${index}]`)}: stratum address ${text} is listed twice`,
      );
    }
    seen.add(text);
  }
  return listeners;
}

const FIELDS = Object.keys(OPTIONS)
  .filter((name) => name.startsWith(`${LIST}[].`))
  .map((name) => name.slice(LIST.length + 3));

function listenerFrom(item: Record<string, unknown>, at: string, checks: ListenerChecks): ListenerConfig {
  const fail = (field: string, text: string): PoolError =>
    new PoolError('config', `${checks.where(`${at}.${field}`)}: "${at}.${field}" ${text}`, {
      facts: { key: `${at}.${field}` },
    });
  const known = (names: Iterable<string>, prefix: string): void => {
    for (const name of names) {
      const full = `${prefix}${name}`;
      if (FIELDS.includes(full) || FIELDS.some((field) => field.startsWith(`${full}.`))) continue;
      const near = nearestName(full, FIELDS);
      throw fail(
        full,
        `is not an option; ${near === null ? '`./lodestream help config` lists them' : `did you mean "${near}"?`}`,
      );
    }
  };
  known(Object.keys(item), '');
  const inner = (name: string): Record<string, unknown> | undefined => {
    const value = item[name] ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) {
      const form = FIELDS.filter((field) => field.startsWith(`${name}.`)).map((field) => `"${field.split('.')[1]}"`);
      throw fail(name, `is ${JSON.stringify(value)?.slice(0, 80)}, expected an object with ${form.join(', ')}`);
    }
    known(Object.keys(value), `${name}.`);
    return value as Record<string, unknown>;
  };
  /** The checked value of a field; undefined where it is absent. */
  const field = <T>(name: string, of: Record<string, unknown> | undefined = item): T | undefined => {
    const raw = of?.[name.split('.').at(-1)!] ?? undefined;
    if (raw === undefined) return undefined;
    return checks.checked(OPTIONS[`${LIST}[].${name}` as OptionName], `${at}.${name}`, raw) as T;
  };
  const needed = <T>(name: string, of?: Record<string, unknown>): T => {
    const value = field<T>(name, of);
    if (value === undefined || value === '') throw fail(name, 'is missing');
    return value;
  };

  const text = needed<string>('address');
  const address = addressOf(text, null);
  if (address === null) throw fail('address', `is ${JSON.stringify(text)}, expected host:port or unix:/path`);

  const tls = inner('tls');
  if (tls !== undefined && address.path !== undefined)
    throw fail('tls', 'is for addresses of the network, not for a unix socket');
  const limits = inner('limits');
  const startDiff = field<number>('startdiff');
  const minDiff = field<number>('mindiff');
  const maxDiff = field<number>('maxdiff');
  const most = maxDiff === undefined || maxDiff === 0 ? Infinity : maxDiff;
  if (minDiff !== undefined && minDiff > most)
    throw fail('mindiff', `is ${minDiff}, expected at most its maxdiff ${most}`);
  if (startDiff !== undefined && startDiff > most)
    throw fail('startdiff', `is ${startDiff}, expected at most its maxdiff ${most}`);
  if (startDiff !== undefined && minDiff !== undefined && startDiff < minDiff) {
    throw fail('startdiff', `is ${startDiff}, expected at least its mindiff ${minDiff}`);
  }
  const listener = {
    ...address,
    profile: field<NonNullable<ListenerConfig['profile']>>('profile'),
    startDiff,
    minDiff,
    maxDiff,
    tls: tls === undefined ? undefined : { cert: needed<string>('tls.cert', tls), key: needed<string>('tls.key', tls) },
    proxyProtocolFrom: field<string[]>('proxy_protocol_from'),
    limits:
      limits === undefined
        ? undefined
        : present({
            perAddress: field<number>('limits.per_address', limits),
            perMinute: field<number>('limits.per_minute', limits),
            total: field<number>('limits.total', limits),
          }),
    allow: field<string[]>('allow'),
  };
  return present(listener);
}

/** The object without its undefined fields. */
function present<T extends object>(of: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(of).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
