/**
 * What stands in CKPool's status files, and their names: written with the keys of 0.9.9 in their order, ours behind them; read whatever age of
 * CKPool wrote them: 0.9.4 (one line a user, workers in files of their own), 0.95, 0.9.9, and the fork ckpool-lhr. Only computes; status-files.ts
 * has them on disk.
 *
 * Names of users and workers come from miners. As a file a name is itself where it is plain; every other byte is `%` and two hex digits.
 */
import { createHash } from 'node:crypto';
import { rateFromSuffix } from '../../../schemas/rate-suffix.ts';
import { userOf } from '../methods/authorize.ts';
import { realText } from '../sharelog.ts';
import { type Account, FORGOTTEN_MS, type PoolValues, type StoredPool, UserAccount, WorkerAccount } from './stats.ts';
import { bestText, suffixText, sumText } from './suffix.ts';

const POOL_KEYS = ['hashrate1m', 'hashrate5m', 'hashrate15m', 'hashrate1hr', 'hashrate6hr', 'hashrate1d', 'hashrate7d'];
const USER_KEYS = ['hashrate1m', 'hashrate5m', 'hashrate1hr', 'hashrate1d', 'hashrate7d'];
const SPS_KEYS = ['SPS1m', 'SPS5m', 'SPS15m', 'SPS1h'];
/** CKPool prints user files with so many digits, the third line of pool.status with three. */
const USER_DIGITS = 16;
const POOL_DIGITS = 3;

/** How the texts are made. */
export interface Form {
  /** True: CKPool 0.9.9's keys and whole numbers, to the byte. */
  readonly ckpool: boolean;
  /** Hashes that a unit of difficulty stands for: averages are shown as hash rates. */
  readonly hashesPerDifficulty: number;
}

type Pair = readonly [key: string, text: string];

const spaced = (pairs: readonly Pair[]): string => `{${pairs.map(([key, text]) => `"${key}": ${text}`).join(', ')}}`;
const compact = (pairs: readonly Pair[]): string => `{${pairs.map(([key, text]) => `"${key}":${text}`).join(',')}}`;
const seconds = (ms: number): string => String(Math.floor(ms / 1_000));

function ratePairs(keys: readonly string[], rates: readonly number[], form: Form): Pair[] {
  return keys.map((key, i) => [key, `"${suffixText(rates[i]! * form.hashesPerDifficulty)}"`]);
}

// --- texts -------------------------------------------------------------------------------------------------------------------

/** Ours, in the form of ckpool-lhr, which leaves it out where nobody is connected. */
function agentPairs({ agents }: PoolValues, form: Form): Pair[] {
  if (form.ckpool || agents.length === 0) return [];
  const list = agents.map(({ name, lines, dsps5m, best }) =>
    spaced([
      ['ua', JSON.stringify(name)],
      ['devices', String(lines)],
      ['hashrate5m', `"${suffixText(dsps5m * form.hashesPerDifficulty)}"`],
      ['bestshare', realText(best)],
    ]),
  );
  return [['UserAgents', `[${list.join(', ')}]`]];
}

/** The three lines of pool.status, as the main log has them too. */
export function poolLines(pool: PoolValues, nowMs: number, form: Form): [string, string, string] {
  const percent = pool.networkDiff > 0 ? Math.round((pool.accepted / pool.networkDiff) * 10_000) / 100 : 0;
  const counts: Pair[] = [
    ['runtime', seconds(nowMs - pool.startedMs)],
    ['lastupdate', seconds(nowMs)],
    ['Users', String(pool.users)],
    ['Workers', String(pool.workers)],
    ['Idle', String(pool.idle)],
    ['Disconnected', String(pool.disconnected)],
    ...agentPairs(pool, form),
  ];
  const shares: Pair[] = [
    ['diff', realText(percent, POOL_DIGITS)],
    ['accepted', sumText(pool.accepted, form.ckpool)],
    ['rejected', sumText(pool.rejected, form.ckpool)],
    ['bestshare', bestText(pool.best, form.ckpool)],
    ...SPS_KEYS.map((key, i): Pair => [key, realText(pool.sps[i]!, POOL_DIGITS)]),
  ];
  const ours: Pair[] = form.ckpool
    ? []
    : [
        ['netdiff', realText(pool.networkDiff)],
        ['accepted_count', String(pool.acceptedCount)],
        ['rejected_count', String(pool.rejectedCount)],
      ];
  return [spaced(counts), spaced(ratePairs(POOL_KEYS, pool.dsps, form)), spaced([...shares, ...ours])];
}

function sharePairs(account: Account, form: Form, digits: number): Pair[] {
  return [
    ['shares', sumText(account.shares, form.ckpool, digits)],
    ['bestshare', realText(account.best, digits)],
    ['bestever', bestText(account.bestEver, form.ckpool, digits)],
  ];
}

function userPairs(user: UserAccount, lines: number, form: Form, digits: number): Pair[] {
  return [
    ...ratePairs(USER_KEYS, user.rates.values, form),
    ['lastshare', seconds(user.lastShareMs)],
    ['workers', String(lines)],
    ...sharePairs(user, form, digits),
    ['authorised', String(user.authorizedS)],
  ];
}

function workerPairs(worker: WorkerAccount, form: Form, digits: number): Pair[] {
  const pairs: Pair[] = [
    ...ratePairs(USER_KEYS, worker.rates.values, form),
    ['lastshare', seconds(worker.lastShareMs)],
    ...sharePairs(worker, form, digits),
  ];
  if (form.ckpool) return pairs;
  return [...pairs, ['started', seconds(worker.startedMs)], ['useragent', JSON.stringify(worker.agent)]];
}

/** `users/<user>`: a key a line, one space a level. @param lines - connected now */
export function userText(user: UserAccount, lines: number, nowMs: number, form: Form): string {
  const line = ([key, text]: Pair, indent: string): string => `${indent}"${key}": ${text}`;
  const workers: string[] = [];
  for (const worker of user.workers.values()) {
    if (nowMs - worker.lastShareMs > FORGOTTEN_MS) continue;
    const pairs: Pair[] = [['workername', JSON.stringify(worker.name)], ...workerPairs(worker, form, USER_DIGITS)];
    workers.push(`  {\n${pairs.map((pair) => line(pair, '   ')).join(',\n')}\n  }`);
  }
  const own = userPairs(user, lines, form, USER_DIGITS).map((pair) => line(pair, ' '));
  const list = workers.length === 0 ? ' "worker": []' : ` "worker": [\n${workers.join(',\n')}\n ]`;
  return `{\n${[...own, list].join(',\n')}\n}\n`;
}

/** The user of the minute's `User …:` line. */
export function userLine(user: UserAccount, lines: number, form: Form): string {
  return `User ${user.name}:${compact(userPairs(user, lines, form, 17))}`;
}

/** The two lines that follow a solved block. */
export function solverLines(user: UserAccount, worker: WorkerAccount, form: Form): [string, string] {
  const own: Pair[] = [
    ...ratePairs(USER_KEYS, user.rates.values, form),
    ['shares', sumText(user.shares, form.ckpool)],
    ['authorised', String(user.authorizedS)],
  ];
  return [
    `User ${user.name}:${spaced(own)}`,
    `Worker ${worker.name}:${spaced(ratePairs(USER_KEYS, worker.rates.values, form))}`,
  ];
}

/** `workers/<worker>`: one line, in the form of CKPool 0.9.4, ours after its keys. */
export function workerText(worker: WorkerAccount, form: Form): string {
  const pairs: Pair[] = [
    ...ratePairs(USER_KEYS, worker.rates.values, form),
    ['lastupdate', seconds(worker.lastShareMs)],
    ['shares', sumText(worker.shares, form.ckpool, USER_DIGITS)],
    ['bestshare', realText(worker.best, USER_DIGITS)],
    ['bestever', bestText(worker.bestEver, form.ckpool, USER_DIGITS)],
    ['lastshare', seconds(worker.lastShareMs)],
    ['started', seconds(worker.startedMs)],
    ['useragent', JSON.stringify(worker.agent)],
  ];
  return `${spaced(pairs)}\n`;
}

// --- reading -----------------------------------------------------------------------------------------------------------------

type Json = Record<string, unknown>;

function objectOf(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('it is no JSON object');
  return value as Json;
}

function jsonObject(text: string): Json {
  try {
    return objectOf(JSON.parse(text));
  } catch (cause) {
    throw new Error(cause instanceof SyntaxError ? `it is no JSON: ${cause.message}` : (cause as Error).message, {
      cause,
    });
  }
}

/** A count or sum; 0 where the age of the file has none. */
function numberOf(json: Json, ...keys: string[]): number {
  for (const key of keys) {
    const value = json[key];
    if (value === undefined || value === null) continue;
    // Some ages of CKPool print reals as texts.
    const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isFinite(number) || number < 0) {
      throw new Error(`"${key}" is ${JSON.stringify(value)?.slice(0, 40)}, no number from 0 up`);
    }
    return number;
  }
  return 0;
}

/** Averages in the unit of difficulty per second. */
function ratesOf(json: Json, keys: readonly string[], form: Form): number[] {
  return keys.map((key) => {
    const text = json[key];
    if (text === undefined) return 0;
    const value = typeof text === 'string' ? rateFromSuffix(text) : typeof text === 'number' ? text : null;
    if (value === null || value < 0) throw new Error(`"${key}" is ${JSON.stringify(text)?.slice(0, 40)}, no hash rate`);
    return value / form.hashesPerDifficulty;
  });
}

function fill(account: Account, json: Json): void {
  account.shares = numberOf(json, 'shares');
  account.best = numberOf(json, 'bestshare');
  account.bestEver = Math.max(numberOf(json, 'bestever'), account.best);
  account.lastShareMs = numberOf(json, 'lastshare', 'lastupdate') * 1_000;
}

function workerOfJson(name: string, json: Json, ratesMs: number, form: Form): WorkerAccount {
  const worker = new WorkerAccount(name, ratesMs, ratesOf(json, USER_KEYS, form));
  fill(worker, json);
  if (typeof json.useragent === 'string') worker.agent = json.useragent;
  return worker;
}

/** When averages of a file were right: CKPool stops writing who has had no share for 600,000 s. */
function ratesMsOf(json: Json, writtenMs: number): number {
  const lastMs = numberOf(json, 'lastshare', 'lastupdate') * 1_000;
  return lastMs > 0 && writtenMs - lastMs > FORGOTTEN_MS ? lastMs + FORGOTTEN_MS : writtenMs;
}

/**
 * A user's file.
 *
 * @param writtenMs - when it was written
 * @returns also whether the file has a list of workers (not in CKPool 0.9.4)
 * @throws Error that says what is wrong with it
 */
export function userFromText(
  name: string,
  text: string,
  writtenMs: number,
  form: Form,
): { user: UserAccount; hasWorkers: boolean } {
  const json = jsonObject(text);
  const ratesMs = ratesMsOf(json, writtenMs);
  const user = new UserAccount(name, ratesMs, ratesOf(json, USER_KEYS, form));
  fill(user, json);
  user.storedMs = writtenMs;
  user.changed = false;
  user.authorizedS = Math.floor(numberOf(json, 'authorised'));
  const list = json.worker;
  if (list === undefined) return { user, hasWorkers: false };
  if (!Array.isArray(list)) throw new Error('"worker" is no list');
  for (const item of list) {
    const entry = objectOf(item);
    const worker = entry.workername;
    // CKPool: a worker of another user is skipped.
    if (typeof worker !== 'string' || userOf(worker) !== name || user.workers.has(worker)) continue;
    user.workers.set(worker, workerOfJson(worker, entry, ratesMsOf(entry, writtenMs), form));
  }
  return { user, hasWorkers: true };
}

/** A worker's file. @throws Error that says what is wrong with it */
export function workerFromText(name: string, text: string, writtenMs: number, form: Form): WorkerAccount {
  const json = jsonObject(text);
  return workerOfJson(name, json, ratesMsOf(json, writtenMs), form);
}

/** pool.status. @throws Error that says what is wrong with it */
export function poolFromText(text: string, writtenMs: number, form: Form): StoredPool {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length < 3) throw new Error(`it has ${lines.length} lines of JSON, expected 3`);
  const json: Json = Object.assign({}, ...lines.map(jsonObject));
  const updatedS = numberOf(json, 'lastupdate');
  return {
    updatedMs: updatedS > 0 ? updatedS * 1_000 : writtenMs,
    dsps: ratesOf(json, POOL_KEYS, form),
    sps: SPS_KEYS.map((key) => numberOf(json, key)),
    accepted: numberOf(json, 'accepted'),
    rejected: numberOf(json, 'rejected'),
    acceptedCount: numberOf(json, 'accepted_count'),
    rejectedCount: numberOf(json, 'rejected_count'),
    best: numberOf(json, 'bestshare'),
  };
}

// --- names as files ----------------------------------------------------------------------------------------------------------

const NAME_LIMIT_BYTES = 240;
const DIGEST_DIGITS = 40;

/** The user in whose file a text stands, by its first worker; throws where there is none. */
export function userInText(text: string): string {
  const list = jsonObject(text).worker as Json[];
  return userOf(String(list[0]!.workername));
}

/**
 * A file's name for a name that a miner chose: never a path, never hidden, the same for no two names. Printable ASCII stays as it is,
 * but for `%`, `/` and a leading dot; other bytes of UTF-8 are `%` and two hex digits. A name that would be too long ends in `%~` and a digest.
 *
 * @param foldsCase - the folder takes `A` and `a` for one name: capitals are written as bytes too
 */
export function fileNameOf(name: string, foldsCase = false): string {
  let file = '';
  for (const byte of Buffer.from(name, 'utf8')) {
    const plain =
      byte > 0x20 &&
      byte < 0x7f &&
      byte !== 0x25 &&
      byte !== 0x2f &&
      !(byte === 0x2e && file === '') &&
      !(foldsCase && byte >= 0x41 && byte <= 0x5a);
    file += plain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`;
  }
  if (file.length <= NAME_LIMIT_BYTES) return file;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, DIGEST_DIGITS);
  return `${file.slice(0, NAME_LIMIT_BYTES - DIGEST_DIGITS - 8).replace(/%[0-9a-f]?$/, '')}%~${digest}`;
}

/** The name that a file stands for: ours by its escapes, any other (CKPool's) as it is; null where only a digest says it. */
export function nameOfFile(file: string, foldsCase = false): string | null {
  if (file.includes('%~')) return null;
  const bytes: number[] = [];
  for (let i = 0; i < file.length; i++) {
    const hex = /^%([0-9a-f]{2})/.exec(file.slice(i, i + 3))?.[1];
    if (hex === undefined) bytes.push(...Buffer.from(file[i]!, 'utf8'));
    else {
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    }
  }
  const name = Buffer.from(bytes).toString('utf8');
  return fileNameOf(name, foldsCase) === file ? name : file;
}
