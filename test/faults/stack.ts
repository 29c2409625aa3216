/**
 * Lodestream as an operator runs it, each program a process of its own that is started again whenever it ends: what the tests of this folder
 * kill. The node gives templates at a difficulty that nobody reaches, so the load is shares and nothing else.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import type { TestKafka } from '../helpers/kafka-broker.ts';
import { freePorts, type Leashed, tempDir, until } from '../helpers/leash.ts';
import { NODE_ADDRESS, startTemplateNode, type TemplateNode } from '../helpers/template-node.ts';
import { lodestream, lodestreamOnce } from '../helpers/tree.ts';

/** 0.43 of a hash: every hash is a share. */
export const DIFF = 1e-10;
/** What systemd would wait, cut short. */
const RESTART_MS = 100;
const KILLED = 137;

/** A program that is started again when it ends, until it is stopped. */
export class Kept {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #said: string[];
  readonly #env: NodeJS.ProcessEnv;
  #leash: Leashed | null = null;
  #stopping = false;
  #ended: Promise<void> = Promise.resolve();
  /** Ends that nobody brought about. */
  readonly surprises: string[] = [];

  constructor(name: string, args: readonly string[], said: string[], env: NodeJS.ProcessEnv = {}) {
    this.name = name;
    this.#args = args;
    this.#said = said;
    this.#env = env;
  }

  get pid(): number {
    return this.#leash?.pid ?? 0;
  }

  get running(): boolean {
    return this.#leash?.running === true;
  }

  start(): void {
    this.#stopping = false;
    this.#ended = this.#keep();
  }

  async #keep(): Promise<void> {
    while (!this.#stopping) {
      const leash = await lodestream(this.#args, this.#env);
      this.#leash = leash;
      leash.onLine((line) => {
        this.#said.push(`${this.name}: ${line}`);
        if (this.#said.length > 2_000) this.#said.splice(0, 1_000);
      });
      const status = await leash.exited;
      if (this.#stopping) return;
      if (status !== KILLED) this.surprises.push(`${this.name} ended with ${status}: ${leash.output().slice(-500)}`);
      await delay(RESTART_MS);
    }
  }

  /** Pids of the processes that it has started itself. */
  children(): number[] {
    try {
      return readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8')
        .trim()
        .split(' ')
        .filter(Boolean)
        .map(Number);
    } catch {
      return [];
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#leash?.stop({ graceMs: 30_000 });
    await this.#ended;
  }
}

/** kill -9. @returns false where there was no such process any more */
export function kill(pid: number): boolean {
  if (pid === 0) return false;
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}

export interface Stack {
  readonly stratumPort: number;
  readonly dataDir: string;
  readonly logDir: string;
  readonly node: TemplateNode;
  readonly pool: Kept;
  readonly clickhouse: Kept;
  readonly consume: Kept;
  /** null without Kafka. */
  readonly relay: Kept | null;
  readonly kafka: TestKafka | null;
  /** The last lines that the programs have written. */
  readonly said: readonly string[];
  /** Ends of programs that nobody brought about. */
  surprises(): string[];
  /** Makes the disk of all programs read-only, or writable again; with the option `readOnly` alone. */
  readOnly(on: boolean): void;
  /** Consumers that read the journal itself, whatever the log of record is. */
  consumeJournal(): Kept;
  /** `lodestream ARGS` with this configuration, to its end. */
  once(verb: string, ...args: string[]): Promise<{ status: number; output: string }>;
  /** The same with the journal as the log, whatever the log of record is. */
  onceOnJournal(verb: string, ...args: string[]): Promise<{ status: number; output: string }>;
  /** Runs SQL as the writer, whom no limits of an analyst hold; calls `take` with each line. */
  rows(query: string, take: (line: string) => void): Promise<void>;
  /** The same, as one text without its last newline. */
  sql(query: string): Promise<string>;
  close(): Promise<void>;
}

export interface StackOptions {
  /** Of the pool; default 1. */
  readonly workers?: number;
  /** Default: the journal is the log of record. */
  readonly kafka?: TestKafka | null;
  /** The data directory is a file system of its own of so many MiB, see `mayMount`. */
  readonly diskMiB?: number;
  /** Of the journal's segments; default 128 MiB. */
  readonly segmentBytes?: number;
  /** Closed segments are compressed; default true, as everywhere. */
  readonly pack?: boolean;
  /** The journal syncs before answers go out. Default false. */
  readonly fsync?: boolean;
  /** A library of `readOnlyLibrary`: `stack.readOnly` works. */
  readonly readOnly?: string;
}

/** Compiles readonly.c into `dir`. @returns the path of the library, or why there is none */
export function readOnlyLibrary(dir: string): { path: string } | { missing: string } {
  const path = join(dir, 'readonly.so');
  const source = join(import.meta.dirname, 'readonly.c');
  const made = spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', path, source, '-ldl'], { encoding: 'utf8' });
  if (process.platform !== 'linux' || made.error !== undefined) return { missing: 'no C compiler for Linux' };
  if (made.status !== 0) throw new Error(`cc: ${made.stderr}`);
  return { path };
}

/** Whether this process may make file systems. */
export function mayMount(): boolean {
  const dir = tempDir('mount');
  try {
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir.path]).status !== 0) return false;
    return spawnSync('umount', [dir.path]).status === 0;
  } finally {
    dir.remove();
  }
}

/** Starts all programs, and waits until the pool listens and ClickHouse answers. */
export async function startStack(name: string, options: StackOptions = {}): Promise<Stack> {
  const { workers = 1, kafka = null, diskMiB, segmentBytes, fsync = false, pack = true } = options;
  const dir = tempDir(name);
  const flags = tempDir(`${name}-flags`);
  const readOnlyFlag = join(flags.path, 'read-only');
  const env =
    options.readOnly === undefined
      ? {}
      : { LD_PRELOAD: options.readOnly, READONLY_DIR: dir.path, READONLY_FLAG: readOnlyFlag };
  const node = await startTemplateNode();
  const [stratumPort, clickhousePort] = (await freePorts(2)) as [number, number];
  const dataDir = join(dir.path, 'data');
  const logDir = join(dir.path, 'logs');
  const said: string[] = [];
  if (diskMiB !== undefined) {
    mkdirSync(dataDir);
    const made = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${diskMiB}m`, 'tmpfs', dataDir], { encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`mount: ${made.stderr}`);
  }
  const configFile = (file: string, brokers: readonly string[] | null): string => {
    const path = join(dir.path, file);
    const config = {
      btcd: [{ url: `http://${node.address}`, auth: 'u', pass: 'p', notify: true }],
      zmqblock: node.zmq,
      btcaddress: NODE_ADDRESS,
      logdir: logDir,
      mindiff: DIFF,
      startdiff: DIFF,
      maxdiff: DIFF,
      lodestream: {
        listen: [`127.0.0.1:${stratumPort}`],
        data_dir: dataDir,
        ...(diskMiB === undefined ? {} : { disk_reserve_bytes: 16 * 1024 * 1024 }),
        clickhouse_http: `127.0.0.1:${clickhousePort}`,
        workers,
        journal: { fsync, pack, ...(segmentBytes === undefined ? {} : { segment_bytes: segmentBytes }) },
        ...(brokers === null ? {} : { kafka: { brokers, topic_prefix: kafka!.prefix, partitions: 3 } }),
      },
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  const file = configFile('ckpool.conf', kafka?.brokers ?? null);
  const journalFile = configFile('journal.conf', null);
  const kept = (program: string, args: readonly string[] = [], config = file): Kept =>
    new Kept(program, [program, '--config', config, ...args], said, env);
  const pool = kept('pool', ['--sockdir', join(dir.path, 'sock'), '--log-shares']);
  const clickhouse = kept('clickhouse');
  const consume = kept('consume');
  const relay = kafka === null ? null : kept('relay');
  const journalConsume = kept('consume', [], journalFile);
  const programs = [clickhouse, consume, ...(relay === null ? [] : [relay]), pool, journalConsume];

  async function rows(query: string, take: (line: string) => void): Promise<void> {
    const token = readFileSync(join(dataDir, 'clickhouse-writer.token'), 'utf8').trim();
    const response = await fetch(`http://127.0.0.1:${clickhousePort}/`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`writer:${token}`).toString('base64')}` },
      body: query,
    });
    if (!response.ok) throw new Error(`${query}: ${await response.text()}`);
    let rest = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      for (const line of lines) take(line);
    }
    if (rest !== '') take(rest);
  }
  const sql = async (query: string): Promise<string> => {
    const lines: string[] = [];
    await rows(query, (line) => void lines.push(line));
    return lines.join('\n');
  };

  for (const program of programs) if (program !== journalConsume) program.start();
  const close = async (): Promise<void> => {
    rmSync(readOnlyFlag, { force: true });
    for (const program of [...programs].reverse()) await program.stop();
    await node.close();
    await kafka?.stop();
    if (diskMiB !== undefined) spawnSync('umount', ['--lazy', dataDir]);
    dir.remove();
    flags.remove();
  };
  try {
    const start = (): string => said.slice(-30).join('\n');
    await until(
      () => `the pool to listen\n${start()}`,
      () => said.some((line) => line.includes('stratum listens')),
    );
    await until(
      () => `ClickHouse to answer\n${start()}`,
      () => sql('SELECT 1'),
      { everyMs: 100 },
    );
  } catch (error) {
    await close();
    throw error;
  }
  return {
    ...{ stratumPort, dataDir, logDir, node, pool, clickhouse, consume, relay, kafka, said, rows, sql, close },
    surprises: () => programs.flatMap(({ surprises }) => surprises),
    readOnly(on) {
      if (options.readOnly === undefined) throw new Error('a stack without the option readOnly');
      if (on) writeFileSync(readOnlyFlag, '');
      else rmSync(readOnlyFlag);
    },
    consumeJournal: () => journalConsume,
    once: (verb, ...args) => lodestreamOnce([verb, '--config', file, ...args]),
    onceOnJournal: (verb, ...args) => lodestreamOnce([verb, '--config', journalFile, ...args]),
  };
}

/** Throws a program's positions away, as a lost disk would; those of stopped consumers in Kafka too. */
export async function forget(stack: Stack, program: 'consumers' | 'relay'): Promise<void> {
  if (program === 'consumers' && stack.kafka !== null) await forgetGroups(stack.kafka);
  const state = join(stack.dataDir, 'state');
  for (const name of readdirSync(state)) {
    if (name.startsWith(`${program}.sqlite`)) rmSync(join(state, name));
  }
}

/** Removes the groups of a stack's consumers, once these have left. */
async function forgetGroups({ brokers, prefix }: TestKafka): Promise<void> {
  const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await until(
      () => 'the groups to have no members',
      async () => {
        const { groups } = await admin.listGroups();
        const names = groups.map(({ groupId }) => groupId).filter((name) => name.startsWith(prefix));
        if (names.length > 0) await admin.deleteGroups(names);
        return true;
      },
    );
  } finally {
    await admin.disconnect();
  }
}
