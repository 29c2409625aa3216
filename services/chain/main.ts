/**
 * The chain program: one follower, the authority on which blocks are on the chain for everything behind the log.
 *
 *   node (RPC; ZMQ as a hint) --> ChainFollower --> journal of instance `chain`, topic block --> consumers
 *
 * It takes its position from its own last output, waits for nodes that are down, refuse the password, sync or are behind, and says
 * in the status file `chain` what it sees: height, distance, what is wrong.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { SessionEvent, SessionInput } from '../../schemas/events.ts';
import { scriptFromAddress } from '../core/bitcoin/address.ts';
import { hexFromBytes } from '../core/bitcoin/bytes.ts';
import { CHAIN_FOLLOWER, readChainTail } from '../core/chain-tail.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import type { EventLog, JournalWriter, Position } from '../core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../core/log/journal.ts';
import { MEND_BITS } from '../core/node/last-retarget.ts';
import { checkGenesis, genesisOf, resolveChain } from '../core/node/resolve-chain.ts';
import { createNodeRpc, hexAnswer, type NodeRpc } from '../core/node/rpc.ts';
import { type BlockNotices, endpointsOf, subscribeBlocks } from '../core/node/zmq.ts';
import { publishStatus } from '../core/status.ts';
import { NodeChoice } from './choice.ts';
import { ChainFollower, type Progress } from './follower.ts';
import { OwnWork } from './own-work.ts';

/** With block notices polling is only the safety net for those that are lost. */
const SAFETY_POLL_MS = 5_000;
/** While no node can be followed, none is asked more often than this. */
const RETRY_MS = 1_000;
const PROGRESS_EVERY_MS = 5_000;
/** A call that takes longer than this is a node that hangs; blocks take a node some tens of milliseconds. */
const RPC_TIMEOUT_MS = 30_000;
/** After this long without an answer that is said, while the call still has its time. */
const SILENT_MS = 5_000;
/** Rounds of more blocks than this are told as progress, not block by block. */
const FEW_BLOCKS = 6;

export interface ChainOptions {
  /** The profile, where the caller knows it; else it is resolved from the configuration and the node. */
  readonly profile?: ChainProfile;
  /** Microseconds since 1970 UTC. */
  readonly nowUs?: () => number;
}

interface FollowedNode {
  readonly rpc: NodeRpc;
  genesisChecked: boolean;
}

/**
 * Starts the follower and returns; it works until `life` ends.
 *
 * A wrong chain, profile or address ends the program through `life.stop` as soon as it is known: nodes may not be up yet.
 *
 * @throws PoolError held where another process follows into this data directory
 */
export async function startChain(config: Config, life: Lifecycle, options: ChainOptions = {}): Promise<void> {
  const nowUs = options.nowUs ?? (() => Date.now() * 1000);
  if (config.nodes.length === 0) {
    life.log('no node is configured ("btcd"): a proxy does without, and no chain is followed');
    return;
  }
  const paths = openDataDir(config.dataDir);
  const writer = openJournalWriter({
    dir: paths.journal,
    instance: CHAIN_FOLLOWER,
    fsync: config.journal.fsync,
    segmentBytes: config.journal.segmentBytes,
    log: life.log,
  });
  life.onStop('chain journal', () => writer.close());

  const nodes: FollowedNode[] = config.nodes.map((node) => ({
    rpc: createNodeRpc({ url: node.url, user: node.auth, pass: node.pass, timeoutMs: RPC_TIMEOUT_MS }),
    genesisChecked: false,
  }));
  const stopping = new AbortController();
  const state = new ChainStatus();
  const status = publishStatus(paths.status, 'chain', () => state.report());

  const work = follow(
    config,
    options.profile ?? null,
    nodes,
    writer,
    paths.journal,
    state,
    life.log,
    nowUs,
    stopping.signal,
  ).catch((error: unknown) => {
    if (!stopping.signal.aborted) life.stop(error);
  });
  life.onStop('chain', async () => {
    stopping.abort(new Error('stopping'));
    for (const { rpc } of nodes) rpc.close();
    await work;
    status.close();
  });
}

/** What the status file says. */
class ChainStatus {
  profile: ChainProfile | null = null;
  follower: ChainFollower | null = null;
  problem: string | null = 'the node has not answered yet';
  node = '';
  /** Where there are several nodes. */
  choice: NodeChoice | null = null;
  notices: Notices | null = null;
  /** Since when an answer is awaited, monotonic milliseconds; null: none is. */
  askedAt: number | null = null;
  nodeHeight = 0;
  connected = 0;
  disconnected = 0;

  #silence(): string[] {
    const ms = this.askedAt === null ? 0 : performance.now() - this.askedAt;
    return ms < SILENT_MS ? [] : [`node ${this.node} has not answered for ${Math.floor(ms / 1_000)} s`];
  }

  report(): { problems: string[]; values: Record<string, number | string> } {
    const tip = this.follower?.tip ?? null;
    const { choice } = this;
    const disagreement = choice?.disagreement ?? null;
    const ofBits = this.follower?.bitsProblem ?? null;
    return {
      problems: [
        ...(this.problem === null ? this.#silence() : [this.problem]),
        ...(disagreement === null ? [] : [`${disagreement.line}, since ${instantText(disagreement.sinceUs)}`]),
        ...(this.choice?.strangers ?? []),
        ...(ofBits === null ? [] : [`${ofBits}; it is followed all the same, forecasts are off: ${MEND_BITS}`]),
      ],
      values: {
        ...(this.profile === null ? {} : { chain: this.profile.name }),
        ...(tip === null
          ? {}
          : {
              height: tip.height,
              hash: tip.hash,
              block_time_us: tip.block_time_us,
              median_time_us: tip.median_time_us,
              nbits: tip.nbits,
            }),
        node: this.node,
        node_height: this.nodeHeight,
        behind_blocks: Math.max(0, this.nodeHeight - (tip?.height ?? 0)),
        chain_seq: this.follower?.chainSeq ?? 0,
        blocks_connected_count: this.connected,
        blocks_disconnected_count: this.disconnected,
        own_blocks_pending_count: this.follower?.ownPending ?? 0,
        ...(this.notices === null ? {} : { zmq_connected: this.notices.connected ? 1 : 0 }),
        ...(choice === null ? {} : { nodes_usable_count: choice.usable, node_problems: choice.problems.join('; ') }),
        ...(disagreement === null
          ? {}
          : { nodes_fork_height: disagreement.forkHeight, nodes_disagree_since_us: disagreement.sinceUs }),
      },
    };
  }
}

/** Everything after the start: finds the chain, reads its own last output, follows. Ends only by an error or the signal. */
async function follow(
  config: Config,
  given: ChainProfile | null,
  nodes: readonly FollowedNode[],
  writer: JournalWriter,
  journalDir: string,
  state: ChainStatus,
  log: Log,
  nowUs: () => number,
  signal: AbortSignal,
): Promise<void> {
  const rpcs = nodes.map(({ rpc }) => rpc);
  const onProblem = (line: string | null): void => {
    state.problem = line;
  };
  const profile = given ?? (await resolveChain(config, rpcs, { log, signal, onProblem }));
  state.profile = profile;
  const ourScript = scriptOf(config.btcAddress, profile);

  const reader = openJournalLog({ dir: journalDir });
  // As deep as a reorganisation may go, and the eleven blocks of a median time below it.
  const { fold, damage } = await readChainTail(reader, profile.name, config.maxReorg + 12, nowUs());
  const told = await lastToldOfNodes(reader);
  for (const line of damage) log(`part of the follower's own log cannot be read: ${line}`);
  if (fold.tip !== null) log(`following ${profile.name} from height ${fold.tip.height} on, where the log ends`);
  else log(`following ${profile.name} for the first time`);

  let saidProgressAt = performance.now();
  const onProgress = ({ height, nodeHeight, fromHeight }: Progress): void => {
    state.nodeHeight = nodeHeight;
    state.askedAt = performance.now();
    const total = nodeHeight - fromHeight + 1;
    const done = height - fromHeight + 1;
    if (done === total || total <= FEW_BLOCKS || performance.now() - saidProgressAt < PROGRESS_EVERY_MS) return;
    saidProgressAt = performance.now();
    log(`catching up: ${done} of ${total} blocks (${Math.floor((done / total) * 100)} %), height ${height}`);
  };
  const follower = new ChainFollower({
    profile,
    fold,
    append: (events) => writer.append(events.map((event) => ({ topic: 'block', event }))),
    instance: CHAIN_FOLLOWER,
    ourScript,
    owner: new OwnWork(reader, journalDir, profile.name),
    fromHeight: config.followFromHeight,
    maxReorg: config.maxReorg,
    nowUs,
    signal,
    onProgress,
  });
  state.follower = follower;

  const choice = nodes.length > 1 ? new NodeChoice(rpcs, profile, nowUs, signal) : null;
  state.choice = choice;
  const teller = new DisagreementTeller(config.origin, writer, told, nowUs, log);
  const bell = new Bell();
  const notices = subscribe(config.zmqBlock, bell, log);
  state.notices = notices;
  try {
    let said: string | null = null;
    let saidOfBits: string | null = null;
    for (;;) {
      signal.throwIfAborted();
      state.askedAt = performance.now();
      const problem = await look(follower, nodes, profile, state, log, said !== null, signal);
      state.askedAt = null;
      state.problem = problem;
      const ofBits = follower.bitsProblem;
      if (ofBits !== saidOfBits) log(ofBits ?? `the chain's nBits are again as the profile ${profile.name} gives them`);
      saidOfBits = ofBits;
      if (choice !== null) teller.tell(choice, follower.tip?.height ?? 0);
      if (problem !== said) {
        if (problem !== null) log(`${problem}; waiting`);
        else log(`following again, height ${follower.tip?.height}`);
        said = problem;
      }
      const pollMs = notices?.connected === true ? SAFETY_POLL_MS : config.blockPollMs;
      await bell.wait(problem === null ? pollMs : Math.max(pollMs, RETRY_MS), signal);
    }
  } finally {
    notices?.close();
    await reader.close();
  }
}

/**
 * Asks the nodes until one can be followed: in their order, where there are several in that of their work.
 * @returns null, or what is wrong with all of them, in one line
 */
async function look(
  follower: ChainFollower,
  nodes: readonly FollowedNode[],
  profile: ChainProfile,
  state: ChainStatus,
  log: Log,
  whole: boolean,
  signal: AbortSignal,
): Promise<string | null> {
  const problems: string[] = [];
  const order = state.choice === null ? null : await state.choice.order(state.node);
  const inOrder = order?.flatMap((rpc) => nodes.find((node) => node.rpc === rpc) ?? []) ?? nodes;
  for (const node of inOrder) {
    const { rpc } = node;
    try {
      if (!node.genesisChecked) {
        checkGenesis(profile, await genesisOf(rpc, signal), rpc.name);
        node.genesisChecked = true;
      }
      const first = follower.tip === null || whole || state.node !== rpc.name;
      if (!first) {
        const best = hexAnswer('getbestblockhash', await rpc.call('getbestblockhash', [], { signal }), 32);
        if (best === follower.tip?.hash) return null;
      }
      const started = performance.now();
      const round = await follower.round(rpc);
      state.nodeHeight = round.nodeHeight;
      if (round.state !== 'followed') {
        problems.push(round.problem);
        continue;
      }
      if (state.node !== rpc.name) log(`follows node ${rpc.name}`);
      state.node = rpc.name;
      state.connected += round.connected;
      state.disconnected += round.disconnected;
      tell(follower, round.connected, round.disconnected, performance.now() - started, log);
      return null;
    } catch (error) {
      const stranger = nodes.length > 1 && error instanceof PoolError && error.code === 'chain_mismatch';
      if (signal.aborted || !(error instanceof PoolError) || !(error.retry || stranger)) throw error;
      problems.push(errorLine(error));
    }
  }
  return problems.join('; ');
}

function tell(follower: ChainFollower, connected: number, disconnected: number, ms: number, log: Log): void {
  const tip = follower.tip;
  if (tip === null || connected + disconnected === 0) return;
  if (disconnected > 0) log(`reorganisation: ${disconnected} blocks taken back, ${connected} connected`);
  if (connected > FEW_BLOCKS) {
    log(`${connected} blocks connected in ${(ms / 1000).toFixed(1)} s, at height ${tip.height}`);
  } else {
    log(`block ${tip.height} ${tip.hash}${tip.ours ? ', ours' : ''}`);
  }
}

interface Notices extends BlockNotices {
  /** False while a publisher is away: its blocks are found by asking alone. */
  readonly connected: boolean;
}

function subscribe(endpoints: string | null, bell: Bell, log: Log): Notices | null {
  if (endpoints === null) return null;
  const ring = (): void => bell.ring();
  const away = new Set(endpointsOf(endpoints));
  const all = [...away].map((endpoint) =>
    subscribeBlocks({
      ...{ endpoint, onBlock: ring, onLost: ring, log },
      onConnected(connected) {
        if (connected) away.delete(endpoint);
        else away.add(endpoint);
        ring();
      },
    }),
  );
  return {
    get connected() {
      return away.size === 0;
    },
    close(): void {
      for (const each of all) each.close();
    },
  };
}

const instantText = (us: number): string => new Date(us / 1_000).toISOString();

/** Says in the log, once each, that the nodes are on different branches and that they are on one again. */
class DisagreementTeller {
  readonly #origin: string;
  readonly #writer: JournalWriter;
  readonly #nowUs: () => number;
  readonly #log: Log;
  /** The last that was said, also by an earlier run. */
  #told: Pick<SessionEvent, 'kind' | 'time_us'> | null;

  constructor(origin: string, writer: JournalWriter, told: SessionEvent | null, nowUs: () => number, log: Log) {
    this.#origin = origin;
    this.#writer = writer;
    this.#told = told;
    this.#nowUs = nowUs;
    this.#log = log;
  }

  tell({ disagreement, agreed }: Pick<NodeChoice, 'disagreement' | 'agreed'>, height: number): void {
    const apart = this.#told?.kind === NODES_DISAGREE;
    if (disagreement !== null && !apart) this.#say(NODES_DISAGREE, disagreement.line);
    else if (agreed && apart) {
      const forS = Math.round((this.#nowUs() - this.#told!.time_us) / 1e6);
      this.#say(NODES_AGREE, `nodes are on one chain again, at height ${height}, after ${forS} s`);
    }
  }

  #say(kind: string, reason: string): void {
    const event: SessionInput = {
      kind,
      origin: this.#origin,
      instance: CHAIN_FOLLOWER,
      time_us: this.#nowUs(),
      reason,
    };
    this.#writer.append([{ topic: 'session', event }]);
    this.#told = event;
    this.#log(reason);
  }
}

const NODES_DISAGREE = 'nodes_disagree';
const NODES_AGREE = 'nodes_agree';

/** The last event about the nodes' branches that a follower of this journal appended; null: none. */
async function lastToldOfNodes(reader: EventLog): Promise<SessionEvent | null> {
  let last: SessionEvent | null = null;
  if (!(await reader.partitions('session')).includes(CHAIN_FOLLOWER)) return null;
  for (let from: Position | null = null; ; ) {
    const batch = await reader.read('session', CHAIN_FOLLOWER, from, { maxRecords: 1_000, waitMs: 0 });
    for (const { fingerprint, body } of batch.records) {
      const event = (await reader.decoder('session', fingerprint))(body);
      if (event.kind === NODES_DISAGREE || event.kind === NODES_AGREE) last = event;
    }
    if (batch.records.length === 0 && batch.damage.length === 0) return last;
    from = batch.next;
  }
}

/** Output script of our address, hex. @throws PoolError config where it is none of this chain */
function scriptOf(address: string | null, profile: ChainProfile): string | null {
  if (address === null) return null;
  try {
    return hexFromBytes(scriptFromAddress(address, profile.address));
  } catch (cause) {
    throw new PoolError('config', `"btcaddress": ${(cause as Error).message} (chain ${profile.name})`, { cause });
  }
}

/** Wakes the one who waits; a ring while nobody waits is kept. */
class Bell {
  #rung = false;
  #wake: (() => void) | null = null;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung) {
      const early = new AbortController();
      this.#wake = () => early.abort();
      await delay(ms, undefined, { signal: AbortSignal.any([signal, early.signal]) }).catch(() => {});
      this.#wake = null;
    }
    this.#rung = false;
  }
}
