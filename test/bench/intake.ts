/**
 * What a share costs between the socket's bytes and the journal, without sockets: read, hashed, judged, recorded, answered, as CPU
 * microseconds a share. Read from bytes beside read through JSON, with the share log beside without, a job without transactions beside
 * one of 12 merkle steps. The journal and the share log are real files.
 *
 *     npm run bench:intake
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadChain } from '../../services/core/chains/profile.ts';
import { type Config, loadConfig } from '../../services/core/config.ts';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { Daemon } from '../../services/stratum/daemon.ts';
import { Duplicates } from '../../services/stratum/duplicates.ts';
import type { Session } from '../../services/stratum/session.ts';
import { openJobIds } from '../../services/stratum/work/job.ts';
import { contentOf, PoolSource, poolIdentity } from '../../services/stratum/work/pool.ts';
import { ADDRESS_REGTEST, template } from '../services/stratum/rig.ts';

const LINES = 100;
/** Shares of a line that arrive together. */
const WINDOW = 16;
const TURNS = 60;
const WARM_TURNS = 15;
/** The least of so many is shown: what the machine does besides only adds. */
const ROUNDS = 3;
/** Mainnet's of 2026, about: no share solves it. */
const BITS = 0x17034219;

interface Case {
  readonly bytes: boolean;
  readonly logShares: boolean;
  readonly branches: number;
}

function say(session: Session, message: unknown): void {
  session.line(JSON.stringify(message));
}

async function least(which: Case): Promise<number> {
  let us = Infinity;
  for (let round = 0; round < ROUNDS; round++) us = Math.min(us, await measure(which));
  return us;
}

async function measure({ bytes, logShares, branches }: Case): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'lodestream-bench-'));
  const profile = loadChain('regtest');
  const config: Config = {
    ...loadConfig({ options: { 'lodestream.data_dir': dir, logdir: `${dir}/logs` } }, {}),
    btcAddress: ADDRESS_REGTEST,
    minDiff: 1e-10,
    startDiff: 1e-10,
    maxDiff: 1e-10,
    logShares,
  };
  const log = (): void => {};
  const writer = openJournalWriter({ dir: `${dir}/journal`, instance: 'bench', log });
  const daemon = new Daemon({ config, profile, writer, ids: openJobIds(`${dir}/last-job`, Date.now()), log });
  const identity = poolIdentity(config, profile);
  const source = new PoolSource(daemon, identity, { take: () => false });
  daemon.pickSource = () => source;
  daemon.ready = true;
  const branch = Array.from({ length: branches }, () => new Uint8Array(randomBytes(32)));
  const work = { ...template(profile, { bits: BITS }), branch };
  const content = contentOf(work, identity, { timeS: work.curtimeS, random: 1, versionMask: source.versionMask });
  const job = daemon.makeJob(source.jobs, content, { value: null, txCount: 0, template: work, upstream: null });
  let written = 0;
  const sessions = Array.from({ length: LINES }, (_, id) => {
    const session = daemon.connect({
      id,
      address: '127.0.0.1',
      listener: '127.0.0.1:3333',
      listenerIndex: 0,
      closed: false,
      write: (text) => {
        written += text.length;
      },
      close: () => {},
      pause: () => {},
      resume: () => {},
    });
    say(session, { id: 1, method: 'mining.subscribe', params: ['bench/1'] });
    say(session, { id: 2, method: 'mining.authorize', params: [`bench.w${id}`, 'x'] });
    return session;
  });
  daemon.facts.flush();

  const ntime = job.ntime.toString(16).padStart(8, '0');
  let spentUs = 0;
  for (let turn = 0; turn < WARM_TURNS + TURNS; turn++) {
    const chunks = sessions.map((_, line) => {
      let text = '';
      for (let i = 0; i < WINDOW; i++) {
        const n = turn * WINDOW + i;
        const nonce = n.toString(16).padStart(8, '0');
        text += `{"id":${n},"method":"mining.submit","params":["bench.w${line}","${job.id}","0000000000000000","${ntime}","${nonce}"]}\n`;
      }
      return Buffer.from(text);
    });
    const before = process.cpuUsage();
    for (const [line, chunk] of chunks.entries()) {
      const session = sessions[line]!;
      for (let at = 0; at < chunk.length; ) {
        const next = bytes ? session.take(chunk, at, chunk.length) : -1;
        if (next >= 0) {
          at = next;
          continue;
        }
        const end = chunk.indexOf(0x0a, at);
        session.line(chunk.toString('utf8', at, end).trim());
        at = end + 1;
      }
    }
    daemon.facts.flush();
    const used = process.cpuUsage(before);
    if (turn >= WARM_TURNS) spentUs += used.user + used.system;
  }
  const shares = LINES * WINDOW * (WARM_TURNS + TURNS);
  if (daemon.counters.accepted !== shares || written === 0)
    throw new Error(`accepted ${daemon.counters.accepted} of ${shares}`);
  await daemon.close();
  writer.close();
  rmSync(dir, { recursive: true, force: true });
  return spentUs / (LINES * WINDOW * TURNS);
}

console.log('microseconds of CPU a share     no share log   share log');
for (const branches of [0, 12]) {
  for (const bytes of [true, false]) {
    const without = await least({ bytes, branches, logShares: false });
    const withLog = await least({ bytes, branches, logShares: true });
    const what = `${branches} merkle steps, ${bytes ? 'from bytes' : 'through JSON'}`;
    console.log(`${what.padEnd(32)}${without.toFixed(2).padStart(12)}${withLog.toFixed(2).padStart(12)}`);
  }
}

const SHARES = 1_000_000;
const words = new Uint32Array(randomBytes(SHARES * 12).buffer.slice(0, SHARES * 12));
let addedUs = Infinity;
let grownMs = Infinity;
let bytesEach = 0;
for (let round = 0; round < ROUNDS; round++) {
  const seen = new Duplicates();
  let longestMs = 0;
  const start = process.cpuUsage();
  for (let i = 0; i < SHARES; i++) {
    const held = seen.bytes;
    const before = performance.now();
    seen.add(words, i * 3);
    if (seen.bytes !== held) longestMs = Math.max(longestMs, performance.now() - before);
  }
  const used = process.cpuUsage(start);
  addedUs = Math.min(addedUs, (used.user + used.system) / SHARES);
  grownMs = Math.min(grownMs, longestMs);
  bytesEach = seen.bytes / SHARES;
}
console.log(
  `duplicates: ${(addedUs * 1000).toFixed(0)} ns and ${bytesEach.toFixed(1)} bytes a share, growing took ${grownMs.toFixed(2)} ms at most, ` +
    `${SHARES} shares on one job`,
);
