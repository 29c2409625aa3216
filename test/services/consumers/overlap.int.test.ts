/** Copies of one share that are inserted while others of it are on their way: the minutes of the losers are made anew, whoever comes when. */
import { join } from 'node:path';
import { type ClickHouseClient, createClient } from '@clickhouse/client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import type { Inputs } from '../../../schemas/events.ts';
import { migrate } from '../../../services/consumers/migrations.ts';
import { copiesOf, type Guard, PartitionConsumer, type PartitionParts } from '../../../services/consumers/partition.ts';
import { Rollups } from '../../../services/consumers/rollups.ts';
import { ConsumerState } from '../../../services/consumers/state.ts';
import type { EventLog } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
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

type Share = Inputs['share'];
const ACCEPTED = { accepted: true, errn: 0, reason: '' } as const;

describe.skipIf(noClickHouse !== undefined)('copies of one share', { timeout: 360_000 }, () => {
  let ch: TestClickHouse;
  let client: ClickHouseClient;
  let dir: ReturnType<typeof tempDir>;
  let log: EventLog;
  let states: ConsumerState[];
  let databases = 0;
  beforeAll(async () => {
    ch = await startTestClickHouse();
  });
  afterAll(() => ch?.stop());
  beforeEach(async () => {
    const database = `overlap${databases++}`;
    await ch.writer.command({ query: `CREATE DATABASE ${database}` });
    client = createClient({ url: ch.url, username: 'writer', password: ch.token, database });
    await migrate(client);
    dir = tempDir();
    log = openJournalLog({ dir: join(dir.path, 'journal') });
    states = [];
  });
  afterEach(async () => {
    for (const state of states) state.close();
    await log.close();
    await client.close();
    dir.remove();
  });

  /** Puts shares into the log, in a partition. */
  function append(instance: string, ...events: readonly Share[]): void {
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance });
    writer.append(events.map((event) => ({ topic: 'share', event })));
    writer.close();
  }

  /** Consumers as one process has them. */
  function consumers(guard?: Guard) {
    const state = new ConsumerState(':memory:');
    states.push(state);
    const parts: PartitionParts = {
      ...{ log, client, state, overlaps: new Set(), signal: new AbortController().signal },
      ...(guard === undefined ? {} : { guard }),
      counters: { records: 0, rows: 0, deadLetters: 0 },
    };
    const rollups = new Rollups(client, state, guard !== undefined);
    const of = (partition: string, through = client): PartitionConsumer<'share'> =>
      new PartitionConsumer({ ...parts, client: through }, sharePipeline, partition);
    const roll = async (): Promise<void> => {
      while ((await rollups.step()) > 0);
    };
    return { parts, of, roll };
  }

  /** Workers and their accepted shares by the roll-ups, from an instant on. */
  async function minutes(fromUs = 0): Promise<string[]> {
    const answer = await client.query({
      query: `SELECT worker, toUInt32(accepted) AS accepted FROM shares_1m
        WHERE minute >= toDateTime(${Math.floor(fromUs / 1e6)}, 'UTC') ORDER BY worker`,
      format: 'JSONEachRow',
    });
    const rows = await answer.json<{ worker: string; accepted: number }>();
    return rows.map(({ worker, accepted }) => `${worker} ${accepted}`);
  }

  test('one that is inserted and rolled up while another partition is between its look for copies and its insert counts once', async () => {
    const live = { ...shareOf(randomFrom(1), 0), ...ACCEPTED, worker: 'new', time_us: START_US + 60e6 };
    append('ckpool', live);
    append('ingest', { ...live, source: 'backfill', worker: 'old', time_us: START_US });
    const { of, roll } = consumers();
    const slow = gated(client);
    const winner = of('ckpool', slow.client).step();
    await slow.reached;
    await of('ingest').step();
    await roll();
    expect(await minutes()).toEqual(['old 1']);
    slow.open();
    await winner;
    await roll();
    expect(await minutes()).toEqual(['new 1']);
  });

  test('one that is inserted and rolled up while the batch of another partition is sent ahead counts once', async () => {
    const random = randomFrom(2);
    const live = { ...shareOf(random, 0), ...ACCEPTED, worker: 'new', time_us: START_US + 3600e6 };
    // As many as the first batch takes; the copy is in the second.
    append('ckpool', ...Array.from({ length: 25_000 }, (_, n) => shareOf(random, n + 1)), live);
    append('ingest', { ...live, source: 'backfill', worker: 'old', time_us: START_US + 7200e6 });
    const { parts, of, roll } = consumers();
    const slow = gated(client);
    const winner = of('ckpool', slow.client);
    const step = winner.step();
    await slow.reached;
    await until('the second batch is sent ahead', () => (parts.overlaps.size === 2 ? true : undefined));
    await of('ingest').step();
    await roll();
    const laterUs = START_US + 3000e6;
    expect(await minutes(laterUs)).toEqual(['old 1']);
    slow.open();
    await step;
    await winner.step();
    await roll();
    expect(await minutes(laterUs)).toEqual(['new 1']);
  });

  test('one that wins has the minute of the one that stood there made anew, whether this process inserted that or one before it', async () => {
    const random = randomFrom(3);
    const shares = [0, 1].map((n) => ({ ...shareOf(random, n), ...ACCEPTED, worker: `new.${n}`, time_us: START_US }));
    // Ten minutes later by the clock of whoever wrote the log, under other names.
    const earlier = shares.map((share, n) => ({
      ...share,
      ...{ source: 'backfill', worker: `old.${n}`, time_us: START_US + 600e6 },
    }));
    const first = consumers();
    const [live, ingest] = [first.of('ckpool'), first.of('ingest')];
    append('ingest', earlier[0]!);
    await ingest.step();
    await first.roll();
    expect(await minutes()).toEqual(['old.0 1']);
    append('ckpool', shares[0]!);
    await live.step();
    await first.roll();
    expect(await minutes()).toEqual(['new.0 1']);
    append('ingest', earlier[1]!);
    await ingest.step();
    await first.roll();
    expect(await minutes()).toEqual(['new.0 1', 'old.1 1']);
    append('ckpool', shares[1]!);
    const second = consumers();
    await second.of('ckpool').step();
    await second.roll();
    expect(await minutes()).toEqual(['new.0 1', 'new.1 1']);
  });

  test('those that two processes insert at the same moment, as partitions were added, count once, whichever is last', async () => {
    const random = randomFrom(4);
    const guard: Guard = { since: 0, before: async () => {}, finished: () => {} };
    for (const [n, late] of (['live', 'backfill'] as const).entries()) {
      const live = { ...shareOf(random, n), ...ACCEPTED, worker: `new.${n}`, time_us: START_US };
      append(`live${n}`, live);
      append(`backfill${n}`, { ...live, source: 'backfill', worker: `old.${n}`, time_us: START_US + 600e6 });
      const [last, first] = [consumers(guard), consumers(guard)];
      // Each has seen that there are more partitions than before.
      for (const { parts } of [last, first]) copiesOf(parts).askWholeUntil(START_US / 1e6 + 7_200);
      const slow = gated(client);
      const inserting = last.of(`${late}${n}`, slow.client).step();
      await slow.reached;
      await first.of(`${late === 'live' ? 'backfill' : 'live'}${n}`).step();
      await first.roll();
      slow.open();
      await inserting;
      await last.roll();
      expect(await minutes()).toEqual(['new.0 1', 'new.1 1'].slice(0, n + 1));
    }
  });
});
