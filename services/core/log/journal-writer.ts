/**
 * The writing end of the journal: one process, one instance directory, one append per turn of its loop.
 *
 * An append is synchronous, so that an answer given after it is given after the fact is in the kernel: the death of the process then loses
 * nothing. For each topic of the turn it is one write of a block to the segment and one of 32 bytes to the sidecar.
 *
 * What "nothing of the turn" means over several topics: first the blocks of all topics are written (and synced, where asked), then the
 * sidecar entries that make them count. Where any block is refused, all are cut back and no reader has seen any of them: the turn did not
 * happen. Entries are written into space taken before the blocks, so a full disk cannot refuse them; a disk that fails between two of them
 * (EIO) leaves the turn's first topics (jobs, sessions, blocks, in that order, before shares) readable and the rest not. The error is
 * thrown all the same; appending the whole turn again is then right, as each event's identity makes it count once.
 */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { currentSchema, currentSchemaText, encodeEvent } from '../../../schemas/codec.ts';
import type { Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import { acquireLock } from '../lock.ts';
import { syncDirectory } from '../sync-directory.ts';
import { encodeHead, SYNC_BYTES, writeLong } from './container.ts';
import { APPEND_ORDER, type EncodedEvents, type JournalWriter, type LogEntry } from './event-log.ts';
import {
  checkInstance,
  HEAD_KEYS,
  listSegments,
  listStrays,
  listTopics,
  NEW_SUFFIX,
  type SegmentName,
  segmentName,
} from './journal-files.ts';
import { recoverSegment, writeAll } from './journal-recovery.ts';
import { hasRoom, releaseSpace } from './reserve-space.ts';
import { encodeIndexHead, INDEX_ENTRY_BYTES, INDEX_HEAD_BYTES, writeIndexEntry } from './segment-index.ts';
import { wakeReaders } from './wakeup.ts';

export interface JournalWriterOptions {
  /** `<data-dir>/journal`; made where absent. */
  readonly dir: string;
  /** Name of this process among the writers: 1 to 64 letters, digits, dots, dashes, underscores. */
  readonly instance: string;
  /**
   * Sync to the disk, so that what was appended survives a power cut: `append` each time, `write` with the next `sync`. Contract facts are
   * always synced at once. Default false.
   */
  readonly fsync?: boolean;
  /** A segment that has reached this size is followed by a new one, bytes. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** Gets what was mended at opening, one line each. */
  readonly log?: (line: string) => void;
  /** How long to wait for a predecessor that is just dying, milliseconds. Default 5000. */
  readonly waitMs?: number;
}

/** Synced at every append, whatever the configuration says: unlike a share, nobody sends a contract again, and what is owed is paid. */
const ALWAYS_SYNCED: ReadonlySet<Topic> = new Set(['contract', 'payout']);

/** A turn's events of a topic are cut into blocks of about this size, so that a reader never has to hold more. */
const BLOCK_BYTES = 1024 * 1024;
/** Count and size of a block, as varints. */
const BLOCK_HEAD_BYTES = 20;
/** Space for entries is taken in steps of this many. */
const RESERVE_ENTRIES = 128;
const DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024;
const DEFAULT_WAIT_MS = 5000;
/** The disk is full, or the quota used up. */
const NO_SPACE: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

const fdatasyncAside = promisify(fdatasync);

/** What the file system threw, as ours; anything else is left as it is. */
function diskError(what: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || error instanceof PoolError) return error;
  const why = code === 'EROFS' ? 'the file system is read-only (EROFS)' : code;
  return new PoolError('disk', `the journal cannot ${what}: ${why}`, { cause: error, facts: { code } });
}

/** Why a directory could not be made: a recursive `mkdir` says ENOENT on a read-only file system. */
function codeOf(dir: string, error: unknown): string | undefined {
  let parent = dirname(dir);
  while (!existsSync(parent)) parent = dirname(parent);
  try {
    accessSync(parent, constants.W_OK);
  } catch (refused) {
    return (refused as NodeJS.ErrnoException).code;
  }
  return (error as NodeJS.ErrnoException).code;
}

/** A segment open for writing. */
class Segment {
  readonly name: SegmentName;
  readonly sync: Buffer;
  readonly #fd: number;
  readonly #indexFd: number;
  readonly #synced: boolean;
  sizeBytes: number;
  #entries = 0;
  #reserved = 0;
  /** Blocks were written that no sync covers. */
  #dirty = false;
  #syncing = false;
  #closed = false;

  /** Makes the files of a segment; none is left where that fails. */
  static create(
    name: SegmentName,
    topicDir: string,
    topic: Topic,
    instance: string,
    first: number,
    synced: boolean,
  ): Segment {
    const sync = randomBytes(SYNC_BYTES);
    const head = encodeHead(
      new Map([
        [HEAD_KEYS.schema, currentSchemaText(topic)],
        [HEAD_KEYS.codec, 'null'],
        [HEAD_KEYS.instance, instance],
        [HEAD_KEYS.run, name.run],
        [HEAD_KEYS.firstSequence, String(first)],
      ]),
      sync,
    );
    const { fingerprint } = currentSchema(topic);
    const indexHead = {
      headBytes: head.length,
      headCrc: crc32(head),
      firstSequence: first,
      fingerprint,
      sync,
      packed: false,
    };
    const made: { path: string; fd: number }[] = [];
    const make = (path: string): number => {
      const fd = openSync(path, 'wx');
      made.push({ path, fd });
      return fd;
    };
    try {
      const indexFd = make(name.indexPath);
      writeAll(indexFd, encodeIndexHead(indexHead), 0);
      // Under another name until the head is there: readers look at the directory at any moment.
      const fd = make(`${name.path}${NEW_SUFFIX}`);
      writeAll(fd, head, 0);
      if (synced) {
        fsyncSync(indexFd);
        fsyncSync(fd);
      }
      renameSync(`${name.path}${NEW_SUFFIX}`, name.path);
      if (synced) syncDirectory(topicDir);
      return new Segment(name, sync, fd, indexFd, head.length, synced);
    } catch (error) {
      for (const { path, fd } of made) {
        closeSync(fd);
        rmSync(path, { force: true });
      }
      rmSync(name.path, { force: true });
      throw error;
    }
  }

  private constructor(
    name: SegmentName,
    sync: Buffer,
    fd: number,
    indexFd: number,
    sizeBytes: number,
    synced: boolean,
  ) {
    this.name = name;
    this.sync = sync;
    this.#fd = fd;
    this.#indexFd = indexFd;
    this.sizeBytes = sizeBytes;
    this.#synced = synced;
  }

  /** Takes space for so many more entries, if it is not taken yet. */
  reserve(entries: number): void {
    const needed = this.#entries + entries;
    if (needed <= this.#reserved) return;
    const upTo = Math.ceil(needed / RESERVE_ENTRIES) * RESERVE_ENTRIES;
    const from = INDEX_HEAD_BYTES + this.#reserved * INDEX_ENTRY_BYTES;
    writeAll(this.#indexFd, Buffer.alloc((upTo - this.#reserved) * INDEX_ENTRY_BYTES), from);
    this.#reserved = upTo;
  }

  /** Puts blocks behind the last that counts; they do not count yet. @param later - the sync is left to `sync` */
  write(blocks: Uint8Array, blockBytes: number, later: boolean): void {
    writeAll(this.#fd, blocks, this.sizeBytes, blockBytes);
    if (!this.#synced) return;
    if (later) {
      this.#dirty = true;
      return;
    }
    fdatasyncSync(this.#fd);
    this.#dirty = false;
  }

  get dirty(): boolean {
    return this.#dirty;
  }

  /** Syncs what was written up to now. */
  async syncAside(): Promise<void> {
    this.#dirty = false;
    this.#syncing = true;
    try {
      await fdatasyncAside(this.#fd);
    } finally {
      this.#syncing = false;
      if (this.#closed) closeSync(this.#fd);
    }
  }

  /** Makes blocks that were written count. */
  commit(entries: Uint8Array, count: number, blockBytes: number): void {
    const at = INDEX_HEAD_BYTES + this.#entries * INDEX_ENTRY_BYTES;
    writeAll(this.#indexFd, entries, at, count * INDEX_ENTRY_BYTES);
    this.#entries += count;
    this.sizeBytes += blockBytes;
  }

  /** Takes back what was written and does not count. A disk that refuses even that leaves bytes that the next write covers. */
  rollBack(): void {
    try {
      ftruncateSync(this.#fd, this.sizeBytes);
    } catch {
      // Nothing refers to these bytes; the next append writes over them.
    }
  }

  close(): void {
    this.rollBack();
    try {
      ftruncateSync(this.#indexFd, INDEX_HEAD_BYTES + this.#entries * INDEX_ENTRY_BYTES);
      if (this.#synced) fsyncSync(this.#indexFd);
    } catch {
      // Reserved zeros at the end are read as such.
    }
    try {
      // Who waits for its last blocks waits for a sync that no longer knows this file.
      if (this.#dirty) fdatasyncSync(this.#fd);
    } finally {
      this.#closed = true;
      closeSync(this.#indexFd);
      if (!this.#syncing) closeSync(this.#fd);
    }
  }
}

/** One topic of a writer. */
class TopicWriter {
  readonly #topic: Topic;
  readonly #dir: string;
  readonly #instance: string;
  readonly #run: string;
  readonly #synced: boolean;
  readonly #segmentBytes: number;
  #nextOrdinal: number;
  #sequence = 0;
  #segment: Segment | null = null;
  /** Why blocks of a segment that is closed may not survive a power cut. */
  #doubt: unknown = null;
  #scratch = Buffer.allocUnsafe(64 * 1024);
  #entryScratch = Buffer.alloc(16 * INDEX_ENTRY_BYTES);
  /** Of the turn at hand: bytes of blocks, entries, records. */
  #blockBytes = 0;
  #entryCount = 0;
  #count = 0;

  constructor(
    topic: Topic,
    dir: string,
    run: string,
    options: Required<Pick<JournalWriterOptions, 'instance' | 'segmentBytes' | 'fsync'>>,
  ) {
    this.#topic = topic;
    this.#dir = dir;
    this.#instance = options.instance;
    this.#run = run;
    this.#synced = options.fsync || ALWAYS_SYNCED.has(topic);
    this.#segmentBytes = options.segmentBytes;
    this.#nextOrdinal = (listSegments(dir).at(-1)?.ordinal ?? -1) + 1;
  }

  /** Opens a segment where there is none or the present one is full. */
  open(): void {
    if (this.#segment !== null && this.#segment.sizeBytes < this.#segmentBytes) return;
    if (this.#segment === null) mkdirSync(this.#dir, { recursive: true });
    const name = segmentName(this.#dir, this.#nextOrdinal, this.#run);
    const next = Segment.create(name, this.#dir, this.#topic, this.#instance, this.#sequence, this.#synced);
    this.#nextOrdinal++;
    const full = this.#segment;
    this.#segment = next;
    try {
      full?.close();
    } catch (error) {
      // This turn is in the new segment; what waits for a sync of the old one is in doubt.
      this.#doubt ??= error;
    }
  }

  /** Whether `sync` has something to do. */
  get waits(): boolean {
    return this.#doubt !== null || this.#segment?.dirty === true;
  }

  /** Syncs what was written. @throws what the file system throws, now or when a full segment was closed */
  async sync(): Promise<void> {
    const doubt = this.#doubt;
    this.#doubt = null;
    if (this.#segment?.dirty === true) await this.#segment.syncAside();
    if (doubt !== null) throw doubt;
  }

  /** What was written since the last sync is in doubt: the next turn begins a new segment. */
  abandon(): void {
    const segment = this.#segment;
    this.#segment = null;
    this.#doubt = null;
    try {
      segment?.close();
    } catch {
      // It is in doubt already.
    }
  }

  /** Turns bodies into blocks; writes nothing. */
  prepare(bodies: readonly Buffer[], encoded: EncodedEvents | null): void {
    let at = 0;
    let sequence = this.#sequence;
    this.#entryCount = 0;
    for (let from = 0; from < bodies.length; ) {
      let size = bodies[from]!.length;
      let to = from + 1;
      while (to < bodies.length && size + bodies[to]!.length <= BLOCK_BYTES) size += bodies[to++]!.length;
      this.#grow(at, BLOCK_HEAD_BYTES + size + SYNC_BYTES);
      const bytes = this.#scratch;
      const start = at;
      at = writeLong(bytes, writeLong(bytes, at, to - from), size);
      for (let i = from; i < to; i++) {
        const body = bodies[i]!;
        bytes.set(body, at);
        at += body.length;
      }
      at = this.#endBlock(start, at, sequence, to - from);
      sequence += to - from;
      from = to;
    }
    const encodedCount = encoded?.count ?? 0;
    for (let from = 0, begin = 0; from < encodedCount; ) {
      const { ends, bytes: source } = encoded!;
      let to = from + 1;
      while (to < encodedCount && ends[to]! - begin <= BLOCK_BYTES) to++;
      const size = ends[to - 1]! - begin;
      this.#grow(at, BLOCK_HEAD_BYTES + size + SYNC_BYTES);
      const start = at;
      at = writeLong(this.#scratch, writeLong(this.#scratch, at, to - from), size);
      at += source.copy(this.#scratch, at, begin, begin + size);
      at = this.#endBlock(start, at, sequence, to - from);
      sequence += to - from;
      begin += size;
      from = to;
    }
    this.#blockBytes = at;
    this.#count = bodies.length + encodedCount;
  }

  /** Puts the sync marker behind a block and notes its entry. @returns the position behind it */
  #endBlock(start: number, bodyEnd: number, firstSequence: number, count: number): number {
    const bytes = this.#scratch;
    bytes.set(this.#segment!.sync, bodyEnd);
    const end = bodyEnd + SYNC_BYTES;
    const entryAt = this.#entryCount * INDEX_ENTRY_BYTES;
    if (entryAt === this.#entryScratch.length) {
      this.#entryScratch = Buffer.concat([this.#entryScratch, Buffer.alloc(entryAt)]);
    }
    writeIndexEntry(this.#entryScratch, entryAt, {
      offset: this.#segment!.sizeBytes + start,
      firstSequence,
      count,
      lengthBytes: end - start,
      crc: crc32(bytes.subarray(start, end)),
    });
    this.#entryCount++;
    return end;
  }

  #grow(used: number, more: number): void {
    if (used + more <= this.#scratch.length) return;
    const grown = Buffer.allocUnsafe(Math.max(used + more, this.#scratch.length * 2));
    this.#scratch.copy(grown, 0, 0, used);
    this.#scratch = grown;
  }

  /** Writes what was prepared. */
  write(later: boolean): void {
    this.#segment!.reserve(this.#entryCount);
    this.#segment!.write(this.#scratch, this.#blockBytes, later && !ALWAYS_SYNCED.has(this.#topic));
  }

  /** Makes what was written count. */
  commit(): void {
    this.#segment!.commit(this.#entryScratch, this.#entryCount, this.#blockBytes);
    this.#sequence += this.#count;
    wakeReaders(this.#dir);
  }

  rollBack(): void {
    this.#segment?.rollBack();
  }

  close(): void {
    this.#segment?.close();
    this.#segment = null;
  }
}

/**
 * Opens the journal of an instance for writing.
 *
 * @throws PoolError config where the instance's name is not safe as a file name
 * @throws PoolError held where another process writes it
 * @throws PoolError data_dir where the directory cannot be made or written
 */
export function openJournalWriter(options: JournalWriterOptions): JournalWriter {
  const instance = checkInstance(options.instance);
  const instanceDir = resolve(options.dir, instance);
  const log = options.log ?? (() => {});
  try {
    mkdirSync(instanceDir, { recursive: true });
  } catch (error) {
    const code = codeOf(instanceDir, error);
    if (code === 'ENOSPC' || code === 'EIO' || code === 'EDQUOT') throw diskError(`make ${instanceDir}`, error);
    throw new PoolError('data_dir', `cannot make the journal's directory ${instanceDir}: ${code}`, { cause: error });
  }
  const lock = acquireLock(join(instanceDir, 'lock.sqlite'), {
    waitMs: options.waitMs ?? DEFAULT_WAIT_MS,
    what: `the journal of instance ${instance} in ${options.dir}`,
  });
  try {
    for (const topic of listTopics(instanceDir)) {
      for (const stray of listStrays(join(instanceDir, topic))) {
        log(`journal: ${stray}: left by a crash while the segment was made; removed`);
        rmSync(stray, { force: true });
      }
      const last = listSegments(join(instanceDir, topic)).at(-1);
      if (last !== undefined) recoverSegment(last, log);
    }
  } catch (error) {
    lock.release();
    throw diskError(`be opened in ${instanceDir}`, error);
  }

  const run = randomBytes(8).toString('hex');
  const settings = {
    instance,
    fsync: options.fsync ?? false,
    segmentBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
  };
  const topics = new Map<Topic, TopicWriter>();
  const topicWriter = (topic: Topic): TopicWriter => {
    let writer = topics.get(topic);
    if (writer === undefined) {
      writer = new TopicWriter(topic, join(instanceDir, topic), run, settings);
      topics.set(topic, writer);
    }
    return writer;
  };
  let closed = false;

  const checkOpen = (): void => {
    if (closed) throw new PoolError('journal_closed', `the journal of instance ${instance} is closed`);
  };

  let cramped = false;

  /** Where the disk is full, what is no share goes on in space that is held for it. */
  function put(entries: readonly LogEntry[], encoded: EncodedEvents | undefined, later: boolean): void {
    checkOpen();
    // Encoding comes first: an event that does not fit its schema is thrown before anything is written.
    const bodies = entries.length === 0 ? NO_ENTRIES : encodeByTopic(entries);
    const shares = bodies.has('share') || (encoded?.topic === 'share' && encoded.count > 0);
    for (;;) {
      try {
        putBodies(bodies, encoded, later);
        if (cramped && (shares || hasRoom(options.dir))) cramped = false;
        return;
      } catch (error) {
        const full = error instanceof PoolError && NO_SPACE.has(String(error.facts?.code));
        if (!full || shares || !releaseSpace(options.dir)) throw error;
        cramped = true;
      }
    }
  }

  function putBodies(bodies: ReadonlyMap<Topic, Buffer[]>, encoded: EncodedEvents | undefined, later: boolean): void {
    const touched: TopicWriter[] = [];
    try {
      for (const topic of APPEND_ORDER) {
        const ofTopic = bodies.get(topic) ?? NO_BODIES;
        const more = encoded?.topic === topic && encoded.count > 0 ? encoded : null;
        if (ofTopic.length === 0 && more === null) continue;
        const writer = topicWriter(topic);
        touched.push(writer);
        writer.open();
        writer.prepare(ofTopic, more);
        writer.write(later);
      }
      for (const writer of touched) writer.commit();
    } catch (error) {
      for (const writer of touched) writer.rollBack();
      throw diskError(`write to ${instanceDir}`, error);
    }
  }

  return {
    instance,
    run,
    get cramped() {
      return cramped;
    },
    append: (entries, encoded) => put(entries, encoded, false),
    write(entries, encoded) {
      put(entries, encoded, true);
      if (!settings.fsync) return false;
      for (const writer of topics.values()) if (writer.waits) return true;
      return false;
    },
    async sync() {
      checkOpen();
      const waiting = [...topics.values()].filter((writer) => writer.waits);
      const ends = await Promise.allSettled(waiting.map((writer) => writer.sync()));
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed === undefined) return;
      for (const writer of topics.values()) writer.abandon();
      throw diskError(`sync in ${instanceDir}`, failed.reason);
    },
    close() {
      if (closed) return;
      closed = true;
      for (const writer of topics.values()) {
        try {
          writer.close();
        } catch (error) {
          log(`journal: ${(diskError(`close its files in ${instanceDir}`, error) as Error).message}`);
        }
      }
      lock.release();
    },
  };
}

const NO_BODIES: readonly Buffer[] = [];
const NO_ENTRIES: ReadonlyMap<Topic, Buffer[]> = new Map();

function encodeByTopic(entries: readonly LogEntry[]): Map<Topic, Buffer[]> {
  const bodies = new Map<Topic, Buffer[]>();
  for (const { topic, event } of entries) {
    const body = encodeEvent(topic, event);
    const ofTopic = bodies.get(topic);
    if (ofTopic === undefined) bodies.set(topic, [body]);
    else ofTopic.push(body);
  }
  return bodies;
}
