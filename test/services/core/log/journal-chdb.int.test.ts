import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { openJournalWriter } from '../../../../services/core/log/journal.ts';
import { shareEntries } from '../../../contracts/samples.ts';
import { havePart } from '../../../helpers/require.ts';
import { tempJournal } from './journal-files.ts';
import { endings, packTopic } from './packing.ts';

const require = createRequire(import.meta.url);
const chdb = await havePart('chdb', () => {
  try {
    return { path: require.resolve('chdb') };
  } catch {
    return { missing: 'the npm package chdb is not installed' };
  }
});

describe.skipIf(!chdb)('the embedded ClickHouse', () => {
  test('reads the segments of a journal as Avro files, packed and plain, while it is being written', async () => {
    const { dir, remove } = tempJournal();
    const writer = openJournalWriter({ dir, instance: 'a', segmentBytes: 20_000 });
    try {
      for (let i = 0; i < 100; i++) writer.append(shareEntries(i * 3, 3));
      // Some packed, and some plain behind them.
      expect(await packTopic(dir, 'a', 'share', 50)).toBeGreaterThan(3);
      for (let i = 100; i < 150; i++) writer.append(shareEntries(i * 3, 3));
      expect(endings(dir).idx).toBeGreaterThan(2);
      const sql = `SELECT count(), uniqExact(hash), max(time_us) FROM file('${dir}/a/share/*.avro', 'Avro')`;
      // In a process of its own: the engine does not leave the one that loaded it.
      const code = `process.stdout.write(String(require(${JSON.stringify(chdb!.path)}).query(${JSON.stringify(sql)}, 'CSV'))); process.exit(0)`;
      const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 120_000 });
      expect(stdout.trim(), stderr).toBe('450,450,1700000000000449');
    } finally {
      writer.close();
      remove();
    }
  });
});
