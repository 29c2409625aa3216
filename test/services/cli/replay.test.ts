import { expect, test } from 'vitest';
import { monthFrom, progressLine, replayCommand, summaryText, verifyText } from '../../../services/cli/replay.ts';

const summary = {
  records: 1_200_000,
  rows: 1_199_990,
  dead_letters: 10,
  minutes: 1440,
  from: null,
  seconds: 4,
  aside_s: 0.8,
};

test('progress has records, their rate, what is behind and the seconds left', () => {
  const progress = { phase: 'reading', records: 50_000, rows: 49_000, behind: 100_000, what: '' } as const;
  expect(progressLine(progress, 25_000)).toBe('reading: 50,000 records, 25,000/s, 100,000 behind, 4 s left');
  expect(progressLine({ ...progress, behind: 0 }, 25_000)).toBe('reading: 50,000 records, 25,000/s, 0 behind');
  expect(progressLine({ ...progress, phase: 'comparing', what: 'shares_raw' }, 1)).toBe('comparing: shares_raw');
});

test('the summary says what was done, at which rate, what could not be taken in, and how long the consumers waited', () => {
  expect(summaryText(summary, 'rebuilt and swapped in').split('\n')).toEqual([
    'rebuilt and swapped in: 1,200,000 records, 1,199,990 rows, 1,440 minutes rolled up; 4.0 s, 299,998 rows/s',
    '10 records are dead letters',
    'the consumers stood aside for 0.8 s',
  ]);
  expect(summaryText({ ...summary, from: '2026-10' }, 'rebuilt and swapped in')).toMatch(
    /^rebuilt and swapped in, shares from 2026-10 on: 1,200,000 records/,
  );
});

const NOTHING = { missing: 0, different: 0, words: '' };

test('a comparison is a table, and below it what differs: sums, and rows by key with their columns', () => {
  const alike = {
    table: 'jobs_raw',
    same: true,
    live_rows: 20,
    rebuilt_rows: 20,
    live_hash: '0123456789abcdef'.repeat(2),
    rebuilt_hash: '0123456789abcdef'.repeat(2),
    sums: {},
    columns_missing: [],
    rows: [],
  };
  const wrong = {
    ...alike,
    table: 'shares_1m_raw',
    same: false,
    live_rows: 3,
    rebuilt_rows: 4,
    sums: { accepted: ['7', '8'] as const },
    rows: [
      { kind: 'missing' as const, key: { worker: 'a\u001b[1m' }, columns: {} },
      { kind: 'changed' as const, key: { worker: 'b' }, columns: { accepted: ['1', '2'] as const } },
    ],
  };
  expect(verifyText({ ...summary, same: false, tables: [alike, wrong], derivations: NOTHING }).split('\n')).toEqual([
    'table          rows  rebuilt           hash',
    'jobs_raw       20    20       same     0123456789abcdef',
    'shares_1m_raw  3     4        DIFFERS  0123456789abcdef',
    'shares_1m_raw:',
    '  sum of accepted: 7, rebuilt 8',
    // A worker's name is data: it moves no cursor.
    '  missing: worker "a\\u001b[1m"',
    '  changed: worker "b": accepted "1", rebuilt "2"',
    'extra: the tables have it, the log does not; missing: the log has it, the tables do not; changed: as it stands, then as rebuilt',
  ]);
  // Where nothing differs nothing has to be explained.
  expect(verifyText({ ...summary, same: true, tables: [alike], derivations: NOTHING })).not.toContain('extra');
  const derivations = { missing: 1, different: 0, words: 'not said: epoch bitcoin/7 closed' };
  expect(verifyText({ ...summary, same: false, tables: [], derivations })).toContain(
    'derivations in the log (epoch, hashrate, payout): not said: epoch bitcoin/7 closed',
  );
});

const NOW_MS = Date.UTC(2026, 9, 5, 12);

test.each([
  ['2026-10', '2026-10'],
  ['2026-10-05', '2026-10'],
  ['2026-10-05T11:59:59Z', '2026-10'],
  ['2026-10-05 11:00', '2026-10'],
  ['2026-10-01T00:30:00+01:00', '2026-09'],
  ['2024-02-29', '2024-02'],
  ['1970-01', '1970-01'],
])('--from %s is the month %s', (text, name) => {
  expect(monthFrom(text, NOW_MS).name).toBe(name);
});

test.each([
  '2026-11',
  '2026-10-06',
  '2026-10-05T12:00:01Z',
  '2026-13',
  '2026-00',
  '2026-02-30',
  '2025-02-29',
  '2026-10-05T25:00Z',
  'october',
  '2026',
  '',
  '26-10',
  '1969-12',
  '-1',
])('--from %j, which is no month or has not begun, is refused with what is expected', (text) => {
  expect(() => monthFrom(text, NOW_MS)).toThrow(/--from: expected a month \(2026-10\).* that has begun, got/);
});

test('--from does not go with dead letters, which are single records', async () => {
  const parsed = { values: { from: '2020-01', 'dead-letters': true }, positionals: [] };
  await expect(replayCommand(parsed)).rejects.toThrow('--dead-letters and --from do not go together');
});

test('two kinds of replay at once are refused', async () => {
  const parsed = { values: { verify: true, into: 'other' }, positionals: [] };
  await expect(replayCommand(parsed)).rejects.toThrow('--into and --verify do not go together');
});
