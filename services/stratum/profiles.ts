/**
 * What the configuration says of a miner's difficulties: its listener's profile (`standard`, `rental`, `tiny`) and numbers, then the entry for
 * its user agent, then the one for its worker or user; what a later one does not say is inherited. Between the configuration and session.ts;
 * unit of the wire throughout.
 */
import {
  type AgentRule,
  type Config,
  type DifficultyRule,
  hostPortText,
  type MinerRule,
  RENTAL_NONCE2_BYTES,
} from '../core/config.ts';
import type { Job } from './work/job.ts';

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
const TINY_NOTIFY_BYTES = 4_096;

/** Difficulties of a connection. */
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
  const listener: DifficultyRule = config.listen[listenerIndex] ?? {};
  const { profile } = listener;
  return { ...ruledLimits(pool, listener), nonce2Bytes: profile === 'rental' ? RENTAL_NONCE2_BYTES : pool.nonce2Bytes };
}

/** Difficulties under one more entry of the configuration: its own numbers, else its profile's, else what was inherited. */
export function ruledLimits(inherited: ListenerLimits, rule: DifficultyRule): ListenerLimits {
  const { profile = 'standard', startDiff, minDiff, maxDiff } = rule;
  if (profile === 'standard' && startDiff === undefined && minDiff === undefined && maxDiff === undefined) {
    return inherited;
  }
  const of = {
    standard: inherited,
    rental: { start: RENTAL_DIFF, min: RENTAL_DIFF },
    tiny: { start: TINY_START_DIFF, min: TINY_MIN_DIFF },
  }[profile];
  const ownMax = maxDiff === 0 ? Infinity : maxDiff;
  const min = minDiff ?? Math.min(of.min, startDiff ?? Infinity, ownMax ?? Infinity);
  const max = ownMax ?? Math.max(inherited.max, min, startDiff ?? 0);
  // The floor of a high-difficulty port is not for whom the configuration names a start or a profile.
  const wish = profile === 'standard' && startDiff === undefined ? inherited.wish : null;
  return {
    start: startDiff ?? Math.min(Math.max(of.start, min), max),
    min,
    max,
    wish: wish === null ? null : Math.min(Math.max(wish, min), max),
    nonce2Bytes: inherited.nonce2Bytes,
  };
}

/** The difficulties of all that the configuration names. */
export class Limits {
  readonly #config: Config;
  readonly #pool: ListenerLimits;
  readonly #listeners: readonly ListenerLimits[];
  readonly #agents: readonly AgentRule[];
  readonly #miners: ReadonlyMap<string, MinerRule>;
  /** Of agents, by entry: one object for all of a kind. */
  readonly #ofAgents = new Map<ListenerLimits, Map<AgentRule, ListenerLimits>>();

  /** Of each list the entry with the highest minimum. */
  readonly #strictest: readonly { readonly what: string; readonly min: number }[];

  constructor(config: Config) {
    this.#config = config;
    this.#pool = listenerLimits(config, -1);
    this.#listeners = config.listen.map((_, index) => listenerLimits(config, index));
    this.#agents = config.agents;
    this.#miners = new Map(config.miners.map((rule) => [rule.name, rule]));
    const strictest = <Rule extends DifficultyRule>(
      list: string,
      rules: readonly Rule[],
      name: (rule: Rule) => string,
    ) =>
      rules
        .map((rule) => ({ what: `${list} ${JSON.stringify(name(rule))}`, min: ruledLimits(this.#pool, rule).min }))
        .sort((a, b) => b.min - a.min)
        .slice(0, 1);
    this.#strictest = [
      ...strictest('lodestream.agents', config.agents, ({ match }) => match),
      ...strictest('lodestream.miners', config.miners, ({ name }) => name),
    ];
  }

  of(listenerIndex: number): ListenerLimits {
    return this.#listeners[listenerIndex] ?? this.#pool;
  }

  /** Those of a listener for who calls itself so. */
  forAgent(listenerIndex: number, agent: string): ListenerLimits {
    const limits = this.of(listenerIndex);
    if (this.#agents.length === 0) return limits;
    const text = agent.toLowerCase();
    const rule = this.#agents.find(({ match }) => text.includes(match));
    if (rule === undefined) return limits;
    let known = this.#ofAgents.get(limits);
    if (known === undefined) {
      known = new Map();
      this.#ofAgents.set(limits, known);
    }
    const ruled = known.get(rule) ?? ruledLimits(limits, rule);
    known.set(rule, ruled);
    return ruled;
  }

  /** What the configuration says of a worker, or else of its user. */
  forMiner(worker: string, user: string): MinerRule | undefined {
    return this.#miners.get(worker) ?? this.#miners.get(user);
  }

  /**
   * What the configuration promises and a job cannot keep.
   * @returns what it is about, by which it is said once, and the line that says it
   */
  *unkept(job: Pick<Job, 'cap' | 'notify'>): Generator<readonly [what: string, line: string]> {
    const { cap } = job;
    const below = (what: string, min: number): string =>
      `${what}mindiff ${min} is above the difficulty of the work, ${cap}: miners get the latter`;
    for (const { what, min } of this.#strictest) {
      if (cap < min && min > this.#config.minDiff) yield [what, below(`${what}: `, min)];
    }
    for (const [index, listener] of this.#config.listen.entries()) {
      const { min } = this.of(index);
      const own = listener.profile !== undefined || listener.minDiff !== undefined;
      const address = `stratum address ${hostPortText(listener)}: `;
      const whose = own ? address : '';
      if (cap < min) yield [`${whose}min`, below(whose, min)];
      const notifyBytes = listener.profile === 'tiny' ? job.notify[1].length : 0;
      if (notifyBytes > TINY_NOTIFY_BYTES) {
        const line = `a notify has ${notifyBytes} bytes, more than the ${TINY_NOTIFY_BYTES} that tiny miners can read`;
        yield [`${index} notify`, `${address}${line}`];
      }
    }
  }
}
