import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { followShareLogs } from '../../../services/ingestor/follow.ts';
import { ingest } from '../../../services/ingestor/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { journaled } from '../stratum/rig.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));
const good = readFileSync(join(fixtures, 'regtest-rejects/logs/0000006f/6b02870800000000.sharelog'), 'utf8')
  .split('\n')
  .slice(0, 6);
const nonces = good.map((line) => JSON.parse(line).nonce as string);

let dir: { path: string; remove(): void };
let logs: string;
beforeEach(() => {
  dir = tempDir('follow');
  logs = join(dir.path, 'logs');
  mkdirSync(logs);
});
afterEach(() => dir.remove());

const log = (height: string, job = '6b02870800000000'): string => join(logs, height, `${job}.sharelog`);
function options() {
  const data = openDataDir(join(dir.path, 'data'));
  return {
    ...{ logDir: logs, paths: [], origin: 'ckpool', instance: 'test', data, dryRun: false },
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    onBad: () => {},
    onProgress: () => {},
  };
}
const stored = async (): Promise<string[]> => {
  const shares = await journaled(join(dir.path, 'data'), 'test', 'share').catch(() => []);
  return shares.map(({ nonce }) => nonce).sort();
};
const has = (count: number): Promise<unknown> =>
  until(
    () => `${count} shares`,
    async () => (await stored()).join() === nonces.slice(0, count).sort().join(),
    { everyMs: 50 },
  );

test('what is there, what is appended, new heights and late shares of old ones come in as they are written, each once', async () => {
  for (const height of ['00000010', '00000011', '00000012', '00000013']) mkdirSync(join(logs, height));
  writeFileSync(log('00000010'), `${good[0]}\n`);
  const stopping = new AbortController();
  const following = followShareLogs({ ...options(), signal: stopping.signal, onPass: () => {} });
  try {
    await has(1);
    writeFileSync(log('00000013'), `${good[1]}\n`);
    await has(2);
    appendFileSync(log('00000013'), good[2]!.slice(0, 50));
    mkdirSync(join(logs, '00000014'));
    writeFileSync(log('00000014'), `${good[3]}\n`);
    await until('the new height', async () => (await stored()).includes(nonces[3]!), { everyMs: 50 });
    appendFileSync(log('00000013'), `${good[2]!.slice(50)}\n`);
    await has(4);
    await expect(ingest(options())).rejects.toThrow(/ingest of .* is already open|is held by/);
  } finally {
    stopping.abort();
    await following;
  }
  // Far below what is watched: the next run has it.
  appendFileSync(log('00000010'), `${good[4]}\n`);
  expect(await ingest(options())).toMatchObject({ lines: 1, known: 4 });
  await has(5);
});

test('a log directory that goes away while it is followed ends it with a word', async () => {
  const stopping = new AbortController();
  const following = followShareLogs({ ...options(), signal: stopping.signal, onPass: () => {} });
  rmSync(logs, { recursive: true });
  await expect(following).rejects.toThrow('there is no such file or directory');
});
