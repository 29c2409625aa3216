/**
 * The jobs that an audit has at hand, with the shares that were accepted on them. Bounded: a job leaves an hour (of the log's time) after its last
 * share, or when there are too many; then with it the memory of its shares.
 */
import type { JobEvent } from '../../schemas/events.ts';
import { workDigest } from '../../schemas/identity.ts';
import type { Place, Problem } from './findings.ts';
import type { CheckableJob } from './job.ts';
import { Seen } from './seen.ts';

/** How long after its last share a job is kept. */
const KEPT_US = 3_600_000_000;

/** Shares on one work: jobs that differ in version and time alone may have the same headers. */
interface Work {
  readonly seen: Seen;
  jobs: number;
}

export interface KnownJob {
  readonly key: string;
  /** null: not of its form. */
  readonly checkable: CheckableJob | null;
  readonly ids: Set<string>;
  readonly work: Work;
  readonly workKey: string;
  /** Of its first event and of its latest. */
  firstUs: number;
  timeUs: number;
  usedUs: number;
  /** In the kernel; -1: not now. */
  slot: number;
  /** What does not hold of it, where it was not built within the time asked for: told with the first share on it. */
  untold: { readonly event: JobEvent; readonly place: Place; readonly problems: readonly Problem[] } | null;
}

export class KnownJobs {
  readonly #limitBytes: number;
  readonly #onLeave: (job: KnownJob) => void;
  /** The one used longest ago in front. */
  readonly #jobs = new Map<string, KnownJob>();
  readonly #works = new Map<string, Work>();
  #last: KnownJob | null = null;
  #bytes = 0;
  #sinceSweep = 0;

  /** @param onLeave - told before a job is let go */
  constructor(limitBytes: number, onLeave: (job: KnownJob) => void) {
    this.#limitBytes = limitBytes;
    this.#onLeave = onLeave;
  }

  get size(): number {
    return this.#jobs.size;
  }

  get(key: string): KnownJob | undefined {
    return this.#last?.key === key ? this.#last : this.#jobs.get(key);
  }

  /** @param awaited - somebody waits for it: it stays */
  add(event: JobEvent, checkable: CheckableJob | null, awaited: boolean): KnownJob {
    const workKey = `${event.origin}/${workDigest(event)}`;
    let work = this.#works.get(workKey);
    if (work === undefined) {
      work = { seen: new Seen(), jobs: 0 };
      this.#works.set(workKey, work);
    }
    work.jobs += 1;
    this.#bytes += checkable?.sizeBytes ?? 0;
    const job: KnownJob = {
      key: event.job_key,
      checkable,
      ids: new Set([event.job_id]),
      work,
      workKey,
      firstUs: event.time_us,
      timeUs: event.time_us,
      usedUs: event.time_us,
      slot: -1,
      untold: null,
    };
    this.#jobs.set(job.key, job);
    if (awaited) this.#last = job;
    this.#sweep(event.time_us);
    return job;
  }

  /** A share came on it. */
  use(job: KnownJob, nowUs: number): void {
    this.#last = job;
    if (nowUs - job.usedUs <= 1_000_000) return;
    job.usedUs = nowUs;
    this.#jobs.delete(job.key);
    this.#jobs.set(job.key, job);
    this.#sweep(nowUs);
  }

  /** Lets jobs go that no share names any more. */
  #sweep(nowUs: number): void {
    this.#sinceSweep += 1;
    if (this.#sinceSweep < 16) return;
    this.#sinceSweep = 0;
    let bytes = this.#bytes;
    for (const { seen } of this.#works.values()) bytes += seen.sizeBytes;
    for (const job of this.#jobs.values()) {
      if (bytes <= this.#limitBytes && nowUs - job.usedUs <= KEPT_US) break;
      if (job === this.#last) continue;
      this.#onLeave(job);
      this.#jobs.delete(job.key);
      this.#bytes -= job.checkable?.sizeBytes ?? 0;
      bytes -= job.checkable?.sizeBytes ?? 0;
      job.work.jobs -= 1;
      if (job.work.jobs > 0) continue;
      bytes -= job.work.seen.sizeBytes;
      this.#works.delete(job.workKey);
    }
  }
}
