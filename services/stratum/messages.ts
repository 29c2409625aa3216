/**
 * What parent.ts and its workers say to each other over their channel: plain data, copied by structured clone. One subject, one direction
 * each; a request carries a number that its answer repeats.
 */
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import type { Template } from '../core/node/template.ts';
import type { ControlTarget } from './control/control-commands.ts';
import type { ListenerSpec } from './edge/listeners.ts';
import type { Changes } from './stats/tally.ts';
import type { SolvedBlock } from './work/blocks.ts';

/** All that a worker needs to serve miners; the first message it gets. */
export interface Begin {
  readonly kind: 'begin';
  readonly config: Config;
  readonly profile: ChainProfile;
  /** Name of its journal, `<name>.1` and so on. */
  readonly instance: string;
  /** First byte of the extranonce1 that it gives, so that no two processes give the same. */
  readonly slot: number;
  /** First of the job ids that it makes by itself (new work of a template for one connection). */
  readonly firstOwnId: bigint;
  /** Sockets to accept on; descriptors are its own. */
  readonly listen: readonly ListenerSpec[];
  /** Number of its first connection: those of two workers differ. */
  readonly firstClientId: number;
  /** Most connections of this worker; Infinity: none. */
  readonly maxClients: number;
  /** Instances of the workers that run now. */
  readonly running: readonly string[];
}

/** A template with what makes its job the same one in all workers. */
export interface MadeTemplate {
  readonly template: Template;
  readonly id: string;
  /** For the coinbase: unix seconds and a random number. */
  readonly timeS: number;
  readonly random: number;
}

export type ToWorker =
  | Begin
  | { readonly kind: 'template'; readonly made: MadeTemplate }
  /** Whether the node gives templates now; without, miners are pinged so that they stay. */
  | { readonly kind: 'node'; readonly ready: boolean }
  /** `client.show_message` to the lines of one worker name, or (null) to all. */
  | { readonly kind: 'show'; readonly words: string; readonly worker: string | null }
  /** Answer to `claim`. */
  | { readonly kind: 'claimed'; readonly request: number; readonly ours: boolean }
  /** A session goes on at another worker: it ends here, and cannot be resumed here. */
  | { readonly kind: 'release'; readonly request: number; readonly sessionId: string }
  /** Address and user stay out for so long; 0: they are let in again. */
  | { readonly kind: 'ban'; readonly address: string; readonly user: string; readonly forMs: number }
  /** Something of `ControlTarget` for the miners of this worker. */
  | { readonly kind: 'control'; readonly request: number; readonly call: ControlCall }
  /** Accept nobody any more, ask everybody to reconnect within so many milliseconds, then end. */
  | { readonly kind: 'retire'; readonly overMs: number };

/** What of `ControlTarget` concerns the miners of a worker. */
export type ControlMethod =
  | 'acceptClients'
  | 'reconnectAll'
  | 'reconnectClient'
  | 'dropClient'
  | 'hasClient'
  | 'dropAll'
  | 'setLogLevel'
  | 'clients'
  | 'stratifierStats'
  | 'connectorStats';

/** One call of it, with its arguments. */
export type ControlCall = {
  [M in ControlMethod]: readonly [method: M, ...args: Parameters<ControlTarget[M]>];
}[ControlMethod];

/** What a worker says of itself each second. */
export interface WorkerReport {
  readonly values: Readonly<Record<string, number | string>>;
  readonly problems: readonly string[];
  readonly tally: Changes;
}

export type FromWorker =
  /** Accepts connections now. */
  | { readonly kind: 'serving' }
  /** A block for the nodes; its file and its event are the worker's. */
  | { readonly kind: 'solved'; readonly block: SolvedBlock }
  /** Asks for a session of another process. */
  | { readonly kind: 'claim'; readonly request: number; readonly sessionId: string }
  /** A line was closed for its refused shares. */
  | { readonly kind: 'refusedLine'; readonly address: string; readonly user: string }
  /** Who was banned mines here: one bad machine is not to keep its neighbours out. */
  | { readonly kind: 'honest'; readonly address: string; readonly user: string }
  /** Answer to `release`; false: its miner is still there and stays. */
  | { readonly kind: 'released'; readonly request: number; readonly free: boolean }
  /** Answer to `control`; an error is its line. */
  | { readonly kind: 'controlled'; readonly request: number; readonly value: unknown; readonly error: string | null }
  | { readonly kind: 'report'; readonly report: WorkerReport };
