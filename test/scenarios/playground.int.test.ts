/**
 * The sentence of the project on the playground: a miner points at the pool, and the shares are in the database; processes are killed, and nothing
 * acknowledged is lost or counted twice.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decimal18FromDouble } from '../../pipelines/shares/decimal.ts';
import { shareIdentity } from '../../schemas/identity.ts';
import { openJournalLog } from '../../services/core/log/journal.ts';
import { crowding, tempDir, until } from '../helpers/leash.ts';
import { lodestreamOnce, sharesAbove, startPlayground, type Tree, type TreePorts, treePorts } from '../helpers/tree.ts';

let dir: { path: string; remove(): void };
let ports: TreePorts;
let tree: Tree;

beforeAll(async () => {
  dir = tempDir('playground');
  ports = await treePorts();
  tree = await startPlayground(dir.path, ports);
});
afterAll(async () => {
  await tree?.leash.stop({ graceMs: 30_000 });
  dir?.remove();
});

/** Sum of `diff` over the distinct accepted shares of the journal received up to `untilUs`, in units of 1e-18. */
async function journalSum(untilUs: number): Promise<{ count: number; sum: bigint }> {
  const log = openJournalLog({ dir: join(dir.path, 'journal') });
  const seen = new Map<string, number>();
  for (const partition of await log.partitions('share')) {
    let from: string | null = null;
    for (;;) {
      const batch = await log.read('share', partition, from, { maxRecords: 10_000, waitMs: 0 });
      expect(batch.damage).toEqual([]);
      if (batch.records.length === 0) break;
      for (const record of batch.records) {
        const share = (await log.decoder('share', record.fingerprint))(record.body);
        if (share.kind === 'submitted' && share.accepted && share.time_us <= untilUs)
          seen.set(`${share.origin}/${shareIdentity(share)}`, share.diff);
      }
      from = batch.next;
    }
  }
  await log.close();
  let sum = 0n;
  for (const diff of seen.values()) {
    const [whole, fraction = ''] = decimal18FromDouble(diff).split('.');
    sum += BigInt(whole + fraction.padEnd(18, '0'));
  }
  return { count: seen.size, sum };
}

async function expectTableEqualsJournal(): Promise<void> {
  const untilUs = (Date.now() - 1_000) * 1000;
  const query = `SELECT count(), toInt256(sum(diff) * toDecimal256(1000000000000000000, 0)) FROM shares WHERE accepted AND time <= fromUnixTimestamp64Micro(${untilUs})`;
  let [wanted, found] = ['', ''];
  await until(
    () => `the table to have the journal's shares and sum, ${wanted}: it has ${found}`,
    async () => {
      // Each time anew: a share of before that instant may come to the journal after it.
      const { count, sum } = await journalSum(untilUs);
      wanted = `${count}\t${sum}`;
      found = await tree.sql(query);
      return found === wanted;
    },
    { everyMs: 250 },
  );
}

describe('npm start in an empty folder', () => {
  test('within 60 s accepted shares are in SQL and rising, healthz is 200, and the chain grows', {
    timeout: 360_000,
  }, async () => {
    const first = await sharesAbove(tree, 0, 60_000 * crowding());
    await sharesAbove(tree, first);
    await until('healthz is 200', async () => (await tree.health()) === 200, { everyMs: 200 });
    const height = await tree.rpc<number>('getblockcount');
    await until('another block', async () => (await tree.rpc<number>('getblockcount')) > height, {
      everyMs: 250,
    });
  });

  test('the sum of diff in the table is the sum over the journal', () => expectTableEqualsJournal());

  test('another instance on the same folder, or on the same ports, gets one clear line and a status', async () => {
    const same = await lodestreamOnce(['start', '--data-dir', dir.path]);
    expect(same.status).toBe(75);
    expect(same.output.trim().split('\n')).toHaveLength(1);
    expect(same.output).toMatch(/data directory .* is held by process \d+/);
    const other = tempDir('other');
    const taken = await lodestreamOnce(['api', '--data-dir', other.path, '--http', `127.0.0.1:${ports.http}`]);
    other.remove();
    expect(taken.status).toBe(69);
    expect(taken.output).toContain(`127.0.0.1:${ports.http}`);
  });

  test('kill -9 of each process in turn: it comes back, and the count never falls', { timeout: 720_000 }, async () => {
    const watch = { highest: 0, fell: '' };
    const watching = new AbortController();
    const watcher = (async () => {
      while (!watching.signal.aborted) {
        const text = await tree.sqlOrNull('SELECT count() FROM shares WHERE accepted');
        if (text !== null && Number(text) < watch.highest) watch.fell = `from ${watch.highest} to ${text}`;
        if (text !== null) watch.highest = Math.max(watch.highest, Number(text));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const before = await tree.running();
    expect(Object.keys(before).sort()).toEqual(['clickhouse', 'miner', 'pipeline', 'pool', 'toy_chain']);
    for (const [name, pid] of Object.entries(before)) {
      process.kill(pid, 'SIGKILL');
      await until(`${name} has another pid`, () => ![0, pid].includes(tree.children()[name]!));
      await sharesAbove(tree, watch.highest);
      await until(`healthz after ${name}`, async () => (await tree.health()) === 200, {
        everyMs: 200,
      });
    }
    watching.abort();
    await watcher;
    expect(watch.fell).toBe('');
    await expectTableEqualsJournal();
  });

  test('kill -9 of the whole tree and a start in the same folder: it continues', { timeout: 360_000 }, async () => {
    const count = Number(await tree.sql('SELECT count() FROM shares WHERE accepted'));
    const height = await tree.rpc<number>('getblockcount');
    const children = Object.values(await tree.running());
    for (const pid of [tree.leash.pid, ...children]) process.kill(pid, 'SIGKILL');
    await tree.leash.exited;
    tree = await startPlayground(dir.path, ports);
    expect(await sharesAbove(tree, count)).toBeGreaterThan(count);
    expect(await tree.rpc<number>('getblockcount')).toBeGreaterThanOrEqual(height);
    await expectTableEqualsJournal();
  });

  test('the death of the parent alone ends the children, and the folder is free for the next', {
    timeout: 360_000,
  }, async () => {
    const count = Number(await tree.sql('SELECT count() FROM shares WHERE accepted'));
    process.kill(tree.leash.pid, 'SIGKILL');
    await tree.leash.exited;
    tree = await startPlayground(dir.path, ports);
    await sharesAbove(tree, count);
  });

  test('SIGINT stops it cleanly', async () => {
    const children = Object.values(await tree.running());
    expect(await tree.leash.stop({ signal: 'SIGINT', graceMs: 40_000 })).toBe(0);
    for (const pid of children) expect(() => process.kill(pid, 0)).toThrow();
  });
});
