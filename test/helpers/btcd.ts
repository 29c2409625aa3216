/**
 * btcd in regtest: a sha256d node that is not Bitcoin Core, built from the Go module proxy into .cache/go-bin (30 s, once).
 *
 * Without peers it gives templates and long poll, and validates what is submitted. What a client must bear that Core does not ask of it:
 * templates have no `rules`, and `default_witness_commitment` only beside transactions with witnesses; `getblockchaininfo` has no
 * `initialblockdownload`, `chainwork` and `verificationprogress`, headers no `chainwork`, `mediantime`, `nTx`; `getblock … 2` names the transactions `rawtx`;
 * `difficulty` counts from the chain's own limit; `getnetworkinfo` and `preciousblock` answer -1 "Command unimplemented",
 * `getblockstats` -32601. There are no wallet and no ZMQ.
 */

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, rpcCaller, startNode, type TestNode } from './coin-node.ts';
import { freePorts, tempDir } from './leash.ts';
import type { Missing } from './require.ts';

/** Proved with btcd.int.test.ts. */
const VERSION = 'v0.26.2';
const GOBIN = resolve(import.meta.dirname, '../../.cache/go-bin', VERSION);
/** P2WPKH of the private key 1 in regtest: BIP 173's example program. */
const MINING_ADDRESS = 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080';

export interface Btcd extends TestNode {
  /** Mines `count` blocks with the node's own miner. */
  generate(count: number): Promise<string[]>;
}

/** The program's path: BTCD, else the one built before, else built now with `go`. */
export async function btcdProgram(): Promise<string | Missing> {
  if (process.env.BTCD !== undefined) {
    return findProgram(process.env.BTCD) ?? { missing: `BTCD names ${process.env.BTCD}, which cannot be run` };
  }
  const program = resolve(GOBIN, 'btcd');
  if (existsSync(program)) return program;
  if (findProgram('go') === undefined) return { missing: 'no go on PATH to build it with' };
  try {
    await promisify(execFile)('go', ['install', `github.com/btcsuite/btcd@${VERSION}`], {
      env: { ...process.env, GOBIN, GOFLAGS: '-buildvcs=false' },
      timeout: 300_000,
    });
  } catch (error) {
    return { missing: `go install failed: ${(error as { stderr?: string }).stderr?.trim().split('\n').at(-1)}` };
  }
  return program;
}

/** Starts it in a temporary directory on free ports of loopback (under 1 s). */
export async function startBtcd(): Promise<Btcd | Missing> {
  const program = await btcdProgram();
  if (typeof program !== 'string') return program;
  const dir = tempDir('btcd');
  const [rpcPort, p2pPort] = (await freePorts(2)) as [number, number];
  const [user, pass] = ['lodestream', 'regtest-only'];
  const rpcUrl = `http://127.0.0.1:${rpcPort}`;
  const rpc = rpcCaller(rpcUrl, user, pass);
  try {
    const child = await startNode(
      program,
      [
        ...['--regtest', '--configfile=/dev/null', `--datadir=${dir.path}/data`, `--logdir=${dir.path}/log`],
        ...[`--rpclisten=127.0.0.1:${rpcPort}`, `--rpcuser=${user}`, `--rpcpass=${pass}`, '--notls'],
        ...[`--listen=127.0.0.1:${p2pPort}`, '--nodnsseed', `--miningaddr=${MINING_ADDRESS}`, '--debuglevel=warn'],
      ],
      () => rpc('getblockcount').then(() => true),
    );
    return {
      ...{ rpcUrl, rpcPort, p2pPort, user, pass, rpc, pid: child.pid, dataDir: dir.path },
      generate: (count) => rpc('generate', count),
      async stop() {
        await child.stop();
        dir.remove();
      },
    };
  } catch (error) {
    dir.remove();
    throw error;
  }
}
