import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePorts, startLeashed, until } from './leash.ts';

const alive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test('a leashed program ends with a starter that is killed', async () => {
  const starter = spawn(process.execPath, [
    ...['--input-type=module', '-e'],
    `const { startLeashed } = await import(${JSON.stringify(join(import.meta.dirname, 'leash.ts'))});
     const child = await startLeashed(process.execPath, ['-e', 'setInterval(() => {}, 1e6)']); console.log(child.pid);`,
  ]);
  const [line] = await once(starter.stdout, 'data');
  const pid = Number(line);
  expect(alive(pid)).toBe(true);
  starter.kill('SIGKILL');
  await until('its end', () => !alive(pid));
});

test('a leashed program tells its lines and its status, and stop is the signal, then the end', async () => {
  const child = await startLeashed('/bin/sh', ['-c', 'read line; echo out; echo err >&2; exit 7']);
  expect(await child.exited).toBe(7);
  expect(child.output().split('\n').sort()).toEqual(['', 'err', 'out']);
  const deaf = await startLeashed(process.execPath, [
    '-e',
    'process.on("SIGTERM",()=>{});console.log(1);setInterval(()=>{},1e6)',
  ]);
  await until('its start', () => deaf.output() !== '');
  expect(await deaf.stop({ graceMs: 50 })).toBe(137);
  expect(await deaf.stop()).toBe(137);
  await expect(startLeashed('/nonexistent/program', [])).resolves.toMatchObject({ exited: expect.any(Promise) });
});

test('free ports are different ones, and none that the kernel or a second call gives', async () => {
  const ports = [...(await freePorts(5)), ...(await freePorts(5))];
  expect(new Set(ports).size).toBe(10);
  const kernels = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      server.close();
      return port;
    }),
  );
  const [lowest, highest] = [Math.min(...kernels), Math.max(...kernels)];
  expect(ports.filter((port) => port >= lowest && port <= highest)).toEqual([]);
});
