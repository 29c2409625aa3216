/**
 * A node that gives templates and no more: for measuring a pool, where a real node's own work would be measured with it.
 *
 *   getblocktemplate (long poll), getbestblockhash, …   ← the pool
 *   ZMQ `hashblock`                                     → the pool
 *   GET /block                                          ← who wants a new block
 *
 * Transactions are made from a seed and are well-formed (their ids and the witness commitment are right); nobody signed them. It says that
 * it is on Bitcoin's main chain, at a difficulty that no share here solves, and answers what CKPool asks at its start as well.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Publisher } from 'zeromq';
import { hexFromBytes, reversed } from '../../services/core/bitcoin/bytes.ts';
import { witnessCommitmentScript } from '../../services/core/bitcoin/coinbase.ts';
import { sha256d } from '../../services/core/bitcoin/hash.ts';
import { hashHex } from '../../services/core/bitcoin/header.ts';
import { serializeTransaction, type Tx } from '../../services/core/bitcoin/transaction.ts';

const GENESIS = '000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f';
/** BIP 173's example: pays to a key that everybody knows. */
export const NODE_ADDRESS = 'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4';
const NODE_SCRIPT = '0014751e76e8199196d454941c45d1b3a323f1433bd6';
/** About 1.3e14. */
const BITS = '17021e95';
const FIRST_HEIGHT = 900_000;
const SUBSIDY_SATS = 312_500_000;
const FEE_SATS = 1_500;
/** Of the transactions of a template, so many are others in the next one: what comes within some seconds. */
const RENEWED = 25;

export interface TemplateNodeOptions {
  /** Transactions of each template; default none. */
  readonly transactions?: number;
  /** Default 0: any free port. */
  readonly port?: number;
}

export interface TemplateNode {
  /** host:port of the RPC. */
  readonly address: string;
  /** ZMQ endpoint of block notices. */
  readonly zmq: string;
  /** URL that makes a new block when it is read. */
  readonly trigger: string;
  /** A new block on top; returns when all who wait for it have been told. */
  newBlock(): Promise<void>;
  /** Answers given, by method. */
  readonly calls: ReadonlyMap<string, number>;
  readonly height: number;
  close(): Promise<void>;
}

interface MadeTransaction {
  /** As JSON text. */
  readonly text: string;
  /** Internal order. */
  readonly wtxid: Uint8Array;
}

/** Bytes that depend on nothing but the text. */
function seeded(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}

/** The i-th transaction of all nodes: one to three inputs of segwit form, two outputs; 220 to 520 bytes. */
function madeTransaction(i: number): MadeTransaction {
  const random = seeded(`tx ${i}`);
  const key = Buffer.concat([Uint8Array.of(2), seeded(`key ${i}`)]);
  const tx: Tx = {
    version: 2,
    inputs: Array.from({ length: 1 + (random[0]! % 3) }, (_, n) => ({
      prevTxid: seeded(`input ${i} ${n}`),
      prevIndex: random[1]! % 4,
      script: new Uint8Array(0),
      sequence: 0xfffffffd,
      witness: [Buffer.concat([seeded(`r ${i} ${n}`), seeded(`s ${i} ${n}`), Buffer.alloc(7)]), key],
    })),
    outputs: [0, 1].map((n) => ({
      valueSats: BigInt(10_000 + ((random[2 + n]! << 8) | random[4 + n]!)),
      script: Buffer.concat([Uint8Array.of(0, 20), seeded(`to ${i} ${n}`).subarray(0, 20)]),
    })),
    lockTime: 0,
  };
  const bytes = serializeTransaction(tx, { witness: true });
  const wtxid = sha256d(bytes);
  const txid = sha256d(serializeTransaction(tx, { witness: false }));
  const weight = serializeTransaction(tx, { witness: false }).length * 3 + bytes.length;
  const text = `{"data":"${hexFromBytes(bytes)}","txid":"${hashHex(txid)}","hash":"${hashHex(wtxid)}","depends":[],"fee":${FEE_SATS},"sigops":1,"weight":${weight}}`;
  return { text, wtxid };
}

/** Starts the node on the loopback. */
export async function startTemplateNode(options: TemplateNodeOptions = {}): Promise<TemplateNode> {
  const size = options.transactions ?? 0;
  const pool = Array.from({ length: size + (size === 0 ? 0 : RENEWED * 40) }, (_, i) => madeTransaction(i));
  const bodies = new Map<number, Buffer>();

  /** Everything of the n-th template that does not change with time, as JSON text from `"transactions"` on. */
  function bodyOf(n: number): Buffer {
    const from = size === 0 ? 0 : (n * RENEWED) % (pool.length - size + 1);
    let body = bodies.get(from);
    if (body === undefined) {
      const chosen = pool.slice(from, from + size);
      const commitment = hexFromBytes(witnessCommitmentScript(chosen.map(({ wtxid }) => wtxid)));
      const value = SUBSIDY_SATS + size * FEE_SATS;
      body = Buffer.from(
        `"coinbasevalue":${value},"default_witness_commitment":"${commitment}","transactions":[${chosen.map(({ text }) => text).join(',')}]}`,
      );
      bodies.set(from, body);
    }
    return body;
  }
  // Made before they are asked for: that shall not fall into what is measured.
  for (let n = 0; n < 12; n++) bodyOf(n);

  let blocks = 0;
  let templates = 0;
  let sequence = 0;
  const calls = new Map<string, number>();
  const waiting = new Set<() => void>();
  const tip = (): string =>
    hexFromBytes(reversed(Buffer.concat([seeded(`block ${blocks}`).subarray(8), Buffer.alloc(8)])));
  const height = (): number => FIRST_HEIGHT + blocks;

  function templateBytes(id: string): Buffer {
    const now = Math.floor(Date.now() / 1000);
    const head = {
      capabilities: ['proposal'],
      version: 0x20000000,
      rules: ['csv', '!segwit', 'taproot'],
      vbavailable: {},
      vbrequired: 0,
      previousblockhash: tip(),
      coinbaseaux: {},
      longpollid: `${tip()}${templates}`,
      target: targetOf(BITS),
      mintime: now - 3_600,
      mutable: ['time', 'transactions', 'prevblock'],
      noncerange: '00000000ffffffff',
      sigoplimit: 80_000,
      sizelimit: 4_000_000,
      weightlimit: 4_000_000,
      curtime: now,
      bits: BITS,
      height: height() + 1,
    };
    const text = JSON.stringify(head);
    const body = bodyOf(templates++);
    return Buffer.concat([
      Buffer.from(`{"result":${text.slice(0, -1)},`),
      body,
      Buffer.from(`,"error":null,"id":${id}}\n`),
    ]);
  }

  function answer(method: string, params: readonly unknown[]): unknown {
    switch (method) {
      case 'getblockchaininfo':
        return {
          chain: 'main',
          blocks: height(),
          headers: height(),
          bestblockhash: tip(),
          initialblockdownload: false,
        };
      case 'getbestblockhash':
        return tip();
      case 'getblockcount':
        return height();
      case 'getblockhash':
        return params[0] === 0 ? GENESIS : tip();
      case 'validateaddress':
        return params[0] === NODE_ADDRESS
          ? { isvalid: true, address: NODE_ADDRESS, scriptPubKey: NODE_SCRIPT, isscript: false, iswitness: true }
          : { isvalid: false };
      case 'decoderawtransaction':
        return { txid: '00'.repeat(32), vin: [], vout: [] };
      case 'submitblock':
      case 'preciousblock':
        return null;
      default:
        return undefined;
    }
  }

  function serve(request: IncomingMessage, response: ServerResponse, body: string): void {
    const send = (bytes: Buffer, status = 200): void => {
      response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
      response.end(bytes);
    };
    if (request.method === 'GET') {
      if (request.url !== '/block') send(Buffer.from('no such page\n'), 404);
      else void newBlock().then(() => send(Buffer.from('{}\n')));
      return;
    }
    const call = JSON.parse(body) as { id?: unknown; method: string; params?: readonly unknown[] };
    calls.set(call.method, (calls.get(call.method) ?? 0) + 1);
    const id = JSON.stringify(call.id ?? null);
    if (call.method === 'getblocktemplate') {
      const { longpollid } = (call.params?.[0] ?? {}) as { longpollid?: string };
      if (longpollid?.startsWith(tip()) === true) waiting.add(() => send(templateBytes(id)));
      else send(templateBytes(id));
      return;
    }
    const result = answer(call.method, call.params ?? []);
    if (result === undefined) {
      send(Buffer.from(`{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":${id}}\n`), 404);
    } else {
      send(Buffer.from(`{"result":${JSON.stringify(result)},"error":null,"id":${id}}\n`));
    }
  }

  const publisher = new Publisher({ linger: 0 });
  await publisher.bind('tcp://127.0.0.1:*');

  async function newBlock(): Promise<void> {
    blocks += 1;
    const number = Buffer.alloc(4);
    number.writeUInt32LE(sequence++);
    await publisher.send(['hashblock', Buffer.from(tip(), 'hex'), number]);
    const told = [...waiting];
    waiting.clear();
    for (const tell of told) tell();
  }

  // CKPool ends its lines with LF alone.
  const server = createServer({ insecureHTTPParser: true }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => serve(request, response, Buffer.concat(parts).toString()));
  });
  server.keepAliveTimeout = 600_000;
  server.requestTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    address,
    zmq: publisher.lastEndpoint!,
    trigger: `http://${address}/block`,
    newBlock,
    calls,
    get height() {
      return height();
    },
    close: async () => {
      publisher.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The target as a template shows it. */
function targetOf(bits: string): string {
  const exponent = Number.parseInt(bits.slice(0, 2), 16);
  return `${bits.slice(2)}${'00'.repeat(exponent - 3)}`.padStart(64, '0');
}
