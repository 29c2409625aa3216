/** A real miner through `lodestream proxy` to `lodestream pool`: its shares are in both origins' rows, and the pool's verdicts beside them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort, type Leashed, tempDir, until } from '../helpers/leash.ts';
import { findMinerd, startMinerd } from '../helpers/minerd.ts';
import { havePart } from '../helpers/require.ts';
import { lodestream, startPlayground, type Tree, treePorts } from '../helpers/tree.ts';

let dir: { path: string; remove(): void };
let tree: Tree;
let proxy: Leashed;
let proxyPort: number;

beforeAll(async () => {
  dir = tempDir('proxy-scenario');
  const ports = await treePorts();
  tree = await startPlayground(dir.path, ports);
  await until(
    'the pool listens',
    () => tree.children().pool !== 0 && tree.leash.output().includes('Lodestream is running'),
  );
  proxyPort = await freePort();
  const config = join(dir.path, 'ckproxy.conf');
  writeFileSync(
    config,
    JSON.stringify({
      proxy: [{ url: `127.0.0.1:${ports.stratum}`, auth: 'farm.proxy', pass: 'x' }],
      serverurl: [`127.0.0.1:${proxyPort}`],
      mindiff: 1e-7,
      startdiff: 2e-6,
      lodestream: { chain: 'playground', origin: 'farm', listen: [`127.0.0.1:${proxyPort}`] },
    }),
  );
  proxy = await lodestream(['proxy', '--config', config, '--data-dir', dir.path]);
}, 360_000);
afterAll(async () => {
  await proxy?.stop();
  await tree?.leash.stop({ graceMs: 30_000 });
  dir?.remove();
});

async function expectBothOrigins(worker: string): Promise<void> {
  const both = `SELECT count() FROM (SELECT hash FROM shares WHERE accepted AND origin = 'farm' AND worker = '${worker}') AS below
    INNER JOIN (SELECT hash FROM shares WHERE accepted AND origin = 'playground' AND worker = 'farm.proxy') AS above USING (hash)`;
  await until(
    () => `shares of ${worker} in both origins (${proxy.output().slice(-1500)})`,
    async () => Number(await tree.sqlOrNull(both)) > 3,
    { everyMs: 500 },
  );
  await until(
    'verdicts',
    async () =>
      Number(await tree.sqlOrNull("SELECT count() FROM share_verdicts WHERE origin = 'farm' AND accepted")) > 3,
    { everyMs: 250 },
  );
  // A fast miner at its first difficulty sends dozens of shares while the news of a block is on its way; it evens out.
  const verdicts = "SELECT countIf(accepted) > countIf(NOT accepted) FROM share_verdicts WHERE origin = 'farm'";
  await until('more shares credited than refused', async () => (await tree.sqlOrNull(verdicts)) === '1', {
    everyMs: 250,
  });
  const reasons = "SELECT DISTINCT reason FROM share_verdicts WHERE origin = 'farm' AND NOT accepted";
  expect(['', 'Stale']).toContain(await tree.sql(reasons));
}

test('our own CPU miner behind the proxy', { timeout: 720_000 }, async () => {
  const miner = await lodestream(['_cpu-miner', '--stratum', `127.0.0.1:${proxyPort}`, '--miner-share', '20']);
  try {
    await expectBothOrigins('alice.cpu1');
  } finally {
    await miner.stop();
  }
});

const minerd = await havePart('miner', findMinerd);

describe.skipIf(minerd === undefined)('a miner that nobody here wrote', () => {
  test("pooler's cpuminer behind the proxy", { timeout: 720_000 }, async () => {
    const miner = await startMinerd({
      url: `stratum+tcp://127.0.0.1:${proxyPort}`,
      user: 'carol.cpu',
      pass: 'x',
      algorithm: 'sha256d',
    });
    try {
      await expectBothOrigins('carol.cpu');
    } finally {
      if (!('missing' in miner)) await miner.stop();
    }
  });
});
