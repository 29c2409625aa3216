import { afterAll, beforeAll, expect, it } from 'vitest';
import { Subscriber } from 'zeromq';
import { hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { createNodeRpc, type NodeRpc } from '../../../services/core/node/rpc.ts';
import { type RunningToyChain, startToyChain } from '../../../services/playground/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { easyProfile } from './easy-chain.ts';

const dir = tempDir('toy-zmq');
let toy: RunningToyChain;
let rpc: NodeRpc;
const socket = new Subscriber({ linger: 0 });
const messages: Buffer[][] = [];
/** Of a block the raw form is sent last: where it came, nothing of that block is still on its way. */
const tipCame = (): boolean => {
  const raw = Buffer.from(toy.chain.bytes(toy.chain.tip));
  return messages.some(([topic, body]) => topic!.toString() === 'rawblock' && body!.equals(raw));
};

beforeAll(async () => {
  toy = await startToyChain({
    dir: dir.path,
    rpcPort: 0,
    zmqPort: 0,
    user: 'u',
    pass: 'p',
    profile: easyProfile(),
    trafficPerSecond: 0,
  });
  rpc = createNodeRpc({ url: toy.rpcUrl, user: 'u', pass: 'p' });
  socket.connect(toy.zmqUrl!);
  socket.subscribe();
  void (async () => {
    for await (const frames of socket) messages.push(frames as Buffer[]);
  })();
  await until('the subscription works', async () => {
    await rpc.call('generatetoaddress', [1, toy.fundingAddress]);
    return messages.length > 0;
  });
  await until('the tip is published', tipCame);
});
afterAll(async () => {
  socket.close();
  rpc.close();
  await toy.close();
  dir.remove();
});

it('each new tip is published as hashblock and rawblock, three frames, the sequence counting up for each topic', async () => {
  const before = messages.length;
  await rpc.call('generatetoaddress', [3, toy.fundingAddress]);
  await until('six messages', () => messages.length >= before + 6);
  const news = messages.slice(before);
  expect(news.map((frames) => frames.length)).toEqual([3, 3, 3, 3, 3, 3]);
  for (const [i, topic] of ['hashblock', 'rawblock'].entries()) {
    const own = news.filter(([name]) => name!.toString() === topic);
    const sequences = own.map(([, , sequence]) => sequence!.readUInt32LE());
    expect(sequences).toEqual([sequences[0], sequences[0]! + 1, sequences[0]! + 2]);
    const bodies = own.map(([, body]) => body!.toString('hex'));
    const blocks = [2, 1, 0].map((back) => toy.chain.at(toy.chain.tip.height - back)!);
    expect(bodies).toEqual(blocks.map((block) => (i === 0 ? block.hash : hexFromBytes(toy.chain.bytes(block)))));
  }
});

it('a reorganisation publishes the new tip alone, and a block taken away nothing', async () => {
  await rpc.call('generatetoaddress', [2, toy.fundingAddress]);
  const tip = toy.chain.tip.hash;
  const doomed = toy.chain.tip.prev!.hash;
  await until('the tip is published', tipCame);
  const before = messages.length;
  await rpc.call('invalidateblock', [doomed]);
  await rpc.call('reconsiderblock', [doomed]);
  await until('the old tip comes again', () => messages.length >= before + 2);
  expect(messages.slice(before).map(([topic]) => topic!.toString())).toEqual(['hashblock', 'rawblock']);
  expect(messages[before]![1]!.toString('hex')).toBe(tip);
});

it('getzmqnotifications names both topics', async () => {
  expect(await rpc.call('getzmqnotifications')).toEqual(
    ['pubhashblock', 'pubrawblock'].map((type) => ({ type, address: toy.zmqUrl, hwm: 1_000 })),
  );
});
