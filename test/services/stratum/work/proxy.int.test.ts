/** Proxies in front of a pool: two levels deep, fail-over, and upstreams that say nonsense. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../../../services/core/config.ts';
import { type StratumHandle, startProxy } from '../../../../services/stratum/main.ts';
import { checkDifficulty, checkNotify, errorWords } from '../../../../services/stratum/work/upstream-messages.ts';
import { freePort, tempDir, until } from '../../../helpers/leash.ts';
import { Client, journaled, type Rig, someHash, startRig, template, testLife } from '../rig.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function pool(config: NonNullable<Parameters<typeof startRig>[0]>['config'] = {}): Promise<Rig> {
  const rig = await startRig({ config: { startDiff: 2e-6, ...config } });
  ends.push(() => rig.close());
  return rig;
}

async function proxy(
  name: string,
  ports: readonly number[],
  changes: Partial<Config> = {},
): Promise<StratumHandle & { port: number; dataDir: string; lines: string[] }> {
  const dir = tempDir(name);
  const { life, lines, end } = testLife();
  const config = {
    ...loadConfig(
      {
        mode: 'proxy',
        name,
        options: { 'lodestream.data_dir': dir.path, 'lodestream.chain': 'regtest', logdir: `${dir.path}/logs` },
      },
      {},
    ),
    upstreams: ports.map((port) => ({ url: `127.0.0.1:${port}`, auth: `addr.${name}`, pass: 'x' })),
    listen: [{ host: '127.0.0.1', port: 0 }],
    minDiff: 1e-7,
    startDiff: 1e-6,
    ...changes,
  };
  const handle = await startProxy(config, life);
  let ended = false;
  ends.push(async () => {
    if (!ended) await end();
    ended = true;
    dir.remove();
  });
  return Object.assign({ ...handle }, { port: handle.addresses[0]!.port, dataDir: dir.path, lines });
}

async function client(port: number): Promise<Client> {
  const opened = await Client.open(port);
  ends.push(() => opened.destroy());
  return opened;
}

describe('two levels of proxy', () => {
  test('extranonce2 goes 8 → 6 → 5, and a share is in the rows of all three origins', async () => {
    const top = await pool();
    const first = await proxy('first', [top.port]);
    const second = await proxy('second', [first.port]);
    const miner = await client(second.port);
    const configured = await miner.call('mining.configure', [
      ['version-rolling'],
      { 'version-rolling.mask': '00006000' },
    ]);
    expect(configured.result).toEqual({ 'version-rolling': true, 'version-rolling.mask': '00006000' });
    await miner.login('bob.rig1');
    expect(miner.nonce2Bytes).toBe(5);
    expect(miner.enonce1).toHaveLength((4 + 2 + 1) * 2);
    // Each level tells no more than the one above.
    expect(miner.difficulty).toBe(1e-6);

    const small = miner.mine(miner.job, { atLeast: 1e-6, below: 2e-6 });
    expect((await miner.submit('bob.rig1', small)).result).toBe(true);
    const large = miner.mine(miner.job, { atLeast: 2e-6, nonce2: 7, versionBits: 0x4000, mask: 0x6000 });
    expect((await miner.submit('bob.rig1', large, '00004000')).result).toBe(true);
    const shares = () => top.journal.of('share');
    await until('the share at the pool', () => shares().length === 1);
    expect(shares()[0]).toMatchObject({ accepted: true, user: 'addr', worker: 'addr.first', version_bits: '00004000' });
    await until('its verdict at the lowest level', async () =>
      (await journaled(second.dataDir, 'second', 'share')).some((share) => share.kind === 'verdict'),
    );
    const low = await journaled(second.dataDir, 'second', 'share');
    const middle = await journaled(first.dataDir, 'first', 'share');
    // The first proxy asks 1e-6 of its client, so both shares came to it; the pool asks 2e-6.
    expect(middle.filter((share) => share.kind === 'submitted')).toHaveLength(2);
    expect(low.filter((share) => share.kind === 'submitted').map((share) => share.accepted)).toEqual([true, true]);
    expect(low.filter((share) => share.kind === 'verdict').every((share) => share.accepted)).toBe(true);
    const hash = shares()[0]!.hash;
    for (const level of [low, middle])
      expect(level.some((share) => share.hash === hash && share.kind === 'submitted')).toBe(true);
    expect(new Set([...low, ...middle, ...shares()].map((share) => share.origin))).toEqual(
      new Set(['first', 'second', 'ckpool']),
    );
    const [job] = await journaled(second.dataDir, 'second', 'job');
    expect(job).toMatchObject({ height: 111, enonce1_bytes: 7, nonce2_bytes: 5, upstream: `127.0.0.1:${first.port}` });
    expect(BigInt(`0x${job!.job_id}`) >> 32n).toBeGreaterThan(1_700_000_000n);
  });

  test('a new block goes down through both, clean', async () => {
    const top = await pool();
    const second = await proxy('second', [(await proxy('first', [top.port])).port]);
    const miner = await client(second.port);
    await miner.login('bob');
    top.source.take(template(top.profile, { prevHash: someHash('next'), height: 112 }));
    await until('the next job', () => miner.jobs.length === 2);
    expect(miner.job.clean).toBe(true);
  });
});

describe('difficulty', () => {
  test('is never above the upstream’s, and a share is judged there by the job’s', async () => {
    const top = await pool({ startDiff: 3e-7, minDiff: 1e-7, maxDiff: 3e-7 });
    const first = await proxy('first', [top.port]);
    const miner = await client(first.port);
    await miner.login('bob', 'd=5');
    expect(miner.difficulties.every((diff) => diff <= 3e-7)).toBe(true);
    expect((await miner.submit('bob', miner.mine(miner.job, { atLeast: 3e-7 }))).result).toBe(true);
    await until('it is there', () => top.journal.of('share').some((share) => share.accepted));
  });
});

describe('fail-over', () => {
  test('the next upstream serves while the first is away, and the first again when it is back', async () => {
    const backup = await pool({ origin: 'backup' });
    const port = await freePort();
    const listen = [{ host: '127.0.0.1', port }];
    let preferred = await startRig({ config: { startDiff: 2e-6, origin: 'preferred', listen } });
    const between = await proxy('between', [port, backup.port]);
    const miner = await client(between.port);
    await miner.login('bob');
    expect(preferred.daemon.sessions.size).toBe(1);
    await preferred.close();
    await until('the line is closed, so that the miner connects again', () => miner.closed);
    const again = await client(between.port);
    await again.login('bob');
    expect(backup.daemon.sessions.size).toBe(1);
    expect((await again.submit('bob', again.mine(again.job, { atLeast: 2e-6 }))).result).toBe(true);
    await until('the backup has it', () => backup.journal.of('share').length === 1);
    preferred = await startRig({ config: { startDiff: 2e-6, origin: 'preferred', listen } });
    ends.push(() => preferred.close());
    await until('the line is closed once more', () => again.closed);
    const third = await client(between.port);
    await third.login('bob');
    expect(preferred.daemon.sessions.size).toBe(1);
  });

  test('a preferred upstream that gives work and leaves, again and again, is asked less often each time while another works', async () => {
    const backup = await pool({ origin: 'backup' });
    const asked: number[] = [];
    const flapping = createServer((socket) => {
      socket.on('error', () => {});
      if (backupWorks) asked.push(performance.now());
      else return void socket.destroy();
      socket.setEncoding('utf8').on('data', (text: string) => {
        for (const line of text.trim().split('\n')) {
          const { id, method } = JSON.parse(line);
          const result = method === 'mining.subscribe' ? [[], '00000000', 8] : true;
          if (method !== 'mining.configure') socket.write(`${JSON.stringify({ id, result, error: null })}\n`);
          if (method !== 'mining.authorize') continue;
          const params = ['1', '00'.repeat(32), '00'.repeat(60), '00', [], '20000000', '207fffff', '60000000', true];
          socket.end(`${JSON.stringify({ id: null, method: 'mining.notify', params })}\n`);
        }
      });
    });
    let backupWorks = false;
    await new Promise<void>((resolve) => flapping.listen(0, '127.0.0.1', resolve));
    ends.push(() => void flapping.close());
    await proxy('between', [(flapping.address() as AddressInfo).port, backup.port]);
    await until('the other works', () => backup.daemon.sessions.size > 0);
    backupWorks = true;
    await until('it was asked three times', () => asked.length === 3);
    // The pause after the first time is a second; a busy machine makes any of them longer.
    expect(asked[2]! - asked[1]!).toBeGreaterThan(1_500);
  });

  test('a miner that takes another extranonce1 keeps its line: it is told it, the mask and new work, in this order', async () => {
    const backup = await pool({ origin: 'backup', versionMask: 0x0000_e000 });
    const preferred = await startRig({ config: { startDiff: 2e-6, origin: 'preferred' } });
    const between = await proxy('between', [preferred.port, backup.port]);
    const miner = await client(between.port);
    const agreed = await miner.call('mining.configure', [['version-rolling', 'subscribe-extranonce'], {}]);
    expect(agreed.result).toMatchObject({ 'version-rolling.mask': '1fffe000', 'subscribe-extranonce': true });
    await miner.login('bob');
    const other = await client(between.port);
    await other.login('carol');
    const before = miner.messages.length;
    await preferred.close();
    await until('other work', () => miner.jobs.length > 1);
    await until('who does not take it is to connect again', () => other.closed);
    expect(other.messages.at(-1)).toMatchObject({ method: 'client.reconnect', params: [] });
    const told = miner.messages.slice(before);
    expect(told.map((message) => message.method)).toEqual([
      'mining.set_extranonce',
      'mining.set_version_mask',
      'mining.notify',
    ]);
    expect(told[1].params).toEqual(['0000e000']);
    expect(told[2].params[8]).toBe(true);
    [miner.enonce1, miner.nonce2Bytes] = told[0].params;
    const share = miner.mine(miner.job, { atLeast: 2e-6, versionBits: 0x2000, mask: 0xe000 });
    expect((await miner.submit('bob', share, '00002000')).result).toBe(true);
    await until('the backup has it', () => backup.journal.of('share').some((event) => event.accepted));
    expect(miner.closed).toBe(false);
  });

  test('other version bits upstream are told to who negotiated them, within what it asked for, and nobody is closed', async () => {
    const top = await pool();
    const between = await proxy('between', [top.port]);
    const miner = await client(between.port);
    await miner.call('mining.configure', [['version-rolling'], { 'version-rolling.mask': '0001e000' }]);
    await miner.login('bob');
    const plain = await client(between.port);
    await plain.login('carol');
    const [upstream] = top.daemon.sessions;
    const masks = (of: Client): unknown[] =>
      of.messages.filter(({ method }) => method === 'mining.set_version_mask').map(({ params }) => params);
    for (const mask of ['00006000', '1fffe000']) {
      upstream!.send(`{"params":["${mask}"],"id":null,"method":"mining.set_version_mask"}\n`);
    }
    await until('both are told', () => masks(miner).length === 2);
    expect(masks(miner)).toEqual([['00006000'], ['0001e000']]);
    expect(masks(plain)).toEqual([]);
    expect([miner.closed, plain.closed]).toEqual([false, false]);
    const rolled = miner.mine(miner.job, { atLeast: 2e-6, versionBits: 0x10000, mask: 0x1e000 });
    expect((await miner.submit('bob', rolled, '00010000')).result).toBe(true);
  });

  test('an upstream that closes many connections at once is asked again after the first pause, not the longest', async () => {
    // An extranonce2 of 4 is not split: each miner has an upstream connection of its own.
    const top = await pool({ nonce2Bytes: 4 });
    const between = await proxy('between', [top.port]);
    await until('eight connections', async () => {
      await (await client(between.port)).subscribe();
      return top.daemon.sessions.size >= 8;
    });
    for (const session of top.daemon.sessions) session.end('all lines end');
    await until('the upstream is lost', () => !between.daemon.ready);
    const since = performance.now();
    await until('the upstream serves again', () => between.daemon.ready);
    // The first pause is a second, the longest a minute.
    expect(performance.now() - since).toBeLessThan(20_000);
  });

  test('without any upstream lines wait and are served as soon as there is one', async () => {
    const spare = await startRig();
    const { port } = spare;
    await spare.close();
    const between = await proxy('between', [port]);
    const miner = await client(between.port);
    miner.write('{"id":1,"method":"mining.subscribe","params":[]}\n{"id":2,"method":"mining.ping","params":[]}\n');
    const late = await startRig({ config: { listen: [{ host: '127.0.0.1', port }] } });
    ends.push(() => late.close());
    expect((await miner.reply(1)).result[2]).toBe(6);
    expect((await miner.reply(2)).result).toBe('pong');
    expect(between.lines.some((line) => line.includes('ECONNREFUSED'))).toBe(true);
  });
});

describe('an upstream that is not to be trusted', () => {
  /** Answers the handshake by a script; returns what it was sent. */
  async function hostile(
    answer: (request: { id: unknown; method: string }, socket: Socket) => string,
  ): Promise<number> {
    const server: Server = createServer((socket) => {
      socket.on('error', () => {});
      let rest = '';
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop()!;
        for (const line of lines) socket.write(answer(JSON.parse(line), socket));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ends.push(() => void server.close());
    return (server.address() as AddressInfo).port;
  }

  test.each([
    ['extranonce2 of 0 bytes', '[[],"00000000",0]', 'cannot be used'],
    ['extranonce2 of 1e9 bytes', '[[],"00000000",1000000000]', 'cannot be used'],
    ['an extranonce1 that is no hex', '[[],"zz",4]', 'cannot be used'],
    ['an extranonce1 of 1,000 bytes', `[[],"${'00'.repeat(1_000)}",4]`, 'cannot be used'],
    ['a text', '"Initialising"', 'cannot be used'],
    ['a line of a megabyte', `"${'x'.repeat(1_000_000)}"`, 'too long'],
  ])('%s is said and left', async (_name, result, words) => {
    const port = await hostile(({ id, method }) =>
      method === 'mining.subscribe' ? `{"id":${JSON.stringify(id)},"result":${result},"error":null}\n` : '',
    );
    const between = await proxy('between', [port]);
    await until('what is wrong is said', () => between.lines.some((line) => line.includes(words)));
    expect(between.daemon.ready).toBe(false);
  });

  test('a refused worker and garbage are said', async () => {
    const refusing = await hostile(({ id, method }) =>
      method === 'mining.subscribe'
        ? `{"id":${JSON.stringify(id)},"result":[[],"00",4],"error":null}\n`
        : method === 'mining.authorize'
          ? `{"id":${JSON.stringify(id)},"result":false,"error":[24,"no\\u001b such user",null]}\n`
          : '',
    );
    const garbage = await hostile(() => '<html>\n');
    const one = await proxy('one', [refusing]);
    const two = await proxy('two', [garbage]);
    await until('the refusal is said', () =>
      one.lines.some((line) => line.includes('refuses worker addr.one: no  such user')),
    );
    await until('the garbage is said', () => two.lines.some((line) => line.includes('not JSON')));
  });

  test('an upstream of another chain is left, and the chain’s option is named', async () => {
    const job = ['j', '00'.repeat(32), '00'.repeat(60), '00', [], '20000000', '2100ffff', '60000000', true];
    const port = await hostile(({ id, method }) =>
      method === 'mining.subscribe'
        ? `{"id":${JSON.stringify(id)},"result":[[],"00000000",8],"error":null}\n${JSON.stringify({ id: null, method: 'mining.notify', params: job })}\n`
        : `{"id":${JSON.stringify(id)},"result":true,"error":null}\n`,
    );
    const between = await proxy('between', [port]);
    await until('what is wrong is said', () =>
      between.lines.some((line) =>
        /its job cannot be used: nbits are not of this chain .*lodestream\.chain/.test(line),
      ),
    );
    expect(between.daemon.ready).toBe(false);
  });

  test('jobs and difficulties that are none are not taken', () => {
    const { pow_limit: limit } = loadChain('bitcoin');
    const good = ['j', '00'.repeat(32), '00'.repeat(60), '00', [], '20000000', '1d00ffff', '60000000', true];
    expect(checkNotify(good, limit)).toMatchObject({ jobId: 'j', clean: true });
    const broken: [number, unknown, string][] = [
      [0, 5, 'job id'],
      [0, 'x'.repeat(500), 'job id'],
      [1, '00', 'previous hash'],
      [2, 'zz', 'coinbase'],
      [3, 'f'.repeat(200_001), 'coinbase'],
      [4, 'x', 'merkle'],
      [4, Array(40).fill('00'.repeat(32)), 'merkle'],
      [4, [null], 'merkle'],
      [5, '2', 'version'],
      [6, 'ffffffff', 'nbits'],
      [6, '00000000', 'nbits'],
      [6, '207fffff', 'nbits'],
      [7, -1, 'ntime'],
    ];
    for (const [at, value, words] of broken) {
      expect(checkNotify(good.with(at, value as never), limit)).toEqual(expect.stringContaining(words));
    }
    expect(checkNotify({}, limit)).toEqual(expect.any(String));
    for (const value of [[Number.NaN], [0], [-1], ['5'], [1e300], [], null, [Infinity]]) {
      expect(checkDifficulty(value)).toBeNull();
    }
    expect(checkDifficulty([0.5])).toBe(0.5);
    expect(errorWords([23, 'low', null], undefined)).toBe('low');
    expect(errorWords(null, 'Above target')).toBe('Above target');
    expect(errorWords({ message: 'x' }, undefined)).toBe('x');
    expect(errorWords([23, 'low\u202e\u001b[2J', null], undefined)).toBe('low  [2J');
    expect(errorWords(undefined, undefined)).toBe('refused without a reason');
  });

  test('no upstream in the configuration is an error of it', async () => {
    const { life } = testLife();
    const config = loadConfig({ mode: 'proxy' }, {});
    await expect(startProxy(config, life)).rejects.toMatchObject({ code: 'config', exit: 78 });
  });
});

test('stale shares that go upstream count for the difficulty, as in CKProxy, and are no run of refusals', async () => {
  const top = await pool({ minDiff: 1e-9, startDiff: 4e-9, maxDiff: 4e-9 });
  const below = await proxy('proxy', [top.port], { minDiff: 1e-9, startDiff: 1e-9 });
  const miner = await client(below.port);
  await miner.login('bob.rig1');
  expect(miner.difficulty).toBe(1e-9);
  const old = miner.job;
  top.source.take(template(top.profile, { height: 112, prevHash: someHash('next') }));
  await until('work on the next block', () => miner.job.params[1] !== old.params[1]);
  const lines: string[] = [];
  for (let i = 0; i < 200; i++) {
    const share = miner.mine(old, { atLeast: 4e-9, nonce2: i });
    const reply = await miner.submit('bob.rig1', share);
    lines.push(reply.error[1]);
    if (miner.difficulty > 1e-9) break;
  }
  expect(new Set(lines)).toEqual(new Set(['Stale']));
  expect(lines.length).toBeGreaterThanOrEqual(70);
  await until('a higher difficulty', () => miner.difficulty > 1e-9);
  await until('the shares upstream', () => top.daemon.counters.refused >= lines.length);
});
