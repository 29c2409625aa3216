/**
 * Pool mode with worker processes: this process owns the listening sockets, the nodes and their templates, the submission of blocks and the
 * status file; workers (workers.ts, worker.ts) hold the miners. So a template of 4 MB delays no share, more cores can be used, and new code
 * takes over without a refused connection.
 *
 *   nodes ─ template ─► here ─ template, job id ─► workers ⇄ miners
 *   nodes ◄── block ─── here ◄──── block ───────── workers
 */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { difficultyOf } from '../core/chains/difficulty.ts';
import type { Config, ListenerConfig } from '../core/config.ts';
import { hostPortText } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import { publishStatus } from '../core/status.ts';
import { keepStats, sayReady, sayStarting, templateRecorder, withMainLog } from './bookkeeping.ts';
import type { ControlTarget } from './control/control-commands.ts';
import { controlOf, workRow } from './control/parent-control.ts';
import { bindListeners } from './edge/listeners.ts';
import { Facts } from './facts.ts';
import type { MadeTemplate } from './messages.ts';
import { listenersOf, maxClientsOf, openIds, openNodes, openWriter, watchDisk } from './wiring.ts';
import { BlockDesk } from './work/blocks.ts';
import { payoutAddressOf } from './work/pool.ts';
import { Workers } from './workers.ts';

/** A port that a dying predecessor's workers still hold is free within a second or two. */
const BIND_RETRY_MS = 250;
const BIND_TRIES = 240;

export interface PoolTree {
  /** Where it listens, in the order of the configuration; ports of 0 are filled in. */
  readonly addresses: readonly ListenerConfig[];
  readonly workers: Workers;
  /** What the control sockets can do with it. */
  readonly control: ControlTarget;
  /** One line on how it does, for a terminal. */
  readonly statusLine: (spinner: string) => string;
  /**
   * Starts new workers with the code that is installed now and the configuration as it is now, and lets the old ones go.
   * @throws PoolError config where the configuration cannot be read; where the new workers do not start. The old ones go on then
   */
  handOver(): Promise<void>;
}

/** What this process itself works by, by the words of the configuration: a hand-over does not change it. */
const PARENTS_OWN = {
  name: 'name',
  origin: 'origin',
  mode: 'mode',
  nodes: 'btcd',
  listen: 'listen',
  dataDir: 'data_dir',
  chain: 'chain',
  btcAddress: 'btcaddress',
  zmqBlock: 'zmqblock',
  http: 'http',
  clickhouseHttp: 'clickhouse_http',
} as const satisfies Partial<Record<keyof Config, string>>;

/** A new configuration with what stays as this process was started with; what would have changed is said. */
function keepParents(now: Config, next: Config, log: Log): Config {
  const own = Object.keys(PARENTS_OWN) as (keyof typeof PARENTS_OWN)[];
  const other = own.filter((key) => JSON.stringify(now[key]) !== JSON.stringify(next[key]));
  if (other.length > 0) {
    const names = other.map((key) => PARENTS_OWN[key]).join(', ');
    log(`hand-over: changes of ${names} need a restart; the workers take up the rest`);
  }
  return { ...next, ...Object.fromEntries(own.map((key) => [key, now[key]])) };
}

/**
 * Starts a pool as parent and workers.
 *
 * @param reload - reads the configuration again, for a hand-over
 * @throws PoolError config (btcaddress, coinbase, addresses), chain_unknown, chain_mismatch, port_in_use, held, data_dir
 */
export async function startPoolTree(config: Config, outer: Lifecycle, reload: () => Config): Promise<PoolTree> {
  payoutAddressOf(config);
  const { life, main } = withMainLog(config, outer);
  const paths = openDataDir(config.dataDir);
  sayStarting(config, life.log);
  const { profile, templates } = await openNodes(config, paths, life);
  const writer = openWriter(config, `${config.name}.0`, paths, life);
  const disk = watchDisk(config, life, true);
  const facts = new Facts(writer, null, life.log, () => {});
  life.onStop('last events', () => facts.close());
  const ids = openIds(config, paths, life.log);
  const made = (): Omit<MadeTemplate, 'template'> => ({
    id: ids.next(),
    timeS: Math.floor(Date.now() / 1000),
    random: randomInt(2 ** 32),
  });
  const desk = keepStats(config, profile, life);
  const blocks = new BlockDesk({
    dir: join(paths.root, 'blocks'),
    templates,
    tails: templates,
    facts,
    log: life.log,
    onAccepted: (block) => desk.solved(block),
  });
  life.onStop('blocks', () => blocks.close());
  blocks.sendPending();
  const bound = await bindListeners(listenersOf(config, life.log), {
    log: life.log,
    signal: life.signal,
    bindRetryMs: BIND_RETRY_MS,
    bindTries: BIND_TRIES,
  });
  life.onStop('listeners', () => bound.close());
  const workers = new Workers({
    config,
    profile,
    listeners: bound.listeners,
    maxClients: maxClientsOf(config, life.log),
    firstId: ids.first,
    life,
    remade: made,
    onSolved: ({ block }) => void blocks.submit(block),
    onTally: (changes, instance) => desk.absorb(changes, instance),
    onGone: (instance) => {
      desk.forgetProcess(instance);
      // What a worker could only write to disk.
      blocks.sendPending();
    },
  });
  desk.show = (words, worker) => workers.show(words, worker);
  // Each worker holds the main log open for itself.
  life.onHangup(() => workers.signal('SIGHUP'));
  const record = templateRecorder(desk, profile, config, life.log);
  let current: { made: MadeTemplate; sinceMs: number } | null = null;
  templates.on('template', ({ template }) => {
    current = { made: { template, ...made() }, sinceMs: performance.now() };
    workers.template(current.made);
    record(template);
  });
  await workers.start();
  sayReady(config, 'stratifier', life.log);
  life.log(`stratum listens on ${bound.listeners.map(hostPortText).join(', ')}`);
  sayReady(config, 'connector', life.log);
  const status = publishStatus(paths.status, config.origin, () => {
    const { values, problems } = workers.together();
    const nodeProblem = templates.problem();
    workers.nodeReady(nodeProblem === null);
    return {
      problems: [nodeProblem, ...problems, ...facts.problems, disk.alert].filter((line) => line !== null),
      values: {
        mode: config.mode,
        chain: profile.name,
        ...values,
        ...disk.values,
        ...(current === null
          ? {}
          : { job_age_s: (performance.now() - current.sinceMs) / 1000, ...workOf(current.made) }),
      },
    };
  });
  life.onStop('status', () => status.close());

  function workOf({ template }: MadeTemplate): { height: number; network_diff: number } {
    return { height: template.height, network_diff: difficultyOf(profile, template.bits) };
  }

  const handOver = async (): Promise<void> => {
    try {
      await workers.handOver(keepParents(config, reload(), life.log));
    } catch (error) {
      // Who asked is told too; in the log stands why the code and configuration are still the old ones.
      life.log(`No hand-over, the workers go on: ${errorLine(error)}`);
      throw error;
    }
  };
  const control = controlOf(workers, {
    work: () => (current === null ? null : workRow(current.made, difficultyOf(profile, current.made.template.bits))),
    updateWork: () => templates.refresh(),
    log: life.log,
    setLogLevel: main.setLevel,
    statistics: desk,
    handOver,
  });
  const addresses = bound.listeners.map(({ fd: _, ...listener }) => listener);
  return { addresses, workers, control, handOver, statusLine: (spinner) => desk.statusLine(spinner) };
}
