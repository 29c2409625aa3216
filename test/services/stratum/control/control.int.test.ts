/** The control sockets of a real daemon: what commands do to miners, and what hostile input does not do. */
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { askControl, type ControlSocket, controlFrame } from '../../../../services/core/control.ts';
import { openControl } from '../../../../services/stratum/control/control.ts';
import { controlTarget } from '../../../../services/stratum/control/control-target.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { type Rig, startRig } from '../rig.ts';

let rig: Rig;
let dir: ReturnType<typeof tempDir>;
let close: () => Promise<void>;
const told: string[] = [];
let handover: Promise<string | null> = Promise.resolve(null);
const lines: string[] = [];
beforeEach(async () => {
  rig = await startRig();
  dir = tempDir('control');
  const { handover: _, ...target } = controlTarget({
    daemon: rig.daemon,
    currentJob: () => rig.source.jobs.current,
    updateWork: () => void told.push('update'),
    setLogLevel: () => {},
    statistics: null,
    upstreams: null,
  });
  ({ close } = await openControl({
    dir: dir.path,
    gid: null,
    process: { startedMs: Date.now(), shutdown: () => void told.push('shutdown'), restart: () => true },
    target: () => ({ ...target, handover: () => handover }),
    log: (line) => void lines.push(line),
  }));
});
afterEach(async () => {
  await close();
  await rig.close();
  dir.remove();
});

const ask = (text: string, socket: ControlSocket = 'listener'): Promise<string | null> =>
  askControl(join(dir.path, socket), text, { timeoutMs: 40_000 });

async function raw(socket: ControlSocket = 'listener'): Promise<Socket> {
  const line = connect(join(dir.path, socket));
  line.on('error', () => {});
  await once(line, 'connect');
  return line;
}

test('four sockets for user and group, and none after the end', async () => {
  const names = ['connector', 'generator', 'listener', 'stratifier'];
  expect(readdirSync(dir.path).sort()).toEqual(names);
  for (const name of names) expect(statSync(join(dir.path, name)).mode & 0o777).toBe(0o770);
  await close();
  expect(readdirSync(dir.path)).toEqual([]);
});

test('the lists show who mines', async () => {
  const miner = await rig.client();
  await miner.login('alice.w1');
  const { clients } = JSON.parse((await ask('clients'))!);
  expect(clients).toEqual([
    expect.objectContaining({
      worker: 'alice.w1',
      user: 'alice',
      useragent: 'test/1',
      enonce1: miner.enonce1,
      diff: 1e-6,
    }),
  ]);
  expect(JSON.parse((await ask(`getclient=${clients[0].id}`, 'stratifier'))!)).toMatchObject({ worker: 'alice.w1' });
  expect(JSON.parse((await ask('getbase', 'generator'))!)).toMatchObject({ jobid: miner.job.id, height: 111 });
});

test('reconnect tells every miner where to, and ends lines that stay', async () => {
  const miners = [await rig.client(), await rig.client()];
  for (const [i, miner] of miners.entries()) await miner.login(`w${i}`);
  expect(await ask('reconnect:pool.example,3335')).toBe('reconnecting');
  for (const miner of miners) {
    await until('it is told', () =>
      miner.lines.includes('{"id":null,"method":"client.reconnect","params":["pool.example","3335",0]}'),
    );
    await until('it is let go', () => miner.closed);
  }
});

test('one client is dropped, the others mine on; nobody else comes in while rejecting', async () => {
  const [first, second] = [await rig.client(), await rig.client()];
  await first.login('a.1');
  await second.login('b.1');
  const { clients } = JSON.parse((await ask('clients'))!) as { clients: { id: number; worker: string }[] };
  const id = clients.find(({ worker }) => worker === 'a.1')!.id;
  expect(await ask(`dropclient=${id}`, 'connector')).toBe('dropping');
  await until('it is closed', () => first.closed);
  expect(await ask(`testclient=${id}`, 'connector')).toBe(`no client ${id}`);

  expect(await ask('reject')).toBe('rejecting');
  const third = await rig.client();
  await until('it is closed at once', () => third.closed);
  expect((await second.submit('b.1', second.mine(second.job, { atLeast: 1e-6 }))).result).toBe(true);
  expect(await ask('accept')).toBe('accepting');
  await (await rig.client()).login('c.1');
});

test('update asks for a template, also from one that waits for no reply', async () => {
  told.length = 0;
  expect(await ask('update', 'stratifier')).toBe('updating');
  expect(await askControl(join(dir.path, 'stratifier'), 'update', { timeoutMs: 40_000, reply: false })).toBeNull();
  await until('both have come', () => told.length === 2);
});

test('a request in pieces is one request, and what follows it is nothing', async () => {
  const line = await raw();
  const frame = Buffer.concat([controlFrame('ping'), controlFrame('shutdown')]);
  let got = Buffer.alloc(0);
  line.on('data', (piece) => {
    got = Buffer.concat([got, piece]);
  });
  told.length = 0;
  const closed = once(line, 'close');
  for (const byte of frame) {
    line.write(Uint8Array.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await closed;
  expect(got).toEqual(controlFrame('pong'));
  expect(told).toEqual([]);
});

test('lengths up to 4 GB are cut off at their head, without memory for them', async () => {
  const before = process.memoryUsage().external;
  for (const length of [65_537, 2 ** 31, 2 ** 32 - 1]) {
    const line = await raw();
    const head = Buffer.alloc(4);
    head.writeUInt32LE(length);
    line.write(head);
    await once(line, 'close');
  }
  expect(process.memoryUsage().external - before).toBeLessThan(8 << 20);
  expect(await ask('ping')).toBe('pong');
});

test('silent and half-told connections keep nobody out, and shares are judged meanwhile', async () => {
  const miner = await rig.client();
  await miner.login('alice.w1');
  const silent = await Promise.all(Array.from({ length: 200 }, () => raw()));
  for (const line of silent) line.write(Uint8Array.of(9, 0));
  expect(await ask('ping')).toBe('pong');
  expect((await miner.submit('alice.w1', miner.mine(miner.job, { atLeast: 1e-6 }))).result).toBe(true);
  await until(
    'the oldest are closed',
    () => silent.filter((line) => line.destroyed || line.readableEnded).length >= 100,
  );
  for (const line of silent) line.destroy();
});

test('a flood of requests is answered in its turn, and miners between', async () => {
  const miner = await rig.client();
  await miner.login('alice.w1');
  let answered = 0;
  let stop = false;
  const floods = Array.from({ length: 8 }, async () => {
    while (!stop) if ((await ask('clients').catch(() => null)) !== null) answered += 1;
  });
  await until('the flood runs', () => answered > 50);
  for (let i = 0; i < 3; i++) {
    const before = answered;
    const share = miner.mine(miner.job, { atLeast: 1e-6, nonce2: i + 1 });
    expect((await miner.submit('alice.w1', share)).result).toBe(true);
    // Those that were under way, and not the flood.
    expect(answered - before).toBeLessThan(200);
  }
  stop = true;
  await Promise.all(floods);
});

test('a hand-over that takes its time holds up no other command', async () => {
  let done!: (why: string | null) => void;
  handover = new Promise((resolve) => {
    done = resolve;
  });
  const answer = ask('handover');
  expect(await ask('ping')).toBe('pong');
  expect(await ask('ping', 'connector')).toBe('pong');
  done(null);
  expect(await answer).toBe('handed over');
});

test('text that is no UTF-8, or nothing at all, is unknown', async () => {
  for (const body of [Buffer.alloc(0), Buffer.from([0xff, 0xfe, 0x00]), Buffer.alloc(65_536, 0x80)]) {
    const line = await raw();
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    line.write(Buffer.concat([head, body]));
    const chunks: Buffer[] = [];
    line.on('data', (chunk) => void chunks.push(chunk));
    await once(line, 'close');
    expect(Buffer.concat(chunks).toString('utf8', 4)).toBe('unknown');
  }
});
