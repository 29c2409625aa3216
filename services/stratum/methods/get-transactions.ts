/**
 * mining.get_transactions [job id]: the number of the job's transactions, as CKPool answers it. mining.get_txnhashes [job id]: their ids,
 * each followed by a space, once per `update_interval`. The job may stand in brackets behind the name. Other mining.get* are not handled.
 */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { faultText } from './errors.ts';

export function getTransactions(session: Session, { id, method, params }: Request): void {
  const { compat, updateIntervalS } = session.daemon.config;
  if (id === undefined && compat !== 'ckpool') return;
  const fail = (words: string): void => session.send(faultText(compat, id, words));
  if (!session.subscribed) {
    session.send(faultText(compat, id, 'Not subscribed', 25));
    return;
  }
  const name = method.toLowerCase();
  const hashes = name.startsWith('mining.get_txnhashes');
  if (!hashes && !name.startsWith('mining.get_transactions')) {
    fail('Unhandled');
    return;
  }
  const inName = /\(([0-9a-f]+)\)?$/.exec(name)?.[1];
  const [first] = Array.isArray(params) ? (params as unknown[]) : [];
  const jobId = inName ?? first;
  if (hashes) {
    const now = session.daemon.nowMs();
    if (now - session.hashesAskedMs < updateIntervalS * 1_000 || !session.daemon.mayListHashes(now)) {
      fail('Ratelimit');
      return;
    }
    if (typeof jobId !== 'string') {
      fail('Invalid params');
      return;
    }
    session.hashesAskedMs = now;
  }
  const job = typeof jobId === 'string' ? session.source!.jobs.find(jobId) : undefined;
  if (job === undefined || job.txCount < 0) {
    fail('Invalid job_id');
    return;
  }
  if (!hashes) {
    session.reply('id-result-error', id, String(job.txCount));
    return;
  }
  const ids = session.source!.txids(job);
  if (ids === null) fail('Invalid job_id');
  else session.reply('id-result-error', id, JSON.stringify(ids.map((each) => `${each} `).join('')));
}
