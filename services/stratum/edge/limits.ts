/**
 * How many connections there may be: of a process in all, and of one listener from one address, and how fast. Between server.ts, which asks before
 * it makes a line, and the configuration. The clock is handed in.
 *
 * The defaults are for farms behind one address: 10,000 connections, and as many new ones a minute, is a large hall that comes back after a power
 * cut. A login costs some 0.1 ms, so that one address can take 2 % of a core by connecting and leaving (over TLS 0.6 ms, 10 %). They stop nobody who rents
 * many addresses; `maxclients` and the firewall are for that.
 */
import { isIPv6 } from 'node:net';
import { isLoopback, networksOf } from '../../core/address.ts';
import type { ListenerConfig } from '../../core/config.ts';
import type { Log } from '../../core/lifecycle.ts';
import { OPTIONS } from '../../core/options.ts';

const MINUTE_MS = 60_000;
/** Descriptors that connections leave to the journal, share logs and nodes; or a tenth of all (CKPool), where that is more. */
const FILES_KEPT = 100;

/**
 * How many files a process may have open.
 *
 * @param limitsText - Linux' `/proc/self/limits`; empty where the system has none
 * @returns Infinity where nothing limits them
 */
export function openFileLimit(limitsText: string): number {
  return Number(/^Max open files\s+(\d+)\s/m.exec(limitsText)?.[1] ?? Infinity);
}

/**
 * How many connections there may be: without descriptors left no block could be sent and no share written.
 *
 * @param configured - `maxclients`; 0: as many as the limit allows
 * @param openFiles - that the process may have; Infinity: no limit
 * @returns Infinity where nothing limits them
 */
export function clientLimit(configured: number, openFiles: number): number {
  const kept = Math.max(FILES_KEPT, Math.ceil(openFiles / 10));
  const allowed = openFiles === Infinity ? Infinity : Math.max(openFiles - kept, Math.floor(openFiles / 4));
  return configured > 0 ? Math.min(configured, allowed) : allowed;
}

/** Why a connection is not taken. */
export type Refusal = 'per_address' | 'per_minute' | 'total';

/**
 * What counts as one client: an IPv4 address, or the /64 that an IPv6 host has to itself.
 *
 * @param address - as the system writes it
 */
export function clientKey(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    // A dotted end counts for two groups.
    const after = tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0);
    while (groups.length < 8 - after && groups.length < 4) groups.push('0');
    groups.push(...tail.split(':'));
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}

interface Client {
  open: number;
  /** New connections since `sinceMs`. */
  fresh: number;
  sinceMs: number;
}

/** The limits of one listener. */
export class ConnectionLimits {
  readonly #perAddress: number;
  readonly #perMinute: number;
  readonly #total: number;
  readonly #allowed: (address: string) => boolean;
  readonly #nowMs: () => number;
  readonly #clients = new Map<string, Client>();
  #open = 0;

  /** @param nowMs - milliseconds that never go back */
  constructor(listener: ListenerConfig, nowMs: () => number) {
    const of = (name: 'per_address' | 'per_minute' | 'total', own: number | undefined): number => {
      const value = own ?? (listener.profile === 'rental' ? 0 : OPTIONS[`lodestream.listen[].limits.${name}`].default);
      return value === 0 ? Infinity : value;
    };
    this.#perAddress = of('per_address', listener.limits?.perAddress);
    this.#perMinute = of('per_minute', listener.limits?.perMinute);
    this.#total = of('total', listener.limits?.total);
    const allowed = networksOf(listener.allow ?? []);
    this.#allowed = (address) => isLoopback(address) || allowed(address);
    this.#nowMs = nowMs;
  }

  /** Connections that were taken and not released. */
  get open(): number {
    return this.#open;
  }

  /** Addresses in memory. */
  get known(): number {
    return this.#clients.size;
  }

  /**
   * Takes a connection, which must then be released once; null, or why it is not taken.
   */
  take(address: string): Refusal | null {
    if (this.#open >= this.#total && !isLoopback(address)) return 'total';
    if (!this.#counts(address)) {
      this.#open += 1;
      return null;
    }
    const now = this.#nowMs();
    const key = clientKey(address);
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = { open: 0, fresh: 0, sinceMs: now };
      this.#clients.set(key, client);
    }
    if (now - client.sinceMs >= MINUTE_MS) {
      client.fresh = 0;
      client.sinceMs = now;
    }
    if (client.open >= this.#perAddress) return 'per_address';
    if (client.fresh >= this.#perMinute) return 'per_minute';
    client.open += 1;
    client.fresh += 1;
    this.#open += 1;
    return null;
  }

  release(address: string): void {
    this.#open -= 1;
    if (!this.#counts(address)) return;
    const client = this.#clients.get(clientKey(address));
    if (client !== undefined) client.open -= 1;
  }

  /** Forgets addresses that have no connection and had none for a minute; to be called now and then. */
  sweep(): void {
    const now = this.#nowMs();
    for (const [key, { open, sinceMs }] of this.#clients) {
      if (open === 0 && now - sinceMs >= MINUTE_MS) this.#clients.delete(key);
    }
  }

  #counts(address: string): boolean {
    return (this.#perAddress < Infinity || this.#perMinute < Infinity) && !this.#allowed(address);
  }
}

/** Keys in memory; beyond them lines are only counted. */
const HUSH_KEYS_LIMIT = 1_000;

/** Lines of a log that strangers cause: one a minute for each key, then how many more there were. */
export class Hushed {
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #said = new Map<string, { atMs: number; more: number }>();

  constructor(log: Log, nowMs: () => number) {
    this.#log = log;
    this.#nowMs = nowMs;
  }

  say(key: string, line: string): void {
    const now = this.#nowMs();
    const said = this.#said.get(key);
    if (said !== undefined && now - said.atMs < MINUTE_MS) {
      said.more += 1;
      return;
    }
    if (said === undefined && this.#said.size >= HUSH_KEYS_LIMIT) return;
    this.#log(said === undefined || said.more === 0 ? line : `${line} (${said.more} more in the minute before)`);
    this.#said.set(key, { atMs: now, more: 0 });
  }

  sweep(): void {
    const now = this.#nowMs();
    for (const [key, { atMs }] of this.#said) if (now - atMs >= MINUTE_MS * 2) this.#said.delete(key);
  }
}
