/**
 * The events of one turn of the loop: collected, appended to the journal in one call before any answer of the turn goes out, then the
 * share log lines, then the answers. This is where "an acknowledged share is never lost" is kept.
 *
 * With `fsync` the answers of a turn wait for the sync that covers it: one at a time, beside the loop, begun at least `GROUP_MS` after the one
 * before, for all turns in between.
 *
 * Where the disk refuses, the shares of the turn are refused towards the miners; jobs, sessions and blocks are kept and appended with a
 * later turn, because mining and blocks go on.
 */
import { encodeEvent } from '../../schemas/codec.ts';
import type { BlockInput, JobInput, SessionInput, ShareInput } from '../../schemas/events.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import type { JournalWriter, LogEntry } from '../core/log/event-log.ts';
import { ShareRecords } from './share-record.ts';
import type { ShareLog } from './sharelog.ts';

/** Most entries that wait for a disk to take them again. */
const KEPT_ENTRIES = 10_000;
/** The monotonic clock is brought back to the wall clock when they differ by more than this; a difference above the second is an event. */
const CLOCK_SLACK_MS = 5;
const CLOCK_STEP_MS = 1_000;

/** Least time between the beginnings of two syncs: so long a share waits at most for one to begin, where the disk is fast. */
const GROUP_MS = 5;
/** A sync that takes longer is said. */
const SLOW_SYNC_MS = 2_000;

/** A turn that is written and waits for its sync. */
interface HeldTurn {
  /** What is written again where the sync fails. */
  readonly entries: readonly LogEntry[];
  readonly stored: boolean;
  readonly release: (journaled: boolean) => void;
}

/** What an append has put into the journal, beside shares. */
interface Appended {
  readonly entries: readonly LogEntry[];
  /** It is not safe before the next sync. */
  readonly waits: boolean;
}

const NOTHING: Appended = { entries: [], waits: false };

export class Facts {
  readonly #writer: JournalWriter;
  readonly #shareLog: ShareLog | null;
  readonly #log: Log;
  readonly #onFlushed: (ok: boolean) => void;
  readonly #beforeAppend: () => void;
  readonly #hold: () => (journaled: boolean) => void;
  #held: HeldTurn[] = [];
  #syncTimer: NodeJS.Timeout | null = null;
  /** The sync that is on its way. */
  #syncing: Promise<void> | null = null;
  #syncBeganMs = Number.NEGATIVE_INFINITY;
  #syncProblem: string | null = null;
  /** The turn's shares, encoded. */
  readonly records = new ShareRecords();
  #kept: LogEntry[] = [];
  #scheduled = false;
  #lastTimeUs = 0;
  /** Wall clock at zero of the monotonic one, microseconds; follows the wall clock when that is set. */
  #originUs = performance.timeOrigin * 1000;
  /** Told when the wall clock was set, milliseconds forward. */
  onClockStep: ((ms: number) => void) | null = null;
  #problem: string | null = null;
  #logProblem: string | null = null;
  /** True: shares are refused, for there is no room for them. Asked once a turn. */
  noRoom: () => boolean = () => false;

  /**
   * @param onFlushed - sends the turn's answers; false: its shares are not in the journal
   * @param beforeAppend - judges what waits: it belongs to the turn that ends
   * @param hold - puts the turn's answers aside; what it gives does what `onFlushed` would have
   */
  constructor(
    writer: JournalWriter,
    shareLog: ShareLog | null,
    log: Log,
    onFlushed: (ok: boolean) => void,
    beforeAppend: () => void = () => {},
    hold: () => (journaled: boolean) => void = () => onFlushed,
  ) {
    this.#beforeAppend = beforeAppend;
    this.#hold = hold;
    this.#writer = writer;
    this.#shareLog = shareLog;
    this.#log = log;
    this.#onFlushed = onFlushed;
  }

  /** What keeps events from the disk now, or nothing. */
  get problems(): string[] {
    const waiting = this.stalled ? 'the disk has not synced for seconds: answers wait for it' : null;
    return [this.#problem, this.#syncProblem, waiting, this.#logProblem].filter((line) => line !== null);
  }

  /** The sync under way takes so long that answers are not to be waited for. */
  get stalled(): boolean {
    return this.#syncing !== null && performance.now() - this.#syncBeganMs > SLOW_SYNC_MS;
  }

  /** True while shares are refused, or not answered: below the disk's reserve, or because the disk takes none. */
  get refuses(): boolean {
    return this.#problem !== null || this.#syncProblem !== null || this.stalled || this.noRoom();
  }

  /** Now, in microseconds, strictly above every value given before: two receipts never share an instant. */
  timeUs(): number {
    const sinceUs = performance.now() * 1000;
    const offMs = Date.now() - (this.#originUs + sinceUs) / 1000;
    if (Math.abs(offMs) > CLOCK_SLACK_MS) this.#originUs += offMs * 1000;
    this.#lastTimeUs = Math.max(Math.floor(this.#originUs + sinceUs), this.#lastTimeUs + 1);
    if (Math.abs(offMs) > CLOCK_STEP_MS) this.onClockStep?.(Math.round(offMs));
    return this.#lastTimeUs;
  }

  job(event: JobInput): void {
    this.#keep({ topic: 'job', event });
  }

  session(event: SessionInput): void {
    this.#keep({ topic: 'session', event });
  }

  block(event: BlockInput): void {
    this.#keep({ topic: 'block', event });
  }

  /** @throws Error where the event does not fit its schema */
  share(event: ShareInput): void {
    this.records.append(encodeEvent('share', event));
    this.schedule();
  }

  /** Ends the turn after everything that is ready in this round of the loop has been read. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  /** Appends now, and answers, or leaves that to the sync that covers the turn. */
  flush(): void {
    this.#beforeAppend();
    this.#scheduled = false;
    let ok = this.records.count === 0 || !this.noRoom();
    if (!ok) this.records.clear();
    let appended = NOTHING;
    if (this.#kept.length + this.records.count > 0) {
      try {
        appended = this.#append();
        // In space that is held for it a full disk takes jobs and blocks, and no shares.
        if (!this.#writer.cramped) {
          if (this.#problem !== null) this.#log('the journal takes events again');
          this.#problem = null;
        }
      } catch (error) {
        ok = false;
        if (this.records.count > 0 && this.#kept.length > 0) {
          this.records.clear();
          try {
            appended = this.#append();
          } catch {
            // They wait.
          }
        }
        const line = errorLine(error);
        if (this.#problem !== line) this.#log(`events cannot be written, shares are refused: ${line}`);
        this.#problem = line;
        if (this.#kept.length > KEPT_ENTRIES) {
          // Blocks and jobs are worth more than who came and went.
          this.#kept = this.#kept.filter((entry) => entry.topic !== 'session').slice(-KEPT_ENTRIES);
        }
      }
    }
    this.records.clear();
    this.#writeShareLog(ok);
    // Answers that need no sync stay behind those that do.
    if (appended.waits || this.#held.length > 0 || this.#syncing !== null) {
      this.#held.push({ entries: appended.entries, stored: ok, release: this.#hold() });
      this.#syncSoon();
    } else {
      this.#onFlushed(ok);
    }
  }

  /** Writes what is left; resolves when all is as safe as it is to be, and answered. */
  async close(): Promise<void> {
    this.flush();
    while (this.#held.length > 0 || this.#syncing !== null) await (this.#syncing ?? this.#beginSync());
  }

  #syncSoon(): void {
    if (this.#syncing !== null || this.#syncTimer !== null) return;
    const restMs = this.#syncBeganMs + GROUP_MS - performance.now();
    if (restMs <= 0) void this.#beginSync();
    else this.#syncTimer = setTimeout(() => void this.#beginSync(), restMs);
  }

  #beginSync(): Promise<void> {
    if (this.#syncTimer !== null) clearTimeout(this.#syncTimer);
    this.#syncTimer = null;
    this.#syncBeganMs = performance.now();
    const group = this.#held;
    this.#held = [];
    this.#syncing = this.#writer.sync().then(
      () => this.#synced(group, null),
      (error: unknown) => this.#synced([...group, ...this.#held.splice(0)], errorLine(error)),
    );
    return this.#syncing;
  }

  #synced(group: readonly HeldTurn[], problem: string | null): void {
    this.#syncing = null;
    if (problem !== null) {
      if (this.#syncProblem !== problem) this.#log(`events cannot be synced, shares are refused: ${problem}`);
      // Each counts once, however often it is written.
      this.#kept = [...group.flatMap(({ entries }) => entries), ...this.#kept];
    } else if (this.#syncProblem !== null) {
      this.#log('events are synced again');
    }
    this.#syncProblem = problem;
    for (const { stored, release } of group) release(stored && problem === null);
    if (this.#held.length > 0) this.#syncSoon();
  }

  /** Appends what is kept and the turn's shares; where that throws, what was kept stays so. */
  #append(): Appended {
    let waits: boolean;
    try {
      waits = this.#writer.write(this.#kept, this.records);
    } catch (error) {
      if (error instanceof PoolError) throw error;
      // No fault of the disk: an event that does not fit its schema would keep all others from it for ever.
      this.#kept = this.#kept.filter((entry) => this.#fits(entry));
      waits = this.#writer.write(this.#kept, this.records);
    }
    const entries = this.#kept;
    this.#kept = [];
    return { entries, waits };
  }

  #fits({ topic, event }: LogEntry): boolean {
    try {
      encodeEvent(topic, event);
      return true;
    } catch (error) {
      this.#log(`an event of topic ${topic} cannot be written and is left out: ${errorLine(error)}`);
      return false;
    }
  }

  #writeShareLog(ok: boolean): void {
    if (this.#shareLog === null) return;
    if (!ok) {
      this.#shareLog.forget();
      return;
    }
    try {
      this.#shareLog.write();
      this.#logProblem = null;
    } catch (error) {
      const line = `share log: ${errorLine(error)}`;
      if (this.#logProblem !== line) this.#log(line);
      this.#logProblem = line;
    }
  }

  #keep(entry: LogEntry): void {
    this.#kept.push(entry);
    this.schedule();
  }
}
