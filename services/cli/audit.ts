/** `lodestream audit`: checks the proof of work of every live share in the log of record; 0 only where all held. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, REASONS, type Reason, UNCHECKABLE, type Uncheckable } from '../audit/findings.ts';
import { type Progress, runAudit } from '../audit/main.ts';
import { chainsOf } from '../core/chains/profile.ts';
import { PoolError } from '../core/errors.ts';
import { openJournalLog } from '../core/log/journal.ts';
import { positionSince } from '../core/log/journal-since.ts';
import { openLog } from '../core/log/open.ts';
import { textTable } from './contracts.ts';
import { configFrom, type Flag, instantUs, type Parsed } from './flags.ts';

export const AUDIT_FLAGS: Readonly<Record<string, Flag>> = {
  from: {
    value: 'TIME',
    doc: 'only shares received at or after this: 2026-11-26, 2026-11-26T10:00Z, or seconds since 1970',
  },
  to: { value: 'TIME', doc: 'only shares received before this' },
  origin: { value: 'NAME', doc: 'only this accounting point; default all' },
  json: { doc: 'one JSON object a line: each finding, then the summary' },
};

/** Exit status where something did not hold. */
const NOT_HELD = 1;
const PROGRESS_EVERY_MS = 200;

export async function auditCommand(parsed: Parsed): Promise<void> {
  const { origin, from, to } = parsed.values;
  const config = configFrom({ ...parsed, values: { ...parsed.values, origin: undefined } }, 'pool');
  const instant = (value: unknown, flag: string): number | null =>
    typeof value === 'string' ? instantUs(value, flag) : null;
  const fromUs = instant(from, 'from');
  const toUs = instant(to, 'to');
  if (fromUs !== null && toUs !== null && fromUs >= toUs) {
    throw new PoolError('usage', '--from must lie before --to');
  }
  const json = parsed.values.json === true;
  const terminal = process.stderr.isTTY === true;
  const wipe = terminal ? '\r\u001b[2K' : '';
  const { signal } = new AbortController();
  let shownAt = 0;
  const journal = join(config.dataDir, 'journal');
  if (config.kafka === null && !existsSync(journal)) {
    throw new PoolError('usage', `no pool has run in ${config.dataDir}: it has no journal; give the pool's --data-dir`);
  }
  // Nothing is made in the data directory: it may be another's, or a copy that cannot be written.
  const log =
    config.kafka === null
      ? openJournalLog({ dir: journal })
      : await openLog(config, 'audit', { log: (line) => process.stderr.write(`${wipe}${line}\n`), signal });
  try {
    const end = await runAudit({
      log,
      chain: chainsOf(config.chain),
      origin: typeof origin === 'string' ? origin : null,
      fromUs,
      toUs,
      positionSince: (topic, partition, sinceUs) =>
        log.kind === 'journal' ? positionSince(journal, partition, topic, sinceUs) : null,
      onFinding(finding) {
        if (terminal) process.stderr.write(wipe);
        process.stdout.write(json ? `${JSON.stringify(findingJson(finding))}\n` : `${findingText(finding)}\n`);
      },
      onProgress(progress) {
        if (!terminal || performance.now() - shownAt < PROGRESS_EVERY_MS) return;
        shownAt = performance.now();
        process.stderr.write(`${wipe}${progressText(progress)}`);
      },
      signal,
    });
    if (terminal) process.stderr.write(wipe);
    if (end.counts.shares === 0) {
      const asked = typeof origin === 'string' ? ` of origin ${origin}` : '';
      process.stderr.write(`no share${asked} was found in that time: nothing was checked\n`);
      process.exitCode = NOT_HELD;
    }
    process.stdout.write(json ? `${JSON.stringify(summaryJson(end))}\n` : summaryText(end));
    if (!allHeld(end)) process.exitCode = NOT_HELD;
  } finally {
    await log.close();
  }
}

function allHeld({ counts }: Progress): boolean {
  return Object.keys(counts.reasons).length === 0;
}

function progressText({ counts, read, total, seconds }: Progress): string {
  const percent = total > 0 ? Math.floor((100 * read) / total) : 100;
  const rate = Math.round(counts.shares / Math.max(seconds, 0.001));
  return `${percent} %  ${counts.shares} shares, ${counts.notHeld} do not hold, ${rate} shares/s`;
}

function timeText(timeUs: number): string {
  return timeUs === 0 ? '' : new Date(timeUs / 1000).toISOString();
}

function findingText({ place, problems, origin, identity, worker, timeUs }: Finding): string {
  const { topic, partition, position, instance, run, sequence } = place;
  const inJournal = position === `${run}:${sequence}` || run === '' ? '' : ` (${instance} ${run}:${sequence})`;
  const what = problems.map(
    ({ reason, claimed, computed }) =>
      `${reason}: ${REASONS[reason]}; claimed ${JSON.stringify(claimed)}${computed === '' ? '' : `, computed ${JSON.stringify(computed)}`}`,
  );
  const who = [timeText(timeUs), origin, identity, JSON.stringify(worker)].filter(
    (part) => part !== '' && part !== '""',
  );
  return `${topic} ${partition} ${position}${inJournal}: ${who.join(' ')}${who.length > 0 ? ': ' : ''}${what.join('; ')}`;
}

function findingJson({ place, problems, origin, identity, worker, timeUs }: Finding): object {
  return { kind: 'finding', ...place, time_us: timeUs, origin, identity, worker, problems };
}

function summaryJson({ counts, seconds }: Progress): object {
  return {
    kind: 'summary',
    shares_count: counts.shares,
    held_count: counts.held,
    not_held_count: counts.notHeld,
    repeated_count: counts.again,
    solved_count: counts.solved,
    difficulty_unknown_count: counts.creditUnknown,
    jobs_count: counts.jobs,
    jobs_not_held_count: counts.jobsNotHeld,
    not_checkable: counts.uncheckable,
    reasons: counts.reasons,
    seconds,
  };
}

function summaryText({ counts, seconds }: Progress): string {
  const rows: string[][] = [
    ['shares in the log', String(counts.shares), ''],
    ['held', String(counts.held), ''],
    ['do not hold', String(counts.notHeld), ''],
    ['met again', String(counts.again), 'the same event, delivered twice'],
    ...Object.entries(counts.uncheckable).map(([why, count]) => [
      'not checkable',
      String(count),
      UNCHECKABLE[why as Uncheckable],
    ]),
    ...(counts.creditUnknown === 0
      ? []
      : [
          [
            'difficulty not checked',
            String(counts.creditUnknown),
            'the log does not tell what was in force on their lines; all else of them was checked',
          ],
        ]),
    ['jobs', String(counts.jobs), 'built in this time'],
    ['jobs that do not hold', String(counts.jobsNotHeld), ''],
    ['shares that solve a block', String(counts.solved), ''],
    ...Object.entries(counts.reasons).map(([reason, count]) => [reason, String(count), REASONS[reason as Reason]]),
  ];
  const rate = Math.round(counts.shares / Math.max(seconds, 0.001));
  return `${textTable(['', 'count', ''], rows)}${seconds.toFixed(2)} s, ${rate} shares/s\n`;
}
