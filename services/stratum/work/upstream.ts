/**
 * One connection to an upstream pool: the client's side of stratum. Between proxy.ts, which makes jobs and shares of it, and the network.
 * What an upstream says is as untrusted as what a miner says: its lines are bounded here, what they hold is checked in upstream-messages.ts.
 *
 * @see BIP 310 for mining.configure; CKPool 0.9.9's proxy for what upstreams send
 */
import { connect, type Socket } from 'node:net';
import type { UpstreamAddress } from '../../core/config.ts';
import { hostPortText, parseHostPort } from '../../core/config.ts';
import { errorLine } from '../../core/errors.ts';
import { parseLine } from '../wire.ts';
import {
  checkDifficulty,
  checkNotify,
  errorWords,
  excerpt,
  hexBytes,
  type Notify,
  uint32,
} from './upstream-messages.ts';

/** How we call ourselves, upstream and to who asks. */
export const AGENT = 'lodestream/0.1.0';
/** Far above any notify; a coinbase of 100 kB would be hostile. */
const LINE_LIMIT_BYTES = 256 * 1024;
const CONNECT_LIMIT_MS = 10_000;
const HANDSHAKE_LIMIT_MS = 20_000;
/** An upstream that says nothing for this long is gone (CKPool). */
const SILENCE_MS = 600_000;
const ENONCE1_LIMIT_BYTES = 15;
const NONCE2_LIMIT_BYTES = 16;
/** An upstream that does not read what we send is left here; a share is about 200 bytes. */
const UNREAD_LIMIT_BYTES = 1 << 20;
/**
 * Each job is journaled and kept for ten minutes: an upstream may send so much at once, and so much a second on average. A job counts with
 * its line, and at least as 8 KiB, so that eight a second are always well.
 */
const WORK_BURST_BYTES = 4 << 20;
const WORK_BYTES_PER_S = 64 << 10;
const WORK_LEAST_BYTES = 8 << 10;
/** What else it may say unasked counts likewise: another mask is told to thousands of miners, words of it become lines of the log. */
const MASK_BYTES = 64 << 10;
const WORDS_BYTES = 8 << 10;
const LINE_LEAST_BYTES = 128;
/** Submissions without an answer that are remembered. */
const PENDING_LIMIT = 50_000;
const DEFAULT_PORT = 3333;

export interface Terms {
  readonly enonce1: Uint8Array;
  readonly nonce2Bytes: number;
  /** Bits that may be rolled; 0: none. */
  readonly versionMask: number;
}

/** What the upstream said of a share. */
export interface UpstreamVerdict {
  readonly accepted: boolean;
  /** Its words; empty where accepted. */
  readonly reason: string;
}

export interface UpstreamEvents {
  /** Subscribed, authorized, mask agreed. */
  ready(terms: Terms): void;
  notify(work: Notify, diff: number): void;
  /** The mask changed on the living line. */
  mask(versionMask: number): void;
  /** Once; nothing follows. */
  closed(reason: string): void;
  say(line: string): void;
}

const ID_CONFIGURE = 'configure';
const ID_SUBSCRIBE = 'subscribe';
const ID_AUTHORIZE = 'authorize';

export class UpstreamConnection {
  readonly name: string;
  readonly #address: UpstreamAddress;
  readonly #powLimit: bigint;
  readonly #askedMask: number;
  readonly #events: UpstreamEvents;
  readonly #socket: Socket;
  readonly #handshake: NodeJS.Timeout;
  readonly #silence: NodeJS.Timeout;
  readonly #pending = new Map<number, (verdict: UpstreamVerdict) => void>();
  /** Submissions beyond PENDING_LIMIT whose answers will come. */
  #unremembered = 0;
  #rest = '';
  #mask = 0;
  #terms: { enonce1: Uint8Array; nonce2Bytes: number } | null = null;
  #plainSubscribe = false;
  #authorized = false;
  #ready = false;
  #closed = false;
  /** Stratum's difficulty before the first set_difficulty. */
  #diff = 1;
  #work: Notify | null = null;
  #nextId = 1;
  /** What of WORK_BURST_BYTES is left, and since when. */
  #workLeftBytes = WORK_BURST_BYTES;
  #workMs = performance.now();

  /** @param options.silenceMs - for tests */
  constructor(
    address: UpstreamAddress,
    options: { readonly powLimit: bigint; readonly versionMask: number; readonly silenceMs?: number },
    events: UpstreamEvents,
  ) {
    const { host, port } = parseHostPort(address.url, DEFAULT_PORT);
    this.name = hostPortText({ host, port });
    this.#address = address;
    this.#powLimit = options.powLimit;
    this.#askedMask = options.versionMask;
    this.#events = events;
    this.#socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 45_000 });
    this.#handshake = setTimeout(() => this.close('no work within 20 s'), HANDSHAKE_LIMIT_MS);
    this.#socket.setTimeout(CONNECT_LIMIT_MS, () => this.close('silent'));
    // The socket's own timer would take the shares that we send for signs of life.
    this.#silence = setTimeout(() => this.close('silent'), options.silenceMs ?? SILENCE_MS);
    this.#socket.on('connect', () => {
      this.#socket.setTimeout(0);
      this.#begin();
    });
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (chunk: string) => {
      this.#silence.refresh();
      this.#take(chunk);
    });
    this.#socket.on('error', (error) => this.close(errorLine(error)));
    this.#socket.on('close', () => this.close('it closed the line'));
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Ends the connection; `closed` is told once. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#handshake);
    clearTimeout(this.#silence);
    this.#socket.destroy();
    this.#pending.clear();
    this.#events.closed(reason);
  }

  /**
   * Sends a share.
   *
   * @param fields - as on the wire; version bits null where none were rolled
   * @param answered - told the verdict; never where the line ends before
   */
  submit(
    fields: {
      readonly jobId: string;
      readonly nonce2: string;
      readonly ntime: string;
      readonly nonce: string;
      readonly versionBits: string | null;
    },
    answered: (verdict: UpstreamVerdict) => void,
  ): void {
    if (this.#closed) return;
    const id = this.#nextId++;
    if (this.#pending.size < PENDING_LIMIT) this.#pending.set(id, answered);
    else this.#unremembered += 1;
    const params = [this.#address.auth, fields.jobId, fields.nonce2, fields.ntime, fields.nonce];
    if (fields.versionBits !== null) params.push(fields.versionBits);
    this.#send(id, 'mining.submit', params);
  }

  #send(id: number | string, method: string, params: unknown): void {
    this.#write(JSON.stringify({ id, method, params }));
  }

  #write(line: string): void {
    this.#socket.write(`${line}\n`);
    if (this.#socket.writableLength > UNREAD_LIMIT_BYTES) this.close('it does not read what we send');
  }

  #begin(): void {
    if (this.#askedMask === 0) {
      this.#subscribe();
      return;
    }
    this.#send(ID_CONFIGURE, 'mining.configure', [
      ['version-rolling'],
      {
        'version-rolling.mask': this.#askedMask.toString(16).padStart(8, '0'),
        'version-rolling.min-bit-count': 0,
      },
    ]);
    // A pool that does not know mining.configure may be silent: the subscription does not wait for it, the miners do.
    this.#subscribe();
  }

  #subscribe(): void {
    this.#send(ID_SUBSCRIBE, 'mining.subscribe', this.#plainSubscribe ? [] : [AGENT]);
  }

  #take(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (this.#closed) return;
      if (line.length > LINE_LIMIT_BYTES) {
        this.close('a line is too long');
        return;
      }
      const text = line.trim();
      try {
        if (text !== '') this.#line(text);
        else this.#affords(LINE_LEAST_BYTES);
      } catch (error) {
        // Whatever it said, it ends this connection and not the proxy.
        this.close(`a line of it could not be handled: ${errorLine(error)}`);
      }
    }
    if (this.#rest.length > LINE_LIMIT_BYTES) this.close('a line is too long');
  }

  #line(text: string): void {
    const message = parseLine(text);
    if (message.kind === 'garbage') {
      this.close('it sent a line that is not JSON');
      return;
    }
    if (message.kind === 'request') {
      this.#request(message.method, message.params, message.id, text.length);
      return;
    }
    if (message.kind !== 'response') {
      this.#affords(Math.max(text.length, LINE_LEAST_BYTES));
      return;
    }
    const { id, result, error, rejectReason } = message;
    const answered = typeof id === 'number' ? this.#pending.get(id) : undefined;
    // What was asked for is as much as we ask.
    if (answered === undefined && this.#unremembered > 0) this.#unremembered -= 1;
    else if (answered === undefined && !this.#affords(Math.max(text.length, LINE_LEAST_BYTES))) return;
    if (typeof id === 'number') {
      this.#pending.delete(id);
      const accepted = result === true;
      answered?.({ accepted, reason: accepted ? '' : errorWords(error, rejectReason) });
      return;
    }
    if (id === ID_CONFIGURE) this.#configured(result);
    else if (id === ID_SUBSCRIBE) this.#subscribed(result, error);
    else if (id === ID_AUTHORIZE) {
      if (result !== true && !(result === undefined && error === null)) {
        this.close(`it refuses worker ${this.#address.auth}: ${errorWords(error, undefined)}`);
        return;
      }
      this.#authorized = true;
      this.#start();
    }
  }

  #configured(result: unknown): void {
    if (typeof result !== 'object' || result === null) return;
    const { 'version-rolling': rolling, 'version-rolling.mask': mask } = result as Record<string, unknown>;
    if (rolling === true) this.#setMask(((uint32(mask) ?? 0) & this.#askedMask) >>> 0);
  }

  #setMask(mask: number): void {
    if (mask === this.#mask) return;
    this.#mask = mask;
    if (this.#ready && this.#affords(MASK_BYTES)) this.#events.mask(mask);
  }

  #say(line: string): void {
    if (this.#affords(WORDS_BYTES)) this.#events.say(line);
  }

  #subscribed(result: unknown, error: unknown): void {
    const [, enonce1Text, size] = Array.isArray(result) ? (result as unknown[]) : [];
    const enonce1 = hexBytes(enonce1Text, 0, ENONCE1_LIMIT_BYTES);
    const good =
      enonce1 !== undefined &&
      typeof size === 'number' &&
      Number.isInteger(size) &&
      size >= 1 &&
      size <= NONCE2_LIMIT_BYTES;
    if (!good) {
      if (!this.#plainSubscribe && (result === null || result === undefined)) {
        // Some pools refuse a subscription with parameters.
        this.#plainSubscribe = true;
        this.#subscribe();
        return;
      }
      this.close(`its subscription cannot be used: ${excerpt(result ?? error)}`);
      return;
    }
    if (this.#terms !== null) {
      this.close('it subscribed us twice');
      return;
    }
    this.#terms = { enonce1, nonce2Bytes: size };
    this.#send(ID_AUTHORIZE, 'mining.authorize', [this.#address.auth, this.#address.pass]);
  }

  /** All that miners are told depends on terms, mask and a first job. */
  #start(): void {
    if (this.#ready || !this.#authorized || this.#terms === null || this.#work === null) return;
    this.#ready = true;
    clearTimeout(this.#handshake);
    this.#events.ready({ ...this.#terms, versionMask: this.#mask });
    this.#events.notify(this.#work, this.#diff);
  }

  /** Takes so much off what it may send; where nothing is left, it is left. */
  #affords(bytes: number): boolean {
    const now = performance.now();
    const earned = ((now - this.#workMs) / 1000) * WORK_BYTES_PER_S;
    this.#workMs = now;
    this.#workLeftBytes = Math.min(this.#workLeftBytes + earned, WORK_BURST_BYTES) - bytes;
    if (this.#workLeftBytes > 0) return true;
    this.close('it floods us');
    return false;
  }

  #request(method: string, params: unknown, id: unknown, lineBytes: number): void {
    if (method !== 'mining.notify' && !this.#affords(Math.max(lineBytes, LINE_LEAST_BYTES))) return;
    switch (method) {
      case 'mining.notify': {
        if (!this.#affords(Math.max(lineBytes, WORK_LEAST_BYTES))) return;
        const work = checkNotify(params, this.#powLimit);
        if (typeof work === 'string') {
          // Without any work it is no upstream: the next one is asked, and the status says why.
          if (this.#work === null) this.close(`its job cannot be used: ${work}`);
          else this.#say(`a job of upstream ${this.name} cannot be used: ${work}`);
          return;
        }
        this.#work = work;
        if (this.#ready) this.#events.notify(work, this.#diff);
        else this.#start();
        return;
      }
      case 'mining.set_difficulty': {
        const diff = checkDifficulty(params);
        if (diff === null) this.#say(`upstream ${this.name} sent a difficulty that is none: ${excerpt(params)}`);
        else this.#diff = diff;
        return;
      }
      case 'mining.set_version_mask': {
        const mask = uint32(Array.isArray(params) ? params[0] : undefined);
        if (mask === undefined) return;
        this.#setMask((mask & this.#askedMask) >>> 0);
        return;
      }
      case 'client.reconnect':
        // Only ever to the same pool: an address in the message is not followed.
        this.close('it asks us to connect again');
        return;
      case 'client.show_message':
        this.#say(`Pool message: ${excerpt(Array.isArray(params) ? params[0] : params)}`);
        return;
      case 'client.get_version':
        this.#write(JSON.stringify({ id: id ?? null, result: AGENT, error: null }));
        return;
      case 'mining.ping':
        this.#write(JSON.stringify({ id: id ?? null, result: 'pong', error: null }));
        return;
      default:
    }
  }
}
