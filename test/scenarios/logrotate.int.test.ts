/**
 * The stanza that operators get, under Debian's logrotate with forced rotations: a folder that a group may write, pools that keep their log open in
 * CKPool's way and in ours, and the hook. Names of user, group, folders and program are the only things that are others than there.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ERRORS } from '../../services/core/errors.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { havePart, type Missing } from '../helpers/require.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const STANZA = readFileSync(join(ROOT, 'deploy/logrotate/stratum'), 'utf8');
const USER = 'nobody';

interface Part {
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  readonly group: string;
}

const part = await havePart('logrotate', (): Part | Missing => {
  const path = '/usr/sbin/logrotate';
  if (!existsSync(path)) return { missing: `no ${path}` };
  if (process.getuid?.() !== 0) return { missing: 'its su needs root' };
  const id = (flag: string): string => execFileSync('id', [flag, USER], { encoding: 'utf8' }).trim();
  const seen = spawnSync('runuser', [
    '-u',
    USER,
    '--',
    process.execPath,
    '-e',
    `require('fs').readFileSync('${ROOT}/package.json'); require('fs').statSync('${tmpdir()}/.')`,
  ]);
  if (seen.status !== 0) return { missing: `${USER} cannot read this folder, or not reach ${tmpdir()}` };
  return { path, uid: Number(id('-u')), gid: Number(id('-g')), group: id('-gn') };
});

let dir: { path: string; remove(): void };
let logs: string;
let data: string;
let children: ChildProcess[] = [];
beforeEach(() => {
  dir = tempDir('logrotate');
  chmodSync(dir.path, 0o755);
  logs = join(dir.path, 'stratum');
  data = join(dir.path, 'data');
  if (part === undefined) return;
  for (const [path, uid, mode] of [
    [logs, 0, 0o770],
    [data, part.uid, 0o750],
  ] as const) {
    mkdirSync(path);
    chownSync(path, uid, part.gid);
    chmodSync(path, mode);
  }
  writeFileSync(join(logs, '.lodestream-origin'), 'ckpool\n', { mode: 0o644 });
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
  dir.remove();
});

/** The stanza with this machine's names. */
function conf(change: (stanza: string) => string = (stanza) => stanza): string {
  const { group } = part!;
  const here = STANZA.replaceAll('/var/log/stratum', logs)
    .replaceAll('/var/lib/lodestream', data)
    .replace('su root ckpool', `su root ${group}`)
    .replace('create 0660 root ckpool', `create 0660 root ${group}`)
    .replace('runuser -u ckpool', `runuser -u ${USER}`)
    .replace('/usr/local/bin/lodestream', join(ROOT, 'lodestream'))
    .replace('/run/systemd/system', join(dir.path, 'no-systemd'))
    .replace('--logdir', '--settle 2 --tz UTC --logdir');
  const path = join(dir.path, 'stratum.conf');
  writeFileSync(path, change(here), { mode: 0o644 });
  return path;
}

function rotate(path: string): { status: number | null; stderr: string; ms: number } {
  const begun = performance.now();
  const { status, stderr } = spawnSync(part!.path, ['--force', '--state', join(dir.path, 'state'), path], {
    encoding: 'utf8',
    env: { ...process.env, NODE_COMPILE_CACHE: join(ROOT, '.cache/compile') },
  });
  return { status, stderr, ms: performance.now() - begun };
}

const WRITERS = {
  /** Open until the first line that comes so long after the opening; no signal, no look at the name. */
  "CKPool's way": `
    import { closeSync, openSync, writeSync } from 'node:fs';
    const REOPEN_MS = 700;
    let fd = openSync(path, 'a'), openedMs = Date.now();
    write = (line) => {
      if (Date.now() - openedMs > REOPEN_MS) { closeSync(fd); fd = openSync(path, 'a'); openedMs = Date.now(); }
      writeSync(fd, '[' + new Date().toISOString().replace('T', ' ').slice(0, 23) + '] ' + line + '\\n');
    };`,
  'our way': `
    import { openMainLog } from '${ROOT}/services/stratum/ckpool-log.ts';
    const main = openMainLog({ path, level: 5, stderr: () => {} });
    write = (line) => { main.log(line, 5); main.flush(); };`,
};

/** Lines of users u0, u1, … until it is stopped; says then how many. */
function startWriter(way: keyof typeof WRITERS): { stop(): Promise<number> } {
  const text = `let write; const path = ${JSON.stringify(join(logs, 'ckpool.log'))};
    ${WRITERS[way]}
    let n = 0;
    setInterval(() => { write('User u' + n++ + ':{"hashrate1m":"1G","shares":1}'); }, 10);
    process.on('SIGTERM', () => { process.stdout.write(String(n), () => process.exit(0)); });`;
  const { uid, gid } = part!;
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
    uid,
    gid,
    env: { ...process.env, TZ: 'UTC' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let count = '';
  child.stdout!.on('data', (piece: Buffer) => {
    count += piece.toString();
  });
  return {
    async stop() {
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      await closed;
      return Number(count);
    },
  };
}

/** Users told in the journal, with how often. */
async function told(): Promise<Map<string, number>> {
  const log = openJournalLog({ dir: join(data, 'journal') });
  const users = new Map<string, number>();
  for (const partition of await log.partitions('session')) {
    for (let from: string | null = null; ; ) {
      const batch = await log.read('session', partition, from, { maxRecords: 10_000, waitMs: 0 });
      if (batch.records.length === 0) break;
      for (const record of batch.records) {
        const { user } = (await log.decoder('session', record.fingerprint))(record.body);
        users.set(user, (users.get(user) ?? 0) + 1);
      }
      from = batch.next;
    }
  }
  await log.close();
  return users;
}

const idle = (): boolean =>
  ['ingest-requests', 'ingest-running'].every(
    (name) => existsSync(join(data, 'state', name)) && readdirSync(join(data, 'state', name)).length === 0,
  );

describe.skipIf(!part)('the stanza under the real logrotate', { timeout: 360_000 }, () => {
  test.each(Object.keys(WRITERS) as (keyof typeof WRITERS)[])(
    'each line of a log kept open in %s is told once, over four rotations',
    async (way) => {
      const writer = startWriter(way);
      const path = conf();
      await until('a first line', () => (statSync(join(logs, 'ckpool.log'), { throwIfNoEntry: false })?.size ?? 0) > 0);
      const calls = [];
      for (let i = 0; i < 4; i++) {
        calls.push(rotate(path));
        // The next only when the pool goes on in the new file, as a day later; ours looks each two seconds.
        await until('lines in the new log', () => statSync(join(logs, 'ckpool.log')).size > 0);
      }
      const count = await writer.stop();
      // The last lines stand in ckpool.log itself, which the run after the last rotation need not have seen.
      calls.push(rotate(path));
      for (const { status, stderr } of calls) expect([status, stderr]).toEqual([0, '']);
      expect(
        readdirSync(logs)
          .filter((name) => name.startsWith('ckpool.log'))
          .sort(),
      ).toEqual(['ckpool.log', 'ckpool.log.1', ...[2, 3, 4, 5].map((n) => `ckpool.log.${n}.gz`)]);
      await until('the work of the hooks', idle);
      const users = await told();
      expect([...users.keys()].length).toBe(count);
      expect([...users.values()].every((times) => times === 1)).toBe(true);
      expect(count).toBeGreaterThan(100);
      // It is back before the work is done, within two seconds; on a machine that is busy with tests, soon as measured by a call that does nothing.
      const bare = [0, 1, 2].map(() => {
        const begun = performance.now();
        spawnSync(join(ROOT, 'lodestream'), ['help']);
        return performance.now() - begun;
      });
      expect(Math.min(...calls.map(({ ms }) => ms))).toBeLessThan(Math.max(2_000, 8 * Math.min(...bare)));
      // Nothing that root wrote, which the daemon could not open.
      for (const name of readdirSync(data, { recursive: true, encoding: 'utf8' }))
        expect(statSync(join(data, name)).uid, name).toBe(part!.uid);
      for (const name of readdirSync(logs).filter((each) => each.startsWith('ckpool')))
        expect(statSync(join(logs, name)).gid, name).toBe(part!.gid);
    },
  );

  test('with copytruncate too', async () => {
    const writer = startWriter("CKPool's way");
    const path = conf((stanza) => stanza.replace(/^ *create .*$/m, '    copytruncate'));
    await until('a first line', () => (statSync(join(logs, 'ckpool.log'), { throwIfNoEntry: false })?.size ?? 0) > 0);
    const count = await writer.stop();
    for (let i = 0; i < 2; i++) {
      expect(rotate(path)).toMatchObject({ status: 0, stderr: '' });
      const again = startWriter("CKPool's way");
      await until('lines', () => statSync(join(logs, 'ckpool.log')).size > 1_000);
      await again.stop();
    }
    expect(rotate(path)).toMatchObject({ status: 0, stderr: '' });
    await until('the work of the hooks', idle);
    const users = await told();
    expect(users.size).toBeGreaterThanOrEqual(count);
    const text = readdirSync(logs)
      .filter((name) => name.startsWith('ckpool.log'))
      .map((name) => execFileSync('zcat', ['-f', join(logs, name)], { encoding: 'utf8' }))
      .join('');
    expect([...users.values()].reduce((sum, times) => sum + times, 0)).toBe(text.split('\n').length - 1);
  });

  test('hooks in a row lose nothing', async () => {
    writeFileSync(join(logs, 'ckpool.log'), '[2026-11-22 06:00:00.000] User a:{"hashrate1m":"1G"}\n', { mode: 0o660 });
    chownSync(join(logs, 'ckpool.log'), 0, part!.gid);
    chmodSync(join(logs, 'ckpool.log'), 0o660);
    const path = conf();
    for (let i = 0; i < 5; i++) {
      expect(rotate(path).status).toBe(0);
      writeFileSync(join(logs, 'ckpool.log'), `[2026-11-22 06:0${i + 1}:00.000] User b${i}:{"hashrate1m":"1G"}\n`);
    }
    expect(rotate(path).status).toBe(0);
    await until('the work of the hooks', idle);
    expect((await told()).size).toBe(6);
  });

  test('the command of the unit is stopped while it waits for 120 s, and the next goes on with what it left', async () => {
    writeFileSync(join(logs, 'ckpool.log'), '[2026-11-22 06:00:00.000] User a:{"hashrate1m":"1G"}\n');
    chmodSync(join(logs, 'ckpool.log'), 0o644);
    const { uid, gid } = part!;
    const start = (settleS: number): ChildProcess => {
      const words = [
        'ingest',
        '--hook',
        '--foreground',
        '--settle',
        String(settleS),
        '--logdir',
        logs,
        '--data-dir',
        data,
      ];
      const child = spawn(process.execPath, [join(ROOT, 'services/cli/main.ts'), ...words], {
        uid,
        gid,
        stdio: 'ignore',
      });
      children.push(child);
      return child;
    };
    const first = start(120);
    const ended = once(first, 'exit');
    await until('the line', async () => existsSync(join(data, 'journal')) && (await told()).size === 1);
    // `systemctl restart` while it waits.
    first.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(idle()).toBe(false);
    writeFileSync(join(logs, 'ckpool.log.1'), '[2026-11-22 05:00:00.000] User b:{"hashrate1m":"1G"}\n', {
      mode: 0o644,
    });
    expect(await once(start(0), 'exit')).toEqual([0, null]);
    expect(idle()).toBe(true);
    expect([...(await told()).keys()].sort()).toEqual(['a', 'b']);
  });

  test('without su it refuses the folder', () => {
    writeFileSync(join(logs, 'ckpool.log'), 'x\n');
    const { status, stderr } = rotate(conf((stanza) => stanza.replace(/^ *su .*$/m, '')));
    expect(status).not.toBe(0);
    expect(stderr).toContain('insecure permissions');
  });

  test('with a comma between the names the first is never found', () => {
    writeFileSync(join(logs, 'ckpool.log'), 'x\n');
    writeFileSync(join(logs, 'ckproxy.log'), 'x\n');
    rotate(conf((stanza) => stanza.replace('ckpool.log ', 'ckpool.log, ')));
    expect(existsSync(join(logs, 'ckproxy.log.1'))).toBe(true);
    expect(existsSync(join(logs, 'ckpool.log.1'))).toBe(false);
  });
});

test.skipIf(!part)(
  'root is refused where the data directory is of another user: its files would lock the daemon out',
  () => {
    for (const verb of ['ingest', 'archive']) {
      const words = [verb, '--logdir', logs, '--data-dir', data, '--origin', 'ckpool'];
      const { status, stderr } = spawnSync(join(ROOT, 'lodestream'), words, { encoding: 'utf8' });
      expect([status, stderr]).toEqual([
        ERRORS.usage.exit,
        expect.stringContaining(`runuser -u ckpool -- lodestream ${verb}`),
      ]);
    }
    expect(readdirSync(data)).toEqual([]);
  },
);

test.skipIf(process.getuid?.() !== 0)('the hook refuses to run as root', () => {
  mkdirSync(logs, { recursive: true });
  const { status, stderr } = spawnSync(
    join(ROOT, 'lodestream'),
    ['ingest', '--hook', '--logdir', logs, '--data-dir', data, '--origin', 'ckpool'],
    { encoding: 'utf8' },
  );
  expect(status).toBe(ERRORS.usage.exit);
  expect(stderr).toContain('runuser -u ckpool');
  expect(existsSync(join(data, 'state'))).toBe(false);
});
