/**
 * Listening sockets, connections and lines: bytes in, whole lines out to a handler, text back. Knows nothing of stratum.
 * A client can at most close its own line: oversize, unread answers and errors in handling it end there.
 *
 * A connection comes through these doors in order: room (`maxClients`), PROXY protocol header (proxy-protocol.ts), limits (limits.ts), TLS
 * (tls.ts), and is then a `Line`. On a plain listener without a load balancer it is one at once.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { networksOf, UNIX_CLIENT } from '../core/address.ts';
import { hostPortText, type ListenerConfig } from '../core/config.ts';
import { errorLine } from '../core/errors.ts';
import { HTTP_WORDS, isHttp } from './http-probe.ts';
import { ConnectionLimits, clientKey, Hushed } from './limits.ts';
import { type BindOptions, type ListenerSpec, listenOn } from './listeners.ts';
import { parseProxyHeader } from './proxy-protocol.ts';
import { openTls, type TlsFront } from './tls.ts';

/** A client that does not read its answers is cut off here; a notify is about 3 kB. */
const UNREAD_LIMIT_BYTES = 1 << 20;
/**
 * So much of what waits for a client stops reading from it until it has taken all: who asks and does not read costs this and a slice's answers.
 * The kernel takes some 100 kB before anything waits here.
 */
const CHOKE_BYTES = 16 << 10;
/** Lines that are stopped so; beyond it the one that is longest is cut off. */
const CHOKED_LIMIT = 1_000;
/** Lines of one connection before its answers go out. */
const SLICE_LINES = 256;
/** One connection's lines hold the loop no longer than this; the others then have their turn. A share takes some 3 µs, a solved block 4 ms. */
const SLICE_MS = 5;
/** All connections together; once that is used up in a turn of the loop, each has the short slice: thousands that flood hold up no miner for seconds. */
const TURN_MS = 25;
const SHORT_SLICE_MS = 0.05;
/** Who reads nothing at all for so long is cut off (CKPool). */
const BLOCKED_MS = 60_000;
/** CKPool's: a dead line is found after 45 s and one probe of 30 s. */
const KEEPALIVE_IDLE_MS = 45_000;
const KEEPALIVE_INTERVAL_MS = 30_000;
const KEEPALIVE_PROBES = 1;
/** Who has not sent what comes before its first line by then (PROXY header, the first byte of TLS) is left. */
const PRELUDE_MS = 10_000;
const SWEEP_MS = 5_000;
/** RFC 8446, section 5.1: the content type of a handshake record, the first byte of a client that speaks TLS. No stratum line begins with it. */
const TLS_HANDSHAKE = 0x16;
/** RFC 8446, section 6: a fatal alert handshake_failure, for who speaks TLS where none is spoken. */
const TLS_ALERT = Buffer.from('15030100020228', 'hex');

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
  /** @param plain - all of it is ASCII; bytes are written as they are */
  write(text: string | Buffer, plain?: boolean): void;
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
  /** What a client that speaks HTTP is told on a TLS port, whole; where absent it is told in JSON as others are. */
  readonly httpAnswer?: string;
  /** Milliseconds since any moment, for tests. */
  readonly nowMs?: () => number;
  /** How long a TLS handshake may take, for tests. */
  readonly handshakeMs?: number;
  /** How often limits and slow readers are looked at, for tests. */
  readonly sweepMs?: number;
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
  /** Connections that are no lines yet: a PROXY header, TLS is awaited. */
  readonly waiting: number;
  /** Counters of the status file. */
  readonly values: Readonly<Counts>;
  /** What an operator has to mend: certificates. */
  readonly problems: readonly string[];
  /** Reads certificates again. */
  reload(): void;
  /** Accepts nobody any more; those that are connected stay. */
  stopAccepting(): void;
  close(): Promise<void>;
}

const NEWLINE = 0x0a;
const HTTP_WORD_BYTES = 5;
const PLAIN_ON_TLS = '{"id":null,"result":null,"error":[20,"This port speaks TLS",null]}\n';
/** As Node 24 has it; its types know two parameters. */
type KeepAlive = (enable: boolean, initialDelayMs: number, intervalMs: number, probes: number) => Socket;
const NOTHING = Buffer.alloc(0);

/** Memory of its own: Node's small buffers are parts of blocks of 64 KiB, each kept whole by one byte that waits for the rest of its line. */
function ownCopy(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** What all connections of a listener share. */
interface Door {
  readonly text: string;
  readonly index: number;
  readonly limits: ConnectionLimits;
  /** Whose connections begin with a PROXY protocol header; null: nobody's. */
  readonly isBalancer: ((address: string) => boolean) | null;
  readonly tls: TlsFront | null;
  readonly lineLimitBytes: number;
  readonly hushed: Hushed;
  readonly counts: Counts;
  readonly lines: Set<Line>;
  /** Lines that are not read from because they do not read; the longest first. */
  readonly choked: Set<Line>;
  readonly turn: Turn;
}

/** What the lines of this turn of the loop have taken so far. */
export class Turn {
  #spentMs = 0;
  #begun = false;

  /** How long a connection's lines may go on. */
  get sliceMs(): number {
    return this.#spentMs < TURN_MS ? SLICE_MS : SHORT_SLICE_MS;
  }

  spend(ms: number): void {
    this.#spentMs += ms;
    if (this.#begun) return;
    this.#begun = true;
    setImmediate(() => {
      this.#spentMs = 0;
      this.#begun = false;
    });
  }
}

/** Connections that were not let in or were cut off; counters of the status file. */
export const SERVER_COUNTERS = [
  'connections_refused_full_count',
  'connections_refused_limits_count',
  'connections_without_proxy_header_count',
  'connections_without_tls_count',
  'connections_unread_count',
] as const;
type Counts = Record<(typeof SERVER_COUNTERS)[number], number>;

/**
 * A socket that knows its line, so that all lines share their listeners: closures for each cost 500 bytes a connection (measured at 10,000).
 */
const LINE = Symbol('line');
interface LineSocket extends Socket {
  [LINE]: Line;
}

function onData(this: Socket, chunk: Buffer): void {
  (this as LineSocket)[LINE].data(chunk);
}
function onError(this: Socket, error: Error): void {
  (this as LineSocket)[LINE].failed(error);
}
function onDrain(this: Socket): void {
  (this as LineSocket)[LINE].drained();
}
function onEnd(this: Socket): void {
  (this as LineSocket)[LINE].ended();
}
function onClose(this: Socket): void {
  (this as LineSocket)[LINE].gone();
}

class Line implements Connection {
  readonly id: number;
  readonly address: string;
  closed = false;
  readonly #door: Door;
  readonly #socket: Socket;
  #handler: LineHandler | null = null;
  #rest: Buffer = NOTHING;
  #paused = false;
  /** Had its slice of this turn, goes on in the next. */
  #yielding = false;
  /** Does not read what it is sent: nothing is read from it. */
  #choked = false;
  /** The client has ended its direction while its lines still wait. */
  #ended = false;
  /** Something has come. */
  #heard = false;
  #reason = 'the client closed the line';

  /** @param address - the client's, from the socket or from a PROXY header */
  constructor(socket: Socket, door: Door, id: number, address: string) {
    this.id = id;
    this.address = address;
    this.#socket = socket;
    this.#door = door;
  }

  get listener(): string {
    return this.#door.text;
  }

  get listenerIndex(): number {
    return this.#door.index;
  }

  get #limitBytes(): number {
    return this.#door.lineLimitBytes;
  }

  start(handler: LineHandler): void {
    this.#handler = handler;
    const socket = this.#socket;
    (socket as LineSocket)[LINE] = this;
    socket.on('data', onData);
    socket.on('error', onError);
    socket.on('drain', onDrain);
    socket.on('end', onEnd);
    socket.on('close', onClose);
    // Where a PROXY header was read before, the socket was stopped.
    if (socket.isPaused()) socket.resume();
  }

  data(chunk: Buffer): void {
    if (!this.#heard) {
      this.#heard = true;
      if (chunk[0] === TLS_HANDSHAKE) {
        this.#door.counts.connections_without_tls_count += 1;
        this.#door.hushed.say(
          `tls ${this.address}`,
          `stratum address ${this.listener}: ${this.address} speaks TLS, this port is without`,
        );
        this.#socket.write(TLS_ALERT);
        this.close('TLS on a port without');
        return;
      }
    }
    this.#take(chunk);
  }

  failed(error: Error): void {
    this.#reason = error.message;
  }

  /** An end from the client ends both directions: nobody reads answers any more. */
  ended(): void {
    // Its last lines may still wait for their slice.
    if (this.#yielding || this.#choked) this.#ended = true;
    else this.#socket.end();
  }

  gone(): void {
    const door = this.#door;
    this.closed = true;
    door.lines.delete(this);
    door.choked.delete(this);
    // Of a TLS line the socket below counts.
    if (door.tls === null) door.limits.release(this.address);
    this.#handler!.closed(this.#reason);
  }

  /** Bytes that the client has taken of those that wait; null where none wait. */
  get takenBytes(): number | null {
    const waiting = this.#socket.writableLength;
    return waiting === 0 ? null : this.#socket.bytesWritten - waiting;
  }

  /** The client reads nothing. */
  cutOff(reason: string): void {
    this.#door.counts.connections_unread_count += 1;
    this.#reason = reason;
    this.#socket.destroy();
  }

  write(text: string | Buffer, plain = false): void {
    if (this.closed || this.#socket.destroyed) return;
    this.#socket.write(text, plain ? 'latin1' : 'utf8');
    const { writableLength } = this.#socket;
    if (writableLength > UNREAD_LIMIT_BYTES) this.cutOff('answers are not read');
    else if (writableLength > this.#socket.writableHighWaterMark && !this.#choked) this.#choke();
  }

  #choke(): void {
    const { choked } = this.#door;
    this.#choked = true;
    this.#socket.pause();
    choked.add(this);
    if (choked.size <= CHOKED_LIMIT) return;
    const [longest] = choked;
    choked.delete(longest!);
    longest!.cutOff('answers are not read, and too many do so');
  }

  /** The client has taken all that waited. */
  drained(): void {
    if (!this.#choked) return;
    this.#choked = false;
    this.#door.choked.delete(this);
    if (!this.closed && !this.#paused && !this.#yielding) this.#goOn();
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
    if (this.closed || this.#stopped) return;
    if (this.#ended) this.#socket.end();
    else this.#socket.resume();
  }

  get #stopped(): boolean {
    return this.#paused || this.#yielding || this.#choked;
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
    const { turn } = this.#door;
    const began = performance.now();
    const until = began + turn.sliceMs;
    let now = began;
    let lines = 0;
    while (from < buffer.length && !this.closed && !this.#stopped) {
      const next = this.#takeLine(buffer, from);
      if (next < 0) break;
      from = next;
      lines += 1;
      now = performance.now();
      if (lines === SLICE_LINES || now > until) this.#yield();
    }
    turn.spend(now - began);
    if (this.closed) return;
    buffer = buffer.subarray(from);
    if (!this.#stopped && buffer.length > this.#limitBytes) {
      this.#oversize();
      return;
    }
    // A copy, so that a long chunk is not kept alive by its last bytes.
    this.#rest = buffer.length === 0 ? NOTHING : ownCopy(buffer);
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
      const stack = error instanceof Error && error.stack !== undefined ? `\n${error.stack}` : '';
      const line = `connection ${this.id} from ${this.address}: ${errorLine(error)}${stack}`;
      this.#door.hushed.say(`fault ${this.address}`, line);
      this.close('a fault of ours');
    }
    return next;
  }

  #oversize(): void {
    const line = `connection ${this.id} from ${this.address}: message oversize, disconnecting`;
    this.#door.hushed.say(`oversize ${this.address}`, line);
    this.close('message oversize');
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** The client's network address; null where it has gone already. */
function addressOf(socket: Socket, server: Server): string | null {
  const address = socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '');
  if (address !== undefined) return address;
  // A TCP client without an address was reset before it was accepted; a unix server has a path, or nothing where it was bound elsewhere.
  const bound = server.address();
  return bound === null || typeof bound === 'string' ? UNIX_CLIENT : null;
}

/**
 * Reads what comes before the first line. What was read beyond it is put back.
 *
 * @param look - sees all bytes so far and says how many of them it has taken, that more are needed, or that nothing is read any more
 */
function readFirst(socket: Socket, look: (bytes: Buffer) => number | 'more' | 'stop', then: () => void): void {
  let bytes: Buffer = NOTHING;
  const onChunk = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const taken = look(bytes);
    if (taken === 'more') return;
    socket.off('data', onChunk);
    // What comes after a stop is read and dropped: unread bytes would take what we wrote with them when the socket is closed.
    if (taken === 'stop') return;
    socket.pause();
    if (taken < bytes.length) socket.unshift(bytes.subarray(taken));
    then();
  };
  socket.on('data', onChunk);
  socket.resume();
}

/**
 * Opens all listeners.
 *
 * @throws PoolError port_in_use where an address stays taken, config where it cannot be listened on or its certificate cannot be used; the
 *   signal's reason once aborted
 */
export async function startServer(options: ServerOptions): Promise<StratumServer> {
  const nowMs = options.nowMs ?? performance.now.bind(performance);
  const lines = new Set<Line>();
  const choked = new Set<Line>();
  const turn = new Turn();
  /** Connections that are no lines yet, and when they have to be. */
  const preludes = new Map<Socket, number>();
  const servers: Server[] = [];
  const doors: Door[] = [];
  const addresses: ListenerConfig[] = [];
  const counts = Object.fromEntries(SERVER_COUNTERS.map((name) => [name, 0])) as Counts;
  const hushed = new Hushed(options.log, nowMs);
  let nextId = options.firstId ?? 1;

  const begin = (socket: Socket, door: Door, address: string): void => {
    const line = new Line(socket, door, nextId++, address);
    lines.add(line);
    line.start(options.onConnection(line));
  };

  const enter = (socket: Socket, door: Door, address: string): void => {
    const refusal = door.limits.take(address);
    if (refusal !== null) {
      counts.connections_refused_limits_count += 1;
      const what = { per_address: 'limits.per_address', per_minute: 'limits.per_minute', total: 'limits.total' }[
        refusal
      ];
      hushed.say(
        `${door.index} ${refusal} ${refusal === 'total' ? '' : clientKey(address)}`,
        `stratum address ${door.text}: ${address} is not let in, ${what} is reached`,
      );
      socket.destroy();
      return;
    }
    if (door.tls === null) {
      preludes.delete(socket);
      begin(socket, door, address);
      return;
    }
    socket.once('close', () => door.limits.release(address));
    encrypt(socket, door, door.tls, address);
  };

  const encrypt = (socket: Socket, door: Door, tls: TlsFront, address: string): void => {
    const failed = (why: string): void => {
      counts.connections_without_tls_count += 1;
      hushed.say(`tls ${address}`, `stratum address ${door.text}: ${address} ${why}`);
    };
    const isTls = (bytes: Buffer): number | 'more' | 'stop' => {
      if (bytes[0] === TLS_HANDSHAKE) return 0;
      // A word of HTTP is awaited; anything else is told at once.
      const text = bytes.toString('latin1', 0, HTTP_WORD_BYTES);
      if (bytes.length < HTTP_WORD_BYTES && HTTP_WORDS.some((word) => word.startsWith(text))) return 'more';
      failed('does not speak TLS, this port does');
      const http = options.httpAnswer !== undefined && isHttp(text);
      socket.end(http ? options.httpAnswer : PLAIN_ON_TLS);
      return 'stop';
    };
    readFirst(socket, isTls, () => {
      // From here the handshake has its own time limit.
      preludes.set(socket, Infinity);
      tls.accept(
        socket,
        (secure) => {
          preludes.delete(socket);
          begin(secure, door, address);
        },
        (why) => failed(`makes no TLS connection: ${why}`),
      );
    });
  };

  const readProxyHeader = (socket: Socket, door: Door, balancer: string): void => {
    let address = balancer;
    const look = (bytes: Buffer): number | 'more' | 'stop' => {
      const header = parseProxyHeader(bytes);
      if (header.kind === 'more') return 'more';
      if (header.kind === 'wrong') {
        counts.connections_without_proxy_header_count += 1;
        hushed.say(
          `proxy ${balancer}`,
          `stratum address ${door.text}: ${balancer} must send a PROXY protocol header (proxy_protocol_from): ${header.why}`,
        );
        socket.destroy();
        return 'stop';
      }
      address = header.address ?? balancer;
      return header.lengthBytes;
    };
    readFirst(socket, look, () => enter(socket, door, address));
  };

  const accept = (socket: Socket, door: Door, server: Server): void => {
    if (lines.size + preludes.size >= options.maxClients) {
      counts.connections_refused_full_count += 1;
      hushed.say('full', `Server full with ${lines.size} clients`);
      socket.destroy();
      return;
    }
    const address = addressOf(socket, server);
    if (address === null) {
      socket.destroy();
      return;
    }
    // Node's own default is a probe each second, ten of them: a miner whose Wi-Fi fails for ten seconds would be gone.
    (socket.setKeepAlive as KeepAlive)(true, KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS, KEEPALIVE_PROBES);
    const balanced = door.isBalancer?.(address) === true;
    if (!balanced && door.tls === null) {
      enter(socket, door, address);
      return;
    }
    preludes.set(socket, nowMs() + PRELUDE_MS);
    socket.on('error', () => {});
    socket.once('end', () => socket.end());
    socket.once('close', () => preludes.delete(socket));
    if (balanced) readProxyHeader(socket, door, address);
    else enter(socket, door, address);
  };

  /** Lines whose client did not read at the last look: since when, and how far it had read. */
  let blocked = new Map<Line, { readonly sinceMs: number; readonly takenBytes: number }>();
  const sweep = (): void => {
    const now = nowMs();
    hushed.sweep();
    for (const { limits } of doors) limits.sweep();
    for (const [socket, untilMs] of preludes) if (now >= untilMs) socket.destroy();
    const still: typeof blocked = new Map();
    for (const line of lines) {
      const { takenBytes } = line;
      if (takenBytes === null) continue;
      const before = blocked.get(line);
      if (before?.takenBytes !== takenBytes) still.set(line, { sinceMs: now, takenBytes });
      else if (now - before.sinceMs < BLOCKED_MS) still.set(line, before);
      else line.cutOff('answers are not read for a minute');
    }
    blocked = still;
  };
  const sweeper = setInterval(sweep, options.sweepMs ?? SWEEP_MS);
  sweeper.unref();

  const closeAll = async (): Promise<void> => {
    clearInterval(sweeper);
    const ended = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    for (const line of lines) line.destroy();
    for (const socket of preludes.keys()) socket.destroy();
    for (const { tls } of doors) tls?.close();
    await Promise.all(ended);
  };
  try {
    for (const [index, spec] of options.listen.entries()) {
      const text = hostPortText(spec);
      const { proxyProtocolFrom = [] } = spec;
      const door: Door = {
        text,
        index,
        limits: new ConnectionLimits(spec, nowMs),
        isBalancer: proxyProtocolFrom.length === 0 ? null : networksOf(proxyProtocolFrom),
        tls: spec.tls === undefined ? null : openTls(spec.tls, text, options),
        lineLimitBytes: options.lineLimitBytes,
        hushed,
        counts,
        lines,
        choked,
        turn,
      };
      doors.push(door);
      const server = createServer({ noDelay: true, allowHalfOpen: true, highWaterMark: CHOKE_BYTES });
      server.on('connection', (socket) => accept(socket, door, server));
      addresses.push(await listenOn(server, spec, options));
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
    get waiting() {
      return preludes.size;
    },
    values: counts,
    get problems() {
      return doors.flatMap(({ tls }) => tls?.problem() ?? []);
    },
    reload() {
      for (const { tls } of doors) tls?.reload();
    },
    stopAccepting() {
      for (const server of servers) server.close();
    },
    close: closeAll,
  };
}
