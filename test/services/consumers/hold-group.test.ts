import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { holdGroup } from '../../../services/consumers/group.ts';
import type { Config } from '../../../services/core/config.ts';
import type { KafkaLog } from '../../../services/core/log/kafka.ts';
import type { GroupOptions } from '../../../services/core/log/kafka-group.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const config = { chain: 'regtest' } as Config;

/** A log whose group is joined at once; the others have stepped aside, or never do. */
function logOf(aside: boolean) {
  let closed = 0;
  const log = {
    joinGroup({ assigned }: GroupOptions) {
      if (aside) assigned({ told: { aside: true } } as unknown as Parameters<GroupOptions['assigned']>[0]);
      const close = async (): Promise<void> => {
        closed += 1;
      };
      return { close };
    },
    groupOffsets: async () => [],
  };
  return { log: log as unknown as KafkaLog, closed: () => closed };
}

test('a group that is held leaves no timer behind that would keep a replay from ending', async () => {
  const { log } = logOf(true);
  const held = await holdGroup(config, log, 'g', new AbortController().signal);
  expect(held.places).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test('consumers that do not step aside end the wait with one error, and the group is left', async () => {
  const { log, closed } = logOf(false);
  const asked = expect(holdGroup(config, log, 'g', new AbortController().signal, 1_000)).rejects.toThrow(
    'the consumers of the group g have not stepped aside',
  );
  await vi.advanceTimersByTimeAsync(1_000);
  await asked;
  expect([closed(), vi.getTimerCount()]).toEqual([1, 0]);
});

test('an end that is asked for meanwhile ends the wait', async () => {
  const { log, closed } = logOf(false);
  const stopping = new AbortController();
  const asked = expect(holdGroup(config, log, 'g', stopping.signal)).rejects.toThrow('stop');
  stopping.abort(new Error('stop'));
  await asked;
  expect([closed(), vi.getTimerCount()]).toEqual([1, 0]);
});
