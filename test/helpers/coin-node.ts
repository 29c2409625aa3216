/** What the helpers for coin nodes (litecoind.ts, bitcoind.ts, btcd.ts) have in common: JSON-RPC, start, one idle peer, stop. */

import { execFileSync } from 'node:child_process';
import { createConnection, type Socket } from 'node:net';
import { type Leashed, startLeashed, until } from './leash.ts';

/** A JSON-RPC error as the node gave it. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export interface TestNode {
  /** `http://127.0.0.1:PORT`, without user and password. */
  readonly rpcUrl: string;
  readonly rpcPort: number;
  readonly p2pPort: number;
  readonly user: string;
  readonly pass: string;
  readonly pid: number;
  readonly dataDir: string;
  /** Calls the node. @throws RpcError with the node's code and message */
  // biome-ignore lint/suspicious/noExplicitAny: a test reads the field that it expects
  rpc<T = any>(method: string, ...params: unknown[]): Promise<T>;
  stop(): Promise<void>;
}

/** The program's path where `command` can be run (a path, or a name on PATH). */
export function findProgram(command: string): string | undefined {
  try {
    return execFileSync('/bin/sh', ['-c', 'command -v "$1"', 'sh', command], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

export function rpcCaller(rpcUrl: string, user: string, pass: string): TestNode['rpc'] {
  const authorization = `Basic ${Buffer.from(`${user}:${pass}`).toString('base64')}`;
  return async (method, ...params) => {
    const response = await fetch(rpcUrl, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '1.0', id: 1, method, params }),
    });
    const text = await response.text();
    let answer: { result: never; error: { code: number; message: string } | null };
    try {
      answer = JSON.parse(text);
    } catch {
      throw new Error(`${method}: HTTP ${response.status} ${text.slice(0, 200)}`);
    }
    if (answer.error) throw new RpcError(answer.error.code, answer.error.message);
    return answer.result;
  };
}

/** Starts the program and waits until `ready` gives true. @throws Error with its last lines where it ends first */
export async function startNode(
  command: string,
  args: readonly string[],
  ready: () => Promise<unknown>,
  withinMs = 30_000,
): Promise<Leashed> {
  const child = await startLeashed(command, args);
  const ended = child.exited.then((status) => {
    throw new Error(`${command} ended with ${status}: ${child.output().trim().slice(-500)}`);
  });
  await Promise.race([ended, until(`an answer of ${command}`, ready, { withinMs, everyMs: 100 })]).catch(
    async (error) => {
      await child.stop({ signal: 'SIGKILL' });
      throw error;
    },
  );
  ended.catch(() => {});
  return child;
}

/** A TCP connection to the node's peer port that says nothing: Core's `getblocktemplate` wants one peer, even in regtest. */
export function idlePeer(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      socket.unref();
      resolve(socket);
    });
  });
}
