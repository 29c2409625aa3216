/**
 * Lines of a share log in their usual form straight to Avro records, byte by byte: no JSON object, no text, nothing left for the collector.
 * Between the bytes of a file (intake.ts) and the journal; whatever is not of that form goes through line.ts, and means the same there.
 *
 *   {"workinfoid": W, "clientid": C | , "enonce1": "…", "nonce2": " | N2 | ", "nonce": " | N | ", "ntime": " | T | ", "diff": D, "sdiff": | S |
 *    , "hash": " | H | ", "result": …, "errn": …, "createdate": " | R | ", "createby": … "agent": "…" (, "version_bits": " | V | ", "instance": "…") | }
 *
 * What stands between the capitals is the same in most lines of a connection. The first such line is read by line.ts and encoded by the schema's
 * encoder; it becomes a template, and a line whose constant parts are those bytes is the template's record with its own W, N2, N, T, S, H, R, V
 * written over, each of them checked as line.ts checks it. Everything in a constant part has thus been judged by line.ts.
 *
 * The double that S means: it is the difficulty of H (as CKPool computes it), where S lies nearer to that double than half the
 * distance to the next one; a text of 17 digits that CKPool wrote always does. Anything else is left to line.ts.
 *
 * @see Apache Avro specification 1.11, "Binary Encoding"; schemas/events/Share.avsc
 */
import { currentSchemaText, encodeEvent } from '../../schemas/codec.ts';
import { DIFFICULTY_1_TARGET } from '../core/bitcoin/target.ts';
import type { EncodedEvents } from '../core/log/event-log.ts';
import { type LineContext, type LineOutcome, type ShareInput, shareFromLine } from './line.ts';

const COMMA = 0x2c;
const POINT = 0x2e;
const DIGIT_0 = 0x30;
const QUOTE = 0x22;
const SMALL_E = 0x65;
const MINUS = 0x2d;

const NONCE_DIGITS = 8;
const JOB_DIGITS = 16;
/** Whole numbers of so many digits are exact. */
const CLIENT_DIGITS = 15;
/** Longer lines are left to line.ts. */
const LONGEST_BYTES = 4096;
/** Bytes that must be there behind the last one of a line that is scanned, whatever is in them. */
export const SLACK_BYTES = 2 * LONGEST_BYTES;
/** Templates of one connection: accepted and refused, before and after a change of difficulty. */
const TEMPLATES_EACH = 4;
const CLIENTS_KEPT = 16_384;

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

const FIELDS = (JSON.parse(currentSchemaText('share')) as { fields: { name: keyof ShareInput; type: string }[] })
  .fields;

/** Where the value of each field begins in an encoded share: of a string, its first letter. */
function offsetsOf(body: Buffer): Map<keyof ShareInput, number> {
  const offsets = new Map<keyof ShareInput, number>();
  let at = 0;
  for (const { name, type } of FIELDS) {
    let value = 0;
    const first = at;
    if (type === 'string' || type === 'long' || type === 'int') {
      for (let scale = 1; ; scale *= 128) {
        const byte = body[at++]!;
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
      }
    }
    offsets.set(name, type === 'string' ? at : first);
    if (type === 'string') at += value / 2;
    else if (type === 'boolean') at += 1;
    else if (type === 'double') at += 8;
    else if (type !== 'long' && type !== 'int')
      throw new TypeError(`Share.avsc: field ${name} has a type that this file does not know, ${type}`);
  }
  return offsets;
}

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
const NTIME = partOf('", "ntime": "');
const NONCE = partOf('", "nonce": "');
const HASH = partOf(', "hash": "');

const TEXT = String.raw`"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*"`;
/**
 * The usual form, as bytes. No key can come twice in it: what line.ts took for a varying field is what stands at its place.
 */
const USUAL = new RegExp(
  [
    String.raw`^\{"workinfoid": (?<work>\d+), "clientid": (?<client>0|[1-9]\d*)`,
    '(?<a>, "enonce1": "[0-9a-f]*", "nonce2": ")(?<nonce2>[0-9a-f]*)',
    '", "nonce": "[0-9a-f]{8}", "ntime": "[0-9a-f]{8}',
    '(?<d>", "diff": [0-9.e-]+, "sdiff": )(?<sdiff>[0-9.e-]+)',
    '(?<e>, "hash": ")(?<hash>(?:[0-9a-f]{64})?)',
    String.raw`(?<f>", "result": (?:true|false)(?:, "(?:reject-reason|error)": (?:null|${TEXT}|\[-?\d+, ${TEXT}, null\]))?, "errn": -?\d+, "createdate": ")`,
    String.raw`\d{10},\d{1,9}`,
    `(?<g>", "createby": ${TEXT}, "createcode": ${TEXT}, "createinet": ${TEXT}, "workername": ${TEXT}, "username": ${TEXT}, "address": ${TEXT}, "agent": ${TEXT}`,
    String.raw`(?:, "version_bits": ")?)(?<bits>(?<=version_bits": ")[0-9a-f]{8})?(?<h>.*)\}$`,
  ].join(''),
  's',
);
const AFTER_BITS = new RegExp(`^"(?:, "instance": ${TEXT})?$`, 's');
const WITHOUT_BITS = new RegExp(`^(?:"(?:, "instance": ${TEXT})?)?$`, 's');

interface Template {
  readonly a: Part;
  readonly nonce2Digits: number;
  readonly d: Part;
  /** Without one, `d` goes on to createdate. */
  readonly hasHash: boolean;
  readonly f: Part;
  /** To the end of the line, its newline included, or to the version bits. */
  readonly g: Part;
  readonly hasBits: boolean;
  readonly h: Part;
  readonly accepted: boolean;
  /** The record of the line that it was learnt from; `time_ns` takes `nanosBytes` in it, of the one or two that it may take. */
  readonly body: Buffer;
  readonly timeAt: number;
  readonly nanosBytes: number;
  /** Behind `time_ns`; the other places are counted from here. */
  readonly restAt: number;
  readonly jobAt: number;
  readonly heightAt: number;
  readonly heightBytes: number;
  readonly sdiffAt: number;
  readonly hashAt: number;
  readonly nonce2At: number;
  readonly nonceAt: number;
  readonly ntimeAt: number;
  readonly bitsAt: number;
  /** Which job `body` has at present. */
  work: number;
  next: Template | null;
}

/** What one scanner has told so far. */
export interface Counts {
  accepted: number;
  refused: number;
  /** Accepted hashes that came before in the same height. */
  repeats: number;
}

export class Scanner implements EncodedEvents {
  readonly topic = 'share';
  bytes = Buffer.allocUnsafe(1 << 20);
  count = 0;
  ends = new Float64Array(4096);
  readonly counts: Counts = { accepted: 0, refused: 0, repeats: 0 };
  readonly #seen = new Seen();
  readonly #context: { origin: string; instance: string; height: number };
  #view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  readonly #templates = new Map<number, Template>();
  /** The workinfoid of the last line, its digits and the job id that it is; `#work` is its number among those met. */
  readonly #workDigits = new Uint8Array(20);
  #workLength = 0;
  #work = 0;
  readonly #job = Buffer.alloc(JOB_DIGITS);
  /** The height as a varint. */
  readonly #height = new Uint8Array(5);
  #heightBytes = 1;

  constructor(context: LineContext) {
    this.#context = { ...context };
    this.height = context.height;
  }

  get lengthBytes(): number {
    return this.count === 0 ? 0 : this.ends[this.count - 1]!;
  }

  /** The records have been taken. */
  clear(): void {
    this.count = 0;
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
    // Templates hold the old one.
    this.#workLength = 0;
    this.#seen.clear();
  }

  /**
   * Takes one line by a template.
   *
   * @param view - over `bytes`
   * @param start - where the line begins
   * @param end - where the bytes end that have come; `SLACK_BYTES` more may be looked at
   * @returns the position behind its newline, or -1 where it is not of a known form or has not all come yet
   */
  scan(bytes: Uint8Array, view: DataView, start: number, end: number): number {
    if (!stands(view, start, BEGIN)) return -1;
    let at = this.#takeWork(bytes, start + BEGIN.length);
    if (at < 0 || !stands(view, at, CLIENT)) return -1;
    at += CLIENT.length;
    const clientAt = at;
    let client = 0;
    for (;;) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      client = client * 10 + digit;
      at++;
    }
    const digits = at - clientAt;
    if (digits === 0 || digits > CLIENT_DIGITS || (digits > 1 && bytes[clientAt] === DIGIT_0)) return -1;
    for (let template = this.#templates.get(client) ?? null; template !== null; template = template.next) {
      const behind = this.#write(template, bytes, view, at, end);
      if (behind > 0) return behind;
    }
    return -1;
  }

  /** Takes one line by line.ts, and learns from it. @param line - without its newline */
  take(line: Buffer): LineOutcome {
    const outcome = shareFromLine(line.toString('utf8'), this.#context);
    if ('bad' in outcome) return outcome;
    const { share } = outcome;
    const body = encodeEvent('share', share);
    const at = this.#room(body.length);
    this.bytes.set(body, at);
    this.ends[this.count++] = at + body.length;
    if (share.accepted) {
      this.counts.accepted++;
      const word = (from: number): number => Number.parseInt(share.hash.slice(from, from + 8), 16) | 0;
      if (this.#seen.add(word(48), word(56))) this.counts.repeats++;
    } else this.counts.refused++;
    if (line.length < LONGEST_BYTES) this.#learn(line, share, body);
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
    for (; at - start <= known.length; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      value = value * 10n + BigInt(digit);
    }
    const digits = at - start;
    if (digits === 0 || digits > known.length || (digits > 1 && bytes[start] === DIGIT_0) || value >= 1n << 64n)
      return -1;
    for (let j = 0; j < digits; j++) known[j] = bytes[start + j]!;
    this.#workLength = digits;
    this.#work++;
    this.#job.write(value.toString(16).padStart(JOB_DIGITS, '0'), 'latin1');
    return at;
  }

  /** The rest of a line, from behind the client's number on. */
  #write(template: Template, bytes: Uint8Array, view: DataView, start: number, end: number): number {
    const { a, d, f, g, h, body, nonce2Digits } = template;
    let at = start;
    if (!stands(view, at, a)) return -1;
    at += a.length;
    const nonce2At = at;
    at += nonce2Digits;
    if (!stands(view, at, NONCE)) return -1;
    const nonceAt = at + NONCE.length;
    at = nonceAt + NONCE_DIGITS;
    if (!stands(view, at, NTIME)) return -1;
    const ntimeAt = at + NTIME.length;
    at = ntimeAt + NONCE_DIGITS;
    if (!stands(view, at, d)) return -1;
    at += d.length;
    let sdiff = 0;
    let hashAt = 0;
    let seenHigh = 0;
    let seenLow = 0;
    if (template.hasHash) {
      const sdiffAt = at;
      while (bytes[at] !== COMMA && at - sdiffAt < 32) at++;
      if (!stands(view, at, HASH)) return -1;
      hashAt = at + HASH.length;
      at = hashAt + 64;
      let worst = 0;
      for (let i = hashAt + 32; i < at - 16; i++) worst |= HEX[bytes[i]!]!;
      const high = word(bytes, hashAt);
      const next = word(bytes, hashAt + 8);
      const third = word(bytes, hashAt + 16);
      const fourth = word(bytes, hashAt + 24);
      seenHigh = word(bytes, at - 16);
      seenLow = word(bytes, at - 8);
      if (worst >= 16 || high < 0 || next < 0 || third < 0 || fourth < 0 || seenHigh < 0 || seenLow < 0) return -1;
      // As shareDifficulty: below a highest word that is not 0, the two lowest are less than half a step of the sum.
      let value = (high * TWO_32 + next) * TWO_192 + (third * TWO_32 + fourth) * TWO_128;
      if (high === 0 && next === 0) {
        value += (word(bytes, hashAt + 32) * TWO_32 + word(bytes, hashAt + 40)) * TWO_64;
        value += seenHigh * TWO_32 + seenLow;
      }
      sdiff = DIFFICULTY_1 / (value === 0 ? 1 : value);
      if (!isTextOf(bytes, sdiffAt, hashAt - HASH.length, sdiff)) return -1;
      if (!stands(view, at, f)) return -1;
      at += f.length;
    }
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
    if (at === nanosecondsAt || bytes[at] !== QUOTE || !stands(view, at, g)) return -1;
    at += g.length;
    const bitsAt = at;
    if (template.hasBits) {
      at += NONCE_DIGITS;
      if (!stands(view, at, h)) return -1;
      at += h.length;
    }
    // What lies behind the end is not of this file.
    if (at > end) return -1;

    if (template.work !== this.#work && !this.#place(template)) return -1;
    const from = this.#room(body.length + 1);
    const out = this.bytes;
    out.set(body, from);
    const timeAt = from + template.timeAt;
    const micros = Math.floor(nanoseconds / 1000);
    const timeUs = seconds * 1e6 + micros;
    const nanos = (nanoseconds - micros * 1000) * 2;
    // A zigzag varint of eight bytes: twice the value, seven bits a byte, lowest first. In two halves, as bit operators have 32 bits.
    const low = timeUs % TWO_27;
    const lowBits = low * 2;
    const highBits = (timeUs - low) / TWO_27;
    out[timeAt] = (lowBits & 0x7f) | 0x80;
    out[timeAt + 1] = ((lowBits >>> 7) & 0x7f) | 0x80;
    out[timeAt + 2] = ((lowBits >>> 14) & 0x7f) | 0x80;
    out[timeAt + 3] = ((lowBits >>> 21) & 0x7f) | 0x80;
    out[timeAt + 4] = (highBits & 0x7f) | 0x80;
    out[timeAt + 5] = ((highBits >>> 7) & 0x7f) | 0x80;
    out[timeAt + 6] = ((highBits >>> 14) & 0x7f) | 0x80;
    out[timeAt + 7] = highBits >>> 21;
    const restFrom = from + template.restAt;
    const behind = from + body.length;
    const more = (nanos >= 0x80 ? 2 : 1) - template.nanosBytes;
    if (more !== 0) out.copyWithin(restFrom + more, restFrom, behind);
    const restAt = restFrom + more;
    if (nanos >= 0x80) {
      out[restAt - 2] = (nanos & 0x7f) | 0x80;
      out[restAt - 1] = nanos >>> 7;
    } else out[restAt - 1] = nanos;
    let worst = copyHex(out, restAt + template.nonce2At, bytes, nonce2At, nonce2Digits);
    worst |= copyHex(out, restAt + template.nonceAt, bytes, nonceAt, NONCE_DIGITS);
    worst |= copyHex(out, restAt + template.ntimeAt, bytes, ntimeAt, NONCE_DIGITS);
    if (template.hasBits) worst |= copyHex(out, restAt + template.bitsAt, bytes, bitsAt, NONCE_DIGITS);
    if (worst >= 16) return -1;
    if (template.hasHash) {
      this.#view.setFloat64(restAt + template.sdiffAt, sdiff, true);
      for (let i = 0; i < 64; i += 4)
        this.#view.setInt32(restAt + template.hashAt + i, view.getInt32(hashAt + i, true), true);
    }
    this.ends[this.count++] = behind + more;
    if (template.accepted) {
      this.counts.accepted++;
      if (this.#seen.add(seenHigh | 0, seenLow | 0)) this.counts.repeats++;
    } else this.counts.refused++;
    return at;
  }

  /** Puts the present job and height into a template. @returns false where the height takes another number of bytes */
  #place(template: Template): boolean {
    if (template.heightBytes !== this.#heightBytes) return false;
    const { body, restAt, jobAt, heightAt, heightBytes } = template;
    body.set(this.#job, restAt + jobAt);
    for (let i = 0; i < heightBytes; i++) body[restAt + heightAt + i] = this.#height[i]!;
    template.work = this.#work;
    return true;
  }

  /** Makes a template of a line that was read by line.ts, where it is of the usual form. */
  #learn(line: Buffer, share: ShareInput, body: Buffer): void {
    const found = USUAL.exec(line.toString('latin1'))?.groups;
    // Of other lengths than templates reckon with.
    if (found === undefined || share.time_us < 1e15 || share.time_us >= 2 ** 53) return;
    const { a, nonce2, d, e, hash, f, g, bits, h, sdiff } = found as Record<string, string>;
    if (!(bits === undefined ? WITHOUT_BITS : AFTER_BITS).test(h!) || nonce2!.length % 2 !== 0) return;
    // A line without a hash has a difficulty that stands for none.
    const hasHash = hash !== '';
    const offsets = offsetsOf(body);
    const restAt = offsets.get('client_id')!;
    const place = (name: keyof ShareInput): number => offsets.get(name)! - restAt;
    const template: Template = {
      a: partOf(a!),
      nonce2Digits: nonce2!.length,
      d: partOf(hasHash ? d! : `${d}${sdiff}${e}${f}`),
      hasHash,
      f: partOf(f!),
      g: partOf(bits === undefined ? `${g}${h}}\n` : g!),
      hasBits: bits !== undefined,
      h: bits === undefined ? BEGIN : partOf(`${h}}\n`),
      accepted: share.accepted,
      body: Buffer.from(body),
      timeAt: offsets.get('time_us')!,
      nanosBytes: restAt - offsets.get('time_ns')!,
      restAt,
      jobAt: place('job_id'),
      heightAt: place('height'),
      heightBytes: this.#heightBytes,
      sdiffAt: place('sdiff'),
      hashAt: place('hash'),
      nonce2At: place('nonce2'),
      nonceAt: place('nonce'),
      ntimeAt: place('ntime'),
      bitsAt: place('version_bits'),
      work: -1,
      next: null,
    };
    const first = this.#templates.get(share.client_id);
    if (first === undefined) {
      if (this.#templates.size >= CLIENTS_KEPT) this.#templates.clear();
    } else {
      template.next = first;
      let last: Template = template;
      for (let i = 1; i < TEMPLATES_EACH && last.next !== null; i++) last = last.next;
      last.next = null;
    }
    this.#templates.set(share.client_id, template);
  }

  /** Makes room for one more record; gives the place where it begins. */
  #room(sizeBytes: number): number {
    const at = this.lengthBytes;
    if (at + sizeBytes > this.bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, at + sizeBytes));
      grown.set(this.bytes.subarray(0, at));
      this.bytes = grown;
      this.#view = new DataView(grown.buffer, grown.byteOffset, grown.length);
    }
    if (this.count === this.ends.length) {
      const grown = new Float64Array(this.ends.length * 2);
      grown.set(this.ends);
      this.ends = grown;
    }
    return at;
  }
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

/** Copies hex digits. @returns below 16 where all are lower-case */
function copyHex(to: Uint8Array, at: number, from: Uint8Array, fromAt: number, length: number): number {
  let worst = 0;
  for (let i = 0; i < length; i++) {
    const byte = from[fromAt + i]!;
    worst |= HEX[byte]!;
    to[at + i] = byte;
  }
  return worst;
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
