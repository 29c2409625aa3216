/**
 * Records as the bytes of a Kafka record batch (magic 2), written straight from the bytes of the journal: no object per record.
 * kafkajs makes five encoders of each record, which is most of what it costs (see the bench in README.md).
 *
 * Source: Kafka's documentation, "Message Format"; its clients' Utils.murmur2 for the partition of a key.
 *
 *     batch    base offset 8 · length 4 · leader epoch 4 · magic 1 · CRC-32C 4 · attributes 2 · last offset delta 4 · first and max timestamp 8 8 ·
 *              producer id 8 · producer epoch 2 · base sequence 4 · count 4 · records (compressed as one, where they are)
 *     record   length varint · attributes 1 · timestamp delta varlong · offset delta varint · key · value · headers, each with a varint length
 */

/** Bytes of a batch before its records. */
const BATCH_HEAD_BYTES = 61;
const LENGTH_AT = 8;
const EPOCH_AT = 12;
const CRC_AT = 17;
const ATTRIBUTES_AT = 21;
const MAGIC = 2;
/** A record's bytes besides key, value and headers: varints, the attributes and the value's head. */
const RECORD_FRAME_BYTES = 40;

/** Tables of the reflected polynomial 0x82F63B78 (RFC 3720, appendix B.4) for eight bytes at a time. */
const CRC_TABLES = (() => {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    tables[0]![byte] = crc;
  }
  for (let byte = 0; byte < 256; byte++) {
    let crc = tables[0]![byte]!;
    for (let i = 1; i < 8; i++) {
      crc = (crc >>> 8) ^ tables[0]![crc & 0xff]!;
      tables[i]![byte] = crc;
    }
  }
  return tables;
})();

/**
 * CRC-32C of a range of bytes.
 * @returns unsigned 32 bits; of the ASCII digits 123456789 it is e3069283
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = CRC_TABLES;
  let crc = -1;
  let at = start;
  for (const last = end - 7; at < last; at += 8) {
    const low = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    crc =
      t7![low & 0xff]! ^
      t6![(low >>> 8) & 0xff]! ^
      t5![(low >>> 16) & 0xff]! ^
      t4![low >>> 24]! ^
      t3![bytes[at + 4]!]! ^
      t2![bytes[at + 5]!]! ^
      t1![bytes[at + 6]!]! ^
      t0![bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ t0![(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

const MURMUR_SEED = 0x9747b28c;
const MURMUR_M = 0x5bd1e995;

/** Kafka's murmur2 of a range of bytes, as a signed 32-bit integer. */
export function murmur2(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const length = end - start;
  let h = MURMUR_SEED ^ length;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    let k = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    k = Math.imul(k, MURMUR_M);
    k = Math.imul(k ^ (k >>> 24), MURMUR_M);
    h = Math.imul(h, MURMUR_M) ^ k;
  }
  const rest = end - at;
  if (rest >= 3) h ^= bytes[at + 2]! << 16;
  if (rest >= 2) h ^= bytes[at + 1]! << 8;
  if (rest >= 1) h = Math.imul(h ^ bytes[at]!, MURMUR_M);
  h = Math.imul(h ^ (h >>> 13), MURMUR_M);
  return h ^ (h >>> 15);
}

/** The partition that Java's and kafkajs' default partitioners choose for a key. */
export function partitionOfKey(bytes: Uint8Array, start: number, end: number, partitions: number): number {
  return (murmur2(bytes, start, end) & 0x7fffffff) % partitions;
}

/** Writes a zigzag varint of a whole number, 0 <= value < 2^30. @returns the position behind it */
function writeVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value * 2;
  while (rest >= 0x80) {
    out[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[at++] = rest;
  return at;
}

function varintBytes(value: number): number {
  return value < 64 ? 1 : value < 8192 ? 2 : value < 1_048_576 ? 3 : value < 134_217_728 ? 4 : 5;
}

/** A header of a record as bytes: name and value, each behind its length. */
export function headerBytes(name: string, value: string): Buffer {
  const parts = [Buffer.from(name), Buffer.from(value)];
  const out = Buffer.alloc(parts[0]!.length + parts[1]!.length + 10);
  let at = 0;
  for (const part of parts) {
    at = writeVarint(out, at, part.length);
    out.set(part, at);
    at += part.length;
  }
  return out.subarray(0, at);
}

const SEQUENCE_HEADER = (() => {
  const name = Buffer.from('sequence');
  return Buffer.from([name.length * 2, ...name]);
})();
const DIGITS_ZERO = 48;

/** What a batch of records costs at most, so that its buffer is made once. */
export function recordBytesAtMost(keyBytes: number, bodyBytes: number, placeBytes: number): number {
  return RECORD_FRAME_BYTES + keyBytes + bodyBytes + placeBytes + SEQUENCE_HEADER.length + 17;
}

/** Records of one partition on their way into one batch. */
export class BatchWriter {
  #bytes: Buffer;
  #at = BATCH_HEAD_BYTES;
  #count = 0;

  /** @param capacity - sum of `recordBytesAtMost` of what will be added */
  constructor(capacity: number) {
    this.#bytes = Buffer.allocUnsafe(BATCH_HEAD_BYTES + capacity);
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Adds a record: a value in two parts, and its place in the journal as three headers.
   * @param keys - holds the key from keyStart to keyEnd
   * @param place - headers `instance` and `run` as bytes
   * @param sequence - a whole number; -1: no headers at all
   */
  add(
    keys: Uint8Array,
    keyStart: number,
    keyEnd: number,
    head: Uint8Array,
    body: Uint8Array,
    place: Uint8Array,
    sequence: number,
  ): void {
    const keyBytes = keyEnd - keyStart;
    const valueBytes = head.length + body.length;
    const digits = sequence < 0 ? 0 : decimalDigits(sequence);
    const headersBytes = sequence < 0 ? 0 : place.length + SEQUENCE_HEADER.length + 1 + digits;
    const delta = this.#count++;
    const size =
      2 +
      varintBytes(delta) +
      varintBytes(keyBytes) +
      keyBytes +
      varintBytes(valueBytes) +
      valueBytes +
      1 +
      headersBytes;
    const out = this.#bytes;
    let at = writeVarint(out, this.#at, size);
    out[at++] = 0;
    out[at++] = 0;
    at = writeVarint(out, at, delta);
    at = writeVarint(out, at, keyBytes);
    // Faster than `set` of a view for what is this short.
    for (let i = keyStart; i < keyEnd; i++) out[at++] = keys[i]!;
    at = writeVarint(out, at, valueBytes);
    for (let i = 0; i < head.length; i++) out[at++] = head[i]!;
    out.set(body, at);
    at += body.length;
    out[at++] = sequence < 0 ? 0 : 3 * 2;
    if (sequence >= 0) {
      for (let i = 0; i < place.length; i++) out[at++] = place[i]!;
      for (let i = 0; i < SEQUENCE_HEADER.length; i++) out[at++] = SEQUENCE_HEADER[i]!;
      out[at++] = digits * 2;
      let rest = sequence;
      for (let i = at + digits - 1; i >= at; i--) {
        const tenth = Math.floor(rest / 10);
        out[i] = DIGITS_ZERO + (rest - tenth * 10);
        rest = tenth;
      }
      at += digits;
    }
    this.#at = at;
  }

  /** The records alone, to be compressed as one. */
  records(): Buffer {
    return this.#bytes.subarray(BATCH_HEAD_BYTES, this.#at);
  }

  /**
   * The whole batch.
   * @param timeMs - creation time of its records, milliseconds since 1970 UTC
   * @param compressed - the records compressed, with Kafka's number of the codec
   */
  batch(timeMs: number, compressed?: { readonly codec: number; readonly bytes: Uint8Array }): Buffer {
    let out = this.#bytes.subarray(0, this.#at);
    if (compressed !== undefined) {
      out = Buffer.allocUnsafe(BATCH_HEAD_BYTES + compressed.bytes.length);
      out.set(compressed.bytes, BATCH_HEAD_BYTES);
    }
    out.writeBigInt64BE(0n, 0);
    out.writeInt32BE(out.length - EPOCH_AT, LENGTH_AT);
    out.writeInt32BE(0, EPOCH_AT);
    out[EPOCH_AT + 4] = MAGIC;
    out.writeInt16BE(compressed?.codec ?? 0, ATTRIBUTES_AT);
    out.writeInt32BE(this.#count - 1, ATTRIBUTES_AT + 2);
    out.writeBigInt64BE(BigInt(timeMs), ATTRIBUTES_AT + 6);
    out.writeBigInt64BE(BigInt(timeMs), ATTRIBUTES_AT + 14);
    // No producer id: see "Why it is so" in README.md on the idempotent producer.
    out.writeBigInt64BE(-1n, ATTRIBUTES_AT + 22);
    out.writeInt16BE(-1, ATTRIBUTES_AT + 30);
    out.writeInt32BE(-1, ATTRIBUTES_AT + 32);
    out.writeInt32BE(this.#count, ATTRIBUTES_AT + 36);
    out.writeUInt32BE(crc32c(out, ATTRIBUTES_AT, out.length), CRC_AT);
    return out;
  }
}

function decimalDigits(value: number): number {
  let digits = 1;
  for (let limit = 10; value >= limit; limit *= 10) digits++;
  return digits;
}
