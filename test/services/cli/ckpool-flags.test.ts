/** What the command line of a stratum daemon means, with real configuration files. */
import { writeFileSync } from 'node:fs';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type DaemonCall, readDaemonCall } from '../../../services/cli/ckpool-flags.ts';
import { errorLine, PoolError } from '../../../services/core/errors.ts';
import { tempDir } from '../../helpers/leash.ts';

const dir = tempDir('flags');
const home = process.cwd();
afterAll(() => {
  process.chdir(home);
  dir.remove();
});
beforeEach(() => {
  process.chdir(dir.path);
  writeFileSync('ckpool.conf', '{"startdiff": 7}');
  writeFileSync('ckproxy.conf', '{"startdiff": 8}');
  writeFileSync('compat.conf', '{"lodestream": {"compat": "ckpool"}}');
});

const read = (argv: readonly string[], preset: 'pool' | 'proxy' = 'pool', inTree = false): DaemonCall =>
  readDaemonCall(argv, preset, inTree, {})!;

function refused(argv: readonly string[], preset: 'pool' | 'proxy' = 'pool'): [number, string] {
  try {
    read(argv, preset);
  } catch (error) {
    if (error instanceof PoolError) return [error.exit, errorLine(error)];
    throw error;
  }
  throw new Error('it was taken');
}

describe('names and folders', () => {
  test('without -c the file is NAME.conf of this folder, where there is one', () => {
    expect(read([]).config).toMatchObject({ file: 'ckpool.conf', startDiff: 7 });
    expect(read([], 'proxy').config).toMatchObject({ file: 'ckproxy.conf', name: 'ckproxy', startDiff: 8 });
    expect(read(['-p']).config).toMatchObject({ file: 'ckproxy.conf', mode: 'proxy', name: 'ckproxy' });
    expect(read(['-n', 'other']).config).toMatchObject({ file: null, name: 'other', startDiff: 42 });
  });

  test('a child of a tree reads what it is told alone', () => {
    expect(read([], 'pool', true).config).toMatchObject({ file: null, sockDir: 'data/sockets' });
    expect(read([], 'pool', true)).toMatchObject({ takeOver: 'kill', sockDirMayFail: true });
    expect(read(['-s', '/run/x'], 'pool', true)).toMatchObject({ takeOver: 'kill', sockDirMayFail: false });
    expect(read(['--data-dir', `/${'x'.repeat(120)}`], 'pool', true).config.sockDir).toBeNull();
  });

  test('the socket folder is /tmp/NAME; the one that is given has no name appended', () => {
    expect(read([]).config.sockDir).toBe('/tmp/ckpool');
    expect(read(['-n', 'x']).config.sockDir).toBe('/tmp/x');
    expect(read(['-s', '/run/ckpool', '-n', 'x']).config.sockDir).toBe('/run/ckpool');
  });

  test('a name that leads elsewhere is refused', () => {
    expect(refused(['-n', '../../etc/x', '--origin', 'o'])).toEqual([78, expect.stringContaining('"../../etc/x"')]);
  });
});

test('the flags that change the daemon reach its configuration', () => {
  const call = read(['-Lkl6', '-g', 'users', '-D', '-q']);
  expect(call).toMatchObject({ takeOver: 'kill', daemonise: true, warnings: [] });
  expect(call.config).toMatchObject({ logShares: true, logLevel: 6, sockGroup: 'users' });
  expect(call.config.solo).toBe(false);
  expect(read(['--btcsolo']).config).toMatchObject({ solo: true, mode: 'pool' });
  expect(read(['-H', '-k']).takeOver).toBe('handover');
  expect(read([])).toMatchObject({ takeOver: 'no', daemonise: false });
});

describe('a mode that is not built says what to use, with status 78', () => {
  test.each([
    ['-N', 'run `lodestream pool` with a node of its own'],
    ['-P', 'run `lodestream proxy`'],
    ['-R', 'run `lodestream proxy`'],
    ['-t', 'a second `lodestream pool` under its own origin'],
    ['-u', 'run `lodestream proxy`'],
    ['--passthr', 'run `lodestream proxy`'],
  ])('%s', (flag, words) => {
    expect(refused([flag])).toEqual([78, expect.stringContaining(words)]);
  });
});

describe('an unknown flag', () => {
  test('ends the start with status 64 and the nearest name', () => {
    expect(refused(['--killodl'])).toEqual([64, expect.stringContaining('did you mean --killold?')]);
    expect(refused(['word'])).toEqual([64, expect.stringContaining('"word" is not expected')]);
  });

  test('is only warned of where the file says compat ckpool', () => {
    const call = read(['-Z', '--killodl', '-c', 'compat.conf', '-L']);
    expect(call.warnings).toEqual([
      'invalid option: unknown flag -Z',
      'invalid option: unknown flag --killodl; did you mean --killold?',
    ]);
    expect(call.config.logShares).toBe(true);
  });

  test('is named before the configuration that it kept from being found', () => {
    expect(refused(['--confgi', 'absent.conf', '-c', 'absent.conf'])[0]).toBe(64);
    expect(refused(['-c', 'absent.conf'])).toEqual([78, expect.stringContaining('there is no such file')]);
  });
});

test('flags of an older CKPool are swallowed with a warning, and their values with them', () => {
  const call = read(['-A', '-d', 'ckdb', '-S', '/tmp/ckdb', '--ckdb-name=x', '-L']);
  expect(call.config.logShares).toBe(true);
  expect(call.warnings).toHaveLength(3);
});

test('a loglevel out of range and modes that exclude each other have CKPool’s words and status 64', () => {
  expect(refused(['-l', '9'])).toEqual([64, expect.stringContaining('Invalid loglevel (range 0 - 7): 9')]);
  for (const level of ['x', '', '-1', '7.0']) expect(refused(['-l', level])[0]).toBe(64);
  expect(refused(['-p', '-B'])).toEqual([64, expect.stringContaining('Cannot set both proxy and btcsolo mode')]);
  expect(refused(['-B'], 'proxy')[0]).toBe(64);
});

test('help is help, whatever else is wrong', () => {
  expect(readDaemonCall(['--nonsense', '-h'], 'pool', false, {})).toBeNull();
});
