/**
 * A new job on its way to all miners of its source: the largest first, some hundreds at a time, and between those whatever has come in is
 * read, journaled and answered. Ten thousand lines take 0.1 to 0.2 s to write; nobody's share waits for that.
 *
 *   daemon.broadcast → `send` → session.sendJobNow (one buffer for all) → connection
 */
import type { Facts } from '../facts.ts';
import type { Session } from '../session.ts';
import type { Job } from './job.ts';
import type { WorkSource } from './source.ts';

/** Lines written before others have their turn: 5 to 10 ms. */
const LINES_AT_ONCE = 500;

interface Run {
  readonly job: Job;
  /** `job.notify`, encoded. */
  readonly bytes: readonly [plain: Buffer, clean: Buffer];
  readonly sessions: readonly Session[];
  next: number;
}

/** Orders by powers of two of the difficulty: a sort by the exact value costs more than it brings. */
function largestFirst(sessions: Iterable<Session>): Session[] {
  const groups = new Map<number, Session[]>();
  for (const session of sessions) {
    const size = Math.floor(Math.log2(session.difficulty));
    const group = groups.get(size);
    if (group === undefined) groups.set(size, [session]);
    else group.push(session);
  }
  return [...groups.keys()].sort((a, b) => b - a).flatMap((size) => groups.get(size)!);
}

export class Fanout {
  readonly #sessions: ReadonlySet<Session>;
  readonly #facts: Facts;
  readonly #runs = new Map<WorkSource, Run>();

  /** @param sessions - all of the daemon; may change at any time */
  constructor(sessions: ReadonlySet<Session>, facts: Facts) {
    this.#sessions = sessions;
    this.#facts = facts;
  }

  /**
   * Sends a job, the current one of its source, to all authorized sessions of the source that have not got it by another way. The first are
   * told before this returns. A run that is not through is given up: who still waited for its job gets this one.
   */
  send(source: WorkSource, job: Job): void {
    const theirs: Session[] = [];
    for (const session of this.#sessions) if (session.source === source && session.authorized) theirs.push(session);
    const run: Run = {
      job,
      bytes: [Buffer.from(job.notify[0]), Buffer.from(job.notify[1])],
      sessions: largestFirst(theirs),
      next: 0,
    };
    this.#runs.set(source, run);
    this.#step(source, run);
  }

  #step(source: WorkSource, run: Run): void {
    if (this.#runs.get(source) !== run) return;
    // The job is in the journal before a miner has it; and what was answered in this turn goes out before the job, as it happened.
    this.#facts.flush();
    for (let told = 0; told < LINES_AT_ONCE && run.next < run.sessions.length; run.next++) {
      const session = run.sessions[run.next]!;
      // Gone, moved to another source, or told by its own authorize or change of difficulty meanwhile.
      if (!this.#sessions.has(session) || session.source !== source || session.lastOrder >= run.job.order) continue;
      session.sendJobNow(run.job, run.bytes);
      told += 1;
    }
    if (run.next < run.sessions.length) setImmediate(() => this.#step(source, run));
    else this.#runs.delete(source);
  }
}
