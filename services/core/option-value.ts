/**
 * One value of the configuration against its entry in the table of options: whether it fits, what is said where it does not, and how the text of
 * a flag or variable becomes one. Between options.ts (the table) and config.ts (the whole).
 */
import { isNetwork, parseHostPort } from './address.ts';
import { PoolError } from './errors.ts';
import { isListener } from './listener-config.ts';
import type { Option } from './options.ts';

function expected(option: Option): string {
  const range =
    option.min !== undefined && option.max !== undefined
      ? ` from ${option.min} to ${option.max}`
      : option.min !== undefined && option.min > 0
        ? ` of at least ${option.min}`
        : option.min === 0
          ? ' not below 0'
          : '';
  const unit = option.unit === undefined ? '' : ` (${option.unit})`;
  const form = {
    string: option.oneOf === undefined ? 'a text' : `one of ${option.oneOf.join(', ')}`,
    integer: `a whole number${range}${unit}`,
    number: `a number${range}${unit}`,
    boolean: 'true or false',
    hex: '8 hex digits',
    address: 'host:port',
    addresses: 'a list of host:port',
    networks: 'a list of networks',
    listeners: 'a list of host:port, unix:/path or objects with "address"',
    objects: 'a list of objects',
  }[option.type];
  return `${form}, such as ${JSON.stringify(option.example)}`;
}

/** The checked value of an option, or undefined where it does not fit. */
export function fit(option: Option, value: unknown): unknown {
  const number = (n: unknown): n is number =>
    typeof n === 'number' && Number.isFinite(n) && n >= (option.min ?? -Infinity) && n <= (option.max ?? Infinity);
  switch (option.type) {
    case 'string':
      return typeof value === 'string' && (option.oneOf === undefined || option.oneOf.includes(value))
        ? value
        : undefined;
    case 'hex':
      // CKPool: what is not there means the default.
      if (value === '') return option.default;
      return typeof value === 'string' && /^[0-9a-fA-F]{8}$/.test(value) ? value : undefined;
    case 'integer':
    case 'number':
      if (value === 0 && option.zeroIsDefault === true) return option.default;
      return number(value) && (option.type === 'number' || Number.isInteger(value)) ? value : undefined;
    case 'boolean':
      return typeof value === 'boolean' ? value : undefined;
    case 'address':
      return typeof value === 'string' && isAddress(value) ? value : undefined;
    case 'addresses': {
      const list = typeof value === 'string' ? [value] : value;
      if (!Array.isArray(list) || list.length === 0) return undefined;
      if (!list.every((item) => typeof item === 'string' && item !== '')) return undefined;
      return list.every((item) => isAddress(item, option.needsPort === true ? null : 80)) ? list : undefined;
    }
    case 'networks': {
      const list = typeof value === 'string' ? [value] : value;
      return Array.isArray(list) && list.every((item) => typeof item === 'string' && isNetwork(item))
        ? list
        : undefined;
    }
    case 'listeners': {
      const list = Array.isArray(value) ? value : [value];
      return list.length > 0 && list.every(isListener) ? list : undefined;
    }
    case 'objects':
      return Array.isArray(value) && value.every((item) => typeof item === 'object' && item !== null)
        ? value
        : undefined;
  }
}

function isAddress(text: string, defaultPort: number | null = null): boolean {
  try {
    parseHostPort(text, defaultPort);
    return true;
  } catch {
    return false;
  }
}

/** What is said of a value that does not fit; never a password. @param where - file and line, flag or variable */
export function wrong(name: string, option: Option, value: unknown, where: string): PoolError {
  const secret = /pass(word)?$/.test(name);
  const shown = secret
    ? `of type ${Array.isArray(value) ? 'list' : typeof value}`
    : (JSON.stringify(value) ?? String(value));
  return new PoolError('config', `${where}: "${name}" is ${shown.slice(0, 80)}, expected ${expected(option)}`, {
    facts: { key: name, ...(secret ? {} : { value }) },
  });
}

/** Text of a flag or variable as the value that the option's type asks for. */
export function fromText(option: Option, text: string): unknown {
  if (option.type === 'integer' || option.type === 'number') return text.trim() === '' ? text : Number(text);
  if (option.type === 'boolean')
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  if (option.type === 'addresses' || option.type === 'listeners') return text.split(',').map((item) => item.trim());
  return text;
}

/** Variable of an option: LODESTREAM_ and the flag, or the name, in capitals. */
export function variableOf(name: string, option: Option): string {
  const base = option.flag ?? name.replace(/^lodestream\./, '');
  return `LODESTREAM_${base.replace(/[^A-Za-z0-9]+/g, '_').toUpperCase()}`;
}
