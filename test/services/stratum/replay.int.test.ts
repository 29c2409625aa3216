/** Sessions recorded between a real CKPool, a real miner and a scripted client, sent to our server. See fixtures/ckpool/NORMALISATION.md. */
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { until } from '../../helpers/leash.ts';
import { type Client, type Rig, someHash, startRig, template, type Work } from './rig.ts';

const FIXTURES = new URL('../../fixtures/ckpool/', import.meta.url);

interface Case {
  session?: string;
  case: string;
  sent: string;
  received: string[];
  closed: boolean;
}

/** What we answer where it differs on purpose: the words of the error, or null for success. */
const OURS: Readonly<Record<string, string | null>> = {
  'order/submit before subscribe': 'Not subscribed',
  'order2/submit before authorize': 'Unauthorized worker',
  // Taken as a number without its leading zeros.
  'main/nonce short': 'Above target',
  'main/extranonce subscribe': null,
  'framing/no params': null,
  'main/suggest_difficulty': null,
  'main/unknown method': 'Not supported.',
  'main/multi_version': 'Not supported.',
  'main/worker mismatch': null,
  'main/authorize second worker': null,
  'main/submit for second worker': null,
};

let rig: Rig;
afterEach(() => rig?.close());

// biome-ignore lint/suspicious/noExplicitAny: a recorded message
type Message = any;

function words(reply: Message): string | null {
  const { error } = reply;
  if (error === null || error === undefined) return null;
  return Array.isArray(error) ? error[1] : error;
}

const replies = (messages: readonly Message[]): Message[] =>
  messages.filter((message) => message.method === undefined && message.text === undefined);

function parsed(lines: readonly string[]): Message[] {
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

class Replay {
  readonly #jobs = new Map<string, Work>();
  readonly #ntimes = new Map<string, number>();
  readonly #nonces = new Map<string, number>();
  readonly sessionIds = new Map<string, string>();

  /** Learns the times of the recorded jobs. */
  learn(lines: readonly string[]): void {
    for (const message of parsed(lines)) {
      if (message.method === 'mining.notify')
        this.#ntimes.set(message.params[0], Number.parseInt(message.params[7], 16));
    }
  }

  submission(client: Client, params: unknown[], expected: string | null): unknown[] {
    const out = [...params];
    const [, jobId, nonce2, ntime, nonce, bits] = params as string[];
    const known = typeof jobId === 'string' ? jobId.toLowerCase() : '';
    if (!this.#ntimes.has(known)) return out;
    const work = this.#jobs.get(known) ?? client.job;
    this.#jobs.set(known, work);
    out[1] = jobId === known ? work.id : work.id.toUpperCase();
    const isHex = (text: unknown, even: boolean): text is string =>
      typeof text === 'string' && /^[0-9a-f]+$/i.test(text) && (!even || text.length % 2 === 0);
    if (!isHex(nonce2, true) || !isHex(ntime, true) || !isHex(nonce, true) || nonce.length < 8) return out;
    const time = work.ntime + Number.parseInt(ntime, 16) - this.#ntimes.get(known)!;
    out[3] = time.toString(16).padStart(8, '0');
    const used = nonce2.slice(0, 16).padEnd(16, '0');
    const key = `${work.id}/${used}/${time}`.toLowerCase();
    const versionBits = isHex(bits, true) ? Number.parseInt(bits, 16) : undefined;
    let found = this.#nonces.get(key);
    if (expected !== 'Duplicate' || found === undefined) {
      const range = expected === 'Above target' ? { below: client.difficulty / 4 } : { atLeast: client.difficulty };
      const share = client.mine(work, {
        ...range,
        ntime: time,
        nonce2: Number(BigInt(`0x${used}`)),
        from: found === undefined ? 0 : found + 1,
        ...(versionBits === undefined ? {} : { versionBits }),
      });
      found = Number.parseInt(share.nonce, 16);
      this.#nonces.set(key, found);
    }
    const text = found.toString(16).padStart(8, '0') + nonce.slice(8);
    out[4] = nonce === nonce.toUpperCase() && /[A-F]/.test(nonce + jobId) ? text.toUpperCase() : text;
    return out;
  }
}

describe.each([
  'regtest-rejects/scripted.jsonl',
  'regtest-rejects/scripted-second-run.jsonl',
  'regtest-rejects/scripted-framing.jsonl',
  'testnet-shares/scripted.jsonl',
])('%s', (file) => {
  test('gets answers of the same shape', async () => {
    rig = await startRig({ config: { startDiff: 2e-7, minDiff: 1e-8, maxDiff: 4e-7 } });
    const cases: Case[] = readFileSync(new URL(file, FIXTURES), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
    const replay = new Replay();
    let client: Client | null = null;
    let session = '';
    let compared = 0;
    for (const one of cases) {
      if (one.session === undefined || one.sent === undefined) continue;
      replay.learn(one.received);
      const name = `${one.session}/${one.case}`;
      // The scripted client opened a line for each session, and in `framing` for each case.
      if (client === null || session !== one.session || (one.session === 'framing' && one.case !== 'subscribe after')) {
        const before = client;
        client?.destroy();
        if (before !== null) await until('the old line is gone', () => rig.daemon.sessions.size === 0);
        client = await rig.client();
        session = one.session;
      }
      const line: Client = client;
      if (one.case === 'new block') {
        const jobs = line.jobs.length;
        rig.source.take(template(rig.profile, { prevHash: someHash(file), height: 112 }));
        await until('its job', () => line.jobs.length > jobs);
        continue;
      }
      const expected = replies(parsed(one.received));
      const from = line.messages.length;
      const requests: Message[] = [];
      if (one.case.startsWith('submit split')) {
        // The recording has its second half only.
        const request = JSON.parse(
          `{"id":${expected[0].id},"method":"mining.submit","${one.sent.slice(one.sent.indexOf('params'))}`,
        );
        request.params = replay.submission(line, request.params, words(expected[0]));
        requests.push(request);
        const text = `${JSON.stringify(request)}\n`;
        line.write(text.slice(0, 40));
        await new Promise((resolve) => setImmediate(resolve));
        line.write(text.slice(40));
      } else {
        const pieces = one.sent.split('\n').map((text) => {
          let request: Message;
          try {
            request = JSON.parse(text);
          } catch {
            return text;
          }
          if (typeof request !== 'object' || request === null || Array.isArray(request)) return text;
          requests.push(request);
          const reply = expected.find((each) => each.id === request.id) ?? expected[0];
          if (request.method === 'mining.submit' && Array.isArray(request.params) && request.params.length >= 5) {
            const aim = name in OURS ? (OURS[name] ?? null) : reply === undefined ? null : words(reply);
            request.params = replay.submission(line, request.params, aim);
          }
          if (request.method === 'mining.get_transactions') request.params = [line.job.id];
          if (request.method === 'mining.subscribe' && Array.isArray(request.params)) {
            request.params = request.params.map((each: unknown) => replay.sessionIds.get(each as string) ?? each);
          }
          return JSON.stringify(request) + (text.endsWith('\r') ? '\r' : '');
        });
        line.write(pieces.join('\n'));
      }

      if (one.closed && !(name in OURS) && one.case !== 'empty line') {
        await until(`${name}: closed`, () => line.closed);
        compared += 1;
        continue;
      }
      const wanted = name in OURS ? requests.length : expected.length;
      // A ping tells that everything before it was answered.
      const ping = `ping ${compared}`;
      line.write(`${JSON.stringify({ id: ping, method: 'mining.ping', params: [] })}\n`);
      await line.reply(ping).catch((error) => {
        throw new Error(`${name}: ${error.message}`);
      });
      const got = replies(line.messages.slice(from)).filter((message) => message.id !== ping);
      expect(got.length, `${name}: ${JSON.stringify(got)}`).toBe(wanted);
      compared += 1;
      for (const [i, reply] of got.entries()) {
        if (name in OURS) {
          expect(words(reply), name).toBe(OURS[name]);
          continue;
        }
        const theirs = expected[i];
        expect(reply.id ?? null, name).toBe(theirs.id ?? null);
        expect(words(reply), name).toBe(words(theirs));
        if (Array.isArray(theirs.result)) {
          expect(reply.result[0][0][0]).toBe('mining.notify');
          expect(reply.result[0][0][1]).toMatch(/^[0-9a-f]{8}$/);
          expect(reply.result[1]).toHaveLength(theirs.result[1].length);
          expect(reply.result[2]).toBe(theirs.result[2]);
          await until('difficulty and job', () => line.difficulties.length > 0 && line.jobs.length > 0);
          replay.sessionIds.set(theirs.result[0][0][1], reply.result[0][0][1]);
          line.enonce1 = reply.result[1];
          line.nonce2Bytes = reply.result[2];
        } else if (typeof theirs.result === 'object' && theirs.result !== null) {
          // configure: what was asked for, and of that what ckpool-lhr answers too.
          expect(reply.result).toMatchObject(theirs.result);
        } else expect(reply.result ?? null, name).toBe(theirs.result ?? null);
      }
    }
    expect(compared).toBeGreaterThan(cases.length * 0.8);
  });
});

test("minerd's recorded session: every share that was accepted is", async () => {
  rig = await startRig({ config: { startDiff: 2e-7, minDiff: 1e-8, maxDiff: 4e-7 } });
  const chunks = readFileSync(new URL('regtest-rejects/stratum.jsonl', FIXTURES), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line): { conn: number; dir: string; data?: string } => JSON.parse(line))
    .filter((chunk) => chunk.conn === 1);
  const side = (dir: string): string[] =>
    chunks
      .filter((chunk) => chunk.dir === dir)
      .map((chunk) => chunk.data ?? '')
      .join('')
      .split('\n')
      .filter((line) => line !== '');
  const answers = new Map(replies(parsed(side('s2c'))).map((reply) => [reply.id, reply]));
  const replay = new Replay();
  replay.learn(side('s2c'));
  const client = await rig.client();
  const counts = { sent: 0, accepted: 0 };
  for (const text of side('c2s').slice(0, 120)) {
    const request = JSON.parse(text);
    if (request.method === 'mining.submit') {
      const theirs = answers.get(request.id);
      if (theirs?.result !== true) continue;
      request.params = replay.submission(client, request.params, null);
      request.id = `s${counts.sent++}`;
    }
    client.write(`${JSON.stringify(request)}\n`);
    const reply = await client.reply(request.id);
    if (request.method === 'mining.subscribe') {
      client.enonce1 = reply.result[1];
      client.nonce2Bytes = reply.result[2];
      await until('a job', () => client.jobs.length > 0);
    }
    if (request.method === 'mining.submit' && reply.result === true) counts.accepted += 1;
  }
  expect(counts.sent).toBeGreaterThan(20);
  expect(counts.accepted).toBe(counts.sent);
});
