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
import { digest52 } from '../../pipelines/shares/digest.ts';
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
/** Identity at most as long as a verdict's, bucket, rank, decimal. */
const APPENDED_BYTES = 10 + 16 + 16 + 2;

/** What of the common fields the last walk found; one for all, since a walk is used up before the next. */
const starts = new Int32Array(FIELDS.length);
const ends = new Int32Array(FIELDS.length);
const values = new Float64Array(FIELDS.length);
const view = new DataView(new ArrayBuffer(8));
const viewBytes = new Uint8Array(view.buffer);

/**
 * Walks over a body of the current schema.
 * @returns false where it is not exactly one record in the one way that it is encoded
 */
function walk(body: Buffer): boolean {
  let at = 0;
  const { length } = body;
  for (let i = 0; i < CODES.length; i++) {
    const code = CODES[i]!;
    if (code <= LONG) {
      let value = 0;
      let scale = 1;
      let byte: number;
      const first = at;
      do {
        byte = body[at++]!;
        value += (byte & 0x7f) * scale;
        scale *= 128;
      } while (byte >= 0x80 && at - first < 8);
      // Longer than 2^53 needs, ended by a zero that says nothing, or behind the end (undefined).
      if (!(byte < 0x80) || (byte === 0 && at - first > 1)) return false;
      value = value % 2 === 0 ? value / 2 : -(value + 1) / 2;
      if (code === LONG) {
        values[i] = value;
        continue;
      }
      if (value < 0 || at + value > length) return false;
      starts[i] = at;
      const end = at + value;
      let high = 0;
      for (let p = at; p < end; p++) high |= body[p]!;
      if (high >= 0x80 && !isUtf8(body.subarray(at, end))) return false;
      at = end;
      ends[i] = at;
    } else if (code === DOUBLE) {
      if (at + 8 > length) return false;
      for (let p = 0; p < 8; p++) viewBytes[p] = body[at + p]!;
      values[i] = view.getFloat64(0, true);
      at += 8;
    } else {
      const byte = body[at++];
      if (byte !== 0 && byte !== 1) return false;
      values[i] = byte;
    }
  }
  return at === length;
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

/** Holds the head, and the batch of a small pool. */
const FIRST_BYTES = 64 * 1024;
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

  /** @param most - shares that it will hold at most */
  constructor(most: number) {
    const head = encodeHead(new Map([['avro.schema', FILE_SCHEMA], ['avro.codec', 'null']]), this.#sync); // biome-ignore format: pairs
    this.#most = most;
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

  /** Takes a body in without decoding it. @returns false where it has to be decoded: then nothing was taken in */
  addPlain(fingerprint: string, body: Buffer): boolean {
    if (fingerprint !== FINGERPRINT || !walk(body) || !holds(body)) return false;
    const ntime = hex8(body, NTIME);
    if (ntime < 0) return false;
    this.#add(body, '', ntime - (ntime % HOUR_S), true);
    return true;
  }

  /** Takes a decoded share in. @returns why it is poison, or null */
  add(event: ShareEvent): string | null {
    const wrong = sharePipeline.wrong(event);
    if (wrong !== null) return wrong;
    const body = encodeEvent('share', event);
    if (!walk(body)) return 'not encodable by its schema';
    const identity = shareIdentity(event);
    this.#add(body, identity === event.hash ? '' : identity, bucketS(event), event.kind === 'submitted');
    return null;
  }

  /** Appends the body that was walked over last. */
  #add(body: Buffer, identity: string, bucketS: number, submitted: boolean): void {
    if (this.#count >= this.#most) throw new RangeError(`a file of at most ${this.#most} shares is full`);
    const needed = this.#at + body.length + identity.length * 3 + APPENDED_BYTES + SYNC_BYTES;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#at);
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    const bytes = this.#bytes;
    const bodyAt = this.#at;
    body.copy(bytes, bodyAt);
    let at = bodyAt + body.length;
    let identityAt = bodyAt + starts[HASH]!;
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
    const digest = digest52(this.#view, bodyAt, bodyAt + body.length);
    at = writeRank(bytes, at, isText(body, SOURCE, LIVE) ? 1 : 0, timeUs, values[TIME_NS]!, digest);
    const units = unitsBytes(values[DIFF]!);
    for (let i = 0; i < 16; i++) bytes[at + i] = units[i]!;
    this.#at = at + 16;
    this.#count++;
    const bucket = this.#place(body, bucketS, Math.floor(timeUs / 60e6) * 60);
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
  #place(body: Buffer, bucketS: number, minuteS: number): number {
    if (!isText(body, ORIGIN, this.#lastOrigin)) {
      this.#lastOrigin = Buffer.from(body.subarray(starts[ORIGIN], ends[ORIGIN]));
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

/** The number of `rankFrom` (pipelines/row.ts), little-endian, without a bigint. @param digest - 52 bits */
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
