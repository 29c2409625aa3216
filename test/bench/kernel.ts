/**
 * What a share costs from extranonce to hash: the kernel alone and four at a time, against the reference on node:crypto, in one run and as
 * ratios, since machines differ.
 *
 *     npm run bench:kernel
 *
 * Rounds of all ways follow each other, and a fast one of each is taken, since whatever else runs on the machine slows the others.
 */
import { sha256d } from '../../services/core/bitcoin/hash.ts';
import { ShareKernel } from '../../services/core/bitcoin/kernel/kernel.ts';
import { type CheckedJob, shareHeader } from '../../services/stratum/share.ts';

const ROUNDS = 150;
/** Short, so that in some of them nothing else ran. */
const ROUND_MS = 2;

const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));

function jobOf(branches: number): CheckedJob & { readonly extranonceBytes: number } {
  return {
    pow: 'sha256d',
    coinbase1: random(88),
    coinbase2: random(150),
    branch: Array.from({ length: branches }, () => random(32)),
    headerBase: random(80),
    version: 0x2000_0000,
    target: 1n << 200n,
    ntime: 1,
    maxAheadS: 1,
    difficulty1: 1,
    wireMultiplier: 1,
    extranonceBytes: 12,
  };
}

interface Way {
  readonly name: string;
  /** Hashes some shares; gives how many. */
  readonly run: () => number;
}

const PER_RUN = 48;

/** Microseconds a share of each way: a tenth of the rounds are faster. */
function measure(ways: readonly Way[]): number[] {
  const times: number[][] = ways.map(() => []);
  for (const { run } of ways) for (let i = 0; i < 50; i++) run();
  for (let round = 0; round < ROUNDS; round++) {
    ways.forEach(({ run }, i) => {
      const start = performance.now();
      let shares = 0;
      while (performance.now() < start + ROUND_MS) shares += run();
      times[i]!.push(((performance.now() - start) * 1000) / shares);
    });
  }
  return times.map((all) => all.sort((a, b) => a - b)[Math.floor(ROUNDS / 10)]!);
}

const startMs = performance.now();
const early = new ShareKernel();
console.log(`the first kernel of a process is made in ${(performance.now() - startMs).toFixed(2)} ms`);
{
  const job = jobOf(12);
  const slot = early.add(job);
  const first: string[] = [];
  for (const shares of [1, 4, 1, 4, 400, 4000]) {
    const from = performance.now();
    for (let done = 0; done < shares; done += 4) {
      const count = Math.min(4, shares);
      for (let lane = 0; lane < count; lane++) early.setLane(lane, slot, random(4), random(8), 1, 2, done);
      if (count === 1) early.hash1(0);
      else early.hash(count);
    }
    first.push(`${shares} in ${(performance.now() - from).toFixed(2)} ms`);
  }
  console.log(`the first shares of a process: ${first.join(', then ')}`);
}

for (const branches of [0, 12]) {
  const job = jobOf(branches);
  const enonce1 = random(4);
  const nonce2s = Array.from({ length: PER_RUN }, () => random(8));
  const line = Buffer.from('{"params": ["w","0000000000000000","0011223344556677","6b0286a9","fedcba98"],"id":1}');
  const kernel = new ShareKernel();
  const slot = kernel.add(job);
  const batches =
    (count: number): (() => number) =>
    () => {
      for (let i = 0; i < PER_RUN; i += count) {
        for (let lane = 0; lane < count; lane++) kernel.setLane(lane, slot, enonce1, nonce2s[i + lane]!, 1, 2, i);
        kernel.hash(count);
      }
      return PER_RUN;
    };
  const ways: Way[] = [
    {
      name: 'reference (node:crypto)',
      run: () => {
        for (const nonce2 of nonce2s) {
          const header = shareHeader({ nonce2, ntime: 2, nonce: 3, versionBits: null }, job, {
            enonce1,
            versionMask: 0,
          });
          sha256d(header);
        }
        return PER_RUN;
      },
    },
    {
      name: 'kernel, hash1',
      run: () => {
        for (const nonce2 of nonce2s) {
          kernel.setLane(0, slot, enonce1, nonce2, 1, 2, 3);
          kernel.hash1(0);
        }
        return PER_RUN;
      },
    },
    { name: 'kernel, hash(2)', run: batches(2) },
    { name: 'kernel, hash(3)', run: batches(3) },
    { name: 'kernel, hash(4)', run: batches(4) },
    {
      name: 'a job added and removed',
      run: () => {
        for (let i = 0; i < PER_RUN; i++) kernel.remove(kernel.add(job));
        return PER_RUN;
      },
    },
    {
      name: 'setLane alone',
      run: () => {
        for (const nonce2 of nonce2s) kernel.setLane(0, slot, enonce1, nonce2, 1, 2, 3);
        return PER_RUN;
      },
    },
    {
      name: 'setLaneHex alone',
      run: () => {
        for (let i = 0; i < PER_RUN; i++) kernel.setLaneHex(0, slot, enonce1, 1, line, 35, 54, 65);
        return PER_RUN;
      },
    },
  ];
  const micros = measure(ways);
  console.log(`\ncoinbase of 250 bytes, ${branches} merkle steps`);
  ways.forEach(({ name }, i) => {
    const us = micros[i]!;
    console.log(
      `  ${name.padEnd(26)} ${us.toFixed(3).padStart(8)} us/share  ${(micros[0]! / us).toFixed(2).padStart(7)} x reference`,
    );
  });
}
