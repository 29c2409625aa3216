/**
 * Twenty epochs with random block times and reorganisations, of every retarget rule, on chains whose nBits are worked out here by hand: rows kept step by
 * step equal those made at once from the chain that remains, and every closing's nBits are the ones predicted.
 */
import { expect, test } from 'vitest';
import { bestChain, evolveChain, initialChain } from '../../../pipelines/chain/best-chain.ts';
import { type DerivedEvent, evolve, initial, mergeTouched, rows, type Touched } from '../../../pipelines/derived.ts';
import { epochRows } from '../../../pipelines/epochs/epochs.ts';
import type { Row } from '../../../pipelines/row.ts';
import type { BlockEvent } from '../../../schemas/events.ts';
import { bitsFromHex, bitsFromTarget, bitsHex, targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { type ChainProfile, loadChain } from '../../../services/core/chains/profile.ts';
import { block, chainOf, NO_PARENT, newSeed, numbered, randomFrom, START_S } from '../blocks.ts';

const playground = loadChain('playground');
const LIMIT = targetFromBits(0x1f7fffff);

type Rule = ChainProfile['retarget']['rule'];

function chainWith(rule: Rule, blocks: number, spacingS: number, minDifficultyAfterS?: number): ChainProfile {
  return {
    ...playground,
    pow_limit: LIMIT,
    payout_blocks: blocks,
    target_spacing_s: spacingS,
    confirmations: 3,
    retarget: {
      rule,
      interval: blocks,
      ...(minDifficultyAfterS === undefined ? {} : { min_difficulty_after_s: minDifficultyAfterS }),
    },
  };
}

/** nBits of the next block as the nodes of each rule work them out, in whole numbers: Bitcoin Core's pow.cpp, Litecoin's, BIP 94. */
function nextBits(profile: ChainProfile, stack: readonly BlockEvent[], timeS: number): number {
  const { rule, interval, min_difficulty_after_s: after } = profile.retarget;
  const height = stack.length;
  const bitsAt = (h: number): number => bitsFromHex(stack[h]!.nbits);
  const timeAt = (h: number): number => stack[h]!.block_time_us / 1e6;
  if (height === 0) return 0x1e7fffff;
  if (rule === 'none') return bitsAt(height - 1);
  if (height % interval !== 0) {
    const easiest = bitsFromTarget(LIMIT);
    if (after !== undefined && timeS > timeAt(height - 1) + after) return easiest;
    let last = height - 1;
    if (after !== undefined) while (last > 0 && last % interval !== 0 && bitsAt(last) === easiest) last--;
    return bitsAt(last);
  }
  // A rule that nobody here knows: something else each time.
  if (rule === 'header') return 0x1e7fffff - (height % 1000);
  const back = rule === 'litecoin' && height !== interval ? interval : interval - 1;
  const period = interval * profile.target_spacing_s;
  let actual = timeAt(height - 1) - timeAt(height - 1 - back);
  if (actual < Math.floor(period / 4)) actual = Math.floor(period / 4);
  if (actual > period * 4) actual = period * 4;
  const base = targetFromBits(bitsAt(rule === 'bip94' ? height - interval : height - 1));
  const target = (base * BigInt(actual)) / BigInt(period);
  return bitsFromTarget(target > LIMIT ? LIMIT : target);
}

/** Rows kept as the consumers keep them. */
class Kept {
  readonly state = initial();
  readonly tables = new Map<string, Map<string, Row>>();
  readonly #profile: ChainProfile;
  #touched: Touched | undefined;

  constructor(profile: ChainProfile) {
    this.#profile = profile;
  }

  take(input: DerivedEvent): void {
    const change = evolve(this.state, input);
    if (change !== null) this.#touched = mergeTouched(this.#touched, change.touched);
  }

  flush(): this {
    if (this.#touched === undefined) return this;
    for (const part of rows(this.state, 'playground', this.#touched, () => this.#profile)) {
      const held = this.tables.get(part.table) ?? new Map<string, Row>();
      this.tables.set(part.table, held);
      const scope = part.table === 'hashrates_raw' ? 'height' : 'epoch';
      for (const [id, row] of held) if (((row[scope] ?? 0) as number) >= part.from) held.delete(id);
      for (const row of part.rows) held.set(JSON.stringify([row[scope] ?? row.contract_id, row.window]), row);
    }
    this.#touched = undefined;
    return this;
  }

  all(): Record<string, Row[]> {
    const order = (a: Row, b: Row) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
    return Object.fromEntries([...this.tables].map(([table, held]) => [table, [...held.values()].sort(order)]));
  }
}

const seed = newSeed();

test.each<[string, ChainProfile]>([
  ['bitcoin', chainWith('bitcoin', 24, 5)],
  ['bitcoin, whose B·T is no multiple of four', chainWith('bitcoin', 9, 7)],
  ['bitcoin, B = 2', chainWith('bitcoin', 2, 5)],
  ['bitcoin with blocks of minimum difficulty, as testnet3', chainWith('bitcoin', 12, 5, 10)],
  ['bip94 with blocks of minimum difficulty, as testnet4', chainWith('bip94', 12, 5, 10)],
  ['litecoin', chainWith('litecoin', 24, 5)],
  ['litecoin, B = 2', chainWith('litecoin', 2, 5)],
  ['none', chainWith('none', 24, 5)],
  ['header', chainWith('header', 24, 5)],
])(
  '%s: twenty epochs, reorganisations of depth 1 to 10 across their borders, our blocks orphaned and back',
  (name, profile) => {
    let reorganisations = 0;
    let crossed = 0;
    let back = 0;
    for (let round = 0; round < 2; round++) {
      const random = randomFrom(seed + round);
      const where = `seed ${seed} ${name} round ${round}`;
      const kept = new Kept(profile);
      const stack: BlockEvent[] = [];
      let seq = 0;
      let quiet = 0;
      const connect = (event: BlockEvent): void => {
        stack.push(event);
        kept.take({ topic: 'block', event: { ...event, kind: 'connected', chain_seq: ++seq } });
      };
      const disconnect = (depth: number): BlockEvent[] => {
        const gone: BlockEvent[] = [];
        while (gone.length < depth && stack.length > 1) {
          gone.unshift(stack.pop()!);
          kept.take({ topic: 'block', event: { ...gone[0]!, kind: 'disconnected', chain_seq: ++seq } });
        }
        return gone;
      };
      const grow = (): void => {
        const last = stack.at(-1);
        // Mostly near what is meant, at times far off, or back in time.
        const gapS =
          random(9) === 0
            ? random(12 * profile.target_spacing_s)
            : random(2 * profile.target_spacing_s + 1) - (random(6) === 0 ? 6 : 0);
        const timeS = last === undefined ? START_S : Math.max(START_S, last.block_time_us / 1e6 + gapS);
        connect(
          block({
            height: stack.length,
            prev: last?.hash ?? NO_PARENT,
            branch: String(random(2 ** 30)),
            timeS,
            bits: nextBits(profile, stack, timeS),
            feesSats: BigInt(random(5000)),
            ours: random(4) === 0,
          }),
        );
      };
      const compare = (): void => {
        const fresh = new Kept(profile);
        for (const event of numbered(stack)) fresh.take({ topic: 'block', event });
        expect(kept.flush().all(), where).toEqual(fresh.flush().all());
      };
      while (stack.length <= Math.max(20 * profile.payout_blocks + 5, 150)) {
        grow();
        quiet += 1;
        if (random(12) !== 0 && quiet < 20) continue;
        quiet = 0;
        const depth = random(10) + 1;
        const before = Math.floor((stack.length - 1) / profile.payout_blocks);
        const lost = disconnect(depth);
        if (random(3) === 0) kept.flush();
        reorganisations += 1;
        if (Math.floor((stack.length - 1) / profile.payout_blocks) < before) crossed += 1;
        for (let n = 0; n <= depth; n++) grow();
        compare();
        // At times the old branch wins after all: our blocks on it are there again.
        if (random(3) === 0) {
          disconnect(depth + 1);
          for (const each of lost) connect(each);
          if (lost.some(({ ours }) => ours)) back += 1;
          grow();
          compare();
        }
      }
      compare();
      const closed = kept.all().epochs_raw!.filter(({ status }) => status !== 'open');
      expect(closed.length, where).toBeGreaterThanOrEqual(20);
      for (const row of closed) {
        expect(row.next_nbits, where).toBe(stack[(row.last_height as number) + 1]!.nbits);
        expect(row.next_nbits_alarm, where).toBe(false);
        expect(row.next_nbits_predicted, where).toBe(profile.retarget.rule === 'header' ? '' : row.next_nbits);
      }
    }
    expect(reorganisations, `seed ${seed}`).toBeGreaterThan(5);
    expect(crossed + back, `seed ${seed}`).toBeGreaterThan(0);
  },
);

function rowsOf(profile: ChainProfile, blocks: readonly BlockEvent[]): Row[] {
  const state = initialChain();
  for (const event of numbered(blocks)) evolveChain(state, event);
  return epochRows(bestChain(state), profile, 0);
}

test('Litecoin spans all B intervals but the first time, when there is no block before the first', () => {
  const profile = chainWith('litecoin', 4, 10);
  // Blocks 0 to 8; between block 3 and 4 an hour passes, which belongs to the second epoch's span and to no span of Bitcoin's.
  const times = [0, 10, 20, 30, 3630, 3640, 3650, 3660, 3670];
  const chain = (bits: number) =>
    chainOf(0, 8, (height) => ({ timeS: START_S + times[height]!, bits: height < 8 ? 0x1d00ffff : bits }));
  const [first, second] = rowsOf(profile, chain(0x1d00ffff));
  expect(first).toMatchObject({ retarget_actual_s: 30 });
  expect(second).toMatchObject({ retarget_actual_s: 3630 });
  expect(rowsOf(chainWith('bitcoin', 4, 10), chain(0x1d00ffff))[1]).toMatchObject({ retarget_actual_s: 30 });
  // Clamped to 4 · 40 s: the target times four.
  const four = bitsHex(bitsFromTarget(targetFromBits(0x1d00ffff) * 4n));
  expect(second).toMatchObject({ next_nbits_predicted: four, next_nbits_alarm: true });
  expect(rowsOf(profile, chain(bitsFromHex(four)))[1]).toMatchObject({ next_nbits_alarm: false });
  // Followed from block 4 on, the block that the span begins with is not known: nothing is predicted, nothing alarms.
  expect(rowsOf(profile, chain(0x1d00ffff).slice(4))[0]).toMatchObject({
    epoch: 1,
    retarget_actual_s: null,
    next_nbits_predicted: '',
    next_nbits_alarm: false,
  });
});

test('while an epoch of a testnet is open a tip of minimum difficulty does not decide the forecast', () => {
  const profile = chainWith('bitcoin', 4, 10, 20);
  const bits = [0x1d00ffff, 0x1d00ffff, bitsFromTarget(LIMIT)];
  const [open] = rowsOf(
    profile,
    chainOf(0, 2, (height) => ({ timeS: START_S + 10 * height, bits: bits[height]! })),
  );
  // 30 s of 40 s expected.
  const forecast = bitsHex(bitsFromTarget((targetFromBits(0x1d00ffff) * 30n) / 40n));
  expect(open).toMatchObject({ status: 'open', retarget_actual_s: 30, next_nbits: forecast });
});

test('a forecast of a fresh epoch, or of one whose times run backwards, takes the pace that the chain intends', () => {
  const profile = chainWith('bitcoin', 4, 10);
  const [one] = rowsOf(
    profile,
    chainOf(0, 0, () => ({ timeS: START_S })),
  );
  expect(one).toMatchObject({ blocks: 1, retarget_actual_s: 30, hashrate_hps: null });
  const [two] = rowsOf(
    profile,
    chainOf(0, 1, (height) => ({ timeS: START_S - height })),
  );
  expect(two).toMatchObject({
    blocks: 2,
    span_s: -1,
    hashrate_hps: null,
    hashrate_formula_hps: null,
    retarget_actual_s: 19,
  });
});
