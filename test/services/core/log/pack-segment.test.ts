/** Packed segments: what readers see of them, before, while and after they take the place of the plain ones. */
import {
  appendFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import avro from 'avsc';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decoderFor } from '../../../../schemas/codec.ts';
import type { Damage, Position, StoredRecord } from '../../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../../services/core/log/journal.ts';
import { listSegments, type SegmentName } from '../../../../services/core/log/journal-files.ts';
import { PartitionReader } from '../../../../services/core/log/journal-reader.ts';
import { positionSince } from '../../../../services/core/log/journal-since.ts';
import { drop, exchange, prepare, settle } from '../../../../services/core/log/pack-segment.ts';
import { closedSegments } from '../../../../services/core/log/packer.ts';
import { Retention } from '../../../../services/core/log/retention.ts';
import {
  INDEX_ENTRY_BYTES,
  INDEX_HEAD_BYTES,
  type IndexEntry,
  parseIndexEntry,
} from '../../../../services/core/log/segment-index.ts';
import { sampleJob, shareEntries } from '../../../contracts/samples.ts';
import { SEED } from '../../../helpers/seed.ts';
import { tempJournal } from './journal-files.ts';
import { endings, packTopic, prepareNow, watchFiles } from './packing.ts';

let dir: string;
let remove: () => void;
beforeEach(() => {
  ({ dir, remove } = tempJournal());
});
afterEach(() => remove());

const decodeShare = decoderFor('share');
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const segments = (topic = 'share'): SegmentName[] => listSegments(join(dir, 'a', topic));
/** Ends each segment after some ten shares. */
const SEGMENT_BYTES = 7_000;

/** Writes turns of shares, numbered from `first`, in a run of their own. */
function writeRun(first: number, turns: readonly number[], segmentBytes = SEGMENT_BYTES): string {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes });
  let next = first;
  for (const count of turns) {
    writer.append(shareEntries(next, count));
    next += count;
  }
  writer.close();
  return writer.run;
}

/** Three runs of several segments, 150 shares. */
function writeRuns(): void {
  writeRun(0, [1, 5, 1, 9, 12, 2, 1, 1, 8, 10]);
  writeRun(
    50,
    range(0, 25).map(() => 2),
  );
  writeRun(
    100,
    range(0, 50).map(() => 1),
  );
}

interface Everything {
  readonly records: StoredRecord[];
  readonly damage: Damage[];
}

const newReader = (): PartitionReader =>
  new PartitionReader(
    dir,
    'a',
    'share',
    () => null,
    () => {},
  );

/** All that is there now, by a reader of its own. */
function everything(from: Position | null = null, reader = newReader(), most = 1000): Everything {
  const records: StoredRecord[] = [];
  const damage: Damage[] = [];
  let next = from;
  for (;;) {
    const batch = reader.take(next, most);
    records.push(...batch.records);
    damage.push(...batch.damage);
    next = batch.next;
    if (batch.records.length === 0 && batch.damage.length === 0) {
      reader.close();
      return { records, damage };
    }
  }
}

/** What of a record must stay the same. */
const seen = ({ position, fingerprint, body }: StoredRecord): string =>
  `${position} ${fingerprint} ${body.toString('hex')}`;

/** Reads as it did before, from everywhere. */
function expectSame(before: readonly string[], positions: readonly Position[] = []): void {
  const { records, damage } = everything();
  expect(damage).toEqual([]);
  expect(records.map(seen)).toEqual(before);
  for (const position of positions) {
    const rest = everything(position);
    expect(rest.damage).toEqual([]);
    expect(rest.records.map(seen)).toEqual(before.slice(before.findIndex((line) => line.startsWith(`${position} `))));
  }
}

test('a packed journal reads as it did, from its beginning and from every position, and the newest segment stays plain', async () => {
  writeRuns();
  const { records } = everything();
  expect(records.map(({ body }) => Number.parseInt(decodeShare(body).hash, 16))).toEqual(range(0, 150));
  const before = records.map(seen);
  const count = segments().length;
  const lags = records.map(({ position }) => newReader().lag(position));
  expect(await packTopic(dir)).toBe(count - 1);
  expect(endings(dir)).toEqual({ avro: count, zdx: count - 1, idx: 1 });
  expectSame(
    before,
    records.map(({ position }) => position),
  );
  expect(records.map(({ position }) => newReader().lag(position))).toEqual(lags);
  expect(await packTopic(dir)).toBe(0);
});

test('packed and plain segments stand side by side, and what is appended afterwards is read on', async () => {
  writeRuns();
  const reader = newReader();
  const first = reader.take(null, 1000);
  let read = [...first.records];
  let next = first.next;
  const readOn = (): void => {
    for (;;) {
      const batch = reader.take(next, 10);
      expect(batch.damage).toEqual([]);
      read = read.concat(batch.records);
      next = batch.next;
      if (batch.records.length === 0) return;
    }
  };
  // Every other one.
  for (const name of segments()
    .slice(0, -1)
    .filter((_, i) => i % 2 === 0))
    await exchange(prepareNow(name));
  readOn();
  writeRun(150, [3, 3, 30, 3]);
  readOn();
  await packTopic(dir);
  writeRun(189, [3]);
  readOn();
  expect(read.map(({ body }) => Number.parseInt(decodeShare(body).hash, 16))).toEqual(range(0, 192));
  expectSame(read.map(seen));
});

test('a packed segment is a quarter of the plain one at most, with its schema, run and instance, for those who may read the plain one', async () => {
  writeRun(
    0,
    range(0, 40).map(() => 50),
    10_000_000,
  );
  writeRun(2000, [1]);
  const [name] = segments();
  const { size, mode } = statSync(name!.path);
  const prepared = prepareNow(name!, 500);
  expect(prepared).toMatchObject({ records: 2000 });
  expect(prepared.plainBytes).toBeGreaterThan(size);
  expect(await exchange(prepared)).toBe(true);
  const after = statSync(name!.path);
  expect([after.mode, statSync(name!.packedIndexPath).mode]).toEqual([mode, mode]);
  expect(after.size + statSync(name!.packedIndexPath).size).toBe(prepared.packedBytes);
  expect(prepared.packedBytes * 4).toBeLessThan(prepared.plainBytes);
});

test('avsc reads a packed segment with zstd as its codec', async () => {
  writeRuns();
  await packTopic(dir);
  const hashes: number[] = [];
  for (const name of segments().slice(0, -1)) {
    const zstandard = (bytes: Buffer, done: (error: Error | null, body?: Buffer) => void): void =>
      done(null, zstdDecompressSync(bytes));
    const decoder = new avro.streams.BlockDecoder({ codecs: { zstandard } as never });
    decoder.end(readFileSync(name.path));
    for await (const share of decoder) hashes.push(Number.parseInt((share as { hash: string }).hash, 16));
  }
  expect(hashes).toEqual(range(0, hashes.length));
  expect(hashes.length).toBeGreaterThan(100);
});

test('how far a reader is behind is told without a look at what it has behind it', async () => {
  writeRuns();
  await packTopic(dir);
  const { records } = everything();
  let opened = 0;
  const end = watchFiles((call) => {
    if (call === 'openSync') opened++;
  }, true);
  const { run, sequence } = records.at(-1)!;
  expect(newReader().lag(`${run}:${sequence + 1}`)).toBe(0);
  // A container and its sidecar.
  expect(opened).toBe(2);
  expect(newReader().lag(null)).toBe(150);
  expect(opened).toBe(2 + 2 * segments().length);
  end();
});

test('where an instant begins is found in packed segments too', async () => {
  writeRuns();
  const times = [0, 1, 42, 77, 149].map((n) => 1_700_000_000_000_000 + n);
  const before = times.map((time) => positionSince(dir, 'a', 'share', time));
  await packTopic(dir);
  expect(times.map((time) => positionSince(dir, 'a', 'share', time))).toEqual(before);
});

describe('what is not packed', () => {
  const refusal = (name: SegmentName): string => {
    try {
      prepareNow(name);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };

  test('damage of any kind leaves a segment as it is, to the byte, and no file beside it', () => {
    const damages: [RegExp, (name: SegmentName) => void][] = [
      [/checksum/, ({ path }) => flip(path, statSync(path).size - 40)],
      [/head is damaged/, ({ path }) => flip(path, 100)],
      [/ends inside a block/, ({ path }) => truncateSync(path, statSync(path).size - 5)],
      [/has no checksum|checksum differs|are missing/, ({ indexPath }) => flip(indexPath, INDEX_HEAD_BYTES + 3)],
      [/damage at sequence/, ({ path }) => appendFileSync(path, 'more')],
      [/has no checksum/, ({ indexPath }) => truncateSync(indexPath, statSync(indexPath).size - INDEX_ENTRY_BYTES)],
    ];
    writeRun(
      0,
      range(0, 200).map(() => 2),
    );
    for (const [i, [pattern, damage]] of damages.entries()) {
      const name = segments()[i]!;
      damage(name);
      const before = [readFileSync(name.path), readFileSync(name.indexPath)];
      expect(refusal(name)).toMatch(pattern);
      expect([readFileSync(name.path), readFileSync(name.indexPath)]).toEqual(before);
    }
    expect(Object.keys(endings(dir)).sort()).toEqual(['avro', 'idx']);
  });

  test('one without a sidecar, or packed already, is refused, and a packed one keeps its sidecar', async () => {
    writeRuns();
    const [first, second] = segments();
    await exchange(prepareNow(first!));
    expect(refusal(first!)).toBe('it is gone, or its sidecar');
    writeFileSync(first!.indexPath, '');
    expect(refusal(first!)).toBe('it is packed already');
    drop(first!);
    expect(existsSync(first!.packedIndexPath)).toBe(true);
    rmSync(second!.indexPath);
    expect(refusal(second!)).toBe('it is gone, or its sidecar');
  });

  test('only what has a later segment with something in it is closed', () => {
    writeRun(
      0,
      range(0, 30).map(() => 2),
    );
    const names = segments();
    expect(closedSegments(names)).toEqual(names.slice(0, -1));
    const last = names.at(-1)!;
    // Made, and nothing in it yet: its writer may still fall back to the one before.
    truncateSync(last.indexPath, INDEX_HEAD_BYTES);
    expect(closedSegments(names)).toEqual(names.slice(0, -2));
    expect(closedSegments(names.slice(0, 1))).toEqual([]);
    expect(closedSegments([])).toEqual([]);
  });

  test('a segment that changed while it was packed is not exchanged, and nothing is left beside it', async () => {
    writeRuns();
    const before = everything().records.map(seen);
    const changes: ((name: SegmentName) => void)[] = [
      ({ path }) => utimesSync(path, new Date(), new Date(Date.now() + 5000)),
      ({ indexPath }) => appendFileSync(indexPath, Buffer.alloc(INDEX_ENTRY_BYTES)),
    ];
    for (const change of changes) {
      const name = segments()[0]!;
      const prepared = prepareNow(name);
      change(name);
      expect(await exchange(prepared)).toBe(false);
      expect(Object.keys(endings(dir)).sort()).toEqual(['avro', 'idx']);
    }
    expectSame(before);
  });

  test('a packed one that is not the same, or not readable, never takes its place', () => {
    writeRun(
      0,
      range(0, 30).map(() => 2),
    );
    const [first, second] = segments();
    prepareNow(second!);
    const other = [`${second!.path}.packing`, second!.packedIndexPath].map((path) => readFileSync(path));
    drop(second!);
    const packing = `${first!.path}.packing`;
    const wrongs: [RegExp, () => void][] = [
      [
        /not the same: damage at sequence \d+: the checksum of the block differs/,
        () => flip(packing, statSync(packing).size - 40),
      ],
      [/not the same: the head differs/, () => flip(packing, 100)],
      [/not the same: damage at sequence/, () => truncateSync(packing, statSync(packing).size - 1)],
      [/not the same: damage at sequence/, () => appendFileSync(packing, 'more')],
      [/not the same: .* has no checksum/, () => truncateSync(first!.packedIndexPath, INDEX_HEAD_BYTES)],
      // Whole by itself, and another one.
      [
        /not the same: the records differ/,
        () => {
          writeFileSync(packing, other[0]!);
          writeFileSync(first!.packedIndexPath, other[1]!);
        },
      ],
    ];
    for (const [pattern, wrong] of wrongs) {
      const before = readFileSync(first!.path);
      let syncs = 0;
      // Container, sidecar, directory: then it is compared.
      const end = watchFiles((call) => {
        if (call === 'fsyncSync' && ++syncs === 3) wrong();
      });
      expect(refusal(first!)).toMatch(pattern);
      end();
      expect(syncs).toBe(3);
      expect(readFileSync(first!.path)).toEqual(before);
      expect([existsSync(packing), existsSync(first!.packedIndexPath)]).toEqual([false, false]);
    }
  });

  test('one that retention removed meanwhile does not come back', async () => {
    writeRuns();
    const name = segments()[0]!;
    const prepared = prepareNow(name);
    rmSync(name.path);
    rmSync(name.indexPath);
    expect(await exchange(prepared)).toBe(false);
    expect(endings(dir)).toEqual({ avro: segments().length, idx: segments().length });
    expect(segments()[0]!.ordinal).toBe(1);
  });

  test('one that retention removes at any call of the packing leaves nothing behind', async () => {
    writeRuns();
    const count = segments().length;
    const [name] = segments();
    const files = [name!.path, name!.indexPath].map((path) => ({ path, bytes: readFileSync(path) }));
    let removals = 0;
    for (let at = 1, came = true; came; at++) {
      let calls = 0;
      came = false;
      const end = watchFiles(() => {
        calls++;
        if (calls !== at) return;
        came = true;
        for (const path of [name!.path, name!.indexPath, name!.packedIndexPath]) unlinkIfThere(path);
      }, true);
      let prepared: ReturnType<typeof prepareNow> | null = null;
      try {
        prepared = prepareNow(name!);
      } catch {
        // Refused, or ENOENT.
      }
      end();
      if (!came) break;
      removals++;
      if (prepared !== null) expect(await exchange(prepared)).toBe(false);
      expect(endings(dir)).toEqual({ avro: count - 1, idx: count - 1 });
      for (const { path, bytes } of files) writeFileSync(path, bytes);
    }
    expect(removals).toBeGreaterThan(30);
  });

  test('a disk that is nearly full ends the packing, and nothing is left of it', () => {
    // Random names, so that much is written.
    const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 40_000_000 });
    const big = Buffer.alloc(900_000);
    for (let n = 0; n < 8; n++) {
      for (let i = 0; i < big.length; i++) big[i] = Math.random() * 256;
      writer.append([{ topic: 'job', event: { ...sampleJob(n), coinbase1: big.toString('hex') } }]);
    }
    writer.close();
    const second = openJournalWriter({ dir, instance: 'a' });
    second.append([{ topic: 'job', event: sampleJob(9) }]);
    second.close();
    const steps = prepare(segments('job')[0]!, { hasRoom: () => false });
    expect(() => {
      while (steps.next().done !== true);
    }).toThrow(/nearly full/);
    expect(endings(dir, 'a', 'job')).toEqual({ avro: 2, idx: 2 });
  });
});

function unlinkIfThere(path: string): void {
  if (existsSync(path)) unlinkSync(path);
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 0x10;
  writeFileSync(path, bytes);
}

describe('readers beside the exchange', () => {
  test('at every step of it, who comes, who was in the middle of the segment and who stands at its end read all, once', async () => {
    writeRuns();
    const { records } = everything();
    const before = records.map(seen);
    const name = segments()[1]!;
    // One that stands at each record of the journal, and one that goes on by a record at each step.
    const standing = range(1, records.length).map((most) => {
      const reader = newReader();
      return { reader, at: reader.take(null, most) };
    });
    const walker = newReader();
    let walked: string[] = [];
    let next: Position | null = null;
    let steps = 0;
    let looking = false;
    const end = watchFiles(() => {
      if (looking) return;
      looking = true;
      steps++;
      expectSame(before);
      expectSame(before, [records[12]!.position, records[25]!.position]);
      const batch = walker.take(next, 3);
      walked = walked.concat(batch.records.map(seen));
      next = batch.next;
      looking = false;
    });
    await exchange(prepareNow(name));
    end();
    expect(steps).toBeGreaterThan(12);
    for (const { reader, at } of standing) {
      const { records: rest, damage } = everything(at.next, reader);
      expect(damage).toEqual([]);
      expect(rest.map(seen)).toEqual(before.slice(at.records.length));
    }
    walked = walked.concat(everything(next, walker).records.map(seen));
    expect(walked).toEqual(before);
    expectSame(before);
  });

  test('whatever happens between two of its calls, a reader that opens the segment reads all of it, once', () => {
    writeRun(
      0,
      range(0, 30).map(() => 2),
    );
    const before = everything().records.map(seen);
    const name = segments()[1]!;
    const files = [name.path, name.indexPath].map((path) => ({ path, bytes: readFileSync(path) }));
    const packing = `${name.path}.packing`;
    const states = [
      () => void prepareNow(name),
      () => renameSync(packing, name.path),
      () => rmSync(name.indexPath, { force: true }),
    ];
    const from = before.find((line) => !everything().records.slice(0, 20).map(seen).includes(line))!.split(' ')[0]!;
    let overtaken = 0;
    // It finds `first` steps done, and `more` of them happen before its call `at`.
    for (let first = 0; first < states.length; first++) {
      for (let more = 1; first + more <= states.length; more++) {
        for (let at = 1, calls = at; calls >= at; at++) {
          rmSync(name.packedIndexPath, { force: true });
          for (const { path, bytes } of files) writeFileSync(path, bytes);
          for (const state of states.slice(0, first)) state();
          calls = 0;
          let stepping = false;
          const end = watchFiles(() => {
            if (stepping) return;
            calls++;
            if (calls !== at) return;
            stepping = true;
            for (const state of states.slice(first, first + more)) state();
            stepping = false;
            overtaken++;
          }, true);
          const { records, damage } = at % 2 === 0 ? everything() : everything(from);
          end();
          expect(damage).toEqual([]);
          const wanted = at % 2 === 0 ? before : before.slice(before.findIndex((line) => line.startsWith(`${from} `)));
          expect(records.map(seen)).toEqual(wanted);
          rmSync(packing, { force: true });
        }
      }
    }
    expect(overtaken).toBeGreaterThan(100);
  });

  test('a writer that opens at any step of it mends nothing and takes nothing away', async () => {
    writeRuns();
    const before = everything().records.map(seen);
    // The newest but one, so that it is the newest for a writer that finds the last torn.
    const last = segments().at(-1)!;
    const lines: string[] = [];
    const name = segments().at(-2)!;
    let looking = false;
    const end = watchFiles(() => {
      if (looking) return;
      looking = true;
      openJournalWriter({ dir, instance: 'a', log: (line) => lines.push(line) }).close();
      expectSame(before);
      looking = false;
    });
    await exchange(prepareNow(name));
    end();
    expect(lines).toEqual([]);
    truncateSync(last.path, 40);
    writeFileSync(last.indexPath, '');
    for (let i = 0; i < 2; i++) openJournalWriter({ dir, instance: 'a', log: (line) => lines.push(line) }).close();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/head was torn/);
    expect(segments().at(-1)).toEqual(name);
    const run = writeRun(1000, [2]);
    const { records, damage } = everything();
    expect(damage).toEqual([]);
    expect(records.map(seen).slice(0, -2)).toEqual(before.slice(0, records.length - 2));
    expect(records.slice(-2).map((record) => record.run)).toEqual([run, run]);
    expect(endings(dir)).toMatchObject({ zdx: 1 });
  });
});

describe('after a crash', () => {
  test('both sidecars beside a container: the one that is not its own goes', async () => {
    writeRuns();
    const before = everything().records.map(seen);
    const [first, second] = segments();
    // Before the exchange …
    prepareNow(first!);
    // … and behind it.
    const sidecar = readFileSync(second!.indexPath);
    await exchange(prepareNow(second!));
    writeFileSync(second!.indexPath, sidecar);
    expectSame(before);
    for (const name of [first!, second!]) {
      await settle(name);
      expectSame(before);
    }
    expect([first!, second!].map((name) => [existsSync(name.indexPath), existsSync(name.packedIndexPath)])).toEqual([
      [true, false],
      [false, true],
    ]);
  });

  test('with both sidecars and a damaged head of the container, its own is used', async () => {
    writeRuns();
    const before = everything().records.map(seen);
    const [first, second] = segments();
    prepareNow(first!);
    const sidecar = readFileSync(second!.indexPath);
    await exchange(prepareNow(second!));
    writeFileSync(second!.indexPath, sidecar);
    for (const name of [first!, second!]) {
      const whole = readFileSync(name.path);
      for (const at of [0, 5, 60, 1000]) {
        flip(name.path, at);
        const { records, damage } = everything(null, new PartitionReader(dir, 'a', 'share', schemaOf, () => {}));
        expect(records.map(seen)).toEqual(before);
        expect(damage.map(({ reason }) => reason)).toEqual([
          'the head of the segment is damaged; its blocks are read by its sidecar',
        ]);
        writeFileSync(name.path, whole);
      }
    }
  });

  test('a sidecar whose segment retention removed is removed by the next writer', async () => {
    writeRuns();
    await packTopic(dir);
    const [first] = segments();
    rmSync(first!.path);
    openJournalWriter({ dir, instance: 'a' }).close();
    expect(existsSync(first!.packedIndexPath)).toBe(false);
  });
});

/** The schema of another segment of the same topic, for one whose head is damaged. */
function schemaOf(): string {
  const bytes = readFileSync(segments().at(-1)!.path);
  const decoder = new avro.streams.BlockDecoder();
  let text = '';
  decoder.on('metadata', (_type, _codec, header) => {
    text = (header as { meta: Record<string, Buffer> }).meta['avro.schema']!.toString();
  });
  decoder.end(bytes);
  return text === '' ? headSchema(bytes) : text;
}

/** The stream says its metadata a turn later. */
function headSchema(bytes: Buffer): string {
  const from = bytes.indexOf('{');
  const key = bytes.indexOf('avro.codec');
  return bytes.subarray(from, bytes.lastIndexOf('}', key) + 1).toString();
}

describe(`bit rot (SEED=${SEED})`, () => {
  test('a flipped bit costs the block that it is in, is reported with position and bytes, and no record is altered', async () => {
    const run = writeRun(
      0,
      range(0, 40).map((i) => 1 + (i % 9)),
      1_000_000,
    );
    writeRun(1000, [1]);
    const name = segments()[0]!;
    const bodies = everything()
      .records.filter((record) => record.run === run)
      .map(({ body }) => Buffer.from(body));
    await packTopic(dir);
    const original = readFileSync(name.path);
    const sidecar = readFileSync(name.packedIndexPath);
    const entries = indexEntries(sidecar);
    expect(entries.length).toBeGreaterThan(20);
    expect(Math.max(...entries.map(({ count }) => count))).toBe(7);
    let lostInAll = 0;
    const property = fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: entries[0]!.offset * 8, max: original.length * 8 - 1 }), {
        minLength: 1,
        maxLength: 5,
      }),
      fc.boolean(),
      async (bits, withSidecar) => {
        const bytes = Buffer.from(original);
        for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
        writeFileSync(name.path, bytes);
        if (withSidecar) writeFileSync(name.packedIndexPath, sidecar);
        else rmSync(name.packedIndexPath, { force: true });
        const hit = entries.filter(({ offset, lengthBytes }) =>
          bits.some((bit) => bit >> 3 >= offset && bit >> 3 < offset + lengthBytes),
        );
        const lost = new Set(hit.flatMap(({ firstSequence, count }) => range(firstSequence, firstSequence + count)));
        const { records, damage } = everything(null, newReader(), 11);
        const got = records.filter((record) => record.run === run);
        if (withSidecar) {
          expect(got.map(({ sequence }) => sequence)).toEqual(range(0, bodies.length).filter((n) => !lost.has(n)));
          for (const { sequence, body } of got) expect(body.equals(bodies[sequence]!)).toBe(true);
          expect(damage.map(({ position, bytes: kept }) => [position, kept.length])).toEqual(
            hit.map(({ firstSequence, lengthBytes }) => [`${run}:${firstSequence}`, lengthBytes]),
          );
        } else {
          // By structure: the checksum in the frame stands in; sequences behind the damage are only rising.
          const whole = new Set(bodies.map((body) => body.toString('hex')));
          for (const { body } of got) expect(whole.has(body.toString('hex'))).toBe(true);
          // A zstd frame has a bit that means nothing, and one for a larger window alters nothing either.
          if (damage.length === 0) expect(got.map(({ body }) => Buffer.from(body))).toEqual(bodies);
          // A flipped marker takes the block behind it along.
          expect(got.length).toBeGreaterThanOrEqual(bodies.length - 14 * hit.length);
        }
        lostInAll += lost.size;
      },
    );
    await fc.assert(property, { numRuns: 200, seed: SEED });
    expect(lostInAll).toBeGreaterThan(1000);
  });

  test('bits flipped in the sidecar of a packed segment cost nothing', async () => {
    writeRun(
      0,
      range(0, 40).map((i) => 1 + (i % 9)),
      1_000_000,
    );
    writeRun(1000, [1]);
    const name = segments()[0]!;
    const before = everything().records.map(seen);
    await packTopic(dir);
    const original = readFileSync(name.packedIndexPath);
    const property = fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: 0, max: original.length * 8 - 1 }), { maxLength: 40 }),
      async (bits) => {
        const bytes = Buffer.from(original);
        for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
        writeFileSync(name.packedIndexPath, bytes);
        expectSame(before);
      },
    );
    await fc.assert(property, { numRuns: 150, seed: SEED });
  });

  test('bytes that claim to become more than any block of ours are damage, not memory', async () => {
    writeRuns();
    await packTopic(dir);
    const name = segments()[0]!;
    rmSync(name.packedIndexPath);
    const whole = readFileSync(name.path);
    const property = fc.asyncProperty(
      fc.uint8Array({ minLength: 1, maxLength: 400 }),
      fc.nat(),
      async (junk, place) => {
        const bytes = Buffer.from(whole);
        bytes.set(junk.subarray(0, bytes.length - (place % bytes.length)), place % bytes.length);
        writeFileSync(name.path, bytes);
        const { records } = everything();
        expect(records.length).toBeGreaterThan(100);
      },
    );
    await fc.assert(property, { numRuns: 100, seed: SEED });
  });
});

function indexEntries(sidecar: Buffer): IndexEntry[] {
  const entries: IndexEntry[] = [];
  for (let at = INDEX_HEAD_BYTES; at < sidecar.length; at += INDEX_ENTRY_BYTES)
    entries.push(parseIndexEntry(sidecar, at)!);
  return entries;
}

test('retention removes packed segments with their sidecars, and who stands in one holds it', async () => {
  const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 1 });
  const dayUs = 86_400_000_000;
  for (let day = 0; day < 20; day++) {
    const [entry] = shareEntries(day * 2, 1);
    writer.append([
      { topic: 'share', event: { ...entry!.event, time_us: 1_700_000_000_000_000 + day * dayUs } as never },
    ]);
  }
  writer.close();
  await packTopic(dir);
  let elapsedUs = 0;
  const retention = new Retention({
    journalDir: dir,
    stateFile: join(dir, 'retention.json'),
    keepUs: 7 * dayUs,
    required: [{ name: 'relay', load: () => `${writer.run}:9` }],
    log: () => {},
    nowUs: () => 1_700_000_000_000_000 + 20 * dayUs,
    elapsedUs: () => elapsedUs,
  });
  retention.run();
  elapsedUs += 8 * dayUs;
  expect(retention.run().segments).toBe(9);
  expect(endings(dir)).toEqual({ avro: 11, zdx: 10, idx: 1 });
  const { records, damage } = everything();
  expect(damage).toEqual([]);
  expect(records.map(({ sequence }) => sequence)).toEqual(range(9, 20));
});

test('a log that is open while all is packed goes on, and names the schema of every record', async () => {
  writeRuns();
  const log = openJournalLog({ dir });
  const batch = await log.read('share', 'a', null, { maxRecords: 30, waitMs: 0 });
  await packTopic(dir);
  let next = batch.next;
  let count = batch.records.length;
  for (;;) {
    const more = await log.read('share', 'a', next, { maxRecords: 30, waitMs: 0 });
    if (more.records.length === 0) break;
    for (const record of more.records) {
      const decode = await log.decoder('share', record.fingerprint);
      expect(Number.parseInt(decode(record.body).hash, 16)).toBe(count++);
    }
    next = more.next;
  }
  expect(count).toBe(150);
  await log.close();
});
