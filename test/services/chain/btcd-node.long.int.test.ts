/** What the follower tells, against the numbers of a node that is not Core: btcd, sha256d, on regtest. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bestChain, evolveChain, initialChain } from '../../../pipelines/chain/best-chain.ts';
import { hashrateRows } from '../../../pipelines/hashrate/hashrates.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { ChainFollower } from '../../../services/chain/follower.ts';
import { bitsFromTarget, targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { ChainTailFold } from '../../../services/core/chain-tail.ts';
import { difficultyOf } from '../../../services/core/chains/difficulty.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { createNodeRpc } from '../../../services/core/node/rpc.ts';
import { type Btcd, startBtcd } from '../../helpers/btcd.ts';
import { havePart } from '../../helpers/require.ts';

const decode = decoderFor('block');
const TIP = 310;

const btcd = await havePart('btcd', startBtcd);
describe.skipIf(btcd === undefined)('btcd, a node that is not Core', () => {
  const regtest = loadChain('regtest');
  const log: BlockEvent[] = [];
  let node: Btcd;

  beforeAll(async () => {
    node = btcd!;
    for (let height = 0; height < TIP; height += 10) await node.generate(10);
    const rpc = createNodeRpc({ url: node.rpcUrl, user: node.user, pass: node.pass });
    const follower = new ChainFollower({
      ...{ profile: regtest, fold: new ChainTailFold(regtest.name, 112), instance: 'chain', ourScript: null },
      append: (events) => void log.push(...events.map((event) => decode(encodeEvent('block', event)))),
      ...{ fromHeight: 0, maxReorg: 100, nowUs: () => Date.now() * 1_000, signal: new AbortController().signal },
    });
    expect(await follower.round(rpc)).toMatchObject({ state: 'followed', connected: TIP + 1 });
    expect(follower.bitsProblem).toBeNull();
    rpc.close();
  });
  afterAll(() => btcd?.stop());

  test('subsidy across two halvings is what its coinbases pay, as nothing else is in them', () => {
    const paid = log.map(({ coinbase_value_sats }) => coinbase_value_sats);
    expect(log.map(({ subsidy_sats }) => subsidy_sats)).toEqual(paid);
    expect(log.every(({ fees_sats, tx_count }) => fees_sats === '0' && tx_count === 1)).toBe(true);
    expect([...new Set(paid)]).toEqual(['5000000000', '2500000000', '1250000000']);
  });

  test('hashrates over 1, 10, 120 blocks and since the last retarget are its getnetworkhashps', async () => {
    const state = initialChain();
    for (const event of log) evolveChain(state, event);
    const rows = hashrateRows(bestChain(state), regtest, 1);
    let above = 0;
    for (const height of [1, 2, 9, 10, 11, 119, 120, 121, 150, 299, TIP]) {
      for (const window of [1, 10, 120, -1]) {
        const row = rows.find((each) => each.height === height && each.window === window)!;
        const said = await node.rpc<number>('getnetworkhashps', window, height);
        const ours = row.seconds === 0 ? 0 : Number(row.work) / Number(row.seconds);
        expect(Math.abs(ours - said), `${window} at ${height}`).toBeLessThanOrEqual(1e-15 * said);
        if (said > 0) above += 1;
      }
    }
    expect(above).toBeGreaterThan(10);
  });

  test('difficulty is getdifficulty, which counts from its own limit; statistics of blocks it has none', async () => {
    const bits = Number.parseInt(log.at(-1)!.nbits, 16);
    const ownLimit = { difficulty_1_target: targetFromBits(bitsFromTarget(regtest.pow_limit)) };
    expect(await node.rpc('getdifficulty')).toBe(difficultyOf(ownLimit, bits));
    await expect(node.rpc('getblockstats', 1)).rejects.toThrow();
  });
});
