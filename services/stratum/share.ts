/**
 * One submission judged: the header is rebuilt, hashed, and compared. Pure; the only place that says accepted.
 * methods/submit.ts has read the fields, intake.ts has the hash from the kernel and asks `ruling`; facts.ts records what comes out.
 *
 * Order of the checks: solves a block (always, whatever follows), stale, ntime, difficulty, duplicate. `checkShare` is the reference on
 * node:crypto: what solves a block or goes upstream is judged by it, and the kernel is tested against it.
 *
 * @see reference of the header in core/bitcoin/header.ts; BIP 310 for version bits
 */
import { sha256d } from '../core/bitcoin/hash.ts';
import { blockHash, hashHex } from '../core/bitcoin/header.ts';
import { meetsTarget, type PowAlgorithm, powHash } from '../core/bitcoin/pow.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import type { Requirement } from './difficulty.ts';

/** What of a job a check needs; all bytes in internal order. */
export interface CheckedJob {
  readonly pow: PowAlgorithm;
  readonly coinbase1: Uint8Array;
  readonly coinbase2: Uint8Array;
  readonly branch: readonly Uint8Array[];
  /** 80 bytes with version, previous hash and bits in place. */
  readonly headerBase: Uint8Array;
  /** Unsigned 32-bit. */
  readonly version: number;
  /** Of nBits, exact. */
  readonly target: bigint;
  readonly ntime: number;
  /** A share's time may be at most this much above the job's, seconds. */
  readonly maxAheadS: number;
  /** The chain's difficulty-1 target as a double. */
  readonly difficulty1: number;
  /** Difficulty on the wire = difficulty × this. */
  readonly wireMultiplier: number;
}

export interface Submission {
  /** As long as the job's extranonce2. */
  readonly nonce2: Uint8Array;
  readonly ntime: number;
  readonly nonce: number;
  /** Rolled version bits, unsigned 32-bit; null where none were sent. */
  readonly versionBits: number | null;
}

export interface SessionFacts {
  readonly enonce1: Uint8Array;
  /** Bits that this connection may roll. */
  readonly versionMask: number;
  /** In the unit of the wire. */
  readonly requirement: Requirement;
  /** True where the chain has moved on since the job. */
  readonly stale: boolean;
  /** Whether a share with this hash (internal order) was accepted on the same work. */
  isDuplicate(pow: Uint8Array): boolean;
}

/** The hash of a submission and what follows from it alone. */
export interface Proof {
  /** 80 bytes. */
  readonly header: Uint8Array;
  /** Proof-of-work hash as block hashes are printed. */
  readonly hash: string;
  /** Block hash where it is another one (scrypt), else empty. */
  readonly blockHash: string;
  /** Difficulty reached, as CKPool computes it (chain's unit). */
  readonly sdiff: number;
  /** True: at or below the exact target of nBits. */
  readonly solves: boolean;
}

/** CKPool's numbers of refusals that reach the share log. */
export type RefusalNumber = 1 | 2 | 3 | 4 | 5;

export interface Accepted {
  readonly accepted: true;
  readonly errn: 0;
  readonly reason: '';
  /** Credited, in the unit of the wire. */
  readonly diff: number;
  readonly proof: Proof;
}

export interface Refused {
  readonly accepted: false;
  readonly errn: RefusalNumber;
  readonly reason: string;
  /** Asked, in the unit of the wire. */
  readonly diff: number;
  /** Null where nothing was hashed. */
  readonly proof: Proof | null;
}

/** What became of a submission. `proof.solves` is to be looked at in both. */
export type ShareVerdict = Accepted | Refused;

/** CKPool's words for its numbers. */
const REFUSALS: Readonly<Record<RefusalNumber, string>> = {
  1: 'Invalid JobID',
  2: 'Stale',
  3: 'Ntime out of range',
  4: 'Duplicate',
  5: 'Above target',
};

/** CKPool's words for a refusal. */
export function reasonOf(errn: RefusalNumber): string {
  return REFUSALS[errn];
}

function refuse(errn: RefusalNumber, diff: number, proof: Proof | null): Refused {
  return { accepted: false, errn, reason: REFUSALS[errn], diff, proof };
}

/** The header that a submission stands for: 80 bytes. */
export function shareHeader(
  submission: Submission,
  job: CheckedJob,
  session: Pick<SessionFacts, 'enonce1' | 'versionMask'>,
): Uint8Array {
  const { coinbase1, coinbase2 } = job;
  const { enonce1 } = session;
  const { nonce2 } = submission;
  const coinbase = new Uint8Array(coinbase1.length + enonce1.length + nonce2.length + coinbase2.length);
  coinbase.set(coinbase1, 0);
  coinbase.set(enonce1, coinbase1.length);
  coinbase.set(nonce2, coinbase1.length + enonce1.length);
  coinbase.set(coinbase2, coinbase1.length + enonce1.length + nonce2.length);
  let root = sha256d(coinbase);
  if (job.branch.length > 0) {
    const pair = new Uint8Array(64);
    for (const step of job.branch) {
      pair.set(root, 0);
      pair.set(step, 32);
      root = sha256d(pair);
    }
  }
  const header = new Uint8Array(job.headerBase);
  const view = new DataView(header.buffer);
  // BIP 310: bits inside the mask are the miner's, all others the job's.
  const { versionMask } = session;
  const bits = submission.versionBits;
  view.setUint32(0, bits === null ? job.version : (job.version & ~versionMask) | (bits & versionMask), true);
  header.set(root, 36);
  view.setUint32(68, submission.ntime, true);
  view.setUint32(76, submission.nonce, true);
  return header;
}

/** What a ruling needs of a job. */
export type RulingJob = Pick<CheckedJob, 'ntime' | 'maxAheadS' | 'wireMultiplier'>;

/**
 * The rule of a share that was hashed, all but the question whether it was seen before.
 *
 * @param sdiff - difficulty reached, in the chain's unit
 * @param solves - the hash meets the exact target of nBits
 * @returns above 0: the difficulty to credit, in the unit of the wire; below 0: minus the number of the refusal
 */
export function ruling(
  job: RulingJob,
  ntime: number,
  sdiff: number,
  solves: boolean,
  requirement: Requirement,
  stale: boolean,
): number {
  if (stale) return -2;
  if (ntime < job.ntime || ntime > job.ntime + job.maxAheadS) return -3;
  const { asked, least } = requirement;
  const reached = sdiff * job.wireMultiplier;
  // A block is never below the difficulty asked, whatever doubles round to.
  const diff = reached >= asked || solves ? asked : least;
  return reached < diff && !solves ? -5 : diff;
}

/**
 * Judges a submission.
 *
 * @param submission - fields of the right size
 * @returns the verdict; `proof.solves` is true for a block also where the share itself is refused
 */
export function checkShare(submission: Submission, job: CheckedJob, session: SessionFacts): ShareVerdict {
  const header = shareHeader(submission, job, session);
  const pow = powHash(job.pow, header);
  const proof: Proof = {
    header,
    hash: hashHex(pow),
    blockHash: job.pow === 'sha256d' ? '' : hashHex(blockHash(header)),
    sdiff: shareDifficulty(pow, job.difficulty1),
    solves: meetsTarget(pow, job.target),
  };
  const { asked } = session.requirement;
  const ruled = ruling(job, submission.ntime, proof.sdiff, proof.solves, session.requirement, session.stale);
  if (ruled < 0) return refuse(-ruled as RefusalNumber, asked, proof);
  if (session.isDuplicate(pow)) return refuse(4, asked, proof);
  return { accepted: true, errn: 0, reason: '', diff: ruled, proof };
}

/** The coinbase of a submission, without witness, for the block that it solved. */
export function shareCoinbase(nonce2: Uint8Array, job: CheckedJob, enonce1: Uint8Array): Uint8Array {
  return Buffer.concat([job.coinbase1, enonce1, nonce2, job.coinbase2]);
}
