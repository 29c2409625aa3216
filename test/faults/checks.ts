/** Holds a pool's tables against the record of the load that it was under. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { hashHex } from '../../services/core/bitcoin/header.ts';
import { powHash } from '../../services/core/bitcoin/pow.ts';
import { readStatuses } from '../../services/core/status.ts';
import { until } from '../helpers/leash.ts';
import { headerFromNotify } from '../helpers/notify-header.ts';
import { ACKNOWLEDGED, AGAIN, type Load, REFUSED, type Span } from './load.ts';
import type { Stack } from './stack.ts';

/** For so long nothing may wait anywhere: longer than the programs take to look at how far they are. */
const QUIET_US = 3_000_000;
/** One share in so many is hashed here too. */
const HASHED_EVERY = 997;

/**
 * Waits until all that the journal has is in ClickHouse and every touched minute is made anew.
 * @param records - that the consumers have taken in since they started, at least: those who have not begun yet have nothing waiting
 */
export async function settled(stack: Stack, records = 1, withinMs = 600_000): Promise<void> {
  const wanted = stack.relay?.running === true ? ['consume', 'relay'] : ['consume'];
  const beganUs = Date.now() * 1000;
  let quietUs: number | null = null;
  let seen = '';
  await until(
    () => `nothing to wait: ${seen}\n${stack.said.slice(-20).join('\n')}`,
    () => {
      const statuses = readStatuses(join(stack.dataDir, 'status'));
      const timesUs: number[] = [];
      for (const name of wanted) {
        const status = statuses.find(({ program }) => program === name);
        if (status === undefined || status.time_us < beganUs) return false;
        seen = JSON.stringify(status);
        const { lag_records = 0, minutes_marked = 0, relay_lag_records = 0 } = status.values;
        const few = name === 'consume' && Number(status.values.records_count) < records;
        if (few || status.problems.length > 0 || lag_records !== 0 || minutes_marked !== 0 || relay_lag_records !== 0) {
          quietUs = null;
          return false;
        }
        timesUs.push(status.time_us);
      }
      quietUs ??= Math.max(...timesUs);
      return Math.min(...timesUs) - quietUs >= QUIET_US;
    },
    { withinMs, everyMs: 100 },
  );
}

/** Whether other programs take more than half of this machine: looks for a second at who runs or wants to, in which nothing of ours may have work. */
export async function othersAtWork(): Promise<boolean> {
  let sum = 0;
  for (let i = 0; i < 20; i++) {
    await delay(50);
    sum += Number(/ (\d+)\//.exec(readFileSync('/proc/loadavg', 'utf8'))?.[1] ?? 1) - 1;
  }
  return sum / 20 > availableParallelism() / 2;
}

/** A decimal with 18 digits behind the point, as an integer of 10⁻¹⁸. */
function attos(text: string): bigint {
  const [whole = '0', part = ''] = text.split('.');
  return BigInt(whole) * 10n ** 18n + BigInt(part.padEnd(18, '0'));
}

/** The hash of a share as a pool prints it. */
function hashOf({ enonce1, nonce2, ntime, notify }: Span, nonce: number): string {
  const header = headerFromNotify(notify, { enonce1, nonce2, ntime: Number.parseInt(ntime, 16), nonce });
  return hashHex(powHash('sha256d', header));
}

export interface Account {
  readonly sent: number;
  readonly acknowledged: number;
  readonly stored: number;
  /** Stored, and its answer never arrived or was a refusal of the second sending. */
  readonly storedUnacknowledged: number;
}

const SHOWN = 10;

/**
 * Every acknowledged share is in `shares` once, as it was sent, nothing is there that nobody sent, and the roll-ups per minute and
 * worker are those of the rows.
 */
export async function expectRecord(stack: Stack, load: Load): Promise<Account> {
  const byWorker = new Map(load.lines.map((line) => [line.worker, line]));
  const seen = new Map(load.lines.map((line) => [line.worker, new Uint8Array(line.count)]));
  const wrong: string[] = [];
  const note = (line: string): void => void (wrong.length < SHOWN && wrong.push(line));
  const minutes = new Map<string, { accepted: number; diff: bigint }>();
  const sums = new Map<string, bigint>();
  const diffs = new Map<string, bigint>();
  let stored = 0;
  let unacknowledged = 0;
  await stack.rows(
    `SELECT worker, nonce, enonce1, nonce2, job_id, ntime, toString(diff), hash, toUnixTimestamp(toStartOfMinute(time))
     FROM shares WHERE accepted FORMAT TabSeparated`,
    (row) => {
      const [worker, nonce, enonce1, nonce2, jobId, ntime, diffText, hash, minute] = row.split('\t') as string[];
      stored += 1;
      const line = byWorker.get(worker!);
      const share = Number.parseInt(nonce!, 16);
      const state = line?.stateOf(share) ?? 0;
      if (line === undefined || state === 0) return note(`nobody sent ${row}`);
      const marks = seen.get(worker!)!;
      if (marks[share]! > 0) note(`twice: ${row}`);
      marks[share] = 1;
      const span = line.spanOf(share);
      const asSent = [span.enonce1, span.nonce2, span.jobId, span.ntime].join();
      if (asSent !== [enonce1, nonce2, jobId, ntime].join()) note(`sent as ${asSent}: ${row}`);
      const diff = diffs.get(diffText!) ?? attos(diffText!);
      diffs.set(diffText!, diff);
      if (diff !== attos(span.diff.toFixed(18))) note(`sent at ${span.diff}: ${row}`);
      if (stored % HASHED_EVERY === 0 && hashOf(span, share) !== hash)
        note(`its hash is ${hashOf(span, share)}: ${row}`);
      // Refused at once, it never counts; refused as it came again, the first sending may have been taken.
      if (state === REFUSED) note(`refused: ${row}`);
      if ((state & ~AGAIN) !== ACKNOWLEDGED) unacknowledged += 1;
      sums.set(worker!, (sums.get(worker!) ?? 0n) + diff);
      const key = `${worker}/${minute}`;
      const rollup = minutes.get(key);
      if (rollup === undefined) minutes.set(key, { accepted: 1, diff });
      else {
        rollup.accepted += 1;
        rollup.diff += diff;
      }
    },
  );
  let sent = 0;
  let acknowledged = 0;
  for (const line of load.lines) {
    const marks = seen.get(line.worker)!;
    let expected = 0n;
    for (let share = 0; share < line.count; share++) {
      const state = line.stateOf(share);
      sent += 1;
      const diff = attos(line.spanOf(share).diff.toFixed(18));
      if ((state & ~AGAIN) === ACKNOWLEDGED) {
        acknowledged += 1;
        expected += diff;
        if (marks[share] === 0)
          note(
            `acknowledged and not stored: ${line.worker} ${share} of job ${line.spanOf(share).jobId}, ${line.spanOf(share).enonce1}`,
          );
      } else if (marks[share]! > 0) expected += diff;
    }
    if ((sums.get(line.worker) ?? 0n) !== expected) {
      note(`${line.worker}: the sum of diff is ${sums.get(line.worker)}, not ${expected} of 10^-18`);
    }
    if (line.strangeDuplicates.length > 0) note(`${line.worker}: duplicates that came once: ${line.strangeDuplicates}`);
  }
  await stack.rows(
    `SELECT worker, toUnixTimestamp(minute), accepted, toString(diff) FROM shares_1m WHERE accepted > 0 FORMAT TabSeparated`,
    (row) => {
      const [worker, minute, accepted, diff] = row.split('\t') as [string, string, string, string];
      const key = `${worker}/${minute}`;
      const rollup = minutes.get(key);
      minutes.delete(key);
      if (rollup === undefined || String(rollup.accepted) !== accepted || rollup.diff !== attos(diff)) {
        note(`roll-up ${row}, of shares ${rollup?.accepted} and ${rollup?.diff} of 10^-18`);
      }
    },
  );
  for (const [key, rollup] of minutes) note(`no roll-up of ${key} with ${rollup.accepted} shares`);
  const refused = await stack.sql(
    `SELECT count() FROM (
       SELECT origin, toDateTime(toStartOfMinute(time), 'UTC') AS minute, user, worker, count() AS n, sum(diff) AS d FROM shares WHERE NOT accepted GROUP BY ALL
     ) AS a FULL JOIN (SELECT origin, minute, user, worker, refused, refused_diff FROM shares_1m WHERE refused > 0) AS b USING (origin, minute, user, worker)
     WHERE a.n != b.refused OR a.d != b.refused_diff`,
  );
  if (refused !== '0') note(`${refused} minutes count the refused shares otherwise than shares does`);
  const unique = await stack.sql('SELECT count() = uniqExact(origin, identity) FROM shares');
  if (unique !== '1') note('an identity is in shares twice');
  const letters = await stack.sql('SELECT count() FROM dead_letters');
  if (letters !== '0') note(`${letters} dead letters`);
  expect(wrong).toEqual([]);
  return { sent, acknowledged, stored, storedUnacknowledged: unacknowledged };
}

/**
 * Each table as its number of rows and two hashes of them that know no order, of all columns but `ingest_*`. Tables that
 * replace are read as their newest state. Left out is what only a back-fill brings: the lines of a pool's own status files.
 */
export async function tableHashes(stack: Stack): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  const tables = await stack.sql(
    `SELECT table, any(engine), arrayStringConcat(groupArray(name), ', ') FROM
       (SELECT c.table AS table, t.engine AS engine, c.name AS name FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
        WHERE c.database = currentDatabase() AND t.engine LIKE '%MergeTree' AND c.name NOT LIKE 'ingest\\\\_%' AND c.table NOT IN ('filled_from', 'pool_status_raw') ORDER BY c.position)
     GROUP BY table ORDER BY table FORMAT TabSeparated`,
  );
  for (const line of tables.split('\n')) {
    const [table, engine, columns] = line.split('\t') as [string, string, string];
    const final = engine.startsWith('Replacing') ? ' FINAL' : '';
    hashes[table] = await stack.sql(
      `SELECT count(), groupBitXor(sipHash64(tuple(${columns}))), sum(cityHash64(tuple(${columns}))) FROM ${table}${final} FORMAT TabSeparated`,
    );
  }
  return hashes;
}
