import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { BlockInput } from '../../../../schemas/events.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import type { Tails } from '../../../../services/core/node/template-store.ts';
import type { SubmitAnswer } from '../../../../services/core/node/templates.ts';
import { BlockDesk, keepBlock } from '../../../../services/stratum/work/blocks.ts';
import { tempDir, until } from '../../../helpers/leash.ts';

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

function desk(dir: string, answers: () => SubmitAnswer[], tails?: Tails) {
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
    ...(tails === undefined ? {} : { tails }),
    log: (line) => void lines.push(line),
    againMs: 10,
  });
  ends.push(() => void made.close());
  return { made, sent, events, lines };
}

describe('a block whose transactions are elsewhere', () => {
  const tail = { key: 'ab'.repeat(16), txCount: 2 };
  const accepted = (): SubmitAnswer[] => [{ node: 'n', answer: 'accepted', accepted: true }];
  const down = (): SubmitAnswer[] => [{ node: 'n', answer: 'down', accepted: false, error: new Error('down') }];

  test('is sent, kept and recorded whole', async () => {
    const dir = folder();
    const { made, sent, events } = desk(dir, down, { tail: () => Uint8Array.of(0xc0, 0xff, 0xee) });
    expect(made.take({ event: { ...event, size_bytes: 2 }, hex: '0011', tail })).toBe(true);
    expect(sent[0]).toBe('0011c0ffee');
    expect(events[0]).toMatchObject({ size_bytes: 5 });
    const file = JSON.parse(readFileSync(join(dir, `${event.hash}.json`), 'utf8'));
    expect(file).toEqual({ event: { ...event, size_bytes: 5 }, hex: '0011c0ffee' });
    expect(made.take({ event, hex: '0011', tail })).toBe(false);
  });

  test('of a worker is kept whole by the parent, for the transactions go in minutes', async () => {
    const dir = folder();
    const { made, events } = desk(dir, down, { tail: () => Uint8Array.of(0xc0) });
    writeFileSync(join(dir, `${event.hash}.json`), JSON.stringify({ event, hex: '0011', tail }));
    expect(made.submit({ event, hex: '0011', tail })).toBe(true);
    expect(JSON.parse(readFileSync(join(dir, `${event.hash}.json`), 'utf8')).hex).toBe('0011c0');
    expect(events).toHaveLength(0);
  });

  test('stays whole where the worker writes it later, and is written whole when it is found at a start', async () => {
    const dir = folder();
    const { made } = desk(dir, down, { tail: () => Uint8Array.of(0xc0) });
    const kept = (): string => JSON.parse(readFileSync(join(dir, `${event.hash}.json`), 'utf8')).hex;
    made.submit({ event, hex: '0011', tail });
    keepBlock(dir, { event, hex: '0011', tail }, () => {});
    expect(kept()).toBe('0011c0');
    expect(readdirSync(dir)).toEqual([`${event.hash}.json`]);

    writeFileSync(join(dir, `${event.hash}.json`), JSON.stringify({ event, hex: '0011', tail }));
    desk(dir, down, { tail: () => Uint8Array.of(0xc1) }).made.sendPending();
    expect(kept()).toBe('0011c1');
  });

  test('that was being written when its process was killed is taken up where it is whole; half of one goes, and is said', () => {
    const dir = folder();
    mkdirSync(dir);
    const dead = spawnSync('true').pid;
    const half = 'cd'.repeat(32);
    const other = 'ef'.repeat(32);
    writeFileSync(join(dir, `${event.hash}.json.${dead}.new`), JSON.stringify({ event, hex: '0011' }));
    writeFileSync(join(dir, `${half}.json.${dead}.new`), '{"hex":"0011');
    // Of a process that lives, of this one's number before it began, and nothing of ours.
    writeFileSync(join(dir, `${other}.json.${process.ppid}.new`), '{"hex":"0011');
    writeFileSync(join(dir, `${other}.json.${process.pid}.new`), '{"hex":"0011');
    writeFileSync(join(dir, 'notes.new'), '');
    const { made, sent, lines } = desk(dir, down);
    made.sendPending();
    expect(sent).toEqual(['0011']);
    expect(readdirSync(dir).sort()).toEqual(
      [`${event.hash}.json`, `${other}.json.${process.ppid}.new`, 'notes.new'].sort(),
    );
    expect(lines.filter((line) => line.includes('was killed'))).toHaveLength(2);
  });

  test('that a process before this one could not complete is completed at the start', async () => {
    const dir = folder();
    mkdirSync(dir);
    writeFileSync(join(dir, `${event.hash}.json`), JSON.stringify({ event, hex: '0011', tail }));
    const asked: unknown[] = [];
    const { made, sent } = desk(dir, accepted, {
      tail: (...of) => {
        asked.push(of);
        return Uint8Array.of(0xc0);
      },
    });
    made.sendPending();
    expect(sent).toEqual(['0011c0']);
    expect(asked).toEqual([[tail.key, tail.txCount]]);
    await until('it is answered', () => readdirSync(dir).length === 0);
  });

  test('that are not kept any more is said, and stays on disk for a person', () => {
    const dir = folder();
    const { made, sent, events, lines } = desk(dir, accepted, { tail: () => null });
    expect(made.take({ event, hex: '0011', tail })).toBe(true);
    expect(sent).toEqual([]);
    const said = (): string[] => lines.filter((line) => line.includes('its transactions are not kept any more'));
    expect(said()).toHaveLength(1);
    expect(events).toHaveLength(1);
    expect(readdirSync(dir)).toEqual([`${event.hash}.json`]);
    made.sendPending();
    expect(said()).toHaveLength(1);
  });
});

test('a block file holds words of any language, and is read back as it was', () => {
  const dir = folder();
  const first = desk(dir, () => [{ node: 'n', answer: 'down', accepted: false, error: new Error('down') }]);
  const named = { ...event, worker: 'Jürgen.矿机' };
  first.made.take({ event: named, hex: 'ab'.repeat(1_000) });
  const second = desk(dir, () => [{ node: 'n', answer: 'accepted', accepted: true }]);
  second.made.sendPending();
  expect(second.sent).toEqual(['ab'.repeat(1_000)]);
});

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

test('an overloaded node has judged nothing: HTTP 503 without an RPC error is no verdict', async () => {
  const dir = folder();
  const busy = new PoolError('node_refused', 'node n: submitblock: HTTP 503 with a body that is not JSON', {
    facts: { node: 'n', method: 'submitblock', status: 503 },
  });
  const { made, sent } = desk(dir, () => [{ node: 'n', answer: busy.message, accepted: false, error: busy }]);
  made.take({ event, hex: '00' });
  await until('it is sent again', () => sent.length >= 2);
  expect(readdirSync(dir)).toEqual([`${event.hash}.json`]);
});

test('while one node has refused it and another is down it is sent again, until the other has judged it too', async () => {
  const dir = folder();
  const down = new PoolError('node_unreachable', 'down');
  let up = false;
  const { made, sent, events } = desk(dir, () => [
    { node: 'a', answer: 'inconclusive', accepted: false },
    up
      ? { node: 'b', answer: 'accepted', accepted: true }
      : { node: 'b', answer: 'down', accepted: false, error: down },
  ]);
  made.take({ event, hex: '00' });
  await until('it is sent again', () => sent.length >= 2);
  up = true;
  await until('its file is gone', () => readdirSync(dir).length === 0);
  // The copy with the last word has more answers than any before, and no words of a node twice.
  const counts = events.map(({ answers }) => (answers ?? []).length);
  expect(counts.at(-1)).toBe(3);
  expect(Math.max(...counts.slice(0, -1))).toBeLessThan(3);
});

test('the end waits for a block that is on its way, but not for a node that hangs', async () => {
  const dir = folder();
  let answer = (): void => {};
  const events: BlockInput[] = [];
  const options = {
    dir,
    facts: { block: (each: BlockInput) => void events.push(each), timeUs: () => 5 },
    log: () => {},
  };
  const accepted: SubmitAnswer = { node: 'n', answer: 'accepted', accepted: true };
  const slow = new BlockDesk({
    ...options,
    templates: {
      submitBlock: (_hex, onAnswer) =>
        new Promise((resolve) => {
          answer = () => {
            onAnswer?.(accepted);
            resolve([accepted]);
          };
        }),
      async preferBlock() {},
    },
  });
  slow.take({ event, hex: '00' });
  let closed = false;
  const closing = slow.close().then(() => {
    closed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(closed).toBe(false);
  answer();
  await closing;
  expect(readdirSync(dir)).toEqual([]);
  expect(events.at(-1)!.answers).toHaveLength(1);

  const hanging = new BlockDesk({
    ...options,
    closeMs: 50,
    templates: { submitBlock: () => new Promise(() => {}), async preferBlock() {} },
  });
  hanging.take({ event, hex: '00' });
  await hanging.close();
  expect(readdirSync(dir)).toEqual([`${event.hash}.json`]);
});

test('where each share is a block a node is asked eight at a time, newest first; the others wait, and in the end each was sent once', async () => {
  const dir = folder();
  const sent: string[] = [];
  const pending: (() => void)[] = [];
  const made = new BlockDesk({
    dir,
    facts: { block: () => {}, timeUs: () => 5 },
    log: () => {},
    waitingLimit: 10,
    templates: {
      submitBlock: (hex, onAnswer) => {
        sent.push(hex);
        const answer: SubmitAnswer = { node: 'n', answer: 'inconclusive', accepted: false };
        return new Promise((resolve) => {
          pending.push(() => {
            onAnswer?.(answer);
            resolve([answer]);
          });
        });
      },
      async preferBlock() {},
    },
  });
  ends.push(() => void made.close());
  const hexOf = (n: number): string => n.toString(16).padStart(4, '0');
  const take = (n: number, stale = false): boolean =>
    made.take({ event: { ...event, hash: hexOf(n).padStart(64, '0') }, hex: hexOf(n), stale });
  for (let n = 0; n < 40; n++) take(n);
  take(40, true);
  expect(sent).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map(hexOf));
  pending.shift()!();
  // The late one is the one that went on as a file alone, or waits behind the ones on the newest block.
  expect(sent[8]).toBe(hexOf(39));
  await until('every one was answered', () => {
    pending.shift()?.();
    return readdirSync(dir).length === 0;
  });
  expect(sent).toHaveLength(41);
  expect(new Set(sent).size).toBe(41);
});

test('a worker that writes its file after the node has answered leaves none', async () => {
  const dir = folder();
  const { made } = desk(dir, () => [{ node: 'n', answer: 'accepted', accepted: true }]);
  const block = { event, hex: '00' };
  made.submit(block);
  await new Promise((resolve) => setImmediate(resolve));
  keepBlock(dir, block, () => {});
  expect(readdirSync(dir)).toHaveLength(1);
  await made.close();
  expect(readdirSync(dir)).toEqual([]);
});

test('a node that hangs holds no block back from the others', () => {
  const dir = folder();
  const sent: string[] = [];
  const made = new BlockDesk({
    dir,
    facts: { block: () => {}, timeUs: () => 5 },
    log: () => {},
    closeMs: 10,
    templates: {
      submitBlock: (hex, onAnswer) => {
        sent.push(hex);
        onAnswer?.({ node: 'b', answer: 'accepted', accepted: true });
        return new Promise(() => {});
      },
      async preferBlock() {},
    },
  });
  ends.push(() => void made.close());
  for (let n = 0; n < 20; n++) made.take({ event: { ...event, hash: `${n}`.padStart(64, '0') }, hex: `${10 + n}` });
  expect(sent).toHaveLength(20);
});
