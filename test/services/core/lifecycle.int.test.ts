import { once } from 'node:events';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { freePorts, type Leashed, tempDir, until } from '../../helpers/leash.ts';
import { lodestream } from '../../helpers/tree.ts';

const dir = tempDir('lifecycle');
let pool: Leashed | undefined;
afterEach(async () => {
  await pool?.stop();
  dir.remove();
});

test('SIGHUP and SIGUSR1 neither end the daemon nor open a debugger', async () => {
  const [port] = (await freePorts(1)) as [number];
  pool = await lodestream(['pool', '--data-dir', dir.path, '--stratum', `127.0.0.1:${port}`], {
    LODESTREAM_CHAIN: 'regtest',
    LODESTREAM_LOGDIR: join(dir.path, 'logs'),
    LODESTREAM_BTCADDRESS: 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy',
  });
  await until('it listens', () => pool!.output().includes('stratum listens'));
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
  // As logrotate does it: the parent opens the new file, and tells its workers.
  const log = join(dir.path, 'logs/ckpool.log');
  renameSync(log, `${log}.1`);
  process.kill(pool.pid, 'SIGHUP');
  await until('a new main log', () => existsSync(log));
  expect(await pool.stop()).toBe(0);
  expect(readFileSync(log, 'utf8')).toMatch(/\] Process ckpool received signal 15, shutting down\n/);
});
