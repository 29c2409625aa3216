/** Solo mode: each user's name is an address, its jobs pay that address, and so do its blocks. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { addressFromScript, scriptFromAddress } from '../../../../services/core/bitcoin/address.ts';
import { parseBlockSummary } from '../../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { bitsFromHex, targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import { parseTransaction } from '../../../../services/core/bitcoin/transaction.ts';
import { type ChainProfile, loadChain } from '../../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../../services/core/config.ts';
import { startToyChain } from '../../../../services/playground/main.ts';
import { startPool } from '../../../../services/stratum/main.ts';
import { type Job, JobIds, JobRegistry } from '../../../../services/stratum/work/job.ts';
import { contentOf, poolIdentity } from '../../../../services/stratum/work/pool.ts';
import { aroundPayee, SoloJobs } from '../../../../services/stratum/work/solo.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { writeProfile } from '../../playground/easy-chain.ts';
import {
  ADDRESS_REGTEST,
  Client,
  type Found,
  journaled,
  type Rig,
  someHash,
  startRig,
  template,
  testLife,
  type Work,
} from '../rig.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** An address of the chain that belongs to nobody. */
function addressOf(profile: ChainProfile, name: string, kind: 'key' | 'script' | 'taproot' = 'key'): string {
  const digest = createHash('sha256').update(name).digest();
  const script =
    kind === 'key'
      ? concatBytes(Uint8Array.of(0, 20), digest.subarray(0, 20))
      : kind === 'script'
        ? concatBytes(Uint8Array.of(0xa9, 20), digest.subarray(0, 20), Uint8Array.of(0x87))
        : concatBytes(Uint8Array.of(0x51, 32), digest);
  return addressFromScript(script, profile.address)!;
}

/** The outputs that a job pays. */
function outputsOf(client: Client, work: Work): { script: string; valueSats: bigint }[] {
  const [, , part1, part2] = work.params as string[];
  const between = client.enonce1 + '00'.repeat(client.nonce2Bytes);
  return parseTransaction(bytesFromHex(part1! + between + part2!)).tx.outputs.map(({ script, valueSats }) => ({
    script: hexFromBytes(script),
    valueSats,
  }));
}

const scriptHex = (address: string, profile: ChainProfile): string =>
  hexFromBytes(scriptFromAddress(address, profile.address));

async function solo(config: Parameters<typeof startRig>[0] = {}): Promise<Rig> {
  const rig = await startRig({ ...config, config: { solo: true, btcAddress: null, ...config.config } });
  ends.push(() => rig.close());
  return rig;
}

describe('a line in solo mode', () => {
  test('is sent a difficulty at subscribe, and its first job, clean, when the user is known', async () => {
    const rig = await solo();
    const address = addressOf(rig.profile, 'a');
    const client = await rig.client();
    await client.subscribe();
    await client.call('mining.suggest_difficulty', [1e-5]);
    await client.call('mining.ping', []);
    expect(client.difficulties.length).toBeGreaterThan(0);
    expect(client.jobs).toHaveLength(0);
    expect((await client.call('mining.authorize', [`${address}.rig`, 'x'])).result).toBe(true);
    await until('a job', () => client.jobs.length > 0);
    expect(client.jobs).toHaveLength(1);
    expect(client.job.clean).toBe(true);
    expect(outputsOf(client, client.job)[0]!.script).toBe(scriptHex(address, rig.profile));
  });

  test.each([
    ['alice.rig', /is an address of chain regtest/],
    ['1PKN98VN2z5gwSGZvGKS2bj8aADZBkyhkZ', /another chain/],
    [`${ADDRESS_REGTEST.slice(0, -1)}x`, /checksum/],
  ])(
    'of a user that is no address of the chain (%s) is refused with the reason, and may try again',
    async (name, why) => {
      const rig = await solo();
      const client = await rig.client();
      await client.subscribe();
      const refused = await client.call('mining.authorize', [name, 'x']);
      expect(refused).toMatchObject({ result: false, error: [24, expect.stringMatching(why), null] });
      expect((await client.call('mining.authorize', [ADDRESS_REGTEST, 'x'])).result).toBe(true);
      await until('a job', () => client.jobs.length === 1);
      expect(rig.journal.of('job')).toHaveLength(1);
    },
  );

  test('is refused as CKPool does it under compat ckpool', async () => {
    const rig = await solo({ config: { compat: 'ckpool' } });
    const client = await rig.client();
    await client.subscribe();
    await client.call('mining.authorize', ['alice', 'x']);
    expect(client.lines.at(-1)).toBe('{"result":false,"error":null,"id":101}');
  });

  test.each(['lodestream', 'ckpool'] as const)(
    'of a name that is no address is closed when it asks again too soon, which the log says once; who mines on stays (compat %s)',
    async (compat) => {
      const rig = await solo({ config: { compat } });
      const mines = await rig.client();
      await mines.login(ADDRESS_REGTEST);
      const said = (words: string): number => rig.lines.filter((line) => line.includes(words)).length;
      for (let i = 0; i < 3; i++) {
        const client = await rig.client();
        await client.subscribe();
        expect((await client.call('mining.authorize', ['alice.rig', 'x'])).result).toBe(false);
        if (i > 0) await until('the end', () => client.closed);
        else expect((await client.call('mining.authorize', ['bob', 'x'])).result).toBe(false);
      }
      expect(said('worker alice.rig failed to authorise as user alice')).toBe(1);
      expect(said('worker alice.rig rate limited due to failed auth attempts')).toBe(1);
      if (compat === 'lodestream') {
        const again = await mines.call('mining.authorize', ['alice', 'x']);
        expect(again.error).toEqual([24, expect.stringMatching(/not heard for [1-6] more seconds$/), null]);
      }
      expect((await mines.submit(ADDRESS_REGTEST, mines.mine(mines.job, { atLeast: mines.difficulty }))).result).toBe(
        true,
      );
    },
  );

  test('has one user: its jobs pay one address; its workers may be many', async () => {
    const rig = await solo();
    const client = await rig.client();
    await client.login(`${ADDRESS_REGTEST}.a`);
    expect((await client.call('mining.authorize', [`${ADDRESS_REGTEST}.b`, 'x'])).result).toBe(true);
    const other = await client.call('mining.authorize', [addressOf(rig.profile, 'other'), 'x']);
    expect(other).toMatchObject({ result: false, error: [24, expect.stringContaining('one user'), null] });
    expect(client.jobs).toHaveLength(1);
  });
});

describe("users' jobs", () => {
  test('have one id and pay each its own address, with the donation as configured, on every template', async () => {
    const donation = { address: ADDRESS_REGTEST, percent: 1.5 };
    const rig = await solo({ config: { donation } });
    const addresses = [
      addressOf(rig.profile, 'a'),
      addressOf(rig.profile, 'b', 'script'),
      addressOf(rig.profile, 'c', 'taproot'),
    ];
    const clients: Client[] = [];
    for (const address of addresses) {
      const client = await rig.client();
      await client.login(`${address}.w`);
      clients.push(client);
    }
    for (let round = 0; round < 3; round++) {
      expect(new Set(clients.map(({ job }) => job.id)).size).toBe(1);
      for (const [i, client] of clients.entries()) {
        expect(outputsOf(client, client.job)).toEqual([
          { script: scriptHex(addresses[i]!, rig.profile), valueSats: 4_925_000_000n },
          { script: scriptHex(ADDRESS_REGTEST, rig.profile), valueSats: 75_000_000n },
          { script: expect.stringMatching(/^6a24aa21a9ed/), valueSats: 0n },
        ]);
      }
      rig.source.take(template(rig.profile, { prevHash: someHash(String(round)) }));
      await until('the next jobs', () => clients.every(({ jobs }) => jobs.length === round + 2));
    }
  });

  test('are journaled for each user, once, before the first notify, and their shares name them', async () => {
    const rig = await solo();
    const [a, b] = ['a', 'b'].map((name) => addressOf(rig.profile, name)) as [string, string];
    const first = await rig.client();
    await first.login(a);
    const second = await rig.client();
    await second.login(`${a}.other`);
    const third = await rig.client();
    await third.login(b);
    const jobs = rig.journal.of('job');
    expect(jobs.map(({ coinbase2 }) => coinbase2)).toEqual([first.job.params[3], third.job.params[3]]);
    expect(second.job.params[3]).toBe(first.job.params[3]);
    expect(new Set(jobs.map(({ job_key }) => job_key)).size).toBe(2);
    for (const [client, user, job] of [
      [first, a, jobs[0]!],
      [third, b, jobs[1]!],
    ] as const) {
      const share = client.mine(client.job, { atLeast: client.difficulty });
      expect((await client.submit(user, share)).result).toBe(true);
      expect((await client.submit(user, share)).error).toEqual([22, 'Duplicate', null]);
      expect(rig.journal.of('share').at(-1)).toMatchObject({ user, job_key: job.job_key, accepted: false });
    }
    // Work for another's address is other work.
    const foreign = third.mine(third.job, { atLeast: third.difficulty * 4 });
    expect((await first.submit(a, foreign)).result).not.toBe(true);
  });

  test('on older templates are taken as what was sent, and journaled no second time', async () => {
    const rig = await solo();
    const client = await rig.client();
    await client.login(ADDRESS_REGTEST);
    const work = client.job;
    const share = client.mine(work, { atLeast: client.difficulty });
    for (let i = 0; i < 12; i++) rig.source.take(template(rig.profile, { curtime: 1795327753 + i }));
    await until('the newest job', () => client.jobs.length === 13);
    expect((await client.submit(ADDRESS_REGTEST, share)).result).toBe(true);
    expect((await client.submit(ADDRESS_REGTEST, share)).error).toEqual([22, 'Duplicate', null]);
    expect(rig.journal.of('job')).toHaveLength(13);
  });

  test('that memory has let go of are made again as they were', () => {
    const profile = loadChain('regtest');
    const identity = poolIdentity({ ...loadConfig({}, {}), solo: true }, profile);
    const jobs = new JobRegistry('o', profile, new JobIds(1n));
    const made: string[] = [];
    const users = new SoloJobs('o', profile, ({ key }) => made.push(key));
    const base = (nowMs: number): Job =>
      jobs.add(contentOf(template(profile), identity, { timeS: 1, random: nowMs, versionMask: 0 }), {
        ...{ nowMs, value: null, txCount: 0, template: null, upstream: null },
      });
    const old = base(0);
    const first = users.jobFor(ADDRESS_REGTEST, old);
    expect(users.jobFor(ADDRESS_REGTEST, old)).toBe(first);
    users.jobFor(ADDRESS_REGTEST, base(700_000));
    const again = users.jobFor(ADDRESS_REGTEST, old);
    expect(again).not.toBe(first);
    expect([again.key, again.notify[0], again.notify[1]]).toEqual([first.key, first.notify[0], first.notify[1]]);
    expect(again.seen).toBe(old.seen);
    expect(made).toEqual([first.key, made[1], first.key]);
  });
});

test('the script of the first output is put in whatever its length, and nothing else changes', () => {
  const part1 = bytesFromHex(`01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0851`);
  const rest = 'ffffffff02';
  const end = '0000000000000000266a24aa21a9ed6a5318c3f476bb95ec9cc13d439ef7b80b23e699e21c2976e2db88780cc2dcce00000000';
  for (const [before, after] of [
    [`0014${'aa'.repeat(20)}`, `5120${'bb'.repeat(32)}`],
    ['6a', `a914${'bb'.repeat(20)}87`],
  ] as const) {
    const part = (script: string): Uint8Array =>
      bytesFromHex(`0a0b0c${rest}00f2052a01000000${(script.length / 2).toString(16).padStart(2, '0')}${script}${end}`);
    const job = { coinbase1: part1, coinbase2: part(before), enonce1Bytes: 2, nonce2Bytes: 2 };
    const script = bytesFromHex(after);
    const [front, behind] = aroundPayee(job);
    const made = concatBytes(front, Uint8Array.of(script.length), script, behind);
    expect(hexFromBytes(made)).toBe(hexFromBytes(part(after)));
  }
});

test('a block on the toy chain pays the user that found it, also on a job from before a restart', async () => {
  const dir = tempDir('solo');
  ends.push(() => dir.remove());
  const chain = writeProfile(dir.path, 0x1e7fffff);
  const profile = loadChain(chain);
  const toy = await startToyChain({
    profile,
    dir: join(dir.path, 'toy'),
    rpcPort: 0,
    zmqPort: null,
    user: 'u',
    pass: 'p',
    trafficPerSecond: 0,
  });
  ends.push(() => toy.close());
  const config = {
    ...loadConfig(
      { solo: true, options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } },
      {},
    ),
    listen: [{ ...loadConfig({}, {}).listen[0]!, host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    chain,
    minDiff: 1e-8,
    startDiff: 1e-7,
  };
  const start = async (): Promise<{ client(): Promise<Client>; end(): Promise<void> }> => {
    const run = testLife();
    const pool = await startPool(config, run.life);
    return {
      end: run.end,
      client: async () => {
        const client = await Client.open(pool.addresses[0]!.port);
        ends.push(() => client.destroy());
        return client;
      },
    };
  };
  const solve = (client: Client): Found =>
    client.mine(client.job, { solves: targetFromBits(bitsFromHex(client.job.params[6] as string)) });
  const [alice, bob] = ['alice', 'bob'].map((name) => addressOf(profile, name)) as [string, string];
  const paidAt = (height: number): string =>
    hexFromBytes(parseBlockSummary(toy.chain.bytes(toy.chain.at(height)!)).coinbase.outputs[0]!.script);

  const first = await start();
  const [one, two] = [await first.client(), await first.client()];
  await one.login(alice);
  await two.login(bob);
  expect((await two.submit(bob, solve(two))).result).toBe(true);
  await until('a block', () => toy.chain.tip.height === 1);
  expect(paidAt(1)).toBe(scriptHex(bob, profile));
  await until('new work', () => one.jobs.length > 1 && two.jobs.length > 1);
  const [late, later] = [solve(one), solve(two)];
  const accepted = one.mine(one.job, { atLeast: one.difficulty, below: 1e-5, nonce2: 7 });
  expect((await one.submit(alice, accepted)).result).toBe(true);
  await first.end();

  const second = await start();
  const again = await second.client();
  await again.subscribe('test/1', one.sessionId);
  expect(again.enonce1).toBe(one.enonce1);
  await again.call('mining.authorize', [alice, 'x']);
  expect((await again.submit(alice, accepted)).error).toEqual([22, 'Duplicate', null]);
  expect((await again.submit(alice, late)).result).toBe(true);
  await until('another block', () => toy.chain.tip.height === 2);
  expect(paidAt(2)).toBe(scriptHex(alice, profile));
  await until('new work', () => again.job.params[1] !== one.job.params[1]);
  const other = await second.client();
  await other.subscribe('test/1', two.sessionId);
  await other.call('mining.authorize', [bob, 'x']);
  expect((await other.submit(bob, later)).error).toEqual([21, 'Stale', null]);
  await second.end();

  const solved = (await journaled(config.dataDir, 'ckpool', 'block')).filter(({ answers }) => answers.length > 0);
  const keys = new Map((await journaled(config.dataDir, 'ckpool', 'job')).map((job) => [job.job_key, job]));
  expect(solved.length).toBeGreaterThanOrEqual(2);
  for (const block of solved) expect(keys.has(block.job_key)).toBe(true);
});
