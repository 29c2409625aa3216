/**
 * On the playground within ten minutes: an epoch closed whose new nBits are the chain's, and a payout whose amount is the contract's formula, worked here
 * by another way: from the node's raw blocks alone.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tempDir, until } from '../helpers/leash.ts';
import { startPlayground, type Tree, treePorts } from '../helpers/tree.ts';

const TEN_MINUTES_MS = 600_000;
/** The playground's profile, written out: the test must not take it from the code that it checks. */
const B = 24;
const T = 5n;
const W = 1n << 32n;
const DIFFICULTY_1 = 0xffffn << 208n;
const SUBSIDY = 5_000_000_000n;
const H = 20_000n;

let dir: { path: string; remove(): void };
let tree: Tree;

beforeAll(async () => {
  dir = tempDir('payout');
  tree = await startPlayground(dir.path, await treePorts());
});
afterAll(async () => {
  await tree?.leash.stop({ graceMs: 30_000 });
  dir?.remove();
});

interface VerboseBlock {
  hash: string;
  height: number;
  bits: string;
  tx: { vout: { value: number }[] }[];
}

async function blockAt(height: number): Promise<VerboseBlock> {
  return tree.rpc<VerboseBlock>('getblock', await tree.rpc<string>('getblockhash', height), 2);
}

/** Smallest units paid by a block's coinbase, from the node's decimal amounts. */
function coinbaseSats(block: VerboseBlock): bigint {
  return block.tx[0]!.vout.reduce((sum, out) => sum + BigInt(Math.round(out.value * 1e8)), 0n);
}

test('an epoch closes with the nBits of the chain, and a payout is owed by the formula', {
  timeout: TEN_MINUTES_MS + 60_000,
}, async () => {
  const payout = await until(
    () => `a payout of the sample contract is owed (${tree.leash.output().slice(-1500)})`,
    async () => {
      const line = await tree.sqlOrNull(
        "SELECT epoch, amount_sats, closing_hash, first_height, covered_blocks, fees_sats FROM payouts WHERE contract_id = 'sample' AND status = 'owed' ORDER BY epoch LIMIT 1",
      );
      return line === null || line === '' ? null : line.split('\t');
    },
    { withinMs: TEN_MINUTES_MS, everyMs: 1_000 },
  );
  const epoch = Number(payout[0]);

  const closing = await blockAt((epoch + 1) * B);
  // Tables are filled one after the other: that the payout is there does not say that its epoch is.
  await expect
    .poll(
      () =>
        tree.sql(
          `SELECT next_nbits, next_nbits_predicted, next_nbits_alarm, closing_hash, status FROM epochs WHERE epoch = ${epoch}`,
        ),
      { timeout: 120_000, interval: 200 },
    )
    .toBe([closing.bits, closing.bits, 'false', closing.hash, 'final'].join('\t'));
  expect(payout[2]).toBe(closing.hash);

  // The sample contract covers the whole of any epoch after the one in which it was opened, and the first is skipped.
  expect(Number(payout[4])).toBe(B);
  const blocks = await Promise.all(Array.from({ length: B }, (_, index) => blockAt(epoch * B + index)));
  const fees = blocks.reduce((sum, block) => sum + coinbaseSats(block) - SUBSIDY, 0n);
  expect(payout[5]).toBe(String(fees));
  const bits = Number.parseInt(closing.bits, 16);
  const target = BigInt(bits & 0x7fffff) << BigInt(8 * ((bits >>> 24) - 3));
  const n = BigInt(B);
  // payout = floor( T · Σ H · (S·N + ΣF) / (D · W · N) ), D = difficulty-1 target / target
  const owed = (T * n * H * (SUBSIDY * n + fees) * target) / (DIFFICULTY_1 * W * n);
  expect(payout[1]).toBe(String(owed));
  expect(owed).toBeGreaterThan(0n);

  const skipped = await tree.sql(
    "SELECT epoch, period FROM payouts WHERE contract_id = 'sample' AND status = 'skipped'",
  );
  expect(skipped).toBe(`${epoch - 1}\t1`);

  const height = Number(await tree.sql('SELECT max(height) FROM hashrates'));
  for (const window of [1, 10, 120, -1]) {
    const ours = await tree.sql(
      `SELECT ifNull(hashrate_hps, 0) FROM hashrates WHERE window = ${window} AND height = ${height}`,
    );
    const node = await tree.rpc<number>('getnetworkhashps', window, height);
    expect(Math.abs(Number(ours) - node), `over ${window} blocks`).toBeLessThanOrEqual(1 + node * 1e-9);
  }
});
