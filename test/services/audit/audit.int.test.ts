/**
 * The audit on what real daemons wrote: all of it holds; with one field of one event changed it does not, and the event is named. Pool on sha256d
 * and scrypt, blocks, rolled versions, a proxy; journals that lag, events that come twice.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { currentSchemaText, decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import type { Events, Inputs, ShareEvent } from '../../../schemas/events.ts';
import { Audit } from '../../../services/audit/check.ts';
import { consistency } from '../../../services/audit/consistency.ts';
import type { Finding, Place } from '../../../services/audit/findings.ts';
import { type AuditRun, type Progress, runAudit } from '../../../services/audit/main.ts';
import { chainsOf } from '../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../services/core/config.ts';
import type { LogEntry } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { positionSince } from '../../../services/core/log/journal-since.ts';
import { startProxy } from '../../../services/stratum/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { packTopic } from '../core/log/packing.ts';
import {
  ADDRESS_REGTEST,
  BITS_EASY,
  Client,
  journaled,
  type Rig,
  someHash,
  startRig,
  template,
  testLife,
} from '../stratum/rig.ts';

/** Events as a daemon left them, in the order of its journal. */
type Log = readonly LogEntry[];

/** Writes each log into the journal of one instance: that of its first event. */
async function withJournal<T>(logs: readonly Log[], use: (dir: string, dataDir: string) => Promise<T>): Promise<T> {
  const temp = tempDir('audit');
  const dir = join(temp.path, 'journal');
  try {
    for (const log of logs) {
      const writer = openJournalWriter({ dir, instance: instanceOf(log) });
      for (const entry of log) writer.append([entry]);
      writer.close();
    }
    return await use(dir, temp.path);
  } finally {
    temp.remove();
  }
}

function instanceOf(log: Log): string {
  const names = log.map(({ event }) => (event as Inputs['share']).instance);
  // The most frequent: a test may have changed one.
  return names.toSorted((a, b) => names.filter((x) => x === b).length - names.filter((x) => x === a).length)[0]!;
}

interface Result extends Progress {
  readonly findings: readonly Finding[];
  readonly reasons: readonly string[];
}

async function auditDir(dir: string, options: Partial<AuditRun> = {}): Promise<Result> {
  const log = openJournalLog({ dir });
  const findings: Finding[] = [];
  try {
    const end = await runAudit({
      log,
      chain: chainsOf('regtest'),
      origin: null,
      fromUs: null,
      toUs: null,
      positionSince: (topic, partition, sinceUs) => positionSince(dir, partition, topic, sinceUs),
      onFinding: (finding) => void findings.push(finding),
      signal: new AbortController().signal,
      ...options,
    });
    return { ...end, findings, reasons: findings.flatMap(({ problems }) => problems.map(({ reason }) => reason)) };
  } finally {
    await log.close();
  }
}

const audit = (log: Log, options: Partial<AuditRun> = {}): Promise<Result> =>
  withJournal([log], (dir) => auditDir(dir, options));

/** The log with some fields of the nth event of a topic, of those that `which` takes, changed. */
function changed<T extends 'share' | 'job' | 'block'>(
  log: Log,
  topic: T,
  which: (event: Inputs[T]) => boolean,
  change: (event: Inputs[T]) => Partial<Inputs[T]>,
): Log {
  const at = log.findIndex((entry) => entry.topic === topic && which(entry.event as Inputs[T]));
  expect(at).toBeGreaterThanOrEqual(0);
  const entry = log[at]!;
  return log.with(at, { topic, event: { ...entry.event, ...change(entry.event as Inputs[T]) } } as LogEntry);
}

const without = (log: Log, which: (entry: LogEntry) => boolean): Log => log.filter((entry) => !which(entry));
const count = (log: Log, topic: string): number => log.filter((entry) => entry.topic === topic).length;
const flip = (hex: string, digit: number): string =>
  hex.slice(0, digit) + (Number.parseInt(hex[digit]!, 16) ^ 1).toString(16) + hex.slice(digit + 1);

const MASK = '1fffe000';

/** A pool on regtest with a hard target: accepted shares, refused ones, rolled versions. */
async function poolLog(): Promise<Log> {
  const rig = await startRig();
  try {
    const client = await rig.client();
    await client.call('mining.configure', [['version-rolling'], { 'version-rolling.mask': MASK }]);
    await client.login();
    for (let i = 0; i < 30; i++) {
      const rolled = i % 2 === 0 ? undefined : (0x2000 << (i % 8)) >>> 0;
      const share = client.mine(client.job, {
        atLeast: client.difficulty,
        nonce2: i,
        ...(rolled === undefined ? {} : { versionBits: rolled }),
      });
      const bits = rolled?.toString(16).padStart(8, '0');
      expect((await client.submit('alice.w1', share, bits)).result).toBe(true);
      if (i === 3) expect((await client.submit('alice.w1', share, bits)).error[0]).toBe(22);
    }
    const low = client.mine(client.job, { below: 1e-8 });
    expect((await client.submit('alice.w1', low)).error[0]).toBe(23);
    const late = client.mine(client.job, { ntime: client.job.ntime + 7001, atLeast: client.difficulty });
    expect((await client.submit('alice.w1', late)).error[0]).toBe(20);
    expect((await client.submit('alice.w1', { ...low, jobId: '0123456789abcdef' })).error[0]).toBe(21);
    const old = client.job;
    rig.source.take(template(rig.profile, { height: 112, prevHash: someHash('next') }));
    await until('the next job', () => client.job !== old);
    expect(
      (await client.submit('alice.w1', client.mine(old, { nonce2: 99, atLeast: client.difficulty }))).error[0],
    ).toBe(21);
    const next = client.mine(client.job, { atLeast: client.difficulty });
    expect((await client.submit('alice.w1', next)).result).toBe(true);
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

/** Every second hash is a block. */
async function easyLog(): Promise<Log> {
  const rig = await startRig({ bits: BITS_EASY });
  try {
    const client = await rig.client();
    await client.login();
    for (let i = 0; i < 6; i++) {
      await client.submit('alice.w1', client.mine(client.job, { nonce2: i, solves: (1n << 255n) - 1n }));
    }
    await until('each block twice', () => rig.journal.of('block').length === 12);
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

/** Many jobs of one height with a share each, and at the end another on the first. */
async function manyLog(): Promise<Log> {
  const rig = await startRig();
  try {
    const client = await rig.client();
    await client.login();
    const mine = async (index: number, nonce2: number): Promise<void> => {
      const share = client.mine(client.jobs[index]!, { atLeast: client.difficulty, nonce2 });
      expect((await client.submit('alice.w1', share)).result).toBe(true);
    };
    for (let i = 0; i < 40; i++) {
      await mine(i, i);
      rig.source.take(template(rig.profile, { curtime: 1795327752 + i }));
      await until('the next job', () => client.jobs.length > i + 1, { everyMs: 2 });
    }
    await mine(0, 77);
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

/** Solo: each user has a job of its own, made when it comes, the template's or a later one's. */
async function soloLog(): Promise<Log> {
  const rig = await startRig({ config: { solo: true, btcAddress: null } });
  const users = [ADDRESS_REGTEST, 'mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn'];
  try {
    const clients: Client[] = [];
    for (const user of users) {
      const client = await rig.client();
      await client.login(user);
      clients.push(client);
      // Whoever came first goes on with its job while others get theirs.
      for (const [i, each] of clients.entries()) {
        const share = each.mine(each.job, { atLeast: each.difficulty, nonce2: clients.length });
        expect((await each.submit(users[i]!, share)).result).toBe(true);
      }
    }
    for (const height of [112, 113]) {
      rig.source.take(template(rig.profile, { height, prevHash: someHash(`solo ${height}`) }));
      for (const [i, each] of clients.entries()) {
        await until('the next job', () => each.jobs.length > height - 111);
        const share = each.mine(each.job, { atLeast: each.difficulty });
        expect((await each.submit(users[i]!, share)).result).toBe(true);
      }
    }
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

/** The job's version has a bit that the pool lets miners roll and this client does not roll. */
async function narrowLog(): Promise<Log> {
  const rig = await startRig({ template: null });
  try {
    rig.source.take({ ...template(rig.profile), version: 0x2000_c000 });
    const client = await rig.client();
    await client.call('mining.configure', [['version-rolling'], { 'version-rolling.mask': '00006000' }]);
    await client.login();
    for (const bits of [0x2000, 0x4000, 0]) {
      const share = client.mine(client.job, {
        atLeast: client.difficulty,
        versionBits: bits,
        mask: 0x6000,
        nonce2: bits,
      });
      expect((await client.submit('alice.w1', share, bits.toString(16).padStart(8, '0'))).result).toBe(true);
    }
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

async function scryptLog(): Promise<Log> {
  const rig = await startRig({
    chain: 'litecoin-regtest',
    config: { minDiff: 1e-9, startDiff: 1e-9, maxDiff: 1e-9, btcAddress: 'mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn' },
  });
  try {
    const client = await rig.client();
    await client.login();
    for (let i = 0; i < 6; i++) {
      // The wire's difficulty is 65536 times the chain's.
      const share = client.mine(client.job, { nonce2: i, pow: 'scrypt', atLeast: client.difficulty / 65536 });
      expect((await client.submit('alice.w1', share)).result).toBe(true);
    }
    return [...rig.journal.entries];
  } finally {
    await rig.close();
  }
}

async function proxyLog(): Promise<Log> {
  const rig: Rig = await startRig({ config: { startDiff: 2e-6 } });
  const dir = tempDir('audit-proxy');
  const { life, end } = testLife();
  const config = {
    ...loadConfig(
      {
        mode: 'proxy',
        name: 'low',
        options: { 'lodestream.data_dir': dir.path, 'lodestream.chain': 'regtest', logdir: `${dir.path}/logs` },
      },
      {},
    ),
    upstreams: [{ url: `127.0.0.1:${rig.port}`, auth: 'addr.low', pass: 'x' }],
    listen: [{ host: '127.0.0.1', port: 0 }],
    minDiff: 1e-7,
    startDiff: 1e-6,
  };
  const handle = await startProxy(config, life);
  try {
    const client = await Client.open(handle.addresses[0]!.port);
    await client.login('bob.rig1');
    for (let i = 0; i < 5; i++) {
      const share = client.mine(client.job, { nonce2: i, atLeast: i % 2 === 0 ? 2e-6 : 1e-6 });
      expect((await client.submit('bob.rig1', share)).result).toBe(true);
    }
    const shares = () => journaled(dir.path, 'low', 'share');
    await until('the verdicts', async () => (await shares()).filter(({ kind }) => kind === 'verdict').length >= 3);
    client.destroy();
    const jobs = await journaled(dir.path, 'low', 'job');
    return [
      ...jobs.map((event) => ({ topic: 'job', event: { ...event } }) as const),
      ...(await shares()).map((event) => ({ topic: 'share', event: { ...event } }) as const),
    ];
  } finally {
    await end();
    await rig.close();
    dir.remove();
  }
}

let pool: Log;
let easy: Log;
let scrypt: Log;
let proxy: Log;
let many: Log;
let narrow: Log;
let solo: Log;
beforeAll(async () => {
  pool = await poolLog();
  easy = await easyLog();
  scrypt = await scryptLog();
  proxy = await proxyLog();
  many = await manyLog();
  narrow = await narrowLog();
  solo = await soloLog();
});

describe('what daemons wrote holds', () => {
  test('shares with and without rolled versions, and refused ones', async () => {
    const { counts, findings } = await audit(pool);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: count(pool, 'share'), notHeld: 0, again: 0, jobs: 2, jobsNotHeld: 0 });
    // The one on an unknown job has no hash.
    expect(counts.uncheckable).toEqual({ no_hash: 1 });
    expect(counts.held).toBe(count(pool, 'share') - 1);
  });

  test('shares that are blocks', async () => {
    const { counts, findings } = await audit(easy);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: 6, held: 6, solved: 6 });
  });

  test('scrypt', async () => {
    const { counts, findings } = await audit(scrypt);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: 6, held: 6 });
  });

  test('a proxy, with the verdicts of its upstream', async () => {
    const { counts, findings } = await audit(proxy);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: count(proxy, 'share'), held: count(proxy, 'share') });
  });

  test('a client whose mask is narrower than the pool’s keeps the job’s own bits', async () => {
    const { counts, findings } = await audit(narrow);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: 3, held: 3 });
  });

  test('solo, where each user has jobs of its own', async () => {
    const { counts, findings } = await audit(solo);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: 7, held: 7, jobs: 6 });
  });

  test.each([
    ['all jobs at hand', {}],
    ['jobs and what is known of their shares let go at once', { limitBytes: 1 }],
    ['shares that wait for a job looked for a few at a time', { limitBytes: 1, waitingLimit: 2 }],
  ])('many jobs, %s', async (_name, options) => {
    const { counts, findings } = await audit(many, options);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ shares: 41, held: 41, jobs: 41 });
  });

  test('a journal whose closed segments are packed', async () => {
    const plain = await audit(pool);
    const temp = tempDir('audit');
    try {
      const dir = join(temp.path, 'journal');
      const instance = instanceOf(pool);
      const writer = openJournalWriter({ dir, instance, segmentBytes: 2_000 });
      for (const entry of pool) writer.append([entry]);
      writer.close();
      expect(await packTopic(dir, instance, 'share')).toBeGreaterThan(3);
      await packTopic(dir, instance, 'job');
      const packed = await auditDir(dir);
      expect(packed.counts).toEqual(plain.counts);
      expect([packed.total, packed.findings]).toEqual([plain.total, plain.findings]);
    } finally {
      temp.remove();
    }
  });

  test('jobs that come behind their shares, as where a partition lags', async () => {
    const late = many.map((entry) =>
      entry.topic === 'job' ? { ...entry, event: { ...entry.event, time_us: entry.event.time_us + 3.6e9 } } : entry,
    );
    expect((await audit(late)).counts).toMatchObject({ shares: 41, held: 41, jobs: 41, jobsNotHeld: 0 });
    expect((await audit(late, { waitingLimit: 5 })).counts).toMatchObject({ shares: 41, held: 41 });
  });
});

const rolled = (share: Inputs['share']): boolean => share.accepted && share.version_bits !== '';
const refused = (errn: number) => (share: Inputs['share']) => share.errn === errn;

/** Of an accepted share of a pool: what is put in place of a field, and what the audit calls it. */
const SHARE_CHANGES: readonly (readonly [
  keyof Inputs['share'],
  (share: Inputs['share']) => unknown,
  readonly string[],
])[] = [
  ['kind', () => 'verdict', ['contradiction']],
  ['kind', () => 'other', ['malformed']],
  ['origin', () => 'other', ['job_other']],
  ['instance', () => 'other', ['instance']],
  ['source', () => 'backfill', ['contradiction']],
  ['source', () => 'other', ['malformed']],
  ['time_ns', () => 1, ['malformed']],
  ['job_id', () => '0000000000000001', ['job_other']],
  ['job_key', () => '', ['job_unknown']],
  ['job_key', (share) => flip(share.job_key!, share.job_key!.length - 1), ['job_unknown']],
  ['height', (share) => share.height + 1, ['job_other']],
  ['accepted', () => false, ['contradiction']],
  ['errn', () => 5, ['contradiction', 'refusal']],
  ['reason', () => 'Stale', ['contradiction']],
  ['diff', (share) => share.sdiff * 1.000001, ['diff']],
  ['diff', () => Number.POSITIVE_INFINITY, ['malformed']],
  ['sdiff', (share) => share.sdiff * (1 + 2 ** -52), ['sdiff']],
  ['hash', (share) => flip(share.hash, 63), ['hash']],
  ['hash', () => '', ['malformed']],
  ['hash', (share) => share.hash.toUpperCase(), ['malformed']],
  ['block_hash', (share) => share.hash, ['block_hash']],
  ['enonce1', (share) => flip(share.enonce1, 0), ['hash']],
  ['enonce1', (share) => `${share.enonce1}00`, ['extranonce']],
  ['enonce1', () => 'x', ['malformed']],
  ['nonce2', (share) => flip(share.nonce2, 0), ['hash']],
  ['nonce2', (share) => share.nonce2.slice(2), ['extranonce']],
  ['nonce', (share) => flip(share.nonce, 7), ['hash']],
  ['nonce', () => '1', ['malformed']],
  ['ntime', (share) => flip(share.ntime, 7), ['hash']],
  ['ntime', () => '', ['malformed']],
  ['version_bits', (share) => flip(share.version_bits!, 1), ['hash']],
  ['version_bits', () => '', ['hash']],
  ['version_bits', (share) => flip(share.version_bits!, 7), ['version_bits', 'hash']],
  ['version_bits', () => 'zz', ['malformed']],
  ['upstream', () => 'host:1', ['contradiction']],
];
/** Who sent it and when: no proof of work covers that. */
const SHARE_UNPROVEN = ['time_us', 'client_id', 'listener', 'user', 'worker', 'agent', 'address'];

/** Of a pool's job: what the audit says of the job itself. */
const JOB_CHANGES: readonly (readonly [keyof Inputs['job'], (job: Inputs['job']) => unknown, readonly string[]])[] = [
  ['origin', () => 'other', ['job_key']],
  ['instance', () => 'other', ['instance']],
  ['job_key', (job) => flip(job.job_key, job.job_key.length - 1), ['job_key']],
  ['chain', () => 'litecoin-regtest', ['pow']],
  ['chain', () => 'nochain', ['chain']],
  ['chain', () => '/etc/passwd', ['chain']],
  ['pow', () => 'scrypt', ['pow']],
  ['height', (job) => job.height + 1, ['height']],
  ['prev_hash', (job) => flip(job.prev_hash, 63), ['job_key']],
  ['prev_hash', () => 'x', ['job_malformed']],
  ['coinbase1', (job) => flip(job.coinbase1, 0), ['job_key']],
  ['coinbase2', (job) => flip(job.coinbase2, 20), ['job_key']],
  ['coinbase2', (job) => `${job.coinbase2}0`, ['job_malformed']],
  ['coinbase2', () => '00'.repeat(131_072), ['job_malformed']],
  ['enonce1_bytes', () => -1, ['job_malformed']],
  ['enonce1_bytes', () => 2 ** 31 - 1, ['job_malformed']],
  ['enonce1_bytes', (job) => job.enonce1_bytes + 1, ['job_key']],
  ['nonce2_bytes', (job) => job.nonce2_bytes - 1, ['job_key']],
  ['merkle_branch', () => ['00'.repeat(32)], ['job_key']],
  ['merkle_branch', () => ['00'], ['job_malformed']],
  ['version', (job) => flip(job.version, 7), ['job_key']],
  ['version_mask', (job) => flip(job.version_mask, 7), ['job_key']],
  ['nbits', () => '1d00fffe', ['job_key', 'network_diff']],
  ['nbits', () => '00000000', ['job_malformed']],
  ['nbits', () => 'ff800000', ['job_malformed']],
  ['height', () => -1, ['job_malformed']],
  ['ntime', (job) => flip(job.ntime, 7), ['job_key']],
  ['network_diff', (job) => job.network_diff * 2, ['network_diff']],
  ['subsidy_sats', (job) => `${job.subsidy_sats}0`, ['subsidy']],
  ['subsidy_sats', () => '', ['job_source', 'subsidy']],
  ['fees_sats', () => '1', ['fees']],
  ['coinbase_value_sats', (job) => `${job.coinbase_value_sats}0`, ['coinbase_value']],
  ['coinbase_value_sats', (job) => `${job.coinbase_value_sats} `, ['coinbase_value']],
  ['upstream', () => 'host:1', ['job_source']],
  ['upstream_job_id', () => '1', ['job_source']],
];
/** `job_id` shows in the shares; the others no share's proof covers. */
const JOB_UNPROVEN = ['time_us', 'job_id', 'clean', 'tx_count'];

const fieldsOf = (topic: 'share' | 'job'): string[] =>
  (JSON.parse(currentSchemaText(topic)) as { fields: { name: string }[] }).fields.map(({ name }) => name);

describe('one changed field', () => {
  test('each field of a share and of a job is looked at, or named as what no proof covers', () => {
    expect([...new Set([...SHARE_CHANGES.map(([field]) => field), ...SHARE_UNPROVEN])].sort()).toEqual(
      fieldsOf('share').sort(),
    );
    expect([...new Set([...JOB_CHANGES.map(([field]) => field), ...JOB_UNPROVEN])].sort()).toEqual(
      fieldsOf('job').sort(),
    );
  });

  test.each(SHARE_CHANGES)('%s of an accepted share (%#)', async (field, value, reasons) => {
    const log = changed(pool, 'share', rolled, (share) => ({ [field]: value(share) }));
    const { counts, findings } = await audit(log);
    expect(findings).toHaveLength(1);
    expect(findings[0]!.problems.map(({ reason }) => reason)).toEqual(reasons);
    expect(findings[0]).toMatchObject({ place: { topic: 'share', sequence: shareIndex(rolled) }, worker: 'alice.w1' });
    expect(counts).toMatchObject({ notHeld: 1, jobsNotHeld: 0, held: count(pool, 'share') - 2 });
  });

  test.each(JOB_CHANGES)('%s of a job (%#)', async (field, value, reasons) => {
    const log = changed(
      pool,
      'job',
      () => true,
      (job) => ({ [field]: value(job) }),
    );
    const { findings, counts } = await audit(log);
    const [first] = findings;
    expect(first!.place).toMatchObject({ topic: 'job', sequence: 0 });
    for (const reason of reasons) expect(first!.problems.map((problem) => problem.reason)).toContain(reason);
    expect(counts.jobsNotHeld).toBe(1);
  });

  test('a job id that no share names shows in the shares', async () => {
    const { reasons } = await audit(
      changed(
        pool,
        'job',
        () => true,
        () => ({ job_id: '0000000000000001' }),
      ),
    );
    expect(new Set(reasons)).toEqual(new Set(['job_other']));
  });

  test.each([
    ['a low share credited', refused(5), ['diff']],
    ['a share out of time credited', refused(3), ['ntime']],
    ['a stale share credited', refused(2), ['stale']],
    ['a duplicate credited', refused(4), ['duplicate']],
  ] as const)('%s', async (_name, which, reasons) => {
    const log = changed(pool, 'share', which, () => ({ accepted: true, errn: 0, reason: '' }));
    expect((await audit(log)).reasons).toEqual(reasons);
  });

  test('a refusal that was not so', async () => {
    const low = changed(pool, 'share', refused(5), () => ({ diff: 1e-12 }));
    expect((await audit(low)).reasons).toEqual(['refusal']);
    const late = changed(pool, 'share', refused(5), () => ({ errn: 3 }));
    expect((await audit(late)).reasons).toEqual(['refusal']);
  });

  test('scrypt: hash, difficulty and block hash', async () => {
    const first = () => true;
    expect((await audit(changed(scrypt, 'share', first, ({ hash }) => ({ hash: flip(hash, 63) })))).reasons).toEqual([
      'hash',
    ]);
    expect((await audit(changed(scrypt, 'share', first, ({ sdiff }) => ({ sdiff: sdiff * 2 })))).reasons).toEqual([
      'sdiff',
    ]);
    expect((await audit(changed(scrypt, 'share', first, ({ sdiff }) => ({ diff: sdiff * 2 })))).reasons).toEqual([
      'diff',
    ]);
    expect((await audit(changed(scrypt, 'share', first, () => ({ block_hash: '' })))).reasons).toEqual(['block_hash']);
  });

  test('more credited than was in force on the line, and not more than its hash reaches', async () => {
    const lucky = (share: Inputs['share']) => share.accepted && share.sdiff > share.diff * 1.01;
    const more = changed(pool, 'share', lucky, ({ diff }) => ({ diff: diff * 1.000001 }));
    const { findings, counts } = await audit(more);
    expect(findings.map(({ problems }) => problems.map(({ reason }) => reason))).toEqual([['in_force']]);
    expect(findings[0]).toMatchObject({ place: { topic: 'share', sequence: shareIndex(lucky) }, worker: 'alice.w1' });
    expect(counts).toMatchObject({ notHeld: 1, held: count(pool, 'share') - 2, creditUnknown: 0 });
    // In the unit of the chain, also where the wire has another.
    const scrypted = changed(scrypt, 'share', lucky, ({ diff, sdiff }) => ({ diff: Math.min(diff * 1.5, sdiff) }));
    expect((await audit(scrypted)).reasons).toEqual(['in_force']);
  });

  test('where no event tells what was in force, nothing is said of it but that', async () => {
    const log = without(pool, ({ topic }) => topic === 'session');
    const more = changed(log, 'share', rolled, ({ sdiff }) => ({ diff: sdiff }));
    const { findings, counts } = await audit(more);
    expect(findings).toEqual([]);
    expect(counts.creditUnknown).toBe(pool.filter(({ event }) => (event as Inputs['share']).accepted === true).length);
  });

  test('a session event that comes behind its shares, as where a partition lags, is met in another look', async () => {
    const late = (by: number): Log =>
      pool.map((entry) =>
        entry.topic === 'session'
          ? ({
              ...entry,
              event: { ...entry.event, diff: ((entry.event as Inputs['session']).diff ?? 0) / by },
            } as LogEntry)
          : entry,
      );
    // The first told is a lower value; what was told then comes a partition later.
    const told = pool.filter(({ topic }) => topic === 'session');
    const first = late(2);
    await withJournal([first], async (dir) => {
      expect((await auditDir(dir)).counts.reasons.in_force).toBe(31);
    });
    await withJournal([[...first, ...told]], async (dir) => {
      expect((await auditDir(dir)).findings).toEqual([]);
    });
  });

  test('a proxy: share, verdict and job', async () => {
    const verdict = ({ kind }: Inputs['share']) => kind === 'verdict';
    const nonce = ({ nonce }: Inputs['share']) => ({ nonce: flip(nonce, 0) });
    expect((await audit(changed(proxy, 'share', (share) => !verdict(share), nonce))).reasons).toEqual(['hash']);
    expect((await audit(changed(proxy, 'share', verdict, nonce))).reasons).toEqual(['hash']);
    expect((await audit(changed(proxy, 'share', verdict, () => ({ upstream: '' })))).reasons).toEqual([
      'contradiction',
    ]);
    const job = await audit(
      changed(
        proxy,
        'job',
        () => true,
        ({ ntime }) => ({ ntime: flip(ntime, 7) }),
      ),
    );
    expect(job.findings[0]!.problems[0]!.reason).toBe('job_key');
  });
});

describe('flipped bits', () => {
  const FLIPS = 500;
  const place = (topic: 'share' | 'job', sequence: number) => ({
    topic,
    partition: 'p',
    position: `r:${sequence}`,
    instance: instanceOf(pool),
    run: 'r',
    sequence,
  });

  test.each(['share', 'job'] as const)(
    `in the bytes of a %s are found wherever a proof covers them, and never end the audit (SEED=${SEED})`,
    (topic) => {
      const random = seeded(SEED);
      const jobs = pool.filter((entry) => entry.topic === 'job').map(({ event }) => encodeEvent('job', event as never));
      const share = pool.find((entry) => entry.topic === 'share' && rolled(entry.event as Inputs['share']))!;
      const bodies = { share: encodeEvent('share', share.event as Inputs['share']), job: jobs[0]! };
      const decode = decoderFor(topic);
      const fields = fieldsOf(topic);
      const unproven = topic === 'share' ? SHARE_UNPROVEN : JOB_UNPROVEN;
      const text = (event: object): string[] =>
        // A miner may send hex in capitals: the same number. Where case counts it is found all the same.
        Object.values({ ...event }).map((value) => JSON.stringify(value).toLowerCase());
      const before = text(decode(bodies[topic]));
      let found = 0;
      for (let i = 0; i < FLIPS; i++) {
        const body = Buffer.from(bodies[topic]);
        const at = Math.floor(random() * body.length);
        body[at]! ^= 1 << Math.floor(random() * 8);
        let event: ReturnType<typeof decode>;
        try {
          event = decode(body);
        } catch {
          continue; // Told as undecodable.
        }
        const findings: Finding[] = [];
        const checked = new Audit({
          chain: chainsOf('regtest'),
          origin: null,
          fromUs: Number.NEGATIVE_INFINITY,
          toUs: Number.POSITIVE_INFINITY,
          onFinding: (finding) => void findings.push(finding),
        });
        if (topic === 'job') checked.job(event as Events['job'], place('job', 0));
        else {
          checked.job(decoderFor('job')(bodies.job), place('job', 0));
          checked.share(event as Events['share'], place('share', 0));
        }
        checked.flush();
        checked.tellJobless();
        const after = text(event);
        const changes = fields.filter((_name, index) => after[index] !== before[index]);
        const lowered = 'diff' in event && changes.join() === 'diff' && event.diff >= 0 && event.diff <= event.sdiff;
        const uncovered = lowered || changes.every((name) => unproven.includes(name));
        if (findings.length > 0) found += 1;
        else expect(uncovered, `${topic}: byte ${at}, ${changes.join(', ')}: ${after.join(' ')}`).toBe(true);
      }
      expect(found).toBeGreaterThan(FLIPS / 10);
    },
  );
});

/** Place of the first share that `which` takes among the shares. */
function shareIndex(which: (share: Inputs['share']) => boolean): number {
  return pool.filter(({ topic }) => topic === 'share').findIndex(({ event }) => which(event as Inputs['share']));
}

describe('what is missing, twice, or too late', () => {
  test('a job that the log does not have', async () => {
    const { counts, reasons } = await audit(without(pool, ({ topic }) => topic === 'job'));
    expect(new Set(reasons)).toEqual(new Set(['job_unknown']));
    expect(counts).toMatchObject({ held: 0, notHeld: count(pool, 'share') - 1, uncheckable: { no_hash: 1 } });
  });

  test('a solved block without its event', async () => {
    const [{ hash }] = easy.filter(({ topic }) => topic === 'block').map(({ event }) => event as Inputs['block']) as [
      Inputs['block'],
    ];
    const log = without(easy, ({ topic, event }) => topic === 'block' && (event as Inputs['block']).hash === hash);
    const { counts, findings, reasons } = await audit(log);
    expect(reasons).toEqual(['block_missing']);
    expect(findings[0]!.identity).toBe(hash);
    expect(counts).toMatchObject({ shares: 6, held: 5, notHeld: 1, solved: 6 });
  });

  test('a share accepted twice, and where it was first', async () => {
    const share = pool.find(({ topic, event }) => topic === 'share' && rolled(event as Inputs['share']))!;
    const again = {
      ...share,
      event: { ...share.event, time_us: (share.event as Inputs['share']).time_us + 5 },
    } as LogEntry;
    const { counts, findings } = await audit([...pool, again]);
    expect(findings.map(({ problems }) => problems[0]!.reason)).toContain('duplicate');
    expect(counts.reasons.duplicate).toBe(1);
    expect(findings[0]!.problems[0]!.computed).toMatch(new RegExp(`:${shareIndex(rolled)}$`));
  });

  test('a share accepted twice by two processes', async () => {
    const other = pool.map((entry) => ({ ...entry, event: { ...entry.event, instance: 'other' } }) as LogEntry);
    const { counts } = await withJournal([pool, other], (dir) => auditDir(dir));
    expect(counts.reasons).toEqual({ duplicate: 31 });
  });

  test('what the log delivers twice counts once, and holds', async () => {
    await withJournal([easy], async (dir) => {
      const log = openJournalLog({ dir });
      const again = openJournalLog({ dir });
      const end = await auditDir(dir, {
        log: {
          ...log,
          partitions: async (topic) => (await log.partitions(topic)).flatMap((name) => [name, `${name}+`]),
          lag: (topic, partition, from) => log.lag(topic, partition.replace('+', ''), from),
          read: (topic, partition, from, options) =>
            (partition.endsWith('+') ? again : log).read(topic, partition.replace('+', ''), from, options),
        },
      });
      expect(end.findings).toEqual([]);
      expect(end.counts).toMatchObject({ shares: 12, held: 6, again: 6 });
      await log.close();
      await again.close();
    });
  });

  test('a share on a job that had left', async () => {
    let index = 0;
    const times = many.map((entry) => {
      if (entry.topic !== 'job') return entry;
      index += 1;
      return index === 1 ? entry : { ...entry, event: { ...entry.event, time_us: entry.event.time_us + 700e6 } };
    });
    const late = times.map((entry, i) =>
      i === times.length - 1
        ? ({
            ...entry,
            event: { ...entry.event, time_us: (entry.event as Inputs['share']).time_us + 701e6 },
          } as LogEntry)
        : entry,
    );
    const { reasons } = await audit(late.toSorted((a, b) => Number(a.topic > b.topic) - Number(a.topic < b.topic)));
    expect(reasons).toEqual(['expired']);
  });

  test('back-filled shares are not checkable', async () => {
    const filled = pool.map((entry) =>
      entry.topic === 'share'
        ? {
            ...entry,
            // Our own share logs tell the bits that were rolled.
            event: { ...entry.event, source: 'backfill', job_key: '', time_ns: 7 },
          }
        : entry,
    );
    const { counts, findings } = await audit(filled);
    expect(findings).toEqual([]);
    expect(counts).toMatchObject({ held: 0, uncheckable: { back_filled: count(pool, 'share') } });
  });

  test('a back-filled share names the instance that took it, a live one the instance that wrote it', () => {
    const place: Place = { topic: 'share', partition: 'i', position: '', instance: 'ingest-a', run: '', sequence: 0 };
    const found = pool.find(({ topic, event }) => topic === 'share' && event.accepted)!.event as ShareEvent;
    expect(consistency({ ...found, source: 'backfill', job_key: '', instance: 'a.1' }, place)).toEqual([]);
    expect(consistency({ ...found, instance: 'a.1' }, place)).toMatchObject([{ reason: 'instance' }]);
  });

  test('only the shares of a time, and of an origin', async () => {
    const shares = pool.filter(({ topic }) => topic === 'share').map(({ event }) => event as Inputs['share']);
    const fromUs = shares[10]!.time_us;
    const toUs = shares[20]!.time_us;
    expect((await audit(pool, { fromUs, toUs })).counts).toMatchObject({ shares: 10, held: 10, creditUnknown: 0 });
    // Its job lies further back than is read at once.
    const old = pool.map((entry) =>
      entry.topic === 'job' ? { ...entry, event: { ...entry.event, time_us: entry.event.time_us - 9e9 } } : entry,
    );
    expect((await audit(old, { fromUs, toUs })).counts).toMatchObject({ shares: 10, held: 10 });
    // Jobs are those built in that time; one built before is looked at where a share of the time is on it.
    expect((await audit(pool, { fromUs, toUs })).counts.jobs).toBe(0);
    const first = pool.find(({ topic }) => topic === 'job')!.event as Inputs['job'];
    const builtUs = { fromUs: first.time_us, toUs: first.time_us + 1 };
    expect((await audit(pool, builtUs)).counts).toMatchObject({ shares: 0, jobs: 1 });
    const wrong = changed(
      pool,
      'job',
      (job) => job === first,
      (job) => ({ network_diff: job.network_diff * 2 }),
    );
    expect((await audit(wrong, { fromUs, toUs })).reasons).toEqual(['network_diff']);
    expect((await audit(wrong, { fromUs: toUs + 1e9, toUs: toUs + 2e9 })).reasons).toEqual([]);
    expect((await audit(pool, { origin: 'other' })).counts).toMatchObject({ shares: 0, jobs: 0 });
  });

  test('bytes that are damaged', async () => {
    await withJournal([pool], async (dir) => {
      const folder = join(dir, instanceOf(pool), 'share');
      const [segment] = readdirSync(folder).filter((name) => name.endsWith('.avro'));
      const bytes = readFileSync(join(folder, segment!));
      bytes[bytes.length - 100]! ^= 0x40;
      writeFileSync(join(folder, segment!), bytes);
      const { counts, reasons, findings } = await auditDir(dir);
      expect(reasons).toEqual(['damaged']);
      expect(findings[0]!.place).toMatchObject({ topic: 'share', partition: instanceOf(pool) });
      expect(counts.held).toBeGreaterThan(25);
    });
  });
});

describe('lodestream audit', () => {
  const main = fileURLToPath(new URL('../../../services/cli/main.ts', import.meta.url));
  const command = async (dataDir: string, ...flags: string[]): Promise<{ code: number; out: string; err: string }> => {
    const args = [main, 'audit', '--data-dir', dataDir, ...flags];
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, args);
      return { code: 0, out: stdout, err: stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, out: stdout, err: stderr };
    }
  };

  test('ends with 0 where all hold, with 1 and the share where one does not, as text and as JSON', async () => {
    await withJournal([pool], async (_dir, dataDir) => {
      const { code, out, err } = await command(dataDir);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).toMatch(new RegExp(`shares in the log +${count(pool, 'share')}\n`));
      expect(out).toMatch(/do not hold +0\n/);
      expect(await command(dataDir, '--from', 'yesterday')).toMatchObject({ code: 64 });
      expect(await command(dataDir, '--from', '2090-01-01')).toMatchObject({
        code: 1,
        err: 'no share was found in that time: nothing was checked\n',
      });
      expect(await command(dataDir, '--from', '2026-01-02', '--to', '2026-01-01')).toMatchObject({ code: 64 });
      expect((await command(dataDir, '--origin', 'nobody')).err).toContain('no share of origin nobody was found');
      const elsewhere = join(dataDir, 'nothing');
      expect(await command(elsewhere)).toMatchObject({
        code: 64,
        err: expect.stringContaining('it has no journal'),
      });
      expect(existsSync(elsewhere)).toBe(false);
    });
    await withJournal([changed(pool, 'share', rolled, () => ({ diff: 1e9 }))], async (_dir, dataDir) => {
      const { code, out } = await command(dataDir);
      expect(code).toBe(1);
      expect(out).toMatch(
        /^share \S+ [0-9a-f]{16}:\d+: \S+Z \S+ [0-9a-f]{64} "alice\.w1": diff: .*claimed "1000000000"/,
      );
      const json = await command(dataDir, '--json', '--from', '2020-01-01', '--to', '2100-01-01 10:00');
      const [finding, summary] = json.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      expect(finding).toMatchObject({ kind: 'finding', topic: 'share', problems: [{ reason: 'diff' }] });
      expect(summary).toMatchObject({ kind: 'summary', not_held_count: 1, reasons: { diff: 1 } });
      expect(json.code).toBe(1);
    });
  });
});
