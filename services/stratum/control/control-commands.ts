/**
 * The commands of the control sockets: CKPool's, and answers to the questions that CKPool leaves open. A table says which command of which socket
 * does what; `ControlTarget` is what a daemon must be able to do for it, plain data in and out, so that one process (control-target.ts) or a
 * parent of several (parent-control.ts) can stand behind it.
 *
 *   control.ts (sockets) ─ text ─► `runCommand` ─► COMMANDS ─► ControlTarget
 *
 * Long lists are put together in pieces, so that shares are judged in between.
 */
import type { ControlSocket } from '../../core/control.ts';
import { FAILED, HANDED_OVER, NO_HANDOVER } from './instance.ts';

/** A connected miner. Names of the fields as they leave the process. */
export interface ClientRow {
  readonly id: number;
  readonly enonce1: string;
  readonly user: string;
  readonly worker: string;
  readonly address: string;
  readonly server: string;
  readonly useragent: string;
  readonly diff: number;
  readonly subscribed: boolean;
  readonly authorised: boolean;
  /** Unix seconds. */
  readonly starttime: number;
}

/** An upstream pool of a proxy. */
export interface UpstreamRow {
  /** Place in the configuration; 0 is preferred. */
  readonly id: number;
  readonly url: string;
  /** Worker name there. */
  readonly auth: string;
  readonly alive: boolean;
  readonly current: boolean;
  readonly connections: number;
  /** What is wrong; null where nothing is. */
  readonly problem: string | null;
}

/** The work that miners have now. */
export interface WorkRow {
  readonly jobid: string;
  readonly height: number;
  /** As the node prints it. */
  readonly previousblockhash: string;
  readonly version: number;
  readonly bits: string;
  readonly curtime: number;
  /** Number of transactions besides the coinbase; -1: not known. */
  readonly transactions: number;
  /** Satoshis, decimal; null where it is not known (a proxy). */
  readonly coinbasevalue: string | null;
  readonly networkdiff: number;
}

type Json = Readonly<Record<string, unknown>>;

/** What a stratum daemon does when it is told to. */
export interface ControlTarget {
  /** False: new connections are closed at once. */
  acceptClients(on: boolean): Promise<void>;
  /** client.reconnect to all, who are then let go; null: to the same address. */
  reconnectAll(to: { readonly host: string; readonly port: number } | null): Promise<void>;
  /** @returns false where there is no such client; so the next two */
  reconnectClient(id: number): Promise<boolean>;
  dropClient(id: number): Promise<boolean>;
  hasClient(id: number): Promise<boolean>;
  dropAll(): Promise<void>;
  /** Accepted, rejected and best share back to zero, as after a block. */
  resetShares(): Promise<void>;
  setLogLevel(level: number): Promise<void>;
  /** Asks the node for a new template (blocknotify). */
  updateWork(): Promise<void>;
  work(): Promise<WorkRow | null>;
  clients(): Promise<readonly ClientRow[]>;
  /** Statistics of a user or worker besides its connections; empty where none are kept. */
  userStats(user: string): Promise<Json>;
  workerStats(worker: string): Promise<Json>;
  poolStats(): Promise<Json>;
  upstreams(): Promise<readonly UpstreamRow[]>;
  stratifierStats(): Promise<Json>;
  connectorStats(): Promise<Json>;
  /** @returns null where it was done, `not possible` where this daemon has no way to, else why it went wrong */
  handover(): Promise<string | null>;
}

/** What the process does when it is told to, whatever runs in it. */
export interface ControlProcess {
  readonly startedMs: number;
  shutdown(): void;
  /** Starts this program again in this one's place. @returns false where it cannot */
  restart(): boolean;
}

export interface Context {
  readonly process: ControlProcess;
  /** @throws NotReady before the daemon has started */
  readonly target: ControlTarget;
}

/** @param argument - what follows the command's word, such as `=6` */
type Command = (context: Context, argument: string) => Promise<string> | string;

/** A command needs the daemon, which has not started yet. */
export class NotReady extends Error {}

const SLICE_ROWS = 500;

const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A row for each group, made in pieces: the loop serves miners between them. */
async function rowsOf(
  target: ControlTarget,
  key: 'user' | 'worker',
  row: (target: ControlTarget, name: string, group: Group) => Promise<Json>,
): Promise<Json[]> {
  const rows: Json[] = [];
  for (const [name, group] of await groupsBy(target, key)) {
    rows.push(await row(target, name, group));
    if (rows.length % SLICE_ROWS === 0) await breathe();
  }
  return rows;
}

/** A long list as JSON, likewise in pieces. */
async function listText(key: string, rows: readonly Json[]): Promise<string> {
  let text = '';
  for (let at = 0; at < rows.length; at += SLICE_ROWS) {
    const piece = JSON.stringify(rows.slice(at, at + SLICE_ROWS)).slice(1, -1);
    text += at === 0 ? piece : `,${piece}`;
    await breathe();
  }
  return `{${JSON.stringify(key)}:[${text}]}`;
}

const errorText = (words: string): string => JSON.stringify({ error: words });

/** `=NAME`, or `={"user": "NAME"}` as CKPool's own queries are written. */
function named(argument: string, key: string): string | null {
  const text = argument.replace(/^[=:\s]+/, '').trim();
  if (!text.startsWith('{')) return text === '' ? null : text;
  try {
    const value = (JSON.parse(text) as Record<string, unknown>)[key];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
  } catch {
    return null;
  }
}

function numbered(argument: string): number | null {
  const text = named(argument, 'id');
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

interface Group {
  readonly clients: ClientRow[];
  readonly workers: Set<string>;
}

async function groupsBy(target: ControlTarget, key: 'user' | 'worker'): Promise<Map<string, Group>> {
  const groups = new Map<string, Group>();
  for (const client of await target.clients()) {
    if (!client.authorised) continue;
    let group = groups.get(client[key]);
    if (group === undefined) {
      group = { clients: [], workers: new Set() };
      groups.set(client[key], group);
    }
    group.clients.push(client);
    group.workers.add(client.worker);
  }
  return groups;
}

async function userJson(target: ControlTarget, user: string, group: Group | undefined): Promise<Json> {
  return {
    user,
    ...(await target.userStats(user)),
    clients: group?.clients.length ?? 0,
    workernames: [...(group?.workers ?? [])],
  };
}

async function workerJson(target: ControlTarget, worker: string, group: Group | undefined): Promise<Json> {
  return { worker, ...(await target.workerStats(worker)), clients: group?.clients.length ?? 0 };
}

/** Neither connected nor known to the statistics. */
const isUnknown = (row: Json): boolean =>
  Object.keys(row).every((key) => ['user', 'worker', 'clients', 'workernames'].includes(key)) && row.clients === 0;

/** The questions that CKPool has words for and no answers to; every socket answers them. */
const QUERIES: Readonly<Record<string, Command>> = {
  users: async ({ target }) => listText('users', await rowsOf(target, 'user', userJson)),
  workers: async ({ target }) => listText('workers', await rowsOf(target, 'worker', workerJson)),
  clients: async ({ target }) => listText('clients', (await target.clients()) as unknown as Json[]),
  getuser: async ({ target }, argument) => {
    const user = named(argument, 'user');
    if (user === null) return errorText('expected getuser=NAME');
    const row = await userJson(target, user, (await groupsBy(target, 'user')).get(user));
    return isUnknown(row) ? errorText(`no user ${user}`) : JSON.stringify(row);
  },
  getworker: async ({ target }, argument) => {
    const worker = named(argument, 'worker');
    if (worker === null) return errorText('expected getworker=NAME');
    const row = await workerJson(target, worker, (await groupsBy(target, 'worker')).get(worker));
    return isUnknown(row) ? errorText(`no worker ${worker}`) : JSON.stringify(row);
  },
  getclient: async ({ target }, argument) => {
    const id = numbered(argument);
    if (id === null) return errorText('expected getclient=NUMBER');
    const row = (await target.clients()).find((client) => client.id === id);
    return row === undefined ? errorText(`no client ${id}`) : JSON.stringify(row);
  },
  ucinfo: async ({ target }, argument) => {
    const user = named(argument, 'user');
    if (user === null) return errorText('expected ucinfo=USER');
    return listText('clients', ((await groupsBy(target, 'user')).get(user)?.clients ?? []) as unknown as Json[]);
  },
  wcinfo: async ({ target }, argument) => {
    const worker = named(argument, 'worker');
    if (worker === null) return errorText('expected wcinfo=WORKER');
    return listText('clients', ((await groupsBy(target, 'worker')).get(worker)?.clients ?? []) as unknown as Json[]);
  },
  poolstats: async ({ target }) => JSON.stringify(await target.poolStats()),
  proxyinfo: async ({ target }) => listText('proxies', (await target.upstreams()) as unknown as Json[]),
  getproxy: async ({ target }, argument) => {
    const id = numbered(argument);
    if (id === null) return errorText('expected getproxy=NUMBER');
    const row = (await target.upstreams()).find((upstream) => upstream.id === id);
    return row === undefined ? errorText(`no proxy ${id}`) : JSON.stringify(row);
  },
  setproxy: () => errorText('proxies are set in the configuration file; restart or hand over after a change'),
  uptime: ({ process: { startedMs } }) => JSON.stringify({ uptime: Math.floor((Date.now() - startedMs) / 1000) }),
};

const EVERYWHERE: Readonly<Record<string, Command>> = {
  ...QUERIES,
  ping: () => 'pong',
  // Ours: who asks whether a pid is this daemon's (instance.ts).
  getpid: () => String(process.pid),
  loglevel: async ({ target }, argument) => {
    const digits = /^=\s*(-?\d+)/.exec(argument)?.[1];
    if (digits === undefined) return 'Failed';
    const level = Number(digits);
    if (level < 0 || level > 7) return 'Invalid';
    await target.setLogLevel(level);
    return 'success';
  },
};

const reconnect: Command = async ({ target }, argument) => {
  if (argument.trim() === '') {
    await target.reconnectAll(null);
    return 'reconnecting';
  }
  const [, host, port] = /^:([A-Za-z0-9.:_[\]-]{1,255}),(\d{1,5})\s*$/.exec(argument) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) return 'Invalid';
  await target.reconnectAll({ host, port: Number(port) });
  return 'reconnecting';
};

const resetshares: Command = async ({ target }) => {
  await target.resetShares();
  return 'resetting';
};

const accept: Command = async ({ target }) => {
  await target.acceptClients(true);
  return 'accepting';
};

const reject: Command = async ({ target }) => {
  await target.acceptClients(false);
  return 'rejecting';
};

/** A command about one client, `WORD=NUMBER`. */
function aboutClient(done: string, act: (target: ControlTarget, id: number) => Promise<boolean>): Command {
  return async ({ target }, argument) => {
    const id = numbered(argument);
    if (id === null) return 'Failed';
    return (await act(target, id)) ? done : `no client ${id}`;
  };
}

const dropclient = aboutClient('dropping', (target, id) => target.dropClient(id));

/** Which command of which socket does what (reference sheet of CKPool, 10.3 and 10.4). */
const COMMANDS: Readonly<Record<ControlSocket, Readonly<Record<string, Command>>>> = {
  listener: {
    ...EVERYWHERE,
    shutdown: ({ process }) => {
      process.shutdown();
      return 'exiting';
    },
    restart: ({ process }) => (process.restart() ? 'restarting' : 'Failed'),
    accept,
    reject,
    reconnect,
    resetshares,
    stratifierstats: async ({ target }) => JSON.stringify(await target.stratifierStats()),
    connectorstats: async ({ target }) => JSON.stringify(await target.connectorStats()),
    handover: async ({ target }) => {
      const why = await target.handover();
      return why === null ? HANDED_OVER : why === NO_HANDOVER ? why : `${FAILED}${why}`;
    },
    getxfd: () => `${FAILED}descriptors are not handed out; start with --handover, or --killold`,
    '{': () => errorText('ask with a command such as poolstats, users, getuser=NAME'),
  },
  stratifier: {
    ...EVERYWHERE,
    stats: async ({ target }) => JSON.stringify(await target.stratifierStats()),
    update: async ({ target }) => {
      await target.updateWork();
      return 'updating';
    },
    dropall: async ({ target }) => {
      await target.dropAll();
      return 'dropping';
    },
    dropclient,
    reconnclient: aboutClient('reconnecting', (target, id) => target.reconnectClient(id)),
    reconnect,
    resetshares,
  },
  generator: {
    ...EVERYWHERE,
    getbase: async ({ target }) => JSON.stringify((await target.work()) ?? { error: 'no work yet' }),
    getbest: async ({ target }) => (await target.work())?.previousblockhash ?? 'Failed',
    getlast: async ({ target }) => (await target.work())?.previousblockhash ?? 'Failed',
    // The node's side of it: what concerns miners is the other sockets'.
    reconnect: async ({ target }) => {
      await target.updateWork();
      return 'reconnecting';
    },
  },
  connector: {
    ...EVERYWHERE,
    stats: async ({ target }) => JSON.stringify(await target.connectorStats()),
    accept,
    reject,
    dropclient,
    testclient: aboutClient('true', (target, id) => target.hasClient(id)),
  },
};

/**
 * Does what a request asks for.
 *
 * @param text - a command; its word is a beginning of the text, in any case, the longest that fits
 * @returns the reply; `unknown` where no command fits
 */
export async function runCommand(socket: ControlSocket, text: string, context: Context): Promise<string> {
  const request = text.trim();
  const lower = request.toLowerCase();
  const table = COMMANDS[socket];
  const word = Object.keys(table)
    .filter((each) => lower.startsWith(each))
    .sort((a, b) => b.length - a.length)[0];
  if (word === undefined) return 'unknown';
  try {
    return await table[word]!(context, request.slice(word.length));
  } catch (error) {
    // One that has not come up yet may as well be ended.
    if (error instanceof NotReady) return word === 'handover' ? NO_HANDOVER : `${FAILED}the daemon is still starting`;
    throw error;
  }
}
