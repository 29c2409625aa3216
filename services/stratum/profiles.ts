/**
 * What the listener that a miner connects to says of its difficulties: its profile (`standard`, `rental`, `tiny`) and its own numbers. Between
 * the configuration and session.ts; unit of the wire throughout.
 */
import { type Config, RENTAL_NONCE2_BYTES } from '../core/config.ts';

/**
 * Rental marketplaces check a pool before they send hashrate, and refuse one whose first difficulty is below their minimum: 500,000 for sha256d
 * at NiceHash. Of other algorithms nothing was looked up: `mindiff` of the listener says another.
 */
const RENTAL_DIFF = 500_000;
/** An ESP32 does 50,000 to 400,000 hashes a second: at 0.001 that is a share in 10 to 90 s. */
const TINY_START_DIFF = 0.001;
/** Below what the firmware of such miners suggests (0.00015). */
const TINY_MIN_DIFF = 0.0001;
/** The line buffer of such firmware. */
export const TINY_NOTIFY_BYTES = 4_096;

/** Difficulties of a connection, by its listener. */
export interface ListenerLimits {
  readonly start: number;
  readonly min: number;
  /** Infinity: none. */
  readonly max: number;
  /** What counts as the client's own suggestion; null: nothing. */
  readonly wish: number | null;
  /** Least size of extranonce2. */
  readonly nonce2Bytes: number;
}

/**
 * The difficulties of a listener: its own numbers, else its profile's, else those of the whole pool. A number that it says itself is not moved
 * by an inherited one.
 */
export function listenerLimits(config: Config, listenerIndex: number): ListenerLimits {
  const pool = {
    start: config.startDiff,
    min: config.minDiff,
    max: config.maxDiff > 0 ? config.maxDiff : Infinity,
    wish: null,
    nonce2Bytes: 1,
  };
  // CKPool: the difficulty of a high-difficulty port counts as the client's suggestion, and maxdiff does not touch it.
  if (config.highDiffListeners.includes(listenerIndex)) {
    return { ...pool, start: Math.max(config.startDiff, config.highDiff), wish: config.highDiff };
  }
  const { profile = 'standard', startDiff, minDiff, maxDiff } = config.listen[listenerIndex] ?? {};
  if (profile === 'standard' && startDiff === undefined && minDiff === undefined && maxDiff === undefined) return pool;
  const of = {
    standard: pool,
    rental: { start: RENTAL_DIFF, min: RENTAL_DIFF },
    tiny: { start: TINY_START_DIFF, min: TINY_MIN_DIFF },
  }[profile];
  const ownMax = maxDiff === 0 ? Infinity : maxDiff;
  const min = minDiff ?? Math.min(of.min, startDiff ?? Infinity, ownMax ?? Infinity);
  const max = ownMax ?? Math.max(pool.max, min, startDiff ?? 0);
  return {
    start: startDiff ?? Math.min(Math.max(of.start, min), max),
    min,
    max,
    wish: null,
    nonce2Bytes: profile === 'rental' ? RENTAL_NONCE2_BYTES : pool.nonce2Bytes,
  };
}
