/**
 * Schemas only grow: bytes of every version that ever wrote are read by this one, with defaults for what has come since; a change that is more
 * than fields with defaults, or one without bytes stored for the future, fails here.
 */
import { readdirSync, readFileSync } from 'node:fs';
import avro from 'avsc';
import { describe, expect, test } from 'vitest';
import { currentSchema, decoderFor, encodeEvent, fieldsDecoder, fingerprintOf } from '../../schemas/codec.ts';
import { type Inputs, TOPICS, type Topic } from '../../schemas/events.ts';
import { recordSplitter } from '../../services/core/log/container.ts';
import { type AvroRecord, formProblems, growthProblems } from './growth.ts';
import { recordName, STORED, schemaFile, unframed } from './store.ts';

interface Version {
  readonly topic: Topic;
  readonly fingerprint: string;
  readonly text: string;
  readonly bodies: readonly Buffer[];
  readonly expected: readonly Record<string, unknown>[];
}

function versionsOf(topic: Topic): Version[] {
  return readdirSync(`${STORED}${recordName(topic)}`).map((fingerprint) => {
    const dir = `${STORED}${recordName(topic)}/${fingerprint}/`;
    return {
      topic,
      fingerprint,
      text: readFileSync(`${dir}schema.avsc`, 'utf8'),
      bodies: unframed(readFileSync(`${dir}records.bin`)),
      expected: JSON.parse(readFileSync(`${dir}expected.json`, 'utf8')),
    };
  });
}

const versions = TOPICS.flatMap(versionsOf);
/** What the first logs were written with. */
const FIRST = {
  block: '0046385f017a8c04',
  contract: '90d171e35e7b86f2',
  job: 'b7a3e3f6e3eafc6a',
  session: '8e8fdf2cfeaaf0c3',
  share: '019b5d22e51fac09',
};
const present = (topic: Topic): AvroRecord => JSON.parse(schemaFile(topic)) as AvroRecord;
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const named = versions.map((version) => [recordName(version.topic), version.fingerprint, version] as const);

describe('what is stored', () => {
  test('every file of schemas/events is a topic', () => {
    const files = readdirSync(new URL('../../schemas/events/', import.meta.url));
    expect(files.sort()).toEqual(TOPICS.map((topic) => `${recordName(topic)}.avsc`).sort());
  });

  test.each(Object.entries(FIRST))('the first version of %s is still there', (topic, fingerprint) => {
    expect(versionsOf(topic as Topic).map((version) => version.fingerprint)).toContain(fingerprint);
  });

  test.each(TOPICS)('the present version of %s has its bytes (else: npm run schemas:store)', (topic) => {
    const stored = versionsOf(topic).find(({ fingerprint }) => fingerprint === currentSchema(topic).fingerprint);
    expect(stored).toBeDefined();
    expect(stored!.bodies.length).toBe(stored!.expected.length);
    expect(stored!.bodies.length).toBeGreaterThan(4);
  });

  test.each(named)('%s %s is the schema that its name says', (_name, fingerprint, { text }) => {
    expect(fingerprintOf(text)).toBe(fingerprint);
  });
});

describe('bytes of every version', () => {
  test.each(named)('%s %s decode, with defaults for what has come since', (_name, _fingerprint, version) => {
    const { topic, text, bodies, expected } = version;
    const decode = decoderFor(topic, text);
    for (const [i, body] of bodies.entries()) {
      const since = present(topic).fields.filter(({ name }) => !(name in expected[i]!));
      const defaults = Object.fromEntries(since.map((field) => [field.name, field.default]));
      expect(plain(decode(body))).toEqual({ ...defaults, ...expected[i] });
    }
  });

  test.each(named)('%s %s: each field alone decodes to the same', (_name, _fingerprint, version) => {
    const { topic, text, bodies } = version;
    const decode = decoderFor(topic, text);
    for (const { name } of present(topic).fields) {
      const some = fieldsDecoder(topic, [name as never], text);
      for (const body of bodies) {
        expect(plain(some(body))).toEqual({
          [name]: plain((decode(body) as unknown as Record<string, unknown>)[name]),
        });
      }
    }
  });

  test.each(named)('%s %s: records of a block are told apart by their schema', (_name, _fingerprint, version) => {
    const { text, bodies } = version;
    expect(recordSplitter(text)(Buffer.concat(bodies), bodies.length)?.map(Buffer.from)).toEqual(bodies);
  });

  test.each(named)('%s %s reads what the present one writes', (_name, _fingerprint, version) => {
    const { topic, text, bodies, expected } = version;
    const earlier = avro.Type.forSchema(JSON.parse(text), { wrapUnions: true });
    const now = avro.Type.forSchema(JSON.parse(schemaFile(topic)), { wrapUnions: true });
    const resolver = earlier.createResolver(now);
    const decode = decoderFor(topic, text);
    for (const [i, body] of bodies.entries()) {
      const written = encodeEvent(topic, decode(body) as Inputs[typeof topic]);
      expect(plain(earlier.fromBuffer(written, resolver))).toEqual(expected[i]);
    }
  });

  test.each(TOPICS)('%s: the present version writes the stored bytes', (topic) => {
    const { bodies, expected } = versionsOf(topic).find(
      (each) => each.fingerprint === currentSchema(topic).fingerprint,
    )!;
    expect(expected.map((value) => encodeEvent(topic, value as unknown as Inputs[typeof topic]))).toEqual(bodies);
  });
});

describe('how schemas may change', () => {
  test.each(named)('since %s %s: only fields with defaults were added', (_name, _fingerprint, { topic, text }) => {
    expect(growthProblems(JSON.parse(text) as AvroRecord, present(topic))).toEqual([]);
  });

  const before = present('block');
  const field = (name: string, more: object): AvroRecord => ({
    ...before,
    fields: before.fields.map((each) => (each.name === name ? { ...each, ...more } : each)),
  });
  const added = { name: 'weight', type: 'long', doc: 'Weight units' };
  const answers = before.fields.find(({ name }) => name === 'answers')!.type as { items: AvroRecord };
  const answersWith = (fields: AvroRecord['fields']): AvroRecord =>
    field('answers', { type: { ...answers, items: { ...answers.items, fields } } });

  test.each<[string, AvroRecord, string[]]>([
    [
      'a field with a default added at the end',
      { ...before, fields: [...before.fields, { ...added, default: 0 }] },
      [],
    ],
    ['one added in front', { ...before, fields: [{ ...added, default: 0 }, ...before.fields] }, []],
    ['another doc', field('height', { doc: 'Height of it' }), []],
    [
      'a field with a default added to a record inside',
      answersWith([...answers.items.fields, { ...added, default: 0 }]),
      [],
    ],
    ['one without a default', { ...before, fields: [...before.fields, added] }, ['weight: a field was added without']],
    [
      'one without a default inside',
      answersWith([...answers.items.fields, added]),
      ['NodeAnswer.weight: a field was added without'],
    ],
    ['a field taken away', { ...before, fields: before.fields.slice(1) }, ['kind: a field was taken away']],
    [
      'a field taken away inside',
      answersWith(answers.items.fields.slice(1)),
      ['NodeAnswer.node: a field was taken away'],
    ],
    [
      'a new name',
      field('height', { name: 'block_height' }),
      ['height: a field was taken', 'block_height: a field was added'],
    ],
    ['another type', field('height', { type: 'int' }), ['height: its type is another']],
    ['a union', field('height', { type: ['null', 'long'] }), ['height: its type is another']],
    [
      'another type of items',
      field('coinbase_outputs', { type: { type: 'array', items: 'string' } }),
      ['coinbase_outputs: its type'],
    ],
    ['another default', field('confirmations', { default: 1 }), ['confirmations: its default is another']],
    ['a default taken away', field('confirmations', { default: undefined }), ['confirmations: its default is another']],
    ['a default given', field('height', { default: 0 }), ['height: its default is another']],
    [
      'another order',
      { ...before, fields: before.fields.toReversed() },
      before.fields.slice(1).map(({ name }) => `${name}: fields that`),
    ],
    ['another record', { ...before, name: 'Blocks' }, ['Block: the record has another name']],
  ])('%s', (_what, after, words) => {
    const problems = growthProblems(before, after);
    expect(problems).toHaveLength(words.length);
    for (const [i, word] of words.entries()) expect(problems[i]).toContain(word);
  });
});

describe('the form of a schema', () => {
  test.each(TOPICS)('%s: snake_case, units, docs; no enum, union, fixed, bytes, map or float', (topic) => {
    expect(formProblems(present(topic))).toEqual([]);
    expect(present(topic)).toMatchObject({ name: recordName(topic), namespace: 'lodestream' });
  });

  test.each<[object, string]>([
    [{ name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['a'] } }, 'expected string'],
    [{ name: 'memo', type: ['null', 'string'], default: null }, 'expected string'],
    [{ name: 'hash', type: { type: 'fixed', name: 'Hash', size: 32 } }, 'expected string'],
    [{ name: 'hash', type: 'bytes' }, 'expected string'],
    [{ name: 'tags', type: { type: 'map', values: 'string' } }, 'expected string'],
    [{ name: 'diff', type: 'float' }, 'expected string'],
    [{ name: 'list', type: { type: 'array', items: 'bytes' } }, 'expected string'],
    [{ name: 'fees_sats', type: 'long' }, 'decimal string'],
    [{ name: 'time_us', type: 'double' }, 'integer microseconds'],
    [{ name: 'reason', type: 'int' }, 'is a string'],
    [{ name: 'blockHash', type: 'string' }, 'snake_case'],
    [{ name: 'receipt_time', type: 'long' }, 'no unit'],
    [{ name: 'height', type: 'long', doc: '' }, 'has no doc'],
  ])('%o is refused', (field, words) => {
    const record = { type: 'record', name: 'R', fields: [{ doc: 'd', ...field }] } as unknown as AvroRecord;
    expect(formProblems(record).join()).toContain(words);
  });
});
