import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { tempDir } from './leash.ts';
import { havePart, leaveOut, leftOutLines, requiredParts } from './require.ts';

const { path: dir, remove } = tempDir('require');
afterAll(remove);
afterEach(() => vi.unstubAllEnvs());
afterEach(() => rmSync(join(dir, 'left-out'), { force: true }));

test('a part that is left out is said once, with the first reason, on one line', async () => {
  vi.stubEnv('LODESTREAM_TEST_RUN', dir);
  vi.stubEnv('LODESTREAM_REQUIRE', '');
  expect(leftOutLines(dir)).toEqual([]);
  expect(await havePart('kafka', () => ({ missing: 'no mvn\non PATH' }))).toBeUndefined();
  leaveOut('kafka', 'again');
  leaveOut('miner', 'no minerd on PATH');
  expect(leftOutLines(dir)).toEqual([
    'left out: kafka (no mvn on PATH): nothing was tried on a real broker',
    'left out: miner (no minerd on PATH): no miner but our own was tried',
  ]);
});

test('a part that LODESTREAM_REQUIRE names fails where it is absent', async () => {
  vi.stubEnv('LODESTREAM_TEST_RUN', dir);
  vi.stubEnv('LODESTREAM_REQUIRE', 'node, kafka');
  await expect(havePart('kafka', () => ({ missing: 'no java on PATH' }))).rejects.toThrow(
    'left out: kafka (no java on PATH)',
  );
  expect(await havePart('kafka', () => ({ brokers: [] }))).toEqual({ brokers: [] });
});

test('a name in LODESTREAM_REQUIRE that is no part is refused', () => {
  expect(() => requiredParts('kafka,nodes')).toThrow('LODESTREAM_REQUIRE names nodes; parts are kafka, node,');
  expect(requiredParts('')).toEqual(new Set());
});
