import * as http from 'node:http';
import * as net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { PoolError } from '../../../../services/core/errors.ts';
import {
  createNodeRpc,
  hexAnswer,
  integerAnswer,
  type NodeRpc,
  parseNodeUrl,
  satsFromUnits,
} from '../../../../services/core/node/rpc.ts';
import { blockSubmitter } from '../../../../services/core/node/submit.ts';

type Handler = (body: string, request: http.IncomingMessage, response: http.ServerResponse) => void;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

async function listen(server: http.Server | net.Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  cleanups.push(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return (server.address() as net.AddressInfo).port;
}

async function nodeThat(
  handler: Handler,
  options: { timeoutMs?: number; maxAnswerBytes?: number } = {},
): Promise<NodeRpc> {
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += String(chunk);
    });
    request.on('end', () => handler(body, request, response));
  });
  const port = await listen(server);
  const rpc = createNodeRpc({ url: `127.0.0.1:${port}`, user: 'us:er', pass: 'pässword', ...options });
  cleanups.push(() => rpc.close());
  return rpc;
}

async function errorOf(promise: Promise<unknown>): Promise<PoolError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PoolError);
  return error as PoolError;
}

describe('parseNodeUrl', () => {
  it.each([
    ['localhost:8332', false, 'localhost', 8332],
    ['http://127.0.0.1:19332/', false, '127.0.0.1', 19332],
    ['127.0.0.1:19332/wallet/x', false, '127.0.0.1', 19332],
    ['//node:1', false, 'node', 1],
    ['[::1]:8332', false, '::1', 8332],
    ['node', false, 'node', 80],
    ['https://node', true, 'node', 443],
  ])('reads %s', (url, secure, host, port) => {
    expect(parseNodeUrl(url)).toEqual({ secure, host, port });
  });

  it.each(['', 'host:', 'host:0', 'host:65536', 'host:port', '::1', '[::1', 'a b:1', 'ftp://host:1', ':8332'])(
    'refuses %j as config',
    (url) => {
      expect(() => parseNodeUrl(url)).toThrow(
        expect.objectContaining({ code: 'config', message: expect.stringContaining('expected host:port') }),
      );
    },
  );

  it('does not repeat a password that was put into the address', () => {
    expect(() => parseNodeUrl('http://me:secret@host:1')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    );
  });
});

describe('a call', () => {
  it('carries method, params and basic authorisation, and gives the result', async () => {
    let seen: { body: unknown; authorization: string | undefined } | undefined;
    const rpc = await nodeThat((body, request, response) => {
      seen = { body: JSON.parse(body), authorization: request.headers.authorization };
      response.end(JSON.stringify({ result: { blocks: 7 }, error: null, id: 1 }));
    });
    expect(await rpc.call('getblockchaininfo', [1, 'x'])).toEqual({ blocks: 7 });
    expect(seen?.body).toMatchObject({ method: 'getblockchaininfo', params: [1, 'x'] });
    expect(seen?.authorization).toBe(`Basic ${Buffer.from('us:er:pässword').toString('base64')}`);
  });

  it('gives null where the result is null, as submitblock answers', async () => {
    const rpc = await nodeThat((_body, _request, response) => response.end('{"result":null,"error":null,"id":1}'));
    expect(await rpc.call('submitblock', ['00'])).toBeNull();
  });

  it('reuses its connection', async () => {
    const ports = new Set<number | undefined>();
    const rpc = await nodeThat((_body, request, response) => {
      ports.add(request.socket.remotePort);
      response.end('{"result":1}');
    });
    for (let i = 0; i < 5; i++) await rpc.call('getblockcount');
    expect(ports.size).toBe(1);
  });

  it('repeats a reading call once where the kept connection was closed meanwhile, and not a paying one', async () => {
    let calls = 0;
    let connection: net.Socket | undefined;
    const rpc = await nodeThat((_body, request, response) => {
      calls++;
      if (request.socket === connection) {
        request.socket.resetAndDestroy();
        return;
      }
      connection = request.socket;
      response.end(`{"result":${calls}}`);
    });
    expect(await rpc.call('getblockcount')).toBe(1);
    expect(await rpc.call('getblockcount')).toBe(3);
    const error = await errorOf(rpc.call('sendtoaddress'));
    expect(error.code).toBe('node_unreachable');
    expect(calls).toBe(4);
  });

  it('an answer to submitblock of a megabyte, or with escapes for a terminal, is short and printable', async () => {
    const rpc = await nodeThat((_body, _request, response) => {
      response.end(JSON.stringify({ result: `\u001b[2J${'high-hash '.repeat(100_000)}` }));
    });
    const [said] = await blockSubmitter([rpc]).submitBlock('00');
    expect(said!.answer).toMatch(/^\[2J(high-hash )+/);
    expect(said!.answer.length).toBeLessThan(300);
    expect(said!.accepted).toBe(false);
  });

  it('carries bodies of megabytes both ways', async () => {
    const long = 'ab'.repeat(4_000_000);
    const rpc = await nodeThat((body, _request, response) => {
      response.end(JSON.stringify({ result: (JSON.parse(body) as { params: [string] }).params[0] }));
    });
    expect(await rpc.call('submitblock', [long])).toBe(long);
  });
});

describe('connections', () => {
  it('a template does not wait for a hundred blocks that are being judged, nor a block for a hundred templates', async () => {
    for (const [slow, quick] of [
      ['submitblock', 'getblocktemplate'],
      ['getblocktemplate', 'submitblock'],
    ] as const) {
      const held: http.ServerResponse[] = [];
      const rpc = await nodeThat((body, _request, response) => {
        if (JSON.parse(body).method === slow) held.push(response);
        else response.end('{"result":"at once","error":null}');
      });
      const waiting = Array.from({ length: 100 }, () => rpc.call(slow, ['00']));
      expect(await rpc.call(quick)).toBe('at once');
      expect(held.length).toBeLessThan(100);
      rpc.close();
      await Promise.allSettled(waiting);
    }
  });
});

describe('what goes wrong has a code', () => {
  it.each([
    [401, '', 'node_auth'],
    [403, '', 'node_auth'],
    [500, '{"result":null,"error":{"code":-28,"message":"Loading block index…"},"id":1}', 'node_syncing'],
    [
      500,
      '{"result":null,"error":{"code":-10,"message":"is in initial sync and waiting for blocks..."},"id":1}',
      'node_syncing',
    ],
    [404, '{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}', 'node_refused'],
    [200, '{"result":null,"error":{"code":-22,"message":"Block decode failed"},"id":1}', 'node_refused'],
    [500, '{"error":"words"}', 'node_refused'],
    [503, 'Work queue depth exceeded', 'node_refused'],
    [200, '<html>', 'node_answer'],
    [200, '', 'node_answer'],
    [200, '[1]', 'node_answer'],
    [200, 'null', 'node_answer'],
    [200, '{"id":1}', 'node_answer'],
  ] as const)('HTTP %i %s is %s', async (status, text, code) => {
    const rpc = await nodeThat((_body, _request, response) => {
      response.statusCode = status;
      response.end(text);
    });
    expect((await errorOf(rpc.call('getblocktemplate'))).code).toBe(code);
  });

  it('a page in place of an answer is told by its words', async () => {
    const rpc = await nodeThat((_body, _request, response) => {
      response.statusCode = 503;
      response.end(
        '<HTML><HEAD>\n<TITLE>503 Service Unavailable</TITLE></HEAD><BODY>\n<H1>Service Unavailable</H1></BODY></HTML>',
      );
    });
    expect((await errorOf(rpc.call('getblockhash'))).message).toMatch(
      /: getblockhash: HTTP 503 with a body that is not JSON: Service Unavailable$/,
    );
  });

  it("a refusal holds the node's code and message as facts, and no password", async () => {
    const rpc = await nodeThat((_body, _request, response) => {
      response.statusCode = 500;
      response.end(
        '{"result":null,"error":{"code":-8,"message":"must be called with the segwit rule set\\u0007"},"id":1}',
      );
    });
    const error = await errorOf(rpc.call('getblocktemplate'));
    expect(error.facts).toMatchObject({
      rpcCode: -8,
      rpcMessage: 'must be called with the segwit rule set',
      method: 'getblocktemplate',
    });
    expect(error.message).toContain('must be called with the segwit rule set (code -8)');
    expect(error.message + JSON.stringify(error.facts)).not.toContain('pässword');
  });

  it('nobody listening is node_unreachable', async () => {
    const server = net.createServer();
    const port = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    const rpc = createNodeRpc({ url: `127.0.0.1:${port}`, user: 'u', pass: 'p' });
    const error = await errorOf(rpc.call('getblockcount'));
    expect(error.code).toBe('node_unreachable');
    expect(error.message).toContain('nobody listens there');
  });

  it('an answer that breaks off is node_unreachable', async () => {
    const rpc = await nodeThat((_body, _request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('{"result":');
      setImmediate(() => response.socket?.destroy());
    });
    expect((await errorOf(rpc.call('getblockcount'))).code).toBe('node_unreachable');
  });

  it('no answer within the time limit is node_unreachable', async () => {
    const rpc = await nodeThat(() => undefined, { timeoutMs: 30 });
    const error = await errorOf(rpc.call('getblockcount'));
    expect(error.code).toBe('node_unreachable');
    expect(error.message).toContain('no answer within 30 ms');
  });

  it('an answer above the size limit is node_answer, and reading stops', async () => {
    const rpc = await nodeThat((_body, _request, response) => response.end(`{"result":"${'x'.repeat(100_000)}"}`), {
      maxAnswerBytes: 50_000,
    });
    expect((await errorOf(rpc.call('getblock'))).code).toBe('node_answer');
  });

  it('an aborted call ends at once with the reason of the signal', async () => {
    const abort = new AbortController();
    const rpc = await nodeThat(() => abort.abort(new Error('enough')));
    await expect(rpc.call('getblocktemplate', [], { signal: abort.signal })).rejects.toThrow('enough');
  });

  it('a closed client refuses and ends what is under way', async () => {
    const rpc = await nodeThat(() => rpc.close());
    expect((await errorOf(rpc.call('getblocktemplate'))).code).toBe('node_unreachable');
    expect((await errorOf(rpc.call('getblocktemplate'))).code).toBe('node_unreachable');
  });
});

describe('amounts', () => {
  it('in smallest units are exact or refused', () => {
    expect(satsFromUnits('coinbasevalue', 5_000_014_400)).toBe(5_000_014_400n);
    for (const wrong of [-1, 0.5, 2 ** 53, '1', null, Number.NaN])
      expect(() => satsFromUnits('coinbasevalue', wrong)).toThrow(/coinbasevalue/);
  });
});

describe('hex and numbers', () => {
  it('are checked for their form', () => {
    expect(hexAnswer('hash', 'AbCd', 2)).toBe('abcd');
    for (const wrong of ['abc', 'xx', 12, null, '00']) expect(() => hexAnswer('hash', wrong, 2)).toThrow(/hash/);
    expect(integerAnswer('height', 3)).toBe(3);
    expect(() => integerAnswer('height', 3, 4)).toThrow(/whole number from 4/);
  });
});
