/** What a line may be credited at most, given what session events told of it. */
import { expect, test } from 'vitest';
import type { SessionEvent, ShareEvent } from '../../../schemas/events.ts';
import type { Finding } from '../../../services/audit/findings.ts';
import { InForce } from '../../../services/audit/in-force.ts';
import { Tally } from '../../../services/audit/tally.ts';

const WRITER = 1;
const place = { topic: 'share', partition: 'p', position: 'r:1', instance: 'p', run: 'r', sequence: 1 } as const;
const T = 1_795_327_660_000_000;
const at = (seconds: number): number => T + seconds * 1e6;

const told = (seconds: number, diff: number, more: Partial<SessionEvent> = {}): SessionEvent =>
  ({ kind: 'difficulty', client_id: 7, time_us: at(seconds), diff, reason: '', ...more }) as SessionEvent;
const begun = (seconds: number, diff: number, reason = ''): SessionEvent =>
  told(seconds, diff, { kind: 'subscribed', reason });

/** What is found of one share credited `diff` at `seconds`, on a job of `job` behind one of `before`. */
function found(
  sessions: readonly SessionEvent[],
  [seconds, diff]: readonly [number, number],
  { job: jobS, before: beforeS, late = [] }: { job?: number; before?: number; late?: readonly SessionEvent[] } = {},
): 'fine' | 'unknown' | string {
  const job = jobS ?? seconds;
  const before = beforeS ?? job - 30;
  const findings: Finding[] = [];
  const tally = new Tally((finding) => findings.push(finding));
  const force = new InForce(tally);
  for (const event of sessions) force.session(event, WRITER);
  const share = {
    kind: 'submitted',
    accepted: true,
    origin: 'o',
    worker: 'w',
    client_id: 7,
    time_us: at(seconds),
    diff,
    hash: '00',
  } as ShareEvent;
  const credit = force.holds(share, WRITER) ? null : force.check(share, WRITER, at(job), at(before));
  tally.share(share, place, []);
  if (credit !== null) {
    force.suspect(share, place, credit, true);
    for (const event of [...sessions, ...late]) force.again(event, WRITER);
    force.tellOver();
  }
  expect(force.count).toBe(0);
  expect(tally.counts.held + tally.counts.notHeld).toBe(1);
  if (findings.length > 0) return findings[0]!.problems[0]!.computed;
  return tally.counts.creditUnknown > 0 ? 'unknown' : 'fine';
}

test('the value in force, and any below it, may be credited; more may not', () => {
  expect(found([begun(0, 8)], [10, 8])).toBe('fine');
  expect(found([begun(0, 8)], [10, 3])).toBe('fine');
  expect(found([begun(0, 8)], [10, 8.000001])).toBe('8');
});

test('after a fall the old value counts on work from before it, and on later work no more', () => {
  const fall = [begun(0, 8), told(100, 2)];
  expect(found(fall, [110, 8], { job: 90 })).toBe('fine');
  expect(found(fall, [200, 8], { job: 170, before: 140 })).toBe('2');
  // With CKPool's rule it counts on the job behind the fall too.
  expect(found(fall, [125, 8], { job: 120, before: 90 })).toBe('fine');
});

test('a rise counts from then on, and not for a share from before it', () => {
  const rise = [begun(0, 2), told(100, 8)];
  expect(found(rise, [110, 8])).toBe('fine');
  expect(found(rise, [50, 8])).toBe('2');
});

test('of a line whose beginning was not read only work from after the first event is judged', () => {
  const alive = [told(100, 4, { kind: 'alive' })];
  expect(found(alive, [200, 8], { job: 190, before: 160 })).toBe('4');
  expect(found(alive, [110, 8], { job: 90 })).toBe('unknown');
  expect(found([], [110, 8])).toBe('unknown');
});

test('a session that went on from an earlier line has the difficulties of that one for its work', () => {
  const resumed = [begun(100, 4, 'resumed')];
  expect(found(resumed, [110, 8], { job: 90 })).toBe('unknown');
  expect(found(resumed, [200, 8], { job: 190, before: 160 })).toBe('4');
});

test('an event that the log delivers late, twice or out of order changes nothing', () => {
  expect(found([begun(0, 2), told(200, 2), told(100, 8), told(100, 8)], [150, 8])).toBe('fine');
  expect(found([begun(0, 2)], [150, 8], { late: [told(100, 8)] })).toBe('fine');
});

test('where the daemon says that it left events out nothing is known', () => {
  const left = told(300, 0, { kind: 'untold', client_id: 0, reason: '3 events of 192.0.2.1 were not written' });
  expect(found([begun(0, 2)], [150, 8], { late: [left] })).toBe('unknown');
});
