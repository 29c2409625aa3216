import { afterEach, expect, test } from 'vitest';
import { until } from '../../../helpers/leash.ts';
import { type Rig, startRig } from '../rig.ts';

let rig: Rig;
afterEach(() => rig.close());

const told = () =>
  rig.daemon.takeChanges().workers.map(({ worker, connections, shares_count }) => [worker, connections, shares_count]);

test('of many names on a line those that send shares are counted, until the line ends', async () => {
  rig = await startRig();
  const client = await rig.client();
  await client.login('alice.w1');
  for (const name of ['alice.w2', 'alice.w3', 'bob'])
    expect((await client.call('mining.authorize', [name, 'x'])).result).toBe(true);
  expect(told()).toEqual([['alice.w1', 1, 0]]);
  expect((await client.submit('bob', client.mine(client.job, { atLeast: 1e-6 }))).result).toBe(true);
  expect(told()).toEqual([['bob', 1, 1]]);
  client.destroy();
  await until('the end of the line', () => rig.daemon.sessions.size === 0);
  expect(told()).toEqual([
    ['alice.w1', 0, 0],
    ['bob', 0, 0],
  ]);
  expect(told()).toEqual([]);
});

test('a share counts once it is in the journal, a refused one as refused', async () => {
  rig = await startRig();
  const client = await rig.client();
  await client.login('alice');
  told();
  const share = client.mine(client.job, { atLeast: 1e-6 });
  rig.journal.full = true;
  expect((await client.submit('alice', share)).result).toBe(false);
  expect(told()).toEqual([]);
  rig.journal.full = false;
  expect((await client.submit('alice', share)).result).toBe(true);
  expect((await client.submit('alice', share)).error).toEqual([22, 'Duplicate', null]);
  const { workers, refused_count, refused_diff } = rig.daemon.takeChanges();
  expect(workers).toMatchObject([{ worker: 'alice', diff: 1e-6, shares_count: 1 }]);
  expect(workers[0]!.best_sdiff).toBeCloseTo(share.reached, 12);
  expect([refused_count, refused_diff]).toEqual([1, 1e-6]);
});
