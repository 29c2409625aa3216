/** Whole sessions over real sockets: what a miner sends and what it reads, and what is in the journal by then. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseBlock } from '../../../services/core/bitcoin/block.ts';
import { bytesFromHex } from '../../../services/core/bitcoin/bytes.ts';
import { blockHash, hashHex } from '../../../services/core/bitcoin/header.ts';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { startServer } from '../../../services/stratum/edge/server.ts';
import { until } from '../../helpers/leash.ts';
import { BITS_EASY, type Rig, someHash, startRig, template } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

const shares = () => rig.journal.of('share');

describe('the first minute of a miner', () => {
  test('subscribe is answered with extranonce1 and size, then at once difficulty and a clean job', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.subscribe('cpuminer/2.5.1');
    await until('a job', () => client.jobs.length === 1);
    expect(client.lines[0]).toMatch(
      /^\{"result":\[\[\["mining.notify","[0-9a-f]{8}"\]\],"[0-9a-f]{8}",8\],"id":100,"error":null\}$/,
    );
    expect(client.lines[1]).toBe('{"params":[0.000001],"id":null,"method":"mining.set_difficulty"}');
    expect(client.job.clean).toBe(true);
    expect(client.job.id).toMatch(/^[0-9a-f]{16}$/);
    expect(rig.journal.of('job').map((job) => job.job_id)).toEqual([client.job.id]);
    expect(rig.journal.of('session').map((event) => event.kind)).toEqual(['started', 'subscribed']);
  });

  test('a share is in the journal when the miner reads true, and its header can be rebuilt from the two events', async () => {
    rig = await startRig({ config: { logShares: true } });
    const client = await rig.client();
    await client.login('alice.w1');
    const share = client.mine(client.job, { atLeast: 1e-6 });
    const reply = await client.submit('alice.w1', share);
    expect(reply).toEqual({ result: true, error: null, id: expect.any(Number) });
    const [event] = shares();
    expect(event).toMatchObject({
      accepted: true,
      errn: 0,
      user: 'alice',
      worker: 'alice.w1',
      diff: 1e-6,
      sdiff: share.reached,
    });
    const job = rig.journal.of('job').find((each) => each.job_key === event!.job_key)!;
    expect(job.job_id).toBe(event!.job_id);
    const file = join(rig.dir, 'logs', '0000006f', `${job.job_id}.sharelog`);
    expect(readFileSync(file, 'utf8')).toContain(`"hash": "${event!.hash}", "result": true, "errn": 0`);
    expect(readFileSync(join(rig.dir, 'logs/.lodestream-origin'), 'utf8')).toBe('ckpool\n');
  });

  test('configure answers only what was asked, and the mask is ours and the client’s', async () => {
    rig = await startRig();
    const client = await rig.client();
    const both = await client.call('mining.configure', [
      ['version-rolling', 'minimum-difficulty', 'info', 'nosuch'],
      { 'version-rolling.mask': '0000ffff', 'minimum-difficulty.value': 1e-5 },
    ]);
    expect(both.result).toEqual({
      'version-rolling': true,
      'version-rolling.mask': '0000e000',
      'minimum-difficulty': true,
      info: true,
      nosuch: false,
    });
    expect((await client.call('mining.configure', [['subscribe-extranonce'], {}])).result).toEqual({
      'subscribe-extranonce': true,
    });
    await client.login();

    const rolled = client.mine(client.job, { atLeast: 1e-5, versionBits: 0x2000, mask: 0xe000 });
    expect((await client.submit('alice.w1', rolled, '00002000')).result).toBe(true);
    expect((await client.submit('alice.w1', rolled, '00010000')).error).toEqual([20, 'Invalid version mask', null]);
    expect(shares()[0]!.version_bits).toBe('00002000');
  });

  test('wishes may come in any order and by any road; the password too', async () => {
    rig = await startRig();
    const client = await rig.client();
    expect((await client.call('mining.suggest_difficulty', [0.002])).result).toBe(true);
    await client.subscribe();
    await until('a difficulty', () => client.difficulties.length === 1);
    expect(client.difficulty).toBe(0.002);
    await client.call('mining.authorize', ['alice.w1', 'x,d=0.0005']);
    await until('a lower one with new work', () => client.difficulty === 0.0005 && client.jobs.length === 2);
    expect(client.job.clean).toBe(true);
    const target = `00000000ffff${'0'.repeat(52)}`;
    expect((await client.call('mining.suggest_target', [target])).result).toBe(true);
    await until('the difficulty of the target', () => client.difficulty === 1);
    for (const nonsense of ['5', -1, null, 0]) {
      expect((await client.call('mining.suggest_difficulty', [nonsense])).error[1]).toBe('Invalid difficulty');
    }
  });

  test('every request with an id has one reply, a notification has none', async () => {
    rig = await startRig();
    const client = await rig.client();
    expect((await client.call('mining.submit', ['a', 'b', '00', '00', '00000000'])).error[0]).toBe(25);
    expect((await client.call('mining.authorize', ['alice', 'x'])).error[0]).toBe(25);
    await client.login('alice');
    expect((await client.call('mining.authorize', ['bob', 'x'])).result).toBe(true);
    expect((await client.call('mining.extranonce.subscribe')).result).toBe(true);
    expect((await client.call('mining.ping')).result).toBe('pong');
    expect((await client.call('mining.nosuch')).error).toEqual([20, 'Not supported.', null]);
    expect((await client.call('mining.passthrough', ['x'])).error).toEqual([20, 'Not supported.', null]);
    expect((await client.call('mining.get_transactions', [client.job.id])).result).toBe(0);
    expect((await client.call('mining.subscribe', [])).result[1]).toBe(client.enonce1);
    const before = client.messages.length;
    client.write(
      '{"method":"mining.suggest_difficulty","params":[0.000001]}\n{"method":"mining.nosuch","params":[]}\n',
    );
    await client.call('mining.ping');
    expect(client.messages.length).toBe(before + 1);
    // Both names are this line's workers.
    const one = client.mine(client.job, { atLeast: 1e-6 });
    const two = client.mine(client.job, { atLeast: 1e-6, nonce2: 1 });
    expect((await client.submit('bob', one)).result).toBe(true);
    expect((await client.submit('carol', two)).error).toEqual([20, 'Worker mismatch', null]);
    expect((await client.submit('alice.rig9', two)).result).toBe(true);
    expect(shares().map((share) => share.worker)).toEqual(['bob', 'alice']);
  });

  test('a session is resumed by its random id, once it has ended and by its user only', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    const { sessionId, enonce1 } = client;
    const thief = await rig.client();
    await thief.subscribe('x', sessionId);
    expect(thief.enonce1).not.toBe(enonce1);
    client.destroy();
    await until('the line is gone', () => rig.daemon.sessions.size === 1);
    const back = await rig.client();
    await back.subscribe('x', sessionId);
    expect(back.enonce1).toBe(enonce1);
    expect(back.sessionId).not.toBe(sessionId);
    expect((await back.call('mining.authorize', ['bob', 'x'])).error[0]).toBe(24);
    await until('the line is closed', () => back.closed);
  });
});

describe('refusals', () => {
  test('unknown, stale, out of time, low and repeated shares have their codes and are in the journal', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    const { job } = client;
    const good = client.mine(job, { atLeast: 1e-6 });
    const low = client.mine(job, { below: 1e-7, nonce2: 5 });
    const outcomes = [
      await client.submit('alice.w1', { ...good, jobId: '7fffffffffffff' }),
      await client.submit('alice.w1', { ...good, ntime: (job.ntime - 1).toString(16) }),
      await client.submit('alice.w1', { ...good, ntime: (job.ntime + 7001).toString(16) }),
      await client.submit('alice.w1', low),
      await client.submit('alice.w1', good),
      await client.submit('alice.w1', good),
    ];
    rig.source.take(template(rig.profile, { prevHash: someHash('next'), height: 112 }));
    outcomes.push(await client.submit('alice.w1', { ...good, nonce: '00000001' }));
    expect(outcomes.map((reply) => reply.error)).toEqual([
      [21, 'Invalid JobID', null],
      [20, 'Ntime out of range', null],
      [20, 'Ntime out of range', null],
      [23, 'Above target', null],
      null,
      [22, 'Duplicate', null],
      [21, 'Stale', null],
    ]);
    expect(shares().map((share) => share.errn)).toEqual([1, 3, 3, 5, 0, 4, 2]);
    expect(shares()[0]).toMatchObject({ sdiff: -1, hash: '', job_key: '', height: 0 });
    const times = shares().map((share) => share.time_us);
    expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
  });

  test('under compat ckpool they are CKPool’s, and what it leaves unanswered is', async () => {
    rig = await startRig({ config: { compat: 'ckpool' } });
    const client = await rig.client();
    await client.login('alice.w1', 'd=5');
    expect(client.difficulties).toEqual([1e-6]);
    const good = client.mine(client.job, { atLeast: 1e-6 });
    const params = ['alice.w1', 'ff', good.nonce2, good.ntime, good.nonce];
    client.write(`${JSON.stringify({ id: 13, method: 'mining.submit', params })}\n`);
    await client.reply(13);
    expect(client.lines.at(-1)).toBe('{"reject-reason":"Invalid JobID","result":false,"error":null,"id":13}');
    expect((await client.submit('alice.other', good)).error).toBe('Worker mismatch');
    const before = client.messages.length;
    client.write(
      '{"id":1,"method":"mining.authorize","params":["bob"]}\n{"id":2,"method":"mining.ping","params":[]}\n',
    );
    await client.submit('alice.w1', good);
    expect(client.messages.length).toBe(before + 1);
  });

  test('beyond ten a second they become one event', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    const line = (id: number): string =>
      `${JSON.stringify({ id, method: 'mining.submit', params: ['alice.w1', 'ff', '00', '00', '00000000'] })}\n`;
    client.write(Array.from({ length: 200 }, (_, i) => line(1_000 + i)).join(''));
    await client.reply(1_199);
    rig.daemon.sweep();
    await until('the summary', () => rig.journal.of('session').some((event) => event.kind === 'refused'));
    expect(shares().length).toBeLessThanOrEqual(30);
    expect(rig.daemon.counters.refused).toBe(200);
  });

  test('a full disk refuses shares with a reason; jobs and blocks go on, and nothing refused counts', async () => {
    rig = await startRig({ bits: BITS_EASY });
    const client = await rig.client();
    await client.login('alice.w1');
    rig.journal.full = true;
    const share = client.mine(client.job, { solves: targetFromBits(BITS_EASY) });
    const refused = await client.submit('alice.w1', share);
    expect(refused).toMatchObject({ result: false, error: [20, 'The pool cannot store shares now', null] });
    expect(rig.submitted).toHaveLength(1);
    expect(rig.daemon.facts.problems[0]).toMatch(/ENOSPC/);
    rig.source.take(template(rig.profile, { prevHash: someHash('b'), bits: BITS_EASY }));
    await until('a new job all the same', () => client.jobs.length === 2);
    rig.journal.full = false;
    const next = await client.submit('alice.w1', client.mine(client.job, { solves: targetFromBits(BITS_EASY) }));
    expect(next.result).toBe(true);
    expect(rig.daemon.facts.problems).toEqual([]);
    expect(shares()).toHaveLength(1);
    expect(rig.journal.of('job')).toHaveLength(2);
    expect(rig.journal.of('block').length).toBeGreaterThanOrEqual(2);
  });
});

describe('blocks', () => {
  test('a share that solves reaches the node before the journal, as a whole block, also when stale or repeated', async () => {
    rig = await startRig({ bits: BITS_EASY });
    const client = await rig.client();
    await client.login('alice.w1');
    const first = client.job;
    const share = client.mine(first, { solves: targetFromBits(BITS_EASY) });
    let journaledBefore = -1;
    rig.nodeAnswers = () => {
      journaledBefore = shares().length;
      return [{ node: 'n1', answer: 'accepted', accepted: true }];
    };
    expect((await client.submit('alice.w1', share)).result).toBe(true);
    expect(journaledBefore).toBe(0);
    const block = parseBlock(bytesFromHex(rig.submitted[0]!));
    expect(hashHex(blockHash(block.headerBytes))).toBe(shares()[0]!.hash);
    expect(block.coinbase.inputs[0]!.witness).toHaveLength(1);
    await until('the second copy of the event', () => rig.journal.of('block').length === 2);
    expect(rig.journal.of('block').map((event) => event.answers!.map((each) => each.answer))).toEqual([
      [],
      ['accepted'],
    ]);
    expect(readdirSync(join(rig.dir, 'blocks'))).toEqual([]);

    await client.submit('alice.w1', share);
    expect(rig.submitted).toHaveLength(1);
    rig.source.take(template(rig.profile, { prevHash: someHash('b'), bits: BITS_EASY }));
    const late = client.mine(first, { solves: targetFromBits(BITS_EASY), from: Number.parseInt(share.nonce, 16) + 1 });
    expect((await client.submit('alice.w1', late)).error).toEqual([21, 'Stale', null]);
    expect(rig.submitted).toHaveLength(2);
  });

  test('one that no node has judged stays on disk and is sent again until one has', async () => {
    rig = await startRig({ bits: BITS_EASY });
    rig.nodeAnswers = () => [{ node: 'n1', answer: 'nobody listens there', accepted: false, error: new Error('down') }];
    const client = await rig.client();
    await client.login('alice.w1');
    await client.submit('alice.w1', client.mine(client.job, { solves: targetFromBits(BITS_EASY) }));
    await until('a third try', () => rig.submitted.length >= 3);
    const [name] = readdirSync(join(rig.dir, 'blocks'));
    const kept = JSON.parse(readFileSync(join(rig.dir, 'blocks', name!), 'utf8'));
    expect(kept.hex).toBe(rig.submitted[0]);
    rig.nodeAnswers = () => [{ node: 'n1', answer: 'duplicate', accepted: true }];
    await until('its file is gone', () => !existsSync(join(rig.dir, 'blocks', name!)));
  });
});

describe('difficulty', () => {
  test('is never above the network’s, follows it, and is a decimal where the network’s is below 1', async () => {
    rig = await startRig({ config: { minDiff: 1, startDiff: 42 }, bits: BITS_EASY });
    const client = await rig.client();
    await client.login('alice.w1', 'd=1000000');
    expect(client.lines.find((line) => line.includes('set_difficulty'))).toContain('[0.0000000004656542373906924]');
    // The highest double that is not above it.
    expect(rig.journal.of('job')[0]!.network_diff).toBeCloseTo(client.difficulty, 24);
    rig.source.take(template(rig.profile, { prevHash: someHash('b'), bits: 0x1c3fffc0 }));
    await until('the next job', () => client.jobs.length === 2);
    expect(client.difficulty).toBe(4);
    rig.source.take(template(rig.profile, { prevHash: someHash('c'), bits: 0x1b00ffff }));
    await until('the third job', () => client.jobs.length === 3);
    expect(client.difficulty).toBe(65_536);
  });

  test('a miner at a difficulty far too high is quartered each minute, with new work', async () => {
    rig = await startRig({ config: { startDiff: 1 } });
    const client = await rig.client();
    await client.login('alice.w1');
    for (const expected of [0.25, 0.0625, 0.0156]) {
      const jobs = client.jobs.length;
      rig.tick(60_000);
      rig.daemon.sweep();
      await until('less, with a new job', () => client.difficulty === expected && client.jobs.length === jobs + 1);
      expect(client.job.clean).toBe(true);
    }
    // New work is other work: the same search does not find the same share again.
    const found = client.jobs.map((job) => client.mine(job, { atLeast: 1e-5 }).nonce);
    expect(new Set(found).size).toBe(found.length);
    expect(new Set(rig.journal.of('job').map((job) => job.job_key)).size).toBe(client.jobs.length);
  });

  test('after a fall shares on the old job count at the value met, but not without end', async () => {
    rig = await startRig({ config: { startDiff: 1e-4 } });
    const client = await rig.client();
    await client.login('alice.w1');
    const old = client.job;
    await client.call('mining.suggest_difficulty', [1e-6]);
    await until('new work', () => client.jobs.length === 2);
    const high = client.mine(old, { atLeast: 1e-4 });
    expect((await client.submit('alice.w1', high)).result).toBe(true);
    let accepted = 0;
    for (let nonce2 = 1; nonce2 <= 40; nonce2++) {
      const reply = await client.submit('alice.w1', client.mine(old, { atLeast: 1e-6, below: 1e-4, nonce2 }));
      if (reply.result) accepted += 1;
      else expect(reply.error[1]).toBe('Above target');
    }
    expect(accepted).toBe(32);
    expect(
      shares()
        .filter((share) => share.accepted)
        .map((share) => share.diff),
    ).toEqual([1e-4, ...Array(32).fill(1e-6)]);
  });
});

test('under compat ckpool one value before is remembered: it judges all jobs until the second after the last change', async () => {
  rig = await startRig({ config: { compat: 'ckpool' } });
  const client = await rig.client();
  await client.login('alice.w1');
  const [session] = rig.daemon.sessions;
  const first = client.job;
  const next = async (): Promise<void> => {
    const { length } = client.jobs;
    rig.source.take(template(rig.profile));
    await until('a further job', () => client.jobs.length > length);
  };
  let nonce2 = 0;
  const outcome = async (job: typeof first, atLeast: number): Promise<unknown> => {
    const reply = await client.submit(
      'alice.w1',
      client.mine(job, { atLeast, below: atLeast * 1.9, nonce2: ++nonce2 }),
    );
    return reply.result ? shares().at(-1)!.diff : reply['reject-reason'];
  };
  session!.changeDifficulty(4e-6, 'test');
  expect(await outcome(first, 1e-6)).toBe(1e-6);
  await next();
  expect(await outcome(client.job, 1e-6)).toBe(1e-6);
  session!.changeDifficulty(8e-6, 'test');
  expect(await outcome(first, 1e-6)).toBe('Above target');
  expect(await outcome(first, 4e-6)).toBe(4e-6);
  await next();
  expect(await outcome(client.job, 4e-6)).toBe(4e-6);
  await next();
  expect(await outcome(client.job, 4e-6)).toBe('Above target');
  expect(await outcome(client.job, 8e-6)).toBe(8e-6);
  // A fall is no other: an honest share at the new value is refused until then.
  session!.changeDifficulty(1e-6, 'test');
  expect(await outcome(client.job, 1e-6)).toBe('Above target');
  expect(client.jobs).toHaveLength(4);
});

describe('lines', () => {
  test('are read split at any byte, pipelined, with \\r\\n, spaces and empty lines', async () => {
    rig = await startRig();
    const client = await rig.client();
    const text =
      '\r\n{"id":1,"method":"mining.subscribe","params":["ä"]}\r\n\n  {"id":2,"method":"MINING.Authorize","params":["alice","x"]}  \n{"id":3,"method":"mining.ping","params":[]} junk\n';
    for (const byte of Buffer.from(text)) {
      client.socket.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await client.reply(3);
    expect(client.messages.filter((message) => message.method === undefined).map((message) => message.id)).toEqual([
      1, 2, 3,
    ]);
    expect([...rig.daemon.sessions][0]!.agent).toBe('ä');
  });

  test.each([
    ['not JSON', 'hello\n'],
    ['HTTP', 'GET / HTTP/1.1\r\n\r\n'],
    ['a line above 8 KiB', `${'x'.repeat(8_300)}\n`],
    ['9 KB without an end', 'x'.repeat(9_000)],
    ['a binary flood', Buffer.alloc(20_000, 0xff)],
  ])('%s closes that line alone', async (_name, bytes) => {
    rig = await startRig();
    const good = await rig.client();
    await good.login('alice.w1');
    const bad = await rig.client();
    bad.socket.write(bytes);
    await until('the line is closed', () => bad.closed);
    expect((await good.submit('alice.w1', good.mine(good.job, { atLeast: 1e-6 }))).result).toBe(true);
  });

  test('a line of 8 KiB is read, and a list is dropped without closing', async () => {
    rig = await startRig();
    const client = await rig.client();
    const line = JSON.stringify({ id: 1, method: 'mining.ping', params: ['x'.repeat(8_140)] });
    expect(line.length).toBeLessThan(8_192);
    client.write(`[1,2]\n${line}\n`);
    expect((await client.reply(1)).result).toBe('pong');
  });

  test('a client that never reads is not heard any more, and the others are served', async () => {
    rig = await startRig();
    const deaf = connect({ host: '127.0.0.1', port: rig.port });
    deaf.on('error', () => {});
    await new Promise((resolve) => deaf.once('connect', resolve));
    deaf.pause();
    const line = '{"id":"'.concat('y'.repeat(4_000), '","method":"mining.ping","params":[]}\n');
    const other = await rig.client();
    await until('it is not read from', async () => {
      // What the kernel takes of it stays the same once nobody reads.
      for (let i = 0; i < 200; i++) deaf.write(line);
      const before = deaf.bytesWritten - deaf.writableLength;
      for (let i = 0; i < 5; i++) expect((await other.call('mining.ping')).result).toBe('pong');
      return deaf.writableLength > 16 << 20 && deaf.bytesWritten - deaf.writableLength === before;
    });
    expect(rig.daemon.sessions.size).toBe(2);
    deaf.destroy();
  });

  test('a port in use is tried again and then is one error', async () => {
    rig = await startRig();
    const lines: string[] = [];
    const start = startServer({
      listen: [{ host: '127.0.0.1', port: rig.port }],
      lineLimitBytes: 8_192,
      maxClients: Infinity,
      log: (line) => void lines.push(line),
      signal: new AbortController().signal,
      onConnection: () => ({ line: () => {}, closed: () => {} }),
      bindRetryMs: 5,
      bindTries: 3,
    });
    await expect(start).rejects.toMatchObject({ code: 'port_in_use', exit: 69 });
    expect(lines).toHaveLength(1);
  });

  test('who does not authorize within a minute is closed', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.subscribe();
    rig.tick(61_000);
    rig.daemon.sweep();
    await until('closed', () => client.closed);
  });

  test('while the work cannot be renewed, miners are pinged once an update interval, and their answer is taken', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login();
    const unauthorized = await rig.client();
    await unauthorized.subscribe();
    const pings = (): number =>
      client.lines.filter((line) => line === '{"params":[],"id":42,"method":"mining.ping"}').length;
    rig.tick(31_000);
    rig.daemon.sweep();
    rig.daemon.pings = () => true;
    for (const _ of [1, 2]) {
      rig.tick(20_000);
      rig.daemon.sweep();
    }
    await until('the ping of 40 s', () => pings() === 1);
    client.write('{"id":42,"result":"pong","error":null}\n');
    expect((await client.submit('alice.w1', client.mine(client.job, { atLeast: 1e-6 }))).result).toBe(true);
    expect(pings()).toBe(1);
    expect(unauthorized.lines.join()).not.toContain('mining.ping');
  });

  test('without a template miners may connect, and the first job reaches them', async () => {
    rig = await startRig({ template: null });
    const client = await rig.client();
    await client.subscribe();
    expect((await client.call('mining.authorize', ['alice', 'x'])).result).toBe(true);
    expect(client.jobs).toHaveLength(0);
    rig.source.take(template(rig.profile));
    await until('a job', () => client.jobs.length === 1);
    expect(client.job.clean).toBe(true);
  });
});

describe('a client that wants to cost us something', () => {
  test('asking for a difficulty over and over makes no jobs and no events without end', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    const lines = Array.from(
      { length: 2_000 },
      (_, i) => `{"id":${10_000 + i},"method":"mining.suggest_difficulty","params":[${i % 2 === 0 ? 1e-4 : 1e-5}]}\n`,
    );
    client.write(lines.join(''));
    expect((await client.reply(11_999)).error).toEqual([20, 'Ratelimit', null]);
    expect(rig.journal.of('job').length).toBeLessThan(30);
    expect(rig.journal.of('session').length).toBeLessThan(30);
    // A rise on an old job brings new work too.
    rig.tick(15_000);
    client.write(
      Array.from(
        { length: 2_000 },
        (_, i) => `{"id":${20_000 + i},"method":"mining.authorize","params":["alice.w1","d=${(i + 1) / 1e4}"]}\n`,
      ).join(''),
    );
    await client.reply(21_999);
    expect(rig.journal.of('job').length).toBeLessThan(30);
    expect(rig.journal.of('session').length).toBeLessThan(40);
    // Later it may ask again.
    rig.tick(120_000);
    expect((await client.call('mining.suggest_difficulty', [0.5])).result).toBe(true);
    expect(client.difficulty).toBe(0.5);
  });

  test('a line that subscribed and never authorized leaves its extranonce1 to others', async () => {
    rig = await startRig({ config: { nonce1Bytes: 2 } });
    for (let i = 0; i < 20; i++) {
      const probe = await rig.client();
      await probe.subscribe();
      probe.destroy();
    }
    await until('they are gone', () => rig.daemon.sessions.size === 0);
    expect(rig.source.enonces.room(rig.daemon.nowMs())).toBe(65_536);
  });
});

describe('honest miners in their own ways', () => {
  test('a nonce without its leading zeros is that nonce, and version bits of odd length are those bits', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    let from = 0;
    let short = client.mine(client.job, { atLeast: 1e-6 });
    while (!short.nonce.startsWith('0')) {
      from += 1;
      short = client.mine(client.job, { atLeast: 1e-6, nonce2: from });
    }
    expect((await client.submit('alice.w1', { ...short, nonce: short.nonce.replace(/^0+/, '') })).result).toBe(true);
    expect(shares()[0]!.nonce).toBe(short.nonce);
    const rolled = client.mine(client.job, { atLeast: 1e-6, versionBits: 0x0200_0000 });
    expect((await client.submit('alice.w1', rolled, '2000000')).result).toBe(true);
    expect(shares()[1]!.version_bits).toBe('02000000');
  });

  test('who resumes a session and counts extranonce2 from 0 again is given work of its own, so that nothing is a duplicate', async () => {
    rig = await startRig();
    const client = await rig.client();
    await client.login('alice.w1');
    const { sessionId, enonce1 } = client;
    expect((await client.submit('alice.w1', client.mine(client.job, { atLeast: 1e-6 }))).result).toBe(true);
    client.destroy();
    await until('the line is gone', () => rig.daemon.sessions.size === 0);
    const back = await rig.client();
    await back.subscribe('x', sessionId);
    expect(back.enonce1).toBe(enonce1);
    await back.call('mining.authorize', ['alice.w1', 'x']);
    await until('a job', () => back.jobs.length > 0);
    expect((await back.submit('alice.w1', back.mine(back.job, { atLeast: 1e-6 }))).result).toBe(true);
  });

  test('an id that is a fraction, a text, negative, true or null comes back as it was sent', async () => {
    rig = await startRig();
    const client = await rig.client();
    for (const id of ['1.5', '-3', '4294967296', '"x"', 'null', 'true']) {
      const before = client.lines.length;
      client.write(`{"id":${id},"method":"mining.ping","params":[]}\n`);
      await until('the answer', () => client.lines.length > before);
      expect(client.lines.at(-1)).toBe(`{"result":"pong","error":null,"id":${id}}`);
    }
  });

  test('who ends its half of the line after the last word reads the answers', async () => {
    rig = await startRig();
    const client = await rig.client();
    client.socket.end('{"id":1,"method":"mining.ping","params":[]}\n');
    expect((await client.reply(1)).result).toBe('pong');
    await until('the line is closed', () => client.closed);
  });
});

test('a clock that is set by more than a second is a fact, once', async () => {
  rig = await startRig();
  const real = Date.now;
  const now = vi.spyOn(Date, 'now').mockImplementation(() => real.call(Date) - 7_200_000);
  try {
    rig.daemon.facts.timeUs();
    rig.daemon.facts.timeUs();
    rig.daemon.facts.flush();
  } finally {
    now.mockRestore();
  }
  const steps = rig.journal.of('session').filter(({ kind }) => kind === 'clock_step');
  expect(steps).toHaveLength(1);
  expect(Number.parseInt(steps[0]!.reason!, 10)).toBeCloseTo(-7_200_000, -4);
});
