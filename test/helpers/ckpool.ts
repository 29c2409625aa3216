/** The fork ckpool-lhr, built by whoever has its source: the program that CKPOOL names. */

import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { findProgram } from './coin-node.ts';
import { startLeashed, tempDir, until } from './leash.ts';
import type { Missing } from './require.ts';

export interface Ckpool {
  readonly port: number;
  /** Asks it for new work, as its `notifier` does. */
  update(): Promise<void>;
  stop(): Promise<void>;
}

export function findCkpool(): { program: string } | Missing {
  const { CKPOOL } = process.env;
  // The name on PATH may be ours.
  if (CKPOOL === undefined) return { missing: 'no CKPOOL that names a build of ckpool-lhr' };
  const program = findProgram(CKPOOL);
  return program === undefined ? { missing: `CKPOOL names ${CKPOOL}, which cannot be run` } : { program };
}

/** A free port below those that CKPool takes for high difficulties. */
async function lowPort(): Promise<number> {
  for (;;) {
    const port = 2_100 + Math.floor(Math.random() * 1_800);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** Starts it on a node. @param node - host:port of the node's RPC and of its ZMQ, and the address that it shall pay */
export async function startCkpool(
  program: string,
  node: { rpc: string; user: string; pass: string; zmq: string; address: string },
  config: Readonly<Record<string, unknown>>,
): Promise<Ckpool> {
  const dir = tempDir('ckpool');
  const port = await lowPort();
  const file = join(dir.path, 'ckpool.conf');
  const sockets = join(dir.path, 's');
  const all = {
    btcd: [{ url: node.rpc, auth: node.user, pass: node.pass, notify: false }],
    btcaddress: node.address,
    serverurl: [`127.0.0.1:${port}`],
    zmqblock: node.zmq,
    logdir: join(dir.path, 'logs'),
    ...config,
  };
  writeFileSync(file, JSON.stringify(all, null, 1));
  const child = await startLeashed(program, ['-q', '-n', 'conf', '-c', file, '-s', sockets], { cwd: dir.path });
  const serves = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
  await until('ckpool to listen', serves, { everyMs: 100 });
  await until('ckpool to have work', () => child.output().includes('Network diff set'));
  return {
    port,
    update: () =>
      new Promise((resolve, reject) => {
        const text = Buffer.from('update');
        const length = Buffer.alloc(4);
        length.writeUInt32LE(text.length);
        const socket = connect(join(sockets, 'stratifier'), () => socket.end(Buffer.concat([length, text])));
        socket.on('error', reject).on('close', () => resolve());
        socket.resume();
      }),
    async stop() {
      await child.stop({ graceMs: 2_000 });
      dir.remove();
    },
  };
}
