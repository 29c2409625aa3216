/**
 * Variable difficulty: from the rate at which a connection's work arrives to the difficulty at which a share comes every 3.3 s.
 * CKPool's algorithm and constants (0.9.9), with fractions. Ours, left out where `whole` is set: a wish is a floor only while a share a minute
 * comes at it, and is forgotten where more than 20 a second do; nothing is decided in the middle of an update of the mean. A connection without
 * any share is lowered (`idleDifficulty`). Pure: the clock is handed in.
 *
 *   dsps  difficulty accepted per second, a decaying mean over 300 s, corrected for its start: the first share begins it and counts nothing
 *   drr   dsps / difficulty: shares per second at the present difficulty; 0.3 is wanted, 0.15 to 0.4 is left alone
 */
import { tellable, wholeTellable } from './difficulty.ts';

/** Mean over this long, seconds (CKPool: the 5-minute average decides). */
export const INTERVAL_S = 300;
/** Judged after this many shares or this long since the last change. */
const SHARES_BEFORE_CHANGE = 72;
const SECONDS_BEFORE_CHANGE = 240;
const LEAST_DRR = 0.15;
const MOST_DRR = 0.4;
/** One share in 3.33 s; with a floor one in 2.4 s. */
const SECONDS_PER_SHARE = 3.33;
const SECONDS_PER_SHARE_FLOORED = 2.4;
const LEAST_DRR_FLOORED = 0.5;
/** Shares closer together than this are counted as one update. */
const POOLED_S = 0.05;

/** No share in this long: a quarter. */
export const IDLE_MS = 60_000;
const IDLE_FACTOR = 4;
/** A wish is forgotten below a share a minute, and where it would be a flood. */
const LEAST_WISHED_DRR = 1 / 60;
const MOST_WISHED_DRR = 20;

export interface VardiffState {
  /** Milliseconds; null before the first share. */
  readonly firstShareMs: number | null;
  readonly lastChangeMs: number;
  readonly sharesSinceChange: number;
  /** Difficulty per second, decaying. */
  readonly dsps: number;
  readonly updatedMs: number;
  /** Difficulty that came since `updatedMs` and is not in `dsps` yet. */
  readonly pooled: number;
}

export interface VardiffLimits {
  readonly min: number;
  /** Infinity: none. */
  readonly max: number;
  /** Of the present job; the difficulty in force is never above it. */
  readonly cap: number;
  /** What the miner asked for, or null. */
  readonly wish: number | null;
  /** As CKPool: results are whole numbers from 1 up, and a wish is a floor for ever. */
  readonly whole?: boolean;
}

export interface AcceptedShare {
  /** Difficulty credited. */
  readonly credited: number;
  /** Difficulty in force now. */
  readonly inForce: number;
  /** True where the share was judged by an older one. */
  readonly judgedAtOld: boolean;
  readonly nowMs: number;
}

export interface VardiffOutcome {
  readonly state: VardiffState;
  /** The difficulty that is now wanted, or null for no change. */
  readonly wanted: number | null;
  /** True where the wish is to be forgotten. */
  readonly forgetWish: boolean;
  /** True where more shares came than any client should send: what it is told now must not wait for the next job. */
  readonly flood: boolean;
}

/** Of a line that has no share yet. @param nowMs - by the clock that later calls are given */
export function initialVardiff(nowMs: number): VardiffState {
  return { firstShareMs: null, lastChangeMs: nowMs, sharesSinceChange: 0, dsps: 0, updatedMs: nowMs, pooled: 0 };
}

/**
 * A decaying average of a rate.
 *
 * @param rate - per second
 * @param added - what came during `seconds`
 */
export function decay(rate: number, added: number, seconds: number, intervalS: number): number {
  if (seconds <= 0) return rate;
  const part = 1 - 1 / Math.exp(Math.min(seconds / intervalS, 36));
  const next = (rate + (added / seconds) * part) / (1 + part);
  return next < 2e-16 ? 0 : next;
}

/**
 * Takes an accepted share in that decides nothing, because it comes closer than POOLED_S to the last update; what `vardiffStep` would do with
 * it, without a new state.
 *
 * @param state - is changed
 * @param whole - as in `VardiffLimits`: there these shares may decide too
 * @returns false where nothing was done and `vardiffStep` has to be asked
 */
export function vardiffPooled(
  state: { -readonly [Field in keyof VardiffState]: VardiffState[Field] },
  credited: number,
  judgedAtOld: boolean,
  nowMs: number,
  whole = false,
): boolean {
  if (state.firstShareMs === null || (nowMs - state.updatedMs) / 1000 >= POOLED_S) return false;
  const shares = state.sharesSinceChange + 1;
  if (judgedAtOld || whole) {
    const due = shares >= SHARES_BEFORE_CHANGE || (nowMs - state.lastChangeMs) / 1000 >= SECONDS_BEFORE_CHANGE;
    if (due && !judgedAtOld) return false;
    state.sharesSinceChange = due ? 0 : shares;
  } else state.sharesSinceChange = shares;
  state.pooled += credited;
  return true;
}

/**
 * Takes an accepted share in and says whether the difficulty should change.
 * @see reference of the steps: CKPool 0.9.9, run on each accepted share
 */
export function vardiffStep(before: VardiffState, share: AcceptedShare, limits: VardiffLimits): VardiffOutcome {
  const { nowMs, inForce } = share;
  const whole = limits.whole === true;
  const first = before.firstShareMs === null;
  const firstShareMs = before.firstShareMs ?? nowMs;
  const lastChangeMs = first ? nowMs : before.lastChangeMs;
  let { dsps } = before;
  // The first share begins the time that the mean is over.
  let updatedMs = first ? nowMs : before.updatedMs;
  let pooled = first ? 0 : before.pooled + share.credited;
  const passedS = (nowMs - updatedMs) / 1000;
  if (passedS >= POOLED_S) {
    dsps = decay(dsps, pooled, passedS, INTERVAL_S);
    updatedMs = nowMs;
    pooled = 0;
  }
  const state = {
    firstShareMs,
    lastChangeMs,
    sharesSinceChange: before.sharesSinceChange + 1,
    dsps,
    updatedMs,
    pooled,
  };
  const keep = (changes: Partial<VardiffState> = {}, forgetWish = false): VardiffOutcome => ({
    state: { ...state, ...changes },
    wanted: null,
    forgetWish,
    flood: false,
  });

  const sinceChangeS = (nowMs - lastChangeMs) / 1000;
  if (state.sharesSinceChange < SHARES_BEFORE_CHANGE && sinceChangeS < SECONDS_BEFORE_CHANGE) return keep();
  if (share.judgedAtOld) return keep({ sharesSinceChange: 0 });
  // In a flood the mean is that of before, or nothing yet: CKPool would send a flood of first shares down.
  if (pooled > 0 && (!whole || dsps === 0)) return keep();

  const bias = 1 - 1 / Math.exp(Math.min(Math.max((nowMs - firstShareMs) / 1000, 0.001) / INTERVAL_S, 36));
  const trueDsps = dsps / bias;
  const drr = trueDsps / inForce;
  if (drr > LEAST_DRR && drr < MOST_DRR) return keep();

  const flood = drr > MOST_WISHED_DRR;
  const forgetWish = !whole && limits.wish !== null && (drr < LEAST_WISHED_DRR || flood);
  const wish = forgetWish ? null : limits.wish;
  if (wish !== null && drr < LEAST_DRR_FLOORED) return keep();
  let wanted = trueDsps * (wish === null ? SECONDS_PER_SHARE : SECONDS_PER_SHARE_FLOORED);
  // lround, where that is not 0: below 1 CKPool knows nothing.
  if (whole && wanted >= 1) wanted = Math.round(wanted);
  wanted = Math.min(Math.max(wanted, limits.min, wish ?? 0), limits.max);
  const told = whole ? wholeTellable(wanted, limits.cap, limits.min) : tellable(wanted, limits.cap);
  if (told === inForce) return keep({}, forgetWish);
  // The client was away and is back: one share says nothing about its rate.
  if (told < inForce && state.sharesSinceChange === 1) return keep({ lastChangeMs: nowMs }, forgetWish);
  return { state: { ...state, sharesSinceChange: 0, lastChangeMs: nowMs }, wanted, forgetWish, flood };
}

/**
 * The difficulty of a connection from which nothing came for `IDLE_MS`: a quarter, down to the minimum.
 *
 * @returns null where it is at the minimum already
 */
export function idleDifficulty(inForce: number, min: number): number | null {
  const lower = Math.max(inForce / IDLE_FACTOR, min);
  return lower < inForce ? lower : null;
}
