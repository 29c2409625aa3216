/** What CKPool's main log tells, from the file to SQL: statistics, blocks, and how both merge with what came live. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { startConsumers } from '../../../services/consumers/main.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import {
  emptyMainLogSummary,
  ingestMainLog,
  MainLogCheckpoints,
  mainLogFiles,
} from '../../../services/ingestor/ckpool-log-files.ts';
import { Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import { ingestStatusFiles } from '../../../services/ingestor/status-files.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { configFor, type TestLife, tempDir, testLife, until } from './world.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));

describe.skipIf(noClickHouse !== undefined)("CKPool's main log in SQL", { timeout: 120_000 }, () => {
  let ch: TestClickHouse;
  let dir: ReturnType<typeof tempDir>;
  let life: TestLife;
  let writers: JournalWriter[];

  beforeAll(async () => {
    ch = await startTestClickHouse();
  });
  afterAll(() => ch.stop());
  afterEach(async () => {
    await life.end();
    for (const writer of writers) writer.close();
    dir.remove();
  });

  const writer = (instance: string): JournalWriter => {
    const opened = openJournalWriter({ dir: join(dir.path, 'journal'), instance });
    writers.push(opened);
    return opened;
  };
  async function begin(): Promise<void> {
    const tables = await ch.writer.query({ query: 'SHOW TABLES', format: 'JSONEachRow' });
    for (const { name } of await tables.json<{ name: string }>())
      await ch.writer.command({ query: `DROP TABLE ${name}` });
    dir = tempDir();
    life = testLife();
    writers = [];
    mkdirSync(join(dir.path, 'logs'));
  }
  async function consume(): Promise<void> {
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    life.onStop('log', () => log.close());
    await (
      await startConsumers(configFor(dir.path, { url: ch.url, user: 'writer', password: ch.token }), life, { log })
    ).ready;
  }
  async function ingest(out: JournalWriter, checkpointFile: string): Promise<void> {
    const checkpoints = new MainLogCheckpoints(join(dir.path, checkpointFile));
    const options = {
      origin: 'ckpool',
      instance: out.instance,
      zone: new Zone('UTC'),
      logDir: join(dir.path, 'logs'),
      chain: { name: 'regtest', pow: 'sha256d' },
      dryRun: false,
      onBad: ({ reason }: { reason: string }) => expect.unreachable(reason),
      openJournal: () => out,
    };
    await ingestMainLog(mainLogFiles(join(dir.path, 'logs/ckpool.log')), options, checkpoints, emptyMainLogSummary());
    ingestStatusFiles(options, checkpoints, emptyMainLogSummary());
    checkpoints.close();
  }
  async function select<Row>(query: string): Promise<Row[]> {
    const answer = await ch.reader.query({
      query,
      format: 'JSONEachRow',
      clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
    });
    return answer.json<Row>();
  }

  test('statistics are rows once, however often and from wherever they were read, and the log before the status file', async () => {
    await begin();
    for (const name of ['ckpool.log', 'ckpool.log.1', 'ckpool.log.2'])
      writeFileSync(join(dir.path, 'logs', name), readFileSync(join(fixtures, 'rotation', name)));
    // The state of the last minute that the log tells of, as its file has it.
    mkdirSync(join(dir.path, 'logs/pool'));
    writeFileSync(
      join(dir.path, 'logs/pool/pool.status'),
      readFileSync(join(fixtures, 'testnet-shares/logs/pool/pool.status')),
    );
    await ingest(writer('ingest-ckpool'), 'first.sqlite');
    await ingest(writer('ingest-again'), 'second.sqlite');
    await consume();
    // By another way: the first Pool line of each block, and the lines of users and workers.
    const text = ['ckpool.log.2', 'ckpool.log.1', 'ckpool.log']
      .map((name) => readFileSync(join(fixtures, 'rotation', name), 'utf8'))
      .join('');
    const updates = [...text.matchAll(/"lastupdate": (\d+)/g)].map(([, at]) => Number(at));
    const users = [...text.matchAll(/\] User /g)].length;
    const workers = [...text.matchAll(/\] Worker /g)].length;
    await until('the rows', async () => {
      expect(await select('SELECT scope, count() AS n FROM pool_status GROUP BY scope ORDER BY scope')).toEqual([
        { scope: 'pool', n: new Set(updates).size },
        { scope: 'user', n: users },
        { scope: 'worker', n: workers },
      ]);
      return true;
    });
    expect(await select("SELECT count() AS n, countIf(kind = 'pool_status') AS told FROM sessions")).toEqual([
      { n: 0, told: 0 },
    ]);
    expect(
      await select(
        "SELECT toUnixTimestamp(time) AS at, toString(source) AS source, hashrate_1m_hps, hashrate_1h_hps, accepted_count FROM pool_status WHERE scope = 'pool' ORDER BY time DESC LIMIT 1",
      ),
    ).toEqual([
      { at: 1_795_328_857, source: 'log', hashrate_1m_hps: 91_200, hashrate_1h_hps: 2_140_000, accepted_count: 25_741 },
    ]);
  });

  const live = (hash: string): Inputs['block'] => ({
    kind: 'solved',
    chain: 'regtest',
    origin: 'ckpool',
    instance: 'ckpool',
    time_us: 1_795_328_232_000_000,
    height: 1,
    hash,
    prev_hash: '0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206',
    block_time_us: 1_795_328_230_000_000,
    nbits: '207fffff',
    version: '20000000',
    user: 'live',
    worker: 'live',
    diff: 2,
  });

  test.each(['the live one first', 'the log first'])(
    'a block of which log and daemon tell is the live one: %s',
    async (order) => {
      await begin();
      writeFileSync(join(dir.path, 'logs/ckpool.log'), readFileSync(join(fixtures, 'rotation/ckpool.log.1')));
      const told = [
        ...readFileSync(join(fixtures, 'rotation/ckpool.log.1'), 'utf8').matchAll(
          /Block hash changed to ([0-9a-f]{64})/g,
        ),
      ].map(([, each]) => each!);
      const pool = writer('ckpool');
      const appendLive = (): void => pool.append([{ topic: 'block', event: live(told[0]!) }]);
      if (order === 'the live one first') appendLive();
      await ingest(writer('ingest-ckpool'), 'first.sqlite');
      await consume();
      if (order === 'the log first') {
        await until('the log', async () => ((await select('SELECT hash FROM blocks')).length === 2 ? true : undefined));
        appendLive();
      }
      await until('both', async () => {
        expect(
          await select('SELECT hash, toString(user) AS user, solved, status, nbits FROM blocks ORDER BY user'),
        ).toEqual([
          { hash: told[1], user: '2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK', solved: 1, status: 'solved', nbits: '' },
          { hash: told[0], user: 'live', solved: 1, status: 'solved', nbits: '207fffff' },
        ]);
        return true;
      });
      expect(await select('SELECT hash, toString(source) AS source FROM block_events ORDER BY source')).toEqual([
        { hash: told[1], source: 'backfill' },
        { hash: told[0], source: 'live' },
      ]);
      expect(await select('SELECT * FROM dead_letters')).toEqual([]);
    },
  );
});
