/**
 * Three kinds of firmware under every change of difficulty: one takes a new value at once, one with the next job, one only with a clean job.
 * None of them is ever told that an honest share is too low, stale or repeated while its job is of the present block.
 */
import { afterEach, expect, test } from 'vitest';
import { type Client, type Rig, startRig, template } from './rig.ts';

let rig: Rig | undefined;
afterEach(() => rig?.close());

/** A small generator, so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const DIFFS = [1e-7, 2e-7, 4e-7, 8e-7];

test.each(['at once', 'with the next job', 'with a clean job'] as const)(
  'a miner that takes a difficulty %s is never refused an honest share',
  async (kind) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    const draw = random(seed);
    rig = await startRig({ config: { minDiff: 1e-8, startDiff: 4e-7 } });
    const client: Client = await rig.client();
    await client.login('alice.w1');
    /** Message by message, as the firmware reads them. */
    let read = 0;
    let told = 0;
    let inForce = 0;
    let nonce2 = 0;
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
    const outcomes: string[] = [];
    for (let i = 0; i < 60; i++) {
      digest();
      nonce2 += 1;
      // Found on the job and at the value of now, sent after whatever the pool says meanwhile.
      const share = client.mine(job, { atLeast: inForce, nonce2, ntime: job.ntime + Math.floor(draw() * 600) });
      const dice = draw();
      const session = [...rig.daemon.sessions][0]!;
      const wanted = DIFFS[Math.floor(draw() * DIFFS.length)]!;
      if (dice < 0.3) session.changeDifficulty(wanted, 'vardiff');
      else if (dice < 0.4) rig.source.take(template(rig.profile, { curtime: 1_795_327_752 + i }));
      else if (dice < 0.5) rig.tick(11_000);
      else if (dice < 0.6) await client.call('mining.suggest_difficulty', [wanted]);
      const reply = await client.submit('alice.w1', share);
      if (reply.result !== true) outcomes.push(`${i}: ${JSON.stringify(reply.error)} after ${dice.toFixed(2)}`);
    }
    expect(outcomes, `SEED=${seed}`).toEqual([]);
  },
  60_000,
);
