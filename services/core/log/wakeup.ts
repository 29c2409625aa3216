/**
 * Wakes readers in the same process as a writer without waiting for their next look at the files; readers elsewhere look every
 * `POLL_MS`. (`fs.watch` is left aside: it reports late or not at all on network and overlay file systems, and a look costs microseconds.)
 */
import { resolve } from 'node:path';

/** How often a waiting reader looks at the tail of its partition, milliseconds. */
export const POLL_MS = 20;

const waiting = new Map<string, Set<() => void>>();

/** Called by the writer after an append to a topic's directory. */
export function wakeReaders(topicDir: string): void {
  const readers = waiting.get(topicDir);
  if (readers !== undefined) for (const wake of [...readers]) wake();
}

/** Resolves at the next append of this process to a topic's directory, after `ms`, or when the signal says so. */
export function waitForAppend(topicDir: string, ms: number, signal?: AbortSignal): Promise<void> {
  const key = resolve(topicDir);
  return new Promise((done) => {
    const readers = waiting.get(key) ?? new Set();
    waiting.set(key, readers);
    const wake = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', wake);
      readers.delete(wake);
      if (readers.size === 0 && waiting.get(key) === readers) waiting.delete(key);
      done();
    };
    const timer = setTimeout(wake, ms);
    signal?.addEventListener('abort', wake, { once: true });
    readers.add(wake);
    if (signal?.aborted) wake();
  });
}
