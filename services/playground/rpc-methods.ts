/**
 * The RPC methods of the toy chain: names, parameters, results and error codes of Bitcoin Core.
 * Flow: `rpc-server.ts` → one function here → `chain.ts`, `mempool.ts`. What Core has only in regtest (`generatetoaddress`,
 * `generateblock`, `invalidateblock`, `reconsiderblock`, `setmocktime`) is here too, for tests of whoever follows a chain.
 *
 * @see https://developer.bitcoin.org/reference/rpc/, Bitcoin Core rpc/mining.cpp, rpc/blockchain.cpp, rpc/protocol.h
 */
import { scriptFromAddress } from '../core/bitcoin/address.ts';
import { parseBlock } from '../core/bitcoin/block.ts';
import { bytesFromHex, hexFromBytes } from '../core/bitcoin/bytes.ts';
import { HEADER_SIZE_BYTES } from '../core/bitcoin/header.ts';
import { bitsHex, difficultyFromBits, targetHex } from '../core/bitcoin/target.ts';
import { parseTransaction, type Tx } from '../core/bitcoin/transaction.ts';
import { subsidySats } from '../core/chains/subsidy.ts';
import { BlockDecodeError, type ChainBlock, MAX_BLOCK_WEIGHT, type ToyChain, weightOf } from './chain.ts';
import {
  blockView,
  chainworkHex,
  coinsFromSats,
  feeOf,
  headerView,
  scriptView,
  transactionView,
  unitsFromSats,
} from './describe.ts';
import { BLOCK_VERSION, type Draft, draftBlock, findBlock } from './generate.ts';
import type { Mempool, MempoolEntry } from './mempool.ts';

/** An error as JSON-RPC carries it; codes are those of Core's rpc/protocol.h. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const MISC_ERROR = -1;
const TYPE_ERROR = -3;
const INVALID_ADDRESS_OR_KEY = -5;
const INVALID_PARAMETER = -8;
const CLIENT_NOT_CONNECTED = -9;
const DESERIALIZATION_ERROR = -22;
const VERIFY_ERROR = -25;
const VERIFY_REJECTED = -26;
const VERIFY_ALREADY_IN_CHAIN = -27;
const METHOD_NOT_FOUND = -32601;

export interface NodeContext {
  readonly chain: ToyChain;
  readonly mempool: Mempool;
  /** The clock of the rules, unix seconds: the real one unless `setmocktime` moved it. */
  readonly nowS: () => number;
  /** 0: the real clock again. */
  readonly setMockTimeS: (timeS: number) => void;
  /** null while nothing is published. */
  readonly zmqUrl: () => string | null;
  readonly uptimeS: () => number;
  /** Asked for by `stop`. */
  readonly onStop: () => void;
  /** How long a long poll ignores new transactions, milliseconds. */
  readonly longPollQuietMs: number;
}

/** One call: its parameters, and a signal that is aborted when nobody waits for the answer any more. */
export interface Call {
  readonly args: Args;
  readonly signal: AbortSignal;
}

/** Reads parameters by place, with Core's errors. */
class Args {
  readonly #values: readonly unknown[];
  constructor(values: readonly unknown[]) {
    this.#values = values;
  }

  has(i: number): boolean {
    return this.#values[i] !== undefined && this.#values[i] !== null;
  }

  raw(i: number): unknown {
    return this.#values[i];
  }

  #wrong(expected: string, value: unknown): RpcError {
    const type = value === null || value === undefined ? 'null' : Array.isArray(value) ? 'array' : typeof value;
    return new RpcError(TYPE_ERROR, `Expected type ${expected}, got ${type}`);
  }

  text(i: number, fallback?: string): string {
    if (!this.has(i) && fallback !== undefined) return fallback;
    const value = this.#values[i];
    if (typeof value !== 'string') throw this.#wrong('string', value);
    return value;
  }

  integer(i: number, fallback?: number): number {
    if (!this.has(i) && fallback !== undefined) return fallback;
    const value = this.#values[i];
    if (typeof value !== 'number') throw this.#wrong('number', value);
    if (!Number.isSafeInteger(value)) throw new RpcError(MISC_ERROR, 'JSON integer out of range');
    return value;
  }

  flag(i: number, fallback: boolean): boolean {
    if (!this.has(i)) return fallback;
    const value = this.#values[i];
    if (typeof value !== 'boolean') throw this.#wrong('bool', value);
    return value;
  }

  hash(i: number, name: string): string {
    const value = this.text(i);
    if (value.length !== 64)
      throw new RpcError(
        INVALID_PARAMETER,
        `${name} must be of length 64 (not ${value.length}, for '${value.slice(0, 100)}')`,
      );
    if (!/^[0-9a-fA-F]{64}$/.test(value))
      throw new RpcError(INVALID_PARAMETER, `${name} must be hexadecimal string (not '${value}')`);
    return value.toLowerCase();
  }

  list(i: number): readonly unknown[] {
    const value = this.#values[i];
    if (!Array.isArray(value)) throw this.#wrong('array', value);
    return value;
  }
}

interface Method {
  /** Parameter names, for calls by name and for `help`; those from `optional` on may be left out. */
  readonly params: readonly string[];
  readonly optional: number;
  run(call: Call): unknown | Promise<unknown>;
}

export interface NodeMethods {
  /**
   * @param params - by place or by name
   * @throws RpcError
   */
  call(method: string, params: unknown, signal: AbortSignal): Promise<unknown>;
}

export function nodeMethods(node: NodeContext): NodeMethods {
  const { chain, mempool } = node;
  const { profile } = chain;

  function blockOf(hash: string): ChainBlock {
    const block = chain.get(hash);
    if (block === undefined) throw new RpcError(INVALID_ADDRESS_OR_KEY, 'Block not found');
    return block;
  }

  function payScript(address: string): Uint8Array {
    try {
      return scriptFromAddress(address, profile.address);
    } catch {
      throw new RpcError(INVALID_ADDRESS_OR_KEY, 'Error: Invalid address');
    }
  }

  function transactionOf(hex: string): Tx {
    try {
      const bytes = bytesFromHex(hex);
      const { tx, next } = parseTransaction(bytes);
      if (next === bytes.length) return tx;
    } catch {
      // The same answer.
    }
    throw new RpcError(DESERIALIZATION_ERROR, 'TX decode failed');
  }

  /** Bitcoin Core rpc/mining.cpp, GetNetworkHashPS: work of the last blocks over the span between their earliest and latest time. */
  function networkHashps(blocks: number, height: number): number {
    const last = height >= 0 && height < chain.tip.height ? chain.at(height)! : chain.tip;
    if (last.height === 0) return 0;
    let lookup = blocks <= 0 ? (last.height % profile.retarget.interval) + 1 : blocks;
    if (lookup > last.height) lookup = last.height;
    let first = last;
    let minS = last.header.time;
    let maxS = minS;
    for (let i = 0; i < lookup; i++) {
      first = first.prev!;
      minS = Math.min(minS, first.header.time);
      maxS = Math.max(maxS, first.header.time);
    }
    return minS === maxS ? 0 : Number(last.chainwork - first.chainwork) / (maxS - minS);
  }

  // --- getblocktemplate ------------------------------------------------------------------------------------------------------

  async function waitForNews(longPollId: string, signal: AbortSignal): Promise<void> {
    const tip = longPollId.slice(0, 64);
    const updates = Number(longPollId.slice(64));
    const newsOfTransactions = (): boolean => mempool.updates !== updates;
    if (chain.tip.hash !== tip) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    let quiet = true;
    const check = (): void => {
      if (chain.tip.hash !== tip || (!quiet && newsOfTransactions())) resolve();
    };
    waiting.add(check);
    const timer = setTimeout(() => {
      quiet = false;
      check();
    }, node.longPollQuietMs);
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted) resolve();
    await promise;
    clearTimeout(timer);
    waiting.delete(check);
    if (signal.aborted) throw new RpcError(CLIENT_NOT_CONNECTED, 'Shutting down');
  }
  const waiting = new Set<() => void>();
  const ring = (): void => {
    for (const check of [...waiting]) check();
  };
  chain.onChange(ring);
  mempool.onAdded(ring);

  async function getblocktemplate({ args, signal }: Call): Promise<unknown> {
    const request = (args.has(0) ? args.raw(0) : {}) as Record<string, unknown>;
    if (typeof request !== 'object' || Array.isArray(request))
      throw new RpcError(TYPE_ERROR, 'Expected type object, got something else');
    const { mode, rules, longpollid } = request;
    if (mode !== undefined && mode !== null && mode !== 'template')
      throw new RpcError(INVALID_PARAMETER, 'Invalid mode');
    if (!Array.isArray(rules) || !rules.includes('segwit')) {
      throw new RpcError(
        INVALID_PARAMETER,
        'getblocktemplate must be called with the segwit rule set (call with {"rules": ["segwit"]})',
      );
    }
    if (typeof longpollid === 'string') await waitForNews(longpollid, signal);
    const draft = draftBlock(chain, mempool.selection(), node.nowS());
    return {
      capabilities: [],
      version: BLOCK_VERSION,
      rules: ['csv', '!segwit', 'taproot'],
      vbavailable: {},
      vbrequired: 0,
      previousblockhash: draft.prev.hash,
      transactions: templateTransactions(draft),
      coinbaseaux: {},
      coinbasevalue: unitsFromSats(draft.coinbaseValueSats),
      longpollid: `${draft.prev.hash}${mempool.updates}`,
      target: targetHex(draft.target),
      mintime: draft.mintimeS,
      mutable: ['time', 'transactions', 'prevblock'],
      noncerange: '00000000ffffffff',
      sigoplimit: 80_000,
      sizelimit: 4_000_000,
      weightlimit: MAX_BLOCK_WEIGHT,
      curtime: draft.curtimeS,
      bits: bitsHex(draft.bits),
      height: draft.height,
      default_witness_commitment: hexFromBytes(draft.commitment),
    };
  }

  function templateTransactions({ transactions }: Draft): unknown[] {
    const places = new Map(transactions.map(({ txid }, i) => [hexFromBytes(txid), i + 1]));
    return transactions.map(({ tx, bytes, txidRpc, hashRpc, feeSats, weight }) => ({
      data: hexFromBytes(bytes),
      txid: txidRpc,
      hash: hashRpc,
      depends: [...new Set(tx.inputs.flatMap(({ prevTxid }) => places.get(hexFromBytes(prevTxid)) ?? []))],
      fee: unitsFromSats(feeSats),
      sigops: 0,
      weight,
    }));
  }

  function submitblock({ args }: Call): unknown {
    let bytes: Uint8Array;
    try {
      bytes = bytesFromHex(args.text(0));
    } catch (error) {
      if (error instanceof RpcError) throw error;
      throw new RpcError(DESERIALIZATION_ERROR, 'Block decode failed');
    }
    return submit(bytes);
  }

  function submit(bytes: Uint8Array): string | null {
    try {
      return chain.submit(bytes);
    } catch (error) {
      if (error instanceof BlockDecodeError) throw new RpcError(DESERIALIZATION_ERROR, error.message);
      throw error;
    }
  }

  // --- generating ------------------------------------------------------------------------------------------------------------

  let generated = 0;
  async function generate(
    count: number,
    payTo: Uint8Array,
    tries: { left: number },
    choose: () => readonly MempoolEntry[],
    signal: AbortSignal,
  ): Promise<string[]> {
    const hashes: string[] = [];
    while (hashes.length < count && tries.left > 0 && !signal.aborted) {
      const draft = draftBlock(chain, choose(), node.nowS());
      const bytes = await findBlock(chain, draft, payTo, generated++, tries);
      if (bytes === null) break;
      const refusal = submit(bytes);
      // Somebody else's block came first: once more on the new tip.
      if (refusal === 'inconclusive') continue;
      if (refusal !== null) throw new RpcError(MISC_ERROR, `ProcessNewBlock, block not accepted: ${refusal}`);
      hashes.push(chain.tip.hash);
    }
    return hashes;
  }

  /** Transactions by id from the mempool or as hex, for `generateblock`. */
  function namedTransactions(list: readonly unknown[]): () => readonly MempoolEntry[] {
    return () =>
      list.map((item) => {
        if (typeof item !== 'string') throw new RpcError(TYPE_ERROR, 'Expected type string, got something else');
        const waiting = mempool.get(item);
        if (waiting !== undefined) return waiting;
        if (item.length === 64) throw new RpcError(INVALID_ADDRESS_OR_KEY, `Transaction ${item} not in mempool.`);
        const view = transactionView(transactionOf(item), profile);
        const refusal = mempool.add(bytesFromHex(item));
        const entry = mempool.get(view.txid as string);
        if (entry === undefined) throw new RpcError(VERIFY_ERROR, `TestBlockValidity failed: ${refusal}`);
        return entry;
      });
  }

  function findTransaction(id: string, inBlock: string | null): { tx: Tx; block: ChainBlock | null } {
    if (inBlock !== null) {
      const block = blockOf(inBlock);
      const tx = parseBlock(chain.bytes(block)).txs.find(
        (candidate) => transactionView(candidate, profile).txid === id,
      );
      if (tx !== undefined) return { tx, block };
      throw new RpcError(
        INVALID_ADDRESS_OR_KEY,
        'No such transaction found in the provided block. Use gettransaction for wallet transactions.',
      );
    }
    const entry = mempool.get(id);
    if (entry !== undefined) return { tx: entry.tx, block: null };
    throw new RpcError(
      INVALID_ADDRESS_OR_KEY,
      'No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries. Use gettransaction for wallet transactions.',
    );
  }

  function blockStats(block: ChainBlock): Record<string, unknown> {
    const { txs } = parseBlock(chain.bytes(block));
    const spent = chain.spentBy(block);
    const fees = txs.slice(1).map((tx) => feeOf(tx, spent) ?? 0n);
    const others = txs.slice(1);
    const totalFee = fees.reduce((sum, fee) => sum + fee, 0n);
    const sorted = fees.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    return {
      avgfee: unitsFromSats(fees.length === 0 ? 0n : totalFee / BigInt(fees.length)),
      blockhash: block.hash,
      height: block.height,
      ins: others.reduce((sum, tx) => sum + tx.inputs.length, 0),
      maxfee: unitsFromSats(sorted.at(-1) ?? 0n),
      mediantime: chain.medianTimeS(block),
      minfee: unitsFromSats(sorted[0] ?? 0n),
      outs: txs.reduce((sum, tx) => sum + tx.outputs.length, 0),
      subsidy: unitsFromSats(subsidySats(profile, block.height)),
      time: block.header.time,
      total_out: unitsFromSats(
        others.reduce((sum, tx) => sum + tx.outputs.reduce((s, { valueSats }) => s + valueSats, 0n), 0n),
      ),
      total_weight: others.reduce((sum, tx) => sum + weightOf(tx), 0),
      totalfee: unitsFromSats(totalFee),
      txs: txs.length,
    };
  }

  const methods: Readonly<Record<string, Method>> = {
    getblocktemplate: { params: ['template_request'], optional: 0, run: getblocktemplate },
    submitblock: { params: ['hexdata', 'dummy'], optional: 1, run: submitblock },
    getbestblockhash: { params: [], optional: 0, run: () => chain.tip.hash },
    getblockcount: { params: [], optional: 0, run: () => chain.tip.height },
    getblockhash: {
      params: ['height'],
      optional: 1,
      run: ({ args }) => {
        const block = chain.at(args.integer(0));
        if (block === undefined) throw new RpcError(INVALID_PARAMETER, 'Block height out of range');
        return block.hash;
      },
    },
    getblock: {
      params: ['blockhash', 'verbosity'],
      optional: 1,
      run: ({ args }) => {
        const block = blockOf(args.hash(0, 'blockhash'));
        const asked = args.raw(1);
        const verbosity = typeof asked === 'boolean' ? Number(asked) : args.integer(1, 1);
        if (verbosity <= 0) return hexFromBytes(chain.bytes(block));
        return blockView(chain, block, verbosity === 1 ? 1 : 2);
      },
    },
    getblockheader: {
      params: ['blockhash', 'verbose'],
      optional: 1,
      run: ({ args }) => {
        const block = blockOf(args.hash(0, 'blockhash'));
        if (!args.flag(1, true)) return hexFromBytes(chain.bytes(block).subarray(0, HEADER_SIZE_BYTES));
        return headerView(chain, block);
      },
    },
    getblockchaininfo: {
      params: [],
      optional: 0,
      run: () => ({
        chain: profile.name,
        blocks: chain.tip.height,
        headers: chain.headersHeight,
        bestblockhash: chain.tip.hash,
        difficulty: difficultyFromBits(chain.tip.header.bits),
        mediantime: chain.medianTimeS(chain.tip),
        verificationprogress: 1,
        initialblockdownload: false,
        chainwork: chainworkHex(chain.tip.chainwork),
        size_on_disk: chain.sizeBytes,
        pruned: false,
        softforks: {},
        warnings: '',
      }),
    },
    getblockstats: {
      params: ['hash_or_height', 'stats'],
      optional: 1,
      run: ({ args }) => {
        const asked = args.raw(0);
        const block = typeof asked === 'number' ? chain.at(args.integer(0)) : blockOf(args.hash(0, 'hash_or_height'));
        if (block === undefined)
          throw new RpcError(INVALID_PARAMETER, `Target block height ${asked} after current tip ${chain.tip.height}`);
        const all = blockStats(block);
        if (!args.has(1)) return all;
        return Object.fromEntries(
          args.list(1).map((name) => {
            if (typeof name !== 'string' || !(name in all))
              throw new RpcError(INVALID_PARAMETER, `Invalid selected statistic '${String(name)}'`);
            return [name, all[name]];
          }),
        );
      },
    },
    getdifficulty: { params: [], optional: 0, run: () => difficultyFromBits(chain.tip.header.bits) },
    getnetworkhashps: {
      params: ['nblocks', 'height'],
      optional: 0,
      run: ({ args }) => networkHashps(args.integer(0, 120), args.integer(1, -1)),
    },
    getmininginfo: {
      params: [],
      optional: 0,
      run: () => ({
        blocks: chain.tip.height,
        difficulty: difficultyFromBits(chain.tip.header.bits),
        networkhashps: networkHashps(120, -1),
        pooledtx: mempool.size,
        chain: profile.name,
        warnings: '',
      }),
    },
    getnetworkinfo: {
      params: [],
      optional: 0,
      run: () => ({
        version: 210_100,
        subversion: '/Lodestream-playground:0.1.0/',
        protocolversion: 70_016,
        localservices: '0000000000000000',
        localservicesnames: [],
        localrelay: false,
        timeoffset: 0,
        networkactive: false,
        connections: 0,
        connections_in: 0,
        connections_out: 0,
        networks: [],
        relayfee: coinsFromSats(1_000n),
        incrementalfee: coinsFromSats(1_000n),
        localaddresses: [],
        warnings: 'This is a toy chain: its coins are worth nothing',
      }),
    },
    validateaddress: {
      params: ['address'],
      optional: 1,
      run: ({ args }) => {
        const address = args.text(0);
        let script: Uint8Array;
        try {
          script = scriptFromAddress(address, profile.address);
        } catch (error) {
          return { isvalid: false, error: error instanceof Error ? error.message : String(error) };
        }
        const { type } = scriptView(script, profile);
        const iswitness = String(type).startsWith('witness');
        const witness = iswitness
          ? {
              witness_version: script[0] === 0 ? 0 : script[0]! - 0x50,
              witness_program: hexFromBytes(script.subarray(2)),
            }
          : {};
        return {
          isvalid: true,
          address,
          scriptPubKey: hexFromBytes(script),
          isscript: type === 'scripthash' || type === 'witness_v0_scripthash' || type === 'witness_v1_taproot',
          iswitness,
          ...witness,
        };
      },
    },
    getrawmempool: {
      params: ['verbose'],
      optional: 0,
      run: ({ args }) => {
        const entries = mempool.entries();
        if (!args.flag(0, false)) return entries.map(({ txidRpc }) => txidRpc);
        return Object.fromEntries(
          entries.map(({ txidRpc, hashRpc, weight, timeS, feeSats }) => [
            txidRpc,
            {
              vsize: Math.ceil(weight / 4),
              weight,
              time: timeS,
              wtxid: hashRpc,
              fees: { base: coinsFromSats(feeSats) },
            },
          ]),
        );
      },
    },
    getrawtransaction: {
      params: ['txid', 'verbose', 'blockhash'],
      optional: 1,
      run: ({ args }) => {
        const { tx, block } = findTransaction(
          args.hash(0, 'parameter 1'),
          args.has(2) ? args.hash(2, 'parameter 3') : null,
        );
        const view = transactionView(tx, profile);
        const asked = args.raw(1);
        if (asked === undefined || asked === null || asked === false || asked === 0) return view.hex;
        if (block === null) return view;
        return {
          in_active_chain: chain.isActive(block),
          ...view,
          blockhash: block.hash,
          confirmations: headerView(chain, block).confirmations,
          time: block.header.time,
          blocktime: block.header.time,
        };
      },
    },
    decoderawtransaction: {
      params: ['hexstring', 'iswitness'],
      optional: 1,
      run: ({ args }) => {
        const { hex: _, ...view } = transactionView(transactionOf(args.text(0)), profile);
        return view;
      },
    },
    sendrawtransaction: {
      params: ['hexstring', 'maxfeerate'],
      optional: 1,
      run: ({ args }) => {
        const tx = transactionOf(args.text(0));
        const { txid } = transactionView(tx, profile);
        const refusal = mempool.add(bytesFromHex(args.text(0)));
        // Core answers a transaction that waits already as if it were new.
        if (refusal === null || refusal === 'txn-already-in-mempool') return txid;
        if (refusal === 'txn-already-known')
          throw new RpcError(VERIFY_ALREADY_IN_CHAIN, 'Transaction already in block chain');
        throw refusal === 'bad-txns-inputs-missingorspent'
          ? new RpcError(VERIFY_ERROR, refusal)
          : new RpcError(VERIFY_REJECTED, refusal);
      },
    },
    preciousblock: {
      params: ['blockhash'],
      optional: 1,
      run: ({ args }) => {
        if (!chain.precious(args.hash(0, 'blockhash'))) throw new RpcError(INVALID_ADDRESS_OR_KEY, 'Block not found');
        return null;
      },
    },
    invalidateblock: {
      params: ['blockhash'],
      optional: 1,
      run: ({ args }) => {
        if (!chain.invalidate(args.hash(0, 'blockhash'))) throw new RpcError(INVALID_ADDRESS_OR_KEY, 'Block not found');
        return null;
      },
    },
    reconsiderblock: {
      params: ['blockhash'],
      optional: 1,
      run: ({ args }) => {
        if (!chain.reconsider(args.hash(0, 'blockhash'))) throw new RpcError(INVALID_ADDRESS_OR_KEY, 'Block not found');
        return null;
      },
    },
    generatetoaddress: {
      params: ['nblocks', 'address', 'maxtries'],
      optional: 2,
      run: ({ args, signal }) => {
        const tries = { left: args.integer(2, Number.MAX_SAFE_INTEGER) };
        return generate(args.integer(0), payScript(args.text(1)), tries, () => mempool.selection(), signal);
      },
    },
    generateblock: {
      params: ['output', 'transactions'],
      optional: 2,
      run: async ({ args, signal }) => {
        const tries = { left: Number.MAX_SAFE_INTEGER };
        const [hash] = await generate(1, payScript(args.text(0)), tries, namedTransactions(args.list(1)), signal);
        return { hash };
      },
    },
    setmocktime: {
      params: ['timestamp'],
      optional: 1,
      run: ({ args }) => {
        node.setMockTimeS(args.integer(0));
        return null;
      },
    },
    getzmqnotifications: {
      params: [],
      optional: 0,
      run: () => {
        const address = node.zmqUrl();
        return address === null ? [] : ['pubhashblock', 'pubrawblock'].map((type) => ({ type, address, hwm: 1_000 }));
      },
    },
    help: {
      params: ['command'],
      optional: 0,
      run: ({ args }) => {
        if (!args.has(0)) return Object.entries(methods).map(usage).sort().join('\n');
        const method = methods[args.text(0)];
        return method === undefined ? `help: unknown command: ${args.text(0)}` : usage([args.text(0), method]);
      },
    },
    uptime: { params: [], optional: 0, run: () => node.uptimeS() },
    stop: {
      params: [],
      optional: 0,
      run: () => {
        node.onStop();
        return 'The toy chain stops';
      },
    },
  };

  return {
    async call(name, params, signal) {
      const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
      if (method === undefined) throw new RpcError(METHOD_NOT_FOUND, 'Method not found');
      const values = byPlace(method, params);
      if (
        values.length > method.params.length ||
        values.filter((value) => value !== undefined).length < method.optional
      ) {
        throw new RpcError(MISC_ERROR, usage([name, method]));
      }
      return method.run({ args: new Args(values), signal });
    },
  };
}

function usage([name, { params, optional }]: [string, Method]): string {
  return [name, ...params.map((param, i) => (i < optional ? param : `( ${param} )`))].join(' ');
}

function byPlace(method: Method, params: unknown): readonly unknown[] {
  if (params === undefined || params === null) return [];
  if (Array.isArray(params)) return params;
  const named = params as Record<string, unknown>;
  const unknown = Object.keys(named).find((key) => !method.params.includes(key));
  if (unknown !== undefined) throw new RpcError(INVALID_PARAMETER, `Unknown named parameter ${unknown}`);
  return method.params.map((param) => named[param]);
}
