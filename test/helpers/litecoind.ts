/** Debian's litecoind in regtest: scrypt, segwit, MWEB, wallet; no ZMQ in that build (the flag is accepted and does nothing). */

import { findProgram, type TestNode } from './coin-node.ts';
import { startCoreNode } from './core-node.ts';
import type { Missing } from './require.ts';

/** Height of the first block that must carry MWEB in regtest. */
export const MWEB_HEIGHT = 432;

export interface Litecoind extends TestNode {
  /** Mines to an address of the wallet until the tip is at `height`, at most MWEB_HEIGHT - 1. */
  mineTo(height: number): Promise<void>;
  /** Mines to just below MWEB_HEIGHT, pegs coins in (the first MWEB block must have one), and mines that block. */
  activateMweb(): Promise<void>;
}

/** `getblocktemplate`'s argument for Litecoin; without `mweb` it refuses with -8. */
export const LITECOIN_RULES = { rules: ['mweb', 'segwit'] };

/** Starts the litecoind on PATH or in LITECOIND (1-2 s). */
export async function startLitecoind(): Promise<Litecoind | Missing> {
  const program = findProgram(process.env.LITECOIND ?? 'litecoind');
  if (program === undefined) return { missing: `no ${process.env.LITECOIND ?? 'litecoind on PATH'}` };
  const node = await startCoreNode(program, 'litecoind', []);
  async function mineTo(height: number): Promise<void> {
    const count = height - (await node.rpc<number>('getblockcount'));
    if (count > 0) await node.rpc('generatetoaddress', count, await node.rpc('getnewaddress', '', 'bech32'));
  }
  return {
    ...node,
    mineTo,
    async activateMweb() {
      await mineTo(MWEB_HEIGHT - 1);
      await node.rpc('sendtoaddress', await node.rpc('getnewaddress', '', 'mweb'), 1);
      await mineTo(MWEB_HEIGHT);
    },
  };
}
