/** Generated from schemas/events/*.avsc by `npm run schemas`: edit those. Names and units are the same in Avro, here and in ClickHouse. */

type Defaulted<Event, Field extends keyof Event> = Omit<Event, Field> & Partial<Pick<Event, Field>>;

export interface CoinbaseOutput {
  /** Output script, hex */
  readonly script: string;
  /** Smallest units, decimal */
  readonly value_sats: string;
}

export interface NodeAnswer {
  /** host:port */
  readonly node: string;
  /** accepted, duplicate, or the node's words */
  readonly answer: string;
  /** When it answered */
  readonly time_us: number;
}

export interface HashrateWindow {
  /** As getnetworkhashps is asked: 1, 10, 120; -1: since the last change of difficulty */
  readonly window_blocks: number;
  /** Blocks in it; fewer than asked at the chain's start */
  readonly blocks: number;
  /** Sum over them of 2^256 / (target + 1), decimal */
  readonly chain_work: string;
  /** Largest minus smallest block time, the block before the window included */
  readonly span_s: number;
  /** chain_work over span_s, decimal, rounded down; empty where span_s is 0 */
  readonly hashrate_hps: string;
}

export interface PoolStatus {
  /** pool, user or worker: whom it is about; user and worker of the event name it */
  readonly scope: string;
  /** log (a line of ckpool.log) or status (a status file) */
  readonly source: string;
  /** Since the start of the pool; -1 where not said, here and below */
  readonly runtime_s: number;
  /** Users with a connection */
  readonly users: number;
  /** Connections */
  readonly workers: number;
  /** Connections without a share for a minute */
  readonly idle: number;
  /** Sessions kept for who resumes them */
  readonly disconnected: number;
  /** Decaying average over 1m, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_1m: string;
  /** Decaying average over 5m, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_5m: string;
  /** Decaying average over 15m, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_15m: string;
  /** Decaying average over 1h, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_1h: string;
  /** Decaying average over 6h, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_6h: string;
  /** Decaying average over 1d, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_1d: string;
  /** Decaying average over 7d, hashes per second as CKPool prints it: 9.52G; empty where not said */
  readonly hashrate_7d: string;
  /** Accepted difficulty since the last block over that of the network */
  readonly effort_percent: number;
  /** Difficulty of the network */
  readonly network_diff: number;
  /** Sum of the difficulty of accepted shares: of the pool since its last block, of a user or worker since ever */
  readonly accepted_diff: number;
  /** Sum of the difficulty of refused shares since the last block */
  readonly rejected_diff: number;
  /** Accepted shares since the last block */
  readonly accepted_count: number;
  /** Refused shares since the last block */
  readonly rejected_count: number;
  /** Highest difficulty since the last block */
  readonly best_share: number;
  /** Highest difficulty since ever */
  readonly best_ever: number;
  /** Shares per second, decaying average over 1m */
  readonly rate_1m_per_s: number;
  /** Shares per second, decaying average over 5m */
  readonly rate_5m_per_s: number;
  /** Shares per second, decaying average over 15m */
  readonly rate_15m_per_s: number;
  /** Shares per second, decaying average over 1h */
  readonly rate_1h_per_s: number;
  /** Last accepted share, microseconds since 1970 UTC; 0 where there is none */
  readonly last_share_us: number;
  /** First authorize, microseconds since 1970 UTC; 0 where not said */
  readonly authorised_us: number;
}

/** A block of ours found (solved), or a fact about the node's best chain (connected, disconnected) or about our own block on it (confirmed, orphaned). Identity of a chain event: chain, follower, chain_seq; of a solved block: hash. */
export interface BlockEvent {
  /** solved, connected, disconnected, confirmed, orphaned */
  readonly kind: string;
  /** Name of the chain profile */
  readonly chain: string;
  /** solved: accounting point; empty for chain events */
  readonly origin: string;
  /** Process */
  readonly instance: string;
  /** Chain events: name of the follower */
  readonly follower: string;
  /** Chain events: rising number of the follower; 0 for solved */
  readonly chain_seq: number;
  /** When this was seen, microseconds since 1970 UTC */
  readonly time_us: number;
  /** Height */
  readonly height: number;
  /** Block hash, 64 hex digits as the node prints it */
  readonly hash: string;
  /** Previous block's hash; empty where unknown (back-fill) */
  readonly prev_hash: string;
  /** Time in the header, microseconds since 1970 UTC; 0 where unknown (back-fill) */
  readonly block_time_us: number;
  /** Median time past: of the eleven blocks that end with this one; 0 where unknown */
  readonly median_time_us: number;
  /** Compact target, 8 hex digits; empty where unknown (back-fill) */
  readonly nbits: string;
  /** Block version, 8 hex digits; empty where unknown (back-fill) */
  readonly version: string;
  /** Transactions, the coinbase included */
  readonly tx_count: number;
  /** Serialized size; 0 where unknown */
  readonly size_bytes: number;
  /** Subsidy of the height by the profile, decimal */
  readonly subsidy_sats: string;
  /** Coinbase outputs that the profile counts, minus subsidy, not below 0, decimal */
  readonly fees_sats: string;
  /** Sum of the coinbase's outputs that the profile counts, decimal */
  readonly coinbase_value_sats: string;
  /** Input script of the coinbase, hex */
  readonly coinbase_script: string;
  /** Outputs of the coinbase */
  readonly coinbase_outputs: readonly CoinbaseOutput[];
  /** True: the coinbase is one of ours */
  readonly ours: boolean;
  /** confirmed: blocks on top including itself */
  readonly confirmations: number;
  /** solved: identity of the job */
  readonly job_key: string;
  /** solved: job id as the miner saw it */
  readonly job_id: string;
  /** solved: who found it */
  readonly user: string;
  /** solved: whose worker found it */
  readonly worker: string;
  /** solved: difficulty credited */
  readonly diff: number;
  /** solved: difficulty reached */
  readonly sdiff: number;
  /** solved: what each node said */
  readonly answers: readonly NodeAnswer[];
  /** solved: the 80-byte header, hex */
  readonly candidate: string;
  /** live (the daemon, the follower), backfill (CKPool's main log: little is known, and any live copy counts before it), or chain (solved: the follower found it on the chain, made from a job of ours, and nobody had told of it) */
  readonly source: string;
}

/** BlockEvent as it is appended: fields with a default may be left out. */
export type BlockInput = Defaulted<
  BlockEvent,
  | 'origin'
  | 'follower'
  | 'chain_seq'
  | 'median_time_us'
  | 'tx_count'
  | 'size_bytes'
  | 'subsidy_sats'
  | 'fees_sats'
  | 'coinbase_value_sats'
  | 'coinbase_script'
  | 'coinbase_outputs'
  | 'ours'
  | 'confirmations'
  | 'job_key'
  | 'job_id'
  | 'user'
  | 'worker'
  | 'diff'
  | 'sdiff'
  | 'answers'
  | 'candidate'
  | 'source'
>;

/** A mining contract: hashrate bought for a time. Identity: contract_id and contract_seq. Effect heights lie above the tip at acceptance. */
export interface ContractEvent {
  /** opened, changed, ended */
  readonly kind: string;
  /** Name of the contract */
  readonly contract_id: string;
  /** Rising number within the contract: 0 for opened */
  readonly contract_seq: number;
  /** Acceptance, microseconds since 1970 UTC */
  readonly time_us: number;
  /** Name of the chain profile */
  readonly chain: string;
  /** Who bought it, as the operator calls them */
  readonly customer: string;
  /** Where the payouts go */
  readonly payout_address: string;
  /** H from from_height on, hashes per second, decimal integer */
  readonly hashrate_hps: string;
  /** First height with this H; 0 where from_time_us decides */
  readonly from_height: number;
  /** First height whose median time past reaches this; 0 where from_height decides */
  readonly from_time_us: number;
  /** First height no longer covered; 0: open end, or to_time_us decides */
  readonly to_height: number;
  /** First height whose median time past reaches this is no longer covered; 0: none */
  readonly to_time_us: number;
  /** First payouts to skip */
  readonly skip_payouts: number;
  /** network: all blocks of the period; own_blocks: those whose coinbase pays one of own_addresses */
  readonly fee_basis: string;
  /** For own_blocks */
  readonly own_addresses: readonly string[];
  /** Version of the payout formula */
  readonly formula_version: number;
  /** Height of the tip at acceptance */
  readonly tip_height: number;
  /** Hash of the tip at acceptance */
  readonly tip_hash: string;
  /** Free text */
  readonly memo: string;
}

/** ContractEvent as it is appended: fields with a default may be left out. */
export type ContractInput = Defaulted<
  ContractEvent,
  | 'customer'
  | 'payout_address'
  | 'hashrate_hps'
  | 'from_height'
  | 'from_time_us'
  | 'to_height'
  | 'to_time_us'
  | 'skip_payouts'
  | 'fee_basis'
  | 'own_addresses'
  | 'formula_version'
  | 'tip_height'
  | 'tip_hash'
  | 'memo'
>;

/** Derived from block: an epoch was closed by a block, became final, or was taken back by a reorganisation. Identity: chain, epoch, closing_hash, chain_seq and kind; of several of one epoch the one with the greatest chain_seq holds, of these reopened before final before closed. Facts decide, not this: a replay computes it anew and compares. */
export interface EpochEvent {
  /** closed: block (n+1)·B is connected; final: the tip reached (n+1)·B + confirmations; reopened: that block is no longer on the best chain */
  readonly kind: string;
  /** Name of the chain profile */
  readonly chain: string;
  /** n: heights n·B to n·B+B-1 */
  readonly epoch: number;
  /** Name of the follower whose events it is derived from */
  readonly follower: string;
  /** The follower's number under which the closing block was connected; of reopened that of the closing taken back */
  readonly chain_seq: number;
  /** When the follower saw the closing block, microseconds since 1970 UTC */
  readonly time_us: number;
  /** n·B */
  readonly first_height: number;
  /** n·B+B-1 */
  readonly last_height: number;
  /** Hash of block n·B */
  readonly first_hash: string;
  /** Hash of block n·B+B-1 */
  readonly last_hash: string;
  /** Hash of block (n+1)·B */
  readonly closing_hash: string;
  /** Compact target of block n·B, 8 hex digits */
  readonly nbits: string;
  /** Difficulty of nbits, for show */
  readonly difficulty: number;
  /** Time in the header of block n·B, microseconds since 1970 UTC */
  readonly first_block_time_us: number;
  /** Time in the header of block n·B+B-1, microseconds since 1970 UTC */
  readonly last_block_time_us: number;
  /** Time in the header of block (n+1)·B, microseconds since 1970 UTC */
  readonly closing_block_time_us: number;
  /** Intervals between blocks that span_s covers: B, or one less where block n·B-1 is not known */
  readonly intervals: number;
  /** Time of block n·B+B-1 minus that of block n·B-1 (of block n·B where that is not known) */
  readonly span_s: number;
  /** Sum over the epoch's blocks of 2^256 / (target + 1), decimal */
  readonly chain_work: string;
  /** Network: work of the blocks in span_s over span_s, decimal, rounded down; empty where span_s is not above 0 */
  readonly hashrate_hps: string;
  /** Network, by the contract's formula D · W / mean block time, decimal, rounded down; empty where span_s is not above 0 */
  readonly hashrate_formula_hps: string;
  /** Sum over the epoch's blocks, decimal */
  readonly subsidy_sats: string;
  /** Sum over the epoch's blocks, decimal */
  readonly fees_sats: string;
  /** Blocks of the epoch whose coinbase is ours */
  readonly own_blocks: number;
  /** What the retarget at (n+1)·B measured, before clamping; 0 where next_nbits_predicted is empty */
  readonly retarget_actual_s: number;
  /** Compact target of block (n+1)·B, 8 hex digits */
  readonly next_nbits: string;
  /** Difficulty of next_nbits, for show */
  readonly next_difficulty: number;
  /** By the profile's rule, 8 hex digits; empty where it predicts nothing */
  readonly next_nbits_predicted: string;
}

/** EpochEvent as it is appended: fields with a default may be left out. */
export type EpochInput = Defaulted<
  EpochEvent,
  'hashrate_hps' | 'hashrate_formula_hps' | 'own_blocks' | 'retarget_actual_s' | 'next_nbits_predicted'
>;

/** Derived from block: the network's hashrate after a block, over several windows, as the node computes getnetworkhashps. Identity: chain, height, hash, chain_seq and kind; of several of one height the one with the greatest chain_seq holds, of these withdrawn before measured. Facts decide, not this: a replay computes it anew and compares. */
export interface HashrateEvent {
  /** measured; withdrawn: the block is no longer on the best chain (nbits, difficulty, block time and windows are left out) */
  readonly kind: string;
  /** Name of the chain profile */
  readonly chain: string;
  /** Height */
  readonly height: number;
  /** Block hash, 64 hex digits as the node prints it */
  readonly hash: string;
  /** Name of the follower whose events it is derived from */
  readonly follower: string;
  /** The follower's number under which the block was connected */
  readonly chain_seq: number;
  /** When the follower saw the block, microseconds since 1970 UTC */
  readonly time_us: number;
  /** Time in the header, microseconds since 1970 UTC */
  readonly block_time_us: number;
  /** Compact target, 8 hex digits */
  readonly nbits: string;
  /** Difficulty of nbits, for show */
  readonly difficulty: number;
  /** Those whose blocks are all known */
  readonly windows: readonly HashrateWindow[];
}

/** HashrateEvent as it is appended: fields with a default may be left out. */
export type HashrateInput = Defaulted<HashrateEvent, 'windows'>;

/** One piece of work: with a share, all that is needed to rebuild the 80-byte header. coinbase = coinbase1 + enonce1 + nonce2 + coinbase2. Identity: job_key. */
export interface JobEvent {
  /** Accounting point */
  readonly origin: string;
  /** Process that built it */
  readonly instance: string;
  /** When it was built, microseconds since 1970 UTC */
  readonly time_us: number;
  /** What the miner sees: 16 hex digits, start time << 32 plus a counter */
  readonly job_id: string;
  /** origin and a digest of the content */
  readonly job_key: string;
  /** Name of the chain profile */
  readonly chain: string;
  /** sha256d or scrypt */
  readonly pow: string;
  /** Height of the block being mined */
  readonly height: number;
  /** Previous block, 64 hex digits as the node prints it */
  readonly prev_hash: string;
  /** Coinbase before extranonce1, hex */
  readonly coinbase1: string;
  /** Coinbase after extranonce2, hex */
  readonly coinbase2: string;
  /** Length of extranonce1 */
  readonly enonce1_bytes: number;
  /** Length of extranonce2 */
  readonly nonce2_bytes: number;
  /** Steps from the coinbase to the root, hex, byte order of the hash */
  readonly merkle_branch: readonly string[];
  /** Block version, 8 hex digits */
  readonly version: string;
  /** Bits that miners may roll, 8 hex digits */
  readonly version_mask: string;
  /** Compact target, 8 hex digits */
  readonly nbits: string;
  /** Template time, 8 hex digits */
  readonly ntime: string;
  /** True: earlier jobs are stale */
  readonly clean: boolean;
  /** Difficulty of nbits, for show */
  readonly network_diff: number;
  /** Subsidy of the height, decimal; empty where unknown (proxy) */
  readonly subsidy_sats: string;
  /** coinbase value minus subsidy, decimal; empty where unknown */
  readonly fees_sats: string;
  /** Value that the template grants, decimal; empty where unknown */
  readonly coinbase_value_sats: string;
  /** Transactions besides the coinbase; -1 where unknown */
  readonly tx_count: number;
  /** proxy: the upstream pool, host:port */
  readonly upstream: string;
  /** proxy: the upstream's job id */
  readonly upstream_job_id: string;
}

/** JobEvent as it is appended: fields with a default may be left out. */
export type JobInput = Defaulted<
  JobEvent,
  'subsidy_sats' | 'fees_sats' | 'coinbase_value_sats' | 'tx_count' | 'upstream' | 'upstream_job_id'
>;

/** Derived from contract and block: what a contract is owed for a final epoch, with every input of the arithmetic. Identity: payout_id, chain_seq and kind; of several of one payout_id the one with the greatest chain_seq holds, of these reversed before the others. payout_id alone is what is paid once. Facts decide, not this: a replay computes it anew and compares. */
export interface PayoutEvent {
  /** owed; skipped: among the first payouts that the contract skips; reversed: its closing block is no longer on the best chain */
  readonly kind: string;
  /** contract_id/epoch/closing_hash/formula_version */
  readonly payout_id: string;
  /** Name of the contract */
  readonly contract_id: string;
  /** Name of the chain profile */
  readonly chain: string;
  /** Period paid for: heights first_height to last_height */
  readonly epoch: number;
  /** Name of the follower whose events it is derived from */
  readonly follower: string;
  /** The follower's number under which the closing block was connected; of reversed that of the payout taken back */
  readonly chain_seq: number;
  /** When the follower saw the closing block, microseconds since 1970 UTC */
  readonly time_us: number;
  /** floor(numerator / denominator), decimal; of skipped what is not paid */
  readonly amount_sats: string;
  /** Where it goes */
  readonly payout_address: string;
  /** Which period of the contract this is, 1 for the first with hashrate */
  readonly period: number;
  /** First payouts that the contract skips */
  readonly skip_payouts: number;
  /** First height of the epoch */
  readonly first_height: number;
  /** Last height of the epoch */
  readonly last_height: number;
  /** Heights of the epoch at which the contract has hashrate */
  readonly covered_blocks: number;
  /** Hash of the block whose nbits set D */
  readonly closing_hash: string;
  /** Compact target that sets D, 8 hex digits */
  readonly nbits: string;
  /** D = difficulty_numerator / difficulty_denominator: the chain's difficulty-1 target, decimal */
  readonly difficulty_numerator: string;
  /** D = difficulty_numerator / difficulty_denominator: the target of nbits, decimal */
  readonly difficulty_denominator: string;
  /** T, seconds per block */
  readonly target_spacing_s: number;
  /** W, decimal */
  readonly hashes_per_difficulty: string;
  /** Sum over the heights of H, decimal */
  readonly sum_hashrate: string;
  /** Sum over the heights of H times subsidy, decimal */
  readonly sum_hashrate_subsidy: string;
  /** network: all blocks of the epoch; own_blocks: those whose coinbase pays one of the contract's own_addresses */
  readonly fee_basis: string;
  /** N: blocks of the fee basis; 0 counts as N = 1 with fees_sats 0 */
  readonly fee_blocks: number;
  /** own_blocks: their heights; empty under network, where they are all of the epoch */
  readonly fee_block_heights: readonly number[];
  /** Sum of the fees of the fee basis' blocks, decimal */
  readonly fees_sats: string;
  /** T · (sum_hashrate_subsidy · N + sum_hashrate · fees_sats) · difficulty_denominator, decimal */
  readonly numerator: string;
  /** difficulty_numerator · W · N, decimal */
  readonly denominator: string;
  /** Version of the payout formula */
  readonly formula_version: number;
}

/** PayoutEvent as it is appended: fields with a default may be left out. */
export type PayoutInput = Defaulted<PayoutEvent, 'skip_payouts' | 'fee_block_heights'>;

/** One line or one file of a log that was read for back-fill and could not be taken in. Identity: origin, path, line; of a whole file also the reason. */
export interface QuarantineEvent {
  /** Accounting point whose log it is */
  readonly origin: string;
  /** Process that read it */
  readonly instance: string;
  /** When it was read, microseconds since 1970 UTC */
  readonly time_us: number;
  /** The file, absolute, on the host that read it */
  readonly path: string;
  /** Line from 1; 0 where the whole file is meant */
  readonly line: number;
  /** What is wrong with it */
  readonly reason: string;
  /** Length of the line without its end, or of the file */
  readonly size_bytes: number;
  /** The line's first 4096 bytes, hex; of a whole file empty */
  readonly bytes_hex: string;
}

/** QuarantineEvent as it is appended: fields with a default may be left out. */
export type QuarantineInput = Defaulted<QuarantineEvent, 'bytes_hex'>;

/** What happened to a connection or to the daemon itself. Identity: origin, instance, run of the journal and sequence; of pool_status: origin, scope, user, worker and time. */
export interface SessionEvent {
  /** started, stopped, clock_step, untold (the daemon: events of an address that were not written, in reason); subscribed, authorized, difficulty, refused (a number of refusals beyond ten a second, in reason), alive (a connection of which nothing was told for eight minutes), disconnected (a connection); pool_status (back-fill: what CKPool said of itself at a time); nodes_disagree, nodes_agree (the chain follower: its nodes are on different branches, and on one again) */
  readonly kind: string;
  /** Accounting point */
  readonly origin: string;
  /** Process */
  readonly instance: string;
  /** Microseconds since 1970 UTC */
  readonly time_us: number;
  /** Connection number in its process; 0 for the daemon itself */
  readonly client_id: number;
  /** Stratum session id, 8 hex digits */
  readonly session_id: string;
  /** Client's network address */
  readonly address: string;
  /** Listen address that the client used */
  readonly listener: string;
  /** User agent */
  readonly agent: string;
  /** User */
  readonly user: string;
  /** Worker name */
  readonly worker: string;
  /** Extranonce1, hex */
  readonly enonce1: string;
  /** Difficulty in force after the event; 0 where none */
  readonly diff: number;
  /** Why, in words: what closed the line, what changed the difficulty */
  readonly reason: string;
  /** pool_status: one record; else none */
  readonly pool_status: readonly PoolStatus[];
}

/** SessionEvent as it is appended: fields with a default may be left out. */
export type SessionInput = Defaulted<
  SessionEvent,
  | 'client_id'
  | 'session_id'
  | 'address'
  | 'listener'
  | 'agent'
  | 'user'
  | 'worker'
  | 'enonce1'
  | 'diff'
  | 'reason'
  | 'pool_status'
>;

/** One submission, accepted or refused; in a proxy also the upstream's verdict on one, as an event of its own (kind verdict). Identity of an accepted share: origin and hash; of a refused one: origin and the digest of enonce1, nonce2, nonce, ntime, errn and createdate; of a verdict: origin, hash and upstream. */
export interface ShareEvent {
  /** submitted, or verdict: what the upstream pool said of a share forwarded to it */
  readonly kind: string;
  /** Accounting point: a pool or one proxy level; stable over restarts */
  readonly origin: string;
  /** Process that saw it; never part of an identity */
  readonly instance: string;
  /** live (the daemon) or backfill (a share log) */
  readonly source: string;
  /** Receipt, microseconds since 1970 UTC; strictly rising in one process */
  readonly time_us: number;
  /** Nanoseconds within the microsecond of receipt, 0 to 999; the daemon has 0, CKPool's logs have more */
  readonly time_ns: number;
  /** Connection number in its process */
  readonly client_id: number;
  /** Listen address that the client used, as configured */
  readonly listener: string;
  /** Job id as the miner sent it; of a back-filled line the workinfoid as 16 hex digits */
  readonly job_id: string;
  /** Identity of the job; empty where unknown (unknown job, back-fill) */
  readonly job_key: string;
  /** Height of the block being mined; 0 where unknown */
  readonly height: number;
  /** Worker name up to the first . or _ */
  readonly user: string;
  /** Worker name as authorized */
  readonly worker: string;
  /** User agent of the miner's software */
  readonly agent: string;
  /** Client's network address */
  readonly address: string;
  /** True: credited */
  readonly accepted: boolean;
  /** CKPool's number: 0 accepted, 1 unknown job, 2 stale, 3 ntime, 4 duplicate, 5 above target, below 0 malformed */
  readonly errn: number;
  /** Why it was refused, in words; empty when accepted */
  readonly reason: string;
  /** Difficulty required, and credited if accepted */
  readonly diff: number;
  /** Difficulty reached; -1 where no hash was computed */
  readonly sdiff: number;
  /** Proof-of-work hash, 64 hex digits as block hashes are printed; empty where not computed */
  readonly hash: string;
  /** Block hash where it differs from hash (scrypt chains); else empty */
  readonly block_hash: string;
  /** Full extranonce1, hex */
  readonly enonce1: string;
  /** Extranonce2, hex */
  readonly nonce2: string;
  /** Nonce, 8 hex digits as sent */
  readonly nonce: string;
  /** Time, 8 hex digits as sent */
  readonly ntime: string;
  /** Rolled version bits, 8 hex digits; empty where none were sent or where unknown */
  readonly version_bits: string;
  /** verdict: the upstream pool asked, host:port */
  readonly upstream: string;
}

/** ShareEvent as it is appended: fields with a default may be left out. */
export type ShareInput = Defaulted<
  ShareEvent,
  'kind' | 'time_ns' | 'job_key' | 'reason' | 'block_hash' | 'version_bits' | 'upstream'
>;

/** One topic for each record. */
export interface Events {
  readonly block: BlockEvent;
  readonly contract: ContractEvent;
  readonly epoch: EpochEvent;
  readonly hashrate: HashrateEvent;
  readonly job: JobEvent;
  readonly payout: PayoutEvent;
  readonly quarantine: QuarantineEvent;
  readonly session: SessionEvent;
  readonly share: ShareEvent;
}

/** What each topic takes. */
export interface Inputs {
  readonly block: BlockInput;
  readonly contract: ContractInput;
  readonly epoch: EpochInput;
  readonly hashrate: HashrateInput;
  readonly job: JobInput;
  readonly payout: PayoutInput;
  readonly quarantine: QuarantineInput;
  readonly session: SessionInput;
  readonly share: ShareInput;
}

export type Topic = keyof Events;
export const TOPICS = [
  'block',
  'contract',
  'epoch',
  'hashrate',
  'job',
  'payout',
  'quarantine',
  'session',
  'share',
] as const satisfies readonly Topic[];
