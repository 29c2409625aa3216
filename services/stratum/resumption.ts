/**
 * What ended sessions leave for the next line that names them: extranonce1, user and difficulties, for ten minutes. Those of this process lie
 * in memory; those of earlier ones, and of siblings that hand over, are found in the journal (predecessors.ts).
 *
 *   a line ends → daemon.ts → `leave`;   mining.subscribe with a session id → `resume` → the session goes on
 */
import { randomBytes } from 'node:crypto';
import { errorLine } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import type { DifficultyStep } from './difficulty.ts';
import { Predecessors } from './predecessors.ts';
import type { Job, JobIds } from './work/job.ts';
import type { WorkSource } from './work/source.ts';

/** A session can be resumed this long (CKPool). */
const RESUME_MS = 600_000;
const RESUMABLE_SESSIONS = 20_000;

/** What a session leaves behind, and the next line with its extranonce1 takes up. */
export interface Resumable {
  readonly source: WorkSource;
  readonly enonce1: Uint8Array;
  readonly user: string;
  readonly sinceMs: number;
  /** `Job.order` of the last job sent with this extranonce1; -1: none. */
  readonly lastOrder: number;
  /** Difficulty in force at last, unit of the wire; 0: none. */
  readonly diff: number;
  /** The difficulties of its jobs, for shares that were found on them. */
  readonly steps: readonly DifficultyStep[];
}

export interface ResumptionOptions {
  /** Of the events that earlier processes wrote. */
  readonly origin: string;
  readonly ids: JobIds;
  /** Difficulty on the wire = difficulty × this. */
  readonly wireMultiplier: number;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly nowMs: () => number;
}

export class Resumption {
  readonly #options: ResumptionOptions;
  /** By session id, the one that ended first in front. */
  readonly #left = new Map<string, Resumable>();
  #earlier: {
    readonly source: WorkSource;
    readonly predecessors: Predecessors;
    readonly claim: (sessionId: string) => Promise<boolean>;
  } | null = null;

  constructor(options: ResumptionOptions) {
    this.#options = options;
  }

  /** Sessions of this process that can be resumed. */
  get size(): number {
    return this.#left.size;
  }

  /** True while less than half of the places are taken. */
  get roomy(): boolean {
    return this.#left.size < RESUMABLE_SESSIONS / 2;
  }

  /** A session has ended. */
  leave(sessionId: string, left: Resumable): void {
    this.#left.set(sessionId, left);
    this.dropOld();
  }

  /** To be called now and then. */
  dropOld(): void {
    const now = this.#options.nowMs();
    for (const [id, { sinceMs }] of this.#left) {
      if (this.#left.size <= RESUMABLE_SESSIONS && now - sinceMs < RESUME_MS) break;
      this.#left.delete(id);
    }
  }

  /** A source has ended, and its sessions with it. */
  dropSource(source: WorkSource): void {
    for (const [id, { source: its }] of this.#left) if (its === source) this.#left.delete(id);
  }

  /** A session goes on at another process: it cannot be resumed here, and its extranonce1 is given to nobody. */
  letGo(sessionId: string): void {
    const left = this.#left.get(sessionId);
    this.#left.delete(sessionId);
    left?.source.enonces.leave(left.enonce1);
    // One that began elsewhere with an extranonce1 that could be ours to give.
    const earlier = this.#earlier?.predecessors.session(sessionId);
    if (earlier !== undefined) this.#earlier!.source.enonces.leave(earlier.enonce1);
  }

  /** A session id that nobody can guess: 8 hex digits. */
  newSessionId(): string {
    for (;;) {
      const id = randomBytes(4).toString('hex');
      if (!this.#left.has(id)) return id;
    }
  }

  /**
   * Takes up what earlier processes left in the journal: jobs that shares may still name, the shares accepted on them, and sessions that can
   * be resumed. Call once, before the first connection.
   *
   * @param running - instances of processes that still run and hand their sessions over to this one
   * @param claim - makes a session ours alone, and ends it where it still lives; false: another process has it
   */
  async takeUp(
    source: WorkSource,
    of: {
      readonly journalDir: string;
      readonly running?: readonly string[];
      readonly claim?: (sessionId: string) => Promise<boolean>;
    },
  ): Promise<void> {
    const { jobs, nonce2Bytes, enonces } = source;
    let key = '';
    let job: Job | undefined;
    const predecessors = new Predecessors({
      dir: of.journalDir,
      origin: this.#options.origin,
      nowMs: this.#options.nowMs(),
      running: of.running ?? [],
      facts: {
        job: ({ id, key, content, value, txCount, madeMs }) => {
          // Work of another split cannot be taken: its shares would be other bytes.
          if (content.enonce1Bytes !== enonces.sizeBytes || content.nonce2Bytes !== nonce2Bytes) return;
          if (jobs.findByKey(key) !== undefined) return;
          // One from before the clock was set back must not look younger than all that came after it.
          const nowMs = Math.min(madeMs, this.#options.nowMs());
          jobs.add(content, { id, nowMs, value, txCount, template: null, upstream: null, earlier: true });
        },
        acceptedShare: (jobKey, words) => {
          if (jobKey !== key) {
            key = jobKey;
            job = jobs.findByKey(key);
          }
          job?.seen.add(words, 0);
        },
      },
    });
    this.#earlier = { source, predecessors, claim: of.claim ?? (async () => true) };
    await predecessors.catchUp();
    for (const { enonce1, lastMs, ended } of predecessors.enonces()) {
      if (ended) enonces.hold(enonce1, lastMs);
      else enonces.leave(enonce1);
    }
  }

  async #resumeEarlier(sessionId: string, address: string): Promise<Resumable | null> {
    const { source, predecessors, claim } = this.#earlier!;
    if (!(await claim(sessionId))) return null;
    // What its line did until it was ended: the last shares, so that none is taken twice.
    await predecessors.catchUp();
    const found = predecessors.session(sessionId);
    // Whoever had it has let go of it or is dead, be its end in the journal or not (a full disk, a kill).
    if (found === undefined || found.address !== address) return null;
    predecessors.forget(sessionId);
    source.enonces.hold(found.enonce1, found.lastMs);
    if (!source.enonces.takeBack(found.enonce1)) return null;
    return {
      source,
      enonce1: found.enonce1,
      user: found.user,
      sinceMs: found.lastMs,
      // Which of its jobs came last is not known, and some may have been read after our own first: it gets one of its own, behind them all.
      lastOrder: this.#options.ids.order,
      diff: found.diff * this.#options.wireMultiplier,
      // Which of its jobs had which is not known: none was found below this.
      steps: found.leastDiff > 0 ? [{ from: 0, diff: found.leastDiff * this.#options.wireMultiplier }] : [],
    };
  }

  /**
   * The extranonce1 of an ended session and its source, once; null where it cannot be resumed. `user` must be the one that authorizes; the
   * address may be another, for a line that comes back often has a new one. A promise where it began at an earlier process: then from the
   * same address, for there it may still live.
   */
  resume(sessionId: string, address: string): Resumable | null | Promise<Resumable | null> {
    const found = this.#left.get(sessionId.toLowerCase());
    if (found === undefined) {
      const earlier = this.#earlier?.predecessors.session(sessionId.toLowerCase());
      if (earlier === undefined || earlier.address !== address || this.#options.nowMs() - earlier.lastMs >= RESUME_MS) {
        return null;
      }
      return this.#resumeEarlier(sessionId.toLowerCase(), address).catch((error: unknown) => {
        this.#options.log(`session ${sessionId} cannot be resumed: ${errorLine(error)}`);
        return null;
      });
    }
    if (this.#options.nowMs() - found.sinceMs >= RESUME_MS) return null;
    if (!found.source.enonces.takeBack(found.enonce1)) return null;
    this.#left.delete(sessionId.toLowerCase());
    return found;
  }

  async close(): Promise<void> {
    await this.#earlier?.predecessors.close();
  }
}
