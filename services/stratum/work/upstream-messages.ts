/**
 * What an upstream pool says, checked before anything is made of it: jobs, difficulties, errors in all the forms that pools use, words for a log.
 * Only computes; upstream.ts has the connection.
 */
import { bytesFromHex } from '../../core/bitcoin/bytes.ts';
import { heightFromCoinbase } from '../../core/bitcoin/coinbase.ts';
import { hashHex, prevHashFromStratum } from '../../core/bitcoin/header.ts';
import { BRANCH_LIMIT } from '../../core/bitcoin/kernel/kernel.ts';
import { targetFromBits } from '../../core/bitcoin/target.ts';
import { plainText } from '../methods/text.ts';

const COINBASE_LIMIT_BYTES = 50_000;
const JOB_ID_LIMIT = 128;
const EXCERPT_LIMIT = 120;

/** The checked parameters of `mining.notify`. */
export interface Notify {
  readonly jobId: string;
  readonly prevHashRpc: string;
  readonly coinbase1: Uint8Array;
  readonly coinbase2: Uint8Array;
  readonly branch: readonly Uint8Array[];
  readonly version: number;
  readonly bits: number;
  readonly ntime: number;
  readonly clean: boolean;
  /** 0 where the coinbase does not tell. */
  readonly height: number;
}

/** Text of others for a log line: printable, short. */
export function excerpt(text: unknown): string {
  return plainText(typeof text === 'string' ? text : (JSON.stringify(text) ?? ''), EXCERPT_LIMIT);
}

/** Reads an error in any of the forms that pools use. */
export function errorWords(error: unknown, rejectReason: unknown): string {
  if (typeof rejectReason === 'string') return excerpt(rejectReason);
  if (Array.isArray(error)) return excerpt(typeof error[1] === 'string' ? error[1] : error);
  if (typeof error === 'object' && error !== null && 'message' in error) return excerpt(error.message);
  return error === null || error === undefined ? 'refused without a reason' : excerpt(error);
}

/** Bytes of a hex text of so many bytes; undefined where it is none. */
export function hexBytes(value: unknown, least: number, most: number): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length < least * 2 || value.length > most * 2) return undefined;
  try {
    return bytesFromHex(value);
  } catch {
    return undefined;
  }
}

/** A 32-bit number of 8 hex digits; undefined where it is none. */
export function uint32(value: unknown): number | undefined {
  return typeof value === 'string' && /^[0-9a-f]{8}$/i.test(value) ? Number.parseInt(value, 16) : undefined;
}

/** Offset of the coinbase's script behind version, count, outpoint and the script's length. */
const SCRIPT_OFFSET = 42;

function heightOf(coinbase1: Uint8Array): number {
  try {
    return heightFromCoinbase(coinbase1.subarray(SCRIPT_OFFSET));
  } catch {
    return 0;
  }
}

/**
 * Checks `mining.notify`.
 *
 * @param powLimit - the chain's easiest target
 * @returns the work, or what is wrong with it
 */
export function checkNotify(params: unknown, powLimit: bigint): Notify | string {
  if (!Array.isArray(params) || params.length < 8) return 'params are no list of 9';
  const [jobId, prevHash, part1, part2, steps, version, bits, ntime, clean] = params as unknown[];
  if (typeof jobId !== 'string' || jobId === '' || jobId.length > JOB_ID_LIMIT) return 'job id';
  const prev = hexBytes(prevHash, 32, 32);
  if (prev === undefined) return 'previous hash';
  const coinbase1 = hexBytes(part1, 1, COINBASE_LIMIT_BYTES);
  const coinbase2 = hexBytes(part2, 1, COINBASE_LIMIT_BYTES);
  if (coinbase1 === undefined || coinbase2 === undefined) return 'coinbase';
  if (!Array.isArray(steps) || steps.length > BRANCH_LIMIT) return 'merkle branch';
  const branch = steps.map((step) => hexBytes(step, 32, 32));
  if (branch.includes(undefined)) return 'merkle branch';
  const numbers = { version: uint32(version), bits: uint32(bits), ntime: uint32(ntime) };
  if (numbers.version === undefined || numbers.bits === undefined || numbers.ntime === undefined) {
    return 'version, nbits or ntime';
  }
  let target = 0n;
  try {
    target = targetFromBits(numbers.bits);
  } catch {
    // Stays 0, which is refused below.
  }
  if (target === 0n || target > powLimit)
    return "nbits are not of this chain (name the upstream's: lodestream.chain, --chain)";
  return {
    jobId,
    prevHashRpc: hashHex(prevHashFromStratum(prevHash as string)),
    coinbase1,
    coinbase2,
    branch: branch as Uint8Array[],
    version: numbers.version,
    bits: numbers.bits,
    ntime: numbers.ntime,
    clean: clean === true,
    height: heightOf(coinbase1),
  };
}

/** A difficulty that one can work at. */
export function checkDifficulty(params: unknown): number | null {
  const value: unknown = Array.isArray(params) ? params[0] : undefined;
  return typeof value === 'number' && value > 1e-30 && value < 1e30 ? value : null;
}
