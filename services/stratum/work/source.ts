/**
 * Where a connection's work comes from and where its shares go: one for a pool (pool.ts), one for each upstream connection of a proxy
 * (proxy.ts). The daemon and its sessions know nothing else of nodes and upstreams.
 */
import type { ShareInput } from '../../../schemas/events.ts';
import type { ShareVerdict, Submission } from '../share.ts';
import type { EnonceAllocator } from './enonce.ts';
import type { Job, JobRegistry } from './job.ts';

/** A submission with its verdict, before it is journaled. */
export interface JudgedShare {
  readonly job: Job;
  readonly submission: Submission;
  readonly verdict: ShareVerdict;
  readonly enonce1: Uint8Array;
  /** The event, as it will be journaled. */
  readonly event: ShareInput;
}

export interface WorkSource {
  readonly jobs: JobRegistry;
  readonly enonces: EnonceAllocator;
  readonly nonce2Bytes: number;
  /** Of a proxy, as CKProxy numbers them in its log: upstream and connection, `0:0`; absent in a pool. */
  readonly proxyId?: string;
  /** Version bits that miners may roll; 0: none. */
  readonly versionMask: number;
  /** True: each user has jobs of its own, and is sent none before it is known. */
  readonly solo: boolean;
  /** The job as this user is sent it and its shares are judged; in solo mode its coinbase pays the user, else it is the job itself. */
  jobFor(user: string, job: Job): Job;
  /** What keeps a user from being paid here; null: nothing. */
  userFault(user: string): string | null;
  /** Makes another job of the present template, whose headers no earlier job's can equal; null where there is no template. */
  variant(): Job | null;
  /** Ids of a job's transactions besides the coinbase, as the node prints them; null where they are not known. */
  txids(job: Job): readonly string[] | null;
  /**
   * Whether `judged` is to be told of a submission: asked of every one on a known job, so it only compares numbers.
   *
   * @param sdiff - difficulty reached, chain's unit
   */
  concerns(job: Job, sdiff: number, solves: boolean): boolean;
  /**
   * Told of a submission that concerns it, in the moment of its verdict: here a block goes to the node and a share upstream.
   * Comes before the journal.
   */
  judged(share: JudgedShare): void;
}
