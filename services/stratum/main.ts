/**
 * The stratum daemon in one process: a small `pool` (upstream is a node; parent.ts is the form with worker processes) and `proxy` (upstream is
 * another pool). Reads nothing itself; wires server, daemon and source of work, says what it does in a status file, and closes in reverse.
 */
import { join } from 'node:path';
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import type { Config, ListenerConfig } from '../core/config.ts';
import { hostPortText } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import type { DiskWatch } from '../core/disk-watch.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { publishStatus } from '../core/status.ts';
import { keepStats, sayReady, sayStarting, templateRecorder, withMainLog } from './bookkeeping.ts';
import type { ControlTarget } from './control/control-commands.ts';
import { controlTarget } from './control/control-target.ts';
import { Daemon } from './daemon.ts';
import { listenersOf, maxClientsOf, openIds, openNodes, openServer, openWriter, watchDisk } from './wiring.ts';
import { BlockDesk } from './work/blocks.ts';
import { PoolSource, payoutAddressOf } from './work/pool.ts';
import { ProxyUpstreams } from './work/proxy.ts';

/** A running daemon. */
export interface StratumHandle {
  /** Where it listens, in the order of the configuration; ports of 0 are filled in. */
  readonly addresses: readonly ListenerConfig[];
  readonly daemon: Daemon;
  /** What the control sockets can do with it. */
  readonly control: ControlTarget;
  /** One line on how it does, for a terminal. */
  readonly statusLine: (spinner: string) => string;
}

function openDaemon(config: Config, profile: ChainProfile, paths: DataPaths, life: Lifecycle, disk: DiskWatch): Daemon {
  const writer = openWriter(config, config.name, paths, life);
  const daemon = new Daemon({ config, profile, writer, ids: openIds(config, paths, life.log), log: life.log, disk });
  life.onStop('sessions', () => daemon.close());
  return daemon;
}

function publish(
  paths: DataPaths,
  daemon: Daemon,
  life: Lifecycle,
  disk: DiskWatch,
  upstream: () => {
    problems: string[];
    values: Record<string, number | string>;
    current: Parameters<Daemon['values']>[0];
  },
): void {
  const status = publishStatus(paths.status, daemon.config.origin, () => {
    const { problems, values, current } = upstream();
    const { alert } = disk;
    return {
      problems: [...problems, ...daemon.problems, ...(alert === null ? [] : [alert])],
      values: { ...daemon.values(current), ...disk.values, ...values },
    };
  });
  life.onStop('status', () => status.close());
}

/**
 * Starts pool mode in this one process (`"workers": 0`). A node that is down is waited for while miners may connect; with `"chain": "auto"` it
 * must answer once first.
 *
 * @throws PoolError config (btcaddress, coinbase, addresses), chain_unknown, chain_mismatch, port_in_use, held, data_dir
 */
export async function startPool(config: Config, outer: Lifecycle): Promise<StratumHandle> {
  payoutAddressOf(config);
  const { life, main } = withMainLog(config, outer);
  const paths = openDataDir(config.dataDir);
  sayStarting(config, life.log);
  const { profile, identity, templates } = await openNodes(config, paths, life);
  const desk = keepStats(config, profile, life);
  const disk = watchDisk(config, life, true);
  const daemon = openDaemon(config, profile, paths, life, disk);
  const blocks = new BlockDesk({
    dir: join(paths.root, 'blocks'),
    templates,
    tails: templates,
    facts: daemon.facts,
    log: life.log,
    onAccepted: (block) => desk.solved(block),
  });
  life.onStop('blocks', () => blocks.close());
  const source = new PoolSource(daemon, identity, blocks);
  source.tails = templates;
  await daemon.resumption.takeUp(source, { journalDir: paths.journal });
  daemon.pickSource = () => source;
  daemon.pings = () => templates.problem() !== null;
  daemon.ready = true;
  desk.show = (words, worker) => daemon.words.show(words, worker);
  desk.follow(() => daemon.takeChanges());
  sayReady(config, 'stratifier', life.log);
  blocks.sendPending();
  const record = templateRecorder(desk, profile, config, life.log);
  templates.on('template', ({ template }) => {
    source.take(template);
    record(template);
  });

  const server = await openServer(daemon, life, listenersOf(config, life.log), maxClientsOf(config, life.log));
  life.log(`stratum listens on ${server.addresses.map(hostPortText).join(', ')}`);
  sayReady(config, 'connector', life.log);
  publish(paths, daemon, life, disk, () => ({
    problems: [templates.problem(), source.problem].filter((line) => line !== null),
    values: {},
    current: source.jobs.current,
  }));
  const control = controlTarget({
    daemon,
    currentJob: () => source.jobs.current,
    updateWork: () => templates.refresh(),
    setLogLevel: main.setLevel,
    statistics: desk,
    upstreams: null,
  });
  return { addresses: server.addresses, daemon, control, statusLine: (spinner) => desk.statusLine(spinner) };
}

/**
 * Starts proxy mode. Lines of miners wait while no upstream pool answers.
 *
 * @throws PoolError config (no upstream, addresses), chain_unknown, port_in_use, held, data_dir
 */
export async function startProxy(config: Config, outer: Lifecycle): Promise<StratumHandle> {
  if (config.upstreams.length === 0) {
    throw new PoolError('config', 'proxy: missing, expected a list of upstream pools with url, auth and pass');
  }
  const { life, main } = withMainLog(config, outer);
  const paths = openDataDir(config.dataDir);
  // No node is asked here: with auto the work is Bitcoin's kind.
  const profile = loadChain(config.chain === 'auto' ? 'bitcoin' : config.chain);
  if (config.chain === 'auto') life.log('the chain is not named: taken as bitcoin');
  sayStarting(config, life.log);
  const desk = keepStats(config, profile, life, () => proxy.lines());
  const disk = watchDisk(config, life, true);
  const daemon = openDaemon(config, profile, paths, life, disk);
  desk.show = (words, worker) => daemon.words.show(words, worker);
  const proxy = new ProxyUpstreams(daemon, config.upstreams);
  desk.follow(() => {
    const job = proxy.status().current;
    if (job !== null) desk.setNetworkDiff(job.networkDiff);
    return daemon.takeChanges();
  });
  life.onStop('upstreams', () => proxy.close());
  daemon.pings = () => true;
  proxy.start();
  sayReady(config, 'stratifier', life.log);
  const server = await openServer(daemon, life, listenersOf(config, life.log), maxClientsOf(config, life.log));
  life.log(`stratum listens on ${server.addresses.map(hostPortText).join(', ')}`);
  sayReady(config, 'connector', life.log);
  publish(paths, daemon, life, disk, () => proxy.status());
  const control = controlTarget({
    daemon,
    currentJob: () => proxy.status().current,
    updateWork: () => {},
    setLogLevel: main.setLevel,
    statistics: desk,
    upstreams: () => proxy.rows(),
  });
  return { addresses: server.addresses, daemon, control, statusLine: (spinner) => desk.statusLine(spinner) };
}
