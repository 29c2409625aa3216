/**
 * The relay while brokers and the relay itself die: every record of the journal is in Kafka as it was stored, and the first copies are in
 * the order of the journal within each partition, so in order per key.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JournalWriter } from '../../services/core/log/event-log.ts';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { type Leashed, startLeashed, until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { SEED } from '../helpers/seed.ts';
import { compareLogs, mine } from './carried.ts';
import type { ChildOptions, ChildState } from './relay-child.ts';

const CHILD = join(import.meta.dirname, 'relay-child.ts');
const MIB = 1024 * 1024;
/** Between 400 shares of each miner: some 15,000 a second, so that the machine is not all load. */
const PAUSE_MS = 25;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'relay-faults-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const journalDir = (): string => join(dir, 'journal');
const writerOf = (instance: string): JournalWriter => openJournalWriter({ dir: journalDir(), instance });

const startChild = async (options: Omit<ChildOptions, 'journalDir' | 'stateFile'>) => {
  const all: ChildOptions = { journalDir: journalDir(), stateFile: join(dir, 'relay.sqlite'), ...options };
  const child = await startLeashed(process.execPath, [CHILD, JSON.stringify(all)]);
  let state: ChildState = { sent: 0, rssBytes: 0, problem: null };
  const lines: string[] = [];
  child.onLine((text) => {
    const said = text.startsWith('{') ? (JSON.parse(text) as ChildState & { line?: string }) : { line: text };
    if (said.line === undefined) state = said as ChildState;
    else lines.push(said.line);
  });
  return { child: child as Leashed, lines, state: () => state };
};

const broker = await havePart('kafka', () => kafkaForTests({ own: true, sessionMs: 3_000 }));
afterAll(() => broker?.stop());

describe.skipIf(!broker)('the relay and one broker', () => {
  test('kill -9 of the relay again and again while it carries: it goes on, in order, and nothing is lost', async () => {
    const { brokers } = broker!;
    const topicPrefix = 'kills.';
    const writers = [writerOf('pool-0'), writerOf('pool-1')];
    let state = SEED;
    const random = (): number => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
    let mining = true;
    const miners = Promise.all(
      writers.map(async (writer) => {
        for (let from = 0; mining; from += 400) {
          await mine(writer, 400, from);
          await pause(PAUSE_MS);
        }
      }),
    );
    const moments: string[] = [];
    for (let kill = 0; kill < 6; kill++) {
      const { child, state: now } = await startChild({ brokers, topicPrefix });
      const goal = 1 + Math.floor(random() * 10_000);
      await until('it carries', () => now().sent >= goal);
      await child.stop({ signal: 'SIGKILL' });
      moments.push(`${now().sent}`);
    }
    mining = false;
    await miners;
    for (const writer of writers) writer.close();
    const kafka = await openKafkaLog({ brokers, clientId: 'relay', topicPrefix, partitions: 3 });
    const relay = await startRelay({
      journalDir: journalDir(),
      kafka,
      stateFile: join(dir, 'relay.sqlite'),
      log: () => {},
    });
    await until('drained', async () => (await relay.lag()).every(({ records }) => records === 0));
    await relay.stop();
    await kafka.close();
    const copies = await compareLogs(journalDir(), brokers, topicPrefix);
    console.log(`SEED=${SEED}; killed after ${moments.join(', ')} records; ${copies} copies`);
  }, 360_000);

  test('a broker away while 50 MB are mined: memory stays bounded, it is said once, and all of it arrives', async () => {
    const { brokers } = broker!;
    const topicPrefix = 'away.';
    const writer = writerOf('pool-0');
    await mine(writer, 20_000);
    const { child, lines, state } = await startChild({ brokers, topicPrefix });
    await until('carried', () => state().sent >= 20_000);
    await broker!.halt!();
    const before = state().rssBytes;
    await mine(writer, 200_000, 20_000);
    await until('it is said', () => state().problem !== null);
    let peak = 0;
    const start = performance.now();
    await until('some tries have failed', () => {
      peak = Math.max(peak, state().rssBytes);
      return performance.now() - start > 3000;
    });
    expect(peak - before).toBeLessThan(48 * MIB);
    expect(lines.filter((line) => line.includes('trying again'))).toHaveLength(1);
    await broker!.restart!();
    await until('all is carried', () => state().sent >= 220_000);
    expect(lines.at(-1)).toBe('records are acknowledged again');
    await child.stop();
    writer.close();
    await compareLogs(journalDir(), brokers, topicPrefix);
  }, 540_000);
});
