/** mining.get_transactions [job id]: the number of the job's transactions, as CKPool answers it; other mining.get* are not handled. */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { errorJson } from './errors.ts';

export function getTransactions(session: Session, { id, method, params }: Request): void {
  if (id === undefined) return;
  const ckpool = session.daemon.config.compat === 'ckpool';
  const fail = (words: string): void => {
    if (ckpool) session.send(`{"id":${JSON.stringify(id)},"error":${JSON.stringify(words)}}\n`);
    else session.reply('id-result-error', id, 'null', errorJson(20, words));
  };
  if (!session.subscribed) {
    fail('Not subscribed');
    return;
  }
  if (!method.toLowerCase().startsWith('mining.get_transactions')) {
    fail('Unhandled');
    return;
  }
  const [jobId] = Array.isArray(params) ? (params as unknown[]) : [];
  const job = typeof jobId === 'string' ? session.source!.jobs.find(jobId) : undefined;
  if (job === undefined || job.txCount < 0) {
    fail('Invalid job_id');
    return;
  }
  session.reply('id-result-error', id, String(job.txCount));
}
