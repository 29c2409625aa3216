/**
 * The toy chain's RPC port: JSON-RPC over HTTP with basic authentication, as bitcoind serves it.
 * Flow: pool, chain follower, `curl` → here → `rpc-methods.ts`.
 *
 * JSON-RPC 1.0 (Core's default: errors come with HTTP 500, or 404 for an unknown method), 2.0 (errors with 200) and batches. Requests
 * whose head lines end in a bare LF and that have no `id`, as CKPool writes them, are read: hence the lenient parser.
 *
 * @see Bitcoin Core httprpc.cpp, rpc/request.cpp, doc/JSON-RPC-interface.md
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { PoolError } from '../core/errors.ts';
import { type NodeMethods, RpcError } from './rpc-methods.ts';

export interface RpcServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface RpcServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly user: string;
  readonly pass: string;
  readonly methods: NodeMethods;
  /** Told of what should not happen. */
  readonly onError: (error: unknown) => void;
}

/** Core's MAX_SIZE (serialize.h). */
const MAX_BODY_BYTES = 0x0200_0000;
const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INTERNAL_ERROR = -32603;

/** Starts to listen. @throws PoolError port_in_use */
export async function startRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const { methods } = options;
  const closing = new AbortController();
  // Digests have one length, whatever was sent.
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const expected = digest(`${options.user}:${options.pass}`);

  function isAllowed(header: string | undefined): boolean {
    const match = /^Basic ([A-Za-z0-9+/=_-]+)$/i.exec(header ?? '');
    return match !== null && timingSafeEqual(digest(Buffer.from(match[1]!, 'base64').toString('utf8')), expected);
  }

  const server = http.createServer(
    { insecureHTTPParser: true, keepAliveTimeout: 30_000, requestTimeout: 0 },
    (request, response) => {
      if (request.method !== 'POST') {
        response.writeHead(405, { 'content-type': 'text/plain' }).end('JSONRPC server handles only POST requests');
        return;
      }
      if (!isAllowed(request.headers.authorization)) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="jsonrpc"' }).end();
        return;
      }
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      request.on('data', (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > MAX_BODY_BYTES) request.destroy();
        else chunks.push(chunk);
      });
      const gone = new AbortController();
      response.on('close', () => gone.abort());
      request.on('end', () => {
        answer(Buffer.concat(chunks).toString('utf8'), AbortSignal.any([closing.signal, gone.signal])).then(
          ({ status, body }) => {
            if (response.destroyed) return;
            if (body === null) {
              response.writeHead(status).end();
              return;
            }
            // With its length, not in chunks: CKPool reads no others.
            const bytes = Buffer.from(`${JSON.stringify(body)}\n`, 'utf8');
            response
              .writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length })
              .end(bytes);
          },
          (error: unknown) => {
            options.onError(error);
            response.destroy();
          },
        );
      });
      request.on('error', () => {});
    },
  );
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  });

  interface Reply {
    readonly status: number;
    readonly body: unknown;
  }

  async function answer(text: string, signal: AbortSignal): Promise<Reply> {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      return { status: 500, body: { result: null, error: { code: PARSE_ERROR, message: 'Parse error' }, id: null } };
    }
    if (!Array.isArray(parsed)) return one(parsed, signal);
    const replies: unknown[] = [];
    for (const item of parsed) {
      const { status, body } = await one(item, signal);
      if (status !== 204) replies.push(body);
    }
    return { status: 200, body: replies };
  }

  async function one(request: unknown, signal: AbortSignal): Promise<Reply> {
    const fields =
      typeof request === 'object' && request !== null && !Array.isArray(request)
        ? (request as Record<string, unknown>)
        : null;
    const v2 = fields?.jsonrpc === '2.0';
    const id = fields?.id ?? null;
    try {
      if (fields === null) throw new RpcError(INVALID_REQUEST, 'Invalid Request object');
      const { method, params } = fields;
      if (method === undefined) throw new RpcError(INVALID_REQUEST, 'Missing method');
      if (typeof method !== 'string') throw new RpcError(INVALID_REQUEST, 'Method must be a string');
      if (params !== undefined && params !== null && typeof params !== 'object')
        throw new RpcError(INVALID_REQUEST, 'Params must be an array or object');
      const result = await methods.call(method, params, signal);
      if (v2)
        return fields.id === undefined
          ? { status: 204, body: null }
          : { status: 200, body: { jsonrpc: '2.0', result, id } };
      return { status: 200, body: { result, error: null, id } };
    } catch (thrown) {
      if (!(thrown instanceof RpcError)) options.onError(thrown);
      const code = thrown instanceof RpcError ? thrown.code : INTERNAL_ERROR;
      const error = { code, message: thrown instanceof Error ? thrown.message : String(thrown) };
      if (v2)
        return fields?.id === undefined
          ? { status: 204, body: null }
          : { status: 200, body: { jsonrpc: '2.0', error, id } };
      const status = code === INVALID_REQUEST ? 400 : code === METHOD_NOT_FOUND ? 404 : 500;
      return { status, body: { result: null, error, id } };
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const where = `${options.host}:${options.port}`;
      if (cause.code === 'EADDRINUSE')
        reject(
          new PoolError('port_in_use', `the toy chain's RPC port ${where} (--node-rpc) is in use`, {
            cause,
          }),
        );
      else reject(new PoolError('config', `the toy chain's RPC port ${where}: ${cause.message}`, { cause }));
    });
    server.listen(options.port, options.host, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', options.onError);

  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      closing.abort();
      // Long polls answer that we are shutting down; what is then still open is idle or stuck.
      setImmediate(() => setImmediate(() => server.closeAllConnections()));
      await closed;
    },
  };
}
