/**
 * The coinbase transaction, cut in two around the extranonce: what a job sends to miners and what a found block begins
 * with.
 *
 *   part1 = version, one input that spends nothing, script length, height, aux, time, random, extranonce length
 *           └ extranonce1 (ours) and extranonce2 (the miner's) stand between ┘
 *   part2 = tag, signature, sequence, outputs, lock time
 *
 * The layout of the script is CKPool's, with one difference: heights 1 to 16 are pushed as OP_1 … OP_16, as nodes compare
 * them. CKPool pushes a byte there, and where BIP 34 holds from the first block its first 16 blocks are refused.
 *
 * @see BIP 34 (height), BIP 141 (witness commitment), BIP 22 (coinbaseaux)
 */
import { compactSize, concatBytes, readBytes, readUint32Le, uint32Le, uint64Le } from './bytes.ts';
import { sha256d } from './hash.ts';
import { merkleRoot } from './merkle.ts';
import { isCoinbase, parseTransaction, serializeTransaction } from './transaction.ts';

/** Consensus limits of a coinbase's script (Bitcoin Core `consensus/tx_check.cpp`: bad-cb-length). */
const COINBASE_SCRIPT_LIMIT_BYTES = 100;
const COINBASE_SCRIPT_LEAST_BYTES = 2;
/** CKPool's limit of `btcsig`. */
export const SIGNATURE_LIMIT_BYTES = 38;
/** BIP 141: OP_RETURN, a push of 36 bytes, the commitment's mark. */
const COMMITMENT_HEAD = Uint8Array.of(0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed);
const ZERO_32 = new Uint8Array(32);

export interface CoinbaseInput {
  /** Height of the block to be found, 0 or above. */
  readonly height: number;
  /** `coinbaseaux.flags` of the template; empty where there are none. At most 75 bytes. */
  readonly aux: Uint8Array;
  /** Unix seconds at which the job is made. */
  readonly timeS: number;
  /** Tells jobs of one second apart: a number (pushed as such) or bytes (pushed with their length). */
  readonly random: Uint8Array | number;
  /** Bytes of extranonce1 and extranonce2 together. */
  readonly extranonceSizeBytes: number;
  /** Bytes after the extranonce exactly as given; `pushData(text)` makes a well-formed one. */
  readonly tag: Uint8Array;
  /** CKPool's `btcsig`: at most 38 bytes of text, pushed after the tag when not empty. */
  readonly signature?: string;
  readonly outputs: readonly { readonly script: Uint8Array; readonly valueSats: bigint }[];
  /** The whole script of the witness commitment's output, which comes last with value 0. */
  readonly witnessCommitment?: Uint8Array;
}

export interface CoinbaseParts {
  readonly part1: Uint8Array;
  readonly part2: Uint8Array;
}

/**
 * A push of bytes: length, then the bytes.
 *
 * @throws RangeError above 75 bytes, where a push has another form
 */
export function pushData(bytes: Uint8Array): Uint8Array {
  if (bytes.length > 75) throw new RangeError(`push: expected at most 75 bytes, got ${bytes.length}`);
  return concatBytes(Uint8Array.of(bytes.length), bytes);
}

/**
 * A push of a number as CKPool writes it: its length, then 1 to 4 bytes, lowest first, with room for the sign (1 byte
 * below 0x80, 2 below 0x8000, 3 below 0x800000, else 4).
 *
 * @throws RangeError unless n is an integer in 0 … 2^32-1
 */
export function pushNumber(n: number): Uint8Array {
  if (!Number.isInteger(n) || n < 0 || n > 0xffff_ffff) throw new RangeError(`push: expected 0 … 2^32-1, got ${n}`);
  const size = n < 0x80 ? 1 : n < 0x8000 ? 2 : n < 0x80_0000 ? 3 : 4;
  return concatBytes(Uint8Array.of(size), uint32Le(n).subarray(0, size));
}

/**
 * A block's height as BIP 34 wants it at the front of the coinbase's script: OP_0, OP_1 … OP_16, above that a push.
 *
 * @throws RangeError unless height is an integer in 0 … 2^31-1
 * @see Bitcoin Core validation.cpp, ContextualCheckBlock: `CScript() << nHeight`
 */
export function pushHeight(height: number): Uint8Array {
  if (!Number.isInteger(height) || height < 0 || height > 0x7fff_ffff) {
    throw new RangeError(`height: expected 0 … 2^31-1, got ${height}`);
  }
  if (height === 0) return Uint8Array.of(0);
  return height <= 16 ? Uint8Array.of(0x50 + height) : pushNumber(height);
}

/**
 * The height at the front of a coinbase's script.
 *
 * @param scriptSig - the script of the coinbase's input
 * @throws RangeError when it does not begin with a number of at most 4 bytes that is 0 or above
 */
export function heightFromCoinbase(scriptSig: Uint8Array): number {
  const first = scriptSig[0];
  if (first === undefined) throw new RangeError('coinbase script: expected a height, got nothing');
  if (first === 0) return 0;
  if (first >= 0x51 && first <= 0x60) return first - 0x50;
  if (first > 4) throw new RangeError(`coinbase script: expected a height, got opcode 0x${first.toString(16)}`);
  const bytes = readBytes(scriptSig, 1, first);
  if ((bytes[first - 1]! & 0x80) !== 0) throw new RangeError('coinbase script: the height is negative');
  const wide = new Uint8Array(4);
  wide.set(bytes);
  return readUint32Le(wide, 0);
}

/**
 * Builds a coinbase's two parts. The coinbase without witness is part1, extranonce1, extranonce2, part2; its double
 * SHA-256 is its txid.
 *
 * @throws RangeError when the script would exceed 100 bytes, the signature 38, or a value its field
 */
export function buildCoinbase(input: CoinbaseInput): CoinbaseParts {
  const { extranonceSizeBytes } = input;
  if (!Number.isInteger(extranonceSizeBytes) || extranonceSizeBytes < 1 || extranonceSizeBytes > 75) {
    throw new RangeError(`extranonceSizeBytes: expected 1 … 75, got ${extranonceSizeBytes}`);
  }
  const signature = new TextEncoder().encode(input.signature ?? '');
  if (signature.length > SIGNATURE_LIMIT_BYTES) {
    throw new RangeError(`signature: expected at most ${SIGNATURE_LIMIT_BYTES} bytes, got ${signature.length}`);
  }
  const scriptHead = concatBytes(
    pushHeight(input.height),
    pushData(input.aux),
    pushNumber(input.timeS),
    typeof input.random === 'number' ? pushNumber(input.random) : pushData(input.random),
    Uint8Array.of(extranonceSizeBytes),
  );
  const scriptTail = concatBytes(input.tag, signature.length > 0 ? pushData(signature) : signature);
  const scriptSize = scriptHead.length + extranonceSizeBytes + scriptTail.length;
  if (scriptSize > COINBASE_SCRIPT_LIMIT_BYTES) {
    throw new RangeError(
      `coinbase script: expected at most ${COINBASE_SCRIPT_LIMIT_BYTES} bytes, got ${scriptSize} ` +
        `(tag ${input.tag.length}, signature ${signature.length}, aux ${input.aux.length}, extranonce ${extranonceSizeBytes})`,
    );
  }
  const outputs = input.outputs.map((output) =>
    concatBytes(uint64Le(output.valueSats), compactSize(output.script.length), output.script),
  );
  if (input.witnessCommitment !== undefined) {
    const script = input.witnessCommitment;
    outputs.push(concatBytes(uint64Le(0n), compactSize(script.length), script));
  }
  if (outputs.length === 0) throw new RangeError('outputs: expected at least one, got none');
  return {
    part1: concatBytes(
      uint32Le(1),
      Uint8Array.of(1),
      ZERO_32,
      uint32Le(0xffff_ffff),
      Uint8Array.of(scriptSize),
      scriptHead,
    ),
    part2: concatBytes(scriptTail, uint32Le(0xffff_ffff), compactSize(outputs.length), ...outputs, uint32Le(0)),
  };
}

/**
 * The script of the output that commits to all witnesses (BIP 141), with the reserved value of 32 zero bytes that
 * `witnessCoinbase` carries.
 *
 * @param wtxids - wtxids of all transactions but the coinbase, in block order, 32 bytes each, internal order
 * @returns 38 bytes: 6a24aa21a9ed and the commitment
 */
export function witnessCommitmentScript(wtxids: readonly Uint8Array[]): Uint8Array {
  // BIP 141: the coinbase's own wtxid counts as zero.
  const root = merkleRoot([ZERO_32, ...wtxids]);
  return concatBytes(COMMITMENT_HEAD, sha256d(concatBytes(root, ZERO_32)));
}

/**
 * The index of the output that carries the witness commitment: the last that begins with its mark (BIP 141), -1 without.
 */
export function witnessCommitmentIndex(outputs: readonly { readonly script: Uint8Array }[]): number {
  return outputs.findLastIndex(
    ({ script }) => script.length >= 38 && COMMITMENT_HEAD.every((byte, i) => script[i] === byte),
  );
}

/**
 * A coinbase in the form that a segwit block carries: with marker, flag, and 32 zero bytes as the witness.
 *
 * @param legacy - the coinbase without witness: part1, extranonce1, extranonce2, part2
 * @throws RangeError when it is no whole coinbase
 */
export function witnessCoinbase(legacy: Uint8Array): Uint8Array {
  const { tx, next } = parseTransaction(legacy);
  if (next !== legacy.length) throw new RangeError(`coinbase: ${legacy.length - next} bytes after its end`);
  if (!isCoinbase(tx)) throw new RangeError('coinbase: expected one input that spends nothing');
  const script = tx.inputs[0]!.script;
  if (script.length < COINBASE_SCRIPT_LEAST_BYTES || script.length > COINBASE_SCRIPT_LIMIT_BYTES) {
    throw new RangeError(`coinbase script: expected 2 … 100 bytes, got ${script.length}`);
  }
  return serializeTransaction({ ...tx, inputs: [{ ...tx.inputs[0]!, witness: [ZERO_32] }] }, { witness: true });
}
