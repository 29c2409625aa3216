/**
 * The audit of a log's shares: takes jobs, sessions, blocks and shares in about the order of their times, and puts each share to its job. No input of
 * its own: main.ts reads the log and hands on; what does not hold goes to `onFinding`.
 *
 *   job ──► known-jobs.ts, timeline.ts      share ──► consistency.ts ──► its job ──► proofs.ts: hashed, compared ──► tally.ts
 *   session ─► in-force.ts                            └─ not there: set aside, main.ts looks the log through for it
 *   block ─► solutions.ts
 */
import type { BlockEvent, JobEvent, SessionEvent, ShareEvent } from '../../schemas/events.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { PoolError } from '../core/errors.ts';
import { consistency } from './consistency.ts';
import type { Counts, Finding, Place, Problem } from './findings.ts';
import { type Credit, InForce } from './in-force.ts';
import { type CheckableJob, checkableJob, jobProblems } from './job.ts';
import { type KnownJob, KnownJobs } from './known-jobs.ts';
import { Proofs } from './proofs.ts';
import { Solutions, type Waiting } from './solutions.ts';
import { Tally } from './tally.ts';
import { Timelines } from './timeline.ts';

const TOLD_LIMIT = 100_000;

export interface AuditOptions {
  /** Profile of a chain by the name that events carry. @throws PoolError where there is none */
  readonly chain: (name: string) => ChainProfile;
  /** Only shares and jobs of this origin; null: all. */
  readonly origin: string | null;
  /** Only shares received, and jobs built, in [from, to), microseconds since 1970; of other jobs those that such shares are on. */
  readonly fromUs: number;
  readonly toUs: number;
  readonly onFinding: (finding: Finding) => void;
  /** Most bytes of jobs with the shares on them, about. Default 256 MiB. */
  readonly limitBytes?: number;
}

export class Audit {
  /** Shares whose job has not been met. */
  joblessCount = 0;
  /** By job key. */
  readonly #jobless = new Map<string, Waiting[]>();
  readonly #options: AuditOptions;
  readonly #tally: Tally;
  readonly #solutions: Solutions;
  readonly #inForce: InForce;
  readonly #proofs: Proofs;
  readonly #jobs: KnownJobs;
  readonly #timelines = new Timelines();
  readonly #writers = new Map<string, number>();
  readonly #toldJobs = new Set<string>();
  #line = { instance: '', run: '', writer: 0 };

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#tally = new Tally(options.onFinding);
    this.#solutions = new Solutions(this.#tally);
    this.#inForce = new InForce(this.#tally);
    this.#proofs = new Proofs(this.#tally, this.#solutions, this.#inForce);
    this.#jobs = new KnownJobs(options.limitBytes ?? 256 * 1024 * 1024, (job) => this.#proofs.forget(job));
  }

  get counts(): Counts {
    return this.#tally.counts;
  }

  /** Solutions whose block has not been met. */
  get blocklessCount(): number {
    return this.#solutions.count;
  }

  /** Shares that are credited more than what is known of their lines. */
  get suspectCount(): number {
    return this.#inForce.count;
  }

  /** Jobs in memory. */
  get jobCount(): number {
    return this.#jobs.size;
  }

  /** A job of the log; `late`: met in another look through it. */
  job(event: JobEvent, place: Place, late = false): void {
    if (this.#options.origin !== null && event.origin !== this.#options.origin) return;
    const known = this.#jobs.get(event.job_key);
    if (!late) {
      if (this.#within(event.time_us)) this.counts.jobs += 1;
      this.#timelines.enter(event);
    }
    if (known !== undefined) {
      known.ids.add(event.job_id);
      known.firstUs = Math.min(known.firstUs, event.time_us);
      known.timeUs = Math.max(known.timeUs, event.time_us);
      // Another copy may have been changed where the first was not.
      if (known.checkable !== null && !late) this.#judgeJob(event, place, known);
      return;
    }
    const problems: Problem[] = [];
    let checkable: CheckableJob | null = null;
    try {
      const profile = this.#profileOf(event.chain);
      if (profile === null) problems.push({ reason: 'chain', claimed: event.chain, computed: '' });
      else {
        checkable = checkableJob(event, profile);
        problems.push(...jobProblems(checkable));
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      problems.push({ reason: 'job_malformed', claimed: error.message, computed: '' });
    }
    if (event.instance !== place.instance) {
      problems.push({ reason: 'instance', claimed: event.instance, computed: place.instance });
    }
    this.#tellJob(this.#jobs.add(event, checkable, late), event, place, problems, late);
  }

  #within(timeUs: number): boolean {
    return timeUs >= this.#options.fromUs && timeUs < this.#options.toUs;
  }

  /** One changed event must not keep the others from being checked. */
  #profileOf(name: string): ChainProfile | null {
    // What an event says is no path.
    if (!/^[\w.-]{1,100}$/.test(name) || name.endsWith('.json')) return null;
    try {
      return this.#options.chain(name);
    } catch (error) {
      if (error instanceof PoolError && error.code === 'chain_unknown') return null;
      throw error;
    }
  }

  #judgeJob(event: JobEvent, place: Place, known: KnownJob): void {
    const first = known.checkable!;
    let problems: Problem[];
    try {
      const profile = event.chain === first.event.chain ? first.profile : this.#profileOf(event.chain);
      problems =
        profile === null
          ? [{ reason: 'chain', claimed: event.chain, computed: '' }]
          : jobProblems(checkableJob(event, profile));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      problems = [{ reason: 'job_malformed', claimed: error.message, computed: '' }];
    }
    this.#tellJob(known, event, place, problems, false);
  }

  /** @param awaited - a share waits for it */
  #tellJob(job: KnownJob, event: JobEvent, place: Place, problems: readonly Problem[], awaited: boolean): void {
    if (problems.length === 0) return;
    if (!awaited && !this.#within(event.time_us)) {
      job.untold ??= { event, place, problems };
      return;
    }
    // One that was let go and is met again has been told.
    if (awaited && this.#toldJobs.has(event.job_key)) return;
    if (this.#toldJobs.size < TOLD_LIMIT) this.#toldJobs.add(event.job_key);
    this.#tally.job(event, place, problems);
  }

  /** An event of a connection, or of the daemon itself. */
  session(event: SessionEvent, place: Place): void {
    this.#inForce.session(event, this.#writerOf(place));
  }

  /** The same in another look through the log. */
  lateSession(event: SessionEvent, place: Place): void {
    this.#inForce.again(event, this.#writerOf(place));
  }

  /** What is still credited too much after such a look. */
  tellSuspects(): void {
    this.#inForce.tellOver();
  }

  /** A block event. */
  block(event: BlockEvent): void {
    this.#solutions.block(event);
  }

  /** What solves a block that the whole log does not name: to be called when it was looked through. */
  tellBlockless(): void {
    this.#solutions.tellMissing();
  }

  /** A share event. */
  share(share: ShareEvent, place: Place): void {
    const { origin } = this.#options;
    if (origin !== null && share.origin !== origin) return;
    if (!this.#within(share.time_us)) return;
    this.counts.shares += 1;
    const tally = this.#tally;
    const problems = consistency(share, place);
    if (share.source === 'backfill') {
      tally.uncheckable('back_filled', share, place, problems);
      return;
    }
    if (share.hash === '') {
      if (share.accepted) {
        problems.push({ reason: 'malformed', claimed: 'accepted without a hash', computed: '' });
        tally.share(share, place, problems);
      } else if (problems.length > 0) tally.share(share, place, problems);
      else tally.uncheckable('no_hash', share, place, problems);
      return;
    }
    if (problems.some(({ reason }) => reason === 'malformed')) {
      tally.share(share, place, problems);
      return;
    }
    if (share.job_key === '') {
      problems.push({ reason: 'job_unknown', claimed: 'no job key', computed: '' });
      tally.share(share, place, problems);
      return;
    }
    const job = this.#jobs.get(share.job_key);
    if (job === undefined) {
      const waiting = this.#jobless.get(share.job_key);
      if (waiting === undefined) this.#jobless.set(share.job_key, [{ share, place }]);
      else waiting.push({ share, place });
      this.joblessCount += 1;
      return;
    }
    this.#enter(share, place, job, problems, false);
  }

  /** A job met in another look through the log: the shares that wait for it are checked. */
  lateJob(event: JobEvent, place: Place): void {
    const waiting = this.#jobless.get(event.job_key);
    if (waiting === undefined) return;
    this.#jobless.delete(event.job_key);
    this.joblessCount -= waiting.length;
    this.job(event, place, true);
    const job = this.#jobs.get(event.job_key)!;
    for (const { share, place } of waiting) this.#enter(share, place, job, consistency(share, place), true);
  }

  /** What still waits for a job after such a look: the log has none. */
  tellJobless(): void {
    for (const waiting of this.#jobless.values()) {
      for (const { share, place } of waiting) {
        const problems = consistency(share, place);
        problems.push({ reason: 'job_unknown', claimed: share.job_key, computed: '' });
        this.#tally.share(share, place, problems);
      }
    }
    this.#jobless.clear();
    this.joblessCount = 0;
  }

  #enter(share: ShareEvent, place: Place, job: KnownJob, problems: Problem[], late: boolean): void {
    this.#jobs.use(job, share.time_us);
    if (job.untold !== null) {
      const { untold } = job;
      job.untold = null;
      this.#tellJob(job, untold.event, untold.place, untold.problems, true);
    }
    const { checkable } = job;
    if (checkable === null) {
      problems.push({ reason: 'job_malformed', claimed: share.job_key, computed: '' });
      this.#tally.share(share, place, problems);
      return;
    }
    const { event } = checkable;
    const other = (claimed: string | number, computed: string | number): void => {
      if (claimed !== computed) {
        problems.push({ reason: 'job_other', claimed: String(claimed), computed: String(computed) });
      }
    };
    other(share.origin, event.origin);
    other(share.height, event.height);
    // Another look through the log stops at the first event of a key.
    if (!late && !job.ids.has(share.job_id)) other(share.job_id, [...job.ids].join(' '));
    let credit: Credit = null;
    if (share.kind === 'submitted' && share.accepted) {
      const writer = this.#writerOf(place);
      const first = job.work.seen.add(share.hash, { writer, sequence: place.sequence });
      if (first !== null) {
        if (first.writer === writer && first.sequence === place.sequence) {
          this.counts.again += 1;
          return;
        }
        problems.push({ reason: 'duplicate', claimed: 'accepted', computed: this.#placeText(first) });
      }
      if (!late) this.#timelines.check(share, event, job.timeUs, problems);
      if (!this.#inForce.holds(share, writer)) {
        credit = this.#inForce.check(share, writer, job.firstUs, this.#timelines.before(share, job.firstUs));
      }
    }
    const digits = 2 * event.enonce1_bytes;
    if (share.enonce1.length !== digits || share.nonce2.length !== 2 * event.nonce2_bytes) {
      const claimed = `${share.enonce1.length / 2} and ${share.nonce2.length / 2} bytes`;
      problems.push({
        reason: 'extranonce',
        claimed,
        computed: `${event.enonce1_bytes} and ${event.nonce2_bytes} bytes`,
      });
      this.#tally.share(share, place, problems);
      return;
    }
    let { version } = checkable;
    if (share.version_bits !== '') {
      const bits = Number.parseInt(share.version_bits, 16);
      // A proxy's mask can have grown since the job.
      if (event.upstream === '' && (bits & ~checkable.versionMask) !== 0) {
        problems.push({ reason: 'version_bits', claimed: share.version_bits, computed: event.version_mask });
      }
      // BIP 310: bits inside the mask are the miner's, all others the job's.
      version = ((version & ~checkable.versionMask) | bits) >>> 0;
    }
    this.#proofs.add({ share, place, job, checkable, problems, version, credit });
  }

  /** Hashes what waits. */
  flush(): void {
    this.#proofs.flush();
  }

  /** A record that cannot be read, or bytes that are none. */
  unreadable(reason: 'undecodable' | 'damaged', place: Place, words: string): void {
    this.#tally.unreadable(reason, place, words);
  }

  /** A number above 0 for each opening of a journal. */
  #writerOf({ instance, run }: Place): number {
    if (this.#line.instance === instance && this.#line.run === run) return this.#line.writer;
    const key = `${instance} ${run}`;
    let writer = this.#writers.get(key);
    if (writer === undefined) {
      writer = this.#writers.size + 1;
      this.#writers.set(key, writer);
    }
    this.#line = { instance, run, writer };
    return writer;
  }

  #placeText({ writer, sequence }: { writer: number; sequence: number }): string {
    for (const [key, number] of this.#writers) if (number === writer) return `${key}:${sequence}`;
    return String(sequence);
  }
}
