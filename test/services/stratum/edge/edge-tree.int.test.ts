/** Listeners of all kinds in front of a pool with worker processes: the descriptors go through the parent, the doors are the workers'. */
import { spawn } from 'node:child_process';
import { copyFileSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { loadConfig } from '../../../../services/core/config.ts';
import { startToyChain } from '../../../../services/playground/main.ts';
import { bindListeners } from '../../../../services/stratum/edge/listeners.ts';
import { startPoolTree } from '../../../../services/stratum/parent.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { Client, testLife } from '../rig.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../../../fixtures/tls/${name}`, import.meta.url));
const MAIN = fileURLToPath(new URL('../../../../services/cli/main.ts', import.meta.url));

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function toyChain(): Promise<{ dir: string; toy: Awaited<ReturnType<typeof startToyChain>> }> {
  const dir = tempDir('edge');
  ends.push(() => dir.remove());
  const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  ends.push(() => toy.close());
  return { dir: dir.path, toy };
}

async function opened<T extends Socket>(socket: T, event = 'connect'): Promise<T> {
  ends.push(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once(event, () => resolve());
    socket.once('error', reject);
  });
  return socket;
}

test('two workers serve plain, TLS, balanced and unix listeners, and their counters add up in the status file', async () => {
  const { dir, toy } = await toyChain();
  const files = { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
  const put = (name: string): void => {
    for (const what of ['key', 'cert'] as const) {
      copyFileSync(fixture(`${name}.${what}.pem`), `${files[what]}.new`);
      renameSync(`${files[what]}.new`, files[what]);
    }
  };
  put('one');
  const path = join(dir, 's');
  const local = { host: '127.0.0.1', port: 0 };
  const config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir, 'data'), logdir: join(dir, 'logs') } }, {}),
    listen: [
      local,
      { ...local, tls: files },
      { ...local, proxyProtocolFrom: ['127.0.0.1'], startDiff: 2e-8 },
      { host: '', port: 0, path },
    ],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
    workers: 2,
  };
  const run = testLife();
  ends.push(() => run.end());
  const { addresses } = await startPoolTree(config, run.life, () => config);
  const ports = addresses.map(({ port }) => port);
  expect(statSync(path).mode & 0o777).toBe(0o660);

  const plain = await Client.open(ports[0]!);
  ends.push(() => plain.destroy());
  await plain.login('alice.plain');

  const secure = async (): Promise<TLSSocket> =>
    opened(connectTls({ host: '127.0.0.1', port: ports[1]!, rejectUnauthorized: false }), 'secureConnect');
  const encrypted = await secure();
  const tls = new Client(encrypted);
  await tls.login('alice.tls');
  const share = tls.mine(tls.job, { atLeast: tls.difficulty });
  expect((await tls.submit('alice.tls', share)).result).toBe(true);

  const behind = await opened(connect({ host: '127.0.0.1', port: ports[2]! }));
  behind.write('PROXY TCP4 192.0.2.7 192.0.2.9 5000 3333\r\n');
  const balanced = new Client(behind);
  await balanced.login('alice.balanced');
  expect(balanced.difficulties[0]).toBe(2e-8);

  const unix = new Client(await opened(connect({ path })));
  await unix.login('alice.unix');

  const stranger = await opened(connect({ host: '127.0.0.1', port: ports[2]! }));
  stranger.write('{"id":1,"method":"mining.subscribe","params":[]}\n');
  await until('the stranger is left', () => stranger.destroyed);
  const values = (): Record<string, number> =>
    JSON.parse(readFileSync(join(dir, 'data', 'status', `${config.origin}.json`), 'utf8')).values;
  await until('the status counts them', () => {
    const { connections, connections_without_proxy_header_count: without, shares_accepted_count: shares } = values();
    return connections === 4 && without === 1 && shares === 1;
  });

  // Each worker looks at the files by itself; here both are told.
  put('two');
  run.hangup();
  await until('a new connection sees the new certificate', async () => {
    const seen = await Promise.all([secure(), secure(), secure(), secure()]);
    return seen.every((each) => each.getPeerCertificate().subject.CN === 'two.pool.example');
  });
  expect((await tls.call('mining.ping')).result).toBe('pong');
});

test('who is banned is kept out of every worker, and of those that a hand-over starts', async () => {
  const { dir, toy } = await toyChain();
  const config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir, 'data'), logdir: join(dir, 'logs') } }, {}),
    listen: [{ host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
    workers: 2,
  };
  const run = testLife();
  ends.push(() => run.end());
  const tree = await startPoolTree(config, run.life, () => config);
  const answers = async (user: string): Promise<unknown[]> =>
    Promise.all(
      Array.from({ length: 12 }, async () => {
        const client = await Client.open(tree.addresses[0]!.port);
        ends.push(() => client.destroy());
        await client.subscribe();
        const { error } = await client.call('mining.authorize', [`${user}.rig`, 'x']);
        // A hand-over waits for lines that stay.
        client.destroy();
        return error;
      }),
    );
  const banned = [24, expect.stringContaining('Banned for 10 more minutes'), null];
  tree.workers.ban('127.0.0.1', 'mallory', 600_000);
  expect(new Set(await answers('alice'))).toEqual(new Set([null]));
  for (const error of await answers('mallory')) expect(error).toEqual(banned);
  await tree.handOver();
  for (const error of await answers('mallory')) expect(error).toEqual(banned);
  expect(tree.workers.together().values).toMatchObject({ bans_active: 1 });
});

test('the command takes its listening socket from systemd', async () => {
  const { dir, toy } = await toyChain();
  const bound = await bindListeners([{ host: '127.0.0.1', port: 0 }], {
    log: () => {},
    signal: new AbortController().signal,
  });
  ends.push(() => bound.close());
  const { port, fd } = bound.listeners[0]!;
  const file = join(dir, 'ckpool.conf');
  writeFileSync(
    file,
    JSON.stringify({
      btcd: [{ url: toy.rpcUrl, auth: 'u', pass: 'p' }],
      btcaddress: toy.fundingAddress,
      logdir: join(dir, 'logs'),
      // Nobody could listen there: the socket that is handed over counts.
      lodestream: { listen: ['127.0.0.1:1'], data_dir: join(dir, 'data') },
    }),
  );
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"',
      process.execPath,
      '--disable-sigusr1',
      MAIN,
      'pool',
      '-c',
      file,
      '-s',
      join(dir, 'sock'),
    ],
    { stdio: ['ignore', 'pipe', 'pipe', fd] },
  );
  const gone = new Promise((resolve) => child.once('exit', resolve));
  ends.push(async () => {
    child.kill('SIGTERM');
    await gone;
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream!.on('data', (chunk) => {
      said += chunk;
    });
  const client = await until(
    () => `a line at the pool, which said: ${said}`,
    () => Client.open(port),
  );
  ends.push(() => client.destroy());
  await client.login('alice.w1');
  expect(said).toContain('1 of 1 listening sockets come from systemd');
});
