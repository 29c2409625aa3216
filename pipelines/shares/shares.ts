/** `share` events to rows of `shares_raw` (schemas/clickhouse/0001_shares.sql): one row per copy; the table keeps the winner of each identity. */
import { encodeEvent } from '../../schemas/codec.ts';
import type { ShareEvent } from '../../schemas/events.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import {
  dateTimeText,
  firstWrong,
  type Row,
  type RowPipeline,
  rankFrom,
  timeText,
  wrongCount,
  wrongDifficulty,
  wrongDouble,
  wrongHash,
  wrongHeight,
  wrongHex8,
  wrongInt,
  wrongText,
  wrongTime,
} from '../row.ts';
import { decimal18FromDouble } from './decimal.ts';
import { copyDigest } from './digest.ts';

const HOUR_S = 3600;

/** True where the hash is part of the identity, and with it ntime. */
function hasProof(share: ShareEvent): boolean {
  return share.accepted || share.kind === 'verdict';
}

/** Seconds since 1970 of the share's hour: a function of its identity, because copies may differ in everything else. */
export function bucketS(share: ShareEvent): number {
  // The ntime of refused shares is the sender's to choose, and would make partitions at will.
  const seconds = hasProof(share) ? Number.parseInt(share.ntime, 16) : Math.floor(share.time_us / 1e6);
  return Math.floor(seconds / HOUR_S) * HOUR_S;
}

/**
 * What decides between copies of the same grade and instant: a digest of the share as the current schema encodes it, so that
 * copies written by two versions tie with themselves, and the bytes of the log can be taken as they are; behind all others those without a height.
 *
 * @returns 14 hex digits, of which the first is 1 without a height, else 0
 */
function bodyDigest(body: Uint8Array, height: number): string {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return copyDigest(view, 0, body.length, height).toString(16).padStart(14, '0');
}

export const sharePipeline: RowPipeline<'share'> = {
  topic: 'share',
  table: 'shares_raw',

  wrong(share) {
    return firstWrong(
      wrongText('origin', share.origin),
      wrongTime('time_us', share.time_us),
      wrongCount('time_ns', share.time_ns, 999),
      wrongCount('client_id', share.client_id, Number.MAX_SAFE_INTEGER),
      wrongHeight(share.height),
      wrongInt('errn', share.errn),
      wrongDifficulty('diff', share.diff),
      wrongDouble('sdiff', share.sdiff),
      wrongHash('hash', share.hash, !hasProof(share)),
      wrongHash('block_hash', share.block_hash, true),
      hasProof(share) ? wrongHex8('ntime', share.ntime) : null,
      // Its minute, and the bucket where there is no proof, are DateTime: 32 bits.
      wrongCount('seconds of time_us', Math.floor(share.time_us / 1e6), 0xffff_ffff),
    );
  },

  row(share): Row {
    const identity = shareIdentity(share);
    const instantNs = BigInt(share.time_us) * 1000n + BigInt(share.time_ns);
    return {
      origin: share.origin,
      bucket: dateTimeText(bucketS(share)),
      identity,
      kind: share.kind,
      instance: share.instance,
      source: share.source,
      time: timeText(share.time_us),
      time_ns: share.time_ns,
      client_id: share.client_id,
      listener: share.listener,
      job_id: share.job_id,
      job_key: share.job_key,
      height: share.height,
      user: share.user,
      worker: share.worker,
      agent: share.agent,
      address: share.address,
      accepted: share.accepted,
      errn: share.errn,
      reason: share.reason,
      diff: decimal18FromDouble(share.diff),
      sdiff: share.sdiff,
      // Where the hash is the identity, the views read it there.
      hash: identity === share.hash ? '' : share.hash,
      block_hash: share.block_hash,
      enonce1: share.enonce1,
      nonce2: share.nonce2,
      nonce: share.nonce,
      ntime: share.ntime,
      version_bits: share.version_bits,
      upstream: share.upstream,
      rank: rankFrom(share.source === 'live' ? 1 : 0, instantNs, bodyDigest(encodeEvent('share', share), share.height)),
    };
  },
};
