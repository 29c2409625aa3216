import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Stats, UserAccount, WorkerAccount } from '../../../services/stratum/stats.ts';
import {
  type Form,
  fileNameOf,
  nameOfFile,
  poolFromText,
  poolLines,
  StatusFiles,
  solverLines,
  userFromText,
  userLine,
  userText,
  workerText,
} from '../../../services/stratum/status-files.ts';
import { tempDir } from '../../helpers/leash.ts';

const W = 2 ** 32;
const CKPOOL: Form = { ckpool: true, hashesPerDifficulty: W };
const OURS: Form = { ckpool: false, hashesPerDifficulty: W };
const recorded = (path: string): string => fileURLToPath(new URL(`../../fixtures/ckpool/${path}`, import.meta.url));

// --- CKPool 0.9.9's texts, from the reference sheet, sections 8.3 to 8.5 and 5.4 -------------------------------------------

const USER = `{
 "hashrate1m": "426G",
 "hashrate5m": "107G",
 "hashrate1hr": "9.48G",
 "hashrate1d": "397M",
 "hashrate7d": "56.7M",
 "lastshare": 1795327771,
 "workers": 2,
 "shares": 8032,
 "bestshare": 49808.47724835609,
 "bestever": 49808,
 "authorised": 1795327660,
 "worker": [
  {
   "workername": "1PKN.w1",
   "hashrate1m": "1.62G",
   "hashrate5m": "455M",
   "hashrate1hr": "48.6M",
   "hashrate1d": "2.09M",
   "hashrate7d": "298K",
   "lastshare": 1795327661,
   "shares": 84,
   "bestshare": 231.5856497774995,
   "bestever": 231
  }
 ]
}
`;
const USER_LINE =
  'User 1PKN:{"hashrate1m":"426G","hashrate5m":"107G","hashrate1hr":"9.48G","hashrate1d":"397M","hashrate7d":"56.7M","lastshare":1795327771,"workers":2,"shares":8032,"bestshare":49808.477248356088,"bestever":49808,"authorised":1795327660}';
const POOL = [
  '{"runtime": 120, "lastupdate": 1795327777, "Users": 1, "Workers": 2, "Idle": 1, "Disconnected": 1}',
  '{"hashrate1m": "406G", "hashrate5m": "106G", "hashrate15m": "37.3G", "hashrate1hr": "9.52G", "hashrate6hr": "1.6G", "hashrate1d": "399M", "hashrate7d": "57M"}',
  '{"diff": 0.19, "accepted": 8032, "rejected": 436, "bestshare": 49808, "SPS1m": 0.691, "SPS5m": 0.241, "SPS15m": 0.0888, "SPS1h": 0.023}',
];

function sheetUser(): UserAccount {
  const at = 1_795_327_777_000;
  const user = new UserAccount(
    '1PKN',
    at,
    [426e9, 107e9, 9.48e9, 397e6, 56.7e6].map((rate) => rate / W),
  );
  Object.assign(user, { shares: 8032, best: 49808.477248356088, bestEver: 49808.477248356088 });
  Object.assign(user, { lastShareMs: 1_795_327_771_000, authorizedS: 1_795_327_660 });
  const worker = new WorkerAccount(
    '1PKN.w1',
    at,
    [1.62e9, 455e6, 48.6e6, 2.09e6, 298e3].map((rate) => rate / W),
  );
  Object.assign(worker, { shares: 84, best: 231.5856497774995, bestEver: 231.5856497774995 });
  Object.assign(worker, { lastShareMs: 1_795_327_661_000, startedMs: 1_795_327_660_000, agent: 'cgminer/4.11.1' });
  user.workers.set(worker.name, worker);
  return user;
}

const sheetPool = {
  startedMs: 1_795_327_657_000,
  users: 1,
  workers: 2,
  idle: 1,
  disconnected: 1,
  dsps: [406e9, 106e9, 37.3e9, 9.52e9, 1.6e9, 399e6, 57e6].map((rate) => rate / W),
  sps: [0.69123, 0.24133, 0.088812, 0.0229991],
  accepted: 8032,
  rejected: 436,
  acceptedCount: 190,
  rejectedCount: 9,
  best: 49808.477,
  networkDiff: 4_194_304,
};

describe("under compat ckpool the texts are CKPool's to the byte", () => {
  test('a user', () => {
    expect(userText(sheetUser(), 2, 1_795_327_777_000, CKPOOL)).toBe(USER);
  });

  test('the line of a user', () => {
    expect(userLine(sheetUser(), 2, CKPOOL)).toBe(USER_LINE);
  });

  test('the pool', () => {
    expect(poolLines(sheetPool, 1_795_327_777_000, CKPOOL)).toEqual(POOL);
  });

  test('the lines after a solved block', () => {
    const user = sheetUser();
    expect(solverLines(user, user.workers.get('1PKN.w1')!, CKPOOL)).toEqual([
      'User 1PKN:{"hashrate1m": "426G", "hashrate5m": "107G", "hashrate1hr": "9.48G", "hashrate1d": "397M", "hashrate7d": "56.7M", "shares": 8032, "authorised": 1795327660}',
      'Worker 1PKN.w1:{"hashrate1m": "1.62G", "hashrate5m": "455M", "hashrate1hr": "48.6M", "hashrate1d": "2.09M", "hashrate7d": "298K"}',
    ]);
  });

  test('a worker without a share for 600,000 s is left out', () => {
    const user = sheetUser();
    expect(userText(user, 0, user.workers.get('1PKN.w1')!.lastShareMs + 600_001_000, CKPOOL)).toContain(
      '"worker": []\n}\n',
    );
  });
});

describe('else our keys follow, and fractions are kept', () => {
  test('a user', () => {
    const ours = userText(sheetUser(), 2, 1_795_327_777_000, OURS);
    expect(ours).toBe(
      USER.replace(
        '"bestever": 231\n',
        '"bestever": 231,\n   "started": 1795327660,\n   "useragent": "cgminer/4.11.1"\n',
      ),
    );
  });

  test('the pool', () => {
    const [first, second, third] = poolLines(sheetPool, 1_795_327_777_000, OURS);
    expect([first, second]).toEqual(POOL.slice(0, 2));
    expect(third).toBe(POOL[2]!.replace('}', ', "netdiff": 4194304.0, "accepted_count": 190, "rejected_count": 9}'));
    const small = { ...sheetPool, accepted: 1.28705, best: 0.75, networkDiff: 1 };
    expect(poolLines(small, 1_795_327_777_000, OURS)[2]).toMatch(
      /^\{"diff": 129.0, "accepted": 1.28705, "rejected": 436, "bestshare": 0.75, "SPS1m": 0.691/,
    );
  });

  test("a worker's file has the keys of CKPool 0.9.4 first", () => {
    expect(workerText(sheetUser().workers.get('1PKN.w1')!, OURS)).toBe(
      '{"hashrate1m": "1.62G", "hashrate5m": "455M", "hashrate1hr": "48.6M", "hashrate1d": "2.09M", "hashrate7d": "298K", "lastupdate": 1795327661, "shares": 84, "bestshare": 231.5856497774995, "bestever": 231, "lastshare": 1795327661, "started": 1795327660, "useragent": "cgminer/4.11.1"}\n',
    );
  });
});

describe("the recorded files of ckpool-lhr, after the list of normalisations, are ours'", () => {
  // Order of our keys, and: `started` and `useragent` last; averages below 1000 whole; best shares of ever whole from 1 up.
  const normal = (text: string): unknown =>
    JSON.parse(text, (key, value) => {
      if (key.startsWith('hashrate'))
        return /[A-Z]$/.test(value)
          ? value
          : String(Math.trunc(Number.parseFloat(value) * (/[mu]$/.test(value) ? 0 : 1)));
      if (key === 'bestever') return value >= 1 ? Math.trunc(value) : value;
      return value;
    });
  const files = ['regtest-rejects', 'testnet-shares', 'testnet-proxy'].flatMap((scenario) =>
    readdirSync(recorded(`${scenario}/logs/users`)).map((name) => [scenario, name] as const),
  );
  test.each(files)('%s %s', (scenario, name) => {
    const text = readFileSync(recorded(`${scenario}/logs/users/${name}`), 'utf8');
    const { user, hasWorkers } = userFromText(name, text, 1_795_328_857_000, OURS);
    expect(hasWorkers).toBe(true);
    for (const worker of user.workers.values()) {
      const started = JSON.parse(text).worker.find(
        (each: { workername: string }) => each.workername === worker.name,
      ).started;
      worker.startedMs = started * 1_000;
    }
    const ours = userText(user, JSON.parse(text).workers, 1_795_328_857_000, OURS);
    expect(normal(ours)).toEqual(normal(text));
    // Byte by byte but for those: line by line, as sets of the same lines.
    const lines = (of: string): string[] =>
      of
        .split('\n')
        .map((line) => line.replace(/,$/, ''))
        .filter((line) => !/hashrate|bestever/.test(line))
        .sort();
    expect(lines(ours)).toEqual(lines(text));
  });
});

test.each(['regtest-rejects', 'testnet-shares', 'testnet-proxy'])(
  "the recorded pool.status of %s is ours', after the list of normalisations",
  (scenario) => {
    const text = readFileSync(recorded(`${scenario}/logs/pool/pool.status`), 'utf8');
    const theirs = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const stored = poolFromText(text, 0, OURS);
    const [counts] = theirs;
    const ours = poolLines(
      {
        ...stored,
        startedMs: stored.updatedMs - counts.runtime * 1_000,
        users: counts.Users,
        workers: counts.Workers,
        idle: counts.Idle,
        disconnected: counts.Disconnected,
        networkDiff: theirs[2].netdiff,
      },
      stored.updatedMs,
      OURS,
    );
    delete counts.UserAgents;
    expect(ours[0]).toBe(JSON.stringify(counts).replaceAll(':', ': ').replaceAll(',', ', '));
    expect(ours[1]).toBe(text.split('\n')[1]);
    const rounded = (of: Record<string, number>): Record<string, number> =>
      Object.fromEntries(
        Object.entries(of).map(([key, value]) => [key, /SPS|^diff/.test(key) ? Number(value.toPrecision(3)) : value]),
      );
    expect(JSON.parse(ours[2])).toEqual(rounded(theirs[2]));
  },
);

// --- reading ---------------------------------------------------------------------------------------------------------------

describe('what any age of CKPool wrote is read', () => {
  test('pool.status of the recordings and of 0.9.9', () => {
    const lhr = poolFromText(readFileSync(recorded('testnet-shares/logs/pool/pool.status'), 'utf8'), 0, OURS);
    expect(lhr).toMatchObject({
      updatedMs: 1_795_328_857_000,
      accepted: 1.28705,
      acceptedCount: 25_741,
      best: 0.89349,
    });
    expect(lhr.dsps[1]! * W).toBeCloseTo(4.91e6, 3);
    expect(lhr.sps[1]).toBe(22.8527);
    expect(poolFromText(`${POOL.join('\n')}\n`, 0, OURS)).toMatchObject({ accepted: 8032, rejected: 436, best: 49808 });
    const texts = POOL.join('\n').replace(/"(SPS\w+)": ([\d.]+)/g, '"$1": "$2"');
    expect(poolFromText(texts, 0, OURS).sps).toEqual([0.691, 0.241, 0.0888, 0.023]);
  });

  test('0.9.9, and 0.95 without authorised', () => {
    const { user } = userFromText('1PKN', USER, 5_000, CKPOOL);
    expect(user).toMatchObject({ shares: 8032, bestEver: 49808.47724835609, authorizedS: 1_795_327_660 });
    expect(user.workers.get('1PKN.w1')).toMatchObject({ shares: 84, best: 231.5856497774995 });
    expect(userFromText('1PKN', USER.replace(/ "authorised.*\n/, ''), 5_000, CKPOOL).user.authorizedS).toBe(0);
  });

  test.each([
    ['', 'JSON'],
    ['{"hashrate1m": "426G"', 'JSON'],
    ['[]', 'no JSON object'],
    ['{"hashrate1m": "lots"}', '"hashrate1m" is "lots", no hash rate'],
    ['{"shares": -1}', '"shares" is -1'],
    ['{"shares": "many"}', '"shares" is "many"'],
    ['{"shares": ""}', '"shares" is ""'],
    ['{"worker": 7}', '"worker" is no list'],
  ])('%s is refused with a reason', (text, reason) => {
    expect(() => userFromText('u', text, 0, CKPOOL)).toThrow(reason);
  });

  test('a worker of another user is skipped', () => {
    const text = USER.replace('1PKN.w1', 'mallory.w1');
    expect(userFromText('1PKN', text, 0, CKPOOL).user.workers.size).toBe(0);
  });
});

// --- names -----------------------------------------------------------------------------------------------------------------

describe('names as files', () => {
  test.each([
    ['1PKN8vxmD8wZ2o.rig1', '1PKN8vxmD8wZ2o.rig1'],
    ['ADDRESS.me@example.com', 'ADDRESS.me@example.com'],
    ['..', '%2e.'],
    ['.hidden', '%2ehidden'],
    ['a/../../etc/passwd', 'a%2f..%2f..%2fetc%2fpasswd'],
    ['nul\0', 'nul%00'],
    ['50%', '50%25'],
    ['müller', 'm%c3%bcller'],
    ['a b', 'a%20b'],
  ])('%j is %s', (name, file) => {
    expect(fileNameOf(name)).toBe(file);
    expect(nameOfFile(file)).toBe(name);
  });

  test('are never a path, never too long, and the same for no two names, in any kind of folder', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 255 }), fc.boolean(), (text, folds) => {
        const name = text.toWellFormed();
        const file = fileNameOf(name, folds);
        expect(file).toMatch(/^[!-.0-~]+$/);
        expect(file.startsWith('.')).toBe(false);
        expect(file.length).toBeLessThanOrEqual(240);
        if (folds) expect(file.replace(/^(?:.*)$/, (all) => all.toLowerCase())).toBe(file);
        const back = nameOfFile(file, folds);
        if (file.includes('%~')) expect(back).toBeNull();
        else expect(back).toBe(name);
      }),
    );
  });

  test('long names that differ at their end are different files', () => {
    const [a, b] = ['ü'.repeat(126), `${'ü'.repeat(125)}o`].map((name) => fileNameOf(name));
    expect(a).not.toBe(b);
    expect(a!.length).toBeLessThanOrEqual(240);
  });

  test("CKPool's files keep the names that they have", () => {
    for (const file of ['müller', '50%', 'a%41', 'a b']) expect(nameOfFile(file)).toBe(file);
  });
});

// --- on disk ---------------------------------------------------------------------------------------------------------------

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
