/**
 * `UserAgents` of pool.status, as the fork ckpool-lhr has it: with what is mined here, how many lines each kind has, its hash rate and its best
 * share. Of stats.ts. Only computes.
 *
 *   user agent of mining.subscribe ─ `agentName` ─► a kind, without its version ─► `Agents`
 *
 * Agents are what strangers write: a kind has a name of its own from its first accepted share on, and there are so many at most. The lines and
 * shares of all the others stand under `Other`.
 */
import { cutText } from '../methods/text.ts';
import { Rates } from './rates.ts';

/** ckpool-lhr's, also for an agent that says nothing. */
const OTHER = 'Other';
/** Kinds that pool.status names (ckpool-lhr's default). */
const SHOWN_LIMIT = 100;
/** Kinds in memory: as many as the lines of one address. Some that had shares may be without a line for a while. */
const KINDS_LIMIT = 10_000;
/** Texts whose kind is remembered. */
const TEXTS_LIMIT = 2_000;
const NAME_LIMIT = 64;
const INTERVAL_S = 300;

/**
 * The kind that an agent is of, by ckpool-lhr's rules: what stands before `/` or `(`, without a chip's model or a version behind a dash;
 * whatever begins with `cpuminer-` or `cpuminer_` is cpuminer.
 *
 * @param agent - as of mining.subscribe, printable
 * @example agentName('cgminer/4.12.1') // 'cgminer'
 * @example agentName('LuckyMiner BM1366') // 'LuckyMiner'
 */
export function agentName(agent: string): string {
  let name = cutText(agent.trimStart().split(/[/(]/, 1)[0]!, NAME_LIMIT).trimEnd();
  name = name.replace(/(?<=.)[ -]BM\d+$/, '').trimEnd();
  if (/^cpuminer[-_]/i.test(name)) name = name.slice(0, 'cpuminer'.length);
  name = name.replace(/-\d(?:[\d.]*\d)?$/, '');
  return name === '' ? OTHER : name;
}

/** What pool.status says of a kind. Difficulties in the chain's unit. */
export interface AgentValues {
  readonly name: string;
  readonly lines: number;
  /** Difficulty per second over five minutes. */
  readonly dsps5m: number;
  /** Best share since the last block. */
  readonly best: number;
}

/** One kind. */
export class Agent {
  readonly name: string;
  readonly rates: Rates;
  /** Authorized now. */
  lines = 0;
  best = 0;
  /** A share of it was accepted. */
  hasShare = false;

  constructor(name: string, nowMs: number) {
    this.name = name;
    this.rates = new Rates([INTERVAL_S], nowMs);
  }

  /** Shares were accepted. @param diff - credited @param sdiff - the best of them */
  credit(diff: number, sdiff: number): void {
    this.hasShare = true;
    this.rates.add(diff);
    this.best = Math.max(this.best, sdiff);
  }
}

export class Agents {
  readonly #kinds = new Map<string, Agent>();
  readonly #texts = new Map<string, string>();
  readonly #other: Agent;
  readonly #limit: number;
  #nowMs: number;

  /** @param limit - of kinds; for tests */
  constructor(nowMs: number, limit = KINDS_LIMIT) {
    this.#nowMs = nowMs;
    this.#limit = limit;
    this.#other = new Agent(OTHER, nowMs);
    this.#kinds.set(OTHER, this.#other);
  }

  /** The kind of an agent; where there are too many, `Other`. */
  of(text: string): Agent {
    const name = this.#nameOf(text);
    let kind = this.#kinds.get(name);
    if (kind !== undefined) return kind;
    if (this.#kinds.size >= this.#limit) this.#forget();
    if (this.#kinds.size >= this.#limit) return this.#other;
    kind = new Agent(name, this.#nowMs);
    this.#kinds.set(name, kind);
    return kind;
  }

  #nameOf(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const name = agentName(text);
    if (this.#texts.size >= TEXTS_LIMIT) this.#texts.clear();
    this.#texts.set(text, name);
    return name;
  }

  /** Kinds without a line make room. */
  #forget(): void {
    for (const [name, kind] of this.#kinds) if (kind.lines === 0 && kind !== this.#other) this.#kinds.delete(name);
  }

  decayTo(nowMs: number): void {
    this.#nowMs = nowMs;
    for (const { hasShare, rates } of this.#kinds.values()) if (hasShare) rates.decayTo(nowMs);
  }

  resetBest(): void {
    for (const kind of this.#kinds.values()) kind.best = 0;
  }

  /** Those that have a line now; most lines first, `Other` last. */
  values(): AgentValues[] {
    const named: Agent[] = [];
    const rest: Agent[] = [];
    for (const kind of this.#kinds.values()) {
      if (kind.lines > 0) (kind.hasShare && kind !== this.#other ? named : rest).push(kind);
    }
    named.sort((a, b) => b.lines - a.lines);
    rest.push(...named.splice(SHOWN_LIMIT - 1));
    const values = named.map(({ name, lines, rates, best }) => ({ name, lines, dsps5m: rates.values[0]!, best }));
    if (rest.length === 0) return values;
    const sum = { name: OTHER, lines: 0, dsps5m: 0, best: 0 };
    for (const { lines, rates, best } of rest) {
      sum.lines += lines;
      sum.dsps5m += rates.values[0]!;
      sum.best = Math.max(sum.best, best);
    }
    return [...values, sum];
  }
}
