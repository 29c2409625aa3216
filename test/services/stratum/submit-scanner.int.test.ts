/**
 * The two ways in of a share: straight from the bytes, and through JSON. Two daemons with the same job hear the same lines; one of them
 * may not read bytes. What the miner reads and what is journaled and logged must be the same.
 */
import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { SubmitScanner } from '../../../services/stratum/submit-scanner.ts';
import { parseLine } from '../../../services/stratum/wire.ts';
import { until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { BITS_HARD, type Client, type Rig, startRig, template } from './rig.ts';

const random = seeded(SEED);
const below = (n: number): number => Math.floor(random() * n);
const pick = <T>(of: readonly T[]): T => of[below(of.length)]!;

const HEX = '0123456789abcdef';
const digits = (n: number, of = HEX): string => Array.from({ length: n }, () => of[below(of.length)]).join('');

const WORKERS = ['alice.w1', 'alice.w2', 'Ünï.矿工', 'bob_"q"', 'o.ne'] as const;

let rigs: Rig[] = [];
afterEach(async () => {
  for (const rig of rigs) await rig.close();
  rigs = [];
});

/** A parameter list that is well formed more often than not. */
function params(jobId: string, ntime: number): unknown[] {
  const odd = random() < 0.25;
  const word = (n: number): string => n.toString(16).padStart(8, '0');
  const list: unknown[] = [
    odd && below(4) === 0 ? pick(['alice.w3', 'nobody', '', 7, null, 'alice', 'ALICE.w1']) : pick(WORKERS),
    odd && below(4) === 0
      ? pick([
          jobId.toUpperCase(),
          jobId.replace(/^0+/, ''),
          digits(16),
          digits(17),
          'x',
          '',
          'no job',
          'jöb',
          5,
          jobId.slice(1),
        ])
      : jobId,
    odd && below(4) === 0
      ? pick([digits(14), digits(18), digits(15), digits(16, 'ABCDEF0123'), 'zz'.repeat(8), '', 3])
      : digits(16, pick([HEX, 'abcdefABCDEF0123456789'])),
    odd && below(4) === 0
      ? pick([word(ntime - 1), word(ntime + 7001), word(ntime).toUpperCase(), '5', 'g0000000', '000000000', '', null])
      : word(ntime + below(7000)),
    odd && below(4) === 0 ? pick([digits(7), digits(9), digits(8, 'ABCDEF'), '1', 'xyz', '', 1]) : digits(8),
  ];
  if (below(2) === 0) {
    list.push(
      odd && below(2) === 0
        ? pick([null, '', '0', '1fffe000', '20000000', 'ffffffff', '0000200', '002000', 'zz', 8192, digits(9)])
        : pick(['00002000', '1fffe000', '1FFFE000', '00000000', '0ABCE000'].map((bits) => bits)),
    );
  }
  if (odd && below(8) === 0) list.push('more');
  if (odd && below(8) === 0) list.length = below(5);
  return list;
}

function quoted(text: string): string {
  // Now and then with escapes that mean the same.
  if (below(12) > 0) return JSON.stringify(text);
  return `"${[...text].map((letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`;
}

function line(id: unknown, list: readonly unknown[]): string {
  const blank = (): string => (below(3) > 0 ? '' : pick([' ', '  ', '\t', ' \r']));
  const value = (one: unknown): string => (typeof one === 'string' ? quoted(one) : JSON.stringify(one));
  const array = `[${blank()}${list.map(value).join(`${blank()},${blank()}`)}${blank()}]`;
  const method =
    below(30) === 0 ? pick(['"MINING.submit"', '"mining.submitted"', '"mining.submi\\u0074"']) : '"mining.submit"';
  const pairs = [
    `"id"${blank()}:${blank()}${JSON.stringify(id)}`,
    `"method"${blank()}:${blank()}${method}`,
    `"params"${blank()}:${blank()}${array}`,
  ];
  if (below(25) === 0) pairs.push(pick(['"jsonrpc":"2.0"', '"id":5', '"worker":null', '"params":[]']));
  if (below(40) === 0) pairs.splice(below(pairs.length), 1);
  for (let i = pairs.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [pairs[i], pairs[j]] = [pairs[j]!, pairs[i]!];
  }
  const text = `${blank()}{${blank()}${pairs.join(`${blank()},${blank()}`)}${blank()}}${blank()}`;
  if (below(200) > 0) return text;
  // Damaged anyhow: most often no JSON any more.
  const at = below(text.length);
  return text.slice(0, at) + pick(['', '"', ',', '\\', '}', '\u0001', 'é', '0']) + text.slice(at + below(2));
}

const ID = (): unknown =>
  below(4) > 0 ? below(1e6) : pick([0, 1.5, -3, 'text', '', null, true, 1e15 - 1, 2 ** 53, 1e300, [1], { a: 1 }]);

async function send(client: Client, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + 1 + below(4_000));
    client.socket.write(bytes.subarray(at, next));
    at = next;
    // Another read of the other side, now and then.
    if (below(4) === 0) await new Promise((done) => setImmediate(done));
  }
  await until(
    'the last line is answered',
    () => client.closed || client.lines.some((one) => one.includes('"the end"')),
  );
}

test.each(['lodestream', 'ckpool'] as const)(
  `both ways give the same answers, events and share log lines, compat %s (SEED=${SEED})`,
  async (compat) => {
    const config = { minDiff: 1e-10, startDiff: 1e-10, maxDiff: 1e-10, logShares: true, compat };
    const byBytes = await startRig({ config });
    const byText = await startRig({ config, template: null });
    rigs = [byBytes, byText];
    // The same job, the same time, the same extranonce1.
    const job = byBytes.source.jobs.current!;
    const made = { value: null, txCount: 0, template: template(byText.profile, { bits: BITS_HARD }), upstream: null };
    byText.daemon.makeJob(byText.source.jobs, job, { ...made, id: job.id });
    let nowMs = Date.now();
    for (const rig of rigs) Object.assign(rig.daemon, { nowMs: () => nowMs });
    let taken = 0;
    const { connect } = byBytes.daemon;
    byBytes.daemon.connect = (connection) => {
      const session = connect.call(byBytes.daemon, connection);
      const take = session.take.bind(session);
      session.take = (bytes, from, end) => {
        const next = take(bytes, from, end);
        if (next >= 0) taken += 1;
        return next;
      };
      return session;
    };
    byText.daemon.connect = (connection) => Object.assign(connect.call(byText.daemon, connection), { take: () => -1 });

    let lines = 0;
    const earlier: unknown[][] = [];
    for (let round = 0; round < 25; round++) {
      nowMs += 1_000;
      const clients: Client[] = [];
      for (const rig of rigs) {
        const client = await rig.client();
        clients.push(client);
        await client.login(WORKERS[0]);
        if (compat === 'lodestream')
          for (const worker of WORKERS.slice(1)) await client.call('mining.authorize', [worker]);
        const [session] = [...rig.daemon.sessions].slice(-1);
        session!.subscribe(rig.source, Buffer.from('c0ffee00', 'hex'));
      }
      let script = '';
      const count = 20 + below(100);
      for (let i = 0; i < count; i++) {
        const list = earlier.length > 0 && below(15) === 0 ? pick(earlier) : params(job.id, job.ntime);
        earlier.push(list);
        const text = line(ID(), list);
        script += `${text}${pick(['\n', '\r\n'])}`;
        lines += 1;
        // It ends the line; how much of what follows is still heard is a matter of how the bytes come.
        if (parseLine(text.trim()).kind === 'garbage') break;
        if (below(40) === 0) {
          const more = pick(['\n', '{"id":9,"method":"mining.ping","params":[]}\n', '{"id":4,"result":true}\n']);
          script += more;
          // So does an empty line in CKPool's way.
          if (compat === 'ckpool' && more === '\n') break;
        }
      }
      script += '{"id":"the end","method":"mining.get_transactions","params":["x"]}\n';
      const before = clients.map((client) => client.lines.length);
      await Promise.all(clients.map((client) => send(client, script)));
      const answers = clients.map((client, i) => client.lines.slice(before[i]));
      expect(answers[0]).toEqual(answers[1]);
      for (const client of clients) client.destroy();
      await until('the lines are gone', () => rigs.every((rig) => rig.daemon.sessions.size === 0));
    }

    const shares = rigs.map((rig) => rig.journal.of('share').map(({ time_us, ...rest }) => rest));
    expect(shares[0]).toEqual(shares[1]);
    expect(shares[0]!.filter((share) => share.accepted).length).toBeGreaterThan(lines / 20);
    const logged = rigs.map((rig) =>
      readFileSync(`${rig.dir}/logs/0000006f/${job.id}.sharelog`, 'utf8').replace(/"createdate": "[^"]*"/g, ''),
    );
    expect(logged[0]).toBe(logged[1]);
    expect(rigs[0]!.daemon.counters).toEqual(rigs[1]!.daemon.counters);
    // The plain form is taken, not sent the general way.
    expect(taken).toBeGreaterThan(lines / 60);
    for (const rig of rigs) {
      const times = rig.journal.of('share').map((share) => share.time_us);
      expect(times.every((time, i) => i === 0 || time > times[i - 1]!)).toBe(true);
    }
  },
);

test('the forms that miners are known to write are read from the bytes', () => {
  const scanner = new SubmitScanner();
  const fields = ['alice.w1', '6b0286a900000000', '0000000000000000', '6b0286a9', '0001b431'];
  const list = JSON.stringify(fields);
  const spaced = `[${fields.map((field) => `"${field}"`).join(', ')}]`;
  for (const text of [
    `{"id":4,"method":"mining.submit","params":${list}}\n`,
    // cgminer and what descends from it; cpuminer
    `{"params": ${spaced}, "id": 4, "method": "mining.submit"}\n`,
    `{"method": "mining.submit", "params": ${spaced}, "id":4}\n`,
    `{"id": 4, "method": "mining.submit", "params": ${spaced}}\r\n`,
  ]) {
    const bytes = Buffer.from(`..${text}more`);
    expect(scanner.scan(bytes, 2, bytes.length), text).toBe(2 + text.length);
    expect(scanner.id).toBe(4);
    expect(fields.map((_, i) => bytes.toString('utf8', scanner.from[i], scanner.to[i]))).toEqual(fields);
    // Half of it is not taken.
    for (let end = 2; end < 2 + text.length; end++) expect(scanner.scan(bytes, 2, end)).toBe(-1);
  }
});

test('whatever the scanner takes, JSON says the same', () => {
  const scanner = new SubmitScanner();
  for (let i = 0; i < 20_000; i++) {
    const text = `${line(ID(), params('6b0286a900000000', 1795327660))}\n`;
    const bytes = Buffer.from(text);
    const next = scanner.scan(bytes, 0, bytes.length);
    if (next < 0) continue;
    expect(next).toBe(bytes.length);
    const value = JSON.parse(text);
    expect(Object.keys(value).sort()).toEqual(['id', 'method', 'params']);
    expect([value.id, value.method]).toEqual([scanner.id, 'mining.submit']);
    expect(value.params).toEqual(
      Array.from({ length: scanner.params }, (_, n) => bytes.toString('utf8', scanner.from[n], scanner.to[n])),
    );
  }
});
