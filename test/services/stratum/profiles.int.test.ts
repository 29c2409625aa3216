import { afterEach, expect, test } from 'vitest';
import type { Config } from '../../../services/core/config.ts';
import { until } from '../../helpers/leash.ts';
import { ModelMiner } from './line-model.ts';
import { BITS_HARD, Client, type Rig, startRig } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

const at = (profile?: 'rental' | 'tiny') => ({
  host: '127.0.0.1',
  port: 0,
  ...(profile === undefined ? {} : { profile }),
});
/** Difficulty 16 million: above the rental minimum. */
const BITS_VERY_HARD = 0x1b0000ff;

async function clientAt(index: number): Promise<Client> {
  return Client.open(rig.addresses[index]!.port);
}

test("a marketplace's verifier finds its minimum in the first difficulty, four bytes of extranonce2 and an error field in each reply", async () => {
  rig = await startRig({ config: { listen: [at(), at('rental')], minDiff: 1, startDiff: 42 }, bits: BITS_VERY_HARD });
  const client = await clientAt(1);
  await client.login('rented.1', 'd=1');
  expect(client.difficulties[0]).toBe(500_000);
  expect(client.nonce2Bytes).toBeGreaterThanOrEqual(4);
  await client.call('mining.suggest_difficulty', [10]);
  await client.call('mining.configure', [['version-rolling'], { 'version-rolling.mask': '1fffe000' }]);
  const replies = client.messages.filter((message) => message.method === undefined);
  expect(replies.length).toBeGreaterThanOrEqual(4);
  for (const reply of replies) expect(Object.keys(reply).sort()).toEqual(['error', 'id', 'result']);
  // Set before the first work.
  const methods = client.messages.map((message) => message.method).filter((method) => method !== undefined);
  expect(methods.indexOf('mining.set_difficulty')).toBeLessThan(methods.indexOf('mining.notify'));
  // No wish goes below it.
  expect(Math.min(...client.difficulties)).toBe(500_000);

  const plain = await clientAt(0);
  await plain.login();
  expect(plain.difficulties[0]).toBe(42);
});

test('a difficulty below 1 is told as a plain decimal on a tiny listener, and not on the one beside it', async () => {
  rig = await startRig({ config: { listen: [at(), at('tiny')], minDiff: 1, startDiff: 1 }, bits: BITS_VERY_HARD });
  const tiny = await clientAt(1);
  await tiny.login();
  expect(tiny.difficulties[0]).toBe(0.001);
  await tiny.call('mining.suggest_difficulty', [0.00015]);
  await until('the wish is heard', () => tiny.difficulties.includes(0.00015));
  expect(tiny.lines.find((line) => line.includes('set_difficulty') && line.includes('0.00015'))).toBeDefined();
  for (const line of tiny.lines) expect(line.length).toBeLessThan(4_096);

  const plain = await clientAt(0);
  await plain.login();
  await plain.call('mining.suggest_difficulty', [0.00015]);
  expect(plain.difficulties).toEqual([1]);
});

test('a listener whose minimum the work cannot keep says so once, and its miners get the difficulty of the work', async () => {
  const agents = [
    { match: 'tiny', profile: 'tiny' },
    { match: 'nicehash', profile: 'rental' },
  ] as const;
  const miners = [{ name: 'alice', minDiff: 7 }];
  rig = await startRig({
    config: { listen: [at(), at('rental')], minDiff: 1e-6, agents, miners },
    bits: BITS_HARD,
  });
  const client = await clientAt(1);
  await client.login();
  expect(client.difficulties[0]).toBe(1);
  expect(rig.lines.filter((line) => line.includes('is above the difficulty of the work'))).toEqual([
    'lodestream.agents "nicehash": mindiff 500000 is above the difficulty of the work, 1: miners get the latter',
    'lodestream.miners "alice": mindiff 7 is above the difficulty of the work, 1: miners get the latter',
    'stratum address 127.0.0.1:0: mindiff 500000 is above the difficulty of the work, 1: miners get the latter',
  ]);
});

test('a notify that is too long for tiny miners is said once, and only where there is a tiny listener', async () => {
  for (const profile of ['tiny', undefined] as const) {
    rig = await startRig({ config: { listen: [at(profile)] } });
    const { jobs } = rig.source;
    const made = { value: null, txCount: 0, template: null, upstream: null };
    for (let i = 0; i < 3; i++) {
      const content = { ...jobs.current!, coinbase2: new Uint8Array(2_000 + i) };
      rig.daemon.makeJob(jobs, content, { ...made, id: `${i}` });
    }
    const said = rig.lines.filter((line) => line.includes('more than the 4096 that tiny miners can read'));
    expect(said).toHaveLength(profile === 'tiny' ? 1 : 0);
    await rig.close();
  }
});

test('a source that leaves three bytes of extranonce2 is not given to a rental listener', async () => {
  rig = await startRig({ config: { listen: [at(), at('rental')], nonce2Bytes: 3 } });
  const rented = await clientAt(1);
  const reply = await rented.subscribe();
  expect(reply).toMatchObject({ result: null, error: [20, expect.stringContaining('extranonce2'), null] });
  await until('closed', () => rented.closed);
  const plain = await clientAt(0);
  await plain.login();
  expect(plain.nonce2Bytes).toBe(3);
});

test('an agent of a marketplace has its minimum from the first difficulty on, a microcontroller its fraction, on the same listener', async () => {
  const agents = [
    { match: 'nicehash', profile: 'rental' },
    { match: 'nerdminer', profile: 'tiny' },
  ] as const;
  rig = await startRig({ config: { agents, minDiff: 1, startDiff: 42 }, bits: BITS_VERY_HARD });
  const rented = await rig.client();
  await rented.subscribe('NiceHash/1.0.0');
  await rented.call('mining.authorize', ['alice.1', 'd=1']);
  expect(rented.difficulties).toEqual([500_000]);
  const tiny = await rig.client();
  // Before the subscription, as this firmware does: the wish is heard once it is known who asks.
  await tiny.call('mining.suggest_difficulty', [0.00015]);
  await tiny.subscribe('NerdMinerV2/V1.7.0');
  await tiny.call('mining.authorize', ['alice.2', 'x']);
  expect(tiny.difficulties).toEqual([0.00015]);
  const plain = await rig.client();
  await plain.call('mining.suggest_difficulty', [0.00015]);
  await plain.subscribe('cgminer/4.12.0');
  expect(plain.difficulties).toEqual([1]);
});

test('a worker’s own difficulties come with its authorization, and new work with them', async () => {
  const miners = [
    { name: 'alice', minDiff: 100 },
    { name: 'alice.rig1', minDiff: 0.01, startDiff: 0.5, maxDiff: 2 },
  ];
  rig = await startRig({ config: { miners, minDiff: 1, startDiff: 42 }, bits: BITS_VERY_HARD });
  const rig1 = await rig.client();
  await rig1.login('alice.rig1');
  await until('its start', () => rig1.difficulties.length === 2);
  expect(rig1.difficulties).toEqual([42, 0.5]);
  expect(rig1.job.clean).toBe(true);
  await rig1.call('mining.suggest_difficulty', [1_000]);
  await rig1.call('mining.suggest_difficulty', [0.02]);
  expect(rig1.difficulties.slice(2)).toEqual([2, 0.02]);
  // The first name of a line decides.
  await rig1.call('mining.authorize', ['alice.rig2', 'x']);
  expect(rig1.difficulties).toHaveLength(4);
  const rig2 = await rig.client();
  await rig2.login('alice.rig2', 'd=7');
  await until('its minimum', () => rig2.difficulties.length === 2);
  expect(rig2.difficulties).toEqual([42, 100]);
  const bob = await rig.client();
  await bob.login('bob.rig1');
  expect(bob.difficulties).toEqual([42]);
});

test('minimum-difficulty is kept: neither a wish, nor silence, nor vardiff goes below it; where it cannot be kept it is refused', async () => {
  rig = await startRig({ config: { minDiff: 1, startDiff: 42, maxDiff: 100_000 }, bits: BITS_VERY_HARD });
  const client = await rig.client();
  const ask = async (value: unknown): Promise<unknown> => {
    const parameters = { 'minimum-difficulty.value': value };
    const reply = await client.call('mining.configure', [['minimum-difficulty'], parameters]);
    return reply.result['minimum-difficulty'];
  };
  expect(await ask(200_000)).toBe(false);
  expect(await ask(1e12)).toBe(false);
  expect(await ask(0)).toBe(false);
  expect(await ask(2_048)).toBe(true);
  await client.login('alice.w1', 'd=5');
  for (let minute = 0; minute < 5; minute++) {
    rig.tick(60_000);
    rig.daemon.sweep();
  }
  await client.call('mining.suggest_difficulty', [10_000]);
  rig.tick(60_000);
  rig.daemon.sweep();
  await until('a quarter', () => client.difficulties.includes(2_500));
  rig.tick(60_000);
  rig.daemon.sweep();
  await until('down to the minimum', () => client.difficulty === 2_048);
  expect(Math.min(...client.difficulties)).toBe(2_048);
});

test('under compat ckpool a worker’s minimum is a floor of vardiff, as CKPool’s own is: between 0.4 and 0.5 shares a second nothing changes', async () => {
  const after = async (miners: Config['miners'], everyS: number): Promise<number> => {
    rig = await startRig({ config: { compat: 'ckpool', miners, minDiff: 1, startDiff: 1_000 }, bits: BITS_VERY_HARD });
    const miner = new ModelMiner(rig, { firmware: 'at once' });
    for (let i = 0; i < 400; i++) {
      rig.tick(everyS * 1_000);
      miner.submit({ job: miner.job!, sdiff: miner.believed * 1.1 });
      miner.readAll();
    }
    await rig.close();
    return miner.told;
  };
  const miners = [{ name: 'alice', minDiff: 1_000 }];
  expect(await after(miners, 2.2)).toBe(1_000);
  expect(await after([], 2.2)).toBeGreaterThan(1_000);
  expect(await after(miners, 9)).toBe(1_000);
  expect(await after([], 9)).toBeLessThan(1_000);
});
