/**
 * What all connections of a daemon share: sessions, limits, the turn's facts, counters. pool.ts and proxy.ts hand it sources of work; server.ts
 * hands it connections.
 *
 * In this order: lines come and go · jobs · events and the end of the turn · numbers · the end. What has files of its own: the look after idle
 * lines (sweep.ts), lines whose source has ended (moves.ts), which lines deserve their place (room.ts), words for persons (words.ts), sessions
 * that can be resumed (resumption.ts).
 */
import type { ShareInput } from '../../schemas/events.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import type { DiskWatch } from '../core/disk-watch.ts';
import type { Log, LogLevel } from '../core/lifecycle.ts';
import type { JournalWriter } from '../core/log/event-log.ts';
import { type AllowanceOptions, Allowances } from './allowances.ts';
import { BackOff } from './back-off.ts';
import { Bans } from './bans.ts';
import { LowShareUsers } from './difficulty.ts';
import type { Connection } from './edge/line.ts';
import { Facts } from './facts.ts';
import { Intake, NOT_STORED } from './intake.ts';
import { Moves } from './moves.ts';
import { Limits } from './profiles.ts';
import { Resumption } from './resumption.ts';
import { Room } from './room.ts';
import { Session } from './session.ts';
import { openShareLog, type ShareLog, shareLogLine } from './sharelog.ts';
import { type Changes, Tally } from './stats/tally.ts';
import { Sweep } from './sweep.ts';
import { decay } from './vardiff.ts';
import { Words } from './words.ts';
import { Fanout } from './work/fanout.ts';
import { type Job, type JobContent, type JobIds, type JobRegistry, jobEvent } from './work/job.ts';
import type { WorkSource } from './work/source.ts';

/** Of `mining.get_txnhashes`. */
const LISTS_PER_S = 10;
const HASHRATE_INTERVAL_S = 60;

export interface Counters {
  accepted: number;
  refused: number;
  /** Of these: found good, and refused because the journal took none. */
  unstored: number;
  /** Submissions that could not be read; they are no events. */
  malformed: number;
  blocks: number;
  /** Opened since the start. */
  connections: number;
}

export interface DaemonOptions {
  readonly config: Config;
  readonly profile: ChainProfile;
  readonly writer: JournalWriter;
  readonly ids: JobIds;
  readonly log: Log;
  /** Name of this process in events; absent: the configuration's. */
  readonly instance?: string;
  /** Absent: this process counts for itself. */
  readonly bans?: Bans;
  /** Absent: nothing is known of the disk's room. */
  readonly disk?: Pick<DiskWatch, 'low' | 'lowProblem'>;
  /** Milliseconds since 1970; for tests. */
  readonly nowMs?: () => number;
  /** For tests. */
  readonly allowances?: AllowanceOptions;
}

export class Daemon {
  readonly config: Config;
  readonly profile: ChainProfile;
  readonly limits: Limits;
  readonly log: Log;
  readonly facts: Facts;
  readonly bans: Bans;
  readonly backOff: BackOff;
  /** Counters of the listeners. Set by who opens them. */
  serverValues: () => Readonly<Record<string, number>> = () => ({});
  /** What is wrong with the listeners. Set by who opens them. */
  serverProblems: () => readonly string[] = () => [];
  readonly instance: string;
  readonly sessions = new Set<Session>();
  /** Sessions whose line waits for a source of work. */
  readonly waiting = new Set<Session>();
  /** What this process counts for the statistics. */
  readonly tally = new Tally();
  readonly lowShares = new LowShareUsers();
  /** What ended sessions left. */
  readonly resumption: Resumption;
  /** What lines of one address may write and keep. */
  readonly allowances: Allowances;
  /** Lines whose source has ended. */
  readonly moves = new Moves(this);
  /** Which lines deserve their place. */
  readonly room = new Room(this);
  /** For the persons in front of miners. */
  readonly words = new Words(this.sessions);
  readonly counters: Counters = { accepted: 0, refused: 0, unstored: 0, malformed: 0, blocks: 0, connections: 0 };
  /** False: new connections are closed at once (the control command `reject`). */
  accepting = true;
  readonly nowMs: () => number;
  readonly ids: JobIds;
  /** Gives a new connection its source; null where no more fit. Set by main.ts, worker.ts or proxy.ts. */
  pickSource: () => WorkSource | null = () => null;
  /** True while miners are to be pinged each update interval. Set by main.ts or worker.ts. */
  pings: () => boolean = () => false;

  readonly #disk: DaemonOptions['disk'] | null;
  readonly #fanout: Fanout;
  readonly shareLog: ShareLog | null;
  /** Shares that wait for their verdict: whatever changes what a verdict depends on calls `judge` first. */
  readonly intake: Intake;
  #touched: Session[] = [];
  readonly #sweep: Sweep;
  #ready = false;
  readonly #saidOfListeners = new Set<string>();
  #diffPerSecond = 0;
  #diffAdded = 0;
  #diffUpdatedMs: number;
  #lists = 0;
  #listsSinceMs = -Infinity;

  constructor(options: DaemonOptions) {
    this.config = options.config;
    this.profile = options.profile;
    this.log = options.log;
    this.ids = options.ids;
    this.nowMs = options.nowMs ?? Date.now;
    this.limits = new Limits(options.config);
    this.allowances = new Allowances(this.nowMs, options.allowances);
    this.bans = options.bans ?? new Bans(this.nowMs);
    this.backOff = new BackOff(this.nowMs);
    this.instance = options.instance ?? options.config.name;
    this.shareLog = options.config.logShares ? openShareLog(options.config, options.log) : null;
    this.intake = new Intake(this);
    this.facts = new Facts(
      options.writer,
      this.shareLog,
      options.log,
      (ok) => this.#answer(ok),
      () => this.intake.judge(),
      () => this.#hold(),
    );
    this.#disk = options.disk ?? null;
    if (options.disk !== undefined) this.facts.noRoom = () => options.disk!.low;
    this.resumption = new Resumption({
      origin: options.config.origin,
      ids: options.ids,
      wireMultiplier: options.profile.stratum_difficulty_multiplier,
      log: options.log,
      nowMs: this.nowMs,
    });
    this.#fanout = new Fanout(this.sessions, this.facts);
    this.#diffUpdatedMs = this.nowMs();
    this.facts.onClockStep = (ms) => this.daemonEvent('clock_step', `${ms} ms`);
    this.daemonEvent('started', '');
    this.#sweep = new Sweep(this);
  }

  // --- lines come and go -----------------------------------------------------------------------------------------------------

  /** False while nothing can be answered: a proxy without upstream. */
  get ready(): boolean {
    return this.#ready;
  }

  set ready(ready: boolean) {
    this.intake.judge();
    this.#ready = ready;
    if (!ready) return;
    this.moves.land();
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const session of waiting) session.wake();
  }

  /** Whether lines of this level are written: asked before one is built for every share. */
  says(level: LogLevel): boolean {
    return (this.log.level ?? 5) >= level;
  }

  connect(connection: Connection): Session {
    const session = new Session(connection, this);
    this.counters.connections += 1;
    if (this.says(6)) {
      this.log(
        `Connected new client ${connection.id} to ${this.sessions.size} active clients from ${connection.address}`,
        6,
      );
    }
    if (this.accepting && !this.#sweep.sentAway) {
      this.sessions.add(session);
    } else {
      this.allowances.leave(session.allowance, 0);
      connection.close(this.accepting ? NOT_STORED : 'no connections are accepted now');
    }
    return session;
  }

  /** The connection is gone. */
  forget(session: Session, reason: string): void {
    if (!this.sessions.has(session)) return;
    this.intake.judge();
    this.sessions.delete(session);
    this.waiting.delete(session);
    this.moves.forget(session);
    const { source } = session;
    for (const { tally } of session.workers.values()) if (tally !== null) this.tally.leave(tally);
    session.leaveUser();
    if (source !== null) this.#leaveSource(session, source, reason);
    this.allowances.leave(session.allowance, Math.max(session.workers.size - 1, 0));
  }

  #leaveSource(session: Session, source: WorkSource, reason: string): void {
    session.tellRefusals();
    this.sessionEvent(session, 'disconnected', reason);
    const now = this.nowMs();
    const first = session.workers.values().next().value;
    if (first !== undefined && session.allowance.entry()) {
      const { id, address } = session.connection;
      this.log(`Dropped client ${id} ${address} user ${first.user} worker ${first.name} `, 5);
    }
    this.moves.left(source, session.legacy.lastOrder);
    // Of lines without a share few are kept, or strangers who come and go would take the places of who mines.
    const worked = session.hasShare || session.resumedUser !== null;
    const roomy = this.resumption.roomy && source.enonces.room(now) * 2 >= source.enonces.capacity;
    const keeps = worked || (first !== undefined && roomy);
    // Nobody's share was ever taken on it.
    if (!keeps) source.enonces.free(session.enonce1);
    else source.enonces.release(session.enonce1, now);
    if (first === undefined || !keeps) return;
    this.resumption.leave(session.sessionId, {
      source,
      enonce1: session.enonce1,
      user: first.user,
      sinceMs: now,
      ...session.legacy,
    });
  }

  /**
   * A session goes on at another process: it ends here, and cannot be resumed here any more.
   *
   * @param retiring - true: also where its line is open still
   * @returns false where its miner stays
   */
  release(sessionId: string, retiring: boolean): boolean {
    for (const session of this.sessions) {
      if (session.sessionId !== sessionId) continue;
      if (!retiring) return false;
      this.forget(session, 'resumed at another process');
      session.connection.close('resumed at another process');
      break;
    }
    this.resumption.letGo(sessionId);
    this.facts.flush();
    return true;
  }

  /** Looks after all lines at once, which is otherwise done every five seconds. */
  sweep(): void {
    this.#sweep.all();
  }

  /** The version bits of a source are others now: who negotiated them is told. */
  maskChanged(source: WorkSource): void {
    for (const session of this.sessions) if (session.source === source) session.tellMask();
  }

  // --- jobs ------------------------------------------------------------------------------------------------------------------

  /** Makes a job and records it; nobody is told yet. */
  makeJob(registry: JobRegistry, content: JobContent, made: Omit<Parameters<JobRegistry['add']>[1], 'nowMs'>): Job {
    this.intake.judge();
    const job = registry.add(content, { ...made, nowMs: this.nowMs() });
    // In solo mode nobody is sent it: users' own jobs are what is recorded.
    if (!this.config.solo) this.recordJob(job);
    if (job.clean) this.#openHeight(job.height);
    this.#compareWithListeners(job);
    return job;
  }

  recordJob(job: Job): void {
    const { origin } = this.config;
    this.facts.job(
      jobEvent(job, { origin, instance: this.instance, chain: this.profile.name, timeUs: this.facts.timeUs() }),
    );
  }

  /** Says once what the configuration promises and this work cannot keep. */
  #compareWithListeners(job: Job): void {
    for (const [what, line] of this.limits.unkept(job)) {
      if (!this.#saidOfListeners.has(what)) this.log(line);
      this.#saidOfListeners.add(what);
    }
  }

  #openHeight(height: number): void {
    try {
      this.shareLog?.openHeight(height);
    } catch (error) {
      this.log(`share log: ${(error as Error).message}`);
    }
  }

  /** Lists of all transaction ids are 260 kB each: so many a second go out, to all lines together. */
  mayListHashes(nowMs: number): boolean {
    if (nowMs - this.#listsSinceMs >= 1_000 || nowMs < this.#listsSinceMs) {
      this.#listsSinceMs = nowMs;
      this.#lists = 0;
    }
    this.#lists += 1;
    return this.#lists <= LISTS_PER_S;
  }

  /** Sends a new job to all authorized sessions of its source. */
  broadcast(source: WorkSource, job: Job): void {
    this.intake.judge();
    this.#fanout.send(source, job);
  }

  // --- events and the end of the turn ----------------------------------------------------------------------------------------

  /** Of no line. */
  daemonEvent(kind: string, reason: string): void {
    const { origin } = this.config;
    this.facts.session({ kind, origin, instance: this.instance, time_us: this.facts.timeUs(), reason });
  }

  sessionEvent(session: Session, kind: string, reason = ''): void {
    const worker = session.workers.values().next().value;
    session.toldMs = this.nowMs();
    if (!session.allowance.entry()) return;
    this.facts.session({
      kind,
      origin: this.config.origin,
      instance: this.instance,
      time_us: this.facts.timeUs(),
      client_id: session.connection.id,
      session_id: session.sessionId,
      address: session.connection.address,
      listener: session.connection.listener,
      agent: session.agent,
      user: worker?.user ?? '',
      worker: worker?.name ?? '',
      enonce1: session.enonce1Hex,
      diff: session.difficulty / this.profile.stratum_difficulty_multiplier,
      reason,
    });
  }

  /**
   * Records a share.
   *
   * @param logged - the job whose share log file takes it; null where there is none
   */
  share(event: ShareInput, logged: Job | null): void {
    this.facts.share(event);
    if (this.shareLog === null || logged === null) return;
    this.shareLog.add(logged.height, logged.baseId, shareLogLine(event, logged.baseId, this.lineExtras(event)));
  }

  /** What of ours follows CKPool's keys in a line of the share log. */
  lineExtras(event: ShareInput): { readonly versionBits: string; readonly instance: string } | null {
    return this.config.compat === 'ckpool' ? null : { versionBits: event.version_bits ?? '', instance: this.instance };
  }

  /** A session has something to send at the end of the turn; it says so once. */
  touch(session: Session): void {
    this.#touched.push(session);
    this.facts.schedule();
  }

  /** Ends the turn at once where lines have something to send. */
  tellTouched(): void {
    if (this.#touched.length > 0) this.facts.flush();
  }

  #answer(journaled: boolean): void {
    this.intake.settle(journaled);
    const touched = this.#touched;
    this.#touched = [];
    for (const session of touched) session.flush(journaled);
  }

  /** Puts the turn's answers aside; what it gives sends them. */
  #hold(): (journaled: boolean) => void {
    const settle = this.intake.hold();
    const touched = this.#touched.map((session) => session.hold());
    this.#touched = [];
    return (journaled) => {
      settle(journaled);
      for (const send of touched) send(journaled);
    };
  }

  // --- numbers ---------------------------------------------------------------------------------------------------------------

  /** A share is in the journal. @param diff - credited, chain's unit */
  credited(diff: number): void {
    this.#diffAdded += diff;
  }

  /** What was counted since the last call, for the statistics. */
  takeChanges(limit = Infinity): Changes {
    return this.tally.take({ idle: this.#sweep.idleLines, resumable: this.resumption.size }, limit);
  }

  /** Hashes per second of accepted shares, a mean that decays over a minute. */
  hashrateHps(): number {
    const now = this.nowMs();
    const seconds = (now - this.#diffUpdatedMs) / 1000;
    if (seconds >= 0.5) {
      this.#diffPerSecond = decay(this.#diffPerSecond, this.#diffAdded, seconds, HASHRATE_INTERVAL_S);
      this.#diffAdded = 0;
      this.#diffUpdatedMs = now;
    }
    return this.#diffPerSecond * Number(this.profile.hashes_per_difficulty);
  }

  /** What an operator has to mend: journal, share log, certificates. */
  get problems(): string[] {
    const low = this.#disk?.lowProblem ?? null;
    return [...this.facts.problems, ...(low === null ? [] : [low]), ...this.serverProblems()];
  }

  /** Counters and gauges of the status file. */
  values(current: Job | null): Record<string, number | string> {
    const names = new Set<string>();
    for (const session of this.sessions) for (const name of session.workers.keys()) names.add(name);
    return {
      mode: this.config.mode,
      chain: this.profile.name,
      connections: this.sessions.size,
      workers: names.size,
      shares_accepted_count: this.counters.accepted,
      shares_refused_count: this.counters.refused,
      shares_unstored_count: this.counters.unstored,
      submissions_malformed_count: this.counters.malformed,
      blocks_solved_count: this.counters.blocks,
      bans_active: this.bans.all.length,
      bans_count: this.bans.total,
      ...this.serverValues(),
      hashrate_1m_hps: this.hashrateHps(),
      ...(current === null
        ? {}
        : {
            job_age_s: (this.nowMs() - current.madeMs) / 1000,
            height: current.height,
            network_diff: current.networkDiff,
          }),
    };
  }

  /** Ends all sessions and writes what is left. */
  async close(): Promise<void> {
    await this.resumption.close();
    this.#sweep.close();
    for (const session of [...this.sessions]) this.forget(session, 'the daemon stopped');
    this.daemonEvent('stopped', '');
    await this.facts.close();
    this.shareLog?.close();
  }
}
