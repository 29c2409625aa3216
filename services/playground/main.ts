/**
 * The playground: a toy chain that behaves as a node, and a CPU miner. For a first run without a node, and for tests.
 *
 *   miner.ts ──stratum──► pool ──getblocktemplate, submitblock──► rpc-server.ts ─► rpc-methods.ts ─► chain.ts ─► store.ts
 *                          ▲                                                                          │  ▲
 *                          └──────────── hashblock ◄── zmq-publisher.ts ◄── new tip ◄─────────────────┘  └─ mempool.ts
 */
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import { PoolError } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import { playgroundAddress, ToyChain } from './chain.ts';
import { Mempool, startTraffic } from './mempool.ts';
import { nodeMethods } from './rpc-methods.ts';
import { startRpcServer } from './rpc-server.ts';
import { openBlockFile } from './store.ts';
import { type BlockPublisher, publishBlocks } from './zmq-publisher.ts';

export { playgroundAddress } from './chain.ts';
export { type CpuMiner, type CpuMinerOptions, type MinerCounters, startCpuMiner } from './miner.ts';

export interface ToyChainOptions {
  /** Holds the blocks; made where it does not exist. */
  readonly dir: string;
  readonly host?: string;
  /** 0: any free port. */
  readonly rpcPort: number;
  /** 0: any free port; null: no ZMQ. */
  readonly zmqPort: number | null;
  readonly user: string;
  readonly pass: string;
  /** Default: the built-in `playground`. */
  readonly profile?: ChainProfile;
  /** Transactions a second that the chain makes for itself; default 0.6, three a block; 0: none. */
  readonly trafficPerSecond?: number;
  /** How long a long poll ignores new transactions, milliseconds; default 5,000. */
  readonly longPollQuietMs?: number;
  /** Clock, unix milliseconds. */
  readonly nowMs?: () => number;
  readonly random?: () => number;
  readonly log?: Log;
  /** Called when somebody calls the RPC method `stop`; default: it closes. */
  readonly onStop?: () => void;
}

export interface RunningToyChain {
  /** `http://host:port` */
  readonly rpcUrl: string;
  /** `tcp://host:port`; null without ZMQ. */
  readonly zmqUrl: string | null;
  /** The address whose coins become the chain's own transactions; blocks that pay it let later blocks carry fees. */
  readonly fundingAddress: string;
  /** The rules themselves, for tests. */
  readonly chain: ToyChain;
  readonly mempool: Mempool;
  close(): Promise<void>;
}

const DEFAULT_TRAFFIC_PER_S = 0.6;
const DEFAULT_LONG_POLL_QUIET_MS = 5_000;

/**
 * Starts the toy chain, where it left off.
 *
 * @throws PoolError port_in_use, held, data_dir, config
 */
export async function startToyChain(options: ToyChainOptions): Promise<RunningToyChain> {
  const host = options.host ?? '127.0.0.1';
  const log = options.log ?? (() => {});
  const profile = options.profile ?? loadChain('playground');
  const clockMs = options.nowMs ?? Date.now;
  let mockTimeS = 0;
  const nowS = (): number => (mockTimeS > 0 ? mockTimeS : Math.floor(clockMs() / 1_000));
  const startedMs = performance.now();

  if (profile.genesis_hash === null)
    throw new PoolError('config', `chain ${profile.name} cannot be played: it has no genesis_hash`);
  const file = openBlockFile(options.dir, profile.genesis_hash);
  const closers: (() => Promise<void> | void)[] = [() => file.close()];
  async function close(): Promise<void> {
    for (const closer of closers.splice(0).reverse()) await closer();
  }

  try {
    const chain = new ToyChain(profile, file, nowS);
    for (const { place, bytes } of file.stored()) chain.submit(bytes, { stored: place });
    if (file.cutBytes > 0) log(`the last block was only half written: ${file.cutBytes} bytes cut off`);
    log(`at block ${chain.tip.height}, ${chain.tip.hash}`);

    const mempool = new Mempool(chain, nowS);
    let publisher: BlockPublisher | undefined;
    const methods = nodeMethods({
      chain,
      mempool,
      nowS,
      setMockTimeS: (timeS) => {
        mockTimeS = timeS;
      },
      zmqUrl: () => publisher?.url ?? null,
      uptimeS: () => Math.floor((performance.now() - startedMs) / 1_000),
      // The answer goes out first.
      onStop: () => void setTimeout(options.onStop ?? (() => void close()), 50),
      longPollQuietMs: options.longPollQuietMs ?? DEFAULT_LONG_POLL_QUIET_MS,
    });
    if (options.zmqPort !== null) {
      publisher = await publishBlocks(chain, { host, port: options.zmqPort });
      closers.push(publisher.close);
    }
    const server = await startRpcServer({
      host,
      port: options.rpcPort,
      user: options.user,
      pass: options.pass,
      methods,
      onError: (error) => log(`toy chain: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`),
    });
    closers.push(() => server.close());
    const perSecond = options.trafficPerSecond ?? DEFAULT_TRAFFIC_PER_S;
    if (perSecond > 0) {
      const traffic = startTraffic({ chain, mempool, perSecond, random: options.random ?? Math.random });
      closers.push(() => traffic.close());
    }
    return {
      rpcUrl: `http://${host.includes(':') ? `[${host}]` : host}:${server.port}`,
      zmqUrl: publisher?.url ?? null,
      fundingAddress: playgroundAddress(profile),
      chain,
      mempool,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
