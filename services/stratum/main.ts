/**
 * The stratum daemon: `pool` (upstream is a node) and `proxy` (upstream is another pool). Reads nothing itself; wires server, daemon and
 * source of work, says what it does in a status file, and closes in reverse.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import type { Config, ListenerConfig } from '../core/config.ts';
import { hostPortText } from '../core/config.ts';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { openJournalWriter } from '../core/log/journal.ts';
import { resolveChain } from '../core/node/resolve-chain.ts';
import { createNodeRpc, type NodeRpc } from '../core/node/rpc.ts';
import { followTemplates } from '../core/node/templates.ts';
import { publishStatus } from '../core/status.ts';
import { BlockDesk } from './blocks.ts';
import type { ControlTarget } from './control.ts';
import { controlTarget } from './control-target.ts';
import { Daemon } from './daemon.ts';
import { type JobIds, openJobIds } from './job.ts';
import { takeSystemdSockets } from './listeners.ts';
import { PoolSource, payoutAddressOf, poolIdentity } from './pool.ts';
import { ProxyUpstreams } from './proxy.ts';
import { clientLimit, type StratumServer, startServer } from './server.ts';

const LINE_LIMIT_BYTES = 8_192;
/** CKPool's. */
const LINE_LIMIT_CKPOOL_BYTES = 1_024;

/** A running daemon. */
export interface StratumHandle {
  /** Where it listens, in the order of the configuration; ports of 0 are filled in. */
  readonly addresses: readonly ListenerConfig[];
  readonly daemon: Daemon;
  /** What the control sockets can do with it. */
  readonly control: ControlTarget;
}

function openDaemon(config: Config, profile: ChainProfile, paths: DataPaths, life: Lifecycle): Daemon {
  const writer = openJournalWriter({
    dir: paths.journal,
    instance: config.name,
    fsync: config.journal.fsync,
    segmentBytes: config.journal.segmentBytes,
    log: life.log,
  });
  life.onStop('journal', () => writer.close());
  let ids: JobIds;
  try {
    ids = openJobIds(join(paths.state, `${config.name}.last-job`), Date.now());
  } catch (cause) {
    throw new PoolError('data_dir', `${paths.state}: ${(cause as Error).message}`, { cause });
  }
  const daemon = new Daemon({ config, profile, writer, ids, log: life.log });
  life.onStop('sessions', () => daemon.close());
  return daemon;
}

function limitsText(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}

async function openServer(daemon: Daemon, life: Lifecycle): Promise<StratumServer> {
  const { config } = daemon;
  const maxClients = clientLimit(config.maxClients, limitsText());
  if (maxClients < config.maxClients) {
    life.log(`maxclients ${config.maxClients} is more than the open-file limit allows: ${maxClients}`);
  }
  const server = await startServer({
    listen: takeSystemdSockets(config.listen, { env: process.env, pid: process.pid, log: life.log }),
    lineLimitBytes: config.compat === 'ckpool' ? LINE_LIMIT_CKPOOL_BYTES : LINE_LIMIT_BYTES,
    maxClients,
    log: life.log,
    signal: life.signal,
    onConnection: (connection) => daemon.connect(connection),
  });
  life.onStop('listeners', () => server.close());
  life.log(`stratum listens on ${server.addresses.map(hostPortText).join(', ')}`);
  return server;
}

function publish(
  paths: DataPaths,
  daemon: Daemon,
  life: Lifecycle,
  upstream: () => {
    problems: string[];
    values: Record<string, number | string>;
    current: Parameters<Daemon['values']>[0];
  },
): void {
  const status = publishStatus(paths.status, daemon.config.origin, () => {
    const { problems, values, current } = upstream();
    return { problems: [...problems, ...daemon.facts.problems], values: { ...daemon.values(current), ...values } };
  });
  life.onStop('status', () => status.close());
}

/**
 * Starts pool mode. A node that is down is waited for while miners may connect; with `"chain": "auto"` it must answer once first.
 *
 * @throws PoolError config (btcaddress, coinbase, addresses), chain_unknown, chain_mismatch, port_in_use, held, data_dir
 */
export async function startPool(config: Config, life: Lifecycle): Promise<StratumHandle> {
  payoutAddressOf(config);
  const paths = openDataDir(config.dataDir);
  const rpcs = config.nodes.map(({ url, auth, pass }) => createNodeRpc({ url, user: auth, pass }));
  life.onStop('nodes', () => {
    for (const rpc of rpcs) rpc.close();
  });
  const profile = await profileOf(config, rpcs[0]!, life);
  const identity = poolIdentity(config, profile);

  const daemon = openDaemon(config, profile, paths, life);
  const templates = followTemplates({
    nodes: rpcs.map((rpc, i) => ({ rpc, notify: config.nodes[i]!.notify })),
    profile,
    updateIntervalMs: config.updateIntervalS * 1_000,
    blockPollMs: config.blockPollMs,
    zmqBlock: config.zmqBlock,
    log: life.log,
  });
  life.onStop('templates', () => templates.close());
  const blocks = new BlockDesk({ dir: join(paths.root, 'blocks'), templates, facts: daemon.facts, log: life.log });
  life.onStop('blocks', () => blocks.close());
  const source = new PoolSource(daemon, identity, blocks);
  await daemon.takeUp(source, { journalDir: paths.journal });
  daemon.pickSource = () => source;
  daemon.pings = () => templates.problem() !== null;
  daemon.ready = true;
  blocks.sendPending();
  templates.on('template', ({ template }) => source.take(template));

  const server = await openServer(daemon, life);
  publish(paths, daemon, life, () => ({
    problems: [templates.problem(), source.problem].filter((line) => line !== null),
    values: {},
    current: source.jobs.current,
  }));
  const control = controlTarget({
    daemon,
    currentJob: () => source.jobs.current,
    updateWork: () => templates.refresh(),
    upstreams: null,
  });
  return { addresses: server.addresses, daemon, control };
}

async function profileOf(config: Config, rpc: NodeRpc, life: Lifecycle): Promise<ChainProfile> {
  const patience = { log: life.log, signal: life.signal };
  if (config.chain === 'auto') return resolveChain(config, rpc, patience);
  const profile = loadChain(config.chain);
  // The named chain is taken at its word, so that miners may connect before the node answers; a node of another chain ends the pool.
  resolveChain(config, rpc, patience).catch((error: unknown) => {
    if (!life.signal.aborted) life.stop(error);
  });
  return profile;
}

/**
 * Starts proxy mode. Lines of miners wait while no upstream pool answers.
 *
 * @throws PoolError config (no upstream, addresses), chain_unknown, port_in_use, held, data_dir
 */
export async function startProxy(config: Config, life: Lifecycle): Promise<StratumHandle> {
  if (config.upstreams.length === 0) {
    throw new PoolError('config', 'proxy: missing, expected a list of upstream pools with url, auth and pass');
  }
  const paths = openDataDir(config.dataDir);
  // No node is asked here: with auto the work is Bitcoin's kind.
  const profile = loadChain(config.chain === 'auto' ? 'bitcoin' : config.chain);
  if (config.chain === 'auto') life.log('the chain is not named: taken as bitcoin');
  const daemon = openDaemon(config, profile, paths, life);
  const proxy = new ProxyUpstreams(daemon, config.upstreams);
  life.onStop('upstreams', () => proxy.close());
  daemon.pings = () => true;
  proxy.start();
  const server = await openServer(daemon, life);
  publish(paths, daemon, life, () => proxy.status());
  const control = controlTarget({
    daemon,
    currentJob: () => proxy.status().current,
    updateWork: () => {},
    upstreams: () => proxy.rows(),
  });
  return { addresses: server.addresses, daemon, control };
}
