import avro from 'avsc';
import { expect, test } from 'vitest';
import { currentSchemaText } from '../../../../schemas/codec.ts';
import { TOPICS } from '../../../../schemas/events.ts';
import { readLong, recordWalk } from '../../../../services/core/log/flat-record.ts';
import { SEED, seeded } from '../../../helpers/seed.ts';

const TYPES = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string'] as const;
const random = seeded(SEED);
const below = (n: number): number => Math.floor(random() * n);

/** A value of a type, near the places where its encoding becomes longer. */
function sampleOf(type: string): unknown {
  const lengths = [0, 1, 63, 64, 65, 8191, 8192, 20_000];
  const size = lengths[below(lengths.length)]!;
  const sign = below(2) === 0 ? 1 : -1;
  switch (type) {
    case 'null':
      return null;
    case 'boolean':
      return below(2) === 0;
    case 'int':
      return sign * Math.floor(2 ** (31 * random()));
    case 'long':
      // Behind 2^52 the other encoder is not exact.
      return sign * Math.floor(2 ** (51.9 * random()));
    case 'bytes':
      return Buffer.alloc(size, 0xff);
    case 'string':
      return 'ä'.repeat(size / 2);
    default:
      return sign * below(1000);
  }
}

test(`fields lie where an independent encoder has put them, from any field to any other (SEED=${SEED})`, () => {
  for (let round = 0; round < 100; round++) {
    const fields = Array.from({ length: 1 + below(20) }, (_, i) => ({ name: `f${i}`, type: TYPES[below(8)]! }));
    const schema = { type: 'record', name: 'R', fields } as const;
    const { starts, ends, walk } = recordWalk(JSON.stringify(schema))!;
    const values = fields.map(({ type }) => sampleOf(type));
    const parts = fields.map(({ type }, i) => avro.Type.forSchema(type).toBuffer(values[i]));
    const record = avro.Type.forSchema(schema).toBuffer(Object.fromEntries(values.map((value, i) => [`f${i}`, value])));
    const places = [0];
    for (const part of parts) places.push(places.at(-1)! + part.length);
    const before = below(5);
    const bytes = Buffer.concat([Buffer.alloc(before, 0xee), record, Buffer.alloc(9, 0xee)]);
    const end = before + record.length;
    expect(walk(bytes, before, end)).toBe(end);
    for (const [i, { type }] of fields.entries()) {
      const text = type === 'string' || type === 'bytes';
      if (text) {
        const value = bytes.subarray(starts[i], ends[i]);
        expect(type === 'string' ? value.toString() : value).toEqual(values[i]);
      } else expect(starts[i]).toBe(before + places[i]!);
      if (type === 'int' || type === 'long') expect(readLong(bytes, starts[i]!)).toBe(values[i]);
    }
    const from = below(fields.length);
    const to = from + below(fields.length - from + 1);
    expect(walk(bytes, before + places[from]!, end, from, to)).toBe(before + places[to]!);
    // One byte too few, wherever the walk ends.
    if (parts.at(-1)!.length > 0) expect(walk(bytes, before, end - 1)).toBe(-1);
    if (record.length > 0) expect(walk(record.subarray(0, -1), 0, record.length - 1)).toBe(-1);
  }
});

test('a number is exact up to 2^53, whichever its sign', () => {
  for (const value of [
    0,
    1,
    -1,
    63,
    64,
    -64,
    -65,
    2 ** 52 + 1,
    -(2 ** 52) - 1,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    2 ** 53,
    -(2 ** 53),
  ]) {
    const bytes: number[] = [];
    for (let rest = (BigInt(value) * 2n) ^ (value < 0 ? -1n : 0n); ; rest >>= 7n) {
      bytes.push(Number(rest & 0x7fn) + (rest > 0x7fn ? 0x80 : 0));
      if (rest <= 0x7fn) break;
    }
    expect(readLong(Uint8Array.from(bytes), 0)).toBe(value);
  }
});

test('what our writers would encode otherwise is not walked over', () => {
  const { walk } = recordWalk('{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"b","type":"boolean"},{"name":"n","type":"long"}]}')!; // biome-ignore format: one schema
  const found = (...bytes: number[]): number => walk(Uint8Array.from(bytes), 0, bytes.length);
  expect(found(2, 0x61, 1, 4)).toBe(4);
  // The length in two bytes and in three, a negative one, a boolean of 2, the number in two bytes.
  expect(found(0x82, 0, 0x61, 1, 4)).toBe(-1);
  expect(found(0x82, 0x80, 0, 0x61, 1, 4)).toBe(-1);
  expect(found(1, 1, 4)).toBe(-1);
  expect(found(2, 0x61, 2, 4)).toBe(-1);
  expect(found(2, 0x61, 1, 0x84, 0)).toBe(-1);
  // Bytes behind it are no part of it.
  expect(found(2, 0x61, 1, 4, 9)).toBe(4);
});

test(`any bytes at all end a walk within them or refuse it (SEED=${SEED})`, () => {
  const walks = TOPICS.flatMap((topic) => recordWalk(currentSchemaText(topic)) ?? []);
  expect(walks.length).toBeGreaterThan(2);
  for (let round = 0; round < 1_000; round++) {
    const bytes = Uint8Array.from({ length: below(200) }, () => (below(3) === 0 ? below(256) : below(70)));
    for (const { walk } of walks) {
      const end = walk(bytes, 0, bytes.length);
      expect(end === -1 || (end >= 0 && end <= bytes.length)).toBe(true);
    }
  }
});

test('a schema with anything but primitive fields has no walk, and a field that it lacks no number', () => {
  expect(
    recordWalk('{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"int"}}]}'),
  ).toBeNull();
  expect(recordWalk('"string"')).toBeNull();
  const share = recordWalk(currentSchemaText('share'))!;
  expect(share.numbers(['hash', 'nothing'])).toBeNull();
  const { kind, origin } = share.numbers(['kind', 'origin'])!;
  expect([share.fields[kind]!.name, share.fields[origin]!.name]).toEqual(['kind', 'origin']);
});
