import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type MainLog, openMainLog } from '../../../services/stratum/ckpool-log.ts';
import { tempDir } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';

let dir: ReturnType<typeof tempDir>;
let path: string;
let clockMs: number;
let said: string[];
let main: MainLog;

beforeEach(() => {
  dir = tempDir('main-log');
  path = join(dir.path, 'ckpool.log');
  clockMs = new Date(2026, 10, 22, 6, 6, 48, 418).getTime();
  said = [];
  main = open(path);
});
afterEach(() => {
  main.close();
  chmodSync(dir.path, 0o700);
  dir.remove();
});

function open(at: string, level = 5): MainLog {
  return openMainLog({
    path: at,
    level,
    stderr: (line, lv) => void said.push(`${lv ?? '-'} ${line}`),
    nowMs: () => clockMs,
  });
}
const texts = (file = path): string[] => readFileSync(file, 'utf8').split('\n').slice(0, -1);

test('a line is a stamp in local time with milliseconds, then the text', () => {
  main.log('Stored local workbase with 3 transactions', 5);
  main.flush();
  expect(readFileSync(path, 'utf8')).toBe('[2026-11-22 06:06:48.418] Stored local workbase with 3 transactions\n');
});

test('levels above the chosen one are not written; the level can be changed while running', () => {
  expect(main.log.level).toBe(5);
  main.log('info', 6);
  main.log('ours');
  main.setLevel(6);
  expect(main.log.level).toBe(6);
  main.log('info now', 6);
  main.setLevel(0);
  main.log('a sentence of ours');
  main.flush();
  expect(texts().map((line) => line.slice(26))).toEqual(['ours', 'info now']);
  expect(said).toEqual(['6 info', '- ours', '6 info now', '- a sentence of ours']);
});

test('warnings are in the file before the call returns', () => {
  main.log('BLOCK ACCEPTED!', 4);
  expect(texts()).toHaveLength(1);
});

describe('no line is lost', () => {
  test('where the file is renamed and another made: the new one is used within two seconds', () => {
    main.log('1', 4);
    renameSync(path, `${path}.1`);
    writeFileSync(path, '');
    main.log('2', 4);
    clockMs += 2_000;
    main.log('3', 4);
    expect(texts(`${path}.1`).map((line) => line.at(-1))).toEqual(['1', '2']);
    expect(texts().map((line) => line.at(-1))).toEqual(['3']);
  });

  test('where it is renamed and nothing made: it is made', () => {
    main.log('1', 4);
    renameSync(path, `${path}.1`);
    clockMs += 2_000;
    main.log('2', 4);
    expect(texts(`${path}.1`)).toHaveLength(1);
    expect(texts()).toHaveLength(1);
  });

  test('at once on SIGHUP, also for lines that wait', () => {
    main.log('1', 5);
    renameSync(path, `${path}.1`);
    main.reopen();
    main.log('2', 4);
    expect(texts(`${path}.1`)).toHaveLength(1);
    expect(texts()).toHaveLength(1);
  });

  test('where it is copied and truncated, writing goes on at the start, without a hole', () => {
    main.log('1', 4);
    truncateSync(path);
    main.log('2', 4);
    expect(texts().map((line) => line.at(-1))).toEqual(['2']);
  });

  test('where the whole folder is removed: it is made again', () => {
    main.log('1', 4);
    rmSync(dir.path, { recursive: true });
    clockMs += 2_000;
    main.log('2', 4);
    expect(texts()).toHaveLength(1);
    expect(said.filter((line) => line.includes('cannot'))).toEqual([]);
  });

  test('where nothing can be opened: one line on standard error, and the lines come when it can', () => {
    main.close();
    said.length = 0;
    writeFileSync(join(dir.path, 'file'), '');
    main = open(join(dir.path, 'file', 'ckpool.log'));
    for (const line of ['1', '2', '3']) {
      main.log(line, 5);
      clockMs += 2_000;
      main.flush();
    }
    expect(said.filter((line) => line.includes('the main log cannot be written: '))).toHaveLength(1);
    rmSync(join(dir.path, 'file'));
    clockMs += 2_000;
    main.flush();
    expect(texts(join(dir.path, 'file', 'ckpool.log')).map((line) => line.at(-1))).toEqual(['1', '2', '3']);
    expect(said.at(-1)).toContain('is written again');
  });

  test('where the disk is full: one line on standard error, however often it is tried', () => {
    main.close();
    said.length = 0;
    main = open('/dev/full');
    for (let i = 0; i < 5; i++) {
      main.log(String(i), 5);
      clockMs += 2_000;
      main.flush();
    }
    expect(said.filter((line) => !line.startsWith('5 '))).toEqual([
      expect.stringMatching(/^- the main log cannot be written: ENOSPC/),
    ]);
  });

  test('of 10,000 that wait; of more the oldest go, and their number is told', () => {
    main.close();
    writeFileSync(join(dir.path, 'file'), '');
    main = open(join(dir.path, 'file', 'ckpool.log'));
    for (let i = 0; i < 10_005; i++) main.log(String(i), 5);
    main.flush();
    rmSync(join(dir.path, 'file'));
    clockMs += 2_000;
    main.flush();
    main.flush();
    const lines = texts(join(dir.path, 'file', 'ckpool.log')).map((line) => line.slice(26));
    expect(lines[0]).toBe('5');
    expect(lines).toHaveLength(10_001);
    expect(lines.at(-1)).toBe('5 lines were lost here');
  });
});

const logrotate = await havePart('logrotate', async () =>
  existsSync('/usr/sbin/logrotate') ? { path: '/usr/sbin/logrotate' } : { missing: 'no /usr/sbin/logrotate' },
);

/** Lines of a file that may have been packed. */
function textsOf(file: string): string[] {
  const bytes = readFileSync(file);
  return (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').slice(0, -1);
}

describe('under the real logrotate', () => {
  // The stanza that operators get; the group of its `su` is not on every machine.
  const stanza = readFileSync(new URL('../../../deploy/logrotate/stratum', import.meta.url), 'utf8');
  const ours = /\{(.*)\}/s
    .exec(stanza)![1]!
    .replace(/^ *su .*$/m, '')
    .replace(' root ckpool', '');

  test.skipIf(!logrotate)('a forced rotation of each kind loses no line', () => {
    for (const kind of ['rotate 3\n create 660', 'rotate 3\n copytruncate', ours]) {
      rmSync(path, { force: true });
      main.reopen();
      const conf = join(dir.path, 'logrotate.conf');
      writeFileSync(conf, `${path} {\n ${kind}\n}\n`, { mode: 0o644 });
      chmodSync(dir.path, 0o700);
      for (let i = 0; i < 30; i++) {
        main.log(`line ${i}`, 5);
        main.flush();
        clockMs += 300;
        if (i === 10 || i === 20) {
          execFileSync(logrotate!.path, ['--force', '--state', join(dir.path, 'state'), conf], { stdio: 'pipe' });
          if (i === 20) main.reopen();
        }
      }
      main.flush();
      const files = readdirSync(dir.path).filter((name) => name.startsWith('ckpool.log'));
      expect(files.length).toBe(3);
      const lines = files
        .sort()
        .reverse()
        .flatMap((name) => textsOf(join(dir.path, name)).map((line) => line.slice(26)));
      expect(lines).toEqual(Array.from({ length: 30 }, (_, i) => `line ${i}`));
      for (const name of files) rmSync(join(dir.path, name));
    }
  });
});

test('two processes append to one file without mixing their lines', () => {
  const other = open(path);
  for (let i = 0; i < 50; i++) {
    main.log(`a ${i}`, 4);
    other.log(`b ${i}`, 4);
  }
  other.close();
  appendFileSync(path, '');
  expect(texts()).toHaveLength(100);
});
