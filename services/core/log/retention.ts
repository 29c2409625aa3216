/**
 * What of the journal is removed, and when: whole segments that every required reader has behind it, `keep` after they were written. Only where
 * another log is the log of record (Kafka); without it nothing calls this and the journal is kept without limit.
 *
 *   relay ──acknowledged──► positions ──► here, each ten minutes ──► the oldest segments of share, job and session go, container first
 *
 * - Who runs it: the relay, the one process that has the positions. It never touches the newest segment of a topic, which is the writer's.
 * - Required readers hold a segment until they stand in a later one; a reader without a position holds all. Nobody else holds anything: who comes
 *   back to a segment that is gone reads `Damage` and goes on with the oldest.
 * - `block` and `contract` stay: they are small, and their programs read their own back.
 * - Age is counted from the newest record, by a clock of the log's own: it follows the newest record's time, never past the wall clock, and
 *   hardly faster than this process lives. So a clock that jumps, the machine's or the records', removes nothing that is not old.
 */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TOPICS, type Topic } from '../../../schemas/events.ts';
import { errorLine } from '../errors.ts';
import type { Position } from './event-log.ts';
import { listInstances, listSegments, type SegmentName } from './journal-files.ts';
import { timeAt } from './journal-since.ts';
import { SegmentReader } from './segment-reader.ts';

const REMOVED_TOPICS = ['share', 'job', 'session'] as const satisfies readonly Topic[];
/** The log's clock runs so much faster than this process lives while it is behind the newest record: by what it was not running, it catches up. */
const CATCH_UP = 1.1;
export const DAY_US = 86_400_000_000;

/** A reader that must have read a segment before it may go. */
export interface RequiredReader {
  readonly name: string;
  /** Up to where it has acknowledged; null: nothing. */
  load(topic: Topic, instance: string): Position | null;
}

export interface RetentionOptions {
  readonly journalDir: string;
  /** JSON file with the log's clock. Where it is lost the waiting begins anew. */
  readonly stateFile: string;
  readonly keepUs: number;
  /** At least one: what nobody has acknowledged is nowhere else. */
  readonly required: readonly RequiredReader[];
  readonly log: (line: string) => void;
  /** For tests: wall clock, microseconds. */
  readonly nowUs?: () => number;
  /** For tests: monotonic, microseconds. */
  readonly elapsedUs?: () => number;
}

export interface Removed {
  readonly segments: number;
  readonly bytes: number;
}

interface Clock {
  /** Time of the log, microseconds since 1970. */
  readonly log_time_us: number;
  /** How long it has been followed, microseconds. */
  readonly lived_us: number;
}

const NOTHING: Removed = { segments: 0, bytes: 0 };

export class Retention {
  readonly #options: RetentionOptions;
  readonly #nowUs: () => number;
  readonly #elapsedUs: () => number;
  #lastUs: number;

  /** @throws RangeError without a required reader */
  constructor(options: RetentionOptions) {
    if (options.required.length === 0)
      throw new RangeError('retention needs a reader whose acknowledgements it waits for');
    this.#options = options;
    this.#nowUs = options.nowUs ?? (() => Date.now() * 1000);
    this.#elapsedUs = options.elapsedUs ?? (() => performance.now() * 1000);
    this.#lastUs = this.#elapsedUs();
  }

  /** Removes what may go now. @throws Error of the file system */
  run(): Removed {
    const clock = this.#advance();
    // A clock that was wrong at the beginning has been mended by then, or never.
    if (clock === null || clock.lived_us < this.#options.keepUs) return NOTHING;
    let segments = 0;
    let bytes = 0;
    for (const topic of REMOVED_TOPICS) {
      for (const instance of listInstances(this.#options.journalDir, topic)) {
        const removed = this.#removeOf(topic, instance, clock.log_time_us - this.#options.keepUs);
        segments += removed.segments;
        bytes += removed.bytes;
      }
    }
    return { segments, bytes };
  }

  #removeOf(topic: Topic, instance: string, beforeUs: number): Removed {
    const names = listSegments(join(this.#options.journalDir, instance, topic));
    const held = this.#heldFrom(topic, instance, names);
    const old: SegmentName[] = [];
    for (const name of names.slice(0, held)) {
      const time = lastTimeOf(name, topic);
      // One whose time cannot be read goes with the next that can.
      if (time !== null && time > beforeUs) break;
      old.push(name);
    }
    while (old.length > 0 && lastTimeOf(old.at(-1)!, topic) === null) old.pop();
    let bytes = 0;
    for (const name of old) {
      bytes += statSync(name.path).size;
      rmSync(name.path, { force: true });
      // A sidecar that is left alone by a crash is removed by the next writer.
      rmSync(name.indexPath, { force: true });
      rmSync(name.packedIndexPath, { force: true });
    }
    if (old.length > 0) {
      const { log, keepUs } = this.#options;
      log(
        `journal: ${old.length} segments of ${topic} of ${instance} (${Math.ceil(bytes / 1048576)} MiB) are acknowledged and older than ${keepUs / DAY_US} days; removed`,
      );
    }
    return { segments: old.length, bytes };
  }

  /** Number of the oldest segments that no required reader, nor the writer, holds. */
  #heldFrom(topic: Topic, instance: string, names: readonly SegmentName[]): number {
    let free = names.length - 1;
    for (const reader of this.#options.required) {
      if (free <= 0) return 0;
      free = Math.min(free, standsIn(names, reader.load(topic, instance)));
    }
    return Math.max(0, free);
  }

  /** Moves the log's clock on and stores it. @returns null where the log is empty */
  #advance(): Clock | null {
    const now = this.#elapsedUs();
    const elapsedUs = Math.max(0, now - this.#lastUs);
    this.#lastUs = now;
    const newest = this.#newestUs();
    if (newest === null) return null;
    const reached = Math.min(newest, this.#nowUs());
    const before = this.#load();
    const clock: Clock =
      before === null
        ? { log_time_us: reached, lived_us: 0 }
        : {
            log_time_us: Math.min(reached, before.log_time_us + Math.floor(elapsedUs * CATCH_UP)),
            lived_us: before.lived_us + Math.floor(elapsedUs),
          };
    const { stateFile } = this.#options;
    try {
      writeFileSync(`${stateFile}.new`, `${JSON.stringify(clock)}\n`);
      renameSync(`${stateFile}.new`, stateFile);
    } catch (error) {
      // A full disk is when room is wanted most. What is not stored is waited for again: that keeps more, never less.
      this.#options.log(`journal: ${stateFile} cannot be written: ${errorLine(error)}`);
    }
    return clock;
  }

  #load(): Clock | null {
    try {
      const clock = JSON.parse(readFileSync(this.#options.stateFile, 'utf8')) as Clock;
      return Number.isSafeInteger(clock.log_time_us) && Number.isSafeInteger(clock.lived_us) ? clock : null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#options.log(
          `journal: ${this.#options.stateFile}: ${errorLine(error)}; segments are kept as if nothing were known`,
        );
      }
      return null;
    }
  }

  /** Time of the newest record, of all writers and topics. */
  #newestUs(): number | null {
    const { journalDir } = this.#options;
    let newest: number | null = null;
    for (const topic of TOPICS) {
      for (const instance of listInstances(journalDir, topic)) {
        const last = listSegments(join(journalDir, instance, topic)).at(-1);
        const time = last === undefined ? null : lastTimeOf(last, topic);
        if (time !== null && (newest === null || time > newest)) newest = time;
      }
    }
    return newest;
  }
}

/** Index of the segment in which a reader stands: it has all before it behind it. 0 where that is not known. */
function standsIn(names: readonly SegmentName[], position: Position | null): number {
  const [run, sequence] = position?.split(':') ?? [];
  for (let i = names.length - 1; i >= 0; i--) {
    const name = names[i]!;
    if (name.run !== run) continue;
    const segment = SegmentReader.open(name, () => null);
    if (typeof segment === 'string') continue;
    const { firstSequence } = segment.head;
    segment.close();
    if (firstSequence <= Number(sequence)) return i;
  }
  return 0;
}

/** Time of a segment's last record, microseconds; null where it cannot be read. */
function lastTimeOf(name: SegmentName, topic: Topic): number | null {
  const segment = SegmentReader.open(name, () => null);
  if (typeof segment === 'string') return null;
  try {
    return timeAt(segment, topic, segment.endSequence() - 1);
  } catch {
    return null;
  } finally {
    segment.close();
  }
}
