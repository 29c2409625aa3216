/** The conformance table against a real ckpool-lhr on our toy chain, where there is a build of it: its column says what it answers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startToyChain } from '../../../services/playground/main.ts';
import { type Ckpool, findCkpool, startCkpool } from '../../helpers/ckpool.ts';
import { tempDir } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';
import { CASES } from './cases/table.ts';
import { lacks, type Outcome, runCase, type Target } from './run.ts';

const found = await havePart('ckpool', findCkpool);
/** Lines at a time, of the cases that leave other lines alone. */
const AT_ONCE = 12;

describe.skipIf(!found)('ckpool-lhr', () => {
  const dir = tempDir('ckpool-chain');
  const outcomes = new Map<string, Outcome>();
  let chain: Awaited<ReturnType<typeof startToyChain>>;
  let pool: Ckpool;

  beforeAll(async () => {
    chain = await startToyChain({ dir: dir.path, rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p', trafficPerSecond: 0 });
    const node = {
      rpc: chain.rpcUrl.replace('http://', ''),
      user: 'u',
      pass: 'p',
      zmq: chain.zmqUrl!,
      address: chain.fundingAddress,
    };
    pool = await startCkpool(found!.program, node, { mindiff: 1e-6, startdiff: 1e-6, maxdiff: 1e-5 });
    const target: Target = {
      host: '127.0.0.1',
      port: pool.port,
      flavour: 'ckpool-lhr',
      settleMs: 250,
      newJob: () => pool.update(),
      newBlock: async () => {
        await fetch(chain.rpcUrl, {
          method: 'POST',
          headers: { authorization: `Basic ${Buffer.from('u:p').toString('base64')}` },
          body: JSON.stringify({ id: 1, method: 'generatetoaddress', params: [1, chain.fundingAddress] }),
        });
      },
    };
    const cases = CASES.filter((one) => lacks(one, target) === null);
    const moves = (one: (typeof CASES)[number]): boolean =>
      one.steps.some(({ kind }) => kind === 'block' || kind === 'job');
    const alone = cases.filter(moves);
    const free = cases.filter((one) => !moves(one));
    const run = async (one: (typeof CASES)[number]): Promise<void> => {
      outcomes.set(`${one.group}: ${one.name}`, await runCase(one, target));
    };
    const queue = [...free];
    const worker = async (): Promise<void> => {
      for (let one = queue.shift(); one !== undefined; one = queue.shift()) await run(one);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    for (const one of alone) await run(one);
  }, 720_000);
  afterAll(async () => {
    await pool?.stop();
    await chain?.close();
    dir.remove();
  });

  for (const one of CASES) {
    const name = `${one.group}: ${one.name}`;
    test(name, ({ skip }) => {
      const outcome = outcomes.get(name);
      if (outcome === undefined) skip('it wants a clock or another configuration');
      expect(outcome!.result, outcome!.detail).toBe('passed');
    });
  }
});
