/** A miner that nobody here wrote: pooler's cpuminer (`minerd`), on PATH or named by MINERD, for sha256d and scrypt. */

import { findProgram } from './coin-node.ts';
import { type Leashed, startLeashed, until } from './leash.ts';
import type { Missing } from './require.ts';

export interface MinerdOptions {
  /** `stratum+tcp://127.0.0.1:PORT` */
  url: string;
  user: string;
  pass?: string;
  algorithm: 'sha256d' | 'scrypt';
}

/** What minerd says of itself; counts are of the answers that it got. */
export interface MinerdTally {
  accepted: number;
  rejected: number;
  /** Texts behind `reject reason:`; minerd reads them from CKPool's `reject-reason` or the second item of `error`. */
  reasons: string[];
  /** From `Stratum difficulty set to …`, the last one. */
  difficulty: number | undefined;
  /** Hashes per second over all threads, from its last answer. */
  hashrateHps: number | undefined;
}

export interface Minerd {
  readonly pid: number;
  readonly tally: Readonly<MinerdTally>;
  /** All lines so far. */
  readonly lines: readonly string[];
  /** Waits until it was told `count` times that a share was accepted. @throws Error with its last lines as `until` does, or when it ends */
  accepted(count: number): Promise<void>;
  stop(): Promise<void>;
  readonly exited: Promise<number>;
}

export function findMinerd(): { program: string } | Missing {
  const name = process.env.MINERD ?? 'minerd';
  const program = findProgram(name);
  return program === undefined
    ? {
        missing:
          process.env.MINERD === undefined
            ? 'no minerd on PATH or in MINERD'
            : `MINERD names ${name}, which cannot be run`,
      }
    : { program };
}

/** Takes one line of minerd's log into the tally. */
function countLine(tally: MinerdTally, line: string): void {
  const answer = /accepted: (\d+)\/(\d+) \([\d.]+%\), ([\d.]+) (k?)hash\/s \((yay!!!|booooo)\)/.exec(line);
  if (answer) {
    tally.accepted = Number(answer[1]);
    tally.rejected = Number(answer[2]) - tally.accepted;
    tally.hashrateHps = Number(answer[3]) * (answer[4] === 'k' ? 1000 : 1);
  }
  const reason = /reject reason: (.*)$/.exec(line)?.[1];
  if (reason !== undefined) tally.reasons.push(reason);
  const difficulty = /Stratum difficulty set to ([\d.e+-]+)/.exec(line)?.[1];
  if (difficulty !== undefined) tally.difficulty = Number(difficulty);
}

/** Starts minerd against a stratum port; it connects again every second where the port is absent. */
export async function startMinerd(options: MinerdOptions): Promise<Minerd | Missing> {
  const found = findMinerd();
  if ('missing' in found) return found;
  const child: Leashed = await startLeashed(found.program, [
    ...['-a', options.algorithm, '-o', options.url, '-u', options.user, '-p', options.pass ?? 'x'],
    ...['-t', '1', '-R', '1', '-D'],
  ]);
  const tally: MinerdTally = { accepted: 0, rejected: 0, reasons: [], difficulty: undefined, hashrateHps: undefined };
  const lines: string[] = [];
  for (const line of child.output().split('\n').slice(0, -1)) take(line);
  child.onLine(take);
  function take(line: string): void {
    lines.push(line);
    countLine(tally, line);
  }
  return {
    pid: child.pid,
    tally,
    lines,
    exited: child.exited,
    async accepted(count) {
      await until(`minerd was told of ${count} accepted shares`, () => {
        if (tally.accepted >= count) return true;
        if (!child.running) throw new Error('minerd has ended');
        return false;
      }).catch((error: Error) => {
        throw new Error(`${error.message}; its last lines:\n${lines.slice(-10).join('\n')}`, { cause: error });
      });
    },
    async stop() {
      await child.stop({ graceMs: 3_000 });
    },
  };
}
