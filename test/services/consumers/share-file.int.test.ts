import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Row } from '../../../pipelines/row.ts';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import { currentSchema, currentSchemaText, decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Inputs } from '../../../schemas/events.ts';
import { shareIdentity } from '../../../schemas/identity.ts';
import { insertFile, insertRows } from '../../../services/consumers/insert.ts';
import { migrate } from '../../../services/consumers/migrations.ts';
import { ShareFile, shareInsert } from '../../../services/consumers/share-file.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { SEED } from '../../helpers/seed.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';
import { randomHex, START_US, shareOf } from './world.ts';

const { fingerprint } = currentSchema('share');
const decode = decoderFor('share');
const PLACE = { instance: 'ckpool', run: '0', sequence: 0 };

/** A share near the borders of what is allowed, and often beyond. */
function oddShare(random: (below: number) => number, n: number): Inputs['share'] {
  const pick = <V>(...values: readonly V[]): V => values[random(values.length)]!;
  const rarely = <V>(usual: V, ...values: readonly V[]): V => (random(12) === 0 ? pick(...values) : usual);
  const share = shareOf(random, n);
  return {
    ...share,
    kind: rarely('submitted', 'verdict', 'submitte', ''),
    origin: rarely(share.origin, 'o', 'schön', "quo'te", ''),
    source: rarely('live', 'backfill', 'lives', 'liv', ''),
    time_us: rarely(share.time_us, 0, 1, 4_294_967_295_999_999, 4_294_967_296_000_000, -1, 59_999_999, 2 ** 53 - 2),
    time_ns: rarely(random(1000), 0, 999, 1000, -1),
    client_id: rarely(share.client_id, 0, 2 ** 53 - 2, -1),
    height: rarely(share.height, 0, 0xffff_ffff, 2 ** 32, -1),
    worker: rarely(share.worker, '', 'é'.repeat(70), 'a\tb\nc\\', '\u{1f600}', `${'x'.repeat(200)}.y`),
    agent: rarely(share.agent, '', '"', '\0'),
    errn: rarely(share.errn, -1, 2 ** 31 - 1, -(2 ** 31)),
    diff: rarely(share.diff, 0, -0, -1, 2 ** 53, 2 ** 53 + 2, 1e19, 1e20 - 16384, 1e20, 5e-324, 1e-18, 0.5e-18, 1.5e-18, 2.5e-18, Number.NaN, Number.POSITIVE_INFINITY, 0.1, 1 / 3, 123456.7890123),
    sdiff: rarely(share.sdiff, -1, 0, -0, 5e-324, 1.7976931348623157e308, Number.NaN, Number.NEGATIVE_INFINITY),
    hash: rarely(share.hash, '', share.hash.toUpperCase(), `${share.hash}0`, share.hash.slice(1), `${share.hash.slice(1)}g`),
    block_hash: rarely('', randomHex(random, 64), 'xyz'),
    enonce1: rarely(share.enonce1, 'ABCDEF', 'İ', ''),
    nonce: rarely(share.nonce, 'DEADBEEF', 'zz'),
    ntime: rarely(share.ntime, share.ntime.toUpperCase(), 'ffffffff', '00000000', '0000000', '+1234567', '0x123456'),
    version_bits: rarely(share.version_bits!, ''),
    upstream: rarely('', 'pool:3333', 'a/b'),
  }; // biome-ignore format: one line each
}

describe.skipIf(noClickHouse !== undefined)('shares as a file', () => {
  let ch: TestClickHouse;
  beforeAll(async () => {
    ch = await startTestClickHouse();
    await migrate(ch.writer);
    await ch.writer.command({ query: 'CREATE TABLE by_rows AS shares_raw' });
  });
  afterAll(() => ch.stop());

  const count = async (query: string): Promise<number> => {
    const answer = await ch.writer.query({
      query: `SELECT toUInt32(count()) AS n FROM (${query})`,
      format: 'JSONEachRow',
    });
    return (await answer.json<{ n: number }>())[0]!.n;
  };

  test('give the rows of the pipeline, and name the same as poison', async () => {
    const seed = newSeed();
    const random = randomFrom(seed);
    const file = new ShareFile(4_000);
    const rows: Row[] = [];
    let plain = 0;
    for (let n = 0; n < 4_000; n++) {
      const body = encodeEvent('share', n % 3 === 0 ? shareOf(random, n) : oddShare(random, n));
      const event = decode(body);
      const wrong = sharePipeline.wrong(event);
      if (wrong === null) rows.push(sharePipeline.row(event, PLACE));
      if (file.addPlain(fingerprint, body)) {
        plain++;
        expect(wrong).toBeNull();
      } else expect(file.add(event)).toBe(wrong);
    }
    expect(plain).toBeGreaterThan(1_000);
    expect(file.count).toBe(rows.length);
    expect(rows.length).toBeLessThan(4_000);
    await insertRows(ch.writer, 'by_rows', rows);
    await insertFile(ch.writer, shareInsert('one'), file.finish());
    expect(await count('SELECT * FROM shares_raw')).toBe(rows.length);
    expect(await count('SELECT * FROM by_rows')).toBe(rows.length);
    expect(await count('SELECT * FROM by_rows EXCEPT SELECT * FROM shares_raw')).toBe(0);
    expect(await count('SELECT * FROM shares_raw EXCEPT SELECT * FROM by_rows')).toBe(0);
    // EXCEPT takes -0 for 0; the bits are compared as well.
    const bits = 'SELECT identity, rank, reinterpretAsUInt64(sdiff) FROM';
    expect(await count(`${bits} by_rows EXCEPT ${bits} shares_raw`)).toBe(0);
    // Minutes and hours are those of the rows.
    const minutes = new Set(rows.map((row) => `${row.origin}/${row.bucket}/${String(row.time).slice(0, 16)}`));
    expect(
      new Set(
        file.minutes().map(({ origin, bucketS, minuteS }) => {
          const text = (s: number): string => new Date(s * 1000).toISOString().slice(0, 19).replace('T', ' ');
          return `${origin}/${text(bucketS)}/${text(minuteS).slice(0, 16)}`;
        }),
      ),
    ).toEqual(minutes);
    // And what a look for copies asks for are the identities of the submissions, with their hours.
    const asked = file
      .select(() => true)
      .map((number) => file.submission(number))
      .map(({ bucket, identity }) => `${bucket.origin}/${bucket.bucketS}/${identity}`);
    const submitted = rows.filter((row) => row.kind === 'submitted');
    expect(asked).toEqual(
      submitted.map(
        (row) => `${row.origin}/${Date.parse(`${String(row.bucket).replace(' ', 'T')}Z`) / 1000}/${row.identity}`,
      ),
    );
  });

  test('one hash at a pool, at two levels of proxy before it and in the words of their upstreams is a row each, however often it comes', async () => {
    const share = { ...shareOf(randomFrom(6), 0), accepted: true, errn: 0, reason: '', hash: 'ab'.repeat(32) };
    const file = new ShareFile(100);
    for (const again of [0, 1, 2]) {
      for (const origin of ['three levels', 'proxy', 'outer proxy']) {
        const seen = { ...share, origin, time_us: share.time_us + again };
        const upstream = { ...seen, kind: 'verdict', upstream: 'pool:3333' };
        for (const event of origin === 'three levels' ? [seen] : [seen, upstream]) {
          expect(file.addPlain(fingerprint, encodeEvent('share', event))).toBe(true);
        }
      }
    }
    await insertFile(ch.writer, shareInsert('levels'), file.finish());
    const rows = async (view: string): Promise<unknown[]> => {
      const query = `SELECT origin FROM ${view} WHERE hash = '${share.hash}' ORDER BY origin`;
      const answer = await ch.writer.query({ query, format: 'JSONEachRow' });
      return (await answer.json<{ origin: string }>()).map(({ origin }) => origin);
    };
    expect(await rows('shares')).toEqual(['outer proxy', 'proxy', 'three levels']);
    expect(await rows('share_verdicts')).toEqual(['outer proxy', 'proxy']);
  });

  test('bytes that are not the one encoding of their event are decoded first: the row is that of the event', () => {
    const random = randomFrom(3);
    const share = { ...shareOf(random, 0), accepted: true, errn: 0, time_us: START_US };
    const body = encodeEvent('share', share);
    const file = new ShareFile(10);
    expect(file.addPlain(fingerprint, body)).toBe(true);
    // What a share log tells is taken as it lies, too.
    const backfill = { ...share, source: 'backfill', time_ns: 345, job_key: '', version_bits: '', client_id: 0 };
    expect(file.addPlain(fingerprint, encodeEvent('share', backfill))).toBe(true);
    expect(file.addPlain('0123456789abcdef', body)).toBe(false);
    expect(file.addPlain(fingerprint, body.subarray(0, -1))).toBe(false);
    expect(file.addPlain(fingerprint, Buffer.concat([body, Buffer.from([0])]))).toBe(false);
    // The length of `kind`, which comes first, in two bytes where one does.
    expect(body[0]).toBe(18);
    expect(file.addPlain(fingerprint, Buffer.concat([Buffer.from([18 | 0x80, 0]), body.subarray(1)]))).toBe(false);
    // A byte that is no UTF-8, in the name of the worker.
    const damaged = Buffer.from(body);
    damaged[damaged.indexOf('.rig')] = 0xff;
    expect(file.addPlain(fingerprint, damaged)).toBe(false);
    // Any single byte cut out or flipped gives no exception.
    for (let i = 0; i < 2_000; i++) {
      const bytes = Buffer.from(body);
      const at = random(bytes.length);
      bytes[at] = bytes[at]! ^ (1 << random(8));
      new ShareFile(1).addPlain(fingerprint, bytes);
    }
    expect(file.count).toBe(2);
  });
});

test(`accepted and refused shares and verdicts are taken as they lie, with the identities of their events (SEED=${SEED})`, () => {
  const random = randomFrom(SEED);
  const file = new ShareFile(3_000);
  const wanted: string[] = [];
  for (let n = 0; n < 1_500; n++) {
    const share = shareOf(random, n);
    const event: Inputs['share'] = [
      share,
      // As miners send them: capitals, texts of odd length, no hash where the job is unknown, nanoseconds of a share log.
      { ...share, accepted: false, errn: random(7) - 1, hash: random(2) === 0 ? '' : share.hash, time_ns: random(1000) },
      { ...share, accepted: false, errn: 3, nonce: 'DEADBEEF', enonce1: 'ABcd', nonce2: '', ntime: 'zz', source: 'backfill' },
      { ...share, kind: 'verdict', accepted: random(2) === 0, errn: 100, upstream: 'ä.example:3333' },
    ][n % 4]!;
    expect(file.addPlain(fingerprint, encodeEvent('share', event))).toBe(true);
    if (event.kind !== 'verdict') wanted.push(shareIdentity(event));
  }
  const found = file.select(() => true).map((number) => file.submission(number).identity);
  expect(found).toEqual(wanted);
  // Letters that are no ASCII become lower case by other rules, and very long texts are left to those too.
  const refused = { ...shareOf(random, 0), accepted: false, errn: 5 };
  for (const odd of [{ enonce1: 'İ' }, { nonce2: 'ab'.repeat(5_000) }]) {
    const event = { ...refused, ...odd };
    const one = new ShareFile(1);
    expect(one.addPlain(fingerprint, encodeEvent('share', event))).toBe(false);
    expect(one.add(decode(encodeEvent('share', event)))).toBeNull();
    expect(one.submission(0).identity).toBe(shareIdentity(event));
  }
}); // biome-ignore format: kinds of shares, one line each

test('a number that a reader of bytes takes and no writer has is a letter, and costs no neighbour', () => {
  const share = { ...shareOf(randomFrom(7), 0), accepted: false, errn: 5, reason: 'Above target' };
  const body = encodeEvent('share', share);
  const at = body.indexOf('Above target') - 2;
  expect([...body.subarray(at, at + 2)]).toEqual([10, 24]);
  const file = new ShareFile(4);
  // 2^31, -2^31 - 1 and 2^53 - 2 as zigzag varints.
  for (const errn of ['8080808010', '8180808010', 'fcffffffffffff1f']) {
    const odd = Buffer.concat([body.subarray(0, at), Buffer.from(errn, 'hex'), body.subarray(at + 1)]);
    expect(file.addPlain(fingerprint, odd)).toBe(false);
    expect(file.add(decode(odd))).toMatch(/^errn: expected 32 bits/);
    expect(file.addPlain(fingerprint, body)).toBe(true);
  }
  expect(file.count).toBe(3);
});

test('a share by an earlier schema is the same bytes as by the present one, so that two copies of it have one rank', () => {
  const schema = JSON.parse(currentSchemaText('share')) as { fields: { name: string }[] };
  const earlier = JSON.stringify({ ...schema, fields: schema.fields.filter(({ name }) => name !== 'upstream') });
  const body = encodeEvent('share', { ...shareOf(randomFrom(5), 0), accepted: true, errn: 0 });
  // `upstream` is the last field, and empty.
  expect(schema.fields.at(-1)!.name).toBe('upstream');
  const present = new ShareFile(1);
  expect(present.addPlain(fingerprint, body)).toBe(true);
  const decoded = new ShareFile(1);
  expect(decoded.add(decoderFor('share', earlier)(body.subarray(0, -1)))).toBeNull();
  const block = (file: ShareFile): Buffer => {
    const bytes = file.finish();
    const sync = bytes.subarray(-16);
    return bytes.subarray(bytes.indexOf(sync) + 16, -16);
  };
  expect(block(decoded).equals(block(present))).toBe(true);
});
