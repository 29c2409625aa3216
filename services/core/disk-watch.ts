/**
 * How much room there is on the file system of the data directory: looked at each few seconds, never per share. Below the configured reserve it
 * is `low` (who takes shares refuses them), and where the present rate leaves less than a day it says so.
 *
 *   statfs ──each 2 s──► DiskWatch ─┬─ low ──► stratum/facts.ts: shares are refused · daemon.ts: lines close
 *                                   ├─ problems, values ──► status file ──► healthz, metrics
 *                                   └─ room again ──► log/reserve-space.ts is filled up
 */
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLine } from './errors.ts';
import { heldSpace, takeSpace } from './log/reserve-space.ts';

const LOOK_MS = 2_000;
/** Room is there again when so much of the reserve is free: not at each byte to and fro. */
const AGAIN = 1.1;
/** The space that is taken in advance: a part of the reserve, and at most. */
const HELD_PART = 4;
const HELD_LIMIT_BYTES = 64 * 1024 * 1024;
/** A program that ends at once need not take space. */
const HOLD_AFTER_MS = 10_000;
/** The present rate is that of the last hour, as soon as ten minutes are known. */
const SAMPLE_MS = 60_000;
const SAMPLES = 60;
const LEAST_SPAN_MS = 600_000;
/** Room for less than so many hours is a problem. */
export const ALERT_H = 24;
const MIB = 1024 * 1024;

/** The reserve in bytes. @param totalBytes - of the file system */
export function reserveBytesOf(
  reserve: { readonly bytes: number; readonly percent: number },
  totalBytes: number,
): number {
  return Math.max(reserve.bytes, Math.floor((totalBytes * reserve.percent) / 100));
}

export interface Room {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface DiskWatchOptions {
  /** The data directory. */
  readonly dir: string;
  readonly reserve: { readonly bytes: number; readonly percent: number };
  readonly log: (line: string) => void;
  /** True: this process takes space in advance. One of a data directory does. Default false. */
  readonly holds?: boolean;
  /** For tests: what the file system says. */
  readonly room?: () => Promise<Room>;
  /** For tests: monotonic, milliseconds. */
  readonly nowMs?: () => number;
}

async function roomOf(dir: string): Promise<Room> {
  const { bavail, blocks, bsize } = await statfs(dir);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  readonly #samples: { readonly atMs: number; readonly freeBytes: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  #room: Room | null = null;
  #low = false;
  #looking: Promise<void> | null = null;
  #holding = false;
  #closed = false;
  #holdProblem: string | null = null;
  #alerted = false;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#startedMs = this.#nowMs();
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref();
    void this.look();
  }

  /** Less than the reserve is free. */
  get low(): boolean {
    return this.#low;
  }

  /** What is wrong with the room there is now. The same in all processes of a data directory. */
  get lowProblem(): string | null {
    if (!this.#low) return null;
    return `less than the reserve of ${Math.floor(this.#reserveBytes / MIB)} MiB is free under ${this.#options.dir}: shares are refused`;
  }

  /** Hours until the reserve is reached, at the rate of the last hour; Infinity while nothing is filled; null: not known yet. */
  get roomH(): number | null {
    const first = this.#samples[0];
    if (first === undefined || this.#room === null) return null;
    const spanMs = this.#nowMs() - first.atMs;
    if (spanMs < LEAST_SPAN_MS) return null;
    const filled = first.freeBytes - this.#room.freeBytes;
    if (filled <= 0) return Infinity;
    return (Math.max(0, this.#room.freeBytes - this.#reserveBytes) * spanMs) / filled / 3_600_000;
  }

  /** Said where less than a day is left. */
  get alert(): string | null {
    const hours = this.roomH;
    if (this.#low || hours === null || hours >= ALERT_H) return null;
    return `the disk has room for ${hours < 1 ? 'less than 1' : Math.floor(hours)} h at the present rate, then shares are refused`;
  }

  /** Gauges for the status file. */
  get values(): Record<string, number> {
    if (this.#room === null) return {};
    const hours = this.roomH;
    return {
      disk_low: this.#low ? 1 : 0,
      disk_held_bytes: heldSpace(this.#journalDir),
      ...(hours === null || hours === Infinity ? {} : { disk_room_h: hours }),
    };
  }

  get #journalDir(): string {
    return join(this.#options.dir, 'journal');
  }

  get #reserveBytes(): number {
    return reserveBytesOf(this.#options.reserve, this.#room?.totalBytes ?? 0);
  }

  /** Looks now. A look that hangs (a file system that is away) is not begun twice; what was seen last holds. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    if (this.#closed) return;
    try {
      this.#room = await (this.#options.room?.() ?? roomOf(this.#options.dir));
      this.#judge(this.#room);
    } catch {
      // The journal itself says what is wrong with the disk.
    }
  }

  #judge({ freeBytes }: Room): void {
    const { log } = this.#options;
    const reserve = this.#reserveBytes;
    if (!this.#low && freeBytes < reserve) {
      this.#low = true;
      log(`${this.lowProblem}; jobs, blocks, sessions and contracts go on`);
    } else if (this.#low && freeBytes >= reserve * AGAIN) {
      this.#low = false;
      log('the disk has room again: shares are taken');
    }
    const now = this.#nowMs();
    const newest = this.#samples.at(-1);
    if (newest === undefined || now - newest.atMs >= SAMPLE_MS) {
      this.#samples.push({ atMs: now, freeBytes });
      if (this.#samples.length > SAMPLES) this.#samples.shift();
    }
    const { alert } = this;
    if (alert !== null && !this.#alerted) log(alert);
    this.#alerted = alert !== null;
    if (this.#options.holds === true && now - this.#startedMs >= HOLD_AFTER_MS) void this.#hold();
  }

  /** Fills up the space that is held, while there is more room than reserve and space need. */
  async #hold(): Promise<void> {
    const wanted = Math.min(Math.floor(this.#reserveBytes / HELD_PART), HELD_LIMIT_BYTES);
    const missing = wanted - heldSpace(this.#journalDir);
    const mayGoOn = (): boolean =>
      !this.#closed && !this.#low && (this.#room?.freeBytes ?? 0) >= this.#reserveBytes * AGAIN + missing;
    if (this.#holding || missing <= 0 || !mayGoOn()) return;
    this.#holding = true;
    try {
      await takeSpace(this.#journalDir, wanted, mayGoOn);
      this.#holdProblem = null;
    } catch (error) {
      const line = `no space can be held for when the disk is full: ${errorLine(error)}`;
      if (this.#holdProblem !== line) this.#options.log(line);
      this.#holdProblem = line;
    } finally {
      this.#holding = false;
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }
}
