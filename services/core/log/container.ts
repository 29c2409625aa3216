/**
 * Avro object container files as bytes: head, blocks, and where one record ends and the next begins.
 * The journal's segments are such files, so that any Avro tool reads them.
 *
 * Source: Apache Avro specification 1.11, "Object Container Files" and "Binary Encoding".
 *
 *     head    4F 62 6A 01 · map of metadata (string → bytes) · sync marker (16 bytes)
 *     block   count (zigzag varint) · size of the body (zigzag varint) · body · sync marker
 */

import { recordWalk } from './flat-record.ts';

const MAGIC = Buffer.from([0x4f, 0x62, 0x6a, 0x01]);
export const SYNC_BYTES = 16;

/** Larger counts or sizes in a block's head are taken as damage: our writer cuts blocks far below both. */
const MAX_BLOCK_RECORDS = 2 ** 31 - 1;
const MAX_BLOCK_BYTES = 2 ** 31 - 1;

export interface ContainerHead {
  readonly metadata: ReadonlyMap<string, string>;
  readonly sync: Buffer;
  /** Where the first block begins. */
  readonly lengthBytes: number;
}

/** A place in bytes that are being taken apart. */
interface Cursor {
  position: number;
}

/** Ran over the end of the bytes at hand: more may follow later. */
class Short extends RangeError {}

/** Reads a zigzag varint, which is Avro's int and long; exact up to 2^53. */
function readLong(bytes: Uint8Array, cursor: Cursor): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[cursor.position++];
    if (byte === undefined) throw new Short('varint runs over the end');
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    scale *= 128;
  }
  throw new RangeError('varint longer than 10 bytes');
}

/**
 * Writes a zigzag varint.
 * @param value - 0 <= value < 2^52
 * @returns the position behind it
 */
export function writeLong(bytes: Buffer, position: number, value: number): number {
  let rest = value * 2;
  let at = position;
  while (rest >= 0x80) {
    bytes[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  bytes[at++] = rest;
  return at;
}

function long(value: number): Buffer {
  const bytes = Buffer.alloc(10);
  return bytes.subarray(0, writeLong(bytes, 0, value));
}

/** The head of a container file. */
export function encodeHead(metadata: ReadonlyMap<string, string>, sync: Buffer): Buffer {
  const parts: Buffer[] = [MAGIC, long(metadata.size)];
  for (const pair of metadata) {
    for (const text of pair) {
      const bytes = Buffer.from(text, 'utf8');
      parts.push(long(bytes.length), bytes);
    }
  }
  parts.push(long(0), sync);
  return Buffer.concat(parts);
}

/**
 * Takes the head of a container file apart.
 * @returns `short` where the bytes end inside it, `bad` where it is none
 */
export function parseHead(bytes: Buffer): ContainerHead | 'short' | 'bad' {
  if (bytes.compare(MAGIC, 0, MAGIC.length, 0, Math.min(bytes.length, MAGIC.length)) !== 0) {
    return MAGIC.subarray(0, bytes.length).equals(bytes) ? 'short' : 'bad';
  }
  const cursor = { position: MAGIC.length };
  const metadata = new Map<string, string>();
  const field = (): Buffer => {
    const length = readLong(bytes, cursor);
    if (length < 0 || length > MAX_BLOCK_BYTES) throw new RangeError('length of a field');
    const start = cursor.position;
    cursor.position += length;
    if (cursor.position > bytes.length) throw new Short('field runs over the end');
    return bytes.subarray(start, cursor.position);
  };
  try {
    for (;;) {
      let count = readLong(bytes, cursor);
      if (count === 0) break;
      if (count < 0) {
        count = -count;
        readLong(bytes, cursor);
      }
      for (let i = 0; i < count; i++) {
        const key = field().toString('utf8');
        metadata.set(key, field().toString('utf8'));
      }
    }
  } catch (error) {
    return error instanceof Short ? 'short' : 'bad';
  }
  const lengthBytes = cursor.position + SYNC_BYTES;
  if (lengthBytes > bytes.length) return 'short';
  return { metadata, sync: Buffer.from(bytes.subarray(cursor.position, lengthBytes)), lengthBytes };
}

/** A block's place in the bytes at hand. */
export interface BlockSpan {
  readonly count: number;
  readonly bodyStart: number;
  readonly bodyEnd: number;
  /** Behind the sync marker. */
  readonly end: number;
}

/**
 * Finds the block that begins at a place.
 * @returns null where no whole block with this sync marker begins there
 */
export function parseBlock(bytes: Buffer, start: number, sync: Buffer): BlockSpan | null {
  const cursor = { position: start };
  let count: number;
  let size: number;
  try {
    count = readLong(bytes, cursor);
    size = readLong(bytes, cursor);
  } catch {
    return null;
  }
  if (count <= 0 || count > MAX_BLOCK_RECORDS || size < 0 || size > MAX_BLOCK_BYTES) return null;
  const bodyEnd = cursor.position + size;
  const end = bodyEnd + SYNC_BYTES;
  if (end > bytes.length || bytes.compare(sync, 0, SYNC_BYTES, bodyEnd, end) !== 0) return null;
  return { count, bodyStart: cursor.position, bodyEnd, end };
}

/** Steps over one value of a schema. */
type Step = (bytes: Uint8Array, cursor: Cursor) => void;

const longStep: Step = (bytes, cursor) => {
  let at = cursor.position;
  while (bytes[at++]! >= 0x80);
  cursor.position = at;
};
const fixedStep =
  (size: number): Step =>
  (_bytes, cursor) => {
    cursor.position += size;
  };
const lengthStep: Step = (bytes, cursor) => {
  const length = readLong(bytes, cursor);
  if (length < 0) throw new RangeError('length below 0');
  cursor.position += length;
};
const PRIMITIVES: Readonly<Record<string, Step>> = {
  null: () => {},
  boolean: fixedStep(1),
  int: longStep,
  long: longStep,
  float: fixedStep(4),
  double: fixedStep(8),
  bytes: lengthStep,
  string: lengthStep,
};

type SchemaNode = string | readonly SchemaNode[] | { readonly [key: string]: unknown };

function stepFor(node: SchemaNode, named: Map<string, Step>): Step {
  if (typeof node === 'string') {
    const step = PRIMITIVES[node] ?? named.get(node) ?? named.get(node.split('.').at(-1)!);
    if (step === undefined) throw new RangeError(`schema names an unknown type ${node}`);
    return step;
  }
  if (Array.isArray(node)) {
    const branches = (node as readonly SchemaNode[]).map((branch) => stepFor(branch, named));
    return (bytes, cursor) => {
      const branch = branches[readLong(bytes, cursor)];
      if (branch === undefined) throw new RangeError('union has no such branch');
      branch(bytes, cursor);
    };
  }
  const shape = node as { readonly [key: string]: unknown };
  const register = (step: Step): Step => {
    named.set(shape.name as string, step);
    return step;
  };
  switch (shape.type) {
    case 'record': {
      const steps: Step[] = [];
      const record = register((bytes, cursor) => {
        for (const step of steps) step(bytes, cursor);
        if (cursor.position > bytes.length) throw new RangeError('record runs over the end');
      });
      for (const field of shape.fields as { type: SchemaNode }[]) steps.push(stepFor(field.type, named));
      return record;
    }
    case 'enum':
      return register(longStep);
    case 'fixed':
      return register(fixedStep(shape.size as number));
    case 'array':
      return blocksStep(stepFor(shape.items as SchemaNode, named));
    case 'map': {
      const value = stepFor(shape.values as SchemaNode, named);
      return blocksStep((bytes, cursor) => {
        lengthStep(bytes, cursor);
        value(bytes, cursor);
      });
    }
    default:
      return stepFor(shape.type as SchemaNode, named);
  }
}

/** Arrays and maps: blocks of items, each with a count, or a negated count and a size; a count of 0 ends them. */
function blocksStep(item: Step): Step {
  return (bytes, cursor) => {
    for (;;) {
      const count = readLong(bytes, cursor);
      if (count === 0) return;
      if (count < 0) {
        const size = readLong(bytes, cursor);
        if (size < 0) throw new RangeError('size below 0');
        cursor.position += size;
      } else {
        for (let i = 0; i < count && cursor.position <= bytes.length; i++) item(bytes, cursor);
      }
      if (cursor.position > bytes.length) throw new RangeError('array runs over the end');
    }
  };
}

/**
 * Splits a block's body into the bodies of its records, by the writer's schema and without decoding them.
 * @returns views on the body, or null where the body is not exactly `count` records of that schema
 */
export type RecordSplitter = (body: Buffer, count: number) => Buffer[] | null;

/** @throws RangeError where the schema names a type that it does not define */
export function recordSplitter(schemaText: string): RecordSplitter {
  const step = stepFor(JSON.parse(schemaText) as SchemaNode, new Map());
  // Three times as fast as a function for each field, where it knows the bytes.
  const flat = recordWalk(schemaText);
  return (body, count) => {
    const records: Buffer[] = [];
    const cursor = { position: 0 };
    let start = 0;
    try {
      for (let i = 0; i < count; i++) {
        let end = flat === null ? -1 : flat.walk(body, start, body.length);
        if (end < 0) {
          cursor.position = start;
          step(body, cursor);
          end = cursor.position;
          if (end > body.length) return null;
        }
        records.push(body.subarray(start, end));
        start = end;
      }
    } catch {
      return null;
    }
    return start === body.length ? records : null;
  };
}
