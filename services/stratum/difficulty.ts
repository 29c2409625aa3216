/**
 * Difficulties of one connection: how they are written on the wire, and which of them a share is judged by.
 * All values here are in the unit of the wire (`mining.set_difficulty`), which is the chain's difficulty times the profile's
 * `stratum_difficulty_multiplier`.
 *
 * The rule (why in README.md): a change is told by set_difficulty and applies from the next job that the connection is sent.
 *
 * | share on                     | judged and credited                                                       |
 * |------------------------------|---------------------------------------------------------------------------|
 * | a job sent before a rise     | at the old value                                                          |
 * | a job sent before a fall     | at the old value where it meets that, else at the new one where it meets that (`LowShares`: so many) |
 * | a job sent after the change  | at the new value                                                          |
 */
import { targetFromDifficulty } from '../core/bitcoin/target.ts';

/** A difficulty and the first job (by `Job.order`) that was sent with it. */
export interface DifficultyStep {
  readonly from: number;
  readonly diff: number;
}

/** What a share must reach. */
export interface Requirement {
  /** The value in force when the job was sent: what is asked and credited. */
  readonly asked: number;
  /** The lowest value told since then, at most `asked`: a share that meets only this one is credited with it. */
  readonly least: number;
}

/**
 * What a share on a job must reach.
 *
 * @param steps - by time; never empty
 * @param order - `Job.order` of the share's job
 */
export function requirementFor(steps: readonly DifficultyStep[], order: number): Requirement {
  let at = 0;
  for (let i = 0; i < steps.length; i++) if (steps[i]!.from <= order) at = i;
  const asked = steps[at]!.diff;
  let least = asked;
  for (let i = at + 1; i < steps.length; i++) least = Math.min(least, steps[i]!.diff);
  return { asked, least };
}

/** Steps without those that no job from `oldestOrder` on was sent with. */
export function pruneSteps(steps: readonly DifficultyStep[], oldestOrder: number): DifficultyStep[] {
  const keep = steps.findLastIndex((step) => step.from <= oldestOrder);
  return keep <= 0 ? [...steps] : steps.slice(keep);
}

/**
 * The difficulty of a target that may be told to miners: the highest double that is not above it. The nearest double can be: a miner that
 * computes exactly would then keep back a block whose hash lies between the two.
 *
 * @param numerator - the chain's difficulty-1 target times its multiplier of the wire
 * @param target - of nBits, above 0
 */
export function capOf(numerator: bigint, target: bigint): number {
  const nearest = Number(numerator) / Number(target);
  if (targetFromDifficulty(nearest, numerator) >= target) return nearest;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, nearest);
  // The next lower double: the bits of positive doubles are in their order.
  view.setBigUint64(0, view.getBigUint64(0) - 1n);
  return view.getFloat64(0);
}

/** Shares on jobs sent before a fall that meet only the new value: as many as are in a miner's pipeline are taken. */
const LOW_SHARES_AT_START = 32;
/** One more with so many accepted shares, up to LOW_SHARES_AT_START for each open line. */
const SHARES_PER_LOW_SHARE = 64;
/** Users without an open line that are remembered. */
const USERS_KEPT = 10_000;

/**
 * How many shares of one user may still count at a lower value than was asked of them. Without an end to it, who keeps such shares back until
 * a fall is credited for them besides the ones that met the old value: up to twice its work. It is the user's, not the fall's or the line's, for
 * falls can be asked for and lines be opened anew:
 *
 *   credited, above the work done  <=  low shares  <=  32 + accepted shares / 64
 */
export class LowShares {
  readonly #user: string;
  #lines = 0;
  /** In 64ths of a share. */
  #left = LOW_SHARES_AT_START * SHARES_PER_LOW_SHARE;

  constructor(user: string) {
    this.#user = user;
  }

  get user(): string {
    return this.#user;
  }

  get lines(): number {
    return this.#lines;
  }

  /** True while one more is taken. */
  get open(): boolean {
    return this.#left >= SHARES_PER_LOW_SHARE;
  }

  /** True where it is as a new user's. */
  get untouched(): boolean {
    return this.#left >= LOW_SHARES_AT_START * SHARES_PER_LOW_SHARE;
  }

  /** An accepted share. @param low - it was credited less than was asked */
  accepted(low: boolean): void {
    if (low) this.#left -= SHARES_PER_LOW_SHARE;
    else if (this.#left < Math.max(this.#lines, 1) * LOW_SHARES_AT_START * SHARES_PER_LOW_SHARE) this.#left += 1;
  }

  join(): void {
    this.#lines += 1;
  }

  leave(): void {
    this.#lines -= 1;
    // What many lines had in store is not for one.
    this.#left = Math.min(this.#left, Math.max(this.#lines, 1) * LOW_SHARES_AT_START * SHARES_PER_LOW_SHARE);
  }
}

/** The users of a process, for their low shares. */
export class LowShareUsers {
  readonly #users = new Map<string, LowShares>();
  /** Nobody's line is open, but something was taken: not new when it comes again. Oldest first. */
  readonly #gone = new Set<string>();

  /** A line has authorized; `leave` once it has ended. */
  join(user: string): LowShares {
    let shares = this.#users.get(user);
    if (shares === undefined) {
      shares = new LowShares(user);
      this.#users.set(user, shares);
    }
    this.#gone.delete(user);
    shares.join();
    return shares;
  }

  leave(shares: LowShares): void {
    shares.leave();
    if (shares.lines > 0) return;
    if (shares.untouched) {
      this.#users.delete(shares.user);
      return;
    }
    this.#gone.add(shares.user);
    if (this.#gone.size <= USERS_KEPT) return;
    const [oldest] = this.#gone;
    this.#gone.delete(oldest!);
    this.#users.delete(oldest!);
  }

  /** Users remembered. */
  get size(): number {
    return this.#users.size;
  }
}

/**
 * The value that is told and judged: a whole number from 1 up, below that three digits; never above the cap.
 *
 * @param wanted - what vardiff or a wish asks for, above 0
 * @param cap - difficulty of the job's nBits (in a proxy also the upstream's); taken exactly where it is below 1
 */
export function tellable(wanted: number, cap: number): number {
  const value = wanted >= 1 ? Math.round(wanted) : Number(wanted.toPrecision(3));
  if (value <= cap) return value;
  return cap >= 1 ? Math.floor(cap) : cap;
}

/** CKPool: a change made while job N is the present one is judged by from job N + 2 on. */
export const SWITCH_OVER_JOBS = 2;

/**
 * What CKPool would tell: whole numbers from 1 up, cut. Below 1 only where `min` is, or the chain itself is easier; CKPool has no such pools.
 *
 * @param min - lowest difficulty of the configuration
 */
export function wholeTellable(wanted: number, cap: number, min: number): number {
  const value = wanted >= 1 ? Math.trunc(wanted) : min >= 1 ? 1 : Number(wanted.toPrecision(3));
  if (value <= cap) return value;
  return cap >= 1 ? Math.floor(cap) : cap;
}

/**
 * A number as plain decimal digits that read back as the same double; never an exponent, which some firmware cannot parse.
 *
 * @param value - finite, 0 or above
 */
export function decimalText(value: number): string {
  if (Number.isInteger(value)) return BigInt(value).toString();
  const text = String(value);
  const [mantissa, exponent] = text.split('e-');
  if (exponent === undefined) return text;
  const digits = mantissa!.replace('.', '');
  return `0.${'0'.repeat(Number(exponent) - 1)}${digits}`;
}
