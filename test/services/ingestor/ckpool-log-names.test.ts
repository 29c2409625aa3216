import { expect, test } from 'vitest';
import { inOrder, mainLogOf } from '../../../services/ingestor/ckpool-log-names.ts';

test.each([
  ['ckpool.log', 'ckpool.log', null],
  ['ckpool.log.3', 'ckpool.log', '3'],
  ['ckpool.log.12.gz', 'ckpool.log', '12'],
  ['ckproxy.log-20261126.zst', 'ckproxy.log', '20261126'],
  ['ckpool.log-20261126-1764115200', 'ckpool.log', '20261126-1764115200'],
  ['ckpool-20261126.log', 'ckpool.log', '20261126'],
  ['ckpool.2.log.gz', 'ckpool.log', '2'],
  ['pool-2.log', 'pool.log', '2'],
  ['ckpool.log-2026-11-26.gz', 'ckpool.log', '2026-11-26'],
  ['ckpool-2026-11-26_04.log', 'ckpool.log', '2026-11-26_04'],
])('%s is of %s', (name, family, mark) => {
  expect(mainLogOf(`/x/${name}`)).toMatchObject({ family: `/x/${family}`, mark });
});

test.each([
  '6b02870800000000.sharelog',
  '6b02870800000000.sharelog.gz',
  'pool.status',
  'ckpool.log.bak',
  'ckpool.log.1.tmp',
])('%s is no main log', (name) => expect(mainLogOf(`/x/${name}`)).toBeNull());

test('files come in the order in which they were written', () => {
  const order = (names: readonly string[]): string[] =>
    inOrder(names.map((name) => mainLogOf(`/x/${name}`)!)).map(({ path }) => path.slice(3));
  expect(order(['ckpool.log', 'ckpool.log.1', 'ckpool.log.10.gz', 'ckpool.log.2.gz'])).toEqual([
    'ckpool.log.10.gz',
    'ckpool.log.2.gz',
    'ckpool.log.1',
    'ckpool.log',
  ]);
  expect(
    order([
      'ckpool.log',
      'ckpool.log-20261126',
      'ckpool.log-20251231.gz',
      'ckpool.log-20261125.gz',
      'ckpool.log-20261125',
    ]),
  ).toEqual([
    'ckpool.log-20251231.gz',
    'ckpool.log-20261125',
    'ckpool.log-20261125.gz',
    'ckpool.log-20261126',
    'ckpool.log',
  ]);
});

test('dates may have dashes, and hours behind them', () => {
  const names = ['ckpool.log', 'ckpool.log-2026-11-26', 'ckpool.log-2026-11-09', 'ckpool.log-20251231', 'ckpool.log-2026-11-26_04']; // biome-ignore format: one list
  expect(inOrder(names.map((name) => mainLogOf(`/x/${name}`)!)).map(({ path }) => path.slice(14))).toEqual([
    '20251231',
    '2026-11-09',
    '2026-11-26',
    '2026-11-26_04',
    '',
  ]);
});
