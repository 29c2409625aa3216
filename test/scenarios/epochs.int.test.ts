/**
 * Twenty epochs on the toy chain behind its RPC, with random block times and reorganisations (depth 1 to 10, across borders, ours orphaned and back): what
 * the follower and the consumers made of them in ClickHouse equals, after each, what is made at once from the node's final chain.
 */
import { join } from 'node:path';
import { type ClickHouseClient, createClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DERIVED_TABLES } from '../../pipelines/derived.ts';
import type { BlockEvent, ContractEvent } from '../../schemas/events.ts';
import { startChain } from '../../services/chain/main.ts';
import { checkDerivations } from '../../services/consumers/derivations.ts';
import { Derived } from '../../services/consumers/derived.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { migrate, readMigrations } from '../../services/consumers/migrations.ts';
import { subsidySats } from '../../services/core/chains/subsidy.ts';
import { type Config, loadConfig } from '../../services/core/config.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { startToyChain } from '../../services/playground/main.ts';
import { noClickHouse, startTestClickHouse, type TestClickHouse } from '../helpers/clickhouse.ts';
import { rpcCaller } from '../helpers/coin-node.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { blockFrom, contractFrom, newSeed, randomFrom } from '../pipelines/blocks.ts';
import { type TestLife, testLife } from '../services/chain/life.ts';
import { easyProfile, GENESIS_TIME_S } from '../services/playground/easy-chain.ts';

/** B = 24, T = 5 s, final 3 above the closing block. */
const profile = easyProfile();
const EPOCHS = 20;
const THEIRS = 'tplay1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqe9sju7';

interface Verbose {
  readonly hash: string;
  readonly height: number;
  readonly previousblockhash?: string;
  readonly time: number;
  readonly mediantime: number;
  readonly bits: string;
  readonly versionHex: string;
  readonly tx: readonly {
    readonly vout: readonly { readonly value: number; readonly scriptPubKey: { readonly hex: string } }[];
  }[];
}

const contract: ContractEvent = contractFrom({
  ...{
    kind: 'opened',
    contract_id: 'sample',
    contract_seq: 0,
    time_us: GENESIS_TIME_S * 1e6,
    chain: profile.name,
    customer: 'a',
  },
  ...{ payout_address: THEIRS, hashrate_hps: '20000', from_height: 30, skip_payouts: 2 },
});

describe.skipIf(noClickHouse !== undefined)('epochs on the playground', { timeout: 900_000 }, () => {
  const closers: (() => unknown)[] = [];
  let ch: TestClickHouse;
  let config: Config;
  let life: TestLife;
  let rpc: ReturnType<typeof rpcCaller>;
  let ours = '';
  /** A database for what is made at once. */
  let fresh: ClickHouseClient;

  beforeAll(async () => {
    ch = await startTestClickHouse({ own: true });
    closers.push(() => ch.stop());
    const dir = tempDir('epochs');
    closers.push(() => dir.remove());
    const toy = await startToyChain({
      dir: join(dir.path, 'toy'),
      rpcPort: 0,
      zmqPort: null,
      user: 'u',
      pass: 'p',
      trafficPerSecond: 0,
      profile,
    });
    closers.push(() => toy.close());
    rpc = rpcCaller(toy.rpcUrl, 'u', 'p');
    ours = toy.fundingAddress;
    config = {
      ...loadConfig(
        {
          options: {
            'lodestream.data_dir': join(dir.path, 'data'),
            'lodestream.clickhouse.url': ch.url,
            'lodestream.clickhouse.user': ch.user,
            'lodestream.clickhouse.password': ch.token,
          },
        },
        {},
      ),
      nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
      btcAddress: ours,
      blockPollMs: 20,
    };
    await ch.writer.command({ query: 'CREATE DATABASE fresh' });
    fresh = createClient({ url: ch.url, username: ch.user, password: ch.token, database: 'fresh' });
    closers.push(() => fresh.close());
    await migrate(fresh, readMigrations());
    life = testLife(closers);
    await rpc('setmocktime', GENESIS_TIME_S + 3600);
    await startChain(config, life, { profile });
    const log = openJournalLog({ dir: join(config.dataDir, 'journal') });
    life.onStop('log', () => log.close());
    const api = openJournalWriter({ dir: join(config.dataDir, 'journal'), instance: 'api' });
    api.append([{ topic: 'contract', event: contract }]);
    api.close();
    const consumers = await startConsumers(config, life, { log, profileOf: () => profile });
    await consumers.ready;
  }, 360_000);
  afterAll(async () => {
    for (const close of closers.reverse()) await close();
  });

  const known = new Map<string, BlockEvent>();
  /** A block of the node as the event that it should be. */
  async function eventOf(hash: string): Promise<BlockEvent> {
    const found = known.get(hash);
    if (found !== undefined) return found;
    const block = (await rpc('getblock', hash, 2)) as Verbose;
    const outputs = block.tx[0]!.vout.map(({ value, scriptPubKey }) => ({
      script: scriptPubKey.hex,
      value_sats: BigInt(Math.round(value * 1e8)),
    }));
    const paid = outputs.reduce((sum, { value_sats }) => sum + value_sats, 0n);
    const subsidy = subsidySats(profile, block.height);
    const { scriptPubKey } = (await rpc('validateaddress', ours)) as { scriptPubKey: string };
    const event = blockFrom({
      ...{
        kind: 'connected',
        chain: profile.name,
        instance: 'scratch',
        follower: 'scratch',
        chain_seq: block.height + 1,
      },
      ...{
        time_us: block.time * 1e6,
        height: block.height,
        hash: block.hash,
        prev_hash: block.previousblockhash ?? '0'.repeat(64),
      },
      ...{
        block_time_us: block.time * 1e6,
        median_time_us: block.mediantime * 1e6,
        nbits: block.bits,
        version: block.versionHex,
      },
      ...{
        subsidy_sats: String(subsidy),
        fees_sats: String(paid > subsidy ? paid - subsidy : 0n),
        coinbase_value_sats: String(paid),
      },
      coinbase_outputs: outputs.map(({ script, value_sats }) => ({ script, value_sats: String(value_sats) })),
      ours: outputs.some(({ script }) => script === scriptPubKey),
    });
    known.set(hash, event);
    return event;
  }

  const derivedTables = Object.keys(DERIVED_TABLES);
  const views = ['epochs', 'hashrates', 'contracts', 'payouts'];
  async function all(client: ClickHouseClient): Promise<Record<string, unknown[]>> {
    const read = async (view: string) =>
      (await client.query({ query: `SELECT * FROM ${view} ORDER BY ALL`, format: 'JSONEachRow' })).json();
    return Object.fromEntries(await Promise.all(views.map(async (view) => [view, await read(view)])));
  }

  /** The tables, made at once from the node's chain; and the fold that they were made of. */
  async function scratch(): Promise<{ tables: Record<string, unknown[]>; derived: Derived }> {
    for (const table of derivedTables) await fresh.command({ query: `TRUNCATE TABLE ${table}` });
    const derived = new Derived(fresh, () => profile);
    derived.evolve({ topic: 'contract', event: contract });
    const tip = (await rpc('getblockcount')) as number;
    let hash = (await rpc('getblockhash', tip)) as string;
    const chain: BlockEvent[] = [];
    for (let height = tip; height >= 0; height--) {
      const event = await eventOf(hash);
      chain.unshift(event);
      hash = event.prev_hash;
    }
    for (const event of chain) derived.evolve({ topic: 'block', event });
    await derived.flush();
    return { tables: await all(fresh), derived };
  }

  test('after each reorganisation the derived tables, and what is said in the log, are those of the final chain', async () => {
    const seed = newSeed();
    const random = randomFrom(seed);
    let timeS = GENESIS_TIME_S + 3600;
    let reorganisations = 0;
    let orphanedAndBack = 0;
    const mine = async (count: number, payTo?: string): Promise<void> => {
      for (let i = 0; i < count; i++) {
        timeS += random(8) === 0 ? random(60) : random(12);
        await rpc('setmocktime', timeS);
        await rpc('generatetoaddress', 1, payTo ?? (random(3) === 0 ? ours : THEIRS), 100_000_000);
      }
    };
    const log = openJournalLog({ dir: join(config.dataDir, 'journal') });
    closers.push(() => log.close());
    const compare = async (): Promise<void> => {
      const where = `seed ${seed}, reorganisation ${reorganisations}`;
      const { tables, derived } = await scratch();
      await until(
        `${where}: the tables are those of the final chain`,
        async () => JSON.stringify(await all(ch.reader)) === JSON.stringify(tables),
        { everyMs: 50 },
      ).catch(async (error: unknown) => {
        expect(await all(ch.reader), where).toEqual(tables);
        throw error;
      });
      await until(
        `${where}: the log says the same`,
        async () => {
          const check = await checkDerivations(log, derived.state, () => profile, new AbortController().signal);
          return check.missing + check.different === 0;
        },
        { everyMs: 50 },
      );
    };
    const hashAt = async (height: number): Promise<string> => (await rpc('getblockhash', height)) as string;
    const tip = async (): Promise<number> => (await rpc('getblockcount')) as number;

    while ((await tip()) < EPOCHS * profile.payout_blocks + 5) {
      await mine(6 + random(20));
      // Some draws bring none of ours back: then the next time does, from the middle on.
      const certainly = orphanedAndBack === 0 && (await tip()) > (EPOCHS * profile.payout_blocks) / 2;
      if (certainly) await mine(1, ours);
      const height = await tip();
      const depth = 1 + random(Math.min(10, height)); // the genesis block stays
      const first = height - depth + 1;
      const old = await hashAt(first);
      const lost: boolean[] = [];
      for (let each = first; each <= height; each++) lost.push((await eventOf(await hashAt(each))).ours);
      await rpc('invalidateblock', old);
      await mine(depth + 1);
      reorganisations += 1;
      await compare();
      if (random(3) > 0 && !certainly) continue;
      // The old branch wins after all.
      const other = await hashAt(first);
      await rpc('invalidateblock', other);
      await rpc('reconsiderblock', old);
      expect(await hashAt(first)).toBe(old);
      await mine(2);
      reorganisations += 1;
      if (lost.includes(true)) orphanedAndBack += 1;
      await compare();
    }
    expect(reorganisations).toBeGreaterThan(10);
    expect(orphanedAndBack).toBeGreaterThan(0);
    // As the node says, where it can: it gives 0 where no time passed.
    for (let height = (await tip()) - 30; height <= (await tip()); height += 3) {
      for (const window of [1, 10, 120, -1]) {
        const answer = await ch.reader.query({
          query: `SELECT toFloat64(ifNull(hashrate_hps, 0)) AS hps FROM hashrates WHERE window = ${window} AND height = ${height}`,
          format: 'JSONEachRow',
        });
        const [row] = await answer.json<{ hps: number }>();
        const node = (await rpc('getnetworkhashps', window, height)) as number;
        expect(Math.abs(row!.hps - node), `seed ${seed}: ${window} blocks up to ${height}`).toBeLessThanOrEqual(
          1 + node * 1e-9,
        );
      }
    }
    const { epochs, payouts } = (await all(ch.reader)) as {
      epochs: { status: string; next_nbits_alarm: boolean }[];
      payouts: { status: string }[];
    };
    expect(epochs.filter(({ status }) => status !== 'open').length).toBeGreaterThanOrEqual(EPOCHS);
    // What was predicted is what the chain chose, each time.
    expect(epochs.some(({ next_nbits_alarm }) => next_nbits_alarm)).toBe(false);
    expect(payouts.filter(({ status }) => status === 'owed').length).toBeGreaterThan(10);
    console.log(`${reorganisations} reorganisations, ${orphanedAndBack} of them brought blocks of ours back`);
  });
});
