import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { currentSchemaText, decoderFor, encodeEvent } from '../../../../schemas/codec.ts';
import { eventKey } from '../../../../schemas/identity.ts';
import type { StoredRecord } from '../../../../services/core/log/event-log.ts';
import {
  BatchWriter,
  crc32c,
  headerBytes,
  murmur2,
  partitionOfKey,
} from '../../../../services/core/log/record-batch.ts';
import { keyWriter } from '../../../../services/core/log/record-key.ts';
import { sampleShare } from '../../../contracts/samples.ts';

const require = createRequire(import.meta.url);
const kafkajsMurmur2 = require('kafkajs/src/producer/partitioners/default/murmur2') as (key: Buffer) => number;
const kafkajsCrc32c = require('kafkajs/src/protocol/recordBatch/crc32C') as (bytes: Buffer) => number;
const Decoder = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object;
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (decoder: object) => Promise<{
  lastOffsetDelta: number;
  records: { offset: string; key: Buffer; value: Buffer; timestamp: string; headers: Record<string, Buffer> }[];
}>;

/** Bytes that look random and are the same each time (xorshift). */
function filled(length: number, seed: number): Buffer {
  const out = Buffer.alloc(length);
  let state = (seed * 2654435761 + 1) | 0;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    out[i] = state & 0xff;
  }
  return out;
}

test('checksum and partition of a key are those of kafkajs, at every length', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  for (let length = 0; length < 200; length++) {
    const bytes = filled(length, length + 7);
    expect(crc32c(bytes)).toBe(kafkajsCrc32c(bytes) >>> 0);
    expect(murmur2(bytes)).toBe(kafkajsMurmur2(bytes));
    const inside = Buffer.concat([filled(3, 1), bytes, filled(5, 2)]);
    expect(murmur2(inside, 3, 3 + length)).toBe(murmur2(bytes));
    expect(crc32c(inside, 3, 3 + length)).toBe(crc32c(bytes));
    expect(partitionOfKey(bytes, 0, length, 7)).toBe((kafkajsMurmur2(bytes) & 0x7fffffff) % 7);
  }
});

test('a batch is what kafkajs reads it as, with lengths on both sides of every varint', async () => {
  const lengths = [0, 1, 53, 54, 63, 64, 100, 8100, 8191, 8192, 70_000, 1_100_000];
  const place = Buffer.concat([headerBytes('instance', 'pool-0'), headerBytes('run', '0123456789abcdef')]);
  const head = Buffer.from('head');
  const writer = new BatchWriter(lengths.reduce((sum, length) => sum + length + 300, 0));
  const sequences = [0, 9, 10, 99, 100, 12_345, 2 ** 31, 2 ** 53 - 1, 1, 2, 3, -1];
  const keys = lengths.map((_, i) => filled(i * 9, i));
  for (const [i, length] of lengths.entries()) {
    writer.add(keys[i]!, 0, keys[i]!.length, head, filled(length, i), place, sequences[i]!);
  }
  const decoded = await decodeBatch(new Decoder(writer.batch(1_700_000_000_123)) as never);
  expect(decoded.records).toHaveLength(lengths.length);
  for (const [i, record] of decoded.records.entries()) {
    expect(record.offset).toBe(String(i));
    expect(record.timestamp).toBe('1700000000123');
    expect(record.key.equals(keys[i]!)).toBe(true);
    expect(record.value.equals(Buffer.concat([head, filled(lengths[i]!, i)]))).toBe(true);
    const headers = Object.fromEntries(Object.entries(record.headers).map(([name, value]) => [name, String(value)]));
    expect(headers).toEqual(
      sequences[i]! < 0 ? {} : { instance: 'pool-0', run: '0123456789abcdef', sequence: String(sequences[i]) },
    );
  }
});

test("a record's key is the event's, copied from its bytes or decoded", () => {
  const at = { instance: 'pool-0', run: '0123456789abcdef', sequence: 5 };
  const write = keyWriter('share', currentSchemaText('share'), decoderFor('share'));
  const keyOf = (body: Buffer, out = Buffer.alloc(300)): string | number => {
    const record = { ...at, topic: 'share', body } as unknown as StoredRecord;
    const end = write(record, out, 7);
    return end < 0 ? end : out.toString('utf8', 7, end);
  };
  const shares = [
    sampleShare(1),
    sampleShare(2, { origin: 'x'.repeat(64), worker: 'ä'.repeat(5000), time_us: -1, height: 2 ** 40 }),
    sampleShare(3, { accepted: false, errn: 5 }),
    sampleShare(4, { kind: 'verdict', upstream: 'pool:3333' }),
    sampleShare(5, { kind: 'something' }),
    sampleShare(6, { hash: '' }),
    sampleShare(7, { agent: 'x'.repeat(3_000_000) }),
  ];
  for (const share of shares) expect(keyOf(encodeEvent('share', share))).toBe(eventKey('share', share, at));
  // Too little room: how much is needed.
  expect(keyOf(encodeEvent('share', sampleShare(1)), Buffer.alloc(20))).toBe(-69);
  // Bytes that are no share: the place.
  expect(keyOf(encodeEvent('share', sampleShare(1)).subarray(0, 90))).toBe('pool-0/0123456789abcdef/5');
});
