/**
 * Doctor on the nodes: each one's answers as the programs will need them, then the nodes side by side, then the block notices.
 * Nothing is changed at a node: the one block that is submitted is a byte that no node can read.
 */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { parseBlockSummary } from '../core/bitcoin/block.ts';
import { bytesFromHex } from '../core/bitcoin/bytes.ts';
import { blockHash, hashHex } from '../core/bitcoin/header.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import { checkLastRetarget, MEND_BITS } from '../core/node/last-retarget.ts';
import { checkGenesis, genesisOf, profileFor } from '../core/node/resolve-chain.ts';
import { createNodeRpc, hexAnswer, type NodeRpc } from '../core/node/rpc.ts';
import { type NodeTip, nodeTip, relationOf, type Standing } from '../core/node/survey.ts';
import { checkTemplate, templateRequest } from '../core/node/template.ts';
import { endpointsOf, subscribeBlocks } from '../core/node/zmq.ts';
import { bad, type Finding, failed, ok, warn } from './findings.ts';

const CALL_MS = 10_000;
/** A pool waits for each of these calls while a block is new. */
const SLOW_MS = 2_000;
/** How far a node's clock may be off before that is told: what two machines with NTP differ by is far less. */
const CLOCK_WARN_S = 10;
const CLOCK_BAD_S = 300;
/** Blocks that a node may be behind the others while the last one travels. */
const BEHIND_BLOCKS = 1;
const ZMQ_WAIT_MS = 3_000;

export interface NodesLook {
  /** The chain, where a node or the configuration gave it. */
  readonly profile: ChainProfile | null;
  readonly findings: readonly Finding[];
}

/** @param needHeight - lowest block that the chain follower is going to read, where that is known */
export async function checkNodes(
  config: Config,
  named: ChainProfile | null,
  needHeight: number | null,
  nowMs: () => number,
): Promise<NodesLook> {
  if (config.nodes.length === 0) {
    return { profile: named, findings: [ok('nodes', 'none is configured: a proxy does without')] };
  }
  const rpcs = config.nodes.map(({ url, auth, pass }) => createNodeRpc({ url, user: auth, pass, timeoutMs: CALL_MS }));
  try {
    const looks = await Promise.all(rpcs.map((rpc) => checkNode(config, rpc, needHeight, nowMs)));
    const profile = named ?? looks.find((look) => look.profile !== null)?.profile ?? null;
    const views = looks.flatMap(({ view }) => (view === null ? [] : [view]));
    return {
      profile,
      findings: [
        ...looks.flatMap(({ findings }) => findings),
        ...(await checkAgreement(views)),
        ...(await checkNotices(config, rpcs)),
      ],
    };
  } finally {
    for (const rpc of rpcs) rpc.close();
  }
}

interface NodeLook {
  readonly view: Standing | null;
  readonly profile: ChainProfile | null;
  readonly findings: readonly Finding[];
}

async function checkNode(
  config: Config,
  rpc: NodeRpc,
  needHeight: number | null,
  nowMs: () => number,
): Promise<NodeLook> {
  const check = `node ${rpc.name}`;
  const findings: Finding[] = [];
  const started = performance.now();
  let tip: NodeTip;
  let profile: ChainProfile;
  try {
    tip = await nodeTip(rpc);
    const genesis = await genesisOf(rpc);
    profile = profileFor(config, genesis, rpc.name);
    checkGenesis(profile, genesis, rpc.name);
  } catch (error) {
    return { view: null, profile: null, findings: [failed(check, error)] };
  }
  const ms = Math.round(performance.now() - started);
  if (ms > SLOW_MS) {
    findings.push(
      warn(check, `took ${ms} ms for two small questions`, 'see what loads its machine: each new block waits for it'),
    );
  }
  if (tip.syncing) {
    findings.push(
      bad(
        check,
        `is still syncing, at height ${tip.height}${tip.headers === null ? '' : ` of ${tip.headers}`}`,
        'wait until it has caught up; it gives no work before that',
      ),
    );
  } else if (tip.headers !== null && tip.headers > tip.height + BEHIND_BLOCKS) {
    findings.push(
      warn(
        check,
        `is at height ${tip.height} and knows headers up to ${tip.headers}: blocks are missing`,
        'wait, or see whether its peers send blocks (getpeerinfo)',
      ),
    );
  }
  findings.push(...(await checkPruning(check, rpc, tip, needHeight)));
  findings.push(...(await checkRetarget(check, rpc, profile, tip)));
  findings.push(...(await checkMining(config, check, rpc, profile, tip, nowMs)));
  if (findings.every(({ state }) => state === 'ok')) {
    findings.unshift(
      ok(check, `${profile.name}, height ${tip.height}, answers in ${ms} ms, gives templates, takes blocks`),
    );
  }
  return { view: { rpc, tip }, profile, findings };
}

/** Whether the follower finds the blocks that it has to read. */
async function checkPruning(check: string, rpc: NodeRpc, tip: NodeTip, needHeight: number | null): Promise<Finding[]> {
  try {
    const hash = hexAnswer('getblockhash', await rpc.call('getblockhash', [tip.height]), 32);
    const bytes = bytesFromHex(hexAnswer('getblock', await rpc.call('getblock', [hash, 0])));
    if (hashHex(blockHash(parseBlockSummary(bytes).headerBytes)) !== hash) {
      throw new PoolError('node_answer', `node ${rpc.name}: getblock ${hash} gave another block`);
    }
  } catch (error) {
    if (error instanceof PoolError) return [failed(check, error)];
    return [
      bad(
        check,
        `its newest block cannot be read as one: ${(error as Error).message}`,
        'check that btcd[].url is a node of the configured chain and of a supported version',
      ),
    ];
  }
  if (tip.prunedBelow === 0) return [];
  if (needHeight !== null && needHeight < tip.prunedBelow) {
    return [
      bad(
        check,
        `is pruned: it has blocks from ${tip.prunedBelow} on, and the chain is to be read from ${needHeight}`,
        `take a node with those blocks, or set "lodestream.follow_from_height" to ${tip.prunedBelow} or more where nothing was followed yet`,
      ),
    ];
  }
  return [
    warn(
      check,
      `is pruned: it has blocks from ${tip.prunedBelow} on`,
      'enough for now; a follower that was down for long, or a payout that is recomputed, needs a node with all blocks',
    ),
  ];
}

/** Whether the difficulty of its chain changes as the profile says: else the profile is another chain's, or the node none. */
async function checkRetarget(check: string, rpc: NodeRpc, profile: ChainProfile, tip: NodeTip): Promise<Finding[]> {
  if (tip.syncing) return [];
  try {
    const line = await checkLastRetarget(rpc, profile, tip.height);
    return line === null ? [] : [warn(check, line, MEND_BITS)];
  } catch (error) {
    return [failed(check, error)];
  }
}

/** Templates, clock, peers, and the right to submit a block. */
async function checkMining(
  config: Config,
  check: string,
  rpc: NodeRpc,
  profile: ChainProfile,
  tip: NodeTip,
  nowMs: () => number,
): Promise<Finding[]> {
  if (config.mode === 'proxy' || tip.syncing) return [];
  const findings: Finding[] = [];
  try {
    const template = checkTemplate(await rpc.call('getblocktemplate', [templateRequest(profile)]), profile);
    const offS = Math.round(template.curtimeS - nowMs() / 1_000);
    if (Math.abs(offS) > CLOCK_WARN_S) {
      const what = `its clock is ${Math.abs(offS)} s ${offS > 0 ? 'ahead of' : 'behind'} this machine's`;
      const mend = 'run NTP on both; a block with a wrong time is refused by the network';
      findings.push(Math.abs(offS) > CLOCK_BAD_S ? bad(check, what, mend) : warn(check, what, mend));
    }
  } catch (error) {
    findings.push(failed(check, error));
  }
  try {
    await rpc.call('submitblock', ['00']);
  } catch (error) {
    // Any words about the byte are well: the call itself is allowed and known.
    const { code, facts } = error as PoolError;
    if (code !== 'node_refused' || facts.rpcCode === -32601) {
      findings.push(
        code === 'node_auth' || facts.rpcCode === -32601
          ? bad(
              check,
              `does not let this user submit blocks: ${(error as Error).message}`,
              'add submitblock to its rpcwhitelist: a solved block would be lost',
            )
          : failed(check, error),
      );
    }
  }
  return findings;
}

/** The nodes side by side. */
async function checkAgreement(views: readonly Standing[]): Promise<Finding[]> {
  const [first, ...others] = [...views]
    .filter(({ tip }) => !tip.syncing)
    .sort((a, b) =>
      a.tip.chainwork === null || b.tip.chainwork === null
        ? b.tip.height - a.tip.height
        : Number(b.tip.chainwork > a.tip.chainwork) - Number(b.tip.chainwork < a.tip.chainwork),
    );
  if (first === undefined || others.length === 0) return [];
  const findings: Finding[] = [];
  for (const other of others) {
    const check = `node ${other.rpc.name}`;
    try {
      const relation = await relationOf(other, first);
      if (relation.kind === 'fork') {
        findings.push(
          bad(
            check,
            `is on another branch than node ${first.rpc.name} above height ${relation.forkHeight}: ${other.tip.hash} at ${other.tip.height} against ${first.tip.hash} at ${first.tip.height}`,
            'wait a block where it is the last one only; else find out which of them is wrong (getchaintips, versions, peers) before anything is paid',
          ),
        );
      } else if (relation.kind === 'behind' && relation.blocks > BEHIND_BLOCKS) {
        findings.push(
          warn(
            check,
            `is ${relation.blocks} blocks behind node ${first.rpc.name}`,
            'see whether it has peers and room on its disk; it is not followed meanwhile',
          ),
        );
      }
    } catch (error) {
      findings.push(failed(check, error));
    }
  }
  return findings.length > 0 ? findings : [ok('nodes', `${views.length} nodes are on one chain`)];
}

/** The block notices: that somebody publishes where the pool listens, and that the node says so too. */
async function checkNotices(config: Config, rpcs: readonly NodeRpc[]): Promise<Finding[]> {
  const published = (
    await Promise.all(
      rpcs.map(async (rpc) => {
        const list = await rpc.call('getzmqnotifications', [], { timeoutMs: 5_000 }).catch(() => null);
        return Array.isArray(list) ? (list as { type?: unknown; address?: unknown }[]) : null;
      }),
    )
  ).flatMap((list) => list ?? []);
  const blocks = published.flatMap(({ type, address }) =>
    (type === 'pubhashblock' || type === 'pubrawblock') && typeof address === 'string' ? [address] : [],
  );
  if (config.zmqBlock === null) {
    if (blocks.length === 0) return [ok('zmq', 'no block notices are configured: new blocks come by long poll')];
    return [
      warn('zmq', `the node announces blocks at ${blocks[0]}, and nobody listens`, `set "zmqblock": "${blocks[0]}"`),
    ];
  }
  const findings: Finding[] = [];
  for (const endpoint of endpointsOf(config.zmqBlock)) {
    const check = `zmq ${endpoint}`;
    if (!(await publisherAnswers(endpoint))) {
      findings.push(
        warn(
          check,
          (await somebodyListens(endpoint))
            ? 'something listens there, but it is no ZMQ publisher'
            : 'nobody publishes there; new blocks come by long poll and polling alone',
          blocks.length > 0
            ? `the node announces blocks at ${blocks.join(', ')}: correct "zmqblock"`
            : `put zmqpubhashblock=${endpoint} into the node's configuration, or leave "zmqblock" out (a node built without ZMQ passes over that line)`,
        ),
      );
    } else if (published.length > 0 && !blocks.some((address) => portOf(address) === portOf(endpoint))) {
      const types = published.map(({ type, address }) => `${String(type)} at ${String(address)}`).join(', ');
      findings.push(
        warn(
          check,
          `a publisher answers, but the node does not announce blocks there (${types})`,
          `put zmqpubhashblock=${endpoint} into the node's configuration`,
        ),
      );
    } else findings.push(ok(check, 'a publisher answers'));
  }
  return findings;
}

const portOf = (endpoint: string): string => /:(\d+)$/.exec(endpoint)?.[1] ?? endpoint;

/** Whether a ZMQ handshake comes about. */
async function publisherAnswers(endpoint: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), ZMQ_WAIT_MS);
  let notices: { close(): void } | null = null;
  try {
    notices = subscribeBlocks({
      endpoint,
      onBlock: () => resolve(true),
      log: (line) => {
        if (line.startsWith('ZMQ connected')) resolve(true);
      },
    });
    return await promise;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    notices?.close();
  }
}

async function somebodyListens(endpoint: string): Promise<boolean> {
  const ipc = /^ipc:\/\/(.+)$/.exec(endpoint);
  if (ipc !== null) return existsSync(ipc[1]!);
  const form = /^tcp:\/\/\[?([^\]]+?)\]?:(\d+)$/.exec(endpoint);
  return form !== null && (await reaches(form[1]!, Number(form[2])));
}

/** Whether a TCP connection comes about. */
export function reaches(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: ZMQ_WAIT_MS });
    const end = (value: boolean) => (): void => {
      socket.destroy();
      resolve(value);
    };
    socket.once('connect', end(true));
    socket.once('error', end(false));
    socket.once('timeout', end(false));
  });
}
