/** Network addresses as they stand in configuration and messages: `host:port`, `unix:/path`, networks such as `10.0.0.0/8`. */
import { BlockList, isIP } from 'node:net';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Where a listener is: host and port, or the path of a unix socket (`host` is then empty and `port` 0). */
export interface ListenAddress extends HostPort {
  readonly path?: string;
}

/**
 * Host and port of `[scheme://]host[:port][/…]`, IPv6 in brackets.
 * @throws RangeError with the form expected
 */
export function parseHostPort(text: string, defaultPort: number | null): HostPort {
  const rest = text.replace(/^[a-z0-9+]*:?\/\//i, '').replace(/\/.*$/, '');
  const match = /^(\[[0-9a-fA-F:.%]+\]|[^:[\]\s]+)(?::(\d{1,5}))?$/.exec(rest);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match === null || port === null || port > 65_535) throw new RangeError('host:port, such as 127.0.0.1:3333');
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port };
}

/** sockaddr_un's, with the closing zero. */
const UNIX_PATH_LIMIT_BYTES = 108;

/**
 * A listen address: `unix:/path`, or as `parseHostPort` reads it.
 * @throws RangeError with the form expected
 */
export function parseListenAddress(text: string, defaultPort: number | null): ListenAddress {
  if (!text.startsWith('unix:')) return parseHostPort(text, defaultPort);
  const path = text.slice(5);
  if (!path.startsWith('/') || path.includes('\0') || Buffer.byteLength(path) >= UNIX_PATH_LIMIT_BYTES) {
    throw new RangeError(`unix:/path of less than ${UNIX_PATH_LIMIT_BYTES} bytes`);
  }
  return { host: '', port: 0, path };
}

/** Where a listener on an address is reached from its own machine: a wildcard is no address to connect to. */
export function reachable<T extends HostPort>(address: T): T {
  const { host } = address;
  return { ...address, host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host };
}

/** `host:port`, IPv6 in brackets; `unix:/path`. */
export function hostPortText(address: ListenAddress): string {
  if (address.path !== undefined) return `unix:${address.path}`;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** The name of whoever comes over a unix socket, in lists of networks and as a client's address. */
export const UNIX_CLIENT = 'unix';

/** Address and length of prefix of `10.0.0.0/8`, `2001:db8::/32` or one address; null where it is none. */
function parseNetwork(text: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } | null {
  const match = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match?.[1] ?? '';
  const family = isIP(address);
  if (family === 0) return null;
  const longest = family === 4 ? 32 : 128;
  const prefix = match?.[2] === undefined ? longest : Number(match[2]);
  return prefix > longest ? null : { address, prefix, family: family === 4 ? 'ipv4' : 'ipv6' };
}

/** Whether a text names a network, one address, or `unix`. */
export function isNetwork(text: string): boolean {
  return text === UNIX_CLIENT || parseNetwork(text) !== null;
}

/**
 * A test whether a client's address lies in one of the networks.
 *
 * @param networks - each passed `isNetwork`
 */
export function networksOf(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const text of networks) {
    const network = parseNetwork(text);
    if (network !== null) list.addSubnet(network.address, network.prefix, network.family);
  }
  const unix = networks.includes(UNIX_CLIENT);
  return (address) => {
    const family = isIP(address);
    if (family === 0) return unix && address === UNIX_CLIENT;
    return list.check(address, family === 4 ? 'ipv4' : 'ipv6');
  };
}

/** True for addresses of this machine's own programs. */
export function isLoopback(address: string): boolean {
  return address === UNIX_CLIENT || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}
