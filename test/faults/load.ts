/**
 * A load of shares that keeps its own record of what was sent, acknowledged and refused: what a pool's tables are held against.
 *
 * A line is one miner with one worker name. Its shares are numbered from 0 over all its connections, and the number is the nonce, so
 * (worker, nonce) names a share in any table; the rest of what was sent is kept for each span of shares under one job. The difficulty is so
 * low that every hash is a share, so nothing is hashed here and some thousand shares a second cost little.
 */
import { connect, type Socket } from 'node:net';

/** What is known of a share; `AGAIN` is added where it was sent more than once. */
const UNSENT = 0;
const SENT = 1;
export const ACKNOWLEDGED = 2;
export const REFUSED = 3;
export const AGAIN = 8;

/** Shares of one line that may wait for their answers. */
const WINDOW = 150;
/** Shares that a line makes up for after a while without a pool, at most. */
const OWED = 600;
const TICK_MS = 25;
const RECONNECT_MS = 50;
const FIRST_SUBMIT_ID = 10;

/** Shares from `from` on, to the next span's, were made under these. */
export interface Span {
  readonly from: number;
  readonly enonce1: string;
  readonly nonce2: string;
  readonly jobId: string;
  readonly ntime: string;
  /** As told by mining.set_difficulty. */
  readonly diff: number;
  /** Of mining.notify. */
  readonly notify: readonly unknown[];
}

interface Message {
  readonly id?: number | null;
  readonly method?: string;
  readonly params?: readonly unknown[];
  readonly result?: unknown;
  readonly error?: readonly unknown[] | null;
}

class LoadLine {
  readonly worker: string;
  readonly spans: Span[] = [];
  /** Shares made so far. */
  count = 0;
  acknowledged = 0;
  connections = 0;
  resumed = 0;
  /** Words of refusals, with how often. */
  readonly refusals = new Map<string, number>();
  /** Shares refused as duplicates that were sent once only. */
  readonly strangeDuplicates: number[] = [];
  #states = new Uint8Array(4096);
  readonly #port: () => number;
  readonly #perSecond: number;
  #offered = 0;
  #lastMs = performance.now();
  #stopping = false;
  /** Sent and not answered. */
  readonly #waiting = new Set<number>();
  #session: string | undefined;
  #lastEnonce1 = '';

  constructor(worker: string, port: () => number, perSecond: number) {
    this.worker = worker;
    this.#port = port;
    this.#perSecond = perSecond;
  }

  stateOf(share: number): number {
    return share < this.count ? this.#states[share]! : UNSENT;
  }

  spanOf(share: number): Span {
    let low = 0;
    let high = this.spans.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.spans[middle]!.from <= share) low = middle;
      else high = middle - 1;
    }
    return this.spans[low]!;
  }

  /** Mines until `stop`, over as many connections as it takes. */
  async run(): Promise<void> {
    while (!this.#stopping) {
      await this.#connection();
      if (!this.#stopping) await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    }
  }

  /** Ends `run` when the shares that wait are answered, or the line has ended. */
  stop(): void {
    this.#stopping = true;
  }

  #connection(): Promise<void> {
    return new Promise((resolve) => {
      const socket: Socket = connect({ host: '127.0.0.1', port: this.#port(), noDelay: true });
      let rest = '';
      let enonce1 = '';
      let nonce2 = '';
      let authorized = false;
      let diff = 0;
      let job: readonly unknown[] | null = null;
      let fresh = true;
      let ticking: NodeJS.Timeout | undefined;
      socket.on('error', () => {});
      socket.on('end', () => socket.destroy());
      socket.on('close', () => {
        clearInterval(ticking);
        resolve();
      });
      const submit = (share: number, { jobId, ntime, nonce2 }: Span): string => {
        this.#waiting.add(share);
        const nonce = share.toString(16).padStart(8, '0');
        return `{"id":${share + FIRST_SUBMIT_ID},"method":"mining.submit","params":["${this.worker}","${jobId}","${nonce2}","${ntime}","${nonce}"]}\n`;
      };
      const subscribed = (result: readonly unknown[]): void => {
        this.#session = (result[0] as string[][])[0]![1]!;
        enonce1 = result[1] as string;
        nonce2 = '00'.repeat(result[2] as number);
        this.connections += 1;
      };
      /** What was not answered goes out again where the extranonce is the same; else nobody will ever know. */
      const again = (): void => {
        const waiting = [...this.#waiting];
        this.#waiting.clear();
        if (enonce1 === this.#lastEnonce1) {
          this.resumed += 1;
          let text = '';
          for (const share of waiting) {
            this.#states[share]! |= AGAIN;
            text += submit(share, this.spanOf(share));
          }
          if (text !== '') socket.write(text);
        }
        this.#lastEnonce1 = enonce1;
      };
      const tick = (): void => {
        const now = performance.now();
        this.#offered = Math.min(this.#offered + ((now - this.#lastMs) / 1000) * this.#perSecond, OWED);
        this.#lastMs = now;
        if (this.#stopping) {
          if (this.#waiting.size === 0) socket.destroy();
          return;
        }
        if (!authorized || job === null || diff === 0) return;
        if (fresh) {
          fresh = false;
          const [jobId, ntime] = [job[0] as string, job[7] as string];
          this.spans.push({ from: this.count, enonce1, nonce2, jobId, ntime, diff, notify: job });
        }
        const span = this.spans.at(-1)!;
        let text = '';
        while (this.#offered >= 1 && this.#waiting.size < WINDOW) {
          this.#offered -= 1;
          const share = this.count++;
          if (share >= this.#states.length) this.#grow();
          this.#states[share] = SENT;
          text += submit(share, span);
        }
        if (text !== '') socket.write(text);
      };
      const answered = ({ id, result, error }: Message): void => {
        const share = (id as number) - FIRST_SUBMIT_ID;
        if (!this.#waiting.delete(share)) return;
        const wasAgain = this.#states[share]! & AGAIN;
        if (result === true) {
          this.#states[share] = ACKNOWLEDGED | wasAgain;
          this.acknowledged += 1;
          return;
        }
        this.#states[share] = REFUSED | wasAgain;
        const words = String(error?.[1]);
        this.refusals.set(words, (this.refusals.get(words) ?? 0) + 1);
        if (words === 'Duplicate' && wasAgain === 0) this.strangeDuplicates.push(share);
      };
      const take = (message: Message): void => {
        if (message.method === 'mining.set_difficulty') {
          diff = message.params![0] as number;
          fresh = true;
        } else if (message.method === 'mining.notify') {
          job = message.params!;
          fresh = true;
        } else if (message.id === 1) {
          if (Array.isArray(message.result)) subscribed(message.result);
          else socket.destroy();
        } else if (message.id === 2) {
          if (message.result !== true) socket.destroy();
          else {
            authorized = true;
            again();
          }
        } else if (typeof message.id === 'number') answered(message);
      };
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop()!;
        for (const line of lines) take(JSON.parse(line) as Message);
      });
      socket.once('connect', () => {
        const session = this.#session === undefined ? '' : `,"${this.#session}"`;
        socket.write(
          `{"id":1,"method":"mining.subscribe","params":["faults/1"${session}]}\n` +
            `{"id":2,"method":"mining.authorize","params":["${this.worker}","x"]}\n`,
        );
        ticking = setInterval(tick, TICK_MS);
      });
    });
  }

  #grow(): void {
    const grown = new Uint8Array(this.#states.length * 2);
    grown.set(this.#states);
    this.#states = grown;
  }
}

export interface Load {
  readonly lines: readonly LoadLine[];
  acknowledged(): number;
  /** Ends it. @returns when every line has its answers, or has lost its connection */
  stop(): Promise<void>;
}

/** Starts `lines` miners of some users who together send so many shares a second. */
export function startLoad(port: () => number, lines: number, perSecond: number): Load {
  const all = Array.from({ length: lines }, (_, i) => new LoadLine(`user${i % 5}.rig${i}`, port, perSecond / lines));
  const runs = all.map((line) => line.run());
  return {
    lines: all,
    acknowledged: () => all.reduce((sum, line) => sum + line.acknowledged, 0),
    async stop() {
      for (const line of all) line.stop();
      await Promise.all(runs);
    },
  };
}
