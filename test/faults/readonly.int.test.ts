/**
 * The disk under everything becomes read-only while everything runs, and writable again: shares are refused with words, jobs go on, lines close
 * after a minute; then all goes on by itself. A second time programs are killed meanwhile, and start on a disk that takes nothing.
 */
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NOT_STORED } from '../../services/stratum/intake.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';
import { kafkaJars } from '../kafka/broker.ts';
import { expectRecord, settled } from './checks.ts';
import { type Load, startLoad } from './load.ts';
import { kill, readOnlyLibrary, type Stack, startStack } from './stack.ts';

const PER_SECOND = 3_000;
const LINES = 24;

const libraryDir = tempDir('readonly-library');
afterAll(() => libraryDir.remove());
const library = await havePart('cc', () => readOnlyLibrary(libraryDir.path));
const haveKafka = await havePart('kafka', () =>
  kafkaJars().then(
    () => ({ found: true }),
    (error: Error) => ({ missing: error.message }),
  ),
);

/** What a miner that connects now is told before its line is closed; waits for the end. */
function greeting(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect({ host: '127.0.0.1', port });
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    socket.once('connect', () => socket.write('{"id":1,"method":"mining.subscribe","params":["late/1"]}\n'));
    socket.once('close', () => resolve(text));
    socket.once('error', reject);
  });
}

describe.runIf(library)('a disk that becomes read-only', () => {
  let stack: Stack;
  let load: Load;
  beforeAll(async () => {
    let kafka = null;
    if (haveKafka !== undefined) {
      const own = await kafkaForTests({ own: true });
      if ('missing' in own) throw new Error(own.missing);
      kafka = own;
    }
    stack = await startStack('faults-readonly', { kafka, readOnly: library!.path });
    load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
  });
  afterAll(async () => {
    await load?.stop();
    await stack?.close();
  });

  const refused = (): number => load.lines.reduce((sum, line) => sum + (line.refusals.get(NOT_STORED) ?? 0), 0);
  const said = (words: string): boolean => stack.said.some((line) => line.includes(words));
  const last = (): string => stack.said.slice(-20).join('\n');

  async function takenAgain(): Promise<void> {
    const had = load.acknowledged();
    await until(
      () => `shares to be taken again\n${last()}`,
      () => load.acknowledged() > had + PER_SECOND,
    );
  }

  test('refuses shares with words, sends miners away after a minute, goes on with blocks, and resumes by itself', async () => {
    await until('the load to be under way', () => load.acknowledged() > 2 * PER_SECOND);
    const spans = load.lines[0]!.spans.length;
    stack.readOnly(true);
    await until(
      () => `shares to be refused\n${last()}`,
      () => refused() > PER_SECOND,
    );
    // What a program says comes on another way than what its miners hear.
    await until('it to be said', () => said('events cannot be written, shares are refused') && said('is read-only'));
    await stack.node.newBlock();
    await until('work on the new block', () => load.lines[0]!.spans.length > spans);
    await until(
      () => `lines to be closed\n${last()}`,
      () => said('shares cannot be stored for 60 s'),
    );
    expect(await greeting(stack.stratumPort)).not.toContain('"result":[[');
    await stack.node.newBlock();
    stack.readOnly(false);
    await until(
      () => `miners to be let in\n${last()}`,
      () => said('shares can be stored again'),
    );
    await takenAgain();
    expect(stack.surprises()).toEqual([]);
  }, 400_000);

  test('programs that are killed meanwhile start when it is writable again', async () => {
    await takenAgain();
    const before = refused();
    stack.readOnly(true);
    await until(
      () => `shares to be refused\n${last()}`,
      () => refused() > before + PER_SECOND / 2,
    );
    for (const pid of [stack.pool.children()[0]!, stack.pool.pid]) kill(pid);
    for (const { pid } of [stack.consume, stack.clickhouse, ...(stack.relay === null ? [] : [stack.relay])]) kill(pid);
    await delay(3_000);
    stack.readOnly(false);
    await takenAgain();
    // systemd would not start again who ends with 64, 73 or 78: flags, folders and configuration are not at fault.
    for (const line of stack.surprises()) expect(line).toMatch(/ended with (69|74|75): /);
  }, 720_000);

  test('and nothing that was acknowledged is lost, nothing is there twice', async () => {
    await load.stop();
    await stack.pool.stop();
    await settled(stack, 1, 120_000);
    const account = await expectRecord(stack, load);
    console.log(
      `${JSON.stringify(account)}; refused as not stored ${refused()}; ended by themselves ${stack.surprises().length} times`,
    );
    expect(account.acknowledged).toBeGreaterThan(3 * PER_SECOND);
  }, 900_000);
});
