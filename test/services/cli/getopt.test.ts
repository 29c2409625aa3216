import { describe, expect, test } from 'vitest';
import { CKPOOL_FLAGS, ckpoolHelp } from '../../../services/cli/ckpool-flags.ts';
import { COMMON } from '../../../services/cli/flags.ts';
import { getopt } from '../../../services/cli/getopt.ts';

const read = (...argv: string[]): ReturnType<typeof getopt> => getopt(argv, CKPOOL_FLAGS, COMMON);

describe('flags are read as getopt_long reads them', () => {
  test.each<[string, string[], Record<string, string | true>]>([
    [
      'the unit of years',
      ['--log-shares', '--killold', '--config', '/etc/ckpool.conf'],
      { 'log-shares': true, killold: true, config: '/etc/ckpool.conf' },
    ],
    ['a value behind =', ['--config=X'], { config: 'X' }],
    ['an empty value behind =', ['--name='], { name: '' }],
    ['a value that looks like a flag', ['--config', '-k'], { config: '-k' }],
    [
      'unique beginnings',
      ['--kill', '--log-s', '--logl', '3', '--hand'],
      { killold: true, 'log-shares': true, loglevel: '3', handover: true },
    ],
    ['a beginning with a value', ['--conf=a', '--sock', '/run/x'], { config: 'a', sockdir: '/run/x' }],
    ['a bundle that ends in a value', ['-Lkc', 'FILE'], { 'log-shares': true, killold: true, config: 'FILE' }],
    ['a bundle with the value in it', ['-LcFILE'], { 'log-shares': true, config: 'FILE' }],
    ['a value without a space', ['-l7'], { loglevel: '7' }],
    ['the last of several', ['-l7', '-l', '3'], { loglevel: '3' }],
    ['a beginning that ours would make ambiguous is CKPool’s', ['--c', 'x', '--d'], { config: 'x', daemonise: true }],
    ['a beginning of ours alone', ['--data', 'D'], { 'data-dir': 'D' }],
  ])('%s', (_, argv, values) => {
    expect(read(...argv)).toEqual({ values, words: [], faults: [] });
  });

  test('order does not matter, and what follows -- is a word', () => {
    expect(read('one', '-k', '--', '-L')).toEqual({ values: { killold: true }, words: ['one', '-L'], faults: [] });
  });

  test('what is wrong is said one by one, and the rest is read', () => {
    expect(read('-Zk', '--confgi', 'F', '--quiet=3', '--lo', '-L', '-c')).toEqual({
      values: { killold: true, 'log-shares': true },
      words: ['F'],
      faults: [
        'unknown flag -Z',
        'unknown flag --confgi; did you mean --config?',
        'flag --quiet takes no value',
        'flag --lo is ambiguous: --log-shares, --loglevel',
        'flag -c wants CONFIG',
      ],
    });
  });
});

test('ckpool -h has CKPool’s lines in its order, then ours', () => {
  const lines = ckpoolHelp().split('\n');
  expect(lines.slice(0, 18).join('\n')).toBe(`-B | --btcsolo
-c CONFIG | --config CONFIG
-D | --daemonise
-g GROUP | --group GROUP
-H | --handover
-h | --help
-k | --killold
-L | --log-shares
-l LOGLEVEL | --loglevel LOGLEVEL
-n NAME | --name NAME
-N | --node
-P | --passthrough
-p | --proxy
-q | --quiet
-R | --redirector
-s SOCKDIR | --sockdir SOCKDIR
-t | --trusted
-u | --userproxy`);
  expect(lines).toContain('--data-dir DIR');
});
