/**
 * The proof of work: shares are gathered, their headers hashed four at a time by the kernel, and what comes out is compared with what they claim.
 */
import type { ShareEvent } from '../../schemas/events.ts';
import { blockHash, hashHex } from '../core/bitcoin/header.ts';
import { LANE_COUNT, ShareKernel } from '../core/bitcoin/kernel/kernel.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import type { Place, Problem, Reason } from './findings.ts';
import type { Credit, InForce } from './in-force.ts';
import type { CheckableJob } from './job.ts';
import type { KnownJob } from './known-jobs.ts';
import type { Solutions } from './solutions.ts';
import type { Tally } from './tally.ts';

/** Shares hashed together. */
const BATCH = 64;
/** Masks narrower than the job's that are tried: each of so many bits of the job's version may be inside or outside the client's. */
const MASK_BITS_TRIED = 8;

/** A share that waits for its hash. */
export interface Pending {
  readonly share: ShareEvent;
  readonly place: Place;
  readonly job: KnownJob;
  readonly checkable: CheckableJob;
  readonly problems: Problem[];
  readonly version: number;
  readonly credit: Credit;
}

export class Proofs {
  readonly #tally: Tally;
  readonly #solutions: Solutions;
  readonly #inForce: InForce;
  readonly #kernel = new ShareKernel();
  #pending: Pending[] = [];

  constructor(tally: Tally, solutions: Solutions, inForce: InForce) {
    this.#tally = tally;
    this.#solutions = solutions;
    this.#inForce = inForce;
  }

  add(pending: Pending): void {
    this.#pending.push(pending);
    if (this.#pending.length === BATCH) this.flush();
  }

  /** A job is let go. */
  forget(job: KnownJob): void {
    if (this.#pending.some((each) => each.job === job)) this.flush();
    if (job.slot >= 0) this.#kernel.remove(job.slot);
  }

  /** Hashes what waits. */
  flush(): void {
    const pending = this.#pending;
    this.#pending = [];
    const places: number[] = [];
    const hashed = new Uint8Array(pending.length);
    for (let first = 0; first < pending.length; first++) {
      if (hashed[first] === 1) continue;
      const shape = this.#kernel.shape(this.#slotOf(pending[first]!.job));
      places.length = 0;
      for (let at = first; at < pending.length && places.length < LANE_COUNT; at++) {
        if (hashed[at] === 1 || this.#kernel.shape(this.#slotOf(pending[at]!.job)) !== shape) continue;
        hashed[at] = 1;
        this.#lane(places.length, pending[at]!);
        places.push(at);
      }
      this.#kernel.hash(places.length);
      for (const [lane, at] of places.entries()) this.#compare(lane, pending[at]!);
    }
  }

  #slotOf(job: KnownJob): number {
    if (job.slot < 0) job.slot = this.#kernel.add(job.checkable!);
    return job.slot;
  }

  #lane(lane: number, { share, job, version }: Pending): void {
    const enonce1 = Buffer.from(share.enonce1, 'hex');
    const nonce2 = Buffer.from(share.nonce2, 'hex');
    const ntime = Number.parseInt(share.ntime, 16);
    this.#kernel.setLane(lane, job.slot, enonce1, nonce2, version, ntime, Number.parseInt(share.nonce, 16));
  }

  #compare(lane: number, pending: Pending): void {
    const { share, place, problems, checkable } = pending;
    const kernel = this.#kernel;
    const { profile } = checkable;
    let hash: string;
    let sdiff: number;
    let solves: boolean;
    let block = '';
    if (profile.pow === 'sha256d') {
      hash = kernel.hashHex(lane);
      sdiff = checkable.difficulty1 / (kernel.value(lane) || 1);
      solves = kernel.solves(lane);
    } else {
      const pow = powHash(profile.pow, Uint8Array.from(kernel.headers[lane]!));
      hash = hashHex(pow);
      sdiff = shareDifficulty(pow, checkable.difficulty1);
      solves = meetsTarget(pow, checkable.target);
      block = kernel.hashHex(lane);
    }
    if (hash !== share.hash) {
      const found = this.#narrower(Uint8Array.from(kernel.headers[lane]!), pending);
      if (found === null) {
        problems.push({ reason: 'hash', claimed: share.hash, computed: `${hash}, difficulty ${sdiff}` });
        this.#done(pending);
        return;
      }
      sdiff = shareDifficulty(found.pow, checkable.difficulty1);
      solves = meetsTarget(found.pow, checkable.target);
      if (block !== '') block = found.block;
    }
    const say = (reason: Reason, claimed: string | number, computed: string | number): void => {
      problems.push({ reason, claimed: String(claimed), computed: String(computed) });
    };
    if (block !== share.block_hash) say('block_hash', share.block_hash, block);
    if (sdiff !== share.sdiff) say('sdiff', share.sdiff, sdiff);
    if (share.kind === 'submitted') {
      const unit = profile.stratum_difficulty_multiplier;
      const reaches = sdiff >= share.diff || sdiff * unit >= share.diff * unit || solves;
      const ntime = Number.parseInt(share.ntime, 16);
      const latest = checkable.ntime + profile.ntime.max_ahead_s;
      const inTime = ntime >= checkable.ntime && ntime <= latest;
      const window = `${checkable.ntime.toString(16)} to ${latest.toString(16)}`;
      if (share.accepted && !reaches) say('diff', share.diff, sdiff);
      if (share.accepted && !inTime) say('ntime', share.ntime, window);
      if (share.errn === 5 && reaches) say('refusal', `${share.reason}: ${share.diff}`, sdiff);
      if (share.errn === 3 && inTime) say('refusal', `${share.reason}: ${share.ntime}`, window);
      if (solves) {
        this.#tally.counts.solved += 1;
        // One for an upstream is the upstream's to submit.
        if (checkable.event.upstream === '') {
          this.#solutions.found(block === '' ? share.hash : block, { share, place, held: problems.length === 0 });
        }
      }
    }
    this.#done(pending);
  }

  /** Tries what a client whose mask is narrower than the job's would have hashed: there the job's own bits stay. */
  #narrower(header: Uint8Array, { share, checkable }: Pending): { pow: Uint8Array; block: string } | null {
    if (share.version_bits === '') return null;
    const own = checkable.version & checkable.versionMask & ~Number.parseInt(share.version_bits, 16);
    const bits: number[] = [];
    for (let bit = 0; bit < 32 && bits.length < MASK_BITS_TRIED; bit++) if ((own >>> bit) & 1) bits.push(2 ** bit);
    const view = new DataView(header.buffer);
    const base = view.getUint32(0, true);
    for (let some = 1; some < 2 ** bits.length; some++) {
      const kept = bits.reduce((sum, bit, i) => ((some >> i) & 1 ? sum + bit : sum), 0);
      view.setUint32(0, (base | kept) >>> 0, true);
      const pow = powHash(checkable.profile.pow, header);
      if (hashHex(pow) === share.hash) return { pow, block: hashHex(blockHash(header)) };
    }
    return null;
  }

  #done({ share, place, problems, credit }: Pending): void {
    this.#tally.share(share, place, problems);
    // What its hash does not reach is told already.
    if (credit === null || problems.some(({ reason }) => reason === 'diff')) return;
    this.#inForce.suspect(share, place, credit, problems.length === 0);
  }
}
