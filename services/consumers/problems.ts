/** What is wrong now, by place: shown in the status, said in the log when it begins, once a minute while it lasts, and when it is over. */
import type { Log } from '../core/lifecycle.ts';

const AGAIN_MS = 60_000;

export class Problems {
  readonly #log: Log;
  readonly #now: () => number;
  readonly #open = new Map<string, { text: string; saidMs: number }>();

  constructor(log: Log, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  set(place: string, text: string): void {
    const open = this.#open.get(place);
    const now = this.#now();
    if (open !== undefined && open.text === text && now - open.saidMs < AGAIN_MS) return;
    if (open !== undefined && open.text !== text && now - open.saidMs < AGAIN_MS) {
      // Another error of the same trouble, such as reset after refused: shown, not said again.
      this.#open.set(place, { text, saidMs: open.saidMs });
      return;
    }
    this.#open.set(place, { text, saidMs: now });
    this.#log(`${place}: ${text}`);
  }

  clear(place: string): void {
    if (this.#open.delete(place)) this.#log(`${place}: goes on`);
  }

  /** It is somebody else's now. */
  forget(place: string): void {
    this.#open.delete(place);
  }

  /** One line each. */
  list(): string[] {
    return [...this.#open].map(([place, { text }]) => `${place}: ${text}`);
  }
}

/** Waits, or returns at once when aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}

const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 5_000;

/** Repeats a step until it succeeds, with growing pauses; each failure is a problem at that place. @returns null where aborted */
export async function untilDone<T>(
  place: string,
  problems: Problems,
  signal: AbortSignal,
  lineOf: (error: unknown) => string,
  step: () => Promise<T>,
): Promise<T | null> {
  for (let ms = FIRST_PAUSE_MS; !signal.aborted; ms = Math.min(ms * 2, LAST_PAUSE_MS)) {
    try {
      const result = await step();
      problems.clear(place);
      return result;
    } catch (error) {
      if (signal.aborted) return null;
      problems.set(place, lineOf(error));
      await pause(ms, signal);
    }
  }
  return null;
}
