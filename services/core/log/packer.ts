/**
 * Packs the closed segments of a journal, as long as its process runs: where a share lies for months it takes a quarter of the room.
 *
 *   each 30 s: topic directories ─► closed and not packed ─► packer-thread.ts prepares ─► exchange here ─► the next
 *
 * - Who runs it: the relay where there is Kafka, since retention runs in its process and the two must not pass each other; else the consumers. A lock
 *   in the state directory keeps it to one. The stratum daemon never does.
 * - `share`, `job` and `session` are packed. `block` and `contract` stay: they are small, and their programs read them back at each start.
 * - Closed is what has a later segment with something in it: the writer has gone on for good. The newest of a topic is the writer's, a dead one's too.
 * - No reader is waited for. One that is behind reads packed segments as well, for a little more CPU and a quarter of the reading; and where Kafka or
 *   ClickHouse are away for days is where room is wanted most.
 * - What is damaged stays as it is, to the byte, so that all of it can be looked at; that is said once.
 */
import { rmSync, statfsSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Topic } from '../../../schemas/events.ts';
import type { Config } from '../config.ts';
import { openDataDir } from '../data-dir.ts';
import { errorLine, PoolError } from '../errors.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { acquireLock, type Lock } from '../lock.ts';
import { publishStatus } from '../status.ts';
import { listInstances, listPacking, type PackingState, type SegmentName } from './journal-files.ts';
import { exchange, settle, stateOf } from './pack-segment.ts';
import type { FromPackerThread, PackTask } from './packer-thread.ts';
import { SegmentReader } from './segment-reader.ts';

const PACKED_TOPICS = ['share', 'job', 'session'] as const satisfies readonly Topic[];
const SCAN_MS = 30_000;
/** A process that is killed again and again still gets some done. */
const FIRST_SCAN_MS = 2_000;
/** A tenth of one core, at most: some 40,000 shares a second. */
const DUTY = 0.1;
/** Where so many segments of a topic wait, three times as much. */
const MANY_WAITING = 20;
/** A thread that is asked to end between two steps is ended after this. */
const STOP_MS = 2_000;
/** Of the thread's heap, MB: blocks lie outside of it. */
const LIMITS = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 };

export interface PackerOptions {
  /** `<data-dir>/journal`. */
  readonly journalDir: string;
  /** Held by the one that packs. */
  readonly lockFile: string;
  readonly log: (line: string) => void;
  /** For tests: between two looks at the directories, and part of the time that is worked. */
  readonly scanMs?: number;
  readonly duty?: number;
}

export interface Packer {
  /** Ends within a moment; what was being packed stays as it was. */
  stop(): Promise<void>;
  /** What kept the last segment from being packed, one line; null: nothing. */
  problem(): string | null;
  /** Since the start. */
  counts(): {
    readonly segments: number;
    readonly records: number;
    readonly plainBytes: number;
    readonly packedBytes: number;
  };
}

/** The segments to which nobody appends any more. */
export function closedSegments(segments: readonly SegmentName[]): readonly SegmentName[] {
  for (let i = segments.length - 1; i > 0; i--) {
    const later = SegmentReader.open(segments[i]!, () => null);
    if (typeof later === 'string') continue;
    const hasRecords = later.endSequence() > later.head.firstSequence;
    later.close();
    // An empty one may have been made in vain, and the writer go on in the one before.
    if (hasRecords) return segments.slice(0, i);
  }
  return [];
}

/** The thread, started when there is something to pack, so that it takes no memory meanwhile. */
class PackerThread {
  #worker: Worker | null = null;
  #busy: Promise<FromPackerThread> | null = null;

  prepare(task: PackTask): Promise<FromPackerThread> {
    const worker = this.#start();
    this.#busy = new Promise((resolve) => {
      const answer = (outcome: FromPackerThread): void => {
        worker.off('message', answer);
        worker.off('error', fail);
        worker.off('exit', gone);
        resolve(outcome);
      };
      const fail = (error: unknown): void => {
        this.#worker = null;
        answer({ failed: errorLine(error) });
      };
      const gone = (): void => {
        this.#worker = null;
        answer({ stopped: true });
      };
      worker.once('message', answer);
      worker.once('error', fail);
      worker.once('exit', gone);
      worker.postMessage(task);
    });
    return this.#busy;
  }

  #start(): Worker {
    if (this.#worker !== null) return this.#worker;
    // `.ts` here, `.js` where it was compiled.
    const worker = new Worker(new URL(`./packer-thread${extname(import.meta.url)}`, import.meta.url), {
      name: 'packer',
      resourceLimits: LIMITS,
    });
    // Between two tasks too it may die, and must not take the process with it.
    worker.on('error', () => {
      if (this.#worker === worker) this.#worker = null;
    });
    this.#worker = worker;
    return worker;
  }

  async end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    if (worker === null) return;
    worker.postMessage('stop');
    const limit = new AbortController();
    await Promise.race([this.#busy, sleep(STOP_MS, undefined, { signal: limit.signal }).catch(() => {})]);
    limit.abort();
    await worker.terminate();
  }
}

/** Starts packing and returns. */
export function startPacker(options: PackerOptions): Packer {
  const { journalDir, lockFile, log, scanMs = SCAN_MS, duty = DUTY } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const thread = new PackerThread();
  /** States of segments that stay as they are. */
  const refused = new Map<string, string>();
  const counts = { segments: 0, records: 0, plainBytes: 0, packedBytes: 0 };
  let lock: Lock | null = null;
  let problem: string | null = null;

  function fail(line: string): false {
    if (problem !== line) log(`${line}; trying again`);
    problem = line;
    return false;
  }

  /** @returns whether this one packs */
  function isOwner(): boolean {
    if (lock !== null) return true;
    try {
      lock = acquireLock(lockFile, { waitMs: 0, what: 'the packing of the journal' });
    } catch (error) {
      if (!(error instanceof PoolError) || error.code !== 'held') throw error;
    }
    return lock !== null;
  }

  /** Clears away what a crash left in a topic's directory. */
  async function cleared(topicDir: string): Promise<PackingState> {
    const state = listPacking(topicDir);
    for (const path of state.packing) rmSync(path, { force: true });
    for (const name of state.between) await settle(name);
    return state.between.length === 0 ? state : listPacking(topicDir);
  }

  /** @returns false where the next would fare no better now */
  async function pack(name: SegmentName, waiting: number): Promise<boolean> {
    const state = stateOf(name);
    if (state === null || refused.get(name.path) === state) return true;
    const { bavail, bsize } = statfsSync(journalDir);
    const size = statSync(name.path, { throwIfNoEntry: false })?.size ?? 0;
    // The packed one is smaller, but for one of records that cannot be.
    if (bavail * bsize < size) return fail(`journal: ${name.path}: no room to pack its ${size} bytes`);
    const outcome = await thread.prepare({
      name,
      journalDir,
      duty: waiting > MANY_WAITING ? Math.min(1, 3 * duty) : duty,
    });
    if ('failed' in outcome) return fail(`journal: ${name.path} cannot be packed: ${outcome.failed}`);
    if ('stopped' in outcome) return false;
    if ('gone' in outcome) return true;
    if ('refused' in outcome) {
      // Retention took it, or a part of it, meanwhile.
      if (stateOf(name) !== state) return true;
      refused.set(name.path, state);
      log(`journal: ${name.path} stays as it is, not packed: ${outcome.refused}`);
      return true;
    }
    if (!(await exchange(outcome))) return true;
    counts.segments++;
    counts.records += outcome.records;
    counts.plainBytes += outcome.plainBytes;
    counts.packedBytes += outcome.packedBytes;
    problem = null;
    return true;
  }

  async function scan(): Promise<void> {
    for (const topic of PACKED_TOPICS) {
      for (const instance of listInstances(journalDir, topic)) {
        const { segments, plain } = await cleared(join(journalDir, instance, topic));
        const closed = new Set(plain.length === 0 ? [] : closedSegments(segments).map(({ path }) => path));
        const waiting = plain.filter(({ path }) => closed.has(path));
        for (const [i, name] of waiting.entries()) {
          if (signal.aborted) return;
          if (!(await pack(name, waiting.length - i))) return;
        }
      }
    }
  }

  const working = (async () => {
    for (let pauseMs = Math.min(scanMs, FIRST_SCAN_MS); ; pauseMs = scanMs) {
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) break;
      try {
        if (isOwner()) await scan();
      } catch (error) {
        fail(`journal: cannot be packed: ${errorLine(error)}`);
      }
      await thread.end();
    }
  })();

  return {
    async stop() {
      stopping.abort();
      await thread.end();
      await working;
      lock?.release();
      lock = null;
    },
    problem: () => problem,
    counts: () => ({ ...counts }),
  };
}

/** Packs the journal of a configuration until `life` ends, where it is to be packed; status file `packer`. */
export function runPacker(config: Config, life: Lifecycle): void {
  if (!config.journal.pack) return;
  const paths = openDataDir(config.dataDir);
  const lockFile = join(paths.state, 'packer.lock');
  const packer = startPacker({ journalDir: paths.journal, lockFile, log: life.log });
  const status = publishStatus(paths.status, 'packer', () => {
    const { segments, records, plainBytes, packedBytes } = packer.counts();
    const problem = packer.problem();
    return {
      problems: problem === null ? [] : [problem],
      values: {
        packed_segments_count: segments,
        packed_records_count: records,
        packed_from_bytes: plainBytes,
        packed_to_bytes: packedBytes,
      },
    };
  });
  life.onStop('packing of the journal', async () => {
    await packer.stop();
    status.close();
  });
}
