import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesFromHex, hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { hashHex } from '../../../services/core/bitcoin/header.ts';
import { serializeTransaction, txid } from '../../../services/core/bitcoin/transaction.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { createNodeRpc, type NodeRpc } from '../../../services/core/node/rpc.ts';
import { checkTemplate, templateRequest } from '../../../services/core/node/template.ts';
import { type RunningToyChain, startToyChain } from '../../../services/playground/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { buildBlock, easyProfile, GENESIS_TIME_S, nextParts, spend } from './easy-chain.ts';

const profile = easyProfile();
const dir = tempDir('toy-rpc');
let toy: RunningToyChain;
let rpc: NodeRpc;
let nowMs = (GENESIS_TIME_S + 1_000) * 1_000;

beforeAll(async () => {
  toy = await startToyChain({
    dir: dir.path,
    rpcPort: 0,
    zmqPort: null,
    user: 'user',
    pass: 'pass',
    profile,
    trafficPerSecond: 0,
    longPollQuietMs: 50,
    nowMs: () => nowMs,
  });
  rpc = createNodeRpc({ url: toy.rpcUrl, user: 'user', pass: 'pass' });
  await rpc.call('generatetoaddress', [15, toy.fundingAddress]);
});
afterAll(async () => {
  rpc.close();
  await toy.close();
  dir.remove();
});

async function refusal(promise: Promise<unknown>): Promise<{ code: unknown; message: unknown; kind: string }> {
  const error = await promise.then(
    () => {
      throw new Error('was not refused');
    },
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof PoolError)) throw error;
  return { code: error.facts.rpcCode, message: error.facts.rpcMessage, kind: error.code };
}

/** Sends bytes as they are. */
function raw(text: string): Promise<string> {
  const { port } = new URL(toy.rpcUrl);
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), '127.0.0.1', () => socket.write(text));
    let got = '';
    socket.on('data', (chunk) => {
      got += chunk.toString();
      const [head, body] = got.split('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(head ?? '')?.[1] ?? 0);
      if (body !== undefined && body.length >= length) socket.end();
    });
    socket.on('close', () => resolve(got));
    socket.on('error', reject);
  });
}

interface Exchange {
  readonly method: string;
  readonly request: string;
  readonly result: unknown;
}
/** Bitcoin Knots' answers to CKPool; see test/fixtures/node-rpc/README.md. */
const recorded: Exchange[] = readFileSync('test/fixtures/node-rpc/ckpool-knots.jsonl', 'utf8')
  .trim()
  .split('\n')
  .map((line) => {
    const { request, response } = JSON.parse(line) as { request: string; response: string };
    const { method } = JSON.parse(request.slice(request.indexOf('\n\n'))) as { method: string };
    return {
      method,
      request,
      result: (JSON.parse(response.slice(response.indexOf('\r\n\r\n'))) as { result: unknown }).result,
    };
  });

function recordedResult(method: string, which = 0): Record<string, unknown> {
  return recorded.filter((exchange) => exchange.method === method)[which]!.result as Record<string, unknown>;
}

/** A transaction that waits, so that templates hold one. */
async function pay(height: number, feeSats: bigint): Promise<string> {
  const block = await rpc.call<{ tx: string[] }>('getblock', [await rpc.call('getblockhash', [height])]);
  const tx = spend(
    [{ txid: bytesFromHex(block.tx[0]!).reverse(), index: 0 }],
    [{ valueSats: 5_000_000_000n - feeSats }],
  );
  expect(await rpc.call('sendrawtransaction', [hexFromBytes(serializeTransaction(tx, { witness: true }))])).toBe(
    hashHex(txid(tx)),
  );
  return hashHex(txid(tx));
}

describe('the shapes of Bitcoin Knots', () => {
  it('a template has the same members in the same order, and so have its transactions', async () => {
    const id = await pay(1, 10_000n);
    const mine = await rpc.call<Record<string, unknown>>('getblocktemplate', [templateRequest(profile)]);
    const theirs = recordedResult('getblocktemplate');
    expect(Object.keys(mine)).toEqual(Object.keys(theirs));
    for (const key of Object.keys(mine)) expect(typeof mine[key], key).toBe(typeof theirs[key]);
    const [tx] = mine.transactions as Record<string, unknown>[];
    expect(tx?.txid).toBe(id);
    expect(Object.keys(tx!)).toEqual(Object.keys((theirs.transactions as Record<string, unknown>[])[0]!));
    const template = checkTemplate(mine, profile);
    expect(template.coinbaseValueSats).toBe(5_000_010_000n);
  });

  it('validateaddress answers good and bad addresses with the same members', async () => {
    const theirs = recordedResult('validateaddress');
    const funding = await rpc.call<Record<string, unknown>>('validateaddress', [toy.fundingAddress]);
    expect(Object.keys(funding)).toEqual(Object.keys(theirs));
    expect(funding).toMatchObject({ isvalid: true, isscript: true, iswitness: true, witness_version: 0 });
    const bad = await rpc.call<Record<string, unknown>>('validateaddress', [
      'bc1q8qkesw5kyplv7hdxyseqls5m78w5tqdfd40lf5',
    ]);
    expect(Object.keys(bad)).toEqual(Object.keys(recordedResult('validateaddress', 1)));
    expect(bad.isvalid).toBe(false);
    expect(await rpc.call('validateaddress', ['mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn'])).toMatchObject({
      isvalid: true,
      isscript: false,
      iswitness: false,
    });
  });

  it("CKPool's own bytes, with bare LF and no id, are answered with the same shape", async () => {
    for (const { method, request, result } of recorded) {
      const mine = await raw(
        request.replace('Basic c2F0b3NoaTpkdW1teQ==', `Basic ${Buffer.from('user:pass').toString('base64')}`),
      );
      expect(mine).toMatch(/^HTTP\/1\.1 /);
      const body = JSON.parse(mine.slice(mine.indexOf('\r\n\r\n'))) as Record<string, unknown>;
      expect(Object.keys(body), method).toEqual(['result', 'error', 'id']);
      expect(body.id).toBeNull();
      // Blocks and hashes of another chain are refused, in Core's words.
      if (method === 'submitblock') expect(['prev-blk-not-found', 'high-hash'], String(result)).toContain(body.result);
      if (method === 'preciousblock') expect(body.error).toEqual({ code: -5, message: 'Block not found' });
      if (method === 'decoderawtransaction') {
        const theirs = result as Record<string, unknown>;
        const decoded = body.result as typeof theirs;
        expect(Object.keys(decoded)).toEqual(Object.keys(theirs));
        for (const key of ['txid', 'hash', 'version', 'size', 'vsize', 'weight', 'locktime', 'vin'])
          expect(decoded[key], key).toEqual(theirs[key]);
      }
    }
  });
});

describe('the port', () => {
  it('refuses a wrong password', async () => {
    const wrong = createNodeRpc({ url: toy.rpcUrl, user: 'user', pass: 'word' });
    expect(await refusal(wrong.call('getblockcount'))).toMatchObject({ kind: 'node_auth' });
    wrong.close();
  });

  it('speaks JSON-RPC 1.0, 2.0 and batches', async () => {
    const post = async (body: unknown): Promise<{ status: number; body: unknown }> => {
      const response = await fetch(toy.rpcUrl, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa('user:pass')}` },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, body: text === '' ? null : JSON.parse(text) };
    };
    const height = toy.chain.tip.height;
    expect(await post({ method: 'getblockcount', id: 'a' })).toEqual({
      status: 200,
      body: { result: height, error: null, id: 'a' },
    });
    expect(await post({ jsonrpc: '2.0', method: 'getblockcount', params: {}, id: 7 })).toEqual({
      status: 200,
      body: { jsonrpc: '2.0', result: height, id: 7 },
    });
    expect(await post({ jsonrpc: '2.0', method: 'getblockcount' })).toEqual({ status: 204, body: null });
    const unknown = { code: -32601, message: 'Method not found' };
    expect(await post({ method: 'nosuch' })).toEqual({ status: 404, body: { result: null, error: unknown, id: null } });
    expect(await post({ jsonrpc: '2.0', method: 'nosuch', id: 1 })).toEqual({
      status: 200,
      body: { jsonrpc: '2.0', error: unknown, id: 1 },
    });
    expect(await post({ method: 'toString' })).toMatchObject({ status: 404 });
    expect(await post([{ method: 'getblockcount', id: 1 }, { method: 'nosuch', id: 2 }, 5])).toEqual({
      status: 200,
      body: [
        { result: height, error: null, id: 1 },
        { result: null, error: unknown, id: 2 },
        { result: null, error: { code: -32600, message: 'Invalid Request object' }, id: null },
      ],
    });
    expect(await post('{')).toMatchObject({ status: 500, body: { error: { code: -32700 } } });
    expect(await post({ method: 'getblockhash', params: { height: 0 } })).toMatchObject({
      status: 200,
      body: { result: profile.genesis_hash },
    });
    expect(await post({ method: 'getblockhash', params: { hight: 0 } })).toMatchObject({
      status: 500,
      body: { error: { code: -8 } },
    });
  });

  it.each([
    ['getblockhash', [], -1],
    ['getblockhash', ['0'], -3],
    ['getblockhash', [1e6], -8],
    ['getblockhash', [-1], -8],
    ['getblock', ['00'], -8],
    ['getblock', ['zz'.repeat(32)], -8],
    ['getblock', ['00'.repeat(32)], -5],
    ['getblockcount', [1], -1],
    ['getblocktemplate', [], -8],
    ['getblocktemplate', [{}], -8],
    ['getblocktemplate', [{ rules: ['csv'] }], -8],
    ['submitblock', [], -1],
    ['submitblock', [5], -3],
    ['submitblock', ['zz'], -22],
    ['submitblock', ['00'], -22],
    ['sendrawtransaction', ['00'], -22],
    ['decoderawtransaction', [''], -22],
    ['getrawtransaction', ['00'.repeat(32)], -5],
    ['generatetoaddress', [1, 'nobody'], -5],
    ['getblockstats', [1e6], -8],
  ])('%s %j is refused with code %i', async (method, params, code) => {
    expect(await refusal(rpc.call(method, params))).toMatchObject({ code });
  });

  it('lists its methods', async () => {
    const help = await rpc.call<string>('help');
    for (const method of [
      'getblocktemplate',
      'submitblock',
      'getblock',
      'getnetworkhashps',
      'preciousblock',
      'getzmqnotifications',
      'uptime',
      'stop',
    ])
      expect(help).toContain(method);
    expect(await rpc.call('uptime')).toBeGreaterThanOrEqual(0);
  });
});

describe('blocks', () => {
  it('getblock tells a block in all forms, with the fees of its transactions', async () => {
    const id = await pay(2, 25_000n);
    const [hash] = await rpc.call<[string]>('generatetoaddress', [1, toy.fundingAddress]);
    const hex = await rpc.call<string>('getblock', [hash, 0]);
    expect(hex).toBe(hexFromBytes(toy.chain.bytes(toy.chain.tip)));
    const brief = await rpc.call<Record<string, unknown>>('getblock', [hash]);
    expect(brief).toMatchObject({
      hash,
      confirmations: 1,
      height: toy.chain.tip.height,
      size: hex.length / 2,
      nTx: (brief.tx as string[]).length,
    });
    expect(brief.tx).toContain(id);
    expect(brief.weight).toBe((brief.strippedsize as number) * 3 + (brief.size as number));
    const full = await rpc.call<{
      tx: { txid: string; fee?: number; vin: { coinbase?: string }[]; vout: { value: number }[] }[];
    }>('getblock', [hash, 2]);
    expect(full.tx.map(({ txid: t }) => t)).toEqual(brief.tx);
    expect(full.tx.find((tx) => tx.txid === id)?.fee).toBe(0.00025);
    expect(full.tx[0]).toMatchObject({ vin: [{ coinbase: expect.stringMatching(/^[0-9a-f]+$/) }] });
    const stats = await rpc.call<Record<string, number>>('getblockstats', [toy.chain.tip.height]);
    expect(stats.subsidy).toBe(5_000_000_000);
    const claimed = full.tx[0]!.vout.reduce((sum, { value }) => sum + BigInt(value.toFixed(8).replace('.', '')), 0n);
    expect(BigInt(stats.totalfee! + stats.subsidy!)).toBe(claimed);
    expect(await rpc.call('getblockstats', [hash, ['totalfee', 'txs']])).toEqual({
      totalfee: stats.totalfee,
      txs: full.tx.length,
    });
    expect(await rpc.call('getrawtransaction', [id, true, hash])).toMatchObject({
      txid: id,
      blockhash: hash,
      in_active_chain: true,
    });
  });

  it('getblockheader links them', async () => {
    const [hash] = await rpc.call<[string]>('generatetoaddress', [2, toy.fundingAddress]);
    const header = await rpc.call<Record<string, unknown>>('getblockheader', [hash]);
    expect(header).toMatchObject({
      hash,
      nextblockhash: toy.chain.tip.hash,
      previousblockhash: toy.chain.tip.prev!.prev!.hash,
      confirmations: 2,
    });
    expect(await rpc.call('getblockheader', [hash, false])).toBe(
      (await rpc.call<string>('getblock', [hash, 0])).slice(0, 160),
    );
  });

  it('a block built from a template by the library of the pool is taken, one with a bit changed is not', async () => {
    const built = buildBlock(toy.chain, nextParts(toy.chain, { timeS: toy.chain.medianTimeS(toy.chain.tip) + 1 }));
    const hex = hexFromBytes(built.bytes);
    expect(
      await rpc.call('submitblock', [`${hex.slice(0, 100)}${hex[100] === '0' ? '1' : '0'}${hex.slice(101)}`]),
    ).toMatch(/high-hash|bad-txnmrklroot/);
    expect(await rpc.call('submitblock', [hex])).toBeNull();
    expect(await rpc.call('submitblock', [hex])).toBe('duplicate');
    expect(await rpc.call('getbestblockhash')).toBe(built.hash);
  });

  it('getblockchaininfo and getmininginfo agree with the tip', async () => {
    const info = await rpc.call<Record<string, unknown>>('getblockchaininfo');
    expect(info).toMatchObject({
      chain: 'playground',
      blocks: toy.chain.tip.height,
      headers: toy.chain.tip.height,
      bestblockhash: toy.chain.tip.hash,
      initialblockdownload: false,
    });
    expect(BigInt(`0x${info.chainwork as string}`)).toBe(toy.chain.tip.chainwork);
    expect(info.difficulty).toBe(await rpc.call('getdifficulty'));
    expect(await rpc.call('getmininginfo')).toMatchObject({ blocks: toy.chain.tip.height });
    expect(await rpc.call('getnetworkinfo')).toMatchObject({ version: expect.any(Number) });
    expect(await rpc.call('getzmqnotifications')).toEqual([]);
  });
});

it("getnetworkhashps is chainwork over the span of times, by Core's arithmetic", async () => {
  for (let i = 0; i < 10; i++) {
    nowMs += 7_000 + i * 1_000;
    await rpc.call('generatetoaddress', [1, toy.fundingAddress]);
  }
  const { tip } = toy.chain;
  const byHand = (lookup: number, top: number): number => {
    const blocks = Array.from({ length: lookup + 1 }, (_, i) => toy.chain.at(top - i)!);
    const times = blocks.map(({ header }) => header.time);
    return Number(blocks[0]!.chainwork - blocks.at(-1)!.chainwork) / (Math.max(...times) - Math.min(...times));
  };
  expect(await rpc.call('getnetworkhashps', [5])).toBe(byHand(5, tip.height));
  expect(await rpc.call('getnetworkhashps', [5, tip.height - 3])).toBe(byHand(5, tip.height - 3));
  expect(await rpc.call('getnetworkhashps', [1_000])).toBe(byHand(tip.height, tip.height));
  expect(await rpc.call('getnetworkhashps', [-1])).toBe(byHand((tip.height % 24) + 1, tip.height));
  expect(await rpc.call('getnetworkhashps')).toBe(byHand(tip.height, tip.height));
  expect(await rpc.call('getnetworkhashps', [5, 0])).toBe(0);
});

describe('a long poll', () => {
  const longPoll = (longpollid: string, signal?: AbortSignal): Promise<Record<string, unknown>> =>
    rpc.call('getblocktemplate', [templateRequest(profile, longpollid)], signal === undefined ? {} : { signal });
  const handle = async (): Promise<string> =>
    (await rpc.call<{ longpollid: string }>('getblocktemplate', [templateRequest(profile)])).longpollid;

  it('answers when a block comes', async () => {
    const waiting = longPoll(await handle());
    const [hash] = await rpc.call<[string]>('generatetoaddress', [1, toy.fundingAddress]);
    expect((await waiting).previousblockhash).toBe(hash);
  });

  it('answers when a transaction comes', async () => {
    const waiting = longPoll(await handle());
    const id = await pay(4, 7_000n);
    expect((await waiting).transactions).toContainEqual(expect.objectContaining({ txid: id, fee: 7_000 }));
  });

  it('answers at once for an old handle', async () => {
    expect(await longPoll(`${'00'.repeat(32)}0`)).toHaveProperty('height');
  });

  it('that nobody waits for any more is let go', async () => {
    const abort = new AbortController();
    const waiting = longPoll(await handle(), abort.signal);
    abort.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(await rpc.call('getblockcount')).toBe(toy.chain.tip.height);
  });
});

describe('a reorganisation', () => {
  it('by invalidateblock and back by reconsiderblock', async () => {
    await rpc.call('generatetoaddress', [3, toy.fundingAddress]);
    const tip = toy.chain.tip;
    const doomed = toy.chain.at(tip.height - 2)!.hash;
    await rpc.call('invalidateblock', [doomed]);
    expect(await rpc.call('getblockcount')).toBe(tip.height - 3);
    expect((await rpc.call<{ confirmations: number }>('getblockheader', [doomed])).confirmations).toBe(-1);
    const [rival] = await rpc.call<[string]>('generatetoaddress', [1, toy.fundingAddress]);
    expect(await rpc.call('getbestblockhash')).toBe(rival);
    await rpc.call('reconsiderblock', [doomed]);
    expect(await rpc.call('getbestblockhash')).toBe(tip.hash);
  });

  it('brings the transactions of the lost blocks back to the mempool', async () => {
    const id = await pay(5, 3_000n);
    const [hash] = await rpc.call<[string]>('generatetoaddress', [1, toy.fundingAddress]);
    expect(await rpc.call('getrawmempool')).not.toContain(id);
    await rpc.call('invalidateblock', [hash]);
    expect(await rpc.call('getrawmempool')).toContain(id);
    const { hash: empty } = await rpc.call<{ hash: string }>('generateblock', [toy.fundingAddress, []]);
    expect(await rpc.call('getrawmempool')).toContain(id);
    expect((await rpc.call<{ tx: string[] }>('getblock', [empty])).tx).toHaveLength(1);
    await rpc.call('generateblock', [toy.fundingAddress, [id]]);
    expect(await rpc.call('getrawmempool')).not.toContain(id);
  });
});

it('setmocktime moves the clock of the rules', async () => {
  const timeS = toy.chain.tip.header.time + 5_000;
  await rpc.call('setmocktime', [timeS]);
  await rpc.call('generatetoaddress', [1, toy.fundingAddress]);
  expect(toy.chain.tip.header.time).toBe(timeS);
  await rpc.call('setmocktime', [0]);
});

it('stop ends the program that asked to be told', async () => {
  const other = tempDir('toy-stop');
  let stopped = false;
  const second = await startToyChain({
    dir: other.path,
    rpcPort: 0,
    zmqPort: 0,
    user: 'u',
    pass: 'p',
    profile,
    trafficPerSecond: 0,
    onStop: () => {
      stopped = true;
    },
  });
  const client = createNodeRpc({ url: second.rpcUrl, user: 'u', pass: 'p' });
  expect(await client.call('stop')).toMatch(/stops/);
  await until('stop is passed on', () => stopped);
  client.close();
  await second.close();
  other.remove();
});
