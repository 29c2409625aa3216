/** What /proc says about a process tree. */
import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { until } from './leash.ts';
import { cpuSeconds, memoryUse, processTree } from './processes.ts';

test('a process tree holds children of children, their CPU time and their memory', async () => {
  const busy = 'while (process.cpuUsage().user < 400_000); process.stdin.resume()';
  const child = spawn('/bin/sh', ['-c', '"$0" -e "$1"; true', process.execPath, busy], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const tree = await until('a grandchild', () => {
    const pids = processTree(child.pid!);
    return pids.length > 1 ? pids : null;
  });
  expect(tree[0]).toBe(child.pid);
  await until('0.3 s of CPU', () => cpuSeconds(tree) >= 0.25);
  expect(memoryUse(tree).rssBytes).toBeGreaterThan(20e6);
  expect(memoryUse(tree).rssBytes).toBeGreaterThan(memoryUse(tree.slice(0, 1)).rssBytes);
  child.stdin.end();
  await until('its end', () => child.exitCode !== null);
});
