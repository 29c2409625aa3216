/**
 * What went wrong with us. What a miner did wrong is a value (`ShareVerdict`), never one of these.
 *
 * Every code stands in this one table: what an operator does about it, whether to try again, the exit status where it ends a program.
 * `deploy/runbook.md` says in one paragraph each what it means; a test compares the two.
 */

export interface ErrorKind {
  /** One sentence for an operator: what to do. */
  readonly mend: string;
  /** True where the same call may succeed later without anybody doing something. */
  readonly retry: boolean;
  /** Exit status of a program that ends on it (sysexits.h: 64 usage, 65 data, 69 unavailable, 70 internal, 73 cannot create, 74 input/output, 75 try later, 77 permission, 78 configuration). */
  readonly exit: number;
}

export const ERRORS = {
  usage: { mend: 'see `./lodestream help`', retry: false, exit: 64 },
  config: { mend: 'correct what the message names', retry: false, exit: 78 },
  chain_unknown: {
    mend: 'name a built-in chain or a profile file under "lodestream": {"chain": …}',
    retry: false,
    exit: 78,
  },
  chain_mismatch: { mend: 'point the pool at a node of the chain that the profile describes', retry: false, exit: 78 },
  port_in_use: { mend: 'stop the program that listens there, or choose another address', retry: true, exit: 69 },
  held: { mend: 'stop the instance that holds it, or give this one its own --data-dir', retry: true, exit: 75 },
  data_dir: {
    mend: 'make the directory writable for this user, or choose another with --data-dir',
    retry: false,
    exit: 73,
  },
  other_instance: {
    mend: 'stop that instance, or choose another -n NAME or -s SOCKDIR',
    retry: false,
    exit: 1,
  },
  sockdir: {
    mend: 'make the folder one that this user owns and may write, or choose another with -s SOCKDIR',
    retry: false,
    exit: 73,
  },
  control: { mend: 'is the daemon running, and are -n NAME and -s SOCKDIR its own?', retry: true, exit: 1 },
  node_unreachable: { mend: 'start the node, or correct btcd[].url', retry: true, exit: 69 },
  node_auth: {
    mend: "correct btcd[].auth and btcd[].pass; `./lodestream rpcauth USER` makes the node's line",
    retry: true,
    exit: 77,
  },
  node_syncing: { mend: 'wait until the node has peers and has caught up', retry: true, exit: 69 },
  node_refused: { mend: "read the node's answer in the message", retry: true, exit: 69 },
  node_answer: {
    mend: 'check that btcd[].url is a node of the configured chain and of a supported version',
    retry: true,
    exit: 69,
  },
  journal_corrupt: {
    mend: 'keep the file for inspection; the readable rest goes on being used',
    retry: false,
    exit: 74,
  },
  journal_closed: { mend: 'this is a fault of the program: report it', retry: false, exit: 70 },
  disk: { mend: 'free space on the disk of the data directory, or make it writable again', retry: true, exit: 74 },
  schema_unknown: { mend: 'upgrade this program: the log was written by a newer one', retry: true, exit: 75 },
  kafka: { mend: 'check the brokers under "lodestream": {"kafka": …} and their log', retry: true, exit: 69 },
  group: {
    mend: 'give all consumers that fill one database the same version and chain profile, or this one another "group" under "lodestream": {"kafka": …}',
    retry: true,
    exit: 75,
  },
  clickhouse: {
    mend: 'start it (npm start, ./lodestream clickhouse), or check "lodestream": {"clickhouse": …}, --data-dir and --clickhouse-http',
    retry: true,
    exit: 69,
  },
  schema_edited: {
    mend: 'restore schemas/clickhouse as it was released; changes go into a new numbered file',
    retry: false,
    exit: 78,
  },
  replay: {
    mend: 'the tables are as they were; mend what the message names, and run it again',
    retry: false,
    exit: 65,
  },
  replay_loss: {
    mend: 'the tables are as they were; find the rest of the log, or swap all the same with --allow-loss',
    retry: false,
    exit: 65,
  },
  missing_part: { mend: 'install the part named in the message', retry: false, exit: 69 },
  contract: { mend: "correct the contract's terms named in the message", retry: false, exit: 65 },
  internal: { mend: 'this is a fault of the program: report it with the message', retry: false, exit: 70 },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** An exception of ours: a code of the table, a sentence with the facts, and the cause. */
export class PoolError extends Error {
  override readonly name = 'PoolError';
  readonly code: ErrorCode;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; facts?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.facts = options.facts ?? {};
  }

  get retry(): boolean {
    return ERRORS[this.code].retry;
  }

  get exit(): number {
    return ERRORS[this.code].exit;
  }

  /** One line for a person: what happened, and the mend. */
  get line(): string {
    return `${this.message} (${ERRORS[this.code].mend})`;
  }
}

/** Any thrown thing as one line. */
export function errorLine(error: unknown): string {
  if (error instanceof PoolError) return error.line;
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(errorLine).join('; ');
  return error instanceof Error ? error.message || error.name : String(error);
}
