/** A node that lies: an HTTP server before a real one (or none), which answers some calls in its own way and hands on the others. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a call gets in place of the node's answer. */
export type Lie =
  | { readonly result: unknown }
  | { readonly error: { readonly code: number; readonly message: string } }
  /** Bytes of any kind under any status. */
  | { readonly raw: string; readonly status?: number }
  /** So many bytes of JSON text, one string. */
  | { readonly hugeBytes: number }
  /** No answer, ever. */
  | { readonly hang: true }
  /** The line is cut within the answer. */
  | { readonly cut: true };

export interface LyingNode {
  readonly rpcUrl: string;
  /** By method; `*` for every other. null: hand it on. May be changed at any time. */
  lies: Record<string, (params: readonly unknown[], truth: () => Promise<unknown>) => Lie | null | Promise<Lie | null>>;
  close(): Promise<void>;
}

/** @param truth - the node behind; absent: everything not lied about is method not found */
export async function startLyingNode(
  truth?: { readonly rpcUrl: string; readonly user: string; readonly pass: string },
  lies: LyingNode['lies'] = {},
): Promise<LyingNode> {
  const node = { lies };
  const hanging = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += String(chunk);
    });
    request.on('end', () => void answer(body, response).catch(() => response.destroy()));
  });
  async function behind(body: string): Promise<{ status: number; text: string }> {
    if (truth === undefined)
      return { status: 404, text: '{"result":null,"error":{"code":-32601,"message":"Method not found"}}' };
    const authorization = `Basic ${Buffer.from(`${truth.user}:${truth.pass}`).toString('base64')}`;
    const from = await fetch(truth.rpcUrl, { method: 'POST', headers: { authorization }, body });
    return { status: from.status, text: await from.text() };
  }
  async function answer(body: string, response: ServerResponse): Promise<void> {
    const { method, params } = JSON.parse(body) as { method: string; params: unknown[] };
    const told = async (): Promise<unknown> => (JSON.parse((await behind(body)).text) as { result: unknown }).result;
    const lie = (await (node.lies[method] ?? node.lies['*'])?.(params, told)) ?? null;
    if (lie === null) {
      const from = await behind(body);
      response.writeHead(from.status).end(from.text);
    } else if ('result' in lie) response.end(JSON.stringify({ result: lie.result, error: null, id: 1 }));
    else if ('error' in lie) {
      response.writeHead(500).end(JSON.stringify({ result: null, error: lie.error, id: 1 }));
    } else if ('raw' in lie) response.writeHead(lie.status ?? 200).end(lie.raw);
    else if ('hugeBytes' in lie) {
      const ended = new AbortController();
      const closed = once(response, 'close').finally(() => ended.abort());
      response.write('{"result":"');
      const { signal } = ended;
      const piece = Buffer.alloc(1024 * 1024, 'a');
      for (let sent = 0; sent < lie.hugeBytes && !response.destroyed; sent += piece.length) {
        if (!response.write(piece)) {
          await Promise.race([once(response, 'drain', { signal }), closed]).catch(() => {});
        }
      }
      if (!response.destroyed) response.end('","error":null,"id":1}');
    } else if ('hang' in lie) hanging.add(response);
    else {
      response.writeHead(200, { 'content-length': 1_000 });
      response.write('{"result":');
      response.socket?.end();
    }
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return Object.assign(node, {
    rpcUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
