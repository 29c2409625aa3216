/**
 * One running daemon per socket folder: makes the folder, finds who runs there by `main.pid`, ends it where that is asked for, and writes
 * our own pid. Stands at the very start of a stratum daemon; control.ts then opens the sockets in the same folder.
 */
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { askControl, CONTROL_SOCKETS, SOCKET_PATH_LIMIT_BYTES } from '../../core/control.ts';
import { PoolError } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';
import { acquireLock } from '../../core/lock.ts';

const PID_FILE = 'main.pid';
/** A daemon's title is its name, as long as CKPool's (cli/daemon.ts). */
const TITLE_CHARS = 14;
/** Our own end may wait up to 8 s for a block on its way to a node; CKPool's is given the time that its threads need. */
const END_OURS_MS = 12_000;
const END_CKPOOL_MS = 3_000;
const DEAD_MS = 3_000;
const LOOK_MS = 20;
/** The kernel drops a dead process' lock a moment after it is seen to be dead. */
const LOCK_MS = 1_000;
const ASK_MS = 1_000;

/** What to do with a running daemon of the same folder. */
export type TakeOver = 'no' | 'kill';

export interface Instance {
  readonly dir: string;
  /** Group of the sockets; null: the process' own. */
  readonly gid: number | null;
  /** Removes `main.pid` where it is still ours. */
  release(): void;
}

/**
 * The number of a group.
 * @throws PoolError usage where there is none of that name (CKPool's words)
 */
export function groupId(name: string, groups: string = readFileSync('/etc/group', 'utf8')): number {
  for (const line of groups.split('\n')) {
    const [its, , gid] = line.split(':');
    if (its === name && gid !== undefined) return Number(gid);
  }
  if (/^\d+$/.test(name)) return Number(name);
  throw new PoolError('usage', `Failed to find group ${name}`);
}

/**
 * Makes the folder where it is absent, and refuses one in which somebody else could answer in our place.
 * @throws PoolError sockdir
 */
export function openSockDir(dir: string, gid: number | null): void {
  const longest = Math.max(...CONTROL_SOCKETS.map((name) => Buffer.byteLength(join(dir, name))));
  if (longest > SOCKET_PATH_LIMIT_BYTES) {
    throw new PoolError('sockdir', `socket folder ${dir}: its path is too long for a socket in it`);
  }
  try {
    const made = mkdirSync(dir, { recursive: true, mode: 0o750 });
    if (made !== undefined && gid !== null) chownSync(dir, -1, gid);
    const me = process.geteuid?.() ?? 0;
    // /tmp/ckpool may be a link to /run/ckpool; whoever owns the link decides where our sockets are.
    for (const facts of [lstatSync(dir), statSync(dir)]) {
      if (facts.uid !== me && facts.uid !== 0) {
        throw new PoolError('sockdir', `socket folder ${dir} belongs to user ${facts.uid}, not to ${me}`);
      }
    }
    const facts = statSync(dir);
    if (!facts.isDirectory()) throw new PoolError('sockdir', `socket folder ${dir} is not a folder`);
    if ((facts.mode & 0o1002) === 0o0002) {
      throw new PoolError('sockdir', `socket folder ${dir} can be written by everybody`);
    }
  } catch (cause) {
    if (cause instanceof PoolError) throw cause;
    throw new PoolError('sockdir', `Failed to make socket folder ${dir}: ${(cause as Error).message}`, { cause });
  }
}

/** True while a process of that pid exists, whoever owns it. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    // The state stands behind the name, which may hold anything: a zombie is dead, its parent only has not looked.
    return !/^\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*(?=\) [A-Z])/s, ''));
  } catch {
    return true;
  }
}

/** What a running process is to us, by its program and arguments. */
export function kindOfProcess(exe: string, argv: readonly string[], name: string): 'ours' | 'ckpool' | 'another' {
  const program = basename(exe.replace(/ \(deleted\)$/, ''));
  // Forks and packages have names of their own: ckpool-solo, ckpool.lhr, libtool's lt-ckpool.
  if (/^(lt-)?ck(pool|proxy)([-_.].*)?$/.test(program)) return 'ckpool';
  if (!/^node(js)?(-|\d|$)/.test(program)) return 'another';
  // A daemon's title stands in the place of its arguments once it has one.
  const titles = ['ckpool', 'ckproxy', name.slice(0, TITLE_CHARS)];
  const isDaemon = argv.some(
    (word, i) => /\bcli\/main\.[cm]?[jt]s$/.test(word) && /^(pool|proxy)$|^-|^$/.test(argv[i + 1] ?? ''),
  );
  return isDaemon || (argv.length === 1 && titles.includes(argv[0]!.trim())) ? 'ours' : 'another';
}

async function kindOf(pid: number, dir: string, name: string): Promise<'ours' | 'ckpool' | 'another'> {
  try {
    const exe = readlinkSync(`/proc/${pid}/exe`);
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replace(/\0+$/, '').split('\0');
    const kind = kindOfProcess(exe, argv, name);
    if (kind !== 'another') return kind;
  } catch {
    // Another user's, or a system without /proc: what it says of itself decides.
  }
  const said = await askControl(join(dir, 'listener'), 'getpid', { timeoutMs: ASK_MS }).catch(() => null);
  return said === String(pid) ? 'ours' : 'another';
}

function pidIn(dir: string): number | null {
  try {
    const text = readFileSync(join(dir, PID_FILE), 'utf8').trim();
    const pid = /^\d{1,10}$/.test(text) ? Number(text) : 0;
    return pid > 0 ? pid : null;
  } catch {
    return null;
  }
}

async function ended(pid: number, withinMs: number): Promise<boolean> {
  for (const until = performance.now() + withinMs; isAlive(pid); ) {
    if (performance.now() > until) return false;
    await delay(LOOK_MS);
  }
  return true;
}

async function end(pid: number, kind: 'ours' | 'ckpool', log: Log): Promise<void> {
  const send = (signal: NodeJS.Signals): void => {
    try {
      process.kill(pid, signal);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw new PoolError('other_instance', `Unable to kill old process main pid ${pid}: it is another user's`, {
        cause,
      });
    }
  };
  log(`ending the old process ${pid}`);
  send('SIGTERM');
  if (await ended(pid, kind === 'ours' ? END_OURS_MS : END_CKPOOL_MS)) return;
  log(`the old process ${pid} did not end when asked; it is killed`);
  send('SIGKILL');
  if (!(await ended(pid, DEAD_MS))) throw new PoolError('other_instance', `Unable to kill old process main pid ${pid}`);
}

/**
 * Takes a socket folder for this process.
 *
 * @param of - folder, instance name and group of the configuration
 * @throws PoolError other_instance: a daemon runs there and is not to be ended, or does not end
 * @throws PoolError held: another one is just starting there
 * @throws PoolError sockdir, usage (unknown group)
 */
export async function claimInstance(
  of: { readonly sockDir: string; readonly sockGroup: string | null; readonly name: string },
  takeOver: TakeOver,
  log: Log,
): Promise<Instance> {
  const { sockDir: dir, name } = of;
  const gid = of.sockGroup === null ? null : groupId(of.sockGroup);
  openSockDir(dir, gid);
  const pid = pidIn(dir);
  if (pid !== null && pid !== process.pid && isAlive(pid)) {
    const kind = await kindOf(pid, dir, name);
    if (kind === 'another')
      log(`${join(dir, PID_FILE)} names process ${pid}, which is another program by now: passed over`);
    else if (takeOver === 'no') {
      throw new PoolError(
        'other_instance',
        `Process main pid ${pid} still exists, start ckpool with -H to get a handover or -k if you wish to kill it`,
      );
    } else await end(pid, kind, log);
  }
  // Of two that start at once only one may put its sockets there; a pid file alone would let both.
  const lock = acquireLock(join(dir, '.lock'), { waitMs: LOCK_MS, what: `the socket folder ${dir}` });
  const path = join(dir, PID_FILE);
  try {
    writeFileSync(`${path}.new`, String(process.pid));
    renameSync(`${path}.new`, path);
  } catch (cause) {
    lock.release();
    throw new PoolError('sockdir', `socket folder ${dir}: ${(cause as Error).message}`, { cause });
  }
  return {
    dir,
    gid,
    release() {
      if (pidIn(dir) === process.pid) rmSync(path, { force: true });
      lock.release();
    },
  };
}

/** Answers to `handover`: it was done; this kind of daemon has no way to (what else is answered is why it went wrong). */
export const HANDED_OVER = 'handed over';
export const NO_HANDOVER = 'not possible';
export const FAILED = 'Failed: ';

/** New workers may take a minute to start, and the old ones ten to go (`handover_s`). */
export const HANDOVER_LIMIT_MS = 15 * 60_000;
/** Who does not answer a ping in this time is not asked for more. */
const PING_MS = 5_000;

/**
 * Asks the daemon of a socket folder to take up the program and configuration as they are now (`--handover`).
 *
 * @returns not-possible where nobody answers, or it has no way to: a real CKPool, a daemon of one process
 * @throws PoolError other_instance: it tried, and goes on as it was; it is not to be ended for something that does not start
 * @throws PoolError sockdir: somebody else could answer there
 */
export async function askHandover(dir: string): Promise<'done' | 'not-possible'> {
  if (!existsSync(join(dir, 'listener'))) return 'not-possible';
  openSockDir(dir, null);
  const ask = (text: string, timeoutMs: number): Promise<string | null> =>
    askControl(join(dir, 'listener'), text, { timeoutMs }).catch(() => null);
  if ((await ask('ping', PING_MS)) !== 'pong') return 'not-possible';
  const said = await ask('handover', HANDOVER_LIMIT_MS + PING_MS);
  if (said?.startsWith(FAILED)) {
    throw new PoolError(
      'other_instance',
      `the running instance could not take up the new program and goes on as it was: ${said.slice(FAILED.length)}`,
    );
  }
  return said === HANDED_OVER ? 'done' : 'not-possible';
}
