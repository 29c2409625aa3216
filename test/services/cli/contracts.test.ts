import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  coinText,
  contractsCommand,
  hashrateText,
  openContract,
  termsFromFlags,
  textTable,
} from '../../../services/cli/contracts.ts';
import { payoutsCommand } from '../../../services/cli/payouts.ts';
import { loadConfig } from '../../../services/core/config.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { listRows, storeError } from '../../../services/core/store.ts';
import { freePort, tempDir } from '../../helpers/leash.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

describe('what is printed', () => {
  test.each([
    [0n, '0 H/s'],
    [999n, '999 H/s'],
    [20_000n, '20 kH/s'],
    [150_000_000_000_000n, '150 TH/s'],
    [1_500n, '1.5 kH/s'],
    [1_234_567n, '1234.567 kH/s'],
    [9_007_199_254_740_993n, '9007199254740.993 kH/s'],
    [10n ** 24n, '1000 ZH/s'],
  ])('%d hashes per second are %s, exact', (hps, text) => {
    expect(hashrateText(hps)).toBe(text);
  });

  test.each([
    [0n, '0.00000000 BTC'],
    [1n, '0.00000001 BTC'],
    [123_456_789_012n, '1234.56789012 BTC'],
    [-5n, '-0.00000005 BTC'],
  ])('%d smallest units are %s', (sats, text) => {
    expect(coinText(sats, { name: 'satoshi', coin: 'BTC', decimals: 8 })).toBe(text);
  });

  test('columns are as wide as their widest cell, numbers to the right', () => {
    expect(
      textTable(
        ['contract', 'amount'],
        [
          ['a', '1'],
          ['longer name', '1000'],
        ],
      ),
    ).toBe('contract     amount\na                 1\nlonger name    1000\n');
  });
});

describe('the command line', () => {
  test('flags become terms, a list is split, what is absent is left out', () => {
    expect(
      termsFromFlags({ id: 'a', 'payout-address': 'x', 'own-addresses': 'x, y', 'from-height': '7', json: true }),
    ).toEqual({ id: 'a', payout_address: 'x', own_addresses: ['x', 'y'], from_height: '7' });
  });

  test.each([
    ['contracts', contractsCommand, 'expected open or list'],
    ['payouts', payoutsCommand, 'expected list'],
  ] as const)('%s without a verb, and with an unknown one, is a usage error', async (_, command, message) => {
    for (const positionals of [[], ['lst'], ['list', 'more']]) {
      const dir = tempDir('cli');
      closers.push(dir.remove);
      await expect(command({ values: { 'data-dir': dir.path }, positionals })).rejects.toMatchObject({
        code: 'usage',
        ...(positionals.length === 1 ? { message: expect.stringContaining(message) } : {}),
      });
    }
  });

  test('a contract without the terms that each has names their flags, and shows a whole command', async () => {
    const dir = tempDir('cli');
    closers.push(dir.remove);
    const values = { 'data-dir': dir.path, customer: 'Ann', hashrate: '1TH/s' };
    await expect(contractsCommand({ values, positionals: ['open'] })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(
        /^contracts open: --id, --payout-address missing; for example: contracts open --id /,
      ),
    });
  });

  test('without API, follower and node a contract is refused with the reason, and nothing is written', async () => {
    const dir = tempDir('cli');
    closers.push(dir.remove);
    const port = await freePort();
    const config = loadConfig(
      { mode: 'proxy', options: { 'lodestream.data_dir': dir.path, 'lodestream.chain': 'bitcoin' } },
      {},
    );
    await expect(openContract({ ...config, http: { host: '127.0.0.1', port } }, { id: 'a' })).rejects.toMatchObject({
      code: 'contract',
      message: expect.stringMatching(/the tip of the chain is not known/),
    });
  });

  test.each([
    ['contracts', contractsCommand],
    ['payouts', payoutsCommand],
  ] as const)(
    '%s list says where no pool has run, makes nothing there, and says which ClickHouse does not answer',
    async (_, command) => {
      const dir = tempDir('cli');
      closers.push(dir.remove);
      const at = `127.0.0.1:${await freePort()}`;
      const list = (dataDir: string): Promise<void> =>
        command({ values: { 'data-dir': dataDir, 'clickhouse-http': at }, positionals: ['list'] });
      const none = join(dir.path, 'none');
      await expect(list(none)).rejects.toMatchObject({
        code: 'usage',
        message: `no pool has run in ${none}: it has no journal; give the pool's --data-dir`,
      });
      expect(existsSync(none)).toBe(false);
      const { root } = openDataDir(dir.path);
      await expect(list(root)).rejects.toMatchObject({
        code: 'clickhouse',
        message: expect.stringMatching(new RegExp(`^ClickHouse at http://${at}: .*ECONNREFUSED`)),
      });
    },
  );
});

test('a ClickHouse that hangs is told to who waits for a list, after a time', async () => {
  const dir = tempDir('cli');
  closers.push(dir.remove);
  const hanging = createServer(() => {});
  await new Promise<void>((resolve) => hanging.listen(0, '127.0.0.1', resolve));
  closers.push(
    () => hanging.closeAllConnections(),
    () => hanging.close(),
  );
  const url = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`;
  const options = { 'lodestream.data_dir': dir.path, 'lodestream.clickhouse.url': url };
  await expect(listRows(loadConfig({ options }, {}), 'SELECT 1', {}, 50)).rejects.toMatchObject({
    code: 'clickhouse',
    message: `ClickHouse at ${url}: Timeout error.`,
  });
});

describe('what ClickHouse refuses', () => {
  const refusal = Object.assign(new Error('writer: Authentication failed: password is incorrect.'), { code: '516' });

  test('is another data directory where the engine is the embedded one, and a user of the configuration where it is a server', () => {
    const dir = tempDir('cli');
    closers.push(dir.remove);
    const options = { 'lodestream.data_dir': dir.path, 'lodestream.clickhouse_http': '127.0.0.1:8124' };
    const embedded = loadConfig({ options }, {});
    expect(storeError(embedded, refusal).message).toBe(
      `ClickHouse at http://127.0.0.1:8124 refuses the password in ${dir.path}/clickhouse-writer.token: it belongs to another data directory`,
    );
    const server = { 'lodestream.clickhouse.url': 'http://ch:8123', 'lodestream.clickhouse.user': 'ann' };
    expect(storeError(loadConfig({ options: { ...options, ...server } }, {}), refusal).message).toBe(
      'ClickHouse at http://ch:8123 refuses ann or the password that the configuration gives it',
    );
    const own = new PoolError('held', 'x');
    expect(storeError(embedded, own)).toBe(own);
  });
});
