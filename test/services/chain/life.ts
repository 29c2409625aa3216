/** A program's lifecycle in a test: its log lines, its end, and what it stopped with. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Lifecycle } from '../../../services/core/lifecycle.ts';

export interface TestLife extends Lifecycle {
  readonly lines: readonly string[];
  /** What the program asked to stop with; undefined where it did not within the time. */
  stopped(withinMs?: number): Promise<unknown>;
  /** Closes everything, as the end of the program does. */
  end(): Promise<void>;
}

/** @param closers - the test's list of what to close at its end */
export function testLife(closers: (() => Promise<unknown> | unknown)[]): TestLife {
  const lines: string[] = [];
  const controller = new AbortController();
  const registered: (() => Promise<void> | void)[] = [];
  const asked = Promise.withResolvers<unknown>();
  const end = async (): Promise<void> => {
    controller.abort();
    for (const close of registered.splice(0).reverse()) await close();
  };
  closers.push(end);
  return {
    lines,
    log: (line) => void lines.push(line),
    signal: controller.signal,
    onStop: (_what, close) => void registered.push(close),
    onHangup: () => {},
    stop: (error) => asked.resolve(error),
    stopped: (withinMs = 45_000) => Promise.race([asked.promise, delay(withinMs, undefined, { ref: false })]),
    end,
  };
}
