/**
 * Reads one HTTP request as ClickHouse's HTTP interface does: who asks, with which settings and parameters, which statement, which data.
 *
 * Source: ClickHouse docs, interfaces/http; src/Server/HTTPHandler.cpp.
 */

import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { ANALYST_BODY_BYTES } from './analyst.ts';
import type { Role } from './engine.ts';
import { refusal } from './exceptions.ts';
import { type InsertHead, insertHead } from './sql.ts';

/** Longest statement of the writer, bytes; the data of an INSERT does not count. */
const WRITER_QUERY_BYTES = 16 * 1024 * 1024;
/** Most bytes of one INSERT's data, after decompression. */
const MAX_DATA_BYTES = 16 * 1024 ** 3;
/** What is written at once: a socket gives 64 KiB, and each write is a turn of libuv's threads. */
const WRITE_BYTES = 1024 * 1024;

/** URL parameters that are not settings of the engine; the interface reads them or, like a server, leaves them alone. */
const NOT_SETTINGS = new Set([
  'query', 'database', 'default_format', 'query_id', 'user', 'password', 'quota_key', 'session_id', 'session_timeout', 'session_check',
  'close_session', 'stacktrace', 'wait_end_of_query', 'buffer_size', 'compress', 'decompress', 'role', 'client_protocol_version',
  'enable_http_compression', 'send_progress_in_http_headers', 'http_headers_progress_interval_ms', 'http_zlib_compression_level',
  'add_http_cors_header', 'cancel_http_readonly_queries_on_client_close', 'http_response_buffer_size', 'http_wait_end_of_query',
]); // biome-ignore format: one list

/** One request, checked; its statement and data are still to be read. */
export interface Ask {
  readonly role: Role;
  readonly url: URL;
  readonly queryId: string;
  readonly settings: Map<string, string>;
  readonly parameters: Map<string, string>;
  readonly database: string | undefined;
  readonly defaultFormat: string;
  /** The whole result is awaited before the first byte is sent, so that a late error still has its status. */
  readonly waitEnd: boolean;
  readonly compress: 'gzip' | 'deflate' | 'zstd' | 'br' | undefined;
  /** GET and HEAD promise that nothing is changed. */
  readonly readonlyMethod: boolean;
}

/**
 * Reads address and headers.
 *
 * @throws ClickHouseException AUTHENTICATION_FAILED, SET_NON_GRANTED_ROLE, NOT_IMPLEMENTED, UNKNOWN_FORMAT
 */
export function askFrom(request: IncomingMessage, writerToken: string): Ask {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const at = url.searchParams;
  const role = roleFrom(request, at, writerToken);
  const wanted = at.get('role');
  if (wanted !== null && wanted !== role)
    throw refusal('SET_NON_GRANTED_ROLE', `Role ${wanted} should be granted to set as a current.`);
  if (at.get('compress') === '1' || at.get('decompress') === '1') {
    throw refusal(
      'NOT_IMPLEMENTED',
      "ClickHouse's own block compression (compress=1, decompress=1) is not offered here: use enable_http_compression=1 and Content-Encoding.",
    );
  }
  if (request.headers['content-type']?.startsWith('multipart/form-data')) {
    throw refusal('NOT_IMPLEMENTED', 'External tables and parameters in multipart/form-data are not offered here.');
  }
  const settings = new Map<string, string>();
  const parameters = new Map<string, string>();
  for (const [name, value] of at) {
    if (name.startsWith('param_')) parameters.set(name.slice('param_'.length), value);
    else if (!NOT_SETTINGS.has(name)) settings.set(name, value);
  }
  const defaultFormat = at.get('default_format') ?? header(request, 'x-clickhouse-format') ?? 'TabSeparated';
  if (!/^\w{1,64}$/.test(defaultFormat)) throw refusal('UNKNOWN_FORMAT', `Unknown format ${defaultFormat}.`);
  return {
    role,
    url,
    queryId: at.get('query_id') || header(request, 'x-clickhouse-query-id') || randomUUID(),
    settings,
    parameters,
    database: at.get('database') || header(request, 'x-clickhouse-database') || undefined,
    defaultFormat,
    waitEnd: isOn(at.get('wait_end_of_query')) || isOn(at.get('http_wait_end_of_query')),
    compress: isOn(at.get('enable_http_compression'))
      ? compressionFrom(header(request, 'accept-encoding') ?? '')
      : undefined,
    readonlyMethod: request.method === 'GET' || request.method === 'HEAD',
  };
}

function isOn(value: string | null): boolean {
  return value === '1' || value?.toLowerCase() === 'true';
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function roleFrom(request: IncomingMessage, at: URLSearchParams, writerToken: string): Role {
  let user = header(request, 'x-clickhouse-user') ?? at.get('user') ?? undefined;
  let password = header(request, 'x-clickhouse-key') ?? at.get('password') ?? '';
  const basic = /^Basic (.+)$/i.exec(header(request, 'authorization') ?? '');
  if (user === undefined && basic) {
    const text = Buffer.from(basic[1]!, 'base64').toString();
    const colon = text.indexOf(':');
    user = colon < 0 ? text : text.slice(0, colon);
    password = colon < 0 ? '' : text.slice(colon + 1);
  }
  user ??= 'default';
  if (user === 'default' || user === '') return 'analyst';
  if (user === 'writer' && sameSecret(password, writerToken)) return 'writer';
  throw refusal(
    'AUTHENTICATION_FAILED',
    `${user.replace(/[^\w.@-]/g, '?').slice(0, 64)}: Authentication failed: password is incorrect, or there is no user with such name.`,
  );
}

/** Compares in constant time, whatever the lengths. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

function compressionFrom(accept: string): Ask['compress'] {
  const offered = new Set(
    accept
      .split(',')
      .filter((part) => !/;\s*q=0(\.0*)?\s*$/.test(part))
      .map((part) => part.split(';')[0]!.trim().toLowerCase()),
  );
  return (['gzip', 'zstd', 'br', 'deflate'] as const).find((name) => offered.has(name));
}

/** A statement, or an INSERT with its data in a file of this request's own, which the caller removes. */
export type Body =
  | { readonly kind: 'statement'; readonly sql: string }
  | {
      readonly kind: 'insert';
      readonly head: InsertHead;
      /** The statement up to its data, one character per byte. */
      readonly text: string;
      readonly file: string;
      /** Set where the file is still compressed, in a way that the engine reads itself. */
      readonly compression: string | undefined;
    };

/**
 * Reads the body. As on a server the statement is the parameter `query`, a line break, and the body.
 * The data of an INSERT goes to a file as it comes, so its size does not matter to memory.
 *
 * @param spool directory for that file
 * @throws ClickHouseException QUERY_IS_TOO_LARGE, UNKNOWN_COMPRESSION_METHOD, CANNOT_DECOMPRESS, UNKNOWN_TYPE_OF_QUERY (FROM INFILE)
 */
export async function readBody(request: IncomingMessage, ask: Ask, spool: string): Promise<Body> {
  const { source, compression } = decoded(request);
  const query = ask.url.searchParams.get('query') ?? '';
  const limit = ask.role === 'writer' ? WRITER_QUERY_BYTES : ANALYST_BODY_BYTES;
  // `latin1` keeps one character per byte, so the offsets of the tokens are offsets into the bytes.
  const collected: Buffer[] = [Buffer.from(query === '' ? '' : `${query}\n`)];
  let size = collected[0]!.length;
  if (size > limit) throw tooLarge(limit);
  const body = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head = ask.role === 'writer' ? headFrom(collected) : undefined;
  let looked = query === '' ? 0 : size;
  let ended = false;
  while (!ended && head === undefined) {
    const step = await nextOf(body);
    if (step.done) {
      ended = true;
    } else {
      collected.push(step.value);
      size += step.value.length;
    }
    // The head of an INSERT in the body shows early; looked for again only when the text has doubled.
    if (ask.role === 'writer' && (ended || size >= looked * 2 + 4096)) {
      head = headFrom(collected);
      looked = size;
      // Data that begins at the very end of what was read may be a newline that still belongs to the statement.
      if (!ended && head !== undefined && head.dataAt + 2 >= size) head = undefined;
    }
    if (head === undefined && size > limit) throw tooLarge(limit);
  }
  if (compression !== undefined && (head === undefined || collected.length > 1)) {
    throw refusal(
      'UNKNOWN_COMPRESSION_METHOD',
      `A body in ${compression} is taken for the data of an INSERT that stands in the parameter query, else gzip, deflate, zstd or br.`,
    );
  }
  const bytes = Buffer.concat(collected);
  if (head === undefined) return { kind: 'statement', sql: bytes.toString('utf8') };
  const file = join(spool, randomUUID());
  // A line break that only joins an empty remainder of `query` to the body is not data.
  const dataAt =
    query !== '' &&
    bytes
      .subarray(head.dataAt, Buffer.byteLength(query) + 1)
      .toString()
      .trim() === ''
      ? Math.max(head.dataAt, Buffer.byteLength(query) + 1)
      : head.dataAt;
  const handle = await open(file, 'wx', 0o600);
  try {
    let waiting: Buffer[] = bytes.length > dataAt ? [bytes.subarray(dataAt)] : [];
    let waitingBytes = bytes.length - dataAt;
    let written = 0;
    while (!ended || waitingBytes > 0) {
      const step = ended ? { done: true as const, value: undefined } : await nextOf(body);
      if (step.done) ended = true;
      else {
        waiting.push(step.value);
        waitingBytes += step.value.length;
        if (written + waitingBytes > MAX_DATA_BYTES) throw tooLarge(MAX_DATA_BYTES);
        if (waitingBytes < WRITE_BYTES) continue;
      }
      await writeAll(handle, waiting, waitingBytes);
      written += waitingBytes;
      waiting = [];
      waitingBytes = 0;
    }
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return { kind: 'insert', head, text: bytes.subarray(0, head.dataAt).toString('latin1'), file, compression };
}

async function writeAll(handle: FileHandle, pieces: Buffer[], bytes: number): Promise<void> {
  const { bytesWritten } = await handle.writev(pieces);
  // A disk that is nearly full takes a part, and says with the rest why.
  if (bytesWritten < bytes) await handle.writeFile(Buffer.concat(pieces).subarray(bytesWritten));
}

function headFrom(collected: Buffer[]): InsertHead | undefined {
  const head = insertHead(Buffer.concat(collected).toString('latin1'));
  if (head === 'infile') throw refusal('UNKNOWN_TYPE_OF_QUERY', 'Query has infile and was send directly to server.');
  return head;
}

function tooLarge(bytes: number): Error {
  return refusal('QUERY_IS_TOO_LARGE', `The request is longer than ${bytes} bytes.`);
}

async function nextOf(body: AsyncIterator<Buffer>): Promise<IteratorResult<Buffer, undefined>> {
  try {
    return (await body.next()) as IteratorResult<Buffer, undefined>;
  } catch (error) {
    if (
      error instanceof Error &&
      /^(Z_|ERR_ZSTD|ZSTD_|ERR_BROTLI|ERR__ERROR)/.test((error as NodeJS.ErrnoException).code ?? '')
    ) {
      throw refusal('CANNOT_DECOMPRESS', `Cannot decompress the request's body: ${error.message}.`);
    }
    throw error;
  }
}

/** What the engine decompresses itself when it reads the file (INSERT … FROM INFILE … COMPRESSION). */
const ENGINE_READS = new Set(['lz4', 'xz', 'bz2', 'snappy']);

function decoded(request: IncomingMessage): { source: Readable; compression: string | undefined } {
  const encoding = (header(request, 'content-encoding') ?? '').trim().toLowerCase();
  if (encoding === '' || encoding === 'identity') return { source: request, compression: undefined };
  if (ENGINE_READS.has(encoding)) return { source: request, compression: encoding };
  const decompressor =
    encoding === 'gzip' || encoding === 'x-gzip'
      ? createGunzip()
      : encoding === 'deflate'
        ? createInflate()
        : encoding === 'zstd'
          ? createZstdDecompress()
          : encoding === 'br'
            ? createBrotliDecompress()
            : undefined;
  if (decompressor === undefined)
    throw refusal('UNKNOWN_COMPRESSION_METHOD', `Unknown compression method ${encoding.slice(0, 32)}.`);
  request.on('error', (error) => decompressor.destroy(error));
  request.on('aborted', () => decompressor.destroy(new Error('the client went away')));
  return { source: request.pipe(decompressor), compression: undefined };
}
