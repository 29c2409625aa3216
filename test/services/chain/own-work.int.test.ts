/** Blocks of jobs of ours, mined on the toy chain without the pool's own word for it: as after a crash between node and journal. */
import { afterEach, describe, expect, test } from 'vitest';
import { blockEventPipeline } from '../../../pipelines/blocks/block-events.ts';
import type { BlockEvent, JobInput } from '../../../schemas/events.ts';
import { startChain } from '../../../services/chain/main.ts';
import { serializeBlock } from '../../../services/core/bitcoin/block.ts';
import { bytesFromHex, concatBytes, hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { buildCoinbase, pushData, witnessCoinbase } from '../../../services/core/bitcoin/coinbase.ts';
import { sha256d } from '../../../services/core/bitcoin/hash.ts';
import { blockHash, bytesFromHashHex, hashHex, headerBytes } from '../../../services/core/bitcoin/header.ts';
import { merkleRoot } from '../../../services/core/bitcoin/merkle.ts';
import { meetsTarget, powHash } from '../../../services/core/bitcoin/pow.ts';
import { bitsHex } from '../../../services/core/bitcoin/target.ts';
import { loadConfig } from '../../../services/core/config.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import type { RecordBatch } from '../../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { createNodeRpc } from '../../../services/core/node/rpc.ts';
import { checkTemplate, templateRequest } from '../../../services/core/node/template.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { easyProfile, writeProfile } from '../playground/easy-chain.ts';
import { testLife } from './life.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const profile = easyProfile();
const scriptOf = (byte: number): Uint8Array => Uint8Array.of(0x00, 0x14, ...new Uint8Array(20).fill(byte));
const FINDER = scriptOf(9);

async function site() {
  const dir = tempDir('own-work');
  closers.push(dir.remove);
  const chain = await startToyChain({
    ...{ dir: dir.path, rpcPort: 0, zmqPort: null, user: 'u', pass: 'p', trafficPerSecond: 0, profile },
  });
  closers.push(() => chain.close());
  const rpc = createNodeRpc({ url: chain.rpcUrl, user: 'u', pass: 'p' });
  closers.push(() => rpc.close());
  const data = `${dir.path}/data`;
  const paths = openDataDir(data);
  const pool = openJournalWriter({ dir: paths.journal, instance: 'ckpool', fsync: false, segmentBytes: 2 ** 20 });
  closers.push(() => pool.close());
  const config = {
    ...loadConfig(
      { options: { 'lodestream.data_dir': data, 'lodestream.chain': writeProfile(dir.path, 0x207fffff) } },
      {},
    ),
    nodes: [{ url: chain.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    blockPollMs: 20,
  };

  /** A block by a job that pays the finder, journaled or not. */
  async function mine(change: Partial<JobInput> | null = {}): Promise<{ hash: string; block: Partial<BlockEvent> }> {
    const t = checkTemplate(await rpc.call('getblocktemplate', [templateRequest(profile)]), profile);
    const { part1, part2 } = buildCoinbase({
      ...{ height: t.height, aux: new Uint8Array(0), timeS: t.curtimeS, random: 0, extranonceSizeBytes: 12 },
      ...{
        tag: pushData(new TextEncoder().encode('t')),
        outputs: [{ script: FINDER, valueSats: t.coinbaseValueSats }],
      },
      ...(t.witnessCommitment === null ? {} : { witnessCommitment: bytesFromHex(t.witnessCommitment) }),
    });
    if (change !== null) {
      const event: JobInput = {
        ...{
          origin: 'ckpool',
          instance: 'ckpool',
          time_us: t.curtimeS * 1e6,
          job_id: '01',
          job_key: `ckpool/${t.height}`,
        },
        ...{ chain: profile.name, pow: 'sha256d', height: t.height, prev_hash: t.prevHashRpc },
        ...{ coinbase1: hexFromBytes(part1), coinbase2: hexFromBytes(part2), enonce1_bytes: 4, nonce2_bytes: 8 },
        ...{ merkle_branch: [], version: '20000000', version_mask: '00000000', nbits: bitsHex(t.bits) },
        ...{ ntime: t.curtimeS.toString(16), clean: true, network_diff: 1, ...change },
      };
      pool.append([{ topic: 'job', event }]);
    }
    const coinbase = concatBytes(part1, new Uint8Array(12).fill(3), part2);
    const parts = { version: 0x20000000, prevHash: bytesFromHashHex(t.prevHashRpc), bits: t.bits, time: t.curtimeS };
    for (let nonce = 0; ; nonce++) {
      const header = headerBytes({ ...parts, merkleRoot: merkleRoot([sha256d(coinbase)]), nonce });
      if (!meetsTarget(powHash('sha256d', header), t.target)) continue;
      const body = t.witnessCommitment === null ? coinbase : witnessCoinbase(coinbase);
      expect(await rpc.call('submitblock', [hexFromBytes(serializeBlock(header, body, []))])).toBeNull();
      const hash = hashHex(blockHash(header));
      return {
        hash,
        block: { height: t.height, hash, prev_hash: t.prevHashRpc, nbits: bitsHex(t.bits), version: '20000000' },
      };
    }
  }

  async function events(): Promise<BlockEvent[]> {
    const log = openJournalLog({ dir: paths.journal });
    const found: BlockEvent[] = [];
    for (let from: string | null = null; ; ) {
      const batch: RecordBatch = await log.read('block', 'chain', from, { maxRecords: 500, waitMs: 0 });
      for (const { fingerprint, body } of batch.records) found.push((await log.decoder('block', fingerprint))(body));
      if (batch.records.length === 0) break;
      from = batch.next;
    }
    await log.close();
    return found;
  }
  const follow = (until_: string) =>
    until(`the log reaches ${until_}`, async () => {
      const log = await events();
      return log.some(({ kind, hash }) => kind === 'connected' && hash === until_) ? log : null;
    });
  return { config, mine, events, follow, pool };
}

describe('whose a block is', () => {
  test('one of a job of ours is ours whomever it pays, and is told as solved where nobody told of it', async () => {
    const { config, mine, follow } = await site();
    const lost = await mine();
    const strange = await mine(null);
    const upstreams = await mine({ upstream: 'pool.example:3333' });
    const last = await mine(null);
    await startChain(config, testLife(closers));
    const log = await follow(last.hash);
    const ours = log.filter(({ kind, ours: own }) => kind === 'connected' && own).map(({ hash }) => hash);
    expect(ours).toEqual([lost.hash]);
    expect([strange.hash, upstreams.hash]).not.toContain(ours[0]);
    const solved = log.filter(({ kind }) => kind === 'solved');
    expect(solved).toEqual([
      expect.objectContaining({
        ...{
          hash: lost.hash,
          source: 'chain',
          origin: 'ckpool',
          job_key: 'ckpool/1',
          job_id: '01',
          ours: true,
          answers: [],
        },
        ...{ user: expect.stringMatching(/^tplay1q/), candidate: expect.stringMatching(/^[0-9a-f]{160}$/) },
      }),
    ]);
    // One row, and beside the pool's own word the pool's counts.
    expect(blockEventPipeline.wrong(solved[0]!)).toBeNull();
    const own = { ...solved[0]!, source: 'live', time_us: solved[0]!.time_us - 1e6, user: 'finder', candidate: '' };
    const place = { instance: 'chain', run: '', sequence: 0 };
    const [told, live] = [solved[0]!, own].map((event) => blockEventPipeline.row(event, place));
    expect(told!.identity).toBe(live!.identity);
    expect(BigInt(String(live!.rank)) > BigInt(String(told!.rank))).toBe(true);
  });

  test('one that the pool told of is not told again, nor is one that an earlier follower told', async () => {
    const { config, mine, follow, pool, events } = await site();
    const told = await mine();
    pool.append([
      {
        topic: 'block',
        event: {
          ...{ kind: 'solved', chain: profile.name, origin: 'ckpool', instance: 'ckpool', time_us: Date.now() * 1_000 },
          ...(told.block as { height: number; hash: string; prev_hash: string; nbits: string; version: string }),
          block_time_us: Date.now() * 1_000,
        },
      },
    ]);
    const lost = await mine();
    const top = await mine(null);
    const life = testLife(closers);
    await startChain(config, life);
    await follow(top.hash);
    await until('it is told', async () => (await events()).some(({ kind }) => kind === 'solved'));
    await life.end();
    expect((await events()).filter(({ kind }) => kind === 'solved').map(({ hash }) => hash)).toEqual([lost.hash]);
    await startChain(config, testLife(closers));
    const again = await mine(null);
    await follow(again.hash);
    expect((await events()).filter(({ kind }) => kind === 'solved')).toHaveLength(1);
  });

  test('with one block on top only; a job that is journaled while the follower runs is known', async () => {
    const { config, mine, follow, events } = await site();
    await startChain(config, testLife(closers));
    await follow((await mine(null)).hash);
    const own = await mine();
    const log = await follow(own.hash);
    expect(log.at(-1)).toMatchObject({ kind: 'connected', hash: own.hash, ours: true });
    expect(log.some(({ kind }) => kind === 'solved')).toBe(false);
    await follow((await mine(null)).hash);
    await until('it is told', async () => (await events()).some(({ kind }) => kind === 'solved'));
  });
});
