/**
 * Listening sockets and the doors behind them. Knows nothing of stratum.
 * A client can at most close its own line: oversize, unread answers and errors in handling it end there.
 *
 * A connection comes through these doors in order: room (`maxClients`), PROXY protocol header (proxy-protocol.ts), limits (limits.ts), TLS
 * (tls.ts), and is then a `Line` (line.ts). On a plain listener without a load balancer it is one at once.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { networksOf, UNIX_CLIENT } from '../../core/address.ts';
import { hostPortText, type ListenerConfig } from '../../core/config.ts';
import { errorLine } from '../../core/errors.ts';
import { type Counts, SERVER_COUNTERS } from './counters.ts';
import { HTTP_WORDS, isHttp } from './http-probe.ts';
import { ConnectionLimits, clientKey, Hushed } from './limits.ts';
import {
  CHOKE_BYTES,
  type Connection,
  type Door,
  Line,
  type LineHandler,
  onBytes,
  TLS_HANDSHAKE,
  Turn,
} from './line.ts';
import { type BindOptions, type ListenerSpec, listenOn } from './listeners.ts';
import { parseProxyHeader } from './proxy-protocol.ts';
import { shareReads } from './shared-reads.ts';
import { openTls, type TlsFront } from './tls.ts';

/** Who reads nothing at all for so long is cut off (CKPool). */
const BLOCKED_MS = 60_000;
/** CKPool's: a dead line is found after 45 s and one probe of 30 s. */
const KEEPALIVE_IDLE_MS = 45_000;
const KEEPALIVE_INTERVAL_MS = 30_000;
const KEEPALIVE_PROBES = 1;
/** Who has not sent what comes before its first line by then (PROXY header, the first byte of TLS) is left. */
const PRELUDE_MS = 10_000;
const SWEEP_MS = 5_000;

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
  /** A connection was refused for want of room. */
  readonly onFull?: () => void;
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

const HTTP_WORD_BYTES = 5;
const PLAIN_ON_TLS = '{"id":null,"result":null,"error":[20,"This port speaks TLS",null]}\n';
/** As Node 24 has it; its types know two parameters. */
type KeepAlive = (enable: boolean, initialDelayMs: number, intervalMs: number, probes: number) => Socket;

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
  let bytes: Buffer = Buffer.alloc(0);
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
      options.onFull?.();
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
    const gone = [...lines].map((line) => line.destroy());
    for (const socket of preludes.keys()) socket.destroy();
    for (const { tls } of doors) tls?.close();
    await Promise.all([...ended, ...gone]);
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
        sharesReads: false,
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
      if (door.tls === null && door.isBalancer === null) {
        door.sharesReads = shareReads(server, CHOKE_BYTES, onBytes, (socket) => accept(socket, door, server));
      }
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
