/**
 * The embedded ClickHouse: chDB in this process behind ClickHouse's HTTP interface, so that @clickhouse/client, curl, Grafana and notebooks
 * speak to it as to a server. Started by the command line; in production a URL takes its place.
 *
 * Source: ClickHouse docs, interfaces/http.
 */

import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isIP } from 'node:net';
import { totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorLine, PoolError } from '../core/errors.ts';
import { checkAnalyst, checkSettings } from './analyst.ts';
import { Answer, isStreamable } from './answer.ts';
import { type Call, Engine, type ReadLimits } from './engine.ts';
import { exceptionFrom, refusal } from './exceptions.ts';
import { type Ask, askFrom, type Body, readBody } from './request.ts';
import { isWord, literal, type Statement, withoutTail } from './sql.ts';

export interface ClickHouseOptions {
  /** Directory of the store; owned by this process alone. */
  readonly dir: string;
  readonly host: string;
  /** 0 chooses a free one. */
  readonly port: number;
  /** Password of the user `writer`. */
  readonly writerToken: string;
  readonly log?: (line: string) => void;
  /** Longest time of an analyst's query, seconds; default 60. */
  readonly readMaxExecutionS?: number;
}

export interface RunningClickHouse {
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

const PORT_WAIT_MS = 5_000;
/** Statements that change nothing; what GET may carry (HTTPHandler: "method GET implies readonly"). */
const READING = new Set(['SELECT', 'SHOW', 'DESCRIBE', 'DESC', 'EXISTS', 'EXPLAIN', 'CHECK', 'SET', 'USE']);

/**
 * Opens the store and listens.
 *
 * @throws PoolError `held` or `port_in_use` after 5 s of trying, `missing_part` without chdb, `data_dir`, `config`, `clickhouse`
 */
export async function startClickHouse(options: ClickHouseOptions): Promise<RunningClickHouse> {
  const log = options.log ?? (() => {});
  if (options.writerToken === '')
    throw new PoolError('config', "the writer's token of the embedded ClickHouse is empty");
  const seconds = options.readMaxExecutionS ?? 60;
  if (!(seconds > 0) || !Number.isFinite(seconds))
    throw new PoolError('config', `readMaxExecutionS is ${seconds}, expected seconds above 0`);
  const limits: ReadLimits = {
    max_execution_time: seconds,
    max_memory_usage: Math.min(2 * 1024 ** 3, Math.floor(totalmem() / 4)),
    max_result_rows: 10_000_000,
    max_result_bytes: 256 * 1024 ** 2,
  };
  const engine = await Engine.open(options.dir, limits, log);
  const open = new Set<Promise<void>>();
  const onLoopback = isIP(options.host) === 0 ? options.host === 'localhost' : /^(127\.|::1$)/.test(options.host);
  const server = createServer((request, response) => {
    if (onLoopback && isForeignName(request.headers.host)) {
      const text = `This ClickHouse listens on loopback alone and does not answer to the name ${request.headers.host}.\n`;
      response.writeHead(403, { 'content-type': 'text/plain; charset=UTF-8', connection: 'close' }).end(text);
      return;
    }
    const handled = handle(request, response, engine, options.writerToken, log).catch((error: unknown) => {
      log(`${errorLine(error)}`);
      response.destroy();
    });
    open.add(handled);
    void handled.finally(() => open.delete(handled));
  });
  // An upload may be slow but not endless; a query's answer has no limit here, max_execution_time is its limit.
  server.headersTimeout = 15_000;
  server.requestTimeout = 600_000;
  server.keepAliveTimeout = 10_000;
  try {
    await listen(server, options.host, options.port);
  } catch (error) {
    await engine.close(0);
    throw error;
  }
  const { port, address, family } = server.address() as AddressInfo;
  const url = `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  log(`engine ${engine.version} on ${url}`);
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    await engine.close();
    await Promise.allSettled(open);
    server.closeAllConnections();
    await closed;
    log('closed');
  };
  return { url, port, close: () => (closing ??= close()) };
}

/**
 * True for a Host header that is neither an address nor localhost: a page elsewhere whose name was pointed at loopback (DNS rebinding) would
 * otherwise read every table with the password-less user.
 */
function isForeignName(host: string | undefined): boolean {
  const name = (host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name !== '' && name !== 'localhost' && isIP(name) === 0;
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const deadline = Date.now() + PORT_WAIT_MS;
  for (;;) {
    try {
      // Not as a callback of listen(): that one would stay behind with each attempt.
      const settled = once(server, 'listening');
      server.listen(port, host);
      await settled;
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'EADDRINUSE')
        throw new PoolError('config', `cannot listen on ${host}:${port} for ClickHouse: ${errorLine(error)}`, {
          cause: error,
        });
      if (Date.now() >= deadline)
        throw new PoolError('port_in_use', `${host}:${port}, wanted for ClickHouse (--clickhouse-http), is in use`, {
          cause: error,
          facts: { host, port },
        });
      await sleep(100);
    }
  }
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  engine: Engine,
  writerToken: string,
  log: (line: string) => void,
): Promise<void> {
  const path = (request.url ?? '/').split('?')[0];
  if (
    path === '/ping' ||
    path === '/replicas_status' ||
    (path === '/' && request.method === 'GET' && !request.url?.includes('?'))
  ) {
    return plain(request, response, 200, 'Ok.\n');
  }
  if (path !== '/')
    return plain(
      request,
      response,
      404,
      `There is no handle ${path}\n\nUse / or /ping for health checks.\nSend queries from your program with POST method or GET /?query=...\n`,
    );
  if (!['GET', 'HEAD', 'POST', 'PUT'].includes(request.method ?? ''))
    return plain(request, response, 405, 'Send queries with GET or POST.\n');
  let ask: Ask | undefined;
  let body: Body | undefined;
  let answer = new Answer(response, engine, undefined);
  const gone = new AbortController();
  response.on('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  try {
    ask = askFrom(request, writerToken);
    answer = new Answer(response, engine, ask);
    body = await readBody(request, ask, engine.spool);
    if (body.kind === 'insert') await insert(engine, ask, body, answer);
    else await statement(engine, ask, body.sql, answer, gone.signal);
  } catch (error) {
    if (gone.signal.aborted) return;
    const exception = exceptionFrom(error);
    if (exception.code === 1002) log(`${ask?.queryId ?? ''} ${exception.text}`);
    answer.exception(exception);
  } finally {
    if (body?.kind === 'insert') await rm(body.file, { force: true });
  }
}

function plain(request: IncomingMessage, response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=UTF-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
  request.resume();
}

/** Settings that mean nothing here: every insert is on disk before it is answered. */
const IGNORED = ['async_insert', 'wait_for_async_insert'];

function callFrom(ask: Ask): Pick<Call, 'settings' | 'parameters' | 'database' | 'format'> {
  const settings = new Map(ask.settings);
  for (const name of IGNORED) settings.delete(name);
  // The analyst's sessions are read-only already, and from inside that cannot be set again.
  if (ask.role === 'analyst') settings.delete('readonly');
  return { settings, parameters: ask.parameters, database: ask.database, format: ask.defaultFormat };
}

/** An INSERT with data: the engine reads the data from its file by its own INSERT … FROM INFILE, so defaults and types are as on a server. */
async function insert(
  engine: Engine,
  ask: Ask,
  body: Extract<Body, { kind: 'insert' }>,
  answer: Answer,
): Promise<void> {
  if (ask.readonlyMethod) throw getImpliesReadonly();
  const { head, text, file, compression } = body;
  const path = literal(file);
  const packed = compression === undefined ? '' : literal(compression);
  const utf8 = (from: number, to: number): string => Buffer.from(text.slice(from, to), 'latin1').toString('utf8');
  const sql =
    head.input === undefined
      ? `${utf8(0, head.fromAt)} FROM INFILE ${path} ${packed && `COMPRESSION ${packed} `}${utf8(head.fromAt, head.headEnd)} FORMAT ${head.format}`
      : `${utf8(0, head.input.start)} file(${path}, ${literal(head.format)}, ${head.input.structure}${packed && `, ${packed}`}) ${utf8(head.input.end, head.headEnd)}`;
  const result = await engine.run('writer', { ...callFrom(ask), sql, uses: [], marksSession: false });
  await answer.whole(ask.defaultFormat, result.bytes, 0, result.rows);
}

async function statement(engine: Engine, ask: Ask, text: string, answer: Answer, gone: AbortSignal): Promise<void> {
  const seen = await engine.inspect(text);
  if (ask.role === 'analyst') {
    checkAnalyst(seen, ask.parameters, engine.limits);
    checkSettings(ask.settings, engine.limits);
  } else if (seen.intoOutfile) throw refusal('INTO_OUTFILE_NOT_ALLOWED', 'INTO OUTFILE is not allowed.');
  if (ask.readonlyMethod && !READING.has(seen.verb)) throw getImpliesReadonly();
  const format = seen.format ?? ask.defaultFormat;
  const call: Call = {
    ...callFrom(ask),
    sql: withoutTail(text),
    uses: seen.parameters,
    marksSession: seen.marksSession,
    ...(READING.has(seen.verb) ? { signal: gone, killable: seen.verb === 'SELECT' || seen.verb === 'SHOW' } : {}),
  };
  if (ask.waitEnd || seen.verb !== 'SELECT' || !isStreamable(format) || hasFrame(seen, ask)) {
    const result = await engine.run(ask.role, call);
    return answer.whole(format, result.bytes, result.rows);
  }
  const { rows } = await engine.run(ask.role, { ...call, onChunk: (chunk) => answer.chunk(format, chunk) });
  await answer.finish(format, rows);
}

/** Totals, extremes and an array around all rows come after the last piece: such a result is sent whole. */
function hasFrame(seen: Statement, ask: Ask): boolean {
  const framing = [
    'extremes',
    'output_format_json_array_of_rows',
    'output_format_csv_serialize_tuple_into_separate_columns',
  ];
  return (
    framing.some((name) => ask.settings.has(name)) ||
    seen.tokens.some((token) => isWord(token, 'TOTALS') || framing.some((name) => token.text === name))
  );
}

function getImpliesReadonly(): Error {
  return refusal(
    'READONLY',
    'Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries.',
  );
}
