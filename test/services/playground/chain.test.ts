import { describe, expect, it } from 'vitest';
import { parseBlock } from '../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes } from '../../../services/core/bitcoin/bytes.ts';
import { targetFromBits, workFromBits } from '../../../services/core/bitcoin/target.ts';
import { type Tx, txid } from '../../../services/core/bitcoin/transaction.ts';
import { BlockDecodeError, OP_TRUE_SCRIPT, type TipChange, ToyChain } from '../../../services/playground/chain.ts';
import { SEED } from '../../helpers/seed.ts';
import {
  type BlockParts,
  buildBlock,
  easyProfile,
  GENESIS_TIME_S,
  grow,
  memoryStorage,
  nextParts,
  spend,
} from './easy-chain.ts';

const COIN = 100_000_000n;

function newChain(nowS = GENESIS_TIME_S + 100_000, profile = easyProfile()): ToyChain {
  return new ToyChain(profile, memoryStorage(), () => nowS);
}

function coinbaseOf(chain: ToyChain, height: number): Tx {
  return parseBlock(chain.bytes(chain.at(height)!)).txs[0]!;
}

/** A chain with mature coinbases, and the outpoint of the first. */
function richChain(): { chain: ToyChain; coin: (height: number) => { txid: Uint8Array; index: number } } {
  const chain = newChain();
  grow(chain, 14);
  return { chain, coin: (height) => ({ txid: txid(coinbaseOf(chain, height)), index: 0 }) };
}

describe('a valid block', () => {
  it('becomes the tip, with or without the witness that miners leave out', () => {
    const chain = newChain();
    expect(chain.submit(buildBlock(chain, nextParts(chain)).bytes)).toBeNull();
    expect(chain.submit(buildBlock(chain, { ...nextParts(chain), withWitness: true }).bytes)).toBeNull();
    expect(chain.tip.height).toBe(2);
    expect(chain.tip.chainwork).toBe(3n * workFromBits(0x207fffff));
    for (const height of [1, 2]) expect(coinbaseOf(chain, height).inputs[0]!.witness).toEqual([new Uint8Array(32)]);
  });

  it('without a commitment is fine as long as it holds no witness', () => {
    const chain = newChain();
    expect(chain.submit(buildBlock(chain, { ...nextParts(chain), commitment: null }).bytes)).toBeNull();
  });

  it('carries transactions with and without witness, one spending the other, and their fees', () => {
    const { chain, coin } = richChain();
    const first = spend([coin(1)], [{ valueSats: 30n * COIN, script: OP_TRUE_SCRIPT }, { valueSats: 19n * COIN }]);
    const second = spend([{ txid: txid(first), index: 0, script: 'bare' }], [{ valueSats: 29n * COIN }]);
    const parts = nextParts(chain, { txs: [first, second], feesSats: 2n * COIN });
    expect(chain.submit(buildBlock(chain, parts).bytes)).toBeNull();
    expect(chain.spentBy(chain.tip).size).toBe(2);
    expect(chain.coin(`${Buffer.from(txid(second)).toString('hex')}:0`)?.valueSats).toBe(29n * COIN);
  });

  it('submitted again is a duplicate', () => {
    const chain = newChain();
    const { bytes } = buildBlock(chain, nextParts(chain));
    chain.submit(bytes);
    expect(chain.submit(bytes)).toBe('duplicate');
  });

  it('beside the tip is inconclusive, and on its own successor the best', () => {
    const chain = newChain();
    grow(chain, 3);
    const [a, tip] = [chain.at(2)!, chain.tip];
    const rival = buildBlock(chain, nextParts(chain, { prev: a, extra: 7 }));
    expect(chain.submit(rival.bytes)).toBe('inconclusive');
    expect(chain.tip.hash).toBe(tip.hash);
    expect(chain.submit(rival.bytes)).toBe('duplicate');
    const changes: TipChange[] = [];
    chain.onChange((change) => changes.push(change));
    const next = buildBlock(chain, nextParts(chain, { prev: chain.get(rival.hash)! }));
    expect(chain.submit(next.bytes)).toBeNull();
    expect(changes).toHaveLength(1);
    expect(changes[0]!.disconnected.map(({ hash }) => hash)).toEqual([tip.hash]);
    expect(changes[0]!.connected.map(({ hash }) => hash)).toEqual([rival.hash, next.hash]);
  });
});

describe('a block is refused', () => {
  const { chain, coin } = richChain();
  const tip = chain.tip;
  const refused = (parts: BlockParts, change: Parameters<typeof buildBlock>[2] = {}): string | null =>
    chain.submit(buildBlock(chain, parts, change).bytes);
  const good = spend([coin(1)], [{ valueSats: 49n * COIN }]);
  const withTxs = (...txs: Tx[]): BlockParts => nextParts(chain, { txs });

  it.each<[string, () => string | null]>([
    ['high-hash: the proof of work does not meet nBits', () => refused(nextParts(chain), { unsolved: true })],
    [
      'bad-txnmrklroot: the root is not that of the transactions',
      () => refused(nextParts(chain), { root: new Uint8Array(32).fill(1) }),
    ],
    [
      'bad-cb-height: the coinbase names another height',
      () => refused({ ...nextParts(chain), height: tip.height + 2 }),
    ],
    [
      'bad-cb-amount: the coinbase takes one unit more than subsidy and fees',
      () => refused(nextParts(chain, { txs: [good], feesSats: COIN + 1n })),
    ],
    [
      'bad-cb-length: the script of the coinbase has more than 100 bytes',
      () =>
        refused(nextParts(chain), {
          coinbase: (tx) =>
            withScript(tx, concatBytes(tx.inputs[0]!.script, new Uint8Array(101 - tx.inputs[0]!.script.length))),
        }),
    ],
    [
      'bad-witness-merkle-match: the commitment is of other transactions',
      () => refused({ ...withTxs(good), commitment: nextParts(chain).commitment }),
    ],
    ['unexpected-witness: a witness without a commitment', () => refused({ ...withTxs(good), commitment: null })],
    ['bad-diffbits: nBits easier than the retarget demands', () => refused(withBits(0x207ffffe))],
    [
      'time-too-old: not later than the median of eleven',
      () => refused(nextParts(chain, { timeS: chain.medianTimeS(tip) })),
    ],
    [
      'time-too-new: more than two hours ahead of the clock',
      () => refused(nextParts(chain, { timeS: GENESIS_TIME_S + 100_000 + 7_201 })),
    ],
    ['bad-version(0x00000003): a version from before BIP 65', () => refused(withVersion(3))],
    [
      'prev-blk-not-found: its predecessor is unknown',
      () => refused(nextParts(chain), { prevHash: new Uint8Array(32).fill(9) }),
    ],
    [
      'bad-txns-inputs-missingorspent: it spends what does not exist',
      () => refused(withTxs(spend([{ txid: new Uint8Array(32).fill(3), index: 0 }], [{ valueSats: 1n }]))),
    ],
    [
      'bad-txns-inputs-missingorspent: it spends an output twice',
      () => refused(withTxs(good, spend([coin(1)], [{ valueSats: 1n }]))),
    ],
    [
      'bad-txns-inputs-duplicate: a transaction spends an output twice',
      () => refused(withTxs(spend([coin(1), coin(1)], [{ valueSats: 1n }]))),
    ],
    [
      'bad-txns-premature-spend-of-coinbase: a coinbase is younger than its maturity',
      () => refused(withTxs(spend([coin(tip.height - 8)], [{ valueSats: 1n }]))),
    ],
    [
      'bad-txns-in-belowout: more comes out than goes in',
      () => refused(withTxs(spend([coin(1)], [{ valueSats: 50n * COIN + 1n }]))),
    ],
    [
      'bad-txns-vout-toolarge: an output above all money',
      () => refused(withTxs(spend([coin(1)], [{ valueSats: 21_000_000n * COIN + 1n }]))),
    ],
    ['bad-txns-vout-empty: a transaction without outputs', () => refused(withTxs(spend([coin(1)], [])))],
    [
      'mandatory-script-verify-flag-failed (only OP_TRUE can be spent on the toy chain): the witness is not that of OP_TRUE',
      () => refused(withTxs(badWitness())),
    ],
    ['bad-txns-nonfinal: the lock time is not reached', () => refused(withTxs(locked()))],
    ['bad-cb-multiple: a second coinbase', () => refused(withTxs(coinbaseOf(chain, 3)))],
    ['bad-txns-duplicate: a pair of equal transactions keeps the root (CVE-2012-2459)', twins],
  ])('%s', (title, act) => {
    expect(`${act()}:`).toBe(title.slice(0, title.indexOf(':') + 1));
    expect(chain.tip.hash).toBe(tip.hash);
  });

  function withScript(tx: Tx, script: Uint8Array): Tx {
    return { ...tx, inputs: [{ ...tx.inputs[0]!, script }] };
  }
  function withBits(bits: number): BlockParts {
    const parts = nextParts(chain);
    return { ...parts, header: { ...parts.header, bits } };
  }
  function withVersion(version: number): BlockParts {
    const parts = nextParts(chain);
    return { ...parts, header: { ...parts.header, version } };
  }
  function badWitness(): Tx {
    const tx = spend([coin(1)], [{ valueSats: 1n }]);
    return { ...tx, inputs: [{ ...tx.inputs[0]!, witness: [bytesFromHex('52')] }] };
  }
  function locked(): Tx {
    const tx = spend([coin(1)], [{ valueSats: 1n }], { lockTime: 5_000 });
    return { ...tx, inputs: [{ ...tx.inputs[0]!, sequence: 0 }] };
  }
  function twins(): string | null {
    const other = spend([coin(2)], [{ valueSats: 1n }]);
    const { bytes } = buildBlock(chain, withTxs(good, other));
    // Three leaves: the last is paired with itself, so that a fourth equal to it changes nothing in the root.
    const doubled = buildBlock(chain, withTxs(good, other, other), { root: parseBlock(bytes).header.merkleRoot });
    return chain.submit(doubled.bytes);
  }
});

it('a refusal by form alone leaves the good block of the same header acceptable', () => {
  const { chain, coin } = richChain();
  const parts = nextParts(chain, {
    txs: [spend([coin(1)], [{ valueSats: 1n }]), spend([coin(2)], [{ valueSats: 1n }])],
  });
  const { bytes } = buildBlock(chain, parts);
  const head = bytes.slice(0, 80);
  const doubled = buildBlock(chain, { ...parts, txs: [...parts.txs, parts.txs[1]!] });
  const mutated = concatBytes(head, doubled.bytes.subarray(80));
  expect(chain.submit(mutated)).toBe('bad-txns-duplicate');
  expect(chain.submit(bytes)).toBeNull();
});

it('a block that turns out invalid when connected is a duplicate-invalid, and so is nothing built on it', () => {
  const chain = newChain();
  grow(chain, 2);
  const parts = nextParts(chain);
  const greedy = buildBlock(chain, {
    ...parts,
    coinbaseOutputs: [{ ...parts.coinbaseOutputs[0]!, valueSats: 51n * COIN }],
  });
  expect(chain.submit(greedy.bytes)).toBe('bad-cb-amount');
  expect(chain.submit(greedy.bytes)).toBe('duplicate-invalid');
  const onIt = buildBlock(chain, nextParts(chain, { prev: chain.get(greedy.hash)! }));
  expect(chain.submit(onIt.bytes)).toBe('bad-prevblk');
  expect(chain.tip.height).toBe(2);
});

it('a longer branch with an invalid block in it is left again for the old tip', () => {
  const chain = newChain();
  grow(chain, 3);
  const tip = chain.tip;
  const parts = nextParts(chain, { prev: chain.at(2)!, extra: 1 });
  const greedy = buildBlock(chain, {
    ...parts,
    coinbaseOutputs: [{ ...parts.coinbaseOutputs[0]!, valueSats: 51n * COIN }],
  });
  expect(chain.submit(greedy.bytes)).toBe('inconclusive');
  const coins = new Map(chain.coins());
  expect(chain.submit(buildBlock(chain, nextParts(chain, { prev: chain.get(greedy.hash)! })).bytes)).toBe(
    'inconclusive',
  );
  expect(chain.tip.hash).toBe(tip.hash);
  expect(new Map(chain.coins())).toEqual(coins);
});

it.each([
  ['no bytes', ''],
  ['half a header', '00'.repeat(40)],
  ['a header alone', '00'.repeat(80)],
  ['no transactions', `${'00'.repeat(80)}00`],
  ['a count without transactions', `${'00'.repeat(80)}fdffff`],
])('%s cannot be decoded', (_what, hex) => {
  expect(() => newChain().submit(bytesFromHex(hex))).toThrow(BlockDecodeError);
});

describe('retargeting', () => {
  it('follows the times of four epochs in exact integers, and refuses any other nBits', () => {
    // 24 blocks of 5 s an epoch: actual time is that of 23 intervals.
    const spacings = [5, 2, 1, 10];
    const chain = newChain(GENESIS_TIME_S + 1_000_000);
    const timeOf = (height: number): number => {
      let timeS = GENESIS_TIME_S;
      for (let h = 1; h <= height; h++) timeS += spacings[Math.floor((h - 1) / 24)] ?? 5;
      return timeS;
    };
    let target = targetFromBits(0x207fffff);
    for (const [epoch, spacing] of spacings.entries()) {
      const height = (epoch + 1) * 24;
      grow(chain, height - 1 - chain.tip.height, timeOf);
      // By hand: the span is from the first block of the period (height − 24) to its last (height − 1).
      const actual = BigInt(timeOf(height - 1) - timeOf(height - 24));
      expect(actual).toBe(BigInt(23 * spacing));
      const clamped = actual < 30n ? 30n : actual > 480n ? 480n : actual;
      target = (target * clamped) / 120n;
      if (target > chain.profile.pow_limit) target = chain.profile.pow_limit;
      const bits = chain.nextBits(chain.tip);
      expect(targetFromBits(bits)).toBeLessThanOrEqual(target);
      expect(target - targetFromBits(bits)).toBeLessThan(target >> 15n);
      const stubborn = nextParts(chain, { timeS: timeOf(height) });
      const old = { ...stubborn, header: { ...stubborn.header, bits: chain.tip.header.bits } };
      if (bits !== chain.tip.header.bits) expect(chain.submit(buildBlock(chain, old).bytes)).toBe('bad-diffbits');
      grow(chain, 1, timeOf);
      expect(chain.tip.header.bits).toBe(bits);
      target = targetFromBits(bits);
    }
  });
});

describe('for tests of followers', () => {
  it('an invalidated block leaves with all on it, and comes back when reconsidered', () => {
    const chain = newChain();
    grow(chain, 5);
    const tip = chain.tip;
    const third = chain.at(3)!;
    const changes: TipChange[] = [];
    chain.onChange((change) => changes.push(change));
    expect(chain.invalidate(third.hash)).toBe(true);
    expect(chain.tip.height).toBe(2);
    grow(chain, 1, () => third.header.time + 50);
    expect(chain.tip.hash).not.toBe(third.hash);
    expect(chain.reconsider(third.hash)).toBe(true);
    expect(chain.tip.hash).toBe(tip.hash);
    expect(changes.map(({ disconnected, connected }) => [disconnected.length, connected.length])).toEqual([
      [3, 0],
      [0, 1],
      [1, 3],
    ]);
    expect(chain.invalidate('00'.repeat(32))).toBe(false);
    expect(chain.invalidate(chain.at(0)!.hash)).toBe(false);
  });

  it('a precious block wins among those of equal work', () => {
    const chain = newChain();
    grow(chain, 3);
    const tip = chain.tip;
    const rival = buildBlock(chain, nextParts(chain, { prev: chain.at(2)!, extra: 5 }));
    expect(chain.submit(rival.bytes)).toBe('inconclusive');
    chain.precious(rival.hash);
    expect(chain.tip.hash).toBe(rival.hash);
    chain.precious(tip.hash);
    expect(chain.tip.hash).toBe(tip.hash);
    chain.precious(chain.at(1)!.hash);
    expect(chain.tip.hash).toBe(tip.hash);
  });
});

it('any reorganisation restores the outputs as if the branch had been built alone', () => {
  let state = SEED;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const chain = newChain();
  const built: { bytes: Uint8Array; hash: string }[] = [];
  for (let i = 0; i < 120; i++) {
    const prev = i < 15 ? chain.tip : chain.at(Math.max(0, chain.tip.height - random(4)))!;
    const mature =
      chain.isActive(prev) && prev === chain.tip
        ? [...chain.coins()].filter(([, coin]) => !coin.coinbase || prev.height + 1 - coin.height >= 10)
        : [];
    const txs: Tx[] = [];
    if (mature.length > 0) {
      const [key, { valueSats }] = mature[random(mature.length)]!;
      const [id, index] = key.split(':') as [string, string];
      txs.push(
        spend(
          [{ txid: bytesFromHex(id), index: Number(index) }],
          [{ valueSats: valueSats / 2n }, { valueSats: valueSats / 2n }],
        ),
      );
    }
    const block = buildBlock(
      chain,
      nextParts(chain, { prev, txs, extra: i, timeS: chain.medianTimeS(prev) + 1 + random(5) }),
    );
    built.push(block);
    chain.submit(block.bytes);
  }
  const alone = newChain();
  for (let height = 1; height <= chain.tip.height; height++) alone.submit(chain.bytes(chain.at(height)!));
  expect(alone.tip.hash, `SEED=${SEED}`).toBe(chain.tip.hash);
  expect(Object.fromEntries(alone.coins()), `SEED=${SEED}`).toEqual(Object.fromEntries(chain.coins()));
});
