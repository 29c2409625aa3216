/**
 * Shares as one Avro file for ClickHouse: the bodies of the journal as they are, with what a row needs besides appended to each.
 *
 *   body by the current schema, nothing unusual ──────────────────────────────────────────► copied
 *   another schema, refused, a verdict, odd bytes ─► decode ─► poison? ─► encode ─► look at ─► copied
 *
 * The rows are those of `sharePipeline` (a test compares them over random and edge events); SQL only renames. A common share is walked
 * over once, byte by byte, and neither decoded nor turned into strings.
 */

import { isUtf8 } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { unitsFromDouble } from '../../pipelines/shares/decimal.ts';
import { copyDigest } from '../../pipelines/shares/digest.ts';
import { bucketS, sharePipeline } from '../../pipelines/shares/shares.ts';
import { currentSchema, currentSchemaText, encodeEvent } from '../../schemas/codec.ts';
import type { ShareEvent } from '../../schemas/events.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import { encodeHead, SYNC_BYTES, writeLong } from '../core/log/container.ts';

type Kind = 'string' | 'long' | 'int' | 'double' | 'boolean';
const STRING = 0;
const LONG = 1;
const DOUBLE = 2;
const BOOLEAN = 3;
const CODE: Readonly<Record<Kind, number>> = {
  string: STRING,
  long: LONG,
  int: LONG,
  double: DOUBLE,
  boolean: BOOLEAN,
};

interface Field {
  readonly name: string;
  readonly type: Kind;
}
const SCHEMA = JSON.parse(currentSchemaText('share')) as { name: string; namespace: string; fields: Field[] };
const FIELDS = SCHEMA.fields;
const CODES = Uint8Array.from(FIELDS, ({ type }) => CODE[type]);
const FINGERPRINT = currentSchema('share').fingerprint;

function indexOf(name: keyof ShareEvent): number {
  return FIELDS.findIndex((field) => field.name === name);
}
const KIND = indexOf('kind');
const ORIGIN = indexOf('origin');
const SOURCE = indexOf('source');
const TIME_US = indexOf('time_us');
const TIME_NS = indexOf('time_ns');
const ERRN = indexOf('errn');
const CLIENT_ID = indexOf('client_id');
const HEIGHT = indexOf('height');
const ACCEPTED = indexOf('accepted');
const DIFF = indexOf('diff');
const SDIFF = indexOf('sdiff');
const HASH = indexOf('hash');
const BLOCK_HASH = indexOf('block_hash');
const NTIME = indexOf('ntime');

/** What is appended to each body. `sent_identity` is empty where the identity is the hash; fixed numbers are little-endian, the decimal is Avro's. */
const APPENDED = [
  { name: 'sent_identity', type: 'string' },
  { name: 'bucket_s', type: 'long' },
  { name: 'rank_le', type: { type: 'fixed', name: 'Rank', size: 16 } },
  {
    name: 'diff_decimal',
    type: { type: 'fixed', name: 'Decimal18', size: 16, logicalType: 'decimal', precision: 38, scale: 18 },
  },
];
const FILE_SCHEMA = JSON.stringify({
  type: 'record',
  name: 'ShareRow',
  fields: [...FIELDS.map(({ name, type }) => ({ name, type })), ...APPENDED],
});

/** Column, its type in the file, and how the row's value is read from it where that is not its name. */
const COLUMNS: readonly (readonly [column: string, from?: string])[] = [
  ['origin'],
  ['bucket', "toDateTime(toUInt32(bucket_s), 'UTC')"],
  ['identity', "if(sent_identity = '', hash, sent_identity)"],
  ['rank', 'reinterpretAsUInt128(rank_le)'],
  ['kind'],
  ['instance'],
  ['source'],
  ['time', "fromUnixTimestamp64Micro(time_us, 'UTC')"],
  ['time_ns'],
  ['client_id'],
  ['listener'],
  ['job_id'],
  ['job_key'],
  ['height'],
  ['user'],
  ['worker'],
  ['agent'],
  ['address'],
  ['accepted'],
  ['errn'],
  ['reason'],
  ['diff', 'diff_decimal'],
  // JSON has no -0 either.
  ['sdiff', 'sdiff + 0.'],
  // What the identity says already is not kept twice; the views put it back.
  ['hash', "if(sent_identity = '', '', hash)"],
  ['block_hash'],
  ['enonce1'],
  ['nonce2'],
  ['nonce'],
  ['ntime'],
  ['version_bits'],
  ['upstream'],
];

const COLUMN_TYPES: Readonly<Record<string, string>> = {
  time_us: 'Int64',
  time_ns: 'UInt16',
  client_id: 'UInt64',
  height: 'UInt32',
  accepted: 'Bool',
  errn: 'Int32',
  sdiff: 'Float64',
};
/** Strings of few values are LowCardinality in the table alone: put into dictionaries row by row, as Avro is read, they cost three times as much. */
const STRUCTURE = [
  ...FIELDS.filter(({ name }) => name !== 'diff').map(({ name }) => `${name} ${COLUMN_TYPES[name] ?? 'String'}`),
  'sent_identity String',
  'bucket_s Int64',
  'rank_le FixedString(16)',
  'diff_decimal Decimal(38, 18)',
].join(', ');

/** The statement that such a file is the data of. @param token - deduplication token */
export function shareInsert(token: string): string {
  const settings = [
    'async_insert = 0',
    // A back-fill of years touches many months in one batch.
    'max_partitions_per_insert_block = 0',
    // Copies are dropped by reading and merging; dropping them here as well would cost each insert.
    'optimize_on_insert = 0',
    `insert_deduplication_token = '${token}'`,
  ];
  return `INSERT INTO shares_raw (${COLUMNS.map(([column]) => column).join(', ')}) SETTINGS ${settings.join(', ')} SELECT ${COLUMNS.map(
    ([column, from]) => (from === undefined ? column : `${from} AS ${column}_`),
  ).join(', ')} FROM input('${STRUCTURE}') FORMAT Avro\n`;
}

/** Values of hex digits, 255 elsewhere; upper case has 16 added. */
const HEX = new Uint8Array(256).fill(255);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  HEX[digit.toUpperCase().charCodeAt(0)] = value + 16;
  HEX[digit.charCodeAt(0)] = value;
}
for (let value = 0; value < 10; value++) HEX[48 + value] = value;

const LIVE = Buffer.from('live');
const SUBMITTED = Buffer.from('submitted');
const HOUR_S = 3600;
/** Of the container's block: count and size, at most. */
const BLOCK_HEAD_BYTES = 20;
/** Length of the identity and what a verdict's has besides, bucket, rank, decimal. */
const APPENDED_BYTES = 16 + 8 + 16 + 16;

/** What of the common fields the last walk found; one for all, since a walk is used up before the next. */
const starts = new Int32Array(FIELDS.length);
const ends = new Int32Array(FIELDS.length);
const values = new Float64Array(FIELDS.length);
/** Bits that no ASCII byte of four has. */
const BEYOND_ASCII = 0x8080_8080 | 0;

let longValue = 0;
/** Reads a zigzag varint into `longValue`. @returns its length, or 0 where it is longer than 2^53 needs, ends with a zero that says nothing, or behind the bytes */
function longLength(bytes: Buffer, at: number): number {
  let value = 0;
  let scale = 1;
  let length = 0;
  let byte: number;
  do {
    byte = bytes[at + length++]!;
    value += (byte & 0x7f) * scale;
    scale *= 128;
  } while (byte >= 0x80 && length < 8);
  if (!(byte < 0x80) || (byte === 0 && length > 1)) return 0;
  const half = Math.floor(value / 2);
  longValue = half * 2 === value ? half : -half - 1;
  return length;
}

/**
 * Walks over a body of the current schema.
 * @param bytes - hold it from `start` to `end`
 * @param view - on the same
 * @returns false where it is not exactly one record in the one way that it is encoded
 */
function walk(bytes: Buffer, view: DataView, start: number, end: number): boolean {
  let at = start;
  for (let i = 0; i < CODES.length; i++) {
    const code = CODES[i]!;
    if (code <= LONG) {
      let value: number;
      const first = bytes[at]!;
      const second = bytes[at + 1]!;
      if (first < 0x80) {
        value = (first >>> 1) ^ -(first & 1);
        at += 1;
      } else if (second < 0x80 && second > 0) {
        const two = (first & 0x7f) | (second << 7);
        value = (two >>> 1) ^ -(two & 1);
        at += 2;
      } else {
        const length = longLength(bytes, at);
        if (length === 0) return false;
        value = longValue;
        at += length;
      }
      if (code === LONG) {
        values[i] = value;
        continue;
      }
      const textEnd = at + value;
      if (value < 0 || !(textEnd <= end)) return false;
      starts[i] = at;
      ends[i] = textEnd;
      let high = 0;
      let p = at;
      for (; p + 4 <= textEnd; p += 4) high |= view.getInt32(p, true);
      for (; p < textEnd; p++) high |= bytes[p]!;
      if ((high & BEYOND_ASCII) !== 0 && !isUtf8(bytes.subarray(at, textEnd))) return false;
      at = textEnd;
    } else if (code === DOUBLE) {
      if (at + 8 > end) return false;
      values[i] = view.getFloat64(at, true);
      at += 8;
    } else {
      const byte = bytes[at++];
      if (byte !== 0 && byte !== 1) return false;
      values[i] = byte;
    }
  }
  return at === end;
}

function isText(body: Buffer, field: number, text: Buffer): boolean {
  const start = starts[field]!;
  if (ends[field]! - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (body[start + i] !== text[i]) return false;
  return true;
}

/** 64 lower-case hex digits. */
function isHash(body: Buffer, field: number): boolean {
  const start = starts[field]!;
  if (ends[field]! - start !== 64) return false;
  let worst = 0;
  for (let i = start; i < start + 64; i++) worst |= HEX[body[i]!]!;
  return worst < 16;
}

/** The number that 8 hex digits are, or -1. */
function hex8(body: Buffer, field: number): number {
  const start = starts[field]!;
  if (ends[field]! - start !== 8) return -1;
  let value = 0;
  for (let i = start; i < start + 8; i++) {
    const digit = HEX[body[i]!]!;
    if (digit === 255) return -1;
    value = value * 16 + (digit & 15);
  }
  return value;
}

/** As `sharePipeline.wrong` asks, of an accepted submission that was walked over. */
function holds(body: Buffer): boolean {
  const timeUs = values[TIME_US]!;
  return (
    values[ACCEPTED] === 1 &&
    isText(body, KIND, SUBMITTED) &&
    Math.abs(values[ERRN]!) < 2 ** 31 &&
    ends[ORIGIN]! > starts[ORIGIN]! &&
    timeUs >= 0 &&
    timeUs < 2 ** 32 * 1e6 &&
    values[TIME_NS]! >= 0 &&
    values[TIME_NS]! <= 999 &&
    values[CLIENT_ID]! >= 0 &&
    // The largest that avsc takes.
    values[CLIENT_ID]! < Number.MAX_SAFE_INTEGER &&
    values[HEIGHT]! >= 0 &&
    values[HEIGHT]! <= 0xffff_ffff &&
    values[DIFF]! >= 0 &&
    values[DIFF]! < 1e20 &&
    Number.isFinite(values[SDIFF]!) &&
    isHash(body, HASH) &&
    (starts[BLOCK_HASH] === ends[BLOCK_HASH] || isHash(body, BLOCK_HASH))
  );
}

const UNITS_KEPT = 4096;
/** Decimals of difficulties seen: pools use few. */
const unitsOf = new Map<number, Buffer>();

function unitsBytes(diff: number): Buffer {
  let bytes = unitsOf.get(diff);
  if (bytes === undefined) {
    const units = unitsFromDouble(diff);
    bytes = Buffer.allocUnsafe(16);
    bytes.writeBigUInt64BE(units >> 64n, 0);
    bytes.writeBigUInt64BE(units & 0xffff_ffff_ffff_ffffn, 8);
    if (unitsOf.size >= UNITS_KEPT) unitsOf.clear();
    unitsOf.set(diff, bytes);
  }
  return bytes;
}

/** An origin's hour. */
export interface Bucket {
  readonly origin: string;
  readonly bucketS: number;
}

/** An origin's minute and an hour in which some of its shares lie. */
export interface BucketMinute extends Bucket {
  readonly minuteS: number;
}

/** Which shares are wanted. @param bucketS - the share's hour @param timeUs - of receipt */
export type TakesShare = (bucketS: number, timeUs: number) => boolean;

/** Holds the head, and the batch of a small pool. */
const FIRST_BYTES = 64 * 1024;
/** So many tell how long the others will be. */
const FORESEEING_SHARES = 4_096;
/** Memory of large files that are in ClickHouse, for the next: a page that is touched first costs as much as what is written to it. */
const spares: Buffer[] = [];
const MOST_SPARES = 2;
/** Of its memory a file must have used so much, else what follows is small as well and the memory is given back. */
const SPARE_PART = 1 / 8;
const FIRST_SUBMISSIONS = 128;
const NOTHING = Buffer.alloc(0);
/** Numbers kept of each submission. */
const SLOT = 5;

export class ShareFile {
  #bytes: Buffer;
  #view: DataView;
  #at: number;
  readonly #bodyStart: number;
  readonly #sync = randomBytes(SYNC_BYTES);
  #count = 0;
  #finished: Buffer | null = null;
  readonly #most: number;
  readonly #takes: TakesShare | null;
  readonly #minutes = new Map<string, BucketMinute>();
  readonly #buckets = new Map<string, number>();
  readonly #bucketList: Bucket[] = [];
  /** Of each submission: which bucket, two halves of its hash, where its identity lies in the bytes and how long it is. */
  #found = new Int32Array(FIRST_SUBMISSIONS * SLOT);
  #submissions = 0;
  #lastOrigin = Buffer.alloc(0);
  #lastOriginText = '';
  #lastBucketS = -1;
  #lastMinuteS = -1;
  #lastBucket = 0;

  /** @param most - shares that it will hold at most @param takes - null: all */
  constructor(most: number, takes: TakesShare | null = null) {
    const head = encodeHead(new Map([['avro.schema', FILE_SCHEMA], ['avro.codec', 'null']]), this.#sync); // biome-ignore format: pairs
    this.#most = most;
    this.#takes = takes;
    // Grows: a live batch has a few shares, one that catches up as many as it may have.
    this.#bytes = spares.pop() ?? Buffer.allocUnsafe(FIRST_BYTES);
    this.#view = viewOf(this.#bytes);
    this.#bytes.set(head, 0);
    this.#bodyStart = head.length + BLOCK_HEAD_BYTES;
    this.#at = this.#bodyStart;
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Takes a body in without decoding it, or passes over it where it is not wanted.
   * @returns false where it has to be decoded: then nothing was taken in
   */
  addPlain(fingerprint: string, body: Buffer): boolean {
    if (fingerprint !== FINGERPRINT || !this.#take(body) || !holds(this.#bytes)) return false;
    const ntime = hex8(this.#bytes, NTIME);
    if (ntime < 0) return false;
    const hourS = ntime - (ntime % HOUR_S);
    // One that is not wanted is written over by the next.
    if (this.#takes === null || this.#takes(hourS, values[TIME_US]!)) this.#add(body.length, '', hourS, true);
    return true;
  }

  /** Takes a decoded share in, or passes over it where it is not wanted. @returns why it is poison, or null */
  add(event: ShareEvent): string | null {
    const wrong = sharePipeline.wrong(event);
    if (wrong !== null) return wrong;
    if (this.#takes !== null && !this.#takes(bucketS(event), event.time_us)) return null;
    const body = encodeEvent('share', event);
    if (!this.#take(body)) return 'not encodable by its schema';
    const identity = shareIdentity(event);
    this.#add(body.length, identity === event.hash ? '' : identity, bucketS(event), event.kind === 'submitted');
    return null;
  }

  /** Copies a body to where the next begins, and walks over it there. @returns as `walk` */
  #take(body: Buffer): boolean {
    if (this.#count >= this.#most) throw new RangeError(`a file of at most ${this.#most} shares is full`);
    this.#reserve(body.length);
    body.copy(this.#bytes, this.#at);
    return walk(this.#bytes, this.#view, this.#at, this.#at + body.length);
  }

  /** Makes room for a body so long and what is behind it, an identity as long as the body included. */
  #reserve(length: number): void {
    const needed = this.#at + length * 2 + APPENDED_BYTES + SYNC_BYTES;
    if (needed <= this.#bytes.length) return;
    // A large file grows once more, to what it will need if it becomes full.
    const foreseen = this.#count < FORESEEING_SHARES ? 0 : Math.ceil((this.#at / this.#count) * this.#most * 1.02);
    const larger = Buffer.allocUnsafe(Math.max(needed, foreseen === 0 ? this.#bytes.length * 2 : foreseen));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
    this.#view = viewOf(larger);
  }

  /** Keeps the body that was walked over last, and puts behind it what a row needs besides. */
  #add(length: number, identity: string, bucketS: number, submitted: boolean): void {
    const bytes = this.#bytes;
    const bodyAt = this.#at;
    let at = bodyAt + length;
    let identityAt = starts[HASH]!;
    let identityLength = ends[HASH]! - starts[HASH]!;
    if (identity === '') bytes[at++] = 0;
    else {
      identityLength = Buffer.byteLength(identity);
      at = writeLong(bytes, at, identityLength);
      identityAt = at;
      at += bytes.write(identity, at, 'utf8');
    }
    at = writeLong(bytes, at, bucketS);
    const timeUs = values[TIME_US]!;
    const digest = copyDigest(this.#view, bodyAt, bodyAt + length, values[HEIGHT]!);
    at = writeRank(bytes, at, isText(bytes, SOURCE, LIVE) ? 1 : 0, timeUs, values[TIME_NS]!, digest);
    const units = unitsBytes(values[DIFF]!);
    for (let i = 0; i < 16; i++) bytes[at + i] = units[i]!;
    this.#at = at + 16;
    this.#count++;
    const bucket = this.#place(bucketS, Math.floor(timeUs / 60e6) * 60);
    if (!submitted) return;
    const slot = this.#submissions++ * SLOT;
    if (slot === this.#found.length) {
      const larger = new Int32Array(this.#found.length * 2);
      larger.set(this.#found);
      this.#found = larger;
    }
    const found = this.#found;
    found[slot] = bucket;
    // The last digits: the first of a proof of work are zeros.
    const end = identityAt + identityLength;
    found[slot + 1] = last8(bytes, end - 8);
    found[slot + 2] = last8(bytes, end - 16);
    found[slot + 3] = identityAt;
    found[slot + 4] = identityLength;
  }

  /** Notes bucket and minute. @returns the number of the bucket */
  #place(bucketS: number, minuteS: number): number {
    if (!isText(this.#bytes, ORIGIN, this.#lastOrigin)) {
      this.#lastOrigin = Buffer.from(this.#bytes.subarray(starts[ORIGIN], ends[ORIGIN]));
      this.#lastOriginText = this.#lastOrigin.toString('utf8');
      this.#lastBucketS = -1;
    }
    if (bucketS === this.#lastBucketS && minuteS === this.#lastMinuteS) return this.#lastBucket;
    const origin = this.#lastOriginText;
    const key = `${origin}/${bucketS}`;
    let number = this.#buckets.get(key);
    if (number === undefined) {
      number = this.#bucketList.length;
      this.#buckets.set(key, number);
      this.#bucketList.push({ origin, bucketS });
    }
    const minuteKey = `${key}/${minuteS}`;
    if (!this.#minutes.has(minuteKey)) this.#minutes.set(minuteKey, { origin, bucketS, minuteS });
    this.#lastBucketS = bucketS;
    this.#lastMinuteS = minuteS;
    this.#lastBucket = number;
    return number;
  }

  /** Ends the block. @returns the file; nothing is added after that */
  finish(): Buffer {
    if (this.#finished !== null) return this.#finished;
    const size = this.#at - this.#bodyStart;
    // The block's head is as long as its numbers are: the container's head moves up to it.
    const blockHead = Buffer.allocUnsafe(BLOCK_HEAD_BYTES);
    const blockHeadLength = writeLong(blockHead, writeLong(blockHead, 0, this.#count), size);
    const blockAt = this.#bodyStart - blockHeadLength;
    const headLength = this.#bodyStart - BLOCK_HEAD_BYTES;
    this.#bytes.copyWithin(blockAt - headLength, 0, headLength);
    blockHead.copy(this.#bytes, blockAt, 0, blockHeadLength);
    this.#sync.copy(this.#bytes, this.#at);
    this.#finished = this.#bytes.subarray(blockAt - headLength, this.#at + SYNC_BYTES);
    return this.#finished;
  }

  /** Nobody reads the file or asks for a submission any more: its memory is another's. */
  release(): void {
    const used = this.#at / this.#bytes.length;
    if (this.#bytes.length > FIRST_BYTES && used >= SPARE_PART && spares.length < MOST_SPARES) spares.push(this.#bytes);
    this.#bytes = NOTHING;
    this.#finished = NOTHING;
  }

  /** Minutes and the hours in which their shares lie. */
  minutes(): BucketMinute[] {
    return [...this.#minutes.values()];
  }

  buckets(): readonly Bucket[] {
    return this.#bucketList;
  }

  /** Numbers of those submissions for which `wanted` is true, called with the number of the bucket in `buckets()` and 64 bits of the identity. */
  select(wanted: (bucket: number, high: number, low: number) => boolean): number[] {
    const out: number[] = [];
    const found = this.#found;
    for (let i = 0; i < this.#submissions; i++) {
      const slot = i * SLOT;
      if (wanted(found[slot]!, found[slot + 1]!, found[slot + 2]!)) out.push(i);
    }
    return out;
  }

  /** A submission by its number, as `select` gives it. */
  submission(number: number): { readonly bucket: Bucket; readonly identity: string } {
    const slot = number * SLOT;
    const at = this.#found[slot + 3]!;
    return {
      bucket: this.#bucketList[this.#found[slot]!]!,
      identity: this.#bytes.toString('latin1', at, at + this.#found[slot + 4]!),
    };
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** 32 bits that 8 hex digits are. */
function last8(bytes: Buffer, start: number): number {
  let value = 0;
  for (let i = start; i < start + 8; i++) value = (value << 4) | (HEX[bytes[i]!]! & 15);
  return value;
}

/** The number of `rankFrom` (pipelines/row.ts), little-endian, without a bigint. @param digest - 53 bits */
function writeRank(
  bytes: Buffer,
  start: number,
  grade: number,
  timeUs: number,
  timeNs: number,
  digest: number,
): number {
  const digestHigh = Math.floor(digest / 2 ** 32);
  // The last of these four bytes is written again below.
  writeInverted(bytes, start + 4, digestHigh);
  writeInverted(bytes, start, digest - digestHigh * 2 ** 32);
  // time_us · 1000 + time_ns in two halves of 32 bits.
  const usHigh = Math.floor(timeUs / 2 ** 32);
  const low = (timeUs - usHigh * 2 ** 32) * 1000 + timeNs;
  const carry = Math.floor(low / 2 ** 32);
  writeInverted(bytes, start + 7, low - carry * 2 ** 32);
  writeInverted(bytes, start + 11, usHigh * 1000 + carry);
  bytes[start + 15] = grade;
  return start + 16;
}

function writeInverted(bytes: Buffer, at: number, value: number): void {
  const inverted = ~value;
  bytes[at] = inverted & 0xff;
  bytes[at + 1] = (inverted >>> 8) & 0xff;
  bytes[at + 2] = (inverted >>> 16) & 0xff;
  bytes[at + 3] = inverted >>> 24;
}
