/**
 * Bits of the journal are flipped and everything is read again into an empty ClickHouse: each damaged block is a dead letter with its
 * position and bytes, and all other shares are there, once.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
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

function flip(path: string, random: () => number): void {
  const fd = openSync(path, 'r+');
  const at = Math.floor(random() * fstatSync(fd).size);
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 1 << Math.floor(random() * 8);
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
  const segments = readdirSync(topic).filter((name) => name.endsWith('.avro'));
  expect(segments.length).toBeGreaterThan(3);
  for (let i = 0; i < FLIPS; i++) flip(join(topic, segments[Math.floor(random() * segments.length)]!), random);
  stack.clickhouse.start();
  stack.consume.start();
  await settled(stack, whole / 2);

  const letters = (
    await stack.sql('SELECT topic, partition, position, reason, body_hex FROM dead_letters FORMAT TabSeparated')
  ).split('\n');
  // Two flips may hit one block.
  expect(letters.length).toBeGreaterThan(FLIPS / 2);
  expect(letters.length).toBeLessThanOrEqual(FLIPS);
  const bytes: string[] = [];
  for (const letter of letters) {
    const [topic, partition, position, reason, hex] = letter.split('\t') as [string, string, string, string, string];
    expect([topic, partition]).toEqual(['share', 'ckpool.1']);
    expect(position).toMatch(/^[0-9a-f]{16}:\d+$/);
    expect(reason).not.toBe('');
    bytes.push(Buffer.from(hex, 'hex').toString('latin1'));
  }
  const positions = new Set(letters.map((letter) => letter.split('\t')[2]));
  expect(positions.size).toBe(letters.length);
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
    `${FLIPS} flips of ${whole} shares in ${segments.length} segments: ${letters.length} dead letters, ${missing} shares`,
  );
  expect(rows + missing).toBe(whole);
  expect(missing).toBeGreaterThan(0);
  // The flip may have hit the very digits that are looked for.
  expect(unexplained).toBeLessThanOrEqual(FLIPS);
  expect(stack.surprises()).toEqual([]);
}, 600_000);
