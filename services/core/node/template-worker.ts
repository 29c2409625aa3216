/**
 * The thread in which templates are fetched, read, checked and reduced: 4 MB of JSON cost 50 to 150 ms, which no share shall wait for.
 * Flow: `template-thread.ts` starts it → node(s) → `followTemplates` here → what a job needs and the block's tail, posted back.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { ChainProfile } from '../chains/profile.ts';
import { errorLine } from '../errors.ts';
import type { Log, LogLevel } from '../lifecycle.ts';
import { createNodeRpc } from './rpc.ts';
import { TailFiles } from './template-store.ts';
import { followTemplates, type NodeState, type TemplateUpdate } from './templates.ts';

/** What the thread is started with. */
export interface ThreadData {
  readonly nodes: readonly {
    readonly url: string;
    readonly user: string;
    readonly pass: string;
    readonly notify: boolean;
  }[];
  readonly profile: ChainProfile;
  readonly updateIntervalMs: number;
  readonly blockPollMs: number;
  readonly zmqBlock: string | null;
  readonly retryMs: number | null;
  readonly emptyAfterMs: number;
  /** `<data-dir>/templates` */
  readonly dir: string;
}

export type ToThread = 'refresh' | 'close';

export type FromThread =
  /** `tail` is null where it is the one sent before. */
  | { readonly kind: 'template'; readonly update: TemplateUpdate; readonly tail: Uint8Array | null }
  | { readonly kind: 'state'; readonly nodes: NodeState[]; readonly problem: string | null }
  | { readonly kind: 'log'; readonly line: string; readonly level: LogLevel | undefined }
  /** The tail's file is written. */
  | { readonly kind: 'stored'; readonly key: string };

function start(port: NonNullable<typeof parentPort>, data: ThreadData): void {
  const post = (message: FromThread, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);
  const log: Log = (line, level) => post({ kind: 'log', line, level });

  const files = new TailFiles(data.dir);
  let fileProblem: string | null = null;
  let writing = Promise.resolve();
  function keep(key: string, txCount: number, tail: Uint8Array): void {
    writing = writing
      .then(() => files.keep(key, txCount, tail))
      .then(
        () => {
          if (fileProblem !== null) log('templates are kept on disk again');
          fileProblem = null;
          post({ kind: 'stored', key });
        },
        (error: unknown) => {
          const line = errorLine(error);
          if (line !== fileProblem)
            log(`templates cannot be kept on disk, after a restart their blocks are lost: ${line}`);
          fileProblem = line;
        },
      );
  }

  const rpcs = data.nodes.map(({ url, user, pass }) => createNodeRpc({ url, user, pass }));
  let sentKey = '';
  let fresh: Uint8Array<ArrayBuffer> | null = null;
  const follower = followTemplates({
    nodes: rpcs.map((rpc, i) => ({ rpc, notify: data.nodes[i]!.notify })),
    profile: data.profile,
    updateIntervalMs: data.updateIntervalMs,
    blockPollMs: data.blockPollMs,
    zmqBlock: data.zmqBlock,
    emptyAfterMs: data.emptyAfterMs,
    ...(data.retryMs === null ? {} : { retryMs: data.retryMs }),
    log,
    onState: () => post({ kind: 'state', nodes: follower.nodeStates(), problem: follower.problem() }),
    onTail: (_template, tail) => {
      fresh = tail;
    },
  });
  follower.on('template', (update) => {
    const { tailKey, txCount } = update.template;
    const tail = fresh;
    fresh = null;
    if (tail === null || tailKey === sentKey) {
      post({ kind: 'template', update, tail: null });
      return;
    }
    sentKey = tailKey;
    // What is posted is gone here; the file takes a copy.
    const copy = txCount === 0 ? null : tail.slice();
    post({ kind: 'template', update, tail }, [tail.buffer]);
    if (copy !== null) keep(tailKey, txCount, copy);
  });
  port.on('message', (message: ToThread) => {
    if (message === 'refresh') follower.refresh();
    else
      void follower
        .close()
        .then(() => writing)
        .finally(() => {
          for (const rpc of rpcs) rpc.close();
          port.close();
        });
  });
}

if (!isMainThread && parentPort !== null) start(parentPort, workerData as ThreadData);
