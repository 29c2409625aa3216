/**
 * One client line of the conformance suite: reads all that the pool says, mines shares with node:crypto alone, so that the daemon's own
 * code is not what it is judged by.
 */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { searchNonce } from '../../helpers/search-nonce.ts';
import type { Heard } from './case.ts';

/** Difficulty 1, as a double (CKPool). */
const DIFFICULTY_1 = 0xffff * 2 ** 208;

export interface Work {
  readonly id: string;
  readonly clean: boolean;
  readonly ntime: number;
  readonly params: readonly unknown[];
}

function sha256d(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(createHash('sha256').update(bytes).digest()).digest();
}

/** The 80 bytes that a share of a job stands for, with nonce 0. */
export function headerOf(work: Work, enonce1: string, nonce2: string, ntime: number, bits: number | null): Buffer {
  const [, prev, part1, part2, branch, version, nbits] = work.params as [
    string,
    string,
    string,
    string,
    string[],
    string,
    string,
  ];
  let root = sha256d(Buffer.from(part1 + enonce1 + nonce2 + part2, 'hex'));
  for (const step of branch) root = sha256d(Buffer.concat([root, Buffer.from(step, 'hex')]));
  const header = Buffer.alloc(80);
  header.writeUInt32LE((Number.parseInt(version, 16) | (bits ?? 0)) >>> 0, 0);
  // Words of four bytes, each the other way round.
  Buffer.from(prev, 'hex').swap32().copy(header, 4);
  root.copy(header, 36);
  header.writeUInt32LE(ntime, 68);
  header.writeUInt32LE(Number.parseInt(nbits, 16), 72);
  return header;
}

function difficultyOfHash(hash: Uint8Array): number {
  let value = 0;
  for (let i = 31; i >= 0; i--) value = value * 256 + hash[i]!;
  return DIFFICULTY_1 / Math.max(value, 1);
}

/** Of a job's nBits: a share that reaches it is a block, and after that all others are stale. */
export function networkDifficulty(work: Work): number {
  const bits = Number.parseInt(work.params[6] as string, 16);
  return DIFFICULTY_1 / ((bits & 0x007f_ffff) * 2 ** (8 * ((bits >>> 24) - 3)));
}

export class Line implements Heard {
  readonly lines: string[] = [];
  /** Lines that answer something, and text that is no JSON. */
  readonly replies: string[] = [];
  readonly told: { readonly method: string; readonly text: string }[] = [];
  readonly jobs: Work[] = [];
  readonly difficulties: number[] = [];
  enonce1 = '';
  nonce2Bytes = 8;
  sessionId = '';
  closed = false;
  /** Replies and messages that steps have dealt with. */
  repliesRead = 0;
  toldRead = 0;
  /** Messages after that which a step has waited for; their order is each pool's own. */
  readonly toldTaken = new Set<number>();
  lastShare: string[] = [];
  readonly #socket: Socket;
  #rest = '';
  #nonce2 = 0n;
  #heard: (() => void) | null = null;

  static async open(host: string, port: number): Promise<Line> {
    const socket = connect({ host, port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Line(socket);
  }

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (this.#rest + chunk).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) this.#take(line);
      this.#heard?.();
    });
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      this.closed = true;
      this.#heard?.();
    });
  }

  #take(text: string): void {
    this.lines.push(text);
    let message: { method?: unknown; params?: unknown[]; result?: unknown };
    try {
      message = JSON.parse(text);
    } catch {
      this.replies.push(text);
      return;
    }
    const { method, params, result } = message;
    if (typeof method !== 'string') {
      this.replies.push(text);
      if (Array.isArray(result) && Array.isArray(result[0]) && typeof result[1] === 'string') {
        this.sessionId = result[0][0]?.[1] ?? '';
        this.enonce1 = result[1];
        this.nonce2Bytes = result[2];
      }
      return;
    }
    this.told.push({ method, text });
    if (method === 'mining.set_difficulty') this.difficulties.push(params![0] as number);
    if (method === 'mining.notify') {
      const [id, , , , , , , ntime, clean] = params as [string, ...unknown[], string, boolean];
      this.jobs.push({ id, clean: clean as boolean, ntime: Number.parseInt(ntime as string, 16), params: params! });
    }
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Waits for a fact; false where it does not come within the time. */
  async until(fact: () => boolean, limitMs: number): Promise<boolean> {
    const end = performance.now() + limitMs;
    while (!fact()) {
      const left = end - performance.now();
      if (left <= 0) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 50));
        this.#heard = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#heard = null;
    }
    return true;
  }

  /**
   * Looks for a share.
   *
   * @param of - the difficulty that it shall reach, from and below
   * @returns the five parameters of mining.submit, without a worker: job id, extranonce2, ntime, nonce
   */
  mine(
    work: Work,
    of: { readonly atLeast: number; readonly below: number },
    later: number,
    bits: number | null,
  ): string[] {
    const ntime = work.ntime + later;
    this.#nonce2 += 1n;
    const nonce2 = this.#nonce2.toString(16).padStart(this.nonce2Bytes * 2, '0');
    const header = headerOf(work, this.enonce1, nonce2, ntime, bits);
    const nonce = searchNonce(header, {
      atLeast: of.atLeast,
      accepts: (hash) => {
        const reached = difficultyOfHash(hash);
        return reached >= of.atLeast && reached < of.below;
      },
    });
    return [work.id, nonce2, ntime.toString(16).padStart(8, '0'), nonce.toString(16).padStart(8, '0')];
  }
}
