/** What the control sockets can do with a daemon that is one process: the commands of control.ts on its sessions and its source of work. */
import { bitsHex } from '../core/bitcoin/target.ts';
import type { ClientRow, ControlTarget, UpstreamRow, WorkRow } from './control.ts';
import type { Daemon } from './daemon.ts';
import { NO_HANDOVER } from './instance.ts';
import type { Job } from './job.ts';
import type { Session } from './session.ts';
import type { StatsDesk } from './stats-desk.ts';

/** All lines of a pool that reconnect at once would be refused by the kernel's queue: a hundredth each tenth of a second. */
const SPREAD_STEPS = 100;
const SPREAD_STEP_MS = 100;
const AT_ONCE = 200;
/** Between client.reconnect and the end of the line: firmware that obeys has gone by then. */
const LEAVE_MS = 2_000;

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
  const tellReconnect = (session: Session, params: string): void => {
    session.send(`{"id":null,"method":"client.reconnect","params":${params}}\n`);
    setTimeout(() => session.end('told to reconnect'), LEAVE_MS).unref();
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
      // CKPool's form: the port is a text, the third is the wait in seconds.
      const params = to === null ? '[]' : JSON.stringify([to.host, String(to.port), 0]);
      const sessions = [...daemon.sessions];
      const step = sessions.length <= AT_ONCE ? sessions.length : Math.ceil(sessions.length / SPREAD_STEPS);
      for (let i = 0; i * step < sessions.length; i++) {
        const part = sessions.slice(i * step, (i + 1) * step);
        const tell = (): void => {
          for (const session of part) if (daemon.sessions.has(session)) tellReconnect(session, params);
        };
        if (i === 0) tell();
        else setTimeout(tell, i * SPREAD_STEP_MS).unref();
      }
    },
    reconnectClient: (id) => withSession(id, (session) => tellReconnect(session, '[]')),
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
