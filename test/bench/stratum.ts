/**
 * The stratum daemon under load, beside another pool in the same run: the measures of README.md, as a table or as JSON.
 *
 *     npm run bench:stratum -- [--row NAME]… [--seconds S] [--json] [--peer COMMAND | --peer-host H --peer-port P …]
 *
 * For each row: a node of templates (helpers/template-node.ts) → the daemon as users start it (./lodestream pool -c …) → the load generator
 * (stratum-load/, C); then the same against the peer. CPU and memory are those of the server's whole process tree.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { freePorts, type Leashed, startLeashed, tempDir, until } from '../helpers/leash.ts';
import { cpuSeconds, memoryUse, processTree } from '../helpers/processes.ts';
import { NODE_ADDRESS, startTemplateNode, type TemplateNode } from '../helpers/template-node.ts';
import { best, printMachine, printResults, type Result, resultOf, type Shown, type Values } from './table.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LOAD_DIR = fileURLToPath(new URL('stratum-load', import.meta.url));
const TLS_LINES = fileURLToPath(new URL('tls-lines.ts', import.meta.url));
const TLS_FIXTURES = fileURLToPath(new URL('../fixtures/tls', import.meta.url));
const LOAD = join(LOAD_DIR, 'stratum-load');
/** Every hash is a share. */
const SHARE_DIFF = 1e-10;
/** Where there is no peer, what shall be reached may be missed by this much: machines differ. */
const SLACK = 1.3;

// --- what is measured --------------------------------------------------------------------------------------------------------

interface Measure extends Shown {
  /** What CKPool 1.0 gave where the figures to reach were set; the ratio of the two is what counts beside a peer. */
  readonly ckpool?: number;
  /** The figure to reach holds as it is, beside a peer and without one. */
  readonly absolute?: true;
}

interface Settings {
  readonly logShares?: boolean;
  readonly transactions?: number;
  readonly updateIntervalS?: number;
  /** A second listener, over TLS; only ours. */
  readonly tls?: boolean;
}

interface Row {
  readonly title: string;
  readonly settings: Settings;
  readonly measures: Readonly<Record<string, Measure>>;
  run(target: Target, seconds: number): Promise<Values>;
}

function sharesRow(
  title: string,
  settings: Settings,
  args: readonly string[],
  measures: Readonly<Record<string, Measure>>,
): Row {
  return {
    title,
    settings,
    measures: {
      ...measures,
      wrong: { what: 'honest shares wrongly refused', unit: '', digits: 0, reach: 0, absolute: true },
    },
    run: async (target, seconds) => {
      const shares = await load(target, [
        ...['--mode', 'shares', '--connections', '100', '--window', '16'],
        ...['--duration', String(seconds), '--warmup', String(Math.min(2, seconds / 2))],
        ...args,
      ]);
      return sharesValues(shares[0]!);
    },
  };
}

function sharesValues(shares: Values): Values {
  return {
    cpu: shares.server_cpu_s_per_100k!,
    rate: shares.accepted_per_s!,
    p50: shares.p50_us!,
    p99: shares.p99_us!,
    p999: shares.p999_us!,
    wrong: shares.wrong_rejected!,
  };
}

const CPU = 'CPU s per 100k shares';
const saturated = (cpu: [number, number | undefined], rate: [number, number | undefined]): Row['measures'] => ({
  cpu: { what: CPU, unit: 's', reach: cpu[0], ...(cpu[1] === undefined ? {} : { ckpool: cpu[1] }) },
  rate: {
    what: 'accepted shares/s',
    unit: '/s',
    digits: 0,
    reach: rate[0],
    atLeast: true,
    ...(rate[1] === undefined ? {} : { ckpool: rate[1] }),
  },
});
const LATENCY: Row['measures'] = {
  p50: { what: 'latency p50', unit: 'us', digits: 0, reach: 200, ckpool: 252 },
  p99: { what: 'latency p99', unit: 'us', digits: 0, reach: 400, ckpool: 400 },
  p999: { what: 'latency p99.9', unit: 'us', digits: 0, reach: 3_000, ckpool: 3_072 },
};
const paced = (cpu: number, ckpool: number): Row['measures'] => ({
  cpu: { what: CPU, unit: 's', reach: cpu, ckpool },
  ...LATENCY,
});
const PACED = ['--rate', '2000'];
const BIG: Settings = { transactions: 4_000, updateIntervalS: 5 };
const REFUSED = ['--invalid', '1', '--invalid-kind', 'job'];
const refused = (ckpool: number): Row['measures'] => ({
  cpu: { what: 'CPU s per 100k refused', unit: 's', reach: ckpool, ckpool },
});

function notifyRow(connections: number, ckpoolMs: number): Row {
  return {
    title: `new block, the last of ${connections} miners told`,
    settings: {},
    measures: {
      last: { what: 'last told after the command, median', unit: 'ms', digits: 1, reach: ckpoolMs, ckpool: ckpoolMs },
      lastWorst: { what: 'last told after the command, worst', unit: 'ms', digits: 1 },
      first: { what: 'first told after the command, median', unit: 'ms', digits: 1 },
      cpu: { what: 'CPU per block', unit: 'ms', digits: 0 },
    },
    run: async (target, seconds) => {
      const rounds = await load(target, [
        ...['--mode', 'notify', '--connections', String(connections), '--trigger', target.trigger],
        ...['--rounds', String(Math.max(2, Math.round(seconds))), '--hold', '0.7'],
      ]);
      const missed = rounds.filter((round) => round.reached !== connections);
      if (missed.length > 0) throw new Error(`only ${missed[0]!.reached} of ${connections} were told of a block`);
      return {
        last: median(rounds.map((round) => round.last_after_return_ms!)),
        lastWorst: Math.max(...rounds.map((round) => round.last_after_return_ms!)),
        first: median(rounds.map((round) => round.first_after_return_ms!)),
        cpu: (rounds.reduce((sum, round) => sum + round.server_cpu_s!, 0) / rounds.length) * 1_000,
      };
    },
  };
}

const ROWS: Readonly<Record<string, Row>> = {
  saturated: sharesRow('saturated, 100 connections', {}, [], saturated([1.5, 3.5], [60_000, 46_500])),
  'saturated-log': sharesRow('the same, --log-shares', { logShares: true }, [], saturated([2, 6.4], [45_000, 24_600])),
  'saturated-12': sharesRow(
    'saturated, job of 12 merkle branches',
    BIG,
    [],
    saturated([2.2, undefined], [42_000, undefined]),
  ),
  'saturated-12-log': sharesRow(
    'the same, --log-shares',
    { ...BIG, logShares: true },
    [],
    saturated([2.7, undefined], [33_000, undefined]),
  ),
  paced: sharesRow('2,000 shares/s, 100 connections', {}, PACED, paced(6, 12.6)),
  'paced-log': sharesRow('the same, --log-shares', { logShares: true }, PACED, paced(7, 14.6)),
  'paced-templates': sharesRow('the same, 4,000 transactions every 5 s', BIG, PACED, LATENCY),
  refused: sharesRow('only refused shares, unknown job', {}, REFUSED, refused(2.5)),
  'refused-log': sharesRow('the same, --log-shares', { logShares: true }, REFUSED, refused(7.1)),
  connect: {
    title: '10,000 connections subscribed and authorised',
    settings: {},
    measures: {
      ready: { what: 'until all are ready', unit: 's', reach: 2.6, ckpool: 2.6 },
      cpu: { what: 'CPU for it', unit: 's', reach: 2.5, ckpool: 3.6 },
      perConnection: { what: 'memory per connection', unit: 'kB', digits: 1, reach: 8, absolute: true },
      heldCpu: { what: 'CPU while held, per s', unit: 'ms', digits: 0 },
      idle: { what: 'idle, the largest process', unit: 'MB', digits: 0, reach: 120, absolute: true },
      idlePss: { what: 'idle, all processes, shared pages once', unit: 'MB', digits: 0 },
    },
    run: async (target) => {
      const connections = 10_000;
      const hold = 6;
      await target.collect();
      const idle = memoryUse(target.pids());
      const idleEach = target.pids().map((pid) => memoryUse([pid]).rssBytes);
      // Memory is compared after a collection while all are connected: that is done by us, beside the generator.
      const running = load(target, ['--mode', 'connect', '--connections', String(connections), '--hold', String(hold)]);
      const held = until(
        'all connections',
        async () => {
          const use = cpuSeconds(target.pids());
          await pause(500);
          return connectionsOf(target.port) >= connections && cpuSeconds(target.pids()) - use < 0.1;
        },
        { withinMs: 60_000 },
      ).then(async () => {
        await target.collect();
        return memoryUse(target.pids());
      });
      const [result] = await running;
      const after = await held;
      return {
        ready: result!.seconds!,
        cpu: result!.server_cpu_s!,
        perConnection: (after.rssBytes - idle.rssBytes) / connections / 1_000,
        heldCpu: (result!.hold_cpu_s! / hold) * 1_000,
        idle: Math.max(...idleEach) / 1e6,
        idlePss: idle.pssBytes / 1e6,
      };
    },
  },
  'connect-tls': {
    title: '2,000 connections over TLS, subscribed and authorised (ours alone)',
    settings: { tls: true },
    measures: {
      cpu: { what: 'CPU per connection', unit: 'ms' },
      perConnection: { what: 'memory per connection', unit: 'kB', digits: 1, reach: 60, absolute: true },
    },
    run: async (target) => {
      const connections = 2_000;
      await target.collect();
      const idle = memoryUse(target.pids()).rssBytes;
      const cpu = cpuSeconds(target.pids());
      const client = spawn(process.execPath, [TLS_LINES, String(target.tlsPort), String(connections)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await new Promise((resolve, reject) => {
        client.stdout.once('data', resolve);
        client.once('close', () => reject(new Error('the client ended before its connections were ready')));
      });
      const used = cpuSeconds(target.pids()) - cpu;
      await pause(500);
      await target.collect();
      const held = memoryUse(target.pids()).rssBytes;
      client.stdin.end();
      return { cpu: (used / connections) * 1_000, perConnection: (held - idle) / connections / 1_000 };
    },
  },
  'notify-1000': notifyRow(1_000, 17.5),
  notify: notifyRow(10_000, 144),
  duplicates: {
    title: 'memory of accepted shares, for duplicates',
    settings: { updateIntervalS: 600 },
    measures: {
      steady: { what: 'growth per share, at the end', unit: 'B', digits: 0, reach: 40, absolute: true },
      growing: { what: 'growth per share, highest', unit: 'B', digits: 0, reach: 80, absolute: true },
      shares: { what: 'shares', unit: '', digits: 0 },
    },
    run: async (target, seconds) => {
      const rounds = 6;
      const args = ['--mode', 'shares', '--connections', '100', '--window', '16'];
      const each = ['--duration', String(Math.max(0.5, seconds / 4)), '--warmup', '0'];
      // What is needed once (code compiled, buffers grown) is no growth.
      await load(target, [...args, ...each]);
      await target.collect();
      const before = memoryUse(target.pids()).rssBytes;
      let shares = 0;
      const growth: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const [result] = await load(target, [...args, ...each]);
        shares += result!.accepted!;
        await target.collect();
        growth.push((memoryUse(target.pids()).rssBytes - before) / shares);
      }
      // The first rounds are few shares against what else may move.
      return { steady: growth.at(-1)!, growing: Math.max(...growth.slice(2)), shares };
    },
  },
  blocks: {
    title: '10,000 connections, 2,000 shares/s, 20 new blocks',
    settings: {},
    measures: {
      wrong: { what: 'honest shares wrongly refused', unit: '', digits: 0, reach: 0, absolute: true },
      stale: { what: 'refused as stale, rightly', unit: '', digits: 0 },
      accepted: { what: 'accepted', unit: '', digits: 0, atLeast: true },
      p50: { what: 'latency p50', unit: 'us', digits: 0 },
      p99: { what: 'latency p99', unit: 'us', digits: 0 },
      p999: { what: 'latency p99.9', unit: 'us', digits: 0 },
      cpu: { what: CPU, unit: 's' },
      growth: {
        what: 'memory held after collection, after against before',
        unit: 'MB',
        digits: 1,
        reach: 10,
        absolute: true,
      },
      resident: { what: 'resident memory, after against before', unit: 'MB', digits: 1 },
      closed: { what: 'connections closed', unit: '', digits: 0, reach: 0, absolute: true },
    },
    run: async (target) => {
      const blocks = 20;
      const warmupS = 10;
      // Collections would be felt in the latency: one before the measured time, one while the lines linger after it.
      const running = load(target, [
        ...['--mode', 'shares', '--connections', '10000', '--window', '16', '--rate', '2000'],
        ...['--duration', String(blocks + 3), '--warmup', String(warmupS), '--linger', '8'],
      ]);
      const during = (async () => {
        await until('all connections', () => connectionsOf(target.port) >= 10_000, { withinMs: 60_000, everyMs: 200 });
        const allMs = performance.now();
        // Each line has had its first share by then.
        await pause(6_500);
        const before = { held: await target.collect(), resident: memoryUse(target.pids()).rssBytes };
        await pause(allMs + (warmupS + 1) * 1_000 - performance.now());
        const beginMs = performance.now();
        for (let block = 0; block < blocks; block++) {
          await fetch(target.trigger);
          await pause(beginMs + (block + 1) * 1_000 - performance.now());
        }
        await pause(3_500);
        const held = await target.collect();
        const residentBytes = memoryUse(target.pids()).rssBytes - before.resident;
        // Of another program it is not known what it holds beside what lies in memory.
        const heldBytes = held === null ? residentBytes : held - before.held!;
        return { growth: heldBytes / 1e6, resident: residentBytes / 1e6 };
      })();
      const [result] = await running;
      return {
        ...sharesValues(result!),
        stale: result!.rejected! - result!.wrong_rejected!,
        accepted: result!.accepted!,
        ...(await during),
        closed: result!.disconnects!,
      };
    },
  },
};

// --- servers -----------------------------------------------------------------------------------------------------------------

interface Target {
  readonly host: string;
  readonly port: number;
  /** 0 where there is none. */
  readonly tlsPort: number;
  /** URL or shell command that makes a new block. */
  readonly trigger: string;
  /** The whole process tree; empty where it is not known. */
  pids(): number[];
  /** Collects garbage where there is any. */
  /** @returns the bytes that it holds then; null where it is not ours */
  collect(): Promise<number | null>;
  stop(): Promise<void>;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Established connections that a port of the loopback has accepted. */
function connectionsOf(port: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  let count = 0;
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const [, address, , state] = line.trim().split(/\s+/);
    if (address === local && state === '01') count += 1;
  }
  return count;
}

function configOf(node: TemplateNode, port: number, tlsPort: number, dir: string, settings: Settings): string {
  return JSON.stringify(
    {
      btcd: [{ url: node.address, auth: 'user', pass: 'pass', notify: false }],
      btcaddress: NODE_ADDRESS,
      btcsig: '/bench/',
      blockpoll: 100,
      update_interval: settings.updateIntervalS ?? 30,
      serverurl: [`127.0.0.1:${port}`],
      mindiff: SHARE_DIFF,
      startdiff: SHARE_DIFF,
      maxdiff: SHARE_DIFF,
      // What a port above 4000 gets.
      highdiff: SHARE_DIFF,
      zmqblock: node.zmq,
      logdir: join(dir, 'logs'),
      lodestream: {
        chain: 'bitcoin',
        data_dir: join(dir, 'data'),
        // What is held for a full disk is written once in the life of a data directory, beside the first seconds of load.
        disk_reserve_bytes: 0,
        ...(settings.tls === true
          ? {
              listen: [
                `127.0.0.1:${port}`,
                {
                  address: `127.0.0.1:${tlsPort}`,
                  tls: { cert: join(TLS_FIXTURES, 'one.cert.pem'), key: join(TLS_FIXTURES, 'one.key.pem') },
                },
              ],
            }
          : {}),
      },
    },
    null,
    2,
  );
}

/** Speaks to the server until it gives work, at the difficulty that the generator needs. */
async function working(host: string, port: number, program: Leashed | null): Promise<void> {
  const given = await until(
    () => `work from ${host}:${port}${program === null ? '' : `; it wrote:\n${program.output()}`}`,
    () => (program?.running === false ? 'ended' : firstWork(host, port)),
    { withinMs: 30_000, everyMs: 200 },
  );
  if (given === 'ended') throw new Error(`the server ended:\n${program!.output()}`);
  const diff = Number(/"params":\[([^\]]*)\][^\n]*mining\.set_difficulty/.exec(given)?.[1]);
  if (!(diff <= 1e-9))
    throw new Error(`the server asks for difficulty ${diff}: with ${SHARE_DIFF} every hash is a share`);
}

/** What a server says until it has given a job; null where it gives none. */
function firstWork(host: string, port: number): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let text = '';
    socket.setTimeout(2_000, () => socket.destroy());
    socket.on('error', reject);
    socket.on('close', () => resolve(null));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const lines = text.split('\n').slice(0, -1);
      if (!['"mining.set_difficulty"', '"mining.notify"}'].every((mark) => lines.some((line) => line.includes(mark))))
        return;
      resolve(text);
      socket.destroy();
    });
    socket.write('{"id":1,"method":"mining.subscribe","params":["bench"]}\n');
    socket.write('{"id":2,"method":"mining.authorize","params":["bench.probe","x"]}\n');
  });
}

/** Our daemon, or the peer where `command` is given, with a node of its own. */
async function startTarget(settings: Settings, command: string | null): Promise<Target> {
  const dir = tempDir('bench');
  const node = await startTemplateNode({ transactions: settings.transactions ?? 0 });
  const [port, tlsPort] = await freePorts(2);
  const conf = join(dir.path, 'ckpool.conf');
  writeFileSync(conf, configOf(node, port!, tlsPort!, dir.path, settings));
  const collected = join(dir.path, 'collected');
  mkdirSync(collected);
  mkdirSync(join(dir.path, 'logs'));
  const hook = new URL('../helpers/collect.ts', import.meta.url).href;
  const program =
    command === null
      ? await startLeashed(
          join(ROOT, 'lodestream'),
          ['pool', '-c', conf, '-s', join(dir.path, 'sock'), ...(settings.logShares === true ? ['--log-shares'] : [])],
          {
            cwd: dir.path,
            env: {
              ...process.env,
              NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${hook}`.trim(),
              COLLECT_DIR: collected,
            },
          },
        )
      : await startLeashed('/bin/sh', [
          '-c',
          `exec ${command
            .replaceAll('{conf}', conf)
            .replaceAll('{dir}', dir.path)
            .replaceAll('{log}', settings.logShares === true ? '-L' : '')}`,
        ]);
  const stop = async (): Promise<void> => {
    await program.stop({ graceMs: 5_000 });
    await node.close();
    dir.remove();
  };
  try {
    await working('127.0.0.1', port!, program);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    host: '127.0.0.1',
    port: port!,
    tlsPort: settings.tls === true ? tlsPort! : 0,
    trigger: node.trigger,
    pids: () => processTree(program.pid),
    collect: async () => {
      if (command !== null) return null;
      let held = 0;
      for (const pid of processTree(program.pid)) {
        const file = join(collected, String(pid));
        const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
        if (before === '' && !isNode(pid)) continue;
        process.kill(pid, 'SIGUSR2');
        const done = await until(`a collection in process ${pid}`, () => {
          const now = existsSync(file) ? readFileSync(file, 'utf8') : '';
          return now === before || now === '' ? null : now;
        });
        held += Number(done.split(' ')[1]);
      }
      return held;
    },
    stop,
  };
}

/** By what it runs: a pool's processes bear names of their own. */
function isNode(pid: number): boolean {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`)) === 'node';
  } catch {
    return false;
  }
}

/** A pool that runs already. */
function runningPeer(host: string, port: number, pid: number, trigger: string): Target {
  return {
    host,
    port,
    tlsPort: 0,
    trigger,
    pids: () => (pid > 0 ? processTree(pid) : []),
    collect: async () => null,
    stop: async () => {},
  };
}

// --- the generator -----------------------------------------------------------------------------------------------------------

/** Builds the load generator where it is missing or older than its source. @throws Error saying what is needed */
function buildLoad(): void {
  const built = existsSync(LOAD) ? statSync(LOAD).mtimeMs : 0;
  if (built > statSync(`${LOAD}.c`).mtimeMs) return;
  try {
    execFileSync('make', ['-s', '-C', LOAD_DIR], { stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const why = String((error as { stderr?: Buffer }).stderr ?? (error as Error).message).trim();
    throw new Error(
      `the load generator cannot be built (make, cc and OpenSSL's headers are needed: build-essential, libssl-dev): ${why}`,
    );
  }
}

/** Runs the generator. @returns its JSON lines */
async function load(target: Target, args: readonly string[]): Promise<Values[]> {
  const pids = target.pids();
  const child = spawn(
    LOAD,
    [
      ...['--json', '--host', target.host, '--port', String(target.port)],
      ...(pids.length === 0 ? [] : ['--pid', pids.join(',')]),
      ...args,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(err.trim() || `the load generator ended with ${code}`);
  return out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Values);
}

// --- the table ---------------------------------------------------------------------------------------------------------------

function resultsOf(name: string, row: Row, ours: Values, peer: Values | null): Result[] {
  return Object.entries(row.measures).map(([measure, of]) => {
    const value = ours[measure]!;
    const other = peer?.[measure] ?? null;
    let limit: number | null = null;
    if (of.reach !== undefined) {
      if (of.absolute === true) limit = of.reach;
      else if (other !== null && of.ckpool !== undefined) limit = (of.reach / of.ckpool) * other;
      else limit = of.atLeast === true ? of.reach / SLACK : of.reach * SLACK;
    }
    return resultOf(name, measure, of, value, other, limit);
  });
}

async function measured(row: Row, seconds: number, start: () => Promise<Target>): Promise<Values> {
  const target = await start();
  try {
    return await row.run(target, seconds);
  } finally {
    await target.stop();
  }
}

const HELP = `npm run bench:stratum -- [options]
  --row NAME        only this row, may be repeated: ${Object.keys(ROWS).join(', ')}
  --seconds S       of measuring, per row; default 8
  --rounds N        each row so often, ours and the peer in turn; the best of each measure counts; default 1
  --json            one JSON object per measure instead of a table
  --peer COMMAND    another pool, started for each row with the same configuration: {conf} is its ckpool.conf, {dir} a directory of its own,
                    {log} -L where share logs are on
  --peer-host H --peer-port P --peer-pid PID --peer-trigger COMMAND-OR-URL
                    another pool that runs already (its work must be like ours)
  Each option is also taken from the environment: BENCH_PEER, BENCH_PEER_HOST, …
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      row: { type: 'string', multiple: true },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      peer: { type: 'string' },
      'peer-host': { type: 'string' },
      'peer-port': { type: 'string' },
      'peer-pid': { type: 'string' },
      'peer-trigger': { type: 'string' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const { env } = process;
  const seconds = Number(values.seconds ?? env.BENCH_SECONDS ?? 8);
  const rounds = Number(values.rounds ?? env.BENCH_ROUNDS ?? 1);
  const names = values.row ?? Object.keys(ROWS);
  const unknown = names.find((name) => !Object.hasOwn(ROWS, name));
  if (unknown !== undefined || !(seconds > 0) || !(rounds >= 1)) {
    process.stderr.write(
      unknown === undefined ? '--seconds and --rounds want numbers above 0\n' : `no row ${unknown}\n${HELP}`,
    );
    return 2;
  }
  buildLoad();
  // As installed: what is compiled at the first start is there.
  execFileSync(join(ROOT, 'lodestream'), ['_warm']);
  const files = Number(/^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 0);
  const many = names.filter((name) => ['connect', 'notify', 'blocks'].includes(name));
  if (files < 12_500 && many.length > 0) {
    process.stderr.write(
      `${many.join(', ')}: 10,000 connections want an open-file limit of 12,500, this one is ${files}; raise it (ulimit -Hn 20000)\n`,
    );
    return 2;
  }
  const peerCommand = values.peer ?? env.BENCH_PEER ?? null;
  const peerPort = Number(values['peer-port'] ?? env.BENCH_PEER_PORT ?? 0);
  const startPeer =
    peerCommand !== null
      ? (row: Row) => startTarget(row.settings, peerCommand)
      : peerPort > 0
        ? async () =>
            runningPeer(
              values['peer-host'] ?? env.BENCH_PEER_HOST ?? '127.0.0.1',
              peerPort,
              Number(values['peer-pid'] ?? env.BENCH_PEER_PID ?? 0),
              values['peer-trigger'] ?? env.BENCH_PEER_TRIGGER ?? 'false',
            )
        : null;

  const json = values.json === true;
  if (!json) printMachine();
  let failed = false;
  for (const name of names) {
    const row = ROWS[name]!;
    const ourRounds: Values[] = [];
    const peerRounds: Values[] = [];
    for (let round = 0; round < rounds; round++) {
      ourRounds.push(await measured(row, seconds, () => startTarget(row.settings, null)));
      if (startPeer !== null && row.settings.tls !== true) {
        peerRounds.push(await measured(row, seconds, () => startPeer(row)));
      }
    }
    const peer = peerRounds.length === 0 ? null : best(row.measures, peerRounds);
    const results = resultsOf(name, row, best(row.measures, ourRounds), peer);
    failed ||= results.some(({ met }) => met === false);
    printResults(`${name}: ${row.title}`, row.measures, results, { peer: peer === null ? '' : 'peer', json });
  }
  return failed ? 1 : 0;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`bench:stratum: ${(error as Error).message}\n`);
  return 2;
});
