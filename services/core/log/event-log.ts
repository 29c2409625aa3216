/**
 * The event log: one interface, two implementations (`journal.ts`, embedded; `kafka.ts`), one behaviour suite run on both.
 * Facts go forward through it; every room meets the next one here.
 *
 * Delivery is at least once and in order within a partition. A partition of the journal is the directory of one writer
 * (its instance name); of Kafka, a partition number.
 */
import type { Decoder } from '../../../schemas/codec.ts';
import type { Inputs, Topic } from '../../../schemas/events.ts';

/** An event to append. */
export type LogEntry = { [T in Topic]: { readonly topic: T; readonly event: Inputs[T] } }[Topic];

/** Events of one topic that are encoded already (`encodeEvent`), one behind the other. */
export interface EncodedEvents {
  readonly topic: Topic;
  /** Holds the bodies from its beginning; what lies behind the last is not looked at. */
  readonly bytes: Buffer;
  readonly count: number;
  /** Where each body ends. */
  readonly ends: ArrayLike<number>;
}

/** Order of the topics within one append: what a share refers to is there when the share is. */
export const APPEND_ORDER = [
  'job',
  'session',
  'block',
  'share',
  'contract',
  'quarantine',
  'epoch',
  'hashrate',
  'payout',
] as const satisfies readonly Topic[];

/**
 * Where reading goes on, as text that only the log itself understands: the journal's is `run:sequence` of the next record, Kafka's
 * the next offset. null is the beginning.
 */
export type Position = string;

/** One record as it was stored: the body is Avro by the schema named. */
export interface StoredRecord {
  readonly topic: Topic;
  readonly partition: string;
  /** Fingerprint of the writer's schema. */
  readonly fingerprint: string;
  readonly body: Buffer;
  /** Place in the journal that first took it: (instance, run, sequence). Sequences serve to report gaps; nothing is dropped by them. */
  readonly instance: string;
  readonly run: string;
  readonly sequence: number;
  /** Position of this record, so that a dead letter can be found again. */
  readonly position: Position;
}

/** Bytes in the log that could not be read as a record; reading went on behind them. */
export interface Damage {
  readonly topic: Topic;
  readonly partition: string;
  readonly position: Position;
  readonly reason: string;
  readonly bytes: Buffer;
}

export interface RecordBatch {
  readonly records: readonly StoredRecord[];
  readonly damage: readonly Damage[];
  /** Where the next read goes on; store it together with what was made of the batch. */
  readonly next: Position | null;
}

export interface ReadOptions {
  /** At most this many records. */
  readonly maxRecords: number;
  /** How long to wait for a first record before an empty batch is returned, milliseconds. */
  readonly waitMs: number;
  readonly signal?: AbortSignal;
}

export interface EventLog {
  readonly kind: 'journal' | 'kafka';

  /** Appends in order; resolves when durable (journal: written, and synced where so configured; Kafka: acknowledged by all replicas). */
  append(entries: readonly LogEntry[]): Promise<void>;

  /** The partitions of a topic that exist now; more may appear later. */
  partitions(topic: Topic): Promise<readonly string[]>;

  /**
   * Reads on from a position. One reader per partition and topic at a time. A batch is empty where nothing came within `waitMs`, or
   * where the signal ended the wait.
   */
  read(topic: Topic, partition: string, from: Position | null, options: ReadOptions): Promise<RecordBatch>;

  /**
   * A decoder for the schema that a record names.
   * @throws PoolError schema_unknown where nobody has announced that schema: stop the partition, do not skip
   */
  decoder<T extends Topic>(topic: T, fingerprint: string): Promise<Decoder<T>>;

  /**
   * The text of the schema that a record names, for writers that carry records on as they are.
   * @throws PoolError schema_unknown
   */
  schemaText(topic: Topic, fingerprint: string): Promise<string>;

  /** Records behind a position that were not read yet, or null where that cannot be told. */
  lag(topic: Topic, partition: string, from: Position | null): Promise<number | null>;

  close(): Promise<void>;
}

/** The writer's end of a journal: what `stratum` appends in one turn of its loop before it answers. */
export interface JournalWriter {
  readonly instance: string;
  /** Random name of this opening of the journal, 16 hex digits. */
  readonly run: string;
  /**
   * Writes all entries, topics in the order of `APPEND_ORDER`, before it returns. Survives the death of the process;
   * with fsync also a power cut.
   *
   * @param encoded - come behind the entries of their topic; their bytes are copied, and are taken at their word
   * @throws PoolError disk where the disk refuses; nothing of the turn then counts as appended
   */
  append(entries: readonly LogEntry[], encoded?: EncodedEvents): void;
  /**
   * As `append`, but where shares, jobs, sessions and blocks are synced (`fsync`) that is left to `sync`, so that one covers many turns.
   *
   * @returns whether something waits for `sync`; false: the turn is as safe as it is to be
   */
  write(entries: readonly LogEntry[], encoded?: EncodedEvents): boolean;
  /** The disk was full, turns without shares go on in space that was held for that, and there is no other room yet. */
  readonly cramped: boolean;
  /**
   * Syncs what `write` has written up to now, beside the loop; one at a time.
   *
   * @throws PoolError disk where the disk refuses: what was written since the sync before may or may not survive a power cut, and is to be
   * written again or refused. The next turns go into new segments, as a file whose sync failed once is not to be believed again.
   */
  sync(): Promise<void>;
  close(): void;
}
