import { expect, test } from 'vitest';
import { type Derivation, dueOf, Published } from '../../../pipelines/derivations/derivations.ts';
import type { DerivationTopic } from '../../../pipelines/derivations/topics.ts';
import {
  type DerivedEvent,
  type DerivedState,
  evolve,
  initial,
  mergeTouched,
  rows,
  type Touched,
} from '../../../pipelines/derived.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { BlockEvent, EpochEvent, Events, HashrateEvent, PayoutEvent } from '../../../schemas/events.ts';
import { eventKey } from '../../../schemas/identity.ts';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { chainOf, contractFrom, newSeed, numbered, randomFrom, START_S } from '../blocks.ts';

/** B = 24, final 3 above the closing block. */
const playground = loadChain('playground');
const profileOf = () => playground;
const EVERYTHING: Touched = { fromHeight: 0, contracts: true };

const contract = contractFrom({
  ...{ kind: 'opened', contract_id: 'c1', contract_seq: 0, time_us: START_S * 1e6, chain: 'playground' },
  ...{ customer: 'a', payout_address: 'b', hashrate_hps: '1000000000', from_height: 10, skip_payouts: 1 },
});

/** A publisher: the fold, what the log says, and what was appended. */
class World {
  readonly state: DerivedState = initial();
  readonly log: Derivation[] = [];
  published = new Published();
  #touched: Touched | undefined;

  feed(...events: readonly DerivedEvent[]): this {
    for (const event of events) {
      const change = evolve(this.state, event);
      if (change !== null) this.#touched = mergeTouched(this.#touched, change.touched);
    }
    return this;
  }

  blocks(...events: readonly BlockEvent[]): this {
    return this.feed(...events.map((event) => ({ topic: 'block' as const, event })));
  }

  /** @returns what was appended, in words */
  step(touched = this.#touched): string[] {
    if (touched === undefined) return [];
    const { events, differences } = dueOf(this.state, this.published, 'playground', touched, profileOf);
    this.#touched = undefined;
    expect(differences).toEqual([]);
    for (const { topic, event } of events) this.published.take(topic, read(topic, event));
    this.log.push(...events);
    return events.map(words);
  }

  /** As after a restart: what was published is read from the log. @param log - in whatever order, copies too */
  restart(log: readonly Derivation[] = this.log): string[] {
    this.published = new Published();
    for (const { topic, event } of log) this.published.take(topic, read(topic, event));
    return this.step(EVERYTHING);
  }
}

/** As it comes out of the log. */
function read<T extends DerivationTopic>(topic: T, event: Derivation['event']): Events[T] {
  return decoderFor(topic)(encodeEvent(topic, event as Events[T]));
}

function words({ topic, event }: Derivation): string {
  if (topic === 'epoch') return `${event.kind} ${(event as EpochEvent).epoch}`;
  if (topic === 'hashrate') return `${event.kind} ${(event as HashrateEvent).height}`;
  return `${event.kind} ${(event as PayoutEvent).epoch}`;
}

const chainWords = (all: readonly string[]): string[] => all.filter((each) => !/^(measured|withdrawn)/.test(each));

/** What must hold of each topic, from nothing: the last word about each. */
function lastWords(state: DerivedState): Record<string, string> {
  const fresh = dueOf(state, new Published(), 'playground', EVERYTHING, profileOf).events;
  return Object.fromEntries(fresh.map(said));
}

function said({ topic, event }: Derivation): [string, string] {
  const content = JSON.stringify({ ...read(topic, event), chain_seq: 0, time_us: 0 });
  if (topic === 'epoch') return [`epoch ${(event as EpochEvent).epoch}`, content];
  if (topic === 'hashrate') return [`hashrate ${(event as HashrateEvent).height}`, content];
  return [`payout ${(event as PayoutEvent).payout_id}`, content];
}

test('a closing is said when block (n+1)·B is connected, that it is final `confirmations` later, a payout with it', () => {
  const world = new World().feed({ topic: 'contract', event: contract });
  const blocks = numbered(chainOf(0, 80));
  const told: string[] = [];
  for (const block of blocks) {
    for (const each of chainWords(world.blocks(block).step())) told.push(`${block.height}: ${each}`);
  }
  expect(told).toEqual([
    '24: closed 0',
    '27: final 0',
    '27: skipped 0',
    '48: closed 1',
    '51: final 1',
    '51: owed 1',
    '72: closed 2',
    '75: final 2',
    '75: owed 2',
  ]);
  expect(world.log.filter(({ topic }) => topic === 'hashrate')).toHaveLength(80);
});

test('an event says what the tables say, with the numbers and the time of the block that it is about', () => {
  const world = new World().feed({ topic: 'contract', event: contract }).blocks(...numbered(chainOf(0, 60)));
  world.step();
  const closed = world.log.find(({ topic, event }) => topic === 'epoch' && (event as EpochEvent).epoch === 1)!
    .event as EpochEvent;
  const tables = rows(world.state, 'playground', EVERYTHING, profileOf);
  const table = (name: string) => tables.find((each) => each.table === name)!.rows;
  const epoch = table('epochs_raw')[1]!;
  expect(closed).toMatchObject({ kind: 'closed', chain_seq: 49, time_us: (START_S + 48 * 5) * 1e6 });
  expect(closed.closing_hash).toBe(epoch.closing_hash);
  expect([closed.chain_work, closed.hashrate_hps, closed.span_s]).toEqual([
    epoch.work,
    epoch.hashrate_hps,
    epoch.span_s,
  ]);
  const owed = world.log.find(({ event }) => event.kind === 'owed')!.event as PayoutEvent;
  const payout = table('payouts_raw').find((row) => row.epoch === 1)!;
  expect(owed).toMatchObject({
    payout_id: payout.payout_id,
    amount_sats: payout.amount_sats,
    numerator: payout.numerator,
  });
  const last = world.log.findLast(({ topic }) => topic === 'hashrate')!.event as HashrateEvent;
  expect(last.windows.map(({ window_blocks }) => window_blocks)).toEqual([1, 10, 120, -1]);
  for (const window of last.windows) {
    const row = table('hashrates_raw').find((each) => each.height === 60 && each.window === window.window_blocks)!;
    expect(window.hashrate_hps).toBe(row.hashrate_hps);
  }
});

test('a closing that a reorganisation takes back gets an event of its own; the same block may close the epoch again', () => {
  const blocks = chainOf(0, 26);
  const world = new World();
  const seq = (events: BlockEvent[], first: number) => numbered(events, first);
  world.blocks(...seq(blocks, 1)).step();
  const off = [26, 25, 24].map((height) => ({ ...blocks[height]!, kind: 'disconnected' }));
  expect(chainWords(world.blocks(...seq(off, 28)).step())).toEqual(['reopened 0']);
  expect(chainWords(world.blocks(...seq(blocks.slice(24, 26), 31)).step())).toEqual(['closed 0']);
  const kinds = world.log.filter(({ topic }) => topic === 'epoch').map(({ event }) => event as EpochEvent);
  expect(kinds.map(({ kind, chain_seq }) => [kind, chain_seq])).toEqual([
    ['closed', 25],
    ['reopened', 25],
    ['closed', 31],
  ]);
  // Three identities: none of the three is swallowed as a copy of another.
  const place = { instance: '', run: '', sequence: 0 };
  expect(new Set(kinds.map((event) => eventKey('epoch', event, place))).size).toBe(3);
  // Another block in its place: taken back and closed in one step.
  const other = chainOf(24, 25, () => ({ branch: 'b' }), blocks[23]!.hash);
  const again = [25, 24].map((height) => ({ ...blocks[height]!, kind: 'disconnected' }));
  expect(world.blocks(...seq([...again, ...other], 33)).step()).toEqual([
    'reopened 0',
    'closed 0',
    'withdrawn 24',
    'withdrawn 25',
    'measured 24',
    'measured 25',
  ]);
});

test('a payout whose closing block is taken back below the final border is reversed', () => {
  const blocks = chainOf(0, 52);
  const world = new World().feed({ topic: 'contract', event: contract }).blocks(...numbered(blocks));
  expect(chainWords(world.step())).toContain('owed 1');
  const off = blocks
    .slice(48)
    .toReversed()
    .map((block) => ({ ...block, kind: 'disconnected' }));
  // The tip is lower, but the closing block stands: nothing is reversed yet.
  expect(chainWords(world.blocks(...numbered(off.slice(0, 4), 54)).step())).toEqual([]);
  expect(chainWords(world.blocks(...numbered(off.slice(4), 58)).step())).toEqual(['reopened 1', 'reversed 1']);
});

test('what is not known is not taken back', () => {
  const world = new World().feed({ topic: 'contract', event: contract }).blocks(...numbered(chainOf(0, 60)));
  world.step();
  // A fold that has the newer blocks alone, and one that has none.
  const late = new World().blocks(...numbered(chainOf(0, 90)).slice(61));
  late.published = world.published;
  expect(chainWords(late.step())).toEqual([]);
  expect(dueOf(initial(), world.published, 'playground', EVERYTHING, profileOf).events).toEqual([]);
});

test('what the log says otherwise is told as a difference, and left so', () => {
  const world = new World().feed({ topic: 'contract', event: contract }).blocks(...numbered(chainOf(0, 60)));
  world.step();
  const wrong = world.log.map((each): Derivation => {
    if (each.event.kind === 'owed')
      return { topic: 'payout', event: { ...(each.event as PayoutEvent), amount_sats: '1' } };
    if (each.event.kind === 'final')
      return { topic: 'epoch', event: { ...(each.event as EpochEvent), fees_sats: '1' } };
    return each;
  });
  const published = new Published();
  for (const { topic, event } of wrong) published.take(topic, read(topic, event));
  const due = dueOf(world.state, published, 'playground', EVERYTHING, profileOf);
  expect(due.events).toEqual([]);
  expect(due.differences.map(({ topic, about }) => [topic, about.slice(0, 12)])).toEqual([
    ['epoch', 'playground/0'],
    ['epoch', 'playground/1'],
    ['payout', expect.stringContaining('c1/1/')],
  ]);
});

test('after any history, with restarts and a log read in any order with copies, the last word about everything is what the final chain gives', () => {
  const seed = newSeed();
  for (let round = 0; round < 40; round++) {
    const random = randomFrom(seed + round);
    const world = new World().feed({ topic: 'contract', event: contract });
    const stack: BlockEvent[] = [];
    let seq = 0;
    const next = (event: BlockEvent): BlockEvent => ({ ...event, chain_seq: ++seq });
    for (let i = 0; i < 120; i++) {
      const events: BlockEvent[] = [];
      const depth = random(5) === 0 ? Math.min(random(10) + 1, stack.length) : 0;
      const gone: BlockEvent[] = [];
      for (let n = 0; n < depth; n++) {
        gone.push(stack.pop()!);
        events.push(next({ ...gone.at(-1)!, kind: 'disconnected' }));
      }
      // The old branch comes back one time of three.
      const back = gone.length > 0 && random(3) === 0 ? gone.toReversed() : [];
      const timeS = START_S + stack.length * 5 + random(20);
      const [fresh] = chainOf(
        stack.length,
        stack.length,
        () => ({ branch: String(i), timeS, ours: random(4) === 0 }),
        stack.at(-1)?.hash,
      );
      for (const block of back.length > 0 ? back : [fresh!]) {
        stack.push(block);
        events.push(next(block));
      }
      world.blocks(...events);
      if (random(3) > 0) world.step();
      if (random(15) === 0) {
        const log = [...world.log, ...world.log.filter(() => random(3) === 0)].sort(() => random(3) - 1);
        world.restart(log);
      }
    }
    world.step();
    expect(world.restart(), `seed ${seed} round ${round}: a restart says nothing twice`).toEqual([]);
    const identities = world.log.map(
      ({ topic, event }) => `${topic} ${eventKey(topic, event, { instance: '', run: '', sequence: 0 })}`,
    );
    expect(new Set(identities).size, `seed ${seed} round ${round}`).toBe(identities.length);
    // The log's last words that hold, by number and kind.
    const holds: Record<string, string> = {};
    const { epochs, payouts, hashrates } = world.published.of('playground');
    for (const event of epochs.values())
      if (event.kind !== 'reopened') Object.assign(holds, Object.fromEntries([said({ topic: 'epoch', event })]));
    for (const event of payouts.values())
      if (event.kind !== 'reversed') Object.assign(holds, Object.fromEntries([said({ topic: 'payout', event })]));
    const wanted = lastWords(world.state);
    for (const [name, content] of Object.entries(wanted)) {
      if (!name.startsWith('hashrate')) continue;
      const { hash } = JSON.parse(content) as HashrateEvent;
      const known = hashrates.get(Number(name.split(' ')[1]));
      expect([known?.kind, known?.hash], `seed ${seed} round ${round} ${name}`).toEqual(['measured', hash]);
      delete wanted[name];
    }
    // An epoch once final stays so while its closing block stands, though the tip was lower since.
    const plain = (all: Record<string, string>) =>
      Object.fromEntries(
        Object.entries(all).map(([name, content]) => [name, content.replace(/"kind":"(closed|final)",/, '')]),
      );
    expect(plain(holds), `seed ${seed} round ${round}`).toMatchObject(plain(wanted));
  }
});
