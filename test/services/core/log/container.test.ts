import avro from 'avsc';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { currentSchemaText } from '../../../../schemas/codec.ts';
import { TOPICS } from '../../../../schemas/events.ts';
import {
  encodeHead,
  parseBlock,
  parseHead,
  recordSplitter,
  writeLong,
} from '../../../../services/core/log/container.ts';

const EVERY_TYPE = {
  type: 'record',
  name: 'Every',
  fields: [
    { name: 'n', type: 'null' },
    { name: 'b', type: 'boolean' },
    { name: 'i', type: 'int' },
    { name: 'l', type: 'long' },
    { name: 'f', type: 'float' },
    { name: 'd', type: 'double' },
    { name: 'y', type: 'bytes' },
    { name: 's', type: 'string' },
    { name: 'e', type: { type: 'enum', name: 'E', symbols: ['A', 'B'] } },
    { name: 'x', type: { type: 'fixed', name: 'F', size: 3 } },
    {
      name: 'a',
      type: { type: 'array', items: { type: 'record', name: 'In', fields: [{ name: 's', type: 'string' }] } },
    },
    { name: 'm', type: { type: 'map', values: 'long' } },
    { name: 'u', type: ['null', 'string', 'In'] },
  ],
};

function random(type: avro.Type): Buffer {
  return type.toBuffer(type.random());
}

test('a body is split where an independent encoder ended each record, for every Avro type', () => {
  const types = [
    avro.Type.forSchema(EVERY_TYPE as avro.Schema, { wrapUnions: true }),
    ...TOPICS.map((topic) => avro.Type.forSchema(JSON.parse(currentSchemaText(topic)), { wrapUnions: true })),
  ];
  for (const type of types) {
    const split = recordSplitter(JSON.stringify(type.schema({ exportAttrs: true })));
    for (let i = 0; i < 50; i++) {
      const bodies = Array.from({ length: 1 + (i % 5) }, () => random(type));
      const body = Buffer.concat(bodies);
      expect(split(body, bodies.length)).toEqual(bodies);
      expect(split(body, bodies.length + 1)).toBeNull();
      expect(split(body.subarray(0, -1), bodies.length)).toBeNull();
      expect(split(Buffer.concat([body, Buffer.from([0])]), bodies.length)).toBeNull();
    }
  }
});

test('any bytes at all are split or refused, never an endless loop or an exception', () => {
  const splits = [
    recordSplitter(JSON.stringify(EVERY_TYPE)),
    ...TOPICS.map((t) => recordSplitter(currentSchemaText(t))),
  ];
  const property = fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 1, max: 5 }), (bytes, count) => {
    for (const split of splits) split(Buffer.from(bytes), count);
    parseHead(Buffer.from(bytes));
    parseHead(Buffer.concat([Buffer.from('Obj\x01', 'latin1'), bytes]));
    parseBlock(Buffer.from(bytes), 0, Buffer.alloc(16));
  });
  fc.assert(property, { numRuns: 500 });
});

test('numbers come back from their varints', () => {
  const property = fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (value) => {
    const bytes = Buffer.alloc(32);
    const at = writeLong(bytes, 0, value);
    expect(bytes.subarray(0, at)).toEqual(avro.Type.forSchema('long').toBuffer(value));
  });
  fc.assert(property);
});

test('a head comes back as it was, and every part of it is short', () => {
  const sync = Buffer.alloc(16, 9);
  const metadata = new Map([
    ['avro.schema', '"string"'],
    ['é', 'ü'.repeat(100)],
  ]);
  const bytes = encodeHead(metadata, sync);
  expect(parseHead(Buffer.concat([bytes, Buffer.from('more')]))).toEqual({ metadata, sync, lengthBytes: bytes.length });
  for (let size = 0; size < bytes.length; size++) expect(parseHead(bytes.subarray(0, size))).toBe('short');
  expect(parseHead(Buffer.from('Nope, not one'))).toBe('bad');
});
