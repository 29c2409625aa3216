import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { wholePartition } from '../../../services/consumers/whole.ts';
import type { EventLog, RecordBatch, StoredRecord } from '../../../services/core/log/event-log.ts';

/** A broker's log of so many records, that answers two a time, and without records where `empty` says so. */
function brokerOf(records: number, empty: (answer: number) => boolean, shownTo = () => records) {
  let answers = 0;
  const log: Pick<EventLog, 'kind' | 'read' | 'lag'> = {
    kind: 'kafka',
    read: async (topic, partition, from): Promise<RecordBatch> => {
      answers += 1;
      const first = Number(from ?? 0);
      const end = empty(answers) ? first : Math.min(first + 2, shownTo());
      const batch = Array.from({ length: Math.max(0, end - first) }, (_, i): StoredRecord => {
        const position = String(first + i);
        return {
          topic,
          partition,
          position,
          fingerprint: '',
          body: Buffer.alloc(0),
          instance: '',
          run: '',
          sequence: 0,
        };
      });
      return { records: batch, damage: [], next: batch.length === 0 ? from : String(end) };
    },
    lag: async (_topic, _partition, from) => Math.max(0, shownTo() - Number(from ?? 0)),
  };
  return log;
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

/** Records that are read within a minute. */
async function read(log: ReturnType<typeof brokerOf>, least: string | null = null): Promise<number> {
  let count = 0;
  const { signal } = new AbortController();
  const reading = (async () => {
    for await (const { records } of wholePartition(log, 'block', '0', signal, least)) count += records.length;
  })();
  await vi.advanceTimersByTimeAsync(60_000);
  await reading;
  return count;
}

test('a broker that is throttled and answers without records has not come to its end', async () => {
  expect(await read(brokerOf(7, (answer) => answer === 1 || (answer > 2 && answer < 26)))).toBe(7);
  expect(await read(brokerOf(0, () => false))).toBe(0);
});

test('a new leader that does not show its newest records yet is waited for, up to where was read before', async () => {
  let looks = 0;
  const shown = (): number => (++looks < 12 ? 4 : 9);
  expect(
    await read(
      brokerOf(9, () => false, shown),
      '9',
    ),
  ).toBe(9);
});

test('a log that has lost its end is read to what is left of it', async () => {
  expect(
    await read(
      brokerOf(4, () => false),
      '9',
    ),
  ).toBe(4);
});

test('an empty log whose place is its beginning is at its end at once', async () => {
  let looks = 0;
  const log = brokerOf(0, () => ++looks > 1_000);
  expect(await read(log, '0')).toBe(0);
  expect(looks).toBe(1);
});
