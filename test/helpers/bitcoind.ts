/** Bitcoin Core in regtest, where a `bitcoind` is on PATH or named by BITCOIND: sha256d, segwit, wallet, ZMQ. */

import { findProgram, type TestNode } from './coin-node.ts';
import { startCoreNode } from './core-node.ts';
import { freePort } from './leash.ts';
import type { Missing } from './require.ts';

export interface Bitcoind extends TestNode {
  /** `tcp://127.0.0.1:PORT` of hashblock and rawblock; undefined where this build has no ZMQ. */
  readonly zmqUrl: string | undefined;
}

/** Starts it (Core's builds without ZMQ accept the flags and do nothing). */
export async function startBitcoind(): Promise<Bitcoind | Missing> {
  const program = findProgram(process.env.BITCOIND ?? 'bitcoind');
  if (program === undefined) return { missing: `no ${process.env.BITCOIND ?? 'bitcoind on PATH or in BITCOIND'}` };
  const zmqUrl = `tcp://127.0.0.1:${await freePort()}`;
  const node = await startCoreNode(program, 'bitcoind', [`-zmqpubhashblock=${zmqUrl}`, `-zmqpubrawblock=${zmqUrl}`]);
  const publishers = await node.rpc<unknown[]>('getzmqnotifications').catch(() => []);
  return { ...node, zmqUrl: publishers.length > 0 ? zmqUrl : undefined };
}
