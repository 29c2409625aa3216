/**
 * `lodestream VERB`: picks the verb and starts it. Called through a link named ckpool, ckproxy, ckpmsg, notifier or rpcauth it behaves as that
 * program.
 */
import { basename } from 'node:path';
import { errorLine, PoolError } from '../core/errors.ts';
import { type Lifecycle, run } from '../core/lifecycle.ts';
import { nearestName } from '../core/names.ts';
import { TREE_DAEMON_FLAGS } from './ckpool-flags.ts';
import {
  COMMON,
  configFrom,
  type Flag,
  flagsHelp,
  modeOf,
  type Parsed,
  PLAYGROUND_FLAGS,
  parseFlags,
} from './flags.ts';
import { configHelpText, exampleConfigText, helpText, type Verb } from './help.ts';
import { type PlainProgram, PROGRAMS, startProgram } from './programs.ts';

const MODE_FLAGS: Readonly<Record<string, Flag>> = {
  proxy: { short: 'p', doc: 'proxy mode: the configuration is that of a proxy' },
};

type Flags = Readonly<Record<string, Flag>>;

interface Runnable extends Verb {
  /** Loaded with the verb, so that the stratum daemon does not carry what another verb needs. */
  readonly flags: Flags | (() => Promise<Flags>);
  readonly positionals?: boolean;
  run?(parsed: Parsed): Promise<void>;
  /** In place of `run`: reads its words itself, as CKPool's programs do. */
  runWords?(words: readonly string[], calledAs: string): Promise<void>;
}

/** A verb that runs until it is stopped. */
function program(
  usage: string,
  doc: string,
  name: string,
  extra: Readonly<Record<string, Flag>>,
  start: (parsed: Parsed, life: Lifecycle) => Promise<void>,
): Runnable {
  return { usage, doc, flags: { ...COMMON, ...extra }, run: (parsed) => run(name, (life) => start(parsed, life)) };
}

const single = (name: PlainProgram, doc: string): Runnable =>
  program(name, doc, name, MODE_FLAGS, (parsed, life) => startProgram(name, configFrom(parsed, modeOf(parsed)), life));

/** The stratum daemon: it reads CKPool's command line. */
const daemon = (preset: 'pool' | 'proxy', doc: string): Runnable => ({
  usage: preset,
  doc,
  flags: async () => (await import('./ckpool-flags.ts')).DAEMON_FLAGS,
  async runWords(words, calledAs) {
    const { daemonCommand } = await import('./daemon.ts');
    const asCkpool = calledAs === 'ckpool' || calledAs === 'ckproxy';
    await daemonCommand(words, { preset, asCkpool, help: () => verbHelp(VERBS[preset]!) });
  },
});

const VERBS: Readonly<Record<string, Runnable>> = {
  playground: program(
    'playground',
    'toy chain, CPU miners, pool, consumers, SQL and dashboard from nothing (npm start)',
    'playground',
    PLAYGROUND_FLAGS,
    async (parsed, life) => {
      const { startPlayground } = await import('./playground.ts');
      await startPlayground(parsed, life);
    },
  ),
  start: program(
    'start [--proxy] [--only A,B]',
    'all programs of a configuration (or these) in one process tree',
    'start',
    {
      ...TREE_DAEMON_FLAGS,
      ...MODE_FLAGS,
      only: { value: 'A,B', doc: `only these of ${PROGRAMS.join(', ')}` },
    },
    async (parsed, life) => {
      const { startTree } = await import('./tree.ts');
      await startTree(parsed, life);
    },
  ),
  pool: daemon('pool', 'the stratum daemon alone'),
  proxy: daemon('proxy', 'the stratum proxy alone: miners below, a pool above'),
  chain: single('chain', 'follows the node: blocks, reorganisations, fees'),
  relay: single('relay', 'ships the journal to Kafka'),
  consume: single('consume', 'reads the log, fills ClickHouse'),
  api: single('api', 'dashboard, JSON API, healthz, metrics'),
  clickhouse: single('clickhouse', 'the embedded ClickHouse alone'),
  ingest: {
    usage: 'ingest [--logdir DIR] [PATH…] [--follow]',
    doc: "CKPool's share logs, main logs and archives become events, once",
    flags: async () => ({ ...COMMON, ...(await import('./ingest.ts')).INGEST_FLAGS }),
    positionals: true,
    async run(parsed) {
      const { ingestCommand } = await import('./ingest.ts');
      await ingestCommand(parsed);
    },
  },
  archive: {
    usage: 'archive [--older-than AGE] [--delete]',
    doc: 'packs heights of share logs whose every line is in the log',
    flags: async () => ({ ...COMMON, ...(await import('./archive.ts')).ARCHIVE_FLAGS }),
    async run(parsed) {
      const { archiveCommand } = await import('./archive.ts');
      await archiveCommand(parsed);
    },
  },
  audit: {
    usage: 'audit [--from TIME] [--to TIME]',
    doc: 'checks the proof of work of every live share in the log; 0 only where all hold',
    flags: async () => ({ ...COMMON, ...(await import('./audit.ts')).AUDIT_FLAGS }),
    async run(parsed) {
      const { auditCommand } = await import('./audit.ts');
      await auditCommand(parsed);
    },
  },
  replay: {
    usage: 'replay [--from MONTH] [--into DATABASE | --verify | --dead-letters]',
    doc: 'rebuilds the tables of ClickHouse from the log (of shares from a month on alone), or compares them',
    flags: async () => ({ ...COMMON, ...MODE_FLAGS, ...(await import('./replay.ts')).REPLAY_FLAGS }),
    async run(parsed) {
      const { replayCommand } = await import('./replay.ts');
      await replayCommand(parsed);
    },
  },
  contracts: {
    usage: 'contracts open|list',
    doc: 'opens a mining contract; lists them',
    flags: async () => ({ ...COMMON, ...(await import('./contracts.ts')).CONTRACT_FLAGS }),
    positionals: true,
    async run(parsed) {
      const { contractsCommand } = await import('./contracts.ts');
      await contractsCommand(parsed);
    },
  },
  payouts: {
    usage: 'payouts list',
    doc: 'what the contracts are owed',
    flags: { ...COMMON, contract: { value: 'ID', doc: 'only this contract' } },
    positionals: true,
    async run(parsed) {
      const { payoutsCommand } = await import('./payouts.ts');
      await payoutsCommand(parsed);
    },
  },
  doctor: {
    usage: 'doctor [-c FILE] [--data-dir DIR] [--json]',
    doc: 'looks at configuration, nodes, Kafka, ClickHouse, disk and clock, and says what to mend; 1 where something is bad',
    flags: async () => ({ ...COMMON, ...(await import('./doctor.ts')).DOCTOR_FLAGS }),
    async run(parsed) {
      const { doctorCommand } = await import('./doctor.ts');
      await doctorCommand(parsed);
    },
  },
  ctl: {
    usage: 'ctl [COMMAND]',
    doc: 'commands for a running pool or proxy, as ckpmsg',
    flags: async () => (await import('./ckpmsg.ts')).CKPMSG_FLAGS,
    async runWords(words, calledAs) {
      const { CTL_COMMANDS, ckpmsgCommand } = await import('./ckpmsg.ts');
      const help = calledAs === 'ckpmsg' ? undefined : `${await verbHelp(VERBS.ctl!)}\n${CTL_COMMANDS}`;
      process.exitCode = await ckpmsgCommand(words, help);
    },
  },
  notifier: {
    usage: 'notifier',
    doc: "tells a pool of a new block: the node's blocknotify",
    flags: async () => (await import('./ckpmsg.ts')).NOTIFIER_FLAGS,
    async runWords(words) {
      const { notifierCommand } = await import('./ckpmsg.ts');
      process.exitCode = await notifierCommand(words);
    },
  },
  rpcauth: {
    usage: 'rpcauth USER [PASSWORD]',
    doc: "the node's rpcauth line for a user",
    flags: { help: COMMON.help! },
    positionals: true,
    async run(parsed) {
      const { rpcauthCommand } = await import('./rpcauth.ts');
      rpcauthCommand(parsed.positionals);
    },
  },
};

/** Verbs that only the process tree itself calls. */
const INNER: Readonly<Record<string, Runnable>> = {
  _group: {
    usage: '_group NAMES',
    doc: 'several programs in one process',
    flags: { ...COMMON, ...MODE_FLAGS },
    positionals: true,
    run: (parsed) =>
      run('pipeline', async (life) => {
        const config = configFrom(parsed, modeOf(parsed));
        for (const name of parsed.positionals.join(',').split(',')) {
          await startProgram(name as PlainProgram, config, {
            ...life,
            log: (line, level) => life.log(`${name}: ${line}`, level),
          });
        }
      }),
  },
  '_stratum-worker': {
    usage: '',
    doc: '',
    flags: {},
    run: () =>
      run('pool', async (life) => {
        const { startWorker } = await import('../stratum/worker.ts');
        await startWorker(life);
      }),
  },
  '_ingest-requests': {
    usage: '_ingest-requests',
    doc: 'does what ingest --hook left to do',
    flags: COMMON,
    async run(parsed) {
      const { requestsCommand } = await import('./ingest-hook.ts');
      await requestsCommand(parsed);
    },
  },
  _warm: {
    usage: '_warm',
    doc: "fills Node's compile cache with what daemons load (see the launcher)",
    flags: {},
    run: async () => {
      const { loadDaemons } = await import('./warm.ts');
      await loadDaemons();
    },
  },
  '_toy-chain': program('', '', 'toy-chain', PLAYGROUND_FLAGS, async (parsed, life) => {
    const { runToyChain } = await import('./playground.ts');
    await runToyChain(parsed, life);
  }),
  '_cpu-miner': program('', '', 'cpu-miner', PLAYGROUND_FLAGS, async (parsed, life) => {
    const { runCpuMiners } = await import('./playground.ts');
    await runCpuMiners(parsed, life);
  }),
};

const flagsOf = async ({ flags }: Runnable): Promise<Flags> => (typeof flags === 'function' ? flags() : flags);

async function verbHelp(verb: Runnable): Promise<string> {
  return `usage: lodestream ${verb.usage} [flags]\n${verb.doc}\n\n${flagsHelp(await flagsOf(verb))}\n`;
}

async function main(): Promise<void> {
  const calledAs = basename(process.env.LODESTREAM_ARGV0 ?? 'lodestream');
  const argv = process.argv.slice(2);
  const links: Readonly<Record<string, string>> = {
    ckpool: 'pool',
    ckproxy: 'proxy',
    ckpmsg: 'ctl',
    notifier: 'notifier',
    rpcauth: 'rpcauth',
  };
  const linked = links[calledAs];
  const name = linked ?? argv.shift();
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const texts: Readonly<Record<string, () => string>> = { config: configHelpText, example: exampleConfigText };
    const about = argv[0];
    const text =
      about === undefined || about === 'help'
        ? helpText(VERBS)
        : Object.hasOwn(VERBS, about)
          ? await verbHelp(VERBS[about]!)
          : texts[about]?.();
    if (text === undefined) {
      const near = nearestName(about!, [...Object.keys(VERBS), ...Object.keys(texts)]);
      throw new PoolError('usage', `help: no verb ${about}${near === null ? '' : `; did you mean ${near}?`}`);
    }
    process.stdout.write(text);
    process.exit(name === undefined ? 64 : 0);
  }
  const verb = [VERBS, INNER].find((verbs) => Object.hasOwn(verbs, name))?.[name];
  if (verb === undefined) {
    const near = nearestName(name, Object.keys(VERBS));
    throw new PoolError('usage', `unknown verb ${name}${near === null ? '' : `; did you mean ${near}?`}`);
  }
  if (verb.runWords !== undefined) {
    await verb.runWords(argv, calledAs);
    return;
  }
  const parsed = parseFlags(argv, await flagsOf(verb), verb.positionals === true);
  if (parsed.values.help === true) {
    process.stdout.write(await verbHelp(verb));
    return;
  }
  await verb.run?.(parsed);
}

try {
  await main();
} catch (error) {
  const verb = process.argv[2] ?? '';
  const usage = error instanceof PoolError && error.code === 'usage' && Object.hasOwn(VERBS, verb);
  const line = usage
    ? errorLine(error).replace('`./lodestream help`', `\`./lodestream help ${verb}\``)
    : errorLine(error);
  process.stderr.write(`lodestream: ${line}\n`);
  if (!(error instanceof PoolError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exit(error instanceof PoolError ? error.exit : 70);
}
