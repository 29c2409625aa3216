/** What a bench found beside what was to be reached: a Markdown table, or one JSON object per measure. */
import { cpus, loadavg } from 'node:os';

export type Values = Record<string, number>;

/** How a measure is named and shown. */
export interface Shown {
  readonly what: string;
  readonly unit: string;
  /** Behind the point; default 2. */
  readonly digits?: number;
  /** More is better, and bounds are from below. */
  readonly atLeast?: true;
  /** Bounds from above, unless `atLeast`. */
  readonly reach?: number;
}

export interface Result {
  readonly row: string;
  readonly measure: string;
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly ratio: number | null;
  /** What was to be reached, in the unit; null: nothing. */
  readonly limit: number | null;
  readonly met: boolean | null;
}

export function resultOf(
  row: string,
  measure: string,
  of: Shown,
  ours: number,
  peer: number | null,
  limit: number | null,
): Result {
  return {
    row,
    measure,
    what: of.what,
    unit: of.unit,
    ours,
    peer,
    ratio: peer === null || peer === 0 ? null : ours / peer,
    limit,
    met: limit === null ? null : of.atLeast === true ? ours >= limit : ours <= limit,
  };
}

/** Of each measure the best of some rounds, for what else runs on the machine only makes it worse; what must not be at all: the worst. */
export function best(measures: Readonly<Record<string, Shown>>, rounds: readonly Values[]): Values {
  return Object.fromEntries(
    Object.entries(measures).map(([name, of]) => {
      const values = rounds.map((round) => round[name]!);
      return [name, of.atLeast === true || of.reach === 0 ? Math.max(...values) : Math.min(...values)];
    }),
  );
}

function lineOf(result: Result, of: Shown): string {
  const shown = (value: number | null): string =>
    value === null || Number.isNaN(value) ? '' : value.toFixed(of.digits ?? 2);
  return `| ${[
    result.what + (result.unit === '' ? '' : `, ${result.unit}`),
    shown(result.ours),
    shown(result.peer),
    result.ratio === null ? '' : result.ratio.toFixed(2),
    result.limit === null ? '' : `${of.atLeast === true ? '>=' : '<='} ${shown(result.limit)}`,
    result.met === null ? '' : result.met ? 'yes' : 'NO',
  ].join(' | ')} |`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The machine, and how busy it is: the ratios of a crowded one are the neighbours' as well. */
export function printMachine(): void {
  const load = loadavg()[0]!.toFixed(1);
  print(`${cpus().length} x ${cpus()[0]?.model ?? '?'}, Node ${process.version}, load ${load}`);
}

/** @param peer - heading of the other's column; empty where there is none */
export function printResults(
  title: string,
  measures: Readonly<Record<string, Shown>>,
  results: readonly Result[],
  { peer, json }: { readonly peer: string; readonly json: boolean },
): void {
  if (json) {
    for (const result of results) print(JSON.stringify(result));
    return;
  }
  print(`\n${title}\n`);
  print(`| measure | ours | ${peer} | ratio | to reach | met |\n|---|---|---|---|---|---|`);
  for (const result of results) print(lineOf(result, measures[result.measure]!));
}
