/** Chains of block events for tests: linked, with times and bits as told. */
import { hash } from 'node:crypto';
import { decoderFor, encodeEvent } from '../../schemas/codec.ts';
import type { BlockEvent, ContractEvent, Inputs } from '../../schemas/events.ts';
import { bitsHex } from '../../services/core/bitcoin/target.ts';

export const START_S = 1_700_000_000;

/** An event as it comes out of the log: with its defaults. */
export function blockFrom(input: Inputs['block']): BlockEvent {
  return decoderFor('block')(encodeEvent('block', input));
}

export function contractFrom(input: Inputs['contract']): ContractEvent {
  return decoderFor('contract')(encodeEvent('contract', input));
}

export interface BlockSpec {
  readonly height: number;
  readonly prev: string;
  /** What makes two blocks of one height different. */
  readonly branch?: string;
  readonly timeS?: number;
  readonly bits?: number;
  readonly subsidySats?: bigint;
  readonly feesSats?: bigint;
  readonly ours?: boolean;
  readonly scripts?: readonly string[];
  readonly chain?: string;
}

/** A block, connected, without a number yet. */
export function block(spec: BlockSpec): BlockEvent {
  const timeS = spec.timeS ?? START_S + spec.height * 5;
  const name = hash('sha256', JSON.stringify([spec.height, spec.prev, spec.branch ?? '']), 'hex');
  return blockFrom({
    kind: 'connected',
    chain: spec.chain ?? 'playground',
    instance: 'chain',
    follower: 'chain',
    chain_seq: 0,
    time_us: timeS * 1e6,
    height: spec.height,
    hash: name,
    prev_hash: spec.prev,
    block_time_us: timeS * 1e6,
    median_time_us: (timeS - 25) * 1e6,
    nbits: bitsHex(spec.bits ?? 0x1d00ffff),
    version: '20000000',
    subsidy_sats: String(spec.subsidySats ?? 5_000_000_000n),
    fees_sats: String(spec.feesSats ?? 1000n),
    coinbase_outputs: (spec.scripts ?? ['51']).map((script) => ({ script, value_sats: '1' })),
    ours: spec.ours ?? false,
  });
}

export const NO_PARENT = '0'.repeat(64);

/** Blocks from a height on, each the parent of the next. */
export function chainOf(
  from: number,
  to: number,
  spec: (height: number) => Partial<BlockSpec> = () => ({}),
  prev = NO_PARENT,
): BlockEvent[] {
  const blocks: BlockEvent[] = [];
  for (let height = from; height <= to; height++) {
    blocks.push(block({ height, prev: blocks.at(-1)?.hash ?? prev, ...spec(height) }));
  }
  return blocks;
}

/** Gives events their rising numbers. */
export function numbered(events: readonly BlockEvent[], first = 1): BlockEvent[] {
  return events.map((event, i) => ({ ...event, chain_seq: first + i }));
}

/** The generator of Park and Miller. */
export function randomFrom(seed: number): (below: number) => number {
  let state = (seed % 2147483646) + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
}

export function newSeed(): number {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed ${seed} (SEED=${seed} repeats it)`);
  return seed;
}
