/** bfgminer and cgminer on the toy chain: they greet, mine, come back after a restart of the pool, and are refused nothing but late shares. */
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { startPool } from '../../../services/stratum/main.ts';
import { type Family, findFamily, startFamily } from '../../helpers/bfgminer.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';
import { journaled, testLife } from './rig.ts';

const have: Record<Family, unknown> = {
  bfgminer: await havePart('bfgminer', () => findFamily('bfgminer')),
  cgminer: await havePart('cgminer', () => findFamily('cgminer')),
};

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

describe.each(['bfgminer', 'cgminer'] as const)('%s', (family) => {
  test.skipIf(have[family] === undefined)(
    'mines, and goes on after the pool was started again',
    async () => {
      const dir = tempDir(family);
      ends.push(() => dir.remove());
      const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
      ends.push(() => toy.close());
      const dataDir = join(dir.path, 'data');
      const config: Config = {
        ...loadConfig({ options: { 'lodestream.data_dir': dataDir, logdir: join(dir.path, 'logs') } }, {}),
        nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
        zmqBlock: toy.zmqUrl,
        btcAddress: toy.fundingAddress,
        listen: [{ host: '127.0.0.1', port: await freePort() }],
        blockPollMs: 200,
        minDiff: 1e-7,
        startDiff: 1e-6,
      };
      const first = testLife();
      await startPool(config, first.life);
      const url = `stratum+tcp://127.0.0.1:${config.listen[0]!.port}`;
      const miner = await startFamily(family, { url, user: 'alice.rig1' });
      if ('missing' in miner) throw new Error(miner.missing);
      ends.push(() => miner.stop());
      await miner.until(15);
      await first.end();
      const second = testLife();
      await startPool(config, second.life);
      const before = miner.accepted.size;
      await miner.until(before + 10);
      await until('a block of it', () => toy.chain.tip.height >= 1);
      await miner.stop();
      await second.end();

      const shares = await journaled(dataDir, 'ckpool', 'share');
      const accepted = shares.filter((share) => share.accepted);
      expect(accepted.length).toBeGreaterThanOrEqual(miner.accepted.size);
      expect(new Set(accepted.map(({ worker }) => worker))).toEqual(new Set(['alice.rig1']));
      expect(new Set(accepted.map(({ hash }) => hash)).size).toBe(accepted.length);
      // cgminer asks for its session until the pool is there; bfgminer begins anew where it found the port closed once.
      if (family === 'cgminer') expect(new Set(accepted.map(({ enonce1 }) => enonce1)).size).toBe(1);
      // Blocks fly here: a share of the block before comes late.
      const refused = shares.filter((share) => !share.accepted).map(({ reason }) => reason);
      expect(new Set(refused.filter((reason) => reason !== 'Stale'))).toEqual(new Set());
    },
    450_000,
  );
});
