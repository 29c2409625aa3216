import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { BlockInput } from '../../../schemas/events.ts';
import { PoolError } from '../../../services/core/errors.ts';
import type { SubmitAnswer } from '../../../services/core/node/templates.ts';
import { BlockDesk } from '../../../services/stratum/blocks.ts';
import { tempDir, until } from '../../helpers/leash.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

const event = {
  kind: 'solved',
  chain: 'regtest',
  origin: 'o',
  height: 7,
  hash: 'ab'.repeat(32),
  answers: [],
} as never as BlockInput;

function desk(dir: string, answers: () => SubmitAnswer[]) {
  const sent: string[] = [];
  const events: BlockInput[] = [];
  const lines: string[] = [];
  const made = new BlockDesk({
    dir,
    templates: {
      async submitBlock(hex, onAnswer) {
        sent.push(hex);
        const all = answers();
        for (const answer of all) onAnswer?.(answer);
        return all;
      },
      async preferBlock() {},
    },
    facts: { block: (each) => void events.push(each), timeUs: () => 5 },
    log: (line) => void lines.push(line),
    againMs: 10,
  });
  ends.push(() => made.close());
  return { made, sent, events, lines };
}

function folder(): string {
  const dir = tempDir('blocks');
  ends.push(() => dir.remove());
  return join(dir.path, 'blocks');
}

test('a block that was not answered before the last end is sent at start, and its answers are an event', async () => {
  const dir = folder();
  mkdirSync(dir);
  writeFileSync(join(dir, `${event.hash}.json`), JSON.stringify({ event, hex: '0011' }));
  writeFileSync(join(dir, 'broken.json'), '{');
  const { made, sent, events, lines } = desk(dir, () => [{ node: 'n', answer: 'accepted', accepted: true }]);
  made.sendPending();
  expect(sent).toEqual(['0011']);
  await until('its file is gone', () => readdirSync(dir).length === 1);
  expect(events).toEqual([{ ...event, answers: [{ node: 'n', answer: 'accepted', time_us: 5 }] }]);
  expect(lines.some((line) => line.includes('broken.json'))).toBe(true);
});

test('a refusal in the node’s words is for good, an absent node is not', async () => {
  const refused = folder();
  const first = desk(refused, () => [{ node: 'n', answer: 'high-hash', accepted: false }]);
  expect(first.made.take({ event, hex: '00' })).toBe(true);
  expect(first.made.take({ event, hex: '00' })).toBe(false);
  await until('its file is gone', () => readdirSync(refused).length === 0);
  expect(first.sent).toHaveLength(1);

  const absent = folder();
  const down = new PoolError('node_unreachable', 'down');
  const second = desk(absent, () => [{ node: 'n', answer: down.message, accepted: false, error: down }]);
  second.made.take({ event, hex: '00' });
  await until('it is sent again', () => second.sent.length >= 3);
  expect(readdirSync(absent)).toEqual([`${event.hash}.json`]);
});
