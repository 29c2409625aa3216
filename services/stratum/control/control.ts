/**
 * The daemon's four control sockets, `<sockdir>/{listener,stratifier,generator,connector}`. control-commands.ts says what is done for whom asks.
 *
 *   ckpmsg, notifier, --handover ─► socket ─► frame (core/control.ts) ─► `runCommand`
 *
 * Who may connect is the folder's and the sockets' matter (0750, 0770). What comes is still bounded: length, time, connections, requests a
 * second; one request is worked at after the other.
 */
import { chmodSync, chownSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CONTROL_SOCKETS,
  type ControlSocket,
  controlFrame,
  FrameReader,
  REQUEST_LIMIT_BYTES,
} from '../../core/control.ts';
import { errorLine, PoolError } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';
import { type Context, type ControlProcess, type ControlTarget, NotReady, runCommand } from './control-commands.ts';
import { FAILED, HANDOVER_LIMIT_MS } from './instance.ts';

/** Connections of one socket at a time; for one more the oldest without a whole request is closed. */
const CONNECTIONS_LIMIT = 32;
/** A request is whole within this time, and its reply read. */
const PATIENCE_MS = 10_000;
/** Requests a second of all sockets; what is above waits its turn. */
const REQUESTS_PER_SECOND = 200;
const HANDLING_LIMIT_MS = 90_000;
/** A command that takes longer is not waited for by the next ones. */
const TURN_LIMIT_MS = 1_000;

/** A costly list is made anew only after ten times what it last took: who asks for it all the time has it at a tenth of the miners' time. */
function sparingly<T>(make: () => Promise<T>): () => Promise<T> {
  let last: { readonly value: T; readonly untilMs: number } | null = null;
  return async () => {
    const beganMs = performance.now();
    if (last !== null && beganMs < last.untilMs) return last.value;
    const value = await make();
    const nowMs = performance.now();
    last = { value, untilMs: nowMs + 10 * (nowMs - beganMs) };
    return value;
  };
}

export interface ControlOptions {
  readonly dir: string;
  /** Group of the sockets; null: the process' own. */
  readonly gid: number | null;
  readonly process: ControlProcess;
  /** Null until the daemon has started. */
  readonly target: () => ControlTarget | null;
  readonly log: Log;
}

/**
 * Opens the four sockets. Call it after `claimInstance` alone: what lies at their paths is removed.
 * @throws PoolError sockdir
 */
export async function openControl(options: ControlOptions): Promise<{ close(): Promise<void> }> {
  const servers: Server[] = [];
  const paths: string[] = [];
  const open = new Set<Socket>();
  /** Of each socket, whose request is not whole yet; the oldest first. */
  const waiting: Record<ControlSocket, Set<Socket>> = {
    listener: new Set(),
    stratifier: new Set(),
    generator: new Set(),
    connector: new Set(),
  };
  let sparing: ControlTarget | null = null;
  const context: Context = {
    process: options.process,
    get target() {
      const target = options.target();
      if (target === null) throw new NotReady();
      sparing ??= { ...target, clients: sparingly(() => target.clients()) };
      return sparing;
    },
  };
  let second = 0;
  let requests = 0;
  let turn: Promise<unknown> = Promise.resolve();

  /** One request after the other, so many a second. */
  const handle = (name: ControlSocket, text: string): Promise<string> => {
    const answer = turn.then(async () => {
      const now = Math.floor(performance.now() / 1000);
      if (now !== second) [second, requests] = [now, 0];
      requests += 1;
      if (requests > REQUESTS_PER_SECOND) await delay((second + 1) * 1000 - performance.now());
      const limit = new AbortController();
      try {
        return await Promise.race([
          runCommand(name, text, context),
          delay(/^\s*handover/i.test(text) ? HANDOVER_LIMIT_MS : HANDLING_LIMIT_MS, `${FAILED}no answer in time`, {
            signal: limit.signal,
            ref: false,
          }),
        ]);
      } finally {
        limit.abort();
      }
    });
    turn = Promise.race([answer.catch(() => {}), turn.then(() => delay(TURN_LIMIT_MS, undefined, { ref: false }))]);
    return answer;
  };

  const serve = (name: ControlSocket, socket: Socket): void => {
    open.add(socket);
    waiting[name].add(socket);
    if (waiting[name].size > CONNECTIONS_LIMIT) waiting[name].values().next().value?.destroy();
    const reader = new FrameReader(REQUEST_LIMIT_BYTES);
    let patience = setTimeout(() => socket.destroy(), PATIENCE_MS);
    socket.on('close', () => {
      open.delete(socket);
      waiting[name].delete(socket);
      clearTimeout(patience);
    });
    socket.on('error', () => {});
    // One request a connection: what follows it is read by nobody.
    const take = (piece: Buffer): void => {
      let text: string | null;
      try {
        text = reader.push(piece);
      } catch {
        socket.destroy();
        return;
      }
      if (text === null) return;
      socket.off('data', take);
      socket.pause();
      waiting[name].delete(socket);
      clearTimeout(patience);
      handle(name, text).then(
        (reply) => {
          patience = setTimeout(() => socket.destroy(), PATIENCE_MS);
          socket.end(controlFrame(reply));
          socket.resume();
        },
        (error: unknown) => {
          options.log(`control socket ${name}: ${errorLine(error)}`);
          socket.destroy();
        },
      );
    };
    socket.on('data', take);
  };

  const close = async (): Promise<void> => {
    const ended = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    // A reply such as `exiting` may still be on its way.
    await Promise.race([turn, delay(1_000, undefined, { ref: false })]);
    for (const socket of open) socket.destroySoon();
    for (const path of paths) rmSync(path, { force: true });
    await Promise.race([Promise.all(ended), delay(1_000, undefined, { ref: false })]);
    for (const socket of open) socket.destroy();
  };

  try {
    for (const name of CONTROL_SOCKETS) {
      const path = join(options.dir, name);
      if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) rmSync(path);
      const server = createServer({ allowHalfOpen: true }, (socket) => serve(name, socket));
      server.maxConnections = 4 * CONNECTIONS_LIMIT;
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, () => {
          server.off('error', reject);
          resolve();
        });
      });
      server.on('error', (error) => options.log(`control socket ${name}: ${errorLine(error)}`));
      server.unref();
      servers.push(server);
      paths.push(path);
      chmodSync(path, 0o770);
      if (options.gid !== null) chownSync(path, -1, options.gid);
    }
  } catch (cause) {
    await close();
    throw new PoolError('sockdir', `control sockets in ${options.dir}: ${(cause as Error).message}`, { cause });
  }
  return { close };
}
