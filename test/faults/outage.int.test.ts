/**
 * A long outage: first Kafka is away while records gather, then ClickHouse. Memory of all programs stays bounded, whatever gathers; then
 * it drains, in order, while shares go on, and each acknowledged share is in ClickHouse once.
 *
 * FAULTS_OUTAGE is how many shares gather each time (default 20,000), FAULTS_PER_SECOND how many are offered (default 3,000).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wholePartition } from '../../services/consumers/whole.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { readStatuses } from '../../services/core/status.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { expectRecord, settled } from './checks.ts';
import { type Load, startLoad } from './load.ts';
import { type Stack, startStack } from './stack.ts';

const GATHERED = Number(process.env.FAULTS_OUTAGE ?? 20_000);
const PER_SECOND = Number(process.env.FAULTS_PER_SECOND ?? 3_000);
const LINES = 24;
const MIB = 1024 * 1024;
/** What V8 may take beside what is really held. */
const SLACK_MIB = 96;
/** Of a share, in the daemon that must know a duplicate when it sees one. */
const KNOWN_SHARE_BYTES = 32;
const WITHIN_MS = 120_000 + GATHERED * 2;

/** A process' memory, MiB: now, and the most since `forgetPeak`. */
function memoryOf(pid: number): { now: number; peak: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)![1]) / 1024);
  return { now: field('VmRSS'), peak: field('VmHWM') };
}

function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

const kafka = await havePart('kafka', () => kafkaForTests({ own: true }));

describe.skipIf(!kafka)(`an outage in which ${GATHERED} shares gather`, () => {
  let stack: Stack;
  let load: Load;
  beforeAll(async () => {
    stack = await startStack('faults-outage', { kafka: kafka! });
    load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
  });
  afterAll(async () => {
    await load?.stop();
    await stack?.close();
  });

  const pids = (): Record<string, number> => ({
    worker: stack.pool.children()[0] ?? stack.pool.pid,
    relay: stack.relay!.pid,
    consumers: stack.consume.pid,
  });
  const gauge = (program: string, name: string): number =>
    Number(
      readStatuses(join(stack.dataDir, 'status')).find((status) => status.program === program)?.values[name] ??
        Number.NaN,
    );
  const gathered = async (count: number): Promise<void> => {
    const had = load.acknowledged();
    await until(
      () => `${count} shares, there are ${load.acknowledged() - had}\n${stack.said.slice(-20).join('\n')}`,
      () => load.acknowledged() >= had + count,
      { withinMs: WITHIN_MS, everyMs: 100 },
    );
  };
  const drained = (program: string, lag: string): Promise<unknown> =>
    until(
      () => `${program} to drain\n${stack.said.slice(-20).join('\n')}`,
      () => gauge(program, lag) < 2 * PER_SECOND,
      { withinMs: WITHIN_MS, everyMs: 100 },
    );

  async function outage(what: string, away: () => Promise<void>, back: () => Promise<void>, lag: [string, string]) {
    const at = pids();
    const before = Object.fromEntries(Object.entries(at).map(([name, pid]) => [name, memoryOf(pid).now]));
    for (const pid of Object.values(at)) forgetPeak(pid);
    await away();
    const beganMs = performance.now();
    await gathered(GATHERED);
    const perSecond = Math.round((GATHERED * 1000) / (performance.now() - beganMs));
    const peaks = Object.fromEntries(Object.entries(at).map(([name, pid]) => [name, memoryOf(pid).peak]));
    await until('the lag to be known', () => gauge(...lag) > 0);
    await back();
    const backMs = performance.now();
    await drained(...lag);
    const drainedS = (performance.now() - backMs) / 1000;
    const after = Object.fromEntries(Object.entries(at).map(([name, pid]) => [name, memoryOf(pid).peak]));
    console.log(
      `${what} away while ${GATHERED} shares gathered, ${perSecond} a second; MiB before ${JSON.stringify(before)}, ` +
        `at most while away ${JSON.stringify(peaks)}, while draining ${JSON.stringify(after)}; drained in ${drainedS.toFixed(1)} s`,
    );
    for (const name of ['relay', 'consumers']) expect(peaks[name]! - before[name]!, name).toBeLessThan(SLACK_MIB);
    expect(peaks.worker! - before.worker!).toBeLessThan(SLACK_MIB + (GATHERED * KNOWN_SHARE_BYTES) / MIB);
  }

  test(
    'Kafka away: bounded memory, then all is carried',
    async () => {
      await gathered(4 * PER_SECOND);
      await outage(
        'Kafka',
        () => kafka!.halt!(),
        () => kafka!.restart!(),
        ['relay', 'relay_lag_records'],
      );
    },
    3 * WITHIN_MS,
  );

  test(
    'ClickHouse away: bounded memory, then all is taken in',
    async () => {
      await drained('consume', 'lag_records');
      await outage(
        'ClickHouse',
        () => stack.clickhouse.stop(),
        async () => stack.clickhouse.start(),
        ['consume', 'lag_records'],
      );
    },
    4 * WITHIN_MS,
  );

  test(
    'each share is there once, in Kafka in the order in which it was mined',
    async () => {
      await load.stop();
      await stack.pool.stop();
      await settled(stack);
      const account = await expectRecord(stack, load);
      expect(stack.surprises()).toEqual([]);
      expect(await copiesInOrder(stack)).toBeLessThan(account.stored);
      console.log(JSON.stringify(account));
    },
    3 * WITHIN_MS,
  );
});

/** Reads the topic of shares whole: first copies are in order, for each partition and writer. @returns the number of copies */
async function copiesInOrder({ kafka }: Stack): Promise<number> {
  const log = await openKafkaLog({ brokers: kafka!.brokers, clientId: 'reader', topicPrefix: kafka!.prefix });
  let copies = 0;
  for (const partition of await log.partitions('share')) {
    const writers = new Map<string, { last: number; seen: Set<number> }>();
    for await (const batch of wholePartition(log, 'share', partition, new AbortController().signal)) {
      expect(batch.damage).toEqual([]);
      for (const { instance, run, sequence } of batch.records) {
        const key = `${instance}/${run}`;
        const writer = writers.get(key) ?? { last: -1, seen: new Set() };
        writers.set(key, writer);
        if (writer.seen.has(sequence)) copies += 1;
        else if (sequence < writer.last) expect.fail(`${key}: ${sequence} comes after ${writer.last}`);
        else {
          writer.last = sequence;
          writer.seen.add(sequence);
        }
      }
    }
  }
  await log.close();
  return copies;
}
