/** The table of control commands, on a target that keeps what it is told. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CTL_COMMANDS } from '../../../../services/cli/ckpmsg.ts';
import type { ControlSocket } from '../../../../services/core/control.ts';
import {
  type ClientRow,
  type ControlTarget,
  runCommand,
} from '../../../../services/stratum/control/control-commands.ts';

const client = (id: number, worker: string): ClientRow => ({
  id,
  enonce1: 'aa',
  user: worker.split('.')[0]!,
  worker,
  address: '192.0.2.1',
  server: '0.0.0.0:3333',
  useragent: 'test/1',
  diff: 42,
  subscribed: true,
  authorised: worker !== '',
  starttime: 1_795_000_000,
});

function target(told: string[]): ControlTarget {
  const does =
    (name: string) =>
    async (...of: unknown[]): Promise<void> =>
      void told.push(`${name} ${JSON.stringify(of)}`);
  const about =
    (name: string) =>
    async (id: number): Promise<boolean> => {
      told.push(`${name} ${id}`);
      return id === 1;
    };
  return {
    acceptClients: does('accept'),
    reconnectAll: does('reconnect'),
    reconnectClient: about('reconnectClient'),
    dropClient: about('drop'),
    hasClient: about('has'),
    dropAll: does('dropAll'),
    resetShares: does('reset'),
    setLogLevel: does('level'),
    updateWork: does('update'),
    work: async () => ({
      jobid: '6b0286a900000000',
      height: 700,
      previousblockhash: `${'0'.repeat(63)}1`,
      version: 0x20000000,
      bits: '1d00ffff',
      curtime: 1_795_000_000,
      transactions: 3,
      coinbasevalue: '5000000000',
      networkdiff: 1,
    }),
    clients: async () => [client(1, 'alice.r1'), client(2, 'alice.r2'), client(3, 'bob'), client(4, '')],
    userStats: async (user) => (user === 'carol' ? { shares: 5, bestshare: 3, lastshare: 1 } : {}),
    workerStats: async () => ({}),
    poolStats: async () => ({ Users: 2 }),
    upstreams: async () => [
      { id: 0, url: 'a:1', auth: 'me.w', alive: true, current: true, connections: 1, problem: null },
    ],
    stratifierStats: async () => ({ clients: { count: 4 } }),
    connectorStats: async () => ({ clients: { count: 4, generated: 9 } }),
    handover: async () => 'not here',
  };
}

async function ask(socket: ControlSocket, text: string): Promise<[string, ...string[]]> {
  const told: string[] = [];
  const reply = await runCommand(socket, text, {
    process: {
      startedMs: Date.now() - 5_000,
      shutdown: () => void told.push('shutdown'),
      restart: () => told.push('restart') > 0,
    },
    target: target(told),
  });
  return [reply, ...told];
}

test('every command that `lodestream ctl --help` names is one', async () => {
  const named = CTL_COMMANDS.split('\n')
    .slice(1, -2)
    .flatMap((line) => /^ {2}(.*?) {2}/.exec(line)![1]!.split(', '));
  expect(named.length).toBeGreaterThan(15);
  for (const command of named) expect([command, (await ask('listener', command))[0]]).not.toContain('unknown');
});

describe('each command has the reply that CKPool gives, and its effect', () => {
  test.each<[ControlSocket, string, string, ...string[]]>([
    ['listener', 'ping', 'pong'],
    ['listener', 'PING and more', 'pong'],
    ['listener', 'shutdown', 'exiting', 'shutdown'],
    ['listener', 'restart', 'restarting', 'restart'],
    ['listener', 'loglevel=6', 'success', 'level [6]'],
    ['listener', 'LogLevel=0', 'success', 'level [0]'],
    ['listener', 'loglevel=8', 'Invalid'],
    ['listener', 'loglevel=-1', 'Invalid'],
    ['listener', 'loglevel', 'Failed'],
    ['listener', 'loglevel=x', 'Failed'],
    ['listener', 'accept', 'accepting', 'accept [true]'],
    ['listener', 'reject', 'rejecting', 'accept [false]'],
    ['listener', 'reconnect', 'reconnecting', 'reconnect [null]'],
    ['listener', 'reconnect:pool.example,3333', 'reconnecting', 'reconnect [{"host":"pool.example","port":3333}]'],
    ['listener', 'reconnect:pool.example', 'Invalid'],
    ['listener', 'reconnect:a b,1', 'Invalid'],
    ['listener', 'reconnect:a,70000', 'Invalid'],
    ['listener', 'resetshares', 'resetting', 'reset []'],
    ['listener', 'stratifierstats', '{"clients":{"count":4}}'],
    ['listener', 'connectorstats', '{"clients":{"count":4,"generated":9}}'],
    ['listener', 'handover', 'Failed: not here'],
    ['listener', 'nonsense', 'unknown'],
    ['listener', '', 'unknown'],
    ['listener', 'update', 'unknown'],
    ['stratifier', 'ping', 'pong'],
    ['stratifier', 'update', 'updating', 'update []'],
    ['stratifier', 'stats', '{"clients":{"count":4}}'],
    ['stratifier', 'dropall', 'dropping', 'dropAll []'],
    ['stratifier', 'dropclient=1', 'dropping', 'drop 1'],
    ['stratifier', 'dropclient=2', 'no client 2', 'drop 2'],
    ['stratifier', 'dropclient=', 'Failed'],
    ['stratifier', 'dropclient=1e3', 'Failed'],
    ['stratifier', 'reconnclient=1', 'reconnecting', 'reconnectClient 1'],
    ['stratifier', 'reconnect', 'reconnecting', 'reconnect [null]'],
    ['stratifier', 'resetshares', 'resetting', 'reset []'],
    ['stratifier', 'shutdown', 'unknown'],
    ['generator', 'ping', 'pong'],
    ['generator', 'getbest', `${'0'.repeat(63)}1`],
    ['generator', 'getlast', `${'0'.repeat(63)}1`],
    ['generator', 'reconnect', 'reconnecting', 'update []'],
    ['generator', 'loglevel=7', 'success', 'level [7]'],
    ['connector', 'ping', 'pong'],
    ['connector', 'stats', '{"clients":{"count":4,"generated":9}}'],
    ['connector', 'accept', 'accepting', 'accept [true]'],
    ['connector', 'reject', 'rejecting', 'accept [false]'],
    ['connector', 'testclient=1', 'true', 'has 1'],
    ['connector', 'testclient=7', 'no client 7', 'has 7'],
  ])('%s: %s', async (socket, text, ...expected) => {
    expect(await ask(socket, text)).toEqual(expected);
  });

  test('a descriptor is refused with what to do', async () => {
    expect(await ask('listener', 'getxfd0')).toEqual([expect.stringContaining('--handover')]);
  });

  test('getbase is the work that miners have', async () => {
    expect(JSON.parse((await ask('generator', 'getbase'))[0])).toMatchObject({ height: 700, transactions: 3 });
  });
});

test('no text makes a command fail, and what is no command has no effect', async () => {
  const sockets: ControlSocket[] = ['listener', 'stratifier', 'generator', 'connector'];
  const words = ['getuser=', 'getclient', 'dropclient=', 'reconnect:', 'loglevel=', '{', 'setproxy', 'wcinfo={'];
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.tuple(fc.constantFrom(...words), fc.string({ maxLength: 50 })).map(([word, rest]) => word + rest),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...sockets), text, async (socket, request) => {
      const [reply, ...told] = await ask(socket, request);
      expect(typeof reply).toBe('string');
      if (reply === 'unknown' || reply === 'Invalid' || reply === 'Failed') expect(told).toEqual([]);
    }),
    { numRuns: 200 },
  );
});

describe('the questions that CKPool leaves open are answered as JSON, on every socket', () => {
  const json = async (text: string): Promise<unknown> => JSON.parse((await ask('stratifier', text))[0]);
  test('users and workers are those of authorised lines', async () => {
    expect(await json('users')).toEqual({
      users: [
        { user: 'alice', clients: 2, workernames: ['alice.r1', 'alice.r2'] },
        { user: 'bob', clients: 1, workernames: ['bob'] },
      ],
    });
    expect(await json('workers')).toMatchObject({
      workers: [{ worker: 'alice.r1' }, { worker: 'alice.r2' }, { worker: 'bob' }],
    });
  });

  test('clients are all lines, and one is found by its number', async () => {
    expect(await json('clients')).toMatchObject({ clients: [{ id: 1 }, { id: 2 }, { id: 3 }, { id: 4, worker: '' }] });
    expect(await json('getclient=3')).toMatchObject({ id: 3, worker: 'bob' });
    expect(await json('getclient={"id": 3}')).toMatchObject({ id: 3 });
    expect(await json('getclient=77')).toEqual({ error: 'no client 77' });
  });

  test('a user is found by name, connected or by its statistics, and nobody else', async () => {
    expect(await json('getuser=alice')).toMatchObject({ user: 'alice', clients: 2 });
    expect(await json('getuser={"user": "alice"}')).toMatchObject({ user: 'alice' });
    expect(await json('getuser=carol')).toEqual({
      user: 'carol',
      shares: 5,
      bestshare: 3,
      lastshare: 1,
      clients: 0,
      workernames: [],
    });
    expect(await json('getuser=nobody')).toEqual({ error: 'no user nobody' });
    expect(await json('getuser={"user": ')).toEqual({ error: 'expected getuser=NAME' });
    expect(await json('getworker=alice.r2')).toEqual({ worker: 'alice.r2', clients: 1 });
    expect(await json('getworker=alice')).toEqual({ error: 'no worker alice' });
  });

  test('the lines of a user or worker', async () => {
    expect(await json('ucinfo=alice')).toMatchObject({ clients: [{ id: 1 }, { id: 2 }] });
    expect(await json('wcinfo=alice.r2')).toMatchObject({ clients: [{ id: 2 }] });
    expect(await json('ucinfo=nobody')).toEqual({ clients: [] });
  });

  test('pool, upstreams and time', async () => {
    expect(await json('poolstats')).toEqual({ Users: 2 });
    expect(await json('proxyinfo')).toMatchObject({ proxies: [{ url: 'a:1', current: true }] });
    expect(await json('getproxy=0')).toMatchObject({ url: 'a:1' });
    expect(await json('setproxy=1')).toEqual({ error: expect.stringContaining('configuration file') });
    expect(await json('uptime')).toEqual({ uptime: 5 });
  });
});
