/** The compile cache that the launcher asks Node for. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { freePort, startLeashed, tempDir, until } from '../../helpers/leash.ts';
import { NODE_ADDRESS, startTemplateNode } from '../../helpers/template-node.ts';

const LAUNCHER = fileURLToPath(new URL('../../../lodestream', import.meta.url));

test('after _warm neither the pool nor its worker and threads have types to strip: Node’s 35 MB for it are not loaded', async () => {
  const dir = tempDir('warm');
  const node = await startTemplateNode();
  const env = { ...process.env, NODE_COMPILE_CACHE: join(dir.path, 'cache') };
  const warm = await startLeashed(LAUNCHER, ['_warm'], { env });
  expect(await warm.exited, warm.output()).toBe(0);

  const conf = join(dir.path, 'ckpool.conf');
  writeFileSync(
    conf,
    JSON.stringify({
      btcd: [{ url: node.address, auth: 'user', pass: 'pass' }],
      btcaddress: NODE_ADDRESS,
      serverurl: [`127.0.0.1:${await freePort()}`],
      logdir: join(dir.path, 'logs'),
      lodestream: { chain: 'bitcoin', data_dir: join(dir.path, 'data') },
    }),
  );
  const pool = await startLeashed(LAUNCHER, ['pool', '-c', conf, '-s', join(dir.path, 'sock')], {
    env: { ...env, NODE_DEBUG_NATIVE: 'COMPILE_CACHE' },
  });
  const stripped: string[] = [];
  let kept = 0;
  pool.onLine((line) => {
    const file = /transpil\w+ cache for StrippedTypeScript file:\/\/(\S+)/.exec(line)?.[1];
    if (file !== undefined && line.includes('no transpile cache')) stripped.push(file);
    if (line.includes('StrippedTypeScript') && line.includes('success')) kept += 1;
  });
  await until(
    () => `a listening pool:\n${pool.output().slice(-2_000)}`,
    () => /stratum listens on/.test(pool.output()) || !pool.running,
  );
  await pool.stop();
  await node.close();
  dir.remove();
  expect(stripped).toEqual([]);
  expect(kept).toBeGreaterThan(50);
});
