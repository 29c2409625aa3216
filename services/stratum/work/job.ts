/**
 * Jobs: what miners are given, from a node's template or from an upstream's notify, and the registry in which a share finds its job.
 *
 * pool.ts or proxy.ts builds content → `makeJob` gives it id, key and the forms that checking and sending need → `JobRegistry`.
 *
 * Numbers of a job: `id` is what the miner sees (start time of the daemon << 32, plus a counter, 16 hex digits); `order` rises with
 * each job and is what difficulties are tied to; `generation` rises with each new previous block, and a job of an older one is stale.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { JobInput } from '../../../schemas/events.ts';
import { jobIdentity, workDigest } from '../../../schemas/identity.ts';
import { equalBytes, hexFromBytes } from '../../core/bitcoin/bytes.ts';
import { bytesFromHashHex, stratumPrevHash } from '../../core/bitcoin/header.ts';
import { bitsHex, targetFromBits } from '../../core/bitcoin/target.ts';
import { difficultyOf } from '../../core/chains/difficulty.ts';
import type { ChainProfile } from '../../core/chains/profile.ts';
import type { Log } from '../../core/lifecycle.ts';
import type { Template } from '../../core/node/template.ts';
import { capOf } from '../difficulty.ts';
import { Duplicates } from '../duplicates.ts';
import type { CheckedJob } from '../share.ts';
import { notifyHead, notifyText } from '../wire.ts';

/** How long a job is known after it was made, and at least how many are (CKPool). */
export const JOB_LIFE_MS = 600_000;
const JOBS_KEPT = 3;
/** Some 10 kB each. Only a chain that is too easy, or a node that says anything, brings more in ten minutes; then the oldest go, a tenth at once. */
const JOBS_LIMIT = 10_000;
/** A power of two. */
const RECENT = 64;

/** All that decides the header, apart from what the miner puts in. */
export interface JobContent {
  readonly height: number;
  readonly prevHashRpc: string;
  readonly coinbase1: Uint8Array;
  readonly coinbase2: Uint8Array;
  /** Internal order. */
  readonly branch: readonly Uint8Array[];
  /** Unsigned 32-bit, as ntime and bits. */
  readonly version: number;
  readonly versionMask: number;
  readonly bits: number;
  readonly ntime: number;
  readonly enonce1Bytes: number;
  readonly nonce2Bytes: number;
}

/** What a job is worth, where a template says it. */
export interface JobValue {
  readonly subsidySats: bigint;
  readonly feesSats: bigint;
  readonly coinbaseValueSats: bigint;
}

/** Where a job of the proxy comes from. */
export interface UpstreamWork {
  /** host:port */
  readonly name: string;
  readonly jobId: string;
  /** The upstream's difficulty for it, in the unit of the wire. */
  readonly diff: number;
}

export interface Job extends CheckedJob, JobContent {
  /** 16 hex digits. */
  readonly id: string;
  readonly key: string;
  readonly order: number;
  readonly generation: number;
  /** Id of the first job of the same template; names the share log's file. */
  readonly baseId: string;
  readonly madeMs: number;
  /** `mining.notify` lines: [clean_jobs false, true]. */
  readonly notify: readonly [plain: string, clean: string];
  /** True: the first of its generation. */
  readonly clean: boolean;
  readonly networkDiff: number;
  /** No difficulty told with this job is above it; unit of the wire. */
  readonly cap: number;
  /** Keys of the shares accepted on this work; shared by jobs whose headers could be the same. */
  readonly seen: Duplicates;
  readonly value: JobValue | null;
  /** -1 where unknown. */
  readonly txCount: number;
  readonly template: Template | null;
  readonly upstream: UpstreamWork | null;
}

function hex32(n: number): string {
  return n.toString(16).padStart(8, '0');
}

/** What of a job's content its identity is made of, as its event has it. */
function identityFields(content: JobContent) {
  return {
    prev_hash: content.prevHashRpc,
    coinbase1: hexFromBytes(content.coinbase1),
    coinbase2: hexFromBytes(content.coinbase2),
    merkle_branch: content.branch.map(hexFromBytes),
    nbits: bitsHex(content.bits),
    enonce1_bytes: content.enonce1Bytes,
    nonce2_bytes: content.nonce2Bytes,
    version: hex32(content.version),
    version_mask: hex32(content.versionMask),
    ntime: hex32(content.ntime),
  };
}

/** Identity of a job: the origin and a digest of all its content. */
export function jobKey(origin: string, content: JobContent): string {
  return jobIdentity({ origin, ...identityFields(content) });
}

/** The jobs of a pool, or of one upstream connection: the current one, and those that a share may still name. */
export class JobRegistry {
  readonly #origin: string;
  readonly #profile: ChainProfile;
  readonly #ids: JobIds;
  readonly #jobs = new Map<string, Job>();
  readonly #seen = new Map<string, Duplicates>();
  /** Keys of jobs of solo mode that an earlier process sent under the id of one that is known; only the payee differs. */
  readonly #aliases = new Map<string, Job>();
  /** Jobs that were asked for lately, by the low bits of their ids. */
  #recent: ({ readonly high: number; readonly low: number; readonly job: Job } | undefined)[] = [];
  #current: Job | null = null;
  #prevHash: string | null = null;
  #generation = 0;
  #variants: Job[] = [];

  constructor(origin: string, profile: ChainProfile, ids: JobIds) {
    this.#origin = origin;
    this.#profile = profile;
    this.#ids = ids;
  }

  /** The job of the newest template; null before the first. */
  get current(): Job | null {
    return this.#current;
  }

  get generation(): number {
    return this.#generation;
  }

  /** `order` of the oldest job that is still known. */
  get oldestOrder(): number {
    for (const job of this.#jobs.values()) return job.order;
    return 0;
  }

  /** The job with this key, where it is still known. */
  findByKey(key: string): Job | undefined {
    for (const job of this.#jobs.values()) if (job.key === key) return job;
    return this.#aliases.get(key);
  }

  /** A job of the present template that was made after `order`, or null. */
  variantAfter(order: number): Job | null {
    return this.#variants.find((job) => job.order > order) ?? null;
  }

  isStale(job: Job): boolean {
    return job.generation !== this.generation;
  }

  /** A job by the id that a miner sent: hex of any case, leading zeros or not, `0x` or blanks before it, anything behind it (CKPool). */
  find(id: string): Job | undefined {
    const known = this.#jobs.get(id);
    if (known !== undefined) return known;
    const digits = /^\s*(?:0x)?0*([0-9a-f]{1,16})(?![0-9a-f])/i.exec(id)?.[1];
    return digits === undefined ? undefined : this.#jobs.get(digits.toLowerCase().padStart(16, '0'));
  }

  /** A job by the two halves of its id as numbers. */
  findNumber(high: number, low: number): Job | undefined {
    const place = low & (RECENT - 1);
    const recent = this.#recent[place];
    if (recent !== undefined && recent.high === high && recent.low === low) return recent.job;
    const job = this.#jobs.get(hex32(high) + hex32(low));
    if (job !== undefined) this.#recent[place] = { high, low, job };
    return job;
  }

  /**
   * Makes a job and remembers it.
   *
   * @param made.variantOf - the current job, where this is the same template once more
   */
  add(
    content: JobContent,
    made: {
      readonly nowMs: number;
      readonly value: JobValue | null;
      readonly txCount: number;
      readonly template: Template | null;
      readonly upstream: UpstreamWork | null;
      readonly clean?: boolean;
      readonly variantOf?: Job;
      /** Given by the process that builds the jobs; absent: the next of our own. */
      readonly id?: string;
      /** True: of an earlier process. Shares on it are taken, but nobody is sent it. */
      readonly earlier?: boolean;
    },
  ): Job {
    const profile = this.#profile;
    if (made.earlier === true && made.id !== undefined) {
      const there = this.#jobs.get(made.id);
      if (there !== undefined && equalBytes(there.coinbase1, content.coinbase1)) {
        this.#aliases.set(jobKey(this.#origin, content), there);
        return there;
      }
    }
    // What an earlier process is found to have made meanwhile does not turn the page.
    const late = made.earlier === true && this.#current !== null;
    const samePrevHash = this.#prevHash === content.prevHashRpc;
    const clean = made.variantOf === undefined && !late && (!samePrevHash || made.clean === true);
    if (clean) this.#generation += 1;
    if (made.variantOf === undefined && !late) this.#prevHash = content.prevHashRpc;
    const prevHash = bytesFromHashHex(content.prevHashRpc);
    const headerBase = new Uint8Array(80);
    const view = new DataView(headerBase.buffer);
    view.setUint32(0, content.version, true);
    headerBase.set(prevHash, 4);
    view.setUint32(72, content.bits, true);
    const networkDiff = difficultyOf(profile, content.bits);
    const target = targetFromBits(content.bits);
    const id = this.#ids.next(made.id);
    const head = notifyHead({
      id,
      prevHashStratum: stratumPrevHash(content.prevHashRpc),
      coinbase1Hex: hexFromBytes(content.coinbase1),
      coinbase2Hex: hexFromBytes(content.coinbase2),
      branchHex: content.branch.map(hexFromBytes),
      versionHex: hex32(content.version),
      bitsHex: bitsHex(content.bits),
      ntimeHex: hex32(content.ntime),
    });
    const shared = workDigest(identityFields(content));
    let seen = this.#seen.get(shared);
    if (seen === undefined) {
      seen = new Duplicates();
      this.#seen.set(shared, seen);
    }
    const job: Job = {
      ...content,
      id,
      key: jobKey(this.#origin, content),
      order: this.#ids.order,
      generation: late && !samePrevHash ? this.#generation - 1 : this.#generation,
      baseId: made.variantOf?.baseId ?? id,
      madeMs: made.nowMs,
      notify: [notifyText(head, false), notifyText(head, true)],
      clean,
      networkDiff,
      cap: Math.min(
        capOf(profile.difficulty_1_target * BigInt(profile.stratum_difficulty_multiplier), target),
        made.upstream?.diff ?? Infinity,
      ),
      seen,
      value: made.value,
      txCount: made.txCount,
      template: made.template,
      upstream: made.upstream,
      pow: profile.pow,
      headerBase,
      target,
      maxAheadS: profile.ntime.max_ahead_s,
      difficulty1: Number(profile.difficulty_1_target),
      wireMultiplier: profile.stratum_difficulty_multiplier,
    };
    this.#recent = [];
    // The same job from an earlier process: behind those that are older.
    this.#jobs.delete(id);
    this.#jobs.set(id, job);
    if (made.earlier === true) {
      // Known, no more.
    } else if (made.variantOf === undefined) {
      this.#current = job;
      this.#variants = [];
    } else {
      this.#variants.push(job);
    }
    this.#expire(made.nowMs);
    return job;
  }

  /** Forgets old jobs, and the memory of duplicates that only they needed. */
  #expire(nowMs: number): void {
    let gone = false;
    const most = this.#jobs.size > JOBS_LIMIT ? (JOBS_LIMIT * 9) / 10 : Infinity;
    for (const job of this.#jobs.values()) {
      const young = nowMs - job.madeMs <= JOB_LIFE_MS && this.#jobs.size <= most;
      if (this.#jobs.size <= JOBS_KEPT || young) break;
      this.#jobs.delete(job.id);
      gone = true;
    }
    if (!gone) return;
    for (const [key, job] of this.#aliases) if (!this.#jobs.has(job.id)) this.#aliases.delete(key);
    const live = new Set<Duplicates>();
    for (const job of this.#jobs.values()) live.add(job.seen);
    for (const [key, seen] of this.#seen) if (!live.has(seen)) this.#seen.delete(key);
  }
}

/** Job ids of one run: rising, and above those of every earlier run on this data directory. */
export class JobIds {
  readonly first: bigint;
  #next: bigint;
  #order = 0;

  constructor(first: bigint) {
    this.first = first;
    this.#next = first;
  }

  /** `order` that belongs to the id given last. */
  get order(): number {
    return this.#order;
  }

  /** @param given - an id from elsewhere, which only takes its place in the order */
  next(given?: string): string {
    this.#order += 1;
    if (given !== undefined) return given;
    const id = this.#next.toString(16).padStart(16, '0');
    this.#next += 1n;
    return id;
  }
}

const RUN_IDS = 1n << 32n;
const NO_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Ids for this run: start time << 32, or what follows the last run's where the clock has gone back.
 *
 * @param statePath - remembers the end of the run's range; a full disk is said, and no hindrance
 */
export function openJobIds(statePath: string, nowMs: number, log: Log = () => {}): JobIds {
  let used = 0n;
  try {
    const text = readFileSync(statePath, 'utf8').trim();
    if (/^[0-9a-f]{16}$/.test(text)) used = BigInt(`0x${text}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const byClock = BigInt(Math.floor(nowMs / 1000)) << 32n;
  const first = byClock > used ? byClock : used + 1n;
  try {
    writeFileSync(`${statePath}.new`, `${(first + RUN_IDS - 1n).toString(16).padStart(16, '0')}\n`);
    renameSync(`${statePath}.new`, statePath);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!NO_ROOM.has(code ?? '')) throw error;
    // Jobs and blocks go on where the disk is full. The next run begins above by the clock.
    rmSync(`${statePath}.new`, { force: true });
    log(`${statePath} cannot be written (${code}): that no job id comes twice hangs on the clock alone now`);
  }
  return new JobIds(first);
}

/** The event that records a job. */
export function jobEvent(
  job: Job,
  facts: { readonly origin: string; readonly instance: string; readonly chain: string; readonly timeUs: number },
): JobInput {
  return {
    origin: facts.origin,
    instance: facts.instance,
    time_us: facts.timeUs,
    job_id: job.id,
    job_key: job.key,
    chain: facts.chain,
    pow: job.pow,
    height: job.height,
    prev_hash: job.prevHashRpc,
    coinbase1: hexFromBytes(job.coinbase1),
    coinbase2: hexFromBytes(job.coinbase2),
    enonce1_bytes: job.enonce1Bytes,
    nonce2_bytes: job.nonce2Bytes,
    merkle_branch: job.branch.map(hexFromBytes),
    version: hex32(job.version),
    version_mask: hex32(job.versionMask),
    nbits: bitsHex(job.bits),
    ntime: hex32(job.ntime),
    clean: job.clean,
    network_diff: job.networkDiff,
    ...(job.value === null
      ? {}
      : {
          subsidy_sats: job.value.subsidySats.toString(),
          fees_sats: job.value.feesSats.toString(),
          coinbase_value_sats: job.value.coinbaseValueSats.toString(),
        }),
    tx_count: job.txCount,
    ...(job.upstream === null ? {} : { upstream: job.upstream.name, upstream_job_id: job.upstream.jobId }),
  };
}
