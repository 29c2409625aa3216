/**
 * Several nodes: which one is followed, and whether they tell one chain.
 *
 *   each node --getbestblockhash, getblockchaininfo--> NodeChoice --order--> main.ts --round--> follower.ts
 *                                                          └─ two branches for a while: `nodes_disagree`, a problem; until `nodes_agree`
 *
 * The node with the most work is asked first, of equals the one that was followed. What a node says decides that order and nothing else:
 * the follower takes no block that it has not read, and gives none up for less work.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ChainProfile } from '../core/chains/profile.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { checkGenesis, genesisOf } from '../core/node/resolve-chain.ts';
import { hexAnswer, type NodeRpc } from '../core/node/rpc.ts';
import { compareWork, type NodeTip, nodeTip, relationOf, type Standing } from '../core/node/survey.ts';

/** A node that has not answered by then is done without: it must not hold up the others. */
const WAIT_MS = 500;
/** Two branches are usual for some seconds, while blocks travel. */
const DISAGREE_AFTER_US = 10_000_000;

export interface Disagreement {
  /** Height of the last block that all have. */
  readonly forkHeight: number;
  /** Since when it is seen, microseconds since 1970 UTC. */
  readonly sinceUs: number;
  /** Who is on which branch, in one line. */
  readonly line: string;
}

interface Known {
  readonly rpc: NodeRpc;
  genesisChecked: boolean;
  tip: NodeTip | null;
  problem: PoolError | null;
  asking: Promise<void> | null;
  /** It did not answer in time, just now. */
  late: boolean;
}

export class NodeChoice {
  readonly #nodes: readonly Known[];
  readonly #profile: ChainProfile;
  readonly #nowUs: () => number;
  readonly #signal: AbortSignal;
  /** Of the pairs that were compared last. */
  #forks = new Map<string, number | null>();
  #forkedSince: number | null = null;
  #disagreement: Disagreement | null = null;

  constructor(rpcs: readonly NodeRpc[], profile: ChainProfile, nowUs: () => number, signal: AbortSignal) {
    this.#nodes = rpcs.map((rpc) => ({
      rpc,
      genesisChecked: false,
      tip: null,
      problem: null,
      asking: null,
      late: false,
    }));
    this.#profile = profile;
    this.#nowUs = nowUs;
    this.#signal = signal;
  }

  /** Told once it has lasted; null while the nodes are on one chain. */
  get disagreement(): Disagreement | null {
    return this.#disagreement;
  }

  /** Every node answers, and all are on one chain. */
  get agreed(): boolean {
    return this.#forkedSince === null && this.usable === this.#nodes.length;
  }

  /** What is wrong with single nodes, a line each, whether or not another serves. */
  get problems(): string[] {
    return this.#nodes.flatMap(({ rpc, problem, tip, late }) => {
      if (problem !== null) return [errorLine(problem)];
      if (late) return [`node ${rpc.name} does not answer within ${WAIT_MS} ms`];
      return tip?.syncing === true ? [`node ${rpc.name} is still syncing, at height ${tip.height}`] : [];
    });
  }

  /** Nodes that can never be followed, a line each: the configuration is wrong. */
  get strangers(): string[] {
    return this.#nodes.flatMap(({ problem }) => (problem?.code === 'chain_mismatch' ? [errorLine(problem)] : []));
  }

  get usable(): number {
    return this.#standing().length;
  }

  /**
   * The nodes in the order in which they are to be followed, those that cannot be last.
   * @param followed - name of the node that was followed last
   * @throws PoolError chain_mismatch where every node that answers is on another chain; the signal's reason
   */
  async order(followed: string): Promise<NodeRpc[]> {
    const all = Promise.all(this.#nodes.map((node) => this.#ask(node)));
    const enough = new AbortController();
    await Promise.race([all, delay(WAIT_MS, undefined, { signal: enough.signal }).catch(() => {})]);
    enough.abort();
    this.#signal.throwIfAborted();
    for (const node of this.#nodes) node.late = node.asking !== null;
    const wrong = this.#nodes.filter(({ problem }) => problem?.code === 'chain_mismatch');
    if (wrong.length === this.#nodes.length) throw wrong[0]!.problem!;

    const standing = this.#standing();
    let best: Standing | null = null;
    for (const node of [...standing].sort(
      (a, b) => Number(b.rpc.name === followed) - Number(a.rpc.name === followed),
    )) {
      if (best === null || (await this.#heavier(node, best))) best = node;
    }
    if (best !== null) await this.#judge(best, standing);
    const rest = this.#nodes.filter(({ rpc, problem }) => rpc !== best?.rpc && problem?.code !== 'chain_mismatch');
    // What answers stands before what does not.
    rest.sort((a, b) => Number(b.tip !== null) - Number(a.tip !== null));
    return [...(best === null ? [] : [best.rpc]), ...rest.map(({ rpc }) => rpc)];
  }

  #standing(): Standing[] {
    return this.#nodes.flatMap(({ rpc, tip, late }) => (late || tip === null || tip.syncing ? [] : [{ rpc, tip }]));
  }

  async #heavier(node: Standing, than: Standing): Promise<boolean> {
    if (node.tip.hash === than.tip.hash) return false;
    try {
      return (await compareWork(node, than, this.#signal)) > 0;
    } catch (error) {
      // A chain that moves between two questions, or a node that just died: the next look tells.
      if (this.#signal.aborted || !(error instanceof PoolError)) throw error;
      return false;
    }
  }

  /** One question at a time; a node that hangs is asked again when its call has ended. */
  #ask(node: Known): Promise<void> {
    node.asking ??= this.#look(node)
      .catch((error: unknown) => {
        if (!(error instanceof PoolError)) throw error;
        node.tip = null;
        node.problem = error;
      })
      .finally(() => {
        node.asking = null;
      });
    // Whoever waits no longer must not leave a rejection behind.
    node.asking.catch(() => {});
    return node.asking;
  }

  async #look(node: Known): Promise<void> {
    const { rpc } = node;
    const options = { signal: this.#signal };
    if (!node.genesisChecked) {
      checkGenesis(this.#profile, await genesisOf(rpc, this.#signal), rpc.name);
      node.genesisChecked = true;
    }
    if (node.tip !== null && !node.tip.syncing) {
      const best = hexAnswer('getbestblockhash', await rpc.call('getbestblockhash', [], options), 32);
      if (best === node.tip.hash) return;
    }
    node.tip = await nodeTip(rpc, options);
    node.problem = null;
  }

  /** Whether all stand on the chain of the best. */
  async #judge(best: Standing, standing: readonly Standing[]): Promise<void> {
    const forked: { readonly node: Standing; readonly forkHeight: number }[] = [];
    const forks = new Map<string, number | null>();
    for (const node of standing) {
      if (node === best) continue;
      const pair = `${node.tip.hash} ${best.tip.hash}`;
      let fork = this.#forks.get(pair);
      if (fork === undefined) {
        try {
          const relation = await relationOf(node, best, this.#signal);
          fork = relation.kind === 'fork' ? relation.forkHeight : null;
        } catch (error) {
          if (this.#signal.aborted || !(error instanceof PoolError)) throw error;
          // Nothing is known now: what was said of them last holds.
          return;
        }
      }
      forks.set(pair, fork);
      if (fork !== null) forked.push({ node, forkHeight: fork });
    }
    this.#forks = forks;
    if (forked.length === 0) {
      // One that is down agrees with nobody: it is waited for.
      if (standing.length === this.#nodes.length || this.#disagreement === null) {
        this.#forkedSince = null;
        this.#disagreement = null;
      }
      return;
    }
    this.#forkedSince ??= this.#nowUs();
    if (this.#disagreement === null && this.#nowUs() - this.#forkedSince < DISAGREE_AFTER_US) return;
    const forkHeight = Math.min(...forked.map((each) => each.forkHeight));
    const others = forked.map(({ node }) => `${node.rpc.name} at ${node.tip.height} (${node.tip.hash})`).join(', ');
    this.#disagreement = {
      forkHeight,
      sinceUs: this.#forkedSince,
      line: `nodes are on different branches above height ${forkHeight}: ${best.rpc.name} at ${best.tip.height} (${best.tip.hash}), which has the most work, against ${others}`,
    };
  }
}
