import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { isTextOf, Scanner, SLACK_BYTES } from '../../../services/ingestor/scanner.ts';
import { realText } from '../../../services/stratum/sharelog.ts';
import { SEED } from '../../helpers/seed.ts';
import { BothWays } from './both-ways.ts';
import { mutatedLine, randomFrom, usualLine } from './mutations.ts';

const cases = Number(process.env.FUZZ_CASES ?? 6_000);
const context = { origin: 'ckpool', instance: 'ingest-ckpool', height: 700 };
const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));

test('every recorded line gives the same record both ways, nearly all by the scanner', () => {
  const both = new BothWays(context);
  let lines = 0;
  for (const name of readdirSync(fixtures, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!name.includes('.sharelog')) continue;
    const bytes = readFileSync(join(fixtures, name));
    for (const line of (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n')) {
      if (line === '') continue;
      lines++;
      expect(both.compare(Buffer.from(line)), line).not.toBeNull();
    }
  }
  expect(lines).toBeGreaterThan(15_000);
  expect(both.taken).toBe(lines);
  expect(both.scanned / lines).toBeGreaterThan(0.95);
});

test(`lines of every usual form give the same record both ways (SEED=${SEED})`, () => {
  const random = randomFrom(SEED);
  const both = new BothWays(context);
  for (let i = 0; i < cases; i++) {
    const line = usualLine(random);
    expect(both.compare(Buffer.from(line)), line).not.toBeNull();
  }
  expect(both.taken).toBe(cases);
  expect(both.scanned / cases).toBeGreaterThan(0.7);
});

test(`damaged lines give the same record or the same refusal both ways (SEED=${SEED})`, () => {
  const random = randomFrom(SEED + 1);
  const both = new BothWays(context);
  for (let i = 0; i < cases; i++) {
    const line = usualLine(random);
    both.compare(Buffer.from(line));
    const damaged = mutatedLine(random, line, usualLine(random));
    expect(both.compare(damaged), `${JSON.stringify(damaged.toString())}: ${both.last.join(' | ')}`).not.toBeNull();
  }
});

test(`a difficulty's digits are recognised, and those of its neighbours are not (SEED=${SEED})`, () => {
  const random = randomFrom(SEED + 2);
  const view = new DataView(new ArrayBuffer(8));
  const holds = (text: string, value: number): boolean => {
    const bytes = Buffer.from(`${text}, `.padEnd(64));
    return isTextOf(bytes, 0, text.length, value);
  };
  let known = 0;
  for (let i = 0; i < cases; i++) {
    const value = (1 + random(2 ** 31) / 2 ** 31 + random(2 ** 31) / 2 ** 62) * 2 ** (random(100) - 60);
    const text = realText(value);
    if (holds(text, value)) known++;
    view.setFloat64(0, value);
    const bits = view.getBigUint64(0);
    for (const step of [-2n, -1n, 1n, 2n]) {
      view.setBigUint64(0, bits + step);
      expect(holds(text, view.getFloat64(0)), `${text} is not ${view.getFloat64(0)}`).toBe(false);
    }
    // A text of fewer digits is another double, or the same one.
    const short = value.toPrecision(1 + random(17));
    if (!short.includes('+') && holds(short, value)) expect(Number(short)).toBe(value);
  }
  expect(known).toBe(cases);
});

test('a hash that came before in the same height is a repeat, in another height it is not', () => {
  const scanner = new Scanner(context);
  const line = Buffer.from(usualLine(randomFrom(3)).replace('"result": false', '"result": true'));
  scanner.take(line);
  scanner.take(line);
  scanner.height = 701;
  scanner.take(line);
  expect(scanner.counts).toEqual({ accepted: 3, refused: 0, repeats: 1 });
  expect(scanner.count).toBe(3);
});

test('a line of which not all has come is not taken, whatever lies behind it in the buffer', () => {
  const line = Buffer.from(`${usualLine(randomFrom(5))}\n`);
  const buffer = Buffer.concat([line, line, Buffer.alloc(SLACK_BYTES)]);
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  const scanner = new Scanner(context);
  for (let end = 0; end < line.length; end++) expect(scanner.scan(buffer, view, 0, end)).toBe(-1);
  expect(scanner.count).toBe(0);
  expect(scanner.scan(buffer, view, 0, line.length)).toBe(line.length);
  expect(scanner.scan(buffer, view, line.length, 2 * line.length - 1)).toBe(-1);
});
