import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readTail, TailFiles, TemplateStore } from '../../../../services/core/node/template-store.ts';
import { tempDir } from '../../../helpers/leash.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

function folder(): string {
  const dir = tempDir('tails');
  ends.push(() => dir.remove());
  return join(dir.path, 'templates');
}

const bytes = (n: number): Uint8Array => new Uint8Array(1_000).fill(n);
const MINUTE = 60_000;

describe('the files', () => {
  it('hold a tail until eleven minutes after a newer one came, and the newest four for ever', async () => {
    const dir = folder();
    let now = 0;
    const files = new TailFiles(dir, () => now);
    for (let i = 0; i < 6; i++) {
      now = i * 2 * MINUTE;
      await files.keep(`k${i}`, i, bytes(i));
    }
    const there = (): string[] =>
      readdirSync(dir)
        .map((name) => name.replace('.bin', ''))
        .sort();
    // k0 was overtaken at 2 min, 8 min ago.
    expect(there()).toEqual(['k0', 'k1', 'k2', 'k3', 'k4', 'k5']);
    now = 13 * MINUTE;
    await files.keep('k6', 6, bytes(6));
    expect(there()).toEqual(['k1', 'k2', 'k3', 'k4', 'k5', 'k6']);
    now = 1_000 * MINUTE;
    await files.keep('k7', 7, bytes(7));
    expect(there()).toEqual(['k4', 'k5', 'k6', 'k7']);
  });

  it('of an earlier run are kept as long as its last jobs may live', async () => {
    const dir = folder();
    let now = 0;
    await new TailFiles(dir, () => now).keep('old', 1, bytes(1));
    now = 100 * MINUTE;
    const files = new TailFiles(dir, () => now);
    for (const key of ['a', 'b', 'c', 'd']) await files.keep(key, 1, bytes(2));
    expect(existsSync(join(dir, 'old.bin'))).toBe(true);
    now += 12 * MINUTE;
    await files.keep('e', 1, bytes(2));
    expect(existsSync(join(dir, 'old.bin'))).toBe(false);
  });

  it('that are cut short or changed are none, and are written anew', async () => {
    const dir = folder();
    const files = new TailFiles(dir);
    await files.keep('k', 3, bytes(9));
    const path = join(dir, 'k.bin');
    const whole = readFileSync(path);
    expect(readTail(dir, 'k')).toEqual({ txCount: 3, tail: Buffer.from(bytes(9)) });
    for (const broken of [whole.subarray(0, 500), whole.subarray(0, 5), Buffer.alloc(0), whole.with(600, 1)]) {
      writeFileSync(path, broken);
      expect(readTail(dir, 'k')).toBeNull();
    }
    await files.keep('k', 3, bytes(9));
    expect(readTail(dir, 'k')).not.toBeNull();
    expect(readTail(dir, 'nosuch')).toBeNull();
    writeFileSync(join(dir, 'half.bin.new'), 'x');
    new TailFiles(dir);
    expect(readdirSync(dir)).toEqual(['k.bin']);
  });

  it('come again under a key that was there before: once, as the newest', async () => {
    const dir = folder();
    let now = 0;
    const files = new TailFiles(dir, () => now);
    for (const key of ['a', 'b', 'c', 'd', 'a']) {
      await files.keep(key, 1, bytes(1));
      now += 20 * MINUTE;
    }
    await files.keep('e', 1, bytes(1));
    expect(readdirSync(dir).sort()).toEqual(['a.bin', 'c.bin', 'd.bin', 'e.bin']);
  });
});

describe('memory', () => {
  it('keeps the newest two, and those that no file holds', async () => {
    const dir = folder();
    const files = new TailFiles(dir);
    const store = new TemplateStore(dir);
    for (const key of ['a', 'b', 'c', 'd']) store.keep(key, 1, bytes(1));
    expect(store.sizeBytes).toBe(4_000);
    for (const key of ['a', 'b', 'c', 'd']) {
      await files.keep(key, 1, bytes(1));
      store.stored(key);
    }
    expect(store.sizeBytes).toBe(2_000);
    for (const key of ['a', 'b', 'c', 'd']) expect(store.tail(key, 1)).toHaveLength(1_000);
  });

  it('lets go of what no job needs, also where the disk takes nothing', () => {
    let now = 0;
    const store = new TemplateStore(folder(), () => now);
    for (let i = 0; i < 20; i++) {
      store.keep(`k${i}`, 1, bytes(i));
      now += 5 * MINUTE;
    }
    expect(store.sizeBytes).toBe(4_000);
    expect(store.tail('k19', 1)).not.toBeNull();
    expect(store.tail('k1', 1)).toBeNull();
  });

  it('knows an empty tail without having been told, and no tail of another number of transactions', () => {
    const store = new TemplateStore(folder());
    expect(store.tail('whatever', 0)).toHaveLength(0);
    store.keep('k', 5, bytes(1));
    expect(store.tail('k', 4)).toBeNull();
    store.keep('l', 5, bytes(1));
    store.keep('k', 5, null);
    expect(store.tail('k', 5)).toHaveLength(1_000);
  });
});

it('a folder that cannot be made is data_dir', () => {
  const dir = folder();
  writeFileSync(dir, '');
  for (const make of [() => new TemplateStore(dir), () => new TailFiles(dir)])
    expect(make).toThrow(expect.objectContaining({ code: 'data_dir' }));
});
