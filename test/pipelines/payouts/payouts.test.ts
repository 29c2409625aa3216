import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type DerivedEvent, evolve, initial, mergeTouched, rows, type Touched } from '../../../pipelines/derived.ts';
import { wrongContractEvent } from '../../../pipelines/payouts/contract-events.ts';
import { payoutOf } from '../../../pipelines/payouts/formula.ts';
import type { Row } from '../../../pipelines/row.ts';
import type { BlockEvent, ContractEvent, Inputs } from '../../../schemas/events.ts';
import { addressFromScript } from '../../../services/core/bitcoin/address.ts';
import { bytesFromHex } from '../../../services/core/bitcoin/bytes.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { chainOf, contractFrom, newSeed, numbered, randomFrom, START_S } from '../blocks.ts';

const playground = loadChain('playground');
const profileOf = () => playground;

function contract(input: Partial<Inputs['contract']> = {}): ContractEvent {
  return contractFrom({
    kind: 'opened',
    contract_id: 'c1',
    contract_seq: 0,
    time_us: START_S * 1e6,
    chain: 'playground',
    customer: 'a customer',
    payout_address: 'an address',
    hashrate_hps: '1000000000',
    from_height: 24,
    skip_payouts: 0,
    ...input,
  });
}

type Tables = Record<string, Row[]>;

/** All rows, from nothing. */
function rowsOf(blocks: readonly BlockEvent[], contracts: readonly ContractEvent[]): Tables {
  const state = initial();
  for (const event of blocks) evolve(state, { topic: 'block', event });
  for (const event of contracts) evolve(state, { topic: 'contract', event });
  return Object.fromEntries(
    rows(state, 'playground', { fromHeight: 0, contracts: true }, profileOf).map(({ table, rows }) => [
      table,
      [...rows],
    ]),
  );
}

function payoutsOf(blocks: readonly BlockEvent[], ...contracts: ContractEvent[]): Row[] {
  return rowsOf(numbered(blocks), contracts).payouts_raw!;
}

function column(rows: readonly Row[], ...names: string[]): unknown[][] {
  return rows.map((row) => names.map((name) => row[name]));
}

test('a payout worked by hand', () => {
  // The playground: T = 5 s, B = 24, W = 2^32 = 4294967296. H = 1 Gh/s over all of epoch 1 (heights 24 to 47).
  // Every block has a subsidy of 5,000,000,000 and fees of 1,000; block 48 has bits 1d00ffff, which is difficulty 1.
  //
  //   ΣH       = 24 · 1,000,000,000                          =  24,000,000,000
  //   ΣH·S     = 24 · 1,000,000,000 · 5,000,000,000          =  120,000,000,000,000,000,000
  //   N = 24, ΣF = 24 · 1,000                                =  24,000
  //   T · (ΣH·S · N + ΣH · ΣF) = 5 · (2,880,000,000,000,000,000,000 + 576,000,000,000,000)
  //                                                          =  14,400,002,880,000,000,000,000
  //   D · W · N = 1 · 4,294,967,296 · 24                     =  103,079,215,104
  //   quotient                                               =  139,698,414,131.99…
  const [payout] = payoutsOf(chainOf(0, 51), contract());
  expect(payout).toMatchObject({
    epoch: 1,
    status: 'owed',
    amount_sats: '139698414131',
    sum_hashrate: '24000000000',
    sum_hashrate_subsidy: '120000000000000000000',
    fee_blocks: 24,
    fees_sats: '24000',
    covered_blocks: 24,
    period: 1,
    nbits: '1d00ffff',
    target_spacing_s: 5,
    hashes_per_difficulty: '4294967296',
  });
  const target = 0xffffn << 208n;
  expect(BigInt(payout!.numerator as string)).toBe(14_400_002_880_000_000_000_000n * target);
  expect(BigInt(payout!.denominator as string)).toBe(103_079_215_104n * target);
  // The contract's own form of it: [(H·T) / (D·2^32)] · [(S + F)·B], in doubles.
  expect(((1e9 * 5) / (1 * 2 ** 32)) * ((5e9 + 1000) * 24)).toBeCloseTo(139_698_414_131.99902, 3);
});

test('the difficulty is that of the block after the epoch, as an exact ratio', () => {
  const blocks = chainOf(0, 51, (height) => ({ bits: height === 48 ? 0x1c7fff80 : 0x1d00ffff }));
  const [payout] = payoutsOf(blocks, contract());
  // 0x7fff80 · 2^200 is half of 0xffff · 2^208: difficulty 2, half the payout.
  expect(payout).toMatchObject({ nbits: '1c7fff80', amount_sats: String(139_698_414_131n / 2n) });
});

test('a halving inside the period is exact: each height with its own subsidy', () => {
  const halved = chainOf(0, 51, (height) => ({
    subsidySats: height < 30 ? 5_000_000_000n : 2_500_000_000n,
    feesSats: 0n,
  }));
  const [payout] = payoutsOf(halved, contract());
  // 6 heights at 5e9, 18 at 2.5e9: 75e9 of subsidy.
  expect(payout).toMatchObject({
    sum_hashrate_subsidy: (1_000_000_000n * 75_000_000_000n).toString(),
    amount_sats: ((5n * 1_000_000_000n * 75_000_000_000n) / 4_294_967_296n).toString(),
  });
});

test('the floor is taken once, after the sum', () => {
  const terms = {
    spacingS: 5n,
    feeBlocks: 24n,
    feesSats: 7n,
    difficulty: { numerator: 3n, denominator: 7n },
    hashesPerDifficulty: 1n << 32n,
  };
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.bigInt(0n, 10n ** 21n), fc.bigInt(0n, 10n ** 10n)), { minLength: 1, maxLength: 60 }),
      (heights) => {
        const sum = (of: typeof heights) =>
          payoutOf({
            ...terms,
            sumHashrate: of.reduce((a, [h]) => a + h, 0n),
            sumHashrateSubsidy: of.reduce((a, [h, s]) => a + h * s, 0n),
          });
        const whole = sum(heights);
        const cut = Math.floor(heights.length / 2);
        const left = sum(heights.slice(0, cut));
        const right = sum(heights.slice(cut));
        // Parts of a period add up to the period, before the floor; after it at most one unit is lost by a cut.
        expect(left.numerator + right.numerator).toBe(whole.numerator);
        expect(whole.amountSats - left.amountSats - right.amountSats).toBeOneOf([0n, 1n]);
      },
    ),
  );
});

test('no block in the fee basis counts as no fees', () => {
  const none = payoutOf({
    spacingS: 5n,
    sumHashrate: 10n,
    sumHashrateSubsidy: 100n,
    feeBlocks: 0n,
    feesSats: 99n,
    difficulty: { numerator: 1n, denominator: 1n },
    hashesPerDifficulty: 7n,
  });
  expect(none).toEqual({ amountSats: 71n, numerator: 500n, denominator: 7n });
});

test('own_blocks counts the blocks whose coinbase pays an address of the contract', () => {
  const script = '76a914000102030405060708090a0b0c0d0e0f1011121388ac';
  const address = addressFromScript(bytesFromHex(script), playground.address)!;
  const blocks = chainOf(0, 51, (height) =>
    height === 30 || height === 40 ? { feesSats: BigInt(height), scripts: ['51', script] } : {},
  );
  const own = contract({ fee_basis: 'own_blocks', own_addresses: [address] });
  const problem = wrongContractEvent(own, profileOf);
  if (problem !== null) throw new Error(problem);
  expect(payoutsOf(blocks, own)[0]).toMatchObject({ fee_blocks: 2, fees_sats: '70', fee_block_heights: [30, 40] });
});

test('the first k periods with hashrate are skipped, partial ones included, and recorded with their amount', () => {
  const blocks = chainOf(0, 147);
  // From height 40: 8 heights of epoch 1; no hashrate in epoch 2; from height 72 on again.
  const payouts = payoutsOf(
    blocks,
    contract({ from_height: 40, skip_payouts: 2 }),
    contract({ kind: 'changed', contract_seq: 1, hashrate_hps: '0', from_height: 48, tip_height: 41 }),
    contract({ kind: 'changed', contract_seq: 2, hashrate_hps: '2000000000', from_height: 72, tip_height: 60 }),
  );
  expect(column(payouts, 'epoch', 'status', 'period', 'covered_blocks')).toEqual([
    [1, 'skipped', 1, 8],
    [3, 'skipped', 2, 24],
    [4, 'owed', 3, 24],
    [5, 'owed', 4, 24],
    [6, 'forecast', 5, 24],
  ]);
  expect(BigInt(payouts[0]!.amount_sats as string)).toBe(139_698_414_131n / 3n);
});

test('an end, by height or by the event `ended`, covers the heights before it', () => {
  const blocks = chainOf(0, 99);
  const covered = (...events: ContractEvent[]) => column(payoutsOf(blocks, ...events), 'epoch', 'covered_blocks');
  expect(covered(contract({ to_height: 60 }))).toEqual([
    [1, 24],
    [2, 12],
  ]);
  expect(covered(contract(), contract({ kind: 'ended', contract_seq: 1, to_height: 50, tip_height: 45 }))).toEqual([
    [1, 24],
    [2, 2],
  ]);
  expect(covered(contract(), contract({ kind: 'ended', contract_seq: 1, from_height: 0, tip_height: 49 }))).toEqual([
    [1, 24],
    [2, 2],
  ]);
});

test('a time becomes the first height whose median time past reaches it, above the tip at acceptance', () => {
  // blocks.ts: the median of a block is 25 s before its time, blocks come every 5 s; height 29 has the median START.
  const blocks = chainOf(0, 51);
  const from = (input: Partial<Inputs['contract']>) =>
    column(
      rowsOf(numbered(blocks), [contract({ from_height: 0, ...input })]).contracts_raw!,
      'from_height',
      'status',
    )[0];
  expect(from({ from_time_us: (START_S + 100) * 1e6 })).toEqual([25, 'running']);
  expect(from({ from_time_us: (START_S + 101) * 1e6 })).toEqual([26, 'running']);
  expect(from({ from_time_us: (START_S + 100) * 1e6, tip_height: 40 })).toEqual([41, 'running']);
  expect(from({ from_time_us: (START_S + 10_000) * 1e6 })).toEqual([0, 'pending']);
  expect(from({ tip_height: 7 })).toEqual([8, 'running']);
});

test('a contract that is heard of late, out of order and twice gives the same rows', () => {
  const blocks = numbered(chainOf(0, 99));
  const events = [
    contract({ from_height: 30 }),
    contract({ kind: 'changed', contract_seq: 1, hashrate_hps: '5', from_height: 50, tip_height: 45 }),
    contract({ kind: 'ended', contract_seq: 2, to_height: 80, tip_height: 60 }),
  ];
  const expected = rowsOf(blocks, events);
  const state = initial();
  for (const event of [...events].reverse()) evolve(state, { topic: 'contract', event });
  for (const event of blocks) evolve(state, { topic: 'block', event });
  for (const event of events) evolve(state, { topic: 'contract', event });
  const late = rows(state, 'playground', { fromHeight: 0, contracts: true }, profileOf);
  expect(Object.fromEntries(late.map(({ table, rows }) => [table, rows]))).toEqual(expected);
});

test.each<[string, Partial<Inputs['contract']>]>([
  ['from_height: expected above the tip at acceptance, 30, got 24', { tip_height: 30 }],
  ['to_height: expected above the tip at acceptance, 10, got 9', { tip_height: 10, to_height: 9 }],
  ['formula_version: expected 1, got 2', { formula_version: 2 }],
  ['kind: expected one of opened, changed, ended, got "paused"', { kind: 'paused', contract_seq: 1 }],
  ['contract_seq: expected 0 for opened alone, got 3 for opened', { contract_seq: 3 }],
  ['hashrate_hps: expected a whole number in decimal, got "1.5"', { hashrate_hps: '1.5' }],
  ['fee_basis: expected one of network, own_blocks, got "all"', { fee_basis: 'all' }],
])('poison: %s', (reason, change) => {
  expect(wrongContractEvent(contract(change), profileOf)).toBe(reason);
});

/** Keeps rows as the consumers do: what is given replaces, what is not given from `from` on is gone. */
class Kept {
  readonly state = initial();
  readonly rows = new Map<string, Map<string, Row>>();
  #touched: Touched | undefined;

  take(input: DerivedEvent): void {
    const change = evolve(this.state, input);
    if (change !== null) this.#touched = mergeTouched(this.#touched, change.touched);
  }

  flush(): void {
    if (this.#touched === undefined) return;
    for (const part of rows(this.state, 'playground', this.#touched, profileOf)) {
      const held = this.rows.get(part.table) ?? new Map<string, Row>();
      this.rows.set(part.table, held);
      const keys: Record<string, [string[], string | null]> = {
        epochs_raw: [['epoch'], 'epoch'],
        hashrates_raw: [['height', 'window'], 'height'],
        contracts_raw: [['contract_id'], null],
        payouts_raw: [['contract_id', 'epoch'], 'epoch'],
      };
      const [key, scope] = keys[part.table]!;
      for (const [id, row] of held) if (scope === null || (row[scope] as number) >= part.from) held.delete(id);
      for (const row of part.rows) held.set(key.map((name) => row[name]).join('/'), row);
    }
    this.#touched = undefined;
  }

  all(): Tables {
    const order = (a: Row, b: Row) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
    return Object.fromEntries([...this.rows].map(([table, held]) => [table, [...held.values()].sort(order)]));
  }
}

test('rows kept step by step through reorganisations equal rows made at once from the chain that remains', () => {
  const seed = newSeed();
  for (let round = 0; round < 8; round++) {
    const random = randomFrom(seed + round);
    const contracts = [
      contract({ from_height: 20, skip_payouts: 1 }),
      contract({
        contract_id: 'c2',
        from_height: 0,
        from_time_us: (START_S + 150) * 1e6,
        to_time_us: (START_S + 400) * 1e6,
      }),
      contract({ kind: 'changed', contract_seq: 1, from_height: 55, tip_height: 40, hashrate_hps: '7' }),
    ];
    const kept = new Kept();
    const stack = chainOf(0, 0);
    let seq = 1;
    const take = (event: BlockEvent) => {
      kept.take({ topic: 'block', event: { ...event, chain_seq: seq } });
      seq += 1;
    };
    take(stack[0]!);
    const target = 60 + random(60);
    while (stack.length < target) {
      if (random(12) === 0) {
        for (let depth = random(30); depth >= 0 && stack.length > 1; depth--)
          take({ ...stack.pop()!, kind: 'disconnected' });
      }
      const height = stack.length;
      const [next] = chainOf(
        height,
        height,
        () => ({
          branch: String(random(4)),
          timeS: START_S + height * 5 + random(4),
          feesSats: BigInt(random(5000)),
          bits: height >= 48 && height < 72 ? 0x1d00fff0 : 0x1d00ffff,
        }),
        stack.at(-1)!.hash,
      );
      stack.push(next!);
      take(next!);
      if (random(25) === 0 && contracts.length > 0) {
        kept.take({ topic: 'contract', event: contracts[random(contracts.length)]! });
      }
      if (random(3) === 0) kept.flush();
    }
    for (const event of contracts) kept.take({ topic: 'contract', event });
    kept.flush();
    const fresh = new Kept();
    for (const event of contracts) fresh.take({ topic: 'contract', event });
    for (const event of numbered(stack)) fresh.take({ topic: 'block', event });
    fresh.flush();
    expect(kept.all()).toEqual(fresh.all());
    expect(kept.all().payouts_raw!.length).toBeGreaterThan(1);
  }
});
