/** What one process leaves in the tables while another works on them: roll-ups and derived rows that come late. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import { Derived } from '../../../services/consumers/derived.ts';
import { insertRows } from '../../../services/consumers/insert.ts';
import { migrate, readMigrations } from '../../../services/consumers/migrations.ts';
import { nextVersion, Rollups } from '../../../services/consumers/rollups.ts';
import { ConsumerState } from '../../../services/consumers/state.ts';
import { chainsOf } from '../../../services/core/chains/profile.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { chainOf, numbered } from '../../pipelines/blocks.ts';

const MINUTE = { origin: 'ckpool', minuteS: 1_760_000_040 };
const rowOf = (worker: string, version: bigint) => ({
  ...{ origin: MINUTE.origin, minute: MINUTE.minuteS, user: 'u', worker, accepted: 1, refused: 0, stale: 0 },
  ...{ diff: '1', diff_squares: '1', refused_diff: '0', best_sdiff: 1 },
  ...{ ingest_version: String(version), ingest_deleted: 0 },
});

describe.skipIf(noClickHouse !== undefined)('several processes on one database', () => {
  let ch: TestClickHouse;
  beforeAll(async () => {
    ch = await startTestClickHouse();
    await migrate(ch.writer, readMigrations());
  });
  afterAll(() => ch?.stop());
  const rows = async (query: string): Promise<unknown[]> =>
    (await ch.writer.query({ query, format: 'JSONEachRow' })).json();

  test('versions taken at once are above every one that was given before', async () => {
    let highest = 0n;
    for (let round = 0; round < 5; round++) {
      const before = highest;
      const versions = await Promise.all([1, 2, 3].map(() => nextVersion(ch.writer)));
      for (const version of versions) expect(version).toBeGreaterThan(before);
      for (const version of versions) if (version > highest) highest = version;
    }
  });

  test('a worker that has vanished, and whose row another process writes late, is found and retracted by who comes last', async () => {
    const state = new ConsumerState(':memory:');
    const rollups = new Rollups(ch.writer, state, true);
    const late = await nextVersion(ch.writer);
    // A worker with a row of its own version stands there, without a share.
    await insertRows(ch.writer, 'shares_1m_raw', [rowOf('gone', await nextVersion(ch.writer))]);
    state.mark([MINUTE]);
    await rollups.step();
    expect(await rows('SELECT worker FROM shares_1m')).toEqual([]);
    expect(state.marked()).toBe(0);
    // Another process had read the minute before, and writes only now.
    await insertRows(ch.writer, 'shares_1m_raw', [rowOf('late', late)]);
    expect(await rows('SELECT worker FROM shares_1m')).toEqual([{ worker: 'late' }]);
    state.mark([MINUTE]);
    await rollups.step();
    while (state.marked() > 0) await rollups.step();
    expect(await rows('SELECT worker FROM shares_1m')).toEqual([]);
    state.close();
  });

  test('one whose writing is followed by a late row of another marks the minute again', async () => {
    const state = new ConsumerState(':memory:');
    const other = await nextVersion(ch.writer);
    await insertRows(ch.writer, 'shares_1m_raw', [rowOf('first', await nextVersion(ch.writer))]);
    let landed = false;
    // The late row comes between the writing and the look that follows it.
    const client = new Proxy(ch.writer, {
      get: (target, name) => {
        if (name !== 'command') return Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name);
        return async (...args: Parameters<typeof target.command>) => {
          const answer = await target.command(...args);
          if (!landed && args[0].query.includes('shares_1m_raw')) {
            landed = true;
            await insertRows(target, 'shares_1m_raw', [rowOf('second', other)]);
          }
          return answer;
        };
      },
    });
    const rollups = new Rollups(client, state, true);
    state.mark([MINUTE]);
    await rollups.step();
    expect(landed).toBe(true);
    expect(state.marked()).toBe(1);
    await rollups.step();
    expect(await rows('SELECT worker FROM shares_1m')).toEqual([]);
    expect(state.marked()).toBe(0);
    state.close();
  });

  test('rows that another derived under an older fold are found, and replaced or retracted', async () => {
    const blocks = numbered(chainOf(0, 60));
    const profileOf = chainsOf('playground');
    const [ours, theirs] = [new Derived(ch.writer, profileOf), new Derived(ch.writer, profileOf)];
    const take = (derived: Derived, upTo: number): void => {
      for (const event of blocks.slice(0, upTo))
        derived.evolve({ topic: 'block', event: event as Inputs['block'] as never });
    };
    const all = 'SELECT * EXCEPT (ingest_version, ingest_digest) FROM hashrates_raw FINAL ORDER BY ALL';
    take(ours, 61);
    await ours.flush();
    expect(await ours.check()).toEqual([]);
    const right = await rows(all);
    expect(right.length).toBeGreaterThan(0);
    // Thought dead, with half of the blocks: it retracts what it does not know of.
    take(theirs, 30);
    await theirs.flush();
    expect(await rows(all)).not.toEqual(right);
    expect(await ours.check()).toEqual(['playground']);
    await ours.flush();
    expect(await rows(all)).toEqual(right);
    expect(await ours.check()).toEqual([]);
  });
});
