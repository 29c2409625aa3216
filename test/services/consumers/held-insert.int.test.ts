import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sharePipeline } from '../../../pipelines/shares/shares.ts';
import { currentSchema, encodeEvent } from '../../../schemas/codec.ts';
import type { Inputs } from '../../../schemas/events.ts';
import { shareIdentity } from '../../../schemas/identity.ts';
import { HeldInsert } from '../../../services/consumers/insert.ts';
import { migrate } from '../../../services/consumers/migrations.ts';
import { PartitionConsumer, type PartitionParts } from '../../../services/consumers/partition.ts';
import { ShareFile, shareInsert } from '../../../services/consumers/share-file.ts';
import { ConsumerState } from '../../../services/consumers/state.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';
import { shareOf, tempDir, until } from './world.ts';

const SHARES = 6_000;
const { fingerprint } = currentSchema('share');

/** A file of more than 2 MB, so that the engine has begun to write it down. */
function fileOf(seed: number): Buffer {
  const random = randomFrom(seed);
  const file = new ShareFile(SHARES);
  for (let n = 0; file.count < SHARES; n++) file.addPlain(fingerprint, encodeEvent('share', shareOf(random, n)));
  return file.finish();
}

/** A journal of shares, as one partition's consumer takes them into this ClickHouse. */
function sharesInJournal(seed: number, shares: number, client: ClickHouseClient) {
  const dir = tempDir();
  const journal = join(dir.path, 'journal');
  const writer = openJournalWriter({ dir: journal, instance: 'ckpool' });
  const random = randomFrom(seed);
  for (let n = 0; n < shares; n += 1_000) {
    const events = Array.from({ length: 1_000 }, (_, i) => shareOf(random, n + i));
    writer.append(events.map((event) => ({ topic: 'share', event })));
  }
  writer.close();
  const log = openJournalLog({ dir: journal });
  const state = new ConsumerState(':memory:');
  const counters = { records: 0, rows: 0, deadLetters: 0 };
  const stopping = new AbortController();
  const parts: PartitionParts = { log, client, state, counters, overlaps: new Set(), signal: stopping.signal };
  return {
    parts,
    stop: () => stopping.abort(),
    async close(): Promise<void> {
      state.close();
      await log.close();
      dir.remove();
    },
  };
}

describe.skipIf(noClickHouse !== undefined)('an insert that is sent ahead', () => {
  let ch: TestClickHouse;
  beforeAll(async () => {
    ch = await startTestClickHouse();
    await migrate(ch.writer);
  });
  afterAll(() => ch.stop());

  const count = async (): Promise<number> => {
    const answer = await ch.writer.query({
      query: 'SELECT toUInt32(count()) AS n FROM shares_raw',
      format: 'JSONEachRow',
    });
    return (await answer.json<{ n: number }>())[0]!.n;
  };
  /** Bytes of inserts' data that the engine has written down. */
  const spooled = (): number => {
    const spool = join(ch.dir, 'spool');
    const files = readdirSync(spool, { recursive: true, encoding: 'utf8' }).map((name) => statSync(join(spool, name)));
    return files.filter((stat) => stat.isFile()).reduce((sum, { size }) => sum + size, 0);
  };

  test('is made when its end is asked for, and not before', async () => {
    const before = await count();
    const held = new HeldInsert(ch.writer, shareInsert('held'), fileOf(1));
    held.ahead();
    await until('the data is there', () => (spooled() > 1_000_000 ? true : undefined));
    expect(await count()).toBe(before);
    await held.insert();
    expect(await count()).toBe(before + SHARES);
    expect(spooled()).toBe(0);
  });

  test('is not made when it is abandoned', async () => {
    const before = await count();
    const held = new HeldInsert(ch.writer, shareInsert('abandoned'), fileOf(2));
    held.ahead();
    await until('the data is there', () => (spooled() > 1_000_000 ? true : undefined));
    held.abandon();
    await until('the data is gone', () => (spooled() === 0 ? true : undefined));
    expect(await count()).toBe(before);
  });

  test('goes again where its connection broke while it waited', async () => {
    const before = await count();
    const cut: (() => void)[] = [];
    const proxy = createServer((socket) => {
      const far = connect(Number(new URL(ch.url).port), '127.0.0.1');
      for (const each of [socket, far]) each.on('error', () => {});
      socket.pipe(far).pipe(socket);
      cut.push(() => {
        socket.destroy();
        far.destroy();
      });
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const client: ClickHouseClient = createClient({
      url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
      username: 'writer',
      password: ch.token,
      log: { level: ClickHouseLogLevel.OFF },
    });
    try {
      const held = new HeldInsert(client, shareInsert('broken'), fileOf(3));
      held.ahead();
      await until('the data is there', () => (spooled() > 1_000_000 ? true : undefined));
      for (const end of cut.splice(0)) end();
      await until('the data is gone', () => (spooled() === 0 ? true : undefined));
      // The client learns of it a turn or two later; either way nothing is lost, and what is tried again counts once.
      await held.insert().catch(() => held.insert());
      expect(await count()).toBe(before + SHARES);
    } finally {
      await client.close();
      proxy.close();
    }
  });

  test('of a partition waits for the end of the cut before it', async () => {
    const before = await count();
    const partition = sharesInJournal(4, 30_000, ch.writer);
    const { parts } = partition;
    const { state, counters } = parts;
    try {
      // The first file is held back on its way.
      const gate = Promise.withResolvers<void>();
      let files = 0;
      const exec = async (...args: Parameters<ClickHouseClient['exec']>) => {
        if (args[0].query.includes('shares_raw') && files++ === 0) await gate.promise;
        return ch.writer.exec(...args);
      };
      const client = new Proxy(ch.writer, {
        get: (target, name) => (name === 'exec' ? exec : Reflect.get(target, name).bind(target)),
      });
      const consumer = new PartitionConsumer({ ...parts, client }, sharePipeline, 'ckpool');
      const first = consumer.step();
      await until('the second file is there', () => (files === 2 && spooled() > 1_000_000 ? true : undefined));
      expect(state.cut('share', 'ckpool')?.records).toBe(25_000);
      expect(await count()).toBe(before);
      gate.resolve();
      await first;
      expect(await count()).toBe(before + 25_000);
      expect(state.cut('share', 'ckpool')).toBeNull();
      await consumer.step();
      expect(await count()).toBe(before + 30_000);
      expect(files).toBe(2);
      expect(counters.records).toBe(30_000);
    } finally {
      await partition.close();
    }
  });

  test('is given up when its partition goes to another process, or the end has come', async () => {
    const before = await count();
    const partition = sharesInJournal(5, 30_000, ch.writer);
    const { parts } = partition;
    try {
      const consumer = new PartitionConsumer(parts, sharePipeline, 'ckpool');
      await consumer.step();
      await until('the second file is there', () => (spooled() > 1_000_000 ? true : undefined));
      // Between two steps.
      partition.stop();
      await until('the data is gone', () => (spooled() === 0 ? true : undefined));
      expect(await count()).toBe(before + 25_000);
      expect(parts.state.cut('share', 'ckpool')).toBeNull();
    } finally {
      await partition.close();
    }
  });

  test("leaves nothing behind where it was its turn and its partition was another process's by then", async () => {
    const partition = sharesInJournal(6, 100_000, ch.writer);
    const { parts } = partition;
    try {
      let votedOut = false;
      const before = async (): Promise<void> => {
        if (votedOut) throw new Error('voted out');
      };
      const guard = { since: 0, before, finished: () => {} };
      const consumer = new PartitionConsumer({ ...parts, guard }, sharePipeline, 'ckpool');
      await consumer.step();
      await until('the second file is there', () => (spooled() > 1_000_000 ? true : undefined));
      votedOut = true;
      await expect(consumer.step()).rejects.toThrow('voted out');
      partition.stop();
      await consumer.close();
      await until('the data is gone', () => (spooled() === 0 ? true : undefined));
      expect(parts.overlaps.size).toBe(0);
    } finally {
      await partition.close();
    }
  });

  test('of consumers that are killed while it waits counts once, and so do the copies in it', {
    timeout: 540_000,
  }, async () => {
    const random = randomFrom(newSeed());
    const dir = tempDir();
    const shares: Inputs['share'][] = [];
    for (let n = 0; n < 80_000; n++) {
      const earlier = shares[random(shares.length || 1)];
      // Copies that win: their minute has one share less then.
      const share =
        n % 50 === 49 && earlier?.accepted === true
          ? { ...earlier, time_us: earlier.time_us - 70_000_000 }
          : { ...shareOf(random, n), origin: 'killed' };
      shares.push(share);
    }
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'ckpool' });
    for (let n = 0; n < shares.length; n += 1_000) {
      writer.append(shares.slice(n, n + 1_000).map((event) => ({ topic: 'share', event })));
    }
    writer.close();
    const runner = fileURLToPath(new URL('./runner.ts', import.meta.url));
    const clickhouse = { url: ch.url, user: 'writer', password: ch.token };
    const run = (killAfterInsert: number) =>
      spawn(process.execPath, [runner, JSON.stringify({ dir: dir.path, clickhouse, killAfterInsert })], {
        stdio: ['pipe', 'inherit', 'inherit'],
      });
    const number = async (query: string): Promise<number> => {
      const answer = await ch.writer.query({ query: `SELECT toUInt32(${query}) AS n`, format: 'JSONEachRow' });
      return (await answer.json<{ n: number }>())[0]!.n;
    };
    try {
      // The first 25,000 are in ClickHouse and not finished, the next are on their way; then those again, and so on.
      for (const killAfterInsert of [1, 2]) {
        const [, signal] = await once(run(killAfterInsert), 'exit');
        expect(signal).toBe('SIGKILL');
      }
      const last = run(0);
      try {
        const distinct = new Set(shares.map((share) => shareIdentity(share))).size;
        expect(distinct).toBeLessThan(shares.length);
        const rows = "(SELECT count() FROM shares WHERE origin = 'killed')";
        await until('all shares', async () => ((await number(rows)) === distinct ? true : undefined));
        const asked = `SELECT toDateTime(toStartOfMinute(time), 'UTC') AS minute, user, worker, countIf(s.accepted) AS a, countIf(NOT s.accepted) AS r
          FROM shares AS s WHERE origin = 'killed' GROUP BY minute, user, worker`;
        const held = "SELECT minute, user, worker, accepted, refused FROM shares_1m WHERE origin = 'killed'";
        const differing = `(SELECT count() FROM (${held} EXCEPT ${asked})) + (SELECT count() FROM (${asked} EXCEPT ${held}))`;
        await until('roll-ups that agree', async () => ((await number(differing)) === 0 ? true : undefined));
        expect(await number(rows)).toBe(distinct);
      } finally {
        last.stdin.end();
        await once(last, 'exit');
      }
    } finally {
      dir.remove();
    }
  });
});
