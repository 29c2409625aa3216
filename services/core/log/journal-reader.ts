/**
 * One partition of the journal (one instance's directory of a topic) read from a position on, across segments and runs.
 * Positions are `run:sequence` of the next record.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import type { Damage, Position, RecordBatch, StoredRecord } from './event-log.ts';
import { listSegments, type SegmentName } from './journal-files.ts';
import { type SchemaSource, SegmentReader } from './segment-reader.ts';

/** What is read from a segment at once, besides a block larger than that. */
const FILL_BYTES = 1024 * 1024;
/** What a Damage carries at most; the rest stays in the file. */
const DAMAGE_BYTES = 1024 * 1024;
/** Names that appear within this time of a listing may share its directory's time stamp (kernel tick), milliseconds. */
const STAMP_SLACK_MS = 50;

interface Place {
  readonly run: string;
  readonly sequence: number;
}

/** @throws PoolError internal where the text is no position of a journal */
function parsePosition(position: Position): Place {
  const match = /^([0-9a-f]{16}):(\d{1,16})$/.exec(position);
  if (match === null) throw new PoolError('internal', `not a position of the journal: ${JSON.stringify(position)}`);
  return { run: match[1]!, sequence: Number(match[2]) };
}

/** Damage in its place among the records, with the position behind it. */
interface DamageItem {
  readonly damage: Damage;
  readonly after: Position | null;
}

/** Its position is made when it is asked for: of most records nobody does, and it costs as much as the rest of the object. */
class JournalRecord implements StoredRecord {
  readonly topic: Topic;
  readonly instance: string;
  readonly fingerprint: string;
  readonly body: Buffer;
  readonly run: string;
  readonly sequence: number;

  constructor(topic: Topic, instance: string, fingerprint: string, body: Buffer, run: string, sequence: number) {
    this.topic = topic;
    this.instance = instance;
    this.fingerprint = fingerprint;
    this.body = body;
    this.run = run;
    this.sequence = sequence;
  }

  get partition(): string {
    return this.instance;
  }

  get position(): Position {
    return `${this.run}:${this.sequence}`;
  }
}

export class PartitionReader {
  readonly topicDir: string;
  readonly #topic: Topic;
  readonly #instance: string;
  readonly #schemas: SchemaSource;
  readonly #seenSchema: (fingerprint: string, text: string) => void;
  #names: SegmentName[] = [];
  #listedAt = 0;
  #listedStamp = -1n;
  #segment: SegmentReader | null = null;
  #queue: (StoredRecord | DamageItem)[] = [];
  #queueAt = 0;
  /** The position that the next read is expected to name; anything else is a seek. */
  #at: Position | null | undefined = undefined;
  /** Records of the present run before this sequence were read already. */
  #skipBelow = 0;
  /** Damage that no position leads past, so that it is reported once and not at every look. */
  readonly #reported = new Set<string>();

  constructor(
    dir: string,
    instance: string,
    topic: Topic,
    schemas: SchemaSource,
    seenSchema: (fingerprint: string, text: string) => void,
  ) {
    this.topicDir = join(dir, instance, topic);
    this.#instance = instance;
    this.#topic = topic;
    this.#schemas = schemas;
    this.#seenSchema = seenSchema;
  }

  /** What is there from a position on, without waiting. */
  take(from: Position | null, maxRecords: number): RecordBatch {
    if (from !== this.#at) this.#reset(from);
    const records: StoredRecord[] = [];
    const damage: Damage[] = [];
    let next = from;
    let last: StoredRecord | null = null;
    while (records.length < maxRecords) {
      const item = this.#queue[this.#queueAt];
      if (item === undefined) {
        // What is at hand is delivered before more is read: a batch is bounded by FILL_BYTES as well.
        if (records.length > 0 || !this.#fill(next)) break;
        continue;
      }
      this.#queueAt++;
      if ('damage' in item) {
        damage.push(item.damage);
        next = item.after;
        last = null;
      } else {
        records.push(item);
        last = item;
      }
    }
    if (last !== null) next = `${last.run}:${last.sequence + 1}`;
    this.#at = next;
    return { records, damage, next };
  }

  /** Records behind a position that the sidecars name. */
  lag(from: Position | null): number {
    this.#list(true);
    const place = from === null ? null : parsePosition(from);
    const lastOfRun = place === null ? -1 : this.#names.findLastIndex((name) => name.run === place.run);
    let count = 0;
    // From the newest on: a journal of years is not looked through for a reader that is nearly at its end.
    for (let i = this.#names.length - 1; i >= 0; i--) {
      const name = this.#names[i]!;
      const ofRun = place !== null && name.run === place.run;
      if (i <= lastOfRun && !ofRun) continue;
      const segment = SegmentReader.open(name, this.#schemas);
      if (typeof segment === 'string') continue;
      const first = segment.head.firstSequence;
      count += Math.max(0, segment.endSequence() - (ofRun ? Math.max(first, place.sequence) : first));
      segment.close();
      if (ofRun && first <= place.sequence) break;
    }
    return count;
  }

  close(): void {
    this.#segment?.close();
    this.#segment = null;
    this.#at = undefined;
    this.#queue = [];
    this.#queueAt = 0;
  }

  #reset(from: Position | null): void {
    this.close();
    this.#at = from;
    this.#skipBelow = 0;
  }

  /** Puts what comes next into the queue. @returns false where there is nothing (yet) */
  #fill(at: Position | null): boolean {
    this.#queue = [];
    this.#queueAt = 0;
    if (this.#segment === null && !this.#openFirst(at)) return this.#queue.length > 0;
    for (;;) {
      const segment = this.#segment!;
      const following = this.#following(segment.name);
      const pieces = segment.next(following !== undefined, FILL_BYTES);
      for (const piece of pieces) {
        if (piece.kind === 'damage') {
          // The damaged head of a segment has no records of its own and is reported where reading begins at it.
          if (piece.nextSequence <= this.#skipBelow && piece.nextSequence > piece.sequence) continue;
          const after = `${segment.name.run}:${piece.nextSequence}`;
          this.#queue.push(this.#damage(segment.name.run, piece.sequence, piece.reason, piece.bytes, after));
          continue;
        }
        let sequence = piece.sequence;
        for (const body of piece.records) {
          if (sequence >= this.#skipBelow) this.#queue.push(this.#record(segment, body, sequence));
          sequence++;
        }
      }
      if (this.#queue.length > 0) return true;
      // Blocks that were all read already.
      if (pieces.length > 0) continue;
      if (following !== undefined) {
        if (!this.#advance(segment, following)) return this.#queue.length > 0;
        if (this.#queue.length > 0) return true;
        continue;
      }
      // Nothing at the tail: has a newer segment appeared? Then this one is final and is read once more as such.
      if (!this.#list(false) || this.#following(segment.name) === undefined) return false;
    }
  }

  /** Opens the segment that holds a position. @returns false where there is none yet */
  #openFirst(at: Position | null): boolean {
    this.#list(true);
    if (this.#names.length === 0) return false;
    if (at === null) return this.#openFrom(0, null);
    const place = parsePosition(at);
    const ofRun = this.#names.flatMap((name, i) => (name.run === place.run ? [i] : []));
    if (ofRun.length === 0) {
      const reason = `run ${place.run} is not in the journal any more; reading goes on with the oldest segment`;
      this.#reportOnce(place.run, place.run, place.sequence, reason, at);
      return this.#openFrom(0, null);
    }
    // The last segment of the run that begins at or before the position; heads that cannot be read are passed over.
    for (const i of ofRun.toReversed()) {
      const segment = this.#open(this.#names[i]!);
      if (typeof segment === 'string') continue;
      if (segment.head.firstSequence <= place.sequence || i === ofRun[0]) {
        segment.seek(place.sequence);
        this.#segment = segment;
        this.#skipBelow = place.sequence;
        const first = segment.head.firstSequence;
        if (first > place.sequence) {
          const reason = `records ${place.sequence} to ${first - 1} of run ${place.run} are not in the journal any more`;
          const after = `${place.run}:${first}`;
          this.#queue.push(this.#damage(place.run, place.sequence, reason, Buffer.alloc(0), after));
        }
        return true;
      }
      segment.close();
    }
    return this.#openFrom(ofRun[0]!, at);
  }

  /** Opens the first readable segment from an index on; those that cannot be read, and are not just being made, are damage. */
  #openFrom(index: number, after: Position | null): boolean {
    for (let i = index; i < this.#names.length; i++) {
      const name = this.#names[i]!;
      const segment = this.#open(name);
      if (typeof segment === 'object') {
        this.#segment = segment;
        this.#skipBelow = 0;
        return true;
      }
      // A head that is being written, or was torn and is not final.
      if (segment === 'short' && i === this.#names.length - 1) return false;
      if (segment === 'gone') continue;
      this.#reportOnce(name.path, name.run, 0, `the head of segment ${name.path} is damaged, and its sidecar`, after);
    }
    return false;
  }

  #reportOnce(key: string, run: string, sequence: number, reason: string, after: Position | null): void {
    if (this.#reported.has(key)) return;
    this.#reported.add(key);
    this.#queue.push(this.#damage(run, sequence, reason, Buffer.alloc(0), after));
  }

  /** Goes from a segment that was read to its end to the next. @returns false where that cannot be read yet */
  #advance(segment: SegmentReader, following: SegmentName): boolean {
    const { run } = segment.name;
    const end = segment.sequence;
    const index = this.#names.indexOf(following);
    const wanted = this.#skipBelow;
    const queued = this.#queue.length;
    if (!this.#openFrom(index, `${run}:${Math.max(end, wanted)}`)) {
      // Stay with the segment at hand until the next one has a head.
      return this.#queue.length > queued;
    }
    segment.close();
    const next = this.#segment!;
    const first = next.head.firstSequence;
    const after = `${next.name.run}:${first}`;
    const gap = (sequence: number, reason: string): void => {
      this.#queue.push(this.#damage(run, sequence, reason, Buffer.alloc(0), after));
    };
    if (next.name.run === run) {
      this.#skipBelow = wanted;
      if (first > Math.max(end, wanted)) gap(end, `records ${end} to ${first - 1} of run ${run} are missing`);
    } else if (wanted > end) {
      gap(wanted, `run ${run} ends at ${end}, before this position (a power cut?); reading goes on with the next run`);
    }
    return true;
  }

  #open(name: SegmentName): ReturnType<typeof SegmentReader.open> {
    const segment = SegmentReader.open(name, this.#schemas);
    if (typeof segment === 'object' && segment.head.schemaText !== null) {
      this.#seenSchema(segment.head.fingerprint, segment.head.schemaText);
    }
    return segment;
  }

  #following(name: SegmentName): SegmentName | undefined {
    const index = this.#names.findIndex((other) => other.path === name.path);
    return index < 0 ? this.#names.find((other) => other.ordinal > name.ordinal) : this.#names[index + 1];
  }

  /** Lists the segments again where the directory changed. @returns whether it did */
  #list(always: boolean): boolean {
    let stamp = -1n;
    try {
      stamp = statSync(this.topicDir, { bigint: true }).mtimeNs;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const fresh = this.#listedAt - Number(stamp / 1_000_000n) > STAMP_SLACK_MS;
    if (!always && stamp === this.#listedStamp && fresh) return false;
    this.#listedStamp = stamp;
    this.#listedAt = Date.now();
    this.#names = listSegments(this.topicDir);
    return true;
  }

  #record(segment: SegmentReader, body: Buffer, sequence: number): StoredRecord {
    return new JournalRecord(this.#topic, this.#instance, segment.head.fingerprint, body, segment.name.run, sequence);
  }

  #damage(run: string, sequence: number, reason: string, bytes: Buffer, after: Position | null): DamageItem {
    const cut = bytes.length > DAMAGE_BYTES;
    const damage = {
      topic: this.#topic,
      partition: this.#instance,
      position: `${run}:${sequence}`,
      reason: cut ? `${reason} (the first ${DAMAGE_BYTES} of ${bytes.length} bytes)` : reason,
      bytes: Buffer.from(cut ? bytes.subarray(0, DAMAGE_BYTES) : bytes),
    };
    return { damage, after };
  }
}
