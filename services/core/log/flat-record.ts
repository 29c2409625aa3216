/**
 * Where the fields of an encoded record lie, without decoding it: for records of primitive fields alone, as shares are. Whoever wants a few
 * fields of very many records walks over them here: the journal's readers (where one record ends and the next begins), the relay (a share's
 * key), the consumers (a share as a row), the daemon at its start (shares that were accepted before).
 *
 * A walk knows the one way in which our writers encode a value. What is encoded otherwise, which Avro allows, it leaves to its caller, who decodes.
 *
 * Source: Apache Avro specification 1.11, "Binary Encoding".
 *
 *     string, bytes   length (zigzag varint), so many bytes       boolean   one byte, 0 or 1       null     nothing
 *     int, long       zigzag varint                               float     four bytes             double   eight bytes
 */

const LENGTH_AND_BYTES = -1;
const VARINT = -2;
const BOOLEAN = -3;
/** By type: bytes of the value, or one of these. */
const KINDS: ReadonlyMap<unknown, number> = new Map([
  ['null', 0],
  ['boolean', BOOLEAN],
  ['int', VARINT],
  ['long', VARINT],
  ['float', 4],
  ['double', 8],
  ['bytes', LENGTH_AND_BYTES],
  ['string', LENGTH_AND_BYTES],
]);
/** Of a varint up to 2^53, zigzag. */
const MAX_VARINT_BYTES = 8;

export interface RecordField {
  readonly name: string;
  readonly type: string;
}

/** A walk over the records of one schema; what it found stands until its next walk. */
export interface RecordWalk {
  readonly fields: readonly RecordField[];
  /** By field, where its value begins in the bytes: of a text its first byte, behind the length. */
  readonly starts: Int32Array;
  /** By field that is a text or bytes, the place behind its value. */
  readonly ends: Int32Array;
  /** Numbers of fields by their names; null where the schema lacks one. */
  numbers<N extends string>(names: readonly N[]): Readonly<Record<N, number>> | null;
  /**
   * Walks over some fields of a record.
   *
   * @param bytes - hold the record from `start` to before `end`, or more than it
   * @param start - where field `from` begins
   * @param from - first field, default 0
   * @param to - behind the last field, default all
   * @returns the place behind the last field; -1 where the bytes end before, or are not as our writers encode
   */
  walk(bytes: Uint8Array, start: number, end: number, from?: number, to?: number): number;
}

/** The walk of a schema; null where it is no record of primitive fields alone. */
export function recordWalk(schemaText: string): RecordWalk | null {
  const { type, fields } = JSON.parse(schemaText) as { type?: unknown; fields?: readonly RecordField[] };
  if (type !== 'record' || !Array.isArray(fields)) return null;
  const found = fields.map((field) => KINDS.get(field.type) ?? null);
  if (found.includes(null)) return null;
  const kinds = Int8Array.from(found as number[]);
  const starts = new Int32Array(kinds.length);
  const ends = new Int32Array(kinds.length);

  function walk(bytes: Uint8Array, start: number, end: number, from = 0, to = kinds.length): number {
    let at = start;
    for (let i = from; i < to; i++) {
      const kind = kinds[i]!;
      if (kind === LENGTH_AND_BYTES) {
        const first = bytes[at]!;
        const second = first < 0x80 ? 0 : bytes[at + 1]!;
        let length: number;
        // A length below 64 is one byte, and even; below 8192 two, as that of a hash.
        if (first < 0x80) {
          at += 1;
          length = first;
        } else if (second < 0x80 && second > 0) {
          at += 2;
          length = (first & 0x7f) | (second << 7);
        } else {
          const behind = behindVarint(bytes, at);
          if (behind < 0) return -1;
          length = readLong(bytes, at) * 2;
          if (length > (end - behind) * 2) return -1;
          at = behind;
        }
        if ((length & 1) !== 0 || length < 0) return -1;
        starts[i] = at;
        at += length >>> 1;
        ends[i] = at;
      } else if (kind === VARINT) {
        starts[i] = at;
        let byte = bytes[at++]!;
        if (byte >= 0x80) {
          do byte = bytes[at++]!;
          while (byte >= 0x80);
          if (byte === 0) return -1;
        }
      } else if (kind === BOOLEAN) {
        starts[i] = at;
        if (bytes[at]! > 1) return -1;
        at += 1;
      } else {
        starts[i] = at;
        at += kind;
      }
    }
    // Places only rise, and what is read behind the bytes is no number: one look at the end is enough.
    return at <= end ? at : -1;
  }

  function numbers<N extends string>(names: readonly N[]): Readonly<Record<N, number>> | null {
    const pairs = names.map((name) => [name, fields!.findIndex((field) => field.name === name)] as const);
    return pairs.some(([, number]) => number < 0) ? null : (Object.fromEntries(pairs) as Record<N, number>);
  }

  return { fields, starts, ends, numbers, walk };
}

/** The place behind a varint; -1 where it is longer than 2^53 needs, ends with a byte that says nothing, or runs over the bytes. */
function behindVarint(bytes: Uint8Array, start: number): number {
  for (let at = start; at < start + MAX_VARINT_BYTES; at++) {
    const byte = bytes[at]!;
    if (byte < 0x80) return byte === 0 && at > start ? -1 : at + 1;
    if (!(byte >= 0x80)) return -1;
  }
  return -1;
}

/** The number that a zigzag varint is, which a walk has found whole; exact from -2^53 to 2^53. */
export function readLong(bytes: Uint8Array, start: number): number {
  const first = bytes[start]!;
  // The lowest bit is the sign.
  let value = (first & 0x7f) >> 1;
  let scale = 64;
  for (let at = start, byte = first; byte >= 0x80; scale *= 128) {
    byte = bytes[++at]!;
    value += (byte & 0x7f) * scale;
  }
  return (first & 1) === 0 ? value : -value - 1;
}
