/** Which jobs an instance made when, and when the chain moved on: whether a share came on work that was still known and current. */
import type { JobEvent, ShareEvent } from '../../schemas/events.ts';
import type { Problem } from './findings.ts';

/** How long the daemon knows a job, and how many at least (CKPool; stratum/work/job.ts), and what two clocks of one process may differ by. */
const JOB_LIFE_US = 600_000_000;
const JOBS_KEPT = 3;
export const CLOCK_SLACK_US = 1_000_000;
/** Jobs of an instance that are looked back on. */
const TIMELINE = 256;
const TURNS = 32;

/** What one instance has made. */
interface Timeline {
  /** Distinct jobs, in order. */
  readonly jobs: { readonly timeUs: number; readonly content: string }[];
  /** Jobs that turned the page. */
  readonly turns: { readonly timeUs: number; readonly prevHash: string }[];
}

export class Timelines {
  readonly #timelines = new Map<string, Timeline>();

  enter(event: JobEvent): void {
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

  /** Whether the job was current when the share came, and known. @param jobUs - of the job's latest event */
  check(share: ShareEvent, job: JobEvent, jobUs: number, problems: Problem[]): void {
    const line = this.#timelines.get(`${share.origin}/${share.instance}`);
    if (line === undefined) return;
    for (let i = line.turns.length - 1; i >= 0; i--) {
      const turn = line.turns[i]!;
      if (turn.timeUs <= jobUs) break;
      if (turn.timeUs >= share.time_us || turn.prevHash === job.prev_hash) continue;
      problems.push({ reason: 'stale', claimed: job.prev_hash, computed: turn.prevHash });
      break;
    }
    if (share.time_us - jobUs <= JOB_LIFE_US + CLOCK_SLACK_US) return;
    // A job leaves when a later one comes after its life, and three are left.
    const later = line.jobs.filter(({ timeUs }) => timeUs > jobUs && timeUs < share.time_us);
    const newest = later.at(-1);
    if (later.length < JOBS_KEPT || newest!.timeUs - jobUs <= JOB_LIFE_US + CLOCK_SLACK_US) return;
    const ageS = Math.round((share.time_us - jobUs) / 1e6);
    problems.push({ reason: 'expired', claimed: `${ageS} s after the job`, computed: `${JOB_LIFE_US / 1e6} s` });
  }

  /** When the instance made the job before an instant; null where that is not known. */
  before({ origin, instance }: ShareEvent, us: number): number | null {
    return this.#timelines.get(`${origin}/${instance}`)?.jobs.findLast(({ timeUs }) => timeUs < us)?.timeUs ?? null;
  }
}
