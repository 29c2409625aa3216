/** The node of templates answers as a real one does, as far as a pool asks it. */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bytesFromHex } from '../../services/core/bitcoin/bytes.ts';
import { bytesFromHashHex, hashHex } from '../../services/core/bitcoin/header.ts';
import { merkleBranch } from '../../services/core/bitcoin/merkle.ts';
import { parseTransaction, txid, wtxid } from '../../services/core/bitcoin/transaction.ts';
import { loadChain } from '../../services/core/chains/profile.ts';
import { createNodeRpc, type NodeRpc } from '../../services/core/node/rpc.ts';
import {
  checkTemplate,
  type FullTemplate,
  reduceTemplate,
  templateRequest,
} from '../../services/core/node/template.ts';
import { subscribeBlocks } from '../../services/core/node/zmq.ts';
import { until } from './leash.ts';
import { startTemplateNode, type TemplateNode } from './template-node.ts';

const profile = loadChain('bitcoin');
let node: TemplateNode;
let rpc: NodeRpc;

beforeAll(async () => {
  node = await startTemplateNode({ transactions: 4_000 });
  rpc = createNodeRpc({ url: node.address, user: 'user', pass: 'pass' });
});
afterAll(async () => {
  rpc.close();
  await node.close();
});

async function template(longPollId?: string): Promise<FullTemplate> {
  return checkTemplate(await rpc.call('getblocktemplate', [templateRequest(profile, longPollId)]), profile);
}

test('a template of 4,000 transactions gives a merkle branch of 12 steps and the commitment of its transactions', async () => {
  const first = await template();
  const { transactions, witnessCommitment } = first;
  expect(transactions).toHaveLength(4_000);
  expect(merkleBranch(transactions.map((tx) => bytesFromHashHex(tx.txidRpc)))).toHaveLength(12);
  for (const { data, txidRpc, hashRpc } of transactions.slice(0, 20)) {
    const { tx } = parseTransaction(bytesFromHex(data));
    expect([hashHex(txid(tx)), hashHex(wtxid(tx))]).toEqual([txidRpc, hashRpc]);
  }
  expect(reduceTemplate(first).template).toMatchObject({ commitmentFits: true, txCount: 4_000 });
  // The next one has other transactions.
  expect((await template()).witnessCommitment).not.toBe(witnessCommitment);
});

test('a new block answers the long poll, is announced over ZMQ, and its height follows', async () => {
  const hashes: string[] = [];
  const lines: string[] = [];
  const notices = subscribeBlocks({
    endpoint: node.zmq,
    onBlock: (hash) => hashes.push(hash),
    log: (line) => lines.push(line),
  });
  const before = await template();
  const polled = template(before.longPollId!);
  await until('the subscription', () => lines.some((line) => line.startsWith('ZMQ connected')));
  await until('a notice', async () => {
    await fetch(node.trigger);
    return hashes.length > 0;
  });
  const after = await polled;
  expect(after.height).toBeGreaterThan(before.height);
  expect(after.prevHashRpc).toBe(hashes[0]);
  notices.close();
});

test('a request whose lines end with LF alone, as CKPool sends it, is answered', async () => {
  const [host, port] = node.address.split(':');
  const body = '{"method": "getbestblockhash"}\n';
  const socket = connect({ host: host!, port: Number(port) });
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  socket.write(`POST / HTTP/1.1\nHost: ${node.address}\nContent-Length: ${body.length}\n\n${body}`);
  await until('an answer', () => text.includes('"error":null'));
  expect(text).toMatch(/^HTTP\/1\.1 200 /);
  socket.destroy();
});
