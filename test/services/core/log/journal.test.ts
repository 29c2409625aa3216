import { appendFileSync, cpSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import avro from 'avsc';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { currentSchemaText, decoderFor, encodeEvent } from '../../../../schemas/codec.ts';
import type { Inputs } from '../../../../schemas/events.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import type {
  Damage,
  EncodedEvents,
  EventLog,
  Position,
  RecordBatch,
  StoredRecord,
} from '../../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../../services/core/log/journal.ts';
import { listSegments, type SegmentName } from '../../../../services/core/log/journal-files.ts';
import { INDEX_ENTRY_BYTES, INDEX_HEAD_BYTES, parseIndexEntry } from '../../../../services/core/log/segment-index.ts';
import { sampleBlock, sampleContract, sampleJob, sampleSession, shareEntries } from '../../../contracts/samples.ts';
import { SEED } from '../../../helpers/seed.ts';
import { tempJournal } from './journal-files.ts';
import { watchFiles } from './packing.ts';

let dir: string;
let remove: () => void;
let log: EventLog;
beforeEach(() => {
  ({ dir, remove } = tempJournal());
  log = openJournalLog({ dir });
});
afterEach(async () => {
  await log.close();
  remove();
});

const decodeShare = decoderFor('share');
/** The number with which `shareEntries` made a share. */
const numberOf = (record: StoredRecord): number => Number.parseInt(decodeShare(record.body).hash, 16);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const segments = (instance = 'a', topic = 'share'): SegmentName[] => listSegments(join(dir, instance, topic));

interface Everything {
  readonly records: StoredRecord[];
  readonly damage: Damage[];
  readonly next: Position | null;
}

/** All that is there now. */
async function everything(from: Position | null = null, maxRecords = 1000, source = log): Promise<Everything> {
  const records: StoredRecord[] = [];
  const damage: Damage[] = [];
  let next = from;
  for (;;) {
    const batch: RecordBatch = await source.read('share', 'a', next, { maxRecords, waitMs: 0 });
    records.push(...batch.records);
    damage.push(...batch.damage);
    next = batch.next;
    if (batch.records.length === 0 && batch.damage.length === 0) return { records, damage, next };
  }
}

/** Writes turns of shares in a run of their own. */
function writeRun(first: number, turns: readonly number[], segmentBytes?: number): string {
  const writer = openJournalWriter({ dir, instance: 'a', ...(segmentBytes === undefined ? {} : { segmentBytes }) });
  let next = first;
  for (const count of turns) {
    writer.append(shareEntries(next, count));
    next += count;
  }
  writer.close();
  return writer.run;
}

/** Opens and closes a writer, which mends what the last one left. @returns what it said */
function reopen(): string[] {
  const lines: string[] = [];
  openJournalWriter({ dir, instance: 'a', log: (line) => lines.push(line) }).close();
  return lines;
}

function refusal(run: () => unknown): PoolError {
  try {
    run();
  } catch (error) {
    if (error instanceof PoolError) return error;
    throw error;
  }
  throw new Error('not refused');
}

describe('events that come encoded', () => {
  /** As a caller that encodes by itself hands them over: more room in the buffer than is used. */
  function encoded(first: number, count: number): EncodedEvents {
    const bodies = shareEntries(first, count).map((entry) => encodeEvent('share', entry.event as Inputs['share']));
    const ends: number[] = [];
    for (const body of bodies) ends.push((ends.at(-1) ?? 0) + body.length);
    return { topic: 'share', bytes: Buffer.concat([...bodies, Buffer.alloc(99, 0xff)]), count, ends: [...ends, 0, 0] };
  }

  test('are read as the others, behind those of the same turn', async () => {
    const writer = openJournalWriter({ dir, instance: 'a' });
    writer.append(shareEntries(0, 3), encoded(3, 4));
    writer.append([], encoded(7, 0));
    writer.append([{ topic: 'session', event: sampleSession(1) }], encoded(7, 1));
    writer.append(shareEntries(8, 1), encoded(9, 0));
    // More than a block holds.
    writer.append([], encoded(9, 9_000));
    writer.close();
    const { records, damage } = await everything();
    expect(damage).toEqual([]);
    expect(records.map(numberOf)).toEqual(range(0, 9_009));
    expect(records.map((record) => record.sequence)).toEqual(range(0, 9_009));
    expect(reopen()).toEqual([]);
    expect((await everything()).records.length).toBe(9_009);
  });
});

describe('what is on the disk', () => {
  test('a segment is an Avro container file that another reader reads', async () => {
    const run = writeRun(0, [1, 16, 3]);
    const decoder = avro.createFileDecoder(segments()[0]!.path);
    const values: { hash: string }[] = [];
    let metadata: Record<string, Buffer> = {};
    decoder.on('metadata', (_type: unknown, _codec: unknown, header: { meta: Record<string, Buffer> }) => {
      metadata = header.meta;
    });
    for await (const value of decoder) values.push(value as { hash: string });
    expect(values.map(({ hash }) => Number.parseInt(hash, 16))).toEqual(range(0, 20));
    expect(JSON.parse(String(metadata['avro.schema']))).toEqual(JSON.parse(currentSchemaText('share')));
    expect(String(metadata['lodestream.instance'])).toBe('a');
    expect(String(metadata['lodestream.run'])).toBe(run);
    expect(String(metadata['lodestream.first_sequence'])).toBe('0');
  });

  test('each opening is a run and a segment of its own, and sequences begin at 0 in each run and topic', async () => {
    const runs = [writeRun(0, [2, 3]), writeRun(5, [4])];
    expect(runs[0]).toMatch(/^[0-9a-f]{16}$/);
    expect(segments().map(({ ordinal, run }) => [ordinal, run])).toEqual([
      [0, runs[0]],
      [1, runs[1]],
    ]);
    const { records } = await everything();
    expect(records.map(({ run, sequence }) => [run, sequence])).toEqual([
      ...range(0, 5).map((sequence) => [runs[0], sequence]),
      ...range(0, 4).map((sequence) => [runs[1], sequence]),
    ]);
  });

  test('an opening that appends nothing leaves no segment', () => {
    reopen();
    reopen();
    expect(segments()).toEqual([]);
  });

  test('a turn larger than a block is cut into blocks, and read in bites', async () => {
    writeRun(0, [10_000]);
    expect(indexEntries(segments()[0]!).length).toBeGreaterThan(2);
    const { records, damage } = await everything(null, 333);
    expect(damage).toEqual([]);
    expect(records.map(numberOf)).toEqual(range(0, 10_000));
  });

  test('segments follow one another within a run, and any position in them is found again', async () => {
    const run = writeRun(
      0,
      range(0, 200).map(() => 3),
      8 * 1024,
    );
    expect(segments().length).toBeGreaterThan(10);
    const { records } = await everything();
    expect(records.map(numberOf)).toEqual(range(0, 600));
    for (let sequence = 0; sequence < 600; sequence += 37) {
      const other = openJournalLog({ dir });
      const { records: rest } = await everything(`${run}:${sequence}`, 1000, other);
      expect(rest.map(numberOf)).toEqual(range(sequence, 600));
      expect(await other.lag('share', 'a', `${run}:${sequence}`)).toBe(600 - sequence);
      await other.close();
    }
  });

  test('topics of one turn lie in files of their own, a partition exists where its topic does', async () => {
    const writer = openJournalWriter({ dir, instance: 'a', fsync: true });
    writer.append([
      ...shareEntries(0, 2),
      { topic: 'session', event: sampleSession(1) },
      { topic: 'job', event: sampleJob(1) },
      { topic: 'contract', event: sampleContract(1) },
    ]);
    writer.append([]);
    for (const topic of ['share', 'session', 'job', 'contract'] as const) {
      expect(await log.partitions(topic)).toEqual(['a']);
      expect(await log.lag(topic, 'a', null)).toBe(topic === 'share' ? 2 : 1);
    }
    expect(await log.partitions('block')).toEqual([]);
    writer.close();
  });
});

function indexEntries(name: SegmentName) {
  const bytes = readFileSync(name.indexPath);
  const entries = [];
  for (let at = INDEX_HEAD_BYTES; at < bytes.length; at += INDEX_ENTRY_BYTES) {
    const entry = parseIndexEntry(bytes, at);
    if (entry !== null) entries.push(entry);
  }
  return entries;
}

describe('after a crash', () => {
  test('in the middle of a turn no share is there without the job, session and block of its turn, at once and after the next opening', async () => {
    const writer = openJournalWriter({ dir, instance: 'a' });
    const copies: string[] = [];
    const turns = (n: number): void => {
      // As they come in a turn: in any order.
      writer.append([
        ...shareEntries(n, 1),
        { topic: 'block', event: sampleBlock({ time_us: 1_700_000_000_000_000 + n }) },
        { topic: 'session', event: sampleSession(n) },
        { topic: 'job', event: sampleJob(n) },
      ]);
    };
    const end = watchFiles(() => {
      const copy = `${dir}-${copies.length}`;
      cpSync(dir, copy, { recursive: true, filter: (path) => !path.includes('lock.sqlite') });
      copies.push(copy);
    });
    try {
      turns(0);
      turns(1);
    } finally {
      end();
    }
    writer.close();
    const counts = async (of: string): Promise<number[]> => {
      const source = openJournalLog({ dir: of });
      const found: number[] = [];
      for (const topic of ['job', 'session', 'block', 'share'] as const) {
        const batch = await source.read(topic, 'a', null, { maxRecords: 10, waitMs: 0 });
        found.push(batch.records.length);
      }
      await source.close();
      return found;
    };
    const met = new Set<string>();
    for (const copy of copies) {
      const found = await counts(copy);
      openJournalWriter({ dir: copy, instance: 'a' }).close();
      for (const each of [found, await counts(copy)]) {
        expect(each, copy).toEqual([...each].sort((a, b) => b - a));
        met.add(each.join());
      }
      rmSync(copy, { recursive: true });
    }
    // Both turns died between two of their topics, and before and behind them.
    expect([...met]).toEqual(expect.arrayContaining(['0,0,0,0', '1,1,1,1', '2,1,1,1']));
  });

  test('a tail torn anywhere in the last block is cut at the last whole block, and said', async () => {
    writeRun(0, [2, 1, 3]);
    const name = segments()[0]!;
    const whole = readFileSync(name.path);
    const index = readFileSync(name.indexPath);
    const last = indexEntries(name).at(-1)!;
    for (let size = last.offset + 1; size < whole.length; size += 19) {
      writeFileSync(name.path, whole.subarray(0, size));
      writeFileSync(name.indexPath, index.subarray(0, index.length - INDEX_ENTRY_BYTES));
      expect((await everything()).records.map(numberOf)).toEqual(range(0, 3));
      expect(reopen().join('\n')).toMatch(/torn tail of \d+ bytes is cut; 3 is the next sequence/);
      expect(readFileSync(name.path)).toEqual(whole.subarray(0, last.offset));
      expect(reopen()).toEqual([]);
    }
    writeRun(3, [2]);
    const { records, damage } = await everything();
    expect(records.map(numberOf)).toEqual(range(0, 5));
    expect(damage).toEqual([]);
  });

  test('a block whose entry in the sidecar was not written any more is entered at the next opening', async () => {
    const run = writeRun(0, [2, 1, 3]);
    const name = segments()[0]!;
    const index = readFileSync(name.indexPath);
    for (const cut of [1, 31, 32, 50, 64, 96, index.length - INDEX_HEAD_BYTES + 10, index.length]) {
      writeFileSync(name.indexPath, index.subarray(0, index.length - cut));
      expect(reopen().join('\n')).toMatch(/whole and are entered|made again/);
      const { records, damage } = await everything();
      expect(damage).toEqual([]);
      expect(records.map(({ sequence }) => sequence)).toEqual(range(0, 6));
      expect(await log.lag('share', 'a', `${run}:2`)).toBe(4);
    }
    rmSync(name.indexPath);
    expect(reopen().join('\n')).toMatch(/made again from the segment/);
    expect(readFileSync(name.indexPath)).toEqual(index);
  });

  test('entries whose blocks a power cut took are cut, and positions in them are reported as beyond the end of their run', async () => {
    const run = writeRun(0, [1, 1, 1, 1]);
    const name = segments()[0]!;
    const { next } = await everything();
    expect(next).toBe(`${run}:4`);
    truncateSync(name.path, indexEntries(name)[2]!.offset + 5);
    expect(reopen().join('\n')).toMatch(/torn tail of 5 bytes is cut/);
    expect(indexEntries(name)).toHaveLength(2);
    // Nothing newer yet: the reader waits. (Each reader here is a new one, as after a power cut.)
    const waiting = openJournalLog({ dir });
    expect(await everything(next, 1000, waiting)).toEqual({ records: [], damage: [], next });
    const newer = writeRun(10, [2]);
    for (const reader of [waiting, openJournalLog({ dir })]) {
      const after = await everything(next, 1000, reader);
      expect(after.damage.map(({ position, reason }) => [position, reason.replace(/,.*/, '')])).toEqual([
        [`${run}:4`, `run ${run} ends at 2`],
      ]);
      expect(after.records.map(numberOf)).toEqual([10, 11]);
      expect(after.next).toBe(`${newer}:2`);
      await reader.close();
    }
  });

  test('a head that was torn is removed with its segment', async () => {
    writeRun(0, [1]);
    writeRun(1, [1]);
    const name = segments()[1]!;
    truncateSync(name.path, 40);
    writeFileSync(name.indexPath, '');
    expect((await everything()).records.map(numberOf)).toEqual([0]);
    expect(reopen().join('\n')).toMatch(/head was torn/);
    expect(segments()).toHaveLength(1);
    writeRun(2, [1]);
    const { records, damage } = await everything();
    expect(records.map(numberOf)).toEqual([0, 2]);
    expect(damage).toEqual([]);
  });

  test('what a crash left while a segment was made is no segment, and is removed at the next opening', async () => {
    writeRun(0, [2]);
    const name = segments()[0]!;
    const left = [`${name.path.replace('00000000', '00000001')}.new`, name.indexPath.replace('00000000', '00000001')];
    for (const path of left) writeFileSync(path, readFileSync(name.path).subarray(0, 50));
    const { records, damage } = await everything();
    expect([records.length, damage.length]).toEqual([2, 0]);
    expect(reopen()).toHaveLength(2);
    expect(left.filter((path) => existsSync(path))).toEqual([]);
    expect(segments()).toHaveLength(1);
  });

  test('a torn block in a segment that a later one follows is damage, with its bytes', async () => {
    const run = writeRun(0, [2, 3]);
    const name = segments()[0]!;
    const last = indexEntries(name)[1]!;
    const torn = readFileSync(name.path).subarray(last.offset, last.offset + 30);
    writeRun(5, [1]);
    truncateSync(name.path, last.offset + 30);
    const { records, damage } = await everything();
    expect(records.map(numberOf)).toEqual([0, 1, 5]);
    expect(damage).toMatchObject([{ position: `${run}:2`, bytes: torn }]);
    expect(damage[0]!.reason).toMatch(/ends inside a block/);
  });

  test('bytes behind the last block of a segment that a later one follows are damage', async () => {
    writeRun(0, [2]);
    appendFileSync(segments()[0]!.path, Buffer.alloc(100, 7));
    expect((await everything()).damage).toEqual([]);
    writeRun(2, [1]);
    // The opening in between has cut it: put it back as a second writer's crash could not.
    appendFileSync(segments()[0]!.path, Buffer.alloc(100, 7));
    const other = openJournalLog({ dir });
    const { records, damage } = await everything(null, 1000, other);
    await other.close();
    expect(records.map(numberOf)).toEqual([0, 1, 2]);
    expect(damage.map(({ bytes }) => bytes.length)).toEqual([100]);
  });

  test('a position in a run that is gone is reported, and reading begins at the oldest segment', async () => {
    writeRun(0, [2]);
    const { records, damage } = await everything('feedfacefeedface:7');
    expect(damage.map(({ position }) => position)).toEqual(['feedfacefeedface:7']);
    expect(records.map(numberOf)).toEqual([0, 1]);
  });

  test('a text that is no position is a fault of the caller', async () => {
    writeRun(0, [1]);
    await expect(log.read('share', 'a', '12', { maxRecords: 1, waitMs: 0 })).rejects.toMatchObject({
      code: 'internal',
    });
  });
});

describe(`bit rot (SEED=${SEED})`, () => {
  test('a flipped bit costs the block that it is in, is reported with position and bytes, and no record is altered', async () => {
    const turns = [1, 5, 1, 1, 30, 2, 1, 1, 8, 1];
    const run = writeRun(0, turns);
    const name = segments()[0]!;
    const original = readFileSync(name.path);
    const entries = indexEntries(name);
    const total = turns.reduce((sum, count) => sum + count, 0);
    const bodies = (await everything()).records.map(({ body }) => Buffer.from(body));
    const property = fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: entries[0]!.offset * 8, max: original.length * 8 - 1 }), { maxLength: 5 }),
      async (bits) => {
        const bytes = Buffer.from(original);
        for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
        writeFileSync(name.path, bytes);
        const hit = entries.filter(({ offset, lengthBytes }) =>
          bits.some((bit) => bit >> 3 >= offset && bit >> 3 < offset + lengthBytes),
        );
        const lost = new Set(hit.flatMap(({ firstSequence, count }) => range(firstSequence, firstSequence + count)));
        const reader = openJournalLog({ dir });
        const { records, damage } = await everything(null, 7, reader);
        await reader.close();
        expect(records.map(({ sequence }) => sequence)).toEqual(range(0, total).filter((n) => !lost.has(n)));
        for (const record of records) expect(record.body.equals(bodies[record.sequence]!)).toBe(true);
        expect(damage.map(({ position, bytes: kept }) => [position, kept.length])).toEqual(
          hit.map(({ firstSequence, lengthBytes }) => [`${run}:${firstSequence}`, lengthBytes]),
        );
      },
    );
    await fc.assert(property, { numRuns: 150, seed: SEED });
    // A writer that opens afterwards leaves rot where it is: it is no torn tail.
    const rotten = Buffer.from(original);
    rotten[original.length - 30]! ^= 1;
    writeFileSync(name.path, rotten);
    reopen();
    expect(readFileSync(name.path)).toEqual(rotten);
  });

  test('flipped bits in the sidecar cost nothing: the segment is read by its own structure', async () => {
    const turns = [1, 5, 1, 1, 30, 2, 1, 1, 8, 1];
    writeRun(0, turns);
    const name = segments()[0]!;
    writeRun(51, [1]); // so that the first segment is final
    const original = readFileSync(name.indexPath);
    const property = fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: 0, max: original.length * 8 - 1 }), { maxLength: 40 }),
      async (bits) => {
        const bytes = Buffer.from(original);
        for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
        writeFileSync(name.indexPath, bytes);
        const reader = openJournalLog({ dir });
        const { records, damage } = await everything(null, 7, reader);
        await reader.close();
        expect(damage).toEqual([]);
        expect(records.map(numberOf)).toEqual(range(0, 52));
      },
    );
    await fc.assert(property, { numRuns: 150, seed: SEED });
  });

  test('bits flipped anywhere in segments and sidecars cost what they hit, which is reported; the rest is read as it was', async () => {
    const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 8_000 });
    let next = 0;
    for (const count of [1, 5, 1, 1, 12, 2, 1, 1, 8, 1, 3, 1, 1, 20, 1, 1, 1, 1, 1, 1]) {
      writer.append(shareEntries(next, count));
      next += count;
    }
    writer.close();
    const names = segments();
    expect(names.length).toBeGreaterThan(3);
    const files = names.flatMap((name) => [name.path, name.indexPath]);
    const originals = files.map((path) => readFileSync(path));
    const blocks = names.map((name) => indexEntries(name));
    const bodies = (await everything()).records.map(({ body }) => Buffer.from(body));
    expect(bodies).toHaveLength(next);
    // So that the last of them is final too.
    writeRun(next, [1]);
    const totalBits = originals.reduce((sum, { length }) => sum + length * 8, 0);
    // As often in a sidecar as in a segment, though that is many times as large.
    const places = fc.oneof(
      fc.integer({ min: 0, max: totalBits - 1 }).map((bit) => {
        let file = 0;
        let rest = bit;
        for (; rest >= originals[file]!.length * 8; file++) rest -= originals[file]!.length * 8;
        return { file, bit: rest };
      }),
      fc
        .tuple(fc.nat({ max: names.length - 1 }), fc.nat())
        .map(([segment, n]) => ({ file: segment * 2 + 1, bit: n % (originals[segment * 2 + 1]!.length * 8) })),
    );
    let read = 0;
    let lost = 0;
    const property = fc.asyncProperty(fc.array(places, { minLength: 1, maxLength: 6 }), async (flips) => {
      const rotten = originals.map((bytes) => Buffer.from(bytes));
      for (const { file, bit } of flips) rotten[file]![bit >> 3]! ^= 1 << (bit & 7);
      for (const [i, path] of files.entries()) writeFileSync(path, rotten[i]!);
      const same = (file: number, from: number, to: number): boolean =>
        rotten[file]!.subarray(from, to).equals(originals[file]!.subarray(from, to));
      /** Records that must be read, that must be reported, and of which nothing is sure: their block is hit and has no checksum. */
      const sure = new Set<number>();
      const reported = new Set<number>();
      for (const [i, entries] of blocks.entries()) {
        const headless = !same(i * 2 + 1, 0, INDEX_HEAD_BYTES);
        const whole = entries.map(({ offset, lengthBytes }) => same(i * 2, offset, offset + lengthBytes));
        const named = entries.map((_, n) =>
          same(i * 2 + 1, INDEX_HEAD_BYTES + n * INDEX_ENTRY_BYTES, INDEX_HEAD_BYTES + (n + 1) * INDEX_ENTRY_BYTES),
        );
        const lostSegment = headless && !same(i * 2, 0, entries[0]!.offset);
        for (let n = 0; n < entries.length; n++) {
          const { firstSequence, count } = entries[n]!;
          const sequences = range(firstSequence, firstSequence + count);
          if (lostSegment) continue;
          if (named[n] && !headless) {
            for (const sequence of sequences) (whole[n] ? sure : reported).add(sequence);
            continue;
          }
          // Read by structure, together with those beside it that have no entry either.
          let [from, to] = [n, n];
          while (from > 0 && (headless || !named[from - 1])) from--;
          while (to + 1 < entries.length && (headless || !named[to + 1])) to++;
          if (whole.slice(from, to + 1).every(Boolean)) for (const sequence of sequences) sure.add(sequence);
        }
      }
      const reader = openJournalLog({ dir });
      const { records: all, damage } = await everything(null, 7, reader);
      await reader.close();
      expect(numberOf(all.at(-1)!)).toBe(next);
      const records = all.filter(({ run }) => run === writer.run);
      const got = new Set(records.map(({ sequence }) => sequence));
      for (const sequence of sure) expect(got.has(sequence)).toBe(true);
      for (const sequence of reported) expect(got.has(sequence)).toBe(false);
      for (const { sequence, body } of records) {
        if (sure.has(sequence)) expect(body.equals(bodies[sequence]!)).toBe(true);
      }
      expect(records.map(({ sequence }) => sequence)).toEqual([...got].sort((a, b) => a - b));
      if (reported.size > 0) expect(damage.length).toBeGreaterThan(0);
      const said = damage.map(({ position }) => Number(position.split(':')[1]));
      for (const entries of blocks) {
        for (const { firstSequence } of entries) if (reported.has(firstSequence)) expect(said).toContain(firstSequence);
      }
      read += got.size;
      lost += reported.size;
    });
    await fc.assert(property, { numRuns: 300, seed: SEED });
    expect(read).toBeGreaterThan(lost * 3);
    expect(lost).toBeGreaterThan(300);
  });

  test('a damaged head of a segment is reported, and its blocks are read by the sidecar', async () => {
    const run = writeRun(0, [2, 3]);
    const name = segments()[0]!;
    const bytes = readFileSync(name.path);
    for (const at of [0, 100, indexEntries(name)[0]!.offset - 5]) {
      const rotten = Buffer.from(bytes);
      rotten[at]! ^= 0x10;
      writeFileSync(name.path, rotten);
      const reader = openJournalLog({ dir });
      const { records, damage } = await everything(null, 1000, reader);
      expect(records.map(numberOf)).toEqual(range(0, 5));
      expect(damage).toMatchObject([{ position: `${run}:0` }]);
      expect(damage[0]!.reason).toMatch(/head of the segment is damaged/);
      // Not again behind it.
      expect((await everything(`${run}:2`, 1000, reader)).damage).toEqual([]);
      await reader.close();
    }
  });

  test('a segment without a readable head or sidecar is reported once, and the others are read', async () => {
    writeRun(0, [2]);
    writeRun(2, [2]);
    writeRun(4, [2]);
    for (const name of segments().slice(1, 2)) {
      writeFileSync(name.path, Buffer.alloc(5000, 1));
      writeFileSync(name.indexPath, Buffer.alloc(500, 1));
    }
    const { records, damage } = await everything();
    expect(records.map(numberOf)).toEqual([0, 1, 4, 5]);
    expect(damage).toHaveLength(1);
  });
});

describe('who may write', () => {
  test('a second writer of an instance is refused, another instance is not', () => {
    const writer = openJournalWriter({ dir, instance: 'a' });
    expect(refusal(() => openJournalWriter({ dir, instance: 'a' })).code).toBe('held');
    openJournalWriter({ dir, instance: 'b' }).close();
    writer.close();
    openJournalWriter({ dir, instance: 'a' }).close();
  });

  test('an instance whose name is not safe as a file name is refused', () => {
    for (const instance of ['', '.', '..', '../x', 'a/b', '-a', 'a b', 'ä', 'a\0', 'x'.repeat(65)]) {
      expect(refusal(() => openJournalWriter({ dir, instance })).code).toBe('config');
      expect(refusal(() => openJournalLog({ dir, instance })).code).toBe('config');
    }
    openJournalWriter({ dir, instance: 'pool-0.rack_7' }).close();
  });

  test('a directory that cannot be made is refused as data_dir', () => {
    writeFileSync(join(dir, 'file'), '');
    const error = refusal(() => openJournalWriter({ dir: join(dir, 'file', 'journal'), instance: 'a' }));
    expect(error.code).toBe('data_dir');
    expect(error.message).toContain(join(dir, 'file', 'journal', 'a'));
  });

  test('a writer that was closed refuses to append', () => {
    const writer = openJournalWriter({ dir, instance: 'a' });
    writer.close();
    writer.close();
    expect(refusal(() => writer.append(shareEntries(0, 1))).code).toBe('journal_closed');
  });
});

test('with fsync, write leaves the sync to sync, and append does not; contract facts are never left', async () => {
  const writer = openJournalWriter({ dir, instance: 'a', fsync: true, segmentBytes: 2000 });
  expect(writer.write(shareEntries(0, 3))).toBe(true);
  const first = writer.sync();
  // Segments end and begin while it is on its way.
  for (let i = 3; i < 60; i += 3) expect(writer.write(shareEntries(i, 3))).toBe(true);
  await first;
  await writer.sync();
  writer.append(shareEntries(60, 3));
  expect(writer.write([{ topic: 'contract', event: sampleContract(1) }])).toBe(false);
  writer.close();
  expect((await everything()).records.map(numberOf)).toEqual(range(0, 63));
  expect(segments().length).toBeGreaterThan(3);
});
