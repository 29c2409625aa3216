/**
 * Starts outside programs for tests so that none outlives the test process, however that one ends.
 *
 * A shell stands between: it holds a pipe from us, and when the pipe closes (we ended, or were killed with -9)
 * it kills the program. `pid` is the program's own, so a test may stop or kill it itself.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface Leashed {
  /** Process id of the program itself, not of the shell. */
  readonly pid: number;
  /** All that it wrote to stdout and stderr so far, the last 64 KiB of it. */
  output(): string;
  /** Called for each whole line of stdout and stderr from now on. */
  onLine(listener: (line: string) => void): void;
  /** Exit status; 128 + signal number where a signal ended it. */
  readonly exited: Promise<number>;
  readonly running: boolean;
  /** Sends the signal and waits for the end; after graceMs sends SIGKILL. Does nothing when it has ended already. */
  stop(options?: { signal?: NodeJS.Signals; graceMs?: number }): Promise<number>;
}

// In POSIX sh a background command reads /dev/null, hence descriptor 4 for our pipe; 3 carries the pid back.
const SHELL = `
exec 4<&0
"$@" 3>&- 4<&- &
pid=$!
echo $pid >&3
exec 3>&-
( read -r _ <&4; kill -9 $pid ) 2>/dev/null &
watch=$!
wait $pid
status=$?
kill $watch 2>/dev/null
exit $status`;

const KEPT_OUTPUT_CHARS = 65_536;

/** Runs `command args` on a leash. @throws Error when it cannot be started at all. */
export async function startLeashed(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Leashed> {
  const shell: ChildProcess = spawn('/bin/sh', ['-c', SHELL, 'leash', command, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env ?? process.env,
  });
  shell.stdin?.on('error', () => {});
  let kept = '';
  let running = true;
  const listeners: ((line: string) => void)[] = [];
  for (const stream of [shell.stdout, shell.stderr]) {
    let rest = '';
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      kept = (kept + chunk).slice(-KEPT_OUTPUT_CHARS);
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) for (const listener of listeners) listener(line);
    });
  }
  const exited = new Promise<number>((resolve, reject) => {
    shell.once('error', reject);
    shell.once('close', (code, signal) => {
      running = false;
      resolve(code ?? (signal === 'SIGKILL' ? 137 : 143));
    });
  });
  const pid = await new Promise<number>((resolve, reject) => {
    let text = '';
    shell.once('error', reject);
    shell.stdio[3]?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('\n')) resolve(Number.parseInt(text, 10));
    });
    exited.then(() => reject(new Error(`${command} ended at once: ${kept.trim()}`)), reject);
  });
  return {
    pid,
    output: () => kept,
    onLine: (listener) => void listeners.push(listener),
    exited,
    get running() {
      return running;
    },
    async stop({ signal = 'SIGTERM', graceMs = 10_000 } = {}) {
      if (running) send(pid, signal);
      const grace = new AbortController();
      delay(graceMs, undefined, { signal: grace.signal, ref: false }).then(
        () => running && send(pid, 'SIGKILL'),
        () => {},
      );
      const status = await exited;
      grace.abort();
      return status;
    },
  };
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** About how many times longer than alone a program takes here: those that wanted to run for each core in the last minute, at least 1. For claims about time. */
export function crowding(): number {
  return Math.max(1, loadavg()[0]! / availableParallelism());
}

const LONGEST_PAUSE_MS = 250;

/**
 * How long to wait before a probe that took so long is made again, where one that costs nothing is made every `everyMs`: a question to ClickHouse
 * takes a fifth of the time at most, but where that would be a pause above 250 ms.
 */
function pauseAfter(tookMs: number, everyMs: number): number {
  return Math.max(everyMs, Math.min(4 * tookMs, LONGEST_PAUSE_MS));
}

/** Waits for a fact: calls `probe` until it gives something else than undefined, false or null. @throws Error after `withinMs`, saying what was awaited. */
export async function until<T>(
  what: string | (() => string),
  probe: () => T | Promise<T>,
  { withinMs = 120_000, everyMs = 25 }: { withinMs?: number; everyMs?: number } = {},
): Promise<NonNullable<T>> {
  const deadline = performance.now() + withinMs;
  let last: unknown;
  for (;;) {
    const begun = performance.now();
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value as NonNullable<T>;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(
        `not within ${withinMs} ms: ${typeof what === 'string' ? what : what()}${last instanceof Error ? ` (${last.message})` : ''}`,
        {
          cause: last,
        },
      );
    }
    await delay(pauseAfter(performance.now() - begun, everyMs));
  }
}

/**
 * The ports that the kernel gives by itself, to connections and to servers on port 0: one of them, free at this moment, is somebody's a moment
 * later. @returns lowest and highest
 */
function kernelsPorts(): [number, number] {
  try {
    const [lowest, highest] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
      .trim()
      .split(/\s+/)
      .map(Number);
    if (lowest! > 0 && highest! >= lowest!) return [lowest!, highest!];
  } catch {}
  // IANA's dynamic ports, as other systems have it.
  return [49_152, 65_535];
}

/** Above 10080, the last of those that `fetch` and browsers refuse to ask. */
const LOWEST_PORT = 10_100;
const HIGHEST_PORT = 65_535;

/**
 * Takes the port for this process, for as long as it lives: by its namesake of UDP, which nothing here uses. Two test processes that look at the
 * same moment, or while the other's program is still starting, get different ones.
 */
function reservePort(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ address: '127.0.0.1', port, exclusive: true }, () => {
      socket.unref();
      resolve(true);
    });
  });
}

function nobodyListens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/**
 * `count` different TCP ports of 127.0.0.1 that nobody listens on, and that nobody gets by chance: neither the kernel nor another test gives them
 * away while this process lives, so a server may also come back to its own.
 *
 * @throws Error where none is free
 */
export async function freePorts(count: number): Promise<number[]> {
  const [lowest, highest] = kernelsPorts();
  const below = Math.max(0, lowest - LOWEST_PORT);
  const above = Math.max(0, HIGHEST_PORT - highest);
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > 10_000) throw new Error('no port of 127.0.0.1 is free outside those that the kernel gives');
    // A kernel that has them all leaves only this.
    if (below + above === 0) return kernelsChoice(count);
    const at = Math.floor(Math.random() * (below + above));
    const port = at < below ? LOWEST_PORT + at : highest + 1 + at - below;
    if ((await reservePort(port)) && (await nobodyListens(port))) ports.push(port);
  }
  return ports;
}

async function kernelsChoice(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** One of `freePorts`. */
export async function freePort(): Promise<number> {
  return (await freePorts(1))[0]!;
}

/** A new directory under the system's temporary one, with its removal. */
export function tempDir(name: string): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `lodestream-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }) };
}
