/**
 * A CPU miner that speaks stratum over TCP like any other, so that the playground's shares take the way of real ones.
 * Flow: pool → `mining.notify` → header → `miner-worker.ts` → `mining.submit` → pool.
 *
 * It takes a part of one core only (`dutyCycle`), connects again whenever the line ends, and counts.
 *
 * @see https://en.bitcoin.it/wiki/Stratum_mining_protocol; BIP 310 (mining.configure)
 */
import * as net from 'node:net';
import { Worker } from 'node:worker_threads';
import { bytesFromHex, concatBytes, hexFromBytes, uint32Be } from '../core/bitcoin/bytes.ts';
import { sha256d } from '../core/bitcoin/hash.ts';
import { headerBytes, prevHashFromStratum } from '../core/bitcoin/header.ts';
import { rootFromBranch } from '../core/bitcoin/merkle.ts';
import { targetFromDifficulty } from '../core/bitcoin/target.ts';
import type { Log } from '../core/lifecycle.ts';
import type { FromWorker, ToWorker } from './miner-worker.ts';

export interface CpuMinerOptions {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly pass: string;
  /** Part of one core, above 0 up to 1; default 0.25. */
  readonly dutyCycle?: number;
  /** For log lines and the user agent. */
  readonly name?: string;
  /** Sent as `mining.suggest_difficulty` where given. */
  readonly suggestDifficulty?: number;
  /** Ask for version rolling (BIP 310) and use it; default true. */
  readonly versionRolling?: boolean;
  readonly log?: Log;
}

export interface MinerCounters {
  readonly connected: boolean;
  readonly authorized: boolean;
  /** Difficulty in force; null before the first. */
  readonly difficulty: number | null;
  readonly hashes: number;
  /** Over the last few seconds. */
  readonly hashrateHps: number;
  readonly jobs: number;
  readonly submitted: number;
  readonly accepted: number;
  readonly rejected: number;
  /** The pool's words, with their counts. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly connections: number;
}

export interface CpuMiner {
  counters(): MinerCounters;
  close(): Promise<void>;
}

/** What a miner builds its headers from: one `mining.notify`, read. */
export interface NotifiedJob {
  readonly jobId: string;
  /** Internal order. */
  readonly prevHash: Uint8Array;
  readonly part1: Uint8Array;
  readonly part2: Uint8Array;
  readonly branch: readonly Uint8Array[];
  readonly version: number;
  readonly bits: number;
  readonly time: number;
  readonly clean: boolean;
}

const DEFAULT_DUTY_CYCLE = 0.25;
const MAX_LINE_BYTES = 1024 * 1024;
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 5_000;
/** A pool renews its work at least every few minutes. */
const SILENCE_MS = 5 * 60_000;
const RATE_WINDOW_MS = 10_000;

/**
 * Reads the parameters of `mining.notify`.
 * @throws RangeError naming what is wrong
 */
export function jobFromNotify(params: unknown): NotifiedJob {
  if (!Array.isArray(params) || params.length < 9) throw new RangeError('mining.notify: expected nine parameters');
  const [jobId, prevHash, part1, part2, branch, version, bits, time, clean] = params as unknown[];
  const text = (what: string, value: unknown): string => {
    if (typeof value !== 'string') throw new RangeError(`mining.notify: ${what}: expected a text`);
    return value;
  };
  const number = (what: string, value: unknown): number =>
    new DataView(bytesFromHex(text(what, value), what, 4).slice().buffer).getUint32(0);
  if (!Array.isArray(branch) || branch.length > 32)
    throw new RangeError('mining.notify: merkle branch: expected a list');
  return {
    jobId: text('job id', jobId),
    prevHash: prevHashFromStratum(text('previous hash', prevHash)),
    part1: bytesFromHex(text('coinbase part 1', part1), 'coinbase part 1'),
    part2: bytesFromHex(text('coinbase part 2', part2), 'coinbase part 2'),
    branch: branch.map((step, i) => bytesFromHex(text(`branch ${i}`, step), `branch ${i}`, 32)),
    version: number('version', version),
    bits: number('nbits', bits),
    time: number('ntime', time),
    clean: clean === true,
  };
}

/** The header of a job with its nonce at 0: the same input gives the same 80 bytes. */
export function headerOf(
  job: NotifiedJob,
  extranonce1: Uint8Array,
  extranonce2: Uint8Array,
  version: number,
): Uint8Array {
  const coinbase = concatBytes(job.part1, extranonce1, extranonce2, job.part2);
  return headerBytes({
    version,
    prevHash: job.prevHash,
    merkleRoot: rootFromBranch(sha256d(coinbase), job.branch),
    time: job.time,
    bits: job.bits,
    nonce: 0,
  });
}

/** Spreads a counter over the bits of a mask, lowest first: versions that differ while the mask has room. */
export function bitsInMask(counter: number, mask: number): number {
  let left = counter;
  let out = 0;
  for (let bit = 0; bit < 32 && left > 0; bit++) {
    if ((mask & (1 << bit)) === 0) continue;
    if ((left & 1) !== 0) out |= 1 << bit;
    left >>>= 1;
  }
  return out >>> 0;
}

interface Assignment {
  readonly id: number;
  readonly job: NotifiedJob;
  readonly extranonce2: string;
  readonly versionBits: number;
}

/** Starts mining; it goes on until it is closed. @throws RangeError for a duty cycle outside its range */
export function startCpuMiner(options: CpuMinerOptions): CpuMiner {
  const { host, port, user, pass } = options;
  const name = options.name ?? user;
  const log = options.log ?? (() => {});
  const dutyCycle = options.dutyCycle ?? DEFAULT_DUTY_CYCLE;
  if (!(dutyCycle > 0 && dutyCycle <= 1)) throw new RangeError(`dutyCycle: expected above 0 up to 1, got ${dutyCycle}`);

  const worker = new Worker(new URL('./miner-worker.ts', import.meta.url), { name: `miner ${name}` });
  const counts = { hashes: 0, jobs: 0, submitted: 0, accepted: 0, rejected: 0, connections: 0 };
  const reasons: Record<string, number> = {};
  const rate: { atMs: number; count: number }[] = [];
  let closed = false;
  let socket: net.Socket | undefined;
  let pauseMs = FIRST_PAUSE_MS;
  let pauseTimer: NodeJS.Timeout | undefined;
  let said = '';

  // What one connection agreed on; forgotten with it.
  let session = newSession();
  function newSession() {
    return {
      nextId: 1,
      waiting: new Map<number, (result: unknown, error: unknown, reply: Record<string, unknown>) => void>(),
      connected: false,
      authorized: false,
      extranonce1: null as Uint8Array | null,
      extranonce2Size: 0,
      extranonce2: 0n,
      mask: 0,
      difficulty: null as number | null,
      job: null as NotifiedJob | null,
    };
  }
  let assignments = 0;
  /** Work of the present session whose nonces may still come. */
  const given = new Map<number, Assignment>();

  function say(line: string): void {
    // A pool that is down says the same thing every five seconds.
    if (line !== said) log(`miner ${name}: ${line}`);
    said = line;
  }

  worker.on('message', (message: FromWorker) => {
    if (message.kind === 'hashes') {
      counts.hashes += message.count;
      rate.push({ atMs: performance.now(), count: message.count });
      while (rate.length > 0 && rate[0]!.atMs < performance.now() - RATE_WINDOW_MS) rate.shift();
      return;
    }
    const assignment = given.get(message.id);
    if (assignment === undefined) return;
    if (message.kind === 'found') submit(assignment, message.nonce);
    else assign();
  });
  worker.on('error', (error) => {
    log(`miner ${name}: the hashing thread failed: ${error.message}`);
    void close();
  });

  function post(message: ToWorker): void {
    worker.postMessage(message);
  }

  function idle(): void {
    given.clear();
    post({ work: null, dutyCycle });
  }

  /** Gives the thread fresh work of the present job: another extranonce2, other version bits. */
  function assign(): void {
    const { job, extranonce1, extranonce2Size, difficulty, mask, authorized } = session;
    if (job === null || extranonce1 === null || difficulty === null || !authorized) return;
    const id = ++assignments;
    const extranonce2 = (session.extranonce2++ % (1n << BigInt(extranonce2Size * 8)))
      .toString(16)
      .padStart(extranonce2Size * 2, '0');
    const versionBits = bitsInMask(id, mask);
    const version = ((job.version & ~mask) | versionBits) >>> 0;
    const header = headerOf(job, extranonce1, bytesFromHex(extranonce2), mask === 0 ? job.version : version);
    given.set(id, { id, job, extranonce2, versionBits });
    post({ work: { id, header, target: targetFromDifficulty(difficulty) }, dutyCycle });
  }

  function submit({ job, extranonce2, versionBits }: Assignment, nonce: number): void {
    counts.submitted++;
    const params = [user, job.jobId, extranonce2, hexFromBytes(uint32Be(job.time)), hexFromBytes(uint32Be(nonce))];
    if (session.mask !== 0) params.push(hexFromBytes(uint32Be(versionBits)));
    request('mining.submit', params, (result, error, reply) => {
      if (result === true) {
        counts.accepted++;
        return;
      }
      counts.rejected++;
      const reason = String((Array.isArray(error) ? error[1] : error) ?? reply['reject-reason'] ?? 'refused').slice(
        0,
        100,
      );
      reasons[reason] = (reasons[reason] ?? 0) + 1;
    });
  }

  // --- the line --------------------------------------------------------------------------------------------------------------

  function send(message: unknown): void {
    if (socket?.writable) socket.write(`${JSON.stringify(message)}\n`);
  }

  function request(
    method: string,
    params: unknown[],
    then: (result: unknown, error: unknown, reply: Record<string, unknown>) => void,
  ): void {
    const id = session.nextId++;
    session.waiting.set(id, then);
    send({ id, method, params });
  }

  function connect(): void {
    if (closed) return;
    session = newSession();
    idle();
    const line = net.connect({ host, port, noDelay: true });
    socket = line;
    let rest = '';
    line.setEncoding('utf8');
    line.setTimeout(SILENCE_MS, () => end('the pool was silent for too long'));
    let why = 'the pool closed the line';
    function end(reason: string): void {
      why = reason;
      line.destroy();
    }
    line.on('connect', () => {
      session.connected = true;
      counts.connections++;
      hello(end);
    });
    line.on('data', (chunk: string) => {
      rest += chunk;
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE_BYTES) end('the pool sent a line without end');
      for (const text of lines) {
        if (text.trim() === '') continue;
        try {
          receive(JSON.parse(text), end);
        } catch (error) {
          end(`the pool sent what is not understood: ${(error as Error).message}`);
          return;
        }
      }
    });
    line.on('error', (error) => {
      why = error.message;
    });
    line.on('close', () => {
      session.connected = false;
      session.authorized = false;
      idle();
      if (closed) return;
      say(`${why}; connecting again`);
      pauseTimer = setTimeout(connect, pauseMs);
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    });
  }

  function hello(end: (why: string) => void): void {
    if (options.versionRolling !== false) {
      request(
        'mining.configure',
        [['version-rolling'], { 'version-rolling.mask': '1fffe000', 'version-rolling.min-bit-count': 2 }],
        (result) => {
          const answer = (result ?? {}) as Record<string, unknown>;
          const mask = answer['version-rolling.mask'];
          if (answer['version-rolling'] === true && typeof mask === 'string' && /^[0-9a-f]{8}$/i.test(mask))
            session.mask = Number.parseInt(mask, 16);
        },
      );
    }
    request('mining.subscribe', [`lodestream-cpu/${name}`], (result, error) => {
      const [, extranonce1, size] = Array.isArray(result) ? (result as unknown[]) : [];
      if (typeof extranonce1 !== 'string' || !Number.isInteger(size) || (size as number) < 1 || (size as number) > 8) {
        end(`the pool refuses the subscription: ${JSON.stringify(error)}`);
        return;
      }
      session.extranonce1 = bytesFromHex(extranonce1, 'extranonce1');
      session.extranonce2Size = size as number;
      request('mining.authorize', [user, pass], (allowed, refusal) => {
        if (allowed !== true) {
          end(`the pool refuses ${user}: ${JSON.stringify(refusal)}`);
          return;
        }
        session.authorized = true;
        pauseMs = FIRST_PAUSE_MS;
        say(`mining at ${host}:${port} as ${user}`);
        if (options.suggestDifficulty !== undefined)
          request('mining.suggest_difficulty', [options.suggestDifficulty], () => {});
        assign();
      });
    });
  }

  function receive(message: unknown, end: (why: string) => void): void {
    if (typeof message !== 'object' || message === null) throw new RangeError('no object');
    const fields = message as Record<string, unknown>;
    const { id, method, params } = fields;
    if (typeof method !== 'string') {
      const then = session.waiting.get(id as number);
      session.waiting.delete(id as number);
      then?.(fields.result, fields.error, fields);
      return;
    }
    const list = Array.isArray(params) ? (params as unknown[]) : [];
    switch (method) {
      case 'mining.notify': {
        const job = jobFromNotify(params);
        counts.jobs++;
        session.job = job;
        if (job.clean) given.clear();
        else for (const old of [...given.keys()].slice(0, -8)) given.delete(old);
        assign();
        return;
      }
      case 'mining.set_difficulty': {
        const difficulty = list[0];
        if (typeof difficulty !== 'number' || !(difficulty > 0 && difficulty < Number.POSITIVE_INFINITY))
          throw new RangeError('mining.set_difficulty: expected a number above 0');
        session.difficulty = difficulty;
        assign();
        return;
      }
      case 'mining.set_extranonce': {
        if (typeof list[0] !== 'string' || !Number.isInteger(list[1]))
          throw new RangeError('mining.set_extranonce: expected a text and a size');
        session.extranonce1 = bytesFromHex(list[0], 'extranonce1');
        session.extranonce2Size = list[1] as number;
        return;
      }
      case 'mining.set_version_mask': {
        if (typeof list[0] === 'string' && /^[0-9a-f]{8}$/i.test(list[0])) session.mask = Number.parseInt(list[0], 16);
        return;
      }
      case 'mining.ping':
        send({ id, result: 'pong', error: null });
        return;
      case 'client.get_version':
        send({ id, result: `lodestream-cpu/${name}`, error: null });
        return;
      case 'client.reconnect':
        end('the pool asks to connect again');
        return;
      default:
        if (id !== undefined && id !== null) send({ id, result: null, error: [20, 'Unknown method', null] });
    }
  }

  async function close(): Promise<void> {
    closed = true;
    clearTimeout(pauseTimer);
    socket?.destroy();
    await worker.terminate();
  }

  connect();
  return {
    counters() {
      const nowMs = performance.now();
      const recent = rate.filter(({ atMs }) => atMs > nowMs - RATE_WINDOW_MS);
      const spanMs = recent.length === 0 ? 0 : nowMs - recent[0]!.atMs;
      return {
        connected: session.connected,
        authorized: session.authorized,
        difficulty: session.difficulty,
        ...counts,
        hashrateHps: spanMs < 1 ? 0 : (recent.reduce((sum, { count }) => sum + count, 0) * 1_000) / spanMs,
        reasons: { ...reasons },
      };
    },
    close,
  };
}
