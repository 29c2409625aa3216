/** One worker process, seen from its parent (workers.ts has all of them): from its start to its end, and what it was started with. */
import type { ChildProcess } from 'node:child_process';
import type { Config } from '../core/config.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { FromWorker, ToWorker, WorkerReport } from './messages.ts';

type State = 'starting' | 'serving' | 'retiring' | 'gone';

/** The end of a worker. */
interface WorkerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** In words, behind its name. */
  readonly how: string;
}

export class WorkerProcess {
  readonly slot: number;
  readonly instance: string;
  readonly process: ChildProcess;
  /** What it was started with, and for which set of workers: a hand-over begins a new one. */
  readonly config: Config;
  readonly wave: number;
  readonly startedMs = performance.now();
  /** Resolves when it serves; rejects where it ends before. */
  readonly serving: Promise<void>;
  readonly gone: Promise<void>;
  state: State = 'starting';
  /** Has accepted connections. */
  served = false;
  /** Told to go: its end is no accident. */
  dismissed = false;
  exit: WorkerExit | null = null;
  report: WorkerReport | null = null;

  constructor(
    of: { readonly slot: number; readonly instance: string; readonly config: Config; readonly wave: number },
    child: ChildProcess,
    onMessage: (message: FromWorker) => void,
  ) {
    this.slot = of.slot;
    this.instance = of.instance;
    this.config = of.config;
    this.wave = of.wave;
    this.process = child;
    let serves!: () => void;
    let ends!: () => void;
    this.serving = new Promise<void>((resolve, reject) => {
      serves = resolve;
      const over = (exit: WorkerExit): void => {
        this.exit = exit;
        this.state = 'gone';
        reject(new WorkerFailed(exit));
        ends();
      };
      child.once('exit', (code, signal) =>
        over({ code, signal, how: signal === null ? `ended with status ${code}` : `was killed by ${signal}` }),
      );
      // One that the system could not make (EAGAIN, ENOMEM) has no exit.
      child.on('error', (error) => {
        if (child.pid !== undefined || this.exit !== null) return;
        over({ code: null, signal: null, how: `could not be made by the system (${errorLine(error)})` });
      });
    });
    this.serving.catch(() => {});
    this.gone = new Promise((resolve) => {
      ends = resolve;
    });
    child.on('message', (message: FromWorker | 'ready') => {
      if (message === 'ready') return;
      if (message.kind === 'serving') {
        if (this.state === 'starting') this.state = 'serving';
        this.served = true;
        serves();
      } else onMessage(message);
    });
  }

  tell(message: ToWorker): void {
    if (this.process.connected) this.process.send(message, (error) => void error);
  }

  kill(): void {
    this.dismissed = true;
    this.process.kill('SIGKILL');
  }
}

/** A worker never served; one that ran at all has said why on standard error. The pool ends with its status. */
export class WorkerFailed extends PoolError {
  readonly status: number;

  constructor({ code, signal, how }: WorkerExit) {
    const ran = code !== null || signal !== null;
    super(
      'internal',
      ran ? `a worker could not start (${signal ?? `status ${code}`}); its own line says why` : `a worker ${how}`,
    );
    this.status = code ?? 70;
  }

  override get exit(): number {
    return this.status;
  }

  override get line(): string {
    return this.message;
  }
}
