import { describe, expect, test } from 'vitest';
import { type HealthInput, healthOf } from '../../../services/api/health.ts';
import { metricsText } from '../../../services/api/metrics.ts';
import type { Status } from '../../../services/core/status.ts';

const DISK_RESERVE_BYTES = 256 * 1024 * 1024;
const nowUs = 1_800_000_000_000_000;
const status = (program: string, values: Status['values'] = {}, more: Partial<Status> = {}): Status => ({
  program,
  pid: 1,
  time_us: nowUs - 500_000,
  problems: [],
  values,
  ...more,
});
const well: HealthInput = {
  nowUs,
  statuses: [
    status('chain'),
    status('ckpool', { job_age_s: 3 }),
    status('consume', { lag_s: 0, dead_letters_count: 0 }),
  ],
  expected: ['chain', 'consume'],
  updateIntervalS: 30,
  storedJobTimeUs: null,
  storedDeadLetters: 0,
  storeProblem: null,
  diskFreeBytes: 10 * DISK_RESERVE_BYTES,
  diskReserveBytes: DISK_RESERVE_BYTES,
};

describe('healthz', () => {
  test('is well when everything is', () => {
    expect(healthOf(well)).toMatchObject({ status: 'ok', problems: [], checks: { job_age_s: 3.5, lag_s: 0 } });
  });

  test.each<[string, Partial<HealthInput>, string, RegExp]>([
    [
      'a job of twice the update interval',
      { statuses: [status('chain'), status('consume'), status('ckpool', { job_age_s: 59.5 })] },
      'jobs',
      /60 s old, limit 60 s/,
    ],
    ['no job at all', { statuses: [status('chain'), status('consume')] }, 'jobs', /no job was built yet/],
    [
      'an old job in ClickHouse where no daemon says more',
      { statuses: [status('chain'), status('consume')], storedJobTimeUs: nowUs - 90e6 },
      'jobs',
      /90 s old/,
    ],
    [
      'a lag of a minute',
      { statuses: [...well.statuses, status('consume2', { lag_s: 60 })] },
      'consume',
      /60 s behind the log/,
    ],
    ['a dead letter', { storedDeadLetters: 2 }, 'consume', /2 records since the start could not be read/],
    [
      'a dead letter that only the consumer knows of',
      { statuses: [...well.statuses, status('c2', { dead_letters_count: 1 })] },
      'consume',
      /1 records/,
    ],
    [
      'ClickHouse away',
      { storeProblem: 'connect ECONNREFUSED' },
      'clickhouse',
      /does not answer: connect ECONNREFUSED/,
    ],
    [
      'the disk reserve touched',
      { diskFreeBytes: DISK_RESERVE_BYTES - 1 },
      'disk',
      /255 MiB are free .* reserve 256 MiB/,
    ],
    [
      'an expected program that never ran',
      { expected: ['chain', 'consume', 'relay'] },
      'relay',
      /relay does not say that it runs$/,
    ],
    [
      'an expected program that stopped',
      { statuses: well.statuses.map((s) => (s.program === 'chain' ? { ...s, time_us: nowUs - 9e6 } : s)) },
      'chain',
      /it last did 9 s ago/,
    ],
    [
      'a program that died',
      { statuses: [...well.statuses, status('other', {}, { time_us: nowUs - 60e6 })] },
      'other',
      /other has said nothing for 60 s/,
    ],
    [
      'a problem that a program names',
      { statuses: [...well.statuses, status('x', {}, { problems: ['the node is gone'] })] },
      'x',
      /^the node is gone$/,
    ],
  ])('%s is named, with what to do', (_, change, part, what) => {
    const health = healthOf({ ...well, ...change });
    expect(health.status).toBe('wrong');
    expect(health.problems).toHaveLength(1);
    expect(health.problems[0]).toMatchObject({ part, what: expect.stringMatching(what) });
    expect(health.problems[0]!.mend).not.toBe('');
  });

  test('a program that was taken away long ago is forgotten, and what it said last counts for nothing', () => {
    const old = status('renamed', { lag_s: 900, dead_letters_count: 5, job_age_s: 0 }, { time_us: nowUs - 4_000e6 });
    expect(healthOf({ ...well, statuses: [...well.statuses, old] }).status).toBe('ok');
  });
});

describe('metrics', () => {
  test('are Prometheus text: each family once, with type and help, labels by program only', () => {
    const text = metricsText(
      healthOf({
        ...well,
        statuses: [
          ...well.statuses,
          status('we"ird\\', { shares_accepted_count: 5, 'odd name': 2, text: 'x', a_pid: 3 }),
        ],
      }),
    );
    expect(text).toContain('# TYPE lodestream_healthy gauge\nlodestream_healthy 1\n');
    expect(text).toContain('# TYPE lodestream_program_shares_accepted_count counter\n');
    expect(text).toContain('lodestream_program_shares_accepted_count{program="we\\"ird\\\\"} 5\n');
    expect(text).toContain('lodestream_program_odd_name{program="we\\"ird\\\\"} 2\n');
    expect(text).not.toContain('_pid');
    const types = text.split('\n').filter((line) => line.startsWith('# TYPE'));
    expect(new Set(types).size).toBe(types.length);
    for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
      expect(line).toMatch(/^[a-z_]+(\{program="[^\n]*"\})? -?[0-9.e+]+$/);
    }
  });
});
