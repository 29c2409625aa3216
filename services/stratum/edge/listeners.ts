/**
 * Listening sockets before anybody accepts on them: bound here by address, or handed in as a descriptor by a parent process or by systemd.
 * Between the configuration and server.ts, which accepts. A parent binds with `bindListeners` and hands the descriptors to its workers
 * (as `stdio` of `spawn`); a worker calls `startServer` with `{ ...listener, fd }`.
 *
 * @see sd_listen_fds(3) for LISTEN_FDS and LISTEN_PID
 */
import { lookup } from 'node:dns/promises';
import { chmodSync, statSync, unlinkSync } from 'node:fs';
import net, { isIP, type Server } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { getSystemErrorName } from 'node:util';
import { hostPortText, type ListenerConfig } from '../../core/config.ts';
import { PoolError } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';

/** CKPool's. */
const BACKLOG = 8192;
/** How a listener waits for its port: CKPool tries 25 times, 5 s apart; we say so at once and keep to a minute. */
const BIND_RETRY_MS = 5_000;
const BIND_TRIES = 12;
/** Who may connect to a unix socket: its user and group. */
const UNIX_MODE = 0o660;
/** sd_listen_fds(3): SD_LISTEN_FDS_START. */
const SYSTEMD_FIRST_FD = 3;

/** A listener as the server takes it. */
export interface ListenerSpec extends ListenerConfig {
  /** A bound (perhaps listening) socket of this process to accept on; absent: the address is bound here. */
  readonly fd?: number;
}

export interface BindOptions {
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Retry pause of a port in use, for tests. */
  readonly bindRetryMs?: number;
  readonly bindTries?: number;
}

/** Sockets that are bound and do not accept: for workers to take over. */
export interface BoundListeners {
  /** In the order of the configuration; ports of 0 are filled in. */
  readonly listeners: readonly (ListenerConfig & { readonly fd: number })[];
  /** Closes this process' descriptors; who has a copy goes on. Unix sockets bound here lose their path. */
  close(): void;
}

/**
 * What Node's cluster module binds with in the parent of its workers. `Server.listen` would accept at once, and there is no public call that
 * only binds; without one, a connection that comes while the worker starts would be accepted by nobody who can serve it.
 */
interface BoundHandle {
  readonly fd: number;
  getsockname?(out: { address?: string; port?: number }): number;
  close(): void;
}

const { _createServerHandle: createHandle } = net as unknown as {
  _createServerHandle(address: string, port: number, addressType: 4 | 6 | -1): BoundHandle | number;
};

function systemError(errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(code), { code, errno });
}

/** Binds a TCP address. @throws system errors, EADDRINUSE among them */
async function bindTcp(host: string, port: number): Promise<BoundHandle> {
  const address = isIP(host) === 0 ? (await lookup(host)).address : host;
  const handle = createHandle(address, port, isIP(address) === 6 ? 6 : 4);
  if (typeof handle === 'number') throw systemError(handle);
  // libuv keeps "in use" to itself until it is asked for the address.
  const error = handle.getsockname?.({}) ?? 0;
  if (error === 0) return handle;
  handle.close();
  throw systemError(error);
}

/** True where somebody accepts on a unix socket; what a killed process leaves behind is only a path. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}

async function bindUnix(path: string): Promise<BoundHandle> {
  let handle = createHandle(path, -1, -1);
  if (handle === -constants.errno.EADDRINUSE && statSync(path).isSocket() && !(await answers(path))) {
    unlinkSync(path);
    handle = createHandle(path, -1, -1);
  }
  if (typeof handle === 'number') throw systemError(handle);
  try {
    // Nobody can connect before the socket listens, so that there is no moment with other rights.
    chmodSync(path, UNIX_MODE);
    unixPaths.set(handle, { path, inode: statSync(path).ino });
  } catch (error) {
    handle.close();
    throw error;
  }
  return handle;
}

/** Paths of unix sockets bound here. */
const unixPaths = new WeakMap<BoundHandle, { readonly path: string; readonly inode: number }>();

/** Removes the path of a unix socket bound here, unless a successor has put its own there. */
function unlinkBound(handle: BoundHandle): void {
  const bound = unixPaths.get(handle);
  try {
    if (bound !== undefined && statSync(bound.path).ino === bound.inode) unlinkSync(bound.path);
  } catch {
    // Gone already, or the folder is no longer ours to write: the next start finds out that nobody answers there.
  }
}

function bind(listener: ListenerConfig): Promise<BoundHandle> {
  return listener.path === undefined ? bindTcp(listener.host, listener.port) : bindUnix(listener.path);
}

/**
 * Tries until the address is free.
 *
 * @throws PoolError port_in_use where it stays taken, config where it cannot be listened on; the signal's reason once aborted
 */
async function patiently<T>(listener: ListenerConfig, options: BindOptions, open: () => Promise<T>): Promise<T> {
  const tries = options.bindTries ?? BIND_TRIES;
  for (let attempt = 1; ; attempt++) {
    try {
      return await open();
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      const where = hostPortText(listener);
      if (code !== 'EADDRINUSE') {
        const why = code === 'EACCES' ? 'this user may not listen there' : message;
        throw new PoolError('config', `stratum address ${where}: ${why}`, { cause });
      }
      if (attempt >= tries) throw new PoolError('port_in_use', `stratum address ${where} is in use`, { cause });
      if (attempt === 1)
        options.log(
          `stratum address ${where} is in use; trying again for a minute (stop the program that listens there, or choose another with --stratum)`,
        );
      await delay(options.bindRetryMs ?? BIND_RETRY_MS, undefined, { signal: options.signal });
    }
  }
}

function withPort(listener: ListenerConfig, handle: BoundHandle): ListenerConfig {
  const bound: { port?: number } = {};
  if (listener.path !== undefined || handle.getsockname?.(bound) !== 0) return listener;
  return { ...listener, port: bound.port ?? listener.port };
}

/**
 * Binds all listeners and accepts on none; those that have a descriptor already are left as they are. Until a worker listens on a descriptor,
 * clients are refused by the kernel; from then on it queues them as long as any process has the descriptor open, also between two workers.
 *
 * @throws PoolError port_in_use, config; the signal's reason once aborted
 */
export async function bindListeners(specs: readonly ListenerSpec[], options: BindOptions): Promise<BoundListeners> {
  const handles: BoundHandle[] = [];
  const close = (): void => {
    for (const handle of handles.splice(0)) {
      unlinkBound(handle);
      handle.close();
    }
  };
  const listeners: (ListenerConfig & { fd: number })[] = [];
  try {
    for (const spec of specs) {
      if (spec.fd !== undefined) {
        listeners.push({ ...spec, fd: spec.fd });
        continue;
      }
      const handle = await patiently(spec, options, () => bind(spec));
      handles.push(handle);
      listeners.push({ ...withPort(spec, handle), fd: handle.fd });
    }
  } catch (error) {
    close();
    throw error;
  }
  return { listeners, close };
}

function listening(server: Server, open: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      server.off('listening', done);
      reject(error);
    };
    const done = (): void => {
      server.off('error', failed);
      resolve();
    };
    server.once('error', failed);
    server.once('listening', done);
    open();
  });
}

/**
 * Makes a server accept on a listener.
 *
 * @returns where it listens; ports of 0 are filled in
 * @throws PoolError port_in_use, config; the signal's reason once aborted
 */
export async function listenOn(server: Server, spec: ListenerSpec, options: BindOptions): Promise<ListenerConfig> {
  const { fd, ...listener } = spec;
  await patiently(listener, options, async () => {
    if (fd !== undefined) {
      await listening(server, () => server.listen({ fd }, BACKLOG));
      return;
    }
    const handle = await bind(listener);
    await listening(server, () => server.listen(handle, BACKLOG));
    server.once('close', () => unlinkBound(handle));
  });
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? { ...listener, port: bound.port } : listener;
}

/**
 * The sockets that systemd hands to a unit with a `.socket` beside it, for the configured listeners in order; listeners beyond them are bound
 * by address. Takes the variables out of `env`, so that no child believes them its own.
 *
 * @param pid - this process: LISTEN_PID must name it
 * @throws PoolError config where there are more sockets than listeners
 */
export function takeSystemdSockets(
  listeners: readonly ListenerConfig[],
  { env, pid, log }: { env: NodeJS.ProcessEnv; pid: number; log: Log },
): ListenerSpec[] {
  const { LISTEN_FDS: count, LISTEN_PID: owner } = env;
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name];
  const sockets = Number(count);
  if (count === undefined || !Number.isInteger(sockets) || sockets < 1) return [...listeners];
  if (Number(owner) !== pid) {
    log(
      `systemd's sockets are for process ${owner}, this is ${pid}: let the unit run \`lodestream pool\` (or ckpool) itself`,
    );
    return [...listeners];
  }
  if (sockets > listeners.length) {
    const one = listeners.length === 1;
    throw new PoolError(
      'config',
      `systemd hands over ${sockets} listening sockets, but ${listeners.length} ${one ? 'address is' : 'addresses are'} configured: each ListenStream= of the .socket unit needs one under lodestream.listen, in the same order`,
    );
  }
  log(`${sockets} of ${listeners.length} listening sockets come from systemd`);
  return listeners.map((each, index) => (index < sockets ? { ...each, fd: SYSTEMD_FIRST_FD + index } : each));
}
