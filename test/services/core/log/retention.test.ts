import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LogEntry, Position } from '../../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../../services/core/log/journal.ts';
import { listSegments } from '../../../../services/core/log/journal-files.ts';
import { openPositions } from '../../../../services/core/log/positions.ts';
import { DAY_US, type RequiredReader, Retention } from '../../../../services/core/log/retention.ts';
import { sampleContract, sampleJob, sampleShare } from '../../../contracts/samples.ts';
import { tempJournal } from './journal-files.ts';

const T0 = 1_700_000_000_000_000;
const HOUR_US = DAY_US / 24;

let dir: string;
let remove: () => void;
let elapsedUs: number;
let wallUs: number;
const lines: string[] = [];
beforeEach(() => {
  ({ dir, remove } = tempJournal());
  elapsedUs = 0;
  wallUs = T0;
  lines.length = 0;
});
afterEach(() => remove());

const share = (n: number, timeUs: number): LogEntry => ({ topic: 'share', event: sampleShare(n, { time_us: timeUs }) });
const segments = (topic = 'share') => listSegments(join(dir, 'a', topic));

/** A journal with a share an hour, each in a segment of its own, and of every topic something. @returns what is behind all shares */
function fill(days: number, from = 0): { end: Position; run: string } {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  writer.append([
    { topic: 'job', event: sampleJob(from) },
    { topic: 'contract', event: sampleContract(from + 1) },
  ]);
  const hours = days * 24;
  for (let hour = 0; hour < hours; hour++) writer.append([share(from + hour, T0 + (from + hour) * HOUR_US)]);
  writer.close();
  return { end: `${writer.run}:${hours}`, run: writer.run };
}

const reader = (position: Position | null, name = 'relay'): RequiredReader => ({ name, load: () => position });

function retention(...required: RequiredReader[]): Retention {
  return new Retention({
    journalDir: dir,
    stateFile: join(dir, 'retention.json'),
    keepUs: 7 * DAY_US,
    required,
    log: (line) => void lines.push(line),
    nowUs: () => wallUs,
    elapsedUs: () => elapsedUs,
  });
}

/** Time as it goes by: an hour each. */
function live(one: Retention, days: number): number {
  let removed = 0;
  for (let hour = 0; hour < days * 24; hour++) {
    elapsedUs += HOUR_US;
    wallUs += HOUR_US;
    removed += one.run().segments;
  }
  return removed;
}

test('acknowledged segments go when they are older than the newest record by what is kept, and what is left reads on', async () => {
  const { end } = fill(20);
  wallUs = T0 + 20 * DAY_US;
  const one = retention(reader(end));
  expect(one.run().segments).toBe(0);
  // Nothing goes before a clock that is wrong could have been mended.
  expect(live(one, 6.9)).toBe(0);
  live(one, 0.2);
  const left = segments();
  // The newest record is that of hour 479; hours 311 to 479 are within seven days of it.
  expect(left).toHaveLength(7 * 24);
  expect(lines.at(-1)).toMatch(
    /^journal: \d+ segments of share of a \(\d+ MiB\) are acknowledged and older than 7 days; removed$/,
  );
  expect(segments('contract')).toHaveLength(1);
  const log = openJournalLog({ dir });
  const batch = await log.read('share', 'a', null, { maxRecords: 1000, waitMs: 0 });
  expect([batch.damage, batch.records.length, batch.records[0]!.sequence]).toEqual([[], 1, 312]);
  await log.close();
});

test('a required reader holds all that it has not acknowledged; one without a position holds everything', () => {
  const { run } = fill(20);
  wallUs = T0 + 20 * DAY_US;
  live(retention(reader(`${run}:480`), reader(null, 'other')), 8);
  expect(segments()).toHaveLength(480);
  live(retention(reader(`${run}:480`), reader(`${'0'.repeat(16)}:3`, 'of another journal')), 1);
  expect(segments()).toHaveLength(480);
  live(retention(reader(`${run}:480`), reader(`${run}:10`, 'slow')), 1);
  expect(segments()).toHaveLength(470);
  expect(segments()[0]!.ordinal).toBe(10);
});

test('a reader that is not required holds nothing, and is told what it missed when it comes back', async () => {
  const { run, end } = fill(20);
  wallUs = T0 + 20 * DAY_US;
  const forgotten = openPositions(join(dir, 'dashboard.sqlite'), { what: 'a test' });
  forgotten.save('share', 'a', `${run}:5`);
  live(retention(reader(end)), 8);
  expect(segments().length).toBeLessThan(200);
  const log = openJournalLog({ dir });
  const batch = await log.read('share', 'a', forgotten.load('share', 'a'), { maxRecords: 1000, waitMs: 0 });
  expect(batch.damage.map(({ reason }) => reason)).toEqual([
    `records 5 to 311 of run ${run} are not in the journal any more`,
  ]);
  expect(batch.records[0]!.sequence).toBe(312);
  await log.close();
  forgotten.close();
});

test('a clock that jumps forward a year removes nothing, the machine’s, the records’ or both', () => {
  const { end } = fill(6);
  wallUs = T0 + 6 * DAY_US;
  const one = retention(reader(end));
  live(one, 8);
  expect(segments()).toHaveLength(6 * 24);
  const year = 365 * DAY_US;
  wallUs += year;
  live(one, 0.5);
  expect(segments()).toHaveLength(6 * 24);
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  writer.append([share(9999, T0 + 14 * DAY_US + year)]);
  const both = retention(reader(`${writer.run}:1`));
  writer.close();
  // Half a day: the records of six days ago are not older for all that.
  live(both, 0.5);
  expect(segments()).toHaveLength(6 * 24 + 1);
  // The wall clock is mended, the record stays.
  wallUs -= year;
  live(both, 0.1);
  expect(segments()).toHaveLength(6 * 24 + 1);
});

test('the newest segment stays, so does the journal where nothing new comes, and a crash between the two files costs nothing', () => {
  const { end } = fill(1);
  wallUs = T0 + DAY_US;
  const one = retention(reader(end));
  live(one, 30);
  // The newest record is the measure: nothing has grown older than it.
  expect(segments()).toHaveLength(24);
  const [first] = segments();
  rmSync(first!.path);
  expect(existsSync(first!.indexPath)).toBe(true);
  openJournalWriter({ dir, instance: 'a' }).close();
  expect(existsSync(first!.indexPath)).toBe(false);
});

test('a state that is lost or damaged begins the waiting anew', () => {
  const { end } = fill(20);
  wallUs = T0 + 20 * DAY_US;
  live(retention(reader(end)), 6);
  writeFileSync(join(dir, 'retention.json'), '{');
  live(retention(reader(end)), 6);
  expect(segments()).toHaveLength(480);
  expect(lines[0]).toContain('segments are kept as if nothing were known');
  expect(JSON.parse(readFileSync(join(dir, 'retention.json'), 'utf8')).lived_us).toBeLessThan(6.1 * DAY_US);
});

test('without a required reader there is no retention', () => {
  expect(() => retention()).toThrow(RangeError);
});
