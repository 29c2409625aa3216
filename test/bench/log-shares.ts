/**
 * Shares of a pool as they are in life, for benches of the log: numbered and the same in each run, in order of receipt.
 *
 * 500 workers of 50 users, of 40 addresses and 8 kinds of software; a job every 30 s; difficulties that vardiff gives; hashes, nonces and extranonces
 * random, and as small as the difficulty asks. What repeats in them repeats in life; what does not cannot be compressed in life either.
 */
import { createHash } from 'node:crypto';
import { encodeEvent } from '../../schemas/codec.ts';
import type { Inputs } from '../../schemas/events.ts';
import type { EncodedEvents } from '../../services/core/log/event-log.ts';

const WORKERS = 500;
const USERS = 50;
const ADDRESSES = 40;
const JOB_S = 30;
/** 2026-11-22 06:00 UTC. */
const BEGIN_S = 1_795_327_200;
const AGENTS = [
  'cgminer/4.11.1',
  'bmminer/2.0.0/Antminer S19j Pro/6000',
  'bosminer-plus-tuner/0.9.1-a1b2c3d4',
  'whatsminer/v1.0',
  'cpuminer/2.5.1',
  'bitaxe/BM1370/v2.9.0',
  'NerdMinerV2',
  'xminer-1.2.7',
] as const;
/** The largest hash of difficulty 1, times 2^-208: 1d00ffff. */
const DIFF_1 = 0xffff;

/** Numbers that look random and are the same in each run: splitmix32. @returns 0 to 2^32 - 1 */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}

const hex8 = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');

const USER_NAMES = Array.from({ length: USERS }, (_, i) =>
  // Addresses, as most pools have them: bech32's letters.
  `bc1q${[...createHash('sha256').update(`user ${i}`).digest()].map((byte) => 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'[byte & 31]).join('')}`.slice(
    0,
    42,
  ),
);

interface Worker {
  readonly user: string;
  readonly worker: string;
  readonly agent: string;
  readonly address: string;
  readonly clientId: number;
  readonly enonce1: string;
  readonly diff: number;
  readonly rollsVersion: boolean;
}

const WORKER_LIST: readonly Worker[] = Array.from({ length: WORKERS }, (_, i) => {
  const random = randomFrom(i + 1);
  const user = USER_NAMES[i % USERS]!;
  return {
    user,
    worker: `${user}.${['rig', 's19-', 'bitaxe', 'worker'][i % 4]}${i}`,
    agent: AGENTS[random() % AGENTS.length]!,
    address: `203.0.${random() % 4}.${random() % (ADDRESSES / 4)}`,
    clientId: 1 + i,
    enonce1: hex8(random()),
    // From a small miner to a rack.
    diff: Math.round(2 ** (6 + (random() % 1000) / 100)),
    rollsVersion: i % 4 !== 0,
  };
});

/** Shares in a second of the time that they carry: a pool of 500 workers at 2.4 a minute each, so 400,000 shares are five and a half hours. */
export const SHARES_PER_S = 20;

/** What the shares of a source are: all accepted, all refused, or all the upstream's verdicts of a proxy. */
export type ShareKind = 'accepted' | 'refused' | 'verdict';

/** Refusals as the daemon writes them, the commonest first: number, words, and whether a hash was computed. */
const REFUSALS = [
  { errn: 2, reason: 'Stale', hashed: true },
  { errn: 5, reason: 'Above target', hashed: true },
  { errn: 1, reason: 'Invalid JobID', hashed: false },
  { errn: 4, reason: 'Duplicate', hashed: true },
] as const;

/** A share as it would be had it been refused, or as the upstream's word on it. */
function turned(share: Inputs['share'], kind: ShareKind, n: number): Inputs['share'] {
  if (kind === 'accepted') return share;
  if (kind === 'verdict') {
    const refused = n % 50 === 0;
    const why = refused ? { accepted: false, errn: -1, reason: 'Stale' } : {};
    return { ...share, ...why, kind: 'verdict', upstream: 'upstream.example:3333' };
  }
  const { errn, reason, hashed } = REFUSALS[n % REFUSALS.length]!;
  const proof = hashed ? {} : { hash: '', sdiff: -1, job_key: '' };
  return { ...share, ...proof, accepted: false, errn, reason };
}

/**
 * Makes shares 0, 1, 2, … in turn.
 * @param perS - shares in a second of the time that they carry
 */
export function shareSource(perS: number, origin = 'pool', kind: ShareKind = 'accepted'): () => Inputs['share'] {
  const random = randomFrom(4711);
  let n = 0;
  let keyOf = -1;
  let jobKey = '';
  return () => {
    const timeUs = BEGIN_S * 1e6 + Math.floor((n * 1e6) / perS) + (random() % 5);
    n++;
    const timeS = Math.floor(timeUs / 1e6);
    const job = Math.floor((timeS - BEGIN_S) / JOB_S);
    if (job !== keyOf) {
      keyOf = job;
      jobKey = `${origin}/${createHash('sha256').update(`job ${job}`).digest('hex').slice(0, 32)}`;
    }
    const worker = WORKER_LIST[random() % WORKERS]!;
    // The hash is evenly spread below the target.
    const sdiff = worker.diff / ((random() + 1) / 2 ** 32);
    const head = BigInt(Math.round((DIFF_1 / sdiff) * 2 ** 64))
      .toString(16)
      .padStart(24, '0');
    const hash =
      `0000${head}`.slice(0, 28) +
      hex8(random()) +
      hex8(random()) +
      hex8(random()) +
      hex8(random()) +
      hex8(random()).slice(4);
    const share: Inputs['share'] = {
      origin,
      instance: 'pool-0',
      source: 'live',
      time_us: timeUs,
      client_id: worker.clientId,
      listener: '0.0.0.0:3333',
      job_id: ((BigInt(BEGIN_S) << 32n) | BigInt(job)).toString(16).padStart(16, '0'),
      job_key: jobKey,
      height: 925_000 + Math.floor((timeS - BEGIN_S) / 600),
      user: worker.user,
      worker: worker.worker,
      agent: worker.agent,
      address: worker.address,
      accepted: true,
      errn: 0,
      diff: worker.diff,
      sdiff,
      hash: hash.padEnd(64, '0'),
      enonce1: worker.enonce1,
      nonce2: hex8(random()) + hex8(random()),
      nonce: hex8(random()),
      ntime: hex8(BEGIN_S + job * JOB_S + (random() % 20)),
      version_bits: worker.rollsVersion ? hex8(random() & 0x1fffe000) : '',
    };
    return turned(share, kind, n);
  };
}

/** Shares encoded as the daemon hands them to the journal, so many to a turn. */
export function encodedTurns(source: () => Inputs['share'], shares: number, perTurn: number): EncodedEvents[] {
  const turns: EncodedEvents[] = [];
  for (let made = 0; made < shares; made += perTurn) {
    const bodies = Array.from({ length: Math.min(perTurn, shares - made) }, () => encodeEvent('share', source()));
    const ends: number[] = [];
    let end = 0;
    for (const body of bodies) {
      end += body.length;
      ends.push(end);
    }
    turns.push({ topic: 'share', bytes: Buffer.concat(bodies), count: bodies.length, ends });
  }
  return turns;
}
