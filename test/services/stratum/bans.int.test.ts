import { afterEach, expect, test } from 'vitest';
import { until } from '../../helpers/leash.ts';
import { type Client, type Rig, startRig } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

const minute = 60_000;

async function refusedShare(client: Client, worker: string): Promise<void> {
  const reply = await client.call('mining.submit', [worker, 'no such job', '0000000000000000', '6a0b1c2d', '00000001']);
  expect(reply.error[0]).toBe(21);
}

/** A line that sends nothing but refused shares until it is closed for it. */
async function badLine(worker = 'alice.w1'): Promise<void> {
  const client = await rig.client();
  await client.login(worker);
  const jobs = client.jobs.length;
  await refusedShare(client, worker);
  rig.tick(minute);
  await refusedShare(client, worker);
  await until('new work', () => client.jobs.length > jobs);
  expect(client.job.clean).toBe(true);
  rig.tick(minute);
  // Several in one packet count once.
  const line = JSON.stringify({
    id: 1,
    method: 'mining.submit',
    params: [worker, 'x', '0000000000000000', '6a0b1c2d', '00000001'],
  });
  client.write(`${line}\n${line}\n${line}\n`);
  await until('the line is closed', () => client.closed);
}

test('three lines of nothing but refused shares ban address and user for ten minutes, which is told at authorize', async () => {
  rig = await startRig();
  await badLine();
  await badLine();
  expect(rig.daemon.values(null)).toMatchObject({ bans_active: 0, bans_count: 0 });
  await badLine();
  expect(rig.daemon.values(null)).toMatchObject({ bans_active: 1, bans_count: 1 });
  expect(rig.lines.filter((line) => line.includes('banned'))).toHaveLength(1);

  const banned = await rig.client();
  await banned.subscribe();
  const reply = await banned.call('mining.authorize', ['alice.other', 'x']);
  expect(reply).toMatchObject({
    result: false,
    error: [24, expect.stringMatching(/^Banned for 10 more minutes: /), null],
  });
  await until('the line is closed', () => banned.closed);

  const bob = await rig.client();
  await bob.login('bob.w1');
  rig.tick(10 * minute);
  const again = await rig.client();
  await again.login('alice.w1');
  expect(again.closed).toBe(false);
});

test('one bad machine in a farm bans nobody: shares of the same address and user are accepted on another line', async () => {
  rig = await startRig();
  const honest = await rig.client();
  await honest.login('alice.good');
  for (let i = 0; i < 4; i++) {
    expect(
      (await honest.submit('alice.good', honest.mine(honest.job, { atLeast: honest.difficulty, from: i * 100_000 })))
        .result,
    ).toBe(true);
    await badLine('alice.bad');
  }
  const next = await rig.client();
  await next.login('alice.next');
  expect(rig.daemon.values(null)).toMatchObject({ bans_count: 0 });
});

test('probes that subscribe and leave, and lines that never authorize, are no reason for a ban', async () => {
  rig = await startRig();
  for (let i = 0; i < 10; i++) {
    const probe = await rig.client();
    await probe.subscribe();
    probe.destroy();
  }
  await until('they are gone', () => rig.daemon.sessions.size === 0);
  const client = await rig.client();
  await client.login('alice.w1');
  expect(rig.daemon.values(null)).toMatchObject({ bans_active: 0 });
});

test('a browser on the port is told where it is, in its own language; under ckpool it gets what CKPool sends', async () => {
  rig = await startRig();
  const browser = await rig.client();
  browser.write('GET / HTTP/1.1\r\nHost: pool.example\r\n\r\n');
  await until('closed', () => browser.closed);
  expect(browser.lines[0]).toBe('HTTP/1.1 400 Bad Request\r');
  expect(browser.lines.at(-1)).toContain('stratum+tcp://');
  await rig.close();

  rig = await startRig({ config: { compat: 'ckpool' } });
  const other = await rig.client();
  other.write('GET / HTTP/1.1\r\n\r\n');
  await until('closed', () => other.closed);
  expect(other.lines.join('')).not.toContain('HTTP');
});
