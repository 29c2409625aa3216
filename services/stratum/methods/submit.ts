/**
 * mining.submit [worker, job id, extranonce2, ntime, nonce, version bits]: the fields are read in CKPool's order of checks and put into the
 * intake, which judges them in the order in which they came, tells the source of the work (a block leaves there), records and answers.
 *
 * Two ways in: `submitBytes` for the plain form that miners write, straight from the socket's bytes, and `submit` for all else.
 */

import { readHex32 } from '../../core/bitcoin/kernel/kernel.ts';
import type { Session, Worker } from '../session.ts';
import { invalidLine } from '../share-lines.ts';
import { TEXT } from '../share-record.ts';
import { SubmitScanner } from '../submit-scanner.ts';
import type { Request } from '../wire.ts';
import { userOf } from './authorize.ts';
import { errorJson, malformedText } from './errors.ts';

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

function isHex(value: unknown, even: boolean): value is string {
  return typeof value === 'string' && /^[0-9a-f]+$/i.test(value) && (!even || value.length % 2 === 0);
}

/**
 * Reads the parameters.
 *
 * @param nonce2Bytes - extranonce2 is cut or filled with zeros to this size, as CKPool does
 * @param versionMask - bits that may be set
 * @param strict - as CKPool: a nonce of fewer than 8 digits is none, nor are a nonce, a time or version bits of an odd number; else they are
 *   numbers without their leading zeros, as some small miners print them
 * @returns what is wrong, in CKPool's words, or the fields
 */
function readFields(params: unknown, nonce2Bytes: number, versionMask: number, strict: boolean): string | Fields {
  if (!Array.isArray(params)) return 'Params not array';
  if (params.length < 5) return 'Invalid array size';
  const [worker, jobId, nonce2, ntime, nonce, bits] = params as unknown[];
  if (typeof worker !== 'string' || worker === '') return 'No username';
  if (typeof jobId !== 'string' || jobId === '') return 'No job_id';
  if (!isHex(nonce2, true)) return 'No nonce2';
  if (!isHex(ntime, strict) || ntime.length > 8) return 'No ntime';
  if (!isHex(nonce, strict) || (strict && nonce.length < 8)) return 'No nonce';
  // Null, empty or no hex: no version bits.
  let versionBits = '';
  if (isHex(bits, strict)) {
    const digits = bits.replace(/^0+(?=[^0])/, '').toLowerCase();
    if (digits.length > 8 || (Number.parseInt(digits, 16) & ~versionMask) !== 0) return 'Invalid version mask';
    versionBits = digits.padStart(8, '0');
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

/**
 * cpuminer and cgminer send what they found meanwhile as soon as a resumed line is subscribed, and take the first reply after their authorize for
 * the authorize's: a refusal there ends their login, and they come again after their pause. So these shares wait for it.
 */
function holdsEarly(session: Session, request: Request): boolean {
  if (session.daemon.config.compat === 'ckpool' || session.resumedUser === null || session.authorizeFailed)
    return false;
  session.early ??= [];
  if (session.early.length >= EARLY_LIMIT) return false;
  session.early.push(request);
  return true;
}

/** What cpuminer or cgminer finds while it logs in is a few; more is told at once. */
const EARLY_LIMIT = 64;

/** After an authorize: the shares that waited for it, in their order. */
export function submitEarly(session: Session): void {
  const { early } = session;
  if (early === null || !(session.authorized || session.authorizeFailed)) return;
  session.early = null;
  for (const request of early) submit(session, request);
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
    if (holdsEarly(session, request)) return;
    if (compat !== 'ckpool') session.reply('result-error-id', id, 'false', errorJson(24, 'Unauthorized worker'));
    return;
  }
  const versionMask = session.versionMask & source.versionMask;
  const fields = readFields(request.params, source.nonce2Bytes, versionMask, compat === 'ckpool');
  const worker = typeof fields === 'string' ? null : workerFor(session, fields.worker);
  if (typeof fields === 'string' || worker === null) {
    const words = typeof fields === 'string' ? fields : 'Worker mismatch';
    daemon.counters.malformed += 1;
    if (daemon.says(6)) daemon.log(invalidLine(session.connection.id, words), 6);
    session.refused();
    session.send(malformedText(compat, id, words));
    return;
  }

  const { intake } = daemon;
  const { texts, textsAt } = intake;
  texts.write(fields.nonce, textsAt + TEXT.nonce, 'latin1');
  texts.write(fields.ntime.padStart(8, '0'), textsAt + TEXT.ntime, 'latin1');
  texts.write(fields.versionBits, textsAt + TEXT.versionBits, 'latin1');
  texts.write(fields.nonce2, textsAt + TEXT.nonce2, 'latin1');
  const found = source.jobs.find(fields.jobId);
  const job = found === undefined ? null : session.jobFor(found);
  const versionBits = fields.versionBits === '' ? -1 : Number.parseInt(fields.versionBits, 16);
  const ntime = Number.parseInt(fields.ntime, 16);
  intake.put(session, worker, job, fields.jobId, id, ntime, fields.ntime.length, versionBits, versionMask);
}

const scanner = new SubmitScanner();
const WORKER = 0;
const JOB = 1;
const NONCE2 = 2;
const NTIME = 3;
const NONCE = 4;
const VERSION_BITS = 5;
const NUMBER_DIGITS = 8;
const JOB_ID_DIGITS = 16;

/**
 * A submission of the plain form, with fields of their usual length and a worker of this line; nothing is done with any other.
 *
 * @returns the position behind the line's newline, or -1 where it must go the general way
 */
export function submitBytes(session: Session, bytes: Buffer, start: number, end: number): number {
  const { source, daemon } = session;
  if (source === null) return -1;
  const next = scanner.scan(bytes, start, end);
  if (next < 0) return -1;
  const { from, to } = scanner;
  const worker = plainWorker(session, bytes, from[WORKER]!, to[WORKER]!);
  if (worker === null) return -1;
  const nonce2At = from[NONCE2]!;
  const ntimeAt = from[NTIME]!;
  const nonceAt = from[NONCE]!;
  const nonce2Digits = source.nonce2Bytes * 2;
  if (to[NONCE2]! - nonce2At !== nonce2Digits || to[NTIME]! - ntimeAt !== NUMBER_DIGITS) return -1;
  if (to[NONCE]! - nonceAt !== NUMBER_DIGITS) return -1;
  const ntime = readHex32(bytes, ntimeAt);
  if (ntime < 0 || readHex32(bytes, nonceAt) < 0) return -1;

  const { intake } = daemon;
  const { texts, textsAt } = intake;
  for (let i = 0; i < nonce2Digits; i++) {
    const letter = bytes[nonce2At + i]!;
    if (!isHexLetter(letter)) return -1;
    texts[textsAt + TEXT.nonce2 + i] = letter;
  }
  for (let i = 0; i < NUMBER_DIGITS; i++) {
    texts[textsAt + TEXT.nonce + i] = bytes[nonceAt + i]!;
    texts[textsAt + TEXT.ntime + i] = bytes[ntimeAt + i]!;
  }
  const versionMask = session.versionMask & source.versionMask;
  let versionBits = -1;
  if (scanner.params > VERSION_BITS) {
    const bitsAt = from[VERSION_BITS]!;
    if (to[VERSION_BITS]! - bitsAt !== NUMBER_DIGITS) return -1;
    versionBits = readHex32(bytes, bitsAt);
    if (versionBits < 0 || (versionBits & ~versionMask) !== 0) return -1;
    // Lower case: of hex digits, letters alone have this bit not set already.
    for (let i = 0; i < NUMBER_DIGITS; i++) texts[textsAt + TEXT.versionBits + i] = bytes[bitsAt + i]! | 0x20;
  }

  const jobAt = from[JOB]!;
  const jobDigits = to[JOB]! - jobAt;
  if (jobDigits === 0) return -1;
  let job = null;
  if (jobDigits === JOB_ID_DIGITS) {
    const high = readHex32(bytes, jobAt);
    const low = readHex32(bytes, jobAt + NUMBER_DIGITS);
    if (high >= 0 && low >= 0) job = source.jobs.findNumber(high, low) ?? null;
  }
  let jobId = '';
  if (job === null) {
    jobId = bytes.toString('latin1', jobAt, to[JOB]!);
    job = source.jobs.find(jobId) ?? null;
  }
  if (source.solo && job !== null) job = session.jobFor(job);
  intake.put(session, worker, job, jobId, scanner.id, ntime, NUMBER_DIGITS, versionBits, versionMask);
  return next;
}

function isHexLetter(letter: number): boolean {
  const lower = letter | 0x20;
  return (letter >= 0x30 && letter <= 0x39) || (lower >= 0x61 && lower <= 0x66);
}

/** The worker of this name on the line, where the name needs no escapes; null where it is none, or not surely. */
function plainWorker(session: Session, bytes: Buffer, from: number, to: number): Worker | null {
  const last = session.lastWorker;
  if (last !== null && isName(last, bytes, from, to)) return last;
  for (const worker of session.workers.values()) {
    // Many names on one line are looked up; only letters beyond ASCII make that more than a copy.
    if (session.workers.size > 1 && scanner.plainWorker) break;
    if (isName(worker, bytes, from, to)) {
      session.lastWorker = worker;
      return worker;
    }
  }
  if (!scanner.plainWorker) return null;
  const named = session.workers.get(bytes.toString('latin1', from, to)) ?? null;
  if (named !== null) session.lastWorker = named;
  return named;
}

function isName(worker: Worker, bytes: Buffer, from: number, to: number): boolean {
  if (worker.plainName === undefined) {
    const text = JSON.stringify(worker.name);
    worker.plainName = text.length === worker.name.length + 2 ? Buffer.from(worker.name) : null;
  }
  const name = worker.plainName;
  if (name === null || name.length !== to - from) return false;
  for (let i = 0; i < name.length; i++) if (bytes[from + i] !== name[i]) return false;
  return true;
}
