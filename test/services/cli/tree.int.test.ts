import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { freePorts, tempDir, until } from '../../helpers/leash.ts';
import { lodestream, lodestreamOnce } from '../../helpers/tree.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A configuration whose node is not there. */
async function setUp(lodestreamKeys: Record<string, unknown> = {}) {
  const dir = tempDir('cli');
  ends.push(() => dir.remove());
  const [stratum, http, sql] = (await freePorts(3)) as [number, number, number];
  const config = join(dir.path, 'ckpool.conf');
  writeFileSync(
    config,
    JSON.stringify({
      btcd: [{ url: '127.0.0.1:1', auth: 'a', pass: 'b' }],
      btcaddress: 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy',
      lodestream: { chain: 'regtest', ...lodestreamKeys },
    }),
  );
  const args = ['--config', config, '--data-dir', join(dir.path, 'data'), '--stratum', `127.0.0.1:${stratum}`];
  return [...args, '--http', `127.0.0.1:${http}`, '--clickhouse-http', `127.0.0.1:${sql}`];
}

test('--only names what the configuration has, else it says what is missing and starts nothing', async () => {
  const args = await setUp();
  const elsewhere = await setUp({ clickhouse: { url: 'http://127.0.0.1:1' } });
  const outcomes = await Promise.all([
    lodestreamOnce(['start', ...args, '--only', 'proxy']),
    lodestreamOnce(['start', ...args, '--only', 'pool,relay']),
    lodestreamOnce(['start', ...elsewhere, '--only', 'clickhouse']),
  ]);
  expect(outcomes.map(({ status }) => status)).toEqual([64, 64, 64]);
  expect(outcomes[0]!.output).toContain('--only: proxy is started with --proxy');
  expect(outcomes[1]!.output).toContain('--only: relay has nothing to do without "kafka"');
  expect(outcomes[2]!.output).toContain('--only: clickhouse is the embedded engine');
  for (const { output } of outcomes) expect(output.trim().split('\n')).toHaveLength(1);
});

test('a playground flag that makes no sense is one clear line, and nothing starts', async () => {
  const dir = tempDir('cli');
  ends.push(() => dir.remove());
  const run = (...flags: string[]) => lodestreamOnce(['playground', '--data-dir', dir.path, ...flags]);
  for (const [flag, value] of [
    ['--miner-share', 'half'],
    ['--miner-share', '101'],
    ['--node-rpc', 'nowhere'],
    ['--node-zmq', '1:2:3'],
  ] as const) {
    const { status, output } = await run(flag, value);
    expect([status, output.trim().split('\n').length], output).toEqual([64, 1]);
    expect(output).toContain(`${flag} is ${value}, expected`);
  }
});

test('a program that has been up and finds its configuration broken is tried until it is mended', {
  timeout: 360_000,
}, async () => {
  const args = await setUp();
  const [config, dataDir] = [args[1]!, args[3]!];
  const tree = await lodestream(['start', ...args, '--only', 'chain']);
  ends.push(() => void tree.stop({ signal: 'SIGKILL' }));
  const told = (): { problems: string[]; values: Record<string, number> } | null => {
    try {
      return JSON.parse(readFileSync(join(dataDir, 'status', 'tree.json'), 'utf8'));
    } catch {
      return null;
    }
  };
  const pidOf = (): number => Object.entries(told()?.values ?? {}).find(([name]) => name.endsWith('_pid'))?.[1] ?? 0;
  await until('the program is up', () => pidOf() > 0 && /following|nobody listens/.test(tree.output()));
  const good = readFileSync(config, 'utf8');
  writeFileSync(config, good.slice(0, -2));
  process.kill(pidOf(), 'SIGKILL');
  await until(
    () => `the tree names it: ${tree.output()}`,
    () => told()?.problems.some((line) => /is down, started again soon: .*ckpool\.conf/.test(line)),
  );
  writeFileSync(config, good);
  await until('it is up again', () => told()?.problems.length === 0 && pidOf() > 0);
  expect(await tree.stop({ signal: 'SIGTERM', graceMs: 20_000 })).toBe(0);
});
