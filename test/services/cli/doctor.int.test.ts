import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { publishStatus } from '../../../services/core/status.ts';
import type { Finding } from '../../../services/doctor/main.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { freePort, tempDir } from '../../helpers/leash.ts';

const LAUNCHER = fileURLToPath(new URL('../../../lodestream', import.meta.url));
const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function doctor(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(LAUNCHER, ['doctor', ...args], { timeout: 120_000 }, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

async function site(change: (file: Record<string, unknown>) => object = (file) => file) {
  const dir = tempDir('doctor-cli');
  const node = await startToyChain({
    ...{ dir: join(dir.path, 'node'), rpcPort: 0, zmqPort: null, user: 'u', pass: 'p', trafficPerSecond: 0 },
  });
  closers.push(dir.remove, () => node.close());
  const file = join(dir.path, 'ckpool.conf');
  const config = change({
    btcd: [{ url: node.rpcUrl, auth: 'u', pass: 'p' }],
    btcaddress: node.fundingAddress,
    logdir: join(dir.path, 'log'),
    lodestream: {
      ...{ chain: 'playground', data_dir: join(dir.path, 'data') },
      ...{ http: `127.0.0.1:${await freePort()}`, clickhouse_http: `127.0.0.1:${await freePort()}` },
    },
  });
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return { file, dataDir: join(dir.path, 'data') };
}

describe('lodestream doctor', () => {
  test('before the first start: one line for each check, status 0, and nothing is made', async () => {
    const { file, dataDir } = await site();
    const { status, out, err } = await doctor('-c', file);
    expect(err).toBe('');
    expect(out.trimEnd().split('\n')).toEqual([
      expect.stringMatching(/^ok {4}configuration /),
      expect.stringMatching(/^ok {4}chain +playground: /),
      expect.stringMatching(/^ok {4}node 127\.0\.0\.1:\d+ +playground, height 0, /),
      expect.stringMatching(/^ok {4}zmq /),
      expect.stringMatching(/^ok {4}kafka /),
      expect.stringMatching(/^warn {2}clickhouse .* → `.\/lodestream start`/),
      expect.stringMatching(/^ok {4}disk /),
      expect.stringMatching(/^ok {4}folders /),
      expect.stringMatching(/^(?:ok {4}|warn {2})clock /),
      expect.stringMatching(/^ok {4}programs +none runs in /),
      expect.stringMatching(/^\d+ ok, [12] warn, 0 bad$/),
    ]);
    expect(status).toBe(0);
    expect(existsSync(dataDir)).toBe(false);
  });

  test('with --json it is one object; what is bad makes status 1', async () => {
    const { file, dataDir } = await site((config) => ({
      ...config,
      btcaddress: 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu',
    }));
    const running = publishStatus(openDataDir(dataDir).status, 'chain', () => ({ problems: ['is dizzy'], values: {} }));
    closers.push(() => running.close());
    const { status, out } = await doctor('-c', file, '--json');
    const told = JSON.parse(out) as { status: string; findings: Finding[] };
    expect([status, told.status]).toEqual([1, 'bad']);
    expect(told.findings.filter(({ state }) => state === 'bad').map(({ check, what }) => `${check}: ${what}`)).toEqual([
      expect.stringMatching(/^configuration: "btcaddress": .*\(chain playground\)$/),
      'programs: chain: is dizzy',
    ]);
  });

  test("the example's words for an address are bad though no node says which chain it is", async () => {
    const nobody = await freePort();
    const { file } = await site((config) => ({
      ...config,
      btcd: [{ url: `127.0.0.1:${nobody}`, auth: 'u', pass: 'p' }],
      btcaddress: 'ADDRESS-OF-YOUR-WALLET',
      lodestream: { ...(config.lodestream as object), chain: 'auto' },
    }));
    const bads = async () => (await doctor('-c', file)).out.split('\n').filter((line) => line.startsWith('bad'));
    expect(await bads()).toEqual([
      expect.stringMatching(
        /configuration .*"btcaddress": ADDRESS-OF-YOUR-WALLET is an address of no built-in chain → /,
      ),
      expect.stringMatching(/node .*nobody listens there/),
    ]);
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace('ADDRESS-OF-YOUR-WALLET', 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu'),
    );
    expect(await bads()).toEqual([expect.stringMatching(/node .*nobody listens there/)]);
  });

  test("without -c it names the playground's file in the data directory, which it has not read", async () => {
    const { dataDir } = await site();
    const meant = join(openDataDir(dataDir).playground, 'ckpool.conf');
    mkdirSync(join(dataDir, 'playground'));
    writeFileSync(meant, '{}');
    const { out } = await doctor('--data-dir', dataDir);
    expect(out.split('\n')[0]).toMatch(/^warn {2}configuration +no file was named, /);
    expect(out.split('\n')[0]).toContain(`→ \`./lodestream doctor -c ${meant}\``);
  });

  test('a configuration that cannot be read is the one finding; an unknown flag is a mistake in the call', async () => {
    const { file } = await site((config) => ({ ...config, blockpoll: 'often' }));
    const { status, out } = await doctor('-c', file);
    expect([status, out.split('\n').length]).toEqual([1, 3]);
    expect(out).toMatch(/^bad {3}configuration {2}.*"blockpoll".* → correct what the message names/);
    expect((await doctor('--jsno')).status).toBe(64);
  });
});
