import { describe, expect, test } from 'vitest';
import { parseBlockSummary } from '../../../../services/core/bitcoin/block.ts';
import { bytesFromHex } from '../../../../services/core/bitcoin/bytes.ts';
import { heightFromCoinbase } from '../../../../services/core/bitcoin/coinbase.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { countedSats, feesSats, subsidySats } from '../../../../services/core/chains/subsidy.ts';
import recorded from '../../../vectors/ckpool-blocks.json' with { type: 'json' };

const bitcoin = loadChain('bitcoin');

describe('the subsidy', () => {
  test.each([
    ['bitcoin', 0, 5_000_000_000n],
    ['bitcoin', 209_999, 5_000_000_000n],
    ['bitcoin', 210_000, 2_500_000_000n],
    ['bitcoin', 840_000, 312_500_000n],
    ['bitcoin', 6_929_999, 1n],
    ['bitcoin', 6_930_000, 0n],
    ['bitcoin', 210_000 * 64, 0n],
    ['litecoin', 839_999, 5_000_000_000n],
    ['litecoin', 2_520_000, 625_000_000n],
    ['regtest', 149, 5_000_000_000n],
    ['regtest', 150, 2_500_000_000n],
    ['playground', 1499, 5_000_000_000n],
    ['playground', 1500, 2_500_000_000n],
  ] as const)('of %s at %i is %d', (name, height, sats) => {
    expect(subsidySats(loadChain(name), height)).toBe(sats);
  });

  test('of all Bitcoin sums to 20999999.9769 coins', () => {
    let sum = 0n;
    for (let era = 0; era < 64; era++) sum += 210_000n * subsidySats(bitcoin, era * 210_000);
    expect(sum).toBe(2_099_999_997_690_000n);
  });

  test('never halves without an interval, and follows steps where there are some', () => {
    const flat = { subsidy: { initial_sats: 7n, halving_interval: 0, uncounted_scripts: [] } };
    expect(subsidySats(flat, 10 ** 9)).toBe(7n);
    const steps = [
      { from_height: 10, sats: 5n },
      { from_height: 20, sats: 0n },
    ];
    const stepped = { subsidy: { ...flat.subsidy, steps } };
    expect([0, 9, 10, 19, 20, 99].map((h) => subsidySats(stepped, h))).toEqual([7n, 7n, 5n, 5n, 0n, 0n]);
  });

  test('of a height that is none is refused', () => {
    for (const height of [-1, 0.5, Number.NaN]) expect(() => subsidySats(bitcoin, height)).toThrow(RangeError);
  });
});

describe('fees', () => {
  test('of recorded blocks are those of their templates, read from the coinbase alone', () => {
    expect(recorded.blocks.some((b) => b.fees_sats !== '0')).toBe(true);
    for (const { hex, scenario, fees_sats } of recorded.blocks) {
      const profile = loadChain(scenario.startsWith('regtest') ? 'regtest' : 'testnet3');
      const { coinbase } = parseBlockSummary(bytesFromHex(hex));
      expect(feesSats(profile, heightFromCoinbase(coinbase.inputs[0]!.script), coinbase)).toBe(BigInt(fees_sats));
    }
  });

  test('a miner that claims less than the subsidy has none', () => {
    expect(feesSats(bitcoin, 0, { outputs: [{ valueSats: 1n, script: new Uint8Array(0) }] })).toBe(0n);
  });

  test('outputs to listed scripts are not counted', () => {
    const profile = { subsidy: { ...bitcoin.subsidy, uncounted_scripts: ['51'] } };
    const outputs = [
      { valueSats: 5_000_000_100n, script: Uint8Array.of(0x52) },
      { valueSats: 999n, script: Uint8Array.of(0x51) },
    ];
    expect(countedSats(profile, { outputs })).toBe(5_000_000_100n);
    expect(feesSats(profile, 0, { outputs })).toBe(100n);
  });
});
