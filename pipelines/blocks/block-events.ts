/** `block` events to rows of `block_events_raw`: one row per copy; the views `block_events` and `blocks` read them. */
import type { BlockEvent } from '../../schemas/events.ts';
import { bitsFromHex, targetFromBits, workFromTarget } from '../../services/core/bitcoin/target.ts';
import {
  firstWrong,
  type Row,
  type RowPipeline,
  rankOf,
  timeText,
  timeTextOrNull,
  wrongAmount,
  wrongCount,
  wrongDifficulty,
  wrongDouble,
  wrongHash,
  wrongHeight,
  wrongHex8,
  wrongText,
  wrongTime,
} from '../row.ts';
import { decimal18FromDouble } from '../shares/decimal.ts';

/** The key of a chain event within its chain, and of a block of ours. */
function blockEventIdentity(event: BlockEvent): string {
  return event.kind === 'solved' ? `solved/${event.hash}` : `${event.follower}/${event.chain_seq}`;
}

/** Of a block that only CKPool's log tells of, most of the header may be unknown. */
function isBackfill(event: BlockEvent): boolean {
  return event.kind === 'solved' && event.source === 'backfill';
}

function wrongBits(hex: string): string | null {
  const wrong = wrongHex8('nbits', hex);
  if (wrong !== null) return wrong;
  try {
    return targetFromBits(bitsFromHex(hex)) > 0n ? null : `nbits: expected a target above 0, got ${hex}`;
  } catch (error) {
    return `nbits: ${(error as Error).message}`;
  }
}

const MAX_32 = 0xffff_ffff;
const LAST_INSTANT_NS = (1n << 64n) - 1n;

/** Why a block event breaks a stated constraint, or null. */
function wrongBlockEvent(event: BlockEvent): string | null {
  const solved = event.kind === 'solved';
  return firstWrong(
    wrongText('chain', event.chain),
    wrongText('kind', event.kind),
    solved ? null : wrongText('follower', event.follower),
    wrongCount('chain_seq', event.chain_seq, Number.MAX_SAFE_INTEGER),
    wrongTime('time_us', event.time_us),
    wrongHeight(event.height),
    wrongHash('hash', event.hash),
    wrongHash('prev_hash', event.prev_hash, isBackfill(event)),
    wrongTime('block_time_us', event.block_time_us),
    wrongTime('median_time_us', event.median_time_us),
    isBackfill(event) && event.nbits === '' ? null : wrongBits(event.nbits),
    wrongCount('tx_count', event.tx_count, MAX_32),
    wrongCount('size_bytes', event.size_bytes, Number.MAX_SAFE_INTEGER),
    wrongCount('confirmations', event.confirmations, MAX_32),
    wrongAmount('subsidy_sats', event.subsidy_sats),
    wrongAmount('fees_sats', event.fees_sats),
    wrongAmount('coinbase_value_sats', event.coinbase_value_sats),
    wrongDifficulty('diff', event.diff),
    wrongDouble('sdiff', event.sdiff),
    ...event.coinbase_outputs.map((output) => wrongAmount('coinbase_outputs[].value_sats', output.value_sats)),
    ...event.answers.map((answer) => wrongTime('answers[].time_us', answer.time_us)),
  );
}

export const blockEventPipeline: RowPipeline<'block'> = {
  topic: 'block',
  table: 'block_events_raw',
  wrong: wrongBlockEvent,

  row(event): Row {
    const target = event.nbits === '' ? 0n : targetFromBits(bitsFromHex(event.nbits));
    const row = {
      chain: event.chain,
      identity: blockEventIdentity(event),
      kind: event.kind,
      origin: event.origin,
      instance: event.instance,
      follower: event.follower,
      chain_seq: event.chain_seq,
      time: timeText(event.time_us),
      height: event.height,
      hash: event.hash,
      prev_hash: event.prev_hash,
      block_time: timeText(event.block_time_us),
      median_time: timeTextOrNull(event.median_time_us),
      nbits: event.nbits,
      target: target.toString(),
      work: target === 0n ? '0' : workFromTarget(target).toString(),
      version: event.version,
      tx_count: event.tx_count,
      size_bytes: event.size_bytes,
      subsidy_sats: event.subsidy_sats,
      fees_sats: event.fees_sats,
      coinbase_value_sats: event.coinbase_value_sats,
      coinbase_script: event.coinbase_script,
      coinbase_outputs: event.coinbase_outputs,
      ours: event.ours,
      confirmations: event.confirmations,
      job_key: event.job_key,
      job_id: event.job_id,
      user: event.user,
      worker: event.worker,
      diff: decimal18FromDouble(event.diff),
      sdiff: event.sdiff,
      answers: event.answers.map(({ node, answer, time_us }) => ({ node, answer, time: timeText(time_us) })),
      candidate: event.candidate,
    };
    // A solved block may be told twice, first without the nodes' answers: the fuller one wins. Any live one comes before a back-filled one,
    // which has the last of all instants. Who tells it is no part of the digest, so that the order of live copies is what it always was.
    const rank = isBackfill(event)
      ? rankOf(0, LAST_INSTANT_NS, row)
      : rankOf(Math.min(event.answers.length, 255), BigInt(event.time_us) * 1000n, row);
    return { ...row, source: event.source, rank };
  },
};
