/**
 * `lodestream start`: the programs of a configuration in one process tree, as few processes as make sense; and what the playground's
 * tree has in common with it.
 */
import { join } from 'node:path';
import { type Config, hostPortText, parseHostPort, reachable } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { acquireLock } from '../core/lock.ts';
import { TREE_DAEMON_FLAGS } from './ckpool-flags.ts';
import { configFrom, modeOf, type Parsed } from './flags.ts';
import { livePanel } from './panel.ts';
import { PROGRAMS, type Program } from './programs.ts';
import { type ChildSpec, supervise } from './supervisor.ts';

const LOCK_WAIT_MS = 5_000;

/** Takes the data directory for one tree, until the lifecycle ends. @throws PoolError held, data_dir */
export function holdDataDir(dataDir: string, life: Lifecycle): DataPaths {
  const paths = openDataDir(dataDir);
  const lock = acquireLock(join(dataDir, 'lock'), { waitMs: LOCK_WAIT_MS, what: `the data directory ${dataDir}` });
  life.onStop('data directory', () => lock.release());
  return paths;
}

/** Why a configuration starts no such program, or null. */
function notStarted(name: Program, config: Config): string | null {
  if (name === 'proxy' && config.mode !== 'proxy') return 'proxy is started with --proxy';
  if (name === 'pool' && config.mode !== 'pool') return 'pool is not started with --proxy';
  if (name === 'relay' && config.kafka === null) return 'relay has nothing to do without "kafka" in the configuration';
  if (name === 'clickhouse' && config.clickhouse !== null) {
    return 'clickhouse is the embedded engine; the configuration names a server';
  }
  return null;
}

/** The flags as they were given, for a child; those of `except` are the parent's own. */
export function childFlags(values: Parsed['values'], except: readonly string[]): string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    if (except.includes(name) || value === undefined || value === false) return [];
    return value === true ? [`--${name}`] : [`--${name}`, value];
  });
}

/** Runs a configuration's programs, or those of `--only`, until it is stopped. */
export async function startTree(parsed: Parsed, life: Lifecycle): Promise<void> {
  const config = configFrom(parsed, modeOf(parsed));
  const only = typeof parsed.values.only === 'string' ? parsed.values.only.split(',') : null;
  for (const name of only ?? []) {
    if (!(PROGRAMS as readonly string[]).includes(name)) {
      throw new PoolError('usage', `--only: "${name}" is not a program; there are ${PROGRAMS.join(', ')}`);
    }
    const fault = notStarted(name as Program, config);
    if (fault !== null) throw new PoolError('usage', `--only: ${fault}`);
  }
  const paths = holdDataDir(config.dataDir, life);
  const own = Object.keys(TREE_DAEMON_FLAGS);
  const flags = childFlags(parsed.values, ['only', 'proxy', ...own]);
  const { values } = parsed;
  const daemonFlags = childFlags(Object.fromEntries(own.map((name) => [name, values[name]])), []);
  const panel = livePanel(paths.status, life, [shortWelcome(config)]);
  const supervisor = supervise(programChildren(config, flags, only, daemonFlags), life, panel.line, paths.status);
  supervisor.up.then(() => {
    panel.line(welcome(config, [], only));
    panel.start();
  });
}

/**
 * The children that run a configuration's programs.
 * @param flags - for each of them, besides the mode
 * @param daemonFlags - for the stratum daemon, besides
 */
export function programChildren(
  config: Config,
  flags: readonly string[],
  only: readonly string[] | null = null,
  daemonFlags: readonly string[] = [],
): ChildSpec[] {
  const wanted = (name: string): boolean => only === null || only.includes(name);
  const children: ChildSpec[] = [];
  if (config.clickhouse === null && wanted('clickhouse'))
    children.push({ name: 'clickhouse', args: ['clickhouse', ...flags] });
  const group = ['chain', ...(config.kafka === null ? [] : ['relay']), 'consume', 'api'].filter(wanted);
  // Their own verbs say the mode of pool and proxy; the group has to be told.
  const mode = config.mode === 'proxy' ? ['--proxy'] : [];
  if (group.length > 0)
    children.push({ name: 'pipeline', args: ['_group', ...mode, ...flags, group.join(',')], after: ['clickhouse'] });
  if (wanted(config.mode)) children.push({ name: config.mode, args: [config.mode, ...flags, ...daemonFlags] });
  return children;
}

function sqlUrl(config: Config): string {
  return config.clickhouse?.url ?? `http://${hostPortText(reachable(config.clickhouseHttp))}`;
}

/** The addresses that a person wants to have in sight, in one line. */
export function shortWelcome(config: Config): string {
  const http = hostPortText(reachable(config.http));
  return `dashboard http://${http}/ · SQL ${sqlUrl(config)}/ · stratum ${config.listen.map(hostPortText).join(', ')} · Ctrl-C stops`;
}

/**
 * What is where, in the words of the first minute.
 * @param more - further rows, name and text
 * @param only - the programs that run; null: all
 */
export function welcome(
  config: Config,
  more: readonly (readonly [string, string])[] = [],
  only: readonly string[] | null = null,
): string {
  const runs = (name: string): boolean => only === null || only.includes(name);
  const { dataDir } = config;
  const http = hostPortText(reachable(config.http));
  const where = [
    ...(dataDir === './data' ? [] : [` --data-dir ${dataDir}`]),
    ...(hostPortText(config.http) === '127.0.0.1:8080' ? [] : [` --http ${hostPortText(config.http)}`]),
    ...(hostPortText(config.clickhouseHttp) === '127.0.0.1:8123'
      ? []
      : [` --clickhouse-http ${hostPortText(config.clickhouseHttp)}`]),
  ].join('');
  // What a miner is given: the first address of the network.
  const [listener = parseHostPort('127.0.0.1:3333', null)] = config.listen.filter(({ path }) => path === undefined);
  const scheme = 'tls' in listener ? 'stratum+ssl' : 'stratum+tcp';
  const stratum = `${scheme}://${hostPortText(reachable(listener))}`;
  const rows: (readonly [string, string])[] = [
    ...(runs('api')
      ? ([
          ['dashboard', `http://${http}/`],
          ['health', `http://${http}/healthz   metrics http://${http}/metrics`],
        ] as const)
      : []),
    ['SQL', `curl '${sqlUrl(config)}/?query=SELECT+count()+FROM+shares+WHERE+accepted'`],
    ...(runs(config.mode) ? ([['stratum', `${stratum}   user YOU.RIG, any password`]] as const) : []),
    ...more,
    ['doctor', `./lodestream doctor${config.file === null ? '' : ` -c ${config.file}`}${where}`],
    ['contracts', `./lodestream contracts list${where}   ./lodestream payouts list${where}`],
    ['files', dataDir],
  ];
  return [
    '',
    'Lodestream is running. Ctrl-C stops it; started again, it continues.',
    ...rows.map(([name, what]) => `  ${name.padEnd(10)} ${what}`),
    '',
  ].join('\n');
}
