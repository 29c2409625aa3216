/**
 * Share events as bytes: what is the same for all accepted shares of a worker on a job is encoded once, by the schema's own encoder, and
 * each share is that template with its own fields written over. Between intake.ts (verdicts) and facts.ts (the journal's append).
 *
 * Fields of a share that vary: time_us, sdiff, hash, nonce2, nonce, ntime, version_bits. All have the same length in each share of a
 * template, so the template's bytes are copied as a whole and patched.
 *
 * @see Apache Avro specification 1.11, "Binary Encoding"; schemas/events/Share.avsc
 */
import { currentSchemaText, encodeEvent } from '../../schemas/codec.ts';
import type { ShareInput } from '../../schemas/events.ts';
import type { EncodedEvents } from '../core/log/event-log.ts';
import { recordWalk } from '../core/log/flat-record.ts';

/**
 * Where the digits of a share stand from its beginning on, in the bytes that the scanner has put aside; as sent, ASCII.
 * Version bits are lower-case; extranonce2 is as long as the job's.
 */
export const TEXT = { nonce: 0, ntime: 8, versionBits: 16, nonce2: 24 } as const;
/** Extranonce2 of 16 bytes at most (upstream.ts, options.ts: 8). */
export const TEXT_BYTES = 56;

/** Digits of ntime, nonce and version bits. */
const WORD_DIGITS = 8;
const HASH_DIGITS = 64;
/** Of the zigzag varint of a time between 1978 and 3111. */
const TIME_BYTES = 8;

const { numbers, starts, walk } = recordWalk(currentSchemaText('share'))!;
const PLACES = numbers(['time_us', 'sdiff', 'hash', 'nonce2', 'nonce', 'ntime', 'version_bits'])!;

/** An encoded share with the places that vary. */
export interface ShareTemplate {
  readonly body: Buffer;
  readonly timeAt: number;
  readonly sdiffAt: number;
  /** -1 where the template has no hash. */
  readonly hashAt: number;
  readonly nonce2At: number;
  readonly nonce2Digits: number;
  readonly nonceAt: number;
  readonly ntimeAt: number;
  /** -1 where the template has no version bits. */
  readonly versionBitsAt: number;
}

/**
 * The template of shares that agree with one in everything but what varies.
 *
 * @returns null where the share's fields have not their usual length: such a one is encoded by itself
 */
export function shareTemplate(share: ShareInput): ShareTemplate | null {
  const versionBits = share.version_bits ?? '';
  const usual =
    share.nonce.length === WORD_DIGITS &&
    share.ntime.length === WORD_DIGITS &&
    (versionBits === '' || versionBits.length === WORD_DIGITS) &&
    (share.hash === '' || share.hash.length === HASH_DIGITS) &&
    isUsualTime(share.time_us);
  if (!usual) return null;
  const body = encodeEvent('share', share);
  walk(body, 0, body.length);
  const at = (field: keyof typeof PLACES): number => starts[PLACES[field]]!;
  return {
    body,
    timeAt: at('time_us'),
    sdiffAt: at('sdiff'),
    hashAt: share.hash === '' ? -1 : at('hash'),
    nonce2At: at('nonce2'),
    nonce2Digits: share.nonce2.length,
    nonceAt: at('nonce'),
    ntimeAt: at('ntime'),
    versionBitsAt: versionBits === '' ? -1 : at('version_bits'),
  };
}

/** True where a time's varint has the length that templates reckon with. */
export function isUsualTime(timeUs: number): boolean {
  return timeUs >= 2 ** 48 && timeUs < 2 ** 53;
}

const TWO_27 = 2 ** 27;

/** Encoded shares of a turn, one behind the other; the buffer stays for the next turn. */
export class ShareRecords implements EncodedEvents {
  readonly topic = 'share';
  bytes = Buffer.allocUnsafe(64 * 1024);
  count = 0;
  ends = new Float64Array(256);
  #view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);

  get lengthBytes(): number {
    return this.count === 0 ? 0 : this.ends[this.count - 1]!;
  }

  clear(): void {
    this.count = 0;
  }

  /** Appends a share that was encoded elsewhere. */
  append(body: Uint8Array): void {
    const at = this.#room(body.length);
    this.bytes.set(body, at);
    this.ends[this.count++] = at + body.length;
  }

  /**
   * Appends a share made from its template.
   *
   * @param timeUs - `isUsualTime` holds
   * @param hex - the hash's 64 letters; not looked at where the template has none
   * @param texts - the digits, from `textsAt` on as in `TEXT`
   */
  write(
    template: ShareTemplate,
    timeUs: number,
    sdiff: number,
    hex: Uint8Array,
    texts: Uint8Array,
    textsAt: number,
  ): void {
    const { body } = template;
    const at = this.#room(body.length);
    const { bytes } = this;
    bytes.set(body, at);
    // A zigzag varint: twice the value, seven bits a byte, lowest first. In two halves, as bit operators have 32 bits.
    const low = timeUs % TWO_27;
    const lowBits = low * 2;
    const highBits = (timeUs - low) / TWO_27;
    const timeAt = at + template.timeAt;
    bytes[timeAt] = (lowBits & 0x7f) | 0x80;
    bytes[timeAt + 1] = ((lowBits >>> 7) & 0x7f) | 0x80;
    bytes[timeAt + 2] = ((lowBits >>> 14) & 0x7f) | 0x80;
    bytes[timeAt + 3] = ((lowBits >>> 21) & 0x7f) | 0x80;
    bytes[timeAt + 4] = (highBits & 0x7f) | 0x80;
    bytes[timeAt + 5] = ((highBits >>> 7) & 0x7f) | 0x80;
    bytes[timeAt + 6] = ((highBits >>> 14) & 0x7f) | 0x80;
    bytes[timeAt + TIME_BYTES - 1] = highBits >>> 21;
    this.#view.setFloat64(at + template.sdiffAt, sdiff, true);
    if (template.hashAt >= 0) bytes.set(hex, at + template.hashAt);
    copyText(bytes, at + template.nonce2At, texts, textsAt + TEXT.nonce2, template.nonce2Digits);
    copyText(bytes, at + template.nonceAt, texts, textsAt + TEXT.nonce, WORD_DIGITS);
    copyText(bytes, at + template.ntimeAt, texts, textsAt + TEXT.ntime, WORD_DIGITS);
    if (template.versionBitsAt >= 0) {
      copyText(bytes, at + template.versionBitsAt, texts, textsAt + TEXT.versionBits, WORD_DIGITS);
    }
    this.ends[this.count++] = at + body.length;
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

/** Copies a few bytes; a call of `set` costs more than these. */
export function copyText(to: Uint8Array, at: number, from: Uint8Array, fromAt: number, length: number): void {
  for (let i = 0; i < length; i++) to[at + i] = from[fromAt + i]!;
}
