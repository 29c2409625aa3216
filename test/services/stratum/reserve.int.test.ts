/** Below the disk's reserve: shares are refused by name, jobs and blocks go on, miners are sent away after a minute, and all comes back. */
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { NOT_STORED } from '../../../services/stratum/intake.ts';
import { until } from '../../helpers/leash.ts';
import { BITS_EASY, type Rig, startRig, template } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

test('below the reserve shares are refused and counted, a block and its job go on, and with room the same share counts', async () => {
  const disk = { low: false, lowProblem: null as string | null };
  rig = await startRig({ disk, bits: BITS_EASY });
  const miner = await rig.client();
  await miner.login();
  disk.low = true;
  disk.lowProblem = 'no room';
  const solved = miner.mine(miner.job, { solves: targetFromBits(BITS_EASY) });
  const reply = await miner.submit('alice.w1', solved);
  expect([reply.result, reply.error?.[1]]).toEqual([false, NOT_STORED]);
  expect(rig.submitted).toHaveLength(1);
  expect(rig.journal.of('share')).toEqual([]);
  expect(rig.journal.of('block').length).toBeGreaterThan(0);
  expect(rig.daemon.counters).toMatchObject({ accepted: 0, refused: 1, unstored: 1 });
  expect(rig.daemon.values(null)).toMatchObject({ shares_unstored_count: 1 });
  expect(rig.daemon.problems).toEqual(['no room']);
  const jobs = rig.journal.of('job').length;
  rig.source.take(template(rig.profile, { height: 112, bits: BITS_EASY }));
  expect(rig.journal.of('job').length).toBe(jobs + 1);
  disk.low = false;
  disk.lowProblem = null;
  const again = miner.mine(miner.job, { atLeast: 1e-6 });
  expect((await miner.submit('alice.w1', again)).result).toBe(true);
  expect(rig.daemon.problems).toEqual([]);
});

test('after a minute of refusals lines are closed and new ones are not let in, until there is room', async () => {
  const disk = { low: false, lowProblem: null };
  rig = await startRig({ disk });
  const miner = await rig.client();
  await miner.login();
  disk.low = true;
  rig.daemon.sweep();
  rig.tick(59_000);
  rig.daemon.sweep();
  rig.daemon.facts.flush();
  expect(rig.daemon.sessions.size).toBe(1);
  rig.tick(2_000);
  rig.daemon.sweep();
  await until('the line to end', () => rig.daemon.sessions.size === 0);
  const late = await rig.client();
  await until('the late one to be closed', () => late.closed);
  expect(rig.daemon.sessions.size).toBe(0);
  disk.low = false;
  rig.daemon.sweep();
  const back = await rig.client();
  await back.login();
  expect(rig.daemon.sessions.size).toBe(1);
  expect(rig.lines.filter((line) => line.includes('stored'))).toEqual([
    expect.stringMatching(/^shares cannot be stored for 60 s: 1 lines are closed/),
    'shares can be stored again: miners are let in',
  ]);
});
