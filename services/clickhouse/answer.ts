/**
 * Writes one HTTP answer as ClickHouse's HTTP interface does: headers, compression, exceptions before and after the first byte.
 */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { constants, createBrotliCompress, createDeflate, createGzip, createZstdCompress, type Gzip } from 'node:zlib';
import type { Engine } from './engine.ts';
import { type ClickHouseException, statusFromCode } from './exceptions.ts';
import type { Ask } from './request.ts';

/** Content-Type by format (ClickHouse src/Formats); every other format is bytes. */
const TYPES: Readonly<Record<string, string>> = {
  TabSeparated: 'text/tab-separated-values; charset=UTF-8',
  TSV: 'text/tab-separated-values; charset=UTF-8',
  CSV: 'text/csv; charset=UTF-8; header=absent',
  CSVWithNames: 'text/csv; charset=UTF-8; header=present',
  CSVWithNamesAndTypes: 'text/csv; charset=UTF-8; header=present',
  XML: 'application/xml; charset=UTF-8',
  Vertical: 'text/plain; charset=UTF-8',
  Values: 'text/plain; charset=UTF-8',
  Markdown: 'text/plain; charset=UTF-8',
};

function typeOf(format: string): string {
  const known = TYPES[format];
  if (known !== undefined) return known;
  if (/^(TabSeparated|TSV|Raw)/.test(format)) return 'text/tab-separated-values; charset=UTF-8';
  if (
    /^(JSON|JSONStrings|JSONCompact|JSONCompactStrings|JSONColumns|JSONCompactColumns|JSONColumnsWithMetadata|JSONObjectEachRow)$/.test(
      format,
    )
  )
    return 'application/json; charset=UTF-8';
  if (/EachRow|^JSONLines$|^NDJSON$/.test(format)) return 'application/x-ndjson; charset=UTF-8';
  return format.startsWith('Pretty') ? 'text/plain; charset=UTF-8' : 'application/octet-stream';
}

/** Formats whose pieces from the engine's stream, put one after the other, are the format (measured: others repeat header or frame). */
const STREAMABLE =
  /^(TabSeparated|TabSeparatedRaw|TSV|TSVRaw|Raw|CSV|JSONEachRow|JSONLines|NDJSON|JSONStringsEachRow|JSONCompactEachRow|JSONCompactStringsEachRow|RowBinary|Native)$/;

export function isStreamable(format: string): boolean {
  return STREAMABLE.test(format);
}

/** As a server's http_response_buffer_size. */
const HOLD_BYTES = 1024 * 1024;

/** A client that takes nothing for so long is cut off: its query holds a session. */
const STALL_MS = 30_000;

export class Answer {
  readonly #response: ServerResponse;
  readonly #engine: Engine;
  readonly #ask: Ask | undefined;
  readonly #startedNs = process.hrtime.bigint();
  readonly #exceptionTag = randomBytes(8).toString('hex');
  #out: NodeJS.WritableStream | undefined;
  /** The beginning of a result, held back so that a short one has its length and an early error its status. */
  #held: Uint8Array[] = [];
  #heldBytes = 0;

  constructor(response: ServerResponse, engine: Engine, ask: Ask | undefined) {
    this.#response = response;
    this.#engine = engine;
    this.#ask = ask;
  }

  #headers(rows: number, bytes: number, written: number): void {
    const r = this.#response;
    r.setHeader('X-ClickHouse-Server-Display-Name', 'lodestream');
    r.setHeader('X-ClickHouse-Timezone', this.#engine.timezone);
    if (this.#ask) r.setHeader('X-ClickHouse-Query-Id', this.#ask.queryId.replace(/[^\x20-\x7e]/g, '?'));
    const summary = {
      read_rows: String(written || rows),
      read_bytes: String(bytes),
      written_rows: String(written),
      written_bytes: String(written > 0 ? bytes : 0),
      total_rows_to_read: '0',
      result_rows: String(written || rows),
      result_bytes: String(bytes),
      elapsed_ns: String(process.hrtime.bigint() - this.#startedNs),
    };
    r.setHeader('X-ClickHouse-Summary', JSON.stringify(summary));
  }

  /** Sends a whole result; `written` is the number of rows inserted, for an INSERT. */
  async whole(format: string, bytes: Uint8Array, rows: number, written = 0, dataBytes = bytes.length): Promise<void> {
    this.#headers(rows, dataBytes, written);
    this.#response.setHeader('Content-Type', typeOf(format));
    this.#response.setHeader('X-ClickHouse-Format', format);
    const compress = bytes.length > 0 ? this.#ask?.compress : undefined;
    if (compress === undefined) {
      this.#response.setHeader('Content-Length', bytes.length);
      this.#response.writeHead(200);
      this.#response.end(this.#response.req.method === 'HEAD' ? undefined : bytes);
      return;
    }
    await this.#write(format, bytes);
    this.#out?.end();
  }

  /** Takes one piece of a result as it comes; resolves when more may be given. */
  async chunk(format: string, bytes: Uint8Array): Promise<void> {
    if (this.#out === undefined) {
      this.#held.push(bytes);
      this.#heldBytes += bytes.length;
      if (this.#heldBytes >= HOLD_BYTES) await this.#write(format, Buffer.concat(this.#held.splice(0)));
    } else await this.#write(format, bytes);
  }

  /** Ends a result that came in pieces; `rows` is their sum. */
  async finish(format: string, rows: number): Promise<void> {
    if (this.#out === undefined) await this.whole(format, Buffer.concat(this.#held), rows);
    else this.#out.end();
  }

  async #write(format: string, bytes: Uint8Array): Promise<void> {
    this.#out ??= this.#begin(format);
    if (this.#response.destroyed || this.#out.write(bytes)) return;
    const over = new AbortController();
    const stalled = setTimeout(() => this.#response.destroy(), STALL_MS);
    try {
      await Promise.race([
        once(this.#out, 'drain', { signal: over.signal }),
        once(this.#response, 'close', { signal: over.signal }),
      ]);
    } finally {
      clearTimeout(stalled);
      over.abort();
    }
  }

  #begin(format: string): NodeJS.WritableStream {
    const r = this.#response;
    if (!r.hasHeader('X-ClickHouse-Summary')) this.#headers(0, 0, 0);
    r.setHeader('Content-Type', typeOf(format));
    r.setHeader('X-ClickHouse-Format', format);
    r.setHeader('X-ClickHouse-Exception-Tag', this.#exceptionTag);
    const compress = this.#ask?.compress;
    if (compress === undefined) {
      r.writeHead(200);
      return r;
    }
    r.setHeader('Content-Encoding', compress);
    r.setHeader('Vary', 'Accept-Encoding');
    r.writeHead(200);
    const compressor =
      compress === 'gzip'
        ? createGzip({ level: 3 })
        : compress === 'deflate'
          ? createDeflate({ level: 3 })
          : compress === 'zstd'
            ? createZstdCompress()
            : createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 3 } });
    compressor.pipe(r);
    r.on('close', () => compressor.destroy());
    compressor.on('error', () => r.destroy());
    return compressor;
  }

  /** Tells the exception: as an answer of its own, or, once the result has begun, as the block that clients look for at its end. */
  exception(exception: ClickHouseException): void {
    const text = `${exception.text} (version ${this.#engine.version} (official build))\n`;
    if (this.#out !== undefined) {
      const block = Buffer.from(text);
      const tag = this.#exceptionTag;
      this.#out.write(
        Buffer.concat([
          Buffer.from(`\r\n__exception__\r\n${tag}\r\n`),
          block,
          Buffer.from(`${block.length} ${tag}\r\n__exception__\r\n`),
        ]),
      );
      // The connection is cut without the last chunk, as a server does, so that no client takes the result for complete.
      const response = this.#response;
      const cut = (): void => void response.write('', () => response.destroy());
      if ('flush' in this.#out) (this.#out as Gzip).flush(cut);
      else cut();
      return;
    }
    if (this.#response.headersSent || this.#response.destroyed) return;
    this.#headers(0, 0, 0);
    this.#response.setHeader('X-ClickHouse-Exception-Code', String(exception.code));
    this.#response.setHeader('Content-Type', 'text/plain; charset=UTF-8');
    const status = statusFromCode(exception.code);
    if (status === 503) this.#response.setHeader('Retry-After', '1');
    // A body that was not read to its end makes the connection unfit for another request.
    if (!this.#response.req.complete) this.#response.setHeader('Connection', 'close');
    this.#response.removeHeader('Content-Length');
    this.#response.writeHead(status);
    this.#response.end(this.#response.req.method === 'HEAD' ? undefined : text);
  }
}
