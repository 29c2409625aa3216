import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import { resolveChain } from '../../../../services/core/node/resolve-chain.ts';
import { createNodeRpc } from '../../../../services/core/node/rpc.ts';
import { until } from '../../../helpers/leash.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A node that knows one call; each entry of `answers` serves one request, the last one all further. */
async function node(
  answers: readonly { status?: number; body?: unknown }[],
): Promise<{ url: string; calls: () => number }> {
  let calls = 0;
  const server: Server = createServer((request, response) => {
    request.resume().on('end', () => {
      const { status = 200, body } = answers[Math.min(calls++, answers.length - 1)]!;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(body === undefined ? '' : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `127.0.0.1:${(server.address() as AddressInfo).port}`, calls: () => calls };
}

const genesisOf = (name: string) => ({ body: { result: loadChain(name).genesis_hash, error: null, id: 1 } });

function resolving(url: string, chain: string) {
  const lines: string[] = [];
  const stop = new AbortController();
  const rpc = createNodeRpc({ url, user: 'u', pass: 'p' });
  closers.push(() => {
    stop.abort();
    rpc.close();
  });
  const found = resolveChain({ chain }, rpc, {
    log: (line) => lines.push(line),
    signal: stop.signal,
    pauseMs: 2,
    maxPauseMs: 5,
  });
  found.catch(() => {});
  return { found, lines, stop };
}

describe('the chain of a node', () => {
  test.each(['bitcoin', 'litecoin', 'regtest', 'playground', 'testnet4'])(
    'auto finds %s by its block 0',
    async (name) => {
      const { url } = await node([genesisOf(name)]);
      expect((await resolving(url, 'auto').found).name).toBe(name);
    },
  );

  test('a block 0 that no profile has is chain_unknown and is named', async () => {
    const { url } = await node([{ body: { result: 'ab'.repeat(32), error: null, id: 1 } }]);
    await expect(resolving(url, 'auto').found).rejects.toMatchObject({
      code: 'chain_unknown',
      message: expect.stringContaining('ab'.repeat(32)),
    });
  });

  test('a node of another chain than the configured one is chain_mismatch, naming both', async () => {
    const { url } = await node([genesisOf('litecoin')]);
    const error = await resolving(url, 'bitcoin').found.catch((e: unknown) => e);
    expect(error).toBeInstanceOf(PoolError);
    expect((error as PoolError).code).toBe('chain_mismatch');
    expect((error as PoolError).message).toMatch(/not on the chain bitcoin: .*\(litecoin\)/);
  });

  test('a misspelt chain is refused before the node is asked', async () => {
    const { url, calls } = await node([genesisOf('bitcoin')]);
    await expect(resolving(url, 'bitcion').found).rejects.toMatchObject({ code: 'chain_unknown' });
    expect(calls()).toBe(0);
  });

  test('a node that refuses the password, then loads, is waited for, and each state is said once', async () => {
    const loading = {
      status: 500,
      body: { result: null, error: { code: -28, message: 'Loading block index…' }, id: 1 },
    };
    const { url } = await node([
      { status: 401 },
      { status: 401 },
      { status: 401 },
      loading,
      loading,
      genesisOf('regtest'),
    ]);
    const { found, lines } = resolving(url, 'auto');
    expect((await found).name).toBe('regtest');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/refuses user or password.*waiting$/);
    expect(lines[1]).toMatch(/Loading block index.*waiting$/);
    expect(lines[2]).toBe('the node answers again');
  });

  test('waiting for a node ends when the program is told to stop', async () => {
    const { found, lines, stop } = resolving('127.0.0.1:1', 'auto');
    await until('a line', () => lines.length === 1);
    stop.abort();
    await expect(found).rejects.toThrow();
    expect(lines[0]).toMatch(/nobody listens there/);
  });
});
