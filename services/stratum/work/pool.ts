/**
 * Pool mode: templates of the node become jobs, solved blocks go back to it.
 *
 *   core/node/templates → `contentOf` (coinbase, merkle branch) → daemon.makeJob → broadcast
 *   judged share that solves → `blockOf` → blocks.ts
 */
import { randomInt } from 'node:crypto';
import type { BlockInput } from '../../../schemas/events.ts';
import { scriptFromAddress } from '../../core/bitcoin/address.ts';
import { bytesFromHex, compactSize, hexFromBytes } from '../../core/bitcoin/bytes.ts';
import {
  buildCoinbase,
  type CoinbaseInput,
  pushData,
  witnessCoinbase,
  witnessCommitmentIndex,
} from '../../core/bitcoin/coinbase.ts';
import { hashHex, headerFromBytes } from '../../core/bitcoin/header.ts';
import { bitsHex } from '../../core/bitcoin/target.ts';
import { parseTransaction, txid } from '../../core/bitcoin/transaction.ts';
import type { ChainProfile } from '../../core/chains/profile.ts';
import { subsidySats } from '../../core/chains/subsidy.ts';
import type { Config } from '../../core/config.ts';
import { errorLine, PoolError } from '../../core/errors.ts';
import { type Template, tailKeyOf } from '../../core/node/template.ts';
import type { Tails } from '../../core/node/template-store.ts';
import type { Daemon } from '../daemon.ts';
import type { MadeTemplate } from '../messages.ts';
import { shareCoinbase } from '../share.ts';
import type { BlockTaker, SolvedBlock } from './blocks.ts';
import { EnonceAllocator } from './enonce.ts';
import { type Job, type JobContent, JobRegistry, type JobValue } from './job.ts';
import { SoloJobs } from './solo.ts';
import type { JudgedShare, WorkSource } from './source.ts';

const DEFAULT_NONCE2_BYTES = 8;
/** CKPool's tag: these bytes as they are, not a push. */
const CKPOOL_TAG = Buffer.from('\nckpool', 'latin1');

/** Stands for the user's script in the jobs of solo mode, which nobody is sent: coins that it got would be nobody's. */
const OP_RETURN = Uint8Array.of(0x6a);

/** What every coinbase of this pool says and pays. */
export interface PoolIdentity {
  readonly tag: Uint8Array;
  readonly signature: string;
  readonly script: Uint8Array;
  readonly donation: { readonly script: Uint8Array; readonly percent: number; readonly inDoubles: boolean } | null;
  readonly enonce1Bytes: number;
  readonly nonce2Bytes: number;
}

/**
 * The address that the blocks shall pay; null in solo mode, where each user has its own and this one is only checked.
 * @throws PoolError config where it is missing: nothing is mined to nobody
 */
export function payoutAddressOf(config: Pick<Config, 'btcAddress' | 'file' | 'solo'>): string | null {
  if (config.btcAddress !== null || config.solo) return config.btcAddress;
  const where = config.file === null ? 'no configuration file was given (-c FILE), and' : `${config.file}:`;
  throw new PoolError(
    'config',
    `${where} "btcaddress" is missing, expected the address that the blocks shall pay (or -B, and each user its own)`,
  );
}

/**
 * Checks what the configuration says about the coinbase.
 *
 * @throws PoolError config: no or a wrong address, a coinbase that would be too long
 */
export function poolIdentity(config: Config, profile: ChainProfile): PoolIdentity {
  const btcAddress = payoutAddressOf(config);
  const scriptOf = (key: string, address: string): Uint8Array => {
    try {
      return scriptFromAddress(address, profile.address);
    } catch (cause) {
      throw new PoolError('config', `${key}: ${(cause as Error).message} (chain ${profile.name})`, { cause });
    }
  };
  const text = new TextEncoder().encode(config.coinbaseTag);
  const identity: PoolIdentity = {
    tag: config.compat === 'ckpool' ? CKPOOL_TAG : text.length === 0 ? text : pushTag(text),
    signature: config.btcSig,
    script: btcAddress === null ? OP_RETURN : scriptOf('btcaddress', btcAddress),
    donation:
      config.donation === null
        ? null
        : {
            script: scriptOf('donaddress', config.donation.address),
            percent: config.donation.percent,
            inDoubles: config.compat === 'ckpool',
          },
    enonce1Bytes: config.nonce1Bytes,
    nonce2Bytes: config.nonce2Bytes ?? DEFAULT_NONCE2_BYTES,
  };
  try {
    // The longest that height, time and random can become.
    buildCoinbase(
      coinbaseInput(
        identity,
        { height: 2 ** 31 - 1, aux: new Uint8Array(0), timeS: 2 ** 32 - 1, random: 2 ** 32 - 1 },
        0n,
      ),
    );
  } catch (cause) {
    throw new PoolError('config', `coinbase_tag and btcsig: ${(cause as Error).message}`, { cause });
  }
  return identity;
}

function pushTag(text: Uint8Array): Uint8Array {
  try {
    return pushData(text);
  } catch (cause) {
    throw new PoolError('config', `coinbase_tag: ${(cause as Error).message}`, { cause });
  }
}

/** What of a block's value is donated: at most three decimals of the percentage count, exactly; in CKPool's way as its doubles have it. */
function donatedSats(valueSats: bigint, { percent, inDoubles }: NonNullable<PoolIdentity['donation']>): bigint {
  if (inDoubles) return BigInt(Math.floor((Number(valueSats) / 100) * percent));
  return (valueSats * BigInt(Math.round(percent * 1_000))) / 100_000n;
}

function coinbaseInput(
  identity: PoolIdentity,
  of: { readonly height: number; readonly aux: Uint8Array; readonly timeS: number; readonly random: number },
  valueSats: bigint,
): CoinbaseInput {
  const { donation } = identity;
  const donated = donation === null ? 0n : donatedSats(valueSats, donation);
  return {
    ...of,
    extranonceSizeBytes: identity.enonce1Bytes + identity.nonce2Bytes,
    tag: identity.tag,
    signature: identity.signature,
    outputs: [
      { script: identity.script, valueSats: valueSats - donated },
      ...(donation === null ? [] : [{ script: donation.script, valueSats: donated }]),
    ],
  };
}

/**
 * A template as the content of a job.
 *
 * @param timeS - now, for the coinbase
 * @param random - 0 … 2^32-1: makes each job's coinbase another one
 * @throws RangeError where the coinbase would be too long (a long coinbaseaux)
 */
export function contentOf(
  template: Template,
  identity: PoolIdentity,
  made: {
    readonly timeS: number;
    readonly random: number;
    readonly versionMask: number;
  },
): JobContent {
  const { timeS, random } = made;
  const input = coinbaseInput(
    identity,
    { height: template.height, aux: bytesFromHex(template.coinbaseAux), timeS, random },
    template.coinbaseValueSats,
  );
  const parts = buildCoinbase(
    template.witnessCommitment === null
      ? input
      : { ...input, witnessCommitment: bytesFromHex(template.witnessCommitment) },
  );
  return {
    height: template.height,
    prevHashRpc: template.prevHashRpc,
    coinbase1: parts.part1,
    coinbase2: parts.part2,
    branch: template.branch,
    version: template.version,
    versionMask: made.versionMask,
    bits: template.bits,
    ntime: template.curtimeS,
    enonce1Bytes: identity.enonce1Bytes,
    nonce2Bytes: identity.nonce2Bytes,
  };
}

export class PoolSource implements WorkSource {
  readonly jobs: JobRegistry;
  readonly enonces: EnonceAllocator;
  readonly nonce2Bytes: number;
  readonly versionMask: number;
  /** What is wrong with the last template; null where nothing is. */
  problem: string | null = null;
  /** Where the transactions of jobs are; null: nowhere here. */
  tails: Tails | null = null;
  readonly #solo: SoloJobs | null;
  #txids: { readonly key: string; readonly ids: readonly string[] } | null = null;
  readonly #daemon: Daemon;
  readonly #identity: PoolIdentity;
  readonly #blocks: BlockTaker;

  /**
   * @param slot - first byte of the extranonce1 that it gives, where processes of one pool are told apart by it
   */
  constructor(daemon: Daemon, identity: PoolIdentity, blocks: BlockTaker, slot: number | null = null) {
    this.#daemon = daemon;
    this.#identity = identity;
    this.#blocks = blocks;
    const { origin, solo } = daemon.config;
    this.#solo = solo ? new SoloJobs(origin, daemon.profile, (job) => daemon.recordJob(job)) : null;
    this.jobs = new JobRegistry(daemon.config.origin, daemon.profile, daemon.ids);
    const start = BigInt(Math.floor(daemon.nowMs() / 1000));
    const prefix = slot === null ? new Uint8Array(0) : Uint8Array.of(slot);
    this.enonces = new EnonceAllocator(prefix, identity.enonce1Bytes - prefix.length, start);
    this.nonce2Bytes = identity.nonce2Bytes;
    this.versionMask = (daemon.config.versionMask & daemon.profile.version_mask) >>> 0;
  }

  /**
   * Makes a job of a template and sends it to everybody; where that fails the last job goes on.
   *
   * @param made - id and coinbase as another process has chosen them, so that the job is the same one in all
   */
  take(template: Template, made?: Omit<MadeTemplate, 'template'>): void {
    try {
      this.problem = null;
      if (!template.commitmentFits) {
        // The node judges the block by its own; ours says that hashes and transactions of the template do not fit.
        this.#complain(
          `the template's witness commitment at height ${template.height} is not that of its transactions`,
        );
      }
      const job = this.#make(template, undefined, made);
      this.#daemon.broadcast(this, job);
    } catch (error) {
      this.#complain(`no job could be made of the template at height ${template.height}: ${errorLine(error)}`);
    }
  }

  get solo(): boolean {
    return this.#solo !== null;
  }

  jobFor(user: string, job: Job): Job {
    return this.#solo === null ? job : this.#solo.jobFor(user, job);
  }

  userFault(user: string): string | null {
    return this.#solo === null ? null : this.#solo.fault(user);
  }

  variant(): Job | null {
    const { current } = this.jobs;
    return current?.template == null ? null : this.#make(current.template, current);
  }

  #make(template: Template, variantOf: Job | undefined, made?: Omit<MadeTemplate, 'template'>): Job {
    const content = contentOf(template, this.#identity, {
      timeS: made?.timeS ?? Math.floor(this.#daemon.nowMs() / 1000),
      random: made?.random ?? randomInt(2 ** 32),
      versionMask: this.versionMask,
    });
    return this.#daemon.makeJob(this.jobs, content, {
      value: jobValue(template, this.#daemon.profile),
      txCount: template.txCount,
      template,
      upstream: null,
      ...(variantOf === undefined ? {} : { variantOf }),
      ...(made === undefined ? {} : { id: made.id }),
    });
  }

  #complain(line: string): void {
    this.problem = line;
    this.#daemon.log(line);
  }

  concerns(_job: Job, _sdiff: number, solves: boolean): boolean {
    return solves;
  }

  txids(job: Job): readonly string[] | null {
    if (job.txCount === 0) return [];
    const key = tailKeyOf({ ...job, witnessCommitment: commitmentOf(job) });
    if (this.#txids?.key === key) return this.#txids.ids;
    const tail = this.tails?.tail(key, job.txCount);
    if (tail == null) return null;
    const ids: string[] = [];
    for (let at = 0; ids.length < job.txCount; ) {
      const { tx, next } = parseTransaction(tail, at);
      ids.push(hashHex(txid(tx)));
      at = next;
    }
    this.#txids = { key, ids };
    return ids;
  }

  judged(share: JudgedShare): void {
    if (share.verdict.proof?.solves !== true) return;
    const block = { ...blockOf(share, this.#daemon), stale: this.jobs.isStale(share.job) };
    if (this.#blocks.take(block)) this.#daemon.counters.blocks += 1;
  }
}

function jobValue(template: Template, profile: ChainProfile): JobValue {
  const subsidy = subsidySats(profile, template.height);
  const { coinbaseValueSats } = template;
  return {
    subsidySats: subsidy,
    feesSats: coinbaseValueSats > subsidy ? coinbaseValueSats - subsidy : 0n,
    coinbaseValueSats,
  };
}

/** Script of the witness commitment in a coinbase, hex; null where there is none. */
function commitmentIn(outputs: readonly { readonly script: Uint8Array }[]): string | null {
  const script = outputs[witnessCommitmentIndex(outputs)]?.script;
  return script === undefined ? null : hexFromBytes(script);
}

function commitmentOf(job: Job): string | null {
  const nothing = new Uint8Array(job.enonce1Bytes + job.nonce2Bytes);
  return commitmentIn(parseTransaction(Buffer.concat([job.coinbase1, nothing, job.coinbase2])).tx.outputs);
}

/**
 * The block of a share that solves, up to its tail, and its event. All of it comes from the job, so that one that was read back from the
 * journal will do; whoever has the tails (blocks.ts) completes it.
 */
function blockOf(
  { job, submission, verdict, enonce1, event }: JudgedShare,
  daemon: Pick<Daemon, 'config' | 'profile' | 'instance'>,
): SolvedBlock {
  const proof = verdict.proof!;
  const legacy = shareCoinbase(submission.nonce2, job, enonce1);
  const { tx } = parseTransaction(legacy);
  const witnessCommitment = commitmentIn(tx.outputs);
  const coinbase = witnessCommitment === null ? legacy : witnessCoinbase(legacy);
  const head = Buffer.concat([proof.header, compactSize(job.txCount + 1), coinbase]);
  const header = headerFromBytes(proof.header);
  const solved: BlockInput = {
    kind: 'solved',
    chain: daemon.profile.name,
    origin: daemon.config.origin,
    instance: daemon.instance,
    time_us: event.time_us,
    height: job.height,
    hash: proof.blockHash === '' ? proof.hash : proof.blockHash,
    prev_hash: job.prevHashRpc,
    block_time_us: header.time * 1_000_000,
    nbits: bitsHex(job.bits),
    version: (header.version >>> 0).toString(16).padStart(8, '0'),
    tx_count: job.txCount + 1,
    size_bytes: head.length + (job.template?.tailSizeBytes ?? 0),
    subsidy_sats: (job.value?.subsidySats ?? 0n).toString(),
    fees_sats: (job.value?.feesSats ?? 0n).toString(),
    coinbase_value_sats: (job.value?.coinbaseValueSats ?? 0n).toString(),
    coinbase_script: hexFromBytes(tx.inputs[0]!.script),
    coinbase_outputs: tx.outputs.map((output) => ({
      script: hexFromBytes(output.script),
      value_sats: output.valueSats.toString(),
    })),
    ours: true,
    job_key: job.key,
    job_id: job.id,
    user: event.user,
    worker: event.worker,
    diff: event.diff,
    sdiff: event.sdiff,
    answers: [],
    candidate: hexFromBytes(proof.header),
  };
  const key = tailKeyOf({ ...job, witnessCommitment });
  return {
    event: solved,
    hex: hexFromBytes(head),
    ...(job.txCount === 0 ? {} : { tail: { key, txCount: job.txCount } }),
  };
}
