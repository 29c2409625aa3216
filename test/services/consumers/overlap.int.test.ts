import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { expect, test } from 'vitest';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import { migrate } from '../../../services/consumers/migrations.ts';
import { PartitionConsumer, type PartitionParts } from '../../../services/consumers/partition.ts';
import { Rollups } from '../../../services/consumers/rollups.ts';
import { ConsumerState } from '../../../services/consumers/state.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse } from '../../helpers/clickhouse.ts';
import { randomFrom } from '../../pipelines/blocks.ts';
import { START_US, shareOf, tempDir, until } from './world.ts';

/** The client, with each insert held back until the gate opens; `reached` resolves when one is held. */
function gated(client: ClickHouseClient): { client: ClickHouseClient; reached: Promise<void>; open: () => void } {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const exec = async (...args: Parameters<ClickHouseClient['exec']>) => {
    reached.resolve();
    await gate.promise;
    return client.exec(...args);
  };
  const held = new Proxy(client, {
    get: (target, name) => (name === 'exec' ? exec : Reflect.get(target, name).bind(target)),
  });
  return { client: held, reached: reached.promise, open: gate.resolve };
}

test.skipIf(noClickHouse !== undefined)(
  'a copy that is inserted and rolled up while another partition is between its look for copies and its insert counts once',
  { timeout: 180_000 },
  async () => {
    const dir = tempDir();
    const ch = await startTestClickHouse();
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    const state = new ConsumerState(':memory:');
    try {
      await migrate(ch.writer);
      const live = { ...shareOf(randomFrom(1), 0), accepted: true, errn: 0, reason: '', time_us: START_US + 60e6 };
      const backfill = { ...live, source: 'backfill', worker: 'old.name', time_us: START_US };
      for (const [instance, event] of Object.entries({ ckpool: live, ingest: backfill })) {
        const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance });
        writer.append([{ topic: 'share', event }]);
        writer.close();
      }
      const parts: PartitionParts = {
        log,
        client: ch.writer,
        state,
        counters: { records: 0, rows: 0, deadLetters: 0 },
        overlaps: new Set(),
        signal: new AbortController().signal,
      };
      const rollups = new Rollups(ch.writer, state);
      const slow = gated(ch.writer);
      const winner = new PartitionConsumer({ ...parts, client: slow.client }, sharePipeline, 'ckpool').step();
      await slow.reached;
      await new PartitionConsumer(parts, sharePipeline, 'ingest').step();
      expect(await rollups.step()).toBe(1);
      slow.open();
      await winner;
      await rollups.step();
      const answer = await ch.writer.query({
        query: 'SELECT worker, toUInt32(accepted) AS accepted FROM shares_1m',
        format: 'JSONEachRow',
      });
      expect(await answer.json()).toEqual([{ worker: live.worker, accepted: 1 }]);
    } finally {
      state.close();
      await log.close();
      await ch.stop();
      dir.remove();
    }
  },
);

test.skipIf(noClickHouse !== undefined)(
  'a copy that is inserted and rolled up while the batch of another partition is sent ahead counts once',
  { timeout: 360_000 },
  async () => {
    const dir = tempDir();
    const ch = await startTestClickHouse();
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    const state = new ConsumerState(':memory:');
    try {
      await migrate(ch.writer);
      const random = randomFrom(2);
      const live = { ...shareOf(random, 0), accepted: true, errn: 0, reason: '', time_us: START_US + 3600e6 };
      const backfill = { ...live, source: 'backfill', worker: 'old.name', time_us: START_US + 7200e6 };
      const first = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'ckpool' });
      // As many as the first batch takes; the copy is in the second.
      for (let n = 0; n < 25_000; n += 1_000) {
        const events = Array.from({ length: 1_000 }, (_, i) => shareOf(random, n + i + 1));
        first.append(events.map((event) => ({ topic: 'share', event })));
      }
      first.append([{ topic: 'share', event: live }]);
      first.close();
      const second = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'ingest' });
      second.append([{ topic: 'share', event: backfill }]);
      second.close();
      const parts: PartitionParts = {
        log,
        client: ch.writer,
        state,
        counters: { records: 0, rows: 0, deadLetters: 0 },
        overlaps: new Set(),
        signal: new AbortController().signal,
      };
      const rollups = new Rollups(ch.writer, state);
      const slow = gated(ch.writer);
      const winner = new PartitionConsumer({ ...parts, client: slow.client }, sharePipeline, 'ckpool');
      const step = winner.step();
      await slow.reached;
      await until('the second batch is sent ahead', () => (parts.overlaps.size === 2 ? true : undefined));
      await new PartitionConsumer(parts, sharePipeline, 'ingest').step();
      expect(await rollups.step()).toBe(1);
      const stored = async (): Promise<unknown[]> => {
        const answer = await ch.writer.query({
          query: `SELECT worker, toUInt32(accepted) AS accepted FROM shares_1m
            WHERE minute > toDateTime(${START_US / 1e6 + 3000}, 'UTC')`,
          format: 'JSONEachRow',
        });
        return answer.json();
      };
      expect(await stored()).toEqual([{ worker: 'old.name', accepted: 1 }]);
      slow.open();
      await step;
      await winner.step();
      while ((await rollups.step()) > 0);
      expect(await stored()).toEqual([{ worker: live.worker, accepted: 1 }]);
    } finally {
      state.close();
      await log.close();
      await ch.stop();
      dir.remove();
    }
  },
);
