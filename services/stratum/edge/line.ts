/**
 * One connection as whole lines: bytes in, lines out to a handler, text back; in slices, so that nobody holds the loop, and read from only while
 * it reads. server.ts makes one of each client that has come through its doors; daemon.ts has the handler (session.ts). Knows nothing of stratum.
 */
import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { errorLine } from '../../core/errors.ts';
import type { Counts } from './counters.ts';
import type { ConnectionLimits, Hushed } from './limits.ts';
import type { TlsFront } from './tls.ts';

/** A client that does not read its answers is cut off here; a notify is about 3 kB. */
const UNREAD_LIMIT_BYTES = 1 << 20;
/**
 * So much of what waits for a client stops reading from it until it has taken all: who asks and does not read costs this and a slice's answers.
 * The kernel takes some 100 kB before anything waits here.
 */
export const CHOKE_BYTES = 16 << 10;
/** Lines that are stopped so; beyond it the one that is longest is cut off. */
const CHOKED_LIMIT = 1_000;
/** Lines of one connection before its answers go out. */
const SLICE_LINES = 256;
/** One connection's lines hold the loop no longer than this; the others then have their turn. A share takes some 3 µs, a solved block 4 ms. */
const SLICE_MS = 5;
/** All connections together; once that is used up in a turn of the loop, each has the short slice: thousands that flood hold up no miner for seconds. */
const TURN_MS = 25;
const SHORT_SLICE_MS = 0.05;
/** RFC 8446, section 5.1: the content type of a handshake record, the first byte of a client that speaks TLS. No stratum line begins with it. */
export const TLS_HANDSHAKE = 0x16;
/** RFC 8446, section 6: a fatal alert handshake_failure, for who speaks TLS where none is spoken. */
const TLS_ALERT = Buffer.from('15030100020228', 'hex');
const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

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

/** Memory of its own: Node's small buffers are parts of blocks of 64 KiB, each kept whole by one byte that waits for the rest of its line. */
function ownCopy(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** What all connections of a listener share. */
export interface Door {
  readonly text: string;
  readonly index: number;
  readonly limits: ConnectionLimits;
  /** Whose connections begin with a PROXY protocol header; null: nobody's. */
  readonly isBalancer: ((address: string) => boolean) | null;
  readonly tls: TlsFront | null;
  /** Its connections are read into one buffer (shared-reads.ts). */
  sharesReads: boolean;
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

/**
 * A socket that knows its line, so that all lines share their listeners: closures for each cost 500 bytes a connection (measured at 10,000).
 */
const LINE = Symbol('line');
interface LineSocket extends Socket {
  [LINE]: Line;
}
/** What Node has below its types; -1 where it is none of the system's. */
type HandleSocket = Socket & { readonly _handle?: { readonly fd?: number } | null };

/** What was read; also told by a door that shares its reads. */
export function onBytes(this: Socket, bytes: Buffer): void {
  (this as LineSocket)[LINE].data(bytes);
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

/** A client's connection. */
export class Line implements Connection {
  readonly id: number;
  readonly address: string;
  closed = false;
  readonly #door: Door;
  readonly #socket: Socket;
  #handler: LineHandler | null = null;
  /** The socket's descriptor; -1: it is not written to past the stream. */
  #fd = -1;
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
    const { sharesReads, tls } = this.#door;
    if (!sharesReads) socket.on('data', onBytes);
    if (tls === null) this.#fd = (socket as HandleSocket)._handle?.fd ?? -1;
    socket.on('error', onError);
    socket.on('drain', onDrain);
    socket.on('end', onEnd);
    socket.on('close', onClose);
    // Where a PROXY header was read before, the socket was stopped.
    if (sharesReads || socket.isPaused()) socket.resume();
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
    const encoding = plain ? 'latin1' : 'utf8';
    const rest = this.#writeNow(text, encoding);
    if (rest === null) return;
    this.#socket.write(rest, encoding);
    const { writableLength } = this.#socket;
    if (writableLength > UNREAD_LIMIT_BYTES) this.cutOff('answers are not read');
    else if (writableLength > this.#socket.writableHighWaterMark && !this.#choked) this.#choke();
  }

  /**
   * Writes what the kernel takes at once: past the stream, whose ways for what has to wait are most of the cost of a short answer.
   *
   * @returns what is left for the stream; null: nothing
   */
  #writeNow(text: string | Buffer, encoding: 'latin1' | 'utf8'): string | Buffer | null {
    if (this.#fd < 0 || this.#socket.writableLength > 0) return text;
    let bytes: number;
    try {
      bytes = typeof text === 'string' ? writeSync(this.#fd, text, null, encoding) : writeSync(this.#fd, text);
    } catch {
      // A full socket waits in the stream; what else is wrong it tells.
      return text;
    }
    if (bytes === Buffer.byteLength(text, encoding)) return null;
    return (typeof text === 'string' ? Buffer.from(text, encoding) : text).subarray(bytes);
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

  /** Ends it at once. Resolves when it has gone. */
  destroy(): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.once('close', () => resolve());
      this.#socket.destroy();
    });
  }
}
