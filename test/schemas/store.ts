/**
 * Keeps bytes of the present version of each schema, for every later one to read: `npm run schemas:store`, once for each change of an `.avsc`. What is
 * stored is never written again: it stands for logs that are out there.
 *
 *   stored/<Record>/<fingerprint>/schema.avsc      the schema as it was, docs and defaults too
 *                                 records.bin      bodies, each behind its length (4 bytes, little-endian)
 *                                 expected.json    what they say, all fields of that version
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import avro from 'avsc';
import { currentSchema } from '../../schemas/codec.ts';
import { TOPICS, type Topic } from '../../schemas/events.ts';
import type { AvroRecord, AvroType } from './growth.ts';

export const STORED = fileURLToPath(new URL('./stored/', import.meta.url));

export function recordName(topic: Topic): string {
  return topic[0]!.toUpperCase() + topic.slice(1);
}

/** The text of a topic's `.avsc`. */
export function schemaFile(topic: Topic): string {
  return readFileSync(new URL(`../../schemas/events/${recordName(topic)}.avsc`, import.meta.url), 'utf8');
}

/**
 * Values that a length, a varint or a double can get wrong; 2^53 - 2 is the largest long that avsc takes, and below -2^52 it writes another one
 * (5.7.9: twice the value passes 53 bits).
 */
const EDGES: Readonly<Record<string, readonly unknown[]>> = {
  string: ['', '00000000044e82cecfc2193ca1d37f52ba641bc2db42f47cf642f0abde1d3d91', 'Grüße, ⛏ 矿工', 'x'.repeat(200)],
  long: [0, 1_795_327_660_981_450, -1, 2 ** 53 - 2, -(2 ** 52)],
  int: [0, -5, 2 ** 31 - 1, -(2 ** 31)],
  double: [0, 59.441585517609333, 4.6565423739069247e-10, -1],
};
const RECORDS = 9;

/** The nth value of a type. One in three is an edge; the others differ from field to field, so that one taken for another shows. */
function sample(type: AvroType, n: number): unknown {
  if (type === 'boolean') return n % 2 === 1;
  if (typeof type === 'string') {
    const edges = EDGES[type]!;
    if (n % 3 === 0) return edges[(n / 3) % edges.length];
    return type === 'string' ? `text ${n}` : 1_000 + n;
  }
  const { type: kind, items, fields } = type as { type: AvroType; items?: AvroType; fields?: AvroRecord['fields'] };
  if (kind === 'array') return Array.from({ length: n % 3 }, (_, i) => sample(items!, n + i + 1));
  if (kind !== 'record') return sample(kind, n);
  return Object.fromEntries(fields!.map((field, i) => [field.name, sample(field.type, n + i)]));
}

/** Bodies, each behind its length. */
function framed(bodies: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    bodies.flatMap((body) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(body.length);
      return [length, body];
    }),
  );
}

export function unframed(bytes: Buffer): Buffer[] {
  const bodies: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 4 + bodies.at(-1)!.length) {
    bodies.push(bytes.subarray(at + 4, at + 4 + bytes.readUInt32LE(at)));
  }
  return bodies;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const topic of TOPICS) {
    const dir = `${STORED}${recordName(topic)}/${currentSchema(topic).fingerprint}/`;
    if (existsSync(dir)) continue;
    const text = schemaFile(topic);
    const schema = JSON.parse(text) as AvroRecord;
    const type = avro.Type.forSchema(schema as unknown as avro.Schema, { wrapUnions: true });
    const values = Array.from({ length: RECORDS }, (_, n) => sample(schema as unknown as AvroType, n));
    mkdirSync(dir, { recursive: true });
    writeFileSync(`${dir}schema.avsc`, text);
    writeFileSync(`${dir}records.bin`, framed(values.map((value) => type.toBuffer(value))));
    writeFileSync(`${dir}expected.json`, `${JSON.stringify(values, null, 1)}\n`);
    console.log(`stored ${dir}`);
  }
}
