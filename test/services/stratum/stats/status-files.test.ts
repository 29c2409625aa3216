import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Stats, UserAccount, WorkerAccount } from '../../../../services/stratum/stats/stats.ts';
import { StatusFiles } from '../../../../services/stratum/stats/status-files.ts';
import { userText } from '../../../../services/stratum/stats/status-text.ts';
import { tempDir } from '../../../helpers/leash.ts';
import { CKPOOL, OURS, POOL, recorded, sheetUser, USER, W } from './status-sheet.ts';

describe('on disk', () => {
  let dir: ReturnType<typeof tempDir>;
  let said: string[];
  let nowMs: number;
  beforeEach(() => {
    dir = tempDir('status');
    said = [];
    nowMs = 1_795_328_900_000;
  });
  afterEach(() => dir.remove());

  function open(form = OURS): StatusFiles {
    const files = new StatusFiles({
      logDir: dir.path,
      form,
      instance: 'ckpool',
      log: (line) => void said.push(line),
      nowMs: () => nowMs,
    });
    files.open();
    return files;
  }
  const at = (path: string): string => join(dir.path, path);
  const put = (path: string, text: string, writtenS: number): void => {
    mkdirSync(join(at(path), '..'), { recursive: true });
    writeFileSync(at(path), text);
    utimesSync(at(path), writtenS, writtenS);
  };

  test('a file is replaced by another, never rewritten; what has not changed is not written', () => {
    const files = open();
    const user = sheetUser();
    files.save(user, 2);
    const first = statSync(at('users/1PKN'));
    expect(readFileSync(at('workers/1PKN.w1'), 'utf8')).toContain('"lastupdate"');
    files.save(user, 2);
    expect(statSync(at('users/1PKN')).ino).toBe(first.ino);
    files.save(user, 1);
    expect(statSync(at('users/1PKN')).ino).not.toBe(first.ino);
    expect(readdirSync(at('users'))).toEqual(['1PKN']);
    expect(first.mode & 0o777).toBe(0o666 & ~process.umask());
  });

  test('what a killed run was writing goes at the next start, and nothing of anybody else', () => {
    open();
    for (const folder of ['pool', 'users', 'workers']) put(`${folder}/.ckpool.new`, '{"hashrate1m": "0", ', 1);
    for (const other of ['users/.other.new', 'users/ckpool.new', 'users/.ckpool.new.1', '.ckpool.new'])
      put(other, '{}', 1);
    open(CKPOOL);
    expect(readdirSync(at('pool'))).toEqual([]);
    expect(readdirSync(at('workers'))).toEqual([]);
    expect(readdirSync(at('users')).sort()).toEqual(['.ckpool.new.1', '.other.new', 'ckpool.new']);
    expect(existsSync(at('.ckpool.new'))).toBe(true);
    expect(said).toEqual([]);
  });

  test('under compat ckpool the folder of workers is there and empty', () => {
    open(CKPOOL).save(sheetUser(), 2);
    expect(readdirSync(at('workers'))).toEqual([]);
    expect(readFileSync(at('users/1PKN'), 'utf8')).toBe(USER);
  });

  test('what was written is read back as it was', () => {
    const files = open();
    const user = sheetUser();
    user.shares = 1.1649;
    files.save(user, 2);
    const back = open().load('1PKN')!;
    expect(userText(back, 2, nowMs, CKPOOL)).toBe(userText(user, 2, nowMs, CKPOOL));
    expect(back.shares).toBe(1.1649);
    expect(back.workers.get('1PKN.w1')!.agent).toBe('cgminer/4.11.1');
  });

  test('averages are older by the time since CKPool last wrote, whatever a copy of the files says', () => {
    put('pool/pool.status', `${POOL.join('\n')}\n`, nowMs / 1_000);
    put('users/1PKN', USER, nowMs / 1_000);
    const files = open();
    const stored = files.readPool();
    const stats = new Stats({ nowMs, stored, store: files });
    const user = stats.user('1PKN', nowMs)!;
    const minutes = (nowMs - 1_795_327_777_000) / 60_000;
    const kept = (1 + (1 - Math.exp(-60 / 300))) ** -minutes;
    expect((user.rates.values[1]! * W) / 107e9 / kept).toBeCloseTo(1, 1);
    expect((stats.pool().dsps[1]! * W) / 106e9 / kept).toBeCloseTo(1, 1);
    expect(stats.pool()).toMatchObject({ accepted: 8032, rejected: 436, best: 49808 });
    expect(user.shares).toBe(8032);
  });

  test('averages of who had no share for 600,000 s are as old as the last time that CKPool wrote them', () => {
    put('users/1PKN', USER.replaceAll('17953277', '17943277'), nowMs / 1_000);
    const user = new Stats({ nowMs, store: open() }).user('1PKN', nowMs)!;
    expect(user.rates.values[4]! * W).toBeGreaterThan(0.3 * 56.7e6);
    expect(user.rates.values[4]! * W).toBeLessThan(0.6 * 56.7e6);
    expect(user.rates.values[2]! * W).toBeLessThan(1);
  });

  test('CKPool 0.9.4 has its workers in files of their own', () => {
    const rates =
      '"hashrate1m": "426G", "hashrate5m": "107G", "hashrate1hr": "9.48G", "hashrate1d": "397M", "hashrate7d": "56.7M"';
    put(
      'users/alice',
      `{${rates}, "lastupdate": 1795328899, "workers": 2, "shares": 100, "bestshare": 7.5}\n`,
      1_795_328_899,
    );
    put('workers/alice.w1', `{${rates}, "lastupdate": 1795328899, "shares": 60, "bestshare": 7.5}\n`, 1_795_328_899);
    put('workers/alice', `{${rates}, "lastupdate": 1795328899, "shares": 40, "bestshare": 3.5}\n`, 1_795_328_899);
    put('workers/alicea.w1', `{${rates}, "lastupdate": 1795328899, "shares": 9, "bestshare": 3.5}\n`, 1_795_328_899);
    const alice = open().load('alice')!;
    expect(alice).toMatchObject({ shares: 100, best: 7.5, bestEver: 7.5, lastShareMs: 1_795_328_899_000 });
    expect([...alice.workers].map(([name, { shares }]) => [name, shares])).toEqual([
      ['alice', 40],
      ['alice.w1', 60],
    ]);
  });

  test('a file that cannot be read is moved aside with one line, and nobody falls over it', () => {
    put('pool/pool.status', '{"runtime": 1', 1_795_328_899);
    put('users/alice', '{"shares":', 1_795_328_899);
    put('workers/bob.w1', '\0\0\0', 1_795_328_899);
    mkdirSync(at('users/carol'), { recursive: true });
    const files = open();
    expect(files.readPool()).toBeNull();
    expect(files.load('alice')).toBeNull();
    expect(files.loadWorker('bob.w1')).toBeNull();
    expect(files.load('carol')).toBeNull();
    expect(files.load('')).toBeNull();
    expect(said).toHaveLength(4);
    expect(said[1]).toMatch(/users\/alice: it is no JSON.*; it is now .*unreadable\/users\/alice\.1795328900$/);
    expect(readFileSync(at('unreadable/users/alice.1795328900'), 'utf8')).toBe('{"shares":');
    expect(files.load('alice')).toBeNull();
    files.save(new UserAccount('carol', nowMs), 0);
    expect(said).toHaveLength(4);
    expect(statSync(at('users/carol')).isFile()).toBe(true);
  });

  test('where the folder cannot be written, it is said once, and the next minute tries again', () => {
    writeFileSync(at('file'), '');
    const files = new StatusFiles({
      logDir: at('file/logs'),
      form: OURS,
      instance: 'c',
      log: (line) => void said.push(line),
      nowMs: () => nowMs,
    });
    files.open();
    const user = sheetUser();
    files.save(user, 1);
    files.writePool(POOL);
    expect(said).toHaveLength(1);
    expect(user.writtenDigest).toBe(0);
  });

  test('a removed folder is made again', () => {
    const files = open();
    files.save(sheetUser(), 2);
    dir.remove();
    const user = sheetUser();
    files.save(user, 1);
    expect(existsSync(at('users/1PKN'))).toBe(true);
    mkdirSync(dir.path, { recursive: true });
  });

  test('names that only CKPool would write as they are are found, and belong to nobody else', () => {
    put('users/müller', USER.replace('1PKN.w1', 'müller.w1'), 1_795_328_899);
    const files = open();
    expect(files.load('müller')!.shares).toBe(8032);
    files.save(files.load('müller')!, 0);
    expect(existsSync(at('users/m%c3%bcller'))).toBe(true);
    expect(open().load('m%c3%bcller')).toBeNull();
  });

  test('every user of the recordings is taken over', async () => {
    for (const scenario of ['testnet-shares', 'regtest-rejects']) {
      cpSync(recorded(`${scenario}/logs/users`), at('users'), { recursive: true });
    }
    const files = open();
    const users = (await files.userFiles()).map((file) => files.loadFile(file)!);
    expect(users.map((user) => user.name).sort()).toEqual([
      '2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK',
      'bcrt1qvsrmgzymucl6hy33nr2cph5skv2xlqc93tg694',
      'mj6fHM12jzTDg2pxak7YkVCVE1QUbvhbMD',
      'mjkahjGpoovwhS8P7xhoW8kZRsCdoqebf9',
      'mv8C9mNWz2NssqBsgG5NX1QKDMyDKBpAK1',
      'plainname',
      'tb1qkqwwew5pu83r8j6m32r85cj0cpkz69fc7u30q4',
    ]);
    expect(users.flatMap((user) => [...user.workers.keys()])).toHaveLength(16);
    expect(said).toEqual([]);
  });

  test('a long name is found again by what is inside', async () => {
    const name = 'ü'.repeat(127);
    const files = open();
    const user = new UserAccount(name, nowMs);
    user.shares = 5;
    user.workers.set(`${name}.w`, new WorkerAccount(`${name}.w`, nowMs));
    user.workers.get(`${name}.w`)!.lastShareMs = nowMs;
    files.save(user, 0);
    const again = open();
    expect(again.loadFile((await again.userFiles())[0]!)).toMatchObject({ name, shares: 5 });
  });
});
