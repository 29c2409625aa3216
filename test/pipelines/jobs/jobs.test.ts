import { expect, test } from 'vitest';
import { jobPipeline } from '../../../pipelines/jobs/jobs.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Inputs } from '../../../schemas/events.ts';

const JOB: Inputs['job'] = {
  ...{ origin: 'ckpool', instance: 'ckpool', time_us: 1_790_000_000_000_000, job_id: '1', job_key: 'ckpool/1' },
  ...{ chain: 'bitcoin', pow: 'sha256d', height: 100, prev_hash: '0'.repeat(64), coinbase1: '01', coinbase2: '02' },
  ...{ enonce1_bytes: 4, nonce2_bytes: 8, merkle_branch: [], version: '20000000', version_mask: '1fffe000' },
  ...{ nbits: '1d00ffff', ntime: '68f0a1b2', clean: true, network_diff: 1 },
};

test('a number beyond the 32 bits of its column, which a reader of bytes takes and no writer has, is poison', () => {
  const job = decoderFor('job')(encodeEvent('job', JOB));
  for (const count of [-1, 0, 2 ** 31 - 1, -(2 ** 31)]) {
    expect(jobPipeline.wrong({ ...job, tx_count: count } as typeof job)).toBeNull();
  }
  for (const count of [2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 2]) {
    expect(jobPipeline.wrong({ ...job, tx_count: count } as typeof job)).toMatch(/^tx_count: expected 32 bits/);
  }
});
