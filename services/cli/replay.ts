/** `lodestream replay [--from MONTH] [--into DATABASE | --verify | --dead-letters]`: rebuilds what ClickHouse holds from the log, or compares the two. */

import type { VerifySummary } from '../consumers/replay.ts';
import { replayInto, replayTables, verifyTables } from '../consumers/replay.ts';
import type { Comparison } from '../consumers/replay-compare.ts';
import { type LettersSummary, replayLetters } from '../consumers/replay-letters.ts';
import { type Month, monthOf } from '../consumers/replay-months.ts';
import type { Progress, ReplayParts, ReplaySummary } from '../consumers/replay-work.ts';
import { PoolError } from '../core/errors.ts';
import { openLog } from '../core/log/open.ts';
import { textTable } from './contracts.ts';
import { configFrom, type Flag, instantMs, modeOf, type Parsed } from './flags.ts';

export const REPLAY_FLAGS: Readonly<Record<string, Flag>> = {
  from: {
    value: 'MONTH',
    doc: 'only shares of this month and later, and their minutes: 2026-10, or a day or time in it (2026-10-05, 2026-10-05T10:00Z); months before stay untouched, other tables are rebuilt whole',
  },
  into: {
    value: 'DATABASE',
    doc: 'build into this database of the ClickHouse that the configuration names, and swap nothing',
  },
  verify: {
    doc: 'build beside, compare with the tables as they stand, remove what was built: extra is what the tables have and the log does not, missing what the log has and the tables do not; exit 0 where nothing differs, else 1',
  },
  'dead-letters': { doc: 'put dead letters through again; those that pass now leave the table' },
  json: {
    doc: 'the summary as one JSON object: counts are numbers; sums of columns, hashes and values of rows are text, for they may be larger than a number is exact',
  },
  'allow-loss': {
    doc: 'swap although the tables hold what the log does not (hours, blocks, contracts), or damage of the log is new',
  },
};

const TERMINAL_EVERY_MS = 200;
const PLAIN_EVERY_MS = 10_000;

const count = (n: number): string => Math.round(n).toLocaleString('en-US');

/** Where a replay is, in one line. @param rate - records a second */
export function progressLine({ phase, records, behind, what }: Progress, rate: number): string {
  if (phase !== 'reading') return what === '' ? phase : `${phase}: ${what}`;
  const left = rate > 0 && behind > 0 ? `, ${count(Math.ceil(behind / rate))} s left` : '';
  return `reading: ${count(records)} records, ${count(rate)}/s, ${count(behind)} behind${left}`;
}

/** Says where it is: in place on a terminal, elsewhere a line where the phase changes and each ten seconds. */
function reporter(out: NodeJS.WriteStream): { show(progress: Progress): void; clear(): void } {
  const terminal = out.isTTY === true;
  const begun = performance.now();
  let shownMs = Number.NEGATIVE_INFINITY;
  let phase = '';
  return {
    show(progress) {
      const now = performance.now();
      const changed = progress.phase !== phase;
      if (!changed && now - shownMs < (terminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS)) return;
      shownMs = now;
      phase = progress.phase;
      const text = progressLine(progress, (progress.records * 1000) / Math.max(now - begun, 1));
      out.write(terminal ? `\r\u001b[2K${text}` : `${text}\n`);
    },
    clear() {
      if (terminal) out.write('\r\u001b[2K');
    },
  };
}

/**
 * The month that `--from` names.
 * @param nowMs - since 1970
 * @throws PoolError usage where it is none, or lies in the future
 */
export function monthFrom(text: string, nowMs: number): Month {
  // Seconds since 1970 are none: a year alone would be taken for them.
  const ms = /^\d*$/.test(text) ? Number.NaN : instantMs(/^\d{4}-\d\d$/.test(text) ? `${text}-01` : text);
  if (ms >= 0 && ms <= nowMs) return monthOf(ms);
  throw new PoolError(
    'usage',
    `--from: expected a month (2026-10), a day (2026-10-05) or a time (2026-10-05T10:00Z, UTC) that has begun, got ${text}`,
  );
}

/** The sentences at the end. */
export function summaryText(summary: ReplaySummary, done: string): string {
  const { records, rows, dead_letters, minutes, from, seconds, aside_s } = summary;
  const rate = seconds > 0 ? rows / seconds : 0;
  return [
    `${done}${from === null ? '' : `, shares from ${from} on`}: ${count(records)} records, ${count(rows)} rows, ${count(minutes)} minutes rolled up; ${seconds.toFixed(1)} s, ${count(rate)} rows/s`,
    ...(dead_letters > 0 ? [`${count(dead_letters)} records are dead letters`] : []),
    ...(aside_s > 0 ? [`the consumers stood aside for ${aside_s.toFixed(1)} s`] : []),
  ].join('\n');
}

/** What differs in a table, in indented lines. */
function differences(comparison: Comparison): string[] {
  const { table, sums, columns_missing, rows } = comparison;
  return [
    `${table}:`,
    ...(columns_missing.length > 0 ? [`  columns of one side alone: ${columns_missing.join(', ')}`] : []),
    ...Object.entries(sums).map(([column, [live, rebuilt]]) => `  sum of ${column}: ${live}, rebuilt ${rebuilt}`),
    ...rows.map(({ kind, key, columns }) => {
      const where = Object.entries(key)
        .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
        .join(', ');
      const what = Object.entries(columns)
        .map(([name, [live, rebuilt]]) => `${name} ${JSON.stringify(live)}, rebuilt ${JSON.stringify(rebuilt)}`)
        .join('; ');
      return `  ${kind}: ${where}${what === '' ? '' : `: ${what}`}`;
    }),
  ];
}

const SIDES =
  'extra: the tables have it, the log does not; missing: the log has it, the tables do not; changed: as it stands, then as rebuilt';

/** The comparison as a table, and below it what differs. */
export function verifyText({ tables, derivations }: VerifySummary): string {
  const rows = tables.map(({ table, live_rows, rebuilt_rows, same, live_hash }) => [
    table,
    String(live_rows),
    String(rebuilt_rows),
    same ? 'same' : 'DIFFERS',
    live_hash.slice(0, 16),
  ]);
  return [
    textTable(['table', 'rows', 'rebuilt', '', 'hash'], rows).trimEnd(),
    ...tables.filter(({ same }) => !same).flatMap(differences),
    ...(tables.some(({ rows }) => rows.length > 0) ? [SIDES] : []),
    ...(derivations.words === '' ? [] : [`derivations in the log (epoch, hashrate, payout): ${derivations.words}`]),
  ].join('\n');
}

function lettersText({ letters, passed, gone }: LettersSummary): string {
  const rest = letters - passed;
  const lost = gone > 0 ? `, of which ${count(gone)} are not to be read from the log` : '';
  return `${count(letters)} dead letters: ${count(passed)} pass now and left the table, ${count(rest)} stay${lost}`;
}

export async function replayCommand(parsed: Parsed): Promise<void> {
  const { values } = parsed;
  const into = typeof values.into === 'string' ? values.into : null;
  const chosen = [into !== null && '--into', values.verify && '--verify', values['dead-letters'] && '--dead-letters'];
  const given = chosen.filter(Boolean);
  const from = typeof values.from === 'string' ? monthFrom(values.from, Date.now()) : null;
  if (from !== null && values['dead-letters'] === true) given.push('--from');
  if (given.length > 1) throw new PoolError('usage', `replay: ${given.join(' and ')} do not go together`);
  const config = configFrom(parsed, modeOf(parsed));
  const stopping = new AbortController();
  const { signal } = stopping;
  const stop = (): void => stopping.abort(new PoolError('replay', 'stopped'));
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const report = reporter(process.stderr);
  const say = (line: string): void => {
    report.clear();
    process.stderr.write(`${line}\n`);
  };
  const parts: ReplayParts = {
    config,
    openLog: () => openLog(config, 'replay', { log: say, signal }),
    signal,
    log: say,
    onProgress: report.show,
    ...(from === null ? {} : { from }),
  };
  const print = (summary: object, text: string): void => {
    report.clear();
    process.stdout.write(values.json === true ? `${JSON.stringify(summary)}\n` : `${text}\n`);
  };
  try {
    if (values.verify === true) {
      const summary = await verifyTables(parts);
      const end = summary.same ? 'the tables are what the log says' : 'the tables are not what the log says';
      print(summary, `${verifyText(summary)}\n${summaryText(summary, end)}`);
      process.exitCode = summary.same ? 0 : 1;
    } else if (values['dead-letters'] === true) {
      const summary = await replayLetters(parts);
      print(summary, lettersText(summary));
    } else if (into !== null) {
      const summary = await replayInto(parts, into);
      print(summary, summaryText(summary, `${into} is filled`));
    } else {
      const summary = await replayTables(parts, { allowLoss: values['allow-loss'] === true });
      print(summary, summaryText(summary, 'rebuilt and swapped in'));
    }
  } finally {
    report.clear();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}
