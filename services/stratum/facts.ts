/**
 * The events of one turn of the loop: collected, appended to the journal in one call before any answer of the turn goes out, then the
 * share log lines, then the answers. This is where "an acknowledged share is never lost" is kept.
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

export class Facts {
  readonly #writer: JournalWriter;
  readonly #shareLog: ShareLog | null;
  readonly #log: Log;
  readonly #onFlushed: (ok: boolean) => void;
  readonly #beforeAppend: () => void;
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

  /**
   * @param onFlushed - sends the turn's answers; false: its shares are not in the journal
   * @param beforeAppend - judges what waits: it belongs to the turn that ends
   */
  constructor(
    writer: JournalWriter,
    shareLog: ShareLog | null,
    log: Log,
    onFlushed: (ok: boolean) => void,
    beforeAppend: () => void = () => {},
  ) {
    this.#beforeAppend = beforeAppend;
    this.#writer = writer;
    this.#shareLog = shareLog;
    this.#log = log;
    this.#onFlushed = onFlushed;
  }

  /** What keeps events from the disk now, or nothing. */
  get problems(): string[] {
    return [this.#problem, this.#logProblem].filter((line) => line !== null);
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

  /** Appends and answers now. */
  flush(): void {
    this.#beforeAppend();
    this.#scheduled = false;
    let ok = true;
    if (this.#kept.length + this.records.count > 0) {
      try {
        this.#append();
        this.#kept = [];
        if (this.#problem !== null) this.#log('the journal takes events again');
        this.#problem = null;
      } catch (error) {
        ok = false;
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
    this.#onFlushed(ok);
  }

  #append(): void {
    try {
      this.#writer.append(this.#kept, this.records);
    } catch (error) {
      if (error instanceof PoolError) throw error;
      // No fault of the disk: an event that does not fit its schema would keep all others from it for ever.
      this.#kept = this.#kept.filter((entry) => this.#fits(entry));
      this.#writer.append(this.#kept, this.records);
    }
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
