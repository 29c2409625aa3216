/**
 * Whole blocks: written for `submitblock`, read from `getblock` and from miners' submissions.
 *
 *   block = header (80), count, transactions (coinbase first), extra
 *
 * `extra` is empty on Bitcoin; on Litecoin after MWEB's activation it is 01 and the template's `mweb` (LIP 3).
 *
 * @see https://developer.bitcoin.org/reference/block_chain.html#serialized-blocks; BIP 22
 */
import { bytesFromHex, compactSize, concatBytes, readBytes, readCompactSize } from './bytes.ts';
import { HEADER_SIZE_BYTES, type Header, headerFromBytes } from './header.ts';
import { isCoinbase, parseTransaction, type Tx, txidAt } from './transaction.ts';

/** What stands at a block's front: enough for its height, time, difficulty, fees and whom it pays. */
export interface BlockSummary {
  readonly header: Header;
  /** 80 bytes. */
  readonly headerBytes: Uint8Array;
  /** Number of transactions as announced, the coinbase included. */
  readonly txCount: number;
  readonly coinbase: Tx;
}

export interface Block extends BlockSummary {
  /** All transactions, the coinbase included. */
  readonly txs: readonly Tx[];
  /** What follows the transactions; on chains without an extension block anything here is an error of the sender. */
  readonly extra: Uint8Array;
}

/** No transaction is smaller: version 4, counts 2, one input 41, lock time 4. */
const LEAST_TX_BYTES = 51;

/**
 * Writes a block.
 *
 * @param header80 - 80 bytes
 * @param coinbase - the coinbase as the block shall carry it (`witnessCoinbase` on segwit chains)
 * @param txs - the other transactions in template order, as bytes or as the template's hex
 * @param extra - Litecoin: 01 and the template's `mweb`
 * @throws RangeError for a header of another size or hex that is none
 */
export function serializeBlock(
  header80: Uint8Array,
  coinbase: Uint8Array,
  txs: readonly (Uint8Array | string)[],
  extra?: Uint8Array,
): Uint8Array {
  if (header80.length !== HEADER_SIZE_BYTES) throw new RangeError(`header: expected 80 bytes, got ${header80.length}`);
  const others = txs.map((tx, i) => (typeof tx === 'string' ? bytesFromHex(tx, `transaction ${i + 1}`) : tx));
  return concatBytes(
    header80,
    compactSize(others.length + 1),
    coinbase,
    ...others,
    ...(extra === undefined ? [] : [extra]),
  );
}

function parseHead(bytes: Uint8Array): { summary: BlockSummary; next: number } {
  const headerBytes = readBytes(bytes, 0, HEADER_SIZE_BYTES).slice();
  const count = readCompactSize(bytes, HEADER_SIZE_BYTES);
  if (count.value === 0) throw new RangeError('block: expected a coinbase, got no transactions');
  if (count.value * LEAST_TX_BYTES > bytes.length - count.next) {
    throw new RangeError(`block: ${count.value} transactions announced, ${bytes.length - count.next} bytes left`);
  }
  const { tx, next } = parseTransaction(bytes, count.next);
  if (!isCoinbase(tx)) throw new RangeError('block: the first transaction is no coinbase');
  return { summary: { header: headerFromBytes(headerBytes), headerBytes, txCount: count.value, coinbase: tx }, next };
}

/**
 * Reads header, count and coinbase and leaves the rest unread: the same work for a block of 300 bytes and of 4 MB.
 *
 * @throws RangeError when it ends early or its first transaction is no coinbase
 */
export function parseBlockSummary(bytes: Uint8Array): BlockSummary {
  return parseHead(bytes).summary;
}

/**
 * Reads a whole block. Nothing is judged but the form: proof of work, merkle root and amounts are the caller's.
 *
 * @throws RangeError when it ends early or its first transaction is no coinbase
 */
export function parseBlock(bytes: Uint8Array): Block {
  const { summary, next } = parseHead(bytes);
  const txs: Tx[] = [summary.coinbase];
  let at = next;
  while (txs.length < summary.txCount) {
    const read = parseTransaction(bytes, at);
    txs.push(read.tx);
    at = read.next;
  }
  return { ...summary, txs, extra: bytes.slice(at) };
}

/**
 * The ids of all transactions of a block, the coinbase first, in internal order: what its merkle root covers. What follows the last
 * transaction is not looked at.
 *
 * @throws RangeError when it ends early
 */
export function blockTxids(bytes: Uint8Array): Uint8Array[] {
  const count = readCompactSize(bytes, HEADER_SIZE_BYTES);
  if (count.value * LEAST_TX_BYTES > bytes.length - count.next) {
    throw new RangeError(`block: ${count.value} transactions announced, ${bytes.length - count.next} bytes left`);
  }
  const txids: Uint8Array[] = [];
  for (let at = count.next; txids.length < count.value; ) {
    const read = txidAt(bytes, at);
    txids.push(read.txid);
    at = read.next;
  }
  return txids;
}
