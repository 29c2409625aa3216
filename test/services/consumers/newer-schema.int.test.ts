import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startConsumers } from '../../../services/consumers/main.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse } from '../../helpers/clickhouse.ts';
import { randomFrom } from '../../pipelines/blocks.ts';
import { configFor, shareOf, tempDir, testLife, until } from './world.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** This program with one more field in `share`, as a later version would have it. */
function newerVersion(dir: string): void {
  for (const part of [
    'services',
    'pipelines',
    'schemas',
    'test/services/consumers',
    'test/helpers/leash.ts',
    'package.json',
  ]) {
    mkdirSync(join(dir, part, '..'), { recursive: true });
    cpSync(join(ROOT, part), join(dir, part), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
  const path = join(dir, 'schemas/events/Share.avsc');
  const schema = JSON.parse(readFileSync(path, 'utf8')) as { fields: object[] };
  schema.fields.push({ name: 'firmware', type: 'string', default: '', doc: 'What a later version knows' });
  writeFileSync(path, JSON.stringify(schema));
  writeFileSync(
    join(dir, 'append.ts'),
    `import { openJournalWriter } from './services/core/log/journal.ts';
     const { dir, shares } = JSON.parse(process.argv[2]);
     const writer = openJournalWriter({ dir, instance: 'ckpool' });
     writer.append(shares.map((event) => ({ topic: 'share', event: { ...event, firmware: 'v2' } })));
     writer.close();`,
  );
}

test.skipIf(noClickHouse !== undefined)(
  'consumers that meet the schema of a newer version stop there and say so, without dead letters; the newer version goes on',
  { timeout: 360_000 },
  async () => {
    const dir = tempDir();
    const life = testLife();
    const ch = await startTestClickHouse();
    let child: ChildProcess | undefined;
    try {
      const newer = join(dir.path, 'newer');
      newerVersion(newer);
      const journal = join(dir.path, 'journal');
      const shares = Array.from({ length: 30 }, (_, n) => shareOf(randomFrom(n + 1), n));
      const writer = openJournalWriter({ dir: journal, instance: 'ckpool' });
      writer.append(shares.slice(0, 10).map((event) => ({ topic: 'share', event })));
      writer.close();
      const log = openJournalLog({ dir: journal });
      life.onStop('log', () => log.close());
      const clickhouse = { url: ch.url, user: ch.user, password: ch.token };
      const consumers = await startConsumers(configFor(dir.path, clickhouse), life, { log });
      await consumers.ready;
      await until('ours', () => (consumers.counters.rows === 10 ? true : undefined));
      execFileSync(process.execPath, [
        join(newer, 'append.ts'),
        JSON.stringify({ dir: journal, shares: shares.slice(10) }),
      ]);
      const problem = await until('a problem', () => consumers.problems().find((line) => line.startsWith('share/')));
      expect(problem).toContain('written by a newer version');
      expect(problem).toContain('Share.firmware');
      await until('a lag', () => (consumers.lagRecords() === 20 ? true : undefined));
      expect(consumers.counters).toMatchObject({ rows: 10, deadLetters: 0 });
      await life.end();

      child = spawn(
        process.execPath,
        [
          join(newer, 'test/services/consumers/runner.ts'),
          JSON.stringify({ dir: dir.path, clickhouse, killAfterInsert: 0 }),
        ],
        { stdio: ['pipe', 'inherit', 'inherit'] },
      );
      const count = async (table: string): Promise<number> => {
        const query = `SELECT toUInt32(count()) AS n FROM ${table}`;
        return (await (await ch.reader.query({ query, format: 'JSONEachRow' })).json<{ n: number }>())[0]!.n;
      };
      await until('all', async () => ((await count('shares')) === 30 ? true : undefined));
      expect(await count('dead_letters')).toBe(0);
    } finally {
      child?.kill('SIGKILL');
      await life.end();
      await ch.stop();
      dir.remove();
    }
  },
);
