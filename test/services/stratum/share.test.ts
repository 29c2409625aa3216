import { describe, expect, test } from 'vitest';
import { bytesFromHex, hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { blockHash, prevHashFromStratum } from '../../../services/core/bitcoin/header.ts';
import { DIFFICULTY_1_TARGET, hashValue, targetFromBits } from '../../../services/core/bitcoin/target.ts';
import {
  type CheckedJob,
  checkShare,
  type SessionFacts,
  type Submission,
  shareHeader,
} from '../../../services/stratum/share.ts';
// CKPool 0.9.9 on the wire: one job and two shares on it.
import golden from '../../vectors/ckpool-golden.json' with { type: 'json' };

const headerBase = new Uint8Array(80);
headerBase.set(prevHashFromStratum(golden.prevhash), 4);
new DataView(headerBase.buffer).setUint32(72, Number.parseInt(golden.bits, 16), true);

const job: CheckedJob = {
  pow: 'sha256d',
  coinbase1: bytesFromHex(golden.part1),
  coinbase2: bytesFromHex(golden.part2),
  branch: golden.branch.map((step) => bytesFromHex(step)),
  headerBase,
  version: Number.parseInt(golden.version, 16),
  target: targetFromBits(Number.parseInt(golden.bits, 16)),
  ntime: Number.parseInt(golden.ntime, 16),
  maxAheadS: 7000,
  difficulty1: Number(DIFFICULTY_1_TARGET),
  wireMultiplier: 1,
};

const session = (changes: Partial<SessionFacts> = {}): SessionFacts => ({
  enonce1: bytesFromHex(golden.extranonce1),
  versionMask: 0x1fffe000,
  requirement: { asked: 1e-5, least: 1e-5 },
  stale: false,
  isDuplicate: () => false,
  ...changes,
});

const submission = (changes: Partial<Submission> = {}): Submission => ({
  nonce2: bytesFromHex(golden.extranonce2),
  ntime: job.ntime,
  nonce: 0x0001b431,
  versionBits: null,
  ...changes,
});

describe('checkShare', () => {
  test("CKPool's two shares give the header and hash that CKPool saw", () => {
    for (const share of golden.shares) {
      const sent = submission({
        nonce: Number.parseInt(share.nonce, 16),
        versionBits: share.version_bits === null ? null : Number.parseInt(share.version_bits, 16),
      });
      expect(hexFromBytes(shareHeader(sent, job, session()))).toBe(share.header);
      const verdict = checkShare(sent, job, session());
      expect(verdict.proof?.hash).toBe(share.hash);
      if (share.sdiff !== null) expect(verdict.proof?.sdiff).toBe(share.sdiff);
      expect(verdict.accepted).toBe(true);
      expect(verdict.proof?.solves).toBe(false);
    }
  });

  test('a bit of the mask that the job sets is cleared when the miner rolls it to 0', () => {
    const set = { ...job, version: 0x20002000 };
    const header = shareHeader(submission({ versionBits: 0 }), set, session());
    expect(new DataView(header.buffer).getUint32(0, true)).toBe(0x20000000);
    const kept = shareHeader(submission({ versionBits: null }), set, session());
    expect(new DataView(kept.buffer).getUint32(0, true)).toBe(0x20002000);
  });

  test('bits outside the mask are the job’s', () => {
    const header = shareHeader(submission({ versionBits: 0xffffffff | 0 }), job, session({ versionMask: 0x00006000 }));
    expect(new DataView(header.buffer).getUint32(0, true)).toBe(0x20006000);
  });

  test.each([
    [
      'stale before everything else',
      { stale: true, isDuplicate: (): boolean => true },
      { ntime: job.ntime - 1 },
      2,
      'Stale',
    ],
    ['a time before the job’s', {}, { ntime: job.ntime - 1 }, 3, 'Ntime out of range'],
    ['a time more than 7000 s ahead', {}, { ntime: job.ntime + 7001 }, 3, 'Ntime out of range'],
    ['too low', { requirement: { asked: 1, least: 1 }, isDuplicate: (): boolean => true }, {}, 5, 'Above target'],
    ['seen before', { isDuplicate: (): boolean => true }, {}, 4, 'Duplicate'],
  ] as const)('%s', (_name, facts, sent, errn, reason) => {
    const verdict = checkShare(submission(sent), job, session(facts));
    expect(verdict).toMatchObject({ accepted: false, errn, reason });
    expect(verdict.proof?.hash).toHaveLength(64);
  });

  test('a share at exactly 7000 s is in time', () => {
    const verdict = checkShare(
      submission({ ntime: job.ntime + 7000 }),
      job,
      session({ requirement: { asked: 1e-30, least: 1e-30 } }),
    );
    expect(verdict.accepted).toBe(true);
  });

  test('a hash at the target solves, one above it does not, and a refused share still says that it solves', () => {
    const value = hashValue(blockHash(shareHeader(submission(), job, session())));
    const at = checkShare(submission(), { ...job, target: value }, session());
    expect(at.proof?.solves).toBe(true);
    expect(checkShare(submission(), { ...job, target: value - 1n }, session()).proof?.solves).toBe(false);
    const stale = checkShare(submission(), { ...job, target: value }, session({ stale: true }));
    expect(stale).toMatchObject({ accepted: false, errn: 2, proof: { solves: true } });
  });

  test('a block is never below the difficulty asked', () => {
    const value = hashValue(blockHash(shareHeader(submission(), job, session())));
    const verdict = checkShare(
      submission(),
      { ...job, target: value },
      session({ requirement: { asked: 1e9, least: 1e9 } }),
    );
    expect(verdict).toMatchObject({ accepted: true, diff: 1e9 });
  });

  test('after a fall a share counts at the value that it meets', () => {
    const low = session({ requirement: { asked: 1e-4, least: 1e-5 } });
    expect(checkShare(submission(), job, low)).toMatchObject({ accepted: true, diff: 1e-5 });
    const high = session({ requirement: { asked: 1.2e-5, least: 1e-6 } });
    expect(checkShare(submission(), job, high)).toMatchObject({ accepted: true, diff: 1.2e-5 });
    const none = session({ requirement: { asked: 1, least: 0.5 } });
    expect(checkShare(submission(), job, none)).toMatchObject({ accepted: false, errn: 5, diff: 1 });
  });

  test('scrypt: the proof of work is another hash than the block’s, and the wire counts in 65536ths', () => {
    const scrypt: CheckedJob = { ...job, pow: 'scrypt', wireMultiplier: 65536 };
    const verdict = checkShare(submission(), scrypt, session({ requirement: { asked: 1e-12, least: 1e-12 } }));
    expect(verdict.proof?.blockHash).toBe(golden.shares[0]?.hash);
    expect(verdict.proof?.hash).not.toBe(verdict.proof?.blockHash);
    const asked = verdict.proof!.sdiff * 65536;
    expect(checkShare(submission(), scrypt, session({ requirement: { asked, least: asked } })).accepted).toBe(true);
    const more = asked * 1.000001;
    expect(checkShare(submission(), scrypt, session({ requirement: { asked: more, least: more } })).accepted).toBe(
      false,
    );
  });
});
