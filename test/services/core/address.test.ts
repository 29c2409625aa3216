import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isLoopback, isNetwork, networksOf } from '../../../services/core/address.ts';

test('an address is in a network by its leading bits, IPv4 also in its IPv6 form', () => {
  const inside = networksOf(['10.0.0.0/8', '192.0.2.7', '2001:db8:5::/48', 'unix']);
  for (const address of ['10.255.1.1', '192.0.2.7', '2001:db8:5:ffff::1', '::ffff:10.1.2.3', 'unix'])
    expect(inside(address), address).toBe(true);
  for (const address of ['11.0.0.1', '192.0.2.8', '2001:db8:6::1', '::1', '', 'nonsense'])
    expect(inside(address), address).toBe(false);
  expect(networksOf([])('10.0.0.1')).toBe(false);
});

test('what is no network is not taken for one', () => {
  for (const text of ['10.0.0.0/33', '::/129', '10.0.0', 'a.example', '10.0.0.0/', '10.0.0.0/-1', '', '10.0.0.0/8 '])
    expect(isNetwork(text), text).toBe(false);
  for (const text of ['10.0.0.0/0', '::/0', '127.0.0.1', 'fe80::1', 'unix']) expect(isNetwork(text), text).toBe(true);
});

test('loopback is this machine alone', () => {
  for (const address of ['127.0.0.1', '127.255.0.3', '::1', 'unix']) expect(isLoopback(address), address).toBe(true);
  fc.assert(
    fc.property(fc.ipV4(), (address) => isLoopback(address) === address.startsWith('127.')),
    { seed: 20261126 },
  );
});
