/** The conformance table, run against our daemon in both of its `compat` settings. `npm run conformance` runs it against any other pool. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Rig, someHash, startRig, template } from '../../services/stratum/rig.ts';
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
  let count = 0;
  return {
    rig,
    target: {
      host: '127.0.0.1',
      port: rig.port,
      flavour: compat,
      settleMs: 0,
      newBlock: () =>
        rig.source.take(template(rig.profile, { prevHash: someHash(`${compat} ${++count}`), height: 112 + count })),
      newJob: () => {
        const { current } = rig.source.jobs;
        rig.source.take(
          template(rig.profile, { prevHash: current!.prevHashRpc, height: current!.height, curtime: current!.ntime }),
        );
      },
      tick: (seconds) => {
        rig.tick(seconds * 1_000);
        rig.daemon.sweep();
      },
      ...(config === undefined ? {} : { config }),
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
