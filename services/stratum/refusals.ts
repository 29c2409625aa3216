/**
 * The refused shares of one line: what is done about a run of nothing else, and which of them become events. session.ts does what is decided
 * here. The clock is handed in.
 */

/** Refusals without an accepted share between: new work after the first, the end after the second. */
const NEW_WORK_MS = 60_000;
const CLOSE_MS = 120_000;
/** CKPool's: the same new work, then a request to connect again, then the end. */
const RECONNECT_CKPOOL_MS = 120_000;
const CLOSE_CKPOOL_MS = 180_000;
/** Refused shares of one line that become events of their own, per second. */
const EVENTS_PER_SECOND = 10;

export class Refusals {
  #sinceMs: number | null = null;
  #newWorkSent = false;
  #reconnectSent = false;
  #second = 0;
  #inSecond = 0;

  /** A share was refused. @returns what is to be done about it; null: nothing */
  refused(nowMs: number, ckpool: boolean): 'new work' | 'reconnect' | 'close' | null {
    this.#sinceMs ??= nowMs;
    const lastsMs = nowMs - this.#sinceMs;
    if (lastsMs >= NEW_WORK_MS && !this.#newWorkSent) {
      this.#newWorkSent = true;
      return 'new work';
    }
    if (lastsMs >= (ckpool ? CLOSE_CKPOOL_MS : CLOSE_MS)) {
      // Further lines of the same packet begin a new run.
      if (!ckpool) this.#sinceMs = null;
      return 'close';
    }
    if (!ckpool || lastsMs < RECONNECT_CKPOOL_MS || this.#reconnectSent) return null;
    this.#reconnectSent = true;
    return 'reconnect';
  }

  /** A share was accepted. */
  end(): void {
    this.#sinceMs = null;
    this.#newWorkSent = false;
    this.#reconnectSent = false;
  }

  /** Begins the second of an instant, where another was counted. @returns what `takeUntold` had of that */
  beginSecond(nowMs: number): number {
    const second = Math.floor(nowMs / 1_000);
    if (second === this.#second) return 0;
    const untold = this.takeUntold();
    this.#second = second;
    this.#inSecond = 0;
    return untold;
  }

  /** Counts one in the second that was begun last. @returns true where it becomes an event of its own */
  count(): boolean {
    this.#inSecond += 1;
    return this.#inSecond <= EVENTS_PER_SECOND;
  }

  /** How many became no event of their own; they are told once. */
  takeUntold(): number {
    const more = this.#inSecond - EVENTS_PER_SECOND;
    if (more <= 0) return 0;
    this.#inSecond = EVENTS_PER_SECOND;
    return more;
  }
}
