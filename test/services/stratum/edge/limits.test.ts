import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ListenerConfig } from '../../../../services/core/config.ts';
import {
  ConnectionLimits,
  clientKey,
  clientLimit,
  Hushed,
  openFileLimit,
} from '../../../../services/stratum/edge/limits.ts';

function limits(of: Partial<ListenerConfig>): { limits: ConnectionLimits; tick(ms: number): void } {
  let now = 1_000_000;
  return {
    limits: new ConnectionLimits({ host: 'a', port: 1, ...of }, () => now),
    tick: (ms) => {
      now += ms;
    },
  };
}

describe('what counts as one client', () => {
  test('an IPv4 address, and the /64 of an IPv6 address', () => {
    expect(clientKey('192.0.2.1')).toBe('192.0.2.1');
    expect(clientKey('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64');
    expect(clientKey('2001:db8::6')).toBe('2001:db8:0:0::/64');
    expect(clientKey('2001:db8:1:2::')).toBe('2001:db8:1:2::/64');
    expect(clientKey('::1')).toBe('0:0:0:0::/64');
    expect(clientKey('64:ff9b::192.0.2.1')).toBe('64:ff9b:0:0::/64');
    expect(clientKey('1::2:3:4:5:6:7')).toBe('1:0:2:3::/64');
    expect(clientKey('::2:3:4:5:6:7:8')).toBe('0:2:3:4::/64');
  });

  test('all addresses of a /64 are one, those of another are not', () => {
    const group = fc.nat(0xffff).map((n) => n.toString(16));
    const text = (groups: string[]): string => new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
    fc.assert(
      fc.property(
        fc.array(group, { minLength: 4, maxLength: 4 }),
        fc.array(group, { minLength: 4, maxLength: 4 }),
        fc.array(group, { minLength: 4, maxLength: 4 }),
        (network, one, other) => {
          expect(clientKey(text([...network, ...one]))).toBe(clientKey(text([...network, ...other])));
          expect(clientKey(text([...network, ...one]))).toBe(`${network.join(':')}::/64`);
        },
      ),
      { seed: 20261126 },
    );
  });
});

describe('limits', () => {
  test('so many connections of one address, until one of them ends', () => {
    const { limits: of } = limits({ limits: { perAddress: 2 } });
    expect([of.take('192.0.2.1'), of.take('192.0.2.1'), of.take('192.0.2.1')]).toEqual([null, null, 'per_address']);
    expect(of.take('192.0.2.2')).toBeNull();
    of.release('192.0.2.1');
    expect(of.take('192.0.2.1')).toBeNull();
    expect([of.take('2001:db8::1'), of.take('2001:db8::2'), of.take('2001:db8::3')]).toEqual([
      null,
      null,
      'per_address',
    ]);
  });

  test('so many new ones a minute, also where they end at once', () => {
    const { limits: of, tick } = limits({ limits: { perMinute: 3 } });
    const visit = (): unknown => {
      const refusal = of.take('192.0.2.1');
      if (refusal === null) of.release('192.0.2.1');
      return refusal;
    };
    expect([visit(), visit(), visit(), visit()]).toEqual([null, null, null, 'per_minute']);
    tick(59_000);
    expect(visit()).toBe('per_minute');
    tick(1_000);
    expect(visit()).toBeNull();
  });

  test('so many in all, allowed addresses among them; loopback is always let in', () => {
    const { limits: of } = limits({ limits: { total: 2 }, allow: ['192.0.2.0/24'] });
    expect([of.take('192.0.2.1'), of.take('198.51.100.1'), of.take('192.0.2.2')]).toEqual([null, null, 'total']);
    expect(of.take('127.0.0.1')).toBeNull();
  });

  test('loopback, unix sockets, allowed networks and rental listeners are not counted', () => {
    const strict = { perAddress: 1, perMinute: 1 };
    const { limits: of } = limits({ limits: strict, allow: ['192.0.2.0/24'] });
    for (const address of ['127.0.0.1', '::1', 'unix', '192.0.2.9'])
      for (let i = 0; i < 10; i++) expect(of.take(address), address).toBeNull();
    expect(of.take('192.0.3.9')).toBeNull();
    expect(of.take('192.0.3.9')).toBe('per_address');

    const { limits: rental } = limits({ profile: 'rental' });
    for (let i = 0; i < 20_000; i++) expect(rental.take('192.0.2.1')).toBeNull();
    const { limits: own } = limits({ profile: 'rental', limits: strict });
    expect([own.take('192.0.2.1'), own.take('192.0.2.1')]).toEqual([null, 'per_address']);
  });

  test('a farm of 10,000 behind one address comes back within a minute by default, and the next is refused', () => {
    const { limits: of } = limits({});
    for (let i = 0; i < 10_000; i++) expect(of.take('192.0.2.1')).toBeNull();
    expect(of.take('192.0.2.1')).toBe('per_address');
  });

  test('addresses are forgotten a minute after their last connection', () => {
    const { limits: of, tick } = limits({});
    of.take('192.0.2.1');
    of.take('192.0.2.2');
    of.release('192.0.2.2');
    tick(60_000);
    of.sweep();
    expect(of.known).toBe(1);
    expect(of.open).toBe(1);
    of.release('192.0.2.1');
    of.sweep();
    expect([of.known, of.open]).toEqual([0, 0]);
  });
});

test('a line that strangers cause is said once a minute for each of them, then with their number; keys are bounded', () => {
  let now = 0;
  const lines: string[] = [];
  const hushed = new Hushed(
    (line) => void lines.push(line),
    () => now,
  );
  for (let i = 0; i < 100; i++) hushed.say('a', 'refused a');
  hushed.say('b', 'refused b');
  now += 60_000;
  hushed.say('a', 'refused a');
  expect(lines).toEqual(['refused a', 'refused b', 'refused a (99 more in the minute before)']);
  for (let i = 0; i < 5_000; i++) hushed.say(`key ${i}`, 'x');
  expect(lines.length).toBeLessThanOrEqual(1_002);
  now += 120_000;
  hushed.sweep();
  hushed.say('c', 'again');
  expect(lines.at(-1)).toBe('again');
});

test('connections leave descriptors to blocks and the journal, whatever maxclients says', () => {
  const limits = (soft: number | string): number =>
    openFileLimit(
      `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 524288               files\n`,
    );
  expect(clientLimit(0, limits(20_000))).toBe(18_000);
  expect(clientLimit(500, limits(20_000))).toBe(500);
  expect(clientLimit(50_000, limits(20_000))).toBe(18_000);
  expect(clientLimit(0, limits(256))).toBe(156);
  expect(clientLimit(0, limits(64))).toBe(16);
  expect(clientLimit(0, limits('unlimited'))).toBe(Infinity);
  expect(clientLimit(0, openFileLimit(''))).toBe(Infinity);
  expect(clientLimit(7, openFileLimit(''))).toBe(7);
});
