/**
 * Lines of a share log in their usual form straight to Avro records, byte by byte: no JSON object, no text, nothing left for the collector.
 * Between the bytes of a file (intake.ts) and the journal; whatever is not of that form goes through line.ts, and means the same there.
 *
 *   {"workinfoid": 1, "clientid": 1, "enonce1": "…", "nonce2": "…", "nonce": "…", "ntime": "…", "diff": 1.0, "sdiff": 1.5, "hash": "…", "result": true,
 *    ("reject-reason": "…" | "error": [22, "…", null],) "errn": 0, "createdate": "1,2", "createby": "code", "createcode": "parse_submit",
 *    "createinet": "…", "workername": "…", "username": "…", "address": "…", "agent": "…"(, "version_bits": "…", "instance": "…")}
 *
 * That form: these keys in this order, one blank where one stands here, texts of ASCII without escapes, hex in lower case. A line is looked at
 * twice: once to find and check its values, once to put them down in the order of the record (schemas/events/Share.avsc).
 *
 * The double that `sdiff` means: it is the difficulty of the hash (as CKPool computes it), where the digits lie nearer to that double than half
 * the distance to the next one; 17 digits that CKPool wrote always do. Anything else is left to line.ts.
 *
 * @see Apache Avro specification 1.11, "Binary Encoding"
 */
import { currentSchemaText, encodeEvent } from '../../schemas/codec.ts';
import { DIFFICULTY_1_TARGET } from '../core/bitcoin/target.ts';
import { writeLong } from '../core/log/container.ts';
import type { EncodedEvents } from '../core/log/event-log.ts';
import { type LineContext, type LineOutcome, shareFromLine, TEXT_LIMIT } from './line.ts';

const BLANK = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const DIGIT_0 = 0x30;
const SMALL_E = 0x65;
const SMALL_T = 0x74;

const WORD_DIGITS = 8;
const HASH_DIGITS = 64;
const JOB_DIGITS = 16;
const WORK_DIGITS = 20;
const HEX_LIMIT = 64;
const REAL_LIMIT = 32;
/** A worker of a pool of several counts its connections from a multiple of 2^32 on. */
const CLIENT_LIMIT = 2 ** 48;
/** What the longest line of the usual form has besides its texts is less than this. */
const FRAME_BYTES = 1024;
const TEXTS = 7;
/** Bytes that must be there behind the last one of a line that is scanned, whatever is in them. */
export const SLACK_BYTES = FRAME_BYTES + (TEXTS + 1) * (TEXT_LIMIT + 8);
/** A record is never longer. */
const RECORD_BYTES = SLACK_BYTES;

/** Values of lower-case hex digits; 16 elsewhere. */
const HEX = new Uint8Array(256).fill(16);
for (let value = 0; value < 16; value++) HEX[value.toString(16).charCodeAt(0)] = value;

const DIFFICULTY_1 = Number(DIFFICULTY_1_TARGET);
const TWO_32 = 2 ** 32;
const TWO_64 = 2 ** 64;
const TWO_128 = 2 ** 128;
const TWO_192 = 2 ** 192;
const TWO_27 = 2 ** 27;

/** Powers of ten that are exact doubles. */
const TEN = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
/** 2^27 + 1 (Veltkamp), which cuts a double in two halves of 26 bits. */
const SPLITTER = 134_217_729;
/** Half the distance from a double to the next is at least this part of it; a little less, for what the comparison itself rounds. */
const HALF_STEP = 2 ** -54 * (1 - 2 ** -20);

/** The order in which `#record` writes. */
const WRITTEN = [
  ...['kind', 'origin', 'instance', 'source', 'time_us', 'time_ns', 'client_id', 'listener', 'job_id', 'job_key', 'height', 'user', 'worker'],
  ...['agent', 'address', 'accepted', 'errn', 'reason', 'diff', 'sdiff', 'hash', 'block_hash', 'enonce1', 'nonce2', 'nonce', 'ntime'],
  ...['version_bits', 'upstream'],
]; // biome-ignore format: one list
const FIELDS = (JSON.parse(currentSchemaText('share')) as { fields: { name: string }[] }).fields;
if (FIELDS.map(({ name }) => name).join() !== WRITTEN.join())
  throw new TypeError('Share.avsc has other fields than scanner.ts writes: mend #record, then this list');

/** Constant bytes of a line, compared four at a time; at least four. */
interface Part {
  readonly length: number;
  readonly words: Int32Array;
  /** Of the last four bytes. */
  readonly last: number;
}

function partOf(text: string): Part {
  const bytes = Buffer.from(text, 'latin1');
  const words = Int32Array.from({ length: bytes.length >> 2 }, (_, i) => bytes.readInt32LE(i * 4));
  return { length: bytes.length, words, last: bytes.readInt32LE(bytes.length - 4) };
}

function stands(view: DataView, at: number, part: Part): boolean {
  const { words } = part;
  for (let i = 0; i < words.length; i++) if (view.getInt32(at + i * 4, true) !== words[i]) return false;
  return view.getInt32(at + part.length - 4, true) === part.last;
}

const BEGIN = partOf('{"workinfoid": ');
const CLIENT = partOf(', "clientid": ');
const ENONCE1 = partOf(', "enonce1": "');
const NONCE2 = partOf('", "nonce2": "');
const NONCE = partOf('", "nonce": "');
const NTIME = partOf('", "ntime": "');
const DIFF = partOf('", "diff": ');
const SDIFF = partOf(', "sdiff": ');
const HASH = partOf(', "hash": "');
const RESULT = partOf('", "result": ');
const TRUE = partOf('true, "errn": ');
const FALSE = partOf('false, "errn": ');
const REASON = partOf('false, "reject-reason": "');
const ERROR = partOf('false, "error": [');
const ERROR_END = partOf('", null], "errn": ');
const REASON_END = partOf('", "errn": ');
const DATE = partOf(', "createdate": "');
const LISTENER = partOf('", "createby": "code", "createcode": "parse_submit", "createinet": "');
const WORKER = partOf('", "workername": "');
const USER = partOf('", "username": "');
const ADDRESS = partOf('", "address": "');
const AGENT = partOf('", "agent": "');
const BITS = partOf('", "version_bits": "');
const INSTANCE = partOf('", "instance": "');
const NEWLINE = 0x0a;
const CLOSE = 0x7d;

/** A process that lines have named. */
interface Process {
  readonly name: string;
  /** Its name as it stands in a line, with what follows. */
  readonly part: Part;
  readonly head: Buffer;
}
const PROCESSES_KEPT = 64;

/** What one scanner has told so far. */
export interface Counts {
  accepted: number;
  refused: number;
  /** Accepted hashes that came before in the same height. */
  repeats: number;
}

export class Scanner implements EncodedEvents {
  readonly topic = 'share';
  bytes = Buffer.alloc(1 << 21);
  count = 0;
  ends = new Float64Array(4096);
  readonly counts: Counts = { accepted: 0, refused: 0, repeats: 0 };
  readonly #seen = new Seen();
  readonly #reals = new Reals();
  readonly #context: { origin: string; instance: string; height: number };
  #view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  #at = 0;
  /** The workinfoid of the last line, and the job id that it is. */
  readonly #workDigits = new Uint8Array(WORK_DIGITS);
  #workLength = 0;
  readonly #job = Buffer.alloc(JOB_DIGITS);
  /** The height as a varint. */
  readonly #height = new Uint8Array(5);
  #heightBytes = 1;
  /** The record's first four fields, for lines that do not say which process saw the share. */
  readonly #head: Buffer;
  /** For those that do; the last one that was met is the first. */
  readonly #processes: Process[] = [];

  constructor(context: LineContext) {
    this.#context = { ...context };
    this.height = context.height;
    this.#head = this.#headOf(context.instance);
  }

  /** Sum of the records, bytes. */
  get lengthBytes(): number {
    return this.#at;
  }

  /** The records have been taken. */
  clear(): void {
    this.count = 0;
    this.#at = 0;
  }

  /** The height of the lines that follow, 0 to 2^32 - 1. */
  set height(height: number) {
    this.#context.height = height;
    let rest = height * 2;
    this.#heightBytes = 0;
    while (rest >= 0x80) {
      this.#height[this.#heightBytes++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.#height[this.#heightBytes++] = rest;
    this.#seen.clear();
  }

  /** Takes one line by line.ts. @param line - without its newline */
  take(line: Buffer): LineOutcome {
    const outcome = shareFromLine(line.toString('utf8'), this.#context);
    if ('bad' in outcome) return outcome;
    const { share } = outcome;
    const body = encodeEvent('share', share);
    this.#room(body.length);
    this.bytes.set(body, this.#at);
    this.#at += body.length;
    this.ends[this.count++] = this.#at;
    if (share.accepted) {
      this.counts.accepted++;
      const hash = Buffer.from(share.hash, 'latin1');
      if (this.#seen.add(word(hash, 48) | 0, word(hash, 56) | 0)) this.counts.repeats++;
    } else this.counts.refused++;
    const named = `"instance": "${share.instance}"}`;
    const name = share.instance;
    if (
      line.toString('latin1', line.length - named.length) === named &&
      !this.#processes.some((p) => p.name === name)
    ) {
      if (this.#processes.length === PROCESSES_KEPT) this.#processes.pop();
      this.#processes.unshift({ name, part: partOf(`${name}"}\n`), head: this.#headOf(name) });
    }
    return outcome;
  }

  /** Reads the digits of a workinfoid; most lines have that of the line before. @returns the position behind them, or -1 */
  #takeWork(bytes: Uint8Array, start: number): number {
    const known = this.#workDigits;
    const length = this.#workLength;
    let i = 0;
    while (i < length && bytes[start + i] === known[i]) i++;
    if (i === length && length > 0 && bytes[start + i] === COMMA) return start + length;
    let value = 0n;
    let at = start;
    for (; at - start <= WORK_DIGITS; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      value = value * 10n + BigInt(digit);
    }
    const digits = at - start;
    if (digits === 0 || digits > WORK_DIGITS || (digits > 1 && bytes[start] === DIGIT_0) || value >= 1n << 64n)
      return -1;
    for (let j = 0; j < digits; j++) known[j] = bytes[start + j]!;
    this.#workLength = digits;
    this.#job.write(value.toString(16).padStart(JOB_DIGITS, '0'), 'latin1');
    return at;
  }

  /**
   * Takes one line where it is of the usual form.
   *
   * @param view - over `bytes`
   * @param start - where the line begins
   * @param end - where the bytes end that have come; `SLACK_BYTES` more may be looked at
   * @returns the position behind its newline, or -1 where it is not of that form or has not all come yet
   */
  scan(bytes: Uint8Array, view: DataView, start: number, end: number): number {
    if (!stands(view, start, BEGIN)) return -1;
    let at = this.#takeWork(bytes, start + BEGIN.length);
    if (at < 0 || !stands(view, at, CLIENT)) return -1;
    at += CLIENT.length;
    const clientAt = at;
    let client = 0;
    for (; client < CLIENT_LIMIT; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      client = client * 10 + digit;
    }
    if (at === clientAt || client >= CLIENT_LIMIT || (at - clientAt > 1 && bytes[clientAt] === DIGIT_0)) return -1;
    if (!stands(view, at, ENONCE1)) return -1;
    const enonce1At = at + ENONCE1.length;
    at = hexEnd(bytes, enonce1At);
    if (at < 0 || !stands(view, at, NONCE2)) return -1;
    const enonce1Length = at - enonce1At;
    const nonce2At = at + NONCE2.length;
    at = hexEnd(bytes, nonce2At);
    if (at < 0 || !stands(view, at, NONCE)) return -1;
    const nonce2Length = at - nonce2At;
    const nonceAt = at + NONCE.length;
    at = nonceAt + WORD_DIGITS;
    if (word(bytes, nonceAt) < 0 || !stands(view, at, NTIME)) return -1;
    const ntimeAt = at + NTIME.length;
    at = ntimeAt + WORD_DIGITS;
    if (word(bytes, ntimeAt) < 0 || !stands(view, at, DIFF)) return -1;
    const diffAt = at + DIFF.length;
    at = realEnd(bytes, diffAt);
    const diff = this.#reals.value(bytes, diffAt, at);
    if (!(diff > 0 && diff < 1e20) || !stands(view, at, SDIFF)) return -1;
    const sdiffAt = at + SDIFF.length;
    const sdiffEnd = realEnd(bytes, sdiffAt);
    if (!stands(view, sdiffEnd, HASH)) return -1;
    const hashAt = sdiffEnd + HASH.length;
    let hashLength = 0;
    let sdiff: number;
    let seenHigh = 0;
    let seenLow = 0;
    if (bytes[hashAt] === QUOTE) {
      at = hashAt;
      sdiff = this.#reals.value(bytes, sdiffAt, sdiffEnd);
      if (!Number.isFinite(sdiff)) return -1;
    } else {
      hashLength = HASH_DIGITS;
      at = hashAt + HASH_DIGITS;
      const high = word(bytes, hashAt);
      const next = word(bytes, hashAt + 8);
      const third = word(bytes, hashAt + 16);
      const fourth = word(bytes, hashAt + 24);
      const fifth = word(bytes, hashAt + 32);
      const sixth = word(bytes, hashAt + 40);
      seenHigh = word(bytes, hashAt + 48);
      seenLow = word(bytes, hashAt + 56);
      if (high < 0 || next < 0 || third < 0 || fourth < 0 || fifth < 0 || sixth < 0 || seenHigh < 0 || seenLow < 0)
        return -1;
      // In the order of shareDifficulty, whose last bit depends on it.
      const value =
        (high * TWO_32 + next) * TWO_192 +
        (third * TWO_32 + fourth) * TWO_128 +
        (fifth * TWO_32 + sixth) * TWO_64 +
        (seenHigh * TWO_32 + seenLow);
      sdiff = DIFFICULTY_1 / (value === 0 ? 1 : value);
      if (!isTextOf(bytes, sdiffAt, sdiffEnd, sdiff)) return -1;
    }
    if (!stands(view, at, RESULT)) return -1;
    at += RESULT.length;
    let accepted = 0;
    let reasonAt = at;
    let reasonLength = 0;
    if (bytes[at] === SMALL_T) {
      if (!stands(view, at, TRUE) || hashLength === 0) return -1;
      at += TRUE.length;
      accepted = 1;
    } else if (stands(view, at, REASON)) {
      reasonAt = at + REASON.length;
      at = textEnd(bytes, view, reasonAt);
      if (at < 0 || !stands(view, at, REASON_END)) return -1;
      reasonLength = at - reasonAt;
      at += REASON_END.length;
    } else if (stands(view, at, ERROR)) {
      at += ERROR.length;
      const codeAt = at;
      while (bytes[at]! >= DIGIT_0 && bytes[at]! <= DIGIT_0 + 9 && at - codeAt < 9) at++;
      if (at === codeAt || (at - codeAt > 1 && bytes[codeAt] === DIGIT_0)) return -1;
      if (bytes[at] !== COMMA || bytes[at + 1] !== BLANK || bytes[at + 2] !== QUOTE) return -1;
      reasonAt = at + 3;
      at = textEnd(bytes, view, reasonAt);
      if (at < 0 || !stands(view, at, ERROR_END)) return -1;
      reasonLength = at - reasonAt;
      at += ERROR_END.length;
    } else if (stands(view, at, FALSE)) at += FALSE.length;
    else return -1;
    const errnAt = at;
    let errn = 0;
    if (bytes[at] === MINUS) at++;
    const errnDigits = at;
    for (; at - errnDigits < 3; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      errn = errn * 10 + digit;
    }
    // JSON has -0, and no zero in front of other digits.
    if (at === errnDigits || (bytes[errnDigits] === DIGIT_0 && at - errnAt > 1)) return -1;
    if (errnAt !== errnDigits) errn = -errn;
    if (!stands(view, at, DATE)) return -1;
    at += DATE.length;
    let seconds = 0;
    for (let i = 0; i < 10; i++) {
      const digit = bytes[at++]! - DIGIT_0;
      if (digit < 0 || digit > 9) return -1;
      seconds = seconds * 10 + digit;
    }
    // A time before 2001 has fewer digits, or a zero in front; its varint may be shorter.
    if (seconds < 1e9 || seconds > 0xffff_ffff || bytes[at++] !== COMMA) return -1;
    let nanoseconds = 0;
    const nanosecondsAt = at;
    for (; at - nanosecondsAt < 9; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      nanoseconds = nanoseconds * 10 + digit;
    }
    if (at === nanosecondsAt || !stands(view, at, LISTENER)) return -1;
    const listenerAt = at + LISTENER.length;
    at = textEnd(bytes, view, listenerAt);
    if (at < 0 || !stands(view, at, WORKER)) return -1;
    const listenerLength = at - listenerAt;
    const workerAt = at + WORKER.length;
    at = textEnd(bytes, view, workerAt);
    if (at < 0 || !stands(view, at, USER)) return -1;
    const workerLength = at - workerAt;
    const userAt = at + USER.length;
    at = textEnd(bytes, view, userAt);
    if (at < 0 || !stands(view, at, ADDRESS)) return -1;
    const userLength = at - userAt;
    const addressAt = at + ADDRESS.length;
    at = textEnd(bytes, view, addressAt);
    if (at < 0 || !stands(view, at, AGENT)) return -1;
    const addressLength = at - addressAt;
    const agentAt = at + AGENT.length;
    at = textEnd(bytes, view, agentAt);
    if (at < 0) return -1;
    const agentLength = at - agentAt;
    let head = this.#head;
    let bitsAt = at;
    let bitsLength = 0;
    if (bytes[at + 1] === CLOSE) {
      if (bytes[at + 2] !== NEWLINE) return -1;
      at += 3;
    } else {
      if (!stands(view, at, BITS)) return -1;
      bitsAt = at + BITS.length;
      at = bitsAt;
      if (bytes[at] !== QUOTE) {
        if (word(bytes, bitsAt) < 0) return -1;
        bitsLength = WORD_DIGITS;
        at += WORD_DIGITS;
      }
      if (!stands(view, at, INSTANCE)) return -1;
      at += INSTANCE.length;
      // One that was not met yet is learnt from line.ts.
      const process = this.#process(view, at);
      if (process === null) return -1;
      at += process.part.length;
      head = process.head;
    }
    // What lies behind the end is not of this file.
    if (at > end) return -1;

    // The record. Texts are copied four bytes at a time, up to three too many, which the next field covers.
    this.#room(RECORD_BYTES);
    const out = this.bytes;
    const outView = this.#view;
    let to = this.#at;
    out.set(head, to);
    to += head.length;
    const micros = Math.floor(nanoseconds / 1000);
    const timeUs = seconds * 1e6 + micros;
    const nanos = (nanoseconds - micros * 1000) * 2;
    // A zigzag varint of eight bytes: twice the value, seven bits a byte, lowest first. In two halves, as bit operators have 32 bits.
    const low = timeUs % TWO_27;
    const lowBits = low * 2;
    const highBits = (timeUs - low) / TWO_27;
    out[to] = (lowBits & 0x7f) | 0x80;
    out[to + 1] = ((lowBits >>> 7) & 0x7f) | 0x80;
    out[to + 2] = ((lowBits >>> 14) & 0x7f) | 0x80;
    out[to + 3] = ((lowBits >>> 21) & 0x7f) | 0x80;
    out[to + 4] = (highBits & 0x7f) | 0x80;
    out[to + 5] = ((highBits >>> 7) & 0x7f) | 0x80;
    out[to + 6] = ((highBits >>> 14) & 0x7f) | 0x80;
    out[to + 7] = highBits >>> 21;
    to += 8;
    if (nanos >= 0x80) out[to++] = (nanos & 0x7f) | 0x80;
    out[to++] = nanos >= 0x80 ? nanos >>> 7 : nanos;
    to = writeLong(out, to, client);
    to = putText(out, outView, to, view, listenerAt, listenerLength);
    out[to++] = JOB_DIGITS * 2;
    const job = this.#job;
    for (let i = 0; i < JOB_DIGITS; i++) out[to + i] = job[i]!;
    to += JOB_DIGITS;
    out[to++] = 0;
    for (let i = 0; i < this.#heightBytes; i++) out[to++] = this.#height[i]!;
    to = putText(out, outView, to, view, userAt, userLength);
    to = putText(out, outView, to, view, workerAt, workerLength);
    to = putText(out, outView, to, view, agentAt, agentLength);
    to = putText(out, outView, to, view, addressAt, addressLength);
    out[to++] = accepted;
    const zigzag = errn < 0 ? -errn * 2 - 1 : errn * 2;
    if (zigzag >= 0x80) out[to++] = (zigzag & 0x7f) | 0x80;
    out[to++] = zigzag >= 0x80 ? zigzag >>> 7 : zigzag;
    to = putText(out, outView, to, view, reasonAt, reasonLength);
    outView.setFloat64(to, diff, true);
    outView.setFloat64(to + 8, sdiff, true);
    to = putText(out, outView, to + 16, view, hashAt, hashLength);
    out[to++] = 0;
    to = putText(out, outView, to, view, enonce1At, enonce1Length);
    to = putText(out, outView, to, view, nonce2At, nonce2Length);
    to = putText(out, outView, to, view, nonceAt, WORD_DIGITS);
    to = putText(out, outView, to, view, ntimeAt, WORD_DIGITS);
    to = putText(out, outView, to, view, bitsAt, bitsLength);
    out[to++] = 0;
    this.#at = to;
    this.ends[this.count++] = to;
    if (accepted === 1) {
      this.counts.accepted++;
      if (this.#seen.add(seenHigh | 0, seenLow | 0)) this.counts.repeats++;
    } else this.counts.refused++;
    return at;
  }

  /** The process whose name stands there, of those that were met. */
  #process(view: DataView, at: number): Process | null {
    const processes = this.#processes;
    for (let i = 0; i < processes.length; i++) {
      const process = processes[i]!;
      if (!stands(view, at, process.part)) continue;
      if (i > 0) {
        processes[i] = processes[0]!;
        processes[0] = process;
      }
      return process;
    }
    return null;
  }

  /** Makes room for one more record. */
  #room(sizeBytes: number): void {
    if (this.#at + sizeBytes > this.bytes.length) {
      const grown = Buffer.alloc(Math.max(this.bytes.length * 2, this.#at + sizeBytes));
      grown.set(this.bytes.subarray(0, this.#at));
      this.bytes = grown;
      this.#view = new DataView(grown.buffer, grown.byteOffset, grown.length);
    }
    if (this.count === this.ends.length) {
      const grown = new Float64Array(this.ends.length * 2);
      grown.set(this.ends);
      this.ends = grown;
    }
  }

  /** The first four fields of a record. */
  #headOf(instance: string): Buffer {
    const parts = ['submitted', this.#context.origin, instance, 'backfill'].map((text) => {
      const bytes = Buffer.from(text);
      const length = Buffer.alloc(2);
      return Buffer.concat([length.subarray(0, writeLong(length, 0, bytes.length)), bytes]);
    });
    return Buffer.concat(parts);
  }
}

/** Writes a text of a line, its length first; up to three bytes behind it are written too. @returns the position behind it */
function putText(out: Uint8Array, outView: DataView, at: number, view: DataView, from: number, length: number): number {
  let to = at;
  if (length < 64) out[to++] = length * 2;
  else {
    out[to++] = ((length * 2) & 0x7f) | 0x80;
    out[to++] = (length * 2) >>> 7;
  }
  for (let i = 0; i < length; i += 4) outView.setInt32(to + i, view.getInt32(from + i, true), true);
  return to + length;
}

/** The end of a text of ASCII without escapes, where its quote stands; -1 where it has anything else, or is longer than is looked at. */
function textEnd(bytes: Uint8Array, view: DataView, start: number): number {
  for (let at = start; at - start <= TEXT_LIMIT; at += 4) {
    const v = view.getInt32(at, true);
    // The lowest byte that is marked is one: a quote, a backslash, below a blank, or above 127.
    const quote = v ^ 0x22222222;
    const backslash = v ^ 0x5c5c5c5c;
    const marks =
      (v | (((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash) | ((v - 0x20202020) & ~v))) &
      0x80808080;
    if (marks === 0) continue;
    const end = at + ((31 - Math.clz32(marks & -marks)) >> 3);
    return bytes[end] === QUOTE && end - start <= TEXT_LIMIT ? end : -1;
  }
  return -1;
}

/** The end of a text of pairs of hex digits; -1 where it is none, or longer than is looked at. */
function hexEnd(bytes: Uint8Array, start: number): number {
  let at = start;
  while (HEX[bytes[at]!]! < 16 && at - start <= HEX_LIMIT) at++;
  return (at - start) % 2 === 0 && at - start <= HEX_LIMIT ? at : -1;
}

/** Where the comma behind a number stands, if it is near. */
function realEnd(bytes: Uint8Array, start: number): number {
  let at = start;
  while (bytes[at] !== COMMA && at - start < REAL_LIMIT) at++;
  return at;
}

/** The 32 bits that 8 lower-case hex digits are; below 0 where they are none. */
function word(bytes: Uint8Array, at: number): number {
  const a = HEX[bytes[at]!]!;
  const b = HEX[bytes[at + 1]!]!;
  const c = HEX[bytes[at + 2]!]!;
  const d = HEX[bytes[at + 3]!]!;
  const e = HEX[bytes[at + 4]!]!;
  const f = HEX[bytes[at + 5]!]!;
  const g = HEX[bytes[at + 6]!]!;
  const h = HEX[bytes[at + 7]!]!;
  if ((a | b | c | d | e | f | g | h) >= 16) return -1;
  return ((a << 28) | (b << 24) | (c << 20) | (d << 16) | (e << 12) | (f << 8) | (g << 4) | h) >>> 0;
}

const REALS_KEPT = 256;
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** Numbers by their digits: pools use few difficulties. */
class Reals {
  readonly #texts = new Uint8Array(REALS_KEPT * REAL_LIMIT);
  readonly #lengths = new Uint8Array(REALS_KEPT);
  readonly #values = new Float64Array(REALS_KEPT);

  /** The double of a JSON number; NaN where it is none. */
  value(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    if (length === 0 || length >= REAL_LIMIT) return Number.NaN;
    let hash = length;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
    const slot = (hash ^ (hash >>> 8)) & (REALS_KEPT - 1);
    const texts = this.#texts;
    const textAt = slot * REAL_LIMIT;
    let same = this.#lengths[slot] === length;
    for (let i = 0; same && i < length; i++) same = texts[textAt + i] === bytes[start + i];
    if (same) return this.#values[slot]!;
    const text = Buffer.from(bytes.subarray(start, end)).toString('latin1');
    if (!JSON_NUMBER.test(text)) return Number.NaN;
    for (let i = 0; i < length; i++) texts[textAt + i] = bytes[start + i]!;
    this.#lengths[slot] = length;
    this.#values[slot] = Number(text);
    return this.#values[slot]!;
  }
}

/**
 * Whether a JSON number means exactly this double.
 *
 * The number is m · 10^-k, m a whole number of at most 18 digits. m and value · 10^k are taken as sums of two doubles (Dekker's product, exact, or to
 * 2^-100 of it where 10^k is no double), and the number means `value` where they differ by less than half a step of the double.
 *
 * @param value - above 0, finite
 * @returns false also where this function cannot tell
 */
export function isTextOf(bytes: Uint8Array, start: number, end: number, value: number): boolean {
  let at = start;
  let byte = bytes[at]!;
  // JSON: no zero in front of other digits.
  if (byte === DIGIT_0 && bytes[at + 1]! >= DIGIT_0 && bytes[at + 1]! <= DIGIT_0 + 9) return false;
  let upper = 0;
  let lower = 0;
  let digits = 0;
  let lowerDigits = 0;
  let fraction = -1;
  for (; at < end; at++) {
    byte = bytes[at]!;
    if (byte === POINT) {
      if (fraction >= 0 || at === start) return false;
      fraction = 0;
      continue;
    }
    const digit = byte - DIGIT_0;
    if (digit < 0 || digit > 9) break;
    if (fraction >= 0) fraction++;
    if (digits === 0 && digit === 0) continue;
    digits++;
    if (digits <= 9) upper = upper * 10 + digit;
    else {
      lower = lower * 10 + digit;
      lowerDigits++;
    }
  }
  if (at === start || digits === 0 || digits > 18 || fraction === 0) return false;
  let k = Math.max(fraction, 0);
  if (at < end) {
    if (byte !== SMALL_E || bytes[at + 1] !== MINUS) return false;
    const exponentAt = at + 2;
    let exponent = 0;
    for (at = exponentAt; at < end; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) return false;
      exponent = exponent * 10 + digit;
    }
    if (at === exponentAt || at - exponentAt > 2) return false;
    k += exponent;
  }
  if (k > 44) return false;
  // m = mHigh + mLow.
  const scale = TEN[lowerDigits]!;
  const mHigh = upper * scale;
  const mLow = productError(upper, scale, mHigh) + lower;
  // value * 10^k = vHigh + vLow.
  const first = TEN[Math.min(k, 22)]!;
  let vHigh = value * first;
  let vLow = productError(value, first, vHigh);
  if (k > 22) {
    const second = TEN[k - 22]!;
    const high = vHigh * second;
    vLow = productError(vHigh, second, high) + vLow * second;
    vHigh = high;
  }
  return Math.abs(mHigh - vHigh + (mLow - vLow)) < vHigh * HALF_STEP;
}

/** What the product of two doubles, rounded, lacks of the exact one. @param product - fl(a · b) */
function productError(a: number, b: number, product: number): number {
  const aBig = a * SPLITTER;
  const aHigh = aBig - (aBig - a);
  const aLow = a - aHigh;
  const bBig = b * SPLITTER;
  const bHigh = bBig - (bBig - b);
  const bLow = b - bHigh;
  return aLow * bLow - (product - aHigh * bHigh - aLow * bHigh - aHigh * bLow);
}

const SEEN_FIRST = 4096;
const SEEN_LAST = 1 << 22;

/** Accepted hashes of a height, by their last 64 bits; of more than some millions the earliest are forgotten. */
class Seen {
  #slots = new Int32Array(SEEN_FIRST * 2);
  #count = 0;

  clear(): void {
    if (this.#slots.length > SEEN_FIRST * 2) this.#slots = new Int32Array(SEEN_FIRST * 2);
    else if (this.#count > 0) this.#slots.fill(0);
    this.#count = 0;
  }

  /** Notes a hash. @returns true where it was noted before */
  add(high: number, low: number): boolean {
    if (this.#count * 2 > this.#slots.length / 2) this.#grow();
    if (this.#find(high, low)) return true;
    this.#count++;
    return false;
  }

  #find(high: number, low: number): boolean {
    const slots = this.#slots;
    // 0, 0 is an empty slot.
    const second = high === 0 && low === 0 ? 1 : low;
    const mask = slots.length - 2;
    for (let at = ((high ^ second) << 1) & mask; ; at = (at + 2) & mask) {
      if (slots[at] === high && slots[at + 1] === second) return true;
      if (slots[at] === 0 && slots[at + 1] === 0) {
        slots[at] = high;
        slots[at + 1] = second;
        return false;
      }
    }
  }

  #grow(): void {
    const before = this.#slots;
    const full = before.length / 2 >= SEEN_LAST;
    this.#slots = new Int32Array(full ? before.length : before.length * 2);
    if (full) this.#count = 0;
    else
      for (let at = 0; at < before.length; at += 2) {
        if (before[at] !== 0 || before[at + 1] !== 0) this.#find(before[at]!, before[at + 1]!);
      }
  }
}
