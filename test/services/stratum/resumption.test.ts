/** Sessions that go on at another process of the pool, and the extranonce1 that they take along. */
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { Daemon } from '../../../services/stratum/daemon.ts';
import type { Resumable } from '../../../services/stratum/resumption.ts';
import { JobIds } from '../../../services/stratum/work/job.ts';
import { PoolSource, poolIdentity } from '../../../services/stratum/work/pool.ts';
import { sampleJob, sampleSession } from '../../contracts/samples.ts';
import { tempDir } from '../../helpers/leash.ts';
import { ADDRESS_REGTEST } from './rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const HOUR_MS = 3_600_000;

test('an extranonce1 that goes on at another process is given to nobody by the one whose prefix it has', async () => {
  const dir = tempDir('resume');
  ends.push(() => dir.remove());
  const journalDir = join(dir.path, 'journal');
  const beganMs = 1_795_000_000_000;
  let nowMs = beganMs;
  const options = { 'lodestream.data_dir': dir.path, logdir: join(dir.path, 'logs') };
  const config: Config = { ...loadConfig({ options }, {}), btcAddress: ADDRESS_REGTEST };
  const profile = loadChain('regtest');
  // What a process before left: a session of slot 0 whose number the next process with that slot reaches at its third line.
  const counter = Buffer.alloc(4);
  counter.writeUInt32LE(beganMs / 1000 + 2);
  const enonce1 = `00${counter.toString('hex', 0, 3)}`;
  const address = '192.0.2.7';
  const left = openJournalWriter({ dir: journalDir, instance: 'ckpool.9' });
  const event = { ...sampleSession(1), origin: config.origin, session_id: 'aabbccdd', user: 'alice', address, enonce1 };
  left.append([{ topic: 'session', event: { ...event, kind: 'disconnected', time_us: (beganMs - 1_000) * 1000 } }]);
  left.close();

  const start = async (slot: number, claim: (id: string) => Promise<boolean>) => {
    const instance = `ckpool.${slot + 1}`;
    const writer = openJournalWriter({ dir: journalDir, instance });
    ends.push(() => writer.close());
    const ids = new JobIds(BigInt(slot) << 32n);
    const daemon = new Daemon({ config, profile, writer, instance, ids, log: () => {}, nowMs: () => nowMs });
    ends.push(() => daemon.close());
    const source = new PoolSource(daemon, poolIdentity(config, profile), { take: () => true }, slot);
    await daemon.resumption.takeUp(source, { journalDir, claim });
    return { daemon, source };
  };
  const first = await start(0, async () => false);
  const second = await start(1, async (id) => first.daemon.release(id, false));
  const resumed = (await second.daemon.resumption.resume('aabbccdd', address)) as Resumable | null;
  expect(Buffer.from(resumed!.enonce1).toString('hex')).toBe(enonce1);
  expect(await second.daemon.resumption.resume('aabbccdd', address)).toBeNull();
  nowMs += HOUR_MS;
  const given = Array.from({ length: 5 }, () => Buffer.from(first.source.enonces.take(nowMs)!).toString('hex'));
  expect(new Set(given).size).toBe(5);
  expect(given).not.toContain(enonce1);
});

test('after the clock was set back and a restart, the jobs from before and after are known', async () => {
  const dir = tempDir('resume');
  ends.push(() => dir.remove());
  const journalDir = join(dir.path, 'journal');
  const now = 1_795_000_000_000;
  const options = { 'lodestream.data_dir': dir.path, logdir: join(dir.path, 'logs') };
  const config: Config = { ...loadConfig({ options }, {}), btcAddress: ADDRESS_REGTEST };
  const profile = loadChain('regtest');
  const left = openJournalWriter({ dir: journalDir, instance: 'ckpool.9' });
  // Five from what was the future, an hour ahead, then three of the last minutes.
  const minutes = [56, 57, 58, 59, 60, -3, -2, -1];
  for (const [i, minute] of minutes.entries()) {
    const { origin } = config;
    const job_key = `${origin}/${i}`;
    const coinbase1 = `0100000${i}`;
    const time_us = (now + minute * 60_000) * 1000;
    left.append([{ topic: 'job', event: { ...sampleJob(i), origin, job_key, coinbase1, time_us } }]);
  }
  left.close();
  const writer = openJournalWriter({ dir: journalDir, instance: 'ckpool.1' });
  ends.push(() => writer.close());
  const daemon = new Daemon({ config, profile, writer, ids: new JobIds(1n << 32n), log: () => {}, nowMs: () => now });
  ends.push(() => daemon.close());
  const source = new PoolSource(daemon, poolIdentity(config, profile), { take: () => true });
  await daemon.resumption.takeUp(source, { journalDir });
  const known = minutes.map((_, i) => source.jobs.find(i.toString(16).padStart(16, '0')) !== undefined);
  expect(known).toEqual(minutes.map(() => true));
});
