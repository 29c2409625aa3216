/**
 * Events as bytes: Avro binary by the schemas beside this file. In the journal bodies lie in Avro container files; in Kafka each
 * carries the 10-byte head of Avro's single-object encoding (C3 01 and the schema's CRC-64-AVRO fingerprint, little-endian;
 * Avro specification, "Single-object encoding").
 */
import { readFileSync } from 'node:fs';
import avro from 'avsc';
import { type Events, type Inputs, TOPICS, type Topic } from './events.ts';

/** One version of a record's schema. */
export interface Schema {
  /** CRC-64-AVRO of the canonical form, 16 hex digits, most significant first. */
  readonly fingerprint: string;
  readonly topic: Topic;
  /** The canonical schema as JSON text. */
  readonly text: string;
}

const CRC64_EMPTY = 0xc15d213aa4d7a795n;
const CRC64_TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = BigInt(byte);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (value & 1n ? CRC64_EMPTY : 0n);
  return value;
});

/**
 * CRC-64-AVRO of a canonical schema text.
 * @returns 64 bits
 */
export function crc64Avro(text: string): bigint {
  let crc = CRC64_EMPTY;
  for (const byte of Buffer.from(text, 'utf8')) crc = (crc >> 8n) ^ CRC64_TABLE[Number((crc ^ BigInt(byte)) & 0xffn)]!;
  return crc;
}

function recordName(topic: Topic): string {
  return topic[0]!.toUpperCase() + topic.slice(1);
}

interface Loaded {
  readonly type: avro.Type;
  readonly schema: Schema;
  /** The full schema with docs and defaults, as written to container heads. */
  readonly source: string;
}

function load(topic: Topic): Loaded {
  const source = readFileSync(new URL(`./events/${recordName(topic)}.avsc`, import.meta.url), 'utf8');
  const type = avro.Type.forSchema(JSON.parse(source), { wrapUnions: true });
  const text = JSON.stringify(type.schema());
  const fingerprint = crc64Avro(text).toString(16).padStart(16, '0');
  return { type, schema: { fingerprint, topic, text }, source: JSON.stringify(JSON.parse(source)) };
}

const current = Object.fromEntries(TOPICS.map((topic) => [topic, load(topic)])) as Record<Topic, Loaded>;

/** The schema with which this program writes a topic. */
export function currentSchema(topic: Topic): Schema {
  return current[topic].schema;
}

/** The full schema text of a topic (docs, defaults), for container heads and the `schema` topic. */
export function currentSchemaText(topic: Topic): string {
  return current[topic].source;
}

/**
 * Encodes one event by the topic's current schema; fields with a default may be left out.
 * @returns the body without any head
 * @throws Error with the value that does not fit the schema
 */
export function encodeEvent<T extends Topic>(topic: T, event: Inputs[T]): Buffer {
  return current[topic].type.toBuffer(event);
}

export type Decoder<T extends Topic> = (body: Uint8Array) => Events[T];

/**
 * A decoder for bodies written with some version of a topic's schema.
 * @param writerText - the writer's schema as JSON text; absent: the current one
 * @throws Error where the two schemas cannot be reconciled
 */
export function decoderFor<T extends Topic>(topic: T, writerText?: string): Decoder<T> {
  const reader = current[topic].type;
  if (writerText === undefined) return (body) => reader.fromBuffer(asBuffer(body));
  const writer = avro.Type.forSchema(JSON.parse(writerText), { wrapUnions: true });
  if (JSON.stringify(writer.schema()) === current[topic].schema.text) {
    return (body) => reader.fromBuffer(asBuffer(body));
  }
  const resolver = reader.createResolver(writer);
  return (body) => reader.fromBuffer(asBuffer(body), resolver);
}

/**
 * A decoder for some fields alone, which passes over the others: a third of the time of a whole share.
 *
 * @param fields - names of the current schema
 * @param writerText - the writer's schema as JSON text
 * @throws Error where the two schemas cannot be reconciled
 */
export function fieldsDecoder<T extends Topic, F extends keyof Events[T] & string>(
  topic: T,
  fields: readonly F[],
  writerText: string,
): (body: Uint8Array) => Pick<Events[T], F> {
  const whole = JSON.parse(current[topic].source) as { fields: { name: string }[] };
  const wanted = whole.fields.filter(({ name }) => (fields as readonly string[]).includes(name));
  const reader = avro.Type.forSchema({ ...whole, fields: wanted } as unknown as avro.Schema, { wrapUnions: true });
  const resolver = reader.createResolver(avro.Type.forSchema(JSON.parse(writerText), { wrapUnions: true }));
  return (body) => reader.fromBuffer(asBuffer(body), resolver);
}

function asBuffer(body: Uint8Array): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

/** Fingerprint of a schema text written by any version, as in `Schema.fingerprint`. */
export function fingerprintOf(schemaText: string): string {
  const type = avro.Type.forSchema(JSON.parse(schemaText), { wrapUnions: true });
  return crc64Avro(JSON.stringify(type.schema())).toString(16).padStart(16, '0');
}

const SINGLE_OBJECT_HEAD_BYTES = 10;

/** Puts the single-object head before a body. */
export function singleObject(fingerprint: string, body: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(SINGLE_OBJECT_HEAD_BYTES + body.length);
  out[0] = 0xc3;
  out[1] = 0x01;
  out.writeBigUInt64LE(BigInt(`0x${fingerprint}`), 2);
  out.set(body, SINGLE_OBJECT_HEAD_BYTES);
  return out;
}

/**
 * Splits single-object bytes into fingerprint and body.
 * @returns null where the head is not one
 */
export function splitSingleObject(bytes: Buffer): { fingerprint: string; body: Buffer } | null {
  if (bytes.length < SINGLE_OBJECT_HEAD_BYTES || bytes[0] !== 0xc3 || bytes[1] !== 0x01) return null;
  return {
    fingerprint: bytes.readBigUInt64LE(2).toString(16).padStart(16, '0'),
    body: bytes.subarray(SINGLE_OBJECT_HEAD_BYTES),
  };
}
