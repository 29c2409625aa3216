/**
 * The parts of which the stratum daemon's processes are made: the one of a proxy (main.ts), the one of a small pool (main.ts), and a pool's
 * parent and workers (parent.ts, worker.ts). Each registers its own end.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import type { DataPaths } from '../core/data-dir.ts';
import { DiskWatch } from '../core/disk-watch.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import type { JournalWriter } from '../core/log/event-log.ts';
import { openJournalWriter } from '../core/log/journal.ts';
import { resolveChain } from '../core/node/resolve-chain.ts';
import { createNodeRpc, type NodeRpc } from '../core/node/rpc.ts';
import { followTemplatesInThread, type ThreadedFollower } from '../core/node/template-thread.ts';
import type { Daemon } from './daemon.ts';
import { HTTP_ANSWER } from './edge/http-probe.ts';
import { clientLimit, openFileLimit } from './edge/limits.ts';
import { type ListenerSpec, takeSystemdSockets } from './edge/listeners.ts';
import { type StratumServer, startServer } from './edge/server.ts';
import { type JobIds, openJobIds } from './work/job.ts';
import { type PoolIdentity, payoutAddressOf, poolIdentity } from './work/pool.ts';

const LINE_LIMIT_BYTES = 8_192;
/** CKPool's. */
const LINE_LIMIT_CKPOOL_BYTES = 1_024;

/** Opens the journal of a process of this configuration. @throws PoolError held, data_dir */
export function openWriter(config: Config, instance: string, paths: DataPaths, life: Lifecycle): JournalWriter {
  const writer = openJournalWriter({
    dir: paths.journal,
    instance,
    fsync: config.journal.fsync,
    segmentBytes: config.journal.segmentBytes,
    log: life.log,
  });
  life.onStop('journal', () => writer.close());
  return writer;
}

/** Watches the room under the data directory. @param holds - this process takes space in advance for when the disk is full */
export function watchDisk(config: Config, life: Lifecycle, holds: boolean): DiskWatch {
  const disk = new DiskWatch({ dir: config.dataDir, reserve: config.diskReserve, log: life.log, holds });
  life.onStop('disk watch', () => disk.close());
  return disk;
}

/** The ids of this run's jobs. @throws PoolError data_dir */
export function openIds(config: Config, paths: DataPaths, log: Log): JobIds {
  try {
    return openJobIds(join(paths.state, `${config.name}.last-job`), Date.now(), log);
  } catch (cause) {
    throw new PoolError('data_dir', `${paths.state}: ${(cause as Error).message}`, { cause });
  }
}

function limitsText(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}

/** How many connections a process may have by the configuration and its open-file limit; Infinity: none. */
export function maxClientsOf(config: Config, log: Log): number {
  const openFiles = openFileLimit(limitsText());
  const maxClients = clientLimit(config.maxClients, openFiles);
  if (openFiles !== Infinity && maxClients !== config.maxClients) {
    log(`Setting maxclients to ${maxClients} due to max open file limit of ${openFiles}`, 5);
  }
  if (maxClients < config.maxClients) {
    log(`maxclients ${config.maxClients} is more than the open-file limit allows: ${maxClients}`);
  }
  return maxClients;
}

/** The listeners of the configuration, those that systemd has opened with their descriptors. @throws PoolError config */
export function listenersOf(config: Config, log: Log): ListenerSpec[] {
  return takeSystemdSockets(config.listen, { env: process.env, pid: process.pid, log });
}

/** Lets the miners in. @throws PoolError port_in_use, config */
export async function openServer(
  daemon: Daemon,
  life: Lifecycle,
  listen: readonly ListenerSpec[],
  maxClients: number,
  firstId = 1,
): Promise<StratumServer> {
  const { config } = daemon;
  const server = await startServer({
    listen,
    lineLimitBytes: config.compat === 'ckpool' ? LINE_LIMIT_CKPOOL_BYTES : LINE_LIMIT_BYTES,
    maxClients,
    firstId,
    log: life.log,
    signal: life.signal,
    ...(config.compat === 'ckpool' ? {} : { httpAnswer: HTTP_ANSWER }),
    onConnection: (connection) => daemon.connect(connection),
    onFull: () => daemon.room.make(),
  });
  life.onStop('listeners', () => server.close());
  life.onHangup(() => server.reload());
  daemon.serverValues = () => server.values;
  daemon.serverProblems = () => server.problems;
  return server;
}

/** What a pool has towards its nodes. */
export interface PoolNodes {
  readonly profile: ChainProfile;
  readonly identity: PoolIdentity;
  readonly templates: ThreadedFollower;
}

/**
 * Connects to the nodes and follows their templates. A node that is down is waited for; with `"chain": "auto"` it must answer once first.
 *
 * @throws PoolError config (btcaddress, coinbase), chain_unknown, chain_mismatch, data_dir
 */
export async function openNodes(config: Config, paths: DataPaths, life: Lifecycle): Promise<PoolNodes> {
  payoutAddressOf(config);
  const rpcs = config.nodes.map(({ url, auth, pass }) => createNodeRpc({ url, user: auth, pass }));
  life.onStop('nodes', () => {
    for (const rpc of rpcs) rpc.close();
  });
  const profile = await profileOf(config, rpcs[0]!, life);
  const identity = poolIdentity(config, profile);
  const templates = followTemplatesInThread({
    nodes: rpcs.map((rpc, i) => {
      const { url, auth, pass, notify } = config.nodes[i]!;
      return { rpc, url, user: auth, pass, notify };
    }),
    profile,
    updateIntervalMs: config.updateIntervalS * 1_000,
    blockPollMs: config.blockPollMs,
    zmqBlock: config.zmqBlock,
    emptyAfterMs: config.emptyJobAfterMs,
    dir: paths.templates,
    log: life.log,
  });
  life.onStop('templates', () => templates.close());
  return { profile, identity, templates };
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
