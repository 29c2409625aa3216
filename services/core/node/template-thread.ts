/**
 * `followTemplates` in a thread of its own, behind the same interface: the main loop gets some kB for each template, and the block's tail as
 * bytes that change their owner and are never copied. Solved blocks are sent from here, so that nothing stands between a share and the node.
 * Flow: `template-worker.ts` (the thread) → here → the stratum daemon.
 *
 * A thread that dies of a fault is said and started again; jobs of the last template go on being mined meanwhile. One that runs out of memory
 * takes the process with it, limits of its own or not (tried: V8 gives up within JSON.parse); an answer is limited to 64 MB for that.
 */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ChainProfile } from '../chains/profile.ts';
import { errorLine, PoolError } from '../errors.ts';
import type { Log } from '../lifecycle.ts';
import type { NodeRpc } from './rpc.ts';
import { blockSubmitter } from './submit.ts';
import { type Tails, TemplateStore } from './template-store.ts';
import type { FromThread, ThreadData, ToThread } from './template-worker.ts';
import type { NodeState, TemplateFollower, TemplateUpdate } from './templates.ts';
import { checkEndpoint, endpointsOf } from './zmq.ts';

export interface ThreadedNode {
  /** Sends blocks from the main thread; owned by the caller, who closes it. */
  readonly rpc: NodeRpc;
  /** The same node's address, as `createNodeRpc` takes it. */
  readonly url: string;
  readonly user: string;
  readonly pass: string;
  readonly notify: boolean;
}

export interface ThreadOptions {
  /** In order of preference. */
  readonly nodes: readonly ThreadedNode[];
  readonly profile: ChainProfile;
  readonly updateIntervalMs: number;
  readonly blockPollMs: number;
  readonly zmqBlock: string | null;
  readonly retryMs?: number;
  /** As for `followTemplates`; 0: never. */
  readonly emptyAfterMs?: number;
  /** `<data-dir>/templates`: the tails of blocks, so that a restarted process can build the blocks of jobs of the one before. */
  readonly dir: string;
  readonly log: Log;
  /** Told of each thread that is started, for tests. */
  readonly onThread?: (worker: Worker) => void;
}

export interface ThreadedFollower extends TemplateFollower, Tails {
  /** Bytes of tails held in memory. */
  readonly tailBytes: number;
}

/**
 * Of the thread's heap, MB. A small young generation halves what the garbage of templates adds to the process (measured with 4,000
 * transactions: 35 MB instead of 120 beside following them in the main thread); the old one holds the worst that an answer of 64 MB can
 * become (570 MB of empty objects).
 */
const LIMITS = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 1_024 };
const RESTART_PAUSES_MS = [100, 500, 2_000, 5_000];
/** A thread that lived so long begins again with the first pause. */
const RESTART_FORGET_MS = 60_000;
/** A thread that is asked to end is ended after this. */
const CLOSE_MS = 700;

/**
 * Starts following. Returns at once; the first template arrives with the first `template` event.
 *
 * @throws PoolError config where no node is given or the ZMQ endpoint is none; data_dir
 */
export function followTemplatesInThread(options: ThreadOptions): ThreadedFollower {
  const { log, profile } = options;
  if (options.nodes.length === 0) throw new PoolError('config', 'btcd: expected at least one node');
  for (const endpoint of endpointsOf(options.zmqBlock ?? '')) checkEndpoint(endpoint);
  const data: ThreadData = {
    nodes: options.nodes.map(({ url, user, pass, notify }) => ({ url, user, pass, notify })),
    profile,
    updateIntervalMs: options.updateIntervalMs,
    blockPollMs: options.blockPollMs,
    zmqBlock: options.zmqBlock,
    retryMs: options.retryMs ?? null,
    emptyAfterMs: options.emptyAfterMs ?? 0,
    dir: options.dir,
  };
  const store = new TemplateStore(options.dir);
  const listeners = new Set<(update: TemplateUpdate) => void>();
  const unknownStates = (): NodeState[] =>
    options.nodes.map(({ rpc }) => ({ node: rpc.name, state: 'unknown', problem: null, active: false }));
  let update: TemplateUpdate | null = null;
  let nodes = unknownStates();
  let problem: string | null = 'no node has answered yet';
  let closed = false;
  let worker: Worker;
  let alive = false;
  let failures = 0;
  let restart: NodeJS.Timeout | undefined;

  function take(message: FromThread): void {
    switch (message.kind) {
      case 'template': {
        const { template } = message.update;
        store.keep(template.tailKey, template.txCount, message.tail);
        // A thread that was started again does not know what the one before gave.
        const newBlock = update === null || update.template.prevHashRpc !== template.prevHashRpc;
        update = { ...message.update, newBlock };
        for (const listener of [...listeners]) {
          try {
            listener(update);
          } catch (error) {
            log(`a listener for templates failed: ${errorLine(error)}`);
          }
        }
        return;
      }
      case 'state':
        nodes = message.nodes;
        problem = message.problem;
        return;
      case 'log':
        log(message.line, message.level);
        return;
      case 'stored':
        store.stored(message.key);
    }
  }

  function begin(): void {
    const startedMs = performance.now();
    let cause: unknown = null;
    // `.ts` here, `.js` where it was compiled.
    worker = new Worker(new URL(`./template-worker${extname(import.meta.url)}`, import.meta.url), {
      name: 'templates',
      resourceLimits: LIMITS,
      workerData: data,
    });
    alive = true;
    options.onThread?.(worker);
    worker.on('message', (message: FromThread) => {
      if (!closed) take(message);
    });
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', (code) => {
      alive = false;
      if (closed) return;
      if (performance.now() - startedMs > RESTART_FORGET_MS) failures = 0;
      const pause = RESTART_PAUSES_MS[Math.min(failures++, RESTART_PAUSES_MS.length - 1)]!;
      problem = `the thread that follows the nodes ended (${cause === null ? `status ${code}` : errorLine(cause)})`;
      nodes = unknownStates();
      log(`${problem}; it is started again`);
      restart = setTimeout(begin, pause);
    });
  }
  begin();

  const tell = (message: ToThread): void => worker.postMessage(message);
  return {
    ...blockSubmitter(options.nodes.map(({ rpc }) => rpc)),
    on(_event, listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    current: () => update,
    refresh: () => tell('refresh'),
    nodeStates: () => nodes,
    problem: () => problem,
    tail: (key, txCount) => store.tail(key, txCount),
    get tailBytes() {
      return store.sizeBytes;
    },
    async close() {
      if (closed) return;
      closed = true;
      clearTimeout(restart);
      listeners.clear();
      // No thread is there between a death and the next start.
      if (!alive) return;
      const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
      tell('close');
      const limit = setTimeout(() => void worker.terminate(), CLOSE_MS);
      await gone;
      clearTimeout(limit);
    },
  };
}
