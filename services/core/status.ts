/**
 * What each running program says of itself, for `healthz`, the metrics and the live counters: one small JSON file per program under
 * `<data-dir>/status`, replaced each second. A file that is no longer renewed is a program that is no longer there.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Status {
  /** Name of the program or instance: `ckpool`, `chain`, `consume`, `clickhouse`, … */
  readonly program: string;
  readonly pid: number;
  /** When this was written, microseconds since 1970 UTC. */
  readonly time_us: number;
  /** What is wrong now, one line each; empty: well. */
  readonly problems: readonly string[];
  /** Counters and gauges; names are snake_case with the unit at the end. */
  readonly values: Readonly<Record<string, number | string>>;
}

export type StatusSource = () => { problems: readonly string[]; values: Readonly<Record<string, number | string>> };

const EVERY_MS = 1_000;
/** A status older than this is of a program that has stopped. */
export const STATUS_FRESH_US = 5_000_000;

/** Publishes a program's status until `close` is called, which removes it. */
export function publishStatus(dir: string, program: string, source: StatusSource): { close(): void } {
  const path = join(dir, `${program}.json`);
  const write = (): void => {
    const status: Status = { program, pid: process.pid, time_us: Date.now() * 1000, ...source() };
    try {
      writeFileSync(`${path}.new`, `${JSON.stringify(status)}\n`);
      renameSync(`${path}.new`, path);
    } catch {
      // A full disk must not stop mining; the file grows old and says so.
    }
  };
  write();
  const timer = setInterval(write, EVERY_MS);
  timer.unref();
  return {
    close() {
      clearInterval(timer);
      try {
        rmSync(path, { force: true });
      } catch {
        // A read-only disk: what is left is old in five seconds.
      }
    },
  };
}

/** All statuses on disk, old ones included, sorted by program. */
export function readStatuses(dir: string): Status[] {
  let names: string[];
  try {
    names = readdirSync(dir).filter((name) => name.endsWith('.json'));
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => {
    try {
      return [JSON.parse(readFileSync(join(dir, name), 'utf8')) as Status];
    } catch {
      return [];
    }
  });
}
