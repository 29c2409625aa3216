/**
 * One process tree: starts the programs as children, restarts one that dies, and stops all in order. A child that cannot start at all
 * (port taken, data directory held, wrong configuration) ends the tree with the child's own line and status; one that has been up and cannot
 * start again, say after a mistake in the configuration, is named in the status and tried until it can.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { publishStatus } from '../core/status.ts';

export interface ChildSpec {
  readonly name: string;
  /** Verb and flags for this program's command line. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Children that come up before this one is started the first time: it would only complain that they are not there yet. */
  readonly after?: readonly string[];
}

interface Running {
  readonly spec: ChildSpec;
  process: ChildProcess | null;
  /** Came up at least once. */
  ready: boolean;
  restarts: number;
  /** How often it was started. */
  lives: number;
  /** Its last sentence, where it ended with a status. */
  problem: string | null;
  timer: NodeJS.Timeout | null;
}

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const FIRST_RESTART_MS = 500;
const LONGEST_RESTART_MS = 10_000;
/** A child that lived so long begins with the short delay again. */
const LIVED_MS = 60_000;
const STOP_LIMIT_MS = 15_000;
/** Statuses that a restart does not mend: usage, cannot create, configuration. In a child's first life they end the tree. */
const FATAL = new Set([64, 73, 78]);
/** Before the sentence of a line. */
const STAMP = /^\[[^\]]*\] /;

export interface Supervisor {
  /** Resolves when every child has come up. */
  readonly up: Promise<void>;
}

/**
 * Starts the children and keeps them.
 * @param children - in the order in which they are to be stopped last to first
 * @param print - where the children's lines go
 * @param statusDir - where the tree says which children run, with their pids
 */
export function supervise(
  children: readonly ChildSpec[],
  life: Lifecycle,
  print: (line: string) => void,
  statusDir: string,
): Supervisor {
  const all: Running[] = children.map((spec) => ({
    spec,
    process: null,
    ready: false,
    restarts: 0,
    lives: 0,
    problem: null,
    timer: null,
  }));
  const waiting = new Set(all);
  let cameUp!: () => void;
  const up = new Promise<void>((resolve) => {
    cameUp = resolve;
  });

  const spawn = (child: Running): void => {
    child.timer = null;
    child.lives += 1;
    const beganMs = performance.now();
    let lastLine = '';
    const started = fork(MAIN, [...child.spec.args], {
      execArgv: ['--disable-sigusr1'],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, ...child.spec.env, LODESTREAM_ARGV0: 'lodestream' },
    });
    child.process = started;
    for (const stream of [started.stdout, started.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        // Stack traces follow the sentence; the sentence is what is told.
        if (line.startsWith('[')) lastLine = line;
        print(line);
      });
    }
    started.on('message', (message) => {
      if (message !== 'ready') return;
      child.ready = true;
      child.problem = null;
      startWaiting();
      if (all.every((each) => each.ready)) cameUp();
    });
    started.once('exit', (code, signal) => {
      child.process = null;
      if (life.signal.aborted) return;
      const how = signal === null ? `ended with status ${code}` : `was killed by ${signal}`;
      if (code !== null && code !== 0 && (!child.ready || (child.lives === 1 && FATAL.has(code)))) {
        life.stop(new ChildFailed(child.spec.name, code, lastLine));
        return;
      }
      if (performance.now() - beganMs > LIVED_MS) child.restarts = 0;
      child.problem = code === null || code === 0 ? null : lastLine.replace(STAMP, '');
      const delay = Math.min(FIRST_RESTART_MS * 2 ** child.restarts, LONGEST_RESTART_MS);
      child.restarts += 1;
      print(`${child.spec.name} ${how}; started again in ${delay / 1000} s`);
      child.timer = setTimeout(() => spawn(child), delay);
    });
  };

  // Only the tree's own process is told by logrotate; the files are the children's.
  life.onHangup(() => {
    for (const child of all) child.process?.kill('SIGHUP');
  });
  life.onStop('children', async () => {
    for (const child of [...all].reverse()) {
      if (child.timer !== null) clearTimeout(child.timer);
      const running = child.process;
      if (running === null || running.exitCode !== null) continue;
      const ended = new Promise<void>((resolve) => running.once('exit', () => resolve()));
      if (running.connected) running.send('stop');
      else running.kill('SIGTERM');
      const limit = setTimeout(() => running.kill('SIGKILL'), STOP_LIMIT_MS);
      await ended;
      clearTimeout(limit);
    }
  });
  const status = publishStatus(statusDir, 'tree', () => ({
    problems: all
      .filter((child) => child.ready && child.process === null)
      .map(({ spec, problem }) => `${spec.name} is down, started again soon${problem ? `: ${problem}` : ''}`),
    values: Object.fromEntries(
      all.map((child) => [`${child.spec.name.replaceAll('-', '_')}_pid`, child.process?.pid ?? 0]),
    ),
  }));
  life.onStop('status', () => status.close());
  const isUp = (name: string): boolean => all.find(({ spec }) => spec.name === name)?.ready ?? true;
  function startWaiting(): void {
    if (life.signal.aborted) return;
    for (const child of waiting) {
      if (!(child.spec.after ?? []).every(isUp)) continue;
      waiting.delete(child);
      spawn(child);
    }
  }
  startWaiting();
  return { up };
}

/** A child said why in its own line; the tree ends with the child's status. */
class ChildFailed extends PoolError {
  readonly status: number;

  constructor(name: string, status: number, line: string) {
    const words = line.replace(STAMP, '');
    super(
      'internal',
      `${name} could not start: ${words.startsWith(`${name}: `) ? words.slice(name.length + 2) : words}`,
    );
    this.status = status;
  }

  override get exit(): number {
    return this.status;
  }

  override get line(): string {
    return this.message;
  }
}
