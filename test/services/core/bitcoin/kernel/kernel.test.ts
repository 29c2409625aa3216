/** The share kernel against the reference on node:crypto, and against what CKPool and block chains gave. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesFromHex, hexFromBytes } from '../../../../../services/core/bitcoin/bytes.ts';
import { sha256d } from '../../../../../services/core/bitcoin/hash.ts';
import { hashHex, prevHashFromStratum } from '../../../../../services/core/bitcoin/header.ts';
import {
  BRANCH_LIMIT,
  COINBASE_LIMIT_BYTES,
  EXTRANONCE_LIMIT_BYTES,
  type KernelJob,
  LANE_COUNT,
  readHex32,
  ShareKernel,
} from '../../../../../services/core/bitcoin/kernel/kernel.ts';
import { shareKernelBytes } from '../../../../../services/core/bitcoin/kernel/share-code.ts';
import { meetsTarget } from '../../../../../services/core/bitcoin/pow.ts';
import {
  DIFFICULTY_1_TARGET,
  hashValue,
  shareDifficulty,
  targetFromBits,
} from '../../../../../services/core/bitcoin/target.ts';
import { type CheckedJob, shareHeader } from '../../../../../services/stratum/share.ts';
import { SEED } from '../../../../helpers/seed.ts';
import blocks from '../../../../vectors/bitcoin-blocks.json' with { type: 'json' };
import golden from '../../../../vectors/ckpool-golden.json' with { type: 'json' };
import ckpoolJobs from '../../../../vectors/ckpool-jobs.json' with { type: 'json' };

console.log(`share kernel: SEED=${SEED}`);

interface Share {
  readonly enonce1: Uint8Array;
  readonly nonce2: Uint8Array;
  readonly version: number;
  readonly ntime: number;
  readonly nonce: number;
}

/** The reference's header. */
function referenceHeader(job: KernelJob, share: Share): Uint8Array {
  const checked: CheckedJob = {
    ...job,
    pow: 'sha256d',
    version: share.version >>> 0,
    ntime: 0,
    maxAheadS: 0,
    difficulty1: 1,
    wireMultiplier: 1,
  };
  return shareHeader({ nonce2: share.nonce2, ntime: share.ntime, nonce: share.nonce, versionBits: null }, checked, {
    enonce1: share.enonce1,
    versionMask: 0,
  });
}

function expectLane(kernel: ShareKernel, lane: number, job: KernelJob, share: Share): void {
  const header = referenceHeader(job, share);
  const hash = sha256d(header);
  expect(hexFromBytes(kernel.headers[lane]!)).toBe(hexFromBytes(header));
  expect(hexFromBytes(kernel.hashes[lane]!)).toBe(hexFromBytes(hash));
  expect(kernel.hashHex(lane)).toBe(hashHex(hash));
  expect(Buffer.from(kernel.hashLetters[lane]!).toString()).toBe(hashHex(hash));
  expect(kernel.hashWords[lane]).toEqual(new Uint32Array(hash.slice().buffer));
  const difficulty1 = Number(DIFFICULTY_1_TARGET);
  expect(difficulty1 / (kernel.value(lane) || 1)).toBe(shareDifficulty(hash, difficulty1));
  expect(kernel.solves(lane)).toBe(meetsTarget(hash, job.target));
}

function put(kernel: ShareKernel, lane: number, slot: number, share: Share): void {
  kernel.setLane(lane, slot, share.enonce1, share.nonce2, share.version, share.ntime, share.nonce);
}

const bytes = (least: number, most: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: least, maxLength: most });
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });

interface JobShape {
  readonly part1: number;
  readonly part2: number;
  readonly branches: number;
  readonly extranonce: number;
}

const shapes: fc.Arbitrary<JobShape> = fc.record({
  part1: fc.integer({ min: 0, max: 300 }),
  part2: fc.integer({ min: 0, max: 300 }),
  branches: fc.integer({ min: 0, max: 16 }),
  extranonce: fc.integer({ min: 2, max: 16 }),
});

const jobsOf = ({ part1, part2, branches, extranonce }: JobShape): fc.Arbitrary<KernelJob> =>
  fc.record({
    coinbase1: bytes(part1, part1),
    coinbase2: bytes(part2, part2),
    branch: fc.array(bytes(32, 32), { minLength: branches, maxLength: branches }),
    headerBase: bytes(80, 80),
    // Half of all hashes are at or below it.
    target: fc.bigInt({ min: 0n, max: (1n << 256n) - 1n }),
    extranonceBytes: fc.constant(extranonce),
  });

const sharesOf = (extranonce: number): fc.Arbitrary<Share> =>
  fc
    .record({ cut: fc.integer({ min: 0, max: extranonce }), version: uint32, ntime: uint32, nonce: uint32 })
    .chain(({ cut, ...rest }) =>
      fc.record({
        enonce1: bytes(cut, cut),
        nonce2: bytes(extranonce - cut, extranonce - cut),
        version: fc.constant(rest.version),
        ntime: fc.constant(rest.ntime),
        nonce: fc.constant(rest.nonce),
      }),
    );

/** Four jobs of one shape, and four shares on them. */
const fours = shapes.chain((shape) =>
  fc.tuple(
    fc.tuple(jobsOf(shape), jobsOf(shape), jobsOf(shape), jobsOf(shape)),
    fc.tuple(
      sharesOf(shape.extranonce),
      sharesOf(shape.extranonce),
      sharesOf(shape.extranonce),
      sharesOf(shape.extranonce),
    ),
  ),
);

const aJob = (changes: Partial<KernelJob> = {}): KernelJob => ({
  coinbase1: new Uint8Array(100).fill(1),
  coinbase2: new Uint8Array(90).fill(2),
  branch: [new Uint8Array(32).fill(3)],
  headerBase: new Uint8Array(80).fill(4),
  target: 0n,
  extranonceBytes: 12,
  ...changes,
});
const aShare = (fill: number, extranonce = 12): Share => ({
  enonce1: new Uint8Array(4).fill(fill),
  nonce2: new Uint8Array(extranonce - 4).fill(fill + 1),
  version: 0x2000_0000,
  ntime: 1_790_000_000 + fill,
  nonce: 0xfedc_ba98,
});

test('share-kernel.wasm is what `npm run kernel` gives', () => {
  const committed = readFileSync(
    new URL('../../../../../services/core/bitcoin/kernel/share-kernel.wasm', import.meta.url),
  );
  expect(Buffer.from(shareKernelBytes()).equals(committed)).toBe(true);
});

describe('one lane and four lanes give what the reference gives', () => {
  const kernel = new ShareKernel();

  test('for jobs of random size, several in one call, with slots used again', () => {
    fc.assert(
      fc.property(fours, fc.integer({ min: 1, max: 4 }), ([jobs, shares], count) => {
        const slots = jobs.map((job) => kernel.add(job));
        expect(new Set(slots.map((slot) => kernel.shape(slot))).size).toBe(1);
        for (let lane = 0; lane < count; lane++) put(kernel, lane, slots[lane]!, shares[lane]!);
        kernel.hash(count);
        for (let lane = 0; lane < count; lane++) expectLane(kernel, lane, jobs[lane]!, shares[lane]!);
        // Each alone, in another lane.
        for (let i = 0; i < 4; i++) {
          const lane = (i + 1) % 4;
          put(kernel, lane, slots[i]!, shares[i]!);
          kernel.hash1(lane);
          expectLane(kernel, lane, jobs[i]!, shares[i]!);
        }
        for (const slot of slots) kernel.remove(slot);
      }),
      { seed: SEED, numRuns: 150 },
    );
    // Nothing is left behind.
    expect(kernel.add(aJob())).toBeLessThan(4);
  });

  test('for every length of both parts round the borders of blocks', () => {
    for (let part1 = 0; part1 <= 130; part1++) {
      for (const part2 of [0, 1, 41, 42, 43, 44, 55, 56, 57, 63, 64, 65, (200 - part1) & 63]) {
        const job = aJob({
          coinbase1: new Uint8Array(part1).fill(part1),
          coinbase2: new Uint8Array(part2).fill(part2),
          branch: [],
        });
        const slot = kernel.add(job);
        for (let lane = 0; lane < 3; lane++) put(kernel, lane, slot, aShare(lane));
        kernel.hash(3);
        for (let lane = 0; lane < 3; lane++) expectLane(kernel, lane, job, aShare(lane));
        put(kernel, 3, slot, aShare(9));
        kernel.hash1(3);
        expectLane(kernel, 3, job, aShare(9));
        kernel.remove(slot);
      }
    }
  });

  test('for every length of the extranonce, up to the longest', () => {
    for (let extranonceBytes = 4; extranonceBytes <= EXTRANONCE_LIMIT_BYTES; extranonceBytes++) {
      for (const part1 of [0, 1, 31, 40, 63, 64]) {
        const job = aJob({ coinbase1: new Uint8Array(part1).fill(7), extranonceBytes });
        const slot = kernel.add(job);
        const shares = [aShare(1, extranonceBytes), aShare(2, extranonceBytes), aShare(3, extranonceBytes)];
        shares.forEach((share, lane) => {
          put(kernel, lane, slot, share);
        });
        kernel.hash(3);
        shares.forEach((share, lane) => {
          expectLane(kernel, lane, job, share);
        });
        kernel.hash1(1);
        expectLane(kernel, 1, job, shares[1]!);
        kernel.remove(slot);
      }
    }
  });

  test('for jobs of different shape in one call, and for the longest coinbase with the most steps', () => {
    const long = aJob({
      coinbase1: new Uint8Array(30_000).fill(5),
      coinbase2: new Uint8Array(COINBASE_LIMIT_BYTES - 30_012).fill(6),
      branch: Array.from({ length: BRANCH_LIMIT }, (_, i) => new Uint8Array(32).fill(i)),
    });
    const jobs = [aJob(), long, aJob({ branch: [] }), long];
    const slots = jobs.map((job) => kernel.add(job));
    slots.forEach((slot, lane) => {
      put(kernel, lane, slot, aShare(lane));
    });
    kernel.hash(4);
    jobs.forEach((job, lane) => {
      expectLane(kernel, lane, job, aShare(lane));
    });
    for (let lane = 0; lane < 3; lane++) put(kernel, lane, slots[lane === 1 ? 1 : 3]!, aShare(lane));
    kernel.hash(3);
    for (let lane = 0; lane < 3; lane++) expectLane(kernel, lane, long, aShare(lane));
    for (const slot of slots) kernel.remove(slot);
  });

  test('results stay until the lane itself is hashed again', () => {
    const slot = kernel.add(aJob());
    for (let lane = 0; lane < 4; lane++) put(kernel, lane, slot, aShare(lane));
    kernel.hash(4);
    for (let lane = 0; lane < 4; lane++) put(kernel, lane, slot, aShare(10 + lane));
    kernel.hash(3);
    for (let lane = 0; lane < 3; lane++) expectLane(kernel, lane, aJob(), aShare(10 + lane));
    expectLane(kernel, 3, aJob(), aShare(3));
    kernel.hash1(0);
    kernel.remove(slot);
    expectLane(kernel, 1, aJob(), aShare(11));
    expectLane(kernel, 3, aJob(), aShare(3));
  });

  test('a hash at the target solves, one above it does not', () => {
    const job = aJob();
    const value = hashValue(sha256d(referenceHeader(job, aShare(1))));
    const border = [value, value - 1n, value + (1n << 64n), value - (1n << 128n), value + (1n << 192n)];
    for (const target of border) {
      const slot = kernel.add({ ...job, target });
      for (let lane = 0; lane < 4; lane++) put(kernel, lane, slot, aShare(1));
      kernel.hash(3);
      kernel.hash1(3);
      for (let lane = 0; lane < 4; lane++) expect(kernel.solves(lane)).toBe(value <= target);
      kernel.remove(slot);
    }
  });
});

describe('outside truth', () => {
  const goldenBase = new Uint8Array(80);
  goldenBase.set(prevHashFromStratum(golden.prevhash), 4);
  new DataView(goldenBase.buffer).setUint32(72, Number.parseInt(golden.bits, 16), true);

  test("CKPool's two shares give the header, hash and sdiff that CKPool saw", () => {
    const kernel = new ShareKernel();
    const slot = kernel.add({
      coinbase1: bytesFromHex(golden.part1),
      coinbase2: bytesFromHex(golden.part2),
      branch: golden.branch.map((step) => bytesFromHex(step)),
      headerBase: goldenBase,
      target: targetFromBits(Number.parseInt(golden.bits, 16)),
      extranonceBytes: 12,
    });
    golden.shares.forEach((share, lane) => {
      kernel.setLane(
        lane,
        slot,
        bytesFromHex(golden.extranonce1),
        bytesFromHex(golden.extranonce2),
        Number.parseInt(golden.version, 16) | Number.parseInt(share.version_bits ?? '0', 16),
        Number.parseInt(golden.ntime, 16),
        Number.parseInt(share.nonce, 16),
      );
    });
    kernel.hash(golden.shares.length);
    golden.shares.forEach((share, lane) => {
      expect(hexFromBytes(kernel.headers[lane]!)).toBe(share.header);
      expect(kernel.hashHex(lane)).toBe(share.hash);
      if (share.sdiff !== null) expect(Number(DIFFICULTY_1_TARGET) / kernel.value(lane)).toBe(share.sdiff);
    });
  });

  test("jobs that a CKPool sent give the reference's headers", () => {
    const kernel = new ShareKernel();
    expect(ckpoolJobs.jobs.length).toBeGreaterThan(0);
    for (const { notify } of ckpoolJobs.jobs) {
      const [, prevHash, part1, part2, branch, version, bits, ntime] = notify as [
        string,
        string,
        string,
        string,
        string[],
        string,
        string,
        string,
        boolean,
      ];
      const headerBase = new Uint8Array(80);
      headerBase.set(prevHashFromStratum(prevHash), 4);
      new DataView(headerBase.buffer).setUint32(72, Number.parseInt(bits, 16), true);
      const job = aJob({
        coinbase1: bytesFromHex(part1),
        coinbase2: bytesFromHex(part2),
        branch: branch.map((step) => bytesFromHex(step)),
        headerBase,
        target: targetFromBits(Number.parseInt(bits, 16)),
      });
      const share: Share = { ...aShare(3), version: Number.parseInt(version, 16), ntime: Number.parseInt(ntime, 16) };
      const slot = kernel.add(job);
      put(kernel, 0, slot, share);
      for (let lane = 1; lane < 4; lane++) put(kernel, lane, slot, aShare(lane));
      kernel.hash(4);
      expectLane(kernel, 0, job, share);
      for (let lane = 1; lane < 4; lane++) expectLane(kernel, lane, job, aShare(lane));
    }
  });

  test('blocks of public chains whose only transaction is known give their hash and solve', () => {
    const kernel = new ShareKernel();
    const genesis = blocks.headers.filter(({ merkle_root: root }) => root === blocks.headers[0]!.merkle_root);
    expect(genesis.length).toBeGreaterThan(0);
    // Bitcoin Core kernel/chainparams.cpp, CreateGenesisBlock.
    const text = 'The Times 03/Jan/2009 Chancellor on brink of second bailout for banks';
    const key =
      '04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f';
    const coinbase = bytesFromHex(
      `0100000001${'00'.repeat(32)}ffffffff4d04ffff001d010445${Buffer.from(text).toString('hex')}` +
        `ffffffff0100f2052a010000004341${key}ac00000000`,
    );
    for (const block of genesis) {
      const headerBase = new Uint8Array(80);
      const bits = Number.parseInt(block.bits, 16);
      new DataView(headerBase.buffer).setUint32(72, bits, true);
      const slot = kernel.add({
        coinbase1: coinbase.subarray(0, 50),
        coinbase2: coinbase.subarray(58),
        branch: [],
        headerBase,
        target: targetFromBits(bits),
        extranonceBytes: 8,
      });
      kernel.setLane(
        0,
        slot,
        coinbase.subarray(50, 54),
        coinbase.subarray(54, 58),
        block.version,
        block.time,
        block.nonce,
      );
      kernel.hash(1);
      expect(kernel.hashHex(0)).toBe(block.hash);
      expect(kernel.solves(0)).toBe(true);
    }
  });
});

describe('a lane from the bytes of a line', () => {
  const kernel = new ShareKernel();
  const enonce1 = bytesFromHex('0badc0de');
  const line = Buffer.from('{"params": ["w","j","00112233AaBbCcDd","6b0286a9","fedcba98"],"id":1}');
  const places = [line.indexOf('0011'), line.indexOf('6b02'), line.indexOf('fedc')] as const;

  test('gives what the numbers give, for small and large letters', () => {
    const slot = kernel.add(aJob());
    expect(kernel.setLaneHex(0, slot, enonce1, 0x2000_0000, line, ...places)).toBe(0x6b02_86a9);
    kernel.hash(1);
    expectLane(kernel, 0, aJob(), {
      enonce1,
      nonce2: bytesFromHex('00112233aabbccdd'),
      version: 0x2000_0000,
      ntime: 0x6b02_86a9,
      nonce: 0xfedc_ba98,
    });
  });

  test('any byte that is no hex digit, and a line that ends before, is -1 and leaves nothing to hash', () => {
    const slot = kernel.add(aJob());
    const [nonce2At, ntimeAt, nonceAt] = places;
    const digits = [
      ...Array.from({ length: 16 }, (_, i) => nonce2At + i),
      ...Array.from({ length: 8 }, (_, i) => ntimeAt + i),
      ...Array.from({ length: 8 }, (_, i) => nonceAt + i),
    ];
    for (const at of digits) {
      for (const wrong of ['g', 'G', '/', ':', '@', '`', '"', ' ', '\0', '\xb0']) {
        const changed = Buffer.from(line);
        changed.write(wrong, at, 'latin1');
        expect(kernel.setLaneHex(1, slot, enonce1, 0, changed, ...places)).toBe(-1);
      }
    }
    expect(kernel.setLaneHex(1, slot, enonce1, 0, line.subarray(0, nonceAt + 7), ...places)).toBe(-1);
    expect(kernel.setLaneHex(1, slot, enonce1, 0, line, line.length - 15, ntimeAt, nonceAt)).toBe(-1);
    expect(() => kernel.hash1(1)).toThrow('holds no share');
  });

  test('readHex32 reads what parseInt reads', () => {
    fc.assert(
      fc.property(uint32, fc.boolean(), (value, large) => {
        const text = value.toString(16).padStart(8, '0');
        expect(readHex32(Buffer.from(`..${large ? text.toUpperCase() : text}`), 2)).toBe(value);
      }),
      { seed: SEED },
    );
    expect(readHex32(Buffer.from('1234567'), 0)).toBe(-1);
    expect(readHex32(Buffer.from('1234567x'), 0)).toBe(-1);
  });
});

describe('limits', () => {
  const wrong: [string, Partial<KernelJob>, RegExp][] = [
    ['a coinbase that is too long', { coinbase1: new Uint8Array(COINBASE_LIMIT_BYTES) }, /^coinbase: expected/],
    ['too many steps', { branch: Array.from({ length: BRANCH_LIMIT + 1 }, () => new Uint8Array(32)) }, /^branch:/],
    ['a step of another size', { branch: [new Uint8Array(31)] }, /^branch: expected steps of 32/],
    ['a header base of another size', { headerBase: new Uint8Array(76) }, /^headerBase:/],
    ['a target below 0', { target: -1n }, /^target:/],
    ['a target of 257 bits', { target: 1n << 256n }, /^target:/],
    ['an extranonce that is too long', { extranonceBytes: EXTRANONCE_LIMIT_BYTES + 1 }, /^extranonceBytes:/],
    ['a fraction of a byte', { extranonceBytes: 1.5 }, /^extranonceBytes:/],
  ];
  test.each(wrong)('%s is a RangeError', (_name, changes, message) => {
    const kernel = new ShareKernel();
    expect(() => kernel.add(aJob(changes))).toThrow(RangeError);
    expect(() => kernel.add(aJob(changes))).toThrow(message);
  });

  test('a slot or lane that is none, a lane without a share and an extranonce of another size are RangeErrors', () => {
    const kernel = new ShareKernel();
    const slot = kernel.add(aJob());
    const line = Buffer.from('0'.repeat(40));
    for (const bad of [slot + 1, -1, 0.5, Number.NaN, 1e9]) {
      expect(() => kernel.shape(bad)).toThrow(RangeError);
      expect(() => kernel.remove(bad)).toThrow(RangeError);
      expect(() => put(kernel, 0, bad, aShare(1))).toThrow(RangeError);
    }
    for (const bad of [-1, LANE_COUNT, 0.5, Number.NaN]) {
      expect(() => put(kernel, bad, slot, aShare(1))).toThrow(RangeError);
      expect(() => kernel.hash1(bad)).toThrow(RangeError);
      expect(() => kernel.setLaneHex(bad, slot, new Uint8Array(4), 0, line, 0, 16, 24)).toThrow(RangeError);
    }
    for (const bad of [0, 5, -1, Number.NaN]) expect(() => kernel.hash(bad)).toThrow(RangeError);
    expect(() => kernel.hash(1)).toThrow('lane 0: holds no share');
    expect(() => put(kernel, 0, slot, aShare(1, 13))).toThrow('extranonce: expected 12 bytes, got 4 and 9');
    expect(() => kernel.setLaneHex(0, slot, new Uint8Array(13), 0, line, 0, 16, 24)).toThrow(RangeError);
    put(kernel, 0, slot, aShare(1));
    kernel.hash(1);
    kernel.remove(slot);
    expect(() => kernel.remove(slot)).toThrow(RangeError);
    expect(() => kernel.hash(1)).toThrow('lane 0: holds no share');
    expect(() => put(kernel, 0, slot, aShare(1))).toThrow(RangeError);
  });

  test('memory grows with the jobs, is used again, and when it is full that is a RangeError that harms nothing', () => {
    const kernel = new ShareKernel(5_000_000);
    const first = kernel.add(aJob());
    put(kernel, 0, first, aShare(1));
    const startBytes = kernel.memoryBytes;
    const big = aJob({ coinbase1: new Uint8Array(0), coinbase2: new Uint8Array(COINBASE_LIMIT_BYTES - 12) });
    const slots: number[] = [];
    let full: unknown = null;
    while (full === null) {
      try {
        slots.push(kernel.add(big));
      } catch (error) {
        full = error;
      }
    }
    expect(full).toBeInstanceOf(RangeError);
    expect(String(full)).toContain('full of jobs');
    expect(kernel.memoryBytes).toBeGreaterThan(startBytes);
    const grownBytes = kernel.memoryBytes;
    kernel.hash(1);
    expectLane(kernel, 0, aJob(), aShare(1));
    // In another order than they were added.
    const mixed = slots.filter((_, i) => i % 3 !== 0);
    for (const slot of mixed) kernel.remove(slot);
    for (let i = 0; i < mixed.length; i++) kernel.add(big);
    expect(kernel.memoryBytes).toBe(grownBytes);
    expect(() => kernel.add(big)).toThrow('full of jobs');
    const last = kernel.add(aJob({ branch: [] }));
    put(kernel, 1, last, aShare(2));
    kernel.hash(2);
    expectLane(kernel, 0, aJob(), aShare(1));
    expectLane(kernel, 1, aJob({ branch: [] }), aShare(2));
  });
});
