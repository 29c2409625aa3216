/**
 * The stamps of CKPool's main log, `[YYYY-MM-DD hh:mm:ss.mmm]`, are local time without an offset: here they become instants.
 *
 * One stamp of the hour that the end of summer time doubles is two instants. Lines stand in the order in which they were written, so the first
 * of the two that does not lie before the line above is meant. Where the order does not say (the pool was down when that hour began anew), the
 * `lastupdate` of a statistics line does, which is UTC. A stamp of the hour that the beginning of summer time leaves out is no instant.
 */
import { PoolError } from '../core/errors.ts';

/** Threads of CKPool stamp a line before they write it: a line may be so much earlier than the one above. Far below the hour that is told apart. */
const DISORDER_MS = 60_000;
/** Changes of an offset are on quarters of an hour. */
const QUARTER_MS = 900_000;
const DAY_MS = 86_400_000;
/** `lastupdate` is in whole seconds and taken a little before the line. */
const UPDATE_SLACK_MS = 90_000;
const STAMP = /^\[(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{3}))?\] /;

/** Of one time zone what each instant is on its clocks. */
export class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;
  readonly #offsets = new Map<number, number>();
  readonly #candidates = new Map<number, readonly number[]>();

  /** @param name - IANA name, `Europe/Berlin`; null: the machine's @throws PoolError usage */
  constructor(name: string | null) {
    this.name = name ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    try {
      this.#format = new Intl.DateTimeFormat('en-US', {
        timeZone: this.name,
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      });
    } catch (cause) {
      throw new PoolError('usage', `--tz ${this.name}: no time zone of that name; such as Europe/Berlin, or UTC`, {
        cause,
      });
    }
  }

  /** Clock minus UTC at an instant, milliseconds. */
  #offsetMs(utcMs: number): number {
    const quarter = Math.floor(utcMs / QUARTER_MS);
    const known = this.#offsets.get(quarter);
    if (known !== undefined) return known;
    const at: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(quarter * QUARTER_MS)) at[type] = Number(value);
    const clockMs = Date.UTC(at.year!, at.month! - 1, at.day, at.hour, at.minute, at.second);
    const offset = clockMs - quarter * QUARTER_MS;
    if (this.#offsets.size > 10_000) this.#offsets.clear();
    this.#offsets.set(quarter, offset);
    return offset;
  }

  /** The offsets that a clock time may have had, the earlier instant first: none in the hour left out, two in the doubled one. */
  #offsetsOf(clockMs: number): readonly number[] {
    const quarter = Math.floor(clockMs / QUARTER_MS);
    const known = this.#candidates.get(quarter);
    if (known !== undefined) return known;
    const around = new Set([this.#offsetMs(clockMs - DAY_MS), this.#offsetMs(clockMs + DAY_MS)]);
    const found = [...around].filter((offset) => this.#offsetMs(clockMs - offset) === offset).sort((a, b) => b - a);
    if (this.#candidates.size > 10_000) this.#candidates.clear();
    this.#candidates.set(quarter, found);
    return found;
  }

  /** The instants at which the clocks showed a time, milliseconds since 1970, rising. @param clockMs - the time shown, as if it were UTC */
  instants(clockMs: number): readonly number[] {
    return this.#offsetsOf(clockMs).map((offset) => clockMs - offset);
  }
}

/** A stamp as its clock showed it, as if it were UTC, and where the text behind it begins; null where the line has none. */
export function stampOf(line: string): { readonly clockMs: number; readonly length: number } | null {
  const match = STAMP.exec(line);
  if (match === null) return null;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const clockMs = Date.UTC(year, month - 1, day, hour, minute, second, Number(match[7] ?? 0));
  // Date.UTC takes the 31st of February for a day of March.
  const again = new Date(clockMs);
  const same =
    again.getUTCMonth() === month - 1 && again.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  // As everywhere in CKPool's files seconds are 32 bits.
  return same && year >= 1970 && year < 2106 ? { clockMs, length: match[0].length } : null;
}

/** How far the lines of one log have been told. */
export interface TimesState {
  /** Instant of the line above, milliseconds since 1970; null before the first. */
  readonly lastMs: number | null;
  /** Clock minus UTC where the log itself says that it is not of the zone named; null where it is. */
  readonly offsetMs: number | null;
}

/** Tells the instants of the lines of one log, in their order. */
export class LineTimes {
  readonly #zone: Zone;
  #lastMs: number | null;
  #offsetMs: number | null;

  constructor(zone: Zone, { lastMs, offsetMs }: TimesState) {
    this.#zone = zone;
    this.#lastMs = lastMs;
    this.#offsetMs = offsetMs;
  }

  get state(): TimesState {
    return { lastMs: this.#lastMs, offsetMs: this.#offsetMs };
  }

  /** @returns milliseconds since 1970; null where the zone's clocks never showed that time */
  next(clockMs: number): number | null {
    const last = this.#lastMs;
    const instants = this.#offsetMs === null ? this.#zone.instants(clockMs) : [clockMs - this.#offsetMs];
    const found = last === null ? instants[0] : (instants.find((at) => at >= last - DISORDER_MS) ?? instants.at(-1));
    if (found === undefined) return null;
    this.#lastMs = found;
    return found;
  }

  /**
   * What a line that names an instant says of its stamp, and so of the lines behind it.
   *
   * @returns the line's instant; false where the stamp is not of this zone: from here on the offset counts that the line has
   */
  correct(clockMs: number, updateMs: number): number | false {
    const found = this.#zone.instants(clockMs).find((at) => Math.abs(at - updateMs) <= UPDATE_SLACK_MS);
    if (found === undefined) {
      this.#offsetMs = Math.round((clockMs - updateMs) / QUARTER_MS) * QUARTER_MS;
      this.#lastMs = clockMs - this.#offsetMs;
      return false;
    }
    this.#offsetMs = null;
    this.#lastMs = found;
    return found;
  }
}
