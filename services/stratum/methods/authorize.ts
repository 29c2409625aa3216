/**
 * mining.authorize [worker, password]: any name is let in. User is what stands before the first `.` or `_`. A password of `d=N` or
 * `diff=N`, alone or among others, is a wish for a difficulty. Several names on one line are several workers.
 */
import type { Session, Worker } from '../session.ts';
import type { Request, WireId } from '../wire.ts';
import { errorJson, type WireCode } from './errors.ts';
import { showMessage } from './show-message.ts';
import { cutText, UNPRINTABLE } from './text.ts';

/** CKPool. */
const USER_LIMIT = 127;
const WORKER_LIMIT = 255;
/** Aggregators authorize many names on one line; more than this is none of them. */
const WORKERS_LIMIT = 1_000;
/** A longer password asks for nothing: the search takes the square of its length. */
const PASSWORD_LIMIT = 255;

/** What is wrong with a worker name, or null. */
function workerFault(name: unknown): string | null {
  if (typeof name !== 'string') return 'Invalid workername parameter';
  if (name === '') return 'Empty workername parameter';
  if (name.startsWith('.') || name.startsWith('_')) return 'Empty username parameter';
  if (name.includes('/')) return 'Invalid character in username';
  // Names go into logs, terminals and tables: no control characters, no halves of characters.
  if (UNPRINTABLE.test(name) || !name.isWellFormed()) return 'Invalid character in username';
  if (name.length > WORKER_LIMIT) return 'Workername too long';
  return null;
}

/** User of a worker name. */
export function userOf(worker: string): string {
  return cutText(worker.split(/[._]/, 1)[0]!, USER_LIMIT);
}

/** Difficulty that a password asks for, or null. */
export function passwordDifficulty(password: unknown): number | null {
  if (typeof password !== 'string' || password.length > PASSWORD_LIMIT) return null;
  const text = /(?:^|[\s,;])(?:d|diff)=([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)(?=$|[\s,;])/i.exec(password)?.[1];
  const value = text === undefined ? NaN : Number(text);
  return Number.isFinite(value) && value > 0 ? value : null;
}

function logRefusal(session: Session, name: string, level: 5 | 6): void {
  const { daemon, connection, allowance } = session;
  if (!daemon.says(level) || !allowance.entry()) return;
  const { id, address } = connection;
  daemon.log(`Client ${id} ${address} worker ${name} failed to authorise as user ${userOf(name)}`, level);
}

/**
 * Refuses a user whom no block can be paid to, in solo mode. It may be tried again, under another name at once and under the same one after a
 * pause (back-off.ts), before which the line ends: nothing but a loop does that. A line that mines stays.
 */
function refuseUnpayable(session: Session, id: WireId | undefined, name: string, user: string, why: string): void {
  const { daemon, connection, allowance } = session;
  const { backOff } = daemon;
  const leftMs = backOff.leftMs(user);
  const level = backOff.said(user) ? 6 : 5;
  if (leftMs === 0) {
    backOff.refused(user);
    logRefusal(session, name, level);
  } else {
    backOff.say(user);
    if (daemon.says(level) && allowance.entry()) {
      const { id: client, address } = connection;
      daemon.log(`Client ${client} ${address} worker ${name} rate limited due to failed auth attempts`, level);
    }
  }
  showMessage(session, 'Failed authorisation :(');
  // CKPool's without a word.
  if (daemon.config.compat === 'ckpool') session.reply('result-error-id', id, 'false');
  else {
    const pause = leftMs === 0 ? '' : `; not heard for ${Math.ceil(leftMs / 1_000)} more seconds`;
    const words = `In solo mode the user is an address of chain ${daemon.profile.name}: ${why}${pause}`;
    session.reply('result-error-id', id, 'false', errorJson(24, words));
  }
  if (leftMs > 0 && !session.authorized) session.end('authorized too often as a user that cannot be paid');
}

export function authorize(session: Session, request: Request): void {
  const { daemon } = session;
  const { id, params } = request;
  const { name: instance, compat } = daemon.config;
  const ckpool = compat === 'ckpool';
  // CKPool hears the first authorize of a line, also where it failed.
  if (ckpool && (session.authorized || session.authorizeFailed)) return;
  const fail = (words: string, code: WireCode): void => {
    session.authorizeFailed = true;
    const name = Array.isArray(params) ? params[0] : undefined;
    if (workerFault(name) === null) logRefusal(session, String(name), 5);
    showMessage(session, 'Failed authorisation :(');
    session.reply('result-error-id', id, 'false', ckpool ? JSON.stringify(words) : errorJson(code, words));
  };
  const fault = !Array.isArray(params)
    ? 'params not an array'
    : params.length === 0
      ? 'params missing array entries'
      : !session.subscribed
        ? 'Failed subscription'
        : workerFault(params[0]);
  if (fault !== null) {
    fail(fault, fault === 'Failed subscription' ? 25 : 20);
    return;
  }
  const [name, password] = params as [string, unknown];
  const user = userOf(name);
  if (session.resumedUser !== null && session.resumedUser !== user) {
    fail('This session is of another user', 24);
    session.end('a session of another user was resumed');
    return;
  }
  const bannedMs = ckpool ? 0 : daemon.bans.leftMs(session.connection.address, user);
  if (bannedMs > 0) {
    const minutes = Math.ceil(bannedMs / 60_000);
    const words = `Banned for ${minutes} more minutes: nothing but refused shares came from this address and user`;
    session.reply('result-error-id', id, 'false', errorJson(24, words));
    session.end('banned');
    return;
  }
  const unpayable = session.source!.userFault(user);
  if (unpayable !== null) {
    refuseUnpayable(session, id, name, user, unpayable);
    return;
  }
  const [own] = session.workers.values();
  if (session.source!.solo && own !== undefined && own.user !== user) {
    fail('In solo mode a line has one user: its jobs pay one address', 24);
    return;
  }
  const first = !session.authorized;
  session.joinUser(user);
  if (!session.workers.has(name)) {
    if (session.workers.size >= WORKERS_LIMIT || (!first && !session.allowance.name())) {
      fail('Too many workers on one line', 20);
      return;
    }
    const { id: client, address } = session.connection;
    const { proxyId } = session.source!;
    // CKPool hears one name a line. Many on one line are no notices.
    const level = first ? 5 : 6;
    if (daemon.says(level) && session.allowance.entry()) {
      const where = proxyId === undefined ? address : `to proxy ${proxyId},`;
      daemon.log(`Authorised client ${client} ${where} worker ${name} as user ${user}`, level);
    }
    const worker: Worker = { user, name, tally: null };
    session.workers.set(name, worker);
    if (first) session.tallyOf(worker);
  }
  if (first) session.limitByMiner(name, user);
  const wish = ckpool ? null : passwordDifficulty(password);
  if (wish !== null) session.wishDifficulty(wish);
  showMessage(session, `Authorised, welcome to ${instance} ${user}!`);
  session.reply('result-error-id', id, 'true');
  if (!first) return;
  daemon.sessionEvent(session, 'authorized');
  // Jobs are broadcast to authorized lines only: one may have come since the subscription.
  // In solo mode this is where the first job comes, for the user decides what it pays.
  const job = session.source!.jobs.current;
  if (session.source!.solo) session.sendFreshJob();
  else if (job !== null && session.behind) session.sendJob(job);
}
