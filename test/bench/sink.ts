/**
 * Shares from the journal into the embedded ClickHouse by the consumers, beside chDB's own INSERT … SELECT FROM file(…, Avro) of the same
 * batches in the same run; CPU of both processes, and bytes per share on disk.
 *
 *     npm run bench:sink [-- SHARES]
 *
 * Ends with 1 where a figure misses what is asked of it: 200,000 shares a second, 0.6 of chDB alone, 100 bytes a share.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decoderFor } from '../../schemas/codec.ts';
import type { Inputs } from '../../schemas/events.ts';
import { startConsumers } from '../../services/consumers/main.ts';
import { ShareFile, shareInsert } from '../../services/consumers/share-file.ts';
import type { EventLog, RecordBatch } from '../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { startTestClickHouse } from '../helpers/clickhouse.ts';
import { configFor, testLife } from '../services/consumers/world.ts';

const SHARES = Number(process.argv[2] ?? 500_000);
const PER_SECOND = 2_000;
const WORKERS = 1_000;
const BATCH = 100_000;
const START_US = 1_760_000_000_000_000;

let seed = 1;
/** 32 bits (xorshift): hashes must not compress. */
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const hex8 = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');

/** A share of a pool of a thousand workers; one of fifty is refused. */
function share(n: number): Inputs['share'] {
  const timeUs = START_US + Math.floor((n * 1e6) / PER_SECOND);
  const w = random() % WORKERS;
  const accepted = random() % 50 !== 0;
  const diff = 2 ** (10 + (w % 8));
  const user = `bc1q${hex8(w % 300)}qxkmw0${hex8((w % 300) * 77)}0rj8dq`;
  return {
    origin: 'ckpool',
    instance: 'ckpool',
    source: 'live',
    time_us: timeUs,
    client_id: w + 1,
    listener: '0.0.0.0:3333',
    job_id: `68f0a1b2${hex8(Math.floor(n / (PER_SECOND * 30)))}`,
    job_key: `ckpool/${hex8(Math.floor(n / (PER_SECOND * 30)) * 2654435761)}5e1f2a3b`,
    height: 900_000 + Math.floor(n / (PER_SECOND * 600)),
    user,
    worker: `${user}.rig${w}`,
    agent: 'cgminer/4.12.1',
    address: `10.0.${w >> 8}.${w & 255}`,
    accepted,
    errn: accepted ? 0 : 5,
    reason: accepted ? '' : 'Above target',
    diff,
    sdiff: diff * (1 + random() / 2 ** 30),
    hash: `0000000000${Array.from({ length: 7 }, () => hex8(random()))
      .join('')
      .slice(2)}`.padEnd(64, '0'),
    enonce1: hex8(0xa0000000 + w),
    nonce2: `00000000${hex8(random())}`,
    nonce: hex8(random()),
    ntime: Math.floor(timeUs / 1e6).toString(16),
    version_bits: hex8((random() & 0xffff) << 13),
  };
}

/** CPU seconds of a process. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The same batches as files, inserted by chDB itself. @returns seconds */
async function chdbAlone(log: EventLog): Promise<number> {
  await ch.writer.command({ query: 'CREATE TABLE alone AS shares_raw' });
  const paths: string[] = [];
  let from: string | null = null;
  for (let left = SHARES; left > 0; ) {
    const file = new ShareFile(BATCH);
    while (file.count < BATCH && left > 0) {
      const batch: RecordBatch = await log.read('share', 'ckpool', from, { maxRecords: BATCH - file.count, waitMs: 0 });
      for (const { fingerprint, body } of batch.records) {
        if (!file.addPlain(fingerprint, body)) file.add(decoderFor('share')(body));
      }
      from = batch.next;
      left -= batch.records.length;
    }
    const path = join(dir, `${paths.length}.avro`);
    writeFileSync(path, file.finish());
    paths.push(path);
  }
  const begun = performance.now();
  const cpu = cpuOf(ch.process.pid!);
  for (const path of paths) {
    const query = shareInsert(path)
      .replace('shares_raw', 'alone')
      .replace("input('", `file('${path}', 'Avro', '`)
      .replace('FORMAT Avro', '');
    await ch.writer.command({ query });
  }
  const seconds = (performance.now() - begun) / 1000;
  console.log(`chDB alone: ${(((cpuOf(ch.process.pid!) - cpu) * 1e6) / SHARES).toFixed(2)} µs of CPU per share`);
  return seconds;
}

const dir = mkdtempSync(join(tmpdir(), 'bench-sink-'));
const ch = await startTestClickHouse();
const life = testLife();
try {
  const writer = openJournalWriter({ dir: join(dir, 'journal'), instance: 'ckpool' });
  for (let n = 0; n < SHARES; n += 200) {
    writer.append(
      Array.from({ length: Math.min(200, SHARES - n) }, (_, i) => ({ topic: 'share', event: share(n + i) })),
    );
  }
  writer.close();
  const log = openJournalLog({ dir: join(dir, 'journal') });
  life.onStop('log', () => log.close());
  const config = configFor(dir, { url: ch.url, user: 'writer', password: ch.token });
  const consumers = await startConsumers(config, life, { log });
  await consumers.ready;
  const readyMs = performance.now();
  const before = { own: process.cpuUsage(), chdb: cpuOf(ch.process.pid!) };
  while (consumers.counters.records < SHARES) {
    if (life.signal.aborted || performance.now() - readyMs > 300_000) throw new Error(life.lines.join('\n'));
    await sleep(5);
  }
  const seconds = (performance.now() - readyMs) / 1000;
  const own = process.cpuUsage(before.own);
  console.log(
    `consumers: ${Math.round(SHARES / seconds)} shares/s; CPU per share ${((own.user + own.system) / SHARES).toFixed(2)} µs here, ` +
      `${(((cpuOf(ch.process.pid!) - before.chdb) * 1e6) / SHARES).toFixed(2)} µs in ClickHouse`,
  );
  const one = async <T>(query: string): Promise<T> => {
    const answer = await ch.writer.query({ query, format: 'JSONEachRow' });
    return (await answer.json<T>())[0]!;
  };
  const alone = await chdbAlone(log);
  console.log(
    `chDB alone, the same shares from files: ${Math.round(SHARES / alone)} shares/s; ratio ${(alone / seconds).toFixed(2)} (to reach: 0.6)`,
  );
  const { bytes } = await one<{ bytes: number }>(
    "SELECT toFloat64(sum(data_compressed_bytes)) / sum(rows) AS bytes FROM system.parts WHERE active AND table = 'shares_raw'",
  );
  console.log(`${bytes.toFixed(1)} bytes per share in ClickHouse (to reach: 100)`);
  console.log(await one('SELECT toUInt32(count()) AS shares, toUInt32(uniqExact(worker)) AS workers FROM shares'));
  if (SHARES / seconds < 200_000 || alone / seconds < 0.6 || bytes > 100) process.exitCode = 1;
} finally {
  await life.end();
  await ch.stop();
  rmSync(dir, { recursive: true, force: true });
}
