/**
 * Transactions: reading, writing and their ids. Used for coinbases, of our own blocks and of connected ones, and for the toy
 * chain's rules.
 *
 * | field        | length            | note                                                   |
 * |--------------|-------------------|--------------------------------------------------------|
 * | version      | 4                 | signed                                                 |
 * | marker, flag | 2                 | only in the extended form: 00, then bits 1 witness, 8 MWEB |
 * | inputs       | count, each       | txid 32, index 4, script, sequence 4                   |
 * | outputs      | count, each       | value 8, script                                        |
 * | witnesses    | per input         | only with flag bit 1                                   |
 * | MWEB         | 1                 | only with flag bit 8: 00 marks Litecoin's HogEx        |
 * | lockTime     | 4                 |                                                        |
 *
 * @see BIP 141, BIP 144; Bitcoin Core `primitives/transaction.h`; Litecoin's LIP 3 and the same file for the MWEB flag
 */
import {
  compactSize,
  concatBytes,
  readBytes,
  readCompactSize,
  readInt32Le,
  readUint32Le,
  readUint64Le,
  uint32Le,
  uint64Le,
} from './bytes.ts';
import { sha256d } from './hash.ts';

export interface TxInput {
  /** Id of the transaction that is spent, 32 bytes, internal order; all zero in a coinbase. */
  readonly prevTxid: Uint8Array;
  /** Output that is spent; 0xffffffff in a coinbase. */
  readonly prevIndex: number;
  readonly script: Uint8Array;
  readonly sequence: number;
  /** Witness items; empty without witness. */
  readonly witness: readonly Uint8Array[];
}

export interface TxOutput {
  readonly valueSats: bigint;
  readonly script: Uint8Array;
}

export interface Tx {
  readonly version: number;
  readonly inputs: readonly TxInput[];
  readonly outputs: readonly TxOutput[];
  readonly lockTime: number;
  /** Litecoin: the block's last transaction, which ties the extension block to the chain (LIP 3). */
  readonly hogEx?: boolean;
}

const FLAG_WITNESS = 1;
const FLAG_MWEB = 8;
/** Least sizes, so that a count can be refused before anything is allocated for it. */
const LEAST_INPUT_BYTES = 41;
const LEAST_OUTPUT_BYTES = 9;

function readCount(
  bytes: Uint8Array,
  offset: number,
  leastSize: number,
  what: string,
): { value: number; next: number } {
  const count = readCompactSize(bytes, offset);
  if (count.value * leastSize > bytes.length - count.next) {
    throw new RangeError(
      `${what}: ${count.value} announced at offset ${offset}, ${bytes.length - count.next} bytes left`,
    );
  }
  return count;
}

function readScript(bytes: Uint8Array, offset: number): { script: Uint8Array; next: number } {
  const size = readCount(bytes, offset, 1, 'script');
  return { script: readBytes(bytes, size.next, size.value).slice(), next: size.next + size.value };
}

/**
 * Reads one transaction in either form.
 *
 * @param bytes - the transaction, possibly with more before and behind it
 * @param offset - where it begins
 * @returns the transaction and the offset after it
 * @throws RangeError when it ends early, has no input, an unknown flag, or a witness form without any witness
 */
export function parseTransaction(bytes: Uint8Array, offset = 0): { tx: Tx; next: number } {
  const version = readInt32Le(bytes, offset);
  let at = offset + 4;
  let flags = 0;
  if (bytes[at] === 0) {
    flags = readBytes(bytes, at + 1, 1)[0]!;
    if (flags === 0) throw new RangeError(`transaction at offset ${offset}: no inputs`);
    if ((flags & ~(FLAG_WITNESS | FLAG_MWEB)) !== 0) {
      throw new RangeError(`transaction at offset ${offset}: unknown flag ${flags}`);
    }
    at += 2;
  }

  const inputCount = readCount(bytes, at, LEAST_INPUT_BYTES, 'inputs');
  if (inputCount.value === 0) throw new RangeError(`transaction at offset ${offset}: no inputs`);
  at = inputCount.next;
  const inputs: (TxInput & { witness: Uint8Array[] })[] = [];
  for (let i = 0; i < inputCount.value; i++) {
    const prevTxid = readBytes(bytes, at, 32).slice();
    const prevIndex = readUint32Le(bytes, at + 32);
    const { script, next } = readScript(bytes, at + 36);
    inputs.push({ prevTxid, prevIndex, script, sequence: readUint32Le(bytes, next), witness: [] });
    at = next + 4;
  }

  const outputCount = readCount(bytes, at, LEAST_OUTPUT_BYTES, 'outputs');
  at = outputCount.next;
  const outputs: TxOutput[] = [];
  for (let i = 0; i < outputCount.value; i++) {
    const valueSats = readUint64Le(bytes, at);
    const { script, next } = readScript(bytes, at + 8);
    outputs.push({ valueSats, script });
    at = next;
  }

  if ((flags & FLAG_WITNESS) !== 0) {
    let items = 0;
    for (const input of inputs) {
      const count = readCount(bytes, at, 1, 'witness');
      at = count.next;
      items += count.value;
      for (let i = 0; i < count.value; i++) {
        const { script, next } = readScript(bytes, at);
        input.witness.push(script);
        at = next;
      }
    }
    // BIP 144: without any witness the old form must be used.
    if (items === 0) throw new RangeError(`transaction at offset ${offset}: witness form without a witness`);
  }
  if ((flags & FLAG_MWEB) !== 0) {
    // In blocks only the HogEx has the flag, with an empty part; a body occurs in Litecoin's memory pool only.
    if (readBytes(bytes, at, 1)[0] !== 0) throw new RangeError(`transaction at offset ${offset}: has an MWEB body`);
    at += 1;
  }
  const lockTime = readUint32Le(bytes, at);
  const tx: Tx = { version, inputs, outputs, lockTime, ...((flags & FLAG_MWEB) !== 0 ? { hogEx: true } : {}) };
  return { tx, next: at + 4 };
}

/** True where any input carries a witness. */
export function hasWitness(tx: Tx): boolean {
  return tx.inputs.some((input) => input.witness.length > 0);
}

/**
 * Writes a transaction.
 *
 * @param options.witness - true: with marker and witnesses where there are any (and the HogEx' flag), as in blocks;
 *   false: the old form, whose hash is the txid
 * @throws RangeError for values outside their field
 */
export function serializeTransaction(tx: Tx, options: { witness: boolean }): Uint8Array {
  const flags = options.witness ? (hasWitness(tx) ? FLAG_WITNESS : 0) | (tx.hogEx === true ? FLAG_MWEB : 0) : 0;
  const parts: Uint8Array[] = [uint32Le(tx.version)];
  if (flags !== 0) parts.push(Uint8Array.of(0, flags));
  parts.push(compactSize(tx.inputs.length));
  for (const input of tx.inputs) {
    if (input.prevTxid.length !== 32) throw new RangeError(`prevTxid: expected 32 bytes, got ${input.prevTxid.length}`);
    parts.push(
      input.prevTxid,
      uint32Le(input.prevIndex),
      compactSize(input.script.length),
      input.script,
      uint32Le(input.sequence),
    );
  }
  parts.push(compactSize(tx.outputs.length));
  for (const output of tx.outputs) {
    parts.push(uint64Le(output.valueSats), compactSize(output.script.length), output.script);
  }
  if ((flags & FLAG_WITNESS) !== 0) {
    for (const input of tx.inputs) {
      parts.push(compactSize(input.witness.length));
      for (const item of input.witness) parts.push(compactSize(item.length), item);
    }
  }
  if ((flags & FLAG_MWEB) !== 0) parts.push(Uint8Array.of(0));
  parts.push(uint32Le(tx.lockTime));
  return concatBytes(...parts);
}

/** The id by which a transaction is spent and which the merkle root covers: 32 bytes, internal order. */
export function txid(tx: Tx): Uint8Array {
  return sha256d(serializeTransaction(tx, { witness: false }));
}

/** Most counts are one byte: no view is made for those. */
function countAt(bytes: Uint8Array, offset: number, leastSize: number, what: string): { value: number; next: number } {
  const first = bytes[offset];
  if (first === undefined || first >= 0xfd) return readCount(bytes, offset, leastSize, what);
  const next = offset + 1;
  if (first * leastSize > bytes.length - next) {
    throw new RangeError(`${what}: ${first} announced at offset ${offset}, ${bytes.length - next} bytes left`);
  }
  return { value: first, next };
}

/**
 * The id of a transaction that lies in a block, without making it an object: a fifth of the time of parsing it and writing it again.
 *
 * @param bytes - the block
 * @param offset - where the transaction begins
 * @returns as `txid`, and the offset after it
 * @throws RangeError as parseTransaction, where it ends early or has no input; contents are not looked at
 */
export function txidAt(bytes: Uint8Array, offset: number): { txid: Uint8Array; next: number } {
  let flags = 0;
  let at = offset + 4;
  if (bytes[at] === 0) {
    flags = bytes[at + 1] ?? 0;
    if (flags === 0 || (flags & ~(FLAG_WITNESS | FLAG_MWEB)) !== 0) {
      throw new RangeError(`transaction at offset ${offset}: ${flags === 0 ? 'no inputs' : `unknown flag ${flags}`}`);
    }
    at += 2;
  }
  const bodyFrom = at;
  const inputs = countAt(bytes, at, LEAST_INPUT_BYTES, 'inputs');
  if (inputs.value === 0) throw new RangeError(`transaction at offset ${offset}: no inputs`);
  at = inputs.next;
  for (let i = 0; i < inputs.value; i++) {
    const script = countAt(bytes, at + 36, 1, 'script');
    at = script.next + script.value + 4;
  }
  const outputs = countAt(bytes, at, LEAST_OUTPUT_BYTES, 'outputs');
  at = outputs.next;
  for (let i = 0; i < outputs.value; i++) {
    const script = countAt(bytes, at + 8, 1, 'script');
    at = script.next + script.value;
  }
  const bodyTo = at;
  if ((flags & FLAG_WITNESS) !== 0) {
    for (let i = 0; i < inputs.value; i++) {
      const items = countAt(bytes, at, 1, 'witness');
      at = items.next;
      for (let k = 0; k < items.value; k++) {
        const item = countAt(bytes, at, 1, 'witness');
        at = item.next + item.value;
      }
    }
  }
  if ((flags & FLAG_MWEB) !== 0) at += 1;
  const next = at + 4;
  if (next > bytes.length) throw new RangeError(`transaction at offset ${offset}: ends early`);
  if (flags === 0) return { txid: sha256d(bytes.subarray(offset, next)), next };
  const legacy = new Uint8Array(8 + bodyTo - bodyFrom);
  legacy.set(bytes.subarray(offset, offset + 4), 0);
  legacy.set(bytes.subarray(bodyFrom, bodyTo), 4);
  legacy.set(bytes.subarray(at, next), legacy.length - 4);
  return { txid: sha256d(legacy), next };
}

/** The id that covers the witness too (BIP 141); equal to txid where there is none. 32 bytes, internal order. */
export function wtxid(tx: Tx): Uint8Array {
  return hasWitness(tx) ? sha256d(serializeTransaction({ ...tx, hogEx: false }, { witness: true })) : txid(tx);
}

/** True for the first transaction of a block: one input that spends nothing. */
export function isCoinbase(tx: Tx): boolean {
  const first = tx.inputs[0];
  return (
    tx.inputs.length === 1 &&
    first !== undefined &&
    first.prevIndex === 0xffff_ffff &&
    first.prevTxid.every((b) => b === 0)
  );
}
