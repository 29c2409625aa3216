import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type PlainProgram, startProgram } from '../../../services/cli/programs.ts';
import { loadConfig } from '../../../services/core/config.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { readStatuses } from '../../../services/core/status.ts';
import { shareEntries } from '../../contracts/samples.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { type TestLife, testLife } from '../consumers/world.ts';
import { endings } from '../core/log/packing.ts';

let dir: { path: string; remove(): void };
let life: TestLife;
beforeEach(() => {
  dir = tempDir('programs');
  life = testLife();
});
afterEach(async () => {
  await life.end();
  dir.remove();
});

/** A program whose ClickHouse and broker are away. */
async function start(
  program: PlainProgram,
  options: { readonly pack?: 'false'; readonly kafka?: true },
): Promise<string[]> {
  const nobody = `127.0.0.1:${await freePort()}`;
  const config = loadConfig(
    {
      options: {
        'lodestream.data_dir': dir.path,
        'lodestream.clickhouse.url': `http://${nobody}`,
        ...(options.pack === undefined ? {} : { 'lodestream.journal.pack': options.pack }),
        ...(options.kafka === undefined ? {} : { 'lodestream.kafka.brokers': nobody }),
      },
    },
    {},
  );
  await startProgram(program, config, life);
  return readStatuses(join(dir.path, 'status')).map((status) => status.program);
}

test.each([
  ['consume', {}, true],
  ['consume', { pack: 'false' }, false],
  ['consume', { kafka: true }, false],
  ['relay', { kafka: true }, true],
  ['relay', { kafka: true, pack: 'false' }, false],
] as const)('who packs the journal: %s with %o: %s', async (program, options, packs) => {
  expect((await start(program, options)).includes('packer')).toBe(packs);
});

test('a journal is packed while ClickHouse is away, and the status says how much', async () => {
  const journal = join(dir.path, 'journal');
  const writer = openJournalWriter({ dir: journal, instance: 'a', segmentBytes: 20_000 });
  for (let n = 0; n < 200; n += 10) writer.append(shareEntries(n, 10));
  writer.close();
  const { avro } = endings(journal);
  await start('consume', {});
  await until('all but the newest packed', () => endings(journal).zdx === avro! - 1 && endings(journal).idx === 1);
  const packer = await until('its status', () =>
    readStatuses(join(dir.path, 'status')).find(
      ({ program, values }) => program === 'packer' && values.packed_segments_count === avro! - 1,
    ),
  );
  expect(packer.problems).toEqual([]);
  expect(packer.values.packed_records_count).toBeGreaterThan(100);
  expect(packer.values.packed_to_bytes).toBeLessThan(packer.values.packed_from_bytes as number);
  expect(life.lines.filter((line) => line.startsWith('stop') || line.includes('packed'))).toEqual([]);
});
