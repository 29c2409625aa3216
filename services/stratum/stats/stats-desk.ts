/**
 * Keeps the statistics going: takes what processes have counted, moves CKPool's averages every 1.875 s, and every 32nd time (the first
 * after a second) writes the status files and the minute's lines of the main log. One per instance, in the process that has no miners
 * where there are several.
 *
 *   tally.ts ──changes──► absorb → stats.ts ─► status-files.ts, main log
 *
 * Thousands of users are gone through in slices, so that nothing else waits for more than a few milliseconds.
 */
import { scriptFromAddress } from '../../core/bitcoin/address.ts';
import type { ChainProfile } from '../../core/chains/profile.ts';
import type { Config } from '../../core/config.ts';
import { errorLine } from '../../core/errors.ts';
import { type Log, logStamp } from '../../core/lifecycle.ts';
import { userOf } from '../methods/authorize.ts';
import { FORGOTTEN_MS, IDLE_USERS_LIMIT, type PoolValues, Stats, UserAccount, WorkerAccount } from './stats.ts';
import { StatusFiles } from './status-files.ts';
import { type Form, poolLines, solverLines, userLine, userText, workerText } from './status-text.ts';
import { suffixPadded } from './suffix.ts';
import type { Changes } from './tally.ts';

/** CKPool's. */
const TICK_MS = 1_875;
const TICKS_A_MINUTE = 32;
const FIRST_MINUTE_MS = 1_000;
const FOLLOW_MS = 1_000;
const ACTIVE_MS = 60_000;
/** Users are gone through for so long, then the loop goes round. */
const SLICE_MS = 2;
const PAUSE_MS = 8;
/** The end of the program waits so long for files of users. */
const CLOSE_MS = 8_000;
/** An idle user's averages are written again after this part of the time that it has been idle: they change by 2 % at most meanwhile. */
const IDLE_PART = 60;

export interface SolvedFact {
  readonly height: number;
  readonly user?: string;
  readonly worker?: string;
}

export interface StatsDeskOptions {
  readonly config: Pick<Config, 'logDir' | 'compat' | 'name' | 'mode'>;
  readonly profile: ChainProfile;
  readonly log: Log;
  /** Lines of the minute after the pool's, a proxy's. */
  readonly moreLines?: () => readonly (readonly [line: string, level: 5 | 6])[];
  readonly nowMs?: () => number;
}

export class StatsDesk {
  readonly stats: Stats;
  readonly files: StatusFiles;
  /** Words for miners that show such; of one worker, or null: of all. Set by who has the miners. */
  show: (words: string, worker: string | null) => void = () => {};
  readonly #options: StatsDeskOptions;
  readonly #nowMs: () => number;
  readonly #form: Form;
  #ticker: NodeJS.Timeout | undefined;
  #first: NodeJS.Timeout | undefined;
  #follower: NodeJS.Timeout | undefined;
  #take: (() => void) | null = null;
  #minute: Promise<void> | null = null;
  #closed = false;

  /** Reads what the last run, or CKPool, left in the log directory. Never throws for what is there. */
  constructor(options: StatsDeskOptions) {
    const { config, profile, log } = options;
    this.#options = options;
    this.#nowMs = options.nowMs ?? Date.now;
    this.#form = {
      ckpool: config.compat === 'ckpool',
      hashesPerDifficulty: Number(profile.hashes_per_difficulty),
    };
    this.files = new StatusFiles({
      logDir: config.logDir,
      form: this.#form,
      instance: config.name,
      log,
      nowMs: this.#nowMs,
    });
    this.files.open();
    this.stats = new Stats({
      store: this.files,
      nowMs: this.#nowMs(),
      stored: this.files.readPool(),
      onBest: (worker, words, sdiff) => {
        this.show(words, worker);
        log(`User ${userOf(worker)} worker ${worker} new best diff ${sdiff.toFixed(6)}`, 6);
      },
      onNewUser: (user) =>
        log(`Added new user ${user}${this.#isAddress(user) ? ' as address based registration' : ''}`, 5),
    });
  }

  #isAddress(user: string): boolean {
    if (this.#options.config.mode === 'proxy') return false;
    try {
      scriptFromAddress(user, this.#options.profile.address);
      return true;
    } catch {
      return false;
    }
  }

  /** Starts the clock, and reads the users of the last run. */
  start(): void {
    const startMs = performance.now();
    const schedule = (tick: number): void => {
      this.#ticker = setTimeout(
        () => {
          this.stats.tick(this.#nowMs());
          if (tick % TICKS_A_MINUTE === 0) this.#startMinute();
          schedule(tick + 1);
        },
        Math.max(startMs + tick * TICK_MS - performance.now(), 0),
      ).unref();
    };
    schedule(1);
    this.#first = setTimeout(() => this.#startMinute(), FIRST_MINUTE_MS).unref();
    this.load().catch((error: unknown) => this.#options.log(`statistics: ${errorLine(error)}`, 4));
  }

  #startMinute(): void {
    // One that is not through yet goes on: the disk is slow, or there are very many users.
    if (this.#minute !== null || this.#closed) return;
    this.#minute = this.minute()
      .catch((error: unknown) => this.#options.log(`statistics: ${errorLine(error)}`, 4))
      .finally(() => {
        this.#minute = null;
      });
  }

  /** Users that are on disk come into memory, as long as CKPool would show them; the others when they have a share. */
  async load(): Promise<void> {
    const written: (readonly [file: string, writtenMs: number])[] = [];
    await this.#inSlices(await this.files.userFiles(), (file) => written.push([file, this.files.writtenMs(file)]));
    written.sort((a, b) => b[1] - a[1]);
    const files = written.slice(0, IDLE_USERS_LIMIT).map(([file]) => file);
    const now = this.#nowMs();
    let users = 0;
    let workers = 0;
    await this.#inSlices(files, (file) => {
      const user = this.files.loadFile(file);
      if (user === null || now - user.lastShareMs > FORGOTTEN_MS) return;
      this.stats.adopt(user, this.#nowMs());
      users += 1;
      workers += user.workers.size;
    });
    this.files.endLoading();
    if (users > 0) this.#options.log(`Loaded ${users} users and ${workers} workers`, 5);
  }

  async #inSlices<T>(items: Iterable<T>, each: (item: T) => void): Promise<void> {
    let until = performance.now() + SLICE_MS;
    for (const item of items) {
      if (this.#closed) return;
      each(item);
      if (performance.now() < until) continue;
      await new Promise<void>((resolve) => void setTimeout(resolve, PAUSE_MS));
      until = performance.now() + SLICE_MS;
    }
  }

  /** @param from - names the process that counted */
  absorb(changes: Changes, from = ''): void {
    this.stats.absorb(changes, this.#nowMs(), from);
  }

  /** Takes once a second, and at the end, what this process counts. */
  follow(take: () => Changes): void {
    this.#take = () => this.absorb(take());
    this.#follower = setInterval(() => this.#take?.(), FOLLOW_MS).unref();
  }

  forgetProcess(from: string): void {
    this.stats.forgetProcess(from);
  }

  /** The network's difficulty, of the newest job. */
  setNetworkDiff(diff: number): void {
    if (diff === this.stats.networkDiff) return;
    this.stats.networkDiff = diff;
    // CKPool prints one decimal; below that there is more to say.
    this.#options.log(`Network diff set to ${diff >= 0.05 ? diff.toFixed(1) : String(diff)}`, 5);
  }

  /** A node has taken a block: CKPool's lines, and what counts since the last block begins anew. */
  solved({ height, user = '', worker = '' }: SolvedFact): void {
    this.#take?.();
    const now = this.#nowMs();
    const { log, config } = this.#options;
    // Everybody reads it: a worker's name may be an e-mail address.
    this.show(`Block ${height} solved by ${worker.includes('@') ? user : worker} @ ${config.name}!`, null);
    const account = this.stats.user(user, now) ?? new UserAccount(user, now);
    const lines = solverLines(account, account.workers.get(worker) ?? new WorkerAccount(worker, now), this.#form);
    const { accepted, networkDiff } = this.stats.pool();
    const percent = networkDiff > 0 ? (accepted / networkDiff) * 100 : 0;
    log(`Solved and confirmed block ${height} by ${worker}`, 4);
    for (const line of lines) log(line, 4);
    log(`Block solved after ${accepted.toFixed(0)} shares at ${percent.toFixed(1)}% diff`, 4);
    this.stats.resetShares(now);
  }

  resetShares(): void {
    this.#take?.();
    this.stats.resetShares(this.#nowMs());
  }

  /** What the files say, for the control sockets; empty where there is no such user or worker. */
  userStats(name: string): Readonly<Record<string, unknown>> {
    const now = this.#nowMs();
    const user = this.stats.user(name, now);
    return user === null ? {} : JSON.parse(userText(user, this.stats.linesOf(name), now, this.#form));
  }

  workerStats(name: string): Readonly<Record<string, unknown>> {
    const worker = this.stats.user(userOf(name), this.#nowMs())?.workers.get(name);
    return worker === undefined ? {} : JSON.parse(workerText(worker, this.#form));
  }

  poolStats(): Readonly<Record<string, unknown>> {
    return Object.assign({}, ...this.#poolLines().map((line) => JSON.parse(line)));
  }

  /** What CKPool does once a minute. */
  async minute(): Promise<void> {
    const { log } = this.#options;
    // Whoever watches pool.status does not wait for thousands of users; in the log their lines come first, as CKPool's.
    const lines = this.#poolLines();
    this.files.writePool(lines);
    await this.#inSlices(this.#tending([...this.stats.users.values()]), () => {});
    if (this.#closed) return;
    for (const line of lines) log(`Pool:${line}`, 5);
    for (const [line, level] of this.#options.moreLines?.() ?? []) log(line, level);
  }

  /** Users' files and lines, a file at each step. */
  *#tending(users: readonly UserAccount[]): Generator<void> {
    for (const user of users) {
      yield* this.#tend(user);
      yield;
    }
  }

  *#tend(user: UserAccount): Generator<void> {
    const now = this.#nowMs();
    const idleMs = now - user.lastShareMs;
    if (!user.changed && now < user.dueMs) return;
    user.rates.decayTo(now);
    for (const worker of user.workers.values()) worker.rates.decayTo(now);
    const lines = this.stats.linesOf(user.name);
    const { log } = this.#options;
    if (idleMs < ACTIVE_MS && (log.level ?? 5) >= 5) log(userLine(user, lines, this.#form), 5);
    yield* this.files.saving(user, lines);
    user.dueMs = now + Math.max(idleMs / IDLE_PART, ACTIVE_MS - TICK_MS);
    if (idleMs > FORGOTTEN_MS && !user.changed && this.stats.linesOf(user.name) === 0) this.stats.drop(user);
  }

  #poolLines(): [string, string, string] {
    const now = this.#nowMs();
    this.stats.tick(now);
    return poolLines(this.stats.pool(), now, this.#form);
  }

  /** The line that CKPool keeps on a terminal. @param spinner - one character that shows that it lives */
  statusLine(spinner: string): string {
    const pool: PoolValues = this.stats.pool();
    const percent = pool.networkDiff > 0 ? (pool.accepted / pool.networkDiff) * 100 : 0;
    const rate = suffixPadded(pool.dsps[0]! * this.#form.hashesPerDifficulty);
    return (
      `${logStamp(new Date(this.#nowMs()))} ${spinner} ${rate}H/s  ${pool.sps[0]!.toFixed(1)} SPS  ${pool.users} users  ` +
      `${pool.workers} workers  ${pool.accepted.toFixed(0)} shares  ${percent.toFixed(1)}% diff`
    );
  }

  /** Writes everything once more: nothing of the last minute is lost to a restart. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#ticker);
    clearTimeout(this.#first);
    clearInterval(this.#follower);
    this.#take?.();
    this.files.writePool(this.#poolLines());
    const now = this.#nowMs();
    const until = performance.now() + CLOSE_MS;
    for (const user of this.stats.users.values()) {
      if (!user.changed) continue;
      if (performance.now() > until) {
        this.#options.log('statistics: the disk is slow, some users are on it as of the last minute');
        break;
      }
      user.rates.decayTo(now);
      for (const worker of user.workers.values()) worker.rates.decayTo(now);
      this.files.save(user, this.stats.linesOf(user.name));
    }
  }
}
