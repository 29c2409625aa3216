/** What the control sockets can do with a daemon that is one process: the commands of control-commands.ts on its sessions and its source of work. */
import { bitsHex } from '../../core/bitcoin/target.ts';
import type { Daemon } from '../daemon.ts';
import { askAllToGo, askToGo } from '../departure.ts';
import type { Session } from '../session.ts';
import type { StatsDesk } from '../stats/stats-desk.ts';
import type { Job } from '../work/job.ts';
import type { ClientRow, ControlTarget, UpstreamRow, WorkRow } from './control-commands.ts';
import { NO_HANDOVER } from './instance.ts';

/** So many lines are asked to reconnect at once; more would be refused by the kernel's queue, and are asked within OVER_MS. */
const AT_ONCE = 200;
const OVER_MS = 10_000;
/** Firmware that obeys has gone by then. */
const DEPARTURE = { graceMs: 2_000, reason: 'told to reconnect' };

export interface TargetParts {
  readonly daemon: Daemon;
  /** The newest job that miners have. */
  readonly currentJob: () => Job | null;
  /** Asks the node for a new template; nothing to do in a proxy. */
  readonly updateWork: () => void;
  readonly setLogLevel: (level: number) => void;
  /** Null where another process keeps the statistics. */
  readonly statistics: Pick<StatsDesk, 'resetShares' | 'userStats' | 'workerStats' | 'poolStats'> | null;
  /** Null for a pool. */
  readonly upstreams: (() => UpstreamRow[]) | null;
}

/** `ControlTarget` over a daemon of this process. */
export function controlTarget(parts: TargetParts): ControlTarget {
  const { daemon, currentJob, updateWork, statistics, upstreams } = parts;
  const sessionOf = (id: number): Session | undefined => {
    for (const session of daemon.sessions) if (session.connection.id === id) return session;
    return undefined;
  };
  const withSession = async (id: number, act: (session: Session) => void): Promise<boolean> => {
    const session = sessionOf(id);
    if (session !== undefined) act(session);
    return session !== undefined;
  };
  return {
    async acceptClients(on) {
      daemon.accepting = on;
    },
    async reconnectAll(to) {
      const overMs = daemon.sessions.size <= AT_ONCE ? 0 : OVER_MS;
      void askAllToGo(daemon.sessions, overMs, to === null ? DEPARTURE : { ...DEPARTURE, to });
    },
    reconnectClient: (id) => withSession(id, (session) => askToGo(session, DEPARTURE)),
    dropClient: (id) => withSession(id, (session) => session.end('dropped by the operator')),
    hasClient: (id) => withSession(id, () => {}),
    async dropAll() {
      for (const session of daemon.sessions) session.end('dropped by the operator');
    },
    async resetShares() {
      statistics?.resetShares();
      daemon.log('the counts of shares begin anew');
    },
    async setLogLevel(level) {
      parts.setLogLevel(level);
    },
    async updateWork() {
      updateWork();
    },
    async work() {
      const job = currentJob();
      return job === null ? null : workRow(job);
    },
    async clients() {
      return [...daemon.sessions].map(clientRow);
    },
    userStats: async (user) => statistics?.userStats(user) ?? {},
    workerStats: async (worker) => statistics?.workerStats(worker) ?? {},
    poolStats: async () => ({ ...statistics?.poolStats(), ...daemon.values(currentJob()) }),
    upstreams: async () => upstreams?.() ?? [],
    async stratifierStats() {
      const users = new Set<string>();
      const workers = new Set<string>();
      for (const session of daemon.sessions) {
        for (const { user, name } of session.workers.values()) {
          users.add(user);
          workers.add(name);
        }
      }
      return {
        users: { count: users.size },
        workers: { count: workers.size },
        clients: { count: daemon.sessions.size },
        disconnected: { count: daemon.resumption.size },
        memory: memory(),
      };
    },
    connectorStats: async () => ({
      clients: { count: daemon.sessions.size, generated: daemon.counters.connections },
      accepting: daemon.accepting,
      memory: memory(),
    }),
    handover: async () => NO_HANDOVER,
  };
}

function memory(): Record<string, number> {
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss_bytes: rss, heap_bytes: heapUsed, external_bytes: external };
}

function clientRow(session: Session): ClientRow {
  const first = session.workers.values().next().value;
  const { connection } = session;
  return {
    id: connection.id,
    enonce1: session.enonce1Hex,
    user: first?.user ?? '',
    worker: first?.name ?? '',
    address: connection.address,
    server: connection.listener,
    useragent: session.agent,
    diff: session.difficulty,
    subscribed: session.subscribed,
    authorised: session.authorized,
    starttime: Math.floor(session.startedMs / 1000),
  };
}

function workRow(job: Job): WorkRow {
  return {
    jobid: job.id,
    height: job.height,
    previousblockhash: job.prevHashRpc,
    version: job.version,
    bits: bitsHex(job.bits),
    curtime: job.ntime,
    transactions: job.txCount,
    coinbasevalue: job.value?.coinbaseValueSats.toString() ?? null,
    networkdiff: job.networkDiff,
  };
}
