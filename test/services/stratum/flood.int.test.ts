/** Thousands of shares in one packet: all judged in order and answered, a block among them leaves, whoever hangs up at once loses nothing. */
import { afterEach, expect, test } from 'vitest';
import { targetFromBits } from '../../../services/core/bitcoin/target.ts';
import { until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { type Client, type Found, type Rig, startRig } from './rig.ts';

/** One hash of 65,536 solves it. */
const BITS = 0x1f00ffff;
const EACH = 1e-12;
const LINES = 10_000;

let rig: Rig;
afterEach(() => rig.close());

async function start(): Promise<Client> {
  rig = await startRig({ bits: BITS, config: { minDiff: EACH, startDiff: EACH, maxDiff: EACH } });
  const client = await rig.client();
  await client.login();
  return client;
}

/** Shares that need no search: each hash is one. */
function shares(client: Client, count: number, nonce2: number): Found[] {
  const { id, ntime } = client.job;
  const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0');
  return Array.from({ length: count }, (_, nonce) => ({
    jobId: id,
    nonce2: hex(nonce2, client.nonce2Bytes * 2),
    ntime: hex(ntime, 8),
    nonce: hex(nonce, 8),
    reached: 0,
  }));
}

const line = (id: unknown, { jobId, nonce2, ntime, nonce }: Found, worker = 'alice.w1'): string =>
  `${JSON.stringify({ id, method: 'mining.submit', params: [worker, jobId, nonce2, ntime, nonce] })}\n`;

const nonces = (): string[] =>
  rig.journal
    .of('share')
    .filter(({ accepted }) => accepted)
    .map(({ nonce2, nonce }) => `${nonce2} ${nonce}`);
const nameOf = ({ nonce2, nonce }: Found): string => `${nonce2} ${nonce}`;

test('ten thousand in one packet are answered in order and journaled once; the block in their middle leaves', async () => {
  const miner = await start();
  const all = shares(miner, LINES, 1);
  const solved = miner.mine(miner.job, { solves: targetFromBits(BITS), nonce2: 2 });
  all.splice(LINES / 2, 0, solved);
  miner.write(all.map((share, i) => line(i, share)).join(''));
  await until('all answers', () => miner.messages.filter(({ id }) => Number.isInteger(id)).length >= all.length);
  const answers = miner.messages.filter(({ id, method }) => Number.isInteger(id) && method === undefined);
  expect(answers.slice(-all.length).map(({ id }) => id)).toEqual(all.map((_, i) => i));
  expect(answers.slice(-all.length).every(({ result }) => result === true)).toBe(true);
  expect(nonces()).toEqual(all.map(nameOf));
  const hash = rig.journal.of('share').find(({ nonce2, nonce }) => nameOf(solved) === `${nonce2} ${nonce}`)!.hash;
  expect(rig.journal.of('block').filter((block) => block.hash === hash && block.answers?.length === 0)).toHaveLength(1);
  // Others may have solved it by chance; none twice.
  expect(new Set(rig.submitted).size).toBe(rig.submitted.length);
});

test.each(['end', 'reset'] as const)(
  'who sends a thousand and is gone at once (%s) has all that came counted, once',
  async (how) => {
    const miner = await start();
    const all = shares(miner, 1_000, 1);
    const text = all.map((share, i) => line(i, share)).join('');
    if (how === 'end') miner.socket.end(text);
    else miner.socket.write(text, () => miner.socket.resetAndDestroy());
    await until('the line to be gone', () => rig.daemon.sessions.size === 0);
    await until('its end in the journal', () => rig.journal.of('session').some(({ kind }) => kind === 'disconnected'));
    const found = nonces();
    // A reset takes along what the kernel still held: what was read is a beginning.
    expect(found).toEqual(all.slice(0, found.length).map(nameOf));
    if (how === 'end') expect(found).toHaveLength(all.length);
  },
);

test(`authorize, wishes, pings and shares of two workers, cut anywhere, mean what they mean line by line (SEED=${SEED})`, async () => {
  const random = seeded(SEED);
  const below = (n: number): number => Math.floor(random() * n);
  const miner = await start();
  let text = '';
  const expected: [unknown, unknown][] = [];
  let known = false;
  let wishes = 0;
  for (const [i, share] of shares(miner, 2_000, 3).entries()) {
    const bob = random() < 0.3;
    // Names of another user count only once they are authorized.
    text += line(`s${i}`, share, bob ? 'bob.w1' : 'alice.w1');
    expected.push([`s${i}`, bob && !known ? 'refused' : true]);
    if (below(50) === 0) {
      text += `${JSON.stringify({ id: `a${i}`, method: 'mining.authorize', params: ['bob.w1', 'x'] })}\r\n`;
      expected.push([`a${i}`, true]);
      known = true;
    }
    if (below(40) === 0) {
      text += `${JSON.stringify({ params: [0.001], id: `d${i}`, method: 'mining.suggest_difficulty' })}\n`;
      wishes += 1;
      // Ten a minute are heard.
      expected.push([`d${i}`, wishes <= 10 ? true : 'refused']);
    }
    if (below(40) === 0) {
      text += `  {"id":${i},"method":"mining.ping","params":[]}  \n\n`;
      expected.push([i, 'pong']);
    }
  }
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + 1 + below(random() < 0.5 ? 40 : 20_000));
    miner.socket.write(bytes.subarray(at, next));
    at = next;
    if (below(20) === 0) await new Promise((done) => setImmediate(done));
  }
  const last = expected.at(-1)![0];
  await until('the last answer', () => miner.messages.some(({ id, method }) => id === last && method === undefined));
  const wanted = new Set(expected.map(([id]) => id));
  const answers = miner.messages.filter(({ id, method }) => method === undefined && wanted.has(id));
  const meaning = ({ id, result, error }: { id: unknown; result: unknown; error: unknown }): [unknown, unknown] => [
    id,
    error === null ? result : 'refused',
  ];
  expect(answers.slice(-expected.length).map(meaning)).toEqual(expected);
});

test('a share of one is not behind a flood of another', async () => {
  const flooder = await start();
  const other = await rig.client();
  await other.login('bob.w1');
  const all = shares(flooder, 40_000, 1);
  flooder.write(all.map((share, i) => line(i, share)).join(''));
  await until('the flood to be under way', () => rig.journal.of('share').length > 0, { everyMs: 1 });
  const before = rig.journal.of('share').length;
  expect(before).toBeLessThan(all.length / 2);
  const [mine] = shares(other, 1, 7);
  const reply = await other.submit('bob.w1', mine!);
  expect(reply.result).toBe(true);
  const at = nonces().indexOf(nameOf(mine!));
  // The packets before it in the sockets' turns, not the whole flood.
  expect(at).toBeLessThan(before + all.length / 4);
  await until('all of the flood', () => nonces().length === all.length + 1);
});
