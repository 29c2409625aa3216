/**
 * The disk under everything is full, journal, ClickHouse and positions alike, and programs are killed meanwhile: shares are refused with words,
 * jobs go on; when there is room again all goes on by itself, and what was acknowledged is in ClickHouse once.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NOT_STORED } from '../../services/stratum/intake.ts';
import { until } from '../helpers/leash.ts';
import { leaveOut } from '../helpers/require.ts';
import { expectRecord, settled } from './checks.ts';
import { type Load, startLoad } from './load.ts';
import { kill, mayMount, type Stack, startStack } from './stack.ts';

const PER_SECOND = 3_000;
const LINES = 24;
const DISK_MIB = 512;
const CHUNK_BYTES = 1024 * 1024;

const mount = mayMount();
if (!mount) leaveOut('mount', 'a file system of its own needs the right to mount');

describe.runIf(mount)('a full disk', () => {
  let stack: Stack;
  let load: Load;
  let filler: string;
  beforeAll(async () => {
    stack = await startStack('faults-disk', { diskMiB: DISK_MIB });
    filler = join(stack.dataDir, 'filler');
    load = startLoad(() => stack.stratumPort, LINES, PER_SECOND);
  });
  afterAll(async () => {
    await load?.stop();
    await stack?.close();
  });

  const refused = (): number => load.lines.reduce((sum, line) => sum + (line.refusals.get(NOT_STORED) ?? 0), 0);

  /** Takes all room, in ever smaller pieces. */
  function fill(): void {
    const fd = openSync(filler, 'a');
    for (let bytes = CHUNK_BYTES; bytes >= 1; ) {
      try {
        if (writeSync(fd, Buffer.alloc(bytes, 1)) < bytes) bytes >>= 1;
      } catch {
        bytes >>= 1;
      }
    }
    closeSync(fd);
  }

  test('refuses shares, and loses and doubles nothing', async () => {
    await until('the load to be under way', () => load.acknowledged() > 2 * PER_SECOND);
    for (const kills of [false, true]) {
      const [before, spans] = [refused(), load.lines[0]!.spans.length];
      await until(
        () => `shares to be refused\n${stack.said.slice(-20).join('\n')}`,
        () => {
          fill();
          return refused() > before + PER_SECOND;
        },
        { everyMs: 100 },
      );
      await stack.node.newBlock();
      await until('work on the new block', () => load.lines[0]!.spans.length > spans);
      // A program that starts meets the full disk.
      if (kills) for (const pid of [stack.pool.children()[0]!, stack.consume.pid, stack.clickhouse.pid]) kill(pid);
      await delay(2_000);
      fill();
      rmSync(filler);
      const had = load.acknowledged();
      await until(
        () => `shares to be taken again\n${stack.said.slice(-20).join('\n')}`,
        () => load.acknowledged() > had + PER_SECOND,
      );
    }
    await load.stop();
    await stack.pool.stop();
    await settled(stack);
    const account = await expectRecord(stack, load);
    console.log(
      `${JSON.stringify(account)}; refused as not stored ${refused()}; ended by themselves ${JSON.stringify(stack.surprises(), null, 1)}`,
    );
    expect(account.acknowledged).toBeGreaterThan(4 * PER_SECOND);
  }, 900_000);
});
