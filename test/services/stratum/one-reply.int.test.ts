/** Whatever a client sends: each request with an id has exactly one reply, with id, result and error; nothing is a fault of ours. */
import { afterEach, expect, test } from 'vitest';
import { until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { type Rig, someHash, startRig, template } from './rig.ts';

const ROUNDS = 40;
const REQUESTS = 60;

let rig: Rig | null = null;
afterEach(async () => {
  await rig?.close();
  rig = null;
});

const METHODS = [
  'mining.subscribe',
  'mining.authorize',
  'MINING.AUTHORISE',
  'mining.configure',
  'mining.suggest_difficulty',
  'mining.suggest_difficulty(5)',
  'mining.suggest_target',
  'mining.extranonce.subscribe',
  'mining.get_transactions',
  'mining.get_txnhashes',
  'mining.get_nothing',
  'mining.ping',
  'mining.multi_version',
  'mining.passthrough',
  'client.get_version',
  'mining.submit',
  'mining.submit',
  '',
  '__proto__',
  'toString',
] as const;

test(`each request with an id has one reply with all three keys, in order (SEED=${SEED})`, async () => {
  const random = seeded(SEED);
  const below = (n: number): number => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  rig = await startRig({ config: { maxDiff: 1e-5 } });
  const { source, profile, daemon, lines } = rig;
  const atom = (): unknown =>
    pick([
      null,
      true,
      false,
      0,
      -1,
      1.5,
      1e300,
      '',
      'x',
      'alice.w1',
      'd=0.00001',
      '00',
      'ffffffff',
      'zz',
      '\ud800',
      '__proto__',
    ]);
  const value = (depth: number): unknown => {
    const dice = random();
    if (depth === 0 || dice < 0.6) return atom();
    if (dice < 0.8) return Array.from({ length: below(7) }, () => value(depth - 1));
    return Object.fromEntries(Array.from({ length: below(4) }, () => [String(atom()), value(depth - 1)]));
  };
  for (let round = 0; round < ROUNDS; round++) {
    const client = await rig.client();
    if (random() < 0.7) await client.login('alice.w1');
    const params = (method: string): unknown => {
      const { job } = client;
      if (random() < 0.1) return value(2);
      if (/submit/.test(method) && job !== undefined && random() < 0.8) {
        const good = [
          'alice.w1',
          job.id,
          '0'.repeat(16),
          job.ntime.toString(16),
          below(2 ** 32)
            .toString(16)
            .padStart(8, '0'),
        ];
        if (random() < 0.3) good.push('00002000');
        if (random() < 0.5) good[below(good.length)] = value(1) as string;
        return good;
      }
      if (/auth/i.test(method))
        return [pick(['alice.w1', 'alice', 'bob.w2', '.x', 'a/b', 5]), pick(['x', 'd=2e-6', null])];
      if (/configure/.test(method)) return [[pick(['version-rolling', 'info', 'x', 'minimum-difficulty'])], value(1)];
      if (/get_/.test(method)) return [job?.id ?? 'x'];
      return Array.from({ length: below(4) }, () => value(1));
    };
    const from = client.messages.length;
    const asked: string[] = [];
    let text = '';
    for (let i = 0; i < REQUESTS; i++) {
      const method = pick(METHODS);
      const id = `${round}/${i}`;
      const request: Record<string, unknown> = { id, method };
      if (random() < 0.95) request.params = params(method);
      if (random() < 0.05) delete request.method;
      if (random() < 0.05) request.method = value(1);
      // Without an id, or as an answer to something, nothing is asked.
      if (random() < 0.1) delete request.id;
      else if (random() < 0.03) request.result = 5;
      const answers = request.method === undefined || request.method === null;
      if (request.id !== undefined && !(answers && request.result !== undefined)) asked.push(id);
      text += `${JSON.stringify(request)}\n`;
      if (random() < 0.02) source.take(template(profile, { prevHash: someHash(id), height: 112 + round }));
      if (random() < 0.3) {
        client.write(text);
        text = '';
      }
    }
    client.write(`${text}{"id":"last","method":"mining.ping","params":[]}\n`);
    asked.push('last');
    await until(
      'the last reply',
      () => client.closed || client.messages.findLast(({ id }) => id === 'last') !== undefined,
    );
    expect(client.closed, `SEED=${SEED}, round ${round}: ${lines.slice(-3).join(' ')}`).toBe(false);
    const replies = client.messages
      .slice(from)
      .filter((message) => message.method === undefined && message.id !== null);
    expect(
      replies.map(({ id }) => id),
      `SEED=${SEED}, round ${round}`,
    ).toEqual(asked);
    for (const reply of replies)
      expect(Object.keys(reply).sort(), JSON.stringify(reply)).toEqual(['error', 'id', 'result']);
    client.destroy();
    await until('it is gone', () => daemon.sessions.size === 0);
  }
  expect(lines.filter((line) => /fault|TypeError|RangeError/.test(line))).toEqual([]);
}, 360_000);
