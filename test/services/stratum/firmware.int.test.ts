/**
 * Three kinds of firmware over real sockets, with real hashes, under all that changes a difficulty: one takes a new value at once, one with the
 * next job, one only with a clean job. None of them is ever told that an honest share is too low, or repeated; or stale while its job is of
 * the present block. difficulty-rule.int.test.ts has longer sequences without sockets.
 */
import { afterEach, expect, test } from 'vitest';
import { until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';
import { BITS_HARD, type Client, type Found, type Rig, someHash, startRig, template } from './rig.ts';

let rig: Rig | undefined;
afterEach(() => rig?.close());

const DIFFS = [1e-9, 2e-9, 4e-9, 8e-9];
/** Difficulty 3e-9 and 1: some wishes are above the first. */
const BITS_EASIER = 0x2013ffec;
const SEQUENCES = 100;
const STEPS = 20;

/** Polls in each turn of the loop: there are thousands. */
async function submit(client: Client, share: Found): Promise<{ result: unknown; error: unknown }> {
  const id = `s${client.messages.length}`;
  const { jobId, nonce2, ntime, nonce } = share;
  client.write(
    `${JSON.stringify({ id, method: 'mining.submit', params: ['alice.w1', jobId, nonce2, ntime, nonce] })}\n`,
  );
  for (;;) {
    const reply = client.messages.findLast((message) => message.id === id && message.method === undefined);
    if (reply !== undefined) return reply;
    if (client.closed) throw new Error('the line was closed');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test.each(['at once', 'with the next job', 'with a clean job'] as const)(
  `a miner that takes a difficulty %s is never refused an honest share (SEED=${SEED})`,
  async (kind) => {
    const draw = seeded(SEED);
    rig = await startRig({ config: { minDiff: 1e-10, startDiff: 4e-9 } });
    const { daemon, source, profile } = rig;
    let blocks = 0;
    let renewals = 0;
    let bits = BITS_HARD;
    const renew = (): void => {
      renewals += 1;
      const of = { height: 111 + blocks, prevHash: someHash(`f${blocks}`), bits, curtime: 1_795_327_752 + renewals };
      source.take(template(profile, of));
    };
    const wrong: string[] = [];
    let accepted = 0;
    for (let sequence = 0; sequence < SEQUENCES; sequence++) {
      let client: Client = await rig.client();
      await client.login('alice.w1');
      /** Message by message, as the firmware reads them. */
      let read = 0;
      let told = 0;
      let inForce = 0;
      let job = client.job;
      const digest = (): void => {
        for (; read < client.messages.length; read++) {
          const message = client.messages[read];
          if (message.method === 'mining.set_difficulty') {
            told = message.params[0];
            if (kind === 'at once' || inForce === 0) inForce = told;
          } else if (message.method === 'mining.notify') {
            job = client.jobs.find(({ id }) => id === message.params[0])!;
            if (kind !== 'with a clean job' || job.clean) inForce = told;
          }
        }
      };
      let nonce2 = sequence * 10_000;
      const found: (Found & { readonly what: string })[] = [];
      for (let i = 0; i < STEPS; i++) {
        digest();
        nonce2 += 1;
        // Found on the job and at the value of now, sent after whatever the pool says meanwhile.
        const share = client.mine(job, { atLeast: inForce, nonce2, ntime: job.ntime + Math.floor(draw() * 600) });
        found.push({ ...share, what: `sequence ${sequence}, step ${i}` });
        const session = [...daemon.sessions].at(-1)!;
        const wanted = DIFFS[Math.floor(draw() * DIFFS.length)]!;
        const dice = draw();
        if (dice < 0.25) session.changeDifficulty(wanted, 'vardiff');
        else if (dice < 0.35) renew();
        else if (dice < 0.42) {
          blocks += 1;
          renew();
        } else if (dice < 0.5) {
          bits = bits === BITS_HARD ? BITS_EASIER : BITS_HARD;
          blocks += 1;
          renew();
        } else if (dice < 0.6) rig.tick(11_000);
        else if (dice < 0.7) await client.call('mining.suggest_difficulty', [wanted]);
        else if (dice < 0.75) {
          rig.tick(60_000);
          daemon.sweep();
        } else if (dice < 0.8) {
          // The line breaks; what was found is sent on the next one, where the session goes on.
          const { sessionId } = client;
          client.destroy();
          await until('the line is gone', () => daemon.sessions.size === 0, { everyMs: 2 });
          client = await rig.client();
          await client.subscribe('test/1', sessionId);
          await client.call('mining.authorize', ['alice.w1', 'x']);
          await until('a job', () => client.jobs.length > 0, { everyMs: 2 });
          read = 0;
        }
        // Some wait a step longer.
        const sent = found.splice(0, draw() < 0.6 ? found.length : 0);
        for (const { what, ...each } of sent) {
          if (source.jobs.isStale(source.jobs.find(each.jobId)!)) continue;
          const reply = await submit(client, each);
          if (reply.result === true) accepted += 1;
          else wrong.push(`${what}: ${JSON.stringify(reply.error)} after ${dice.toFixed(2)}`);
        }
      }
      client.destroy();
      await until('the line is gone', () => daemon.sessions.size === 0, { everyMs: 2 });
    }
    expect(wrong).toEqual([]);
    expect(accepted).toBeGreaterThan(SEQUENCES * 5);
  },
  360_000,
);
