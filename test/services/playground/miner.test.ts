import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bytesFromHex, hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { bitsInMask, headerOf, jobFromNotify, startCpuMiner } from '../../../services/playground/miner.ts';

interface Golden {
  part1: string;
  extranonce1: string;
  extranonce2: string;
  part2: string;
  branch: string[];
  prevhash: string;
  version: string;
  bits: string;
  ntime: string;
  shares: { nonce: string; version_bits: string | null; header: string }[];
}
/** A job of CKPool as seen on the wire; see test/vectors/README.md. */
const golden = JSON.parse(readFileSync('test/vectors/ckpool-golden.json', 'utf8')) as Golden;
const params = [
  'id',
  golden.prevhash,
  golden.part1,
  golden.part2,
  golden.branch,
  golden.version,
  golden.bits,
  golden.ntime,
  true,
];

describe("a job of CKPool's", () => {
  it.each(golden.shares)('gives the header of its share, nonce $nonce', ({ version_bits, header }) => {
    const job = jobFromNotify(params);
    const version = job.version | (version_bits === null ? 0 : Number.parseInt(version_bits, 16));
    const built = headerOf(job, bytesFromHex(golden.extranonce1), bytesFromHex(golden.extranonce2), version);
    expect(hexFromBytes(built).slice(0, 152)).toBe(header.slice(0, 152));
    expect(hexFromBytes(built).slice(152)).toBe('00000000');
  });

  it.each([
    [0, 5],
    [1, 'zz'],
    [1, '00'],
    [2, 'zz'],
    [4, 'x'],
    [4, ['00']],
    [5, '2000000'],
    [6, null],
    [7, ''],
  ])('with parameter %i as %j is refused', (i, value) => {
    expect(() => jobFromNotify((params as unknown[]).with(i, value))).toThrow(RangeError);
    expect(() => jobFromNotify(params.slice(0, i))).toThrow(RangeError);
  });
});

it('version bits stay in the mask and differ while it has room', () => {
  const mask = 0x1fffe000;
  const seen = new Set<number>();
  for (let counter = 0; counter < 65_536; counter++) {
    const bits = bitsInMask(counter, mask);
    seen.add(bits);
  }
  expect([...seen].filter((bits) => (bits & ~mask) !== 0)).toEqual([]);
  expect(seen.size).toBe(65_536);
  expect(bitsInMask(5, 0)).toBe(0);
  expect(bitsInMask(1, 0x80000000)).toBe(0x80000000);
});

it.each([0, -1, 1.1, Number.NaN])('a duty cycle of %d is refused', (dutyCycle) => {
  expect(() => startCpuMiner({ host: '127.0.0.1', port: 1, user: 'u', pass: 'x', dutyCycle })).toThrow(RangeError);
});
