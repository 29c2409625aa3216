/** The stratum daemon as an operator runs it: real processes under CKPool's names, their files, signals and secrets. */
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FrameReader } from '../../../services/core/control.ts';
import { type Leashed, startLeashed, tempDir, until } from '../../helpers/leash.ts';

const MAIN = fileURLToPath(new URL('../../../services/cli/main.ts', import.meta.url));
const LAUNCHER = fileURLToPath(new URL('../../../lodestream', import.meta.url));

let dir: ReturnType<typeof tempDir>;
const started: Leashed[] = [];
/** Of processes in the background, which no leash holds. */
const loose = new Set<number>();

beforeEach(() => {
  dir = tempDir('daemon');
  for (const name of ['ckpool', 'ckproxy', 'ckpmsg', 'notifier']) symlinkSync(LAUNCHER, join(dir.path, name));
  const ours = { chain: 'regtest', data_dir: join(dir.path, 'data') };
  const config = {
    btcd: [{ url: '127.0.0.1:1', auth: 'rpcuser', pass: 'SECRET-RPC' }],
    proxy: [{ url: '127.0.0.1:1', auth: 'upstream', pass: 'SECRET-UPSTREAM' }],
    btcaddress: 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy',
    logdir: join(dir.path, 'logs'),
    lodestream: { ...ours, listen: ['127.0.0.1:0'] },
  };
  writeFileSync(join(dir.path, 'ckpool.conf'), `${JSON.stringify(config)}\nComments from here on are ignored.\n`);
  writeFileSync(join(dir.path, 'ckproxy.conf'), JSON.stringify(config));
});
afterEach(async () => {
  for (const pid of loose) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  await Promise.all(started.splice(0).map((leash) => leash.stop()));
  loose.clear();
  dir.remove();
});

const sockDir = (name = 'ckpool'): string => join(dir.path, 'run', name);

const visible = (path: string): string[] =>
  readdirSync(path)
    .filter((name) => !name.startsWith('.'))
    .sort();

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const mainPid = (name = 'ckpool'): number => {
  const path = join(sockDir(name), 'main.pid');
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
};

async function start(program: string, args: readonly string[] = []): Promise<Leashed> {
  const leash = await startLeashed(join(dir.path, program), ['-s', sockDir(program), ...args], { cwd: dir.path });
  started.push(leash);
  return leash;
}

async function up(program: string, args: readonly string[] = []): Promise<Leashed> {
  const leash = await start(program, args);
  await until(
    () => `${program} listens: ${leash.output()}`,
    () => leash.output().includes('stratum listens') && mainPid(program) === leash.pid,
  );
  return leash;
}

interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

function run(program: string, args: readonly string[], input = ''): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(join(dir.path, program), args, { cwd: dir.path, timeout: 120_000 }, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
    child.stdin?.end(input);
  });
}

const ckpmsg = (input: string, ...args: string[]): Promise<Ran> =>
  run('ckpmsg', ['-s', join(dir.path, 'run'), ...args], input);

/** What a stratum port answers to a ping; nothing where it closes the line. */
async function asked(port: number): Promise<string> {
  const line = connect(port, '127.0.0.1');
  line.on('error', () => {});
  line.write('{"id":1,"method":"mining.ping","params":[]}\n');
  let text = '';
  line.on('data', (piece) => {
    text += piece;
    line.destroy();
  });
  await once(line, 'close');
  return text;
}

/** A process and all that it has started, by /proc. */
function treeOf(root: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return [[Number(pid), Number(/\) \S (\d+)/.exec(stat)?.[1])] as const];
      } catch {
        return [];
      }
    });
  const tree = [root];
  for (const at of tree) for (const [pid, parent] of parents) if (parent === at) tree.push(pid);
  return tree;
}

/** TCP ports on which a process listens. */
function listening(pid: number): number[] {
  const inodes = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]];
    } catch {
      return [];
    }
  });
  return ['tcp', 'tcp6']
    .flatMap((kind) => readFileSync(`/proc/${pid}/net/${kind}`, 'utf8').trim().split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A' && inodes.includes(fields[9]!))
    .map((fields) => Number.parseInt(fields[1]!.split(':')[1]!, 16))
    .sort();
}

describe('one daemon per socket folder', () => {
  test('it leaves pid file and sockets while it runs, and takes them along', async () => {
    const pool = await up('ckpool');
    expect(visible(sockDir())).toEqual(['connector', 'generator', 'listener', 'main.pid', 'stratifier']);
    expect(statSync(sockDir()).mode & 0o777).toBe(0o750);
    expect(readFileSync(`/proc/${pool.pid}/comm`, 'utf8')).toBe('ckpool\n');
    expect((await ckpmsg('ping\n')).out).toMatch(
      /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d\] Received response: pong\n$/,
    );
    expect(await pool.stop()).toBe(0);
    expect(visible(sockDir())).toEqual([]);
  });

  test('a second start ends with 1 and CKPool’s words; -k ends the first, which had time to close', async () => {
    const first = await up('ckpool');
    const refused = await start('ckpool');
    expect(await refused.exited).toBe(1);
    expect(refused.output()).toContain(
      `Process main pid ${first.pid} still exists, start ckpool with -H to get a handover or -k if you wish to kill it`,
    );
    expect(mainPid()).toBe(first.pid);

    const second = await up('ckpool', ['--killold']);
    expect(await first.exited).toBe(0);
    expect((await ckpmsg('ping\n')).out).toContain('pong');
    expect(mainPid()).toBe(second.pid);
  });

  test('-H has a pool start new workers and ends with 0; where the running one cannot, it is as -k', async () => {
    const pool = await up('ckpool');
    const workers = treeOf(pool.pid).slice(1);
    expect(workers.length).toBeGreaterThan(0);
    expect((await ckpmsg('reject\n')).out).toContain('rejecting');
    expect(await run('ckpool', ['-H', '-s', sockDir()])).toMatchObject({
      status: 0,
      err: expect.stringContaining('has taken up the program and configuration'),
    });
    expect(mainPid()).toBe(pool.pid);
    await until('the workers are others', () => {
      const now = treeOf(pool.pid).slice(1);
      return now.length > 0 && now.every((pid) => !workers.includes(pid));
    });

    // What the operator said holds for the new ones.
    const port = Number(/stratum listens on 127\.0\.0\.1:(\d+)/.exec(pool.output())?.[1]);
    expect(await asked(port)).toBe('');
    expect((await ckpmsg('accept\n')).out).toContain('accepting');
    expect(await asked(port)).toContain('pong');

    const proxy = await up('ckproxy');
    const next = await up('ckproxy', ['-H']);
    expect(await proxy.exited).toBe(0);
    expect(mainPid('ckproxy')).toBe(next.pid);
  });

  test('a hand-over whose workers do not start leaves the running pool as it was, and ends with 1', async () => {
    const pool = await up('ckpool', ['-L']);
    const workers = treeOf(pool.pid);
    const path = join(dir.path, 'ckpool.conf');
    writeFileSync(path, readFileSync(path, 'utf8').replace(join(dir.path, 'logs'), join(path, 'not-a-folder')));
    const next = await run('ckpool', ['-L', '-H', '-s', sockDir()]);
    expect(next).toMatchObject({ status: 1, err: expect.stringContaining('goes on as it was') });
    expect(mainPid()).toBe(pool.pid);
    expect((await ckpmsg('ping\n')).out).toContain('pong');
    await until('its workers alone are left', () => treeOf(pool.pid).length === workers.length);
    expect(treeOf(pool.pid)).toEqual(workers);
  });

  test('a process killed outright leaves a pid file that keeps nobody out', async () => {
    const first = await up('ckpool');
    await first.stop({ signal: 'SIGKILL' });
    expect(mainPid()).toBe(first.pid);
    await up('ckpool');
  });

  test('shutdown ends it with status 0, restart starts a proxy anew in another process', async () => {
    const first = await up('ckproxy');
    expect((await ckpmsg('restart\n', '-p')).out).toContain('restarting');
    const second = await until('another runs', () => (mainPid('ckproxy') !== first.pid && mainPid('ckproxy')) || null);
    // It holds the first one's output open: the leash sees no end before this one has ended too.
    loose.add(second);
    await until('the first has gone', () => !isAlive(first.pid));
    await until('it answers', async () => (await ckpmsg('ping\n', '-p')).out.includes('pong'));
    expect((await ckpmsg('shutdown\n', '-p')).out).toContain('exiting');
    await until('it has gone', () => mainPid('ckproxy') === 0 && !isAlive(second));
    expect(await first.exited).toBe(0);
  });
});

test.runIf(process.geteuid?.() === 0)(
  'a child of a tree mines without control sockets where their folder is somebody else’s',
  async () => {
    const sockets = join(dir.path, 'data/sockets');
    mkdirSync(sockets, { recursive: true });
    chownSync(sockets, 12_345, 12_345);
    const env = { ...process.env };
    delete env.LODESTREAM_SOCKDIR;
    const args = ['proxy', '-c', join(dir.path, 'ckproxy.conf')];
    const child = fork(MAIN, args, { execArgv: ['--disable-sigusr1'], stdio: ['ignore', 'pipe', 'pipe', 'ipc'], env });
    loose.add(child.pid!);
    let lines = '';
    child.stderr!.on('data', (piece) => {
      lines += piece;
    });
    await until(
      () => `it listens: ${lines}`,
      () => lines.includes('stratum listens'),
    );
    expect(lines).toContain('no control sockets: socket folder');
    const exited = once(child, 'exit');
    child.send('stop');
    expect((await exited)[0]).toBe(0);
    expect(readdirSync(sockets)).toEqual([]);
  },
);

test('-D leaves a process of its own session behind once it is up, and says where it could not', async () => {
  const args = ['-D', '-s', sockDir()];
  expect(await run('ckpool', args)).toEqual({ status: 0, out: '', err: '' });
  const pid = mainPid();
  loose.add(pid);
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  expect(Number(stat[3]), 'session').toBe(pid);
  for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${pid}/fd/${fd}`)).toBe('/dev/null');
  expect(await run('ckpool', args)).toMatchObject({ status: 1, err: expect.stringContaining('still exists') });

  expect((await ckpmsg('shutdown\n')).out).toContain('exiting');
  await until('it has gone', () => !isAlive(pid));
  writeFileSync(join(dir.path, 'ckpool.conf'), '{}');
  expect(await run('ckpool', args)).toMatchObject({
    status: 78,
    err: expect.stringContaining('"btcaddress" is missing'),
  });
});

test('no password shows in what ps prints, and SIGUSR1 opens no debugger in any process', async () => {
  const daemons = [await up('ckpool', ['-L']), await up('ckproxy')];
  for (const { pid } of daemons) {
    for (const each of treeOf(pid)) {
      for (const file of ['cmdline', 'environ', 'comm']) {
        expect(readFileSync(`/proc/${each}/${file}`, 'latin1'), `${file} of ${each}`).not.toMatch(/SECRET/);
      }
      const before = listening(each);
      process.kill(each, 'SIGUSR1');
      // A second signal that is answered shows that the first has been dealt with.
      const name = pid === daemons[0]!.pid ? 'ckpool' : 'ckproxy';
      expect((await ckpmsg('ping\n', '-n', name)).out).toContain('pong');
      expect(listening(each)).toEqual(before);
    }
  }
  expect(daemons.map(({ running }) => running)).toEqual([true, true]);
  expect(daemons.map((leash) => leash.output()).join('')).not.toMatch(/SECRET|Debugger/);
});

describe('ckpmsg', () => {
  test('works as a filter: one answer a line, comments are none, -c numbers them', async () => {
    await up('ckproxy');
    const { status, out } = await ckpmsg('# what is\nping\n\nnonsense\n', '-p', '-c');
    expect(status).toBe(0);
    expect(out.replace(/^\[[^\]]*\]/gm, '')).toBe(' 1 Received response: pong\n 2 Received response: unknown\n');
    const proxies = await ckpmsg('proxyinfo\n', '-n', 'ckproxy', '-N', 'generator');
    expect(proxies.out).toContain('{"proxies":[{"id":0,"url":"127.0.0.1:1","auth":"upstream","alive":false');
    expect(proxies.out).not.toContain('SECRET');
  });

  test('takes a command as words too, and ends with 1 where nobody answers', async () => {
    expect(await ckpmsg('', 'ping')).toMatchObject({
      status: 1,
      err: expect.stringContaining('there is no such socket'),
    });
    await up('ckpool');
    expect(await ckpmsg('', 'ping')).toMatchObject({ status: 0, out: expect.stringContaining('pong') });
    expect(await ckpmsg('', 'nonsense')).toMatchObject({ status: 1, out: expect.stringContaining('unknown') });
    expect(await ckpmsg('nonsense\n')).toMatchObject({ status: 0, out: expect.stringContaining('unknown') });
  });

  test('-h prints CKPool’s lines', async () => {
    const { out } = await ckpmsg('', '-h');
    expect(out.split('\n').slice(0, 3)).toEqual(['-c | --counter', '-h | --help', '-l LOGLEVEL | --loglevel LOGLEVEL']);
  });
});

test('notifier hands `update` to the stratifier and ends with 0, with 1 where there is none', async () => {
  const args = ['-s', join(dir.path, 'run'), '0000000000000000000000000000000000000000000000000000000000000001'];
  expect((await run('notifier', args)).status).toBe(1);
  await up('ckpool');
  await (started[0] as Leashed).stop();
  const requests: string[] = [];
  const server = createServer((socket) => {
    const reader = new FrameReader(100);
    socket.on('data', (piece) => {
      const text = reader.push(piece);
      if (text !== null) requests.push(text);
    });
  });
  server.listen(join(sockDir(), 'stratifier'));
  await once(server, 'listening');
  expect((await run('notifier', args)).status).toBe(0);
  await until('it has come', () => requests.length > 0);
  expect(requests).toEqual(['update']);
  await new Promise((resolve) => server.close(resolve));
});

describe('under CKPool’s names', () => {
  test('-h prints its lines, and an unknown group or flag ends the start', async () => {
    expect((await run('ckpool', ['-h'])).out).toMatch(/^-B \| --btcsolo\n-c CONFIG \| --config CONFIG\n/);
    expect(await run('ckpool', ['-g', 'no-such-group', '-s', sockDir()])).toMatchObject({
      status: 64,
      err: expect.stringContaining('Failed to find group no-such-group'),
    });
    expect(await run('ckproxy', ['--killodl'])).toMatchObject({ status: 64 });
  });
});
