import { afterEach, describe, expect, it } from 'vitest';
import { Publisher } from 'zeromq';
import { blockHash, hashHex } from '../../../../services/core/bitcoin/header.ts';
import { type BlockNotices, subscribeBlocks } from '../../../../services/core/node/zmq.ts';
import { freePort, until } from '../../../helpers/leash.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const thing of open.splice(0).reverse()) thing.close();
});

async function publisherOn(endpoint: string): Promise<Publisher> {
  const publisher = new Publisher({ linger: 0 });
  open.push(publisher);
  await until('the endpoint can be bound', async () => {
    await publisher.bind(endpoint);
    return true;
  });
  return publisher;
}

function listener(endpoint: string): { hashes: string[]; lines: string[]; lost: number; notices: BlockNotices } {
  const seen = { hashes: [] as string[], lines: [] as string[], lost: 0 };
  const notices = subscribeBlocks({
    endpoint,
    onBlock: (hash) => seen.hashes.push(hash),
    onLost: () => {
      seen.lost++;
    },
    log: (line) => seen.lines.push(line),
  });
  open.push(notices);
  return Object.assign(seen, { notices });
}

function sequence(n: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
}

/** Publishes until the first one arrives: a subscription takes effect some time after the connection. */
async function firstHeard(publisher: Publisher, hashes: string[], hash: Buffer): Promise<void> {
  await until('the first notice arrives', async () => {
    await publisher.send(['hashblock', hash, sequence(0)]);
    return hashes.includes(hash.toString('hex'));
  });
}

describe('block notices', () => {
  it('come by hash and by block, once each, and a gap in the sequence is told', async () => {
    const endpoint = `tcp://127.0.0.1:${await freePort()}`;
    const heard = listener(endpoint);
    const publisher = await publisherOn(endpoint);
    await firstHeard(publisher, heard.hashes, Buffer.alloc(32, 0xaa));

    const block = Buffer.alloc(200, 7);
    const blockRpc = hashHex(blockHash(block.subarray(0, 80)));
    await publisher.send(['rawblock', block, sequence(5)]);
    await publisher.send(['hashblock', Buffer.from(blockRpc, 'hex'), sequence(1)]);
    await publisher.send(['hashblock', Buffer.alloc(32, 0xbb), sequence(2)]);
    await until('three blocks', () => heard.hashes.length >= 3);
    expect(heard.hashes).toEqual(['aa'.repeat(32), blockRpc, 'bb'.repeat(32)]);
    expect(heard.lost).toBe(0);

    await publisher.send(['hashblock', Buffer.alloc(32, 0xcc), sequence(4)]);
    await until('the fourth block', () => heard.hashes.length >= 4);
    expect(heard.lost).toBe(1);
  });

  it('of a wrong form are ignored and said once', async () => {
    const endpoint = `tcp://127.0.0.1:${await freePort()}`;
    const heard = listener(endpoint);
    const publisher = await publisherOn(endpoint);
    await firstHeard(publisher, heard.hashes, Buffer.alloc(32, 1));
    await publisher.send(['hashblock', Buffer.alloc(31)]);
    await publisher.send(['hashblock']);
    await publisher.send(['rawblock', Buffer.alloc(79)]);
    await publisher.send(['hashblockish', Buffer.alloc(32, 9)]);
    await publisher.send(['hashblock', Buffer.alloc(32, 2)]);
    await until('the good one behind them', () => heard.hashes.length === 2);
    expect(heard.hashes[1]).toBe('02'.repeat(32));
    expect(heard.lines.filter((line) => line.includes('no block notice'))).toHaveLength(1);
  });

  it('are all that is heard where a publisher has other topics too', async () => {
    const endpoint = `tcp://127.0.0.1:${await freePort()}`;
    const heard = listener(endpoint);
    const publisher = await publisherOn(endpoint);
    await firstHeard(publisher, heard.hashes, Buffer.alloc(32, 1));
    for (const topic of ['hashtx', 'rawtx', 'sequence'])
      await publisher.send([topic, Buffer.alloc(32, 9), sequence(7)]);
    await publisher.send(['hashblock', Buffer.alloc(32, 2), sequence(1)]);
    await until('the block behind them', () => heard.hashes.length === 2);
    expect(heard.lost).toBe(0);
    expect(heard.lines.filter((line) => !/^ZMQ (connected|block hash)/.test(line))).toEqual([]);
  });

  it('come again after the publisher was away', async () => {
    const endpoint = `tcp://127.0.0.1:${await freePort()}`;
    const heard = listener(endpoint);
    const first = await publisherOn(endpoint);
    await firstHeard(first, heard.hashes, Buffer.alloc(32, 1));
    first.close();
    await until('the loss is said', () => heard.lines.some((line) => line.includes('lost')));
    const second = await publisherOn(endpoint);
    await firstHeard(second, heard.hashes, Buffer.alloc(32, 2));
    expect(heard.lines.filter((line) => line.startsWith('ZMQ connected'))).toHaveLength(2);
    expect(heard.lost).toBe(0);
  });
});

it.each([
  '',
  '127.0.0.1:28332',
  'tcp://',
  'tcp://host',
  'http://127.0.0.1:1',
  'tcp://127.0.0.1:99999',
  'tcp://no such:1',
])('the endpoint %j is refused as config, with the form that is expected', (endpoint) => {
  expect(() => listener(endpoint)).toThrow(
    expect.objectContaining({ code: 'config', message: expect.stringContaining('tcp://127.0.0.1:28332') }),
  );
});
