import avro from 'avsc';
import { expect, test } from 'vitest';
import { currentSchemaText, encodeEvent } from '../../../schemas/codec.ts';
import type { ShareInput } from '../../../schemas/events.ts';
import { shareLook } from '../../../services/stratum/earlier-shares.ts';
import { sampleShare } from '../../contracts/samples.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

const SINCE_US = 1_700_000_000_000_000;
const ORIGIN = 'püool';

/** What a look takes of events: key and the three words. */
function taken(schemaText: string, bodies: readonly Buffer[]): string[] {
  const found: string[] = [];
  const take = (key: string, words: Uint32Array): void => void found.push(`${key} ${words.join()}`);
  const look = shareLook(schemaText, { origin: ORIGIN, sinceUs: SINCE_US, take });
  for (const body of bodies) look(body);
  return found;
}

/** The same, from the events themselves. */
function wanted(events: readonly ShareInput[]): string[] {
  return events.flatMap(({ kind = 'submitted', origin, source, time_us, accepted, job_key = '', hash }) => {
    const live = kind === 'submitted' && source === 'live' && origin === ORIGIN && time_us >= SINCE_US;
    if (!live || !accepted || !/^[0-9a-f]{64}$/i.test(hash)) return [];
    const bytes = Buffer.from(hash, 'hex').reverse();
    return [`${job_key} ${[0, 4, 8].map((at) => bytes.readUInt32LE(at)).join()}`];
  });
}

/** Shares of which about every second is wanted; each field that counts takes values next to the right one. */
function randomShares(count: number): ShareInput[] {
  const next = seeded(SEED);
  const digits = (length: number): string =>
    Array.from({ length }, () => Math.floor(next() * 16).toString(16)).join('');
  const mostly = <T>(usual: T, ...others: readonly T[]): T =>
    next() < 0.9 ? usual : others[Math.floor(next() * others.length)]!;
  return Array.from({ length: count }, (_, n) => {
    const hash = digits(64);
    return sampleShare(n, {
      kind: mostly('submitted', 'verdict', 'submittee', ''),
      origin: mostly(ORIGIN, 'test', `${ORIGIN}x`, ''),
      source: mostly('live', 'backfill', 'lives'),
      time_us: mostly(SINCE_US + n, SINCE_US, SINCE_US - 1, 0, -5, 2 ** 52),
      time_ns: Math.floor(next() * 1_000),
      job_id: digits(Math.floor(next() * 40)),
      job_key: mostly(`test/${'ab'.repeat(16)}`, `test/${'cd'.repeat(16)}`, '', 'ключ'),
      worker: mostly('alice.w1', 'w'.repeat(300), 'é'),
      agent: 'x'.repeat(Math.floor(next() * 200)),
      accepted: mostly(true, false),
      hash: mostly(hash, hash.toUpperCase(), hash.slice(1), `${hash}0`, `${hash.slice(1)}g`, ''),
    });
  });
}

test(`the bytes of shares give what the events give: accepted ones of this origin and time, whatever stands beside (SEED=${SEED})`, () => {
  const events = randomShares(4_000);
  const bodies = events.map((event) => encodeEvent('share', event));
  const found = taken(currentSchemaText('share'), bodies);
  expect(found.length).toBeGreaterThan(500);
  expect(found).toEqual(wanted(events));
});

interface Field {
  readonly name: string;
  readonly type: unknown;
  readonly default?: unknown;
}

test('shares of schemas that lack fields, or have other ones between, are read too', () => {
  const events = randomShares(300);
  const whole = JSON.parse(currentSchemaText('share')) as { fields: Field[] };
  const lacking = { ...whole, fields: whole.fields.filter(({ name }) => name !== 'kind' && name !== 'job_key') };
  const more: Field = { name: 'more', type: { type: 'array', items: 'string' } };
  const between = { ...whole, fields: [more, ...whole.fields] };
  const written = (schema: object, also: object): [string, Buffer[]] => {
    const type = avro.Type.forSchema(schema as avro.Schema, { wrapUnions: true });
    return [JSON.stringify(schema), events.map((event) => type.toBuffer({ ...event, ...also }))];
  };
  const without = events.map(({ kind: _, job_key: __, ...event }) => event);
  expect(taken(...written(lacking, {}))).toEqual(wanted(without));
  expect(taken(...written(between, { more: ['a', 'b'] }))).toEqual(wanted(events));
});

test('bytes that end too early are no share', () => {
  const body = encodeEvent('share', sampleShare(1, { origin: ORIGIN, hash: 'ab'.repeat(32) }));
  expect(taken(currentSchemaText('share'), [body])).toHaveLength(1);
  const behindHash = body.indexOf('ab'.repeat(32)) + 64;
  for (let end = 0; end < behindHash; end++) {
    expect(taken(currentSchemaText('share'), [body.subarray(0, end)]), String(end)).toEqual([]);
  }
});
