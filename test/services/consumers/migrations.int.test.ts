import { readFileSync } from 'node:fs';
import type { ClickHouseClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jobPipeline } from '../../../pipelines/jobs/jobs.ts';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import { decoderFor, encodeEvent } from '../../../schemas/codec.ts';
import { insertRows } from '../../../services/consumers/insert.ts';
import { migrate, readMigrations } from '../../../services/consumers/migrations.ts';
import { rollupStatement } from '../../../services/consumers/rollups.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { randomFrom } from '../../pipelines/blocks.ts';
import { START_US, shareOf } from './world.ts';

const PLACE = { instance: 'ckpool', run: '0', sequence: 0 };

describe.skipIf(noClickHouse !== undefined)('the tables', () => {
  let ch: TestClickHouse;
  let reader: ClickHouseClient;

  beforeAll(async () => {
    ch = await startTestClickHouse();
    reader = ch.reader;
  });
  afterAll(async () => {
    await ch.stop();
  });

  const rows = async <Row>(query: string): Promise<Row[]> =>
    (await reader.query({ query, format: 'JSONEachRow' })).json<Row>();

  test('are made once; a second start, and one after an interruption, find them', async () => {
    const names = readMigrations().map(({ name }) => name);
    expect(await migrate(ch.writer)).toEqual(names);
    expect(await migrate(ch.writer)).toEqual([]);
    await ch.writer.command({ query: 'TRUNCATE TABLE schema_version' });
    expect(await migrate(ch.writer)).toEqual(names);
  });

  test('two programs that start together on an empty ClickHouse make them both', async () => {
    const two = await startTestClickHouse({ own: true });
    try {
      await Promise.all([migrate(two.writer), migrate(two.writer)]);
      expect(await migrate(two.writer)).toEqual([]);
    } finally {
      await two.stop();
    }
  });

  test('a payout of the largest hashrate on the easiest chain is not wrapped, also after its table was lost', async () => {
    await ch.writer.command({ query: 'DROP TABLE payouts_raw' });
    const lost: string[] = [];
    await migrate(ch.writer, undefined, (names) => lost.push(...names));
    expect(lost).toEqual(['payouts_raw']);
    // H = 10^27, D · W = 2, 600 s, 50 coins, 2016 blocks.
    const amount = (10n ** 27n * 600n * 50_0000_0000n * 2016n) / 2n;
    const key = { chain: 'regtest', contract_id: 'c', epoch: 1 };
    await insertRows(ch.writer, 'payouts_raw', [{ ...key, amount_sats: String(amount), ingest_version: '1' }]);
    expect(await rows('SELECT toString(amount_sats) AS amount_sats FROM payouts')).toEqual([
      { amount_sats: String(amount) },
    ]);
    await ch.writer.command({ query: 'TRUNCATE TABLE payouts_raw' });
  });

  test('a view has no column that its table lacks a comment for', async () => {
    expect(
      await rows("SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"),
    ).toEqual([]);
  });

  test('the roll-up counts the winners of copies, and a worker whose share moved away is retracted', async () => {
    const share = { ...shareOf(randomFrom(1), 0), accepted: true, errn: 0, reason: '', diff: 1.5, time_us: START_US };
    const backfill = { ...share, source: 'backfill', worker: 'old.name', time_us: START_US + 60e6 };
    const insert = async (event: typeof share): Promise<void> => {
      const whole = decoderFor('share')(encodeEvent('share', event));
      const row = sharePipeline.row(whole, PLACE);
      await insertRows(ch.writer, 'share_minutes', [
        { origin: event.origin, minute: Math.floor(event.time_us / 60e6) * 60, bucket: row.bucket },
      ]);
      await insertRows(ch.writer, 'shares_raw', [row]);
    };
    const minuteS = Math.floor(START_US / 60e6) * 60;
    const both = [minuteS, minuteS + 60].map((each) => ({ origin: 'ckpool', minuteS: each }));
    const minutes = () =>
      rows(
        'SELECT toUnixTimestamp(minute) AS minute, worker, toString(accepted) AS accepted, toString(diff) AS diff, toString(diff_squares) AS squares FROM shares_1m',
      );
    await insert(backfill);
    await ch.writer.command({ query: rollupStatement(both, 1n) });
    expect(await minutes()).toEqual([
      { minute: minuteS + 60, worker: 'old.name', accepted: '1', diff: '1.5', squares: '2.25' },
    ]);
    await insert(share);
    await ch.writer.command({ query: rollupStatement(both, 2n) });
    expect(await minutes()).toEqual([
      { minute: minuteS, worker: share.worker, accepted: '1', diff: '1.5', squares: '2.25' },
    ]);
  });

  test('every query of the cookbook runs as the analyst', async () => {
    const job = {
      origin: 'ckpool',
      instance: 'ckpool',
      time_us: START_US,
      job_id: '68f0a1b200000001',
      job_key: 'ckpool/1',
      chain: 'bitcoin',
      pow: 'sha256d',
      height: 100,
      prev_hash: '0'.repeat(64),
      coinbase1: '01',
      coinbase2: '02',
      enonce1_bytes: 4,
      nonce2_bytes: 8,
      merkle_branch: ['00'.repeat(32)],
      version: '20000000',
      version_mask: '1fffe000',
      nbits: '1d00ffff',
      ntime: '68f0a1b2',
      clean: true,
      network_diff: 1,
    };
    const whole = decoderFor('job')(encodeEvent('job', job));
    expect(jobPipeline.wrong(whole)).toBeNull();
    await insertRows(ch.writer, 'jobs_raw', [jobPipeline.row(whole, PLACE)]);
    const text = readFileSync(new URL('../../../schemas/clickhouse/COOKBOOK.md', import.meta.url), 'utf8');
    const queries = [...text.matchAll(/```sql\n([\s\S]*?)```/g)].map((match) => match[1]!);
    expect(queries.length).toBeGreaterThan(15);
    for (const query of queries) {
      await rows(query).catch((error: Error) => expect.fail(`${query}\n${error.message}`));
    }
    const rebuilt = await rows<{ coinbase1: string }>(queries.find((query) => query.includes('coinbase1'))!);
    expect(rebuilt).toHaveLength(1);
  });

  test('jobs, of equal copies one, with unknown amounts as null', async () => {
    expect(await rows('SELECT job_id, subsidy_sats FROM jobs')).toEqual([
      { job_id: '68f0a1b200000001', subsidy_sats: null },
    ]);
  });
});
