/**
 * The lines of CKPool's main log (`ckpool.log`, `ckproxy.log`), ours included: statistics of pool, users and workers, and blocks that were solved.
 * Pure: lines in, facts out; what one line leaves open is kept for the next, over the ends of files too (`state`).
 *
 *   [2026-11-22 06:10:12.871] Pool:{"runtime": 60, "lastupdate": 1795327812, …}     three lines, one row
 *   [2026-11-22 06:10:12.871] User NAME:{…}    Worker NAME:{…}                       a row each
 *   [2026-11-22 06:10:28.755] Possible block solve diff 6.079297 !
 *   [2026-11-22 06:10:28.760] BLOCK ACCEPTED!
 *   [2026-11-22 06:10:28.761] Solved and confirmed block 114 by NAME
 *   [2026-11-22 06:10:28.763] Block hash changed to 000000002a1c07bb…                the block's own hash, where the difficulty is that of line one
 */
import type { Inputs, PoolStatus } from '../../schemas/events.ts';
import { bytesFromHashHex } from '../core/bitcoin/header.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import { LineTimes, stampOf, type TimesState, type Zone } from './ckpool-log-time.ts';

/** What a log tells of one block that was offered to the node. */
export interface SolvedFact {
  /** Of the line that says a share may be one, microseconds since 1970. */
  readonly timeUs: number;
  readonly height: number;
  /** Empty where the log does not say (a refused block). */
  readonly worker: string;
  /** Difficulty reached, with six decimals as printed. */
  readonly diff: string;
  readonly accepted: boolean;
  /** The node's words. */
  readonly answer: string;
  readonly answerTimeUs: number;
  /** `host:port`, empty where the log begins later. */
  readonly node: string;
  /** Null where the log does not say: a refused block, or one that another overtook. */
  readonly hash: string | null;
  /** The tip before; empty where unknown. */
  readonly prevHash: string;
}

export type LogFact =
  | { readonly status: Inputs['session'] }
  | { readonly solved: SolvedFact }
  | { readonly bad: string }
  /** Not a line's fault: its stamp is not of the zone that was named. */
  | { readonly foreign: string };

interface Candidate {
  readonly timeUs: number;
  readonly diff: string;
  readonly prevHash: string;
  answer: string;
  answerTimeUs: number;
  hash: string | null;
  done: { height: number; worker: string; accepted: boolean } | null;
}

/** What one line leaves open for the next; JSON. */
export interface LogState {
  readonly times: TimesState;
  readonly tip: string;
  readonly node: string;
  readonly pool: {
    readonly clockMs: number;
    readonly timeUs: number;
    readonly status: PoolStatus;
    readonly parts: number;
  } | null;
  readonly candidate: Candidate | null;
  /** Solved, and their hash not told yet: several may be offered before the node's tips are told. */
  readonly waiting: readonly Candidate[];
  readonly half: { readonly clockMs: number; readonly text: string } | null;
}

export const FRESH_STATE: LogState = {
  times: { lastMs: null, offsetMs: null },
  tip: '',
  node: '',
  pool: null,
  candidate: null,
  waiting: [],
  half: null,
};

export interface LogContext {
  readonly origin: string;
  readonly instance: string;
  readonly zone: Zone;
}

/** Lines of one block of statistics are written at once. */
const TOGETHER_MS = 5_000;
/** How long after the solve the node's new tip is waited for. */
const TIP_WAIT_US = 60_000_000;
/** Where CKPool breaks a line in two (V23 and later), bytes. */
const BROKEN_BYTES = 510;
const NAME_LIMIT = 1024;
const WAITING_BLOCKS = 64;
const UNKNOWN = -1;

/** `9.52G`, `426`, `1e+03K`; empty where it is none. */
function rate(value: unknown): string {
  return typeof value === 'string' && /^\d{1,8}(?:\.\d{1,8})?(?:e[+-]?\d{1,2})?[EPTGMKkmun]?$/.test(value) ? value : '';
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : UNKNOWN;
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : UNKNOWN;
}

/** Seconds since 1970 as microseconds; 0 where there are none. */
function secondsUs(value: unknown): number {
  return typeof value === 'number' && value > 0 && value <= 0xffff_ffff ? Math.floor(value) * 1_000_000 : 0;
}

const NOTHING: PoolStatus = {
  scope: '',
  source: '',
  runtime_s: UNKNOWN,
  users: UNKNOWN,
  workers: UNKNOWN,
  idle: UNKNOWN,
  disconnected: UNKNOWN,
  hashrate_1m: '',
  hashrate_5m: '',
  hashrate_15m: '',
  hashrate_1h: '',
  hashrate_6h: '',
  hashrate_1d: '',
  hashrate_7d: '',
  effort_percent: UNKNOWN,
  network_diff: UNKNOWN,
  accepted_diff: UNKNOWN,
  rejected_diff: UNKNOWN,
  accepted_count: UNKNOWN,
  rejected_count: UNKNOWN,
  best_share: UNKNOWN,
  best_ever: UNKNOWN,
  rate_1m_per_s: UNKNOWN,
  rate_5m_per_s: UNKNOWN,
  rate_15m_per_s: UNKNOWN,
  rate_1h_per_s: UNKNOWN,
  last_share_us: 0,
  authorised_us: 0,
};

type Json = Readonly<Record<string, unknown>>;

function rates(json: Json): Partial<PoolStatus> {
  return {
    hashrate_1m: rate(json.hashrate1m),
    hashrate_5m: rate(json.hashrate5m),
    hashrate_15m: rate(json.hashrate15m),
    hashrate_1h: rate(json.hashrate1hr),
    hashrate_6h: rate(json.hashrate6hr),
    hashrate_1d: rate(json.hashrate1d),
    hashrate_7d: rate(json.hashrate7d),
  };
}

/** One of the three `Pool:` texts: which, and what it says. Null where it is none of them. */
export function poolPart(
  json: Json,
): { readonly part: 1 | 2 | 3; readonly says: Partial<PoolStatus>; readonly updateUs: number } | null {
  if ('runtime' in json) {
    const says = {
      runtime_s: count(json.runtime),
      users: count(json.Users),
      workers: count(json.Workers),
      idle: count(json.Idle),
      disconnected: count(json.Disconnected),
    };
    return { part: 1, says, updateUs: secondsUs(json.lastupdate) };
  }
  if ('hashrate1m' in json) return { part: 2, says: rates(json), updateUs: 0 };
  if ('accepted' in json || 'SPS1m' in json) {
    const says = {
      effort_percent: number(json.diff),
      network_diff: number(json.netdiff),
      accepted_diff: number(json.accepted),
      rejected_diff: number(json.rejected),
      accepted_count: count(json.accepted_count),
      rejected_count: count(json.rejected_count),
      best_share: number(json.bestshare),
      rate_1m_per_s: number(json.SPS1m),
      rate_5m_per_s: number(json.SPS5m),
      rate_15m_per_s: number(json.SPS15m),
      rate_1h_per_s: number(json.SPS1h),
    };
    return { part: 3, says, updateUs: 0 };
  }
  return null;
}

/** What is said of a user or a worker, in a line or in a file. */
export function memberStatus(scope: 'user' | 'worker', source: 'log' | 'status', json: Json): PoolStatus {
  return {
    ...NOTHING,
    scope,
    source,
    workers: scope === 'user' ? count(json.workers) : UNKNOWN,
    ...rates(json),
    accepted_diff: number(json.shares),
    best_share: number(json.bestshare),
    best_ever: number(json.bestever),
    last_share_us: secondsUs(json.lastshare ?? json.lastupdate),
    authorised_us: secondsUs(json.authorised),
  };
}

/** An empty record of the pool itself. */
export function poolStatus(source: 'log' | 'status'): PoolStatus {
  return { ...NOTHING, scope: 'pool', source };
}

/** CKPool's user of a worker name: what stands before the first `.` or `_`. */
export function userOf(worker: string): string {
  return /^[^._]*/.exec(worker)![0];
}

/** The event that carries one record. */
export function statusEvent(
  { origin, instance }: Pick<LogContext, 'origin' | 'instance'>,
  timeUs: number,
  status: PoolStatus,
  name = '',
): Inputs['session'] {
  const worker = status.scope === 'worker' ? name : '';
  const user = status.scope === 'pool' ? '' : status.scope === 'user' ? name : userOf(name);
  return { kind: 'pool_status', origin, instance, time_us: timeUs, user, worker, pool_status: [status] };
}

/** Six decimals of less than this are too few digits to know a hash by. */
const LEAST_TOLD = 0.001;

/** Whether a hash is of the difficulty that a line names with six decimals. */
export function reaches(hash: string, diff: string): boolean {
  const named = Number(diff);
  if (named < LEAST_TOLD) return false;
  return Math.abs(shareDifficulty(bytesFromHashHex(hash)) - named) <= 1e-6 + named * 1e-9;
}

/** A JSON object; null where the text is none. */
export function parseObject(text: string): Json | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}

const STATISTICS = /^(?:Pool|(User|Worker) (.{1,2000}?)):(\{.*)$/;
const POSSIBLE = /^Possible (?:stale share )?block solve diff (\d+(?:\.\d+)?) !/;
const SOLVED = /^Solved and confirmed block (\d{1,10}) by (.+)$/;
const RETURNED = /^SUBMIT BLOCK RETURNED: (.+)$/;
const REFUSED = /^Submitted, but had block (\d{1,10}) rejected/;
const CONFIRMS = /^Hash for .*block.* confirms block was (ACCEPTED|REJECTED)/;
const TIP = /^(?:ZMQ block hash|Block hash changed to|Block hash on proxy \d+ changed to) ([0-9a-f]{64})\b/;
const NODE = /^(?:Connected|Failed over) to bitcoind: (\S+)/;

/** Reads one log. */
export class CkpoolLog {
  readonly #context: LogContext;
  #times: LineTimes;
  #tip: string;
  #node: string;
  #pool: LogState['pool'];
  #candidate: Candidate | null;
  #waiting: Candidate[];
  #half: LogState['half'];

  constructor(context: LogContext, state: LogState = FRESH_STATE) {
    this.#context = context;
    this.#times = new LineTimes(context.zone, state.times);
    this.#tip = state.tip;
    this.#node = state.node;
    this.#pool = state.pool;
    this.#candidate = state.candidate === null ? null : { ...state.candidate };
    this.#waiting = state.waiting.map((each) => ({ ...each }));
    this.#half = state.half;
  }

  get state(): LogState {
    return {
      times: this.#times.state,
      tip: this.#tip,
      node: this.#node,
      pool: this.#pool,
      candidate: this.#candidate === null ? null : { ...this.#candidate },
      waiting: this.#waiting.map((each) => ({ ...each })),
      half: this.#half,
    };
  }

  /** Looks ahead for the first line that names an instant, so that a wrong zone is known before the lines above it. @param head - the log's beginning */
  peek(head: string): void {
    const match = /^(\[[^\]\n]{19,23}\] )Pool:\{[^\n]*"lastupdate": ?(\d{9,10})\b/m.exec(head);
    const stamp = match === null ? null : stampOf(match[1]!);
    if (stamp === null) return;
    const { zone } = this.#context;
    const ahead = new LineTimes(zone, this.#times.state);
    const fits = ahead.correct(stamp.clockMs, Number(match![2]) * 1000) !== false;
    this.#times = new LineTimes(zone, {
      lastMs: fits ? this.#times.state.lastMs : null,
      offsetMs: ahead.state.offsetMs,
    });
  }

  /**
   * Takes the next line, without its newline.
   * @returns what it tells, together with the lines above; most tell nothing
   */
  take(line: string): LogFact[] {
    if (line === '') return [];
    const stamp = stampOf(line);
    if (stamp === null) return [{ bad: 'no time stamp' }];
    const timeMs = this.#times.next(stamp.clockMs);
    if (timeMs === null) {
      return [{ bad: `the clocks of ${this.#context.zone.name} left this time out: is it the pool's zone (--tz)?` }];
    }
    let text = line.slice(stamp.length);
    const half = this.#half;
    this.#half = null;
    if (half !== null && half.clockMs === stamp.clockMs) text = half.text + text;
    const statistics = STATISTICS.exec(text);
    if (statistics !== null) return this.#statistics(text, statistics, stamp.clockMs, timeMs);
    return this.#block(text, timeMs * 1000);
  }

  #statistics(text: string, match: RegExpExecArray, clockMs: number, timeMs: number): LogFact[] {
    const [, who, name = '', body] = match;
    const json = parseObject(body!);
    if (json === null) {
      if (Buffer.byteLength(text) === BROKEN_BYTES) {
        this.#half = { clockMs, text };
        return [];
      }
      return [{ bad: 'statistics that are not JSON' }];
    }
    if (who === undefined) return this.#poolLine(json, clockMs, timeMs);
    if (name.length > NAME_LIMIT) return [{ bad: `a name of more than ${NAME_LIMIT} characters` }];
    const status = memberStatus(who === 'User' ? 'user' : 'worker', 'log', json);
    return [{ status: statusEvent(this.#context, timeMs * 1000, status, name) }];
  }

  #poolLine(json: Json, clockMs: number, timeMs: number): LogFact[] {
    const found = poolPart(json);
    if (found === null) return [];
    const facts: LogFact[] = [];
    let pool = this.#pool;
    const together = pool !== null && Math.abs(clockMs - pool.clockMs) <= TOGETHER_MS && found.part === pool.parts + 1;
    if (!together) {
      facts.push(...this.#closePool());
      // A log that begins within a block of statistics says of the rest when it was.
      let timeUs = Math.floor(timeMs / 1000) * 1_000_000;
      if (found.updateUs > 0) {
        if (this.#times.correct(clockMs, found.updateUs / 1000) === false) {
          const shownMs = this.#context.zone.instants(clockMs)[0] ?? timeMs;
          const hours = ((found.updateUs / 1000 - shownMs) / 3_600_000).toFixed(2);
          facts.push({
            foreign: `its stamps lie ${hours} h before what its statistics say, read as ${this.#context.zone.name}: the statistics are believed; name the pool's time zone with --tz`,
          });
        }
        timeUs = found.updateUs;
      }
      pool = { clockMs, timeUs, status: poolStatus('log'), parts: 0 };
    }
    this.#pool = { ...pool!, status: { ...pool!.status, ...found.says }, parts: found.part };
    if (found.part === 3) facts.push(...this.#closePool());
    return facts;
  }

  #closePool(): LogFact[] {
    const pool = this.#pool;
    this.#pool = null;
    return pool === null ? [] : [{ status: statusEvent(this.#context, pool.timeUs, pool.status) }];
  }

  #block(text: string, timeUs: number): LogFact[] {
    const facts = this.#told((each) => each.hash !== null || timeUs - each.timeUs > TIP_WAIT_US);
    const possible = POSSIBLE.exec(text);
    if (possible !== null) {
      const prevHash = text.startsWith('Possible stale') ? '' : this.#tip;
      this.#candidate = { timeUs, diff: possible[1]!, prevHash, answer: '', answerTimeUs: 0, hash: null, done: null };
      return facts;
    }
    const node = NODE.exec(text);
    if (node !== null) this.#node = node[1]!;
    const open = this.#candidate;
    const tip = TIP.exec(text)?.[1];
    if (tip !== undefined) {
      // ZMQ and the template tell the same one: said again it is nobody else's.
      if (tip === this.#tip) return facts;
      this.#tip = tip;
      const its = [...this.#waiting, ...(open === null ? [] : [open])].find(
        ({ hash, diff }) => hash === null && reaches(tip, diff),
      );
      if (its !== undefined) its.hash = tip;
      return [...facts, ...this.#told(({ hash }) => hash !== null)];
    }
    return open === null ? facts : [...facts, ...this.#answered(open, text, timeUs)];
  }

  /** What a line says of the block that is being offered. */
  #answered(open: Candidate, text: string, timeUs: number): LogFact[] {
    const answer = (words: string): void => {
      open.answer = words.slice(0, NAME_LIMIT);
      open.answerTimeUs = timeUs;
    };
    const returned = RETURNED.exec(text);
    const confirms = CONFIRMS.exec(text);
    const solved = SOLVED.exec(text);
    const refused = REFUSED.exec(text);
    if (text.startsWith('BLOCK ACCEPTED')) answer('accepted');
    else if (returned !== null) answer(returned[1]!);
    else if (confirms !== null && (open.answer === '' || confirms[1] === 'ACCEPTED'))
      answer(confirms[1]!.toLowerCase());
    if (solved === null && refused === null) return [];
    if (open.answer === '') answer(solved === null ? 'rejected' : 'accepted');
    const [height, worker] = solved === null ? [refused![1], ''] : [solved[1], solved[2]!.slice(0, NAME_LIMIT)];
    open.done = { height: Number(height), worker, accepted: solved !== null };
    this.#candidate = null;
    this.#waiting.push(open);
    // No tip will name one that was refused.
    return this.#told(({ hash, done }) => hash !== null || !done!.accepted || this.#waiting.length > WAITING_BLOCKS);
  }

  /** Blocks that are to be told now. */
  #told(which: (candidate: Candidate) => boolean): LogFact[] {
    const told = this.#waiting.filter(which);
    if (told.length > 0) this.#waiting = this.#waiting.filter((each) => !told.includes(each));
    return told.map(({ done, ...said }) => ({ solved: { ...said, ...done!, node: this.#node } }));
  }

  /** Whether `end` would tell something. */
  get isOpen(): boolean {
    return this.#pool !== null || this.#waiting.length > 0;
  }

  /** What is still open, where no line will follow. */
  end(): LogFact[] {
    return [...this.#closePool(), ...this.#told(() => true)];
  }
}
