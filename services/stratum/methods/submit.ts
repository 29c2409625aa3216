/**
 * mining.submit [worker, job id, extranonce2, ntime, nonce, version bits]: the fields are read in CKPool's order of checks, then
 * share.ts judges, then the source of the work is told (a block leaves here), then the event is recorded and the answer queued.
 */
import type { ShareInput } from '../../../schemas/events.ts';
import { bytesFromHex } from '../../core/bitcoin/bytes.ts';
import type { Job } from '../job.ts';
import type { Session, Worker } from '../session.ts';
import { checkShare, refuse, type ShareVerdict, type Submission } from '../share.ts';
import { type Request, replyText } from '../wire.ts';
import { userOf } from './authorize.ts';
import { errorJson, malformedText, refusalText } from './errors.ts';

/** What a submission says, as text in the form in which it is recorded. */
interface Fields {
  readonly worker: string;
  readonly jobId: string;
  readonly nonce2: string;
  readonly ntime: string;
  readonly nonce: string;
  /** 8 digits, or empty. */
  readonly versionBits: string;
}

const JOB_ID_LIMIT = 64;

function isHex(value: unknown, even: boolean): value is string {
  return typeof value === 'string' && /^[0-9a-f]+$/i.test(value) && (!even || value.length % 2 === 0);
}

/**
 * Reads the parameters.
 *
 * @param nonce2Bytes - extranonce2 is cut or filled with zeros to this size, as CKPool does
 * @param versionMask - bits that may be set
 * @param strict - as CKPool: a nonce of fewer than 8 digits is none, nor are version bits of an odd number; else they are numbers without
 *   their leading zeros, as some small miners print them
 * @returns what is wrong, in CKPool's words, or the fields
 */
function readFields(params: unknown, nonce2Bytes: number, versionMask: number, strict: boolean): string | Fields {
  if (!Array.isArray(params)) return 'Params not array';
  if (params.length < 5) return 'Invalid array size';
  const [worker, jobId, nonce2, ntime, nonce, bits] = params as unknown[];
  if (typeof worker !== 'string' || worker === '') return 'No username';
  if (typeof jobId !== 'string' || jobId === '') return 'No job_id';
  if (!isHex(nonce2, true)) return 'No nonce2';
  if (!isHex(ntime, false) || ntime.length > 8) return 'No ntime';
  if (!isHex(nonce, false) || (strict && nonce.length < 8)) return 'No nonce';
  // Null, empty or no hex: no version bits.
  let versionBits = '';
  if (isHex(bits, strict)) {
    if (bits.length > 8 || (Number.parseInt(bits, 16) & ~versionMask) !== 0) return 'Invalid version mask';
    versionBits = bits.toLowerCase().padStart(8, '0');
  }
  return {
    worker,
    jobId,
    nonce2: nonce2.slice(0, nonce2Bytes * 2).padEnd(nonce2Bytes * 2, '0'),
    ntime,
    nonce: nonce.slice(0, 8).padStart(8, '0'),
    versionBits,
  };
}

/** The worker that a share counts for; null where the name belongs to nobody on this line. */
function workerFor(session: Session, name: string): Worker | null {
  const exact = session.workers.get(name);
  if (exact !== undefined || session.daemon.config.compat === 'ckpool') return exact ?? null;
  // Another worker of the same user, as some firmware names it: the authorized one is credited.
  const user = userOf(name);
  for (const worker of session.workers.values()) if (worker.user === user) return worker;
  return null;
}

export function submit(session: Session, request: Request): void {
  const { daemon } = session;
  const { id } = request;
  const { compat } = daemon.config;
  const { source } = session;
  if (source === null) {
    if (compat === 'ckpool') session.end('submit before subscribe');
    else session.reply('result-error-id', id, 'false', errorJson(25, 'Not subscribed'));
    return;
  }
  if (!session.authorized) {
    if (compat !== 'ckpool') session.reply('result-error-id', id, 'false', errorJson(24, 'Unauthorized worker'));
    return;
  }
  const versionMask = session.versionMask & source.versionMask;
  const fields = readFields(request.params, source.nonce2Bytes, versionMask, compat === 'ckpool');
  const worker = typeof fields === 'string' ? null : workerFor(session, fields.worker);
  if (typeof fields === 'string' || worker === null) {
    daemon.counters.malformed += 1;
    session.refused();
    session.send(malformedText(compat, id, typeof fields === 'string' ? fields : 'Worker mismatch'));
    return;
  }

  const job = source.jobs.find(fields.jobId);
  const submission: Submission = {
    nonce2: bytesFromHex(fields.nonce2),
    ntime: Number.parseInt(fields.ntime, 16),
    nonce: Number.parseInt(fields.nonce, 16),
    versionBits: fields.versionBits === '' ? null : Number.parseInt(fields.versionBits, 16),
  };
  const verdict: ShareVerdict =
    job === undefined
      ? refuse(1, session.difficulty, null)
      : checkShare(submission, job, {
          enonce1: session.enonce1,
          versionMask,
          requirement: session.requirement(job),
          stale: source.jobs.isStale(job),
          isDuplicate: (key) => job.seen.has(key),
        });
  const event = shareEvent(session, fields, worker, job, verdict);
  if (job !== undefined) source.judged({ job, submission, verdict, enonce1: session.enonce1, event });

  if (verdict.accepted) accept(session, request, job!, verdict.diff, verdict.proof.key, event, worker);
  else {
    daemon.counters.refused += 1;
    daemon.tally.refused(event.diff);
    if (session.refusalIsEvent()) daemon.share(event, job ?? source.jobs.current);
    session.send(refusalText(compat, id, verdict.errn, verdict.reason));
    session.refused();
  }
}

function accept(
  session: Session,
  { id }: Request,
  job: Job,
  diff: number,
  key: string,
  event: ShareInput,
  worker: Worker,
): void {
  const { daemon } = session;
  job.seen.add(key);
  daemon.share(event, job);
  session.send((journaled) => {
    if (journaled) {
      daemon.counters.accepted += 1;
      worker.tally.accepted(event.diff, event.sdiff, session.lastShareMs);
      return replyText('result-error-id', id, 'true');
    }
    // It does not count, so the miner may send it again.
    job.seen.delete(key);
    daemon.counters.refused += 1;
    return malformedText(daemon.config.compat, id, 'The pool cannot store shares now');
  });
  session.accepted(job, diff);
}

function shareEvent(
  session: Session,
  fields: Fields,
  worker: Worker,
  job: Job | undefined,
  verdict: ShareVerdict,
): ShareInput {
  const { daemon, connection } = session;
  const { proof } = verdict;
  return {
    origin: daemon.config.origin,
    instance: daemon.instance,
    source: 'live',
    time_us: daemon.facts.timeUs(),
    client_id: connection.id,
    listener: connection.listener,
    job_id: job?.id ?? fields.jobId.toWellFormed().slice(0, JOB_ID_LIMIT),
    job_key: job?.key ?? '',
    height: job?.height ?? 0,
    user: worker.user,
    worker: worker.name,
    agent: session.agent,
    address: connection.address,
    accepted: verdict.accepted,
    errn: verdict.errn,
    reason: verdict.reason,
    diff: verdict.diff / daemon.profile.stratum_difficulty_multiplier,
    sdiff: proof?.sdiff ?? -1,
    hash: proof?.hash ?? '',
    block_hash: proof?.blockHash ?? '',
    enonce1: session.enonce1Hex,
    nonce2: fields.nonce2,
    nonce: fields.nonce,
    ntime: fields.ntime,
    version_bits: fields.versionBits,
  };
}
