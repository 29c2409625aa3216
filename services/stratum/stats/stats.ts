/**
 * The pool's statistics: CKPool's decaying averages, sums and best shares of pool, users and workers, in the memory of the one process
 * that keeps them. `absorb` takes what the processes have counted (tally.ts); status-files.ts writes and reads it. Only computes, but for
 * what `StatsStore` gives of users that are on disk.
 *
 * A user and a worker come into being with their first accepted share. Of users nobody is connected for, so many stay in memory; older
 * ones are on disk alone until they come back.
 */
import { userOf } from '../methods/authorize.ts';
import { type Agent, Agents, type AgentValues } from './agents.ts';
import { Rates } from './rates.ts';
import type { Changes, WorkerChange } from './tally.ts';

/** 1m 5m 15m 1h 6h 1d 7d. */
const POOL_INTERVALS_S = [60, 300, 900, 3_600, 21_600, 86_400, 604_800] as const;
/** 1m 5m 1h 1d 7d. */
const USER_INTERVALS_S = [60, 300, 3_600, 86_400, 604_800] as const;
/** 1m 5m 15m 1h. */
const SPS_INTERVALS_S = [60, 300, 900, 3_600] as const;

/** Workers of a user in memory that are not connected. */
const WORKERS_LIMIT = 1_000;
export const IDLE_USERS_LIMIT = 100_000;
/** Who has had no share for so long is left out of the files (CKPool). */
export const FORGOTTEN_MS = 600_000_000;

/** What is known of a worker, and of a user. Difficulties in the chain's unit. */
export class Account {
  readonly name: string;
  readonly rates: Rates;
  /** Sum of difficulties accepted, ever. */
  shares = 0;
  /** Best share since the last block, and ever. */
  best = 0;
  bestEver = 0;
  /** 0: none. */
  lastShareMs = 0;
  /** Of the text last written for it, so that only what has changed is written; 0: none. */
  writtenDigest = 0;

  constructor(name: string, nowMs: number, rates: readonly number[] = []) {
    this.name = name;
    this.rates = new Rates(USER_INTERVALS_S, nowMs, rates);
  }

  take(change: Pick<WorkerChange, 'diff' | 'best_sdiff' | 'last_share_ms'>): void {
    this.shares += change.diff;
    this.best = Math.max(this.best, change.best_sdiff);
    this.bestEver = Math.max(this.bestEver, change.best_sdiff);
    this.lastShareMs = Math.max(this.lastShareMs, change.last_share_ms);
    this.rates.add(change.diff);
  }
}

export class WorkerAccount extends Account {
  agent = '';
  /** Since when it is connected; 0: it is not. */
  startedMs = 0;
}

export class UserAccount extends Account {
  /** First authorization ever, seconds since 1970; 0: unknown. */
  authorizedS = 0;
  readonly workers = new Map<string, WorkerAccount>();
  /** Has changed since its file was written. */
  changed = true;
  /** When its averages are written again although nothing came. */
  dueMs = 0;
  /** Of what is on disk; Infinity: it has only been here. */
  storedMs = Infinity;
}

/** Users and workers that are not in memory. */
export interface StatsStore {
  /** The user as it was last written, its averages at the time of that; null where there is none. */
  load(user: string): UserAccount | null;
  /** A worker that its user's file does not have. */
  loadWorker(worker: string): WorkerAccount | null;
  /** Writes what has changed; afterwards the account may be dropped. */
  save(user: UserAccount): void;
  saveWorker(worker: WorkerAccount): void;
}

const NO_STORE: StatsStore = {
  load: () => null,
  loadWorker: () => null,
  save: () => {},
  saveWorker: () => {},
};

/** Averages, sums and counts of a pool. */
interface PoolTotals {
  /** Difficulty per second over POOL_INTERVALS_S, shares per second over SPS_INTERVALS_S. */
  readonly dsps: readonly number[];
  readonly sps: readonly number[];
  readonly accepted: number;
  readonly rejected: number;
  readonly acceptedCount: number;
  readonly rejectedCount: number;
  readonly best: number;
}

export interface PoolValues extends PoolTotals {
  readonly startedMs: number;
  readonly users: number;
  readonly workers: number;
  readonly idle: number;
  readonly disconnected: number;
  /** 0: not known yet. */
  readonly networkDiff: number;
  /** Kinds of miners that are connected, those with the most lines first. */
  readonly agents: readonly AgentValues[];
}

/** What pool.status keeps over a restart. */
export interface StoredPool extends PoolTotals {
  readonly updatedMs: number;
}

export interface StatsOptions {
  readonly store?: StatsStore;
  readonly nowMs: number;
  readonly stored?: StoredPool | null;
  /** Told of a user whose first share this is. */
  readonly onNewUser?: (user: string) => void;
  /** Told of a worker whose share is the best of its user, or its own best. @param words - CKPool's */
  readonly onBest?: (worker: string, words: string, sdiff: number) => void;
  readonly idleUsersLimit?: number;
  readonly workersLimit?: number;
}

interface Process {
  /** Lines by worker name, and with what they mine. */
  readonly lines: Map<string, { count: number; agent: Agent }>;
  idle: number;
  resumable: number;
}

export class Stats {
  /** Users in memory; who had a share last stands last. */
  readonly users = new Map<string, UserAccount>();
  networkDiff = 0;
  readonly #store: StatsStore;
  readonly #options: StatsOptions;
  readonly #startedMs: number;
  readonly #dsps: Rates;
  readonly #sps: Rates;
  readonly #processes = new Map<string, Process>();
  readonly #workerLines = new Map<string, number>();
  readonly #userLines = new Map<string, number>();
  readonly #agents: Agents;
  #lines = 0;
  #accepted = 0;
  #rejected = 0;
  #acceptedCount = 0;
  #rejectedCount = 0;
  #best = 0;
  #resetMs = -Infinity;

  constructor(options: StatsOptions) {
    const { nowMs, stored } = options;
    this.#options = options;
    this.#store = options.store ?? NO_STORE;
    this.#startedMs = nowMs;
    this.#agents = new Agents(nowMs);
    // Files of a clock ahead of ours are of now.
    const sinceMs = Math.min(stored?.updatedMs ?? nowMs, nowMs);
    this.#dsps = new Rates(POOL_INTERVALS_S, sinceMs, stored?.dsps);
    this.#sps = new Rates(SPS_INTERVALS_S, sinceMs, stored?.sps);
    this.#dsps.decayTo(nowMs);
    this.#sps.decayTo(nowMs);
    if (stored == null) return;
    this.#accepted = stored.accepted;
    this.#rejected = stored.rejected;
    this.#acceptedCount = stored.acceptedCount;
    this.#rejectedCount = stored.rejectedCount;
    this.#best = stored.best;
  }

  /**
   * Takes what a process has counted.
   *
   * @param from - names the process
   */
  absorb(changes: Changes, nowMs: number, from = ''): void {
    let process = this.#processes.get(from);
    if (process === undefined) {
      process = { lines: new Map(), idle: 0, resumable: 0 };
      this.#processes.set(from, process);
    }
    process.idle = changes.idle;
    process.resumable = changes.resumable;
    this.#rejected += changes.refused_diff;
    this.#rejectedCount += changes.refused_count;
    for (const change of changes.workers) {
      this.#setLines(process, change.worker, change.user, change.connections, change.agent);
      if (change.shares_count > 0) this.#credit(change, nowMs);
      this.#present(change);
    }
    this.#evict();
  }

  /** A process has ended: its lines are gone. */
  forgetProcess(from: string): void {
    const process = this.#processes.get(from);
    if (process === undefined) return;
    for (const worker of [...process.lines.keys()]) this.#setLines(process, worker, userOf(worker), 0, '');
    this.#processes.delete(from);
  }

  #setLines(process: Process, worker: string, user: string, lines: number, agentText: string): void {
    const before = process.lines.get(worker);
    if (before !== undefined) before.agent.lines -= before.count;
    if (lines === 0) process.lines.delete(worker);
    else {
      const agent = this.#agents.of(agentText);
      agent.lines += lines;
      process.lines.set(worker, { count: lines, agent });
    }
    const more = lines - (before?.count ?? 0);
    if (more === 0) return;
    this.#lines += more;
    for (const [counts, name] of [
      [this.#workerLines, worker],
      [this.#userLines, user],
    ] as const) {
      const now = (counts.get(name) ?? 0) + more;
      if (now <= 0) counts.delete(name);
      else counts.set(name, now);
    }
    const known = this.users.get(user);
    if (known !== undefined) known.changed = true;
  }

  #credit(change: WorkerChange, nowMs: number): void {
    this.#accepted += change.diff;
    this.#acceptedCount += change.shares_count;
    this.#best = Math.max(this.#best, change.best_sdiff);
    this.#dsps.add(change.diff);
    this.#sps.add(change.shares_count);
    this.#agents.of(change.agent).credit(change.diff, change.best_sdiff);
    const user = this.#comeInto(change, nowMs);
    const worker = this.#workerOf(user, change, nowMs);
    const best = bestWords(user, worker, change.best_sdiff);
    if (best !== null) this.#options.onBest?.(change.worker, best, change.best_sdiff);
    user.take(change);
    user.rates.decayTo(nowMs);
    worker.take(change);
    worker.rates.decayTo(nowMs);
    user.changed = true;
    this.users.delete(user.name);
    this.users.set(user.name, user);
  }

  #comeInto({ user: name, authorized_ms: authorizedMs }: WorkerChange, nowMs: number): UserAccount {
    const there = this.user(name, nowMs);
    if (there !== null) return there;
    const user = new UserAccount(name, Math.min(authorizedMs, nowMs));
    user.authorizedS = Math.floor(authorizedMs / 1_000);
    this.users.set(name, user);
    this.#options.onNewUser?.(name);
    return user;
  }

  /** A user in memory or on disk; null where it never had a share. */
  user(name: string, nowMs: number): UserAccount | null {
    const there = this.users.get(name);
    if (there !== undefined) return there;
    const stored = this.#store.load(name);
    if (stored !== null) this.adopt(stored, nowMs);
    return stored;
  }

  /** Takes a user from disk into memory, its averages brought to now. */
  adopt(user: UserAccount, nowMs: number): void {
    if (this.users.has(user.name)) return;
    user.rates.decayTo(nowMs);
    const before = user.storedMs < this.#resetMs;
    if (before) user.best = 0;
    for (const worker of user.workers.values()) {
      worker.rates.decayTo(nowMs);
      if (before) worker.best = 0;
    }
    this.users.set(user.name, user);
  }

  #workerOf(user: UserAccount, change: WorkerChange, nowMs: number): WorkerAccount {
    const there = user.workers.get(change.worker);
    if (there !== undefined) return there;
    // Of a user that was never on disk no worker is.
    const stored = user.storedMs === Infinity ? null : this.#store.loadWorker(change.worker);
    const worker = stored ?? new WorkerAccount(change.worker, Math.min(change.authorized_ms, nowMs));
    worker.rates.decayTo(nowMs);
    if (user.workers.size >= (this.#options.workersLimit ?? WORKERS_LIMIT)) {
      let oldest: WorkerAccount | undefined;
      for (const each of user.workers.values()) {
        if (this.#workerLines.has(each.name)) continue;
        if (oldest === undefined || each.lastShareMs < oldest.lastShareMs) oldest = each;
      }
      // A farm may have more that mine: those stay.
      if (oldest !== undefined) {
        this.#store.saveWorker(oldest);
        user.storedMs = nowMs;
        user.workers.delete(oldest.name);
      }
    }
    user.workers.set(worker.name, worker);
    return worker;
  }

  /** Who it is that mines under the name, and since when. */
  #present(change: WorkerChange): void {
    const user = this.users.get(change.user);
    const worker = user?.workers.get(change.worker);
    if (user === undefined || worker === undefined) return;
    if (user.authorizedS === 0) user.authorizedS = Math.floor(change.authorized_ms / 1_000);
    const connected = this.#workerLines.has(change.worker);
    if (!connected) worker.startedMs = 0;
    else if (change.started_ms > 0) worker.startedMs = change.started_ms;
    if (change.connections > 0) worker.agent = change.agent;
  }

  #evict(): void {
    const limit = (this.#options.idleUsersLimit ?? IDLE_USERS_LIMIT) + this.#userLines.size;
    if (this.users.size <= limit) return;
    for (const [name, user] of this.users) {
      if (this.users.size <= limit) return;
      if (this.#userLines.has(name)) continue;
      this.drop(user);
    }
  }

  /** Out to disk. */
  drop(user: UserAccount): void {
    this.#store.save(user);
    this.users.delete(user.name);
  }

  /** Lines authorized for a user now. */
  linesOf(user: string): number {
    return this.#userLines.get(user) ?? 0;
  }

  /** Brings the pool's averages to now; CKPool does it every 1.875 s. */
  tick(nowMs: number): void {
    this.#dsps.decayTo(nowMs);
    this.#sps.decayTo(nowMs);
    this.#agents.decayTo(nowMs);
  }

  /** A block was solved, or an operator asked: what counts since the last block begins anew. */
  resetShares(nowMs: number): void {
    this.#resetMs = nowMs;
    this.#accepted = 0;
    this.#rejected = 0;
    this.#acceptedCount = 0;
    this.#rejectedCount = 0;
    this.#best = 0;
    this.#agents.resetBest();
    for (const user of this.users.values()) {
      user.best = 0;
      user.changed = true;
      for (const worker of user.workers.values()) worker.best = 0;
    }
  }

  pool(): PoolValues {
    let idle = 0;
    let disconnected = 0;
    for (const process of this.#processes.values()) {
      idle += process.idle;
      disconnected += process.resumable;
    }
    return {
      startedMs: this.#startedMs,
      users: this.#userLines.size,
      workers: this.#lines,
      idle,
      disconnected,
      dsps: this.#dsps.values,
      sps: this.#sps.values,
      accepted: this.#accepted,
      rejected: this.#rejected,
      acceptedCount: this.#acceptedCount,
      rejectedCount: this.#rejectedCount,
      best: this.#best,
      networkDiff: this.networkDiff,
      agents: this.#agents.values(),
    };
  }
}

/** What a share of difficulty `sdiff` is to its user and worker, in CKPool's words; null: nothing new. */
function bestWords(user: Account, worker: Account, sdiff: number): string | null {
  for (const [account, name] of [
    [user, 'user'],
    [worker, 'worker'],
  ] as const) {
    if (sdiff > account.bestEver) return `New best ever share for ${name}: ${sdiff.toFixed(6)}`;
    if (sdiff > account.best) return `New best share for ${name}: ${sdiff.toFixed(6)}`;
  }
  return null;
}
