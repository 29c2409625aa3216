/**
 * Bits of the journal are flipped and everything is read again into an empty ClickHouse: each damaged block is a dead letter with its
 * position and bytes, and all other shares are there, once.
 */
import { closeSync, openSync, readFileSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listSegments, type SegmentName } from '../../services/core/log/journal-files.ts';
import {
  INDEX_ENTRY_BYTES,
  INDEX_HEAD_BYTES,
  parseIndexEntry,
  parseIndexHead,
} from '../../services/core/log/segment-index.ts';
import { until } from '../helpers/leash.ts';
import { seeded } from '../helpers/seed.ts';
import { settled } from './checks.ts';
import { ACKNOWLEDGED, type Load, startLoad } from './load.ts';
import { forget, type Stack, startStack } from './stack.ts';

const PER_SECOND = 3_000;
const LINES = 24;
const FLIPS = 20;
const SHARES = 5 * PER_SECOND;

let stack: Stack;
let load: Load;
beforeAll(async () => {
  // Plain: what is lost is looked for in the bytes of the dead letters. (Packed blocks: test/services/core/log/pack-segment.test.ts.)
  stack = await startStack('faults-damage', { segmentBytes: 512 * 1024, pack: false });
  load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
});
afterAll(async () => {
  await load?.stop();
  await stack?.close();
});

interface Hit {
  /** A segment's head stands at its first record, as its first block does. */
  readonly position: string;
  /** Records that go with it. */
  readonly records: number;
  flip(): void;
}

/** What a byte of a segment belongs to, by its sidecar. */
function hitAt({ path, indexPath, run }: SegmentName, at: number, bit: number): Hit {
  const index = readFileSync(indexPath);
  let [sequence, records] = [parseIndexHead(index)!.firstSequence, 0];
  for (let place = INDEX_HEAD_BYTES; ; place += INDEX_ENTRY_BYTES) {
    const entry = parseIndexEntry(index, place);
    if (entry === null || entry.offset > at) break;
    [sequence, records] = [entry.firstSequence, entry.count];
  }
  return { position: `${run}:${sequence}`, records, flip: () => flip(path, at, bit) };
}

function flip(path: string, at: number, bit: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 1 << bit;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

test('flipped bits are told with their place, and cost what is in their block', async () => {
  const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`FAULTS_SEED=${seed}`);
  const random = seeded(seed);
  await until('so many shares', () => load.acknowledged() > SHARES);
  await load.stop();
  await stack.pool.stop();
  await settled(stack);
  const whole = Number(await stack.sql('SELECT count() FROM shares WHERE accepted'));
  await stack.consume.stop();
  await stack.clickhouse.stop();
  await forget(stack, 'consumers');
  rmSync(join(stack.dataDir, 'clickhouse'), { recursive: true });

  const topic = join(stack.dataDir, 'journal', 'ckpool.1', 'share');
  const segments = listSegments(topic);
  expect(segments.length).toBeGreaterThan(3);
  // Each in a block of its own, and no more than half of all: a machine that is busy takes hundreds of shares in at once, as one block.
  const hits = new Map<string, Hit>();
  const lostRecords = (): number => [...hits.values()].reduce((sum, { records }) => sum + records, 0);
  for (let tries = 0; tries < 50 * FLIPS && hits.size < FLIPS; tries++) {
    const segment = segments[Math.floor(random() * segments.length)]!;
    const hit = hitAt(segment, Math.floor(random() * statSync(segment.path).size), Math.floor(random() * 8));
    if (!hits.has(hit.position) && lostRecords() + hit.records < whole / 2) hits.set(hit.position, hit);
  }
  expect(hits.size).toBeGreaterThan(2);
  expect(lostRecords()).toBeGreaterThan(0);
  for (const hit of hits.values()) hit.flip();
  stack.clickhouse.start();
  stack.consume.start();
  await settled(stack, whole / 2);

  const letters = (
    await stack.sql('SELECT topic, partition, position, reason, body_hex FROM dead_letters FORMAT TabSeparated')
  ).split('\n');
  const bytes: string[] = [];
  for (const letter of letters) {
    const [topic, partition, position, reason, hex] = letter.split('\t') as [string, string, string, string, string];
    expect([topic, partition]).toEqual(['share', 'ckpool.1']);
    expect(position).toMatch(/^[0-9a-f]{16}:\d+$/);
    expect(reason).not.toBe('');
    bytes.push(Buffer.from(hex, 'hex').toString('latin1'));
  }
  expect(letters.map((letter) => letter.split('\t')[2]).sort()).toEqual([...hits.keys()].sort());
  const lost = bytes.join('\n');

  const stored = new Set<string>();
  let rows = 0;
  await stack.rows('SELECT worker, nonce FROM shares WHERE accepted FORMAT TabSeparated', (row) => {
    rows += 1;
    stored.add(row);
  });
  expect(stored.size).toBe(rows);
  let missing = 0;
  let unexplained = 0;
  for (const line of load.lines) {
    for (let share = 0; share < line.count; share++) {
      const nonce = share.toString(16).padStart(8, '0');
      if (line.stateOf(share) !== ACKNOWLEDGED || stored.has(`${line.worker}\t${nonce}`)) continue;
      missing += 1;
      if (!lost.includes(nonce)) unexplained += 1;
    }
  }
  console.log(
    `${hits.size} flips of ${whole} shares in ${segments.length} segments: ${letters.length} dead letters, ${missing} shares`,
  );
  expect(rows + missing).toBe(whole);
  expect(missing).toBeGreaterThan(0);
  expect(missing).toBeLessThanOrEqual(lostRecords());
  // The flip may have hit the very digits that are looked for.
  expect(unexplained).toBeLessThanOrEqual(hits.size);
  expect(stack.surprises()).toEqual([]);
}, 600_000);
