import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { PoolError } from '../../../../services/core/errors.ts';
import { type BoundListeners, bindListeners, takeSystemdSockets } from '../../../../services/stratum/edge/listeners.ts';
import { type StratumServer, startServer } from '../../../../services/stratum/edge/server.ts';
import { startLeashed, tempDir, until } from '../../../helpers/leash.ts';

const NODE = process.execPath;
const WORKER = fileURLToPath(new URL('echo-worker.ts', import.meta.url));
const options = { log: () => {}, signal: new AbortController().signal, bindRetryMs: 10, bindTries: 2 };
const local = { host: '127.0.0.1', port: 0 };

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function bound(...specs: Parameters<typeof bindListeners>[0]): Promise<BoundListeners> {
  const all = await bindListeners(specs, options);
  ends.push(() => all.close());
  return all;
}

async function serve(listen: Parameters<typeof startServer>[0]['listen']): Promise<StratumServer> {
  const server = await startServer({
    ...options,
    listen,
    lineLimitBytes: 1_000,
    maxClients: 100,
    onConnection: (connection) => ({
      line: (text) => connection.write(`here ${connection.address} ${text}\n`),
      closed: () => {},
    }),
  });
  ends.push(() => server.close());
  return server;
}

function open(to: { port: number } | { path: string }): { socket: Socket; text: () => string } {
  const socket = connect('path' in to ? to : { host: '127.0.0.1', ...to });
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  ends.push(() => socket.destroy());
  return { socket, text: () => text };
}

/** A worker that gets the descriptor as its number 3. */
async function startWorker(name: string, fd: number): Promise<ChildProcess> {
  const child = spawn(NODE, [WORKER, name, JSON.stringify([{ ...local, fd: 3 }])], {
    stdio: ['pipe', 'pipe', 'inherit', fd],
  });
  ends.push(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout!.on('data', (chunk) => {
    said += chunk;
  });
  await until('the worker is ready', () => said.includes('ready'));
  return child;
}

describe('descriptors', () => {
  test('a worker accepts on what its parent bound, and a connection made while no worker runs is served by the next', async () => {
    const { listeners } = await bound(local);
    const { port, fd } = listeners[0]!;
    expect(port).toBeGreaterThan(0);
    const first = await startWorker('first', fd);
    const before = open({ port });
    before.socket.write('one\n');
    await until('the first worker answers', () => before.text() === 'first one\n');

    first.kill('SIGKILL');
    await until('it is gone', () => before.socket.closed || before.socket.destroyed);
    const between = open({ port });
    between.socket.write('two\n');
    await until('the kernel has taken the connection', () => between.socket.readyState === 'open');
    await startWorker('second', fd);
    await until('the second worker answers', () => between.text() === 'second two\n');
  });

  test('a bound listener refuses while nobody listens, and serves from the moment that somebody does', async () => {
    const { listeners } = await bound(local);
    const refused = open({ port: listeners[0]!.port });
    await until('refused', () => refused.socket.destroyed);
    const server = await serve(listeners);
    expect(server.addresses[0]!.port).toBe(listeners[0]!.port);
    const client = open({ port: listeners[0]!.port });
    client.socket.write('x\n');
    await until('served', () => client.text() === 'here 127.0.0.1 x\n');
  });

  test('an address that another program listens on is port_in_use', async () => {
    const other: Server = createServer().listen(0, '127.0.0.1');
    ends.push(() => other.close());
    await until('it listens', () => other.listening);
    const { port } = other.address() as { port: number };
    await expect(bindListeners([{ host: '127.0.0.1', port }], options)).rejects.toMatchObject({ code: 'port_in_use' });
    await expect(serve([{ host: '127.0.0.1', port }])).rejects.toMatchObject({ code: 'port_in_use' });
  });

  test('an address that is none is a configuration error', async () => {
    await expect(serve([{ host: '192.0.2.1', port: 0 }])).rejects.toMatchObject({ code: 'config' });
    await expect(serve([{ host: '127.0.0.1', port: 0, fd: 9_999 }])).rejects.toMatchObject({ code: 'config' });
  });
});

describe('unix sockets', () => {
  test('are for user and group alone, and their path goes with the server', async () => {
    const dir = tempDir('listen');
    ends.push(() => dir.remove());
    const path = join(dir.path, 'stratum.sock');
    const server = await serve([{ host: '', port: 0, path }]);
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(server.addresses).toEqual([{ host: '', port: 0, path }]);
    const client = open({ path });
    client.socket.write('x\n');
    await until('served', () => client.text() === 'here unix x\n');
    await server.close();
    expect(existsSync(path)).toBe(false);
  });

  test('one that a killed process left behind is replaced; one that answers, or is a file, is not', async () => {
    const dir = tempDir('listen');
    ends.push(() => dir.remove());
    const path = join(dir.path, 'stratum.sock');
    // A process that is killed cannot remove its path.
    const left = await startLeashed(NODE, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
    ]);
    ends.push(() => left.stop({ signal: 'SIGKILL' }));
    await until('it listens', () => left.output().includes('up'));
    await expect(serve([{ host: '', port: 0, path }])).rejects.toMatchObject({ code: 'port_in_use' });
    await left.stop({ signal: 'SIGKILL' });
    expect(existsSync(path)).toBe(true);
    const server = await serve([{ host: '', port: 0, path }]);
    await server.close();

    writeFileSync(path, 'a file of somebody');
    await expect(serve([{ host: '', port: 0, path }])).rejects.toThrow(path);
    expect(statSync(path).isFile()).toBe(true);
  });
});

describe('sockets from systemd', () => {
  const two = [
    { host: '0.0.0.0', port: 3333 },
    { host: '0.0.0.0', port: 3334 },
  ];

  test('belong to the configured addresses in order; the variables are taken away', () => {
    const env: NodeJS.ProcessEnv = { LISTEN_FDS: '1', LISTEN_PID: '77', LISTEN_FDNAMES: 'ckpool.socket', PATH: '/bin' };
    expect(takeSystemdSockets(two, { env, pid: 77, log: () => {} })).toEqual([{ ...two[0], fd: 3 }, two[1]]);
    expect(env).toEqual({ PATH: '/bin' });
  });

  test('are not taken by a process that they were not meant for', () => {
    const env = { LISTEN_FDS: '1', LISTEN_PID: '77' };
    const lines: string[] = [];
    const log = (line: string): void => void lines.push(line);
    expect(takeSystemdSockets(two, { env, pid: 78, log })).toEqual(two);
    expect(takeSystemdSockets(two, { env: {}, pid: 78, log })).toEqual(two);
    expect(lines).toEqual([expect.stringContaining("systemd's sockets are for process 77, this is 78")]);
  });

  test('one that no address is configured for is an error that says what to do', () => {
    const env = { LISTEN_FDS: '3', LISTEN_PID: '77' };
    const take = (): unknown => takeSystemdSockets(two, { env, pid: 77, log: () => {} });
    expect(take).toThrow(PoolError);
    env.LISTEN_FDS = '3';
    env.LISTEN_PID = '77';
    expect(take).toThrow('systemd hands over 3 listening sockets, but 2 addresses are configured');
  });

  test('are accepted on, whatever the configured port', async () => {
    const { listeners } = await bound(local);
    const { port, fd } = listeners[0]!;
    // As systemd does it: the variables name the process that is about to become the program.
    const child = spawn(
      '/bin/sh',
      [
        '-c',
        'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"',
        NODE,
        WORKER,
        'unit',
        JSON.stringify([{ host: '127.0.0.1', port: 1 }]),
      ],
      { stdio: ['pipe', 'pipe', 'inherit', fd] },
    );
    ends.push(() => child.kill('SIGKILL'));
    let said = '';
    child.stdout!.on('data', (chunk) => {
      said += chunk;
    });
    await until('it is ready', () => said.includes('ready'));
    expect(said).toContain('1 of 1 listening sockets come from systemd');
    expect(said).toContain(`ready on 127.0.0.1:${port}; LISTEN_FDS is gone`);
    const client = open({ port });
    client.socket.write('x\n');
    await until('served', () => client.text() === 'unit x\n');
  });
});
