/**
 * The tails of blocks (see `template.ts`): the bytes that follow the coinbase, 1 to 4 MB on a busy chain, kept apart from the jobs because
 * only a solved block needs them.
 * Flow: `template-worker.ts` → `TailFiles` (writes and sweeps) and → `template-thread.ts` → `TemplateStore` → pool.ts, when a share solves.
 *
 * A tail is in memory from the moment in which its template is announced; its file is written right after that, because a new block must
 * not wait for a disk. A process that dies within that window (the time to write 1 to 4 MB) has jobs in the journal whose blocks nobody
 * can build; after it, a restarted process can. Memory keeps the newest two, and those that no file holds.
 *
 * | field    | offset | length | order         |                                      |
 * |----------|--------|--------|---------------|--------------------------------------|
 * | mark     | 0      | 4      |               | `LST1`                               |
 * | tx count | 4      | 4      | little-endian | transactions in the tail             |
 * | crc32    | 8      | 4      | little-endian | of the tail: half a file is none     |
 * | tail     | 12     | rest   |               |                                      |
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { PoolError } from '../errors.ts';

const MARK = 'LST1';
const HEAD_BYTES = 12;
/** As long as a job is known after a newer template came, and some more for what was just sent; at least so many are kept. */
const TAIL_LIFE_MS = 660_000;
const TAILS_KEPT = 4;
/** The present template and the one before: nearly every block is solved on these. */
const IN_MEMORY = 2;
const NO_BYTES = new Uint8Array(0);

/** Where a block's tail is found. */
export interface Tails {
  /**
   * @param key - `tailKeyOf` the job
   * @param txCount - transactions besides the coinbase; 0: the tail is empty
   * @returns null where it is known neither in memory nor on disk
   */
  tail(key: string, txCount: number): Uint8Array | null;
}

/** @throws PoolError data_dir */
function makeDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o750 });
  } catch (cause) {
    throw new PoolError('data_dir', `${dir}: ${(cause as Error).message}`, { cause });
  }
}

function pathOf(dir: string, key: string): string {
  return join(dir, `${key}.bin`);
}

/**
 * A tail from its file.
 *
 * @param dir - `<data-dir>/templates`
 * @returns null where there is no file, or only part of one
 */
export function readTail(dir: string, key: string): { readonly txCount: number; readonly tail: Uint8Array } | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(pathOf(dir, key));
  } catch {
    return null;
  }
  if (bytes.length < HEAD_BYTES || bytes.toString('latin1', 0, 4) !== MARK) return null;
  const tail = bytes.subarray(HEAD_BYTES);
  if (crc32(tail) !== bytes.readUInt32LE(8)) return null;
  return { txCount: bytes.readUInt32LE(4), tail };
}

/** The files: written by the thread that has the templates, and swept there. */
export class TailFiles {
  readonly #dir: string;
  readonly #nowMs: () => number;
  /** By age; since when a newer template is there, null for the present one. */
  readonly #known = new Map<string, number | null>();

  /**
   * @param dir - made where absent
   * @throws PoolError data_dir
   */
  constructor(dir: string, nowMs: () => number = Date.now) {
    this.#dir = dir;
    this.#nowMs = nowMs;
    makeDir(dir);
    // An earlier run's: its last jobs may still be mined for as long as they live.
    const now = nowMs();
    for (const name of readdirSync(dir)) {
      if (name.endsWith('.bin')) this.#known.set(name.slice(0, -'.bin'.length), now);
      // It died while it wrote.
      else if (name.endsWith('.bin.new')) rmSync(join(dir, name), { force: true });
    }
  }

  /** Writes a tail and removes those that no job needs any more. @throws Error where the disk refuses */
  async keep(key: string, txCount: number, tail: Uint8Array): Promise<void> {
    const now = this.#nowMs();
    const again = this.#known.has(key);
    this.#known.delete(key);
    for (const [each, since] of this.#known) if (since === null) this.#known.set(each, now);
    this.#known.set(key, null);
    if (!again || readTail(this.#dir, key) === null) {
      const head = Buffer.alloc(HEAD_BYTES);
      head.write(MARK, 'latin1');
      head.writeUInt32LE(txCount, 4);
      head.writeUInt32LE(crc32(tail), 8);
      const path = pathOf(this.#dir, key);
      await writeFile(`${path}.new`, [head, tail], { mode: 0o640 });
      await rename(`${path}.new`, path);
    }
    for (const [each, since] of this.#known) {
      if (this.#known.size <= TAILS_KEPT || since === null || now - since < TAIL_LIFE_MS) break;
      this.#known.delete(each);
      await rm(pathOf(this.#dir, each), { force: true });
    }
  }
}

interface Kept {
  readonly tail: Uint8Array;
  readonly txCount: number;
  inFile: boolean;
  /** Since when a newer template is there; null for the present one. */
  sinceMs: number | null;
}

/** The tails as the process that builds blocks sees them. */
export class TemplateStore implements Tails {
  readonly #dir: string;
  readonly #nowMs: () => number;
  /** By age. */
  readonly #kept = new Map<string, Kept>();

  /**
   * @param dir - made where absent
   * @throws PoolError data_dir
   */
  constructor(dir: string, nowMs: () => number = Date.now) {
    makeDir(dir);
    this.#dir = dir;
    this.#nowMs = nowMs;
  }

  /** Bytes held in memory. */
  get sizeBytes(): number {
    let sum = 0;
    for (const { tail } of this.#kept.values()) sum += tail.length;
    return sum;
  }

  /** A template was announced. @param tail - null: as announced before under this key */
  keep(key: string, txCount: number, tail: Uint8Array | null): void {
    const now = this.#nowMs();
    const before = this.#kept.get(key);
    this.#kept.delete(key);
    for (const kept of this.#kept.values()) kept.sinceMs ??= now;
    if (before !== undefined) this.#kept.set(key, Object.assign(before, { sinceMs: null }));
    else if (tail !== null) this.#kept.set(key, { tail, txCount, inFile: false, sinceMs: null });
    this.#sweep(now);
  }

  /** Its file is written. */
  stored(key: string): void {
    const kept = this.#kept.get(key);
    if (kept !== undefined) kept.inFile = true;
    this.#sweep(this.#nowMs());
  }

  tail(key: string, txCount: number): Uint8Array | null {
    if (txCount === 0) return NO_BYTES;
    const found = this.#kept.get(key) ?? readTail(this.#dir, key);
    return found?.txCount === txCount ? found.tail : null;
  }

  #sweep(now: number): void {
    let left = this.#kept.size;
    for (const [key, { inFile, sinceMs }] of this.#kept) {
      if (left <= IN_MEMORY) return;
      left -= 1;
      const old = sinceMs !== null && now - sinceMs >= TAIL_LIFE_MS && left >= TAILS_KEPT;
      if (inFile || old) this.#kept.delete(key);
    }
  }
}
