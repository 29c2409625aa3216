/**
 * One connection: what it subscribed to and authorized, which jobs it was sent, and the answers that wait for the end of the turn. methods/
 * changes it, daemon.ts sends it jobs and looks after idle ones. What its difficulties are is decided in line-difficulty.ts, what is done about
 * refused shares in refusals.ts; here it is sent.
 */
import { hexFromBytes } from '../core/bitcoin/bytes.ts';
import type { Allowance } from './allowances.ts';
import type { Daemon } from './daemon.ts';
import { type DifficultyStep, type Requirement, SWITCH_OVER_JOBS } from './difficulty.ts';
import type { Connection, LineHandler } from './edge/line.ts';
import { NOT_STORED, type ShareForm } from './intake.ts';
import { LineDifficulty } from './line-difficulty.ts';
import { maskHex } from './methods/configure.ts';
import { malformedText } from './methods/errors.ts';
import { dispatch } from './methods/index.ts';
import { showMessage } from './methods/show-message.ts';
import { submitBytes } from './methods/submit.ts';
import { type ListenerLimits, ruledLimits } from './profiles.ts';
import { Refusals } from './refusals.ts';
import { vardiffLine } from './share-lines.ts';
import type { WorkerTally } from './stats/tally.ts';
import { type ReplyOrder, type Request, replyText, setDifficultyText, type WireId } from './wire.ts';
import type { Job } from './work/job.ts';
import type { WorkSource } from './work/source.ts';

export interface Worker {
  /** Name up to the first `.` or `_`. */
  readonly user: string;
  /** As authorized. */
  readonly name: string;
  /** Where its shares are counted for the statistics; null: a further name of its line, before its first share. */
  tally: WorkerTally | null;
  /** Of its last accepted share, for the next. */
  form?: ShareForm;
  /** Its name as a miner writes it in JSON, where that needs no escapes; for the scanner. */
  plainName?: Uint8Array | null;
}

/** A rise is told with new work where the present job is older than this. */
const OLD_JOB_MS = 10_000;
/** Who has not authorized by then is not a miner. */
const UNAUTHORIZED_MS = 60_000;
/** A session is told of at least this often: within what a restarted process reads of the journal (ten minutes). */
const ALIVE_MS = 8 * 60_000;
/** A number is the id of an accepted share, which is answered by whether it was journaled. */
export type Answer = string | number | ((journaled: boolean) => string);

function acceptedText(id: number): string {
  return `{"result":true,"error":null,"id":${id}}\n`;
}

export class Session implements LineHandler {
  readonly connection: Connection;
  readonly daemon: Daemon;
  readonly startedMs: number;
  /** What all lines of its address may write. */
  readonly allowance: Allowance;

  source: WorkSource | null = null;
  agent = '';
  sessionId = '';
  enonce1: Uint8Array = new Uint8Array(0);
  enonce1Hex = '';
  /** Authorized names; the first is the line's own. */
  readonly workers = new Map<string, Worker>();
  /** Whose share came last. */
  lastWorker: Worker | null = null;
  /** Version bits that the client may roll, before the source's mask; all until it says otherwise (BIP 310). */
  versionMask = 0xffff_ffff;
  /** When an event last told of it, milliseconds. */
  toldMs = 0;
  /** The mask that the client was told; null where it never asked. */
  toldMask: number | null = null;
  /** The client takes another extranonce1 on the living line. */
  takesExtranonce = false;
  /** An authorize failed; CKPool hears no second one. */
  authorizeFailed = false;
  /** Of the last mining.get_txnhashes. */
  hashesAskedMs = -Infinity;
  /** User of a resumed session: nobody else may authorize on it. */
  resumedUser: string | null = null;
  /** Shares that came on a resumed line before its authorize: they are judged after it. */
  early: Request[] | null = null;

  readonly #difficulty: LineDifficulty;
  readonly #refusals = new Refusals();
  #lastOrder = -1;
  /** The highest `Job.order` that it was sent or a share of it named: a new difficulty applies from the next. */
  #highestOrder = -1;
  #lastGeneration = -1;
  #cleanNext = false;
  /** Of the last accepted share; before the first when the line began. */
  lastShareMs: number;
  /** A share of it was accepted. */
  hasShare = false;
  #answers: Answer[] = [];
  /** All that is queued is ASCII. */
  #plain = true;
  /** Turns whose answers wait for a sync. */
  #heldTurns = 0;
  #held: string | null = null;

  constructor(connection: Connection, daemon: Daemon) {
    this.connection = connection;
    this.daemon = daemon;
    this.allowance = daemon.allowances.join(connection.address);
    this.startedMs = daemon.nowMs();
    this.lastShareMs = this.startedMs;
    this.#difficulty = new LineDifficulty(daemon.limits.of(connection.listenerIndex), this.#ckpool, this.startedMs);
  }

  get subscribed(): boolean {
    return this.source !== null;
  }

  get authorized(): boolean {
    return this.workers.size > 0;
  }

  /** The difficulty in force; 0 before the subscription. */
  get difficulty(): number {
    return this.#difficulty.inForce;
  }

  // --- lines -----------------------------------------------------------------------------------------------------------------

  take(bytes: Buffer, from: number, end: number): number {
    return this.daemon.ready && this.#held === null ? submitBytes(this, bytes, from, end) : -1;
  }

  line(text: string): void {
    // It may change what a share is judged by; shares before it are judged by what was.
    this.daemon.intake.judge();
    if (!this.daemon.ready) {
      // An upstream is being connected: what may be answered depends on it.
      this.#held = text;
      this.connection.pause();
      this.daemon.waiting.add(this);
      return;
    }
    dispatch(this, text);
  }

  /** Goes on where `line` stopped. */
  wake(): void {
    const text = this.#held;
    this.#held = null;
    if (text !== null) dispatch(this, text);
    this.connection.resume();
  }

  /** Reads no further line before this has ended; it must not fail. */
  waitFor(answer: Promise<void>): void {
    this.connection.pause();
    void answer.finally(() => this.connection.resume());
  }

  closed(reason: string): void {
    this.daemon.forget(this, reason);
  }

  /** Queues an answer or notification for the end of the turn. */
  send(answer: Exclude<Answer, number>): void {
    this.#plain = false;
    this.#queue(answer);
  }

  /** Queues the answer to an accepted share. @param id - a whole number */
  sendAccepted(id: number): void {
    this.#queue(id);
  }

  #queue(answer: Answer): void {
    if (this.#answers.length === 0) this.daemon.touch(this);
    this.#answers.push(answer);
  }

  /** @param id - undefined under `compat: ckpool` alone: no id in the reply where there was none in the request */
  reply(order: ReplyOrder, id: WireId | undefined, result: string, error = 'null'): void {
    this.send(replyText(order, id, result, error));
  }

  /** Ends the line after what is queued. */
  end(reason: string): void {
    this.send(() => {
      this.connection.close(reason);
      return '';
    });
  }

  /** Sends what is queued. @param journaled - whether the turn's events are in the journal */
  flush(journaled: boolean): void {
    if (this.#answers.length === 0) return;
    const answers = this.#answers;
    const plain = this.#plain;
    this.#answers = [];
    this.#plain = true;
    this.#deliver(answers, plain, journaled);
  }

  /** Puts what is queued aside until a sync covers its turn; what it gives sends it. Nothing else is written to the line before. */
  hold(): (journaled: boolean) => void {
    const answers = this.#answers;
    const plain = this.#plain;
    this.#answers = [];
    this.#plain = true;
    this.#heldTurns += 1;
    return (journaled) => {
      this.#heldTurns -= 1;
      this.#deliver(answers, plain, journaled);
    };
  }

  #deliver(answers: readonly Answer[], plain: boolean, journaled: boolean): void {
    let text = '';
    for (const answer of answers) {
      if (typeof answer === 'string') text += answer;
      else if (typeof answer === 'number') text += journaled ? acceptedText(answer) : this.#notStored(answer);
      else {
        // What a closing answer does must come after the text before it.
        if (text !== '') this.connection.write(text, plain);
        text = answer(journaled);
      }
    }
    if (text !== '') this.connection.write(text, plain);
  }

  #notStored(id: number): string {
    return malformedText(this.daemon.config.compat, id, NOT_STORED);
  }

  /** Where the shares of a worker of this line are counted. A name that only was authorized costs nothing but itself. */
  tallyOf(worker: Worker): WorkerTally {
    if (worker.tally !== null) return worker.tally;
    const { tally, sessions } = this.daemon;
    worker.tally = tally.join(worker.user, worker.name, this.agent, this.daemon.nowMs());
    // Its last shares are journaled when the line has ended.
    if (!sessions.has(this)) tally.leave(worker.tally);
    return worker.tally;
  }

  // --- work ------------------------------------------------------------------------------------------------------------------

  /** False where a source leaves fewer bytes of extranonce2 than the listener promises. */
  fits(source: WorkSource): boolean {
    return source.nonce2Bytes >= this.#difficulty.limits.nonce2Bytes;
  }

  subscribe(source: WorkSource, enonce1: Uint8Array): void {
    this.daemon.intake.judge();
    this.source = source;
    this.enonce1 = enonce1;
    this.enonce1Hex = hexFromBytes(enonce1);
  }

  /** Begins at a difficulty that an earlier line had, within the limits; 0: none. */
  startAt(diff: number): void {
    this.#difficulty.startAt(diff);
  }

  /**
   * The first difficulty, and the current job where there is one: another of the same template where this extranonce1 has been sent that
   * already, for a miner that counts extranonce2 from 0 again would find the same shares.
   *
   * @param lastOrder - `Job.order` of the last job that an earlier line was sent with this extranonce1; -1: none
   * @param steps - the difficulties of that line: its miner may still hold shares found at them
   */
  begin(lastOrder: number, steps: readonly DifficultyStep[] = []): void {
    const job = this.source!.jobs.current;
    const from = this.#difficulty.resume(steps) ? lastOrder + 1 : 0;
    this.#tell(this.#tellable(job), from, 'subscribed');
    this.#lastOrder = lastOrder;
    this.#highestOrder = lastOrder;
    if (job !== null) this.sendFreshJob();
  }

  /**
   * Goes on with another source: the client is told its new extranonce1, then new work. Only for who takes that.
   *
   * @param lastOrder - as for `begin`
   */
  move(source: WorkSource, enonce1: Uint8Array, lastOrder: number): void {
    this.subscribe(source, enonce1);
    this.resumedUser = null;
    this.send(`{"params":["${this.enonce1Hex}",${source.nonce2Bytes}],"id":null,"method":"mining.set_extranonce"}\n`);
    this.tellMask();
    // Jobs of the other source are known by their own orders, and no share of the first one comes any more.
    this.#difficulty.keepLast();
    this.#lastOrder = lastOrder;
    this.#highestOrder = lastOrder;
    this.#lastGeneration = -1;
    this.sendFreshJob();
  }

  /** Tells the version bits that may be rolled, where they are others than the client was told (BIP 310). */
  tellMask(): void {
    if (this.source === null || this.toldMask === null) return;
    const mask = (this.source.versionMask & this.versionMask) >>> 0;
    if (mask === this.toldMask) return;
    this.toldMask = mask;
    this.send(`{"params":["${maskHex(mask)}"],"id":null,"method":"mining.set_version_mask"}\n`);
  }

  /** Asks the client to connect again, there where a place is named; the line stays open. @param port - CKPool writes it as a text */
  reconnect(place?: { readonly host: string; readonly port: number }): void {
    const params = place === undefined ? '' : `${JSON.stringify(place.host)},"${place.port}",0`;
    this.send(`{"id":null,"method":"client.reconnect","params":[${params}]}\n`);
  }

  /** What an earlier line leaves to the next with its extranonce1. */
  get legacy(): { readonly lastOrder: number; readonly diff: number; readonly steps: readonly DifficultyStep[] } {
    return { lastOrder: this.#highestOrder, diff: this.difficulty, steps: this.#difficulty.steps };
  }

  /** `Job.order` of the last job sent; -1: none. */
  get lastOrder(): number {
    return this.#lastOrder;
  }

  /** True where the newest job was not sent yet. */
  get behind(): boolean {
    return (this.source?.jobs.current?.order ?? -1) > this.#lastOrder;
  }

  /** A job as this line has it; in solo mode only once its user is known. */
  jobFor(job: Job): Job {
    const { source } = this;
    return source!.solo ? source!.jobFor(this.workers.values().next().value!.user, job) : job;
  }

  /** True where nothing can be sent before the line has authorized. */
  get #waitsForUser(): boolean {
    return this.source!.solo && !this.authorized;
  }

  sendJob(job: Job, clean = false): void {
    if (this.#waitsForUser) return;
    this.send(this.jobFor(job).notify[this.#takeJob(job, clean)]);
  }

  /** As sendJob, of a job that many get: the line goes out at once where nothing else of this session waits. @param bytes - of `job.notify` */
  sendJobNow(job: Job, bytes: readonly [plain: Buffer, clean: Buffer]): void {
    if (this.#waitsForUser) return;
    const theirs = this.jobFor(job);
    const clean = this.#takeJob(job, false);
    // A job of its own may have been made just now, and is not in the journal yet.
    if (this.#answers.length > 0 || this.#heldTurns > 0 || theirs !== job) this.send(theirs.notify[clean]);
    else this.connection.write(bytes[clean]);
  }

  /** The job is the session's from now on. @returns 1 where its notify says clean, else 0 */
  #takeJob(job: Job, clean: boolean): 0 | 1 {
    const diff = this.#tellable(job);
    if (diff !== this.difficulty) {
      this.#tell(diff, job.order, 'network difficulty');
      this.#cleanNext = true;
    }
    const isClean = clean || this.#cleanNext || job.generation !== this.#lastGeneration;
    this.#lastOrder = job.order;
    if (job.order > this.#highestOrder) this.#highestOrder = job.order;
    this.#lastGeneration = job.generation;
    this.#cleanNext = false;
    return isClean ? 1 : 0;
  }

  /** New work of the present template, for this connection alone. */
  sendFreshJob(): void {
    const { source } = this;
    if (source === null || this.#waitsForUser) return;
    const { current } = source.jobs;
    const highest = this.#highestOrder;
    const isNew = this.behind && current!.order > highest;
    const job = isNew ? current : (source.jobs.variantAfter(highest) ?? source.variant());
    if (job !== null) this.sendJob(job, true);
  }

  // --- difficulty ------------------------------------------------------------------------------------------------------------

  requirement(job: Job): Requirement {
    return this.#difficulty.requirement(job.order);
  }

  /**
   * What the miner asks for: the start, and a floor while a share a minute comes at it.
   *
   * @returns false where it asks too often
   */
  wishDifficulty(wished: number): boolean {
    const wish = this.#difficulty.wish(wished, this.daemon.nowMs());
    if (wish === null) return false;
    this.changeDifficulty(wish, 'wish');
    return true;
  }

  /**
   * BIP 310's minimum-difficulty: the client will send nothing that is lower, so it is given nothing lower.
   *
   * @returns false where that cannot be kept: it is above the limits or the work that there is, or is asked for too often
   */
  minimumDifficulty(minimum: number): boolean {
    const job = (this.source ?? this.daemon.pickSource())?.jobs.current;
    if (!this.#difficulty.takeMinimum(minimum, job?.cap ?? Infinity, this.daemon.nowMs())) return false;
    this.#limitTo(this.#difficulty.limits, 'minimum');
    return true;
  }

  /** What the configuration says of its agent. */
  limitByAgent(): void {
    this.#limitTo(this.daemon.limits.forAgent(this.connection.listenerIndex, this.agent), 'agent');
  }

  /** What the configuration says of its worker. */
  limitByMiner(worker: string, user: string): void {
    const rule = this.daemon.limits.forMiner(worker, user);
    if (rule === undefined) return;
    this.#difficulty.setWorkerMinimum(rule.minDiff ?? null);
    this.#limitTo(ruledLimits(this.#difficulty.limits, rule), 'miner');
  }

  #limitTo(limits: ListenerLimits, reason: string): void {
    const wanted = this.#difficulty.limit(limits, this.resumedUser !== null);
    if (wanted !== null) this.changeDifficulty(wanted, reason);
  }

  get #ckpool(): boolean {
    return this.daemon.config.compat === 'ckpool';
  }

  #tellable(job: Job | null): number {
    return this.#difficulty.tellable(job?.cap ?? Infinity);
  }

  /** @param atOnce - true: with new work, however young the present job is */
  changeDifficulty(wanted: number, reason: string, atOnce = false): void {
    this.#difficulty.want(wanted);
    if (!this.subscribed) return;
    const job = this.source!.jobs.current;
    const before = this.difficulty;
    const diff = this.#tellable(job);
    if (diff === before) return;
    if (this.#ckpool) {
      // Only the value before is remembered, and it judges the present job and the next one; no new work comes with a change.
      this.#difficulty.keepLast();
      this.#tell(diff, (job?.order ?? 0) + SWITCH_OVER_JOBS, reason);
      return;
    }
    this.#tell(diff, this.#highestOrder + 1, reason);
    if (job === null || this.#lastOrder < 0) return;
    const old = this.daemon.nowMs() - job.madeMs > OLD_JOB_MS;
    if (diff < before || old || atOnce) this.sendFreshJob();
    else this.#cleanNext = true;
  }

  #tell(diff: number, from: number, reason: string): void {
    const { oldestOrder } = this.source!.jobs;
    this.#difficulty.tell(diff, from, oldestOrder, reason === 'vardiff', this.daemon.nowMs());
    this.send(setDifficultyText(diff));
    if (reason !== 'subscribed') this.daemon.sessionEvent(this, 'difficulty', reason);
  }

  /** Its user is known. */
  joinUser(user: string): void {
    this.#difficulty.joinUser(this.daemon.lowShares, user);
  }

  leaveUser(): void {
    this.#difficulty.leaveUser(this.daemon.lowShares);
  }

  // --- what shares do to it --------------------------------------------------------------------------------------------------

  /**
   * @param credited - the value that the share was credited with
   */
  accepted(job: Job, credited: number, now: number): void {
    this.lastShareMs = now;
    this.hasShare = true;
    this.allowance.earn();
    this.#refusals.end();
    if (job.order > this.#highestOrder) this.#highestOrder = job.order;
    this.#difficulty.accepted(job.order, credited, now);
    this.measure(job, credited, now);
  }

  /**
   * What a share says of the miner's rate. Also one that is stale here and went upstream all the same (CKProxy): it is work, and no refusal
   * in a run of them.
   *
   * @param credited - the value that the share was credited with, or would have been
   */
  measure(job: Job, credited: number, now: number): void {
    const difficulty = this.#difficulty;
    const cap = this.source?.jobs.current?.cap ?? Infinity;
    const outcome = difficulty.measure(job.order, credited, cap, now);
    if (outcome === null || outcome.wanted === null) return;
    if (this.daemon.says(6)) {
      this.daemon.log(vardiffLine(this.connection.id, difficulty.vardiff, difficulty.inForce, outcome.wanted, now), 6);
    }
    this.changeDifficulty(outcome.wanted, 'vardiff', outcome.flood);
  }

  refused(now = this.daemon.nowMs()): void {
    switch (this.#refusals.refused(now, this.#ckpool)) {
      case 'new work':
        if (this.#ckpool) this.send(setDifficultyText(this.difficulty));
        this.sendFreshJob();
        break;
      case 'reconnect':
        showMessage(this, 'Reconnecting for continuous invalid shares');
        this.reconnect();
        break;
      case 'close':
        if (this.#ckpool) {
          showMessage(this, 'Disconnecting for continuous invalid shares');
          this.end('nothing but refused shares for three minutes');
        } else {
          this.daemon.room.closedForRefusals(this);
          this.end('nothing but refused shares for two minutes');
        }
        break;
    }
  }

  /** True where this refusal becomes an event of its own; the others are counted and told by `sweep`. */
  refusalIsEvent(nowMs = this.daemon.nowMs()): boolean {
    this.#tellUntold(this.#refusals.beginSecond(nowMs));
    return this.#refusals.count() && this.allowance.entry();
  }

  tellRefusals(): void {
    this.#tellUntold(this.#refusals.takeUntold());
  }

  #tellUntold(more: number): void {
    if (more > 0) this.daemon.sessionEvent(this, 'refused', `${more} more refused shares within a second`);
  }

  /** Called every few seconds. */
  sweep(): void {
    const now = this.daemon.nowMs();
    this.tellRefusals();
    if (!this.authorized) {
      if (now - this.startedMs >= UNAUTHORIZED_MS && this.daemon.ready) this.end('not authorized within a minute');
      return;
    }
    if (now - this.toldMs >= ALIVE_MS) this.daemon.sessionEvent(this, 'alive');
    // A rise that was told on a young job has waited for the next one long enough.
    const job = this.source?.jobs.current ?? null;
    if (this.#cleanNext && job !== null && now - job.madeMs > OLD_JOB_MS) this.sendFreshJob();
    if (job === null) return;
    const lower = this.#difficulty.idle(now);
    if (lower !== null) this.changeDifficulty(lower, 'idle');
  }
}
