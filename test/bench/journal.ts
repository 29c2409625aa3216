/**
 * What an append to the journal costs, and how fast it is read: as ratios to plain framed append in the same run, since machines differ.
 *
 *     npm run bench:journal
 *
 * Plain framed append is the least that could be done: the same encoded bodies, each with length and crc32, one write per turn.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { encodeEvent } from '../../schemas/codec.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { sampleShare, shareEntries } from '../contracts/samples.ts';

const RECORDS = 200_000;
const ROUNDS = 3;

/** Seconds of the fastest of some rounds. */
async function best(work: () => Promise<void> | void): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    await work();
    least = Math.min(least, (performance.now() - start) / 1000);
  }
  return least;
}

function framed(path: string, perTurn: number, encode: boolean): void {
  const fd = openSync(path, 'w');
  const events = Array.from({ length: perTurn }, (_, i) => sampleShare(i));
  const bodies = events.map((event) => encodeEvent('share', event));
  const bytes = Buffer.allocUnsafe(bodies.reduce((sum, body) => sum + body.length + 8, 0));
  for (let turn = 0; turn < Math.floor(RECORDS / perTurn); turn++) {
    let at = 0;
    for (let i = 0; i < perTurn; i++) {
      const body = encode ? encodeEvent('share', events[i]!) : bodies[i]!;
      bytes.writeUInt32LE(body.length, at);
      bytes.writeUInt32LE(crc32(body), at + 4);
      bytes.set(body, at + 8);
      at += 8 + body.length;
    }
    writeSync(fd, bytes);
  }
  closeSync(fd);
}

function readFramed(path: string): void {
  const bytes = readFileSync(path);
  const bodies: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const body = bytes.subarray(at + 8, at + 8 + bytes.readUInt32LE(at));
    if (crc32(body) !== bytes.readUInt32LE(at + 4)) throw new Error('crc');
    bodies.push(body);
    at += 8 + body.length;
  }
}

async function readJournal(dir: string): Promise<number> {
  const log = openJournalLog({ dir });
  let from: string | null = null;
  let count = 0;
  for (;;) {
    const batch = await log.read('share', 'a', from, { maxRecords: 10_000, waitMs: 0 });
    if (batch.records.length === 0) break;
    count += batch.records.length;
    from = batch.next;
  }
  await log.close();
  return count;
}

const rate = (seconds: number): string => `${Math.round(RECORDS / seconds / 1000)}k records/s`;

for (const perTurn of [1, 16, 1000]) {
  const dir = mkdtempSync(join(tmpdir(), 'bench-journal-'));
  const path = join(dir, 'framed');
  const plainSeconds = await best(() => framed(path, perTurn, true));
  const bytesOnlySeconds = await best(() => framed(path, perTurn, false));
  const entries = shareEntries(0, perTurn);
  const turns = Math.floor(RECORDS / perTurn);
  let round = 0;
  const seconds = await best(() => {
    const writer = openJournalWriter({ dir: join(dir, String(round++)), instance: 'a' });
    for (let turn = 0; turn < turns; turn++) writer.append(entries);
    writer.close();
  });
  const readSeconds = await best(async () => {
    const count = await readJournal(join(dir, '0'));
    if (count !== turns * perTurn) throw new Error(`read ${count}`);
  });
  const readPlainSeconds = await best(() => readFramed(path));
  console.log(
    [
      `${String(perTurn).padStart(4)} per turn`,
      `append ${((seconds / turns) * 1e6).toFixed(1)} us/turn, ${rate(seconds)}`,
      `${(plainSeconds / seconds).toFixed(2)} of framed with encoding, ${(bytesOnlySeconds / seconds).toFixed(2)} of framed without`,
      `read ${rate(readSeconds)}, ${(readPlainSeconds / readSeconds).toFixed(2)} of framed`,
    ].join(' · '),
  );
  rmSync(dir, { recursive: true });
}
