import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PoolError } from '../../../services/core/errors.ts';
import { acquireLock } from '../../../services/core/lock.ts';

const lockModule = new URL('../../../services/core/lock.ts', import.meta.url).href;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A process that takes the lock, drops every reference to it, says so, and holds it until it is killed or its input ends. */
async function holder(path: string) {
  const code = `
    const { acquireLock } = await import(${JSON.stringify(lockModule)});
    acquireLock(${JSON.stringify(path)}, { waitMs: 0, what: 'it' });
    gc();
    process.stdout.write('held');
    process.stdin.resume();
  `;
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', code], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return child;
}

function refusal(run: () => unknown): PoolError {
  try {
    run();
  } catch (error) {
    if (error instanceof PoolError) return error;
    throw error;
  }
  throw new Error('not refused');
}

test('a lock that another process holds is refused with that process named, and is free once it was killed', async () => {
  const path = join(dir, 'lock.sqlite');
  const child = await holder(path);
  const error = refusal(() => acquireLock(path, { waitMs: 50, what: 'the data directory D' }));
  expect(error.code).toBe('held');
  expect(error.message).toBe(`the data directory D is held by process ${child.pid}`);
  child.kill('SIGKILL');
  await once(child, 'exit');
  acquireLock(path, { waitMs: 0, what: 'D' }).release();
});

test('a holder that dies while we wait hands over', async () => {
  const path = join(dir, 'lock.sqlite');
  const child = await holder(path);
  const exited = once(child, 'exit');
  // The wait stands in this thread, so the death must come from outside it.
  spawn('sh', ['-c', `sleep 0.3; kill -9 ${child.pid}`]);
  acquireLock(path, { waitMs: 30_000, what: 'D' }).release();
  await exited;
});

test('a second lock in the same process is refused at once, and taken after release', () => {
  const path = join(dir, 'lock.sqlite');
  const lock = acquireLock(path, { waitMs: 0, what: 'D' });
  const start = performance.now();
  expect(refusal(() => acquireLock(path, { waitMs: 30_000, what: 'D' })).message).toBe(
    'D is already open in this process',
  );
  expect(performance.now() - start).toBeLessThan(15_000); // it did not wait
  lock.release();
  lock.release();
  acquireLock(path, { waitMs: 0, what: 'D' }).release();
});

test('a lock in a directory that is not there is refused as data_dir', () => {
  expect(refusal(() => acquireLock(join(dir, 'absent', 'lock'), { waitMs: 0, what: 'D' })).code).toBe('data_dir');
});

test('a lock whose path is a directory is refused as data_dir', () => {
  const path = join(dir, 'lock');
  mkdirSync(path);
  expect(refusal(() => acquireLock(path, { waitMs: 0, what: 'D' })).code).toBe('data_dir');
});

test('a lock is taken where there is no room for a byte', async () => {
  const path = join(dir, 'lock.sqlite');
  acquireLock(path, { waitMs: 0, what: 'D' }).release();
  const code = `
    const { acquireLock } = await import(${JSON.stringify(lockModule)});
    acquireLock(${JSON.stringify(path)}, { waitMs: 0, what: 'it' });
    process.stdout.write('held');
    process.stdin.resume();
  `;
  // A limit of the file system's size for one process; the shell ignores the signal that comes with it, and so does what it runs.
  const run = `trap '' XFSZ; ulimit -f 0; exec "$0" --input-type=module -e "$1"`;
  const child = spawn('sh', ['-c', run, process.execPath, code], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  expect(String(said)).toBe('held');
  expect(refusal(() => acquireLock(path, { waitMs: 0, what: 'it' })).code).toBe('held');
  child.kill('SIGKILL');
  await once(child, 'exit');
});
