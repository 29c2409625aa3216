/** Doctor on the machine: room and rights of the folders, the clock, logrotate. */
import { execFile } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  type Stats,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../core/config.ts';
import { secretPath } from '../core/data-dir.ts';
import { ALERT_H, reserveBytesOf } from '../core/disk-watch.ts';
import { readOrigin } from '../core/origin-file.ts';
import type { Status } from '../core/status.ts';
import { bad, type Finding, ok, warn } from './findings.ts';

const GIB = 1024 ** 3;
const LEAST_INODES_PERCENT = 5;

const stat = (path: string): Stats | null => {
  try {
    return statSync(path);
  } catch {
    return null;
  }
};

/** The folder, or the nearest above it that is there. */
function present(path: string): string {
  let at = resolve(path);
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

const gib = (bytes: number): string => (bytes / GIB).toFixed(bytes < 10 * GIB ? 1 : 0);

/**
 * Room under the data directory: free against the reserve, and hours left at the present rate, as the running daemon measures it.
 * @param room - for tests: what the file system says
 */
export function checkDisk(
  config: Pick<Config, 'dataDir' | 'diskReserve'>,
  statuses: readonly Status[],
  room: (path: string) => { freeBytes: number; totalBytes: number; freeInodes: number; inodes: number } = roomOf,
): Finding[] {
  const { freeBytes, totalBytes, freeInodes, inodes } = room(present(config.dataDir));
  const reserve = reserveBytesOf(config.diskReserve, totalBytes);
  if (freeBytes < reserve) {
    return [
      bad(
        'disk',
        `${gib(freeBytes)} GiB are free under ${config.dataDir}, the reserve is ${gib(reserve)} GiB: shares are refused`,
        'free space, or lower "lodestream.disk_reserve_bytes" and "lodestream.disk_reserve_percent"',
      ),
    ];
  }
  const findings: Finding[] = [];
  const hours = Math.min(
    ...statuses.flatMap(({ values }) => (typeof values.disk_room_h === 'number' ? [values.disk_room_h] : [])),
  );
  if (hours < ALERT_H) {
    findings.push(
      warn(
        'disk',
        `room for ${hours < 1 ? 'less than 1' : Math.floor(hours)} h at the present rate, then shares are refused`,
        'free space, or move the data directory to a larger disk',
      ),
    );
  }
  if (inodes > 0 && freeInodes * 100 < inodes * LEAST_INODES_PERCENT) {
    findings.push(
      warn(
        'disk',
        `${freeInodes} of ${inodes} inodes are free: no more files can be made soon`,
        '`lodestream archive` packs share logs, which are a file for each job',
      ),
    );
  }
  const rate = Number.isFinite(hours) ? `, room for ${Math.floor(hours)} h at the present rate` : '';
  return findings.length > 0
    ? findings
    : [ok('disk', `${gib(freeBytes)} GiB free under ${config.dataDir}, reserve ${gib(reserve)} GiB${rate}`)];
}

function roomOf(path: string): { freeBytes: number; totalBytes: number; freeInodes: number; inodes: number } {
  const { bavail, blocks, bsize, ffree, files } = statfsSync(path);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes: ffree, inodes: files };
}

/** Folders that this user writes, who owns what lies in them, and secrets that others can read. */
export function checkFolders(config: Config): Finding[] {
  const findings: Finding[] = [];
  const { dataDir, logDir, file } = config;
  const asRoot = process.getuid?.() === 0;

  const data = present(dataDir);
  if (!may(data, constants.W_OK | constants.X_OK)) {
    findings.push(
      bad(
        'folders',
        `${data} cannot be written by this user`,
        'run doctor as the user that the programs run as, or chown the folder to it',
      ),
    );
  }
  const strangers = foreign(dataDir);
  if (strangers !== null) {
    findings.push(
      bad(
        'folders',
        `${strangers.path} belongs to another user (${strangers.uid}) than ${dataDir} (${strangers.owner}): something was run as the wrong one`,
        `chown -R ${strangers.owner} ${dataDir}`,
      ),
    );
  }
  for (const name of ['clickhouse-writer', 'operator'] as const) {
    const path = secretPath(dataDir, name);
    const found = stat(path);
    if (found !== null && (found.mode & 0o077) !== 0) {
      findings.push(bad('folders', `${path} can be read by others`, `chmod 600 ${path}`));
    }
  }
  const own = file === null ? null : stat(file);
  if (own !== null && (own.mode & 0o004) !== 0) {
    findings.push(warn('folders', `${file} can be read by everybody, and has passwords in it`, `chmod o-r ${file}`));
  }
  if (existsSync(logDir)) {
    if (!may(logDir, constants.W_OK | constants.X_OK)) {
      findings.push(
        bad('folders', `logdir ${logDir} cannot be written by this user`, 'chown it to the user that the pool runs as'),
      );
    }
    findings.push(...checkOrigin(config), ...checkRotation(logDir));
  } else if (!may(present(logDir), constants.W_OK | constants.X_OK)) {
    findings.push(
      warn(
        'folders',
        `logdir ${logDir} is not there, and this user cannot make it`,
        `mkdir ${logDir} as root, chown it`,
      ),
    );
  }
  if (findings.length > 0) return findings;
  return [
    ok('folders', `${dataDir} and ${logDir}${asRoot ? '; as root, to whom every folder is open' : ' can be written'}`),
  ];
}

/** Something in the data directory that is not its owner's. */
function foreign(dataDir: string): { path: string; uid: number; owner: number } | null {
  const owner = stat(dataDir)?.uid;
  if (owner === undefined) return null;
  const list = (path: string): string[] => {
    try {
      return readdirSync(path).map((name) => join(path, name));
    } catch {
      return [];
    }
  };
  for (const path of list(dataDir)) {
    for (const each of [path, ...(stat(path)?.isDirectory() === true ? list(path) : [])]) {
      const uid = stat(each)?.uid;
      if (uid !== undefined && uid !== owner) return { path: each, uid, owner };
    }
  }
  return null;
}

/** The name under which back-filled shares meet the live ones. */
function checkOrigin({ logDir, origin }: Config): Finding[] {
  let there: string | null;
  try {
    there = readOrigin(logDir);
  } catch {
    return [];
  }
  if (there === null || there === origin) return [];
  return [
    bad(
      'folders',
      `logdir ${logDir} belongs to origin ${there}, the configuration says ${origin}: shares that are read back would count twice`,
      'give each pool or proxy its own logdir, or set "lodestream.origin"',
    ),
  ];
}

/** That somebody rotates the main log, and may. */
function checkRotation(logDir: string, dir = '/etc/logrotate.d'): Finding[] {
  if (!existsSync(join(logDir, 'ckpool.log')) && !existsSync(join(logDir, 'ckproxy.log'))) return [];
  if (!existsSync(dir)) return [];
  const texts = readdirSync(dir).flatMap((name) => {
    try {
      return [{ path: join(dir, name), text: readFileSync(join(dir, name), 'utf8') }];
    } catch {
      return [];
    }
  });
  const rule = texts.find(({ text }) => text.replace(/^\s*#.*$/gm, '').includes(`${resolve(logDir)}/`));
  if (rule === undefined) {
    return [warn('logrotate', `nothing in ${dir} rotates the main log in ${logDir}`, 'see deploy/logrotate/stratum')];
  }
  if (((stat(logDir)?.mode ?? 0) & 0o022) !== 0 && !/^\s*su\s/m.test(rule.text)) {
    return [
      bad(
        'logrotate',
        `${rule.path} has no "su": logrotate passes over ${logDir}, which others than root may write`,
        'add a line `su root ckpool`, as deploy/logrotate/stratum has it',
      ),
    ];
  }
  return [];
}

/** NTP's state, where the system tells; the nodes' clocks are compared by their templates. */
export async function checkClock(ask: () => Promise<string | null> = ntpState): Promise<Finding[]> {
  const state = await ask();
  if (state === 'yes') return [ok('clock', 'synchronized by NTP')];
  if (state === 'no') {
    return [
      warn(
        'clock',
        'not synchronized (timedatectl: NTPSynchronized=no)',
        'run systemd-timesyncd or chrony: times of shares and blocks come from this clock',
      ),
    ];
  }
  return [ok('clock', 'the system does not say whether NTP runs; compared with the nodes alone')];
}

function ntpState(): Promise<string | null> {
  return new Promise((done) => {
    execFile('timedatectl', ['show', '--property=NTPSynchronized', '--value'], { timeout: 3_000 }, (error, out) =>
      done(error === null ? out.trim() : null),
    );
  });
}
