/** Reading from a broker that answers without records at times, as one does that a quota throttles. */
import { expect, test } from 'vitest';
import type { Decoder } from '../../../schemas/codec.ts';
import type { Topic } from '../../../schemas/events.ts';
import { Cursor, type Reading } from '../../../services/audit/cursors.ts';
import type { EventLog, StoredRecord } from '../../../services/core/log/event-log.ts';

const RECORDS = 7;

function cursorOn(isEmpty: (answer: number) => boolean, silenceMs?: number): Cursor {
  let answers = 0;
  const log: Pick<EventLog, 'kind' | 'read' | 'lag' | 'decoder'> = {
    kind: 'kafka',
    read: async (topic, partition, from) => {
      answers += 1;
      const first = Number(from ?? 0);
      const end = isEmpty(answers) ? first : Math.min(first + 2, RECORDS);
      const records = Array.from({ length: end - first }, (_, i): StoredRecord => {
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
      return { records, damage: [], next: end === first ? from : String(end) };
    },
    lag: async (_topic, _partition, from) => RECORDS - Number(from ?? 0),
    decoder: async <T extends Topic>() => (() => ({ time_us: 1 })) as unknown as Decoder<T>,
  };
  const reading: Reading = {
    ...{ log: log as EventLog, signal: new AbortController().signal, onUnreadable: () => {} },
    ...(silenceMs === undefined ? {} : { silenceMs }),
  };
  return new Cursor(reading, 'share', '0', null, RECORDS);
}

async function count(cursor: Cursor): Promise<number> {
  let events = 0;
  for (;;) {
    await cursor.fill();
    if (!cursor.ready) return events;
    for (; cursor.ready; events++) cursor.next();
  }
}

test('all is audited of a broker that answers without records now and then', async () => {
  expect(await count(cursorOn((answer) => answer === 1 || answer === 4 || answer === 5))).toBe(RECORDS);
});

test('an audit that is not given all there is ends with an error', async () => {
  await expect(count(cursorOn((answer) => answer > 2, 50))).rejects.toThrow(
    'share/0: 3 records lie behind position 4, and the broker does not give them',
  );
});
