import { expect, test } from 'vitest';
import { Bans } from '../../../services/stratum/bans.ts';

function bans(): { bans: Bans; tick(minutes: number): void } {
  let now = 1_000;
  return {
    bans: new Bans(() => now),
    tick: (minutes) => {
      now += minutes * 60_000;
    },
  };
}

test('three closed lines within ten minutes ban the pair for ten minutes; then it begins anew', () => {
  const { bans: of, tick } = bans();
  expect(of.closed('192.0.2.1', 'alice')).toBe(false);
  tick(4);
  expect(of.closed('192.0.2.1', 'alice')).toBe(false);
  expect(of.leftMs('192.0.2.1', 'alice')).toBe(0);
  tick(4);
  expect(of.closed('192.0.2.1', 'alice')).toBe(true);
  expect(of.leftMs('192.0.2.1', 'alice')).toBe(600_000);
  expect([of.all.length, of.total]).toEqual([1, 1]);
  tick(9);
  expect(of.leftMs('192.0.2.1', 'alice')).toBe(60_000);
  tick(1);
  expect(of.leftMs('192.0.2.1', 'alice')).toBe(0);
  expect([of.all.length, of.total]).toEqual([0, 1]);
  expect(of.closed('192.0.2.1', 'alice')).toBe(false);
});

test('three closed lines in more than ten minutes ban nobody', () => {
  const { bans: of, tick } = bans();
  for (let i = 0; i < 10; i++) {
    expect(of.closed('192.0.2.1', 'alice')).toBe(false);
    tick(5);
  }
});

test('another user there and the same user elsewhere are let in; a /64 is one address', () => {
  const { bans: of } = bans();
  for (const host of ['1', '2', '3']) of.closed(`2001:db8::${host}`, 'alice');
  expect(of.leftMs('2001:db8::4', 'alice')).toBeGreaterThan(0);
  expect(of.leftMs('2001:db8::4', 'bob')).toBe(0);
  expect(of.leftMs('2001:db8:1::4', 'alice')).toBe(0);
});

test('a hundred thousand users are not remembered', () => {
  const { bans: of } = bans();
  for (let i = 0; i < 100_000; i++) of.closed('192.0.2.1', `user ${i}`);
  expect(of.closed('192.0.2.1', 'user 0')).toBe(false);
  for (let i = 0; i < 2; i++) of.closed('192.0.2.1', 'user 99999');
  expect(of.leftMs('192.0.2.1', 'user 99999')).toBeGreaterThan(0);
});

test('what another process counts is handed over and held here, and tells how much longer to who comes later', () => {
  const closed: string[] = [];
  let now = 0;
  const worker = new Bans(
    () => now,
    (address, user) => void closed.push(`${address} ${user}`),
  );
  for (let i = 0; i < 5; i++) expect(worker.closed('192.0.2.1', 'alice')).toBe(false);
  expect(closed).toHaveLength(5);
  expect(worker.leftMs('192.0.2.1', 'alice')).toBe(0);
  worker.hold('192.0.2.1', 'alice', 5_000);
  now = 2_000;
  expect(worker.all).toEqual([{ address: '192.0.2.1', user: 'alice', forMs: 3_000 }]);
  now = 5_000;
  expect([worker.leftMs('192.0.2.1', 'alice'), worker.all.length]).toEqual([0, 0]);
});
