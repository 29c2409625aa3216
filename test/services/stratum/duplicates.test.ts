import { describe, expect, test } from 'vitest';
import { Duplicates } from '../../../services/stratum/duplicates.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

/** 32-bit numbers. */
function random(seed: number): () => number {
  const next = seeded(seed);
  return () => Math.floor(next() * 2 ** 32);
}

describe(`the memory of duplicates (SEED=${SEED})`, () => {
  test('does what a Set does, through growth and removal, for keys that are alike in any of their words', () => {
    const next = random(SEED);
    for (let round = 0; round < 4; round++) {
      const seen = new Duplicates();
      const set = new Set<string>();
      // Few values a word: many keys share words, and some come again; 0 is among them.
      const range = 2 + (next() % 30);
      const word = (): number => (next() % 4 === 0 ? next() : Math.imul(next() % range, 0x01000193) >>> 0);
      for (let step = 0; step < 8_000; step++) {
        const words = Uint32Array.of(9, word(), word(), word(), 9);
        const key = words.slice(1, 4).join();
        const what = next() % 8;
        if (what === 0) expect(seen.delete(words, 1), key).toBe(set.delete(key));
        else if (what === 1) expect(seen.has(words, 1), key).toBe(set.has(key));
        else {
          expect(seen.add(words, 1), key).toBe(!set.has(key));
          set.add(key);
        }
        expect(seen.size).toBe(set.size);
      }
      for (const key of set) expect(seen.has(Uint32Array.from(key.split(',').map(Number)), 0), key).toBe(true);
    }
  });

  test('holds a share in at most 40 bytes, and in at most 80 while it grows', () => {
    const next = random(SEED);
    const seen = new Duplicates();
    let steady = 0;
    let growing = 0;
    for (let n = 1; n <= 300_000; n++) {
      const before = seen.bytes;
      seen.add(Uint32Array.of(next(), next(), next()), 0);
      if (n < 64) continue;
      const each = seen.bytes / n;
      growing = Math.max(growing, each);
      if (seen.bytes === before) continue;
      // A table was let go: what is left is the settled state.
      if (seen.bytes < before) steady = Math.max(steady, each);
    }
    expect(steady).toBeGreaterThan(20);
    expect(steady).toBeLessThanOrEqual(40);
    expect(growing).toBeLessThanOrEqual(80);
    console.log(
      `bytes per share: ${steady.toFixed(1)} at most when settled, ${growing.toFixed(1)} at most while it grows`,
    );
  });

  test('an empty one takes no memory: each change of difficulty makes a job of its own', () => {
    expect(new Duplicates().bytes).toBe(0);
    expect(new Duplicates().has(Uint32Array.of(0, 0, 0), 0)).toBe(false);
  });
});
