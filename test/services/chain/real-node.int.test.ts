/** What the follower tells, against the node's own numbers: subsidies across halvings, fees of real transactions, hashrates, difficulty. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bestChain, evolveChain, initialChain } from '../../../pipelines/chain/best-chain.ts';
import { hashrateRows } from '../../../pipelines/hashrate/hashrates.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { ChainFollower } from '../../../services/chain/follower.ts';
import { ChainTailFold } from '../../../services/core/chain-tail.ts';
import { difficultyOf } from '../../../services/core/chains/difficulty.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { createNodeRpc } from '../../../services/core/node/rpc.ts';
import { startLitecoind } from '../../helpers/litecoind.ts';
import { havePart } from '../../helpers/require.ts';

const profile = loadChain('litecoin-regtest');
const decode = decoderFor('block');
const TIP = 310;
/** The node prints 16 digits. */
const printed = (value: number): number => Number(value.toPrecision(16));

const litecoind = await havePart('node', startLitecoind);
describe.skipIf(litecoind === undefined)('litecoind', () => {
  const log: BlockEvent[] = [];

  beforeAll(async () => {
    const node = litecoind!;
    const address = await node.rpc<string>('getnewaddress', '', 'bech32');
    const start = Math.floor(Date.now() / 1_000) - TIP * 150;
    for (let height = 0; height < TIP; ) {
      // Several at a time while no coins can be spent yet.
      const count = height < 105 ? 1 + (height % 4) : 1;
      // Times to and fro, as on real chains.
      await node.rpc('setmocktime', start + height * 150 + ((height * 37) % 11) * 40 - (height % 3) * 100);
      if (height > 105 && height % 7 === 0) {
        for (let i = 0; i <= height % 4; i++) {
          await node.rpc('sendtoaddress', await node.rpc('getnewaddress', '', 'bech32'), (i + 1) / 10);
        }
      }
      height += (await node.rpc<string[]>('generatetoaddress', Math.min(count, TIP - height), address)).length;
    }
    const rpc = createNodeRpc({ url: node.rpcUrl, user: node.user, pass: node.pass });
    const follower = new ChainFollower({
      ...{ profile, fold: new ChainTailFold(profile.name, 112), instance: 'chain', ourScript: null, fromHeight: 0 },
      append: (events) => void log.push(...events.map((event) => decode(encodeEvent('block', event)))),
      ...{ maxReorg: 100, nowUs: () => Date.now() * 1_000, signal: new AbortController().signal },
    });
    expect(await follower.round(rpc)).toMatchObject({ state: 'followed', connected: TIP + 1 });
    rpc.close();
  }, 540_000);
  afterAll(() => litecoind?.stop());

  test('subsidy across two halvings and fees of each block are those of getblockstats', async () => {
    let [fees, halvings, last] = [0n, 0, ''];
    for (const event of log) {
      // Core has no undo data for block 0, so no statistics either.
      if (event.height === 0) continue;
      const stats = await litecoind!.rpc<Record<string, number>>('getblockstats', event.height, [
        'subsidy',
        'totalfee',
        'txs',
      ]);
      expect([event.height, event.subsidy_sats, event.fees_sats, event.tx_count]).toEqual([
        ...[event.height, String(stats.subsidy), String(stats.totalfee), stats.txs],
      ]);
      fees += BigInt(event.fees_sats);
      if (last !== '' && event.subsidy_sats !== last) halvings += 1;
      last = event.subsidy_sats;
    }
    expect(fees).toBeGreaterThan(0n);
    expect(halvings).toBe(2);
  });

  test('hashrates over 1, 10, 120 blocks and since the last retarget are getnetworkhashps, wherever it has one', async () => {
    const state = initialChain();
    for (const event of log) evolveChain(state, event);
    const rows = hashrateRows(bestChain(state), profile, 1);
    let compared = 0;
    for (const height of [1, 2, 9, 10, 11, 119, 120, 121, 149, 150, 200, 299, TIP]) {
      for (const window of [1, 10, 120, -1]) {
        const row = rows.find((each) => each.height === height && each.window === window)!;
        const node = await litecoind!.rpc<number>('getnetworkhashps', window, height);
        // 0 is the node's word for a window without time.
        if (row.seconds === 0) expect(node).toBe(0);
        else expect(printed(Number(row.work) / Number(row.seconds)), `${window} at ${height}`).toBe(node);
        compared += 1;
      }
    }
    expect(compared).toBe(52);
  });

  test('difficulty is getdifficulty', async () => {
    const shown = await litecoind!.rpc<number>('getdifficulty');
    const ours = difficultyOf(profile, Number.parseInt(log.at(-1)!.nbits, 16));
    // The node divides in doubles and prints 16 digits.
    expect(Math.abs(ours / shown - 1)).toBeLessThan(4e-16);
  });
});
