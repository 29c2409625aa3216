import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { freePorts, type Leashed, tempDir, until } from '../../helpers/leash.ts';
import { lodestream } from '../../helpers/tree.ts';

const dir = tempDir('lifecycle');
let pool: Leashed | undefined;
afterEach(async () => {
  await pool?.stop();
  dir.remove();
});

test('SIGHUP and SIGUSR1 neither end the daemon nor open a debugger', { timeout: 60_000 }, async () => {
  const [port] = (await freePorts(1)) as [number];
  pool = await lodestream(['pool', '--data-dir', dir.path, '--stratum', `127.0.0.1:${port}`], {
    LODESTREAM_CHAIN: 'regtest',
    LODESTREAM_BTCADDRESS: 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy',
  });
  await until('it listens', () => pool!.output().includes('stratum listens'), { withinMs: 30_000 });
  for (const signal of ['SIGHUP', 'SIGUSR1'] as const) {
    process.kill(pool.pid, signal);
    const line = connect(port, '127.0.0.1');
    line.write('{"id":1,"method":"mining.ping","params":[]}\n');
    const [answer] = await once(line, 'data');
    expect(String(answer)).toContain('pong');
    line.destroy();
  }
  expect(pool.running).toBe(true);
  expect(pool.output()).not.toContain('Debugger');
  expect(await pool.stop()).toBe(0);
});
