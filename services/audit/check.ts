/**
 * The audit of a log's shares: takes jobs, blocks and shares in about the order of their times, rebuilds each share's header, hashes it and
 * compares. No input of its own: main.ts reads the log and hands on; what does not hold goes to `onFinding`.
 *
 *   job ──► jobs by key (bounded)          share ──► its job ──► four side by side in the kernel ──► compared
 *   block ─► solved hashes (bounded)                 └─ not there: set aside, main.ts looks the log through for it
 *
 * Memory: jobs leave an hour (of the log's time) after their last share, or when there are too many; then with them the memory of their shares.
 */
import type { BlockEvent, JobEvent, ShareEvent } from '../../schemas/events.ts';
import { shareIdentity, workDigest } from '../../schemas/identity.ts';
import { blockHash, hashHex } from '../core/bitcoin/header.ts';
import { LANE_COUNT, ShareKernel } from '../core/bitcoin/kernel/kernel.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { PoolError } from '../core/errors.ts';
import type { Counts, Finding, Place, Problem, Reason, Uncheckable } from './findings.ts';
import { type CheckableJob, checkableJob, jobProblems } from './job.ts';
import { Seen } from './seen.ts';

/** How long the daemon knows a job, and how many at least (CKPool; stratum/work/job.ts), and what two clocks of one process may differ by. */
const JOB_LIFE_US = 600_000_000;
const JOBS_KEPT = 3;
const CLOCK_SLACK_US = 1_000_000;
/** How long after its last share a job is kept here. */
const KEPT_US = 3_600_000_000;
/** Shares hashed together. */
const BATCH = 64;
/** Masks narrower than the job's that are tried: each of so many bits of the job's version may be inside or outside the client's. */
const MASK_BITS_TRIED = 8;
/** Jobs of an instance that are looked back on. */
const TIMELINE = 256;
const TURNS = 32;
/** Hashes of solved blocks that are remembered. */
const SOLVED_LIMIT = 200_000;
const TOLD_LIMIT = 100_000;

export interface AuditOptions {
  /** Profile of a chain by the name that events carry. @throws PoolError where there is none */
  readonly chain: (name: string) => ChainProfile;
  /** Only shares and jobs of this origin; null: all. */
  readonly origin: string | null;
  /** Only shares received in [from, to), microseconds since 1970. */
  readonly fromUs: number;
  readonly toUs: number;
  readonly onFinding: (finding: Finding) => void;
  /** Most bytes of jobs with the shares on them, about. Default 256 MiB. */
  readonly limitBytes?: number;
}

/** Shares on one work: jobs that differ in version and time alone may have the same headers. */
interface Work {
  readonly seen: Seen;
  jobs: number;
}

interface KnownJob {
  readonly key: string;
  readonly checkable: CheckableJob | null;
  readonly ids: Set<string>;
  readonly work: Work;
  readonly workKey: string;
  /** Of its latest event. */
  timeUs: number;
  usedUs: number;
  /** In the kernel; -1: not now. */
  slot: number;
}

interface Pending {
  readonly share: ShareEvent;
  readonly place: Place;
  readonly job: KnownJob;
  readonly checkable: CheckableJob;
  readonly problems: Problem[];
  readonly version: number;
}

/** What one instance has made, for what was known and current when. */
interface Timeline {
  /** Distinct jobs, in order. */
  readonly jobs: { readonly timeUs: number; readonly content: string }[];
  /** Jobs that turned the page. */
  readonly turns: { readonly timeUs: number; readonly prevHash: string }[];
}

/** A share that waits for its job. */
export interface Waiting {
  readonly share: ShareEvent;
  readonly place: Place;
}

/** A solution that waits for its block. */
interface Solution extends Waiting {
  readonly held: boolean;
}

const HEX = /^(?:[0-9a-f]{2})*$/i;
const WORD = /^[0-9a-f]{8}$/i;
const NTIME = /^[0-9a-f]{1,8}$/i;
const HASH = /^[0-9a-f]{64}$/;

export class Audit {
  readonly counts: Counts = {
    shares: 0,
    held: 0,
    notHeld: 0,
    again: 0,
    jobs: 0,
    jobsNotHeld: 0,
    solved: 0,
    reasons: {},
    uncheckable: {},
  };
  /** Shares whose job has not been met. */
  joblessCount = 0;
  /** By job key. */
  readonly #jobless = new Map<string, Waiting[]>();
  /** Solutions whose block has not been met: by block hash. */
  readonly #blockless = new Map<string, Solution[]>();
  readonly #options: AuditOptions;
  readonly #limitBytes: number;
  readonly #kernel = new ShareKernel();
  /** The one used longest ago in front. */
  readonly #jobs = new Map<string, KnownJob>();
  readonly #works = new Map<string, Work>();
  readonly #timelines = new Map<string, Timeline>();
  readonly #writers = new Map<string, number>();
  readonly #solved = new Set<string>();
  readonly #toldJobs = new Set<string>();
  #pending: Pending[] = [];
  #last: KnownJob | null = null;
  #jobBytes = 0;
  #sinceSweep = 0;
  #line = { instance: '', run: '', writer: 0 };

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#limitBytes = options.limitBytes ?? 256 * 1024 * 1024;
  }

  /** Solutions whose block has not been met. */
  get blocklessCount(): number {
    return this.#blockless.size;
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
      this.counts.jobs += 1;
      this.#enterTimeline(event);
    }
    if (known !== undefined) {
      known.ids.add(event.job_id);
      known.timeUs = Math.max(known.timeUs, event.time_us);
      // Another copy may have been changed where the first was not.
      if (known.checkable !== null && !late) this.#judgeJob(event, place, known.checkable);
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
    this.#tellJob(event, place, problems, late);
    const workKey = `${event.origin}/${workDigest(event)}`;
    let work = this.#works.get(workKey);
    if (work === undefined) {
      work = { seen: new Seen(), jobs: 0 };
      this.#works.set(workKey, work);
    }
    work.jobs += 1;
    this.#jobBytes += checkable?.sizeBytes ?? 0;
    const job: KnownJob = {
      key: event.job_key,
      checkable,
      ids: new Set([event.job_id]),
      work,
      workKey,
      timeUs: event.time_us,
      usedUs: event.time_us,
      slot: -1,
    };
    this.#jobs.set(job.key, job);
    // The one that somebody waits for stays.
    if (late) this.#last = job;
    this.#sweep(event.time_us);
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

  #judgeJob(event: JobEvent, place: Place, first: CheckableJob): void {
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
    this.#tellJob(event, place, problems);
  }

  #tellJob(event: JobEvent, place: Place, problems: Problem[], late = false): void {
    // One that was let go and is met again has been told.
    if (problems.length === 0 || (late && this.#toldJobs.has(event.job_key))) return;
    if (this.#toldJobs.size < TOLD_LIMIT) this.#toldJobs.add(event.job_key);
    this.counts.jobsNotHeld += 1;
    this.#tell({ place, problems, origin: event.origin, identity: event.job_key, worker: '', timeUs: event.time_us });
  }

  #enterTimeline(event: JobEvent): void {
    // Connections of a proxy have their own jobs, and events do not say whose they are.
    if (event.upstream !== '') return;
    const key = `${event.origin}/${event.instance}`;
    let line = this.#timelines.get(key);
    if (line === undefined) {
      line = { jobs: [], turns: [] };
      this.#timelines.set(key, line);
    }
    const content = event.prev_hash + event.ntime;
    if (line.jobs.at(-1)?.content !== content) line.jobs.push({ timeUs: event.time_us, content });
    if (line.jobs.length > 2 * TIMELINE) line.jobs.splice(0, TIMELINE);
    if (event.clean) line.turns.push({ timeUs: event.time_us, prevHash: event.prev_hash });
    if (line.turns.length > 2 * TURNS) line.turns.splice(0, TURNS);
  }

  /** A block event. */
  block(event: BlockEvent): void {
    // What CKPool's log told later does not replace what the daemon owes.
    if (event.kind !== 'solved' || event.source === 'backfill') return;
    if (this.#blockless.delete(event.hash)) return;
    this.#solved.add(event.hash);
    if (this.#solved.size > SOLVED_LIMIT) {
      const [oldest] = this.#solved;
      this.#solved.delete(oldest!);
    }
  }

  /** A share event. */
  share(share: ShareEvent, place: Place): void {
    const { origin, fromUs, toUs } = this.#options;
    if (origin !== null && share.origin !== origin) return;
    if (share.time_us < fromUs || share.time_us >= toUs) return;
    this.counts.shares += 1;
    const problems = consistency(share, place);
    if (share.source === 'backfill') {
      this.#uncheckable('back_filled', share, place, problems);
      return;
    }
    if (share.hash === '') {
      if (share.accepted) {
        problems.push({ reason: 'malformed', claimed: 'accepted without a hash', computed: '' });
        this.#done(share, place, problems);
      } else if (problems.length > 0) this.#done(share, place, problems);
      else this.#uncheckable('no_hash', share, place, problems);
      return;
    }
    if (problems.some(({ reason }) => reason === 'malformed')) {
      this.#done(share, place, problems);
      return;
    }
    if (share.job_key === '') {
      problems.push({ reason: 'job_unknown', claimed: 'no job key', computed: '' });
      this.#done(share, place, problems);
      return;
    }
    const job = this.#last?.key === share.job_key ? this.#last : this.#jobs.get(share.job_key);
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
        this.#done(share, place, problems);
      }
    }
    this.#jobless.clear();
    this.joblessCount = 0;
  }

  #enter(share: ShareEvent, place: Place, job: KnownJob, problems: Problem[], late: boolean): void {
    this.#last = job;
    if (share.time_us - job.usedUs > 1_000_000) {
      job.usedUs = share.time_us;
      this.#jobs.delete(job.key);
      this.#jobs.set(job.key, job);
      this.#sweep(share.time_us);
    }
    const { checkable } = job;
    if (checkable === null) {
      problems.push({ reason: 'job_malformed', claimed: share.job_key, computed: '' });
      this.#done(share, place, problems);
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
    if (share.kind === 'submitted' && share.accepted) {
      const first = job.work.seen.add(share.hash, { writer: this.#writerOf(place), sequence: place.sequence });
      if (first !== null) {
        if (first.writer === this.#writerOf(place) && first.sequence === place.sequence) {
          this.counts.again += 1;
          return;
        }
        problems.push({ reason: 'duplicate', claimed: 'accepted', computed: this.#placeText(first) });
      }
      if (!late) this.#checkAge(share, job, problems);
    }
    const digits = 2 * event.enonce1_bytes;
    if (share.enonce1.length !== digits || share.nonce2.length !== 2 * event.nonce2_bytes) {
      const claimed = `${share.enonce1.length / 2} and ${share.nonce2.length / 2} bytes`;
      problems.push({
        reason: 'extranonce',
        claimed,
        computed: `${event.enonce1_bytes} and ${event.nonce2_bytes} bytes`,
      });
      this.#done(share, place, problems);
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
    this.#pending.push({ share, place, job, checkable, problems, version });
    if (this.#pending.length === BATCH) this.flush();
  }

  #checkAge(share: ShareEvent, job: KnownJob, problems: Problem[]): void {
    const line = this.#timelines.get(`${share.origin}/${share.instance}`);
    if (line === undefined) return;
    const { event } = job.checkable!;
    for (let i = line.turns.length - 1; i >= 0; i--) {
      const turn = line.turns[i]!;
      if (turn.timeUs <= job.timeUs) break;
      if (turn.timeUs >= share.time_us || turn.prevHash === event.prev_hash) continue;
      problems.push({ reason: 'stale', claimed: event.prev_hash, computed: turn.prevHash });
      break;
    }
    if (share.time_us - job.timeUs <= JOB_LIFE_US + CLOCK_SLACK_US) return;
    // A job leaves when a later one comes after its life, and three are left.
    const later = line.jobs.filter(({ timeUs }) => timeUs > job.timeUs && timeUs < share.time_us);
    const newest = later.at(-1);
    if (later.length < JOBS_KEPT || newest!.timeUs - job.timeUs <= JOB_LIFE_US + CLOCK_SLACK_US) return;
    const ageS = Math.round((share.time_us - job.timeUs) / 1e6);
    problems.push({ reason: 'expired', claimed: `${ageS} s after the job`, computed: `${JOB_LIFE_US / 1e6} s` });
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
        this.#done(share, place, problems);
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
        this.counts.solved += 1;
        // One for an upstream is the upstream's to submit.
        if (checkable.event.upstream === '')
          this.#awaitBlock(block === '' ? share.hash : block, { share, place, held: problems.length === 0 });
      }
    }
    this.#done(share, place, problems);
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

  #awaitBlock(hash: string, waiting: Solution): void {
    if (this.#solved.has(hash)) return;
    const others = this.#blockless.get(hash);
    if (others === undefined) this.#blockless.set(hash, [waiting]);
    else others.push(waiting);
  }

  /** What solves a block that the whole log does not name: to be called when it was looked through. */
  tellBlockless(): void {
    for (const [hash, all] of this.#blockless) {
      for (const { share, place, held } of all) {
        if (held) this.counts.held -= 1;
        else this.counts.notHeld -= 1;
        this.#done(share, place, [{ reason: 'block_missing', claimed: '', computed: hash }]);
      }
    }
    this.#blockless.clear();
  }

  /** A record that cannot be read, or bytes that are none. */
  unreadable(reason: 'undecodable' | 'damaged', place: Place, words: string): void {
    if (reason === 'undecodable' && place.topic === 'share') {
      this.counts.shares += 1;
      this.counts.notHeld += 1;
    }
    this.#tell({
      place,
      problems: [{ reason, claimed: words, computed: '' }],
      origin: '',
      identity: '',
      worker: '',
      timeUs: 0,
    });
  }

  #uncheckable(why: Uncheckable, share: ShareEvent, place: Place, problems: Problem[]): void {
    if (problems.length > 0) {
      this.#done(share, place, problems);
      return;
    }
    this.counts.uncheckable[why] = (this.counts.uncheckable[why] ?? 0) + 1;
  }

  #done(share: ShareEvent, place: Place, problems: Problem[]): void {
    if (problems.length === 0) {
      this.counts.held += 1;
      return;
    }
    this.counts.notHeld += 1;
    const { origin, worker, time_us: timeUs } = share;
    this.#tell({ place, problems, origin, identity: shareIdentity(share), worker, timeUs });
  }

  #tell(finding: Finding): void {
    for (const { reason } of finding.problems) {
      this.counts.reasons[reason] = (this.counts.reasons[reason] ?? 0) + 1;
    }
    this.#options.onFinding(finding);
  }

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

  /** Lets jobs go that no share names any more. */
  #sweep(nowUs: number): void {
    this.#sinceSweep += 1;
    if (this.#sinceSweep < 16) return;
    this.#sinceSweep = 0;
    let bytes = this.#jobBytes;
    for (const { seen } of this.#works.values()) bytes += seen.sizeBytes;
    for (const job of this.#jobs.values()) {
      if (bytes <= this.#limitBytes && nowUs - job.usedUs <= KEPT_US) break;
      if (job === this.#last) continue;
      if (this.#pending.some((each) => each.job === job)) this.flush();
      this.#jobs.delete(job.key);
      if (job.slot >= 0) this.#kernel.remove(job.slot);
      this.#jobBytes -= job.checkable?.sizeBytes ?? 0;
      bytes -= job.checkable?.sizeBytes ?? 0;
      job.work.jobs -= 1;
      if (job.work.jobs > 0) continue;
      bytes -= job.work.seen.sizeBytes;
      this.#works.delete(job.workKey);
    }
  }
}

/** What of a share contradicts itself, whatever its job. */
function consistency(share: ShareEvent, place: Place): Problem[] {
  const problems: Problem[] = [];
  const say = (reason: Reason, claimed: string, computed = ''): void =>
    void problems.push({ reason, claimed, computed });
  if (share.instance !== place.instance) say('instance', share.instance, place.instance);
  if (share.kind !== 'submitted' && share.kind !== 'verdict') say('malformed', `kind ${share.kind}`);
  if (share.accepted !== (share.errn === 0)) say('contradiction', `accepted ${share.accepted}, errn ${share.errn}`);
  if (share.source === 'backfill') {
    if (share.job_key !== '' || share.version_bits !== '')
      say('contradiction', 'back-filled with job key or version bits');
    return problems;
  }
  if (share.source !== 'live') say('malformed', `source ${share.source}`);
  if (share.accepted && share.reason !== '') say('contradiction', `accepted, reason ${share.reason}`);
  if (share.time_ns !== 0) say('malformed', `time_ns ${share.time_ns}`);
  if ((share.kind === 'verdict') !== (share.upstream !== '')) {
    say('contradiction', `kind ${share.kind}, upstream ${JSON.stringify(share.upstream)}`);
  }
  if (!Number.isFinite(share.diff) || share.diff < 0) say('malformed', `diff ${share.diff}`);
  if (share.hash === '') return problems;
  if (!HASH.test(share.hash)) say('malformed', `hash ${share.hash}`);
  if (!HEX.test(share.enonce1) || !HEX.test(share.nonce2))
    say('malformed', `extranonce ${share.enonce1} ${share.nonce2}`);
  if (!WORD.test(share.nonce)) say('malformed', `nonce ${share.nonce}`);
  if (!NTIME.test(share.ntime)) say('malformed', `ntime ${share.ntime}`);
  if (share.version_bits !== '' && !WORD.test(share.version_bits))
    say('malformed', `version_bits ${share.version_bits}`);
  return problems;
}
