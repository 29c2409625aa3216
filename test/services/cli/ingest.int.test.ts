/** `lodestream ingest` as an operator calls it: words, statuses, what it prints. */
import { appendFileSync, cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tempDir, until } from '../../helpers/leash.ts';
import { lodestream, lodestreamOnce } from '../../helpers/tree.ts';

const recorded = fileURLToPath(new URL('../../fixtures/ckpool/regtest-rejects/logs', import.meta.url));

let dir: { path: string; remove(): void };
let logs: string;
let words: string[];
beforeEach(() => {
  dir = tempDir('ingest-cli');
  logs = join(dir.path, 'logs');
  cpSync(recorded, logs, { recursive: true });
  words = ['--logdir', logs, '--data-dir', join(dir.path, 'data')];
});
afterEach(() => dir.remove());

test('a first run says what it did, a second one that all is known, a bad line where it stands', async () => {
  expect((await lodestreamOnce(['ingest', ...words])).output).toContain(
    'name the pool or proxy that wrote them with --origin',
  );
  const first = await lodestreamOnce(['ingest', ...words, '--origin', 'ckpool']);
  expect(first.status, first.output).toBe(0);
  expect(first.output).toMatch(
    /origin ckpool: \d+ files \(0 unchanged, 0 left alone\)\n\d+ new lines: \d+ accepted, \d+ refused, 0 bad/,
  );
  const lines = /(\d+) new lines/.exec(first.output)![1]!;
  const height = readdirSync(logs).find(
    (name) => /^[0-9a-f]{8}$/.test(name) && readdirSync(join(logs, name)).length > 0,
  )!;
  const log = join(logs, height, readdirSync(join(logs, height))[0]!);
  appendFileSync(log, 'no line\n');
  const second = await lodestreamOnce(['ingest', ...words, '--origin', 'ckpool']);
  expect(second.status).toBe(0);
  expect(second.output).toContain(`: not JSON: "no line"`);
  expect(second.output).toContain('1 new lines: 0 accepted, 0 refused, 1 bad');
  expect(second.output).toContain(`${lines} lines known from earlier runs`);
});

test.each([
  [['--follow', '/tmp'], '--follow follows the whole log directory'],
  [['--follow', '--dry-run'], '--follow writes what it reads'],
  [['--since', 'yesterday'], '--since: expected a time'],
  [['/nowhere.sharelog'], 'there is no such file or directory'],
] as const)('%j is refused with words and status 64', async (more, sentence) => {
  const { status, output } = await lodestreamOnce(['ingest', ...words, '--origin', 'ckpool', ...more]);
  expect(output).toContain(sentence);
  expect(status).toBe(64);
});

test('the folder that archive fills is read like the archives in it', async () => {
  const first = await lodestreamOnce(['ingest', ...words, '--origin', 'ckpool']);
  const [, accepted] = /(\d+) accepted/.exec(first.output)!;
  mkdirSync(join(logs, '00000fff'));
  await lodestreamOnce(['archive', ...words, '--origin', 'ckpool', '--older-than', '0m', '--delete']);
  const other = ['--logdir', logs, '--data-dir', join(dir.path, 'other'), '--origin', 'ckpool'];
  const again = await lodestreamOnce(['ingest', ...other, join(logs, 'archive')]);
  expect(again.output).toContain(`${accepted} accepted`);
  expect(again.output).toContain('archives are read whole each time: what the log has already counts once');
});

test('a main log that one origin has is not read as that of another', async () => {
  await lodestreamOnce(['ingest', ...words, '--origin', 'ckpool']);
  for (const more of [[], [join(logs, 'ckpool.log')]]) {
    const { status, output } = await lodestreamOnce(['ingest', ...words, '--origin', 'farm', ...more]);
    expect(output).toContain('ckpool.log was taken in as origin ckpool; as farm');
    expect(status).toBe(64);
  }
  expect(readdirSync(join(dir.path, 'data/journal')).sort()).toEqual(['ingest-ckpool', 'ingest-ckpool-log']);
});

test('--follow takes in what is written, prints each pass as JSON, and ends with 0 when it is told to', async () => {
  writeFileSync(join(logs, '.lodestream-origin'), 'farm\n');
  const following = await lodestream(['ingest', ...words, '--follow', '--json']);
  await until(
    () => `the first pass (${following.output()})`,
    () => /"origin":"farm".*"lines":\d+/.test(following.output()) && /"statuses":\d+/.test(following.output()),
  );
  appendFileSync(join(logs, 'ckpool.log'), '[2026-11-27 06:00:00.000] User late:{"hashrate1m":"1G"}\n');
  await until(
    () => `the line of the main log (${following.output()})`,
    () => following.output().includes('"log_lines":1,"log_bad":0,"statuses":1,'),
  );
  expect(await following.stop({ graceMs: 20_000 })).toBe(0);
  const { output } = await lodestreamOnce(['ingest', ...words, '--json']);
  expect(JSON.parse(output.trim().split('\n').at(-1)!)).toMatchObject({ origin: 'farm', lines: 0, log_lines: 0 });
});
