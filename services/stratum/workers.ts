/**
 * The worker processes of a pool, seen from their parent: started with descriptors of the listening sockets, restarted when one dies, renewed
 * by a hand-over (new ones first, then the old retire), ended together.
 *
 * Each has a slot (first byte of its extranonce1), used again only when nothing of its last holder can be alive, and a journal instance,
 * `<name>.1` upward, the lowest that no running worker writes.
 */
import { fork } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config, ListenerConfig } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { Bans, banText } from './bans.ts';
import type { ControlTarget } from './control/control-commands.ts';
import { SERVER_COUNTERS } from './edge/counters.ts';
import type { ControlCall, ControlMethod, FromWorker, MadeTemplate, WorkerReport } from './messages.ts';
import { JOB_LIFE_MS } from './work/job.ts';
import { WorkerFailed, WorkerProcess } from './worker-process.ts';

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url));
const SLOTS = 256;
/** stdio of a worker: 0 to 2, the channel, then the listening sockets. */
const FIRST_SOCKET_FD = 4;
/** How often a start looks whether a worker that was made again serves. */
const START_LOOK_MS = 20;
const FIRST_RESTART_MS = 250;
const LONGEST_RESTART_MS = 10_000;
const LIVED_MS = 60_000;
const STOP_LIMIT_MS = 15_000;
const START_LIMIT_MS = 60_000;
/** How long a worker may take to let go of a session. */
const RELEASE_LIMIT_MS = 2_000;

/** The lowest bits of ids that workers give: half of the run's range, 2^23 for each slot. */
const OWN_IDS = 1n << 31n;
const OWN_IDS_PER_SLOT = 1n << 23n;
/** Connections are numbered from a multiple of this. */
const CLIENTS_PER_WORKER = 2 ** 32;
/** How long a worker may take for what the control sockets ask of it. */
const CONTROL_LIMIT_MS = 30_000;
/** Number of a request whose answer is not waited for. */
const NOBODY = 0;

export interface WorkersOptions {
  readonly config: Config;
  readonly profile: ChainProfile;
  readonly listeners: readonly (ListenerConfig & { readonly fd: number })[];
  /** Of all workers together; Infinity: none. */
  readonly maxClients: number;
  /** First id of the run, a multiple of 2^32. */
  readonly firstId: bigint;
  readonly life: Lifecycle;
  /** Another id, time and random number for a template, so that a second job of it is another one. */
  readonly remade: () => Omit<MadeTemplate, 'template'>;
  readonly onSolved: (message: FromWorker & { kind: 'solved' }) => void;
  readonly onTally: (report: WorkerReport['tally'], instance: string) => void;
  /** A worker is gone, told to go or not. */
  readonly onGone: (instance: string) => void;
}

/** What all workers together say of themselves. */
export interface Together {
  readonly values: Record<string, number>;
  readonly problems: string[];
}

/** Gauges and counters that add up over processes; a dead worker's counters stay. */
const COUNTERS = [
  'shares_accepted_count',
  'shares_refused_count',
  'shares_unstored_count',
  'submissions_malformed_count',
  'blocks_solved_count',
  ...SERVER_COUNTERS,
];
const GAUGES = ['connections', 'workers', 'hashrate_1m_hps'];

export class Workers {
  readonly #options: WorkersOptions;
  #config: Config;
  readonly #all = new Set<WorkerProcess>();
  readonly #slotFreeMs = new Map<number, number>();
  readonly #past: Record<string, number> = {};
  readonly #claimed = new Map<string, number>();
  readonly #releases = new Map<number, (free: boolean) => void>();
  readonly #controls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  /** Restarts that are due, and for which wave. */
  readonly #timers = new Map<NodeJS.Timeout, number>();
  readonly #bans = new Bans(() => performance.now());
  #nextRequest = 1;
  #nextSlot = 0;
  #restarts = 0;
  /** By wave, while there are two of them. */
  readonly #templates = new Map<number, MadeTemplate>();
  #template: MadeTemplate | null = null;
  #wave = 0;
  #nodeReady = true;
  /** What the control sockets said last; workers that come later are told too. */
  #accepting = true;
  #handingOver = false;
  #handovers = 0;
  #died = 0;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#config = options.config;
    options.life.onStop('workers', () => this.#stop());
  }

  /** Pids of the workers that live. */
  get pids(): number[] {
    return [...this.#all].flatMap(({ process: { pid } }) => pid ?? []);
  }

  /** Sends all a signal. */
  signal(name: NodeJS.Signals): void {
    for (const { process } of this.#all) process.kill(name);
  }

  /** Starts the configured number. @throws PoolError where one cannot start at all */
  async start(): Promise<void> {
    const all = Array.from({ length: this.#config.workers }, () => this.#spawn(this.#config, this.#wave));
    for (const worker of all) this.#begin(worker);
    const up = all.map((each) =>
      each.serving.catch((error: unknown) => {
        // Killed by somebody, it has nothing to say against a start, and is made again.
        if (each.exit?.signal == null) throw error;
      }),
    );
    await Promise.all(up);
    const { signal } = this.#options.life;
    const serves = ({ state }: WorkerProcess): boolean => state === 'serving';
    while (!signal.aborted && [...this.#all].filter(serves).length < this.#config.workers) await delay(START_LOOK_MS);
  }

  /** Hands a template to all, and to those that come. */
  template(made: MadeTemplate): void {
    this.#template = made;
    this.#templates.clear();
    for (const worker of this.#all) worker.tell({ kind: 'template', made: this.#templateOf(worker.wave)! });
  }

  /**
   * The template as a wave has it. Two waves make different jobs of it, under ids of their own: the coinbase of the newer may be another by
   * its configuration, and a session that goes on there still names the older one's jobs.
   */
  #templateOf(wave: number): MadeTemplate | null {
    if (this.#template === null || wave === this.#wave) return this.#template;
    let made = this.#templates.get(wave);
    if (made === undefined) {
      made = { ...this.#template, ...this.#options.remade() };
      this.#templates.set(wave, made);
    }
    return made;
  }

  /** Words for miners that show such. @param worker - null: all */
  show(words: string, worker: string | null): void {
    for (const each of this.#all) each.tell({ kind: 'show', words, worker });
  }

  /** Says whether the node gives templates now. */
  nodeReady(ready: boolean): void {
    if (ready === this.#nodeReady) return;
    this.#nodeReady = ready;
    for (const worker of this.#all) worker.tell({ kind: 'node', ready });
  }

  /**
   * New workers with the code that is installed now and a new configuration; when all serve, the old ones ask their miners to reconnect.
   *
   * @returns when the old ones are gone
   * @throws PoolError where the new ones cannot start: the old ones go on
   */
  async handOver(config: Config): Promise<void> {
    if (this.#handingOver) throw new PoolError('held', 'a hand-over is under way already');
    this.#handingOver = true;
    const wave = this.#wave + 1;
    try {
      const fresh = Array.from({ length: config.workers }, () => this.#spawn(config, wave));
      for (const worker of fresh) this.#begin(worker);
      try {
        await this.#within(START_LIMIT_MS, Promise.all(fresh.map((each) => each.serving)));
      } catch (error) {
        this.#forgetRestarts((of) => of === wave);
        for (const each of this.#all) if (each.wave === wave) each.kill();
        throw error;
      }
      // Who died or came meanwhile is of the old wave all the same.
      const own = this.#templateOf(wave);
      this.#wave = wave;
      this.#config = config;
      this.#templates.clear();
      if (this.#template !== null) {
        this.#templates.set(wave - 1, this.#template);
        this.#template = own;
      }
      this.#forgetRestarts((of) => of < wave);
      const old = [...this.#all].filter((each) => each.wave < wave);
      for (const worker of old) {
        worker.state = 'retiring';
        worker.dismissed = true;
        worker.tell({ kind: 'retire', overMs: config.handoverS * 1000 });
      }
      const names = fresh.map(({ instance }) => instance).join(', ');
      this.#options.life.log(
        `Hand-over: new connections go to ${names}, the others are asked to reconnect over ${config.handoverS} s`,
      );
      await Promise.all(old.map((each) => each.gone));
      this.#handovers += 1;
      this.#options.life.log(`Hand-over done: ${old.map(({ instance }) => instance).join(', ')} ended`);
    } finally {
      this.#handingOver = false;
    }
  }

  together(): Together {
    const values: Record<string, number> = { ...this.#past };
    const problems: string[] = [];
    let serving = 0;
    for (const { report, state } of this.#all) {
      if (state === 'serving') serving += 1;
      if (report === null) continue;
      problems.push(...report.problems);
      for (const name of [...COUNTERS, ...GAUGES]) {
        values[name] = (values[name] ?? 0) + Number(report.values[name] ?? 0);
      }
    }
    if (serving < this.#config.workers) {
      problems.push(
        `${this.#config.workers - serving} of ${this.#config.workers} workers are down, started again soon`,
      );
    }
    for (const name of [...COUNTERS, ...GAUGES]) values[name] ??= 0;
    values.worker_processes = serving;
    values.worker_processes_died_count = this.#died;
    values.handover_under_way = this.#handingOver ? 1 : 0;
    values.handovers_count = this.#handovers;
    values.bans_active = this.#bans.all.length;
    values.bans_count = this.#bans.total;
    // Each worker sees the same full disk and the same certificate.
    return { values, problems: [...new Set(problems)] };
  }

  /** Keeps address and user out of all workers, those to come among them. @param forMs - absent: for as long as they are banned here already */
  ban(address: string, user: string, forMs = this.#bans.leftMs(address, user)): void {
    this.#bans.hold(address, user, forMs);
    this.#options.life.log(banText(address, user));
    for (const worker of this.#all) worker.tell({ kind: 'ban', address, user, forMs });
  }

  #liftBan(address: string, user: string): void {
    // Each worker where it mines says so.
    if (this.#bans.leftMs(address, user) === 0) return;
    this.#bans.hold(address, user, 0);
    this.#options.life.log(`${user} at ${address} is let in again: another line of the two brings accepted shares`);
    for (const worker of this.#all) worker.tell({ kind: 'ban', address, user, forMs: 0 });
  }

  async #within<T>(ms: number, promise: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new PoolError('internal', `the new workers do not serve after ${ms} ms`)), ms);
    });
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
  }

  /** The next slot that nobody has and had for as long as jobs live; where there is none, the one that is free longest. */
  #takeSlot(): number {
    const taken = new Set([...this.#all].map((each) => each.slot));
    let best = -1;
    let bestFreeMs = Infinity;
    for (let i = 0; i < SLOTS; i++) {
      const slot = (this.#nextSlot + i) % SLOTS;
      if (taken.has(slot)) continue;
      const freeMs = this.#slotFreeMs.get(slot) ?? -Infinity;
      if (freeMs < bestFreeMs) [best, bestFreeMs] = [slot, freeMs];
      if (performance.now() - freeMs > JOB_LIFE_MS) break;
    }
    this.#nextSlot = (best + 1) % SLOTS;
    return best;
  }

  #takeInstance(): string {
    const taken = new Set([...this.#all].map((each) => each.instance));
    for (let i = 1; ; i++) {
      const instance = `${this.#config.name}.${i}`;
      if (!taken.has(instance)) return instance;
    }
  }

  #forgetRestarts(concerned: (wave: number) => boolean): void {
    for (const [timer, wave] of this.#timers) {
      if (!concerned(wave)) continue;
      clearTimeout(timer);
      this.#timers.delete(timer);
    }
  }

  /** Starts a process, which waits for `#begin`. */
  #spawn(config: Config, wave: number): WorkerProcess {
    const { listeners } = this.#options;
    const child = fork(MAIN, ['_stratum-worker'], {
      // A young generation of 4 MB: what 10,000 connections leave in a larger one stays resident. Measured: 9.8 -> 5.5 kB a connection, no more CPU.
      execArgv: ['--disable-sigusr1', '--max-semi-space-size=4'],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...listeners.map(({ fd }) => fd)],
      env: { ...process.env, LODESTREAM_ARGV0: 'lodestream' },
    });
    const slot = this.#takeSlot();
    const worker = new WorkerProcess({ slot, instance: this.#takeInstance(), config, wave }, child, (message) =>
      this.#take(worker, message),
    );
    this.#all.add(worker);
    void worker.gone.then(() => this.#ended(worker));
    return worker;
  }

  /** Tells a new process all that it needs. Those of its wave are there by then: it learns who else runs. */
  #begin(worker: WorkerProcess): void {
    const { profile, listeners, maxClients, firstId } = this.#options;
    const { slot, config } = worker;
    const running = [...this.#all].filter((each) => each !== worker).map((each) => each.instance);
    worker.tell({
      profile,
      kind: 'begin',
      // What is the parent's alone stays there: passwords of nodes among it.
      config: { ...config, nodes: [], upstreams: [], kafka: null, clickhouse: null },
      instance: worker.instance,
      slot,
      firstOwnId: firstId + OWN_IDS + BigInt(slot) * OWN_IDS_PER_SLOT,
      listen: listeners.map((listener, i) => ({ ...listener, fd: FIRST_SOCKET_FD + i })),
      firstClientId: (Number(worker.instance.split('.').at(-1)) - 1) * CLIENTS_PER_WORKER + 1,
      maxClients: Math.ceil(maxClients / config.workers),
      running,
    });
    if (!this.#nodeReady) worker.tell({ kind: 'node', ready: false });
    if (!this.#accepting) worker.tell({ kind: 'control', request: NOBODY, call: ['acceptClients', false] });
    const made = this.#templateOf(worker.wave);
    if (made !== null) worker.tell({ kind: 'template', made });
    for (const ban of this.#bans.all) worker.tell({ kind: 'ban', ...ban });
  }

  #ended(worker: WorkerProcess): void {
    const { life, onGone } = this.#options;
    this.#all.delete(worker);
    this.#slotFreeMs.set(worker.slot, performance.now());
    for (const name of COUNTERS) {
      this.#past[name] = (this.#past[name] ?? 0) + Number(worker.report?.values[name] ?? 0);
    }
    onGone(worker.instance);
    const exit = worker.exit!;
    const { signal, how } = exit;
    // Of a wave on trial, an end before it serves is the hand-over's business.
    const onTrial = worker.wave > this.#wave;
    if (life.signal.aborted || worker.dismissed || (onTrial && !worker.served)) return;
    // At the first start there is nobody to go on without it.
    if (!worker.served && this.#restarts === 0 && signal === null) {
      life.stop(new WorkerFailed(exit));
      return;
    }
    if (performance.now() - worker.startedMs > LIVED_MS) this.#restarts = 0;
    const pause = Math.min(FIRST_RESTART_MS * 2 ** this.#restarts, LONGEST_RESTART_MS);
    this.#restarts += 1;
    this.#died += 1;
    life.log(`worker ${worker.instance} ${how}; started again in ${pause / 1000} s`);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#begin(this.#spawn(worker.config, worker.wave));
    }, pause);
    this.#timers.set(timer, worker.wave);
  }

  #take(worker: WorkerProcess, message: FromWorker): void {
    switch (message.kind) {
      case 'solved':
        this.#options.onSolved(message);
        break;
      case 'report':
        worker.report = message.report;
        this.#options.onTally(message.report.tally, worker.instance);
        break;
      case 'claim':
        void this.#claim(worker, message.sessionId).then((ours) =>
          worker.tell({ kind: 'claimed', request: message.request, ours }),
        );
        break;
      case 'refusedLine':
        if (this.#bans.closed(message.address, message.user)) this.ban(message.address, message.user);
        break;
      case 'honest':
        this.#liftBan(message.address, message.user);
        break;
      case 'released': {
        const resolve = this.#releases.get(message.request);
        this.#releases.delete(message.request);
        resolve?.(message.free);
        break;
      }
      case 'controlled': {
        const waiting = this.#controls.get(message.request);
        if (message.error === null) waiting?.resolve(message.value);
        else waiting?.reject(new Error(message.error));
        break;
      }
      case 'serving':
        break;
    }
  }

  /**
   * Does something with the miners of every worker that serves.
   * @returns what each answered; those that died or hang are left out
   */
  async control<M extends ControlMethod>(
    method: M,
    ...args: Parameters<ControlTarget[M]>
  ): Promise<Awaited<ReturnType<ControlTarget[M]>>[]> {
    const call = [method, ...args] as unknown as ControlCall;
    if (call[0] === 'acceptClients') this.#accepting = call[1];
    const asked = [...this.#all].filter(({ state }) => state !== 'starting').map((each) => this.#ask(each, call));
    const answers = await Promise.allSettled(asked);
    return answers.flatMap((each) =>
      each.status === 'fulfilled' ? [each.value as Awaited<ReturnType<ControlTarget[M]>>] : [],
    );
  }

  #ask(worker: WorkerProcess, call: ControlCall): Promise<unknown> {
    const request = this.#nextRequest++;
    let limit: NodeJS.Timeout | undefined;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#controls.set(request, { resolve, reject });
      limit = setTimeout(() => reject(new Error('no answer in time')), CONTROL_LIMIT_MS);
      void worker.gone.then(() => reject(new Error('it ended')));
    });
    worker.tell({ kind: 'control', request, call });
    return answer.finally(() => {
      clearTimeout(limit);
      this.#controls.delete(request);
    });
  }

  /** Makes a session one worker's alone: no other has it, and none gets it after this. */
  async #claim(by: WorkerProcess, sessionId: string): Promise<boolean> {
    const now = performance.now();
    for (const [id, since] of this.#claimed) {
      if (now - since < JOB_LIFE_MS) break;
      this.#claimed.delete(id);
    }
    if (this.#claimed.has(sessionId)) return false;
    this.#claimed.set(sessionId, now);
    const others = [...this.#all].filter((each) => each !== by && each.state !== 'gone');
    // One that starts has no lines yet. It is told, so that it gives the extranonce1 to nobody, but it may read its journal for seconds.
    const free = await Promise.all(
      others.map((each) => {
        const answer = this.#release(each, sessionId);
        return each.state === 'starting' ? true : answer;
      }),
    );
    if (free.every(Boolean)) return true;
    this.#claimed.delete(sessionId);
    return false;
  }

  #release(worker: WorkerProcess, sessionId: string): Promise<boolean> {
    const request = this.#nextRequest++;
    return new Promise((resolve) => {
      const done = (free: boolean): void => {
        clearTimeout(limit);
        this.#releases.delete(request);
        resolve(free);
      };
      const limit = setTimeout(() => done(false), RELEASE_LIMIT_MS);
      // Its journal tells what it did until it died.
      void worker.gone.then(() => done(true));
      this.#releases.set(request, done);
      worker.tell({ kind: 'release', request, sessionId });
    });
  }

  async #stop(): Promise<void> {
    this.#forgetRestarts(() => true);
    await Promise.all(
      [...this.#all].map(async (worker) => {
        if (worker.process.connected) worker.process.send('stop', () => {});
        else worker.process.kill('SIGTERM');
        const limit = setTimeout(() => worker.kill(), STOP_LIMIT_MS);
        await worker.gone;
        clearTimeout(limit);
      }),
    );
  }
}
