/**
 * The recordings byte for byte: the recorded jobs under their recorded ids, the recorded clients' bytes in their recorded order. So extranonce1,
 * jobs, hashes, difficulties reached and verdicts must be the recorded ones. What is changed or left out stands in
 * fixtures/ckpool/NORMALISATION.md.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterEach, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { bytesFromHex } from '../../../services/core/bitcoin/bytes.ts';
import { hashHex, prevHashFromStratum } from '../../../services/core/bitcoin/header.ts';
import { EnonceAllocator } from '../../../services/stratum/work/enonce.ts';
import { type Job, JobRegistry } from '../../../services/stratum/work/job.ts';
import type { WorkSource } from '../../../services/stratum/work/source.ts';
import { until } from '../../helpers/leash.ts';
import { type Client, type Rig, startRig } from './rig.ts';

const FIXTURES = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));

interface Chunk {
  readonly t: number;
  readonly conn: number;
  readonly dir: 'open' | 'c2s' | 's2c' | 'close';
  readonly data?: string;
  readonly by?: string;
}

// biome-ignore lint/suspicious/noExplicitAny: a recorded message
type Message = any;

function textOf(path: string): string {
  const bytes = readFileSync(path);
  return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('latin1');
}

function parsed(line: string): Message {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** What CKPool wrote of each share, by all that the miner chose. */
function shareLogs(scenario: string): Map<string, Message> {
  const found = new Map<string, Message>();
  const root = join(FIXTURES, scenario, 'logs');
  for (const height of readdirSync(root).filter((name) => /^[0-9a-f]{8}$/.test(name))) {
    for (const name of readdirSync(join(root, height))) {
      for (const line of textOf(join(root, height, name)).split('\n')) {
        const share = line === '' ? null : parsed(line);
        if (share !== null) found.set(keyOf(share), share);
      }
    }
  }
  return found;
}

function keyOf({ enonce1, nonce2, nonce, ntime, errn }: Message): string {
  return [enonce1, nonce2, nonce, ntime, errn].join('/');
}

/** The words of an error in any form; null for none. */
function words({ error, 'reject-reason': reason }: Message): string | null {
  if (typeof reason === 'string') return reason;
  return Array.isArray(error) ? error[1] : (error ?? null);
}

/** Recorded jobs as a source of work. */
class Recorded implements WorkSource {
  readonly jobs: JobRegistry;
  readonly enonces: EnonceAllocator;
  readonly nonce2Bytes: number;
  readonly versionMask = 0x1fffe000;
  readonly #rig: Rig;
  readonly #enonce1Bytes: number;

  constructor(rig: Rig, enonce1: string, nonce2Bytes: number) {
    this.#rig = rig;
    this.#enonce1Bytes = enonce1.length / 2;
    this.jobs = new JobRegistry(rig.daemon.config.origin, rig.profile, rig.daemon.ids);
    // The last four bytes are a counter, little-endian; before them stands the upstream's extranonce1.
    const counter = Buffer.from(enonce1.slice(-8), 'hex').readUInt32LE();
    this.enonces = new EnonceAllocator(bytesFromHex(enonce1.slice(0, -8)), 4, BigInt(counter));
    this.nonce2Bytes = nonce2Bytes;
  }

  take(params: Message): Job {
    const [id, prev, part1, part2, branch, version, bits, ntime] = params;
    const content = {
      height: 0,
      prevHashRpc: hashHex(prevHashFromStratum(prev)),
      coinbase1: bytesFromHex(part1),
      coinbase2: bytesFromHex(part2),
      branch: branch.map((step: string) => bytesFromHex(step)),
      version: Number.parseInt(version, 16),
      versionMask: this.versionMask,
      bits: Number.parseInt(bits, 16),
      ntime: Number.parseInt(ntime, 16),
      enonce1Bytes: this.#enonce1Bytes,
      nonce2Bytes: this.nonce2Bytes,
    };
    const made = { id, value: null, txCount: 0, template: null, upstream: null };
    const job = this.#rig.daemon.makeJob(this.jobs, content, made);
    // As CKPool does on regtest: the network's difficulty counts as 1 at least.
    Object.assign(job, { cap: Math.max(job.cap, 1), target: 0n });
    this.#rig.daemon.broadcast(this, job);
    return job;
  }

  readonly solo = false;
  jobFor(_user: string, job: Job): Job {
    return job;
  }
  userFault(): string | null {
    return null;
  }
  variant(): Job | null {
    return null;
  }
  txids(): readonly string[] {
    return [];
  }
  concerns(): boolean {
    return false;
  }
  judged(): void {}
}

/**
 * Requests that ours answers by another rule, each with its own case in the conformance table; they are not sent, for what they would do
 * (a share counted for the second worker of a line, a difficulty heeded) would change what comes after.
 */
function isLeftOut(request: Message, theirs: Message | undefined): boolean {
  const { method, params } = request;
  if (/nosuchmethod|multi_version|extranonce|configure|suggest/.test(String(method))) return true;
  // A second worker on a line, and its shares.
  if (method === 'mining.authorize') return theirs === undefined;
  if (method === 'mining.subscribe') return params === undefined;
  if (method !== 'mining.submit' || theirs === undefined) return false;
  const said = words(theirs);
  const early = said === 'Stale' && Object.keys(theirs).join() === 'result,id,error';
  const short = said === 'No nonce' && /^[0-9a-f]{1,7}$/.test(params[4]);
  return said === 'Worker mismatch' || early || short;
}

/** Requests of each connection with the reply that the recording has, in order. */
function answersOf(
  chunks: readonly Chunk[],
): Map<number, { line: string; request: Message; theirs: Message | undefined }[]> {
  const found = new Map<number, { line: string; request: Message; theirs: Message | undefined }[]>();
  for (const conn of new Set(chunks.map((chunk) => chunk.conn))) {
    const side = (dir: string): string[] =>
      chunks
        .filter((chunk) => chunk.conn === conn && chunk.dir === dir)
        .map(({ data }) => data)
        .join('')
        .split('\n');
    const replies = new Map<string, Message[]>();
    for (const message of side('s2c').map(parsed)) {
      if (message === null || typeof message !== 'object' || message.method !== undefined) continue;
      const id = idOf(message);
      replies.set(id, [...(replies.get(id) ?? []), message]);
    }
    found.set(
      conn,
      side('c2s').flatMap((line) => {
        const request = parsed(line);
        if (request === null || typeof request !== 'object' || Array.isArray(request)) return [];
        return [{ line, request, theirs: replies.get(idOf(request))?.shift() }];
      }),
    );
  }
  return found;
}

/** Ids as text; a missing one is as null. */
function idOf({ id }: Message): string {
  return JSON.stringify(id ?? null);
}

let rig: Rig | null = null;
afterEach(async () => {
  await rig?.close();
  rig = null;
});

interface Counts {
  replies: number;
  shares: number;
  notifies: number;
  logged: number;
}

async function replay(
  { scenario, file, config, logs: logged }: Recording,
  compat: 'lodestream' | 'ckpool',
): Promise<Counts> {
  const chunks = textOf(join(FIXTURES, scenario, file))
    .split('\n')
    .filter((line) => line !== '')
    .map((line): Chunk => JSON.parse(line));
  const running = await startRig({ config: { minDiff: 1e-8, maxDiff: 0, compat, ...config }, template: null });
  rig = running;
  const { daemon, journal } = running;
  running.tick(chunks[0]!.t * 1_000 - daemon.nowMs());

  // The first subscription and the first job tell where the recorded pool stood.
  const lines = chunks.filter(({ dir }) => dir === 's2c').flatMap(({ data }) => data!.split('\n').map(parsed));
  const subscribed = lines.find((message) => Array.isArray(message?.result));
  const source = new Recorded(running, subscribed.result[1], subscribed.result[2]);
  daemon.pickSource = () => source;
  const counts: Counts = { replies: 0, shares: 0, notifies: 0, logged: 0 };
  /** Our text of each job, by its id. */
  const texts = new Map<string, readonly string[]>();
  const take = (params: Message): void => {
    if (texts.has(params[0])) return;
    texts.set(
      params[0],
      source.take(params).notify.map((text) => text.trimEnd()),
    );
  };
  take(lines.find((message) => message?.method === 'mining.notify').params);

  const answers = answersOf(chunks);
  const leftOut = new Set<string>();
  for (const [conn, list] of answers) {
    for (const { line, request, theirs } of list) if (isLeftOut(request, theirs)) leftOut.add(`${conn} ${line}`);
  }
  const clients = new Map<number, Client>();
  const rests = new Map<number, string>();
  const sessionIds = new Map<string, string>();
  const waiting = new Set<Client>();
  /** Lines whose difficulty has changed: which job it counts from is each pool's own rule. */
  const changed = new Set<string>();
  let barriers = 0;
  /** Everything that was sent so far is answered. */
  const settle = async (): Promise<void> => {
    for (const client of waiting) {
      const barrier = `barrier ${barriers++}`;
      client.write(`${JSON.stringify({ id: barrier, method: 'mining.configure', params: [['info'], {}] })}\n`);
      await until(barrier, () => client.closed || client.messages.findLast(({ id }) => id === barrier) !== undefined);
    }
    waiting.clear();
  };
  for (const chunk of chunks) {
    const { conn } = chunk;
    if (chunk.dir === 'open') {
      clients.set(conn, await running.client());
      continue;
    }
    const client = clients.get(conn)!;
    if (chunk.dir === 'close') {
      await settle();
      const sessions = daemon.sessions.size;
      const open = !client.closed;
      client.destroy();
      if (open) await until('the line is gone', () => daemon.sessions.size < sessions || client.closed);
      continue;
    }
    running.tick(chunk.t * 1_000 - daemon.nowMs());
    if (chunk.dir === 'c2s') {
      let data = chunk.data!;
      for (const [from, to] of sessionIds) data = data.replaceAll(from, to);
      const lines = data.split('\n');
      const kept = lines.filter((line) => !leftOut.has(`${conn} ${line}`)).join('\n');
      if (kept === '') continue;
      client.socket.write(Buffer.from(kept, 'latin1'));
      if (kept.endsWith('\n')) waiting.add(client);
      continue;
    }
    const parts = ((rests.get(conn) ?? '') + chunk.data!).split('\n');
    rests.set(conn, parts.pop()!);
    for (const line of parts) {
      const message = parsed(line);
      if (message === null || typeof message !== 'object') continue;
      if (message.method === 'mining.notify') {
        if (!texts.has(message.params[0])) await settle();
        take(message.params);
        // To the byte, but for the flag of a clean one: that depends on who is told.
        expect(texts.get(message.params[0])).toContain(line);
        counts.notifies += 1;
      } else if (message.method === 'mining.set_difficulty') {
        await settle();
        // The fork's own rules decided that; ours follows.
        const session = [...daemon.sessions].find(({ enonce1Hex }) => enonce1Hex === client.enonce1);
        const wanted = message.params[0];
        if (session === undefined || session.difficulty === wanted) continue;
        changed.add(session.enonce1Hex);
        session.changeDifficulty(wanted, 'recorded');
      } else if (Array.isArray(message.result)) {
        await settle();
        const ours = client.messages.find(({ id, result }) => id === message.id && Array.isArray(result));
        expect(ours, `${scenario} ${conn}: ${line}`).toBeDefined();
        // A value that is determined: the next of the counter, or that of the session resumed.
        expect(ours.result.slice(1), `${scenario} ${conn}: extranonce1`).toEqual(message.result.slice(1));
        client.enonce1 = ours.result[1];
        sessionIds.set(message.result[0][0][1], ours.result[0][0][1]);
      }
    }
  }
  await settle();

  for (const [conn, client] of clients) {
    const ours = new Map<string, Message[]>();
    for (const message of client.messages) {
      if (message.method !== undefined || message.text !== undefined) continue;
      ours.set(idOf(message), [...(ours.get(idOf(message)) ?? []), message]);
    }
    for (const { line, request, theirs } of answers.get(conn)!) {
      // Without a recorded reply: the recording ended, or the line was closed, before one came.
      if (leftOut.has(`${conn} ${line}`) || theirs === undefined) continue;
      const got = ours.get(idOf(request))?.shift();
      const where = `${scenario} ${conn}: ${line} was answered ${JSON.stringify(theirs)}`;
      expect(got, where).toBeDefined();
      expect(words(got), where).toBe(words(theirs));
      if (!Array.isArray(theirs.result)) expect(got.result ?? null, where).toEqual(theirs.result ?? null);
      counts.replies += 1;
    }
  }

  const logs = shareLogs(logged);
  for (const share of journal.of('share') as Inputs['share'][]) {
    counts.shares += 1;
    const line = logs.get(keyOf(share));
    if (line === undefined) continue;
    counts.logged += 1;
    expect([share.sdiff, share.hash, share.accepted, share.worker], keyOf(share)).toEqual([
      line.sdiff,
      line.hash,
      line.result,
      line.workername,
    ]);
    if (share.accepted && !changed.has(share.enonce1 ?? '')) expect(share.diff, keyOf(share)).toBe(line.diff);
  }
  return counts;
}

type Config = NonNullable<Parameters<typeof startRig>[0]>['config'];

interface Recording {
  readonly scenario: string;
  readonly file: string;
  /** Where the pool of the recording wrote its share logs. */
  readonly logs: string;
  readonly config: Config;
  readonly compat: readonly ('lodestream' | 'ckpool')[];
  /** `logged`: shares whose line is in the logs kept here. */
  readonly counts: Counts;
}

const PINNED = { startDiff: 5e-5, maxDiff: 5e-5 };
const BOTH = ['lodestream', 'ckpool'] as const;
const RECORDINGS: readonly Recording[] = [
  {
    scenario: 'regtest-rejects',
    file: 'stratum.jsonl',
    logs: 'regtest-rejects',
    config: { startDiff: 0.001 },
    // The fork takes a fall at once, which CKPool does not.
    compat: ['lodestream'],
    counts: { replies: 312, shares: 222, notifies: 44, logged: 222 },
  },
  {
    scenario: 'regtest-blocks',
    file: 'stratum.jsonl.gz',
    logs: 'regtest-blocks',
    config: { startDiff: 0.001 },
    compat: ['lodestream'],
    counts: { replies: 138, shares: 139, notifies: 268, logged: 135 },
  },
  {
    scenario: 'testnet-shares',
    file: 'stratum.jsonl.gz',
    logs: 'testnet-shares',
    config: PINNED,
    compat: BOTH,
    counts: { replies: 75, shares: 31, notifies: 16, logged: 31 },
  },
  {
    scenario: 'testnet-proxy',
    file: 'stratum-downstream.jsonl.gz',
    logs: 'testnet-proxy',
    config: PINNED,
    compat: BOTH,
    counts: { replies: 6760, shares: 6756, notifies: 6, logged: 6756 },
  },
  {
    scenario: 'testnet-proxy',
    file: 'stratum-upstream.jsonl.gz',
    logs: 'testnet-shares',
    config: PINNED,
    compat: BOTH,
    counts: { replies: 6758, shares: 6756, notifies: 16, logged: 5266 },
  },
];

for (const recording of RECORDINGS) {
  for (const compat of recording.compat) {
    test(`${recording.scenario}/${recording.file} under compat ${compat}: every reply, every job and every number is the recorded one`, async () => {
      expect(await replay(recording, compat)).toEqual(recording.counts);
    });
  }
}
