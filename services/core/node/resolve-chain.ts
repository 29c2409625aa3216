/**
 * Which chain the pool is on: the configured profile, checked against the node's block 0, or with `"chain": "auto"` the built-in
 * profile that has this block 0. Every program that speaks to a node begins here, so that a pool never works on the wrong chain.
 */
import { builtInChains, type ChainProfile, loadChain } from '../chains/profile.ts';
import type { Config } from '../config.ts';
import { PoolError } from '../errors.ts';
import { type Patience, patiently } from './patience.ts';
import { hexAnswer, type NodeRpc } from './rpc.ts';

/**
 * The profile of the node's chain.
 *
 * A node that is down, still loads, or refuses the password is waited for; it is said once what is wrong.
 *
 * @param config - its `chain`: a built-in name, a path, or `auto`
 * @param rpcs - the nodes, the preferred first; the first that answers decides
 * @throws PoolError chain_mismatch where the node's block 0 is not the profile's; chain_unknown where `auto` finds no profile for
 *   it, or the named profile does not exist; config where the profile's file is broken; the signal's reason once it is aborted
 */
export async function resolveChain(
  config: Pick<Config, 'chain'>,
  rpcs: NodeRpc | readonly NodeRpc[],
  patience: Patience,
): Promise<ChainProfile> {
  // Before the node is asked: a misspelt name is an error of the configuration, whatever the node does.
  if (config.chain !== 'auto') loadChain(config.chain);
  const list: readonly NodeRpc[] = 'call' in rpcs ? [rpcs] : rpcs;
  return await patiently(async () => {
    let failure: unknown;
    for (const rpc of list) {
      let genesis: string;
      try {
        genesis = await genesisOf(rpc, patience.signal);
      } catch (error) {
        failure ??= error;
        continue;
      }
      return profileFor(config, genesis, rpc.name);
    }
    throw failure;
  }, patience);
}

/** The node's block 0, 64 hex digits as it prints it. @throws PoolError node_* */
export async function genesisOf(rpc: NodeRpc, signal?: AbortSignal): Promise<string> {
  const options = signal === undefined ? { timeoutMs: 15_000 } : { timeoutMs: 15_000, signal };
  return hexAnswer('getblockhash 0', await rpc.call('getblockhash', [0], options), 32);
}

/**
 * The profile that the configuration and a node's block 0 give together.
 * @throws PoolError chain_mismatch, chain_unknown, config, as resolveChain
 */
export function profileFor(config: Pick<Config, 'chain'>, genesis: string, node: string): ChainProfile {
  if (config.chain !== 'auto') {
    const named = loadChain(config.chain);
    checkGenesis(named, genesis, node);
    return named;
  }
  for (const name of builtInChains()) {
    const profile = loadChain(name);
    if (profile.genesis_hash === genesis) return profile;
  }
  throw new PoolError(
    'chain_unknown',
    `node ${node} is on a chain that no built-in profile describes (block 0 is ${genesis}; built in are ${builtInChains().join(', ')})`,
    { facts: { node, genesis } },
  );
}

/**
 * @param genesis - the node's block 0, 64 hex digits as it prints it
 * @throws PoolError chain_mismatch where the profile names another one
 */
export function checkGenesis(profile: ChainProfile, genesis: string, node: string): void {
  if (profile.genesis_hash === null || profile.genesis_hash === genesis) return;
  const other = builtInChains().find((name) => loadChain(name).genesis_hash === genesis);
  throw new PoolError(
    'chain_mismatch',
    `node ${node} is not on the chain ${profile.name}: its block 0 is ${genesis}${other === undefined ? '' : ` (${other})`}, expected ${profile.genesis_hash}`,
    { facts: { node, genesis, expected: profile.genesis_hash } },
  );
}
