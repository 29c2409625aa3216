/**
 * The toy chain's ZMQ port: `hashblock` and `rawblock` of each new tip, in Core's three frames (see `core/node/zmq.ts`).
 * Flow: `chain.ts` has a new tip → here → pools.
 */
import { Publisher } from 'zeromq';
import { PoolError } from '../core/errors.ts';
import type { ToyChain } from './chain.ts';

export interface BlockPublisher {
  /** `tcp://host:port`, with the port that was found where 0 was asked for. */
  readonly url: string;
  close(): Promise<void>;
}

/** Binds and publishes from now on. @throws PoolError port_in_use */
export async function publishBlocks(
  chain: ToyChain,
  { host, port }: { host: string; port: number },
): Promise<BlockPublisher> {
  const socket = new Publisher({ linger: 0, sendHighWaterMark: 1_000 });
  const where = `tcp://${host}:${port}`;
  try {
    await socket.bind(port === 0 ? `tcp://${host}:*` : where);
  } catch (cause) {
    socket.close();
    const inUse = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
    throw new PoolError(
      inUse ? 'port_in_use' : 'config',
      `the toy chain's ZMQ port ${where}${inUse ? ' (--node-zmq) is in use' : `: ${(cause as Error).message}`}`,
      { cause },
    );
  }
  const url = socket.lastEndpoint ?? where;

  const sequences = new Map<string, number>();
  let open = true;
  /** One send at a time, as the library demands; the order of blocks is kept. */
  let sending: Promise<void> = Promise.resolve();
  function publish(topic: string, body: Uint8Array): void {
    const number = sequences.get(topic) ?? 0;
    sequences.set(topic, (number + 1) >>> 0);
    const sequence = Buffer.alloc(4);
    sequence.writeUInt32LE(number);
    sending = sending.then(() => (open ? socket.send([topic, body, sequence]) : undefined)).catch(() => {});
  }

  chain.onChange(({ tip, connected }) => {
    // Core announces the tip alone, and nothing where blocks were only taken away.
    if (!open || connected.length === 0) return;
    publish('hashblock', Buffer.from(tip.hash, 'hex'));
    publish('rawblock', chain.bytes(tip));
  });

  return {
    url,
    async close() {
      if (!open) return;
      open = false;
      await sending;
      socket.close();
    },
  };
}
