import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../services/core/config.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { failed, ok } from '../../../services/doctor/findings.ts';
import { checkClock, checkDisk, checkFolders } from '../../../services/doctor/machine.ts';
import { findingLines } from '../../../services/doctor/main.ts';
import { tempDir } from '../../helpers/leash.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const GIB = 1024 ** 3;
const config = { dataDir: '/var/lib/lodestream', diskReserve: { bytes: GIB, percent: 1 } };
const room =
  (free: number, freeInodes = 900_000) =>
  () => ({
    ...{ freeBytes: free * GIB, totalBytes: 100 * GIB, freeInodes, inodes: 1_000_000 },
  });
const status = (roomH: number) => [
  { program: 'ckpool', pid: 1, time_us: 0, problems: [], values: { disk_room_h: roomH } },
];

describe('disk', () => {
  test.each([
    ['room for weeks is well', 50, [], 'ok', /50 GiB free .*, reserve 1.0 GiB$/],
    ['hours left are told while it is well', 50, status(100), 'ok', /room for 100 h at the present rate$/],
    ['less than a day is a warning', 50, status(7.9), 'warn', /^room for 7 h at the present rate/],
    ['below the reserve shares are refused', 0.5, [], 'bad', /0\.5 GiB are free .*: shares are refused$/],
  ] as const)('%s', (_, free, statuses, state, what) => {
    expect(checkDisk(config, statuses, room(free))).toEqual([
      expect.objectContaining({ state, what: expect.stringMatching(what) }),
    ]);
  });

  test('a disk without inodes is a full one', () => {
    expect(checkDisk(config, [], room(50, 10))).toEqual([
      expect.objectContaining({ state: 'warn', what: expect.stringContaining('10 of 1000000 inodes') }),
    ]);
  });
});

test('a clock without NTP is a warning, and a system that does not say is told as that', async () => {
  const states = await Promise.all(['yes', 'no', null].map((state) => checkClock(async () => state)));
  expect(states.map(([finding]) => finding!.state)).toEqual(['ok', 'warn', 'ok']);
});

describe('folders', () => {
  function folders() {
    const dir = tempDir('doctor');
    closers.push(dir.remove);
    const [dataDir, logDir, file] = ['data', 'log', 'ckpool.conf'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ];
    for (const path of [dataDir, logDir]) mkdirSync(path);
    writeFileSync(file, '{}', { mode: 0o640 });
    const options = { 'lodestream.data_dir': dataDir, logdir: logDir };
    return { dataDir, logDir, file, look: () => checkFolders(loadConfig({ config: file, options }, {})) };
  }

  test('well-kept folders are one line', () => {
    const { look } = folders();
    expect(look()).toEqual([expect.objectContaining({ state: 'ok' })]);
  });

  test('a secret and a configuration that others can read are told', () => {
    const { dataDir, file, look } = folders();
    writeFileSync(join(dataDir, 'operator.token'), 'x');
    chmodSync(join(dataDir, 'operator.token'), 0o644);
    chmodSync(file, 0o644);
    expect(look().map(({ state, mend }) => `${state} ${mend}`)).toEqual([
      `bad chmod 600 ${join(dataDir, 'operator.token')}`,
      `warn chmod o-r ${file}`,
    ]);
  });

  test('a log directory of another origin is told: shares that are read back would count twice', () => {
    const { logDir, look } = folders();
    // What a power cut may leave: it is nobody's.
    writeFileSync(join(logDir, '.lodestream-origin'), '');
    expect(look()).toEqual([expect.objectContaining({ state: 'ok' })]);
    writeFileSync(join(logDir, '.lodestream-origin'), 'ckproxy\n');
    expect(look()).toEqual([
      expect.objectContaining({ state: 'bad', what: expect.stringContaining('belongs to origin ckproxy') }),
    ]);
  });

  test('a main log that nothing rotates is told', () => {
    const { logDir, look } = folders();
    writeFileSync(join(logDir, 'ckpool.log'), '');
    expect(look()).toEqual([expect.objectContaining({ check: 'logrotate', state: 'warn' })]);
  });

  test.skipIf(process.getuid?.() !== 0)(
    'a file that another user left in the data directory is told with its owner',
    () => {
      const { dataDir, look } = folders();
      mkdirSync(join(dataDir, 'state'));
      writeFileSync(join(dataDir, 'state', 'x.sqlite'), '');
      chownSync(join(dataDir, 'state', 'x.sqlite'), 12_345, 12_345);
      expect(look()).toEqual([
        expect.objectContaining({ state: 'bad', what: expect.stringContaining('belongs to another user (12345)') }),
      ]);
    },
  );
});

test('a finding is one line; what a message says of its check is not said twice', () => {
  const lines = findingLines([
    ok('disk', 'well'),
    failed('node a:1', new PoolError('node_auth', 'node a:1 refuses user\nor password')),
  ]);
  expect(lines).toEqual([
    'ok    disk      well',
    expect.stringMatching(/^bad {3}node a:1 {2}refuses user or password → correct btcd/),
  ]);
});
