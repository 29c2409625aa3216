import { describe, expect, test } from 'vitest';
import { ckproxySplitBytes, EnonceAllocator, splitBytes } from '../../../../services/stratum/work/enonce.ts';

const hex = (bytes: Uint8Array | null): string | null => (bytes === null ? null : Buffer.from(bytes).toString('hex'));

describe('extranonce1', () => {
  test('is the counter, little-endian, as CKPool writes it', () => {
    const enonces = new EnonceAllocator(new Uint8Array(0), 4, 0x6b0286aan);
    expect(hex(enonces.take(0))).toBe('aa86026b');
    expect(hex(enonces.take(0))).toBe('ab86026b');
  });

  test('is not given twice while it lives or its jobs do', () => {
    const enonces = new EnonceAllocator(Uint8Array.of(0xee), 1, 0n);
    const taken = Array.from({ length: 256 }, () => enonces.take(0)!);
    expect(new Set(taken.map(hex)).size).toBe(256);
    expect(hex(taken[0]!)).toBe('ee00');
    expect(enonces.take(0)).toBeNull();
    enonces.release(taken[7]!, 1_000);
    expect(enonces.take(500_000)).toBeNull();
    expect(hex(enonces.take(602_000))).toBe('ee07');
  });

  test('a released one can be taken back once', () => {
    const enonces = new EnonceAllocator(new Uint8Array(0), 4, 0n);
    const one = enonces.take(0)!;
    expect(enonces.takeBack(one)).toBe(false);
    enonces.release(one, 0);
    expect(enonces.takeBack(one)).toBe(true);
    expect(enonces.takeBack(one)).toBe(false);
  });

  test('one that a line of another process has is given to nobody, however long that is, until it comes back', () => {
    const enonces = new EnonceAllocator(Uint8Array.of(0xee), 1, 0n);
    const away = [enonces.take(0)!, enonces.take(0)!];
    for (const each of away) enonces.release(each, 0);
    enonces.hold(Uint8Array.of(0xee, 9), 0);
    for (const each of [...away, Uint8Array.of(0xee, 9), Uint8Array.of(0xee, 9), Uint8Array.of(0xdd, 1)]) {
      enonces.leave(each);
    }
    const given = new Set(Array.from({ length: 253 }, () => hex(enonces.take(7_200_000))));
    for (const each of ['ee00', 'ee01', 'ee09']) expect(given).not.toContain(each);
    expect(enonces.take(7_200_000)).toBeNull();
    expect(enonces.takeBack(away[0]!)).toBe(true);
    expect(enonces.takeBack(away[0]!)).toBe(false);
    enonces.release(away[0]!, 7_200_000);
    expect(hex(enonces.take(9_000_000))).toBe('ee00');
  });

  test('no bytes of our own: one miner at a time', () => {
    const enonces = new EnonceAllocator(Uint8Array.of(1, 2), 0, 5n);
    const one = enonces.take(0)!;
    expect(hex(one)).toBe('0102');
    expect(enonces.take(0)).toBeNull();
    enonces.release(one, 0);
    expect(hex(enonces.take(0))).toBe('0102');
  });
});

test('extranonce2 is split 8 → 6 → 5 → 4, and 4 is left whole', () => {
  const below = (size: number): number => size - splitBytes(size);
  expect([8, 7, 6, 5, 4, 3, 2, 1].map(below)).toEqual([6, 6, 5, 4, 4, 3, 2, 1]);
  expect(below(16)).toBe(14);
});

test('under compat ckpool it is split as CKProxy does: 8 → 4 → 3', () => {
  const below = (size: number): number => size - ckproxySplitBytes(size);
  expect([8, 7, 6, 5, 4, 3, 2, 1].map(below)).toEqual([4, 5, 4, 4, 3, 3, 2, 1]);
});
