/**
 * Share logs into the journal and into ClickHouse, beside what the same machine does without us, in one run.
 *
 *     npm run bench:ingest [-- --row ROW] [--lines N] [--files N] [--cases N] [--megabytes N]
 *
 * | row | measures |
 * |---|---|
 * | `lines` | one log file → journal on one core, beside `split` and `JSON.parse` of the same bytes |
 * | `clickhouse` | log file → rows in the embedded ClickHouse, beside its own INSERT … SELECT FROM file(…, JSONEachRow) into the same table |
 * | `files` | many small files: the first run, and the second |
 * | `memory` | an archive of some GB, as packs one behind the other: most memory held |
 * | `fuzz` | damaged lines through the scanner and through line.ts, which must agree |
 *
 * Ends with 1 where a figure misses what is asked of it.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { zstdCompressSync } from 'node:zlib';
import { shareDifficulty } from '../../services/core/bitcoin/target.ts';
import { openDataDir } from '../../services/core/data-dir.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { ingest, type Summary } from '../../services/ingestor/main.ts';
import { realText } from '../../services/stratum/sharelog.ts';
import { startTestClickHouse } from '../helpers/clickhouse.ts';
import { configFor, testLife } from '../services/consumers/world.ts';
import { BothWays } from '../services/ingestor/both-ways.ts';
import { mutatedLine, randomFrom, usualLine } from '../services/ingestor/mutations.ts';

const { values } = parseArgs({
  options: {
    row: { type: 'string', multiple: true, default: ['lines', 'clickhouse', 'files', 'memory', 'fuzz'] },
    lines: { type: 'string', default: '400000' },
    files: { type: 'string', default: '20000' },
    folders: { type: 'string', default: '3000' },
    cases: { type: 'string', default: '1000000' },
    megabytes: { type: 'string', default: '2000' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
    child: { type: 'string' },
  },
});
const LINES = Number(values.lines);
const WORKERS = 1_000;
const LINES_A_JOB = 60_000;
const START_S = 1_760_000_000;

let missed = false;
function say(what: string, value: string, holds?: boolean): void {
  if (holds === false) missed = true;
  console.log(`${what.padEnd(58)} ${value}${holds === undefined ? '' : holds ? '  (reached)' : '  (MISSED)'}`);
}

/** Lines of a pool of a thousand workers, in CKPool's form; one of fifty is refused. */
function* logLines(count: number, seed: number): Generator<string> {
  const random = randomFrom(seed);
  const word = (): string => (random(2 ** 32) >>> 0).toString(16).padStart(8, '0');
  for (let n = 0; n < count; n++) {
    const w = random(WORKERS);
    const diff = 2 ** (10 + (w % 8));
    const user = `bc1q${(w % 300).toString(16).padStart(8, '0')}qxkmw0${((w % 300) * 77).toString(16).padStart(8, '0')}0rj8dq`;
    const top = Math.floor(((2 ** 32 - 1) / diff) * (random(2 ** 32) / 2 ** 32));
    const hash = `00000000${top.toString(16).padStart(8, '0')}${word()}${word()}${word()}${word()}${word()}${word()}`;
    const sdiff = shareDifficulty(Buffer.from(hash, 'hex').reverse());
    const refused = random(50) === 0;
    const seconds = START_S + Math.floor(n / 2_000);
    yield `{"workinfoid": ${7_559_142_440_960_000_000n + BigInt(Math.floor(n / LINES_A_JOB))}, "clientid": ${w + 1}, "enonce1": "${(0xa0000000 + w).toString(16)}", ` +
      `"nonce2": "00000000${word()}", "nonce": "${word()}", "ntime": "${seconds.toString(16)}", "diff": ${diff}.0, "sdiff": ${realText(sdiff)}, ` +
      `"hash": "${hash}", "result": ${!refused}, ${refused ? '"reject-reason": "Above target", ' : ''}"errn": ${refused ? 5 : 0}, "createdate": "${seconds},${random(1e9)}", ` +
      `"createby": "code", "createcode": "parse_submit", "createinet": "0.0.0.0:3333", "workername": "${user}.rig${w}", "username": "${user}", ` +
      `"address": "10.0.${w >> 8}.${w & 255}", "agent": "cgminer/4.12.1"}\n`;
  }
}

function writeLog(path: string, count: number, seed = 1): void {
  const fd = openSync(path, 'w');
  let piece = '';
  for (const line of logLines(count, seed)) {
    piece += line;
    if (piece.length < 1 << 20) continue;
    writeSync(fd, piece);
    piece = '';
  }
  writeSync(fd, piece);
  closeSync(fd);
}

/** Split and parse alone. @returns lines */
function splitAndParse(path: string): number {
  const fd = openSync(path, 'r');
  const buffer = Buffer.allocUnsafe(1 << 20);
  let rest = '';
  let lines = 0;
  for (;;) {
    const got = readSync(fd, buffer);
    if (got === 0) break;
    const pieces = (rest + buffer.toString('utf8', 0, got)).split('\n');
    rest = pieces.pop()!;
    for (const piece of pieces) if (JSON.parse(piece) !== null) lines++;
  }
  closeSync(fd);
  return lines;
}

interface Took {
  readonly wallS: number;
  readonly cpuS: number;
}

async function timed(work: () => unknown): Promise<Took> {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await work();
  const used = process.cpuUsage(cpu);
  return { wallS: (performance.now() - begun) / 1000, cpuS: (used.user + used.system) / 1e6 };
}

function runIngest(logDir: string, dataDir: string): Promise<Summary> {
  const data = openDataDir(dataDir);
  return ingest({
    ...{ logDir, paths: [], origin: 'ckpool', instance: 'ingest-ckpool', data, dryRun: false },
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'ingest-ckpool' }),
    onBad: (bad) => console.log(bad.path, bad.line, bad.reason),
    onProgress: () => {},
  });
}

/** CPU seconds and most memory of a process, bytes. */
function ofProcess(pid: number): { cpuS: number; peakBytes: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!;
  return { cpuS: (Number(fields[11]) + Number(fields[12])) / 100, peakBytes: Number(peak) * 1024 };
}

/** Ingest in a process of its own. */
async function childIngest(
  logDir: string,
  dataDir: string,
): Promise<{ summary: Summary; cpuS: number; peakBytes: number }> {
  const child = fork(fileURLToPath(import.meta.url), ['--child', JSON.stringify({ logDir, dataDir })]);
  const [summary] = (await once(child, 'message')) as [Summary];
  const used = ofProcess(child.pid!);
  child.disconnect();
  await once(child, 'exit');
  return { summary, ...used };
}

/** Log file → journal on one core, beside split and parse; the better of three of each, in turn. */
async function lines(dir: string): Promise<void> {
  const logs = join(dir, 'lines', '000dbba0');
  mkdirSync(logs, { recursive: true });
  const log = join(logs, '68e8f4000000.sharelog');
  writeLog(log, LINES);
  const megabytes = statSync(log).size / 1e6;
  const best: Record<string, Took> = {};
  const note = (what: string, took: Took): void => {
    if (best[what] === undefined || took.cpuS < best[what].cpuS) best[what] = took;
  };
  for (let round = 0; round < 3; round++) {
    note('parse', await timed(() => splitAndParse(log)));
    note('ours', await timed(() => runIngest(join(dir, 'lines'), join(dir, `lines-data-${round}`))));
    rmSync(join(dir, `lines-data-${round}`), { recursive: true });
  }
  for (const [what, { wallS, cpuS }] of Object.entries(best)) {
    const name = what === 'parse' ? 'split and JSON.parse alone' : 'log file → journal';
    say(
      name,
      `${Math.round(LINES / cpuS)} lines/s and CPU second (${Math.round(LINES / wallS)}/s, ${Math.round(megabytes / wallS)} MB/s)`,
    );
  }
  const ratio = best.parse!.cpuS / best.ours!.cpuS;
  say('log file → journal, of split and JSON.parse (0.9)', ratio.toFixed(2), ratio >= 0.9);
}

/** The table's rows by ClickHouse alone; what it takes to be in the table, no check made. */
const ALONE = (
  table: string,
  path: string,
): string => `INSERT INTO ${table} (origin, bucket, identity, rank, kind, instance, source, time, time_ns,
    client_id, listener, job_id, height, user, worker, agent, address, accepted, errn, reason, diff, sdiff, hash, enonce1, nonce2, nonce, ntime)
  SELECT 'ckpool', toStartOfHour(toDateTime(reinterpretAsUInt32(reverse(unhex(ntime))), 'UTC')), hash, 0, 'submitted', 'ingest-ckpool', 'backfill',
    fromUnixTimestamp64Micro(toInt64(splitByChar(',', createdate)[1]) * 1000000 + intDiv(toInt64(splitByChar(',', createdate)[2]), 1000), 'UTC'),
    toInt64(splitByChar(',', createdate)[2]) % 1000, clientid, createinet, lower(hex(workinfoid)), 900000, username, workername, agent, address,
    result, errn, "reject-reason", toDecimal128(diff, 18), sdiff, '', enonce1, nonce2, nonce, ntime
  FROM file('${path}', 'JSONEachRow', 'workinfoid UInt64, clientid UInt64, enonce1 String, nonce2 String, nonce String, ntime String, diff Float64,
    sdiff Float64, hash String, result Bool, "reject-reason" String, errn Int32, createdate String, createinet String, workername LowCardinality(String),
    username LowCardinality(String), address String, agent LowCardinality(String)')`;

async function clickhouse(dir: string): Promise<void> {
  const { startConsumers } = await import('../../services/consumers/main.ts');
  const logs = join(dir, 'clickhouse', '000dbba0');
  mkdirSync(logs, { recursive: true });
  const log = join(logs, '68e8f4000000.sharelog');
  writeLog(log, LINES);
  const data = join(dir, 'clickhouse-data');
  const ch = await startTestClickHouse();
  const life = testLife();
  try {
    const reading = openJournalLog({ dir: openDataDir(data).journal });
    life.onStop('log', () => reading.close());
    const config = configFor(data, { url: ch.url, user: 'writer', password: ch.token });
    const consumers = await startConsumers(config, life, { log: reading });
    await consumers.ready;
    const begun = performance.now();
    const own = process.cpuUsage();
    const engine = ofProcess(ch.process.pid!).cpuS;
    const child = childIngest(join(dir, 'clickhouse'), data);
    while (consumers.counters.rows < LINES) {
      if (life.signal.aborted || performance.now() - begun > 300_000) throw new Error(life.lines.join('\n'));
      await sleep(5);
    }
    const wallS = (performance.now() - begun) / 1000;
    const used = process.cpuUsage(own);
    const engineS = ofProcess(ch.process.pid!).cpuS - engine;
    const { cpuS, summary } = await child;
    const ownS = (used.user + used.system) / 1e6;
    say(
      'log file → ClickHouse',
      `${Math.round(LINES / wallS)} lines/s; CPU a line: ingest ${((cpuS * 1e6) / LINES).toFixed(2)}, consumers ${((ownS * 1e6) / LINES).toFixed(2)}, engine ${((engineS * 1e6) / LINES).toFixed(2)} µs (ingest alone took ${summary.seconds.toFixed(1)} s)`,
    );
    await ch.writer.command({ query: 'CREATE TABLE alone AS shares_raw' });
    const aloneEngine = ofProcess(ch.process.pid!).cpuS;
    const aloneBegun = performance.now();
    await ch.writer.command({ query: ALONE('alone', log) });
    const aloneS = (performance.now() - aloneBegun) / 1000;
    const aloneCpuS = ofProcess(ch.process.pid!).cpuS - aloneEngine;
    say(
      'chDB alone, INSERT … SELECT FROM file(…, JSONEachRow)',
      `${Math.round(LINES / aloneS)} lines/s; CPU a line ${((aloneCpuS * 1e6) / LINES).toFixed(2)} µs`,
    );
    say('log file → ClickHouse, of chDB alone (0.7)', (aloneS / wallS).toFixed(2), aloneS / wallS >= 0.7);
    say('the same by CPU', (aloneCpuS / (cpuS + ownS + engineS)).toFixed(2));
  } finally {
    await life.end();
    await ch.stop();
  }
}

/** Many files of a line each, in height folders that were written long ago. */
async function files(dir: string): Promise<void> {
  const count = Number(values.files);
  const folders = Math.min(Number(values.folders), Math.ceil(count / 5));
  const logs = join(dir, 'files');
  const generated = logLines(count, 7);
  const long = Date.now() / 1000 - 86_400;
  for (let f = 0; f < folders; f++) {
    const folder = join(logs, (900_000 + f).toString(16).padStart(8, '0'));
    mkdirSync(folder, { recursive: true });
    for (let i = Math.floor((f * count) / folders); i < Math.floor(((f + 1) * count) / folders); i++) {
      const path = join(folder, `${i.toString(16).padStart(16, '0')}.sharelog`);
      writeFileSync(path, generated.next().value as string);
      utimesSync(path, long, long);
    }
    utimesSync(folder, long, long);
  }
  const data = join(dir, 'files-data');
  const first = await childIngest(logs, data);
  say(
    `first run of ${count} files in ${folders} folders`,
    `${first.summary.seconds.toFixed(2)} s, ${Math.round(count / first.summary.seconds)} files/s; CPU ${first.cpuS.toFixed(2)} s; at most ${Math.round(first.peakBytes / 1e6)} MB`,
  );
  const second = await childIngest(logs, data);
  const { summary } = second;
  say(
    'second run',
    `${summary.seconds.toFixed(3)} s; CPU of its process ${second.cpuS.toFixed(2)} s, at most ${Math.round(second.peakBytes / 1e6)} MB`,
    summary.seconds < 1 && summary.known === count && summary.lines === 0,
  );
}

/** One megabyte of lines, packed over and over. */
async function memory(dir: string): Promise<void> {
  const megabytes = Number(values.megabytes);
  const logs = join(dir, 'memory', '000dbba0');
  mkdirSync(logs, { recursive: true });
  const block = Buffer.from([...logLines(1_700, 3)].join(''));
  const pack = zstdCompressSync(Buffer.concat(Array.from({ length: 64 }, () => block)));
  const fd = openSync(join(logs, '68e8f4000000.sharelog.zst'), 'w');
  for (let done = 0; done < megabytes; done += (64 * block.length) / 1e6) writeSync(fd, pack);
  closeSync(fd);
  const { summary, peakBytes, cpuS } = await childIngest(join(dir, 'memory'), join(dir, 'memory-data'));
  const gigabytes = ((summary.lines / 1_700) * block.length) / 1e9;
  say(
    `archive of ${gigabytes.toFixed(1)} GB unpacked, zstd packs one behind the other`,
    `at most ${Math.round(peakBytes / 1e6)} MB; ${Math.round((gigabytes * 1000) / summary.seconds)} MB/s, CPU ${cpuS.toFixed(1)} s`,
    peakBytes <= 300e6,
  );
}

async function fuzz(): Promise<void> {
  const cases = Number(values.cases);
  const seed = Number(values.seed);
  const random = randomFrom(seed);
  const both = new BothWays({ origin: 'ckpool', instance: 'ingest-ckpool', height: 700 });
  const begun = performance.now();
  let slowestMs = 0;
  let line = usualLine(random);
  for (let i = 0; i < cases; i++) {
    const other = usualLine(random);
    const damaged = i % 3 === 0 ? Buffer.from(line) : mutatedLine(random, line, other);
    const at = performance.now();
    if (both.compare(damaged) === null) {
      say(
        'fuzz',
        `seed ${seed}, case ${i}: ${JSON.stringify(damaged.toString('latin1'))}: ${both.last.join(' | ')}`,
        false,
      );
      return;
    }
    slowestMs = Math.max(slowestMs, performance.now() - at);
    line = other;
  }
  const seconds = (performance.now() - begun) / 1000;
  say(
    `fuzz, ${cases} lines, seed ${seed}`,
    `both ways agree; ${both.taken} taken, ${both.scanned} by the scanner; slowest ${slowestMs.toFixed(1)} ms; ${seconds.toFixed(0)} s`,
    true,
  );
}

const ROWS: Readonly<Record<string, (dir: string) => Promise<void>>> = { lines, clickhouse, files, memory, fuzz };

if (values.child !== undefined) {
  const { logDir, dataDir } = JSON.parse(values.child) as { logDir: string; dataDir: string };
  process.send!(await runIngest(logDir, dataDir));
  process.once('disconnect', () => process.exit(0));
} else {
  const dir = mkdtempSync(join(tmpdir(), 'bench-ingest-'));
  try {
    for (const row of values.row) await ROWS[row]!(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  if (missed) process.exitCode = 1;
}
