/**
 * The command line of the stratum daemon: CKPool's flags in its order, then ours. `lodestream pool|proxy` and the names ckpool and ckproxy
 * read it alike; only where a flag is wrong do they differ, by `lodestream.compat`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../core/config.ts';
import { CONTROL_SOCKETS, SOCKET_PATH_LIMIT_BYTES } from '../core/control.ts';
import { PoolError } from '../core/errors.ts';
import { COMMON, configFrom, type Flag } from './flags.ts';
import { getopt, getoptHelp } from './getopt.ts';

/** As `ckpool -h` has them, in its order. */
export const CKPOOL_FLAGS = {
  btcsolo: { short: 'B', doc: "solo: a block pays its finder's address, the user name" },
  config: {
    short: 'c',
    value: 'CONFIG',
    doc: 'configuration file; default NAME.conf in this folder, where there is one',
  },
  daemonise: { short: 'D', doc: 'run in the background' },
  group: { short: 'g', value: 'GROUP', doc: 'group that owns the control sockets' },
  handover: { short: 'H', doc: 'let a running instance take up this program and configuration; else as --killold' },
  help: { short: 'h', doc: 'print this help' },
  killold: { short: 'k', doc: 'end a running instance of the same socket folder first' },
  'log-shares': { short: 'L', doc: 'write CKPool-format share logs under logdir' },
  loglevel: { short: 'l', value: 'LOGLEVEL', doc: '0 to 7 as syslog counts, default 5; 6 has each share, 7 all' },
  name: { short: 'n', value: 'NAME', doc: 'instance name; default ckpool, or ckproxy for a proxy' },
  node: { short: 'N', doc: 'not built: run a pool with a node of its own' },
  passthrough: { short: 'P', doc: 'not built: use proxy' },
  proxy: { short: 'p', doc: 'proxy mode: miners below, a pool above' },
  quiet: { short: 'q', doc: 'no line of once a second on the terminal' },
  redirector: { short: 'R', doc: 'not built: use proxy' },
  sockdir: { short: 's', value: 'SOCKDIR', doc: 'folder of the control sockets and main.pid; default /tmp/NAME' },
  trusted: { short: 't', doc: 'not built: run a second pool under its own origin' },
  userproxy: { short: 'u', doc: 'not built: use proxy with one worker upstream' },
} as const satisfies Readonly<Record<string, Flag>>;

/** What CKPool knew before 2020, or still swallows: read with a warning, so that an old unit goes on starting. */
const HISTORIC: Readonly<Record<string, Flag>> = {
  standalone: { short: 'A', doc: 'as every pool is' },
  'ckdb-name': { short: 'd', value: 'NAME', doc: 'there is no ckdb' },
  'ckdb-sockdir': { short: 'S', value: 'DIR', doc: 'there is no ckdb' },
};

/** Modes that are not built: what to use in their place. */
const NOT_BUILT: Readonly<Partial<Record<keyof typeof CKPOOL_FLAGS, string>>> = {
  node: 'node mode is not built: run `lodestream pool` with a node of its own there, and name this pool as its miners’ backup',
  passthrough: 'passthrough mode is not built: run `lodestream proxy` with that pool under "proxy"',
  redirector: 'redirector mode is not built: run `lodestream proxy` with those pools under "proxy"',
  trusted:
    'trusted remote mode is not built: run a second `lodestream pool` under its own origin; their shares meet in Kafka or ClickHouse',
  userproxy:
    'user proxy mode is not built: run `lodestream proxy`; its shares go up under the "auth" of the configuration, and each miner’s own are in its events',
};

/** Those that `start` takes for the daemon in its tree. */
export const TREE_DAEMON_FLAGS = {
  btcsolo: CKPOOL_FLAGS.btcsolo,
  group: CKPOOL_FLAGS.group,
  'log-shares': CKPOOL_FLAGS['log-shares'],
  loglevel: CKPOOL_FLAGS.loglevel,
  sockdir: { ...CKPOOL_FLAGS.sockdir, doc: 'folder of the control sockets and main.pid; default DATA-DIR/sockets' },
} as const satisfies Readonly<Record<string, Flag>>;

const OURS: Readonly<Record<string, Flag>> = Object.fromEntries(
  Object.entries(COMMON).filter(([name]) => !Object.hasOwn(CKPOOL_FLAGS, name)),
);

/** Taken, since a tree gives its flags to all its programs, and without effect on the daemon. */
const OF_OTHER_PROGRAMS = ['http', 'clickhouse-http', 'json'];

/** The flags of the stratum daemon that do something there, for help. */
export const DAEMON_FLAGS: Readonly<Record<string, Flag>> = Object.fromEntries(
  Object.entries({ ...CKPOOL_FLAGS, ...OURS }).filter(([name]) => !OF_OTHER_PROGRAMS.includes(name)),
);

/** What the command line of a stratum daemon asks for. */
export interface DaemonCall {
  readonly config: Config;
  /** To be said at the start. */
  readonly warnings: readonly string[];
  /** True: the socket folder is a tree's own choice, and the daemon runs without one rather than not at all. */
  readonly sockDirMayFail: boolean;
  readonly daemonise: boolean;
  /** No status line on a terminal. */
  readonly quiet: boolean;
  /** What to do with a running instance of the same socket folder: leave it, end it, or let it take up this program. */
  readonly takeOver: 'no' | 'kill' | 'handover';
}

/** @throws PoolError usage (CKPool's words) */
export function logLevelOf(given: string | true | undefined): number | undefined {
  if (given === undefined) return undefined;
  if (!/^[0-7]$/.test(String(given))) throw new PoolError('usage', `Invalid loglevel (range 0 - 7): ${given}`);
  return Number(given);
}

/** A tree's sockets lie in its data directory; null where that path is too long for a socket. */
function treeSockDir(dataDir: string): string | null {
  const dir = join(dataDir, 'sockets');
  return CONTROL_SOCKETS.every((name) => Buffer.byteLength(join(dir, name)) <= SOCKET_PATH_LIMIT_BYTES) ? dir : null;
}

/** Help under CKPool's names, in its form. */
export function ckpoolHelp(): string {
  return getoptHelp(DAEMON_FLAGS);
}

/**
 * Reads the command line and the configuration of a stratum daemon.
 *
 * @param preset - the mode that the verb or the name ckproxy means; `-p` makes a pool a proxy
 * @param inTree - a child of a process tree: it is told its configuration, and its socket folder lies in the data directory
 * @returns null where help is asked for
 * @throws PoolError usage: an unknown flag or word (under compat ckpool only a warning), modes that exclude each other
 * @throws PoolError config: a mode that is not built, a wrong configuration
 */
export function readDaemonCall(
  argv: readonly string[],
  preset: 'pool' | 'proxy',
  inTree: boolean,
  env: NodeJS.ProcessEnv = process.env,
): DaemonCall | null {
  const { values, words, faults } = getopt(argv, CKPOOL_FLAGS, { ...OURS, ...HISTORIC });
  if (values.help === true) return null;
  const unclear = [...faults, ...words.map((word) => `${JSON.stringify(word)} is not expected`)];
  const historic = Object.keys(HISTORIC).flatMap((name) =>
    values[name] === undefined ? [] : [`flag --${name} is of an older CKPool and does nothing`],
  );
  const mode = values.proxy === true ? 'proxy' : preset;
  if (mode === 'proxy' && values.btcsolo === true) {
    throw new PoolError('usage', 'Cannot set both proxy and btcsolo mode');
  }
  for (const [name, instead] of Object.entries(NOT_BUILT)) {
    if (values[name] !== undefined) throw new PoolError('config', `--${name}: ${instead}`);
  }
  const level = logLevelOf(values.loglevel);

  const name = typeof values.name === 'string' ? values.name : mode === 'proxy' ? 'ckproxy' : 'ckpool';
  const byDefault = `${name}.conf`;
  const file = values.config ?? env.LODESTREAM_CONFIG ?? (!inTree && existsSync(byDefault) ? byDefault : undefined);
  let config: Config;
  try {
    config = configFrom(
      { values: { ...values, ...(file === undefined ? {} : { config: file }) }, positionals: [] },
      mode,
      {
        sockGroup: typeof values.group === 'string' ? values.group : undefined,
        logLevel: level,
        solo: values.btcsolo === true,
      },
    );
  } catch (error) {
    // A misspelt --config is the reason of all that follows.
    if (unclear.length > 0) throw new PoolError('usage', unclear[0]!, { cause: error });
    throw error;
  }
  if (unclear.length > 0 && config.compat !== 'ckpool') throw new PoolError('usage', unclear[0]!);
  const given = typeof values.sockdir === 'string' ? values.sockdir : env.LODESTREAM_SOCKDIR;
  const warnings = [...unclear.map((fault) => `invalid option: ${fault}`), ...historic, ...config.warnings];
  return {
    // The main log has them too, once it is open.
    config: {
      ...config,
      warnings,
      sockDir: given ?? (inTree ? treeSockDir(config.dataDir) : join('/tmp', config.name)),
    },
    warnings,
    sockDirMayFail: inTree && given === undefined,
    daemonise: values.daemonise === true,
    quiet: values.quiet === true,
    // A tree holds its data directory: who still runs there is what an earlier tree left behind.
    takeOver: inTree ? 'kill' : values.handover === true ? 'handover' : values.killold === true ? 'kill' : 'no',
  };
}
