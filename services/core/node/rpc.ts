/**
 * JSON-RPC client for a coin's node: bitcoind, litecoind, btcd, the playground's toy chain.
 * Between every program that asks a node and the node itself; the only place that opens a connection to it.
 *
 * A node is outside: its answers are limited in size and checked for their type before anybody uses them.
 *
 * @see https://github.com/bitcoin/bitcoin/blob/master/doc/JSON-RPC-interface.md and src/rpc/protocol.h for the codes
 */
import * as http from 'node:http';
import * as https from 'node:https';
import { PoolError } from '../errors.ts';

export interface NodeRpcOptions {
  /** `host:port` or `http://host:port/…`, as in `btcd[].url`; see {@link parseNodeUrl}. */
  readonly url: string;
  readonly user: string;
  readonly pass: string;
  /** Longest wait for an answer, milliseconds. */
  readonly timeoutMs?: number;
  /** Largest answer that is read, bytes. */
  readonly maxAnswerBytes?: number;
}

export interface CallOptions {
  readonly timeoutMs?: number;
  /** The parameters as JSON text, in place of `params`: where they are large and go to several nodes. */
  readonly paramsJson?: Uint8Array;
  readonly signal?: AbortSignal;
}

export interface NodeRpc {
  /** `host:port`, for messages; never holds user or password. */
  readonly name: string;
  /**
   * One call. The type parameter is what the caller is going to check: the answer is whatever JSON the node sent.
   * @throws PoolError node_unreachable, node_auth, node_syncing, node_refused (facts: rpcCode, rpcMessage), node_answer
   */
  call<T = unknown>(method: string, params?: readonly unknown[], options?: CallOptions): Promise<T>;
  /** Closes idle connections and refuses further calls. */
  close(): void;
}

export interface NodeAddress {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
}

/** bitcoind answers a call after at most this long, or it hangs: CKPool's limit. */
const DEFAULT_TIMEOUT_MS = 60_000;
/** A block of 4 MB is 8 MB as hex and around 20 MB as JSON of verbosity 2. */
const DEFAULT_MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** Bitcoin Core src/rpc/protocol.h: RPC_CLIENT_NOT_CONNECTED (it has no peers), RPC_CLIENT_IN_INITIAL_DOWNLOAD, RPC_IN_WARMUP. */
const SYNCING_CODES = new Set([-9, -10, -28]);

/**
 * Calls that may be sent a second time where a kept-alive connection turned out to be closed: they change nothing, or (submitblock,
 * preciousblock) changing it twice is the same as once. A wallet's calls are not among them.
 */
const REPEATABLE =
  /^(get(?!newaddress|rawchangeaddress)|validateaddress$|decode|submitblock$|preciousblock$|help$|uptime$|estimate)/;

/** Calls about a block of our own; they have connections of their own. */
const BLOCK_CALLS = new Set(['submitblock', 'preciousblock']);

/**
 * Reads the forms of `btcd[].url`: `[scheme://]host[:port][/anything]`, IPv6 in brackets, port 80 where none is given (443 for https).
 *
 * @throws PoolError config where the text is no such address
 */
export function parseNodeUrl(url: string): NodeAddress {
  const wrong = (why: string): PoolError =>
    new PoolError(
      'config',
      `node address ${JSON.stringify(url.replace(/\/\/.*@/, '//…@'))}: ${why}; expected host:port, for example 127.0.0.1:8332`,
    );
  const cut = url.indexOf('//');
  const scheme = cut < 0 ? '' : url.slice(0, cut).toLowerCase();
  if (scheme !== '' && scheme !== 'http:' && scheme !== 'https:') throw wrong(`${scheme}// is not spoken here`);
  const secure = scheme === 'https:';
  const authority = (cut < 0 ? url : url.slice(cut + 2)).replace(/[/?#].*$/s, '');
  if (authority.includes('@')) throw wrong('user and password belong into auth and pass');
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:[\]]+))(?::(.*))?$/.exec(authority);
  if (match === null) throw wrong('no host in it');
  const host = (match[1] ?? match[2])!;
  const portText = match[3];
  if (portText === undefined) return { secure, host, port: secure ? 443 : 80 };
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : 0;
  if (port < 1 || port > 65_535) throw wrong('the port is not a number from 1 to 65535');
  return { secure, host, port };
}

/** Opens nothing yet: the first call connects. @throws PoolError config where the address is malformed */
export function createNodeRpc(options: NodeRpcOptions): NodeRpc {
  const address = parseNodeUrl(options.url);
  const name = address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
  const transport = address.secure ? https : http;
  const agent = new transport.Agent({ keepAlive: true, maxSockets: 16, maxFreeSockets: 4 });
  // On a chain that is too easy blocks come by the hundred: a new template must not queue behind them, nor a block behind questions.
  const blockAgent = new transport.Agent({ keepAlive: true, maxSockets: 8, maxFreeSockets: 2 });
  const authorization = `Basic ${Buffer.from(`${options.user}:${options.pass}`, 'utf8').toString('base64')}`;
  const maxAnswerBytes = options.maxAnswerBytes ?? DEFAULT_MAX_ANSWER_BYTES;
  const closed = new AbortController();
  let nextId = 1;

  function post(
    method: string,
    body: readonly Uint8Array[],
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<HttpAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
    const unreachable = (cause: unknown, why: string): PoolError =>
      new PoolError('node_unreachable', `node ${name}: ${method}: ${why}`, { cause, facts: { node: name, method } });
    const signals = signal === undefined ? closed.signal : AbortSignal.any([closed.signal, signal]);
    if (signals.aborted) return Promise.reject(signals.reason);

    const request = transport.request({
      agent: BLOCK_CALLS.has(method) ? blockAgent : agent,
      host: address.host,
      port: address.port,
      method: 'POST',
      path: '/',
      headers: {
        authorization,
        'content-type': 'application/json',
        'content-length': body.reduce((sum, part) => sum + part.length, 0),
      },
    });
    const timer = setTimeout(() => {
      fail(unreachable(undefined, `no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    const onAbort = (): void => fail(signals.reason);
    signals.addEventListener('abort', onAbort, { once: true });
    function done(): void {
      clearTimeout(timer);
      signals.removeEventListener('abort', onAbort);
    }
    function fail(error: unknown): void {
      done();
      request.destroy();
      reject(error);
    }

    request.on('error', (error: NodeJS.ErrnoException) => {
      // A server closes a connection that was idle for its own time limit (Core: 30 s); what was just sent on it is then lost.
      const repeat =
        request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE') && REPEATABLE.test(method);
      if (repeat && !signals.aborted) {
        done();
        post(method, body, timeoutMs, signal).then(resolve, reject);
        return;
      }
      fail(unreachable(error, connectionWords(error)));
    });
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      response.on('data', (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > maxAnswerBytes) {
          fail(
            new PoolError('node_answer', `node ${name}: ${method}: the answer is larger than ${maxAnswerBytes} bytes`, {
              facts: { node: name, method },
            }),
          );
          return;
        }
        chunks.push(chunk);
      });
      response.on('error', (error) => fail(unreachable(error, connectionWords(error))));
      response.on('close', () => {
        if (!response.complete) fail(unreachable(undefined, 'the connection ended within the answer'));
      });
      response.on('end', () => {
        if (!response.complete) return;
        done();
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    for (const part of body) request.write(part);
    request.end();
    return promise;
  }

  return {
    name,
    async call<T>(method: string, params: readonly unknown[] = [], callOptions: CallOptions = {}): Promise<T> {
      const id = nextId++;
      const { paramsJson } = callOptions;
      const body =
        paramsJson === undefined
          ? [Buffer.from(JSON.stringify({ jsonrpc: '1.0', id, method, params }), 'utf8')]
          : [
              Buffer.from(`{"jsonrpc":"1.0","id":${id},"method":${JSON.stringify(method)},"params":`, 'utf8'),
              paramsJson,
              Buffer.from('}'),
            ];
      const timeoutMs = callOptions.timeoutMs ?? options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const answer = await post(method, body, timeoutMs, callOptions.signal);
      return resultOf(name, method, answer) as T;
    },
    close(): void {
      closed.abort(new PoolError('node_unreachable', `node ${name}: the client was closed`));
      agent.destroy();
      blockAgent.destroy();
    },
  };
}

interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

/** Core sends RPC errors with status 500 or 404 and the error in the body; authentication has a status and no body. */
function resultOf(name: string, method: string, { status, text }: HttpAnswer): unknown {
  const facts = { node: name, method, status };
  if (status === 401) {
    throw new PoolError('node_auth', `node ${name} refuses user or password (HTTP 401)`, { facts });
  }
  if (status === 403) {
    throw new PoolError('node_auth', `node ${name} does not allow ${method} for this user or address (HTTP 403)`, {
      facts,
    });
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const words = text.trim() === '' ? 'an empty body' : `a body that is not JSON: ${excerpt(withoutTags(text))}`;
    // Core: 503 "Work queue depth exceeded"
    const code = status >= 500 ? 'node_refused' : 'node_answer';
    throw new PoolError(code, `node ${name}: ${method}: HTTP ${status} with ${words}`, { cause, facts });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new PoolError('node_answer', `node ${name}: ${method}: the answer is no JSON-RPC object: ${excerpt(text)}`, {
      facts,
    });
  }
  const { result, error } = body as { result?: unknown; error?: unknown };
  if (error !== undefined && error !== null) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    const rpcCode = typeof code === 'number' ? code : null;
    const rpcMessage = typeof message === 'string' ? excerpt(message) : excerpt(JSON.stringify(error));
    throw new PoolError(
      rpcCode !== null && SYNCING_CODES.has(rpcCode) ? 'node_syncing' : 'node_refused',
      `node ${name}: ${method}: ${rpcMessage}${rpcCode === null ? '' : ` (code ${rpcCode})`}`,
      { facts: { ...facts, rpcCode, rpcMessage } },
    );
  }
  if (result === undefined) {
    throw new PoolError(
      'node_answer',
      `node ${name}: ${method}: the answer has neither result nor error: ${excerpt(text)}`,
      {
        facts,
      },
    );
  }
  return result;
}

function connectionWords(error: NodeJS.ErrnoException): string {
  const first = error instanceof AggregateError ? (error.errors[0] as NodeJS.ErrnoException | undefined) : undefined;
  const code = error.code ?? first?.code;
  switch (code) {
    case 'ECONNREFUSED':
      return 'nobody listens there (ECONNREFUSED)';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `the name cannot be resolved (${code})`;
    case 'ECONNRESET':
      return 'the connection was closed without an answer (ECONNRESET)';
    default:
      return error.message || code || error.name;
  }
}

/** The words of a page, such as a web server's `503 Service Unavailable`; other text as it is. */
function withoutTags(text: string): string {
  if (!/^\s*<[a-z!]/i.test(text)) return text;
  return text
    .replace(/<title>.*?<\/title>/is, ' ')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ');
}

/** At most 200 printable characters of foreign text, for a message. */
export function excerpt(text: string): string {
  const clean = text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ').trim();
  return clean.length > 200 ? `${clean.slice(0, 200)}…` : clean;
}

// --- checking what a node says -------------------------------------------------------------------------------------------------

/** The wrong-type error of a node's answer. */
export function wrongAnswer(what: string, expected: string, value: unknown): PoolError {
  const came = value === undefined ? 'nothing' : excerpt(JSON.stringify(value) ?? String(value));
  return new PoolError('node_answer', `the node's ${what} should be ${expected}, but is ${came}`, { facts: { what } });
}

/** @throws PoolError node_answer */
export function objectAnswer(what: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrongAnswer(what, 'an object', value);
  return value as Record<string, unknown>;
}

/** A whole number that a double holds exactly. @throws PoolError node_answer */
export function integerAnswer(what: string, value: unknown, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw wrongAnswer(what, `a whole number from ${min} to ${max}`, value);
  }
  return value;
}

/** Hex text, lower case in the result; of a given number of bytes where one is given. @throws PoolError node_answer */
export function hexAnswer(what: string, value: unknown, sizeBytes?: number): string {
  const expected = sizeBytes === undefined ? 'hex' : `${sizeBytes} bytes as hex`;
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(value))
    throw wrongAnswer(what, expected, value);
  if (sizeBytes !== undefined && value.length !== sizeBytes * 2) throw wrongAnswer(what, expected, value);
  return value.toLowerCase();
}

/**
 * An amount that the node states in smallest units (`coinbasevalue`, `fee`).
 * @throws PoolError node_answer where it is no whole number from 0 to 2^53 − 1: beyond that JSON has already rounded it
 */
export function satsFromUnits(what: string, value: unknown): bigint {
  return BigInt(integerAnswer(what, value));
}
