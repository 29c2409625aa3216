/**
 * Retention while everything flows: the relay takes acknowledged segments away seconds after they were written, consumers read from Kafka and are killed
 * meanwhile, the broker stops once. Nothing is lost, the journal stays small, and `audit` and `replay --verify` from Kafka find all of it.
 *
 * The relay runs in this process, as its program keeps segments for a day at least.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { type Relay, startRelay } from '../../services/relay/relay.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { expectRecord, settled } from './checks.ts';
import { type Load, startLoad } from './load.ts';
import { kill, type Stack, startStack } from './stack.ts';

const PER_SECOND = 3_000;
const LINES = 24;
const SHARES = 60_000;
const MIB = 1024 * 1024;
const SEGMENT_BYTES = MIB;
const KEPT_US = 2_000_000;

/** Bytes of all segments of shares. */
function journalBytes(dir: string): number {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.avro') && name.includes('/share/'))
    .reduce((sum, name) => sum + (statSync(join(dir, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

const kafka = await havePart('kafka', () => kafkaForTests({ own: true }));

describe.skipIf(!kafka)('retention of the journal beside a broker', () => {
  let stack: Stack;
  let load: Load;
  let relay: Relay;
  const lines: string[] = [];
  let log: Awaited<ReturnType<typeof openKafkaLog>>;
  beforeAll(async () => {
    stack = await startStack('faults-retention', { kafka: kafka!, segmentBytes: SEGMENT_BYTES });
    await stack.relay!.stop();
    log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'relay', topicPrefix: kafka!.prefix, partitions: 3 });
    const state = join(stack.dataDir, 'state');
    relay = await startRelay({
      ...{ journalDir: join(stack.dataDir, 'journal'), kafka: log, stateFile: join(state, 'relay.sqlite') },
      retention: { stateFile: join(state, 'retention.json'), keepUs: KEPT_US, everyMs: 500 },
      log: (line) => lines.push(line),
    });
    load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
  });
  afterAll(async () => {
    await load?.stop();
    await relay?.stop();
    await log?.close();
    await stack?.close();
  });

  test('removes what is acknowledged while shares flow, and loses nothing', async () => {
    const dir = join(stack.dataDir, 'journal');
    let most = 0;
    const reached = (shares: number): Promise<unknown> =>
      until(
        () => `${shares} shares to be acknowledged, ${load.acknowledged()} are\n${lines.join('\n')}`,
        () => {
          most = Math.max(most, journalBytes(dir));
          return load.acknowledged() > shares;
        },
        { withinMs: 180_000, everyMs: 100 },
      );
    await reached(SHARES / 4);
    kill(stack.consume.pid);
    await reached(SHARES / 2);
    const whileItWorked = most;
    await kafka!.restart!();
    await reached(SHARES);
    await load.stop();
    await stack.pool.stop();
    await until('the rest to be carried', async () => (await relay.lag()).every(({ records }) => records === 0));
    await settled(stack, 1);
    const account = await expectRecord(stack, load);
    await until('only what is new to be left', () => journalBytes(dir) < 4 * SEGMENT_BYTES);
    const left = journalBytes(dir);
    const removed = lines.filter((line) => line.includes('segments of share')).length;
    console.log(
      `${JSON.stringify(account)}; the journal had ${(whileItWorked / MIB).toFixed(1)} MiB of shares at most, ` +
        `${(most / MIB).toFixed(1)} with the broker away, ${(left / MIB).toFixed(1)} at the end; removed ${removed} times`,
    );
    expect(removed).toBeGreaterThan(0);
    expect(whileItWorked).toBeLessThan(24 * MIB);
    expect(stack.surprises()).toEqual([]);

    const audit = await stack.once('audit', '--json');
    const summary = JSON.parse(audit.output.trim().split('\n').at(-1)!) as Record<string, number>;
    expect(summary).toMatchObject({ not_held_count: 0, jobs_not_held_count: 0 });
    expect(summary.held_count).toBeGreaterThanOrEqual(account.stored);
    expect(audit.status).toBe(0);
    const replay = await stack.once('replay', '--verify');
    expect(replay.output).toContain('the tables are what the log says');
    expect(replay.status).toBe(0);
  }, 400_000);
});
