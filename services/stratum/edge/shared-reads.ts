/**
 * Connections of a listening socket that are all read into one buffer. Node makes 64 KiB for each read of each connection and gives most of it
 * back: a tenth of what a lone share costs (`npm run bench:stratum -- --row paced`). Its `onread` does without, but only for connections that
 * one opens oneself; for those that come, the handle below the server has to be asked.
 *
 * @see https://nodejs.org/api/net.html#socketconnectoptions-connectlistener (`onread`); lib/net.js of Node 24, `onconnection`
 */
import { type Server, Socket, type SocketConstructorOpts } from 'node:net';

/** libuv reads no more at once. */
const BUFFER_BYTES = 64 << 10;
const shared = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** Gets what was read; the bytes are somebody else's as soon as it returns. */
export type OnBytes = (this: Socket, bytes: Buffer) => void;

/** What Node 24 has below its types. */
interface Handle {
  onconnection?: (this: unknown, status: number, client?: object & { setNoDelay?(on: boolean): number }) => void;
}
type Options = Omit<SocketConstructorOpts, 'handle'> & {
  readonly handle: object;
  readonly manualStart: true;
  readonly highWaterMark: number;
  readonly onread: { readonly buffer: Buffer; readonly callback: (this: Socket, lengthBytes: number) => boolean };
};

/**
 * Makes a server that listens give its connections to `onSocket`, without its `connection` event. Nothing is read from one before `resume`.
 * The server's end does not wait for them.
 *
 * @returns false where this Node does not have what it needs; the server is then as it was
 */
export function shareReads(
  server: Server,
  highWaterMark: number,
  onBytes: OnBytes,
  onSocket: (socket: Socket) => void,
): boolean {
  const handle = (server as { _handle?: Handle | null })._handle;
  const ordinary = handle?.onconnection;
  if (ordinary === undefined) return false;
  const onread: Options['onread'] = {
    buffer: shared,
    callback(lengthBytes) {
      onBytes.call(this, shared.subarray(0, lengthBytes));
      return true;
    },
  };
  handle!.onconnection = function (status, client) {
    // Where none could be accepted the server tells why.
    if (status !== 0 || client === undefined) return ordinary.call(this, status, client);
    // A unix socket has no delay.
    client.setNoDelay?.(true);
    const options: Options = { handle: client, allowHalfOpen: true, manualStart: true, highWaterMark, onread };
    onSocket(new Socket(options as SocketConstructorOpts));
  };
  return true;
}
