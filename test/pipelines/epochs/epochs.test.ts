import { expect, test } from 'vitest';
import { bestChain, evolveChain, initialChain } from '../../../pipelines/chain/best-chain.ts';
import { epochRows } from '../../../pipelines/epochs/epochs.ts';
import { hashrateRows } from '../../../pipelines/hashrate/hashrates.ts';
import { timeText } from '../../../pipelines/row.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { workFromBits } from '../../../services/core/bitcoin/target.ts';
import { type ChainProfile, loadChain } from '../../../services/core/chains/profile.ts';
import { block, chainOf, NO_PARENT, numbered, START_S } from '../blocks.ts';

const playground = loadChain('playground');
const bitcoin = loadChain('bitcoin');

function bestOf(blocks: readonly BlockEvent[]) {
  const state = initialChain();
  for (const event of numbered(blocks)) evolveChain(state, event);
  return bestChain(state);
}

test('an epoch is open until block (n+1)·B, closed from it on, final `confirmations` above it', () => {
  // B = 24, confirmations = 3.
  const statusAt = (tip: number) => epochRows(bestOf(chainOf(0, tip)), playground, 0).map((row) => row.status);
  expect(statusAt(23)).toEqual(['open']);
  expect(statusAt(24)).toEqual(['closed', 'open']);
  expect(statusAt(26)).toEqual(['closed', 'open']);
  expect(statusAt(27)).toEqual(['final', 'open']);
});

test('a closed epoch by hand: spans, work, both hashrates, sums', () => {
  // Blocks 0 to 48, 4 s apart, all at difficulty 1 (bits 1d00ffff), fees 1000 each.
  const chain = bestOf(chainOf(0, 48, (height) => ({ timeS: START_S + 4 * height, ours: height % 12 === 0 })));
  const [first, second] = epochRows(chain, playground, 0);
  // Block -1 does not exist: 23 intervals of 4 s.
  expect(first).toMatchObject({ intervals: 23, span_s: 92, blocks: 24, own_blocks: 2 });
  // 24 intervals of 4 s from block 23 to 47.
  expect(second).toMatchObject({
    epoch: 1,
    status: 'closed',
    first_height: 24,
    last_height: 47,
    blocks: 24,
    intervals: 24,
    span_s: 96,
    subsidy_sats: '120000000000',
    fees_sats: '24000',
    difficulty: 1,
    // 2^256 / (target + 1) = 4295032833 for 1d00ffff; 24 of them in 96 s.
    work: '103080787992',
    hashrate_hps: '1073758208',
    // D · W / mean block time = 1 · 4294967296 / 4
    hashrate_formula_hps: '1073741824',
    // The retarget spans blocks 24 to 47: 23 intervals, 92 s of 120 s.
    retarget_actual_s: 92,
    // target 1d00ffff · 92 / 120 = 0xffff · 23 / 30 = 0xc443 (50243.5) with the rest below
    next_nbits_predicted: '1d00c443',
    next_nbits: '1d00ffff',
    next_nbits_alarm: true,
  });
});

test('a real retarget of Bitcoin is predicted: block 32256, the first that changed', () => {
  // Times of blocks 30240 and 32255, bits before and at 32256 (Bitcoin main chain).
  const chain = bestOf(
    chainOf(30240, 32256, (height) => ({
      chain: 'bitcoin',
      timeS: height === 30240 ? 1261130161 : height >= 32255 ? 1262152739 : 1261130161 + (height - 30240) * 500,
      bits: height === 32256 ? 0x1d00d86a : 0x1d00ffff,
    })),
  );
  expect(epochRows(chain, bitcoin, 15)).toMatchObject(
    [
      {
        epoch: 15,
        status: 'closed',
        retarget_actual_s: 1262152739 - 1261130161,
        next_nbits: '1d00d86a',
        next_nbits_predicted: '1d00d86a',
        next_nbits_alarm: false,
        next_difficulty: 1.18289953337,
      },
      { epoch: 16, status: 'open', blocks: 1 },
    ].map((row) => ({
      ...row,
      ...('next_difficulty' in row ? { next_difficulty: expect.closeTo(row.next_difficulty!, 8) } : {}),
    })),
  );
});

test('an open epoch forecasts from its pace: difficulty and date', () => {
  // 11 of 23 intervals done at 10 s where 5 s are meant: all of 230 s expected, clamped to nothing, 230/120.
  const chain = bestOf(chainOf(24, 35, (height) => ({ timeS: START_S + (height - 24) * 10, bits: 0x1c00ffff })));
  const [row] = epochRows(chain, playground, 1);
  expect(row).toMatchObject({
    status: 'open',
    blocks: 12,
    retarget_actual_s: 230,
    next_nbits_alarm: false,
    closing_hash: '',
  });
  expect(row!.next_nbits).toBe(row!.next_nbits_predicted);
  // 0x00ffff · 230 / 120 = 0x01eaa8…
  expect(row!.next_nbits).toBe('1c01eaa8');
  // 13 more blocks of 10 s after block 35 at 110 s.
  expect(row!.next_time).toBe(timeText((START_S + 240) * 1e6));
});

test('an epoch with a hole has no row', () => {
  const blocks = numbered(chainOf(0, 50)).filter(({ height }) => height !== 30);
  const state = initialChain();
  for (const event of blocks) evolveChain(state, event);
  expect(epochRows(bestChain(state), playground, 0).map((row) => row.epoch)).toEqual([0, 2]);
});

test('hashrates are as the node computes getnetworkhashps', () => {
  // Times that run backwards in the window: largest minus smallest counts, not last minus first.
  const times = [0, 50, 20, 70, 60];
  const chain = bestOf(
    times.reduce<BlockEvent[]>((blocks, s, height) => {
      blocks.push(block({ height, prev: blocks.at(-1)?.hash ?? NO_PARENT, timeS: START_S + s }));
      return blocks;
    }, []),
  );
  const rows = hashrateRows(chain, playground, 0);
  const work = workFromBits(0x1d00ffff);
  const at = (height: number, window: number) => rows.find((row) => row.height === height && row.window === window);
  expect(at(4, 120)).toMatchObject({
    blocks: 4,
    work: (4n * work).toString(),
    seconds: 70,
    hashrate_hps: ((4n * work) / 70n).toString(),
  });
  expect(at(4, 1)).toMatchObject({ blocks: 1, seconds: 10, hashrate_hps: (work / 10n).toString() });
  // 4 % 24 + 1 = 5 is cut to the 4 that there are.
  expect(at(4, -1)).toMatchObject({ blocks: 4 });
  expect(at(0, 1)).toBeUndefined();
  // Since the last change of difficulty, at 24: seven blocks with that one, as the node counts.
  const long = hashrateRows(bestOf(chainOf(0, 30)), playground, 0);
  expect(long.find(({ height, window }) => height === 30 && window === -1)).toMatchObject({ blocks: 7, seconds: 35 });
});

test('a window without time has no hashrate, one without all its blocks no row', () => {
  const flat = bestOf(chainOf(100, 101, () => ({ timeS: START_S })));
  expect(
    hashrateRows(flat, playground, 0).map(({ height, window, hashrate_hps }) => ({ height, window, hashrate_hps })),
  ).toEqual([{ height: 101, window: 1, hashrate_hps: null }]);
});

test('a rule that predicts nothing raises no alarm', () => {
  const header: ChainProfile = { ...playground, retarget: { ...playground.retarget, rule: 'header' } };
  const rows = epochRows(
    bestOf(chainOf(0, 30, (height) => ({ bits: height < 24 ? 0x1d00ffff : 0x1d00fffe }))),
    header,
    0,
  );
  expect(rows[0]).toMatchObject({ next_nbits: '1d00fffe', next_nbits_predicted: '', next_nbits_alarm: false });
  expect(rows[1]).toMatchObject({ next_nbits: '', next_difficulty: null });
});
