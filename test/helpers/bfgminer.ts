/**
 * bfgminer and cgminer, the two families of stratum code that most firmware descends from: on PATH, or named by BFGMINER and CGMINER.
 * bfgminer shall be built with CPU mining; a cgminer shall have something to mine with.
 */
import { findProgram } from './coin-node.ts';
import { startLeashed, until } from './leash.ts';
import type { Missing } from './require.ts';

export type Family = 'bfgminer' | 'cgminer';

const ARGUMENTS: Record<Family, readonly string[]> = {
  bfgminer: ['-T', '-S', 'cpu:auto', '--cpu-threads', '1', '--algo', 'c'],
  cgminer: ['-T'],
};

export interface FamilyMiner {
  /** The first digits of the shares that it was told of as accepted: it prints some lines twice. */
  readonly accepted: ReadonlySet<string>;
  /** Reasons that it printed for refused ones. */
  readonly reasons: readonly string[];
  readonly lines: readonly string[];
  /** Waits until `count` shares were accepted. @throws Error with its last lines as `until` of leash.ts does, or when it ends */
  until(count: number): Promise<void>;
  stop(): Promise<void>;
}

export function findFamily(family: Family): { program: string } | Missing {
  const variable = family.toUpperCase();
  const named = process.env[variable];
  const program = findProgram(named ?? family);
  if (program !== undefined) return { program };
  return {
    missing:
      named === undefined
        ? `no ${family} on PATH or in ${variable}`
        : `${variable} names ${named}, which cannot be run`,
  };
}

/** Starts it against a stratum port. */
export async function startFamily(
  family: Family,
  of: { readonly url: string; readonly user: string; readonly pass?: string },
): Promise<FamilyMiner | Missing> {
  const found = findFamily(family);
  if ('missing' in found) return found;
  const account = ['-o', of.url, '-u', of.user, '-p', of.pass ?? 'x'];
  const child = await startLeashed(found.program, [...account, ...ARGUMENTS[family]]);
  const accepted = new Set<string>();
  const reasons: string[] = [];
  const lines: string[] = [];
  const take = (line: string): void => {
    lines.push(line);
    for (const [, verdict, digits, rest] of line.matchAll(/(Accepted|Rejected) ([0-9a-f]{8})([^[]*)/g)) {
      if (verdict === 'Accepted') accepted.add(digits!);
      else reasons.push(/\(([^)]*)\)/.exec(rest!)?.[1] ?? rest!);
    }
  };
  for (const line of child.output().split('\n').slice(0, -1)) take(line);
  child.onLine(take);
  return {
    accepted,
    reasons,
    lines,
    until: (count) =>
      until(
        () =>
          `${family} to be told of ${count} accepted shares (${accepted.size}); its last lines:\n${lines.slice(-10).join('\n')}`,
        () => {
          if (!child.running && accepted.size < count)
            throw new Error(`${family} has ended:\n${lines.slice(-10).join('\n')}`);
          return accepted.size >= count;
        },
      ).then(() => {}),
    async stop() {
      await child.stop({ graceMs: 3_000 });
    },
  };
}
