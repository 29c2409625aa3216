/**
 * The difficulties of one line: what vardiff, the miner and the configuration ask for, which value was told from which job on, and what a share
 * says of the miner's rate. It decides and remembers; session.ts, whose it is, tells the miner and sends it work.
 *
 *   limits (listener, agent, worker), wish, vardiff ─► wanted ─ the work's cap ─► `tellable` ─ session: set_difficulty ─► `tell` ─► steps ─► `requirement`
 *
 * All values are in the unit of the wire; difficulty.ts has the rule, vardiff.ts the algorithm. The clock is handed in.
 */
import {
  type DifficultyStep,
  type LowShares,
  type LowShareUsers,
  pruneSteps,
  type Requirement,
  requirementFor,
  tellable,
  wholeTellable,
} from './difficulty.ts';
import type { ListenerLimits } from './profiles.ts';
import {
  IDLE_MS,
  idleDifficulty,
  initialVardiff,
  type VardiffOutcome,
  type VardiffState,
  vardiffPooled,
  vardiffStep,
} from './vardiff.ts';

/** A wish may lower the difficulty at most this often, once shares have come. */
const WISH_PAUSE_MS = 60_000;
/** Each wish may cost a job and an event: so many in WISH_PAUSE_MS are heard. */
const WISHES_LIMIT = 10;

export class LineDifficulty {
  /** True: as CKPool, whole numbers and one value for a job. */
  readonly #ckpool: boolean;
  /** What vardiff or a wish asks for. */
  #wanted: number;
  /** Of its listener, its agent, its worker. */
  #limits: ListenerLimits;
  /** What counts as asked for by the miner, within the limits; null: nothing, or it is forgotten. */
  #wish: number | null;
  /** The last wish as it was said. */
  #wished: number | null = null;
  /** CKPool: what the configuration says of the worker counts as its suggestion where it has none. */
  #workerMinimum: number | null = null;
  /** BIP 310: the client takes nothing below it. */
  #minimum = 0;
  #wishMs = 0;
  #wishes = 0;
  #wishesSinceMs = 0;
  #steps: DifficultyStep[] = [];
  /** Of its user; null before it has authorized. */
  #lowShares: LowShares | null = null;
  #vardiff: VardiffState;
  #lastProgressMs: number;

  /** @param limits - of its listener */
  constructor(limits: ListenerLimits, ckpool: boolean, nowMs: number) {
    this.#ckpool = ckpool;
    this.#limits = limits;
    this.#wanted = limits.start;
    this.#wish = limits.wish;
    this.#vardiff = initialVardiff(nowMs);
    this.#lastProgressMs = nowMs;
  }

  /** The value in force; 0 before the subscription. */
  get inForce(): number {
    return this.#steps.at(-1)?.diff ?? 0;
  }

  get steps(): readonly DifficultyStep[] {
    return this.#steps;
  }

  get limits(): ListenerLimits {
    return this.#limits;
  }

  get vardiff(): VardiffState {
    return this.#vardiff;
  }

  // --- what was told -----------------------------------------------------------------------------------------------------------

  /** Begins at a value that an earlier line had, within the limits; 0: none. */
  startAt(diff: number): void {
    const { min, max } = this.#limits;
    if (diff > 0) this.#wanted = Math.min(Math.max(diff, min), max);
  }

  /** The miner may hold shares found at the values of an earlier line. @returns whether that matters */
  resume(steps: readonly DifficultyStep[]): boolean {
    this.#steps = this.#ckpool ? [] : [...steps];
    return this.#steps.length > 0;
  }

  /** Of the values so far only the one in force is remembered, as that of all jobs so far. */
  keepLast(): void {
    this.#steps = [{ from: 0, diff: this.inForce }];
  }

  want(diff: number): void {
    this.#wanted = diff;
  }

  /** What is wanted, as it may be told. @param cap - of the work */
  tellable(cap: number): number {
    if (!this.#ckpool) return tellable(this.#wanted, cap);
    return wholeTellable(this.#wanted, cap, this.#limits.min);
  }

  /**
   * The miner is told a value now.
   *
   * @param from - `Job.order` of the first job that it is for
   * @param oldestOrder - of the jobs that there are still
   */
  tell(diff: number, from: number, oldestOrder: number, byVardiff: boolean, nowMs: number): void {
    this.#steps = pruneSteps([...this.#steps, { from, diff }], oldestOrder);
    this.#lastProgressMs = nowMs;
    if (!byVardiff) this.#vardiff = { ...this.#vardiff, lastChangeMs: nowMs, sharesSinceChange: 0 };
  }

  /** What a share on a job must reach. @param order - `Job.order` */
  requirement(order: number): Requirement {
    const requirement = requirementFor(this.#steps, order);
    // CKPool knows one value for a job, whichever way it changed.
    const open = !this.#ckpool && this.#lowShares?.open === true;
    if (requirement.asked === requirement.least || open) return requirement;
    return { asked: requirement.asked, least: requirement.asked };
  }

  // --- what is asked for -------------------------------------------------------------------------------------------------------

  /**
   * What the miner asks for: the start, and a floor while a share a minute comes at it.
   *
   * @returns what it is to have; null where it asks too often
   */
  wish(wished: number, nowMs: number): number | null {
    const wish = this.#within(wished);
    if (!this.#mayAsk(nowMs)) return null;
    const shares = this.#vardiff.firstShareMs !== null;
    if (!this.#ckpool && wish < this.#wanted && shares && nowMs - this.#wishMs < WISH_PAUSE_MS) return null;
    this.#wishMs = nowMs;
    this.#wished = wished;
    this.#wish = wish;
    return wish;
  }

  /**
   * BIP 310's minimum-difficulty: `limit` keeps it from now on.
   *
   * @param cap - of the work
   * @returns false where it cannot be kept: it is above the limits or the work, or is asked for too often
   */
  takeMinimum(minimum: number, cap: number, nowMs: number): boolean {
    if (minimum > this.#limits.max || minimum > cap) return false;
    if (!this.#mayAsk(nowMs)) return false;
    this.#minimum = minimum;
    return true;
  }

  /** CKPool's form of what the configuration says of a worker. */
  setWorkerMinimum(minimum: number | null): void {
    if (this.#ckpool) this.#workerMinimum = minimum;
  }

  /**
   * Other limits.
   *
   * @param resumed - of a session that has a difficulty of its own
   * @returns what it is to have; null where nothing changes
   */
  limit(limits: ListenerLimits, resumed: boolean): number | null {
    const before = this.#limits;
    const min = Math.max(limits.min, Math.min(this.#minimum, limits.max));
    this.#limits = min === limits.min ? limits : { ...limits, min, start: Math.max(limits.start, min) };
    if (this.#limits === before) return null;
    this.#wish = this.#wished === null ? this.#limits.wish : this.#within(this.#wished);
    // Where it has a difficulty of its own already it keeps to that.
    const known = this.#vardiff.firstShareMs !== null || resumed;
    return known ? this.#within(this.#wanted) : (this.#wish ?? this.#limits.start);
  }

  /** True while few have asked for a difficulty on this line lately. */
  #mayAsk(nowMs: number): boolean {
    if (nowMs - this.#wishesSinceMs >= WISH_PAUSE_MS) {
      this.#wishesSinceMs = nowMs;
      this.#wishes = 0;
    }
    this.#wishes += 1;
    return this.#wishes <= WISHES_LIMIT;
  }

  #within(wished: number): number {
    const { min, max } = this.#limits;
    // CKPool's maxdiff does not touch what a miner asks for.
    return Math.min(Math.max(wished, min), this.#ckpool ? Infinity : max);
  }

  #forgetWish(): void {
    this.#wish = null;
    this.#wished = null;
  }

  // --- what shares say ---------------------------------------------------------------------------------------------------------

  /** Its user is known. */
  joinUser(users: LowShareUsers, user: string): void {
    // CKPool takes none: a share on a job from before a fall has to meet the old value.
    if (!this.#ckpool) this.#lowShares ??= users.join(user);
  }

  leaveUser(users: LowShareUsers): void {
    if (this.#lowShares !== null) users.leave(this.#lowShares);
    this.#lowShares = null;
  }

  /** A share was accepted; `measure` comes besides. */
  accepted(order: number, credited: number, nowMs: number): void {
    this.#lastProgressMs = nowMs;
    // The present value is the lowest that can be credited for a job sent with it.
    const low = this.#steps.length > 1 && credited < requirementFor(this.#steps, order).asked;
    this.#lowShares?.accepted(low);
  }

  /**
   * What a share says of the miner's rate.
   *
   * @param credited - the value that the share was credited with, or would have been
   * @param cap - of the present work
   * @returns what vardiff decides; null: nothing yet
   */
  measure(order: number, credited: number, cap: number, nowMs: number): VardiffOutcome | null {
    const judgedAtOld = order < (this.#steps.at(-1)?.from ?? 0);
    if (vardiffPooled(this.#vardiff, credited, judgedAtOld, nowMs, this.#ckpool)) return null;
    const { min, max } = this.#limits;
    const outcome = vardiffStep(
      this.#vardiff,
      { credited, inForce: this.inForce, judgedAtOld, nowMs },
      { min, max, cap, wish: this.#wish ?? this.#workerMinimum, whole: this.#ckpool },
    );
    this.#vardiff = outcome.state;
    if (outcome.forgetWish) this.#forgetWish();
    return outcome;
  }

  /** What a line is to have that has sent no share for long; null: what it has. */
  idle(nowMs: number): number | null {
    // CKPool lowers nobody who sends no share.
    if (this.#ckpool || nowMs - this.#lastProgressMs < IDLE_MS) return null;
    this.#lastProgressMs = nowMs;
    this.#forgetWish();
    return idleDifficulty(this.inForce, Math.min(this.#limits.min, this.inForce));
  }
}
