/** What an audit can find, in words; main.ts counts by these, the command line prints them. */
import type { Topic } from '../../schemas/events.ts';

/** What does not hold. */
export const REASONS = {
  undecodable: 'the record cannot be decoded by the schema that it names',
  damaged: 'bytes in the log that are no record',
  malformed: 'a field is not of its form',
  instance: 'the event names another process than the one whose journal it is in',
  contradiction: 'accepted, errn, reason and source do not go together',
  job_unknown: 'the log has no job with this key',
  job_malformed: 'a field of the job is not of its form',
  chain: 'no profile of this chain is known here',
  job_key: "the job's content is not what its key was made of",
  job_other: 'origin, job id or height are not those of the job',
  job_source: 'the job is of a pool and of a proxy at once, or of neither',
  pow: "the proof of work is not the chain's",
  network_diff: 'the network difficulty is not that of nbits',
  height: 'the height is not the one in the coinbase',
  subsidy: "the subsidy is not the chain's at this height",
  coinbase_value: 'the value is not what the coinbase pays',
  fees: 'the fees are not coinbase value minus subsidy',
  extranonce: "extranonce1 and 2 are not as long as the job's",
  version_bits: 'version bits outside the mask',
  hash: 'the header has another hash',
  block_hash: 'the header has another block hash',
  sdiff: 'the hash has another difficulty',
  diff: 'accepted, and the hash does not reach the difficulty credited',
  in_force: 'accepted, and credited more than any difficulty that its line had then',
  ntime: 'accepted, and the time is not in the window of the job',
  refusal: 'refused for what was not so',
  stale: 'accepted, and the chain had moved on',
  expired: 'accepted, and the job had expired',
  duplicate: 'accepted before',
  block_missing: 'solves a block, and no solved event names it',
} as const satisfies Record<string, string>;

export type Reason = keyof typeof REASONS;

/** Why nothing can be checked. */
export const UNCHECKABLE = {
  back_filled: 'from a share log, which holds neither coinbase nor version bits',
  no_hash: 'refused without a hash (unknown job)',
} as const satisfies Record<string, string>;

export type Uncheckable = keyof typeof UNCHECKABLE;

export interface Problem {
  readonly reason: Reason;
  readonly claimed: string;
  readonly computed: string;
}

/** Where an event stands in the log. */
export interface Place {
  readonly topic: Topic;
  /** Journal: the instance; Kafka: the partition. */
  readonly partition: string;
  /** Journal: run:sequence; Kafka: the offset. */
  readonly position: string;
  readonly instance: string;
  readonly run: string;
  readonly sequence: number;
}

/** One event that does not hold. */
export interface Finding {
  readonly place: Place;
  readonly problems: readonly Problem[];
  /** Empty where the event cannot be read. */
  readonly origin: string;
  /** Of a share its identity, of a job its key. */
  readonly identity: string;
  readonly worker: string;
  readonly timeUs: number;
}

export interface Counts {
  /** Events of shares met, back-filled ones and verdicts too. */
  shares: number;
  held: number;
  notHeld: number;
  /** Delivered again: the same place of the same journal. */
  again: number;
  /** Accepted shares of which the log does not tell what difficulty was in force on their line. */
  creditUnknown: number;
  /** Built in the time asked for. */
  jobs: number;
  jobsNotHeld: number;
  /** Shares that solve a block. */
  solved: number;
  readonly reasons: Partial<Record<Reason, number>>;
  readonly uncheckable: Partial<Record<Uncheckable, number>>;
}
