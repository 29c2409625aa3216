/**
 * What an audit costs a share: a journal of shares with 12 merkle steps is made (each with its true hash) and audited, and in the same run the
 * same hashes are made by node:crypto, and the same journal only read and decoded, for ratios.
 *
 *     npm run bench:audit [shares]
 */
import { currentSchema } from '../../schemas/codec.ts';
import type { Inputs } from '../../schemas/events.ts';
import { jobIdentity } from '../../schemas/identity.ts';
import { checkableJob } from '../../services/audit/job.ts';
import { runAudit } from '../../services/audit/main.ts';
import { bytesFromHex, hexFromBytes } from '../../services/core/bitcoin/bytes.ts';
import { buildCoinbase } from '../../services/core/bitcoin/coinbase.ts';
import { ShareKernel } from '../../services/core/bitcoin/kernel/kernel.ts';
import { powHash } from '../../services/core/bitcoin/pow.ts';
import { difficultyOf } from '../../services/core/chains/difficulty.ts';
import { chainsOf } from '../../services/core/chains/profile.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { shareHeader } from '../../services/stratum/share.ts';
import { tempDir } from '../helpers/leash.ts';

const SHARES = Number(process.argv[2] ?? 200_000);
const PER_JOB = 20_000;
const PER_APPEND = 50;
const HEIGHT = 700_000;
const profile = chainsOf('regtest')('regtest');
const hex = (length: number): string => Buffer.from(crypto.getRandomValues(new Uint8Array(length))).toString('hex');
const word = (n: number): string => n.toString(16).padStart(8, '0');

function jobOf(index: number, timeUs: number): Inputs['job'] {
  const coinbase = buildCoinbase({
    height: HEIGHT,
    aux: new Uint8Array(0),
    timeS: Math.floor(timeUs / 1e6),
    random: Math.floor(Math.random() * 2 ** 32),
    extranonceSizeBytes: 12,
    tag: bytesFromHex(hex(20)),
    outputs: [4n, 1n].map((valueSats) => ({ script: bytesFromHex(hex(22)), valueSats })),
    witnessCommitment: bytesFromHex(hex(38)),
  });
  const job = {
    origin: 'bench',
    instance: 'bench',
    time_us: timeUs,
    job_id: index.toString(16).padStart(16, '0'),
    job_key: '',
    chain: 'regtest',
    pow: 'sha256d',
    height: HEIGHT,
    prev_hash: hex(32),
    coinbase1: hexFromBytes(coinbase.part1),
    coinbase2: hexFromBytes(coinbase.part2),
    enonce1_bytes: 4,
    nonce2_bytes: 8,
    merkle_branch: Array.from({ length: 12 }, () => hex(32)),
    version: '20000000',
    version_mask: '1fffe000',
    nbits: '1d00ffff',
    ntime: word(Math.floor(timeUs / 1e6)),
    clean: true,
    network_diff: difficultyOf(profile, 0x1d00ffff),
    subsidy_sats: '0',
    fees_sats: '5',
    coinbase_value_sats: '5',
    tx_count: 4000,
  };
  return { ...job, job_key: jobIdentity(job) };
}

const temp = tempDir('bench-audit');
const dir = temp.path;
const kernel = new ShareKernel();
const writer = openJournalWriter({ dir, instance: 'bench' });
let timeUs = 1_795_327_660_000_000;
let made = 0;
const line = { kind: 'subscribed', origin: 'bench', instance: 'bench', time_us: timeUs, client_id: 7, diff: 1e-12 };
writer.append([{ topic: 'session', event: line }]);
let sample: { job: Inputs['job']; shares: Inputs['share'][] } | null = null;
for (let index = 0; made < SHARES; index++) {
  timeUs += 1_000_000;
  const job = jobOf(index, timeUs);
  const event = { ...job, upstream: '', upstream_job_id: '' } as Parameters<typeof checkableJob>[0];
  const checkable = checkableJob(event, profile);
  const slot = kernel.add(checkable);
  writer.append([{ topic: 'job', event: job }]);
  const shares: Inputs['share'][] = [];
  for (let i = 0; i < PER_JOB && made < SHARES; i++, made++) {
    const [enonce1, nonce2] = [hex(4), hex(8)];
    const [nonce, bits] = [Math.floor(Math.random() * 2 ** 32), (i & 0xffff) << 13];
    const version = ((0x2000_0000 & ~0x1fffe000) | bits) >>> 0;
    kernel.setLane(0, slot, bytesFromHex(enonce1), bytesFromHex(nonce2), version, checkable.ntime, nonce);
    kernel.hash1(0);
    shares.push({
      origin: 'bench',
      instance: 'bench',
      source: 'live',
      time_us: ++timeUs,
      client_id: 7,
      listener: '0.0.0.0:3333',
      job_id: job.job_id,
      job_key: job.job_key,
      height: HEIGHT,
      user: 'bc1qexampleexampleexampleexampleexample',
      worker: 'bc1qexampleexampleexampleexampleexample.rig1',
      agent: 'cgminer/4.11.1',
      address: '192.0.2.1',
      accepted: true,
      errn: 0,
      diff: 1e-12,
      sdiff: checkable.difficulty1 / (kernel.value(0) || 1),
      hash: kernel.hashHex(0),
      enonce1,
      nonce2,
      nonce: word(nonce),
      ntime: job.ntime,
      version_bits: word(bits),
    });
  }
  for (let at = 0; at < shares.length; at += PER_APPEND) {
    writer.append(shares.slice(at, at + PER_APPEND).map((share) => ({ topic: 'share', event: share }) as const));
  }
  sample = { job, shares };
}
writer.close();

const cpuUs = (before?: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(before);
  return user + system;
};
const say = (what: string, us: number, shares: number): void => {
  console.log(
    `${what.padEnd(34)} ${(us / shares).toFixed(2).padStart(7)} µs CPU a share, ${Math.round((shares / us) * 1e6)} a second and core`,
  );
};

for (let round = 0; round < 2; round++) {
  const log = openJournalLog({ dir });
  const start = process.cpuUsage();
  const { counts } = await runAudit({
    log,
    chain: chainsOf('regtest'),
    origin: null,
    fromUs: null,
    toUs: null,
    positionSince: () => null,
    onFinding: (finding) => console.log(finding),
    signal: new AbortController().signal,
  });
  if (counts.held !== SHARES || counts.creditUnknown > 0) throw new Error(`${counts.held} of ${SHARES} held`);
  say('audit', cpuUs(start), SHARES);
  console.log(`  memory: ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`);

  const reading = process.cpuUsage();
  const decode = await log.decoder('share', currentSchema('share').fingerprint);
  let read = 0;
  for (let at: string | null = null; ; ) {
    const { records, next } = await log.read('share', 'bench', at, { maxRecords: 2_000, waitMs: 0 });
    if (records.length === 0) break;
    for (const { body } of records) read += decode(body).accepted ? 1 : 0;
    at = next;
  }
  say('of it: read and decoded', cpuUs(reading), read);
  await log.close();

  const { job, shares } = sample!;
  const checkable = checkableJob(
    { ...job, upstream: '', upstream_job_id: '' } as Parameters<typeof checkableJob>[0],
    profile,
  );
  const some = shares.slice(0, 5_000);
  const hashing = process.cpuUsage();
  for (const share of some) {
    const submission = {
      nonce2: bytesFromHex(share.nonce2),
      ntime: Number.parseInt(share.ntime, 16),
      nonce: Number.parseInt(share.nonce, 16),
      versionBits: Number.parseInt(share.version_bits!, 16),
    };
    const header = shareHeader(
      submission,
      { ...checkable, pow: 'sha256d', maxAheadS: 0, wireMultiplier: 1 },
      { enonce1: bytesFromHex(share.enonce1), versionMask: checkable.versionMask },
    );
    powHash('sha256d', header);
  }
  say('header and hash by node:crypto', cpuUs(hashing), some.length);
}
temp.remove();
