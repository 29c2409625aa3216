import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PoolError } from '../../../../services/core/errors.ts';
import { claimInstance, groupId, kindOfProcess, openSockDir } from '../../../../services/stratum/control/instance.ts';
import { startLeashed, tempDir } from '../../../helpers/leash.ts';

let dir: ReturnType<typeof tempDir>;
beforeEach(() => {
  dir = tempDir('instance');
});
afterEach(() => dir.remove());

const isRoot = process.geteuid?.() === 0;
const lines: string[] = [];
const claim = (takeOver: 'no' | 'kill' = 'no'): ReturnType<typeof claimInstance> =>
  claimInstance(
    { sockDir: join(dir.path, 's'), sockGroup: null, name: 'ckpool' },
    takeOver,
    (line) => void lines.push(line),
  );

describe('the socket folder', () => {
  test('is made for the daemon and its group alone', () => {
    openSockDir(join(dir.path, 'a/b'), null);
    expect(statSync(join(dir.path, 'a/b')).mode & 0o777).toBe(0o750);
  });

  test('may be a link, as /tmp/ckpool to /run/ckpool', () => {
    mkdirSync(join(dir.path, 'run'));
    symlinkSync(join(dir.path, 'run'), join(dir.path, 'link'));
    expect(() => openSockDir(join(dir.path, 'link'), null)).not.toThrow();
  });

  test.runIf(isRoot)('of somebody else is refused, and so is somebody else’s link to ours', () => {
    mkdirSync(join(dir.path, 'theirs'));
    chownSync(join(dir.path, 'theirs'), 12_345, 12_345);
    expect(() => openSockDir(join(dir.path, 'theirs'), null)).toThrow('belongs to user 12345');
    mkdirSync(join(dir.path, 'ours'));
    symlinkSync(join(dir.path, 'ours'), join(dir.path, 'link'));
    lchownSync(join(dir.path, 'link'), 12_345, 12_345);
    expect(() => openSockDir(join(dir.path, 'link'), null)).toThrow('belongs to user 12345');
  });

  test('that everybody may write is refused', () => {
    mkdirSync(join(dir.path, 'open'));
    chmodSync(join(dir.path, 'open'), 0o777);
    expect(() => openSockDir(join(dir.path, 'open'), null)).toThrow('can be written by everybody');
  });

  test('whose path is too long for a socket says so', () => {
    expect(() => openSockDir(join(dir.path, 'x'.repeat(100)), null)).toThrow('too long for a socket');
  });

  test('that is a file is no folder', () => {
    writeFileSync(join(dir.path, 'file'), '');
    expect(() => openSockDir(join(dir.path, 'file'), null)).toThrow(PoolError);
  });
});

describe('main.pid', () => {
  test('holds the pid without a newline, and goes with the daemon', async () => {
    const instance = await claim();
    const path = join(dir.path, 's/main.pid');
    expect(readFileSync(path, 'utf8')).toBe(String(process.pid));
    instance.release();
    expect(existsSync(path)).toBe(false);
  });

  test('that names somebody else by then stays', async () => {
    const instance = await claim();
    writeFileSync(join(dir.path, 's/main.pid'), '1');
    instance.release();
    expect(readFileSync(join(dir.path, 's/main.pid'), 'utf8')).toBe('1');
  });

  test.each(['', 'x', '-5', '0', '99999999999999'])('with %j in it is nobody', async (text) => {
    openSockDir(join(dir.path, 's'), null);
    writeFileSync(join(dir.path, 's/main.pid'), text);
    (await claim()).release();
  });

  test('that names another program by now is passed over, and that program lives', async () => {
    const other = await startLeashed('/bin/sleep', ['30']);
    openSockDir(join(dir.path, 's'), null);
    writeFileSync(join(dir.path, 's/main.pid'), String(other.pid));
    (await claim('kill')).release();
    expect(other.running).toBe(true);
    expect(lines.at(-1)).toContain(`names process ${other.pid}, which is another program by now`);
    await other.stop();
  });
});

test('of two that start at once one has the folder, and the other leaves it as it is', async () => {
  const first = await claim();
  // The other has looked when nobody was there yet.
  writeFileSync(join(dir.path, 's/main.pid'), '');
  await expect(claim('kill')).rejects.toMatchObject({ code: 'held' });
  expect(readFileSync(join(dir.path, 's/main.pid'), 'utf8')).toBe('');
  first.release();
  (await claim()).release();
});

test('a stratum daemon is told from other programs by its program and arguments', () => {
  const kind = (exe: string, ...argv: string[]): string => kindOfProcess(exe, argv, 'farm-in-the-north');
  const main = '/opt/lodestream/services/cli/main.ts';
  expect(kind('/usr/local/bin/ckpool', 'ckpool', '-L')).toBe('ckpool');
  expect(kind('/usr/local/bin/ckpool (deleted)', 'ckproxy')).toBe('ckpool');
  expect(kind('/opt/ckpool-solo', 'ckpool')).toBe('ckpool');
  expect(kind('/opt/ckpoolmonitor', 'ckpool')).toBe('another');
  expect(kind('/opt/node/bin/node', 'node', '--disable-sigusr1', main, 'pool', '-c', 'x')).toBe('ours');
  expect(kind('/usr/bin/node24', 'node', main, '--log-shares')).toBe('ours');
  expect(kind('/usr/bin/node', 'node', main)).toBe('ours');
  expect(kind('/usr/bin/node', 'ckpool')).toBe('ours');
  expect(kind('/usr/bin/node', 'farm-in-the-no')).toBe('ours');
  expect(kind('/usr/bin/node', 'node', main, 'api')).toBe('another');
  expect(kind('/usr/bin/node', 'node', 'server.js', 'pool')).toBe('another');
  expect(kind('/usr/bin/python3', 'python3', main, 'pool')).toBe('another');
  expect(kind('/usr/bin/vim', 'vim', 'ckpool')).toBe('another');
  expect(kind('/usr/bin/nodemon', 'ckpool')).toBe('another');
});

test('a group is found by name or number; an unknown one has CKPool’s words', () => {
  const groups = 'root:x:0:\nckpool:x:990:alice,bob\n';
  expect(groupId('ckpool', groups)).toBe(990);
  expect(groupId('44', groups)).toBe(44);
  expect(() => groupId('nosuch', groups)).toThrow('Failed to find group nosuch');
});
