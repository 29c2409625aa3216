/**
 * What one process counts of its workers, on the path of every share: a few additions and no allocation. Once a second `take` gives what
 * has changed as plain data, for stats.ts here or in another process.
 *
 *   authorize → `Tally.join` → `WorkerTally.accepted` per share that is in the journal → `take` → stats.ts
 */

/** What became of one worker since the last `take`. Difficulties are the chain's unit, as in events. */
export interface WorkerChange {
  readonly user: string;
  readonly worker: string;
  /** Sum of the difficulties credited, and how many shares. */
  readonly diff: number;
  readonly shares_count: number;
  /** Highest difficulty reached by one of them; 0: none. */
  readonly best_sdiff: number;
  /** Of the last accepted share in this process; 0: none yet. */
  readonly last_share_ms: number;
  /** Lines of this process that are authorized for it now. */
  readonly connections: number;
  /** Since when one is; 0: none is. */
  readonly started_ms: number;
  /** First authorization in this process. */
  readonly authorized_ms: number;
  readonly agent: string;
}

/** A message from one process to the one that keeps the statistics. */
export interface Changes {
  readonly workers: readonly WorkerChange[];
  readonly refused_diff: number;
  readonly refused_count: number;
  /** Authorized lines without an accepted share for a minute, now. */
  readonly idle: number;
  /** Sessions that can be resumed, now. */
  readonly resumable: number;
}

/** One worker name in this process. */
export class WorkerTally {
  readonly user: string;
  readonly name: string;
  readonly authorizedMs: number;
  agent = '';
  connections = 0;
  startedMs = 0;
  diff = 0;
  count = 0;
  bestSdiff = 0;
  lastShareMs = 0;
  #listed = false;
  /** Lines that were told last. */
  #told = 0;
  readonly #changed: WorkerTally[];

  constructor(user: string, name: string, nowMs: number, changed: WorkerTally[]) {
    this.user = user;
    this.name = name;
    this.authorizedMs = nowMs;
    this.#changed = changed;
  }

  /** A share of it is in the journal. @param diff - credited @param sdiff - reached; both in the chain's unit */
  accepted(diff: number, sdiff: number, nowMs: number): void {
    this.diff += diff;
    this.count += 1;
    if (sdiff > this.bestSdiff) this.bestSdiff = sdiff;
    this.lastShareMs = nowMs;
    if (!this.#listed) this.list();
  }

  /** It will be in the next changes. */
  list(): void {
    if (this.#listed) return;
    this.#listed = true;
    this.#changed.push(this);
  }

  /** True where it came and went since it was last told of, without a share: there is nothing to tell. */
  get idle(): boolean {
    return this.count === 0 && this.connections === 0 && this.#told === 0;
  }

  /** It is told of later, where that is needed. */
  unlist(): void {
    this.#listed = false;
  }

  /** What has changed, and begins anew. @param current - the tally that its name has now, whose lines count */
  take(current: WorkerTally | undefined): WorkerChange {
    const change = {
      user: this.user,
      worker: this.name,
      diff: this.diff,
      shares_count: this.count,
      best_sdiff: this.bestSdiff,
      last_share_ms: this.lastShareMs,
      connections: current?.connections ?? 0,
      started_ms: current?.startedMs ?? 0,
      authorized_ms: this.authorizedMs,
      agent: this.agent,
    };
    this.diff = 0;
    this.count = 0;
    this.bestSdiff = 0;
    this.#listed = false;
    this.#told = change.connections;
    return change;
  }
}

export class Tally {
  readonly #workers = new Map<string, WorkerTally>();
  readonly #changed: WorkerTally[] = [];
  #refusedDiff = 0;
  #refusedCount = 0;

  /** A line is authorized for a worker. @returns where its shares are counted, until `leave` */
  join(user: string, name: string, agent: string, nowMs: number): WorkerTally {
    let worker = this.#workers.get(name);
    if (worker === undefined) {
      worker = new WorkerTally(user, name, nowMs, this.#changed);
      this.#workers.set(name, worker);
    }
    if (worker.connections === 0) worker.startedMs = nowMs;
    worker.connections += 1;
    worker.agent = agent;
    worker.list();
    return worker;
  }

  /** The line has ended. */
  leave(worker: WorkerTally): void {
    worker.connections -= 1;
    if (worker.connections === 0) worker.startedMs = 0;
    worker.list();
  }

  /** A share was refused. @param diff - that was asked, in the chain's unit */
  refused(diff: number): void {
    this.#refusedDiff += diff;
    this.#refusedCount += 1;
  }

  /**
   * What has changed since the last call.
   *
   * @param limit - of workers; those that changed first come first, the others with the next call. 10,000 take 5 ms to be sent
   */
  take(now: { readonly idle: number; readonly resumable: number }, limit = Infinity): Changes {
    const workers: WorkerChange[] = [];
    let seen = 0;
    for (; seen < this.#changed.length && workers.length < limit; seen++) {
      const worker = this.#changed[seen]!;
      const current = this.#workers.get(worker.name);
      // Names that come and go faster than they are told of would pile up here.
      if (worker.idle && current === worker) worker.unlist();
      else workers.push(worker.take(current));
      // Nobody is there: what may still be journaled for it lists it again by itself.
      if (worker.connections === 0 && current === worker) this.#workers.delete(worker.name);
    }
    this.#changed.splice(0, seen);
    const changes = { workers, refused_diff: this.#refusedDiff, refused_count: this.#refusedCount, ...now };
    this.#refusedDiff = 0;
    this.#refusedCount = 0;
    return changes;
  }
}
