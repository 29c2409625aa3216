/**
 * Transactions that wait for a block, and the traffic that the playground makes for itself so that its blocks carry fees.
 * Flow: `sendrawtransaction` and the traffic add here; `getblocktemplate` takes from here; each new tip sorts anew.
 *
 * The traffic spends outputs that anybody may spend (OP_TRUE and its P2WSH, see `chain.ts`): mature coinbases that pay
 * `playgroundAddress`, and its own change. They are real serialised transactions, with and without witness, with fees and chains of
 * dependence. Where no block pays that address, there is no traffic.
 */

import { parseBlock } from '../core/bitcoin/block.ts';
import { equalBytes, hexFromBytes } from '../core/bitcoin/bytes.ts';
import { hashHex } from '../core/bitcoin/header.ts';
import {
  isCoinbase,
  parseTransaction,
  serializeTransaction,
  type Tx,
  txid,
  wtxid,
} from '../core/bitcoin/transaction.ts';
import {
  type Coin,
  checkTransaction,
  coinKey,
  feeOrRefusal,
  isFinal,
  MAX_BLOCK_WEIGHT,
  OP_TRUE_SCRIPT,
  OP_TRUE_WITNESS_SCRIPT,
  type TipChange,
  type ToyChain,
  weightOf,
} from './chain.ts';

export interface MempoolEntry {
  readonly tx: Tx;
  /** Internal order. */
  readonly txid: Uint8Array;
  /** Display order. */
  readonly txidRpc: string;
  /** wtxid, display order. */
  readonly hashRpc: string;
  /** As it goes into a block. */
  readonly bytes: Uint8Array;
  readonly feeSats: bigint;
  readonly weight: number;
  readonly timeS: number;
}

/** Room that a template leaves for header, count and coinbase: Core's DEFAULT_BLOCK_RESERVED_WEIGHT. */
const RESERVED_WEIGHT = 8_000;
const MAX_ENTRIES = 20_000;

export class Mempool {
  readonly #chain: ToyChain;
  readonly #nowS: () => number;
  /** By txid in display order; parents stand before their children. */
  readonly #entries = new Map<string, MempoolEntry>();
  /** Outputs that entries spend. */
  readonly #spent = new Map<string, string>();
  readonly #listeners: (() => void)[] = [];
  #updates = 0;

  constructor(chain: ToyChain, nowS: () => number) {
    this.#chain = chain;
    this.#nowS = nowS;
    chain.onChange((change) => this.#follow(change));
  }

  /** Counts additions and removals: part of the long poll's handle. */
  get updates(): number {
    return this.#updates;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(txidRpc: string): MempoolEntry | undefined {
    return this.#entries.get(txidRpc);
  }

  entries(): MempoolEntry[] {
    return [...this.#entries.values()];
  }

  isSpent(key: string): boolean {
    return this.#spent.has(key);
  }

  onAdded(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Adds a transaction.
   * @returns null, or Core's word of refusal
   */
  add(bytes: Uint8Array): string | null {
    const refusal = this.#add(bytes, this.#nowS());
    if (refusal === null) for (const listener of this.#listeners) listener();
    return refusal;
  }

  #add(bytes: Uint8Array, timeS: number): string | null {
    let tx: Tx;
    try {
      const parsed = parseTransaction(bytes);
      if (parsed.next !== bytes.length) return 'TX decode failed';
      tx = parsed.tx;
    } catch {
      return 'TX decode failed';
    }
    const own = checkTransaction(tx);
    if (own !== null) return own;
    if (isCoinbase(tx)) return 'coinbase';
    const { tip } = this.#chain;
    if (!isFinal(tx, tip.height + 1, this.#chain.medianTimeS(tip))) return 'non-final';
    const id = txid(tx);
    const txidRpc = hashHex(id);
    if (this.#entries.has(txidRpc)) return 'txn-already-in-mempool';
    if (tx.outputs.some((_, i) => this.#chain.coin(coinKey(id, i)) !== undefined)) return 'txn-already-known';
    const inputs = tx.inputs.map((input) => coinKey(input.prevTxid, input.prevIndex));
    if (inputs.some((key) => this.#spent.has(key))) return 'txn-mempool-conflict';
    const fee = feeOrRefusal(tx, (key) => this.#coin(key), tip.height + 1, this.#chain.profile.coinbase_maturity);
    if (typeof fee === 'string') return fee;
    if (this.#entries.size >= MAX_ENTRIES) return 'mempool full';
    this.#entries.set(txidRpc, {
      tx,
      txid: id,
      txidRpc,
      hashRpc: hashHex(wtxid(tx)),
      bytes: serializeTransaction(tx, { witness: true }),
      feeSats: fee,
      weight: weightOf(tx),
      timeS,
    });
    for (const key of inputs) this.#spent.set(key, txidRpc);
    this.#updates++;
    return null;
  }

  /** An output of the chain or of a waiting transaction. */
  #coin(key: string): Coin | undefined {
    const confirmed = this.#chain.coin(key);
    if (confirmed !== undefined) return confirmed;
    const [txidHex, index] = key.split(':') as [string, string];
    const parent = this.#entries.get(hexFromBytes(Buffer.from(txidHex, 'hex').reverse()));
    const output = parent?.tx.outputs[Number(index)];
    return output === undefined ? undefined : { ...output, height: this.#chain.tip.height + 1, coinbase: false };
  }

  /** Sorts anew on another tip: transactions of blocks that left the chain come back, confirmed and conflicting ones go. */
  #follow({ disconnected }: TipChange): void {
    const old = this.entries();
    this.#entries.clear();
    this.#spent.clear();
    for (const block of disconnected.toReversed()) {
      for (const tx of parseBlock(this.#chain.bytes(block)).txs.slice(1))
        this.#add(serializeTransaction(tx, { witness: true }), block.header.time);
    }
    for (const { bytes, timeS } of old) this.#add(bytes, timeS);
    this.#updates++;
  }

  /** What the next block should hold, parents first, within the block's weight. */
  selection(): MempoolEntry[] {
    const chosen: MempoolEntry[] = [];
    const left = new Set<string>();
    let weight = RESERVED_WEIGHT;
    for (const entry of this.#entries.values()) {
      const orphaned = entry.tx.inputs.some(({ prevTxid }) => left.has(hashHex(prevTxid)));
      if (orphaned || weight + entry.weight > MAX_BLOCK_WEIGHT) {
        left.add(entry.txidRpc);
        continue;
      }
      weight += entry.weight;
      chosen.push(entry);
    }
    return chosen;
  }
}

export interface TrafficOptions {
  readonly chain: ToyChain;
  readonly mempool: Mempool;
  /** Transactions a second, on average. */
  readonly perSecond: number;
  /** 0 <= x < 1; handed in so that tests repeat. */
  readonly random: () => number;
}

/** Coins below this are only joined with others, smallest units. */
const LEAST_CHANGE_SATS = 100_000n;
/** With more coins than this, transactions join some; with fewer, they split one. */
const WANTED_COINS = 60;
const JOINED_COINS = 6;
/** Blocks do not grow without end where nobody mines. */
const MAX_WAITING = 300;
/** Fee rates from 2 to 200 smallest units per virtual byte, most of them low. */
const LEAST_FEE_RATE = 2;
const FEE_RATE_RANGE = 100;

/** Makes one transaction from what can be spent now. @returns its bytes, null where there is nothing to spend or enough waits */
export function makeTransaction({
  chain,
  mempool,
  random,
}: Pick<TrafficOptions, 'chain' | 'mempool' | 'random'>): Uint8Array | null {
  if (mempool.size >= MAX_WAITING) return null;
  const coins = spendableCoins(chain, mempool);
  if (coins.length === 0) return null;
  const pick = (): (typeof coins)[number] => coins.splice(Math.floor(random() * coins.length), 1)[0]!;
  const joining = coins.length > WANTED_COINS;
  const inputs = [pick()];
  while (joining && inputs.length < JOINED_COINS && coins.length > 0) inputs.push(pick());
  const total = inputs.reduce((sum, { coin }) => sum + coin.valueSats, 0n);

  const spends = inputs.map(({ prevTxid, prevIndex, coin }) => ({
    prevTxid,
    prevIndex,
    script: new Uint8Array(0),
    sequence: 0xffff_fffd,
    witness: coin.script.length === OP_TRUE_SCRIPT.length ? [] : [OP_TRUE_SCRIPT],
  }));
  const scripts = joining
    ? [OP_TRUE_WITNESS_SCRIPT]
    : [random() < 0.7 ? OP_TRUE_WITNESS_SCRIPT : OP_TRUE_SCRIPT, OP_TRUE_WITNESS_SCRIPT];
  const draft: Tx = {
    version: 2,
    inputs: spends,
    outputs: scripts.map((script) => ({ valueSats: 0n, script })),
    lockTime: 0,
  };
  const rate = LEAST_FEE_RATE * FEE_RATE_RANGE ** random();
  const feeSats = BigInt(Math.ceil((rate * weightOf(draft)) / 4));
  const rest = total - feeSats;
  if (rest <= 0n) return null;
  const first = scripts.length === 1 ? rest : (rest * BigInt(Math.floor(random() * 800) + 100)) / 1_000n;
  const values =
    scripts.length === 1 || first < LEAST_CHANGE_SATS || rest - first < LEAST_CHANGE_SATS
      ? [rest]
      : [first, rest - first];
  return serializeTransaction(
    { ...draft, outputs: values.map((valueSats, i) => ({ valueSats, script: scripts[i]! })) },
    { witness: true },
  );
}

interface Spendable {
  readonly prevTxid: Uint8Array;
  readonly prevIndex: number;
  readonly coin: Pick<Coin, 'valueSats' | 'script'>;
}

function spendableCoins(chain: ToyChain, mempool: Mempool): Spendable[] {
  const height = chain.tip.height + 1;
  const found: Spendable[] = [];
  const ours = (script: Uint8Array): boolean =>
    equalBytes(script, OP_TRUE_WITNESS_SCRIPT) || equalBytes(script, OP_TRUE_SCRIPT);
  for (const [key, coin] of chain.coins()) {
    if (mempool.isSpent(key) || !ours(coin.script)) continue;
    if (coin.coinbase && height - coin.height < chain.profile.coinbase_maturity) continue;
    const [txidHex, index] = key.split(':') as [string, string];
    found.push({ prevTxid: new Uint8Array(Buffer.from(txidHex, 'hex')), prevIndex: Number(index), coin });
  }
  for (const entry of mempool.entries()) {
    for (const [prevIndex, output] of entry.tx.outputs.entries()) {
      if (!ours(output.script) || mempool.isSpent(coinKey(entry.txid, prevIndex))) continue;
      found.push({ prevTxid: entry.txid, prevIndex, coin: output });
    }
  }
  return found;
}

/** Keeps making transactions at random moments until it is closed. */
export function startTraffic(options: TrafficOptions): { close(): void } {
  let timer: NodeJS.Timeout;
  function next(): void {
    // Times between events of a Poisson process.
    timer = setTimeout(
      () => {
        const bytes = makeTransaction(options);
        if (bytes !== null) options.mempool.add(bytes);
        next();
      },
      Math.min(60_000, (-Math.log(1 - options.random()) * 1_000) / options.perSecond),
    );
  }
  next();
  return { close: () => clearTimeout(timer) };
}
