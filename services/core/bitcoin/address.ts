/**
 * Addresses and the output scripts they stand for: where a block's reward and a payout go.
 *
 * | form   | text               | script                              |
 * |--------|--------------------|-------------------------------------|
 * | P2PKH  | base58check        | 76 a9 14 <20> 88 ac                 |
 * | P2SH   | base58check        | a9 14 <20> 87                       |
 * | segwit | bech32, version 0  | 00 14 <20> or 00 20 <32>            |
 * | segwit | bech32m, 1 and up  | 51 … 60, length, <2 … 40>           |
 *
 * @see BIP 13, BIP 141, BIP 173, BIP 350
 */
import { bech32, bech32m, createBase58check } from '@scure/base';
import { concatBytes } from './bytes.ts';
import { sha256 } from './hash.ts';

/** How a chain writes its addresses; part of its profile. */
export interface AddressFormat {
  /** Version bytes of P2PKH; the first is used when writing, all are read. */
  readonly base58_p2pkh: readonly number[];
  /** Version bytes of P2SH; the first is used when writing, all are read. */
  readonly base58_p2sh: readonly number[];
  /** Human-readable part of segwit addresses, lower case, e.g. `bc`. */
  readonly bech32_hrp: string;
  /** Litecoin: that of MWEB addresses, which no coinbase can pay. */
  readonly mweb_hrp?: string;
}

const base58check = createBase58check(sha256);

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** True where the text begins with the human-readable part and its separator, in either case. */
function hasHrp(address: string, hrp: string): boolean {
  return address.length > hrp.length + 1 && address.slice(0, hrp.length + 1).toLowerCase() === `${hrp}1`;
}

function scriptFromSegwit(address: string, hrp: string): Uint8Array {
  // BIP 350: version 0 has the checksum of bech32, every later one that of bech32m.
  const versionDigit = address.charAt(hrp.length + 1).toLowerCase();
  const coder = versionDigit === 'q' ? bech32 : bech32m;
  let words: readonly number[];
  let program: Uint8Array;
  try {
    words = coder.decode(address as `${string}1${string}`, 90).words;
    program = coder.fromWords(words.slice(1));
  } catch (error) {
    throw new RangeError(`address ${address}: ${reason(error)}`);
  }
  const version = words[0];
  if (version === undefined || version > 16)
    throw new RangeError(`address ${address}: witness version ${version ?? 'missing'}`);
  if (version === 0 ? program.length !== 20 && program.length !== 32 : program.length < 2 || program.length > 40) {
    throw new RangeError(`address ${address}: witness program of ${program.length} bytes`);
  }
  return concatBytes(Uint8Array.of(version === 0 ? 0 : 0x50 + version, program.length), program);
}

/**
 * The output script that pays an address.
 *
 * @param address - as text, without surrounding space
 * @param format - the chain's prefixes
 * @throws RangeError with the reason: of another chain, a wrong checksum, a length or version that does not exist
 */
export function scriptFromAddress(address: string, format: AddressFormat): Uint8Array {
  if (typeof address !== 'string' || address.length === 0) throw new RangeError('address: expected text, got none');
  // MWEB addresses are the longest, 110 to 116 characters.
  if (address.length > 130) throw new RangeError(`address: ${address.length} characters`);
  const { bech32_hrp: hrp, mweb_hrp: mwebHrp } = format;
  if (mwebHrp !== undefined && hasHrp(address, mwebHrp)) {
    throw new RangeError(`address ${address}: an MWEB address cannot be paid by an ordinary output`);
  }
  if (hasHrp(address, hrp)) return scriptFromSegwit(address, hrp);
  let decoded: Uint8Array;
  try {
    decoded = base58check.decode(address);
  } catch (error) {
    const other = bech32.decodeUnsafe(address, 90) ?? bech32m.decodeUnsafe(address, 90);
    if (other !== undefined) {
      throw new RangeError(`address ${address}: begins with ${other.prefix}1, this chain's begin with ${hrp}1`);
    }
    throw new RangeError(`address ${address}: ${reason(error)}`);
  }
  if (decoded.length !== 21) throw new RangeError(`address ${address}: ${decoded.length} bytes instead of 21`);
  const version = decoded[0]!;
  const hash = decoded.subarray(1);
  if (format.base58_p2pkh.includes(version)) {
    return concatBytes(Uint8Array.of(0x76, 0xa9, 0x14), hash, Uint8Array.of(0x88, 0xac));
  }
  if (format.base58_p2sh.includes(version)) {
    return concatBytes(Uint8Array.of(0xa9, 0x14), hash, Uint8Array.of(0x87));
  }
  throw new RangeError(`address ${address}: version ${version} is of another chain`);
}

/**
 * The address of an output script, in the chain's first form.
 *
 * @returns null where the script has no address (bare keys, OP_RETURN, anything else)
 */
export function addressFromScript(script: Uint8Array, format: AddressFormat): string | null {
  const size = script.length;
  if (
    size === 25 &&
    script[0] === 0x76 &&
    script[1] === 0xa9 &&
    script[2] === 0x14 &&
    script[23] === 0x88 &&
    script[24] === 0xac
  ) {
    const version = format.base58_p2pkh[0];
    return version === undefined
      ? null
      : base58check.encode(concatBytes(Uint8Array.of(version), script.subarray(3, 23)));
  }
  if (size === 23 && script[0] === 0xa9 && script[1] === 0x14 && script[22] === 0x87) {
    const version = format.base58_p2sh[0];
    return version === undefined
      ? null
      : base58check.encode(concatBytes(Uint8Array.of(version), script.subarray(2, 22)));
  }
  const opcode = script[0];
  if (opcode === undefined || size < 4 || size > 42 || script[1] !== size - 2 || format.bech32_hrp === '') return null;
  const program = script.subarray(2);
  if (opcode === 0) {
    if (program.length !== 20 && program.length !== 32) return null;
    return bech32.encode(format.bech32_hrp, [0, ...bech32.toWords(program)]);
  }
  if (opcode < 0x51 || opcode > 0x60) return null;
  return bech32m.encode(format.bech32_hrp, [opcode - 0x50, ...bech32m.toWords(program)]);
}
