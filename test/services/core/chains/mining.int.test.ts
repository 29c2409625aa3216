/** A block mined on every profile for which a node can be had here: template, coinbase, proof of work, `submitblock`, and what is told of it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { BlockEvent } from '../../../../schemas/events.ts';
import { ChainFollower } from '../../../../services/chain/follower.ts';
import { addressFromScript } from '../../../../services/core/bitcoin/address.ts';
import { serializeBlock } from '../../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes, hexFromBytes, uint32Le } from '../../../../services/core/bitcoin/bytes.ts';
import { buildCoinbase, pushData, witnessCoinbase } from '../../../../services/core/bitcoin/coinbase.ts';
import { sha256d } from '../../../../services/core/bitcoin/hash.ts';
import { blockHash, bytesFromHashHex, hashHex, headerBytes } from '../../../../services/core/bitcoin/header.ts';
import { merkleRoot } from '../../../../services/core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../../../../services/core/bitcoin/pow.ts';
import { ChainTailFold } from '../../../../services/core/chain-tail.ts';
import { type ChainProfile, loadChain } from '../../../../services/core/chains/profile.ts';
import { isRetargetHeight, retarget, retargetSpan } from '../../../../services/core/chains/retarget.ts';
import { checkGenesis, genesisOf } from '../../../../services/core/node/resolve-chain.ts';
import { createNodeRpc, type NodeRpc } from '../../../../services/core/node/rpc.ts';
import { checkTemplate, templateRequest } from '../../../../services/core/node/template.ts';
import { startToyChain } from '../../../../services/playground/main.ts';
import { startBtcd } from '../../../helpers/btcd.ts';
import { rpcCaller, type TestNode } from '../../../helpers/coin-node.ts';
import { tempDir } from '../../../helpers/leash.ts';
import { startLitecoind } from '../../../helpers/litecoind.ts';
import { havePart } from '../../../helpers/require.ts';
import { easyProfile } from '../../playground/easy-chain.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Mines one block on the node's template, with nothing but core. @returns its hash */
async function mineBlock(rpc: NodeRpc, profile: ChainProfile, payTo: Uint8Array): Promise<string> {
  const t = checkTemplate(await rpc.call('getblocktemplate', [templateRequest(profile)]), profile);
  const { part1, part2 } = buildCoinbase({
    ...{ height: t.height, aux: bytesFromHex(t.coinbaseAux), timeS: t.curtimeS, random: 0, extranonceSizeBytes: 4 },
    tag: pushData(new TextEncoder().encode('test')),
    outputs: [{ script: payTo, valueSats: t.coinbaseValueSats }],
    ...(t.witnessCommitment === null ? {} : { witnessCommitment: bytesFromHex(t.witnessCommitment) }),
  });
  const coinbase = concatBytes(part1, uint32Le(0), part2);
  const root = merkleRoot([sha256d(coinbase), ...t.transactions.map(({ txidRpc }) => bytesFromHashHex(txidRpc))]);
  const parts = { version: t.version, prevHash: bytesFromHashHex(t.prevHashRpc), merkleRoot: root, bits: t.bits };
  for (let nonce = 0; ; nonce++) {
    const header = headerBytes({ ...parts, time: t.curtimeS, nonce });
    if (!meetsTarget(powHash(profile.pow, header), t.target)) continue;
    const body = t.witnessCommitment === null ? coinbase : witnessCoinbase(coinbase);
    const block = serializeBlock(
      header,
      body,
      t.transactions.map(({ data }) => bytesFromHex(data)),
    );
    expect(await rpc.call('submitblock', [hexFromBytes(block)])).toBeNull();
    return hashHex(blockHash(header));
  }
}

async function follow(rpc: NodeRpc, profile: ChainProfile, ourScript: Uint8Array): Promise<BlockEvent[]> {
  const events: BlockEvent[] = [];
  const follower = new ChainFollower({
    ...{ profile, fold: new ChainTailFold(profile.name, 200), instance: 'chain', ourScript: hexFromBytes(ourScript) },
    append: (some) => void events.push(...(some as BlockEvent[])),
    ...{ fromHeight: 0, maxReorg: 100, nowUs: () => Date.now() * 1_000, signal: new AbortController().signal },
  });
  expect(await follower.round(rpc)).toMatchObject({ state: 'followed' });
  return events;
}

const PAYEE = Uint8Array.of(0x00, 0x14, ...new Uint8Array(20).fill(5));

async function shown(rpc: NodeRpc, profile: ChainProfile): Promise<void> {
  checkGenesis(profile, await genesisOf(rpc), 'node');
  const hash = await mineBlock(rpc, profile, PAYEE);
  const events = await follow(rpc, profile, PAYEE);
  const own = events.filter(({ kind, ours }) => kind === 'connected' && ours);
  expect(own).toEqual([expect.objectContaining({ hash, chain: profile.name })]);
  const { height, coinbase_value_sats, subsidy_sats, fees_sats } = own[0]!;
  expect(height).toBe(events.filter(({ kind }) => kind === 'connected').at(-1)!.height);
  expect(BigInt(coinbase_value_sats)).toBe(BigInt(subsidy_sats) + BigInt(fees_sats));
}

const rpcOf = (node: Pick<TestNode, 'rpcUrl' | 'user' | 'pass'>): NodeRpc => {
  const rpc = createNodeRpc({ url: node.rpcUrl, user: node.user, pass: node.pass });
  closers.push(() => rpc.close());
  return rpc;
};

async function toy(profile: ChainProfile, nowMs?: () => number) {
  const dir = tempDir('mining');
  const chain = await startToyChain({
    ...{ dir: dir.path, rpcPort: 0, zmqPort: null, user: 'u', pass: 'p', trafficPerSecond: 0, profile },
    ...(nowMs === undefined ? {} : { nowMs }),
  });
  closers.push(dir.remove, () => chain.close());
  return { ...chain, user: 'u', pass: 'p', rpc: rpcCaller(chain.rpcUrl, 'u', 'p') };
}

/** The ten lines of the how-to. */
function howTo(): Record<string, unknown> {
  const text = readFileSync('services/core/chains/README.md', 'utf8');
  const lines = /```json\n\{\n([\s\S]*?)\n\}\n```/.exec(text)![1]!;
  expect(lines.split('\n').length).toBeLessThanOrEqual(10);
  return JSON.parse(`{${lines}}`) as Record<string, unknown>;
}

describe('a block is mined and told', () => {
  test("on the playground's own chain", async () => {
    await shown(rpcOf(await toy(easyProfile())), easyProfile());
  });

  test('on the microcurrency of the how-to: ten lines, another name, prefixes, subsidy, unit', async () => {
    const dir = tempDir('mining');
    closers.push(dir.remove);
    const lines = howTo();
    const easy = easyProfile();
    // A chain of these rules whose first block is one that can be had here, and whose work is two hashes.
    const path = join(dir.path, 'foocoin.json');
    const genesis = { genesis_hash: easy.genesis_hash, genesis_block: hexFromBytes(easy.genesis_block!) };
    const limit = easy.pow_limit.toString(16).padStart(64, '0');
    writeFileSync(path, JSON.stringify({ ...lines, ...genesis, pow_limit: limit }));
    const profile = loadChain(path);
    expect(profile).toMatchObject({ name: 'foocoin', payout_blocks: 1440, target_spacing_s: 60, pow: 'scrypt' });
    await shown(rpcOf(await toy(profile)), profile);
    expect(addressFromScript(PAYEE, profile.address)).toMatch(/^foo1q/);
  });

  test("through four retargets of Litecoin's kind with another B and T, at difficulties far below 1", async () => {
    const dir = tempDir('mining');
    closers.push(dir.remove);
    const easy = easyProfile();
    const path = join(dir.path, 'tiny.json');
    writeFileSync(
      path,
      JSON.stringify({
        base: 'playground',
        name: 'tiny',
        retarget: { rule: 'litecoin' },
        payout_blocks: 6,
        target_spacing_s: 4,
        pow_limit: easy.pow_limit.toString(16).padStart(64, '0'),
        genesis_hash: easy.genesis_hash,
        genesis_block: hexFromBytes(easy.genesis_block!),
      }),
    );
    const profile = loadChain(path);
    // A clock of ours: blocks every 3 s on average, in steps of 1 to 5.
    const clock = { s: 1_700_000_000 };
    const node = await toy(profile, () => clock.s * 1_000);
    const rpc = rpcOf(node);
    for (let height = 1; height <= 24; height++) {
      clock.s += 1 + ((height * 7) % 5);
      await mineBlock(rpc, profile, PAYEE);
    }
    const blocks = (await follow(rpc, profile, PAYEE)).filter(({ kind }) => kind === 'connected');
    expect(blocks.map(({ height }) => height)).toEqual(Array.from({ length: 25 }, (_, i) => i));
    const bits = (height: number): number => Number.parseInt(blocks[height]!.nbits, 16);
    const seconds = (height: number): number => blocks[height]!.block_time_us / 1e6;
    const seen = new Set<number>();
    for (let height = 1; height <= 24; height++) {
      if (!isRetargetHeight(profile, height)) {
        expect(bits(height)).toBe(bits(height - 1));
        continue;
      }
      const { fromHeight, toHeight } = retargetSpan(profile, height);
      expect(toHeight - fromHeight).toBe(height === 6 ? 5 : 6);
      const actualS = seconds(toHeight) - seconds(fromHeight);
      expect(bits(height)).toBe(retarget(profile, { previousBits: bits(height - 1), actualS }));
      seen.add(bits(height));
    }
    expect(seen.size).toBeGreaterThan(2);
  });
});

const litecoind = await havePart('node', startLitecoind);
test.skipIf(litecoind === undefined)('a block is mined and told on litecoin-regtest', async () => {
  closers.push(() => litecoind!.stop());
  await litecoind!.mineTo(2);
  await shown(rpcOf(litecoind!), loadChain('litecoin-regtest'));
});

const btcd = await havePart('btcd', startBtcd);
test.skipIf(btcd === undefined)(
  'a block is mined and told on regtest, and on a chain of another name that is based on it',
  async () => {
    closers.push(() => btcd!.stop());
    await btcd!.generate(2);
    const dir = tempDir('mining');
    closers.push(dir.remove);
    const { genesis_hash } = loadChain('regtest');
    const path = join(dir.path, 'own.json');
    writeFileSync(path, JSON.stringify({ base: 'regtest', name: 'own', genesis_hash, confirmations: 1 }));
    await shown(rpcOf(btcd!), loadChain('regtest'));
    const own = loadChain(path);
    const events = await follow(rpcOf(btcd!), own, PAYEE);
    expect(events.every(({ chain }) => chain === 'own')).toBe(true);
    await mineBlock(rpcOf(btcd!), own, PAYEE);
  },
);
