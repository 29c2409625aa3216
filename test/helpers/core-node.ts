/** Bitcoin Core and its descendants in regtest: same flags, same calls. */

import { idlePeer, rpcCaller, startNode, type TestNode } from './coin-node.ts';
import { freePorts, tempDir, until } from './leash.ts';

/**
 * A node in a temporary directory, on free ports of loopback, with one idle peer and a wallet `test`.
 *
 * @param program - path of the daemon
 * @param more - further flags
 */
export async function startCoreNode(program: string, name: string, more: readonly string[]): Promise<TestNode> {
  const dir = tempDir(name);
  const [rpcPort, p2pPort, onionPort] = (await freePorts(3)) as [number, number, number];
  const [user, pass] = ['lodestream', 'regtest-only'];
  const rpcUrl = `http://127.0.0.1:${rpcPort}`;
  const rpc = rpcCaller(rpcUrl, user, pass);
  try {
    const child = await startNode(
      program,
      [
        ...['-regtest', `-datadir=${dir.path}`, '-printtoconsole=0', '-server'],
        ...[
          `-rpcport=${rpcPort}`,
          '-rpcbind=127.0.0.1',
          '-rpcallowip=127.0.0.1',
          `-rpcuser=${user}`,
          `-rpcpassword=${pass}`,
        ],
        ...[
          `-port=${p2pPort}`,
          '-listen=1',
          `-bind=127.0.0.1:${p2pPort}`,
          // Else 0.21 binds its default port for Tor as well: Litecoin's is 19444, where the playground announces blocks.
          `-bind=127.0.0.1:${onionPort}=onion`,
          '-dnsseed=0',
          '-discover=0',
          '-listenonion=0',
        ],
        // A silent peer would be dropped after this time; regtest tests are over by then.
        ...['-peertimeout=86400', '-fallbackfee=0.0002', '-dbcache=16', ...more],
      ],
      () => rpc('getblockcount').then(() => true),
    );
    const peer = await idlePeer(p2pPort);
    await until('the peer', async () => (await rpc<number>('getconnectioncount')) > 0);
    await rpc('createwallet', 'test');
    return {
      ...{ rpcUrl, rpcPort, p2pPort, user, pass, rpc, pid: child.pid, dataDir: dir.path },
      async stop() {
        peer.destroy();
        await child.stop();
        dir.remove();
      },
    };
  } catch (error) {
    dir.remove();
    throw error;
  }
}
