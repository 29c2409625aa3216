/**
 * CKPool's share logs (`--log-shares`): `<logdir>/<height, 8 hex>/<job id, 16 hex>.sharelog`, one JSON object per line in CKPool's
 * order of keys and form of numbers. Written in the turn in which the event is journaled; a file that was opened for it is closed again within
 * `KEPT_MS`, so that files may be moved away at any moment. Source: CKPool 0.9.9, its files.
 */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ShareInput } from '../../schemas/events.ts';
import { createdate } from '../../schemas/identity.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import { originPath, readOrigin } from '../core/origin-file.ts';
import { copyText, TEXT } from './share-record.ts';

/**
 * A real as CKPool prints it: 17 significant digits (C's %.17g) without trailing zeros, `.0` where it would look whole,
 * an exponent without plus and leading zeros.
 *
 * @param precision - significant digits, 1 to 17
 */
export function realText(value: number, precision = 17): string {
  if (value === 0) return '0.0';
  const [mantissa, exponentText] = value.toExponential(precision - 1).split('e') as [string, string];
  const exponent = Number(exponentText);
  const negative = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '').replace(/0+$/, '');
  // %g: exponent form below 1e-4 and from 10^precision on.
  if (exponent < -4 || exponent >= precision) {
    const rest = digits.slice(1);
    return `${negative}${digits[0]}${rest === '' ? '' : `.${rest}`}e${exponent}`;
  }
  if (exponent < 0) return `${negative}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  const part = digits.slice(exponent + 1);
  return `${negative}${whole}.${part === '' ? '0' : part}`;
}

/**
 * Text as CKPool's JSON library writes it: control characters escaped, everything else as it is.
 */
function text(value: string): string {
  return JSON.stringify(value);
}

/**
 * One line.
 *
 * @param share - the event
 * @param workinfoid - the job's id (of the first job of its template) as 16 hex digits; of the current job where the share's is unknown
 * @param ours - null under `compat: ckpool`; else version bits and instance follow CKPool's keys
 */
export function shareLogLine(
  share: ShareInput,
  workinfoid: string,
  ours: { readonly versionBits: string; readonly instance: string } | null,
): string {
  const reject = share.accepted ? '' : `"reject-reason": ${text(share.reason ?? '')}, `;
  const extra = ours === null ? '' : `, "version_bits": ${text(ours.versionBits)}, "instance": ${text(ours.instance)}`;
  return (
    `{"workinfoid": ${BigInt(`0x${workinfoid}`)}, "clientid": ${share.client_id}, "enonce1": "${share.enonce1}", ` +
    `"nonce2": ${text(share.nonce2)}, "nonce": ${text(share.nonce)}, "ntime": ${text(share.ntime)}, ` +
    `"diff": ${realText(share.diff)}, "sdiff": ${realText(share.sdiff)}, "hash": "${share.hash}", ` +
    `"result": ${share.accepted}, ${reject}"errn": ${share.errn}, "createdate": "${createdate(share.time_us, share.time_ns ?? 0)}", ` +
    `"createby": "code", "createcode": "parse_submit", "createinet": ${text(share.listener)}, ` +
    `"workername": ${text(share.worker)}, "username": ${text(share.user)}, "address": ${text(share.address)}, ` +
    `"agent": ${text(share.agent)}${extra}}\n`
  );
}

const DIGIT_0 = 0x30;
const POINT = 0x2e;
/** `realText` is never longer. */
const REAL_BYTES = 32;
const DATE_BYTES = 32;

/** Places in `toExponential(16)` of a value above 0: d.dddddddddddddddde-1 */
const LAST_DIGIT = 17;
const EXPONENT = 20;

/** Writes `realText(value)`. @returns the position behind it */
export function putReal(bytes: Uint8Array, at: number, value: number): number {
  const text = value.toExponential(16);
  let end = at;
  // All 17 digits count, nearly always; then only their point may have to move.
  if (value > 0 && value < 1e15 && text.charCodeAt(LAST_DIGIT) > DIGIT_0) {
    if (value < 1e-4) {
      for (let i = 0; i < text.length; i++) bytes[end++] = text.charCodeAt(i);
      return end;
    }
    let whole = 0;
    if (value < 1) {
      bytes[end++] = DIGIT_0;
      bytes[end++] = POINT;
      for (let zeros = text.charCodeAt(EXPONENT) - DIGIT_0 - 1; zeros > 0; zeros--) bytes[end++] = DIGIT_0;
      bytes[end++] = text.charCodeAt(0);
      whole = -1;
    } else {
      whole = text.charCodeAt(EXPONENT) - DIGIT_0;
      if (text.length > EXPONENT + 1) whole = whole * 10 + text.charCodeAt(EXPONENT + 1) - DIGIT_0;
      bytes[end++] = text.charCodeAt(0);
      if (whole === 0) bytes[end++] = POINT;
    }
    for (let i = 2; i <= LAST_DIGIT; i++) {
      bytes[end++] = text.charCodeAt(i);
      if (--whole === 0) bytes[end++] = POINT;
    }
    return end;
  }
  const real = realText(value);
  for (let i = 0; i < real.length; i++) bytes[end++] = real.charCodeAt(i);
  return end;
}

function putDigits(bytes: Uint8Array, at: number, value: number): number {
  const text = String(value);
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  return at + text.length;
}

/** Writes `createdate(timeUs)`. @returns the position behind it */
export function putCreatedate(bytes: Uint8Array, at: number, timeUs: number): number {
  const seconds = Math.floor(timeUs / 1e6);
  let end = putDigits(bytes, at, seconds);
  bytes[end++] = 0x2c;
  end = putDigits(bytes, end, (timeUs - seconds * 1e6) * 1000);
  return end;
}

/** Lines that agree in all but time, hash, sdiff and digits, cut where those stand that differ in length. */
export interface LineTemplate {
  /** Up to `sdiff`, from there to `createdate`, the rest. */
  readonly parts: readonly [Buffer, Buffer, Buffer];
  /** Places in the first part. */
  readonly nonce2At: number;
  readonly nonce2Digits: number;
  readonly nonceAt: number;
  readonly ntimeAt: number;
  /** In the second part; -1 where there is no hash. */
  readonly hashAt: number;
  /** In the third part; -1 where there are none. */
  readonly versionBitsAt: number;
}

/**
 * The template of lines that agree with that of one share in everything but what varies.
 *
 * @param share - its nonce, ntime and version bits have 8 digits, or none
 */
export function lineTemplate(
  share: ShareInput,
  workinfoid: string,
  ours: { readonly versionBits: string; readonly instance: string } | null,
): LineTemplate {
  const line = Buffer.from(shareLogLine(share, workinfoid, ours));
  const behind = (text: string, from = 0): number => line.indexOf(text, from) + text.length;
  // Nothing that a miner chose stands before createdate, and what it chose cannot hold a bare quote.
  const nonce2At = behind('"nonce2": "');
  const nonceAt = behind('"nonce": "', nonce2At);
  const ntimeAt = behind('"ntime": "', nonceAt);
  const sdiffAt = behind('"sdiff": ', ntimeAt);
  const sdiffEnd = line.indexOf(',', sdiffAt);
  const hashAt = behind('"hash": "', sdiffEnd);
  const dateAt = behind('"createdate": "', hashAt);
  const dateEnd = line.indexOf('"', dateAt);
  const bits = '"version_bits": "';
  return {
    parts: [line.subarray(0, sdiffAt), line.subarray(sdiffEnd, dateAt), line.subarray(dateEnd)],
    nonce2At,
    nonce2Digits: share.nonce2.length,
    nonceAt,
    ntimeAt,
    hashAt: share.hash === '' ? -1 : hashAt - sdiffEnd,
    versionBitsAt: (ours?.versionBits ?? '') === '' ? -1 : line.lastIndexOf(bits) + bits.length - dateEnd,
  };
}

/** Lines for one file, collected until the end of the turn; the buffer stays for the next turn, the descriptor until `close`. */
export class LogFile {
  readonly path: string;
  #fd = -1;
  #bytes = Buffer.allocUnsafe(4096);
  lengthBytes = 0;

  constructor(path: string) {
    this.path = path;
  }

  add(line: string): void {
    this.#room(line.length * 3);
    this.lengthBytes += this.#bytes.write(line, this.lengthBytes);
  }

  /** Adds a line made from its template; arguments as those of `ShareRecords.write`. */
  write(
    places: LineTemplate,
    timeUs: number,
    sdiff: number,
    hex: Uint8Array,
    texts: Uint8Array,
    textsAt: number,
  ): void {
    const [first, second, third] = places.parts;
    this.#room(first.length + second.length + third.length + REAL_BYTES + DATE_BYTES);
    const bytes = this.#bytes;
    const begin = this.lengthBytes;
    bytes.set(first, begin);
    copyText(bytes, begin + places.nonce2At, texts, textsAt + TEXT.nonce2, places.nonce2Digits);
    copyText(bytes, begin + places.nonceAt, texts, textsAt + TEXT.nonce, 8);
    copyText(bytes, begin + places.ntimeAt, texts, textsAt + TEXT.ntime, 8);
    let at = putReal(bytes, begin + first.length, sdiff);
    bytes.set(second, at);
    if (places.hashAt >= 0) bytes.set(hex, at + places.hashAt);
    at = putCreatedate(bytes, at + second.length, timeUs);
    bytes.set(third, at);
    if (places.versionBitsAt >= 0) {
      copyText(bytes, at + places.versionBitsAt, texts, textsAt + TEXT.versionBits, 8);
    }
    this.lengthBytes = at + third.length;
  }

  /** Appends what was collected to the file; it counts as written whatever happens. */
  flush(): void {
    const { lengthBytes } = this;
    this.lengthBytes = 0;
    if (this.#fd < 0) this.#fd = this.#open();
    try {
      for (let done = 0; done < lengthBytes; ) {
        const took = writeSync(this.#fd, this.#bytes, done, lengthBytes - done);
        if (took === 0) throw Object.assign(new Error(`${this.path} takes no more bytes`), { code: 'ENOSPC' });
        done += took;
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    const fd = this.#fd;
    if (fd < 0) return;
    // A close that fails has let the number go all the same.
    this.#fd = -1;
    closeSync(fd);
  }

  #open(): number {
    try {
      return openSync(this.path, 'a');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // Somebody moved the folder away.
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o750 });
      return openSync(this.path, 'a');
    }
  }

  #room(moreBytes: number): void {
    const needed = this.lengthBytes + moreBytes;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.lengthBytes));
    this.#bytes = grown;
  }
}

/** Files without lines that are remembered, for their buffers. */
const FILES_KEPT = 16;
/** So long a file stays open after it was opened for a line: a file for each line costs as much as all else that is done for a lone share. */
const KEPT_MS = 100;

/** The files; lines of one turn are collected by file. */
export class ShareLog {
  readonly #dir: string;
  readonly #files = new Map<string, LogFile>();
  /** Those that were asked for in this turn. */
  #asked: LogFile[] = [];
  #closing: NodeJS.Timeout | null = null;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes the folder of a height, as CKPool does when the first template for it comes. */
  openHeight(height: number): void {
    mkdirSync(this.#folder(height), { recursive: true, mode: 0o750 });
  }

  add(height: number, workinfoid: string, line: string): void {
    this.file(height, workinfoid).add(line);
  }

  /** The file of a job; ask for it again in each turn. */
  file(height: number, workinfoid: string): LogFile {
    let file = this.#files.get(workinfoid);
    if (file === undefined) {
      file = new LogFile(join(this.#folder(height), `${workinfoid}.sharelog`));
      this.#files.set(workinfoid, file);
    }
    if (file.lengthBytes === 0) this.#asked.push(file);
    return file;
  }

  /** Drops what was collected: its shares do not count. */
  forget(): void {
    for (const file of this.#asked) file.lengthBytes = 0;
    this.#asked = [];
  }

  /** Appends what was collected. @throws Error of the file system; what was not written is lost here, the journal has it */
  write(): void {
    if (this.#asked.length === 0) return;
    let failure: unknown = null;
    const asked = this.#asked;
    this.#asked = [];
    this.#closing ??= setTimeout(() => this.close(), KEPT_MS).unref();
    for (const file of asked) {
      if (file.lengthBytes === 0) continue;
      try {
        file.flush();
        // Of hundreds of jobs, as in solo mode, none stays open.
        if (asked.length > FILES_KEPT) file.close();
      } catch (error) {
        failure ??= error;
      }
    }
    if (this.#files.size > FILES_KEPT) {
      for (const [workinfoid, file] of this.#files) {
        file.close();
        this.#files.delete(workinfoid);
        if (this.#files.size <= FILES_KEPT) break;
      }
    }
    if (failure !== null) throw failure;
  }

  /** Closes what is open; the next line opens its file again. */
  close(): void {
    if (this.#closing !== null) clearTimeout(this.#closing);
    this.#closing = null;
    for (const file of this.#files.values()) {
      try {
        file.close();
      } catch {
        // The lines were written; the next one opens the file again, and says what is wrong.
      }
    }
  }

  #folder(height: number): string {
    return join(this.#dir, height.toString(16).padStart(8, '0'));
  }
}

/** Names the origin of what lies in a log directory, for `ingest`. */
/**
 * Says it where a log directory is another origin's.
 * @returns false where nobody has claimed it
 * @throws Error of the file system
 */
export function sayOtherOrigin({ logDir, origin }: Pick<Config, 'logDir' | 'origin'>, log: Log): boolean {
  const there = readOrigin(logDir);
  if (there !== null && there !== origin) {
    log(`logdir ${logDir} belongs to origin ${there}, this is ${origin}: give each its own logdir`);
  }
  return there !== null;
}

/** Opens `logdir` and leaves the origin's name there. @throws PoolError config */
export function openShareLog(config: Config, log: Log): ShareLog {
  const { logDir, origin } = config;
  try {
    mkdirSync(logDir, { recursive: true, mode: 0o750 });
    if (!sayOtherOrigin(config, log)) writeFileSync(originPath(logDir), `${origin}\n`);
  } catch (cause) {
    throw new PoolError('config', `logdir ${logDir}: ${(cause as Error).message}`, { cause });
  }
  return new ShareLog(logDir);
}
