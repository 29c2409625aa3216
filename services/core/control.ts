/**
 * How the control sockets of a stratum daemon are spoken to: a unix stream socket, a length of 4 bytes (little-endian), the text; one request a
 * connection, and the reply framed likewise. The daemon serves it (services/stratum/control/control.ts), ckpmsg, notifier and `--handover` ask.
 *
 *   offset 0, 4 bytes, little-endian: n     offset 4, n bytes: text, UTF-8
 */
import { connect } from 'node:net';
import { PoolError } from './errors.ts';

export const CONTROL_SOCKETS = ['listener', 'stratifier', 'generator', 'connector'] as const;
export type ControlSocket = (typeof CONTROL_SOCKETS)[number];

/** The longest request that is read. CKPool's are a word and a name. */
export const REQUEST_LIMIT_BYTES = 65_536;
/** The longest reply that is read: a list of some 100,000 clients. */
const REPLY_LIMIT_BYTES = 64 << 20;
/** sockaddr_un holds 108 bytes with the closing zero (unix(7)). */
export const SOCKET_PATH_LIMIT_BYTES = 107;

/** A text with its length before it. */
export function controlFrame(text: string): Buffer {
  const body = Buffer.from(text, 'utf8');
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

/** Puts one framed text together from pieces. */
export class FrameReader {
  readonly #limitBytes: number;
  readonly #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /**
   * @returns the text once it is whole; null before. What follows it is not looked at.
   * @throws RangeError where the length is above the limit; nothing is kept for it
   */
  push(piece: Buffer): string | null {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes < 4) return null;
    if (this.#pieces[0]!.length < 4) this.#pieces.splice(0, this.#pieces.length, Buffer.concat(this.#pieces));
    const length = this.#pieces[0]!.readUInt32LE(0);
    if (length > this.#limitBytes) {
      throw new RangeError(`message of ${length} bytes, expected at most ${this.#limitBytes}`);
    }
    if (this.#bytes < 4 + length) return null;
    return Buffer.concat(this.#pieces).toString('utf8', 4, 4 + length);
  }
}

export interface AskOptions {
  /** How long the whole exchange may take, milliseconds. */
  readonly timeoutMs: number;
  /** False: the request is handed over and no reply awaited. */
  readonly reply?: boolean;
}

/**
 * Asks one thing.
 *
 * @param path - the socket
 * @returns the reply; null where none came within the time or the other end hung up without one
 * @throws PoolError control: nobody listens there, or this user may not
 */
export function askControl(
  path: string,
  text: string,
  { timeoutMs, reply = true }: AskOptions,
): Promise<string | null> {
  return new Promise((resolve, reject) => {
    if (Buffer.byteLength(path) > SOCKET_PATH_LIMIT_BYTES) {
      reject(new PoolError('control', `${path} is too long for a socket's path`));
      return;
    }
    const socket = connect(path);
    const reader = new FrameReader(REPLY_LIMIT_BYTES);
    let connected = false;
    const end = (answer: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => end(null), timeoutMs);
    socket.on('connect', () => {
      connected = true;
      if (reply) socket.write(controlFrame(text));
      else socket.end(controlFrame(text), () => end(null));
    });
    socket.on('data', (piece) => {
      try {
        const answer = reader.push(piece);
        if (answer !== null) end(answer);
      } catch (cause) {
        clearTimeout(timer);
        socket.destroy();
        reject(new PoolError('control', `${path}: ${(cause as Error).message}`, { cause }));
      }
    });
    socket.on('error', (cause) => {
      clearTimeout(timer);
      const code = (cause as NodeJS.ErrnoException).code;
      if (connected) resolve(null);
      else {
        const why =
          code === 'ENOENT'
            ? 'there is no such socket'
            : code === 'ECONNREFUSED'
              ? 'nobody listens there any more'
              : code === 'EACCES'
                ? 'this user may not connect'
                : (cause as Error).message;
        reject(new PoolError('control', `${path}: ${why}`, { cause }));
      }
    });
    socket.on('close', () => end(null));
  });
}
