/**
 * On chains that are easier than what the pool would like to hand out, nothing hides a block: whatever asks for more (start, maximum, port,
 * profile, agent, worker, password, suggestion), every hash at or below the exact target of nBits is submitted, accepted and sent to the node.
 * Hashes are drawn from a seed and judged by real sessions; on the easiest chains they are real.
 */
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { bitsFromTarget, targetFromBits, targetFromDifficulty } from '../../../services/core/bitcoin/target.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { startPool } from '../../../services/stratum/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { FIRMWARES, ModelMiner, type ModelMinerOptions } from './line-model.ts';
import { Client, type Rig, someHash, startRig, template, testLife } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

/** nBits at about this difficulty. */
function bitsAt(difficulty: number): number {
  return bitsFromTarget(targetFromDifficulty(difficulty));
}

const LISTEN = { host: '127.0.0.1', port: 0 } as const;

/** All that asks for a difficulty above the chain's. */
const HIDERS: readonly (readonly [string, Partial<Config>, Partial<ModelMinerOptions>])[] = [
  ['CKPool’s defaults', { minDiff: 1, startDiff: 42 }, {}],
  ['a start and a minimum of a million', { minDiff: 1e6, startDiff: 1e6 }, {}],
  ['a high-difficulty port', { minDiff: 1, startDiff: 42, highDiff: 1e6, highDiffListeners: [0] }, {}],
  ['a rental listener', { minDiff: 1, startDiff: 42, listen: [{ ...LISTEN, profile: 'rental' }] }, {}],
  ['an agent’s profile', { agents: [{ match: 'nicehash', profile: 'rental' }] }, { agent: 'NiceHash/1' }],
  ['a worker’s minimum', { miners: [{ name: 'alice', minDiff: 1e9 }] }, {}],
  ['a password', { minDiff: 1, startDiff: 42 }, { password: 'd=1e12' }],
];

describe.each([1e-9, 0.5, 5, 41])(
  `a chain at difficulty %d finds as many blocks as a plain miner (SEED=${SEED})`,
  (difficulty) => {
    test.each(['lodestream', 'ckpool'] as const)('compat %s', async (compat) => {
      const random = seeded(SEED);
      for (const [what, config, options] of HIDERS) {
        for (const firmware of FIRMWARES) {
          rig = await startRig({ config: { compat, ...config }, template: null });
          let blocks = 0;
          let renewals = 0;
          let bits = bitsAt(difficulty);
          const renew = (): void => {
            renewals += 1;
            const prevHash = someHash(`small${blocks}`);
            rig.source.take(
              template(rig.profile, { height: 111 + blocks, prevHash, bits, curtime: 1_795_327_752 + renewals }),
            );
            rig.daemon.facts.flush();
          };
          renew();
          const miner = new ModelMiner(rig, { firmware, ...options });
          let plain = 0;
          let found = 0;
          for (let i = 0; i < 400; i++) {
            miner.readAll();
            const job = miner.job!;
            // Hashes that could be worth something: one in eight of them is a block, now and then just so.
            const reach = job.target * 8n > 2n ** 256n - 1n ? 2n ** 256n - 1n : job.target * 8n;
            const drawn = (reach * BigInt(Math.floor(random() * 2 ** 53))) >> 53n;
            const hash = random() < 0.05 ? job.target : drawn;
            const solves = hash <= job.target;
            if (solves) plain += 1;
            if (hash <= targetFromDifficulty(miner.believed)) {
              const sdiff = Number(0xffffn << 208n) / Number(hash === 0n ? 1n : hash);
              const ruled = miner.submit({ job, sdiff }, solves);
              if (solves && ruled > 0) found += 1;
            }
            if (solves) {
              blocks += 1;
              // Each tenth block retargets.
              if (blocks % 10 === 0) bits = bitsAt(Math.max(difficulty * 4 ** (random() * 2 - 1), 4.7e-10));
              renew();
            } else if (random() < 0.05) renew();
            if (random() < 0.05) miner.call('mining.suggest_difficulty', [Math.ceil(1e9 * random())]);
            if (random() < 0.05) rig.tick(70_000);
            if (random() < 0.05) miner.session.sweep();
          }
          expect(plain, what).toBeGreaterThan(20);
          expect(found, `${what}, a miner that takes a difficulty ${firmware}`).toBe(plain);
          await rig.close();
        }
      }
    });
  },
);

test.each([
  [1e-9, 40],
  [1e-6, 5],
])(
  'with real hashes at difficulty %d each block of a plain miner is the pool’s, and reaches the node',
  async (difficulty, count) => {
    const bits = bitsAt(difficulty);
    rig = await startRig({ config: { minDiff: 1, startDiff: 1e6, highDiffListeners: [0] }, bits });
    const client = await rig.client();
    await client.login('alice.w1', 'd=1000000');
    await client.call('mining.suggest_difficulty', [1e9]);
    for (let block = 1; block <= count; block++) {
      // The first hash that solves; what this client filters by must let it pass.
      const share = client.mine(client.job, { solves: targetFromBits(bits), nonce2: block });
      expect(share.reached).toBeGreaterThanOrEqual(client.difficulty);
      expect((await client.submit('alice.w1', share)).result).toBe(true);
      expect(rig.submitted).toHaveLength(block);
      const { length } = client.jobs;
      rig.source.take(template(rig.profile, { height: 111 + block, prevHash: someHash(`real${block}`), bits }));
      await until('the next job', () => client.jobs.length > length, { everyMs: 2 });
    }
  },
);

test('on the toy chain, which validates and retargets, each block of a plain miner is in the chain, with CKPool’s difficulties in the configuration', async () => {
  const dir = tempDir('small-toy');
  const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  const run = testLife();
  let client: Client | undefined;
  try {
    const config = {
      ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } }, {}),
      listen: [{ ...LISTEN, profile: 'rental' as const }],
      nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
      zmqBlock: toy.zmqUrl,
      btcAddress: toy.fundingAddress,
    };
    const pool = await startPool(config, run.life);
    client = await Client.open(pool.addresses[0]!.port);
    await client.login('alice.w1', 'd=42');
    const begun = toy.chain.tip.height;
    const BLOCKS = 6;
    for (let block = 1; block <= BLOCKS; block++) {
      const work = client.job;
      const bits = Number.parseInt(work.params[6] as string, 16);
      const share = client.mine(work, { solves: targetFromBits(bits) });
      expect(share.reached).toBeGreaterThanOrEqual(client.difficulty);
      expect((await client.submit('alice.w1', share)).result).toBe(true);
      await until('the block is in the chain', () => toy.chain.tip.height === begun + block);
      await until('work on it', () => client!.job.params[1] !== work.params[1], { everyMs: 2 });
    }
    expect(client.difficulty).toBeLessThan(0.01);
  } finally {
    client?.destroy();
    await run.end();
    await toy.close();
    dir.remove();
  }
});
