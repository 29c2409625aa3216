import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { rateFromSuffix } from '../../../../schemas/rate-suffix.ts';
import {
  fileNameOf,
  nameOfFile,
  poolFromText,
  poolLines,
  solverLines,
  userFromText,
  userLine,
  userText,
  workerText,
} from '../../../../services/stratum/stats/status-text.ts';
import { CKPOOL, OURS, POOL, recorded, sheetUser, USER, W } from './status-sheet.ts';

const USER_LINE =
  'User 1PKN:{"hashrate1m":"426G","hashrate5m":"107G","hashrate1hr":"9.48G","hashrate1d":"397M","hashrate7d":"56.7M","lastshare":1795327771,"workers":2,"shares":8032,"bestshare":49808.477248356088,"bestever":49808,"authorised":1795327660}';

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
  agents: [{ name: 'cpu"miner', lines: 2, dsps5m: 106e9 / W, best: 49808.477 }],
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
    const agents = '[{"ua": "cpu\\"miner", "devices": 2, "hashrate5m": "106G", "bestshare": 49808.477}]';
    expect(first).toBe(
      POOL[0]!.replace('}', `, "UserAgents": ${agents}}`).replace('49808.477}', '49808.476999999999}'),
    );
    expect(second).toBe(POOL[1]);
    expect(poolLines({ ...sheetPool, agents: [] }, 1_795_327_777_000, OURS)[0]).toBe(POOL[0]);
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
        agents: (counts.UserAgents ?? []).map(
          (of: { ua: string; devices: number; hashrate5m: string; bestshare: number }) => ({
            name: of.ua,
            lines: of.devices,
            dsps5m: rateFromSuffix(of.hashrate5m)! / W,
            best: of.bestshare,
          }),
        ),
      },
      stored.updatedMs,
      OURS,
    );
    expect(ours[0]).toBe(text.split('\n')[0]);
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
