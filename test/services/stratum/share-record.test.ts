import { expect, test } from 'vitest';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { ShareInput } from '../../../schemas/events.ts';
import { isUsualTime, ShareRecords, shareTemplate, TEXT, TEXT_BYTES } from '../../../services/stratum/share-record.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

const random = seeded(SEED);

function digits(n: number): string {
  return Array.from({ length: n }, () => '0123456789abcdefABCDEF'[Math.floor(random() * 22)]).join('');
}

const NAMES = ['alice.w1', 'Ünïcode.矿工', '', '"quoted"', 'x'.repeat(200)];

test(`a share from its template has the bytes that the encoder gives (SEED=${SEED})`, () => {
  const records = new ShareRecords();
  const decode = decoderFor('share');
  for (let round = 0; round < 500; round++) {
    const pick = (): string => NAMES[Math.floor(random() * NAMES.length)]!;
    const hashed = random() < 0.8;
    const hasBits = random() < 0.5;
    const nonce2Digits = 2 * Math.floor(1 + random() * 16);
    const base = {
      origin: pick(),
      instance: pick(),
      source: 'live',
      client_id: Math.floor(random() * 1e9),
      listener: '0.0.0.0:3333',
      job_id: pick(),
      job_key: pick(),
      height: Math.floor(random() * 1e6),
      user: pick(),
      worker: pick(),
      agent: pick(),
      address: '::1',
      accepted: random() < 0.5,
      errn: Math.floor(random() * 6),
      reason: pick(),
      diff: random() * 1e3,
      block_hash: random() < 0.2 ? digits(64) : '',
      enonce1: digits(8),
    };
    const vary = (): ShareInput => ({
      ...base,
      time_us: Math.floor(1e15 + random() * 7e15),
      sdiff: hashed ? random() * 1e5 : -1,
      hash: hashed ? digits(64) : '',
      nonce2: digits(nonce2Digits),
      nonce: digits(8),
      ntime: digits(8),
      version_bits: hasBits ? digits(8) : '',
    });
    const template = shareTemplate(vary())!;
    records.clear();
    const expected: Buffer[] = [];
    const shares: ShareInput[] = [];
    for (let i = 0; i < 8; i++) {
      const share = vary();
      shares.push(share);
      expected.push(encodeEvent('share', share));
      if (i === 3) {
        // One of another kind between them.
        records.append(expected.at(-1)!);
        continue;
      }
      const at = Math.floor(random() * 5);
      const texts = Buffer.alloc(at + TEXT_BYTES);
      texts.write(share.nonce, at + TEXT.nonce);
      texts.write(share.ntime, at + TEXT.ntime);
      texts.write(share.version_bits ?? '', at + TEXT.versionBits);
      texts.write(share.nonce2, at + TEXT.nonce2);
      records.write(template, share.time_us, share.sdiff, Buffer.from(share.hash), texts, at);
    }
    expect(records.count).toBe(8);
    expect(records.bytes.subarray(0, records.lengthBytes).equals(Buffer.concat(expected))).toBe(true);
    for (let i = 0, from = 0; i < 8; from = records.ends[i++]!) {
      if (round % 50 === 0) {
        expect(decode(records.bytes.subarray(from, records.ends[i]!))).toMatchObject({ ...shares[i] });
      }
    }
  }
});

test('a share whose digits have not their usual number has no template', () => {
  const share: ShareInput = {
    origin: 'o',
    instance: 'i',
    source: 'live',
    time_us: 1795327660_981450,
    client_id: 1,
    listener: 'l',
    job_id: 'j',
    height: 1,
    user: 'u',
    worker: 'w',
    agent: '',
    address: 'a',
    accepted: true,
    errn: 0,
    diff: 1,
    sdiff: 2,
    hash: '0'.repeat(64),
    enonce1: '00000001',
    nonce2: '0000',
    nonce: '00000000',
    ntime: '6b0286a9',
  };
  expect(shareTemplate(share)).not.toBeNull();
  expect(shareTemplate({ ...share, ntime: '6b0286a' })).toBeNull();
  expect(shareTemplate({ ...share, version_bits: '2000' })).toBeNull();
  expect(shareTemplate({ ...share, hash: '00' })).toBeNull();
  expect(shareTemplate({ ...share, time_us: 5 })).toBeNull();
  expect(isUsualTime(Date.now() * 1000)).toBe(true);
});
