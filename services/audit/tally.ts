/** The outcome of an audit: what held, what did not, what could not be checked; findings go out as they come. */
import type { JobEvent, ShareEvent } from '../../schemas/events.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import type { Counts, Finding, Place, Problem, Uncheckable } from './findings.ts';

export class Tally {
  readonly counts: Counts = {
    shares: 0,
    held: 0,
    notHeld: 0,
    again: 0,
    creditUnknown: 0,
    jobs: 0,
    jobsNotHeld: 0,
    solved: 0,
    reasons: {},
    uncheckable: {},
  };
  readonly #onFinding: (finding: Finding) => void;

  constructor(onFinding: (finding: Finding) => void) {
    this.#onFinding = onFinding;
  }

  /** A share that was checked: held where there are no problems. */
  share(share: ShareEvent, place: Place, problems: readonly Problem[]): void {
    if (problems.length === 0) {
      this.counts.held += 1;
      return;
    }
    this.counts.notHeld += 1;
    const { origin, worker, time_us: timeUs } = share;
    this.tell({ place, problems, origin, identity: shareIdentity(share), worker, timeUs });
  }

  /** A share that was checked already, and of which something more was found. @param held - whether it had held */
  shareAfterAll(share: ShareEvent, place: Place, held: boolean, problems: readonly Problem[]): void {
    if (held) this.counts.held -= 1;
    else this.counts.notHeld -= 1;
    this.share(share, place, problems);
  }

  uncheckable(why: Uncheckable, share: ShareEvent, place: Place, problems: readonly Problem[]): void {
    if (problems.length > 0) {
      this.share(share, place, problems);
      return;
    }
    this.counts.uncheckable[why] = (this.counts.uncheckable[why] ?? 0) + 1;
  }

  /** A job that does not hold. */
  job(event: JobEvent, place: Place, problems: readonly Problem[]): void {
    this.counts.jobsNotHeld += 1;
    this.tell({ place, problems, origin: event.origin, identity: event.job_key, worker: '', timeUs: event.time_us });
  }

  /** A record that cannot be read, or bytes that are none. */
  unreadable(reason: 'undecodable' | 'damaged', place: Place, words: string): void {
    if (reason === 'undecodable' && place.topic === 'share') {
      this.counts.shares += 1;
      this.counts.notHeld += 1;
    }
    const problems = [{ reason, claimed: words, computed: '' }];
    this.tell({ place, problems, origin: '', identity: '', worker: '', timeUs: 0 });
  }

  tell(finding: Finding): void {
    for (const { reason } of finding.problems) {
      this.counts.reasons[reason] = (this.counts.reasons[reason] ?? 0) + 1;
    }
    this.#onFinding(finding);
  }
}
