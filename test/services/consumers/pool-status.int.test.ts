/** What CKPool's main log tells, from the file to SQL: statistics, blocks, and how both merge with what came live. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { startConsumers } from '../../../services/consumers/main.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { MainLogCheckpoints } from '../../../services/ingestor/ckpool-log-checkpoints.ts';
import { ingestMainLog } from '../../../services/ingestor/ckpool-log-files.ts';
import { mainLogFiles } from '../../../services/ingestor/ckpool-log-names.ts';
import { emptyMainLogSummary } from '../../../services/ingestor/ckpool-log-reading.ts';
import { Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import { ingestStatusFiles } from '../../../services/ingestor/status-files.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { configFor, type TestLife, tempDir, testLife, until } from './world.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));

describe.skipIf(noClickHouse !== undefined)("CKPool's main log in SQL", { timeout: 360_000 }, () => {
  let ch: TestClickHouse;
  const dir = tempDir();
  const life: TestLife = testLife();
  const writers = new Map<string, JournalWriter>();

  beforeAll(async () => {
    ch = await startTestClickHouse();
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    life.onStop('log', () => log.close());
    const clickhouse = { url: ch.url, user: 'writer', password: ch.token };
    await (await startConsumers(configFor(dir.path, clickhouse), life, { log })).ready;
  }, 360_000);
  afterAll(async () => {
    await life.end();
    for (const writer of writers.values()) writer.close();
    await ch?.stop();
    dir.remove();
  });

  const writer = (instance: string): JournalWriter => {
    const opened = writers.get(instance) ?? openJournalWriter({ dir: join(dir.path, 'journal'), instance });
    writers.set(instance, opened);
    return opened;
  };
  /** A log directory of its own. */
  const logsOf = (name: string): string => {
    mkdirSync(join(dir.path, name), { recursive: true });
    return join(dir.path, name);
  };
  async function ingest(logDir: string, out: JournalWriter, chain = 'regtest'): Promise<void> {
    const checkpoints = new MainLogCheckpoints(join(logDir, `${out.instance}.sqlite`));
    const options = {
      origin: 'ckpool',
      instance: out.instance,
      zone: new Zone('UTC'),
      logDir,
      chain: { name: chain, pow: 'sha256d' },
      dryRun: false,
      onBad: ({ reason }: { reason: string }) => expect.unreachable(reason),
      openJournal: () => out,
    };
    await ingestMainLog(mainLogFiles(join(logDir, 'ckpool.log')), options, checkpoints, emptyMainLogSummary());
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
    const logs = logsOf('statistics');
    for (const name of ['ckpool.log', 'ckpool.log.1', 'ckpool.log.2'])
      writeFileSync(join(logs, name), readFileSync(join(fixtures, 'rotation', name)));
    // The state of the last minute that the log tells of, as its file has it.
    mkdirSync(join(logs, 'pool'));
    const status = readFileSync(join(fixtures, 'testnet-shares/logs/pool/pool.status'));
    writeFileSync(join(logs, 'pool/pool.status'), status);
    await ingest(logs, writer('ingest-ckpool'));
    await ingest(logs, writer('ingest-again'));
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

  const live = (chain: string, hash: string): Inputs['block'] => ({
    kind: 'solved',
    chain,
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

  test.each([
    ['the live one first', 'regtest'],
    ['the log first', 'signet'],
  ])('a block of which log and daemon tell is the live one: %s', async (order, chain) => {
    const logs = logsOf(chain);
    const text = readFileSync(join(fixtures, 'rotation/ckpool.log.1'), 'utf8');
    writeFileSync(join(logs, 'ckpool.log'), text);
    const [first, second] = [...text.matchAll(/Block hash changed to ([0-9a-f]{64})/g)].map(([, each]) => each!);
    const known = () => select<{ hash: string }>(`SELECT hash FROM blocks WHERE chain = '${chain}'`);
    const steps = [
      async () => writer('ckpool').append([{ topic: 'block', event: live(chain, first!) }]),
      () => ingest(logs, writer(`ingest-${chain}`), chain),
    ];
    if (order === 'the log first') steps.reverse();
    for (const step of steps) {
      await step();
      await until('what was told', async () => ((await known()).length > 0 ? true : undefined));
    }
    await until('both', async () => {
      expect(
        await select(
          `SELECT hash, toString(user) AS user, solved, status, nbits FROM blocks WHERE chain = '${chain}' ORDER BY user`,
        ),
      ).toEqual([
        { hash: second, user: '2NCvSFARANKktjQ4aNZuLHn9wyQjBRS8VtK', solved: 1, status: 'solved', nbits: '' },
        { hash: first, user: 'live', solved: 1, status: 'solved', nbits: '207fffff' },
      ]);
      return true;
    });
    expect(
      await select(
        `SELECT hash, toString(source) AS source FROM block_events WHERE chain = '${chain}' ORDER BY source`,
      ),
    ).toEqual([
      { hash: second, source: 'backfill' },
      { hash: first, source: 'live' },
    ]);
    expect(await select('SELECT * FROM dead_letters')).toEqual([]);
  });
});
