/**
 * One line of a CKPool share log becomes a share event, or says why it cannot. Both generations of the format: `reject-reason` (0.9.9 and before)
 * and `error` with code and text (forks); keys of other versions are ignored. Numbers are kept exactly: `workinfoid` passes 2^53 and is read as text.
 *
 * This is what a line means. scanner.ts does the same for lines of the usual form from their bytes; a test holds the two together.
 */
import type { Inputs } from '../../schemas/events.ts';
import { bytesFromHashHex } from '../core/bitcoin/header.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import { NAME } from '../core/names.ts';

export type ShareInput = Inputs['share'];

export interface LineContext {
  readonly origin: string;
  /** Of lines that do not say which process saw the share: all but our own daemon's. */
  readonly instance: string;
  /** From the folder's name; 0 where it is no height. */
  readonly height: number;
}

export type LineOutcome = { readonly share: ShareInput } | { readonly bad: string };

/** Of share logs and of a main log; what is longer is no line of CKPool's. */
export const LINE_LIMIT_BYTES = 65_536;
/** Of a line that was not taken in, so much is kept. */
export const BAD_BYTES_KEPT = 4096;

const WORKINFOID = /"workinfoid"\s*:\s*(\d{1,20})\s*[,}]/;
const UINT64_MAX = (1n << 64n) - 1n;
const HEX = /^(?:[0-9a-fA-F]{2})*$/;
/** How far `sdiff` may lie from the difficulty of its hash: both are doubles of the same 256-bit quotient. */
const SDIFF_TOLERANCE = 1e-9;
/** Characters of a text, a number or hex of a line; what is longer is cut or refused. */
export const TEXT_LIMIT = 1024;
/** Whole part of Decimal(38, 18), in which difficulties are summed. */
const DIFF_LIMIT = 1e20;
/** The largest long that avsc takes. */
const CLIENT_LIMIT = Number.MAX_SAFE_INTEGER - 1;
/** Seconds since 1970 are 32 bits from the block header to ClickHouse. */
const LAST_SECOND = 0xffff_ffff;

/** Why a share was refused, from either generation of the format. */
function reasonOf(line: Record<string, unknown>): string {
  if (typeof line['reject-reason'] === 'string') return line['reject-reason'];
  const error = line.error;
  if (typeof error === 'string') return error;
  if (Array.isArray(error) && typeof error[1] === 'string') return error[1];
  return '';
}

/** `"seconds,nanoseconds"`, nanoseconds unpadded; null where it is none, or lies after February 2106. */
function receipt(text: string): { timeUs: number; timeNs: number } | null {
  const match = /^(\d{1,11}),(\d{1,9})$/.exec(text);
  if (match === null || Number(match[1]) > LAST_SECOND) return null;
  const nanoseconds = Number(match[2]);
  return { timeUs: Number(match[1]) * 1_000_000 + Math.floor(nanoseconds / 1000), timeNs: nanoseconds % 1000 };
}

/**
 * Parses and checks one line.
 * @param text - the line without its newline
 */
export function shareFromLine(text: string, context: LineContext): LineOutcome {
  let line: Record<string, unknown>;
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return { bad: 'not a JSON object' };
    line = parsed as Record<string, unknown>;
  } catch {
    return { bad: 'not JSON' };
  }
  const workinfoid = WORKINFOID.exec(text)?.[1];
  // A key that comes twice counts as it came last, and then this text is not its number.
  if (workinfoid === undefined || BigInt(workinfoid) > UINT64_MAX || Number(workinfoid) !== line.workinfoid)
    return { bad: 'workinfoid is not a 64-bit whole number' };
  for (const key of ['enonce1', 'nonce2', 'nonce', 'ntime', 'hash'] as const) {
    const value = line[key];
    if (typeof value !== 'string' || !HEX.test(value) || value.length > 64) return { bad: `${key} is not hex` };
  }
  for (const key of ['workername', 'username', 'createdate'] as const) {
    if (typeof line[key] !== 'string') return { bad: `${key} is not a text` };
    if (line[key].length > TEXT_LIMIT) return { bad: `${key} is longer than ${TEXT_LIMIT} characters` };
  }
  const { diff, sdiff, errn, clientid, result, hash } = line as Record<string, never> & { hash: string };
  if (typeof diff !== 'number' || !Number.isFinite(diff) || diff <= 0 || diff >= DIFF_LIMIT)
    return { bad: 'diff is not a number above 0 and below 1e20' };
  if (typeof sdiff !== 'number' || !Number.isFinite(sdiff)) return { bad: 'sdiff is not a number' };
  if (typeof result !== 'boolean') return { bad: 'result is neither true nor false' };
  if (typeof errn !== 'number' || !Number.isInteger(errn) || Math.abs(errn) > 1000)
    return { bad: 'errn is not a whole number' };
  if (typeof clientid !== 'number' || !Number.isInteger(clientid) || clientid < 0 || clientid > CLIENT_LIMIT)
    return { bad: 'clientid is not a whole number' };
  const received = receipt(line.createdate as string);
  if (received === null) return { bad: 'createdate is not "seconds,nanoseconds" of 1970 to 2106' };
  if (hash !== '' && hash.length !== 64) return { bad: 'hash is not 64 hex digits' };
  if (result && hash === '') return { bad: 'accepted without a hash' };
  if (result && (line.ntime as string).length !== 8) return { bad: 'accepted, and ntime is not 8 hex digits' };
  if (hash !== '') {
    const reached = shareDifficulty(bytesFromHashHex(hash));
    if (!(Math.abs(reached - sdiff) <= SDIFF_TOLERANCE * reached))
      return { bad: `sdiff ${sdiff} is not the difficulty of its hash, ${reached}` };
  }
  const said = line.instance;
  const optional = (key: string): string => (typeof line[key] === 'string' ? line[key].slice(0, TEXT_LIMIT) : '');
  return {
    share: {
      origin: context.origin,
      instance: typeof said === 'string' && NAME.test(said) ? said : context.instance,
      source: 'backfill',
      time_us: received.timeUs,
      time_ns: received.timeNs,
      client_id: clientid,
      listener: optional('createinet'),
      job_id: BigInt(workinfoid).toString(16).padStart(16, '0'),
      height: context.height,
      user: line.username as string,
      worker: line.workername as string,
      agent: optional('agent'),
      address: optional('address'),
      accepted: result,
      errn,
      reason: result ? '' : reasonOf(line).slice(0, TEXT_LIMIT),
      diff,
      sdiff,
      hash: hash.toLowerCase(),
      enonce1: (line.enonce1 as string).toLowerCase(),
      nonce2: (line.nonce2 as string).toLowerCase(),
      nonce: (line.nonce as string).toLowerCase(),
      ntime: (line.ntime as string).toLowerCase(),
      version_bits: /^[0-9a-fA-F]{8}$/.test(optional('version_bits')) ? optional('version_bits').toLowerCase() : '',
    },
  };
}
