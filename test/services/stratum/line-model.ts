/**
 * A line without a socket, and miners that only do what matters to difficulty: they read set_difficulty and notify, take a new value when
 * their firmware does, and draw the difficulties of their shares instead of hashing. The session, its jobs and its daemon are the real ones;
 * a share is judged by `ruling` and the session's requirement, as intake.ts does it.
 */

import type { Connection } from '../../../services/stratum/edge/line.ts';
import type { Session } from '../../../services/stratum/session.ts';
import { ruling } from '../../../services/stratum/share.ts';
import type { Job } from '../../../services/stratum/work/job.ts';
import type { Rig } from './rig.ts';

let nextId = 1_000_000;

/** What the pool writes, line by line. */
class ModelLine implements Connection {
  readonly id = nextId++;
  readonly address = '192.0.2.1';
  readonly listener = '127.0.0.1:0';
  readonly listenerIndex: number;
  closed = false;
  readonly unread: string[] = [];
  constructor(listenerIndex = 0) {
    this.listenerIndex = listenerIndex;
  }
  write(text: string | Buffer): void {
    for (const line of text.toString().split('\n')) if (line !== '') this.unread.push(line);
  }
  close(): void {
    this.closed = true;
  }
  pause(): void {}
  resume(): void {}
}

/** When a new difficulty is taken. */
export type Firmware = 'at once' | 'with the next job' | 'with a clean job';
export const FIRMWARES: readonly Firmware[] = ['at once', 'with the next job', 'with a clean job'];

export interface Drawn {
  readonly job: Job;
  readonly sdiff: number;
}

export interface ModelMinerOptions {
  readonly firmware: Firmware;
  readonly user?: string;
  readonly password?: string;
  readonly agent?: string;
  readonly listenerIndex?: number;
}

export class ModelMiner {
  readonly rig: Rig;
  readonly options: ModelMinerOptions;
  line!: ModelLine;
  session!: Session;
  told = 0;
  /** What it filters by. */
  believed = 0;
  job: Job | null = null;
  jobClean = false;
  sessionId = '';
  #nextId = 1;

  constructor(rig: Rig, options: ModelMinerOptions) {
    this.rig = rig;
    this.options = options;
    this.connect();
  }

  /** A new line; an earlier session is resumed where there is one. */
  connect(): void {
    const { options, rig } = this;
    this.line = new ModelLine(options.listenerIndex);
    this.session = rig.daemon.connect(this.line);
    const agent = options.agent ?? 'model/1';
    this.call('mining.subscribe', this.sessionId === '' ? [agent] : [agent, this.sessionId]);
    this.call('mining.authorize', [`${options.user ?? 'alice'}.w1`, options.password ?? 'x']);
    this.readAll();
  }

  disconnect(): void {
    this.rig.daemon.forget(this.session, 'gone');
    this.line.closed = true;
    this.line.unread.length = 0;
  }

  call(method: string, params: unknown[]): void {
    this.session.line(JSON.stringify({ id: this.#nextId++, method, params }));
    this.rig.daemon.facts.flush();
  }

  /** Reads one message of the pool. @returns false where there is none */
  read(): boolean {
    const text = this.line.unread.shift();
    if (text === undefined) return false;
    const message = JSON.parse(text);
    const { firmware } = this.options;
    if (Array.isArray(message.result) && Array.isArray(message.result[0])) this.sessionId = message.result[0][0][1];
    if (message.method === 'mining.set_difficulty') {
      this.told = message.params[0];
      if (firmware === 'at once' || this.believed === 0) this.believed = this.told;
    } else if (message.method === 'mining.notify') {
      this.job = this.session.source!.jobs.find(message.params[0])!;
      this.jobClean = message.params[8];
      if (firmware !== 'with a clean job' || this.jobClean) this.believed = this.told;
    }
    return true;
  }

  readAll(): void {
    while (this.read());
  }

  /**
   * The pool judges a share.
   *
   * @param solves - the hash meets the exact target of the job
   * @returns above 0: credited; below 0: minus the number of the refusal
   */
  submit({ job, sdiff }: Drawn, solves = false): number {
    const { session, rig } = this;
    const stale = session.source!.jobs.isStale(job);
    const ruled = ruling(job, job.ntime, sdiff, solves, session.requirement(job), stale);
    if (ruled > 0) session.accepted(job, ruled, rig.daemon.nowMs());
    rig.daemon.facts.flush();
    return ruled;
  }
}
