/**
 * `npm start`: a toy chain, CPU miners, the pool, the consumers, the SQL endpoint and the dashboard in one process tree, from nothing.
 * Everything lies under the data directory; started again, it continues.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { applyEdits, modify } from 'jsonc-parser';
import { type Config, type HostPort, hostPortText, loadConfig, parseHostPort } from '../core/config.ts';
import { openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { configFrom, type Parsed, PLAYGROUND_FLAGS } from './flags.ts';
import { livePanel } from './panel.ts';
import { type ChildSpec, supervise } from './supervisor.ts';
import { childFlags, holdDataDir, programChildren, shortWelcome, welcome } from './tree.ts';

const DEFAULT_RPC = '127.0.0.1:29443';
const DEFAULT_ZMQ = '127.0.0.1:29444';
const RPC_USER = 'playground';
const RPC_PASS = 'playground';
/** Names of the built-in miners; each is a connection of its own, as two rigs would be. */
const MINERS = ['alice.cpu1', 'bob.cpu1'];

/**
 * The playground's `ckpool.conf`: written once, so that its reader may change it; addresses that the command line gives are not in it.
 */
function writeConfig(path: string, payTo: string, rpc: string, zmq: string, logDir: string): void {
  const text = `${JSON.stringify(
    {
      btcd: [{ url: rpc, auth: RPC_USER, pass: RPC_PASS, notify: false }],
      btcaddress: payTo,
      btcsig: '/playground/',
      blockpoll: 500,
      update_interval: 10,
      mindiff: 1e-7,
      startdiff: 2e-6,
      zmqblock: `tcp://${zmq}`,
      logdir: logDir,
      lodestream: { chain: 'playground', origin: 'playground' },
    },
    null,
    2,
  )}\nThe playground's configuration: change it and start again. Comments from here on are ignored.\n`;
  writeFileSync(path, text, { mode: 0o640 });
}

/** Puts the node's addresses that the command line gives into a configuration that is there; the rest of the text stays as it is. */
function moveNode(path: string, rpc: string | null, zmq: string | null): void {
  const before = readFileSync(path, 'utf8');
  let text = before;
  if (rpc !== null) text = applyEdits(text, modify(text, ['btcd', 0, 'url'], rpc, {}));
  if (zmq !== null) text = applyEdits(text, modify(text, ['zmqblock'], `tcp://${zmq}`, {}));
  if (text !== before) writeFileSync(path, text, { mode: 0o640 });
}

/** The address that the toy chain's blocks pay: its coins become the chain's own transactions, so that blocks carry fees. */
async function playgroundAddress(): Promise<string> {
  const [{ loadChain }, playground] = await Promise.all([
    import('../core/chains/profile.ts'),
    import('../playground/main.ts'),
  ]);
  return playground.playgroundAddress(loadChain('playground'));
}

/** An address that a flag gives. @throws PoolError usage naming the flag */
function addressOf(flag: string, text: string): HostPort {
  try {
    return parseHostPort(text, null);
  } catch (error) {
    throw new PoolError('usage', `--${flag} is ${text}, expected ${(error as Error).message}`, { cause: error });
  }
}

/** Runs the playground until it is stopped. */
export async function startPlayground(parsed: Parsed, life: Lifecycle): Promise<void> {
  const given = (name: string): string | null => {
    const value = parsed.values[name];
    return typeof value === 'string' ? value : null;
  };
  const text = (name: string, fallback: string): string => given(name) ?? fallback;
  const stratum = text('stratum', process.env.LODESTREAM_STRATUM ?? '127.0.0.1:3333');
  const minerShare = Number(text('miner-share', '30'));
  if (!(minerShare >= 0 && minerShare <= 100)) {
    throw new PoolError('usage', `--miner-share is ${given('miner-share')}, expected a percentage from 0 to 100`);
  }
  for (const flag of ['node-rpc', 'node-zmq']) addressOf(flag, text(flag, DEFAULT_RPC));

  const dataDir = loadConfig({
    options: typeof parsed.values['data-dir'] === 'string' ? { 'lodestream.data_dir': parsed.values['data-dir'] } : {},
  }).dataDir;
  const paths = holdDataDir(dataDir, life);
  mkdirSync(paths.playground, { recursive: true });
  const file = given('config') ?? join(paths.playground, 'ckpool.conf');
  if (!existsSync(file)) {
    const [rpc, zmq] = [text('node-rpc', DEFAULT_RPC), text('node-zmq', DEFAULT_ZMQ)];
    writeConfig(file, await playgroundAddress(), rpc, zmq, join(dataDir, 'logs'));
  } else if (given('config') === null) moveNode(file, given('node-rpc'), given('node-zmq'));
  const config = configFrom({ ...parsed, values: { ...parsed.values, config: file, stratum } }, 'pool');
  // The toy chain listens where the pool will ask.
  const rpc = given('node-rpc') ?? config.nodes[0]?.url ?? DEFAULT_RPC;
  const zmq = given('node-zmq') ?? config.zmqBlock?.replace(/^tcp:\/\//, '') ?? DEFAULT_ZMQ;

  const values = { ...parsed.values, config: file, 'data-dir': dataDir, stratum };
  const flags = childFlags(values, Object.keys(PLAYGROUND_FLAGS));
  const children: ChildSpec[] = [
    { name: 'toy-chain', args: ['_toy-chain', '--data-dir', dataDir, '--node-rpc', rpc, '--node-zmq', zmq] },
    ...programChildren(config, flags).map((child) =>
      child.name === 'clickhouse' ? child : { ...child, after: [...(child.after ?? []), 'toy-chain'] },
    ),
    ...(minerShare > 0
      ? [
          {
            name: 'miner',
            args: ['_cpu-miner', '--stratum', hostPortText(config.listen[0]!), '--miner-share', String(minerShare)],
            after: ['pool'],
          },
        ]
      : []),
  ];
  const panel = livePanel(paths.status, life, [shortWelcome(config)]);
  const supervisor = supervise(children, life, panel.line, paths.status);
  supervisor.up.then(async () => {
    const ask = `curl --user ${RPC_USER}:${RPC_PASS} -d '{"method":"getblockchaininfo"}' http://${rpc}/`;
    panel.line(
      welcome(config, [
        ['a miner', `minerd -a sha256d -o stratum+tcp://${hostPortText(config.listen[0]!)} -u you.rig1 -p x`],
        ['toy chain', `${ask}   ZMQ tcp://${zmq}`],
      ]),
    );
    panel.start();
    await openSampleContract(config, life, panel.line);
  });
}

/** Opens the sample contract once the chain is followed, so that a payout appears within minutes. */
async function openSampleContract(config: Config, life: Lifecycle, print: (line: string) => void): Promise<void> {
  const { openContract } = await import('./contracts.ts');
  const terms = {
    id: 'sample',
    customer: 'a customer of the playground',
    payout_address: await playgroundAddress(),
    hashrate: '20kH/s',
    skip_payouts: 1,
  };
  let said = '';
  while (!life.signal.aborted) {
    try {
      const outcome = await openContract(config, terms);
      if (outcome === 'opened') print('contract sample: 20 kH/s, the first payout skipped');
      return;
    } catch (error) {
      const line = errorLine(error);
      if (line !== said) life.log(`the sample contract waits: ${line}`);
      said = line;
      await delay(1_000, undefined, { signal: life.signal }).catch(() => {});
    }
  }
}

/** The toy chain as a program of its own. */
export async function runToyChain(parsed: Parsed, life: Lifecycle): Promise<void> {
  const { startToyChain } = await import('../playground/main.ts');
  const rpc = addressOf('node-rpc', String(parsed.values['node-rpc']));
  const zmq = addressOf('node-zmq', String(parsed.values['node-zmq']));
  const dir = openDataDir(String(parsed.values['data-dir'])).playground;
  const chain = await startToyChain({
    dir,
    host: rpc.host,
    rpcPort: rpc.port,
    zmqPort: zmq.port,
    user: RPC_USER,
    pass: RPC_PASS,
    log: life.log,
    onStop: () => life.stop(),
  });
  life.onStop('toy chain', () => chain.close());
}

/** The CPU miners as a program of their own. */
export async function runCpuMiners(parsed: Parsed, life: Lifecycle): Promise<void> {
  const { startCpuMiner } = await import('../playground/main.ts');
  const { host, port } = parseHostPort(String(parsed.values.stratum), null);
  const dutyCycle = Number(parsed.values['miner-share']) / 100 / MINERS.length;
  for (const name of MINERS) {
    const miner = startCpuMiner({ host, port, user: name, pass: 'x', dutyCycle, name, log: life.log });
    life.onStop(name, () => miner.close());
  }
}
