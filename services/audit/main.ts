/**
 * `lodestream audit`: reads the log of record from one instant to another and checks the proof of work of every live share in it (check.ts).
 * It writes nothing, and needs neither node nor ClickHouse.
 *
 *   cursors.ts: job, session, block, share in the order of their times ─► check.ts ─► findings, counts
 *   what was not met on the way (a partition that lags, a job from before): looked for in the whole topic, many at once
 */

import type { Topic } from '../../schemas/events.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { EventLog, Position } from '../core/log/event-log.ts';
import { Audit } from './check.ts';
import { type Cursor, cursorsOf, merge, type Reading } from './cursors.ts';
import type { Counts, Finding } from './findings.ts';

/** Shares that wait for their jobs, or solutions for their blocks, before the topic is looked through for them. */
const WAITING_LIMIT = 100_000;
/** Jobs, sessions and blocks of so long before the first share are read with it, microseconds. */
const BEFORE_US = 3_600_000_000;

export interface AuditRun {
  readonly log: EventLog;
  /** Profile of a chain by the name that events carry. @throws PoolError chain_unknown */
  readonly chain: (name: string) => ChainProfile;
  /** null: all origins. */
  readonly origin: string | null;
  /** Shares received in [from, to), microseconds since 1970; null: no limit. */
  readonly fromUs: number | null;
  readonly toUs: number | null;
  /** A position at or before the first event of an instant, where the log can tell; else null, the beginning. */
  readonly positionSince: (topic: Topic, partition: string, sinceUs: number) => Position | null;
  readonly onFinding: (finding: Finding) => void;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal: AbortSignal;
  readonly limitBytes?: number;
  readonly waitingLimit?: number;
}

export interface Progress {
  readonly counts: Counts;
  /** Records read, and that there are. */
  readonly read: number;
  readonly total: number;
  readonly seconds: number;
}

/**
 * Audits.
 * @returns the counts; all held where `notHeld`, `jobsNotHeld` and `damaged` are 0
 * @throws PoolError schema_unknown where the log was written by a newer program; kafka, chain_unknown; the signal's reason
 */
export async function runAudit(run: AuditRun): Promise<Progress> {
  const startMs = performance.now();
  const { log, signal, fromUs } = run;
  const audit = new Audit({
    chain: run.chain,
    origin: run.origin,
    fromUs: fromUs ?? Number.NEGATIVE_INFINITY,
    toUs: run.toUs ?? Number.POSITIVE_INFINITY,
    onFinding: run.onFinding,
    ...(run.limitBytes === undefined ? {} : { limitBytes: run.limitBytes }),
  });
  const waitingLimit = run.waitingLimit ?? WAITING_LIMIT;
  const reading: Reading = { log, signal, onUnreadable: (...what) => audit.unreadable(...what) };
  const since = (beforeUs: number) => (topic: Topic, partition: string) =>
    fromUs === null ? null : run.positionSince(topic, partition, fromUs - beforeUs);
  // Shares first: what they refer to is in the log before them, and so within what is there a moment later.
  const shares = await cursorsOf(reading, 'share', since(0));
  const blocks = await cursorsOf(reading, 'block', since(BEFORE_US));
  const sessions = await cursorsOf(reading, 'session', since(BEFORE_US));
  const jobs = await cursorsOf(reading, 'job', since(BEFORE_US));
  const all = [...jobs, ...sessions, ...blocks, ...shares];
  const total = all.reduce((sum, cursor) => sum + cursor.total, 0);
  const progress = (): Progress => ({
    counts: audit.counts,
    read: all.reduce((sum, cursor) => sum + cursor.read, 0),
    total,
    seconds: (performance.now() - startMs) / 1000,
  });

  let sinceSaid = 0;
  await merge(all, ({ topic, event }, cursor) => {
    if (topic === 'share') audit.share(event, cursor.place());
    else if (topic === 'job') audit.job(event, cursor.place());
    else if (topic === 'session') audit.session(event, cursor.place());
    else if (topic === 'block') audit.block(event);
    sinceSaid += 1;
    if (sinceSaid >= 1_000) {
      sinceSaid = 0;
      run.onProgress?.(progress());
    }
    const waiting = Math.max(audit.joblessCount, audit.blocklessCount, audit.suspectCount);
    return waiting >= waitingLimit ? look() : undefined;
  });
  await look();
  return progress();

  /** Looks the log through for what was not met. */
  async function look(): Promise<void> {
    audit.flush();
    const quiet: Reading = { log, signal, onUnreadable: () => {} };
    const others = async (topic: Topic, known: readonly Cursor[]): Promise<Cursor[]> =>
      (await cursorsOf(quiet, topic, () => null)).filter(({ partition }) =>
        known.some((cursor) => cursor.partition === partition),
      );
    if (audit.joblessCount > 0) {
      await merge(await others('job', jobs), ({ topic, event }, cursor) => {
        if (topic === 'job') audit.lateJob(event, cursor.place());
        return undefined;
      });
      audit.tellJobless();
      audit.flush();
    }
    if (audit.blocklessCount > 0) {
      await merge(await others('block', blocks), ({ topic, event }) => {
        if (topic === 'block') audit.block(event);
        return undefined;
      });
      audit.tellBlockless();
    }
    if (audit.suspectCount > 0) {
      await merge(await others('session', sessions), ({ topic, event }, cursor) => {
        if (topic === 'session') audit.lateSession(event, cursor.place());
        return undefined;
      });
      audit.tellSuspects();
    }
  }
}
