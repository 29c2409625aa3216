/** `job` events to rows of `jobs_raw`: one row per copy, deduplicated by `job_key`. */
import {
  firstWrong,
  type Row,
  type RowPipeline,
  rankOf,
  timeText,
  wrongAmount,
  wrongCount,
  wrongDouble,
  wrongHash,
  wrongHeight,
  wrongHex8,
  wrongInt,
  wrongText,
  wrongTime,
} from '../row.ts';

export const jobPipeline: RowPipeline<'job'> = {
  topic: 'job',
  table: 'jobs_raw',

  wrong(job) {
    return firstWrong(
      wrongText('origin', job.origin),
      wrongText('job_key', job.job_key),
      wrongText('chain', job.chain),
      wrongTime('time_us', job.time_us),
      wrongHeight(job.height),
      wrongHash('prev_hash', job.prev_hash),
      wrongCount('enonce1_bytes', job.enonce1_bytes, 0xffff),
      wrongCount('nonce2_bytes', job.nonce2_bytes, 0xffff),
      wrongInt('tx_count', job.tx_count),
      wrongHex8('nbits', job.nbits),
      wrongHex8('ntime', job.ntime),
      wrongHex8('version', job.version),
      wrongDouble('network_diff', job.network_diff),
      wrongAmount('subsidy_sats', job.subsidy_sats, true),
      wrongAmount('fees_sats', job.fees_sats, true),
      wrongAmount('coinbase_value_sats', job.coinbase_value_sats, true),
    );
  },

  row(job): Row {
    const row = {
      origin: job.origin,
      job_key: job.job_key,
      instance: job.instance,
      time: timeText(job.time_us),
      job_id: job.job_id,
      chain: job.chain,
      pow: job.pow,
      height: job.height,
      prev_hash: job.prev_hash,
      coinbase1: job.coinbase1,
      coinbase2: job.coinbase2,
      enonce1_bytes: job.enonce1_bytes,
      nonce2_bytes: job.nonce2_bytes,
      merkle_branch: job.merkle_branch,
      version: job.version,
      version_mask: job.version_mask,
      nbits: job.nbits,
      ntime: job.ntime,
      clean: job.clean,
      network_diff: job.network_diff,
      subsidy_sats: job.subsidy_sats || null,
      fees_sats: job.fees_sats || null,
      coinbase_value_sats: job.coinbase_value_sats || null,
      tx_count: job.tx_count,
      upstream: job.upstream,
      upstream_job_id: job.upstream_job_id,
    };
    return { ...row, rank: rankOf(0, BigInt(job.time_us) * 1000n, row) };
  },
};
