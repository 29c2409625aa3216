import { describe, expect, it } from 'vitest';
import { parseBlock } from '../../../services/core/bitcoin/block.ts';
import { hasWitness, serializeTransaction, type Tx, txid } from '../../../services/core/bitcoin/transaction.ts';
import { ToyChain } from '../../../services/playground/chain.ts';
import { Mempool, makeTransaction } from '../../../services/playground/mempool.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { buildBlock, easyProfile, GENESIS_TIME_S, grow, memoryStorage, nextParts, spend } from './easy-chain.ts';

const COIN = 100_000_000n;
const bytesOf = (tx: Tx): Uint8Array => serializeTransaction(tx, { witness: true });

function richChain(blocks = 14): {
  chain: ToyChain;
  mempool: Mempool;
  coin: (height: number) => { txid: Uint8Array; index: number };
} {
  const nowS = (): number => GENESIS_TIME_S + 100_000;
  const chain = new ToyChain(easyProfile(), memoryStorage(), nowS);
  const mempool = new Mempool(chain, nowS);
  grow(chain, blocks);
  return {
    chain,
    mempool,
    coin: (height) => ({ txid: txid(parseBlock(chain.bytes(chain.at(height)!)).txs[0]!), index: 0 }),
  };
}

describe('a transaction', () => {
  it('that is good waits, with its fee, and may be spent by another', () => {
    const { mempool, coin } = richChain();
    const parent = spend([coin(1)], [{ valueSats: 49n * COIN }]);
    const child = spend([{ txid: txid(parent), index: 0 }], [{ valueSats: 48n * COIN }]);
    expect(mempool.add(bytesOf(parent))).toBeNull();
    expect(mempool.add(bytesOf(child))).toBeNull();
    expect(mempool.selection().map(({ feeSats }) => feeSats)).toEqual([COIN, COIN]);
  });

  it.each<[string, (rich: ReturnType<typeof richChain>) => Uint8Array]>([
    ['TX decode failed', () => new Uint8Array(5)],
    ['txn-already-in-mempool', ({ mempool, coin }) => added(mempool, spend([coin(1)], [{ valueSats: 1n }]))],
    [
      'txn-mempool-conflict',
      ({ mempool, coin }) => {
        added(mempool, spend([coin(1)], [{ valueSats: 1n }]));
        return bytesOf(spend([coin(1)], [{ valueSats: 2n }]));
      },
    ],
    [
      'bad-txns-inputs-missingorspent',
      () => bytesOf(spend([{ txid: new Uint8Array(32).fill(1), index: 0 }], [{ valueSats: 1n }])),
    ],
    ['bad-txns-premature-spend-of-coinbase', ({ coin }) => bytesOf(spend([coin(12)], [{ valueSats: 1n }]))],
    ['bad-txns-in-belowout', ({ coin }) => bytesOf(spend([coin(1)], [{ valueSats: 51n * COIN }]))],
    ['coinbase', ({ chain }) => bytesOf(parseBlock(chain.bytes(chain.tip)).txs[0]!)],
    [
      'non-final',
      ({ coin }) =>
        bytesOf({
          ...spend([coin(1)], [{ valueSats: 1n }], { lockTime: 100 }),
          inputs: spend([coin(1)], []).inputs.map((i) => ({ ...i, sequence: 0 })),
        }),
    ],
  ])('is refused as %s', (word, make) => {
    const rich = richChain();
    expect(rich.mempool.add(make(rich))).toBe(word);
  });

  it('that a block confirms goes, and so does one that the block makes impossible', () => {
    const { chain, mempool, coin } = richChain();
    const confirmed = spend([coin(1)], [{ valueSats: 49n * COIN }]);
    const doomed = spend([coin(2)], [{ valueSats: 1n }]);
    const onDoomed = spend([{ txid: txid(doomed), index: 0 }], [{ valueSats: 1n }]);
    const stays = spend([coin(3)], [{ valueSats: 1n }]);
    for (const tx of [confirmed, doomed, onDoomed, stays]) expect(mempool.add(bytesOf(tx))).toBeNull();
    const rival = spend([coin(2)], [{ valueSats: 2n }]);
    expect(chain.submit(buildBlock(chain, nextParts(chain, { txs: [confirmed, rival] })).bytes)).toBeNull();
    expect(mempool.entries().map((entry) => Buffer.from(entry.txid).toString('hex'))).toEqual([
      Buffer.from(txid(stays)).toString('hex'),
    ]);
    expect(mempool.add(bytesOf(confirmed))).toBe('txn-already-known');
  });
});

function added(mempool: Mempool, tx: Tx): Uint8Array {
  expect(mempool.add(bytesOf(tx))).toBeNull();
  return bytesOf(tx);
}

describe('the traffic', () => {
  it('makes valid transactions for hundreds of blocks, with and without witness, each with a fee, from a bounded number of coins', () => {
    const random = seeded(SEED);
    const { chain, mempool } = richChain();
    let transactions = 0;
    let withoutWitness = 0;
    for (let block = 0; block < 200; block++) {
      for (let i = 0; i < 4; i++) {
        const bytes = makeTransaction({ chain, mempool, random });
        if (bytes !== null) expect(mempool.add(bytes), `SEED=${SEED}`).toBeNull();
      }
      const chosen = mempool.selection();
      const feesSats = chosen.reduce((sum, entry) => sum + entry.feeSats, 0n);
      expect(chosen.every((entry) => entry.feeSats > 0n)).toBe(true);
      transactions += chosen.length;
      withoutWitness += chosen.filter(({ tx }) => !hasWitness(tx)).length;
      const parts = nextParts(chain, { txs: chosen.map(({ tx }) => tx), feesSats, timeS: chain.tip.header.time + 5 });
      expect(chain.submit(buildBlock(chain, parts).bytes), `SEED=${SEED}`).toBeNull();
      expect(mempool.size).toBe(0);
    }
    expect(transactions, `SEED=${SEED}`).toBeGreaterThan(700);
    expect(withoutWitness, `SEED=${SEED}`).toBeGreaterThan(20);
    expect([...chain.coins()].length, `SEED=${SEED}`).toBeLessThan(150);
  });

  it('rests where nothing can be spent', () => {
    const { chain, mempool } = richChain(3);
    expect(makeTransaction({ chain, mempool, random: seeded(1) })).toBeNull();
  });

  it('stops where many wait already', () => {
    const { chain, mempool } = richChain();
    const random = seeded(2);
    for (
      let bytes = makeTransaction({ chain, mempool, random });
      bytes !== null;
      bytes = makeTransaction({ chain, mempool, random })
    )
      mempool.add(bytes);
    expect(mempool.size).toBe(300);
  });
});
