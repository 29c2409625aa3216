/**
 * For the tests of this room: a daemon in pool mode on a port of its own, fed with templates by hand; a journal that keeps its entries in
 * memory; and a client that speaks stratum and can mine. The template is the one recorded from Bitcoin Knots in fixtures/ckpool,
 * with the height, previous block and nBits that a test asks for.
 */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { decoderFor } from '../../../schemas/codec.ts';
import type { Events, Inputs, Topic } from '../../../schemas/events.ts';
import { type PowAlgorithm, powHash } from '../../../services/core/bitcoin/pow.ts';
import {
  bitsHex,
  hashValue,
  shareDifficulty,
  targetFromBits,
  targetHex,
} from '../../../services/core/bitcoin/target.ts';
import { type ChainProfile, loadChain } from '../../../services/core/chains/profile.ts';
import { type Config, type ListenerConfig, loadConfig } from '../../../services/core/config.ts';
import { PoolError } from '../../../services/core/errors.ts';
import type { Lifecycle } from '../../../services/core/lifecycle.ts';
import type { EncodedEvents, JournalWriter, LogEntry } from '../../../services/core/log/event-log.ts';
import { openJournalLog } from '../../../services/core/log/journal.ts';
import { checkTemplate, reduceTemplate, type Template } from '../../../services/core/node/template.ts';
import type { SubmitAnswer } from '../../../services/core/node/templates.ts';
import type { AllowanceOptions } from '../../../services/stratum/allowances.ts';
import { Daemon, type DaemonOptions } from '../../../services/stratum/daemon.ts';
import { startServer } from '../../../services/stratum/edge/server.ts';
import { BlockDesk } from '../../../services/stratum/work/blocks.ts';
import { openJobIds } from '../../../services/stratum/work/job.ts';
import { PoolSource, poolIdentity } from '../../../services/stratum/work/pool.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { headerFromNotify } from '../../helpers/notify-header.ts';
import { searchNonce } from '../../helpers/search-nonce.ts';

/** Difficulty 1: no share that these tests mine solves it. */
export const BITS_HARD = 0x1d00ffff;
/** Regtest's: every second hash solves it. */
export const BITS_EASY = 0x207fffff;

export const ADDRESS_REGTEST = 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy';

export function template(
  profile: ChainProfile,
  of: { height?: number; prevHash?: string; bits?: number; curtime?: number } = {},
): Template {
  const bits = of.bits ?? BITS_HARD;
  const full = checkTemplate(
    {
      capabilities: ['proposal'],
      version: 536870912,
      rules: ['csv', '!segwit', 'taproot'],
      previousblockhash: of.prevHash ?? '2c4993fd6b8aa710460b032451a6393f9f44f76c79f0ee1d5f46d033dcb420ba',
      transactions: [],
      coinbaseaux: {},
      coinbasevalue: 5000000000,
      longpollid: 'x',
      target: targetHex(targetFromBits(bits)),
      mintime: 1795327603,
      curtime: of.curtime ?? 1795327752,
      bits: bitsHex(bits),
      height: of.height ?? 111,
      default_witness_commitment: '6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9',
    },
    profile,
  );
  return reduceTemplate(full).template;
}

class MemoryJournal implements JournalWriter {
  readonly instance = 'test';
  readonly run = '0000000000000000';
  readonly cramped = false;
  readonly entries: LogEntry[] = [];
  /** Set: appending fails, as on a full disk. */
  full = false;
  /** Each turn waits for a sync. */
  fsync = false;
  /** Not null: a sync ends when its function here is called. */
  syncs: ((error?: Error) => void)[] | null = null;
  write(entries: readonly LogEntry[], encoded?: EncodedEvents): boolean {
    this.append(entries, encoded);
    return this.fsync;
  }
  sync(): Promise<void> {
    const { syncs } = this;
    if (syncs === null) return Promise.resolve();
    return new Promise((resolve, reject) => syncs.push((error) => (error === undefined ? resolve() : reject(error))));
  }
  append(entries: readonly LogEntry[], encoded?: EncodedEvents): void {
    if (this.full) throw new PoolError('disk', 'the journal cannot write: ENOSPC');
    this.entries.push(...entries);
    if (encoded === undefined || encoded.count === 0) return;
    const decode = decoderFor(encoded.topic);
    for (let i = 0, from = 0; i < encoded.count; from = encoded.ends[i++]!) {
      const event = { ...decode(Buffer.from(encoded.bytes.subarray(from, encoded.ends[i]!))) };
      this.entries.push({ topic: encoded.topic, event } as LogEntry);
    }
  }
  close(): void {}
  of<T extends Topic>(topic: T): Inputs[T][] {
    return this.entries.filter((entry) => entry.topic === topic).map((entry) => entry.event as Inputs[T]);
  }
}

export interface Rig {
  readonly port: number;
  /** Of all listeners. */
  readonly addresses: readonly ListenerConfig[];
  readonly profile: ChainProfile;
  readonly daemon: Daemon;
  readonly source: PoolSource;
  readonly journal: MemoryJournal;
  readonly dir: string;
  /** Blocks handed to the node, hex. */
  readonly submitted: string[];
  readonly lines: string[];
  /** What the node answers; by default it accepts. */
  nodeAnswers: () => SubmitAnswer[];
  /** Moves the clock on, milliseconds. */
  tick(ms: number): void;
  client(): Promise<Client>;
  close(): Promise<void>;
}

export async function startRig(
  options: {
    chain?: string;
    config?: Partial<Config>;
    template?: Template | null;
    bits?: number;
    lineLimitBytes?: number;
    allowances?: AllowanceOptions;
    disk?: DaemonOptions['disk'];
  } = {},
): Promise<Rig> {
  const dir = tempDir('stratum');
  const profile = loadChain(options.chain ?? 'regtest');
  const config: Config = {
    ...loadConfig({ options: { 'lodestream.data_dir': dir.path, logdir: `${dir.path}/logs` } }, {}),
    btcAddress: ADDRESS_REGTEST,
    minDiff: 1e-6,
    startDiff: 1e-6,
    listen: [{ host: '127.0.0.1', port: 0 }],
    ...options.config,
  };
  const journal = new MemoryJournal();
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  let offsetMs = 0;
  const nowMs = (): number => Date.now() + offsetMs;
  const daemon = new Daemon({
    ...(options.disk === undefined ? {} : { disk: options.disk }),
    config,
    profile,
    writer: journal,
    ids: openJobIds(`${dir.path}/last-job`, nowMs()),
    log,
    nowMs,
    ...(options.allowances === undefined ? {} : { allowances: options.allowances }),
  });
  const submitted: string[] = [];
  const rig = { nodeAnswers: (): SubmitAnswer[] => [{ node: 'n1', answer: 'accepted', accepted: true }] };
  const blocks = new BlockDesk({
    dir: `${dir.path}/blocks`,
    templates: {
      async submitBlock(hex, onAnswer) {
        submitted.push(hex);
        const answers = rig.nodeAnswers();
        await Promise.resolve();
        for (const answer of answers) onAnswer?.(answer);
        return answers;
      },
      async preferBlock() {},
    },
    facts: daemon.facts,
    log,
    againMs: 20,
  });
  const source = new PoolSource(daemon, poolIdentity(config, profile), blocks);
  daemon.pickSource = () => source;
  daemon.ready = true;
  const first =
    options.template === undefined ? template(profile, { bits: options.bits ?? BITS_HARD }) : options.template;
  if (first !== null) source.take(first);
  const server = await startServer({
    listen: config.listen,
    lineLimitBytes: options.lineLimitBytes ?? 8_192,
    maxClients: Infinity,
    log,
    signal: new AbortController().signal,
    onConnection: (connection) => daemon.connect(connection),
  });
  const clients: Client[] = [];
  return Object.assign(rig, {
    port: server.addresses[0]!.port,
    addresses: server.addresses,
    profile,
    daemon,
    source,
    journal,
    dir: dir.path,
    submitted,
    lines,
    tick: (ms: number) => {
      offsetMs += ms;
    },
    client: async () => {
      const client = await Client.open(server.addresses[0]!.port);
      clients.push(client);
      return client;
    },
    close: async () => {
      for (const client of clients) client.destroy();
      await server.close();
      await blocks.close();
      await daemon.close();
      dir.remove();
    },
  });
}

export interface Work {
  readonly id: string;
  readonly params: unknown[];
  readonly clean: boolean;
  readonly ntime: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a test reads the field that it expects
type Message = any;

/** A stratum client over a real socket. */
export class Client {
  readonly socket: Socket;
  /** All messages so far. */
  readonly messages: Message[] = [];
  /** All lines so far, as text. */
  readonly lines: string[] = [];
  readonly jobs: Work[] = [];
  readonly difficulties: number[] = [];
  closed = false;
  enonce1 = '';
  nonce2Bytes = 0;
  sessionId = '';
  #rest = '';
  #nextId = 100;

  static async open(port: number): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Client(socket);
  }

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (this.#rest + chunk).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) this.#take(line);
    });
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      this.closed = true;
    });
  }

  #take(line: string): void {
    this.lines.push(line);
    let message: Message;
    try {
      message = JSON.parse(line);
    } catch {
      message = { text: line };
    }
    this.messages.push(message);
    if (message.method === 'mining.set_difficulty') this.difficulties.push(message.params[0]);
    if (message.method === 'mining.notify') {
      this.jobs.push({
        id: message.params[0],
        params: message.params,
        clean: message.params[8],
        ntime: Number.parseInt(message.params[7], 16),
      });
    }
  }

  destroy(): void {
    this.socket.destroy();
  }

  write(text: string): void {
    this.socket.write(text);
  }

  /** Sends a request with an id of its own and waits for the reply. */
  async call(method: string, params: unknown = []): Promise<Message> {
    const id = this.#nextId++;
    this.write(`${JSON.stringify({ id, method, params })}\n`);
    return this.reply(id);
  }

  reply(id: unknown): Promise<Message> {
    const found = (): Message => this.messages.find((message) => message.id === id && message.method === undefined);
    return until(`a reply to ${JSON.stringify(id)}`, found, { everyMs: 2 });
  }

  async subscribe(agent = 'test/1', sessionId?: string): Promise<Message> {
    const reply = await this.call('mining.subscribe', sessionId === undefined ? [agent] : [agent, sessionId]);
    if (Array.isArray(reply.result)) {
      this.sessionId = reply.result[0][0][1];
      this.enonce1 = reply.result[1];
      this.nonce2Bytes = reply.result[2];
    }
    return reply;
  }

  /** Subscribes, authorizes and waits for the first job. */
  async login(worker = 'alice.w1', password = 'x'): Promise<void> {
    await this.subscribe();
    await this.call('mining.authorize', [worker, password]);
    await until('a first job', () => this.jobs.length > 0, { everyMs: 2 });
  }

  get job(): Work {
    return this.jobs.at(-1)!;
  }

  get difficulty(): number {
    return this.difficulties.at(-1)!;
  }

  submit(worker: string, share: Found, bits?: string): Promise<Message> {
    const params = [worker, share.jobId, share.nonce2, share.ntime, share.nonce];
    return this.call('mining.submit', bits === undefined ? params : [...params, bits]);
  }

  /** Looks for a nonce whose difficulty is in [atLeast, below). */
  mine(
    work: Work,
    of: {
      atLeast?: number;
      below?: number;
      nonce2?: number;
      ntime?: number;
      versionBits?: number;
      mask?: number;
      from?: number;
      solves?: bigint;
      /** Default sha256d. */
      pow?: PowAlgorithm;
    } = {},
  ): Found {
    const { atLeast = 0, below = Infinity, pow = 'sha256d' } = of;
    const nonce2 = (of.nonce2 ?? 0).toString(16).padStart(this.nonce2Bytes * 2, '0');
    const ntime = of.ntime ?? work.ntime;
    const header = headerFromNotify(work.params, {
      ...{ enonce1: this.enonce1, nonce2, ntime, nonce: 0, pow },
      ...{ versionBits: of.versionBits ?? null, versionMask: of.mask ?? 0x1fffe000 },
    });
    let reached = 0;
    const nonce = searchNonce(header, {
      ...{ from: of.from ?? 0, atLeast, hashOf: (bytes: Uint8Array) => powHash(pow, bytes) },
      accepts: (hash) => {
        reached = shareDifficulty(hash);
        return reached >= atLeast && reached < below && (of.solves === undefined || hashValue(hash) <= of.solves);
      },
    });
    return {
      jobId: work.id,
      nonce2,
      ntime: ntime.toString(16).padStart(8, '0'),
      nonce: nonce.toString(16).padStart(8, '0'),
      reached,
    };
  }
}

export interface Found {
  readonly jobId: string;
  readonly nonce2: string;
  readonly ntime: string;
  readonly nonce: string;
  readonly reached: number;
}

/** A made-up block hash. */
export function someHash(seed: string): string {
  return createHash('sha256').update(seed).digest('hex');
}

/** A lifecycle for programs started in a test, and its end. */
export function testLife(): {
  life: Lifecycle;
  lines: string[];
  stopped: unknown[];
  /** SIGHUP. */
  hangup(): void;
  end(): Promise<void>;
} {
  const lines: string[] = [];
  const stopped: unknown[] = [];
  const closers: (() => Promise<void> | void)[] = [];
  const reopeners: (() => void)[] = [];
  const controller = new AbortController();
  return {
    lines,
    stopped,
    hangup: () => {
      for (const reopen of reopeners) reopen();
    },
    life: {
      log: (line) => void lines.push(line),
      signal: controller.signal,
      onStop: (_what, close) => void closers.push(close),
      onHangup: (reopen) => void reopeners.push(reopen),
      stop: (error) => void stopped.push(error),
    },
    end: async () => {
      controller.abort();
      for (const close of closers.reverse()) await close();
    },
  };
}

/** All events of a topic in the journal of a data directory. */
export async function journaled<T extends Topic>(dataDir: string, instance: string, topic: T): Promise<Events[T][]> {
  const log = openJournalLog({ dir: join(dataDir, 'journal') });
  try {
    const events: Events[T][] = [];
    for (let at: string | null = null; ; ) {
      const { records, next } = await log.read(topic, instance, at, { maxRecords: 10_000, waitMs: 0 });
      if (records.length === 0) return events;
      for (const each of records) events.push((await log.decoder(topic, each.fingerprint))(each.body));
      at = next;
    }
  } finally {
    await log.close();
  }
}
