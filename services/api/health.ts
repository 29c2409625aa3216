/**
 * `healthz`: one answer to "does it work", from what the programs say of themselves (status files), ClickHouse and the disk.
 *
 * | check        | well while                                                       |
 * |--------------|------------------------------------------------------------------|
 * | programs     | every expected program renews its status, and names no problem   |
 * | jobs         | the newest job is younger than twice the update interval         |
 * | lag          | consumers are less than 60 s behind the log                      |
 * | dead letters | none since the start                                             |
 * | ClickHouse   | it answers                                                       |
 * | disk         | the reserve is free                                              |
 */
import { STATUS_FRESH_US, type Status } from '../core/status.ts';

/** Values that programs publish for these checks; whoever has one publishes it under this name. */
const HEALTH_VALUES = {
  /** pool, proxy: age of the newest job when the status was written, seconds. */
  jobAgeS: 'job_age_s',
  /** consume: age of the oldest record not yet in ClickHouse, seconds. */
  lagS: 'lag_s',
  /** consume: records put into dead_letters since the start. */
  deadLetters: 'dead_letters_count',
} as const;

const LAG_LIMIT_S = 60;
/** A program that nobody expects and that stopped longer ago than this is not missed: it was renamed or taken away. */
const FORGET_AFTER_US = 3_600 * 1_000_000;

export interface HealthInput {
  readonly nowUs: number;
  readonly statuses: readonly Status[];
  /** Names of status files that must be fresh. */
  readonly expected: readonly string[];
  readonly updateIntervalS: number;
  /** Newest job in ClickHouse, microseconds; serves where the daemon's status is not at hand. null: none or unknown. */
  readonly storedJobTimeUs: number | null;
  /** Dead letters in ClickHouse since this program's start; null: unknown. */
  readonly storedDeadLetters: number | null;
  /** What ClickHouse said instead of an answer; null: it answers. */
  readonly storeProblem: string | null;
  readonly diskFreeBytes: number;
  /** Free bytes below which shares are refused. */
  readonly diskReserveBytes: number;
}

export interface Problem {
  /** Program or part. */
  readonly part: string;
  readonly what: string;
  /** What an operator does about it. */
  readonly mend: string;
}

export interface Health {
  readonly status: 'ok' | 'wrong';
  readonly problems: readonly Problem[];
  readonly checks: {
    readonly job_age_s: number | null;
    readonly job_age_limit_s: number;
    readonly lag_s: number | null;
    readonly lag_limit_s: number;
    readonly dead_letters_count: number;
    readonly disk_free_bytes: number;
    readonly disk_reserve_bytes: number;
    readonly clickhouse: 'ok' | 'wrong';
  };
  readonly programs: readonly {
    readonly program: string;
    readonly status: 'ok' | 'wrong' | 'stopped';
    readonly age_s: number;
    readonly problems: readonly string[];
    readonly values: Readonly<Record<string, number | string>>;
  }[];
}

function numbersOf(statuses: readonly Status[], name: string): number[] {
  return statuses.map((status) => status.values[name]).filter((value) => typeof value === 'number');
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Puts the facts together; pure. */
export function healthOf(input: HealthInput): Health {
  const { nowUs, statuses } = input;
  const problems: Problem[] = [];
  const isFresh = (status: Status): boolean => nowUs - status.time_us < STATUS_FRESH_US;
  const fresh = statuses.filter(isFresh);

  for (const program of input.expected) {
    const found = statuses.find((status) => status.program === program);
    if (found !== undefined && isFresh(found)) continue;
    const ago = found === undefined ? '' : `; it last did ${Math.round((nowUs - found.time_us) / 1e6)} s ago`;
    problems.push({
      part: program,
      what: `${program} does not say that it runs${ago}`,
      mend: `start it (\`./lodestream start\` runs all), or read its log`,
    });
  }
  for (const status of statuses) {
    if (isFresh(status)) {
      for (const what of status.problems) {
        problems.push({ part: status.program, what, mend: `read the log of ${status.program}` });
      }
    } else if (!input.expected.includes(status.program) && nowUs - status.time_us < FORGET_AFTER_US) {
      problems.push({
        part: status.program,
        what: `${status.program} has said nothing for ${Math.round((nowUs - status.time_us) / 1e6)} s: it was killed, is too busy, or its disk is full`,
        mend: 'if it no longer runs, start it again; its log says why',
      });
    }
  }

  const jobAges = fresh.flatMap((status) => {
    const age = status.values[HEALTH_VALUES.jobAgeS];
    return typeof age === 'number' ? [age + (nowUs - status.time_us) / 1e6] : [];
  });
  const storedAgeS = input.storedJobTimeUs === null ? null : (nowUs - input.storedJobTimeUs) / 1e6;
  const jobAgeS = jobAges.length > 0 ? Math.max(0, Math.min(...jobAges)) : storedAgeS;
  const jobLimitS = input.updateIntervalS * 2;
  if (jobAgeS === null || jobAgeS >= jobLimitS) {
    problems.push({
      part: 'jobs',
      what:
        jobAgeS === null
          ? 'no job was built yet'
          : `the newest job is ${Math.round(jobAgeS)} s old, limit ${jobLimitS} s`,
      mend: 'see that the node answers and that the pool runs; without new jobs miners leave',
    });
  }

  const lags = numbersOf(fresh, HEALTH_VALUES.lagS);
  const lagS = lags.length > 0 ? Math.max(...lags) : null;
  if (lagS !== null && lagS >= LAG_LIMIT_S) {
    problems.push({
      part: 'consume',
      what: `consumers are ${Math.round(lagS)} s behind the log, limit ${LAG_LIMIT_S} s`,
      mend: 'nothing is lost; see that ClickHouse answers and keeps up',
    });
  }

  const deadLetters = Math.max(0, input.storedDeadLetters ?? 0, ...numbersOf(fresh, HEALTH_VALUES.deadLetters));
  if (deadLetters > 0) {
    problems.push({
      part: 'consume',
      what: `${deadLetters} records since the start could not be read`,
      mend: 'SELECT * FROM dead_letters says which and why',
    });
  }

  if (input.storeProblem !== null) {
    problems.push({
      part: 'clickhouse',
      what: `ClickHouse does not answer: ${input.storeProblem}`,
      mend: 'start it; shares are kept in the log meanwhile and nothing is lost',
    });
  }

  if (input.diskFreeBytes < input.diskReserveBytes) {
    problems.push({
      part: 'disk',
      what: `${Math.floor(input.diskFreeBytes / 1048576)} MiB are free under the data directory, reserve ${Math.floor(input.diskReserveBytes / 1048576)} MiB`,
      mend: 'free space: shares are refused, and after a minute miners are sent away',
    });
  }

  return {
    status: problems.length === 0 ? 'ok' : 'wrong',
    problems,
    checks: {
      job_age_s: jobAgeS === null ? null : round(jobAgeS),
      job_age_limit_s: jobLimitS,
      lag_s: lagS === null ? null : round(lagS),
      lag_limit_s: LAG_LIMIT_S,
      dead_letters_count: deadLetters,
      disk_free_bytes: input.diskFreeBytes,
      disk_reserve_bytes: input.diskReserveBytes,
      clickhouse: input.storeProblem === null ? 'ok' : 'wrong',
    },
    programs: statuses.map((status) => ({
      program: status.program,
      status: !isFresh(status) ? 'stopped' : status.problems.length > 0 ? 'wrong' : 'ok',
      age_s: round(Math.max(0, (nowUs - status.time_us) / 1e6)),
      problems: status.problems,
      values: status.values,
    })),
  };
}
