/**
 * Shares as one Avro file for ClickHouse: the bodies of the journal as they are, with what a row needs besides appended to each.
 *
 *   body by the current schema, nothing unusual ───────────────────────────────► copied
 *   another schema or kind, odd bytes ─► decode ─► poison? ─► encode ─► look at ─► copied
 *
 * The rows are those of `sharePipeline` (a test compares them over random and edge events); SQL only renames. A common share is walked
 * over once, byte by byte, and neither decoded nor turned into strings; of a refused one the identity is made from its bytes.
 */

import { isUtf8 } from 'node:buffer';
import { hash, randomBytes } from 'node:crypto';
import { unitsFromDouble } from '../../pipelines/shares/decimal.ts';
import { copyDigest } from '../../pipelines/shares/digest.ts';
import { bucketS, sharePipeline } from '../../pipelines/shares/shares.ts';
import { currentSchema, currentSchemaText, encodeEvent } from '../../schemas/codec.ts';
import type { ShareEvent } from '../../schemas/events.ts';
import { createdate, shareIdentity } from '../../schemas/identity.ts';
import { encodeHead, SYNC_BYTES, writeLong } from '../core/log/container.ts';
import { readLong, recordWalk } from '../core/log/flat-record.ts';

const { fields: FIELDS, starts, ends, numbers, walk } = recordWalk(currentSchemaText('share'))!;
const { fingerprint: FINGERPRINT } = currentSchema('share');
const isTextField = (i: number): boolean => FIELDS[i]?.type === 'string';
/** First and last of each row of texts that lie one behind the other. */
const FIRST_TEXTS = Int32Array.from(FIELDS.keys().filter((i) => isTextField(i) && !isTextField(i - 1)));
const LAST_TEXTS = Int32Array.from(FIELDS.keys().filter((i) => isTextField(i) && !isTextField(i + 1)));

const NAMED = numbers([
  ...(['kind', 'origin', 'source', 'time_us', 'time_ns', 'client_id', 'height', 'accepted', 'errn'] as const),
  ...(['diff', 'sdiff', 'hash', 'block_hash', 'enonce1', 'nonce2', 'nonce', 'ntime', 'upstream'] as const),
])!;
const { kind: KIND, origin: ORIGIN, source: SOURCE, time_us: TIME_US, time_ns: TIME_NS, client_id: CLIENT_ID } = NAMED;
const { height: HEIGHT, accepted: ACCEPTED, errn: ERRN, diff: DIFF, sdiff: SDIFF, hash: HASH } = NAMED;
const {
  block_hash: BLOCK_HASH,
  enonce1: ENONCE1,
  nonce2: NONCE2,
  nonce: NONCE,
  ntime: NTIME,
  upstream: UPSTREAM,
} = NAMED;

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
const VERDICT = Buffer.from('verdict');
const HOUR_S = 3600;
/** Of the container's block: count and size, at most. */
const BLOCK_HEAD_BYTES = 20;
/** Length of the identity and what a verdict's has besides, bucket, rank, decimal. */
const APPENDED_BYTES = 16 + 8 + 16 + 16;

/** Numbers of the body that was walked over last; one for all, since a walk is used up before the next. */
let timeUs = 0;
let timeNs = 0;
let height = 0;
let diff = 0;
/** Bits that no ASCII byte of four has. */
const BEYOND_ASCII = 0x8080_8080 | 0;

/**
 * Walks over a body of the current schema.
 * @param bytes - hold it from `start` to `end`
 * @param view - on the same
 * @returns false where it is not exactly one record in the one way that it is encoded
 */
function walked(bytes: Buffer, view: DataView, start: number, end: number): boolean {
  if (walk(bytes, start, end) !== end) return false;
  for (let i = 0; i < FIRST_TEXTS.length; i++) {
    const rowEnd = ends[LAST_TEXTS[i]!]!;
    let at = starts[FIRST_TEXTS[i]!]!;
    let high = 0;
    // Lengths are mostly ASCII too.
    for (; at + 4 <= rowEnd; at += 4) high |= view.getInt32(at, true);
    for (; at < rowEnd; at++) high |= bytes[at]!;
    if ((high & BEYOND_ASCII) !== 0 && !areTexts(bytes, FIRST_TEXTS[i]!, LAST_TEXTS[i]!)) return false;
  }
  timeUs = readLong(bytes, starts[TIME_US]!);
  timeNs = readLong(bytes, starts[TIME_NS]!);
  height = readLong(bytes, starts[HEIGHT]!);
  diff = view.getFloat64(starts[DIFF]!, true);
  return true;
}

/** True where each of these fields is UTF-8. */
function areTexts(bytes: Buffer, first: number, last: number): boolean {
  for (let i = first; i <= last; i++) if (!isUtf8(bytes.subarray(starts[i]!, ends[i]!))) return false;
  return true;
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

/** As `sharePipeline.wrong` asks of what every share must have, of the one that was walked over. */
function holds(body: Buffer, view: DataView): boolean {
  const clientId = readLong(body, starts[CLIENT_ID]!);
  return (
    Math.abs(readLong(body, starts[ERRN]!)) < 2 ** 31 &&
    ends[ORIGIN]! > starts[ORIGIN]! &&
    timeUs >= 0 &&
    timeUs < 2 ** 32 * 1e6 &&
    timeNs >= 0 &&
    timeNs <= 999 &&
    clientId >= 0 &&
    // The largest that avsc takes.
    clientId < Number.MAX_SAFE_INTEGER &&
    height >= 0 &&
    height <= 0xffff_ffff &&
    diff >= 0 &&
    diff < 1e20 &&
    Number.isFinite(view.getFloat64(starts[SDIFF]!, true)) &&
    (starts[BLOCK_HASH] === ends[BLOCK_HASH] || isHash(body, BLOCK_HASH))
  );
}

/** Holds what a refused share's identity is made of, where its texts have their usual length. */
const identityText = Buffer.alloc(512);
const PARTS_OF_IDENTITY = [ENONCE1, NONCE2, NONCE, NTIME];
const BAR = 0x7c;

/** As `shareIdentity` of a refused share that was walked over; null where its texts are too long for this or no ASCII. */
function refusedIdentity(body: Buffer): string | null {
  let at = 0;
  for (const field of PARTS_OF_IDENTITY) {
    const end = ends[field]!;
    if (at + end - starts[field]! > identityText.length / 2) return null;
    for (let i = starts[field]!; i < end; i++) {
      const byte = body[i]!;
      if (byte >= 0x80) return null;
      identityText[at++] = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
    }
    identityText[at++] = BAR;
  }
  at += identityText.write(`${readLong(body, starts[ERRN]!)}|${createdate(timeUs, timeNs)}`, at, 'latin1');
  return hash('sha256', identityText.subarray(0, at), 'hex').slice(0, 32);
}

/** As `shareIdentity` of a verdict that was walked over. */
function verdictIdentity(body: Buffer): string {
  const hashText = body.toString('latin1', starts[HASH], ends[HASH]);
  return `verdict:${hashText}:${body.toString('utf8', starts[UPSTREAM], ends[UPSTREAM])}`;
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
    if (fingerprint !== FINGERPRINT || !this.#take(body)) return false;
    const bytes = this.#bytes;
    const submitted = isText(bytes, KIND, SUBMITTED);
    if (!holds(bytes, this.#view) || !(submitted || isText(bytes, KIND, VERDICT))) return false;
    const refused = submitted && bytes[starts[ACCEPTED]!] === 0;
    const hashed = isHash(bytes, HASH);
    if (!hashed && !(refused && starts[HASH] === ends[HASH])) return false;
    // The hour: of what has a proof that of its ntime, else that of its receipt.
    const seconds = refused ? Math.floor(timeUs / 1e6) : hex8(bytes, NTIME);
    if (seconds < 0) return false;
    const hourS = seconds - (seconds % HOUR_S);
    // One that is not wanted is written over by the next.
    if (this.#takes !== null && !this.#takes(hourS, timeUs)) return true;
    const identity = refused ? refusedIdentity(bytes) : submitted ? '' : verdictIdentity(bytes);
    if (identity === null) return false;
    this.#add(body.length, identity, hourS, submitted);
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

  /** Copies a body to where the next begins, and walks over it there. @returns as `walked` */
  #take(body: Buffer): boolean {
    if (this.#count >= this.#most) throw new RangeError(`a file of at most ${this.#most} shares is full`);
    this.#reserve(body.length);
    body.copy(this.#bytes, this.#at);
    return walked(this.#bytes, this.#view, this.#at, this.#at + body.length);
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
    const digest = copyDigest(this.#view, bodyAt, bodyAt + length, height);
    at = writeRank(bytes, at, isText(bytes, SOURCE, LIVE) ? 1 : 0, timeUs, timeNs, digest);
    const units = unitsBytes(diff);
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
