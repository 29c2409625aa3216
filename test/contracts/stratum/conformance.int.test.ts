/** The conformance table, run against our daemon in both of its `compat` settings. `npm run conformance` runs it against any other pool. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../services/core/config.ts';
import { startProxy } from '../../../services/stratum/main.ts';
import { tempDir } from '../../helpers/leash.ts';
import { type Rig, someHash, startRig, template, testLife } from '../../services/stratum/rig.ts';
import { CASES } from './cases/table.ts';
import { lacks, runCase, type Target } from './run.ts';

const CONFIG = { minDiff: 1e-6, startDiff: 1e-6, maxDiff: 1e-5 };

async function startTarget(
  compat: 'lodestream' | 'ckpool',
  config?: Readonly<Record<string, unknown>>,
): Promise<{ rig: Rig; target: Target }> {
  const rig = await startRig({
    config: { ...CONFIG, compat, ...config },
    lineLimitBytes: compat === 'ckpool' ? 1_024 : 8_192,
  });
  return {
    rig,
    target: {
      host: '127.0.0.1',
      port: rig.port,
      flavour: compat,
      settleMs: 0,
      ...nodeOf(rig),
      tick: (seconds) => {
        rig.tick(seconds * 1_000);
        rig.daemon.sweep();
      },
      ...(config === undefined ? {} : { config }),
    },
  };
}

/** What its node does: a block, or other work on the same one. */
function nodeOf({ source, profile }: Rig): Required<Pick<Target, 'newBlock' | 'newJob'>> {
  let count = 0;
  return {
    newBlock: () => {
      count += 1;
      source.take(template(profile, { prevHash: someHash(`block ${count}`), height: 112 + count }));
    },
    newJob: () => {
      const { prevHashRpc, height, ntime } = source.jobs.current!;
      source.take(template(profile, { prevHash: prevHashRpc, height, curtime: ntime }));
    },
  };
}

describe.each(['lodestream', 'ckpool'] as const)('compat: %s', (compat) => {
  let shared: { rig: Rig; target: Target };
  let own: { rig: Rig; target: Target } | null = null;
  beforeAll(async () => {
    shared = await startTarget(compat);
  });
  afterAll(() => shared.rig.close());
  afterEach(async () => {
    await own?.rig.close();
    own = null;
  });

  for (const one of CASES) {
    // A moved clock and another configuration are for one case alone.
    const alone = one.config !== undefined || one.steps.some(({ kind }) => kind === 'tick');
    const capable = {
      flavour: compat,
      newBlock: () => {},
      newJob: () => {},
      tick: () => {},
      host: '',
      port: 0,
      settleMs: 0,
    };
    const lacking = lacks(one, one.config === undefined ? capable : { ...capable, config: one.config });
    test.skipIf(lacking !== null)(`${one.group}: ${one.name}`, async () => {
      if (alone) own = await startTarget(compat, one.config);
      const { result, detail } = await runCase(one, (own ?? shared).target);
      expect(result, detail).toBe('passed');
    });
  }
});

describe('a proxy in front of it', () => {
  const dir = tempDir('conformance');
  const { life, end } = testLife();
  const options = { 'lodestream.data_dir': dir.path, logdir: `${dir.path}/logs`, 'lodestream.chain': 'regtest' };
  let pool: Rig;
  let target: Target;
  beforeAll(async () => {
    // What the pool asks bounds what the proxy may ask.
    pool = await startRig({ config: { minDiff: 1e-5, startDiff: 1e-5, maxDiff: 1e-5 } });
    const handle = await startProxy(
      {
        ...loadConfig({ mode: 'proxy', name: 'between', options }, {}),
        ...CONFIG,
        upstreams: [{ url: `127.0.0.1:${pool.port}`, auth: 'addr.proxy', pass: 'x' }],
        listen: [{ host: '127.0.0.1', port: 0 }],
      },
      life,
    );
    const { port } = handle.addresses[0]!;
    target = { host: '127.0.0.1', port, flavour: 'lodestream', proxy: true, settleMs: 0, ...nodeOf(pool) };
  });
  afterAll(async () => {
    await end();
    await pool.close();
    dir.remove();
  });

  const capable = { host: '', port: 0, flavour: 'lodestream', proxy: true, settleMs: 0 } as const;
  for (const one of CASES) {
    const lacking = lacks(one, { ...capable, newBlock: () => {}, newJob: () => {} });
    test.skipIf(lacking !== null)(`${one.group}: ${one.name}`, async () => {
      const { result, detail } = await runCase(one, target);
      expect(result, detail).toBe('passed');
    });
  }
});
