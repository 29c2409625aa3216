/** Events with all required fields, numbered, for tests of the log. */
import type { Inputs } from '../../schemas/events.ts';
import type { LogEntry } from '../../services/core/log/event-log.ts';

export function sampleShare(n: number, more: Partial<Inputs['share']> = {}): Inputs['share'] {
  return {
    origin: 'test',
    instance: 'pool-0',
    source: 'live',
    time_us: 1_700_000_000_000_000 + n,
    client_id: 7,
    listener: '127.0.0.1:3333',
    job_id: '6551f3a000000001',
    job_key: `test/${'ab'.repeat(16)}`,
    height: 840_000,
    user: 'alice',
    worker: `alice.rig${n % 10}`,
    agent: 'cpuminer/2.5.1',
    address: '127.0.0.1',
    accepted: true,
    errn: 0,
    diff: 1,
    sdiff: 1.5 + n,
    hash: n.toString(16).padStart(64, '0'),
    enonce1: '00000001',
    nonce2: n.toString(16).padStart(16, '0'),
    nonce: (n % 2 ** 32).toString(16).padStart(8, '0'),
    ntime: '6551f3a0',
    ...more,
  };
}

export function sampleJob(n: number): Inputs['job'] {
  return {
    origin: 'test',
    instance: 'pool-0',
    time_us: 1_700_000_000_000_000 + n,
    job_id: n.toString(16).padStart(16, '0'),
    job_key: `test/${n.toString(16).padStart(32, '0')}`,
    chain: 'regtest',
    pow: 'sha256d',
    height: 100 + n,
    prev_hash: 'cd'.repeat(32),
    coinbase1: '01000000',
    coinbase2: 'ffffffff',
    enonce1_bytes: 4,
    nonce2_bytes: 8,
    merkle_branch: ['ef'.repeat(32), '01'.repeat(32)],
    version: '20000000',
    version_mask: '1fffe000',
    nbits: '207fffff',
    ntime: '6551f3a0',
    clean: true,
    network_diff: 4.6e-10,
  };
}

export function sampleSession(n: number): Inputs['session'] {
  return { kind: 'connected', origin: 'test', instance: 'pool-0', time_us: 1_700_000_000_000_000 + n, client_id: n };
}

export function sampleBlock(more: Partial<Inputs['block']> = {}): Inputs['block'] {
  return {
    kind: 'connected',
    chain: 'regtest',
    instance: 'chain',
    follower: 'chain',
    chain_seq: 1,
    time_us: 1_760_000_000_000_000,
    height: 1,
    hash: '01'.repeat(32),
    prev_hash: '00'.repeat(32),
    block_time_us: 1_760_000_000_000_000,
    nbits: '207fffff',
    version: '20000000',
    ...more,
  };
}

export function sampleContract(n: number): Inputs['contract'] {
  return {
    kind: 'opened',
    contract_id: `c${n}`,
    contract_seq: 0,
    time_us: 1_700_000_000_000_000 + n,
    chain: 'regtest',
  };
}

export function shareEntries(from: number, count: number): LogEntry[] {
  return Array.from({ length: count }, (_, i) => ({ topic: 'share', event: sampleShare(from + i) }));
}
