/**
 * A worker of a pool: the process that holds miners' connections. It gets sockets and templates from its parent (parent.ts), makes jobs,
 * checks shares and journals them; a solved block goes to the parent at once, which has the nodes.
 *
 * It ends when it is told to, when its parent is gone, or when it has retired: its successor runs the new code, and its miners were asked to
 * reconnect.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { TemplateStore } from '../core/node/template-store.ts';
import { Bans } from './bans.ts';
import { withMainLog } from './bookkeeping.ts';
import { controlTarget } from './control/control-target.ts';
import { Daemon } from './daemon.ts';
import { askAllToGo } from './departure.ts';
import type { StratumServer } from './edge/server.ts';
import type { Begin, ControlCall, FromWorker, ToWorker } from './messages.ts';
import { openServer, openWriter, watchDisk } from './wiring.ts';
import { type BlockTaker, forgetOldest, keepBlock, type SolvedBlock } from './work/blocks.ts';
import { JobIds } from './work/job.ts';
import { PoolSource, poolIdentity } from './work/pool.ts';

const REPORT_MS = 1_000;
/** Worker names in one report: a millisecond's work. Who has more is told of in turn. */
const REPORT_WORKERS = 2_000;
/** The parent answers at once; one that hangs must not keep a miner out. */
const CLAIM_LIMIT_MS = 3_000;
/** How long a retiring worker's lines stay open once they are told to reconnect. */
const RECONNECT_GRACE_MS = 3_000;
const GONE_LOOK_MS = 50;

function tell(message: FromWorker): void {
  // A parent that is gone ends this process by itself.
  if (process.connected) process.send!(message, (error) => void error);
}

/** Solved blocks: to the parent, then to disk, then to the journal, all in the turn of the share. */
class Courier implements BlockTaker {
  readonly #dir: string;
  readonly #daemon: Daemon;
  readonly #known = new Set<string>();

  constructor(dir: string, daemon: Daemon) {
    this.#dir = dir;
    this.#daemon = daemon;
  }

  take(block: SolvedBlock): boolean {
    const { hash } = block.event;
    if (this.#known.has(hash)) return false;
    this.#known.add(hash);
    forgetOldest(this.#known);
    tell({ kind: 'solved', block });
    // The parent removes it once a node has answered; one that dies first finds it at its next start.
    keepBlock(this.#dir, block, this.#daemon.log);
    this.#daemon.facts.block(block.event);
    return true;
  }
}

/** Questions to the parent and their answers. */
class Claims {
  readonly #waiting = new Map<number, (ours: boolean) => void>();
  #next = 1;

  ask(sessionId: string): Promise<boolean> {
    const request = this.#next++;
    return new Promise((resolve) => {
      const limit = setTimeout(() => this.answer(request, false), CLAIM_LIMIT_MS);
      this.#waiting.set(request, (ours) => {
        clearTimeout(limit);
        resolve(ours);
      });
      tell({ kind: 'claim', request, sessionId });
    });
  }

  answer(request: number, ours: boolean): void {
    const resolve = this.#waiting.get(request);
    this.#waiting.delete(request);
    resolve?.(ours);
  }
}

/** Linux keeps so many characters of a thread's name. */
const TITLE_CHARS = 15;

/** Asks everybody to reconnect within `overMs`; resolves when all are gone. */
async function retire(daemon: Daemon, overMs: number): Promise<void> {
  await askAllToGo(daemon.sessions, overMs, { graceMs: RECONNECT_GRACE_MS, reason: 'a new process goes on' });
  const limit = performance.now() + 2 * RECONNECT_GRACE_MS;
  while (daemon.sessions.size > 0 && performance.now() < limit) await delay(GONE_LOOK_MS);
}

async function serve(
  begin: Begin,
  outer: Lifecycle,
  inbox: (take: (message: ToWorker) => void) => void,
): Promise<void> {
  const { config, profile, instance } = begin;
  // What `ps` and `top` show is the name that the log's lines have.
  process.title = instance.slice(-TITLE_CHARS);
  // Beside the parent and the other workers: the file is only ever appended to, a line at a time or several.
  const { life, main } = withMainLog(config, outer);
  const paths = openDataDir(config.dataDir);
  const writer = openWriter(config, instance, paths, life);
  const daemon = new Daemon({
    config,
    profile,
    writer,
    instance,
    ids: new JobIds(begin.firstOwnId),
    bans: new Bans(Date.now, (address, user) => tell({ kind: 'refusedLine', address, user })),
    log: life.log,
    disk: watchDisk(config, life, false),
  });
  life.onStop('sessions', () => daemon.close());
  const courier = new Courier(join(paths.root, 'blocks'), daemon);
  const source = new PoolSource(daemon, poolIdentity(config, profile), courier, begin.slot);
  source.tails = new TemplateStore(paths.templates);
  const claims = new Claims();
  await daemon.resumption.takeUp(source, {
    journalDir: paths.journal,
    running: begin.running,
    claim: (sessionId) => claims.ask(sessionId),
  });
  daemon.pickSource = () => source;
  let nodeReady = true;
  daemon.pings = () => !nodeReady;
  daemon.ready = true;
  const target = controlTarget({
    daemon,
    currentJob: () => source.jobs.current,
    updateWork: () => {},
    setLogLevel: main.setLevel,
    statistics: null,
    upstreams: null,
  });
  const control = async (request: number, [method, ...args]: ControlCall): Promise<void> => {
    try {
      const value = await (target[method] as (...args: unknown[]) => Promise<unknown>)(...args);
      tell({ kind: 'controlled', request, value, error: null });
    } catch (error) {
      tell({ kind: 'controlled', request, value: null, error: errorLine(error) });
    }
  };
  let retiring = false;
  let server: StratumServer | null = null;
  inbox((message) => {
    switch (message.kind) {
      case 'template':
        source.take(message.made.template, message.made);
        break;
      case 'node':
        nodeReady = message.ready;
        break;
      case 'show':
        daemon.words.show(message.words, message.worker);
        break;
      case 'ban':
        daemon.bans.hold(message.address, message.user, message.forMs);
        if (message.forMs > 0 && daemon.room.mines(message.address, message.user)) {
          tell({ kind: 'honest', address: message.address, user: message.user });
        }
        break;
      case 'claimed':
        claims.answer(message.request, message.ours);
        break;
      case 'release':
        tell({ kind: 'released', request: message.request, free: daemon.release(message.sessionId, retiring) });
        break;
      case 'control':
        void control(message.request, message.call);
        break;
      case 'retire':
        retiring = true;
        server?.stopAccepting();
        void retire(daemon, message.overMs).then(() => life.stop());
        break;
      case 'begin':
        break;
    }
  });
  server = await openServer(daemon, life, begin.listen, begin.maxClients, begin.firstClientId);
  const report = (limit: number): void =>
    tell({
      kind: 'report',
      report: {
        values: daemon.values(source.jobs.current),
        problems: [source.problem, ...daemon.problems].filter((line) => line !== null),
        tally: daemon.takeChanges(limit),
      },
    });
  const timer = setInterval(() => report(REPORT_WORKERS), REPORT_MS);
  life.onStop('last report', () => {
    clearInterval(timer);
    report(Infinity);
  });
  tell({ kind: 'serving' });
}

/**
 * Runs as a worker; `process` has a channel to the parent.
 *
 * @throws PoolError what opening journal, data directory and sockets throws; internal without a parent
 */
export async function startWorker(life: Lifecycle): Promise<void> {
  // Maglev alone compiles a worker's code. At 2,000 shares a second TurboFan's work and its changes of mind cost a quarter of all CPU in the first
  // minutes and stops of a millisecond, and its code is no cheaper afterwards; at 300,000 a second, which is nobody's load, it would save a third.
  // Set here and not on the command line: the cache of compiled code is kept by the flags that a process starts with.
  setFlagsFromString('--no-turbofan');
  if (process.send === undefined) throw new PoolError('usage', 'this is started by `lodestream pool` alone');
  // Messages that come while the journal is read keep their order.
  const early: ToWorker[] = [];
  let take = (message: ToWorker): void => void early.push(message);
  let begun!: (begin: Begin) => void;
  const begin = new Promise<Begin>((resolve) => {
    begun = resolve;
  });
  process.on('message', (message: ToWorker | 'stop') => {
    if (message === 'stop') return;
    if (message.kind === 'begin') begun(message);
    else take(message);
  });
  await serve(await begin, life, (handler) => {
    for (const message of early.splice(0)) handler(message);
    take = handler;
  });
}
