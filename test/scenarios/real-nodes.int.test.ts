/**
 * The whole sentence on real nodes: litecoind in regtest (scrypt, segwit, MWEB) and btcd in regtest (sha256d) are mined on through our stratum port;
 * the nodes take the blocks, and shares, blocks, epochs and a payout are in SQL.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { targetFromBits } from '../../services/core/bitcoin/target.ts';
import { btcdProgram, startBtcd } from '../helpers/btcd.ts';
import { findProgram, type TestNode } from '../helpers/coin-node.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { startLitecoind } from '../helpers/litecoind.ts';
import { havePart } from '../helpers/require.ts';
import { lodestream, lodestreamOnce, type TreePorts, treeOf, treePorts } from '../helpers/tree.ts';
import { Client } from '../services/stratum/rig.ts';

/** Runs `lodestream start` on a node, mines `blocks` blocks through its stratum port, and hands on what SQL then says. */
async function minedOn(
  node: TestNode,
  of: { chain: string; pow: 'scrypt' | 'sha256d'; address: string; blocks: number; followFrom: number },
  check: (sql: (query: string) => Promise<string>, flags: readonly string[]) => Promise<void>,
): Promise<void> {
  const dir = tempDir(of.chain);
  const ports: TreePorts = await treePorts();
  const config = join(dir.path, 'ckpool.conf');
  writeFileSync(
    config,
    JSON.stringify({
      btcd: [{ url: node.rpcUrl, auth: node.user, pass: node.pass, notify: false }],
      btcaddress: of.address,
      mindiff: 1e-12,
      startdiff: 1e-9,
      update_interval: 5,
      lodestream: { follow_from_height: of.followFrom },
    }),
  );
  const flags = [
    ...['--config', config, '--data-dir', join(dir.path, 'data'), '--stratum', `127.0.0.1:${ports.stratum}`],
    ...['--http', `127.0.0.1:${ports.http}`, '--clickhouse-http', `127.0.0.1:${ports.clickhouse}`],
  ];
  const leash = await lodestream(['start', ...flags]);
  const tree = treeOf(leash, ports, join(dir.path, 'data'));
  try {
    await until(
      () => `the tree is up: ${leash.output()}`,
      () => leash.output().includes('Lodestream is running'),
    );
    await until('healthz is 200', async () => (await tree.health()) === 200, { everyMs: 250 });
    const client = await Client.open(ports.stratum);
    await client.login('alice.rig1');
    const start = await node.rpc<number>('getblockcount');
    for (let mined = 0; mined < of.blocks; mined++) {
      const work = client.job;
      const target = targetFromBits(Number.parseInt(work.params[6] as string, 16));
      // In regtest every second hash solves a block.
      const found = client.mine(work, { solves: target, atLeast: client.difficulty, pow: of.pow });
      const reply = await client.submit('alice.rig1', found);
      expect(reply).toMatchObject({ result: true, error: null });
      await until(
        () => `the node took block ${start + mined + 1}: ${leash.output().slice(-1500)}`,
        async () => (await node.rpc<number>('getblockcount')) === start + mined + 1,
      );
      await until('clean work', () => client.job !== work && client.job.clean);
    }
    client.destroy();
    await until(
      'the shares in SQL',
      async () => Number(await tree.sqlOrNull('SELECT count() FROM shares WHERE accepted')) === of.blocks,
      { everyMs: 200 },
    );
    await until(
      'the blocks in SQL, ours and found by us',
      async () =>
        (await tree.sqlOrNull(`SELECT count() FROM blocks WHERE ours AND solved AND on_chain AND user = 'alice'`)) ===
        String(of.blocks),
      { everyMs: 200 },
    );
    await check(tree.sql, flags);
  } finally {
    await leash.stop({ graceMs: 30_000 });
    dir.remove();
  }
}

const litecoind = await havePart('node', () =>
  findProgram(process.env.LITECOIND ?? 'litecoind') === undefined ? { missing: 'no litecoind on PATH' } : { ok: true },
);
const btcd = await havePart('btcd', async () => {
  const program = await btcdProgram();
  return typeof program === 'string' ? { program } : program;
});

describe.skipIf(litecoind === undefined)('litecoind', () => {
  test('with MWEB active: blocks through our port, fees exact, a contract on its way', {
    timeout: 720_000,
  }, async () => {
    const node = await startLitecoind();
    if ('missing' in node) throw new Error(node.missing);
    try {
      await node.activateMweb();
      const address = await node.rpc<string>('getnewaddress', '', 'bech32');
      // A transaction with a fee, so that a block of ours carries one.
      await node.rpc('sendtoaddress', await node.rpc('getnewaddress', '', 'bech32'), 1);
      await minedOn(
        node,
        { chain: 'litecoin-regtest', pow: 'scrypt', address, blocks: 4, followFrom: 430 },
        async (sql, flags) => {
          const [height, subsidy, fees] = (
            await sql('SELECT height, subsidy_sats, fees_sats FROM blocks WHERE ours ORDER BY height LIMIT 1')
          ).split('\t');
          const stats = await node.rpc<{ subsidy: number; totalfee: number }>('getblockstats', Number(height), [
            'subsidy',
            'totalfee',
          ]);
          expect({ subsidy, fees }).toEqual({ subsidy: String(stats.subsidy), fees: String(stats.totalfee) });
          expect(Number(fees)).toBeGreaterThan(0);
          expect(await sql('SELECT count() FROM shares WHERE accepted AND (hash = block_hash)')).toBe('0');
          const opened = await lodestreamOnce([
            'contracts',
            'open',
            ...flags,
            '--id',
            'c1',
            '--customer',
            'Ann',
            '--payout-address',
            address,
            '--hashrate',
            '1kH/s',
          ]);
          expect(opened.status, opened.output).toBe(0);
          await until(
            'the contract in SQL',
            async () => (await sql("SELECT count() FROM contracts WHERE contract_id = 'c1'")) === '1',
          );
        },
      );
    } finally {
      await node.stop();
    }
  });
});

describe.skipIf(btcd === undefined)('btcd', () => {
  test('sha256d blocks through our port', { timeout: 720_000 }, async () => {
    const node = await startBtcd();
    if ('missing' in node) throw new Error(node.missing);
    try {
      await node.generate(3);
      await minedOn(
        node,
        {
          chain: 'regtest',
          pow: 'sha256d',
          address: 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080',
          blocks: 5,
          followFrom: 0,
        },
        async (sql) => {
          const best = await node.rpc<string>('getbestblockhash');
          expect(await sql('SELECT hash FROM blocks WHERE on_chain ORDER BY height DESC LIMIT 1')).toBe(best);
          // Tables are filled one after the other: that blocks are there does not say that their epoch is.
          await expect
            .poll(() => sql('SELECT status, first_height, nbits FROM epochs'), { timeout: 120_000, interval: 200 })
            .toBe('open\t0\t207fffff');
        },
      );
    } finally {
      await node.stop();
    }
  });
});
