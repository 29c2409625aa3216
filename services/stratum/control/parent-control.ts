/** What the control sockets can do with a pool of several processes: the parent's own part, and the sum over its workers. */
import { bitsHex } from '../../core/bitcoin/target.ts';
import { errorLine } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';
import type { MadeTemplate } from '../messages.ts';
import type { StatsDesk } from '../stats/stats-desk.ts';
import type { Workers } from '../workers.ts';
import type { ControlTarget, WorkRow } from './control-commands.ts';

export interface ControlledParent {
  readonly work: () => WorkRow | null;
  /** Asks the node for a new template. */
  readonly updateWork: () => void;
  readonly handOver: () => Promise<void>;
  readonly log: Log;
  readonly setLogLevel: (level: number) => void;
  readonly statistics: Pick<StatsDesk, 'resetShares' | 'userStats' | 'workerStats' | 'poolStats'>;
}

type Json = Readonly<Record<string, unknown>>;

/** Numbers of several answers of one form added up, at any depth; what is no number is the first one's. */
function sum(rows: readonly Json[]): Record<string, unknown> {
  const total: Record<string, unknown> = {};
  for (const row of rows) {
    for (const [key, value] of Object.entries(row)) {
      const before = total[key];
      if (typeof value === 'number') total[key] = (typeof before === 'number' ? before : 0) + value;
      else if (typeof value === 'object' && value !== null) total[key] = sum([(before ?? {}) as Json, value as Json]);
      else total[key] ??= value;
    }
  }
  return total;
}

/** `ControlTarget` over a parent and its workers. */
export function controlOf(workers: Workers, parent: ControlledParent): ControlTarget {
  const any = async (answers: Promise<boolean[]>): Promise<boolean> => (await answers).includes(true);
  const all = async (answers: Promise<unknown[]>): Promise<void> => {
    await answers;
  };
  return {
    acceptClients: (on) => all(workers.control('acceptClients', on)),
    reconnectAll: (to) => all(workers.control('reconnectAll', to)),
    reconnectClient: (id) => any(workers.control('reconnectClient', id)),
    dropClient: (id) => any(workers.control('dropClient', id)),
    hasClient: (id) => any(workers.control('hasClient', id)),
    dropAll: () => all(workers.control('dropAll')),
    async resetShares() {
      parent.statistics.resetShares();
      parent.log('the counts of shares begin anew');
    },
    setLogLevel(level) {
      parent.setLogLevel(level);
      return all(workers.control('setLogLevel', level));
    },
    async updateWork() {
      parent.updateWork();
    },
    work: async () => parent.work(),
    clients: async () => (await workers.control('clients')).flat(),
    userStats: async (user) => parent.statistics.userStats(user),
    workerStats: async (worker) => parent.statistics.workerStats(worker),
    poolStats: async () => ({ ...parent.statistics.poolStats(), ...workers.together().values }),
    upstreams: async () => [],
    stratifierStats: async () => sum(await workers.control('stratifierStats')),
    connectorStats: async () => sum(await workers.control('connectorStats')),
    async handover() {
      try {
        await parent.handOver();
        return null;
      } catch (error) {
        return errorLine(error);
      }
    },
  };
}

/** The work that workers have now, as the control sockets tell it. */
export function workRow({ template, id }: MadeTemplate, networkDiff: number): WorkRow {
  return {
    jobid: id,
    height: template.height,
    previousblockhash: template.prevHashRpc,
    version: template.version,
    bits: bitsHex(template.bits),
    curtime: template.curtimeS,
    transactions: template.txCount,
    coinbasevalue: template.coinbaseValueSats.toString(),
    networkdiff: networkDiff,
  };
}
