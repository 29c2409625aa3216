/**
 * What it costs to sync: turns of shares are written for some seconds, one for each turn of the loop, and a sync begins 5 ms after the one
 * before or when that has ended: beside the loop, as the daemon does it, and in it; beside plain framed append with the same syncs.
 *
 *     npm run bench:fsync
 */
import { closeSync, fdatasync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { encodeEvent } from '../../schemas/codec.ts';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { sampleShare, shareEntries } from '../contracts/samples.ts';

const SYNC_SECONDS = 2;
const GROUP_MS = 5;
const PER_TURN = 16;

/** Writes turns, one per turn of the loop, with a sync each `GROUP_MS`. @returns synced turns a second, CPU per turn, the longest stop of the loop */
async function synced(write: (turn: number) => void, sync: () => Promise<void> | void): Promise<string> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  let turns = 0;
  let syncs = 0;
  let safe = 0;
  let began = Number.NEGATIVE_INFINITY;
  let syncing: Promise<void> | null = null;
  const cpu = process.cpuUsage();
  const start = performance.now();
  while (performance.now() - start < SYNC_SECONDS * 1000) {
    write(turns++);
    if (syncing === null && performance.now() - began >= GROUP_MS) {
      began = performance.now();
      syncs++;
      const covered = turns;
      const work = sync();
      if (work === undefined) safe = covered;
      else {
        syncing = work.then(() => {
          safe = covered;
          syncing = null;
        });
      }
    }
    await nextTurn();
  }
  await syncing;
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  delay.disable();
  rates.push(safe / seconds);
  return [
    `${Math.round(safe / seconds)} turns/s synced`,
    `${Math.round(syncs / seconds)} syncs/s`,
    `${((user + system) / turns).toFixed(1)} us CPU/turn`,
    `loop stopped ${(delay.max / 1e6).toFixed(1)} ms at most, ${(delay.percentile(99) / 1e6).toFixed(1)} ms p99`,
  ].join(', ');
}
const rates: number[] = [];

{
  const dir = mkdtempSync(join(tmpdir(), 'bench-journal-'));
  const entries = shareEntries(0, PER_TURN);
  const events = Array.from({ length: PER_TURN }, (_, i) => sampleShare(i));
  const fd = openSync(join(dir, 'framed'), 'w');
  const bytes = Buffer.allocUnsafe(PER_TURN * 1024);
  const frame = (): void => {
    let at = 0;
    for (const event of events) {
      const body = encodeEvent('share', event);
      bytes.writeUInt32LE(body.length, at);
      bytes.writeUInt32LE(crc32(body), at + 4);
      bytes.set(body, at + 8);
      at += 8 + body.length;
    }
    writeSync(fd, bytes, 0, at);
  };
  const aside = promisify(fdatasync);
  console.log(`with fsync, ${PER_TURN} per turn`);
  console.log(`  framed, a sync each 5 ms beside the loop: ${await synced(frame, () => aside(fd))}`);
  const writer = openJournalWriter({ dir: join(dir, 'a'), instance: 'a', fsync: true });
  console.log(
    `  journal, the same:                        ${await synced(
      () => void writer.write(entries),
      () => writer.sync(),
    )}, ${(rates[1]! / rates[0]!).toFixed(2)} of framed`,
  );
  writer.close();
  console.log(`  framed, a sync each 5 ms in the loop:     ${await synced(frame, () => fdatasyncSync(fd))}`);
  const each = openJournalWriter({ dir: join(dir, 'b'), instance: 'a', fsync: true });
  console.log(
    `  journal, a sync for each turn:            ${await synced(
      () => each.append(entries),
      () => {},
    )}`,
  );
  each.close();
  closeSync(fd);
  rmSync(dir, { recursive: true });
}
