/**
 * The current block template, from the best node that has one.
 * Flow: node(s) → here → the stratum daemon, which makes a job of each template; and back: solved blocks to every node at once.
 *
 *   long poll ──┐
 *   ZMQ ────────┤ whichever hears of a new block first
 *   polling ────┼──► getblocktemplate ──► check ──► 'template'
 *   interval ───┘
 *
 * A new block whose full template is late gets an empty one first (`empty-template.ts`), where that is surely right; the full one follows.
 *
 * Nodes have an order of preference. The one in use is left when it gives no template, and gone back to when it gives one
 * again. A node that is down, refuses the password, is of another chain or still syncs is said once and asked again every few
 * seconds; jobs of the last template go on being mined meanwhile.
 *
 * @see BIP 22 (long polling); CKPool's generator for the order of preference
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ChainProfile } from '../chains/profile.ts';
import { type ErrorCode, errorLine, PoolError } from '../errors.ts';
import type { Log } from '../lifecycle.ts';
import { emptyTemplate, tipHeader } from './empty-template.ts';
import { checkGenesis, genesisOf } from './resolve-chain.ts';
import { hexAnswer, type NodeRpc, objectAnswer } from './rpc.ts';
import { type BlockSubmitter, blockSubmitter } from './submit.ts';
import { checkTemplate, type ReducedTemplate, reduceTemplate, type Template, templateRequest } from './template.ts';
import { type BlockNotices, endpointsOf, subscribeBlocks } from './zmq.ts';

export { isVerdict, type SubmitAnswer } from './submit.ts';

export interface FollowedNode {
  /** Owned by the caller, who closes it. */
  readonly rpc: NodeRpc;
  /** True: this node's blocks are announced (ZMQ, notifier) and it is not polled. */
  readonly notify?: boolean;
}

export interface FollowOptions {
  /** In order of preference. */
  readonly nodes: readonly FollowedNode[];
  readonly profile: ChainProfile;
  /** A template is renewed at least this often, milliseconds. */
  readonly updateIntervalMs: number;
  /** Pause between two questions for the best block, milliseconds. */
  readonly blockPollMs: number;
  /** ZMQ endpoints of block notices, one or several with commas between; absent or null: none. */
  readonly zmqBlock?: string | null;
  /** Pause between two tries of nodes that are not in use, milliseconds. */
  readonly retryMs?: number;
  /** A full template that comes later than this after the notice of its block is preceded by an empty one, milliseconds; 0: never. */
  readonly emptyAfterMs?: number;
  readonly log: Log;
  readonly signal?: AbortSignal;
  /** Told of the block's tail of each template, before the template is announced. */
  readonly onTail?: (template: Template, tail: Uint8Array<ArrayBuffer>) => void;
  /** Told when `nodeStates` or `problem` may say something else. */
  readonly onState?: () => void;
}

/** What made us ask. */
export type TemplateTrigger = 'start' | 'longpoll' | 'zmq' | 'poll' | 'interval' | 'failover' | 'asked';

export interface TemplateUpdate {
  readonly template: Template;
  /** Name of the node that gave it. */
  readonly node: string;
  readonly trigger: TemplateTrigger;
  /** True where it stands on another block than the one before: older work is stale. */
  readonly newBlock: boolean;
}

export interface NodeState {
  readonly node: string;
  /** `unknown` before the first answer; a code of the table of errors where it cannot be used. */
  readonly state: 'unknown' | 'ready' | ErrorCode;
  /** What is wrong, one line; null where nothing is. */
  readonly problem: string | null;
  /** True for the node whose templates are used. */
  readonly active: boolean;
}

export interface TemplateFollower extends BlockSubmitter {
  /** Adds a listener for new templates. @returns a function that removes it */
  on(event: 'template', listener: (update: TemplateUpdate) => void): () => void;
  /** The last template; null before the first. */
  current(): TemplateUpdate | null;
  /** Asks for a new template now: a notifier spoke. */
  refresh(): void;
  nodeStates(): NodeState[];
  /** Why there is no fresh template, one line; null while a node is in use. */
  problem(): string | null;
  close(): Promise<void>;
}

const DEFAULT_RETRY_MS = 5_000;
/** A node that is asked whether it can be used; not the one that is in use. */
const PROBE_TIMEOUT_MS = 15_000;
/** The node in use is left for another when it does not answer the smallest question for so long; a block takes Core 1 to 3 s at worst. */
const SILENT_MS = 5_000;
/** How long a better node may take longer than a worse one before the worse one is used. */
const GRACE_MS = 1_000;
/** A node may rightly hold a long poll until the next block; the limit only finds connections that died silently. */
const LONG_POLL_TIMEOUT_MS = 15 * 60_000;
/** A long poll that comes back at once, again and again, must not become a busy loop. */
const LONG_POLL_PAUSE_MS = 1_000;
/** A node that has held a long poll for so long honours it, and will answer it at the next block. */
const HELD_MS = 1_000;
/** How often such a node is polled all the same, for the block that a long poll does not tell of: ten polls a second cost 1 % of a core. */
const HELD_POLL_MS = 1_000;
/** Least time between two blocks that a long poll tells of: each is work for every miner. */
const NEWS_PAUSE_MS = 20;

/**
 * Starts following. Returns at once; the first template arrives with the first `template` event.
 *
 * @throws PoolError config where no node is given or the ZMQ endpoint is none
 */
export function followTemplates(options: FollowOptions): TemplateFollower {
  const { nodes, profile, updateIntervalMs, blockPollMs, log } = options;
  const retryMs = options.retryMs ?? DEFAULT_RETRY_MS;
  if (nodes.length === 0) throw new PoolError('config', 'btcd: expected at least one node');

  const stop = new AbortController();
  const stopped = stop.signal;
  const states = nodes.map((): { state: NodeState['state']; problem: string | null } => ({
    state: 'unknown',
    problem: null,
  }));
  const listeners = new Set<(update: TemplateUpdate) => void>();
  const tasks = new Set<Promise<void>>();

  let update: TemplateUpdate | null = null;
  /** Index of the node in use, -1 for none. */
  let active = -1;
  let lastUsed = -1;
  let usedSinceMs = 0;
  /** When the node in use was given the long poll that it has not answered; Infinity: it has none. */
  let heldSinceMs = Infinity;
  /** Ends the tasks of the node in use when it is left. */
  let tenure = new AbortController();
  /** Counts requests and block changes, so that an answer that was overtaken is known. */
  let ticks = 0;
  let lastBlockTick = 0;
  let intervalTimer: NodeJS.Timeout | undefined;
  let wakeWatch = (): void => {};
  /** When the last template came, `performance.now()`. */
  let updatedMs = 0;
  /** The block that an empty template may be needed for. */
  let awaited = '';

  function spawn(task: () => Promise<void>): void {
    const running: Promise<void> = task()
      .catch((error: unknown) => {
        if (!stopped.aborted) log(`following the nodes: ${errorLine(error)}`);
      })
      .finally(() => tasks.delete(running));
    tasks.add(running);
  }

  async function pause(ms: number, signal: AbortSignal): Promise<void> {
    await delay(ms, undefined, { signal }).catch(() => {});
  }

  // --- one node ------------------------------------------------------------------------------------------------------------

  async function templateOf(
    i: number,
    call: { longPollId?: string; timeoutMs?: number; signal: AbortSignal },
  ): Promise<ReducedTemplate> {
    const { longPollId, ...callOptions } = call;
    const raw = await nodes[i]!.rpc.call('getblocktemplate', [templateRequest(profile, longPollId)], callOptions);
    return reduceTemplate(checkTemplate(raw, profile));
  }

  /** Everything that makes a node usable: our chain, synced, a template. */
  async function probe(i: number): Promise<ReducedTemplate> {
    const { rpc } = nodes[i]!;
    const call = { signal: stopped, timeoutMs: PROBE_TIMEOUT_MS };
    checkGenesis(profile, await genesisOf(rpc, stopped), rpc.name);
    await refuseSyncing(rpc, call);
    const given = await templateOf(i, call);
    const now = update?.template.height ?? 0;
    if (active !== -1 && given.template.height < now) {
      // It was away and has not caught up: going back now would be going back to an old block.
      throw new PoolError(
        'node_syncing',
        `node ${rpc.name} is behind, block ${given.template.height - 1} of ${now - 1}`,
      );
    }
    return given;
  }

  async function refuseSyncing(rpc: NodeRpc, call: { signal: AbortSignal; timeoutMs: number }): Promise<void> {
    let info: Readonly<Record<string, unknown>>;
    try {
      info = objectAnswer('getblockchaininfo', await rpc.call('getblockchaininfo', [], call));
    } catch (error) {
      // A user that may not call it, or a node that lacks it: getblocktemplate itself refuses while the node syncs.
      if (error instanceof PoolError && (error.facts.rpcCode === -32601 || error.facts.status === 403)) return;
      throw error;
    }
    const { blocks, headers } = info;
    // A chain without blocks for a day counts as initial download too (regtest); only missing blocks are a reason to wait.
    if (
      info.initialblockdownload === true &&
      typeof blocks === 'number' &&
      typeof headers === 'number' &&
      blocks < headers
    ) {
      throw new PoolError('node_syncing', `node ${rpc.name} is still syncing, block ${blocks} of ${headers}`);
    }
  }

  /** Every node has failed, and it was said. */
  let noneActive = false;

  function setState(i: number, error: unknown): void {
    const state = states[i]!;
    const before = state.state;
    if (error === null) {
      state.state = 'ready';
      state.problem = null;
      noneActive = false;
      if (before !== 'ready' && before !== 'unknown') log(`node ${nodes[i]!.rpc.name} can be used again`);
      if (before !== 'ready') log(`Server alive: ${nodes[i]!.rpc.name}`, 5);
      if (before !== 'ready') options.onState?.();
      return;
    }
    state.state = error instanceof PoolError ? error.code : 'internal';
    state.problem = errorLine(error);
    // The code, not the words: those may hold numbers that change with each try.
    if (state.state !== before) log(`${state.problem}; asking again every ${retryMs / 1000} s`);
    // CKPool's line, each time that it becomes true: monitors look for it.
    if (!noneActive && states.every((each) => each.state !== 'ready' && each.state !== 'unknown')) {
      noneActive = true;
      log('CRITICAL: No bitcoinds active!', 2);
    }
    options.onState?.();
  }

  // --- which node ----------------------------------------------------------------------------------------------------------

  function use(i: number, template: ReducedTemplate): void {
    const trigger = lastUsed === -1 ? 'start' : 'failover';
    const verb = lastUsed === -1 || lastUsed === i ? 'Connected' : 'Failed over';
    log(`${verb} to bitcoind: ${nodes[i]!.rpc.name}`);
    leave();
    active = i;
    lastUsed = i;
    usedSinceMs = performance.now();
    heldSinceMs = Infinity;
    options.onState?.();
    const { signal } = tenure;
    take(template, trigger, ++ticks);
    spawn(() => longPoll(i, signal));
    if (nodes[i]!.notify !== true) spawn(() => poll(i, blockPollMs, signal));
    // Not for its blocks, which are announced: for its silence, where there is another node.
    else if (nodes.length > 1) spawn(() => poll(i, Math.max(SILENT_MS, blockPollMs), signal));
  }

  function leave(): void {
    tenure.abort();
    tenure = new AbortController();
    if (stopped.aborted) tenure.abort();
    active = -1;
    clearTimeout(intervalTimer);
  }

  /** The node in use gave no template. */
  function giveUp(i: number, error: unknown): void {
    if (active !== i || stopped.aborted) return;
    setState(i, error);
    leave();
    options.onState?.();
    // A node that passes the tests and then fails at once would otherwise be chosen and left in a busy loop.
    if (performance.now() - usedSinceMs > GRACE_MS) wakeWatch();
  }

  /** Tries all nodes that are better than the one in use. */
  async function choose(): Promise<void> {
    const candidates = nodes.map((_, i) => i).filter((i) => active === -1 || i < active);
    const waiting = new Set(candidates);
    let best: { i: number; template: ReducedTemplate } | undefined;
    let settle = (): void => {};
    const settled = new Promise<void>((resolve) => {
      settle = resolve;
    });
    let grace: NodeJS.Timeout | undefined;
    function consider(): void {
      const better = best === undefined ? waiting : [...waiting].filter((i) => i < best!.i);
      if ([...better].length === 0) settle();
      else if (best !== undefined) grace ??= setTimeout(settle, GRACE_MS);
    }
    for (const i of candidates) {
      probe(i).then(
        (template) => {
          setState(i, null);
          if (best === undefined || i < best.i) best = { i, template };
          waiting.delete(i);
          consider();
        },
        (error: unknown) => {
          if (!stopped.aborted) setState(i, error);
          waiting.delete(i);
          consider();
        },
      );
    }
    consider();
    await settled;
    clearTimeout(grace);
    if (best !== undefined && !stopped.aborted && (active === -1 || best.i < active)) use(best.i, best.template);
  }

  async function watch(): Promise<void> {
    while (!stopped.aborted) {
      // Before the nodes are tried: one that is given up meanwhile must not wait for the next round.
      const wake = new AbortController();
      wakeWatch = () => wake.abort();
      if (active !== 0) await choose();
      await pause(retryMs, AbortSignal.any([stopped, wake.signal]));
    }
  }

  // --- the node in use -----------------------------------------------------------------------------------------------------

  /** Takes an answer of the node in use; `tick` is when it was asked. */
  function take({ template, tail }: ReducedTemplate, trigger: TemplateTrigger, tick: number): void {
    const newBlock = update === null || update.template.prevHashRpc !== template.prevHashRpc;
    if (newBlock && tick < lastBlockTick) {
      // Asked before, answered after another answer brought a new block: which is newer cannot be told from here.
      refresh(trigger);
      return;
    }
    // Interval and fail-over renew the work; a notice of a block that we already work on brings nothing.
    const heard = trigger === 'longpoll' || trigger === 'zmq' || trigger === 'poll';
    if (!newBlock && heard && update?.template.empty !== true) return;
    if (newBlock) lastBlockTick = ++ticks;
    update = { template, node: nodes[active]!.rpc.name, trigger, newBlock };
    updatedMs = performance.now();
    clearTimeout(intervalTimer);
    intervalTimer = setTimeout(() => refresh('interval'), updateIntervalMs);
    options.onTail?.(template, tail);
    for (const listener of [...listeners]) {
      try {
        listener(update);
      } catch (error) {
        log(`a listener for templates failed: ${errorLine(error)}`);
      }
    }
  }

  let refreshing: Promise<void> | null = null;
  let again: { trigger: TemplateTrigger; hash: string | undefined } | null = null;

  /** Asks the node in use for a template. `hash`: the new best block, where it is known; nothing is asked when we are on it. */
  function refresh(trigger: TemplateTrigger, hash?: string): Promise<void> {
    const known = hash !== undefined && update?.template.prevHashRpc === hash;
    if (stopped.aborted || (known && update?.template.empty !== true)) return Promise.resolve();
    if (hash !== undefined && !known && active !== -1) void anticipate(trigger, hash, active, tenure.signal);
    if (refreshing !== null) {
      // The answer on its way may be from before the notice.
      again = { trigger, hash };
      return refreshing;
    }
    const i = active;
    if (i === -1) return Promise.resolve();
    const { signal } = tenure;
    async function ask(): Promise<void> {
      const tick = ++ticks;
      try {
        // With another node to go to, a silent one is not waited for as long.
        const template = await templateOf(i, nodes.length > 1 ? { signal, timeoutMs: PROBE_TIMEOUT_MS } : { signal });
        if (!signal.aborted) take(template, trigger, tick);
      } catch (error) {
        if (!signal.aborted) giveUp(i, error);
      }
    }
    refreshing = ask().finally(() => {
      refreshing = null;
      const next = again;
      again = null;
      if (next !== null) void refresh(next.trigger, next.hash);
    });
    return refreshing;
  }

  /** Gives an empty template for a new block where the full one takes too long. */
  async function anticipate(trigger: TemplateTrigger, hash: string, i: number, signal: AbortSignal): Promise<void> {
    const afterMs = options.emptyAfterMs ?? 0;
    if (afterMs === 0 || awaited === hash) return;
    awaited = hash;
    try {
      const call = { signal, timeoutMs: PROBE_TIMEOUT_MS };
      const [raw] = await Promise.all([nodes[i]!.rpc.call('getblockheader', [hash], call), pause(afterMs, signal)]);
      const tip = tipHeader(raw);
      if (signal.aborted || awaited !== hash || tip.hashRpc !== hash || update === null) return;
      const template = emptyTemplate(update.template, tip, profile, {
        ageS: (performance.now() - updatedMs) / 1000,
        nowS: Date.now() / 1000,
      });
      if (template === null) {
        awaited = '';
        return;
      }
      log(`the template on block ${hash} is late: an empty one goes first`);
      take({ template, tail: new Uint8Array(0) }, trigger, ++ticks);
    } catch {
      // No header, no empty template; what is wrong with the node shows at the full one. It may only not know the block yet.
      if (awaited === hash) awaited = '';
    }
  }

  async function longPoll(i: number, signal: AbortSignal): Promise<void> {
    let handle = update?.template.longPollId ?? null;
    while (!signal.aborted && handle !== null) {
      const tick = ++ticks;
      const asked = performance.now();
      heldSinceMs = asked;
      try {
        const given: ReducedTemplate = await templateOf(i, {
          longPollId: handle,
          signal,
          timeoutMs: LONG_POLL_TIMEOUT_MS,
        });
        if (signal.aborted) return;
        heldSinceMs = Infinity;
        handle = given.template.longPollId;
        const news = given.template.prevHashRpc !== update?.template.prevHashRpc;
        take(given, 'longpoll', tick);
        const tookMs = performance.now() - asked;
        if (!news && tookMs < LONG_POLL_PAUSE_MS) await pause(LONG_POLL_PAUSE_MS, signal);
        else if (tookMs < NEWS_PAUSE_MS) await pause(NEWS_PAUSE_MS - tookMs, signal);
      } catch {
        if (signal.aborted) return;
        heldSinceMs = Infinity;
        // An ordinary request tells whether the node is gone or only this connection.
        await refresh('longpoll');
        await pause(LONG_POLL_PAUSE_MS, signal);
      }
    }
  }

  async function poll(i: number, everyMs: number, signal: AbortSignal): Promise<void> {
    const { rpc } = nodes[i]!;
    const timeoutMs = nodes.length > 1 ? SILENT_MS : PROBE_TIMEOUT_MS;
    while (!signal.aborted) {
      const held = performance.now() - heldSinceMs > HELD_MS;
      await pause(held ? Math.max(everyMs, HELD_POLL_MS) : everyMs, signal);
      if (signal.aborted) return;
      try {
        const hash = hexAnswer('getbestblockhash', await rpc.call('getbestblockhash', [], { signal, timeoutMs }), 32);
        if (hash !== update?.template.prevHashRpc) {
          await refresh('poll', hash);
          // A node whose best block is not what its templates stand on is asked again, but not in a hurry.
          if (!signal.aborted && hash !== update?.template.prevHashRpc) await pause(LONG_POLL_PAUSE_MS, signal);
        }
      } catch (error) {
        if (signal.aborted) return;
        // Whatever else it says (a user that may not call this, a full queue), it is there: its template tells whether it can be used.
        const silent = error instanceof PoolError && error.code === 'node_unreachable';
        if (silent && nodes.length > 1) giveUp(i, error);
        else await refresh('poll');
      }
    }
  }

  const notices: BlockNotices[] = [];
  try {
    for (const endpoint of endpointsOf(options.zmqBlock ?? '')) {
      notices.push(
        subscribeBlocks({
          endpoint,
          onBlock: (hash) => void refresh('zmq', hash),
          onLost: () => void refresh('zmq'),
          log,
        }),
      );
    }
  } catch (error) {
    for (const each of notices) each.close();
    throw error;
  }
  spawn(watch);

  async function close(): Promise<void> {
    stop.abort(new PoolError('node_unreachable', 'following the nodes has ended'));
    options.signal?.removeEventListener('abort', onAbort);
    for (const each of notices) each.close();
    leave();
    listeners.clear();
    await Promise.all([...tasks, refreshing]);
  }
  const onAbort = (): void => void close();
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();

  return {
    on(_event, listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    current: () => update,
    refresh: () => void refresh('asked'),
    nodeStates: () => nodes.map(({ rpc }, i) => ({ node: rpc.name, ...states[i]!, active: i === active })),
    problem: () =>
      active >= 0 ? null : (states.find(({ problem }) => problem !== null)?.problem ?? 'no node has answered yet'),
    ...blockSubmitter(nodes.map(({ rpc }) => rpc)),
    close,
  };
}
