/**
 * What makes two events one. Delivery is at least once everywhere; these keys make it count once.
 * The same value is the key of the Kafka record, so that copies meet in one partition.
 */
import { hash } from 'node:crypto';
import type { Events, Inputs, Topic } from './events.ts';

/** CKPool's `createdate`: seconds, a comma, nanoseconds without padding. */
export function createdate(timeUs: number, timeNs = 0): string {
  const seconds = Math.floor(timeUs / 1e6);
  return `${seconds},${(timeUs - seconds * 1e6) * 1000 + timeNs}`;
}

/**
 * Identity of a share within its origin: the proof-of-work hash where accepted, else 32 hex digits of a digest of what came and when.
 * Neither the job nor the reason's words are part of it: share logs file unknown jobs under the current one, and words change. Hex counts in
 * lower case: a miner may send capitals, and a reader may fold them.
 */
export function shareIdentity(share: Inputs['share']): string {
  if (share.kind === 'verdict') return `verdict:${share.hash}:${share.upstream ?? ''}`;
  if (share.accepted) return share.hash;
  const received = createdate(share.time_us, share.time_ns);
  const text = [share.enonce1, share.nonce2, share.nonce, share.ntime, share.errn, received].join('|');
  return hash('sha256', text.toLowerCase(), 'hex').slice(0, 32);
}

type PositionOf = { readonly instance: string; readonly run: string; readonly sequence: number };

/** The key of any event; `position` serves sessions, which have no identity but where they stand in the journal. */
export function eventKey<T extends Topic>(topic: T, event: Events[T] | Inputs[T], position: PositionOf): string {
  switch (topic) {
    case 'share': {
      const share = event as Inputs['share'];
      return `${share.origin}/${shareIdentity(share)}`;
    }
    case 'job':
      return (event as Inputs['job']).job_key;
    case 'block': {
      const block = event as Inputs['block'];
      return block.kind === 'solved' ? block.hash : `${block.chain}/${block.follower}`;
    }
    case 'contract':
      return (event as Inputs['contract']).contract_id;
    case 'quarantine': {
      const { origin, path, line, reason } = event as Inputs['quarantine'];
      return `${origin}/${path}:${line === 0 ? reason : line}`;
    }
    case 'epoch': {
      const { chain, epoch, closing_hash, chain_seq, kind } = event as Inputs['epoch'];
      return `${chain}/${epoch}/${closing_hash}/${chain_seq}/${kind}`;
    }
    case 'hashrate': {
      const { chain, height, hash, chain_seq, kind } = event as Inputs['hashrate'];
      return `${chain}/${height}/${hash}/${chain_seq}/${kind}`;
    }
    case 'payout': {
      const { payout_id, chain_seq, kind } = event as Inputs['payout'];
      return `${payout_id}/${chain_seq}/${kind}`;
    }
    default:
      return `${position.instance}/${position.run}/${position.sequence}`;
  }
}

type Work = Pick<
  Inputs['job'],
  'prev_hash' | 'coinbase1' | 'coinbase2' | 'merkle_branch' | 'nbits' | 'enonce1_bytes' | 'nonce2_bytes'
>;

/** Digest of a job's content without its version and time, 32 hex digits: jobs that agree in it may have the same headers. */
export function workDigest(job: Work): string {
  const parts = [
    job.prev_hash,
    job.coinbase1,
    job.coinbase2,
    job.merkle_branch.join(','),
    job.nbits,
    job.enonce1_bytes,
    job.nonce2_bytes,
  ];
  return hash('sha256', parts.join('|'), 'hex').slice(0, 32);
}

/** `job_key`: the origin and a digest of all that decides a job's headers, apart from what the miner puts in. */
export function jobIdentity(job: Work & Pick<Inputs['job'], 'origin' | 'version' | 'version_mask' | 'ntime'>): string {
  const parts = [workDigest(job), job.version, job.version_mask, job.ntime];
  return `${job.origin}/${hash('sha256', parts.join('|'), 'hex').slice(0, 32)}`;
}
