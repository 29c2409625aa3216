/** What strangers can make a daemon write and keep without a share: events, log lines, names, places of sessions. Counts, not times. */
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import type { Connection } from '../../../services/stratum/edge/line.ts';
import type { Session } from '../../../services/stratum/session.ts';
import { until } from '../../helpers/leash.ts';
import { BITS_EASY, type Rig, startRig, template } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

/** A line without a socket: thousands of them take a second. */
function line(address: string, id: number): { readonly session: Session; readonly read: string[] } {
  const read: string[] = [];
  const connection: Connection = {
    id,
    address,
    listener: '0.0.0.0:3333',
    listenerIndex: 0,
    closed: false,
    write: (text) => void read.push(String(text)),
    close: () => {},
    pause: () => {},
    resume: () => {},
  };
  return { session: rig.daemon.connect(connection), read };
}

function says(session: Session, method: string, params: unknown[]): void {
  session.line(JSON.stringify({ id: 1, method, params }));
}

const events = (kind?: string) =>
  rig.journal.of('session').filter((event) => kind === undefined || event.kind === kind).length;

test('lines that come and go, fail to authorize or send refused shares write so many entries for their address, and the rest is counted', async () => {
  rig = await startRig({ allowances: { burst: 50, perS: 1 } });
  const before = events();
  for (let i = 0; i < 200; i++) {
    const { session } = line('203.0.113.9', i);
    says(session, 'mining.authorize', ['mallory', 'x']);
    says(session, 'mining.subscribe', ['agent']);
    says(session, 'mining.authorize', [`mallory${i}`, 'x']);
    says(session, 'mining.submit', [`mallory${i}`, 'ffff', '0000000000000000', '6a000000', '00000000']);
    rig.daemon.facts.flush();
    rig.daemon.forget(session, 'gone');
  }
  rig.daemon.facts.flush();
  const written = events() - before + rig.journal.of('share').length + rig.lines.length;
  expect(written).toBeLessThanOrEqual(60);
  expect(written).toBeGreaterThan(40);

  // Another address is told of in full.
  const other = line('203.0.113.10', 1_000).session;
  says(other, 'mining.subscribe', ['agent']);
  says(other, 'mining.authorize', ['alice', 'x']);
  rig.daemon.facts.flush();
  expect(rig.journal.of('session').filter(({ address }) => address === '203.0.113.10')).toHaveLength(2);

  rig.daemon.sweep();
  rig.daemon.facts.flush();
  expect(events('untold')).toBe(1);
  expect(rig.lines.at(-1)).toMatch(/^\d{3,4} events and log lines of 203\.0\.113\.9 were not written/);
});

test('who is refused has its refusals as events again with each accepted share', async () => {
  rig = await startRig({ allowances: { burst: 8, perS: 0 } });
  const client = await rig.client();
  await client.login('alice.w1');
  for (let i = 0; i < 12; i++) {
    const share = client.mine(client.job, { atLeast: 1e-6, nonce2: i });
    expect((await client.submit('alice.w1', share)).result).toBe(true);
    expect((await client.submit('alice.w1', share)).error[0]).toBe(22);
    rig.tick(1_000);
  }
  expect(rig.journal.of('share').filter(({ accepted }) => !accepted)).toHaveLength(12);
});

test('further names on lines are limited for all lines of an address and for all addresses, and are free again when lines end', async () => {
  rig = await startRig({ allowances: { namesPerAddress: 30, namesTotal: 50 } });
  const names = (address: string, id: number): { session: Session; let: number } => {
    const { session, read } = line(address, id);
    says(session, 'mining.subscribe', ['agent']);
    for (let i = 0; i < 100; i++) says(session, 'mining.authorize', [`${id}x${i}`, 'x']);
    rig.daemon.facts.flush();
    return { session, let: read.join('').split('"result":true').length - 1 };
  };
  const first = names('203.0.113.9', 1);
  expect(first.let).toBe(31);
  expect(names('203.0.113.9', 2).let).toBe(1);
  expect(names('203.0.113.10', 3).let).toBe(21);
  rig.daemon.forget(first.session, 'gone');
  expect(names('203.0.113.11', 4).let).toBe(31);
});

test('11,000 lines that authorize other names and leave take no session, extranonce1 or memory from who has mined', async () => {
  rig = await startRig();
  const client = await rig.client();
  await client.login('alice.w1');
  expect((await client.submit('alice.w1', client.mine(client.job, { atLeast: 1e-6 }))).result).toBe(true);
  const { sessionId, enonce1 } = client;
  client.destroy();
  await until('the line is gone', () => rig.daemon.sessions.size === 0);
  rig.daemon.takeChanges();
  const addresses = 100;
  for (let i = 0; i < 11_000; i++) {
    const { session } = line(`203.0.113.${i % addresses}`, i);
    says(session, 'mining.subscribe', [`agent ${i}`]);
    says(session, 'mining.authorize', [`mallory${i}.w`, 'x']);
    if (i % 500 === 0) rig.daemon.facts.flush();
    rig.daemon.forget(session, 'gone');
  }
  rig.daemon.facts.flush();
  const { enonces } = rig.source;
  expect(rig.daemon.resumption.size).toBeLessThanOrEqual(10_000);
  expect(enonces.capacity - enonces.room(Date.now())).toBeLessThanOrEqual(10_000);
  expect(rig.daemon.takeChanges().workers).toHaveLength(0);
  expect(rig.daemon.allowances.known).toBeLessThanOrEqual(addresses + 1);
  expect(rig.daemon.lowShares.size).toBeLessThanOrEqual(1);
  const again = await rig.client();
  await again.subscribe('test/1', sessionId);
  expect(again.enonce1).toBe(enonce1);
});

test('names that a terminal or a reader is deceived by are refused, agents lose it, and no name ends in half a character', async () => {
  rig = await startRig();
  const { session, read } = line('203.0.113.9', 1);
  const half = `${'a'.repeat(127)}\u{1f600}`;
  says(session, 'mining.subscribe', [`\u001b[2J\u009b31m\u202eeve\n${half}`]);
  expect(session.agent).toMatch(/^ \[2J 31m eve a+$/);
  for (const bad of ['a\u009b31m', 'a\u202eb', 'a\u2028b', 'a\u0000', 'a\nb', '../x', 'a/b', '\ud800']) {
    read.length = 0;
    says(session, 'mining.authorize', [bad, 'x']);
    rig.daemon.facts.flush();
    expect(read.join(''), JSON.stringify(bad)).toContain('"result":false');
  }
  says(session, 'mining.authorize', [`${'a'.repeat(126)}\u{1f600}b.w`, 'x']);
  expect([...session.workers.values()][0]!.user).toBe('a'.repeat(126));
});

test('a solution that is sent again, also one that came too late, costs no second look', async () => {
  rig = await startRig({ bits: BITS_EASY });
  const client = await rig.client();
  await client.login('alice.w1');
  const share = client.mine(client.job, { solves: targetFromBits(BITS_EASY) });
  rig.source.take(template(rig.profile, { bits: BITS_EASY, height: 112, prevHash: '11'.repeat(32) }));
  let looks = 0;
  const { judged } = rig.source;
  rig.source.judged = (each) => {
    looks += 1;
    judged.call(rig.source, each);
  };
  for (let i = 0; i < 5; i++) expect((await client.submit('alice.w1', share)).error[0]).toBe(21);
  expect(looks).toBe(1);
  expect(rig.submitted).toHaveLength(1);
});

test('lists of transaction ids, 260 kB each on a busy chain, go out ten a second to all lines together', async () => {
  rig = await startRig();
  const { id } = rig.source.jobs.current!;
  let listed = 0;
  for (let i = 0; i < 50; i++) {
    const { session, read } = line('203.0.113.9', i);
    says(session, 'mining.subscribe', ['agent']);
    says(session, 'mining.get_txnhashes', [id]);
    rig.daemon.facts.flush();
    if (!read.join('').includes('Ratelimit')) listed += 1;
  }
  // They take less than a second; where the machine is slow two have begun.
  expect(listed).toBeGreaterThanOrEqual(10);
  expect(listed).toBeLessThanOrEqual(20);
});

test('where no place is free, lines without a share end, of the address that has most of them; who mines or is new stays', async () => {
  rig = await startRig();
  const miner = await rig.client();
  await miner.login('alice.w1');
  expect((await miner.submit('alice.w1', miner.mine(miner.job, { atLeast: 1e-6 }))).result).toBe(true);
  const idle = (address: string, count: number): Session[] =>
    Array.from({ length: count }, (_, i) => {
      const { session } = line(address, i);
      says(session, 'mining.subscribe', ['agent']);
      says(session, 'mining.authorize', ['mallory', 'x']);
      return session;
    });
  const ended: Session[] = [];
  const old = [...idle('203.0.113.9', 20), ...idle('203.0.113.10', 3)];
  rig.tick(200_000);
  const young = idle('203.0.113.11', 30);
  for (const session of [...old, ...young]) Object.assign(session.connection, { close: () => ended.push(session) });
  rig.daemon.pickSource = () => null;
  const late = line('203.0.113.12', 1);
  says(late.session, 'mining.subscribe', ['agent']);
  rig.daemon.facts.flush();
  expect(late.read.join('')).toContain('[20,"full",null]');
  expect(ended.map(({ connection }) => connection.address)).toEqual(Array.from({ length: 20 }, () => '203.0.113.9'));
  expect(miner.closed).toBe(false);
});
