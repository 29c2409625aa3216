/**
 * `lodestream pool|proxy` and the names ckpool and ckproxy: reads the command line, takes the socket folder from whoever runs there, opens the
 * control sockets and starts the stratum daemon; in the background with `-D`.
 */
import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../core/config.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { type Lifecycle, run } from '../core/lifecycle.ts';
import type { ControlTarget } from '../stratum/control/control-commands.ts';
import { ckpoolHelp, type DaemonCall, readDaemonCall } from './ckpool-flags.ts';

/** Set for the process that `-D` leaves behind: the descriptor on which it says that it has started. */
const STARTED_FD = 'LODESTREAM_STARTED_FD';
/** A daemon that waits for its node is up: it is in the background for good. */
const STARTING_MS = 5_000;
/** CKPool's. */
const TITLE_CHARS = 14;

export interface DaemonNames {
  /** Mode of the verb or name. */
  readonly preset: 'pool' | 'proxy';
  /** Called as ckpool or ckproxy: help has CKPool's form. */
  readonly asCkpool: boolean;
  /** Help in our form. */
  readonly help: () => Promise<string>;
}

/** Runs the daemon of a command line until it is stopped. @throws PoolError as readDaemonCall */
export async function daemonCommand(argv: readonly string[], names: DaemonNames): Promise<void> {
  // A child of a process tree has a channel to it.
  const inTree = process.channel !== undefined;
  const startedFd = process.env[STARTED_FD];
  delete process.env[STARTED_FD];
  const call = readDaemonCall(argv, names.preset, inTree);
  if (call === null) {
    process.stdout.write(names.asCkpool ? ckpoolHelp() : await names.help());
    return;
  }
  if (call.daemonise && startedFd === undefined && !inTree) {
    process.exitCode = await startInBackground();
    return;
  }
  const said = startedFd === undefined ? () => {} : startTold(Number(startedFd));
  const { sockDir } = call.config;
  if (call.takeOver === 'handover' && sockDir !== null) {
    const { askHandover } = await import('../stratum/control/instance.ts');
    if ((await askHandover(sockDir)) === 'done') {
      const line = 'the running instance has taken up the program and configuration as they are now; its flags stay\n';
      process.stderr.write(line);
      said(line);
      return;
    }
  }
  await run(call.config.mode, async (life) => {
    try {
      await startDaemon(call, life, said, () => readDaemonCall(argv, names.preset, inTree)!.config, names.asCkpool);
    } catch (error) {
      said(`${errorLine(error)}\n`);
      throw error;
    }
  });
}

/** A proxy is one process, as is a pool with `"workers": 0`; else a pool is a parent and its workers. */
async function startForm(
  config: Config,
  life: Lifecycle,
  reload: () => Config,
): Promise<{ readonly control: ControlTarget; readonly statusLine: (spinner: string) => string }> {
  if (config.mode === 'pool' && config.workers > 0) {
    const { startPoolTree } = await import('../stratum/parent.ts');
    return startPoolTree(config, life, reload);
  }
  const { startPool, startProxy } = await import('../stratum/main.ts');
  return config.mode === 'proxy' ? startProxy(config, life) : startPool(config, life);
}

async function startDaemon(
  call: DaemonCall,
  life: Lifecycle,
  said: (line: string) => void,
  reload: () => Config,
  showsLine: boolean,
): Promise<void> {
  const { config } = call;
  for (const warning of call.warnings) life.log(warning);
  let target: ControlTarget | null = null;
  process.title = config.name.slice(0, TITLE_CHARS);
  if (config.sockDir !== null) {
    await openSockets(config, config.sockDir, call, life, () => target).catch((error: unknown) => {
      if (!call.sockDirMayFail || !(error instanceof PoolError) || error.code !== 'sockdir') throw error;
      life.log(`no control sockets: ${errorLine(error)}`);
    });
  }
  const starting = startForm(config, life, reload);
  Promise.race([starting, delay(STARTING_MS, undefined, { ref: false })]).then(
    () => said(''),
    () => {},
  );
  const { control, statusLine } = await starting;
  target = control;
  if (!showsLine || call.quiet || !process.stdout.isTTY) return;
  const { showStatusLine } = await import('../stratum/status-line.ts');
  life.onStop(
    'status line',
    showStatusLine(statusLine, (text) => void process.stdout.write(text)),
  );
}

/** Takes the socket folder and opens the sockets in it. They answer while the daemon still starts, and until it has ended. */
async function openSockets(
  config: Config,
  sockDir: string,
  { takeOver }: DaemonCall,
  life: Lifecycle,
  target: () => ControlTarget | null,
): Promise<void> {
  const { claimInstance } = await import('../stratum/control/instance.ts');
  const instance = await claimInstance({ ...config, sockDir }, takeOver === 'no' ? 'no' : 'kill', life.log);
  life.onStop('pid file', () => instance.release());
  const { openControl } = await import('../stratum/control/control.ts');
  const control = await openControl({
    dir: instance.dir,
    gid: instance.gid,
    process: { startedMs: Date.now(), shutdown: () => life.stop(), restart: () => restart(life) },
    target,
    log: life.log,
  });
  life.onStop('control sockets', () => control.close());
}

/** Starts this command line again; it takes over from this process. A child of a tree is started again by the tree. */
function restart(life: Lifecycle): boolean {
  if (process.channel !== undefined) {
    life.stop();
    return true;
  }
  const args = [...process.execArgv, ...process.argv.slice(1), '--handover'];
  const next = spawn(process.execPath, args, { detached: true, stdio: 'inherit' });
  next.on('error', (error) => life.log(`restart: ${errorLine(error)}`));
  next.unref();
  return next.pid !== undefined;
}

/** Leaves a process of its own session behind. @returns 0 once it is up, else its exit status */
async function startInBackground(): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    env: { ...process.env, [STARTED_FD]: '3' },
  });
  let text = '';
  const pipe = child.stdio[3] as NodeJS.ReadableStream;
  pipe.on('data', (piece: Buffer) => {
    text += piece.toString();
  });
  const ended = new Promise<number>((resolve) => {
    child.once('error', (error) => {
      process.stderr.write(`lodestream: ${errorLine(error)}\n`);
      resolve(70);
    });
    child.once('exit', (code) => resolve(code ?? 70));
  });
  const told = new Promise<null>((resolve) => pipe.once('close', () => resolve(null)));
  await told;
  process.stderr.write(text);
  // It says something only where it could not start, or had nothing to start.
  const status = text === '' ? await Promise.race([ended, delay(200, 0)]) : await ended;
  child.unref();
  return status;
}

/** Says once how the start went: nothing, or a line; then the starter goes. */
function startTold(fd: number): (line: string) => void {
  let open = true;
  return (line) => {
    if (!open) return;
    open = false;
    try {
      if (line !== '') writeSync(fd, line);
      closeSync(fd);
    } catch {
      // The starter has gone: nobody waits for it.
    }
  };
}
