import { hash } from 'node:crypto';
import avro from 'avsc';
import { expect, test } from 'vitest';
import {
  crc64Avro,
  currentSchema,
  currentSchemaText,
  decoderFor,
  encodeEvent,
  fieldsDecoder,
  fingerprintOf,
  singleObject,
  splitSingleObject,
} from '../../schemas/codec.ts';
import { type Inputs, TOPICS } from '../../schemas/events.ts';
import { createdate, eventKey, jobIdentity, shareIdentity } from '../../schemas/identity.ts';
import { sampleJob } from '../contracts/samples.ts';

const share: Inputs['share'] = {
  origin: 'ckpool',
  instance: 'ckpool',
  source: 'live',
  time_us: 1_795_327_660_981_450,
  client_id: 1,
  listener: '0.0.0.0:3333',
  job_id: '6b0286a900000000',
  height: 700,
  user: 'alice',
  worker: 'alice.w1',
  agent: 'cgminer/4.11.1',
  address: '127.0.0.1',
  accepted: true,
  errn: 0,
  diff: 42,
  sdiff: 59.441585517609333,
  hash: '00000000044e82cecfc2193ca1d37f52ba641bc2db42f47cf642f0abde1d3d91',
  enonce1: 'aa86026b',
  nonce2: '0000000000000000',
  nonce: '0001b431',
  ntime: '6b0286a9',
};

test('encode then decode is identity, and fields left out have their defaults', () => {
  const decoded = decoderFor('share')(encodeEvent('share', share));
  expect({ ...decoded }).toEqual({
    ...share,
    kind: 'submitted',
    time_ns: 0,
    job_key: '',
    reason: '',
    block_hash: '',
    version_bits: '',
    upstream: '',
  });
});

test('a value of the wrong type is refused, and named', () => {
  expect(() => encodeEvent('share', { ...share, diff: 'much' as unknown as number })).toThrow('much');
});

test("CRC-64-AVRO agrees with the Avro specification's own examples", () => {
  // Avro 1.11, lang/java/avro TestSchemaNormalization data: fingerprints of "null" and "int", as signed 64-bit numbers.
  expect(BigInt.asIntN(64, crc64Avro('"null"'))).toBe(7195948357588979594n);
  expect(BigInt.asIntN(64, crc64Avro('"int"'))).toBe(8247732601305521295n);
});

test('bytes of an earlier version of each schema decode, with defaults for the fields that have come since', () => {
  for (const topic of TOPICS) {
    const full = JSON.parse(currentSchemaText(topic)) as { fields: { name: string; default?: unknown }[] };
    const added = full.fields.findLast((field) => field.default !== undefined)!;
    const earlier = { ...full, fields: full.fields.filter((field) => field !== added) };
    const type = avro.Type.forSchema(earlier as avro.Schema, { wrapUnions: true });
    const value = type.random() as unknown as Record<string, unknown>;
    const decoded = decoderFor(topic, JSON.stringify(earlier))(type.toBuffer(value)) as unknown as Record<
      string,
      unknown
    >;
    expect(JSON.stringify(decoded[added.name])).toBe(JSON.stringify(added.default));
    expect(fingerprintOf(JSON.stringify(earlier))).not.toBe(currentSchema(topic).fingerprint);
  }
});

test('some fields alone decode to what the whole record has in them, also from an earlier version', () => {
  const body = encodeEvent('share', share);
  const some = fieldsDecoder('share', ['hash', 'accepted', 'time_us'], currentSchemaText('share'))(body);
  expect({ ...some }).toEqual({ hash: share.hash, accepted: share.accepted, time_us: share.time_us });
  const whole = JSON.parse(currentSchemaText('share')) as { fields: { name: string }[] };
  const earlier = { ...whole, fields: whole.fields.filter(({ name }) => name !== 'upstream' && name !== 'time_ns') };
  const type = avro.Type.forSchema(earlier as avro.Schema, { wrapUnions: true });
  const decode = fieldsDecoder('share', ['worker', 'upstream'], JSON.stringify(earlier));
  const value = decoderFor('share')(body);
  expect({ ...decode(type.toBuffer(value)) }).toEqual({ worker: share.worker, upstream: '' });
});

test('the single-object head names the schema and comes off again', () => {
  const body = encodeEvent('share', share);
  const { fingerprint } = currentSchema('share');
  const framed = singleObject(fingerprint, body);
  expect(framed.subarray(0, 2).toString('hex')).toBe('c301');
  expect(splitSingleObject(framed)).toEqual({ fingerprint, body });
  expect(splitSingleObject(Buffer.from('plain'))).toBeNull();
});

test("createdate is CKPool's: nanoseconds without padding", () => {
  expect(createdate(1_795_327_661_042_856, 607)).toBe('1795327661,42856607');
});

test('an accepted share is its hash; a refused one what came and when, whatever the words and the job', () => {
  expect(shareIdentity(share)).toBe(share.hash);
  const refused = { ...share, accepted: false, errn: 1, reason: 'Invalid JobID' };
  const same = { ...refused, reason: 'unknown job', job_id: '0000000000000000', instance: 'another' };
  expect(shareIdentity(same)).toBe(shareIdentity(refused));
  expect(shareIdentity({ ...refused, time_ns: 1 })).not.toBe(shareIdentity(refused));
  const text = 'aa86026b|0000000000000000|0001b431|6b0286a9|1|1795327660,981450000';
  expect(shareIdentity(refused)).toBe(hash('sha256', text, 'hex').slice(0, 32));
  expect(eventKey('share', share, { instance: 'i', run: 'r', sequence: 0 })).toBe(`ckpool/${share.hash}`);
});

test('a job is all that decides its headers, and its origin; not when, where or under which number it was made', () => {
  const job = sampleJob(1);
  const key = jobIdentity(job);
  const others: Partial<Inputs['job']>[] = [
    { origin: 'proxy' },
    { prev_hash: 'ce'.repeat(32) },
    { coinbase1: '01000001' },
    { coinbase2: 'fffffffe' },
    { merkle_branch: [] },
    { merkle_branch: [...job.merkle_branch].reverse() },
    { nbits: '207ffffe' },
    { version: '20000001' },
    { version_mask: '00000000' },
    { ntime: '6551f3a1' },
    { enonce1_bytes: 5 },
    { nonce2_bytes: 4 },
  ];
  const keys = [key, ...others.map((other) => jobIdentity({ ...job, ...other }))];
  expect(new Set(keys).size).toBe(keys.length);
  // A proxy that begins its numbers anew, another process, a repeated notify.
  const again = { ...job, instance: 'other', job_id: '0', time_us: 5, clean: false };
  expect(jobIdentity(again)).toBe(key);
});
