import { expect, test } from 'vitest';
import { childFlags, programChildren, welcome } from '../../../services/cli/tree.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';

const config = (mode: 'pool' | 'proxy', more: Partial<Config> = {}): Config => ({
  ...loadConfig({ mode }, {}),
  ...more,
});

test('a tree has the engine, one process for what follows the log, and the daemon; each is told the mode', () => {
  expect(programChildren(config('pool'), ['--x']).map(({ args }) => args)).toEqual([
    ['clickhouse', '--x'],
    ['_group', '--x', 'chain,consume,api'],
    ['pool', '--x'],
  ]);
  expect(programChildren(config('proxy'), ['--x']).map(({ args }) => args)).toEqual([
    ['clickhouse', '--x'],
    ['_group', '--proxy', '--x', 'chain,consume,api'],
    ['proxy', '--x'],
  ]);
});

test('flags of the stratum daemon reach it alone', () => {
  const children = programChildren(config('pool'), ['--x'], null, ['--log-shares', '--loglevel', '6']);
  expect(children.map(({ args }) => args.join(' '))).toEqual([
    'clickhouse --x',
    '_group --x chain,consume,api',
    'pool --x --log-shares --loglevel 6',
  ]);
});

test('a tree leaves out what a server does, what the configuration lacks, and what --only does not name', () => {
  const elsewhere = { url: 'http://clickhouse:8123', user: 'u', password: 'p' };
  const names = (found: Config, only: string[] | null = null): string[] =>
    programChildren(found, [], only).map(({ args }) => args.join(' '));
  expect(names(config('pool', { clickhouse: elsewhere }))).toEqual(['_group chain,consume,api', 'pool']);
  expect(names(config('pool'), ['chain', 'relay'])).toEqual(['_group chain']);
  expect(names(config('pool'), ['proxy'])).toEqual([]);
});

test('what is where names addresses that can be connected to', () => {
  const text = welcome(config('pool', { http: { host: '0.0.0.0', port: 8080 } }));
  expect(text).toContain('http://127.0.0.1:8080/');
  expect(text).toContain('stratum+tcp://127.0.0.1:3333 ');
  const listen = [
    { host: '', port: 0, path: '/run/x' },
    { host: '::', port: 3334, tls: { cert: 'c', key: 'k' } },
  ];
  expect(welcome(config('pool', { listen }))).toContain('stratum+ssl://[::1]:3334 ');
});

test('what does not run is not named', () => {
  const text = welcome(config('pool'), [], ['clickhouse', 'consume']);
  expect(text).not.toContain('dashboard');
  expect(text).not.toContain('stratum+tcp');
  expect(text).toContain('SQL');
});

test('a child gets every flag that was given, but its parent’s own', () => {
  const values = { config: 'x.conf', origin: 'farm', json: true, only: 'api', name: undefined, help: false };
  expect(childFlags(values, ['only'])).toEqual(['--config', 'x.conf', '--origin', 'farm', '--json']);
});
