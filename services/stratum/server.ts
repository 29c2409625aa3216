/**
 * Listening sockets, connections and lines: bytes in, whole lines out to a handler, text back. Knows nothing of stratum.
 * A client can at most close its own line: oversize, unread answers and errors in handling it end there.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { hostPortText, type ListenerConfig } from '../core/config.ts';
import { errorLine } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import { type BindOptions, type ListenerSpec, listenOn } from './listeners.ts';

/** A client that does not read its answers is cut off here; a notify is about 3 kB. */
const UNREAD_LIMIT_BYTES = 1 << 20;
/** One connection's lines hold the loop no longer than this; the others then have their turn. A share takes some 20 µs, a solved block 4 ms. */
const SLICE_MS = 5;
const KEEPALIVE_IDLE_MS = 45_000;

export interface Connection {
  /** Rising from 1 in this process. */
  readonly id: number;
  /** The client's network address; `unix` on a unix socket. */
  readonly address: string;
  /** Listen address as configured. */
  readonly listener: string;
  /** Index of it. */
  readonly listenerIndex: number;
  readonly closed: boolean;
  /** @param plain - all of it is ASCII */
  write(text: string, plain?: boolean): void;
  /** Ends the line after what was written; a second call does nothing. */
  close(reason: string): void;
  /** Stops reading until `resume`; lines already read stay in order. */
  pause(): void;
  resume(): void;
}

export interface LineHandler {
  /**
   * Takes one line straight from the bytes, where the handler can.
   *
   * @param from - where the line begins
   * @param end - where the bytes end that may belong to it
   * @returns the position behind the line's newline, or -1: then it comes as text
   */
  take?(bytes: Buffer, from: number, end: number): number;
  /** One line without its end; never empty. */
  line(text: string): void;
  closed(reason: string): void;
}

export interface ServerOptions extends BindOptions {
  readonly listen: readonly ListenerSpec[];
  readonly lineLimitBytes: number;
  /** Above this many connections new ones are closed at once; Infinity: none. */
  readonly maxClients: number;
  /** Number of the first connection; default 1. */
  readonly firstId?: number;
  readonly onConnection: (connection: Connection) => LineHandler;
}

/** Descriptors that connections leave to the journal, share logs and nodes; or a tenth of all (CKPool), where that is more. */
const FILES_KEPT = 100;

/**
 * How many connections there may be: without descriptors left no block could be sent and no share written.
 *
 * @param configured - `maxclients`; 0: as many as the limit allows
 * @param limitsText - Linux' `/proc/self/limits`; empty where the system has none
 * @returns Infinity where nothing limits them
 */
export function clientLimit(configured: number, limitsText: string): number {
  const soft = Number(/^Max open files\s+(\d+)\s/m.exec(limitsText)?.[1] ?? Infinity);
  const allowed =
    soft === Infinity ? Infinity : Math.max(soft - Math.max(FILES_KEPT, Math.ceil(soft / 10)), Math.floor(soft / 4));
  return configured > 0 ? Math.min(configured, allowed) : allowed;
}

export interface StratumServer {
  readonly addresses: readonly ListenerConfig[];
  readonly connections: number;
  /** Accepts nobody any more; those that are connected stay. */
  stopAccepting(): void;
  close(): Promise<void>;
}

const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

class Line implements Connection {
  readonly id: number;
  readonly address: string;
  readonly listener: string;
  readonly listenerIndex: number;
  closed = false;
  readonly #socket: Socket;
  readonly #limitBytes: number;
  readonly #log: Log;
  #handler: LineHandler | null = null;
  #rest: Buffer = NOTHING;
  #paused = false;
  /** Had its slice of this turn, goes on in the next. */
  #yielding = false;
  /** The client has ended its direction while its lines still wait. */
  #ended = false;
  #reason = 'the client closed the line';

  constructor(
    socket: Socket,
    facts: { id: number; listener: string; listenerIndex: number; limitBytes: number; log: Log },
  ) {
    this.#socket = socket;
    this.id = facts.id;
    this.address = socket.remoteAddress?.replace(/^::ffff:/, '') ?? 'unix';
    this.listener = facts.listener;
    this.listenerIndex = facts.listenerIndex;
    this.#limitBytes = facts.limitBytes;
    this.#log = facts.log;
  }

  start(handler: LineHandler): void {
    this.#handler = handler;
    this.#socket.on('data', (chunk: Buffer) => this.#take(chunk));
    this.#socket.on('error', (error) => {
      this.#reason = error.message;
    });
    // An end from the client ends both directions: nobody reads answers any more.
    this.#socket.on('end', () => {
      // Its last lines may still wait for their slice.
      if (this.#yielding) this.#ended = true;
      else this.#socket.end();
    });
    this.#socket.on('close', () => {
      this.closed = true;
      handler.closed(this.#reason);
    });
  }

  write(text: string, plain = false): void {
    if (this.closed || this.#socket.destroyed) return;
    this.#socket.write(text, plain ? 'latin1' : 'utf8');
    if (this.#socket.writableLength > UNREAD_LIMIT_BYTES) {
      this.#reason = 'answers are not read';
      this.#socket.destroy();
    }
  }

  close(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#reason = reason;
    this.#rest = NOTHING;
    this.#socket.end();
    // Who does not answer the end is not waited for; what was written has gone out by then.
    setTimeout(() => this.#socket.destroy(), 5_000).unref();
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused || this.closed) return;
    this.#paused = false;
    this.#goOn();
  }

  #goOn(): void {
    this.#take(NOTHING);
    if (this.closed || this.#paused || this.#yielding) return;
    if (this.#ended) this.#socket.end();
    else this.#socket.resume();
  }

  #yield(): void {
    this.#yielding = true;
    this.#socket.pause();
    setImmediate(() => {
      this.#yielding = false;
      this.#goOn();
    });
  }

  #take(chunk: Buffer): void {
    if (this.closed) return;
    let buffer = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = NOTHING;
    let from = 0;
    const until = performance.now() + SLICE_MS;
    while (from < buffer.length && !this.closed && !this.#paused && !this.#yielding) {
      const next = this.#takeLine(buffer, from);
      if (next < 0) break;
      from = next;
      if (performance.now() > until) this.#yield();
    }
    if (this.closed) return;
    buffer = buffer.subarray(from);
    if (!this.#paused && !this.#yielding && buffer.length > this.#limitBytes) {
      this.#oversize();
      return;
    }
    // A copy, so that a long chunk is not kept alive by its last bytes.
    this.#rest = buffer.length === 0 ? NOTHING : Buffer.from(buffer);
  }

  /** Hands one line over. @returns the position behind it; -1 where it has not all come, or is too long */
  #takeLine(buffer: Buffer, from: number): number {
    let next = -1;
    try {
      next = this.#handler!.take?.(buffer, from, Math.min(buffer.length, from + this.#limitBytes)) ?? -1;
      if (next >= 0) return next;
      const end = buffer.indexOf(NEWLINE, from);
      if (end < 0) return -1;
      if (end + 1 - from > this.#limitBytes) {
        this.#oversize();
        return -1;
      }
      next = end + 1;
      const text = buffer.toString('utf8', from, end).trim();
      if (text !== '') this.#handler!.line(text);
    } catch (error) {
      this.#log(`connection ${this.id} from ${this.address}: ${errorLine(error)}`);
      if (error instanceof Error && error.stack !== undefined) this.#log(error.stack);
      this.close('a fault of ours');
    }
    return next;
  }

  #oversize(): void {
    this.#log(`connection ${this.id} from ${this.address}: message oversize, disconnecting`);
    this.close('message oversize');
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/**
 * Opens all listeners.
 *
 * @throws PoolError port_in_use where an address stays taken, config where it cannot be listened on; the signal's reason once aborted
 */
export async function startServer(options: ServerOptions): Promise<StratumServer> {
  const lines = new Set<Line>();
  const servers: Server[] = [];
  const addresses: ListenerConfig[] = [];
  let nextId = options.firstId ?? 1;
  let saidFull = false;
  const closeAll = async (): Promise<void> => {
    const ended = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    for (const line of lines) line.destroy();
    await Promise.all(ended);
  };
  try {
    for (const [listenerIndex, address] of options.listen.entries()) {
      const server = createServer({
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEPALIVE_IDLE_MS,
        allowHalfOpen: true,
      });
      server.on('connection', (socket) => {
        if (lines.size >= options.maxClients) {
          if (!saidFull) options.log(`Server full with ${lines.size} clients`);
          saidFull = true;
          socket.destroy();
          return;
        }
        saidFull = false;
        const line = new Line(socket, {
          id: nextId++,
          listener: hostPortText(address),
          listenerIndex,
          limitBytes: options.lineLimitBytes,
          log: options.log,
        });
        lines.add(line);
        socket.on('close', () => lines.delete(line));
        line.start(options.onConnection(line));
      });
      addresses.push(await listenOn(server, address, options));
      servers.push(server);
      server.on('error', (error) => options.log(`stratum listener: ${errorLine(error)}`));
    }
  } catch (error) {
    await closeAll();
    throw error;
  }
  return {
    addresses,
    get connections() {
      return lines.size;
    },
    stopAccepting() {
      for (const server of servers) server.close();
    },
    close: closeAll,
  };
}
