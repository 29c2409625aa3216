/**
 * Solo mode (`-B`): each user's name is an address, and a block pays the one that its finder mines for. A job is the same for all but its
 * coinbase's second part, so the registry knows one job for each template, and a user's own is made of it the moment it is sent.
 *
 *   base job ─ `SoloJobs.jobFor(user)` ─► that user's coinbase2, key and notify ─► session, and the event `job` before the first notify
 *
 * A user's job keeps the base's id: miners of two addresses see the same id over different coinbases, as with CKPool. It can always be made
 * again from the base, so that only the newest are kept.
 */
import { scriptFromAddress } from '../../core/bitcoin/address.ts';
import { compactSize, concatBytes, hexFromBytes } from '../../core/bitcoin/bytes.ts';
import { stratumPrevHash } from '../../core/bitcoin/header.ts';
import { bitsHex } from '../../core/bitcoin/target.ts';
import { parseTransaction } from '../../core/bitcoin/transaction.ts';
import type { ChainProfile } from '../../core/chains/profile.ts';
import { notifyHead, notifyText } from '../wire.ts';
import { JOB_LIFE_MS, type Job, jobKey } from './job.ts';

/** Users' jobs that are kept, some 600 bytes each; those of the oldest bases go first, on which late shares alone come. */
const JOBS_KEPT = 100_000;

/**
 * Cuts the second part of a coinbase around the script of its first output.
 *
 * @param job - coinbase1, coinbase2 and the sizes of what stands between them
 * @returns what stands before the script's length and what stands behind the script
 */
export function aroundPayee(
  job: Pick<Job, 'coinbase1' | 'coinbase2' | 'enonce1Bytes' | 'nonce2Bytes'>,
): readonly [before: Uint8Array, behind: Uint8Array] {
  const { coinbase1, coinbase2 } = job;
  const between = new Uint8Array(job.enonce1Bytes + job.nonce2Bytes);
  const { outputs } = parseTransaction(concatBytes(coinbase1, between, coinbase2)).tx;
  const sizeOf = (length: number): number => compactSize(length).length + length;
  const outputsBytes = outputs.reduce((sum, output) => sum + 8 + sizeOf(output.script.length), 0);
  // From the end: lock time, outputs; the first begins with its value.
  const at = coinbase2.length - 4 - outputsBytes + 8;
  return [coinbase2.subarray(0, at), coinbase2.subarray(at + sizeOf(outputs[0]!.script.length))];
}

interface Base {
  readonly around: readonly [before: Uint8Array, behind: Uint8Array];
  readonly users: Map<string, Job>;
}

/** `Job.notify`, written when it is sent: with thousands of users the texts would be most of the memory. */
class NotifyOf {
  readonly #job: Pick<Job, 'id' | 'prevHashRpc' | 'coinbase1' | 'coinbase2' | 'branch' | 'version' | 'bits' | 'ntime'>;

  constructor(job: Omit<Job, 'notify'>) {
    this.#job = job;
  }

  get 0(): string {
    return notifyText(this.#head(), false);
  }

  get 1(): string {
    return notifyText(this.#head(), true);
  }

  #head(): string {
    const job = this.#job;
    const hex32 = (n: number): string => n.toString(16).padStart(8, '0');
    return notifyHead({
      id: job.id,
      prevHashStratum: stratumPrevHash(job.prevHashRpc),
      coinbase1Hex: hexFromBytes(job.coinbase1),
      coinbase2Hex: hexFromBytes(job.coinbase2),
      branchHex: job.branch.map(hexFromBytes),
      versionHex: hex32(job.version),
      bitsHex: bitsHex(job.bits),
      ntimeHex: hex32(job.ntime),
    });
  }
}

export class SoloJobs {
  readonly #origin: string;
  readonly #profile: Pick<ChainProfile, 'address'>;
  readonly #onMade: (job: Job) => void;
  /** By base, oldest first. */
  readonly #made = new Map<Job, Base>();
  #count = 0;

  /** @param onMade - told of each user's job before it is given out: it belongs into the journal */
  constructor(origin: string, profile: Pick<ChainProfile, 'address'>, onMade: (job: Job) => void) {
    this.#origin = origin;
    this.#profile = profile;
    this.#onMade = onMade;
  }

  /** What is wrong with a user's name as an address of this chain; null: blocks can be paid to it. */
  fault(user: string): string | null {
    try {
      scriptFromAddress(user, this.#profile.address);
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  /**
   * The job of a user.
   *
   * @param user - one that `fault` has nothing against
   * @throws RangeError where the user is no address
   */
  jobFor(user: string, base: Job): Job {
    let made = this.#made.get(base);
    if (made === undefined) {
      made = { around: aroundPayee(base), users: new Map() };
      this.#made.set(base, made);
      this.#expire(base);
    }
    let job = made.users.get(user);
    if (job === undefined) {
      const script = scriptFromAddress(user, this.#profile.address);
      const [before, behind] = made.around;
      const coinbase2 = concatBytes(before, compactSize(script.length), script, behind);
      const content = { ...base, coinbase2, key: jobKey(this.#origin, { ...base, coinbase2 }) };
      job = { ...content, notify: new NotifyOf(content) as unknown as Job['notify'] };
      made.users.set(user, job);
      this.#count += 1;
      this.#onMade(job);
    }
    return job;
  }

  #expire(newest: Job): void {
    for (const [base, { users }] of this.#made) {
      if (base === newest) return;
      if (this.#count <= JOBS_KEPT && newest.madeMs - base.madeMs <= JOB_LIFE_MS) return;
      this.#made.delete(base);
      this.#count -= users.size;
    }
  }
}
