/**
 * Block notices from the node's ZMQ publisher (`zmqpubhashblock`, `zmqpubrawblock`).
 * Flow: node → here → `templates.ts`, which asks for new work at once. A notice is a hint and no more: it is not
 * authenticated and may be lost, so that whoever hears it asks the node.
 *
 * | frame | content                                              |
 * |-------|------------------------------------------------------|
 * | 0     | topic, `hashblock` or `rawblock`                     |
 * | 1     | 32 bytes, the hash in display order; or the block    |
 * | 2     | sequence of that topic, 4 bytes little-endian        |
 *
 * @see https://github.com/bitcoin/bitcoin/blob/master/doc/zmq.md
 */
import { Subscriber } from 'zeromq';
import { hexFromBytes, readUint32Le } from '../bitcoin/bytes.ts';
import { blockHash, hashHex } from '../bitcoin/header.ts';
import { PoolError } from '../errors.ts';
import type { Log } from '../lifecycle.ts';

export interface BlockNotices {
  close(): void;
}

export interface BlockNoticeOptions {
  /** `zmqblock` of the configuration, e.g. `tcp://127.0.0.1:28332`. */
  readonly endpoint: string;
  /** Called with the hash in display order; once where both topics name a block one after the other. */
  readonly onBlock: (hashRpc: string) => void;
  /** Called where a gap in the sequence shows that notices were lost. */
  readonly onLost?: () => void;
  /** Told when the publisher answers, and when it went away. */
  readonly onConnected?: (connected: boolean) => void;
  readonly log: Log;
}

/** A peer that is gone without a word is noticed by its missing heartbeat. */
const HEARTBEAT_MS = 15_000;
/** Larger than any block: a peer that announces more is cut off. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** The endpoints of `zmqblock`: one, or several with commas between, as several nodes have them. */
export function endpointsOf(text: string): string[] {
  return text.split(',').flatMap((each) => (each.trim() === '' ? [] : [each.trim()]));
}

/** @throws PoolError config where the text is no endpoint */
export function checkEndpoint(endpoint: string): void {
  const form = /^(?:tcp:\/\/\S+:(\d{1,5})|ipc:\/\/\S+)$/.exec(endpoint);
  if (form === null || Number(form[1] ?? 1) > 65_535) throw wrongEndpoint(endpoint);
}

/**
 * Subscribes, and keeps connecting where nobody publishes yet or the publisher went away.
 *
 * @throws PoolError config where the endpoint is none
 */
export function subscribeBlocks({ endpoint, onBlock, onLost, onConnected, log }: BlockNoticeOptions): BlockNotices {
  checkEndpoint(endpoint);
  const socket = new Subscriber({
    reconnectInterval: 250,
    reconnectMaxInterval: 5_000,
    heartbeatInterval: HEARTBEAT_MS,
    heartbeatTimeout: HEARTBEAT_MS * 2,
    maxMessageSize: MAX_MESSAGE_BYTES,
    receiveHighWaterMark: 1_000,
    linger: 0,
  });
  // Before connecting: events from before the first look at them are lost.
  let connected: boolean | null = null;
  socket.events.on('handshake', () => {
    if (connected !== true) log(`ZMQ connected to ${endpoint}`);
    connected = true;
    onConnected?.(true);
  });
  socket.events.on('disconnect', () => {
    if (connected === true)
      log(`ZMQ connection to ${endpoint} lost; connecting again, meanwhile new blocks are found by asking`);
    connected = false;
    onConnected?.(false);
  });
  try {
    socket.connect(endpoint);
    socket.subscribe('hashblock', 'rawblock');
  } catch (cause) {
    socket.close();
    throw wrongEndpoint(endpoint, cause);
  }

  let lastHash = '';
  const sequences = new Map<string, number>();
  let closed = false;
  let complained = false;

  function take(frames: readonly Uint8Array[]): void {
    const [topicBytes, body, sequenceBytes] = frames;
    const topic = topicBytes === undefined ? '' : Buffer.from(topicBytes).toString('latin1');
    let hash: string | undefined;
    if (topic === 'hashblock' && body?.length === 32) hash = hexFromBytes(body);
    else if (topic === 'rawblock' && body !== undefined && body.length >= 80)
      hash = hashHex(blockHash(body.subarray(0, 80)));
    if (hash === undefined) {
      // Subscriptions are prefixes: `hashblockfoo` would come too.
      if (!complained)
        log(
          `ZMQ ${endpoint}: a message that is no block notice (${frames.map((f) => f.length).join(', ')} bytes) is ignored, and others like it`,
        );
      complained = true;
      return;
    }
    if (sequenceBytes?.length === 4) {
      const sequence = readUint32Le(sequenceBytes, 0);
      const last = sequences.get(topic);
      sequences.set(topic, sequence);
      // 0 is a publisher that started again.
      if (last !== undefined && sequence !== 0 && sequence !== (last + 1) >>> 0) onLost?.();
    }
    // Both topics name a block. An older hash again is news, though: a reorganisation went back to it.
    if (hash === lastHash) return;
    lastHash = hash;
    log(`ZMQ block hash ${hash}`, 5);
    onBlock(hash);
  }

  async function read(): Promise<void> {
    for await (const frames of socket) {
      if (closed) return;
      take(frames);
    }
  }
  read().catch((error: unknown) => {
    if (!closed) log(`ZMQ ${endpoint}: ${error instanceof Error ? error.message : String(error)}`);
  });

  return {
    close(): void {
      if (closed) return;
      closed = true;
      socket.close();
    },
  };
}

function wrongEndpoint(endpoint: string, cause?: unknown): PoolError {
  const why = cause instanceof Error ? ` (${cause.message})` : '';
  return new PoolError(
    'config',
    `zmqblock: expected an endpoint such as "tcp://127.0.0.1:28332", got ${JSON.stringify(endpoint)}${why}`,
    { cause },
  );
}
