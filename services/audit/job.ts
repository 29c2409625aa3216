/**
 * A job of the log made ready for checking: its bytes, what its chain asks, and whether it is what its key says. check.ts keeps these.
 */
import type { JobEvent } from '../../schemas/events.ts';
import { jobIdentity } from '../../schemas/identity.ts';
import { bytesFromHex, concatBytes } from '../core/bitcoin/bytes.ts';
import { heightFromCoinbase } from '../core/bitcoin/coinbase.ts';
import { bytesFromHashHex } from '../core/bitcoin/header.ts';
import { BRANCH_LIMIT, COINBASE_LIMIT_BYTES, EXTRANONCE_LIMIT_BYTES } from '../core/bitcoin/kernel/kernel.ts';
import { targetFromBits } from '../core/bitcoin/target.ts';
import { parseTransaction } from '../core/bitcoin/transaction.ts';
import { difficultyOf } from '../core/chains/difficulty.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { subsidySats } from '../core/chains/subsidy.ts';
import type { Problem } from './findings.ts';

/** Where the script of a coinbase begins: version, one input, its outpoint and the script's length come before. */
const SCRIPT_OFFSET = 42;

/** What a share of the job is checked with; bytes in internal order. */
export interface CheckableJob {
  readonly event: JobEvent;
  readonly profile: ChainProfile;
  readonly coinbase1: Uint8Array;
  readonly coinbase2: Uint8Array;
  readonly branch: readonly Uint8Array[];
  readonly headerBase: Uint8Array;
  readonly extranonceBytes: number;
  /** Unsigned 32-bit, as ntime. */
  readonly version: number;
  readonly versionMask: number;
  readonly target: bigint;
  readonly ntime: number;
  readonly difficulty1: number;
  readonly sizeBytes: number;
}

function word(hex: string, what: string): number {
  if (!/^[0-9a-f]{8}$/i.test(hex)) throw new RangeError(`${what}: expected 8 hex digits, got ${JSON.stringify(hex)}`);
  return Number.parseInt(hex, 16);
}

/**
 * Reads a job's event.
 * @throws RangeError naming the field that is not of its form
 */
export function checkableJob(event: JobEvent, profile: ChainProfile): CheckableJob {
  const coinbase1 = bytesFromHex(event.coinbase1, 'coinbase1');
  const coinbase2 = bytesFromHex(event.coinbase2, 'coinbase2');
  if (event.merkle_branch.length > BRANCH_LIMIT) {
    throw new RangeError(`merkle_branch: expected at most ${BRANCH_LIMIT} steps, got ${event.merkle_branch.length}`);
  }
  const branch = event.merkle_branch.map((step) => bytesFromHex(step, 'merkle_branch', 32));
  const version = word(event.version, 'version');
  const bits = word(event.nbits, 'nbits');
  const { enonce1_bytes, nonce2_bytes } = event;
  const extranonceBytes = enonce1_bytes + nonce2_bytes;
  if (enonce1_bytes < 0 || nonce2_bytes < 0 || extranonceBytes > EXTRANONCE_LIMIT_BYTES) {
    throw new RangeError(`extranonce: expected at most ${EXTRANONCE_LIMIT_BYTES} bytes, got ${extranonceBytes}`);
  }
  const coinbaseBytes = coinbase1.length + extranonceBytes + coinbase2.length;
  if (coinbaseBytes > COINBASE_LIMIT_BYTES) {
    throw new RangeError(`coinbase: expected at most ${COINBASE_LIMIT_BYTES} bytes, got ${coinbaseBytes}`);
  }
  const headerBase = new Uint8Array(80);
  const view = new DataView(headerBase.buffer);
  view.setUint32(0, version, true);
  headerBase.set(bytesFromHashHex(event.prev_hash), 4);
  view.setUint32(72, bits, true);
  return {
    event,
    profile,
    coinbase1,
    coinbase2,
    branch,
    headerBase,
    extranonceBytes,
    version,
    versionMask: word(event.version_mask, 'version_mask'),
    target: targetFromBits(bits),
    ntime: word(event.ntime, 'ntime'),
    difficulty1: Number(profile.difficulty_1_target),
    // Text and bytes, the kernel's copy, and objects.
    sizeBytes: 4 * (coinbase1.length + coinbase2.length) + 200 * branch.length + 2_000,
  };
}

/** What of a job's event does not hold: against its key, its own coinbase and its chain. */
export function jobProblems(job: CheckableJob): Problem[] {
  const { event, profile } = job;
  const problems: Problem[] = [];
  const compare = (reason: Problem['reason'], claimed: string | number, computed: string | number): void => {
    if (claimed !== computed) problems.push({ reason, claimed: String(claimed), computed: String(computed) });
  };
  compare('job_key', event.job_key, jobIdentity(event));
  compare('pow', event.pow, profile.pow);
  // A pool knows what its block is worth, a proxy does not.
  if (
    (event.upstream === '') !== (event.upstream_job_id === '') ||
    (event.upstream === '') === (event.subsidy_sats === '')
  ) {
    const claimed = `upstream ${JSON.stringify(event.upstream)}, upstream_job_id ${JSON.stringify(event.upstream_job_id)}`;
    problems.push({
      reason: 'job_source',
      claimed: `${claimed}, subsidy_sats ${JSON.stringify(event.subsidy_sats)}`,
      computed: '',
    });
  }
  compare('network_diff', event.network_diff, difficultyOf(profile, Number.parseInt(event.nbits, 16)));
  // The coinbase of a job from upstream is the upstream's.
  if (event.upstream !== '') return problems;
  let height = -1;
  try {
    height = heightFromCoinbase(job.coinbase1.subarray(SCRIPT_OFFSET));
  } catch {
    // No height: it differs.
  }
  compare('height', event.height, height);
  const subsidy = subsidySats(profile, event.height);
  compare('subsidy', event.subsidy_sats, String(subsidy));
  const value = paidSats(job);
  compare('coinbase_value', event.coinbase_value_sats, value === null ? 'no transaction' : String(value));
  if (value !== null) compare('fees', event.fees_sats, String(value > subsidy ? value - subsidy : 0n));
  return problems;
}

/** What the coinbase pays out in all; null where it is no transaction. */
function paidSats({ coinbase1, coinbase2, extranonceBytes }: CheckableJob): bigint | null {
  try {
    const { tx } = parseTransaction(concatBytes(coinbase1, new Uint8Array(extranonceBytes), coinbase2));
    return tx.outputs.reduce((sum, { valueSats }) => sum + valueSats, 0n);
  } catch {
    return null;
  }
}
